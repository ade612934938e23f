/* SPDX-License-Identifier: Apache-2.0 */
/* Map state: what each call does, for one map and for many, and what is refused. */
#include "tests/conformance/conformance.h"

static void put(conf *c, kwr_map *m, const char *key, const char *value) {
    MUST(kwr_map_put(m, conf_slice(key), conf_slice(value)));
}

/* NULL: there is none. */
static bool holds(kwr_map *m, const char *key, const char *text) {
    kwr_slice got = { "x", 1 };
    const kwr_status contained = kwr_map_contains(m, conf_slice(key));
    const kwr_status status = kwr_map_get(m, conf_slice(key), &got);
    if (contained != status) return false;
    if (text == NULL) return status == KWR_NOT_FOUND && got.size == 0;
    return status == KWR_OK && conf_is(got, text);
}

static uint64_t count_of(conf *c, kwr_map *m) {
    uint64_t count = 77;
    bool empty;
    MUST(kwr_map_count(m, &count));
    MUST(kwr_map_is_empty(m, &empty));
    CHECK(empty == (count == 0));
    return count;
}

CONF_COLLECTION_TEST(map, is_empty_at_first) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    CHECK(holds(m, "x", NULL));
    CHECK(count_of(c, m) == 0);
    MUST(kwr_map_remove(m, conf_slice("x")));
    MUST(kwr_map_clear(m));
    kwr_slice key = { "x", 1 }, value = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_map_first(m, &key, &value));
    CHECK(key.size == 0 && value.size == 0);
    EXPECT(KWR_NOT_FOUND, kwr_map_last(m, NULL, NULL));
    CHECK(conf_entries(c) == 0);
}

CONF_COLLECTION_TEST(map, put_adds_and_replaces) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "1");
    put(c, m, "y", "2");
    CHECK(holds(m, "x", "1") && holds(m, "y", "2") && count_of(c, m) == 2);
    put(c, m, "x", "a longer value than before");
    CHECK(holds(m, "x", "a longer value than before") && count_of(c, m) == 2);
    put(c, m, "x", "");
    CHECK(holds(m, "x", "") && count_of(c, m) == 2);
    MUST(kwr_map_remove(m, conf_slice("x")));
    CHECK(holds(m, "x", NULL) && holds(m, "y", "2") && count_of(c, m) == 1);
    CHECK(conf_entries(c) == 1);
    MUST(kwr_map_clear(m));
    CHECK(holds(m, "y", NULL) && count_of(c, m) == 0 && conf_entries(c) == 0);
}

CONF_COLLECTION_TEST(map, removing_the_last_user_key_removes_the_map) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "1");
    CHECK(conf_entries(c) == 1);
    MUST(kwr_map_remove(m, conf_slice("y")));
    CHECK(conf_entries(c) == 1);
    MUST(kwr_map_remove(m, conf_slice("x")));
    CHECK(conf_entries(c) == 0);
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    CHECK(conf_view_entries(c, view) == 0);
    kwr_view_release(view);
}

CONF_COLLECTION_TEST(map, an_empty_user_key_is_a_user_key) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_BYTES, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    MUST(kwr_map_put(m, (kwr_slice){ 0 }, (kwr_slice){ 0 }));
    CHECK(holds(m, "", "") && count_of(c, m) == 1);
    put(c, m, "x", "1");
    kwr_slice key, value;
    MUST(kwr_map_first(m, &key, &value));
    CHECK(key.size == 0 && value.size == 0);
    MUST(kwr_map_remove(m, (kwr_slice){ 0 }));
    CHECK(holds(m, "", NULL) && holds(m, "x", "1"));
}

