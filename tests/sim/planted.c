/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The score of the simulator: the library with one planted mistake after the other, each run with
 * seed after seed until an oracle objects. A mistake nobody finds fails the run, and so does a rule
 * that fewer than two mistakes break. Each mistake has a process of its own: it may crash or hang,
 * which is finding it as well.
 */
#include "tests/sim/planted.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/planted.h"
#include "tests/sim/job.h"

enum { RULES = 10, WHY = 400, FAULTS = 1600, JOBS_MAX = 64, SEED_SECONDS = 20 };

typedef struct mistake {
    const char *name, *breaks, *what;
} mistake;

#define ROW(name, breaks, what) { #name, breaks, what },
static const mistake mistakes[] = { { "none", "", "" }, KWR_PLANTED_TABLE(ROW) };
#undef ROW
enum { COUNT = sizeof mistakes / sizeof mistakes[0] };

/* A run: a seed with faults as it draws them, or so many steps of it with a list of faults. */
typedef struct recipe {
    uint64_t seed; /* 0: none */
    unsigned steps;
    char faults[FAULTS]; /* "": as drawn; "-": none */
} recipe;

/* Shared with the process that runs it. */
typedef struct outcome {
    uint64_t seed; /* being run, or that found it */
    recipe found_by;
    bool found, done;
    char why[WHY];
} outcome;

typedef struct options {
    uint64_t seeds, jobs;
    const char *only, *recorded, *write;
    bool table;
} options;

/* ---- the switch: set once, before anything runs ---- */

static kwr_planted_mistake mistake_on = KWR_PLANTED_NONE;
static bool paused;

bool kwr_planted_is_on(kwr_planted_mistake which) { return which == mistake_on && !paused; }
void sim_mistakes_pause(bool on) { paused = on; }

/* ---- one mistake ---- */

static bool run(const recipe *r, kwr_sim_pool *pool, outcome *out, kwr_sim_plan *plan,
                kwr_sim_result *result) {
    static const kwr_sim_strike none;
    kwr_sim_run_options run_options = { .struct_size = sizeof run_options, .pool = pool };
    kwr_sim_strike *list = NULL;
    out->seed = r->seed;
    kwr_sim_plan_of(r->seed, plan);
    if (r->steps > 0) plan->steps = r->steps;
    if (strcmp(r->faults, "-") == 0)
        run_options.replay = &none;
    else if (r->faults[0] != '\0')
        run_options.replay = list = kwr_sim_strikes_parse(r->faults, &run_options.replay_count);
    /* Of the processor, not of the clock: the machine may be busy. */
    const struct itimerval limit = { .it_value = { .tv_sec = SEED_SECONDS } };
    (void)setitimer(ITIMER_VIRTUAL, &limit, NULL);
    kwr_sim_run(plan, &sim_subject, &run_options, result);
    free(list);
    out->found = result->failed;
    if (result->failed) snprintf(out->why, sizeof out->why, "%.*s", WHY - 1, result->why);
    return out->found;
}

static bool fails(const recipe *r, kwr_sim_pool *pool, outcome *out) {
    kwr_sim_plan plan;
    kwr_sim_result result;
    (void)run(r, pool, out, &plan, &result);
    kwr_sim_result_clear(&result);
    return out->found;
}

/* What fails without the mistake as well has found something else. */
static bool finds(unsigned which, const recipe *r, kwr_sim_pool *pool, outcome *out) {
    outcome without = { 0 };
    mistake_on = (kwr_planted_mistake)which;
    if (!fails(r, pool, out) || which == KWR_PLANTED_NONE) return out->found;
    mistake_on = KWR_PLANTED_NONE;
    out->found = !fails(r, pool, &without);
    if (out->found) out->found_by = *r;
    return out->found;
}

/* The steps and faults it needs, which replay as long as the schedule drawn from the seed stays:
 * nothing of plans is left in it. */
static void shrink(unsigned which, kwr_sim_pool *pool, outcome *out) {
    const recipe drawn = out->found_by;
    recipe small = { .seed = drawn.seed };
    outcome again = { 0 };
    kwr_sim_plan plan;
    kwr_sim_result result;
    const struct itimerval endless = { 0 };
    mistake_on = (kwr_planted_mistake)which;
    (void)run(&drawn, pool, &again, &plan, &result);
    (void)setitimer(ITIMER_VIRTUAL, &endless, NULL);
    kwr_sim_shrink(&plan, &sim_subject, &result);
    char *text = kwr_sim_strikes_text(result.strikes, result.strike_count);
    small.steps = plan.steps;
    const int size = snprintf(small.faults, sizeof small.faults, "%s", *text == '\0' ? "-" : text);
    free(text);
    kwr_sim_result_clear(&result);
    if (size < FAULTS && small.steps > 0 && finds(which, &small, pool, &again)) *out = again;
}

