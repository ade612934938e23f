/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world outside: memory, time, threads, files, randomness, log and metrics. The library
 * reaches all of it through this struct of small vtables and nothing else, so that a host can put
 * its own in place and a test can replay any fault from a seed.
 *
 * Every vtable starts with struct_size = sizeof of the caller's struct: fields are only appended
 * and those beyond struct_size are taken as absent. Every function gets the vtable's ctx.
 */
#ifndef KEYWEIR_ENV_H
#define KEYWEIR_ENV_H

#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory. All functions are [any]; NULL means "no memory" and is always handled. */
typedef struct kwr_allocator {
    size_t struct_size;
    void *ctx;
    /* `align` is a power of two; the content is undefined. */
    void *(*alloc)(void *ctx, size_t size, size_t align);
    /* `size` is what was asked for. NULL is never passed. */
    void (*free)(void *ctx, void *memory, size_t size);
    /*
     * Large blocks, multiples of 2 MiB aligned to 2 MiB, zeroed, backed by huge pages where the
     * system has them. The library keeps and recycles them.
     */
    void *(*map)(void *ctx, size_t size);
    void (*unmap)(void *ctx, void *memory, size_t size);
} kwr_allocator;

/* Time. [any] */
typedef struct kwr_clock {
    size_t struct_size;
    void *ctx;
    uint64_t (*mono_ns)(void *ctx); /* monotonic, any origin: deadlines and durations */
    int64_t (*wall_ms)(void *ctx);  /* Unix time: information and TTL only */
} kwr_clock;

/* One piece of work. The memory is the caller's and must live until it ran or was cancelled. */
typedef struct kwr_work {
    void (*run)(void *ctx);
    void *ctx;
    void *executor_private[6]; /* zero before the first post; the executor's while posted */
} kwr_work;

/*
 * Threads. Work may run on any thread of the executor; two pieces may run at the same time. No user
 * code runs there except the log and metric callbacks. A failed post means that it will not run.
 */
typedef struct kwr_executor {
    size_t struct_size;
    void *ctx;
    uint32_t (*parallelism)(void *ctx);            /* how many pieces run at the same time, >= 1 */
    kwr_status (*post)(void *ctx, kwr_work *work); /* computes */
    kwr_status (*post_at)(void *ctx, kwr_work *work, uint64_t mono_ns); /* computes, not before */
    kwr_status (*blocking)(void *ctx, kwr_work *work); /* may block on files or networks */
    bool (*cancel)(void *ctx, kwr_work *work);         /* true: it has not run and will not */
    /*
     * Returns when `work` is neither queued nor running; at once when it never was. May run other
     * queued work meanwhile. Never called from work of the same kind that it could deadlock with:
     * only owners and blocking work wait, and only for computing work or I/O of their own.
     */
    void (*wait)(void *ctx, kwr_work *work);
} kwr_executor;

/* Randomness for unique names, uids and jitter, not for secrets. [any] */
typedef struct kwr_random {
    size_t struct_size;
    void *ctx;
    kwr_status (*bytes)(void *ctx, void *out, size_t size);
} kwr_random;

/*
 * Files. A path is an open directory plus one component; only open_root() takes a path of the
 * operating system. Implementations never follow symbolic links below a root unless asked by
 * KWR_FS_FOLLOW, and report failures with the path in `err`. Distinct files and directories may be
 * used from distinct threads at the same time; a directory also from several at once.
 *
 * Status values used: KWR_ERR_MISSING (no such name), KWR_ERR_EXISTS, KWR_ERR_NOSPACE,
 * KWR_ERR_LOCKED, KWR_ERR_UNSUPPORTED, KWR_ERR_MISMATCH (not a regular file or directory, as
 * asked), KWR_ERR_RANGE (name refused), KWR_ERR_NOMEM, KWR_ERR_IO (all else, with errno).
 */
typedef struct kwr_dir kwr_dir;
typedef struct kwr_file kwr_file;
typedef struct kwr_lock kwr_lock;

enum {
    KWR_FS_CREATE = 1,    /* directories: create when missing, mode 0700 */
    KWR_FS_EXCLUSIVE = 2, /* with CREATE: KWR_ERR_EXISTS when it is there */
    KWR_FS_FOLLOW = 4,    /* a symbolic link as last component is followed */
    KWR_FS_PRIVATE = 8,   /* open_root(): KWR_ERR_REFUSED when every user may change it */
};

typedef enum kwr_file_kind {
    KWR_FILE_REGULAR = 1,
    KWR_FILE_DIRECTORY = 2,
    KWR_FILE_OTHER = 3,
} kwr_file_kind;

typedef struct kwr_file_info {
    kwr_file_kind kind;
    uint64_t size;
    int64_t modified_ms; /* Unix time, information only */
} kwr_file_info;

/* Called once for each name but "." and ".."; a failure stops the listing and is returned. */
typedef kwr_status (*kwr_list_fn)(void *ctx, const char *name);

