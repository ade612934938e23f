/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that all databases of one kwr_resources share: one cache of blocks, indexes and
 * filters, and a third of the budget for memtables, in equal shares.
 *
 * RocksDB's C API of 7.8 has no write-buffer manager. What it would do is done here: each database
 * looks at its memtables now and then, flushes when they are beyond its share, waits for the flush
 * when they are far beyond it, and whatever memtables and table readers take beyond their part is
 * taken off the cache's capacity.
 */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_POOL_H
#define KWR_BACKEND_ROCKSDB_ROCKS_POOL_H

#include <rocksdb/c.h>
#include <stdatomic.h>

#include "backend/resources.h"
#include "base/thread.h"

struct rocks_db;

typedef struct rocks_pool {
    kwr_resources_share share;
    const kwr_env *env;
    kwr_resources *resources; /* which owns the pool */
    uint64_t stated;          /* 0: so much for each member */
    _Atomic uint64_t budget;
    _Atomic uint64_t memtables; /* of all members, as they saw it last */
    _Atomic uint64_t readers;
    _Atomic uint64_t capacity; /* of the cache */
    _Atomic uint64_t peak;
    atomic_uint member_count;
    kwr_mutex lock;
    /* under the lock */
    rocksdb_cache_t *cache; /* NULL: no members */
    struct rocks_db *members;
} rocks_pool;

/* A database's part in it. */
typedef struct rocks_member {
    rocks_pool *pool; /* NULL: not in one */
    struct rocks_db *next;
    rocksdb_t *watched; /* under the pool's lock: open, and may be asked from any thread */
    _Atomic uint64_t memtables;
    _Atomic uint64_t readers;
    atomic_uint looks;
} rocks_member;

/* Counts a database in before it is opened: KWR_ERR_NOMEM when the budget does not carry it. */
kwr_status kwr_rocks_pool_join(kwr_resources *resources, struct rocks_db *db, kwr_error *err);
/* After it is closed. */
void kwr_rocks_pool_leave(struct rocks_db *db);
/* After the database was opened: `open`; before it is closed: not. */
void kwr_rocks_pool_watch(struct rocks_db *db, bool open);
/* What one database may have in memtables at present. */
uint64_t kwr_rocks_pool_memtables_each(const rocks_pool *pool);
/* The look at its memtables: every ROCKS_LOOK_CALLS calls or ROCKS_LOOK_BYTES written, whichever
 * comes first. [any], while its column families stay the same. */
void kwr_rocks_pool_look(struct rocks_db *db);
enum { ROCKS_LOOK_CALLS = 512, ROCKS_LOOK_BYTES = 32 << 10 };

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_POOL_H */
