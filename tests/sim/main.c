/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: runs seeds, says which violate what, replays one with its event log, and shrinks
 * the list of faults that a failing seed needs.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "tests/sim/world.h"

#if defined(__SANITIZE_ADDRESS__)
/* A killed process gives nothing back: what it had from the environment is the simulator's to free,
 * what it had from libc, such as the sink's buffers, is lost. Leaks are an oracle's business here.
 */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

typedef struct options {
    uint64_t first, seeds, jobs_of, job;
    bool one, log, shrink, twice;
    const char *faults; /* "ordinal:what,..." */
    const char *seed_file;
} options;

static void print_line(void *ctx, const char *line) {
    (void)ctx;
    puts(line);
}

static bool parse_number(const char *text, uint64_t *out) {
    return kwr_parse_u64(text, strlen(text), out);
}

static sim_strike *parse_faults(const char *text, size_t *count) {
    sim_strike *list = malloc((strlen(text) / 2 + 1) * sizeof *list);
    *count = 0;
    while (list != NULL && *text != '\0') {
        char *end;
        const uint64_t ordinal = strtoull(text, &end, 10);
        if (*end != ':') break;
        const unsigned long what = strtoul(end + 1, &end, 10);
        list[(*count)++] = (sim_strike){ ordinal, (uint32_t)what };
        text = *end == ',' ? end + 1 : end;
    }
    return list;
}

static void print_faults(const sim_strike *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        printf("%s%llu:%u", i == 0 ? "" : ",", (unsigned long long)list[i].ordinal, list[i].what);
    putchar('\n');
}

static void report(const sim_plan *plan, const sim_result *result) {
    char text[512];
    sim_plan_text(plan, text, sizeof text);
    printf("VIOLATION %s\n  %s\n  replay: ./dev sim --seed %llu --log\n", result->why, text,
           (unsigned long long)plan->seed);
}

/* Leaves out one fault after the other, and steps, as long as it still fails. */
static void shrink(sim_plan *plan, sim_result *failing) {
    sim_strike *list = failing->list;
    size_t count = failing->list_count;
    for (size_t i = 0; i < count;) {
        sim_result result;
        sim_strike *fewer = malloc((count + 1) * sizeof *fewer);
        if (fewer == NULL) return;
        memcpy(fewer, list, i * sizeof *fewer);
        memcpy(fewer + i, list + i + 1, (count - i - 1) * sizeof *fewer);
        sim_run(plan, fewer, count - 1, NULL, NULL, &result);
        free(result.list);
        if (result.failed) {
            free(list);
            list = fewer;
            count--;
        } else {
            free(fewer);
            i++;
        }
    }
    printf("%zu faults are needed; replay: ./dev sim --seed %llu --log --faults ", count,
           (unsigned long long)plan->seed);
    print_faults(list, count);
    failing->list = list;
}

static int run_one(const options *o) {
    sim_plan plan;
    sim_result result;
    size_t count = 0;
    sim_strike *list = o->faults == NULL ? NULL : parse_faults(o->faults, &count);
    sim_plan_of(o->first, &plan);
    sim_run(&plan, list, count, o->log ? print_line : NULL, NULL, &result);
    if (result.failed) report(&plan, &result);
    printf("seed %llu: %s, %llu steps, %llu attempts, %llu strikes, trace %016llx\n",
           (unsigned long long)plan.seed, result.failed ? "violated" : "good",
           (unsigned long long)result.steps, (unsigned long long)result.attempts,
           (unsigned long long)result.strikes, (unsigned long long)result.trace);
    if (result.failed && o->shrink) shrink(&plan, &result);
    free(result.list);
    free(list);
    return result.failed;
}

typedef struct totals {
    uint64_t seeds, violations, steps, attempts, kills, powers, zombies, published, commits,
        strikes, checks, trace;
} totals;

