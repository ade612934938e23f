/* SPDX-License-Identifier: Apache-2.0 */
/* One budget for the memory of all databases: stated, checked, shared, and kept to. */
#include <sys/stat.h>
#include <unistd.h>

#include "backend/rocksdb/rocks_pool.h"
#include "tests/rocksdb/rocksdb_support.h"

static const uint64_t mib = 1 << 20;

/* ---- stated and checked ---- */

KWR_TEST(budget, too_little_is_refused_and_the_smallest_is_named) {
    kwr_resources_options options = { .struct_size = sizeof options,
                                      .rocksdb_memory_bytes = kwr_rocksdb_memory_min(1) - 1 };
    kwr_resources *resources = NULL;
    kwr_error err;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_resources_open(kwr_test_env(), &options, &resources, &err),
                   err);
    char smallest[32];
    (void)snprintf(smallest, sizeof smallest, "%llu",
                   (unsigned long long)kwr_rocksdb_memory_min(1));
    cr_assert(strstr(err.text, smallest) != NULL &&
                  strstr(err.text, "rocksdb_memory_bytes") != NULL,
              "%s", err.text);
    cr_assert(resources == NULL);
    options.rocksdb_memory_bytes = UINT64_MAX;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_resources_open(kwr_test_env(), &options, &resources, NULL));
    options.rocksdb_memory_bytes = 64 * mib;
    options.memory_bytes_max = 32 * mib;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_resources_open(kwr_test_env(), &options, &resources, &err),
                   err);
    cr_assert(strstr(err.text, "memory_bytes_max") != NULL, "%s", err.text);
}

/* RocksDB's own files are for everybody to read: the directory is not. */
KWR_TEST(budget, a_database_is_in_a_directory_of_its_owner) {
    const mode_t masks[] = { 0, 022, 077 };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        char path[256];
        struct stat st;
        kwr_error err = { 0 };
        kwr_backend *backend = NULL;
        kwr_resources *resources = rocks_resources(0, 64 * mib);
        const kwr_backend_options options = rocks_options(resources, path);
        const mode_t before = umask(masks[i]);
        const kwr_status status = kwr_backend_open(&options, &backend, &err);
        umask(before);
        KWR_MUST_ERR(status, err);
        cr_assert(stat(path, &st) == 0 && (st.st_mode & 0777) == 0700, "umask %o: %o",
                  (unsigned)masks[i], (unsigned)(st.st_mode & 0777));
        kwr_backend_close(backend);
        kwr_resources_close(resources);
    }
}

static kwr_status open_one_more(kwr_resources *resources, kwr_backend **out, kwr_error *err) {
    char path[256];
    const kwr_backend_options options = rocks_options(resources, path);
    const kwr_status status = kwr_backend_open(&options, out, err);
    if (status != KWR_OK) cr_assert(access(path, F_OK) != 0, "'%s' was made", path);
    return status;
}

KWR_TEST(budget, a_backend_it_does_not_carry_is_refused_and_harms_none) {
    kwr_resources *resources = rocks_resources(0, kwr_rocksdb_memory_min(2) + mib);
    cr_assert(rocks_stats(resources).rocksdb_backends_max == 2);
    kwr_backend *first = rocks_open(resources), *second = rocks_open(resources), *third = NULL;
    kwr_value *value = rocks_value(first, "v");
    rocks_set_key(first, 1);
    KWR_MUST(kwr_value_put(value, kwr_test_slice("kept")));
    kwr_error err;
    KWR_EXPECT_ERR(KWR_ERR_NOMEM, open_one_more(resources, &third, &err), err);
    cr_assert(third == NULL && strstr(err.text, "carries 2 open backends") != NULL &&
                  strstr(err.text, "to 36 MiB") != NULL,
              "%s", err.text);
    kwr_slice got;
    KWR_MUST(kwr_value_get(value, &got));
    KWR_ASSERT_SLICE(got, "kept");
    /* A view keeps its database, and the place with it. */
    kwr_view *view;
    KWR_MUST(kwr_backend_freeze(second, &view));
    kwr_backend_close(second);
    cr_assert(rocks_stats(resources).rocksdb_backends == 2);
    KWR_EXPECT(KWR_ERR_NOMEM, open_one_more(resources, &third, &err));
    kwr_view_release(view);
    cr_assert(rocks_stats(resources).rocksdb_backends == 1);
    KWR_MUST_ERR(open_one_more(resources, &third, &err), err);
    kwr_backend_close(third);
    kwr_backend_close(first);
    kwr_resources_close(resources);
}

