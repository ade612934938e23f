/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of collections as they come from storage: damaged, cut short, missing, doubled, mixed up
 * and from several writers. They restore exactly, or are refused with a reason.
 */
#include "tests/pages/collection_test.h"

static const store_options maps = { .kind = KWR_STATE_MAP, .max_parallelism = 1 };

static void fill(store *s, shelf *m, const char *key, uint32_t first, uint32_t count, size_t size) {
    static uint8_t value[9000];
    const kwr_address at = store_address(s, 0, text(key), text("w"));
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t subkey[8];
        kwr_put_be64(subkey, i);
        memset(value, (int)i, size);
        KWR_MUST(
            s->ops->sub_put(s->engine, &at, (kwr_slice){ subkey, 8 }, (kwr_slice){ value, size }));
        if (m != NULL) collection_put(shelf_at(m, &at), (kwr_slice){ subkey, 8 }, value, size);
    }
}

static void add_images(images *im, store *s) {
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(s->engine, &view));
    images_take(im, s, view);
    s->ops->view_release(view);
}

static size_t find_kind(const images *im, kwr_page_kind kind, size_t from) {
    while (im->items[from].kind != kind)
        from++;
    return from;
}

static kwr_status count_elements(void *ctx, const kwr_entry *entry) {
    (void)entry;
    ++*(uint64_t *)ctx;
    return KWR_OK;
}

/* All images into a fresh engine: taken and sound, or refused with words. */
static kwr_status try_images(store *s, const images *im) {
    kwr_engine *e = store_second(s);
    kwr_error err = { .status = KWR_OK };
    const kwr_status status = images_install(im, s, e, &err);
    if (status == KWR_OK)
        store_check(e);
    else
        cr_assert((status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT) && err.status == status &&
                      strlen(err.text) > 10,
                  "%s: %s", kwr_status_name(status), err.text);
    s->ops->close(e);
    for (size_t i = 0; i < im->count; i++) {
        uint64_t walked = 0;
        const kwr_status walk = kwr_page_image_walk(&im->items[i], count_elements, &walked, &err);
        cr_assert(walk == KWR_OK || walk == KWR_ERR_CORRUPT || walk == KWR_ERR_FORMAT);
        cr_assert(status != KWR_OK || walk == KWR_OK);
    }
    return status;
}

static void expect_refused(store *s, const images *im) {
    cr_assert(try_images(s, im) == KWR_ERR_CORRUPT, "it was taken");
}

/* Every byte of one image changed in three ways and every length; how many were taken. */
static unsigned damage(store *s, images *im, size_t which) {
    const kwr_page_image good = im->items[which];
    unsigned taken = 0;
    uint8_t *bytes = malloc(good.size);
    for (size_t i = 0; i < good.size; i++) {
        for (unsigned k = 0; k < 3; k++) {
            memcpy(bytes, good.bytes, good.size);
            bytes[i] ^= (uint8_t[]){ 0xff, 0x01, 0x80 }[k];
            im->items[which].bytes = bytes;
            taken += try_images(s, im) == KWR_OK;
        }
    }
    for (size_t size = 0; size < good.size; size++) {
        /* A block of exactly this size: reading beyond it is seen. */
        uint8_t *cut = malloc(size == 0 ? 1 : size);
        memcpy(cut, good.bytes, size);
        im->items[which].bytes = cut;
        im->items[which].size = size;
        cr_assert(try_images(s, im) != KWR_OK);
        free(cut);
    }
    free(bytes);
    im->items[which] = good;
    return taken;
}

KWR_TEST(collection_restore, refuses_a_leaf_with_any_byte_changed_but_in_elements, .timeout = 300) {
    store *s = store_open(&maps);
    images im = { 0 };
    fill(s, NULL, "key", 0, 3, 600);
    add_images(&im, s);
    cr_assert(im.count == 2);
    const size_t leaf = find_kind(&im, KWR_PAGE_TREE, 0);
    cr_assert(im.items[leaf].entries == 0);
    /* Values may change, and the ends of subkeys when they stay in order: what is left is for the
     * digest of the image. */
    const unsigned taken = damage(s, &im, leaf);
    cr_assert(taken >= 3 * 600 * 3 && taken < 3 * 600 * 3 + 3 * 3 * 8, "%u were taken", taken);
    images_free(&im);
    store_close(s);
}

