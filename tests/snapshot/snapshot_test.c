/* SPDX-License-Identifier: Apache-2.0 */
/* Views to storage and back: inline and in files, by several workers, in other key groups. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/snapshot/mini_job.h"
#include "tests/support/fault_env.h"

static const kwr_key_group_range ALL = { 0, 0 };

static kwr_snapshot_target target_of(const fixture *f) {
    kwr_snapshot_target target = {
        .struct_size = sizeof target,
        .env = f->env,
        .storage = f->storage,
        .job = "job",
        .operator_id = "count",
        .generation = 1,
        .checkpoint = 1,
    };
    memset(target.job_uid, 7, sizeof target.job_uid);
    return target;
}

/* A backend of these key groups with `count` entries, frozen. */
static kwr_view *frozen(const fixture *f, kwr_key_group_range range, uint32_t count,
                        uint32_t round) {
    const kwr_backend_options options = mini_options(f->env, range);
    kwr_backend *backend = NULL;
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    KWR_MUST(mini_fill(backend, range, count, round));
    KWR_MUST(kwr_backend_freeze(backend, &view));
    kwr_backend_close(backend); /* the view goes on without it */
    return view;
}

static void write_view(kwr_view *view, const kwr_snapshot_target *target,
                       kwr_snapshot_result *out) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_snapshot_write(view, target, NULL, out, &err), err);
}

static kwr_backend *restored(const fixture *f, kwr_key_group_range range,
                             const kwr_snapshot_result *results, size_t count) {
    const kwr_backend_options options = mini_options(f->env, range);
    kwr_slice handles[8];
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    for (size_t i = 0; i < count; i++)
        handles[i] = (kwr_slice){ results[i].handle.data, results[i].handle.size };
    KWR_MUST_ERR(kwr_snapshot_restore(&options, f->storage, "job", handles, count, &backend, &err),
                 err);
    return backend;
}

static int shared_files(const fixture *f) {
    char path[512];
    snprintf(path, sizeof path, "%s/job/shared", f->root);
    DIR *dir = opendir(path);
    int count = 0;
    if (dir == NULL) return 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void round_trip(uint32_t count, size_t inline_bytes, uint32_t threads, bool raw) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        fixture_open(&f, kind);
        kwr_snapshot_target target = target_of(&f);
        target.inline_bytes = inline_bytes;
        target.threads = threads;
        target.compression_off = raw;
        kwr_snapshot_result result = { 0 };
        kwr_view *view = frozen(&f, ALL, count, 5);
        write_view(view, &target, &result);
        kwr_view_release(view);
        cr_assert(result.entries == 2 * (uint64_t)count);
        if (count == 0)
            cr_assert(result.files == 0 && result.bytes_written == 0);
        else if (inline_bytes == 0)
            cr_assert(result.files >= 1 && result.files <= (threads == 0 ? 64 : threads));
        else
            cr_assert(result.files == 0 && result.bytes_written <= inline_bytes);
        if (kind == KIND_FILE) cr_assert(shared_files(&f) == (int)result.files);
        kwr_backend *backend = restored(&f, ALL, &result, 1);
        mini_expect(backend, ALL, count, 5);
        kwr_backend_close(backend);
        kwr_bytes_free(&result.handle);
        fixture_close(&f);
    }
}

KWR_TEST(snapshot, comes_back_from_files) { round_trip(500, 0, 1, false); }
KWR_TEST(snapshot, comes_back_from_inline_bytes) { round_trip(500, 1 << 20, 0, false); }
KWR_TEST(snapshot, comes_back_uncompressed) { round_trip(500, 0, 1, true); }
KWR_TEST(snapshot, of_nothing_has_no_file) {
    round_trip(0, 0, 0, false);
    round_trip(0, 1 << 20, 0, false);
}

KWR_TEST(snapshot, is_written_by_one_to_four_workers, .timeout = 300) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    enum { COUNT = 140000 };
    kwr_view *view = frozen(&f, ALL, COUNT, 9);
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kwr_snapshot_target target = target_of(&f);
        target.threads = threads;
        target.sequence = 100 * threads;
        kwr_snapshot_result result = { 0 };
        write_view(view, &target, &result);
        cr_assert(result.files >= 1 && result.files <= threads);
        if (threads == 1) cr_assert(result.files == 1);
        kwr_backend *backend = restored(&f, ALL, &result, 1);
        mini_expect(backend, ALL, COUNT, 9);
        kwr_backend_close(backend);
        kwr_bytes_free(&result.handle);
    }
    kwr_view_release(view);
    fixture_close(&f);
}

