/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long random lives of collections against a naive copy: elements of all sizes written, changed and
 * removed in every order, collections that grow into trees, shrink back and are dropped, frozen
 * views that live meanwhile and restores from their images.
 */
#include "tests/pages/collection_test.h"

enum { VIEWS = 5 };

typedef enum subkeys {
    SUBKEY_NUMBERS, /* eight bytes, big-endian */
    SUBKEY_WORDS,   /* a common front, then digits, of any length */
    SUBKEY_LONG,    /* hundreds of equal bytes in front */
} subkeys;

typedef struct plan {
    store_options store;
    subkeys subkeys;
    uint32_t keys;  /* collections */
    uint32_t range; /* subkeys of one */
    uint32_t steps;
    uint32_t big; /* one value of so many is large; 0: none */
    size_t value_max;
    bool long_keys;
    bool lists;
} plan;

typedef struct life {
    const plan *plan;
    store *s;
    shelf *m;
    rng r;
    kwr_engine_view *views[VIEWS];
    shelf *frozen[VIEWS];
    passing passing[VIEWS];
    uint8_t key[6000], subkey[1000], value[40000];
    bool shrinking;
} life;

static kwr_address any_address(life *l) {
    const uint32_t i = rng_below(&l->r, l->plan->keys);
    const uint32_t state = i % l->s->states;
    if (kwr_state_is_per_group(l->s->kind)) {
        kwr_address at = store_address(l->s, state, text(""), text(""));
        at.key_group = i % l->s->config.max_parallelism;
        return at;
    }
    memset(l->key, 'k', sizeof l->key);
    const int digits = snprintf((char *)l->key, 16, "%u-", i);
    const size_t size = l->plan->long_keys && i % 2 == 0 ? 4500 : (size_t)digits;
    return store_address(l->s, state, (kwr_slice){ l->key, size },
                         i % 3 == 0 ? text("w") : text(""));
}

static kwr_slice any_subkey(life *l) {
    /* Sometimes close together, so that runs of neighbours come and go. */
    static uint32_t near;
    const uint32_t n =
        rng_below(&l->r, 4) == 0 ? near++ % l->plan->range : rng_below(&l->r, l->plan->range);
    near = n;
    switch (l->plan->subkeys) {
    case SUBKEY_NUMBERS: kwr_put_be64(l->subkey, n); return (kwr_slice){ l->subkey, 8 };
    case SUBKEY_WORDS: {
        const int size = snprintf((char *)l->subkey, 40, "word-%x", n * 2654435761U);
        return (kwr_slice){ l->subkey, n == 0 ? 0 : (size_t)size };
    }
    case SUBKEY_LONG:
        memset(l->subkey, 'x', sizeof l->subkey);
        kwr_put_be32(l->subkey + 600, n);
        return (kwr_slice){ l->subkey, 604 + n % 300 };
    }
    return (kwr_slice){ 0 };
}

static size_t any_size(life *l) {
    if (l->plan->big != 0 && rng_below(&l->r, l->plan->big) == 0)
        return 3000 + rng_below(&l->r, rng_below(&l->r, 2) == 0 ? 3000 : 20000);
    return rng_below(&l->r, (uint32_t)l->plan->value_max + 1);
}

static void modify(life *l, const kwr_address *at, collection *c) {
    const kwr_slice key = any_subkey(l);
    bool found;
    const size_t i = collection_find(c, key, &found);
    const bool keep = rng_below(&l->r, 3) == 0;
    size_t size = keep ? KWR_KEEP_SIZE : any_size(l), old = 5;
    void *out = NULL;
    KWR_MUST(l->s->ops->sub_modify(l->s->engine, at, key, size, &out, &old));
    const size_t before = found ? c->elements[i].value_size : 0;
    cr_assert(old == (found ? before : KWR_ABSENT));
    if (keep) size = before;
    const size_t kept = before < size ? before : size;
    if (kept > 0) cr_assert(memcmp(out, c->elements[i].value, kept) == 0);
    for (size_t k = kept; k < size; k++)
        cr_assert(((uint8_t *)out)[k] == 0);
    if (size > 0) memset(out, (int)rng_below(&l->r, 256), size);
    collection_put(c, key, out, size);
}

