/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An environment that fails on request: wraps another one, counts what goes through it, and makes
 * the n-th allocation, file-system call or post fail in a given way. Also: a clock set by the test,
 * and an executor that runs work on the test's thread when the test says so.
 *
 * The usual exhaustive loop, over every call and one fault:
 *
 *     for (uint64_t n = 0;; n++) {
 *         fault_env *faults = fault_env_open(kwr_test_env(), FAULT_INLINE);
 *         fault_env_fail_fs(faults, FAULT_EIO, n, FAULT_ONCE);
 *         ... run the scenario with fault_env_env(faults), whatever it says ...
 *         const bool fired = fault_env_fired(faults) > 0;
 *         fault_env_clear(faults);
 *         ... what must hold now: it goes on, the older checkpoint restores, ... ;
 *             fault_env_fired_text(faults) says which call it was
 *         fault_env_close(faults);       // fails the test when anything was not released
 *         if (!fired) break;             // n is beyond the last call
 *     }
 *
 * One plan each for memory, files and posts may be in force. Safe to use from several threads.
 */
#ifndef KWR_FAULT_ENV_H
#define KWR_FAULT_ENV_H

#include "keyweir/env.h"

typedef struct fault_env fault_env;

enum {
    FAULT_INLINE = 1, /* the executor runs nothing by itself, see below */
    FAULT_MANUAL_CLOCK =
        2,            /* starts at 1 s and 1,000,000,000,000 ms; moves by fault_env_advance() */
    FAULT_SEEDED = 4, /* the same random bytes in every run */
};

/* `base` must outlive it. */
fault_env *fault_env_open(const kwr_env *base, unsigned flags);
/* Fails the test unless all memory, directories, files and locks were given back. */
void fault_env_close(fault_env *faults);
const kwr_env *fault_env_env(fault_env *faults);

typedef enum fault_times {
    FAULT_ONCE,
    FAULT_ALWAYS, /* that one and all later ones it fits */
} fault_times;

/* Ends all plans and revives a killed file system; counts and log stay. */
void fault_env_clear(fault_env *faults);

/* ---- memory ---- */

/* Fails the n-th allocation (0: the next), mapped blocks included. */
void fault_env_fail_alloc(fault_env *faults, uint64_t n, fault_times times);
/* Allocations since fault_env_fail_alloc() or the start. */
uint64_t fault_env_allocs(fault_env *faults);
/* Bytes allocated or mapped and not yet freed. */
uint64_t fault_env_outstanding(fault_env *faults);

/* ---- files ---- */

typedef enum fault_kind {
    FAULT_EIO,         /* any call that can fail: fails with no effect */
    FAULT_ENOSPC,      /* calls that need room: create, make a directory, write, sync, link, ... */
    FAULT_SHORT_WRITE, /* a write of more than one byte takes half and succeeds */
    FAULT_LOST_SYNC,   /* sync of a file fails and what was not synced before is gone from it */
    FAULT_APPLIED,     /* calls that change names or sync: take effect, yet report EIO */
    FAULT_KILL,        /* any call: this one and all later ones fail with no effect */
    FAULT_KILL_AFTER,  /* any call: takes effect, reports EIO; all later ones as killed */
} fault_kind;

/*
 * Fails the n-th call (0: the next) that the fault fits. After a kill nothing has an effect any
 * more but releasing: what the dead process left is what a successor finds, once the test has let
 * go of everything (locks end then, too).
 */
void fault_env_fail_fs(fault_env *faults, fault_kind kind, uint64_t n, fault_times times);
/* Calls since fault_env_fail_fs() or the start that `kind` fits. */
uint64_t fault_env_fs_calls(fault_env *faults, fault_kind kind);

/* ---- what happened ---- */

/* How often a plan made something fail, since the last fault_env_fail_...(). */
uint64_t fault_env_fired(fault_env *faults);
/* The first such call, as "link log/.tmp-1 0000000000000001" or "allocation 17 of 640 bytes"; ""
 * when there was none. */
const char *fault_env_fired_text(fault_env *faults);

typedef struct fault_call {
    const char *what; /* name of the function in kwr_fs */
    char path[400];   /* relative to the root opened; two, with a blank between, for link, rename */
    kwr_status status;
    bool fired;
} fault_call;

/* The log of file-system calls, oldest first; the latest 4096 are kept. Borrowed until the next. */
size_t fault_env_log_size(fault_env *faults);
const fault_call *fault_env_log(fault_env *faults, size_t index);
/* How many logged calls of that function ended with KWR_OK. */
size_t fault_env_log_count(fault_env *faults, const char *what);

/* ---- clock ---- */

/* Moves a manual clock, wall time too. Timers that become due wait for being run. */
void fault_env_advance(fault_env *faults, uint64_t ns);
void fault_env_set_wall_ms(fault_env *faults, int64_t wall_ms);

/* ---- executor ---- */

/*
 * With FAULT_INLINE work of all kinds is kept in the order of posting; timers join it once due.
 * wait() runs the work it waits for, and moves a manual clock on to its time.
 */
/* Runs the oldest piece; false when nothing is due. */
bool fault_env_run_one(fault_env *faults);
/* Runs until nothing is due; how many ran. */
size_t fault_env_run_all(fault_env *faults);
size_t fault_env_queued(fault_env *faults); /* timers not yet due included */
/* Fails the n-th post (0: the next) of any kind with KWR_ERR_NOMEM. */
void fault_env_fail_post(fault_env *faults, uint64_t n, fault_times times);

#endif /* KWR_FAULT_ENV_H */
