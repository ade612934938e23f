/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job under the simulator: sources, counts by key, tallies by family of keys, two-phase file
 * sinks, and a kwr_job, in the shape a seed draws. Attempts may differ in parallelism.
 */
#ifndef KWR_TEST_SIM_JOB_H
#define KWR_TEST_SIM_JOB_H

#include "keyweir/sim.h"
#include "tests/sim/strays.h"

enum {
    SIM_SPLITS_MAX = 3,
    SIM_COUNTS_MAX = 3,
    SIM_KEYS_MAX = 24,
    SIM_FAMILY = 4,
    SIM_RECENT = 8,
    SIM_JOURNAL_BYTES = 96,
    SIM_KNOWN = 64
};

typedef struct sim_shape {
    unsigned splits, keys;
    unsigned records;         /* of each split */
    unsigned sources, counts; /* tasks of the first attempt; counts, tallies and sinks as many */
    bool rescale;             /* other attempts draw theirs anew */
    unsigned max_parallelism;
    unsigned retain;
    unsigned processes; /* the tasks of an attempt are spread over so many */
    bool inline_off;
    bool journal; /* tallies keep every record, in lists that grow */
    bool wide;    /* keys have many entries, of which a record changes one: deltas of pages */
    size_t inline_bytes; /* of a wide one; 0: as the job's default */
    uint64_t interval_ms, min_pause_ms, timeout_ms;
} sim_shape;

/* What the log says. */
typedef struct sim_outlook {
    uint64_t newest;     /* newest completed checkpoint, 0: none */
    uint64_t generation; /* of the highest slot */
    uint64_t highest;    /* id ever published */
    bool final;
    bool unknown; /* the log itself is damaged */
} sim_outlook;

/* One run: the input and what was promised so far. */
typedef struct sim_job {
    kwr_sim *sim;
    sim_shape shape;
    uint8_t *key_of;   /* [split * records + position] */
    uint64_t notified; /* highest checkpoint any task was told of */
    /* Checkpoint folders that were found good, by hash, the last ones: most looks see one again. */
    struct {
        uint64_t hash;
        sim_outlook look;
    } known[SIM_KNOWN];
    unsigned known_at;
    uint64_t good[SIM_KNOWN]; /* single checkpoints, by hash */
    unsigned good_at;
    sim_strays strays;
} sim_job;

extern const kwr_sim_subject sim_subject;

#endif /* KWR_TEST_SIM_JOB_H */
