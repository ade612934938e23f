/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays, byte buffers, bytes for callers, and arenas on top of the environment's allocator.
 *
 * Bytes handed out and buffers share one block layout: a small header that remembers the size asked
 * of the allocator, then the content. So a finished buffer becomes the caller's bytes by moving a
 * pointer, whatever room it had left.
 */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/bytes.h"

void *kwr_alloc_array(const kwr_env *env, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return kwr_alloc(env, bytes);
}

bool kwr_grow_array(const kwr_env *env, void **items, size_t *capacity, size_t need,
                    size_t item_size) {
    if (need <= *capacity) return true;
    size_t grown;
    if (__builtin_mul_overflow(*capacity, 2, &grown) || grown < need) grown = need;
    if (grown < 8) grown = 8;
    void *fresh = kwr_alloc_array(env, grown, item_size);
    if (fresh == NULL && grown > need) {
        grown = need; /* near the limit the exact size may still fit */
        fresh = kwr_alloc_array(env, grown, item_size);
    }
    if (fresh == NULL) return false;
    if (*items != NULL) {
        memcpy(fresh, *items, *capacity * item_size);
        kwr_free(env, *items, *capacity * item_size);
    }
    *items = fresh;
    *capacity = grown;
    return true;
}

char *kwr_copy_string(const kwr_env *env, const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = kwr_alloc(env, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}

void kwr_free_string(const kwr_env *env, char *text) {
    if (text != NULL) kwr_free(env, text, strlen(text) + 1);
}

/* ---- blocks behind buffers and bytes ---- */

typedef struct block_header {
    size_t block_size; /* as asked of the allocator, header included */
    size_t unused;
} block_header;

_Static_assert(sizeof(block_header) == 16, "the content keeps the alignment of 16");

static void *block_new(const kwr_env *env, size_t content) {
    size_t size;
    if (__builtin_add_overflow(content, sizeof(block_header), &size)) return NULL;
    block_header *header = kwr_alloc(env, size);
    if (header == NULL) return NULL;
    header->block_size = size;
    header->unused = 0;
    return header + 1;
}

static void block_free(const kwr_env *env, void *content) {
    if (content == NULL) return;
    block_header *header = (block_header *)content - 1;
    kwr_free(env, header, header->block_size);
}

kwr_status kwr_bytes_new(const kwr_env *env, size_t size, kwr_bytes *out) {
    void *data = block_new(env, size);
    if (data == NULL) return KWR_ERR_NOMEM;
    *out = (kwr_bytes){ .data = data, .size = size, .owner = env };
    return KWR_OK;
}

void kwr_bytes_free(kwr_bytes *bytes) {
    if (bytes == NULL) return;
    block_free(bytes->owner, bytes->data);
    *bytes = (kwr_bytes){ 0 };
}

/* ---- buffer ---- */

enum { BUFFER_FIRST = 64 };

/* Room for `size` more bytes without counting them. */
static bool buffer_reserve(kwr_buffer *buffer, size_t size) {
    if (buffer->failed) return false;
    size_t need;
    if (__builtin_add_overflow(buffer->size, size, &need)) {
        buffer->failed = true;
        return false;
    }
    if (need <= buffer->capacity && buffer->data != NULL) return true;
    size_t grown;
    if (__builtin_mul_overflow(buffer->capacity, 2, &grown) || grown < need) grown = need;
    if (grown < BUFFER_FIRST) grown = BUFFER_FIRST;
    void *fresh = block_new(buffer->env, grown);
    if (fresh == NULL && grown > need) {
        grown = need;
        fresh = block_new(buffer->env, grown);
    }
    if (fresh == NULL) {
        buffer->failed = true;
        return false;
    }
    if (buffer->data != NULL) memcpy(fresh, buffer->data, buffer->size);
    block_free(buffer->env, buffer->data);
    buffer->data = fresh;
    buffer->capacity = grown;
    return true;
}

void *kwr_buffer_extend(kwr_buffer *buffer, size_t size) {
    if (!buffer_reserve(buffer, size)) return NULL;
    void *at = buffer->data + buffer->size;
    buffer->size += size;
    return at;
}

void kwr_buffer_append(kwr_buffer *buffer, const void *data, size_t size) {
    if (size == 0) return;
    void *at = kwr_buffer_extend(buffer, size);
    if (at != NULL) memcpy(at, data, size);
}

void kwr_buffer_printf(kwr_buffer *buffer, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    /* Where there is room, once; else a second time when it is known how much it takes. */
    const size_t room = buffer->failed ? 0 : buffer->capacity - buffer->size;
    char *at = room == 0 ? NULL : (char *)buffer->data + buffer->size;
    const int size = vsnprintf(at, room, format, args);
    if (size < 0) {
        buffer->failed = true;
    } else if ((size_t)size < room) {
        buffer->size += (size_t)size;
    } else if (buffer_reserve(buffer, (size_t)size + 1)) {
        vsnprintf((char *)buffer->data + buffer->size, (size_t)size + 1, format, again);
        buffer->size += (size_t)size;
    }
    va_end(again);
    va_end(args);
}

void kwr_buffer_free(kwr_buffer *buffer) {
    block_free(buffer->env, buffer->data);
    *buffer = (kwr_buffer){ .env = buffer->env };
}

kwr_status kwr_buffer_take(kwr_buffer *buffer, kwr_bytes *out) {
    if (buffer->failed) {
        kwr_buffer_free(buffer);
        return KWR_ERR_NOMEM;
    }
    *out = (kwr_bytes){ .data = buffer->data, .size = buffer->size, .owner = buffer->env };
    *buffer = (kwr_buffer){ .env = buffer->env };
    return KWR_OK;
}

/* ---- arena ---- */

enum { ARENA_CHUNK_FIRST = 4096, ARENA_CHUNK_MAX = 256 * 1024 };

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* of the content, which follows */
} arena_chunk;

