/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections: ordered maps from subkeys to values. A small one is the value of its record in a
 * hash page; a large one is a copy-on-write B+-tree of tree pages, and the record holds its head.
 * docs/page-store.md draws both.
 *
 * Leaves and inner pages have one layout: slots in the order of subkeys from the front, records
 * from the end. An inner page maps separators to child pages; the first one stands for everything
 * below the second, whatever its bytes are. Nothing but a child word is a pointer.
 */
#ifndef KWR_BACKEND_MEMORY_TREE_H
#define KWR_BACKEND_MEMORY_TREE_H

#include "backend/memory/store.h"

/* ---- elements: varint subkey length, value length, then the two ---- */

typedef struct kwr_element {
    const uint8_t *key;
    uint8_t *value;
    uint32_t key_size;
    uint32_t value_size;
} kwr_element;

static inline size_t kwr_element_size(size_t key, size_t value) {
    return kwr_varint32_size((uint32_t)key) + kwr_varint32_size((uint32_t)value) + key + value;
}

/* Trusted bytes. */
static inline kwr_element kwr_element_at(const uint8_t *p) {
    kwr_element x;
    x.key_size = kwr_record_varint(&p);
    x.value_size = kwr_record_varint(&p);
    x.key = p;
    x.value = (uint8_t *)p + x.key_size;
    return x;
}
static inline const uint8_t *kwr_element_end(const kwr_element *x) {
    return x->value + x->value_size;
}
static inline kwr_slice kwr_element_key(const kwr_element *x) {
    return (kwr_slice){ x->key, x->key_size };
}

/* Writes all but the value; returns where that goes. `p` is not inside `key`. */
static inline uint8_t *kwr_element_write(uint8_t *p, kwr_slice key, size_t value_size) {
    p += kwr_put_varint32(p, (uint32_t)key.size);
    p += kwr_put_varint32(p, (uint32_t)value_size);
    if (key.size > 0) memcpy(p, key.data, key.size);
    return p + key.size;
}

