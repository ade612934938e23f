/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of one scenario fails once. A call that reports it has changed nothing: what the
 * calls that succeeded left is compared at the end, when there is memory again.
 */
#include "tests/conformance/conformance.h"

enum { KEYS = 40, ROUNDS = 3 };

/* What must be stored, by the calls that returned KWR_OK. */
typedef struct expected {
    size_t size[KEYS]; /* of the value; SIZE_MAX: absent */
    char letter[KEYS];
    int64_t sum[KEYS];
    unsigned failures;
} expected;

static bool went_well(conf *c, expected *want, kwr_status status) {
    if (status == KWR_ERR_NOMEM) {
        want->failures++;
        if (c->backend != NULL) CHECK_TEXT("memory");
        return false;
    }
    CHECK(status >= KWR_OK);
    return true;
}

static bool select_key(conf *c, expected *want, int i) {
    char key[64];
    /* Of lengths on both sides of what is kept at first. */
    const int size = snprintf(key, sizeof key, "key-%0*d", 1 + i, i);
    return went_well(c, want, kwr_backend_set_key(c->backend, (kwr_slice){ key, (size_t)size }));
}

static void write_key(conf *c, expected *want, kwr_value *v, kwr_reducing *r, int i, int round) {
    if (!select_key(c, want, i)) return;
    char data[3000];
    const size_t size = (size_t)((i * 37 + round * 700) % 3000);
    const char letter = (char)('a' + (i + round) % 26);
    memset(data, letter, sizeof data);
    kwr_status status;
    if ((i + round) % 3 == 0) {
        status = kwr_value_clear(v);
        if (went_well(c, want, status)) want->size[i] = SIZE_MAX;
    } else if ((i + round) % 3 == 1) {
        status = kwr_value_put(v, (kwr_slice){ data, size });
        if (went_well(c, want, status)) want->size[i] = size, want->letter[i] = letter;
    } else {
        void *bytes;
        status = kwr_value_modify(v, size, &bytes, NULL);
        if (went_well(c, want, status)) {
            memset(bytes, letter, size);
            want->size[i] = size, want->letter[i] = letter;
        }
    }
    const int64_t number = i + 1;
    if (went_well(c, want, kwr_reducing_add(r, (kwr_slice){ &number, sizeof number }, NULL)))
        want->sum[i] += number;
}

static void batch_round(conf *c, expected *want, kwr_reducing *r) {
    kwr_key_batch *batch;
    if (!went_well(c, want, kwr_key_batch_new(c->backend, 8, &batch))) return;
    char text[8][16];
    kwr_slice keys[8];
    for (int i = 0; i < 8; i++) {
        (void)snprintf(text[i], sizeof text[i], "key-%0*d", 1 + i, i);
        keys[i] = conf_slice(text[i]);
    }
    if (went_well(c, want, kwr_key_batch_load(batch, keys, NULL, 8))) {
        kwr_state *const states[] = { kwr_reducing_state(r) };
        kwr_key_batch_prefetch(batch, states, 1);
        for (size_t i = 0; i < 8; i++) {
            MUST(kwr_key_batch_select(batch, i));
            const int64_t number = 1000;
            if (went_well(c, want,
                          kwr_reducing_add(r, (kwr_slice){ &number, sizeof number }, NULL)))
                want->sum[i] += number;
        }
    }
    kwr_key_batch_free(batch);
}

static void check_all(conf *c, const expected *want, kwr_value *v, kwr_reducing *r) {
    expected none = { .failures = 0 };
    for (int i = 0; i < KEYS; i++) {
        CHECK(select_key(c, &none, i));
        kwr_slice got;
        const kwr_status status = kwr_value_get(v, &got);
        CHECK(status == (want->size[i] == SIZE_MAX ? KWR_NOT_FOUND : KWR_OK));
        if (status == KWR_OK) {
            CHECK(got.size == want->size[i]);
            for (size_t at = 0; at < got.size; at++)
                CHECK(((const char *)got.data)[at] == want->letter[i]);
        }
        CHECK(conf_i64(c, r, 0) == want->sum[i]);
    }
}

/* One run; false when even opening was not possible. */
static bool scenario(conf *c, expected *want) {
    for (int i = 0; i < KEYS; i++)
        want->size[i] = SIZE_MAX;
    const kwr_backend_options options = conf_options(c);
    kwr_error err;
    const kwr_status opened = conf_open_with(c, &options, &c->backend, &err);
    if (!went_well(c, want, opened)) {
        CHECK(err.status == KWR_ERR_NOMEM);
        return false;
    }
    const kwr_value_descriptor vd = { .struct_size = sizeof vd, .name = "v" };
    const kwr_reducing_descriptor rd = { .struct_size = sizeof rd,
                                         .name = "r",
                                         .type = { .kind = KWR_TYPE_I64 },
                                         .reduce = KWR_REDUCE_SUM };
    kwr_value *v = NULL;
    kwr_reducing *r = NULL;
    while (!went_well(c, want, kwr_value_open(c->backend, &vd, &v, NULL)))
        conf_fail_alloc(c, -1);
    while (!went_well(c, want, kwr_reducing_open(c->backend, &rd, &r, NULL)))
        conf_fail_alloc(c, -1);
    kwr_view *views[ROUNDS] = { 0 };
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < KEYS; i++)
            write_key(c, want, v, r, i, round);
        batch_round(c, want, r);
        (void)went_well(c, want, kwr_backend_freeze(c->backend, &views[round]));
    }
    conf_fail_alloc(c, -1);
    check_all(c, want, v, r);
    for (int round = 0; round < ROUNDS; round++)
        kwr_view_release(views[round]);
    check_all(c, want, v, r);
    return true;
}

CONF_TEST(memory, every_allocation_can_fail_and_nothing_is_lost, .timeout = 300) {
    bool failed = true;
    unsigned opened = 0;
    for (int64_t allowed = 0; failed; allowed++) {
        expected want = { .failures = 0 };
        conf_fail_alloc(c, allowed);
        opened += scenario(c, &want) ? 1 : 0;
        conf_fail_alloc(c, -1);
        kwr_backend_close(c->backend);
        c->backend = NULL;
        failed = want.failures > 0;
        CHECK(allowed < 100000);
    }
    CHECK(opened > 5);
}

/* Memory that is gone for one call and back for the next: each call is all or nothing. */
CONF_TEST(memory, a_failed_call_succeeds_when_there_is_memory_again, .timeout = 300) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    char key[32], data[700];
    unsigned failures = 0;
    for (int i = 0; i < 400; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        memset(data, 'a' + i % 26, sizeof data);
        conf_set_key(c, key);
        kwr_view *view = NULL;
        if (i % 50 == 49) MUST(kwr_backend_freeze(c->backend, &view));
        const kwr_slice value = { data, (size_t)(i * 7 % 700) };
        conf_fail_alloc(c, i % 3);
        const kwr_status status = kwr_value_put(v, value);
        conf_fail_alloc(c, -1);
        if (status != KWR_OK) {
            EXPECT(KWR_ERR_NOMEM, status);
            failures++;
            CHECK(conf_holds(v, NULL));
            MUST(kwr_value_put(v, value));
        }
        kwr_slice got;
        MUST(kwr_value_get(v, &got));
        CHECK(got.size == value.size && memcmp(got.data, data, got.size) == 0);
        kwr_view_release(view);
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(conf_counts(c, stats.entries, 400));
    CHECK(failures > 0);
}
