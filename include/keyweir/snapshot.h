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
} kwr_snapshot_target;

typedef struct kwr_snapshot_result {
    kwr_bytes handle;       /* release with kwr_bytes_free() */
    uint64_t bytes_written; /* to storage and inline together */
    uint64_t raw_bytes;     /* before compression */
    uint64_t entries;
    uint64_t files;
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

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_SNAPSHOT_H */
