/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical snapshots: the same images whichever engine wrote them and whatever way the state came
 * to it, and a backend of every engine made from them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/canonical.h"
#include "keyweir/snapshot.h"
#include "snapshot/manifest.h"
#include "tests/conformance/every_kind.h"
#include "tests/support/kwr_test.h"

#ifdef KWR_ROCKSDB
static const char *const other = "rocksdb";
#else
static const char *const other = "memory";
#endif

enum { PARTS_MAX = 5 };

/* All images of all key groups, one after the other, with what the index would say of each. */
typedef struct images {
    uint8_t *bytes;
    size_t size, capacity;
    size_t count;
} images;

static void append(images *all, const void *data, size_t size) {
    if (all->size + size > all->capacity) {
        all->capacity = 2 * (all->size + size);
        all->bytes = realloc(all->bytes, all->capacity);
        cr_assert(all->bytes != NULL);
    }
    memcpy(all->bytes + all->size, data, size);
    all->size += size;
}

static kwr_status take(void *ctx, const kwr_page_image *image) {
    images *all = ctx;
    const uint64_t says[] = { image->kind,  image->state,   image->key_group, image->page_id,
                              image->depth, image->entries, image->prefix,    image->size };
    append(all, says, sizeof says);
    append(all, image->bytes, image->size);
    all->count++;
    return KWR_OK;
}

static void add_images(kwr_backend *backend, images *all) {
    kwr_page_sink sink = { .ctx = all, .image = take };
    kwr_view *view;
    KWR_MUST(kwr_backend_freeze(backend, &view));
    for (uint32_t i = 0; i < view->key_groups.count; i++)
        KWR_MUST(kwr_canonical_images(view, view->key_groups.first + i, &sink));
    kwr_view_release(view);
}

static kwr_backend_options options_of(const char *engine, char path[256]) {
    static unsigned number;
    (void)snprintf(path, 256, "%s/%u", kwr_test_dir(), number++);
    return every_kind_options(kwr_test_env(), engine, strcmp(engine, "rocksdb") == 0 ? path : NULL);
}

static kwr_backend *filled(const char *engine, bool winding) {
    char path[256];
    kwr_error err;
    kwr_backend *backend;
    const kwr_backend_options options = options_of(engine, path);
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    KWR_MUST_ERR(every_kind_fill(backend, winding, &err), err);
    return backend;
}

static void expect_same(const images *a, const images *b, const char *when) {
    cr_assert(a->count == b->count && a->size == b->size, "%s: %zu images of %zu bytes, %zu of %zu",
              when, a->count, a->size, b->count, b->size);
    cr_assert(memcmp(a->bytes, b->bytes, a->size) == 0, "%s", when);
}

KWR_TEST(canonical, every_engine_gives_the_same_images_whatever_way_the_state_came_to_it) {
    images first = { 0 };
    kwr_backend *backend = filled("memory", false);
    add_images(backend, &first);
    kwr_backend_close(backend);
    cr_assert(first.count > 5 * EVERY_KIND_GROUPS);
    const char *engines[] = { "memory", other, other };
    const bool winding[] = { true, false, true };
    for (int i = 0; i < 3; i++) {
        images next = { 0 };
        backend = filled(engines[i], winding[i]);
        add_images(backend, &next);
        expect_same(&first, &next, engines[i]);
        kwr_backend_close(backend);
        free(next.bytes);
    }
    free(first.bytes);
}

KWR_TEST(canonical, entries_are_ordered_by_size_and_bytes_of_key_and_then_of_namespace) {
    static const char bytes[300];
    const kwr_slice none = { bytes, 0 }, one = { "b", 1 }, two = { "ab", 2 },
                    other_two = { "ac", 2 };
    const kwr_slice long_one = { bytes, 128 }, longer = { bytes, 256 };
    cr_assert(kwr_canonical_compare(one, none, one, none) == 0);
    cr_assert(kwr_canonical_compare(one, two, two, none) < 0, "sizes before bytes");
    cr_assert(kwr_canonical_compare(two, one, other_two, none) < 0, "the key before the namespace");
    cr_assert(kwr_canonical_compare(two, one, two, none) > 0);
    /* 128 is 80 01, 256 is 80 02, and 300 is ac 02: as the varints' bytes. */
    cr_assert(kwr_canonical_compare(long_one, none, longer, none) < 0);
    cr_assert(kwr_canonical_compare((kwr_slice){ bytes, 129 }, none, longer, none) > 0);
}

