/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data files with everything right but their content: index entries and page images that someone
 * changed and sealed again. An input is a list of changes (u16 place, u8 value) to the file of a
 * real snapshot. What is restored must be consistent and can be used and written again.
 */
#include "tests/fuzz/fuzz.h"

#include "backend/memory/store.h"
#include "backend/view.h"
#include "base/bytes.h"
#include "snapshot/data_file.h"
#include "snapshot/manifest.h"

enum { KEYS = 40, GROUPS = 4 };

static const kwr_limits limits = { .struct_size = sizeof limits };

static kwr_backend_options backend_options(void) {
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = fuzz_env(),
                                  .max_parallelism = GROUPS,
                                  .key_type = { .kind = KWR_TYPE_BYTES } };
}

/* Small and large maps and lists; false when the states are not as then. */
static bool use_collections(kwr_backend *backend, unsigned keys) {
    const kwr_map_descriptor map_of = { .struct_size = sizeof map_of,
                                        .name = "map",
                                        .user_key_type = { .kind = KWR_TYPE_I64 },
                                        .type = { .kind = KWR_TYPE_BYTES } };
    const kwr_list_descriptor list_of = { .struct_size = sizeof list_of,
                                          .name = "list",
                                          .type = { .kind = KWR_TYPE_BYTES } };
    kwr_map *map = NULL;
    kwr_list *list = NULL;
    kwr_error err;
    if (kwr_map_open(backend, &map_of, &map, &err) != KWR_OK) return false;
    if (kwr_list_open(backend, &list_of, &list, &err) != KWR_OK) return false;
    for (unsigned i = 0; i < keys / 8; i++) {
        FUZZ_MUST(kwr_backend_set_key(backend, (kwr_slice){ &i, sizeof i }) == KWR_OK);
        for (int64_t n = 0; n < 2 + i * i * 8; n++) {
            uint8_t user_key[8];
            kwr_put_be64(user_key, (uint64_t)n ^ 1ULL << 63);
            const kwr_slice element = { user_key, (size_t)n % 8 };
            kwr_status status = kwr_map_put(map, (kwr_slice){ user_key, 8 }, element);
            FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT);
            status = kwr_list_add(list, element);
            FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_RANGE);
        }
    }
    return true;
}

/* Opens the states of the base snapshot and writes to them; false when they are not as then. */
static bool use(kwr_backend *backend, unsigned keys) {
    const kwr_value_descriptor text = { .struct_size = sizeof text,
                                        .name = "text",
                                        .type = { .kind = KWR_TYPE_BYTES },
                                        .namespace_type = { .kind = KWR_TYPE_BYTES } };
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = { .kind = KWR_TYPE_I64 },
                                          .reduce = KWR_REDUCE_SUM };
    kwr_value *value = NULL;
    kwr_reducing *reducing = NULL;
    kwr_error err;
    if (kwr_value_open(backend, &text, &value, &err) != KWR_OK) return false;
    if (kwr_reducing_open(backend, &sum, &reducing, &err) != KWR_OK) return false;
    for (unsigned i = 0; i < keys; i++) {
        char key[16];
        const int size = snprintf(key, sizeof key, "key-%u", i);
        const int64_t one = 1;
        char long_value[600];
        memset(long_value, (int)i, sizeof long_value);
        FUZZ_MUST(kwr_backend_set_key(backend, (kwr_slice){ key, (size_t)size }) == KWR_OK);
        FUZZ_MUST(kwr_value_set_namespace(value, (kwr_slice){ key, i % 3 }) == KWR_OK);
        /* Found damage may fail a call, but only in that way. */
        kwr_status status = kwr_value_put(value, (kwr_slice){ long_value, i * 14 });
        FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT);
        status = kwr_reducing_add(reducing, (kwr_slice){ &one, sizeof one }, NULL);
        FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_RANGE);
    }
    return use_collections(backend, keys);
}

static kwr_storage *fuzz_storage(void) {
    static kwr_storage *storage;
    kwr_error err;
    if (storage == NULL)
        FUZZ_MUST(kwr_storage_memory_open(fuzz_env(), 0, &storage, &err) == KWR_OK);
    return storage;
}

static void snapshot(kwr_backend *backend, kwr_bytes *handle) {
    kwr_view *view = NULL;
    kwr_error err;
    FUZZ_MUST(kwr_backend_freeze(backend, &view) == KWR_OK);
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = fuzz_env(),
                                         .storage = fuzz_storage(),
                                         .job = "job",
                                         .operator_id = "op",
                                         .generation = 1,
                                         .checkpoint = 1,
                                         .inline_bytes = 64U << 20,
                                         .compression_off = true };
    kwr_snapshot_result result = { 0 };
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, &result, &err);
    if (status != KWR_OK) fprintf(stderr, "%s\n", err.text);
    FUZZ_MUST(status == KWR_OK);
    kwr_view_release(view);
    *handle = result.handle;
}

