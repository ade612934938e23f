/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulator for what is built on a kwr_env: jobs, tasks, sinks, or anything else that reaches the
 * outside through it. One thread, one seed: the seed decides the order of steps and what goes
 * wrong, so that every run can be had again. It is a library of its own, libkeyweir-sim; nothing in
 * keyweir needs it, and it needs nothing of keyweir but the tables of keyweir/env.h.
 *
 * Two ways to use it. kwr_sim_command() and kwr_sim_run() drive a `kwr_sim_subject`: an engine of
 * yours, as a few callbacks. Below that, disk and processes can be used directly, to put one
 * sequence of calls through every crash.
 *
 * The harness itself does not fail: without memory it ends the program. All functions are [owner]
 * with the kwr_sim (or disk) as the object. What a simulated process took from elsewhere than its
 * environment, such as malloc, is lost when it is killed.
 */
#ifndef KEYWEIR_SIM_H
#define KEYWEIR_SIM_H

#include "keyweir/env.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- randomness: separate streams, so that a draw more in one does not shift the others ---- */

typedef struct kwr_sim_rng {
    uint64_t state;
} kwr_sim_rng;

/* Streams below this number are the harness's own. */
enum { KWR_SIM_STREAM_SUBJECT = 1000 };

KWR_API kwr_sim_rng kwr_sim_rng_of(uint64_t seed, uint64_t stream);
KWR_API uint64_t kwr_sim_next(kwr_sim_rng *rng);
/* Uniform in [0, n); n > 0. */
KWR_API uint64_t kwr_sim_below(kwr_sim_rng *rng, uint64_t n);
/* True `per_million` times in a million. */
KWR_API bool kwr_sim_chance(kwr_sim_rng *rng, uint32_t per_million);

/* ---- what can go wrong ---- */

/* Calls of the file system. */
typedef enum kwr_sim_call {
    KWR_SIM_OPEN_ROOT,
    KWR_SIM_OPEN_DIR,
    KWR_SIM_LIST,
    KWR_SIM_SYNC_DIR,
    KWR_SIM_CREATE,
    KWR_SIM_OPEN,
    KWR_SIM_WRITE,
    KWR_SIM_READ,
    KWR_SIM_SYNC,
    KWR_SIM_CLOSE,
    KWR_SIM_LINK,
    KWR_SIM_RENAME,
    KWR_SIM_REMOVE,
    KWR_SIM_REMOVE_DIR,
    KWR_SIM_INFO,
    KWR_SIM_LOCK,
    KWR_SIM_CALLS,
} kwr_sim_call;

/* What a power loss may leave of everything that is not synced. */
typedef enum kwr_sim_power {
    KWR_SIM_POWER_NOTHING = 0, /* only what was synced */
    KWR_SIM_POWER_ALL = 1,     /* everything */
    KWR_SIM_POWER_PREFIX = 2,  /* updates in order up to some point, the last files torn */
    KWR_SIM_POWER_SUBSET = 3,  /* any subset of directory updates, any length of each tail */
    KWR_SIM_POWER_ZEROS = 4,   /* lengths survive, their data are zeros */
    KWR_SIM_POWER_GARBAGE = 5, /* lengths survive, their data are garbage */
    KWR_SIM_POWER_OUTCOMES = 6,
} kwr_sim_power;

