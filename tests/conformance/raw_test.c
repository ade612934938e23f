/* SPDX-License-Identifier: Apache-2.0 */
/* Raw keyed state: bytes of the engine's own for each key group. */
#include "tests/conformance/conformance.h"

static kwr_raw *open_raw(conf *c, const char *name) {
    const kwr_raw_descriptor descriptor = { .struct_size = sizeof descriptor, .name = name };
    kwr_raw *raw = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_raw_open(c->backend, &descriptor, &raw, &err), err);
    return raw;
}

static bool raw_holds(kwr_raw *raw, uint32_t group, const char *text) {
    kwr_slice got = { "x", 1 };
    const kwr_status status = kwr_raw_get(raw, group, &got);
    if (text == NULL) return status == KWR_NOT_FOUND && got.size == 0;
    return status == KWR_OK && got.size == strlen(text) && memcmp(got.data, text, got.size) == 0;
}

CONF_TEST(raw, each_key_group_has_bytes_of_its_own) {
    conf_open(c);
    kwr_raw *raw = open_raw(c, "raw");
    CHECK(open_raw(c, "raw") == raw);
    CHECK(raw_holds(raw, 0, NULL));
    MUST(kwr_raw_put(raw, 0, conf_slice("first")));
    MUST(kwr_raw_put(raw, 127, conf_slice("last")));
    MUST(kwr_raw_put(raw, 5, conf_slice("")));
    CHECK(raw_holds(raw, 0, "first"));
    CHECK(raw_holds(raw, 127, "last"));
    CHECK(raw_holds(raw, 5, ""));
    CHECK(raw_holds(raw, 1, NULL));
    MUST(kwr_raw_put(raw, 0, conf_slice("replaced by more")));
    CHECK(raw_holds(raw, 0, "replaced by more"));
    MUST(kwr_raw_clear(raw, 0));
    MUST(kwr_raw_clear(raw, 0));
    CHECK(raw_holds(raw, 0, NULL));
}

CONF_TEST(raw, the_current_key_plays_no_part) {
    conf_open(c);
    kwr_raw *raw = open_raw(c, "raw");
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    MUST(kwr_raw_put(raw, 3, conf_slice("three")));
    conf_set_key(c, "a");
    conf_put(c, v, "of a");
    CHECK(raw_holds(raw, 3, "three"));
    kwr_slice lent;
    MUST(kwr_raw_get(raw, 3, &lent));
    CHECK(conf_holds(v, "of a"));
    CHECK(lent.size == 5 && memcmp(lent.data, "three", 5) == 0);
    conf_set_key(c, "");
    CHECK(conf_holds(v, NULL));
    conf_put(c, v, "of the empty key");
    CHECK(raw_holds(raw, 3, "three"));
}

CONF_TEST(raw, owned_groups_are_met_in_order) {
    kwr_backend_options options = conf_options(c);
    options.key_groups = (kwr_key_group_range){ .first = 10, .count = 20 };
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    CHECK(kwr_backend_key_groups(c->backend).first == 10);
    CHECK(kwr_backend_key_groups(c->backend).count == 20);
    kwr_raw *raw = open_raw(c, "raw");
    uint32_t group = 99;
    kwr_slice bytes = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_raw_next(raw, 0, &group, &bytes));
    CHECK(group == 99 && bytes.size == 1);
    MUST(kwr_raw_put(raw, 29, conf_slice("end")));
    MUST(kwr_raw_put(raw, 10, conf_slice("start")));
    MUST(kwr_raw_put(raw, 17, conf_slice("")));
    static const struct {
        uint32_t group;
        const char *text;
    } want[] = { { 10, "start" }, { 17, "" }, { 29, "end" } };
    uint32_t from = 0;
    for (size_t i = 0; i < 3; i++) {
        MUST(kwr_raw_next(raw, from, &group, &bytes));
        CHECK(group == want[i].group);
        CHECK(bytes.size == strlen(want[i].text));
        CHECK(memcmp(bytes.data, want[i].text, bytes.size) == 0);
        from = group + 1;
    }
    EXPECT(KWR_NOT_FOUND, kwr_raw_next(raw, from, &group, &bytes));
    EXPECT(KWR_NOT_FOUND, kwr_raw_next(raw, UINT32_MAX, &group, &bytes));
}

