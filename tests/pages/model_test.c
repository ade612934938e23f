/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long random life of the page store against a naive copy: writes of all sizes, removals, freezes
 * and releases in any order, restores from images in any order. All invariants are checked on the
 * way. KWR_TEST_SEED sets the seed.
 */
#include "tests/pages/pages_test.h"

enum { VIEWS = 6, AHEAD = 40 };

typedef struct life {
    store *s;
    model *m;
    rng r;
    uint32_t keys;
    uint32_t value_max;
    kwr_engine_view *views[VIEWS];
    model *frozen[VIEWS];
    passing passing[VIEWS];
    uint8_t value[40000];
    /* addresses fetched together and used later, whatever happens in between */
    kwr_address ahead[AHEAD];
    kwr_engine_hint hints[AHEAD];
    char ahead_keys[AHEAD][256], ahead_names[AHEAD][256];
    unsigned left;
} life;

static kwr_address any_address(life *l, char *key, char *name) {
    const uint32_t i = rng_below(&l->r, l->keys);
    /* Keys on both sides of 127 bytes, namespaces empty, short and long. */
    const int key_size = i % 97 == 0 ? 150 + (int)(i % 50) : 1 + (int)(i % 40);
    memset(key, 'a' + (int)(i % 26), 256);
    const int digits = snprintf(key, 16, "%u", i);
    key[digits] = '-';
    const uint32_t n = rng_below(&l->r, 4);
    const size_t name_size = n == 0 ? 0 : n == 3 ? 140 : n * 5;
    memset(name, 'A' + (int)n, 256);
    return store_address(l->s, rng_below(&l->r, l->s->states),
                         (kwr_slice){ key, (size_t)digits + 1 + (size_t)key_size },
                         (kwr_slice){ name, name_size });
}

static size_t any_size(life *l) {
    switch (rng_below(&l->r, 12)) {
    case 0: return 0;
    case 1: return rng_below(&l->r, l->value_max + 1);
    case 2: return rng_below(&l->r, 4300);
    default: return 8 + rng_below(&l->r, 3) * 46;
    }
}

static void fetch_ahead(life *l) {
    l->left = 1 + rng_below(&l->r, AHEAD);
    for (unsigned i = 0; i < l->left; i++) {
        l->ahead[i] = any_address(l, l->ahead_keys[i], l->ahead_names[i]);
        l->ahead[i].hint = rng_below(&l->r, 4) == 0 ? NULL : &l->hints[i];
    }
    l->s->ops->prefetch(l->s->engine, l->ahead, l->left);
}

static void write_some(life *l) {
    if (l->left == 0) fetch_ahead(l);
    const kwr_address at = l->ahead[--l->left];
    model_entry *e = model_at(l->m, &at);
    const size_t old = e->present ? e->value_size : KWR_ABSENT;
    const size_t size = any_size(l);
    switch (rng_below(&l->r, 10)) {
    case 0:
    case 1:
    case 2:
        KWR_EXPECT(e->present ? KWR_OK : KWR_NOT_FOUND, l->s->ops->remove(l->s->engine, &at));
        model_remove(l->m, &at);
        break;
    case 3: { /* keep the size */
        void *out;
        size_t old_size;
        KWR_MUST(l->s->ops->modify(l->s->engine, &at, KWR_KEEP_SIZE, &out, &old_size));
        cr_assert(old_size == old);
        const size_t kept = old == KWR_ABSENT ? 0 : old;
        if (kept > 0) memset(out, (int)rng_below(&l->r, 256), kept);
        model_put(l->m, &at, out, kept);
        break;
    }
    case 4:
    case 5: { /* grow or shrink, check what is kept and zeroed */
        void *out;
        size_t old_size;
        KWR_MUST(l->s->ops->modify(l->s->engine, &at, size, &out, &old_size));
        cr_assert(old_size == old);
        const size_t kept = old == KWR_ABSENT ? 0 : old < size ? old : size;
        if (kept > 0) cr_assert(memcmp(out, e->bytes + e->key_size + e->name_size, kept) == 0);
        for (size_t i = kept; i < size; i++)
            cr_assert(((uint8_t *)out)[i] == 0);
        if (size > 0) memset(out, (int)rng_below(&l->r, 256), size);
        model_put(l->m, &at, out, size);
        break;
    }
    default:
        memset(l->value, (int)rng_below(&l->r, 256), size);
        KWR_MUST(l->s->ops->put(l->s->engine, &at, (kwr_slice){ l->value, size }));
        model_put(l->m, &at, l->value, size);
    }
}

