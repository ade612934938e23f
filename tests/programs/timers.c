/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of both domains, and raw keyed state. */
#include "tests/programs/timers.h"

#include <stdlib.h>
#include <string.h>

#include "keyweir/raw.h"
#include "keyweir/timers.h"

/* ---- the order in which timers fire ---- */

static int compare_bytes(kwr_slice a, kwr_slice b) {
    const size_t common = a.size < b.size ? a.size : b.size;
    const int difference = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (difference != 0) return difference;
    return (a.size > b.size) - (a.size < b.size);
}

static int compare_timers(const program *p, const timer *a, const timer *b) {
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    const kwr_slice x = key_bytes(p, a->key), y = key_bytes(p, b->key);
    if (x.size != y.size) return x.size < y.size ? -1 : 1;
    const int difference = compare_bytes(x, y);
    return difference != 0 ? difference : compare_bytes(name_bytes(a->name), name_bytes(b->name));
}

/* Where the timer is, or belongs. */
static size_t position(const program *p, const timers *list, const timer *wanted, bool *there) {
    size_t i = 0;
    while (i < list->count && compare_timers(p, &list->items[i], wanted) < 0)
        i++;
    *there = i < list->count && compare_timers(p, &list->items[i], wanted) == 0;
    return i;
}

static void model_register(const program *p, timers *list, const timer *added) {
    bool there;
    const size_t i = position(p, list, added, &there);
    if (there) return;
    list->items = (timer *)need(realloc(list->items, (list->count + 1) * sizeof *list->items));
    memmove(list->items + i + 1, list->items + i, (list->count - i) * sizeof *list->items);
    list->items[i] = *added;
    list->count++;
}

static void model_remove(timers *list, size_t i) {
    list->count--;
    memmove(list->items + i, list->items + i + 1, (list->count - i) * sizeof *list->items);
}

/* The first timer of a subtask, `count` when it has none. */
static size_t model_first(program *p, const timers *list, const subtask *t) {
    size_t i = 0;
    while (i < list->count && owner_of(p, list->items[i].key) != t)
        i++;
    return i;
}

/* ---- operations ---- */

void timers_open(program *p, subtask *t) {
    const kwr_timers_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "t" };
    (void)lacks(p, kwr_timers_open(t->backend, &descriptor, &t->timers, NULL));
    t->timer_name = 0;
    const kwr_raw_descriptor raw = { .struct_size = sizeof raw, .name = "raw" };
    MUST(kwr_raw_open(t->backend, &raw, &t->raw, NULL));
}

static int64_t some_time(program *p) {
    const size_t dice = below(p, 40);
    if (dice == 0) return INT64_MAX;
    if (dice == 1) return INT64_MIN + 1;
    if (dice == 2) return -(int64_t)below(p, 1000);
    return dice < 20 ? 100 : (int64_t)below(p, 200);
}

static void is_timer(program *p, const kwr_timer *got, const timer *want) {
    REQUIRE(got->time_ms == want->time);
    REQUIRE(slice_is(got->key, key_bytes(p, want->key)));
    REQUIRE(slice_is(got->name, name_bytes(want->name)));
    REQUIRE(got->key_group == key_group_of(p, want->key));
}

static void register_one(program *p, subtask *t, kwr_time_domain domain, int64_t time) {
    const timer added = { time, (uint32_t)t->key, (uint32_t)t->timer_name };
    MUST(kwr_timers_register(t->timers, domain, time));
    model_register(p, &p->now->timers[domain], &added);
}

/* Everything due of one subtask; some of what fires registers more. */
static void pop_due(program *p, subtask *t, kwr_time_domain domain) {
    timers *list = &p->now->timers[domain];
    const int64_t up_to = some_time(p);
    kwr_timer got;
    for (size_t more = 12;;) {
        const size_t i = model_first(p, list, t);
        const bool due = i < list->count && list->items[i].time <= up_to;
        EXPECT(due ? KWR_OK : KWR_NOT_FOUND, kwr_timers_pop_due(t->timers, domain, up_to, &got));
        if (!due) return;
        is_timer(p, &got, &list->items[i]);
        t->key = list->items[i].key;
        t->has_key = true;
        model_remove(list, i);
        kwr_slice key;
        MUST(kwr_backend_key(t->backend, &key, NULL));
        REQUIRE(slice_is(key, key_bytes(p, t->key)));
        if (more > 0 && percent(p, 30)) {
            more--;
            register_one(p, t, domain, some_time(p));
        }
    }
}

