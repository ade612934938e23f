/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One checkpoint as it lies in storage: writing its directory, opening and verifying it, reading
 * its entries without any engine, and removing it.
 */
#ifndef KWR_SNAPSHOT_CHECKPOINT_H
#define KWR_SNAPSHOT_CHECKPOINT_H

#include "snapshot/log.h"
#include "snapshot/manifest.h"

/*
 * Writes chk-<id>-<generation>/: the file `inline` (already concatenated; may be empty), then the
 * manifest, each synced, with their directories. Fills manifest->inline_length and _digest, and in
 * `slot` length and digest of the manifest. On failure nothing refers to what is left.
 */
kwr_status kwr_checkpoint_write(const kwr_job_dirs *dirs, kwr_manifest *manifest,
                                kwr_slice inline_bytes, kwr_slot *slot, uint64_t *bytes_written,
                                kwr_error *err);

/* Reads and checks the manifest a slot names: length, digest, identity. */
kwr_status kwr_checkpoint_open(const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_slot *slot, kwr_manifest **out, kwr_error *err);
/* The same without a slot ("not anchored"): identity and structure only. */
kwr_status kwr_checkpoint_open_dir(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                   uint64_t checkpoint, uint64_t generation, kwr_manifest **out,
                                   kwr_error *err);

/* One finding of a verification. */
typedef struct kwr_finding {
    kwr_status status; /* CORRUPT, MISSING, FORMAT, IO */
    const char *file;  /* relative to the job directory */
    uint64_t offset;
    const char *text; /* what is there: operator, subtask, state, key group, ... */
} kwr_finding;

typedef struct kwr_verify_result {
    uint64_t files;
    uint64_t bytes;
    uint64_t images;
    uint64_t entries;
    uint64_t findings;
} kwr_verify_result;

/*
 * Reads every byte of every file of the manifest and checks it up to the manifest; `found` (may be
 * NULL) is told of each finding. KWR_OK also with findings: see the result. Other failures:
 * KWR_ERR_IO (cannot read), KWR_ERR_NOMEM.
 */
kwr_status kwr_checkpoint_verify(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                 const kwr_manifest *manifest,
                                 void (*found)(void *ctx, const kwr_finding *finding), void *ctx,
                                 kwr_verify_result *out, kwr_error *err);

/* Every entry of one operator (NULL: all), verified as it is read; of a subtask's operator state
 * behind its keyed state, with the inner subtask. `directory`: local and not there yet, used for
 * the files of engines that keep state in files; NULL: those are refused. */
typedef kwr_status (*kwr_checkpoint_entry_fn)(void *ctx, const kwr_manifest_operator *op,
                                              const kwr_manifest_subtask *subtask,
                                              const kwr_state_info *state, const kwr_entry *entry);
kwr_status kwr_checkpoint_walk(const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_manifest *manifest, const char *operator_id,
                               const char *directory, kwr_checkpoint_entry_fn fn, void *ctx,
                               kwr_error *err);

/*
 * The snapshot of a subtask, or of its operator state, as a handle for kwr_snapshot_restore(),
 * without splits and committables. Reads nothing: what is inline is referred to where it is.
 */
kwr_status kwr_checkpoint_handle(const kwr_env *env, const kwr_manifest *manifest,
                                 const kwr_manifest_operator *op,
                                 const kwr_manifest_subtask *subtask, kwr_bytes *out,
                                 kwr_error *err);
/*
 * Opens the file `inline`, which must have this length. Both outs are the caller's: the reader is
 * closed before the directory. `path` is for messages.
 */
kwr_status kwr_checkpoint_open_inline(const kwr_job_dirs *dirs, uint64_t checkpoint,
                                      uint64_t generation, uint64_t length, kwr_storage_dir **dir,
                                      kwr_storage_reader **reader, char *path, kwr_error *err);

/* Removes the directory of a checkpoint that no slot names any more. Missing is KWR_OK. */
kwr_status kwr_checkpoint_remove(const kwr_job_dirs *dirs, uint64_t checkpoint, uint64_t generation,
                                 kwr_error *err);

#endif /* KWR_SNAPSHOT_CHECKPOINT_H */
