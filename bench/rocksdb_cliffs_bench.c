/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two places where RocksDB falls off, with the settings its users usually have, and with ours.
 *
 * Small values: tables of many small entries have filters of megabytes. With whole filters in a
 * cache of 64 shards a filter is larger than a shard, is never kept, and each lookup reads it anew.
 * Both sides have the same memory, 26 bytes an entry: C2's proportion, 256 MB for 10 M.
 *
 *     ./dev bench rocksdb_cliffs                       a million entries
 *     ./dev bench rocksdb_cliffs --entries 10000000
 *
 * Hot counters: what is added unread is folded by reads, so a key that gets very many adds must not
 * collect them. Half of all adds and reads go to a hundred keys.
 *
 * Deleted neighbours: one live collection among many that are gone. What is looked at must not grow
 * with what was deleted beside it.
 */
#include "bench/bench.h"

#ifndef KWR_ROCKSDB
int main(void) {
    fprintf(stderr, "rocksdb_cliffs: built without RocksDB\n");
    return 1;
}
#else

#include <rocksdb/c.h>

enum { ROUNDS = 9, NUMBER = 8, CACHE_BYTES_EACH = 26, SHARD_BITS_USUAL = 6, BLOOM_BITS = 10 };

typedef struct setup {
    bench b;
    kwr_env *env;
    char root[200];
    char path[256];
    unsigned directories;
    uint64_t entries, operations, neighbours;
} setup;

/* Of this thread: what else runs on the machine, RocksDB's own threads included, is left out. */
static uint64_t cpu_ns(void) { return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID); }

static const char *new_path(setup *s) {
    snprintf(s->path, sizeof s->path, "%s/%u", s->root, s->directories++);
    return s->path;
}

static void raw_must(char *words, const char *what) {
    if (words == NULL) return;
    fprintf(stderr, "%s: %s\n", what, words);
    exit(1);
}

/* Big-endian, as keys of a table come in order; each number once, in a random order. */
static void number_key(uint8_t out[NUMBER], uint64_t number) {
    const uint64_t big = __builtin_bswap64(number);
    memcpy(out, &big, NUMBER);
}
static uint64_t shuffled(uint64_t i, uint64_t count) {
    /* A step that shares no factor with the count goes through all of them. */
    uint64_t step = count / 2 + count / 9 + 1, a = step, b = count;
    for (;;) {
        while (b != 0) {
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return (uint64_t)((unsigned __int128)i * step % count);
        a = ++step;
        b = count;
    }
}

/* ---- small values: the usual settings ---- */

typedef struct raw {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    char path[256];
} raw;

static void raw_open(setup *s, raw *r, uint64_t cache_bytes) {
    char *words = NULL;
    snprintf(r->path, sizeof r->path, "%s", new_path(s));
    rocksdb_lru_cache_options_t *lru = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(lru, cache_bytes);
    rocksdb_lru_cache_options_set_num_shard_bits(lru, SHARD_BITS_USUAL);
    r->cache = rocksdb_cache_create_lru_opts(lru);
    rocksdb_lru_cache_options_destroy(lru);
    r->table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(r->table, r->cache);
    rocksdb_block_based_options_set_filter_policy(
        r->table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(r->table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(r->table, 1);
    r->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(r->options, 1);
    rocksdb_options_set_compression(r->options, rocksdb_lz4_compression);
    /* Several tables of the first level, so that compaction makes new ones of the full size. */
    if (s->entries > 0 && s->entries * 8 < 64 << 20)
        rocksdb_options_set_write_buffer_size(r->options, s->entries * 8);
    rocksdb_options_set_block_based_table_factory(r->options, r->table);
    r->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->write, 1);
    r->read = rocksdb_readoptions_create();
    r->db = rocksdb_open(r->options, r->path, &words);
    raw_must(words, "open");
}

static void raw_close(raw *r) {
    char *words = NULL;
    rocksdb_close(r->db);
    rocksdb_destroy_db(r->options, r->path, &words);
    rocksdb_free(words);
    rocksdb_readoptions_destroy(r->read);
    rocksdb_writeoptions_destroy(r->write);
    rocksdb_block_based_options_destroy(r->table);
    rocksdb_options_destroy(r->options);
    rocksdb_cache_destroy(r->cache);
}

static void raw_put(const raw *r, uint64_t number) {
    char *words = NULL;
    uint8_t key[NUMBER];
    number_key(key, number);
    rocksdb_put(r->db, r->write, (const char *)key, NUMBER, (const char *)key, NUMBER, &words);
    raw_must(words, "put");
}

static void raw_get(const raw *r, uint64_t number) {
    char *words = NULL;
    uint8_t key[NUMBER];
    size_t size;
    number_key(key, number);
    char *value = rocksdb_get(r->db, r->read, (const char *)key, NUMBER, &size, &words);
    raw_must(words, "get");
    if (value == NULL) exit(1);
    rocksdb_free(value);
}

/* ---- small values: ours ---- */

typedef struct task {
    kwr_resources *resources;
    kwr_backend *backend;
    kwr_value *value;
    kwr_reducing *sum; /* write-mostly */
} task;

static void task_open(setup *s, task *t, uint64_t memory_bytes, uint32_t groups) {
    kwr_error err;
    const uint64_t least = kwr_rocksdb_memory_min(1);
    const kwr_resources_options pool = { .struct_size = sizeof pool,
                                         .rocksdb_memory_bytes =
                                             memory_bytes < least ? least : memory_bytes };
    bench_must(kwr_resources_open(s->env, &pool, &t->resources, &err), &err, "resources");
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = s->env,
                                          .resources = t->resources,
                                          .engine = "rocksdb",
                                          .max_parallelism = groups,
                                          .seed = s->b.seed,
                                          .directory = new_path(s) };
    bench_must(kwr_backend_open(&options, &t->backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t->backend, &value, &t->value, &err), &err, "state");
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = { .kind = KWR_TYPE_U64 },
                                          .reduce = KWR_REDUCE_SUM,
                                          .write_mostly = true };
    bench_must(kwr_reducing_open(t->backend, &sum, &t->sum, &err), &err, "sum");
}

