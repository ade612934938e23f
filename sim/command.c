/* SPDX-License-Identifier: Apache-2.0 */
/* The command of a subject: many seeds, or one of them closely. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"

enum { TWICE_EVERY = 64, LINE = 4096 };

typedef struct command {
    const kwr_sim_subject *subject;
    kwr_sim_pool *pool;
    uint64_t first, seeds, jobs, job, steps;
    bool one, log, shrink, once, progress;
    const char *faults, *seed_file;
} command;

static void print_line(void *ctx, const char *line) {
    (void)ctx;
    puts(line);
}

static void report(const command *c, const kwr_sim_result *result, uint64_t seed) {
    printf("VIOLATION %s\n  %s\n  replay: %s --seed %llu --log\n", result->why, result->about,
           c->subject->name, (unsigned long long)seed);
}

static void plan_of(const command *c, uint64_t seed, kwr_sim_plan *plan) {
    kwr_sim_plan_of(seed, plan);
    if (c->steps > 0) plan->steps = (unsigned)c->steps;
}

static int run_one(const command *c) {
    kwr_sim_plan plan;
    kwr_sim_result result;
    kwr_sim_run_options options = { .struct_size = sizeof options,
                                    .pool = c->pool,
                                    .log = c->log ? print_line : NULL };
    kwr_sim_strike *list = NULL;
    plan_of(c, c->first, &plan);
    if (c->faults != NULL) {
        list = kwr_sim_strikes_parse(c->faults, &options.replay_count);
        options.replay = list;
        if (list == NULL) {
            fprintf(stderr, "%s: '%s' is not a list of faults\n", c->subject->name, c->faults);
            return 2;
        }
    }
    kwr_sim_run(&plan, c->subject, &options, &result);
    if (result.failed) report(c, &result, plan.seed);
    printf("seed %llu: %s, %llu steps, %llu attempts, %zu faults, trace %016llx\n",
           (unsigned long long)plan.seed, result.failed ? "violated" : "good",
           (unsigned long long)result.steps, (unsigned long long)result.attempts,
           result.strike_count, (unsigned long long)result.trace);
    if (result.failed && c->shrink) {
        kwr_sim_shrink(&plan, c->subject, &result);
        char *text = kwr_sim_strikes_text(result.strikes, result.strike_count);
        printf("smaller: %s\n  %zu faults are needed; replay: %s --seed %llu --steps %u --log "
               "--faults '%s'\n",
               result.why, result.strike_count, c->subject->name, (unsigned long long)plan.seed,
               plan.steps, text);
        free(text);
    }
    const int code = result.failed;
    kwr_sim_result_clear(&result);
    free(list);
    return code;
}

typedef struct totals {
    uint64_t seeds, violations, steps, attempts, checks, trace, struck[KWR_SIM_FAULTS];
} totals;

static void add_result(const kwr_sim_result *result, totals *t) {
    t->seeds++;
    t->violations += result->failed;
    t->steps += result->steps;
    t->attempts += result->attempts;
    t->checks += result->checks;
    for (unsigned f = 0; f < KWR_SIM_FAULTS; f++)
        t->struck[f] += result->struck[f];
    t->trace = kwr_sim_mix(t->trace ^ result->trace);
    if (result->failed) fflush(stdout);
}

static void run_seed(const command *c, uint64_t seed, totals *t) {
    const kwr_sim_run_options options = { .struct_size = sizeof options, .pool = c->pool };
    kwr_sim_plan plan;
    kwr_sim_result result;
    plan_of(c, seed, &plan);
    kwr_sim_run(&plan, c->subject, &options, &result);
    if (!result.failed && !c->once && seed % TWICE_EVERY == 0) {
        kwr_sim_result again;
        kwr_sim_run(&plan, c->subject, &options, &again);
        if (again.trace != result.trace) {
            result.failed = true;
            snprintf(result.why, sizeof result.why, "determinism: traces %016llx and %016llx",
                     (unsigned long long)result.trace, (unsigned long long)again.trace);
        }
        kwr_sim_result_clear(&again);
    }
    if (result.failed) report(c, &result, seed);
    add_result(&result, t);
    kwr_sim_result_clear(&result);
}

/* A line of a file of seeds: so many steps of the seed, with these faults and no others. */
static bool run_list(const command *c, uint64_t seed, unsigned steps, const char *faults,
                     totals *t) {
    static const kwr_sim_strike none;
    kwr_sim_run_options options = { .struct_size = sizeof options,
                                    .pool = c->pool,
                                    .replay = &none };
    kwr_sim_plan plan;
    kwr_sim_result result;
    kwr_sim_strike *list = NULL;
    if (strcmp(faults, "-") != 0) {
        options.replay = list = kwr_sim_strikes_parse(faults, &options.replay_count);
        if (list == NULL) return false;
    }
    kwr_sim_plan_of(seed, &plan);
    plan.steps = steps;
    kwr_sim_run(&plan, c->subject, &options, &result);
    if (result.failed)
        printf("VIOLATION %s\n  %s\n  replay: %s --seed %llu --steps %u --log --faults %s\n",
               result.why, result.about, c->subject->name, (unsigned long long)seed, steps, faults);
    add_result(&result, t);
    kwr_sim_result_clear(&result);
    free(list);
    return true;
}

