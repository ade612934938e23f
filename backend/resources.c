/* SPDX-License-Identifier: Apache-2.0 */
/* See resources.h. Free blocks form a stack threaded through their first bytes: the warmest goes
 * out first. The lock is never held while the allocator maps or unmaps. */
#include "backend/resources.h"

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
    uint64_t cap; /* UINT64_MAX: none */
    uint64_t recycle_bytes;
    bool huge;
    kwr_mutex lock;
    /* under the lock */
    uint64_t mapped; /* blocks in use and free, and reserved bytes */
    uint64_t peak;
    uint64_t free_bytes;
    free_block *free;
};

kwr_status kwr_resources_open(const kwr_env *env, const kwr_resources_options *options,
                              kwr_resources **out, kwr_error *err) {
    if (env == NULL || env->allocator == NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "resources: an env with an allocator is required");
    kwr_resources_options o;
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_resources_options", err));
    kwr_resources *r = kwr_calloc(env, sizeof *r);
    if (r == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "resources: no memory");
    r->env = env;
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

void kwr_resources_close(kwr_resources *resources) {
    if (resources == NULL) return;
    for (free_block *block; (block = pop(resources)) != NULL;)
        block_put(resources, block);
    kwr_mutex_done(&resources->lock);
    kwr_free(resources->env, resources, sizeof *resources);
}

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
