/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage in HDFS. Everything is written under a temporary name that nobody else has and then
 * renamed, which HDFS does atomically and never onto a file that is there. So a name holds a whole
 * file or nothing, and whatever got lost on the way is settled afterwards: once the temporary name
 * is gone, no rename of it that is still under way can take effect any more.
 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "snapshot/storage.h"
#include "snapshot/webhdfs.h"

enum {
    WRITE_BUFFER = 1024 * 1024, /* up to this a file is sent at once, and again when that fails */
    AHEAD_MIN = 64 * 1024,
    AHEAD_MAX = 1024 * 1024,
    PUBLISH_TRIES = 3,
};

typedef struct hdfs_storage {
    kwr_storage base;
    const kwr_env *env;
    kwr_webhdfs *client;
    char *root; /* path */
    char *shown;
} hdfs_storage;

struct kwr_storage_dir {
    char *path;
};

struct kwr_storage_writer {
    char *temp, *path;
    kwr_webhdfs_stream *stream; /* NULL as long as all is in the buffer */
    uint8_t *buffer;
    size_t used;
    bool begun; /* something may be under the temporary name */
    kwr_status failed;
};

struct kwr_storage_reader {
    char *path;
    uint64_t size;
    uint64_t next;  /* where the last read ended: going on there means reading ahead */
    uint32_t ahead; /* bytes to read at least */
    uint8_t *buffer;
    uint64_t buffer_at;
    size_t buffer_size;
};

static hdfs_storage *self_of(kwr_storage *storage) { return (hdfs_storage *)storage; }
static const char *path_of(const hdfs_storage *self, const kwr_storage_dir *dir) {
    return dir == NULL ? self->root : dir->path;
}

/* "<directory>/<name>", to be freed; NULL without memory. */
static char *join(const kwr_env *env, const char *directory, const char *name) {
    kwr_buffer path = { .env = env };
    kwr_buffer_printf(&path, "%s%s%s", directory, strcmp(directory, "/") == 0 ? "" : "/", name);
    char *copy = path.failed ? NULL : kwr_copy_string(env, (const char *)path.data);
    kwr_buffer_free(&path);
    return copy;
}

static kwr_status no_memory(const char *name, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to use '%s'", name);
}

static kwr_status path_to(hdfs_storage *self, kwr_storage_dir *dir, const char *name, char **out,
                          kwr_error *err) {
    KWR_TRY(kwr_storage_check_name(name, err));
    *out = join(self->env, path_of(self, dir), name);
    return *out == NULL ? no_memory(name, err) : KWR_OK;
}

static void hdfs_close(kwr_storage *storage) {
    hdfs_storage *self = self_of(storage);
    const kwr_env *env = self->env;
    kwr_webhdfs_close(self->client);
    kwr_free_string(env, self->root);
    kwr_free_string(env, self->shown);
    kwr_free(env, self, sizeof *self);
}

/* Not DURABLE: a closed file need not be on the data nodes' disks. */
static uint32_t hdfs_capabilities(kwr_storage *storage) {
    (void)storage;
    return KWR_STORAGE_SHARED | KWR_STORAGE_RANDOM;
}

/* ---- directories ---- */

static kwr_status check_directory(hdfs_storage *self, const char *path, bool create,
                                  kwr_error *err) {
    kwr_webhdfs_status status = { 0 };
    if (create) return kwr_webhdfs_mkdirs(self->client, path, err);
    KWR_TRY(kwr_webhdfs_stat(self->client, path, &status, err));
    if (status.directory) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "'%s' is no directory", path);
}

static void hdfs_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    hdfs_storage *self = self_of(storage);
    if (dir == NULL) return;
    kwr_free_string(self->env, dir->path);
    kwr_free(self->env, dir, sizeof *dir);
}

static kwr_status hdfs_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                bool create, kwr_storage_dir **out, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    char *path = NULL;
    KWR_TRY(path_to(self, parent, name, &path, err));
    kwr_storage_dir *dir = kwr_calloc(self->env, sizeof *dir);
    if (dir == NULL) {
        kwr_free_string(self->env, path);
        return no_memory(name, err);
    }
    dir->path = path;
    const kwr_status status = check_directory(self, path, create, err);
    if (status < KWR_OK) {
        hdfs_dir_close(storage, dir);
        return status;
    }
    *out = dir;
    return KWR_OK;
}

