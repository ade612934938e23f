/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregating state: three types, the host's functions, and what a failure of one leaves. */
#include "tests/conformance/conformance.h"

/* The mean of i32 inputs: the accumulator is an i64 sum and an i64 count, the result an f64. */
typedef struct mean_fn {
    unsigned creates, adds, merges, results;
    kwr_status fail;    /* of every function */
    bool too_small;     /* every function always asks for more */
    size_t padding;     /* bytes behind the accumulator */
    size_t result_size; /* 0: that of an f64 */
} mean_fn;

static bool fails(mean_fn *m, size_t capacity, size_t *size, kwr_status *status) {
    *status = m->fail;
    if (m->fail < KWR_OK) return true;
    if (m->too_small) *size = capacity + 1;
    return m->too_small;
}

static kwr_status write_mean(const mean_fn *m, int64_t sum, int64_t count, void *out,
                             size_t capacity, size_t *size) {
    *size = 16 + m->padding;
    if (*size > capacity) return KWR_OK;
    memset(out, 0, *size);
    memcpy(out, &sum, 8);
    memcpy((char *)out + 8, &count, 8);
    return KWR_OK;
}

static void read_mean(kwr_slice accumulator, int64_t *sum, int64_t *count) {
    cr_assert(accumulator.size >= 16);
    memcpy(sum, accumulator.data, 8);
    memcpy(count, (const char *)accumulator.data + 8, 8);
}

static kwr_status mean_create(void *ctx, void *out, size_t capacity, size_t *size) {
    mean_fn *m = (mean_fn *)ctx;
    kwr_status status;
    m->creates++;
    cr_assert(capacity >= 64);
    if (fails(m, capacity, size, &status)) return status;
    return write_mean(m, 0, 0, out, capacity, size);
}

static kwr_status mean_add(void *ctx, kwr_slice accumulator, kwr_slice input, void *out,
                           size_t capacity, size_t *size) {
    mean_fn *m = (mean_fn *)ctx;
    kwr_status status;
    int64_t sum, count;
    int32_t number;
    m->adds++;
    cr_assert(capacity >= accumulator.size + input.size);
    if (fails(m, capacity, size, &status)) return status;
    read_mean(accumulator, &sum, &count);
    memcpy(&number, input.data, 4);
    return write_mean(m, sum + number, count + 1, out, capacity, size);
}

static kwr_status mean_merge(void *ctx, kwr_slice accumulator, kwr_slice other, void *out,
                             size_t capacity, size_t *size) {
    mean_fn *m = (mean_fn *)ctx;
    kwr_status status;
    int64_t sum, count, more, of;
    m->merges++;
    if (fails(m, capacity, size, &status)) return status;
    read_mean(accumulator, &sum, &count);
    read_mean(other, &more, &of);
    return write_mean(m, sum + more, count + of, out, capacity, size);
}

static kwr_status mean_result(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                              size_t *size) {
    mean_fn *m = (mean_fn *)ctx;
    kwr_status status;
    int64_t sum, count;
    m->results++;
    if (fails(m, capacity, size, &status)) return status;
    read_mean(accumulator, &sum, &count);
    const double mean = (double)sum / (double)count;
    *size = m->result_size == 0 ? sizeof mean : m->result_size;
    if (*size > capacity) return KWR_OK;
    memset(out, 0, *size);
    memcpy(out, &mean, sizeof mean < *size ? sizeof mean : *size);
    return KWR_OK;
}

static kwr_aggregating_descriptor describe(mean_fn *m) {
    return (kwr_aggregating_descriptor){ .struct_size = sizeof(kwr_aggregating_descriptor),
                                         .name = "mean",
                                         .input_type = { .kind = KWR_TYPE_I32 },
                                         .result_type = { .kind = KWR_TYPE_F64 },
                                         .create = mean_create,
                                         .add = mean_add,
                                         .merge = mean_merge,
                                         .result = mean_result,
                                         .fn_ctx = m };
}

static kwr_aggregating *open_mean(conf *c, mean_fn *m) {
    const kwr_aggregating_descriptor d = describe(m);
    kwr_aggregating *a = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_aggregating_open(c->backend, &d, &a, &err), err);
    return a;
}

static void add(conf *c, kwr_aggregating *a, int32_t number) {
    MUST(kwr_aggregating_add(a, (kwr_slice){ &number, 4 }));
}

static double mean_of(conf *c, kwr_aggregating *a) {
    kwr_slice got;
    double mean;
    MUST(kwr_aggregating_get(a, &got));
    CHECK(got.size == sizeof mean);
    memcpy(&mean, got.data, sizeof mean);
    return mean;
}

