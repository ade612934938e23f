/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend from what was written: the images of owned key groups are chosen by the indexes, and
 * every byte that is used is verified before it is. Nothing foreign is read, so restoring another
 * range of key groups costs what that range holds.
 */
#include <string.h>

#include "backend/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "keyweir/snapshot.h"
#include "snapshot/restore_job.h"

/* Asked for, and possible; where it is not, everything is loaded at once. */
static bool choose_lazy(const kwr_restore_job *job) {
    const char *why = NULL;
    if (job->options->loading != KWR_LOADING_LAZY) return false;
    if (kwr_restore_can_be_lazy(job, &why)) return true;
    kwr_log_line(job->env, KWR_LOG_INFO, "snapshot", "restored at once instead of lazily: %s", why);
    return false;
}

/* The engine owns the job afterwards. */
static kwr_status fill_lazily(kwr_restore_job *job, kwr_error *err) {
    const kwr_backend_options *options = job->options;
    kwr_page_source source = { 0 };
    const kwr_page_loading loading = {
        .share = options->load_share == 0                     ? KWR_LOAD_SHARE_DEFAULT
                 : options->load_share == KWR_LOAD_SHARE_NONE ? 0
                                                              : options->load_share,
        .wake = options->load_wake,
        .wake_ctx = options->load_wake_ctx,
    };
    KWR_TRY(kwr_restore_source_new(job, &source, err));
    return job->ops->restore_lazy(job->engine, options->seed, &source, &loading, err);
}

static kwr_status fill_backend(kwr_restore_job *job, kwr_backend *backend, kwr_error *err) {
    job->backend = backend;
    job->engine = kwr_backend_engine(backend, &job->ops);
    if (job->adopts) return kwr_restore_adopt(job, err);
    if (job->lazy) return fill_lazily(job, err);
    kwr_status status = job->ops->restore_begin(job->engine, job->options->seed);
    if (status < KWR_OK)
        return KWR_FAIL(err, status, 0, "engine '%s' cannot begin a restore", job->ops->name);
    KWR_TRY(kwr_restore_load(job, err));
    KWR_TRY(job->ops->restore_end(job->engine, err));
    return kwr_restore_load_foreign(job, err);
}

static kwr_status restore(kwr_restore_job *job, const char *name, const kwr_slice *handles,
                          size_t handle_count, kwr_backend **out, kwr_error *err) {
    const kwr_backend_options *options = job->options;
    KWR_TRY(kwr_limits_complete(&options->limits, &job->limits, err));
    job->max_parallelism =
        options->max_parallelism == 0 ? KWR_MAX_PARALLELISM_DEFAULT : options->max_parallelism;
    job->owned = options->key_groups;
    if (job->owned.count == 0)
        job->owned = (kwr_key_group_range){ .first = 0, .count = job->max_parallelism };
    if (job->max_parallelism > KWR_MAX_PARALLELISM_LIMIT ||
        job->owned.first > job->max_parallelism ||
        job->owned.count > job->max_parallelism - job->owned.first)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the key groups to restore are out of range");
    const char *engine = options->engine == NULL ? "memory" : options->engine;
    job->ops = kwr_engine_find(engine);
    if (job->ops == NULL)
        return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "there is no engine '%s'", engine);
    job->arena = kwr_arena_new(job->env, 0);
    if (job->arena == NULL) return kwr_restore_no_memory(err);
    KWR_TRY(kwr_restore_handles(job, handles, handle_count, err));
    KWR_TRY(kwr_restore_states(job, err));
    const kwr_status status =
        kwr_job_dirs_open(job->env, job->storage, name, false, &job->dirs, err);
    if (status < KWR_OK && status != KWR_ERR_MISSING) return status;
    KWR_TRY(kwr_restore_open_files(job, err));
    KWR_TRY(kwr_restore_choose_adoption(job, err));
    job->lazy = choose_lazy(job);
    KWR_TRY(kwr_restore_read_deltas(job, err));
    KWR_TRY(kwr_restore_begin_set(job, err));
    kwr_backend *backend = NULL;
    KWR_TRY(
        kwr_backend_open_with(options, job->states, job->state_count, job->adopts, &backend, err));
    const kwr_status filled = fill_backend(job, backend, err);
    if (filled < KWR_OK) {
        kwr_backend_close(backend);
        return filled;
    }
    job->given = job->lazy;
    if (job->set != NULL)
        kwr_lineage_restored(job->lineage,
                             job->lazy ? kwr_lineage_set_retain(job->set) : KWR_TAKE(job->set));
    *out = backend;
    return KWR_OK;
}

void kwr_restore_job_free(kwr_restore_job *job) {
    const kwr_env *env = job->env;
    if (job->set != NULL) kwr_lineage_set_loaded(job->set);
    kwr_lineage_set_release(job->set);
    kwr_free(env, job->places, job->place_count * sizeof *job->places);
    for (size_t i = 0; i < job->file_count; i++)
        if (job->files != NULL) kwr_data_file_close(&job->files[i]);
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_restore_source *s = &job->sources[i];
        if (s->inline_dir != NULL) {
            job->storage->ops->close_reader(job->storage, s->inline_reader);
            job->storage->ops->dir_close(job->storage, s->inline_dir);
        }
        kwr_subtask_part_free(s->part);
    }
    kwr_page_deltas_free(job->deltas);
    kwr_delta_files_free(job->delta_files);
    kwr_free(job->env, job->runs, job->run_capacity * sizeof *job->runs);
    kwr_job_dirs_close(&job->dirs);
    if (job->arena != NULL) kwr_arena_free(job->arena);
    kwr_free(env, job, sizeof *job);
}

kwr_status kwr_snapshot_resume(const kwr_backend_options *options, kwr_storage *storage,
                               const char *job_name, const kwr_slice *handles, size_t handle_count,
                               kwr_lineage *lineage, kwr_backend **out, kwr_error *err) {
    kwr_backend_options complete;
    KWR_TRY(kwr_options_copy(options, &complete, sizeof complete, "kwr_backend_options", err));
    if (complete.env == NULL || storage == NULL || job_name == NULL || out == NULL ||
        (handles == NULL && handle_count > 0))
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_snapshot_restore: an argument is NULL");
    if (complete.loading != KWR_LOADING_EAGER && complete.loading != KWR_LOADING_LAZY)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_backend_options.loading is %d, which is unknown",
                        (int)complete.loading);
    if (complete.load_share > 100 && complete.load_share != KWR_LOAD_SHARE_NONE)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_backend_options.load_share is %u percent: 1 to 100, or "
                        "KWR_LOAD_SHARE_NONE",
                        complete.load_share);
    kwr_restore_job *job = kwr_calloc(complete.env, sizeof *job);
    if (job == NULL) return kwr_restore_no_memory(err);
    job->env = complete.env;
    job->storage = storage;
    job->options = &complete;
    job->lineage = lineage;
    const kwr_status status = restore(job, job_name, handles, handle_count, out, err);
    job->options = NULL;
    /* Of a lazy restore it is the engine's. */
    if (!job->given) kwr_restore_job_free(job);
    return status < KWR_OK ? status : KWR_OK;
}

kwr_status kwr_snapshot_restore(const kwr_backend_options *options, kwr_storage *storage,
                                const char *job_name, const kwr_slice *handles, size_t handle_count,
                                kwr_backend **out, kwr_error *err) {
    return kwr_snapshot_resume(options, storage, job_name, handles, handle_count, NULL, out, err);
}
