/* SPDX-License-Identifier: Apache-2.0 */
/* A stream on files that fail on request, and the check that a new process makes good. */
#ifndef TASK_TRIAL_H
#define TASK_TRIAL_H

#include "tests/task/stream.h"

enum { TRIAL_TOTAL = 16 };

typedef struct trial {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
    char name[160];
} trial;

extern const char *const trial_kind_names[];

void trial_open(trial *t, fault_kind kind, uint64_t n, bool inline_off);
void trial_close(trial *t);
/* Says which call it was, in the messages of assertions that follow. */
void trial_name_call(trial *t);
/* A new process, without faults: restores, runs to the end, everything came out once. */
void trial_expect_recovery(trial *t);

#endif /* TASK_TRIAL_H */