static void task_close(task *t) {
    kwr_backend_close(t->backend);
    kwr_resources_close(t->resources);
}

static void task_must(const task *t, kwr_status status, const char *what) {
    bench_must(status, kwr_backend_error(t->backend), what);
}

static void task_key(const task *t, uint64_t number) {
    uint8_t key[NUMBER];
    number_key(key, number);
    task_must(t, kwr_backend_set_key(t->backend, (kwr_slice){ key, NUMBER }), "key");
}

static void task_put(const task *t, uint64_t number) {
    task_key(t, number);
    task_must(t, kwr_value_put(t->value, (kwr_slice){ &number, sizeof number }), "put");
}

static void task_get(const task *t, uint64_t number) {
    kwr_slice got;
    task_key(t, number);
    const kwr_status status = kwr_value_get(t->value, &got);
    task_must(t, status, "get");
    if (status != KWR_OK) exit(1);
}

static void task_add(const task *t, uint64_t number) {
    const uint64_t one = 1;
    task_key(t, number);
    task_must(t, kwr_reducing_add(t->sum, (kwr_slice){ &one, sizeof one }, NULL), "add");
}

static void task_sum(const task *t, uint64_t number) {
    kwr_slice got;
    task_key(t, number);
    task_must(t, kwr_reducing_get(t->sum, &got), "get");
}

/* ---- small values: rounds ---- */

typedef struct side {
    const char *name;
    void (*put)(const void *ctx, uint64_t number);
    void (*get)(const void *ctx, uint64_t number);
    const void *ctx;
    bool hot; /* half of it to a hundred keys, and as many updates as reads */
} side;

static void put_raw(const void *ctx, uint64_t number) { raw_put(ctx, number); }
static void get_raw(const void *ctx, uint64_t number) { raw_get(ctx, number); }
static void put_task(const void *ctx, uint64_t number) { task_put(ctx, number); }
static void get_task(const void *ctx, uint64_t number) { task_get(ctx, number); }
static void add_task(const void *ctx, uint64_t number) { task_add(ctx, number); }
static void sum_task(const void *ctx, uint64_t number) { task_sum(ctx, number); }

static uint64_t pick(const setup *s, const side *x, bench_rng *rng) {
    enum { HOT = 100 };
    if (x->hot && bench_below(rng, 2) == 0)
        return bench_below(rng, HOT) * (s->entries / HOT) % s->entries;
    return bench_below(rng, s->entries);
}

/* Of each round some updates, so that tables come and go, then reads, which are timed. */
static void run_side(setup *s, const side *x) {
    bench_series rounds = { 0 };
    bench_rng rng = { s->b.seed };
    double worst = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < (x->hot ? s->operations : s->operations / 4); i++)
            x->put(x->ctx, pick(s, x, &rng));
        const uint64_t start = cpu_ns();
        for (uint64_t i = 0; i < s->operations; i++)
            x->get(x->ctx, pick(s, x, &rng));
        const double each = (double)(cpu_ns() - start) / (double)s->operations;
        bench_sample(&rounds, each);
        if (each > worst) worst = each;
    }
    char what[64];
    snprintf(what, sizeof what, "get, %s", x->name);
    bench_report(&s->b, what, "ns", &rounds);
    const double ratio = worst / bench_median(&rounds);
    bench_say(&s->b, "  %s: worst round %.2f of the median\n", x->name, ratio);
    bench_json(&s->b, "worst round", "\"side\":\"%s\",\"ratio\":%.3f", x->name, ratio);
}

