/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with an environment of its own. Dying is a longjmp out of the call that dies to
 * kwr_sim_process_call(): nothing of the process is used afterwards but its lists of memory and
 * handles, which belong to the simulation.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"

typedef struct block {
    struct block *next, **link;
    void *start; /* mapped blocks */
    size_t size; /* as asked for */
    size_t whole;
} block;

enum { QUEUE_MAX = 4096, NESTED_MAX = 16, HEADER = 64 };
enum { MS = 1000000 };

typedef struct queued {
    kwr_work *work;
    uint64_t due_ns;
} queued;

/* Work that has begun. It sleeps when a call of it takes long. */
typedef struct begun {
    struct begun *next;
    kwr_sim_process *process;
    kwr_work *work;
    kwr_sim_fiber *fiber;
    bool asleep;
    uint64_t wakes_ns;
    const kwr_work *waits_for;
} begun;

struct kwr_sim_process {
    kwr_sim *sim;
    unsigned number;
    kwr_sim_mount *mount;
    block *blocks, *maps;
    size_t block_count;
    uint64_t block_bytes;
    queued *queue;
    size_t queued, queue_capacity;
    begun *begun;   /* all of it, the newest first */
    begun *current; /* what runs now; NULL: the process's own thread */
    size_t nested;  /* work that waits for work */
    bool dead, without_faults, die_after;
    kwr_sim_causes causes;
    jmp_buf *out;
    kwr_env env;
    kwr_allocator allocator;
    kwr_clock clock;
    kwr_executor executor;
    kwr_random random;
    kwr_observer observer;
};

/* Never returns: from a fiber to whoever resumed it, who dies in turn. */
static void die(kwr_sim_process *p) {
    p->dead = true;
    if (p->current != NULL) kwr_sim_fiber_yield(p->current->fiber);
    if (p->out != NULL) longjmp(*p->out, 1);
}

/* Work stands still, and others go on. */
static void sleep_until(kwr_sim_process *p, uint64_t wakes_ns) {
    p->current->asleep = true;
    p->current->wakes_ns = wakes_ns;
    kwr_sim_fiber_yield(p->current->fiber);
}

/* The own thread has nobody to hand over to: time passes for everyone. */
static void stall(kwr_sim_process *p, uint32_t ms) {
    const uint64_t until = p->sim->now_ns + (uint64_t)ms * MS;
    if (p->current != NULL)
        sleep_until(p, until);
    else if (p->sim->now_ns < until)
        p->sim->now_ns = until;
    kwr_sim_trace(p->sim, "p%u goes on", p->number);
}

/* ---- calls of the file system ---- */

void kwr_sim_causes_add(kwr_sim_causes *to, const kwr_sim_causes *from) {
    to->faults |= from->faults;
    for (size_t i = 0; i < 3; i++)
        to->errnos[i] |= from->errnos[i];
}

static void remember_cause(kwr_sim_process *p, kwr_sim_strike strike) {
    p->causes.faults |= 1u << strike.fault;
    if (strike.fault == KWR_SIM_ERROR && strike.detail < 192)
        p->causes.errnos[strike.detail / 64] |= UINT64_C(1) << strike.detail % 64;
}

static kwr_sim_strike strike_at(kwr_sim_process *p, kwr_sim_call call, const char *name) {
    kwr_sim *sim = p->sim;
    const uint32_t fitting = kwr_sim_fitting(call);
    if (sim->options.decide == NULL || sim->faults_off)
        return kwr_sim_at_place(sim, KWR_SIM_AT_CALL, fitting);
    const kwr_sim_at at = { ++sim->nth[KWR_SIM_AT_CALL], p, call, name };
    kwr_sim_strike strike = sim->options.decide(sim->options.decide_ctx, &at);
    if ((fitting >> strike.fault & 1) == 0) strike.fault = KWR_SIM_NO_FAULT;
    if (strike.fault != KWR_SIM_NO_FAULT) kwr_sim_struck(sim, KWR_SIM_AT_CALL, strike);
    return strike;
}

