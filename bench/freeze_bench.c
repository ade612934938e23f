/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint costs the task it is taken of: the freeze itself, the slowest operations in the
 * second after it, when pages are copied because the view needs the old ones, and the rate that is
 * left while a snapshot is compressed and written, with a histogram of the owner's operations.
 *
 * Entries have keys of 16 bytes and values of 100. The operation is a read-modify-write of a random
 * entry, a quarter of its value changed, keys read in order from an array made before.
 */
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

#include "bench/bench.h"

static const char job_name[] = "keyweir-freeze-bench";

enum { KEY = 16, VALUE = 100, STREAM = 1 << 20 };

typedef struct settings {
    const char *dir;
    uint64_t small, large;
    uint64_t freezes;
    double seconds;
    unsigned rounds;
} settings;

typedef struct task {
    const bench *b;
    const settings *set;
    kwr_env *env;
    kwr_resources *resources;
    kwr_backend *backend;
    kwr_value *value;
    uint64_t entries;
    uint8_t *stream; /* keys of operations, STREAM of them */
    size_t next;
} task;

static void make_key(uint8_t out[KEY], uint64_t seed, uint64_t number) {
    const uint64_t halves[2] = { bench_mix(number ^ bench_mix(seed)), number };
    memcpy(out, halves, sizeof halves);
}

/* Half of it compresses, as in the usual benchmarks. */
static void make_value(uint8_t out[VALUE], bench_rng *rng) {
    memset(out, 'v', VALUE);
    for (size_t i = 0; i + 8 <= VALUE / 2; i += 8) {
        const uint64_t noise = bench_random(rng);
        memcpy(out + i, &noise, sizeof noise);
    }
}

/* ---- one task ---- */

static void open_task(task *t, const bench *b, const settings *set, uint64_t entries) {
    kwr_error err;
    *t = (task){ .b = b, .set = set, .entries = entries };
    bench_must(kwr_env_posix_open(NULL, &t->env, &err), &err, "environment");
    const kwr_resources_options pool = { .struct_size = sizeof pool,
                                         .recycle_bytes = UINT64_MAX / 2 };
    bench_must(kwr_resources_open(t->env, &pool, &t->resources, &err), &err, "resources");
    const kwr_backend_options options = {
        .struct_size = sizeof options, .env = t->env, .resources = t->resources, .seed = b->seed
    };
    bench_must(kwr_backend_open(&options, &t->backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t->backend, &value, &t->value, &err), &err, "state");

    bench_rng rng = { b->seed };
    uint8_t key[KEY], bytes[VALUE];
    for (uint64_t i = 0; i < entries; i++) {
        make_key(key, b->seed, i);
        make_value(bytes, &rng);
        bench_must(kwr_backend_set_key(t->backend, (kwr_slice){ key, KEY }),
                   kwr_backend_error(t->backend), "key");
        bench_must(kwr_value_put(t->value, (kwr_slice){ bytes, VALUE }),
                   kwr_backend_error(t->backend), "put");
    }
    t->stream = (uint8_t *)malloc((size_t)STREAM * KEY);
    if (t->stream == NULL) exit(1);
    for (size_t i = 0; i < STREAM; i++)
        make_key(t->stream + i * KEY, b->seed, bench_below(&rng, entries));
}

static void close_task(task *t) {
    free(t->stream);
    kwr_backend_close(t->backend);
    kwr_resources_close(t->resources);
    kwr_env_posix_close(t->env);
}

static inline void operation(task *t) {
    const uint8_t *key = t->stream + t->next * KEY;
    t->next = (t->next + 1) % STREAM;
    void *bytes = NULL;
    kwr_status status = kwr_backend_set_key(t->backend, (kwr_slice){ key, KEY });
    if (status >= KWR_OK) status = kwr_value_modify(t->value, KWR_KEEP_SIZE, &bytes, NULL);
    bench_must(status, kwr_backend_error(t->backend), "modify");
    uint64_t count;
    memcpy(&count, bytes, sizeof count);
    count++;
    memcpy(bytes, &count, sizeof count);
    memcpy((uint8_t *)bytes + 8, key, KEY);
}

