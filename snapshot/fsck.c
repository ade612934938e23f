/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking jobs from the log down. Names are listed first, then the log is read, then the manifests
 * and all they need; and when something is wrong the log is read again, because a running job may
 * have removed what was looked for. Where the log itself cannot be read every checkpoint's
 * directory is looked at by itself, so that it is known what is still good.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "snapshot/census.h"
#include "snapshot/inspect.h"
#include "snapshot/jobs.h"
#include "snapshot/slot.h"
#include "snapshot/storage.h"

typedef struct fsck_job {
    const kwr_fsck_options *options;
    kwr_limits limits;
    kwr_fsck_result *result;
    kwr_job_dirs dirs;
    kwr_census census;
    kwr_log log;
    bool log_read;
    bool some_unknown; /* a manifest could not be read: nobody knows what it needs */
    kwr_log again;     /* read when all was looked at */
    bool reread;
    kwr_manifest **manifests; /* opened */
    size_t manifest_count, manifest_capacity;
    kwr_census_needs needs;
    kwr_inspection *inspection;
    kwr_error *err;
} fsck_job;

/* ---- faults of log and manifests ---- */

static kwr_status note(fsck_job *job, kwr_status status, const char *file,
                       const kwr_fsck_checkpoint *of, const char *text) {
    const kwr_fsck_kind kind = kwr_inspect_kind(status);
    if ((int)kind == 0) return KWR_FAIL(job->err, status, 0, "%s", text);
    const kwr_fsck_finding finding = {
        .kind = kind,
        .status = status == KWR_ERR_MISMATCH ? KWR_ERR_CORRUPT : status,
        .file = file,
        .checkpoints = of,
        .checkpoint_count = of != NULL,
        .text = text,
    };
    if (kwr_inspection_note(job->inspection, &finding) >= KWR_OK) return KWR_OK;
    return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory to tell what was found");
}

static kwr_status keep_manifest(fsck_job *job, kwr_manifest *manifest) {
    void *items = job->manifests;
    if (!kwr_grow_array(job->dirs.env, &items, &job->manifest_capacity, job->manifest_count + 1,
                        sizeof *job->manifests)) {
        kwr_manifest_free(manifest);
        return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory for a manifest");
    }
    job->manifests = items;
    job->manifests[job->manifest_count++] = manifest;
    if (kwr_census_need(&job->needs, manifest) < KWR_OK)
        return KWR_FAIL(job->err, KWR_ERR_NOMEM, 0, "no memory for the files of a manifest");
    return kwr_inspection_add(job->inspection, manifest, job->err);
}

/* `slot` NULL: as it lies there, without what the log says about it. */
static kwr_status look_at_checkpoint(fsck_job *job, const kwr_slot *slot, uint64_t checkpoint,
                                     uint64_t generation) {
    kwr_manifest *manifest = NULL;
    kwr_error why = { 0 };
    const kwr_status status =
        slot != NULL ? kwr_checkpoint_open(&job->dirs, &job->limits, slot, &manifest, &why)
                     : kwr_checkpoint_open_dir(&job->dirs, &job->limits, checkpoint, generation,
                                               &manifest, &why);
    job->result->checkpoints++;
    if (status >= KWR_OK) {
        job->result->files++;
        return keep_manifest(job, manifest);
    }
    char dir[KWR_FILE_NAME_MAX], file[KWR_FILE_NAME_MAX + 16];
    const kwr_fsck_checkpoint of = { checkpoint, generation };
    kwr_checkpoint_dir_name(checkpoint, generation, dir);
    snprintf(file, sizeof file, "%s/manifest.json", dir);
    job->some_unknown = true;
    return note(job, status, file, &of, why.text);
}

/* One slot by itself, of a log that cannot be read as a whole; *told: something is wrong with it.
 */