/* Images that were taken one key group after the other are of one moment. */
static void expect_images(life *l, images *im, model *m) {
    kwr_engine *second = store_second(l->s);
    kwr_error err;
    images_shuffle(im, &l->r);
    KWR_MUST_ERR(images_install(im, l->s, second, &err), err);
    model_expect(m, l->s, second);
    store_check(second);
    l->s->ops->close(second);
}

static void release(life *l, uint32_t v) {
    if (l->passing[v].begun) {
        images_pass(&l->passing[v], l->s, l->views[v], UINT32_MAX);
        expect_images(l, &l->passing[v].images, l->frozen[v]);
        images_free(&l->passing[v].images);
        l->passing[v] = (passing){ 0 };
    } else {
        model_expect_view(l->frozen[v], l->s, l->views[v]);
    }
    l->s->ops->view_release(l->views[v]);
    model_free(l->frozen[v]);
    l->views[v] = NULL;
    l->frozen[v] = NULL;
}

static void freeze_or_release(life *l) {
    const uint32_t v = rng_below(&l->r, VIEWS);
    if (l->views[v] == NULL) {
        KWR_MUST(l->s->ops->freeze(l->s->engine, &l->views[v]));
        l->frozen[v] = model_copy(l->m);
        return;
    }
    if (!l->passing[v].begun) model_expect_view(l->frozen[v], l->s, l->views[v]);
    if (rng_below(&l->r, 3) > 0) release(l, v);
}

/* A part of one of the views is written, and let go. */
static void pass_some(life *l) {
    const uint32_t v = rng_below(&l->r, VIEWS);
    const uint32_t groups = l->s->config.key_groups.count;
    if (l->views[v] == NULL || (!l->passing[v].begun && rng_below(&l->r, 3) == 0)) return;
    images_pass(&l->passing[v], l->s, l->views[v], 1 + rng_below(&l->r, 1 + groups / 8));
}

static void restore_elsewhere(life *l) {
    for (uint32_t v = 0; v < VIEWS; v++) {
        if (l->views[v] == NULL || l->passing[v].begun) continue;
        images im = { 0 };
        images_take(&im, l->s, l->views[v]);
        expect_images(l, &im, l->frozen[v]);
        images_free(&im);
        return;
    }
}

/* Without a view memory is given back, a little at a time between writes. */
static void give_back(life *l) {
    for (uint32_t v = 0; v < VIEWS; v++)
        if (l->views[v] != NULL) release(l, v);
    while (l->s->ops->maintain(l->s->engine, 0)) {
        write_some(l);
        if (rng_below(&l->r, 50) == 0) store_check(l->s->engine);
    }
    model_expect(l->m, l->s, l->s->engine);
    store_check(l->s->engine);
}

static void live(const store_options *options, uint64_t seed, uint32_t keys, uint32_t value_max,
                 uint32_t steps) {
    life *l = calloc(1, sizeof *l);
    const char *given = getenv("KWR_TEST_SEED");
    l->r.x = given != NULL ? strtoull(given, NULL, 0) : seed;
    l->s = store_open(options);
    l->s->engine->compaction.least_bytes = 0;
    l->m = model_new();
    l->keys = keys;
    l->value_max = value_max;
    for (uint32_t i = 0; i < steps; i++) {
        write_some(l);
        if (i % (steps / 40) == 0) freeze_or_release(l);
        if (i % (steps / 100) == 0) pass_some(l);
        if (i % (steps / 10) == 0) {
            store_check(l->s->engine);
            model_expect(l->m, l->s, l->s->engine);
        }
        if (i % (steps / 4) == steps / 8) restore_elsewhere(l);
        if (i % 1000 == 0) (void)l->s->ops->maintain(l->s->engine, 1000);
        if (i % (steps / 6) == 0) give_back(l);
    }
    for (uint32_t v = 0; v < VIEWS; v++)
        if (l->views[v] != NULL) release(l, v);
    while (l->s->ops->maintain(l->s->engine, 1000000)) {
    }
    store_check(l->s->engine);
    kwr_backend_stats stats = { 0 };
    l->s->ops->stats(l->s->engine, &stats);
    cr_assert(stats.frozen_bytes == 0);
    cr_assert(stats.views == 0);
    model_free(l->m);
    store_close(l->s);
    free(l);
}