static void append(life *l, const kwr_address *at, collection *c) {
    kwr_slice values[40];
    const uint32_t count = rng_below(&l->r, rng_below(&l->r, 4) == 0 ? 40 : 3);
    uint64_t next = c->count == 0 ? 0 : kwr_get_be64(c->elements[c->count - 1].key) + 1;
    memset(l->value, (int)rng_below(&l->r, 256), sizeof l->value);
    for (uint32_t i = 0; i < count; i++)
        values[i] = (kwr_slice){ l->value + i, any_size(l) };
    if (count > 0 && rng_below(&l->r, 60) == 0) {
        KWR_MUST(l->s->ops->sub_assign(l->s->engine, at, values, count));
        collection_clear(c);
        next = 0;
    } else {
        KWR_MUST(l->s->ops->sub_append(l->s->engine, at, values, count));
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t number[8];
        kwr_put_be64(number, next++);
        collection_put(c, (kwr_slice){ number, 8 }, values[i].data, values[i].size);
    }
}

static void take_out(life *l, const kwr_address *at, collection *c) {
    bool found;
    kwr_slice key = any_subkey(l);
    uint32_t run = 1;
    if (c->count > 0 && rng_below(&l->r, 2) == 0) { /* one that is there, and those behind it */
        const element *x = &c->elements[rng_below(&l->r, (uint32_t)c->count)];
        key = (kwr_slice){ memcpy(l->subkey, x->key, x->key_size), x->key_size };
        run = 1 + rng_below(&l->r, 20);
    }
    size_t i = collection_find(c, key, &found);
    KWR_EXPECT(found ? KWR_OK : KWR_NOT_FOUND, l->s->ops->sub_remove(l->s->engine, at, key));
    if (found) collection_take_out(c, i);
    for (; run > 1 && i < c->count; run--) {
        const element *x = &c->elements[i];
        const kwr_slice next = { x->key, x->key_size };
        KWR_MUST(l->s->ops->sub_remove(l->s->engine, at, next));
        collection_take_out(c, i);
    }
}

static void seek(life *l, const kwr_address *at, const collection *c) {
    const kwr_slice from = any_subkey(l);
    const kwr_seek kind = (kwr_seek)(KWR_SEEK_AT_LEAST + rng_below(&l->r, 3));
    bool found;
    size_t i = collection_find(c, from, &found);
    if (kind == KWR_SEEK_ABOVE) i += found;
    if (kind == KWR_SEEK_BELOW) i--; /* wraps when there is none */
    kwr_slice key, value;
    const kwr_status status = l->s->ops->sub_seek(l->s->engine, at, kind, from, NULL, &key, &value);
    KWR_EXPECT(i < c->count ? KWR_OK : KWR_NOT_FOUND, status);
    if (i >= c->count) return;
    cr_assert(key.size == c->elements[i].key_size);
    cr_assert(key.size == 0 || memcmp(key.data, c->elements[i].key, key.size) == 0);
}

static void step(life *l) {
    kwr_address at = any_address(l);
    kwr_engine_hint hint = { 0 };
    if (rng_below(&l->r, 3) == 0) {
        at.hint = &hint;
        l->s->ops->prefetch(l->s->engine, &at, 1);
    }
    collection *c = shelf_at(l->m, &at);
    const uint32_t what = rng_below(&l->r, 100);
    if (rng_below(&l->r, 500) == 0) l->shrinking = !l->shrinking;
    if (rng_below(&l->r, 400) == 0) {
        KWR_EXPECT(c->count > 0 ? KWR_OK : KWR_NOT_FOUND, l->s->ops->remove(l->s->engine, &at));
        collection_clear(c);
    } else if (what < (l->shrinking ? 60u : 8u)) {
        take_out(l, &at, c);
    } else if (what < 70) {
        if (l->plan->lists && what % 4 > 0) {
            append(l, &at, c);
            return;
        }
        const kwr_slice key = any_subkey(l);
        const size_t size = any_size(l);
        memset(l->value, (int)rng_below(&l->r, 256), size);
        KWR_MUST(l->s->ops->sub_put(l->s->engine, &at, key, (kwr_slice){ l->value, size }));
        collection_put(c, key, l->value, size);
    } else if (what < 90) {
        modify(l, &at, c);
    } else {
        seek(l, &at, c);
    }
}

static void release(life *l, uint32_t v) {
    if (l->passing[v].begun) {
        images_pass(&l->passing[v], l->s, l->views[v], UINT32_MAX);
        shelf_expect_images(l->frozen[v], &l->passing[v].images);
        images_free(&l->passing[v].images);
        l->passing[v] = (passing){ 0 };
    } else {
        shelf_expect_view(l->frozen[v], l->s, l->views[v]);
    }
    l->s->ops->view_release(l->views[v]);
    shelf_free(l->frozen[v]);
    l->views[v] = NULL;
    l->frozen[v] = NULL;
}