CONF_COLLECTION_TEST(map, put_all_puts_in_order) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "0");
    MUST(kwr_map_put_all(m, NULL, NULL, 0));
    CHECK(count_of(c, m) == 1);
    const kwr_slice keys[] = { conf_slice("x"), conf_slice("y"), conf_slice("x") };
    const kwr_slice values[] = { conf_slice("1"), conf_slice("2"), conf_slice("3") };
    MUST(kwr_map_put_all(m, keys, values, 3));
    CHECK(holds(m, "x", "3") && holds(m, "y", "2") && count_of(c, m) == 2);
}

CONF_COLLECTION_TEST(map, put_all_of_nothing_makes_no_map) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    MUST(kwr_map_put_all(m, NULL, NULL, 0));
    CHECK(conf_entries(c) == 0);
}

CONF_COLLECTION_TEST(map, put_all_stores_nothing_when_one_does_not_fit) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    const kwr_slice keys[] = { conf_slice("12345678"), conf_slice("1234") };
    const kwr_slice values[] = { conf_slice("1"), conf_slice("2") };
    EXPECT(KWR_ERR_RANGE, kwr_map_put_all(m, keys, values, 2));
    CHECK_TEXT("state 'm': a user key of type i64 has 8 bytes, not 4");
    CHECK(count_of(c, m) == 0);
}

