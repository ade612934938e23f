/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P13: the state accesses of streaming operators, recorded once and replayed on the page store and
 * on RocksDB. Each side makes the same sum of what it reads; different sums end the program.
 */
#include "bench/goals/goals.h"
#include "bench/peers/rocks_raw.h"
#include "bench/workload.h"

#ifndef KWR_ROCKSDB
void goals_workloads(goals *g) { goals_not_yet(g, "P13", "%s", g->b.rocks.text); }
#else

enum { SUM = 8, ELEMENT = 100 };

static void fill_value(uint8_t *out, size_t size, const workload_op *op) {
    memset(out, 'v', size);
    const uint64_t number = bench_mix(op->key ^ op->window ^ op->time);
    memcpy(out, &number, 8);
}
/* What was read, into the sum both sides must agree on. */
static uint64_t add_read(uint64_t sum, const void *bytes, size_t size) {
    uint64_t number = 0;
    if (size >= 8) memcpy(&number, bytes, 8);
    return sum * 31 + number + size;
}
static void put_big(uint8_t out[8], uint64_t number) {
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(number >> (56 - 8 * i));
}
/* How a key and the number of a window look. */
static uint64_t spread(uint64_t number) { return bench_mix(number + 1); }

/* ---- the page store ---- */

typedef struct store {
    goals_task t; /* its value state: aggregates */
    kwr_value *meta;
    kwr_list *lists[2];
    kwr_map *rows[2];
    uint64_t sum;
} store;

static void open_store(store *s) {
    kwr_error err;
    *s = (store){ 0 };
    goals_open(&s->t, "memory", NULL, 8, SUM);
    const kwr_value_descriptor meta = { .struct_size = sizeof meta, .name = "meta" };
    bench_must(kwr_value_open(s->t.backend, &meta, &s->meta, &err), &err, "meta");
    for (unsigned side = 0; side < 2; side++) {
        const kwr_list_descriptor list = { .struct_size = sizeof list,
                                           .name = side == 0 ? "list left" : "list right" };
        const kwr_map_descriptor rows = { .struct_size = sizeof rows,
                                          .name = side == 0 ? "rows left" : "rows right" };
        bench_must(kwr_list_open(s->t.backend, &list, &s->lists[side], &err), &err, "list");
        bench_must(kwr_map_open(s->t.backend, &rows, &s->rows[side], &err), &err, "rows");
    }
}

static void read_list(store *s, kwr_list *list) {
    kwr_list_iterator *it;
    kwr_slice element;
    goals_must(&s->t, kwr_list_iterate(list, &it), "read");
    while (kwr_list_iterator_next(it, &element) == KWR_OK)
        s->sum = add_read(s->sum, element.data, element.size);
    kwr_list_iterator_free(it);
}
static void scan_rows(store *s, kwr_map *rows, const workload_op *op) {
    uint8_t low[8], high[8];
    put_big(low, op->window);
    put_big(high, op->time);
    kwr_map_iterator *it;
    kwr_slice key, value;
    goals_must(&s->t, kwr_map_iterate(rows, &it), "scan");
    goals_must(&s->t, kwr_map_iterator_seek(it, (kwr_slice){ low, 8 }), "seek");
    while (kwr_map_iterator_next(it, &key, &value) == KWR_OK && memcmp(key.data, high, 8) <= 0)
        s->sum = add_read(s->sum, value.data, value.size);
    kwr_map_iterator_free(it);
}

static void store_value(store *s, kwr_value *value, const workload_op *op, bool named) {
    const uint64_t name = spread(op->window);
    if (named)
        goals_must(&s->t, kwr_value_set_namespace(value, (kwr_slice){ &name, 8 }), "namespace");
    uint8_t bytes[SUM];
    kwr_slice found = { NULL, 0 };
    switch ((workload_kind)op->kind) {
    case WORKLOAD_GET:
    case WORKLOAD_META_GET:
        if (kwr_value_get(value, &found) == KWR_OK)
            s->sum = add_read(s->sum, found.data, found.size);
        break;
    case WORKLOAD_PUT:
    case WORKLOAD_META_PUT:
        fill_value(bytes, SUM, op);
        goals_must(&s->t, kwr_value_put(value, (kwr_slice){ bytes, SUM }), "put");
        break;
    case WORKLOAD_DELETE:
    case WORKLOAD_META_DELETE: goals_must(&s->t, kwr_value_clear(value), "clear"); break;
    case WORKLOAD_APPEND:
    case WORKLOAD_READ:
    case WORKLOAD_CLEAR:
    case WORKLOAD_MERGE:
    case WORKLOAD_ROW_PUT:
    case WORKLOAD_ROW_DELETE:
    case WORKLOAD_SCAN:
    case WORKLOAD_KINDS: break;
    }
}