/* Name nodes answer when a change is in their journal. */
static kwr_status hdfs_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    (void)storage, (void)dir, (void)err;
    return KWR_OK;
}

static kwr_status hdfs_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                            kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    kwr_storage_filter filter = { prefix, fn, fn_ctx };
    return kwr_webhdfs_list(self->client, path_of(self, dir), kwr_storage_filtered, &filter, err);
}

/* Removes a file, or an empty directory: HDFS has one call for both, so its kind is asked first. */
static kwr_status remove_path(hdfs_storage *self, const char *path, bool directory,
                              kwr_error *err) {
    kwr_webhdfs_status status = { 0 };
    KWR_TRY(kwr_webhdfs_stat(self->client, path, &status, err));
    if (status.directory != directory)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "'%s' is %s directory", path,
                        status.directory ? "a" : "no");
    kwr_webhdfs_deed deed = KWR_WEBHDFS_NOT_DONE;
    bool repeated = false;
    KWR_TRY(kwr_webhdfs_delete(self->client, path, &deed, &repeated, err));
    if (deed == KWR_WEBHDFS_DONE || repeated) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISSING, 0, "'%s' was removed meanwhile", path);
}

static kwr_status remove_name(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              bool directory, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    char *path = NULL;
    KWR_TRY(path_to(self, dir, name, &path, err));
    const kwr_status status = remove_path(self, path, directory, err);
    kwr_free_string(self->env, path);
    return status;
}

static kwr_status hdfs_dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                  kwr_error *err) {
    return remove_name(storage, parent, name, true, err);
}

static kwr_status hdfs_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_error *err) {
    return remove_name(storage, dir, name, false, err);
}

/* ---- temporary names, and giving a file its own ---- */

static kwr_status temp_path(hdfs_storage *self, kwr_storage_dir *dir, const char *name, char **out,
                            kwr_error *err) {
    uint64_t random = 0;
    char temp[KWR_STORAGE_NAME_MAX + 1];
    if (self->env->random->bytes(self->env->random->ctx, &random, sizeof random) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "write '%s': no randomness for a unique name", name);
    snprintf(temp, sizeof temp, ".tmp-%.170s-%016llx", name, (unsigned long long)random);
    *out = join(self->env, path_of(self, dir), temp);
    return *out == NULL ? no_memory(name, err) : KWR_OK;
}

/* Removes what must not be used; what stays is swept later. */
static void discard(hdfs_storage *self, const char *path) {
    kwr_error err = { 0 };
    kwr_webhdfs_deed deed = KWR_WEBHDFS_NOT_DONE;
    bool repeated = false;
    if (kwr_webhdfs_delete(self->client, path, &deed, &repeated, &err) < KWR_OK)
        kwr_log_line(self->env, KWR_LOG_WARNING, "snapshot", "leftover stays: %s", err.text);
}

/* A file under its temporary name, whole; `data` when it is still in memory. */
typedef struct candidate {
    const char *temp, *path;
    kwr_webhdfs_status status;
    const void *data;
    size_t size;
} candidate;

typedef enum finding { FOUND_ABSENT, FOUND_OURS, FOUND_OTHER, FOUND_UNCLEAR } finding;

static finding compare(hdfs_storage *self, const candidate *file) {
    uint8_t *found = kwr_alloc(self->env, file->size);
    finding result = FOUND_UNCLEAR;
    if (found != NULL &&
        kwr_webhdfs_read(self->client, file->path, 0, found, file->size, NULL) >= KWR_OK)
        result = file->size == 0 || memcmp(found, file->data, file->size) == 0 ? FOUND_OURS
                                                                               : FOUND_OTHER;
    kwr_free(self->env, found, file->size);
    return result;
}

