/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way back: claim the log, choose the checkpoint to continue, open and check it, and say what
 * to do when it is damaged. Blocks on storage; called by one thread.
 */
#ifndef KWR_RECOVERY_RECOVERY_H
#define KWR_RECOVERY_RECOVERY_H

#include "keyweir/task.h"
#include "snapshot/checkpoint.h"

typedef struct kwr_claim {
    kwr_log log; /* our fence included */
    kwr_slot fence;
    bool restored;          /* false: start empty */
    kwr_slot slot;          /* of the checkpoint to restore */
    kwr_manifest *manifest; /* opened and checked */
} kwr_claim;

typedef struct kwr_claim_options {
    const kwr_limits *limits; /* complete */
    kwr_restore_mode restore;
    uint64_t restore_checkpoint;
    uint64_t restore_generation;
} kwr_claim_options;

/*
 * Publishes a fence in the next slot (again when another attempt is faster, limits->
 * claim_attempts_max times), then chooses below it. A damaged choice stops with KWR_ERR_CORRUPT,
 * _MISSING or _FORMAT: file, offset, what it holds, the newest good older checkpoint and how to
 * restore that by choice. An explicit choice that the log does not have is KWR_ERR_MISSING before
 * any fence is written.
 */
kwr_status kwr_recovery_claim(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                              kwr_claim *out, kwr_error *err);
void kwr_claim_done(kwr_claim *claim);

/* Adds to `err` (damage found in `slot`) the newest good older checkpoint, verified in full, and
 * how to choose it. */
void kwr_recovery_advise(const kwr_job_dirs *dirs, const kwr_limits *limits, const kwr_log *log,
                         const kwr_slot *slot, kwr_error *err);

#endif /* KWR_RECOVERY_RECOVERY_H */
