/* SPDX-License-Identifier: Apache-2.0 */
/* The current key, the key groups a backend owns, and key batches. */
#include "tests/conformance/conformance.h"

CONF_TEST(key, without_a_current_key_every_access_is_misuse) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_reducing *r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_slice out = { "untouched", 9 };
    void *bytes = &out;
    size_t old_size = 77;
    uint32_t group = 78;
    EXPECT(KWR_NOT_FOUND, kwr_backend_key(c->backend, &out, &group));
    EXPECT(KWR_ERR_MISUSE, kwr_value_get(v, &out));
    CHECK_TEXT("state 'v': there is no current key");
    EXPECT(KWR_ERR_MISUSE, kwr_value_put(v, conf_slice("x")));
    EXPECT(KWR_ERR_MISUSE, kwr_value_modify(v, 1, &bytes, &old_size));
    EXPECT(KWR_ERR_MISUSE, kwr_value_clear(v));
    EXPECT(KWR_ERR_MISUSE, kwr_reducing_get(r, &out));
    EXPECT(KWR_ERR_MISUSE, kwr_reducing_add(r, conf_slice("12345678"), &out));
    EXPECT(KWR_ERR_MISUSE, kwr_reducing_clear(r));
    CHECK_TEXT("state 'r'");
    CHECK(out.size == 9 && bytes == &out && old_size == 77 && group == 78);
}

CONF_TEST(key, the_current_key_is_a_copy) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    char key[] = "key-1";
    conf_set_key(c, key);
    conf_put(c, v, "1");
    key[4] = '2';
    CHECK(conf_holds(v, "1"));
    kwr_slice current;
    uint32_t group = UINT32_MAX;
    MUST(kwr_backend_key(c->backend, &current, &group));
    CHECK(current.size == 5 && memcmp(current.data, "key-1", 5) == 0);
    CHECK(group == kwr_key_group(conf_slice("key-1"), 42, KWR_MAX_PARALLELISM_DEFAULT));
    /* The borrowed key, or a part of it, can be made current. */
    MUST(kwr_backend_set_key(c->backend, current));
    CHECK(conf_holds(v, "1"));
    MUST(kwr_backend_key(c->backend, &current, &group));
    MUST(kwr_backend_set_key(c->backend,
                             (kwr_slice){ (const char *)current.data + 1, current.size - 1 }));
    MUST(kwr_backend_key(c->backend, &current, NULL));
    CHECK(current.size == 4 && memcmp(current.data, "ey-1", 4) == 0);
    CHECK(conf_holds(v, NULL));
}

CONF_TEST(key, a_refused_key_leaves_the_current_one) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.key_bytes_max = 8;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "12345678");
    conf_put(c, v, "still here");
    EXPECT(KWR_ERR_RANGE, kwr_backend_set_key(c->backend, conf_slice("123456789")));
    CHECK_TEXT("the key has 9 bytes, limits.key_bytes_max is 8");
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key_in(c->backend, conf_slice("a"), 0));
    CHECK(conf_holds(v, "still here"));
}

CONF_TEST(key, the_size_of_a_typed_key_is_checked) {
    kwr_backend_options options = conf_options(c);
    options.key_type.kind = KWR_TYPE_I64;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    EXPECT(KWR_ERR_RANGE, kwr_backend_set_key(c->backend, conf_slice("1234567")));
    CHECK_TEXT("a key of type i64 has 8 bytes, not 7");
    uint8_t key[8];
    kwr_key_from_i64(-5, key);
    MUST(kwr_backend_set_key(c->backend, (kwr_slice){ key, sizeof key }));
}

/* ---- key groups ---- */

