/* SPDX-License-Identifier: Apache-2.0 */
/* State assignment as a function: tables of small cases, and properties of all pairs of
 * parallelisms. */
#include "recovery/assignment.h"

#include "keyweir/task.h"
#include "tests/support/kwr_test.h"

enum { MOST = 64 };

/* A stored operator whose subtask i has splits[i] splits and committables[i] committables. */
typedef struct sample {
    kwr_manifest_operator op;
    kwr_manifest_subtask subtasks[MOST];
    kwr_arena *arena;
} sample;

static void sample_open(sample *s, uint32_t parallelism, uint32_t groups, unsigned roles) {
    memset(s, 0, sizeof *s);
    cr_assert(parallelism <= MOST, "room");
    s->op = (kwr_manifest_operator){ .id = "op",
                                     .parallelism = parallelism,
                                     .max_parallelism = groups,
                                     .roles = roles,
                                     .subtasks = s->subtasks };
    for (uint32_t i = 0; i < parallelism; i++) {
        s->subtasks[i].index = i;
        s->subtasks[i].keyed = (roles & KWR_TASK_KEYED) != 0;
        if (s->subtasks[i].keyed)
            s->subtasks[i].key_groups = kwr_key_groups_of(i, parallelism, groups);
    }
    s->arena = kwr_arena_new(kwr_test_env(), 0);
    cr_assert(s->arena != NULL, "memory");
}

static void sample_close(sample *s) { kwr_arena_free(s->arena); }

static const kwr_share *assign(sample *s, uint32_t parallelism) {
    const kwr_share *shares = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_assign(&s->op, parallelism, s->arena, &shares, &err), err);
    return shares;
}

/* "0[0,1] 2[5]": elements by donor; "" when there are none. */
static void picks_text(kwr_picks picks, char *out, size_t capacity) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < picks.count; i++) {
        const kwr_pick *p = &picks.items[i];
        used += (size_t)snprintf(out + used, capacity - used, "%s%u[%llu..%llu]", i > 0 ? " " : "",
                                 p->donor, (unsigned long long)p->first,
                                 (unsigned long long)(p->first + p->count));
    }
}

static void expect_picks(kwr_picks picks, const char *want) {
    char got[512];
    picks_text(picks, got, sizeof got);
    cr_assert_str_eq(got, want);
}

KWR_TEST(assignment, keeps_everything_where_it_is_when_the_parallelism_stays) {
    sample s;
    sample_open(&s, 3, 128, KWR_TASK_SOURCE | KWR_TASK_KEYED | KWR_TASK_SINK);
    s.subtasks[0].split_count = 5;
    s.subtasks[2].split_count = 1;
    s.subtasks[1].committable_count = 4;
    const kwr_share *shares = assign(&s, 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert(shares[i].subtask == i && shares[i].donor_first == i &&
                      shares[i].donor_count == 1,
                  "subtask %u", i);
    expect_picks(shares[0].splits, "0[0..5]");
    expect_picks(shares[1].splits, "");
    expect_picks(shares[2].splits, "2[0..1]");
    expect_picks(shares[1].committables, "1[0..4]");
    sample_close(&s);
}

KWR_TEST(assignment, gives_key_groups_by_the_known_ranges) {
    static const struct {
        uint32_t groups, from, to;
        const char *want; /* first+count: donors, for each new subtask */
    } rows[] = {
        { 10, 3, 1, "0+10:0-2" },
        { 10, 1, 3, "0+4:0-0 4+3:0-0 7+3:0-0" },
        { 10, 3, 2, "0+5:0-1 5+5:1-2" },
        { 10, 2, 3, "0+4:0-0 4+3:0-1 7+3:1-1" },
        { 128, 3, 5, "0+26:0-0 26+26:0-1 52+25:1-1 77+26:1-2 103+25:2-2" },
        { 4, 4, 2, "0+2:0-1 2+2:2-3" },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        sample s;
        sample_open(&s, rows[r].from, rows[r].groups, KWR_TASK_KEYED);
        const kwr_share *shares = assign(&s, rows[r].to);
        char got[256] = "";
        size_t used = 0;
        for (uint32_t i = 0; i < rows[r].to; i++)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s%u+%u:%u-%u",
                                     i > 0 ? " " : "", shares[i].key_groups.first,
                                     shares[i].key_groups.count, shares[i].donor_first,
                                     shares[i].donor_first + shares[i].donor_count - 1);
        cr_assert_str_eq(got, rows[r].want);
        sample_close(&s);
    }
}

