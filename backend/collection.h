/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What list and map handles share: iterators. An iterator keeps key, namespace and place as copies
 * of its own, so that nothing else ever has to stand still for it; each change of an entry marks
 * the other iterators over that entry, and costs nothing while there are none.
 */
#ifndef KWR_BACKEND_COLLECTION_H
#define KWR_BACKEND_COLLECTION_H

#include "backend/core.h"
#include "keyweir/list.h"
#include "keyweir/map.h"

typedef struct kwr_iterator kwr_iterator;

typedef struct kwr_collection {
    kwr_state state;
    kwr_iterator *iterators; /* in use */
    kwr_iterator *spare;     /* one that was freed, with its memory, or NULL */
} kwr_collection;

typedef enum kwr_place {
    KWR_PLACE_FIRST, /* before all elements */
    KWR_PLACE_LAST,  /* behind all */
    KWR_PLACE_ABOVE, /* before the first that is at least `subkey` */
    KWR_PLACE_ON,    /* on `subkey`, whether or not it is still there */
} kwr_place;

struct kwr_iterator {
    kwr_collection *of;
    kwr_iterator *next;
    kwr_iterator *previous;
    kwr_address at;
    kwr_kept key;
    kwr_kept name;
    kwr_kept subkey;
    kwr_engine_hint hint;
    kwr_place place;
    bool lent;    /* the latest step lent an element: `subkey` is its */
    bool removed; /* and it was removed through this iterator */
    bool outdated;
};

/* For kwr_state.done. */
void kwr_collection_done(kwr_state *state);

kwr_status kwr_collection_clear(kwr_collection *collection);
kwr_status kwr_collection_count(kwr_collection *collection, uint64_t *count);

void kwr_collection_mark(kwr_collection *collection, const kwr_address *at, const kwr_iterator *by);
/* After each change of the entry at `at`; `by`: the iterator it was made through, or NULL. */
static inline void kwr_collection_changed(kwr_collection *collection, const kwr_address *at,
                                          const kwr_iterator *by) {
    if (collection->iterators != NULL) kwr_collection_mark(collection, at, by);
}

kwr_status kwr_iterator_new(kwr_collection *collection, kwr_iterator **out);
void kwr_iterator_free(kwr_iterator *iterator); /* NULL is a no-op */
/* KWR_ERR_MISUSE when the entry was changed by other means. */
kwr_status kwr_iterator_check(kwr_iterator *iterator);
/* KWR_NOT_FOUND: none; both outs, which may be NULL, are then empty. */
kwr_status kwr_iterator_step(kwr_iterator *iterator, bool forward, kwr_slice *subkey,
                             kwr_slice *value);
kwr_status kwr_iterator_seek(kwr_iterator *iterator, kwr_slice subkey);
void kwr_iterator_move(kwr_iterator *iterator, kwr_place place);
/* The element lent by the latest step, changed through the iterator. */
kwr_status kwr_iterator_remove(kwr_iterator *iterator);
kwr_status kwr_iterator_set(kwr_iterator *iterator, kwr_slice value);

/* The handle an iterator is of. */
kwr_state *kwr_list_iterator_state(kwr_list_iterator *iterator);
kwr_state *kwr_map_iterator_state(kwr_map_iterator *iterator);

#endif /* KWR_BACKEND_COLLECTION_H */