typedef struct kwr_fs {
    size_t struct_size;
    void *ctx;
    /* With KWR_FS_CREATE the name of the root is durable when it returns. */
    kwr_status (*open_root)(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                            kwr_error *err);
    kwr_status (*open_dir)(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                           kwr_dir **out, kwr_error *err);
    void (*close_dir)(void *ctx, kwr_dir *dir);
    /* For messages: the path the directory was opened by; lives as long as `dir`. */
    const char *(*path)(void *ctx, kwr_dir *dir);
    kwr_status (*list)(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx, kwr_error *err);
    /* Makes names created, linked, renamed and removed in `dir` durable. */
    kwr_status (*sync_dir)(void *ctx, kwr_dir *dir, kwr_error *err);
    /* Creates a new file for writing, mode 0600; KWR_ERR_EXISTS when the name is taken. */
    kwr_status (*create)(void *ctx, kwr_dir *dir, const char *name, kwr_file **out, kwr_error *err);
    /* Opens an existing regular file for reading. */
    kwr_status (*open)(void *ctx, kwr_dir *dir, const char *name, unsigned flags, kwr_file **out,
                       kwr_file_info *info, kwr_error *err);
    /* Appends; may write less than asked: `*done` bytes. */
    kwr_status (*write)(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                        kwr_error *err);
    /* Hint: start writing back what was written so far, without waiting. May be NULL. */
    void (*write_back)(void *ctx, kwr_file *file);
    /* May read less than asked; *done = 0 only at the end of the file. */
    kwr_status (*read)(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                       size_t *done, kwr_error *err);
    /* Makes the content durable. After a failure the file is dead: never synced again. */
    kwr_status (*sync)(void *ctx, kwr_file *file, kwr_error *err);
    /* Always releases `file`; may report what writing it lost. */
    kwr_status (*close)(void *ctx, kwr_file *file, kwr_error *err);
    /* Atomic second name; KWR_ERR_EXISTS when taken, KWR_ERR_UNSUPPORTED without hard links. */
    kwr_status (*link)(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                       const char *to_name, kwr_error *err);
    /* Atomic; never replaces: KWR_ERR_EXISTS. */
    kwr_status (*rename)(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                         const char *to_name, kwr_error *err);
    kwr_status (*remove)(void *ctx, kwr_dir *dir, const char *name, kwr_error *err);
    kwr_status (*remove_dir)(void *ctx, kwr_dir *parent, const char *name, kwr_error *err);
    kwr_status (*info)(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                       kwr_error *err);
    /*
     * Takes an exclusive lock on a file of that name, created when missing and never removed. Held
     * until unlocked or the process ends. Taken: KWR_ERR_LOCKED with the holder's pid in `err` and,
     * when not NULL, in `*holder` (0: unknown).
     */
    kwr_status (*lock)(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out, uint64_t *holder,
                       kwr_error *err);
    void (*unlock)(void *ctx, kwr_lock *lock);
} kwr_fs;

typedef enum kwr_log_level {
    KWR_LOG_DEBUG = 0,
    KWR_LOG_INFO = 1,
    KWR_LOG_WARNING = 2,
    KWR_LOG_ERROR = 3,
} kwr_log_level;

/* Log and metrics. Either function may be NULL. Must not call back into the library. [any] */
typedef struct kwr_observer {
    size_t struct_size;
    void *ctx;
    /* One line without its end; `component` is the room it comes from, such as "snapshot". */
    void (*log)(void *ctx, kwr_log_level level, const char *component, const char *line);
    /* `name` such as "checkpoint_bytes_total"; the unit is in the name. */
    void (*metric)(void *ctx, const char *name, int64_t value);
} kwr_observer;

/*
 * Named values of the process's surroundings, such as AWS_ACCESS_KEY_ID: read where a storage's
 * description names none. Often secrets: they are never logged. [any]
 */
typedef struct kwr_variables {
    size_t struct_size;
    void *ctx;
    /* Copies the value with its NUL. KWR_ERR_MISSING; KWR_ERR_RANGE: longer than `capacity`. */
    kwr_status (*get)(void *ctx, const char *name, char *out, size_t capacity);
} kwr_variables;

/* The host's; outlives everything opened with it. */
typedef struct kwr_env {
    size_t struct_size;
    const kwr_allocator *allocator;
    const kwr_clock *clock;
    const kwr_executor *executor;
    const kwr_fs *fs;
    const kwr_random *random;
    const kwr_observer *observer;   /* may be NULL */
    const kwr_variables *variables; /* may be NULL: none are set */
} kwr_env;

typedef struct kwr_posix_options {
    size_t struct_size;
    uint32_t compute_threads;     /* default: the number of processors */
    uint32_t blocking_threads;    /* default 4 */
    const kwr_observer *observer; /* default: none */
    /* Storage roots that every user may write to, without the sticky bit, are used all the same. */
    bool roots_unchecked;
} kwr_posix_options;

/*
 * The default environment: POSIX files, clocks and a thread pool of its own at lower priority than
 * its creator. Everything opened with it must be closed before kwr_env_posix_close(). `options`
 * may be NULL. Fails with KWR_ERR_NOMEM, KWR_ERR_IO (threads), KWR_ERR_RANGE.
 */
KWR_API KWR_CHECK kwr_status kwr_env_posix_open(const kwr_posix_options *options, kwr_env **out,
                                                kwr_error *err);
KWR_API void kwr_env_posix_close(kwr_env *env);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_ENV_H */
