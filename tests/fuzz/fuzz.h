/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fuzz targets share. A target takes bytes as an attacker would write them; nothing may crash,
 * ask for more memory than a small input can need, and what is accepted must mean the same when it
 * is written again.
 */
#ifndef KWR_TESTS_FUZZ_H
#define KWR_TESTS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/keyweir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the process, which libFuzzer reports as a finding. */
#define FUZZ_MUST(condition)                                                               \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

enum { FUZZ_MEMORY_MAX = 64 << 20 };

/* The allocator of the system, with a bound on what is out at the same time. */
typedef struct fuzz_memory {
    const kwr_allocator *system;
    size_t out;
} fuzz_memory;

static inline void fuzz_take(fuzz_memory *memory, size_t size) {
    const size_t out = __atomic_add_fetch(&memory->out, size, __ATOMIC_RELAXED);
    FUZZ_MUST(size <= FUZZ_MEMORY_MAX && out <= FUZZ_MEMORY_MAX);
}
static inline void *fuzz_alloc(void *ctx, size_t size, size_t align) {
    fuzz_memory *memory = ctx;
    fuzz_take(memory, size);
    return memory->system->alloc(memory->system->ctx, size, align);
}
static inline void fuzz_free(void *ctx, void *block, size_t size) {
    fuzz_memory *memory = ctx;
    __atomic_sub_fetch(&memory->out, size, __ATOMIC_RELAXED);
    memory->system->free(memory->system->ctx, block, size);
}
static inline void *fuzz_map(void *ctx, size_t size) {
    fuzz_memory *memory = ctx;
    fuzz_take(memory, size);
    return memory->system->map(memory->system->ctx, size);
}
static inline void fuzz_unmap(void *ctx, void *block, size_t size) {
    fuzz_memory *memory = ctx;
    __atomic_sub_fetch(&memory->out, size, __ATOMIC_RELAXED);
    memory->system->unmap(memory->system->ctx, block, size);
}

/* One environment for the whole run. */
static inline const kwr_env *fuzz_env(void) {
    static kwr_env *system;
    static kwr_env env;
    static fuzz_memory memory;
    static kwr_allocator allocator;
    if (system == NULL) {
        kwr_error err;
        FUZZ_MUST(kwr_env_posix_open(NULL, &system, &err) == KWR_OK);
        memory.system = system->allocator;
        allocator = *system->allocator;
        allocator.ctx = &memory;
        allocator.alloc = fuzz_alloc;
        allocator.free = fuzz_free;
        allocator.map = fuzz_map;
        allocator.unmap = fuzz_unmap;
        env = *system;
        env.allocator = &allocator;
    }
    return &env;
}

#endif /* KWR_TESTS_FUZZ_H */
