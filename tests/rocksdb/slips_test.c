/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slips of a caller: whatever is closed too early, left open or asked of too late, RocksDB never
 * sees a handle that is gone. Under the address sanitizer these tests say more.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/rocksdb/rocksdb_support.h"

typedef struct opened {
    kwr_backend *backend;
    kwr_value *value;
    kwr_map *map;
    kwr_list *list;
} opened;

static opened filled(kwr_resources *resources) {
    opened o = { .backend = rocks_open(resources) };
    o.value = rocks_value(o.backend, "value");
    o.map = rocks_map(o.backend, "map");
    o.list = rocks_list(o.backend, "list");
    for (uint64_t i = 0; i < 50; i++) {
        rocks_set_key(o.backend, i % 5);
        KWR_MUST(kwr_value_put(o.value, KWR_SLICE_OF(i)));
        KWR_MUST(kwr_map_put(o.map, KWR_SLICE_OF(i), KWR_SLICE_OF(i)));
        KWR_MUST(kwr_list_add(o.list, KWR_SLICE_OF(i)));
    }
    return o;
}

static kwr_status count_entry(void *ctx, const kwr_view_entry *entry) {
    (void)entry;
    ++*(uint64_t *)ctx;
    return KWR_OK;
}

static uint64_t entries_of(const kwr_view *view, size_t state) {
    uint64_t met = 0;
    for (uint32_t group = 0; group < 16; group++)
        KWR_MUST(kwr_view_entries(view, state, group, count_entry, &met, NULL));
    return met;
}

KWR_TEST(slips, a_backend_is_closed_with_everything_of_it_in_use) {
    kwr_resources *resources = rocks_resources(0, 0);
    opened o = filled(resources);
    kwr_map_iterator *maps[2];
    kwr_list_iterator *list;
    kwr_key_batch *batch;
    kwr_slice user, value;
    void *lent;
    rocks_set_key(o.backend, 3);
    KWR_MUST(kwr_map_iterate(o.map, &maps[0]));
    KWR_MUST(kwr_map_iterate(o.map, &maps[1]));
    KWR_MUST(kwr_map_iterator_next(maps[1], &user, &value));
    KWR_MUST(kwr_list_iterate(o.list, &list));
    KWR_MUST(kwr_list_iterator_next(list, &value));
    KWR_MUST(kwr_key_batch_new(o.backend, 4, &batch));
    const uint64_t key = 4;
    KWR_MUST(kwr_key_batch_load(batch, &KWR_SLICE_OF(key), NULL, 1));
    KWR_MUST(kwr_value_modify(o.value, KWR_KEEP_SIZE, &lent, NULL));
    kwr_backend_close(o.backend); /* neither iterators nor the batch freed, and bytes lent */
    kwr_resources_close(resources);
}

KWR_TEST(slips, the_resources_are_closed_first) {
    kwr_resources *resources = rocks_resources(0, 64 << 20);
    opened o = filled(resources);
    kwr_view *view;
    KWR_MUST(kwr_backend_freeze(o.backend, &view));
    kwr_resources_close(resources);
    rocks_set_key(o.backend, 2);
    kwr_slice got;
    KWR_MUST(kwr_value_get(o.value, &got));
    for (uint64_t i = 0; i < 200; i++)
        KWR_MUST(kwr_value_put(o.value, KWR_SLICE_OF(i)));
    kwr_backend_close(o.backend);
    cr_assert(entries_of(view, 1) == 50);
    kwr_view_release(view);
}

KWR_TEST(slips, of_the_page_store_too) {
    kwr_resources *resources = rocks_resources(256 << 20, 0);
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = kwr_test_env(),
                                          .resources = resources };
    kwr_backend *backend;
    KWR_MUST(kwr_backend_open(&options, &backend, NULL));
    kwr_value *value = rocks_value(backend, "v");
    kwr_view *view;
    for (uint64_t i = 0; i < 1000; i++) {
        rocks_set_key(backend, i);
        KWR_MUST(kwr_value_put(value, KWR_SLICE_OF(i)));
    }
    KWR_MUST(kwr_backend_freeze(backend, &view));
    kwr_resources_close(resources);
    kwr_backend_close(backend);
    uint64_t met = 0;
    for (uint32_t group = 0; group < KWR_MAX_PARALLELISM_DEFAULT; group++)
        KWR_MUST(kwr_view_entries(view, 0, group, count_entry, &met, NULL));
    cr_assert(met == 1000);
    kwr_view_release(view);
}