static kwr_status look_at_slot(fsck_job *job, const kwr_census_name *name, bool *told) {
    char file[KWR_FILE_NAME_MAX + 8], path[KWR_STORAGE_PATH_MAX];
    kwr_bytes bytes = { 0 };
    kwr_slot slot = { 0 };
    kwr_error why = { 0 };
    kwr_census_path(name, file, sizeof file);
    kwr_storage_path(job->dirs.storage, job->dirs.log, name->name, path);
    kwr_status status = kwr_storage_read_file(job->dirs.env, job->dirs.storage, job->dirs.log,
                                              name->name, job->limits.slot_bytes_max, &bytes, &why);
    if (status == KWR_ERR_MISSING) return KWR_OK; /* removed meanwhile */
    if (status >= KWR_OK)
        status = kwr_slot_decode(job->dirs.env, (kwr_slice){ bytes.data, bytes.size }, path, &slot,
                                 &why);
    kwr_bytes_free(&bytes);
    if (status >= KWR_OK && slot.number != name->slot)
        status = KWR_FAIL(&why, KWR_ERR_CORRUPT, 0, "'%s' is damaged: it holds slot %llu", path,
                          (unsigned long long)slot.number);
    if (status >= KWR_OK) return KWR_OK;
    *told = true;
    return note(job, status, file, NULL, why.text);
}

/* Every checkpoint's directory by itself, from the newest to the oldest. */
static kwr_status look_at_directories(fsck_job *job) {
    for (size_t i = job->census.count; i-- > 0;) {
        const kwr_census_name *name = job->census.names[i];
        if (name->place == KWR_CENSUS_ROOT && name->ours && !name->temporary)
            KWR_TRY(look_at_checkpoint(job, NULL, name->checkpoint, name->generation));
    }
    return KWR_OK;
}

static kwr_status look_without_log(fsck_job *job, kwr_status status, const kwr_error *why) {
    bool told = false;
    for (size_t i = 0; i < job->census.count; i++) {
        const kwr_census_name *name = job->census.names[i];
        if (name->place == KWR_CENSUS_LOG && name->ours && !name->temporary)
            KWR_TRY(look_at_slot(job, name, &told));
    }
    if (!told) KWR_TRY(note(job, status, "log/", NULL, why->text));
    return look_at_directories(job);
}

static bool any_data(const kwr_census *census) {
    for (size_t i = 0; i < census->count; i++)
        if (census->names[i]->ours && census->names[i]->place != KWR_CENSUS_LOG) return true;
    return false;
}

static kwr_status look_at_log(fsck_job *job) {
    char text[512];
    bool base_missing = false;
    (void)kwr_log_newest(&job->log, &base_missing);
    if (base_missing) {
        snprintf(text, sizeof text,
                 "the commit log of job '%s' does not name the checkpoint any more that was chosen "
                 "as base of its history",
                 job->dirs.job);
        KWR_TRY(note(job, KWR_ERR_MISSING, "log/", NULL, text));
    }
    if (job->log.count == 0 && any_data(&job->census)) {
        snprintf(text, sizeof text,
                 "the commit log of job '%s' is empty, but files of checkpoints lie beside it: the "
                 "log was lost; put it back from a copy",
                 job->dirs.job);
        job->log_read = false;
        KWR_TRY(note(job, KWR_ERR_MISSING, "log/", NULL, text));
        return look_at_directories(job);
    }
    for (size_t i = job->log.count; i-- > 0;) {
        const kwr_slot *slot = &job->log.slots[i];
        if (slot->kind == KWR_SLOT_CHECKPOINT)
            KWR_TRY(look_at_checkpoint(job, slot, slot->checkpoint, slot->generation));
    }
    return KWR_OK;
}

/* ---- telling ---- */

static bool named(const kwr_log *log, const kwr_fsck_checkpoint *of) {
    for (size_t i = 0; i < log->count; i++)
        if (log->slots[i].kind == KWR_SLOT_CHECKPOINT &&
            log->slots[i].checkpoint == of->checkpoint &&
            log->slots[i].generation == of->generation)
            return true;
    return false;
}

/* A checkpoint that has left the log meanwhile, and its files with it, is nobody's concern. */
static bool still_matters(const fsck_job *job, const kwr_fsck_finding *finding) {
    if (!job->reread || finding->checkpoint_count == 0) return true;
    for (size_t i = 0; i < finding->checkpoint_count; i++)
        if (named(&job->again, &finding->checkpoints[i])) return true;
    return false;
}

