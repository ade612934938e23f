/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place on local disk for an engine that keeps its state in files: one directory for each attempt
 * of a task, below the host's, locked as long as the task lives. What killed attempts left is
 * removed by the next one; what a living one holds, a zombie too, is locked and stays.
 */
#include "task/task.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/name.h"
#include "base/remove_tree.h"

static const char lock_name[] = "lock";
static const char database_name[] = "state";

/* <job uid, 32 hex digits>-<generation, 16 hex digits>-<operator>-<subtask> */
enum { UID_DIGITS = 32, GENERATION_DIGITS = 16 };

static void directory_name(const kwr_task *task, char out[KWR_TASK_DIRECTORY_NAME]) {
    char uid[UID_DIGITS + 1];
    kwr_hex(task->assignment.uid, sizeof task->assignment.uid, uid);
    snprintf(out, KWR_TASK_DIRECTORY_NAME, "%s-%016" PRIx64 "-%s-%u", uid,
             task->assignment.generation, task->operator_id, task->assignment.subtask);
}

/* The directory of an attempt of this job, of which generation? */
static bool directory_parse(const kwr_task *task, const char *name, uint64_t *generation) {
    uint8_t uid[sizeof task->assignment.uid];
    const size_t size = strlen(name);
    if (size <= UID_DIGITS + 1 + GENERATION_DIGITS + 1 || size >= KWR_TASK_DIRECTORY_NAME)
        return false;
    return kwr_unhex(name, UID_DIGITS, uid, sizeof uid) && name[UID_DIGITS] == '-' &&
           memcmp(uid, task->assignment.uid, sizeof uid) == 0 &&
           kwr_parse_hex64(name + UID_DIGITS + 1, GENERATION_DIGITS, generation) &&
           name[UID_DIGITS + 1 + GENERATION_DIGITS] == '-';
}

/* ---- leftovers ---- */

typedef struct leftovers {
    const kwr_task *task;
    kwr_buffer names; /* each with its NUL */
} leftovers;

static kwr_status note_leftover(void *ctx, const char *name) {
    leftovers *found = ctx;
    uint64_t generation = 0;
    if (!directory_parse(found->task, name, &generation) ||
        generation >= found->task->assignment.generation)
        return KWR_OK;
    kwr_buffer_append(&found->names, name, strlen(name) + 1);
    return found->names.failed ? KWR_ERR_NOMEM : KWR_OK;
}

/* Only with its lock: without, its process lives. */
static kwr_status leftover_remove(kwr_task *task, const char *name, kwr_error *err) {
    const kwr_fs *fs = task->env->fs;
    kwr_dir *dir = NULL;
    kwr_lock *lock = NULL;
    kwr_status status = fs->open_dir(fs->ctx, task->directory_root, name, 0, &dir, err);
    if (status < KWR_OK) return status;
    status = fs->lock(fs->ctx, dir, lock_name, &lock, NULL, err);
    if (status >= KWR_OK) {
        status = kwr_remove_tree(task->env, dir, err);
        fs->unlock(fs->ctx, lock);
    }
    fs->close_dir(fs->ctx, dir);
    if (status < KWR_OK) return status;
    return fs->remove_dir(fs->ctx, task->directory_root, name, err);
}

static void leftovers_remove(kwr_task *task) {
    const kwr_fs *fs = task->env->fs;
    leftovers found = { .task = task, .names = { .env = task->env } };
    kwr_error err = { 0 };
    kwr_status status = fs->list(fs->ctx, task->directory_root, note_leftover, &found, &err);
    for (size_t at = 0; status >= KWR_OK && at < found.names.size;) {
        const char *name = (const char *)found.names.data + at;
        at += strlen(name) + 1;
        err = (kwr_error){ 0 };
        const kwr_status removed = leftover_remove(task, name, &err);
        /* Another task of this attempt may be at it too. */
        if (removed == KWR_ERR_MISSING || removed >= KWR_OK) continue;
        kwr_log_line(task->env, removed == KWR_ERR_LOCKED ? KWR_LOG_INFO : KWR_LOG_WARNING, "task",
                     "local state of an earlier attempt stays: %s", err.text);
    }
    if (status < KWR_OK)
        kwr_log_line(task->env, KWR_LOG_WARNING, "task",
                     "local state of earlier attempts is not looked for: %s", err.text);
    kwr_buffer_free(&found.names);
}

/* ---- the task's own ---- */

kwr_status kwr_task_directory_open(kwr_task *task, const char *root, kwr_error *err) {
    const kwr_fs *fs = task->env->fs;
    char name[KWR_TASK_DIRECTORY_NAME];
    KWR_TRY(
        fs->open_root(fs->ctx, root, KWR_FS_CREATE | KWR_FS_FOLLOW, &task->directory_root, err));
    leftovers_remove(task);
    directory_name(task, name);
    kwr_status status = fs->open_dir(fs->ctx, task->directory_root, name,
                                     KWR_FS_CREATE | KWR_FS_EXCLUSIVE, &task->directory, err);
    if (status == KWR_ERR_EXISTS)
        return KWR_FAIL(err, KWR_ERR_LOCKED, 0,
                        "'%s/%s' is there: another task of this attempt calls itself '%s', subtask "
                        "%u",
                        root, name, task->operator_id, task->assignment.subtask);
    KWR_TRY(status);
    KWR_TRY(fs->lock(fs->ctx, task->directory, lock_name, &task->directory_lock, NULL, err));
    const char *path = fs->path(fs->ctx, task->directory);
    const size_t size = strlen(path) + 1 + sizeof database_name;
    char *database = kwr_alloc(task->env, size);
    if (database == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the local state of '%s'",
                        task->operator_id);
    snprintf(database, size, "%s/%s", path, database_name);
    task->database = database;
    task->database_size = size;
    return KWR_OK;
}

void kwr_task_directory_close(kwr_task *task) {
    const kwr_fs *fs = task->env->fs;
    kwr_error err = { 0 };
    kwr_free(task->env, task->database, task->database_size);
    task->database = NULL;
    if (task->directory != NULL) {
        char name[KWR_TASK_DIRECTORY_NAME];
        directory_name(task, name);
        kwr_status status = kwr_remove_tree(task->env, task->directory, &err);
        if (task->directory_lock != NULL) fs->unlock(fs->ctx, task->directory_lock);
        fs->close_dir(fs->ctx, task->directory);
        if (status >= KWR_OK) status = fs->remove_dir(fs->ctx, task->directory_root, name, &err);
        if (status < KWR_OK)
            kwr_log_line(task->env, KWR_LOG_WARNING, "task",
                         "local state goes with the next start: %s", err.text);
    }
    if (task->directory_root != NULL) fs->close_dir(fs->ctx, task->directory_root);
    task->directory = task->directory_root = NULL;
    task->directory_lock = NULL;
}
