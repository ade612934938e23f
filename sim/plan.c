/* SPDX-License-Identifier: Apache-2.0 */
/* What a seed decides besides the workload. Rates are drawn for each seed ("swarm"): a run with
 * every fault at once hides what a run with few of them finds. */
#include <string.h>

#include "sim/internal.h"

/* Each rate up to so many millionths of the places it fits. */
static const uint32_t most[KWR_SIM_FAULTS] = {
    [KWR_SIM_ERROR] = 5000,
    [KWR_SIM_SHORT] = 100000,
    [KWR_SIM_LOSE_SYNC] = 10000,
    [KWR_SIM_AMBIGUOUS] = 10000,
    [KWR_SIM_FLIP] = 10000,
    [KWR_SIM_MISREAD] = 10000,
    [KWR_SIM_KILL_BEFORE] = 2000,
    [KWR_SIM_KILL_AFTER] = 2000,
    [KWR_SIM_NO_MEMORY] = 500,
    [KWR_SIM_LOSE_MESSAGE] = 20000,
    [KWR_SIM_DOUBLE_MESSAGE] = 20000,
    [KWR_SIM_KILL_ONE] = 1000,
    [KWR_SIM_KILL_ALL] = 1000,
    [KWR_SIM_POWER] = 2000,
    [KWR_SIM_PAUSE] = 2000,
    [KWR_SIM_CLOCK_STEP] = 2000,
    [KWR_SIM_FILL] = 1000,
    [KWR_SIM_DAMAGE] = 4000,
    [KWR_SIM_STALL] = 30000,
    [KWR_SIM_ROT] = 40000,
};

/* The kinds drawn together; later ones draw for themselves, so that plans stay what they were. */
enum { DRAWN_TOGETHER = KWR_SIM_DAMAGE };

static uint32_t draw_rate(kwr_sim_rng *rng, kwr_sim_fault fault) {
    const bool off = kwr_sim_below(rng, 3) == 0;
    const uint32_t rate = (uint32_t)kwr_sim_below(rng, most[fault]) + 1;
    return off ? 0 : rate;
}

void kwr_sim_plan_of(uint64_t seed, kwr_sim_plan *out) {
    kwr_sim_rng rng = kwr_sim_rng_of(seed, KWR_SIM_STREAM_PLAN);
    kwr_sim_plan plan = { .struct_size = sizeof plan, .seed = seed };
    plan.policy = (unsigned)kwr_sim_below(&rng, 3);
    plan.steps = 300 + (unsigned)kwr_sim_below(&rng, 2000);
    for (unsigned f = 1; f <= DRAWN_TOGETHER; f++)
        plan.rates.of[f] = draw_rate(&rng, (kwr_sim_fault)f);
    /* Now and then one kind comes much more often: what needs two of them soon. */
    const unsigned storm = 1 + (unsigned)kwr_sim_below(&rng, DRAWN_TOGETHER);
    if (storm <= KWR_SIM_KILL_AFTER || storm == KWR_SIM_NO_MEMORY || storm == KWR_SIM_DAMAGE)
        plan.rates.of[storm] *= 8;
    kwr_sim_rng slow = kwr_sim_rng_of(seed, KWR_SIM_STREAM_SLOW);
    plan.rates.of[KWR_SIM_STALL] = draw_rate(&slow, KWR_SIM_STALL);
    /* A disk that is slow all the time. */
    if (kwr_sim_below(&slow, 16) == 0) plan.rates.of[KWR_SIM_STALL] *= 8;
    /* A disk that loses bits, which takes many of them: most hit what the next start does not read.
     */
    kwr_sim_rng rotten = kwr_sim_rng_of(seed, KWR_SIM_STREAM_ROT);
    if (kwr_sim_below(&rotten, 8) == 0)
        plan.rates.of[KWR_SIM_ROT] = draw_rate(&rotten, KWR_SIM_ROT);
    *out = plan;
}
