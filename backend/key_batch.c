/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key batches: keys hashed once, their entries fetched together. What the fetch found is kept as
 * hints, one for each key and state, which the engine checks before it trusts them: nothing a
 * batch does can change a result.
 */
#include "backend/core.h"
#include "backend/key_group.h"
#include "base/memory.h"

enum { FETCH_CHUNK = 64 }; /* addresses given to the engine at once */

/* The hints of one state. */
typedef struct batch_state {
    kwr_engine_hint *hints; /* batch->capacity, or NULL */
    uint64_t name_hash;     /* of the namespace they were made in */
    bool filled;
} batch_state;

struct kwr_key_batch {
    kwr_backend *backend;
    kwr_key_batch *next;
    kwr_key_batch *previous;
    size_t capacity;
    size_t count;
    kwr_slice *keys;
    uint64_t *hashes;
    uint32_t *groups;
    batch_state *states; /* by state id */
    size_t states_count;
    size_t states_capacity;
};
KWR_DEFINE_CLEANUP(kwr_key_batch, kwr_key_batch_free)

/* The current key must not point to bytes this batch no longer vouches for. */
static void let_go(kwr_key_batch *batch) {
    if (batch->backend->key_batch == batch) kwr_key_drop(batch->backend);
    batch->count = 0;
    for (size_t i = 0; i < batch->states_count; i++)
        batch->states[i].filled = false;
}

kwr_status kwr_key_batch_new(kwr_backend *backend, size_t capacity, kwr_key_batch **out) {
    kwr_error *err = &backend->error;
    if (capacity == 0 || capacity > backend->limits.batch_keys_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "a batch of %zu keys: must be at least 1, and limits.batch_keys_max is %zu",
                        capacity, backend->limits.batch_keys_max);
    const kwr_env *env = backend->env;
    KWR_CLEANUP(kwr_key_batch_free_p)
    kwr_key_batch *batch = (kwr_key_batch *)kwr_calloc(env, sizeof *batch);
    if (batch == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a key batch");
    batch->backend = backend;
    batch->capacity = capacity;
    batch->keys = (kwr_slice *)kwr_alloc_array(env, capacity, sizeof *batch->keys);
    batch->hashes = (uint64_t *)kwr_alloc_array(env, capacity, sizeof *batch->hashes);
    batch->groups = (uint32_t *)kwr_alloc_array(env, capacity, sizeof *batch->groups);
    if (batch->keys == NULL || batch->hashes == NULL || batch->groups == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a key batch");
    batch->next = backend->batches;
    if (batch->next != NULL) batch->next->previous = batch;
    backend->batches = batch;
    *out = KWR_TAKE(batch);
    return KWR_OK;
}

void kwr_key_batch_free(kwr_key_batch *batch) {
    if (batch == NULL) return;
    kwr_backend *backend = batch->backend;
    const kwr_env *env = backend->env;
    let_go(batch);
    if (batch->next != NULL) batch->next->previous = batch->previous;
    if (batch->previous != NULL)
        batch->previous->next = batch->next;
    else if (backend->batches == batch)
        backend->batches = batch->next;
    for (size_t i = 0; i < batch->states_count; i++)
        kwr_free(env, batch->states[i].hints, batch->capacity * sizeof(kwr_engine_hint));
    kwr_free(env, batch->states, batch->states_capacity * sizeof *batch->states);
    kwr_free(env, batch->keys, batch->capacity * sizeof *batch->keys);
    kwr_free(env, batch->hashes, batch->capacity * sizeof *batch->hashes);
    kwr_free(env, batch->groups, batch->capacity * sizeof *batch->groups);
    kwr_free(env, batch, sizeof *batch);
}

static kwr_status load_one(kwr_key_batch *batch, size_t i, kwr_slice key, const uint32_t *group) {
    kwr_backend *backend = batch->backend;
    KWR_TRY(kwr_key_check(backend, key));
    const uint64_t hash = kwr_key_hash(key, backend->seed);
    const uint32_t placed =
        group != NULL ? *group : kwr_key_group_of_hash(hash, backend->max_parallelism);
    KWR_TRY(kwr_key_place(backend, placed));
    batch->keys[i] = key;
    batch->hashes[i] = hash;
    batch->groups[i] = placed;
    return KWR_OK;
}

kwr_status kwr_key_batch_load(kwr_key_batch *batch, const kwr_slice *keys,
                              const uint32_t *key_groups, size_t count) {
    kwr_backend *backend = batch->backend;
    let_go(batch);
    if (count > batch->capacity)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0, "%zu keys into a batch of %zu", count,
                        batch->capacity);
    if (count > 0 && (key_groups != NULL) != backend->engine_key_groups)
        return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                        "key groups go with engine_key_groups, and only with it");
    for (size_t i = 0; i < count; i++)
        KWR_TRY(load_one(batch, i, keys[i], key_groups == NULL ? NULL : &key_groups[i]));
    batch->count = count;
    return KWR_OK;
}

