/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page store from the inside: the engine, its directory of nodes and words, and its views.
 *
 * One copy-on-write radix tree leads from a state's id over the key group and the top bits of the
 * entry hash to a page. A freeze keeps the root word and raises the epoch; whatever is then changed
 * is copied first, path and page, if a view can still see it.
 */
#ifndef KWR_BACKEND_MEMORY_STORE_H
#define KWR_BACKEND_MEMORY_STORE_H

#include <stdatomic.h>

#include "backend/memory/memory_engine.h"
#include "backend/memory/page.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/thread.h"
#include "keyweir/state.h"

/* ---- directory words ---- */

/*
 *  63     60 59      53   52       51     50..48  47 ........... 6  5..3   2..0
 * +---------+----------+---------+-------+-------+----------------+-------+------+
 * |  depth  |   span   | current | clean | spare |  address / 64  | spare | kind |
 * +---------+----------+---------+-------+-------+----------------+-------+------+
 *
 * depth: how many of its node's hash bits the word is valid for; a node of n bits holds 2^(n-depth)
 * equal copies of it. span: slot groups of a page, hash bits of a hash node. current: the page
 * belongs to the present alone; valid only while its node does.
 */
typedef uint64_t kwr_word;

typedef enum kwr_word_kind {
    KWR_WORD_EMPTY = 0,
    KWR_WORD_PAGE = 1,
    KWR_WORD_HASH = 2,  /* a node over hash bits */
    KWR_WORD_CHAIN = 3, /* a node over pages that no hash bit tells apart */
    KWR_WORD_ARRAY = 4, /* a node over states or key groups */
    KWR_WORD_STUB = 5,  /* what is not resident: in place of the address its number (lazy.h) */
} kwr_word_kind;

#define KWR_WORD_CURRENT (1ULL << 52)
#define KWR_WORD_ADDRESS 0x0000ffffffffffc0ULL

static inline kwr_word_kind kwr_word_kind_of(kwr_word w) { return (kwr_word_kind)(w & 7); }
static inline unsigned kwr_word_depth(kwr_word w) { return (unsigned)(w >> 60); }
static inline uint32_t kwr_word_span(kwr_word w) { return (uint32_t)(w >> 53) & 0x7f; }
static inline void *kwr_word_address(kwr_word w) {
    return (void *)(uintptr_t)(w & KWR_WORD_ADDRESS);
}
static inline kwr_word kwr_word_make(kwr_word_kind kind, const void *address, unsigned depth,
                                     uint32_t span) {
    return (uint64_t)depth << 60 | (uint64_t)span << 53 | (uint64_t)(uintptr_t)address |
           (uint64_t)kind;
}
static inline kwr_word kwr_word_empty(unsigned depth) { return (uint64_t)depth << 60; }
static inline kwr_word kwr_word_with_depth(kwr_word w, unsigned depth) {
    return (w & ~(15ULL << 60)) | (uint64_t)depth << 60;
}

/* ---- nodes ---- */

enum {
    KWR_FAN_OUT = 256,      /* of array nodes */
    KWR_NODE_BITS_MAX = 12, /* of hash nodes */
    KWR_LEVELS_MAX = 12,    /* nodes from the root to a page */
};

typedef struct kwr_node {
    kwr_block block;
    uint32_t width;       /* words */
    uint32_t deep;        /* hash nodes: words of the node's own depth */
    uint64_t entries;     /* top node of a state: its live entries ... */
    uint64_t entry_bytes; /* ... and the bytes of their keys, namespaces and values */
    uint64_t elements;    /* ... and of collections their elements */
    uint64_t kind;        /* ... and the state's kwr_state_kind */
    kwr_word words[];
} kwr_node;
_Static_assert(sizeof(kwr_node) == 64, "node header");

/* ---- views ---- */

struct kwr_engine_view {
    kwr_engine *engine;
    kwr_word root;
    uint64_t epoch;
    uint32_t state_levels;
    uint32_t state_count;
    bool estimated;                        /* what states count */
    _Atomic(uint8_t *) passed;             /* 1: nobody reads this key group any more; or NULL */
    struct kwr_engine_view *next_released; /* in the queue to the owner */
    /* the owner's */
    struct kwr_engine_view *older, *newer;
    kwr_block *limbo; /* blocks that this view is the newest to need */
    bool released;
};

/* ---- the engine ---- */