KWR_TEST(assignment, deals_splits_and_committables_out_in_turn) {
    sample s;
    sample_open(&s, 3, 128, KWR_TASK_SOURCE | KWR_TASK_SINK);
    s.subtasks[0].split_count = 2;
    s.subtasks[1].split_count = 1;
    s.subtasks[2].split_count = 3;
    s.subtasks[2].committable_count = 1;
    const kwr_share *two = assign(&s, 2);
    expect_picks(two[0].splits, "0[0..2] 1[0..1]");
    expect_picks(two[1].splits, "2[0..3]");
    expect_picks(two[0].committables, "2[0..1]");
    expect_picks(two[1].committables, "");
    const kwr_share *four = assign(&s, 4);
    expect_picks(four[0].splits, "0[0..2]");
    expect_picks(four[1].splits, "1[0..1] 2[0..1]");
    expect_picks(four[2].splits, "2[1..2]");
    expect_picks(four[3].splits, "2[2..3]");
    sample_close(&s);
}

KWR_TEST(assignment, refuses_what_no_operator_can_be) {
    sample s;
    const kwr_share *shares = NULL;
    kwr_error err = { 0 };
    sample_open(&s, 2, 16, KWR_TASK_KEYED);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_assign(&s.op, 0, s.arena, &shares, &err));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_assign(&s.op, 17, s.arena, &shares, &err));
    cr_assert(strstr(err.text, "'op'") && strstr(err.text, "17") && strstr(err.text, "16"), "%s",
              err.text);
    cr_assert(shares == NULL, "untouched");
    s.op.roles = KWR_TASK_SOURCE;
    KWR_MUST_ERR(kwr_assign(&s.op, 17, s.arena, &shares, &err), err);
    KWR_EXPECT(KWR_ERR_RANGE,
               kwr_assign(&s.op, KWR_MAX_PARALLELISM_LIMIT + 1, s.arena, &shares, &err));
    sample_close(&s);
}

/* ---- properties ---- */

/* Each element of each donor is picked once, and nobody gets two more than another. */
static void check_dealt(const kwr_share *shares, uint32_t n, const uint64_t *counts,
                        uint32_t donors, bool splits, bool even) {
    uint64_t next[MOST] = { 0 }, least = UINT64_MAX, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kwr_picks picks = splits ? shares[i].splits : shares[i].committables;
        uint64_t sum = 0;
        for (size_t k = 0; k < picks.count; k++) {
            const kwr_pick *p = &picks.items[k];
            cr_assert(p->donor < donors && p->count > 0, "a pick");
            cr_assert(p->first == next[p->donor], "in order, none twice, none left out");
            next[p->donor] += p->count;
            sum += p->count;
        }
        if (sum < least) least = sum;
        if (sum > most) most = sum;
    }
    for (uint32_t i = 0; i < donors; i++)
        cr_assert(next[i] == counts[i], "all of donor %u", i);
    cr_assert(!even || most - least <= 1, "evenly");
}

static void check_groups(const sample *s, const kwr_share *shares, uint32_t n) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kwr_share *share = &shares[i];
        cr_assert(share->key_groups.first == next && share->key_groups.count > 0, "ranges follow");
        next += share->key_groups.count;
        cr_assert(share->donor_count > 0 &&
                      share->donor_first + share->donor_count <= s->op.parallelism,
                  "donors");
        uint32_t covered = 0;
        for (uint32_t d = 0; d < s->op.parallelism; d++) {
            const uint32_t common =
                kwr_key_groups_common(s->subtasks[d].key_groups, share->key_groups).count;
            const bool taken =
                d >= share->donor_first && d < share->donor_first + share->donor_count;
            cr_assert((common > 0) == taken, "donors are exactly those that hold some");
            covered += common;
        }
        cr_assert(covered == share->key_groups.count, "all of them");
    }
    cr_assert(next == s->op.max_parallelism, "all key groups");
}

KWR_TEST(assignment, loses_and_doubles_nothing_for_any_pair_of_parallelisms) {
    static const uint32_t groups[] = { 16, 128, 32768 };
    for (size_t g = 0; g < 3; g++)
        for (uint32_t from = 1; from <= 16; from++) {
            sample s;
            sample_open(&s, from, groups[g], KWR_TASK_SOURCE | KWR_TASK_KEYED | KWR_TASK_SINK);
            uint64_t splits[MOST] = { 0 }, committables[MOST] = { 0 };
            for (uint32_t i = 0; i < from; i++) {
                s.subtasks[i].split_count = splits[i] = (i * 7 + from) % 5;
                s.subtasks[i].committable_count = committables[i] = (i * 11 + from * 3) % 4;
            }
            for (uint32_t to = 1; to <= 16; to++) {
                const kwr_share *shares = assign(&s, to);
                check_groups(&s, shares, to);
                check_dealt(shares, to, splits, from, true, from != to);
                check_dealt(shares, to, committables, from, false, from != to);
            }
            sample_close(&s);
        }
}

