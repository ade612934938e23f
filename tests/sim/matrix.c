/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matrix [--crashes | --double | --errors] [--schedules N] [--first SEED] [--max-calls N]
 *        [--jobs N --job I] [--sample N] [--stride N]: every crash and every error of small jobs,
 * one after the other, instead of a sample of them.
 *
 * A schedule is a seed without faults: it is run once to count its file calls. Then each call gets
 * its fault: the process dies behind it and the power fails, with each outcome; or the call fails
 * with each errno, once and from then on. With --double every recovery from a crash is struck by a
 * second one, at each of its calls; --sample N recovers from each Nth call only; --stride N leaves
 * out all but each Nth call of a recovery, which must not count as all of them. The runs are those
 * of the simulator, with its oracles, and a failing one prints the command that replays it.
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

/* Recoveries that a second crash struck: how many calls they have, and at which it did. */
typedef struct coverage {
    uint64_t recoveries, calls, met;
} coverage;

typedef struct matrix {
    kwr_sim_subject subject;
    kwr_sim_pool *pool;
    kwr_sim_plan plan;
    uint64_t runs, failed, struck, whole, schedules, calls;
    uint64_t second;         /* the call of a second crash, 0: none */
    uint64_t sample, stride; /* of first and second crashes, with --double */
    coverage twice;
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
    for (size_t i = 0; m->second != 0 && i < result.strike_count; i++)
        m->twice.met +=
            result.strikes[i].fault == KWR_SIM_KILL_AFTER && result.strikes[i].nth == m->second;
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

/* The calls of the attempt that recovers, in the run just watched: those of its start, and some
 * behind it. False: it ended before another attempt. */
static bool recovery_of(const kwr_sim_strike *crash, uint64_t *begin, uint64_t *end) {
    *begin = crash->nth + 1;
    *end = seen.started[2] + AFTER_START;
    if (seen.started[2] == 0) return false;
    if (*end > seen.calls) *end = seen.calls;
    return *end >= *begin;
}

/* Once more behind call `n`, of the recovery, with some outcome of a power loss. */
static void crash_again(matrix *m, const kwr_sim_strike first[2], uint64_t n, uint64_t outcome) {
    const kwr_sim_strike strikes[4] = {
        first[0],
        first[1],
        { KWR_SIM_KILL_AFTER, 0, n },
        { KWR_SIM_POWER, (uint32_t)(outcome % KWR_SIM_POWER_OUTCOMES), step_after(n) },
    };
    m->second = n;
    (void)run_once(m, strikes, 4, false);
    m->second = 0;
}

/* While the next attempt recovers: at one of its calls, in turn, or at each. */
static void crash_twice(matrix *m, const kwr_sim_strike first[2], uint64_t *turn, bool each) {
    static watch recovering;
    uint64_t begin, end;
    if (!recovery_of(&first[0], &begin, &end)) return;
    m->twice.recoveries++;
    m->twice.calls += end - begin + 1;
    if (!each) {
        const uint64_t n = begin + (*turn)++ % (end - begin + 1);
        crash_again(m, first, n, *turn);
        return;
    }
    recovering = seen;
    for (uint64_t n = begin; n <= end; n += m->stride) {
        seen = recovering;
        crash_again(m, first, n, (*turn)++);
    }
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
            if (outcome == n % KWR_SIM_POWER_OUTCOMES) crash_twice(m, strikes, &turn, false);
        }
    }
}

