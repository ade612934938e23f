/* SPDX-License-Identifier: Apache-2.0 */
/* Heap sort. */
#include "base/sort.h"

static void swap(void **items, size_t a, size_t b) {
    void *item = items[a];
    items[a] = items[b];
    items[b] = item;
}

/* Lets the item at `at` sink until none below it is larger. */
static void sift(void **items, size_t at, size_t end, int (*compare)(const void *, const void *)) {
    for (size_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
        if (child + 1 < end && compare(items[child], items[child + 1]) < 0) child++;
        if (compare(items[at], items[child]) >= 0) return;
        swap(items, at, child);
        at = child;
    }
}

void kwr_sort(void **items, size_t count, int (*compare)(const void *a, const void *b)) {
    for (size_t i = count / 2; i-- > 0;)
        sift(items, i, count, compare);
    for (size_t end = count; end > 1; end--) {
        swap(items, 0, end - 1);
        sift(items, 0, end - 1, compare);
    }
}