/* Faults, by where they strike. `detail` is what the comment says, else 0. */
typedef enum kwr_sim_fault {
    KWR_SIM_NO_FAULT = 0,
    /* at a call of the file system */
    KWR_SIM_ERROR,       /* it fails and applies nothing; detail: errno */
    KWR_SIM_SHORT,       /* write, read: less than asked */
    KWR_SIM_LOSE_SYNC,   /* sync: fails, and what is unsynced will never reach the disk */
    KWR_SIM_AMBIGUOUS,   /* a change of names or sync of a directory: applied, reported as failed */
    KWR_SIM_FLIP,        /* read: one bit of the answer is wrong, this once; detail: which */
    KWR_SIM_MISREAD,     /* read: the answer comes from elsewhere, this once */
    KWR_SIM_KILL_BEFORE, /* the process dies before the call */
    KWR_SIM_KILL_AFTER,  /* it dies once the call took effect */
    /* at an allocation */
    KWR_SIM_NO_MEMORY,
    /* at a message */
    KWR_SIM_LOSE_MESSAGE,
    KWR_SIM_DOUBLE_MESSAGE,
    /* between two steps */
    KWR_SIM_KILL_ONE,   /* a process of the attempt; detail: which */
    KWR_SIM_KILL_ALL,   /* all of them */
    KWR_SIM_POWER,      /* detail: a kwr_sim_power */
    KWR_SIM_PAUSE,      /* the attempt stops, a successor starts, later both run */
    KWR_SIM_CLOCK_STEP, /* the wall clock jumps; detail: milliseconds + 2^31 */
    KWR_SIM_FILL,       /* the disk is full but for some bytes, for a while */
    KWR_SIM_DAMAGE,     /* durable bytes change, for a while */
    /* at a call of the file system again */
    KWR_SIM_STALL, /* it takes long, and others go on meanwhile; detail: milliseconds */
    /* between two steps again */
    KWR_SIM_ROT, /* a durable bit flips, and all start again before it is put right */
    KWR_SIM_FAULTS,
} kwr_sim_fault;

/* One fault that struck: the nth of the places it can strike at. */
typedef struct kwr_sim_strike {
    kwr_sim_fault fault;
    uint32_t detail;
    uint64_t nth;
} kwr_sim_strike;

/* ---- the disk ---- */

/*
 * Two images of every file and directory: what processes see, and what is durable. Files grow at
 * their end only. It outlives processes.
 */
typedef struct kwr_sim_disk kwr_sim_disk;

KWR_API kwr_sim_disk *kwr_sim_disk_new(void);
KWR_API void kwr_sim_disk_free(kwr_sim_disk *disk);
/* Both images, without the files and locks that processes hold. */
KWR_API kwr_sim_disk *kwr_sim_disk_copy(const kwr_sim_disk *disk);
/* Ends what processes hold and leaves one of the possible images as the only one. */
KWR_API void kwr_sim_disk_power_loss(kwr_sim_disk *disk, kwr_sim_power outcome, kwr_sim_rng *rng);
KWR_API uint64_t kwr_sim_disk_used(const kwr_sim_disk *disk);
/* Writes beyond fail; UINT64_MAX: never. */
KWR_API void kwr_sim_disk_set_capacity(kwr_sim_disk *disk, uint64_t capacity);
/* Names, sizes and bytes of what is visible at and below `path` ("" for all). */
KWR_API uint64_t kwr_sim_disk_hash(const kwr_sim_disk *disk, const char *path);

/* Calls `visit` for every file; paths such as "/a/b/c". `data` is borrowed for the call. */
typedef void (*kwr_sim_visit)(void *ctx, const char *path, const void *data, size_t size);
KWR_API void kwr_sim_disk_visit(const kwr_sim_disk *disk, bool durable, kwr_sim_visit visit,
                                void *ctx);
/* NULL when there is none. Borrowed until the next change. */
KWR_API const void *kwr_sim_disk_file(const kwr_sim_disk *disk, bool durable, const char *path,
                                      size_t *size);
/* Puts a file there, durably, with the directories above it; replaces one that is there. */
KWR_API void kwr_sim_disk_put(kwr_sim_disk *disk, const char *path, const void *data, size_t size);
/*
 * Overwrites durable bytes of a file in both images; false when they are not there. One such
 * damage at a time: kwr_sim_disk_repair() puts the old bytes back, wherever the file went.
 */
KWR_API bool kwr_sim_disk_damage(kwr_sim_disk *disk, const char *path, size_t offset,
                                 const void *data, size_t size);
