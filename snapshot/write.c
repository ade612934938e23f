/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a frozen view. Workers take key groups from one counter, each writing a data file of its
 * own, so they never wait for each other. All begin in memory; once together they outgrow what may
 * travel inline, each goes on in a file in shared/.
 */
#include <stdio.h>
#include <string.h>

#include "backend/canonical.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/name.h"
#include "base/planted.h"
#include "snapshot/storage.h"
#include "snapshot/write_job.h"

enum {
    FILE_NAME_TRIES = 1000,
};
/* Below this much state more than one worker costs more (a file and a sync each) than it gains. */
#define BYTES_PER_WORKER (UINT64_C(4) << 20)

void kwr_cancel_request(kwr_cancel *cancel) {
    __atomic_store_n(&cancel->flag, 1, __ATOMIC_RELAXED);
}

kwr_status kwr_write_check_running(const kwr_write_job *job, kwr_error *err) {
    if (job->cancel != NULL && __atomic_load_n(&job->cancel->flag, __ATOMIC_RELAXED) != 0)
        return KWR_FAIL(err, KWR_ERR_CANCELLED, 0, "snapshot of checkpoint %llu was cancelled",
                        (unsigned long long)job->target->checkpoint);
    /* Another worker has failed and says why. */
    return __atomic_load_n(&job->stop, __ATOMIC_RELAXED) != 0 ? KWR_ERR_CANCELLED : KWR_OK;
}

/* ---- one worker ---- */

kwr_status kwr_write_create_file(kwr_write_unit *w) {
    kwr_write_job *job = w->job;
    kwr_storage *storage = job->target->storage;
    kwr_status status = KWR_ERR_EXISTS;
    /* A name may be left from an attempt whose removal failed: creating is exclusive, so the next
     * number is always safe. */
    for (int i = 0; i < FILE_NAME_TRIES && status == KWR_ERR_EXISTS; i++) {
        kwr_storage_writer *file = NULL;
        uint64_t sequence = __atomic_fetch_add(&job->sequence, 1, __ATOMIC_RELAXED);
        if (KWR_PLANTED(data_file_overwritten)) sequence = 1;
        kwr_shared_name(job->target->generation, job->target->operator_id, job->target->subtask,
                        sequence, w->name);
        if (KWR_PLANTED(data_file_overwritten))
            (void)(storage->ops->remove(storage, job->dirs.shared, w->name, NULL) < KWR_OK);
        status = storage->ops->create(storage, job->dirs.shared, w->name, &file, &w->err);
        if (status >= KWR_OK) {
            kwr_data_writer_set_file(&w->writer, file);
            w->created = true;
        }
    }
    return status;
}

static bool spilled(const kwr_write_job *job) {
    return __atomic_load_n(&job->spilled, __ATOMIC_RELAXED) != 0;
}

kwr_status kwr_write_image(kwr_write_unit *w, const kwr_page_image *image, uint64_t *stored) {
    kwr_write_job *job = w->job;
    uint64_t added = w->writer.images == 0 ? KWR_DATA_FILE_FIXED : 0;
    KWR_TRY(kwr_data_writer_image(&w->writer, image, &job->limits, stored, &w->err));
    added += *stored;
    const uint64_t total = __atomic_add_fetch(&job->bytes, added, __ATOMIC_RELAXED);
    if (total > job->inline_max) __atomic_store_n(&job->spilled, 1, __ATOMIC_RELAXED);
    if (w->writer.file == NULL && spilled(job)) KWR_TRY(kwr_write_create_file(w));
    return kwr_data_writer_flush(&w->writer, &w->err);
}

static kwr_status take_image(void *ctx, const kwr_page_image *image) {
    kwr_write_unit *w = ctx;
    kwr_write_job *job = w->job;
    KWR_TRY(kwr_write_check_running(job, &w->err));
    uint64_t stored = 0;
    if (image->key_group >= job->view->max_parallelism || image->state >= job->view->table->count)
        return KWR_FAIL(&w->err, KWR_ERR_MISUSE, 0,
                        "the engine gave an image of an unknown state or key group");
    if (image->kind == KWR_PAGE_DELTA) return kwr_write_deltas_take(w, image);
    KWR_TRY(kwr_write_image(w, image, &stored));
    return job->next != NULL ? kwr_write_pages_note(w, image, stored) : KWR_OK;
}