CONF_TEST(aggregating, folds_inputs_and_computes_the_result_when_asked) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    add(c, a, 3);
    add(c, a, 4);
    add(c, a, -1);
    CHECK(m.creates == 1 && m.adds == 3 && m.results == 0);
    CHECK(mean_of(c, a) == 2 && m.results == 1);
    kwr_slice accumulator;
    int64_t sum, count;
    MUST(kwr_aggregating_accumulator(a, &accumulator));
    read_mean(accumulator, &sum, &count);
    CHECK(accumulator.size == 16 && sum == 6 && count == 3 && m.results == 1);
}

CONF_TEST(aggregating, without_inputs_there_is_no_result) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    kwr_slice got = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_aggregating_get(a, &got));
    CHECK(got.size == 0);
    got.size = 1;
    EXPECT(KWR_NOT_FOUND, kwr_aggregating_accumulator(a, &got));
    CHECK(got.size == 0 && m.creates == 0 && m.results == 0);
    MUST(kwr_aggregating_clear(a));
    add(c, a, 5);
    MUST(kwr_aggregating_clear(a));
    EXPECT(KWR_NOT_FOUND, kwr_aggregating_get(a, &got));
    add(c, a, 7);
    CHECK(mean_of(c, a) == 7 && m.creates == 2);
}

CONF_TEST(aggregating, keys_and_namespaces_are_apart) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    for (int32_t i = 1; i <= 10; i++) {
        conf_set_key(c, i % 2 == 0 ? "even" : "odd");
        add(c, a, i);
        MUST(kwr_aggregating_set_namespace(a, conf_slice("tens")));
        add(c, a, 10 * i);
        MUST(kwr_aggregating_set_namespace(a, (kwr_slice){ 0 }));
    }
    CHECK(mean_of(c, a) == 6);
    conf_set_key(c, "odd");
    CHECK(mean_of(c, a) == 5);
    MUST(kwr_aggregating_set_namespace(a, conf_slice("tens")));
    CHECK(mean_of(c, a) == 50);
}

CONF_TEST(aggregating, functions_that_need_more_room_are_called_again) {
    conf_open(c);
    mean_fn m = { .padding = 3000 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    add(c, a, 8);
    CHECK(m.creates == 2 && m.adds <= 2);
    add(c, a, 10);
    CHECK(mean_of(c, a) == 9);
    kwr_slice got;
    MUST(kwr_aggregating_accumulator(a, &got));
    CHECK(got.size == 3016);
}

CONF_TEST(aggregating, a_function_that_fails_changes_nothing) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    const int32_t number = 100;
    const kwr_slice input = { &number, 4 };
    m.fail = KWR_ERR_CANCELLED;
    EXPECT(KWR_ERR_CANCELLED, kwr_aggregating_add(a, input));
    CHECK_TEXT("state 'mean': its create function failed with KWR_ERR_CANCELLED");
    m.fail = KWR_OK;
    kwr_slice got = { 0 };
    EXPECT(KWR_NOT_FOUND, kwr_aggregating_get(a, &got));
    add(c, a, 4);
    m.fail = KWR_ERR_CANCELLED;
    EXPECT(KWR_ERR_CANCELLED, kwr_aggregating_add(a, input));
    CHECK_TEXT("state 'mean': its add function failed");
    got = (kwr_slice){ "untouched", 9 };
    EXPECT(KWR_ERR_CANCELLED, kwr_aggregating_get(a, &got));
    CHECK_TEXT("state 'mean': its result function failed");
    CHECK(got.size == 9);
    m.fail = KWR_OK;
    m.too_small = true;
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_add(a, input));
    CHECK_TEXT("its add function asked for room again after it got what it asked for");
    EXPECT(KWR_ERR_RANGE, kwr_aggregating_get(a, &got)); /* of its type's size it cannot be */
    m.too_small = false;
    CHECK(mean_of(c, a) == 4);
}

CONF_TEST(aggregating, sizes_of_inputs_accumulators_and_results_are_checked) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.value_bytes_max = 100;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    EXPECT(KWR_ERR_RANGE, kwr_aggregating_add(a, conf_slice("12345")));
    CHECK_TEXT("state 'mean': an input of type i32 has 4 bytes, not 5");
    CHECK(m.creates == 0);
    add(c, a, 6);
    m.padding = 85;
    EXPECT(KWR_ERR_RANGE, kwr_aggregating_add(a, conf_slice("1234")));
    CHECK_TEXT("the value has 101 bytes, limits.value_bytes_max is 100");
    m.padding = 0;
    m.result_size = 12;
    kwr_slice got;
    EXPECT(KWR_ERR_RANGE, kwr_aggregating_get(a, &got));
    CHECK_TEXT("state 'mean': a result of type f64 has 8 bytes, not 12");
    m.result_size = 0;
    CHECK(mean_of(c, a) == 6);
}

