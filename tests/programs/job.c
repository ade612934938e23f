/* SPDX-License-Identifier: Apache-2.0 */
/* The job under test: backends that share the key groups, and their replacement by a restore. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/conformance/model_engine.h"
#include "tests/programs/states.h"
#include "tests/programs/timers.h"

const engine_row engines[] = {
    { "memory", NULL, "memory", UINT64_MAX, true, true, false },
    /* Many entries of one hash, all below one bit of the directory. */
    { "memory-3-bits", NULL, "memory", 7, false, true, false },
    { "memory-one-hash", NULL, "memory", 0, false, true, false },
    /* Shows that the programs and the model agree; it has no snapshots. */
    { "model", &model_engine_ops, NULL, UINT64_MAX, false, false, false },
#ifdef KWR_ROCKSDB
    { "rocksdb", NULL, "rocksdb", UINT64_MAX, true, true, false },
    { "either", NULL, "memory", UINT64_MAX, true, true, true },
#endif
};
const size_t engine_count = sizeof engines / sizeof engines[0];

const engine_row *engine_find(const char *name) {
    for (size_t i = 0; i < engine_count; i++)
        if (strcmp(engines[i].name, name) == 0) return &engines[i];
    return NULL;
}

/* ---- opening ---- */

void program_directory(long process, char *out, size_t capacity) {
    snprintf(out, capacity, "/dev/shm/kwr-model-%ld", process);
}

kwr_backend_options job_options(program *p, uint32_t index, uint32_t parallelism,
                                char directory[DIRECTORY_MAX]) {
    kwr_backend_options options = {
        .struct_size = sizeof options,
        .env = p->env,
        .engine = p->registered,
        .max_parallelism = p->max_parallelism,
        .key_groups = kwr_key_groups_of(index, parallelism, p->max_parallelism),
        .seed = p->hash_seed,
    };
    if (p->registered != NULL && strcmp(p->registered, "rocksdb") == 0) {
        program_directory((long)getpid(), directory, DIRECTORY_MAX);
        (void)mkdir(directory, 0700);
        const size_t size = strlen(directory);
        snprintf(directory + size, DIRECTORY_MAX - size, "/%llu-%u",
                 (unsigned long long)p->options->seed, p->directories++);
        options.directory = directory;
    }
    return options;
}

/* A backend with these states, ready for images. */
static kwr_backend *open_engine(program *p, uint32_t index, uint32_t parallelism,
                                const kwr_state_table *stored) {
    char directory[DIRECTORY_MAX];
    const kwr_backend_options options = job_options(p, index, parallelism, directory);
    const kwr_engine_choice choice = {
        .ops = p->engine->ops != NULL ? p->engine->ops : kwr_engine_find(p->registered),
        .hash_mask = p->engine->hash_mask,
    };
    kwr_backend *backend = NULL;
    MUST(kwr_backend_open_engine(&options, &choice, stored == NULL ? NULL : stored->states,
                                 stored == NULL ? 0 : stored->count, &backend, NULL));
    return backend;
}

static void open_handles(program *p, subtask *t) {
    for (size_t state = 0; state < STATES; state++) {
        states[state]->open(p, t);
        t->name[state] = 0;
    }
    timers_open(p, t);
    MUST(kwr_key_batch_new(t->backend, BATCH, &t->batch));
    t->batch_count = 0;
    t->has_key = false;
}

static void adopt(program *p, uint32_t index, kwr_backend *backend) {
    subtask *t = &p->tasks[index];
    *t = (subtask){ .index = index, .backend = backend };
    open_handles(p, t);
}

void job_adopt(program *p, kwr_backend *const *backends, uint32_t parallelism) {
    p->parallelism = parallelism;
    for (uint32_t i = 0; i < parallelism; i++)
        adopt(p, i, backends[i]);
}

void job_open(program *p, uint32_t parallelism) {
    p->parallelism = parallelism;
    for (uint32_t i = 0; i < parallelism; i++)
        adopt(p, i, open_engine(p, i, parallelism, NULL));
}

void job_close(program *p) {
    for (uint32_t i = 0; i < p->parallelism; i++)
        kwr_backend_close(p->tasks[i].backend);
    p->parallelism = 0;
}

/* ---- by snapshots ---- */

static kwr_bytes write_snapshot(program *p, kwr_view *view, uint32_t index, kwr_storage *storage) {
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = p->env,
                                         .storage = storage,
                                         .job = "model",
                                         .operator_id = "op",
                                         .subtask = index,
                                         .generation = 1,
                                         .checkpoint = p->checkpoint,
                                         .inline_bytes = percent(p, 50) ? 1 << 20 : 0,
                                         .threads = 1 + (uint32_t)below(p, 3),
                                         .compression_off = percent(p, 30) };
    kwr_snapshot_result result;
    kwr_error err = { 0 };
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, &result, &err);
    if (status != KWR_OK) differs(p, err.text, __FILE__, __LINE__);
    return result.handle;
}

