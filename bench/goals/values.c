/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P1 to P3: one value through the public API, against the fastest hash table in the same loop and
 * against RocksDB. Keys stand in an array that is read in order; sides take turns; what counts is
 * the median of the rounds, in the thread's own time. The worst of all sizes, operations and
 * distributions makes the ratio.
 */
#include "bench/goals/goals.h"
#include "bench/peers/rocks_raw.h"
#include "bench/peers/tables.h"

enum { BATCH = 32, ROUNDS_MAX = 9, KINDS_MAX = 16 };

static const char *const loop_names[] = { "get", "put", "modify", "get, dependent",
                                          "modify, dependent" };

/* ---- our loops ---- */

static void bump(void *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    number++;
    memcpy(at, &number, sizeof number);
}

static inline void select_key(goals_task *t, const uint8_t *keys, size_t i) {
    const kwr_slice key = { keys + i * t->key_size, t->key_size };
    const kwr_status status = kwr_backend_set_key(t->backend, key);
    if (__builtin_expect(status != KWR_OK, false)) goals_must(t, status, "key");
}
static inline kwr_slice get(goals_task *t) {
    kwr_slice found = { NULL, 0 };
    if (__builtin_expect(kwr_value_get(t->value, &found) != KWR_OK, false)) exit(1);
    return found;
}
static inline void put(goals_task *t, const uint8_t *value) {
    const kwr_status status = kwr_value_put(t->value, (kwr_slice){ value, t->value_size });
    if (__builtin_expect(status != KWR_OK, false)) goals_must(t, status, "put");
}
static inline uint8_t *modify(goals_task *t) {
    void *bytes = NULL;
    const kwr_status status = kwr_value_modify(t->value, KWR_KEEP_SIZE, &bytes, NULL);
    if (__builtin_expect(status != KWR_OK, false)) goals_must(t, status, "modify");
    bump(bytes);
    return bytes;
}

static uint64_t run_ours(goals_task *t, peer_loop loop, const uint8_t *keys, size_t count,
                         uint8_t *value) {
    uint64_t sum = 0;
    size_t next = 0;
    switch (loop) {
    case PEER_GET:
        for (size_t i = 0; i < count; i++) {
            select_key(t, keys, i);
            memcpy(value, get(t).data, t->value_size);
            sum += value[0];
        }
        break;
    case PEER_PUT:
        for (size_t i = 0; i < count; i++) {
            select_key(t, keys, i);
            put(t, value);
        }
        break;
    case PEER_MODIFY:
        for (size_t i = 0; i < count; i++) {
            select_key(t, keys, i);
            (void)modify(t);
        }
        break;
    case PEER_GET_DEPENDENT:
        for (size_t i = 0; i < count; i++) {
            select_key(t, keys, next);
            next = peer_next(i, ((const uint8_t *)get(t).data)[7], count);
            sum += next;
        }
        break;
    case PEER_MODIFY_DEPENDENT:
        for (size_t i = 0; i < count; i++) {
            select_key(t, keys, next);
            next = peer_next(i, modify(t)[7], count);
            sum += next;
        }
        break;
    case PEER_LOOPS: break;
    }
    return sum;
}

/* The same in batches of keys. */
static uint64_t run_batches(goals_task *t, kwr_key_batch *batch, peer_loop loop,
                            const uint8_t *keys, size_t count, uint8_t *value) {
    uint64_t sum = 0;
    kwr_slice slices[BATCH];
    kwr_state *const state = kwr_value_state(t->value);
    for (size_t i = 0; i + BATCH <= count; i += BATCH) {
        for (size_t k = 0; k < BATCH; k++)
            slices[k] = (kwr_slice){ keys + (i + k) * t->key_size, t->key_size };
        goals_must(t, kwr_key_batch_load(batch, slices, NULL, BATCH), "batch");
        kwr_key_batch_prefetch(batch, &state, 1);
        for (size_t k = 0; k < BATCH; k++) {
            if (kwr_key_batch_select(batch, k) != KWR_OK) exit(1);
            if (loop == PEER_GET) {
                memcpy(value, get(t).data, t->value_size);
                sum += value[0];
            } else if (loop == PEER_PUT) {
                put(t, value);
            } else {
                (void)modify(t);
            }
        }
    }
    return sum;
}

/* ---- RocksDB's ---- */

