/* SPDX-License-Identifier: Apache-2.0 */
/* See resources.h. Free blocks form a stack threaded through their first bytes: the warmest goes
 * out first. The lock is never held while the allocator maps or unmaps. */
#include "backend/resources.h"

#include <stdatomic.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"

enum { RECYCLE_DEFAULT = 256 << 20 };

typedef struct free_block {
    struct free_block *next;
} free_block;

struct kwr_resources {
    const kwr_env *env;
    atomic_uint references;
    uint64_t cap; /* UINT64_MAX: none */
    uint64_t recycle_bytes;
    uint64_t rocksdb_bytes; /* 0: not stated */
    bool huge;
    kwr_mutex lock;
    /* under the lock */
    uint64_t mapped; /* blocks in use and free, and reserved bytes */
    uint64_t peak;
    uint64_t free_bytes;
    free_block *free;
    kwr_resources_share *share;
};

static const unsigned mib = 1 << 20;

uint64_t kwr_rocksdb_memory_min(uint32_t backends) {
    return (uint64_t)backends * KWR_ROCKSDB_BYTES_MIN;
}

static kwr_status check_rocksdb_bytes(const kwr_resources_options *o, kwr_error *err) {
    const uint64_t bytes = o->rocksdb_memory_bytes, least = kwr_rocksdb_memory_min(1);
    if (bytes != 0 && bytes < least)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "resources: rocksdb_memory_bytes is %llu, the smallest that works is %llu "
                        "(%llu MiB) for each backend that is open",
                        (unsigned long long)bytes, (unsigned long long)least,
                        (unsigned long long)(least / mib));
    if (bytes > INT64_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "resources: rocksdb_memory_bytes is %llu, at most "
                        "%lld is possible",
                        (unsigned long long)bytes, (long long)INT64_MAX);
    if (o->memory_bytes_max != 0 && bytes > o->memory_bytes_max)
        return KWR_FAIL(
            err, KWR_ERR_RANGE, 0,
            "resources: rocksdb_memory_bytes is %llu, more than memory_bytes_max, %llu, "
            "which it is part of",
            (unsigned long long)bytes, (unsigned long long)o->memory_bytes_max);
    return KWR_OK;
}

kwr_status kwr_resources_open(const kwr_env *env, const kwr_resources_options *options,
                              kwr_resources **out, kwr_error *err) {
    if (env == NULL || env->allocator == NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "resources: an env with an allocator is required");
    kwr_resources_options o;
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_resources_options", err));
    KWR_TRY(check_rocksdb_bytes(&o, err));
    kwr_resources *r = kwr_calloc(env, sizeof *r);
    if (r == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "resources: no memory");
    r->env = env;
    atomic_init(&r->references, 1);
    r->rocksdb_bytes = o.rocksdb_memory_bytes;
    r->cap = o.memory_bytes_max == 0 ? UINT64_MAX : o.memory_bytes_max;
    r->recycle_bytes = o.recycle_bytes == 0 ? RECYCLE_DEFAULT : o.recycle_bytes;
    r->huge = !o.huge_pages_off && env->allocator->map != NULL && env->allocator->unmap != NULL;
    kwr_mutex_init(&r->lock);
    *out = r;
    return KWR_OK;
}

static void *block_get(const kwr_resources *r) {
    const kwr_allocator *a = r->env->allocator;
    return r->huge ? a->map(a->ctx, KWR_RESOURCE_BLOCK)
                   : a->alloc(a->ctx, KWR_RESOURCE_BLOCK, 4096);
}

static void block_put(const kwr_resources *r, void *block) {
    const kwr_allocator *a = r->env->allocator;
    if (r->huge)
        a->unmap(a->ctx, block, KWR_RESOURCE_BLOCK);
    else
        a->free(a->ctx, block, KWR_RESOURCE_BLOCK);
}

/* Under the lock: takes the warmest free block, NULL when there is none. */
static free_block *pop(kwr_resources *r) {
    free_block *block = r->free;
    if (block == NULL) return NULL;
    r->free = block->next;
    r->free_bytes -= KWR_RESOURCE_BLOCK;
    return block;
}

static void free_all(kwr_resources *resources) {
    if (resources->share != NULL) resources->share->end(resources->share);
    for (free_block *block; (block = pop(resources)) != NULL;)
        block_put(resources, block);
    kwr_mutex_done(&resources->lock);
    kwr_free(resources->env, resources, sizeof *resources);
}

void kwr_resources_retain(kwr_resources *resources) {
    atomic_fetch_add_explicit(&resources->references, 1, memory_order_relaxed);
}

