/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through the environment's allocator. Sizes are given back on free: nothing is hidden. */
#ifndef KWR_BASE_MEMORY_H
#define KWR_BASE_MEMORY_H

#include <string.h>

#include "keyweir/env.h"

/* NULL when there is none; size 0 gives a valid pointer to free with size 0. */
static inline void *kwr_alloc(const kwr_env *env, size_t size) {
    return env->allocator->alloc(env->allocator->ctx, size == 0 ? 1 : size, 16);
}
static inline void *kwr_calloc(const kwr_env *env, size_t size) {
    void *memory = kwr_alloc(env, size);
    if (memory != NULL) memset(memory, 0, size);
    return memory;
}
static inline void *kwr_alloc_aligned(const kwr_env *env, size_t size, size_t align) {
    return env->allocator->alloc(env->allocator->ctx, size == 0 ? 1 : size, align);
}
/* NULL is a no-op. */
static inline void kwr_free(const kwr_env *env, void *memory, size_t size) {
    if (memory != NULL) env->allocator->free(env->allocator->ctx, memory, size == 0 ? 1 : size);
}
/* count * size, or NULL on overflow too. */
void *kwr_alloc_array(const kwr_env *env, size_t count, size_t size);
/* Grows an array to at least `need` elements, doubling; false and unchanged without memory.
 * *items may be NULL with *capacity 0. */
bool kwr_grow_array(const kwr_env *env, void **items, size_t *capacity, size_t need,
                    size_t item_size);
/* Copy of a string with its NUL; free with kwr_free_string(). NULL without memory. */
char *kwr_copy_string(const kwr_env *env, const char *text);
void kwr_free_string(const kwr_env *env, char *text);

/* Bytes handed to callers: made here, released by kwr_bytes_free() (which finds env in owner).
 * `env` must outlive them. */
kwr_status kwr_bytes_new(const kwr_env *env, size_t size, kwr_bytes *out);

/* A growing byte buffer. Zero it and set env. After a failed append `failed` stays set: check once
 * at the end. */
typedef struct kwr_buffer {
    const kwr_env *env;
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed;
} kwr_buffer;

void kwr_buffer_append(kwr_buffer *buffer, const void *data, size_t size);
/* Room for `size` more bytes, counted as appended; NULL without memory. */
void *kwr_buffer_extend(kwr_buffer *buffer, size_t size);
void kwr_buffer_printf(kwr_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void kwr_buffer_free(kwr_buffer *buffer);
/* Moves the content into `out`; KWR_ERR_NOMEM when an append had failed. The buffer is then empty.
 */
kwr_status kwr_buffer_take(kwr_buffer *buffer, kwr_bytes *out);

/* Many small things of one lifetime; release all at once. */
typedef struct kwr_arena kwr_arena;
kwr_arena *kwr_arena_new(const kwr_env *env, size_t bytes_max); /* 0: no cap */
void kwr_arena_free(kwr_arena *arena);
/* Zeroed, aligned to 16; NULL without memory or beyond the cap. */
void *kwr_arena_alloc(kwr_arena *arena, size_t size);
void *kwr_arena_array(kwr_arena *arena, size_t count, size_t size);      /* NULL on overflow too */
char *kwr_arena_string(kwr_arena *arena, const void *text, size_t size); /* adds a NUL */

#endif /* KWR_BASE_MEMORY_H */
