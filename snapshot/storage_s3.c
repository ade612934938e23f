/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage in a bucket of an object store. Directories are prefixes of keys: they are there as long
 * as something is in them. An object appears with its end, whole and durable, so that there are no
 * temporary names and nothing to sync; publishing is a put that the server refuses when the key is
 * taken, which it is made to show first.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/s3.h"
#include "snapshot/s3_upload.h"
#include "snapshot/storage.h"

enum { PAGE = 1000, KEY_MAX = 1024 /* by protocol */ };

typedef struct s3_storage {
    kwr_storage base;
    kwr_s3 *s3;
} s3_storage;

struct kwr_storage_dir {
    char prefix[KEY_MAX + 1]; /* of the keys in it; ends with '/' */
};

struct kwr_storage_writer {
    kwr_s3_upload *upload;
};

struct kwr_storage_reader {
    uint64_t size;
    char etag[KWR_S3_ETAG_MAX]; /* "" when the server gave none */
    char key[];
};

static kwr_s3 *client(kwr_storage *storage) { return ((s3_storage *)storage)->s3; }
static const kwr_env *env_of(kwr_storage *storage) { return kwr_s3_env(client(storage)); }

static const char *prefix_of(kwr_storage *storage, const kwr_storage_dir *dir) {
    return dir == NULL ? kwr_s3_prefix(client(storage)) : dir->prefix;
}

/* The key of `name` in `dir`, with `end` behind it. */
static kwr_status key_of(kwr_storage *storage, const kwr_storage_dir *dir, const char *name,
                         const char *end, char out[KEY_MAX + 1], kwr_error *err) {
    KWR_TRY(kwr_storage_check_name(name, err));
    const int size = snprintf(out, KEY_MAX + 1, "%s%s%s", prefix_of(storage, dir), name, end);
    if (size > KEY_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s/%.100s...': a key of more than %d bytes",
                        kwr_s3_shown(client(storage)), out, KEY_MAX);
    return KWR_OK;
}

static void s3_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                        size_t capacity) {
    const char *prefix = prefix_of(storage, dir);
    const size_t size = strlen(prefix);
    const bool bare = name == NULL && size > 0;
    snprintf(out, capacity, "%s/%.*s%s", kwr_s3_shown(client(storage)),
             (int)(bare ? size - 1 : size), prefix, name == NULL ? "" : name);
}

static kwr_status no_memory(kwr_storage *storage, const char *key, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for '%s/%s'", kwr_s3_shown(client(storage)),
                    key);
}

static void s3_close(kwr_storage *storage) {
    s3_storage *self = (s3_storage *)storage;
    const kwr_env *env = kwr_s3_env(self->s3);
    kwr_s3_close(self->s3);
    kwr_free(env, self, sizeof *self);
}

/* ---- uploads that were never ended ---- */

static kwr_status s3_unfinished(kwr_storage *storage, kwr_storage_dir *dir, kwr_unfinished_fn fn,
                                void *ctx, kwr_error *err) {
    const char *prefix = prefix_of(storage, dir);
    const size_t cut = strlen(prefix);
    kwr_buffer found = { .env = env_of(storage) };
    kwr_status status = kwr_s3_uploads(client(storage), prefix, UINT32_MAX, &found, err);
    for (size_t at = 0; at < found.size && status >= KWR_OK;) {
        const char *key = (const char *)found.data + at;
        const char *upload = key + strlen(key) + 1;
        at += (size_t)(upload - key) + strlen(upload) + 1;
        /* What was not asked for is not ours. */
        if (strncmp(key, prefix, cut) == 0 && key[cut] != '\0') status = fn(ctx, key + cut, upload);
    }
    kwr_buffer_free(&found);
    return status;
}