CONF_TEST(key, only_keys_of_owned_groups_are_taken) {
    for (uint32_t subtask = 0; subtask < 3; subtask++) {
        kwr_backend_options options = conf_options(c);
        options.max_parallelism = 10;
        options.key_groups = kwr_key_groups_of(subtask, 3, 10);
        MUST(conf_open_with(c, &options, &c->backend, NULL));
        kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
        unsigned taken = 0;
        for (int i = 0; i < 200; i++) {
            char key[16];
            (void)snprintf(key, sizeof key, "key-%d", i);
            const uint32_t group = kwr_key_group(conf_slice(key), 42, 10);
            const bool owned = kwr_key_group_owner(group, 3, 10) == subtask;
            EXPECT(owned ? KWR_OK : KWR_ERR_MISUSE,
                   kwr_backend_set_key(c->backend, conf_slice(key)));
            if (!owned) continue;
            taken++;
            conf_put(c, v, key);
        }
        CHECK(taken > 20);
        if (subtask == 1) CHECK_TEXT("is not among the owned 4 to 6 of 10");
        kwr_view *view;
        MUST(kwr_backend_freeze(c->backend, &view));
        CHECK(conf_view_entries(c, view) == taken);
        kwr_view_release(view);
        kwr_backend_close(c->backend);
        c->backend = NULL;
    }
}

CONF_TEST(key, the_host_can_choose_the_groups) {
    kwr_backend_options options = conf_options(c);
    options.engine_key_groups = true;
    options.max_parallelism = 8;
    options.key_groups = (kwr_key_group_range){ 2, 3 };
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key(c->backend, conf_slice("a")));
    CHECK_TEXT("kwr_backend_set_key_in");
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key_in(c->backend, conf_slice("a"), 1));
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key_in(c->backend, conf_slice("a"), 5));
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key_in(c->backend, conf_slice("a"), UINT32_MAX));
    for (uint32_t group = 2; group < 5; group++) {
        MUST(kwr_backend_set_key_in(c->backend, conf_slice("a"), group));
        CHECK(conf_holds(v, NULL));
        char text[16];
        (void)snprintf(text, sizeof text, "in %u", group);
        conf_put(c, v, text);
    }
    MUST(kwr_backend_set_key_in(c->backend, conf_slice("a"), 3));
    CHECK(conf_holds(v, "in 3"));
    uint32_t group;
    kwr_slice key;
    MUST(kwr_backend_key(c->backend, &key, &group));
    CHECK(group == 3);
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, 4, &batch));
    const kwr_slice keys[] = { conf_slice("a"), conf_slice("a"), conf_slice("b") };
    const uint32_t groups[] = { 4, 2, 2 };
    EXPECT(KWR_ERR_MISUSE, kwr_key_batch_load(batch, keys, NULL, 3));
    MUST(kwr_key_batch_load(batch, keys, groups, 3));
    MUST(kwr_key_batch_select(batch, 0));
    CHECK(conf_holds(v, "in 4"));
    MUST(kwr_key_batch_select(batch, 1));
    CHECK(conf_holds(v, "in 2"));
    MUST(kwr_key_batch_select(batch, 2));
    CHECK(conf_holds(v, NULL));
}

/* ---- batches ---- */

enum { BATCH = 32 };

typedef struct keys {
    char text[BATCH][24];
    kwr_slice slices[BATCH];
} keys;

static void fill_keys(keys *k, int first) {
    for (int i = 0; i < BATCH; i++) {
        (void)snprintf(k->text[i], sizeof k->text[i], "key-%d", first + i);
        k->slices[i] = conf_slice(k->text[i]);
    }
}

