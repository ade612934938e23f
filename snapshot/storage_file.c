/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage in files of the environment's file system. A file becomes durable by sync and close, its
 * name by syncing the directory; a file whose sync or close failed is removed and never tried
 * again, because the kernel may have dropped the bytes it could not write.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/planted.h"
#include "snapshot/storage.h"

enum {
    WRITE_BUFFER = 256 * 1024,
    WRITE_BACK_EVERY = 8 * 1024 * 1024, /* so that the final sync finds little left to write */
    TEMP_NAME_MAX = 256,
    TEMP_NAME_TRIES = 8,
};

typedef struct file_storage {
    kwr_storage base;
    const kwr_env *env;
    kwr_dir *root;
} file_storage;

struct kwr_storage_dir {
    kwr_dir *dir;
};

struct kwr_storage_writer {
    kwr_dir *dir;
    kwr_file *file;
    uint8_t *buffer;
    size_t used;
    uint64_t unsynced; /* written since the last write-back hint */
    kwr_status failed; /* sticky: what was lost cannot be made up for */
    char name[KWR_STORAGE_NAME_MAX + 1];
};

struct kwr_storage_reader {
    kwr_file *file;
    kwr_dir *dir;
    char name[KWR_STORAGE_NAME_MAX + 1];
};

struct kwr_storage_lock {
    kwr_lock *lock;
};

static file_storage *self_of(kwr_storage *storage) { return (file_storage *)storage; }
static const kwr_fs *fs_of(const file_storage *self) { return self->env->fs; }
static kwr_dir *dir_of(file_storage *self, kwr_storage_dir *dir) {
    return dir == NULL ? self->root : dir->dir;
}

static void file_close(kwr_storage *storage) {
    file_storage *self = self_of(storage);
    const kwr_env *env = self->env;
    fs_of(self)->close_dir(fs_of(self)->ctx, self->root);
    kwr_free(env, self, sizeof *self);
}

static uint32_t file_capabilities(kwr_storage *storage) {
    (void)storage;
    return KWR_STORAGE_DURABLE | KWR_STORAGE_SHARED | KWR_STORAGE_LOCKS | KWR_STORAGE_RANDOM;
}

static kwr_status file_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                bool create, kwr_storage_dir **out, kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_dir *dir = kwr_calloc(self->env, sizeof *dir);
    if (dir == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open '%s'", name);
    const kwr_status status = fs_of(self)->open_dir(fs_of(self)->ctx, dir_of(self, parent), name,
                                                    create ? KWR_FS_CREATE : 0, &dir->dir, err);
    if (status < KWR_OK) {
        kwr_free(self->env, dir, sizeof *dir);
        return status;
    }
    *out = dir;
    return KWR_OK;
}

static void file_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    file_storage *self = self_of(storage);
    if (dir == NULL) return;
    fs_of(self)->close_dir(fs_of(self)->ctx, dir->dir);
    kwr_free(self->env, dir, sizeof *dir);
}

static kwr_status file_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    file_storage *self = self_of(storage);
    return fs_of(self)->sync_dir(fs_of(self)->ctx, dir_of(self, dir), err);
}

static kwr_status file_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                            kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    file_storage *self = self_of(storage);
    kwr_storage_filter filter = { prefix, fn, fn_ctx };
    return fs_of(self)->list(fs_of(self)->ctx, dir_of(self, dir), kwr_storage_filtered, &filter,
                             err);
}

static kwr_status file_dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                  kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    return fs_of(self)->remove_dir(fs_of(self)->ctx, dir_of(self, parent), name, err);
}

/* ---- writing ---- */

static void writer_free(file_storage *self, kwr_storage_writer *writer) {
    kwr_free(self->env, writer->buffer, WRITE_BUFFER);
    kwr_free(self->env, writer, sizeof *writer);
}

/* Removes a file that must not be used; what stays is swept later. */
static void discard(file_storage *self, kwr_dir *dir, const char *name) {
    kwr_error err = { 0 };
    const kwr_status status = fs_of(self)->remove(fs_of(self)->ctx, dir, name, &err);
    if (status < KWR_OK && status != KWR_ERR_MISSING)
        kwr_log_line(self->env, KWR_LOG_WARNING, "snapshot", "leftover stays: %s", err.text);
}

