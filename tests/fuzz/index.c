/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole data files of somebody who can make every digest fit: header, footer and index are taken as
 * they are and the manifest says their digests. The first bytes say how many images there are and
 * what the manifest believes of them; the file follows. Every image in use is decoded and walked.
 */
#include "tests/fuzz/fuzz.h"

#include "backend/engine.h"
#include "base/bytes.h"
#include "base/limits.h"
#include "snapshot/data_reader.h"
#include "snapshot/file_record.h"

enum { HEAD = 8, STATES = 16, GROUPS = 128 };

static kwr_status look(void *ctx, const kwr_entry *entry) {
    uint64_t *sum = ctx;
    *sum += entry->key.size + entry->name.size + entry->subkey.size + entry->value.size;
    return KWR_OK;
}

static void read_image(const kwr_data_file *file, uint64_t index) {
    kwr_data_entry entry;
    kwr_error err = { 0 };
    kwr_page_image image;
    uint64_t sum = 0;
    if (!kwr_data_file_entry(file, index, &entry)) return;
    const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
    uint8_t *bytes = malloc(size), *plain = kwr_alloc(fuzz_env(), entry.raw);
    FUZZ_MUST(bytes != NULL && plain != NULL);
    FUZZ_MUST(kwr_data_file_read(file, entry.offset, bytes, size, &err) == KWR_OK);
    /* Of images too: prefix and checksum fit. */
    kwr_data_prefix_encode(&entry, bytes);
    entry.checksum = kwr_hash64(bytes, size, 0);
    kwr_status status = kwr_data_image(file, &entry, bytes, plain, &image, &err);
    if (status == KWR_OK) {
        FUZZ_MUST(image.size == entry.raw && image.state < STATES);
        kwr_file_record record;
        if (image.kind == KWR_PAGE_FILE_END)
            (void)kwr_file_record_decode(image.bytes, image.size, &record);
        status = kwr_page_image_walk(&image, look, &sum, &err);
    }
    FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT);
    FUZZ_MUST(status == KWR_OK || err.text[0] != '\0');
    kwr_free(fuzz_env(), plain, entry.raw);
    free(bytes);
}

static void read_file(const kwr_manifest_file *listed, const kwr_data_owner *owner,
                      const uint8_t *bytes) {
    kwr_data_file file;
    kwr_error err = { 0 };
    uint64_t sums[STATES] = { 0 };
    kwr_data_file_of_memory(fuzz_env(), bytes, "fuzz", listed, owner, &file);
    (void)kwr_data_file_check_header(&file, &err);
    (void)kwr_data_file_check_footer(&file, &err);
    if (kwr_data_file_load_index(&file, &err) == KWR_OK) {
        kwr_data_file_count(&file, sums);
        for (uint64_t i = 0; i < listed->images; i++)
            read_image(&file, i);
    } else {
        FUZZ_MUST(err.text[0] != '\0');
    }
    kwr_data_file_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static kwr_limits limits;
    static kwr_manifest_state states[STATES];
    static const char *const formats[] = { "pages-1", "entries-1", "rocksdb-1", "other" };
    kwr_error err;
    if (limits.struct_size == 0) FUZZ_MUST(kwr_limits_complete(NULL, &limits, &err) == KWR_OK);
    if (size < HEAD + KWR_DATA_HEADER_SIZE + KWR_DATA_FOOTER_SIZE) return 0;
    /* A copy, so that reading past its end is seen. */
    const size_t length = size - HEAD;
    uint8_t *bytes = malloc(length);
    FUZZ_MUST(bytes != NULL);
    memcpy(bytes, data + HEAD, length);
    for (uint32_t i = 0; i < STATES; i++)
        states[i].info = (kwr_state_info){ .id = i, .name = "state" };
    const kwr_manifest_subtask subtask = {
        .keyed = true,
        .key_groups = { data[1] % GROUPS, GROUPS - data[1] % GROUPS },
        .format = formats[data[2] % 4],
        .states = states,
        .state_count = STATES,
    };
    const kwr_data_owner owner = { .limits = &limits,
                                   .operator_id = data[3] % 2 == 0 ? "op" : NULL,
                                   .subtask = &subtask,
                                   .max_parallelism = GROUPS };
    kwr_manifest_file listed = { .length = length,
                                 .images = data[0],
                                 .live_bytes = kwr_get_le16(data + 4) };
    const uint64_t index = (uint64_t)data[0] * KWR_DATA_ENTRY_SIZE;
    listed.header = kwr_digest_of(bytes, KWR_DATA_HEADER_SIZE);
    listed.footer = kwr_digest_of(bytes + length - KWR_DATA_FOOTER_SIZE, KWR_DATA_FOOTER_SIZE);
    if (index <= length - KWR_DATA_HEADER_SIZE - KWR_DATA_FOOTER_SIZE) {
        const uint8_t *at = bytes + length - KWR_DATA_FOOTER_SIZE - index;
        listed.index = kwr_digest_of(at, (size_t)index);
        /* The amount in use as the index has it, so that this is not all that is found. */
        if (data[6] % 2 == 0) {
            listed.live_bytes = 0;
            for (uint64_t i = 0; i < data[0]; i++)
                listed.live_bytes +=
                    KWR_DATA_PREFIX_SIZE + kwr_get_le32(at + i * KWR_DATA_ENTRY_SIZE + 32);
        }
    }
    read_file(&listed, &owner, bytes);
    free(bytes);
    return 0;
}
