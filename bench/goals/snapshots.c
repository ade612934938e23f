/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P5, P7 and P9: a snapshot written, restored, and restored at another parallelism.
 *
 * The yardstick of writing is a loop of LZ4 and XXH3 over the same entries in blocks of 64 KiB, to
 * the same disk, made durable; of restoring, taking that file apart again into fresh memory. Both
 * sides use the same number of threads, and write to a new file each time: a disk that gets its
 * space from a host as it is written to takes ten times as long for that as for writing over what
 * is there.
 */
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "bench/goals/goals.h"
#include "bench/peers/rocks_raw.h"

enum { KEY = 16, VALUE = 100, ENTRY = KEY + VALUE, BLOCK = 64 << 10, THREADS_MAX = 2 };

/* ---- the yardstick ---- */

typedef struct half {
    const uint8_t *bytes; /* entries */
    size_t size;
    char path[4200];
    size_t stored;
} half;

typedef struct block_head {
    uint32_t raw, stored;
    uint64_t digest;
} block_head;

static void die(const char *what) {
    fprintf(stderr, "goals: %s\n", what);
    exit(1);
}

static void write_all(int fd, const uint8_t *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, bytes + done, size - done);
        if (n <= 0) die("write failed");
        done += (size_t)n;
    }
}

/* Written back as it goes, every 8 MiB, so that the last sync has little to do. */
static void *write_half(void *ctx) {
    half *h = ctx;
    const int fd = open(h->path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    enum { BUFFER = 1 << 20, BACK = 8 << 20 };
    uint8_t *buffer = malloc(BUFFER + sizeof(block_head) + LZ4_COMPRESSBOUND(BLOCK));
    if (fd < 0 || buffer == NULL) die(h->path);
    size_t used = 0, begun = 0;
    h->stored = 0;
    for (size_t at = 0; at < h->size; at += BLOCK) {
        const size_t raw = h->size - at < BLOCK ? h->size - at : BLOCK;
        uint8_t *out = buffer + used + sizeof(block_head);
        const int stored = LZ4_compress_default((const char *)h->bytes + at, (char *)out, (int)raw,
                                                LZ4_COMPRESSBOUND(BLOCK));
        const block_head head = { (uint32_t)raw, (uint32_t)stored,
                                  XXH3_64bits(out, (size_t)stored) };
        memcpy(buffer + used, &head, sizeof head);
        used += sizeof head + (size_t)stored;
        if (used < BUFFER && at + raw < h->size) continue;
        write_all(fd, buffer, used);
        h->stored += used;
        used = 0;
        if (h->stored - begun < BACK) continue;
        sync_file_range(fd, (off_t)begun, (off_t)(h->stored - begun), SYNC_FILE_RANGE_WRITE);
        begun = h->stored;
    }
    if (fdatasync(fd) != 0) die("sync failed");
    close(fd);
    free(buffer);
    return NULL;
}

/* Into memory that nobody has touched. */
static void *read_half(void *ctx) {
    half *h = ctx;
    const int fd = open(h->path, O_RDONLY | O_CLOEXEC);
    uint8_t *file = malloc(h->stored);
    const size_t mapped = (h->size + (4 << 20)) & ~(size_t)((2 << 20) - 1);
    uint8_t *out = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || file == NULL || out == MAP_FAILED) die(h->path);
    (void)madvise(out, mapped, MADV_HUGEPAGE);
    for (size_t done = 0; done < h->stored;) {
        const ssize_t n = read(fd, file + done, h->stored - done);
        if (n <= 0) die("read failed");
        done += (size_t)n;
    }
    size_t to = 0;
    for (size_t at = 0; at < h->stored;) {
        block_head head;
        memcpy(&head, file + at, sizeof head);
        at += sizeof head;
        if (XXH3_64bits(file + at, head.stored) != head.digest) die("damaged yardstick");
        if (LZ4_decompress_safe((const char *)file + at, (char *)out + to, (int)head.stored,
                                (int)head.raw) != (int)head.raw)
            die("damaged yardstick");
        at += head.stored;
        to += head.raw;
    }
    if (to != h->size || memcmp(out, h->bytes, BLOCK < to ? BLOCK : to) != 0)
        die("the yardstick read something else than it wrote");
    munmap(out, mapped);
    free(file);
    close(fd);
    return NULL;
}

