/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that change their block: copied for a view, grown, repacked, split, chained. The new ones
 * are complete before any word of the directory refers to them.
 */
#include "backend/memory/store.h"
#include "base/planted.h"

enum {
    SLOTS_AIM = 12, /* entries per group a full page should have: few then overflow */
    SPLIT_MIN = 11264,
    SPLIT_SPAN = 4096,
};

uint64_t kwr_store_hash(const kwr_engine *e, kwr_slice key, kwr_slice name) {
    const uint64_t name_hash = name.size == 0 ? e->empty_name_hash : kwr_namespace_hash(name);
    return kwr_entry_hash(kwr_key_hash(key, e->seed), name_hash) & e->hash_mask;
}

kwr_word kwr_page_word(const kwr_page *page, unsigned word_depth) {
    return kwr_word_make(KWR_WORD_PAGE, page, word_depth, page->groups) | KWR_WORD_CURRENT;
}

/* Uniform hashing fills all pages at the same time; so that they do not split together, each has
 * a bound of its own. */
static size_t split_bytes(uint64_t id) {
    return SPLIT_MIN + ((id * 0x9e3779b97f4a7c15ULL) >> 52) % SPLIT_SPAN;
}

kwr_status kwr_page_scan(kwr_engine *e, const kwr_page *page) {
    kwr_scan *scan = e->scan;
    const kwr_slots *lines = kwr_page_slots(page);
    scan->count = 0;
    for (uint32_t group = 0; group < page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if (offset == 0) continue;
            const kwr_record r = kwr_record_at(kwr_page_record(page, offset));
            const uint64_t hash = kwr_store_hash(e, (kwr_slice){ r.key, r.key_size },
                                                 (kwr_slice){ r.name, r.name_size });
            if (KWR_UNLIKELY(kwr_hash_tag(hash) != lines[group].tags[slot])) return KWR_ERR_MISUSE;
            scan->offset[scan->count] = offset;
            scan->bytes[scan->count] =
                (uint16_t)((offset & KWR_SLOT_BLOB) != 0
                               ? KWR_BLOB_REF
                               : r.value + r.value_size - ((const uint8_t *)page + offset));
            scan->hash[scan->count++] = hash;
        }
    }
    KWR_INVARIANT(4, scan->count == page->live);
    return KWR_OK;
}

static uint32_t groups_at_least(uint32_t count) { return (count + KWR_SLOTS - 1) / KWR_SLOTS; }

/* Groups for a page that holds `count` entries of `bytes` and will go on to `future` bytes. */
static uint32_t groups_for(uint32_t count, size_t bytes, size_t future) {
    const size_t entries = bytes == 0 ? count : count * future / bytes;
    const uint32_t groups = (uint32_t)(entries + SLOTS_AIM - 1) / SLOTS_AIM;
    const uint32_t least = groups_at_least(count == 0 ? 1 : count);
    if (groups < least) return least;
    return groups > KWR_PAGE_GROUPS_MAX ? KWR_PAGE_GROUPS_MAX : groups;
}

static size_t future_bytes(size_t bytes, size_t slack) {
    /* Beyond a few KiB more room for slots costs little and saves hashing all keys again. */
    const size_t future = bytes < 3072 ? bytes + slack : bytes + bytes / 2;
    return future < SPLIT_MIN ? future : bytes > SPLIT_MIN ? bytes : SPLIT_MIN;
}

static kwr_page *page_sized(kwr_engine *e, uint64_t id, uint64_t prefix, unsigned depth,
                            uint32_t groups, size_t total) {
    if (total > KWR_PAGE_BYTES_MAX) total = KWR_PAGE_BYTES_MAX;
    kwr_page *page = (kwr_page *)kwr_store_alloc(e, total, KWR_BLOCK_PAGE);
    if (page == NULL) return NULL;
    kwr_page_init(page, id, prefix, depth, groups);
    page->formed = e->epoch;
    return page;
}

kwr_page *kwr_page_new(kwr_engine *e, uint64_t id, uint64_t prefix, unsigned depth, uint32_t count,
                       size_t bytes, size_t slack) {
    uint32_t groups = groups_for(count, bytes, future_bytes(bytes, slack));
    /* Entries that were on one page fit one page, if slots are packed. */
    if (kwr_page_records(groups) + bytes > KWR_PAGE_BYTES_MAX) groups = groups_at_least(count);
    return page_sized(e, id, prefix, depth, groups, kwr_page_records(groups) + bytes + slack);
}

