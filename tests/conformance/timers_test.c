/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: order, sameness, deletion, popping, and what of it a restore brings back. */
#include "backend/timer_key.h"
#include "tests/conformance/conformance.h"

static kwr_timers *open_timers(conf *c, const char *name) {
    const kwr_timers_descriptor descriptor = { .struct_size = sizeof descriptor, .name = name };
    kwr_timers *timers = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_timers_open(c->backend, &descriptor, &timers, &err), err);
    return timers;
}

static void put(conf *c, kwr_timers *t, kwr_time_domain domain, int64_t time_ms, const char *key,
                const char *name) {
    conf_set_key(c, key);
    MUST(kwr_timers_set_namespace(t, conf_slice(name)));
    MUST(kwr_timers_register(t, domain, time_ms));
}

static void event(conf *c, kwr_timers *t, int64_t time_ms, const char *key, const char *name) {
    put(c, t, KWR_EVENT_TIME, time_ms, key, name);
}

static void unregister(conf *c, kwr_timers *t, int64_t time_ms, const char *key, const char *name) {
    conf_set_key(c, key);
    MUST(kwr_timers_set_namespace(t, conf_slice(name)));
    MUST(kwr_timers_delete(t, KWR_EVENT_TIME, time_ms));
}

static bool slice_is(kwr_slice slice, const char *text) {
    return slice.size == strlen(text) && memcmp(slice.data, text, slice.size) == 0;
}

/* The next timer due is this one; its key is current then. */
static void pops_in(conf *c, kwr_timers *t, kwr_time_domain domain, int64_t up_to_ms,
                    int64_t time_ms, const char *key, const char *name) {
    kwr_timer timer;
    kwr_slice current;
    uint32_t group;
    MUST(kwr_timers_pop_due(t, domain, up_to_ms, &timer));
    CHECK(timer.time_ms == time_ms);
    CHECK(slice_is(timer.key, key));
    CHECK(slice_is(timer.name, name));
    MUST(kwr_backend_key(c->backend, &current, &group));
    CHECK(slice_is(current, key));
    CHECK(group == timer.key_group && group == kwr_key_group(timer.key, 42, 128));
}

static void pops(conf *c, kwr_timers *t, int64_t up_to_ms, int64_t time_ms, const char *key,
                 const char *name) {
    pops_in(c, t, KWR_EVENT_TIME, up_to_ms, time_ms, key, name);
}

static void pops_none(conf *c, kwr_timers *t, int64_t up_to_ms) {
    kwr_timer timer = { .time_ms = 77 };
    EXPECT(KWR_NOT_FOUND, kwr_timers_pop_due(t, KWR_EVENT_TIME, up_to_ms, &timer));
    CHECK(timer.time_ms == 77);
}

static int64_t next_time(conf *c, kwr_timers *t, kwr_time_domain domain) {
    int64_t time_ms = 77;
    MUST(kwr_timers_next_time(t, domain, &time_ms));
    return time_ms;
}

static uint64_t count_of(conf *c, kwr_timers *t, kwr_time_domain domain) {
    uint64_t count = 77;
    MUST(kwr_timers_count(t, domain, &count));
    return count;
}

/* ---- order ---- */

CONF_COLLECTION_TEST(timers, come_by_time_then_by_bytes) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 30, "a", "");
    event(c, t, 10, "bb", "");
    event(c, t, 20, "c", "w2");
    event(c, t, 20, "c", "w1");
    event(c, t, 20, "c", "");
    event(c, t, 20, "bb", "w1");
    event(c, t, -5, "d", "w9");
    event(c, t, 20, "b", "zz");
    event(c, t, 20, "", "w1");
    pops_none(c, t, -6);
    pops(c, t, 25, -5, "d", "w9");
    pops(c, t, 25, 10, "bb", "");
    /* Shorter keys first, then by key, then by namespace. */
    pops(c, t, 25, 20, "", "w1");
    pops(c, t, 25, 20, "b", "zz");
    pops(c, t, 25, 20, "c", "");
    pops(c, t, 25, 20, "c", "w1");
    pops(c, t, 25, 20, "c", "w2");
    pops(c, t, 25, 20, "bb", "w1");
    pops_none(c, t, 25);
    pops(c, t, 30, 30, "a", "");
    pops_none(c, t, INT64_MAX);
}

