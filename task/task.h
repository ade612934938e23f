/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of a kwr_task, shared by task.c (open, close, messages), task_items.c (splits and
 * committables), task_operator.c (operator state), task_checkpoint.c (its part of a checkpoint) and
 * task_directory.c (a place on local disk) and task_files.c (files nobody needs).
 *
 * The part being written belongs to the background work until `done` is set; everything else is the
 * owner's alone. All the work sees of the live task is what was fixed at open.
 */
#ifndef KWR_TASK_TASK_H
#define KWR_TASK_TASK_H

#include <stdatomic.h>

#include "keyweir/snapshot.h"
#include "keyweir/task.h"
#include "snapshot/log.h"
#include "snapshot/manifest.h"
#include "task/message.h"

typedef struct kwr_split_item {
    size_t id_size, identity_size, position_size;
    uint8_t bytes[]; /* id, identity, position */
} kwr_split_item;

typedef struct kwr_committable_item {
    uint64_t checkpoint;
    kwr_bytes token;
} kwr_committable_item;

/* One checkpoint's part on its way from freeze to ack. */
typedef struct kwr_task_part {
    uint64_t checkpoint;
    kwr_arena *arena; /* of what `subtask` points to */
    kwr_manifest_subtask subtask;
    kwr_view *view;           /* keyed; released as soon as it is written */
    kwr_view *operators_view; /* of operator state, the same */
    uint64_t sequence;
    kwr_cancel cancel;
    bool unwanted; /* aborted or declined meanwhile [owner] */
    /* results */
    kwr_error error; /* status KWR_OK: there is an ack */
    kwr_bytes ack;
    kwr_buffer files; /* names in shared/, each with its NUL */
    uint64_t sequence_next;
} kwr_task_part;

/* Files of an acknowledged checkpoint, until its fate is known. */
typedef struct kwr_task_pledge {
    uint64_t checkpoint;
    kwr_buffer files;
} kwr_task_pledge;

enum { KWR_TASK_PLEDGES = 4 };

struct kwr_task {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_limits limits; /* complete */
    void (*wake)(void *ctx);
    void *wake_ctx;
    uint32_t snapshot_threads;
    kwr_assignment assignment; /* its slices point into the two strings below, or are empty */
    char job[KWR_JOB_NAME_BYTES_MAX + 1];
    char operator_id[KWR_OPERATOR_ID_MAX + 1];
    kwr_error error; /* of the latest failed call */

    kwr_resources *resources; /* the host's, or NULL */
    kwr_backend *backend;     /* keyed */
    kwr_lineage *lineage;     /* of its checkpoints */
    kwr_backend *operators;   /* operator state; NULL until there is some */
    /* for engines that keep state in local files */
    kwr_dir *directory_root; /* the host's */
    kwr_dir *directory;      /* this task's */
    kwr_lock *directory_lock;
    char *database; /* path in it */
    size_t database_size;
    kwr_aligner *aligner; /* with channels */
    uint32_t channels;
    kwr_split_item **splits;
    size_t split_count, split_capacity;
    kwr_committable_item *committables;
    size_t committable_count, committable_capacity;

    uint64_t triggered; /* highest id of each, 0: none */
    uint64_t taken;
    uint64_t aborted;
    uint64_t completed;

    kwr_work work;
    bool writing; /* the part is in the background, or done and not looked at */
    bool posted;
    atomic_bool done;
    kwr_task_part part;
    uint64_t sequence; /* of the next file */

    /* outgoing */
    kwr_bytes lent; /* by the latest poll */
    kwr_bytes ack;
    uint64_t ack_checkpoint;
    kwr_buffer ack_files;
    uint64_t declined; /* not 0: a decline to be sent */
    kwr_error decline;
    bool ended, ended_said;

    /* files */
    kwr_task_pledge pledges[KWR_TASK_PLEDGES];
    size_t pledge_count;
    kwr_buffer garbage; /* to be removed */
    kwr_work remove_work;
    bool removing;
    atomic_bool remove_done;
    kwr_buffer removed; /* the work's */
};

/* Remembers a failure for kwr_task_error(); yields its status. */
kwr_status kwr_task_failed(kwr_task *task, kwr_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void kwr_task_wake(const kwr_task *task);

/* task_items.c */
kwr_status kwr_task_items_restore(kwr_task *task, const kwr_manifest_subtask *from, kwr_error *err);
kwr_status kwr_task_items_copy(const kwr_task *task, uint64_t checkpoint, kwr_arena *arena,
                               kwr_manifest_subtask *out);
void kwr_task_items_free(kwr_task *task);

/* task_operator.c */
kwr_status kwr_task_operator_restore(kwr_task *task, const kwr_assignment *given, kwr_error *err);

/* task_checkpoint.c */
/* Takes over what the background has finished. */
void kwr_task_absorb(kwr_task *task);
void kwr_task_decline_add(kwr_task *task, uint64_t checkpoint, const kwr_error *why);
/* `checkpoint` cannot complete: its part is not wanted, its files go. */
void kwr_task_drop(kwr_task *task, uint64_t checkpoint);
void kwr_task_part_end(kwr_task *task); /* at close */

/* task_directory.c */
enum { KWR_TASK_DIRECTORY_NAME = 32 + 1 + 16 + 1 + KWR_OPERATOR_ID_MAX + 1 + 10 + 1 };
/* Makes task->directory and task->database; removes what dead attempts left. */
kwr_status kwr_task_directory_open(kwr_task *task, const char *root, kwr_error *err);
/* With all it holds: after the backend. */
void kwr_task_directory_close(kwr_task *task);

/* task_files.c */
void kwr_task_pledge_add(kwr_task *task, uint64_t checkpoint, kwr_buffer *files);
void kwr_task_pledge_abort(kwr_task *task, uint64_t checkpoint);
void kwr_task_pledge_complete(kwr_task *task, uint64_t checkpoint);
/* Empties `files`: they are removed, sooner or later. */
void kwr_task_discard(kwr_task *task, kwr_buffer *files);
/* Removes at once; for work in the background and the close. */
void kwr_task_remove_now(const kwr_task *task, const kwr_buffer *files);
void kwr_task_remove_start(kwr_task *task);
void kwr_task_remove_end(kwr_task *task); /* at close */

#endif /* KWR_TASK_TASK_H */