KWR_TEST(slips, views_outlive_the_backend_in_any_order) {
    for (unsigned order = 0; order < 3; order++) {
        kwr_resources *resources = rocks_resources(0, 0);
        opened o = filled(resources);
        kwr_view *views[3];
        for (unsigned i = 0; i < 3; i++) {
            KWR_MUST(kwr_backend_freeze(o.backend, &views[i]));
            rocks_set_key(o.backend, i);
            KWR_MUST(kwr_map_clear(o.map));
        }
        kwr_backend_close(o.backend);
        kwr_resources_close(resources);
        cr_assert(entries_of(views[0], 1) == 50 && entries_of(views[2], 1) == 30);
        for (unsigned i = 0; i < 3; i++)
            kwr_view_release(views[(i + order) % 3]);
    }
}

KWR_TEST(slips, a_state_that_is_not_in_a_view_is_refused) {
    opened o = filled(NULL);
    kwr_view *view;
    KWR_MUST(kwr_backend_freeze(o.backend, &view));
    (void)rocks_value(o.backend, "later");
    uint64_t met = 0;
    kwr_error err;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_view_entries(view, 3, 0, count_entry, &met, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_view_entries(view, 0, 16, count_entry, &met, &err), err);
    kwr_view_release(view);
    kwr_backend_close(o.backend);
}

KWR_TEST(slips, iterators_are_asked_beyond_their_ends_and_after_changes) {
    opened o = filled(NULL);
    kwr_map_iterator *it;
    kwr_slice user, value;
    rocks_set_key(o.backend, 3);
    KWR_MUST(kwr_map_iterate(o.map, &it));
    unsigned met = 0;
    while (kwr_map_iterator_next(it, &user, &value) == KWR_OK)
        met++;
    cr_assert(met == 10);
    for (unsigned i = 0; i < 3; i++)
        KWR_EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(it, &user, &value));
    KWR_MUST(kwr_map_iterator_seek_first(it));
    for (unsigned i = 0; i < 3; i++)
        KWR_EXPECT(KWR_NOT_FOUND, kwr_map_iterator_previous(it, &user, &value));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
    KWR_MUST(kwr_map_iterator_next(it, &user, &value));
    KWR_MUST(kwr_map_clear(o.map)); /* what it stands on goes */
    cr_assert(kwr_map_iterator_next(it, &user, &value) != KWR_OK);
    cr_assert(kwr_map_iterator_remove(it) != KWR_OK);
    rocks_set_key(o.backend, 4);
    cr_assert(kwr_map_iterator_next(it, &user, &value) != KWR_OK);
    kwr_map_iterator_free(it);
    /* Of nothing: an iterator that is never valid. */
    rocks_set_key(o.backend, 99);
    KWR_MUST(kwr_map_iterate(o.map, &it));
    KWR_EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(it, &user, &value));
    KWR_EXPECT(KWR_NOT_FOUND, kwr_map_iterator_previous(it, &user, &value));
    kwr_map_iterator_free(it);
    KWR_EXPECT(KWR_NOT_FOUND, kwr_map_first(o.map, &user, &value));
    KWR_EXPECT(KWR_NOT_FOUND, kwr_map_last(o.map, &user, &value));
    kwr_backend_close(o.backend);
}

KWR_TEST(slips, an_open_that_fails_leaves_nothing) {
    kwr_resources *resources = rocks_resources(0, 0);
    kwr_backend *backend = NULL;
    kwr_error err;
    char path[256], below[300];
    kwr_backend_options options = rocks_options(resources, path);
    options.directory = NULL;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_backend_open(&options, &backend, &err));
    options.directory = "";
    KWR_EXPECT(KWR_ERR_RANGE, kwr_backend_open(&options, &backend, &err));
    (void)snprintf(below, sizeof below, "%s/missing/below", path);
    options.directory = below;
    cr_assert(kwr_backend_open(&options, &backend, &err) < KWR_OK);
    cr_assert(strstr(err.text, below) != NULL, "%s", err.text);
    kwr_test_write_file(path, "a file", 6);
    options.directory = path;
    cr_assert(kwr_backend_open(&options, &backend, &err) < KWR_OK);
    cr_assert(strstr(err.text, path) != NULL, "%s", err.text);
    cr_assert(backend == NULL && rocks_stats(resources).rocksdb_backends == 0);
    cr_assert(kwr_resources_mapped(resources, NULL) == 0);
    size_t size;
    void *bytes = kwr_test_read_file(path, &size);
    cr_assert(size == 6 && memcmp(bytes, "a file", 6) == 0);
    free(bytes);
    kwr_resources_close(resources);
}
