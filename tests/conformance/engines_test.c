/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From every engine into every other, at another parallelism: what one has written the next one
 * holds, whatever shape either keeps it in.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/conformance/conformance.h"

enum { KEYS = 60, LONG = 3000, GROUPS = 16, PARTS = 3 };

static const char *const engines[] = {
    "memory",
#ifdef KWR_ROCKSDB
    "rocksdb",
#endif
};
enum { ENGINES = sizeof engines / sizeof engines[0] };

typedef struct handles {
    kwr_value *value;
    kwr_reducing *sum;
    kwr_list *list;
    kwr_map *map;
    kwr_raw *raw;
} handles;

static kwr_backend_options options_of(const char *engine, char path[200]) {
    static unsigned number;
    (void)snprintf(path, 200, "%s/%u", kwr_test_dir(), number++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = kwr_test_env(),
                                  .engine = engine,
                                  .max_parallelism = GROUPS,
                                  .seed = 11,
                                  .directory = strcmp(engine, "rocksdb") == 0 ? path : NULL };
}

static handles open_handles(kwr_backend *backend) {
    handles h;
    kwr_error err;
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = { .kind = KWR_TYPE_I64 },
                                          .reduce = KWR_REDUCE_SUM };
    const kwr_list_descriptor list = { .struct_size = sizeof list, .name = "list" };
    const kwr_map_descriptor map = { .struct_size = sizeof map, .name = "map" };
    const kwr_raw_descriptor raw = { .struct_size = sizeof raw, .name = "raw" };
    KWR_MUST_ERR(kwr_value_open(backend, &value, &h.value, &err), err);
    KWR_MUST_ERR(kwr_reducing_open(backend, &sum, &h.sum, &err), err);
    KWR_MUST_ERR(kwr_list_open(backend, &list, &h.list, &err), err);
    KWR_MUST_ERR(kwr_map_open(backend, &map, &h.map, &err), err);
    KWR_MUST_ERR(kwr_raw_open(backend, &raw, &h.raw, &err), err);
    return h;
}

/* Every tenth key has collections far beyond one page, and a value beyond one too. */
static size_t elements_of(unsigned key) { return key % 10 == 0 ? LONG : key % 5; }
static size_t value_size(unsigned key) { return key % 10 == 0 ? 20000 : key; }

static kwr_slice text(char out[32], const char *what, size_t number) {
    return (kwr_slice){ out, (size_t)snprintf(out, 32, "%s%zu", what, number) };
}

static void fill(kwr_backend *backend) {
    const handles h = open_handles(backend);
    static uint8_t bytes[20000];
    char key[32], part[32];
    for (unsigned i = 0; i < KEYS; i++) {
        KWR_MUST(kwr_backend_set_key(backend, text(key, "key", i)));
        memset(bytes, (int)i, sizeof bytes);
        KWR_MUST(kwr_value_put(h.value, (kwr_slice){ bytes, value_size(i) }));
        const int64_t number = i;
        KWR_MUST(kwr_reducing_add(h.sum, (kwr_slice){ &number, sizeof number }, NULL));
        KWR_MUST(kwr_list_set_namespace(h.list, text(key, "window", i % 3)));
        for (size_t j = 0; j < elements_of(i); j++) {
            KWR_MUST(kwr_list_add(h.list, text(part, "element", j)));
            KWR_MUST(kwr_map_put(h.map, text(part, "user", j * 7919 % LONG),
                                 (kwr_slice){ bytes, j % 50 }));
        }
    }
    for (uint32_t group = 0; group < GROUPS; group += 3)
        KWR_MUST(kwr_raw_put(h.raw, group, text(part, "raw", group)));
}

static void check_list(kwr_list *list, unsigned i) {
    char part[32];
    kwr_list_iterator *it;
    kwr_slice got;
    KWR_MUST(kwr_list_iterate(list, &it));
    for (size_t j = 0; j < elements_of(i); j++) {
        const kwr_slice want = text(part, "element", j);
        KWR_MUST(kwr_list_iterator_next(it, &got));
        cr_assert(got.size == want.size && memcmp(got.data, want.data, want.size) == 0);
    }
    KWR_EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
    kwr_list_iterator_free(it);
    KWR_MUST(kwr_list_add(list, (kwr_slice){ "more", 4 })); /* it goes on where it ended */
    uint64_t count;
    KWR_MUST(kwr_list_count(list, &count));
    cr_assert(count == elements_of(i) + 1);
}

