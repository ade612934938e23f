/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P11: our engine on RocksDB against the raw C API doing the same on the same library: the same
 * number of entries and the same memory, keys made of key group, state and key on the raw side too.
 * Both are flushed and compacted before reads: when a memtable is flushed is not what is compared.
 * Both have index and filters in parts in the cache, as a bounded memory needs it. What that costs
 * a get is told by a raw side that holds them in memory beyond its cache.
 */
#include "bench/goals/goals.h"
#include "bench/peers/rocks_raw.h"
#ifdef KWR_ROCKSDB
#include "backend/core.h"
#include "backend/rocksdb/rocks.h"
#endif

#ifndef KWR_ROCKSDB
void goals_engine(goals *g) { goals_not_yet(g, "P11", "%s", g->b.rocks.text); }
#else

enum { KEY = 16, VALUE = 100, PREFIX = 4, ELEMENT = 24 };

typedef struct sides {
    goals *g;
    goals_task t;
    kwr_list *list;
    kwr_reducing *sum;
    rocks_raw raw, lists; /* values and sums; lists, with the merge operator */
    rocks_raw held;       /* values; index and filters beyond the cache */
    uint8_t *keys;
    size_t count; /* operations in a round */
} sides;

typedef void (*side_fn)(sides *s, const uint8_t *key);

static void raw_key(uint8_t out[PREFIX + KEY], uint8_t state, const uint8_t *key) {
    out[0] = 0, out[1] = key[0] & 127, out[2] = 0, out[3] = state;
    memcpy(out + PREFIX, key, KEY);
}
static void current(sides *s, const uint8_t *key) {
    goals_must(&s->t, kwr_backend_set_key(s->t.backend, (kwr_slice){ key, KEY }), "key");
}

static void our_get(sides *s, const uint8_t *key) {
    kwr_slice found;
    uint8_t value[VALUE];
    current(s, key);
    if (kwr_value_get(s->t.value, &found) != KWR_OK || found.size != VALUE) exit(1);
    memcpy(value, found.data, VALUE);
    __asm__ volatile("" : : "r"(value) : "memory");
}
static void raw_get(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], value[VALUE];
    raw_key(full, 1, key);
    if (rocks_raw_get(&s->raw, full, sizeof full, value, VALUE) != VALUE) exit(1);
    __asm__ volatile("" : : "r"(value) : "memory");
}
static void held_get(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], value[VALUE];
    raw_key(full, 1, key);
    if (rocks_raw_get(&s->held, full, sizeof full, value, VALUE) != VALUE) exit(1);
    __asm__ volatile("" : : "r"(value) : "memory");
}
static void our_put(sides *s, const uint8_t *key) {
    uint8_t value[VALUE] = { key[0] };
    current(s, key);
    goals_must(&s->t, kwr_value_put(s->t.value, (kwr_slice){ value, VALUE }), "put");
}
static void raw_put(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], value[VALUE] = { key[0] };
    raw_key(full, 1, key);
    rocks_raw_put(&s->raw, full, sizeof full, value, VALUE);
}
static void our_modify(sides *s, const uint8_t *key) {
    void *bytes = NULL;
    current(s, key);
    goals_must(&s->t, kwr_value_modify(s->t.value, KWR_KEEP_SIZE, &bytes, NULL), "modify");
    ((uint8_t *)bytes)[0]++;
}
static void raw_modify(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], value[VALUE];
    raw_key(full, 1, key);
    if (rocks_raw_get(&s->raw, full, sizeof full, value, VALUE) != VALUE) exit(1);
    value[0]++;
    rocks_raw_put(&s->raw, full, sizeof full, value, VALUE);
}
static void our_sum(sides *s, const uint8_t *key) {
    uint8_t one[8] = { 1 };
    current(s, key);
    goals_must(&s->t, kwr_reducing_add(s->sum, (kwr_slice){ one, 8 }, NULL), "add");
}
static void raw_sum(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], value[8] = { 0 };
    uint64_t sum;
    raw_key(full, 3, key);
    (void)rocks_raw_get(&s->raw, full, sizeof full, value, 8);
    memcpy(&sum, value, 8);
    sum++;
    memcpy(value, &sum, 8);
    rocks_raw_put(&s->raw, full, sizeof full, value, 8);
}
static void our_append(sides *s, const uint8_t *key) {
    uint8_t element[ELEMENT] = { key[0] };
    current(s, key);
    goals_must(&s->t, kwr_list_add(s->list, (kwr_slice){ element, ELEMENT }), "append");
}
static void raw_append(sides *s, const uint8_t *key) {
    uint8_t full[PREFIX + KEY], element[ELEMENT] = { key[0] };
    raw_key(full, 2, key);
    rocks_raw_append(&s->lists, full, sizeof full, element, ELEMENT);
}
/* What an append is without a merge operator. */
static void raw_rewrite(sides *s, const uint8_t *key) {
    enum { LIST_MAX = 64 * ELEMENT };
    uint8_t full[PREFIX + KEY], list[LIST_MAX + ELEMENT];
    raw_key(full, 4, key);
    size_t size = rocks_raw_get(&s->raw, full, sizeof full, list, LIST_MAX);
    if (size == SIZE_MAX || size > LIST_MAX) size = 0;
    memset(list + size, key[0], ELEMENT);
    rocks_raw_put(&s->raw, full, sizeof full, list, size + ELEMENT);
}

