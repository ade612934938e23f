/* SPDX-License-Identifier: Apache-2.0 */
/* Every entry of a checkpoint, without an engine: data files are read and verified image by image.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "keyweir/snapshot.h"
#include "snapshot/checkpoint.h"
#include "snapshot/data_reader.h"
#include "snapshot/page_deltas.h"
#include "snapshot/storage.h"

typedef struct walk_job {
    const kwr_job_dirs *dirs;
    kwr_limits limits;
    const kwr_manifest *manifest;
    kwr_checkpoint_entry_fn fn;
    void *ctx;
    const char *directory; /* local, for engines of files; or NULL */
    kwr_storage_dir *dir;
    kwr_storage_reader *inline_reader;
    char inline_path[KWR_STORAGE_PATH_MAX];
    kwr_buffer stored;
    kwr_buffer plain;
    kwr_buffer made;         /* a page with its deltas */
    kwr_page_deltas *deltas; /* of the subtask at hand; or NULL */
    kwr_error *err;
    /* of the image at hand */
    const kwr_manifest_operator *op;
    const kwr_manifest_subtask *subtask;
    bool ended_by_caller;
} walk_job;

static kwr_status give_entry(void *ctx, const kwr_entry *entry) {
    walk_job *job = ctx;
    const kwr_status status =
        job->fn(job->ctx, job->op, job->subtask, &job->subtask->states[entry->state].info, entry);
    if (status < KWR_OK) job->ended_by_caller = true;
    return status;
}

static kwr_status walk_image(walk_job *job, const kwr_data_file *file, uint64_t index) {
    kwr_data_entry entry;
    if (!kwr_data_file_entry(file, index, &entry) || entry.kind == KWR_PAGE_DELTA) return KWR_OK;
    const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
    job->stored.size = job->plain.size = 0;
    uint8_t *bytes = kwr_buffer_extend(&job->stored, size);
    uint8_t *plain = kwr_buffer_extend(&job->plain, entry.raw);
    if (bytes == NULL || plain == NULL)
        return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", file->path);
    kwr_page_image image;
    KWR_TRY(kwr_data_file_read(file, entry.offset, bytes, size, job->err));
    KWR_TRY(kwr_data_image(file, &entry, bytes, plain, &image, job->err));
    kwr_error why = { 0 };
    kwr_page_image whole;
    kwr_status status = kwr_page_deltas_apply(job->deltas, file->header.checkpoint, &image,
                                              &job->made, &whole, &why);
    if (status >= KWR_OK) status = kwr_page_image_walk(&whole, give_entry, job, &why);
    if (status == KWR_ERR_CORRUPT && !job->ended_by_caller)
        return kwr_data_image_fault(file, &entry, status, why.text, job->err);
    if (status < KWR_OK && !job->ended_by_caller && job->err != NULL) *job->err = why;
    return status;
}

static kwr_status open_inline(walk_job *job) {
    if (job->inline_reader != NULL) return KWR_OK;
    kwr_storage *storage = job->dirs->storage;
    char name[KWR_FILE_NAME_MAX];
    uint64_t size = 0;
    kwr_checkpoint_dir_name(job->manifest->checkpoint, job->manifest->generation, name);
    if (job->dir == NULL)
        KWR_TRY(storage->ops->dir_open(storage, job->dirs->root, name, false, &job->dir, job->err));
    kwr_storage_path(storage, job->dir, "inline", job->inline_path);
    return storage->ops->open(storage, job->dir, "inline", &job->inline_reader, &size, job->err);
}

static kwr_status open_file(walk_job *job, const kwr_manifest_file *listed,
                            const kwr_data_owner *owner, kwr_data_file *out) {
    if (listed->name == NULL) {
        KWR_TRY(open_inline(job));
        kwr_data_file_of_reader(job->dirs->env, job->dirs->storage, job->inline_reader,
                                job->inline_path, listed, owner, out);
    } else {
        KWR_TRY(kwr_data_file_open(job->dirs->env, job->dirs->storage, job->dirs->shared, listed,
                                   owner, out, job->err));
    }
    return kwr_data_file_load(out, job->err);
}

static kwr_status walk_file(walk_job *job, const kwr_manifest_file *listed,
                            const kwr_data_owner *owner) {
    kwr_data_file file = { 0 };
    kwr_status status = open_file(job, listed, owner, &file);
    for (uint64_t i = 0; i < listed->images && status >= KWR_OK; i++)
        status = walk_image(job, &file, i);
    kwr_data_file_close(&file);
    return status;
}

/* What the images of the subtask's pages have to be put together with. */
static kwr_status read_deltas(walk_job *job, const kwr_manifest_file *listed,
                              const kwr_data_owner *owner) {
    kwr_data_file file = { 0 };
    kwr_status status = open_file(job, listed, owner, &file);
    if (status >= KWR_OK && kwr_page_deltas_in(&file)) {
        if (job->deltas == NULL) job->deltas = kwr_page_deltas_new(job->dirs->env);
        status = job->deltas == NULL
                     ? KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", file.path)
                     : kwr_page_deltas_read(job->deltas, &file, job->subtask->key_groups, NULL,
                                            job->err);
    }
    kwr_data_file_close(&file);
    return status;
}

