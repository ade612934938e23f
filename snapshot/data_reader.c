/* SPDX-License-Identifier: Apache-2.0 */
/* Reading data files. */
#include "snapshot/data_reader.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/compress.h"
#include "base/error.h"
#include "base/planted.h"
#include "snapshot/log.h"

enum {
    LZ4_RATIO_MAX = 256, /* no LZ4 block says more than this about itself truthfully */
};

static kwr_status part_fault(kwr_data_file *file, kwr_status status, uint64_t offset,
                             const char *part, const char *text, kwr_error *err) {
    const kwr_data_owner *owner = file->owner;
    file->fault_at = file->base + offset;
    return KWR_FAIL(
        err, status, 0, "'%s' is damaged at offset %llu: %s%s%s, subtask %u: %s", file->path,
        (unsigned long long)file->fault_at, part, owner->operator_id == NULL ? "" : " of operator ",
        owner->operator_id == NULL ? "" : owner->operator_id, owner->subtask->index, text);
}

kwr_status kwr_data_file_open(const kwr_env *env, kwr_storage *storage, kwr_storage_dir *shared,
                              const kwr_manifest_file *file, const kwr_data_owner *owner,
                              kwr_data_file *out, kwr_error *err) {
    *out = (kwr_data_file){
        .env = env, .storage = storage, .shared = shared, .file = file, .owner = owner
    };
    if (shared == NULL)
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "data file '%s' is missing: the job has no directory 'shared'", file->name);
    kwr_storage_path(storage, shared, file->name, out->path);
    uint64_t size = 0;
    KWR_TRY(storage->ops->open(storage, shared, file->name, &out->reader, &size, err));
    out->reader_owned = true;
    if (size == file->length) return KWR_OK;
    char text[96];
    snprintf(text, sizeof text, "it has %llu bytes, %llu were written", (unsigned long long)size,
             (unsigned long long)file->length);
    const kwr_status status = part_fault(
        out, KWR_ERR_CORRUPT, size < file->length ? size : file->length, "data file", text, err);
    kwr_data_file_close(out);
    return status;
}

void kwr_data_file_of_reader(const kwr_env *env, kwr_storage *storage, kwr_storage_reader *reader,
                             const char *path, const kwr_manifest_file *file,
                             const kwr_data_owner *owner, kwr_data_file *out) {
    *out = (kwr_data_file){ .env = env,
                            .storage = storage,
                            .reader = reader,
                            .base = file->offset,
                            .file = file,
                            .owner = owner };
    snprintf(out->path, sizeof out->path, "%s", path);
}

void kwr_data_file_of_memory(const kwr_env *env, const void *bytes, const char *path,
                             const kwr_manifest_file *file, const kwr_data_owner *owner,
                             kwr_data_file *out) {
    *out = (kwr_data_file){
        .env = env, .memory = bytes, .base = file->offset, .file = file, .owner = owner
    };
    snprintf(out->path, sizeof out->path, "%s", path);
}

void kwr_data_file_use_copy(kwr_data_file *file) {
    if (file->shared != NULL && file->local == NULL)
        file->local =
            kwr_local_file_open(file->storage, file->shared, file->file->name, file->file->length);
}

void kwr_data_file_rest(kwr_data_file *file) {
    kwr_local_file_rest(file->local);
    if (!file->reader_owned || file->reader == NULL) return;
    file->storage->ops->close_reader(file->storage, file->reader);
    file->reader = NULL;
}

void kwr_data_file_close(kwr_data_file *file) {
    kwr_data_file_rest(file);
    kwr_local_file_close(file->local);
    file->local = NULL;
    kwr_free(file->env, file->index, (size_t)file->index_length);
    file->index = NULL;
}