#ifdef KWR_ROCKSDB
static uint64_t run_rocks(rocks_raw *r, size_t key_size, size_t value_size, peer_loop loop,
                          const uint8_t *keys, size_t count, uint8_t *value) {
    for (size_t i = 0; i < count; i++) {
        const uint8_t *key = keys + i * key_size;
        if (loop != PEER_PUT && rocks_raw_get(r, key, key_size, value, value_size) != value_size)
            exit(1);
        if (loop == PEER_MODIFY) bump(value);
        if (loop != PEER_GET) rocks_raw_put(r, key, key_size, value, value_size);
    }
    return value[0];
}
#endif

/* ---- one size of entries, one distribution ---- */

typedef struct point {
    goals *g;
    size_t key_size, value_size;
    uint64_t entries;
    bool zipfian;
    size_t count; /* operations in a round */
    unsigned rounds;
    goals_task ours;
    kwr_key_batch *batch;
    uint8_t *keys;
    uint8_t value[GOALS_VALUE_MAX];
    uint64_t sum;
    peer_table *tables[KINDS_MAX];
    double best[PEER_LOOPS]; /* of the fastest table */
    const char *fastest[PEER_LOOPS];
    double plain[PEER_LOOPS], batched[PEER_LOOPS];
} point;

typedef struct worst {
    double ratio;
    char text[128];
} worst;

static void note(worst *w, double ratio, bool larger, const point *p, const char *what,
                 const char *against) {
    if (w->text[0] != '\0' && (larger ? ratio <= w->ratio : ratio >= w->ratio)) return;
    w->ratio = ratio;
    snprintf(w->text, sizeof w->text, "%s, %" PRIu64 " entries, %s%s%s", what, p->entries,
             p->zipfian ? "Zipf" : "uniform", against[0] == '\0' ? "" : ", against ", against);
}

static uint64_t cpu(void) { return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID); }

#ifdef KWR_BENCH_TABLES
static void open_tables(point *p) {
    const size_t kinds = peer_table_kinds();
    uint8_t key[GOALS_KEY_MAX], value[GOALS_VALUE_MAX];
    for (size_t kind = 0; kind < kinds && kind < KINDS_MAX; kind++) {
        peer_table *table = peer_table_open(kind, p->entries, p->key_size, p->value_size);
        p->tables[kind] = table;
        for (uint64_t i = 0; table != NULL && i < p->entries; i++) {
            goals_key(key, p->key_size, i);
            goals_value(value, p->value_size, i);
            (void)peer_table_run(table, PEER_PUT, key, 1, value);
        }
    }
}
static void close_tables(point *p) {
    for (size_t kind = 0; kind < KINDS_MAX; kind++)
        if (p->tables[kind] != NULL) peer_table_close(p->tables[kind]);
    memset(p->tables, 0, sizeof p->tables);
}
static double time_table(point *p, size_t kind, peer_loop loop) {
    const uint64_t start = cpu();
    p->sum += peer_table_run(p->tables[kind], loop, p->keys, p->count, p->value);
    return (double)(cpu() - start) / (double)p->count;
}
static const char *table_name(size_t kind) { return peer_table_name(kind); }
#else
static void open_tables(point *p) { (void)p; }
static void close_tables(point *p) { (void)p; }
static double time_table(point *p, size_t kind, peer_loop loop) {
    (void)p, (void)kind, (void)loop;
    return 0;
}
static const char *table_name(size_t kind) {
    (void)kind;
    return "";
}
#endif

