/* SPDX-License-Identifier: Apache-2.0 */
/* Walks across keys: which keys a state has, a call for each, sizes; live and in views. */
#include "tests/conformance/conformance.h"

enum { KEYS = 400 };

static void key_name(char out[16], int number) { (void)snprintf(out, 16, "key-%d", number); }

/* ---- what a walk met ---- */

typedef struct met {
    conf *c;
    unsigned count[KEYS];
    size_t total;
    size_t name_size; /* of namespaces together */
    uint32_t last_group;
    size_t stop_after; /* 0: never */
    kwr_status stop_with;
} met;

static kwr_status meet(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    met *m = (met *)ctx;
    const conf *c = m->c;
    int number;
    char text[16] = { 0 };
    CHECK(key.size > 0 && key.size < sizeof text);
    memcpy(text, key.data, key.size);
    CHECK(sscanf(text, "key-%d", &number) == 1 && number >= 0 && number < KEYS);
    CHECK(key_group == kwr_key_group(key, 42, 128));
    CHECK(key_group >= m->last_group);
    m->last_group = key_group;
    m->count[number]++;
    m->total++;
    m->name_size += name.size;
    return m->stop_after != 0 && m->total >= m->stop_after ? m->stop_with : KWR_OK;
}

/* Every third key under "odd", all under the empty namespace, but for every tenth. */
static kwr_value *fill(conf *c) {
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    char key[16];
    for (int i = 0; i < KEYS; i++) {
        key_name(key, i);
        conf_set_key(c, key);
        MUST(kwr_value_set_namespace(v, conf_slice("odd")));
        if (i % 3 == 0) conf_put(c, v, "third");
        MUST(kwr_value_set_namespace(v, conf_slice("")));
        conf_put(c, v, key);
        if (i % 10 == 0) MUST(kwr_value_clear(v));
    }
    return v;
}

static size_t in_odd(void) { return (KEYS + 2) / 3; }
static size_t in_empty(void) { return KEYS - KEYS / 10; }

/* ---- keys ---- */

CONF_TEST(across, keys_of_a_namespace_are_met_once) {
    conf_open(c);
    kwr_value *v = fill(c);
    met all = { .c = c };
    MUST(kwr_state_keys(kwr_value_state(v), meet, &all));
    CHECK(all.total == in_empty());
    for (int i = 0; i < KEYS; i++)
        CHECK(all.count[i] == (i % 10 != 0));
    met odd = { .c = c };
    MUST(kwr_value_set_namespace(v, conf_slice("odd")));
    MUST(kwr_state_keys(kwr_value_state(v), meet, &odd));
    CHECK(odd.total == in_odd());
    CHECK(odd.name_size == 3 * in_odd());
    for (int i = 0; i < KEYS; i++)
        CHECK(odd.count[i] == (i % 3 == 0));
    met none = { .c = c };
    MUST(kwr_value_set_namespace(v, conf_slice("other")));
    MUST(kwr_state_keys(kwr_value_state(v), meet, &none));
    CHECK(none.total == 0);
}

CONF_TEST(across, pairs_of_key_and_namespace_are_met_once) {
    conf_open(c);
    kwr_value *v = fill(c);
    met all = { .c = c };
    MUST(kwr_state_keys_and_namespaces(kwr_value_state(v), meet, &all));
    CHECK(all.total == in_odd() + in_empty());
    CHECK(all.name_size == 3 * in_odd());
    for (int i = 0; i < KEYS; i++)
        CHECK(all.count[i] == (unsigned)(i % 3 == 0) + (unsigned)(i % 10 != 0));
}

CONF_TEST(across, an_empty_state_has_no_keys) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    met m = { .c = c };
    MUST(kwr_state_keys(kwr_value_state(v), meet, &m));
    MUST(kwr_state_keys_and_namespaces(kwr_value_state(v), meet, &m));
    MUST(kwr_state_apply(kwr_value_state(v), meet, &m));
    CHECK(m.total == 0);
}