/* Seconds for all halves at the same time. */
static double run_halves(half *halves, unsigned threads, void *(*run)(void *)) {
    pthread_t ids[THREADS_MAX];
    const uint64_t start = bench_now_ns();
    for (unsigned i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run, &halves[i]) != 0) die("no thread");
    run(&halves[0]);
    for (unsigned i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    return (double)(bench_now_ns() - start) / 1e9;
}

static void cut(half *halves, unsigned threads, const uint8_t *bytes, size_t size) {
    size_t from = 0;
    for (unsigned i = 0; i < threads; i++) {
        const size_t to = i + 1 == threads ? size : size / threads / BLOCK * BLOCK * (i + 1);
        halves[i] = (half){ .bytes = bytes + from, .size = to - from };
        from = to;
    }
}
/* Beside the snapshots, and gone with them. */
static void name_halves(half *halves, unsigned threads, const char *dir, unsigned round) {
    for (unsigned i = 0; i < threads; i++)
        snprintf(halves[i].path, sizeof halves[i].path, "%s/yardstick-%u-%u-%u", dir, threads,
                 round, i);
}

/* ---- ours ---- */

typedef struct job {
    kwr_storage *storage;
    uint64_t checkpoint;
} job;

static void write_snapshot(goals_task *t, job *j, uint32_t threads, uint32_t subtask,
                           kwr_snapshot_result *out) {
    kwr_error err;
    kwr_view *view;
    goals_must(t, kwr_backend_freeze(t->backend, &view), "freeze");
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = t->env,
                                         .storage = j->storage,
                                         .job = "goals",
                                         .operator_id = "count",
                                         .subtask = subtask,
                                         .generation = 1,
                                         .checkpoint = ++j->checkpoint,
                                         .sequence = j->checkpoint * 10000,
                                         .threads = threads,
                                         .last_use = true };
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, out, &err);
    kwr_view_release(view);
    bench_must(status, &err, "snapshot");
}

static kwr_backend *restore(const goals_task *t, const job *j, kwr_resources *resources,
                            kwr_key_group_range groups, const kwr_slice *handles, size_t count) {
    kwr_error err;
    kwr_backend *backend;
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = t->env,
                                          .resources = resources,
                                          .key_groups = groups,
                                          .seed = 1 };
    bench_must(kwr_snapshot_restore(&options, j->storage, "goals", handles, count, &backend, &err),
               &err, "restore");
    return backend;
}

/* Fresh memory: a pool of its own. */
static double time_restore(const goals_task *t, const job *j, const kwr_bytes *handle,
                           uint64_t entries) {
    kwr_error err;
    kwr_resources *resources;
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    const kwr_slice slice = { handle->data, handle->size };
    const uint64_t start = bench_now_ns();
    bench_must(kwr_resources_open(t->env, &pool, &resources, &err), &err, "resources");
    kwr_backend *backend = restore(t, j, resources, (kwr_key_group_range){ 0, 0 }, &slice, 1);
    const double took = (double)(bench_now_ns() - start) / 1e9;
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    if (stats.entries != entries) die("a restore lost entries");
    kwr_backend_close(backend);
    kwr_resources_close(resources);
    return took;
}

/* ---- RocksDB's bulk load: a sorted file written and ingested ---- */

#ifdef KWR_ROCKSDB
static int compare_entries(const void *a, const void *b) {
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, KEY);
}
/* Sorting is not timed. */
static double time_bulk_load(const goals *g, const uint8_t *bytes, uint64_t entries) {
    const uint8_t **order = malloc(entries * sizeof *order);
    if (order == NULL) die("no memory");
    for (uint64_t i = 0; i < entries; i++)
        order[i] = bytes + i * ENTRY;
    qsort(order, entries, sizeof *order, compare_entries);
    rocks_raw r;
    char *err = NULL;
    rocks_raw_open(&r, goals_dir(g, "bulk"), false);
    char path[4200];
    snprintf(path, sizeof path, "%s.sst", r.dir);
    const uint64_t start = bench_now_ns();
    rocksdb_envoptions_t *env = rocksdb_envoptions_create();
    rocksdb_sstfilewriter_t *writer = rocksdb_sstfilewriter_create(env, r.options);
    rocksdb_sstfilewriter_open(writer, path, &err);
    for (uint64_t i = 0; i < entries && err == NULL; i++)
        rocksdb_sstfilewriter_put(writer, (const char *)order[i], KEY, (const char *)order[i] + KEY,
                                  VALUE, &err);
    if (err == NULL) rocksdb_sstfilewriter_finish(writer, &err);
    rocksdb_ingestexternalfileoptions_t *ingest = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(ingest, 1);
    const char *list = path;
    if (err == NULL) rocksdb_ingest_external_file_cf(r.db, r.cf, &list, 1, ingest, &err);
    if (err != NULL) die(err);
    const double took = (double)(bench_now_ns() - start) / 1e9;
    rocksdb_ingestexternalfileoptions_destroy(ingest);
    rocksdb_sstfilewriter_destroy(writer);
    rocksdb_envoptions_destroy(env);
    rocks_raw_close(&r);
    (void)unlink(path);
    free(order);
    return took;
}
#else
static double time_bulk_load(const goals *g, const uint8_t *bytes, uint64_t entries) {
    (void)g, (void)bytes, (void)entries;
    return 0;
}
#endif

