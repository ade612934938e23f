/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our engine rocksdb costs over the raw C API doing the same: values, lists, reducing state
 * and key batches, through the public API on one side and straight on the other. Both sides have
 * the same options, because the raw side's database is opened by the engine too, and the same
 * stored keys; rounds of the two alternate. Times are of the calling thread, wall and CPU.
 *
 *     ./dev bench --rocksdb release rocksdb --entries 1000000
 */
#include "bench/bench.h"

#ifndef KWR_ROCKSDB
int main(void) {
    fprintf(stderr, "rocksdb: built without RocksDB\n");
    return 1;
}
#else

#include <sys/stat.h>

#include "backend/core.h"
#include "backend/rocksdb/rocks.h"

enum { KEY = 16, STORED = KEY + 4, VALUE = 100, ELEMENT = 32, BATCH = 32, ROUNDS = 20 };
enum { VALUES, LISTS, SUMS, MODIFIED_SUMS, WHOLE_LISTS, FAMILIES };

typedef struct setup {
    bench b;
    kwr_env *env;
    uint64_t entries, operations; /* operations of one round */
    const char *only;             /* comparisons whose name begins so; NULL: all */
    kwr_backend *ours, *raw;      /* of the second only the database is used */
    kwr_value *value;
    kwr_list *list;
    kwr_reducing *sum, *modified_sum;
    kwr_key_batch *batch;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[FAMILIES];
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    uint8_t *keys; /* stored form: key group, size, key, size of the namespace */
    size_t *order;
    uint8_t bytes[VALUE];
    uint8_t *whole; /* room for a list as one value */
    uint64_t sink;
} setup;

static const uint8_t *stored_key(const setup *s, size_t at) { return s->keys + at * STORED; }
static kwr_slice key_of(const setup *s, size_t at) {
    return (kwr_slice){ stored_key(s, at) + 3, KEY };
}
static void must_words(char *words) {
    if (words == NULL) return;
    fprintf(stderr, "rocksdb: %s\n", words);
    exit(1);
}
static void must(kwr_status status) { bench_must(status, NULL, "keyweir"); }

/* ---- the raw side ---- */

static void raw_put(setup *s, int family, size_t at, const void *value, size_t size) {
    char *words = NULL;
    rocksdb_put_cf(s->db, s->write, s->families[family], (const char *)stored_key(s, at), STORED,
                   value, size, &words);
    must_words(words);
}
static void raw_merge(setup *s, int family, size_t at, const void *operand, size_t size) {
    char *words = NULL;
    rocksdb_merge_cf(s->db, s->write, s->families[family], (const char *)stored_key(s, at), STORED,
                     operand, size, &words);
    must_words(words);
}
static size_t raw_get(setup *s, int family, size_t at, void *out, size_t capacity) {
    char *words = NULL;
    rocksdb_pinnableslice_t *pinned = rocksdb_get_pinned_cf(
        s->db, s->read, s->families[family], (const char *)stored_key(s, at), STORED, &words);
    must_words(words);
    if (pinned == NULL) return 0;
    size_t size = 0;
    const char *value = rocksdb_pinnableslice_value(pinned, &size);
    if (size > capacity) exit(1);
    memcpy(out, value, size);
    rocksdb_pinnableslice_destroy(pinned);
    return size;
}

/* ---- the operations, ours and raw; each for a key by its number ---- */

static void ours_get(setup *s, size_t at) {
    kwr_slice got;
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_value_get(s->value, &got));
    memcpy(s->bytes, got.data, got.size);
}
static void raw_get_value(setup *s, size_t at) {
    if (raw_get(s, VALUES, at, s->bytes, VALUE) != VALUE) exit(1);
}

static void ours_put(setup *s, size_t at) {
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_value_put(s->value, (kwr_slice){ s->bytes, VALUE }));
}
static void raw_put_value(setup *s, size_t at) { raw_put(s, VALUES, at, s->bytes, VALUE); }

