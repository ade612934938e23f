/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random events, sensible and not, in random order and time. Whatever comes, the answers obey the
 * invariants of docs/barriers.md; these are kept here from the actions alone.
 */
#include "tests/barrier/coordinator_support.h"

enum { TASKS_MAX = 5, STEPS = 400 };

typedef struct witness {
    uint64_t open; /* triggered, neither completed nor aborted; 0: none */
    bool open_final;
    bool publishing;
    bool published; /* PUBLISHED was given for `open` */
    uint64_t highest;
    uint32_t acked; /* bits of tasks */
    uint32_t finishes, failures_in_row;
    bool failed;
    uint64_t completed, aborted;
} witness;

static void see_action(witness *w, const kwr_coordinator_action *a, uint32_t tasks) {
    cr_assert(!w->failed, "said %s after the attempt had failed", action_name(a->kind));
    cr_assert(w->finishes == 0 || a->kind == KWR_DO_IGNORE_ACK, "said %s after the end",
              action_name(a->kind));
    switch (a->kind) {
    case KWR_DO_TRIGGER:
        cr_assert(w->open == 0, "two checkpoints pending");
        cr_assert(a->checkpoint > w->highest, "an id came twice");
        w->highest = w->open = a->checkpoint;
        w->open_final = a->final;
        w->publishing = w->published = false;
        w->acked = 0;
        return;
    case KWR_DO_PUBLISH:
        cr_assert(w->open == a->checkpoint && !w->publishing);
        cr_assert(w->acked == (1U << tasks) - 1, "published without all acks");
        w->publishing = true;
        return;
    case KWR_DO_COMPLETE:
        cr_assert(w->open == a->checkpoint && w->published, "complete before it was published");
        cr_assert(a->final == w->open_final);
        w->open = 0;
        w->completed++;
        w->failures_in_row = 0;
        return;
    case KWR_DO_ABORT:
        cr_assert(w->open == a->checkpoint && !w->published && a->status < KWR_OK);
        w->open = 0;
        w->aborted++;
        w->failures_in_row++;
        return;
    case KWR_DO_FINISH:
        cr_assert(w->open == 0 && a->checkpoint == w->highest && a->final == w->open_final);
        w->finishes++;
        return;
    case KWR_DO_FAIL:
        cr_assert(a->status < KWR_OK);
        w->failed = true;
        return;
    case KWR_DO_IGNORE_ACK: return;
    }
    cr_assert(false, "unknown action %d", (int)a->kind);
}

/* Mostly about the pending checkpoint, sometimes about any. */
static kwr_coordinator_event invent(uint64_t *seed, const witness *w, uint32_t tasks) {
    static const kwr_status reasons[] = { KWR_ERR_IO, KWR_ERR_NOSPACE, KWR_ERR_CANCELLED,
                                          KWR_ERR_DECLINED, KWR_OK };
    static const kwr_coordinator_event_kind kinds[] = {
        KWR_ON_TICK,      KWR_ON_TICK,
        KWR_ON_ACK,       KWR_ON_ACK,
        KWR_ON_ACK,       KWR_ON_ACK,
        KWR_ON_ACK,       KWR_ON_ACK,
        KWR_ON_PUBLISHED, KWR_ON_PUBLISHED,
        KWR_ON_TRIGGER,   KWR_ON_DECLINE,
        KWR_ON_PUBLISHED, KWR_ON_PUBLISH_FAILED,
    };
    kwr_coordinator_event e = {
        .kind = kinds[dice_below(seed, sizeof kinds / sizeof kinds[0])],
        .checkpoint = one_in(seed, 10) ? dice_below(seed, 30) : w->open,
        .generation = one_in(seed, 20) ? GENERATION + 1 : GENERATION,
        .task = (uint32_t)dice_below(seed, one_in(seed, 20) ? tasks + 2 : tasks),
        .status = reasons[dice_below(seed, sizeof reasons / sizeof reasons[0])],
    };
    if (one_in(seed, 60)) e.kind = KWR_ON_SOURCE_ENDED;
    if (one_in(seed, 300)) e.kind = KWR_ON_STOP;
    if (one_in(seed, 1000)) e.kind = KWR_ON_LOST;
    if (one_in(seed, 100)) e.kind = (kwr_coordinator_event_kind)dice_below(seed, 13);
    return e;
}