CONF_TEST(batch, gives_the_results_of_single_calls) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_reducing *r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_state *const states[] = { kwr_value_state(v), kwr_reducing_state(r) };
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, BATCH, &batch));
    keys k;
    for (int round = 0; round < 20; round++) {
        /* Half of the keys are those of the round before. */
        fill_keys(&k, round * BATCH / 2);
        MUST(kwr_key_batch_load(batch, k.slices, NULL, BATCH));
        if (round % 3 != 0) kwr_key_batch_prefetch(batch, states, 2);
        for (size_t i = 0; i < BATCH; i++) {
            MUST(kwr_key_batch_select(batch, i));
            const bool seen = round > 0 && i < BATCH / 2;
            CHECK(conf_holds(v, seen ? k.text[i] : NULL));
            CHECK(conf_i64(c, r, 0) == (seen ? 1 : 0));
            conf_put(c, v, k.text[i]);
            conf_add_i64(c, r, 1);
            CHECK(conf_i64(c, r, 0) == (seen ? 2 : 1));
        }
    }
    fill_keys(&k, 5 * BATCH);
    for (size_t i = 0; i < BATCH; i++) {
        conf_set_key(c, k.text[i]);
        CHECK(conf_holds(v, k.text[i]));
        CHECK(conf_i64(c, r, 0) == 2);
    }
}

CONF_TEST(batch, survives_writes_splits_freezes_and_other_keys) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_state *const states[] = { kwr_value_state(v) };
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, BATCH, &batch));
    keys k;
    fill_keys(&k, 0);
    MUST(kwr_key_batch_load(batch, k.slices, NULL, BATCH));
    for (size_t i = 0; i < BATCH; i++) {
        MUST(kwr_key_batch_select(batch, i));
        conf_put(c, v, k.text[i]);
    }
    kwr_key_batch_prefetch(batch, states, 1);
    kwr_view *views[BATCH / 8] = { 0 };
    char other[32];
    for (size_t i = 0; i < BATCH; i++) {
        MUST(kwr_key_batch_select(batch, i));
        CHECK(conf_holds(v, k.text[i]));
        /* Pages split, move and are copied under the prefetched entries. */
        for (int n = 0; n < 200; n++) {
            (void)snprintf(other, sizeof other, "other-%zu-%d", i, n);
            conf_set_key(c, other);
            conf_put(c, v, "some bytes so that pages fill up and have to be split in the end");
        }
        MUST(kwr_key_batch_select(batch, i));
        CHECK(conf_holds(v, k.text[i]));
        if (i % 8 == 0) MUST(kwr_backend_freeze(c->backend, &views[i / 8]));
        conf_put(c, v, "changed");
        CHECK(conf_holds(v, "changed"));
        MUST(kwr_value_clear(v));
        CHECK(conf_holds(v, NULL));
        conf_put(c, v, "again");
        if (i % 8 == 7) {
            kwr_view_release(views[i / 8]);
            (void)kwr_backend_maintain(c->backend, 1000000);
        }
    }
    for (size_t i = 0; i < BATCH; i++) {
        MUST(kwr_key_batch_select(batch, i));
        CHECK(conf_holds(v, "again"));
    }
}

CONF_TEST(batch, a_namespace_can_change_after_the_prefetch) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_state *const states[] = { kwr_value_state(v) };
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, BATCH, &batch));
    keys k;
    fill_keys(&k, 0);
    MUST(kwr_key_batch_load(batch, k.slices, NULL, BATCH));
    for (int round = 0; round < 3; round++) {
        kwr_key_batch_prefetch(batch, states, 1);
        for (size_t i = 0; i < BATCH; i++) {
            MUST(kwr_key_batch_select(batch, i));
            CHECK(conf_holds(v, round == 0 ? NULL : "plain"));
            MUST(kwr_value_set_namespace(v, conf_slice("w")));
            CHECK(conf_holds(v, round == 0 ? NULL : "in w"));
            conf_put(c, v, "in w");
            MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
            CHECK(conf_holds(v, round == 0 ? NULL : "plain"));
            conf_put(c, v, "plain");
        }
    }
}