static bool intersect(kwr_key_group_range a, kwr_key_group_range b) {
    return a.first < b.first + b.count && b.first < a.first + a.count;
}

/* From the handles whose key groups are wanted, or from all of them. */
static kwr_backend *restore_snapshot(program *p, kwr_storage *storage, const kwr_bytes *handles,
                                     uint32_t index, uint32_t parallelism) {
    char directory[DIRECTORY_MAX];
    const kwr_backend_options options = job_options(p, index, parallelism, directory);
    const bool all = percent(p, 20);
    kwr_slice chosen[SUBTASKS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < p->parallelism; i++) {
        const kwr_key_group_range theirs = kwr_key_groups_of(i, p->parallelism, p->max_parallelism);
        if (all || intersect(theirs, options.key_groups))
            chosen[count++] = (kwr_slice){ handles[i].data, handles[i].size };
    }
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_snapshot_restore(&options, storage, "model", chosen, count, &backend, &err);
    if (status != KWR_OK) differs(p, err.text, __FILE__, __LINE__);
    return backend;
}

static void restart_from_snapshots(program *p, kwr_view **views, uint32_t parallelism) {
    kwr_storage *storage = NULL;
    MUST(kwr_storage_memory_open(p->env, 0, &storage, NULL));
    p->checkpoint++;
    kwr_bytes handles[SUBTASKS_MAX];
    for (uint32_t i = 0; i < p->parallelism; i++)
        handles[i] = write_snapshot(p, views[i], i, storage);
    kwr_backend *restored[SUBTASKS_MAX];
    for (uint32_t i = 0; i < parallelism; i++)
        restored[i] = restore_snapshot(p, storage, handles, i, parallelism);
    for (uint32_t i = 0; i < p->parallelism; i++)
        kwr_bytes_free(&handles[i]);
    kwr_storage_close(storage);
    job_close(p);
    job_adopt(p, restored, parallelism);
}

/* ---- by images alone, for engines that no snapshot can name ---- */

typedef struct installer {
    program *p;
    const kwr_engine_ops *ops;
    kwr_engine *engine;
} installer;

static kwr_status install(void *ctx, const kwr_page_image *image) {
    installer *in = (installer *)ctx;
    kwr_error err = { 0 };
    const kwr_status status = in->ops->install(in->engine, image, &err);
    if (status != KWR_OK) differs(in->p, err.text, __FILE__, __LINE__);
    return status;
}

static kwr_backend *install_images(program *p, kwr_view **views, uint32_t index,
                                   uint32_t parallelism) {
    kwr_backend *backend = open_engine(p, index, parallelism, views[0]->table);
    installer in = { .p = p };
    in.engine = kwr_backend_engine(backend, &in.ops);
    MUST(in.ops->restore_begin(in.engine, p->hash_seed));
    kwr_page_sink sink = { .ctx = &in, .image = install };
    const kwr_key_group_range owned = kwr_key_groups_of(index, parallelism, p->max_parallelism);
    for (uint32_t i = 0; i < p->parallelism; i++)
        for (uint32_t g = owned.first; g < owned.first + owned.count; g++)
            if (g - views[i]->key_groups.first < views[i]->key_groups.count)
                MUST(views[i]->ops->view_images(views[i]->engine_view, g, &sink));
    kwr_error err = { 0 };
    const kwr_status status = in.ops->restore_end(in.engine, &err);
    if (status != KWR_OK) differs(p, err.text, __FILE__, __LINE__);
    return backend;
}

static void restart_from_images(program *p, kwr_view **views, uint32_t parallelism) {
    kwr_backend *restored[SUBTASKS_MAX];
    for (uint32_t i = 0; i < parallelism; i++)
        restored[i] = install_images(p, views, i, parallelism);
    job_close(p);
    job_adopt(p, restored, parallelism);
}

void job_restart(program *p, uint32_t parallelism) {
    const uint32_t before = p->parallelism;
    kwr_view *views[SUBTASKS_MAX];
    chain_job_changed(p);
    for (uint32_t i = 0; i < before; i++)
        MUST(kwr_backend_freeze(p->tasks[i].backend, &views[i]));
    /* What is written after the freeze is not part of the snapshot. */
    if (percent(p, 50)) {
        subtask *t = owner_of(p, 0);
        MUST(kwr_backend_set_key(t->backend, key_bytes(p, 0)));
        MUST(kwr_value_put(t->value, (kwr_slice){ "later", 5 }));
        t->has_key = true;
        t->key = 0;
    }
    if (p->engine->changes) p->registered = percent(p, 50) ? "memory" : "rocksdb";
    if (p->engine->snapshots)
        restart_from_snapshots(p, views, parallelism);
    else
        restart_from_images(p, views, parallelism);
    for (uint32_t i = 0; i < before; i++)
        kwr_view_release(views[i]);
}