/* ---- through storage ---- */

typedef struct place {
    kwr_storage *storage;
    uint64_t checkpoint;
} place;

static kwr_snapshot_target target_of(const place *p, uint32_t subtask) {
    return (kwr_snapshot_target){ .struct_size = sizeof(kwr_snapshot_target),
                                  .env = kwr_test_env(),
                                  .storage = p->storage,
                                  .job = "moving",
                                  .operator_id = "op",
                                  .subtask = subtask,
                                  .generation = p->checkpoint,
                                  .checkpoint = p->checkpoint,
                                  .form = KWR_SNAPSHOT_CANONICAL };
}

static kwr_snapshot_result snapshot(kwr_backend *backend, const kwr_snapshot_target *target) {
    kwr_view *view;
    kwr_error err;
    kwr_snapshot_result result;
    KWR_MUST(kwr_backend_freeze(backend, &view));
    KWR_MUST_ERR(kwr_snapshot_write(view, target, NULL, &result, &err), err);
    kwr_view_release(view);
    return result;
}

/* Restores `parts` backends of `engine` from the handles, compares all they hold with `first`, and
 * puts the handles of their canonical snapshots in the place of those. */
static void move_on(place *p, kwr_bytes handles[PARTS_MAX], uint32_t *count, const char *engine,
                    uint32_t parts, const images *first) {
    images all = { 0 };
    kwr_bytes next[PARTS_MAX];
    kwr_slice given[PARTS_MAX];
    for (uint32_t i = 0; i < *count; i++)
        given[i] = (kwr_slice){ handles[i].data, handles[i].size };
    p->checkpoint++;
    for (uint32_t part = 0; part < parts; part++) {
        char path[256];
        kwr_error err;
        kwr_backend *backend;
        kwr_backend_options options = options_of(engine, path);
        options.key_groups = kwr_key_groups_of(part, parts, EVERY_KIND_GROUPS);
        KWR_MUST_ERR(
            kwr_snapshot_restore(&options, p->storage, "moving", given, *count, &backend, &err),
            err);
        add_images(backend, &all);
        const kwr_snapshot_target target = target_of(p, part);
        next[part] = snapshot(backend, &target).handle;
        kwr_backend_close(backend);
    }
    expect_same(first, &all, engine);
    free(all.bytes);
    for (uint32_t i = 0; i < *count; i++)
        kwr_bytes_free(&handles[i]);
    memcpy(handles, next, sizeof next);
    *count = parts;
}

KWR_TEST(canonical, from_engine_to_engine_and_back_at_other_parallelisms_nothing_changes) {
    place p = { .checkpoint = 1 };
    images first = { 0 };
    kwr_error err;
    KWR_MUST_ERR(kwr_storage_memory_open(kwr_test_env(), 0, &p.storage, &err), err);
    kwr_backend *backend = filled("memory", false);
    add_images(backend, &first);
    kwr_bytes handles[PARTS_MAX];
    const kwr_snapshot_target target = target_of(&p, 0);
    handles[0] = snapshot(backend, &target).handle;
    uint32_t count = 1;
    kwr_backend_close(backend);
    move_on(&p, handles, &count, other, 3, &first);
    move_on(&p, handles, &count, "memory", 2, &first);
    move_on(&p, handles, &count, other, 5, &first);
    move_on(&p, handles, &count, other, 1, &first);
    move_on(&p, handles, &count, "memory", 4, &first);
    for (uint32_t i = 0; i < count; i++)
        kwr_bytes_free(&handles[i]);
    free(first.bytes);
    kwr_storage_close(p.storage);
}

