/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data files: header, page images one after the other, index, footer (docs/format.md). Here are
 * the pieces with fixed sizes, as bytes and as structs; no I/O.
 */
#ifndef KWR_SNAPSHOT_DATA_FILE_H
#define KWR_SNAPSHOT_DATA_FILE_H

#include "backend/page_image.h"
#include "base/digest.h"

enum {
    KWR_DATA_HEADER_SIZE = 128,
    KWR_DATA_PREFIX_SIZE = 16,
    KWR_DATA_ENTRY_SIZE = 64,
    KWR_DATA_FOOTER_SIZE = 80,
    KWR_DATA_VERSION = 1,
};

typedef enum kwr_data_codec {
    KWR_CODEC_RAW = 0,
    KWR_CODEC_LZ4 = 1, /* one block */
} kwr_data_codec;

typedef struct kwr_data_header {
    uint8_t job_uid[16];
    uint64_t generation;
    uint64_t checkpoint;
    uint32_t subtask;
    uint32_t max_parallelism;
    kwr_digest operator_digest; /* of the operator id's bytes */
    uint8_t identity[16];       /* random: no other file has it */
    uint64_t seed;
} kwr_data_header;

void kwr_data_header_encode(const kwr_data_header *header, uint8_t out[KWR_DATA_HEADER_SIZE]);
/* KWR_ERR_FORMAT for another version or an unknown feature, else KWR_ERR_CORRUPT. `*fault` says
 * what is wrong; static. */
kwr_status kwr_data_header_decode(const uint8_t bytes[KWR_DATA_HEADER_SIZE], kwr_data_header *out,
                                  const char **fault);

/* One image, as the index has it. */
typedef struct kwr_data_entry {
    uint64_t offset; /* of the image's prefix */
    uint64_t page_id;
    uint64_t prefix;
    uint64_t checksum; /* XXH3-64 of prefix and stored bytes */
    uint32_t stored;   /* bytes after the prefix */
    uint32_t raw;      /* bytes after decoding */
    uint32_t state;
    uint32_t entries;
    uint16_t key_group;
    uint8_t kind; /* kwr_page_kind */
    uint8_t codec;
    uint8_t depth;
    uint32_t entry_bytes;
    uint32_t elements;
} kwr_data_entry;

/* What stands before the stored bytes: a part of the entry, so that a data file can be read
 * without its index. */
void kwr_data_prefix_encode(const kwr_data_entry *entry, uint8_t out[KWR_DATA_PREFIX_SIZE]);
void kwr_data_entry_encode(const kwr_data_entry *entry, uint8_t out[KWR_DATA_ENTRY_SIZE]);
/* False when reserved bytes are not zero. */
bool kwr_data_entry_decode(const uint8_t bytes[KWR_DATA_ENTRY_SIZE], kwr_data_entry *out);

typedef struct kwr_data_footer {
    uint64_t index_offset;
    uint64_t index_length;
    uint64_t images;
    uint64_t length;  /* of the whole file */
    uint64_t raw;     /* sum over the images */
    uint64_t entries; /* likewise */
    kwr_digest index;
} kwr_data_footer;

void kwr_data_footer_encode(const kwr_data_footer *footer, uint8_t out[KWR_DATA_FOOTER_SIZE]);
bool kwr_data_footer_decode(const uint8_t bytes[KWR_DATA_FOOTER_SIZE], kwr_data_footer *out);

#endif /* KWR_SNAPSHOT_DATA_FILE_H */
