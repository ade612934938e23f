/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P8: from the opening of a lazy restore to the first record read, with the snapshot's files out of
 * the page cache. Eager restores of the same snapshot take turns with it, to tell what is saved.
 */
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "bench/goals/goals.h"

enum { KEY = 16, VALUE = 100, SIZES_MAX = 4 };

static const double bound_ms = 100;

static void die(const char *what) {
    fprintf(stderr, "goals: %s\n", what);
    exit(1);
}

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

static void write_snapshot(goals_task *t, kwr_storage *storage, kwr_snapshot_result *out) {
    kwr_error err;
    kwr_view *view;
    goals_must(t, kwr_backend_freeze(t->backend, &view), "freeze");
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = t->env,
                                         .storage = storage,
                                         .job = "goals",
                                         .operator_id = "count",
                                         .generation = 1,
                                         .checkpoint = 1,
                                         .sequence = 10000,
                                         .threads = 1 };
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, out, &err);
    kwr_view_release(view);
    bench_must(status, &err, "snapshot");
}

/* Milliseconds until `number` is read, in a pool of its own. */
static double first_record(const goals_task *from, kwr_storage *storage, kwr_slice handle,
                           kwr_loading loading, uint64_t number) {
    kwr_error err;
    goals_task t = { .env = from->env };
    uint8_t key[KEY], expected[VALUE];
    goals_key(key, KEY, number);
    goals_value(expected, VALUE, number);
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    const uint64_t start = bench_now_ns();
    bench_must(kwr_resources_open(t.env, &pool, &t.resources, &err), &err, "resources");
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = t.env,
                                          .resources = t.resources,
                                          .seed = 1,
                                          .loading = loading };
    bench_must(kwr_snapshot_restore(&options, storage, "goals", &handle, 1, &t.backend, &err), &err,
               "restore");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t.backend, &value, &t.value, &err), &err, "state");
    kwr_slice got;
    goals_must(&t, kwr_backend_set_key(t.backend, (kwr_slice){ key, KEY }), "key");
    goals_must(&t, kwr_value_get(t.value, &got), "get");
    const double took = (double)(bench_now_ns() - start) / 1e6;
    if (got.size != VALUE || memcmp(got.data, expected, VALUE) != 0)
        die("the first record after a restore is another");
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(t.backend, &stats);
    if (stats.entries != from->entries) die("a restore lost entries");
    if ((loading == KWR_LOADING_LAZY) != (stats.load_bytes > 0)) die("not restored as asked for");
    kwr_backend_close(t.backend);
    kwr_resources_close(t.resources);
    return took;
}

static void measure(goals *g, uint64_t entries, unsigned rounds) {
    kwr_error err;
    goals_task t;
    kwr_storage *storage;
    kwr_snapshot_result result = { 0 };
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", goals_dir(g, "lazy"));
    goals_open(&t, "memory", NULL, KEY, VALUE);
    goals_fill(&t, entries);
    bench_must(kwr_storage_open(t.env, dir, true, &storage, &err), &err, dir);
    write_snapshot(&t, storage, &result);
    const kwr_slice handle = { result.handle.data, result.handle.size };
    bench_series lazy = { 0 }, eager = { 0 };
    for (unsigned round = 0; round < rounds; round++) {
        const uint64_t number = bench_mix(round + 1) % entries;
        (void)nftw(dir, drop_cached, 16, FTW_PHYS);
        bench_sample(&lazy, first_record(&t, storage, handle, KWR_LOADING_LAZY, number));
        (void)nftw(dir, drop_cached, 16, FTW_PHYS);
        bench_sample(&eager, first_record(&t, storage, handle, KWR_LOADING_EAGER, number));
    }
    const double mine = bench_median(&lazy), whole = bench_median(&eager);
    bench_json(&g->b, "lazy", "\"entries\":%" PRIu64 ",\"first_ms\":%.3f,\"eager_first_ms\":%.3f",
               entries, mine, whole);
    goals_judge(g, "P8", mine / bound_ms, GOAL_AT_MOST, 1,
                "first record of a lazy restore by %.0f ms, %" PRIu64
                " entries, %.2f ms; %.2f ms when all is loaded first",
                bound_ms, entries, mine, whole);
    kwr_bytes_free(&result.handle);
    kwr_storage_close(storage);
    goals_close(&t);
    (void)goals_dir(g, "lazy");
}

void goals_lazy(goals *g) {
    if (!goals_wanted(g, "P8")) return;
    const uint64_t sizes[SIZES_MAX] = { 10000, 100000, goals_size(g, 300000, 1000000), 10000000 };
    for (size_t i = 0; i < (g->quick ? 3U : 4U); i++)
        measure(g, sizes[i], g->quick ? 3 : 5);
}
