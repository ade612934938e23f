/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each file-system call and each allocation of writing the engine's files, and of writing them out
 * again for a restore, fails once: it says so, nothing is lost, and the next try succeeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/fixture.h"
#include "tests/support/fault_env.h"

enum { GROUPS = 8, KEYS = 64, SUBTASKS = 2, ALLOCATIONS = -1 };

static const uint8_t uid[16] = { 3 };

typedef struct setup {
    fixture f;
    fault_env *faults;
    const kwr_env *env;
    kwr_storage *storage;
    char parent[256];
    int directories;
    kwr_backend *backends[SUBTASKS];
    kwr_value *values[SUBTASKS];
    kwr_lineage *lineages[SUBTASKS];
    kwr_bytes handles[SUBTASKS]; /* of the latest checkpoint written whole */
    uint64_t checkpoint, sequence, written;
} setup;

static kwr_backend_options options_of(setup *s, char path[300], uint32_t i, uint32_t parallelism) {
    snprintf(path, 300, "%s/db-%d", s->parent, s->directories++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = s->env,
                                  .engine = "rocksdb",
                                  .max_parallelism = GROUPS,
                                  .key_groups = kwr_key_groups_of(i, parallelism, GROUPS),
                                  .key_type = { .kind = KWR_TYPE_I64 },
                                  .directory = path };
}

static kwr_value *open_value(kwr_backend *backend) {
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "value" };
    kwr_value *value = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_value_open(backend, &d, &value, &err), err);
    return value;
}

static void set_up(setup *s) {
    *s = (setup){ .sequence = 1 };
    kwr_error err = { 0 };
    fixture_open(&s->f, KIND_FILE);
    make_temp_dir(s->parent, sizeof s->parent);
    s->faults = fault_env_open(s->f.env, FAULT_INLINE);
    s->env = fault_env_env(s->faults);
    KWR_MUST_ERR(kwr_storage_open(s->env, s->f.root, false, &s->storage, &err), err);
    for (uint32_t i = 0; i < SUBTASKS; i++) {
        char path[300];
        const kwr_backend_options options = options_of(s, path, i, SUBTASKS);
        KWR_MUST_ERR(kwr_backend_open(&options, &s->backends[i], &err), err);
        s->values[i] = open_value(s->backends[i]);
        KWR_MUST_ERR(kwr_lineage_new(s->env, uid, "op", &s->lineages[i], &err), err);
    }
}

static void tear_down(setup *s) {
    for (uint32_t i = 0; i < SUBTASKS; i++) {
        kwr_bytes_free(&s->handles[i]);
        kwr_lineage_free(s->lineages[i]);
        kwr_backend_close(s->backends[i]);
    }
    kwr_storage_close(s->storage);
    fault_env_close(s->faults);
    remove_tree(s->parent);
    fixture_close(&s->f);
}

static uint32_t owner_of(const uint8_t key[8], uint32_t parallelism) {
    return kwr_key_group_owner(kwr_key_group((kwr_slice){ key, 8 }, 0, GROUPS), parallelism,
                               GROUPS);
}

static void put_all(setup *s, uint64_t what) {
    for (int64_t k = 0; k < KEYS; k++) {
        uint8_t key[8];
        kwr_key_from_i64(k, key);
        const uint32_t i = owner_of(key, SUBTASKS);
        KWR_MUST(kwr_backend_set_key(s->backends[i], (kwr_slice){ key, 8 }));
        KWR_MUST(kwr_value_put(s->values[i], KWR_SLICE_OF(what)));
    }
}

static kwr_status write_one(setup *s, uint32_t i, kwr_view *view, kwr_error *err) {
    kwr_snapshot_target t = { .struct_size = sizeof t,
                              .env = s->env,
                              .storage = s->storage,
                              .job = "job",
                              .operator_id = "op",
                              .subtask = i,
                              .generation = 1,
                              .checkpoint = s->checkpoint,
                              .sequence = s->sequence,
                              .lineage = s->lineages[i] };
    memcpy(t.job_uid, uid, sizeof uid);
    kwr_snapshot_result result = { 0 };
    const kwr_status status = kwr_snapshot_write(view, &t, NULL, &result, err);
    if (status < KWR_OK) {
        cr_assert(result.handle.data == NULL, "a failed write gives a handle");
        s->sequence += 100; /* names that the failed one may have used */
        return status;
    }
    kwr_bytes_free(&s->handles[i]);
    s->handles[i] = result.handle;
    s->sequence = result.sequence_next;
    s->written = result.bytes_written;
    return status;
}

static void write_all(setup *s) {
    kwr_error err = { 0 };
    s->checkpoint++;
    for (uint32_t i = 0; i < SUBTASKS; i++) {
        kwr_view *view = NULL;
        KWR_MUST(kwr_backend_freeze_files(s->backends[i], &view));
        KWR_MUST_ERR(write_one(s, i, view, &err), err);
        kwr_view_release(view);
        kwr_lineage_confirm(s->lineages[i], s->checkpoint);
    }
}

static kwr_status restore(setup *s, uint32_t i, uint32_t parallelism, char path[300],
                          kwr_backend **out, kwr_error *err) {
    const kwr_slice handles[SUBTASKS] = { { s->handles[0].data, s->handles[0].size },
                                          { s->handles[1].data, s->handles[1].size } };
    const kwr_backend_options options = options_of(s, path, i, parallelism);
    return kwr_snapshot_restore(&options, s->storage, "job", handles, SUBTASKS, out, err);
}

