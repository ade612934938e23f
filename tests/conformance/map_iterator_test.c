/* SPDX-License-Identifier: Apache-2.0 */
/* Iterators of maps: order, both directions, changes through them, and changes they refuse. */
#include "tests/conformance/conformance.h"

static void put(conf *c, kwr_map *m, const char *key, const char *value) {
    MUST(kwr_map_put(m, conf_slice(key), conf_slice(value)));
}

/* The rest of an iterator: user keys and values, as "a=1 b=2 ". */
static const char *rest(conf *c, kwr_map_iterator *it, bool forward) {
    static char text[1000];
    size_t size = 0;
    kwr_slice key, value;
    kwr_status status;
    while ((status = forward ? kwr_map_iterator_next(it, &key, &value)
                             : kwr_map_iterator_previous(it, &key, &value)) == KWR_OK) {
        CHECK(size + key.size + value.size + 3 < sizeof text);
        size += (size_t)snprintf(text + size, sizeof text - size, "%.*s=%.*s ", (int)key.size,
                                 (const char *)key.data, (int)value.size, (const char *)value.data);
    }
    CHECK(status == KWR_NOT_FOUND && key.size == 0 && value.size == 0);
    text[size] = '\0';
    return text;
}

static const char *all(conf *c, kwr_map *m) {
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    const char *text = rest(c, it, true);
    kwr_map_iterator_free(it);
    return text;
}

/* A map of the single letters of `keys`, each its own value. */
static kwr_map *letters(conf *c, const char *keys) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    for (; *keys != '\0'; keys++)
        MUST(kwr_map_put(m, (kwr_slice){ keys, 1 }, (kwr_slice){ keys, 1 }));
    return m;
}

CONF_COLLECTION_TEST(map_iterator, goes_in_the_byte_order_of_user_keys) {
    kwr_map *m = letters(c, "b");
    put(c, m, "", "2");
    put(c, m, "a", "3");
    put(c, m, "ab", "4");
    put(c, m, "B", "5");
    put(c, m, "aa", "6");
    put(c, m, "\xff", "7");
    CHECK(strcmp(all(c, m), "=2 B=5 a=3 aa=6 ab=4 b=b \xff=7 ") == 0);
}

CONF_COLLECTION_TEST(map_iterator, numbers_come_in_their_order) {
    static const int64_t numbers[] = { 5, -1, INT64_MIN, 0, 300, INT64_MAX, -256, 1 };
    static const int64_t sorted[] = { INT64_MIN, -256, -1, 0, 1, 5, 300, INT64_MAX };
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_BYTES);
    kwr_map *f = conf_map(c, "f", KWR_TYPE_F64, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    uint8_t key[8];
    for (size_t i = 0; i < 8; i++) {
        kwr_key_from_i64(numbers[i], key);
        MUST(kwr_map_put(m, (kwr_slice){ key, 8 }, (kwr_slice){ 0 }));
        kwr_key_from_f64((double)numbers[i] / 3, key);
        MUST(kwr_map_put(f, (kwr_slice){ key, 8 }, (kwr_slice){ 0 }));
    }
    kwr_map_iterator *im, *jf;
    MUST(kwr_map_iterate(m, &im));
    MUST(kwr_map_iterate(f, &jf));
    for (size_t i = 0; i < 8; i++) {
        kwr_slice at, atf;
        MUST(kwr_map_iterator_next(im, &at, NULL));
        MUST(kwr_map_iterator_next(jf, &atf, NULL));
        CHECK(kwr_key_to_i64(at.data) == sorted[i]);
        CHECK(kwr_key_to_f64(atf.data) == (double)sorted[i] / 3);
    }
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(im, NULL, NULL));
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(jf, NULL, NULL));
}

CONF_COLLECTION_TEST(map_iterator, of_an_empty_map_ends_at_once) {
    kwr_map *m = letters(c, "");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    kwr_slice key = { "x", 1 }, value = { "x", 1 };
    for (int i = 0; i < 3; i++) {
        EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(it, &key, &value));
        CHECK(key.size == 0 && value.size == 0);
        EXPECT(KWR_NOT_FOUND, kwr_map_iterator_previous(it, NULL, NULL));
    }
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
    kwr_map_iterator_free(it);
    kwr_map_iterator_free(NULL);
}