/* What stands under the name. Files have numbers in HDFS; gateways do not tell them. */
static finding look(hdfs_storage *self, const candidate *file) {
    kwr_webhdfs_status status = { 0 };
    const kwr_status got = kwr_webhdfs_stat(self->client, file->path, &status, NULL);
    if (got == KWR_ERR_MISSING) return FOUND_ABSENT;
    if (got < KWR_OK) return FOUND_UNCLEAR;
    if (status.directory || status.length != file->status.length) return FOUND_OTHER;
    if (status.file_id != 0 && file->status.file_id != 0)
        return status.file_id == file->status.file_id ? FOUND_OURS : FOUND_OTHER;
    return file->data == NULL ? FOUND_UNCLEAR : compare(self, file);
}

static kwr_status taken(const candidate *file, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s': the name is taken", file->path);
}

static kwr_status outcome_unknown(const candidate *file, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_UNKNOWN, 0,
                    "'%s': the outcome is unknown, and looking at it failed too", file->path);
}

/*
 * After a rename that was refused or lost: takes the temporary name away, after which nothing
 * changes any more, and looks at what is there. `failed`: what to report if nothing is.
 */
static kwr_status settle(hdfs_storage *self, const candidate *file, kwr_status failed,
                         kwr_error *err) {
    kwr_webhdfs_deed deed = KWR_WEBHDFS_NOT_DONE;
    bool repeated = false;
    if (kwr_webhdfs_delete(self->client, file->temp, &deed, &repeated, NULL) < KWR_OK)
        return outcome_unknown(file, err);
    const bool surely_not_renamed = deed == KWR_WEBHDFS_DONE;
    switch (look(self, file)) {
    case FOUND_ABSENT: return failed;
    case FOUND_OURS: return surely_not_renamed ? taken(file, err) : KWR_OK;
    case FOUND_OTHER: return taken(file, err);
    case FOUND_UNCLEAR: break;
    }
    return surely_not_renamed ? failed : outcome_unknown(file, err);
}

/* A directory under that name swallows the file instead of refusing it. */
static kwr_status swallowed(hdfs_storage *self, const candidate *file, kwr_error *err) {
    const char *temp = strrchr(file->temp, '/') + 1;
    char *inside = join(self->env, file->path, temp);
    if (inside != NULL) discard(self, inside);
    kwr_free_string(self->env, inside);
    return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s': the name is taken, by a directory", file->path);
}

/* KWR_OK, KWR_ERR_EXISTS, KWR_ERR_UNKNOWN; anything else: not there. The temporary name is gone
 * but for KWR_ERR_UNKNOWN. */
static kwr_status take_name(hdfs_storage *self, const candidate *file, kwr_error *err) {
    kwr_webhdfs_deed deed = KWR_WEBHDFS_NOT_DONE;
    const kwr_status status = kwr_webhdfs_rename(self->client, file->temp, file->path, &deed, err);
    if (deed == KWR_WEBHDFS_DONE) {
        kwr_webhdfs_status now = { 0 };
        const kwr_status seen = kwr_webhdfs_stat(self->client, file->path, &now, NULL);
        if (seen >= KWR_OK && now.directory) return swallowed(self, file, err);
        return KWR_OK;
    }
    if (deed == KWR_WEBHDFS_UNKNOWN) return settle(self, file, status, err);
    if (status < KWR_OK) {
        discard(self, file->temp);
        return status;
    }
    return settle(self, file,
                  KWR_FAIL(err, KWR_ERR_IO, 0,
                           "'%s': the name node refuses to rename to it; is its directory there?",
                           file->path),
                  err);
}

/* ---- writing ---- */

static void writer_free(hdfs_storage *self, kwr_storage_writer *writer) {
    kwr_free_string(self->env, writer->temp);
    kwr_free_string(self->env, writer->path);
    kwr_free(self->env, writer->buffer, WRITE_BUFFER);
    kwr_free(self->env, writer, sizeof *writer);
}

static kwr_status check_absent(hdfs_storage *self, const char *path, kwr_error *err) {
    kwr_webhdfs_status found = { 0 };
    const kwr_status status = kwr_webhdfs_stat(self->client, path, &found, err);
    if (status == KWR_ERR_MISSING) return KWR_OK;
    KWR_TRY(status);
    return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s' exists", path);
}