/* Entries of one page, taken apart. */
typedef struct kwr_scan {
    uint32_t count;
    uint16_t offset[KWR_PAGE_SLOTS_MAX]; /* as in the slot */
    uint16_t bytes[KWR_PAGE_SLOTS_MAX];
    uint64_t hash[KWR_PAGE_SLOTS_MAX];
    _Alignas(64) uint8_t page[KWR_PAGE_BYTES_MAX]; /* a copy while one is tidied up in place */
} kwr_scan;

typedef struct kwr_restore kwr_restore;           /* restore.c */
typedef struct kwr_lazy kwr_lazy;                 /* lazy.h */
typedef struct kwr_tree_scratch kwr_tree_scratch; /* tree.h */

/* What the engine knows of a state. */
typedef struct kwr_state_facts {
    uint64_t stamp; /* rises when elements of its collections come, go or move */
    uint8_t kind;   /* kwr_state_kind */
    bool collection;
    bool per_group;
} kwr_state_facts;

/* How far a pass that gives memory back has come (compact.c). */
typedef struct kwr_compaction {
    uint32_t state;
    uint32_t group; /* index */
    uint64_t hash;
    bool due;             /* views are gone since the last pass */
    uint64_t used_bytes;  /* when the last pass began */
    uint64_t least_bytes; /* less than this mapped is left as it is */
} kwr_compaction;

struct kwr_engine {
    /* what every access needs */
    kwr_node **states; /* present top node of each state, NULL: it has no entries yet */
    uint64_t epoch;
    uint8_t mark;   /* of the epoch, for slots */
    uint64_t stamp; /* rises with every change of a directory word and every freeze */
    uint64_t hash_mask;
    kwr_state_facts *facts; /* of each state */
    uint32_t state_count;
    uint32_t group_first;
    uint32_t group_count;
    bool two_level; /* more than KWR_FAN_OUT key groups */
    bool hash_checked;
    bool engine_key_groups;

    const kwr_env *env;
    uint64_t seed;
    uint32_t max_parallelism;
    uint32_t state_levels; /* of array nodes over states; 0: no root yet */
    uint32_t state_capacity;
    uint32_t views_max;
    size_t key_bytes_max, namespace_bytes_max, value_bytes_max;
    uint64_t empty_name_hash;
    kwr_word root;
    uint64_t page_ids; /* the next */
    kwr_page_arena arena;
    kwr_scan *scan;
    kwr_tree_scratch *tree; /* NULL: no state has collections */

    /* frozen views, newest first; released ones stay until what hangs on them is moved */
    kwr_engine_view *newest;  /* of all */
    kwr_engine_view *sharing; /* the newest that is not released, NULL: nothing is shared */
    kwr_engine_view *reader;  /* the newest that may read what the running call is about to write */
    uint32_t at_group;        /* index of the key group that is written, KWR_NO_GROUP: above all */
    uint32_t released_views;  /* in the list */
    kwr_block *doomed;        /* freed when the running call ends: arguments may lie in it */
    kwr_block *shedding;      /* tree pages no view can see, but maybe what is below them */
    uint64_t frozen_bytes;

    uint64_t entries, entry_bytes, copies, splits;
    const void *argument; /* bytes that the running call still reads, maybe a page's own */
    kwr_compaction compaction;
    kwr_restore *restore;
    kwr_lazy *lazy;  /* NULL: every page is resident */
    kwr_block *made; /* while keep_made: blocks handed out, so that a failure can take them back */
    bool keep_made;

    /* shared with the threads that release views */
    _Atomic(kwr_engine_view *) released;
    atomic_uint references; /* the owner and every view */
    atomic_uint views;      /* not yet released */
};

/* ---- blocks (reclaim.c) ---- */

/* A block of the present epoch; frees what released views held if memory is short. */
kwr_block *kwr_store_alloc(kwr_engine *e, size_t size, unsigned kind);
/* Does a view need it? Else it may be changed in place. */
static inline bool kwr_store_shared(const kwr_engine *e, const kwr_block *block) {
    return block->birth != e->epoch && e->reader != NULL && block->birth <= e->reader->epoch;
}
/* From here on the running call writes what lies in this key group, or KWR_NO_GROUP. A view that
 * has passed the group does not need it. */
enum { KWR_NO_GROUP = UINT32_MAX };
void kwr_store_find_reader(kwr_engine *e);
static inline void kwr_store_at_group(kwr_engine *e, uint32_t index) {
    e->at_group = index;
    e->reader = e->sharing;
    if (KWR_UNLIKELY(e->sharing != NULL)) kwr_store_find_reader(e);
}
/* The present begins again, in another epoch. */
static inline void kwr_store_begin_epoch(kwr_engine *e, uint64_t epoch) {
    e->epoch = epoch;
    e->mark = kwr_mark_of(epoch);
}
/* Out of the present: freed when the running call ends, or once no view can see it. */
void kwr_store_retire(kwr_engine *e, kwr_block *block);
/* Frees what the call has retired, and a few blocks of released views. */
void kwr_store_settle(kwr_engine *e);
/* Notes released views; moves or frees at most `blocks` of what hangs on them. True: more is left.
 */
