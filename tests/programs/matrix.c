/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The matrix: fixed snapshots, each restored at every parallelism, compared with the model; what is
 * read from storage is counted, and must be what the key groups own with the tables of the files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "snapshot/data_reader.h"
#include "tests/programs/counting.h"
#include "tests/programs/operators.h"
#include "tests/programs/states.h"

enum { OPERATIONS_OF_SNAPSHOT = 400 };

typedef struct stored {
    program *p;
    kwr_storage *storage;
    counting counted;
    kwr_bytes handles[SUBTASKS_MAX];
    uint32_t handle_count;
} stored;

typedef struct bytes_read {
    uint64_t read;   /* from storage */
    uint64_t owned;  /* images of the key groups wanted */
    uint64_t tables; /* headers, indexes and footers of the files that have some */
} bytes_read;

static void write_all(stored *s) {
    program *p = s->p;
    MUST(kwr_storage_memory_open(p->env, 0, &s->storage, NULL));
    counting_init(&s->counted, s->storage);
    s->handle_count = p->parallelism;
    for (uint32_t i = 0; i < p->parallelism; i++) {
        kwr_view *view;
        MUST(kwr_backend_freeze(p->tasks[i].backend, &view));
        const kwr_snapshot_target target = { .struct_size = sizeof target,
                                             .env = p->env,
                                             .storage = s->storage,
                                             .job = "matrix",
                                             .operator_id = "op",
                                             .subtask = i,
                                             .generation = 1,
                                             .checkpoint = 1,
                                             .threads = 2 };
        kwr_snapshot_result result;
        MUST(kwr_snapshot_write(view, &target, NULL, &result, NULL));
        s->handles[i] = result.handle;
        kwr_view_release(view);
    }
    operators_checkpoint(p);
}

/* What one file must cost a reader of these key groups. */
static void add_file(const stored *s, kwr_storage_dir *shared, const kwr_subtask_part *part,
                     const kwr_manifest_file *file, kwr_key_group_range wanted, bytes_read *sum) {
    const program *p = s->p;
    kwr_limits limits;
    MUST(kwr_limits_complete(NULL, &limits, NULL));
    const kwr_data_owner owner = { .limits = &limits,
                                   .subtask = &part->subtask,
                                   .max_parallelism = part->max_parallelism,
                                   .seed = part->seed };
    kwr_data_file open;
    MUST(kwr_data_file_open(p->env, s->storage, shared, file, &owner, &open, NULL));
    MUST(kwr_data_file_load(&open, NULL));
    sum->tables += KWR_DATA_HEADER_SIZE + KWR_DATA_FOOTER_SIZE + open.index_length;
    for (uint64_t i = 0; i < file->images; i++) {
        kwr_data_entry entry;
        kwr_data_file_entry(&open, i, &entry);
        if (entry.key_group - wanted.first < wanted.count)
            sum->owned += KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
    }
    kwr_data_file_close(&open);
}

static bool common(kwr_key_group_range a, kwr_key_group_range b) {
    return a.first < b.first + b.count && b.first < a.first + a.count;
}

static void add_owned(const stored *s, kwr_key_group_range wanted, bytes_read *sum) {
    const program *p = s->p;
    kwr_limits limits;
    MUST(kwr_limits_complete(NULL, &limits, NULL));
    kwr_storage_dir *job = NULL, *shared = NULL;
    MUST(s->storage->ops->dir_open(s->storage, NULL, "matrix", false, &job, NULL));
    MUST(s->storage->ops->dir_open(s->storage, job, "shared", false, &shared, NULL));
    for (uint32_t i = 0; i < s->handle_count; i++) {
        kwr_subtask_part *part = NULL;
        const kwr_slice handle = { s->handles[i].data, s->handles[i].size };
        MUST(kwr_subtask_part_decode(p->env, &limits, handle, "handle", &part, NULL));
        if (common(part->subtask.key_groups, wanted))
            for (size_t f = 0; f < part->subtask.file_count; f++)
                add_file(s, shared, part, &part->subtask.files[f], wanted, sum);
        kwr_subtask_part_free(part);
    }
    s->storage->ops->dir_close(s->storage, shared);
    s->storage->ops->dir_close(s->storage, job);
}