static void store_one(store *s, const workload_op *op) {
    uint8_t bytes[ELEMENT], row[8];
    const uint64_t name = spread(op->window), source = spread(op->time);
    kwr_list *list = s->lists[op->side];
    kwr_map *rows = s->rows[op->side];
    kwr_status status = KWR_OK;
    switch ((workload_kind)op->kind) {
    case WORKLOAD_GET:
    case WORKLOAD_PUT:
    case WORKLOAD_DELETE: store_value(s, s->t.value, op, true); break;
    case WORKLOAD_META_GET:
    case WORKLOAD_META_PUT:
    case WORKLOAD_META_DELETE: store_value(s, s->meta, op, false); break;
    case WORKLOAD_APPEND:
        fill_value(bytes, ELEMENT, op);
        status = kwr_list_set_namespace(list, (kwr_slice){ &name, 8 });
        if (status == KWR_OK) status = kwr_list_add(list, (kwr_slice){ bytes, ELEMENT });
        break;
    case WORKLOAD_READ:
        status = kwr_list_set_namespace(list, (kwr_slice){ &name, 8 });
        read_list(s, list);
        break;
    case WORKLOAD_CLEAR:
        status = kwr_list_set_namespace(list, (kwr_slice){ &name, 8 });
        if (status == KWR_OK) status = kwr_list_clear(list);
        break;
    case WORKLOAD_MERGE:
        status =
            kwr_list_merge_namespaces(list, (kwr_slice){ &name, 8 }, &(kwr_slice){ &source, 8 }, 1);
        break;
    case WORKLOAD_ROW_PUT:
        fill_value(bytes, ELEMENT, op);
        put_big(row, op->time);
        status = kwr_map_put(rows, (kwr_slice){ row, 8 }, (kwr_slice){ bytes, ELEMENT });
        break;
    case WORKLOAD_ROW_DELETE:
        put_big(row, op->time);
        status = kwr_map_remove(rows, (kwr_slice){ row, 8 });
        break;
    case WORKLOAD_SCAN: scan_rows(s, rows, op); break;
    case WORKLOAD_KINDS: break;
    }
    goals_must(&s->t, status, "operation");
}

static double replay_store(store *s, const workload_trace *trace) {
    uint64_t current = UINT64_MAX;
    const uint64_t start = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < trace->count; i++) {
        const workload_op *op = &trace->ops[i];
        if (op->key != current) {
            const uint64_t key = spread(op->key);
            goals_must(&s->t, kwr_backend_set_key(s->t.backend, (kwr_slice){ &key, 8 }), "key");
            current = op->key;
        }
        store_one(s, op);
    }
    return (double)(bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)trace->count;
}

/* ---- RocksDB: kind and side, key, window or row ---- */

typedef struct rocks {
    rocks_raw r;
    uint64_t sum;
    uint8_t *list; /* a whole one */
} rocks;

enum { ROCKS_KEY = 18, LIST_MAX = 64 << 20 };

static void rocks_key(uint8_t out[ROCKS_KEY], uint8_t kind, const workload_op *op, uint64_t name) {
    const uint64_t key = spread(op->key);
    out[0] = kind, out[1] = op->side;
    memcpy(out + 2, &key, 8);
    put_big(out + 10, name);
}

static void rocks_scan(rocks *s, const workload_op *op) {
    uint8_t low[ROCKS_KEY], high[ROCKS_KEY];
    rocks_key(low, 'r', op, op->window);
    rocks_key(high, 'r', op, op->time + 1);
    rocksdb_readoptions_t *bounds = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(bounds, (const char *)high, sizeof high);
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(s->r.db, bounds, s->r.cf);
    for (rocksdb_iter_seek(it, (const char *)low, sizeof low); rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t size;
        const char *value = rocksdb_iter_value(it, &size);
        s->sum = add_read(s->sum, value, size);
    }
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(bounds);
}

