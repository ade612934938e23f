/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A timer as it is stored: the subkey of an element, in the collection of its key group and time
 * domain; docs/format.md. Byte order is the order of firing.
 *
 *   time, 8 bytes big-endian with the sign flipped | key size, varint32 | key | namespace
 */
#ifndef KWR_BACKEND_TIMER_KEY_H
#define KWR_BACKEND_TIMER_KEY_H

#include "base/bytes.h"

enum { KWR_TIMER_TIME_BYTES = 8 };

static inline uint64_t kwr_timer_order(int64_t time_ms) {
    return (uint64_t)time_ms ^ UINT64_C(1) << 63;
}
static inline int64_t kwr_timer_time(uint64_t order) {
    return (int64_t)(order ^ UINT64_C(1) << 63);
}

static inline size_t kwr_timer_size(size_t key_size, size_t name_size) {
    return KWR_TIMER_TIME_BYTES + kwr_varint32_size((uint32_t)key_size) + key_size + name_size;
}

/* Writes kwr_timer_size() bytes; keys and namespaces are within their limits, below 2^32. */
static inline void kwr_timer_encode(int64_t time_ms, kwr_slice key, kwr_slice name, uint8_t *out) {
    kwr_put_be64(out, kwr_timer_order(time_ms));
    out += KWR_TIMER_TIME_BYTES;
    out += kwr_put_varint32(out, (uint32_t)key.size);
    if (key.size > 0) memcpy(out, key.data, key.size);
    if (name.size > 0) memcpy(out + key.size, name.data, name.size);
}

/* False: not a timer. Key and namespace lie in `subkey`. */
static inline bool kwr_timer_decode(kwr_slice subkey, int64_t *time_ms, kwr_slice *key,
                                    kwr_slice *name) {
    kwr_cursor c = kwr_cursor_of(subkey.data, subkey.size);
    const uint8_t *time = kwr_cursor_take(&c, KWR_TIMER_TIME_BYTES);
    const uint32_t key_size = kwr_cursor_varint32(&c);
    const uint8_t *key_bytes = kwr_cursor_take(&c, key_size);
    if (c.failed) return false;
    *time_ms = kwr_timer_time(kwr_get_be64(time));
    *key = (kwr_slice){ key_bytes, key_size };
    *name = (kwr_slice){ key_bytes + key_size, kwr_cursor_left(&c) };
    return true;
}

#endif /* KWR_BACKEND_TIMER_KEY_H */
