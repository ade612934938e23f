/* SPDX-License-Identifier: Apache-2.0 */
/* Reducing state: sums, minima, maxima, functions of the host, and what a failed add leaves. */
#include "tests/conformance/conformance.h"

#include <float.h>
#include <math.h>
CONF_TEST(reducing, the_first_value_is_stored_as_it_is) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "a");
    kwr_slice got = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_reducing_get(sum, &got));
    CHECK(got.size == 0);
    conf_add_i64(c, sum, -7);
    CHECK(conf_i64(c, sum, 0) == -7);
}

CONF_TEST(reducing, a_sum_adds_up_for_each_key_and_namespace) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    for (int i = 1; i <= 10; i++) {
        conf_set_key(c, i % 2 == 0 ? "even" : "odd");
        conf_add_i64(c, sum, i);
        MUST(kwr_reducing_set_namespace(sum, conf_slice("twice")));
        conf_add_i64(c, sum, 2 * i);
        MUST(kwr_reducing_set_namespace(sum, (kwr_slice){ 0 }));
    }
    conf_set_key(c, "even");
    CHECK(conf_i64(c, sum, 0) == 30);
    conf_set_key(c, "odd");
    CHECK(conf_i64(c, sum, 0) == 25);
    MUST(kwr_reducing_set_namespace(sum, conf_slice("twice")));
    CHECK(conf_i64(c, sum, 0) == 50);
    MUST(kwr_reducing_clear(sum));
    CHECK(conf_i64(c, sum, -1) == -1);
    conf_add_i64(c, sum, 3);
    CHECK(conf_i64(c, sum, 0) == 3);
}

CONF_TEST(reducing, add_lends_what_is_stored_now) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "a");
    for (int64_t i = 1; i <= 5; i++) {
        kwr_slice stored;
        MUST(kwr_reducing_add(sum, (kwr_slice){ &i, sizeof i }, &stored));
        int64_t number;
        CHECK(stored.size == sizeof number);
        memcpy(&number, stored.data, sizeof number);
        CHECK(number == i * (i + 1) / 2);
    }
    /* What was lent can be added again: it is read before it changes. */
    kwr_slice stored;
    MUST(kwr_reducing_get(sum, &stored));
    MUST(kwr_reducing_add(sum, stored, NULL));
    CHECK(conf_i64(c, sum, 0) == 30);
}

CONF_TEST(reducing, a_sum_that_overflows_is_refused_and_unchanged) {
    static const struct {
        const char *name;
        kwr_type_kind kind;
        int64_t start, add;
        kwr_status want;
    } rows[] = {
        { "i64 up", KWR_TYPE_I64, INT64_MAX, 1, KWR_ERR_RANGE },
        { "i64 down", KWR_TYPE_I64, INT64_MIN, -1, KWR_ERR_RANGE },
        { "i64 to the end", KWR_TYPE_I64, INT64_MAX - 1, 1, KWR_OK },
        { "i64 across", KWR_TYPE_I64, INT64_MIN, INT64_MAX, KWR_OK },
        { "i32 up", KWR_TYPE_I32, INT32_MAX, 1, KWR_ERR_RANGE },
        { "i32 down", KWR_TYPE_I32, INT32_MIN, -1, KWR_ERR_RANGE },
        { "i32 to the end", KWR_TYPE_I32, INT32_MIN + 1, -1, KWR_OK },
        { "u64 up", KWR_TYPE_U64, -1 /* the largest */, 1, KWR_ERR_RANGE },
        { "u64 half", KWR_TYPE_U64, INT64_MAX, INT64_MAX, KWR_OK },
    };
    conf_open(c);
    conf_set_key(c, "a");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kwr_reducing *sum = conf_reducing(c, rows[i].name, rows[i].kind, KWR_REDUCE_SUM);
        /* Little-endian: the low bytes of an i64 are the i32. */
        const size_t size = rows[i].kind == KWR_TYPE_I32 ? 4 : 8;
        MUST(kwr_reducing_add(sum, (kwr_slice){ &rows[i].start, size }, NULL));
        kwr_slice result = { "untouched", 9 };
        EXPECT(rows[i].want, kwr_reducing_add(sum, (kwr_slice){ &rows[i].add, size }, &result));
        if (rows[i].want != KWR_OK) {
            CHECK(result.size == 9);
            CHECK_TEXT(": the sum is beyond ");
        }
        kwr_slice got;
        MUST(kwr_reducing_get(sum, &got));
        const int64_t after = rows[i].want == KWR_OK
                                  ? (int64_t)((uint64_t)rows[i].start + (uint64_t)rows[i].add)
                                  : rows[i].start;
        CHECK(got.size == size && memcmp(got.data, &after, size) == 0);
    }
}