CONF_COLLECTION_TEST(timers, the_same_timer_twice_is_one) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 10, "a", "w");
    event(c, t, 10, "a", "w");
    event(c, t, 10, "a", "");
    event(c, t, 11, "a", "w");
    event(c, t, 10, "b", "w");
    event(c, t, 10, "a", "w");
    CHECK(count_of(c, t, KWR_EVENT_TIME) == 4);
    pops(c, t, 10, 10, "a", "");
    pops(c, t, 10, 10, "a", "w");
    pops(c, t, 10, 10, "b", "w");
    pops_none(c, t, 10);
    /* Popped, it is a new one. */
    event(c, t, 10, "a", "w");
    pops(c, t, 10, 10, "a", "w");
    CHECK(count_of(c, t, KWR_EVENT_TIME) == 1);
}

CONF_COLLECTION_TEST(timers, key_and_namespace_are_told_apart) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 10, "ab", "c");
    event(c, t, 10, "a", "bc");
    event(c, t, 10, "abc", "");
    CHECK(count_of(c, t, KWR_EVENT_TIME) == 3);
    pops(c, t, 10, 10, "a", "bc");
    pops(c, t, 10, 10, "ab", "c");
    pops(c, t, 10, 10, "abc", "");
}

CONF_COLLECTION_TEST(timers, keys_of_every_length_are_kept) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    static const size_t sizes[] = { 0, 1, 127, 128, 300, 5000, 16383, 16384, 70000 };
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    char *key = malloc(70000);
    memset(key, 'k', 70000);
    MUST(kwr_timers_set_namespace(t, conf_slice("window")));
    for (size_t i = 0; i < COUNT; i++) {
        MUST(kwr_backend_set_key(c->backend, (kwr_slice){ key, sizes[i] }));
        MUST(kwr_timers_register(t, KWR_EVENT_TIME, (int64_t)i));
        MUST(kwr_timers_register(t, KWR_EVENT_TIME, (int64_t)(COUNT + i)));
    }
    for (size_t i = 0; i < 2 * COUNT; i++) {
        kwr_timer timer;
        MUST(kwr_timers_pop_due(t, KWR_EVENT_TIME, 100, &timer));
        CHECK(timer.time_ms == (int64_t)i && timer.key.size == sizes[i % COUNT]);
        CHECK(memcmp(timer.key.data, key, timer.key.size) == 0);
        CHECK(slice_is(timer.name, "window"));
    }
    pops_none(c, t, 100);
    free(key);
}

CONF_COLLECTION_TEST(timers, all_times_but_none_are_times) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    CHECK(next_time(c, t, KWR_EVENT_TIME) == KWR_TIME_NONE);
    event(c, t, INT64_MAX, "a", "");
    CHECK(next_time(c, t, KWR_EVENT_TIME) == INT64_MAX);
    event(c, t, INT64_MIN + 1, "a", "");
    event(c, t, 0, "a", "");
    event(c, t, -1, "a", "");
    EXPECT(KWR_ERR_RANGE, kwr_timers_register(t, KWR_EVENT_TIME, KWR_TIME_NONE));
    CHECK_TEXT("KWR_TIME_NONE is not the time of a timer");
    EXPECT(KWR_ERR_RANGE, kwr_timers_delete(t, KWR_EVENT_TIME, KWR_TIME_NONE));
    CHECK(next_time(c, t, KWR_EVENT_TIME) == INT64_MIN + 1);
    pops_none(c, t, KWR_TIME_NONE);
    pops(c, t, INT64_MIN + 1, INT64_MIN + 1, "a", "");
    pops(c, t, 0, -1, "a", "");
    pops(c, t, 0, 0, "a", "");
    pops_none(c, t, INT64_MAX - 1);
    pops(c, t, INT64_MAX, INT64_MAX, "a", "");
    CHECK(next_time(c, t, KWR_EVENT_TIME) == KWR_TIME_NONE);
}

