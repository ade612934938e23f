/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small stream job on kwr_job and kwr_task, for tests: two sources, two keyed counts, one sink
 * with two-phase output, channels as arrays, everything on the test's thread.
 *
 *   source-0 ──┬──► count-0 ──┐
 *              ╳              ├──► sink-0 ──► the world
 *   source-1 ──┴──► count-1 ──┘
 *
 * That is the usual layout; an attempt may have any number of each: inputs are splits that the
 * sources share, keys go to the count that owns them, and records on to a sink by their key.
 *
 * The world is what outlives an attempt: the sink's output. For every record the sink writes (key,
 * count so far); after any number of attempts a key that occurs n times must have come out with 1,
 * 2, ... n exactly once each. That is the oracle of all tests here.
 */
#ifndef TASK_STREAM_H
#define TASK_STREAM_H

#include "tests/support/fault_env.h"
#include "tests/support/kwr_test.h"

enum {
    STREAM_SOURCES = 2,
    STREAM_COUNTS = 2,
    STREAM_TASKS = STREAM_SOURCES + STREAM_COUNTS + 1,
    STREAM_SINK = STREAM_TASKS - 1,
    STREAM_EACH_MAX = 16, /* of sources, counts, sinks, inputs */
    STREAM_TASKS_MAX = 3 * STREAM_EACH_MAX,
    STREAM_KEYS = 5,
    STREAM_EVENTS = 4096,
};

typedef struct stream_record {
    uint32_t key;
    int64_t count;
} stream_record;

typedef struct stream_records {
    stream_record *items;
    size_t count, capacity;
} stream_records;

typedef struct stream_pending {
    stream_records records;
    bool committed;
} stream_pending;

typedef struct stream_world {
    stream_pending *pendings; /* the token of a committable is the index */
    size_t pending_count, pending_capacity;
    stream_records out; /* committed */
} stream_world;

void stream_world_done(stream_world *world);
/* The record `position` of an input. */
uint32_t stream_key(uint32_t input, uint64_t position);
/* Every key has come out with 1 ... n, n as after `total` records of each of two inputs. */
void stream_world_expect(const stream_world *world, uint64_t total, const char *when);
void stream_world_expect_of(const stream_world *world, uint32_t inputs, uint64_t total,
                            const char *when);
/* Every key has come out with 1 ... m for some m, none twice. */
void stream_world_expect_no_double(const stream_world *world, const char *when);

typedef struct stream_item {
    enum { STREAM_RECORD, STREAM_BARRIER } kind;
    stream_record record;
    kwr_barrier barrier;
} stream_item;

typedef struct stream_channel {
    stream_item *items;
    size_t first, count, capacity;
    bool blocked;
} stream_channel;

typedef struct stream stream;

typedef struct stream_options {
    const kwr_env *env;
    fault_env *faults; /* whose executor is to be run by hand; NULL: threads */
    kwr_storage *storage;
    stream_world *world;
    uint64_t total;                  /* records of each input, then it has ended */
    uint32_t sources, counts, sinks; /* parallelism; 0: as usual */
    uint32_t inputs;                 /* 0: as many as usual sources */
    kwr_job_options job;             /* env, storage, name, wake are filled in */
    uint32_t value_bytes;            /* more state: bytes kept per key beside the count */
    /* false: the message is lost. `task` sends or receives it. */
    bool (*carry)(void *ctx, stream *s, bool to_job, uint32_t task, kwr_slice message);
    void *carry_ctx;
    bool watch_log;     /* counts the slots at some events: calls a fault plan would count, too */
    bool strict;        /* a failed checkpoint part fails the test */
    unsigned operators; /* who keeps operator state: 1 sources, 2 counts, 4 sinks */
} stream_options;

typedef struct stream_event {
    kwr_job_event_kind kind;
    uint64_t checkpoint;
    uint64_t slot;
    uint64_t bytes, entries;
    bool final;
    uint32_t task;    /* send */
    uint16_t message; /* send: kind, see task/message.h */
    size_t slots;     /* publishing, published: files in the log at that moment */
} stream_event;

struct stream {
    stream_options options;
    kwr_job *job;
    kwr_job_info info;
    uint32_t task_count; /* sources, then counts, then sinks */
    kwr_task *tasks[STREAM_TASKS_MAX];
    kwr_reducing *counts[STREAM_TASKS_MAX];
    kwr_value *values[STREAM_TASKS_MAX];
    kwr_list *parts[STREAM_TASKS_MAX]; /* with options.operators */
    kwr_map *latest[STREAM_TASKS_MAX];
    stream_channel in[STREAM_TASKS_MAX][STREAM_EACH_MAX];
    uint64_t positions[STREAM_EACH_MAX]; /* by input */
    uint32_t readers[STREAM_EACH_MAX];   /* the source that reads an input */
    bool ended_said[STREAM_EACH_MAX];
    stream_records buffered[STREAM_TASKS_MAX]; /* by a sink since the last barrier */
    uint64_t emit_limit;                       /* records of each input so far */
    /* what the job said */
    uint64_t triggered, completed, aborted; /* latest ids */
    bool finished, finished_final, failed;
    kwr_error failure;
    kwr_error abort_error;
    kwr_error broken; /* a call of the engine's that failed where it must not go on */
    stream_event events[STREAM_EVENTS];
    size_t event_count;
};

/* Opens job and tasks, recommits, starts. On a failure everything is closed again. */
kwr_status stream_open(stream *s, const stream_options *options, kwr_error *err);
void stream_must_open(stream *s, const stream_options *options);
void stream_close(stream *s);
/* Lets each source emit up to `each` records more, with messages and work in between, until
 * nothing moves. */
void stream_run(stream *s, uint64_t each);
/* The same without new records. */
void stream_settle(stream *s);
/* Asks for a checkpoint and runs until it is decided: its id when it completed, else 0. */
uint64_t stream_checkpoint(stream *s);
/* Runs to the end of the input and the final checkpoint. */
void stream_finish(stream *s);
/* The engine's own count of a key, 0 when there is none; for the model. */
int64_t stream_count(stream *s, uint32_t key);
/* State and positions fit together: the counts are those of the records before the positions. */
void stream_expect_consistent(stream *s, const char *when);
/* Gives a message to a task or the job by hand. */
void stream_give(stream *s, bool to_job, uint32_t task, kwr_slice message);

/* The kind of a message, as in task/message.h, for carry functions. */
uint16_t stream_message_kind(kwr_slice message);

/* The index of the first such event at or after `from`, else SIZE_MAX. */
size_t stream_find_event(const stream *s, size_t from, kwr_job_event_kind kind,
                         uint64_t checkpoint);
/* The same for a message sent. */
size_t stream_find_sent(const stream *s, size_t from, uint16_t message, uint64_t checkpoint);

/* Names below <storage root>/<job>/<dir>/, for memory: and file: alike; how many start so. */
size_t stream_files(kwr_storage *storage, const char *job, const char *dir, const char *prefix);
/* Data files that the checkpoints in the log refer to, each once; all must be there. */
size_t stream_files_used(kwr_storage *storage, const kwr_env *env, const char *job);

#endif /* TASK_STREAM_H */