/* ---- P5 and P7 ---- */

static uint8_t *entry_bytes(uint64_t entries) {
    uint8_t *bytes = malloc(entries * ENTRY);
    if (bytes == NULL) die("no memory");
    for (uint64_t i = 0; i < entries; i++) {
        goals_key(bytes + i * ENTRY, KEY, i);
        goals_value(bytes + i * ENTRY + KEY, VALUE, i);
    }
    return bytes;
}

static void measure_snapshots(goals *g) {
    const uint64_t entries = goals_size(g, 500000, 10000000);
    const size_t size = entries * ENTRY;
    const unsigned rounds = g->quick ? 3 : 5;
    kwr_error err;
    uint8_t *bytes = entry_bytes(entries);
    goals_task t;
    goals_open_threads(&t, "memory", NULL, KEY, VALUE, THREADS_MAX);
    goals_fill(&t, entries);
    job j = { 0 };
    const char *dir = goals_dir(g, "snapshots");
    bench_must(kwr_storage_open(t.env, dir, true, &j.storage, &err), &err, dir);

    for (unsigned threads = 1; threads <= THREADS_MAX; threads++) {
        bench_series ours = { 0 }, theirs = { 0 }, restores = { 0 }, reads = { 0 };
        half halves[THREADS_MAX];
        cut(halves, threads, bytes, size);
        for (unsigned round = 0; round < rounds; round++) {
            kwr_snapshot_result result = { 0 };
            name_halves(halves, threads, dir, round);
            uint64_t start = bench_now_ns();
            write_snapshot(&t, &j, threads, 0, &result);
            bench_sample(&ours, (double)(bench_now_ns() - start) / 1e9);
            bench_sample(&theirs, run_halves(halves, threads, write_half));
            if (threads == THREADS_MAX) {
                goals_touch_memory(size * 2);
                bench_sample(&restores, time_restore(&t, &j, &result.handle, entries));
                bench_sample(&reads, run_halves(halves, threads, read_half));
            }
            kwr_bytes_free(&result.handle);
            goals_settle(&t);
        }
        const double mine = bench_median(&ours), yard = bench_median(&theirs);
        goals_detail(g, "%u threads: snapshot %.2f GB/s, LZ4 and XXH3 %.2f GB/s of entries",
                     threads, (double)size / mine / 1e9, (double)size / yard / 1e9);
        bench_json(&g->b, "snapshot",
                   "\"threads\":%u,\"entries\":%" PRIu64 ",\"s\":%.4f,\"yardstick_s\":%.4f",
                   threads, entries, mine, yard);
        goals_judge(g, "P5", yard / mine, GOAL_AT_LEAST, 0.8,
                    "snapshot of %" PRIu64 " entries, %u thread%s, %.2f GB/s of them", entries,
                    threads, threads == 1 ? "" : "s", (double)size / mine / 1e9);
        if (threads == THREADS_MAX && goals_wanted(g, "P7")) {
            const double restored = bench_median(&restores), read = bench_median(&reads);
            goals_detail(g, "restore %.3f s, taking apart %.3f s", restored, read);
            goals_judge(g, "P7", read / restored, GOAL_AT_LEAST, 0.7,
                        "restore with 2 threads against decompressing, %.2f GB/s of entries",
                        (double)size / restored / 1e9);
            const double loaded = time_bulk_load(g, bytes, entries);
            if (loaded == 0)
                goals_not_yet(g, "P7", "bulk load: %s", g->b.rocks.text);
            else
                goals_judge(g, "P7", restored / loaded, GOAL_AT_MOST, 0.2,
                            "restore against the bulk load of %s, %.2f s", g->b.rocks.text, loaded);
        }
    }
    kwr_storage_close(j.storage);
    goals_close(&t);
    (void)goals_dir(g, "snapshots");
    free(bytes);
}

