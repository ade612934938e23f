/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyed backend of one task: current key, key groups, key batches, frozen views.
 */
#ifndef KEYWEIR_BACKEND_H
#define KEYWEIR_BACKEND_H

#include "keyweir/env.h"
#include "keyweir/limits.h"
#include "keyweir/status.h"
#include "keyweir/type.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_resources kwr_resources;
typedef struct kwr_backend kwr_backend;
typedef struct kwr_state kwr_state; /* any state handle, see kwr_value_state() and its like */
typedef struct kwr_key_batch kwr_key_batch;
typedef struct kwr_view kwr_view;

/*
 * What several backends of one host share: the pool of large memory blocks, the cap over it, and
 * the memory budget of engines on disk. Counted: every backend and view opened with it keeps it
 * alive, so it may be closed before them. Safe to share between threads.
 */
typedef struct kwr_resources_options {
    size_t struct_size;
    uint64_t memory_bytes_max; /* over all that the backends map; 0: no cap */
    uint64_t recycle_bytes;    /* free blocks kept mapped for reuse; default 256 MiB */
    bool huge_pages_off;       /* default: huge pages where the allocator gives them */
    /*
     * The memory of all backends on engine "rocksdb" together: one cache of blocks, indexes and
     * filters for all of them, and memtables, a third of the budget, in equal shares. At least
     * kwr_rocksdb_memory_min(1); a backend that it does not carry is refused. Counts as mapped
     * as a whole while such a backend is open. 0: 96 MiB for each that is open.
     */
    uint64_t rocksdb_memory_bytes;
} kwr_resources_options;

/* Fails with KWR_ERR_RANGE (a budget that is too small: the text names the smallest),
 * KWR_ERR_NOMEM. */
KWR_API KWR_CHECK kwr_status kwr_resources_open(const kwr_env *env,
                                                const kwr_resources_options *options,
                                                kwr_resources **out, kwr_error *err);
KWR_API void kwr_resources_close(kwr_resources *resources);
/* Bytes mapped now, and the most ever. [any] */
KWR_API uint64_t kwr_resources_mapped(const kwr_resources *resources, uint64_t *peak);
/* The smallest rocksdb_memory_bytes that works for so many open backends. [any] */
KWR_API uint64_t kwr_rocksdb_memory_min(uint32_t backends);

typedef struct kwr_resources_stats {
    size_t struct_size;
    uint64_t mapped_bytes; /* as kwr_resources_mapped() */
    uint64_t mapped_bytes_peak;
    /* engine "rocksdb": what is allowed, and what is really used as RocksDB counts it */
    uint64_t rocksdb_budget_bytes;
    uint64_t rocksdb_used_bytes;      /* the sum of cache, memtables and table readers */
    uint64_t rocksdb_used_bytes_peak; /* as seen at looks at least every 32 calls */
    uint64_t rocksdb_cache_bytes;     /* blocks, indexes, filters */
    uint64_t rocksdb_pinned_bytes;    /* of these: in use just now, cannot be evicted */
    uint64_t rocksdb_memtable_bytes;  /* not flushed, or kept by an iterator */
    uint64_t rocksdb_table_reader_bytes;
    uint32_t rocksdb_backends;     /* open; with a view alive that outlives its backend it counts */
    uint32_t rocksdb_backends_max; /* that the budget carries; UINT32_MAX: any number */
} kwr_resources_stats;

/* Set stats->struct_size first. [any] */
KWR_API void kwr_resources_get_stats(const kwr_resources *resources, kwr_resources_stats *stats);

enum { KWR_MAX_PARALLELISM_LIMIT = 32768, KWR_MAX_PARALLELISM_DEFAULT = 128 };

typedef struct kwr_key_group_range {
    uint32_t first;
    uint32_t count; /* 0: empty */
} kwr_key_group_range;

/*
 * The key groups of subtask `index` of `parallelism`: [ceil(i*M/p), ceil((i+1)*M/p)). Empty unless
 * index < parallelism <= max_parallelism <= 32768. [any]
 */
KWR_API kwr_key_group_range kwr_key_groups_of(uint32_t index, uint32_t parallelism,
                                              uint32_t max_parallelism);
/* The subtask that owns a key group: group * parallelism / max_parallelism. [any] */
KWR_API uint32_t kwr_key_group_owner(uint32_t key_group, uint32_t parallelism,
                                     uint32_t max_parallelism);
