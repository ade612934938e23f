/* SPDX-License-Identifier: Apache-2.0 */
/* What the ages of a page's slots say: how much has changed, and that as a delta. */
#ifndef KWR_BACKEND_MEMORY_PAGE_CHANGES_H
#define KWR_BACKEND_MEMORY_PAGE_CHANGES_H

#include "backend/memory/store.h"
#include "backend/page_delta.h"

typedef struct kwr_page_changes {
    uint32_t slots;     /* changed after `since` */
    uint32_t overflows; /* counts of slot groups */
    size_t bytes;       /* about what these take in a delta */
    size_t whole_bytes; /* the same after `whole` */
} kwr_page_changes;

kwr_page_changes kwr_page_changes_of(const kwr_page *page, const kwr_page_since *since,
                                     uint64_t now);
/*
 * Appends the delta of a page to `out`, with the numbers in front of it. `image` is its header,
 * slots and records as images have them; the ages are those of `page`. False: no memory.
 */
bool kwr_delta_encode(kwr_buffer *out, kwr_buffer *room, const kwr_page *image,
                      const kwr_page *page, const kwr_page_changes *changes, uint64_t since,
                      uint64_t now);

#endif /* KWR_BACKEND_MEMORY_PAGE_CHANGES_H */
