/* SPDX-License-Identifier: Apache-2.0 */
/* Value state: what each call does for one key, and how long what it lends stays valid. */
#include "tests/conformance/conformance.h"

CONF_TEST(value, nothing_is_stored_at_first) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    CHECK(conf_holds(v, NULL));
    MUST(kwr_value_clear(v));
    CHECK(conf_holds(v, NULL));
}

CONF_TEST(value, put_replaces_the_whole_value) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "first");
    CHECK(conf_holds(v, "first"));
    conf_put(c, v, "a longer one");
    CHECK(conf_holds(v, "a longer one"));
    conf_put(c, v, "x");
    CHECK(conf_holds(v, "x"));
}

CONF_TEST(value, an_empty_value_is_not_absent) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    MUST(kwr_value_put(v, (kwr_slice){ 0 }));
    CHECK(conf_holds(v, ""));
    MUST(kwr_value_clear(v));
    CHECK(conf_holds(v, NULL));
}

CONF_TEST(value, an_empty_key_is_a_key) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    MUST(kwr_backend_set_key(c->backend, (kwr_slice){ 0 }));
    conf_put(c, v, "of the empty key");
    conf_set_key(c, "a");
    CHECK(conf_holds(v, NULL));
    conf_set_key(c, "");
    CHECK(conf_holds(v, "of the empty key"));
}

CONF_TEST(value, keys_and_states_are_apart) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_value *w = conf_value(c, "w", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "va");
    conf_set_key(c, "b");
    conf_put(c, w, "wb");
    CHECK(conf_holds(v, NULL));
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "va"));
    CHECK(conf_holds(w, NULL));
    MUST(kwr_value_clear(w));
    CHECK(conf_holds(v, "va"));
}

CONF_TEST(value, clear_removes_one_entry_only) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    char key[16];
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        conf_put(c, v, key);
    }
    conf_set_key(c, "key-50");
    MUST(kwr_value_clear(v));
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        CHECK(conf_holds(v, i == 50 ? NULL : key));
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(conf_counts(c, stats.entries, 99));
}

CONF_TEST(value, namespaces_are_apart_and_belong_to_the_handle) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_value *w = conf_value(c, "w", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "no namespace");
    MUST(kwr_value_set_namespace(v, conf_slice("one")));
    CHECK(conf_holds(v, NULL));
    conf_put(c, v, "in one");
    conf_put(c, w, "w has its own");
    /* A change of the key keeps the namespace. */
    conf_set_key(c, "b");
    CHECK(conf_holds(v, NULL));
    conf_put(c, v, "b in one");
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "in one"));
    CHECK(conf_holds(w, "w has its own"));
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
    CHECK(conf_holds(v, "no namespace"));
    MUST(kwr_value_set_namespace(w, conf_slice("one")));
    CHECK(conf_holds(w, NULL));
}

/* "ab" + "c" and "a" + "bc" are the same bytes one after the other. */
CONF_TEST(value, key_and_namespace_do_not_run_into_each_other) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "ab");
    MUST(kwr_value_set_namespace(v, conf_slice("c")));
    conf_put(c, v, "ab|c");
    conf_set_key(c, "a");
    MUST(kwr_value_set_namespace(v, conf_slice("bc")));
    CHECK(conf_holds(v, NULL));
    conf_put(c, v, "a|bc");
    conf_set_key(c, "ab");
    MUST(kwr_value_set_namespace(v, conf_slice("c")));
    CHECK(conf_holds(v, "ab|c"));
}

CONF_TEST(value, the_namespace_is_copied) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    char name[] = "window-1";
    MUST(kwr_value_set_namespace(v, conf_slice(name)));
    conf_put(c, v, "1");
    name[7] = '2';
    CHECK(conf_holds(v, "1"));
    MUST(kwr_value_set_namespace(v, conf_slice(name)));
    CHECK(conf_holds(v, NULL));
}

CONF_TEST(value, modify_grows_with_zeros_and_shrinks_from_the_end) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    void *bytes;
    size_t old_size;
    MUST(kwr_value_modify(v, 4, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT);
    CHECK(memcmp(bytes, "\0\0\0\0", 4) == 0);
    memcpy(bytes, "abcd", 4);
    CHECK(conf_holds(v, "abcd"));
    MUST(kwr_value_modify(v, 6, &bytes, &old_size));
    CHECK(old_size == 4);
    CHECK(memcmp(bytes, "abcd\0\0", 6) == 0);
    memcpy(bytes, "abcdef", 6);
    MUST(kwr_value_modify(v, 2, &bytes, &old_size));
    CHECK(old_size == 6);
    CHECK(conf_holds(v, "ab"));
    /* What was cut off does not come back. */
    MUST(kwr_value_modify(v, 4, &bytes, &old_size));
    CHECK(memcmp(bytes, "ab\0\0", 4) == 0);
    MUST(kwr_value_modify(v, 0, &bytes, NULL));
    CHECK(conf_holds(v, ""));
}

