/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory used again from run to run. Small blocks come from lists by size; blocks of 2 MiB are
 * kept mapped but given back to the system page by page, because most of a block is never touched
 * and clearing all of it costs more than the few page faults. Under AddressSanitizer every block is
 * one of malloc's, so that misuse is seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOLED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLED 0
#endif
#endif
#ifndef POOLED
#define POOLED 1
#endif

enum { LEAST = 64, CLASSES = 10, CHUNK = 256 << 10, MAPS_KEPT = 64 };

typedef struct spare {
    struct spare *next;
} spare;

struct kwr_sim_pool {
    spare *free[CLASSES];
    spare *chunks; /* all of them, for the end */
    uint8_t *at;
    size_t left;
    void *maps[MAPS_KEPT];
    size_t map_count;
    kwr_sim_fiber *fibers;
};

void *kwr_sim_must(void *memory) {
    if (memory == NULL) {
        fputs("sim: out of memory\n", stderr);
        abort();
    }
    return memory;
}

kwr_sim_pool *kwr_sim_pool_new(void) { return kwr_sim_must(calloc(1, sizeof(kwr_sim_pool))); }

void kwr_sim_pool_free(kwr_sim_pool *pool) {
    if (pool == NULL) return;
    while (pool->chunks != NULL) {
        spare *chunk = pool->chunks;
        pool->chunks = chunk->next;
        free(chunk);
    }
    while (pool->map_count > 0)
        munmap(pool->maps[--pool->map_count], KWR_SIM_MAP);
    kwr_sim_fibers_end(&pool->fibers);
    free(pool);
}

kwr_sim_fiber **kwr_sim_pool_fibers(kwr_sim_pool *pool) { return &pool->fibers; }

/* The smallest class that holds `size`; CLASSES for none. */
static unsigned class_of(size_t size) {
    unsigned class = 0;
    while (class < CLASSES && (size_t)LEAST << class < size)
        class ++;
    return class;
}

void *kwr_sim_pool_take(kwr_sim_pool *pool, size_t size) {
    const unsigned class = class_of(size);
    if (!POOLED || class == CLASSES)
        return kwr_sim_must(aligned_alloc(LEAST, (size + LEAST - 1) / LEAST * LEAST));
    spare *block = pool->free[class];
    if (block != NULL) {
        pool->free[class] = block->next;
        return block;
    }
    const size_t bytes = (size_t)LEAST << class;
    if (pool->left < bytes) {
        spare *chunk = kwr_sim_must(aligned_alloc(LEAST, CHUNK));
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->at = (uint8_t *)chunk + LEAST;
        pool->left = CHUNK - LEAST;
    }
    void *memory = pool->at;
    pool->at += bytes;
    pool->left -= bytes;
    return memory;
}

void kwr_sim_pool_give(kwr_sim_pool *pool, void *memory, size_t size) {
    const unsigned class = class_of(size);
    if (!POOLED || class == CLASSES) {
        free(memory);
        return;
    }
    spare *block = memory;
    block->next = pool->free[class];
    pool->free[class] = block;
}

/* mmap aligns to pages: twice as much is mapped, and what stands over is cut off. */
static void *map_aligned(size_t size) {
    uint8_t *start = mmap(NULL, size + KWR_SIM_MAP, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return kwr_sim_must(NULL);
    const size_t before = (size_t)(-(uintptr_t)start & (KWR_SIM_MAP - 1));
    if (before > 0) munmap(start, before);
    if (before < KWR_SIM_MAP) munmap(start + before + size, KWR_SIM_MAP - before);
    madvise(start + before, size, MADV_NOHUGEPAGE);
    return start + before;
}

void *kwr_sim_pool_map(kwr_sim_pool *pool, size_t size) {
    if (size == KWR_SIM_MAP && pool->map_count > 0) return pool->maps[--pool->map_count];
    return map_aligned(size);
}

void kwr_sim_pool_unmap(kwr_sim_pool *pool, void *memory, size_t size) {
    if (size == KWR_SIM_MAP && pool->map_count < MAPS_KEPT &&
        madvise(memory, size, MADV_DONTNEED) == 0)
        pool->maps[pool->map_count++] = memory;
    else
        munmap(memory, size);
}
