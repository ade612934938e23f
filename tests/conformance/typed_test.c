/* SPDX-License-Identifier: Apache-2.0 */
/* The typed calls: they store what the untyped ones do, and refuse other types by both names. */
#include "tests/conformance/conformance.h"

#include <float.h>
#include <math.h>

CONF_TEST(typed, values_of_every_kind_come_back) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_value *vb = conf_value(c, "b", KWR_TYPE_BOOL);
    kwr_value *v32 = conf_value(c, "i32", KWR_TYPE_I32);
    kwr_value *v64 = conf_value(c, "i64", KWR_TYPE_I64);
    kwr_value *vu = conf_value(c, "u64", KWR_TYPE_U64);
    kwr_value *vf = conf_value(c, "f64", KWR_TYPE_F64);
    kwr_value *vs = conf_value(c, "s", KWR_TYPE_STRING);
    bool b = true;
    int32_t i32 = 5;
    int64_t i64 = 5;
    uint64_t u64 = 5;
    double f64 = 5;
    kwr_slice s = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_value_get_bool(vb, &b));
    EXPECT(KWR_NOT_FOUND, kwr_value_get_i32(v32, &i32));
    EXPECT(KWR_NOT_FOUND, kwr_value_get_i64(v64, &i64));
    EXPECT(KWR_NOT_FOUND, kwr_value_get_u64(vu, &u64));
    EXPECT(KWR_NOT_FOUND, kwr_value_get_f64(vf, &f64));
    EXPECT(KWR_NOT_FOUND, kwr_value_get_string(vs, &s));
    CHECK(!b && i32 == 0 && i64 == 0 && u64 == 0 && f64 == 0 && s.size == 0);
    MUST(kwr_value_put_bool(vb, true));
    MUST(kwr_value_put_i32(v32, INT32_MIN));
    MUST(kwr_value_put_i64(v64, INT64_MIN));
    MUST(kwr_value_put_u64(vu, UINT64_MAX));
    MUST(kwr_value_put_f64(vf, -DBL_MAX));
    MUST(kwr_value_put_string(vs, "größe"));
    MUST(kwr_value_get_bool(vb, &b));
    MUST(kwr_value_get_i32(v32, &i32));
    MUST(kwr_value_get_i64(v64, &i64));
    MUST(kwr_value_get_u64(vu, &u64));
    MUST(kwr_value_get_f64(vf, &f64));
    MUST(kwr_value_get_string(vs, &s));
    CHECK(b && i32 == INT32_MIN && i64 == INT64_MIN && u64 == UINT64_MAX && f64 == -DBL_MAX);
    CHECK(conf_is(s, "größe"));
    /* The bytes are those of the value encoding. */
    kwr_slice bytes;
    MUST(kwr_value_put_i32(v32, 0x01020304));
    MUST(kwr_value_get(v32, &bytes));
    CHECK(bytes.size == 4 && memcmp(bytes.data, "\4\3\2\1", 4) == 0);
    MUST(kwr_value_get(vb, &bytes));
    CHECK(bytes.size == 1 && *(const uint8_t *)bytes.data == 1);
}

CONF_TEST(typed, another_type_is_refused_with_both_names) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_value *v = conf_value(c, "v", KWR_TYPE_STRING);
    kwr_reducing *r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    int64_t i64 = 77;
    double f64 = 77;
    kwr_slice s = { "untouched", 9 };
    EXPECT(KWR_ERR_MISMATCH, kwr_value_get_i64(v, &i64));
    CHECK_TEXT("state 'v' has values of type string, used as i64");
    EXPECT(KWR_ERR_MISMATCH, kwr_value_put_f64(v, 1));
    CHECK_TEXT("state 'v' has values of type string, used as f64");
    EXPECT(KWR_ERR_MISMATCH, kwr_value_add_i64(v, 1, &i64));
    EXPECT(KWR_ERR_MISMATCH, kwr_value_add_f64(v, 1, &f64));
    EXPECT(KWR_ERR_MISMATCH, kwr_value_put_bool(v, true));
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_add_f64(r, 1, &f64));
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_get_f64(r, &f64));
    CHECK_TEXT("state 'r' has values of type i64, used as f64");
    kwr_value *n = conf_value(c, "n", KWR_TYPE_U64);
    EXPECT(KWR_ERR_MISMATCH, kwr_value_get_i64(n, &i64));
    EXPECT(KWR_ERR_MISMATCH, kwr_value_get_string(n, &s));
    EXPECT(KWR_ERR_MISMATCH, kwr_value_put_string(n, "12345678"));
    CHECK(i64 == 77 && f64 == 77 && s.size == 9 && conf_holds(v, NULL) && conf_holds(n, NULL));
}

