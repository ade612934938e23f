/* SPDX-License-Identifier: Apache-2.0 */
/* State assignment: see the header and docs/rescaling.md. */
#include "recovery/assignment.h"

#include <string.h>

#include "base/error.h"
#include "keyweir/task.h"

typedef struct plan {
    const kwr_manifest_operator *stored;
    uint32_t parallelism;
    kwr_arena *arena;
    kwr_share *shares;
} plan;

kwr_key_group_range kwr_key_groups_common(kwr_key_group_range a, kwr_key_group_range b) {
    const uint32_t first = a.first > b.first ? a.first : b.first;
    const uint32_t a_end = a.first + a.count, b_end = b.first + b.count;
    const uint32_t end = a_end < b_end ? a_end : b_end;
    if (end <= first) return (kwr_key_group_range){ 0, 0 };
    return (kwr_key_group_range){ .first = first, .count = end - first };
}

/* Ranges of old and new subtasks both follow each other, so one pass over both is enough. */
static void assign_key_groups(plan *p) {
    const kwr_manifest_operator *op = p->stored;
    uint32_t donor = 0;
    for (uint32_t i = 0; i < p->parallelism; i++) {
        kwr_share *share = &p->shares[i];
        share->key_groups = kwr_key_groups_of(i, p->parallelism, op->max_parallelism);
        /* The first donor that reaches into the range; the next share may begin in its last one. */
        while (donor < op->parallelism &&
               op->subtasks[donor].key_groups.first + op->subtasks[donor].key_groups.count <=
                   share->key_groups.first)
            donor++;
        share->donor_first = donor;
        const uint32_t end = share->key_groups.first + share->key_groups.count;
        while (donor < op->parallelism && op->subtasks[donor].key_groups.first < end)
            donor++;
        share->donor_count = donor - share->donor_first;
        if (share->donor_count > 0) donor--;
    }
}

/* Where a walk over the elements of all donors stands. */
typedef struct cursor {
    const uint64_t *counts;
    uint32_t donor;
    uint64_t at;
} cursor;

/* The next `wanted` elements, which are there, as picks behind *next. */
static kwr_picks take(cursor *c, uint64_t wanted, kwr_pick **next) {
    const kwr_picks picks = { .items = *next };
    while (wanted > 0) {
        const uint64_t left = c->counts[c->donor] - c->at;
        if (left == 0) {
            c->donor++;
            c->at = 0;
            continue;
        }
        const uint64_t count = left < wanted ? left : wanted;
        *(*next)++ = (kwr_pick){ .donor = c->donor, .first = c->at, .count = count };
        c->at += count;
        wanted -= count;
    }
    return (kwr_picks){ .items = picks.items, .count = (size_t)(*next - picks.items) };
}

/*
 * Deals the elements of all donors out, consecutive ones together: everyone gets the same number,
 * and from subtask *start on one more as long as some are left over. *start moves to the first that
 * got none of those, so that the next list begins with it.
 */
static kwr_status deal(const plan *p, const uint64_t *counts, uint32_t *start, kwr_picks *out,
                       kwr_error *err) {
    const uint32_t donors = p->stored->parallelism, n = p->parallelism;
    uint64_t total = 0;
    for (uint32_t i = 0; i < donors; i++)
        if (__builtin_add_overflow(total, counts[i], &total))
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator '%s': too many elements to count",
                            p->stored->id);
    /* Every pick ends a donor or a subtask. */
    kwr_pick *next = kwr_arena_array(p->arena, (size_t)donors + n, sizeof *next);
    if (next == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", p->stored->id);
    const uint64_t each = total / n;
    const uint32_t more = (uint32_t)(total % n);
    cursor c = { .counts = counts };
    for (uint32_t i = 0; i < n; i++)
        out[(*start + i) % n] = take(&c, each + (i < more ? 1 : 0), &next);
    *start = (*start + more) % n;
    return KWR_OK;
}

