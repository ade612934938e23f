/* SPDX-License-Identifier: Apache-2.0 */
/* Workers on the executor that share out work among themselves, and the wait for all of them. */
#ifndef KWR_BASE_FAN_OUT_H
#define KWR_BASE_FAN_OUT_H

#include "keyweir/env.h"

/* One worker; `work` is the caller's to fill. */
typedef struct kwr_fan {
    kwr_work work;
    bool posted;
} kwr_fan;

enum { KWR_FAN_MAX = 64 };

/* How many to use for `units` of work: what was `asked` for, 0: what the executor runs at a time;
 * never more than there are units, or KWR_FAN_MAX; one at least for any. */
size_t kwr_fan_size(const kwr_env *env, uint64_t asked, uint64_t units);
/*
 * Runs the work of each on the executor, and returns when all have ended. What cannot be posted is
 * left to the others; the first one is run here then. So a worker takes units until none is left.
 */
void kwr_fan_run(const kwr_env *env, kwr_fan *fans, size_t count);

#endif /* KWR_BASE_FAN_OUT_H */
