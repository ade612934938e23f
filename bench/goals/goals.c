/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line for each goal: its limit that is nearest to its bound. --verbose: all limits and what
 * they are made of.
 *
 *     goals [--quick] [--json] [--verbose] [--only P1,P4] [--percent N] [--dir DIR] [--seed N]
 */
#include "bench/goals/goals.h"

#include <ftw.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>

uint64_t goals_size(const goals *g, uint64_t quick, uint64_t full) {
    if (!g->quick) return full;
    const uint64_t size = quick * g->percent / 100;
    return size < 1000 ? 1000 : size;
}

/* ---- verdicts ---- */

bool goals_wanted(const goals *g, const char *id) {
    if (g->only == NULL) return true;
    const size_t size = strlen(id);
    for (const char *at = strstr(g->only, id); at != NULL; at = strstr(at + 1, id)) {
        const bool begins = at == g->only || at[-1] == ',';
        if (begins && (at[size] == '\0' || at[size] == ',')) return true;
    }
    return false;
}

static struct goal_sum *sum_of(goals *g, const char *id) {
    const unsigned long number = strtoul(id + 1, NULL, 10);
    return &g->sums[number < GOALS_MAX ? number : 0];
}

void goals_judge(goals *g, const char *id, double ratio, goal_kind kind, double goal,
                 const char *format, ...) {
    if (!goals_wanted(g, id)) return;
    const bool holds = kind == GOAL_AT_MOST ? ratio <= goal : ratio >= goal;
    g->judged++;
    g->held += holds;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char line[320];
    snprintf(line, sizeof line, "%-3s ratio=%.3g goal%s%g %s   (%s)", id, ratio,
             kind == GOAL_AT_MOST ? "<=" : ">=", goal, holds ? "holds" : "short", text);
    if (g->verbose) bench_say(&g->b, "%s\n", line);
    struct goal_sum *sum = sum_of(g, id);
    const double slack = kind == GOAL_AT_MOST ? ratio / goal : goal / (ratio > 0 ? ratio : 1e-9);
    if (sum->limits++ == 0 || slack > sum->slack) {
        sum->slack = slack;
        sum->holds = holds;
        snprintf(sum->text, sizeof sum->text, "%s", line);
    }
    sum->held += holds;
    bench_json(&g->b, id, "\"ratio\":%.4f,\"goal\":%g,\"at_most\":%s,\"holds\":%s,\"text\":\"%s\"",
               ratio, goal, kind == GOAL_AT_MOST ? "true" : "false", holds ? "true" : "false",
               text);
}

void goals_not_yet(goals *g, const char *id, const char *format, ...) {
    if (!goals_wanted(g, id)) return;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (g->verbose) bench_say(&g->b, "%-3s not yet   (%s)\n", id, text);
    struct goal_sum *sum = sum_of(g, id);
    if (sum->limits + sum->missing++ == 0)
        snprintf(sum->text, sizeof sum->text, "%-3s not yet   (%s)", id, text);
    bench_json(&g->b, id, "\"not_yet\":true,\"text\":\"%s\"", text);
}

/* The line of a goal, when all of its limits have been looked at. */
static void conclude(const goals *g, const char *id) {
    const struct goal_sum *sum = sum_of((goals *)g, id);
    if (!goals_wanted(g, id) || sum->limits + sum->missing == 0) return;
    bench_say(&g->b, "%s", sum->text);
    if (sum->limits > 1) bench_say(&g->b, " %u of %u limits hold", sum->held, sum->limits);
    if (sum->limits > 0 && sum->missing > 0) bench_say(&g->b, " %u not measured", sum->missing);
    bench_say(&g->b, "\n");
}

/* Lines come as soon as they are known. */
static void run(goals *g, void (*measure)(goals *g), const char *first, const char *second,
                const char *third) {
    measure(g);
    const char *const ids[] = { first, second, third };
    for (size_t i = 0; i < 3 && !g->verbose; i++)
        if (ids[i] != NULL) conclude(g, ids[i]);
}

