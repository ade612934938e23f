/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers to reach, measured: each goal is a ratio of two sides that took turns in one run, or
 * several, and one line of the output. What goals share: sizes, one task's backend, its keys, and
 * the verdict.
 */
#ifndef KWR_BENCH_GOALS_H
#define KWR_BENCH_GOALS_H

#include "bench/bench.h"

enum { GOALS_MAX = 14 }; /* P1 to P13 */

typedef struct goals {
    bench b;
    bool quick;            /* small sizes, few repetitions */
    bool verbose;          /* each measurement behind the ratios */
    unsigned percent;      /* of the quick sizes: 100, less for a trial of the harness itself */
    const char *dir;       /* for databases and snapshots */
    const char *only;      /* "P1,P4", or NULL: all */
    unsigned judged, held; /* limits */
    struct goal_sum {
        unsigned limits, held, missing;
        bool holds;
        double slack; /* of the limit that is nearest to its bound, or farthest beyond: above 1 */
        char text[320];
    } sums[GOALS_MAX];
} goals;

/* `quick` scaled down for trials, or `full`. */
uint64_t goals_size(const goals *g, uint64_t quick, uint64_t full);

typedef enum goal_kind { GOAL_AT_MOST, GOAL_AT_LEAST } goal_kind;

/* One limit of a goal. Told with --verbose; of each goal, the limit that is nearest to its bound or
 * farthest beyond makes its line: "P1 ratio=1.12 goal<=1.3 holds   (text)". */
__attribute__((format(printf, 6, 7))) void goals_judge(goals *g, const char *id, double ratio,
                                                       goal_kind kind, double goal,
                                                       const char *format, ...);
/* A limit that cannot be measured here. */
__attribute__((format(printf, 3, 4))) void goals_not_yet(goals *g, const char *id,
                                                         const char *format, ...);
/* One measurement behind a ratio. */
__attribute__((format(printf, 2, 3))) void goals_detail(const goals *g, const char *format, ...);

/* ---- a task ---- */

typedef struct goals_task {
    kwr_env *env;
    kwr_resources *resources;
    kwr_backend *backend;
    kwr_value *value;
    uint64_t entries;
    size_t key_size, value_size; /* at most 64, 256 */
} goals_task;

enum { GOALS_KEY_MAX = 64, GOALS_VALUE_MAX = 256 };
/* What a RocksDB of bench/peers/rocks_raw.h may have: its cache and three memtables. */
#define GOALS_ROCKSDB_BYTES ((uint64_t)(256 + 3 * 64) << 20)

/* An empty backend of one value state. `directory` for the engine "rocksdb". */
void goals_open(goals_task *t, const char *engine, const char *directory, size_t key_size,
                size_t value_size);
/* The same with `threads` computing. */
void goals_open_threads(goals_task *t, const char *engine, const char *directory, size_t key_size,
                        size_t value_size, uint32_t threads);
void goals_fill(goals_task *t, uint64_t entries);
void goals_close(goals_task *t);
void goals_settle(goals_task *t); /* deferred work done */
void goals_must(goals_task *t, kwr_status status, const char *what);

/* Writes once to so much memory and gives it back. What a virtual machine has not written to, its
 * host has to find at the first write, which can take thirty times as long as clearing it, and
 * after seconds the host may have it again: so just before what is measured. */
void goals_touch_memory(uint64_t size);

/* The key of entry `number`. */
void goals_key(uint8_t *out, size_t size, uint64_t number);
/* A value of which half compresses. */
void goals_value(uint8_t *out, size_t size, uint64_t number);
/* `count` keys in the order of use, of `entries` drawn evenly or by Zipf's law with 0.99. */
uint8_t *goals_stream(size_t key_size, uint64_t entries, size_t count, bool zipfian, uint64_t seed);
/* Removes what runs of this program left in `dir`/`name` and gives the path. */
const char *goals_dir(const goals *g, const char *name);

/* ---- the goals ---- */

void goals_values(goals *g);     /* P1, P2, P3 */
void goals_freezes(goals *g);    /* P4 */
void goals_snapshots(goals *g);  /* P5, P7 */
void goals_increments(goals *g); /* P6 */
void goals_lazy(goals *g);       /* P8 */
void goals_rescale(goals *g);    /* P9 */
void goals_memory(goals *g);     /* P10 */
void goals_engine(goals *g);     /* P11 */
void goals_workloads(goals *g);  /* P13 */

bool goals_wanted(const goals *g, const char *id);

#endif /* KWR_BENCH_GOALS_H */