KWR_TEST(assignment, is_cheap_at_the_largest_parallelism) {
    kwr_manifest_operator op = { .id = "op",
                                 .parallelism = KWR_MAX_PARALLELISM_LIMIT,
                                 .max_parallelism = KWR_MAX_PARALLELISM_LIMIT,
                                 .roles = KWR_TASK_KEYED };
    op.subtasks = calloc(op.parallelism, sizeof *op.subtasks);
    cr_assert(op.subtasks != NULL, "memory");
    for (uint32_t i = 0; i < op.parallelism; i++)
        op.subtasks[i].key_groups = (kwr_key_group_range){ i, 1 };
    kwr_arena *arena = kwr_arena_new(kwr_test_env(), 0);
    const uint32_t numbers[] = { 1, 2, 32767, 32768 };
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
        const kwr_share *shares = NULL;
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_assign(&op, numbers[k], arena, &shares, &err), err);
        uint64_t donors = 0;
        for (uint32_t i = 0; i < numbers[k]; i++)
            donors += shares[i].donor_count;
        cr_assert(donors == KWR_MAX_PARALLELISM_LIMIT, "each donor once: %llu",
                  (unsigned long long)donors);
    }
    kwr_arena_free(arena);
    free(op.subtasks);
}

/* ---- operator state ---- */

typedef struct states_sample {
    sample base;
    kwr_manifest_subtask inner[MOST];
    kwr_manifest_state states[MOST][4];
} states_sample;

/* Old subtask `donor` has `elements` of a state. */
static void put_state(states_sample *s, uint32_t donor, const char *name,
                      kwr_redistribution redistribution, uint64_t elements) {
    kwr_manifest_subtask *inner = &s->inner[donor];
    inner->states = s->states[donor];
    cr_assert(inner->state_count < 4, "room");
    kwr_manifest_state *state = &inner->states[inner->state_count];
    *state = (kwr_manifest_state){
        .info = { .id = (uint32_t)inner->state_count,
                  .kind =
                      redistribution == KWR_REDISTRIBUTE_BROADCAST ? KWR_STATE_MAP : KWR_STATE_LIST,
                  .name = name,
                  .redistribution = redistribution },
        .entries = elements > 0 ? 1 : 0,
        .elements = elements,
    };
    inner->state_count++;
    s->base.subtasks[donor].operator_state = inner;
}

/* "a 0[0..2]; b 1[0..1] 2[0..1]" */
static void expect_states(const kwr_share *share, const char *want) {
    char got[512] = "", picks[256];
    size_t used = 0;
    for (size_t i = 0; i < share->state_count; i++) {
        picks_text(share->states[i].picks, picks, sizeof picks);
        used +=
            (size_t)snprintf(got + used, sizeof got - used, "%s%s%s%s", i > 0 ? "; " : "",
                             share->states[i].state->info.name, picks[0] == '\0' ? "" : " ", picks);
    }
    cr_assert_str_eq(got, want);
}