/* Releases a view when asked for randomness, as another thread might just then. */
typedef struct releasing {
    kwr_view *view;
    const kwr_random *random;
} releasing;

static kwr_status release_first(void *ctx, void *out, size_t size) {
    releasing *r = (releasing *)ctx;
    kwr_view_release(r->view);
    r->view = NULL;
    return r->random->bytes(r->random->ctx, out, size);
}

KWR_TEST(snapshot, of_a_view_released_meanwhile_is_whole) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    releasing r = { .view = frozen(&f, ALL, 3000, 4), .random = f.env->random };
    const kwr_random random = { sizeof random, &r, release_first };
    kwr_env env = *f.env;
    env.random = &random;
    kwr_snapshot_target target = target_of(&f);
    target.env = &env;
    kwr_snapshot_result result = { 0 };
    write_view(r.view, &target, &result);
    cr_assert(r.view == NULL, "released on the way");
    kwr_backend *backend = restored(&f, ALL, &result, 1);
    mini_expect(backend, ALL, 3000, 4);
    kwr_backend_close(backend);
    kwr_bytes_free(&result.handle);
    fixture_close(&f);
}

KWR_TEST(snapshot, goes_inline_up_to_exactly_the_limit) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_view *view = frozen(&f, ALL, 200, 1);
    kwr_snapshot_target target = target_of(&f);
    kwr_snapshot_result in_file = { 0 }, result = { 0 };
    target.threads = 1;
    write_view(view, &target, &in_file);
    target.inline_bytes = in_file.bytes_written;
    write_view(view, &target, &result);
    cr_assert(result.files == 0 && result.bytes_written == in_file.bytes_written);
    kwr_bytes_free(&result.handle);
    target.inline_bytes--;
    target.sequence = 1;
    write_view(view, &target, &result);
    cr_assert(result.files == 1);
    kwr_bytes_free(&result.handle);
    kwr_bytes_free(&in_file.handle);
    kwr_view_release(view);
    fixture_close(&f);
}

KWR_TEST(snapshot, never_writes_over_a_name_that_is_there) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_view *view = frozen(&f, ALL, 200, 1);
    kwr_snapshot_target target = target_of(&f);
    kwr_snapshot_result first = { 0 }, second = { 0 };
    write_view(view, &target, &first);
    write_view(view, &target, &second); /* the same sequence number again */
    cr_assert(shared_files(&f) == 2);
    kwr_backend *backend = restored(&f, ALL, &first, 1);
    mini_expect(backend, ALL, 200, 1);
    kwr_backend_close(backend);
    kwr_bytes_free(&first.handle);
    kwr_bytes_free(&second.handle);
    kwr_view_release(view);
    fixture_close(&f);
}

/* Written by `before` subtasks, restored by `after`. */
static void rescale(uint32_t before, uint32_t after, size_t inline_bytes) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_snapshot_result results[8] = { 0 };
    for (uint32_t i = 0; i < before; i++) {
        kwr_snapshot_target target = target_of(&f);
        target.subtask = i;
        target.inline_bytes = inline_bytes;
        kwr_view *view = frozen(&f, kwr_key_groups_of(i, before, MINI_GROUPS), 600, 3);
        write_view(view, &target, &results[i]);
        kwr_view_release(view);
    }
    for (uint32_t i = 0; i < after; i++) {
        const kwr_key_group_range range = kwr_key_groups_of(i, after, MINI_GROUPS);
        kwr_backend *backend = restored(&f, range, results, before);
        mini_expect(backend, range, 600, 3);
        kwr_backend_close(backend);
    }
    for (uint32_t i = 0; i < before; i++)
        kwr_bytes_free(&results[i].handle);
    fixture_close(&f);
}

KWR_TEST(snapshot, restores_into_other_key_groups) {
    rescale(1, 3, 0);
    rescale(3, 1, 0);
    rescale(2, 3, 1 << 20);
    rescale(3, 2, 0);
    rescale(5, 4, 1 << 20);
}

