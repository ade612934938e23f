/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The current key: checked, hashed where the caller has it, then copied. Every change takes a new
 * serial number, by which handles see that their address is out of date.
 */
#include "backend/core.h"
#include "backend/key_group.h"
#include "base/memory.h"

enum { KEPT_CAPACITY_MIN = 64 };

bool kwr_kept_reserve(const kwr_env *env, kwr_kept *kept, size_t size) {
    if (size <= kept->capacity) return true;
    size_t capacity = kept->capacity < KEPT_CAPACITY_MIN ? KEPT_CAPACITY_MIN : kept->capacity;
    while (capacity < size)
        capacity = capacity > SIZE_MAX / 2 ? size : capacity * 2;
    uint8_t *data = (uint8_t *)kwr_alloc(env, capacity);
    if (data == NULL) return false;
    kwr_free(env, kept->data, kept->capacity);
    *kept = (kwr_kept){ .data = data, .capacity = capacity };
    return true;
}

bool kwr_kept_set(const kwr_env *env, kwr_kept *kept, kwr_slice bytes) {
    if (bytes.size > kept->capacity) {
        kwr_kept larger = { 0 };
        if (!kwr_kept_reserve(env, &larger, bytes.size)) return false;
        memcpy(larger.data, bytes.data, bytes.size);
        kwr_free(env, kept->data, kept->capacity);
        *kept = larger;
    } else if (bytes.size > 0) {
        memmove(kept->data, bytes.data, bytes.size);
    }
    kept->size = bytes.size;
    return true;
}

void kwr_kept_free(const kwr_env *env, kwr_kept *kept) {
    kwr_free(env, kept->data, kept->capacity);
    *kept = (kwr_kept){ 0 };
}

kwr_status kwr_key_check(kwr_backend *backend, kwr_slice key) {
    kwr_error *err = &backend->error;
    if (backend->key_fixed_size != 0 && key.size != backend->key_fixed_size)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "a key of type %s has %zu bytes, not %zu",
                        kwr_type_kind_name(backend->shared->key_type.kind), backend->key_fixed_size,
                        key.size);
    if (key.size > backend->limits.key_bytes_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the key has %zu bytes, limits.key_bytes_max is %zu",
                        key.size, backend->limits.key_bytes_max);
    if (key.data == NULL && key.size != 0)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "a key of %zu bytes without data", key.size);
    return KWR_OK;
}

kwr_status kwr_key_place(kwr_backend *backend, uint32_t key_group) {
    const kwr_key_group_range owned = backend->key_groups;
    if (key_group - owned.first < owned.count) return KWR_OK;
    return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                    "key group %u is not among the owned %u to %u of %u: the exchange and the "
                    "backend disagree on seed, max parallelism, range or function",
                    key_group, owned.first, owned.first + owned.count - 1,
                    backend->max_parallelism);
}

void kwr_key_become(kwr_backend *backend, kwr_slice key, uint64_t hash, uint32_t key_group) {
    backend->key_serial++;
    backend->has_key = true;
    backend->key = key;
    backend->key_hash = hash;
    backend->key_group = key_group;
    backend->key_batch = NULL;
}

void kwr_key_drop(kwr_backend *backend) {
    backend->key_serial++;
    backend->has_key = false;
    backend->key = (kwr_slice){ 0 };
    backend->key_batch = NULL;
}

static kwr_status take_key(kwr_backend *backend, kwr_slice key, uint64_t hash, uint32_t key_group) {
    KWR_TRY(kwr_key_place(backend, key_group));
    if (!kwr_kept_set(backend->env, &backend->key_copy, key))
        return KWR_FAIL(&backend->error, KWR_ERR_NOMEM, 0, "no memory for a key of %zu bytes",
                        key.size);
    kwr_key_become(backend, (kwr_slice){ backend->key_copy.data, key.size }, hash, key_group);
    return KWR_OK;
}

kwr_status kwr_backend_set_key(kwr_backend *backend, kwr_slice key) {
    if (backend->engine_key_groups)
        return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                        "opened with engine_key_groups: pass the group by "
                        "kwr_backend_set_key_in()");
    KWR_TRY(kwr_key_check(backend, key));
    const uint64_t hash = kwr_key_hash(key, backend->seed);
    return take_key(backend, key, hash, kwr_key_group_of_hash(hash, backend->max_parallelism));
}

kwr_status kwr_backend_set_key_in(kwr_backend *backend, kwr_slice key, uint32_t key_group) {
    if (!backend->engine_key_groups)
        return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                        "opened without engine_key_groups: the group follows from the key, use "
                        "kwr_backend_set_key()");
    KWR_TRY(kwr_key_check(backend, key));
    return take_key(backend, key, kwr_key_hash(key, backend->seed), key_group);
}

kwr_status kwr_backend_key(const kwr_backend *backend, kwr_slice *key, uint32_t *key_group) {
    if (!backend->has_key) return KWR_NOT_FOUND;
    *key = backend->key;
    if (key_group != NULL) *key_group = backend->key_group;
    return KWR_OK;
}

kwr_key_group_range kwr_backend_key_groups(const kwr_backend *backend) {
    return backend->key_groups;
}