KWR_TEST(operator_state, split_lists_are_dealt_out_as_documented) {
    states_sample *s = calloc(1, sizeof *s);
    sample_open(&s->base, 2, 128, 0);
    put_state(s, 0, "a", KWR_REDISTRIBUTE_SPLIT, 5);
    put_state(s, 1, "a", KWR_REDISTRIBUTE_SPLIT, 2);
    const kwr_share *three = assign(&s->base, 3);
    expect_states(&three[0], "a 0[0..3]");
    expect_states(&three[1], "a 0[3..5]");
    expect_states(&three[2], "a 1[0..2]");
    /* The next state goes on where the one before had nothing over. */
    put_state(s, 0, "b", KWR_REDISTRIBUTE_SPLIT, 1);
    put_state(s, 1, "b", KWR_REDISTRIBUTE_SPLIT, 2);
    const kwr_share *four = assign(&s->base, 4);
    expect_states(&four[0], "a 0[0..2]; b 1[0..1]");
    expect_states(&four[1], "a 0[2..4]; b 1[1..2]");
    expect_states(&four[2], "a 0[4..5] 1[0..1]; b");
    expect_states(&four[3], "a 1[1..2]; b 0[0..1]");
    sample_close(&s->base);

    memset(s, 0, sizeof *s);
    sample_open(&s->base, 3, 128, 0);
    put_state(s, 0, "a", KWR_REDISTRIBUTE_SPLIT, 2);
    put_state(s, 1, "a", KWR_REDISTRIBUTE_SPLIT, 1);
    put_state(s, 2, "a", KWR_REDISTRIBUTE_SPLIT, 3);
    const kwr_share *two = assign(&s->base, 2);
    expect_states(&two[0], "a 0[0..2] 1[0..1]");
    expect_states(&two[1], "a 2[0..3]");
    cr_assert(!two[0].as_it_was && !two[1].as_it_was, "new shares");
    const kwr_share *same = assign(&s->base, 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert(same[i].as_it_was, "handed back as it is");
    expect_states(&same[0], "a 0[0..2]");
    expect_states(&same[2], "a 2[0..3]");
    sample_close(&s->base);
    free(s);
}

KWR_TEST(operator_state, union_lists_go_whole_to_everyone) {
    states_sample *s = calloc(1, sizeof *s);
    sample_open(&s->base, 3, 128, 0);
    put_state(s, 0, "u", KWR_REDISTRIBUTE_UNION, 2);
    put_state(s, 1, "u", KWR_REDISTRIBUTE_UNION, 0);
    put_state(s, 2, "u", KWR_REDISTRIBUTE_UNION, 3);
    for (uint32_t n = 1; n <= 5; n++) { /* 3: unchanged, and still expanded */
        const kwr_share *shares = assign(&s->base, n);
        for (uint32_t i = 0; i < n; i++) {
            expect_states(&shares[i], "u 0[0..2] 2[0..3]");
            cr_assert(!shares[i].as_it_was, "more than its own");
        }
    }
    sample_close(&s->base);
    free(s);
}

KWR_TEST(operator_state, broadcast_maps_come_from_the_reporters_in_turn) {
    states_sample *s = calloc(1, sizeof *s);
    sample_open(&s->base, 3, 128, 0);
    put_state(s, 0, "m", KWR_REDISTRIBUTE_BROADCAST, 4);
    put_state(s, 1, "m", KWR_REDISTRIBUTE_BROADCAST, 4);
    put_state(s, 2, "m", KWR_REDISTRIBUTE_BROADCAST, 4);
    const kwr_share *five = assign(&s->base, 5);
    for (uint32_t i = 0; i < 5; i++) {
        const char *want[] = { "m 0[0..4]", "m 1[0..4]", "m 2[0..4]" };
        expect_states(&five[i], want[i % 3]);
    }
    const kwr_share *same = assign(&s->base, 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert(same[i].as_it_was, "as it was");
    /* Subtask 1 reported nothing: the others stand in. */
    s->base.subtasks[1].operator_state = NULL;
    same = assign(&s->base, 3);
    expect_states(&same[0], "m 0[0..4]");
    expect_states(&same[1], "m 2[0..4]");
    expect_states(&same[2], "m 0[0..4]");
    cr_assert(same[0].as_it_was && !same[1].as_it_was && !same[2].as_it_was, "as it was");
    sample_close(&s->base);
    free(s);
}

KWR_TEST(operator_state, registered_states_without_elements_stay_registered_with_everyone) {
    states_sample *s = calloc(1, sizeof *s);
    sample_open(&s->base, 2, 128, 0);
    put_state(s, 1, "empty", KWR_REDISTRIBUTE_SPLIT, 0);
    put_state(s, 1, "none", KWR_REDISTRIBUTE_BROADCAST, 0);
    for (uint32_t n = 1; n <= 3; n++) {
        const kwr_share *shares = assign(&s->base, n);
        for (uint32_t i = 0; i < n; i++) {
            expect_states(&shares[i], "empty; none");
            cr_assert(shares[i].states[0].donor == 1, "who knows it");
            cr_assert(shares[i].as_it_was == (i == 1), "its own");
        }
    }
    sample_close(&s->base);
    free(s);
}

KWR_TEST(operator_state, a_state_that_old_subtasks_have_in_two_ways_is_refused) {
    states_sample *s = calloc(1, sizeof *s);
    sample_open(&s->base, 2, 128, 0);
    put_state(s, 0, "a", KWR_REDISTRIBUTE_SPLIT, 1);
    put_state(s, 1, "a", KWR_REDISTRIBUTE_UNION, 1);
    const kwr_share *shares = NULL;
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_assign(&s->base.op, 2, s->base.arena, &shares, &err));
    cr_assert(strstr(err.text, "'op'") && strstr(err.text, "'a'"), "%s", err.text);
    sample_close(&s->base);
    free(s);
}
