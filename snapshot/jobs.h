/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs below a root, for work on all of them. */
#ifndef KWR_SNAPSHOT_JOBS_H
#define KWR_SNAPSHOT_JOBS_H

#include "snapshot/log.h"

typedef kwr_status (*kwr_job_fn)(void *ctx, const char *name, bool is_job, kwr_error *err);
/*
 * Calls `fn` for each name in the root, sorted: whether it is a job's directory (with log/, shared/
 * or a directory of a checkpoint in it) or a foreign name. A failure of `fn` ends it.
 */
kwr_status kwr_jobs_each(const kwr_env *env, kwr_storage *storage, kwr_job_fn fn, void *ctx,
                         kwr_error *err);

#endif /* KWR_SNAPSHOT_JOBS_H */
