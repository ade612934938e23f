/* SPDX-License-Identifier: Apache-2.0 */
/* Writing one data file. */
#include "snapshot/data_writer.h"

#include "base/compress.h"
#include "base/error.h"

enum { WRITE_AT_LEAST = 256 * 1024 };

kwr_status kwr_data_writer_begin(kwr_data_writer *writer, const kwr_env *env, kwr_storage *storage,
                                 const kwr_data_header *header, bool compress) {
    *writer = (kwr_data_writer){ .env = env, .storage = storage, .compress = compress };
    writer->bytes.env = env;
    writer->index.env = env;
    kwr_data_header_encode(header, writer->header);
    kwr_buffer_append(&writer->bytes, writer->header, sizeof writer->header);
    writer->length = sizeof writer->header;
    return writer->bytes.failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a page image");
}

/* Behind the prefix: one LZ4 block, or the bytes as they are when that is not smaller. */
static bool append_stored(kwr_data_writer *writer, const kwr_page_image *image,
                          kwr_data_entry *entry) {
    const size_t bound = writer->compress ? kwr_compress_bound(image->size) : 0;
    const size_t before = writer->bytes.size;
    if (bound > 0) {
        uint8_t *to = kwr_buffer_extend(&writer->bytes, bound);
        if (to == NULL) return false;
        const size_t packed = kwr_compress(image->bytes, image->size, to, bound);
        writer->bytes.size = before;
        if (packed > 0 && packed < image->size) {
            writer->bytes.size += packed;
            entry->stored = (uint32_t)packed;
            entry->codec = KWR_CODEC_LZ4;
            return true;
        }
    }
    kwr_buffer_append(&writer->bytes, image->bytes, image->size);
    entry->stored = (uint32_t)image->size;
    entry->codec = KWR_CODEC_RAW;
    return !writer->bytes.failed;
}

kwr_status kwr_data_writer_image(kwr_data_writer *writer, const kwr_page_image *image,
                                 const kwr_limits *limits, uint64_t *stored, kwr_error *err) {
    if (image->size == 0 || image->size > UINT32_MAX || image->size > limits->image_bytes_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "page image of %zu bytes: the limit is %zu (image_bytes_max)", image->size,
                        limits->image_bytes_max);
    kwr_data_entry entry = {
        .offset = writer->length,
        .page_id = image->page_id,
        .prefix = image->prefix,
        .raw = (uint32_t)image->size,
        .state = image->state,
        .entries = image->entries,
        .key_group = (uint16_t)image->key_group,
        .kind = (uint8_t)image->kind,
        .depth = image->depth,
        .entry_bytes = image->entry_bytes,
        .elements = image->elements,
    };
    const size_t at = writer->bytes.size;
    if (kwr_buffer_extend(&writer->bytes, KWR_DATA_PREFIX_SIZE) == NULL) return no_memory(err);
    if (!append_stored(writer, image, &entry)) return no_memory(err);
    kwr_data_prefix_encode(&entry, writer->bytes.data + at);
    const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
    entry.checksum = kwr_hash64(writer->bytes.data + at, size, 0);
    uint8_t *slot = kwr_buffer_extend(&writer->index, KWR_DATA_ENTRY_SIZE);
    if (slot == NULL) return no_memory(err);
    kwr_data_entry_encode(&entry, slot);
    writer->length += size;
    writer->images++;
    writer->raw += image->size;
    writer->entries += image->entries;
    *stored = size + KWR_DATA_ENTRY_SIZE;
    return KWR_OK;
}

void kwr_data_writer_set_file(kwr_data_writer *writer, kwr_storage_writer *file) {
    writer->file = file;
}

static kwr_status write_out(kwr_data_writer *writer, kwr_error *err) {
    const size_t size = writer->bytes.size;
    writer->bytes.size = 0;
    return writer->storage->ops->write(writer->storage, writer->file, writer->bytes.data, size,
                                       err);
}

kwr_status kwr_data_writer_flush(kwr_data_writer *writer, kwr_error *err) {
    if (writer->file == NULL || writer->bytes.size < WRITE_AT_LEAST) return KWR_OK;
    return write_out(writer, err);
}

static kwr_status append_end(kwr_data_writer *writer, kwr_manifest_file *out, kwr_error *err) {
    kwr_data_footer footer = {
        .index_offset = writer->length,
        .index_length = writer->index.size,
        .images = writer->images,
        .length = writer->length + writer->index.size + KWR_DATA_FOOTER_SIZE,
        .raw = writer->raw,
        .entries = writer->entries,
        .index = kwr_digest_of(writer->index.data, writer->index.size),
    };
    kwr_buffer_append(&writer->bytes, writer->index.data, writer->index.size);
    uint8_t *end = kwr_buffer_extend(&writer->bytes, KWR_DATA_FOOTER_SIZE);
    if (end == NULL) return no_memory(err);
    kwr_data_footer_encode(&footer, end);
    *out = (kwr_manifest_file){
        .length = footer.length,
        .header = kwr_digest_of(writer->header, sizeof writer->header),
        .index = footer.index,
        .footer = kwr_digest_of(end, KWR_DATA_FOOTER_SIZE),
        .images = writer->images,
        .live_bytes = writer->length - KWR_DATA_HEADER_SIZE,
    };
    return KWR_OK;
}

kwr_status kwr_data_writer_finish(kwr_data_writer *writer, kwr_manifest_file *out, kwr_error *err) {
    kwr_manifest_file file = { 0 };
    KWR_TRY(append_end(writer, &file, err));
    if (writer->file != NULL) {
        KWR_TRY(write_out(writer, err));
        kwr_storage_writer *closing = writer->file;
        writer->file = NULL;
        KWR_TRY(writer->storage->ops->finish(writer->storage, closing, err));
    }
    writer->length = file.length;
    *out = file;
    return KWR_OK;
}

void kwr_data_writer_done(kwr_data_writer *writer) {
    if (writer->file != NULL) writer->storage->ops->abandon(writer->storage, writer->file);
    kwr_buffer_free(&writer->bytes);
    kwr_buffer_free(&writer->index);
    writer->file = NULL;
}