static kwr_sim_strike before_call(void *ctx, kwr_sim_call call, const char *name) {
    kwr_sim_process *p = ctx;
    if (p->without_faults) return (kwr_sim_strike){ 0 };
    if (p->sim->interrupt != NULL) p->sim->interrupt(p->sim->interrupt_ctx);
    kwr_sim_trace(p->sim, "p%u %s %s", p->number, kwr_sim_call_name(call), name);
    const kwr_sim_strike strike = strike_at(p, call, name);
    if (strike.fault != KWR_SIM_NO_FAULT) remember_cause(p, strike);
    if (strike.fault == KWR_SIM_STALL) stall(p, strike.detail);
    if (strike.fault == KWR_SIM_KILL_BEFORE) die(p);
    p->die_after = strike.fault == KWR_SIM_KILL_AFTER;
    return strike;
}

static void after_call(void *ctx) {
    kwr_sim_process *p = ctx;
    if (p->die_after) die(p);
}

/* ---- memory ---- */

static bool memory_fails(kwr_sim_process *p) {
    if (p->without_faults) return false;
    const kwr_sim_strike strike =
        kwr_sim_at_place(p->sim, KWR_SIM_AT_ALLOCATION, 1u << KWR_SIM_NO_MEMORY);
    if (strike.fault == KWR_SIM_NO_FAULT) return false;
    remember_cause(p, strike);
    return true;
}

static void block_in(kwr_sim_process *p, block **list, block *b) {
    b->next = *list;
    b->link = list;
    if (*list != NULL) (*list)->link = &b->next;
    *list = b;
    p->block_count++;
    p->block_bytes += b->size;
}

static void block_out(kwr_sim_process *p, block *b) {
    *b->link = b->next;
    if (b->next != NULL) b->next->link = b->link;
    p->block_count--;
    p->block_bytes -= b->size;
}

/* start .. header .. memory: the header stands right in front, and is a multiple of the alignment
 * that is nearly always asked for. */
static void *sim_alloc(void *ctx, size_t size, size_t align) {
    kwr_sim_process *p = ctx;
    if (memory_fails(p)) return NULL;
    const size_t front = align > HEADER ? align : HEADER;
    const size_t whole = front + size;
    uint8_t *start = front == HEADER
                         ? kwr_sim_pool_take(p->sim->pool, whole)
                         : kwr_sim_must(aligned_alloc(align, (whole + align - 1) / align * align));
    block *b = (block *)(start + front - HEADER);
    *b = (block){ .start = start, .size = size, .whole = front == HEADER ? whole : 0 };
    block_in(p, &p->blocks, b);
    return start + front;
}

static void block_free(kwr_sim_process *p, block *b) {
    block_out(p, b);
    if (b->whole > 0)
        kwr_sim_pool_give(p->sim->pool, b->start, b->whole);
    else
        free(b->start);
}

static void sim_free(void *ctx, void *memory, size_t size) {
    block *b = (block *)((uint8_t *)memory - HEADER);
    if (b->size != size) {
        fprintf(stderr, "sim: freed with %zu bytes, allocated with %zu\n", size, b->size);
        abort();
    }
    block_free(ctx, b);
}

static void *sim_map(void *ctx, size_t size) {
    kwr_sim_process *p = ctx;
    if (memory_fails(p)) return NULL;
    block *b = kwr_sim_must(malloc(sizeof *b));
    *b = (block){ .start = kwr_sim_pool_map(p->sim->pool, size), .size = size };
    block_in(p, &p->maps, b);
    return b->start;
}

static void map_free(kwr_sim_process *p, block *b) {
    block_out(p, b);
    kwr_sim_pool_unmap(p->sim->pool, b->start, b->size);
    free(b);
}