CONF_COLLECTION_TEST(timers, the_domains_are_apart) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    put(c, t, KWR_EVENT_TIME, 10, "a", "e");
    put(c, t, KWR_PROCESSING_TIME, 5, "a", "p");
    put(c, t, KWR_PROCESSING_TIME, 10, "a", "e");
    CHECK(next_time(c, t, KWR_EVENT_TIME) == 10);
    CHECK(next_time(c, t, KWR_PROCESSING_TIME) == 5);
    MUST(kwr_timers_delete(t, KWR_PROCESSING_TIME, 10));
    CHECK(count_of(c, t, KWR_EVENT_TIME) == 1 && count_of(c, t, KWR_PROCESSING_TIME) == 1);
    pops_in(c, t, KWR_PROCESSING_TIME, 100, 5, "a", "p");
    kwr_timer timer;
    EXPECT(KWR_NOT_FOUND, kwr_timers_pop_due(t, KWR_PROCESSING_TIME, 100, &timer));
    pops(c, t, 100, 10, "a", "e");
    EXPECT(KWR_ERR_RANGE, kwr_timers_register(t, (kwr_time_domain)2, 1));
    CHECK_TEXT("no time domain 2");
}

CONF_COLLECTION_TEST(timers, of_two_names_are_apart) {
    conf_open(c);
    kwr_timers *a = open_timers(c, "a");
    kwr_timers *b = open_timers(c, "b");
    event(c, a, 1, "k", "");
    event(c, b, 2, "k", "");
    pops(c, a, 10, 1, "k", "");
    pops_none(c, a, 10);
    pops(c, b, 10, 2, "k", "");
}

/* ---- popping ---- */

CONF_COLLECTION_TEST(timers, registered_while_popping_come_in_the_same_loop) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 10, "a", "");
    event(c, t, 20, "b", "");
    pops(c, t, 20, 10, "a", "");
    event(c, t, 15, "c", ""); /* before what is next */
    event(c, t, 5, "d", "");  /* before what was */
    event(c, t, 20, "a", ""); /* at the same time */
    event(c, t, 21, "e", ""); /* not due */
    pops(c, t, 20, 5, "d", "");
    pops(c, t, 20, 15, "c", "");
    pops(c, t, 20, 20, "a", "");
    event(c, t, 20, "a", ""); /* the very one that was popped: due again */
    pops(c, t, 20, 20, "a", "");
    pops(c, t, 20, 20, "b", "");
    pops_none(c, t, 20);
    event(c, t, 3, "f", ""); /* past: at the next advance */
    pops(c, t, 20, 3, "f", "");
    pops(c, t, 21, 21, "e", "");
}

CONF_COLLECTION_TEST(timers, deleted_while_popping_do_not_come) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    for (int i = 0; i < 6; i++)
        event(c, t, 10, i % 2 == 0 ? "a" : "b", i < 2 ? "0" : i < 4 ? "1" : "2");
    pops(c, t, 10, 10, "a", "0");
    unregister(c, t, 10, "a", "1"); /* next of its group */
    unregister(c, t, 10, "b", "0"); /* next of all */
    unregister(c, t, 10, "b", "0");
    unregister(c, t, 11, "b", "1");
    pops(c, t, 10, 10, "a", "2");
    pops(c, t, 10, 10, "b", "1");
    unregister(c, t, 10, "b", "2");
    pops_none(c, t, 10);
    CHECK(count_of(c, t, KWR_EVENT_TIME) == 0);
    CHECK(next_time(c, t, KWR_EVENT_TIME) == KWR_TIME_NONE);
}

CONF_COLLECTION_TEST(timers, the_key_of_a_timer_is_current) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "of a");
    conf_set_key(c, "b");
    conf_put(c, v, "of b");
    event(c, t, 1, "b", "");
    event(c, t, 2, "a", "");
    event(c, t, 3, "b", "");
    pops(c, t, 10, 1, "b", "");
    CHECK(conf_holds(v, "of b"));
    pops(c, t, 10, 2, "a", "");
    CHECK(conf_holds(v, "of a"));
    conf_put(c, v, "changed");
    MUST(kwr_timers_register(t, KWR_EVENT_TIME, 4)); /* for the key that was popped */
    pops(c, t, 10, 3, "b", "");
    CHECK(conf_holds(v, "of b"));
    pops(c, t, 10, 4, "a", "");
    CHECK(conf_holds(v, "changed"));
    pops_none(c, t, 10);
    CHECK(conf_holds(v, "changed")); /* nothing popped: nothing else is current */
}