CONF_COLLECTION_TEST(map, modify_reads_and_writes_one_value) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_BYTES);
    kwr_map *n = conf_map(c, "n", KWR_TYPE_STRING, KWR_TYPE_I64);
    conf_set_key(c, "a");
    void *bytes;
    size_t old_size;
    MUST(kwr_map_modify(m, conf_slice("x"), 4, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT && memcmp(bytes, "\0\0\0\0", 4) == 0);
    memcpy(bytes, "abcd", 4);
    MUST(kwr_map_modify(m, conf_slice("x"), 6, &bytes, &old_size));
    CHECK(old_size == 4 && memcmp(bytes, "abcd\0\0", 6) == 0);
    MUST(kwr_map_modify(m, conf_slice("x"), 2, &bytes, NULL));
    CHECK(holds(m, "x", "ab"));
    MUST(kwr_map_modify(m, conf_slice("x"), KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == 2);
    memcpy(bytes, "AB", 2);
    CHECK(holds(m, "x", "AB") && count_of(c, m) == 1);
    MUST(kwr_map_modify(m, conf_slice("y"), KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT && holds(m, "y", "") && count_of(c, m) == 2);
    MUST(kwr_map_modify(n, conf_slice("x"), KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT && memcmp(bytes, "\0\0\0\0\0\0\0\0", 8) == 0);
    EXPECT(KWR_ERR_RANGE, kwr_map_modify(n, conf_slice("x"), 4, &bytes, &old_size));
}

CONF_COLLECTION_TEST(map, maps_of_keys_namespaces_and_states_are_apart) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    kwr_map *n = conf_map(c, "n", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "a");
    MUST(kwr_map_set_namespace(m, conf_slice("w")));
    CHECK(holds(m, "x", NULL));
    put(c, m, "x", "a in w");
    conf_set_key(c, "b");
    CHECK(holds(m, "x", NULL));
    put(c, m, "x", "b in w");
    put(c, n, "x", "n");
    MUST(kwr_map_set_namespace(m, (kwr_slice){ 0 }));
    CHECK(holds(m, "x", NULL));
    conf_set_key(c, "a");
    CHECK(holds(m, "x", "a") && holds(n, "x", NULL));
    MUST(kwr_map_clear(m));
    MUST(kwr_map_set_namespace(m, conf_slice("w")));
    CHECK(holds(m, "x", "a in w"));
    CHECK(conf_entries(c) == 3);
}

CONF_COLLECTION_TEST(map, large_maps_and_values_keep_every_entry) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_BYTES, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    char key[32];
    char *value = (char *)malloc(70000);
    enum { COUNT = 3000 };
    for (unsigned i = 0; i < COUNT; i++) {
        /* Up, down and across: a step that visits all. */
        const unsigned n = i * 1237 % COUNT;
        const int size = snprintf(key, sizeof key, "user-%u", n);
        const size_t value_size = n % 500 == 0 ? 70000 : n % 50;
        memset(value, 'a' + (int)(n % 26), value_size);
        MUST(kwr_map_put(m, (kwr_slice){ key, (size_t)size }, (kwr_slice){ value, value_size }));
    }
    CHECK(count_of(c, m) == COUNT && conf_entries(c) == 1);
    for (unsigned n = 0; n < COUNT; n++) {
        (void)snprintf(key, sizeof key, "user-%u", n);
        kwr_slice got;
        MUST(kwr_map_get(m, conf_slice(key), &got));
        CHECK(got.size == (n % 500 == 0 ? 70000 : n % 50));
        for (size_t at = 0; at < got.size; at++)
            CHECK(((const char *)got.data)[at] == (char)('a' + (int)(n % 26)));
        if (n % 3 != 0) MUST(kwr_map_remove(m, conf_slice(key)));
    }
    CHECK(count_of(c, m) == COUNT / 3);
    for (unsigned n = 0; n < COUNT; n++) {
        (void)snprintf(key, sizeof key, "user-%u", n);
        EXPECT(n % 3 == 0 ? KWR_OK : KWR_NOT_FOUND, kwr_map_contains(m, conf_slice(key)));
    }
    MUST(kwr_map_clear(m));
    CHECK(count_of(c, m) == 0 && conf_entries(c) == 0);
    free(value);
}

CONF_COLLECTION_TEST(map, user_keys_of_the_largest_size_are_kept) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.key_bytes_max = 5000;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_map *m = conf_map(c, "m", KWR_TYPE_BYTES, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    char key[5001];
    memset(key, 'k', sizeof key);
    for (int i = 0; i < 40; i++) {
        key[4999] = (char)('0' + i);
        MUST(kwr_map_put(m, (kwr_slice){ key, 5000 }, (kwr_slice){ &key[4999], 1 }));
    }
    CHECK(count_of(c, m) == 40);
    for (int i = 0; i < 40; i++) {
        key[4999] = (char)('0' + i);
        kwr_slice got;
        MUST(kwr_map_get(m, (kwr_slice){ key, 5000 }, &got));
        CHECK(got.size == 1 && *(const char *)got.data == '0' + i);
    }
    EXPECT(KWR_ERR_RANGE, kwr_map_put(m, (kwr_slice){ key, 5001 }, (kwr_slice){ 0 }));
    CHECK_TEXT("state 'm': the user key has 5001 bytes, limits.key_bytes_max is 5000");
    kwr_slice got = { "untouched", 9 };
    EXPECT(KWR_ERR_RANGE, kwr_map_get(m, (kwr_slice){ key, 5001 }, &got));
    EXPECT(KWR_ERR_RANGE, kwr_map_remove(m, (kwr_slice){ key, 5001 }));
    EXPECT(KWR_ERR_RANGE, kwr_map_contains(m, (kwr_slice){ key, 5001 }));
    CHECK(got.size == 9);
}

CONF_COLLECTION_TEST(map, sizes_of_user_keys_and_values_are_checked) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I32, KWR_TYPE_F64);
    conf_set_key(c, "a");
    uint8_t key[4];
    kwr_key_from_i32(-7, key);
    const kwr_slice user_key = { key, sizeof key };
    EXPECT(KWR_ERR_RANGE, kwr_map_put(m, conf_slice("123"), conf_slice("12345678")));
    CHECK_TEXT("a user key of type i32 has 4 bytes, not 3");
    EXPECT(KWR_ERR_RANGE, kwr_map_put(m, user_key, conf_slice("1234567")));
    CHECK_TEXT("a value of type f64 has 8 bytes, not 7");
    MUST(kwr_map_put(m, user_key, conf_slice("12345678")));
    void *bytes = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_map_modify(m, conf_slice("12345"), 8, &bytes, NULL));
    CHECK(bytes == NULL && count_of(c, m) == 1);
}

