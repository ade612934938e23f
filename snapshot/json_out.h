/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text with one way to write everything, so that equal content gives equal bytes. Numbers
 * beyond 2^53 are strings, because many readers keep numbers as doubles.
 */
#ifndef KWR_SNAPSHOT_JSON_OUT_H
#define KWR_SNAPSHOT_JSON_OUT_H

#include "base/digest.h"
#include "base/memory.h"

#define KWR_JSON_EXACT_MAX (UINT64_C(1) << 53)

void kwr_json_u64(kwr_buffer *out, uint64_t value);
void kwr_json_i64(kwr_buffer *out, int64_t value);
/* 16 hex digits as a string. */
void kwr_json_hex64(kwr_buffer *out, uint64_t value);
void kwr_json_digest(kwr_buffer *out, const kwr_digest *digest);
/* Hex as a string. */
void kwr_json_hex(kwr_buffer *out, const void *data, size_t size);
/* `text` must be UTF-8 without NUL. */
void kwr_json_string(kwr_buffer *out, const void *text, size_t size);
/* {"base64": "..."} */
void kwr_json_base64(kwr_buffer *out, kwr_slice bytes);
/* A string when it is UTF-8 without NUL, else {"base64": "..."}. */
void kwr_json_user_bytes(kwr_buffer *out, kwr_slice bytes);
/* A line feed and `depth` spaces. */
void kwr_json_line(kwr_buffer *out, unsigned depth);
void kwr_json_text(kwr_buffer *out, const char *text);

#endif /* KWR_SNAPSHOT_JSON_OUT_H */
