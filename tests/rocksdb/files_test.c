/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of RocksDB's own files: what is written, what is referred to, what is restored. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/lineage.h"
#include "tests/snapshot/fixture.h"

enum { GROUPS = 32 };

static const uint8_t uid[16] = { 7 };

typedef struct run {
    fixture f;
    kwr_backend *backend;
    kwr_value *value;
    kwr_lineage *lineage;
    char parent[256];
    int directories;
    uint64_t checkpoint, sequence;
    kwr_snapshot_result last;
} run;

static kwr_backend_options options_of(run *r, char path[300], uint32_t subtask,
                                      uint32_t parallelism) {
    snprintf(path, 300, "%s/db-%d", r->parent, r->directories++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = r->f.env,
                                  .engine = "rocksdb",
                                  .max_parallelism = GROUPS,
                                  .key_groups = kwr_key_groups_of(subtask, parallelism, GROUPS),
                                  .key_type = { .kind = KWR_TYPE_I64 },
                                  .directory = path };
}

static void open_states(run *r) {
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = "count",
                               .type = { .kind = KWR_TYPE_BYTES } };
    cr_assert_eq(kwr_value_open(r->backend, &d, &r->value, NULL), KWR_OK, "%s",
                 kwr_backend_error(r->backend)->text);
}

static void new_lineage(run *r) {
    kwr_error err = { 0 };
    kwr_lineage_free(r->lineage);
    cr_assert_eq(kwr_lineage_new(r->f.env, uid, "count", &r->lineage, &err), KWR_OK);
}

static void run_open(run *r) {
    *r = (run){ .sequence = 1 };
    char path[300];
    fixture_open(&r->f, KIND_FILE);
    make_temp_dir(r->parent, sizeof r->parent);
    const kwr_backend_options o = options_of(r, path, 0, 1);
    kwr_error err = { 0 };
    cr_assert_eq(kwr_backend_open(&o, &r->backend, &err), KWR_OK, "%s", err.text);
    open_states(r);
    new_lineage(r);
}

static void run_close(run *r) {
    kwr_bytes_free(&r->last.handle);
    kwr_backend_close(r->backend);
    kwr_lineage_free(r->lineage);
    remove_tree(r->parent);
    fixture_close(&r->f);
}

static void set_key(const run *r, int64_t key) {
    uint8_t bytes[8];
    kwr_key_from_i64(key, bytes);
    cr_assert_eq(kwr_backend_set_key(r->backend, (kwr_slice){ bytes, 8 }), KWR_OK, "%s",
                 kwr_backend_error(r->backend)->text);
}