KWR_TEST(snapshot, cancelled_leaves_nothing) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_view *view = frozen(&f, ALL, 500, 1);
    const kwr_snapshot_target target = target_of(&f);
    kwr_snapshot_result result = { 0 };
    kwr_cancel cancel = { 0 };
    kwr_error err = { 0 };
    kwr_cancel_request(&cancel);
    KWR_EXPECT_ERR(KWR_ERR_CANCELLED, kwr_snapshot_write(view, &target, &cancel, &result, &err),
                   err);
    cr_assert(result.handle.data == NULL && shared_files(&f) == 0);
    kwr_view_release(view);
    fixture_close(&f);
}

/* Key groups that are written are let go while the owner goes on: the snapshot is of the freeze. */
KWR_TEST(snapshot, a_view_at_its_last_use_is_only_released) {
    for (int canonical = 0; canonical < 2; canonical++) {
        fixture f;
        fixture_open(&f, KIND_FILE);
        const kwr_backend_options options = mini_options(f.env, ALL);
        kwr_backend *backend = NULL;
        kwr_view *view = NULL;
        kwr_error err = { 0 };
        kwr_snapshot_result result = { 0 }, again = { 0 };
        kwr_snapshot_target target = target_of(&f);
        target.last_use = true;
        target.form = canonical ? KWR_SNAPSHOT_CANONICAL : KWR_SNAPSHOT_NATIVE;
        KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
        KWR_MUST(mini_fill(backend, ALL, 500, 1));
        KWR_MUST(kwr_backend_freeze(backend, &view));
        write_view(view, &target, &result);
        KWR_MUST(mini_fill(backend, ALL, 500, 2));
        KWR_EXPECT_ERR(KWR_ERR_MISUSE, kwr_snapshot_write(view, &target, NULL, &again, &err), err);
        cr_assert(strstr(err.text, "last_use") != NULL);
        kwr_state_size size = { .struct_size = sizeof size };
        KWR_EXPECT_ERR(KWR_ERR_MISUSE, kwr_view_get_size(view, 0, &size, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISUSE, kwr_view_get_group_size(view, 0, 0, &size, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISUSE, kwr_view_entries(view, 0, 0, NULL, NULL, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISUSE, kwr_view_keys(view, 0, (kwr_slice){ 0 }, NULL, NULL, &err),
                       err);
        kwr_view_release(view);
        kwr_backend_close(backend);
        backend = restored(&f, ALL, &result, 1);
        mini_expect(backend, ALL, 500, 1);
        kwr_backend_close(backend);
        kwr_bytes_free(&result.handle);
        fixture_close(&f);
    }
}

KWR_TEST(snapshot, is_refused_under_other_options) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_view *view = frozen(&f, (kwr_key_group_range){ 0, 8 }, 300, 1);
    kwr_snapshot_target target = target_of(&f);
    kwr_snapshot_result result = { 0 };
    write_view(view, &target, &result);
    kwr_view_release(view);
    const kwr_slice handles[2] = { { result.handle.data, result.handle.size },
                                   { result.handle.data, result.handle.size } };
    kwr_backend_options options[6];
    for (int i = 0; i < 6; i++)
        options[i] = mini_options(f.env, (kwr_key_group_range){ 0, 8 });
    options[0].max_parallelism = 32;
    options[1].seed++;
    options[2].key_type.kind = KWR_TYPE_I64;
    options[3].engine_key_groups = true;
    options[4].key_groups.count = 9; /* one more than was written */
    for (int i = 0; i < 6; i++) {
        kwr_backend *backend = NULL;
        kwr_error err = { 0 };
        /* The last: right options, the same key groups twice. */
        const kwr_status status = kwr_snapshot_restore(&options[i], f.storage, "job", handles,
                                                       i == 5 ? 2 : 1, &backend, &err);
        cr_assert(status == KWR_ERR_MISMATCH && backend == NULL, "%d: %s %s", i,
                  kwr_status_name(status), err.text);
    }
    kwr_bytes_free(&result.handle);
    fixture_close(&f);
}

KWR_TEST(snapshot, names_a_missing_file) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_view *view = frozen(&f, ALL, 300, 1);
    const kwr_snapshot_target target = target_of(&f);
    kwr_snapshot_result result = { 0 };
    write_view(view, &target, &result);
    kwr_view_release(view);
    char path[512];
    snprintf(path, sizeof path, "%s/job/shared/1-count-0-0.kwp", f.root);
    cr_assert(remove(path) == 0);
    const kwr_backend_options options = mini_options(f.env, ALL);
    const kwr_slice handle = { result.handle.data, result.handle.size };
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING,
                   kwr_snapshot_restore(&options, f.storage, "job", &handle, 1, &backend, &err),
                   err);
    cr_assert(strstr(err.text, "1-count-0-0.kwp") != NULL, "%s", err.text);
    kwr_bytes_free(&result.handle);
    fixture_close(&f);
}

