/* SPDX-License-Identifier: Apache-2.0 */
/* Storage by URI, and the few operations that every storage shares. */
#include "snapshot/storage.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/name.h"

/* Length of a leading "scheme:" without the colon, 0 when there is none: a plain path. */
static size_t scheme_length(const char *uri) {
    size_t n = 0;
    for (; uri[n] != '\0' && uri[n] != ':'; n++) {
        const char c = uri[n];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!letter && !(n > 0 && other)) return 0;
    }
    return uri[n] == ':' ? n : 0;
}

typedef kwr_status (*open_fn)(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                              kwr_error *err);

static kwr_status open_memory(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                              kwr_error *err) {
    (void)create;
    if (uri[strlen("memory:")] != '\0')
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': nothing may follow 'memory:', it has no name", uri);
    return kwr_storage_memory_open(env, 0, out, err);
}

/* What stands behind "file:" is a path; behind "file://" one that names another machine is not. */
static kwr_status open_file(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                            kwr_error *err) {
    const char *path = uri + strlen("file:");
    if (strncmp(path, "//", 2) == 0 && path[2] != '/')
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': 'file:' takes no host, write file:/path or file:///path",
                        uri);
    return kwr_storage_file_open(env, strncmp(path, "//", 2) == 0 ? path + 2 : path, create, out,
                                 err);
}

/* One row for each scheme of a URI. */
static const struct {
    const char *scheme;
    open_fn open;
} storages[] = {
    { "file", open_file },
    { "memory", open_memory },
    { "webhdfs", kwr_storage_webhdfs_open },
    { "swebhdfs", kwr_storage_webhdfs_open },
    { "hdfs", kwr_storage_webhdfs_open },
    { "s3", kwr_storage_s3_open },
};

static kwr_status unknown_scheme(const char *uri, size_t size, kwr_error *err) {
    char known[128] = "";
    for (size_t i = 0, used = 0; i < sizeof storages / sizeof *storages; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "'%s:', ", storages[i].scheme);
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "storage '%.*s': scheme '%.*s' is not known here; known are %sand plain paths "
                    "(with a colon in it write ./%.*s)",
                    (int)strcspn(uri, "?"), uri, (int)size, uri, known, (int)strcspn(uri, "?"),
                    uri);
}

kwr_status kwr_storage_open(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                            kwr_error *err) {
    if (env == NULL || uri == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_storage_open: an argument is NULL");
    const size_t scheme = scheme_length(uri);
    if (uri[scheme == 0 ? 0 : scheme + 1] == '\0' && strncmp(uri, "memory:", 7) != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': the path is empty; known are 'file:' with a path, "
                        "'memory:', URIs of other storages, and plain paths",
                        uri);
    if (scheme == 0) return kwr_storage_file_open(env, uri, create, out, err);
    for (size_t i = 0; i < sizeof storages / sizeof *storages; i++)
        if (strlen(storages[i].scheme) == scheme && strncmp(uri, storages[i].scheme, scheme) == 0)
            return storages[i].open(env, uri, create, out, err);
    return unknown_scheme(uri, scheme, err);
}

void kwr_storage_close(kwr_storage *storage) {
    if (storage != NULL) storage->ops->close(storage);
}

kwr_status kwr_storage_check_name(const char *name, kwr_error *err) {
    if (name != NULL && kwr_name_ok(name, KWR_STORAGE_NAME_MAX, true)) return KWR_OK;
    char shown[128];
    kwr_printable(name == NULL ? "" : name, name == NULL ? 0 : strlen(name), shown, sizeof shown);
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "storage name '%s' refused: 1 to %d of A-Z a-z 0-9 . _ - and not . or ..",
                    shown, KWR_STORAGE_NAME_MAX);
}

kwr_status kwr_storage_filtered(void *ctx, const char *name) {
    const kwr_storage_filter *filter = ctx;
    if (strncmp(name, filter->prefix, strlen(filter->prefix)) != 0) return KWR_OK;
    if (kwr_storage_check_name(name, NULL) < KWR_OK) return KWR_OK;
    return filter->fn(filter->fn_ctx, name);
}

bool kwr_temp_name_of(const char *name, const char *of) {
    const size_t size = strlen(name), middle = strlen(of);
    uint64_t random = 0;
    return size == 5 + middle + 1 + 16 && strncmp(name, ".tmp-", 5) == 0 &&
           strncmp(name + 5, of, middle) == 0 && name[5 + middle] == '-' &&
           kwr_parse_hex64(name + size - 16, 16, &random);
}

void kwr_storage_path(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                      char out[KWR_STORAGE_PATH_MAX]) {
    storage->ops->describe(storage, dir, name, out, KWR_STORAGE_PATH_MAX);
}

kwr_status kwr_storage_read_file(const kwr_env *env, kwr_storage *storage, kwr_storage_dir *dir,
                                 const char *name, uint64_t size_max, kwr_bytes *out,
                                 kwr_error *err) {
    kwr_storage_reader *reader = NULL;
    uint64_t size = 0;
    KWR_TRY(storage->ops->open(storage, dir, name, &reader, &size, err));
    kwr_bytes bytes = { 0 };
    char path[KWR_STORAGE_PATH_MAX];
    kwr_status status = KWR_OK;
    if (size > size_max || size > SIZE_MAX) {
        kwr_storage_path(storage, dir, name, path);
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                          "'%s' has %llu bytes, more than the limit of %llu for such a file", path,
                          (unsigned long long)size, (unsigned long long)size_max);
    } else if (kwr_bytes_new(env, (size_t)size, &bytes) < KWR_OK) {
        kwr_storage_path(storage, dir, name, path);
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s' (%llu bytes)", path,
                          (unsigned long long)size);
    } else {
        status = storage->ops->read(storage, reader, 0, bytes.data, bytes.size, err);
    }
    storage->ops->close_reader(storage, reader);
    if (status < KWR_OK) {
        kwr_bytes_free(&bytes);
        return status;
    }
    *out = bytes;
    return KWR_OK;
}

kwr_status kwr_storage_write_file(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                  const void *data, size_t size, kwr_error *err) {
    kwr_storage_writer *writer = NULL;
    KWR_TRY(storage->ops->create(storage, dir, name, &writer, err));
    const kwr_status status = storage->ops->write(storage, writer, data, size, err);
    if (status < KWR_OK) {
        storage->ops->abandon(storage, writer);
        return status;
    }
    return storage->ops->finish(storage, writer, err);
}

/* A host's storage may have been built before these were added. */
static bool has_unfinished(const kwr_storage_ops *ops) {
    return ops->struct_size >=
               offsetof(kwr_storage_ops, unfinished_remove) + sizeof ops->unfinished_remove &&
           ops->unfinished != NULL;
}

kwr_status kwr_storage_unfinished(kwr_storage *storage, kwr_storage_dir *dir, kwr_unfinished_fn fn,
                                  void *ctx, kwr_error *err) {
    if (!has_unfinished(storage->ops)) return KWR_OK;
    return storage->ops->unfinished(storage, dir, fn, ctx, err);
}

kwr_status kwr_storage_unfinished_remove(kwr_storage *storage, kwr_storage_dir *dir,
                                         const char *path, const char *token, kwr_error *err) {
    if (!has_unfinished(storage->ops)) return KWR_ERR_MISSING;
    return storage->ops->unfinished_remove(storage, dir, path, token, err);
}