kwr_status kwr_write_begin(kwr_write_unit *w) {
    const kwr_write_job *job = w->job;
    const kwr_env *env = job->target->env;
    kwr_data_header header = job->header;
    if (env->random->bytes(env->random->ctx, header.identity, sizeof header.identity) < KWR_OK)
        return KWR_FAIL(&w->err, KWR_ERR_IO, 0, "no randomness for the identity of a data file");
    if (kwr_data_writer_begin(&w->writer, env, job->target->storage, &header,
                              !job->target->compression_off) < KWR_OK)
        return KWR_FAIL(&w->err, KWR_ERR_NOMEM, 0, "no memory to write a data file");
    return KWR_OK;
}

static kwr_status finish_file(kwr_write_unit *w) {
    if (w->writer.file == NULL) return KWR_OK; /* inline, or too late to know */
    KWR_TRY(kwr_data_writer_finish(&w->writer, &w->file, &w->err));
    w->finished = true;
    return KWR_OK;
}

static kwr_status write_groups(kwr_write_unit *w) {
    kwr_write_job *job = w->job;
    const kwr_view *view = job->view;
    kwr_page_sink sink = { .ctx = w,
                           .page = job->next == NULL ? NULL : kwr_write_pages_ask,
                           .changed = job->with_deltas ? kwr_write_deltas_since : NULL,
                           .image = take_image,
                           .err = &w->err };
    KWR_TRY(kwr_write_begin(w));
    for (;;) {
        KWR_TRY(kwr_write_check_running(job, &w->err));
        const uint32_t i = __atomic_fetch_add(&job->next_group, 1, __ATOMIC_RELAXED);
        if (i >= view->key_groups.count) break;
        const uint32_t key_group = view->key_groups.first + i;
        KWR_TRY(job->target->form == KWR_SNAPSHOT_CANONICAL
                    ? kwr_canonical_images(view, key_group, &sink)
                    : view->ops->view_images(view->engine_view, key_group, &sink));
        KWR_TRY(kwr_write_deltas_flush(w));
        if (job->target->last_use && view->ops->view_pass != NULL)
            view->ops->view_pass(view->engine_view, key_group);
    }
    KWR_TRY(finish_file(w));
    if (w->deltas == NULL || w->deltas->writer.images == 0) return KWR_OK;
    const kwr_status status = finish_file(w->deltas);
    if (status < KWR_OK) w->err = w->deltas->err;
    return status;
}

static void run_worker(void *ctx) {
    kwr_write_unit *w = ctx;
    w->status = write_groups(w);
    if (w->status < KWR_OK) __atomic_store_n(&w->job->stop, 1, __ATOMIC_RELAXED);
}

/* ---- all of them ---- */

