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
    KWR_TRY(storage->ops->dir_sync(storage, dir, err));
    KWR_TRY(storage->ops->dir_sync(storage, dirs->root, err));
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
    if (slot != NULL && text.size != slot->manifest_length)
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

/* ---- a subtask's part ---- */

typedef struct part_job {
    const kwr_job_dirs *dirs;
    const kwr_manifest *manifest;
    const kwr_manifest_operator *op;
    kwr_limits limits;
    kwr_arena *arena;
    kwr_subtask_part part;
    kwr_buffer inline_bytes;
} part_job;

/* Copies the inline bytes of one file behind those before it, checked in full: a failure names the
 * place in the checkpoint's file, not in the copy. */
static kwr_status copy_inline(part_job *job, kwr_storage_reader *reader, const char *path,
                              const kwr_manifest_file *from, kwr_manifest_file *to,
                              kwr_error *err) {
    kwr_storage *storage = job->dirs->storage;
    to->offset = job->inline_bytes.size;
    if (from->length > SIZE_MAX ||
        kwr_buffer_extend(&job->inline_bytes, (size_t)from->length) == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the inline bytes of '%s'", path);
    uint8_t *bytes = job->inline_bytes.data + to->offset;
    KWR_TRY(storage->ops->read(storage, reader, from->offset, bytes, (size_t)from->length, err));
    const kwr_data_owner owner = {
        .limits = &job->limits,
        .operator_id = job->op->id,
        .job_uid = job->manifest->job_uid,
        .subtask = &job->part.subtask,
        .max_parallelism = job->manifest->max_parallelism,
        .seed = job->manifest->seed,
    };
    kwr_data_file file;
    /* The bytes stand at from->offset in messages, so the copy is addressed from there. */
    kwr_data_file_of_reader(job->dirs->env, storage, reader, path, from, &owner, &file);
    kwr_status status = kwr_data_file_load(&file, err);
    for (uint64_t i = 0; i < from->images && status >= KWR_OK; i++) {
        kwr_data_entry entry;
        kwr_page_image image;
        kwr_data_file_entry(&file, i, &entry);
        uint8_t *scratch = kwr_alloc(job->dirs->env, entry.raw);
        if (scratch == NULL)
            status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check '%s'", path);
        else
            status = kwr_data_image(&file, &entry, bytes + entry.offset, scratch, &image, err);
        kwr_free(job->dirs->env, scratch, entry.raw);
    }
    kwr_data_file_close(&file);
    return status;
}

static kwr_status copy_files(part_job *job, kwr_storage_reader *reader, const char *path,
                             kwr_error *err) {
    kwr_manifest_subtask *subtask = &job->part.subtask;
    kwr_manifest_file *files = kwr_arena_array(job->arena, subtask->file_count, sizeof *files);
    if (files == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a subtask's part");
    for (size_t i = 0; i < subtask->file_count; i++) {
        files[i] = subtask->files[i];
        if (files[i].name == NULL)
            KWR_TRY(copy_inline(job, reader, path, &subtask->files[i], &files[i], err));
    }
    subtask->files = files;
    return KWR_OK;
}

static bool has_inline(const kwr_manifest_subtask *subtask) {
    for (size_t i = 0; i < subtask->file_count; i++)
        if (subtask->files[i].name == NULL) return true;
    return false;
}

/* Opens the file `inline` when the subtask has bytes there, and copies them. */
static kwr_status collect_inline(part_job *job, kwr_error *err) {
    if (!has_inline(&job->part.subtask)) return KWR_OK;
    kwr_storage *storage = job->dirs->storage;
    const kwr_manifest *manifest = job->manifest;
    kwr_storage_dir *dir = NULL;
    kwr_storage_reader *reader = NULL;
    uint64_t size = 0;
    char path[KWR_STORAGE_PATH_MAX];
    KWR_TRY(open_dir(job->dirs, manifest->checkpoint, manifest->generation, &dir, err));
    kwr_storage_path(storage, dir, INLINE_NAME, path);
    kwr_status status = storage->ops->open(storage, dir, INLINE_NAME, &reader, &size, err);
    if (status >= KWR_OK && size != manifest->inline_length)
        status = KWR_FAIL(
            err, KWR_ERR_CORRUPT, 0,
            "'%s' is damaged at offset %llu: it has %llu bytes, %llu were written", path,
            (unsigned long long)(size < manifest->inline_length ? size : manifest->inline_length),
            (unsigned long long)size, (unsigned long long)manifest->inline_length);
    if (status >= KWR_OK) status = copy_files(job, reader, path, err);
    if (reader != NULL) storage->ops->close_reader(storage, reader);
    storage->ops->dir_close(storage, dir);
    return status;
}

kwr_status kwr_checkpoint_part(const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_manifest *manifest, const kwr_manifest_operator *op,
                               uint32_t subtask, kwr_bytes *out, kwr_error *err) {
    if (subtask >= op->parallelism)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator %s has %u subtasks, %u was asked for",
                        op->id, op->parallelism, subtask);
    part_job job = { .dirs = dirs, .manifest = manifest, .op = op };
    KWR_TRY(kwr_limits_complete(limits, &job.limits, err));
    job.inline_bytes.env = dirs->env;
    job.part = (kwr_subtask_part){
        .subtask = op->subtasks[subtask],
        .key_type = op->key_type,
        .seed = manifest->seed,
        .engine_key_groups = manifest->engine_key_groups,
        .max_parallelism = manifest->max_parallelism,
    };
    job.arena = kwr_arena_new(dirs->env, 0);
    if (job.arena == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a subtask's part");
    kwr_status status = collect_inline(&job, err);
    if (status >= KWR_OK) {
        job.part.inline_bytes = (kwr_slice){ job.inline_bytes.data, job.inline_bytes.size };
        status = kwr_subtask_part_encode(dirs->env, &job.part, out, err);
    }
    kwr_buffer_free(&job.inline_bytes);
    kwr_arena_free(job.arena);
    return status;
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
