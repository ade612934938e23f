/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that names the codec: LZ4 blocks. */
#ifndef KWR_BASE_COMPRESS_H
#define KWR_BASE_COMPRESS_H

#include "keyweir/status.h"

/* Room that always suffices for compressing `size` bytes; 0 when `size` is too large to. */
size_t kwr_compress_bound(size_t size);
/* Bytes written, 0 when it does not fit `capacity` (not smaller: store raw). */
size_t kwr_compress(const void *data, size_t size, void *out, size_t capacity);
/* True when exactly `size` bytes came out. Safe on any input. */
bool kwr_decompress(const void *data, size_t stored, void *out, size_t size);

#endif /* KWR_BASE_COMPRESS_H */