CONF_TEST(batch, a_new_load_takes_the_current_key_with_it) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, BATCH, &batch));
    keys k;
    fill_keys(&k, 0);
    MUST(kwr_key_batch_load(batch, k.slices, NULL, BATCH));
    MUST(kwr_key_batch_select(batch, 3));
    conf_put(c, v, "key 3");
    /* The bytes of the old keys may be gone: none of them stays current. */
    fill_keys(&k, 100);
    MUST(kwr_key_batch_load(batch, k.slices, NULL, 2));
    kwr_slice out;
    EXPECT(KWR_ERR_MISUSE, kwr_value_get(v, &out));
    EXPECT(KWR_NOT_FOUND, kwr_backend_key(c->backend, &out, NULL));
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_select(batch, 2));
    CHECK_TEXT("key 2 of a batch that holds 2");
    MUST(kwr_key_batch_select(batch, 1));
    CHECK(conf_holds(v, NULL));
    conf_set_key(c, "key-3");
    kwr_key_batch_free(batch);
    CHECK(conf_holds(v, "key 3"));
    /* A key that was set, not selected, stays through all of that. */
    MUST(kwr_key_batch_new(c->backend, BATCH, &batch));
    MUST(kwr_key_batch_load(batch, k.slices, NULL, BATCH));
    CHECK(conf_holds(v, "key 3"));
    MUST(kwr_key_batch_select(batch, 0));
    kwr_key_batch_free(batch);
    EXPECT(KWR_ERR_MISUSE, kwr_value_get(v, &out));
}

CONF_TEST(batch, a_load_is_all_or_nothing) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.key_bytes_max = 8;
    options.limits.batch_keys_max = 16;
    options.max_parallelism = 2;
    options.key_groups = (kwr_key_group_range){ 0, 1 };
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_key_batch *batch = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_new(c->backend, 17, &batch));
    CHECK_TEXT("limits.batch_keys_max is 16");
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_new(c->backend, 0, &batch));
    CHECK(batch == NULL);
    MUST(kwr_key_batch_new(c->backend, 3, &batch));
    /* Find a key of each group. */
    char mine[16] = "", foreign[16] = "";
    for (int i = 0; mine[0] == '\0' || foreign[0] == '\0'; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%d", i % 10000);
        memcpy(kwr_key_group(conf_slice(key), 42, 2) == 0 ? mine : foreign, key, sizeof key);
    }
    const kwr_slice good[] = { conf_slice(mine), conf_slice(mine), conf_slice(mine),
                               conf_slice(mine) };
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_load(batch, good, NULL, 4));
    const uint32_t groups[] = { 0, 0, 0 };
    EXPECT(KWR_ERR_MISUSE, kwr_key_batch_load(batch, good, groups, 3));
    MUST(kwr_key_batch_load(batch, good, NULL, 3));
    const kwr_slice with_foreign[] = { good[0], conf_slice(foreign) };
    EXPECT(KWR_ERR_MISUSE, kwr_key_batch_load(batch, with_foreign, NULL, 2));
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_select(batch, 0));
    const kwr_slice with_long[] = { good[0], conf_slice("123456789") };
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_load(batch, with_long, NULL, 2));
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_select(batch, 0));
    MUST(kwr_key_batch_load(batch, NULL, NULL, 0));
    EXPECT(KWR_ERR_RANGE, kwr_key_batch_select(batch, 0));
}

CONF_TEST(batch, ends_with_its_backend) {
    conf_open(c);
    kwr_key_batch *batch[3];
    for (size_t i = 0; i < 3; i++)
        MUST(kwr_key_batch_new(c->backend, 8, &batch[i]));
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_state *const states[] = { kwr_value_state(v) };
    const kwr_slice key = conf_slice("a");
    MUST(kwr_key_batch_load(batch[0], &key, NULL, 1));
    kwr_key_batch_prefetch(batch[0], states, 1);
    MUST(kwr_key_batch_select(batch[0], 0));
    kwr_key_batch_free(batch[1]);
    kwr_key_batch_free(NULL);
    /* The rest is released by kwr_backend_close(), as the leak check sees. */
}
