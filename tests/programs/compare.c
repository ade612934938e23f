/* SPDX-License-Identifier: Apache-2.0 */
/* The job and its views against the model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/states.h"
#include "tests/programs/timers.h"

void compare_cell(program *p, subtask *t, state_id state, size_t key, size_t name) {
    if (t->states[state] == NULL) return;
    MUST(states[state]->set_namespace(t, name_bytes(name)));
    states[state]->compare(p, t, &p->now->at[state][key][name]);
}

void compare_job(program *p) {
    for (size_t key = 0; key < KEYS; key++) {
        subtask *t = owner_of(p, key);
        MUST(kwr_backend_set_key(t->backend, key_bytes(p, key)));
        if (!t->has_key) t->key = key; /* without one before, it keeps the last it is given */
        for (size_t state = 0; state < STATES; state++)
            for (size_t name = 0; name < NAMES; name++)
                compare_cell(p, t, (state_id)state, key, name);
    }
    uint64_t entries = 0, want = 0;
    bool estimated = false;
    for (uint32_t i = 0; i < p->parallelism; i++) {
        subtask *t = &p->tasks[i];
        kwr_slice last;
        if (t->has_key)
            MUST(kwr_backend_set_key(t->backend, key_bytes(p, t->key)));
        else
            t->has_key = kwr_backend_key(t->backend, &last, NULL) == KWR_OK;
        for (size_t state = 0; state < STATES; state++)
            if (t->states[state] != NULL)
                MUST(states[state]->set_namespace(t, name_bytes(t->name[state])));
        timers_compare(p, t);
        kwr_backend_stats stats = { .struct_size = sizeof stats };
        kwr_backend_get_stats(t->backend, &stats);
        entries += stats.entries;
        estimated = estimated || stats.estimated;
    }
    for (size_t state = 0; state < STATES; state++)
        want += table_entries(p->now, (state_id)state);
    REQUIRE(estimated || entries == want + timers_entries(p) + p->now->piece_count);
    raw_compare(p);
}

/* ---- views ---- */

typedef struct look {
    program *p;
    const table *want;
    state_id state;
    uint32_t key_group;
    size_t entries, elements;
    uint64_t bytes;
    size_t key, name; /* of the last entry met */
    size_t nth;
    bool met[KEYS][NAMES];
} look;

static size_t find_key(const program *p, kwr_slice key) {
    size_t i = 0;
    while (i < KEYS && !slice_is(key, key_bytes(p, i)))
        i++;
    return i;
}
static size_t find_name(kwr_slice name) {
    size_t i = 0;
    while (i < NAMES && !slice_is(name, name_bytes(i)))
        i++;
    return i;
}

static kwr_status meet(void *ctx, const kwr_view_entry *entry) {
    look *l = (look *)ctx;
    program *p = l->p;
    const size_t key = find_key(p, entry->key), name = find_name(entry->name);
    REQUIRE(key < KEYS && name < NAMES);
    REQUIRE(entry->key_group == l->key_group && key_group_of(p, key) == l->key_group);
    if (l->met[key][name]) {
        /* The elements of one entry follow each other. */
        REQUIRE(l->key == key && l->name == name);
        l->nth++;
    } else {
        l->met[key][name] = true;
        l->entries++;
        l->nth = 0;
        l->bytes += entry->key.size + entry->name.size;
    }
    l->key = key;
    l->name = name;
    l->elements++;
    l->bytes += entry->subkey.size + entry->value.size;
    states[l->state]->meet(p, &l->want->at[l->state][key][name], entry, l->nth);
    return KWR_OK;
}

/* The sizes a view tells of a state add up to what is met in it. */
static void add_sizes(program *p, const kwr_view *view, size_t state, kwr_state_size *sum) {
    kwr_state_size size = { .struct_size = sizeof size };
    MUST(kwr_view_get_size(view, state, &size, NULL));
    sum->entries += size.entries;
    sum->elements += size.elements;
    sum->bytes += size.bytes;
}

static void compare_state(program *p, const frozen *f, state_id id) {
    look l = { .p = p, .want = f->want, .state = id };
    kwr_state_size sum = { .struct_size = sizeof sum };
    for (uint32_t i = 0; i < f->count; i++) {
        const kwr_view *view = f->views[i];
        const kwr_key_group_range owned = kwr_view_key_groups(view);
        size_t state;
        MUST(kwr_view_find_state(view, states[id]->name, &state));
        for (l.key_group = owned.first; l.key_group < owned.first + owned.count; l.key_group++)
            MUST(kwr_view_entries(view, state, l.key_group, meet, &l, NULL));
        add_sizes(p, view, state, &sum);
    }
    size_t elements = 0, kept = 0;
    for (size_t key = 0; key < KEYS; key++)
        for (size_t name = 0; name < NAMES; name++) {
            const cell *want = &f->want->at[id][key][name];
            kept += want->count;
            elements += want->count > 0 ? want->count : want->present;
        }
    REQUIRE(l.entries == table_entries(f->want, id));
    REQUIRE(l.elements == elements);
    REQUIRE(sum.entries == l.entries && sum.elements == kept);
    REQUIRE(sum.bytes == l.bytes);
}

void compare_frozen(program *p, const frozen *f) {
    for (size_t state = 0; state < STATES; state++)
        if (p->tasks[0].states[state] != NULL) compare_state(p, f, (state_id)state);
    timers_compare_frozen(p, f);
}