KWR_TEST(collection_restore, refuses_damage_to_records_of_collections, .timeout = 300) {
    store *s = store_open(&maps);
    images im = { 0 };
    fill(s, NULL, "tree", 0, 3, 1100); /* at once: no dead bytes are left */
    fill(s, NULL, "small", 0, 3, 4);
    add_images(&im, s);
    const unsigned taken = damage(s, &im, find_kind(&im, KWR_PAGE_HASH, 0));
    /* Three values of four bytes, in three ways; an overflow count that says it is stuck. */
    cr_assert(taken >= 3 * 4 * 3 && taken < 3 * 4 * 3 + 3 * 3 * 8, "%u were taken", taken);
    images_free(&im);
    store_close(s);
}

KWR_TEST(collection_restore, refuses_leaves_that_are_missing_doubled_or_of_others) {
    store *s = store_open(&maps);
    images im = { 0 };
    fill(s, NULL, "one", 0, 2000, 20);
    fill(s, NULL, "two", 5000, 2000, 20);
    add_images(&im, s);
    kwr_page_image items[64];
    cr_assert(im.count > 6 && im.count < 60);
    const size_t leaf = find_kind(&im, KWR_PAGE_TREE, 0);
    for (size_t i = 0; i < im.count; i++) { /* each one missing */
        memcpy(items, im.items, im.count * sizeof *items);
        items[i] = items[im.count - 1];
        expect_refused(s, &(images){ .items = items, .count = im.count - 1 });
    }
    memcpy(items, im.items, im.count * sizeof *items);
    items[im.count] = items[leaf];
    expect_refused(s, &(images){ .items = items, .count = im.count + 1 });
    items[leaf] = items[im.count - 1]; /* one twice, another not at all */
    expect_refused(s, &(images){ .items = items, .count = im.count });
    /* A leaf that says it is of the other key. */
    memcpy(items, im.items, im.count * sizeof *items);
    uint8_t *bytes = malloc(items[leaf].size);
    memcpy(bytes, items[leaf].bytes, items[leaf].size);
    memcpy(bytes + items[leaf].size - 4, bytes[items[leaf].size - 4] == 'o' ? "two" : "one", 3);
    items[leaf].bytes = bytes;
    expect_refused(s, &(images){ .items = items, .count = im.count });
    memcpy(bytes + items[leaf].size - 4, "xyz", 3);
    expect_refused(s, &(images){ .items = items, .count = im.count });
    free(bytes);
    /* Where an index entry says something else. */
    memcpy(items, im.items, im.count * sizeof *items);
    items[leaf].page_id++;
    expect_refused(s, &(images){ .items = items, .count = im.count });
    memcpy(items, im.items, im.count * sizeof *items);
    items[leaf].entries = 1;
    expect_refused(s, &(images){ .items = items, .count = im.count });
    memcpy(items, im.items, im.count * sizeof *items);
    items[leaf].key_group = 1;
    expect_refused(s, &(images){ .items = items, .count = im.count });
    cr_assert(try_images(s, &im) == KWR_OK);
    images_free(&im);
    store_close(s);
}

KWR_TEST(collection_restore, refuses_collections_for_values_and_values_for_collections) {
    store *s = store_open(&maps);
    store *t = store_open(&(store_options){ .max_parallelism = 1 });
    images of_maps = { 0 }, of_values = { 0 };
    fill(s, NULL, "one", 0, 200, 20);
    add_images(&of_maps, s);
    static uint8_t value[6000];
    for (unsigned i = 0; i < 2; i++) {
        const kwr_address at = store_address(t, 0, i == 0 ? text("a") : text("b"), text(""));
        KWR_MUST(t->ops->put(t->engine, &at, (kwr_slice){ value, i == 0 ? 10 : sizeof value }));
    }
    add_images(&of_values, t);
    for (size_t i = 0; i < of_maps.count; i++)
        expect_refused(t, &(images){ .items = &of_maps.items[i], .count = 1 });
    for (size_t i = 0; i < of_values.count; i++)
        expect_refused(s, &(images){ .items = &of_values.items[i], .count = 1 });
    images_free(&of_maps);
    images_free(&of_values);
    store_close(s);
    store_close(t);
}