/* As memcmp(), a prefix first. */
static inline int kwr_subkey_compare(kwr_slice a, kwr_slice b) {
    const size_t common = a.size < b.size ? a.size : b.size;
    const int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- the value of a collection's record ---- */

typedef enum kwr_collection_form {
    KWR_COLLECTION_INLINE = 1, /* u8 form, u16 count, elements in order */
    KWR_COLLECTION_TREE = 2,   /* a kwr_tree_head */
} kwr_collection_form;

enum {
    KWR_INLINE_HEAD = 3,
    KWR_COLLECTION_BYTES_MAX = 1024, /* inline; beyond it becomes a tree */
    KWR_COLLECTION_COUNT_MAX = 64,   /* the same by elements */
    KWR_COLLECTION_DEMOTE = 512,     /* a tree of fewer bytes becomes inline again */
    KWR_COLLECTION_DEMOTE_COUNT = 32,
    KWR_SUBKEY_EXTRA = 32, /* a timer's subkey is a key, a namespace and a little */
};

/* 32 bytes, not aligned in the record. In images height and root are zero. */
typedef struct kwr_tree_head {
    uint8_t form;
    uint8_t height; /* levels above the leaves */
    uint16_t zero;
    uint32_t leaves;
    uint64_t count; /* elements ... */
    uint64_t bytes; /* ... and the bytes of their subkeys and values */
    uint64_t root;  /* kwr_tree_page */
} kwr_tree_head;
_Static_assert(sizeof(kwr_tree_head) == 32, "tree head");

static inline kwr_tree_head kwr_tree_head_at(const void *bytes) {
    kwr_tree_head head;
    memcpy(&head, bytes, sizeof head);
    return head;
}
static inline bool kwr_collection_is_tree(const uint8_t *value) {
    return value[0] == KWR_COLLECTION_TREE;
}
static inline uint32_t kwr_inline_count(const uint8_t *value) { return kwr_get_le16(value + 1); }

/* What a record of a collection holds. Trusted bytes. */
typedef struct kwr_collection_sum {
    uint64_t count;
    uint64_t bytes;
} kwr_collection_sum;
kwr_collection_sum kwr_collection_sum_of(const uint8_t *value);

/* ---- tree pages ---- */

enum {
    KWR_TREE_BYTES = 8192,       /* a page with more is split */
    KWR_TREE_BYTES_MAX = 16384,  /* and never larger, but for large elements and separators */
    KWR_TREE_ELEMENT_MAX = 4096, /* a larger element has a leaf of its own */
    KWR_TREE_COUNT_MAX = 2048,   /* slots of a page */
    KWR_TREE_LEVELS_MAX = 40,
    KWR_TREE_SLOT = 8,
};

typedef struct kwr_tree_slot {
    uint32_t head; /* the four bytes behind the page's common prefix, as a number */
    uint32_t off;  /* the record begins this far before the page's base */
} kwr_tree_slot;

typedef struct kwr_tree_page {
    kwr_block block;
    uint64_t id;
    uint32_t count;
    uint32_t base;   /* end of the records */
    uint32_t heap;   /* bytes of records before it, dead ones too */
    uint32_t dead;   /* of these: of no slot */
    uint32_t prefix; /* bytes with which every subkey begins (the first separator apart) */
    uint8_t level;   /* 0: leaf */
    uint8_t zero[3];
    uint32_t first_head; /* of the first slot that is compared ... */
    uint32_t last_head;  /* ... and of the last */
    kwr_tree_slot slots[];
} kwr_tree_page;
_Static_assert(sizeof(kwr_tree_page) == 64, "tree page header");

static inline const uint8_t *kwr_tree_record(const kwr_tree_page *page, uint32_t i) {
    return (const uint8_t *)page + page->base - page->slots[i].off;
}
static inline kwr_element kwr_tree_element(const kwr_tree_page *page, uint32_t i) {
    return kwr_element_at(kwr_tree_record(page, i));
}

/*
 * A child word: the child's address in 48 bits and, above them, about how many slots it has. That
 * number may be old: it only tells where to look before the child's header has arrived.
 */
enum { KWR_TREE_WORD_BITS = 48 };
static inline uint64_t kwr_tree_word(const kwr_tree_page *child) {
    return (uint64_t)(uintptr_t)child | (uint64_t)child->count << KWR_TREE_WORD_BITS;
}
static inline kwr_tree_page *kwr_tree_word_child(uint64_t word) {
    return (kwr_tree_page *)(uintptr_t)(word & ((1ULL << KWR_TREE_WORD_BITS) - 1));
}
static inline uint32_t kwr_tree_word_count(uint64_t word) {
    return (uint32_t)(word >> KWR_TREE_WORD_BITS);
}
static inline uint64_t kwr_tree_child_word(const kwr_tree_page *page, uint32_t i) {
    const kwr_element x = kwr_tree_element(page, i);
    return kwr_get_le64(x.value);
}
static inline kwr_tree_page *kwr_tree_child(const kwr_tree_page *page, uint32_t i) {
    return kwr_tree_word_child(kwr_tree_child_word(page, i));
}
static inline void kwr_tree_set_child(kwr_tree_page *page, uint32_t i, const kwr_tree_page *child) {
    const kwr_element x = kwr_tree_element(page, i);
    kwr_put_le64(x.value, kwr_tree_word(child));
}
static inline size_t kwr_tree_gap(const kwr_tree_page *page) {
    return (size_t)page->base - page->heap - sizeof *page - (size_t)page->count * KWR_TREE_SLOT;
}
/* What a new page for the same elements would need. */
static inline size_t kwr_tree_live_bytes(const kwr_tree_page *page) {
    return sizeof *page + (size_t)page->count * KWR_TREE_SLOT + page->heap - page->dead;
}
/* The first slot whose subkey takes part in comparisons. */
static inline uint32_t kwr_tree_low(const kwr_tree_page *page) { return page->level > 0; }

/* The first slot whose subkey is not below `key`; *equal: it is the same. */
uint32_t kwr_tree_search(const kwr_tree_page *page, kwr_slice key, bool *equal);
/* The child that `key` belongs to. */
static inline uint32_t kwr_tree_search_child(const kwr_tree_page *page, kwr_slice key) {
    bool equal;
    const uint32_t i = kwr_tree_search(page, key, &equal);
    return equal ? i : i - 1;
}

/* The child of slot i; asks for the lines where a search for `key` will look in it. */
kwr_tree_page *kwr_tree_enter(const kwr_tree_page *page, uint32_t i, kwr_slice key);

/* In place, in pages that belong to the present alone. The gap must be there: a slot and the
 * record. Returns where the value goes. */
uint8_t *kwr_tree_insert(kwr_tree_page *page, uint32_t i, kwr_slice key, size_t value_size);
/* Another record for the same subkey; the gap must hold it. The old bytes stay readable. */
uint8_t *kwr_tree_resize(kwr_tree_page *page, uint32_t i, size_t value_size);
void kwr_tree_drop(kwr_tree_page *page, uint32_t i);

/* Elements of pages taken apart, to make new ones of. */
typedef struct kwr_tree_ref {
    kwr_slice key;
    const uint8_t *value; /* NULL: left as it is */
    uint32_t value_size;
} kwr_tree_ref;

typedef struct kwr_tree_scratch {
    uint32_t count;
    kwr_tree_ref refs[KWR_TREE_COUNT_MAX];
} kwr_tree_scratch;

/* Appends the elements of a page to the scratch. */
void kwr_tree_gather(kwr_tree_scratch *s, const kwr_tree_page *page);
void kwr_tree_scratch_insert(kwr_tree_scratch *s, uint32_t i, kwr_tree_ref ref);
/* Bytes of a page of these elements without any room to spare. */
size_t kwr_tree_refs_bytes(const kwr_tree_ref *refs, uint32_t count);
/* NULL: no memory. `room`: bytes to have in all, if that is more. */
kwr_tree_page *kwr_tree_build(kwr_engine *e, const kwr_tree_ref *refs, uint32_t count,
                              unsigned level, size_t room);
/* Filling an empty block of `bytes` one by one: begin, add in order, end. */
void kwr_tree_fill_begin(kwr_tree_page *page, size_t bytes, unsigned level, size_t record_bytes);
uint8_t *kwr_tree_fill_add(kwr_tree_page *page, kwr_slice key, size_t value_size);
void kwr_tree_fill_end(kwr_tree_page *page);
/* The same in a block of the present. NULL: no memory. */
kwr_tree_page *kwr_tree_copy(kwr_engine *e, const kwr_tree_page *page);

/* ---- trees ---- */

typedef struct kwr_tree_step {
    kwr_tree_page *page;
    uint32_t index;
} kwr_tree_step;

/* From the root to an element, or to where it would be. */
typedef struct kwr_tree_path {
    uint32_t height; /* steps[height] is the leaf */
    kwr_tree_step steps[KWR_TREE_LEVELS_MAX];
} kwr_tree_path;

static inline kwr_tree_step *kwr_tree_leaf(kwr_tree_path *path) {
    return &path->steps[path->height];
}

bool kwr_tree_find(const kwr_tree_head *head, kwr_slice key, kwr_tree_path *out);
void kwr_tree_first(const kwr_tree_head *head, kwr_tree_path *out);
/* To the last element. */
void kwr_tree_last(const kwr_tree_head *head, kwr_tree_path *out);
/* When the path stands behind its leaf's last element: to the next leaf's first. False: none. */
bool kwr_tree_settle_forward(kwr_tree_path *path);
/* One back. False: the path was at the first. */
bool kwr_tree_back(kwr_tree_path *path);

/* A tree that is being changed, and its head's bytes in a record of the present. */
typedef struct kwr_tree {
    kwr_engine *e;
    uint32_t state;
    uint8_t *bytes;
    kwr_tree_head head;
} kwr_tree;

static inline void kwr_tree_store(kwr_tree *t) { memcpy(t->bytes, &t->head, sizeof t->head); }

/* Every page of the path may be changed: copied where a view sees it. */
kwr_status kwr_tree_own(kwr_tree *t, kwr_tree_path *path);
/*
 * The element at an owned path, `found` or not, gets `value_size` bytes, kept bytes in front when
 * `keep` (zeros behind). The path is no longer valid. On a failure nothing has changed.
 */
kwr_status kwr_tree_place(kwr_tree *t, kwr_tree_path *path, kwr_slice key, size_t value_size,
                          bool found, bool keep, uint8_t **out);
/* Takes the element at an owned path out; not the last one of the tree. Never fails. */
void kwr_tree_take_out(kwr_tree *t, kwr_tree_path *path);

/* A page and all below it leave the present. */
void kwr_tree_retire(kwr_engine *e, kwr_tree_page *root);

/* ---- collections (collection.c) ---- */

kwr_status kwr_store_sub_get(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice *value);
kwr_status kwr_store_sub_put(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice value);
kwr_status kwr_store_sub_modify(kwr_engine *e, const kwr_address *at, kwr_slice subkey, size_t size,
                                void **out, size_t *old_size);
kwr_status kwr_store_sub_remove(kwr_engine *e, const kwr_address *at, kwr_slice subkey);
kwr_status kwr_store_sub_append(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count);
kwr_status kwr_store_sub_assign(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count);
kwr_status kwr_store_sub_seek(kwr_engine *e, const kwr_address *at, kwr_seek seek, kwr_slice from,
                              kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value);
kwr_status kwr_store_sub_count(kwr_engine *e, const kwr_address *at, uint64_t *count);
kwr_status kwr_store_collection_remove(kwr_engine *e, const kwr_address *at);

/* Every element of a collection's value, in order; trusted bytes. [any] */
kwr_status kwr_collection_walk(const uint8_t *value, kwr_entry *entry, kwr_entry_fn fn,
                               void *fn_ctx);

/* ---- images (tree_image.c) ---- */

typedef enum kwr_tree_image_form {
    KWR_TREE_IMAGE_LEAF = 1,
    KWR_TREE_IMAGE_RECORD = 2, /* of a collection, too large for its hash page */
} kwr_tree_image_form;

/* What an image of a tree page begins with. Then the elements (a leaf) or the record, then of a
 * leaf the key and the namespace of its collection. */
typedef struct kwr_tree_image {
    uint8_t zero[22];
    uint8_t kind; /* KWR_PAGE_TREE */
    uint8_t zero_too;
    uint64_t id;
    uint32_t size; /* of the image */
    uint32_t count;
    uint32_t key_size;
    uint32_t name_size;
    uint8_t form;
    uint8_t spare[15];
} kwr_tree_image;
_Static_assert(sizeof(kwr_tree_image) == 64, "tree image header");

/* A checked image of a leaf, taken apart: its bytes are the image's. */
typedef struct kwr_leaf_image {
    uint64_t id;
    uint32_t count;
    const uint8_t *elements;
    size_t element_bytes; /* as encoded */
    uint64_t entry_bytes; /* subkeys and values */
    kwr_slice key, name;
} kwr_leaf_image;

kwr_status kwr_tree_image_check(const void *bytes, size_t size, kwr_tree_image *header,
                                kwr_error *err);
kwr_status kwr_leaf_image_check(const void *bytes, size_t size, const kwr_image_rules *rules,
                                kwr_leaf_image *out, kwr_error *err);
/* The value of a collection's record as an image has it. */
kwr_status kwr_collection_check(const uint8_t *value, size_t size, const kwr_image_rules *rules,
                                kwr_collection_sum *out, kwr_error *err);
/* Images of the leaves below a record; `like` has its entry's hash as prefix. */
kwr_status kwr_tree_images(const kwr_record *record, const kwr_page_image *like, kwr_buffer *room,
                           kwr_page_sink *sink);
kwr_status kwr_tree_image_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                               kwr_error *err);
/* The elements of a checked inline value. */
kwr_status kwr_elements_walk(const uint8_t *bytes, uint32_t count, kwr_entry *entry,
                             kwr_entry_fn fn, void *fn_ctx);

