/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every storage call of an attempt fails once, in every way storage fails, and the run is killed at
 * and after every one of them. Not sampled: the loops go on until a whole run has no such call.
 *
 * What must hold: a checkpoint that failed for certain harms nothing, the next one succeeds, and
 * the older one restores; when it is not known whether it was published, the attempt ends without
 * telling anybody, and the next one finds the truth. The model of stream.h says whether state and
 * positions fit together and whether any output was lost or doubled.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "task/message.h"
#include "tests/task/stream.h"

enum { TOTAL = 16 };

typedef struct trial {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
    char name[160];
} trial;

static const char *const KIND_NAMES[] = { "EIO",     "ENOSPC", "short write", "lost sync",
                                          "applied", "kill",   "kill after" };

/* The storage object is part of the process: it goes down with it. */
static void storage_open(trial *t) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(
        kwr_storage_open(fault_env_env(t->faults), kwr_test_path("root"), true, &t->storage, &err),
        err);
    t->options.storage = t->storage;
}

static void trial_open(trial *t, fault_kind kind, uint64_t n, bool inline_off) {
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s at call %llu%s", KIND_NAMES[kind], (unsigned long long)n,
             inline_off ? ", inline off" : "");
    kwr_test_remove_tree(kwr_test_path("root"));
    t->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    t->options = (stream_options){
        .env = fault_env_env(t->faults),
        .faults = t->faults,
        .world = &t->world,
        .total = TOTAL,
        .job = { .tolerate_all = true,
                 .retain = 1,
                 .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0 },
    };
    storage_open(t);
}

static void trial_close(trial *t) {
    kwr_storage_close(t->storage);
    stream_world_done(&t->world);
    fault_env_close(t->faults);
}

/* Says which call it was when an assertion below fails. */
static void trial_name_call(trial *t) {
    const size_t used = strlen(t->name);
    snprintf(t->name + used, sizeof t->name - used, " (%.100s)", fault_env_fired_text(t->faults));
}

/* A new process, without faults: restores, runs to the end, everything came out once. */
static void expect_recovery(trial *t) {
    kwr_storage_close(t->storage);
    fault_env_clear(t->faults);
    storage_open(t);
    stream s;
    kwr_error err = { 0 };
    const kwr_status status = stream_open(&s, &t->options, &err);
    cr_assert(status == KWR_OK, "%s: start again: %s", t->name, err.text);
    stream_expect_consistent(&s, t->name);
    stream_finish(&s);
    cr_assert(s.finished_final, "%s: does not finish: %s", t->name, s.failure.text);
    stream_world_expect(&t->world, TOTAL, t->name);
    stream_close(&s);
}

/* ---- one failed call of a checkpoint ---- */

typedef enum sequel { CRASH_NOW, GO_ON, SEQUELS } sequel;

/* Nothing but a call that may or may not have published ends an attempt. */
static void expect_outcome_unknown(const trial *t, const stream *s) {
    cr_assert(s->failure.status == KWR_ERR_UNKNOWN, "%s: failed with %s: %s", t->name,
              kwr_status_name(s->failure.status), s->failure.text);
    cr_assert(stream_find_event(s, 0, KWR_JOB_PUBLISHED, 2) == SIZE_MAX &&
                  stream_find_sent(s, 0, KWR_MESSAGE_COMPLETE, 2) == SIZE_MAX &&
                  stream_find_sent(s, 0, KWR_MESSAGE_ABORT, 2) == SIZE_MAX,
              "%s: nobody may hear of a checkpoint whose fate is unknown", t->name);
}