CONF_COLLECTION_TEST(map, without_a_current_key_every_access_is_misuse) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    const kwr_slice x = conf_slice("x");
    kwr_slice out = { "untouched", 9 };
    void *bytes = NULL;
    uint64_t count = 5;
    bool empty = true;
    kwr_map_iterator *it = NULL;
    EXPECT(KWR_ERR_MISUSE, kwr_map_get(m, x, &out));
    CHECK_TEXT("state 'm': there is no current key");
    EXPECT(KWR_ERR_MISUSE, kwr_map_contains(m, x));
    EXPECT(KWR_ERR_MISUSE, kwr_map_put(m, x, x));
    EXPECT(KWR_ERR_MISUSE, kwr_map_put_all(m, &x, &x, 1));
    EXPECT(KWR_ERR_MISUSE, kwr_map_put_all(m, NULL, NULL, 0));
    EXPECT(KWR_ERR_MISUSE, kwr_map_modify(m, x, 1, &bytes, NULL));
    EXPECT(KWR_ERR_MISUSE, kwr_map_remove(m, x));
    EXPECT(KWR_ERR_MISUSE, kwr_map_clear(m));
    EXPECT(KWR_ERR_MISUSE, kwr_map_count(m, &count));
    EXPECT(KWR_ERR_MISUSE, kwr_map_is_empty(m, &empty));
    EXPECT(KWR_ERR_MISUSE, kwr_map_first(m, &out, &out));
    EXPECT(KWR_ERR_MISUSE, kwr_map_last(m, &out, &out));
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterate(m, &it));
    CHECK(out.size == 9 && bytes == NULL && count == 5 && empty && it == NULL);
}

CONF_COLLECTION_TEST(map, another_user_key_type_is_refused_with_both) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING);
    CHECK(conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING) == m);
    kwr_map *other = NULL;
    kwr_map_descriptor d = { .struct_size = sizeof d,
                             .name = "m",
                             .user_key_type = { .kind = KWR_TYPE_STRING },
                             .type = { .kind = KWR_TYPE_STRING } };
    kwr_error err;
    EXPECT(KWR_ERR_MISMATCH, kwr_map_open(c->backend, &d, &other, &err));
    CHECK(strcmp(err.text, "state 'm' is stored as map of i64 to string, opened as map of string "
                           "to string") == 0);
    d.user_key_type.kind = KWR_TYPE_I64;
    d.type.kind = KWR_TYPE_BOOL;
    EXPECT(KWR_ERR_MISMATCH, kwr_map_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("stored as map of i64 to string, opened as map of i64 to bool");
    kwr_list *list = NULL;
    const kwr_list_descriptor ld = { .struct_size = sizeof ld,
                                     .name = "m",
                                     .type = { .kind = KWR_TYPE_STRING } };
    EXPECT(KWR_ERR_MISMATCH, kwr_list_open(c->backend, &ld, &list, NULL));
    CHECK_TEXT("stored as map of i64 to string, opened as list of string");
    d = (kwr_map_descriptor){ .struct_size = sizeof d,
                              .name = "rows",
                              .user_key_type = { .kind = KWR_TYPE_ROW } };
    EXPECT(KWR_ERR_RANGE, kwr_map_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("the user key type of state 'rows': rows are for values only");
    CHECK(other == NULL && list == NULL);
}

CONF_COLLECTION_TEST(map, two_maps_can_be_read_side_by_side) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    kwr_map *n = conf_map(c, "n", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "from m");
    kwr_slice of_m, key;
    MUST(kwr_map_first(m, &key, &of_m));
    /* Key and value of the other map may be what this one lent. */
    MUST(kwr_map_put(n, key, of_m));
    CHECK(holds(n, "x", "from m"));
    char name[16];
    for (int i = 0; i < 500; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        put(c, n, name, "many, so that what holds them splits and moves");
    }
    CHECK(conf_is(of_m, "from m") && conf_is(key, "x"));
}