static void freeze_or_release(life *l) {
    const uint32_t v = rng_below(&l->r, VIEWS);
    if (l->views[v] != NULL) {
        release(l, v);
        return;
    }
    KWR_MUST(l->s->ops->freeze(l->s->engine, &l->views[v]));
    l->frozen[v] = shelf_copy(l->m);
}

/* A part of one of the views is written, and let go. */
static void pass_some(life *l) {
    const uint32_t v = rng_below(&l->r, VIEWS);
    if (l->views[v] == NULL || (!l->passing[v].begun && rng_below(&l->r, 3) == 0)) return;
    images_pass(&l->passing[v], l->s, l->views[v], 1 + rng_below(&l->r, 2));
}

static void restore_elsewhere(life *l) {
    for (uint32_t v = 0; v < VIEWS; v++) {
        if (l->views[v] == NULL || l->passing[v].begun) continue;
        images im = { 0 };
        kwr_error err;
        images_take(&im, l->s, l->views[v]);
        images_shuffle(&im, &l->r);
        shelf_expect_images(l->frozen[v], &im);
        kwr_engine *second = store_second(l->s);
        KWR_MUST_ERR(images_install(&im, l->s, second, &err), err);
        store_check(second);
        shelf_expect(l->frozen[v], l->s, second);
        /* It can be written to like any other. */
        for (size_t i = 0; i < l->frozen[v]->count; i++) {
            const collection *c = &l->frozen[v]->items[i];
            const kwr_address at = collection_address(l->s, c);
            for (size_t k = 0; k < c->count; k += 3) {
                const kwr_slice key = { c->elements[k].key, c->elements[k].key_size };
                KWR_MUST(l->s->ops->sub_remove(second, &at, key));
            }
            KWR_MUST(l->s->ops->sub_put(second, &at, text("another"), text("value")));
        }
        store_check(second);
        l->s->ops->close(second);
        images_free(&im);
        return;
    }
}

/* Without a view memory is given back, a little at a time between writes. */
static void give_back(life *l) {
    for (uint32_t v = 0; v < VIEWS; v++)
        if (l->views[v] != NULL) release(l, v);
    while (l->s->ops->maintain(l->s->engine, 0)) {
        step(l);
        if (rng_below(&l->r, 50) == 0) store_check(l->s->engine);
    }
    shelf_expect(l->m, l->s, l->s->engine);
    store_check(l->s->engine);
}

static void live(const plan *p, uint64_t seed) {
    life *l = calloc(1, sizeof *l);
    const char *given = getenv("KWR_TEST_SEED");
    l->plan = p;
    l->r.x = given != NULL ? strtoull(given, NULL, 0) : seed;
    l->s = store_open(&p->store);
    l->s->engine->compaction.least_bytes = 0;
    l->m = shelf_new();
    for (uint32_t i = 0; i < p->steps; i++) {
        step(l);
        if (i % (p->steps / 60) == 0) freeze_or_release(l);
        if (i % (p->steps / 150) == 0) pass_some(l);
        if (i % (p->steps / 20) == 0) store_check(l->s->engine);
        if (i % (p->steps / 10) == 0) shelf_expect(l->m, l->s, l->s->engine);
        if (i % (p->steps / 5) == p->steps / 10) restore_elsewhere(l);
        if (i % 700 == 0) (void)l->s->ops->maintain(l->s->engine, 1000);
        if (i % (p->steps / 6) == 0) give_back(l);
    }
    shelf_expect(l->m, l->s, l->s->engine);
    for (uint32_t v = 0; v < VIEWS; v++)
        if (l->views[v] != NULL) release(l, v);
    while (l->s->ops->maintain(l->s->engine, 1000000)) {
    }
    store_check(l->s->engine);
    kwr_backend_stats stats = { 0 };
    l->s->ops->stats(l->s->engine, &stats);
    cr_assert(stats.frozen_bytes == 0);
    cr_assert(l->s->engine->shedding == NULL);
    shelf_free(l->m);
    store_close(l->s);
    free(l);
}

#define MAPS .kind = KWR_STATE_MAP