/* The nth of what a file says has found it. */
static bool recorded_for(const char *path, const char *name, unsigned nth, recipe *out) {
    char line[FAULTS + 256], found[128];
    bool result = false;
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    if (file == NULL) return false;
    while (!result && fgets(line, sizeof line, file) != NULL) {
        unsigned long long seed = 0;
        *out = (recipe){ 0 };
        if (sscanf(line, "%127s %llu %u %1599s", found, &seed, &out->steps, out->faults) < 2 ||
            strcmp(found, name) != 0)
            continue;
        out->seed = seed;
        result = nth-- == 0;
    }
    fclose(file);
    return result;
}

static bool search_recorded(unsigned which, const char *path, kwr_sim_pool *pool, outcome *out) {
    recipe r;
    for (unsigned i = 0; recorded_for(path, mistakes[which].name, i, &r); i++)
        if (finds(which, &r, pool, out)) return true;
    return false;
}

static void search(unsigned which, const options *o, outcome *out) {
    kwr_sim_pool *pool = kwr_sim_pool_new();
    recipe r = { .seed = 1 };
    if (!search_recorded(which, o->recorded, pool, out))
        while (r.seed <= o->seeds && !finds(which, &r, pool, out))
            r.seed++;
    if (o->write != NULL && out->found && out->found_by.steps == 0) shrink(which, pool, out);
    out->done = true;
    kwr_sim_pool_free(pool);
}

/* ---- all of them ---- */

static void start(const options *o, unsigned which, outcome *out, pid_t *pid) {
    fflush(stdout);
    *pid = fork();
    if (*pid < 0) {
        perror("fork");
        exit(2);
    }
    if (*pid > 0) return;
    const struct rlimit none = { 0, 0 };
    (void)setrlimit(RLIMIT_CORE, &none);
    search(which, o, out);
    _exit(0);
}

static void finish(unsigned which, int status, outcome *out) {
    const mistake *m = &mistakes[which];
    if (!out->done) {
        out->found = out->seed > 0;
        out->found_by.seed = out->seed; /* it died in its shrinking, or in the run itself */
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGVTALRM)
            snprintf(out->why, sizeof out->why, "the run does not end");
        else
            snprintf(out->why, sizeof out->why, "the process dies, status 0x%x", (unsigned)status);
    }
    if (out->found)
        printf("%s %s found by seed %llu: %s\n", m->name, m->breaks, (unsigned long long)out->seed,
               out->why);
    else
        printf("%s %s NOT FOUND: %s\n", m->name, m->breaks, m->what);
    fflush(stdout);
}

static void run_all(const options *o, outcome *outcomes) {
    pid_t pids[COUNT] = { 0 };
    unsigned next = 1, running = 0;
    while (next < COUNT || running > 0) {
        if (next < COUNT && running < o->jobs) {
            if (o->only == NULL || strcmp(o->only, mistakes[next].name) == 0) {
                start(o, next, &outcomes[next], &pids[next]);
                running++;
            }
            next++;
            continue;
        }
        int status = 0;
        const pid_t pid = wait(&status);
        if (pid < 0) break;
        for (unsigned i = 1; i < COUNT; i++)
            if (pids[i] == pid) finish(i, status, &outcomes[i]);
        running--;
    }
}

/* ---- what it says ---- */