static void add_f64(conf *c, kwr_reducing *reducing, double number) {
    MUST(kwr_reducing_add(reducing, (kwr_slice){ &number, sizeof number }, NULL));
}
static double get_f64(conf *c, kwr_reducing *reducing) {
    kwr_slice got;
    MUST(kwr_reducing_get(reducing, &got));
    double number;
    CHECK(got.size == sizeof number);
    memcpy(&number, got.data, sizeof number);
    return number;
}

CONF_TEST(reducing, minimum_and_maximum_of_every_numeric_kind) {
    conf_open(c);
    conf_set_key(c, "a");
    static const int32_t i32s[] = { 3, -5, 1000000, INT32_MIN, 7, INT32_MAX, 0 };
    static const int64_t i64s[] = { 3, -5, INT64_MAX, 0, INT64_MIN, 12 };
    static const uint64_t u64s[] = { 3, UINT64_MAX, 1, UINT64_C(1) << 63, 2 };
    kwr_reducing *low = conf_reducing(c, "low32", KWR_TYPE_I32, KWR_REDUCE_MIN);
    kwr_reducing *high = conf_reducing(c, "high32", KWR_TYPE_I32, KWR_REDUCE_MAX);
    for (size_t i = 0; i < sizeof i32s / sizeof i32s[0]; i++) {
        MUST(kwr_reducing_add(low, (kwr_slice){ &i32s[i], 4 }, NULL));
        MUST(kwr_reducing_add(high, (kwr_slice){ &i32s[i], 4 }, NULL));
    }
    kwr_slice got;
    MUST(kwr_reducing_get(low, &got));
    CHECK(memcmp(got.data, &i32s[3], 4) == 0);
    MUST(kwr_reducing_get(high, &got));
    CHECK(memcmp(got.data, &i32s[5], 4) == 0);

    low = conf_reducing(c, "low64", KWR_TYPE_I64, KWR_REDUCE_MIN);
    high = conf_reducing(c, "high64", KWR_TYPE_I64, KWR_REDUCE_MAX);
    for (size_t i = 0; i < sizeof i64s / sizeof i64s[0]; i++) {
        conf_add_i64(c, low, i64s[i]);
        conf_add_i64(c, high, i64s[i]);
    }
    CHECK(conf_i64(c, low, 0) == INT64_MIN);
    CHECK(conf_i64(c, high, 0) == INT64_MAX);

    low = conf_reducing(c, "lowu", KWR_TYPE_U64, KWR_REDUCE_MIN);
    high = conf_reducing(c, "highu", KWR_TYPE_U64, KWR_REDUCE_MAX);
    for (size_t i = 0; i < sizeof u64s / sizeof u64s[0]; i++) {
        MUST(kwr_reducing_add(low, (kwr_slice){ &u64s[i], 8 }, NULL));
        MUST(kwr_reducing_add(high, (kwr_slice){ &u64s[i], 8 }, NULL));
    }
    CHECK(conf_i64(c, low, 0) == 1);
    CHECK((uint64_t)conf_i64(c, high, 0) == UINT64_MAX);
}