/* ---- P9 ---- */

/* What this process has read so far, by read() and its like. */
static uint64_t bytes_read(void) {
    unsigned long long read = 0;
    FILE *file = fopen("/proc/self/io", "r");
    if (file == NULL || fscanf(file, "rchar: %llu", &read) != 1) die("/proc/self/io");
    fclose(file);
    return read;
}

/* A subtask's share of the entries, written as its snapshot. */
static void write_subtask(const goals_task *host, job *j, uint64_t entries, uint32_t subtask,
                          uint32_t parallelism, kwr_snapshot_result *out) {
    goals_task t = *host;
    kwr_error err;
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = host->env,
                                          .resources = host->resources,
                                          .key_groups = kwr_key_groups_of(
                                              subtask, parallelism, KWR_MAX_PARALLELISM_DEFAULT),
                                          .seed = 1 };
    bench_must(kwr_backend_open(&options, &t.backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t.backend, &value, &t.value, &err), &err, "state");
    uint8_t key[KEY], bytes[VALUE];
    for (uint64_t i = 0; i < entries; i++) {
        goals_key(key, KEY, i);
        const kwr_slice slice = { key, KEY };
        const uint32_t group = kwr_key_group(slice, 1, KWR_MAX_PARALLELISM_DEFAULT);
        if (kwr_key_group_owner(group, parallelism, KWR_MAX_PARALLELISM_DEFAULT) != subtask)
            continue;
        goals_value(bytes, VALUE, i);
        goals_must(&t, kwr_backend_set_key(t.backend, slice), "key");
        goals_must(&t, kwr_value_put(t.value, (kwr_slice){ bytes, VALUE }), "put");
    }
    write_snapshot(&t, j, 1, subtask, out);
    kwr_backend_close(t.backend);
}

static void measure_rescale(goals *g, uint32_t from, uint32_t to) {
    const uint64_t entries = goals_size(g, 500000, 10000000);
    kwr_error err;
    goals_task t;
    goals_open(&t, "memory", NULL, KEY, VALUE);
    job j = { 0 };
    const char *dir = goals_dir(g, "rescale");
    bench_must(kwr_storage_open(t.env, dir, true, &j.storage, &err), &err, dir);
    kwr_snapshot_result results[3] = { 0 };
    kwr_slice handles[3];
    uint64_t stored = 0, written = 0, found = 0;
    for (uint32_t i = 0; i < from; i++) {
        write_subtask(&t, &j, entries, i, from, &results[i]);
        handles[i] = (kwr_slice){ results[i].handle.data, results[i].handle.size };
        stored += results[i].bytes_written;
        written += results[i].entries;
    }
    double worst = 0;
    for (uint32_t i = 0; i < to; i++) {
        const kwr_key_group_range groups = kwr_key_groups_of(i, to, KWR_MAX_PARALLELISM_DEFAULT);
        const uint64_t before = bytes_read();
        kwr_backend *backend = restore(&t, &j, t.resources, groups, handles, from);
        const uint64_t read = bytes_read() - before;
        kwr_backend_stats stats = { .struct_size = sizeof stats };
        kwr_backend_get_stats(backend, &stats);
        found += stats.entries;
        const double owned = (double)stored * (double)stats.entries / (double)written;
        if ((double)read / owned > worst) worst = (double)read / owned;
        goals_detail(g, "%u to %u, subtask %u: read %.1f MB, owns %.1f MB", from, to, i,
                     (double)read / 1e6, owned / 1e6);
        kwr_backend_close(backend);
    }
    if (found != written) die("rescaling lost entries");
    goals_judge(g, "P9", worst, GOAL_AT_MOST, 1.1,
                "bytes read by bytes owned, %u to %u subtasks, %.0f MB of entries", from, to,
                (double)(entries * ENTRY) / 1e6);
    for (uint32_t i = 0; i < from; i++)
        kwr_bytes_free(&results[i].handle);
    kwr_storage_close(j.storage);
    goals_close(&t);
    (void)goals_dir(g, "rescale");
}

void goals_snapshots(goals *g) {
    if (goals_wanted(g, "P5") || goals_wanted(g, "P7")) measure_snapshots(g);
}

void goals_rescale(goals *g) {
    if (!goals_wanted(g, "P9")) return;
    measure_rescale(g, 2, 3);
    measure_rescale(g, 3, 2);
}
