/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pages of a lazily restored engine come from: what the indexes say of each image, and
 * its content on demand. Declared here, implemented in snapshot/.
 */
#ifndef KWR_BACKEND_PAGE_SOURCE_H
#define KWR_BACKEND_PAGE_SOURCE_H

#include "backend/page_image.h"

/* What the index says of an image. */
typedef struct kwr_page_stub {
    uint64_t page_id;
    uint64_t prefix;
    uint32_t state;
    uint32_t key_group;
    uint32_t entries;
    uint32_t entry_bytes;
    uint32_t elements;
    uint32_t stored; /* bytes to be read */
    uint64_t epoch;  /* in which it was last changed, as far as is known without reading deltas */
    uint64_t beside; /* 0, or deltas of epochs up to this may lie in other files */
    uint8_t kind;
    uint8_t depth;
} kwr_page_stub;

typedef kwr_status (*kwr_page_image_fn)(void *ctx, const kwr_page_image *image);

/*
 * Images are numbered in ascending order of key group, state, prefix and depth: so what belongs to
 * one place of the directory follows one another, a hash page before the blobs and leaves of its
 * entries.
 */
typedef struct kwr_page_source {
    void *ctx;
    uint64_t count;
    uint64_t past; /* highest epoch of all there is */
    /* There are deltas: what the indexes count is of the images alone. */
    bool estimated;
    /* [any] */
    void (*stub)(void *ctx, uint64_t index, kwr_page_stub *out);
    /*
     * Reads images [first, first + count), compares each with its digest, puts it together with
     * its deltas and gives it to `fn`, in this order; the bytes are lent for the call. `marked`:
     * slots say in which epochs they were changed. Blocks. What `fn` returns other than KWR_OK
     * ends it and is returned. `err` names file and offset of what is damaged or missing. [any]
     */
    kwr_status (*load)(void *ctx, uint64_t first, uint64_t count, bool marked, kwr_page_image_fn fn,
                       void *fn_ctx, kwr_error *err);
    void (*release)(void *ctx); /* [any] */
} kwr_page_source;

/* How the rest is loaded while the engine is in use. */
typedef struct kwr_page_loading {
    uint32_t share;          /* percent of one processor; 0: only what is accessed */
    void (*wake)(void *ctx); /* [any] something waits for the owner; may be NULL */
    void *wake_ctx;
} kwr_page_loading;

#endif /* KWR_BACKEND_PAGE_SOURCE_H */
