/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of one checkpoint: written in the order that leaves nothing referred to before it
 * is durable, opened by the digest its slot holds, and removed by its own names only.
 */
#include "snapshot/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/name.h"
#include "base/planted.h"
#include "snapshot/data_reader.h"
#include "snapshot/storage.h"

#define MANIFEST_NAME "manifest.json"
#define INLINE_NAME "inline"

/* ---- writing ---- */

/* A file left by an earlier try of the same attempt at the same checkpoint refers to nothing that
 * was published: it is replaced. */
static kwr_status write_file(const kwr_job_dirs *dirs, kwr_storage_dir *dir, const char *name,
                             kwr_slice bytes, kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    kwr_status status = kwr_storage_write_file(storage, dir, name, bytes.data, bytes.size, err);
    if (status == KWR_ERR_EXISTS) {
        KWR_TRY(storage->ops->remove(storage, dir, name, err));
        status = kwr_storage_write_file(storage, dir, name, bytes.data, bytes.size, err);
    }
    return status;
}

/* What cannot be read back must not be published. */
static kwr_status check_readable(const kwr_env *env, kwr_slice text, kwr_error *err) {
    kwr_limits limits = KWR_LIMITS_INIT;
    limits.manifest_bytes_max = UINT32_MAX;
    limits.files_max = UINT32_MAX;
    limits.operators_max = UINT32_MAX;
    limits.states_max = 65535;
    limits.committable_bytes_max = UINT32_MAX;
    limits.split_bytes_max = UINT32_MAX;
    kwr_manifest *again = NULL;
    kwr_status status = kwr_manifest_parse(env, &limits, text, "manifest to write", &again, err);
    if (status >= KWR_OK) kwr_manifest_free(again);
    if (status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT) {
        status = KWR_ERR_MISUSE;
        if (err != NULL) err->status = status;
    }
    return status;
}

static kwr_status write_in(const kwr_job_dirs *dirs, kwr_storage_dir *dir, kwr_manifest *manifest,
                           kwr_slice inline_bytes, kwr_slot *slot, uint64_t *bytes_written,
                           kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    manifest->inline_length = inline_bytes.size;
    if (inline_bytes.size > 0) {
        manifest->inline_digest = kwr_digest_of(inline_bytes.data, inline_bytes.size);
        KWR_TRY(write_file(dirs, dir, INLINE_NAME, inline_bytes, err));
    }
    kwr_bytes text = { 0 };
    KWR_TRY(kwr_manifest_encode(dirs->env, manifest, &text, err));
    const kwr_slice bytes = { text.data, text.size };
    const kwr_digest digest = kwr_digest_of(text.data, text.size);
    kwr_status status = check_readable(dirs->env, bytes, err);
    if (status >= KWR_OK) status = write_file(dirs, dir, MANIFEST_NAME, bytes, err);
    kwr_bytes_free(&text);
    KWR_TRY(status);
    if (!KWR_PLANTED(checkpoint_dir_unsynced)) KWR_TRY(storage->ops->dir_sync(storage, dir, err));
    if (!KWR_PLANTED(job_dir_unsynced)) KWR_TRY(storage->ops->dir_sync(storage, dirs->root, err));
    slot->manifest_length = bytes.size;
    slot->manifest_digest = digest;
    if (bytes_written != NULL) *bytes_written = bytes.size + inline_bytes.size;
    return KWR_OK;
}

