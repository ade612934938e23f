/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every storage call of a checkpoint fails once, in every way storage fails. Not sampled: the loops
 * go on until a whole checkpoint has no such call.
 *
 * What must hold: a checkpoint that failed for certain harms nothing, the next one succeeds, and
 * the older one restores; when it is not known whether it was published, the attempt ends without
 * telling anybody, and the next one finds the truth. The model of stream.h says whether state and
 * positions fit together and whether any output was lost or doubled.
 */
#include <string.h>

#include "keyweir/fsck.h"
#include "task/message.h"
#include "tests/task/trial.h"

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
    trial_expect_recovery(&t);
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
                      (unsigned long long)n, trial_kind_names[kind]);
            cr_assert((unknown > 0) == expects_unknown, "%s: %u unknown outcomes",
                      trial_kind_names[kind], unknown);
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

/* ---- a disk that stays full ---- */

/* Files that no checkpoint needs. */
static uint64_t leftovers(const trial *t) {
    const kwr_gc_options options = { .struct_size = sizeof options,
                                     .env = fault_env_env(t->faults),
                                     .storage = t->storage,
                                     .job = "stream" };
    kwr_gc_result result = { .struct_size = sizeof result };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_gc(&options, &result, &err), err);
    cr_assert_eq(result.jobs, 1);
    return result.leftovers + result.in_progress;
}

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
    cr_assert(leftovers(&t) == 0, "the failed ones left nothing");
    cr_assert(stream_files(t.storage, "stream", "", "chk-") == 1, "no directory either");
    stream_close(&s);
    trial_expect_recovery(&t);
    trial_close(&t);
}