static kwr_status file_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_writer **out, kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_writer *writer = kwr_calloc(self->env, sizeof *writer);
    if (writer != NULL) writer->buffer = kwr_alloc(self->env, WRITE_BUFFER);
    if (writer == NULL || writer->buffer == NULL) {
        kwr_free(self->env, writer, sizeof *writer);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", name);
    }
    writer->dir = dir_of(self, dir);
    snprintf(writer->name, sizeof writer->name, "%s", name);
    const kwr_status status =
        fs_of(self)->create(fs_of(self)->ctx, writer->dir, name, &writer->file, err);
    if (status < KWR_OK) {
        writer_free(self, writer);
        return status;
    }
    *out = writer;
    return KWR_OK;
}

/* Writes all of it: short writes go on, no progress is a failure. */
static kwr_status write_fully(file_storage *self, kwr_dir *dir, kwr_file *file, const char *name,
                              const void *data, size_t size, kwr_error *err) {
    const uint8_t *at = data;
    while (size > 0) {
        size_t done = 0;
        KWR_TRY(fs_of(self)->write(fs_of(self)->ctx, file, at, size, &done, err));
        if (done == 0 || done > size)
            return KWR_FAIL(err, KWR_ERR_IO, 0, "write '%s/%s': no progress, %zu bytes are left",
                            fs_of(self)->path(fs_of(self)->ctx, dir), name, size);
        if (KWR_PLANTED(short_write_is_all)) break;
        at += done;
        size -= done;
    }
    return KWR_OK;
}

static kwr_status writer_emit(file_storage *self, kwr_storage_writer *writer, const void *data,
                              size_t size, kwr_error *err) {
    const kwr_status status =
        write_fully(self, writer->dir, writer->file, writer->name, data, size, err);
    if (status < KWR_OK) {
        writer->failed = status;
        return status;
    }
    writer->unsynced += size;
    if (writer->unsynced >= WRITE_BACK_EVERY) {
        writer->unsynced = 0;
        if (fs_of(self)->write_back != NULL)
            fs_of(self)->write_back(fs_of(self)->ctx, writer->file);
    }
    return KWR_OK;
}

static kwr_status writer_flush(file_storage *self, kwr_storage_writer *writer, kwr_error *err) {
    if (writer->used == 0) return KWR_OK;
    const size_t used = writer->used;
    writer->used = 0;
    return writer_emit(self, writer, writer->buffer, used, err);
}

static kwr_status writer_failed(file_storage *self, const kwr_storage_writer *writer,
                                kwr_error *err) {
    return KWR_FAIL(err, writer->failed, 0, "an earlier write to '%s/%s' failed",
                    fs_of(self)->path(fs_of(self)->ctx, writer->dir), writer->name);
}

static kwr_status file_write(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                             size_t size, kwr_error *err) {
    file_storage *self = self_of(storage);
    if (writer->failed < KWR_OK) return writer_failed(self, writer, err);
    if (size > WRITE_BUFFER - writer->used) KWR_TRY(writer_flush(self, writer, err));
    if (size >= WRITE_BUFFER) return writer_emit(self, writer, data, size, err);
    if (size > 0) memcpy(writer->buffer + writer->used, data, size);
    writer->used += size;
    return KWR_OK;
}

static kwr_status file_finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    file_storage *self = self_of(storage);
    const kwr_fs *fs = fs_of(self);
    kwr_status status = writer->failed;
    if (status < KWR_OK)
        status = writer_failed(self, writer, err);
    else
        status = writer_flush(self, writer, err);
    if (KWR_PLANTED(flush_failure_ignored)) status = KWR_OK;
    if (status >= KWR_OK && !KWR_PLANTED(file_unsynced)) {
        status = fs->sync(fs->ctx, writer->file, err);
        if (status < KWR_OK && KWR_PLANTED(sync_retried))
            status = fs->sync(fs->ctx, writer->file, err);
    }
    const kwr_status closed = fs->close(fs->ctx, writer->file, status < KWR_OK ? NULL : err);
    if (status >= KWR_OK) status = closed;
    if (status < KWR_OK) discard(self, writer->dir, writer->name);
    writer_free(self, writer);
    return status < KWR_OK ? status : KWR_OK;
}

