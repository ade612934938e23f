/* SPDX-License-Identifier: Apache-2.0 */
/* See arena.h. */
#include "backend/memory/arena.h"

#include <string.h>

#include "base/memory.h"

/* An arena of so many chunks at least is supplied when fewer spans than these are left. */
enum { SUPPLIED_CHUNKS_MIN = 8, SUPPLIED_SPANS = 8 };

_Static_assert(sizeof(kwr_block) == 24, "block header");
_Static_assert(sizeof(kwr_large) == 64, "a large block stays aligned behind its header");

/* Sizes that fill a span without waste, at most 12.5 % apart: 1/n of a span for n with four
 * significant bits, and three for directory nodes above the largest page. */
static void make_classes(kwr_page_arena *arena) {
    uint16_t descending[KWR_CLASSES_MAX];
    uint32_t count = 0, last = 0;
    for (uint32_t n = 3; n <= KWR_SPAN_BYTES / KWR_CLASS_BYTES_MIN;) {
        const uint32_t units = KWR_SPAN_BYTES / n / 64;
        if (units != last && count < KWR_CLASSES_MAX) descending[count++] = (uint16_t)units;
        last = units;
        uint32_t step = 1;
        while (n / step >= 16)
            step *= 2;
        n += step;
    }
    if (last * 64 > KWR_CLASS_BYTES_MIN && count < KWR_CLASSES_MAX)
        descending[count++] = KWR_CLASS_BYTES_MIN / 64;
    arena->class_count = count;
    for (uint32_t i = 0; i < count; i++)
        arena->class_units[i] = descending[count - 1 - i];
    uint32_t c = 0;
    for (uint32_t units = 0; units < KWR_CLASS_STEPS; units++) {
        while (arena->class_units[c] < units)
            c++;
        arena->class_of[units] = (uint8_t)c;
    }
}

void kwr_page_arena_init(kwr_page_arena *arena, const kwr_env *env, kwr_resources *resources) {
    *arena = (kwr_page_arena){ .env = env, .resources = resources };
    make_classes(arena);
}

void *kwr_page_arena_host_alloc(kwr_page_arena *arena, size_t size) {
    if (!kwr_resources_reserve(arena->resources, size)) return NULL;
    void *memory = kwr_alloc_aligned(arena->env, size, 64);
    if (memory == NULL) {
        kwr_resources_unreserve(arena->resources, size);
        return NULL;
    }
    arena->host_bytes += size;
    return memory;
}

void kwr_page_arena_host_free(kwr_page_arena *arena, void *memory, size_t size) {
    if (memory == NULL) return;
    kwr_free(arena->env, memory, size);
    kwr_resources_unreserve(arena->resources, size);
    arena->host_bytes -= size;
}

void kwr_page_arena_done(kwr_page_arena *arena) {
    for (kwr_large *large = arena->large, *next; large != NULL; large = next) {
        next = large->next;
        kwr_page_arena_host_free(arena, large, sizeof *large + large->size);
    }
    for (uint32_t i = 0; i < arena->chunk_capacity; i++) {
        kwr_chunk *chunk = arena->chunks[i];
        if (chunk == NULL) continue;
        kwr_resources_unmap(arena->resources, chunk->memory);
        kwr_page_arena_host_free(arena, chunk, sizeof *chunk);
    }
    kwr_page_arena_host_free(arena, arena->chunks, arena->chunk_capacity * sizeof(kwr_chunk *));
    *arena = (kwr_page_arena){ 0 };
}

uint64_t kwr_page_arena_mapped(const kwr_page_arena *arena) {
    return arena->host_bytes + (uint64_t)arena->chunk_count * KWR_RESOURCE_BLOCK;
}

/* ---- spans ---- */

static void list_push(kwr_span **head, kwr_span *span) {
    span->prev = NULL;
    span->next = *head;
    if (*head != NULL) (*head)->prev = span;
    *head = span;
    span->listed = true;
}