void kwr_page_take(kwr_page *to, const kwr_page *from, const kwr_scan *scan, uint64_t mask,
                   uint64_t value) {
    kwr_hit hit;
    for (uint32_t i = 0; i < scan->count; i++) {
        if ((scan->hash[i] & mask) != value) continue;
        const uint16_t offset = scan->offset[i];
        uint8_t *record =
            kwr_page_add(to, scan->hash[i], scan->bytes[i], (offset & KWR_SLOT_BLOB) != 0, &hit);
        memcpy(record, (const uint8_t *)from + (offset & KWR_SLOT_OFFSET), scan->bytes[i]);
    }
}

/* The same slots in a larger block: nothing is hashed. */
static void take_same_groups(kwr_page *to, const kwr_page *from) {
    to->live = from->live;
    to->blobs = from->blobs;
    memcpy(kwr_page_slots(to), kwr_page_slots(from), (size_t)from->groups * sizeof(kwr_slots));
    const uint32_t records = kwr_page_records(from->groups);
    if (from->dead == 0) {
        memcpy((uint8_t *)to + records, (const uint8_t *)from + records, from->used - records);
        to->used = from->used;
        return;
    }
    kwr_slots *lines = kwr_page_slots(to);
    for (uint32_t group = 0; group < from->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if (offset == 0) continue;
            const size_t bytes = kwr_page_record_bytes(from, offset);
            memcpy((uint8_t *)to + to->used, (const uint8_t *)from + (offset & KWR_SLOT_OFFSET),
                   bytes);
            lines[group].offsets[slot] = (uint16_t)(to->used | (offset & KWR_SLOT_BLOB));
            to->used = (uint16_t)(to->used + bytes);
        }
    }
}

kwr_status kwr_page_own(kwr_engine *e, kwr_path *path, kwr_page **out) {
    kwr_step *step = kwr_path_last(path);
    const kwr_word w = step->node->words[step->index];
    kwr_page *page = kwr_word_address(w);
    *out = page;
    if ((w & KWR_WORD_CURRENT) != 0) return KWR_OK;
    if (!kwr_store_shared(e, &page->block) || KWR_PLANTED(frozen_page_written)) {
        page->block.birth = e->epoch;
        kwr_directory_set(e, step, w | KWR_WORD_CURRENT);
        return KWR_OK;
    }
    kwr_block *block = kwr_store_alloc(e, kwr_page_capacity(page), KWR_BLOCK_PAGE);
    if (block == NULL) return KWR_ERR_NOMEM;
    memcpy((uint8_t *)block + sizeof *block, (const uint8_t *)page + sizeof *block,
           page->used - sizeof *block);
    if (!KWR_PLANTED(stale_page_found))
        kwr_directory_set(e, step, kwr_page_word((kwr_page *)block, kwr_word_depth(w)));
    kwr_store_retire(e, &page->block);
    e->copies++;
    *out = (kwr_page *)block;
    return KWR_OK;
}

static void replace(kwr_engine *e, const kwr_step *step, kwr_page *old, kwr_page *page) {
    const unsigned depth = kwr_word_depth(step->node->words[step->index]);
    if (kwr_store_shared(e, &old->block)) e->copies++;
    kwr_directory_set(e, step, kwr_page_word(page, depth));
    kwr_store_retire(e, &old->block);
}

/* Gives a page its dead bytes back without another block; nobody else sees it. */
static void tidy(kwr_engine *e, kwr_page *page) {
    kwr_page *copy = (kwr_page *)(void *)e->scan->page;
    memcpy(copy, page, page->used);
    page->used = (uint16_t)kwr_page_records(page->groups);
    page->dead = 0;
    take_same_groups(page, copy);
}

/* A larger or tidier block for the same entries. */
static kwr_status grow(kwr_engine *e, kwr_path *path, kwr_page *old, size_t bytes, size_t most) {
    const size_t need = kwr_page_live_bytes(old) + bytes;
    const uint32_t count = old->live + 1U;
    size_t slack = need / 8;
    uint32_t groups = old->groups;
    const uint32_t least = groups_for(count, need, need + slack);
    if (groups < least || groups > 3 * least + 1) {
        groups = groups_for(count, need, future_bytes(need, slack));
        if (kwr_page_records(groups) + need > most) groups = groups_at_least(count);
    }
    if (kwr_page_records(groups) + need > most) return KWR_NOT_FOUND;
    const bool same = groups == old->groups;
    const size_t room = kwr_page_capacity(old);
    const bool fits = kwr_page_records(old->groups) + need <= room &&
                      count <= (uint32_t)old->groups * KWR_SLOTS &&
                      !kwr_store_shared(e, &old->block) &&
                      (uintptr_t)e->argument - (uintptr_t)old >= room;
    if (fits && same && kwr_page_records(groups) + need + need / 16 <= room) {
        tidy(e, old);
        return KWR_OK;
    }
    if (!same) KWR_TRY(kwr_page_scan(e, old));
    kwr_page *page = page_sized(e, old->id, old->prefix, old->depth, groups,
                                kwr_page_records(groups) + need + slack);
    if (page == NULL && fits) {
        tidy(e, old);
        return KWR_OK;
    }
    if (page == NULL) return KWR_ERR_NOMEM;
    if (same) {
        take_same_groups(page, old);
        page->formed = old->formed;
    } else {
        kwr_page_take(page, old, e->scan, 0, 0);
    }
    replace(e, kwr_path_last(path), old, page);
    return KWR_OK;
}