static void delete_some(program *p, subtask *t, kwr_time_domain domain) {
    timers *list = &p->now->timers[domain];
    timer gone = { some_time(p), (uint32_t)t->key, (uint32_t)t->timer_name };
    for (size_t i = 0; i < list->count && percent(p, 90); i++)
        if (list->items[i].key == gone.key && list->items[i].name == gone.name)
            gone.time = list->items[i].time;
    MUST(kwr_timers_delete(t->timers, domain, gone.time));
    bool there;
    const size_t i = position(p, list, &gone, &there);
    if (there) model_remove(list, i);
}

void timers_act(program *p, subtask *t) {
    if (t->timers == NULL) return;
    const kwr_time_domain domain = percent(p, 50) ? KWR_EVENT_TIME : KWR_PROCESSING_TIME;
    if (percent(p, 40)) {
        t->timer_name = below(p, NAMES);
        MUST(kwr_timers_set_namespace(t->timers, name_bytes(t->timer_name)));
    }
    const size_t dice = below(p, 20);
    if (dice < 8) {
        p->doing = "timers register";
        register_one(p, t, domain, some_time(p));
    } else if (dice < 11) {
        p->doing = "timers register many";
        const int64_t first = some_time(p) / 2;
        for (size_t i = below(p, 60); i > 0; i--)
            register_one(p, t, domain, first + (int64_t)i);
    } else if (dice < 15) {
        p->doing = "timers delete";
        delete_some(p, t, domain);
    } else {
        p->doing = "timers pop";
        pop_due(p, t, domain);
    }
    timers_compare(p, t);
}

void timers_compare(program *p, subtask *t) {
    if (t->timers == NULL) return;
    for (int domain = 0; domain < DOMAINS; domain++) {
        const timers *list = &p->now->timers[domain];
        uint64_t want = 0, got;
        for (size_t i = 0; i < list->count; i++)
            want += owner_of(p, list->items[i].key) == t;
        MUST(kwr_timers_count(t->timers, (kwr_time_domain)domain, &got));
        REQUIRE(got == want);
        const size_t first = model_first(p, list, t);
        const bool any = first < list->count;
        int64_t time;
        MUST(kwr_timers_next_time(t->timers, (kwr_time_domain)domain, &time));
        REQUIRE(time == (any ? list->items[first].time : KWR_TIME_NONE));
        kwr_timer next;
        EXPECT(any ? KWR_OK : KWR_NOT_FOUND,
               kwr_timers_next(t->timers, (kwr_time_domain)domain, &next));
        if (any) is_timer(p, &next, &list->items[first]);
    }
}

/* Timers are one entry for each domain and key group. */
size_t timers_entries(const program *p) {
    size_t entries = 0;
    for (size_t domain = 0; domain < DOMAINS; domain++) {
        const timers *list = &p->now->timers[domain];
        for (size_t i = 0; i < list->count; i++) {
            size_t j = 0;
            while (key_group_of(p, list->items[j].key) != key_group_of(p, list->items[i].key))
                j++;
            entries += j == i; /* the first of its group */
        }
    }
    return entries;
}

/* ---- raw keyed state ---- */

static size_t find_piece(const table *t, uint32_t group, bool *there) {
    size_t i = 0;
    while (i < t->piece_count && t->pieces[i].group < group)
        i++;
    *there = i < t->piece_count && t->pieces[i].group == group;
    return i;
}

static void model_put_piece(table *t, uint32_t group, item value) {
    bool there;
    const size_t i = find_piece(t, group, &there);
    if (!there) {
        t->pieces = (piece *)need(realloc(t->pieces, (t->piece_count + 1) * sizeof *t->pieces));
        memmove(t->pieces + i + 1, t->pieces + i, (t->piece_count - i) * sizeof *t->pieces);
        t->piece_count++;
    }
    t->pieces[i] = (piece){ group, value };
}

