/* SPDX-License-Identifier: Apache-2.0 */
/* Opening backends and states: options, names, kinds, types, limits, and what failures leave. */
#include "tests/conformance/conformance.h"

CONF_TEST(open, options_are_checked_by_name) {
    kwr_error err;
    kwr_backend *backend = NULL;
    kwr_backend_options o = conf_options(c);
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, NULL, &backend, &err));
    o.struct_size = 0;
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
    CHECK(strstr(err.text, "kwr_backend_options") != NULL);
    o = conf_options(c);
    o.env = NULL;
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
    CHECK(strstr(err.text, "env") != NULL);
    o = conf_options(c);
    o.max_parallelism = KWR_MAX_PARALLELISM_LIMIT + 1;
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
    CHECK(strstr(err.text, "max_parallelism is 32769") != NULL);
    static const kwr_key_group_range bad[] = { { 8, 1 }, { 7, 2 }, { 0, 9 }, { 1, UINT32_MAX } };
    for (size_t i = 0; i < 4; i++) {
        o = conf_options(c);
        o.max_parallelism = 8;
        o.key_groups = bad[i];
        EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
        CHECK(strstr(err.text, "key_groups") != NULL);
    }
    o = conf_options(c);
    o.key_type.kind = KWR_TYPE_ROW;
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
    CHECK(strstr(err.text, "key_type: rows are for values only") != NULL);
    o = conf_options(c);
    o.limits = (kwr_limits)KWR_LIMITS_INIT;
    o.limits.key_bytes_max = SIZE_MAX;
    EXPECT(KWR_ERR_RANGE, conf_open_with(c, &o, &backend, &err));
    CHECK(strstr(err.text, "key_bytes_max") != NULL);
    CHECK(backend == NULL);
    kwr_backend_close(NULL);
}

CONF_TEST(open, an_unknown_engine_is_refused_by_name) {
    kwr_error err;
    kwr_backend *backend = NULL;
    kwr_backend_options o = conf_options(c);
    o.engine = "abacus";
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_backend_open(&o, &backend, &err));
    CHECK(strstr(err.text, "'abacus'") != NULL);
    CHECK(backend == NULL);
}

/* A host compiled against a header that ended after `env` knew no other option. */
CONF_TEST(open, a_smaller_options_struct_means_defaults) {
    if (c->engine->on_disk) return; /* its directory comes later in the struct */
    kwr_backend_options o;
    memset(&o, 0xee, sizeof o);
    o.struct_size = offsetof(kwr_backend_options, resources);
    o.env = &c->counted_env;
    MUST(conf_open_with(c, &o, &c->backend, NULL));
    conf_set_key(c, "a");
    uint32_t group;
    kwr_slice key;
    MUST(kwr_backend_key(c->backend, &key, &group));
    CHECK(group == kwr_key_group(conf_slice("a"), 0, KWR_MAX_PARALLELISM_DEFAULT));
    kwr_value_descriptor d;
    memset(&d, 0xee, sizeof d);
    d.struct_size = offsetof(kwr_value_descriptor, type);
    d.name = "v";
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    CHECK(conf_value(c, "v", KWR_TYPE_BYTES) == v);
    kwr_backend_stats stats;
    memset(&stats, 0xee, sizeof stats);
    stats.struct_size = offsetof(kwr_backend_stats, entry_bytes);
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(conf_counts(c, stats.entries, 0));
    CHECK(stats.entry_bytes == UINT64_C(0xeeeeeeeeeeeeeeee));
    CHECK(stats.struct_size == offsetof(kwr_backend_stats, entry_bytes));
}

CONF_TEST(open, a_name_is_one_handle) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_STRING);
    CHECK(conf_value(c, "v", KWR_TYPE_STRING) == v);
    CHECK(conf_value(c, "V", KWR_TYPE_STRING) != v);
    CHECK(conf_value(c, "v ", KWR_TYPE_STRING) != v);
    CHECK(conf_value(c, "größe", KWR_TYPE_STRING) != v);
}

