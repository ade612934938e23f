/* SPDX-License-Identifier: Apache-2.0 */
/*
 * List state: for each key and namespace elements in the order they were added. An append costs
 * what is appended, however long the list is. What state.h says of handles, borrowed bytes and
 * merging holds here too. A list without elements is as if it had never been written.
 */
#ifndef KEYWEIR_LIST_H
#define KEYWEIR_LIST_H

#include "keyweir/state.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_list kwr_list;
typedef struct kwr_list_iterator kwr_list_iterator;

typedef struct kwr_list_descriptor {
    size_t struct_size;
    const char *name; /* 1..255 bytes of UTF-8 */
    kwr_type type;    /* of the elements */
    kwr_type namespace_type;
} kwr_list_descriptor;

KWR_API KWR_CHECK kwr_status kwr_list_open(kwr_backend *backend,
                                           const kwr_list_descriptor *descriptor, kwr_list **out,
                                           kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_list_set_namespace(kwr_list *list, kwr_slice name);
/* Elements may be borrowed from another handle, not from this one. All or nothing. */
KWR_API KWR_CHECK kwr_status kwr_list_add(kwr_list *list, kwr_slice element);
/* `count` 0 changes nothing. */
KWR_API KWR_CHECK kwr_status kwr_list_add_all(kwr_list *list, const kwr_slice *elements,
                                              size_t count);
/* Replaces all elements; `count` 0 is kwr_list_clear(). */
KWR_API KWR_CHECK kwr_status kwr_list_update(kwr_list *list, const kwr_slice *elements,
                                             size_t count);
/* Removes all elements; removing nothing is KWR_OK. */
KWR_API KWR_CHECK kwr_status kwr_list_clear(kwr_list *list);
/* Constant time. */
KWR_API KWR_CHECK kwr_status kwr_list_count(kwr_list *list, uint64_t *count);
KWR_API KWR_CHECK kwr_status kwr_list_merge_namespaces(kwr_list *list, kwr_slice target,
                                                       const kwr_slice *sources, size_t count);
KWR_API kwr_state *kwr_list_state(kwr_list *list);

/*
 * An iterator over the list of the current key and namespace. It stays with that list whatever is
 * current later, and across freezes. When the list is changed, its calls fail with KWR_ERR_MISUSE
 * until it is freed. Several may be in use; the backend frees what is left.
 */
KWR_API KWR_CHECK kwr_status kwr_list_iterate(kwr_list *list, kwr_list_iterator **out);
/* Lends the next element, until the next call on the list or an iterator of it; KWR_NOT_FOUND
 * (*element is then empty) after the last. */
KWR_API KWR_CHECK kwr_status kwr_list_iterator_next(kwr_list_iterator *iterator,
                                                    kwr_slice *element);
KWR_API void kwr_list_iterator_free(kwr_list_iterator *iterator); /* NULL is a no-op */

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_LIST_H */
