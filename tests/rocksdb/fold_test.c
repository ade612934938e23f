/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that are folded unread: what leaves its type and comes back, whatever RocksDB folded
 * in between, and bytes that are no operand.
 */
#include "backend/rocksdb/rocks.h"
#include "base/limits.h"
#include "tests/support/kwr_test.h"

static const kwr_engine_ops *ops;

typedef struct place {
    kwr_resources *resources;
    kwr_limits limits;
    kwr_engine *engine;
} place;

static const kwr_type_kind kinds[] = { KWR_TYPE_I32, KWR_TYPE_I64, KWR_TYPE_U64, KWR_TYPE_F64 };

static place *place_open(void) {
    static place p;
    kwr_error err;
    char path[200];
    p = (place){ 0 };
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    const kwr_limits none = { .struct_size = sizeof none };
    KWR_MUST_ERR(kwr_resources_open(kwr_test_env(), &pool, &p.resources, &err), err);
    KWR_MUST_ERR(kwr_limits_complete(&none, &p.limits, &err), err);
    (void)snprintf(path, sizeof path, "%s/folds", kwr_test_dir());
    const kwr_engine_config config = { .env = kwr_test_env(),
                                       .resources = p.resources,
                                       .max_parallelism = 4,
                                       .key_groups = { 0, 4 },
                                       .limits = &p.limits,
                                       .hash_mask = UINT64_MAX,
                                       .directory = path };
    ops = kwr_engine_find("rocksdb");
    cr_assert(ops != NULL);
    KWR_MUST_ERR(ops->open(&config, &p.engine, &err), err);
    for (uint32_t id = 0; id < 4; id++) {
        const kwr_state_info info = {
            .id = id, .kind = KWR_STATE_REDUCING, .name = "number", .type = { .kind = kinds[id] }
        };
        KWR_MUST(ops->add_state(p.engine, &info));
    }
    return &p;
}

static void place_close(place *p) {
    ops->close(p->engine);
    kwr_resources_close(p->resources);
}

static kwr_address at_state(uint32_t state, uint64_t hash) {
    return (kwr_address){ .state = state, .key_group = 1, .entry_hash = hash, .key = { "key", 3 } };
}

static void add(place *p, uint32_t state, kwr_reduce_kind reduce, int64_t number) {
    const kwr_address at = at_state(state, 0);
    const kwr_slice value = { &number, kinds[state] == KWR_TYPE_I32 ? 4 : 8 };
    KWR_MUST(ops->fold(p->engine, &at, (kwr_fold){ kinds[state], reduce }, value));
}

static int64_t number_of(kwr_slice value) {
    int32_t small;
    int64_t number;
    if (value.size == 4) {
        memcpy(&small, value.data, 4);
        return small;
    }
    cr_assert(value.size == 8);
    memcpy(&number, value.data, 8);
    return number;
}

/* The number, when there is one in its type. */
static kwr_status get(place *p, uint32_t state, int64_t *out) {
    const kwr_address at = at_state(state, 0);
    kwr_slice value = { 0 };
    const kwr_status status = ops->get(p->engine, &at, &value);
    if (status == KWR_OK) *out = number_of(value);
    return status;
}

enum { SETTLE_NOT, SETTLE_FLUSH, SETTLE_COMPACT };

static void settle(place *p, uint32_t state, int how) {
    char *words = NULL;
    const rocks_db *db = p->engine->db;
    if (how == SETTLE_NOT) return;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush_cf(db->db, options, db->families[state], &words);
    cr_assert(words == NULL);
    rocksdb_flushoptions_destroy(options);
    if (how == SETTLE_COMPACT)
        rocksdb_compact_range_cf(db->db, db->families[state], NULL, 0, NULL, 0);
}

static kwr_status note(void *ctx, const kwr_entry *entry) {
    *(int64_t *)ctx = number_of(entry->value);
    return KWR_OK;
}

static int64_t in_view(place *p, uint32_t state) {
    kwr_engine_view *view;
    int64_t number = 0;
    KWR_MUST(ops->freeze(p->engine, &view));
    KWR_MUST(ops->view_walk(view, state, 1, note, &number));
    ops->view_release(view);
    return number;
}

