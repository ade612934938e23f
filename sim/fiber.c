/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work on a stack of its own, so that it can stand still in the middle of a call while others go
 * on. A fiber that is never resumed is simply forgotten, with all that is on its stack.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sim/internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK = 2 << 20 };
#else
enum { STACK = 512 << 10 };
#endif

struct kwr_sim_fiber {
    kwr_sim_fiber *next; /* spare ones */
    ucontext_t inside, outside;
    void *stack;
    void (*run)(void *ctx);
    void *ctx;
    bool ended;
    /* What AddressSanitizer wants to know about the stack that resumes this one. */
    void *fake_inside, *fake_outside;
    const void *outside_stack;
    size_t outside_size;
};

/* Around each switch of stacks, for AddressSanitizer. */
static void leave(void **fake, const void *stack, size_t size) {
#ifdef WATCHED
    __sanitizer_start_switch_fiber(fake, stack, size);
#else
    (void)fake;
    (void)stack;
    (void)size;
#endif
}
static void arrive(void *fake, const void **stack, size_t *size) {
#ifdef WATCHED
    __sanitizer_finish_switch_fiber(fake, stack, size);
#else
    (void)fake;
    (void)stack;
    (void)size;
#endif
}

/* makecontext() passes ints: a pointer travels in two. */
static void enter(unsigned high, unsigned low) {
    kwr_sim_fiber *f = (kwr_sim_fiber *)((uintptr_t)high << 32 | low);
    arrive(NULL, &f->outside_stack, &f->outside_size);
    f->run(f->ctx);
    f->ended = true;
    leave(NULL, f->outside_stack, f->outside_size);
    (void)setcontext(&f->outside);
    abort();
}

static kwr_sim_fiber *make(void) {
    kwr_sim_fiber *f = kwr_sim_must(calloc(1, sizeof *f));
    f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (f->stack == MAP_FAILED) (void)kwr_sim_must(NULL);
    return f;
}

static void prepare(kwr_sim_fiber *f) {
    (void)getcontext(&f->inside);
    f->inside.uc_stack.ss_sp = f->stack;
    f->inside.uc_stack.ss_size = STACK;
    f->inside.uc_link = NULL;
    makecontext(&f->inside, (void (*)(void))enter, 2, (unsigned)((uintptr_t)f >> 32),
                (unsigned)(uintptr_t)f);
}

kwr_sim_fiber *kwr_sim_fiber_new(kwr_sim_fiber **spare, void (*run)(void *ctx), void *ctx) {
    kwr_sim_fiber *f = *spare;
    if (f != NULL)
        *spare = f->next;
    else
        f = make();
#ifdef WATCHED
    __asan_unpoison_memory_region(f->stack, STACK);
#endif
    f->run = run;
    f->ctx = ctx;
    f->ended = false;
    f->fake_inside = NULL;
    prepare(f);
    return f;
}

void kwr_sim_fiber_free(kwr_sim_fiber **spare, kwr_sim_fiber *f) {
    f->next = *spare;
    *spare = f;
}

void kwr_sim_fibers_end(kwr_sim_fiber **spare) {
    while (*spare != NULL) {
        kwr_sim_fiber *f = *spare;
        *spare = f->next;
        (void)munmap(f->stack, STACK);
        free(f);
    }
}

/* swapcontext(), about which AddressSanitizer would warn. */
static void change_stack(ucontext_t *from, const ucontext_t *to) {
    volatile bool came_back = false;
    (void)getcontext(from);
    if (came_back) return;
    came_back = true;
    (void)setcontext(to);
    abort();
}

bool kwr_sim_fiber_resume(kwr_sim_fiber *f) {
    leave(&f->fake_outside, f->stack, STACK);
    change_stack(&f->outside, &f->inside);
    arrive(f->fake_outside, NULL, NULL);
    return f->ended;
}

void kwr_sim_fiber_yield(kwr_sim_fiber *f) {
    leave(&f->fake_inside, f->outside_stack, f->outside_size);
    change_stack(&f->inside, &f->outside);
    arrive(f->fake_inside, &f->outside_stack, &f->outside_size);
}
