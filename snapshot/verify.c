/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verifying a checkpoint: every byte below the manifest is read and compared, and every finding
 * told, so that one damaged place does not hide the next.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "snapshot/checkpoint.h"
#include "snapshot/data_reader.h"
#include "snapshot/storage.h"

enum { READ_BYTES = 256 * 1024 };

typedef struct verify_job {
    const kwr_job_dirs *dirs;
    kwr_limits limits;
    const kwr_manifest *manifest;
    void (*found)(void *ctx, const kwr_finding *finding);
    void *ctx;
    kwr_verify_result result;
    char dir_name[KWR_FILE_NAME_MAX];
    kwr_storage_dir *dir;              /* of the checkpoint; NULL: missing */
    kwr_storage_reader *inline_reader; /* NULL: missing or of the wrong length */
    char inline_path[KWR_STORAGE_PATH_MAX];
    kwr_buffer stored;
    kwr_buffer plain;
    kwr_error *err;
} verify_job;

/* Damage is a finding and the work goes on; anything else ends it. */
static bool is_finding(kwr_status status) {
    return status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING || status == KWR_ERR_FORMAT ||
           status == KWR_ERR_MISMATCH;
}

static void tell(verify_job *job, kwr_status status, const char *dir, const char *name,
                 uint64_t offset, const char *text) {
    char file[2 * KWR_FILE_NAME_MAX];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    const kwr_finding finding = {
        .status = status == KWR_ERR_MISMATCH ? KWR_ERR_CORRUPT : status,
        .file = file,
        .offset = offset,
        .text = text,
    };
    job->result.findings++;
    if (job->found != NULL) job->found(job->ctx, &finding);
}

/* KWR_OK also for a finding, which is told; other failures are put into job->err. */
static kwr_status settle(verify_job *job, const kwr_data_file *file, kwr_status status,
                         uint64_t offset, const kwr_error *why) {
    if (status >= KWR_OK) return KWR_OK;
    if (!is_finding(status)) {
        if (job->err != NULL) *job->err = *why;
        return status;
    }
    const bool shared = file->file->name != NULL;
    tell(job, status, shared ? "shared" : job->dir_name, shared ? file->file->name : "inline",
         offset, why->text);
    return KWR_OK;
}

static uint8_t *room(kwr_buffer *buffer, size_t size) {
    buffer->size = 0;
    return kwr_buffer_extend(buffer, size);
}

static kwr_status check_image(verify_job *job, const kwr_data_file *file, uint64_t index) {
    kwr_data_entry entry;
    if (!kwr_data_file_entry(file, index, &entry)) return KWR_OK;
    const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
    uint8_t *bytes = room(&job->stored, size), *plain = room(&job->plain, entry.raw);
    kwr_error why = { 0 };
    kwr_page_image image;
    if (bytes == NULL || plain == NULL)
        return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory to verify '%s'", file->path);
    kwr_status status = kwr_data_file_read(file, entry.offset, bytes, size, &why);
    if (status >= KWR_OK) status = kwr_data_image(file, &entry, bytes, plain, &image, &why);
    job->result.images++;
    job->result.entries += entry.entries;
    return settle(job, file, status, file->base + entry.offset, &why);
}

/* An open data file; `*sums` stay incomplete when its index is damaged. */
static kwr_status check_file(verify_job *job, kwr_data_file *file, uint64_t *sums, bool *complete) {
    kwr_error why = { 0 };
    kwr_status status = kwr_data_file_check_header(file, &why);
    KWR_TRY(settle(job, file, status, file->fault_at, &why));
    status = kwr_data_file_check_footer(file, &why);
    KWR_TRY(settle(job, file, status, file->fault_at, &why));
    status = kwr_data_file_load_index(file, &why);
    KWR_TRY(settle(job, file, status, file->fault_at, &why));
    if (status < KWR_OK) {
        *complete = false;
        return KWR_OK;
    }
    kwr_data_file_count(file, sums);
    for (uint64_t i = 0; i < file->file->images; i++)
        KWR_TRY(check_image(job, file, i));
    return KWR_OK;
}