KWR_TEST(budget, it_is_part_of_the_cap_over_everything) {
    kwr_resources *resources = rocks_resources(100 * mib, 60 * mib);
    cr_assert(kwr_resources_mapped(resources, NULL) == 0);
    kwr_backend *first = rocks_open(resources), *second = rocks_open(resources);
    cr_assert(kwr_resources_mapped(resources, NULL) == 60 * mib);
    /* The page store has what is left. */
    kwr_backend_options options = { .struct_size = sizeof options,
                                    .env = kwr_test_env(),
                                    .resources = resources };
    kwr_backend *memory = NULL;
    KWR_MUST(kwr_backend_open(&options, &memory, NULL));
    cr_assert(kwr_resources_mapped(resources, NULL) > 60 * mib);
    kwr_backend_close(memory);
    kwr_backend_close(first);
    kwr_backend_close(second);
    uint64_t peak = 0;
    const uint64_t mapped = kwr_resources_mapped(resources, &peak);
    cr_assert(mapped < 60 * mib && peak >= 60 * mib);
    kwr_resources_close(resources);

    /* Not stated: so much for each that is open, and refused when the cap does not have it. */
    resources = rocks_resources(150 * mib, 0);
    first = rocks_open(resources);
    cr_assert(rocks_stats(resources).rocksdb_budget_bytes == 96 * mib);
    kwr_error err;
    second = NULL;
    KWR_EXPECT_ERR(KWR_ERR_NOMEM, open_one_more(resources, &second, &err), err);
    cr_assert(strstr(err.text, "memory_bytes_max") != NULL, "%s", err.text);
    kwr_backend_close(first);
    cr_assert(kwr_resources_mapped(resources, NULL) == 0);
    cr_assert(rocks_stats(resources).rocksdb_budget_bytes == 0);
    kwr_resources_close(resources);
}

KWR_TEST(budget, without_a_stated_one_it_grows_with_the_backends) {
    kwr_resources *resources = rocks_resources(0, 0);
    kwr_backend *backends[6];
    for (unsigned i = 0; i < 6; i++) {
        backends[i] = rocks_open(resources);
        const kwr_resources_stats stats = rocks_stats(resources);
        cr_assert(stats.rocksdb_budget_bytes == (i + 1) * 96 * mib);
        cr_assert(stats.rocksdb_backends == i + 1 && stats.rocksdb_backends_max == UINT32_MAX);
    }
    for (unsigned i = 0; i < 6; i++)
        kwr_backend_close(backends[i]);
    cr_assert(rocks_stats(resources).rocksdb_used_bytes == 0);
    kwr_resources_close(resources);
}

/* ---- kept to ---- */

enum { BACKENDS = 3, VALUE_MOST = 2000, KEYS = 40000 };

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL || text[0] == '\0' ? otherwise : strtoull(text, NULL, 10);
}

typedef struct part {
    kwr_backend *backend;
    kwr_value *value;
    kwr_map *map;
    kwr_list *list;
    kwr_view *view; /* held for some rounds */
    uint64_t puts;
} part;

