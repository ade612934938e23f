/* SPDX-License-Identifier: Apache-2.0 */
/* The executor of the faulty environment: the base's with refused posts, or one that runs work on
 * the test's thread when told to. */
#include <string.h>

#include "tests/support/fault_internal.h"
#include "tests/support/kwr_test.h"

/* executor_private of queued work: [0] next, [1] posted, [2] timer, [3] due. */
enum { NEXT, POSTED, TIMER, DUE };

static kwr_work *next_of(const kwr_work *work) { return work->executor_private[NEXT]; }
static uint64_t due_of(const kwr_work *work) { return (uintptr_t)work->executor_private[DUE]; }
static bool posted(const kwr_work *work) { return work->executor_private[POSTED] != NULL; }

static bool refuse(fault_env *faults, const char *what) {
    pthread_mutex_lock(&faults->mutex);
    const bool fails = fault_plan_hit(&faults->post_plan);
    if (fails) {
        fault_note_fired(faults, "%s %llu", what, (unsigned long long)faults->post_plan.seen - 1);
    }
    pthread_mutex_unlock(&faults->mutex);
    return fails;
}

/* ---- inline ---- */

static void append(fault_env *faults, kwr_work *work) {
    memset(work->executor_private, 0, sizeof work->executor_private);
    work->executor_private[POSTED] = work;
    if (faults->last == NULL)
        faults->first = work;
    else
        faults->last->executor_private[NEXT] = work;
    faults->last = work;
}

/* Takes `work` out of the queue or the timers. */
static void unlink_work(fault_env *faults, kwr_work *work) {
    const bool timer = work->executor_private[TIMER] != NULL;
    kwr_work *previous = NULL, *at = timer ? faults->first_timer : faults->first;
    while (at != NULL && at != work) {
        previous = at;
        at = next_of(at);
    }
    cr_assert(at == work, "posted work is in its list");
    if (previous != NULL)
        previous->executor_private[NEXT] = next_of(work);
    else if (timer)
        faults->first_timer = next_of(work);
    else
        faults->first = next_of(work);
    if (faults->last == work) faults->last = previous;
    memset(work->executor_private, 0, sizeof work->executor_private);
}

static void run(fault_env *faults, kwr_work *work) {
    unlink_work(faults, work);
    cr_assert(faults->running_depth < 64, "work waits for work waits for work ...");
    faults->running[faults->running_depth++] = work;
    pthread_mutex_unlock(&faults->mutex);
    work->run(work->ctx);
    pthread_mutex_lock(&faults->mutex);
    faults->running_depth--;
}

static uint64_t now(fault_env *faults) {
    const kwr_clock *clock = faults->base->clock;
    return (faults->flags & FAULT_MANUAL_CLOCK) != 0 ? faults->mono_ns : clock->mono_ns(clock->ctx);
}

static void promote_timers(fault_env *faults) {
    while (faults->first_timer != NULL && due_of(faults->first_timer) <= now(faults)) {
        kwr_work *work = faults->first_timer;
        unlink_work(faults, work);
        append(faults, work);
    }
}

static bool run_one(fault_env *faults) {
    promote_timers(faults);
    if (faults->first == NULL) return false;
    run(faults, faults->first);
    return true;
}

bool fault_env_run_one(fault_env *faults) {
    pthread_mutex_lock(&faults->mutex);
    const bool ran = run_one(faults);
    pthread_mutex_unlock(&faults->mutex);
    return ran;
}

size_t fault_env_run_all(fault_env *faults) {
    size_t count = 0;
    while (fault_env_run_one(faults))
        count++;
    return count;
}

size_t fault_env_queued(fault_env *faults) {
    size_t count = 0;
    pthread_mutex_lock(&faults->mutex);
    for (const kwr_work *w = faults->first; w != NULL; w = next_of(w))
        count++;
    for (const kwr_work *w = faults->first_timer; w != NULL; w = next_of(w))
        count++;
    pthread_mutex_unlock(&faults->mutex);
    return count;
}

static uint32_t inline_parallelism(void *ctx) {
    (void)ctx;
    return 1;
}

static kwr_status inline_post(void *ctx, kwr_work *work) {
    fault_env *faults = ctx;
    if (refuse(faults, "post")) return KWR_ERR_NOMEM;
    pthread_mutex_lock(&faults->mutex);
    const bool twice = posted(work);
    if (!twice) append(faults, work);
    pthread_mutex_unlock(&faults->mutex);
    cr_assert(!twice, "work is posted twice");
    return KWR_OK;
}