static void print_totals(const totals *t) {
    printf("sim: %llu seeds, %llu violations; %llu attempts, %llu looks at the disk, %llu steps; "
           "trace %016llx\nfaults:",
           (unsigned long long)t->seeds, (unsigned long long)t->violations,
           (unsigned long long)t->attempts, (unsigned long long)t->checks,
           (unsigned long long)t->steps, (unsigned long long)t->trace);
    for (unsigned f = 1; f < KWR_SIM_FAULTS; f++)
        printf(" %llu %s%s", (unsigned long long)t->struck[f], kwr_sim_fault_name((kwr_sim_fault)f),
               f + 1 < KWR_SIM_FAULTS ? "," : "\n");
}

/* "SEED what it found", or "SEED STEPS FAULTS what it found", FAULTS a list or "-" for none. */
static bool run_line(const command *c, const char *line, totals *t) {
    unsigned long long seed;
    unsigned steps;
    char faults[LINE];
    if (line[0] < '0' || line[0] > '9') return true;
    const int fields = sscanf(line, "%llu %u %4095s", &seed, &steps, faults);
    if (fields == 3) return run_list(c, seed, steps, faults, t);
    run_seed(c, seed, t);
    return fields == 1;
}

static bool run_file(const command *c, totals *t) {
    char line[LINE];
    bool good = true;
    FILE *file = fopen(c->seed_file, "r");
    if (file == NULL) {
        fprintf(stderr, "%s: cannot read %s\n", c->subject->name, c->seed_file);
        return false;
    }
    while (good && fgets(line, sizeof line, file) != NULL) {
        good = run_line(c, line, t);
        if (!good) fprintf(stderr, "%s: %s: %s", c->subject->name, c->seed_file, line);
    }
    fclose(file);
    return good;
}

static int run_many(const command *c) {
    totals t = { 0 };
    if (c->seed_file != NULL && !run_file(c, &t)) return 2;
    for (uint64_t i = c->job; i < c->seeds; i += c->jobs) {
        run_seed(c, c->first + i, &t);
        if (c->progress && t.seeds % 10000 == 0) {
            print_totals(&t);
            fflush(stdout);
        }
    }
    print_totals(&t);
    printf("%llu passed, %llu failed\n", (unsigned long long)(t.seeds - t.violations),
           (unsigned long long)t.violations);
    return t.violations > 0 || t.seeds == 0;
}

static bool number(const char *text, uint64_t *out) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool parse(command *c, int argc, char **argv) {
    static const struct option longs[] = { { "seeds", required_argument, NULL, 'n' },
                                           { "first", required_argument, NULL, 'f' },
                                           { "seed", required_argument, NULL, 's' },
                                           { "steps", required_argument, NULL, 't' },
                                           { "log", no_argument, NULL, 'l' },
                                           { "shrink", no_argument, NULL, 'k' },
                                           { "faults", required_argument, NULL, 'F' },
                                           { "seed-file", required_argument, NULL, 'S' },
                                           { "job", required_argument, NULL, 'j' },
                                           { "jobs", required_argument, NULL, 'J' },
                                           { "once", no_argument, NULL, 'o' },
                                           { "progress", no_argument, NULL, 'p' },
                                           { NULL, 0, NULL, 0 } };
    int option;
    bool good = true;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'n': good &= number(optarg, &c->seeds); break;
        case 'f': good &= number(optarg, &c->first); break;
        case 's':
            good &= number(optarg, &c->first);
            c->one = true;
            break;
        case 't': good &= number(optarg, &c->steps); break;
        case 'l': c->log = true; break;
        case 'k': c->shrink = true; break;
        case 'F': c->faults = optarg; break;
        case 'S': c->seed_file = optarg; break;
        case 'j': good &= number(optarg, &c->job); break;
        case 'J': good &= number(optarg, &c->jobs) && c->jobs > 0; break;
        case 'o': c->once = true; break;
        case 'p': c->progress = true; break;
        default: good = false; break;
        }
    }
    return good && optind == argc;
}

int kwr_sim_command(int argc, char **argv, const kwr_sim_subject *subject) {
    command c = { .subject = subject, .first = 1, .seeds = 1000, .jobs = 1 };
    if (!parse(&c, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--seeds N] [--first S] [--seed-file FILE] [--jobs J --job I] [--once] "
                "[--progress]\n       %s --seed S [--log] [--steps N] [--faults LIST] [--shrink]\n",
                subject->name, subject->name);
        return 2;
    }
    c.pool = kwr_sim_pool_new();
    const int code = c.one ? run_one(&c) : run_many(&c);
    kwr_sim_pool_free(c.pool);
    return code;
}
