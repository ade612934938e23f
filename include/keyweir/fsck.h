/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking after what jobs have in storage: kwr_fsck() reads every byte of all their checkpoints and
 * never writes; kwr_gc() removes what no checkpoint needs. Both go through the storage alone, need
 * no engine and no running job, and block. `keyweir fsck` and `keyweir gc` are these calls.
 */
#ifndef KEYWEIR_FSCK_H
#define KEYWEIR_FSCK_H

#include "keyweir/limits.h"
#include "keyweir/snapshot.h"
#include "keyweir/storage.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kwr_fsck_kind {
    KWR_FSCK_DAMAGED = 1,     /* not what was written */
    KWR_FSCK_MISSING = 2,     /* needed, and not there */
    KWR_FSCK_UNREADABLE = 3,  /* the storage did not give it: nothing is known about it */
    KWR_FSCK_NEWER = 4,       /* written by a newer version of the library */
    KWR_FSCK_LEFTOVER = 5,    /* ours, and no checkpoint needs it: kwr_gc() removes it */
    KWR_FSCK_IN_PROGRESS = 6, /* ours and not needed, but of the newest attempt, which may run */
    KWR_FSCK_FOREIGN = 7,     /* not a name of ours: never opened, never removed */
} kwr_fsck_kind;

/* What is wrong with the job's checkpoints, rather than merely lying there. */
static inline bool kwr_fsck_is_fault(kwr_fsck_kind kind) { return kind <= KWR_FSCK_NEWER; }

typedef struct kwr_fsck_checkpoint {
    uint64_t checkpoint;
    uint64_t generation;
} kwr_fsck_checkpoint;

/* Valid during the call it is given to; strings too. */
typedef struct kwr_fsck_finding {
    size_t struct_size;
    kwr_fsck_kind kind;
    kwr_status status; /* of a fault; kwr_gc(): why a leftover could not be removed, else KWR_OK */
    const char *job;   /* NULL: of a name beside the jobs */
    const char *file;  /* below the job's directory; a directory's name ends in '/' */
    uint64_t offset;   /* where the damage begins in it */
    uint64_t length;   /* of the block that is hit; 0: not known, or to the end */
    uint64_t size;     /* leftovers and files in progress: their bytes */
    /* What the damage hits, as far as it is known. */
    const char *operator_id; /* NULL: not known */
    uint32_t subtask;        /* with operator_id */
    const char *state;       /* NULL: all of that subtask's */
    uint32_t first_key_group;
    uint32_t key_groups; /* 0: not known */
    /* The checkpoints that need it, newest first. */
    const kwr_fsck_checkpoint *checkpoints;
    size_t checkpoint_count;
    const char *text; /* all of it as a sentence, with the path */
} kwr_fsck_finding;

typedef struct kwr_fsck_progress {
    size_t struct_size;
    const char *job;
    uint64_t bytes_done; /* of the job's files, gone through */
    uint64_t bytes_total;
    uint64_t files_done;
    uint64_t files_total;
    uint64_t findings;
    uint64_t elapsed_ns; /* since the work on the job's files began */
} kwr_fsck_progress;

typedef struct kwr_fsck_options {
    size_t struct_size;
    const kwr_env *env;
    kwr_storage *storage;
    const char *job;          /* NULL: every job below the root */
    const kwr_limits *limits; /* NULL: defaults */
    uint32_t threads;         /* work at the same time; 0: the executor's parallelism */
    bool indexes_only;        /* presence, lengths, manifests and indexes, but no page images */
    const kwr_cancel *cancel; /* NULL: none */
    void *ctx;
    /* Each finding, job after job, sorted by file and offset. On the caller's thread. */
    void (*found)(void *ctx, const kwr_fsck_finding *finding);
    /* Now and then, at most five times a second: from threads of the executor, one at a time. Must
     * not call back into the library. NULL: none */
    void (*progress)(void *ctx, const kwr_fsck_progress *progress);
} kwr_fsck_options;

typedef struct kwr_fsck_result {
    size_t struct_size;
    uint64_t jobs;
    uint64_t checkpoints; /* that the logs name */
    uint64_t files;       /* data files and manifests looked at, each once */
    uint64_t bytes;       /* read */
    uint64_t images;
    uint64_t entries;
    uint64_t faults; /* damaged, missing, unreadable, newer */
    uint64_t unreadable;
    uint64_t leftovers;
    uint64_t leftover_bytes;
    uint64_t in_progress;
    uint64_t foreign;
} kwr_fsck_result;

/*
 * Checks every checkpoint of one job or of all: the log, the manifests, and every byte of every
 * file that one of them needs; a file that several need is read once. Then says what else lies
 * there. KWR_OK also with findings. A running job may go on meanwhile: what it removes or completes
 * is not told as damage. Of faults at most 100,000 of one job are told, and all are counted.
 * Set out->struct_size first.
 * Fails with KWR_ERR_MISUSE, KWR_ERR_RANGE, KWR_ERR_MISSING (no such job), KWR_ERR_CANCELLED,
 * KWR_ERR_NOMEM, KWR_ERR_IO (not even a listing). [any]
 */
KWR_API KWR_CHECK kwr_status kwr_fsck(const kwr_fsck_options *options, kwr_fsck_result *out,
                                      kwr_error *err);

typedef struct kwr_gc_options {
    size_t struct_size;
    const kwr_env *env;
    kwr_storage *storage;
    const char *job;          /* NULL: every job below the root */
    const kwr_limits *limits; /* NULL: defaults */
    bool remove;              /* false: only says what it would do, and writes nothing */
    /*
     * The newest attempt has ended and will not come back: what it left unfinished goes too. A
     * fence is published first, so that an attempt that lives after all can complete nothing that
     * needs a removed file: it ends. False: only what older attempts left.
     */
    bool attempt_ended;
    void *ctx;
    /* Leftovers (status: whether removing failed), files in progress, foreign names. */
    void (*found)(void *ctx, const kwr_fsck_finding *finding);
} kwr_gc_options;

typedef struct kwr_gc_result {
    size_t struct_size;
    uint64_t jobs;
    uint64_t leftovers;      /* found */
    uint64_t leftover_bytes; /* in them */
    uint64_t removed;
    uint64_t removed_bytes;
    uint64_t failed;      /* could not be removed, or not listed */
    uint64_t in_progress; /* left alone */
    uint64_t foreign;     /* left alone */
} kwr_gc_result;

/*
 * Removes what no checkpoint needs: slots below the log's floor first, then directories of
 * checkpoints that no slot names, then data files that no checkpoint uses, and files that storage
 * knows to have no end; only names of the library's grammar. Of a job whose log or a manifest
 * cannot be read, or whose lock is held, nothing is removed: KWR_ERR_CORRUPT, _MISSING, _FORMAT,
 * _IO, KWR_ERR_LOCKED; with `job` NULL the other jobs are worked on all the same, and the first
 * failure is returned. Can be repeated and interrupted at any point. Set out->struct_size first; it
 * is filled in after a failure too. [any]
 */
KWR_API KWR_CHECK kwr_status kwr_gc(const kwr_gc_options *options, kwr_gc_result *out,
                                    kwr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_FSCK_H */
