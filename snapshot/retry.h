/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to try again what a network lost: a bounded number of tries inside a bounded time, each wait
 * twice the one before and shortened at random, so that many clients do not come back together.
 * Pure: the caller brings time and randomness, and does the waiting.
 */
#ifndef KWR_SNAPSHOT_RETRY_H
#define KWR_SNAPSHOT_RETRY_H

#include "keyweir/env.h"

typedef struct kwr_retry_policy {
    uint32_t tries_max; /* the first one included */
    uint32_t first_ms;  /* wait before the second try */
    uint32_t wait_max_ms;
    uint32_t budget_ms; /* no try begins later than this after the first began */
} kwr_retry_policy;

#define KWR_RETRY_POLICY_DEFAULT ((kwr_retry_policy){ 8, 100, 5000, 60000 })

typedef struct kwr_retry {
    kwr_retry_policy policy;
    uint64_t began_ns;
    uint32_t tries;
} kwr_retry;

/* Begins with the first try, at `now_ns` of the monotonic clock. */
kwr_retry kwr_retry_begin(const kwr_retry_policy *policy, uint64_t now_ns);
/*
 * Whether there is another try, and after how long: between half and all of the doubled wait, by
 * `random`; never less than `asked_ms`, what the server asked for, if the budget has that much
 * left.
 */
bool kwr_retry_next(kwr_retry *retry, uint64_t now_ns, uint64_t random, uint64_t asked_ms,
                    uint64_t *wait_ms);

/*
 * The same with the environment's clock and randomness, and waits on its executor. False: no tries
 * or no time left. Only on threads that may block.
 */
bool kwr_retry_wait(kwr_retry *retry, const kwr_env *env, uint64_t asked_ms);

/* Waits on the executor. False: it takes no more work. Only on threads that may block. */
bool kwr_wait_until(const kwr_env *env, uint64_t mono_ns);

#endif /* KWR_SNAPSHOT_RETRY_H */