static void sim_unmap(void *ctx, void *memory, size_t size) {
    kwr_sim_process *p = ctx;
    block *b = p->maps;
    while (b != NULL && b->start != memory)
        b = b->next;
    if (b == NULL || b->size != size) {
        fputs("sim: unmapped what was not mapped, or with another size\n", stderr);
        abort();
    }
    map_free(p, b);
}

/* ---- time, randomness, log ---- */

static uint64_t sim_mono(void *ctx) { return ((kwr_sim_process *)ctx)->sim->now_ns; }

static int64_t sim_wall(void *ctx) {
    const kwr_sim *sim = ((kwr_sim_process *)ctx)->sim;
    return INT64_C(1700000000000) + (int64_t)(sim->now_ns / 1000000) + sim->wall_offset_ms;
}

static kwr_status sim_random(void *ctx, void *out, size_t size) {
    kwr_sim_process *p = ctx;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)kwr_sim_next(&p->sim->ids);
    return KWR_OK;
}

static void sim_log(void *ctx, kwr_log_level level, const char *component, const char *line) {
    kwr_sim_process *p = ctx;
    kwr_sim_trace(p->sim, "p%u log %d %s: %s", p->number, (int)level, component, line);
}

/* ---- executor ---- */

static uint32_t sim_parallelism(void *ctx) {
    (void)ctx;
    return 2;
}

static kwr_status post_at(void *ctx, kwr_work *work, uint64_t due_ns) {
    kwr_sim_process *p = ctx;
    if (p->queued == QUEUE_MAX) return KWR_ERR_NOMEM;
    if (p->queued == p->queue_capacity) {
        p->queue_capacity = p->queue_capacity == 0 ? 16 : 2 * p->queue_capacity;
        p->queue = kwr_sim_must(realloc(p->queue, p->queue_capacity * sizeof *p->queue));
    }
    p->queue[p->queued++] = (queued){ work, due_ns };
    return KWR_OK;
}

static kwr_status post(void *ctx, kwr_work *work) { return post_at(ctx, work, 0); }

static void run_begun(void *ctx) {
    const begun *b = ctx;
    b->work->run(b->work->ctx);
}

static void forget(kwr_sim_process *p, begun *b) {
    begun **link = &p->begun;
    while (*link != b)
        link = &(*link)->next;
    *link = b->next;
    kwr_sim_fiber_free(kwr_sim_pool_fibers(p->sim->pool), b->fiber);
    free(b);
}

static void go_on(kwr_sim_process *p, begun *b) {
    begun *before = p->current;
    if (p->nested == NESTED_MAX) {
        fputs("sim: work waits for work, too deep\n", stderr);
        abort();
    }
    b->asleep = false;
    p->current = b;
    p->nested++;
    const bool ended = kwr_sim_fiber_resume(b->fiber);
    p->nested--;
    p->current = before;
    if (p->dead) die(p);
    if (ended) forget(p, b);
}

static void take(kwr_sim_process *p, size_t index) {
    const queued q = p->queue[index];
    memmove(&p->queue[index], &p->queue[index + 1], (--p->queued - index) * sizeof q);
    begun *b = kwr_sim_must(malloc(sizeof *b));
    *b = (begun){ .next = p->begun, .process = p, .work = q.work };
    b->fiber = kwr_sim_fiber_new(kwr_sim_pool_fibers(p->sim->pool), run_begun, b);
    p->begun = b;
    go_on(p, b);
}

static size_t find(const kwr_sim_process *p, const kwr_work *work) {
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].work == work) return i;
    return SIZE_MAX;
}

static bool cancel(void *ctx, kwr_work *work) {
    kwr_sim_process *p = ctx;
    const size_t at = find(p, work);
    if (at == SIZE_MAX) return false;
    memmove(&p->queue[at], &p->queue[at + 1], (--p->queued - at) * sizeof p->queue[0]);
    return true;
}

static begun *find_begun(const kwr_sim_process *p, const kwr_work *work) {
    begun *b = p->begun;
    while (b != NULL && b->work != work)
        b = b->next;
    return b;
}