CONF_TEST(across, the_callback_ends_a_walk_with_its_own_status) {
    conf_open(c);
    kwr_value *v = fill(c);
    static const kwr_status statuses[] = { KWR_NOT_FOUND, KWR_ERR_CANCELLED, KWR_ERR_IO };
    for (size_t i = 0; i < 3; i++) {
        met m = { .c = c, .stop_after = 7, .stop_with = statuses[i] };
        EXPECT(statuses[i], kwr_state_keys(kwr_value_state(v), meet, &m));
        CHECK(m.total == 7);
        m.stop_after = 9;
        m.last_group = 0;
        EXPECT(statuses[i], kwr_state_apply(kwr_value_state(v), meet, &m));
        CHECK(m.total == 9);
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(stats.views == 0);
}

/* ---- a call for each key ---- */

typedef struct change {
    conf *c;
    kwr_value *v;
    kwr_reducing *sum;
    size_t calls;
} change;

static kwr_status change_one(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    change *ch = (change *)ctx;
    conf *c = ch->c;
    kwr_slice current, value;
    uint32_t current_group;
    CHECK(name.size == 0);
    MUST(kwr_backend_key(c->backend, &current, &current_group));
    CHECK(current_group == key_group);
    CHECK(current.size == key.size && memcmp(current.data, key.data, key.size) == 0);
    MUST(kwr_value_get(ch->v, &value));
    CHECK(value.size == key.size && memcmp(value.data, key.data, key.size) == 0);
    if (ch->calls++ % 2 == 0)
        MUST(kwr_value_clear(ch->v));
    else
        conf_put(c, ch->v, "changed, and much longer than it was before");
    conf_add_i64(c, ch->sum, 1);
    /* Writing under another key than the current one is allowed too. */
    conf_set_key(c, "somebody else");
    conf_add_i64(c, ch->sum, 1);
    return KWR_OK;
}

CONF_TEST(across, apply_may_change_and_clear_what_it_meets) {
    conf_open(c);
    change ch = { .c = c, .v = fill(c) };
    ch.sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "key-1");
    MUST(kwr_state_apply(kwr_value_state(ch.v), change_one, &ch));
    CHECK(ch.calls == in_empty());
    kwr_slice current;
    uint32_t group;
    MUST(kwr_backend_key(c->backend, &current, &group));
    CHECK(current.size == 5 && memcmp(current.data, "key-1", 5) == 0);
    CHECK(group == kwr_key_group(current, 42, 128));
    CHECK(conf_i64(c, ch.sum, 0) == 1);
    conf_set_key(c, "somebody else");
    CHECK(conf_i64(c, ch.sum, 0) == (int64_t)in_empty());
    met after = { .c = c };
    MUST(kwr_state_keys(kwr_value_state(ch.v), meet, &after));
    CHECK(after.total == in_empty() / 2);
}

CONF_TEST(across, apply_leaves_the_current_key_as_it_was) {
    conf_open(c);
    kwr_value *v = fill(c);
    kwr_slice key;
    conf_set_key(c, "");
    met m = { .c = c };
    MUST(kwr_state_apply(kwr_value_state(v), meet, &m));
    CHECK(m.total == in_empty());
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(key.size == 0);
    /* A key selected from a batch. */
    const kwr_slice keys[] = { conf_slice("key-3"), conf_slice("key-4") };
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, 2, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, 2));
    MUST(kwr_key_batch_select(batch, 1));
    met n = { .c = c };
    MUST(kwr_state_apply(kwr_value_state(v), meet, &n));
    CHECK(conf_holds(v, "key-4"));
    kwr_key_batch_free(batch);
    CHECK(conf_holds(v, "key-4"));
}

