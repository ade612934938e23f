/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed on a hash page since an image of it, and page and changes put together again. Pure:
 * bytes in, bytes out; no bytes whatever can crash it. docs/format.md has the layout.
 *
 * Deltas are small, so many of them, of one state and key group, are one image of a data file: a
 * batch. A delta speaks of slots, not of places: it holds whole records, so that it does not matter
 * where in the page they lie, and the later of two deltas simply wins.
 */
#ifndef KWR_BACKEND_PAGE_DELTA_H
#define KWR_BACKEND_PAGE_DELTA_H

#include <stdint.h>

#include "backend/page_image.h"
#include "base/bytes.h"
#include "base/memory.h"
#include "keyweir/status.h"

enum {
    KWR_DELTA_HEADER = 16,
    KWR_DELTA_BATCH_BYTES = 64 * 1024, /* a batch ends behind the delta that reaches this */
    KWR_DELTA_LEVELS = 3,              /* tiers of batches */
};

/* What a batch says of itself. */
typedef struct kwr_delta_batch {
    uint64_t from;  /* checkpoint on whose content its deltas go; 0: on whole images alone */
    uint32_t count; /* of deltas */
    uint8_t level;  /* below KWR_DELTA_LEVELS */
    kwr_cursor rest;
} kwr_delta_batch;

/* One delta: bytes that lie in its batch. */
typedef struct kwr_delta {
    uint64_t page_id;
    const uint8_t *bytes;
    uint32_t size;
    uint8_t mark; /* put into the slots it changes; 0 for images that are only read */
} kwr_delta;

/* The header of a batch that is being filled. */
void kwr_delta_batch_begin(uint8_t out[KWR_DELTA_HEADER], uint64_t from, uint8_t level,
                           uint32_t count);
/* KWR_ERR_CORRUPT says what is wrong with it. */
kwr_status kwr_delta_batch_open(const void *bytes, size_t size, kwr_delta_batch *out,
                                kwr_error *err);
/* KWR_NOT_FOUND behind the last. */
kwr_status kwr_delta_batch_next(kwr_delta_batch *batch, kwr_delta *out, kwr_error *err);
/* Every delta of a batch is well formed. */
kwr_status kwr_delta_batch_check(const void *bytes, size_t size, kwr_error *err);

/*
 * The image of a hash page with deltas of it, in ascending order of the checkpoints they were
 * written for. `room` is what *out->bytes lies in; it must outlive it. What it is is checked as
 * install() and kwr_page_image_walk() check any image; here only what putting together needs.
 */
kwr_status kwr_page_put_together(const kwr_page_image *image, const kwr_delta *deltas, size_t count,
                                 kwr_buffer *room, kwr_page_image *out, kwr_error *err);

#endif /* KWR_BACKEND_PAGE_DELTA_H */
