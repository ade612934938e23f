/* SPDX-License-Identifier: Apache-2.0 */
/* SplitMix64: one addition and one mix for each draw, and any seed gives a good stream. */
#include "sim/internal.h"

kwr_sim_rng kwr_sim_rng_of(uint64_t seed, uint64_t stream) {
    return (kwr_sim_rng){ kwr_sim_mix(seed + UINT64_C(0x9e3779b97f4a7c15) * (stream + 1)) };
}

uint64_t kwr_sim_next(kwr_sim_rng *rng) {
    rng->state += UINT64_C(0x9e3779b97f4a7c15);
    return kwr_sim_mix(rng->state);
}

uint64_t kwr_sim_below(kwr_sim_rng *rng, uint64_t n) {
    return (uint64_t)((unsigned __int128)kwr_sim_next(rng) * n >> 64);
}

bool kwr_sim_chance(kwr_sim_rng *rng, uint32_t per_million) {
    return per_million > 0 && kwr_sim_below(rng, 1000000) < per_million;
}
