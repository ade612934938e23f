/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed byte orders, checked arithmetic, and the one reader of untrusted bytes. */
#ifndef KWR_BASE_BYTES_H
#define KWR_BASE_BYTES_H

#include <string.h>

#include "keyweir/status.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error \
    "keyweir: only little-endian machines so far; the stored formats are fixed, see docs/format.md"
#endif

static inline uint16_t kwr_get_le16(const void *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t kwr_get_le32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t kwr_get_le64(const void *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void kwr_put_le16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void kwr_put_le32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void kwr_put_le64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint64_t kwr_get_be64(const void *p) { return __builtin_bswap64(kwr_get_le64(p)); }
static inline void kwr_put_be64(void *p, uint64_t v) { kwr_put_le64(p, __builtin_bswap64(v)); }
static inline uint32_t kwr_get_be32(const void *p) { return __builtin_bswap32(kwr_get_le32(p)); }
static inline void kwr_put_be32(void *p, uint32_t v) { kwr_put_le32(p, __builtin_bswap32(v)); }

/* False on overflow, *out untouched then. */
static inline bool kwr_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool kwr_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* LEB128, 1 to 5 bytes for 32-bit values; the shortest form only. */
enum { KWR_VARINT32_MAX = 5 };
static inline size_t kwr_varint32_size(uint32_t v) {
    return v < 1U << 7 ? 1 : v < 1U << 14 ? 2 : v < 1U << 21 ? 3 : v < 1U << 28 ? 4 : 5;
}
static inline size_t kwr_put_varint32(uint8_t *p, uint32_t v) {
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

/*
 * Reads untrusted bytes. A read past the end sets `failed`, gives zeros and stays failed: check
 * once before the values are used for more than skipping.
 */
typedef struct kwr_cursor {
    const uint8_t *data;
    size_t size;
    size_t at;
    bool failed;
} kwr_cursor;

static inline kwr_cursor kwr_cursor_of(const void *data, size_t size) {
    return (kwr_cursor){ .data = (const uint8_t *)data, .size = size };
}
static inline size_t kwr_cursor_left(const kwr_cursor *c) { return c->size - c->at; }
/* `size` bytes, or NULL. */
static inline const uint8_t *kwr_cursor_take(kwr_cursor *c, size_t size) {
    if (c->failed || size > c->size - c->at) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->data + c->at;
    c->at += size;
    return p;
}
static inline uint8_t kwr_cursor_u8(kwr_cursor *c) {
    const uint8_t *p = kwr_cursor_take(c, 1);
    return p == NULL ? 0 : *p;
}
static inline uint16_t kwr_cursor_u16(kwr_cursor *c) {
    const uint8_t *p = kwr_cursor_take(c, 2);
    return p == NULL ? 0 : kwr_get_le16(p);
}
static inline uint32_t kwr_cursor_u32(kwr_cursor *c) {
    const uint8_t *p = kwr_cursor_take(c, 4);
    return p == NULL ? 0 : kwr_get_le32(p);
}
static inline uint64_t kwr_cursor_u64(kwr_cursor *c) {
    const uint8_t *p = kwr_cursor_take(c, 8);
    return p == NULL ? 0 : kwr_get_le64(p);
}
/* A varint32 in its shortest form. */
static inline uint32_t kwr_cursor_varint32(kwr_cursor *c) {
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        const uint8_t b = kwr_cursor_u8(c);
        if (c->failed || (shift == 28 && b > 0x0f) || (shift > 0 && b == 0)) break;
        v |= (uint32_t)(b & 0x7f) << shift;
        if ((b & 0x80) == 0) return v;
    }
    c->failed = true;
    return 0;
}

#endif /* KWR_BASE_BYTES_H */