KWR_TEST(rocks_folds, a_sum_beyond_its_type_is_told_and_comes_back) {
    static const struct {
        uint32_t state;
        int64_t start, more, end;
    } rows[] = {
        { 0, INT32_MAX, 1, INT32_MAX },     { 0, INT32_MIN, -1, INT32_MIN },
        { 1, INT64_MAX, 1, INT64_MAX },     { 1, INT64_MIN, -1, INT64_MIN },
        { 2, -1 /* the largest */, 1, -1 },
    };
    for (int how = SETTLE_NOT; how <= SETTLE_COMPACT; how++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            place *p = place_open();
            const uint32_t state = rows[i].state;
            const kwr_address at = at_state(state, 0);
            int64_t number = 0;
            void *into;
            size_t old;
            add(p, state, KWR_REDUCE_SUM, rows[i].start);
            settle(p, state, how);
            for (int n = 0; n < 100; n++) { /* past the bound of the chain */
                add(p, state, KWR_REDUCE_SUM, rows[i].more);
                if (n % 30 == 0) settle(p, state, how);
            }
            KWR_EXPECT(KWR_ERR_RANGE, get(p, state, &number));
            cr_assert(strstr(ops->detail(p->engine), "beyond") != NULL);
            KWR_EXPECT(KWR_ERR_RANGE, ops->modify(p->engine, &at, 8, &into, &old));
            cr_assert(in_view(p, state) == rows[i].end);
            if (state != 2) { /* nothing can be taken from a u64 */
                for (int n = 0; n < 100; n++)
                    add(p, state, KWR_REDUCE_SUM, -rows[i].more);
                settle(p, state, how);
                KWR_MUST(get(p, state, &number));
                cr_assert(number == rows[i].start);
                add(p, state, KWR_REDUCE_SUM, rows[i].more);
            }
            KWR_MUST(ops->remove(p->engine, &at));
            KWR_EXPECT(KWR_NOT_FOUND, get(p, state, &number));
            add(p, state, KWR_REDUCE_SUM, 7);
            KWR_MUST(get(p, state, &number));
            cr_assert(number == 7);
            place_close(p);
        }
    }
}

KWR_TEST(rocks_folds, real_sums_are_those_of_one_add_after_the_other) {
    place *p = place_open();
    double want = 0;
    for (int n = 0; n < 500; n++) {
        const double value = n % 2 == 0 ? 1e16 / (n + 1) : -1.0 / (n + 3);
        int64_t bits;
        memcpy(&bits, &value, sizeof bits);
        add(p, 3, KWR_REDUCE_SUM, bits);
        want = n == 0 ? value : want + value;
        if (n % 50 == 49) settle(p, 3, n % 100 == 99 ? SETTLE_COMPACT : SETTLE_FLUSH);
    }
    const kwr_address at = at_state(3, 0);
    kwr_slice got;
    KWR_MUST(ops->get(p->engine, &at, &got));
    cr_assert(got.size == sizeof want && memcmp(got.data, &want, sizeof want) == 0);
    place_close(p);
}

KWR_TEST(rocks_folds, a_minimum_and_a_maximum_survive_compaction) {
    place *p = place_open();
    int64_t number = 0;
    for (int n = 0; n < 300; n++) {
        add(p, 0, KWR_REDUCE_MIN, 1000 - n);
        add(p, 1, KWR_REDUCE_MAX, n % 200);
        if (n % 40 == 0) settle(p, 0, SETTLE_FLUSH), settle(p, 1, SETTLE_COMPACT);
    }
    KWR_MUST(get(p, 0, &number));
    cr_assert(number == 701);
    KWR_MUST(get(p, 1, &number));
    cr_assert(number == 199);
    place_close(p);
}

KWR_TEST(rocks_folds, bytes_that_are_no_operand_or_no_number_are_damage) {
    static const struct {
        const char *bytes;
        size_t size;
        bool merge;
    } cases[] = {
        { "\2", 1, true },
        { "\2\3\1\0\0", 5, true },
        { "\2\5\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 19, true },
        { "\2\3\0\0\0\0\0\0\0\0\0", 11, true },
        { "\2\7\1\0\0\0\0\0\0\0\0", 11, true },
        { "\2\3\4\0\0\0\0\0\0\0\0", 11, true },
        { "\3\3\1\0\0\0\0\0\0\0\0", 11, true },
        { "", 0, true },
        { "abc", 3, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        place *p = place_open();
        const rocks_db *db = p->engine->db;
        const kwr_address at = at_state(1, 0);
        size_t size;
        char *words = NULL;
        int64_t number;
        rocks_state *s = &p->engine->states[1];
        const char *key = (const char *)kwr_rocks_key(kwr_test_env(), &s->key, &at, 0, &size);
        add(p, 1, KWR_REDUCE_SUM, 1);
        if (cases[i].merge)
            rocksdb_merge_cf(db->db, db->write, s->family, key, size, cases[i].bytes, cases[i].size,
                             &words);
        else
            rocksdb_put_cf(db->db, db->write, s->family, key, size, cases[i].bytes, cases[i].size,
                           &words);
        cr_assert(words == NULL);
        add(p, 1, KWR_REDUCE_SUM, 1);
        KWR_EXPECT(KWR_ERR_CORRUPT, get(p, 1, &number));
        place_close(p);
    }
}