CONF_TEST(value, modify_can_keep_the_size) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    void *bytes;
    size_t old_size;
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT);
    CHECK(conf_holds(v, ""));
    conf_put(c, v, "count 1");
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == 7);
    ((char *)bytes)[6] = '2';
    CHECK(conf_holds(v, "count 2"));
}

CONF_TEST(value, keeping_the_size_of_an_absent_number_makes_a_zero) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_I64);
    conf_set_key(c, "a");
    void *bytes;
    size_t old_size;
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT);
    kwr_slice got;
    MUST(kwr_value_get(v, &got));
    CHECK(got.size == 8 && memcmp(got.data, "\0\0\0\0\0\0\0\0", 8) == 0);
}

CONF_TEST(value, large_and_small_values_replace_each_other) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    static const size_t sizes[] = { 1, 100, 3000, 5000, 17000, 70000, 3 << 20, 70000, 0, 17000, 2 };
    char *data = (char *)malloc(3 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(data, 'a' + (int)i, sizes[i]);
        MUST(kwr_value_put(v, (kwr_slice){ data, sizes[i] }));
        kwr_slice got;
        MUST(kwr_value_get(v, &got));
        CHECK(got.size == sizes[i] && memcmp(got.data, data, got.size) == 0);
        void *bytes;
        size_t old_size;
        MUST(kwr_value_modify(v, sizes[i] / 2, &bytes, &old_size));
        CHECK(old_size == sizes[i] && memcmp(bytes, data, sizes[i] / 2) == 0);
        MUST(kwr_value_modify(v, sizes[i] * 2 / 3, &bytes, &old_size));
        CHECK(old_size == sizes[i] / 2 && memcmp(bytes, data, sizes[i] / 2) == 0);
        for (size_t at = sizes[i] / 2; at < sizes[i] * 2 / 3; at++)
            CHECK(((char *)bytes)[at] == '\0');
    }
    free(data);
}

CONF_TEST(value, two_states_can_be_read_side_by_side) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_value *w = conf_value(c, "w", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "from v");
    conf_put(c, w, "from w");
    kwr_slice of_v, of_w;
    MUST(kwr_value_get(v, &of_v));
    MUST(kwr_value_get(w, &of_w));
    CHECK(of_v.size == 6 && memcmp(of_v.data, "from v", 6) == 0);
    /* Writes to the one do not move what the other lent, however often its pages change. */
    MUST(kwr_value_put(w, of_v));
    CHECK(conf_holds(w, "from v"));
    char name[16];
    for (int i = 0; i < 500; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        MUST(kwr_value_set_namespace(w, conf_slice(name)));
        conf_put(c, w, "many of w, so that its pages split and move");
    }
    CHECK(of_v.size == 6 && memcmp(of_v.data, "from v", 6) == 0);
}

CONF_TEST(value, lent_bytes_are_written_where_they_are_stored) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_value *w = conf_value(c, "w", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "....");
    void *bytes;
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, NULL));
    conf_put(c, w, "between");
    memcpy(bytes, "done", 4);
    CHECK(conf_holds(v, "done"));
}

CONF_TEST(value, fixed_sizes_are_checked) {
    static const struct {
        kwr_type_kind kind;
        size_t size;
    } kinds[] = { { KWR_TYPE_BOOL, 1 },
                  { KWR_TYPE_I32, 4 },
                  { KWR_TYPE_I64, 8 },
                  { KWR_TYPE_U64, 8 },
                  { KWR_TYPE_F64, 8 } };
    conf_open(c);
    conf_set_key(c, "a");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        kwr_value *v = conf_value(c, kwr_type_kind_name(kinds[i].kind), kinds[i].kind);
        void *bytes = NULL;
        for (size_t size = 0; size < 12; size++) {
            const kwr_status want = size == kinds[i].size ? KWR_OK : KWR_ERR_RANGE;
            EXPECT(want, kwr_value_put(v, (kwr_slice){ "123456789012", size }));
            EXPECT(want, kwr_value_modify(v, size, &bytes, NULL));
        }
        kwr_slice got;
        MUST(kwr_value_get(v, &got));
        CHECK(got.size == kinds[i].size && memcmp(got.data, "123456789012", got.size) == 0);
    }
    kwr_value *v = conf_value(c, "i32", KWR_TYPE_I32);
    EXPECT(KWR_ERR_RANGE, kwr_value_put(v, conf_slice("12345")));
    CHECK_TEXT("state 'i32': a value of type i32 has 4 bytes, not 5");
}

/* ---- defaults ---- */

static kwr_value *open_default(conf *c, const char *name, kwr_type_kind kind, kwr_slice value) {
    const kwr_value_descriptor d = {
        .struct_size = sizeof d, .name = name, .type = { .kind = kind }, .default_value = value
    };
    kwr_value *v = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_value_open(c->backend, &d, &v, &err), err);
    return v;
}

