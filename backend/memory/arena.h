/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks for pages: chunks of 2 MiB from kwr_resources, cut into spans of 128 KiB; a span serves
 * one size class while any of its blocks is in use, then any class. Freed blocks are reused first,
 * the last freed first: their memory is warm. Larger blocks come from the env's allocator.
 *
 * Used by the owner alone; during a restore under the restore lock.
 */
#ifndef KWR_BACKEND_MEMORY_ARENA_H
#define KWR_BACKEND_MEMORY_ARENA_H

#include "backend/resources.h"

enum {
    KWR_SPAN_BYTES = 128 << 10,
    KWR_SPANS_PER_CHUNK = KWR_RESOURCE_BLOCK / KWR_SPAN_BYTES,
    KWR_CLASSES_MAX = 64,
    KWR_CLASS_BYTES_MIN = 192,
    KWR_CLASS_BYTES_MAX = 43648, /* a third of a span: the widest directory node */
    KWR_CLASS_STEPS = KWR_CLASS_BYTES_MAX / 64 + 1,
    KWR_SPAN_NONE = 0xffffffff, /* in kwr_block.span: a large block */
};

/*
 * What every block starts with. `next` is the owner's alone, also while readers of frozen views
 * use the block: they never look at it, nor at `birth` and `whole`.
 */
typedef struct kwr_block {
    uint64_t birth;         /* epoch in which it was made */
    struct kwr_block *next; /* in a list of blocks to be freed */
    uint32_t span;          /* id, or KWR_SPAN_NONE */
    uint16_t units;         /* size / 64; 0: large */
    uint8_t kind;           /* kwr_block_kind */
    uint8_t whole;          /* dead with all that is below it (tree pages) */
} kwr_block;

typedef struct kwr_span {
    struct kwr_span *prev, *next; /* in its class's list of spans with room, or in the pool */
    kwr_block *free;              /* freed blocks */
    uint8_t *base;
    uint32_t fresh; /* bytes from base on that were handed out once */
    uint32_t id;
    uint16_t live;       /* blocks in use */
    uint8_t class_index; /* meaningless in the pool */
    bool listed;
} kwr_span;

typedef struct kwr_chunk {
    uint8_t *memory;
    uint32_t index;
    uint32_t spans_used;
    uint32_t percent; /* in use, when somebody looked last */
    bool leaving;     /* nothing is handed out from it; goes when it is empty */
    kwr_span spans[KWR_SPANS_PER_CHUNK];
} kwr_chunk;

/* In front of a large block. */
typedef struct kwr_large {
    struct kwr_large *prev, *next;
    uint64_t size; /* without this */
    uint64_t zero[5];
} kwr_large;

typedef struct kwr_page_arena {
    const kwr_env *env;
    kwr_resources *resources;
    kwr_span *room[KWR_CLASSES_MAX]; /* spans with free blocks, by class */
    kwr_span *pool;                  /* spans without a class */
    kwr_chunk **chunks;              /* by index; NULL: a free index */
    uint32_t chunk_capacity;
    uint32_t chunk_count;
    uint32_t idle_chunks; /* all of whose spans are in the pool */
    uint32_t leaving;     /* chunks that are to go */
    kwr_large *large;
    /* exact sums */
    uint64_t host_bytes; /* from the env's allocator, reserved from the resources */
    uint64_t used_bytes; /* blocks in use */
    uint64_t used_blocks;
    uint64_t fail_in; /* tests: the n-th block from now is refused; 0: none is */
    uint32_t class_count;
    uint16_t class_units[KWR_CLASSES_MAX];
    uint8_t class_of[KWR_CLASS_STEPS]; /* by size in 64-byte units, rounded up */
} kwr_page_arena;

void kwr_page_arena_init(kwr_page_arena *arena, const kwr_env *env, kwr_resources *resources);
/* Gives everything back, blocks in use too. */
void kwr_page_arena_done(kwr_page_arena *arena);

/*
 * For threads that share an arena under a lock: whether a large one will soon map another block of
 * its pool; that block, NULL without memory, written to once so that no first write waits for the
 * system (outside the lock); and taking it.
 */
bool kwr_page_arena_runs_short(const kwr_page_arena *arena);
void *kwr_page_arena_fetch(kwr_resources *resources);
void kwr_page_arena_supply(kwr_page_arena *arena, void *memory);

/* A block of at least `size` bytes, aligned to 64, with span and units set. NULL: no memory. */
kwr_block *kwr_page_arena_alloc(kwr_page_arena *arena, size_t size);
void kwr_page_arena_free(kwr_page_arena *arena, kwr_block *block);
size_t kwr_block_bytes(const kwr_block *block);
/*
 * Giving memory back: the emptiest chunks leave, as many as the free room in the others can take
 * the blocks of. Nothing is handed out from them from then on; each goes when its last block is
 * freed. When room runs short all the same, those that are left stay. False: none leaves.
 */
bool kwr_page_arena_leave(kwr_page_arena *arena);
void kwr_page_arena_stay(kwr_page_arena *arena);
static inline bool kwr_page_arena_leaves(const kwr_page_arena *arena, const kwr_block *block) {
    return block->units != 0 && arena->leaving > 0 &&
           arena->chunks[block->span / KWR_SPANS_PER_CHUNK]->leaving;
}
/* The size of the class that serves `size` bytes; `size` is at most KWR_CLASS_BYTES_MAX. */
static inline size_t kwr_page_arena_fit(const kwr_page_arena *arena, size_t size) {
    return (size_t)arena->class_units[arena->class_of[(size + 63) / 64]] * 64;
}

/* Other memory of the store, counted like everything else. */
void *kwr_page_arena_host_alloc(kwr_page_arena *arena, size_t size);
void kwr_page_arena_host_free(kwr_page_arena *arena, void *memory, size_t size);

uint64_t kwr_page_arena_mapped(const kwr_page_arena *arena);

#endif /* KWR_BACKEND_MEMORY_ARENA_H */
