/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is recorded of the states of one backend: id, kind, name, types. States are only ever added,
 * so one growing array serves the backend and all its views: a view takes a reference to the array
 * and remembers how many states it had (constant time, whatever the number of states).
 */
#ifndef KWR_BACKEND_REGISTRY_H
#define KWR_BACKEND_REGISTRY_H

#include "backend/view.h"

typedef struct kwr_state_store kwr_state_store;

typedef struct kwr_registry {
    const kwr_env *env;
    kwr_state_store *store; /* NULL while there is no state */
    kwr_state_table table;
} kwr_registry;

void kwr_registry_done(kwr_registry *registry);

/* NULL: there is none of that name. Valid until the next add or relabel. */
const kwr_state_info *kwr_registry_find(const kwr_registry *registry, const char *name);
/* Copies `info`, giving it the next id. KWR_ERR_NOMEM: nothing changed. Name and types have been
 * checked. */
kwr_status kwr_registry_add(kwr_registry *registry, const kwr_state_info *info);
/* Takes over the field names of `type` for the value type of `id`. Views keep what they have. */
kwr_status kwr_registry_relabel(kwr_registry *registry, uint32_t id, const kwr_type *type);

/* The states as they are now, valid until the store given in `*store` is released. */
kwr_state_table kwr_registry_share(const kwr_registry *registry, kwr_state_store **store);
void kwr_state_store_release(kwr_state_store *store); /* [any]; NULL is a no-op */

#endif /* KWR_BACKEND_REGISTRY_H */
