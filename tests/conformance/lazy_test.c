/* SPDX-License-Identifier: Apache-2.0 */
/* What is special when a restored backend is loaded by the accesses that need it; on engines that
 * load at once the same calls simply succeed. */
#include "tests/conformance/conformance.h"

enum { ENTRIES = 400 };

static void open_all(conf *c, kwr_value **value, kwr_map **map, kwr_list **list) {
    *value = conf_value(c, "value", KWR_TYPE_BYTES);
    *map = conf_map(c, "map", KWR_TYPE_BYTES, KWR_TYPE_BYTES);
    *list = conf_list(c, "list", KWR_TYPE_BYTES);
}

static const char *key_text(int i, char out[24]) {
    snprintf(out, 24, "key %d", i);
    return out;
}

/* Values, some of them blobs; a map and a list that need pages of their own. */
static void fill(conf *c) {
    static char large[6000];
    kwr_value *value;
    kwr_map *map;
    kwr_list *list;
    char text[24];
    memset(large, 'x', sizeof large - 1);
    open_all(c, &value, &map, &list);
    for (int i = 0; i < ENTRIES; i++) {
        conf_set_key(c, key_text(i, text));
        conf_put(c, value, i % 50 == 3 ? large : text);
    }
    conf_set_key(c, "large");
    for (int i = 0; i < ENTRIES; i++) {
        MUST(kwr_map_put(map, conf_slice(key_text(i, text)), conf_slice("0123456789012345678901")));
        MUST(kwr_list_add(list, conf_slice("element of some length")));
    }
}

/* One round of accesses, none of which writes: the first failure. */
static kwr_status read_round(conf *c, kwr_value *value, kwr_map *map, kwr_list *list) {
    char text[24];
    for (int i = 0; i < ENTRIES; i += 7) {
        kwr_slice got = { 0 };
        kwr_status status = kwr_backend_set_key(c->backend, conf_slice(key_text(i, text)));
        if (status == KWR_OK) status = kwr_value_get(value, &got);
        if (status < KWR_OK) return status;
        CHECK(status == KWR_OK && (i % 50 == 3 ? got.size == 5999 : conf_is(got, text)));
    }
    kwr_slice got = { 0 };
    uint64_t size = 0;
    kwr_status status = kwr_backend_set_key(c->backend, conf_slice("large"));
    if (status == KWR_OK) status = kwr_map_get(map, conf_slice("key 17"), &got);
    if (status < KWR_OK) return status;
    CHECK(status == KWR_OK && got.size == 22);
    status = kwr_list_count(list, &size);
    if (status < KWR_OK) return status;
    CHECK(size == ENTRIES);
    return KWR_OK;
}

CONF_COLLECTION_RESTORE_TEST(lazy, a_load_without_memory_fails_its_access_and_nothing_else,
                             .timeout = 120) {
    kwr_value *value;
    kwr_map *map;
    kwr_list *list;
    conf_open(c);
    fill(c);
    if (!c->engine->lazy) return;
    bool failed = false;
    for (int64_t allowed = 0;; allowed += 1 + allowed / 64) {
        conf_restart(c);
        open_all(c, &value, &map, &list);
        kwr_backend_stats before = { .struct_size = sizeof before };
        kwr_backend_get_stats(c->backend, &before);
        conf_fail_alloc(c, allowed);
        const kwr_status status = read_round(c, value, map, list);
        conf_fail_alloc(c, -1);
        if (status == KWR_OK) break;
        CHECK(status == KWR_ERR_NOMEM);
        failed = true;
        kwr_backend_stats after = { .struct_size = sizeof after };
        kwr_backend_get_stats(c->backend, &after);
        CHECK(after.entries == before.entries && after.entry_bytes == before.entry_bytes);
        /* The same accesses again. */
        MUST(read_round(c, value, map, list));
    }
    CHECK(failed);
    MUST(kwr_backend_load(c->backend));
    CHECK(conf_entries(c) == ENTRIES + 2);
}

CONF_COLLECTION_RESTORE_TEST(lazy, everything_is_met_by_a_view_without_being_loaded) {
    kwr_value *value;
    kwr_map *map;
    kwr_list *list;
    conf_open(c);
    fill(c);
    conf_restart(c);
    open_all(c, &value, &map, &list);
    conf_set_key(c, "key 1");
    conf_put(c, value, "another");
    CHECK(conf_entries(c) == ENTRIES + 2);
    kwr_view *view = NULL;
    MUST(kwr_backend_freeze(c->backend, &view));
    conf_put(c, value, "later");
    CHECK(conf_view_holds(c, view, "value", "key 1", "", "another"));
    CHECK(conf_view_holds(c, view, "value", "key 2", "", "key 2"));
    MUST(kwr_backend_load(c->backend));
    CHECK(conf_view_holds(c, view, "value", "key 4", "", "key 4"));
    kwr_view_release(view);
    MUST(read_round(c, value, map, list));
}
