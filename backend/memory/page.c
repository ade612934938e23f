/* SPDX-License-Identifier: Apache-2.0 */
/* Slots taken and given back inside one page. See page.h. */
#include "backend/memory/page.h"

void kwr_page_init(kwr_page *page, uint64_t id, uint64_t prefix, unsigned depth, uint32_t groups) {
    page->block.kind = KWR_BLOCK_PAGE;
    page->block.whole = 0;
    page->id = id;
    page->prefix = prefix;
    page->used = (uint16_t)kwr_page_records(groups);
    page->dead = 0;
    page->live = 0;
    page->blobs = 0;
    page->groups = (uint8_t)groups;
    page->depth = (uint8_t)depth;
    page->flags = 0;
    page->zero = 0;
    page->ordinal = 0;
    page->formed = 0;
    memset(kwr_page_slots(page), 0, (size_t)groups * sizeof(kwr_slots));
}

uint8_t *kwr_page_add(kwr_page *page, uint64_t hash, size_t bytes, bool blob, kwr_hit *hit) {
    KWR_INVARIANT(4, kwr_page_fits(page, bytes));
    kwr_slots *lines = kwr_page_slots(page);
    uint32_t group = kwr_hash_group(hash, page->groups);
    uint32_t empty;
    const uint8_t mark = kwr_mark_of(page->block.birth);
    while ((empty = kwr_slots_empty(&lines[group])) == 0) {
        if (lines[group].overflow < KWR_OVERFLOW_STUCK) lines[group].overflow++;
        lines[group].ages[KWR_AGE_OVERFLOW] = mark;
        group = group + 1U == page->groups ? 0 : group + 1;
    }
    hit->line = &lines[group];
    hit->slot = (uint32_t)__builtin_ctz(empty);
    hit->line->tags[hit->slot] = kwr_hash_tag(hash);
    hit->line->offsets[hit->slot] = (uint16_t)(page->used | (blob ? KWR_SLOT_BLOB : 0));
    kwr_slot_touch(hit->line, hit->slot, mark);
    uint8_t *record = (uint8_t *)page + page->used;
    page->used = (uint16_t)(page->used + bytes);
    page->live++;
    if (blob) page->blobs++;
    return record;
}

void kwr_page_drop(kwr_page *page, uint64_t hash, const kwr_hit *hit) {
    kwr_slots *lines = kwr_page_slots(page);
    const uint16_t offset = hit->line->offsets[hit->slot];
    const uint8_t mark = kwr_mark_of(page->block.birth);
    for (uint32_t group = kwr_hash_group(hash, page->groups); &lines[group] != hit->line;
         group = group + 1U == page->groups ? 0 : group + 1) {
        if (lines[group].overflow < KWR_OVERFLOW_STUCK) lines[group].overflow--;
        lines[group].ages[KWR_AGE_OVERFLOW] = mark;
    }
    const size_t bytes = kwr_page_record_bytes(page, offset);
    if ((offset & KWR_SLOT_OFFSET) + bytes == page->used)
        page->used = (uint16_t)(page->used - bytes);
    else
        page->dead = (uint16_t)(page->dead + bytes);
    hit->line->tags[hit->slot] = 0;
    hit->line->offsets[hit->slot] = 0;
    kwr_slot_touch(hit->line, hit->slot, mark);
    page->live--;
    if ((offset & KWR_SLOT_BLOB) != 0) page->blobs--;
}