/* ---- engines of files ---- */

static kwr_status walk_view(walk_job *job, kwr_view *view) {
    for (uint32_t i = 0; i < view->key_groups.count; i++)
        for (uint32_t state = 0; state < job->subtask->state_count; state++)
            KWR_TRY(view->ops->view_walk(view->engine_view, state, view->key_groups.first + i,
                                         give_entry, job));
    return KWR_OK;
}

/* Tables are read by their engine alone: the subtask's files, verified, become a database in the
 * local directory, which goes again. */
static kwr_status walk_by_engine(walk_job *job, const char *engine) {
    const kwr_manifest *manifest = job->manifest;
    if (job->directory == NULL)
        return KWR_FAIL(job->err, KWR_ERR_UNSUPPORTED, 0,
                        "the state of operator %s is files of the engine %s: reading its entries "
                        "needs a local directory",
                        job->op->id, engine);
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = job->dirs->env,
                                          .engine = engine,
                                          .max_parallelism = manifest->max_parallelism,
                                          .key_groups = job->subtask->key_groups,
                                          .seed = manifest->seed,
                                          .engine_key_groups = manifest->engine_key_groups,
                                          .key_type = job->op->key_type,
                                          .limits = job->limits,
                                          .directory = job->directory };
    kwr_bytes handle = { 0 };
    kwr_backend *backend = NULL;
    kwr_view *view = NULL;
    KWR_TRY(
        kwr_checkpoint_handle(job->dirs->env, manifest, job->op, job->subtask, &handle, job->err));
    const kwr_slice slice = { handle.data, handle.size };
    kwr_status status = kwr_snapshot_restore(&options, job->dirs->storage, job->dirs->job, &slice,
                                             1, &backend, job->err);
    kwr_bytes_free(&handle);
    KWR_TRY(status);
    status = kwr_backend_freeze(backend, &view);
    if (status < KWR_OK && job->err != NULL) *job->err = *kwr_backend_error(backend);
    if (status >= KWR_OK) {
        status = walk_view(job, view);
        if (status < KWR_OK && !job->ended_by_caller)
            (void)KWR_FAIL(job->err, status, 0, "the entries of operator %s cannot be read: %s",
                           job->op->id, kwr_status_name(status));
    }
    kwr_view_release(view);
    kwr_backend_close(backend);
    return status;
}

static kwr_status walk_subtask(walk_job *job) {
    const char *format = job->subtask->format;
    const char *engine = format == NULL ? NULL : kwr_engine_of_files(format);
    if (engine != NULL) return walk_by_engine(job, engine);
    const kwr_data_owner owner = {
        .limits = &job->limits,
        .operator_id = job->op->id,
        .job_uid = job->manifest->job_uid,
        .subtask = job->subtask,
        .max_parallelism = kwr_manifest_key_groups(job->manifest, job->subtask),
        .seed = job->manifest->seed,
    };
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < job->subtask->file_count && status >= KWR_OK; i++)
        status = read_deltas(job, &job->subtask->files[i], &owner);
    for (size_t i = 0; i < job->subtask->file_count && status >= KWR_OK; i++)
        status = walk_file(job, &job->subtask->files[i], &owner);
    kwr_page_deltas_free(job->deltas);
    job->deltas = NULL;
    return status;
}

static kwr_status walk_all(walk_job *job, const char *operator_id) {
    bool found = operator_id == NULL;
    for (size_t i = 0; i < job->manifest->operator_count; i++) {
        job->op = &job->manifest->operators[i];
        if (operator_id != NULL && strcmp(operator_id, job->op->id) != 0) continue;
        found = true;
        for (uint32_t j = 0; j < job->op->parallelism; j++) {
            for (job->subtask = &job->op->subtasks[j]; job->subtask != NULL;
                 job->subtask = job->subtask->operator_state)
                KWR_TRY(walk_subtask(job));
        }
    }
    if (found) return KWR_OK;
    return KWR_FAIL(job->err, KWR_ERR_RANGE, 0, "the checkpoint has no operator '%s'", operator_id);
}

kwr_status kwr_checkpoint_walk(const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_manifest *manifest, const char *operator_id,
                               const char *directory, kwr_checkpoint_entry_fn fn, void *ctx,
                               kwr_error *err) {
    walk_job job = {
        .dirs = dirs, .manifest = manifest, .fn = fn, .ctx = ctx, .directory = directory, .err = err
    };
    KWR_TRY(kwr_limits_complete(limits, &job.limits, err));
    job.stored.env = job.plain.env = job.made.env = dirs->env;
    const kwr_status status = walk_all(&job, operator_id);
    kwr_buffer_free(&job.stored);
    kwr_buffer_free(&job.plain);
    kwr_buffer_free(&job.made);
    if (job.inline_reader != NULL)
        dirs->storage->ops->close_reader(dirs->storage, job.inline_reader);
    if (job.dir != NULL) dirs->storage->ops->dir_close(dirs->storage, job.dir);
    return status;
}
