/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of another engine: their entries are put one by one, as the owner would. Slower than an
 * engine's own way in, and open to every pair of engines.
 */
#include "backend/core.h"
#include "backend/key_group.h"
#include "backend/view.h"

typedef struct loading {
    kwr_backend *backend;
    kwr_error *err;
} loading;

static kwr_status check_entry(const loading *l, const kwr_state_info *info, const kwr_entry *entry,
                              uint64_t key_hash) {
    const kwr_backend *b = l->backend;
    if (entry->key.size > b->limits.key_bytes_max ||
        entry->name.size > b->limits.namespace_bytes_max ||
        entry->value.size > b->limits.value_bytes_max)
        return KWR_FAIL(l->err, KWR_ERR_CORRUPT, 0,
                        "an entry of state '%s' is larger than the limits allow", info->name);
    if (kwr_state_is_per_group(info->kind)) {
        if (entry->key.size == 0 && entry->name.size == 0) return KWR_OK;
        return KWR_FAIL(l->err, KWR_ERR_CORRUPT, 0,
                        "state '%s' belongs to key groups, and has an entry with a key",
                        info->name);
    }
    if (!b->engine_key_groups &&
        kwr_key_group_of_hash(key_hash, b->max_parallelism) != entry->key_group)
        return KWR_FAIL(l->err, KWR_ERR_CORRUPT, 0,
                        "a key of state '%s' belongs to another key group", info->name);
    return KWR_OK;
}

static kwr_status load_entry(void *ctx, const kwr_entry *entry) {
    const loading *l = ctx;
    kwr_backend *b = l->backend;
    const kwr_state_info *info = &b->registry.table.states[entry->state];
    const uint64_t key_hash = kwr_key_hash(entry->key, b->seed);
    KWR_TRY(check_entry(l, info, entry, key_hash));
    const kwr_address at = {
        .state = entry->state,
        .key_group = entry->key_group,
        .entry_hash = kwr_entry_hash(key_hash, kwr_namespace_hash(entry->name)),
        .key = entry->key,
        .name = entry->name,
    };
    const kwr_status status = kwr_state_is_collection(info->kind)
                                  ? b->ops->sub_put(b->engine, &at, entry->subkey, entry->value)
                                  : b->ops->put(b->engine, &at, entry->value);
    if (status >= KWR_OK) return KWR_OK;
    return KWR_FAIL(l->err, status, 0, "state '%s': the engine '%s' could not take an entry: %s",
                    info->name, b->ops->name, kwr_status_name(status));
}

kwr_status kwr_backend_load_image(kwr_backend *backend, const kwr_page_image *image,
                                  kwr_error *err) {
    loading l = { .backend = backend, .err = err };
    if (image->state >= backend->registry.table.count)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "it is of a state that is not there");
    return kwr_page_image_walk(image, load_entry, &l, err);
}