CONF_TEST(across, apply_without_a_current_key_leaves_none) {
    conf_open(c);
    kwr_value *v = fill(c);
    kwr_key_batch *batch;
    const kwr_slice keys[] = { conf_slice("key-3") };
    MUST(kwr_key_batch_new(c->backend, 1, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, 1));
    MUST(kwr_key_batch_select(batch, 0));
    kwr_key_batch_free(batch); /* drops the key selected from it */
    met m = { .c = c };
    MUST(kwr_state_apply(kwr_value_state(v), meet, &m));
    CHECK(m.total == in_empty());
    kwr_slice key;
    EXPECT(KWR_NOT_FOUND, kwr_backend_key(c->backend, &key, NULL));
}

static kwr_status walk_inside(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    change *ch = (change *)ctx;
    conf *c = ch->c;
    (void)key, (void)key_group, (void)name;
    ch->calls++;
    met m = { .c = c };
    MUST(kwr_state_apply(kwr_value_state(ch->v), meet, &m));
    CHECK(m.total == in_empty());
    CHECK(!conf_holds(ch->v, NULL)); /* its own key again */
    return ch->calls == 3 ? KWR_NOT_FOUND : KWR_OK;
}

CONF_TEST(across, walks_may_stand_in_walks_as_far_as_views_go) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.views_max = 2;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    change ch = { .c = c, .v = fill(c) };
    EXPECT(KWR_NOT_FOUND, kwr_state_apply(kwr_value_state(ch.v), walk_inside, &ch));
    kwr_view *views[2];
    MUST(kwr_backend_freeze(c->backend, &views[0]));
    MUST(kwr_backend_freeze(c->backend, &views[1]));
    met m = { .c = c };
    kwr_state_size size = { .struct_size = sizeof size };
    EXPECT(KWR_ERR_BUSY, kwr_state_keys(kwr_value_state(ch.v), meet, &m));
    CHECK_TEXT("2 views are alive, limits.views_max");
    EXPECT(KWR_ERR_BUSY, kwr_state_keys_and_namespaces(kwr_value_state(ch.v), meet, &m));
    EXPECT(KWR_ERR_BUSY, kwr_state_apply(kwr_value_state(ch.v), meet, &m));
    EXPECT(KWR_ERR_BUSY, kwr_state_get_size(kwr_value_state(ch.v), &size));
    EXPECT(KWR_ERR_BUSY, kwr_state_get_group_size(kwr_value_state(ch.v), 0, &size));
    CHECK(m.total == 0);
    kwr_view_release(views[0]);
    kwr_view_release(views[1]);
}

CONF_TEST(across, without_memory_no_key_is_met_and_none_is_lost) {
    conf_open(c);
    kwr_value *v = fill(c);
    conf_set_key(c, "key-1");
    for (int64_t allowed = 0; allowed < 50; allowed++) {
        met m = { .c = c };
        conf_fail_alloc(c, allowed);
        const kwr_status status = kwr_state_apply(kwr_value_state(v), meet, &m);
        conf_fail_alloc(c, -1);
        CHECK(conf_holds(v, "key-1"));
        if (status == KWR_OK) {
            CHECK(m.total == in_empty());
            break;
        }
        EXPECT(KWR_ERR_NOMEM, status);
        CHECK(m.total == 0);
    }
}

/* ---- sizes ---- */

CONF_TEST(across, sizes_of_key_groups_add_up_to_that_of_the_state) {
    conf_open(c);
    kwr_value *v = fill(c);
    (void)conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_state_size all = { .struct_size = sizeof all };
    MUST(kwr_state_get_size(kwr_value_state(v), &all));
    CHECK(all.entries == in_odd() + in_empty());
    CHECK(all.elements == 0);
    kwr_state_size sum = { 0 };
    uint64_t bytes = 0;
    for (uint32_t group = 0; group < 128; group++) {
        kwr_state_size part = { .struct_size = sizeof part };
        MUST(kwr_state_get_group_size(kwr_value_state(v), group, &part));
        sum.entries += part.entries;
        sum.bytes += part.bytes;
    }
    char key[16];
    for (int i = 0; i < KEYS; i++) {
        key_name(key, i);
        if (i % 3 == 0) bytes += strlen(key) + 3 + 5;
        if (i % 10 != 0) bytes += 2 * strlen(key);
    }
    CHECK(sum.entries == all.entries);
    CHECK(sum.bytes == all.bytes);
    CHECK(all.bytes == bytes);
    EXPECT(KWR_ERR_RANGE, kwr_state_get_group_size(kwr_value_state(v), 128, &all));
    CHECK_TEXT("key group 128 is not among the owned 0 to 127");
    CHECK(all.bytes == bytes);
    /* A caller of another size of struct. */
    kwr_state_size small = { .struct_size = offsetof(kwr_state_size, elements), .elements = 77 };
    MUST(kwr_state_get_size(kwr_value_state(v), &small));
    CHECK(small.entries == all.entries && small.elements == 77);
}

