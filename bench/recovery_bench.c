/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the start of a job to its first record, by phase: state size x engine x parallelism before
 * and after. A whole job runs, takes one checkpoint and is closed; then a new attempt starts, with
 * the checkpoint's files out of the page cache.
 *
 *   claim     the lock and the fence of the new attempt
 *   find      the newest completed checkpoint and its manifest
 *   verify    a task's files read and checked, to the last byte
 *   load      what is left to do until the task is open
 *   first     its first read-modify-write
 *   loaded    all state is in place, counted from the start
 *
 * Of the tasks, opened one after the other, the slowest counts. Where one phase ends is seen from
 * the calls to the file system, which pass through here.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <semaphore.h>
#include <sys/stat.h>

#include "bench/bench.h"

enum { KEY = 16, VALUE = 100, KEYED_MAX = 3, SOURCE = 0, TASKS_MAX = 1 + KEYED_MAX };

static const char *const job_name = "recovery";

/* ---- the watched file system; one for the program ---- */

static const kwr_fs *real_fs;
static uint64_t named_at, read_at; /* the latest name was made, the latest bytes were read */

static kwr_status watch_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                             size_t *done, kwr_error *err) {
    const kwr_status status = real_fs->read(ctx, file, offset, data, size, done, err);
    __atomic_store_n(&read_at, bench_now_ns(), __ATOMIC_RELAXED);
    return status;
}
static kwr_status watch_link(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                             const char *to_name, kwr_error *err) {
    const kwr_status status = real_fs->link(ctx, from, from_name, to, to_name, err);
    __atomic_store_n(&named_at, bench_now_ns(), __ATOMIC_RELAXED);
    return status;
}
static kwr_status watch_sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    const kwr_status status = real_fs->sync_dir(ctx, dir, err);
    __atomic_store_n(&named_at, bench_now_ns(), __ATOMIC_RELAXED);
    return status;
}

/* ---- a job, all in this process ---- */

typedef struct setup {
    bench b;
    const char *dir;
    kwr_env *posix;
    kwr_env env;
    kwr_fs fs;
    kwr_resources *resources;
    kwr_storage *storage;
    sem_t awake;
} setup;

typedef struct run {
    setup *s;
    const char *engine;
    uint64_t entries;
    uint32_t keyed; /* tasks */
    kwr_job *job;
    kwr_job_info info;
    kwr_task *tasks[TASKS_MAX];
    kwr_value *values[TASKS_MAX];
    uint64_t completed;
    uint64_t bytes; /* of the checkpoint */
} run;

typedef struct phases {
    double claim, find, verify, load, first, loaded; /* milliseconds */
} phases;

static void wake(void *ctx) { sem_post(&((setup *)ctx)->awake); }

static double ms(uint64_t from, uint64_t to) { return to > from ? (double)(to - from) / 1e6 : 0; }

static void make_key(uint8_t out[KEY], uint64_t number) {
    const uint64_t halves[2] = { bench_mix(number + 1), number };
    memcpy(out, halves, sizeof halves);
}

static void open_job(run *r) {
    kwr_error err;
    const kwr_job_options options = { .struct_size = sizeof options,
                                      .env = &r->s->env,
                                      .storage = r->s->storage,
                                      .name = job_name,
                                      .seed = 1,
                                      .seed_given = true,
                                      .wake = wake,
                                      .wake_ctx = r->s };
    bench_must(kwr_job_open(&options, &r->job, &err), &err, "job");
    r->info.struct_size = sizeof r->info;
    kwr_job_get_info(r->job, &r->info);
}

static void open_value(run *r, uint32_t task) {
    kwr_error err;
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(kwr_task_backend(r->tasks[task]), &value, &r->values[task], &err),
               &err, "state");
}

static void open_task(run *r, uint32_t task) {
    kwr_error err;
    char local[4200];
    snprintf(local, sizeof local, "%s/local", r->s->dir);
    kwr_task_options options = { .struct_size = sizeof options,
                                 .env = &r->s->env,
                                 .resources = r->s->resources,
                                 .storage = r->s->storage,
                                 .channels = task == SOURCE ? 0 : 1,
                                 .engine = task == SOURCE ? NULL : r->engine,
                                 .state_directory = task == SOURCE ? NULL : local,
                                 .wake = wake,
                                 .wake_ctx = r->s };
    bench_must(kwr_job_assignment(r->job, task, &options.assignment, &err), &err, "assignment");
    bench_must(kwr_task_open(&options, &r->tasks[task], &err), &err, "task");
}