CONF_COLLECTION_TEST(timers, the_handle_keeps_its_namespace) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 1, "a", "w1");
    MUST(kwr_timers_set_namespace(t, conf_slice("w2")));
    pops(c, t, 1, 1, "a", "w1");
    MUST(kwr_timers_register(t, KWR_PROCESSING_TIME, 5));
    pops_in(c, t, KWR_PROCESSING_TIME, 5, 5, "a", "w2");
}

CONF_COLLECTION_TEST(timers, next_looks_without_taking) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    kwr_timer timer = { .time_ms = 77 };
    EXPECT(KWR_NOT_FOUND, kwr_timers_next(t, KWR_EVENT_TIME, &timer));
    CHECK(timer.time_ms == 77);
    event(c, t, 9, "b", "w");
    event(c, t, 8, "a", "w");
    conf_set_key(c, "current");
    for (int i = 0; i < 2; i++) {
        MUST(kwr_timers_next(t, KWR_EVENT_TIME, &timer));
        CHECK(timer.time_ms == 8 && slice_is(timer.key, "a") && slice_is(timer.name, "w"));
    }
    kwr_slice key;
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(slice_is(key, "current"));
    unregister(c, t, 8, "a", "w");
    MUST(kwr_timers_next(t, KWR_EVENT_TIME, &timer));
    CHECK(timer.time_ms == 9 && slice_is(timer.key, "b"));
    /* Looking does not disturb the key popped before. */
    event(c, t, 7, "popped", "");
    pops(c, t, 7, 7, "popped", "");
    MUST(kwr_timers_next(t, KWR_EVENT_TIME, &timer));
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(slice_is(key, "popped"));
}

/* ---- refusals ---- */

CONF_COLLECTION_TEST(timers, without_a_current_key_there_is_nobody_to_wake) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    EXPECT(KWR_ERR_MISUSE, kwr_timers_register(t, KWR_EVENT_TIME, 1));
    CHECK_TEXT("state 'timers/event/t': there is no current key");
    EXPECT(KWR_ERR_MISUSE, kwr_timers_delete(t, KWR_PROCESSING_TIME, 1));
    CHECK_TEXT("state 'timers/processing/t': there is no current key");
    CHECK(next_time(c, t, KWR_EVENT_TIME) == KWR_TIME_NONE);
}

CONF_COLLECTION_TEST(timers, a_name_is_one_handle_with_one_namespace_type) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    CHECK(open_timers(c, "t") == t);
    kwr_timers_descriptor descriptor = { .struct_size = sizeof descriptor,
                                         .name = "t",
                                         .namespace_type = { .kind = KWR_TYPE_I64 } };
    kwr_timers *other = NULL;
    kwr_error err;
    EXPECT(KWR_ERR_MISMATCH, kwr_timers_open(c->backend, &descriptor, &other, &err));
    CHECK(strstr(err.text, "namespaces of bytes, opened with namespaces of i64") != NULL);
    descriptor.name = "windows";
    MUST(kwr_timers_open(c->backend, &descriptor, &other, &err));
    EXPECT(KWR_ERR_RANGE, kwr_timers_set_namespace(other, conf_slice("seven b")));
    MUST(kwr_timers_set_namespace(other, conf_slice("eight by")));
    (void)conf_value(c, "timers/processing/taken", KWR_TYPE_BYTES);
    descriptor.name = "taken";
    other = NULL;
    EXPECT(KWR_ERR_MISMATCH, kwr_timers_open(c->backend, &descriptor, &other, &err));
    CHECK(strstr(err.text, "stored as value of bytes, opened as timer") != NULL);
    descriptor.name = "";
    EXPECT(KWR_ERR_RANGE, kwr_timers_open(c->backend, &descriptor, &other, &err));
    descriptor.name = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_timers_open(c->backend, &descriptor, &other, &err));
    char name[400];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    descriptor.name = name;
    EXPECT(KWR_ERR_RANGE, kwr_timers_open(c->backend, &descriptor, &other, &err));
    CHECK(strstr(err.text, "limits.name_bytes_max") != NULL);
    name[250] = '\0'; /* too long with the prefix alone */
    EXPECT(KWR_ERR_RANGE, kwr_timers_open(c->backend, &descriptor, &other, &err));
    descriptor.struct_size = 0;
    EXPECT(KWR_ERR_RANGE, kwr_timers_open(c->backend, &descriptor, &other, &err));
    CHECK(other == NULL);
}

