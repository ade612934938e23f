/* SPDX-License-Identifier: Apache-2.0 */
/* One run of word count, from its locks to its last commit. */
#ifndef WC_JOB_H
#define WC_JOB_H

#include <keyweir/keyweir.h>

#include "examples/wordcount_options.h"

typedef struct wc_end {
    uint64_t checkpoint; /* the last one */
    bool finished;       /* all input is counted; else stopped on request */
} wc_end;

kwr_status wc_job_run(const kwr_env *env, const wc_options *options, wc_end *end, kwr_error *err);

#endif /* WC_JOB_H */
