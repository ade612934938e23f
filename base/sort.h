/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting pointers in place: without memory, recursion or a bad case. */
#ifndef KWR_BASE_SORT_H
#define KWR_BASE_SORT_H

#include <stddef.h>

/* Ascending. Not stable: what compares equal ends in any order, so compare something unique. */
void kwr_sort(void **items, size_t count, int (*compare)(const void *a, const void *b));

#endif /* KWR_BASE_SORT_H */