static kwr_status s3_unfinished_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *path,
                                       const char *token, kwr_error *err) {
    char key[KEY_MAX + 1];
    const int size = snprintf(key, sizeof key, "%s%s", prefix_of(storage, dir), path);
    if (size > KEY_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s/%.100s...': a key of more than %d bytes",
                        kwr_s3_shown(client(storage)), key, KEY_MAX);
    return kwr_s3_upload_abort(client(storage), key, token, err);
}

static uint32_t s3_capabilities(kwr_storage *storage) {
    (void)storage;
    return KWR_STORAGE_DURABLE | KWR_STORAGE_SHARED | KWR_STORAGE_PREFIXES;
}

/* ---- directories ---- */

/* Whether there is anything below a prefix. */
static kwr_status any_below(kwr_storage *storage, const char *prefix, bool *out, kwr_error *err) {
    kwr_s3_page page = { 0 };
    bool found = false;
    kwr_status status = KWR_OK;
    do {
        status = kwr_s3_list(client(storage), prefix, 2, &page, err);
        found = found || page.names.size > 0;
    } while (status >= KWR_OK && !found && page.next.size > 0);
    kwr_s3_page_free(&page);
    if (status >= KWR_OK) *out = found;
    return status;
}

static kwr_status s3_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                              bool create, kwr_storage_dir **out, kwr_error *err) {
    char key[KEY_MAX + 1];
    KWR_TRY(key_of(storage, parent, name, "/", key, err));
    if (!create) {
        bool any = false;
        KWR_TRY(any_below(storage, key, &any, err));
        if (!any)
            return KWR_FAIL(err, KWR_ERR_MISSING, 0, "'%s/%s': no such directory",
                            kwr_s3_shown(client(storage)), key);
    }
    kwr_storage_dir *dir = kwr_alloc(env_of(storage), sizeof *dir);
    if (dir == NULL) return no_memory(storage, key, err);
    memcpy(dir->prefix, key, sizeof key);
    *out = dir;
    return KWR_OK;
}

static void s3_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    kwr_free(env_of(storage), dir, sizeof *dir);
}

/* An object that was answered for is durable, and so is its name. */
static kwr_status s3_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    (void)storage;
    (void)dir;
    (void)err;
    return KWR_OK;
}

/* The names of one page, directories without their '/'. */
static kwr_status tell(kwr_s3_page *page, const char *prefix, kwr_list_fn fn, void *fn_ctx) {
    for (size_t at = 0; at < page->names.size;) {
        char *name = (char *)page->names.data + at;
        size_t size = strlen(name);
        at += size + 1;
        if (size > 0 && name[size - 1] == '/') name[--size] = '\0';
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        if (!kwr_name_ok(name, KWR_STORAGE_NAME_MAX, true)) continue;
        KWR_TRY(fn(fn_ctx, name));
    }
    return KWR_OK;
}

static kwr_status s3_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                          kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    char key[KEY_MAX + 1];
    if (snprintf(key, sizeof key, "%s%s", prefix_of(storage, dir), prefix) > KEY_MAX)
        return KWR_OK; /* nothing has such a long name */
    kwr_s3_page page = { 0 };
    kwr_status status = KWR_OK;
    do {
        status = kwr_s3_list(client(storage), key, PAGE, &page, err);
        if (status >= KWR_OK) status = tell(&page, prefix, fn, fn_ctx);
    } while (status >= KWR_OK && page.next.size > 0);
    kwr_s3_page_free(&page);
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status s3_dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                kwr_error *err) {
    char key[KEY_MAX + 1];
    bool any = false;
    KWR_TRY(key_of(storage, parent, name, "/", key, err));
    KWR_TRY(any_below(storage, key, &any, err));
    if (!any) return KWR_OK; /* what has nothing in it is not there */
    return KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': the directory is not empty",
                    kwr_s3_shown(client(storage)), key);
}

/* ---- files ---- */

static kwr_status head(kwr_storage *storage, const char *key, kwr_s3_reply *reply, kwr_error *err) {
    const kwr_s3_call call = { .method = "HEAD", .key = key };
    return kwr_s3_ask(client(storage), &call, reply, err);
}