static void small_values(setup *s) {
    raw r;
    task t;
    const uint64_t cache = s->entries * CACHE_BYTES_EACH;
    bench_say(&s->b, "%" PRIu64 " entries of %d + %d bytes, %.0f MB of cache\n", s->entries, NUMBER,
              NUMBER, (double)cache / 1e6);
    raw_open(s, &r, cache);
    for (uint64_t i = 0; i < s->entries; i++)
        raw_put(&r, shuffled(i, s->entries));
    /* As tables are after a while: of the full size. */
    rocksdb_compact_range(r.db, NULL, 0, NULL, 0);
    run_side(s, &(side){ .name = "usual", .put = put_raw, .get = get_raw, .ctx = &r });
    raw_close(&r);
    task_open(s, &t, cache + cache / 2, 128);
    for (uint64_t i = 0; i < s->entries; i++)
        task_put(&t, shuffled(i, s->entries));
    run_side(s, &(side){ .name = "keyweir", .put = put_task, .get = get_task, .ctx = &t });
    task_close(&t);
    task_open(s, &t, cache + cache / 2, 128);
    for (uint64_t i = 0; i < s->entries; i++)
        task_add(&t, shuffled(i, s->entries));
    run_side(
        s, &(side){
               .name = "hot counters", .put = add_task, .get = sum_task, .ctx = &t, .hot = true });
    task_close(&t);
}

/* ---- deleted neighbours ---- */

/* All of them in one key group. The live collection is in the middle of the others. */
typedef struct crowd {
    task t;
    kwr_map *map;
    uint64_t live;
} crowd;

static void look(setup *s, crowd *c, bench_series *series, uint64_t key) {
    const unsigned times = 200;
    const uint64_t start = cpu_ns();
    for (unsigned i = 0; i < times; i++) {
        kwr_map_iterator *it;
        kwr_slice user, value;
        task_key(&c->t, key);
        task_must(&c->t, kwr_map_iterate(c->map, &it), "iterate");
        while (kwr_map_iterator_next(it, &user, &value) == KWR_OK)
            continue;
        kwr_map_iterator_free(it);
        /* A write, so that the next look is by a new iterator. */
        task_key(&c->t, c->live);
        task_must(&c->t, kwr_map_put(c->map, (kwr_slice){ "0", 1 }, (kwr_slice){ "v", 1 }), "put");
    }
    bench_sample(series, (double)(cpu_ns() - start) / times);
    (void)s;
}

static void say_looks(setup *s, crowd *c, const char *when) {
    bench_series live = { 0 }, gone = { 0 };
    for (unsigned round = 0; round < 5; round++) {
        look(s, c, &live, c->live);
        look(s, c, &gone, c->live + 1); /* cleared itself, or never there */
    }
    char what[80];
    snprintf(what, sizeof what, "%s: walk of 1 element", when);
    bench_report(&s->b, what, "ns", &live);
    snprintf(what, sizeof what, "%s: walk of nothing", when);
    bench_report(&s->b, what, "ns", &gone);
}

/* The prefix iteration many write: seek, and look whether the key still begins with the prefix. */
static void raw_neighbours(setup *s) {
    raw r;
    bench_series series = { 0 };
    raw_open(s, &r, 64 << 20);
    for (uint64_t i = 0; i < s->neighbours; i++)
        raw_put(&r, i);
    for (uint64_t i = 0; i < s->neighbours; i++) {
        char *words = NULL;
        uint8_t key[NUMBER];
        number_key(key, i);
        if (i == s->neighbours / 2) continue;
        rocksdb_delete(r.db, r.write, (const char *)key, NUMBER, &words);
        raw_must(words, "delete");
    }
    for (unsigned round = 0; round < 5; round++) {
        uint8_t key[NUMBER];
        number_key(key, s->neighbours / 2 + 1);
        const uint64_t start = cpu_ns();
        rocksdb_iterator_t *it = rocksdb_create_iterator(r.db, r.read);
        rocksdb_iter_seek(it, (const char *)key, NUMBER);
        if (rocksdb_iter_valid(it)) exit(1); /* it has walked to the end */
        bench_sample(&series, (double)(cpu_ns() - start));
        rocksdb_iter_destroy(it);
    }
    bench_report(&s->b, "unbounded, deleted: seek of nothing", "ns", &series);
    raw_close(&r);
}

