/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matrix [--crashes | --errors] [--schedules N] [--first SEED] [--max-calls N] [--jobs N --job I]:
 * every crash and every error of small jobs, one after the other, instead of a sample of them.
 *
 * A schedule is a seed without faults: it is run once to count its file calls. Then each call gets
 * its fault: the process dies behind it and the power fails, with each outcome; or the call fails
 * with each errno, once and from then on. The runs are those of the simulator, with its oracles,
 * and a failing one prints the command that replays it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"
#include "tests/sim/job.h"

#if defined(__SANITIZE_ADDRESS__)
/* As in main.c: killed processes give nothing back. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

enum { STEPS_MAX = 20000, STRIKES_MAX = 512, PERSISTENT = 400, AFTER_START = 40 };

static const int errnos[] = { EIO,   ENOSPC, EDQUOT, EINTR,     EMFILE, ENFILE, EROFS,  EACCES,
                              EPERM, ENOMEM, EAGAIN, ETIMEDOUT, ESTALE, EFBIG,  ENOBUFS };
enum { ERRNOS = sizeof errnos / sizeof errnos[0] };

/* What the run being made tells about itself. */
typedef struct watch {
    kwr_sim *sim;
    uint64_t calls_at[STEPS_MAX]; /* file calls so far, when the step chose */
    uint64_t steps;
    uint64_t started[8]; /* calls when the nth attempt had started */
    uint64_t calls;      /* of the whole phase with faults */
} watch;

static watch seen;

/* ---- the subject: small jobs, watched ---- */

static void *open_small(void *ctx, kwr_sim *sim) {
    memset(&seen, 0, sizeof seen);
    seen.sim = sim;
    sim_job *job = sim_subject.open(ctx, sim);
    sim_shape *shape = &job->shape;
    shape->records = 2 + shape->records % 8;
    shape->interval_ms = 1;
    shape->min_pause_ms = 0;
    if (shape->splits > 2) shape->splits = 2;
    if (shape->sources > shape->splits) shape->sources = shape->splits;
    if (shape->counts > 2) shape->counts = 2;
    return job;
}

static void note(void) {
    if (seen.sim->faults_off) return;
    const uint64_t step = seen.sim->nth[KWR_SIM_AT_STEP];
    seen.calls = kwr_sim_calls(seen.sim);
    if (step >= STEPS_MAX) return;
    seen.calls_at[step] = seen.calls;
    seen.steps = step;
}

static void *start(void *run, kwr_sim_attempt *attempt) {
    const unsigned number = kwr_sim_attempt_number(attempt);
    void *state = sim_subject.start(run, attempt);
    if (number < 8) seen.started[number] = kwr_sim_calls(seen.sim);
    return state;
}

static size_t choices(void *state, unsigned actor) {
    note();
    return sim_subject.choices(state, actor);
}

/* ---- one run ---- */

typedef struct matrix {
    kwr_sim_subject subject;
    kwr_sim_pool *pool;
    kwr_sim_plan plan;
    uint64_t runs, failed, struck, whole, schedules, calls;
    unsigned shown;
} matrix;

static void show_failure(const matrix *m, const kwr_sim_strike *strikes, size_t count,
                         const kwr_sim_result *result) {
    char *text = kwr_sim_strikes_text(strikes, count);
    printf("VIOLATION %s\n  %s\n  replay: matrix --seed %llu --faults %s\n", result->why,
           result->about, (unsigned long long)m->plan.seed, text);
    free(text);
}

static void print_line(void *ctx, const char *line) {
    (void)ctx;
    puts(line);
}

static bool run_once(matrix *m, const kwr_sim_strike *strikes, size_t count, bool log) {
    static const kwr_sim_strike none;
    kwr_sim_result result;
    const kwr_sim_run_options options = { .struct_size = sizeof options,
                                          .pool = m->pool,
                                          .replay = count == 0 ? &none : strikes,
                                          .replay_count = count,
                                          .log = log ? print_line : NULL };
    kwr_sim_run(&m->plan, &m->subject, &options, &result);
    const bool good = !result.failed;
    m->runs++;
    m->struck += result.strike_count > 0;
    m->whole += count > 0 && result.strike_count == count;
    m->failed += !good;
    if (!good && m->shown++ < 20) show_failure(m, strikes, count, &result);
    kwr_sim_result_clear(&result);
    return good;
}

/*
 * The step before which a power loss comes right behind call `n` of the run just watched: the
 * process has died in it, and the next attempt has not begun.
 */
static uint64_t step_after(uint64_t n) {
    for (uint64_t step = 1; step <= seen.steps; step++)
        if (seen.calls_at[step] >= n) return step + 1;
    return seen.steps + 1;
}

/* ---- crashes ---- */

/* Again while the next attempt recovers: at each of its calls in turn. */
static void crash_twice(matrix *m, kwr_sim_strike first[2], uint64_t *turn) {
    /* The run with the first crash has just been watched. */
    const uint64_t begin = first[0].nth + 1;
    uint64_t end = seen.started[2] + AFTER_START;
    if (seen.started[2] == 0) return; /* it ended before another attempt */
    if (end > seen.calls) end = seen.calls;
    if (end < begin) return;
    const uint64_t n = begin + (*turn)++ % (end - begin + 1);
    const kwr_sim_strike strikes[4] = {
        first[0],
        first[1],
        { KWR_SIM_KILL_AFTER, 0, n },
        { KWR_SIM_POWER, (uint32_t)(*turn % KWR_SIM_POWER_OUTCOMES), step_after(n) },
    };
    (void)run_once(m, strikes, 4, false);
}