static void rocks_read(rocks *s, const uint8_t key[ROCKS_KEY]) {
    const size_t size = rocks_raw_get(&s->r, key, ROCKS_KEY, s->list, LIST_MAX);
    if (size == SIZE_MAX) return;
    if (size > LIST_MAX) exit(1);
    for (size_t at = 0; at < size; at += ELEMENT)
        s->sum = add_read(s->sum, s->list + at, ELEMENT);
}

static void rocks_move(rocks *s, const workload_op *op) {
    uint8_t from[ROCKS_KEY], to[ROCKS_KEY];
    rocks_key(from, 'l', op, op->time);
    rocks_key(to, 'l', op, op->window);
    const size_t size = rocks_raw_get(&s->r, from, sizeof from, s->list, LIST_MAX);
    if (size == SIZE_MAX) return;
    rocks_raw_append(&s->r, to, sizeof to, s->list, size);
    rocks_raw_delete(&s->r, from, sizeof from);
}

static void rocks_one(rocks *s, const workload_op *op) {
    uint8_t key[ROCKS_KEY], bytes[ELEMENT];
    switch ((workload_kind)op->kind) {
    case WORKLOAD_GET:
    case WORKLOAD_META_GET:
        rocks_key(key, op->kind == WORKLOAD_GET ? 'v' : 'm', op, op->window);
        if (rocks_raw_get(&s->r, key, sizeof key, bytes, SUM) == SUM)
            s->sum = add_read(s->sum, bytes, SUM);
        break;
    case WORKLOAD_PUT:
    case WORKLOAD_META_PUT:
        rocks_key(key, op->kind == WORKLOAD_PUT ? 'v' : 'm', op, op->window);
        fill_value(bytes, SUM, op);
        rocks_raw_put(&s->r, key, sizeof key, bytes, SUM);
        break;
    case WORKLOAD_DELETE:
    case WORKLOAD_META_DELETE:
        rocks_key(key, op->kind == WORKLOAD_DELETE ? 'v' : 'm', op, op->window);
        rocks_raw_delete(&s->r, key, sizeof key);
        break;
    case WORKLOAD_APPEND:
        rocks_key(key, 'l', op, op->window);
        fill_value(bytes, ELEMENT, op);
        rocks_raw_append(&s->r, key, sizeof key, bytes, ELEMENT);
        break;
    case WORKLOAD_READ:
        rocks_key(key, 'l', op, op->window);
        rocks_read(s, key);
        break;
    case WORKLOAD_CLEAR:
        rocks_key(key, 'l', op, op->window);
        rocks_raw_delete(&s->r, key, sizeof key);
        break;
    case WORKLOAD_MERGE: rocks_move(s, op); break;
    case WORKLOAD_ROW_PUT:
        rocks_key(key, 'r', op, op->time);
        fill_value(bytes, ELEMENT, op);
        rocks_raw_put(&s->r, key, sizeof key, bytes, ELEMENT);
        break;
    case WORKLOAD_ROW_DELETE:
        rocks_key(key, 'r', op, op->time);
        rocks_raw_delete(&s->r, key, sizeof key);
        break;
    case WORKLOAD_SCAN: rocks_scan(s, op); break;
    case WORKLOAD_KINDS: break;
    }
}

/* Its flushes and compactions run on other threads and are not counted. */
static double replay_rocks(rocks *s, const workload_trace *trace) {
    const uint64_t start = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < trace->count; i++)
        rocks_one(s, &trace->ops[i]);
    return (double)(bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)trace->count;
}

/* ---- one workload ---- */