KWR_TEST(collections, hold_what_a_sorted_table_would_hold, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .states = 2 },
                  .keys = 8,
                  .range = 3000,
                  .steps = 60000,
                  .value_max = 60 },
         1);
}

KWR_TEST(collections, hold_many_small_maps, .timeout = 300) {
    live(&(plan){ .store = { MAPS },
                  .keys = 300,
                  .range = 60,
                  .steps = 40000,
                  .value_max = 30,
                  .subkeys = SUBKEY_WORDS },
         2);
}

KWR_TEST(collections, hold_one_map_of_many_elements, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .max_parallelism = 1 },
                  .keys = 1,
                  .range = 60000,
                  .steps = 120000,
                  .value_max = 10,
                  .subkeys = SUBKEY_WORDS },
         3);
}

KWR_TEST(collections, hold_large_values_among_small_ones, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .max_parallelism = 2 },
                  .keys = 4,
                  .range = 800,
                  .steps = 20000,
                  .value_max = 100,
                  .big = 7 },
         4);
}

KWR_TEST(collections, hold_subkeys_with_long_common_fronts, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .max_parallelism = 1 },
                  .keys = 2,
                  .range = 3000,
                  .steps = 30000,
                  .value_max = 20,
                  .subkeys = SUBKEY_LONG },
         5);
}

KWR_TEST(collections, hold_maps_of_long_keys, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .max_parallelism = 2 },
                  .keys = 10,
                  .range = 400,
                  .steps = 20000,
                  .value_max = 60,
                  .long_keys = true },
         6);
}

KWR_TEST(collections, hold_maps_whose_entry_hashes_are_all_equal, .timeout = 300) {
    live(&(plan){ .store = { MAPS, .max_parallelism = 1, .hash_mask_off = ~0ULL },
                  .keys = 60,
                  .range = 300,
                  .steps = 20000,
                  .value_max = 40 },
         7);
}

KWR_TEST(collections, hold_lists, .timeout = 300) {
    live(&(plan){ .store = { .kind = KWR_STATE_LIST },
                  .keys = 6,
                  .range = 4000,
                  .steps = 30000,
                  .value_max = 40,
                  .lists = true },
         8);
}

KWR_TEST(collections, hold_lists_of_large_values, .timeout = 300) {
    live(&(plan){ .store = { .kind = KWR_STATE_LIST, .max_parallelism = 2 },
                  .keys = 6,
                  .range = 200,
                  .steps = 6000,
                  .value_max = 500,
                  .big = 10,
                  .lists = true },
         9);
}

KWR_TEST(collections, hold_one_map_for_each_key_group, .timeout = 300) {
    live(&(plan){ .store = { .kind = KWR_STATE_TIMER, .max_parallelism = 16 },
                  .keys = 16,
                  .range = 2000,
                  .steps = 40000,
                  .value_max = 0,
                  .subkeys = SUBKEY_NUMBERS },
         10);
}

/* ---- one thing at a time ---- */

static kwr_address one(const store *s) { return store_address(s, 0, text("key"), text("ns")); }

static void put_number(const store *s, const kwr_address *at, uint64_t n, size_t size) {
    static const uint8_t value[9000];
    uint8_t key[8];
    kwr_put_be64(key, n);
    KWR_MUST(s->ops->sub_put(s->engine, at, (kwr_slice){ key, 8 }, (kwr_slice){ value, size }));
}

static kwr_tree_head head_of(const store *s, const kwr_address *at) {
    kwr_slice value;
    KWR_MUST(s->ops->get(s->engine, at, &value));
    cr_assert(kwr_collection_is_tree(value.data), "it is inline");
    return kwr_tree_head_at(value.data);
}

KWR_TEST(collection, of_elements_that_come_in_order_fills_its_leaves) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s);
    for (uint64_t i = 0; i < 50000; i++)
        put_number(s, &at, i, 8);
    const kwr_tree_head head = head_of(s, &at);
    const uint64_t bytes = head.count * (2 + 16 + KWR_TREE_SLOT);
    cr_assert(head.leaves < bytes / KWR_TREE_BYTES * 104 / 100 + 2, "%u leaves", head.leaves);
    store_check(s->engine);
    store_close(s);
}