static void list_remove(kwr_span **head, kwr_span *span) {
    if (span->prev != NULL)
        span->prev->next = span->next;
    else
        *head = span->next;
    if (span->next != NULL) span->next->prev = span->prev;
    span->listed = false;
}

static bool grow_chunk_table(kwr_page_arena *arena) {
    if (arena->chunk_count < arena->chunk_capacity) return true;
    const uint32_t capacity = arena->chunk_capacity == 0 ? 8 : arena->chunk_capacity * 2;
    kwr_chunk **table = kwr_page_arena_host_alloc(arena, capacity * sizeof *table);
    if (table == NULL) return false;
    const size_t old = arena->chunk_capacity * sizeof *table;
    if (old > 0) memcpy(table, arena->chunks, old);
    memset(table + arena->chunk_capacity, 0, capacity * sizeof *table - old);
    kwr_page_arena_host_free(arena, arena->chunks, old);
    arena->chunks = table;
    arena->chunk_capacity = capacity;
    return true;
}

/* Words of the directory and of trees have 48 bits for an address. */
static bool fits_word(const void *memory, size_t size) {
    return ((uintptr_t)memory + size) >> 48 == 0;
}

/* Cuts a block of the pool into spans. False, and the block stays the caller's: no memory. */
static bool take_chunk(kwr_page_arena *arena, void *memory) {
    if (!fits_word(memory, KWR_RESOURCE_BLOCK) || !grow_chunk_table(arena)) return false;
    kwr_chunk *chunk = kwr_page_arena_host_alloc(arena, sizeof *chunk);
    if (chunk == NULL) return false;
    uint32_t index = 0;
    while (arena->chunks[index] != NULL)
        index++;
    *chunk = (kwr_chunk){ .memory = memory, .index = index };
    arena->chunks[index] = chunk;
    arena->chunk_count++;
    arena->idle_chunks++;
    for (uint32_t i = KWR_SPANS_PER_CHUNK; i-- > 0;) {
        kwr_span *span = &chunk->spans[i];
        span->base = chunk->memory + (size_t)i * KWR_SPAN_BYTES;
        span->id = index * KWR_SPANS_PER_CHUNK + i;
        list_push(&arena->pool, span);
    }
    return true;
}

static bool add_chunk(kwr_page_arena *arena) {
    void *memory = kwr_resources_map(arena->resources);
    if (memory == NULL) return false;
    if (take_chunk(arena, memory)) return true;
    kwr_resources_unmap(arena->resources, memory);
    return false;
}

bool kwr_page_arena_runs_short(const kwr_page_arena *arena) {
    if (arena->chunk_count < SUPPLIED_CHUNKS_MIN) return false;
    uint32_t count = 0;
    for (const kwr_span *span = arena->pool; span != NULL && count < SUPPLIED_SPANS; count++)
        span = span->next;
    return count < SUPPLIED_SPANS;
}

void *kwr_page_arena_fetch(kwr_resources *resources) {
    void *memory = kwr_resources_map(resources);
    volatile uint8_t *bytes = memory;
    for (size_t at = 0; memory != NULL && at < KWR_RESOURCE_BLOCK; at += 4096)
        bytes[at] = 0;
    return memory;
}

void kwr_page_arena_supply(kwr_page_arena *arena, void *memory) {
    if (memory != NULL && !take_chunk(arena, memory)) kwr_resources_unmap(arena->resources, memory);
}

static kwr_chunk *chunk_of(const kwr_page_arena *arena, const kwr_span *span) {
    return arena->chunks[span->id / KWR_SPANS_PER_CHUNK];
}

/* A span for a class, listed with room. */
static kwr_span *take_span(kwr_page_arena *arena, uint32_t class_index) {
    if (arena->pool == NULL && arena->leaving > 0) {
        kwr_page_arena_stay(arena);
        if (arena->room[class_index] != NULL) return arena->room[class_index];
    }
    if (arena->pool == NULL && !add_chunk(arena)) return NULL;
    kwr_span *span = arena->pool;
    list_remove(&arena->pool, span);
    if (chunk_of(arena, span)->spans_used++ == 0) arena->idle_chunks--;
    span->free = NULL;
    span->fresh = 0;
    span->live = 0;
    span->class_index = (uint8_t)class_index;
    list_push(&arena->room[class_index], span);
    return span;
}

