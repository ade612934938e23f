/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated process: one attempt of a job with an environment of its own, in which everything
 * runs on the one real thread. Work posted to its executor waits in a queue until the world picks
 * it; whatever it holds is forgotten when it is killed, wherever it is: in the middle of a call of
 * the file system it never returns from that call.
 */
#ifndef KWR_SIM_PROCESS_H
#define KWR_SIM_PROCESS_H

#include "tests/sim/disk.h"

typedef struct sim_process sim_process;

/* How often which fault strikes, in millionths of the calls it applies to; drawn for each seed. */
typedef struct sim_rates {
    uint32_t calls[SIM_FAULTS]; /* by fault, for every call it fits */
    uint32_t kill_in_call;      /* the process dies before a call */
    uint32_t kill_after_call;   /* ... or after it took effect: before the next one */
    uint32_t no_memory;         /* an allocation fails */
} sim_rates;

/* One fault that struck, addressed so that a list of them replays without any draw. */
typedef struct sim_strike {
    uint64_t ordinal; /* of the call among all calls of the run */
    uint32_t what;    /* sim_fault, or the two below */
} sim_strike;
enum { SIM_STRIKE_KILL = 100, SIM_STRIKE_NO_MEMORY = 101 };

/* What all processes of a run share: time, faults and their record. */
typedef struct sim_shared {
    uint64_t now_ns;
    int64_t wall_offset_ms; /* clock steps */
    sim_rng faults, schedule, ids;
    sim_rates rates;
    bool faults_off;
    uint64_t calls;      /* fs calls and allocations so far: the ordinals */
    uint64_t trace;      /* a hash of everything that happened, in order */
    sim_strike *strikes; /* struck so far, or to strike when replaying */
    size_t strike_count, strike_capacity;
    bool replaying;
    size_t replay_at;
    const sim_strike *replay;
    size_t replay_count;
    void (*log)(void *ctx, const char *line); /* the event log, NULL: none */
    void *log_ctx;
    /* Called before a call takes place, to look at what is about to happen. May be NULL. */
    void (*watch)(void *ctx, sim_process *process, sim_call call, const char *name);
    void *watch_ctx;
} sim_shared;

void sim_trace(sim_shared *shared, const char *format, ...) __attribute__((format(printf, 2, 3)));

sim_process *sim_process_new(sim_shared *shared, sim_disk *disk, unsigned number);
/* Forgets everything it had: memory, work, files and locks. The struct itself goes too. */
void sim_process_free(sim_process *process);
unsigned sim_process_number(const sim_process *process);
const kwr_env *sim_process_env(sim_process *process);
bool sim_process_dead(const sim_process *process);
/* Marks it dead from outside; inside one of its calls use the faults. */
void sim_process_kill(sim_process *process);

/*
 * Runs `fn` as the process; false when it died in it (or was dead). Everything that calls the
 * library for a process goes through here.
 */
bool sim_process_run(sim_process *process, void (*fn)(void *ctx), void *ctx);

/* Work that could run now. */
size_t sim_process_runnable(const sim_process *process);
/* Runs the i-th of it; false when the process died. */
bool sim_process_run_work(sim_process *process, size_t index);
/* When its next timed work is due, UINT64_MAX for none. */
uint64_t sim_process_next_timer(const sim_process *process);

/* What it holds: 0 after a clean close. */
size_t sim_process_outstanding(const sim_process *process, uint64_t *bytes);
size_t sim_process_handles(const sim_process *process);

#endif /* KWR_SIM_PROCESS_H */
