/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/strays.h"

#include <stdlib.h>
#include <string.h>

enum { STREAM_STRAYS = KWR_SIM_STREAM_SUBJECT + 100000 };

void sim_strays_init(sim_strays *strays, uint64_t seed) {
    kwr_sim_rng rng = kwr_sim_rng_of(seed, STREAM_STRAYS);
    const bool no_barriers = kwr_sim_below(&rng, 3) == 0, no_messages = kwr_sim_below(&rng, 3) == 0;
    *strays = (sim_strays){ .barriers = (uint32_t)kwr_sim_below(&rng, 100000),
                            .messages = (uint32_t)kwr_sim_below(&rng, 100000),
                            .kept = malloc(SIM_STRAYS_MAX * sizeof *strays->kept) };
    if (strays->kept == NULL) abort();
    if (no_barriers) strays->barriers = 0;
    if (no_messages) strays->messages = 0;
    strays->rng = rng;
}

void sim_strays_done(sim_strays *strays) { free(strays->kept); }

static void keep(sim_strays *s, unsigned attempt, unsigned actor, kwr_slice bytes) {
    if (bytes.size == 0 || bytes.size > SIM_STRAY_BYTES) return;
    sim_stray *place = &s->kept[s->next];
    s->next = (s->next + 1) % SIM_STRAYS_MAX;
    if (s->count < SIM_STRAYS_MAX) s->count++;
    place->attempt = attempt;
    place->actor = actor;
    place->size = bytes.size;
    memcpy(place->data, bytes.data, bytes.size);
}

const sim_stray *sim_strays_message(sim_strays *strays, unsigned attempt, unsigned actor,
                                    kwr_slice bytes) {
    const sim_stray *stray = NULL;
    if (strays->messages > 0 && strays->count > 0 &&
        kwr_sim_chance(&strays->rng, strays->messages)) {
        stray = &strays->kept[kwr_sim_below(&strays->rng, strays->count)];
        if (stray->attempt == attempt) stray = NULL;
    }
    /* An attempt keeps few of its own, so that others remain to be had. */
    if (stray == NULL && kwr_sim_below(&strays->rng, 16) == 0) keep(strays, attempt, actor, bytes);
    return stray;
}

bool sim_strays_twice(sim_strays *strays) {
    return strays->barriers > 0 && kwr_sim_chance(&strays->rng, strays->barriers);
}

bool sim_strays_barrier(sim_strays *strays, const kwr_barrier *barrier, const kwr_barrier *last,
                        kwr_barrier *out) {
    if (strays->barriers == 0 || !kwr_sim_chance(&strays->rng, strays->barriers)) return false;
    *out = *barrier;
    switch (kwr_sim_below(&strays->rng, 3)) {
    case 0: return true;
    case 1: *out = *last; return last->checkpoint != 0;
    default:
        out->generation--;
        out->checkpoint += kwr_sim_below(&strays->rng, 3);
        return out->generation != 0;
    }
}
