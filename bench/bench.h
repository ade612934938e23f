/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness of all benchmarks: time, random numbers, a histogram of times, repetitions, and the
 * two forms of a result: a line to read, and with --json a line to compare later, with machine,
 * versions, commit and seed.
 *
 * Traps that bind every benchmark: the first touch of memory can cost 30 times its use, so warm up
 * until memory is recycled; a key built on the stack and hashed at once serialises lookups, so keys
 * stand in an array that is read in order; and both sides of a ratio are measured in one run.
 */
#ifndef KWR_BENCH_H
#define KWR_BENCH_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/peers/rocks_build.h"
#include "keyweir/keyweir.h"

/* ---- ending badly ---- */

static inline void bench_must(kwr_status status, const kwr_error *err, const char *what) {
    if (status >= KWR_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, kwr_status_name(status), err == NULL ? "" : err->text);
    exit(1);
}

/* ---- time ---- */

static inline uint64_t bench_clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t bench_now_ns(void) { return bench_clock_ns(CLOCK_MONOTONIC); }

/* ---- random numbers: splitmix64 ---- */

typedef struct bench_rng {
    uint64_t state;
} bench_rng;

static inline uint64_t bench_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
static inline uint64_t bench_random(bench_rng *rng) {
    return bench_mix(rng->state += 0x9e3779b97f4a7c15);
}
static inline uint64_t bench_below(bench_rng *rng, uint64_t n) {
    return (uint64_t)(((unsigned __int128)bench_random(rng) * n) >> 64);
}

/* ---- times: every power of two in 32 steps, so within 3 percent ---- */

enum { BENCH_STEPS = 32, BENCH_BUCKETS = 64 * BENCH_STEPS };

typedef struct bench_times {
    uint64_t count;
    uint64_t sum;
    uint64_t most;
    uint64_t at[BENCH_BUCKETS];
} bench_times;

static inline unsigned bench_bucket(uint64_t ns) {
    if (ns < BENCH_STEPS) return (unsigned)ns;
    const unsigned power = 63 - (unsigned)__builtin_clzll(ns); /* at least 5 */
    return (power - 4) * BENCH_STEPS + (unsigned)((ns >> (power - 5)) & (BENCH_STEPS - 1));
}
/* The largest time of a bucket. */
static inline uint64_t bench_bucket_top(unsigned bucket) {
    if (bucket < BENCH_STEPS) return bucket;
    const unsigned power = bucket / BENCH_STEPS + 4;
    const uint64_t step = bucket % BENCH_STEPS;
    return ((BENCH_STEPS + step + 1) << (power - 5)) - 1;
}
static inline void bench_add(bench_times *times, uint64_t ns) {
    times->count++;
    times->sum += ns;
    if (ns > times->most) times->most = ns;
    times->at[bench_bucket(ns)]++;
}
/* `part` of all times are at most this: 0.5 the median, 0.999 the 99.9th percentile. */
static inline uint64_t bench_quantile(const bench_times *times, double part) {
    const uint64_t rank = (uint64_t)(part * (double)times->count);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < BENCH_BUCKETS; bucket++) {
        seen += times->at[bucket];
        if (seen <= rank) continue;
        const uint64_t top = bench_bucket_top(bucket);
        return top < times->most ? top : times->most;
    }
    return times->most;
}

/* ---- repetitions of one measurement ---- */

enum { BENCH_SAMPLES = 64 };

typedef struct bench_series {
    unsigned count;
    double at[BENCH_SAMPLES]; /* ascending; further samples are left out */
} bench_series;

void bench_sample(bench_series *series, double value);
double bench_median(const bench_series *series);

/* ---- results ---- */

typedef struct bench {
    const char *name;
    bool json;
    uint64_t seed;
    char machine[128];
    rocks_build rocks;
} bench;

/* Prints what is measured where and with what: not with --json, where each line says it. */
void bench_start(bench *b, const char *name, bool json, uint64_t seed);
/* A line to read; not with --json. */
__attribute__((format(printf, 2, 3))) void bench_say(const bench *b, const char *format, ...);
/* One JSON line; `format` makes the fields of this result: "\"entries\":%d". */
__attribute__((format(printf, 3, 4))) void bench_json(const bench *b, const char *what,
                                                      const char *format, ...);
/* Both: the least, the median and the most of a series. */
void bench_report(const bench *b, const char *what, const char *unit, const bench_series *series);

#endif /* KWR_BENCH_H */