static void ours_modify(setup *s, size_t at) {
    void *bytes;
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_value_modify(s->value, KWR_KEEP_SIZE, &bytes, NULL));
    ++*(uint8_t *)bytes;
}
static void raw_modify_value(setup *s, size_t at) {
    raw_get_value(s, at);
    s->bytes[0]++;
    raw_put_value(s, at);
}

static void ours_append(setup *s, size_t at) {
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_list_add(s->list, (kwr_slice){ s->bytes, ELEMENT }));
}
static void raw_append(setup *s, size_t at) {
    uint8_t operand[ROCKS_APPEND_SIZE + 1 + ELEMENT] = { ROCKS_APPEND, 1, 0, 0, 0, ELEMENT };
    memcpy(operand + ROCKS_APPEND_SIZE + 1, s->bytes, ELEMENT);
    raw_merge(s, LISTS, at, operand, sizeof operand);
}
/* The list as one value, read and written. */
static void raw_read_write(setup *s, size_t at) {
    const size_t size = raw_get(s, WHOLE_LISTS, at, s->whole, 1 << 24);
    memcpy(s->whole + size, s->bytes, ELEMENT);
    raw_put(s, WHOLE_LISTS, at, s->whole, size + ELEMENT);
}

static void ours_read_list(setup *s, size_t at) {
    kwr_list_iterator *it;
    kwr_slice got;
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_list_iterate(s->list, &it));
    while (kwr_list_iterator_next(it, &got) == KWR_OK)
        s->sink += *(const uint8_t *)got.data;
    kwr_list_iterator_free(it);
}
/* The elements where the value is pinned, each behind its size: none of them is copied. */
static void raw_read_list(setup *s, size_t at) {
    char *words = NULL;
    rocksdb_pinnableslice_t *pinned = rocksdb_get_pinned_cf(
        s->db, s->read, s->families[LISTS], (const char *)stored_key(s, at), STORED, &words);
    must_words(words);
    if (pinned == NULL) return;
    size_t size = 0;
    const uint8_t *bytes = (const uint8_t *)rocksdb_pinnableslice_value(pinned, &size);
    for (size_t i = ROCKS_LIST_HEAD_SIZE; i < size; i += 1U + bytes[i]) {
        if (bytes[i] >= 0x80 || bytes[i] >= size - i) exit(1);
        s->sink += bytes[i + 1];
    }
    rocksdb_pinnableslice_destroy(pinned);
}

static void ours_add(setup *s, size_t at) {
    const int64_t one = 1;
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_reducing_add(s->sum, (kwr_slice){ &one, sizeof one }, NULL));
}
static void raw_add(setup *s, size_t at) {
    const uint8_t operand[ROCKS_FOLD_SIZE + 8] = { ROCKS_FOLD, KWR_TYPE_I64, KWR_REDUCE_SUM, 1 };
    raw_merge(s, SUMS, at, operand, sizeof operand);
}
static void ours_add_read(setup *s, size_t at) {
    const int64_t one = 1;
    must(kwr_backend_set_key(s->ours, key_of(s, at)));
    must(kwr_reducing_add(s->modified_sum, (kwr_slice){ &one, sizeof one }, NULL));
}
static void raw_add_read(setup *s, size_t at) {
    int64_t sum = 0;
    (void)raw_get(s, MODIFIED_SUMS, at, &sum, sizeof sum);
    sum++;
    raw_put(s, MODIFIED_SUMS, at, &sum, sizeof sum);
}

/* ---- key batches: BATCH keys from `at` in the order of use ---- */