static void file_abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    file_storage *self = self_of(storage);
    if (writer == NULL) return;
    (void)fs_of(self)->close(fs_of(self)->ctx, writer->file, NULL);
    discard(self, writer->dir, writer->name);
    writer_free(self, writer);
}

/* ---- reading ---- */

static kwr_status file_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_reader *reader = kwr_calloc(self->env, sizeof *reader);
    if (reader == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", name);
    reader->dir = dir_of(self, dir);
    snprintf(reader->name, sizeof reader->name, "%s", name);
    kwr_file_info info = { 0 };
    const kwr_status status =
        fs_of(self)->open(fs_of(self)->ctx, reader->dir, name, 0, &reader->file, &info, err);
    if (status < KWR_OK) {
        kwr_free(self->env, reader, sizeof *reader);
        return status;
    }
    *out = reader;
    if (size != NULL) *size = info.size;
    return KWR_OK;
}

static kwr_status read_fully(file_storage *self, kwr_dir *dir, kwr_file *file, const char *name,
                             uint64_t offset, void *data, size_t size, kwr_error *err) {
    const kwr_fs *fs = fs_of(self);
    uint8_t *at = data;
    while (size > 0) {
        size_t done = 0;
        KWR_TRY(fs->read(fs->ctx, file, offset, at, size, &done, err));
        if (done == 0 || done > size)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                            "'%s/%s' ends at byte %llu, %zu bytes more were expected",
                            fs->path(fs->ctx, dir), name, (unsigned long long)offset, size);
        if (KWR_PLANTED(short_read_is_all)) break;
        at += done;
        size -= done;
        offset += done;
    }
    return KWR_OK;
}

static kwr_status file_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                            void *data, size_t size, kwr_error *err) {
    return read_fully(self_of(storage), reader->dir, reader->file, reader->name, offset, data, size,
                      err);
}

static void file_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    file_storage *self = self_of(storage);
    if (reader == NULL) return;
    (void)fs_of(self)->close(fs_of(self)->ctx, reader->file, NULL);
    kwr_free(self->env, reader, sizeof *reader);
}

/* ---- publishing ---- */

/* A synced file under a temporary name; nothing is left after a failure, as far as that works. */
static kwr_status write_temp(file_storage *self, kwr_dir *dir, const char *name, const void *data,
                             size_t size, char temp[TEMP_NAME_MAX], kwr_error *err) {
    const kwr_fs *fs = fs_of(self);
    kwr_file *file = NULL;
    kwr_status status = KWR_OK;
    for (int i = 0; i < TEMP_NAME_TRIES && file == NULL; i++) {
        uint64_t random = 0;
        if (self->env->random->bytes(self->env->random->ctx, &random, sizeof random) < KWR_OK)
            return KWR_FAIL(err, KWR_ERR_IO, 0, "publish '%s': no randomness for a unique name",
                            name);
        snprintf(temp, TEMP_NAME_MAX, ".tmp-%.170s-%016llx", name, (unsigned long long)random);
        if (KWR_PLANTED(published_in_place)) snprintf(temp, TEMP_NAME_MAX, "%s", name);
        status = fs->create(fs->ctx, dir, temp, &file, err);
        if (status < KWR_OK && status != KWR_ERR_EXISTS) return status;
    }
    if (file == NULL) return status;
    status = write_fully(self, dir, file, temp, data, size, err);
    if (status >= KWR_OK && !KWR_PLANTED(temp_unsynced)) status = fs->sync(fs->ctx, file, err);
    const kwr_status closed = fs->close(fs->ctx, file, status < KWR_OK ? NULL : err);
    if (status >= KWR_OK) status = closed;
    if (status < KWR_OK) discard(self, dir, temp);
    return status < KWR_OK ? status : KWR_OK;
}

typedef enum read_back {
    READ_BACK_ABSENT,
    READ_BACK_OURS,
    READ_BACK_OTHER,
    READ_BACK_FAILED,
} read_back;

