/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every name in a job's directories, and whether a checkpoint of the log needs it. Names are listed
 * first and the log is read afterwards, so that nothing completed meanwhile looks unneeded.
 */
#ifndef KWR_SNAPSHOT_CENSUS_H
#define KWR_SNAPSHOT_CENSUS_H

#include "keyweir/fsck.h"
#include "snapshot/checkpoint.h"

typedef enum kwr_census_place {
    KWR_CENSUS_LOG = 1,        /* in log/: removed first, they are the record */
    KWR_CENSUS_ROOT = 2,       /* directories of checkpoints, and what else lies there */
    KWR_CENSUS_CHECKPOINT = 3, /* in such a directory */
    KWR_CENSUS_SHARED = 4,     /* in shared/ */
} kwr_census_place;

typedef struct kwr_census_name {
    kwr_census_place place;
    uint64_t checkpoint; /* whose directory it is, or is in */
    uint64_t generation; /* of the attempt that made it; 0: the name does not say */
    uint64_t slot;       /* in log/ */
    bool temporary;
    bool ours;
    kwr_fsck_kind kind; /* 0: needed; else LEFTOVER, IN_PROGRESS, FOREIGN; MISSING: of an attempt
                           the log has never heard of, so the log has lost something */
    const char *name;
} kwr_census_name;

typedef struct kwr_census {
    const kwr_env *env;
    kwr_arena *arena;
    kwr_census_name **names; /* in the order in which they may be removed */
    size_t count, capacity;
} kwr_census;

/* Lists. What vanishes meanwhile is not in it. */
kwr_status kwr_census_take(const kwr_job_dirs *dirs, kwr_census *out, kwr_error *err);
void kwr_census_free(kwr_census *census);

/* Data files that some checkpoint uses. */
typedef struct kwr_census_needs {
    const kwr_env *env;
    const char **names; /* sorted when complete; the manifests' own */
    size_t count, capacity;
    const kwr_manifest **manifests;
    size_t manifest_count, manifest_capacity;
} kwr_census_needs;

/* The manifest stays the caller's, and must outlive the needs. */
kwr_status kwr_census_need(kwr_census_needs *needs, const kwr_manifest *manifest);
void kwr_census_needs_free(kwr_census_needs *needs);

/*
 * Judges every name by a log that was read after the listing and by all of its manifests. What
 * attempts below `generation` left and nothing needs is a leftover; what attempts up to the log's
 * newest left, in progress.
 */
void kwr_census_judge(kwr_census *census, const kwr_log *log, kwr_census_needs *needs,
                      uint64_t generation);

/* "log/0000000000000001", "chk-1-1/", "chk-1-1/inline", "shared/..." */
void kwr_census_path(const kwr_census_name *name, char *out, size_t capacity);
/* Of the file, or of the files of a checkpoint's directory; 0 when it cannot be told. */
uint64_t kwr_census_size(const kwr_job_dirs *dirs, const kwr_census *census,
                         const kwr_census_name *name);
/* Whether it is still there, as far as can be told. */
bool kwr_census_exists(const kwr_job_dirs *dirs, const kwr_census_name *name);

#endif /* KWR_SNAPSHOT_CENSUS_H */