bool kwr_store_drain(kwr_engine *e, uint64_t blocks);
void kwr_store_unref(kwr_engine *e);

/* ---- the directory (directory.c) ---- */

/* A word on the way to a page, in nodes of the present. */
typedef struct kwr_step {
    kwr_node *node;
    uint32_t index;
    unsigned bits; /* of a hash node, 0: array or chain */
    unsigned base; /* hash bits used above the node */
} kwr_step;

typedef struct kwr_path {
    kwr_step steps[KWR_LEVELS_MAX];
    unsigned count;
    kwr_node *top; /* of the state: counters */
} kwr_path;

static inline kwr_step *kwr_path_last(kwr_path *path) { return &path->steps[path->count - 1]; }
static inline kwr_word kwr_path_word(const kwr_path *path) {
    const kwr_step *s = &path->steps[path->count - 1];
    return s->node->words[s->index];
}

/* The word for a hash, every node on the way made changeable. Chains are not entered. */
kwr_status kwr_directory_path(kwr_engine *e, uint32_t state, uint32_t key_group, uint64_t hash,
                              kwr_path *out);
/* Steps into the chain the path ends at. */
kwr_status kwr_directory_enter_chain(kwr_engine *e, kwr_path *path);
/* Replaces the word at the end of a path, in all its copies. */
void kwr_directory_set(kwr_engine *e, const kwr_step *step, kwr_word word);
/* Hash bits that lead to the word at the end. */
static inline unsigned kwr_path_depth(const kwr_path *path) {
    const kwr_step *s = &path->steps[path->count - 1];
    return s->base + (s->bits == 0 ? 0 : kwr_word_depth(s->node->words[s->index]));
}
/* Makes the last word of the path splittable: afterwards its depth is below its node's bits. */
kwr_status kwr_directory_deepen(kwr_engine *e, kwr_path *path, uint64_t hash);
/* After a removal: merges with buddies, folds nodes. Never fails: then it just stays. */
void kwr_directory_merge(kwr_engine *e, kwr_path *path);
kwr_status kwr_directory_grow_states(kwr_engine *e, uint32_t count);
/* The top node of a state of the present, made when there is none. */
kwr_node *kwr_directory_top(kwr_engine *e, uint32_t state);
kwr_node *kwr_node_new(kwr_engine *e, uint32_t width);
/* The path to the word of exactly this prefix: empty regions are halved on the way. */
kwr_status kwr_directory_narrow(kwr_engine *e, uint32_t state, uint32_t key_group, unsigned depth,
                                uint64_t prefix, kwr_path *path, kwr_error *err);

static inline kwr_word kwr_array_word(kwr_word root, uint32_t levels, uint32_t index) {
    if (levels == 0 || root == 0) return 0;
    const kwr_node *node = kwr_word_address(root);
    if (levels == 2) {
        const kwr_word w = node->words[index / KWR_FAN_OUT];
        if (kwr_word_kind_of(w) == KWR_WORD_EMPTY) return 0;
        node = kwr_word_address(w);
        index %= KWR_FAN_OUT;
    }
    return index < node->width ? node->words[index] : 0;
}

/* Calls `fn` once for each page under a word, in directory order, with its ordinal in its chain
 * and whether it is in one; `stub_fn` for each word of what is not resident. */
typedef kwr_status (*kwr_page_fn)(void *ctx, const kwr_page *page, bool chained, uint32_t ordinal);
typedef kwr_status (*kwr_stub_fn)(void *ctx, kwr_word stub);
kwr_status kwr_directory_pages(kwr_word word, kwr_page_fn fn, kwr_stub_fn stub_fn, void *ctx);

/* ---- entries (upsert.c) ---- */

uint64_t kwr_store_hash(const kwr_engine *e, kwr_slice key, kwr_slice name);

/*
 * Makes the entry `value_size` bytes long, kept bytes in front when `keep`, and gives its place for
 * writing. *old_size is KWR_ABSENT when there was none. On a failure nothing has changed.
 */
kwr_status kwr_store_upsert(kwr_engine *e, const kwr_address *at, uint64_t hash, size_t value_size,
                            bool keep, uint8_t **out, size_t *old_size);