CONF_TEST(typed, adding_starts_from_zero_or_from_the_default) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_value *v = conf_value(c, "v", KWR_TYPE_I64);
    kwr_value *f = conf_value(c, "f", KWR_TYPE_F64);
    const int64_t hundred = 100;
    const kwr_value_descriptor d = { .struct_size = sizeof d,
                                     .name = "d",
                                     .type = { .kind = KWR_TYPE_I64 },
                                     .default_value = { &hundred, 8 } };
    kwr_value *w;
    MUST(kwr_value_open(c->backend, &d, &w, NULL));
    int64_t sum = 0;
    double number = 0;
    MUST(kwr_value_add_i64(v, 5, NULL));
    MUST(kwr_value_add_i64(v, -7, &sum));
    CHECK(sum == -2);
    MUST(kwr_value_add_f64(f, 0.5, &number));
    MUST(kwr_value_add_f64(f, 0.25, &number));
    CHECK(number == 0.75);
    MUST(kwr_value_add_i64(w, 1, &sum));
    CHECK(sum == 101);
    MUST(kwr_value_get_i64(w, &sum));
    CHECK(sum == 101);
}

CONF_TEST(typed, a_sum_that_overflows_changes_nothing) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_value *v = conf_value(c, "v", KWR_TYPE_I64);
    const int64_t most = INT64_MAX;
    const kwr_value_descriptor d = { .struct_size = sizeof d,
                                     .name = "d",
                                     .type = { .kind = KWR_TYPE_I64 },
                                     .default_value = { &most, 8 } };
    kwr_value *w;
    MUST(kwr_value_open(c->backend, &d, &w, NULL));
    MUST(kwr_value_put_i64(v, INT64_MIN));
    int64_t sum = 77;
    EXPECT(KWR_ERR_RANGE, kwr_value_add_i64(v, -1, &sum));
    CHECK_TEXT("state 'v': the sum is beyond i64 and was left as it is");
    CHECK(sum == 77);
    MUST(kwr_value_get_i64(v, &sum));
    CHECK(sum == INT64_MIN);
    /* The default was not stored by it. */
    EXPECT(KWR_ERR_RANGE, kwr_value_add_i64(w, 1, NULL));
    CHECK(conf_entries(c) == 1);
}

CONF_TEST(typed, keys_and_namespaces_are_encoded_and_checked) {
    kwr_backend_options options = conf_options(c);
    options.key_type.kind = KWR_TYPE_I64;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    const kwr_value_descriptor d = { .struct_size = sizeof d,
                                     .name = "v",
                                     .type = { .kind = KWR_TYPE_STRING },
                                     .namespace_type = { .kind = KWR_TYPE_I64 } };
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    MUST(kwr_backend_set_key_i64(c->backend, -5));
    MUST(kwr_state_set_namespace_i64(kwr_value_state(v), 1000));
    MUST(kwr_value_put_string(v, "here"));
    uint8_t bytes[8];
    kwr_slice key;
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(key.size == 8 && kwr_key_to_i64(key.data) == -5);
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
    CHECK(conf_holds(v, NULL));
    kwr_key_from_i64(1000, bytes);
    MUST(kwr_value_set_namespace(v, (kwr_slice){ bytes, 8 }));
    CHECK(conf_holds(v, "here"));
    EXPECT(KWR_ERR_MISMATCH, kwr_backend_set_key_string(c->backend, "12345678"));
    CHECK_TEXT("keys are of type i64, used as string");
    EXPECT(KWR_ERR_MISMATCH, kwr_state_set_namespace_string(kwr_value_state(v), "12345678"));
    CHECK_TEXT("state 'v' has namespaces of type i64, used as string");
    CHECK(conf_holds(v, "here"));
}

CONF_TEST(typed, string_keys_and_namespaces) {
    kwr_backend_options options = conf_options(c);
    options.key_type.kind = KWR_TYPE_STRING;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    const kwr_value_descriptor d = { .struct_size = sizeof d,
                                     .name = "v",
                                     .namespace_type = { .kind = KWR_TYPE_STRING } };
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    MUST(kwr_backend_set_key_string(c->backend, "ada"));
    MUST(kwr_state_set_namespace_string(kwr_value_state(v), "w"));
    conf_put(c, v, "here");
    conf_set_key(c, "ada");
    MUST(kwr_value_set_namespace(v, conf_slice("w")));
    CHECK(conf_holds(v, "here"));
    EXPECT(KWR_ERR_MISMATCH, kwr_backend_set_key_i64(c->backend, 1));
    EXPECT(KWR_ERR_MISMATCH, kwr_state_set_namespace_i64(kwr_value_state(v), 1));
}