/* The snapshot that inputs change: made once. */
static const kwr_subtask_part *base_part(void) {
    static kwr_subtask_part *part;
    if (part != NULL) return part;
    kwr_backend_options options = backend_options();
    kwr_backend *backend = NULL;
    static kwr_bytes handle; /* the part borrows from it */
    kwr_error err;
    FUZZ_MUST(kwr_backend_open(&options, &backend, &err) == KWR_OK);
    FUZZ_MUST(use(backend, KEYS));
    snapshot(backend, &handle);
    kwr_backend_close(backend);
    FUZZ_MUST(kwr_subtask_part_decode(fuzz_env(), &limits, (kwr_slice){ handle.data, handle.size },
                                      "base", &part, &err) == KWR_OK);
    FUZZ_MUST(part->subtask.file_count == 1 && part->inline_bytes.size > 0);
    return part;
}

/* Makes checksums and digests right again, from the images up to the manifest. */
static void seal(uint8_t *bytes, size_t size, kwr_manifest_file *file) {
    uint8_t *foot = bytes + size - KWR_DATA_FOOTER_SIZE;
    kwr_data_footer footer;
    FUZZ_MUST(kwr_data_footer_decode(foot, &footer));
    for (uint64_t i = 0; i < footer.images; i++) {
        uint8_t *at = bytes + footer.index_offset + i * KWR_DATA_ENTRY_SIZE;
        kwr_data_entry entry;
        if (!kwr_data_entry_decode(at, &entry) || entry.offset > footer.index_offset ||
            (uint64_t)entry.stored + KWR_DATA_PREFIX_SIZE > footer.index_offset - entry.offset)
            continue;
        kwr_data_prefix_encode(&entry, bytes + entry.offset);
        entry.checksum =
            kwr_hash64(bytes + entry.offset, KWR_DATA_PREFIX_SIZE + (size_t)entry.stored, 0);
        kwr_data_entry_encode(&entry, at);
    }
    footer.index = kwr_digest_of(bytes + footer.index_offset, (size_t)footer.index_length);
    kwr_data_footer_encode(&footer, foot);
    file->index = footer.index;
    file->footer = kwr_digest_of(foot, KWR_DATA_FOOTER_SIZE);
}

/* Pages put together one by one, with the deltas that are found for them. */
static void restore_lazily(const kwr_slice *handle) {
    kwr_backend_options options = backend_options();
    options.loading = KWR_LOADING_LAZY;
    options.load_share = KWR_LOAD_SHARE_NONE;
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    kwr_status status =
        kwr_snapshot_restore(&options, fuzz_storage(), "job", handle, 1, &backend, &err);
    if (status == KWR_OK) {
        const kwr_engine_ops *ops;
        status = kwr_backend_load(backend);
        if (status == KWR_OK)
            FUZZ_MUST(kwr_store_check(kwr_backend_engine(backend, &ops), &err) == KWR_OK);
        else
            err = *kwr_backend_error(backend);
        kwr_backend_close(backend);
    }
    FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT);
    FUZZ_MUST(status == KWR_OK || err.text[0] != '\0');
}

static void restore(const kwr_subtask_part *part) {
    kwr_bytes handle = { 0 };
    kwr_error err;
    FUZZ_MUST(kwr_subtask_part_encode(fuzz_env(), part, &handle, &err) == KWR_OK);
    const kwr_slice handles[] = { { handle.data, handle.size } };
    const kwr_backend_options options = backend_options();
    kwr_backend *backend = NULL;
    if (kwr_snapshot_restore(&options, fuzz_storage(), "job", handles, 1, &backend, &err) ==
        KWR_OK) {
        const kwr_engine_ops *ops;
        FUZZ_MUST(kwr_store_check(kwr_backend_engine(backend, &ops), &err) == KWR_OK);
        FUZZ_MUST(use(backend, KEYS / 2));
        kwr_bytes again = { 0 };
        snapshot(backend, &again);
        kwr_bytes_free(&again);
        FUZZ_MUST(kwr_store_check(kwr_backend_engine(backend, &ops), &err) == KWR_OK);
        kwr_backend_close(backend);
    } else {
        FUZZ_MUST(err.status == KWR_ERR_CORRUPT || err.status == KWR_ERR_FORMAT);
        FUZZ_MUST(err.text[0] != '\0');
    }
    restore_lazily(handles);
    kwr_bytes_free(&handle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const kwr_subtask_part *base = base_part();
    const size_t length = base->inline_bytes.size;
    uint8_t *bytes = malloc(length);
    FUZZ_MUST(bytes != NULL);
    memcpy(bytes, base->inline_bytes.data, length);
    for (size_t i = 0; i + 3 <= size && i < 300; i += 3) {
        const size_t room = length - KWR_DATA_HEADER_SIZE - KWR_DATA_FOOTER_SIZE;
        bytes[KWR_DATA_HEADER_SIZE + kwr_get_le16(data + i) % room] = data[i + 2];
    }
    kwr_manifest_file file = base->subtask.files[0];
    seal(bytes, length, &file);
    kwr_subtask_part part = *base;
    part.subtask.files = &file;
    part.inline_bytes.data = bytes;
    restore(&part);
    free(bytes);
    return 0;
}