/* Every call, then every call of the recovery from it. */
static void all_double_crashes(matrix *m) {
    static watch base;
    uint64_t turn = m->plan.seed;
    base = seen;
    for (uint64_t n = 1; n <= base.calls; n += m->sample) {
        seen = base;
        const kwr_sim_strike strikes[2] = {
            { KWR_SIM_KILL_AFTER, 0, n },
            { KWR_SIM_POWER, (uint32_t)(n % KWR_SIM_POWER_OUTCOMES), step_after(n) },
        };
        (void)run_once(m, strikes, 2, false);
        crash_twice(m, strikes, &turn, true);
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

typedef struct arguments {
    uint64_t schedules, first, max_calls, jobs, job, seed, sample, stride;
    const char *faults;
    void (*all)(matrix *m);
    const char *what;
} arguments;

static bool parse(int argc, char **argv, arguments *a) {
    const struct {
        const char *name;
        void (*all)(matrix *m);
    } modes[] = { { "--crashes", all_crashes },
                  { "--double", all_double_crashes },
                  { "--errors", all_errors } };
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = { { "--schedules", &a->schedules },
                    { "--first", &a->first },
                    { "--max-calls", &a->max_calls },
                    { "--jobs", &a->jobs },
                    { "--job", &a->job },
                    { "--seed", &a->seed },
                    { "--sample", &a->sample },
                    { "--stride", &a->stride } };
    for (int i = 1; i < argc; i++) {
        size_t mode = 0, n = 0;
        while (mode < 3 && strcmp(argv[i], modes[mode].name) != 0)
            mode++;
        while (n < sizeof numbers / sizeof numbers[0] && strcmp(argv[i], numbers[n].name) != 0)
            n++;
        if (mode < 3) {
            a->all = modes[mode].all;
            a->what = modes[mode].name + 2;
        } else if (i + 1 < argc && strcmp(argv[i], "--faults") == 0) {
            a->faults = argv[++i];
        } else if (i + 1 < argc && n < sizeof numbers / sizeof numbers[0]) {
            *numbers[n].value = strtoull(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "matrix: '%s' is not an option with a value\n", argv[i]);
            return false;
        }
    }
    return a->jobs > 0 && a->sample > 0 && a->stride > 0;
}

/* False: something failed, nothing was struck, or not all that had to be. */
static bool print_totals(const matrix *m, const arguments *a) {
    const bool all = a->all != all_double_crashes || m->twice.met == m->twice.calls;
    const uint64_t failed = m->failed + !all;
    printf("%s: %llu schedules, %llu storage calls, %llu runs, %llu of them struck (%llu by all "
           "their faults), %llu violations\n",
           a->what, (unsigned long long)m->schedules, (unsigned long long)m->calls,
           (unsigned long long)m->runs, (unsigned long long)m->struck, (unsigned long long)m->whole,
           (unsigned long long)m->failed);
    if (m->twice.recoveries > 0)
        printf("second crashes: %llu recoveries of %llu calls, struck behind %llu of them\n",
               (unsigned long long)m->twice.recoveries, (unsigned long long)m->twice.calls,
               (unsigned long long)m->twice.met);
    if (!all) puts("FAILED: not every call of every recovery was struck");
    printf("%llu passed, %llu failed\n", (unsigned long long)(m->runs - m->failed),
           (unsigned long long)failed);
    return failed == 0 && m->struck > 0;
}

int main(int argc, char **argv) {
    arguments a = { .schedules = 2,
                    .first = 1,
                    .max_calls = 400,
                    .jobs = 1,
                    .sample = 1,
                    .stride = 1,
                    .all = all_crashes,
                    .what = "crashes" };
    matrix m;
    if (!parse(argc, argv, &a)) return 2;
    matrix_open(&m);
    m.sample = a.sample;
    m.stride = a.stride;
    if (a.faults != NULL) return replay(&m, a.seed, a.faults);
    for (uint64_t s = a.first, picked = 0; picked < a.schedules && s < a.first + 100 * a.schedules;
         s++) {
        plan_quiet(&m, s);
        if (!run_once(&m, NULL, 0, false) || seen.calls == 0 || seen.calls > a.max_calls) continue;
        if (picked++ % a.jobs != a.job) continue;
        m.schedules++;
        m.calls += seen.calls;
        a.all(&m);
    }
    const bool good = print_totals(&m, &a);
    kwr_sim_pool_free(m.pool);
    return good ? 0 : 1;
}