KWR_TEST(collection, that_loses_its_elements_goes_back_into_its_record_and_then_away) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s);
    for (uint64_t i = 0; i < 20000; i++)
        put_number(s, &at, i * 7919 % 20000, 8);
    kwr_backend_stats full = { 0 }, now = { 0 };
    s->ops->stats(s->engine, &full);
    for (uint64_t i = 0; i < 20000; i++) {
        uint8_t key[8];
        kwr_put_be64(key, i * 104729 % 20000);
        KWR_MUST(s->ops->sub_remove(s->engine, &at, (kwr_slice){ key, 8 }));
        if (i == 18000) {
            s->ops->stats(s->engine, &now);
            cr_assert(now.used_bytes < full.used_bytes / 3, "nothing was given back");
        }
        if (i % 997 == 0) store_check(s->engine);
    }
    kwr_slice value;
    KWR_EXPECT(KWR_NOT_FOUND, s->ops->get(s->engine, &at, &value));
    while (s->ops->maintain(s->engine, 1000000)) {
    }
    store_check(s->engine);
    s->ops->stats(s->engine, &now);
    cr_assert(now.entries == 0 && now.entry_bytes == 0);
    store_close(s);
}

KWR_TEST(collection, that_is_dropped_is_freed_bit_by_bit) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s);
    for (uint64_t i = 0; i < 100000; i++)
        put_number(s, &at, i, 8);
    kwr_backend_stats before = { 0 }, after = { 0 };
    s->ops->stats(s->engine, &before);
    KWR_MUST(s->ops->remove(s->engine, &at));
    s->ops->stats(s->engine, &after);
    cr_assert(before.pages - after.pages < 20, "%llu pages freed in one call",
              (unsigned long long)(before.pages - after.pages));
    store_check(s->engine);
    /* Other calls go on with it. */
    const kwr_address other = store_address(s, 0, text("other"), text(""));
    for (uint64_t i = 0; i < 20; i++)
        put_number(s, &other, i, 8);
    store_check(s->engine);
    while (s->ops->maintain(s->engine, 0)) {
    }
    s->ops->stats(s->engine, &after);
    cr_assert(after.pages < 10);
    store_check(s->engine);
    store_close(s);
}

/* Parts of one tree that views of different ages see, dropped with all of them alive. */
KWR_TEST(collection, that_is_dropped_stays_for_each_view_that_sees_part_of_it) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s);
    shelf *m = shelf_new();
    kwr_engine_view *views[6];
    shelf *frozen[6];
    rng r = { 3 };
    for (uint32_t v = 0; v < 6; v++) {
        for (uint32_t i = 0; i < 3000; i++) {
            uint8_t key[8];
            kwr_put_be64(key, v < 3 ? v * 3000 + i : rng_below(&r, 9000));
            KWR_MUST(s->ops->sub_put(s->engine, &at, (kwr_slice){ key, 8 },
                                     (kwr_slice){ &i, sizeof i }));
            collection_put(shelf_at(m, &at), (kwr_slice){ key, 8 }, &i, sizeof i);
        }
        KWR_MUST(s->ops->freeze(s->engine, &views[v]));
        frozen[v] = shelf_copy(m);
    }
    put_number(s, &at, 99999, 8);
    KWR_MUST(s->ops->remove(s->engine, &at));
    static const uint8_t order[6] = { 4, 1, 5, 0, 3, 2 };
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t k = i; k < 6; k++)
            shelf_expect_view(frozen[order[k]], s, views[order[k]]);
        s->ops->view_release(views[order[i]]);
        while (s->ops->maintain(s->engine, 1000000)) {
        }
        store_check(s->engine);
        shelf_free(frozen[order[i]]);
    }
    kwr_backend_stats stats = { 0 };
    s->ops->stats(s->engine, &stats);
    cr_assert(stats.frozen_bytes == 0 && stats.pages < 4, "%llu pages are left",
              (unsigned long long)stats.pages);
    shelf_free(m);
    store_close(s);
}

KWR_TEST(collection, append_touches_only_what_it_adds) {
    store *s = store_open(&(store_options){ .kind = KWR_STATE_LIST });
    const kwr_address at = one(s);
    const kwr_slice value = text("a value of a list");
    for (unsigned i = 0; i < 100000; i++)
        KWR_MUST(s->ops->sub_append(s->engine, &at, &value, 1));
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(s->engine, &view));
    kwr_backend_stats before = { 0 }, after = { 0 };
    s->ops->stats(s->engine, &before);
    for (unsigned i = 0; i < 100; i++)
        KWR_MUST(s->ops->sub_append(s->engine, &at, &value, 1));
    s->ops->stats(s->engine, &after);
    cr_assert(after.copies - before.copies < 10);
    cr_assert(after.frozen_bytes < 64 << 10);
    s->ops->view_release(view);
    store_close(s);
}

