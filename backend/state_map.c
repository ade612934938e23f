/* SPDX-License-Identifier: Apache-2.0 */
/* Map state: for each key and namespace an ordered map from user keys to values. */
#include "backend/collection.h"
#include "base/limits.h"
#include "keyweir/map.h"

struct kwr_map {
    kwr_collection collection;
    size_t key_fixed_size; /* of user keys, 0: variable */
};

struct kwr_map_iterator {
    kwr_iterator iterator;
};

/* ---- opening ---- */

static kwr_status open_map(kwr_backend *backend, const kwr_map_descriptor *descriptor,
                           kwr_redistribution redistribution, kwr_map **out) {
    kwr_map_descriptor wanted;
    KWR_TRY(kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_map_descriptor",
                             &backend->error));
    const kwr_state_info info = {
        .kind = KWR_STATE_MAP,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
        .user_key_type = wanted.user_key_type,
        .redistribution = redistribution,
    };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_map), &state, &fresh, NULL));
    kwr_map *map = (kwr_map *)state;
    state->done = kwr_collection_done;
    map->key_fixed_size = kwr_type_fixed_size(&wanted.user_key_type);
    *out = map;
    return KWR_OK;
}

kwr_status kwr_map_open_as(kwr_backend *backend, const kwr_map_descriptor *descriptor,
                           kwr_redistribution redistribution, kwr_map **out, kwr_error *err) {
    const kwr_status status = open_map(backend, descriptor, redistribution, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

kwr_status kwr_map_open(kwr_backend *backend, const kwr_map_descriptor *descriptor, kwr_map **out,
                        kwr_error *err) {
    return kwr_map_open_as(backend, descriptor, KWR_REDISTRIBUTE_KEYED, out, err);
}

/* ---- checks ---- */

static kwr_status key_refused(kwr_map *map, size_t size) {
    const kwr_state *state = &map->collection.state;
    kwr_backend *backend = state->backend;
    if (map->key_fixed_size != 0) {
        const kwr_type *type = &backend->registry.table.states[state->at.state].user_key_type;
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': a user key of type %s has %zu bytes, not %zu", state->label,
                        kwr_type_kind_name(type->kind), map->key_fixed_size, size);
    }
    return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                    "state '%s': the user key has %zu bytes, limits.key_bytes_max is %zu",
                    state->label, size, backend->limits.key_bytes_max);
}

static kwr_status key_check(kwr_map *map, size_t size) {
    const bool fits = map->key_fixed_size != 0
                          ? size == map->key_fixed_size
                          : size <= map->collection.state.backend->limits.key_bytes_max;
    return fits ? KWR_OK : key_refused(map, size);
}

/* ---- one user key ---- */

kwr_status kwr_map_get(kwr_map *map, kwr_slice user_key, kwr_slice *value) {
    kwr_state *state = &map->collection.state;
    KWR_TRY(key_check(map, user_key.size));
    KWR_TRY(kwr_state_at(state));
    kwr_slice found = { 0 };
    const kwr_status status = state->ops->sub_get(state->engine, &state->at, user_key, &found);
    if (status < KWR_OK) return kwr_state_failed(state, status, "read");
    kwr_slice_pass(value, &found); /* empty when there was nothing */
    return status;
}

kwr_status kwr_map_contains(kwr_map *map, kwr_slice user_key) {
    kwr_slice value;
    return kwr_map_get(map, user_key, &value);
}

kwr_status kwr_map_put(kwr_map *map, kwr_slice user_key, kwr_slice value) {
    kwr_state *state = &map->collection.state;
    KWR_TRY(key_check(map, user_key.size));
    KWR_TRY(kwr_state_size_check(state, value.size));
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->sub_put(state->engine, &state->at, user_key, value);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    kwr_collection_changed(&map->collection, &state->at, NULL);
    return KWR_OK;
}

kwr_status kwr_map_put_all(kwr_map *map, const kwr_slice *user_keys, const kwr_slice *values,
                           size_t count) {
    kwr_state *state = &map->collection.state;
    for (size_t i = 0; i < count; i++) {
        KWR_TRY(key_check(map, user_keys[i].size));
        KWR_TRY(kwr_state_size_check(state, values[i].size));
    }
    KWR_TRY(kwr_state_at(state));
    for (size_t i = 0; i < count; i++)
        KWR_TRY(kwr_map_put(map, user_keys[i], values[i]));
    return KWR_OK;
}

kwr_status kwr_map_modify(kwr_map *map, kwr_slice user_key, size_t size, void **out,
                          size_t *old_size) {
    kwr_state *state = &map->collection.state;
    /* A fixed size is kept even where there was nothing to keep it. */
    if (size == KWR_KEEP_SIZE && state->fixed_size != 0) size = state->fixed_size;
    KWR_TRY(key_check(map, user_key.size));
    if (size != KWR_KEEP_SIZE) KWR_TRY(kwr_state_size_check(state, size));
    KWR_TRY(kwr_state_at(state));
    void *bytes = NULL;
    size_t before = KWR_ABSENT;
    const kwr_status status =
        state->ops->sub_modify(state->engine, &state->at, user_key, size, &bytes, &before);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    kwr_collection_changed(&map->collection, &state->at, NULL);
    *out = bytes;
    if (old_size != NULL) *old_size = before;
    return KWR_OK;
}