static void drop_chunk(kwr_page_arena *arena, kwr_chunk *chunk) {
    arena->chunks[chunk->index] = NULL;
    arena->chunk_count--;
    kwr_resources_unmap(arena->resources, chunk->memory);
    kwr_page_arena_host_free(arena, chunk, sizeof *chunk);
}

/* One idle chunk is kept, so that a store that breathes does not map and unmap. */
static void return_span(kwr_page_arena *arena, kwr_span *span) {
    kwr_chunk *chunk = chunk_of(arena, span);
    if (chunk->leaving) {
        if (--chunk->spans_used > 0) return;
        arena->leaving--;
        drop_chunk(arena, chunk);
        return;
    }
    if (span->listed) list_remove(&arena->room[span->class_index], span);
    list_push(&arena->pool, span);
    if (--chunk->spans_used > 0) return;
    if (arena->idle_chunks == 0) {
        arena->idle_chunks = 1;
        return;
    }
    for (uint32_t i = 0; i < KWR_SPANS_PER_CHUNK; i++)
        list_remove(&arena->pool, &chunk->spans[i]);
    drop_chunk(arena, chunk);
}

/* ---- giving memory back ---- */

/* In percent: those that stay are filled to the first at most; a chunk fuller than the second is
 * not worth moving. The emptiest first, in steps of the third. */
enum { FILLED_TO = 88, FULL_FROM = 80, STEP = 2 };

static uint32_t share_of(const kwr_page_arena *arena, const kwr_chunk *chunk, uint64_t *used) {
    uint64_t sum = 0;
    for (uint32_t k = 0; k < KWR_SPANS_PER_CHUNK; k++) {
        const kwr_span *span = &chunk->spans[k];
        if (span->live > 0)
            sum += (uint64_t)span->live * arena->class_units[span->class_index] * 64;
    }
    *used += sum;
    return (uint32_t)(sum * 100 / KWR_RESOURCE_BLOCK);
}

/* Chunks with blocks in them, and how full each is. */
static uint32_t look_at_chunks(kwr_page_arena *arena, uint64_t *used) {
    uint32_t count = 0;
    *used = 0;
    for (uint32_t i = 0; i < arena->chunk_capacity; i++) {
        kwr_chunk *chunk = arena->chunks[i];
        if (chunk == NULL || chunk->spans_used == 0) continue;
        chunk->percent = share_of(arena, chunk, used);
        count++;
    }
    return count;
}

static void begin_leaving(kwr_page_arena *arena, kwr_chunk *chunk) {
    for (uint32_t i = 0; i < KWR_SPANS_PER_CHUNK; i++) {
        kwr_span *span = &chunk->spans[i];
        if (!span->listed) continue;
        list_remove(span->live > 0 ? &arena->room[span->class_index] : &arena->pool, span);
    }
    chunk->leaving = true;
    arena->leaving++;
}

bool kwr_page_arena_leave(kwr_page_arena *arena) {
    uint64_t used;
    uint64_t staying = look_at_chunks(arena, &used);
    for (uint32_t to = STEP; to <= FULL_FROM; to += STEP) {
        for (uint32_t i = 0; i < arena->chunk_capacity; i++) {
            kwr_chunk *chunk = arena->chunks[i];
            if (chunk == NULL || chunk->spans_used == 0 || chunk->leaving || chunk->percent >= to)
                continue;
            if (used > (staying - 1) * KWR_RESOURCE_BLOCK / 100 * FILLED_TO)
                return arena->leaving > 0;
            begin_leaving(arena, chunk);
            staying--;
        }
    }
    return arena->leaving > 0;
}