static void count(kwr_fsck_result *result, const kwr_fsck_finding *finding) {
    if (kwr_fsck_is_fault(finding->kind)) result->faults++;
    switch (finding->kind) {
    case KWR_FSCK_UNREADABLE: result->unreadable++; break;
    case KWR_FSCK_LEFTOVER:
        result->leftovers++;
        result->leftover_bytes += finding->size;
        break;
    case KWR_FSCK_IN_PROGRESS: result->in_progress++; break;
    case KWR_FSCK_FOREIGN: result->foreign++; break;
    case KWR_FSCK_DAMAGED:
    case KWR_FSCK_MISSING:
    case KWR_FSCK_NEWER: break;
    }
}

static void tell(void *ctx, const kwr_fsck_finding *finding) {
    fsck_job *job = ctx;
    if (!still_matters(job, finding)) return;
    count(job->result, finding);
    if (job->options->found != NULL) job->options->found(job->options->ctx, finding);
}

static const char *meaning(const kwr_census_name *name) {
    switch (name->kind) {
    case KWR_FSCK_LEFTOVER: return "no checkpoint needs it; 'keyweir gc' removes it";
    case KWR_FSCK_IN_PROGRESS:
        return "no checkpoint needs it yet; the newest attempt made it and may still run";
    case KWR_FSCK_FOREIGN: return "not a name of keyweir's; it is never touched";
    case KWR_FSCK_MISSING:
        return "made by an attempt the commit log has never heard of: slots of the log are missing "
               "at its end; put them back from a copy";
    case KWR_FSCK_DAMAGED:
    case KWR_FSCK_UNREADABLE:
    case KWR_FSCK_NEWER: break;
    }
    return "";
}

/* A directory stands for what is in it, but for what is not ours. */
static bool is_told_by_directory(const kwr_census_name *name, const kwr_census_name *directory) {
    return directory != NULL && name->place == KWR_CENSUS_CHECKPOINT && name->ours &&
           name->checkpoint == directory->checkpoint && name->generation == directory->generation &&
           (int)directory->kind != 0;
}

static void tell_names(fsck_job *job) {
    const kwr_census_name *directory = NULL;
    for (size_t i = 0; i < job->census.count; i++) {
        const kwr_census_name *name = job->census.names[i];
        if (name->place == KWR_CENSUS_ROOT && name->ours) directory = name;
        if ((int)name->kind == 0 || is_told_by_directory(name, directory)) continue;
        if (job->some_unknown && name->place == KWR_CENSUS_SHARED && name->ours &&
            name->kind != KWR_FSCK_MISSING)
            continue;
        if (name->ours && !kwr_census_exists(&job->dirs, name)) continue;
        char file[2 * KWR_FILE_NAME_MAX], text[1024];
        kwr_census_path(name, file, sizeof file);
        snprintf(text, sizeof text, "job '%s': %s: %s", job->dirs.job, file, meaning(name));
        const kwr_fsck_finding finding = {
            .struct_size = sizeof finding,
            .kind = name->kind,
            .status = name->kind == KWR_FSCK_MISSING ? KWR_ERR_MISSING : KWR_OK,
            .job = job->dirs.job,
            .file = file,
            .size = kwr_census_size(&job->dirs, &job->census, name),
            .text = text,
        };
        tell(job, &finding);
    }
}

/* ---- one job ---- */

static kwr_status look(fsck_job *job) {
    const kwr_fsck_options *o = job->options;
    const kwr_inspect_options options = { .dirs = &job->dirs,
                                          .limits = &job->limits,
                                          .threads = o->threads,
                                          .indexes_only = o->indexes_only,
                                          .cancel = o->cancel,
                                          .ctx = o->ctx,
                                          .progress = o->progress };
    KWR_TRY(kwr_inspection_new(&options, &job->inspection, job->err));
    KWR_TRY(kwr_census_take(&job->dirs, &job->census, job->err));
    kwr_error why = { 0 };
    kwr_status status = KWR_OK;
    if (job->dirs.log != NULL) status = kwr_log_read(&job->dirs, &job->limits, &job->log, &why);
    job->log_read = status >= KWR_OK;
    KWR_TRY(job->log_read ? look_at_log(job) : look_without_log(job, status, &why));
    return kwr_inspection_run(job->inspection, job->err);
}