/* The nth of what could go on now: queued work first, then what has slept enough. */
static void run_nth(kwr_sim_process *p, size_t nth) {
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].due_ns <= p->sim->now_ns && nth-- == 0) {
            take(p, i);
            return;
        }
    for (begun *b = p->begun; b != NULL; b = b->next)
        if (b->asleep && b->wakes_ns <= p->sim->now_ns && nth-- == 0) {
            go_on(p, b);
            return;
        }
}

static void no_end(void) {
    fputs("sim: work waits for itself or for what waits for it\n", stderr);
    abort();
}

/* What is waited for may wait for others, but not for the one that waits. */
static void check_waiting(const kwr_sim_process *p, const kwr_work *work) {
    if (p->current == NULL) return;
    for (const begun *b = find_begun(p, work); b != NULL; b = find_begun(p, b->waits_for)) {
        if (b == p->current) no_end();
        if (b->waits_for == NULL) return;
    }
}

static void pass_to(kwr_sim_process *p, uint64_t due_ns) {
    if (due_ns > p->sim->now_ns) p->sim->now_ns = due_ns;
}

/* Whether what waits for sleeping work sleeps as well, instead of waking it when it is time. */
static bool sleeps_too(kwr_sim_process *p, const begun *b) {
    if (p->current == NULL) return false;
    if (!b->asleep) return true; /* it runs below, and lets others run */
    return b->wakes_ns > p->sim->now_ns && kwr_sim_below(&p->sim->schedule, 2) == 0;
}

/* A step towards the end of `work`, which is queued at `at` or has begun. */
static void help(kwr_sim_process *p, size_t at, begun *b) {
    if (b == NULL) {
        pass_to(p, p->queue[at].due_ns);
        take(p, at);
    } else if (sleeps_too(p, b)) {
        sleep_until(p, b->asleep ? b->wakes_ns : p->sim->now_ns);
    } else if (!b->asleep) {
        no_end();
    } else {
        pass_to(p, b->wakes_ns);
        go_on(p, b);
    }
}

/* Others may run first, as they would on other threads. */
static void wait_for(void *ctx, kwr_work *work) {
    kwr_sim_process *p = ctx;
    begun *self = p->current;
    if (self != NULL) self->waits_for = work;
    for (;;) {
        const size_t at = find(p, work);
        begun *b = find_begun(p, work);
        if (at == SIZE_MAX && b == NULL) break;
        check_waiting(p, work);
        const size_t runnable = kwr_sim_process_runnable(p);
        if (runnable > 1 && p->nested < NESTED_MAX - 4 && kwr_sim_below(&p->sim->schedule, 2) == 0)
            run_nth(p, kwr_sim_below(&p->sim->schedule, runnable));
        else
            help(p, at, b);
    }
    if (self != NULL) self->waits_for = NULL;
}

/* ---- the process ---- */

kwr_sim_process *kwr_sim_process_open(kwr_sim *sim, kwr_sim_disk *disk, unsigned number) {
    kwr_sim_process *p = kwr_sim_must(calloc(1, sizeof *p));
    const kwr_sim_hooks hooks = { before_call, after_call, p };
    p->sim = sim;
    p->number = number;
    p->mount = kwr_sim_mount_new(disk, &hooks);
    p->allocator =
        (kwr_allocator){ sizeof(kwr_allocator), p, sim_alloc, sim_free, sim_map, sim_unmap };
    p->clock = (kwr_clock){ sizeof(kwr_clock), p, sim_mono, sim_wall };
    p->executor = (kwr_executor){
        sizeof(kwr_executor), p, sim_parallelism, post, post_at, post, cancel, wait_for
    };
    p->random = (kwr_random){ sizeof(kwr_random), p, sim_random };
    p->observer = (kwr_observer){ sizeof(kwr_observer), p, sim_log, NULL };
    p->env = (kwr_env){
        sizeof(kwr_env), &p->allocator, &p->clock, &p->executor, kwr_sim_mount_fs(p->mount),
        &p->random,      &p->observer
    };
    return p;
}