static kwr_status hdfs_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_writer **out, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_writer *writer = kwr_calloc(self->env, sizeof *writer);
    if (writer == NULL) return no_memory(name, err);
    kwr_status status = path_to(self, dir, name, &writer->path, err);
    if (status >= KWR_OK) status = temp_path(self, dir, name, &writer->temp, err);
    if (status >= KWR_OK) writer->buffer = kwr_alloc(self->env, WRITE_BUFFER);
    if (status >= KWR_OK && writer->buffer == NULL) status = no_memory(name, err);
    /* The name is taken in finish() only; this tells early what could not work. */
    if (status >= KWR_OK) status = check_absent(self, writer->path, err);
    if (status < KWR_OK) {
        writer_free(self, writer);
        return status;
    }
    *out = writer;
    return KWR_OK;
}

static kwr_status stream_out(hdfs_storage *self, kwr_storage_writer *writer, const void *data,
                             size_t size, kwr_error *err) {
    if (writer->stream == NULL) {
        writer->begun = true;
        KWR_TRY(kwr_webhdfs_stream_open(self->client, writer->temp, &writer->stream, err));
    }
    return kwr_webhdfs_stream_write(writer->stream, data, size, err);
}

static kwr_status hdfs_write(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                             size_t size, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    if (writer->failed < KWR_OK)
        return KWR_FAIL(err, writer->failed, 0, "an earlier write to '%s' failed", writer->path);
    kwr_status status = KWR_OK;
    if (size > WRITE_BUFFER - writer->used) {
        status = stream_out(self, writer, writer->buffer, writer->used, err);
        writer->used = 0;
        if (status >= KWR_OK && size >= WRITE_BUFFER) {
            status = stream_out(self, writer, data, size, err);
            size = 0;
        }
    }
    if (status < KWR_OK) {
        writer->failed = status;
        return status;
    }
    if (size > 0) memcpy(writer->buffer + writer->used, data, size);
    writer->used += size;
    return KWR_OK;
}

static kwr_status complete(hdfs_storage *self, kwr_storage_writer *writer, candidate *file,
                           kwr_error *err) {
    if (writer->failed < KWR_OK)
        return KWR_FAIL(err, writer->failed, 0, "an earlier write to '%s' failed", writer->path);
    if (writer->stream == NULL) {
        writer->begun = true;
        file->data = writer->buffer;
        file->size = writer->used;
        return kwr_webhdfs_put(self->client, writer->temp, writer->buffer, writer->used,
                               &file->status, err);
    }
    if (writer->used > 0) KWR_TRY(stream_out(self, writer, writer->buffer, writer->used, err));
    return kwr_webhdfs_stream_end(KWR_TAKE(writer->stream), &file->status, err);
}

static void drop_writer(hdfs_storage *self, kwr_storage_writer *writer) {
    kwr_webhdfs_stream_abort(writer->stream);
    if (writer->begun) discard(self, writer->temp);
    writer_free(self, writer);
}

static kwr_status hdfs_finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    candidate file = { .temp = writer->temp, .path = writer->path };
    kwr_status status = complete(self, writer, &file, err);
    if (status < KWR_OK) {
        drop_writer(self, writer);
        return status;
    }
    status = take_name(self, &file, err);
    /* A data file nobody refers to does no harm if it is there after all. */
    if (status == KWR_ERR_UNKNOWN) {
        status = KWR_ERR_IO;
        if (err != NULL) err->status = status;
    }
    writer_free(self, writer);
    return status;
}

static void hdfs_abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    if (writer != NULL) drop_writer(self_of(storage), writer);
}

/* ---- reading ---- */

static void hdfs_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    hdfs_storage *self = self_of(storage);
    if (reader == NULL) return;
    kwr_free_string(self->env, reader->path);
    kwr_free(self->env, reader->buffer, AHEAD_MAX);
    kwr_free(self->env, reader, sizeof *reader);
}

