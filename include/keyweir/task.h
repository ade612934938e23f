/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts assembled. A kwr_job is the attempt of one job to run: it claims the commit log, finds
 * and verifies the newest completed checkpoint, hands every task its share, coordinates
 * checkpoints and publishes them. A kwr_task is what one parallel task links: backend, barrier
 * alignment, background snapshots. The two exchange opaque messages that the engine carries, within
 * a process or between machines.
 *
 *   job   open -> add_task ... -> assignment for each -> start -> { poll, receive } ... -> close
 *   task  open(assignment) -> { records, barrier, receive, poll } ... -> close
 *
 * docs/embedding.md shows both in one page of code.
 */
#ifndef KEYWEIR_TASK_H
#define KEYWEIR_TASK_H

#include "keyweir/backend.h"
#include "keyweir/barrier.h"
#include "keyweir/list.h"
#include "keyweir/map.h"
#include "keyweir/storage.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the job ---- */

typedef struct kwr_job kwr_job;

typedef enum kwr_restore_mode {
    KWR_RESTORE_NEWEST = 0,     /* the newest completed; empty only when the log names none */
    KWR_RESTORE_NONE = 1,       /* start empty by choice; the fence records it */
    KWR_RESTORE_CHECKPOINT = 2, /* restore_checkpoint by choice; the fence records it as base */
} kwr_restore_mode;

typedef struct kwr_job_options {
    size_t struct_size;
    const kwr_env *env;
    kwr_storage *storage;     /* outlives the job */
    const char *name;         /* [A-Za-z0-9_.-]{1,100}, not starting with '.' */
    uint32_t max_parallelism; /* default 128; must match what is restored; 0: adopt it */
    uint64_t seed;            /* of the key hash for a first start */
    bool seed_given;          /* else random; a restore uses the recorded one */
    bool engine_key_groups;   /* the engine gives the key group with each key; as it was stored */
    kwr_restore_mode restore;
    uint64_t restore_checkpoint; /* id */
    uint64_t restore_generation; /* 0: the highest that has this id published */
    uint64_t interval_ms;        /* 0: only final, stop and requested checkpoints */
    uint64_t min_pause_ms;
    uint64_t timeout_ms;         /* default 10 min */
    uint32_t retain;             /* completed checkpoints kept, default 1 */
    uint32_t tolerable_failures; /* consecutive failed checkpoints */
    bool tolerate_all;
    bool lock_off;       /* dangerous: only the fence keeps two attempts apart */
    size_t inline_bytes; /* per subtask; KWR_INLINE_DEFAULT */
    kwr_limits limits;
    void (*wake)(void *ctx); /* [any] called when poll has something new; may be NULL */
    void *wake_ctx;
    bool allow_unclaimed; /* state of stored operators that no task claims is given up; logged */
} kwr_job_options;

enum { KWR_INLINE_DEFAULT = 256 * 1024 };
#define KWR_JOB_OPTIONS_INLINE_OFF SIZE_MAX /* inline_bytes: 0 means default, this means never */

/*
 * Claims the job: takes its lock, publishes a fence in the next slot of its commit log, finds the
 * checkpoint to restore and verifies its manifest. Blocks on storage. Fails with
 *   KWR_ERR_LOCKED    another process holds the job (its pid is in `err`)
 *   KWR_ERR_CORRUPT, _MISSING, _FORMAT  the checkpoint to restore or the log is damaged: file,
 *                     offset and the newest good checkpoint are in `err`
 *   KWR_ERR_MISMATCH  max parallelism differs from what is stored
 *   KWR_ERR_NOT_FOUND never; a log without checkpoints starts empty
 *   KWR_ERR_RANGE, _IO, _NOMEM, _FENCED (another attempt kept winning the slots).
 */
KWR_API KWR_CHECK kwr_status kwr_job_open(const kwr_job_options *options, kwr_job **out,
                                          kwr_error *err);
/* Stops checkpoints, waits for work in the background, unlocks. */
KWR_API void kwr_job_close(kwr_job *job);

typedef struct kwr_job_info {
    size_t struct_size;
    uint64_t generation;          /* of this attempt */
    uint64_t slot;                /* its fence */
    uint64_t restored_checkpoint; /* 0: started empty */
    uint64_t restored_generation;
    uint64_t highest_checkpoint; /* highest id ever published, 0: none */
    bool restored_final;         /* the job had finished */
    uint32_t max_parallelism;
    uint64_t seed;
    uint8_t uid[16]; /* the job's identity, made at its first start */
} kwr_job_info;