/* Everyone keeps what it had. */
static kwr_status keep(const plan *p, const uint64_t *counts, kwr_picks *out, kwr_error *err) {
    kwr_pick *picks = kwr_arena_array(p->arena, p->parallelism, sizeof *picks);
    if (picks == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", p->stored->id);
    for (uint32_t i = 0; i < p->parallelism; i++) {
        picks[i] = (kwr_pick){ .donor = i, .count = counts[i] };
        out[i] = (kwr_picks){ .items = &picks[i], .count = counts[i] > 0 ? 1 : 0 };
    }
    return KWR_OK;
}

static kwr_status share_out(const plan *p, const uint64_t *counts, uint32_t *start, kwr_picks *out,
                            kwr_error *err) {
    return p->parallelism == p->stored->parallelism ? keep(p, counts, out, err)
                                                    : deal(p, counts, start, out, err);
}

/* Splits and committables: each list is dealt out from subtask 0 on. */
static kwr_status assign_items(plan *p, kwr_error *err) {
    const kwr_manifest_operator *op = p->stored;
    uint64_t *counts = kwr_arena_array(p->arena, op->parallelism, sizeof *counts);
    kwr_picks *picks = kwr_arena_array(p->arena, p->parallelism, sizeof *picks);
    if (counts == NULL || picks == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", op->id);
    uint32_t start = 0;
    for (uint32_t i = 0; i < op->parallelism; i++)
        counts[i] = op->subtasks[i].split_count;
    KWR_TRY(share_out(p, counts, &start, picks, err));
    for (uint32_t i = 0; i < p->parallelism; i++)
        p->shares[i].splits = picks[i];
    start = 0;
    for (uint32_t i = 0; i < op->parallelism; i++)
        counts[i] = op->subtasks[i].committable_count;
    KWR_TRY(share_out(p, counts, &start, picks, err));
    for (uint32_t i = 0; i < p->parallelism; i++)
        p->shares[i].committables = picks[i];
    return KWR_OK;
}

/* ---- operator state ---- */

/* A state of the operator, and what each old subtask has of it. */
typedef struct stored_state {
    const kwr_manifest_state *state;
    uint32_t donor;
    const kwr_manifest_state **of; /* by old subtask; NULL: it has not reported it */
} stored_state;

static kwr_status no_memory(const plan *p, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", p->stored->id);
}

static kwr_status same_state(const plan *p, const stored_state *have, uint32_t donor,
                             const kwr_state_info *info, kwr_error *err) {
    const kwr_state_info *first = &have->state->info;
    if (first->kind == info->kind && first->redistribution == info->redistribution &&
        kwr_type_same(&first->type, &info->type) &&
        kwr_type_same(&first->user_key_type, &info->user_key_type))
        return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "operator '%s': its old subtasks %u and %u have state '%s' as different kinds, "
                    "types or modes",
                    p->stored->id, have->donor, donor, info->name);
}

static kwr_status add_state(plan *p, stored_state *states, size_t *count, uint32_t donor,
                            const kwr_manifest_state *state, kwr_error *err) {
    size_t i = 0;
    while (i < *count && strcmp(states[i].state->info.name, state->info.name) != 0)
        i++;
    if (i == *count) {
        states[i] = (stored_state){ .state = state, .donor = donor };
        states[i].of =
            kwr_arena_array(p->arena, p->stored->parallelism, sizeof(kwr_manifest_state *));
        if (states[i].of == NULL) return no_memory(p, err);
        (*count)++;
    }
    KWR_TRY(same_state(p, &states[i], donor, &state->info, err));
    states[i].of[donor] = state;
    return KWR_OK;
}

/* All states by name, in the order in which they are met. */
static kwr_status collect_states(plan *p, stored_state **out, size_t *out_count, kwr_error *err) {
    size_t most = 0;
    for (uint32_t i = 0; i < p->stored->parallelism; i++) {
        const kwr_manifest_subtask *inner = p->stored->subtasks[i].operator_state;
        if (inner != NULL) most += inner->state_count;
    }
    stored_state *states = kwr_arena_array(p->arena, most, sizeof *states);
    if (states == NULL) return no_memory(p, err);
    size_t count = 0;
    for (uint32_t i = 0; i < p->stored->parallelism; i++) {
        const kwr_manifest_subtask *inner = p->stored->subtasks[i].operator_state;
        for (size_t k = 0; inner != NULL && k < inner->state_count; k++)
            KWR_TRY(add_state(p, states, &count, i, &inner->states[k], err));
    }
    *out = states;
    *out_count = count;
    return KWR_OK;
}

/* Every element to everyone: one list of picks for all. */
static kwr_status give_all(const plan *p, const uint64_t *counts, kwr_picks *out, kwr_error *err) {
    kwr_pick *picks = kwr_arena_array(p->arena, p->stored->parallelism, sizeof *picks);
    size_t count = 0;
    if (picks == NULL) return no_memory(p, err);
    for (uint32_t i = 0; i < p->stored->parallelism; i++)
        if (counts[i] > 0) picks[count++] = (kwr_pick){ .donor = i, .count = counts[i] };
    for (uint32_t i = 0; i < p->parallelism; i++)
        out[i] = (kwr_picks){ .items = picks, .count = count };
    return KWR_OK;
}

/* New subtask i gets the map of reporter i mod their number. */
static kwr_status broadcast(const plan *p, const stored_state *s, kwr_picks *out, kwr_error *err) {
    kwr_pick *picks = kwr_arena_array(p->arena, p->stored->parallelism, sizeof *picks);
    uint32_t reporters = 0;
    if (picks == NULL) return no_memory(p, err);
    for (uint32_t i = 0; i < p->stored->parallelism; i++)
        if (s->of[i] != NULL)
            picks[reporters++] = (kwr_pick){ .donor = i, .count = s->of[i]->elements };
    for (uint32_t i = 0; i < p->parallelism; i++) {
        const kwr_pick *pick = &picks[i % reporters];
        out[i] = (kwr_picks){ .items = pick, .count = pick->count > 0 ? 1 : 0 };
    }
    return KWR_OK;
}

static kwr_status assign_state(const plan *p, const stored_state *s, uint32_t *start,
                               kwr_picks *out, kwr_error *err) {
    uint64_t *counts = kwr_arena_array(p->arena, p->stored->parallelism, sizeof *counts);
    if (counts == NULL) return no_memory(p, err);
    for (uint32_t i = 0; i < p->stored->parallelism; i++)
        counts[i] = s->of[i] == NULL ? 0 : s->of[i]->elements;
    switch (s->state->info.redistribution) {
    case KWR_REDISTRIBUTE_SPLIT: return share_out(p, counts, start, out, err);
    case KWR_REDISTRIBUTE_UNION: return give_all(p, counts, out, err);
    case KWR_REDISTRIBUTE_BROADCAST: return broadcast(p, s, out, err);
    case KWR_REDISTRIBUTE_KEYED: break;
    }
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "operator '%s': state '%s' is no operator state",
                    p->stored->id, s->state->info.name);
}