static kwr_status hdfs_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_reader *reader = kwr_calloc(self->env, sizeof *reader);
    if (reader == NULL) return no_memory(name, err);
    kwr_webhdfs_status found = { 0 };
    kwr_status status = path_to(self, dir, name, &reader->path, err);
    if (status >= KWR_OK) status = kwr_webhdfs_stat(self->client, reader->path, &found, err);
    if (status >= KWR_OK && found.directory)
        status = KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "'%s' is a directory", reader->path);
    if (status < KWR_OK) {
        hdfs_close_reader(storage, reader);
        return status;
    }
    reader->size = found.length;
    *out = reader;
    if (size != NULL) *size = found.length;
    return KWR_OK;
}

/* Takes what the buffer has of the range; returns how much. */
static size_t from_buffer(const kwr_storage_reader *r, uint64_t offset, void *data, size_t size) {
    if (offset < r->buffer_at || offset - r->buffer_at >= r->buffer_size) return 0;
    const size_t skip = (size_t)(offset - r->buffer_at);
    const size_t there = r->buffer_size - skip, part = there < size ? there : size;
    memcpy(data, r->buffer + skip, part);
    return part;
}

/* Reads on in order: more than asked for, twice as much each time. */
static kwr_status read_ahead(hdfs_storage *self, kwr_storage_reader *r, uint64_t offset,
                             size_t size, kwr_error *err) {
    r->ahead = r->ahead < AHEAD_MIN ? AHEAD_MIN : r->ahead * 2;
    if (r->ahead > AHEAD_MAX) r->ahead = AHEAD_MAX;
    uint64_t part = size > r->ahead ? size : r->ahead;
    if (part > r->size - offset) part = r->size - offset;
    r->buffer_size = 0;
    KWR_TRY(kwr_webhdfs_read(self->client, r->path, offset, r->buffer, (size_t)part, err));
    r->buffer_at = offset;
    r->buffer_size = (size_t)part;
    return KWR_OK;
}

static kwr_status hdfs_read(kwr_storage *storage, kwr_storage_reader *r, uint64_t offset,
                            void *data, size_t size, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    if (offset > r->size || size > r->size - offset)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' ends at byte %llu, %zu bytes from %llu on were expected", r->path,
                        (unsigned long long)r->size, size, (unsigned long long)offset);
    uint8_t *to = data;
    const bool in_order = offset == r->next;
    r->next = offset + size;
    const size_t had = from_buffer(r, offset, to, size);
    to += had;
    offset += had;
    size -= had;
    if (size == 0) return KWR_OK;
    if (!in_order) r->ahead = 0;
    if (in_order && r->buffer == NULL) r->buffer = kwr_alloc(self->env, AHEAD_MAX);
    if (!in_order || r->buffer == NULL || size >= AHEAD_MAX)
        return kwr_webhdfs_read(self->client, r->path, offset, to, size, err);
    KWR_TRY(read_ahead(self, r, offset, size, err));
    (void)from_buffer(r, offset, to, size);
    return KWR_OK;
}

/* ---- publishing ---- */

static kwr_status publish_once(hdfs_storage *self, kwr_storage_dir *dir, const char *name,
                               const char *path, const void *data, size_t size, kwr_error *err) {
    char *temp = NULL;
    KWR_TRY(temp_path(self, dir, name, &temp, err));
    candidate file = { .temp = temp, .path = path, .data = data, .size = size };
    kwr_status status = kwr_webhdfs_put(self->client, temp, data, size, &file.status, err);
    if (status >= KWR_OK) status = take_name(self, &file, err);
    kwr_free_string(self->env, temp);
    return status;
}

static kwr_status hdfs_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                               const void *data, size_t size, kwr_error *err) {
    hdfs_storage *self = self_of(storage);
    char *path = NULL;
    KWR_TRY(path_to(self, dir, name, &path, err));
    kwr_status status = KWR_OK;
    /* What is surely not there may be written again. */
    for (int i = 0; i < PUBLISH_TRIES && (i == 0 || status == KWR_ERR_IO); i++)
        status = publish_once(self, dir, name, path, data, size, err);
    kwr_free_string(self->env, path);
    return status;
}