/* ---- frozen views ---- */

CONF_TEST(across, a_view_tells_its_states) {
    conf_open(c);
    (void)conf_value(c, "v", KWR_TYPE_STRING);
    (void)conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    (void)conf_value(c, "later", KWR_TYPE_STRING);
    size_t number = 99;
    kwr_view_state state = { .struct_size = sizeof state };
    kwr_error err;
    CHECK(kwr_view_state_count(view) == 2);
    CHECK(kwr_view_key_groups(view).first == 0 && kwr_view_key_groups(view).count == 128);
    MUST(kwr_view_find_state(view, "sum", &number));
    MUST(kwr_view_get_state(view, number, &state, &err));
    CHECK(strcmp(state.name, "sum") == 0 && strcmp(state.kind, "reducing") == 0);
    CHECK(state.type.kind == KWR_TYPE_I64 && state.namespace_type.kind == KWR_TYPE_BYTES);
    EXPECT(KWR_NOT_FOUND, kwr_view_find_state(view, "later", &number));
    EXPECT(KWR_ERR_RANGE, kwr_view_get_state(view, 2, &state, &err));
    CHECK(strstr(err.text, "no state number 2, only 2 states") != NULL);
    CHECK(strcmp(state.name, "sum") == 0);
    kwr_view_release(view);
}

CONF_TEST(across, a_view_keeps_the_keys_of_its_moment) {
    conf_open(c);
    kwr_value *v = fill(c);
    kwr_view *view;
    size_t number;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    MUST(kwr_view_find_state(view, "v", &number));
    char key[16];
    for (int i = 0; i < KEYS; i++) {
        key_name(key, i);
        conf_set_key(c, key);
        if (i % 2 == 0)
            MUST(kwr_value_clear(v));
        else
            conf_put(c, v, "later");
    }
    met empty = { .c = c }, odd = { .c = c }, all = { .c = c };
    MUST(kwr_view_keys(view, number, conf_slice(""), meet, &empty, &err));
    MUST(kwr_view_keys(view, number, conf_slice("odd"), meet, &odd, &err));
    MUST(kwr_view_keys_and_namespaces(view, number, meet, &all, &err));
    CHECK(empty.total == in_empty() && odd.total == in_odd());
    CHECK(all.total == in_empty() + in_odd());
    kwr_state_size size = { .struct_size = sizeof size };
    MUST(kwr_view_get_size(view, number, &size, &err));
    CHECK(size.entries == all.total);
    EXPECT(KWR_ERR_RANGE, kwr_view_get_size(view, 1, &size, &err));
    EXPECT(KWR_ERR_RANGE, kwr_view_get_group_size(view, 1, 0, &size, &err));
    EXPECT(KWR_ERR_RANGE, kwr_view_get_group_size(view, number, 128, &size, &err));
    EXPECT(KWR_ERR_RANGE, kwr_view_keys(view, 1, conf_slice(""), meet, &all, &err));
    EXPECT(KWR_ERR_RANGE, kwr_view_keys_and_namespaces(view, 1, meet, &all, &err));
    kwr_view_release(view);
}

typedef struct entries_met {
    conf *c;
    size_t count;
    size_t stop_after;
} entries_met;