CONF_TEST(typed, a_batch_reads_all_its_keys) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_I64);
    kwr_value *f = conf_value(c, "f", KWR_TYPE_F64);
    enum { KEYS = 100 };
    char text[KEYS][16];
    kwr_slice keys[KEYS];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(text[i], sizeof text[i], "key-%d", i);
        keys[i] = conf_slice(text[i]);
        conf_set_key(c, text[i]);
        if (i % 3 != 0) MUST(kwr_value_put_i64(v, i));
        if (i % 4 != 0) MUST(kwr_value_put_f64(f, i / 2.0));
    }
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, KEYS, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, KEYS));
    int64_t numbers[KEYS];
    double halves[KEYS];
    MUST(kwr_value_get_batch_i64(v, batch, -1, numbers, KEYS));
    MUST(kwr_value_get_batch_f64(f, batch, -1, halves, KEYS));
    for (int i = 0; i < KEYS; i++) {
        CHECK(numbers[i] == (i % 3 != 0 ? i : -1));
        CHECK(halves[i] == (i % 4 != 0 ? i / 2.0 : -1));
    }
    kwr_slice key;
    MUST(kwr_backend_key(c->backend, &key, NULL));
    CHECK(conf_is(key, "key-99"));
    EXPECT(KWR_ERR_MISMATCH, kwr_value_get_batch_i64(f, batch, 0, numbers, 1));
    EXPECT(KWR_ERR_RANGE, kwr_value_get_batch_i64(v, batch, 0, numbers, KEYS + 1));
    MUST(kwr_value_get_batch_i64(v, batch, 0, NULL, 0));
}

CONF_TEST(typed, reducing_adds_and_gives_numbers) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_reducing *high = conf_reducing(c, "high", KWR_TYPE_F64, KWR_REDUCE_MAX);
    int64_t i64 = 77;
    double f64 = 77;
    EXPECT(KWR_NOT_FOUND, kwr_reducing_get_i64(sum, &i64));
    EXPECT(KWR_NOT_FOUND, kwr_reducing_get_f64(high, &f64));
    CHECK(i64 == 0 && f64 == 0);
    MUST(kwr_reducing_add_i64(sum, 40, NULL));
    MUST(kwr_reducing_add_i64(sum, 2, &i64));
    CHECK(i64 == 42);
    MUST(kwr_reducing_add_f64(high, 0.5, NULL));
    MUST(kwr_reducing_add_f64(high, -3, &f64));
    CHECK(f64 == 0.5);
    MUST(kwr_reducing_get_i64(sum, &i64));
    MUST(kwr_reducing_get_f64(high, &f64));
    CHECK(i64 == 42 && f64 == 0.5);
}

CONF_TEST(typed, lists_of_numbers_and_strings) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_list *l = conf_list(c, "l", KWR_TYPE_I64);
    kwr_list *f = conf_list(c, "f", KWR_TYPE_F64);
    kwr_list *s = conf_list(c, "s", KWR_TYPE_STRING);
    for (int64_t i = 0; i < 5; i++) {
        MUST(kwr_list_add_i64(l, -i));
        MUST(kwr_list_add_f64(f, (double)i / 2));
    }
    MUST(kwr_list_add_string(s, "text"));
    kwr_list_iterator *il, *jf, *ks;
    MUST(kwr_list_iterate(l, &il));
    MUST(kwr_list_iterate(f, &jf));
    MUST(kwr_list_iterate(s, &ks));
    int64_t i64 = 77;
    double f64 = 77;
    for (int64_t i = 0; i < 5; i++) {
        MUST(kwr_list_iterator_next_i64(il, &i64));
        MUST(kwr_list_iterator_next_f64(jf, &f64));
        CHECK(i64 == -i && f64 == (double)i / 2);
    }
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next_i64(il, &i64));
    CHECK(i64 == 0);
    EXPECT(KWR_ERR_MISMATCH, kwr_list_iterator_next_i64(ks, &i64));
    CHECK_TEXT("state 's' has values of type string, used as i64");
    kwr_slice got;
    MUST(kwr_list_iterator_next(ks, &got));
    CHECK(conf_is(got, "text"));
    EXPECT(KWR_ERR_MISMATCH, kwr_list_add_string(l, "12345678"));
    EXPECT(KWR_ERR_MISMATCH, kwr_list_add_i64(f, 1));
}

