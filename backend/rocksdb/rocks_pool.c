/* SPDX-License-Identifier: Apache-2.0 */
/* See rocks_pool.h. */
#include "backend/rocksdb/rocks_pool.h"

#include "backend/rocksdb/rocks.h"
#include "base/thread.h"

enum {
    MEMTABLE_PART = 3,       /* one in three of the budget */
    CACHE_PART_LEAST = 6,    /* what memtables and readers may do to the cache ends here */
    CAPACITY_STEP_PART = 64, /* smaller changes of its capacity are not worth an eviction */
    SHARD_BYTES = 8 << 20,   /* a shard must hold the largest block many times over */
    SHARD_BITS_MOST = 4,
    READERS_EVERY = 64, /* looks: walks all open tables */
};

static const unsigned mib = 1 << 20;

/* ---- the cache ---- */

static rocksdb_cache_t *make_cache(uint64_t capacity) {
    int bits = 0;
    while (bits < SHARD_BITS_MOST && capacity >> (bits + 1) >= SHARD_BYTES)
        bits++;
    rocksdb_lru_cache_options_t *options = rocksdb_lru_cache_options_create();
    if (options == NULL) return NULL;
    /* Never strict: a cache that is full must not fail a read. */
    rocksdb_lru_cache_options_set_capacity(options, (size_t)capacity);
    rocksdb_lru_cache_options_set_num_shard_bits(options, bits);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(options);
    rocksdb_lru_cache_options_destroy(options);
    return cache;
}

static uint64_t memtables_of(uint64_t budget) { return budget / MEMTABLE_PART; }

/* What is left of the budget for the cache. */
static uint64_t capacity_of(rocks_pool *pool) {
    const uint64_t budget = atomic_load_explicit(&pool->budget, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&pool->memtables, memory_order_relaxed);
    if (taken < memtables_of(budget)) taken = memtables_of(budget);
    taken += atomic_load_explicit(&pool->readers, memory_order_relaxed);
    const uint64_t least = budget / CACHE_PART_LEAST;
    return taken < budget - least ? budget - taken : least;
}

/* Under the lock. */
static void set_capacity(rocks_pool *pool) {
    const uint64_t capacity = capacity_of(pool);
    atomic_store_explicit(&pool->capacity, capacity, memory_order_relaxed);
    rocksdb_cache_set_capacity(pool->cache, (size_t)capacity);
}

static void adjust(rocks_pool *pool) {
    const uint64_t wanted = capacity_of(pool);
    const uint64_t is = atomic_load_explicit(&pool->capacity, memory_order_relaxed);
    const uint64_t step =
        atomic_load_explicit(&pool->budget, memory_order_relaxed) / CAPACITY_STEP_PART;
    if (wanted < is + step && is < wanted + step) return;
    kwr_mutex_lock(&pool->lock);
    if (pool->cache != NULL) set_capacity(pool);
    kwr_mutex_unlock(&pool->lock);
}

/* ---- what is used ---- */

static void pool_stats(kwr_resources_share *share, kwr_resources_stats *out) {
    rocks_pool *pool = (rocks_pool *)share;
    uint64_t memtables = 0, readers = 0;
    kwr_mutex_lock(&pool->lock);
    for (const rocks_db *db = pool->members; db != NULL; db = db->member.next) {
        rocksdb_memory_consumers_t *consumers = rocksdb_memory_consumers_create();
        char *words = NULL;
        if (db->member.watched != NULL)
            rocksdb_memory_consumers_add_db(consumers, db->member.watched);
        rocksdb_memory_usage_t *usage = rocksdb_approximate_memory_usage_create(consumers, &words);
        if (words == NULL && usage != NULL) {
            memtables += rocksdb_approximate_memory_usage_get_mem_table_total(usage);
            readers += rocksdb_approximate_memory_usage_get_mem_table_readers_total(usage);
        }
        rocksdb_free(words);
        if (usage != NULL) rocksdb_approximate_memory_usage_destroy(usage);
        rocksdb_memory_consumers_destroy(consumers);
    }
    if (pool->cache != NULL) {
        out->rocksdb_cache_bytes = rocksdb_cache_get_usage(pool->cache);
        out->rocksdb_pinned_bytes = rocksdb_cache_get_pinned_usage(pool->cache);
    }
    kwr_mutex_unlock(&pool->lock);
    out->rocksdb_budget_bytes = atomic_load_explicit(&pool->budget, memory_order_relaxed);
    out->rocksdb_memtable_bytes = memtables;
    out->rocksdb_table_reader_bytes = readers;
    out->rocksdb_used_bytes = out->rocksdb_cache_bytes + memtables + readers;
    out->rocksdb_used_bytes_peak = atomic_load_explicit(&pool->peak, memory_order_relaxed);
    if (out->rocksdb_used_bytes_peak < out->rocksdb_used_bytes)
        out->rocksdb_used_bytes_peak = out->rocksdb_used_bytes;
    out->rocksdb_backends = atomic_load_explicit(&pool->member_count, memory_order_relaxed);
}