/* The place for the hints of a state; NULL without memory, and then there are no hints. */
static batch_state *hints_of(kwr_key_batch *batch, uint32_t state) {
    const kwr_env *env = batch->backend->env;
    if (state >= batch->states_count) {
        void *states = batch->states;
        const bool grown = kwr_grow_array(env, &states, &batch->states_capacity, (size_t)state + 1,
                                          sizeof *batch->states);
        batch->states = (batch_state *)states;
        if (!grown) return NULL;
        memset(batch->states + batch->states_count, 0,
               ((size_t)state + 1 - batch->states_count) * sizeof *batch->states);
        batch->states_count = (size_t)state + 1;
    }
    batch_state *at = &batch->states[state];
    if (at->hints == NULL)
        at->hints =
            (kwr_engine_hint *)kwr_alloc_array(env, batch->capacity, sizeof(kwr_engine_hint));
    return at->hints == NULL ? NULL : at;
}

static void fetch_state(kwr_key_batch *batch, kwr_state *state) {
    batch_state *into = hints_of(batch, state->at.state);
    if (into == NULL) return;
    memset(into->hints, 0, batch->count * sizeof *into->hints);
    into->name_hash = state->name_hash;
    into->filled = true;
    kwr_address at[FETCH_CHUNK];
    for (size_t done = 0; done < batch->count;) {
        const size_t left = batch->count - done;
        const size_t count = left < FETCH_CHUNK ? left : FETCH_CHUNK;
        for (size_t i = 0; i < count; i++)
            at[i] = (kwr_address){
                .state = state->at.state,
                .key_group = batch->groups[done + i],
                .entry_hash = kwr_entry_hash(batch->hashes[done + i], state->name_hash),
                .key = batch->keys[done + i],
                .name = state->at.name,
                .hint = &into->hints[done + i],
            };
        state->ops->prefetch(state->engine, at, count);
        done += count;
    }
}

void kwr_key_batch_prefetch(kwr_key_batch *batch, kwr_state *const *states, size_t state_count) {
    for (size_t i = 0; i < state_count; i++) {
        if (states[i]->backend != batch->backend) continue;
        fetch_state(batch, states[i]);
    }
    /* A handle that made the current key's address before has no hint in it yet. */
    if (batch->backend->key_batch == batch) batch->backend->key_serial++;
}

kwr_status kwr_key_batch_select(kwr_key_batch *batch, size_t index) {
    kwr_backend *backend = batch->backend;
    if (index >= batch->count)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0, "key %zu of a batch that holds %zu",
                        index, batch->count);
    kwr_key_become(backend, batch->keys[index], batch->hashes[index], batch->groups[index]);
    backend->key_batch = batch;
    backend->key_index = index;
    return KWR_OK;
}

void *kwr_key_batch_hint(kwr_key_batch *batch, size_t index, uint32_t state, uint64_t name_hash) {
    if (batch == NULL || state >= batch->states_count) return NULL;
    const batch_state *from = &batch->states[state];
    /* Under another namespace the entry lives elsewhere. */
    if (!from->filled || from->name_hash != name_hash) return NULL;
    return &from->hints[index];
}