CONF_TEST(typed, maps_from_numbers) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_STRING);
    kwr_map *n = conf_map(c, "n", KWR_TYPE_I64, KWR_TYPE_I64);
    static const int64_t keys[] = { 3, -7, 0, INT64_MIN, INT64_MAX };
    for (size_t i = 0; i < 5; i++) {
        MUST(kwr_map_at_i64_put(m, keys[i], conf_slice("text")));
        MUST(kwr_map_at_i64_put_i64(n, keys[i], (int64_t)i));
    }
    kwr_slice got;
    int64_t number, key;
    MUST(kwr_map_at_i64_get(m, -7, &got));
    CHECK(conf_is(got, "text"));
    EXPECT(KWR_NOT_FOUND, kwr_map_at_i64_get(m, 8, &got));
    MUST(kwr_map_at_i64_contains(m, 3));
    MUST(kwr_map_at_i64_remove(m, 3));
    EXPECT(KWR_NOT_FOUND, kwr_map_at_i64_contains(m, 3));
    MUST(kwr_map_at_i64_add_i64(n, -7, 10, &number));
    CHECK(number == 11);
    MUST(kwr_map_at_i64_add_i64(n, 99, 5, NULL));
    MUST(kwr_map_at_i64_get_i64(n, 99, &number));
    CHECK(number == 5);
    EXPECT(KWR_NOT_FOUND, kwr_map_at_i64_get_i64(n, 98, &number));
    CHECK(number == 0);
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    static const int64_t left[] = { INT64_MIN, -7, 0, INT64_MAX };
    for (size_t i = 0; i < 4; i++) {
        MUST(kwr_map_iterator_next_at_i64(it, &key, &got));
        CHECK(key == left[i] && conf_is(got, "text"));
    }
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next_at_i64(it, &key, &got));
    CHECK(key == 0 && got.size == 0);
    EXPECT(KWR_ERR_MISMATCH, kwr_map_at_string_get(m, "12345678", &got));
    CHECK_TEXT("state 'm' has user keys of type i64, used as string");
    EXPECT(KWR_ERR_MISMATCH, kwr_map_at_i64_put_i64(m, 1, 1));
    CHECK_TEXT("state 'm' has values of type string, used as i64");
}

CONF_TEST(typed, maps_from_strings) {
    conf_open(c);
    conf_set_key(c, "a");
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_I64);
    kwr_map *f = conf_map(c, "f", KWR_TYPE_STRING, KWR_TYPE_F64);
    int64_t number = 77;
    double half = 77;
    MUST(kwr_map_at_string_put_i64(m, "x", 5));
    MUST(kwr_map_at_string_add_i64(m, "x", -6, &number));
    MUST(kwr_map_at_string_add_i64(m, "y", 1, NULL));
    CHECK(number == -1);
    MUST(kwr_map_put_f64(f, conf_slice("x"), 0.5));
    MUST(kwr_map_add_f64(f, conf_slice("x"), 1, &half));
    CHECK(half == 1.5);
    MUST(kwr_map_get_f64(f, conf_slice("x"), &half));
    CHECK(half == 1.5);
    EXPECT(KWR_NOT_FOUND, kwr_map_get_f64(f, conf_slice("z"), &half));
    CHECK(half == 0);
    MUST(kwr_map_at_string_get_i64(m, "x", &number));
    CHECK(number == -1);
    kwr_slice key, got;
    MUST(kwr_map_at_string_get(m, "y", &got));
    CHECK(got.size == 8);
    MUST(kwr_map_at_string_contains(m, "y"));
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    MUST(kwr_map_iterator_next_i64(it, &key, &number));
    CHECK(conf_is(key, "x") && number == -1);
    MUST(kwr_map_iterator_next_i64(it, &key, &number));
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next_i64(it, &key, &number));
    CHECK(key.size == 0 && number == 0);
    EXPECT(KWR_ERR_MISMATCH, kwr_map_iterator_next_at_i64(it, &number, &got));
    kwr_map_iterator_free(it);
    MUST(kwr_map_at_string_remove(m, "y"));
    EXPECT(KWR_NOT_FOUND, kwr_map_at_string_contains(m, "y"));
    MUST(kwr_map_at_string_put(m, "y", conf_slice("12345678")));
    EXPECT(KWR_ERR_MISMATCH, kwr_map_at_i64_get(m, 1, &got));
    CHECK_TEXT("state 'm' has user keys of type string, used as i64");
    MUST(kwr_map_put_i64(m, conf_slice("x"), INT64_MAX));
    EXPECT(KWR_ERR_RANGE, kwr_map_add_i64(m, conf_slice("x"), 1, &number));
    MUST(kwr_map_get_i64(m, conf_slice("x"), &number));
    CHECK(number == INT64_MAX);
}
