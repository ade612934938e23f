/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole job under a seeded scheduler: sources, keyed counts and file sinks on kwr_task, a
 * kwr_job, and whatever can happen to them. The oracles look at the disk, never at what the library
 * says.
 */
#ifndef KWR_SIM_WORLD_H
#define KWR_SIM_WORLD_H

#include "tests/sim/process.h"

enum { SIM_SOURCES_MAX = 3, SIM_COUNTS_MAX = 3, SIM_KEYS_MAX = 24 };

/* What one seed stands for; drawn by sim_plan(), then possibly reduced while shrinking. */
typedef struct sim_plan {
    uint64_t seed;
    unsigned sources, counts, keys;
    unsigned records; /* for each source */
    unsigned max_parallelism;
    unsigned retain;
    unsigned processes; /* the tasks of an attempt are spread over so many */
    bool inline_off;
    uint64_t interval_ms, min_pause_ms, timeout_ms;
    uint64_t disk_bytes; /* the disk fills up beyond; 0: never */
    unsigned policy;     /* of the scheduler: 0 uniform, 1 priorities, 2 one task starves */
    unsigned steps;      /* of the phase with faults */
    sim_rates rates;
    uint32_t lose_message, double_message;          /* in millionths of the messages */
    uint32_t kill, power, zombie, clock_step, fill; /* in millionths of the steps */
} sim_plan;

void sim_plan_of(uint64_t seed, sim_plan *out);
/* One line that tells what the plan is. */
void sim_plan_text(const sim_plan *plan, char *out, size_t capacity);

typedef struct sim_result {
    bool failed;
    char why[1024]; /* the violated statement and the evidence */
    uint64_t trace; /* the same for the same plan, always */
    uint64_t steps, attempts, kills, powers, zombies, published, commits, strikes, checks;
    sim_strike *list; /* the faults that struck; free() */
    size_t list_count;
} sim_result;

/* Runs the plan to its end. `replay` not NULL: these faults instead of drawn ones. `log` gets the
 * event log. */
void sim_run(const sim_plan *plan, const sim_strike *replay, size_t replay_count,
             void (*log)(void *ctx, const char *line), void *log_ctx, sim_result *out);

#endif /* KWR_SIM_WORLD_H */