/* One half of a split: NULL in *out when it has no entries. False: no memory. */
static bool half(kwr_engine *e, const kwr_page *old, uint64_t bit, uint64_t side, size_t slack,
                 kwr_page **out) {
    const kwr_scan *scan = e->scan;
    uint32_t count = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < scan->count; i++) {
        if ((scan->hash[i] & bit) != side) continue;
        count++;
        bytes += scan->bytes[i];
    }
    *out = NULL;
    if (count == 0) return true;
    if (slack < bytes / 8) slack = bytes / 8;
    kwr_page *page =
        kwr_page_new(e, e->page_ids++, old->prefix | side, old->depth + 1U, count, bytes, slack);
    if (page == NULL) return false;
    kwr_page_take(page, old, scan, bit, side);
    *out = page;
    return true;
}

static kwr_status split(kwr_engine *e, kwr_path *path, kwr_page *old, uint64_t hash, size_t slack) {
    KWR_TRY(kwr_page_scan(e, old));
    KWR_TRY(kwr_directory_deepen(e, path, hash));
    const kwr_step *step = kwr_path_last(path);
    const unsigned depth = kwr_word_depth(step->node->words[step->index]) + 1;
    const uint64_t bit = 1ULL << (63 - old->depth);
    kwr_page *low = NULL, *high = NULL;
    if (!half(e, old, bit, 0, slack, &low)) return KWR_ERR_NOMEM;
    if (!half(e, old, bit, bit, slack, &high)) {
        if (low != NULL) kwr_page_arena_free(&e->arena, &low->block);
        return KWR_ERR_NOMEM;
    }
    kwr_step halves[2] = { *step, *step };
    const uint32_t copies = 1U << (step->bits - depth);
    halves[0].index &= ~copies;
    halves[1].index |= copies;
    kwr_directory_set(e, &halves[0], low ? kwr_page_word(low, depth) : kwr_word_empty(depth));
    kwr_directory_set(e, &halves[1], high ? kwr_page_word(high, depth) : kwr_word_empty(depth));
    kwr_store_retire(e, &old->block);
    e->splits++;
    return KWR_OK;
}

/* Puts a chain of one between a word and its page, which no hash bit can split. */
static kwr_status chain(kwr_engine *e, kwr_path *path) {
    const kwr_step *step = kwr_path_last(path);
    const kwr_word w = step->node->words[step->index];
    kwr_node *node = kwr_node_new(e, 1);
    if (node == NULL) return KWR_ERR_NOMEM;
    node->words[0] = kwr_word_with_depth(w, 0);
    kwr_directory_set(e, step, kwr_word_make(KWR_WORD_CHAIN, node, kwr_word_depth(w), 0));
    return KWR_OK;
}

kwr_status kwr_page_make_room(kwr_engine *e, kwr_path *path, uint64_t hash, size_t bytes) {
    const kwr_step *step = kwr_path_last(path);
    kwr_page *page = kwr_word_address(step->node->words[step->index]);
    const bool chained = step->bits == 0 && step->base == KWR_DEPTH_MAX;
    const size_t most = chained || kwr_path_depth(path) == KWR_DEPTH_MAX ? KWR_PAGE_BYTES_MAX
                                                                         : split_bytes(page->id);
    if (page->live < KWR_PAGE_SLOTS_MAX) {
        const kwr_status status = grow(e, path, page, bytes, most);
        if (status != KWR_NOT_FOUND) return status;
    }
    KWR_INVARIANT(6, !chained);
    if (kwr_path_depth(path) == KWR_DEPTH_MAX) return chain(e, path);
    const size_t slack = bytes;
    return split(e, path, page, hash, slack);
}
