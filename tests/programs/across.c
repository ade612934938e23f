/* SPDX-License-Identifier: Apache-2.0 */
/* Walks across the keys of a state, and a change to each of them. */
#include <string.h>

#include "keyweir/across.h"
#include "tests/programs/states.h"

typedef struct walk {
    program *p;
    subtask *t;
    state_id state;
    bool pairs, change;
    bool met[KEYS][NAMES];
    size_t count;
} walk;

static kwr_status meet_key(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    walk *w = (walk *)ctx;
    program *p = w->p;
    size_t k = 0, n = 0;
    while (k < KEYS && !slice_is(key, key_bytes(p, k)))
        k++;
    while (n < NAMES && !slice_is(name, name_bytes(n)))
        n++;
    REQUIRE(k < KEYS && n < NAMES && key_group == key_group_of(p, k));
    REQUIRE(w->pairs || n == w->t->name[w->state]);
    REQUIRE(!w->met[k][n] && p->now->at[w->state][k][n].present);
    w->met[k][n] = true;
    w->count++;
    if (!w->change) return KWR_OK;
    kwr_slice current;
    MUST(kwr_backend_key(w->t->backend, &current, NULL));
    REQUIRE(slice_is(current, key));
    if (percent(p, 60)) states[w->state]->act(p, w->t, &p->now->at[w->state][k][n]);
    states[w->state]->compare(p, w->t, &p->now->at[w->state][k][n]);
    return KWR_OK;
}

static size_t entries_of(program *p, const subtask *t, state_id state, bool pairs) {
    size_t entries = 0;
    for (size_t key = 0; key < KEYS; key++)
        for (size_t name = 0; name < NAMES; name++)
            entries += p->now->at[state][key][name].present && owner_of(p, key) == t &&
                       (pairs || name == t->name[state]);
    return entries;
}

static void compare_sizes(program *p, subtask *t, state_id state) {
    kwr_state_size whole = { .struct_size = sizeof whole }, sum = { 0 };
    MUST(kwr_state_get_size(t->states[state], &whole));
    REQUIRE(whole.entries == entries_of(p, t, state, true));
    if (p->max_parallelism > 64) return;
    const kwr_key_group_range owned =
        kwr_key_groups_of(t->index, p->parallelism, p->max_parallelism);
    for (uint32_t g = owned.first; g < owned.first + owned.count; g++) {
        kwr_state_size size = { .struct_size = sizeof size };
        MUST(kwr_state_get_group_size(t->states[state], g, &size));
        sum.entries += size.entries;
        sum.elements += size.elements;
        sum.bytes += size.bytes;
    }
    REQUIRE(sum.entries == whole.entries && sum.elements == whole.elements &&
            sum.bytes == whole.bytes);
}

void do_across(program *p) {
    subtask *t = &p->tasks[below(p, p->parallelism)];
    const size_t dice = below(p, 10);
    walk w = { .p = p, .t = t, .state = (state_id)below(p, STATES) };
    if (t->states[w.state] == NULL) return;
    const size_t entries = entries_of(p, t, w.state, dice >= 3 && dice < 6);
    if (dice < 3) {
        p->doing = "keys";
        MUST(kwr_state_keys(t->states[w.state], meet_key, &w));
    } else if (dice < 6) {
        p->doing = "keys and namespaces";
        w.pairs = true;
        MUST(kwr_state_keys_and_namespaces(t->states[w.state], meet_key, &w));
    } else if (dice < 8) {
        w.change = true;
        MUST(kwr_state_apply(t->states[w.state], meet_key, &w));
        p->doing = "apply";
        kwr_slice key;
        EXPECT(t->has_key ? KWR_OK : KWR_NOT_FOUND, kwr_backend_key(t->backend, &key, NULL));
        if (t->has_key) REQUIRE(slice_is(key, key_bytes(p, t->key)));
    } else {
        p->doing = "sizes";
        compare_sizes(p, t, w.state);
        return;
    }
    REQUIRE(w.count == entries);
}