CONF_TEST(aggregating, opening_again_needs_the_same_functions_and_types) {
    conf_open(c);
    mean_fn m = { 0 }, n = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    CHECK(open_mean(c, &m) == a);
    kwr_aggregating *other = NULL;
    kwr_aggregating_descriptor d = describe(&n);
    EXPECT(KWR_ERR_MISMATCH, kwr_aggregating_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("state 'mean' is open with another function or context");
    d = describe(&m);
    d.result_type.kind = KWR_TYPE_STRING;
    EXPECT(KWR_ERR_MISMATCH, kwr_aggregating_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("state 'mean' is open from i32 to f64, opened again from i32 to string");
    d = describe(&m);
    d.type.kind = KWR_TYPE_I64;
    kwr_error err;
    EXPECT(KWR_ERR_MISMATCH, kwr_aggregating_open(c->backend, &d, &other, &err));
    CHECK(strcmp(err.text, "state 'mean' is stored as aggregating of bytes, opened as aggregating "
                           "of i64") == 0);
    d = describe(&m);
    d.name = "new";
    d.result = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_aggregating_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("state 'new': an aggregate needs the functions create, add and result");
    CHECK(other == NULL);
    /* The name is free: nothing was left behind. */
    (void)conf_value(c, "new", KWR_TYPE_BYTES);
}

CONF_TEST(aggregating, without_a_current_key_every_access_is_misuse) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    kwr_slice got = { "untouched", 9 };
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_add(a, conf_slice("1234")));
    CHECK_TEXT("state 'mean': there is no current key");
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_get(a, &got));
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_accumulator(a, &got));
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_clear(a));
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_merge_namespaces(a, conf_slice("w"), NULL, 0));
    CHECK(got.size == 9 && m.creates == 0);
}

CONF_TEST(aggregating, merging_needs_a_merge_function) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating_descriptor d = describe(&m);
    d.merge = NULL;
    kwr_aggregating *a;
    MUST(kwr_aggregating_open(c->backend, &d, &a, NULL));
    conf_set_key(c, "a");
    EXPECT(KWR_ERR_MISUSE, kwr_aggregating_merge_namespaces(a, conf_slice("w"), NULL, 0));
    CHECK_TEXT("state 'mean' was opened without a merge function");
}

CONF_TEST(aggregating, merges_accumulators_into_the_target) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    const kwr_slice names[] = { conf_slice("1"), conf_slice("2"), conf_slice("3") };
    for (int32_t i = 0; i < 3; i++) {
        MUST(kwr_aggregating_set_namespace(a, names[i]));
        add(c, a, 10 * i);
        add(c, a, 10 * i + 1);
    }
    const unsigned adds = m.adds;
    MUST(kwr_aggregating_merge_namespaces(a, names[0], names + 1, 2));
    CHECK(m.merges == 2 && m.adds == adds);
    kwr_slice got;
    EXPECT(KWR_NOT_FOUND, kwr_aggregating_get(a, &got));
    MUST(kwr_aggregating_set_namespace(a, names[0]));
    CHECK(mean_of(c, a) == 10.5);
    m.fail = KWR_ERR_CANCELLED;
    MUST(kwr_aggregating_merge_namespaces(a, names[0], names + 1, 2));
    m.fail = KWR_OK;
    MUST(kwr_aggregating_set_namespace(a, names[1]));
    add(c, a, 1000);
    m.fail = KWR_ERR_CANCELLED;
    EXPECT(KWR_ERR_CANCELLED, kwr_aggregating_merge_namespaces(a, names[0], names + 1, 2));
    CHECK_TEXT("state 'mean': its merge function failed");
    m.fail = KWR_OK;
    CHECK(mean_of(c, a) == 1000);
    MUST(kwr_aggregating_set_namespace(a, names[0]));
    CHECK(mean_of(c, a) == 10.5);
}

CONF_RESTORE_TEST(aggregating, is_restored_with_its_accumulators) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    conf_set_key(c, "a");
    add(c, a, 1);
    add(c, a, 2);
    conf_restart(c);
    a = open_mean(c, &m);
    conf_set_key(c, "a");
    add(c, a, 6);
    CHECK(mean_of(c, a) == 3);
}

CONF_TEST(aggregating, batches_give_the_results_of_single_calls) {
    conf_open(c);
    mean_fn m = { 0 };
    kwr_aggregating *a = open_mean(c, &m);
    kwr_state *const states[] = { kwr_aggregating_state(a) };
    const kwr_slice keys[] = { conf_slice("a"), conf_slice("b"), conf_slice("c") };
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, 3, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, 3));
    for (int32_t round = 0; round < 11; round++) {
        if (round % 2 == 0) kwr_key_batch_prefetch(batch, states, 1);
        for (size_t i = 0; i < 3; i++) {
            MUST(kwr_key_batch_select(batch, i));
            add(c, a, round * (int32_t)i);
        }
    }
    conf_set_key(c, "c");
    CHECK(mean_of(c, a) == 10);
}
