/* SPDX-License-Identifier: Apache-2.0 */
/* The key group of a key whose hash is known already. */
#ifndef KWR_BACKEND_KEY_GROUP_H
#define KWR_BACKEND_KEY_GROUP_H

#include "backend/engine.h"

/* Scales the hash onto the groups: its top bits choose. */
static inline uint32_t kwr_key_group_of_hash(uint64_t key_hash, uint32_t max_parallelism) {
    return (uint32_t)(((unsigned __int128)key_hash * max_parallelism) >> 64);
}

#endif /* KWR_BACKEND_KEY_GROUP_H */