static double measure(goals *g, const workload_options *options) {
    char path[4200];
    snprintf(path, sizeof path, "%s.kwt", goals_dir(g, "trace"));
    (void)workload_record(options, path);
    workload_trace trace;
    workload_open(&trace, path);

    /* The first side must not be the one that this machine gives its memory to. */
    goals_touch_memory(options->events * 4 * ELEMENT);
    store ours;
    open_store(&ours);
    const double mine = replay_store(&ours, &trace);
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(ours.t.backend, &stats);
    goals_close(&ours.t);

    rocks theirs = { .list = malloc(LIST_MAX) };
    if (theirs.list == NULL) exit(1);
    rocks_raw_open(&theirs.r, goals_dir(g, "workload"), true);
    const double yard = replay_rocks(&theirs, &trace);
    rocks_raw_close(&theirs.r);
    free(theirs.list);
    if (ours.sum != theirs.sum || stats.entries != 0) {
        fprintf(stderr, "workload %s: the stores read different things\n",
                workload_name(options->which));
        exit(1);
    }
    goals_detail(g, "%-14s %-8s %9" PRIu64 " operations: %6.0f ns each, RocksDB %6.0f, ratio %.1f",
                 workload_name(options->which), options->zipfian ? "Zipf" : "uniform", trace.count,
                 mine, yard, yard / mine);
    bench_json(&g->b, workload_name(options->which),
               "\"zipfian\":%s,\"keys\":%u,\"per_window\":%u,\"operations\":%" PRIu64
               ",\"ns\":%.1f,\"rocksdb_ns\":%.1f",
               options->zipfian ? "true" : "false", options->keys, options->per_window, trace.count,
               mine, yard);
    workload_close(&trace);
    (void)unlink(path);
    return yard / mine;
}

/* Dropping windows of one key with so many elements, by what filling them took. What is done later,
 * bit by bit, counts too. */
static double drop_by_fill(goals *g, unsigned elements) {
    enum { WINDOWS = 51 };
    store s;
    uint8_t bytes[ELEMENT] = { 0 };
    uint64_t fills = 0, drops = 0, later = 0;
    open_store(&s);
    for (uint64_t key = 0; key <= WINDOWS; key++) {
        const uint64_t begin = bench_now_ns();
        goals_must(&s.t, kwr_backend_set_key(s.t.backend, (kwr_slice){ &key, 8 }), "key");
        for (unsigned i = 0; i < elements; i++)
            goals_must(&s.t, kwr_list_add(s.lists[0], (kwr_slice){ bytes, ELEMENT }), "add");
        const uint64_t filled = bench_now_ns();
        goals_must(&s.t, kwr_list_clear(s.lists[0]), "clear");
        const uint64_t dropped = bench_now_ns();
        goals_settle(&s.t);
        if (key == 0) continue; /* it touches the memory first */
        fills += filled - begin;
        drops += dropped - filled;
        later += bench_now_ns() - dropped;
    }
    const double each = WINDOWS * (double)elements;
    goals_detail(g,
                 "a window of %u elements: added in %.1f ns each, dropped in %.0f ns and later in "
                 "%.2f ns for each",
                 elements, (double)fills / each, (double)drops / WINDOWS, (double)later / each);
    goals_close(&s.t);
    return (double)(drops + later) / (double)fills;
}

typedef struct least {
    double ratio;
    const char *name, *keys;
} least;

void goals_workloads(goals *g) {
    if (!goals_wanted(g, "P13")) return;
    least sums = { .name = NULL }, lists = { .name = NULL };
    for (workload_operator which = 0; which < WORKLOAD_OPERATORS; which++) {
        for (unsigned zipfian = g->quick ? 1 : 0; zipfian < 2; zipfian++) {
            const workload_options options = { .which = which,
                                               .events = goals_size(g, 80000, 5000000),
                                               .keys = (uint32_t)goals_size(g, 20000, 1000000),
                                               .zipfian = zipfian == 1,
                                               .per_window = 4,
                                               .late_percent = 2,
                                               .seed = g->b.seed + which };
            const double ratio = measure(g, &options);
            const bool sum = which == WORKLOAD_TUMBLING_SUM || which == WORKLOAD_SLIDING_SUM ||
                             which == WORKLOAD_SESSION_SUM;
            least *l = sum ? &sums : &lists;
            if (l->name == NULL || ratio < l->ratio)
                *l = (least){ ratio, workload_name(which), zipfian == 1 ? "Zipf" : "uniform" };
        }
    }
    goals_judge(g, "P13", sums.ratio, GOAL_AT_LEAST, 20,
                "incremental windows against %s; worst: %s, %s", g->b.rocks.text, sums.name,
                sums.keys);
    goals_judge(g, "P13", lists.ratio, GOAL_AT_LEAST, 8,
                "list windows and joins against %s; worst: %s, %s", g->b.rocks.text, lists.name,
                lists.keys);
    const double small = drop_by_fill(g, 1000), large = drop_by_fill(g, 100000);
    goals_judge(g, "P13", small > large ? small : large, GOAL_AT_MOST, 0.02,
                "dropping a window by filling it, the worse of 1000 and 100000 elements");
}
#endif