/* What a damaged or forged checkpoint could hold, put below the handle. */
static void damage(conf *c, uint32_t key_group, const uint8_t *subkey, size_t size) {
    const kwr_slice empty = { 0 };
    const kwr_address at = { .state = 0,
                             .key_group = key_group,
                             .entry_hash = kwr_entry_hash(kwr_key_hash(empty, 42),
                                                          kwr_namespace_hash(empty)) };
    const kwr_engine_ops *ops;
    kwr_engine *engine = kwr_backend_engine(c->backend, &ops);
    MUST(ops->sub_put(engine, &at, (kwr_slice){ subkey, size }, empty));
}

static void check_damaged(conf *c, const uint8_t *subkey, size_t size) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, 5, "a", "");
    damage(c, (kwr_key_group(conf_slice("b"), 42, 128) + 1) % 128, subkey, size);
    pops(c, t, 10, 5, "a", "");
    kwr_timer timer = { .time_ms = 77 };
    kwr_slice key;
    EXPECT(KWR_ERR_CORRUPT, kwr_timers_pop_due(t, KWR_EVENT_TIME, 10, &timer));
    CHECK_TEXT("holds what is not a timer of it");
    CHECK(timer.time_ms == 77);
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(slice_is(key, "a"));
    kwr_backend_close(c->backend);
    c->backend = NULL;
}

CONF_COLLECTION_TEST(timers, that_do_not_belong_where_they_are_stored_are_damage) {
    uint8_t foreign[64];
    kwr_timer_encode(7, conf_slice("b"), (kwr_slice){ 0 }, foreign);
    check_damaged(c, foreign, kwr_timer_size(1, 0));
    static const uint8_t short_key[] = { 0x80, 0, 0, 0, 0, 0, 0, 9, 200, 1, 'k' };
    check_damaged(c, short_key, sizeof short_key);
    static const uint8_t no_size[] = { 0x80, 0, 0, 0, 0, 0, 0, 9 };
    check_damaged(c, no_size, sizeof no_size);
}

/* ---- memory ---- */

CONF_COLLECTION_TEST(timers, without_memory_nothing_changes) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    char key[32];
    int64_t refused = 0;
    for (int i = 0; i < 60; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        for (int64_t allowed = 0;; allowed++) {
            CHECK(count_of(c, t, KWR_EVENT_TIME) == (uint64_t)i);
            conf_fail_alloc(c, allowed);
            const kwr_status status = kwr_timers_register(t, KWR_EVENT_TIME, 100 - i);
            conf_fail_alloc(c, -1);
            if (status == KWR_OK) break;
            EXPECT(KWR_ERR_NOMEM, status);
            refused++;
        }
    }
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view)); /* so that taking needs copies */
    conf_set_key(c, "nobody");
    for (int i = 59; i >= 0; i--) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        kwr_timer timer;
        for (int64_t allowed = 0;; allowed++) {
            CHECK(count_of(c, t, KWR_EVENT_TIME) == (uint64_t)i + 1);
            conf_fail_alloc(c, allowed);
            const kwr_status status = kwr_timers_pop_due(t, KWR_EVENT_TIME, 100, &timer);
            conf_fail_alloc(c, -1);
            if (status == KWR_OK) break;
            EXPECT(KWR_ERR_NOMEM, status);
            refused++;
            kwr_slice current;
            MUST(kwr_backend_key(c->backend, &current, NULL));
            char before[32];
            (void)snprintf(before, sizeof before, i == 59 ? "nobody" : "key-%d", i + 1);
            CHECK(slice_is(current, before));
        }
        CHECK(timer.time_ms == 100 - i && slice_is(timer.key, key));
    }
    CHECK(refused > 0);
    kwr_view_release(view);
}