static void ours_batch(setup *s, const size_t *order) {
    kwr_slice keys[BATCH], got;
    kwr_state *const states[] = { kwr_value_state(s->value) };
    for (size_t i = 0; i < BATCH; i++)
        keys[i] = key_of(s, order[i]);
    must(kwr_key_batch_load(s->batch, keys, NULL, BATCH));
    kwr_key_batch_prefetch(s->batch, states, 1);
    for (size_t i = 0; i < BATCH; i++) {
        must(kwr_key_batch_select(s->batch, i));
        must(kwr_value_get(s->value, &got));
        memcpy(s->bytes, got.data, got.size);
    }
}
static void raw_batch(setup *s, const size_t *order) {
    const char *keys[BATCH];
    size_t sizes[BATCH];
    rocksdb_pinnableslice_t *values[BATCH];
    char *words[BATCH] = { 0 };
    for (size_t i = 0; i < BATCH; i++) {
        keys[i] = (const char *)stored_key(s, order[i]);
        sizes[i] = STORED;
    }
    rocksdb_batched_multi_get_cf(s->db, s->read, s->families[VALUES], BATCH, keys, sizes, values,
                                 words, false);
    for (size_t i = 0; i < BATCH; i++) {
        must_words(words[i]);
        size_t size = 0;
        memcpy(s->bytes, rocksdb_pinnableslice_value(values[i], &size), VALUE);
        rocksdb_pinnableslice_destroy(values[i]);
    }
}
/* What gathering the writes of BATCH records would bring. */
static void raw_write_batch(setup *s, const size_t *order) {
    char *words = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < BATCH; i++)
        rocksdb_writebatch_put_cf(batch, s->families[VALUES], (const char *)stored_key(s, order[i]),
                                  STORED, (const char *)s->bytes, VALUE);
    rocksdb_write(s->db, s->write, batch, &words);
    must_words(words);
    rocksdb_writebatch_destroy(batch);
}

static void raw_append_batch(setup *s, const size_t *order) {
    char *words = NULL;
    uint8_t operand[ROCKS_APPEND_SIZE + 1 + ELEMENT] = { ROCKS_APPEND, 1, 0, 0, 0, ELEMENT };
    memcpy(operand + ROCKS_APPEND_SIZE + 1, s->bytes, ELEMENT);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < BATCH; i++)
        rocksdb_writebatch_merge_cf(batch, s->families[LISTS],
                                    (const char *)stored_key(s, order[i]), STORED,
                                    (const char *)operand, sizeof operand);
    rocksdb_write(s->db, s->write, batch, &words);
    must_words(words);
    rocksdb_writebatch_destroy(batch);
}

/* ---- measuring ---- */

typedef struct side {
    void (*one)(setup *s, size_t at);
    void (*many)(setup *s, const size_t *order);
    bench_series wall, cpu;
} side;

static void run_side(setup *s, side *on) {
    const uint64_t wall = bench_now_ns(), cpu = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < s->operations; i += on->many != NULL ? BATCH : 1) {
        if (on->many != NULL)
            on->many(s, s->order + i);
        else
            on->one(s, s->order[i]);
    }
    const double each = 1.0 / (double)s->operations;
    bench_sample(&on->wall, (double)(bench_now_ns() - wall) * each);
    bench_sample(&on->cpu, (double)(bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu) * each);
}

/* Rounds of both in turns, over the same keys. `span`: keys that are used. */
static void compare(setup *s, const char *what, side ours, side raw, uint64_t span, double goal) {
    if (s->only != NULL && strncmp(what, s->only, strlen(s->only)) != 0) return;
    bench_rng rng = { bench_mix(span) };
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < s->operations; i++)
            s->order[i] = bench_below(&rng, span);
        run_side(s, round % 2 == 0 ? &ours : &raw);
        run_side(s, round % 2 == 0 ? &raw : &ours);
    }
    const double wall = bench_median(&ours.wall), raw_wall = bench_median(&raw.wall);
    const double cpu = bench_median(&ours.cpu), raw_cpu = bench_median(&raw.cpu);
    bench_say(&s->b,
              "%-26s ours %8.0f ns, raw %8.0f ns: %.2f; CPU %8.0f and %8.0f ns: %.2f (goal %.2f)\n",
              what, wall, raw_wall, wall / raw_wall, cpu, raw_cpu, cpu / raw_cpu, goal);
    bench_json(&s->b, what,
               "\"ours_ns\":%.0f,\"raw_ns\":%.0f,\"ratio\":%.3f,\"ours_cpu_ns\":%.0f,"
               "\"raw_cpu_ns\":%.0f,\"cpu_ratio\":%.3f,\"goal\":%.2f,\"entries\":%" PRIu64,
               wall, raw_wall, wall / raw_wall, cpu, raw_cpu, cpu / raw_cpu, goal, s->entries);
}