kwr_status kwr_checkpoint_write(const kwr_job_dirs *dirs, kwr_manifest *manifest,
                                kwr_slice inline_bytes, kwr_slot *slot, uint64_t *bytes_written,
                                kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    char name[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(manifest->checkpoint, manifest->generation, name);
    kwr_storage_dir *dir = NULL;
    KWR_TRY(storage->ops->dir_open(storage, dirs->root, name, true, &dir, err));
    const kwr_status status = write_in(dirs, dir, manifest, inline_bytes, slot, bytes_written, err);
    storage->ops->dir_close(storage, dir);
    if (status < KWR_OK)
        (void)kwr_checkpoint_remove(dirs, manifest->checkpoint, manifest->generation, NULL);
    return status;
}

/* ---- opening ---- */

static kwr_status open_dir(const kwr_job_dirs *dirs, uint64_t checkpoint, uint64_t generation,
                           kwr_storage_dir **out, kwr_error *err) {
    char name[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(checkpoint, generation, name);
    return dirs->storage->ops->dir_open(dirs->storage, dirs->root, name, false, out, err);
}

/* NULL, or how the manifest is not the one that was looked for. */
static const char *identity_fault(const kwr_job_dirs *dirs, const kwr_manifest *manifest,
                                  uint64_t checkpoint, uint64_t generation, const kwr_slot *slot) {
    if (strcmp(manifest->job, dirs->job) != 0) return "it belongs to a job of another name";
    if (manifest->checkpoint != checkpoint || manifest->generation != generation)
        return "it belongs to another checkpoint";
    if (slot == NULL) return NULL;
    if (memcmp(manifest->job_uid, slot->job_uid, sizeof slot->job_uid) != 0)
        return "it belongs to another job (uid)";
    if (manifest->final != slot->final) return "it and its slot differ in 'final'";
    return NULL;
}

static kwr_status open_in(const kwr_job_dirs *dirs, const kwr_limits *limits, kwr_storage_dir *dir,
                          uint64_t checkpoint, uint64_t generation, const kwr_slot *slot,
                          kwr_manifest **out, kwr_error *err) {
    char path[KWR_STORAGE_PATH_MAX];
    kwr_storage_path(dirs->storage, dir, MANIFEST_NAME, path);
    kwr_bytes text = { 0 };
    KWR_TRY(kwr_storage_read_file(dirs->env, dirs->storage, dir, MANIFEST_NAME,
                                  limits->manifest_bytes_max, &text, err));
    kwr_status status = KWR_OK;
    const kwr_digest digest = kwr_digest_of(text.data, text.size);
    if (KWR_PLANTED(damage_unnamed)) snprintf(path, sizeof path, "a file");
    if (KWR_PLANTED(manifest_unchecked))
        ; /* what the slot says is not looked at */
    else if (slot != NULL && text.size != slot->manifest_length)
        status = KWR_FAIL(
            err, KWR_ERR_CORRUPT, 0,
            "'%s' is damaged at offset %llu: it has %zu bytes, %llu were written", path,
            (unsigned long long)(text.size < slot->manifest_length ? text.size
                                                                   : slot->manifest_length),
            text.size, (unsigned long long)slot->manifest_length);
    else if (slot != NULL && !kwr_digest_equal(&digest, &slot->manifest_digest))
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                          "'%s' is damaged at offset 0: manifest of checkpoint %llu: its %zu bytes "
                          "do not have the digest in slot %016llx",
                          path, (unsigned long long)checkpoint, text.size,
                          (unsigned long long)slot->number);
    kwr_manifest *manifest = NULL;
    if (status >= KWR_OK)
        status = kwr_manifest_parse(dirs->env, limits, (kwr_slice){ text.data, text.size }, path,
                                    &manifest, err);
    kwr_bytes_free(&text);
    KWR_TRY(status);
    const char *fault = identity_fault(dirs, manifest, checkpoint, generation, slot);
    if (fault != NULL) {
        kwr_manifest_free(manifest);
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s': %s", path, fault);
    }
    *out = manifest;
    return KWR_OK;
}

static kwr_status open_checkpoint(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                  uint64_t checkpoint, uint64_t generation, const kwr_slot *slot,
                                  kwr_manifest **out, kwr_error *err) {
    kwr_limits complete;
    KWR_TRY(kwr_limits_complete(limits, &complete, err));
    kwr_storage_dir *dir = NULL;
    KWR_TRY(open_dir(dirs, checkpoint, generation, &dir, err));
    const kwr_status status = open_in(dirs, &complete, dir, checkpoint, generation, slot, out, err);
    dirs->storage->ops->dir_close(dirs->storage, dir);
    return status;
}

kwr_status kwr_checkpoint_open(const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_slot *slot, kwr_manifest **out, kwr_error *err) {
    return open_checkpoint(dirs, limits, slot->checkpoint, slot->generation, slot, out, err);
}

kwr_status kwr_checkpoint_open_dir(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                   uint64_t checkpoint, uint64_t generation, kwr_manifest **out,
                                   kwr_error *err) {
    return open_checkpoint(dirs, limits, checkpoint, generation, NULL, out, err);
}

/* ---- handles ---- */

kwr_status kwr_checkpoint_handle(const kwr_env *env, const kwr_manifest *manifest,
                                 const kwr_manifest_operator *op,
                                 const kwr_manifest_subtask *subtask, kwr_bytes *out,
                                 kwr_error *err) {
    static const kwr_type no_key = { .kind = KWR_TYPE_BYTES };
    const bool of_operator = subtask->of_operator;
    kwr_subtask_part part = {
        .subtask = *subtask,
        .key_type = of_operator ? no_key : op->key_type,
        .seed = manifest->seed,
        .engine_key_groups = !of_operator && manifest->engine_key_groups,
        .max_parallelism = kwr_manifest_key_groups(manifest, subtask),
        .inline_place = { .checkpoint = manifest->checkpoint,
                          .generation = manifest->generation,
                          .length = manifest->inline_length,
                          .operator_id = op->id },
    };
    memcpy(part.inline_place.job_uid, manifest->job_uid, sizeof part.inline_place.job_uid);
    part.subtask.split_count = part.subtask.committable_count = 0;
    part.subtask.operator_state = NULL;
    part.subtask.of_operator = false; /* in a handle it stands for itself */
    return kwr_subtask_part_encode(env, &part, out, err);
}

kwr_status kwr_checkpoint_open_inline(const kwr_job_dirs *dirs, uint64_t checkpoint,
                                      uint64_t generation, uint64_t length, kwr_storage_dir **dir,
                                      kwr_storage_reader **reader, char *path, kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    kwr_storage_dir *opened = NULL;
    kwr_storage_reader *made = NULL;
    uint64_t size = 0;
    KWR_TRY(open_dir(dirs, checkpoint, generation, &opened, err));
    kwr_storage_path(storage, opened, INLINE_NAME, path);
    kwr_status status = storage->ops->open(storage, opened, INLINE_NAME, &made, &size, err);
    if (status >= KWR_OK && size != length)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                          "'%s' is damaged at offset %llu: it has %llu bytes, %llu were written",
                          path, (unsigned long long)(size < length ? size : length),
                          (unsigned long long)size, (unsigned long long)length);
    if (status < KWR_OK) {
        if (made != NULL) storage->ops->close_reader(storage, made);
        storage->ops->dir_close(storage, opened);
        return status;
    }
    *dir = opened;
    *reader = made;
    return KWR_OK;
}

