/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the page store share: an engine in an environment that counts and can fail, a
 * naive copy of what it must hold, and images of a view kept for a restore.
 */
#ifndef KWR_PAGES_TEST_H
#define KWR_PAGES_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/engine.h"
#include "backend/key_group.h"
#include "backend/memory/store.h"
#include "base/limits.h"
#include "tests/support/fault_env.h"
#include "tests/support/kwr_test.h"

/* ---- random numbers from a seed ---- */

typedef struct rng {
    uint64_t x;
} rng;
uint64_t rng_next(rng *r);
static inline uint32_t rng_below(rng *r, uint32_t n) { return (uint32_t)(rng_next(r) >> 32) % n; }

/* ---- an engine ---- */

typedef struct store_options {
    uint32_t max_parallelism;       /* 0: 8 */
    kwr_key_group_range key_groups; /* count 0: all */
    uint32_t states;                /* 0: 1 */
    kwr_state_kind kind;            /* of all of them; 0: values */
    uint64_t hash_mask_off;         /* bits taken from the hash */
    uint64_t memory_bytes_max;
    uint32_t views_max;
} store_options;

typedef struct store {
    fault_env *faults;
    const kwr_env *env;
    kwr_resources *resources;
    const kwr_engine_ops *ops;
    kwr_engine *engine;
    kwr_limits limits;
    kwr_engine_config config;
    uint32_t states;
    kwr_state_kind kind;
} store;

enum { TEST_SEED = 77 };

store *store_open(const store_options *options);
/* Another engine of the same configuration in the same environment, for restores. */
kwr_engine *store_second(store *s);
void store_add_states(const store *s, kwr_engine *engine);
/* Closes the engine, checks that nothing is mapped or allocated any more. */
void store_close(store *s);
kwr_address store_address(const store *s, uint32_t state, kwr_slice key, kwr_slice name);
kwr_slice text(const char *s);
/* All invariants of the store. */
void store_check(kwr_engine *engine);

/* ---- what must be there ---- */

typedef struct model_entry {
    uint32_t state, key_group;
    uint32_t key_size, name_size;
    size_t value_size;
    bool present;
    bool seen;
    uint8_t *bytes; /* key, name, value */
    struct model_entry *next;
} model_entry;

typedef struct model {
    model_entry **buckets;
    size_t count; /* present entries */
} model;

model *model_new(void);
void model_free(model *m);
model *model_copy(const model *m);
/* Adds an absent entry when there is none. */
model_entry *model_at(model *m, const kwr_address *at);
void model_put(model *m, const kwr_address *at, const void *value, size_t size);
void model_remove(model *m, const kwr_address *at);

/* The engine holds exactly this (by get). */
void model_expect(model *m, const store *s, kwr_engine *engine);
/* The view holds exactly this (by walks and counts). */
void model_expect_view(model *m, const store *s, kwr_engine_view *view);

/* ---- images ---- */

typedef struct images {
    kwr_page_image *items; /* bytes owned */
    size_t count, capacity;
} images;

void images_take(images *out, const store *s, kwr_engine_view *view);

/* A view that is written a few key groups at a time and lets go of each. */
typedef struct passing {
    images images;
    uint32_t next; /* key group, counted from the first */
    bool begun;
} passing;
/* True: all are written. */
bool images_pass(passing *p, const store *s, kwr_engine_view *view, uint32_t groups);
void images_shuffle(images *im, rng *r);
void images_free(images *im);
/* Installs all; KWR_OK or the first failure of install or restore_end. */
kwr_status images_install(const images *im, const store *s, kwr_engine *engine, kwr_error *err);

#endif /* KWR_PAGES_TEST_H */