/* Of a file that rests. */
static kwr_status read_once(const kwr_data_file *file, uint64_t offset, void *out, size_t size,
                            kwr_error *err) {
    const kwr_storage_ops *ops = file->storage->ops;
    kwr_storage_reader *reader = NULL;
    uint64_t length = 0;
    KWR_TRY(ops->open(file->storage, file->shared, file->file->name, &reader, &length, err));
    kwr_status status = ops->read(file->storage, reader, offset, out, size, err);
    ops->close_reader(file->storage, reader);
    return status;
}

/* The entry of the image that begins at `offset`; images lie one after the other. */
static bool find_image(const kwr_data_file *file, uint64_t offset, uint64_t *index) {
    uint64_t low = 0, high = file->file->images;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        kwr_data_entry entry;
        if (!kwr_data_entry_decode(file->index + middle * KWR_DATA_ENTRY_SIZE, &entry))
            return false;
        if (entry.offset == offset) {
            *index = middle;
            return true;
        }
        if (entry.offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Whether these bytes are whole images, each as the index has it. */
static bool images_sound(const kwr_data_file *file, uint64_t offset, const uint8_t *bytes,
                         size_t size) {
    uint64_t at = 0;
    size_t done = 0;
    if (!find_image(file, offset, &at)) return false;
    for (; done < size && at < file->file->images; at++) {
        kwr_data_entry entry;
        if (!kwr_data_entry_decode(file->index + at * KWR_DATA_ENTRY_SIZE, &entry)) return false;
        const uint64_t length = KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
        if (length > size - done || kwr_hash64(bytes + done, (size_t)length, 0) != entry.checksum)
            return false;
        done += (size_t)length;
    }
    return done == size;
}

/* Before the index is there, whoever reads compares, and kwr_data_file_load() begins anew. */
static bool read_copy(const kwr_data_file *file, uint64_t offset, void *out, size_t size) {
    if (!kwr_local_file_read(file->local, offset, out, size)) return false;
    if (!file->index_sound) return true;
    if (images_sound(file, offset, out, size)) {
        kwr_local_file_used(file->local, size);
        return true;
    }
    char why[96];
    snprintf(why, sizeof why, "its %zu bytes from offset %llu on are not those of the index", size,
             (unsigned long long)offset);
    kwr_local_file_reject(file->local, why);
    return false;
}

kwr_status kwr_data_file_read(const kwr_data_file *file, uint64_t offset, void *out, size_t size,
                              kwr_error *err) {
    if (file->local != NULL && read_copy(file, offset, out, size)) return KWR_OK;
    if (file->reader != NULL)
        return file->storage->ops->read(file->storage, file->reader, file->base + offset, out, size,
                                        err);
    if (file->shared != NULL) return read_once(file, offset, out, size, err);
    memcpy(out, file->memory + (file->base - file->memory_base) + offset, size);
    return KWR_OK;
}

kwr_status kwr_data_file_copy(kwr_data_file *file, uint8_t *copy, kwr_error *err) {
    KWR_TRY(kwr_data_file_read(file, 0, copy, (size_t)file->file->length, err));
    kwr_data_file_rest(file);
    file->reader = NULL;
    file->shared = NULL;
    file->memory = copy;
    file->memory_base = file->base;
    return KWR_OK;
}

/* ---- header, footer, index ---- */

/* Where index and footer are follows from the manifest alone. */
static kwr_status place_index(kwr_data_file *file, kwr_error *err) {
    const uint64_t room = file->file->length;
    const uint64_t fixed = KWR_DATA_HEADER_SIZE + KWR_DATA_FOOTER_SIZE;
    uint64_t length = 0;
    if (!kwr_mul_u64(file->file->images, KWR_DATA_ENTRY_SIZE, &length) || room < fixed ||
        length > room - fixed)
        return part_fault(file, KWR_ERR_CORRUPT, 0, "data file",
                          "its length does not fit its number of images", err);
    if (length > file->owner->limits->index_bytes_max)
        return part_fault(file, KWR_ERR_CORRUPT, 0, "data file",
                          "its index is larger than the limit (index_bytes_max)", err);
    file->index_offset = room - KWR_DATA_FOOTER_SIZE - length;
    file->index_length = length;
    return KWR_OK;
}

/* Whether the file is its owner's. */
static kwr_status check_owner(kwr_data_file *file, kwr_error *err) {
    const kwr_data_owner *owner = file->owner;
    const kwr_data_header *header = &file->header;
    if (header->max_parallelism != owner->max_parallelism || header->seed != owner->seed)
        return part_fault(file, KWR_ERR_CORRUPT, 0, "header",
                          "it was written under another max parallelism or seed", err);
    if (owner->job_uid != NULL && memcmp(owner->job_uid, header->job_uid, 16) != 0)
        return part_fault(file, KWR_ERR_CORRUPT, 0, "header", "it belongs to another job", err);
    if (owner->operator_id != NULL) {
        const kwr_digest id = kwr_digest_of(owner->operator_id, strlen(owner->operator_id));
        if (!kwr_digest_equal(&id, &header->operator_digest))
            return part_fault(file, KWR_ERR_CORRUPT, 0, "header", "it belongs to another operator",
                              err);
    }
    return KWR_OK;
}

kwr_status kwr_data_file_check_header(kwr_data_file *file, kwr_error *err) {
    uint8_t bytes[KWR_DATA_HEADER_SIZE];
    KWR_TRY(place_index(file, err));
    KWR_TRY(kwr_data_file_read(file, 0, bytes, sizeof bytes, err));
    const kwr_digest digest = kwr_digest_of(bytes, sizeof bytes);
    if (!kwr_digest_equal(&digest, &file->file->header))
        return part_fault(file, KWR_ERR_CORRUPT, 0, "header",
                          "its digest is not the one in the manifest", err);
    const char *fault = NULL;
    const kwr_status status = kwr_data_header_decode(bytes, &file->header, &fault);
    if (status < KWR_OK) return part_fault(file, status, 0, "header", fault, err);
    return check_owner(file, err);
}

kwr_status kwr_data_file_check_footer(kwr_data_file *file, kwr_error *err) {
    uint8_t bytes[KWR_DATA_FOOTER_SIZE];
    KWR_TRY(place_index(file, err));
    const uint64_t at = file->file->length - KWR_DATA_FOOTER_SIZE;
    KWR_TRY(kwr_data_file_read(file, at, bytes, sizeof bytes, err));
    const kwr_digest digest = kwr_digest_of(bytes, sizeof bytes);
    if (!kwr_digest_equal(&digest, &file->file->footer))
        return part_fault(file, KWR_ERR_CORRUPT, at, "footer",
                          "its digest is not the one in the manifest", err);
    kwr_data_footer footer = { 0 };
    if (!kwr_data_footer_decode(bytes, &footer) || footer.index_offset != file->index_offset ||
        footer.index_length != file->index_length || footer.images != file->file->images ||
        footer.length != file->file->length || !kwr_digest_equal(&footer.index, &file->file->index))
        return part_fault(file, KWR_ERR_CORRUPT, at, "footer",
                          "it does not say what the manifest says", err);
    return KWR_OK;
}

/* NULL, or what cannot be in an index. */
static const char *entry_fault(const kwr_data_file *file, const kwr_data_entry *entry, uint64_t at,
                               uint32_t key_group, bool used) {
    const kwr_data_owner *owner = file->owner;
    const kwr_manifest_subtask *subtask = owner->subtask;
    const uint64_t size = KWR_DATA_PREFIX_SIZE + (uint64_t)entry->stored;
    if (entry->offset != at || size > file->index_offset - at)
        return "it leaves a gap, overlaps or ends too late";
    if (entry->raw == 0 || entry->raw > owner->limits->image_bytes_max)
        return "its decoded size is 0 or beyond the limit (image_bytes_max)";
    if (entry->codec == KWR_CODEC_RAW
            ? entry->stored != entry->raw
            : entry->stored >= entry->raw || entry->raw / LZ4_RATIO_MAX > entry->stored)
        return "its stored and decoded sizes do not fit";
    if (entry->codec > KWR_CODEC_LZ4) return "unknown codec";
    if (used && kwr_manifest_file_state(file->file, entry->state) >= subtask->state_count)
        return "it belongs to no state of the manifest";
    if (entry->kind == KWR_PAGE_FILE || entry->kind == KWR_PAGE_FILE_END) {
        /* An engine's file may have been written by a subtask with other key groups. */
        if (kwr_engine_of_files(subtask->format) == NULL)
            return "files do not belong into this format";
        return entry->key_group < owner->max_parallelism ? NULL : "there is no such key group";
    }
    if (entry->key_group < key_group) return "it is not in the order of key groups";
    /* What this checkpoint does not use may be another subtask's. */
    if (!used) return NULL;
    if (entry->key_group < subtask->key_groups.first ||
        entry->key_group - subtask->key_groups.first >= subtask->key_groups.count)
        return "its key group is none of its subtask's";
    return NULL;
}

static kwr_status check_entries(kwr_data_file *file, kwr_error *err) {
    uint64_t at = KWR_DATA_HEADER_SIZE, used = 0;
    uint32_t key_group = 0;
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        const char *fault = NULL;
        if (!kwr_data_entry_decode(file->index + i * KWR_DATA_ENTRY_SIZE, &entry))
            fault = "reserved bytes are in use";
        else
            fault = entry_fault(file, &entry, at, key_group, kwr_manifest_file_uses(file->file, i));
        if (fault != NULL) {
            char text[128];
            snprintf(text, sizeof text, "entry %llu: %s", (unsigned long long)i, fault);
            return part_fault(file, KWR_ERR_CORRUPT, file->index_offset + i * KWR_DATA_ENTRY_SIZE,
                              "index", text, err);
        }
        const uint64_t size = KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
        at += size;
        if (kwr_manifest_file_uses(file->file, i)) used += size;
        key_group = entry.key_group;
    }
    if (used != file->file->live_bytes)
        return part_fault(file, KWR_ERR_CORRUPT, file->index_offset, "index",
                          "the images in use have not as many bytes as the manifest says", err);
    if (at != file->index_offset)
        return part_fault(file, KWR_ERR_CORRUPT, at, "index", "there are bytes no entry speaks of",
                          err);
    return KWR_OK;
}

kwr_status kwr_data_file_load_index(kwr_data_file *file, kwr_error *err) {
    KWR_TRY(place_index(file, err));
    if (file->index == NULL) file->index = kwr_alloc(file->env, (size_t)file->index_length);
    if (file->index == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the index of '%s' (%llu bytes)",
                        file->path, (unsigned long long)file->index_length);
    KWR_TRY(
        kwr_data_file_read(file, file->index_offset, file->index, (size_t)file->index_length, err));
    const kwr_digest digest = kwr_digest_of(file->index, (size_t)file->index_length);
    if (!kwr_digest_equal(&digest, &file->file->index))
        return part_fault(file, KWR_ERR_CORRUPT, file->index_offset, "index",
                          "its digest is not the one in the manifest", err);
    KWR_TRY(check_entries(file, err));
    file->index_sound = true;
    return KWR_OK;
}

static kwr_status load_parts(kwr_data_file *file, kwr_error *err) {
    KWR_TRY(kwr_data_file_check_header(file, err));
    KWR_TRY(kwr_data_file_check_footer(file, err));
    return kwr_data_file_load_index(file, err);
}

kwr_status kwr_data_file_load(kwr_data_file *file, kwr_error *err) {
    kwr_error why = { 0 };
    kwr_status status = load_parts(file, &why);
    if ((status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT) && file->local != NULL &&
        kwr_local_file_reject(file->local, why.text)) {
        why = (kwr_error){ 0 };
        status = load_parts(file, &why);
    }
    if (status < KWR_OK) {
        if (err != NULL) *err = why;
    } else if (file->local != NULL) {
        kwr_local_file_loaded(file->local,
                              KWR_DATA_HEADER_SIZE + file->index_length + KWR_DATA_FOOTER_SIZE);
    }
    return status;
}

kwr_status kwr_data_file_same_header(kwr_data_file *file, const kwr_data_file *loaded,
                                     kwr_error *err) {
    file->header = loaded->header;
    return check_owner(file, err);
}

kwr_status kwr_data_file_same_index(kwr_data_file *file, const kwr_data_file *loaded,
                                    kwr_error *err) {
    KWR_TRY(place_index(file, err));
    file->index = kwr_alloc(file->env, (size_t)file->index_length);
    if (file->index == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the index of '%s' (%llu bytes)",
                        file->path, (unsigned long long)file->index_length);
    memcpy(file->index, loaded->index, (size_t)file->index_length);
    return check_entries(file, err);
}

bool kwr_data_file_entry(const kwr_data_file *file, uint64_t index, kwr_data_entry *out) {
    (void)kwr_data_entry_decode(file->index + index * KWR_DATA_ENTRY_SIZE, out);
    return kwr_manifest_file_uses(file->file, index);
}

void kwr_data_file_count(const kwr_data_file *file, uint64_t *sums) {
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        if (kwr_data_file_entry(file, i, &entry))
            sums[kwr_manifest_file_state(file->file, entry.state)] += entry.entries;
    }
}