/* ---- opening ---- */

static kwr_backend *open_backend(setup *s, const char *directory) {
    kwr_backend *backend;
    kwr_error err;
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = s->env,
                                          .engine = "rocksdb",
                                          .max_parallelism = 128,
                                          .directory = directory };
    bench_must(kwr_backend_open(&options, &backend, &err), &err, "open");
    return backend;
}

/* The states of both sides: families in the order of their numbers. */
static void open_states(setup *s, kwr_backend *backend) {
    kwr_error err;
    kwr_list *whole;
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    const kwr_list_descriptor list = { .struct_size = sizeof list, .name = "list" };
    kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                    .name = "sum",
                                    .type = { .kind = KWR_TYPE_I64 },
                                    .reduce = KWR_REDUCE_SUM,
                                    .write_mostly = true };
    const kwr_list_descriptor other = { .struct_size = sizeof other, .name = "whole" };
    bench_must(kwr_value_open(backend, &value, &s->value, &err), &err, "value");
    bench_must(kwr_list_open(backend, &list, &s->list, &err), &err, "list");
    bench_must(kwr_reducing_open(backend, &sum, &s->sum, &err), &err, "sum");
    sum.name = "modified sum";
    sum.write_mostly = false;
    bench_must(kwr_reducing_open(backend, &sum, &s->modified_sum, &err), &err, "modified sum");
    bench_must(kwr_list_open(backend, &other, &whole, &err), &err, "whole");
}

static void open_both(setup *s) {
    kwr_error err;
    const kwr_posix_options posix = { .struct_size = sizeof posix };
    bench_must(kwr_env_posix_open(&posix, &s->env, &err), &err, "environment");
    char first[64], second[64];
    (void)mkdir("build", 0777), (void)mkdir("build/bench-data", 0777);
    snprintf(first, sizeof first, "build/bench-data/rocksdb-ours-%ld", (long)getpid());
    snprintf(second, sizeof second, "build/bench-data/rocksdb-same-%ld", (long)getpid());
    s->raw = open_backend(s, second);
    open_states(s, s->raw);
    const kwr_engine_ops *ops;
    const kwr_engine *engine = kwr_backend_engine(s->raw, &ops);
    s->db = engine->db->db;
    s->write = engine->db->write;
    s->read = rocksdb_readoptions_create();
    for (size_t i = 0; i < FAMILIES; i++)
        s->families[i] = engine->states[i].family;
    s->ours = open_backend(s, first);
    open_states(s, s->ours);
    must(kwr_key_batch_new(s->ours, BATCH, &s->batch));
}

/* Flushed and compacted, so that reads of both sides find their data in tables of one shape. When
 * memtables are flushed is not what is compared. */
static void settle(kwr_backend *backend) {
    kwr_view *view;
    must(kwr_backend_freeze(backend, &view)); /* stores what our engine holds back */
    kwr_view_release(view);
    char *words = NULL;
    const kwr_engine_ops *ops;
    const kwr_engine *engine = kwr_backend_engine(backend, &ops);
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    for (size_t i = 0; i < FAMILIES; i++)
        rocksdb_flush_cf(engine->db->db, options, engine->states[i].family, &words);
    must_words(words);
    rocksdb_flushoptions_destroy(options);
    for (size_t i = 0; i < FAMILIES; i++)
        rocksdb_compact_range_cf(engine->db->db, engine->states[i].family, NULL, 0, NULL, 0);
}

static void load(setup *s) {
    bench_rng rng = { 7 };
    for (uint64_t i = 0; i < s->entries; i++) {
        uint8_t *key = s->keys + i * STORED;
        const uint64_t halves[2] = { bench_mix(i), i };
        memcpy(key + 3, halves, KEY);
        const uint32_t group = kwr_key_group((kwr_slice){ key + 3, KEY }, 0, 128);
        key[0] = (uint8_t)(group >> 8), key[1] = (uint8_t)group, key[2] = KEY, key[3 + KEY] = 0;
        for (size_t k = 0; k < VALUE / 2; k++)
            s->bytes[k] = (uint8_t)bench_random(&rng);
        ours_put(s, i);
        raw_put_value(s, i);
    }
    settle(s->ours);
    settle(s->raw);
}