CONF_TEST(reducing, floating_point_does_not_depend_on_order) {
    static const double numbers[] = { 1.5, -0.0, 0.0, -3.25, 0.125 };
    conf_open(c);
    kwr_reducing *low = conf_reducing(c, "low", KWR_TYPE_F64, KWR_REDUCE_MIN);
    kwr_reducing *high = conf_reducing(c, "high", KWR_TYPE_F64, KWR_REDUCE_MAX);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_F64, KWR_REDUCE_SUM);
    const size_t count = sizeof numbers / sizeof numbers[0];
    for (size_t turn = 0; turn < 2; turn++) {
        conf_set_key(c, turn == 0 ? "forward" : "backward");
        for (size_t i = 0; i < count; i++) {
            const double number = numbers[turn == 0 ? i : count - 1 - i];
            add_f64(c, low, number);
            add_f64(c, high, number);
            add_f64(c, sum, number);
        }
        CHECK(get_f64(c, low) == -3.25);
        CHECK(get_f64(c, high) == 1.5);
        CHECK(get_f64(c, sum) == -1.625);
    }
    /* Any number wins against NaN, whichever comes first; +0 is above -0. */
    conf_set_key(c, "nan first");
    add_f64(c, low, NAN);
    add_f64(c, low, 2);
    add_f64(c, low, NAN);
    CHECK(get_f64(c, low) == 2);
    add_f64(c, high, -0.0);
    add_f64(c, high, NAN);
    add_f64(c, high, 0.0);
    CHECK(get_f64(c, high) == 0 && !signbit(get_f64(c, high)));
    /* No overflow for f64: infinity. */
    add_f64(c, sum, DBL_MAX);
    add_f64(c, sum, DBL_MAX);
    CHECK(isinf(get_f64(c, sum)));
}

CONF_TEST(reducing, sizes_of_added_numbers_are_checked) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "a");
    conf_add_i64(c, sum, 5);
    EXPECT(KWR_ERR_RANGE, kwr_reducing_add(sum, (kwr_slice){ "1234", 4 }, NULL));
    EXPECT(KWR_ERR_RANGE, kwr_reducing_add(sum, (kwr_slice){ 0 }, NULL));
    CHECK(conf_i64(c, sum, 0) == 5);
}

/* ---- functions of the host ---- */

typedef struct join_fn {
    unsigned calls;
    bool always_too_small;
    kwr_status fail;
    size_t repeat; /* of the value, to need more room than both sizes */
} join_fn;

/* current + value, the value `repeat` times. */
static kwr_status join(void *ctx, kwr_slice current, kwr_slice value, void *out, size_t capacity,
                       size_t *size) {
    join_fn *j = (join_fn *)ctx;
    j->calls++;
    if (j->fail != KWR_OK) return j->fail;
    cr_assert(capacity >= current.size + value.size);
    *size = current.size + value.size * j->repeat;
    if (j->always_too_small) *size = capacity + 1;
    if (*size > capacity) return KWR_OK;
    if (current.size > 0) memcpy(out, current.data, current.size);
    for (size_t i = 0; i < j->repeat; i++)
        if (value.size > 0)
            memcpy((char *)out + current.size + i * value.size, value.data, value.size);
    return KWR_OK;
}

static kwr_reducing *open_join(conf *c, join_fn *j) {
    const kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                 .name = "join",
                                                 .type = { .kind = KWR_TYPE_STRING },
                                                 .fn = join,
                                                 .fn_ctx = j };
    kwr_reducing *reducing = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_reducing_open(c->backend, &descriptor, &reducing, &err), err);
    return reducing;
}

static bool reducing_holds(kwr_reducing *reducing, const char *text) {
    kwr_slice got;
    const kwr_status status = kwr_reducing_get(reducing, &got);
    if (text == NULL) return status == KWR_NOT_FOUND;
    return status == KWR_OK && got.size == strlen(text) && memcmp(got.data, text, got.size) == 0;
}