/* What stands under `name` after a call that reported a failure but may have taken effect. */
static read_back look_again(file_storage *self, kwr_dir *dir, const char *name, const void *data,
                            size_t size) {
    const kwr_fs *fs = fs_of(self);
    kwr_file *file = NULL;
    kwr_file_info info = { 0 };
    const kwr_status status = fs->open(fs->ctx, dir, name, 0, &file, &info, NULL);
    if (status == KWR_ERR_MISSING) return READ_BACK_ABSENT;
    if (status < KWR_OK) return READ_BACK_FAILED;
    read_back result = READ_BACK_OTHER;
    uint8_t *found = info.size == size ? kwr_alloc(self->env, size) : NULL;
    if (info.size == size && found == NULL) result = READ_BACK_FAILED;
    /* Twice: one wrong answer of the disk must not make a foreign file of our own. */
    for (int i = 0; i < 2 && found != NULL && result == READ_BACK_OTHER; i++) {
        if (read_fully(self, dir, file, name, 0, found, size, NULL) < KWR_OK)
            result = READ_BACK_FAILED;
        else if (memcmp(found, data, size) == 0)
            result = READ_BACK_OURS;
    }
    kwr_free(self->env, found, size);
    (void)fs->close(fs->ctx, file, NULL);
    return result;
}

/* Gives the temporary file its name, never replacing one. *renamed: the temporary name is gone. */
static kwr_status take_name(file_storage *self, kwr_dir *dir, const char *temp, const char *name,
                            const void *data, size_t size, bool *renamed, kwr_error *err) {
    const kwr_fs *fs = fs_of(self);
    *renamed = false;
    if (KWR_PLANTED(published_in_place)) {
        *renamed = true;
        return KWR_OK;
    }
    if (KWR_PLANTED(name_replaced)) (void)(fs->remove(fs->ctx, dir, name, NULL) < KWR_OK);
    kwr_status status = fs->link(fs->ctx, dir, temp, dir, name, err);
    if (status == KWR_ERR_UNSUPPORTED) {
        status = fs->rename(fs->ctx, dir, temp, dir, name, err);
        *renamed = status >= KWR_OK;
    }
    if (status >= KWR_OK || status == KWR_ERR_EXISTS) return status;
    if (KWR_PLANTED(failed_link_is_failure)) return status;
    switch (look_again(self, dir, name, data, size)) {
    case READ_BACK_OURS: return KWR_OK;
    case READ_BACK_ABSENT: return status;
    case READ_BACK_OTHER:
        return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "publish '%s/%s': the name is taken",
                        fs->path(fs->ctx, dir), name);
    case READ_BACK_FAILED: break;
    }
    kwr_error_prefix(err, "publish '%s/%s': the outcome is unknown, reading it back failed too",
                     fs->path(fs->ctx, dir), name);
    if (err != NULL) err->status = KWR_ERR_UNKNOWN;
    return KWR_ERR_UNKNOWN;
}

static kwr_status file_publish(kwr_storage *storage, kwr_storage_dir *to, const char *name,
                               const void *data, size_t size, kwr_error *err) {
    file_storage *self = self_of(storage);
    const kwr_fs *fs = fs_of(self);
    kwr_dir *dir = dir_of(self, to);
    KWR_TRY(kwr_storage_check_name(name, err));
    char temp[TEMP_NAME_MAX];
    KWR_TRY(write_temp(self, dir, name, data, size, temp, err));
    bool renamed = false;
    kwr_status status = take_name(self, dir, temp, name, data, size, &renamed, err);
    /* With an unknown outcome nothing is removed: the next attempt looks at what is there. */
    if (status == KWR_ERR_UNKNOWN) return status;
    if (status < KWR_OK) {
        discard(self, dir, temp);
        return status;
    }
    /* A directory whose sync failed once may report success the next time and still have lost the
     * name: no second try. */
    status = KWR_PLANTED(name_unsynced) ? KWR_OK : fs->sync_dir(fs->ctx, dir, err);
    if (KWR_PLANTED(name_sync_failure_ignored)) status = KWR_OK;
    if (status < KWR_OK) {
        if (KWR_PLANTED(unknown_is_failure)) return status;
        kwr_error_prefix(err, "publish '%s/%s': the name is there but may not last",
                         fs->path(fs->ctx, dir), name);
        if (err != NULL) err->status = KWR_ERR_UNKNOWN;
        return KWR_ERR_UNKNOWN;
    }
    if (!renamed) discard(self, dir, temp);
    return KWR_OK;
}