/* Set info->struct_size first. */
KWR_API void kwr_job_get_info(const kwr_job *job, kwr_job_info *info);

/* What the log says without claiming anything: highest published id (0: none), and a base. */
KWR_API KWR_CHECK kwr_status kwr_job_peek(const kwr_env *env, kwr_storage *storage,
                                          const char *name, uint64_t *newest_completed,
                                          uint64_t *highest_published, kwr_error *err);

/* Subtasks an operator has in the checkpoint to restore; 0: it is not in it, or the job is started.
 */
KWR_API uint32_t kwr_job_stored_parallelism(const kwr_job *job, const char *operator_id);

typedef enum kwr_task_role {
    KWR_TASK_SOURCE = 1, /* gets triggers instead of barriers, has splits */
    KWR_TASK_KEYED = 2,  /* has a keyed backend */
    KWR_TASK_SINK = 4,   /* has committables */
} kwr_task_role;

/*
 * Registers a task before the start; `*task` numbers it in messages. Operators are matched with
 * what is restored by their ids. The parallelism may be another than the stored one, of keyed
 * operators up to max_parallelism: state is shared out anew (docs/rescaling.md). `roles` is a set
 * of kwr_task_role, the stored one (KWR_ERR_MISMATCH).
 */
KWR_API KWR_CHECK kwr_status kwr_job_add_task(kwr_job *job, const char *operator_id,
                                              uint32_t subtask, uint32_t parallelism,
                                              unsigned roles, uint32_t *task, kwr_error *err);
/* The share of `task`, for kwr_task_open(); borrowed until the job is started. Call it when all
 * tasks are added; KWR_ERR_REFUSED names stored operators that no task claims, unless
 * options.allow_unclaimed. Reads nothing from storage. */
KWR_API KWR_CHECK kwr_status kwr_job_assignment(kwr_job *job, uint32_t task, kwr_slice *out,
                                                kwr_error *err);
/* All tasks have restored and run: sweeps leftovers of earlier attempts and begins checkpoints. */
KWR_API KWR_CHECK kwr_status kwr_job_start(kwr_job *job, kwr_error *err);

typedef enum kwr_job_event_kind {
    KWR_JOB_SEND = 1,       /* carry `message` to `task` (KWR_ALL_TASKS: to every one) */
    KWR_JOB_TRIGGERED = 2,  /* checkpoint is pending */
    KWR_JOB_PUBLISHING = 3, /* all acks are in; about to publish in `slot` (a retry may move it) */
    KWR_JOB_PUBLISHED = 4,  /* completed, in `slot` */
    KWR_JOB_ABORTED = 5,    /* did not complete; `error` says why; the job goes on */
    KWR_JOB_FINISHED = 6,   /* last checkpoint completed; its message was sent before */
    KWR_JOB_FAILED = 7,     /* this attempt must end: `error` */
} kwr_job_event_kind;

#define KWR_ALL_TASKS UINT32_MAX

typedef struct kwr_job_event {
    kwr_job_event_kind kind;
    uint32_t task;
    kwr_slice message; /* borrowed until the next poll */
    uint64_t checkpoint;
    uint64_t slot;
    uint64_t bytes;       /* PUBLISHED: newly written, manifest included */
    uint64_t duration_ns; /* PUBLISHED: since the trigger */
    uint64_t entries;     /* PUBLISHED: in keyed state */
    bool final;
    kwr_error error;
} kwr_job_event;

/* The next event; KWR_NOT_FOUND when there is none now. Never blocks. */
KWR_API KWR_CHECK kwr_status kwr_job_poll(kwr_job *job, kwr_job_event *out);
/* When to poll again at the latest (clock's mono_ns), UINT64_MAX: only when woken or received. */
KWR_API uint64_t kwr_job_deadline(const kwr_job *job);
/* A message from a task. Foreign or outdated ones are ignored. */
KWR_API KWR_CHECK kwr_status kwr_job_receive(kwr_job *job, kwr_slice message);
/* Asks for a checkpoint now (KWR_ERR_BUSY: one is pending), or for a last one and then the end. */
KWR_API KWR_CHECK kwr_status kwr_job_trigger(kwr_job *job);
KWR_API KWR_CHECK kwr_status kwr_job_stop(kwr_job *job);
/* A task was lost: the attempt ends (KWR_JOB_FAILED comes). */
KWR_API void kwr_job_fail(kwr_job *job, const kwr_error *why);