CONF_COLLECTION_TEST(map_iterator, goes_both_ways_and_turns) {
    kwr_map *m = letters(c, "abcd");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_previous(it, NULL, NULL));
    CHECK(strcmp(rest(c, it, true), "a=a b=b c=c d=d ") == 0);
    CHECK(strcmp(rest(c, it, false), "d=d c=c b=b a=a ") == 0);
    kwr_slice key;
    MUST(kwr_map_iterator_next(it, &key, NULL));
    MUST(kwr_map_iterator_next(it, &key, NULL));
    CHECK(conf_is(key, "b"));
    MUST(kwr_map_iterator_previous(it, &key, NULL));
    CHECK(conf_is(key, "a"));
    MUST(kwr_map_iterator_next(it, &key, NULL));
    CHECK(conf_is(key, "b"));
    MUST(kwr_map_iterator_seek_last(it));
    CHECK(strcmp(rest(c, it, true), "") == 0);
    MUST(kwr_map_iterator_seek_last(it));
    MUST(kwr_map_iterator_previous(it, &key, NULL));
    CHECK(conf_is(key, "d"));
    MUST(kwr_map_iterator_seek_first(it));
    MUST(kwr_map_iterator_next(it, &key, NULL));
    CHECK(conf_is(key, "a"));
}

CONF_COLLECTION_TEST(map_iterator, seeks_to_a_user_key_or_the_next_above) {
    static const struct {
        const char *to, *forward, *backward;
    } rows[] = {
        { "", "b=b d=d f=f ", "" },   { "a", "b=b d=d f=f ", "" },  { "b", "b=b d=d f=f ", "" },
        { "ba", "d=d f=f ", "b=b " }, { "c", "d=d f=f ", "b=b " },  { "d", "d=d f=f ", "b=b " },
        { "f", "f=f ", "d=d b=b " },  { "fa", "", "f=f d=d b=b " }, { "\xff", "", "f=f d=d b=b " },
    };
    kwr_map *m = letters(c, "bdf");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        MUST(kwr_map_iterator_seek(it, conf_slice(rows[i].to)));
        CHECK(strcmp(rest(c, it, true), rows[i].forward) == 0);
        MUST(kwr_map_iterator_seek(it, conf_slice(rows[i].to)));
        CHECK(strcmp(rest(c, it, false), rows[i].backward) == 0);
    }
    /* What it lent may say where to go. */
    kwr_slice key;
    MUST(kwr_map_iterator_seek(it, conf_slice("d")));
    MUST(kwr_map_iterator_next(it, &key, NULL));
    MUST(kwr_map_iterator_seek(it, key));
    CHECK(strcmp(rest(c, it, true), "d=d f=f ") == 0);
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
    kwr_map_iterator_free(it);
}

CONF_COLLECTION_TEST(map_iterator, a_seek_checks_the_user_key) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_I64, KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    EXPECT(KWR_ERR_RANGE, kwr_map_iterator_seek(it, conf_slice("1234")));
    CHECK_TEXT("a user key of type i64 has 8 bytes, not 4");
}

CONF_COLLECTION_TEST(map_iterator, removes_what_it_lent_once) {
    kwr_map *m = letters(c, "abcdef");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
    CHECK_TEXT("state 'm': nothing to remove: the iterator is on no entry; step to one first");
    kwr_slice key, value;
    while (kwr_map_iterator_next(it, &key, &value) == KWR_OK) {
        if (strchr("ace", *(const char *)key.data) == NULL) continue;
        MUST(kwr_map_iterator_remove(it));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
        CHECK_TEXT("nothing to remove: the entry was removed through this iterator already");
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_set(it, conf_slice("x")));
        CHECK_TEXT("nothing to set: the entry was removed");
    }
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
    MUST(kwr_map_iterator_seek_first(it));
    CHECK(strcmp(rest(c, it, true), "b=b d=d f=f ") == 0);
    /* Backwards, until nothing is left. */
    while (kwr_map_iterator_previous(it, &key, &value) == KWR_OK)
        MUST(kwr_map_iterator_remove(it));
    CHECK(strcmp(rest(c, it, true), "") == 0);
    bool empty = false;
    MUST(kwr_map_is_empty(m, &empty));
    CHECK(empty);
    kwr_map_iterator_free(it);
}

