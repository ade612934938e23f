/* SPDX-License-Identifier: Apache-2.0 */
/* Records of engines' files as bytes. */
#include "snapshot/file_record.h"

#include <string.h>

#include "base/bytes.h"
#include "base/name.h"

enum { SHARED = 1, EXCLUSIVE = 2 };

size_t kwr_file_record_encode(const kwr_file_record *record, uint8_t out[KWR_FILE_RECORD_MAX]) {
    const size_t name = strlen(record->name), identity = strlen(record->identity);
    memset(out, 0, KWR_FILE_RECORD_FIXED);
    out[0] = identity > 0 ? SHARED : EXCLUSIVE;
    out[1] = (uint8_t)name;
    out[2] = (uint8_t)identity;
    kwr_put_le64(out + 8, record->length);
    memcpy(out + 16, record->digest.bytes, 16);
    kwr_put_le64(out + 32, record->entries);
    kwr_put_le64(out + 40, record->entry_bytes);
    memcpy(out + KWR_FILE_RECORD_FIXED, record->name, name);
    memcpy(out + KWR_FILE_RECORD_FIXED + name, record->identity, identity);
    return KWR_FILE_RECORD_FIXED + name + identity;
}

const char *kwr_file_record_decode(const void *bytes, size_t size, kwr_file_record *out) {
    const uint8_t *b = bytes;
    static const uint8_t zeros[5] = { 0 };
    if (size < KWR_FILE_RECORD_FIXED) return "its record is too short";
    const size_t name = b[1], identity = b[2];
    if ((b[0] != SHARED && b[0] != EXCLUSIVE) || memcmp(b + 3, zeros, sizeof zeros) != 0)
        return "its record is of an unknown kind";
    if (size != KWR_FILE_RECORD_FIXED + name + identity || name > KWR_FILE_NAME_BYTES_MAX ||
        (identity > 0) != (b[0] == SHARED))
        return "the lengths in its record do not fit";
    kwr_file_record record = { .length = kwr_get_le64(b + 8),
                               .entries = kwr_get_le64(b + 32),
                               .entry_bytes = kwr_get_le64(b + 40) };
    memcpy(record.digest.bytes, b + 16, 16);
    memcpy(record.name, b + KWR_FILE_RECORD_FIXED, name);
    memcpy(record.identity, b + KWR_FILE_RECORD_FIXED + name, identity);
    if (memchr(record.name, 0, name) != NULL ||
        !kwr_name_ok(record.name, KWR_FILE_NAME_BYTES_MAX, true))
        return "its record has no good file name";
    if (memchr(record.identity, 0, identity) != NULL) return "the identity in its record is none";
    *out = record;
    return NULL;
}