static void run_seed(uint64_t seed, const options *o, totals *t) {
    sim_plan plan;
    sim_result result;
    sim_plan_of(seed, &plan);
    sim_run(&plan, NULL, 0, NULL, NULL, &result);
    if (!result.failed && o->twice && seed % 64 == 0) {
        sim_result again;
        sim_run(&plan, NULL, 0, NULL, NULL, &again);
        if (again.trace != result.trace) {
            result.failed = true;
            snprintf(result.why, sizeof result.why, "determinism: traces %016llx and %016llx",
                     (unsigned long long)result.trace, (unsigned long long)again.trace);
        }
        free(again.list);
    }
    if (result.failed) {
        t->violations++;
        report(&plan, &result);
        fflush(stdout);
    }
    t->seeds++;
    t->steps += result.steps;
    t->attempts += result.attempts;
    t->kills += result.kills;
    t->powers += result.powers;
    t->zombies += result.zombies;
    t->published += result.published;
    t->commits += result.commits;
    t->strikes += result.strikes;
    t->checks += result.checks;
    t->trace = sim_mix(t->trace ^ result.trace);
    free(result.list);
}

static int run_many(const options *o) {
    totals t = { 0 };
    if (o->seed_file != NULL) {
        char line[256];
        FILE *file = fopen(o->seed_file, "r");
        if (file == NULL) {
            fprintf(stderr, "sim: cannot read %s\n", o->seed_file);
            return 2;
        }
        while (fgets(line, sizeof line, file) != NULL)
            if (line[0] >= '0' && line[0] <= '9') run_seed(strtoull(line, NULL, 10), o, &t);
        fclose(file);
    }
    for (uint64_t i = o->job; i < o->seeds; i += o->jobs_of)
        run_seed(o->first + i, o, &t);
    printf("sim: %llu seeds, %llu violations; %llu attempts, %llu kills, %llu power losses, %llu "
           "zombies, %llu faults, %llu checkpoints, %llu commits, %llu looks at the disk, %llu "
           "steps; trace %016llx\n",
           (unsigned long long)t.seeds, (unsigned long long)t.violations,
           (unsigned long long)t.attempts, (unsigned long long)t.kills,
           (unsigned long long)t.powers, (unsigned long long)t.zombies,
           (unsigned long long)t.strikes, (unsigned long long)t.published,
           (unsigned long long)t.commits, (unsigned long long)t.checks, (unsigned long long)t.steps,
           (unsigned long long)t.trace);
    printf("%llu passed, %llu failed\n", (unsigned long long)(t.seeds - t.violations),
           (unsigned long long)t.violations);
    return t.violations > 0 || t.seeds == 0;
}

int main(int argc, char **argv) {
    static const struct option longs[] = { { "seeds", required_argument, NULL, 'n' },
                                           { "first", required_argument, NULL, 'f' },
                                           { "seed", required_argument, NULL, 's' },
                                           { "log", no_argument, NULL, 'l' },
                                           { "shrink", no_argument, NULL, 'k' },
                                           { "faults", required_argument, NULL, 'F' },
                                           { "seed-file", required_argument, NULL, 'S' },
                                           { "job", required_argument, NULL, 'j' },
                                           { "jobs", required_argument, NULL, 'J' },
                                           { "once", no_argument, NULL, 'o' },
                                           { NULL, 0, NULL, 0 } };
    options o = { .first = 1, .seeds = 1000, .jobs_of = 1, .twice = true };
    int option;
    bool good = true;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'n': good &= parse_number(optarg, &o.seeds); break;
        case 'f': good &= parse_number(optarg, &o.first); break;
        case 's':
            good &= parse_number(optarg, &o.first);
            o.one = true;
            break;
        case 'l': o.log = true; break;
        case 'k': o.shrink = true; break;
        case 'F': o.faults = optarg; break;
        case 'S': o.seed_file = optarg; break;
        case 'j': good &= parse_number(optarg, &o.job); break;
        case 'J': good &= parse_number(optarg, &o.jobs_of) && o.jobs_of > 0; break;
        case 'o': o.twice = false; break;
        default: good = false; break;
        }
    }
    if (!good || optind != argc) {
        fputs("usage: sim [--seeds N] [--first S] [--seed-file FILE] [--jobs J --job I] [--once]\n"
              "       sim --seed S [--log] [--faults LIST] [--shrink]\n",
              stderr);
        return 2;
    }
    return o.one ? run_one(&o) : run_many(&o);
}