static kwr_status check_shared(verify_job *job, const kwr_manifest_file *listed,
                               const kwr_data_owner *owner, uint64_t *sums, bool *complete) {
    kwr_data_file file;
    kwr_error why = { 0 };
    job->result.files++;
    kwr_status status = kwr_data_file_open(job->dirs->env, job->dirs->storage, job->dirs->shared,
                                           listed, owner, &file, &why);
    if (status < KWR_OK) {
        *complete = false;
        return settle(job, &file, status, file.fault_at, &why);
    }
    job->result.bytes += listed->length;
    status = check_file(job, &file, sums, complete);
    kwr_data_file_close(&file);
    return status;
}

static kwr_status check_inline_part(verify_job *job, const kwr_manifest_file *listed,
                                    const kwr_data_owner *owner, uint64_t *sums, bool *complete) {
    if (job->inline_reader == NULL) {
        *complete = false; /* told already */
        return KWR_OK;
    }
    kwr_data_file file;
    kwr_data_file_of_reader(job->dirs->env, job->dirs->storage, job->inline_reader,
                            job->inline_path, listed, owner, &file);
    const kwr_status status = check_file(job, &file, sums, complete);
    kwr_data_file_close(&file);
    return status;
}

static void compare_sums(verify_job *job, const kwr_manifest_operator *op,
                         const kwr_manifest_subtask *subtask, const uint64_t *sums) {
    for (size_t i = 0; i < subtask->state_count; i++) {
        if (sums[i] == subtask->states[i].entries) continue;
        char text[512];
        snprintf(text, sizeof text,
                 "operator %s, subtask %u, state '%.100s' should have %llu entries, its files have "
                 "%llu",
                 op->id, subtask->index, subtask->states[i].info.name,
                 (unsigned long long)subtask->states[i].entries, (unsigned long long)sums[i]);
        tell(job, KWR_ERR_CORRUPT, job->dir_name, "manifest.json", 0, text);
    }
}

static kwr_status check_subtask(verify_job *job, const kwr_manifest_operator *op,
                                const kwr_manifest_subtask *subtask) {
    const kwr_data_owner owner = {
        .limits = &job->limits,
        .operator_id = op->id,
        .job_uid = job->manifest->job_uid,
        .subtask = subtask,
        .max_parallelism = kwr_manifest_key_groups(job->manifest, subtask),
        .seed = job->manifest->seed,
    };
    const size_t size = subtask->state_count * sizeof(uint64_t);
    uint64_t *sums = kwr_calloc(job->dirs->env, size);
    if (sums == NULL) return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory to verify");
    kwr_status status = KWR_OK;
    bool complete = true;
    for (size_t i = 0; i < subtask->file_count && status >= KWR_OK; i++) {
        const kwr_manifest_file *file = &subtask->files[i];
        status = file->name != NULL ? check_shared(job, file, &owner, sums, &complete)
                                    : check_inline_part(job, file, &owner, sums, &complete);
    }
    if (status >= KWR_OK && complete) compare_sums(job, op, subtask, sums);
    kwr_free(job->dirs->env, sums, size);
    return status;
}

/* The whole of `inline` against its digest: also what lies between the parts, if anything did. */
static kwr_status digest_inline(verify_job *job, uint64_t size, kwr_digest *out, kwr_error *err) {
    kwr_digest_stream *stream = kwr_digest_stream_new(job->dirs->env);
    uint8_t *bytes = room(&job->stored, READ_BYTES);
    kwr_status status = KWR_OK;
    if (stream == NULL || bytes == NULL)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to verify");
    for (uint64_t at = 0; at < size && status >= KWR_OK;) {
        const size_t part = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;
        status = job->dirs->storage->ops->read(job->dirs->storage, job->inline_reader, at, bytes,
                                               part, err);
        if (status >= KWR_OK) kwr_digest_stream_add(stream, bytes, part);
        at += part;
    }
    if (status >= KWR_OK) *out = kwr_digest_stream_end(stream);
    if (stream != NULL) kwr_digest_stream_free(stream);
    return status;
}