static kwr_status write_images(kwr_write_job *job, kwr_error *err) {
    kwr_fan *workers = kwr_arena_array(job->arena, job->workers, sizeof *workers);
    if (workers == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a snapshot");
    for (size_t i = 0; i < job->workers; i++)
        workers[i].work = (kwr_work){ .run = run_worker, .ctx = &job->units[i] };
    kwr_fan_run(job->target->env, workers, job->workers);
    return KWR_OK;
}

/* The failure that came first in time is unknown; one that is not a mere consequence is told. */
static kwr_status first_failure(const kwr_write_job *job, kwr_error *err) {
    const kwr_write_unit *told = NULL;
    for (size_t i = 0; i < job->unit_count; i++) {
        const kwr_write_unit *w = &job->units[i];
        if (w->status >= KWR_OK) continue;
        if (told == NULL || (told->err.text[0] == '\0' && w->err.text[0] != '\0')) told = w;
    }
    if (told == NULL) return KWR_OK;
    if (told->err.text[0] == '\0')
        return KWR_FAIL(err, told->status, 0, "writing a snapshot of operator %s failed",
                        job->target->operator_id);
    if (err != NULL) {
        *err = told->err;
        err->status = told->status;
    }
    return told->status;
}

/* What stayed in memory: inline, or after all into files. */
static kwr_status finish_rest(kwr_write_job *job, kwr_error *err) {
    for (size_t i = 0; i < job->unit_count; i++) {
        kwr_write_unit *w = &job->units[i];
        if (w->finished || w->writer.images == 0) continue;
        kwr_status status = spilled(job) ? kwr_write_create_file(w) : KWR_OK;
        if (status >= KWR_OK) status = kwr_data_writer_finish(&w->writer, &w->file, &w->err);
        if (status < KWR_OK) {
            if (err != NULL) *err = w->err;
            return status;
        }
        w->finished = true;
    }
    return KWR_OK;
}

/* Names of files and directories durable, whoever made the directories. */
static kwr_status sync_names(const kwr_write_job *job, kwr_error *err) {
    kwr_storage *storage = job->target->storage;
    if (KWR_PLANTED(shared_unsynced)) return KWR_OK;
    KWR_TRY(storage->ops->dir_sync(storage, job->dirs.shared, err));
    KWR_TRY(storage->ops->dir_sync(storage, job->dirs.root, err));
    return storage->ops->dir_sync(storage, NULL, err);
}

static void remove_files(kwr_write_job *job) {
    kwr_storage *storage = job->target->storage;
    for (size_t i = 0; i < job->unit_count; i++) {
        kwr_write_unit *w = &job->units[i];
        const bool unfinished = w->writer.file != NULL;
        kwr_data_writer_done(&w->writer);
        if (!w->created || unfinished) continue;
        kwr_error err = { 0 };
        const kwr_status status = storage->ops->remove(storage, job->dirs.shared, w->name, &err);
        if (status < KWR_OK && status != KWR_ERR_MISSING)
            kwr_log_line(job->target->env, KWR_LOG_WARNING, "snapshot", "leftover stays: %s",
                         err.text);
    }
}

/* ---- preparation ---- */

static kwr_status check_target(const kwr_snapshot_target *target, kwr_error *err) {
    if (target->env == NULL || target->storage == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_snapshot_write: env or storage is NULL");
    if (target->job == NULL || !kwr_name_ok(target->job, KWR_JOB_NAME_MAX, false))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "kwr_snapshot_target.job is not a job name");
    if (target->operator_id == NULL || !kwr_name_ok(target->operator_id, KWR_JOB_NAME_MAX, true))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_snapshot_target.operator_id is not 1 to %d of A-Z a-z 0-9 . _ -",
                        KWR_JOB_NAME_MAX);
    if (target->subtask >= KWR_MAX_PARALLELISM_LIMIT)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "kwr_snapshot_target.subtask is %u, the limit %d",
                        target->subtask, KWR_MAX_PARALLELISM_LIMIT);
    if (target->form != KWR_SNAPSHOT_NATIVE && target->form != KWR_SNAPSHOT_CANONICAL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "kwr_snapshot_target.form is %d, which is unknown",
                        (int)target->form);
    if (target->lineage != NULL &&
        !kwr_lineage_is_of(target->lineage, target->job_uid, target->operator_id))
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "kwr_snapshot_target.lineage is of another job or operator than %s",
                        target->operator_id);
    return KWR_OK;
}