static kwr_status s3_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_writer **out, kwr_error *err) {
    char key[KEY_MAX + 1];
    KWR_TRY(key_of(storage, dir, name, "", key, err));
    /* A look now saves a transfer; that nothing is replaced is seen to at the end. */
    kwr_s3_reply reply = { 0 };
    kwr_error seen = { 0 };
    kwr_status status = head(storage, key, &reply, &seen);
    kwr_s3_reply_free(&reply);
    if (status >= KWR_OK)
        return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s/%s': the name is taken",
                        kwr_s3_shown(client(storage)), key);
    if (status != KWR_ERR_MISSING) {
        if (err != NULL) *err = seen;
        return status;
    }
    kwr_storage_writer *writer = kwr_calloc(env_of(storage), sizeof *writer);
    if (writer == NULL) return no_memory(storage, key, err);
    status = kwr_s3_upload_open(client(storage), key, &writer->upload, err);
    if (status < KWR_OK) {
        kwr_free(env_of(storage), writer, sizeof *writer);
        return status;
    }
    *out = writer;
    return KWR_OK;
}

static kwr_status s3_write(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                           size_t size, kwr_error *err) {
    (void)storage;
    return kwr_s3_upload_write(writer->upload, data, size, err);
}

static kwr_status s3_finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    const kwr_status status = kwr_s3_upload_end(writer->upload, err);
    kwr_free(env_of(storage), writer, sizeof *writer);
    return status;
}

static void s3_abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    if (writer == NULL) return;
    kwr_s3_upload_give_up(writer->upload);
    kwr_free(env_of(storage), writer, sizeof *writer);
}

static kwr_status read_head(kwr_storage *storage, const kwr_s3_reply *reply,
                            kwr_storage_reader *reader, kwr_error *err) {
    const char *size = kwr_http_header(&reply->answer, "content-length");
    const char *etag = kwr_http_header(&reply->answer, "etag");
    if (etag == NULL || size == NULL || !kwr_parse_u64(size, strlen(size), &reader->size))
        return KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': the server does not tell its size and ETag",
                        kwr_s3_shown(client(storage)), reader->key);
    if (strlen(etag) < sizeof reader->etag) memcpy(reader->etag, etag, strlen(etag) + 1);
    return KWR_OK;
}

static void s3_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    if (reader == NULL) return;
    kwr_free(env_of(storage), reader, sizeof *reader + strlen(reader->key) + 1);
}

static kwr_status s3_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                          kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    char key[KEY_MAX + 1];
    KWR_TRY(key_of(storage, dir, name, "", key, err));
    kwr_storage_reader *reader = kwr_calloc(env_of(storage), sizeof *reader + strlen(key) + 1);
    if (reader == NULL) return no_memory(storage, key, err);
    memcpy(reader->key, key, strlen(key) + 1);
    kwr_s3_reply reply = { 0 };
    kwr_status status = head(storage, key, &reply, err);
    if (status >= KWR_OK) status = read_head(storage, &reply, reader, err);
    kwr_s3_reply_free(&reply);
    if (status < KWR_OK) {
        s3_close_reader(storage, reader);
        return status;
    }
    if (size != NULL) *size = reader->size;
    *out = reader;
    return KWR_OK;
}

