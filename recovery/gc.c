/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing what no checkpoint needs. What attempts below the newest left can be removed at any
 * time: they are fenced, nothing they do is ever completed. What the newest left may be needed by a
 * checkpoint it is about to complete; it goes only on the caller's word that the attempt has ended,
 * and behind a fence of our own, so that the word need not be true for the data to be safe.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "keyweir/fsck.h"
#include "snapshot/census.h"
#include "snapshot/jobs.h"
#include "snapshot/storage.h"

typedef struct gc_job {
    const kwr_gc_options *options;
    kwr_limits limits;
    kwr_gc_result *result;
    kwr_job_dirs dirs;
    kwr_storage_lock *lock;
    kwr_census census;
    kwr_log log;
    kwr_manifest **manifests;
    size_t manifest_count, manifest_capacity;
    kwr_census_needs needs;
    kwr_buffer unfinished; /* path, NUL, token, NUL of files without an end */
    kwr_status unlisted;   /* a failure: they are not known */
    kwr_error why_unlisted;
    uint64_t newest; /* what attempts below left may go */
} gc_job;

/* ---- knowing what is needed ---- */

static kwr_status lock_job(gc_job *job, kwr_error *err) {
    kwr_storage *storage = job->dirs.storage;
    if (!job->options->remove || (storage->ops->capabilities(storage) & KWR_STORAGE_LOCKS) == 0)
        return KWR_OK;
    const kwr_status status =
        storage->ops->lock(storage, job->dirs.root, KWR_JOB_LOCK_NAME, &job->lock, err);
    if (status == KWR_ERR_LOCKED)
        kwr_error_prefix(err,
                         "job '%s' is running, nothing was removed (its next start removes what "
                         "earlier attempts left)",
                         job->dirs.job);
    return status;
}

static kwr_status read_log(gc_job *job, kwr_error *err) {
    kwr_log_free(&job->log);
    job->log = (kwr_log){ .env = job->dirs.env };
    if (job->dirs.log == NULL) return KWR_OK;
    const kwr_status status = kwr_log_read(&job->dirs, &job->limits, &job->log, err);
    if (status < KWR_OK)
        kwr_error_prefix(err, "job '%s': nothing was removed, its commit log cannot be read",
                         job->dirs.job);
    return status;
}

/* So that a living attempt is told at its next publish, whatever it still does. */
static kwr_status publish_fence(gc_job *job, kwr_error *err) {
    const kwr_env *env = job->dirs.env;
    kwr_slot fence = { .kind = KWR_SLOT_FENCE, .time_ms = env->clock->wall_ms(env->clock->ctx) };
    if (job->log.count == 0) return KWR_OK;
    const kwr_slot *top = &job->log.slots[job->log.count - 1];
    if (top->number == UINT64_MAX || top->generation == UINT64_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "job '%s': no slot or generation is left for a fence", job->dirs.job);
    kwr_log_continue(&job->log, &fence);
    fence.generation++;
    kwr_status status = job->dirs.storage->ops->dir_sync(job->dirs.storage, job->dirs.log, err);
    if (status >= KWR_OK) status = kwr_log_publish(&job->dirs, &fence, err);
    if (status == KWR_ERR_EXISTS)
        return KWR_FAIL(err, KWR_ERR_LOCKED, 0,
                        "job '%s' is running: it took the next slot of the log just now; nothing "
                        "was removed",
                        job->dirs.job);
    if (status < KWR_OK) {
        kwr_error_prefix(err, "job '%s': nothing was removed, no fence could be published",
                         job->dirs.job);
        return status;
    }
    return read_log(job, err);
}

