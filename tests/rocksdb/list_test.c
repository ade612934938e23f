/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of the engine rocksdb against those of the page store, call by call at the seam: appends
 * that read nothing, segments, what compaction makes of both, and what a walk over it gives.
 */
#include "backend/rocksdb/rocks.h"
#include "base/limits.h"
#include "tests/support/kwr_test.h"

enum { LISTS = 6, STEPS = 6000, GROUPS = 8, BIG = 20000 };

typedef struct side {
    const kwr_engine_ops *ops;
    kwr_engine *engine;
} side;

typedef struct pair {
    kwr_resources *resources;
    kwr_limits limits;
    side page, rocks;
    uint64_t random;
    uint8_t bytes[BIG];
} pair;

static uint64_t next(pair *p, uint64_t below) {
    uint64_t z = (p->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (z ^ (z >> 31)) % below;
}

static void open_side(pair *p, side *s, const char *name, const char *directory) {
    kwr_error err;
    const kwr_engine_config config = {
        .env = kwr_test_env(),
        .resources = p->resources,
        .max_parallelism = GROUPS,
        .key_groups = { 0, GROUPS },
        .limits = &p->limits,
        .hash_mask = UINT64_MAX,
        .seed = 5,
        .directory = directory,
    };
    const kwr_state_info info = { .id = 0, .kind = KWR_STATE_LIST, .name = "list" };
    s->ops = kwr_engine_find(name);
    cr_assert(s->ops != NULL);
    KWR_MUST_ERR(s->ops->open(&config, &s->engine, &err), err);
    KWR_MUST(s->ops->add_state(s->engine, &info));
}

static pair *pair_open(uint64_t seed) {
    static pair p;
    kwr_error err;
    char path[200];
    p = (pair){ .random = seed };
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    const kwr_limits none = { .struct_size = sizeof none };
    KWR_MUST_ERR(kwr_resources_open(kwr_test_env(), &pool, &p.resources, &err), err);
    KWR_MUST_ERR(kwr_limits_complete(&none, &p.limits, &err), err);
    (void)snprintf(path, sizeof path, "%s/lists", kwr_test_dir());
    open_side(&p, &p.page, "memory", NULL);
    open_side(&p, &p.rocks, "rocksdb", path);
    for (size_t i = 0; i < BIG; i++)
        p.bytes[i] = (uint8_t)next(&p, 256);
    return &p;
}

static void pair_close(pair *p) {
    p->page.ops->close(p->page.engine);
    p->rocks.ops->close(p->rocks.engine);
    kwr_resources_close(p->resources);
}

/* One list in each key group, so that a walk meets them in one order. */
static kwr_address list_at(uint64_t number) {
    static const char *const keys[LISTS] = { "a", "b", "c", "d", "e", "" };
    const kwr_slice key = { keys[number], strlen(keys[number]) };
    const kwr_slice name = { "window", number % 2 == 0 ? 6 : 0 };
    return (kwr_address){
        .key_group = (uint32_t)number,
        .key = key,
        .name = name,
        .entry_hash = kwr_entry_hash(kwr_key_hash(key, 5), kwr_namespace_hash(name)),
    };
}

static kwr_slice some_value(pair *p) {
    const uint64_t kind = next(p, 100);
    const size_t size = kind < 80 ? next(p, 40) : kind < 99 ? next(p, 2000) : next(p, BIG);
    return (kwr_slice){ p->bytes + next(p, BIG - size + 1), size };
}

static bool same(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* ---- the same call on both sides ---- */

static void check_count(pair *p, const kwr_address *at, uint64_t *count) {
    uint64_t other = 0;
    *count = 0;
    KWR_MUST(p->page.ops->sub_count(p->page.engine, at, count));
    KWR_MUST(p->rocks.ops->sub_count(p->rocks.engine, at, &other));
    cr_assert(*count == other);
}

static void append(pair *p, const kwr_address *at) {
    kwr_slice values[40];
    const uint64_t kind = next(p, 100);
    const size_t count = kind < 90 ? 1 : next(p, 40);
    for (size_t i = 0; i < count; i++)
        values[i] = some_value(p);
    KWR_MUST(p->page.ops->sub_append(p->page.engine, at, values, count));
    KWR_MUST(p->rocks.ops->sub_append(p->rocks.engine, at, values, count));
}

static void assign(pair *p, const kwr_address *at) {
    kwr_slice values[40];
    const size_t count = 1 + next(p, 40);
    for (size_t i = 0; i < count; i++)
        values[i] = some_value(p);
    KWR_MUST(p->page.ops->sub_assign(p->page.engine, at, values, count));
    KWR_MUST(p->rocks.ops->sub_assign(p->rocks.engine, at, values, count));
}

/* Somewhere in the list, or a little outside. */
static kwr_slice some_subkey(pair *p, const kwr_address *at, uint8_t out[8]) {
    uint64_t count;
    check_count(p, at, &count);
    kwr_put_be64(out, next(p, 4) == 0 ? next(p, 3) : next(p, count + 4));
    return (kwr_slice){ out, 8 };
}

static void get(pair *p, const kwr_address *at) {
    uint8_t bytes[8];
    kwr_slice a = { 0 }, b = { 0 };
    const kwr_slice subkey = some_subkey(p, at, bytes);
    const kwr_status expected = p->page.ops->sub_get(p->page.engine, at, subkey, &a);
    cr_assert(expected >= KWR_OK);
    KWR_EXPECT(expected, p->rocks.ops->sub_get(p->rocks.engine, at, subkey, &b));
    cr_assert(same(a, b));
}

static void put(pair *p, const kwr_address *at) {
    uint8_t bytes[8];
    const kwr_slice subkey = some_subkey(p, at, bytes);
    const kwr_slice value = some_value(p);
    KWR_MUST(p->page.ops->sub_put(p->page.engine, at, subkey, value));
    KWR_MUST(p->rocks.ops->sub_put(p->rocks.engine, at, subkey, value));
}

static void modify(pair *p, const kwr_address *at) {
    uint8_t bytes[8];
    const kwr_slice subkey = some_subkey(p, at, bytes);
    const size_t size = next(p, 2) == 0 ? KWR_KEEP_SIZE : next(p, 300);
    void *a = NULL, *b = NULL;
    size_t a_old = 0, b_old = 0;
    KWR_MUST(p->page.ops->sub_modify(p->page.engine, at, subkey, size, &a, &a_old));
    KWR_MUST(p->rocks.ops->sub_modify(p->rocks.engine, at, subkey, size, &b, &b_old));
    cr_assert(a_old == b_old);
    const size_t now = size != KWR_KEEP_SIZE ? size : a_old == KWR_ABSENT ? 0 : a_old;
    cr_assert(same((kwr_slice){ a, now }, (kwr_slice){ b, now }));
    if (now == 0) return;
    memset(a, 7, now / 2 + 1);
    memset(b, 7, now / 2 + 1);
}

static void remove_one(pair *p, const kwr_address *at) {
    uint8_t bytes[8];
    const kwr_slice subkey = some_subkey(p, at, bytes);
    const kwr_status expected = p->page.ops->sub_remove(p->page.engine, at, subkey);
    cr_assert(expected >= KWR_OK);
    KWR_EXPECT(expected, p->rocks.ops->sub_remove(p->rocks.engine, at, subkey));
}

static void clear(pair *p, const kwr_address *at) {
    const kwr_status expected = p->page.ops->remove(p->page.engine, at);
    cr_assert(expected >= KWR_OK);
    KWR_EXPECT(expected, p->rocks.ops->remove(p->rocks.engine, at));
}

/* Steps on from anywhere, either way, each side with what it lent itself. */
static void step(pair *p, const kwr_address *at) {
    uint8_t bytes[8];
    kwr_engine_hint hint = { 0 }, other = { 0 };
    kwr_slice a = some_subkey(p, at, bytes), b = a, a_value = { 0 }, b_value = { 0 };
    kwr_seek how = (kwr_seek)next(p, 5);
    const kwr_seek then = next(p, 3) == 0 ? KWR_SEEK_BELOW : KWR_SEEK_ABOVE;
    for (uint64_t steps = next(p, 400) + 1; steps > 0; steps--) {
        const kwr_status expected =
            p->page.ops->sub_seek(p->page.engine, at, how, a, &hint, &a, &a_value);
        cr_assert(expected >= KWR_OK);
        kwr_status met = KWR_ERR_UNSUPPORTED;
        if (how == KWR_SEEK_ABOVE && next(p, 4) != 0) {
            memcpy(bytes, b.data, sizeof bytes);
            met = p->rocks.ops->list_next(p->rocks.engine, at->state, &other, bytes, &b_value);
            if (met == KWR_OK) b = (kwr_slice){ bytes, sizeof bytes };
        }
        if (met == KWR_ERR_UNSUPPORTED)
            met = p->rocks.ops->sub_seek(p->rocks.engine, at, how, b, &other, &b, &b_value);
        KWR_EXPECT(expected, met);
        if (expected != KWR_OK) return;
        cr_assert(same(a, b) && same(a_value, b_value));
        how = then;
    }
}

/* What RocksDB does in its own time, now: operands become values, and chains shorter ones. */
static void settle(pair *p) {
    char *words = NULL;
    const rocks_db *db = p->rocks.engine->db;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush_cf(db->db, options, db->families[0], &words);
    cr_assert(words == NULL);
    rocksdb_flushoptions_destroy(options);
    if (next(p, 2) == 0) rocksdb_compact_range_cf(db->db, db->families[0], NULL, 0, NULL, 0);
}

/* ---- views ---- */

typedef struct walked {
    kwr_buffer bytes;
    uint64_t entries;
} walked;

static kwr_status note(void *ctx, const kwr_entry *entry) {
    walked *w = ctx;
    const kwr_slice parts[] = { entry->key, entry->name, entry->subkey, entry->value };
    for (size_t i = 0; i < 4; i++) {
        kwr_buffer_append(&w->bytes, &parts[i].size, sizeof parts[i].size);
        if (parts[i].size > 0) kwr_buffer_append(&w->bytes, parts[i].data, parts[i].size);
    }
    w->entries++;
    return KWR_OK;
}

static void walk(const side *s, kwr_engine_view *view, walked *out) {
    *out = (walked){ .bytes = { .env = kwr_test_env() } };
    for (uint32_t group = 0; group < GROUPS; group++)
        KWR_MUST(s->ops->view_walk(view, 0, group, note, out));
}

static void compare_views(pair *p, kwr_engine_view *page, kwr_engine_view *rocks) {
    walked a, b;
    kwr_state_count a_count, b_count;
    walk(&p->page, page, &a);
    walk(&p->rocks, rocks, &b);
    KWR_MUST(p->page.ops->view_count(page, 0, &a_count));
    KWR_MUST(p->rocks.ops->view_count(rocks, 0, &b_count));
    cr_assert(a.entries == b.entries && a.bytes.size == b.bytes.size);
    cr_assert(a.bytes.size == 0 || memcmp(a.bytes.data, b.bytes.data, a.bytes.size) == 0);
    cr_assert(a_count.elements == b_count.elements && a_count.entries == b_count.entries);
    kwr_buffer_free(&a.bytes);
    kwr_buffer_free(&b.bytes);
    p->page.ops->view_release(page);
    p->rocks.ops->view_release(rocks);
}

static void freeze(pair *p, kwr_engine_view **page, kwr_engine_view **rocks) {
    KWR_MUST(p->page.ops->freeze(p->page.engine, page));
    KWR_MUST(p->rocks.ops->freeze(p->rocks.engine, rocks));
}

static void do_step(pair *p) {
    const kwr_address at = list_at(next(p, 4) == 0 ? next(p, LISTS) : 0);
    const uint64_t what = next(p, 1000);
    if (what < 700)
        append(p, &at);
    else if (what < 780)
        step(p, &at);
    else if (what < 860)
        get(p, &at);
    else if (what < 890)
        put(p, &at);
    else if (what < 930)
        modify(p, &at);
    else if (what < 980)
        remove_one(p, &at);
    else if (what < 985)
        assign(p, &at);
    else if (what < 990)
        clear(p, &at);
    else
        settle(p);
}

static void run(uint64_t seed) {
    pair *p = pair_open(seed);
    kwr_engine_view *page = NULL, *rocks = NULL;
    for (unsigned i = 0; i < STEPS; i++) {
        do_step(p);
        if (i % 1000 != 999) continue;
        if (page != NULL) compare_views(p, page, rocks); /* a thousand steps later */
        freeze(p, &page, &rocks);
    }
    compare_views(p, page, rocks);
    pair_close(p);
}

KWR_TEST(rocks_lists, hold_what_the_page_store_holds) { run(1); }
KWR_TEST(rocks_lists, hold_it_in_another_order_of_calls) { run(77); }

/* ---- appends that read nothing, and then one that does ---- */

static kwr_slice stored_head(pair *p, const kwr_address *at) {
    rocks_state *s = &p->rocks.engine->states[0];
    size_t size;
    kwr_slice out = { 0 };
    KWR_MUST(kwr_rocks_begin(p->rocks.engine, 0, &s));
    uint8_t *key = kwr_rocks_key(kwr_test_env(), &s->key, at, 1, &size);
    key[size] = ROCKS_LIST_HEAD;
    KWR_MUST(kwr_rocks_fetch(p->rocks.engine, s, key, size + 1, &out));
    return out;
}

KWR_TEST(rocks_lists, a_list_that_is_only_appended_to_is_cut_into_segments) {
    pair *p = pair_open(3);
    const kwr_address at = list_at(0);
    const uint64_t number = 50000;
    for (uint64_t i = 0; i < number; i++)
        KWR_MUST(p->rocks.ops->sub_append(p->rocks.engine, &at, &(kwr_slice){ &i, sizeof i }, 1));
    rocks_list_head head;
    const kwr_slice stored = stored_head(p, &at);
    cr_assert(kwr_rocks_head_get(stored.data, stored.size, &head));
    cr_assert(head.count == number && head.first > number / 2);
    cr_assert(head.elements.size < 4U * ROCKS_SEGMENT_BYTES);
    kwr_slice subkey = { 0 }, value;
    for (uint64_t i = 0; i < number; i++) {
        KWR_MUST(p->rocks.ops->sub_seek(p->rocks.engine, &at,
                                        i == 0 ? KWR_SEEK_FIRST : KWR_SEEK_ABOVE, subkey, NULL,
                                        &subkey, &value));
        cr_assert(value.size == sizeof i && memcmp(value.data, &i, sizeof i) == 0);
        cr_assert(kwr_get_be64(subkey.data) == i);
    }
    pair_close(p);
}

KWR_TEST(rocks_lists, keys_that_take_turns_are_all_cut) {
    pair *p = pair_open(4);
    const kwr_slice value = { "0123456789", 10 };
    for (unsigned i = 0; i < 20000; i++) {
        kwr_address at = list_at(i % LISTS);
        at.entry_hash = 0; /* all in one place of the table that counts */
        KWR_MUST(p->rocks.ops->sub_append(p->rocks.engine, &at, &value, 1));
    }
    for (unsigned i = 0; i < LISTS; i++) {
        rocks_list_head head;
        const kwr_address at = list_at(i);
        const kwr_slice stored = stored_head(p, &at);
        cr_assert(kwr_rocks_head_get(stored.data, stored.size, &head));
        cr_assert(head.count == 20000 / LISTS + (i < 20000 % LISTS) && head.first > 0);
    }
    pair_close(p);
}

KWR_TEST(rocks_lists, a_sequence_number_out_of_all_reason_is_refused) {
    pair *p = pair_open(5);
    const kwr_address at = list_at(0);
    uint8_t bytes[8];
    void *out;
    size_t old;
    kwr_put_be64(bytes, UINT64_MAX);
    const kwr_slice high = { bytes, 8 };
    KWR_EXPECT(KWR_ERR_RANGE, p->rocks.ops->sub_put(p->rocks.engine, &at, high, high));
    KWR_EXPECT(KWR_ERR_RANGE, p->rocks.ops->sub_modify(p->rocks.engine, &at, high, 4, &out, &old));
    const kwr_slice odd = { bytes, 3 };
    KWR_EXPECT(KWR_ERR_CORRUPT, p->rocks.ops->sub_put(p->rocks.engine, &at, odd, high));
    uint64_t count;
    KWR_MUST(p->rocks.ops->sub_count(p->rocks.engine, &at, &count));
    cr_assert(count == 0);
    pair_close(p);
}

/* ---- bytes that are not what was written ---- */

static void store_raw(pair *p, const kwr_address *at, kwr_slice value, bool merge) {
    const rocks_db *db = p->rocks.engine->db;
    size_t size;
    char *words = NULL;
    rocks_state *s = &p->rocks.engine->states[0];
    uint8_t *key = kwr_rocks_key(kwr_test_env(), &s->key, at, 1, &size);
    key[size++] = ROCKS_LIST_HEAD;
    if (merge)
        rocksdb_merge_cf(db->db, db->write, s->family, (char *)key, size, value.data, value.size,
                         &words);
    else
        rocksdb_put_cf(db->db, db->write, s->family, (char *)key, size, value.data, value.size,
                       &words);
    cr_assert(words == NULL);
}

KWR_TEST(rocks_lists, damaged_heads_and_operands_are_found) {
    pair *p = pair_open(6);
    const kwr_address at = list_at(0);
    const uint8_t zeros[40] = { 0 };
    uint8_t claims[ROCKS_LIST_HEAD_SIZE];
    kwr_put_le64(claims, 5), kwr_put_le64(claims + 8, 0), kwr_put_le32(claims + 16, 5);
    const struct {
        kwr_slice value;
        bool merge, counted;
    } cases[] = {
        { { zeros, 0 }, false, false },
        { { zeros, 19 }, false, false },
        { { zeros, 40 }, true, false },
        { { zeros, 3 }, true, false },
        { { claims, sizeof claims }, false, true }, /* five elements, and none there */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t count = 0;
        kwr_slice subkey = { 0 }, value = { 0 };
        store_raw(p, &at, cases[i].value, cases[i].merge);
        KWR_EXPECT(cases[i].counted ? KWR_OK : KWR_ERR_CORRUPT,
                   p->rocks.ops->sub_count(p->rocks.engine, &at, &count));
        KWR_EXPECT(KWR_ERR_CORRUPT, p->rocks.ops->sub_seek(p->rocks.engine, &at, KWR_SEEK_FIRST,
                                                           subkey, NULL, &subkey, &value));
        store_raw(p, &at, (kwr_slice){ claims, sizeof claims }, false);
    }
    pair_close(p);
}