/* A key so long that the record is an image of its own. */
KWR_TEST(collection_restore, refuses_damage_to_large_records, .timeout = 300) {
    store *s = store_open(&maps);
    char key[4300];
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    images im = { 0 };
    fill(s, NULL, key, 0, 2, 8);
    add_images(&im, s);
    cr_assert(im.count == 2);
    const size_t record = find_kind(&im, KWR_PAGE_TREE, 0);
    cr_assert(im.items[record].entries == 1);
    /* Beside values: the ends of the subkeys. */
    const unsigned taken = damage(s, &im, record);
    cr_assert(taken >= 2 * 8 * 3 && taken < 2 * 8 * 3 + 2 * 3 * 8 + 60, "%u were taken", taken);
    images_free(&im);
    store_close(s);
}

KWR_TEST(collection_restore, survives_random_damage, .timeout = 300) {
    store *s = store_open(&maps);
    images im = { 0 };
    fill(s, NULL, "key", 0, 900, 12);
    fill(s, NULL, "large", 0, 5, 4500);
    fill(s, NULL, "small", 0, 5, 4);
    add_images(&im, s);
    rng r = { 6 };
    for (unsigned i = 0; i < 4000; i++) {
        const size_t which = rng_below(&r, (uint32_t)im.count);
        const kwr_page_image good = im.items[which];
        uint8_t *bytes = malloc(good.size);
        memcpy(bytes, good.bytes, good.size);
        const uint32_t where = i % 2 == 0 ? (uint32_t)good.size : 300;
        for (uint32_t n = 1 + rng_below(&r, 8); n > 0; n--)
            bytes[rng_below(&r, where < good.size ? where : (uint32_t)good.size)] =
                (uint8_t)rng_below(&r, 256);
        im.items[which].bytes = bytes;
        (void)try_images(s, &im);
        im.items[which] = good;
        free(bytes);
    }
    images_free(&im);
    store_close(s);
}

/* Two writers gave their pages the same ids; each had half of the key groups. */
KWR_TEST(collection_restore, takes_images_of_several_writers) {
    store_options half = { .kind = KWR_STATE_MAP, .max_parallelism = 8, .key_groups = { 0, 4 } };
    store *low = store_open(&half);
    half.key_groups = (kwr_key_group_range){ 4, 4 };
    store *high = store_open(&half);
    store *whole = store_open(&(store_options){ .kind = KWR_STATE_MAP, .max_parallelism = 8 });
    shelf *m = shelf_new();
    images im = { 0 };
    for (unsigned i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%u", i);
        const kwr_address at = store_address(whole, 0, text(key), text("w"));
        fill(at.key_group < 4 ? low : high, m, key, 0, 10 + i * 20, i % 7 == 0 ? 700 : 20);
    }
    add_images(&im, low);
    const size_t of_low = im.count;
    add_images(&im, high);
    bool overlap = false;
    for (size_t i = 0; i < of_low; i++)
        for (size_t k = of_low; k < im.count; k++)
            overlap |= im.items[i].page_id == im.items[k].page_id;
    cr_assert(overlap);
    rng r = { 9 };
    images_shuffle(&im, &r);
    kwr_error err;
    kwr_engine *e = store_second(whole);
    KWR_MUST_ERR(images_install(&im, whole, e, &err), err);
    shelf_expect(m, whole, e);
    store_check(e);
    whole->ops->close(e);
    images_free(&im);
    shelf_free(m);
    store_close(low);
    store_close(high);
    store_close(whole);
}

KWR_TEST(collection_restore, keeps_full_leaves_and_their_order) {
    store *s = store_open(&maps);
    shelf *m = shelf_new();
    fill(s, m, "key", 0, 60000, 4);
    images im = { 0 };
    add_images(&im, s);
    rng r = { 10 };
    images_shuffle(&im, &r);
    kwr_engine *e = store_second(s), *first = s->engine;
    kwr_error err;
    KWR_MUST_ERR(images_install(&im, s, e, &err), err);
    store_check(e);
    shelf_expect(m, s, e);
    s->engine = e;
    fill(s, m, "key", 30000, 60000, 6); /* others, longer ones, and more */
    store_check(e);
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(e, &view));
    shelf_expect_view(m, s, view);
    s->ops->view_release(view);
    s->engine = first;
    s->ops->close(e);
    images_free(&im);
    shelf_free(m);
    store_close(s);
}