static kwr_status read_manifests(gc_job *job, kwr_error *err) {
    const size_t count = job->log.count;
    job->manifests = kwr_alloc_array(job->dirs.env, count, sizeof *job->manifests);
    job->manifest_capacity = job->manifests == NULL ? 0 : count;
    if (job->manifests == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the manifests of job '%s'",
                        job->dirs.job);
    for (size_t i = 0; i < count; i++) {
        const kwr_slot *slot = &job->log.slots[i];
        kwr_manifest *manifest = NULL;
        if (slot->kind != KWR_SLOT_CHECKPOINT) continue;
        const kwr_status status =
            kwr_checkpoint_open(&job->dirs, &job->limits, slot, &manifest, err);
        if (status < KWR_OK) {
            kwr_error_prefix(err,
                             "job '%s': nothing was removed, a checkpoint cannot be read (see "
                             "keyweir fsck)",
                             job->dirs.job);
            return status;
        }
        job->manifests[job->manifest_count++] = manifest;
        if (kwr_census_need(&job->needs, manifest) < KWR_OK)
            return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the files of job '%s'",
                            job->dirs.job);
    }
    return KWR_OK;
}

/* Files that the log cannot explain: it has lost slots, and nobody knows what is needed. */
static kwr_status check_whole(const gc_job *job, kwr_error *err) {
    for (size_t i = 0; i < job->census.count; i++) {
        const kwr_census_name *name = job->census.names[i];
        if (name->kind != KWR_FSCK_MISSING) continue;
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "job '%s': nothing was removed: %s was made by an attempt its commit log "
                        "has never heard of: slots of the log are missing; put them back from a "
                        "copy",
                        job->dirs.job, name->name);
    }
    return KWR_OK;
}

static kwr_status on_unfinished(void *ctx, const char *path, const char *token) {
    gc_job *job = ctx;
    kwr_buffer_append(&job->unfinished, path, strlen(path) + 1);
    kwr_buffer_append(&job->unfinished, token, strlen(token) + 1);
    return job->unfinished.failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status survey(gc_job *job, kwr_error *err) {
    KWR_TRY(lock_job(job, err));
    if (job->options->remove && job->options->attempt_ended) {
        KWR_TRY(read_log(job, err));
        KWR_TRY(publish_fence(job, err));
    }
    KWR_TRY(kwr_census_take(&job->dirs, &job->census, err));
    /* Stores allow that apart from all else, or do not know it: files are collected without. */
    job->unlisted = kwr_storage_unfinished(job->dirs.storage, job->dirs.root, on_unfinished, job,
                                           &job->why_unlisted);
    if (job->unlisted == KWR_ERR_NOMEM)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the files of job '%s'",
                        job->dirs.job);
    KWR_TRY(read_log(job, err));
    KWR_TRY(read_manifests(job, err));
    uint64_t newest = job->log.count == 0 ? 0 : job->log.slots[job->log.count - 1].generation;
    /* What a fence would do. */
    if (!job->options->remove && job->options->attempt_ended && newest < UINT64_MAX) newest++;
    job->newest = newest;
    kwr_census_judge(&job->census, &job->log, &job->needs, newest);
    return check_whole(job, err);
}

/* ---- removing ---- */