/* ---- the task ---- */

typedef struct kwr_task kwr_task;

/* A part of a source's input and how far it has been read. All bytes are copied. */
typedef struct kwr_split {
    kwr_slice id;       /* what it is called, unique in its operator */
    kwr_slice identity; /* how to recognise it, such as size and hash; the source's own format */
    kwr_slice position; /* where to go on; the source's own format */
} kwr_split;

typedef struct kwr_task_options {
    size_t struct_size;
    const kwr_env *env;
    kwr_resources *resources;  /* NULL: its own */
    kwr_storage *storage;      /* the job's */
    kwr_slice assignment;      /* from kwr_job_assignment() */
    uint32_t channels;         /* inputs; 0 for a source */
    const char *engine;        /* keyed: NULL for the page store */
    kwr_type key_type;         /* keyed */
    uint32_t snapshot_threads; /* 0: the executor's parallelism */
    kwr_limits limits;
    void (*wake)(void *ctx); /* [any] called when poll has a message; may be NULL */
    void *wake_ctx;
    /*
     * For engines that keep state in local files (rocksdb): a path on a local file system, made
     * when missing (its parent is there), shared by any number of tasks and jobs. Each attempt of a
     * task has a locked directory of its own in it, removed at the close; what killed attempts of
     * the job left is removed when the next one opens. Release views before the close.
     */
    const char *state_directory;
    /* Keyed, as in kwr_backend_options: how state is restored, and what share of a processor goes
     * into loading. Operator state is always there at once. */
    kwr_loading loading;
    uint32_t load_share;
} kwr_task_options;

/* Restores the task's share: the keyed backend, splits, committables. Blocks on storage. Fails as
 * kwr_snapshot_restore() does. */
KWR_API KWR_CHECK kwr_status kwr_task_open(const kwr_task_options *options, kwr_task **out,
                                           kwr_error *err);
/* Waits for its background work; an unfinished checkpoint is abandoned. */
KWR_API void kwr_task_close(kwr_task *task);
/* Detail of the latest failed call on the task, never NULL. */
KWR_API const kwr_error *kwr_task_error(const kwr_task *task);
/* Keyed tasks; owned by the task. NULL for others. */
KWR_API kwr_backend *kwr_task_backend(kwr_task *task);
/*
 * Operator state: lists and maps of the subtask as a whole, for tasks of every role, in every
 * checkpoint. The handles are those of keyweir/list.h and keyweir/map.h; there is no key to set and
 * no namespace. A name is opened again, also after a restart, as what it is: another mode, kind or
 * type is KWR_ERR_MISMATCH with both. State that is not opened again is kept, and is in every
 * checkpoint too. docs/operator-state.md says who gets what at another parallelism.
 */
typedef enum kwr_operator_mode {
    KWR_OPERATOR_SPLIT = 1, /* each element to one subtask, in turn */
    KWR_OPERATOR_UNION = 2, /* all elements to every subtask, at every restart */
} kwr_operator_mode;

KWR_API KWR_CHECK kwr_status kwr_task_operator_list(kwr_task *task,
                                                    const kwr_list_descriptor *descriptor,
                                                    kwr_operator_mode mode, kwr_list **out);
/* A broadcast map: every subtask is to hold the same, and a new one gets the copy of an old one.
 * Change it only by what all subtasks receive in the same order; elsewhere only read it. */
KWR_API KWR_CHECK kwr_status kwr_task_operator_map(kwr_task *task,
                                                   const kwr_map_descriptor *descriptor,
                                                   kwr_map **out);
/* Raw operator state: a split list whose elements are pieces of the engine's own format, each of
 * which goes to one subtask as it is. */
KWR_API KWR_CHECK kwr_status kwr_task_operator_raw(kwr_task *task, const char *name,
                                                   kwr_list **out);
/* Where operator state is, for kwr_backend_error() after a failed call on one of its handles; NULL
 * when there is none. */