static void note_peak(rocks_pool *pool) {
    /* A member's look: the cache stays as long as there is one. */
    const uint64_t used = rocksdb_cache_get_usage(pool->cache) +
                          atomic_load_explicit(&pool->memtables, memory_order_relaxed) +
                          atomic_load_explicit(&pool->readers, memory_order_relaxed);
    uint64_t peak = atomic_load_explicit(&pool->peak, memory_order_relaxed);
    while (peak < used && !atomic_compare_exchange_weak(&pool->peak, &peak, used))
        continue;
}

/* ---- the pool ---- */

static void pool_end(kwr_resources_share *share) {
    rocks_pool *pool = (rocks_pool *)share;
    if (pool->cache != NULL) rocksdb_cache_destroy(pool->cache);
    kwr_mutex_done(&pool->lock);
    kwr_free(pool->env, pool, sizeof *pool);
}

static rocks_pool *pool_new(const kwr_env *env, kwr_resources *resources) {
    rocks_pool *pool = kwr_calloc(env, sizeof *pool);
    if (pool == NULL) return NULL;
    pool->share = (kwr_resources_share){ .end = pool_end, .stats = pool_stats };
    pool->env = env;
    pool->resources = resources;
    pool->stated = kwr_resources_rocksdb_bytes(resources);
    atomic_init(&pool->budget, pool->stated);
    atomic_init(&pool->member_count, 0);
    kwr_mutex_init(&pool->lock);
    return pool;
}

static rocks_pool *pool_of(kwr_resources *resources) {
    kwr_resources_share *share = kwr_resources_share_of(resources, NULL);
    if (share != NULL) return (rocks_pool *)share;
    rocks_pool *fresh = pool_new(kwr_resources_env(resources), resources);
    if (fresh == NULL) return NULL;
    share = kwr_resources_share_of(resources, &fresh->share);
    if (share != &fresh->share) pool_end(&fresh->share);
    return (rocks_pool *)share;
}

/* What one more or one less member takes from the cap over everything. */
static uint64_t reserved_by(const rocks_pool *pool, unsigned others) {
    if (pool->stated == 0) return KWR_ROCKSDB_BYTES_EACH;
    return others == 0 ? pool->stated : 0;
}

static void set_budget(rocks_pool *pool, unsigned members) {
    const uint64_t budget =
        pool->stated != 0 ? pool->stated : (uint64_t)members * KWR_ROCKSDB_BYTES_EACH;
    atomic_store_explicit(&pool->budget, budget, memory_order_relaxed);
    if (pool->cache != NULL) set_capacity(pool);
}

/* Under the lock. */
static kwr_status admit(rocks_pool *pool, kwr_error *err) {
    const unsigned members = atomic_load_explicit(&pool->member_count, memory_order_relaxed);
    const uint64_t needed = kwr_rocksdb_memory_min(members + 1);
    if (pool->stated != 0 && needed > pool->stated)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0,
                        "engine rocksdb: the budget of %llu MiB (rocksdb_memory_bytes) carries %u "
                        "open backends, and %u are open: close one with its views, or raise it "
                        "to %llu MiB",
                        (unsigned long long)(pool->stated / mib),
                        (unsigned)(pool->stated / kwr_rocksdb_memory_min(1)), members,
                        (unsigned long long)(needed / mib));
    const uint64_t bytes = reserved_by(pool, members);
    if (!kwr_resources_reserve(pool->resources, bytes))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0,
                        "engine rocksdb: memory_bytes_max has no room for %llu MiB more: raise it, "
                        "or state a smaller rocksdb_memory_bytes (at least %llu MiB a backend)",
                        (unsigned long long)(bytes / mib),
                        (unsigned long long)(kwr_rocksdb_memory_min(1) / mib));
    if (pool->cache == NULL) {
        const uint64_t budget = pool->stated != 0 ? pool->stated : KWR_ROCKSDB_BYTES_EACH;
        pool->cache = make_cache(budget - memtables_of(budget));
    }
    if (pool->cache == NULL) {
        kwr_resources_unreserve(pool->resources, bytes);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory for its cache");
    }
    atomic_store_explicit(&pool->member_count, members + 1, memory_order_relaxed);
    set_budget(pool, members + 1);
    return KWR_OK;
}

