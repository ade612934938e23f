/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of a kwr_job, shared by job.c (open and close), job_plan.c (its tasks), job_shares.c
 * (their assignments), job_run.c (events) and job_publish.c (work in the background).
 *
 * Owner and background share the job without a lock: at most one piece of work runs, and while it
 * does, it alone uses what is marked [work]; the owner takes that back when `done` is set.
 */
#ifndef KWR_TASK_JOB_H
#define KWR_TASK_JOB_H

#include <stdatomic.h>

#include "keyweir/task.h"
#include "recovery/assignment.h"
#include "recovery/recovery.h"
#include "snapshot/retention.h"
#include "task/message.h"

enum { KWR_NO_TASK = UINT32_MAX };

typedef struct kwr_job_operator {
    char id[KWR_OPERATOR_ID_MAX + 1];
    uint32_t parallelism;
    unsigned roles;
    uint32_t registered;                 /* tasks so far */
    uint32_t *tasks;                     /* number by subtask, KWR_NO_TASK until registered */
    const kwr_manifest_operator *stored; /* NULL: not in the restored checkpoint */
    kwr_arena *arena;                    /* of the shares; NULL: not made yet */
    const kwr_share *shares;             /* by subtask, when stored */
} kwr_job_operator;

typedef struct kwr_job_task {
    uint32_t op;
    uint32_t subtask;
    kwr_bytes assignment; /* made on demand, until the start */
    bool ended;           /* a source that has said so */
    /* of the pending checkpoint [work while publishing] */
    kwr_bytes part; /* empty: not acknowledged yet */
    uint64_t entries;
    uint64_t bytes;
} kwr_job_task;

/* What poll has still to hand out; some notes become several events. */
typedef enum kwr_note_kind {
    KWR_NOTE_TRIGGER = 1,
    KWR_NOTE_PUBLISH,
    KWR_NOTE_PUBLISHED,
    KWR_NOTE_COMPLETE,
    KWR_NOTE_ABORT,
    KWR_NOTE_FINISH,
    KWR_NOTE_FAIL,
} kwr_note_kind;

typedef struct kwr_note {
    kwr_note_kind kind;
    uint64_t checkpoint;
    bool final; /* complete: the job is done after it */
    uint64_t slot, bytes, duration_ns, entries;
    kwr_error error;
} kwr_note;

typedef enum kwr_publish_outcome {
    KWR_PUBLISH_NOT = 0, /* certainly not in the log */
    KWR_PUBLISH_DONE,    /* in the log, and no newer attempt */
    KWR_PUBLISH_LOST,    /* fenced, unknown, or newer attempts could not be ruled out */
} kwr_publish_outcome;

typedef enum kwr_job_doing { KWR_IDLE = 0, KWR_PUBLISHING, KWR_TIDYING } kwr_job_doing;

typedef enum kwr_publish_state {
    KWR_PUBLISH_NONE = 0,
    KWR_PUBLISH_ANNOUNCED, /* its event waits to be polled */
    KWR_PUBLISH_READY,     /* the event was handed out: publish at the next poll */
    KWR_PUBLISH_RUNNING,
} kwr_publish_state;

struct kwr_job {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_limits limits; /* complete */
    kwr_job_options options;
    kwr_job_dirs dirs;
    bool dirs_open;
    kwr_storage_lock *lock;
    kwr_claim claim; /* its log: [work] */
    bool claimed;
    uint32_t max_parallelism;
    uint64_t seed;
    bool engine_key_groups;
    uint64_t restored_checkpoint, restored_generation;
    bool restored_final;
    uint64_t first_slot; /* the fence's number */
    uint64_t next_slot;  /* after the fence and what was published; the log itself may be at work */
    uint64_t highest;    /* at open */

    /* plan */
    kwr_job_operator *operators;
    size_t operator_count, operator_capacity;
    kwr_job_task *tasks;
    size_t task_count, task_capacity;
    bool plan_closed;
    bool started;

    /* run */
    kwr_coordinator *coordinator;
    kwr_note *notes;
    size_t note_first, note_count, note_capacity;
    uint32_t note_stage; /* events of the first note already handed out */
    uint8_t message[KWR_MESSAGE_SMALL_MAX];
    bool failed;   /* the attempt has ended */
    kwr_error why; /* of the event being given to the coordinator */

    /* the pending checkpoint [work while publishing] */
    uint64_t checkpoint;
    bool final;
    int64_t triggered_ms, completed_ms;
    uint64_t triggered_ns;
    uint64_t parent_checkpoint, parent_generation;
    kwr_publish_state publish;

    /* background */
    kwr_work work;
    kwr_job_doing doing;
    bool posted;
    atomic_bool done;
    kwr_publish_outcome outcome; /* [work] */
    kwr_error result;            /* [work] status KWR_OK: fine */
    kwr_slot slot;               /* [work] */
    uint64_t published_bytes;    /* [work] */
    uint64_t published_entries;  /* [work] */
    bool want_tidy;
    uint64_t tidy_at_ns;
    kwr_retention *retention; /* [work] */
    bool swept;               /* [work] */
};

/* All tasks of all operators are there and every stored operator is claimed. */
kwr_status kwr_job_plan_check(const kwr_job *job, kwr_error *err);
/* Makes the assignment of a task; all tasks are there. */
kwr_status kwr_job_share(kwr_job *job, uint32_t task, kwr_error *err);
/* The start: what was only for restoring is let go. */
void kwr_job_plan_close(kwr_job *job);
void kwr_job_plan_free(kwr_job *job);

/* Number of the next slot; only while no work runs. */
uint64_t kwr_job_next_slot(const kwr_job *job);
/* Run as blocking work: leave their result in the job, set `done` and wake. */
void kwr_job_publish_run(void *job);
void kwr_job_tidy_run(void *job);

#endif /* KWR_TASK_JOB_H */
