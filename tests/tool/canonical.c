/* SPDX-License-Identifier: Apache-2.0 */
/*
 * canonical ROOT DIRECTORY: a journey of one operator's state from engine to engine and back, by
 * canonical snapshots, at another parallelism each time. Every stop is a published checkpoint of a
 * job of its own under ROOT: job "stop-1", "stop-2", ... The next stop is restored from what the
 * log and the manifest of the one before say. Local files of engines go below DIRECTORY. Prints a
 * line for each stop: job, engine, parallelism.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/snapshot.h"
#include "snapshot/checkpoint.h"
#include "tests/conformance/every_kind.h"

#define MUST(expr)                                                                \
    do {                                                                          \
        const kwr_status must_ = (expr);                                          \
        if (must_ >= KWR_OK) break;                                               \
        fprintf(stderr, "%s: %s: %s\n", #expr, kwr_status_name(must_), err.text); \
        exit(1);                                                                  \
    } while (0)

enum { PARTS_MAX = 8 };

typedef struct stop {
    const char *engine;
    uint32_t parallelism;
} stop;

static const stop stops[] = { { "memory", 1 },
#ifdef KWR_ROCKSDB
                              { "rocksdb", 3 },
#endif
                              { "memory", 2 },
#ifdef KWR_ROCKSDB
                              { "rocksdb", 1 },
#endif
                              { "memory", 5 } };
enum { STOPS = sizeof stops / sizeof stops[0] };

static kwr_error err;
static kwr_env *env;
static kwr_storage *storage;

typedef struct handles {
    kwr_bytes items[PARTS_MAX];
    uint32_t count;
} handles;

static void handles_free(handles *all) {
    for (uint32_t i = 0; i < all->count; i++)
        kwr_bytes_free(&all->items[i]);
    all->count = 0;
}

/* ---- one stop ---- */

/* The state of one subtask: made, or restored from the stop before. */
static kwr_backend *open_backend(const stop *at, uint32_t subtask, const char *directory,
                                 const char *before, const handles *from) {
    kwr_backend *backend = NULL;
    kwr_slice given[PARTS_MAX];
    char path[512];
    static unsigned number;
    (void)snprintf(path, sizeof path, "%s/%u", directory, number++);
    kwr_backend_options options =
        every_kind_options(env, at->engine, strcmp(at->engine, "rocksdb") == 0 ? path : NULL);
    options.key_groups = kwr_key_groups_of(subtask, at->parallelism, EVERY_KIND_GROUPS);
    if (from->count == 0) {
        MUST(kwr_backend_open(&options, &backend, &err));
        MUST(every_kind_fill(backend, false, &err));
        return backend;
    }
    for (uint32_t i = 0; i < from->count; i++)
        given[i] = (kwr_slice){ from->items[i].data, from->items[i].size };
    MUST(kwr_snapshot_restore(&options, storage, before, given, from->count, &backend, &err));
    return backend;
}

static kwr_bytes write_part(kwr_backend *backend, const char *job, uint64_t generation,
                            uint32_t subtask) {
    kwr_view *view = NULL;
    kwr_snapshot_result result;
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = env,
                                   .storage = storage,
                                   .job = job,
                                   .operator_id = "all",
                                   .subtask = subtask,
                                   .generation = generation,
                                   .checkpoint = 1,
                                   .form = KWR_SNAPSHOT_CANONICAL };
    memset(target.job_uid, 7, sizeof target.job_uid);
    MUST(kwr_backend_freeze(backend, &view));
    MUST(kwr_snapshot_write(view, &target, NULL, &result, &err));
    kwr_view_release(view);
    return result.handle;
}

static kwr_manifest manifest_of(const char *job, uint64_t generation, kwr_manifest_operator *op) {
    kwr_manifest m = { .job = job,
                       .checkpoint = 1,
                       .generation = generation,
                       .triggered_ms = 1,
                       .completed_ms = 2,
                       .seed = EVERY_KIND_SEED,
                       .max_parallelism = EVERY_KIND_GROUPS,
                       .operators = op,
                       .operator_count = 1 };
    memset(m.job_uid, 7, sizeof m.job_uid);
    return m;
}

