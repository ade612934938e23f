/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON text. */
#include "snapshot/json_out.h"

#include <string.h>

#include "base/name.h"

void kwr_json_text(kwr_buffer *out, const char *text) {
    kwr_buffer_append(out, text, strlen(text));
}

void kwr_json_line(kwr_buffer *out, unsigned depth) {
    kwr_json_text(out, "\n");
    for (unsigned i = 0; i < depth; i++)
        kwr_json_text(out, " ");
}

void kwr_json_u64(kwr_buffer *out, uint64_t value) {
    kwr_buffer_printf(out, value <= KWR_JSON_EXACT_MAX ? "%llu" : "\"%llu\"",
                      (unsigned long long)value);
}

void kwr_json_i64(kwr_buffer *out, int64_t value) {
    const bool exact =
        value >= -(int64_t)KWR_JSON_EXACT_MAX && value <= (int64_t)KWR_JSON_EXACT_MAX;
    kwr_buffer_printf(out, exact ? "%lld" : "\"%lld\"", (long long)value);
}

void kwr_json_hex64(kwr_buffer *out, uint64_t value) {
    kwr_buffer_printf(out, "\"%016llx\"", (unsigned long long)value);
}

void kwr_json_digest(kwr_buffer *out, const kwr_digest *digest) {
    char text[KWR_DIGEST_TEXT];
    kwr_digest_text(digest, text);
    kwr_buffer_printf(out, "\"%s\"", text);
}

void kwr_json_hex(kwr_buffer *out, const void *data, size_t size) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    kwr_json_text(out, "\"");
    for (size_t i = 0; i < size; i++) {
        const char pair[2] = { digits[bytes[i] >> 4], digits[bytes[i] & 15] };
        kwr_buffer_append(out, pair, sizeof pair);
    }
    kwr_json_text(out, "\"");
}

void kwr_json_string(kwr_buffer *out, const void *text, size_t size) {
    const uint8_t *bytes = text;
    kwr_json_text(out, "\"");
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0; i < size; i++) {
        const uint8_t c = bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        kwr_buffer_append(out, bytes + plain, i - plain);
        plain = i + 1;
        if (c >= 0x20)
            kwr_buffer_printf(out, "\\%c", c);
        else
            kwr_buffer_printf(out, "\\u%04x", c);
    }
    if (size > plain) kwr_buffer_append(out, bytes + plain, size - plain);
    kwr_json_text(out, "\"");
}

void kwr_json_user_bytes(kwr_buffer *out, kwr_slice bytes) {
    if (bytes.size == 0 ||
        (kwr_utf8_ok(bytes.data, bytes.size) && memchr(bytes.data, 0, bytes.size) == NULL)) {
        kwr_json_string(out, bytes.data, bytes.size);
        return;
    }
    kwr_json_base64(out, bytes);
}

void kwr_json_base64(kwr_buffer *out, kwr_slice bytes) {
    kwr_json_text(out, "{\"base64\": \"");
    const size_t size = kwr_base64_size(bytes.size);
    char *text = kwr_buffer_extend(out, size + 1);
    if (text == NULL) return;
    kwr_base64(bytes.data, bytes.size, text);
    out->size--; /* its NUL */
    kwr_json_text(out, "\"}");
}
