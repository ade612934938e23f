/* SPDX-License-Identifier: Apache-2.0 */
/* Merging namespaces: what ends up where, in which order, and that a failure changes nothing. */
#include "tests/conformance/conformance.h"

/* ---- reducing: texts are joined, so that the order shows ---- */

typedef struct join_fn {
    kwr_status fail;
} join_fn;

static kwr_status join(void *ctx, kwr_slice current, kwr_slice value, void *out, size_t capacity,
                       size_t *size) {
    const join_fn *j = (const join_fn *)ctx;
    if (j->fail < KWR_OK) return j->fail;
    *size = current.size + value.size;
    cr_assert(*size <= capacity);
    if (current.size > 0) memcpy(out, current.data, current.size);
    if (value.size > 0) memcpy((char *)out + current.size, value.data, value.size);
    return KWR_OK;
}

static kwr_reducing *open_join(conf *c, join_fn *j) {
    const kwr_reducing_descriptor d = {
        .struct_size = sizeof d,
        .name = "join",
        .type = { .kind = KWR_TYPE_STRING },
        .fn = join,
        .fn_ctx = j,
    };
    kwr_reducing *r = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_reducing_open(c->backend, &d, &r, &err), err);
    return r;
}

static void add_in(conf *c, kwr_reducing *r, const char *name, const char *text) {
    MUST(kwr_reducing_set_namespace(r, conf_slice(name)));
    MUST(kwr_reducing_add(r, conf_slice(text), NULL));
}

/* NULL: nothing. */
static bool holds_in(conf *c, kwr_reducing *r, const char *name, const char *text) {
    kwr_slice got;
    MUST(kwr_reducing_set_namespace(r, conf_slice(name)));
    const kwr_status status = kwr_reducing_get(r, &got);
    if (text == NULL) return status == KWR_NOT_FOUND;
    return status == KWR_OK && conf_is(got, text);
}

CONF_TEST(merge, folds_sources_in_order_behind_the_target) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "other");
    add_in(c, r, "s2", "not this key's");
    conf_set_key(c, "a");
    add_in(c, r, "t", "target ");
    add_in(c, r, "s1", "one ");
    add_in(c, r, "s2", "two ");
    add_in(c, r, "s3", "three ");
    MUST(kwr_reducing_set_namespace(r, conf_slice("s3")));
    const kwr_slice sources[] = { conf_slice("s2"), conf_slice("s1") };
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 2));
    /* The handle's own namespace stays. */
    kwr_slice got;
    MUST(kwr_reducing_get(r, &got));
    CHECK(conf_is(got, "three "));
    CHECK(holds_in(c, r, "t", "target two one "));
    CHECK(holds_in(c, r, "s1", NULL) && holds_in(c, r, "s2", NULL));
    CHECK(holds_in(c, r, "s3", "three "));
    conf_set_key(c, "other");
    CHECK(holds_in(c, r, "s2", "not this key's"));
}

CONF_TEST(merge, an_absent_target_starts_with_the_first_source_there_is) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    add_in(c, r, "s2", "two ");
    add_in(c, r, "s3", "three ");
    const kwr_slice sources[] = { conf_slice("s1"), conf_slice("s2"), conf_slice("s3") };
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 3));
    CHECK(holds_in(c, r, "t", "two three "));
    CHECK(holds_in(c, r, "s2", NULL));
}

CONF_TEST(merge, of_nothing_changes_nothing) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    const kwr_slice sources[] = { conf_slice("s1"), conf_slice("s2") };
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 2));
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), NULL, 0));
    CHECK(holds_in(c, r, "t", NULL));
    add_in(c, r, "t", "x");
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 2));
    CHECK(holds_in(c, r, "t", "x"));
}

CONF_TEST(merge, the_target_among_the_sources_is_not_merged_with_itself) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    add_in(c, r, "", "none ");
    add_in(c, r, "t", "target ");
    add_in(c, r, "s", "source ");
    const kwr_slice sources[] = { conf_slice("s"), conf_slice("t"), conf_slice("s"),
                                  conf_slice("") };
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 4));
    CHECK(holds_in(c, r, "t", "target source none "));
    CHECK(holds_in(c, r, "s", NULL) && holds_in(c, r, "", NULL));
    MUST(kwr_reducing_merge_namespaces(r, conf_slice("t"), sources + 1, 1));
    CHECK(holds_in(c, r, "t", "target source none "));
}

