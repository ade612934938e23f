/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job under the simulator: sources, keyed counts on the page store, two-phase file sinks, and
 * a kwr_job, in the shape a seed draws.
 */
#ifndef KWR_TEST_SIM_JOB_H
#define KWR_TEST_SIM_JOB_H

#include "keyweir/sim.h"

enum { SIM_SOURCES_MAX = 3, SIM_COUNTS_MAX = 3, SIM_KEYS_MAX = 24 };

typedef struct sim_shape {
    unsigned sources, counts, keys;
    unsigned records; /* for each source */
    unsigned max_parallelism;
    unsigned retain;
    unsigned processes; /* the tasks of an attempt are spread over so many */
    bool inline_off;
    uint64_t interval_ms, min_pause_ms, timeout_ms;
} sim_shape;

/* One run: the input and what was promised so far. */
typedef struct sim_job {
    kwr_sim *sim;
    sim_shape shape;
    uint8_t *key_of;   /* [source * records + position] */
    uint64_t notified; /* highest checkpoint any task was told of */
    uint64_t good[64]; /* hashes of checkpoint folders that were found good, the last ones */
    unsigned good_at;
} sim_job;

extern const kwr_sim_subject sim_subject;

#endif /* KWR_TEST_SIM_JOB_H */
