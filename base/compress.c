/* SPDX-License-Identifier: Apache-2.0 */
/* LZ4 blocks; only the bounded decoder, whose sizes are ints. */
#include "base/compress.h"

#include <limits.h>
#include <lz4.h>

size_t kwr_compress_bound(size_t size) {
    return size > LZ4_MAX_INPUT_SIZE ? 0 : (size_t)LZ4_compressBound((int)size);
}

size_t kwr_compress(const void *data, size_t size, void *out, size_t capacity) {
    if (size > LZ4_MAX_INPUT_SIZE || capacity == 0) return 0;
    const int room = capacity > INT_MAX ? INT_MAX : (int)capacity;
    const int written =
        LZ4_compress_default(size == 0 ? "" : (const char *)data, out, (int)size, room);
    return written > 0 ? (size_t)written : 0;
}

bool kwr_decompress(const void *data, size_t stored, void *out, size_t size) {
    if (stored == 0 || stored > INT_MAX || size > LZ4_MAX_INPUT_SIZE) return false;
    return LZ4_decompress_safe(data, out, (int)stored, (int)size) == (int)size;
}