kwr_status kwr_store_remove(kwr_engine *e, const kwr_address *at, uint64_t hash);
/* Both count what they change, but for states of collections: there the caller does. */
void kwr_store_count(kwr_engine *e, uint32_t state, int64_t entries, int64_t bytes,
                     int64_t elements);

/* ---- whole pages (rebuild.c) ---- */

/* Takes the page apart into e->scan. KWR_ERR_MISUSE: hashes are not those of e->seed. */
kwr_status kwr_page_scan(kwr_engine *e, const kwr_page *page);
/* A new page for `bytes` of records in `count` entries, with room for growth when `slack`. */
kwr_page *kwr_page_new(kwr_engine *e, uint64_t id, uint64_t prefix, unsigned depth, uint32_t count,
                       size_t bytes, size_t slack);
/* Copies entries of e->scan whose hash & mask == value. */
void kwr_page_take(kwr_page *to, const kwr_page *from, const kwr_scan *scan, uint64_t mask,
                   uint64_t value);
/* The page at the end of the path may be changed: copied if a view sees it. */
kwr_status kwr_page_own(kwr_engine *e, kwr_path *path, kwr_page **out);
/* Makes room for a record of `bytes` near the end of the path: grows, repacks, splits or chains.
 * The path is no longer valid. */
kwr_status kwr_page_make_room(kwr_engine *e, kwr_path *path, uint64_t hash, size_t bytes);
kwr_word kwr_page_word(const kwr_page *page, unsigned word_depth);
enum { KWR_MERGE_BYTES = KWR_PAGE_BYTES_MAX * 35 / 100 }; /* buddies below this join */

/* ---- images (image.c) ---- */

/* What a page image must agree with; NULL: structure only. */
typedef struct kwr_image_rules {
    uint64_t seed;
    uint64_t hash_mask;
    uint32_t max_parallelism;
    uint32_t key_group;
    bool any_key_group; /* the host chooses them, or the key says nothing about them */
    bool collection;    /* values of records are collections */
    bool marked;        /* its slots may say when they were changed */
    size_t key_bytes_max, namespace_bytes_max, value_bytes_max;
} kwr_image_rules;

/* What the records in a page add up to; those in blobs apart. */
typedef struct kwr_page_sums {
    uint64_t entry_bytes;
    uint64_t elements; /* of collections */
    uint32_t trees;    /* collections whose elements are elsewhere: */
    uint64_t tree_bytes, tree_elements;
} kwr_page_sums;

/* `page` is a private copy of the image's bytes, aligned. */
kwr_status kwr_page_check(const kwr_page *page, size_t size, const kwr_image_rules *rules,
                          kwr_page_sums *sums, kwr_error *err);
/* Keys, hashes, tags and counters of a page whose structure is right and whose blobs are there. */
kwr_status kwr_page_check_entries(const kwr_page *page, const kwr_image_rules *rules,
                                  kwr_error *err);
kwr_status kwr_record_check(const uint8_t *bytes, size_t size, const kwr_image_rules *rules,
                            kwr_record *out, kwr_error *err);

/* ---- views and restore ---- */

kwr_status kwr_store_freeze(kwr_engine *e, kwr_engine_view **out);
void kwr_store_view_release(kwr_engine_view *view);
kwr_status kwr_store_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out);
uint64_t kwr_store_view_epoch(const kwr_engine_view *view);
void kwr_store_view_pass(kwr_engine_view *view, uint32_t key_group);
kwr_status kwr_store_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                               kwr_entry_fn fn, void *fn_ctx);
kwr_status kwr_store_view_images(kwr_engine_view *view, uint32_t key_group, kwr_page_sink *sink);

kwr_status kwr_store_restore_begin(kwr_engine *e, uint64_t seed);
kwr_status kwr_store_install(kwr_engine *e, const kwr_page_image *image, kwr_error *err);
kwr_status kwr_store_restore_end(kwr_engine *e, kwr_error *err);
void kwr_store_restore_drop(kwr_engine *e);
/*
 * Builds what all images of one place of the directory say, apart from it: *out is its word, of
 * depth 0. By the owner, at any time. On a failure nothing is left of it.
 */
kwr_status kwr_store_build_apart(kwr_engine *e, const kwr_page_image *images, size_t count,
                                 kwr_word *out, kwr_error *err);

/* For tests: walks everything and compares it with every count kept. KWR_ERR_CORRUPT says what is
 * wrong. */
kwr_status kwr_store_check(kwr_engine *e, kwr_error *err);

#endif /* KWR_BACKEND_MEMORY_STORE_H */
