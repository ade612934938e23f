/* SPDX-License-Identifier: Apache-2.0 */
/* Verifying one checkpoint: an inspection of it alone. */
#include <stdio.h>

#include "base/error.h"
#include "snapshot/checkpoint.h"
#include "snapshot/inspect.h"

typedef struct verify_job {
    void (*found)(void *ctx, const kwr_finding *finding);
    void *ctx;
    uint64_t findings;
    kwr_status unreadable;
    kwr_error *err;
} verify_job;

/* What cannot be read ends it: whether it is damaged is not known. */
static void tell(void *ctx, const kwr_fsck_finding *finding) {
    verify_job *job = ctx;
    if (finding->kind == KWR_FSCK_UNREADABLE) {
        if (job->unreadable >= KWR_OK)
            job->unreadable = KWR_FAIL(job->err, finding->status, 0, "%s", finding->text);
        return;
    }
    job->findings++;
    const kwr_finding told = { .status = finding->status,
                               .file = finding->file,
                               .offset = finding->offset,
                               .text = finding->text };
    if (job->found != NULL) job->found(job->ctx, &told);
}

kwr_status kwr_checkpoint_verify(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                 const kwr_manifest *manifest,
                                 void (*found)(void *ctx, const kwr_finding *finding), void *ctx,
                                 kwr_verify_result *out, kwr_error *err) {
    verify_job job = { .found = found, .ctx = ctx, .err = err };
    const kwr_inspect_options options = { .dirs = dirs, .limits = limits };
    kwr_inspection *inspection = NULL;
    KWR_TRY(kwr_inspection_new(&options, &inspection, err));
    kwr_status status = kwr_inspection_add(inspection, manifest, err);
    if (status >= KWR_OK) status = kwr_inspection_run(inspection, err);
    if (status >= KWR_OK) {
        kwr_inspection_tell(inspection, tell, &job);
        status = job.unreadable;
    }
    const kwr_inspect_result result = kwr_inspection_result(inspection);
    kwr_inspection_free(inspection);
    KWR_TRY(status);
    *out = (kwr_verify_result){ .files = result.files,
                                .bytes = result.bytes,
                                .images = result.images,
                                .entries = result.entries,
                                .findings = job.findings };
    return KWR_OK;
}
