/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which checkpoints stay, and the removal of the others: first the slot that refers, durably, then
 * the data. Shared files are kept by the last checkpoint that uses them, not by counting.
 */
#ifndef KWR_SNAPSHOT_RETENTION_H
#define KWR_SNAPSHOT_RETENTION_H

#include "snapshot/checkpoint.h"

typedef struct kwr_retention kwr_retention;

kwr_status kwr_retention_new(const kwr_env *env, const kwr_limits *limits, kwr_retention **out);
void kwr_retention_free(kwr_retention *retention);
/* A completed checkpoint and the shared files it uses. */
kwr_status kwr_retention_add(kwr_retention *retention, const kwr_slot *slot,
                             const kwr_manifest *manifest);
/*
 * The floor of a checkpoint slot about to be published above `log`: of the oldest checkpoint among
 * the newest `retain` of the history, it included; the present floor while there are fewer. What
 * lies below may be removed once that slot is published, and only then: by the record, not by who
 * asks, so that a fenced attempt can remove nothing that its successor needs.
 */
uint64_t kwr_retention_floor(uint32_t retain, const kwr_log *log);
/*
 * Removes what lies below the log's floor: slots in ascending order, then directories, then shared
 * files last used by a removed one. Failures are logged and tried again at the next call; what is
 * left is garbage, never damage. Updates `log`.
 */
void kwr_retention_apply(kwr_retention *retention, const kwr_job_dirs *dirs, kwr_log *log);
/*
 * At the start of an attempt: removes what lower generations left and no slot refers to, by our own
 * name grammar only (chk-*, shared/...kwp, temporary files and slots below the floor in log/).
 * Reads the manifests of all slots first; if one cannot be read nothing shared is removed.
 */
void kwr_retention_sweep(kwr_retention *retention, const kwr_job_dirs *dirs, const kwr_log *log,
                         uint64_t generation);

#endif /* KWR_SNAPSHOT_RETENTION_H */