/* ---- checks (tree_check.c) ---- */

typedef struct kwr_tree_sums {
    uint64_t bytes, blocks;
} kwr_tree_sums;

/* A tree of the present against all that is kept of it; adds its blocks. */
kwr_status kwr_tree_check(const kwr_engine *e, const kwr_tree_head *head, kwr_tree_sums *sums,
                          kwr_error *err);
/* Adds the blocks below a page, not its own. */
void kwr_tree_add_below(const kwr_tree_page *root, kwr_tree_sums *sums);

/* ---- restore (tree_restore.c) ---- */

typedef struct kwr_restored_leaf {
    kwr_tree_page *page;
    uint32_t state;
    uint32_t key_group;
    uint64_t hash; /* of the collection's entry, not masked */
    uint64_t entry_bytes;
    kwr_slice key, name; /* in the page's gap */
} kwr_restored_leaf;

/* Its key's hash, if it belongs where the image says. */
kwr_status kwr_leaf_owner_check(const kwr_leaf_image *image, const kwr_image_rules *rules,
                                uint64_t *hash, kwr_error *err);
/* Makes a leaf of a block with room for the elements and the owner's name. */
void kwr_leaf_fill(kwr_tree_page *page, const kwr_leaf_image *image, kwr_restored_leaf *out);
/* Every leaf becomes part of its collection's tree. The array is sorted on the way. `word`: where
 * all records are, or 0: in the directory. */
kwr_status kwr_leaves_link(kwr_engine *e, kwr_word word, kwr_restored_leaf *leaves, size_t count,
                           kwr_error *err);

#endif /* KWR_BACKEND_MEMORY_TREE_H */