static void add_tasks(run *r) {
    kwr_error err;
    uint32_t number;
    bench_must(kwr_job_add_task(r->job, "source", 0, 1, KWR_TASK_SOURCE, &number, &err), &err,
               "source");
    for (uint32_t i = 0; i < r->keyed; i++)
        bench_must(kwr_job_add_task(r->job, "state", i, r->keyed, KWR_TASK_KEYED, &number, &err),
                   &err, "task");
}

static void close_run(run *r) {
    for (uint32_t i = 0; i <= r->keyed; i++)
        kwr_task_close(r->tasks[i]);
    kwr_job_close(r->job);
}

/* ---- the first attempt: fill, one checkpoint ---- */

static uint32_t owner(const run *r, kwr_slice key) {
    const uint32_t groups = r->info.max_parallelism;
    return 1 + kwr_key_group_owner(kwr_key_group(key, r->info.seed, groups), r->keyed, groups);
}

static void fill(run *r) {
    uint8_t key[KEY], value[VALUE];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < r->entries; i++) {
        make_key(key, i);
        const kwr_slice slice = { key, KEY };
        const uint32_t task = owner(r, slice);
        kwr_backend *backend = kwr_task_backend(r->tasks[task]);
        for (size_t at = 0; at < VALUE / 2; at += 8) { /* half of it compresses */
            const uint64_t noise = bench_mix(i * 8 + at);
            memcpy(value + at, &noise, VALUE / 2 - at < 8 ? VALUE / 2 - at : 8);
        }
        bench_must(kwr_backend_set_key(backend, slice), kwr_backend_error(backend), "key");
        bench_must(kwr_value_put(r->values[task], (kwr_slice){ value, VALUE }),
                   kwr_backend_error(backend), "put");
    }
}

static void take_part(kwr_task *task, const kwr_barrier *barrier) {
    bench_must(kwr_task_checkpoint(task, barrier), kwr_task_error(task), "checkpoint");
}

static void deliver(run *r, uint32_t task, kwr_slice message) {
    kwr_task_event event = { 0 };
    bench_must(kwr_task_receive(r->tasks[task], message, &event), kwr_task_error(r->tasks[task]),
               "message");
    if (event.kind != KWR_TASK_TRIGGER) return;
    take_part(r->tasks[SOURCE], &event.barrier);
    for (uint32_t i = 1; i <= r->keyed; i++) {
        kwr_alignment now = { 0 };
        bench_must(kwr_task_barrier(r->tasks[i], 0, &event.barrier, &now),
                   kwr_task_error(r->tasks[i]), "barrier");
        if (now.snapshot) take_part(r->tasks[i], &now.barrier);
    }
}

static bool carry(run *r) {
    kwr_job_event event;
    kwr_slice message;
    bool some = false;
    for (; kwr_job_poll(r->job, &event) == KWR_OK; some = true) {
        if (event.kind == KWR_JOB_FAILED || event.kind == KWR_JOB_ABORTED)
            bench_must(KWR_ERR_IO, &event.error, "checkpoint");
        if (event.kind == KWR_JOB_PUBLISHED) {
            r->completed = event.checkpoint;
            r->bytes = event.bytes;
        }
        for (uint32_t i = 0; event.kind == KWR_JOB_SEND && i <= r->keyed; i++)
            if (event.task == KWR_ALL_TASKS || event.task == i) deliver(r, i, event.message);
    }
    for (uint32_t i = 0; i <= r->keyed; i++)
        for (; kwr_task_poll(r->tasks[i], &message) == KWR_OK; some = true)
            bench_must(kwr_job_receive(r->job, message), NULL, "message to the job");
    return some;
}