CONF_TEST(open, another_kind_or_type_is_refused_with_both) {
    conf_open(c);
    (void)conf_reducing(c, "count", KWR_TYPE_I64, KWR_REDUCE_SUM);
    kwr_value *v = NULL;
    kwr_error err;
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = "count",
                               .type = { .kind = KWR_TYPE_STRING } };
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, &err));
    CHECK(strcmp(err.text,
                 "state 'count' is stored as reducing of i64, opened as value of string") == 0);
    CHECK_TEXT("state 'count' is stored as reducing of i64, opened as value of string");
    d.type.kind = KWR_TYPE_I64;
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("stored as reducing of i64, opened as value of i64");
    kwr_reducing *r = NULL;
    kwr_reducing_descriptor rd = { .struct_size = sizeof rd,
                                   .name = "count",
                                   .type = { .kind = KWR_TYPE_I64 },
                                   .namespace_type = { .kind = KWR_TYPE_U64 },
                                   .reduce = KWR_REDUCE_SUM };
    EXPECT(KWR_ERR_MISMATCH, kwr_reducing_open(c->backend, &rd, &r, NULL));
    CHECK_TEXT("stored with namespaces of bytes, opened with namespaces of u64");
    CHECK(v == NULL && r == NULL);
    d = (kwr_value_descriptor){ .struct_size = sizeof d,
                                .name = "own",
                                .type = { .kind = KWR_TYPE_OPAQUE, .version = 3 } };
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    d.type.version = 4;
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("stored as value of opaque v3, opened as value of opaque v4");
}

CONF_TEST(open, labels_of_fields_may_change_and_are_taken_over) {
    kwr_field fields[] = { { 1, "user", { .kind = KWR_TYPE_STRING } },
                           { 2, "n", { .kind = KWR_TYPE_I64 } } };
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = "row",
                               .type = {
                                   .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 2 } };
    const kwr_state_info stored = { .kind = KWR_STATE_VALUE, .name = "row", .type = d.type };
    const kwr_engine_choice choice = {
        .ops = c->engine->ops != NULL ? c->engine->ops : kwr_engine_find(c->engine->registered),
        .hash_mask = c->engine->hash_mask,
    };
    const kwr_backend_options o = conf_options(c);
    MUST(kwr_backend_open_engine(&o, &choice, &stored, 1, &c->backend, NULL));
    kwr_view *before;
    MUST(kwr_backend_freeze(c->backend, &before));
    fields[1].name = "number of visits";
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    kwr_view *after;
    MUST(kwr_backend_freeze(c->backend, &after));
    kwr_backend_close(c->backend);
    c->backend = NULL;
    char text[100];
    kwr_type_text(&before->table->states[0].type, text, sizeof text);
    CHECK(strcmp(text, "row{1 user:string,2 n:i64}") == 0);
    kwr_type_text(&after->table->states[0].type, text, sizeof text);
    CHECK(strcmp(text, "row{1 user:string,2 number of visits:i64}") == 0);
    kwr_view_release(before);
    kwr_view_release(after);
}

CONF_TEST(open, a_changed_row_is_refused) {
    conf_open(c);
    const kwr_field fields[] = { { 1, "user", { .kind = KWR_TYPE_STRING } },
                                 { 2, "n", { .kind = KWR_TYPE_I64 } } };
    const kwr_field other[] = { { 1, "user", { .kind = KWR_TYPE_STRING } },
                                { 3, "n", { .kind = KWR_TYPE_I64 } } };
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = "row",
                               .type = {
                                   .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 2 } };
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    d.type.fields = other;
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("row{1 user:string,2 n:i64}, opened as value of row{1 user:string,3 n:i64}");
    d.type = (kwr_type){ .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 1 };
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, NULL));
}