static void all_crashes(matrix *m) {
    static watch base;
    uint64_t turn = m->plan.seed;
    base = seen;
    for (uint64_t n = 1; n <= base.calls; n++) {
        seen = base;
        const kwr_sim_strike power = { KWR_SIM_POWER, 0, step_after(n) };
        kwr_sim_strike strikes[2] = { { KWR_SIM_KILL_AFTER, 0, n }, power };
        (void)run_once(m, strikes, 1, false); /* the process alone */
        for (uint32_t outcome = 0; outcome < KWR_SIM_POWER_OUTCOMES; outcome++) {
            strikes[1].detail = outcome;
            (void)run_once(m, strikes, 2, false);
            if (outcome == n % KWR_SIM_POWER_OUTCOMES) crash_twice(m, strikes, &turn);
        }
    }
}

/* ---- errors ---- */

static void all_errors(matrix *m) {
    const uint64_t calls = seen.calls;
    kwr_sim_strike strikes[PERSISTENT];
    for (uint64_t n = 1; n <= calls; n++)
        for (unsigned e = 0; e < ERRNOS; e++) {
            for (unsigned i = 0; i < PERSISTENT; i++)
                strikes[i] = (kwr_sim_strike){ KWR_SIM_ERROR, (uint32_t)errnos[e], n + i };
            (void)run_once(m, strikes, 1, false);
            (void)run_once(m, strikes, PERSISTENT, false);
        }
}

/* ---- the command ---- */

static void matrix_open(matrix *m) {
    *m = (matrix){ .subject = sim_subject, .pool = kwr_sim_pool_new() };
    m->subject.open = open_small;
    m->subject.start = start;
    m->subject.choices = choices;
}

static void plan_quiet(matrix *m, uint64_t seed) {
    kwr_sim_plan_of(seed, &m->plan);
    memset(&m->plan.rates, 0, sizeof m->plan.rates);
    m->plan.steps = STEPS_MAX;
}

static int replay(matrix *m, uint64_t seed, const char *faults) {
    size_t count = 0;
    kwr_sim_strike *strikes = kwr_sim_strikes_parse(faults, &count);
    if (strikes == NULL) {
        fprintf(stderr, "matrix: '%s' is not a list of faults\n", faults);
        return 2;
    }
    plan_quiet(m, seed);
    const bool good = run_once(m, strikes, count, true);
    free(strikes);
    return good ? 0 : 1;
}

int main(int argc, char **argv) {
    uint64_t schedules = 2, first = 1, max_calls = 400, jobs = 1, job = 0, seed = 0;
    const char *faults = NULL;
    bool errors = false;
    matrix m;
    for (int i = 1; i < argc; i++) {
        uint64_t *number = NULL;
        if (strcmp(argv[i], "--crashes") == 0) continue;
        if (strcmp(argv[i], "--errors") == 0) {
            errors = true;
            continue;
        }
        if (strcmp(argv[i], "--schedules") == 0) number = &schedules;
        if (strcmp(argv[i], "--first") == 0) number = &first;
        if (strcmp(argv[i], "--max-calls") == 0) number = &max_calls;
        if (strcmp(argv[i], "--jobs") == 0) number = &jobs;
        if (strcmp(argv[i], "--job") == 0) number = &job;
        if (strcmp(argv[i], "--seed") == 0) number = &seed;
        if (i + 1 == argc || (number == NULL && strcmp(argv[i], "--faults") != 0)) {
            fprintf(stderr, "matrix: '%s' is not an option with a value\n", argv[i]);
            return 2;
        }
        if (number == NULL)
            faults = argv[++i];
        else
            *number = strtoull(argv[++i], NULL, 10);
    }
    matrix_open(&m);
    if (faults != NULL) return replay(&m, seed, faults);
    for (uint64_t s = first, picked = 0; picked < schedules && s < first + 100 * schedules; s++) {
        plan_quiet(&m, s);
        if (!run_once(&m, NULL, 0, false) || seen.calls == 0 || seen.calls > max_calls) continue;
        if (picked++ % jobs != job) continue;
        m.schedules++;
        m.calls += seen.calls;
        if (errors)
            all_errors(&m);
        else
            all_crashes(&m);
    }
    printf("%s: %llu schedules, %llu storage calls, %llu runs, %llu of them struck (%llu by all "
           "their faults), %llu violations\n",
           errors ? "errors" : "crashes", (unsigned long long)m.schedules,
           (unsigned long long)m.calls, (unsigned long long)m.runs, (unsigned long long)m.struck,
           (unsigned long long)m.whole, (unsigned long long)m.failed);
    printf("%llu passed, %llu failed\n", (unsigned long long)(m.runs - m.failed),
           (unsigned long long)m.failed);
    kwr_sim_pool_free(m.pool);
    return m.failed == 0 && m.struck > 0 ? 0 : 1;
}