static void take_checkpoint(run *r) {
    bench_must(kwr_job_trigger(r->job), NULL, "trigger");
    while (r->completed == 0) {
        if (carry(r)) continue;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 10000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        while (sem_timedwait(&r->s->awake, &until) != 0 && errno == EINTR)
            continue;
    }
    while (carry(r))
        continue;
}

static uint64_t write_checkpoint(setup *s, const char *engine, uint64_t entries, uint32_t keyed) {
    run r = { .s = s, .engine = engine, .entries = entries, .keyed = keyed };
    kwr_error err;
    open_job(&r);
    add_tasks(&r);
    for (uint32_t i = 0; i <= keyed; i++) {
        open_task(&r, i);
        if (i > SOURCE) open_value(&r, i);
    }
    bench_must(kwr_job_start(r.job, &err), &err, "start");
    fill(&r);
    take_checkpoint(&r);
    close_run(&r);
    return r.bytes;
}

/* ---- the second: by phase ---- */

static int drop_cached(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)walk;
    if (kind != FTW_F) return 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return 0;
}

/* A key of this task, and its first access. */
static double first_record(run *r, uint32_t task) {
    uint8_t key[KEY];
    for (uint64_t i = 0; i < r->entries; i++) {
        make_key(key, i);
        const kwr_slice slice = { key, KEY };
        if (owner(r, slice) != task) continue;
        kwr_backend *backend = kwr_task_backend(r->tasks[task]);
        void *bytes = NULL;
        size_t size = 0;
        const uint64_t start = bench_now_ns();
        open_value(r, task);
        bench_must(kwr_backend_set_key(backend, slice), kwr_backend_error(backend), "key");
        bench_must(kwr_value_modify(r->values[task], KWR_KEEP_SIZE, &bytes, &size),
                   kwr_backend_error(backend), "modify");
        if (size != VALUE)
            bench_must(KWR_ERR_CORRUPT, NULL, "the first record found another value");
        return ms(start, bench_now_ns());
    }
    return 0;
}

static phases restart(setup *s, const char *engine, uint64_t entries, uint32_t keyed) {
    run r = { .s = s, .engine = engine, .entries = entries, .keyed = keyed };
    phases p = { 0 };
    (void)nftw(s->dir, drop_cached, 16, FTW_PHYS);
    named_at = 0;
    const uint64_t start = bench_now_ns();
    open_job(&r);
    const uint64_t opened = bench_now_ns();
    /* The fence is the last name a start makes. */
    const uint64_t claimed = named_at == 0 ? opened : named_at;
    p.claim = ms(start, claimed);
    add_tasks(&r);
    open_task(&r, SOURCE);
    p.find = ms(claimed, bench_now_ns());
    uint64_t found = 0;
    for (uint32_t i = 1; i <= keyed; i++) {
        read_at = 0;
        const uint64_t begin = bench_now_ns();
        open_task(&r, i);
        const uint64_t end = bench_now_ns();
        const uint64_t verified = read_at == 0 ? end : read_at;
        const double first = first_record(&r, i);
        kwr_backend_stats stats = { .struct_size = sizeof stats };
        kwr_backend_get_stats(kwr_task_backend(r.tasks[i]), &stats);
        found += stats.entries;
        if (ms(begin, end) + first < p.verify + p.load + p.first) continue;
        p.verify = ms(begin, verified);
        p.load = ms(verified, end);
        p.first = first;
    }
    if (strcmp(engine, "memory") == 0 && found != entries)
        bench_must(KWR_ERR_CORRUPT, NULL, "the restart lost entries");
    p.loaded = p.claim + p.find + p.verify + p.load;
    close_run(&r);
    return p;
}

