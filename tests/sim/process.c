/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dying is a longjmp out of the call that dies to sim_process_run(): nothing of the process is used
 * afterwards but its lists of memory and handles, which belong to the simulation.
 */
#include "tests/sim/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *next, **link;
    void *start;
    size_t size;
    bool mapped;
} block;

enum { QUEUE_MAX = 4096, MAP_ALIGN = 2 << 20, BLOCK_HEADER = 64 };

typedef struct queued {
    kwr_work *work;
    uint64_t due_ns;
} queued;

struct sim_process {
    sim_shared *shared;
    unsigned number;
    sim_mount *mount;
    block *blocks;
    size_t block_count;
    uint64_t block_bytes;
    queued *queue;
    size_t queued;
    kwr_work *running[16]; /* nested: work that waits for work */
    size_t running_count;
    bool dead;
    bool die_before_next_call;
    jmp_buf *out;
    kwr_env env;
    kwr_allocator allocator;
    kwr_clock clock;
    kwr_executor executor;
    kwr_random random;
    kwr_observer observer;
};

/* Large blocks are kept over all runs of the harness: fresh ones cost a page fault each. */
static struct {
    void *free[64];
    size_t count;
} map_pool;

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

void sim_trace(sim_shared *shared, const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (const char *p = line; *p != '\0'; p++)
        shared->trace = (shared->trace ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    if (shared->log != NULL) shared->log(shared->log_ctx, line);
}

static void record(sim_shared *shared, uint32_t what) {
    if (shared->replaying) return;
    if (shared->strike_count == shared->strike_capacity) {
        shared->strike_capacity = shared->strike_capacity == 0 ? 64 : 2 * shared->strike_capacity;
        shared->strikes =
            must(realloc(shared->strikes, shared->strike_capacity * sizeof *shared->strikes));
    }
    shared->strikes[shared->strike_count++] = (sim_strike){ shared->calls, what };
}

/* What the list to replay says of the present call; SIM_NO_FAULT without an entry. */
static uint32_t replayed(sim_shared *shared) {
    while (shared->replay_at < shared->replay_count &&
           shared->replay[shared->replay_at].ordinal < shared->calls)
        shared->replay_at++;
    if (shared->replay_at < shared->replay_count &&
        shared->replay[shared->replay_at].ordinal == shared->calls)
        return shared->replay[shared->replay_at++].what;
    return SIM_NO_FAULT;
}

static void die(sim_process *p) {
    p->dead = true;
    if (p->out != NULL) longjmp(*p->out, 1);
}

/* Faults that can strike a call. */
static bool fits(sim_fault fault, sim_call call) {
    switch (fault) {
    case SIM_EIO: return call != SIM_OPEN_ROOT;
    case SIM_ENOSPC:
        return call == SIM_WRITE || call == SIM_CREATE || call == SIM_SYNC || call == SIM_LINK;
    case SIM_SHORT: return call == SIM_WRITE || call == SIM_READ;
    case SIM_LOSE_SYNC: return call == SIM_SYNC;
    case SIM_AMBIGUOUS:
        return call == SIM_LINK || call == SIM_RENAME || call == SIM_REMOVE || call == SIM_CREATE ||
               call == SIM_SYNC_DIR;
    case SIM_FLIP: return call == SIM_READ;
    case SIM_NO_FAULT:
    case SIM_FAULTS: break;
    }
    return false;
}

static sim_fault draw(sim_shared *shared, sim_call call, bool *kill) {
    *kill = sim_chance(&shared->faults, shared->rates.kill_in_call);
    for (unsigned f = 1; f < SIM_FAULTS; f++)
        if (fits((sim_fault)f, call) && sim_chance(&shared->faults, shared->rates.calls[f]))
            return (sim_fault)f;
    return SIM_NO_FAULT;
}

static const char *const call_names[SIM_CALLS] = { "root",   "dir",   "list",  "syncdir",
                                                   "create", "open",  "write", "read",
                                                   "sync",   "close", "link",  "rename",
                                                   "remove", "rmdir", "info",  "lock" };

static sim_fault on_call(void *ctx, sim_call call, const char *name) {
    sim_process *p = ctx;
    sim_shared *shared = p->shared;
    shared->calls++;
    sim_trace(shared, "p%u %s %s", p->number, call_names[call], name);
    if (p->die_before_next_call) die(p);
    bool kill = false;
    sim_fault fault = SIM_NO_FAULT;
    if (shared->replaying) {
        const uint32_t what = replayed(shared);
        kill = what == SIM_STRIKE_KILL;
        if (what < SIM_FAULTS && fits((sim_fault)what, call)) fault = (sim_fault)what;
    } else if (!shared->faults_off) {
        fault = draw(shared, call, &kill);
        if (!kill && sim_chance(&shared->faults, shared->rates.kill_after_call))
            p->die_before_next_call = true;
    }
    if (kill) {
        record(shared, SIM_STRIKE_KILL);
        sim_trace(shared, "p%u dies in %s %s", p->number, call_names[call], name);
        die(p);
    }
    if (fault != SIM_NO_FAULT) {
        record(shared, fault);
        sim_trace(shared, "p%u fault %u at %s %s", p->number, (unsigned)fault, call_names[call],
                  name);
    }
    if (shared->watch != NULL) shared->watch(shared->watch_ctx, p, call, name);
    return fault;
}

/* ---- memory ---- */

static bool memory_fails(sim_process *p) {
    sim_shared *shared = p->shared;
    shared->calls++;
    const bool fails = shared->replaying ? replayed(shared) == SIM_STRIKE_NO_MEMORY
                                         : !shared->faults_off &&
                                               sim_chance(&shared->faults, shared->rates.no_memory);
    if (fails) {
        record(shared, SIM_STRIKE_NO_MEMORY);
        sim_trace(shared, "p%u no memory", p->number);
    }
    return fails;
}

static void block_link(sim_process *p, block *b) {
    b->next = p->blocks;
    b->link = &p->blocks;
    if (p->blocks != NULL) p->blocks->link = &b->next;
    p->blocks = b;
    p->block_count++;
    p->block_bytes += b->size;
}

static void block_release(sim_process *p, block *b) {
    *b->link = b->next;
    if (b->next != NULL) b->next->link = b->link;
    p->block_count--;
    p->block_bytes -= b->size;
    if (b->mapped && b->size == MAP_ALIGN && map_pool.count < 64) {
        map_pool.free[map_pool.count++] = b->start;
        free(b);
    } else if (b->mapped) {
        free(b->start);
        free(b);
    } else {
        free(b->start); /* the header lies inside */
    }
}

static void *sim_alloc(void *ctx, size_t size, size_t align) {
    sim_process *p = ctx;
    if (memory_fails(p)) return NULL;
    if (align < BLOCK_HEADER) align = BLOCK_HEADER;
    /* start .. header .. memory (aligned), so that the header can be found from the memory */
    uint8_t *start = must(aligned_alloc(align, (align + size + align - 1) / align * align));
    block *b = (block *)(start + align - sizeof(block));
    *b = (block){ .start = start, .size = size };
    block_link(p, b);
    return start + align;
}

static void sim_free(void *ctx, void *memory, size_t size) {
    block *b = (block *)((uint8_t *)memory - sizeof(block));
    if (b->size != size) {
        fprintf(stderr, "sim: freed with %zu bytes, allocated with %zu\n", size, b->size);
        abort();
    }
    block_release(ctx, b);
}

static void *sim_map(void *ctx, size_t size) {
    sim_process *p = ctx;
    if (memory_fails(p)) return NULL;
    block *b = must(malloc(sizeof *b));
    *b = (block){ .size = size, .mapped = true };
    b->start = size == MAP_ALIGN && map_pool.count > 0 ? map_pool.free[--map_pool.count]
                                                       : must(aligned_alloc(MAP_ALIGN, size));
    memset(b->start, 0, size);
    block_link(p, b);
    return b->start;
}

static void sim_unmap(void *ctx, void *memory, size_t size) {
    sim_process *p = ctx;
    (void)size;
    for (block *b = p->blocks; b != NULL; b = b->next) {
        if (!b->mapped || b->start != memory) continue;
        block_release(p, b);
        return;
    }
    fputs("sim: unmapped what was never mapped\n", stderr);
    abort();
}

/* ---- time, randomness, log ---- */

static uint64_t sim_mono(void *ctx) { return ((sim_process *)ctx)->shared->now_ns; }

static int64_t sim_wall(void *ctx) {
    const sim_shared *shared = ((sim_process *)ctx)->shared;
    return INT64_C(1700000000000) + (int64_t)(shared->now_ns / 1000000) + shared->wall_offset_ms;
}

static kwr_status sim_random(void *ctx, void *out, size_t size) {
    sim_process *p = ctx;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)sim_next(&p->shared->ids);
    return KWR_OK;
}

