/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where snapshots go. A storage holds directories one below the other and files that are written
 * once: streamed in, read by range, published whole or not at all. Implementations embed
 * kwr_storage as their first member; callers use the kwr_storage_* functions.
 *
 * Names are single components of [A-Za-z0-9._-]{1,200}; a leading '.' marks temporary files.
 */
#ifndef KEYWEIR_STORAGE_H
#define KEYWEIR_STORAGE_H

#include "keyweir/env.h"
#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_storage kwr_storage;
typedef struct kwr_storage_dir kwr_storage_dir;
typedef struct kwr_storage_writer kwr_storage_writer;
typedef struct kwr_storage_reader kwr_storage_reader;
typedef struct kwr_storage_lock kwr_storage_lock;

enum {
    KWR_STORAGE_DURABLE = 1, /* finished and published bytes survive a power loss */
    KWR_STORAGE_SHARED = 2,  /* other processes see it */
    KWR_STORAGE_LOCKS = 4,   /* lock() keeps other processes out */
    KWR_STORAGE_RANDOM = 8,  /* ranged reads are cheap */
    /* Directories are prefixes of names: one that is empty is not there, and its name may be a
       file's as well. */
    KWR_STORAGE_PREFIXES = 16,
};

/* `path` is relative to the directory, its parts separated by '/'. */
typedef kwr_status (*kwr_unfinished_fn)(void *ctx, const char *path, const char *token);

/* All functions may be called from any thread; distinct writers and readers at the same time. */
typedef struct kwr_storage_ops {
    size_t struct_size;
    void (*close)(kwr_storage *storage);
    uint32_t (*capabilities)(kwr_storage *storage);
    /* `parent` NULL: below the root. `create`: made when missing. KWR_ERR_MISSING, _MISMATCH. */
    kwr_status (*dir_open)(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                           bool create, kwr_storage_dir **out, kwr_error *err);
    void (*dir_close)(kwr_storage *storage, kwr_storage_dir *dir);
    /* Makes the names in `dir` (NULL: the root) durable. */
    kwr_status (*dir_sync)(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err);
    /* Names that start with `prefix` ("" for all), in no order. */
    kwr_status (*list)(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                       kwr_list_fn fn, void *fn_ctx, kwr_error *err);
    /* Only an empty directory. */
    kwr_status (*dir_remove)(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                             kwr_error *err);
    /* A new file; KWR_ERR_EXISTS, which some storages notice in finish() only. Its name may be
     * visible before it is finished. */
    kwr_status (*create)(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                         kwr_storage_writer **out, kwr_error *err);
    kwr_status (*write)(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                        size_t size, kwr_error *err);
    /* Content durable; the name is after dir_sync(). Releases the writer, also on failure. */
    kwr_status (*finish)(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err);
    /* Releases the writer and removes what it wrote, as far as that works. */
    void (*abandon)(kwr_storage *storage, kwr_storage_writer *writer);
    /* KWR_ERR_MISSING when there is no such file. */
    kwr_status (*open)(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                       kwr_storage_reader **out, uint64_t *size, kwr_error *err);
    /* Exactly `size` bytes at `offset`; KWR_ERR_CORRUPT past the end. */
    kwr_status (*read)(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                       void *data, size_t size, kwr_error *err);
    void (*close_reader)(kwr_storage *storage, kwr_storage_reader *reader);
    /*
     * Creates a file with this whole content or not at all, never replacing one, and makes content
     * and name durable. KWR_OK: it is there. KWR_ERR_EXISTS: the name was taken. KWR_ERR_UNKNOWN:
     * it may or may not be there, or may not last. Any other failure: it is not there.
     */
    kwr_status (*publish)(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                          const void *data, size_t size, kwr_error *err);
    /* KWR_ERR_MISSING when there is no such file. */
    kwr_status (*remove)(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                         kwr_error *err);
    /* Taken: KWR_ERR_LOCKED with the holder named in `err`. */
    kwr_status (*lock)(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                       kwr_storage_lock **out, kwr_error *err);
    void (*unlock)(kwr_storage *storage, kwr_storage_lock *lock);
    /* The path of a file for messages (and, if the storage is native files, for opening). */
    void (*describe)(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                     size_t capacity);
    /*
     * Where files that were begun and neither finished nor abandoned (by a process that died) take
     * room without being in any listing, else NULL: passes all of them to `fn`, `dir` and
     * everything below. unfinished_remove() takes path and token back. [any]
     */
    kwr_status (*unfinished)(kwr_storage *storage, kwr_storage_dir *dir, kwr_unfinished_fn fn,
                             void *ctx, kwr_error *err);
    kwr_status (*unfinished_remove)(kwr_storage *storage, kwr_storage_dir *dir, const char *path,
                                    const char *token, kwr_error *err);
} kwr_storage_ops;