_Static_assert(sizeof(arena_chunk) % 16 == 0, "the content is aligned to 16");

struct kwr_arena {
    const kwr_env *env;
    arena_chunk *chunks; /* newest first */
    size_t used;         /* of the newest chunk */
    size_t chunk_size;   /* of the next ordinary chunk */
    size_t bytes;        /* handed out, rounded up */
    size_t bytes_max;
};

kwr_arena *kwr_arena_new(const kwr_env *env, size_t bytes_max) {
    kwr_arena *arena = kwr_calloc(env, sizeof *arena);
    if (arena == NULL) return NULL;
    arena->env = env;
    arena->bytes_max = bytes_max == 0 ? SIZE_MAX : bytes_max;
    arena->chunk_size = ARENA_CHUNK_FIRST;
    return arena;
}

void kwr_arena_free(kwr_arena *arena) {
    if (arena == NULL) return;
    while (arena->chunks != NULL) {
        arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        kwr_free(arena->env, chunk, sizeof *chunk + chunk->size);
    }
    kwr_free(arena->env, arena, sizeof *arena);
}

/* Puts a chunk with room for `need` bytes in front. */
static bool arena_add_chunk(kwr_arena *arena, size_t need) {
    const size_t left = arena->bytes_max - arena->bytes;
    size_t size = arena->chunk_size < left ? arena->chunk_size : left & ~(size_t)15;
    if (size < need) size = need;
    size_t whole;
    if (__builtin_add_overflow(size, sizeof(arena_chunk), &whole)) return false;
    arena_chunk *chunk = kwr_alloc(arena->env, whole);
    if (chunk == NULL) return false;
    chunk->next = arena->chunks;
    chunk->size = size;
    arena->chunks = chunk;
    arena->used = 0;
    if (arena->chunk_size < ARENA_CHUNK_MAX) arena->chunk_size *= 2;
    return true;
}

void *kwr_arena_alloc(kwr_arena *arena, size_t size) {
    if (size > SIZE_MAX - 16) return NULL;
    const size_t need = size == 0 ? 16 : (size + 15) & ~(size_t)15;
    if (size > arena->bytes_max - arena->bytes) return NULL;
    if (arena->chunks == NULL || need > arena->chunks->size - arena->used) {
        if (!arena_add_chunk(arena, need)) return NULL;
    }
    void *memory = (unsigned char *)(arena->chunks + 1) + arena->used;
    arena->used += need;
    const size_t left = arena->bytes_max - arena->bytes;
    arena->bytes += need < left ? need : left;
    return memset(memory, 0, need);
}

void *kwr_arena_array(kwr_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return kwr_arena_alloc(arena, bytes);
}

char *kwr_arena_string(kwr_arena *arena, const void *text, size_t size) {
    if (size == SIZE_MAX) return NULL;
    char *copy = kwr_arena_alloc(arena, size + 1);
    if (copy != NULL && size > 0) memcpy(copy, text, size);
    return copy;
}