CONF_COLLECTION_TEST(timers, without_memory_they_are_not_opened) {
    conf_open(c);
    const kwr_timers_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "t" };
    kwr_timers *t = NULL;
    for (int64_t allowed = 0; t == NULL; allowed++) {
        conf_fail_alloc(c, allowed);
        const kwr_status status = kwr_timers_open(c->backend, &descriptor, &t, NULL);
        conf_fail_alloc(c, -1);
        if (status != KWR_OK) EXPECT(KWR_ERR_NOMEM, status);
    }
    event(c, t, 1, "a", "");
    pops(c, t, 1, 1, "a", "");
}

/* ---- against a list that is searched ---- */

typedef struct list_timer {
    int64_t time_ms;
    int key;
    int name;
} list_timer;

typedef struct list {
    list_timer at[4096];
    size_t count;
} list;

static int compare_timers(const void *a, const void *b) {
    const list_timer *x = (const list_timer *)a, *y = (const list_timer *)b;
    if (x->time_ms != y->time_ms) return x->time_ms < y->time_ms ? -1 : 1;
    char kx[16], ky[16];
    const int nx = snprintf(kx, sizeof kx, "k%d", x->key);
    const int ny = snprintf(ky, sizeof ky, "k%d", y->key);
    if (nx != ny) return nx - ny;
    const int by_key = strcmp(kx, ky);
    return by_key != 0 ? by_key : x->name - y->name;
}

static size_t list_find(const list *l, const list_timer *timer) {
    size_t i = 0;
    while (i < l->count && compare_timers(&l->at[i], timer) != 0)
        i++;
    return i;
}

static size_t list_first(const list *l) {
    size_t first = 0;
    for (size_t i = 1; i < l->count; i++) {
        if (compare_timers(&l->at[i], &l->at[first]) < 0) first = i;
    }
    return first;
}

static uint64_t roll(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void take_first(conf *c, kwr_timers *t, list *l, int64_t up_to_ms) {
    kwr_timer timer;
    const kwr_status status = kwr_timers_pop_due(t, KWR_EVENT_TIME, up_to_ms, &timer);
    const size_t first = list_first(l);
    if (l->count == 0 || l->at[first].time_ms > up_to_ms) {
        EXPECT(KWR_NOT_FOUND, status);
        return;
    }
    MUST(status);
    char key[16], name[16];
    (void)snprintf(key, sizeof key, "k%d", l->at[first].key);
    (void)snprintf(name, sizeof name, "%d", l->at[first].name);
    CHECK(timer.time_ms == l->at[first].time_ms);
    CHECK(slice_is(timer.key, key) && slice_is(timer.name, name));
    l->at[first] = l->at[--l->count];
}

static void random_step(conf *c, kwr_timers *t, list *l, uint64_t *seed, int64_t now) {
    const uint64_t dice = roll(seed) % 100;
    /* Few times, so that many are equal. */
    const list_timer timer = { .time_ms = now + (int64_t)(roll(seed) % 6) - 1,
                               .key = (int)(roll(seed) % 60),
                               .name = (int)(roll(seed) % 3) };
    char key[16], name[16];
    (void)snprintf(key, sizeof key, "k%d", timer.key);
    (void)snprintf(name, sizeof name, "%d", timer.name);
    const size_t place = list_find(l, &timer);
    if (dice < 50 && l->count < 4096) {
        event(c, t, timer.time_ms, key, name);
        if (place == l->count) l->at[l->count++] = timer;
    } else if (dice < 65) {
        unregister(c, t, timer.time_ms, key, name);
        if (place < l->count) l->at[place] = l->at[--l->count];
    } else if (dice < 75 && l->count > 0) {
        /* Of what is there: often the first. */
        const size_t gone = dice < 70 ? list_first(l) : roll(seed) % l->count;
        (void)snprintf(key, sizeof key, "k%d", l->at[gone].key);
        (void)snprintf(name, sizeof name, "%d", l->at[gone].name);
        unregister(c, t, l->at[gone].time_ms, key, name);
        l->at[gone] = l->at[--l->count];
    } else if (dice < 99) {
        take_first(c, t, l, now);
    } else {
        CHECK(count_of(c, t, KWR_EVENT_TIME) == l->count);
        const int64_t first = l->count == 0 ? KWR_TIME_NONE : l->at[list_first(l)].time_ms;
        CHECK(next_time(c, t, KWR_EVENT_TIME) == first);
    }
}

CONF_COLLECTION_TEST(timers, do_what_a_searched_list_does, .timeout = 120) {
    static list l;
    static const uint32_t parallelisms[] = { 1, 5, 128, 32768 };
    kwr_view *view = NULL;
    for (uint64_t round = 0; round < 4; round++) {
        uint64_t seed = round;
        l.count = 0;
        kwr_backend_options options = conf_options(c);
        options.max_parallelism = parallelisms[round];
        MUST(conf_open_with(c, &options, &c->backend, NULL));
        kwr_timers *t = open_timers(c, "t");
        for (int step = 0; step < 4000; step++) {
            random_step(c, t, &l, &seed, step / 20);
            if (step % 500 == 100) MUST(kwr_backend_freeze(c->backend, &view));
            if (step % 500 == 400) kwr_view_release(view);
        }
        while (l.count > 0)
            take_first(c, t, &l, INT64_MAX);
        take_first(c, t, &l, INT64_MAX);
        kwr_backend_close(c->backend);
        c->backend = NULL;
    }
}

/* ---- many at one instant ---- */

CONF_COLLECTION_TEST(timers, thousands_at_one_instant_come_once_each, .timeout = 120) {
    enum { MANY = 3000 };
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    char key[16];
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(key, sizeof key, "key-%05d", i);
        event(c, t, 1000, key, "w");
    }
    for (int i = 0; i < MANY; i += 2) {
        (void)snprintf(key, sizeof key, "key-%05d", i);
        unregister(c, t, 1000, key, "w");
    }
    CHECK(count_of(c, t, KWR_EVENT_TIME) == MANY / 2);
    for (int i = 1; i < MANY; i += 2) {
        (void)snprintf(key, sizeof key, "key-%05d", i);
        pops(c, t, 1000, 1000, key, "w");
    }
    pops_none(c, t, INT64_MAX);
}

