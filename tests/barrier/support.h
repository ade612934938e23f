/* SPDX-License-Identifier: Apache-2.0 */
/* What the barrier tests need of the world: memory that can run out, and repeatable dice. */
#ifndef BARRIER_SUPPORT_H
#define BARRIER_SUPPORT_H

#include <stdlib.h>

#include "tests/support/kwr_test.h"

typedef struct memory_env {
    kwr_env env;
    kwr_allocator allocator;
    size_t fail_at; /* the n-th allocation fails; 0: none */
    size_t made;
} memory_env;

static inline void *memory_alloc(void *ctx, size_t size, size_t align) {
    memory_env *memory = ctx;
    if (++memory->made == memory->fail_at) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}
static inline void memory_free(void *ctx, void *block, size_t size) {
    (void)ctx;
    (void)size;
    free(block);
}
static inline const kwr_env *memory_env_init(memory_env *memory) {
    *memory = (memory_env){
        .allocator = { .struct_size = sizeof(kwr_allocator),
                       .ctx = memory,
                       .alloc = memory_alloc,
                       .free = memory_free },
    };
    memory->env = (kwr_env){ .struct_size = sizeof(kwr_env), .allocator = &memory->allocator };
    return &memory->env;
}

/* splitmix64 */
static inline uint64_t dice(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
static inline uint64_t dice_below(uint64_t *seed, uint64_t bound) { return dice(seed) % bound; }
static inline bool one_in(uint64_t *seed, uint64_t n) { return dice_below(seed, n) == 0; }

#endif /* BARRIER_SUPPORT_H */