/* ---- all of it ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static void clear_dir(const char *dir) {
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    char path[4096];
    for (size_t i = 1; dir[i - 1] != '\0' && i < sizeof path; i++) {
        if (dir[i] != '/' && dir[i] != '\0') continue;
        snprintf(path, sizeof path, "%.*s", (int)i, dir);
        (void)mkdir(path, 0777);
    }
}

static void open_setup(setup *s) {
    kwr_error err;
    clear_dir(s->dir);
    bench_must(kwr_env_posix_open(NULL, &s->posix, &err), &err, "environment");
    real_fs = s->posix->fs;
    s->fs = *real_fs;
    s->fs.read = watch_read;
    s->fs.link = watch_link;
    s->fs.sync_dir = watch_sync_dir;
    s->env = *s->posix;
    s->env.fs = &s->fs;
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    bench_must(kwr_resources_open(&s->env, &pool, &s->resources, &err), &err, "resources");
    char path[4200];
    snprintf(path, sizeof path, "%s/storage", s->dir);
    bench_must(kwr_storage_open(&s->env, path, true, &s->storage, &err), &err, path);
    sem_init(&s->awake, 0, 0);
}
static void close_setup(setup *s) {
    sem_destroy(&s->awake);
    kwr_storage_close(s->storage);
    kwr_resources_close(s->resources);
    kwr_env_posix_close(s->posix);
    clear_dir(s->dir);
}

static void measure(setup *s, const char *engine, uint64_t entries, uint32_t from, uint32_t to,
                    unsigned rounds) {
    bench_series at[6] = { 0 };
    uint64_t bytes = 0;
    for (unsigned round = 0; round < rounds; round++) {
        open_setup(s);
        bytes = write_checkpoint(s, engine, entries, from);
        const phases p = restart(s, engine, entries, to);
        close_setup(s);
        const double values[6] = { p.claim, p.find, p.verify, p.load, p.first, p.loaded };
        for (size_t i = 0; i < 6; i++)
            bench_sample(&at[i], values[i]);
    }
    bench_say(&s->b,
              "%-8s %9" PRIu64 " entries, %7.1f MB stored, %u to %u: claim %6.1f  find %6.1f  "
              "verify %8.1f  load %8.1f  first record %6.2f  all loaded %8.1f ms\n",
              engine, entries, (double)bytes / 1e6, from, to, bench_median(&at[0]),
              bench_median(&at[1]), bench_median(&at[2]), bench_median(&at[3]),
              bench_median(&at[4]), bench_median(&at[5]));
    bench_json(&s->b, "recovery",
               "\"engine\":\"%s\",\"entries\":%" PRIu64 ",\"stored_bytes\":%" PRIu64
               ",\"from\":%u,\"to\":%u,\"claim_ms\":%.3f,\"find_ms\":%.3f,\"verify_ms\":%.3f,"
               "\"load_ms\":%.3f,\"first_ms\":%.3f,\"loaded_ms\":%.3f,\"loaded_min_ms\":%.3f,"
               "\"loaded_max_ms\":%.3f,\"rounds\":%u",
               engine, entries, bytes, from, to, bench_median(&at[0]), bench_median(&at[1]),
               bench_median(&at[2]), bench_median(&at[3]), bench_median(&at[4]),
               bench_median(&at[5]), at[5].at[0], at[5].at[at[5].count - 1], rounds);
}

static void usage(void) {
    fprintf(stderr, "recovery [--json] [--largest N] [--rounds N] [--dir DIR]\n"
                    "  --largest   entries of the largest of three sizes, a factor of ten apart\n"
                    "              (default 1000000)\n"
                    "  --dir       for the checkpoints (default build/bench-data/recovery)\n");
    exit(2);
}

int main(int argc, char **argv) {
    setup s = { .dir = "build/bench-data/recovery" };
    uint64_t largest = 1000000;
    unsigned rounds = 3;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (value == NULL)
            usage();
        else if (strcmp(argv[i], "--largest") == 0)
            largest = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0)
            s.dir = argv[++i];
        else
            usage();
    }
    if (largest < 100 || rounds == 0) usage();
    bench_start(&s.b, "recovery", json, 1);
    static const char *const engines[] = { "memory", "rocksdb" };
    static const uint32_t changes[][2] = { { 2, 2 }, { 2, 3 }, { 3, 2 } };
    for (size_t engine = 0; engine < (strcmp(s.b.rocks.version, "none") == 0 ? 1U : 2U); engine++)
        for (uint64_t entries = largest / 100; entries <= largest; entries *= 10)
            for (size_t change = 0; change < 3; change++)
                measure(&s, engines[engine], entries, changes[change][0], changes[change][1],
                        rounds);
    return 0;
}
