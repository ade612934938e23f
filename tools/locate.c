/* SPDX-License-Identifier: Apache-2.0 */
/* From a path or URI to the storage, jobs and checkpoint it names. */
#include <stdlib.h>

#include "base/name.h"
#include "tools/tool.h"

int tool_exit_code(kwr_status status) {
    if (status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING || status == KWR_ERR_FORMAT ||
        status == KWR_ERR_MISMATCH)
        return TOOL_DAMAGED;
    return kwr_status_action(status) == KWR_FIX_CALLER ? TOOL_USAGE : TOOL_CANNOT_READ;
}

int tool_fail(const kwr_error *err) {
    fprintf(stderr, "keyweir: %s\n",
            err->text[0] == '\0' ? kwr_status_name(err->status) : err->text);
    return tool_exit_code(err->status);
}

/* The plain path of a target; storages of other schemes are not read by this tool yet. */
static const char *path_of(const char *target) {
    if (strncmp(target, "file://", 7) == 0 && target[7] == '/') return target + 7;
    if (strncmp(target, "file:", 5) == 0) return target + 5;
    return target;
}

static int resolve(const char *target, char **out) {
    char *path = realpath(path_of(target), NULL);
    if (path == NULL) {
        fprintf(stderr, "keyweir: %s: there is no such place\n", target);
        return TOOL_DAMAGED;
    }
    *out = path;
    return TOOL_GOOD;
}

/* Cuts the last component off `path` and gives a copy of it; "/" stays whole. */
static char *cut_last(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash[1] == '\0') return NULL;
    char *last = strdup(slash + 1);
    if (slash == path) slash++;
    *slash = '\0';
    return last;
}

static int open_root(tool_place *place) {
    kwr_error err = { 0 };
    if (kwr_env_posix_open(NULL, &place->env, &err) < KWR_OK ||
        kwr_limits_complete(NULL, &place->limits, &err) < KWR_OK ||
        kwr_storage_open(place->env, place->root, false, &place->storage, &err) < KWR_OK)
        return tool_fail(&err);
    return TOOL_GOOD;
}

/* Whether <root>/<name>/log is a directory. */
static bool has_log(tool_place *place, const char *name) {
    const kwr_storage_ops *ops = place->storage->ops;
    kwr_storage_dir *job = NULL, *log = NULL;
    if (ops->dir_open(place->storage, NULL, name, false, &job, NULL) < KWR_OK) return false;
    const bool has = ops->dir_open(place->storage, job, "log", false, &log, NULL) == KWR_OK;
    if (has) ops->dir_close(place->storage, log);
    ops->dir_close(place->storage, job);
    return has;
}

static bool add_job(tool_place *place, const char *name) {
    char **jobs = realloc(place->jobs, (place->job_count + 1) * sizeof *jobs);
    if (jobs == NULL) return false;
    place->jobs = jobs;
    jobs[place->job_count] = strdup(name);
    if (jobs[place->job_count] == NULL) return false;
    place->job_count++;
    return true;
}

static kwr_status on_name(void *ctx, const char *name) {
    tool_place *place = ctx;
    if (!kwr_name_ok(name, KWR_JOB_NAME_MAX, false) || !has_log(place, name)) return KWR_OK;
    return add_job(place, name) ? KWR_OK : KWR_ERR_NOMEM;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int tool_place_jobs(const char *target, tool_place *out) {
    tool_place place = { 0 };
    int code = resolve(target, &place.root);
    if (code != TOOL_GOOD) return code;
    char *whole = strdup(place.root);
    char *last = cut_last(place.root);
    code = whole == NULL ? TOOL_CANNOT_READ : open_root(&place);
    if (code == TOOL_GOOD && last != NULL && kwr_name_ok(last, KWR_JOB_NAME_MAX, false) &&
        has_log(&place, last)) {
        if (!add_job(&place, last)) code = TOOL_CANNOT_READ;
    } else if (code == TOOL_GOOD) { /* not a job: the root above the jobs */
        kwr_error err = { 0 };
        tool_place_close(&place);
        place = (tool_place){ .root = strdup(whole) };
        code = place.root == NULL ? TOOL_CANNOT_READ : open_root(&place);
        if (code == TOOL_GOOD &&
            place.storage->ops->list(place.storage, NULL, "", on_name, &place, &err) < KWR_OK)
            code = tool_fail(&err);
        if (place.job_count > 1) qsort(place.jobs, place.job_count, sizeof *place.jobs, by_name);
    }
    free(last);
    free(whole);
    if (code != TOOL_GOOD) {
        tool_place_close(&place);
        return code;
    }
    *out = place;
    return TOOL_GOOD;
}

int tool_place_checkpoint(const char *target, tool_place *out) {
    tool_place place = { .is_checkpoint = true };
    int code = resolve(target, &place.root);
    if (code != TOOL_GOOD) return code;
    char *chk = cut_last(place.root);
    char *job = cut_last(place.root);
    if (chk == NULL || !kwr_checkpoint_dir_parse(chk, &place.checkpoint, &place.generation)) {
        fprintf(stderr,
                "keyweir: %s: not a checkpoint directory (chk-<id>-<generation>); see "
                "keyweir ls\n",
                target);
        code = TOOL_USAGE;
    } else if (job == NULL || !kwr_name_ok(job, KWR_JOB_NAME_MAX, false)) {
        fprintf(stderr, "keyweir: %s: a checkpoint lies in <root>/<job>/\n", target);
        code = TOOL_USAGE;
    } else {
        code = add_job(&place, job) ? open_root(&place) : TOOL_CANNOT_READ;
    }
    free(chk);
    free(job);
    if (code != TOOL_GOOD) {
        tool_place_close(&place);
        return code;
    }
    *out = place;
    return TOOL_GOOD;
}

void tool_place_close(tool_place *place) {
    for (size_t i = 0; i < place->job_count; i++)
        free(place->jobs[i]);
    free(place->jobs);
    kwr_storage_close(place->storage);
    kwr_env_posix_close(place->env);
    free(place->root);
    *place = (tool_place){ 0 };
}

static int open_manifest(tool_checkpoint *c) {
    kwr_error err = { 0 };
    const tool_place *place = &c->place;
    if (kwr_job_dirs_open(place->env, place->storage, place->jobs[0], false, &c->dirs, &err) <
            KWR_OK ||
        kwr_log_read(&c->dirs, &place->limits, &c->log, &err) < KWR_OK)
        return tool_fail(&err);
    c->slot = kwr_log_find(&c->log, place->checkpoint, place->generation);
    c->anchored = c->slot != NULL;
    const kwr_status status =
        c->anchored ? kwr_checkpoint_open(&c->dirs, &place->limits, c->slot, &c->manifest, &err)
                    : kwr_checkpoint_open_dir(&c->dirs, &place->limits, place->checkpoint,
                                              place->generation, &c->manifest, &err);
    return status < KWR_OK ? tool_fail(&err) : TOOL_GOOD;
}

int tool_checkpoint_open(const char *target, tool_checkpoint *out) {
    tool_checkpoint c = { 0 };
    int code = tool_place_checkpoint(target, &c.place);
    if (code == TOOL_GOOD) code = open_manifest(&c);
    if (code != TOOL_GOOD) {
        tool_checkpoint_close(&c);
        return code;
    }
    *out = c;
    return TOOL_GOOD;
}

void tool_checkpoint_close(tool_checkpoint *c) {
    kwr_manifest_free(c->manifest);
    kwr_log_free(&c->log);
    kwr_job_dirs_close(&c->dirs);
    tool_place_close(&c->place);
}
