/* SPDX-License-Identifier: Apache-2.0 */
/* List state: order, appending, replacing, iterators, and what is refused. */
#include "tests/conformance/conformance.h"

static void add(conf *c, kwr_list *l, const char *text) { MUST(kwr_list_add(l, conf_slice(text))); }

static uint64_t count_of(conf *c, kwr_list *l) {
    uint64_t count = 77;
    MUST(kwr_list_count(l, &count));
    return count;
}

/* All elements, each followed by a space. */
static const char *all(conf *c, kwr_list *l) {
    static char text[1000];
    size_t size = 0;
    uint64_t count = 0;
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    kwr_slice element;
    kwr_status status;
    for (; (status = kwr_list_iterator_next(it, &element)) == KWR_OK; count++) {
        CHECK(size + element.size + 2 < sizeof text);
        size += (size_t)snprintf(text + size, sizeof text - size, "%.*s ", (int)element.size,
                                 (const char *)element.data);
    }
    CHECK(status == KWR_NOT_FOUND && element.size == 0);
    text[size] = '\0';
    kwr_list_iterator_free(it);
    CHECK(count == count_of(c, l));
    return text;
}

CONF_COLLECTION_TEST(list, is_empty_at_first) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    CHECK(strcmp(all(c, l), "") == 0);
    MUST(kwr_list_clear(l));
    CHECK(conf_entries(c) == 0);
}

CONF_COLLECTION_TEST(list, keeps_the_order_of_adding) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    add(c, l, "z");
    add(c, l, "a");
    const kwr_slice more[] = { conf_slice("m"), conf_slice(""), conf_slice("a") };
    MUST(kwr_list_add_all(l, more, 3));
    add(c, l, "b");
    CHECK(strcmp(all(c, l), "z a m  a b ") == 0);
    CHECK(conf_entries(c) == 1);
}

CONF_COLLECTION_TEST(list, adding_nothing_changes_nothing) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    MUST(kwr_list_add_all(l, NULL, 0));
    CHECK(conf_entries(c) == 0);
    add(c, l, "x");
    MUST(kwr_list_add_all(l, NULL, 0));
    CHECK(strcmp(all(c, l), "x ") == 0);
}

CONF_COLLECTION_TEST(list, update_replaces_all_elements) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    const kwr_slice first[] = { conf_slice("1"), conf_slice("2"), conf_slice("3") };
    const kwr_slice second[] = { conf_slice("4"), conf_slice("5") };
    MUST(kwr_list_update(l, first, 3));
    CHECK(strcmp(all(c, l), "1 2 3 ") == 0);
    MUST(kwr_list_update(l, second, 2));
    CHECK(strcmp(all(c, l), "4 5 ") == 0);
    add(c, l, "6");
    CHECK(strcmp(all(c, l), "4 5 6 ") == 0);
}

CONF_COLLECTION_TEST(list, update_with_nothing_clears) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    MUST(kwr_list_update(l, NULL, 0));
    CHECK(conf_entries(c) == 0);
    add(c, l, "x");
    MUST(kwr_list_update(l, NULL, 0));
    CHECK(strcmp(all(c, l), "") == 0 && conf_entries(c) == 0);
    add(c, l, "y");
    CHECK(strcmp(all(c, l), "y ") == 0);
}

CONF_COLLECTION_TEST(list, clear_removes_this_list_only) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    kwr_list *k = conf_list(c, "k", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    add(c, l, "a");
    add(c, k, "k");
    MUST(kwr_list_set_namespace(l, conf_slice("w")));
    add(c, l, "a in w");
    conf_set_key(c, "b");
    CHECK(count_of(c, l) == 0);
    add(c, l, "b in w");
    MUST(kwr_list_clear(l));
    CHECK(count_of(c, l) == 0);
    conf_set_key(c, "a");
    CHECK(strcmp(all(c, l), "a in w ") == 0 && strcmp(all(c, k), "k ") == 0);
    MUST(kwr_list_set_namespace(l, (kwr_slice){ 0 }));
    CHECK(strcmp(all(c, l), "a ") == 0);
}