KWR_TEST(collection, numbers_go_on_above_the_last_element_and_end) {
    store *s = store_open(&(store_options){ .kind = KWR_STATE_LIST });
    const kwr_address at = one(s);
    uint8_t key[8];
    const kwr_slice values[2] = { text("a"), text("b") };
    KWR_MUST(s->ops->sub_append(s->engine, &at, values, 2));
    kwr_put_be64(key, 1);
    KWR_MUST(s->ops->sub_remove(s->engine, &at, (kwr_slice){ key, 8 }));
    kwr_put_be64(key, 0);
    KWR_MUST(s->ops->sub_append(s->engine, &at, values, 2));
    KWR_MUST(s->ops->sub_remove(s->engine, &at, (kwr_slice){ key, 8 }));
    kwr_slice first;
    KWR_MUST(
        s->ops->sub_seek(s->engine, &at, KWR_SEEK_FIRST, first = text(""), NULL, &first, NULL));
    cr_assert(kwr_get_be64(first.data) == 1);
    kwr_put_be64(key, UINT64_MAX - 1);
    KWR_MUST(s->ops->sub_put(s->engine, &at, (kwr_slice){ key, 8 }, text("late")));
    KWR_EXPECT(KWR_ERR_RANGE, s->ops->sub_append(s->engine, &at, values, 2));
    KWR_MUST(s->ops->sub_append(s->engine, &at, values, 1));
    KWR_EXPECT(KWR_ERR_RANGE, s->ops->sub_append(s->engine, &at, values, 1));
    store_check(s->engine);
    store_close(s);
}

KWR_TEST(collection, refuses_elements_beyond_the_limits) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s);
    void *out = NULL;
    size_t old = 3;
    KWR_EXPECT(KWR_ERR_RANGE, s->ops->sub_modify(s->engine, &at, text("k"),
                                                 s->limits.value_bytes_max + 1, &out, &old));
    uint8_t *key = calloc(1, s->limits.key_bytes_max * 2);
    KWR_EXPECT(KWR_ERR_RANGE,
               s->ops->sub_modify(s->engine, &at, (kwr_slice){ key, s->limits.key_bytes_max * 2 },
                                  KWR_KEEP_SIZE, &out, &old));
    cr_assert(out == NULL && old == 3);
    uint64_t count = 1;
    KWR_MUST(s->ops->sub_count(s->engine, &at, &count));
    cr_assert(count == 0);
    free(key);
    store_close(s);
}

KWR_TEST(collection, steps_are_cheap_and_survive_changes) {
    store *s = store_open(&(store_options){ MAPS });
    const kwr_address at = one(s), other = store_address(s, 0, text("other"), text(""));
    for (uint64_t i = 0; i < 5000; i++) {
        put_number(s, &at, i, 8);
        put_number(s, &other, i * 2, 8);
    }
    kwr_engine_hint hint = { 0 };
    kwr_slice key = text("");
    kwr_status status = s->ops->sub_seek(s->engine, &at, KWR_SEEK_FIRST, key, &hint, &key, NULL);
    for (uint64_t i = 0; i < 5000; i++) {
        KWR_MUST(status);
        uint8_t from[8];
        memcpy(from, key.data, 8);
        cr_assert(kwr_get_be64(from) == i);
        if (i % 3 == 0) KWR_MUST(s->ops->sub_remove(s->engine, &at, (kwr_slice){ from, 8 }));
        if (i % 5 == 1) put_number(s, &at, i, 2000); /* this one is replaced */
        status = s->ops->sub_seek(s->engine, &at, KWR_SEEK_ABOVE, (kwr_slice){ from, 8 }, &hint,
                                  &key, NULL);
    }
    KWR_EXPECT(KWR_NOT_FOUND, status);
    /* A hint of one collection says nothing about another. */
    uint8_t from[8];
    kwr_put_be64(from, 100);
    KWR_MUST(s->ops->sub_seek(s->engine, &at, KWR_SEEK_AT_LEAST, (kwr_slice){ from, 8 }, &hint,
                              &key, NULL));
    KWR_MUST(s->ops->sub_seek(s->engine, &other, KWR_SEEK_ABOVE, (kwr_slice){ from, 8 }, &hint,
                              &key, NULL));
    cr_assert(kwr_get_be64(key.data) == 102);
    store_close(s);
}
