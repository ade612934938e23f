/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page as it is written to storage: position-independent bytes and where they belong. The page
 * store makes and takes them; snapshot/ compresses, writes, reads and verifies them.
 */
#ifndef KWR_BACKEND_PAGE_IMAGE_H
#define KWR_BACKEND_PAGE_IMAGE_H

#include "keyweir/status.h"

/* On disk: values are for ever. */
typedef enum kwr_page_kind {
    KWR_PAGE_HASH = 1,
    KWR_PAGE_DIRECTORY = 2, /* reserved: incremental checkpoints */
    KWR_PAGE_BLOB = 3,      /* one record too large for a page */
    KWR_PAGE_TREE = 4,      /* a leaf of one collection, or its record if too large for a page */
    KWR_PAGE_DELTA = 5,     /* reserved: incremental checkpoints */
    KWR_PAGE_ENTRIES = 6,   /* canonical: entries one after the other, for every engine */
    KWR_PAGE_FILE = 7,      /* bytes of an engine's own file */
    KWR_PAGE_FILE_END = 8,  /* what that file is, behind its bytes */
} kwr_page_kind;

typedef struct kwr_page_image {
    kwr_page_kind kind;
    uint32_t state;
    uint32_t key_group;
    uint64_t page_id; /* unique in its backend's lifetime */
    uint64_t prefix;  /* hash page: the top `depth` bits of the entry hashes it holds, left
                         aligned, zeros below; else 0 */
    uint8_t depth;
    uint32_t entries; /* live entries inside */
    const void *bytes;
    size_t size;
} kwr_page_image;

typedef struct kwr_page_sink {
    void *ctx;
    /* Takes the bytes before it returns. A failure ends the walk and is returned by it. */
    kwr_status (*image)(void *ctx, const kwr_page_image *image);
} kwr_page_sink;

#endif /* KWR_BACKEND_PAGE_IMAGE_H */
