/* SPDX-License-Identifier: Apache-2.0 */
/* A job's attempt from claim to close: options, lock, fence, and what was found in the log. */
#include "task/job.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/name.h"

static void job_free(kwr_job *job) {
    const kwr_env *env = job->env;
    if (job->posted) env->executor->wait(env->executor->ctx, &job->work);
    kwr_coordinator_free(job->coordinator);
    kwr_retention_free(job->retention);
    kwr_job_plan_free(job);
    kwr_free(env, job->notes, job->note_capacity * sizeof *job->notes);
    if (job->claimed) kwr_claim_done(&job->claim);
    if (job->lock != NULL) job->storage->ops->unlock(job->storage, job->lock);
    if (job->dirs_open) kwr_job_dirs_close(&job->dirs);
    kwr_free(env, job, sizeof *job);
}
KWR_DEFINE_CLEANUP(kwr_job, job_free)

static kwr_status options_check(const kwr_job_options *o, kwr_error *err) {
    if (o->env == NULL || o->storage == NULL || o->name == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "a job needs env, storage and name");
    if (!kwr_name_ok(o->name, KWR_JOB_NAME_BYTES_MAX, false))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "job name: use 1 to %d of [A-Za-z0-9_.-], not starting with '.'",
                        KWR_JOB_NAME_BYTES_MAX);
    if (o->max_parallelism > KWR_MAX_PARALLELISM_LIMIT)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "max_parallelism %u: at most %d", o->max_parallelism,
                        KWR_MAX_PARALLELISM_LIMIT);
    if (o->interval_ms > UINT64_MAX / 1000000 || o->min_pause_ms > UINT64_MAX / 1000000 ||
        o->timeout_ms > UINT64_MAX / 1000000)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "interval, pause or timeout is too long");
    switch (o->restore) {
    case KWR_RESTORE_NEWEST:
    case KWR_RESTORE_NONE: return KWR_OK;
    case KWR_RESTORE_CHECKPOINT:
        if (o->restore_checkpoint != 0) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "restore_checkpoint: ids start at 1");
    }
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "restore mode %d is not known", (int)o->restore);
}

static kwr_status job_lock(kwr_job *job, kwr_error *err) {
    const kwr_storage_ops *ops = job->storage->ops;
    if (job->options.lock_off || (ops->capabilities(job->storage) & KWR_STORAGE_LOCKS) == 0)
        return KWR_OK;
    const kwr_status status =
        ops->lock(job->storage, job->dirs.root, KWR_JOB_LOCK_NAME, &job->lock, err);
    if (status == KWR_ERR_LOCKED) kwr_error_prefix(err, "job '%s' is running", job->dirs.job);
    return status;
}

/* What was claimed decides max parallelism and seed; what the options say must fit. */
static kwr_status job_adopt(kwr_job *job, kwr_error *err) {
    const kwr_manifest *manifest = job->claim.restored ? job->claim.manifest : NULL;
    const kwr_job_options *o = &job->options;
    job->first_slot = job->claim.fence.number;
    job->next_slot = job->first_slot + 1;
    job->highest = kwr_log_highest(&job->claim.log);
    if (job->highest == UINT64_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "job '%s' has used up its checkpoint ids", o->name);
    if (manifest == NULL) {
        job->max_parallelism =
            o->max_parallelism != 0 ? o->max_parallelism : KWR_MAX_PARALLELISM_DEFAULT;
        job->engine_key_groups = o->engine_key_groups;
        job->seed = o->seed;
        if (o->seed_given) return KWR_OK;
        const kwr_random *random = job->env->random;
        const kwr_status status = random->bytes(random->ctx, &job->seed, sizeof job->seed);
        if (status < KWR_OK)
            return KWR_FAIL(err, status, 0, "no random bytes for the seed of job '%s'", o->name);
        return KWR_OK;
    }
    if (o->max_parallelism != 0 && o->max_parallelism != manifest->max_parallelism)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "checkpoint %llu of job '%s' has max parallelism %u, the options say %u: "
                        "the first checkpoint fixes it; use %u",
                        (unsigned long long)manifest->checkpoint, o->name,
                        manifest->max_parallelism, o->max_parallelism, manifest->max_parallelism);
    if (o->engine_key_groups != manifest->engine_key_groups)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "checkpoint %llu of job '%s' was taken with key groups assigned by %s; "
                        "engine_key_groups must stay as it was",
                        (unsigned long long)manifest->checkpoint, o->name,
                        manifest->engine_key_groups ? "the engine" : "the library");
    job->max_parallelism = manifest->max_parallelism;
    job->engine_key_groups = manifest->engine_key_groups;
    job->seed = manifest->seed;
    job->restored_checkpoint = job->parent_checkpoint = manifest->checkpoint;
    job->restored_generation = job->parent_generation = manifest->generation;
    job->restored_final = manifest->final;
    return KWR_OK;
}

