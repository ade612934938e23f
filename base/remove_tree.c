/* SPDX-License-Identifier: Apache-2.0 */
/* Depth first with a stack of fixed size: what is met is not ours to trust. */
#include "base/remove_tree.h"

#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct level {
    kwr_dir *dir;
    kwr_buffer names; /* each with its NUL */
    size_t at;
} level;

static kwr_status note_name(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status level_list(const kwr_env *env, level *l, kwr_error *err) {
    l->names.env = env;
    const kwr_status status = env->fs->list(env->fs->ctx, l->dir, note_name, &l->names, err);
    if (status == KWR_ERR_NOMEM)
        return KWR_FAIL(err, status, 0, "no memory to list '%s'",
                        env->fs->path(env->fs->ctx, l->dir));
    return status;
}

static const char *level_next(level *l) {
    if (l->at >= l->names.size) return NULL;
    const char *name = (const char *)l->names.data + l->at;
    l->at += strlen(name) + 1;
    return name;
}

/* Steps into a directory, or removes a file. */
static kwr_status take(const kwr_env *env, level *levels, size_t *depth, const char *name,
                       kwr_error *err) {
    const kwr_fs *fs = env->fs;
    level *l = &levels[*depth - 1];
    kwr_file_info info;
    kwr_status status = fs->info(fs->ctx, l->dir, name, &info, err);
    if (status < KWR_OK) return status == KWR_ERR_MISSING ? KWR_OK : status;
    if (info.kind != KWR_FILE_DIRECTORY) {
        status = fs->remove(fs->ctx, l->dir, name, err);
        return status == KWR_ERR_MISSING ? KWR_OK : status;
    }
    if (*depth == KWR_TREE_DEPTH_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s/%s': directories are nested too deep",
                        fs->path(fs->ctx, l->dir), name);
    level *below = &levels[*depth];
    *below = (level){ 0 };
    status = fs->open_dir(fs->ctx, l->dir, name, 0, &below->dir, err);
    if (status < KWR_OK) return status == KWR_ERR_MISSING ? KWR_OK : status;
    (*depth)++;
    /* Somebody else may have removed it since it was opened. */
    status = level_list(env, below, err);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}

/* The last name a level gave is the directory that is empty now. */
static const char *level_last(const level *l) {
    size_t start = l->at - 1;
    while (start > 0 && l->names.data[start - 1] != '\0')
        start--;
    return (const char *)l->names.data + start;
}

kwr_status kwr_remove_tree(const kwr_env *env, kwr_dir *dir, kwr_error *err) {
    const kwr_fs *fs = env->fs;
    level levels[KWR_TREE_DEPTH_MAX] = { [0] = { .dir = dir } };
    size_t depth = 1;
    kwr_status status = level_list(env, &levels[0], err);
    while (status >= KWR_OK) {
        level *l = &levels[depth - 1];
        const char *name = level_next(l);
        if (name != NULL) {
            status = take(env, levels, &depth, name, err);
            continue;
        }
        if (depth == 1) break;
        kwr_buffer_free(&l->names);
        fs->close_dir(fs->ctx, l->dir);
        depth--;
        status =
            fs->remove_dir(fs->ctx, levels[depth - 1].dir, level_last(&levels[depth - 1]), err);
        if (status == KWR_ERR_MISSING) status = KWR_OK;
    }
    for (; depth > 1; depth--) {
        kwr_buffer_free(&levels[depth - 1].names);
        fs->close_dir(fs->ctx, levels[depth - 1].dir);
    }
    kwr_buffer_free(&levels[0].names);
    return status < KWR_OK ? status : KWR_OK;
}