static void look_again(fsck_job *job) {
    if (!job->log_read || kwr_inspection_result(job->inspection).faults == 0) return;
    job->reread = kwr_log_read(&job->dirs, &job->limits, &job->again, NULL) >= KWR_OK;
}

static void sum_up(fsck_job *job) {
    const kwr_inspect_result result = kwr_inspection_result(job->inspection);
    const uint64_t before = job->result->faults;
    job->result->jobs++;
    job->result->files += result.files;
    job->result->bytes += result.bytes;
    job->result->images += result.images;
    job->result->entries += result.entries;
    kwr_inspection_tell(job->inspection, tell, job);
    /* Those that were too many to be held. */
    if (!job->reread && job->result->faults - before < result.faults)
        job->result->faults = before + result.faults;
    if (!job->log_read) return; /* nobody knows what is needed */
    const uint64_t newest = job->log.count == 0 ? 0 : job->log.slots[job->log.count - 1].generation;
    kwr_census_judge(&job->census, &job->log, &job->needs, newest);
    tell_names(job);
}

static void done(fsck_job *job) {
    kwr_inspection_free(job->inspection);
    kwr_census_needs_free(&job->needs);
    kwr_census_free(&job->census);
    for (size_t i = 0; i < job->manifest_count; i++)
        kwr_manifest_free(job->manifests[i]);
    kwr_free(job->dirs.env, job->manifests, job->manifest_capacity * sizeof *job->manifests);
    kwr_log_free(&job->log);
    kwr_log_free(&job->again);
}

static kwr_status check_job(const kwr_fsck_options *options, const kwr_limits *limits,
                            const char *name, kwr_fsck_result *result, kwr_error *err) {
    const kwr_env *env = options->env;
    fsck_job job = { .options = options,
                     .limits = *limits,
                     .result = result,
                     .log = { .env = env },
                     .again = { .env = env },
                     .needs = { .env = env },
                     .err = err };
    KWR_TRY(kwr_job_dirs_open(env, options->storage, name, false, &job.dirs, err));
    const kwr_status status = look(&job);
    if (status >= KWR_OK) {
        look_again(&job);
        sum_up(&job);
    }
    done(&job);
    kwr_job_dirs_close(&job.dirs);
    return status;
}

/* ---- all jobs ---- */

typedef struct every_job {
    const kwr_fsck_options *options;
    const kwr_limits *limits;
    kwr_fsck_result *result;
} every_job;

static kwr_status on_job(void *ctx, const char *name, bool is_job, kwr_error *err) {
    const every_job *all = ctx;
    if (is_job) return check_job(all->options, all->limits, name, all->result, err);
    char text[512];
    snprintf(text, sizeof text, "%s: beside the jobs, not a name of keyweir's", name);
    const kwr_fsck_finding finding = {
        .struct_size = sizeof finding, .kind = KWR_FSCK_FOREIGN, .file = name, .text = text
    };
    count(all->result, &finding);
    if (all->options->found != NULL) all->options->found(all->options->ctx, &finding);
    return KWR_OK;
}

kwr_status kwr_fsck(const kwr_fsck_options *options, kwr_fsck_result *out, kwr_error *err) {
    kwr_fsck_options o;
    kwr_limits limits;
    kwr_fsck_result result = { 0 };
    if (options == NULL || out == NULL || out->struct_size < sizeof out->struct_size)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "kwr_fsck: an argument is NULL, or out->struct_size not set");
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_fsck_options", err));
    if (o.env == NULL || o.storage == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_fsck: env or storage is NULL");
    KWR_TRY(kwr_limits_complete(o.limits, &limits, err));
    every_job all = { .options = &o, .limits = &limits, .result = &result };
    KWR_TRY(o.job != NULL ? check_job(&o, &limits, o.job, &result, err)
                          : kwr_jobs_each(o.env, o.storage, on_job, &all, err));
    result.struct_size = out->struct_size;
    memcpy(out, &result, result.struct_size < sizeof result ? result.struct_size : sizeof result);
    return KWR_OK;
}
