/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is merged into a value unread: operands, and the values they make. An operand begins with a
 * byte that says what it is.
 */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_MERGE_H
#define KWR_BACKEND_ROCKSDB_ROCKS_MERGE_H

#include <rocksdb/c.h>

#include "backend/fold.h"

/* The options it is given to own it. */
rocksdb_mergeoperator_t *kwr_rocks_merge_operator(void);

enum { ROCKS_APPEND = 1, ROCKS_FOLD = 2 };

/* ---- lists: an operand is the byte, a number of elements (u32) and the elements ---- */

enum {
    ROCKS_APPEND_SIZE = 5,
    ROCKS_LIST_HEAD_SIZE = 20,
};
/* No list's sequence numbers come near the end of 64 bits: nothing that is merged can overflow. */
#define ROCKS_SEQUENCE_MAX (UINT64_MAX >> 2)

/* The head of a list: little-endian count (u64), first (u64), tail (u32), then the tail: elements,
 * each behind its size as a varint. */
typedef struct rocks_list_head {
    uint64_t count; /* of all elements */
    uint64_t first; /* sequence number of the tail's first, or of the next element appended */
    uint32_t tail;  /* elements in the head itself */
    kwr_slice elements;
} rocks_list_head;

/* Writes the ROCKS_LIST_HEAD_SIZE bytes before the elements. */
void kwr_rocks_head_put(uint8_t *out, const rocks_list_head *head);
/* False when the bytes are not a head; the elements themselves are not looked at. */
bool kwr_rocks_head_get(const void *data, size_t size, rocks_list_head *out);

/*
 * ---- numbers: an operand is the byte, type and function (a byte each), and the number ----
 *
 * Sums of integers are exact: one that leaves its type is kept in 128 bits, in an operand and as a
 * value, until it is back.
 */
enum {
    ROCKS_FOLD_SIZE = 3,
    ROCKS_WIDE_SIZE = 16,
};

/* Writes an operand; gives its size. */
size_t kwr_rocks_fold_put(uint8_t out[ROCKS_FOLD_SIZE + ROCKS_WIDE_SIZE], kwr_fold how,
                          kwr_slice value);
/* One operand folded into a stored value, or into nothing (data NULL): the value's size, 0 when
 * either is not what it should be. */
size_t kwr_rocks_fold_one(uint8_t out[ROCKS_WIDE_SIZE], kwr_slice base, kwr_slice operand);
/* The end of the type on whose side a sum of 128 bits is; gives its size. */
size_t kwr_rocks_wide_end(uint8_t out[ROCKS_WIDE_SIZE], kwr_type_kind type, const void *wide);

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_MERGE_H */
