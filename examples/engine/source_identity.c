/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of a split as text: {"path":"a.txt","size":1234,"head":"<32 hex digits>"}, the head
 * being the XXH3-128 of the first 64 KiB. In the path, quotes, backslashes and all bytes outside
 * printable ASCII are written as \u00XX, one for each byte: every path has exactly one text.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/engine/error.h"
#include "examples/engine/source_file.h"

static size_t escape(const char *path, char *out) {
    size_t used = 0;
    for (const unsigned char *p = (const unsigned char *)path; *p != '\0'; p++) {
        if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
            out[used++] = (char)*p;
        } else {
            used += (size_t)snprintf(out + used, 7, "\\u00%02x", *p);
        }
    }
    return used;
}

char *eng_source_identity(const char *path, uint64_t size, const char *head) {
    const size_t room = strlen(path) * 6 + 128;
    char *text = malloc(room);
    if (text == NULL) return NULL;
    size_t used = (size_t)snprintf(text, room, "{\"path\":\"");
    used += escape(path, text + used);
    snprintf(text + used, room - used, "\",\"size\":%" PRIu64 ",\"head\":\"%s\"}", size, head);
    return text;
}

/* A decimal number and what follows it. */
static bool take_number(const char **at, const char *end, uint64_t *out) {
    uint64_t value = 0;
    const char *p = *at;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) return false;
    }
    if (p == *at) return false;
    *at = p;
    *out = value;
    return true;
}

static bool take(const char **at, const char *end, const char *text, size_t size) {
    if ((size_t)(end - *at) < size || memcmp(*at, text, size) != 0) return false;
    *at += size;
    return true;
}

static bool take_head(const char **at, const char *end, char head[33]) {
    if (end - *at < 32) return false;
    for (size_t i = 0; i < 32; i++) {
        const char c = (*at)[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
        head[i] = c;
    }
    head[32] = '\0';
    *at += 32;
    return true;
}

kwr_status eng_source_identity_parse(kwr_slice identity, const char *path, uint64_t *size,
                                     char head[33], kwr_error *err) {
    static const char open[] = "{\"path\":\"";
    static const char middle[] = "\",\"size\":";
    static const char before_head[] = ",\"head\":\"";
    static const char close[] = "\"}";
    const char *at = identity.data;
    const char *end = at + identity.size;
    char *escaped = malloc(strlen(path) * 6 + 1);
    if (escaped == NULL) return eng_no_memory(err, "an input's identity");
    const size_t escaped_size = escape(path, escaped);
    bool ok = identity.size > 0 && take(&at, end, open, sizeof open - 1);
    const bool same =
        ok && take(&at, end, escaped, escaped_size) && take(&at, end, middle, sizeof middle - 1);
    free(escaped);
    if (ok && !same) {
        return eng_fail(err, KWR_ERR_REFUSED, 0,
                        "input '%s' is not the one the job was started with, %.*s; give the same "
                        "inputs in the same order",
                        path, (int)(identity.size < 300 ? identity.size : 300),
                        (const char *)identity.data);
    }
    uint64_t parsed = 0;
    char digest[33];
    ok = ok && take_number(&at, end, &parsed) &&
         take(&at, end, before_head, sizeof before_head - 1) && take_head(&at, end, digest) &&
         take(&at, end, close, sizeof close - 1) && at == end;
    if (!ok) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0, "input '%s': its stored identity is not readable",
                        path);
    }
    *size = parsed;
    memcpy(head, digest, sizeof digest);
    return KWR_OK;
}
