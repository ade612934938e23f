/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs below a root. */
#include "snapshot/jobs.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/name.h"
#include "base/sort.h"

typedef struct root_names {
    const kwr_env *env;
    kwr_arena *arena;
    char **names;
    size_t count, capacity;
} root_names;

static kwr_status on_name(void *ctx, const char *name) {
    root_names *r = ctx;
    void *items = r->names;
    if (!kwr_grow_array(r->env, &items, &r->capacity, r->count + 1, sizeof *r->names))
        return KWR_ERR_NOMEM;
    r->names = items;
    r->names[r->count] = kwr_arena_string(r->arena, name, strlen(name));
    if (r->names[r->count] == NULL) return KWR_ERR_NOMEM;
    r->count++;
    return KWR_OK;
}

static kwr_status on_checkpoint(void *ctx, const char *name) {
    bool *any = ctx;
    uint64_t checkpoint, generation;
    if (kwr_checkpoint_dir_parse(name, &checkpoint, &generation)) *any = true;
    return KWR_OK;
}

/* KWR_OK, KWR_NOT_FOUND, or a failure to look. */
static kwr_status look(const kwr_env *env, kwr_storage *storage, const char *name, kwr_error *err) {
    kwr_job_dirs dirs = { 0 };
    if (!kwr_name_ok(name, KWR_JOB_NAME_MAX, false)) return KWR_NOT_FOUND;
    kwr_status status = kwr_job_dirs_open(env, storage, name, false, &dirs, err);
    if (status == KWR_ERR_MISSING || status == KWR_ERR_MISMATCH) return KWR_NOT_FOUND;
    KWR_TRY(status);
    bool any = dirs.log != NULL || dirs.shared != NULL;
    if (!any) status = storage->ops->list(storage, dirs.root, "chk-", on_checkpoint, &any, err);
    kwr_job_dirs_close(&dirs);
    KWR_TRY(status);
    return any ? KWR_OK : KWR_NOT_FOUND;
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

kwr_status kwr_jobs_each(const kwr_env *env, kwr_storage *storage, kwr_job_fn fn, void *ctx,
                         kwr_error *err) {
    root_names r = { .env = env, .arena = kwr_arena_new(env, 0) };
    kwr_status status = KWR_ERR_NOMEM;
    if (r.arena != NULL) status = storage->ops->list(storage, NULL, "", on_name, &r, err);
    if (status == KWR_ERR_NOMEM)
        status = KWR_FAIL(err, status, 0, "no memory for the names of the jobs");
    if (r.count > 0) kwr_sort((void **)r.names, r.count, by_name);
    for (size_t i = 0; i < r.count && status >= KWR_OK; i++) {
        status = look(env, storage, r.names[i], err);
        if (status >= KWR_OK) status = fn(ctx, r.names[i], status == KWR_OK, err);
    }
    kwr_free(env, r.names, r.capacity * sizeof *r.names);
    if (r.arena != NULL) kwr_arena_free(r.arena);
    return status;
}