CONF_COLLECTION_TEST(map, a_view_keeps_the_map_of_the_moment) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    char key[16];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "%03d", i);
        put(c, m, key, key);
    }
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    for (int i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "%03d", i);
        if (i % 2 == 0)
            put(c, m, key, "changed");
        else
            MUST(kwr_map_remove(m, conf_slice(key)));
    }
    put(c, m, "later", "x");
    CHECK(conf_view_entries(c, view) == 1);
    CHECK(conf_view_holds_at(c, view, "m", "a", "", conf_slice("007"), "007"));
    CHECK(conf_view_holds_at(c, view, "m", "a", "", conf_slice("200"), "200"));
    CHECK(conf_view_holds_at(c, view, "m", "a", "", conf_slice("later"), NULL));
    MUST(kwr_map_clear(m));
    CHECK(conf_view_holds_at(c, view, "m", "a", "", conf_slice("299"), "299"));
    CHECK(conf_view_entries(c, view) == 1);
    kwr_view_release(view);
    CHECK(count_of(c, m) == 0);
}

CONF_COLLECTION_TEST(map, batches_give_the_results_of_single_calls) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    kwr_state *const states[] = { kwr_map_state(m) };
    enum { KEYS = 30 };
    char text[KEYS][16];
    kwr_slice keys[KEYS];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(text[i], sizeof text[i], "key-%d", i);
        keys[i] = conf_slice(text[i]);
    }
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, KEYS, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, KEYS));
    for (int round = 0; round < 100; round++) {
        char user[16], before[16];
        (void)snprintf(user, sizeof user, "%d", round);
        (void)snprintf(before, sizeof before, "%d", round - 1);
        if (round % 3 != 1) kwr_key_batch_prefetch(batch, states, 1);
        for (size_t i = 0; i < KEYS; i++) {
            MUST(kwr_key_batch_select(batch, i));
            CHECK(holds(m, user, NULL) && holds(m, before, round == 0 ? NULL : text[i]));
            put(c, m, user, text[i]);
            CHECK(count_of(c, m) == (uint64_t)round + 1);
        }
    }
    for (int i = 0; i < KEYS; i++) {
        conf_set_key(c, text[i]);
        CHECK(holds(m, "50", text[i]));
    }
}

CONF_COLLECTION_RESTORE_TEST(map, is_restored_with_every_entry) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING);
    static const int sizes[] = { 1, 7, 300, 5000 };
    char text[16];
    for (int k = 0; k < 4; k++) {
        (void)snprintf(text, sizeof text, "key-%d", k);
        conf_set_key(c, text);
        for (int i = 0; i < sizes[k]; i++) {
            uint8_t user[8];
            kwr_key_from_i64(i * 31 % sizes[k] - sizes[k] / 2, user);
            (void)snprintf(text, sizeof text, "%d", i * 31 % sizes[k]);
            MUST(kwr_map_put(m, (kwr_slice){ user, 8 }, conf_slice(text)));
        }
    }
    conf_restart(c);
    m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING);
    for (int k = 0; k < 4; k++) {
        (void)snprintf(text, sizeof text, "key-%d", k);
        conf_set_key(c, text);
        kwr_map_iterator *it;
        MUST(kwr_map_iterate(m, &it));
        kwr_slice user, value;
        uint64_t count = 0;
        for (int64_t n = 0; kwr_map_iterator_next(it, &user, &value) == KWR_OK; n++, count++) {
            CHECK(user.size == 8 && kwr_key_to_i64(user.data) == n - sizes[k] / 2);
            (void)snprintf(text, sizeof text, "%d", (int)n);
            CHECK(conf_is(value, text));
        }
        kwr_map_iterator_free(it);
        CHECK(count == count_of(c, m));
    }
    CHECK(conf_entries(c) == 4);
}