static kwr_status open_inline(verify_job *job, uint64_t *size, kwr_error *err) {
    kwr_storage *storage = job->dirs->storage;
    KWR_TRY(storage->ops->dir_open(storage, job->dirs->root, job->dir_name, false, &job->dir, err));
    kwr_storage_path(storage, job->dir, "inline", job->inline_path);
    return storage->ops->open(storage, job->dir, "inline", &job->inline_reader, size, err);
}

static kwr_status check_inline(verify_job *job) {
    const kwr_manifest *manifest = job->manifest;
    if (manifest->inline_length == 0) return KWR_OK;
    kwr_error why = { 0 };
    uint64_t size = 0;
    job->result.files++;
    kwr_status status = open_inline(job, &size, &why);
    kwr_digest digest = { 0 };
    uint64_t offset = 0;
    if (status >= KWR_OK && size != manifest->inline_length) {
        offset = size < manifest->inline_length ? size : manifest->inline_length;
        status = KWR_FAIL(&why, KWR_ERR_CORRUPT, 0,
                          "'%s' is damaged at offset %llu: it has %llu bytes, %llu were written",
                          job->inline_path, (unsigned long long)offset, (unsigned long long)size,
                          (unsigned long long)manifest->inline_length);
        job->dirs->storage->ops->close_reader(job->dirs->storage, job->inline_reader);
        job->inline_reader = NULL;
    }
    if (status >= KWR_OK) {
        job->result.bytes += size;
        status = digest_inline(job, size, &digest, &why);
        if (status >= KWR_OK && !kwr_digest_equal(&digest, &manifest->inline_digest))
            status = KWR_FAIL(&why, KWR_ERR_CORRUPT, 0,
                              "'%s' is damaged at offset 0: its digest is not the one in the "
                              "manifest",
                              job->inline_path);
    }
    if (status < KWR_OK && !is_finding(status)) {
        if (job->err != NULL) *job->err = why;
        return status;
    }
    if (status < KWR_OK) tell(job, status, job->dir_name, "inline", offset, why.text);
    return KWR_OK;
}

static kwr_status check_all(verify_job *job) {
    KWR_TRY(check_inline(job));
    for (size_t i = 0; i < job->manifest->operator_count; i++) {
        const kwr_manifest_operator *op = &job->manifest->operators[i];
        for (uint32_t j = 0; j < op->parallelism; j++)
            for (const kwr_manifest_subtask *s = &op->subtasks[j]; s != NULL; s = s->operator_state)
                KWR_TRY(check_subtask(job, op, s));
    }
    return KWR_OK;
}

kwr_status kwr_checkpoint_verify(const kwr_job_dirs *dirs, const kwr_limits *limits,
                                 const kwr_manifest *manifest,
                                 void (*found)(void *ctx, const kwr_finding *finding), void *ctx,
                                 kwr_verify_result *out, kwr_error *err) {
    verify_job job = { .dirs = dirs, .manifest = manifest, .found = found, .ctx = ctx, .err = err };
    KWR_TRY(kwr_limits_complete(limits, &job.limits, err));
    job.stored.env = job.plain.env = dirs->env;
    kwr_checkpoint_dir_name(manifest->checkpoint, manifest->generation, job.dir_name);
    const kwr_status status = check_all(&job);
    kwr_buffer_free(&job.stored);
    kwr_buffer_free(&job.plain);
    if (job.inline_reader != NULL)
        dirs->storage->ops->close_reader(dirs->storage, job.inline_reader);
    if (job.dir != NULL) dirs->storage->ops->dir_close(dirs->storage, job.dir);
    if (status >= KWR_OK) *out = job.result;
    return status;
}
