/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB through its C API, and nothing else: what a put, a get and a read-modify-write cost on
 * the build that was loaded.
 *
 *     ./dev bench --rocksdb release rocksdb_raw --entries 1000000
 */
#include "bench/bench.h"
#include "bench/peers/rocks_raw.h"

#ifndef KWR_ROCKSDB
int main(void) {
    fprintf(stderr, "rocksdb_raw: built without RocksDB\n");
    return 1;
}
#else

enum { KEY = 16, VALUE = 100 };

typedef struct setup {
    bench b;
    rocks_raw raw;
    uint64_t entries, operations;
    uint8_t *keys; /* in the order of use */
    uint8_t value[VALUE];
} setup;

static void make_key(uint8_t out[KEY], uint64_t number) {
    const uint64_t halves[2] = { bench_mix(number), number };
    memcpy(out, halves, sizeof halves);
}

typedef void (*operation_fn)(setup *s, const uint8_t *key);

static void put(setup *s, const uint8_t *key) {
    memcpy(s->value, key, 8);
    rocks_raw_put(&s->raw, key, KEY, s->value, VALUE);
}
static void get(setup *s, const uint8_t *key) {
    if (rocks_raw_get(&s->raw, key, KEY, s->value, VALUE) != VALUE) exit(1);
}
static void modify(setup *s, const uint8_t *key) {
    get(s, key);
    s->value[8]++;
    rocks_raw_put(&s->raw, key, KEY, s->value, VALUE);
}

static void run(setup *s, const char *what, operation_fn operation) {
    bench_series times = { 0 };
    for (unsigned round = 0; round < 5; round++) {
        const uint64_t start = bench_now_ns();
        for (uint64_t i = 0; i < s->operations / 5; i++)
            operation(s, s->keys + (round * (s->operations / 5) + i) * KEY);
        bench_sample(&times, (double)(bench_now_ns() - start) / ((double)s->operations / 5));
    }
    bench_report(&s->b, what, "ns", &times);
}

int main(int argc, char **argv) {
    setup s = { .entries = 1000000, .operations = 300000 };
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--entries") == 0 && i + 1 < argc)
            s.entries = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--operations") == 0 && i + 1 < argc)
            s.operations = strtoull(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "rocksdb_raw [--json] [--entries N] [--operations N]\n");
            return 2;
        }
    }
    if (s.entries == 0 || s.operations < 5) return 2;
    bench_start(&s.b, "rocksdb_raw", json, 1);
    rocks_raw_open(&s.raw, "build/bench-data/rocksdb-raw", false);
    bench_rng rng = { 1 };
    for (size_t i = 0; i < VALUE; i++)
        s.value[i] = i < VALUE / 2 ? (uint8_t)bench_random(&rng) : 'v';
    const uint64_t start = bench_now_ns();
    uint8_t key[KEY];
    for (uint64_t i = 0; i < s.entries; i++) {
        make_key(key, i);
        put(&s, key);
    }
    bench_series load = { 0 };
    bench_sample(&load, (double)(bench_now_ns() - start) / (double)s.entries);
    bench_report(&s.b, "load", "ns", &load);
    rocks_raw_flush(&s.raw);
    s.keys = malloc(s.operations * KEY);
    if (s.keys == NULL) return 1;
    for (uint64_t i = 0; i < s.operations; i++)
        make_key(s.keys + i * KEY, bench_below(&rng, s.entries));
    run(&s, "get", get);
    run(&s, "put", put);
    run(&s, "modify", modify);
    rocks_raw_close(&s.raw);
    free(s.keys);
    return 0;
}
#endif
