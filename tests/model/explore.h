/* SPDX-License-Identifier: Apache-2.0 */
/* All orders of events, breadth first. */
#ifndef KWR_MODEL_EXPLORE_H
#define KWR_MODEL_EXPLORE_H

#include "tests/model/model.h"

typedef struct model_bound {
    unsigned attempts, faults, records, triggers;
    unsigned switches; /* from one living attempt to the other and back; 0: any number */
    bool no_zombies;
    uint32_t states_max;
    model_mutation mutation;
} model_bound;

typedef struct model_outcome {
    uint32_t states;
    uint64_t transitions;
    unsigned depth;
    uint32_t disks, nodes, goals;
    unsigned violations;
    bool complete; /* all states within the bound were visited */
    char why[512];
} model_outcome;

/* Stops at the first violation, printing the way there when `verbose`. */
model_outcome model_explore(const model_bound *bound, bool verbose);

#endif /* KWR_MODEL_EXPLORE_H */
