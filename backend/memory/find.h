/* SPDX-License-Identifier: Apache-2.0 */
/* The short way to an entry: directory words down to a page, then the page's slots. Inline, because
 * every access starts with it. */
#ifndef KWR_BACKEND_MEMORY_FIND_H
#define KWR_BACKEND_MEMORY_FIND_H

#include "backend/memory/store.h"

/* The word for a hash. With `write`, `current` is set only when it can be relied on. */
static inline kwr_word kwr_find_word(const kwr_engine *e, uint32_t state, uint32_t key_group,
                                     uint64_t hash, bool write) {
    const kwr_node *node = e->states[state];
    if (KWR_UNLIKELY(node == NULL)) return 0;
    uint32_t index = key_group - e->group_first;
    if (e->two_level) {
        const kwr_word w = node->words[index / KWR_FAN_OUT];
        if (kwr_word_kind_of(w) == KWR_WORD_EMPTY) return 0;
        node = kwr_word_address(w);
        index %= KWR_FAN_OUT;
    }
    kwr_word w = node->words[index];
    while (kwr_word_kind_of(w) == KWR_WORD_HASH) {
        const unsigned bits = kwr_word_span(w);
        node = kwr_word_address(w);
        w = node->words[hash >> (64 - bits)];
        hash <<= bits;
    }
    if (write && node->block.birth != e->epoch) w &= ~KWR_WORD_CURRENT;
    return w;
}

static inline kwr_word kwr_word_of(const kwr_engine *e, const kwr_address *at, uint64_t hash,
                                   bool write) {
    const kwr_engine_hint *hint = at->hint;
    if (hint != NULL && KWR_LIKELY(hint->stamp == e->stamp)) return hint->extra;
    return kwr_find_word(e, at->state, at->key_group, hash, write);
}

static inline bool kwr_find_chained(kwr_word w, const kwr_address *at, uint64_t hash,
                                    kwr_hit *hit) {
    if (kwr_word_kind_of(w) != KWR_WORD_CHAIN) return false;
    const kwr_node *chain = kwr_word_address(w);
    for (uint32_t i = 0; i < chain->width; i++) {
        const kwr_word page = chain->words[i];
        if (kwr_page_find(kwr_word_address(page), kwr_word_span(page), at, hash, hit)) return true;
    }
    return false;
}

static inline bool kwr_find_entry(kwr_word w, const kwr_address *at, uint64_t hash, kwr_hit *hit) {
    if (KWR_LIKELY(kwr_word_kind_of(w) == KWR_WORD_PAGE))
        return kwr_page_find(kwr_word_address(w), kwr_word_span(w), at, hash, hit);
    return kwr_find_chained(w, at, hash, hit);
}

/* The entry may be written where it was found; who does so touches the slot. */
static inline bool kwr_hit_writable(kwr_word w, const kwr_hit *hit) {
    return (w & (KWR_WORD_CURRENT | 7)) == (KWR_WORD_CURRENT | KWR_WORD_PAGE) && hit->blob == NULL;
}

#endif /* KWR_BACKEND_MEMORY_FIND_H */
