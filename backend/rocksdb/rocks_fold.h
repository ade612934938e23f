/* SPDX-License-Identifier: Apache-2.0 */
/* Between the two parts of the merge operator, rocks_merge.c and rocks_fold.c. */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_FOLD_H
#define KWR_BACKEND_ROCKSDB_ROCKS_FOLD_H

#include "backend/rocksdb/rocks_merge.h"

typedef struct rocks_operands {
    const char *const *data;
    const size_t *sizes;
    size_t count; /* at least 1 */
} rocks_operands;

/* Memory for what a merge gives to RocksDB; NULL without. */
void *kwr_rocks_merge_room(size_t size);

/* What the merge makes and its size; NULL: it can make nothing of them. */
char *kwr_rocks_fold_full(kwr_slice base, const rocks_operands *o, size_t *size);
char *kwr_rocks_fold_partial(const rocks_operands *o, size_t *size);

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_FOLD_H */