static kwr_status meet_entry(void *ctx, const kwr_view_entry *entry) {
    entries_met *m = (entries_met *)ctx;
    const conf *c = m->c;
    CHECK(entry->key_group == kwr_key_group(entry->key, 42, 128));
    CHECK(entry->subkey.size == 0);
    if (entry->name.size == 0)
        CHECK(entry->value.size == entry->key.size &&
              memcmp(entry->value.data, entry->key.data, entry->key.size) == 0);
    else
        CHECK(entry->value.size == 5 && memcmp(entry->value.data, "third", 5) == 0);
    m->count++;
    return m->count == m->stop_after ? KWR_NOT_FOUND : KWR_OK;
}

CONF_TEST(across, a_view_gives_every_entry_of_a_key_group) {
    conf_open(c);
    (void)fill(c);
    kwr_view *view;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    entries_met m = { .c = c };
    for (uint32_t group = 0; group < 128; group++) {
        const size_t before = m.count;
        MUST(kwr_view_entries(view, 0, group, meet_entry, &m, &err));
        kwr_state_size size = { .struct_size = sizeof size };
        MUST(kwr_view_get_group_size(view, 0, group, &size, &err));
        CHECK(size.entries == m.count - before);
    }
    CHECK(m.count == in_odd() + in_empty());
    EXPECT(KWR_ERR_RANGE, kwr_view_entries(view, 0, 128, meet_entry, &m, &err));
    EXPECT(KWR_ERR_RANGE, kwr_view_entries(view, 1, 0, meet_entry, &m, &err));
    uint32_t group = 0;
    entries_met one = { .c = c, .stop_after = 1 };
    while (kwr_view_entries(view, 0, group, meet_entry, &one, &err) == KWR_OK)
        group++;
    CHECK(one.count == 1);
    kwr_view_release(view);
}

/* A walk that releases its view at the first entry, and closes nothing else. */
typedef struct letting_go {
    conf *c;
    kwr_view *view;
    size_t count;
} letting_go;

static void let_go(letting_go *l) {
    kwr_view_release(l->view);
    l->view = NULL;
    l->count++;
}

static kwr_status let_go_at_key(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    (void)name;
    letting_go *l = (letting_go *)ctx;
    const conf *c = l->c;
    let_go(l);
    CHECK(key_group == kwr_key_group(key, 42, 128));
    return KWR_OK;
}

static kwr_status let_go_at_entry(void *ctx, const kwr_view_entry *entry) {
    letting_go *l = (letting_go *)ctx;
    const conf *c = l->c;
    let_go(l);
    CHECK(entry->key_group == kwr_key_group(entry->key, 42, 128));
    return KWR_OK;
}

static uint64_t views_alive(conf *c) {
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    return stats.views;
}

CONF_TEST(across, a_walk_outlives_the_release_of_its_view) {
    conf_open(c);
    (void)fill(c);
    kwr_error err;
    letting_go all = { .c = c };
    MUST(kwr_backend_freeze(c->backend, &all.view));
    MUST(kwr_view_keys_and_namespaces(all.view, 0, let_go_at_key, &all, &err));
    CHECK(all.count == in_odd() + in_empty() && views_alive(c) == 0);
    letting_go group = { .c = c };
    for (uint32_t i = 0; i < 128 && group.count == 0; i++) {
        if (group.view == NULL) MUST(kwr_backend_freeze(c->backend, &group.view));
        MUST(kwr_view_entries(group.view, 0, i, let_go_at_entry, &group, &err));
    }
    CHECK(group.count > 0 && group.view == NULL && views_alive(c) == 0);
}

/* ---- collections ---- */

enum { MAP_KEYS = 7, MAP_ELEMENTS = 300 };