kwr_status kwr_map_remove(kwr_map *map, kwr_slice user_key) {
    kwr_state *state = &map->collection.state;
    KWR_TRY(key_check(map, user_key.size));
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->sub_remove(state->engine, &state->at, user_key);
    if (status < KWR_OK) return kwr_state_failed(state, status, "remove");
    if (status == KWR_OK) kwr_collection_changed(&map->collection, &state->at, NULL);
    return KWR_OK;
}

/* ---- the whole map ---- */

kwr_status kwr_map_set_namespace(kwr_map *map, kwr_slice name) {
    return kwr_state_set_namespace(&map->collection.state, name);
}

kwr_status kwr_map_clear(kwr_map *map) { return kwr_collection_clear(&map->collection); }

kwr_status kwr_map_count(kwr_map *map, uint64_t *count) {
    return kwr_collection_count(&map->collection, count);
}

kwr_status kwr_map_is_empty(kwr_map *map, bool *empty) {
    uint64_t count = 0;
    KWR_TRY(kwr_collection_count(&map->collection, &count));
    *empty = count == 0;
    return KWR_OK;
}

static kwr_status end_of(kwr_map *map, kwr_seek seek, kwr_slice *user_key, kwr_slice *value) {
    kwr_state *state = &map->collection.state;
    KWR_TRY(kwr_state_at(state));
    kwr_slice found_key = { 0 }, found = { 0 };
    const kwr_status status = state->ops->sub_seek(state->engine, &state->at, seek,
                                                   (kwr_slice){ 0 }, NULL, &found_key, &found);
    if (status < KWR_OK) return kwr_state_failed(state, status, "read");
    if (user_key != NULL) *user_key = status == KWR_OK ? found_key : (kwr_slice){ 0 };
    if (value != NULL) *value = status == KWR_OK ? found : (kwr_slice){ 0 };
    return status;
}

kwr_status kwr_map_first(kwr_map *map, kwr_slice *user_key, kwr_slice *value) {
    return end_of(map, KWR_SEEK_FIRST, user_key, value);
}

kwr_status kwr_map_last(kwr_map *map, kwr_slice *user_key, kwr_slice *value) {
    return end_of(map, KWR_SEEK_LAST, user_key, value);
}

kwr_state *kwr_map_state(kwr_map *map) { return &map->collection.state; }

/* ---- iterators ---- */

kwr_status kwr_map_iterate(kwr_map *map, kwr_map_iterator **out) {
    kwr_iterator *iterator;
    KWR_TRY(kwr_iterator_new(&map->collection, &iterator));
    *out = (kwr_map_iterator *)iterator;
    return KWR_OK;
}

kwr_status kwr_map_iterator_next(kwr_map_iterator *iterator, kwr_slice *user_key,
                                 kwr_slice *value) {
    return kwr_iterator_step(&iterator->iterator, true, user_key, value);
}

kwr_status kwr_map_iterator_previous(kwr_map_iterator *iterator, kwr_slice *user_key,
                                     kwr_slice *value) {
    return kwr_iterator_step(&iterator->iterator, false, user_key, value);
}

kwr_status kwr_map_iterator_seek(kwr_map_iterator *iterator, kwr_slice user_key) {
    KWR_TRY(key_check((kwr_map *)iterator->iterator.of, user_key.size));
    return kwr_iterator_seek(&iterator->iterator, user_key);
}

kwr_status kwr_map_iterator_seek_first(kwr_map_iterator *iterator) {
    KWR_TRY(kwr_iterator_check(&iterator->iterator));
    kwr_iterator_move(&iterator->iterator, KWR_PLACE_FIRST);
    return KWR_OK;
}

kwr_status kwr_map_iterator_seek_last(kwr_map_iterator *iterator) {
    KWR_TRY(kwr_iterator_check(&iterator->iterator));
    kwr_iterator_move(&iterator->iterator, KWR_PLACE_LAST);
    return KWR_OK;
}

kwr_status kwr_map_iterator_remove(kwr_map_iterator *iterator) {
    return kwr_iterator_remove(&iterator->iterator);
}

kwr_status kwr_map_iterator_set(kwr_map_iterator *iterator, kwr_slice value) {
    return kwr_iterator_set(&iterator->iterator, value);
}

kwr_state *kwr_map_iterator_state(kwr_map_iterator *iterator) {
    return &iterator->iterator.of->state;
}

void kwr_map_iterator_free(kwr_map_iterator *iterator) {
    kwr_iterator_free((kwr_iterator *)iterator);
}