/* ---- locks, paths, opening ---- */

static kwr_status hdfs_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_lock **out, kwr_error *err) {
    (void)storage, (void)dir, (void)out;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                    "lock '%s': HDFS has no locks; the commit log keeps attempts apart", name);
}

static void hdfs_unlock(kwr_storage *storage, kwr_storage_lock *lock) { (void)storage, (void)lock; }

static void hdfs_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                          size_t capacity) {
    const hdfs_storage *self = self_of(storage);
    const char *below =
        dir == NULL ? "" : dir->path + (strcmp(self->root, "/") == 0 ? 0 : strlen(self->root));
    snprintf(out, capacity, "%s%s%s%s", self->shown, below, name == NULL ? "" : "/",
             name == NULL ? "" : name);
}

static const kwr_storage_ops hdfs_ops = {
    .struct_size = sizeof(kwr_storage_ops),
    .close = hdfs_close,
    .capabilities = hdfs_capabilities,
    .dir_open = hdfs_dir_open,
    .dir_close = hdfs_dir_close,
    .dir_sync = hdfs_dir_sync,
    .list = hdfs_list,
    .dir_remove = hdfs_dir_remove,
    .create = hdfs_create,
    .write = hdfs_write,
    .finish = hdfs_finish,
    .abandon = hdfs_abandon,
    .open = hdfs_open,
    .read = hdfs_read,
    .close_reader = hdfs_close_reader,
    .publish = hdfs_publish,
    .remove = hdfs_remove,
    .lock = hdfs_lock,
    .unlock = hdfs_unlock,
    .describe = hdfs_describe,
};

static kwr_status open_root(hdfs_storage *self, bool create, kwr_error *err) {
    kwr_webhdfs_status status = { 0 };
    kwr_status found = kwr_webhdfs_stat(self->client, self->root, &status, err);
    if (found == KWR_ERR_MISSING && create) {
        KWR_TRY(kwr_webhdfs_mkdirs(self->client, self->root, err));
        found = kwr_webhdfs_stat(self->client, self->root, &status, err);
        if (found >= KWR_OK && strcmp(status.permission, "700") != 0)
            kwr_log_line(self->env, KWR_LOG_WARNING, "snapshot",
                         "'%s' was asked for with permission 700 and made with %s", self->shown,
                         status.permission);
    }
    KWR_TRY(found);
    if (status.directory) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "'%s' is no directory", self->shown);
}

static kwr_status refuse_rpc(const kwr_location *location, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "storage '%s': HDFS is reached by its HTTP interface here; write "
                    "webhdfs://%s%s, with the HTTP address of the name node or of several, "
                    "webhdfs://host:9870,host:9870/... (a local path would be file:...)",
                    location->shown, location->authority, location->path);
}

kwr_status kwr_storage_webhdfs_open(const kwr_env *env, const char *uri, bool create,
                                    kwr_storage **out, kwr_error *err) {
    kwr_location location = { 0 };
    KWR_TRY(kwr_location_parse(env, uri, &location, err));
    if (strcmp(location.scheme, "hdfs") == 0) {
        const kwr_status refused = refuse_rpc(&location, err);
        kwr_location_free(&location);
        return refused;
    }
    hdfs_storage *self = kwr_calloc(env, sizeof *self);
    kwr_status status = KWR_OK;
    if (self != NULL) {
        self->base.ops = &hdfs_ops;
        self->env = env;
        self->root = kwr_copy_string(env, location.path);
        self->shown = kwr_copy_string(env, location.shown);
    }
    if (self == NULL || self->root == NULL || self->shown == NULL)
        status = no_memory("a storage", err);
    if (status >= KWR_OK) status = kwr_webhdfs_open(env, &location, &self->client, err);
    if (status >= KWR_OK) status = open_root(self, create, err);
    kwr_location_free(&location);
    if (status < KWR_OK) {
        if (self != NULL) hdfs_close(&self->base);
        return status;
    }
    *out = &self->base;
    return KWR_OK;
}
