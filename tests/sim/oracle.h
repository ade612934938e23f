/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold, stated about the disk: each function returns false with the violated statement in
 * `why`. They read through processes of their own, without faults.
 */
#ifndef KWR_SIM_ORACLE_H
#define KWR_SIM_ORACLE_H

#include "tests/sim/disk.h"

/* The input: for each source the keys of its records in order. */
typedef struct sim_script {
    unsigned sources, keys, records;
    const uint8_t *key_of; /* [source * records + position] */
} sim_script;

typedef struct sim_outlook {
    uint64_t newest;     /* newest completed checkpoint, 0: none */
    uint64_t generation; /* of the highest slot */
    uint64_t highest;    /* id ever published */
    bool final;
} sim_outlook;

/*
 * The log is whole, generations never fall and a checkpoint's is that of the last fence (fencing);
 * every checkpoint it names verifies byte by byte (no reference to unsynced data, no early delete);
 * the state of each is the fold of exactly the records before its source positions (consistent
 * cut).
 */
bool sim_check_checkpoints(sim_disk *disk, const sim_script *script, sim_outlook *out, char *why,
                           size_t why_size);
/*
 * Committed output holds, for each key, counts 1..m once each and in order of checkpoints; only of
 * completed checkpoints (<= highest); `complete`: all of the input's.
 */
bool sim_check_output(const sim_disk *disk, const sim_script *script, uint64_t highest,
                      bool complete, char *why, size_t why_size);
/* Nothing is left but what the retained checkpoints, the log and the output need. */
bool sim_check_garbage(sim_disk *disk, unsigned retain, char *why, size_t why_size);

#endif /* KWR_SIM_ORACLE_H */