CONF_TEST(open, names_are_limited_and_utf8) {
    kwr_backend_options o = conf_options(c);
    o.limits = (kwr_limits)KWR_LIMITS_INIT;
    o.limits.name_bytes_max = 5;
    MUST(conf_open_with(c, &o, &c->backend, NULL));
    kwr_value *v = NULL;
    kwr_value_descriptor d = { .struct_size = sizeof d };
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("needs a name");
    d.name = "";
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    d.name = "sixsix";
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("limits.name_bytes_max, which is 5");
    d.name = "a\xff";
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("UTF-8");
    d.name = "fives";
    d.type.kind = (kwr_type_kind)77;
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("the type of state 'fives': unknown type kind 77");
    d.type.kind = KWR_TYPE_BYTES;
    d.namespace_type.kind = KWR_TYPE_ROW;
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("the namespace type of state 'fives': rows are for values only");
    CHECK(v == NULL);
    d.namespace_type.kind = KWR_TYPE_BYTES;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
}

CONF_TEST(open, the_number_of_states_is_limited) {
    kwr_backend_options o = conf_options(c);
    o.limits = (kwr_limits)KWR_LIMITS_INIT;
    o.limits.states_max = 2;
    MUST(conf_open_with(c, &o, &c->backend, NULL));
    kwr_value *first = conf_value(c, "first", KWR_TYPE_BYTES);
    (void)conf_value(c, "second", KWR_TYPE_BYTES);
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "third" };
    kwr_value *third = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_value_open(c->backend, &d, &third, NULL));
    CHECK_TEXT("state 'third' would be number 3, limits.states_max is 2");
    CHECK(third == NULL);
    CHECK(conf_value(c, "first", KWR_TYPE_BYTES) == first);
}

CONF_TEST(open, values_and_namespaces_are_limited) {
    kwr_backend_options o = conf_options(c);
    o.limits = (kwr_limits)KWR_LIMITS_INIT;
    o.limits.value_bytes_max = 6;
    o.limits.namespace_bytes_max = 4;
    MUST(conf_open_with(c, &o, &c->backend, NULL));
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    conf_put(c, v, "123456");
    EXPECT(KWR_ERR_RANGE, kwr_value_put(v, conf_slice("1234567")));
    CHECK_TEXT("state 'v': the value has 7 bytes, limits.value_bytes_max is 6");
    void *bytes = NULL;
    size_t old_size = 5;
    EXPECT(KWR_ERR_RANGE, kwr_value_modify(v, 7, &bytes, &old_size));
    CHECK(bytes == NULL && old_size == 5);
    EXPECT(KWR_ERR_RANGE, kwr_value_set_namespace(v, conf_slice("12345")));
    CHECK_TEXT("state 'v': the namespace has 5 bytes, limits.namespace_bytes_max is 4");
    CHECK(conf_holds(v, "123456"));
    MUST(kwr_value_set_namespace(v, conf_slice("1234")));
    EXPECT(KWR_ERR_RANGE, kwr_value_set_namespace(v, conf_slice("12345")));
    conf_put(c, v, "in");
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
    CHECK(conf_holds(v, "123456"));
}

CONF_TEST(open, a_typed_namespace_is_empty_or_of_its_size) {
    conf_open(c);
    const kwr_value_descriptor d = { .struct_size = sizeof d,
                                     .name = "v",
                                     .namespace_type = { .kind = KWR_TYPE_I64 } };
    kwr_value *v;
    MUST(kwr_value_open(c->backend, &d, &v, NULL));
    MUST(kwr_value_set_namespace(v, conf_slice("12345678")));
    EXPECT(KWR_ERR_RANGE, kwr_value_set_namespace(v, conf_slice("1234")));
    CHECK_TEXT("state 'v': a namespace is empty or has the 8 bytes of its type, not 4");
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
}

/* ---- what a restore fills in ---- */