/* ---- across a restart ---- */

static void restart(conf *c, const kwr_backend_options *options) {
    kwr_view *view;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    kwr_backend *restored = NULL;
    KWR_MUST_ERR(conf_restore(c, view, options, &restored, &err), err);
    kwr_view_release(view);
    kwr_backend_close(c->backend);
    c->backend = restored;
}

enum { STORED = 2000 };

static void store_many(conf *c) {
    kwr_timers *t = open_timers(c, "t");
    char key[16];
    for (int i = 0; i < STORED; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i % 700);
        put(c, t, i % 3 == 0 ? KWR_PROCESSING_TIME : KWR_EVENT_TIME, i / 50, key,
            i % 2 == 0 ? "w" : "");
    }
}

CONF_COLLECTION_RESTORE_TEST(timers, are_there_after_a_restore, .timeout = 120) {
    conf_open(c);
    store_many(c);
    kwr_timers *t = open_timers(c, "t");
    const uint64_t events = count_of(c, t, KWR_EVENT_TIME);
    const uint64_t others = count_of(c, t, KWR_PROCESSING_TIME);
    kwr_timer timer;
    for (int i = 0; i < 30; i++) /* popped ones do not come back */
        MUST(kwr_timers_pop_due(t, KWR_EVENT_TIME, INT64_MAX, &timer));
    restart(c, NULL);
    t = open_timers(c, "t");
    CHECK(next_time(c, t, KWR_PROCESSING_TIME) == 0); /* long past: due at once */
    CHECK(count_of(c, t, KWR_EVENT_TIME) == events - 30);
    CHECK(count_of(c, t, KWR_PROCESSING_TIME) == others);
    event(c, t, -7, "key-3", "new");
    pops(c, t, 0, -7, "key-3", "new");
    uint64_t popped = 0;
    int64_t last = INT64_MIN;
    while (kwr_timers_pop_due(t, KWR_EVENT_TIME, INT64_MAX, &timer) == KWR_OK) {
        CHECK(timer.time_ms >= last);
        last = timer.time_ms;
        popped++;
    }
    CHECK(popped == events - 30);
}

CONF_COLLECTION_RESTORE_TEST(timers, not_opened_after_a_restore_stay_stored) {
    conf_open(c);
    store_many(c);
    const uint64_t before = count_of(c, open_timers(c, "t"), KWR_EVENT_TIME);
    restart(c, NULL);
    restart(c, NULL);
    CHECK(count_of(c, open_timers(c, "t"), KWR_EVENT_TIME) == before);
}