static void open_part(part *p, kwr_resources *resources) {
    *p = (part){ .backend = rocks_open(resources) };
    p->value = rocks_value(p->backend, "value");
    p->map = rocks_map(p->backend, "map");
    p->list = rocks_list(p->backend, "list");
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static kwr_status count_entry(void *ctx, const kwr_view_entry *entry) {
    (void)entry;
    ++*(uint64_t *)ctx;
    return KWR_OK;
}

/* Reads, writes, a walk through a map, sometimes a freeze and a walk through its view. */
static void step(part *p, uint64_t *random) {
    static uint8_t bytes[VALUE_MOST];
    const uint64_t key = next_random(random) % KEYS;
    rocks_set_key(p->backend, key);
    for (size_t i = 0; i < sizeof bytes; i += 8) {
        const uint64_t noise = next_random(random) * 0x9e3779b97f4a7c15u;
        memcpy(bytes + i, &noise, 8);
    }
    KWR_MUST(kwr_value_put(p->value, (kwr_slice){ bytes, 200 + key % (VALUE_MOST - 200) }));
    p->puts++;
    rocks_set_key(p->backend, key % 64);
    const uint64_t user = next_random(random) % 5000;
    KWR_MUST(kwr_map_put(p->map, KWR_SLICE_OF(user), (kwr_slice){ bytes, 100 }));
    rocks_set_key(p->backend, next_random(random) % KEYS);
    kwr_slice got;
    cr_assert(kwr_value_get(p->value, &got) >= KWR_OK);
    KWR_MUST(kwr_list_add(p->list, (kwr_slice){ bytes, 40 }));
}

static void walk_a_map(part *p, uint64_t key) {
    kwr_map_iterator *it;
    kwr_slice user, value;
    rocks_set_key(p->backend, key % 64);
    KWR_MUST(kwr_map_iterate(p->map, &it));
    for (unsigned i = 0; i < 200 && kwr_map_iterator_next(it, &user, &value) == KWR_OK; i++)
        cr_assert(value.size == 100);
    kwr_map_iterator_free(it);
}

static void freeze_and_walk(part *p) {
    kwr_view_release(p->view);
    KWR_MUST(kwr_backend_freeze(p->backend, &p->view));
    uint64_t met = 0;
    KWR_MUST(kwr_view_entries(p->view, 0, (uint32_t)(p->puts % 16), count_entry, &met, NULL));
    cr_assert(met > 0);
}

static void check_within(const kwr_resources *resources) {
    const kwr_resources_stats s = rocks_stats(resources);
    const uint64_t most = s.rocksdb_budget_bytes + s.rocksdb_budget_bytes / 10;
    cr_assert(s.rocksdb_used_bytes_peak <= most && s.rocksdb_used_bytes <= most,
              "budget %llu, used %llu (cache %llu, pinned %llu, memtables %llu, readers %llu), "
              "peak %llu",
              (unsigned long long)s.rocksdb_budget_bytes, (unsigned long long)s.rocksdb_used_bytes,
              (unsigned long long)s.rocksdb_cache_bytes, (unsigned long long)s.rocksdb_pinned_bytes,
              (unsigned long long)s.rocksdb_memtable_bytes,
              (unsigned long long)s.rocksdb_table_reader_bytes,
              (unsigned long long)s.rocksdb_used_bytes_peak);
}

/* KWR_BUDGET_STEPS: more of it; KWR_BUDGET_MIB: another budget. */
KWR_TEST(budget, several_backends_at_work_stay_within_a_tenth_of_it, .timeout = 600) {
    const uint64_t steps = from_environment("KWR_BUDGET_STEPS", 9000);
    const uint64_t size = from_environment("KWR_BUDGET_MIB", 0) * mib;
    kwr_resources *resources =
        rocks_resources(0, size == 0 ? kwr_rocksdb_memory_min(BACKENDS) : size);
    part parts[BACKENDS];
    uint64_t random = 7, most_cache = 0;
    open_part(&parts[0], resources);
    open_part(&parts[1], resources);
    for (uint64_t i = 0; i < steps; i++) {
        /* The last one joins when the others have filled what was theirs. */
        if (i == steps / 3) open_part(&parts[2], resources);
        for (unsigned j = 0; j < (i < steps / 3 ? 2 : BACKENDS); j++)
            step(&parts[j], &random);
        if (i % 50 == 49) walk_a_map(&parts[i / 50 % 2], i);
        if (i % 1000 == 999) freeze_and_walk(&parts[i / 1000 % 2]);
        if (i % 100 != 99) continue;
        check_within(resources);
        const uint64_t cache = rocks_stats(resources).rocksdb_cache_bytes;
        if (cache > most_cache) most_cache = cache;
    }
    const kwr_resources_stats s = rocks_stats(resources);
    /* It was used, and not by luck: what went through is many times the budget's memtables. */
    cr_assert(s.rocksdb_used_bytes_peak > s.rocksdb_budget_bytes / 4 && most_cache > mib);
    kwr_backend_stats one = { .struct_size = sizeof one };
    kwr_backend_get_stats(parts[0].backend, &one);
    cr_assert(one.memtable_bytes <= s.rocksdb_budget_bytes / 3 && one.table_reader_bytes > 0);
    if (getenv("KWR_BUDGET_STEPS") != NULL)
        (void)fprintf(stderr, "budget %llu KiB, most used %llu KiB, table readers %llu KiB\n",
                      (unsigned long long)s.rocksdb_budget_bytes / 1024,
                      (unsigned long long)s.rocksdb_used_bytes_peak / 1024,
                      (unsigned long long)s.rocksdb_table_reader_bytes / 1024);
    for (unsigned j = 0; j < BACKENDS; j++) {
        kwr_view_release(parts[j].view);
        kwr_backend_close(parts[j].backend);
    }
    kwr_resources_close(resources);
}

static uint64_t memtables(kwr_backend *backend) {
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    return stats.memtable_bytes;
}

static void put_much(kwr_backend *backend, kwr_value *value, uint64_t bytes) {
    static uint8_t data[1000];
    for (uint64_t i = 0; i * sizeof data < bytes; i++) {
        rocks_set_key(backend, i);
        KWR_MUST(kwr_value_put(value, (kwr_slice){ data, sizeof data }));
    }
}

KWR_TEST(budget, a_backend_that_joins_gets_an_equal_share_of_the_memtables) {
    kwr_resources *resources = rocks_resources(0, 96 * mib);
    kwr_backend *first = rocks_open(resources), *others[7];
    kwr_value *value = rocks_value(first, "v");
    put_much(first, value, 14 * mib);
    const uint64_t alone = memtables(first);
    cr_assert(alone > 12 * mib, "%llu", (unsigned long long)alone);
    for (unsigned i = 0; i < 7; i++)
        others[i] = rocks_open(resources);
    /* A few more calls, and what is beyond an eighth is flushed. */
    put_much(first, value, 4 * mib);
    cr_assert(memtables(first) <= 6 * mib, "%llu", (unsigned long long)memtables(first));
    for (unsigned i = 0; i < 7; i++)
        kwr_backend_close(others[i]);
    kwr_backend_close(first);
    kwr_resources_close(resources);
}

/* ---- a full cache ---- */

KWR_TEST(budget, a_read_never_fails_because_the_cache_is_full) {
    kwr_resources *resources = rocks_resources(0, kwr_rocksdb_memory_min(1));
    kwr_backend *backend = rocks_open(resources);
    rocks_pool *pool = (rocks_pool *)kwr_resources_share_of(resources, NULL);
    rocksdb_cache_set_capacity(pool->cache, 1);
    kwr_value *value = rocks_value(backend, "v"), *second = rocks_value(backend, "w");
    kwr_map *map = rocks_map(backend, "m");
    const size_t large = 3 * mib; /* one value is more than the cache ever holds */
    uint8_t *bytes = malloc(large);
    memset(bytes, 'x', large);
    for (uint64_t i = 0; i < 8; i++) {
        rocks_set_key(backend, i);
        KWR_MUST(kwr_value_put(value, (kwr_slice){ bytes, large }));
        KWR_MUST(kwr_value_put(second, (kwr_slice){ bytes, large / 2 }));
        for (uint64_t j = 0; j < 500; j++)
            KWR_MUST(kwr_map_put(map, KWR_SLICE_OF(j), (kwr_slice){ bytes, 100 }));
        rocksdb_cache_set_capacity(pool->cache, i % 2);
    }
    for (uint64_t i = 0; i < 8; i++) {
        kwr_slice one, other, user, element;
        kwr_map_iterator *it;
        rocks_set_key(backend, i);
        rocksdb_cache_set_capacity(pool->cache, i % 2);
        /* Borrowed side by side: both pinned. */
        KWR_MUST(kwr_value_get(value, &one));
        KWR_MUST(kwr_value_get(second, &other));
        cr_assert(one.size == large && memcmp(one.data, bytes, large) == 0);
        cr_assert(other.size == large / 2 && memcmp(other.data, bytes, large / 2) == 0);
        KWR_MUST(kwr_map_iterate(map, &it));
        uint64_t met = 0;
        while (kwr_map_iterator_next(it, &user, &element) == KWR_OK)
            met++;
        kwr_map_iterator_free(it);
        cr_assert(met == 500);
    }
    free(bytes);
    kwr_backend_close(backend);
    kwr_resources_close(resources);
}
