/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operators of a stream job do to their state, as a trace: tumbling, sliding and session
 * windows, window joins and interval joins over a generated stream of events. Unlike key-value
 * benchmarks, every state key is created, used while its window is open, read and removed; and
 * accesses come in pairs on one key.
 *
 * A trace is made once from a seed, written to a file, and replayed from it by every store, so that
 * all do exactly the same.
 */
#ifndef KWR_BENCH_WORKLOAD_H
#define KWR_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum workload_operator {
    WORKLOAD_TUMBLING_SUM,  /* one aggregate for each key and window */
    WORKLOAD_TUMBLING_LIST, /* all values of a key and window, read when it ends */
    WORKLOAD_SLIDING_SUM,   /* five windows for each event */
    WORKLOAD_SLIDING_LIST,
    WORKLOAD_SESSION_SUM,
    WORKLOAD_SESSION_LIST,
    WORKLOAD_JOIN_TUMBLING, /* two lists for each key and window */
    WORKLOAD_JOIN_INTERVAL, /* rows of the other side within a time of each row */
    WORKLOAD_OPERATORS,
} workload_operator;

const char *workload_name(workload_operator which);

typedef struct workload_options {
    workload_operator which;
    uint64_t events;
    uint32_t keys;
    bool zipfian;          /* with 0.99, else uniform */
    uint32_t per_window;   /* events for each key and window, on average */
    uint32_t late_percent; /* events late by one to three units */
    uint64_t seed;
} workload_options;

typedef enum workload_kind {
    WORKLOAD_GET, /* an aggregate, which may not be there */
    WORKLOAD_PUT,
    WORKLOAD_DELETE,
    WORKLOAD_META_GET, /* which sessions a key has: a value without a namespace */
    WORKLOAD_META_PUT,
    WORKLOAD_META_DELETE,
    WORKLOAD_APPEND, /* to a list, of one side */
    WORKLOAD_READ,   /* a whole list */
    WORKLOAD_CLEAR,
    WORKLOAD_MERGE,   /* the list of window `time` moves behind that of `window` */
    WORKLOAD_ROW_PUT, /* a row of one side, at `time` */
    WORKLOAD_ROW_DELETE,
    WORKLOAD_SCAN, /* rows of one side from `window` to `time`, both included */
    WORKLOAD_KINDS,
} workload_kind;

typedef struct workload_op {
    uint8_t kind;
    uint8_t side;
    uint16_t unused;
    uint32_t key;
    uint64_t window; /* the namespace: start or number of the window */
    uint64_t time;   /* rows: time and a number that tells rows of one time apart */
} workload_op;

enum { WORKLOAD_UNIT = 1000, WORKLOAD_ROW_SHIFT = 24 };

/* Writes the trace; the number of operations. Ends the program when the file cannot be written. */
uint64_t workload_record(const workload_options *options, const char *path);

typedef struct workload_trace {
    const workload_op *ops;
    uint64_t count;
    size_t mapped;
} workload_trace;

/* Maps a trace and checks its digest; ends the program when it is not as it was recorded. */
void workload_open(workload_trace *trace, const char *path);
void workload_close(workload_trace *trace);

#endif /* KWR_BENCH_WORKLOAD_H */