static void check_map(kwr_map *map, unsigned i) {
    char part[32], last[32] = "";
    uint64_t count;
    KWR_MUST(kwr_map_count(map, &count));
    cr_assert(count == elements_of(i));
    for (size_t j = 0; j < elements_of(i); j++) {
        kwr_slice got;
        KWR_MUST(kwr_map_get(map, text(part, "user", j * 7919 % LONG), &got));
        cr_assert(got.size == j % 50 && (got.size == 0 || *(const uint8_t *)got.data == i));
    }
    kwr_map_iterator *it;
    kwr_slice user_key;
    size_t met = 0;
    KWR_MUST(kwr_map_iterate(map, &it));
    while (kwr_map_iterator_next(it, &user_key, NULL) == KWR_OK) {
        (void)snprintf(part, sizeof part, "%.*s", (int)user_key.size, (const char *)user_key.data);
        cr_assert(strcmp(last, part) < 0);
        memcpy(last, part, sizeof last);
        met++;
    }
    kwr_map_iterator_free(it);
    cr_assert(met == count);
}

/* Holds what fill() made of the owned keys; gives the number of those. */
static unsigned check(kwr_backend *backend, kwr_key_group_range owned) {
    const handles h = open_handles(backend);
    char key[32];
    unsigned held = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        const kwr_slice k = text(key, "key", i);
        const uint32_t group = kwr_key_group(k, 11, GROUPS);
        if (group < owned.first || group >= owned.first + owned.count) continue;
        held++;
        KWR_MUST(kwr_backend_set_key(backend, k));
        kwr_slice got;
        KWR_MUST(kwr_value_get(h.value, &got));
        cr_assert(got.size == value_size(i));
        for (size_t j = 0; j < got.size; j++)
            cr_assert(((const uint8_t *)got.data)[j] == i);
        KWR_MUST(kwr_reducing_get(h.sum, &got));
        const int64_t number = i;
        cr_assert(got.size == sizeof number && memcmp(got.data, &number, sizeof number) == 0);
        KWR_MUST(kwr_list_set_namespace(h.list, text(key, "window", i % 3)));
        check_list(h.list, i);
        check_map(h.map, i);
    }
    for (uint32_t group = owned.first; group < owned.first + owned.count; group++) {
        kwr_slice got;
        const kwr_slice want = text(key, "raw", group);
        KWR_EXPECT(group % 3 == 0 ? KWR_OK : KWR_NOT_FOUND, kwr_raw_get(h.raw, group, &got));
        if (group % 3 == 0)
            cr_assert(got.size == want.size && memcmp(got.data, want.data, want.size) == 0);
    }
    return held;
}

static kwr_bytes snapshot(kwr_backend *backend, kwr_storage *storage, uint64_t number) {
    kwr_view *view;
    kwr_error err;
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = kwr_test_env(),
                                         .storage = storage,
                                         .job = "engines",
                                         .operator_id = "op",
                                         .generation = number,
                                         .checkpoint = number };
    kwr_snapshot_result result;
    KWR_MUST(kwr_backend_freeze(backend, &view));
    KWR_MUST_ERR(kwr_snapshot_write(view, &target, NULL, &result, &err), err);
    kwr_view_release(view);
    return result.handle;
}

static void move(const char *from, const char *to) {
    kwr_storage *storage;
    kwr_error err;
    char path[200];
    KWR_MUST_ERR(kwr_storage_memory_open(kwr_test_env(), 0, &storage, &err), err);
    kwr_backend *backend;
    kwr_backend_options options = options_of(from, path);
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    fill(backend);
    kwr_bytes whole = snapshot(backend, storage, 1);
    kwr_backend_close(backend);
    unsigned held = 0;
    for (uint32_t part = 0; part < PARTS; part++) {
        const kwr_slice handle = { whole.data, whole.size };
        options = options_of(to, path);
        options.key_groups = kwr_key_groups_of(part, PARTS, GROUPS);
        KWR_MUST_ERR(kwr_snapshot_restore(&options, storage, "engines", &handle, 1, &backend, &err),
                     err);
        held += check(backend, options.key_groups);
        kwr_backend_close(backend);
        struct stat gone;
        cr_assert(stat(path, &gone) != 0, "%s is left", path);
    }
    cr_assert(held == KEYS);
    kwr_bytes_free(&whole);
    kwr_storage_close(storage);
}

KWR_TEST(engines, each_restores_the_snapshots_of_every_other_at_another_parallelism) {
    for (size_t from = 0; from < ENGINES; from++)
        for (size_t to = 0; to < ENGINES; to++)
            move(engines[from], engines[to]);
}