CONF_COLLECTION_TEST(list, long_lists_keep_every_element) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    enum { COUNT = 5000 };
    char *data = (char *)malloc(70000);
    for (size_t i = 0; i < COUNT; i++) {
        const size_t size = i % 1000 == 999 ? 70000 : i % 40;
        memset(data, 'a' + (int)(i % 26), size);
        MUST(kwr_list_add(l, (kwr_slice){ data, size }));
    }
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    kwr_slice got;
    for (size_t i = 0; i < COUNT; i++) {
        MUST(kwr_list_iterator_next(it, &got));
        CHECK(got.size == (i % 1000 == 999 ? 70000 : i % 40));
        for (size_t at = 0; at < got.size; at++)
            CHECK(((const char *)got.data)[at] == (char)('a' + (int)(i % 26)));
    }
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
    kwr_list_iterator_free(it);
    CHECK(count_of(c, l) == COUNT);
    MUST(kwr_list_update(l, &(kwr_slice){ "x", 1 }, 1));
    CHECK(strcmp(all(c, l), "x ") == 0);
    free(data);
}

CONF_COLLECTION_TEST(list, sizes_of_elements_are_checked_before_any_is_added) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_I64);
    conf_set_key(c, "a");
    const kwr_slice good = conf_slice("12345678");
    MUST(kwr_list_add(l, good));
    const kwr_slice mixed[] = { good, conf_slice("1234") };
    EXPECT(KWR_ERR_RANGE, kwr_list_add_all(l, mixed, 2));
    CHECK_TEXT("state 'l': a value of type i64 has 8 bytes, not 4");
    EXPECT(KWR_ERR_RANGE, kwr_list_update(l, mixed, 2));
    EXPECT(KWR_ERR_RANGE, kwr_list_add(l, conf_slice("")));
    CHECK(strcmp(all(c, l), "12345678 ") == 0);
}

CONF_COLLECTION_TEST(list, without_a_current_key_every_access_is_misuse) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    const kwr_slice x = conf_slice("x");
    uint64_t count = 5;
    kwr_list_iterator *it = NULL;
    EXPECT(KWR_ERR_MISUSE, kwr_list_add(l, x));
    CHECK_TEXT("state 'l': there is no current key");
    EXPECT(KWR_ERR_MISUSE, kwr_list_add_all(l, NULL, 0));
    EXPECT(KWR_ERR_MISUSE, kwr_list_update(l, &x, 1));
    EXPECT(KWR_ERR_MISUSE, kwr_list_update(l, NULL, 0));
    EXPECT(KWR_ERR_MISUSE, kwr_list_clear(l));
    EXPECT(KWR_ERR_MISUSE, kwr_list_count(l, &count));
    EXPECT(KWR_ERR_MISUSE, kwr_list_iterate(l, &it));
    EXPECT(KWR_ERR_MISUSE, kwr_list_merge_namespaces(l, x, &x, 1));
    CHECK(count == 5 && it == NULL);
}

CONF_COLLECTION_TEST(list, a_name_is_one_handle_of_one_type) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_I64);
    CHECK(conf_list(c, "l", KWR_TYPE_I64) == l);
    const kwr_list_descriptor d = { .struct_size = sizeof d,
                                    .name = "l",
                                    .type = { .kind = KWR_TYPE_STRING } };
    kwr_list *other = NULL;
    EXPECT(KWR_ERR_MISMATCH, kwr_list_open(c->backend, &d, &other, NULL));
    CHECK_TEXT("state 'l' is stored as list of i64, opened as list of string");
    CHECK(other == NULL);
}

CONF_COLLECTION_TEST(list, an_iterator_refuses_to_go_on_after_a_change) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    const kwr_slice x = conf_slice("x");
    const kwr_slice w = conf_slice("w");
    conf_set_key(c, "a");
    for (int what = 0; what < 6; what++) {
        add(c, l, "a");
        add(c, l, "b");
        MUST(kwr_list_set_namespace(l, w));
        add(c, l, "of w");
        MUST(kwr_list_set_namespace(l, (kwr_slice){ 0 }));
        kwr_list_iterator *it;
        kwr_slice got = { 0 };
        MUST(kwr_list_iterate(l, &it));
        MUST(kwr_list_iterator_next(it, &got));
        if (what == 0) add(c, l, "x");
        if (what == 1) MUST(kwr_list_update(l, &x, 1));
        if (what == 2) MUST(kwr_list_clear(l));
        if (what == 3) MUST(kwr_list_merge_namespaces(l, (kwr_slice){ 0 }, &w, 1));
        if (what == 4) MUST(kwr_list_merge_namespaces(l, w, &(kwr_slice){ 0 }, 1));
        if (what == 5) {
            MUST(kwr_list_add_all(l, NULL, 0));
            conf_set_key(c, "b");
            add(c, l, "of another");
            conf_set_key(c, "a");
            MUST(kwr_list_iterator_next(it, &got));
        } else {
            EXPECT(KWR_ERR_MISUSE, kwr_list_iterator_next(it, &got));
            CHECK_TEXT("state 'l': the list was changed while this iterator was over it");
        }
        kwr_list_iterator_free(it);
        MUST(kwr_list_clear(l));
    }
    kwr_list_iterator_free(NULL);
}

