/* SPDX-License-Identifier: Apache-2.0 */
/* A run: its streams of randomness, its time, its record. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"

kwr_sim *kwr_sim_open(const kwr_sim_options *options) {
    kwr_sim *sim = kwr_sim_must(calloc(1, sizeof *sim));
    const size_t size = options->struct_size;
    memcpy(&sim->options, options, size < sizeof *options ? size : sizeof *options);
    sim->seed = sim->options.seed;
    sim->rates = sim->options.rates;
    sim->now_ns = 1000000000;
    sim->schedule = kwr_sim_rng_of(sim->seed, KWR_SIM_STREAM_SCHEDULE);
    sim->ids = kwr_sim_rng_of(sim->seed, KWR_SIM_STREAM_IDS);
    sim->world = kwr_sim_rng_of(sim->seed, KWR_SIM_STREAM_WORLD);
    for (unsigned place = 0; place < KWR_SIM_PLACES; place++)
        sim->faults[place] = kwr_sim_rng_of(sim->seed, KWR_SIM_STREAM_FAULTS + place);
    sim->own_pool = sim->options.pool == NULL;
    sim->pool = sim->own_pool ? kwr_sim_pool_new() : sim->options.pool;
    return sim;
}

void kwr_sim_close(kwr_sim *sim) {
    if (sim == NULL) return;
    if (sim->own_pool) kwr_sim_pool_free(sim->pool);
    free(sim->strikes);
    free(sim);
}

uint64_t kwr_sim_seed(const kwr_sim *sim) { return sim->seed; }
uint64_t kwr_sim_now_ns(const kwr_sim *sim) { return sim->now_ns; }
void kwr_sim_set_now_ns(kwr_sim *sim, uint64_t now_ns) { sim->now_ns = now_ns; }
void kwr_sim_faults_end(kwr_sim *sim) { sim->faults_off = true; }
uint64_t kwr_sim_calls(const kwr_sim *sim) { return sim->nth[KWR_SIM_AT_CALL]; }
uint64_t kwr_sim_trace_hash(const kwr_sim *sim) { return sim->trace; }

const kwr_sim_strike *kwr_sim_strikes(const kwr_sim *sim, size_t *count) {
    *count = sim->strike_count;
    return sim->strikes;
}

void kwr_sim_violated(kwr_sim *sim, const char *format, ...) {
    va_list arguments;
    if (sim->violated) return;
    sim->violated = true;
    va_start(arguments, format);
    vsnprintf(sim->why, sizeof sim->why, format, arguments);
    va_end(arguments);
    kwr_sim_trace(sim, "VIOLATED %s", sim->why);
}
