/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frozen view written to storage, and a backend made from what was written. The handle between
 * the two is opaque bytes that say where the snapshot is and what its digests are; kwr_task carries
 * it in acknowledgements, a host using only this part keeps it where it likes.
 */
#ifndef KEYWEIR_SNAPSHOT_H
#define KEYWEIR_SNAPSHOT_H

#include "keyweir/backend.h"
#include "keyweir/storage.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What the checkpoints of one backend have in common: data files of a completed checkpoint that the
 * next one refers to instead of writing them again. One for each backend, of one operator of one
 * job; kwr_task has its own. Several checkpoints may be open: what is referred to is in the newest
 * confirmed one and in every one written since whose fate is not known.
 */
typedef struct kwr_lineage kwr_lineage;

/* Empty: the first snapshot is a full one. Fails with KWR_ERR_RANGE (operator_id), KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_lineage_new(const kwr_env *env, const uint8_t job_uid[16],
                                             const char *operator_id, kwr_lineage **out,
                                             kwr_error *err);
KWR_API void kwr_lineage_free(kwr_lineage *lineage); /* NULL is a no-op */
/*
 * The checkpoint is completed: the next ones refer to it. In ascending order. Of checkpoints below
 * it nothing is known any more. [any]
 */
KWR_API void kwr_lineage_confirm(kwr_lineage *lineage, uint64_t checkpoint);
/* The checkpoint will certainly never be completed: what was written for it is never referred to,
 * and its new files may be removed. [any] */
KWR_API void kwr_lineage_abort(kwr_lineage *lineage, uint64_t checkpoint);

typedef enum kwr_snapshot_form {
    KWR_SNAPSHOT_NATIVE = 0, /* the engine's own: the fastest to write and to restore */
    /*
     * The same for every engine: entries in one order, byte for byte, whichever engine has written
     * them and whatever way they came to it. Complete by itself, without files of older
     * checkpoints. For moving to another engine, for archives, for comparing.
     */
    KWR_SNAPSHOT_CANONICAL = 1,
} kwr_snapshot_form;

typedef struct kwr_snapshot_target {
    size_t struct_size;
    const kwr_env *env;
    kwr_storage *storage;
    const char *job; /* directory below the root, [A-Za-z0-9_.-]{1,100} */
    uint8_t job_uid[16];
    const char *operator_id; /* [A-Za-z0-9_.-]{1,100} */
    uint32_t subtask;
    uint64_t generation; /* of the attempt; part of every file name */
    uint64_t checkpoint;
    uint64_t sequence;   /* first file number; unique per generation, operator, subtask */
    size_t inline_bytes; /* snapshots of at most this size travel in the handle; 0: never */
    uint32_t threads;    /* work at the same time; 0: the executor's parallelism */
    bool compression_off;
    const kwr_limits *limits; /* NULL: defaults */
    /*
     * NULL: everything is written. Else files are referred to where the engine can, and the
     * snapshot is a candidate until kwr_lineage_confirm() or kwr_lineage_abort(). One write at a
     * time for each lineage, checkpoint ids ascending.
     */
    kwr_lineage *lineage;
    kwr_snapshot_form form; /* canonical: everything is written, whatever `lineage` has */
    /*
     * The view is only released after this, whatever comes of it, and no other call on it is
     * running: key groups that are written are let go at once, so that the owner has less to copy.
     * All calls on the view but kwr_view_release() then fail with KWR_ERR_MISUSE.
     */
    bool last_use;
} kwr_snapshot_target;

typedef struct kwr_snapshot_result {
    kwr_bytes handle;       /* release with kwr_bytes_free() */
    uint64_t bytes_written; /* to storage and inline together, for this checkpoint */
    uint64_t raw_bytes;     /* of these, before compression */
    uint64_t entries;
    uint64_t files;         /* made for this checkpoint: numbers from `sequence` on */
    uint64_t files_used;    /* by this snapshot, with those of older checkpoints */
    uint64_t bytes_used;    /* all it consists of, as stored */
    uint64_t sequence_next; /* above every number it has used */
} kwr_snapshot_result;

/* A request to stop, set by any thread; zeroed at first. */
typedef struct kwr_cancel {
    uint32_t flag; /* the library's own */
} kwr_cancel;
/* [any] */
KWR_API void kwr_cancel_request(kwr_cancel *cancel);

/*
 * Writes `view` and makes it durable. Blocks; runs its parts on the executor. The view stays the
 * caller's. kwr_cancel_request() makes it end with KWR_ERR_CANCELLED. After a failure nothing it
 * wrote is left, as far as removing works. [any]
 */
KWR_API KWR_CHECK kwr_status kwr_snapshot_write(kwr_view *view, const kwr_snapshot_target *target,
                                                const kwr_cancel *cancel, kwr_snapshot_result *out,
                                                kwr_error *err);

/*
 * Opens a backend holding what the handles contain: those entries whose key groups
 * options->key_groups owns. All stored bytes that are used are verified first. All or nothing.
 * Fails with KWR_ERR_CORRUPT, _MISSING, _FORMAT (file and offset in `err`), KWR_ERR_MISMATCH
 * (another max parallelism, seed or key type), KWR_ERR_NOMEM, KWR_ERR_IO.
 */
KWR_API KWR_CHECK kwr_status kwr_snapshot_restore(const kwr_backend_options *options,
                                                  kwr_storage *storage, const char *job,
                                                  const kwr_slice *handles, size_t handle_count,
                                                  kwr_backend **out, kwr_error *err);

/*
 * The same for a job that goes on: `lineage` (or NULL) then holds what was restored, which must be
 * a completed checkpoint of the lineage's job and operator, so that the next snapshot can refer to
 * it. Of another job or operator's snapshots it stays empty.
 */
KWR_API KWR_CHECK kwr_status kwr_snapshot_resume(const kwr_backend_options *options,
                                                 kwr_storage *storage, const char *job,
                                                 const kwr_slice *handles, size_t handle_count,
                                                 kwr_lineage *lineage, kwr_backend **out,
                                                 kwr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_SNAPSHOT_H */