static void publish(kwr_job_dirs *dirs, kwr_log *log, const char *job, const handles *parts) {
    kwr_subtask_part *decoded[PARTS_MAX] = { NULL };
    kwr_manifest_subtask subtasks[PARTS_MAX];
    const uint64_t generation = log->slots[log->count - 1].generation;
    for (uint32_t i = 0; i < parts->count; i++) {
        const kwr_slice handle = { parts->items[i].data, parts->items[i].size };
        MUST(kwr_subtask_part_decode(env, NULL, handle, "handle", &decoded[i], &err));
        subtasks[i] = decoded[i]->subtask; /* nothing inline: files only */
    }
    kwr_manifest_operator op = { .id = "all",
                                 .parallelism = parts->count,
                                 .max_parallelism = EVERY_KIND_GROUPS,
                                 .roles = 2,
                                 .key_type = { .kind = KWR_TYPE_STRING },
                                 .subtasks = subtasks };
    kwr_manifest m = manifest_of(job, generation, &op);
    kwr_slot slot = { .kind = KWR_SLOT_CHECKPOINT };
    kwr_log_continue(log, &slot);
    slot.checkpoint = slot.highest = 1;
    MUST(kwr_checkpoint_write(dirs, &m, (kwr_slice){ NULL, 0 }, &slot, NULL, &err));
    MUST(kwr_log_publish(dirs, &slot, &err));
    for (uint32_t i = 0; i < parts->count; i++)
        kwr_subtask_part_free(decoded[i]);
}

static void claim(kwr_job_dirs *dirs, kwr_log *log, const char *job) {
    MUST(kwr_job_dirs_open(env, storage, job, true, dirs, &err));
    MUST(kwr_log_read(dirs, NULL, log, &err));
    kwr_slot fence = { .kind = KWR_SLOT_FENCE, .pid = 1 };
    kwr_log_continue(log, &fence);
    memset(fence.job_uid, 7, sizeof fence.job_uid);
    fence.generation = 1;
    (void)snprintf(fence.job, sizeof fence.job, "%s", job);
    MUST(kwr_log_publish(dirs, &fence, &err));
    MUST(kwr_log_append(log, &fence));
}

/* The handles of the job's newest checkpoint, as a job that restarts gets them. */
static handles newest(const char *job) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_manifest *m = NULL;
    handles all = { .count = 0 };
    MUST(kwr_job_dirs_open(env, storage, job, false, &dirs, &err));
    MUST(kwr_log_read(&dirs, NULL, &log, &err));
    MUST(kwr_checkpoint_open(&dirs, NULL, kwr_log_newest(&log, NULL), &m, &err));
    for (uint32_t i = 0; i < m->operators[0].parallelism; i++)
        MUST(kwr_checkpoint_handle(env, m, &m->operators[0], &m->operators[0].subtasks[i],
                                   &all.items[all.count++], &err));
    kwr_manifest_free(m);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    return all;
}

static void visit(size_t number, const char *directory) {
    const stop *at = &stops[number];
    char job[32], before[32];
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    handles parts = { .count = 0 }, from = { .count = 0 };
    (void)snprintf(job, sizeof job, "stop-%zu", number + 1);
    (void)snprintf(before, sizeof before, "stop-%zu", number);
    if (number > 0) from = newest(before);
    claim(&dirs, &log, job);
    for (uint32_t i = 0; i < at->parallelism; i++) {
        kwr_backend *backend = open_backend(at, i, directory, before, &from);
        parts.items[parts.count++] = write_part(backend, job, 1, i);
        kwr_backend_close(backend);
    }
    publish(&dirs, &log, job, &parts);
    printf("%s %s %u\n", job, at->engine, at->parallelism);
    handles_free(&from);
    handles_free(&parts);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    MUST(kwr_env_posix_open(NULL, &env, &err));
    MUST(kwr_storage_open(env, argv[1], true, &storage, &err));
    for (size_t i = 0; i < STOPS; i++)
        visit(i, argv[2]);
    kwr_storage_close(storage);
    kwr_env_posix_close(env);
    return 0;
}