/* The default function: high 64 bits of XXH3_64(key, seed) * max_parallelism. [any] */
KWR_API uint32_t kwr_key_group(kwr_slice key, uint64_t seed, uint32_t max_parallelism);

/* How a backend is filled from a snapshot. */
typedef enum kwr_loading {
    KWR_LOADING_EAGER = 0, /* everything is verified and there before the first access */
    /*
     * The page store: the first access is possible as soon as the indexes are read and verified and
     * every file is known to be there, of its length. Pages are loaded, and each verified, when
     * they are first needed, and in the background. A load that fails fails that access, with the
     * state as it was; the same access may succeed later (kwr_status_action()). While pages are
     * left the storage is in use: it outlives the backend and its views. Engine rocksdb,
     * snapshots of other engines or in the canonical form, and checkpoints that hold deltas of
     * pages are restored at once; the log says so.
     */
    KWR_LOADING_LAZY = 1,
} kwr_loading;

enum { KWR_LOAD_SHARE_DEFAULT = 25 };
#define KWR_LOAD_SHARE_NONE UINT32_MAX /* load_share: only what is accessed */

typedef struct kwr_backend_options {
    size_t struct_size;
    const kwr_env *env;             /* required */
    kwr_resources *resources;       /* default: its own, without a cap */
    const char *engine;             /* "memory" (default): the page store; "rocksdb" */
    uint32_t max_parallelism;       /* number of key groups, 1..32768, default 128 */
    kwr_key_group_range key_groups; /* owned; count 0: all of them */
    uint64_t seed;                  /* of the job: seeds the key hash */
    bool engine_key_groups;         /* the caller passes the group with each key */
    kwr_type key_type;
    kwr_limits limits; /* zeroed: defaults */
    /* rocksdb: where its files go while the backend is open. A path on a local file system that is
     * not there yet, in a directory that is; removed at the close. */
    const char *directory;
    kwr_loading loading; /* of kwr_snapshot_restore() and kwr_snapshot_resume() */
    /* Lazy: percent of one processor, 1 to 100, that background loading may take; default 25. */
    uint32_t load_share;
    /* Lazy: called when what was loaded waits for the owner to call kwr_backend_maintain(), so
     * that no-wait accesses can be tried again; may be NULL. [any] */
    void (*load_wake)(void *ctx);
    void *load_wake_ctx;
} kwr_backend_options;

/*
 * Opens an empty backend. Everything opened from it ends with kwr_backend_close(), but for views,
 * which may outlive it and need only the env. Fails with KWR_ERR_RANGE,
 * KWR_ERR_NOMEM, KWR_ERR_UNSUPPORTED (unknown engine).
 */
KWR_API KWR_CHECK kwr_status kwr_backend_open(const kwr_backend_options *options, kwr_backend **out,
                                              kwr_error *err);
KWR_API void kwr_backend_close(kwr_backend *backend);

/* Detail of the latest failed call on `backend` or anything opened from it; never NULL, valid
 * until the next call. */
KWR_API const kwr_error *kwr_backend_error(const kwr_backend *backend);

/*
 * Makes `key` the current key of all states. The bytes are hashed in place and copied. Fails with
 * KWR_ERR_RANGE (too long, or not the key type's size), KWR_ERR_MISUSE (its key group is not owned
 * here: the exchange and the backend disagree), KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_backend_set_key(kwr_backend *backend, kwr_slice key);
/* The same for an engine with its own key groups (engine_key_groups). */
KWR_API KWR_CHECK kwr_status kwr_backend_set_key_in(kwr_backend *backend, kwr_slice key,
                                                    uint32_t key_group);
/* The current key, borrowed until the next change; KWR_NOT_FOUND when there is none. */
KWR_API KWR_CHECK kwr_status kwr_backend_key(const kwr_backend *backend, kwr_slice *key,
                                             uint32_t *key_group);

/* The key groups it owns. */
KWR_API kwr_key_group_range kwr_backend_key_groups(const kwr_backend *backend);

/*
 * Key batches: n keys hashed at once, their entries fetched together, so that the cache misses of
 * independent keys overlap. A batch never changes what any call returns; it stays valid across
 * writes, freezes and other current keys.
 */
KWR_API KWR_CHECK kwr_status kwr_key_batch_new(kwr_backend *backend, size_t capacity,
                                               kwr_key_batch **out);