KWR_API void kwr_sim_disk_repair(kwr_sim_disk *disk);

/* ---- a run: time, faults and their record ---- */

typedef struct kwr_sim kwr_sim;
/* Memory that is used again from run to run. */
typedef struct kwr_sim_pool kwr_sim_pool;

KWR_API kwr_sim_pool *kwr_sim_pool_new(void);
KWR_API void kwr_sim_pool_free(kwr_sim_pool *pool);

typedef struct kwr_sim_process kwr_sim_process;

/* How often which fault strikes: in millionths of the places it fits, by kwr_sim_fault. */
typedef struct kwr_sim_rates {
    uint32_t of[KWR_SIM_FAULTS];
} kwr_sim_rates;

/* What is about to happen at one call of the file system. */
typedef struct kwr_sim_at {
    uint64_t nth; /* among all calls of the run, from 1 */
    const kwr_sim_process *process;
    kwr_sim_call call;
    const char *name; /* the last component, or the path of a directory */
} kwr_sim_at;

typedef struct kwr_sim_options {
    size_t struct_size;
    uint64_t seed;
    kwr_sim_rates rates;
    kwr_sim_pool *pool;           /* NULL: one of its own */
    const kwr_sim_strike *replay; /* not NULL: these, and no draws */
    size_t replay_count;
    /* NULL, or decides at each call of the file system, instead of draws. */
    kwr_sim_strike (*decide)(void *ctx, const kwr_sim_at *at);
    void *decide_ctx;
    void (*log)(void *ctx, const char *line); /* the event log; NULL: none */
    void *log_ctx;
} kwr_sim_options;

KWR_API kwr_sim *kwr_sim_open(const kwr_sim_options *options);
KWR_API void kwr_sim_close(kwr_sim *sim);
KWR_API uint64_t kwr_sim_seed(const kwr_sim *sim);
/* Simulated time; it moves when told to, and when work is waited for that is not due yet. */
KWR_API uint64_t kwr_sim_now_ns(const kwr_sim *sim);
KWR_API void kwr_sim_set_now_ns(kwr_sim *sim, uint64_t now_ns);
/* No fault strikes any more. */
KWR_API void kwr_sim_faults_end(kwr_sim *sim);
/* Calls of the file system so far, by all processes. */
KWR_API uint64_t kwr_sim_calls(const kwr_sim *sim);
/* Borrowed until the next fault. */
KWR_API const kwr_sim_strike *kwr_sim_strikes(const kwr_sim *sim, size_t *count);
/* A hash of everything that happened, in order: the same for the same seed, always. */
KWR_API uint64_t kwr_sim_trace_hash(const kwr_sim *sim);
/* Adds an event to the trace and to the log: never anything that differs from run to run, such
 * as a pointer. Conversions: d, u, x, with l, ll, z; s. */
