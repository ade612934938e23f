/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a failing run smaller, as long as it still fails. */
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"

typedef struct shrinking {
    kwr_sim_plan *plan;
    const kwr_sim_subject *subject;
    kwr_sim_result *result;
    kwr_sim_pool *pool;
} shrinking;

/* Runs with these faults; keeps the run when it fails too. */
static bool try_run(shrinking *s, const kwr_sim_plan *plan, const kwr_sim_strike *list,
                    size_t count) {
    static const kwr_sim_strike nothing = { 0 };
    const kwr_sim_run_options options = { .struct_size = sizeof options,
                                          .pool = s->pool,
                                          .replay = count == 0 ? &nothing : list,
                                          .replay_count = count };
    kwr_sim_result result;
    kwr_sim_run(plan, s->subject, &options, &result);
    if (!result.failed) {
        kwr_sim_result_clear(&result);
        return false;
    }
    kwr_sim_result_clear(s->result);
    *s->result = result;
    *s->plan = *plan;
    return true;
}

/* Runs with the faults that struck, but those of `keep(fault, ctx)`. */
static bool try_without_kind(shrinking *s, kwr_sim_fault fault) {
    const kwr_sim_result *r = s->result;
    kwr_sim_strike *fewer = kwr_sim_must(malloc((r->strike_count + 1) * sizeof *fewer));
    const kwr_sim_plan plan = *s->plan;
    size_t count = 0;
    for (size_t i = 0; i < r->strike_count; i++)
        if (r->strikes[i].fault != fault) fewer[count++] = r->strikes[i];
    const bool smaller = count < r->strike_count && try_run(s, &plan, fewer, count);
    free(fewer);
    return smaller;
}

static bool try_without(shrinking *s, size_t index) {
    const kwr_sim_result *r = s->result;
    kwr_sim_strike *fewer = kwr_sim_must(malloc((r->strike_count + 1) * sizeof *fewer));
    const kwr_sim_plan plan = *s->plan;
    memcpy(fewer, r->strikes, index * sizeof *fewer);
    memcpy(fewer + index, r->strikes + index + 1, (r->strike_count - index - 1) * sizeof *fewer);
    const bool smaller = try_run(s, &plan, fewer, r->strike_count - 1);
    free(fewer);
    return smaller;
}

static void try_steps(shrinking *s) {
    unsigned low = 0, high = s->plan->steps;
    while (low + 1 < high) {
        kwr_sim_plan plan = *s->plan;
        plan.steps = low + (high - low) / 2;
        kwr_sim_strike *same = kwr_sim_must(malloc((s->result->strike_count + 1) * sizeof *same));
        const size_t count = s->result->strike_count;
        if (count > 0) memcpy(same, s->result->strikes, count * sizeof *same);
        if (try_run(s, &plan, same, count))
            high = plan.steps;
        else
            low = plan.steps;
        free(same);
    }
}

void kwr_sim_shrink(kwr_sim_plan *plan, const kwr_sim_subject *subject, kwr_sim_result *result) {
    shrinking s = { plan, subject, result, kwr_sim_pool_new() };
    if (result->failed) {
        for (unsigned f = 1; f < KWR_SIM_FAULTS; f++)
            (void)try_without_kind(&s, (kwr_sim_fault)f);
        try_steps(&s);
        for (size_t i = 0; i < result->strike_count;)
            if (!try_without(&s, i)) i++;
    }
    kwr_sim_pool_free(s.pool);
}