/* Operations for some time, each timed by `clock`; operations in a second. */
static double run_timed(task *t, clockid_t clock, bench_times *times) {
    const uint64_t start = bench_now_ns();
    const uint64_t length = (uint64_t)(t->set->seconds * 1e9);
    uint64_t before = bench_clock_ns(clock), done = 0, now;
    do {
        operation(t);
        const uint64_t after = bench_clock_ns(clock);
        bench_add(times, after - before);
        before = after;
        now = clock == CLOCK_MONOTONIC ? after : bench_now_ns();
        done++;
    } while (now - start < length);
    return (double)done * 1e9 / (double)(now - start);
}

/* ---- the freeze ---- */

static void settle(task *t) {
    while (kwr_backend_maintain(t->backend, 10000000))
        continue;
}

static void bench_freezes(task *t) {
    bench_times times = { 0 };
    for (uint64_t i = 0; i < t->set->freezes; i++) {
        for (unsigned n = 0; n < 200; n++)
            operation(t);
        kwr_view *view;
        const uint64_t start = bench_now_ns();
        bench_must(kwr_backend_freeze(t->backend, &view), kwr_backend_error(t->backend), "freeze");
        bench_add(&times, bench_now_ns() - start);
        for (unsigned n = 0; n < 200; n++)
            operation(t);
        kwr_view_release(view);
        if (i % 16 == 0) settle(t);
    }
    settle(t);
    bench_say(t->b,
              "  freeze         median %8.2f us   p99 %8.2f us   max %8.2f us   (%" PRIu64 ")\n",
              (double)bench_quantile(&times, 0.5) / 1e3, (double)bench_quantile(&times, 0.99) / 1e3,
              (double)times.most / 1e3, times.count);
    bench_json(t->b, "freeze",
               "\"entries\":%" PRIu64 ",\"median_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64
               ",\"max_ns\":%" PRIu64,
               t->entries, bench_quantile(&times, 0.5), bench_quantile(&times, 0.99), times.most);
}

static void say_times(const task *t, const char *what, const bench_times *times, double rate) {
    bench_say(t->b,
              "  %-14s median %8.2f us   p99 %8.2f us   p99.9 %8.2f us   max %8.2f us"
              "   %.2f M/s\n",
              what, (double)bench_quantile(times, 0.5) / 1e3,
              (double)bench_quantile(times, 0.99) / 1e3, (double)bench_quantile(times, 0.999) / 1e3,
              (double)times->most / 1e3, rate / 1e6);
    bench_json(t->b, what,
               "\"entries\":%" PRIu64 ",\"median_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64
               ",\"p999_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64 ",\"per_second\":%.0f",
               t->entries, bench_quantile(times, 0.5), bench_quantile(times, 0.99),
               bench_quantile(times, 0.999), times->most, rate);
}

/* The view stays for the whole time after the freeze, as if its snapshot were slow. */
static double run_frozen(task *t, clockid_t clock, bench_times *times) {
    kwr_view *view;
    bench_must(kwr_backend_freeze(t->backend, &view), kwr_backend_error(t->backend), "freeze");
    const double rate = run_timed(t, clock, times);
    kwr_view_release(view);
    settle(t);
    return rate;
}

/* Once by the clock on the wall, and once by the thread's own, which leaves out what the scheduler
 * gave to others but is slower to read. */
static void bench_after_freeze(task *t) {
    enum { BEFORE, AFTER, CPU, KINDS };
    static bench_times times[KINDS];
    double rate[KINDS] = { 0 };
    /* The first round takes the memory that the others recycle, and does not count. */
    for (unsigned round = 0; round <= t->set->rounds; round++) {
        if (round <= 1) {
            memset(times, 0, sizeof times);
            memset(rate, 0, sizeof rate);
        }
        rate[BEFORE] += run_timed(t, CLOCK_MONOTONIC, &times[BEFORE]);
        rate[AFTER] += run_frozen(t, CLOCK_MONOTONIC, &times[AFTER]);
        rate[CPU] += run_frozen(t, CLOCK_THREAD_CPUTIME_ID, &times[CPU]);
    }
    say_times(t, "before", &times[BEFORE], rate[BEFORE] / t->set->rounds);
    say_times(t, "after", &times[AFTER], rate[AFTER] / t->set->rounds);
    say_times(t, "after, CPU", &times[CPU], rate[CPU] / t->set->rounds);
    bench_say(t->b, "  rate after / before %.2f\n", rate[AFTER] / rate[BEFORE]);
}

