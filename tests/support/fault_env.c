/* SPDX-License-Identifier: Apache-2.0 */
/* Plans, memory, clock and randomness of the faulty environment. */
#include "tests/support/fault_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/kwr_test.h"

/* ---- plans ---- */

bool fault_plan_hit(fault_plan *plan) {
    const uint64_t at = plan->seen++;
    if (!plan->armed) return false;
    return plan->times == FAULT_ONCE ? at == plan->n : at >= plan->n;
}

void fault_note_fired(fault_env *faults, const char *format, ...) {
    if (faults->fired++ > 0) return;
    va_list args;
    va_start(args, format);
    vsnprintf(faults->fired_text, sizeof faults->fired_text, format, args);
    va_end(args);
}

static void arm(fault_env *faults, fault_plan *plan, uint64_t n, fault_times times) {
    *plan = (fault_plan){ .armed = true, .times = times, .n = n };
    faults->fired = 0;
    faults->fired_text[0] = '\0';
}

void fault_env_fail_alloc(fault_env *faults, uint64_t n, fault_times times) {
    pthread_mutex_lock(&faults->mutex);
    arm(faults, &faults->alloc_plan, n, times);
    pthread_mutex_unlock(&faults->mutex);
}

void fault_env_fail_fs(fault_env *faults, fault_kind kind, uint64_t n, fault_times times) {
    pthread_mutex_lock(&faults->mutex);
    faults->fs_kind = kind;
    memset(faults->fs_seen, 0, sizeof faults->fs_seen);
    arm(faults, &faults->fs_plan, n, times);
    pthread_mutex_unlock(&faults->mutex);
}

void fault_env_fail_post(fault_env *faults, uint64_t n, fault_times times) {
    pthread_mutex_lock(&faults->mutex);
    arm(faults, &faults->post_plan, n, times);
    pthread_mutex_unlock(&faults->mutex);
}

void fault_env_clear(fault_env *faults) {
    pthread_mutex_lock(&faults->mutex);
    faults->alloc_plan.armed = false;
    faults->fs_plan.armed = false;
    faults->post_plan.armed = false;
    faults->killed = false;
    pthread_mutex_unlock(&faults->mutex);
}

/* Reads one number under the lock. */
static uint64_t locked(fault_env *faults, const uint64_t *value) {
    pthread_mutex_lock(&faults->mutex);
    const uint64_t copy = *value;
    pthread_mutex_unlock(&faults->mutex);
    return copy;
}

uint64_t fault_env_allocs(fault_env *faults) { return locked(faults, &faults->alloc_plan.seen); }
uint64_t fault_env_outstanding(fault_env *faults) { return locked(faults, &faults->outstanding); }
uint64_t fault_env_fired(fault_env *faults) { return locked(faults, &faults->fired); }
const char *fault_env_fired_text(fault_env *faults) { return faults->fired_text; }
uint64_t fault_env_fs_calls(fault_env *faults, fault_kind kind) {
    return locked(faults, &faults->fs_seen[kind]);
}

/* ---- memory: a record of every block, kept apart so that blocks end where they should ---- */

typedef struct memory_block {
    void *memory;
    size_t size;
    bool mapped;
    struct memory_block *next;
} memory_block;

static void *take_block(fault_env *faults, size_t size, size_t align, bool mapped) {
    const kwr_allocator *base = faults->base->allocator;
    pthread_mutex_lock(&faults->mutex);
    const bool fails = fault_plan_hit(&faults->alloc_plan);
    if (fails) {
        fault_note_fired(faults, "allocation %llu of %zu bytes",
                         (unsigned long long)faults->alloc_plan.seen - 1, size);
    }
    pthread_mutex_unlock(&faults->mutex);
    if (fails) return NULL;

    void *memory = mapped ? base->map(base->ctx, size) : base->alloc(base->ctx, size, align);
    if (memory == NULL) return NULL;
    if (!mapped) memset(memory, 0xa5, size); /* nobody may rely on zeros */
    memory_block *block = malloc(sizeof *block);
    cr_assert(block != NULL);
    pthread_mutex_lock(&faults->mutex);
    *block = (memory_block){ memory, size, mapped, faults->blocks };
    faults->blocks = block;
    faults->outstanding += size;
    pthread_mutex_unlock(&faults->mutex);
    return memory;
}

