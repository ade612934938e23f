/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed-size pieces of data files: little-endian, reserved bytes zero and checked. */
#include "snapshot/data_file.h"

#include <string.h>

#include "base/bytes.h"

static const char header_magic[8] = { 'K', 'W', 'R', 'P', 'A', 'G', 'E', 'S' };
static const char footer_magic[8] = { 'K', 'W', 'R', 'P', 'A', 'E', 'N', 'D' };

enum {
    KIND_IMAGES = 1,
    HEADER_SUM = KWR_DATA_HEADER_SIZE - 8,
    FOOTER_SUM = KWR_DATA_FOOTER_SIZE - 16,
    FOOTER_MAGIC = KWR_DATA_FOOTER_SIZE - 8,
};

void kwr_data_header_encode(const kwr_data_header *header, uint8_t out[KWR_DATA_HEADER_SIZE]) {
    memset(out, 0, KWR_DATA_HEADER_SIZE);
    memcpy(out, header_magic, 8);
    kwr_put_le16(out + 8, KWR_DATA_VERSION);
    out[10] = KIND_IMAGES;
    out[11] = KWR_CODEC_LZ4;
    out[12] = 0; /* not encrypted */
    /* 16: incompatible features, 24: compatible features; none so far */
    memcpy(out + 32, header->job_uid, 16);
    kwr_put_le64(out + 48, header->generation);
    kwr_put_le64(out + 56, header->checkpoint);
    kwr_put_le32(out + 64, header->subtask);
    kwr_put_le32(out + 68, header->max_parallelism);
    memcpy(out + 72, header->operator_digest.bytes, 16);
    memcpy(out + 88, header->identity, 16);
    kwr_put_le64(out + 104, header->seed);
    kwr_put_le64(out + HEADER_SUM, kwr_hash64(out, HEADER_SUM, 0));
}

static bool all_zero(const uint8_t *bytes, size_t size) {
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

kwr_status kwr_data_header_decode(const uint8_t bytes[KWR_DATA_HEADER_SIZE], kwr_data_header *out,
                                  const char **fault) {
    if (memcmp(bytes, header_magic, 8) != 0) {
        *fault = "it does not begin as a data file";
        return KWR_ERR_CORRUPT;
    }
    if (kwr_get_le64(bytes + HEADER_SUM) != kwr_hash64(bytes, HEADER_SUM, 0)) {
        *fault = "the header's checksum is wrong";
        return KWR_ERR_CORRUPT;
    }
    if (kwr_get_le16(bytes + 8) != KWR_DATA_VERSION) {
        *fault = "another version of the format; use a newer keyweir";
        return KWR_ERR_FORMAT;
    }
    if (bytes[10] != KIND_IMAGES || bytes[11] > KWR_CODEC_LZ4 || bytes[12] != 0 ||
        kwr_get_le64(bytes + 16) != 0) {
        *fault = "it uses a kind, codec, encryption or feature this build does not know; use a "
                 "newer keyweir";
        return KWR_ERR_FORMAT;
    }
    if (!all_zero(bytes + 13, 3) || !all_zero(bytes + 112, 8)) {
        *fault = "reserved bytes of the header are in use";
        return KWR_ERR_CORRUPT;
    }
    kwr_data_header header = { 0 };
    memcpy(header.job_uid, bytes + 32, 16);
    header.generation = kwr_get_le64(bytes + 48);
    header.checkpoint = kwr_get_le64(bytes + 56);
    header.subtask = kwr_get_le32(bytes + 64);
    header.max_parallelism = kwr_get_le32(bytes + 68);
    memcpy(header.operator_digest.bytes, bytes + 72, 16);
    memcpy(header.identity, bytes + 88, 16);
    header.seed = kwr_get_le64(bytes + 104);
    *out = header;
    return KWR_OK;
}

void kwr_data_prefix_encode(const kwr_data_entry *entry, uint8_t out[KWR_DATA_PREFIX_SIZE]) {
    kwr_put_le32(out, entry->stored);
    kwr_put_le32(out + 4, entry->raw);
    kwr_put_le32(out + 8, entry->state);
    kwr_put_le16(out + 12, entry->key_group);
    out[14] = entry->kind;
    out[15] = entry->codec;
}

void kwr_data_entry_encode(const kwr_data_entry *entry, uint8_t out[KWR_DATA_ENTRY_SIZE]) {
    memset(out, 0, KWR_DATA_ENTRY_SIZE);
    kwr_put_le64(out, entry->offset);
    kwr_put_le64(out + 8, entry->page_id);
    kwr_put_le64(out + 16, entry->prefix);
    kwr_put_le64(out + 24, entry->checksum);
    kwr_put_le32(out + 32, entry->stored);
    kwr_put_le32(out + 36, entry->raw);
    kwr_put_le32(out + 40, entry->state);
    kwr_put_le32(out + 44, entry->entries);
    kwr_put_le16(out + 48, entry->key_group);
    out[50] = entry->kind;
    out[51] = entry->codec;
    out[52] = entry->depth;
    kwr_put_le32(out + 56, entry->entry_bytes);
    kwr_put_le32(out + 60, entry->elements);
}

bool kwr_data_entry_decode(const uint8_t bytes[KWR_DATA_ENTRY_SIZE], kwr_data_entry *out) {
    *out = (kwr_data_entry){
        .offset = kwr_get_le64(bytes),
        .page_id = kwr_get_le64(bytes + 8),
        .prefix = kwr_get_le64(bytes + 16),
        .checksum = kwr_get_le64(bytes + 24),
        .stored = kwr_get_le32(bytes + 32),
        .raw = kwr_get_le32(bytes + 36),
        .state = kwr_get_le32(bytes + 40),
        .entries = kwr_get_le32(bytes + 44),
        .key_group = kwr_get_le16(bytes + 48),
        .kind = bytes[50],
        .codec = bytes[51],
        .depth = bytes[52],
        .entry_bytes = kwr_get_le32(bytes + 56),
        .elements = kwr_get_le32(bytes + 60),
    };
    return all_zero(bytes + 53, 3);
}

void kwr_data_footer_encode(const kwr_data_footer *footer, uint8_t out[KWR_DATA_FOOTER_SIZE]) {
    kwr_put_le64(out, footer->index_offset);
    kwr_put_le64(out + 8, footer->index_length);
    kwr_put_le64(out + 16, footer->images);
    kwr_put_le64(out + 24, footer->length);
    kwr_put_le64(out + 32, footer->raw);
    kwr_put_le64(out + 40, footer->entries);
    memcpy(out + 48, footer->index.bytes, 16);
    kwr_put_le64(out + FOOTER_SUM, kwr_hash64(out, FOOTER_SUM, 0));
    memcpy(out + FOOTER_MAGIC, footer_magic, 8);
}

bool kwr_data_footer_decode(const uint8_t bytes[KWR_DATA_FOOTER_SIZE], kwr_data_footer *out) {
    if (memcmp(bytes + FOOTER_MAGIC, footer_magic, 8) != 0) return false;
    if (kwr_get_le64(bytes + FOOTER_SUM) != kwr_hash64(bytes, FOOTER_SUM, 0)) return false;
    out->index_offset = kwr_get_le64(bytes);
    out->index_length = kwr_get_le64(bytes + 8);
    out->images = kwr_get_le64(bytes + 16);
    out->length = kwr_get_le64(bytes + 24);
    out->raw = kwr_get_le64(bytes + 32);
    out->entries = kwr_get_le64(bytes + 40);
    memcpy(out->index.bytes, bytes + 48, 16);
    return true;
}