/* Freed with its backend at the latest. */
KWR_API void kwr_key_batch_free(kwr_key_batch *batch);
/*
 * Takes `count` keys; the bytes stay the caller's and must not change until the next load. With
 * engine_key_groups `key_groups` gives the group of each, else NULL. All are checked as by
 * kwr_backend_set_key(); on a failure the batch is empty. A current key that was selected from the
 * keys before is not current any more, nor is it after kwr_key_batch_free().
 */
KWR_API KWR_CHECK kwr_status kwr_key_batch_load(kwr_key_batch *batch, const kwr_slice *keys,
                                                const uint32_t *key_groups, size_t count);
/* Brings the entries of all loaded keys in these states, in their present namespaces, near. */
KWR_API void kwr_key_batch_prefetch(kwr_key_batch *batch, kwr_state *const *states,
                                    size_t state_count);
/* Makes the i-th key current, without hashing or copying it. Fails with KWR_ERR_RANGE. */
KWR_API KWR_CHECK kwr_status kwr_key_batch_select(kwr_key_batch *batch, size_t index);

/*
 * Freezes all states as they are, in constant time and without I/O. Later writes do not show in the
 * view. Several views may live at once (limits.views_max, then KWR_ERR_BUSY). Ends every borrow.
 */
KWR_API KWR_CHECK kwr_status kwr_backend_freeze(kwr_backend *backend, kwr_view **out);
/*
 * The same for a view that kwr_snapshot_write() is to write as the engine's own files, which then
 * can be shared between checkpoints: rocksdb flushes what is in memory and links its files beside
 * its directory, which takes time and local I/O. The page store has no files: as
 * kwr_backend_freeze(). Fails as that does, and with KWR_ERR_IO, KWR_ERR_NOSPACE.
 */
KWR_API KWR_CHECK kwr_status kwr_backend_freeze_files(kwr_backend *backend, kwr_view **out);
/*
 * Releases a view; its memory is reused by the owner bit by bit. Calls that are using the view, on
 * this thread or on others, go on to their ends, and until then it counts as alive; no new one may
 * begin. So a callback may release the view it is called from. NULL is a no-op. [any]
 */
KWR_API void kwr_view_release(kwr_view *view);

/* Lets an idle owner do deferred work (memory of released views, pages loaded in the background,
 * pages moved together so that memory can be given back) for about `max_ns`; true when some is
 * left. Ends every borrow. */
KWR_API bool kwr_backend_maintain(kwr_backend *backend, uint64_t max_ns);

/*
 * Lazily restored: loads all that is not there yet, by all the executor's threads. A failure names
 * file and offset in kwr_backend_error(); what was loaded stays.
 */
KWR_API KWR_CHECK kwr_status kwr_backend_load(kwr_backend *backend);
/*
 * Lazily restored: an access that would have to wait for storage returns KWR_ERR_NOT_RESIDENT at
 * once instead, having changed nothing, and starts the load; kwr_key_batch_prefetch() starts those
 * of all its keys. Try again after kwr_backend_maintain(). A load that failed is told by the next
 * such access. Off at first.
 */
KWR_API void kwr_backend_set_no_wait(kwr_backend *backend, bool on);

typedef struct kwr_backend_stats {
    size_t struct_size;
    uint64_t entries;      /* live entries of all states */
    uint64_t entry_bytes;  /* their keys, namespaces and values */
    uint64_t used_bytes;   /* blocks in use, shared with views included */
    uint64_t frozen_bytes; /* of these: kept only for views */
    uint64_t mapped_bytes; /* held from the allocator, all purposes */
    uint64_t pages;        /* pages of every kind */
    uint64_t copies;       /* pages copied because a view needed the old one */
    uint64_t splits;
    uint64_t views; /* alive */
    /* engine "rocksdb"; the cache is shared, see kwr_resources_get_stats() */
    uint64_t memtable_bytes;
    uint64_t table_reader_bytes;
    /* lazily restored: what is still to be loaded, of how much in storage */
    uint64_t load_bytes;
    uint64_t load_bytes_left;
    uint64_t load_pages_left; /* 0: everything is there */
    uint64_t load_failures;   /* in the background: left to the accesses that need it */
    uint64_t load_left_ns;    /* forecast; UINT64_MAX: not known */
    /* entries and entry_bytes are estimates: always of engine "rocksdb"; of "memory" while pages
     * of a checkpoint with deltas are not loaded yet, which count as their images do */
    bool estimated;
} kwr_backend_stats;

/* Set stats->struct_size first. */
KWR_API void kwr_backend_get_stats(const kwr_backend *backend, kwr_backend_stats *stats);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_BACKEND_H */