CONF_TEST(value, a_default_is_read_where_nothing_is_stored) {
    conf_open(c);
    char bytes[] = "default";
    kwr_value *v = open_default(c, "v", KWR_TYPE_STRING, conf_slice(bytes));
    bytes[0] = 'D'; /* it was copied */
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "default"));
    conf_put(c, v, "stored");
    CHECK(conf_holds(v, "stored"));
    MUST(kwr_value_set_namespace(v, conf_slice("w")));
    CHECK(conf_holds(v, "default"));
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
    MUST(kwr_value_clear(v));
    CHECK(conf_holds(v, "default"));
    conf_put(c, v, "");
    CHECK(conf_holds(v, ""));
}

CONF_TEST(value, reading_a_default_stores_nothing) {
    conf_open(c);
    kwr_value *v = open_default(c, "v", KWR_TYPE_STRING, conf_slice("default"));
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "default"));
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    CHECK(conf_view_entries(c, view) == 0);
    kwr_view_release(view);
}

CONF_TEST(value, an_empty_default_is_a_default) {
    conf_open(c);
    kwr_value *v = open_default(c, "v", KWR_TYPE_STRING, (kwr_slice){ "", 0 });
    kwr_value *w = open_default(c, "w", KWR_TYPE_STRING, (kwr_slice){ 0 });
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "") && conf_holds(w, NULL));
}

CONF_TEST(value, modify_starts_from_the_default) {
    static const struct {
        size_t size;
        const char *want;
    } rows[] = { { 4, "defa" }, { 7, "default" }, { 9, "default\0\0" }, { 0, "" } };
    conf_open(c);
    kwr_value *v = open_default(c, "v", KWR_TYPE_STRING, conf_slice("default"));
    void *bytes;
    size_t old_size;
    char key[16];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)snprintf(key, sizeof key, "%zu", i);
        conf_set_key(c, key);
        MUST(kwr_value_modify(v, rows[i].size, &bytes, &old_size));
        CHECK(old_size == KWR_ABSENT && memcmp(bytes, rows[i].want, rows[i].size) == 0);
        kwr_slice got;
        MUST(kwr_value_get(v, &got));
        CHECK(got.size == rows[i].size);
    }
    conf_set_key(c, "keep");
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT && memcmp(bytes, "default", 7) == 0);
    ((char *)bytes)[0] = 'D';
    CHECK(conf_holds(v, "Default"));
    /* Now it is stored, and the default plays no part. */
    MUST(kwr_value_modify(v, 9, &bytes, &old_size));
    CHECK(old_size == 7 && memcmp(bytes, "Default\0\0", 9) == 0);
    const int64_t five = 5;
    kwr_value *n = open_default(c, "n", KWR_TYPE_I64, (kwr_slice){ &five, 8 });
    MUST(kwr_value_modify(n, KWR_KEEP_SIZE, &bytes, &old_size));
    CHECK(old_size == KWR_ABSENT && memcmp(bytes, &five, 8) == 0);
}

CONF_TEST(value, modify_of_a_default_is_all_or_nothing_without_memory) {
    conf_open(c);
    enum { LARGE = 300000 };
    char *large = (char *)malloc(LARGE);
    memset(large, 'x', LARGE);
    kwr_value *v = open_default(c, "v", KWR_TYPE_BYTES, (kwr_slice){ large, LARGE });
    char key[16];
    unsigned failures = 0;
    for (int i = 0; i < 20; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        void *bytes;
        kwr_status status = KWR_ERR_NOMEM;
        for (int64_t allowed = 0; status != KWR_OK; allowed++) {
            conf_fail_alloc(c, allowed);
            status = kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, NULL);
            conf_fail_alloc(c, -1);
            if (status != KWR_OK) {
                failures++;
                CHECK(conf_entries(c) == (size_t)i);
                continue;
            }
            CHECK(memcmp(bytes, large, LARGE) == 0);
            CHECK(conf_entries(c) == (size_t)i + 1);
        }
    }
    CHECK(failures > 0);
    free(large);
}

CONF_TEST(value, a_default_is_checked_and_the_same_when_opened_again) {
    conf_open(c);
    kwr_value *v = NULL;
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = "v",
                               .type = { .kind = KWR_TYPE_I64 },
                               .default_value = { "1234", 4 } };
    kwr_error err;
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, &err));
    CHECK(strcmp(err.text, "state 'v': a default value of type i64 has 8 bytes, not 4") == 0);
    d.default_value = (kwr_slice){ NULL, 8 };
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("state 'v': a default value of 8 bytes without data");
    CHECK(v == NULL);
    d.default_value = conf_slice("12345678");
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    kwr_value *again = NULL;
    MUST(kwr_value_open(c->backend, &d, &again, NULL));
    CHECK(again == v);
    again = NULL;
    d.default_value = conf_slice("87654321");
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &again, NULL));
    CHECK_TEXT("state 'v' is open with another default value");
    d.default_value = (kwr_slice){ 0 };
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &again, NULL));
    d.name = "none";
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    d.default_value = conf_slice("12345678");
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &again, NULL));
    CHECK_TEXT("state 'none' is open with no default value");
    CHECK(again == NULL);
}