void kwr_page_arena_stay(kwr_page_arena *arena) {
    for (uint32_t i = 0; i < arena->chunk_capacity && arena->leaving > 0; i++) {
        kwr_chunk *chunk = arena->chunks[i];
        if (chunk == NULL || !chunk->leaving) continue;
        chunk->leaving = false;
        arena->leaving--;
        for (uint32_t k = 0; k < KWR_SPANS_PER_CHUNK; k++) {
            kwr_span *span = &chunk->spans[k];
            const uint32_t bytes = (uint32_t)arena->class_units[span->class_index] * 64;
            if (span->live == 0)
                list_push(&arena->pool, span);
            else if (span->free != NULL || span->fresh + bytes <= KWR_SPAN_BYTES)
                list_push(&arena->room[span->class_index], span);
        }
    }
}

/* ---- blocks ---- */

static kwr_block *large_alloc(kwr_page_arena *arena, size_t size) {
    if (size > SIZE_MAX - sizeof(kwr_large)) return NULL;
    kwr_large *large = kwr_page_arena_host_alloc(arena, sizeof *large + size);
    if (large == NULL) return NULL;
    if (!fits_word(large, sizeof *large + size)) {
        kwr_page_arena_host_free(arena, large, sizeof *large + size);
        return NULL;
    }
    *large = (kwr_large){ .next = arena->large, .size = size };
    if (arena->large != NULL) arena->large->prev = large;
    arena->large = large;
    kwr_block *block = (kwr_block *)(large + 1);
    *block = (kwr_block){ .span = KWR_SPAN_NONE };
    arena->used_bytes += size;
    arena->used_blocks++;
    return block;
}

static void large_free(kwr_page_arena *arena, kwr_block *block) {
    kwr_large *large = (kwr_large *)block - 1;
    if (large->prev != NULL)
        large->prev->next = large->next;
    else
        arena->large = large->next;
    if (large->next != NULL) large->next->prev = large->prev;
    arena->used_bytes -= large->size;
    arena->used_blocks--;
    kwr_page_arena_host_free(arena, large, sizeof *large + large->size);
}

size_t kwr_block_bytes(const kwr_block *block) {
    return block->units != 0 ? (size_t)block->units * 64 : ((const kwr_large *)block - 1)->size;
}

kwr_block *kwr_page_arena_alloc(kwr_page_arena *arena, size_t size) {
    if (__builtin_expect(arena->fail_in != 0, 0) && --arena->fail_in == 0) return NULL;
    if (size > KWR_CLASS_BYTES_MAX) return large_alloc(arena, size);
    const uint32_t class_index = arena->class_of[(size + 63) / 64];
    const uint16_t units = arena->class_units[class_index];
    const uint32_t bytes = (uint32_t)units * 64;
    kwr_span *span = arena->room[class_index];
    if (span == NULL && (span = take_span(arena, class_index)) == NULL) return NULL;
    kwr_block *block = span->free;
    if (block != NULL) {
        span->free = block->next;
    } else {
        block = (kwr_block *)(span->base + span->fresh);
        span->fresh += bytes;
    }
    span->live++;
    if (span->free == NULL && span->fresh + bytes > KWR_SPAN_BYTES)
        list_remove(&arena->room[class_index], span);
    *block = (kwr_block){ .span = span->id, .units = units };
    arena->used_bytes += bytes;
    arena->used_blocks++;
    return block;
}

void kwr_page_arena_free(kwr_page_arena *arena, kwr_block *block) {
    if (block->units == 0) {
        large_free(arena, block);
        return;
    }
    kwr_span *span =
        &arena->chunks[block->span / KWR_SPANS_PER_CHUNK]->spans[block->span % KWR_SPANS_PER_CHUNK];
    arena->used_bytes -= (uint64_t)block->units * 64;
    arena->used_blocks--;
    block->next = span->free;
    span->free = block;
    if (--span->live == 0)
        return_span(arena, span);
    else if (!span->listed && !chunk_of(arena, span)->leaving)
        list_push(&arena->room[span->class_index], span);
}
