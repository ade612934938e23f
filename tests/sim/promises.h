/* SPDX-License-Identifier: Apache-2.0 */
/* What a job promises about its events, and the page store about itself: judged as it happens. */
#ifndef KWR_TEST_SIM_PROMISES_H
#define KWR_TEST_SIM_PROMISES_H

#include "keyweir/backend.h"
#include "keyweir/task.h"
#include "tests/sim/job.h"

/* Of one attempt. */
typedef struct sim_promises {
    bool triggered, final; /* at least once; the newest was final */
    uint64_t triggered_ns;
} sim_promises;

/*
 * Periodic checkpoints keep their interval; one that failed at the end is not repeated at once; a
 * job that nobody stops ends with a final checkpoint; failed checkpoints alone end no attempt that
 * tolerates all.
 */
void sim_promises_event(sim_promises *promises, const sim_job *run, const kwr_job_event *event);
/* The invariants of the page store, all of them. */
void sim_check_pages(kwr_sim *sim, kwr_backend *backend);

#endif /* KWR_TEST_SIM_PROMISES_H */