CONF_TEST(reducing, a_function_of_the_host_folds) {
    conf_open(c);
    join_fn j = { .repeat = 1 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    MUST(kwr_reducing_add(r, conf_slice("one"), NULL));
    CHECK(j.calls == 0);
    kwr_slice stored;
    MUST(kwr_reducing_add(r, conf_slice(" two"), &stored));
    CHECK(stored.size == 7 && memcmp(stored.data, "one two", 7) == 0);
    MUST(kwr_reducing_add(r, conf_slice(""), NULL));
    CHECK(reducing_holds(r, "one two"));
    CHECK(j.calls == 2);
    MUST(kwr_reducing_add(r, conf_slice("."), NULL));
    CHECK(reducing_holds(r, "one two."));
}

CONF_TEST(reducing, a_function_that_needs_more_room_is_called_again) {
    conf_open(c);
    join_fn j = { .repeat = 1000 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    MUST(kwr_reducing_add(r, conf_slice("x"), NULL));
    MUST(kwr_reducing_add(r, conf_slice("yz"), NULL));
    CHECK(j.calls == 2);
    kwr_slice got;
    MUST(kwr_reducing_get(r, &got));
    CHECK(got.size == 2001 && memcmp(got.data, "xyzyz", 5) == 0);
}

CONF_TEST(reducing, a_function_that_fails_changes_nothing) {
    conf_open(c);
    join_fn j = { .repeat = 1 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    MUST(kwr_reducing_add(r, conf_slice("kept"), NULL));
    j.fail = KWR_ERR_CANCELLED;
    kwr_slice result = { "untouched", 9 };
    EXPECT(KWR_ERR_CANCELLED, kwr_reducing_add(r, conf_slice("lost"), &result));
    CHECK_TEXT("state 'join': its reduce function failed with KWR_ERR_CANCELLED");
    CHECK(result.size == 9);
    CHECK(reducing_holds(r, "kept"));
    j = (join_fn){ .repeat = 1, .always_too_small = true };
    EXPECT(KWR_ERR_MISUSE, kwr_reducing_add(r, conf_slice("lost"), NULL));
    CHECK(j.calls == 2);
    CHECK(reducing_holds(r, "kept"));
}

CONF_TEST(reducing, a_folded_value_beyond_the_limit_is_refused) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.value_bytes_max = 10;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    join_fn j = { .repeat = 1 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    MUST(kwr_reducing_add(r, conf_slice("1234567"), NULL));
    EXPECT(KWR_ERR_RANGE, kwr_reducing_add(r, conf_slice("8901"), NULL));
    CHECK_TEXT("limits.value_bytes_max is 10");
    CHECK(reducing_holds(r, "1234567"));
    MUST(kwr_reducing_add(r, conf_slice("890"), NULL));
    CHECK(reducing_holds(r, "1234567890"));
}

CONF_TEST(reducing, the_function_must_fit_the_type) {
    conf_open(c);
    kwr_reducing *r = NULL;
    kwr_error err;
    kwr_reducing_descriptor d = { .struct_size = sizeof d,
                                  .name = "r",
                                  .type = { .kind = KWR_TYPE_STRING },
                                  .reduce = KWR_REDUCE_SUM };
    EXPECT(KWR_ERR_RANGE, kwr_reducing_open(c->backend, &d, &r, &err));
    CHECK(strcmp(err.text, "state 'r': sum is for i32, i64, u64 and f64, not for string") == 0);
    d.reduce = KWR_REDUCE_CUSTOM;
    EXPECT(KWR_ERR_RANGE, kwr_reducing_open(c->backend, &d, &r, &err));
    CHECK_TEXT("needs a function");
    d.reduce = (kwr_reduce_kind)9;
    EXPECT(KWR_ERR_RANGE, kwr_reducing_open(c->backend, &d, &r, &err));
    CHECK(r == NULL);
    /* None of these left a state behind: the name is free for another kind. */
    (void)conf_value(c, "r", KWR_TYPE_BYTES);
}

CONF_TEST(reducing, opening_again_with_another_function_is_refused) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    CHECK(conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM) == sum);
    kwr_reducing *r = NULL;
    const kwr_reducing_descriptor d = { .struct_size = sizeof d,
                                        .name = "r",
                                        .type = { .kind = KWR_TYPE_I64 },
                                        .reduce = KWR_REDUCE_MAX };
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_open(c->backend, &d, &r, NULL));
    CHECK_TEXT("state 'r' is open with sum, opened again with max");
    CHECK(r == NULL);
}

/* ---- state that is mostly written ---- */

static kwr_reducing *open_mostly(conf *c, const char *name, kwr_type_kind kind,
                                 kwr_reduce_kind reduce, bool mostly) {
    const kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                 .name = name,
                                                 .type = { .kind = kind },
                                                 .reduce = reduce,
                                                 .write_mostly = mostly };
    kwr_reducing *reducing = NULL;
    kwr_error err;
    MUST(kwr_reducing_open(c->backend, &descriptor, &reducing, &err));
    return reducing;
}