/* Key i has (i + 1) squared elements, in the namespace "w" and once more in "x". */
static kwr_map *fill_maps(conf *c) {
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_BYTES);
    char key[16], user_key[16];
    for (int i = 0; i < MAP_KEYS; i++) {
        key_name(key, i);
        conf_set_key(c, key);
        for (int j = 0; j < (i + 1) * (i + 1) * MAP_ELEMENTS / 50; j++) {
            (void)snprintf(user_key, sizeof user_key, "u%05d", j * 17 % 20011);
            MUST(kwr_map_set_namespace(m, conf_slice("w")));
            MUST(kwr_map_put(m, conf_slice(user_key), conf_slice("value")));
            MUST(kwr_map_set_namespace(m, conf_slice("x")));
            MUST(kwr_map_put(m, conf_slice(user_key), conf_slice("")));
        }
    }
    return m;
}

static uint64_t map_elements(void) {
    uint64_t sum = 0;
    for (int i = 0; i < MAP_KEYS; i++)
        sum += (uint64_t)((i + 1) * (i + 1) * MAP_ELEMENTS / 50);
    return sum;
}

CONF_COLLECTION_TEST(across, a_key_with_many_elements_is_met_once) {
    conf_open(c);
    kwr_map *m = fill_maps(c);
    met one = { .c = c }, pairs = { .c = c }, applied = { .c = c };
    MUST(kwr_state_keys(kwr_map_state(m), meet, &one));
    MUST(kwr_state_keys_and_namespaces(kwr_map_state(m), meet, &pairs));
    MUST(kwr_state_apply(kwr_map_state(m), meet, &applied));
    CHECK(one.total == MAP_KEYS && applied.total == MAP_KEYS);
    CHECK(pairs.total == (size_t)2 * MAP_KEYS && pairs.name_size == (size_t)2 * MAP_KEYS);
    for (int i = 0; i < MAP_KEYS; i++)
        CHECK(one.count[i] == 1 && pairs.count[i] == 2);
}

static kwr_status clear_map(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    (void)key, (void)key_group, (void)name;
    return kwr_map_clear((kwr_map *)ctx);
}

CONF_COLLECTION_TEST(across, apply_clears_collections) {
    conf_open(c);
    kwr_map *m = fill_maps(c);
    MUST(kwr_state_apply(kwr_map_state(m), clear_map, m));
    met left = { .c = c };
    MUST(kwr_state_keys_and_namespaces(kwr_map_state(m), meet, &left));
    CHECK(left.total == MAP_KEYS && left.name_size == MAP_KEYS);
    kwr_state_size size = { .struct_size = sizeof size };
    MUST(kwr_state_get_size(kwr_map_state(m), &size));
    CHECK(size.entries == MAP_KEYS && size.elements == map_elements());
}

CONF_COLLECTION_TEST(across, sizes_count_entries_and_elements) {
    conf_open(c);
    kwr_map *m = fill_maps(c);
    kwr_state_size all = { .struct_size = sizeof all }, sum = { 0 };
    MUST(kwr_state_get_size(kwr_map_state(m), &all));
    for (uint32_t group = 0; group < 128; group++) {
        kwr_state_size part = { .struct_size = sizeof part };
        MUST(kwr_state_get_group_size(kwr_map_state(m), group, &part));
        sum.entries += part.entries;
        sum.elements += part.elements;
        sum.bytes += part.bytes;
    }
    CHECK(all.entries == (uint64_t)2 * MAP_KEYS && all.elements == 2 * map_elements());
    CHECK(all.bytes == (uint64_t)2 * MAP_KEYS * (5 + 1) + map_elements() * (6 + 5 + 6));
    CHECK(sum.entries == all.entries && sum.elements == all.elements && sum.bytes == all.bytes);
}

typedef struct in_order {
    conf *c;
    size_t count;
    char last[64];
} in_order;

static kwr_status meet_element(void *ctx, const kwr_view_entry *entry) {
    in_order *o = (in_order *)ctx;
    const conf *c = o->c;
    char now[64];
    CHECK(entry->name.size == 1 && entry->subkey.size == 6 && entry->key.size == 5);
    (void)snprintf(now, sizeof now, "%.5s %.1s %.6s", (const char *)entry->key.data,
                   (const char *)entry->name.data, (const char *)entry->subkey.data);
    /* Of one entry in the order of user keys. */
    if (memcmp(now, o->last, 8) == 0) CHECK(strcmp(now, o->last) > 0);
    memcpy(o->last, now, sizeof now);
    CHECK(entry->value.size == (*(const char *)entry->name.data == 'w' ? 5 : 0));
    o->count++;
    return KWR_OK;
}

