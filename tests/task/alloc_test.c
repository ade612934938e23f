/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of an attempt fails once: opening and restoring, records, checkpoints, the end.
 * The engine repeats a call that failed for want of memory, for it has changed nothing; a failed
 * start is repeated as a whole. Nothing leaks (closing the environment checks that), nothing is
 * lost, nothing comes out twice.
 */
#include <stdio.h>
#include <string.h>

#include "tests/task/stream.h"

enum { TOTAL = 10 };

typedef struct trial {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
} trial;

static void trial_open(trial *t, bool inline_off) {
    memset(t, 0, sizeof *t);
    t->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_storage_memory_open(fault_env_env(t->faults), 0, &t->storage, &err), err);
    t->options = (stream_options){
        .env = fault_env_env(t->faults),
        .faults = t->faults,
        .storage = t->storage,
        .world = &t->world,
        .total = TOTAL,
        .operators = 2,
        .job = { .tolerate_all = true,
                 .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0 },
    };
}

static void trial_close(trial *t) {
    kwr_storage_close(t->storage);
    stream_world_done(&t->world);
    fault_env_close(t->faults);
}

/* An attempt that ended early is followed by another, as an engine would. */
static void run_to_the_end(trial *t, const char *when) {
    for (int attempts = 0; attempts < 4; attempts++) {
        stream s;
        kwr_error err = { 0 };
        if (stream_open(&s, &t->options, &err) < KWR_OK) {
            cr_assert(err.status == KWR_ERR_NOMEM, "%s: start: %s: %s", when,
                      kwr_status_name(err.status), err.text);
            continue;
        }
        stream_run(&s, 3);
        if (!s.failed && s.broken.status == KWR_OK) (void)stream_checkpoint(&s);
        if (!s.failed && s.broken.status == KWR_OK) stream_finish(&s);
        cr_assert(s.broken.status == KWR_OK, "%s: %s: %s", when, kwr_status_name(s.broken.status),
                  s.broken.text);
        if (s.finished) stream_expect_consistent(&s, when);
        const bool finished = s.finished_final;
        stream_close(&s);
        if (finished) return;
    }
    cr_assert(false, "%s: never finished", when);
}

static bool run_with_fault(uint64_t n, bool inline_off) {
    trial t;
    stream s;
    char when[200];
    trial_open(&t, inline_off);
    stream_must_open(&s, &t.options);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1);
    stream_run(&s, 2);
    stream_close(&s);

    fault_env_fail_alloc(t.faults, n, FAULT_ONCE);
    snprintf(when, sizeof when, "allocation %llu%s", (unsigned long long)n,
             inline_off ? ", inline off" : "");
    run_to_the_end(&t, when);
    const bool fired = fault_env_fired(t.faults) > 0;
    fault_env_clear(t.faults);
    stream_world_expect(&t.world, TOTAL, when);
    trial_close(&t);
    return fired;
}

static void every_allocation_fails_once(bool inline_off) {
    uint64_t n = 0;
    while (run_with_fault(n, inline_off))
        n++;
    cr_assert(n > 100, "only %llu allocations", (unsigned long long)n);
}

KWR_TEST(memory, no_failed_allocation_loses_or_leaks_anything, .timeout = 300) {
    every_allocation_fails_once(false);
}

KWR_TEST(memory, no_failed_allocation_loses_or_leaks_anything_with_files, .timeout = 300) {
    every_allocation_fails_once(true);
}
