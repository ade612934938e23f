/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Across keys: which keys a state has, a call for each of them, how much is stored; from the live
 * backend, and from a frozen view, which any thread may read while the owner writes on.
 *
 * All of it looks at one moment: what is written during a walk does not show in it. Keys come by
 * key group, else in an order that is the same for the same content and history.
 */
#ifndef KEYWEIR_ACROSS_H
#define KEYWEIR_ACROSS_H

#include "keyweir/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One key and namespace that a state has something for; the bytes end with the call. Anything but
 * KWR_OK ends the walk, which then returns it and says nothing of its own about it. */
typedef kwr_status (*kwr_key_fn)(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name);

/* How much is stored. */
typedef struct kwr_state_size {
    size_t struct_size;
    uint64_t entries;  /* pairs of key and namespace */
    uint64_t elements; /* of lists, maps and timers; of other kinds 0 */
    uint64_t bytes;    /* keys, namespaces, map keys, values */
} kwr_state_size;

/* ---- the live backend ----
 *
 * These freeze, which ends every borrow, and hold one view while they run (KWR_ERR_BUSY when
 * limits.views_max are alive). `fn` may use the backend, and write. Not for timers and raw state.
 */

/* Every key that has something in the handle's present namespace, once. */
KWR_API KWR_CHECK kwr_status kwr_state_keys(kwr_state *state, kwr_key_fn fn, void *ctx);
/* Every pair of key and namespace, once. */
KWR_API KWR_CHECK kwr_status kwr_state_keys_and_namespaces(kwr_state *state, kwr_key_fn fn,
                                                           void *ctx);
/*
 * The same keys as kwr_state_keys(), each made current before `fn`, which may read, change and
 * clear what the key has in any state. Afterwards the key that was current before is so again, or
 * none. KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_state_apply(kwr_state *state, kwr_key_fn fn, void *ctx);
/* Of all owned key groups; set out->struct_size first. Constant time in the page store, a look at
 * each entry in the engine "rocksdb". */
KWR_API KWR_CHECK kwr_status kwr_state_get_size(kwr_state *state, kwr_state_size *out);
/* Of one owned key group (else KWR_ERR_RANGE), by a look at each of its entries. */
KWR_API KWR_CHECK kwr_status kwr_state_get_group_size(kwr_state *state, uint32_t key_group,
                                                      kwr_state_size *out);

/* ---- a frozen view ----
 *
 * All of it may be called by any thread, by several at once, until the view is released. States are
 * numbered from 0. There is no look-up of a single key in a view.
 */

/* Borrowed from the view. */
typedef struct kwr_view_state {
    size_t struct_size;
    const char *name;
    const char *kind; /* "value", "reducing", "list", "map", "aggregating", "timer", "raw" */
    kwr_type type;
    kwr_type namespace_type;
    kwr_type user_key_type; /* maps */
} kwr_view_state;

/* An entry; of a list, a map or of timers one element. */
typedef struct kwr_view_entry {
    uint32_t key_group;
    kwr_slice key;
    kwr_slice name;   /* the namespace */
    kwr_slice subkey; /* list: 8 bytes, growing in the order of the list; map: the user key; timer:
                         its time, for kwr_key_to_i64(); else empty */
    kwr_slice value;
} kwr_view_entry;

typedef kwr_status (*kwr_view_entry_fn)(void *ctx, const kwr_view_entry *entry);

/* [any] */
KWR_API size_t kwr_view_state_count(const kwr_view *view);
/* Set out->struct_size first. KWR_ERR_RANGE: no such state. [any] */
KWR_API KWR_CHECK kwr_status kwr_view_get_state(const kwr_view *view, size_t state,
                                                kwr_view_state *out, kwr_error *err);
/* The number of the state of that name; KWR_NOT_FOUND. [any] */
KWR_API KWR_CHECK kwr_status kwr_view_find_state(const kwr_view *view, const char *name,
                                                 size_t *state);
/* The key groups the backend owns. [any] */
KWR_API kwr_key_group_range kwr_view_key_groups(const kwr_view *view);
/* As those of the live backend, in the namespace `name`. Fail with KWR_ERR_RANGE (no such state),
 * KWR_ERR_UNSUPPORTED (timers, raw), KWR_ERR_NOMEM, or as `fn`. [any] */
KWR_API KWR_CHECK kwr_status kwr_view_keys(const kwr_view *view, size_t state, kwr_slice name,
                                           kwr_key_fn fn, void *ctx, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_view_keys_and_namespaces(const kwr_view *view, size_t state,
                                                          kwr_key_fn fn, void *ctx, kwr_error *err);
/* Every entry of one owned key group; elements of one entry follow each other in their order.
 * KWR_ERR_RANGE: no such state, or the group is not owned. [any] */
KWR_API KWR_CHECK kwr_status kwr_view_entries(const kwr_view *view, size_t state,
                                              uint32_t key_group, kwr_view_entry_fn fn, void *ctx,
                                              kwr_error *err);
/* As those of the live backend. KWR_ERR_RANGE. [any] */
KWR_API KWR_CHECK kwr_status kwr_view_get_size(const kwr_view *view, size_t state,
                                               kwr_state_size *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_view_get_group_size(const kwr_view *view, size_t state,
                                                     uint32_t key_group, kwr_state_size *out,
                                                     kwr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_ACROSS_H */
