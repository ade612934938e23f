/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views with files: RocksDB's own checkpoint, always with a flush, into a directory of the view's.
 * Its tables are links to those of the database and shared between checkpoints by their identity;
 * all else is the view's alone.
 */
#include <stdio.h>

#include "backend/rocksdb/rocks.h"

/* The one place that says where private directories are. */
static char *private_path(const rocks_db *db, const char *what, uint64_t number) {
    const size_t size = strlen(db->directory) + 48;
    char *path = kwr_alloc(db->env, size);
    if (path == NULL) return NULL;
    (void)snprintf(path, size, "%s/%s-%llu", db->directory, what, (unsigned long long)number);
    char *copy = kwr_copy_string(db->env, path);
    kwr_free(db->env, path, size);
    return copy;
}

static kwr_status make_checkpoint(kwr_engine *e, kwr_engine_view *view) {
    char *words = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(e->db->db, &words);
    /* 0: the memtables are flushed, whatever their size. Without a log all else loses them. */
    if (words == NULL) rocksdb_checkpoint_create(checkpoint, view->directory, 0, &words);
    if (checkpoint != NULL) rocksdb_checkpoint_object_destroy(checkpoint);
    if (words == NULL) return KWR_OK;
    const bool full = strstr(words, "No space") != NULL;
    const kwr_status status = kwr_rocks_failed(e, words);
    return full ? KWR_ERR_NOSPACE : status;
}

kwr_status kwr_rocks_freeze_files(kwr_engine *e, kwr_engine_view **out) {
    kwr_engine_view *view = NULL;
    KWR_TRY(kwr_rocks_freeze(e, &view));
    kwr_status status = KWR_ERR_NOMEM;
    view->directory = private_path(e->db, "checkpoint", ++e->db->checkpoints);
    if (view->directory != NULL) view->before = rocksdb_livefiles(e->db->db);
    if (view->before != NULL) status = make_checkpoint(e, view);
    if (status >= KWR_OK) {
        view->after = rocksdb_livefiles(e->db->db);
        if (view->after == NULL) status = KWR_ERR_NOMEM;
    }
    if (status < KWR_OK) {
        kwr_rocks_view_release(view);
        return status;
    }
    *out = view;
    return KWR_OK;
}

void kwr_rocks_view_files_done(kwr_engine_view *view) {
    if (view->before != NULL) rocksdb_livefiles_destroy(view->before);
    if (view->after != NULL) rocksdb_livefiles_destroy(view->after);
    if (view->directory == NULL) return;
    kwr_rocks_remove_directory(view->db->env, view->directory);
    kwr_free_string(view->db->env, view->directory);
}

const char *kwr_rocks_view_directory(const kwr_engine_view *view) { return view->directory; }

/* ---- listing ---- */

static kwr_status note_name(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static bool ends_with(const char *name, const char *end) {
    const size_t size = strlen(name), tail = strlen(end);
    return size > tail && strcmp(name + size - tail, end) == 0;
}

/* "state-N"; false for all else. */
static bool family_state(const kwr_engine_view *view, const char *family, uint32_t *state) {
    for (size_t i = 0; i < view->state_count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "state-%zu", i);
        if (strcmp(name, family) != 0) continue;
        *state = (uint32_t)i;
        return true;
    }
    return false;
}

/* Tables made for a bulk load do not say which family they came to be in: the database does. */
static bool live_state(const kwr_engine_view *view, const rocksdb_livefiles_t *files,
                       const char *name, uint32_t *state) {
    for (int i = 0; i < rocksdb_livefiles_count(files); i++) {
        const char *live = rocksdb_livefiles_name(files, i); /* "/000012.sst" */
        if (strcmp(live[0] == '/' ? live + 1 : live, name) == 0)
            return family_state(view, rocksdb_livefiles_column_family_name(files, i), state);
    }
    return false;
}

static kwr_status give_file(kwr_engine_view *view, kwr_dir *dir, const char *name,
                            kwr_engine_file_fn fn, void *fn_ctx, kwr_error *err) {
    const kwr_env *env = view->db->env;
    kwr_file *file = NULL;
    kwr_file_info info = { 0 };
    KWR_TRY(env->fs->open(env->fs->ctx, dir, name, 0, &file, &info, err));
    rocks_table table = { 0 };
    const bool is_table = ends_with(name, ".sst");
    if (is_table && !kwr_rocks_table_read(env, file, info.size, &table)) table = (rocks_table){ 0 };
    (void)(env->fs->close(env->fs->ctx, file, NULL) < KWR_OK); /* only read */
    kwr_engine_file out = { .name = name, .length = info.size };
    if (is_table) {
        if (!family_state(view, table.family, &out.state) &&
            !live_state(view, view->after, name, &out.state) &&
            !live_state(view, view->before, name, &out.state))
            return KWR_FAIL(err, KWR_ERR_IO, 0,
                            "engine rocksdb: it is not known which state '%s/%s' belongs to; the "
                            "next checkpoint tries again",
                            view->directory, name);
        out.identity = table.identity[0] == '\0' ? NULL : table.identity;
        out.entries = table.entries;
        out.entry_bytes = table.entry_bytes;
    }
    if (ends_with(name, ".log")) {
        if (info.size == 0) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_IO, 0,
                        "engine rocksdb: '%s/%s': there is a log, which is never written",
                        view->directory, name);
    }
    return fn(fn_ctx, &out);
}

kwr_status kwr_rocks_view_files(kwr_engine_view *view, kwr_engine_file_fn fn, void *fn_ctx,
                                kwr_error *err) {
    const kwr_env *env = view->db->env;
    kwr_dir *dir = NULL;
    kwr_buffer names = { .env = env };
    KWR_TRY(env->fs->open_root(env->fs->ctx, view->directory, KWR_FS_FOLLOW, &dir, err));
    kwr_status status = env->fs->list(env->fs->ctx, dir, note_name, &names, err);
    for (size_t at = 0; status >= KWR_OK && at < names.size;) {
        const char *name = (const char *)names.data + at;
        status = give_file(view, dir, name, fn, fn_ctx, err);
        at += strlen(name) + 1;
    }
    kwr_buffer_free(&names);
    env->fs->close_dir(env->fs->ctx, dir);
    return status;
}
