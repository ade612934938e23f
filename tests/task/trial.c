/* SPDX-License-Identifier: Apache-2.0 */
/* See trial.h. */
#include "tests/task/trial.h"

#include <stdio.h>
#include <string.h>

const char *const trial_kind_names[] = { "EIO",     "ENOSPC", "short write", "lost sync",
                                         "applied", "kill",   "kill after" };

/* The storage object is part of the process: it goes down with it. */
static void storage_open(trial *t) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(
        kwr_storage_open(fault_env_env(t->faults), kwr_test_path("root"), true, &t->storage, &err),
        err);
    t->options.storage = t->storage;
}

void trial_open(trial *t, fault_kind kind, uint64_t n, bool inline_off) {
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s at call %llu%s", trial_kind_names[kind],
             (unsigned long long)n, inline_off ? ", inline off" : "");
    kwr_test_remove_tree(kwr_test_path("root"));
    t->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    t->options = (stream_options){
        .env = fault_env_env(t->faults),
        .faults = t->faults,
        .world = &t->world,
        .total = TRIAL_TOTAL,
        .operators = 4,
        .job = { .tolerate_all = true,
                 .retain = 1,
                 .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0 },
    };
    storage_open(t);
}

void trial_close(trial *t) {
    kwr_storage_close(t->storage);
    stream_world_done(&t->world);
    fault_env_close(t->faults);
}

void trial_name_call(trial *t) {
    const size_t used = strlen(t->name);
    snprintf(t->name + used, sizeof t->name - used, " (%.100s)", fault_env_fired_text(t->faults));
}

void trial_expect_recovery(trial *t) {
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
    stream_world_expect(&t->world, TRIAL_TOTAL, t->name);
    stream_close(&s);
}
