/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page as it is written to storage: position-independent bytes and where they belong. The page
 * store makes and takes them; snapshot/ compresses, writes, reads and verifies them.
 */
#ifndef KWR_BACKEND_PAGE_IMAGE_H
#define KWR_BACKEND_PAGE_IMAGE_H

#include <stdbool.h>

#include "keyweir/status.h"

/* On disk: values are for ever. */
typedef enum kwr_page_kind {
    KWR_PAGE_HASH = 1,
    KWR_PAGE_DIRECTORY = 2, /* reserved: incremental checkpoints */
    KWR_PAGE_BLOB = 3,      /* one record too large for a page */
    KWR_PAGE_TREE = 4,      /* a leaf of one collection, or its record if too large for a page */
    KWR_PAGE_DELTA = 5,     /* what changed on hash pages, see page_delta.h */
    KWR_PAGE_ENTRIES = 6,   /* canonical: entries one after the other, for every engine */
    KWR_PAGE_FILE = 7,      /* bytes of an engine's own file */
    KWR_PAGE_FILE_END = 8,  /* what that file is, behind its bytes */
} kwr_page_kind;

typedef struct kwr_page_image {
    kwr_page_kind kind;
    uint32_t state;
    uint32_t key_group;
    uint64_t page_id; /* unique in its key group, for ever: restored pages keep theirs */
    uint64_t prefix;  /* hash page: the top `depth` bits of the entry hashes it holds, left
                         aligned, zeros below; blob and tree page: the hash of its entry */
    uint8_t depth;    /* blob and tree page: KWR_PAGE_OWNED */
    uint32_t entries; /* live entries inside */
    /* Of these: keys, namespaces and values. Of collections the elements inside, with subkeys and
     * values; a large one's record counts without them. */
    uint32_t entry_bytes;
    uint32_t elements;
    uint64_t epoch; /* of the engine, in which it was last changed; 0: not said */
    const void *bytes;
    size_t size;
    /* Given to install(): the slots say in which epochs they were changed; what changes after the
     * restore does so in epochs above `past`. */
    bool marked;
    uint64_t past;
    /* Of what is not in memory: 0, or deltas of epochs up to this may lie beside its image. */
    uint64_t beside;
} kwr_page_image;

/* What of a page is known below: then it is enough to say what changed after `since`, unless that
 * or all that changed after `whole`, when it was last written as a whole, is too much. */
typedef struct kwr_page_since {
    uint64_t since; /* epochs; 0: nothing is known */
    uint64_t whole;
} kwr_page_since;

typedef struct kwr_page_sink {
    void *ctx;
    /*
     * NULL, or asked before an image is made, with state, key group, id, kind and epoch filled in:
     * *wanted false passes it over. Ids are unique in a key group, and an image whose epoch has not
     * changed since the view before says the same as it did then. A failure ends the walk.
     */
    kwr_status (*page)(void *ctx, const kwr_page_image *image, bool *wanted);
    /*
     * NULL, or asked next for a hash page that is wanted: which of its changes will do. Then what
     * comes may be one delta of it (kind KWR_PAGE_DELTA).
     */
    kwr_status (*changed)(void *ctx, const kwr_page_image *image, kwr_page_since *out);
    /* Takes the bytes before it returns. A failure ends the walk and is returned by it. */
    kwr_status (*image)(void *ctx, const kwr_page_image *image);
    kwr_error *err; /* NULL, or where the engine says what it could not read itself */
} kwr_page_sink;

enum {
    KWR_EPOCH_MARKS = 127,  /* an epoch's mark on a slot is 1 + epoch mod this */
    KWR_EPOCH_RESTORED = 1, /* of all images that came by install() */
    KWR_PAGE_OWNED = 64,    /* as depth: the image is part of the one entry of that hash */
};

/* What is neither 0, which means none, nor near the end of the numbers. */
static inline bool kwr_page_id_ok(uint64_t id) { return id != 0 && id < UINT64_C(1) << 62; }

/* Does a sink want this page? */
static inline kwr_status kwr_page_sink_ask(const kwr_page_sink *sink, const kwr_page_image *image,
                                           bool *wanted) {
    *wanted = true;
    return sink->page == NULL ? KWR_OK : sink->page(sink->ctx, image, wanted);
}

#endif /* KWR_BACKEND_PAGE_IMAGE_H */