/* True while there is an n-th call. */
static bool checkpoint_with_fault(fault_kind kind, uint64_t n, bool inline_off, sequel then,
                                  unsigned *unknown) {
    trial t;
    stream s;
    trial_open(&t, kind, n, inline_off);
    stream_must_open(&s, &t.options);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1, "%s", t.name);
    stream_run(&s, 3);

    fault_env_fail_fs(t.faults, kind, n, FAULT_ONCE);
    const uint64_t second = stream_checkpoint(&s);
    const bool fired = fault_env_fired(t.faults) > 0;
    trial_name_call(&t);
    fault_env_clear(t.faults);

    cr_assert(s.broken.status == KWR_OK, "%s: %s", t.name, s.broken.text);
    if (s.failed) {
        expect_outcome_unknown(&t, &s);
        ++*unknown;
    } else {
        cr_assert(second == 2 || s.aborted == 2, "%s: undecided", t.name);
        if (!fired || kind == FAULT_SHORT_WRITE)
            cr_assert(second == 2, "%s: %s", t.name, s.abort_error.text);
        if (second == 0)
            cr_assert(strlen(s.abort_error.text) > 0 && s.abort_error.status < KWR_OK,
                      "%s: aborted without a reason", t.name);
        if (then == GO_ON) {
            stream_run(&s, 3);
            cr_assert_eq(stream_checkpoint(&s), 3, "%s: then: %s %s", t.name, s.abort_error.text,
                         s.failure.text);
            stream_world_expect(&t.world, 10, t.name);
        }
    }
    stream_close(&s);
    expect_recovery(&t);
    trial_close(&t);
    return fired;
}

static void every_call_fails_once(fault_kind kind, bool expects_unknown) {
    for (int inline_off = 0; inline_off < 2; inline_off++) {
        for (sequel then = CRASH_NOW; then < SEQUELS; then++) {
            uint64_t n = 0;
            unsigned unknown = 0;
            while (checkpoint_with_fault(kind, n, inline_off, then, &unknown))
                n++;
            cr_assert(n >= 3, "a checkpoint has %llu calls that can fail by %s",
                      (unsigned long long)n, KIND_NAMES[kind]);
            cr_assert((unknown > 0) == expects_unknown, "%s: %u unknown outcomes", KIND_NAMES[kind],
                      unknown);
        }
    }
}

KWR_TEST(faults, a_checkpoint_survives_an_io_error_of_any_call, .timeout = 300) {
    /* A failed sync of the log's directory after the name is there: the only open outcome. */
    every_call_fails_once(FAULT_EIO, true);
}

KWR_TEST(faults, a_checkpoint_survives_a_full_disk_at_any_call, .timeout = 300) {
    every_call_fails_once(FAULT_ENOSPC, true);
}

KWR_TEST(faults, a_checkpoint_survives_short_writes, .timeout = 300) {
    every_call_fails_once(FAULT_SHORT_WRITE, false);
}

KWR_TEST(faults, a_checkpoint_survives_a_sync_that_lost_its_bytes, .timeout = 300) {
    every_call_fails_once(FAULT_LOST_SYNC, false);
}

KWR_TEST(faults, a_call_that_took_effect_and_said_otherwise_is_seen_through, .timeout = 300) {
    every_call_fails_once(FAULT_APPLIED, true);
}

/* ---- a whole attempt, from its claim to its end ---- */

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
    expect_recovery(&t);
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

/* ---- a disk that stays full ---- */

KWR_TEST(faults, a_full_disk_fails_checkpoints_until_there_is_room_again) {
    trial t;
    stream s;
    trial_open(&t, FAULT_ENOSPC, 0, true);
    stream_must_open(&s, &t.options);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1);
    fault_env_fail_fs(t.faults, FAULT_ENOSPC, 0, FAULT_ALWAYS);
    for (uint64_t i = 2; i <= 4; i++) {
        stream_run(&s, 2);
        cr_assert_eq(stream_checkpoint(&s), 0);
        cr_assert(s.aborted == i && s.abort_error.status == KWR_ERR_NOSPACE, "%s",
                  s.abort_error.text);
    }
    fault_env_clear(t.faults);
    stream_run(&s, 2);
    cr_assert_eq(stream_checkpoint(&s), 5);
    cr_assert(stream_files(t.storage, "stream", "shared", "") == STREAM_COUNTS,
              "the failed ones left nothing");
    cr_assert(stream_files(t.storage, "stream", "", "chk-") == 1, "no directory either");
    stream_close(&s);
    expect_recovery(&t);
    trial_close(&t);
}
