/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map state: for each key and namespace an ordered map from user keys to values. User keys are
 * compared as bytes; in the key encodings of type.h that is the order of what they mean. A lookup
 * costs about the same in small and in large maps, and walking a map touches that map only. What
 * state.h says of handles and borrowed bytes holds here too. A map without entries is as if it had
 * never been written.
 */
#ifndef KEYWEIR_MAP_H
#define KEYWEIR_MAP_H

#include "keyweir/state.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_map kwr_map;
typedef struct kwr_map_iterator kwr_map_iterator;

typedef struct kwr_map_descriptor {
    size_t struct_size;
    const char *name;       /* 1..255 bytes of UTF-8 */
    kwr_type user_key_type; /* no rows; at most limits.key_bytes_max bytes each */
    kwr_type type;          /* of the values */
    kwr_type namespace_type;
} kwr_map_descriptor;

KWR_API KWR_CHECK kwr_status kwr_map_open(kwr_backend *backend,
                                          const kwr_map_descriptor *descriptor, kwr_map **out,
                                          kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_map_set_namespace(kwr_map *map, kwr_slice name);
/* KWR_NOT_FOUND when there is none (*value is then empty). An empty value is a value. */
KWR_API KWR_CHECK kwr_status kwr_map_get(kwr_map *map, kwr_slice user_key, kwr_slice *value);
/* KWR_OK or KWR_NOT_FOUND. */
KWR_API KWR_CHECK kwr_status kwr_map_contains(kwr_map *map, kwr_slice user_key);
/* Key and value may be borrowed from another handle, not from this one. */
KWR_API KWR_CHECK kwr_status kwr_map_put(kwr_map *map, kwr_slice user_key, kwr_slice value);
/*
 * Puts values[i] for user_keys[i], in that order. Sizes are checked before the first is stored;
 * when memory runs out between two, the ones before stay, and the same call may be made again.
 */
KWR_API KWR_CHECK kwr_status kwr_map_put_all(kwr_map *map, const kwr_slice *user_keys,
                                             const kwr_slice *values, size_t count);
/* As kwr_value_modify(), of one user key. */
KWR_API KWR_CHECK kwr_status kwr_map_modify(kwr_map *map, kwr_slice user_key, size_t size,
                                            void **out, size_t *old_size);
/* Removing what is not there is KWR_OK. */
KWR_API KWR_CHECK kwr_status kwr_map_remove(kwr_map *map, kwr_slice user_key);
KWR_API KWR_CHECK kwr_status kwr_map_clear(kwr_map *map);
/* Constant time, both. */
KWR_API KWR_CHECK kwr_status kwr_map_count(kwr_map *map, uint64_t *count);
KWR_API KWR_CHECK kwr_status kwr_map_is_empty(kwr_map *map, bool *empty);
/* The entries with the least and the greatest user key; either out may be NULL. KWR_NOT_FOUND (both
 * are then empty) when the map is empty. */
KWR_API KWR_CHECK kwr_status kwr_map_first(kwr_map *map, kwr_slice *user_key, kwr_slice *value);
KWR_API KWR_CHECK kwr_status kwr_map_last(kwr_map *map, kwr_slice *user_key, kwr_slice *value);
KWR_API kwr_state *kwr_map_state(kwr_map *map);

/*
 * An iterator over the map of the current key and namespace, in the order of user keys; at first
 * it stands before the first entry. It stays with that map whatever is current later, and across
 * freezes. Only its own remove and set may change the map meanwhile: after any other change its
 * calls fail with KWR_ERR_MISUSE until it is freed. Several may be in use; the backend frees what
 * is left. Calls on an iterator are calls on its handle: they end borrows.
 */
KWR_API KWR_CHECK kwr_status kwr_map_iterate(kwr_map *map, kwr_map_iterator **out);
/* Steps over the next entry and lends it; either out may be NULL. KWR_NOT_FOUND (both are then
 * empty) when there is none: the iterator then stands behind the last entry. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_next(kwr_map_iterator *iterator, kwr_slice *user_key,
                                                   kwr_slice *value);
/* The same in the other direction. After a next() it gives what lies before that entry. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_previous(kwr_map_iterator *iterator,
                                                       kwr_slice *user_key, kwr_slice *value);
/* Moves before the first entry whose user key is at least `user_key`, which may be borrowed from
 * this iterator. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_seek(kwr_map_iterator *iterator, kwr_slice user_key);
KWR_API KWR_CHECK kwr_status kwr_map_iterator_seek_first(kwr_map_iterator *iterator);
/* Moves behind the last entry: previous() gives it. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_seek_last(kwr_map_iterator *iterator);
/* Removes, or gives another value to, the entry that the latest next() or previous() lent. Remove
 * once; then or without such an entry KWR_ERR_MISUSE. The place of the iterator stays. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_remove(kwr_map_iterator *iterator);
KWR_API KWR_CHECK kwr_status kwr_map_iterator_set(kwr_map_iterator *iterator, kwr_slice value);
KWR_API void kwr_map_iterator_free(kwr_map_iterator *iterator); /* NULL is a no-op */

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_MAP_H */