static void neighbours(setup *s) {
    crowd c = { .live = s->neighbours / 2 };
    bench_say(&s->b, "%" PRIu64 " neighbours in one key group\n", s->neighbours);
    raw_neighbours(s);
    task_open(s, &c.t, 96 << 20, 1);
    kwr_error err;
    const kwr_map_descriptor map = { .struct_size = sizeof map, .name = "map" };
    bench_must(kwr_map_open(c.t.backend, &map, &c.map, &err), &err, "map");
    task_key(&c.t, c.live);
    task_must(&c.t, kwr_map_put(c.map, (kwr_slice){ "0", 1 }, (kwr_slice){ "v", 1 }), "put");
    say_looks(s, &c, "alone");
    for (uint64_t i = 0; i < s->neighbours; i++) {
        if (i == c.live || i == c.live + 1) continue;
        task_key(&c.t, i);
        task_must(&c.t, kwr_map_put(c.map, (kwr_slice){ "0", 1 }, (kwr_slice){ "v", 1 }), "put");
    }
    say_looks(s, &c, "in a crowd");
    for (uint64_t i = 0; i < s->neighbours; i++) {
        if (i == c.live || i == c.live + 1) continue;
        task_key(&c.t, i);
        task_must(&c.t, kwr_map_clear(c.map), "clear");
    }
    say_looks(s, &c, "crowd deleted");
    /* One neighbour with as many elements, deleted as a range. */
    for (uint64_t i = 0; i < s->neighbours; i++) {
        uint8_t user[NUMBER];
        number_key(user, i);
        task_key(&c.t, c.live - 1);
        task_must(&c.t, kwr_map_put(c.map, (kwr_slice){ user, NUMBER }, (kwr_slice){ "v", 1 }),
                  "put");
    }
    task_key(&c.t, c.live - 1);
    task_must(&c.t, kwr_map_clear(c.map), "clear");
    say_looks(s, &c, "large one deleted");
    task_close(&c.t);
}

/* Timers are popped from the front, the pattern that walks its own tombstones. */
static void timers(setup *s) {
    task t;
    kwr_error err;
    kwr_timers *timers = NULL;
    kwr_timer due;
    enum { PARTS = 10 };
    bench_series parts = { 0 };
    double first = 0, last = 0;
    task_open(s, &t, 96 << 20, 1);
    const kwr_timers_descriptor d = { .struct_size = sizeof d, .name = "timers" };
    bench_must(kwr_timers_open(t.backend, &d, &timers, &err), &err, "timers");
    for (uint64_t i = 0; i < s->neighbours; i++) {
        task_key(&t, i % 1000);
        task_must(&t, kwr_timers_register(timers, KWR_EVENT_TIME, (int64_t)i), "register");
    }
    for (unsigned part = 0; part < PARTS; part++) {
        const uint64_t start = cpu_ns();
        for (uint64_t i = 0; i < s->neighbours / PARTS; i++)
            task_must(&t, kwr_timers_pop_due(timers, KWR_EVENT_TIME, INT64_MAX, &due), "pop");
        last = (double)(cpu_ns() - start) / ((double)s->neighbours / PARTS);
        if (part == 0) first = last;
        bench_sample(&parts, last);
    }
    bench_report(&s->b, "timers popped from the front", "ns", &parts);
    bench_say(&s->b, "  last tenth %.2f of the first\n", last / first);
    bench_json(&s->b, "timers", "\"first_ns\":%.0f,\"last_ns\":%.0f", first, last);
    task_close(&t);
}

/* ---- all of it ---- */

int main(int argc, char **argv) {
    setup s = { .entries = 1000000, .operations = 50000, .neighbours = 1000000 };
    bool json = false;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--entries") == 0)
            s.entries = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--operations") == 0)
            s.operations = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--neighbours") == 0)
            s.neighbours = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(value, NULL, 10), i++;
        else {
            fprintf(stderr, "rocksdb_cliffs [--json] [--seed N] [--entries N] [--operations N] "
                            "[--neighbours N]\n"
                            "  0 entries or neighbours: without that part\n");
            return 2;
        }
    }
    if ((s.entries > 0 && s.operations < 4) || (s.neighbours > 0 && s.neighbours < 100)) return 2;
    kwr_error err;
    bench_start(&s.b, "rocksdb_cliffs", json, seed);
    bench_must(kwr_env_posix_open(NULL, &s.env, &err), &err, "environment");
    const char *base = getenv("TMPDIR");
    snprintf(s.root, sizeof s.root, "%s/cliffs-bench-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(s.root) == NULL) return 1;
    if (s.entries > 0) small_values(&s);
    if (s.neighbours > 0) {
        neighbours(&s);
        timers(&s);
    }
    (void)rmdir(s.root);
    kwr_env_posix_close(s.env);
    return 0;
}

#endif /* KWR_ROCKSDB */
