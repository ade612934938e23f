/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images as they come from storage: whole ones restore exactly, damaged ones are refused with a
 * reason or change nothing but a value, and no bytes whatever crash.
 */
#include "tests/pages/pages_test.h"

static void fill(store *s, model *m, unsigned keys, size_t value_size) {
    static uint8_t value[20000];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < keys; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        const kwr_address at = store_address(s, 0, text(key), i % 3 == 0 ? text("w") : text(""));
        KWR_MUST(s->ops->put(s->engine, &at, (kwr_slice){ value, value_size }));
        if (m != NULL) model_put(m, &at, value, value_size);
    }
}

static images images_of(store *s) {
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(s->engine, &view));
    images im = { 0 };
    images_take(&im, s, view);
    s->ops->view_release(view);
    return im;
}

static kwr_status count_entries(void *ctx, const kwr_entry *entry) {
    cr_assert(entry->key.size > 0);
    ++*(uint64_t *)ctx;
    return KWR_OK;
}

/* Installs one image into a fresh engine; when it is taken, everything in it must be consistent. */
static kwr_status try_image(store *s, const kwr_page_image *image) {
    kwr_engine *e = store_second(s);
    kwr_error err = { .status = KWR_OK };
    const images one = { .items = (kwr_page_image *)image, .count = 1 };
    const kwr_status status = images_install(&one, s, e, &err);
    if (status == KWR_OK)
        store_check(e);
    else {
        cr_assert(status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT, "%s",
                  kwr_status_name(status));
        cr_assert(err.status == status && strlen(err.text) > 10);
    }
    s->ops->close(e);
    uint64_t walked = 0;
    const kwr_status walk = kwr_page_image_walk(image, count_entries, &walked, &err);
    cr_assert(walk == KWR_OK || walk == KWR_ERR_CORRUPT || walk == KWR_ERR_FORMAT);
    cr_assert(status != KWR_OK || (walk == KWR_OK && walked == image->entries));
    return status;
}

/* Every byte changed in three ways, every length; how many changes were taken for good. */
static unsigned damage(store *s, const kwr_page_image *good) {
    unsigned taken = 0;
    uint8_t *bytes = malloc(good->size);
    kwr_page_image bad = *good;
    bad.bytes = bytes;
    for (size_t i = 0; i < good->size; i++) {
        for (unsigned k = 0; k < 3; k++) {
            memcpy(bytes, good->bytes, good->size);
            bytes[i] ^= (uint8_t[]){ 0xff, 0x01, 0x80 }[k];
            taken += try_image(s, &bad) == KWR_OK;
        }
    }
    for (size_t size = 0; size < good->size; size++) {
        /* A block of exactly this size: reading beyond it is seen. */
        uint8_t *cut = malloc(size == 0 ? 1 : size);
        memcpy(cut, good->bytes, size);
        bad.bytes = cut;
        bad.size = size;
        cr_assert(try_image(s, &bad) != KWR_OK);
        free(cut);
    }
    free(bytes);
    return taken;
}

KWR_TEST(restore, refuses_a_page_with_any_byte_changed_but_in_values, .timeout = 120) {
    store *s = store_open(&(store_options){ .max_parallelism = 1 });
    fill(s, NULL, 6, 10);
    images im = images_of(s);
    cr_assert(im.count == 1 && im.items[0].entries == 6);
    const unsigned taken = damage(s, &im.items[0]);
    /* Beside values: an overflow count that says it is stuck, and now and then a changed key whose
     * hash fits its slot (1 in 256). For those there is the digest of the image. */
    cr_assert(taken >= 6 * 10 * 3 && taken <= 6 * 10 * 3 + 4, "%u were not noticed", taken);
    kwr_page_image other = im.items[0];
    other.key_group = 1;
    cr_assert(try_image(s, &other) == KWR_ERR_CORRUPT);
    other = im.items[0];
    other.state = 1;
    cr_assert(try_image(s, &other) == KWR_ERR_CORRUPT);
    other = im.items[0];
    other.entries = 5;
    cr_assert(try_image(s, &other) == KWR_ERR_CORRUPT);
    other.kind = KWR_PAGE_TREE;
    cr_assert(try_image(s, &other) == KWR_ERR_CORRUPT);
    other.kind = KWR_PAGE_DELTA;
    cr_assert(try_image(s, &other) == KWR_ERR_FORMAT);
    images_free(&im);
    store_close(s);
}

KWR_TEST(restore, refuses_keys_of_another_key_group) {
    store *s = store_open(&(store_options){ .max_parallelism = 2 });
    fill(s, NULL, 30, 10);
    images im = images_of(s);
    cr_assert(im.count == 2);
    im.items[0].key_group ^= 1;
    cr_assert(try_image(s, &im.items[0]) == KWR_ERR_CORRUPT);
    /* A host with groups of its own is not second-guessed. */
    s->config.engine_key_groups = true;
    cr_assert(try_image(s, &im.items[0]) == KWR_OK);
    images_free(&im);
    store_close(s);
}

KWR_TEST(restore, survives_random_damage_to_a_full_page, .timeout = 120) {
    store *s = store_open(&(store_options){ .max_parallelism = 1 });
    fill(s, NULL, 200, 40);
    images im = images_of(s);
    rng r = { 5 };
    uint8_t *bytes = malloc(KWR_PAGE_BYTES_MAX);
    for (unsigned i = 0; i < 3000; i++) {
        kwr_page_image bad = im.items[rng_below(&r, (uint32_t)im.count)];
        memcpy(bytes, bad.bytes, bad.size);
        bad.bytes = bytes;
        const uint32_t where = i % 2 == 0 ? (uint32_t)bad.size : 1024;
        for (uint32_t n = 1 + rng_below(&r, 8); n > 0; n--)
            bytes[rng_below(&r, where)] = (uint8_t)rng_below(&r, 256);
        (void)try_image(s, &bad);
    }
    free(bytes);
    images_free(&im);
    store_close(s);
}

