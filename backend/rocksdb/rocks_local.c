/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local directories of databases: is there anything, move it, remove it. Flat: RocksDB keeps no
 * directories of its own in a database without a log.
 */
#include "backend/rocksdb/rocks.h"

/* ---- names ---- */

/* Names one behind the other, each with its NUL. */
static kwr_status note_name(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status list_names(const kwr_env *env, kwr_dir *dir, kwr_buffer *names, kwr_error *err) {
    names->env = env;
    const kwr_status status = env->fs->list(env->fs->ctx, dir, note_name, names, err);
    if (status == KWR_ERR_NOMEM)
        return KWR_FAIL(err, status, 0, "engine rocksdb: no memory to list a directory");
    return status;
}

#define FOR_EACH_NAME(name, names)                                             \
    for (const char *name = (const char *)(names).data;                        \
         (names).size > 0 && name < (const char *)(names).data + (names).size; \
         name += strlen(name) + 1)

static kwr_status open_directory(const kwr_env *env, const char *path, unsigned flags,
                                 kwr_dir **out, kwr_error *err) {
    return env->fs->open_root(env->fs->ctx, path, flags | KWR_FS_FOLLOW, out, err);
}

/* ---- what is there ---- */

void kwr_rocks_make_private(const kwr_env *env, const char *directory) {
    kwr_dir *dir = NULL;
    if (open_directory(env, directory, KWR_FS_CREATE, &dir, NULL) >= KWR_OK)
        env->fs->close_dir(env->fs->ctx, dir);
}

kwr_status kwr_rocks_must_be_empty(const kwr_env *env, const char *directory, kwr_error *err) {
    kwr_dir *dir = NULL;
    kwr_buffer names = { 0 };
    kwr_status status = open_directory(env, directory, 0, &dir, err);
    if (status == KWR_ERR_MISSING) return KWR_OK;
    KWR_TRY(status);
    status = list_names(env, dir, &names, err);
    if (status >= KWR_OK && names.size > 0)
        status = KWR_FAIL(err, KWR_ERR_EXISTS, 0,
                          "engine rocksdb: '%s' is not empty ('%.100s' is there): if an ended "
                          "process left it, remove it, state comes back from a checkpoint; else "
                          "name a directory that is not there yet",
                          directory, (const char *)names.data);
    kwr_buffer_free(&names);
    env->fs->close_dir(env->fs->ctx, dir);
    return status;
}

/* ---- moving ---- */

/* The lock is of a process, and the log of its doings. */
static bool is_part_of_database(const char *name) {
    return strcmp(name, "LOCK") != 0 && strncmp(name, "LOG", 3) != 0;
}

static kwr_status move_all(const kwr_env *env, kwr_dir *from, kwr_dir *to, kwr_error *err) {
    kwr_buffer names = { 0 };
    kwr_status status = list_names(env, from, &names, err);
    FOR_EACH_NAME(name, names) {
        if (status < KWR_OK) break;
        if (is_part_of_database(name))
            status = env->fs->rename(env->fs->ctx, from, name, to, name, err);
    }
    kwr_buffer_free(&names);
    return status;
}

kwr_status kwr_rocks_move_database(const kwr_env *env, const char *from, const char *to,
                                   kwr_error *err) {
    kwr_dir *source = NULL, *target = NULL;
    kwr_status status = open_directory(env, from, 0, &source, err);
    if (status >= KWR_OK) status = open_directory(env, to, KWR_FS_CREATE, &target, err);
    if (status >= KWR_OK) status = move_all(env, source, target, err);
    if (status < KWR_OK) kwr_error_prefix(err, "engine rocksdb: cannot take over '%s'", from);
    env->fs->close_dir(env->fs->ctx, source);
    env->fs->close_dir(env->fs->ctx, target);
    return status;
}

/* ---- removing ---- */

static void remove_files(const kwr_env *env, kwr_dir *dir) {
    kwr_buffer names = { 0 };
    (void)list_names(env, dir, &names, NULL);
    FOR_EACH_NAME(name, names)(void) env->fs->remove(env->fs->ctx, dir, name, NULL);
    kwr_buffer_free(&names);
}

/* What does not go stays for must_be_empty() to name: nothing here depends on it. */
void kwr_rocks_remove_directory(const kwr_env *env, const char *directory) {
    kwr_dir *dir = NULL, *parent = NULL;
    if (open_directory(env, directory, 0, &dir, NULL) < KWR_OK) return;
    remove_files(env, dir);
    env->fs->close_dir(env->fs->ctx, dir);
    char *above = kwr_copy_string(env, directory);
    if (above == NULL) return;
    const size_t whole = strlen(above);
    size_t end = whole;
    while (end > 1 && above[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && above[begin - 1] != '/')
        begin--;
    char *name = kwr_alloc(env, whole + 1);
    if (name != NULL) {
        memcpy(name, above + begin, end - begin);
        name[end - begin] = '\0';
        const char rest = above[begin];
        above[begin] = '\0';
        if (open_directory(env, begin == 0 ? "." : above, 0, &parent, NULL) >= KWR_OK)
            (void)env->fs->remove_dir(env->fs->ctx, parent, name, NULL);
        above[begin] = rest; /* its length is what it was allocated by */
        kwr_free(env, name, whole + 1);
    }
    env->fs->close_dir(env->fs->ctx, parent);
    kwr_free_string(env, above);
}