struct kwr_storage {
    const kwr_storage_ops *ops;
};

/*
 * Opens the storage a URI names: "file:/path", "file:///path", a plain path, "memory:" (empty and
 * private to this object), or "webhdfs://host:port,.../path" (HDFS, see docs/hdfs.md). With
 * `create` a missing root directory is made. The storage must outlive everything opened on it.
 * Fails with KWR_ERR_RANGE (not a URI we know), KWR_ERR_MISSING, KWR_ERR_REFUSED (a root another
 * user could tamper with), KWR_ERR_UNSUPPORTED (a build without libcurl), KWR_ERR_IO,
 * KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_storage_open(const kwr_env *env, const char *uri, bool create,
                                              kwr_storage **out, kwr_error *err);
/* In memory; writes beyond `bytes_max` (0: no limit) fail with KWR_ERR_NOSPACE. */
KWR_API KWR_CHECK kwr_status kwr_storage_memory_open(const kwr_env *env, uint64_t bytes_max,
                                                     kwr_storage **out, kwr_error *err);
KWR_API void kwr_storage_close(kwr_storage *storage);

/* Bytes per second; 0: no limit. */
typedef struct kwr_storage_rates {
    size_t struct_size;
    uint64_t write_bytes_per_second;
    uint64_t read_bytes_per_second;
} kwr_storage_rates;
/*
 * A storage that is `storage`, with a limit on how fast bytes go to it and come from it, all
 * threads together: so that checkpoints leave room on a network or disk that others use too. Who
 * writes or reads waits on the executor of `env`; a tenth of a second that was not used may be made
 * up for. What publishes a commit does not wait. Give it to a job and to its tasks like any other;
 * below local copies, not above them. `storage` must outlive it and is not closed by it. Fails with
 * KWR_ERR_MISUSE, KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_storage_limited_open(const kwr_env *env, kwr_storage *storage,
                                                      const kwr_storage_rates *rates,
                                                      kwr_storage **out, kwr_error *err);

/*
 * Local recovery: a storage that is `remote`, and keeps copies of the data files written through it
 * in `local`, mostly a directory on a disk of this machine. A restore through it reads the copies
 * that are there, each byte verified as if it came from `remote`, and `remote` for all else. What
 * goes wrong locally is logged and costs the copy, never a checkpoint or a restore. Give it to
 * kwr_task_options.storage (and kwr_job_options.storage): docs/local-recovery.md. Both storages
 * must outlive it and are not closed by it. Fails with KWR_ERR_MISUSE, KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_storage_local_copy_open(const kwr_env *env, kwr_storage *remote,
                                                         kwr_storage *local, kwr_storage **out,
                                                         kwr_error *err);
/*
 * Says that the copies of `job` belong to the job with this uid; until then none are made or used.
 * kwr_job_open() and kwr_task_open() do it; a host that uses keyweir/snapshot.h alone does it
 * itself, with the uid of its targets. Copies of files that storage has no more are removed. Of
 * another kind of storage KWR_OK, without effect. Fails with KWR_ERR_MISMATCH (the directory has
 * copies of another job), KWR_ERR_RANGE, KWR_ERR_MISUSE, KWR_ERR_NOMEM; a disk that does not work
 * is logged. [any]
 */
KWR_API KWR_CHECK kwr_status kwr_storage_local_copy_claim(kwr_storage *storage, const char *job,
                                                          const uint8_t uid[16], kwr_error *err);

/* Since it was opened. */
typedef struct kwr_local_copy_stats {
    size_t struct_size;
    uint64_t bytes_local;    /* of data files: read from copies, verified and used */
    uint64_t bytes_remote;   /* of data files: read from `remote` */
    uint64_t files_local;    /* copies of which bytes were used */
    uint64_t files_rejected; /* copies that were damaged, unreadable or not of this file */
    uint64_t files_copied;
    uint64_t bytes_copied;
    uint64_t files_failed;  /* data files that got no copy */
    uint64_t files_removed; /* copies, because their file was */
} kwr_local_copy_stats;

/* Set stats->struct_size first. All 0 of another kind of storage. [any] */
KWR_API void kwr_storage_local_copy_get_stats(kwr_storage *storage, kwr_local_copy_stats *stats);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_STORAGE_H */
