/* SPDX-License-Identifier: Apache-2.0 */
/* From a path or URI to the storage, jobs and checkpoint it names. */
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

/* The plain path of a target in files. */
static const char *path_of(const char *target) {
    if (strncmp(target, "file://", 7) == 0 && target[7] == '/') return target + 7;
    if (strncmp(target, "file:", 5) == 0) return target + 5;
    return target;
}

/* Where the path of a URI of another storage begins, behind "scheme://authority"; NULL: files. */
static const char *uri_path(const char *target) {
    const char *mark = strstr(target, "://");
    if (mark == NULL || strncmp(target, "file:", 5) == 0) return NULL;
    if (memchr(target, '/', (size_t)(mark - target)) != NULL) return NULL;
    return mark + 3 + strcspn(mark + 3, "/?");
}

/* What others than files hold is known when it is asked for. */
static int resolve_uri(const char *target, tool_place *place) {
    size_t size = strcspn(target, "?");
    const size_t least = (size_t)(uri_path(target) - target);
    if (target[size] == '?') place->query = strdup(target + size);
    while (size > least && target[size - 1] == '/')
        size--;
    place->root = strndup(target, size);
    const bool failed = place->root == NULL || (target[size] == '?' && place->query == NULL);
    return failed ? TOOL_CANNOT_READ : TOOL_GOOD;
}

static int resolve(const char *target, tool_place *place) {
    if (uri_path(target) != NULL) return resolve_uri(target, place);
    place->root = realpath(path_of(target), NULL);
    if (place->root == NULL) {
        fprintf(stderr, "keyweir: %s: there is no such place\n", target);
        return TOOL_DAMAGED;
    }
    return TOOL_GOOD;
}

/* Cuts the last component off `path` and gives a copy of it; "/" and an authority stay whole. */
static char *cut_last(char *path) {
    const char *below = uri_path(path);
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash[1] == '\0' || (below != NULL && slash < below)) return NULL;
    char *last = strdup(slash + 1);
    if (slash == path) slash++;
    *slash = '\0';
    return last;
}

static int open_root(const tool_options *options, tool_place *place) {
    kwr_error err = { 0 };
    const size_t query = place->query == NULL ? 0 : strlen(place->query);
    const size_t size = strlen(place->root) + query + 1;
    char *uri = malloc(size);
    if (uri == NULL) return TOOL_CANNOT_READ;
    snprintf(uri, size, "%s%s", place->root, query == 0 ? "" : place->query);
    const kwr_posix_options posix = { .struct_size = sizeof posix,
                                      .compute_threads = options->jobs,
                                      /* What is only read may be anybody's. */
                                      .roots_unchecked = !options->delete };
    const bool failed = kwr_env_posix_open(&posix, &place->env, &err) < KWR_OK ||
                        kwr_limits_complete(NULL, &place->limits, &err) < KWR_OK ||
                        kwr_storage_open(place->env, uri, false, &place->storage, &err) < KWR_OK;
    free(uri);
    return failed ? tool_fail(&err) : TOOL_GOOD;
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

int tool_place_jobs(const tool_options *options, tool_place *out) {
    tool_place place = { 0 };
    int code = resolve(options->target, &place);
    if (code != TOOL_GOOD) {
        tool_place_close(&place);
        return code;
    }
    char *whole = strdup(place.root);
    char *last = cut_last(place.root);
    code = whole == NULL ? TOOL_CANNOT_READ : open_root(options, &place);
    if (code == TOOL_GOOD && last != NULL && kwr_name_ok(last, KWR_JOB_NAME_MAX, false) &&
        has_log(&place, last)) {
        place.one_job = add_job(&place, last);
        if (!place.one_job) code = TOOL_CANNOT_READ;
    } else if (code == TOOL_GOOD) { /* not a job: the root above the jobs */
        kwr_error err = { 0 };
        char *query = place.query;
        place.query = NULL;
        tool_place_close(&place);
        place = (tool_place){ .root = strdup(whole), .query = query };
        code = place.root == NULL ? TOOL_CANNOT_READ : open_root(options, &place);
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

int tool_place_checkpoint(const tool_options *options, tool_place *out) {
    tool_place place = { .is_checkpoint = true };
    const char *target = options->target;
    int code = resolve(target, &place);
    if (code != TOOL_GOOD) {
        tool_place_close(&place);
        return code;
    }
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
        code = add_job(&place, job) ? open_root(options, &place) : TOOL_CANNOT_READ;
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
    free(place->query);
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

int tool_checkpoint_open(const tool_options *options, tool_checkpoint *out) {
    tool_checkpoint c = { 0 };
    int code = tool_place_checkpoint(options, &c.place);
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