/* Whether `rule`, such as "R1", is among the words of `breaks`. */
static bool names(const char *breaks, const char *rule) {
    const size_t size = strlen(rule);
    for (const char *at = breaks; (at = strstr(at, rule)) != NULL; at += size)
        if ((at == breaks || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0')) return true;
    return false;
}

static bool rules_covered(void) {
    bool covered = true;
    printf("mistakes for each rule:");
    for (unsigned rule = 1; rule <= RULES; rule++) {
        char name[8];
        unsigned count = 0;
        snprintf(name, sizeof name, "R%u", rule);
        for (unsigned i = 1; i < COUNT; i++)
            count += names(mistakes[i].breaks, name);
        printf(" %s %u%s", name, count, rule < RULES ? "," : "\n");
        covered = covered && count >= 2;
    }
    return covered;
}

static const char *oracle_of(const char *why) {
    static const char *const oracles[][2] = {
        { "truth of errors", "truth of errors" },
        { "not a consistent cut", "consistent cut" },
        { "exactly once", "exactly once" },
        { "durability", "durability" },
        { "liveness", "liveness" },
        { "alignment", "alignment" },
        { "page store", "page store" },
        { "pace", "pace" },
        { "garbage", "garbage" },
        { "is visible", "read committed" },
        { "fencing", "fencing" },
        { "the log cannot", "log is whole" },
        { "of the log", "checkpoints verify" },
        { "not final", "the end" },
        { "ends the attempt", "failures" },
        { "process dies", "crash" },
    };
    for (size_t i = 0; i < sizeof oracles / sizeof oracles[0]; i++)
        if (strstr(why, oracles[i][0]) != NULL) return oracles[i][1];
    return "another";
}

static void print_table(const outcome *outcomes) {
    puts("| mistake | breaks | what it does | seed | oracle |\n| --- | --- | --- | --- | --- |");
    for (unsigned i = 1; i < COUNT; i++)
        printf("| `%s` | %s | %s | %llu | %s |\n", mistakes[i].name, mistakes[i].breaks,
               mistakes[i].what, (unsigned long long)outcomes[i].seed, oracle_of(outcomes[i].why));
}

static bool write_seeds(const char *path, const outcome *outcomes) {
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        return false;
    }
    fprintf(file,
            "# Planted mistakes and what found them: a seed, and the steps and faults it needs,\n"
            "# \"-\" for none. Made by ./dev planted --write FILE\n");
    for (unsigned i = 1; i < COUNT; i++) {
        const recipe *r = &outcomes[i].found_by;
        if (!outcomes[i].found) continue;
        fprintf(file, "%s %llu", mistakes[i].name, (unsigned long long)r->seed);
        if (r->steps > 0) fprintf(file, " %u %s", r->steps, r->faults);
        fputc('\n', file);
    }
    return fclose(file) == 0;
}

static bool parse(options *o, int argc, char **argv) {
    static const struct option longs[] = { { "seeds", required_argument, NULL, 'n' },
                                           { "jobs", required_argument, NULL, 'j' },
                                           { "only", required_argument, NULL, 'o' },
                                           { "recorded", required_argument, NULL, 'r' },
                                           { "write", required_argument, NULL, 'w' },
                                           { "table", no_argument, NULL, 't' },
                                           { NULL, 0, NULL, 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'n': o->seeds = strtoull(optarg, NULL, 10); break;
        case 'j': o->jobs = strtoull(optarg, NULL, 10); break;
        case 'o': o->only = optarg; break;
        case 'r': o->recorded = optarg; break;
        case 'w': o->write = optarg; break;
        case 't': o->table = true; break;
        default: return false;
        }
    }
    return optind == argc && o->jobs > 0 && o->jobs <= JOBS_MAX;
}

int main(int argc, char **argv) {
    options o = { .seeds = 5000, .jobs = 1 };
    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--seeds N] [--jobs J] [--only NAME] [--recorded FILE] [--write FILE] "
                "[--table]\n",
                argv[0]);
        return 2;
    }
    outcome *outcomes = mmap(NULL, COUNT * sizeof *outcomes, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcomes == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    /* A simulator that objects to everything would score full marks. */
    outcome good = { 0 };
    const options few = { .seeds = 50 };
    search(KWR_PLANTED_NONE, &few, &good);
    if (good.found) {
        printf("without a mistake seed %llu fails: %s\n", (unsigned long long)good.seed, good.why);
        return 1;
    }
    run_all(&o, outcomes);
    unsigned found = 0, tried = 0;
    for (unsigned i = 1; i < COUNT; i++) {
        tried += outcomes[i].seed > 0;
        found += outcomes[i].found;
    }
    if (o.table) print_table(outcomes);
    if (o.write != NULL && !write_seeds(o.write, outcomes)) return 2;
    const bool covered = rules_covered();
    printf("planted mistakes: %u of %u found\n", found, tried);
    return found == tried && tried > 0 && covered ? 0 : 1;
}