CONF_TEST(open, restored_states_keep_their_ids_and_types) {
    const kwr_state_info stored[] = {
        { .id = 0, .kind = KWR_STATE_VALUE, .name = "old", .type = { .kind = KWR_TYPE_I64 } },
        { .id = 1, .kind = KWR_STATE_REDUCING, .name = "sum", .type = { .kind = KWR_TYPE_I64 } },
    };
    const kwr_engine_choice choice = {
        .ops = c->engine->ops != NULL ? c->engine->ops : kwr_engine_find(c->engine->registered),
        .hash_mask = c->engine->hash_mask,
    };
    const kwr_backend_options o = conf_options(c);
    MUST(kwr_backend_open_engine(&o, &choice, stored, 2, &c->backend, NULL));
    (void)conf_value(c, "new", KWR_TYPE_BYTES);
    kwr_reducing *sum = conf_reducing(c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "a");
    conf_add_i64(c, sum, 4);
    kwr_value *v = NULL;
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "old" };
    EXPECT(KWR_ERR_MISMATCH, kwr_value_open(c->backend, &d, &v, NULL));
    CHECK_TEXT("state 'old' is stored as value of i64, opened as value of bytes");
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    CHECK(view->table->count == 3);
    CHECK(strcmp(view->table->states[1].name, "sum") == 0);
    CHECK(strcmp(view->table->states[2].name, "new") == 0);
    CHECK(conf_view_entries(c, view) == 1);
    kwr_view_release(view);
}

CONF_TEST(open, restored_states_are_checked) {
    const kwr_engine_choice choice = {
        .ops = c->engine->ops != NULL ? c->engine->ops : kwr_engine_find(c->engine->registered),
        .hash_mask = c->engine->hash_mask,
    };
    const kwr_backend_options o = conf_options(c);
    kwr_backend *backend = NULL;
    kwr_error err;
    const kwr_state_info twice[] = { { .id = 0, .kind = KWR_STATE_VALUE, .name = "a" },
                                     { .id = 1, .kind = KWR_STATE_VALUE, .name = "a" } };
    EXPECT(KWR_ERR_CORRUPT, kwr_backend_open_engine(&o, &choice, twice, 2, &backend, &err));
    CHECK(strstr(err.text, "two states 'a'") != NULL);
    const kwr_state_info gap[] = { { .id = 1, .kind = KWR_STATE_VALUE, .name = "a" } };
    EXPECT(KWR_ERR_CORRUPT, kwr_backend_open_engine(&o, &choice, gap, 1, &backend, &err));
    const kwr_state_info unnamed[] = { { .id = 0, .kind = KWR_STATE_VALUE } };
    EXPECT(KWR_ERR_CORRUPT, kwr_backend_open_engine(&o, &choice, unnamed, 1, &backend, &err));
    kwr_backend_options few = o;
    few.limits = (kwr_limits)KWR_LIMITS_INIT;
    few.limits.states_max = 1;
    const kwr_state_info two[] = { { .id = 0, .kind = KWR_STATE_VALUE, .name = "a" },
                                   { .id = 1, .kind = KWR_STATE_VALUE, .name = "b" } };
    EXPECT(KWR_ERR_RANGE, kwr_backend_open_engine(&few, &choice, two, 2, &backend, &err));
    CHECK(strstr(err.text, "the snapshot has 2 states, limits.states_max is 1") != NULL);
    CHECK(backend == NULL);
}