kwr_status kwr_rocks_pool_join(kwr_resources *resources, rocks_db *db, kwr_error *err) {
    rocks_pool *pool = pool_of(resources);
    if (pool == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory");
    kwr_mutex_lock(&pool->lock);
    const kwr_status status = admit(pool, err);
    if (status >= KWR_OK) {
        db->member.pool = pool;
        db->member.next = pool->members;
        pool->members = db;
    }
    kwr_mutex_unlock(&pool->lock);
    return status;
}

static void publish(rocks_member *m, uint64_t memtables, uint64_t readers) {
    /* Differences, so that the sums hold whoever else is adding. */
    const uint64_t old = atomic_exchange_explicit(&m->memtables, memtables, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->pool->memtables, memtables - old, memory_order_relaxed);
    const uint64_t was = atomic_exchange_explicit(&m->readers, readers, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->pool->readers, readers - was, memory_order_relaxed);
}

void kwr_rocks_pool_leave(rocks_db *db) {
    rocks_pool *pool = db->member.pool;
    if (pool == NULL) return;
    publish(&db->member, 0, 0);
    db->member.pool = NULL;
    kwr_mutex_lock(&pool->lock);
    rocks_db **at = &pool->members;
    while (*at != db)
        at = &(*at)->member.next;
    *at = db->member.next;
    const unsigned left =
        atomic_fetch_sub_explicit(&pool->member_count, 1, memory_order_relaxed) - 1;
    kwr_resources_unreserve(pool->resources, reserved_by(pool, left));
    if (left == 0) {
        rocksdb_cache_destroy(pool->cache);
        pool->cache = NULL;
    }
    set_budget(pool, left);
    kwr_mutex_unlock(&pool->lock);
}

void kwr_rocks_pool_watch(rocks_db *db, bool open) {
    rocks_pool *pool = db->member.pool;
    if (pool == NULL) return;
    kwr_mutex_lock(&pool->lock);
    db->member.watched = open ? db->db : NULL;
    kwr_mutex_unlock(&pool->lock);
    if (!open) publish(&db->member, 0, 0);
}

uint64_t kwr_rocks_pool_memtables_each(const rocks_pool *pool) {
    const unsigned members = atomic_load_explicit(&pool->member_count, memory_order_relaxed);
    const uint64_t budget = atomic_load_explicit(&pool->budget, memory_order_relaxed);
    return memtables_of(budget) / (members == 0 ? 1 : members);
}

/* ---- a member's look ---- */

static uint64_t property(const rocks_db *db, size_t family, const char *name) {
    uint64_t value = 0;
    const int failed = rocksdb_property_int_cf(db->db, db->families[family], name, &value);
    return failed == 0 ? value : 0;
}

static uint64_t sum_of(const rocks_db *db, const char *name, size_t *largest) {
    uint64_t sum = 0, most = 0;
    for (size_t i = 0; i < db->family_count; i++) {
        const uint64_t value = property(db, i, name);
        sum += value;
        if (value < most) continue;
        most = value;
        if (largest != NULL) *largest = i;
    }
    return sum;
}

/* Flushes the largest memtable. Failures show at the next write: RocksDB keeps them. */
static void flush_largest(const rocks_db *db, size_t family, bool wait) {
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    if (options == NULL) return;
    char *words = NULL;
    rocksdb_flushoptions_set_wait(options, wait);
    rocksdb_flush_cf(db->db, options, db->families[family], &words);
    rocksdb_free(words);
    rocksdb_flushoptions_destroy(options);
}

void kwr_rocks_pool_look(rocks_db *db) {
    rocks_member *m = &db->member;
    if (m->pool == NULL || db->db == NULL) return;
    const uint64_t share = kwr_rocks_pool_memtables_each(m->pool);
    uint64_t readers = atomic_load_explicit(&m->readers, memory_order_relaxed);
    const unsigned look = atomic_fetch_add_explicit(&m->looks, 1, memory_order_relaxed);
    if (look % READERS_EVERY == 0) readers = sum_of(db, "rocksdb.estimate-table-readers-mem", NULL);
    /* What an iterator keeps alive is used, but no flush would free it. */
    uint64_t memtables = sum_of(db, "rocksdb.size-all-mem-tables", NULL);
    if (memtables > share) {
        size_t largest = 0;
        const uint64_t unflushed = sum_of(db, "rocksdb.cur-size-all-mem-tables", NULL);
        const uint64_t active = sum_of(db, "rocksdb.cur-size-active-mem-table", &largest);
        const bool far_beyond = unflushed > share + share / 2;
        if (far_beyond || active > share / 2) {
            flush_largest(db, largest, far_beyond);
            memtables = sum_of(db, "rocksdb.size-all-mem-tables", NULL);
        }
    }
    publish(m, memtables, readers);
    adjust(m->pool);
    note_peak(m->pool);
}