static void sim_log(void *ctx, kwr_log_level level, const char *component, const char *line) {
    sim_process *p = ctx;
    sim_trace(p->shared, "p%u log %d %s: %s", p->number, (int)level, component, line);
}

/* ---- executor ---- */

static uint32_t sim_parallelism(void *ctx) {
    (void)ctx;
    return 2;
}

static kwr_status post_at(void *ctx, kwr_work *work, uint64_t due_ns) {
    sim_process *p = ctx;
    if (p->queued == QUEUE_MAX) return KWR_ERR_NOMEM;
    p->queue[p->queued++] = (queued){ work, due_ns };
    return KWR_OK;
}

static kwr_status post(void *ctx, kwr_work *work) { return post_at(ctx, work, 0); }

static bool take(sim_process *p, size_t index) {
    const queued q = p->queue[index];
    memmove(&p->queue[index], &p->queue[index + 1], (--p->queued - index) * sizeof q);
    if (p->running_count == 16) abort();
    p->running[p->running_count++] = q.work;
    q.work->run(q.work->ctx);
    p->running_count--;
    return true;
}

static size_t find(const sim_process *p, const kwr_work *work) {
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].work == work) return i;
    return SIZE_MAX;
}

static bool cancel(void *ctx, kwr_work *work) {
    sim_process *p = ctx;
    const size_t at = find(p, work);
    if (at == SIZE_MAX) return false;
    memmove(&p->queue[at], &p->queue[at + 1], (--p->queued - at) * sizeof p->queue[0]);
    return true;
}

