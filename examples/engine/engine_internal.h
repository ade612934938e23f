/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator's loop (engine.c) and the tasks' loop (task.c) share. */
#ifndef ENG_ENGINE_INTERNAL_H
#define ENG_ENGINE_INTERNAL_H

#include <pthread.h>

#include "examples/engine/engine.h"

/* Kinds of messages. */
enum {
    ENG_MAIL_JOB = 1,    /* job to task: for kwr_task_receive() */
    ENG_MAIL_DRAIN = 2,  /* to sources: the job is done, end the channels */
    ENG_MAIL_TASK = 3,   /* task to job: for kwr_job_receive() */
    ENG_MAIL_EXITED = 4, /* a task's thread is about to end */
    ENG_MAIL_STOP = 5,
};

struct eng_task {
    eng_engine *engine;
    char *operator_id;
    uint32_t subtask;
    uint32_t number; /* in the job's messages */
    uint32_t inputs;
    unsigned roles;
    kwr_type key_type;
    eng_operator ops;
    eng_gate *gate;
    eng_exchange exchange;
    kwr_task *task;
    pthread_t thread;
    bool started;
    /* of its thread */
    uint32_t inputs_ended;
    bool source_ended;
    bool draining;
};

struct eng_engine {
    eng_options options;
    kwr_job *job;
    eng_gate *gate; /* the coordinator's mailbox */
    eng_task **tasks;
    uint32_t task_count;
    uint32_t exited;
    pthread_mutex_t mutex; /* guards failed, error */
    bool failed;
    kwr_error error;
    uint64_t next_tick_ns;
};

uint64_t eng_now(const eng_engine *engine);
/* Keeps the first failure and wakes the coordinator. [any] */
void eng_engine_fail(eng_engine *engine, const kwr_error *why);
/* Body of a task's thread. */
void *eng_task_main(void *task);

#endif /* ENG_ENGINE_INTERNAL_H */