CONF_TEST(reducing, write_mostly_changes_no_result) {
    static const kwr_type_kind kinds[] = { KWR_TYPE_I32, KWR_TYPE_I64, KWR_TYPE_U64, KWR_TYPE_F64 };
    conf_open(c);
    for (size_t i = 0; i < 4; i++) {
        for (int reduce = KWR_REDUCE_SUM; reduce <= KWR_REDUCE_MAX; reduce++) {
            char name[2][16];
            kwr_reducing *sides[2];
            const size_t size = kinds[i] == KWR_TYPE_I32 ? 4 : 8;
            for (int mostly = 0; mostly < 2; mostly++) {
                (void)snprintf(name[mostly], sizeof name[mostly], "%zu %d %d", i, reduce, mostly);
                sides[mostly] =
                    open_mostly(c, name[mostly], kinds[i], (kwr_reduce_kind)reduce, mostly == 1);
            }
            for (unsigned n = 0; n < 400; n++) {
                const int64_t number = (int64_t)(n * 2654435761U % 1000) - 300 * (i != 2);
                const double real = (double)number / 7;
                const void *data = kinds[i] == KWR_TYPE_F64 ? (const void *)&real : &number;
                conf_set_key(c, n % 3 == 0 ? "rare" : "often");
                for (int side = 0; side < 2; side++)
                    MUST(kwr_reducing_add(sides[side], (kwr_slice){ data, size }, NULL));
                if (n % 97 == 0 || n > 390) {
                    kwr_slice a, b;
                    MUST(kwr_reducing_get(sides[0], &a));
                    MUST(kwr_reducing_get(sides[1], &b));
                    CHECK(a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
                }
            }
        }
    }
}

CONF_TEST(reducing, write_mostly_still_lends_clears_and_keeps_namespaces_apart) {
    conf_open(c);
    kwr_reducing *sum = open_mostly(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM, true);
    conf_set_key(c, "a");
    conf_add_i64(c, sum, 4);
    kwr_slice stored;
    const int64_t more = 5;
    MUST(kwr_reducing_add(sum, (kwr_slice){ &more, sizeof more }, &stored));
    int64_t number;
    memcpy(&number, stored.data, sizeof number);
    CHECK(number == 9);
    MUST(kwr_reducing_add(sum, stored, NULL)); /* what was lent */
    CHECK(conf_i64(c, sum, 0) == 18);
    MUST(kwr_reducing_set_namespace(sum, conf_slice("other")));
    CHECK(conf_i64(c, sum, -1) == -1);
    conf_add_i64(c, sum, 2);
    MUST(kwr_reducing_clear(sum));
    CHECK(conf_i64(c, sum, -1) == -1);
    conf_add_i64(c, sum, 3);
    const kwr_slice source = conf_slice("other");
    MUST(kwr_reducing_merge_namespaces(sum, (kwr_slice){ 0 }, &source, 1));
    MUST(kwr_reducing_set_namespace(sum, (kwr_slice){ 0 }));
    CHECK(conf_i64(c, sum, 0) == 21);
}

CONF_TEST(reducing, write_mostly_is_for_built_in_functions_and_said_alike) {
    conf_open(c);
    kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                           .name = "sum",
                                           .reduce = KWR_REDUCE_CUSTOM,
                                           .fn = join,
                                           .write_mostly = true };
    kwr_reducing *out = NULL;
    kwr_error err;
    EXPECT(KWR_ERR_RANGE, kwr_reducing_open(c->backend, &descriptor, &out, &err));
    CHECK_TEXT("write_mostly");
    (void)open_mostly(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM, true);
    descriptor = (kwr_reducing_descriptor){ .struct_size = sizeof descriptor,
                                            .name = "sum",
                                            .type = { .kind = KWR_TYPE_I64 },
                                            .reduce = KWR_REDUCE_SUM };
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_open(c->backend, &descriptor, &out, &err));
    CHECK_TEXT("write_mostly");
    CHECK(out == NULL);
}
