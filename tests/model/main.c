/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol [--faults N] [--records N] [--triggers N] [--switches N] [--no-zombies] [--states N]
 * [--mutation N]: explores the commit protocol within a bound and prints what it saw.
 * protocol --mutations: shows that each of the model's own mistakes is found.
 */
#include <time.h>

#include "tests/model/explore.h"
#include "tests/model/must.h"

static const char *const mutation_names[MUTATIONS] = {
    [MUTATE_NOTHING] = "nothing",
    [MUTATE_DIRECTORY_SYNC] = "a directory sync does nothing",
    [MUTATE_FILE_SYNC] = "a file sync does nothing",
    [MUTATE_LINK_REPLACES] = "a taken slot is replaced",
    [MUTATE_EARLY_COMMIT] = "output is committed before the checkpoint is completed",
    [MUTATE_COMMIT_TWICE] = "committing again writes again",
    [MUTATE_RESTORE_FORGETS] = "restored committables are dropped",
    [MUTATE_EARLY_POSITION] = "a position is stored after the next record",
    [MUTATE_LATE_BARRIER] = "a barrier goes behind the next record",
    [MUTATE_EARLY_COMPLETE] = "completion is told when publishing begins",
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool explore(const model_bound *bound, bool verbose) {
    const double start = seconds();
    const model_outcome out = model_explore(bound, verbose);
    printf("%u attempts, %u faults: states %u, transitions %llu, depth %u, violations %u",
           bound->attempts, bound->faults, out.states, (unsigned long long)out.transitions,
           out.depth, out.violations);
    printf(" (%u ways of a part, %.1f s%s)\n", out.nodes, seconds() - start,
           out.complete ? "" : ", not all states");
    if (out.violations > 0) printf("  %s\n", out.why);
    fflush(stdout);
    return out.violations == 0 && out.complete && out.goals > 0;
}

/* Each must be found. */
static unsigned try_mutations(model_bound bound) {
    unsigned missed = 0;
    for (bound.mutation = 1; bound.mutation < MUTATIONS; bound.mutation++) {
        const model_outcome out = model_explore(&bound, false);
        printf("  %-55s %s after %u states: %s\n", mutation_names[bound.mutation],
               out.violations > 0 ? "found" : "NOT FOUND", out.states, out.why);
        missed += out.violations == 0;
    }
    return missed;
}

int main(int argc, char **argv) {
    model_bound bound = {
        .faults = 1, .records = 1, .triggers = 1, .switches = 1, .states_max = UINT32_MAX / 2
    };
    bool mutations = false;
    for (int i = 1; i < argc; i++) {
        const unsigned value = i + 1 < argc ? (unsigned)strtoul(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--mutations") == 0) {
            mutations = true;
            continue;
        }
        if (strcmp(argv[i], "--no-zombies") == 0) {
            bound.no_zombies = true;
            continue;
        }
        if (strcmp(argv[i], "--faults") == 0)
            bound.faults = value;
        else if (strcmp(argv[i], "--records") == 0)
            bound.records = value;
        else if (strcmp(argv[i], "--triggers") == 0)
            bound.triggers = value;
        else if (strcmp(argv[i], "--switches") == 0)
            bound.switches = value;
        else if (strcmp(argv[i], "--states") == 0)
            bound.states_max = value;
        else if (strcmp(argv[i], "--mutation") == 0)
            bound.mutation = value;
        else {
            fprintf(stderr, "protocol: %s is not an option\n", argv[i]);
            return 2;
        }
        i++;
    }
    bound.attempts = bound.faults + 1;
    if (bound.attempts > MODEL_ATTEMPTS_MAX || bound.records > MODEL_RECORDS_MAX ||
        bound.mutation >= MUTATIONS) {
        fputs("protocol: at most 2 faults and 4 records\n", stderr);
        return 2;
    }
    if (!mutations) {
        const bool good = explore(&bound, true);
        printf("%d passed, %d failed\n", good, !good);
        return good ? 0 : 1;
    }
    const unsigned missed = try_mutations(bound);
    printf("Synthesis: Tested: %d | Passing: %d | Failing: %u | Crashing: 0\n", MUTATIONS - 1,
           MUTATIONS - 1 - (int)missed, missed);
    return missed == 0 ? 0 : 1;
}
