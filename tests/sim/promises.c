/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/promises.h"

#include "backend/memory/store.h"
#include "backend/view.h"

/* Half of the shortest pause: the trigger before may have been seen late. */
#define RETRY_NS UINT64_C(50000000)

static void check_trigger(sim_promises *p, const sim_job *run, const kwr_job_event *event) {
    const uint64_t now = kwr_sim_now_ns(run->sim);
    const uint64_t passed = now - p->triggered_ns;
    if (p->triggered && !event->final && passed < run->shape.interval_ms * 1000000)
        kwr_sim_violated(run->sim,
                         "pace: checkpoint %llu is triggered %llu ns after the one before, the "
                         "interval is %llu ms",
                         (unsigned long long)event->checkpoint, (unsigned long long)passed,
                         (unsigned long long)run->shape.interval_ms);
    if (p->triggered && p->final && passed < RETRY_NS)
        kwr_sim_violated(run->sim, "pace: final checkpoint %llu follows a failed one after %llu ns",
                         (unsigned long long)event->checkpoint, (unsigned long long)passed);
    *p = (sim_promises){ .triggered = true, .final = event->final, .triggered_ns = now };
}

void sim_promises_event(sim_promises *promises, const sim_job *run, const kwr_job_event *event) {
    const kwr_status status = event->error.status;
    switch (event->kind) {
    case KWR_JOB_TRIGGERED: check_trigger(promises, run, event); break;
    case KWR_JOB_FINISHED:
        if (!event->final)
            kwr_sim_violated(run->sim, "the job ends with checkpoint %llu, which is not final",
                             (unsigned long long)event->checkpoint);
        break;
    case KWR_JOB_FAILED:
        if (status == KWR_ERR_TIMEOUT || status == KWR_ERR_DECLINED ||
            status == KWR_ERR_CANCELLED || status == KWR_ERR_BUSY)
            kwr_sim_violated(run->sim, "a failed checkpoint ends the attempt: %s",
                             event->error.text);
        break;
    case KWR_JOB_SEND:
    case KWR_JOB_PUBLISHING:
    case KWR_JOB_PUBLISHED:
    case KWR_JOB_ABORTED: break;
    }
}

void sim_check_pages(kwr_sim *sim, kwr_backend *backend) {
    const kwr_engine_ops *ops = NULL;
    kwr_error err = { 0 };
    if (kwr_store_check(kwr_backend_engine(backend, &ops), &err) < KWR_OK)
        kwr_sim_violated(sim, "page store: %s", err.text);
}