CONF_TEST(raw, groups_of_others_are_refused) {
    kwr_backend_options options = conf_options(c);
    options.key_groups = (kwr_key_group_range){ .first = 10, .count = 20 };
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_raw *raw = open_raw(c, "raw");
    kwr_slice out = { "x", 1 };
    EXPECT(KWR_ERR_MISUSE, kwr_raw_put(raw, 9, conf_slice("x")));
    CHECK_TEXT("state 'raw': key group 9 is not among the owned 10 to 29");
    EXPECT(KWR_ERR_MISUSE, kwr_raw_get(raw, 30, &out));
    EXPECT(KWR_ERR_MISUSE, kwr_raw_clear(raw, UINT32_MAX));
    CHECK(out.size == 1);
}

CONF_TEST(raw, too_many_bytes_are_refused) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.value_bytes_max = 8;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_raw *raw = open_raw(c, "raw");
    MUST(kwr_raw_put(raw, 0, conf_slice("12345678")));
    EXPECT(KWR_ERR_RANGE, kwr_raw_put(raw, 0, conf_slice("123456789")));
    CHECK_TEXT("limits.value_bytes_max");
    CHECK(raw_holds(raw, 0, "12345678"));
}

CONF_TEST(raw, a_name_is_of_one_kind) {
    conf_open(c);
    (void)conf_value(c, "v", KWR_TYPE_BYTES);
    const kwr_raw_descriptor taken = { .struct_size = sizeof taken, .name = "v" };
    kwr_raw *raw = NULL;
    kwr_error err;
    EXPECT(KWR_ERR_MISMATCH, kwr_raw_open(c->backend, &taken, &raw, &err));
    CHECK(strstr(err.text, "stored as value of bytes, opened as raw of bytes") != NULL);
    const kwr_raw_descriptor unsized = { .name = "raw" };
    EXPECT(KWR_ERR_RANGE, kwr_raw_open(c->backend, &unsized, &raw, &err));
    CHECK(raw == NULL);
}

CONF_TEST(raw, without_memory_nothing_changes) {
    conf_open(c);
    kwr_raw *raw = open_raw(c, "raw");
    MUST(kwr_raw_put(raw, 7, conf_slice("before")));
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    for (int64_t allowed = 0; allowed < 20; allowed++) {
        conf_fail_alloc(c, allowed);
        const kwr_status status = kwr_raw_put(raw, 7, conf_slice("after"));
        conf_fail_alloc(c, -1);
        if (status == KWR_OK) break;
        EXPECT(KWR_ERR_NOMEM, status);
        CHECK(raw_holds(raw, 7, "before"));
    }
    CHECK(raw_holds(raw, 7, "after"));
    kwr_view_release(view);
}

/* ---- across a restart ---- */

CONF_RESTORE_TEST(raw, goes_with_its_key_group) {
    conf_open(c);
    kwr_raw *raw = open_raw(c, "raw");
    char text[32];
    for (uint32_t group = 0; group < 128; group += 3) {
        (void)snprintf(text, sizeof text, "bytes of group %u", group);
        MUST(kwr_raw_put(raw, group, conf_slice(text)));
    }
    /* One that has a page of its own. */
    char *large = malloc(100001);
    memset(large, 'x', 100000);
    large[100000] = '\0';
    MUST(kwr_raw_put(raw, 64, conf_slice(large)));
    kwr_view *view;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    kwr_backend *whole = c->backend;
    size_t met = 0;
    for (uint32_t i = 0; i < 5; i++) {
        kwr_backend_options options = conf_options(c);
        options.key_groups = kwr_key_groups_of(i, 5, 128);
        KWR_MUST_ERR(conf_restore(c, view, &options, &c->backend, &err), err);
        raw = open_raw(c, "raw");
        uint32_t from = 0, group;
        kwr_slice bytes;
        while (kwr_raw_next(raw, from, &group, &bytes) == KWR_OK) {
            CHECK(kwr_key_group_owner(group, 5, 128) == i);
            (void)snprintf(text, sizeof text, "bytes of group %u", group);
            CHECK(raw_holds(raw, group, group == 64 ? large : text));
            from = group + 1;
            met++;
        }
        kwr_backend_close(c->backend);
    }
    c->backend = whole;
    kwr_view_release(view);
    free(large);
    CHECK(met == 43 + 1);
}