/* ---- few descriptors ---- */

/* A storage to read from, with so many files open at once and no more. */
typedef struct scarce {
    kwr_storage storage;
    kwr_storage *inner;
    unsigned open, open_max, opened;
} scarce;

static kwr_storage *inner_of(kwr_storage *storage) { return ((scarce *)storage)->inner; }

static kwr_status scarce_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                  bool create, kwr_storage_dir **out, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->dir_open(inner, parent, name, create, out, err);
}

static void scarce_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    inner_of(storage)->ops->dir_close(inner_of(storage), dir);
}

static kwr_status scarce_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    scarce *s = (scarce *)storage;
    if (s->open == s->open_max)
        return KWR_FAIL(err, KWR_ERR_IO, 24, "cannot open '%s': too many open files", name);
    KWR_TRY(s->inner->ops->open(s->inner, dir, name, out, size, err));
    s->open++;
    s->opened++;
    return KWR_OK;
}

static kwr_status scarce_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                              void *data, size_t size, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->read(inner, reader, offset, data, size, err);
}

static void scarce_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    scarce *s = (scarce *)storage;
    s->inner->ops->close_reader(s->inner, reader);
    s->open--;
}

static void scarce_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                            size_t capacity) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->describe(inner, dir, name, out, capacity);
}

static const kwr_storage_ops scarce_ops = { .struct_size = sizeof scarce_ops,
                                            .dir_open = scarce_dir_open,
                                            .dir_close = scarce_dir_close,
                                            .open = scarce_open,
                                            .read = scarce_read,
                                            .close_reader = scarce_close_reader,
                                            .describe = scarce_describe };

KWR_TEST(snapshot, restores_from_more_files_than_may_be_open) {
    enum { PARTS = MINI_GROUPS, OPEN_MAX = 9 };
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_snapshot_result results[PARTS];
    kwr_slice handles[PARTS];
    for (uint32_t i = 0; i < PARTS; i++) {
        kwr_snapshot_target target = target_of(&f);
        target.subtask = i;
        const kwr_key_group_range range = kwr_key_groups_of(i, PARTS, MINI_GROUPS);
        kwr_view *view = frozen(&f, range, 500, 1);
        write_view(view, &target, &results[i]);
        kwr_view_release(view);
        handles[i] = (kwr_slice){ results[i].handle.data, results[i].handle.size };
    }
    fault_env *faults = fault_env_open(f.env, FAULT_INLINE); /* one worker */
    kwr_backend_options options = mini_options(fault_env_env(faults), ALL);
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    scarce s = { .storage = { &scarce_ops }, .inner = f.storage, .open_max = OPEN_MAX };
    KWR_MUST_ERR(kwr_snapshot_restore(&options, &s.storage, "job", handles, PARTS, &backend, &err),
                 err);
    cr_assert(s.open == 0 && s.opened > PARTS);
    mini_expect(backend, ALL, 500, 1);
    kwr_backend_close(backend);
    s.open_max = 0; /* it can be too few */
    KWR_EXPECT(KWR_ERR_IO,
               kwr_snapshot_restore(&options, &s.storage, "job", handles, PARTS, &backend, &err));
    cr_assert(strstr(err.text, "too many open files") != NULL && s.open == 0);
    for (uint32_t i = 0; i < PARTS; i++)
        kwr_bytes_free(&results[i].handle);
    fault_env_close(faults);
    fixture_close(&f);
}