CONF_TEST(merge, a_failing_function_leaves_every_namespace) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    conf_set_key(c, "a");
    add_in(c, r, "t", "target");
    add_in(c, r, "s", "source");
    const kwr_slice source = conf_slice("s");
    j.fail = KWR_ERR_CANCELLED;
    EXPECT(KWR_ERR_CANCELLED, kwr_reducing_merge_namespaces(r, conf_slice("t"), &source, 1));
    CHECK_TEXT("state 'join': its reduce function failed with KWR_ERR_CANCELLED");
    CHECK(holds_in(c, r, "t", "target") && holds_in(c, r, "s", "source"));
}

CONF_TEST(merge, sums_and_extremes_follow_their_rules) {
    conf_open(c);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_reducing *low = conf_reducing(c, "low", KWR_TYPE_I64, KWR_REDUCE_MIN);
    kwr_reducing *high = conf_reducing(c, "high", KWR_TYPE_I64, KWR_REDUCE_MAX);
    kwr_reducing *const all[] = { sum, low, high };
    const kwr_slice names[] = { conf_slice("t"), conf_slice("s1"), conf_slice("s2") };
    static const int64_t numbers[] = { 5, -3, 40 }, want[] = { 42, -3, 40 };
    conf_set_key(c, "a");
    for (size_t r = 0; r < 3; r++) {
        for (size_t i = 0; i < 3; i++) {
            MUST(kwr_reducing_set_namespace(all[r], names[i]));
            conf_add_i64(c, all[r], numbers[i]);
        }
        MUST(kwr_reducing_merge_namespaces(all[r], names[0], names + 1, 2));
        CHECK(conf_i64(c, all[r], 77) == 77);
        MUST(kwr_reducing_set_namespace(all[r], names[0]));
        CHECK(conf_i64(c, all[r], 77) == want[r]);
    }
    MUST(kwr_reducing_set_namespace(sum, names[1]));
    conf_add_i64(c, sum, INT64_MAX);
    EXPECT(KWR_ERR_RANGE, kwr_reducing_merge_namespaces(sum, names[0], names + 1, 1));
    CHECK_TEXT("state 'sum': the sum is beyond i64 and was left as it is");
    CHECK(conf_i64(c, sum, 77) == INT64_MAX);
    MUST(kwr_reducing_set_namespace(sum, names[0]));
    CHECK(conf_i64(c, sum, 77) == 42);
}

CONF_TEST(merge, namespaces_are_checked_before_anything_is_merged) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.namespace_bytes_max = 4;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    const kwr_slice sources[] = { conf_slice("s"), conf_slice("12345") };
    EXPECT(KWR_ERR_MISUSE, kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 1));
    conf_set_key(c, "a");
    add_in(c, r, "s", "source");
    EXPECT(KWR_ERR_RANGE, kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 2));
    CHECK_TEXT("state 'join': the namespace has 5 bytes, limits.namespace_bytes_max is 4");
    EXPECT(KWR_ERR_RANGE, kwr_reducing_merge_namespaces(r, conf_slice("target"), sources, 1));
    CHECK(holds_in(c, r, "s", "source") && holds_in(c, r, "t", NULL));
}

/* ---- lists ---- */

static void add_all_in(conf *c, kwr_list *l, const char *name, const char *letters) {
    MUST(kwr_list_set_namespace(l, conf_slice(name)));
    for (; *letters != '\0'; letters++)
        MUST(kwr_list_add(l, (kwr_slice){ letters, 1 }));
}

static bool list_in(conf *c, kwr_list *l, const char *name, const char *letters) {
    MUST(kwr_list_set_namespace(l, conf_slice(name)));
    uint64_t count;
    MUST(kwr_list_count(l, &count));
    if (count != strlen(letters)) return false;
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    bool same = true;
    kwr_slice got;
    for (; same && kwr_list_iterator_next(it, &got) == KWR_OK; letters++)
        same = got.size == 1 && *(const char *)got.data == *letters;
    kwr_list_iterator_free(it);
    return same;
}

CONF_COLLECTION_TEST(merge, lists_are_appended_in_the_order_of_the_sources) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    add_all_in(c, l, "t", "tT");
    add_all_in(c, l, "s1", "abc");
    add_all_in(c, l, "s2", "xyz");
    const kwr_slice sources[] = { conf_slice("s2"), conf_slice("none"), conf_slice("t"),
                                  conf_slice("s1"), conf_slice("s2") };
    MUST(kwr_list_merge_namespaces(l, conf_slice("t"), sources, 5));
    CHECK(list_in(c, l, "t", "tTxyzabc"));
    CHECK(list_in(c, l, "s1", "") && list_in(c, l, "s2", ""));
    add_all_in(c, l, "t", "!");
    CHECK(list_in(c, l, "t", "tTxyzabc!"));
    MUST(kwr_list_merge_namespaces(l, conf_slice("new"), sources + 2, 1));
    CHECK(list_in(c, l, "new", "tTxyzabc!") && list_in(c, l, "t", ""));
    MUST(kwr_list_merge_namespaces(l, conf_slice("new"), sources, 5));
    MUST(kwr_list_merge_namespaces(l, conf_slice("new"), NULL, 0));
    CHECK(list_in(c, l, "new", "tTxyzabc!"));
}

