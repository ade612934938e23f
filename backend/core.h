/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the backend, the part every state handle starts with, and
 * the way from a handle to an address. The address is made at most once for each key and handle:
 * a serial number of the current key tells whether the one at hand still holds.
 */
#ifndef KWR_BACKEND_CORE_H
#define KWR_BACKEND_CORE_H

#include "backend/registry.h"
#include "base/cleanup.h"
#include "base/error.h"

/* A copy of bytes that come and go; the memory is kept. */
typedef struct kwr_kept {
    uint8_t *data;
    size_t size;
    size_t capacity;
} kwr_kept;

/* False without memory, unchanged then. `bytes` may lie in `kept`. */
bool kwr_kept_set(const kwr_env *env, kwr_kept *kept, kwr_slice bytes);
/* Room for `size` bytes, contents undefined. */
bool kwr_kept_reserve(const kwr_env *env, kwr_kept *kept, size_t size);
void kwr_kept_free(const kwr_env *env, kwr_kept *kept);

/* Outlives the backend while views are alive. */
typedef struct kwr_backend_shared kwr_backend_shared;

struct kwr_backend {
    const kwr_env *env;
    const kwr_engine_ops *ops;
    kwr_engine *engine;
    /* the current key */
    uint64_t key_serial; /* changes with the key; never 0 */
    bool has_key;
    uint32_t key_group;
    uint64_t key_hash;
    kwr_slice key;
    kwr_key_batch *key_batch; /* which it was selected from, or NULL */
    size_t key_index;
    /* how keys are checked and placed */
    uint64_t seed;
    uint32_t max_parallelism;
    kwr_key_group_range key_groups;
    size_t key_fixed_size; /* 0: variable */
    bool engine_key_groups;
    kwr_kept key_copy;
    /* everything opened from it */
    kwr_registry registry;
    kwr_state **handles; /* by state id; NULL: not opened */
    size_t handles_capacity;
    kwr_key_batch *batches;
    kwr_backend_shared *shared;
    kwr_limits limits; /* complete */
    kwr_error error;
};
KWR_DEFINE_CLEANUP(kwr_backend, kwr_backend_close)

struct kwr_backend_shared {
    _Atomic uint32_t refs;  /* the backend and every view */
    _Atomic uint32_t views; /* alive */
    const kwr_env *env;
    kwr_resources *resources; /* its own, or the host's, counted */
    kwr_type key_type;
};
void kwr_backend_shared_release(kwr_backend_shared *shared); /* [any]; NULL is a no-op */

/* ---- keys (key.c) ---- */

/* The group of `key` if it may be current here; else a failure, with detail in the backend. */
kwr_status kwr_key_check(kwr_backend *backend, kwr_slice key);
kwr_status kwr_key_place(kwr_backend *backend, uint32_t key_group);
/* Makes bytes current that stay where they are. */
void kwr_key_become(kwr_backend *backend, kwr_slice key, uint64_t hash, uint32_t key_group);
void kwr_key_drop(kwr_backend *backend);

/* ---- key batches (key_batch.c) ---- */

/* The hint for the key selected from `batch`, or NULL. */
void *kwr_key_batch_hint(kwr_key_batch *batch, size_t index, uint32_t state, uint64_t name_hash);

/* ---- state handles (state.c) ---- */

/* What every handle starts with. */
struct kwr_state {
    kwr_backend *backend;
    const kwr_engine_ops *ops;
    kwr_engine *engine;
    uint64_t key_serial; /* of the key `at` is for; 0: none */
    kwr_address at;
    size_t fixed_size; /* of values, 0: variable */
    size_t value_bytes_max;
    uint64_t name_hash; /* of the namespace, whose bytes are at.name */
    kwr_kept name_copy;
    size_t name_fixed_size;
    const char *label; /* the state's name */
    kwr_state_kind kind;
    size_t handle_size;
    void (*done)(kwr_state *state); /* releases what the kind holds; or NULL */
};

/*
 * Finds or adds the state. A new handle has handle_size zeroed bytes, of which the first are
 * filled here, and `*fresh` is true. What fails is in the backend's detail and in `err`.
 */
kwr_status kwr_state_open(kwr_backend *backend, const kwr_state_info *wanted, size_t handle_size,
                          kwr_state **out, bool *fresh, kwr_error *err);
void kwr_state_free(kwr_state *state);
kwr_status kwr_state_set_namespace(kwr_state *state, kwr_slice name);
/* Fills state->at for the current key. */
kwr_status kwr_state_address(kwr_state *state);
/* The address of the current key's entry in another namespace, whose bytes stay the caller's. */
kwr_status kwr_state_address_in(kwr_state *state, kwr_slice name, kwr_address *out);
/* Describes what the engine reported, where only the front knows the names. */
kwr_status kwr_state_failed(kwr_state *state, kwr_status status, const char *verb);
/* KWR_ERR_RANGE: too long or not the type's size. */
kwr_status kwr_state_size_refused(kwr_state *state, size_t size);
kwr_status kwr_state_clear(kwr_state *state);

/* The compiler may not load or store this together with its neighbours. */
#define KWR_APART(x) __asm__("" : "+r"(x))

/*
 * What was just filled, field by field, goes field by field: a load of both together would wait
 * until both stores are done, and they until all that was read before is there.
 */
static inline void kwr_slice_pass(kwr_slice *to, const kwr_slice *from) {
    const void *data = from->data;
    size_t size = from->size;
    KWR_APART(data);
    KWR_APART(size);
    to->data = data;
    to->size = size;
}

/* Before every access. */
static inline kwr_status kwr_state_at(kwr_state *state) {
    if (state->key_serial == state->backend->key_serial) return KWR_OK;
    return kwr_state_address(state);
}

static inline kwr_status kwr_state_size_check(kwr_state *state, size_t size) {
    const bool fits =
        state->fixed_size != 0 ? size == state->fixed_size : size <= state->value_bytes_max;
    return fits ? KWR_OK : kwr_state_size_refused(state, size);
}

/* Reads the entry; KWR_NOT_FOUND with *out empty. */
static inline kwr_status kwr_state_get(kwr_state *state, kwr_slice *out) {
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->get(state->engine, &state->at, out);
    if (status == KWR_OK) return status;
    if (status < KWR_OK) return kwr_state_failed(state, status, "read");
    *out = (kwr_slice){ 0 };
    return status;
}

#endif /* KWR_BACKEND_CORE_H */