/* A server that knows no ranges answers 200 with all of it, which does not fit. */
static kwr_status s3_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                          void *data, size_t size, kwr_error *err) {
    const char *shown = kwr_s3_shown(client(storage));
    if (offset > reader->size || size > reader->size - offset)
        return KWR_FAIL(
            err, KWR_ERR_CORRUPT, 0, "'%s/%s': ends at byte %llu, %zu bytes at %llu were expected",
            shown, reader->key, (unsigned long long)reader->size, size, (unsigned long long)offset);
    if (size == 0) return KWR_OK;
    char range[80];
    snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)(offset + size - 1));
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = {
        .method = "GET", .key = reader->key, .headers = { range }, .into = data, .into_size = size
    };
    kwr_status status = kwr_s3_ask(client(storage), &call, &reply, err);
    const char *etag = kwr_http_header(&reply.answer, "etag");
    if (status >= KWR_OK && reply.status != 206 && size != reader->size)
        status = KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                          "'%s/%s': the server answers a range with %d, not 206", shown,
                          reader->key, reply.status);
    if (status >= KWR_OK && etag != NULL && reader->etag[0] != '\0' &&
        strcmp(etag, reader->etag) != 0)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s/%s': was replaced while it was read", shown,
                          reader->key);
    kwr_s3_reply_free(&reply);
    return status;
}

static kwr_status s3_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                             const void *data, size_t size, kwr_error *err) {
    char key[KEY_MAX + 1];
    KWR_TRY(key_of(storage, dir, name, "", key, err));
    return kwr_s3_put_new(client(storage), key, data, size, err);
}

/* A removal is the same whether the object is there or not: only a look tells. */
static kwr_status s3_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_error *err) {
    char key[KEY_MAX + 1];
    KWR_TRY(key_of(storage, dir, name, "", key, err));
    kwr_s3_reply reply = { 0 };
    kwr_status status = head(storage, key, &reply, err);
    if (status >= KWR_OK) {
        const kwr_s3_call call = { .method = "DELETE", .key = key };
        status = kwr_s3_ask(client(storage), &call, &reply, err);
        if (status == KWR_ERR_MISSING) status = KWR_OK; /* by an earlier try */
    }
    kwr_s3_reply_free(&reply);
    return status;
}

static kwr_status s3_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                          kwr_storage_lock **out, kwr_error *err) {
    (void)storage;
    (void)dir;
    (void)name;
    (void)out;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "an object store has no locks");
}

static void s3_unlock(kwr_storage *storage, kwr_storage_lock *lock) {
    (void)storage;
    (void)lock;
}

static const kwr_storage_ops s3_ops = {
    .struct_size = sizeof(kwr_storage_ops),
    .close = s3_close,
    .capabilities = s3_capabilities,
    .dir_open = s3_dir_open,
    .dir_close = s3_dir_close,
    .dir_sync = s3_dir_sync,
    .list = s3_list,
    .dir_remove = s3_dir_remove,
    .create = s3_create,
    .write = s3_write,
    .finish = s3_finish,
    .abandon = s3_abandon,
    .open = s3_open,
    .read = s3_read,
    .close_reader = s3_close_reader,
    .publish = s3_publish,
    .remove = s3_remove,
    .lock = s3_lock,
    .unlock = s3_unlock,
    .describe = s3_describe,
    .unfinished = s3_unfinished,
    .unfinished_remove = s3_unfinished_remove,
};

/* Whoever wants to write hears at once when it cannot be done safely there. */
static kwr_status look_around(kwr_storage *storage, bool create, kwr_error *err) {
    bool any = false;
    KWR_TRY(any_below(storage, kwr_s3_prefix(client(storage)), &any, err));
    if (create) return kwr_s3_prove(client(storage), err);
    if (any) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISSING, 0, "'%s/%s': nothing is there",
                    kwr_s3_shown(client(storage)), kwr_s3_prefix(client(storage)));
}

kwr_status kwr_storage_s3_open(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                               kwr_error *err) {
    s3_storage *self = kwr_calloc(env, sizeof *self);
    if (self == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    self->base.ops = &s3_ops;
    kwr_status status = kwr_s3_open(env, uri, &self->s3, err);
    if (status < KWR_OK) {
        kwr_free(env, self, sizeof *self);
        return status;
    }
    status = look_around(&self->base, create, err);
    if (status < KWR_OK) {
        s3_close(&self->base);
        return status;
    }
    *out = &self->base;
    return KWR_OK;
}