CONF_COLLECTION_TEST(across, a_view_gives_the_elements_of_an_entry_in_order) {
    conf_open(c);
    (void)fill_maps(c);
    kwr_view *view;
    kwr_error err;
    in_order o = { .c = c };
    MUST(kwr_backend_freeze(c->backend, &view));
    for (uint32_t group = 0; group < 128; group++)
        MUST(kwr_view_entries(view, 0, group, meet_element, &o, &err));
    CHECK(o.count == 2 * map_elements());
    kwr_view_release(view);
}

CONF_TEST(across, raw_state_has_no_keys) {
    conf_open(c);
    const kwr_raw_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "raw" };
    kwr_raw *raw;
    kwr_view *view;
    kwr_error err;
    MUST(kwr_raw_open(c->backend, &descriptor, &raw, &err));
    MUST(kwr_raw_put(raw, 3, conf_slice("bytes")));
    MUST(kwr_backend_freeze(c->backend, &view));
    met m = { .c = c };
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_view_keys(view, 0, conf_slice(""), meet, &m, &err));
    CHECK(strstr(err.text, "raw state is kept by key group") != NULL);
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_view_keys_and_namespaces(view, 0, meet, &m, &err));
    kwr_state_size size = { .struct_size = sizeof size };
    MUST(kwr_view_get_size(view, 0, &size, &err));
    CHECK(size.entries == 1 && size.bytes == 5);
    kwr_view_release(view);
}

/* ---- on other threads ---- */

typedef struct reader {
    kwr_work work;
    kwr_view *view;
    met met;
    kwr_state_size size;
    kwr_status status;
} reader;

static void read_view(void *ctx) {
    reader *r = (reader *)ctx;
    size_t number;
    kwr_error err;
    r->size.struct_size = sizeof r->size;
    r->status = kwr_view_find_state(r->view, "v", &number);
    if (r->status == KWR_OK) r->status = kwr_view_get_size(r->view, number, &r->size, &err);
    if (r->status == KWR_OK)
        r->status = kwr_view_keys_and_namespaces(r->view, number, meet, &r->met, &err);
}

CONF_TEST(across, threads_read_one_view_while_the_owner_writes, .timeout = 300) {
    enum { ROUNDS = 4, READERS = 3 };
    conf_open(c);
    kwr_value *v = fill(c);
    const kwr_executor *executor = c->env->executor;
    char key[16];
    for (int round = 0; round < ROUNDS; round++) {
        kwr_view *view;
        reader readers[READERS];
        memset(readers, 0, sizeof readers);
        MUST(kwr_backend_freeze(c->backend, &view));
        for (int i = 0; i < READERS; i++) {
            reader *r = &readers[i];
            r->view = view;
            r->met.c = c;
            r->work = (kwr_work){ .run = read_view, .ctx = r };
            MUST(executor->post(executor->ctx, &r->work));
        }
        for (int i = 0; i < KEYS; i++) {
            key_name(key, i);
            conf_set_key(c, key);
            if ((i + round) % 4 == 0)
                MUST(kwr_value_clear(v));
            else
                conf_put(c, v, "written while others read");
        }
        char name[16];
        (void)snprintf(name, sizeof name, "state-%d", round);
        (void)conf_value(c, name, KWR_TYPE_I64);
        for (int i = 0; i < READERS; i++) {
            executor->wait(executor->ctx, &readers[i].work);
            MUST(readers[i].status);
            CHECK(readers[i].met.total == readers[i].size.entries);
            const size_t stands = round == 0 ? in_empty() : KEYS - KEYS / 4;
            CHECK(readers[i].size.entries == stands + in_odd());
        }
        kwr_view_release(view);
    }
}
