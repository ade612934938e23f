/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference engine: tasks on threads of their own, joined by bounded channels, run under one
 * kwr_job. It shows where each call of keyweir belongs and is small enough to read in one go.
 *
 *   new -> set_job -> add ... -> connect ... -> open -> run -> close -> (close the job) -> free
 *
 * The thread that calls run() is the coordinator's: it alone uses the kwr_job. Every task's thread
 * alone uses its kwr_task. They exchange messages through mailboxes. The first failure of anyone
 * ends the run: it is kept, and every gate is closed, so that nobody waits for ever.
 */
#ifndef ENG_ENGINE_H
#define ENG_ENGINE_H

#include <keyweir/task.h>

#include "examples/engine/exchange.h"

typedef struct eng_engine eng_engine;
typedef struct eng_task eng_task;

/* What a source has done in one call. */
typedef struct eng_production {
    bool ended;         /* the input is read to its end */
    uint64_t resume_ns; /* else: nothing to do before (mono_ns); 0: call again */
} eng_production;

/*
 * What a task does with records. A failure ends the run, but for snapshot() and complete(): see
 * there. All but open() run on the task's thread.
 */
typedef struct eng_operator {
    void *ctx;
    /* State is restored; called by eng_engine_open(), on its thread, in the order of adding. */
    kwr_status (*open)(void *ctx, eng_task *task, kwr_error *err);
    /* Sources: emits some records, not more than a few milliseconds' worth. */
    kwr_status (*produce)(void *ctx, eng_task *task, eng_production *out, kwr_error *err);
    /* Others: a buffer of records arrived; it is the operator's until it returns. */
    kwr_status (*records)(void *ctx, eng_task *task, const eng_buffer *buffer, kwr_error *err);
    /* The barrier was forwarded: set splits, pre-commit output. May be NULL. A failure to retry or
     * abandon (kwr_status_action) only declines this checkpoint. */
    kwr_status (*snapshot)(void *ctx, eng_task *task, const kwr_barrier *barrier, kwr_error *err);
    /* Commit everything up to `checkpoint`. May be NULL. */
    kwr_status (*complete)(void *ctx, eng_task *task, uint64_t checkpoint, bool final,
                           kwr_error *err);
} eng_operator;

typedef struct eng_task_options {
    const char *operator_id;
    uint32_t subtask;
    uint32_t parallelism;
    unsigned roles;    /* kwr_task_role */
    uint32_t inputs;   /* channels */
    uint32_t outputs;  /* receivers */
    kwr_type key_type; /* keyed tasks */
    eng_operator ops;
} eng_task_options;

typedef struct eng_options {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_resources *resources;    /* NULL: each backend its own */
    const char *backend;         /* of keyed tasks; NULL: the page store */
    const char *state_directory; /* for backends that keep state in local files */
    kwr_loading loading;         /* of keyed tasks: at once, or while the job runs */
    uint32_t channel_depth;      /* buffers a channel holds; default 8 */
    /* Told of every event of the job but KWR_JOB_SEND, on the thread of run(). May be NULL. */
    void (*event)(void *ctx, const kwr_job_event *event);
    /* Called about every `tick_ns` while running; 0: never. */
    void (*tick)(void *ctx);
    uint64_t tick_ns;
    void *ctx;
} eng_options;

kwr_status eng_engine_new(const eng_options *options, eng_engine **out, kwr_error *err);
/* Closes the tasks; no call of the engine's but free() is allowed any more. */
void eng_engine_close(eng_engine *engine);
/* The job is the caller's. It may wake the engine until it is closed: close it before. */
void eng_engine_free(eng_engine *engine);

/* For kwr_job_options.wake, with the engine as its ctx. [any] */
void eng_engine_wake(void *engine);
/* The job the tasks run under. Before anything is added. */
void eng_engine_set_job(eng_engine *engine, kwr_job *job);
/* Registers a task with the job. */
kwr_status eng_engine_add(eng_engine *engine, const eng_task_options *options, eng_task **out,
                          kwr_error *err);
/* Output `output` of `from` writes to input channel `channel` of `to`. */
void eng_engine_connect(eng_task *from, uint32_t output, eng_task *to, uint32_t channel);
/* Restores every task, then opens its operator. */
kwr_status eng_engine_open(eng_engine *engine, kwr_error *err);

/*
 * Runs until the job finished: KWR_OK, and everything up to its last checkpoint was committed. Else
 * the first failure of the job or of a task.
 */
kwr_status eng_engine_run(eng_engine *engine, kwr_error *err);
/* Asks the running, or not yet running, engine for a last checkpoint and then the end. [any] */
void eng_engine_stop(eng_engine *engine);

/* For operators. */
kwr_task *eng_task_keyweir(eng_task *task);
eng_exchange *eng_task_exchange(eng_task *task);

#endif /* ENG_ENGINE_H */