static kwr_status file_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    return fs_of(self)->remove(fs_of(self)->ctx, dir_of(self, dir), name, err);
}

/* ---- locks, paths, opening ---- */

static kwr_status file_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_lock **out, kwr_error *err) {
    file_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_lock *lock = kwr_calloc(self->env, sizeof *lock);
    if (lock == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to lock '%s'", name);
    const kwr_status status =
        fs_of(self)->lock(fs_of(self)->ctx, dir_of(self, dir), name, &lock->lock, NULL, err);
    if (status < KWR_OK) {
        kwr_free(self->env, lock, sizeof *lock);
        return status;
    }
    *out = lock;
    return KWR_OK;
}

static void file_unlock(kwr_storage *storage, kwr_storage_lock *lock) {
    file_storage *self = self_of(storage);
    if (lock == NULL) return;
    fs_of(self)->unlock(fs_of(self)->ctx, lock->lock);
    kwr_free(self->env, lock, sizeof *lock);
}

static void file_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                          size_t capacity) {
    file_storage *self = self_of(storage);
    const char *path = fs_of(self)->path(fs_of(self)->ctx, dir_of(self, dir));
    if (name == NULL)
        snprintf(out, capacity, "%s", path);
    else
        snprintf(out, capacity, "%s/%s", path, name);
}

static const kwr_storage_ops file_ops = {
    .struct_size = sizeof(kwr_storage_ops),
    .close = file_close,
    .capabilities = file_capabilities,
    .dir_open = file_dir_open,
    .dir_close = file_dir_close,
    .dir_sync = file_dir_sync,
    .list = file_list,
    .dir_remove = file_dir_remove,
    .create = file_create,
    .write = file_write,
    .finish = file_finish,
    .abandon = file_abandon,
    .open = file_open,
    .read = file_read,
    .close_reader = file_close_reader,
    .publish = file_publish,
    .remove = file_remove,
    .lock = file_lock,
    .unlock = file_unlock,
    .describe = file_describe,
};

/* Makes the name of a new root durable, in the directory above it. */
static kwr_status sync_parent(const kwr_env *env, const char *path, kwr_error *err) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    kwr_buffer parent = { .env = env };
    kwr_buffer_append(&parent, end == 0 ? "." : path, end == 0 ? 1 : end);
    kwr_buffer_append(&parent, "", 1);
    kwr_dir *dir = NULL;
    kwr_status status = KWR_OK;
    if (parent.failed)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open storage '%s'", path);
    else
        status =
            env->fs->open_root(env->fs->ctx, (const char *)parent.data, KWR_FS_FOLLOW, &dir, err);
    if (status >= KWR_OK) {
        status = env->fs->sync_dir(env->fs->ctx, dir, err);
        env->fs->close_dir(env->fs->ctx, dir);
    }
    kwr_buffer_free(&parent);
    return status;
}

kwr_status kwr_storage_file_open(const kwr_env *env, const char *path, bool create,
                                 kwr_storage **out, kwr_error *err) {
    const kwr_fs *fs = env->fs;
    const unsigned flags = KWR_FS_FOLLOW | KWR_FS_PRIVATE;
    file_storage *self = kwr_calloc(env, sizeof *self);
    if (self == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open '%s'", path);
    self->base.ops = &file_ops;
    self->env = env;
    kwr_status status = fs->open_root(fs->ctx, path, flags, &self->root, err);
    if (status == KWR_ERR_MISSING && create) {
        status = fs->open_root(fs->ctx, path, flags | KWR_FS_CREATE, &self->root, err);
        if (status >= KWR_OK) {
            status = sync_parent(env, path, err);
            if (status < KWR_OK) fs->close_dir(fs->ctx, self->root);
        }
    }
    if (status < KWR_OK) {
        kwr_free(env, self, sizeof *self);
        return status;
    }
    *out = &self->base;
    return KWR_OK;
}