/* All handles are offered; those of other key groups must not be looked into. */
static void restore_at(stored *s, uint32_t parallelism, bytes_read *sum) {
    program *p = s->p;
    kwr_backend *restored[SUBTASKS_MAX];
    kwr_slice handles[SUBTASKS_MAX];
    for (uint32_t i = 0; i < s->handle_count; i++)
        handles[i] = (kwr_slice){ s->handles[i].data, s->handles[i].size };
    for (uint32_t i = 0; i < parallelism; i++) {
        char directory[DIRECTORY_MAX];
        const kwr_backend_options options = job_options(p, i, parallelism, directory);
        bytes_read want = { 0 };
        add_owned(s, options.key_groups, &want);
        atomic_store(&s->counted.bytes_read, 0);
        kwr_error err = { 0 };
        if (kwr_snapshot_restore(&options, &s->counted.base, "matrix", handles, s->handle_count,
                                 &restored[i], &err) != KWR_OK)
            differs(p, err.text, __FILE__, __LINE__);
        want.read = atomic_load(&s->counted.bytes_read);
        REQUIRE(want.read == want.owned + want.tables);
        sum->read += want.read;
        sum->owned += want.owned;
        sum->tables += want.tables;
    }
    job_close(p);
    job_adopt(p, restored, parallelism);
    compare_job(p);
    frozen all = { 0 };
    freeze_job(p, &all);
    end_frozen(p, &all, true);
    operators_restore(p, parallelism);
    operators_compare(p, true);
}

/* One fixed snapshot at every parallelism; its bytes are added to sums[parallelism]. */
static void run_snapshot(kwr_env *env, uint32_t number, uint32_t max_parallelism, uint32_t step,
                         bytes_read *sums) {
    const program_options options = { .seed = 1000 + number,
                                      .engine = engine_find("memory"),
                                      .operations = OPERATIONS_OF_SNAPSHOT,
                                      .max_parallelism = max_parallelism,
                                      .parallelism = 1 + number * 5 % SUBTASKS_MAX };
    stored s = { .p = program_begin(env, &options) };
    s.p->compare_all = false;
    program_operations(s.p);
    s.p->doing = "restore at every parallelism";
    write_all(&s);
    for (uint32_t n = 1 + number % step; n <= SUBTASKS_MAX; n += step)
        restore_at(&s, n, &sums[n]);
    for (uint32_t i = 0; i < s.handle_count; i++)
        kwr_bytes_free(&s.handles[i]);
    kwr_storage_close(s.storage);
    program_end(s.p);
}

void matrix_run(kwr_env *env, uint32_t snapshots, uint32_t step) {
    const uint32_t maxima[] = { 16, 128, 32768 };
    uint64_t restores = 0;
    puts("max parallelism  parallelism     bytes read    bytes owned  tables of files");
    for (size_t m = 0; m < sizeof maxima / sizeof maxima[0]; m++) {
        bytes_read sums[SUBTASKS_MAX + 1] = { 0 };
        for (uint32_t number = 0; number < snapshots; number++)
            run_snapshot(env, number, maxima[m], step, sums);
        for (uint32_t n = 1; n <= SUBTASKS_MAX; n++) {
            if (sums[n].read == 0) continue;
            printf("%15u %12u %14llu %14llu %16llu\n", maxima[m], n,
                   (unsigned long long)sums[n].read, (unsigned long long)sums[n].owned,
                   (unsigned long long)sums[n].tables);
        }
        restores += snapshots * ((SUBTASKS_MAX + step - 1) / step);
        fflush(stdout);
    }
    printf("%u snapshots, about %llu restored jobs, all equal to the model\n", snapshots,
           (unsigned long long)restores);
}