static size_t find_kind(const images *im, kwr_page_kind kind, size_t from) {
    while (im->items[from].kind != kind)
        from++;
    return from;
}

static void expect_refused(store *s, const images *im) {
    kwr_engine *e = store_second(s);
    kwr_error err = { .status = KWR_OK };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, images_install(im, s, e, &err), err);
    cr_assert(strlen(err.text) > 10);
    s->ops->close(e);
}

KWR_TEST(restore, refuses_blobs_that_are_missing_doubled_or_unused) {
    store *s = store_open(&(store_options){ .max_parallelism = 1 });
    fill(s, NULL, 3, 5000);
    images im = images_of(s);
    cr_assert(im.count == 4);
    const size_t page = find_kind(&im, KWR_PAGE_HASH, 0);
    const size_t blob = find_kind(&im, KWR_PAGE_BLOB, 0);
    kwr_page_image items[8];
    memcpy(items, im.items, sizeof items[0] * 4);
    images some = { .items = items, .count = 4 };
    items[4] = items[blob];
    some.count = 5;
    expect_refused(s, &some);
    items[4] = items[page];
    expect_refused(s, &some);
    some.count = 4;
    items[blob] = items[3]; /* twice the last, not the first */
    expect_refused(s, &some);
    memcpy(items, im.items, sizeof items[0] * 4);
    items[page] = items[0] = im.items[blob == 0 ? 1 : blob];
    some.count = 1;
    expect_refused(s, &some);
    /* A blob under another's id is not its slot's entry. */
    memcpy(items, im.items, sizeof items[0] * 4);
    const size_t next = find_kind(&im, KWR_PAGE_BLOB, blob + 1);
    items[blob].page_id = im.items[next].page_id;
    items[next].page_id = im.items[blob].page_id;
    some.count = 4;
    expect_refused(s, &some);
    /* Damage to a blob. */
    uint8_t *bytes = malloc(im.items[blob].size);
    for (size_t i = 0; i < 8; i++) {
        memcpy(bytes, im.items[blob].bytes, im.items[blob].size);
        bytes[i] ^= 0x11;
        memcpy(items, im.items, sizeof items[0] * 4);
        items[blob].bytes = bytes;
        if (i < 6) expect_refused(s, &some);
    }
    free(bytes);
    images_free(&im);
    store_close(s);
}

KWR_TEST(restore, refuses_pages_that_claim_the_same_entries) {
    store *s = store_open(&(store_options){ .max_parallelism = 1 });
    fill(s, NULL, 400, 100);
    images im = images_of(s);
    store *t = store_open(&(store_options){ .max_parallelism = 1 });
    fill(t, NULL, 5, 10);
    images whole = images_of(t);
    cr_assert(im.count > 2 && whole.count == 1);
    kwr_page_image items[2] = { im.items[1], whole.items[0] };
    images both = { .items = items, .count = 2 };
    expect_refused(s, &both);
    items[0] = whole.items[0];
    items[1] = im.items[1];
    expect_refused(s, &both);
    items[0] = im.items[1];
    expect_refused(s, &both);
    images_free(&im);
    images_free(&whole);
    store_close(s);
    store_close(t);
}

KWR_TEST(restore, refuses_a_key_on_two_pages_of_a_chain) {
    store *s = store_open(&(store_options){ .max_parallelism = 1, .hash_mask_off = ~0ULL });
    fill(s, NULL, 60, 900);
    images im = images_of(s);
    cr_assert(im.count > 2);
    kwr_page_image items[2] = { im.items[0], im.items[0] };
    images twice = { .items = items, .count = 2 };
    expect_refused(s, &twice);
    images_free(&im);
    store_close(s);
}

KWR_TEST(restore, is_refused_where_there_are_entries_and_outside_a_restore) {
    store *s = store_open(NULL);
    kwr_error err;
    fill(s, NULL, 3, 10);
    images im = images_of(s);
    KWR_EXPECT(KWR_ERR_MISUSE, s->ops->restore_begin(s->engine, TEST_SEED));
    KWR_EXPECT(KWR_ERR_MISUSE, s->ops->install(s->engine, &im.items[0], &err));
    KWR_EXPECT(KWR_ERR_MISUSE, s->ops->restore_end(s->engine, &err));
    images_free(&im);
    store_close(s);
}

KWR_TEST(restore, can_be_written_to_and_frozen_again) {
    store *s = store_open(&(store_options){ .max_parallelism = 4 });
    model *m = model_new();
    fill(s, m, 2000, 100);
    fill(s, m, 10, 9000);
    images im = images_of(s);
    kwr_engine *second = store_second(s), *first = s->engine;
    kwr_error err;
    KWR_MUST_ERR(images_install(&im, s, second, &err), err);
    images_free(&im);
    s->engine = second;
    fill(s, m, 3000, 120);
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(second, &view));
    model_expect_view(m, s, view);
    s->ops->view_release(view);
    model_expect(m, s, second);
    store_check(second);
    s->engine = first;
    s->ops->close(second);
    model_free(m);
    store_close(s);
}