KWR_TEST(model, holds_what_a_table_would_hold, .timeout = 300) {
    live(&(store_options){ .states = 3 }, 1, 3000, 9000, 60000);
}

KWR_TEST(model, holds_small_values_of_many_keys, .timeout = 300) {
    live(&(store_options){ .max_parallelism = 2 }, 2, 20000, 200, 120000);
}

KWR_TEST(model, holds_entries_whose_hashes_are_all_equal, .timeout = 300) {
    live(&(store_options){ .max_parallelism = 1, .hash_mask_off = ~0ULL }, 3, 300, 9000, 12000);
}

KWR_TEST(model, holds_entries_of_one_and_four_hash_bits, .timeout = 300) {
    live(&(store_options){ .max_parallelism = 2, .hash_mask_off = ~1ULL }, 4, 400, 6000, 12000);
    live(&(store_options){ .max_parallelism = 2, .hash_mask_off = ~0xfULL }, 5, 400, 6000, 12000);
}

KWR_TEST(model, splits_pages_whose_hashes_share_most_bits, .timeout = 300) {
    live(&(store_options){ .max_parallelism = 1, .hash_mask_off = 0xfffffffff0000000ULL }, 6, 2000,
         3000, 30000);
    live(&(store_options){ .max_parallelism = 1, .hash_mask_off = 0xffff00ffffffffffULL }, 7, 2000,
         3000, 30000);
}

KWR_TEST(model, holds_many_states, .timeout = 300) {
    live(&(store_options){ .states = 700 }, 8, 30, 5000, 40000);
}

KWR_TEST(model, holds_32768_key_groups, .timeout = 300) {
    live(&(store_options){ .max_parallelism = 32768, .states = 2 }, 9, 5000, 3000, 20000);
}

static uint64_t frozen_bytes(const store *s) {
    kwr_backend_stats stats = { 0 };
    s->ops->stats(s->engine, &stats);
    return stats.frozen_bytes;
}

static void write_all(store *s, unsigned round) {
    for (unsigned i = 0; i < 2000; i++) {
        char key[16], value[60] = { 0 };
        snprintf(key, sizeof key, "%u", i);
        value[0] = (char)round;
        const kwr_address at = store_address(s, 0, text(key), text(""));
        KWR_MUST(s->ops->put(s->engine, &at, (kwr_slice){ value, sizeof value }));
    }
}

/* Of two views the one that still reads a key group is who keeps it. */
KWR_TEST(passing, pages_are_copied_for_views_that_still_read_them) {
    store *s = store_open(&(store_options){ .max_parallelism = 4 });
    kwr_engine_view *older, *newer, *newest;
    write_all(s, 1);
    KWR_MUST(s->ops->freeze(s->engine, &older));
    write_all(s, 2);
    KWR_MUST(s->ops->freeze(s->engine, &newer));
    const uint64_t before = frozen_bytes(s);
    for (uint32_t g = 0; g < 4; g++)
        s->ops->view_pass(newer, g);
    write_all(s, 3);
    /* The way to the groups is shared by all of them. */
    cr_assert(frozen_bytes(s) - before < before / 10);
    KWR_MUST(s->ops->freeze(s->engine, &newest));
    write_all(s, 4);
    cr_assert(frozen_bytes(s) - before > before / 2);
    store_check(s->engine);
    s->ops->view_release(newest);
    s->ops->view_release(newer);
    s->ops->view_release(older);
    while (s->ops->maintain(s->engine, 1000000)) {
    }
    store_check(s->engine);
    store_close(s);
}

/* A view that cannot note what it has passed just keeps it. */
KWR_TEST(passing, without_memory_all_is_kept) {
    store *s = store_open(&(store_options){ .max_parallelism = 4 });
    kwr_engine_view *view;
    images im = { 0 };
    write_all(s, 1);
    KWR_MUST(s->ops->freeze(s->engine, &view));
    fault_env_fail_alloc(s->faults, 0, FAULT_ALWAYS);
    for (uint32_t g = 0; g < 4; g++)
        s->ops->view_pass(view, g);
    cr_assert(fault_env_fired(s->faults) > 0);
    fault_env_clear(s->faults);
    const uint64_t pages = s->engine->arena.used_bytes;
    write_all(s, 2);
    cr_assert(frozen_bytes(s) > pages / 2);
    images_take(&im, s, view);
    cr_assert(im.count > 0);
    images_free(&im);
    store_check(s->engine);
    s->ops->view_release(view);
    store_close(s);
}