CONF_COLLECTION_RESTORE_TEST(timers, go_with_their_key_group, .timeout = 120) {
    conf_open(c);
    store_many(c);
    kwr_timers *whole = open_timers(c, "t");
    kwr_view *view;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    kwr_backend *of_all = c->backend;
    kwr_timers *parts[3];
    kwr_backend *backends[3];
    for (uint32_t i = 0; i < 3; i++) {
        kwr_backend_options options = conf_options(c);
        options.key_groups = kwr_key_groups_of(i, 3, 128);
        KWR_MUST_ERR(conf_restore(c, view, &options, &backends[i], &err), err);
        c->backend = backends[i];
        parts[i] = open_timers(c, "t");
    }
    kwr_view_release(view);
    /* The order of the whole is that of the parts together. */
    kwr_timer want, got;
    size_t popped = 0;
    while (kwr_timers_pop_due(whole, KWR_EVENT_TIME, INT64_MAX, &want) == KWR_OK) {
        const uint32_t owner = kwr_key_group_owner(want.key_group, 3, 128);
        c->backend = backends[owner];
        MUST(kwr_timers_pop_due(parts[owner], KWR_EVENT_TIME, INT64_MAX, &got));
        CHECK(got.time_ms == want.time_ms && got.key_group == want.key_group);
        CHECK(got.key.size == want.key.size &&
              memcmp(got.key.data, want.key.data, got.key.size) == 0);
        popped++;
    }
    CHECK(popped > STORED / 2);
    for (uint32_t i = 0; i < 3; i++) {
        c->backend = backends[i];
        pops_none(c, parts[i], INT64_MAX);
        kwr_backend_close(backends[i]);
    }
    c->backend = of_all;
}

CONF_COLLECTION_TEST(timers, follow_the_groups_of_an_engine_that_chooses_them) {
    kwr_backend_options options = conf_options(c);
    options.engine_key_groups = true;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_timers *t = open_timers(c, "t");
    MUST(kwr_backend_set_key_in(c->backend, conf_slice("a"), 99));
    MUST(kwr_timers_register(t, KWR_EVENT_TIME, 2));
    MUST(kwr_backend_set_key_in(c->backend, conf_slice("a"), 3));
    MUST(kwr_timers_register(t, KWR_EVENT_TIME, 1));
    static const uint32_t groups[] = { 3, 99 };
    for (size_t i = 0; i < 2; i++) {
        kwr_timer timer;
        uint32_t group;
        kwr_slice key;
        MUST(kwr_timers_pop_due(t, KWR_EVENT_TIME, 5, &timer));
        MUST(kwr_backend_key(c->backend, &key, &group));
        CHECK(timer.key_group == groups[i] && group == groups[i]);
    }
}

/* ---- in views ---- */

static kwr_status look_at(void *ctx, const kwr_view_entry *entry) {
    conf *c = (conf *)ctx;
    CHECK(slice_is(entry->key, "a") && slice_is(entry->name, "w"));
    CHECK(entry->subkey.size == 8 && kwr_key_to_i64(entry->subkey.data) == -12);
    CHECK(entry->value.size == 0);
    return KWR_NOT_FOUND;
}

CONF_COLLECTION_TEST(timers, are_seen_in_a_view_with_time_key_and_namespace) {
    conf_open(c);
    kwr_timers *t = open_timers(c, "t");
    event(c, t, -12, "a", "w");
    event(c, t, 12, "a", "w");
    kwr_view *view;
    size_t number;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    pops(c, t, 0, -12, "a", "w");
    MUST(kwr_view_find_state(view, "timers/event/t", &number));
    const uint32_t group = kwr_key_group(conf_slice("a"), 42, 128);
    EXPECT(KWR_NOT_FOUND, kwr_view_entries(view, number, group, look_at, c, &err));
    kwr_state_size size = { .struct_size = sizeof size };
    MUST(kwr_view_get_size(view, number, &size, &err));
    CHECK(size.elements == 2 && size.entries == 1);
    MUST(kwr_view_get_group_size(view, number, group, &size, &err));
    CHECK(size.elements == 2 && size.entries == 1);
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_view_keys_and_namespaces(view, number, NULL, NULL, &err));
    kwr_view_release(view);
}