KWR_API const kwr_backend *kwr_task_operator_backend(const kwr_task *task);
/* The checkpoint it was restored from, 0: none; and the attempt's generation. */
KWR_API uint64_t kwr_task_restored(const kwr_task *task);
KWR_API uint64_t kwr_task_generation(const kwr_task *task);

/* Splits, in the order they were set: those restored, then as changed by set. The i-th one's bytes
 * are borrowed until the next set. */
KWR_API size_t kwr_task_split_count(const kwr_task *task);
KWR_API KWR_CHECK kwr_status kwr_task_split(const kwr_task *task, size_t index, kwr_split *out);
/* Adds a split, or moves the one of the same id to a new position (identity may be empty: kept).
 * The next checkpoint holds it: call it before kwr_task_checkpoint(), with what was emitted. */
KWR_API KWR_CHECK kwr_status kwr_task_set_split(kwr_task *task, const kwr_split *split);

/* Committables of sinks: what a commit needs, in the sink's own format. Carried by every checkpoint
 * from the one they are added to until kwr_task_committed() says they are done. */
KWR_API size_t kwr_task_committable_count(const kwr_task *task);
KWR_API KWR_CHECK kwr_status kwr_task_committable(const kwr_task *task, size_t index,
                                                  uint64_t *checkpoint, kwr_slice *token);
/* Pre-committed output of `checkpoint`, added before kwr_task_checkpoint() of it. */
KWR_API KWR_CHECK kwr_status kwr_task_add_committable(kwr_task *task, uint64_t checkpoint,
                                                      kwr_slice token);
/* All committables of checkpoints <= `checkpoint` are committed: carried no longer. */
KWR_API KWR_CHECK kwr_status kwr_task_committed(kwr_task *task, uint64_t checkpoint);

/* Barriers and markers arriving in the channels, and channels ending: see kwr_alignment. */
KWR_API KWR_CHECK kwr_status kwr_task_barrier(kwr_task *task, uint32_t channel,
                                              const kwr_barrier *barrier, kwr_alignment *out);
KWR_API KWR_CHECK kwr_status kwr_task_channel_end(kwr_task *task, uint32_t channel,
                                                  kwr_alignment *out);
/*
 * Takes this task's part of a checkpoint: freezes now, writes in the background, and leaves the ack
 * or decline for kwr_task_poll(). Call it between two records, after the barrier was forwarded.
 * KWR_ERR_BUSY: the part of an earlier checkpoint is still being written; a decline is left for
 * poll. Any other failure also leaves a decline, if that is possible.
 */
KWR_API KWR_CHECK kwr_status kwr_task_checkpoint(kwr_task *task, const kwr_barrier *barrier);
/* Declines `checkpoint`, for instance because pre-committing the output failed. */
KWR_API KWR_CHECK kwr_status kwr_task_decline(kwr_task *task, uint64_t checkpoint,
                                              const kwr_error *why);
/* Sources: the input is read to the end. The task lives on and forwards barriers until the end. */
KWR_API KWR_CHECK kwr_status kwr_task_source_ended(kwr_task *task);
/* The next message for the job, borrowed until the next poll; KWR_NOT_FOUND when none is ready. */
KWR_API KWR_CHECK kwr_status kwr_task_poll(kwr_task *task, kwr_slice *message);

typedef enum kwr_task_event_kind {
    KWR_TASK_NOTHING = 0,
    KWR_TASK_TRIGGER = 1,  /* sources: emit `barrier`, set splits, kwr_task_checkpoint() */
    KWR_TASK_COMPLETE = 2, /* `checkpoint` is completed: commit everything up to it */
    KWR_TASK_ABORT = 3,    /* `checkpoint` will not complete; see `alignment` */
} kwr_task_event_kind;

typedef struct kwr_task_event {
    kwr_task_event_kind kind;
    uint64_t checkpoint;
    kwr_barrier barrier;
    bool final;              /* COMPLETE: the job is done after it */
    kwr_alignment alignment; /* ABORT: channels to release */
} kwr_task_event;

/* A message from the job. Foreign and outdated ones give KWR_TASK_NOTHING. */
KWR_API KWR_CHECK kwr_status kwr_task_receive(kwr_task *task, kwr_slice message,
                                              kwr_task_event *out);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_TASK_H */