void kwr_resources_release(kwr_resources *resources) {
    if (resources == NULL) return;
    if (atomic_fetch_sub_explicit(&resources->references, 1, memory_order_acq_rel) == 1)
        free_all(resources);
}

void kwr_resources_close(kwr_resources *resources) { kwr_resources_release(resources); }

uint64_t kwr_resources_mapped(const kwr_resources *resources, uint64_t *peak) {
    kwr_mutex *lock = (kwr_mutex *)&resources->lock;
    kwr_mutex_lock(lock);
    const uint64_t mapped = resources->mapped;
    if (peak != NULL) *peak = resources->peak;
    kwr_mutex_unlock(lock);
    return mapped;
}

/* Under the lock. */
static bool count_up(kwr_resources *r, uint64_t bytes) {
    if (bytes > r->cap || r->mapped > r->cap - bytes) return false;
    r->mapped += bytes;
    if (r->mapped > r->peak) r->peak = r->mapped;
    return true;
}

void *kwr_resources_map(kwr_resources *resources) {
    kwr_mutex_lock(&resources->lock);
    void *block = pop(resources);
    const bool counted = block == NULL && count_up(resources, KWR_RESOURCE_BLOCK);
    kwr_mutex_unlock(&resources->lock);
    if (!counted) return block;
    block = block_get(resources);
    if (block == NULL) kwr_resources_unreserve(resources, KWR_RESOURCE_BLOCK);
    return block;
}

void kwr_resources_unmap(kwr_resources *resources, void *block) {
    kwr_mutex_lock(&resources->lock);
    const bool keep = resources->free_bytes + KWR_RESOURCE_BLOCK <= resources->recycle_bytes;
    if (keep) {
        free_block *entry = block;
        entry->next = resources->free;
        resources->free = entry;
        resources->free_bytes += KWR_RESOURCE_BLOCK;
    }
    kwr_mutex_unlock(&resources->lock);
    if (keep) return;
    block_put(resources, block);
    kwr_resources_unreserve(resources, KWR_RESOURCE_BLOCK);
}

bool kwr_resources_reserve(kwr_resources *resources, uint64_t bytes) {
    for (;;) {
        kwr_mutex_lock(&resources->lock);
        const bool fits = count_up(resources, bytes);
        /* Free blocks make room for what cannot use them. */
        void *block = fits ? NULL : pop(resources);
        kwr_mutex_unlock(&resources->lock);
        if (block == NULL) return fits;
        block_put(resources, block);
        kwr_resources_unreserve(resources, KWR_RESOURCE_BLOCK);
    }
}

void kwr_resources_unreserve(kwr_resources *resources, uint64_t bytes) {
    kwr_mutex_lock(&resources->lock);
    resources->mapped -= bytes;
    kwr_mutex_unlock(&resources->lock);
}

/* ---- engines with memory of their own ---- */

kwr_resources_share *kwr_resources_share_of(kwr_resources *resources, kwr_resources_share *fresh) {
    kwr_mutex_lock(&resources->lock);
    if (resources->share == NULL) resources->share = fresh;
    kwr_resources_share *share = resources->share;
    kwr_mutex_unlock(&resources->lock);
    return share;
}

const kwr_env *kwr_resources_env(const kwr_resources *resources) { return resources->env; }

uint64_t kwr_resources_rocksdb_bytes(const kwr_resources *resources) {
    return resources->rocksdb_bytes;
}

void kwr_resources_get_stats(const kwr_resources *resources, kwr_resources_stats *stats) {
    const uint64_t stated = resources->rocksdb_bytes;
    const uint64_t carried = stated / KWR_ROCKSDB_BYTES_MIN;
    kwr_resources_stats all = { .struct_size = sizeof all, .rocksdb_budget_bytes = stated };
    all.mapped_bytes = kwr_resources_mapped(resources, &all.mapped_bytes_peak);
    all.rocksdb_backends_max = stated == 0 || carried > UINT32_MAX ? UINT32_MAX : (uint32_t)carried;
    kwr_resources_share *share = kwr_resources_share_of((kwr_resources *)resources, NULL);
    if (share != NULL) share->stats(share, &all);
    const size_t size = stats->struct_size < sizeof all ? stats->struct_size : sizeof all;
    if (size <= sizeof all.struct_size) return;
    memcpy((uint8_t *)stats + sizeof all.struct_size, (uint8_t *)&all + sizeof all.struct_size,
           size - sizeof all.struct_size);
}