static void time_loop(point *p, peer_loop loop) {
    bench_series ours = { 0 }, batches = { 0 }, tables[KINDS_MAX] = { 0 };
    const bool can_batch = loop == PEER_GET || loop == PEER_PUT || loop == PEER_MODIFY;
    for (unsigned round = 0; round < p->rounds; round++) {
        uint64_t start = cpu();
        p->sum += run_ours(&p->ours, loop, p->keys, p->count, p->value);
        bench_sample(&ours, (double)(cpu() - start) / (double)p->count);
        for (size_t kind = 0; kind < KINDS_MAX; kind++)
            if (p->tables[kind] != NULL) bench_sample(&tables[kind], time_table(p, kind, loop));
        if (!can_batch) continue;
        start = cpu();
        p->sum += run_batches(&p->ours, p->batch, loop, p->keys, p->count, p->value);
        bench_sample(&batches, (double)(cpu() - start) / (double)(p->count / BATCH * BATCH));
    }
    p->plain[loop] = bench_median(&ours);
    p->batched[loop] = bench_median(&batches);
    p->best[loop] = 0;
    for (size_t kind = 0; kind < KINDS_MAX; kind++) {
        const double took = bench_median(&tables[kind]);
        if (took == 0) continue;
        goals_detail(p->g, "%zu+%zu %-18s %-28s %7.1f ns", p->key_size, p->value_size,
                     loop_names[loop], table_name(kind), took);
        if (p->best[loop] != 0 && took >= p->best[loop]) continue;
        p->best[loop] = took;
        p->fastest[loop] = table_name(kind);
    }
    goals_detail(p->g, "%zu+%zu %-18s %-28s %7.1f ns, in batches %7.1f   (%" PRIu64 ", %s)",
                 p->key_size, p->value_size, loop_names[loop], "keyweir", p->plain[loop],
                 p->batched[loop], p->entries, p->zipfian ? "Zipf" : "uniform");
    bench_json(&p->g->b, loop_names[loop],
               "\"key\":%zu,\"value\":%zu,\"entries\":%" PRIu64
               ",\"zipfian\":%s,\"ns\":%.2f,\"batch_ns\":%.2f,\"table_ns\":%.2f,\"table\":\"%s\"",
               p->key_size, p->value_size, p->entries, p->zipfian ? "true" : "false",
               p->plain[loop], p->batched[loop], p->best[loop],
               p->fastest[loop] == NULL ? "" : p->fastest[loop]);
}

/* ---- all points ---- */

enum {
    LONG_PLAIN,
    LONG_DEPENDENT,
    SHORT_PLAIN,
    SHORT_DEPENDENT,
    BATCHED,
    BATCHED_DEPENDENT,
    ROCKS_READ,
    ROCKS_PUT,
    ROCKS_BATCH_READ,
    ROCKS_BATCH_PUT,
    WORSTS
};

static void against_tables(point *p, worst w[WORSTS]) {
    for (peer_loop loop = PEER_GET; loop < PEER_LOOPS; loop++) {
        time_loop(p, loop);
        if (p->best[loop] == 0) continue;
        const bool dependent = loop == PEER_GET_DEPENDENT || loop == PEER_MODIFY_DEPENDENT;
        const bool is_short = p->key_size == 8;
        worst *plain = &w[is_short    ? dependent ? SHORT_DEPENDENT : SHORT_PLAIN
                          : dependent ? LONG_DEPENDENT
                                      : LONG_PLAIN];
        note(plain, p->plain[loop] / p->best[loop], true, p, loop_names[loop], p->fastest[loop]);
        if (!dependent)
            note(&w[BATCHED], p->batched[loop] / p->best[loop], true, p, loop_names[loop],
                 p->fastest[loop]);
        const peer_loop single = loop == PEER_GET_DEPENDENT ? PEER_GET : PEER_MODIFY;
        if (dependent)
            note(&w[BATCHED_DEPENDENT], p->batched[single] / p->best[loop], true, p,
                 loop_names[loop], p->fastest[loop]);
    }
}

#ifdef KWR_ROCKSDB
static void against_rocks(point *p, worst w[WORSTS]) {
    rocks_raw r;
    rocks_raw_open(&r, goals_dir(p->g, "raw"), false);
    uint8_t key[GOALS_KEY_MAX], value[GOALS_VALUE_MAX];
    for (uint64_t i = 0; i < p->entries; i++) {
        goals_key(key, p->key_size, i);
        goals_value(value, p->value_size, i);
        rocks_raw_put(&r, key, p->key_size, value, p->value_size);
    }
    rocks_raw_flush(&r);
    const size_t count = p->count / 10;
    for (peer_loop loop = PEER_GET; loop <= PEER_MODIFY; loop++) {
        bench_series times = { 0 };
        for (unsigned round = 0; round < p->rounds; round++) {
            const uint64_t start = cpu();
            p->sum += run_rocks(&r, p->key_size, p->value_size, loop,
                                p->keys + (round % 10) * count * p->key_size, count, value);
            bench_sample(&times, (double)(cpu() - start) / (double)count);
        }
        const double took = bench_median(&times);
        goals_detail(p->g, "%zu+%zu %-18s %-28s %7.1f ns", p->key_size, p->value_size,
                     loop_names[loop], p->g->b.rocks.text, took);
        bench_json(&p->g->b, loop_names[loop],
                   "\"key\":%zu,\"value\":%zu,\"entries\":%" PRIu64
                   ",\"zipfian\":%s,\"rocksdb_ns\":%.1f",
                   p->key_size, p->value_size, p->entries, p->zipfian ? "true" : "false", took);
        const bool put_only = loop == PEER_PUT;
        note(&w[put_only ? ROCKS_PUT : ROCKS_READ], took / p->plain[loop], false, p,
             loop_names[loop], "");
        note(&w[put_only ? ROCKS_BATCH_PUT : ROCKS_BATCH_READ], took / p->batched[loop], false, p,
             loop_names[loop], "");
    }
    rocks_raw_close(&r);
}
#else
static void against_rocks(point *p, worst w[WORSTS]) { (void)p, (void)w; }
#endif