CONF_COLLECTION_TEST(merge, long_lists_keep_every_element) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_I64);
    conf_set_key(c, "a");
    const kwr_slice names[] = { conf_slice("t"), conf_slice("s1"), conf_slice("s2") };
    enum { EACH = 2000 };
    for (int64_t i = 0; i < 3 * EACH; i++) {
        MUST(kwr_list_set_namespace(l, names[i / EACH]));
        MUST(kwr_list_add(l, (kwr_slice){ &i, 8 }));
    }
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    MUST(kwr_list_merge_namespaces(l, names[0], names + 1, 2));
    MUST(kwr_list_set_namespace(l, names[0]));
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    for (int64_t i = 0; i < 3 * EACH; i++) {
        kwr_slice got;
        MUST(kwr_list_iterator_next(it, &got));
        CHECK(got.size == 8 && memcmp(got.data, &i, 8) == 0);
    }
    CHECK(conf_view_entries(c, view) == 3);
    kwr_view_release(view);
    CHECK(conf_entries(c) == 1);
}

/* ---- memory that is gone: each call has merged all or nothing ---- */

CONF_TEST(merge, of_values_is_all_or_nothing_without_memory) {
    conf_open(c);
    join_fn j = { 0 };
    kwr_reducing *r = open_join(c, &j);
    char key[16];
    unsigned failures = 0;
    for (int i = 0; i < 60; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        for (int n = 0; n < 20; n++) {
            (void)snprintf(key, sizeof key, "other-%d", n);
            add_in(c, r, key, "some bytes that are there too");
        }
        add_in(c, r, "t", "target ");
        add_in(c, r, "s1", "one ");
        add_in(c, r, "s2", "two ");
        /* Everything is shared with a view: each write needs memory. */
        kwr_view *view;
        MUST(kwr_backend_freeze(c->backend, &view));
        const kwr_slice sources[] = { conf_slice("s1"), conf_slice("s2") };
        kwr_status status = KWR_ERR_NOMEM;
        for (int64_t allowed = 0; status != KWR_OK; allowed++) {
            conf_fail_alloc(c, allowed);
            status = kwr_reducing_merge_namespaces(r, conf_slice("t"), sources, 2);
            conf_fail_alloc(c, -1);
            if (status == KWR_OK) break;
            EXPECT(KWR_ERR_NOMEM, status);
            CHECK_TEXT("state 'join': no memory to ");
            failures++;
            CHECK(holds_in(c, r, "t", "target "));
            CHECK(holds_in(c, r, "s1", "one ") && holds_in(c, r, "s2", "two "));
        }
        CHECK(holds_in(c, r, "t", "target one two "));
        CHECK(holds_in(c, r, "s1", NULL) && holds_in(c, r, "s2", NULL));
        kwr_view_release(view);
    }
    CHECK(failures > 0);
}

CONF_COLLECTION_TEST(merge, of_lists_is_all_or_nothing_without_memory) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    char key[16];
    unsigned failures = 0;
    for (int i = 0; i < 30; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        add_all_in(c, l, "t", "tT");
        add_all_in(c, l, "s1", "abc");
        add_all_in(c, l, "s2", "xyz");
        kwr_view *view;
        MUST(kwr_backend_freeze(c->backend, &view));
        const kwr_slice sources[] = { conf_slice("s1"), conf_slice("s2") };
        kwr_status status = KWR_ERR_NOMEM;
        for (int64_t allowed = 0; status != KWR_OK; allowed++) {
            conf_fail_alloc(c, allowed);
            status = kwr_list_merge_namespaces(l, conf_slice("t"), sources, 2);
            conf_fail_alloc(c, -1);
            if (status == KWR_OK) break;
            EXPECT(KWR_ERR_NOMEM, status);
            failures++;
            CHECK(list_in(c, l, "t", "tT"));
            CHECK(list_in(c, l, "s1", "abc") && list_in(c, l, "s2", "xyz"));
        }
        CHECK(list_in(c, l, "t", "tTabcxyz"));
        CHECK(list_in(c, l, "s1", "") && list_in(c, l, "s2", ""));
        kwr_view_release(view);
    }
    CHECK(failures > 0);
}