static size_t due(const sim_process *p, size_t nth) {
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].due_ns <= p->shared->now_ns && nth-- == 0) return i;
    return SIZE_MAX;
}

/* Others may run first, as they would on other threads. */
static void wait_for(void *ctx, kwr_work *work) {
    sim_process *p = ctx;
    for (size_t i = 0; i < p->running_count; i++) {
        if (p->running[i] != work) continue;
        fputs("sim: work waits for itself or for what waits for it\n", stderr);
        abort();
    }
    while (find(p, work) != SIZE_MAX) {
        const size_t runnable = sim_process_runnable(p);
        size_t at = find(p, work);
        if (runnable > 1 && p->running_count < 12 && sim_below(&p->shared->schedule, 2) == 0)
            at = due(p, sim_below(&p->shared->schedule, runnable));
        if (p->queue[at].due_ns > p->shared->now_ns) p->shared->now_ns = p->queue[at].due_ns;
        take(p, at);
    }
}

sim_process *sim_process_new(sim_shared *shared, sim_disk *disk, unsigned number) {
    sim_process *p = must(calloc(1, sizeof *p));
    p->shared = shared;
    p->number = number;
    p->queue = must(malloc(QUEUE_MAX * sizeof *p->queue));
    p->mount = sim_mount_new(disk, on_call, p);
    p->allocator =
        (kwr_allocator){ sizeof(kwr_allocator), p, sim_alloc, sim_free, sim_map, sim_unmap };
    p->clock = (kwr_clock){ sizeof(kwr_clock), p, sim_mono, sim_wall };
    p->executor = (kwr_executor){
        sizeof(kwr_executor), p, sim_parallelism, post, post_at, post, cancel, wait_for
    };
    p->random = (kwr_random){ sizeof(kwr_random), p, sim_random };
    p->observer = (kwr_observer){ sizeof(kwr_observer), p, sim_log, NULL };
    p->env = (kwr_env){ sizeof(kwr_env),        &p->allocator, &p->clock,   &p->executor,
                        sim_mount_fs(p->mount), &p->random,    &p->observer };
    return p;
}

void sim_process_free(sim_process *p) {
    if (p == NULL) return;
    while (p->blocks != NULL)
        block_release(p, p->blocks);
    sim_mount_free(p->mount);
    free(p->queue);
    free(p);
}

unsigned sim_process_number(const sim_process *p) { return p->number; }
const kwr_env *sim_process_env(sim_process *p) { return &p->env; }
bool sim_process_dead(const sim_process *p) { return p->dead; }
void sim_process_kill(sim_process *p) { p->dead = true; }

bool sim_process_run(sim_process *p, void (*fn)(void *ctx), void *ctx) {
    jmp_buf here;
    if (p->dead) return false;
    p->out = &here;
    p->running_count = 0;
    if (setjmp(here) == 0) fn(ctx);
    p->out = NULL;
    return !p->dead;
}

size_t sim_process_runnable(const sim_process *p) {
    size_t count = 0;
    for (size_t i = 0; i < p->queued; i++)
        count += p->queue[i].due_ns <= p->shared->now_ns;
    return count;
}

typedef struct work_at {
    sim_process *p;
    size_t index;
} work_at;

static void run_at(void *ctx) {
    const work_at *w = ctx;
    take(w->p, w->index);
}

bool sim_process_run_work(sim_process *p, size_t index) {
    work_at w = { p, due(p, index) };
    return w.index != SIZE_MAX && sim_process_run(p, run_at, &w);
}

uint64_t sim_process_next_timer(const sim_process *p) {
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < p->queued; i++)
        if (p->queue[i].due_ns < next) next = p->queue[i].due_ns;
    return next;
}

size_t sim_process_outstanding(const sim_process *p, uint64_t *bytes) {
    *bytes = p->block_bytes;
    return p->block_count;
}

size_t sim_process_handles(const sim_process *p) { return sim_mount_handles(p->mount); }