void kwr_sim_process_close(kwr_sim_process *p) {
    if (p == NULL) return;
    while (p->begun != NULL)
        forget(p, p->begun);
    while (p->blocks != NULL)
        block_free(p, p->blocks);
    while (p->maps != NULL)
        map_free(p, p->maps);
    kwr_sim_mount_free(p->mount);
    free(p->queue);
    free(p);
}

unsigned kwr_sim_process_number(const kwr_sim_process *p) { return p->number; }
const kwr_env *kwr_sim_process_env(const kwr_sim_process *p) { return &p->env; }
bool kwr_sim_process_dead(const kwr_sim_process *p) { return p->dead; }
void kwr_sim_process_kill(kwr_sim_process *p) { p->dead = true; }
const kwr_sim_causes *kwr_sim_process_causes(const kwr_sim_process *p) { return &p->causes; }

bool kwr_sim_process_call(kwr_sim_process *p, void (*fn)(void *ctx), void *ctx) {
    jmp_buf here;
    if (p->dead) return false;
    if (p->out != NULL) { /* a call within a call dies with it */
        fn(ctx);
        return true;
    }
    p->out = &here;
    p->current = NULL;
    p->nested = 0;
    if (_setjmp(here) == 0) fn(ctx);
    p->out = NULL;
    return !p->dead;
}

size_t kwr_sim_process_runnable(const kwr_sim_process *p) {
    size_t count = 0;
    for (size_t i = 0; i < p->queued; i++)
        count += p->queue[i].due_ns <= p->sim->now_ns;
    for (const begun *b = p->begun; b != NULL; b = b->next)
        count += b->asleep && b->wakes_ns <= p->sim->now_ns;
    return count;
}

typedef struct work_at {
    kwr_sim_process *p;
    size_t index;
} work_at;

static void run_at(void *ctx) {
    const work_at *w = ctx;
    run_nth(w->p, w->index);
}

bool kwr_sim_process_work(kwr_sim_process *p, size_t index) {
    work_at w = { p, index };
    return index < kwr_sim_process_runnable(p) && kwr_sim_process_call(p, run_at, &w);
}

uint64_t kwr_sim_process_due_ns(const kwr_sim_process *p) {
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].due_ns < next) next = p->queue[i].due_ns;
    for (const begun *b = p->begun; b != NULL; b = b->next)
        if (b->asleep && b->wakes_ns < next) next = b->wakes_ns;
    return next;
}

size_t kwr_sim_process_blocks(const kwr_sim_process *p, uint64_t *bytes) {
    if (bytes != NULL) *bytes = p->block_bytes;
    return p->block_count;
}

size_t kwr_sim_process_handles(const kwr_sim_process *p) { return kwr_sim_mount_handles(p->mount); }

/* ---- looking ---- */

typedef struct looking {
    void (*fn)(void *ctx, const kwr_env *env);
    void *ctx;
    const kwr_env *env;
} looking;

static void run_look(void *ctx) {
    const looking *l = ctx;
    l->fn(l->ctx, l->env);
}

/* Time, randomness and the scheduler's choices are put back: looking changes nothing. */
void kwr_sim_look(kwr_sim *sim, kwr_sim_disk *disk, void (*fn)(void *ctx, const kwr_env *env),
                  void *ctx) {
    const kwr_sim_rng schedule = sim->schedule, ids = sim->ids;
    const uint64_t now_ns = sim->now_ns;
    const bool quiet = sim->quiet;
    kwr_sim_process *p = kwr_sim_process_open(sim, disk, 0);
    looking l = { fn, ctx, &p->env };
    p->without_faults = true;
    sim->quiet = true;
    (void)kwr_sim_process_call(p, run_look, &l);
    kwr_sim_process_close(p);
    sim->schedule = schedule;
    sim->ids = ids;
    sim->now_ns = now_ns;
    sim->quiet = quiet;
}