void raw_act(program *p) {
    const uint32_t group = (uint32_t)below(p, p->max_parallelism);
    subtask *t = &p->tasks[kwr_key_group_owner(group, p->parallelism, p->max_parallelism)];
    bool there;
    const size_t i = find_piece(p->now, group, &there);
    if (percent(p, 60)) {
        p->doing = "raw put";
        const item value = some_item(p);
        MUST(kwr_raw_put(t->raw, group, item_bytes(p, value)));
        model_put_piece(p->now, group, value);
    } else if (percent(p, 50)) {
        p->doing = "raw clear";
        MUST(kwr_raw_clear(t->raw, group));
        if (!there) return;
        p->now->piece_count--;
        memmove(p->now->pieces + i, p->now->pieces + i + 1,
                (p->now->piece_count - i) * sizeof *p->now->pieces);
    } else {
        p->doing = "raw of another subtask";
        subtask *other = &p->tasks[below(p, p->parallelism)];
        if (other != t)
            EXPECT(KWR_ERR_MISUSE, kwr_raw_put(other->raw, group, (kwr_slice){ "x", 1 }));
    }
}

void raw_compare(program *p) {
    size_t met = 0;
    for (uint32_t i = 0; i < p->parallelism; i++) {
        subtask *t = &p->tasks[i];
        kwr_slice got;
        for (uint32_t from = 0, group;; from = group + 1) {
            const kwr_status status = kwr_raw_next(t->raw, from, &group, &got);
            if (status == KWR_NOT_FOUND) break;
            MUST(status);
            REQUIRE(met < p->now->piece_count && p->now->pieces[met].group == group);
            REQUIRE(holds_item(got, p->now->pieces[met].value));
            met++;
        }
    }
    REQUIRE(met == p->now->piece_count);
}

/* ---- in views ---- */

typedef struct look {
    program *p;
    const table *want;
    int domain;
    size_t met;
    timer last;
} look;

static kwr_status meet_timer(void *ctx, const kwr_view_entry *entry) {
    look *l = (look *)ctx;
    program *p = l->p;
    timer got = { 0 };
    while (got.key < KEYS && !slice_is(entry->key, key_bytes(p, got.key)))
        got.key++;
    while (got.name < NAMES && !slice_is(entry->name, name_bytes(got.name)))
        got.name++;
    REQUIRE(got.key < KEYS && got.name < NAMES && entry->subkey.size == 8);
    REQUIRE(entry->key_group == key_group_of(p, got.key));
    got.time = kwr_key_to_i64((const uint8_t *)entry->subkey.data);
    bool there;
    (void)position(p, &l->want->timers[l->domain], &got, &there);
    REQUIRE(there);
    l->met++;
    return KWR_OK;
}

static kwr_status meet_piece(void *ctx, const kwr_view_entry *entry) {
    look *l = (look *)ctx;
    program *p = l->p;
    bool there;
    const size_t i = find_piece(l->want, entry->key_group, &there);
    REQUIRE(there && holds_item(entry->value, l->want->pieces[i].value));
    l->met++;
    return KWR_OK;
}

void timers_compare_frozen(program *p, const frozen *f) {
    static const char *const stored[] = { "timers/event/t", "timers/processing/t", "raw" };
    for (int i = 0; i < DOMAINS + 1; i++) {
        look l = { .p = p, .want = f->want, .domain = i };
        if (i < DOMAINS && p->lacks_collections) continue;
        for (uint32_t v = 0; v < f->count; v++) {
            size_t state;
            MUST(kwr_view_find_state(f->views[v], stored[i], &state));
            const kwr_key_group_range owned = kwr_view_key_groups(f->views[v]);
            for (uint32_t g = owned.first; g < owned.first + owned.count; g++)
                MUST(kwr_view_entries(f->views[v], state, g, i < DOMAINS ? meet_timer : meet_piece,
                                      &l, NULL));
        }
        REQUIRE(l.met == (i < DOMAINS ? f->want->timers[i].count : f->want->piece_count));
    }
}