/* So many lists that each has `length` elements on average while this runs, none at first. */
static void compare_rewriting(setup *s, uint64_t length) {
    char what[48];
    const side ours = { .one = ours_append }, raw = { .one = raw_read_write };
    const uint64_t lists = s->operations * ROUNDS / (2 * length) + 1;
    snprintf(what, sizeof what, "append, rewrite of %" PRIu64, length);
    for (uint64_t i = 0; i < lists && i < s->entries; i++) {
        must(kwr_backend_set_key(s->ours, key_of(s, i)));
        must(kwr_list_clear(s->list));
        char *words = NULL;
        rocksdb_delete_cf(s->db, s->write, s->families[WHOLE_LISTS], (const char *)stored_key(s, i),
                          STORED, &words);
        must_words(words);
    }
    settle(s->ours);
    settle(s->raw);
    compare(s, what, ours, raw, lists < s->entries ? lists : s->entries, 0.5);
}

static void run_all(setup *s) {
    const uint64_t lists = s->entries / 20 + 1;
#define BOTH(a, b) \
    (side){ .one = (a) }, (side) { .one = (b) }
    compare(s, "value get", BOTH(ours_get, raw_get_value), s->entries, 1.15);
    compare(s, "value get, batch of 32", (side){ .many = ours_batch }, (side){ .many = raw_batch },
            s->entries, 1.15);
    compare(s, "value put", BOTH(ours_put, raw_put_value), s->entries, 1.15);
    compare(s, "value modify", BOTH(ours_modify, raw_modify_value), s->entries, 1.15);
    compare(s, "raw put: batch of 32", (side){ .many = raw_write_batch },
            (side){ .one = raw_put_value }, s->entries, 1.0);
    compare(s, "list append", BOTH(ours_append, raw_append), lists, 1.15);
    settle(s->ours);
    settle(s->raw);
    compare(s, "list read", BOTH(ours_read_list, raw_read_list), lists, 1.15);
    compare(s, "raw append: batch of 32", (side){ .many = raw_append_batch },
            (side){ .one = raw_append }, lists, 1.0);
    for (uint64_t length = 10; length <= 250; length *= 5)
        compare_rewriting(s, length);
    compare(s, "sum add, write-mostly", BOTH(ours_add, raw_add), s->entries, 1.15);
    compare(s, "sum add, read", BOTH(ours_add_read, raw_add_read), s->entries, 1.15);
#undef BOTH
}

int main(int argc, char **argv) {
    setup s = { .entries = 200000, .operations = 10000 };
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--entries") == 0 && i + 1 < argc)
            s.entries = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--operations") == 0 && i + 1 < argc)
            s.operations = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            s.only = argv[++i];
        else {
            fprintf(stderr, "rocksdb [--json] [--entries N] [--operations N] [--only NAME]\n");
            return 2;
        }
    }
    s.operations = (s.operations + BATCH - 1) / BATCH * BATCH;
    if (s.entries == 0 || s.operations == 0) return 2;
    bench_start(&s.b, "rocksdb", json, 1);
    s.keys = malloc(s.entries * STORED);
    s.order = malloc(s.operations * sizeof *s.order);
    s.whole = malloc((1 << 24) + ELEMENT);
    if (s.keys == NULL || s.order == NULL || s.whole == NULL) return 1;
    open_both(&s);
    load(&s);
    run_all(&s);
    rocksdb_readoptions_destroy(s.read);
    kwr_key_batch_free(s.batch);
    kwr_backend_close(s.ours);
    kwr_backend_close(s.raw);
    kwr_env_posix_close(s.env);
    free(s.keys);
    free(s.order);
    free(s.whole);
    return s.sink == 1;
}
#endif