static void give_block(fault_env *faults, void *memory, size_t size, bool mapped) {
    pthread_mutex_lock(&faults->mutex);
    memory_block **at = &faults->blocks;
    while (*at != NULL && (*at)->memory != memory)
        at = &(*at)->next;
    memory_block *block = *at;
    const bool good = block != NULL && block->size == size && block->mapped == mapped;
    const size_t had = block == NULL ? 0 : block->size;
    if (block != NULL) {
        *at = block->next;
        faults->outstanding -= block->size;
    }
    pthread_mutex_unlock(&faults->mutex);
    cr_assert(good, "freed %p as %zu bytes%s; allocated: %zu", memory, size,
              mapped ? " mapped" : "", had);
    free(block);
    const kwr_allocator *base = faults->base->allocator;
    if (mapped)
        base->unmap(base->ctx, memory, size);
    else
        base->free(base->ctx, memory, size);
}

static void *fault_alloc(void *ctx, size_t size, size_t align) {
    cr_assert(align > 0 && (align & (align - 1)) == 0, "alignment %zu", align);
    return take_block(ctx, size, align, false);
}
static void fault_free(void *ctx, void *memory, size_t size) {
    give_block(ctx, memory, size, false);
}
static void *fault_map(void *ctx, size_t size) { return take_block(ctx, size, 0, true); }
static void fault_unmap(void *ctx, void *memory, size_t size) {
    give_block(ctx, memory, size, true);
}

void fault_memory_init(fault_env *faults) {
    faults->allocator = (kwr_allocator){
        .struct_size = sizeof faults->allocator,
        .ctx = faults,
        .alloc = fault_alloc,
        .free = fault_free,
        .map = fault_map,
        .unmap = fault_unmap,
    };
    faults->env.allocator = &faults->allocator;
}

/* ---- clock and randomness ---- */

static uint64_t manual_mono(void *ctx) {
    fault_env *faults = ctx;
    return locked(faults, &faults->mono_ns);
}

static int64_t manual_wall(void *ctx) {
    fault_env *faults = ctx;
    pthread_mutex_lock(&faults->mutex);
    const int64_t now = faults->wall_ms;
    pthread_mutex_unlock(&faults->mutex);
    return now;
}

void fault_env_advance(fault_env *faults, uint64_t ns) {
    cr_assert((faults->flags & FAULT_MANUAL_CLOCK) != 0, "the clock is not a manual one");
    pthread_mutex_lock(&faults->mutex);
    faults->wall_ms += (int64_t)((faults->mono_ns + ns) / 1000000 - faults->mono_ns / 1000000);
    faults->mono_ns += ns;
    pthread_mutex_unlock(&faults->mutex);
}

void fault_env_set_wall_ms(fault_env *faults, int64_t wall_ms) {
    pthread_mutex_lock(&faults->mutex);
    faults->wall_ms = wall_ms;
    pthread_mutex_unlock(&faults->mutex);
}

/* splitmix64, byte by byte. */
static kwr_status seeded_bytes(void *ctx, void *out, size_t size) {
    fault_env *faults = ctx;
    pthread_mutex_lock(&faults->mutex);
    for (size_t i = 0; i < size; i++) {
        uint64_t x = faults->seed += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        ((unsigned char *)out)[i] = (unsigned char)(x >> 56);
    }
    pthread_mutex_unlock(&faults->mutex);
    return KWR_OK;
}

/* ---- opening and closing ---- */

fault_env *fault_env_open(const kwr_env *base, unsigned flags) {
    fault_env *faults = calloc(1, sizeof *faults);
    cr_assert(faults != NULL);
    faults->env = *base;
    faults->base = base;
    faults->flags = flags;
    pthread_mutex_init(&faults->mutex, NULL);
    faults->log = calloc(FAULT_LOG_MAX, sizeof *faults->log);
    cr_assert(faults->log != NULL);
    fault_memory_init(faults);
    fault_fs_init(faults);
    fault_executor_init(faults);
    if ((flags & FAULT_MANUAL_CLOCK) != 0) {
        faults->mono_ns = 1000000000;
        faults->wall_ms = 1000000000000;
        faults->clock = (kwr_clock){ sizeof faults->clock, faults, manual_mono, manual_wall };
        faults->env.clock = &faults->clock;
    }
    if ((flags & FAULT_SEEDED) != 0) {
        faults->random = (kwr_random){ sizeof faults->random, faults, seeded_bytes };
        faults->env.random = &faults->random;
    }
    return faults;
}

void fault_env_close(fault_env *faults) {
    if (faults == NULL) return;
    cr_assert(faults->blocks == NULL, "%llu bytes were not freed, among them a block of %zu",
              (unsigned long long)faults->outstanding,
              faults->blocks == NULL ? 0 : faults->blocks->size);
    cr_assert(faults->open_handles == 0, "%ld directories, files or locks were not closed",
              faults->open_handles);
    cr_assert(faults->first == NULL && faults->first_timer == NULL, "work was left queued");
    pthread_mutex_destroy(&faults->mutex);
    free(faults->log);
    free(faults);
}

const kwr_env *fault_env_env(fault_env *faults) { return &faults->env; }
