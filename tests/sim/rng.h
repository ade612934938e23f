/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeded randomness in separate streams: a draw more in one of them does not shift the others.
 */
#ifndef KWR_SIM_RNG_H
#define KWR_SIM_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sim_rng {
    uint64_t state;
} sim_rng;

static inline uint64_t sim_mix(uint64_t x) {
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The stream `name` (any number) of `seed`. */
static inline sim_rng sim_rng_of(uint64_t seed, uint64_t name) {
    return (sim_rng){ sim_mix(seed + UINT64_C(0x9e3779b97f4a7c15) * (name + 1)) };
}

static inline uint64_t sim_next(sim_rng *rng) {
    rng->state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix(rng->state);
}

/* Uniform in [0, n); n > 0. */
static inline uint64_t sim_below(sim_rng *rng, uint64_t n) {
    return (uint64_t)((unsigned __int128)sim_next(rng) * n >> 64);
}

/* True `per_million` times in a million. */
static inline bool sim_chance(sim_rng *rng, uint32_t per_million) {
    return per_million > 0 && sim_below(rng, 1000000) < per_million;
}

#endif /* KWR_SIM_RNG_H */
