/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the faulty environment share. */
#ifndef KWR_FAULT_INTERNAL_H
#define KWR_FAULT_INTERNAL_H

#include <pthread.h>

#include "tests/support/fault_env.h"

enum { FAULT_KINDS = FAULT_KILL_AFTER + 1, FAULT_LOG_MAX = 4096 };

typedef struct fault_plan {
    bool armed;
    fault_times times;
    uint64_t n;    /* fires at this one */
    uint64_t seen; /* counted so far */
} fault_plan;

struct fault_env {
    kwr_env env;
    const kwr_env *base;
    unsigned flags;
    pthread_mutex_t mutex; /* over everything below */

    kwr_allocator allocator;
    fault_plan alloc_plan;
    struct memory_block *blocks; /* outstanding, newest first */
    uint64_t outstanding;

    kwr_fs fs;
    fault_kind fs_kind;
    fault_plan fs_plan;
    uint64_t fs_seen[FAULT_KINDS];
    bool killed;
    long open_handles; /* directories, files, locks */
    fault_call *log;
    size_t log_first, log_size;

    uint64_t fired;
    char fired_text[512];

    kwr_clock clock;
    uint64_t mono_ns;
    int64_t wall_ms;

    kwr_executor executor;
    fault_plan post_plan;
    kwr_work *first, *last;      /* queued */
    kwr_work *first_timer;       /* earliest first */
    const kwr_work *running[64]; /* a stack: work that waits runs other work */
    size_t running_depth;
    kwr_random random;
    uint64_t seed;
};

/* With the mutex held: counts one, and says whether the plan fires at it. */
bool fault_plan_hit(fault_plan *plan);
/* With the mutex held. */
void fault_note_fired(fault_env *faults, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Each fills its part of faults->env. */
void fault_memory_init(fault_env *faults);
void fault_fs_init(fault_env *faults);
void fault_executor_init(fault_env *faults);

#endif /* KWR_FAULT_INTERNAL_H */
