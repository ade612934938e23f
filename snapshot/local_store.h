/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by local_copy.c (the storage), local_claim.c (whose copies they are, and which still have
 * a file) and local_file.c (reading them). */
#ifndef KWR_SNAPSHOT_LOCAL_STORE_H
#define KWR_SNAPSHOT_LOCAL_STORE_H

#include "base/thread.h"
#include "snapshot/local_copy.h"
#include "snapshot/log.h"

/* A job whose copies are kept; lives as long as the storage. */
typedef struct kwr_copied_job {
    struct kwr_copied_job *next;
    char name[KWR_JOB_NAME_MAX + 1];
    uint8_t uid[16];
    kwr_storage_dir *dir; /* of `local`; NULL: it cannot be used */
    uint64_t copies;      /* at most as many are there */
    uint64_t sweep_at;
} kwr_copied_job;

typedef struct kwr_copy_storage {
    kwr_storage base;
    const kwr_env *env;
    kwr_storage *remote;
    kwr_storage *local;
    kwr_mutex mutex; /* guards what follows */
    kwr_copied_job *jobs;
    struct kwr_storage_writer *writing; /* those with a local writer */
    bool failing;                       /* the latest copy failed: that was told */
    bool sweeping;
    kwr_local_copy_stats stats;
} kwr_copy_storage;

/* NULL: a storage of another kind. */
kwr_copy_storage *kwr_copy_storage_of(kwr_storage *storage);
/* Where copies of this name are; NULL: nowhere. */
kwr_copied_job *kwr_copied_job_of(kwr_copy_storage *s, const kwr_storage_dir *dir,
                                  const char *name);
bool kwr_copy_being_written(kwr_copy_storage *s, const kwr_copied_job *job, const char *name);

/* local_claim.c; NULL: it was not claimed. Jobs are never taken away. */
kwr_copied_job *kwr_copied_job_find(kwr_copy_storage *s, const char *name);
/* Removes copies of files that are gone, when there may be many. */
void kwr_copies_sweep_if_due(kwr_copy_storage *s, kwr_copied_job *job);

#endif /* KWR_SNAPSHOT_LOCAL_STORE_H */
