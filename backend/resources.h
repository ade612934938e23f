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

#endif /* KWR_BACKEND_RESOURCES_H */
