/* SPDX-License-Identifier: Apache-2.0 */
/* Small memory from malloc, large blocks from the kernel in huge pages where it has them. */
#include "base/posix.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { BLOCK = 2 * 1024 * 1024, MALLOC_ALIGN = 16 };

_Static_assert(_Alignof(max_align_t) >= MALLOC_ALIGN, "malloc's alignment suffices");

static void *posix_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    if (align <= MALLOC_ALIGN) return malloc(size);
    void *memory = NULL;
    return posix_memalign(&memory, align, size) == 0 ? memory : NULL;
}

static void posix_free(void *ctx, void *memory, size_t size) {
    (void)ctx, (void)size;
    free(memory);
}

/* Maps more than asked and cuts both ends off: the kernel promises no alignment of its own. */
static void *posix_map(void *ctx, size_t size) {
    (void)ctx;
    size_t whole;
    if (size == 0 || size % BLOCK != 0 || __builtin_add_overflow(size, BLOCK, &whole)) return NULL;
    char *start = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    const size_t head = (BLOCK - (uintptr_t)start % BLOCK) % BLOCK;
    if (head > 0) munmap(start, head);
    if (head < BLOCK) munmap(start + head + size, BLOCK - head);
    madvise(start + head, size, MADV_HUGEPAGE); /* a hint: without huge pages it is just slower */
    return start + head;
}

static void posix_unmap(void *ctx, void *memory, size_t size) {
    (void)ctx;
    /* Fails only when the kernel has no room to split a mapping: give the pages back then. */
    if (munmap(memory, size) != 0) madvise(memory, size, MADV_DONTNEED);
}

const kwr_allocator kwr_posix_allocator = {
    .struct_size = sizeof(kwr_allocator),
    .alloc = posix_alloc,
    .free = posix_free,
    .map = posix_map,
    .unmap = posix_unmap,
};