CONF_COLLECTION_TEST(list, an_iterator_stays_with_its_list_and_across_freezes) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    add(c, l, "1");
    add(c, l, "2");
    add(c, l, "3");
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    kwr_slice got;
    MUST(kwr_list_iterator_next(it, &got));
    conf_set_key(c, "b");
    MUST(kwr_list_iterator_next(it, &got));
    CHECK(conf_is(got, "2"));
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    MUST(kwr_list_iterator_next(it, &got));
    CHECK(conf_is(got, "3"));
    kwr_view_release(view);
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
}

CONF_COLLECTION_TEST(list, elements_may_be_borrowed_from_another_list) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    kwr_list *k = conf_list(c, "k", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    add(c, l, "from l");
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    kwr_slice got;
    MUST(kwr_list_iterator_next(it, &got));
    for (int i = 0; i < 300; i++)
        MUST(kwr_list_add(k, got));
    CHECK(conf_is(got, "from l") && count_of(c, k) == 300);
}

CONF_COLLECTION_TEST(list, a_view_keeps_the_list_of_the_moment) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    conf_set_key(c, "a");
    char text[16];
    for (int i = 0; i < 500; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        add(c, l, text);
    }
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    add(c, l, "later");
    MUST(kwr_list_update(l, &(kwr_slice){ "x", 1 }, 1));
    for (int i = 0; i < 501; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        const uint8_t sequence[8] = { 0, 0, 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i };
        CHECK(conf_view_holds_at(c, view, "l", "a", "", (kwr_slice){ sequence, 8 },
                                 i == 500 ? NULL : text));
    }
    CHECK(conf_view_entries(c, view) == 1);
    kwr_view_release(view);
    CHECK(strcmp(all(c, l), "x ") == 0);
}

CONF_COLLECTION_TEST(list, batches_give_the_results_of_single_calls) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    kwr_state *const states[] = { kwr_list_state(l) };
    enum { KEYS = 20 };
    char text[KEYS][16];
    kwr_slice keys[KEYS];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(text[i], sizeof text[i], "key-%d", i);
        keys[i] = conf_slice(text[i]);
    }
    kwr_key_batch *batch;
    MUST(kwr_key_batch_new(c->backend, KEYS, &batch));
    MUST(kwr_key_batch_load(batch, keys, NULL, KEYS));
    for (int round = 0; round < 200; round++) {
        if (round % 3 != 1) kwr_key_batch_prefetch(batch, states, 1);
        for (size_t i = 0; i < KEYS; i++) {
            MUST(kwr_key_batch_select(batch, i));
            add(c, l, text[i]);
            CHECK(count_of(c, l) == (uint64_t)round + 1);
        }
    }
    conf_set_key(c, "key-7");
    kwr_list_iterator *it;
    kwr_slice got;
    MUST(kwr_list_iterate(l, &it));
    while (kwr_list_iterator_next(it, &got) == KWR_OK)
        CHECK(conf_is(got, "key-7"));
}

CONF_COLLECTION_RESTORE_TEST(list, is_restored_and_goes_on) {
    conf_open(c);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_STRING);
    static const int sizes[] = { 1, 9, 400, 6000 };
    char text[32];
    for (int k = 0; k < 4; k++) {
        (void)snprintf(text, sizeof text, "key-%d", k);
        conf_set_key(c, text);
        for (int i = 0; i < sizes[k]; i++) {
            (void)snprintf(text, sizeof text, "element %d", i);
            add(c, l, text);
        }
    }
    conf_restart(c);
    l = conf_list(c, "l", KWR_TYPE_STRING);
    for (int k = 0; k < 4; k++) {
        (void)snprintf(text, sizeof text, "key-%d", k);
        conf_set_key(c, text);
        (void)snprintf(text, sizeof text, "element %d", sizes[k]);
        add(c, l, text);
        CHECK(count_of(c, l) == (uint64_t)sizes[k] + 1);
        kwr_list_iterator *it;
        kwr_slice got;
        MUST(kwr_list_iterate(l, &it));
        for (int i = 0; i <= sizes[k]; i++) {
            (void)snprintf(text, sizeof text, "element %d", i);
            MUST(kwr_list_iterator_next(it, &got));
            CHECK(conf_is(got, text));
        }
        kwr_list_iterator_free(it);
    }
}