static void measure(goals *g, size_t key_size, size_t value_size, uint64_t entries,
                    worst w[WORSTS]) {
    point p = { .g = g,
                .key_size = key_size,
                .value_size = value_size,
                .entries = entries,
                .count = goals_size(g, 50000, 1000000),
                .rounds = g->quick ? 3 : 5 };
    goals_open(&p.ours, "memory", NULL, key_size, value_size);
    goals_fill(&p.ours, entries);
    goals_must(&p.ours, kwr_key_batch_new(p.ours.backend, BATCH, &p.batch), "batch");
    const bool tables = goals_wanted(g, "P1") || goals_wanted(g, "P2");
    if (tables) open_tables(&p);
    for (unsigned zipfian = 0; zipfian < 2; zipfian++) {
        p.zipfian = zipfian == 1;
        p.keys = goals_stream(key_size, entries, p.count, p.zipfian, g->b.seed + 2);
        goals_value(p.value, value_size, 0);
        against_tables(&p, w);
        /* The quick run leaves RocksDB out where it has least to say. */
        const bool rocks = goals_wanted(g, "P3") && (!g->quick || (key_size == 16 && !p.zipfian));
        if (rocks) against_rocks(&p, w);
        free(p.keys);
    }
    close_tables(&p);
    kwr_key_batch_free(p.batch);
    goals_close(&p.ours);
    if (p.sum == 1) putchar('\n');
}

static void judge(goals *g, const char *id, const worst *w, goal_kind kind, double goal,
                  const char *what) {
    if (w->text[0] == '\0')
        goals_not_yet(g, id, "%s: the peer is missing", what);
    else
        goals_judge(g, id, w->ratio, kind, goal, "%s; worst: %s", what, w->text);
}

void goals_values(goals *g) {
    if (!goals_wanted(g, "P1") && !goals_wanted(g, "P2") && !goals_wanted(g, "P3")) return;
    worst w[WORSTS] = { 0 };
    const uint64_t sizes[] = { goals_size(g, 400000, 1000000), 10000000 };
    for (size_t i = 0; i < (g->quick ? 1U : 2U); i++) {
        measure(g, 16, 100, sizes[i], w);
        measure(g, 8, 8, sizes[i], w);
    }
    judge(g, "P1", &w[LONG_PLAIN], GOAL_AT_MOST, 1.3, "16+100 bytes, independent");
    judge(g, "P1", &w[LONG_DEPENDENT], GOAL_AT_MOST, 1.6, "16+100 bytes, dependent");
    judge(g, "P1", &w[SHORT_PLAIN], GOAL_AT_MOST, 1.8, "8+8 bytes, independent");
    judge(g, "P1", &w[SHORT_DEPENDENT], GOAL_AT_MOST, 2.2, "8+8 bytes, dependent");
    judge(g, "P2", &w[BATCHED], GOAL_AT_MOST, 0.8, "batches of 32 against independent");
    judge(g, "P2", &w[BATCHED_DEPENDENT], GOAL_AT_MOST, 0.25, "batches of 32 against dependent");
    char what[160];
    snprintf(what, sizeof what, "get and modify, against %s", g->b.rocks.text);
    judge(g, "P3", &w[ROCKS_READ], GOAL_AT_LEAST, 10, what);
    snprintf(what, sizeof what, "put, against %s", g->b.rocks.text);
    judge(g, "P3", &w[ROCKS_PUT], GOAL_AT_LEAST, 5, what);
    snprintf(what, sizeof what, "batches of get and modify, against %s", g->b.rocks.text);
    judge(g, "P3", &w[ROCKS_BATCH_READ], GOAL_AT_LEAST, 25, what);
    snprintf(what, sizeof what, "batches of put, against %s", g->b.rocks.text);
    judge(g, "P3", &w[ROCKS_BATCH_PUT], GOAL_AT_LEAST, 12, what);
}
