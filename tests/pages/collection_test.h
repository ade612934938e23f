/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of collections share: a naive copy of what a store of collections must hold. */
#ifndef KWR_COLLECTION_TEST_H
#define KWR_COLLECTION_TEST_H

#include "backend/memory/tree.h"
#include "tests/pages/pages_test.h"

typedef struct element {
    uint8_t *key, *value;
    size_t key_size, value_size;
} element;

typedef struct collection {
    uint32_t state, key_group;
    uint8_t *key, *name;
    size_t key_size, name_size;
    element *elements; /* in order */
    size_t count, capacity;
    size_t seen;
} collection;

typedef struct shelf {
    collection *items; /* some may be empty */
    size_t count, capacity;
} shelf;

shelf *shelf_new(void);
void shelf_free(shelf *s);
shelf *shelf_copy(const shelf *s);
collection *shelf_at(shelf *s, const kwr_address *at);
/* The first element not below; *found: it is that one. */
size_t collection_find(const collection *c, kwr_slice key, bool *found);
element *collection_put(collection *c, kwr_slice key, const void *value, size_t size);
void collection_take_out(collection *c, size_t i);
void collection_clear(collection *c);
kwr_address collection_address(const store *s, const collection *c);

/* The engine holds exactly this, by every way of reading. */
void shelf_expect(shelf *m, const store *s, kwr_engine *engine);
void shelf_expect_view(shelf *m, const store *s, kwr_engine_view *view);
/* The images hold exactly this. */
void shelf_expect_images(shelf *m, const images *im);

#endif /* KWR_COLLECTION_TEST_H */