/* What the witness must know before the answer. */
static void foresee(witness *w, const kwr_coordinator_event *e, uint32_t tasks) {
    if (w->open == 0 || e->checkpoint != w->open) return;
    if (e->kind == KWR_ON_ACK && e->generation == GENERATION && e->task < tasks && !w->publishing) {
        w->acked |= 1U << e->task;
    }
    if (e->kind == KWR_ON_PUBLISHED && w->publishing) w->published = true;
}

static void see_state(const driver *d, const witness *w) {
    cr_assert(kwr_coordinator_pending(d->c) == (w->failed ? 0 : w->open));
    if (w->failed || w->finishes > 0 || (w->open > 0 && w->publishing)) DEADLINE(NEVER, d);
}

static void run(uint64_t seed, witness *total) {
    const uint64_t first_seed = seed;
    const uint32_t tasks = 1 + (uint32_t)dice_below(&seed, TASKS_MAX);
    const kwr_coordinator_options options = {
        .interval_ns = one_in(&seed, 3) ? 0 : 1 + dice_below(&seed, 100),
        .min_pause_ns = one_in(&seed, 2) ? 0 : dice_below(&seed, 100),
        .timeout_ns = 1 + dice_below(&seed, 300),
        .tasks = tasks,
        .tolerable_failures = (uint32_t)dice_below(&seed, 4),
        .tolerate_all = one_in(&seed, 2),
    };
    driver d;
    driver_open(&d, &options);
    const uint32_t sources = (uint32_t)dice_below(&seed, tasks + 1);
    for (uint32_t t = 0; t < sources; t++)
        SAYS("", of_task(&d, KWR_ON_SOURCE, t));
    SAYS("", plain(&d, KWR_ON_START));

    witness w = { .highest = FIRST - 1 };
    uint64_t now = 0;
    for (int i = 0; i < STEPS; i++) {
        kwr_coordinator_event e = invent(&seed, &w, tasks);
        now += dice_below(&seed, 20);
        const uint64_t deadline = kwr_coordinator_deadline(d.c);
        const bool was_idle = kwr_coordinator_pending(d.c) == 0;
        if (e.kind == KWR_ON_TICK && one_in(&seed, 4) && deadline != NEVER && deadline > now) {
            now = deadline;
        }
        e.now_ns = now;
        foresee(&w, &e, tasks);
        kwr_coordinator_action actions[KWR_COORDINATOR_ACTIONS_MAX];
        size_t count = 0;
        const kwr_status status = kwr_coordinator_step(d.c, &e, actions, &count);
        cr_assert(status == KWR_OK || count == 0, "seed %llu", (unsigned long long)first_seed);
        if (e.kind == KWR_ON_TICK) { /* a tick does something exactly when the deadline is there */
            cr_assert((count > 0) == (deadline != NEVER && now >= deadline),
                      "seed %llu: a tick at %llu with deadline %llu did %zu things",
                      (unsigned long long)first_seed, (unsigned long long)now,
                      (unsigned long long)deadline, count);
        }
        if (e.kind == KWR_ON_TRIGGER && status == KWR_ERR_BUSY) cr_assert(!was_idle);
        for (size_t k = 0; k < count; k++)
            see_action(&w, &actions[k], tasks);
        if (!options.tolerate_all && !w.failed) {
            cr_assert(w.failures_in_row <= options.tolerable_failures);
        }
        see_state(&d, &w);
    }
    driver_close(&d);
    total->completed += w.completed;
    total->aborted += w.aborted;
    total->finishes += w.finishes;
    total->failures_in_row += w.failed; /* here: failed attempts */
}

KWR_TEST(coordinator_random, obeys_its_invariants_whatever_comes, .timeout = 300) {
    witness total = { 0 };
    for (uint64_t seed = 1; seed <= 4000; seed++)
        run(seed, &total);
    cr_assert(total.completed > 5000 && total.aborted > 5000 && total.finishes > 500 &&
                  total.failures_in_row > 500,
              "too little happened: %llu completed, %llu aborted, %u finished, %u failed",
              (unsigned long long)total.completed, (unsigned long long)total.aborted,
              total.finishes, total.failures_in_row);
}
