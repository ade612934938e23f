/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounding what is merged unread. A read folds every operand since the last value, so an entry that
 * got very many is read and written anew now and then. How many it got is not stored: a table by
 * entry hash counts, entries that share a place count together, and whichever of them is at hand
 * when the place is full is the one that is folded. An entry with a part p of a place's operands is
 * hit with probability p each time, so it collects no more than a full place's worth on average,
 * however the places are shared; a place starts anew a little filled, by turns, so that no regular
 * order of keys can spare one for ever.
 */
#include "backend/rocksdb/rocks.h"

enum {
    PLACES = 1 << 14,
    FULL = 128, /* units: operands, each counted as one for 128 bytes begun */
    UNIT_BYTES = 128,
    TURNS = 16,
};

kwr_status kwr_rocks_chain_long(const kwr_env *env, rocks_chains *chains, uint64_t entry_hash,
                                size_t bytes, bool *out) {
    if (chains->units == NULL) chains->units = kwr_calloc(env, PLACES);
    if (chains->units == NULL) return KWR_ERR_NOMEM;
    uint8_t *place = &chains->units[(entry_hash >> 20) & (PLACES - 1)];
    const size_t units = bytes / UNIT_BYTES + 1;
    *out = units + *place >= FULL;
    *place = *out ? (uint8_t)((chains->turn += 7) % TURNS) : (uint8_t)(*place + units);
    return KWR_OK;
}

void kwr_rocks_chains_free(const kwr_env *env, rocks_chains *chains) {
    kwr_free(env, chains->units, PLACES);
    chains->units = NULL;
}