CONF_COLLECTION_TEST(map_iterator, keeps_its_place_when_it_removes) {
    kwr_map *m = letters(c, "abc");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    kwr_slice key;
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    MUST(kwr_map_iterator_remove(it));
    MUST(kwr_map_iterator_previous(it, &key, NULL));
    CHECK(conf_is(key, "a"));
    MUST(kwr_map_iterator_next(it, &key, NULL));
    CHECK(conf_is(key, "c"));
}

CONF_COLLECTION_TEST(map_iterator, sets_what_it_lent_as_often_as_one_likes) {
    kwr_map *m = letters(c, "abc");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_set(it, conf_slice("x")));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    MUST(kwr_map_iterator_set(it, conf_slice("once")));
    MUST(kwr_map_iterator_set(it, conf_slice("and again, longer")));
    CHECK(strcmp(rest(c, it, true), "c=c ") == 0);
    CHECK(strcmp(all(c, m), "a=a b=and again, longer c=c ") == 0);
    EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_set(it, conf_slice("x")));
    kwr_map_iterator_free(it);
}

CONF_COLLECTION_TEST(map_iterator, a_set_checks_the_value) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_I64);
    conf_set_key(c, "a");
    put(c, m, "x", "12345678");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    EXPECT(KWR_ERR_RANGE, kwr_map_iterator_set(it, conf_slice("1234")));
    MUST(kwr_map_iterator_set(it, conf_slice("abcdefgh")));
    CHECK(strcmp(all(c, m), "x=abcdefgh ") == 0);
}

/* ---- changes by other means ---- */

typedef enum change { PUT_NEW, PUT_SAME, MODIFY, REMOVE, CLEAR, OTHER_REMOVE, OTHER_SET } change;

static void apply(conf *c, kwr_map *m, change what) {
    kwr_map_iterator *other;
    void *bytes;
    switch (what) {
    case PUT_NEW: put(c, m, "new", "x"); return;
    case PUT_SAME: put(c, m, "c", "x"); return;
    case MODIFY: MUST(kwr_map_modify(m, conf_slice("c"), 1, &bytes, NULL)); return;
    case REMOVE: MUST(kwr_map_remove(m, conf_slice("c"))); return;
    case CLEAR: MUST(kwr_map_clear(m)); return;
    case OTHER_REMOVE:
    case OTHER_SET:
        MUST(kwr_map_iterate(m, &other));
        MUST(kwr_map_iterator_next(other, NULL, NULL));
        if (what == OTHER_SET) {
            MUST(kwr_map_iterator_set(other, conf_slice("x")));
        } else {
            MUST(kwr_map_iterator_remove(other));
        }
        /* To itself it is still good. */
        MUST(kwr_map_iterator_next(other, NULL, NULL));
        kwr_map_iterator_free(other);
        return;
    }
}

CONF_COLLECTION_TEST(map_iterator, refuses_to_go_on_after_a_change_by_other_means) {
    kwr_map *m = letters(c, "");
    for (change what = PUT_NEW; what <= OTHER_SET; what++) {
        MUST(kwr_map_clear(m));
        put(c, m, "a", "1");
        put(c, m, "b", "2");
        put(c, m, "c", "3");
        kwr_map_iterator *it;
        MUST(kwr_map_iterate(m, &it));
        MUST(kwr_map_iterator_next(it, NULL, NULL));
        apply(c, m, what);
        kwr_slice key = { "untouched", 9 };
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_next(it, &key, NULL));
        CHECK_TEXT("state 'm': the map was changed while this iterator was over it, and not "
                   "through it; free it and iterate again");
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_previous(it, &key, NULL));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_seek(it, conf_slice("a")));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_seek_first(it));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_seek_last(it));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(it));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_set(it, conf_slice("x")));
        CHECK(key.size == 9);
        kwr_map_iterator_free(it);
    }
}

