/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first timer of each key group, and which of them comes first: a tournament. Of a group either
 * its first timer is known, or only a time it cannot be before. So a change that may have touched
 * the first timer costs nothing at once: the group is looked up when its turn has come.
 */
#ifndef KWR_BACKEND_TIMER_HEADS_H
#define KWR_BACKEND_TIMER_HEADS_H

#include "backend/core.h"

typedef enum kwr_head_known {
    KWR_HEAD_EMPTY = 0, /* no timers */
    KWR_HEAD_BOUND = 1, /* none before `order` */
    KWR_HEAD_EXACT = 2, /* order and rest are the first */
} kwr_head_known;

/* A timer as backend/timer_key.h stores it: its time, in an order without sign, and the rest. */
typedef struct kwr_timer_head {
    uint64_t order;
    kwr_kept rest;
    kwr_head_known known;
} kwr_timer_head;

typedef struct kwr_timer_heads {
    const kwr_env *env;
    uint32_t count;        /* groups; 0: not built */
    kwr_timer_head *heads; /* by group, from 0 */
    uint32_t *winners;     /* [1, count): node i has the winner of nodes 2i and 2i+1; nodes from
                              `count` on are the groups */
} kwr_timer_heads;

/* All bounds, none before the smallest time. KWR_ERR_NOMEM. */
kwr_status kwr_timer_heads_build(kwr_timer_heads *heads, const kwr_env *env, uint32_t count);
void kwr_timer_heads_free(kwr_timer_heads *heads);

/* The group whose turn it is, which may be empty: then all are. */
uint32_t kwr_timer_heads_first(const kwr_timer_heads *heads);
/* Its first timer was looked up. False without memory: it stays a bound. */
bool kwr_timer_heads_exact(kwr_timer_heads *heads, uint32_t group, uint64_t order, kwr_slice rest);
void kwr_timer_heads_empty(kwr_timer_heads *heads, uint32_t group);
/* A timer was added, or removed. */
void kwr_timer_heads_added(kwr_timer_heads *heads, uint32_t group, uint64_t order, kwr_slice rest);
void kwr_timer_heads_removed(kwr_timer_heads *heads, uint32_t group, uint64_t order,
                             kwr_slice rest);

#endif /* KWR_BACKEND_TIMER_HEADS_H */