KWR_API void kwr_sim_trace(kwr_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- processes ---- */

/*
 * A process has an environment of its own on the disk it was opened on. Work posted to its
 * executor waits until somebody runs it. Killed, it never returns from the call it is in, and all
 * it had is forgotten.
 */
KWR_API kwr_sim_process *kwr_sim_process_open(kwr_sim *sim, kwr_sim_disk *disk, unsigned number);
KWR_API void kwr_sim_process_close(kwr_sim_process *process);
KWR_API const kwr_env *kwr_sim_process_env(const kwr_sim_process *process);
KWR_API unsigned kwr_sim_process_number(const kwr_sim_process *process);
KWR_API bool kwr_sim_process_dead(const kwr_sim_process *process);
/* From outside of it; inside a call, faults do it. */
KWR_API void kwr_sim_process_kill(kwr_sim_process *process);
/*
 * Runs `fn` as the process; false when it died in it, or was dead. Everything that uses its
 * environment goes through here.
 */
KWR_API bool kwr_sim_process_call(kwr_sim_process *process, void (*fn)(void *ctx), void *ctx);
/* Work that could run now; the index-th of it, false when the process died. */
KWR_API size_t kwr_sim_process_runnable(const kwr_sim_process *process);
KWR_API bool kwr_sim_process_work(kwr_sim_process *process, size_t index);
/* When its next work is due, UINT64_MAX for none. */
KWR_API uint64_t kwr_sim_process_due_ns(const kwr_sim_process *process);
/* Blocks of memory it holds, and directories, files and locks: 0 after a clean close. */
KWR_API size_t kwr_sim_process_blocks(const kwr_sim_process *process, uint64_t *bytes);
KWR_API size_t kwr_sim_process_handles(const kwr_sim_process *process);
/* Runs `fn` in a process of its own on `disk`, without faults and without leaving a trace: for
 * oracles. */
KWR_API void kwr_sim_look(kwr_sim *sim, kwr_sim_disk *disk,
                          void (*fn)(void *ctx, const kwr_env *env), void *ctx);

/* ---- an engine under the simulator ---- */

/*
 * One attempt of the subject's job: some processes, messages between them, and what the subject
 * keeps. It runs until it says finished or failed, or dies.
 */
typedef struct kwr_sim_attempt kwr_sim_attempt;

/* From 1. */
KWR_API unsigned kwr_sim_attempt_number(const kwr_sim_attempt *attempt);
/* True: an older attempt may still run, so that no lock may be waited for. */
KWR_API bool kwr_sim_attempt_beside(const kwr_sim_attempt *attempt);
KWR_API kwr_sim_process *kwr_sim_attempt_process(const kwr_sim_attempt *attempt, unsigned index);
/*
 * A message to an actor, delivered to `receive` in that actor's process; it may get lost, come
 * twice, or behind later ones.
 */
KWR_API void kwr_sim_attempt_send(kwr_sim_attempt *attempt, unsigned actor, kwr_slice message);
KWR_API size_t kwr_sim_attempt_messages(const kwr_sim_attempt *attempt);
/* All is done and need not be done again. */
KWR_API void kwr_sim_attempt_finish(kwr_sim_attempt *attempt);
/* The attempt gives up; the world starts another one. The error is judged: it must have a cause. */
KWR_API void kwr_sim_attempt_fail(kwr_sim_attempt *attempt, const kwr_error *err);
/* An error that does not end the attempt, to be judged like the others. */
KWR_API void kwr_sim_attempt_report(kwr_sim_attempt *attempt, const kwr_error *err);
/* Something that must hold does not: the run ends, violated. */
KWR_API void kwr_sim_violated(kwr_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* When `check` is called. */
typedef enum kwr_sim_moment {
    KWR_SIM_NOW = 0,         /* between two steps */
    KWR_SIM_AFTER_POWER = 1, /* on what a power loss at this moment would leave, or left */
    KWR_SIM_AT_END = 2,      /* all is done, and every attempt closed */
} kwr_sim_moment;

typedef struct kwr_sim_check {
    size_t struct_size;
    kwr_sim_moment moment;
    /* The file that is damaged at present, NULL: none. It may be found damaged; nothing else may
     * be wrong because of it. */
    const char *damaged;
} kwr_sim_check;

/*
 * What is put under the simulator. `run` is what `open` gave, `state` what `start` gave. Actors
 * are what the scheduler chooses between; each lives in one process. Functions marked (process)
 * are called as that actor's process; from others, kwr_sim_process_call() enters one.
 */
typedef struct kwr_sim_subject {
    size_t struct_size;
    void *ctx;
    const char *name; /* of the command that replays a seed */
    /* A run begins, with all of its workload drawn from the seed. */
    void *(*open)(void *ctx, kwr_sim *sim);
    void (*close)(void *run);
    /* One line about it, for reports. May be NULL. */
    void (*describe)(void *run, char *out, size_t capacity);
    /* The shape of every attempt: at most 8 processes, 64 actors. */
    unsigned (*processes)(void *run);
    unsigned (*actors)(void *run);
    unsigned (*process_of)(void *run, unsigned actor);
    /* Opens everything, or fails the attempt. */
    void *(*start)(void *run, kwr_sim_attempt *attempt);
    /* Closes in order what lives, then frees the state. Called for dead attempts too, whose
     * processes cannot be called any more. */
    void (*stop)(void *state);
    /* Things the actor could do now, and doing one of them (process). */
    size_t (*choices)(void *state, unsigned actor);
    void (*step)(void *state, unsigned actor, size_t choice);
    /* A message for the actor (process). */
    void (*receive)(void *state, unsigned actor, kwr_slice message);
    /* After whatever its process did (process). May be NULL. */
    void (*settle)(void *state, unsigned actor);
    /* When something becomes due without a step, UINT64_MAX for never. May be NULL. */
    uint64_t (*deadline_ns)(void *state);
    /* The oracle: false with the violated statement in `why`. */
    bool (*check)(void *run, kwr_sim_disk *disk, const kwr_sim_check *check, char *why,
                  size_t why_size);
    /* Whether the contract says what happens when this durable file is damaged: attempts end
     * with an error that names it, or do not need it. NULL: no damage. */
    bool (*damageable)(void *run, const char *path);
} kwr_sim_subject;

/* What a seed decides besides the workload. */
typedef struct kwr_sim_plan {
    size_t struct_size;
    uint64_t seed;
    unsigned steps;  /* of the phase with faults; then they stop, and it must finish */
    unsigned policy; /* of the scheduler: 0 uniform, 1 priorities, 2 one actor starves */
    kwr_sim_rates rates;
} kwr_sim_plan;

/* Each fault is off in a third of the seeds. */
KWR_API void kwr_sim_plan_of(uint64_t seed, kwr_sim_plan *out);

typedef struct kwr_sim_result {
    bool failed;
    char why[1024];  /* the violated statement and the evidence */
    char about[512]; /* what the run was */
    uint64_t trace;  /* the same for the same plan, always */
    uint64_t steps, attempts, checks;
    uint64_t struck[KWR_SIM_FAULTS]; /* by kind */
    kwr_sim_strike *strikes;         /* released by kwr_sim_result_clear() */
    size_t strike_count;
} kwr_sim_result;

typedef struct kwr_sim_run_options {
    size_t struct_size;
    kwr_sim_pool *pool;           /* NULL: one of its own */
    const kwr_sim_strike *replay; /* not NULL: these, and no draws */
    size_t replay_count;
    void (*log)(void *ctx, const char *line);
    void *log_ctx;
} kwr_sim_run_options;

/* Runs the plan to its end. `options` may be NULL. */
KWR_API void kwr_sim_run(const kwr_sim_plan *plan, const kwr_sim_subject *subject,
                         const kwr_sim_run_options *options, kwr_sim_result *out);
KWR_API void kwr_sim_result_clear(kwr_sim_result *result);
/*
 * Makes a failing run smaller: kinds of faults that are not needed, then steps, then single
 * faults. `plan` and `result` become those of the smaller run, which fails as well.
 */
KWR_API void kwr_sim_shrink(kwr_sim_plan *plan, const kwr_sim_subject *subject,
                            kwr_sim_result *result);
/* Lists of faults as text, such as "error@812/5,power@1200/3"; text is for free(). NULL when a list
 * cannot be read. */
KWR_API char *kwr_sim_strikes_text(const kwr_sim_strike *strikes, size_t count);
KWR_API kwr_sim_strike *kwr_sim_strikes_parse(const char *text, size_t *count);
/*
 * A whole command for the subject: runs seeds, every 64th twice, says which violate what, replays
 * one with its log, shrinks. Gives the exit code.
 */
KWR_API int kwr_sim_command(int argc, char **argv, const kwr_sim_subject *subject);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_SIM_H */