/* Values that do not compress. */
static uint64_t word(int64_t key, uint64_t what, uint64_t i) {
    uint64_t h = (uint64_t)key * 0x9e3779b97f4a7c15u + what * 0xbf58476d1ce4e5b9u + i;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

static void put(const run *r, int64_t key, uint64_t what) {
    uint64_t value[16];
    for (size_t i = 0; i < 16; i++)
        value[i] = word(key, what, i);
    set_key(r, key);
    cr_assert_eq(kwr_value_put(r->value, (kwr_slice){ value, sizeof value }), KWR_OK);
}

static void put_many(const run *r, int64_t from, int64_t to, uint64_t what) {
    for (int64_t k = from; k < to; k++)
        put(r, k, what);
}

static void expect_many(const run *r, int64_t from, int64_t to, uint64_t what) {
    for (int64_t k = from; k < to; k++) {
        kwr_slice value = { 0 };
        set_key(r, k);
        const kwr_status status = kwr_value_get(r->value, &value);
        uint64_t first = 0;
        if (status == KWR_OK) memcpy(&first, value.data, 8);
        cr_assert(status == KWR_OK && value.size == 128 && first == word(k, what, 0),
                  "key %lld: status %d", (long long)k, status);
    }
}

static kwr_snapshot_target target_of(run *r) {
    kwr_snapshot_target t = { .struct_size = sizeof t,
                              .env = r->f.env,
                              .storage = r->f.storage,
                              .job = "job",
                              .operator_id = "count",
                              .generation = 1,
                              .checkpoint = ++r->checkpoint,
                              .sequence = r->sequence,
                              .lineage = r->lineage };
    memcpy(t.job_uid, uid, sizeof uid);
    return t;
}

/* The next checkpoint's part; its fate is open. */
static uint64_t snapshot(run *r) {
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    cr_assert_eq(kwr_backend_freeze_files(r->backend, &view), KWR_OK, "%s",
                 kwr_backend_error(r->backend)->text);
    const kwr_snapshot_target t = target_of(r);
    kwr_bytes_free(&r->last.handle);
    cr_assert_eq(kwr_snapshot_write(view, &t, NULL, &r->last, &err), KWR_OK, "%s", err.text);
    kwr_view_release(view);
    r->sequence = r->last.sequence_next;
    return r->checkpoint;
}

static kwr_status resume(run *r, const kwr_slice *handles, size_t count, uint32_t subtask,
                         uint32_t parallelism, kwr_backend **out, kwr_error *err) {
    char path[300];
    const kwr_backend_options o = options_of(r, path, subtask, parallelism);
    return kwr_snapshot_resume(&o, r->f.storage, "job", handles, count, r->lineage, out, err);
}

/* As a new attempt: another backend from the latest snapshot. */
static void restart(run *r) {
    kwr_error err = { 0 };
    const kwr_slice handle = { r->last.handle.data, r->last.handle.size };
    kwr_backend_close(r->backend);
    r->backend = NULL;
    new_lineage(r);
    cr_assert_eq(resume(r, &handle, 1, 0, 1, &r->backend, &err), KWR_OK, "%s", err.text);
    open_states(r);
}

KWR_TEST(rocksdb_files, a_checkpoint_refers_to_the_tables_of_the_confirmed_one) {
    run r;
    run_open(&r);
    put_many(&r, 0, 20000, 1);
    const uint64_t first = snapshot(&r);
    const uint64_t full = r.last.bytes_written;
    cr_expect_gt(full, 20000 * 100);
    kwr_lineage_confirm(r.lineage, first);
    put_many(&r, 0, 100, 2);
    const uint64_t second = snapshot(&r);
    cr_expect_lt(r.last.bytes_written, full / 10);
    cr_expect_gt(r.last.files_used, r.last.files);
    cr_expect_gt(r.last.bytes_used, full);
    kwr_lineage_confirm(r.lineage, second);
    restart(&r);
    expect_many(&r, 0, 100, 2);
    expect_many(&r, 100, 20000, 1);
    run_close(&r);
}

KWR_TEST(rocksdb_files, only_what_a_completed_checkpoint_confirmed_is_referred_to) {
    run r;
    run_open(&r);
    put_many(&r, 0, 5000, 1);
    const uint64_t first = snapshot(&r);
    const uint64_t full = r.last.bytes_written;
    (void)snapshot(&r); /* the first is open: nothing is known to last */
    cr_expect_geq(r.last.bytes_written, full * 9 / 10);
    kwr_lineage_abort(r.lineage, first);
    const uint64_t third = snapshot(&r);
    cr_expect_geq(r.last.bytes_written, full * 9 / 10);
    kwr_lineage_confirm(r.lineage, third);
    (void)snapshot(&r);
    cr_expect_lt(r.last.bytes_written, full / 10);
    run_close(&r);
}

KWR_TEST(rocksdb_files, a_restored_backend_goes_on_with_increments) {
    run r;
    run_open(&r);
    put_many(&r, 0, 20000, 1);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    const uint64_t full = r.last.bytes_written;
    for (uint64_t attempt = 2; attempt < 5; attempt++) {
        restart(&r);
        expect_many(&r, 200, 20000, 1);
        put_many(&r, 0, 100, attempt);
        const uint64_t id = snapshot(&r);
        cr_expect_lt(r.last.bytes_written, full / 5, "attempt %d wrote %d of %d", (int)attempt,
                     (int)r.last.bytes_written, (int)full);
        kwr_lineage_confirm(r.lineage, id);
        expect_many(&r, 0, 100, attempt);
    }
    run_close(&r);
}

KWR_TEST(rocksdb_files, what_is_in_memory_is_part_of_every_checkpoint) {
    run r;
    run_open(&r);
    put(&r, 1, 1);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    put(&r, 1, 2);
    put(&r, 2, 2);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    restart(&r);
    expect_many(&r, 1, 3, 2);
    run_close(&r);
}

KWR_TEST(rocksdb_files, an_empty_backend_has_a_checkpoint_too) {
    run r;
    run_open(&r);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    restart(&r);
    set_key(&r, 1);
    kwr_slice value = { 0 };
    cr_expect_eq(kwr_value_get(r.value, &value), KWR_NOT_FOUND);
    put(&r, 1, 1);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    restart(&r);
    expect_many(&r, 1, 2, 1);
    run_close(&r);
}

KWR_TEST(rocksdb_files, a_view_reads_while_it_has_files_and_they_go_with_it) {
    run r;
    run_open(&r);
    put_many(&r, 0, 100, 1);
    kwr_view *view = NULL;
    cr_assert_eq(kwr_backend_freeze_files(r.backend, &view), KWR_OK);
    char path[400];
    snprintf(path, sizeof path, "%s/db-0/checkpoint-1/CURRENT", r.parent);
    cr_expect(file_exists(path));
    put_many(&r, 0, 100, 2);
    kwr_backend_close(r.backend);
    r.backend = NULL;
    cr_expect(file_exists(path));
    kwr_view_release(view);
    cr_expect(!file_exists(path));
    snprintf(path, sizeof path, "%s/db-0", r.parent);
    cr_expect(!file_exists(path), "the directory is left");
    run_close(&r);
}

KWR_TEST(rocksdb_files, restores_at_another_parallelism_and_back) {
    run r;
    run_open(&r);
    put_many(&r, 0, 5000, 1);
    kwr_lineage_confirm(r.lineage, snapshot(&r));
    const kwr_slice whole = { r.last.handle.data, r.last.handle.size };
    kwr_slice halves[2];
    kwr_snapshot_result results[2] = { 0 };
    kwr_error err = { 0 };
    for (uint32_t i = 0; i < 2; i++) {
        kwr_backend *half = NULL;
        kwr_view *view = NULL;
        new_lineage(&r);
        cr_assert_eq(resume(&r, &whole, 1, i, 2, &half, &err), KWR_OK, "%s", err.text);
        cr_assert_eq(kwr_backend_freeze_files(half, &view), KWR_OK);
        kwr_snapshot_target t = target_of(&r);
        t.subtask = i;
        cr_assert_eq(kwr_snapshot_write(view, &t, NULL, &results[i], &err), KWR_OK, "%s", err.text);
        halves[i] = (kwr_slice){ results[i].handle.data, results[i].handle.size };
        kwr_view_release(view);
        kwr_backend_close(half);
    }
    kwr_backend_close(r.backend);
    r.backend = NULL;
    new_lineage(&r);
    cr_assert_eq(resume(&r, halves, 2, 0, 1, &r.backend, &err), KWR_OK, "%s", err.text);
    open_states(&r);
    expect_many(&r, 0, 5000, 1);
    for (int i = 0; i < 2; i++)
        kwr_bytes_free(&results[i].handle);
    run_close(&r);
}

KWR_TEST(rocksdb_files, a_view_without_files_is_written_as_entries) {
    run r;
    run_open(&r);
    put_many(&r, 0, 500, 1);
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    cr_assert_eq(kwr_backend_freeze(r.backend, &view), KWR_OK);
    const kwr_snapshot_target t = target_of(&r);
    cr_assert_eq(kwr_snapshot_write(view, &t, NULL, &r.last, &err), KWR_OK, "%s", err.text);
    kwr_view_release(view);
    cr_expect_eq(r.last.entries, 500);
    kwr_backend_options o = { .struct_size = sizeof o,
                              .env = r.f.env,
                              .max_parallelism = GROUPS,
                              .key_type = { .kind = KWR_TYPE_I64 } };
    kwr_backend_close(r.backend);
    r.backend = NULL;
    const kwr_slice handle = { r.last.handle.data, r.last.handle.size };
    cr_assert_eq(kwr_snapshot_restore(&o, r.f.storage, "job", &handle, 1, &r.backend, &err), KWR_OK,
                 "%s", err.text);
    open_states(&r);
    expect_many(&r, 0, 500, 1);
    run_close(&r);
}

KWR_TEST(rocksdb_files, the_page_store_refuses_files_and_says_what_to_do) {
    run r;
    run_open(&r);
    put_many(&r, 0, 10, 1);
    (void)snapshot(&r);
    const kwr_slice handle = { r.last.handle.data, r.last.handle.size };
    kwr_backend_options o = { .struct_size = sizeof o,
                              .env = r.f.env,
                              .max_parallelism = GROUPS,
                              .key_type = { .kind = KWR_TYPE_I64 } };
    kwr_backend *none = NULL;
    kwr_error err = { 0 };
    cr_expect_eq(kwr_snapshot_restore(&o, r.f.storage, "job", &handle, 1, &none, &err),
                 KWR_ERR_MISMATCH);
    cr_expect_not_null(strstr(err.text, "canonical"), "%s", err.text);
    cr_expect_null(none);
    run_close(&r);
}
