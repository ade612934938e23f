/* SPDX-License-Identifier: Apache-2.0 */
/* Strict text forms: every value has exactly one, so that a name or digest can be compared as text.
 */
#include "base/name.h"

#include <string.h>

static bool name_byte(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool kwr_name_ok(const char *name, size_t max, bool dot_allowed) {
    if (name == NULL || name[0] == '\0') return false;
    if (name[0] == '.') {
        if (!dot_allowed || name[1] == '\0') return false;
        if (name[1] == '.' && name[2] == '\0') return false;
    }
    size_t size = 0;
    while (name[size] != '\0') {
        if (size == max || !name_byte(name[size])) return false;
        size++;
    }
    return true;
}

/* The value of a lower-case hex digit, else 16. */
static unsigned hex_digit(char c) {
    if (c >= '0' && c <= '9') return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f') return (unsigned)(c - 'a') + 10;
    return 16;
}

bool kwr_parse_hex64(const char *text, size_t digits, uint64_t *out) {
    if (digits == 0 || digits > 16) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        const unsigned digit = hex_digit(text[i]);
        if (digit > 15) return false;
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

bool kwr_parse_u64(const char *text, size_t size, uint64_t *out) {
    if (size == 0 || size > 20 || (text[0] == '0' && size > 1)) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) return false;
    }
    *out = value;
    return true;
}

void kwr_hex(const void *data, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * size] = '\0';
}

bool kwr_unhex(const char *text, size_t text_size, void *out, size_t size) {
    if (text_size % 2 != 0 || text_size / 2 != size) return false;
    unsigned char *bytes = out;
    for (size_t i = 0; i < text_size; i++) {
        if (hex_digit(text[i]) > 15) return false;
    }
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    }
    return true;
}

size_t kwr_base64_size(size_t size) { return (size / 3 + (size % 3 != 0)) * 4; }

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void kwr_base64(const void *data, size_t size, char *out) {
    const unsigned char *in = data;
    while (size >= 3) {
        const uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        for (int i = 0; i < 4; i++)
            *out++ = base64_digits[v >> (18 - 6 * i) & 63];
        in += 3;
        size -= 3;
    }
    if (size > 0) {
        const uint32_t v = (uint32_t)in[0] << 16 | (size == 2 ? (uint32_t)in[1] << 8 : 0);
        *out++ = base64_digits[v >> 18];
        *out++ = base64_digits[v >> 12 & 63];
        *out++ = size == 2 ? base64_digits[v >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out = '\0';
}

static unsigned base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z') return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9') return (unsigned)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

bool kwr_unbase64(const char *text, size_t text_size, void *out, size_t *size) {
    if (text_size % 4 != 0) return false;
    size_t padding = 0;
    while (padding < 2 && padding < text_size && text[text_size - 1 - padding] == '=')
        padding++;
    const size_t bytes = text_size / 4 * 3 - padding;
    if (bytes > *size) return false;
    for (size_t i = 0; i < text_size - padding; i++) {
        if (base64_digit(text[i]) > 63) return false;
    }
    if (padding > 0) { /* the bits that belong to no byte are zero: one text per value */
        const unsigned last = base64_digit(text[text_size - 1 - padding]);
        if ((last & (padding == 2 ? 15U : 3U)) != 0) return false;
    }
    unsigned char *to = out;
    for (size_t at = 0, done = 0; at < text_size; at += 4) {
        uint32_t v = 0;
        for (size_t i = 0; i < 4; i++) {
            const unsigned digit = text[at + i] == '=' ? 0 : base64_digit(text[at + i]);
            v = v << 6 | digit;
        }
        for (int i = 0; i < 3 && done < bytes; i++)
            to[done++] = (unsigned char)(v >> (16 - 8 * i));
    }
    *size = bytes;
    return true;
}

/* Length of the valid UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_sequence(const unsigned char *p, size_t left) {
    const unsigned char first = p[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    const size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > left) return 0;
    /* The second byte excludes overlong forms, surrogates and values above 10FFFF hex. */
    const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    return size;
}

bool kwr_utf8_ok(const void *data, size_t size) {
    const unsigned char *p = data;
    for (size_t at = 0; at < size;) {
        const size_t step = utf8_sequence(p + at, size - at);
        if (step == 0) return false;
        at += step;
    }
    return true;
}

void kwr_printable(const void *data, size_t size, char *out, size_t capacity) {
    if (capacity == 0) return;
    const unsigned char *p = data;
    const size_t room = capacity - 1;
    size_t at = 0, safe = 0; /* safe: the longest prefix that leaves room for "..." */
    for (size_t i = 0; i < size; i++) {
        const bool plain = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\';
        const size_t step = plain ? 1 : 4;
        if (step > room - at) {
            const size_t dots = room - safe < 3 ? room - safe : 3;
            memcpy(out + safe, "...", dots);
            out[safe + dots] = '\0';
            return;
        }
        if (plain) {
            out[at] = (char)p[i];
        } else {
            char hex[3];
            kwr_hex(p + i, 1, hex);
            memcpy(out + at, "\\x", 2);
            memcpy(out + at + 2, hex, 2);
        }
        at += step;
        if (room >= 3 && at <= room - 3) safe = at;
    }
    out[at] = '\0';
}
