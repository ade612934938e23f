/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state table. A store is an array with room to grow: the owner appends behind what views look
 * at, and never changes an element a view can see. A full store, or a change of an element that
 * views share, makes a new store, which keeps the old one alive: names and types stay where they
 * were first copied to. Stores double, so all of them together stay in proportion.
 */
#include "backend/registry.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"

/* Which memory of an element this store releases. */
enum { OWNS_TYPE = 1, OWNS_REST = 2 };

typedef struct stored_state {
    unsigned owns;
} stored_state;

struct kwr_state_store {
    atomic_uint refs;
    const kwr_env *env;
    kwr_state_store *older;
    size_t capacity;
    size_t filled; /* owner's: elements in use */
    kwr_state_info *infos;
    stored_state *stored;
};

enum { FIRST_CAPACITY = 8 };

static void info_release(const kwr_env *env, kwr_state_info *info, unsigned owns) {
    if ((owns & OWNS_TYPE) != 0) kwr_type_free(env, &info->type);
    if ((owns & OWNS_REST) == 0) return;
    kwr_type_free(env, &info->namespace_type);
    kwr_type_free(env, &info->user_key_type);
    kwr_free_string(env, (char *)info->name);
}

void kwr_state_store_release(kwr_state_store *store) {
    while (store != NULL) {
        if (atomic_fetch_sub_explicit(&store->refs, 1, memory_order_acq_rel) != 1) return;
        kwr_state_store *older = store->older;
        const kwr_env *env = store->env;
        for (size_t i = 0; i < store->filled; i++)
            info_release(env, &store->infos[i], store->stored[i].owns);
        kwr_free(env, store->infos, store->capacity * sizeof *store->infos);
        kwr_free(env, store->stored, store->capacity * sizeof *store->stored);
        kwr_free(env, store, sizeof *store);
        store = older;
    }
}

/* A store with room for `capacity`, holding what `older` holds and keeping it alive. */
static kwr_state_store *store_new(const kwr_env *env, size_t capacity, kwr_state_store *older) {
    kwr_state_store *store = (kwr_state_store *)kwr_calloc(env, sizeof *store);
    if (store == NULL) return NULL;
    atomic_init(&store->refs, 1);
    store->env = env;
    store->capacity = capacity;
    store->infos = (kwr_state_info *)kwr_alloc_array(env, capacity, sizeof *store->infos);
    store->stored = (stored_state *)kwr_alloc_array(env, capacity, sizeof *store->stored);
    if (store->infos == NULL || store->stored == NULL) {
        kwr_state_store_release(store);
        return NULL;
    }
    if (older == NULL) return store;
    store->older = older; /* the registry's reference moves here */
    store->filled = older->filled;
    memcpy(store->infos, older->infos, older->filled * sizeof *store->infos);
    memset(store->stored, 0, older->filled * sizeof *store->stored);
    return store;
}

static kwr_status replace_store(kwr_registry *registry, size_t capacity) {
    kwr_state_store *store = store_new(registry->env, capacity, registry->store);
    if (store == NULL) return KWR_ERR_NOMEM;
    registry->store = store;
    registry->table.states = store->infos;
    return KWR_OK;
}

static kwr_status info_copy(const kwr_env *env, const kwr_state_info *info, kwr_state_info *out) {
    kwr_state_info copy = { .id = info->id,
                            .kind = info->kind,
                            .redistribution = info->redistribution };
    copy.name = kwr_copy_string(env, info->name);
    if (copy.name == NULL || kwr_type_copy(env, &info->type, &copy.type) < KWR_OK ||
        kwr_type_copy(env, &info->namespace_type, &copy.namespace_type) < KWR_OK ||
        kwr_type_copy(env, &info->user_key_type, &copy.user_key_type) < KWR_OK) {
        info_release(env, &copy, OWNS_TYPE | OWNS_REST);
        return KWR_ERR_NOMEM;
    }
    *out = copy;
    return KWR_OK;
}

void kwr_registry_done(kwr_registry *registry) {
    kwr_state_store_release(registry->store);
    registry->store = NULL;
    registry->table = (kwr_state_table){ 0 };
}

/* States are opened once, when a job starts: looking through all of them is soon enough. */
const kwr_state_info *kwr_registry_find(const kwr_registry *registry, const char *name) {
    for (size_t i = 0; i < registry->table.count; i++)
        if (strcmp(registry->table.states[i].name, name) == 0) return &registry->table.states[i];
    return NULL;
}

kwr_status kwr_registry_add(kwr_registry *registry, const kwr_state_info *info) {
    const size_t count = registry->table.count;
    if (registry->store == NULL || count == registry->store->capacity) {
        const kwr_status status = replace_store(registry, count == 0 ? FIRST_CAPACITY : 2 * count);
        if (status < KWR_OK) return status;
    }
    kwr_state_info *at = &registry->store->infos[count];
    const kwr_status status = info_copy(registry->env, info, at);
    if (status < KWR_OK) return status;
    at->id = (uint32_t)count;
    registry->store->stored[count].owns = OWNS_TYPE | OWNS_REST;
    registry->store->filled = count + 1;
    registry->table.count = count + 1;
    return KWR_OK;
}

kwr_status kwr_registry_relabel(kwr_registry *registry, uint32_t id, const kwr_type *type) {
    kwr_type copy;
    if (kwr_type_copy(registry->env, type, &copy) < KWR_OK) return KWR_ERR_NOMEM;
    const bool shared = atomic_load_explicit(&registry->store->refs, memory_order_acquire) != 1;
    if (shared && replace_store(registry, registry->store->capacity) < KWR_OK) {
        kwr_type_free(registry->env, &copy);
        return KWR_ERR_NOMEM;
    }
    kwr_state_store *store = registry->store;
    if ((store->stored[id].owns & OWNS_TYPE) != 0)
        kwr_type_free(registry->env, &store->infos[id].type);
    store->infos[id].type = copy;
    store->stored[id].owns |= OWNS_TYPE;
    return KWR_OK;
}

kwr_state_table kwr_registry_share(const kwr_registry *registry, kwr_state_store **store) {
    if (registry->store != NULL)
        atomic_fetch_add_explicit(&registry->store->refs, 1, memory_order_relaxed);
    *store = registry->store;
    return registry->table;
}
