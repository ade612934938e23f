/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of large memory blocks that the backends of one host share, and the cap over all they
 * hold. A block given back stays mapped and is handed out first: the first touch of fresh memory
 * costs many times a copy into memory that was used before.
 */
#ifndef KWR_BACKEND_RESOURCES_H
#define KWR_BACKEND_RESOURCES_H

#include "keyweir/backend.h"

enum { KWR_RESOURCE_BLOCK = 2 << 20 };

/* One block of KWR_RESOURCE_BLOCK bytes, aligned to 4096, content undefined. NULL: no memory, or
 * the cap. [any] */
void *kwr_resources_map(kwr_resources *resources);
void kwr_resources_unmap(kwr_resources *resources, void *block);

/* Counts bytes that the caller takes from the env's allocator itself. False: the cap. [any] */
bool kwr_resources_reserve(kwr_resources *resources, uint64_t bytes);
void kwr_resources_unreserve(kwr_resources *resources, uint64_t bytes);

/* Counted: the host's handle, and every backend with its views. [any] */
void kwr_resources_retain(kwr_resources *resources);
/* kwr_resources_close() by another name: the last one frees. */
void kwr_resources_release(kwr_resources *resources);

/* ---- engines that keep memory of their own ---- */

/* What the backends of such an engine share: made by the first of them, ended with the resources.
 */
typedef struct kwr_resources_share {
    void (*end)(struct kwr_resources_share *share);
    void (*stats)(struct kwr_resources_share *share, kwr_resources_stats *out); /* [any] */
} kwr_resources_share;
/* Gives the share there is, or makes `fresh` the one: the caller ends what was not taken. */
kwr_resources_share *kwr_resources_share_of(kwr_resources *resources, kwr_resources_share *fresh);

const kwr_env *kwr_resources_env(const kwr_resources *resources);
/* What options say; 0: nothing. */
uint64_t kwr_resources_rocksdb_bytes(const kwr_resources *resources);
/* Of each backend where no budget is stated, and the least for each. */
enum { KWR_ROCKSDB_BYTES_EACH = 96 << 20, KWR_ROCKSDB_BYTES_MIN = 12 << 20 };

#endif /* KWR_BACKEND_RESOURCES_H */
