/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs random programs, each in a process that may fail or crash, shrinks those that do, and says
 * how to run them again.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/name.h"
#include "tests/programs/program.h"

enum { CHUNK = 100, JOBS_MAX = 64, FAILURES_MAX = 20, TRIES_MAX = 600 };

typedef struct arguments {
    uint64_t first, programs, jobs, seed, operations, checkpoints;
    bool one, log, no_shrink, matrix;
    uint64_t snapshots, step;
    const char *list; /* the operations to do */
    const engine_row *engine;
} arguments;

static kwr_env *open_env(void) {
    kwr_env *env = NULL;
    kwr_error err = { 0 };
    const kwr_posix_options options = { .struct_size = sizeof options,
                                        .compute_threads = 2,
                                        .blocking_threads = 2 };
    if (kwr_env_posix_open(&options, &env, &err) != KWR_OK) {
        fprintf(stderr, "model: %s\n", err.text);
        exit(2);
    }
    return env;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}
/* What a process left on disk, also one that crashed. */
static void remove_directory(pid_t process) {
    char path[DIRECTORY_MAX];
    program_directory((long)process, path, sizeof path);
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Runs `body` in a process of its own; true when it ended well. */
static bool in_process(void (*body)(void *ctx), void *ctx, bool quiet) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (quiet && (freopen("/dev/null", "w", stdout) == NULL ||
                      freopen("/dev/null", "w", stderr) == NULL))
            _exit(3);
        body(ctx);
        exit(0);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (child > 0) remove_directory(child);
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- one program ---- */

static void run_alone(void *ctx) {
    kwr_env *env = open_env();
    program_run(env, (const program_options *)ctx);
    kwr_env_posix_close(env);
}

/* Leaves out ever smaller runs of operations as long as it still fails. */
static void shrink(const program_options *failing, bool *skip) {
    program_options options = *failing;
    options.skip = skip;
    unsigned tries = 0;
    for (unsigned width = options.operations / 2; width > 0; width /= 2) {
        for (unsigned from = 0; from < options.operations && tries < TRIES_MAX; from += width) {
            bool before[OPERATIONS * 10];
            memcpy(before, skip, options.operations * sizeof *skip);
            bool any = false;
            for (unsigned i = from; i < from + width && i < options.operations; i++) {
                any |= !skip[i];
                skip[i] = true;
            }
            if (!any) continue;
            tries++;
            if (in_process(run_alone, &options, true))
                memcpy(skip, before, options.operations * sizeof *skip);
        }
    }
}

static void print_replay(const program_options *options, const engine_row *engine,
                         const bool *skip) {
    printf("  replay: ./dev model --seed %llu", (unsigned long long)options->seed);
    if (options->operations != OPERATIONS) printf(" --operations %u", options->operations);
    if (options->checkpoints != CHECKPOINTS) printf(" --checkpoints %u", options->checkpoints);
    if (engine != NULL) printf(" --engine %s", engine->name);
    if (skip != NULL) {
        const char *separator = " --only ";
        for (unsigned i = 0; i < options->operations; i++) {
            if (skip[i]) continue;
            printf("%s%u", separator, i);
            separator = ",";
        }
    }
    puts(" --log");
}

static void report(const arguments *a, uint64_t seed) {
    const program_options options = { .seed = seed,
                                      .engine = a->engine,
                                      .operations = (unsigned)a->operations,
                                      .checkpoints = (unsigned)a->checkpoints };
    printf("FAILED: seed %llu\n", (unsigned long long)seed);
    print_replay(&options, a->engine, NULL);
    if (a->no_shrink) return;
    bool skip[OPERATIONS * 10] = { false };
    shrink(&options, skip);
    puts("  shrunk:");
    print_replay(&options, a->engine, skip);
    program_options shrunk = options;
    shrunk.skip = skip;
    shrunk.log = true;
    (void)in_process(run_alone, &shrunk, false);
}

static int run_one(const arguments *a) {
    bool skip[OPERATIONS * 10];
    program_options options = { .seed = a->seed,
                                .engine = a->engine,
                                .operations = (unsigned)a->operations,
                                .checkpoints = (unsigned)a->checkpoints,
                                .log = a->log };
    if (a->list != NULL) {
        for (size_t i = 0; i < OPERATIONS * 10; i++)
            skip[i] = true;
        for (const char *at = a->list; *at != '\0';) {
            char *end;
            const unsigned long number = strtoul(at, &end, 10);
            if (end == at) break;
            if (number < OPERATIONS * 10) skip[number] = false;
            at = *end == ',' ? end + 1 : end;
        }
        options.skip = skip;
    }
    const bool good = in_process(run_alone, &options, false);
    printf("seed %llu: %s\n", (unsigned long long)a->seed, good ? "good" : "failed");
    return !good;
}

/* ---- many ---- */

/* What the processes of one run share. */
typedef struct worker {
    uint64_t next; /* the seed it is at, then the one after the last */
    uint64_t passed, failed;
} worker;

typedef struct chunk {
    const arguments *arguments;
    worker *worker;
    uint64_t end;
} chunk;

static void run_chunk(void *ctx) {
    const chunk *c = (const chunk *)ctx;
    kwr_env *env = open_env();
    while (c->worker->next < c->end) {
        const program_options options = { .seed = c->worker->next,
                                          .engine = c->arguments->engine,
                                          .operations = (unsigned)c->arguments->operations,
                                          .checkpoints = (unsigned)c->arguments->checkpoints };
        program_run(env, &options);
        c->worker->next += c->arguments->jobs;
    }
    kwr_env_posix_close(env);
}

/* Every jobs-th seed, in processes of CHUNK programs each. */
static void work(const arguments *a, worker *w) {
    const uint64_t last = a->first + a->programs;
    while (w->next < last && w->failed < FAILURES_MAX) {
        const uint64_t from = w->next;
        chunk c = { .arguments = a, .worker = w, .end = from + CHUNK * a->jobs };
        if (c.end > last) c.end = last;
        const bool good = in_process(run_chunk, &c, false);
        w->passed += (w->next - from) / a->jobs;
        if (good) continue;
        w->failed++;
        if (w->next < c.end) {
            report(a, w->next);
            w->next += a->jobs;
        } else {
            puts("FAILED: at the end of a process of many programs; was memory lost?");
        }
    }
}

static int run_many(const arguments *a) {
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    worker *workers = (worker *)mmap(NULL, JOBS_MAX * sizeof *workers, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED) return 2;
    fflush(stdout);
    for (uint64_t job = 0; job < a->jobs; job++) {
        workers[job].next = a->first + job;
        if (fork() != 0) continue;
        work(a, &workers[job]);
        exit(0);
    }
    uint64_t passed = 0, failed = 0;
    for (int status; wait(&status) > 0 || errno == EINTR;)
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    for (uint64_t job = 0; job < a->jobs; job++) {
        passed += workers[job].passed;
        failed += workers[job].failed;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%llu programs of %llu operations from seed %llu in %.1f s\n",
           (unsigned long long)(passed + failed), (unsigned long long)a->operations,
           (unsigned long long)a->first, seconds);
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed > 0 || passed == 0;
}

/* ---- the matrix ---- */

static void run_matrix(void *ctx) {
    const arguments *a = (const arguments *)ctx;
    kwr_env *env = open_env();
    matrix_run(env, (uint32_t)a->snapshots, (uint32_t)a->step);
    kwr_env_posix_close(env);
}

/* ---- arguments ---- */

static bool number(const char *text, uint64_t *out) {
    return kwr_parse_u64(text, strlen(text), out);
}

static bool parse(int argc, char **argv, arguments *a) {
    static const struct option known[] = {
        { "programs", required_argument, NULL, 'p' },
        { "first", required_argument, NULL, 'f' },
        { "jobs", required_argument, NULL, 'J' },
        { "seed", required_argument, NULL, 's' },
        { "operations", required_argument, NULL, 'n' },
        { "checkpoints", required_argument, NULL, 'k' },
        { "only", required_argument, NULL, 'o' },
        { "engine", required_argument, NULL, 'e' },
        { "log", no_argument, NULL, 'l' },
        { "no-shrink", no_argument, NULL, 'S' },
        { "matrix", no_argument, NULL, 'm' },
        { "snapshots", required_argument, NULL, 'c' },
        { "step", required_argument, NULL, 'w' },
        { NULL, 0, NULL, 0 },
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        bool good = true;
        switch (c) {
        case 'p': good = number(optarg, &a->programs); break;
        case 'f': good = number(optarg, &a->first); break;
        case 'J': good = number(optarg, &a->jobs) && a->jobs > 0 && a->jobs <= JOBS_MAX; break;
        case 's': good = a->one = number(optarg, &a->seed); break;
        case 'n':
            good = number(optarg, &a->operations) && a->operations > 0 &&
                   a->operations <= OPERATIONS * 10;
            break;
        case 'k': good = number(optarg, &a->checkpoints) && a->checkpoints <= 1000; break;
        case 'o': a->list = optarg; break;
        case 'e': good = (a->engine = engine_find(optarg)) != NULL; break;
        case 'l': a->log = true; break;
        case 'm': a->matrix = true; break;
        case 'c': good = number(optarg, &a->snapshots) && a->snapshots <= 1000; break;
        case 'w': good = number(optarg, &a->step) && a->step > 0 && a->step <= SUBTASKS_MAX; break;
        case 'S': a->no_shrink = true; break;
        default: return false;
        }
        if (!good) {
            fprintf(stderr, "model: --%s cannot be '%s'\n", c == 'e' ? "engine" : "number", optarg);
            return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv) {
    arguments a = { .first = 1,
                    .programs = 200,
                    .jobs = 1,
                    .operations = OPERATIONS,
                    .checkpoints = CHECKPOINTS,
                    .snapshots = 20,
                    .step = 1 };
    if (!parse(argc, argv, &a)) {
        fputs("usage: model [--programs N] [--first SEED] [--engine NAME] [--operations N]\n"
              "       model --checkpoints N  of 1000 operations\n"
              "       model --matrix [--snapshots N] [--step N]\n"
              "       model --seed SEED [--only I,J,...] [--log]\n",
              stderr);
        return 2;
    }
    if (a.matrix) {
        const bool good = in_process(run_matrix, &a, false);
        printf("%d passed, %d failed\n", good, !good);
        return !good;
    }
    return a.one ? run_one(&a) : run_many(&a);
}
