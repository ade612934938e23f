/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network does that channels and messages of one attempt do not show: messages of earlier
 * attempts that arrive now, barriers that come twice, late, or from another attempt. All of it must
 * change nothing.
 */
#ifndef KWR_TEST_SIM_STRAYS_H
#define KWR_TEST_SIM_STRAYS_H

#include "keyweir/barrier.h"
#include "keyweir/sim.h"

enum { SIM_STRAYS_MAX = 16, SIM_STRAY_BYTES = 4096 };

typedef struct sim_stray {
    unsigned attempt, actor;
    size_t size;
    uint8_t data[SIM_STRAY_BYTES];
} sim_stray;

typedef struct sim_strays {
    kwr_sim_rng rng;
    uint32_t barriers, messages; /* millionths */
    unsigned count, next;
    sim_stray *kept; /* the last ones */
} sim_strays;

void sim_strays_init(sim_strays *strays, uint64_t seed);
void sim_strays_done(sim_strays *strays);
/* Remembers a message; NULL, or an older one of another attempt to be delivered as well. */
const sim_stray *sim_strays_message(sim_strays *strays, unsigned attempt, unsigned actor,
                                    kwr_slice bytes);
/* Whether a barrier is delivered twice at once. */
bool sim_strays_twice(sim_strays *strays);
/* Whether one more goes after `barrier`; `last` is the one before it. */
bool sim_strays_barrier(sim_strays *strays, const kwr_barrier *barrier, const kwr_barrier *last,
                        kwr_barrier *out);

#endif /* KWR_TEST_SIM_STRAYS_H */
