/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of names and the text forms of numbers and bytes in them. */
#ifndef KWR_BASE_NAME_H
#define KWR_BASE_NAME_H

#include "keyweir/status.h"

/* [A-Za-z0-9._-]{1,max}, not "." or "..", not starting with '.' unless `dot_allowed`. */
bool kwr_name_ok(const char *name, size_t max, bool dot_allowed);
/* The first `digits` (1 to 16) bytes are lower-case hex digits; what follows is not looked at, so a
 * number inside a name can be read. A shorter string is false. */
bool kwr_parse_hex64(const char *text, size_t digits, uint64_t *out);
/* Decimal without sign, spaces or leading zeros (but "0"); the whole of text[0..size). */
bool kwr_parse_u64(const char *text, size_t size, uint64_t *out);
/* Lower-case hex with NUL: out holds 2 * size + 1. */
void kwr_hex(const void *data, size_t size, char *out);
bool kwr_unhex(const char *text, size_t text_size, void *out, size_t size);
/* RFC 4648, with padding. Encoded size without the NUL; `out` holds that + 1. */
size_t kwr_base64_size(size_t size);
void kwr_base64(const void *data, size_t size, char *out);
/* Strict; returns false on anything else. *size: in the capacity, out the bytes written. */
bool kwr_unbase64(const char *text, size_t text_size, void *out, size_t *size);
/* Valid UTF-8 (no surrogates, no overlong forms), NUL included or not. */
bool kwr_utf8_ok(const void *data, size_t size);
/* Bytes made printable for messages: at most `capacity` with the NUL; others as \xNN, cut by "...".
 */
void kwr_printable(const void *data, size_t size, char *out, size_t capacity);

#endif /* KWR_BASE_NAME_H */