kwr_status kwr_job_open(const kwr_job_options *options, kwr_job **out, kwr_error *err) {
    kwr_job_options o = { 0 };
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_job_options", err));
    KWR_TRY(options_check(&o, err));
    kwr_limits limits = { 0 };
    KWR_TRY(kwr_limits_complete(&o.limits, &limits, err));
    if (o.retain == 0) o.retain = 1;
    if (o.inline_bytes == 0) o.inline_bytes = KWR_INLINE_DEFAULT;
    if (o.inline_bytes == KWR_JOB_OPTIONS_INLINE_OFF) o.inline_bytes = 0;

    KWR_CLEANUP(job_free_p) kwr_job *job = kwr_calloc(o.env, sizeof *job);
    if (job == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a job");
    job->env = o.env;
    job->storage = o.storage;
    job->options = o;
    job->limits = limits;
    atomic_init(&job->done, false);
    /* One note is always possible: the one that says the attempt has failed. */
    if (!kwr_grow_array(o.env, (void **)&job->notes, &job->note_capacity, 16, sizeof *job->notes))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a job");
    KWR_TRY(kwr_job_dirs_open(o.env, o.storage, o.name, true, &job->dirs, err));
    job->dirs_open = true;
    job->options.name = job->dirs.job;
    KWR_TRY(job_lock(job, err));
    const kwr_claim_options claim = { .limits = &job->limits,
                                      .restore = o.restore,
                                      .restore_checkpoint = o.restore_checkpoint,
                                      .restore_generation = o.restore_generation };
    KWR_TRY(kwr_recovery_claim(&job->dirs, &claim, &job->claim, err));
    job->claimed = true;
    KWR_TRY(kwr_storage_local_copy_claim(o.storage, job->dirs.job, job->claim.fence.job_uid, err));
    KWR_TRY(job_adopt(job, err));
    kwr_log_line(job->env, KWR_LOG_INFO, "task",
                 "job '%s': generation %llu, slot %llu, restores checkpoint %llu", job->dirs.job,
                 (unsigned long long)job->claim.fence.generation,
                 (unsigned long long)job->first_slot, (unsigned long long)job->restored_checkpoint);
    *out = KWR_TAKE(job);
    return KWR_OK;
}

void kwr_job_close(kwr_job *job) {
    if (job != NULL) job_free(job);
}

void kwr_job_get_info(const kwr_job *job, kwr_job_info *info) {
    kwr_job_info full = { .struct_size = info->struct_size,
                          .generation = job->claim.fence.generation,
                          .slot = job->first_slot,
                          .restored_checkpoint = job->restored_checkpoint,
                          .restored_generation = job->restored_generation,
                          .highest_checkpoint = job->highest,
                          .restored_final = job->restored_final,
                          .max_parallelism = job->max_parallelism,
                          .seed = job->seed };
    memcpy(full.uid, job->claim.fence.job_uid, sizeof full.uid);
    memcpy(info, &full, info->struct_size < sizeof full ? info->struct_size : sizeof full);
}

kwr_status kwr_job_peek(const kwr_env *env, kwr_storage *storage, const char *name,
                        uint64_t *newest_completed, uint64_t *highest_published, kwr_error *err) {
    kwr_limits limits = { 0 };
    KWR_TRY(kwr_limits_complete(NULL, &limits, err));
    if (!kwr_name_ok(name, KWR_JOB_NAME_BYTES_MAX, false))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s' is not a job name", name);
    kwr_job_dirs dirs = { 0 };
    kwr_status status = kwr_job_dirs_open(env, storage, name, false, &dirs, err);
    if (status == KWR_ERR_MISSING) {
        *newest_completed = *highest_published = 0;
        return KWR_OK;
    }
    KWR_TRY(status);
    kwr_log log = { 0 };
    status = kwr_log_read(&dirs, &limits, &log, err);
    if (status >= KWR_OK) {
        bool base_missing = false;
        const kwr_slot *newest = kwr_log_newest(&log, &base_missing);
        *newest_completed = newest != NULL ? newest->checkpoint : 0;
        *highest_published = kwr_log_highest(&log);
        kwr_log_free(&log);
    }
    kwr_job_dirs_close(&dirs);
    return status;
}