/* Once: an engine may have to read all there is. */
static kwr_status count_states(kwr_write_job *job, kwr_error *err) {
    const kwr_view *view = job->view;
    job->counts = kwr_arena_array(job->arena, view->table->count, sizeof *job->counts);
    if (job->counts == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a snapshot");
    for (size_t i = 0; i < view->table->count; i++) {
        const kwr_state_info *info = &view->table->states[i];
        const kwr_status status =
            view->ops->view_count(view->engine_view, info->id, &job->counts[i]);
        if (status < KWR_OK)
            return KWR_FAIL(err, status, 0,
                            "state '%s' of operator %s cannot be counted: the engine '%s' gave %s",
                            info->name, job->target->operator_id, view->ops->name,
                            kwr_status_name(status));
    }
    return KWR_OK;
}

static size_t choose_workers(const kwr_write_job *job) {
    const kwr_view *view = job->view;
    uint64_t bytes = 0;
    for (size_t i = 0; i < view->table->count; i++)
        bytes += job->counts[i].entry_bytes;
    uint64_t units = 1 + bytes / BYTES_PER_WORKER;
    if (units > view->key_groups.count) units = view->key_groups.count;
    return kwr_fan_size(job->target->env, job->target->threads, units == 0 ? 1 : units);
}

static kwr_status prepare(kwr_write_job *job, kwr_error *err) {
    const kwr_snapshot_target *target = job->target;
    const kwr_view *view = job->view;
    KWR_TRY(kwr_limits_complete(target->limits, &job->limits, err));
    job->header = (kwr_data_header){
        .generation = target->generation,
        .checkpoint = target->checkpoint,
        .subtask = target->subtask,
        .max_parallelism = view->max_parallelism,
        .operator_digest = kwr_digest_of(target->operator_id, strlen(target->operator_id)),
        .seed = view->seed,
    };
    memcpy(job->header.job_uid, target->job_uid, sizeof job->header.job_uid);
    job->inline_max = target->inline_bytes;
    if (job->inline_max > job->limits.message_bytes_max / 2)
        job->inline_max = job->limits.message_bytes_max / 2;
    job->spilled = job->inline_max == 0;
    job->sequence = target->sequence;
    job->arena = kwr_arena_new(target->env, 0);
    if (job->arena == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a snapshot");
    /* Made by whoever claimed the job; here only for hosts that use this part alone. */
    kwr_status status =
        kwr_job_dirs_open(target->env, target->storage, target->job, false, &job->dirs, err);
    if (status >= KWR_OK && job->dirs.shared == NULL) {
        kwr_job_dirs_close(&job->dirs);
        status = KWR_ERR_MISSING;
    }
    if (status == KWR_ERR_MISSING)
        status =
            kwr_job_dirs_open(target->env, target->storage, target->job, true, &job->dirs, err);
    return status;
}

kwr_status kwr_write_make_units(kwr_write_job *job, size_t count, kwr_error *err) {
    kwr_write_unit *units = kwr_arena_array(job->arena, count, sizeof *units);
    if (units == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a snapshot");
    for (size_t i = 0; i < count; i++) {
        units[i].job = job;
        units[i].writer.bytes.env = units[i].writer.index.env = job->target->env;
        units[i].batch.env = job->target->env;
    }
    job->units = units;
    job->unit_count = count;
    return KWR_OK;
}

static bool has_files(const kwr_view *view) {
    return view->ops->view_directory != NULL && view->ops->files != NULL &&
           view->ops->view_directory(view->engine_view) != NULL;
}

static kwr_status write_all(kwr_write_job *job, kwr_snapshot_result *out, kwr_error *err) {
    KWR_TRY(prepare(job, err));
    if (job->target->form == KWR_SNAPSHOT_CANONICAL) job->format = KWR_CANONICAL_FORMAT;
    if (job->format == NULL && has_files(job->view)) {
        KWR_TRY(kwr_write_files(job, err));
    } else {
        KWR_TRY(count_states(job, err));
        const bool increments = job->format == NULL && job->target->lineage != NULL &&
                                job->view->ops->view_epoch != NULL;
        job->workers = choose_workers(job);
        KWR_TRY(kwr_write_make_units(job, job->workers * (increments ? 2 : 1), err));
        if (job->format == NULL) KWR_TRY(kwr_write_pages_begin(job, err));
        KWR_TRY(write_images(job, err));
    }
    KWR_TRY(first_failure(job, err));
    KWR_TRY(finish_rest(job, err));
    bool created = false;
    for (size_t i = 0; i < job->unit_count; i++)
        created = created || job->units[i].created;
    if (created) KWR_TRY(sync_names(job, err));
    return kwr_write_handle(job, out, err);
}

kwr_status kwr_snapshot_write(kwr_view *view, const kwr_snapshot_target *options,
                              const kwr_cancel *cancel, kwr_snapshot_result *out, kwr_error *err) {
    kwr_snapshot_target target;
    if (view == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_snapshot_write: an argument is NULL");
    KWR_TRY(kwr_options_copy(options, &target, sizeof target, "kwr_snapshot_target", err));
    KWR_TRY(check_target(&target, err));
    KWR_TRY(kwr_view_use(view, target.last_use, err));
    kwr_view_enter(view);
    kwr_write_job job = { .view = view, .target = &target, .cancel = cancel };
    const kwr_status status = write_all(&job, out, err);
    if (status < KWR_OK)
        remove_files(&job);
    else
        for (size_t i = 0; i < job.unit_count; i++)
            kwr_data_writer_done(&job.units[i].writer);
    for (size_t i = 0; i < job.unit_count; i++)
        kwr_buffer_free(&job.units[i].batch);
    kwr_lineage_set_release(job.set);
    kwr_write_pages_end(&job);
    kwr_job_dirs_close(&job.dirs);
    if (job.arena != NULL) kwr_arena_free(job.arena);
    kwr_view_leave(view);
    return status < KWR_OK ? status : KWR_OK;
}