/* ---- removing ---- */

typedef struct removal {
    const kwr_job_dirs *dirs;
    kwr_storage_dir *dir;
    kwr_error *err;
} removal;

static bool is_ours(const char *name) {
    if (strcmp(name, MANIFEST_NAME) == 0 || strcmp(name, INLINE_NAME) == 0) return true;
    return kwr_temp_name_of(name, MANIFEST_NAME) || kwr_temp_name_of(name, INLINE_NAME);
}

static kwr_status remove_one(void *ctx, const char *name) {
    const removal *r = ctx;
    if (!is_ours(name)) return KWR_OK;
    const kwr_status status = r->dirs->storage->ops->remove(r->dirs->storage, r->dir, name, r->err);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}

kwr_status kwr_checkpoint_remove(const kwr_job_dirs *dirs, uint64_t checkpoint, uint64_t generation,
                                 kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    removal r = { .dirs = dirs, .err = err };
    char name[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(checkpoint, generation, name);
    kwr_status status = open_dir(dirs, checkpoint, generation, &r.dir, err);
    if (status == KWR_ERR_MISSING) return KWR_OK;
    KWR_TRY(status);
    /* The manifest first: a directory without one is nobody's checkpoint. */
    status = remove_one(&r, MANIFEST_NAME);
    if (status >= KWR_OK) status = storage->ops->list(storage, r.dir, "", remove_one, &r, err);
    storage->ops->dir_close(storage, r.dir);
    KWR_TRY(status);
    status = storage->ops->dir_remove(storage, dirs->root, name, err);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}
