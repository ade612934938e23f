/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend restored from a snapshot of a view holds, and what it is refused for. */
#include "tests/conformance/conformance.h"

CONF_RESTORE_TEST(restore, gives_back_keys_namespaces_and_values) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_reducing *r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    char key[16], name[16];
    for (int i = 0; i < 500; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        (void)snprintf(name, sizeof name, "%d", i % 7);
        conf_set_key(c, key);
        conf_put(c, v, key);
        MUST(kwr_reducing_set_namespace(r, conf_slice(i % 7 == 0 ? "" : name)));
        conf_add_i64(c, r, i);
    }
    conf_set_key(c, "empty");
    conf_put(c, v, "");
    conf_set_key(c, "removed");
    conf_put(c, v, "x");
    MUST(kwr_value_clear(v));
    conf_restart(c);
    /* Opened in another order than before. */
    r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    v = conf_value(c, "v", KWR_TYPE_BYTES);
    for (int i = 0; i < 500; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        (void)snprintf(name, sizeof name, "%d", i % 7);
        conf_set_key(c, key);
        CHECK(conf_holds(v, key));
        MUST(kwr_reducing_set_namespace(r, conf_slice(i % 7 == 0 ? "" : name)));
        CHECK(conf_i64(c, r, -1) == i);
        conf_add_i64(c, r, 1);
        CHECK(conf_i64(c, r, -1) == i + 1);
        MUST(kwr_reducing_set_namespace(r, conf_slice("other")));
        CHECK(conf_i64(c, r, -1) == -1);
    }
    conf_set_key(c, "empty");
    CHECK(conf_holds(v, ""));
    conf_set_key(c, "removed");
    CHECK(conf_holds(v, NULL));
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(conf_counts(c, stats.entries, 1001));
}

CONF_RESTORE_TEST(restore, is_of_the_moment_of_the_freeze) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "frozen");
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    conf_put(c, v, "writte");
    conf_set_key(c, "b");
    conf_put(c, v, "later");
    kwr_backend *restored;
    kwr_error err;
    KWR_MUST_ERR(conf_restore(c, view, NULL, &restored, &err), err);
    kwr_view_release(view);
    CHECK(conf_holds(v, "later"));
    kwr_backend_close(c->backend);
    c->backend = restored;
    v = conf_value(c, "v", KWR_TYPE_BYTES);
    CHECK(conf_holds(v, NULL) == false); /* no key is current */
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "frozen"));
    conf_set_key(c, "b");
    CHECK(conf_holds(v, NULL));
}

CONF_RESTORE_TEST(restore, a_state_that_nobody_opens_is_kept) {
    conf_open(c);
    kwr_value *v = conf_value(c, "forgotten", KWR_TYPE_STRING);
    (void)conf_value(c, "empty", KWR_TYPE_I64);
    conf_set_key(c, "a");
    conf_put(c, v, "still here");
    conf_restart(c);
    kwr_value *other = conf_value(c, "new", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, other, "new too");
    conf_restart(c);
    conf_restart(c);
    v = conf_value(c, "forgotten", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    CHECK(conf_holds(v, "still here"));
    other = conf_value(c, "new", KWR_TYPE_BYTES);
    CHECK(conf_holds(other, "new too"));
    kwr_reducing *r = NULL;
    const kwr_reducing_descriptor d = { .struct_size = sizeof d,
                                        .name = "empty",
                                        .type = { .kind = KWR_TYPE_I64 },
                                        .reduce = KWR_REDUCE_SUM };
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_open(c->backend, &d, &r, NULL));
    CHECK_TEXT("state 'empty' is stored as value of i64, opened as reducing of i64");
}

CONF_RESTORE_TEST(restore, under_other_terms_is_refused) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "x");
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    kwr_backend *restored = NULL;
    kwr_error err;
    kwr_backend_options other = conf_options(c);
    other.max_parallelism = 64;
    EXPECT(KWR_ERR_MISMATCH, conf_restore(c, view, &other, &restored, &err));
    other = conf_options(c);
    other.seed = 43;
    EXPECT(KWR_ERR_MISMATCH, conf_restore(c, view, &other, &restored, &err));
    other = conf_options(c);
    other.key_type.kind = KWR_TYPE_STRING;
    EXPECT(KWR_ERR_MISMATCH, conf_restore(c, view, &other, &restored, &err));
    other = conf_options(c);
    other.engine_key_groups = true;
    EXPECT(KWR_ERR_MISMATCH, conf_restore(c, view, &other, &restored, &err));
    CHECK(restored == NULL);
    kwr_view_release(view);
}