static void expect_all(kwr_backend *backend, uint32_t i, uint32_t parallelism, uint64_t what) {
    kwr_value *value = open_value(backend);
    for (int64_t k = 0; k < KEYS; k++) {
        uint8_t key[8];
        uint64_t number = 0;
        kwr_slice got = { 0 };
        kwr_key_from_i64(k, key);
        if (owner_of(key, parallelism) != i) continue;
        KWR_MUST(kwr_backend_set_key(backend, (kwr_slice){ key, 8 }));
        KWR_MUST(kwr_value_get(value, &got));
        cr_assert_eq(got.size, sizeof number);
        memcpy(&number, got.data, sizeof number);
        cr_assert_eq(number, what, "key %d", (int)k);
    }
}

static void expect_restores(setup *s, uint64_t what) {
    char path[300];
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(restore(s, 0, 1, path, &backend, &err), err);
    expect_all(backend, 0, 1, what);
    kwr_backend_close(backend);
}

static void fail(setup *s, int kind, uint64_t n) {
    if (kind == ALLOCATIONS)
        fault_env_fail_alloc(s->faults, n, FAULT_ONCE);
    else
        fault_env_fail_fs(s->faults, (fault_kind)kind, n, FAULT_ONCE);
}

static void must_say_why(setup *s, int kind, kwr_status status, const kwr_error *err) {
    const char *what = fault_env_fired_text(s->faults);
    if (status >= KWR_OK) return;
    cr_assert(fault_env_fired(s->faults) > 0, "%s: %s", kwr_status_name(status), err->text);
    cr_assert(err->status == status && err->text[0] != '\0', "%s: %s, \"%s\"", what,
              kwr_status_name(status), err->text);
    if (kind == ALLOCATIONS)
        cr_assert_eq(status, KWR_ERR_NOMEM, "%s: %s", what, kwr_status_name(status));
    if (kind == FAULT_ENOSPC)
        cr_assert_eq(status, KWR_ERR_NOSPACE, "%s: %s", what, kwr_status_name(status));
}

/* The n-th call of a write fails; true when there was one. */
static bool fail_write(setup *s, int kind, uint64_t n) {
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    put_all(s, n + 2);
    KWR_MUST(kwr_backend_freeze_files(s->backends[0], &view));
    s->checkpoint++;
    fail(s, kind, n);
    const kwr_status status = write_one(s, 0, view, &err);
    const bool fired = fault_env_fired(s->faults) > 0;
    must_say_why(s, kind, status, &err);
    fault_env_clear(s->faults);
    kwr_lineage_abort(s->lineages[0], s->checkpoint);
    s->checkpoint++; /* the same view once more */
    KWR_MUST_ERR(write_one(s, 0, view, &err), err);
    kwr_view_release(view);
    kwr_lineage_abort(s->lineages[0], s->checkpoint);
    return fired;
}

static void fail_writes(int kind) {
    setup s;
    uint64_t n = 0;
    set_up(&s);
    put_all(&s, 1);
    write_all(&s); /* the next ones refer to it */
    while (fail_write(&s, kind, n))
        n++;
    cr_assert_gt(n, 2, "only %d calls", (int)n);
    write_all(&s);
    expect_restores(&s, n + 2);
    tear_down(&s);
}

/* Into one backend out of two donors; a failed one leaves no directory. */
static void fail_restores(int kind) {
    setup s;
    bool fired = true;
    uint64_t n = 0;
    set_up(&s);
    put_all(&s, 1);
    write_all(&s);
    for (; fired; n++) {
        char path[300];
        kwr_backend *backend = NULL;
        kwr_error err = { 0 };
        fail(&s, kind, n);
        const kwr_status status = restore(&s, 0, 1, path, &backend, &err);
        fired = fault_env_fired(s.faults) > 0;
        must_say_why(&s, kind, status, &err);
        char what[500];
        snprintf(what, sizeof what, "%s", fault_env_fired_text(s.faults));
        fault_env_clear(s.faults);
        if (status >= KWR_OK) {
            expect_all(backend, 0, 1, 1);
            kwr_backend_close(backend);
        } else {
            cr_assert(backend == NULL);
            /* A directory whose removal failed stays; else nothing does. */
            cr_assert(!file_exists(path) || strstr(what, "remove") != NULL, "%s: %s is left", what,
                      path);
        }
    }
    cr_assert_gt(n, 4, "only %d calls", (int)n);
    expect_restores(&s, 1);
    tear_down(&s);
}

#define FAULTS(name, kind)                                                                \
    KWR_TEST(rocksdb_files_failure, writes_##name, .timeout = 300) { fail_writes(kind); } \
    KWR_TEST(rocksdb_files_failure, restores_##name, .timeout = 300) { fail_restores(kind); }
FAULTS(survive_an_error_at_every_call, FAULT_EIO)
FAULTS(survive_no_space_at_every_call, FAULT_ENOSPC)
FAULTS(go_on_after_every_short_write, FAULT_SHORT_WRITE)
FAULTS(survive_an_error_after_the_effect_at_every_call, FAULT_APPLIED)
FAULTS(survive_a_failure_of_every_allocation, ALLOCATIONS)
