/* SPDX-License-Identifier: Apache-2.0 */
/* See timer_heads.h. */
#include "backend/timer_heads.h"

#include "base/memory.h"

kwr_status kwr_timer_heads_build(kwr_timer_heads *heads, const kwr_env *env, uint32_t count) {
    kwr_timer_head *all = (kwr_timer_head *)kwr_alloc_array(env, count, sizeof *all);
    uint32_t *winners = (uint32_t *)kwr_alloc_array(env, count, sizeof *winners);
    if (all == NULL || winners == NULL) {
        kwr_free(env, all, count * sizeof *all);
        kwr_free(env, winners, count * sizeof *winners);
        return KWR_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++)
        all[i] = (kwr_timer_head){ .known = KWR_HEAD_BOUND };
    for (uint32_t i = count; i-- > 1;)
        winners[i] = 2 * i >= count ? 2 * i - count : winners[2 * i];
    *heads = (kwr_timer_heads){ .env = env, .count = count, .heads = all, .winners = winners };
    return KWR_OK;
}

void kwr_timer_heads_free(kwr_timer_heads *heads) {
    for (uint32_t i = 0; i < heads->count; i++)
        kwr_kept_free(heads->env, &heads->heads[i].rest);
    if (heads->count > 0) {
        kwr_free(heads->env, heads->heads, heads->count * sizeof *heads->heads);
        kwr_free(heads->env, heads->winners, heads->count * sizeof *heads->winners);
    }
    *heads = (kwr_timer_heads){ 0 };
}

/* ---- the tournament ---- */

static int compare_rest(const kwr_kept *a, kwr_slice b) {
    const size_t common = a->size < b.size ? a->size : b.size;
    const int order = common == 0 ? 0 : memcmp(a->data, b.data, common);
    if (order != 0) return order;
    return a->size < b.size ? -1 : a->size > b.size;
}

/* Does `a` have its turn before `b`? A bound before what is known of the same time. */
static bool before(const kwr_timer_head *a, const kwr_timer_head *b) {
    if (a->known == KWR_HEAD_EMPTY || b->known == KWR_HEAD_EMPTY) return a->known > b->known;
    if (a->order != b->order) return a->order < b->order;
    if (a->known != b->known) return a->known == KWR_HEAD_BOUND;
    if (a->known == KWR_HEAD_BOUND) return true;
    return compare_rest(&a->rest, (kwr_slice){ b->rest.data, b->rest.size }) < 0;
}

static uint32_t winner_of(const kwr_timer_heads *heads, uint32_t node) {
    return node >= heads->count ? node - heads->count : heads->winners[node];
}

/* After a change of the group: plays its games again. */
static void replay(kwr_timer_heads *heads, uint32_t group) {
    for (uint32_t node = (heads->count + group) / 2; node > 0; node /= 2) {
        const uint32_t a = winner_of(heads, 2 * node);
        const uint32_t b = winner_of(heads, 2 * node + 1);
        const uint32_t winner = before(&heads->heads[a], &heads->heads[b]) ? a : b;
        /* Won by another, as before: above nothing has changed. */
        if (winner == heads->winners[node] && winner != group) return;
        heads->winners[node] = winner;
    }
}

uint32_t kwr_timer_heads_first(const kwr_timer_heads *heads) {
    return heads->count == 1 ? 0 : heads->winners[1];
}

/* ---- changes ---- */

bool kwr_timer_heads_exact(kwr_timer_heads *heads, uint32_t group, uint64_t order, kwr_slice rest) {
    kwr_timer_head *head = &heads->heads[group];
    const bool kept = kwr_kept_set(heads->env, &head->rest, rest);
    head->order = order;
    head->known = kept ? KWR_HEAD_EXACT : KWR_HEAD_BOUND;
    replay(heads, group);
    return kept;
}

void kwr_timer_heads_empty(kwr_timer_heads *heads, uint32_t group) {
    heads->heads[group].known = KWR_HEAD_EMPTY;
    replay(heads, group);
}

void kwr_timer_heads_added(kwr_timer_heads *heads, uint32_t group, uint64_t order, kwr_slice rest) {
    const kwr_timer_head *head = &heads->heads[group];
    if (head->known == KWR_HEAD_BOUND && order >= head->order) return;
    if (head->known == KWR_HEAD_EXACT &&
        (order > head->order || (order == head->order && compare_rest(&head->rest, rest) <= 0)))
        return;
    (void)kwr_timer_heads_exact(heads, group, order, rest);
}

void kwr_timer_heads_removed(kwr_timer_heads *heads, uint32_t group, uint64_t order,
                             kwr_slice rest) {
    kwr_timer_head *head = &heads->heads[group];
    if (head->known != KWR_HEAD_EXACT || order != head->order ||
        compare_rest(&head->rest, rest) != 0)
        return;
    head->known = KWR_HEAD_BOUND;
    replay(heads, group);
}
