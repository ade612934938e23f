/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the simulator share: the run, its faults, and the memory it lends. */
#ifndef KWR_SIM_INTERNAL_H
#define KWR_SIM_INTERNAL_H

#include "keyweir/sim.h"

/* Streams of randomness of a run. */
enum {
    KWR_SIM_STREAM_PLAN,
    KWR_SIM_STREAM_SCHEDULE,
    KWR_SIM_STREAM_IDS,
    KWR_SIM_STREAM_WORLD,
    KWR_SIM_STREAM_FAULTS, /* one for each place */
    KWR_SIM_STREAM_SLOW = 50,
    KWR_SIM_STREAM_ROT,
    KWR_SIM_STREAM_DETAIL = 100,
};

/* Where faults strike; each counts its places by itself. */
typedef enum kwr_sim_place {
    KWR_SIM_AT_CALL,
    KWR_SIM_AT_ALLOCATION,
    KWR_SIM_AT_MESSAGE,
    KWR_SIM_AT_STEP,
    KWR_SIM_PLACES,
} kwr_sim_place;

/* What explains an error: the faults that struck since some moment. */
typedef struct kwr_sim_causes {
    uint32_t faults;    /* a bit for each kind */
    uint64_t errnos[3]; /* a bit for each errno injected */
} kwr_sim_causes;

struct kwr_sim {
    uint64_t seed;
    uint64_t now_ns;
    int64_t wall_offset_ms;
    kwr_sim_rng schedule, ids, world, faults[KWR_SIM_PLACES];
    kwr_sim_rates rates;
    bool faults_off, quiet;
    void (*interrupt)(void *ctx); /* NULL, or others run before a call of the file system */
    void *interrupt_ctx;
    uint64_t nth[KWR_SIM_PLACES];
    uint64_t trace;
    kwr_sim_strike *strikes;
    size_t strike_count, strike_capacity;
    uint64_t struck[KWR_SIM_FAULTS];
    kwr_sim_options options;
    size_t replay_at[KWR_SIM_PLACES];
    kwr_sim_pool *pool;
    bool own_pool;
    bool violated;
    char why[1024];
};

static inline uint64_t kwr_sim_mix(uint64_t x) {
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Memory that must be there: the harness ends the program without it. */
void *kwr_sim_must(void *memory);
/* Fills `err`, which may be NULL, and gives the status that fits the errno. */
kwr_status kwr_sim_error(kwr_error *err, kwr_status status, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
kwr_status kwr_sim_status_of(int sys_errno);

/* ---- fibers ---- */

typedef struct kwr_sim_fiber kwr_sim_fiber;

/* Will run `run` on a stack of its own. `spare` keeps those that can be used again. */
kwr_sim_fiber *kwr_sim_fiber_new(kwr_sim_fiber **spare, void (*run)(void *ctx), void *ctx);
/* Also one that has not ended: what it was doing is forgotten. */
void kwr_sim_fiber_free(kwr_sim_fiber **spare, kwr_sim_fiber *fiber);
void kwr_sim_fibers_end(kwr_sim_fiber **spare);
/* Lets it go on until it yields or ends; true: it has ended. */
bool kwr_sim_fiber_resume(kwr_sim_fiber *fiber);
/* Called on its own stack: back to whoever resumed it. */
void kwr_sim_fiber_yield(kwr_sim_fiber *fiber);

/* ---- faults ---- */

const char *kwr_sim_fault_name(kwr_sim_fault fault);
const char *kwr_sim_call_name(kwr_sim_call call);
/*
 * One place more; what strikes there, of the kinds in the bit set `fitting`. Recorded, traced.
 */
kwr_sim_strike kwr_sim_at_place(kwr_sim *sim, kwr_sim_place place, uint32_t fitting);
/* Records and traces one that was decided otherwise. */
void kwr_sim_struck(kwr_sim *sim, kwr_sim_place place, kwr_sim_strike strike);
/* Kinds that can strike at a call. */
uint32_t kwr_sim_fitting(kwr_sim_call call);
/* A stream for the details of one fault, the same when it is replayed. */
kwr_sim_rng kwr_sim_detail_rng(const kwr_sim *sim, kwr_sim_place place);
/* One event of two words, without text: the cheap way into the trace. */
void kwr_sim_trace_words(kwr_sim *sim, uint64_t a, uint64_t b);

/* ---- memory ---- */

enum { KWR_SIM_MAP = 2 << 20 };
/* Memory for processes; `align` at most 64. Contents are undefined. */
void *kwr_sim_pool_take(kwr_sim_pool *pool, size_t size);
void kwr_sim_pool_give(kwr_sim_pool *pool, void *memory, size_t size);
/* 2 MiB, zeroed and aligned. */
kwr_sim_fiber **kwr_sim_pool_fibers(kwr_sim_pool *pool);
void *kwr_sim_pool_map(kwr_sim_pool *pool, size_t size);
void kwr_sim_pool_unmap(kwr_sim_pool *pool, void *memory, size_t size);

/* ---- files of a process ---- */

typedef struct kwr_sim_mount kwr_sim_mount;
typedef struct kwr_sim_hooks {
    /* What strikes at a call. A process that dies does not return from either. */
    kwr_sim_strike (*before)(void *ctx, kwr_sim_call call, const char *name);
    void (*after)(void *ctx);
    void *ctx;
} kwr_sim_hooks;
kwr_sim_mount *kwr_sim_mount_new(kwr_sim_disk *disk, const kwr_sim_hooks *hooks);
const kwr_fs *kwr_sim_mount_fs(kwr_sim_mount *mount);
/* Drops its handles and locks, as the end of the process does. */
void kwr_sim_mount_drop(kwr_sim_mount *mount);
void kwr_sim_mount_free(kwr_sim_mount *mount);
size_t kwr_sim_mount_handles(const kwr_sim_mount *mount);

/* ---- processes ---- */

const kwr_sim_causes *kwr_sim_process_causes(const kwr_sim_process *process);
/* Adds `from` to `to`. */
void kwr_sim_causes_add(kwr_sim_causes *to, const kwr_sim_causes *from);

#endif /* KWR_SIM_INTERNAL_H */