/* Whether a share is what its own old subtask has, state for state. */
static bool is_as_it_was(const plan *p, const kwr_share *share) {
    if (share->subtask >= p->stored->parallelism) return false;
    const kwr_manifest_subtask *own = p->stored->subtasks[share->subtask].operator_state;
    if (own == NULL || own->state_count != share->state_count) return false;
    for (size_t i = 0; i < share->state_count; i++) {
        const kwr_share_state *s = &share->states[i];
        size_t k = 0;
        while (k < own->state_count && strcmp(own->states[k].info.name, s->state->info.name) != 0)
            k++;
        if (k == own->state_count) return false;
        uint64_t whole = own->states[k].elements;
        if (s->picks.count != (whole > 0 ? 1 : 0)) return false;
        const kwr_pick *pick = s->picks.items;
        if (whole > 0 &&
            (pick->donor != share->subtask || pick->first != 0 || pick->count != whole))
            return false;
    }
    return true;
}

static kwr_status assign_states(plan *p, kwr_error *err) {
    stored_state *states = NULL;
    size_t count = 0;
    KWR_TRY(collect_states(p, &states, &count, err));
    if (count == 0) return KWR_OK;
    kwr_picks *picks = kwr_arena_array(p->arena, p->parallelism, sizeof *picks);
    kwr_share_state *all = NULL;
    size_t total = 0;
    if (!__builtin_mul_overflow(count, (size_t)p->parallelism, &total))
        all = kwr_arena_array(p->arena, total, sizeof *all);
    if (picks == NULL || all == NULL) return no_memory(p, err);
    uint32_t start = 0; /* goes on from state to state, so that nobody gets all that is over */
    for (size_t s = 0; s < count; s++) {
        KWR_TRY(assign_state(p, &states[s], &start, picks, err));
        for (uint32_t i = 0; i < p->parallelism; i++)
            all[i * count + s] = (kwr_share_state){ .state = states[s].state,
                                                    .donor = states[s].donor,
                                                    .picks = picks[i] };
    }
    for (uint32_t i = 0; i < p->parallelism; i++) {
        p->shares[i].states = all + i * count;
        p->shares[i].state_count = count;
        p->shares[i].as_it_was = is_as_it_was(p, &p->shares[i]);
    }
    return KWR_OK;
}

kwr_status kwr_assign(const kwr_manifest_operator *stored, uint32_t parallelism, kwr_arena *arena,
                      const kwr_share **out, kwr_error *err) {
    const bool keyed = (stored->roles & KWR_TASK_KEYED) != 0;
    const uint32_t most = keyed ? stored->max_parallelism : KWR_MAX_PARALLELISM_LIMIT;
    if (parallelism == 0 || parallelism > most)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator '%s': parallelism %u, allowed 1 to %u%s",
                        stored->id, parallelism, most, keyed ? " (max_parallelism)" : "");
    plan p = { .stored = stored, .parallelism = parallelism, .arena = arena };
    p.shares = kwr_arena_array(arena, parallelism, sizeof *p.shares);
    if (p.shares == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", stored->id);
    for (uint32_t i = 0; i < parallelism; i++)
        p.shares[i].subtask = i;
    if (keyed) assign_key_groups(&p);
    KWR_TRY(assign_items(&p, err));
    KWR_TRY(assign_states(&p, err));
    *out = p.shares;
    return KWR_OK;
}
