/* SPDX-License-Identifier: Apache-2.0 */
/* What the rooms above use of storage beyond its vtable, and the implementations. */
#ifndef KWR_SNAPSHOT_STORAGE_H
#define KWR_SNAPSHOT_STORAGE_H

#include "keyweir/storage.h"

enum {
    KWR_STORAGE_NAME_MAX = 200,
    KWR_STORAGE_PATH_MAX = 512, /* of a path in messages; longer ones are cut */
};

/* Files below the directory `path` of env->fs. */
kwr_status kwr_storage_file_open(const kwr_env *env, const char *path, bool create,
                                 kwr_storage **out, kwr_error *err);

/* "webhdfs:", "swebhdfs:" and "hdfs:", see docs/storage.md. */
kwr_status kwr_storage_webhdfs_open(const kwr_env *env, const char *uri, bool create,
                                    kwr_storage **out, kwr_error *err);

/* "s3:", see docs/storage.md. */
kwr_status kwr_storage_s3_open(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                               kwr_error *err);

/* Name grammar of storages; KWR_ERR_RANGE. */
kwr_status kwr_storage_check_name(const char *name, kwr_error *err);

/* For what lists whole directories: passes on the names that begin with `prefix`. Those outside the
 * grammar are not ours: nobody could open them here. */
typedef struct kwr_storage_filter {
    const char *prefix;
    kwr_list_fn fn;
    void *fn_ctx;
} kwr_storage_filter;
/* A kwr_list_fn; `ctx` is a kwr_storage_filter. */
kwr_status kwr_storage_filtered(void *ctx, const char *name);

/*
 * A whole file, which must not be larger than `size_max` (KWR_ERR_CORRUPT, naming the limit);
 * KWR_ERR_MISSING. Release with kwr_bytes_free().
 */
kwr_status kwr_storage_read_file(const kwr_env *env, kwr_storage *storage, kwr_storage_dir *dir,
                                 const char *name, uint64_t size_max, kwr_bytes *out,
                                 kwr_error *err);
/* A new file with this content, durable but for its name. */
kwr_status kwr_storage_write_file(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                  const void *data, size_t size, kwr_error *err);

/* Whether `name` is what publishing `of` writes before it links: ".tmp-<of>-<16 hex digits>". */
bool kwr_temp_name_of(const char *name, const char *of);

/* The two of the vtable where the storage has them; else there is nothing unfinished. */
kwr_status kwr_storage_unfinished(kwr_storage *storage, kwr_storage_dir *dir, kwr_unfinished_fn fn,
                                  void *ctx, kwr_error *err);
kwr_status kwr_storage_unfinished_remove(kwr_storage *storage, kwr_storage_dir *dir,
                                         const char *path, const char *token, kwr_error *err);

/* The path of a file or (name NULL) directory for messages. */
void kwr_storage_path(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                      char out[KWR_STORAGE_PATH_MAX]);

#endif /* KWR_SNAPSHOT_STORAGE_H */