KWR_TEST(canonical, the_handle_says_so_and_the_files_are_in_nobodys_increments) {
    place p = { .checkpoint = 1 };
    kwr_error err;
    kwr_lineage *lineage;
    const uint8_t uid[16] = { 3 };
    KWR_MUST_ERR(kwr_storage_memory_open(kwr_test_env(), 0, &p.storage, &err), err);
    KWR_MUST_ERR(kwr_lineage_new(kwr_test_env(), uid, "op", &lineage, &err), err);
    const char *engines[] = { "memory", other };
    for (int i = 0; i < 2; i++) {
        kwr_backend *backend = filled(engines[i], false);
        kwr_snapshot_target target = target_of(&p, 0);
        target.sequence = (uint64_t)i * 1000;
        target.lineage = lineage;
        memcpy(target.job_uid, uid, sizeof uid);
        uint64_t written = 0;
        for (uint64_t checkpoint = 1; checkpoint <= 2; checkpoint++) {
            target.checkpoint = (uint64_t)i * 2 + checkpoint;
            kwr_snapshot_result result = snapshot(backend, &target);
            kwr_lineage_confirm(lineage, target.checkpoint);
            target.sequence = result.sequence_next;
            cr_assert(result.files == result.files_used && result.bytes_written > 0);
            cr_assert(checkpoint == 1 || result.bytes_written == written, "all of it again");
            written = result.bytes_written;
            kwr_subtask_part *part;
            const kwr_slice handle = { result.handle.data, result.handle.size };
            KWR_MUST_ERR(
                kwr_subtask_part_decode(kwr_test_env(), NULL, handle, "handle", &part, &err), err);
            cr_assert_str_eq(part->subtask.format, "entries-1");
            kwr_subtask_part_free(part);
            kwr_bytes_free(&result.handle);
        }
        kwr_backend_close(backend);
    }
    kwr_lineage_free(lineage);
    kwr_storage_close(p.storage);
}

KWR_TEST(canonical, an_unknown_form_is_refused) {
    place p = { .checkpoint = 1 };
    kwr_error err;
    kwr_view *view;
    kwr_snapshot_result result;
    KWR_MUST_ERR(kwr_storage_memory_open(kwr_test_env(), 0, &p.storage, &err), err);
    kwr_backend *backend = filled("memory", false);
    kwr_snapshot_target target = target_of(&p, 0);
    target.form = (kwr_snapshot_form)2;
    KWR_MUST(kwr_backend_freeze(backend, &view));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_snapshot_write(view, &target, NULL, &result, &err));
    cr_assert(strstr(err.text, "form") != NULL, "%s", err.text);
    kwr_view_release(view);
    kwr_backend_close(backend);
    kwr_storage_close(p.storage);
}

/* ---- what cannot be counted ---- */

static kwr_status count_fails(kwr_engine_view *view, uint32_t state, kwr_state_count *out) {
    (void)view, (void)out;
    return state == 0 ? KWR_OK : KWR_ERR_CORRUPT;
}

KWR_TEST(canonical, a_state_that_cannot_be_counted_fails_the_snapshot_and_says_which) {
    place p = { .checkpoint = 1 };
    kwr_error err;
    kwr_view *view;
    kwr_snapshot_result result;
    KWR_MUST_ERR(kwr_storage_memory_open(kwr_test_env(), 0, &p.storage, &err), err);
    kwr_backend *backend = filled("memory", false);
    KWR_MUST(kwr_backend_freeze(backend, &view));
    const kwr_engine_ops *whole = view->ops;
    kwr_engine_ops broken = *whole;
    broken.view_count = count_fails;
    view->ops = &broken;
    for (int form = KWR_SNAPSHOT_NATIVE; form <= KWR_SNAPSHOT_CANONICAL; form++) {
        kwr_snapshot_target target = target_of(&p, 0);
        target.form = (kwr_snapshot_form)form;
        KWR_EXPECT(KWR_ERR_CORRUPT, kwr_snapshot_write(view, &target, NULL, &result, &err));
        cr_assert(strstr(err.text, "'number'") != NULL, "%s", err.text);
    }
    kwr_state_size size = { .struct_size = sizeof size };
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_view_get_size(view, 1, &size, &err));
    cr_assert(strstr(err.text, "'number'") != NULL, "%s", err.text);
    view->ops = whole;
    kwr_view_release(view);
    kwr_backend_close(backend);
    kwr_storage_close(p.storage);
}
