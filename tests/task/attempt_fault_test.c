/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every storage call of a whole attempt, from its claim over restore, checkpoints and removals to
 * its end: the run is killed before and after it, it fails, it takes effect and says otherwise. The
 * attempt may end wherever it must; its successor loses and doubles nothing.
 */
#include <string.h>

#include "tests/task/trial.h"

/* Opens, takes checkpoints, finishes, and stops wherever something fails. */
static void attempt(trial *t) {
    stream s;
    kwr_error err = { 0 };
    if (stream_open(&s, &t->options, &err) < KWR_OK) {
        cr_assert(strlen(err.text) > 0, "%s: a start failed without a reason", t->name);
        return;
    }
    stream_run(&s, 3);
    if (!s.failed && s.broken.status == KWR_OK) (void)stream_checkpoint(&s);
    if (!s.failed && s.broken.status == KWR_OK) stream_run(&s, 3);
    if (!s.failed && s.broken.status == KWR_OK) (void)stream_checkpoint(&s);
    /* A dead process sees no end: the coordinator would try again for ever. */
    if (!s.failed && s.broken.status == KWR_OK && s.completed == s.triggered) {
        KWR_MUST(kwr_job_stop(s.job));
        stream_settle(&s);
    }
    stream_close(&s);
}

static bool attempt_with_fault(fault_kind kind, uint64_t n, bool inline_off) {
    trial t;
    trial_open(&t, kind, n, inline_off);
    stream s;
    stream_must_open(&s, &t.options);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1, "%s", t.name);
    stream_run(&s, 2);
    stream_close(&s);

    fault_env_fail_fs(t.faults, kind, n, FAULT_ONCE);
    attempt(&t);
    const bool fired = fault_env_fired(t.faults) > 0;
    trial_name_call(&t);
    stream_world_expect_no_double(&t.world, t.name);
    trial_expect_recovery(&t);
    trial_close(&t);
    return fired;
}

static void every_call_of_an_attempt(fault_kind kind) {
    for (int inline_off = 0; inline_off < 2; inline_off++) {
        uint64_t n = 0;
        while (attempt_with_fault(kind, n, inline_off))
            n++;
        cr_assert(n >= 50, "an attempt has %llu calls", (unsigned long long)n);
    }
}

KWR_TEST(faults, a_run_killed_before_any_call_is_continued, .timeout = 300) {
    every_call_of_an_attempt(FAULT_KILL);
}

KWR_TEST(faults, a_run_killed_after_any_call_is_continued, .timeout = 300) {
    every_call_of_an_attempt(FAULT_KILL_AFTER);
}

KWR_TEST(faults, an_attempt_survives_an_io_error_of_any_call, .timeout = 300) {
    every_call_of_an_attempt(FAULT_EIO);
}

KWR_TEST(faults, an_attempt_survives_any_call_that_took_effect_and_said_otherwise, .timeout = 300) {
    every_call_of_an_attempt(FAULT_APPLIED);
}