/* ---- while a snapshot is written ---- */

typedef struct writing {
    kwr_view *view;
    kwr_snapshot_target target;
    kwr_snapshot_result result;
    kwr_error err;
    kwr_status status;
    uint64_t ns;
    volatile bool done;
} writing;

static void *write_snapshot(void *ctx) {
    writing *w = (writing *)ctx;
    const uint64_t start = bench_now_ns();
    w->status = kwr_snapshot_write(w->view, &w->target, NULL, &w->result, &w->err);
    w->ns = bench_now_ns() - start;
    __atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
    return NULL;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static double run_until(task *t, const volatile bool *done, double seconds, bench_times *times) {
    const uint64_t start = bench_now_ns();
    const uint64_t length = (uint64_t)(seconds * 1e9);
    uint64_t count = 0, now = start;
    do {
        for (unsigned i = 0; i < 256; i++) {
            const uint64_t before = now;
            operation(t);
            now = bench_now_ns();
            bench_add(times, now - before);
        }
        count += 256;
    } while (done != NULL ? !__atomic_load_n(done, __ATOMIC_ACQUIRE) : now - start < length);
    return (double)count * 1e9 / (double)(now - start);
}

/* Two columns: how many of a million operations took so long, without a checkpoint and during one.
 * A line for each factor of two. */
static void say_histogram(const task *t, const bench_times *without, const bench_times *during) {
    bench_say(t->b, "  operations in a million that took        without    during a checkpoint\n");
    for (unsigned power = 5; power < 40; power++) {
        uint64_t few = 0, many = 0;
        for (unsigned step = 0; step < BENCH_STEPS; step++) {
            few += without->at[(power - 4) * BENCH_STEPS + step];
            many += during->at[(power - 4) * BENCH_STEPS + step];
        }
        if (few == 0 && many == 0) continue;
        const double a = (double)few * 1e6 / (double)without->count;
        const double b = (double)many * 1e6 / (double)during->count;
        const double from = (double)(1ULL << power) / 1e3;
        bench_say(t->b, "  %11.3f to %11.3f us            %10.2f    %10.2f\n", from, 2 * from, a,
                  b);
        bench_json(t->b, "histogram",
                   "\"entries\":%" PRIu64
                   ",\"from_us\":%.3f,\"to_us\":%.3f,\"without\":%.3f,\"during\":%.3f",
                   t->entries, from, 2 * from, a, b);
    }
}

/* Only what runs of this program leave is ever removed. */
static void clear_job(const task *t) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", t->set->dir, job_name);
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_dirs(const char *dir) {
    char path[4096];
    for (size_t i = 1; dir[i] != '\0' && i < sizeof path; i++) {
        if (dir[i] != '/') continue;
        snprintf(path, sizeof path, "%.*s", (int)i, dir);
        (void)mkdir(path, 0777);
    }
}

typedef struct during {
    bench_times times;
    double rate;
    uint64_t copies, bytes, raw, ns;
} during;

/* One checkpoint with the owner at work. `last_use`: what is written is let go at once. */
static void write_while_running(task *t, kwr_storage *storage, unsigned number, bool last_use,
                                during *out) {
    kwr_backend_stats before = { .struct_size = sizeof before };
    kwr_backend_stats after = before;
    writing w = { .target = { .struct_size = sizeof w.target,
                              .env = t->env,
                              .storage = storage,
                              .job = job_name,
                              .operator_id = "count",
                              .generation = 1,
                              .checkpoint = number,
                              .sequence = (uint64_t)number * 1000,
                              .last_use = last_use } };
    kwr_backend_get_stats(t->backend, &before);
    bench_must(kwr_backend_freeze(t->backend, &w.view), kwr_backend_error(t->backend), "freeze");
    pthread_t thread;
    if (pthread_create(&thread, NULL, write_snapshot, &w) != 0) exit(1);
    out->rate += run_until(t, &w.done, 0, &out->times);
    pthread_join(thread, NULL);
    kwr_view_release(w.view);
    bench_must(w.status, &w.err, "snapshot");
    kwr_backend_get_stats(t->backend, &after);
    out->copies += after.copies - before.copies;
    out->bytes += w.result.bytes_written;
    out->raw += w.result.raw_bytes;
    out->ns += w.ns;
    kwr_bytes_free(&w.result.handle);
    settle(t);
}

static void bench_writing(task *t) {
    kwr_error err;
    kwr_storage *storage;
    make_dirs(t->set->dir);
    clear_job(t);
    bench_must(kwr_storage_open(t->env, t->set->dir, true, &storage, &err), &err, t->set->dir);
    double before = 0;
    static bench_times without;
    static during d[2];
    const unsigned rounds = t->set->rounds;
    for (unsigned round = 0; round < rounds; round++) {
        before += run_until(t, NULL, t->set->seconds, &without);
        for (unsigned last_use = 0; last_use < 2; last_use++)
            write_while_running(t, storage, 1 + 2 * round + last_use, last_use, &d[last_use]);
    }
    kwr_storage_close(storage);
    clear_job(t);
    say_times(t, "no checkpoint", &without, before / rounds);
    for (unsigned i = 0; i < 2; i++) {
        const char *what = i == 0 ? "checkpoint, view kept" : "checkpoint, view let go";
        say_times(t, what, &d[i].times, d[i].rate / rounds);
        bench_say(t->b,
                  "  writing        %.2f GB of state, %.2f GB stored, %.2f s a snapshot, "
                  "%" PRIu64 " pages copied\n"
                  "  rate while writing / before %.2f   (%.2f / %.2f M/s)\n",
                  (double)d[i].raw / rounds / 1e9, (double)d[i].bytes / rounds / 1e9,
                  (double)d[i].ns / rounds / 1e9, d[i].copies / rounds, d[i].rate / before,
                  d[i].rate / rounds / 1e6, before / rounds / 1e6);
        bench_json(t->b, "writing",
                   "\"entries\":%" PRIu64 ",\"let_go\":%s,\"raw_bytes\":%" PRIu64
                   ",\"stored_bytes\":%" PRIu64 ",\"snapshot_ns\":%" PRIu64 ",\"copies\":%" PRIu64
                   ",\"per_second_before\":%.0f,\"per_second_during\":%.0f,\"ratio\":%.3f",
                   t->entries, i == 0 ? "false" : "true", d[i].raw / rounds, d[i].bytes / rounds,
                   d[i].ns / rounds, d[i].copies / rounds, before / rounds, d[i].rate / rounds,
                   d[i].rate / before);
    }
    say_histogram(t, &without, &d[1].times);
}

/* ---- all of it ---- */

static void usage(void) {
    fprintf(stderr, "freeze [--json] [--seed N] [--dir DIR] [--small N] [--large N] [--freezes N]\n"
                    "       [--seconds S] [--rounds N]\n"
                    "  --dir      where snapshots are written, emptied before and after\n"
                    "             (default build/bench-data/freeze)\n"
                    "  --small, --large   entries (default 10000 and 10000000)\n");
    exit(2);
}

static const char *argument(int argc, char **argv, int *i) {
    if (*i + 1 >= argc) usage();
    return argv[++*i];
}

int main(int argc, char **argv) {
    settings set = { .dir = "build/bench-data",
                     .small = 10000,
                     .large = 10000000,
                     .freezes = 2000,
                     .seconds = 1,
                     .rounds = 3 };
    bool json = false;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0)
            set.dir = argument(argc, argv, &i);
        else if (strcmp(argv[i], "--small") == 0)
            set.small = strtoull(argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--large") == 0)
            set.large = strtoull(argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--freezes") == 0)
            set.freezes = strtoull(argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            set.seconds = strtod(argument(argc, argv, &i), NULL);
        else if (strcmp(argv[i], "--rounds") == 0)
            set.rounds = (unsigned)strtoul(argument(argc, argv, &i), NULL, 10);
        else
            usage();
    }
    if (set.small == 0 || set.large == 0 || set.rounds == 0 || set.freezes == 0) usage();
    bench b;
    bench_start(&b, "freeze", json, seed);
    const uint64_t sizes[] = { set.small, set.large };
    for (size_t i = 0; i < 2; i++) {
        task t;
        bench_say(&b, "%" PRIu64 " entries of %d + %d bytes\n", sizes[i], KEY, VALUE);
        open_task(&t, &b, &set, sizes[i]);
        bench_freezes(&t);
        bench_after_freeze(&t);
        if (i == 1) bench_writing(&t);
        close_task(&t);
    }
    return 0;
}