static void settle_family(rocksdb_t *db, rocksdb_column_family_handle_t *family) {
    char *words = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush_cf(db, options, family, &words);
    rocksdb_flushoptions_destroy(options);
    if (words != NULL) exit(1);
    rocksdb_compact_range_cf(db, family, NULL, 0, NULL, 0);
}
static void settle(sides *s) {
    const kwr_engine_ops *ops;
    const kwr_engine *engine = kwr_backend_engine(s->t.backend, &ops);
    kwr_view *view;
    goals_must(&s->t, kwr_backend_freeze(s->t.backend, &view), "freeze"); /* all is written */
    kwr_view_release(view);
    for (size_t i = 0; i < engine->state_count; i++)
        settle_family(engine->db->db, engine->states[i].family);
    settle_family(s->raw.db, s->raw.cf);
    settle_family(s->lists.db, s->lists.cf);
    settle_family(s->held.db, s->held.cf);
}

/* Median nanoseconds of each side's own time; sides take turns. */
static void compare(sides *s, side_fn ours, side_fn theirs, double out[2]) {
    bench_series times[2] = { 0 };
    const unsigned rounds = s->g->quick ? 3 : 5;
    for (unsigned round = 0; round < 2 * rounds; round++) {
        const side_fn run = round % 2 == 0 ? ours : theirs;
        const uint8_t *keys = s->keys + round / 2 * s->count * KEY;
        const uint64_t start = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < s->count; i++)
            run(s, keys + i * KEY);
        bench_sample(&times[round % 2],
                     (double)(bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)s->count);
    }
    out[0] = bench_median(&times[0]);
    out[1] = bench_median(&times[1]);
}

static void judge(sides *s, const char *what, side_fn ours, side_fn theirs) {
    double ns[2];
    compare(s, ours, theirs, ns);
    goals_judge(s->g, "P11", ns[0] / ns[1], GOAL_AT_MOST, 1.15,
                "%s, %.0f ns, against the raw C API, %s", what, ns[0], s->g->b.rocks.text);
}

static void open_sides(sides *s, uint64_t entries) {
    kwr_error err;
    char ours[4200], raw[4200], lists[4200];
    snprintf(ours, sizeof ours, "%s", goals_dir(s->g, "engine"));
    snprintf(raw, sizeof raw, "%s", goals_dir(s->g, "engine-raw"));
    snprintf(lists, sizeof lists, "%s", goals_dir(s->g, "engine-lists"));
    goals_open(&s->t, "rocksdb", ours, KEY, VALUE);
    const kwr_list_descriptor list = { .struct_size = sizeof list, .name = "list" };
    bench_must(kwr_list_open(s->t.backend, &list, &s->list, &err), &err, "list");
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = { .kind = KWR_TYPE_U64 },
                                          .reduce = KWR_REDUCE_SUM };
    bench_must(kwr_reducing_open(s->t.backend, &sum, &s->sum, &err), &err, "sum");
    goals_fill(&s->t, entries);
    rocks_raw_open_bounded(&s->raw, strdup(raw), false);
    rocks_raw_open_bounded(&s->lists, strdup(lists), true);
    rocks_raw_open(&s->held, strdup(goals_dir(s->g, "engine-held")), false);
    uint8_t key[KEY], full[PREFIX + KEY], value[VALUE];
    for (uint64_t i = 0; i < entries; i++) {
        goals_key(key, KEY, i);
        raw_key(full, 1, key);
        goals_value(value, VALUE, i);
        rocks_raw_put(&s->raw, full, sizeof full, value, VALUE);
        rocks_raw_put(&s->held, full, sizeof full, value, VALUE);
    }
}

static void close_raw(rocks_raw *r) {
    const char *dir = r->dir;
    rocks_raw_close(r);
    free((void *)(uintptr_t)dir);
}

void goals_engine(goals *g) {
    if (!goals_wanted(g, "P11")) return;
    sides s = { .g = g, .count = goals_size(g, 12000, 100000) };
    const uint64_t entries = goals_size(g, 150000, 5000000);
    open_sides(&s, entries);
    s.keys = goals_stream(KEY, entries, s.count * 5, false, g->b.seed + 5);
    settle(&s);
    judge(&s, "value get", our_get, raw_get);
    double held[2];
    compare(&s, our_get, held_get, held);
    bench_say(&g->b, "P11 value get, %.0f ns, against index and filters held in memory: %.2f\n",
              held[0], held[0] / held[1]);
    judge(&s, "value put", our_put, raw_put);
    judge(&s, "value modify", our_modify, raw_modify);
    judge(&s, "reducing add", our_sum, raw_sum);
    free(s.keys); /* lists get 20 elements each: with fewer there is nothing to rewrite */
    s.keys = goals_stream(KEY, s.count * 5 / 20 + 1, s.count * 5, false, g->b.seed + 6);
    judge(&s, "list append", our_append, raw_append);
    /* Both sides have the same lists then, at rest: what is in a memtable costs little to read. */
    for (size_t i = 0; i < s.count * (g->quick ? 3 : 5); i++)
        raw_rewrite(&s, s.keys + i * KEY);
    settle(&s);
    double ns[2];
    compare(&s, our_append, raw_rewrite, ns);
    goals_judge(g, "P11", ns[1] / ns[0], GOAL_AT_LEAST, 2,
                "list append against reading and writing the list, %s", g->b.rocks.text);
    free(s.keys);
    goals_close(&s.t);
    close_raw(&s.raw);
    close_raw(&s.lists);
    close_raw(&s.held);
}
#endif
