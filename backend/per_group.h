/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of states with one entry for each key group: their address knows no current key. */
#ifndef KWR_BACKEND_PER_GROUP_H
#define KWR_BACKEND_PER_GROUP_H

#include "backend/core.h"

/* Once, of a new handle: all but the key group. */
static inline void kwr_per_group_init(kwr_state *state) {
    const kwr_slice empty = { 0 };
    state->at.entry_hash =
        kwr_entry_hash(kwr_key_hash(empty, state->backend->seed), kwr_namespace_hash(empty));
}

/* Aims the handle at a group. False: it is not owned here. */
static inline bool kwr_per_group_at(kwr_state *state, uint32_t key_group) {
    const kwr_key_group_range owned = state->backend->key_groups;
    state->at.key_group = key_group;
    return key_group - owned.first < owned.count;
}

#endif /* KWR_BACKEND_PER_GROUP_H */