CONF_TEST(open, elements_and_map_values_are_limited) {
    kwr_backend_options o = conf_options(c);
    o.limits = (kwr_limits)KWR_LIMITS_INIT;
    o.limits.value_bytes_max = 6;
    o.limits.namespace_bytes_max = 4;
    MUST(conf_open_with(c, &o, &c->backend, NULL));
    kwr_list *l = conf_list(c, "l", KWR_TYPE_BYTES);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_BYTES, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    MUST(kwr_list_add(l, conf_slice("123456")));
    EXPECT(KWR_ERR_RANGE, kwr_list_add(l, conf_slice("1234567")));
    CHECK_TEXT("state 'l': the value has 7 bytes, limits.value_bytes_max is 6");
    MUST(kwr_map_put(m, conf_slice("x"), conf_slice("123456")));
    EXPECT(KWR_ERR_RANGE, kwr_map_put(m, conf_slice("x"), conf_slice("1234567")));
    void *bytes = NULL;
    EXPECT(KWR_ERR_RANGE, kwr_map_modify(m, conf_slice("x"), 7, &bytes, NULL));
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    EXPECT(KWR_ERR_RANGE, kwr_map_iterator_set(it, conf_slice("1234567")));
    CHECK_TEXT("state 'm': the value has 7 bytes, limits.value_bytes_max is 6");
    MUST(kwr_map_iterator_set(it, conf_slice("abcdef")));
    EXPECT(KWR_ERR_RANGE, kwr_map_set_namespace(m, conf_slice("12345")));
    EXPECT(KWR_ERR_RANGE, kwr_list_set_namespace(l, conf_slice("12345")));
    kwr_slice got;
    MUST(kwr_map_get(m, conf_slice("x"), &got));
    CHECK(conf_is(got, "abcdef") && bytes == NULL);
}

CONF_TEST(open, another_redistribution_is_refused_with_both) {
    conf_open(c);
    const kwr_list_descriptor ld = { .struct_size = sizeof ld, .name = "l" };
    const kwr_map_descriptor md = { .struct_size = sizeof md, .name = "m" };
    kwr_list *l = NULL, *again = NULL;
    kwr_map *m = NULL;
    MUST(kwr_list_open_as(c->backend, &ld, KWR_REDISTRIBUTE_SPLIT, &l, NULL));
    MUST(kwr_list_open_as(c->backend, &ld, KWR_REDISTRIBUTE_SPLIT, &again, NULL));
    CHECK(again == l);
    EXPECT(KWR_ERR_MISMATCH,
           kwr_list_open_as(c->backend, &ld, KWR_REDISTRIBUTE_UNION, &again, NULL));
    CHECK_TEXT("state 'l' is stored as list of bytes (split), opened as list of bytes (union)");
    EXPECT(KWR_ERR_MISMATCH, kwr_list_open(c->backend, &ld, &again, NULL));
    CHECK_TEXT("stored as list of bytes (split), opened as list of bytes");
    MUST(kwr_map_open(c->backend, &md, &m, NULL));
    EXPECT(KWR_ERR_MISMATCH,
           kwr_map_open_as(c->backend, &md, KWR_REDISTRIBUTE_BROADCAST, &m, NULL));
    CHECK_TEXT("stored as map of bytes to bytes, opened as map of bytes to bytes (broadcast)");
}

CONF_TEST(open, an_engine_without_collections_refuses_lists_and_maps) {
    kwr_engine_ops plain =
        *(c->engine->ops != NULL ? c->engine->ops : kwr_engine_find(c->engine->registered));
    plain.sub_get = NULL;
    const kwr_engine_choice choice = { .ops = &plain, .hash_mask = c->engine->hash_mask };
    const kwr_backend_options o = conf_options(c);
    MUST(kwr_backend_open_engine(&o, &choice, NULL, 0, &c->backend, NULL));
    const kwr_map_descriptor md = { .struct_size = sizeof md, .name = "m" };
    const kwr_list_descriptor ld = { .struct_size = sizeof ld, .name = "l" };
    kwr_map *m = NULL;
    kwr_list *l = NULL;
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_map_open(c->backend, &md, &m, NULL));
    CHECK_TEXT("state 'm': the engine ");
    CHECK_TEXT(" has no map state");
    EXPECT(KWR_ERR_UNSUPPORTED, kwr_list_open(c->backend, &ld, &l, NULL));
    CHECK(m == NULL && l == NULL);
    (void)conf_value(c, "m", KWR_TYPE_BYTES);
    /* Closed while its operations are there. */
    kwr_backend_close(c->backend);
    c->backend = NULL;
}