static kwr_status inline_post_at(void *ctx, kwr_work *work, uint64_t mono_ns) {
    fault_env *faults = ctx;
    if (refuse(faults, "post_at")) return KWR_ERR_NOMEM;
    pthread_mutex_lock(&faults->mutex);
    const bool twice = posted(work);
    if (!twice) {
        kwr_work *previous = NULL, *next = faults->first_timer;
        while (next != NULL && due_of(next) <= mono_ns) {
            previous = next;
            next = next_of(next);
        }
        memset(work->executor_private, 0, sizeof work->executor_private);
        work->executor_private[POSTED] = work;
        work->executor_private[TIMER] = work;
        work->executor_private[DUE] = (void *)(uintptr_t)mono_ns;
        work->executor_private[NEXT] = next;
        if (previous == NULL)
            faults->first_timer = work;
        else
            previous->executor_private[NEXT] = work;
    }
    pthread_mutex_unlock(&faults->mutex);
    cr_assert(!twice, "work is posted twice");
    return KWR_OK;
}

static bool inline_cancel(void *ctx, kwr_work *work) {
    fault_env *faults = ctx;
    pthread_mutex_lock(&faults->mutex);
    const bool was = posted(work);
    if (was) unlink_work(faults, work);
    pthread_mutex_unlock(&faults->mutex);
    return was;
}

static void inline_wait(void *ctx, kwr_work *work) {
    fault_env *faults = ctx;
    pthread_mutex_lock(&faults->mutex);
    for (size_t i = 0; i < faults->running_depth; i++) {
        cr_assert(faults->running[i] != work, "work waits for itself");
    }
    while (posted(work)) {
        const bool manual = (faults->flags & FAULT_MANUAL_CLOCK) != 0;
        const bool timer = work->executor_private[TIMER] != NULL;
        if (timer && manual && due_of(work) > faults->mono_ns) {
            const uint64_t due = due_of(work);
            faults->wall_ms += (int64_t)(due / 1000000 - faults->mono_ns / 1000000);
            faults->mono_ns = due;
        }
        run(faults, work); /* a timer on a real clock too: nobody gains from sleeping here */
    }
    pthread_mutex_unlock(&faults->mutex);
}

/* ---- the base's, with refusals ---- */

static uint32_t base_parallelism(void *ctx) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    return base->parallelism(base->ctx);
}
static kwr_status base_post(void *ctx, kwr_work *work) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    return refuse(ctx, "post") ? KWR_ERR_NOMEM : base->post(base->ctx, work);
}
static kwr_status base_post_at(void *ctx, kwr_work *work, uint64_t mono_ns) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    return refuse(ctx, "post_at") ? KWR_ERR_NOMEM : base->post_at(base->ctx, work, mono_ns);
}
static kwr_status base_blocking(void *ctx, kwr_work *work) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    return refuse(ctx, "blocking") ? KWR_ERR_NOMEM : base->blocking(base->ctx, work);
}
static bool base_cancel(void *ctx, kwr_work *work) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    return base->cancel(base->ctx, work);
}
static void base_wait(void *ctx, kwr_work *work) {
    const kwr_executor *base = ((fault_env *)ctx)->base->executor;
    base->wait(base->ctx, work);
}

void fault_executor_init(fault_env *faults) {
    const bool inline_ = (faults->flags & FAULT_INLINE) != 0;
    /* Timers of the base go by its clock, which a manual one has nothing to do with. */
    cr_assert(inline_ || (faults->flags & FAULT_MANUAL_CLOCK) == 0,
              "a manual clock needs the inline executor");
    faults->executor = (kwr_executor){
        .struct_size = sizeof faults->executor,
        .ctx = faults,
        .parallelism = inline_ ? inline_parallelism : base_parallelism,
        .post = inline_ ? inline_post : base_post,
        .post_at = inline_ ? inline_post_at : base_post_at,
        .blocking = inline_ ? inline_post : base_blocking,
        .cancel = inline_ ? inline_cancel : base_cancel,
        .wait = inline_ ? inline_wait : base_wait,
    };
    faults->env.executor = &faults->executor;
}
