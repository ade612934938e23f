/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/retry.h"

enum { NS_PER_MS = 1000000 };

kwr_retry kwr_retry_begin(const kwr_retry_policy *policy, uint64_t now_ns) {
    return (kwr_retry){ .policy = *policy, .began_ns = now_ns, .tries = 1 };
}

bool kwr_retry_next(kwr_retry *retry, uint64_t now_ns, uint64_t random, uint64_t asked_ms,
                    uint64_t *wait_ms) {
    const kwr_retry_policy *p = &retry->policy;
    if (retry->tries >= p->tries_max) return false;
    uint64_t wait = p->first_ms;
    for (uint32_t i = 1; i < retry->tries && wait < p->wait_max_ms; i++)
        wait *= 2;
    if (wait > p->wait_max_ms) wait = p->wait_max_ms;
    wait = wait / 2 + random % (wait / 2 + 1);
    if (wait < asked_ms) wait = asked_ms;
    const uint64_t spent = now_ns > retry->began_ns ? (now_ns - retry->began_ns) / NS_PER_MS : 0;
    if (spent >= p->budget_ms || wait > p->budget_ms - spent) return false;
    retry->tries++;
    *wait_ms = wait;
    return true;
}

static void nothing(void *ctx) { (void)ctx; }

bool kwr_wait_until(const kwr_env *env, uint64_t mono_ns) {
    kwr_work pause = { .run = nothing };
    const kwr_executor *executor = env->executor;
    if (executor->post_at(executor->ctx, &pause, mono_ns) < KWR_OK) return false;
    executor->wait(executor->ctx, &pause);
    return true;
}

bool kwr_retry_wait(kwr_retry *retry, const kwr_env *env, uint64_t asked_ms) {
    uint64_t random = 0, wait_ms = 0;
    /* Without randomness all wait the shortest time. */
    if (env->random->bytes(env->random->ctx, &random, sizeof random) < KWR_OK) random = 0;
    const uint64_t now = env->clock->mono_ns(env->clock->ctx);
    if (!kwr_retry_next(retry, now, random, asked_ms, &wait_ms)) return false;
    return kwr_wait_until(env, now + wait_ms * NS_PER_MS);
}