CONF_COLLECTION_TEST(map_iterator, does_not_mind_what_changes_nothing) {
    kwr_map *m = letters(c, "abc");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    MUST(kwr_map_remove(m, conf_slice("not there")));
    MUST(kwr_map_put_all(m, NULL, NULL, 0));
    kwr_slice value;
    MUST(kwr_map_get(m, conf_slice("c"), &value));
    CHECK(strcmp(rest(c, it, true), "b=b c=c ") == 0);
}

CONF_COLLECTION_TEST(map_iterator, stays_with_its_map_whatever_is_current) {
    kwr_map *m = letters(c, "abc");
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    conf_set_key(c, "another");
    put(c, m, "x", "of another");
    MUST(kwr_map_set_namespace(m, conf_slice("w")));
    put(c, m, "y", "of another in w");
    conf_set_key(c, "a");
    put(c, m, "z", "of a in w");
    kwr_slice key;
    MUST(kwr_map_iterator_next(it, &key, NULL));
    CHECK(conf_is(key, "b"));
    MUST(kwr_map_iterator_remove(it));
    CHECK(strcmp(rest(c, it, true), "c=c ") == 0);
    kwr_map_iterator_free(it);
    CHECK(strcmp(all(c, m), "z=of a in w ") == 0);
    MUST(kwr_map_set_namespace(m, (kwr_slice){ 0 }));
    CHECK(strcmp(all(c, m), "a=a c=c ") == 0);
    conf_set_key(c, "another");
    CHECK(strcmp(all(c, m), "x=of another ") == 0);
}

CONF_COLLECTION_TEST(map_iterator, goes_on_across_freezes) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    char text[16];
    for (int i = 0; i < 400; i++) {
        (void)snprintf(text, sizeof text, "%03d", i);
        put(c, m, text, "old");
    }
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    kwr_view *views[4] = { 0 };
    for (int i = 0; i < 400; i++) {
        kwr_slice key;
        MUST(kwr_map_iterator_next(it, &key, NULL));
        (void)snprintf(text, sizeof text, "%03d", i);
        CHECK(conf_is(key, text));
        if (i % 100 == 50) MUST(kwr_backend_freeze(c->backend, &views[i / 100]));
        if (i % 2 == 0)
            MUST(kwr_map_iterator_remove(it));
        else
            MUST(kwr_map_iterator_set(it, conf_slice("new")));
    }
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(it, NULL, NULL));
    kwr_map_iterator_free(it);
    for (int v = 0; v < 4; v++) {
        for (int i = 0; i < 400; i++) {
            (void)snprintf(text, sizeof text, "%03d", i);
            const bool done = i < v * 100 + 50;
            const char *want = !done ? "old" : i % 2 == 0 ? NULL : "new";
            CHECK(conf_view_holds_at(c, views[v], "m", "a", "", conf_slice(text), want));
        }
        kwr_view_release(views[v]);
    }
}

CONF_COLLECTION_TEST(map_iterator, many_end_with_their_backend) {
    kwr_map *m = letters(c, "abc");
    kwr_map_iterator *it[5];
    for (size_t i = 0; i < 5; i++) {
        MUST(kwr_map_iterate(m, &it[i]));
        for (size_t step = 0; step < i; step++)
            (void)(kwr_map_iterator_next(it[i], NULL, NULL) == KWR_OK);
    }
    kwr_map_iterator_free(it[2]);
    kwr_map_iterator_free(it[0]);
    kwr_map_iterator_free(it[4]);
    MUST(kwr_map_iterate(m, &it[0]));
    /* The rest is released by kwr_backend_close(), as the leak check sees. */
}