/* ---- images ---- */

kwr_status kwr_data_image_fault(const kwr_data_file *file, const kwr_data_entry *entry,
                                kwr_status status, const char *text, kwr_error *err) {
    const kwr_data_owner *owner = file->owner;
    return KWR_FAIL(
        err, status, 0,
        "'%s' is damaged at offset %llu: page image%s%s, subtask %u, state '%.100s', "
        "key group %u: %s",
        file->path, (unsigned long long)(file->base + entry->offset),
        owner->operator_id == NULL ? "" : " of operator ",
        owner->operator_id == NULL ? "" : owner->operator_id, owner->subtask->index,
        owner->subtask->states[kwr_manifest_file_state(file->file, entry->state)].info.name,
        entry->key_group, text);
}

kwr_status kwr_data_image(const kwr_data_file *file, const kwr_data_entry *entry,
                          const uint8_t *bytes, uint8_t *scratch, kwr_page_image *out,
                          kwr_error *err) {
    uint8_t prefix[KWR_DATA_PREFIX_SIZE];
    if (kwr_hash64(bytes, KWR_DATA_PREFIX_SIZE + (size_t)entry->stored, 0) != entry->checksum &&
        !KWR_PLANTED(image_unchecked))
        return kwr_data_image_fault(file, entry, KWR_ERR_CORRUPT, "its checksum is wrong", err);
    kwr_data_prefix_encode(entry, prefix);
    if (memcmp(prefix, bytes, sizeof prefix) != 0)
        return kwr_data_image_fault(file, entry, KWR_ERR_CORRUPT,
                                    "its prefix does not say what the index says", err);
    const uint8_t *stored = bytes + KWR_DATA_PREFIX_SIZE;
    const uint8_t *plain = stored;
    if (entry->codec == KWR_CODEC_LZ4) {
        if (!kwr_decompress(stored, entry->stored, scratch, entry->raw))
            return kwr_data_image_fault(file, entry, KWR_ERR_CORRUPT, "it cannot be decompressed",
                                        err);
        plain = scratch;
    }
    *out = (kwr_page_image){
        .kind = (kwr_page_kind)entry->kind,
        .state = kwr_manifest_file_state(file->file, entry->state),
        .key_group = entry->key_group,
        .page_id = entry->page_id,
        .prefix = entry->prefix,
        .depth = entry->depth,
        .entries = entry->entries,
        .entry_bytes = entry->entry_bytes,
        .elements = entry->elements,
        .bytes = plain,
        .size = entry->raw,
    };
    return KWR_OK;
}
