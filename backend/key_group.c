/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key groups: which of max_parallelism groups a key is in, and which subtask owns a group. Stored
 * checkpoints depend on every line here: golden vectors in tests/conformance/ and docs/types.md.
 */
#include "backend/key_group.h"

kwr_key_group_range kwr_key_groups_of(uint32_t index, uint32_t parallelism,
                                      uint32_t max_parallelism) {
    if (index >= parallelism || parallelism > max_parallelism ||
        max_parallelism > KWR_MAX_PARALLELISM_LIMIT)
        return (kwr_key_group_range){ 0, 0 };
    /* Below 2^15 each: no product overflows. */
    const uint32_t first = (index * max_parallelism + parallelism - 1) / parallelism;
    const uint32_t end = ((index + 1) * max_parallelism + parallelism - 1) / parallelism;
    return (kwr_key_group_range){ first, end - first };
}

uint32_t kwr_key_group_owner(uint32_t key_group, uint32_t parallelism, uint32_t max_parallelism) {
    if (max_parallelism == 0) return 0;
    return (uint32_t)((uint64_t)key_group * parallelism / max_parallelism);
}

uint32_t kwr_key_group(kwr_slice key, uint64_t seed, uint32_t max_parallelism) {
    return kwr_key_group_of_hash(kwr_key_hash(key, seed), max_parallelism);
}
