/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines' own files in data files: images of kind KWR_PAGE_FILE with a file's bytes in order, then
 * one of kind KWR_PAGE_FILE_END, the record, that says what the file is (docs/format.md).
 */
#ifndef KWR_SNAPSHOT_FILE_RECORD_H
#define KWR_SNAPSHOT_FILE_RECORD_H

#include "base/digest.h"
#include "keyweir/status.h"

enum {
    KWR_FILE_RECORD_FIXED = 48,
    KWR_FILE_NAME_BYTES_MAX = 200,
    KWR_FILE_IDENTITY_MAX = 255,
    KWR_FILE_RECORD_MAX = KWR_FILE_RECORD_FIXED + KWR_FILE_NAME_BYTES_MAX + KWR_FILE_IDENTITY_MAX,
    KWR_FILE_CHUNK = 1 << 20, /* bytes of an image; the last one is shorter */
};

typedef struct kwr_file_record {
    char name[KWR_FILE_NAME_BYTES_MAX + 1];
    char identity[KWR_FILE_IDENTITY_MAX + 1]; /* "": of one checkpoint alone */
    uint64_t length;
    kwr_digest digest; /* of the file's bytes */
    uint64_t entries;
    uint64_t entry_bytes;
} kwr_file_record;

/* The size of the record. */
size_t kwr_file_record_encode(const kwr_file_record *record, uint8_t out[KWR_FILE_RECORD_MAX]);
/* NULL, or what is wrong; static. */
const char *kwr_file_record_decode(const void *bytes, size_t size, kwr_file_record *out);

#endif /* KWR_SNAPSHOT_FILE_RECORD_H */