void goals_detail(const goals *g, const char *format, ...) {
    if (!g->verbose || g->b.json) return;
    va_list args;
    va_start(args, format);
    printf("    ");
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
}

/* ---- a task ---- */

void goals_must(goals_task *t, kwr_status status, const char *what) {
    bench_must(status, t->backend == NULL ? NULL : kwr_backend_error(t->backend), what);
}

void goals_open_threads(goals_task *t, const char *engine, const char *directory, size_t key_size,
                        size_t value_size, uint32_t threads) {
    kwr_error err;
    *t = (goals_task){ .key_size = key_size, .value_size = value_size };
    const kwr_posix_options posix = { .struct_size = sizeof posix, .compute_threads = threads };
    bench_must(kwr_env_posix_open(&posix, &t->env, &err), &err, "environment");
    const kwr_resources_options pool = { .struct_size = sizeof pool,
                                         .recycle_bytes = UINT64_MAX / 2,
                                         .rocksdb_memory_bytes = GOALS_ROCKSDB_BYTES };
    bench_must(kwr_resources_open(t->env, &pool, &t->resources, &err), &err, "resources");
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = t->env,
                                          .resources = t->resources,
                                          .engine = engine,
                                          .directory = directory,
                                          .seed = 1 };
    bench_must(kwr_backend_open(&options, &t->backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t->backend, &value, &t->value, &err), &err, "state");
}

void goals_open(goals_task *t, const char *engine, const char *directory, size_t key_size,
                size_t value_size) {
    goals_open_threads(t, engine, directory, key_size, value_size, 0);
}

void goals_fill(goals_task *t, uint64_t entries) {
    uint8_t key[GOALS_KEY_MAX], bytes[GOALS_VALUE_MAX];
    for (; t->entries < entries; t->entries++) {
        goals_key(key, t->key_size, t->entries);
        goals_value(bytes, t->value_size, t->entries);
        goals_must(t, kwr_backend_set_key(t->backend, (kwr_slice){ key, t->key_size }), "key");
        goals_must(t, kwr_value_put(t->value, (kwr_slice){ bytes, t->value_size }), "put");
    }
}

void goals_settle(goals_task *t) {
    while (kwr_backend_maintain(t->backend, 10000000))
        continue;
}

void goals_close(goals_task *t) {
    kwr_backend_close(t->backend);
    kwr_resources_close(t->resources);
    kwr_env_posix_close(t->env);
}

void goals_touch_memory(uint64_t size) {
    const uint64_t spare = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (size > spare / 2) size = spare / 2;
    if (size == 0) return;
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) return;
    (void)madvise(bytes, size, MADV_HUGEPAGE);
    for (uint64_t at = 0; at < size; at += 4096)
        ((volatile uint8_t *)bytes)[at] = 1;
    (void)munmap(bytes, size);
}

/* ---- keys ---- */

void goals_key(uint8_t *out, size_t size, uint64_t number) {
    uint64_t word = bench_mix(number + 1);
    for (size_t at = 0; at < size; at += 8) {
        memcpy(out + at, &word, size - at < 8 ? size - at : 8);
        word = number;
    }
}

void goals_value(uint8_t *out, size_t size, uint64_t number) {
    bench_rng rng = { number };
    memset(out, 'v', size);
    for (size_t at = 0; at + 8 <= (size + 15) / 2; at += 8) {
        const uint64_t noise = bench_random(&rng);
        memcpy(out + at, &noise, sizeof noise);
    }
}

/* Gray and others, Quickly generating billion-record synthetic databases. */
typedef struct zipf {
    double n, theta, alpha, zeta, eta;
} zipf;

static void zipf_open(zipf *z, uint64_t n) {
    *z = (zipf){ .n = (double)n, .theta = 0.99 };
    for (uint64_t i = 1; i <= n; i++)
        z->zeta += pow((double)i, -z->theta);
    z->alpha = 1 / (1 - z->theta);
    z->eta = (1 - pow(2 / z->n, 1 - z->theta)) / (1 - (1 + pow(0.5, z->theta)) / z->zeta);
}
static uint64_t zipf_draw(const zipf *z, bench_rng *rng) {
    const double u = (double)(bench_random(rng) >> 11) / (double)(1ULL << 53);
    if (u * z->zeta < 1) return 0;
    if (u * z->zeta < 1 + pow(0.5, z->theta)) return 1;
    const double rank = z->n * pow(z->eta * u - z->eta + 1, z->alpha);
    return rank >= z->n ? (uint64_t)z->n - 1 : (uint64_t)rank;
}

