/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random state of every kind in an engine, and a model that knows all of it: what the tests of
 * adoption write, split over donors, and look for afterwards. Keys are numbers, of key group
 * `number % max parallelism`; values follow from a seed.
 */
#ifndef ADOPT_MODEL_H
#define ADOPT_MODEL_H

#include "backend/rocksdb/rocks.h"
#include "tests/support/kwr_test.h"

enum {
    MODEL_KEYS = 384,
    MODEL_NAMES = 2,
    MODEL_SUBKEYS = 12,
    MODEL_LIST_MAX = 40,
    MODEL_STATES = 6, /* value, list, map, timer, raw, reducing */
};

typedef struct rng {
    uint64_t x;
} rng;
uint64_t rng_next(rng *r);
static inline uint32_t rng_below(rng *r, uint32_t n) { return (uint32_t)(rng_next(r) % n); }

/* One entry: of plain states `values[0]`; seeds of values, 0 where there is none. */
typedef struct model_entry {
    uint32_t count;
    uint64_t next; /* lists: sequence number of the next element */
    uint32_t subkeys[MODEL_LIST_MAX];
    uint64_t values[MODEL_LIST_MAX];
} model_entry;

typedef struct model {
    uint32_t groups;
    model_entry entries[MODEL_STATES][MODEL_KEYS][MODEL_NAMES];
} model;

extern const kwr_state_kind model_kinds[MODEL_STATES];

/* ---- engines ---- */

typedef struct instance {
    const kwr_env *env;
    kwr_resources *resources;
    kwr_limits limits;
    kwr_engine *engine;
    kwr_key_group_range range;
    uint32_t ids[MODEL_STATES]; /* the engine's id of each state of the model; UINT32_MAX: none */
    size_t state_count;
    char directory[256];
} instance;

/* `order`: states of the model in the order they are added; `count` of them. */
void instance_open(instance *in, const kwr_env *env, uint32_t groups, kwr_key_group_range range,
                   const uint32_t *order, size_t count);
/* The same, to adopt what others have. */
void instance_open_to_adopt(instance *in, const kwr_env *env, uint32_t groups,
                            kwr_key_group_range range, const uint32_t *order, size_t count);
void instance_close(instance *in); /* its directory must be gone then */
/* Its database as a directory of its own, below the test's. */
void instance_copy(instance *in, char path[256]);

/* Random changes to the instance's states and key groups, in both; some of them flushed. */
void model_change(model *m, instance *in, rng *r, unsigned changes);
/* Every entry of the instance's key groups is there as in the model, and nothing else is. A list
 * goes on where it ended. */
void model_check(model *m, instance *in);
/* The same, of an engine that is only looked at: the model stays as it is. */
void model_check_only(const model *m, instance *in);

#endif /* ADOPT_MODEL_H */
