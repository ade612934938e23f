/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading every byte that a set of checkpoints of one job needs, each file once, in parallel. What
 * is found is told with the checkpoints it hits.
 */
#ifndef KWR_SNAPSHOT_INSPECT_H
#define KWR_SNAPSHOT_INSPECT_H

#include "keyweir/fsck.h"
#include "snapshot/checkpoint.h"

typedef struct kwr_inspection kwr_inspection;

typedef struct kwr_inspect_options {
    const kwr_job_dirs *dirs;
    const kwr_limits *limits; /* may be NULL */
    uint32_t threads;
    bool indexes_only;
    const kwr_cancel *cancel; /* may be NULL */
    void *ctx;
    void (*progress)(void *ctx, const kwr_fsck_progress *progress); /* may be NULL */
} kwr_inspect_options;

kwr_status kwr_inspection_new(const kwr_inspect_options *options, kwr_inspection **out,
                              kwr_error *err);
void kwr_inspection_free(kwr_inspection *inspection); /* NULL is a no-op */
/* One more checkpoint; the manifest stays the caller's, and must outlive the inspection. */
kwr_status kwr_inspection_add(kwr_inspection *inspection, const kwr_manifest *manifest,
                              kwr_error *err);
/* A finding of the caller's, told with the others; strings are copied. */
kwr_status kwr_inspection_note(kwr_inspection *inspection, const kwr_fsck_finding *finding);
/* Looks at everything. Then the findings can be told, any number of times. */
kwr_status kwr_inspection_run(kwr_inspection *inspection, kwr_error *err);
/* Sorted by file and offset. */
void kwr_inspection_tell(kwr_inspection *inspection,
                         void (*found)(void *ctx, const kwr_fsck_finding *finding), void *ctx);

typedef struct kwr_inspect_result {
    uint64_t files; /* that were there */
    uint64_t bytes; /* read */
    uint64_t images;
    uint64_t entries;
    uint64_t faults; /* told or not */
} kwr_inspect_result;
kwr_inspect_result kwr_inspection_result(const kwr_inspection *inspection);

/* The kind of a failed look; 0: it is none, the whole work has failed. */
kwr_fsck_kind kwr_inspect_kind(kwr_status status);

#endif /* KWR_SNAPSHOT_INSPECT_H */