uint8_t *goals_stream(size_t key_size, uint64_t entries, size_t count, bool zipfian,
                      uint64_t seed) {
    uint8_t *keys = malloc(count * key_size);
    if (keys == NULL) exit(1);
    bench_rng rng = { seed };
    zipf z;
    if (zipfian) zipf_open(&z, entries);
    for (size_t i = 0; i < count; i++)
        goals_key(keys + i * key_size, key_size,
                  zipfian ? bench_mix(zipf_draw(&z, &rng)) % entries : bench_below(&rng, entries));
    return keys;
}

/* ---- places ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

const char *goals_dir(const goals *g, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/goals-%s", g->dir, name);
    for (size_t i = 1; path[i] != '\0'; i++) {
        if (path[i] != '/') continue;
        path[i] = '\0';
        (void)mkdir(path, 0777);
        path[i] = '/';
    }
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return path;
}

/* ---- all of it ---- */

static void usage(void) {
    fprintf(stderr,
            "goals [--quick] [--json] [--verbose] [--only P1,P4] [--percent N] [--dir DIR]\n"
            "      [--seed N]\n"
            "  --quick     small sizes, within a minute\n"
            "  --percent   of the quick sizes, to try the harness itself\n"
            "  --dir       where databases and snapshots are written (default build/bench-data)\n");
    exit(2);
}

/* Huge pages for what malloc() gives too, that is for the tables we are compared with. The library
 * reads this only when a program starts. */
static void use_huge_pages(char **argv) {
    if (getenv("GLIBC_TUNABLES") != NULL) return;
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
    (void)execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
    use_huge_pages(argv);
    goals g = { .dir = "build/bench-data", .percent = 100 };
    bool json = false;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0)
            g.quick = true;
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            g.verbose = true;
        else if (value == NULL)
            usage();
        else if (strcmp(argv[i], "--only") == 0)
            g.only = argv[++i];
        else if (strcmp(argv[i], "--percent") == 0)
            g.percent = (unsigned)strtoul(argv[++i], NULL, 10), g.quick = true;
        else if (strcmp(argv[i], "--dir") == 0)
            g.dir = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 10);
        else
            usage();
    }
    if (g.percent == 0 || g.percent > 100) usage();
    bench_start(&g.b, "goals", json, seed);
    if (g.quick)
        bench_say(&g.b, "quick: small sizes, so that caches and first touches weigh more\n");
    run(&g, goals_values, "P1", "P2", "P3");
    run(&g, goals_freezes, "P4", NULL, NULL);
    run(&g, goals_snapshots, "P5", "P7", NULL);
    run(&g, goals_increments, "P6", NULL, NULL);
    run(&g, goals_lazy, "P8", NULL, NULL);
    run(&g, goals_rescale, "P9", NULL, NULL);
    run(&g, goals_memory, "P10", NULL, NULL);
    run(&g, goals_engine, "P11", NULL, NULL);
    run(&g, goals_workloads, "P13", NULL, NULL);
    if (g.verbose) {
        bench_say(&g.b, "\n");
        for (unsigned number = 1; number < GOALS_MAX; number++) {
            char id[8];
            snprintf(id, sizeof id, "P%u", number);
            conclude(&g, id);
        }
    }
    unsigned hold = 0, all = 0;
    for (unsigned number = 1; number < GOALS_MAX; number++) {
        const struct goal_sum *sum = &g.sums[number];
        all += sum->limits + sum->missing > 0;
        hold += sum->limits > 0 && sum->missing == 0 && sum->held == sum->limits;
    }
    bench_say(&g.b, "%u of %u goals hold, %u of %u limits\n", hold, all, g.held, g.judged);
    return 0;
}
