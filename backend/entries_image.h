/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical images (KWR_PAGE_ENTRIES): entries of one state and key group one after the other, the
 * same for every engine. docs/format.md has the layout.
 */
#ifndef KWR_BACKEND_ENTRIES_IMAGE_H
#define KWR_BACKEND_ENTRIES_IMAGE_H

#include "backend/engine.h"
#include "base/memory.h"

typedef struct kwr_entries_writer {
    kwr_buffer bytes;
    kwr_page_sink *sink;
    kwr_page_image image; /* state, key group and page id of the next one */
    uint64_t *next_id;
    bool collection;
    bool begun; /* key and namespace of the latest entry are in `last` */
    kwr_buffer last;
    size_t last_key_size;
} kwr_entries_writer;

/* Ids differ within one key group only: nothing refers to them. */
static inline uint64_t kwr_entries_first_id(uint32_t key_group) {
    return (uint64_t)key_group << 40 | 1;
}

void kwr_entries_begin(kwr_entries_writer *w, const kwr_env *env, kwr_page_sink *sink,
                       uint64_t *next_id, uint32_t state, uint32_t key_group, bool collection);
/* Entries as a view's walk gives them: the elements of a collection without others between. */
kwr_status kwr_entries_add(kwr_entries_writer *w, const kwr_entry *entry);
kwr_status kwr_entries_end(kwr_entries_writer *w);
void kwr_entries_free(kwr_entries_writer *w);

/* As kwr_page_image_walk(), of an image of this kind. */
kwr_status kwr_entries_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                            kwr_error *err);

#endif /* KWR_BACKEND_ENTRIES_IMAGE_H */