static kwr_status remove_in_checkpoint(gc_job *job, const kwr_census_name *name, kwr_error *err) {
    kwr_storage *storage = job->dirs.storage;
    kwr_storage_dir *dir = NULL;
    char of[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(name->checkpoint, name->generation, of);
    KWR_TRY(storage->ops->dir_open(storage, job->dirs.root, of, false, &dir, err));
    const kwr_status status = storage->ops->remove(storage, dir, name->name, err);
    storage->ops->dir_close(storage, dir);
    return status;
}

/* KWR_ERR_MISSING: somebody else was faster. */
static kwr_status remove_name(gc_job *job, const kwr_census_name *name, kwr_error *err) {
    kwr_storage *storage = job->dirs.storage;
    switch (name->place) {
    case KWR_CENSUS_LOG: return storage->ops->remove(storage, job->dirs.log, name->name, err);
    case KWR_CENSUS_ROOT:
        if (!name->temporary)
            return kwr_checkpoint_remove(&job->dirs, name->checkpoint, name->generation, err);
        return storage->ops->remove(storage, job->dirs.root, name->name, err);
    case KWR_CENSUS_CHECKPOINT: return remove_in_checkpoint(job, name, err);
    case KWR_CENSUS_SHARED: return storage->ops->remove(storage, job->dirs.shared, name->name, err);
    }
    return KWR_OK;
}

static void tell(const gc_job *job, const kwr_census_name *name, uint64_t size, kwr_status status,
                 const char *what, const char *why) {
    if (job->options->found == NULL) return;
    char file[2 * KWR_FILE_NAME_MAX], text[KWR_ERROR_TEXT_MAX + 256];
    kwr_census_path(name, file, sizeof file);
    snprintf(text, sizeof text, "job '%s': %s: %s%s%s", job->dirs.job, file, what,
             why[0] == '\0' ? "" : ": ", why);
    const kwr_fsck_finding finding = { .struct_size = sizeof finding,
                                       .kind = name->kind,
                                       .status = status,
                                       .job = job->dirs.job,
                                       .file = file,
                                       .size = size,
                                       .text = text };
    job->options->found(job->options->ctx, &finding);
}

/* The slots that refer to it are durably gone before what they referred to is removed. */
static kwr_status sync_log(gc_job *job, bool *unsynced, kwr_error *err) {
    if (!*unsynced) return KWR_OK;
    *unsynced = false;
    return job->dirs.storage->ops->dir_sync(job->dirs.storage, job->dirs.log, err);
}

static kwr_status collect(gc_job *job, const kwr_census_name *name, bool *unsynced,
                          kwr_error *err) {
    kwr_gc_result *result = job->result;
    kwr_error why = { 0 };
    const uint64_t size = kwr_census_size(&job->dirs, &job->census, name);
    result->leftovers++;
    result->leftover_bytes += size;
    if (!job->options->remove) {
        tell(job, name, size, KWR_OK, "would be removed", "");
        return KWR_OK;
    }
    if (name->place == KWR_CENSUS_LOG)
        *unsynced = true;
    else
        KWR_TRY(sync_log(job, unsynced, err));
    kwr_status status = remove_name(job, name, &why);
    if (status == KWR_ERR_MISSING) status = KWR_OK;
    if (status < KWR_OK) {
        result->failed++;
        tell(job, name, size, status, "could not be removed", why.text);
        return KWR_OK;
    }
    result->removed++;
    result->removed_bytes += size;
    tell(job, name, size, KWR_OK, "removed", "");
    return KWR_OK;
}

/* What is ours in a directory goes, or stays, with it. */
static bool goes_with(const kwr_census_name *name, const kwr_census_name *directory) {
    return directory != NULL && name->place == KWR_CENSUS_CHECKPOINT && name->ours &&
           name->checkpoint == directory->checkpoint && name->generation == directory->generation &&
           (int)directory->kind != 0;
}

static kwr_status sweep(gc_job *job, kwr_error *err) {
    const kwr_census_name *directory = NULL;
    bool unsynced = false;
    for (size_t i = 0; i < job->census.count; i++) {
        const kwr_census_name *name = job->census.names[i];
        if (name->place == KWR_CENSUS_ROOT && name->ours) directory = name;
        if ((int)name->kind == 0 || goes_with(name, directory)) continue;
        switch (name->kind) {
        case KWR_FSCK_LEFTOVER: KWR_TRY(collect(job, name, &unsynced, err)); break;
        case KWR_FSCK_IN_PROGRESS:
            job->result->in_progress++;
            tell(job, name, kwr_census_size(&job->dirs, &job->census, name), KWR_OK,
                 "left alone: of the newest attempt, which may run (--ended says that it does not)",
                 "");
            break;
        case KWR_FSCK_FOREIGN:
            job->result->foreign++;
            tell(job, name, 0, KWR_OK, "left alone: not a name of keyweir's", "");
            break;
        case KWR_FSCK_DAMAGED:
        case KWR_FSCK_MISSING:
        case KWR_FSCK_UNREADABLE:
        case KWR_FSCK_NEWER: break;
        }
    }
    return sync_log(job, &unsynced, err);
}

/* ---- files without an end ---- */

/* The attempt that began it; 0: the path is none of ours. */
static uint64_t begun_by(const char *path) {
    uint64_t generation = 0, number = 0;
    uint32_t subtask = 0;
    char part[KWR_FILE_NAME_MAX], operator_id[KWR_JOB_NAME_MAX + 1];
    const char *slash = strchr(path, '/');
    if (slash == NULL || strchr(slash + 1, '/') != NULL || slash - path >= KWR_FILE_NAME_MAX)
        return 0;
    snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
    if (strcmp(part, "shared") == 0)
        return kwr_shared_name_parse(slash + 1, &generation, operator_id, &subtask, &number)
                   ? generation
                   : 0;
    return kwr_checkpoint_dir_parse(part, &number, &generation) ? generation : 0;
}

static void tell_unfinished(const gc_job *job, const char *path, kwr_fsck_kind kind,
                            kwr_status status, const char *what, const char *why) {
    if (job->options->found == NULL) return;
    char text[KWR_ERROR_TEXT_MAX + 1024];
    snprintf(text, sizeof text, "job '%s': %.400s, which was begun and never ended: %s%s%s",
             job->dirs.job, path, what, why[0] == '\0' ? "" : ": ", why);
    const kwr_fsck_finding finding = { .struct_size = sizeof finding,
                                       .kind = kind,
                                       .status = status,
                                       .job = job->dirs.job,
                                       .file = path,
                                       .text = text };
    job->options->found(job->options->ctx, &finding);
}

/* No checkpoint can need one: its name is in a manifest only after its end. But an attempt that
 * lives may be about to end it. */
static void collect_unfinished(gc_job *job, const char *path, const char *token) {
    kwr_gc_result *result = job->result;
    const uint64_t generation = begun_by(path);
    if (generation == 0) {
        result->foreign++;
        tell_unfinished(job, path, KWR_FSCK_FOREIGN, KWR_OK, "left alone: not a name of keyweir's",
                        "");
        return;
    }
    if (generation >= job->newest) {
        result->in_progress++;
        tell_unfinished(
            job, path, KWR_FSCK_IN_PROGRESS, KWR_OK,
            "left alone: of the newest attempt, which may run (--ended says that it does not)", "");
        return;
    }
    result->leftovers++;
    if (!job->options->remove) {
        tell_unfinished(job, path, KWR_FSCK_LEFTOVER, KWR_OK, "would be removed", "");
        return;
    }
    kwr_error why = { 0 };
    kwr_status status =
        kwr_storage_unfinished_remove(job->dirs.storage, job->dirs.root, path, token, &why);
    if (status == KWR_ERR_MISSING) status = KWR_OK;
    result->failed += status < KWR_OK;
    result->removed += status >= KWR_OK;
    tell_unfinished(job, path, KWR_FSCK_LEFTOVER, status,
                    status < KWR_OK ? "could not be removed" : "removed", why.text);
}

static void tell_unlisted(gc_job *job) {
    char text[KWR_ERROR_TEXT_MAX + 256];
    job->result->failed++;
    if (job->options->found == NULL) return;
    snprintf(text, sizeof text,
             "job '%s': what was begun and never ended is not known and stays: %s", job->dirs.job,
             job->why_unlisted.text);
    const kwr_fsck_finding finding = { .struct_size = sizeof finding,
                                       .kind = KWR_FSCK_UNREADABLE,
                                       .status = job->unlisted,
                                       .job = job->dirs.job,
                                       .file = "shared/",
                                       .text = text };
    job->options->found(job->options->ctx, &finding);
}

static void sweep_unfinished(gc_job *job) {
    if (job->unlisted < KWR_OK) tell_unlisted(job);
    for (size_t at = 0; at < job->unfinished.size;) {
        const char *path = (const char *)job->unfinished.data + at;
        const char *token = path + strlen(path) + 1;
        at += (size_t)(token - path) + strlen(token) + 1;
        collect_unfinished(job, path, token);
    }
}

/* ---- jobs ---- */

static kwr_status collect_job(const kwr_gc_options *options, const kwr_limits *limits,
                              const char *name, kwr_gc_result *result, kwr_error *err) {
    const kwr_env *env = options->env;
    gc_job job = { .options = options,
                   .limits = *limits,
                   .result = result,
                   .log = { .env = env },
                   .needs = { .env = env },
                   .unfinished = { .env = env } };
    KWR_TRY(kwr_job_dirs_open(env, options->storage, name, false, &job.dirs, err));
    kwr_status status = survey(&job, err);
    if (status >= KWR_OK) {
        result->jobs++;
        status = sweep(&job, err);
        if (status >= KWR_OK) sweep_unfinished(&job);
    }
    kwr_buffer_free(&job.unfinished);
    kwr_census_needs_free(&job.needs);
    kwr_census_free(&job.census);
    for (size_t i = 0; i < job.manifest_count; i++)
        kwr_manifest_free(job.manifests[i]);
    kwr_free(env, job.manifests, job.manifest_capacity * sizeof *job.manifests);
    kwr_log_free(&job.log);
    if (job.lock != NULL) options->storage->ops->unlock(options->storage, job.lock);
    kwr_job_dirs_close(&job.dirs);
    return status;
}

typedef struct every_job {
    const kwr_gc_options *options;
    const kwr_limits *limits;
    kwr_gc_result *result;
    kwr_status first; /* failure */
    kwr_error why;
} every_job;

/* The trouble of one job is not another's. */
static kwr_status on_job(void *ctx, const char *name, bool is_job, kwr_error *err) {
    every_job *all = ctx;
    kwr_error why = { 0 };
    (void)err;
    if (!is_job) {
        all->result->foreign++;
        return KWR_OK;
    }
    const kwr_status status = collect_job(all->options, all->limits, name, all->result, &why);
    if (status >= KWR_OK) return KWR_OK;
    kwr_log_line(all->options->env, KWR_LOG_WARNING, "recovery", "%s", why.text);
    if (all->first < KWR_OK) return KWR_OK;
    all->first = status;
    all->why = why;
    return KWR_OK;
}

static kwr_status collect_all(const kwr_gc_options *options, const kwr_limits *limits,
                              kwr_gc_result *result, kwr_error *err) {
    every_job all = { .options = options, .limits = limits, .result = result };
    KWR_TRY(kwr_jobs_each(options->env, options->storage, on_job, &all, err));
    if (all.first < KWR_OK && err != NULL) *err = all.why;
    return all.first;
}

kwr_status kwr_gc(const kwr_gc_options *options, kwr_gc_result *out, kwr_error *err) {
    kwr_gc_options o;
    kwr_limits limits;
    kwr_gc_result result = { 0 };
    if (options == NULL || out == NULL || out->struct_size < sizeof out->struct_size)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "kwr_gc: an argument is NULL, or out->struct_size not set");
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_gc_options", err));
    if (o.env == NULL || o.storage == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_gc: env or storage is NULL");
    KWR_TRY(kwr_limits_complete(o.limits, &limits, err));
    const kwr_status status = o.job != NULL ? collect_job(&o, &limits, o.job, &result, err)
                                            : collect_all(&o, &limits, &result, err);
    /* Also after a failure: what was done before it is done. */
    result.struct_size = out->struct_size;
    memcpy(out, &result, result.struct_size < sizeof result ? result.struct_size : sizeof result);
    return status;
}
