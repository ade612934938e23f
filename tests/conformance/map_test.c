/* SPDX-License-Identifier: Apache-2.0 */
/* Map state: what each call does, the order of iteration, and what iterators allow. */
#include "tests/conformance/conformance.h"

static void put(conf *c, kwr_map *m, const char *key, const char *value) {
    MUST(kwr_map_put(m, conf_slice(key), conf_slice(value)));
}

static bool is_text(kwr_slice got, const char *text) {
    return got.size == strlen(text) && memcmp(got.data, text, got.size) == 0;
}

/* NULL: there is none. */
static bool holds(kwr_map *m, const char *key, const char *text) {
    kwr_slice got = { "x", 1 };
    const kwr_status contained = kwr_map_contains(m, conf_slice(key));
    const kwr_status status = kwr_map_get(m, conf_slice(key), &got);
    if (contained != status) return false;
    if (text == NULL) return status == KWR_NOT_FOUND && got.size == 0;
    return status == KWR_OK && is_text(got, text);
}

static uint64_t count_of(conf *c, kwr_map *m) {
    uint64_t count = 77;
    bool empty;
    MUST(kwr_map_count(m, &count));
    MUST(kwr_map_is_empty(m, &empty));
    CHECK(empty == (count == 0));
    return count;
}

/* All user keys in order, each followed by a space. */
static const char *keys_of(conf *c, kwr_map *m) {
    static char text[500];
    size_t size = 0;
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    kwr_slice key;
    while (kwr_map_iterator_next(it, &key, NULL) == KWR_OK) {
        CHECK(size + key.size + 2 < sizeof text);
        if (key.size > 0) memcpy(text + size, key.data, key.size);
        size += key.size;
        text[size++] = ' ';
    }
    text[size] = '\0';
    kwr_map_iterator_free(it);
    return text;
}

CONF_COLLECTION_TEST(map, is_empty_at_first) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    CHECK(holds(m, "x", NULL));
    CHECK(count_of(c, m) == 0);
    MUST(kwr_map_remove(m, conf_slice("x")));
    MUST(kwr_map_clear(m));
    kwr_slice key = { "x", 1 }, value = { "x", 1 };
    EXPECT(KWR_NOT_FOUND, kwr_map_first(m, &key, &value));
    CHECK(key.size == 0 && value.size == 0);
    EXPECT(KWR_NOT_FOUND, kwr_map_last(m, NULL, NULL));
    CHECK(strcmp(keys_of(c, m), "") == 0);
}

CONF_COLLECTION_TEST(map, put_adds_and_replaces) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "x", "1");
    put(c, m, "y", "2");
    CHECK(holds(m, "x", "1") && holds(m, "y", "2") && count_of(c, m) == 2);
    put(c, m, "x", "a longer value than before");
    CHECK(holds(m, "x", "a longer value than before") && count_of(c, m) == 2);
    MUST(kwr_map_remove(m, conf_slice("x")));
    CHECK(holds(m, "x", NULL) && holds(m, "y", "2") && count_of(c, m) == 1);
    MUST(kwr_map_clear(m));
    CHECK(holds(m, "y", NULL) && count_of(c, m) == 0);
}

CONF_COLLECTION_TEST(map, iterates_in_the_byte_order_of_user_keys) {
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_STRING);
    conf_set_key(c, "a");
    put(c, m, "b", "1");
    put(c, m, "", "2");
    put(c, m, "a", "3");
    put(c, m, "ab", "4");
    put(c, m, "B", "5");
    put(c, m, "aa", "6");
    CHECK(strcmp(keys_of(c, m), " B a aa ab b ") == 0);
    kwr_slice key, value;
    MUST(kwr_map_first(m, &key, &value));
    CHECK(key.size == 0 && is_text(value, "2"));
    MUST(kwr_map_last(m, &key, &value));
    CHECK(is_text(key, "b") && is_text(value, "1"));
}
