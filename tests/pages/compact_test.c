/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that copies for a view took is given back by an idle owner: what is there stays as it is,
 * increments do not see it, and it can be interrupted by views, writes and refused memory.
 */
#include "tests/pages/pages_test.h"

enum { KEYS = 90000, BLOBS = 40 };

static kwr_address address_of(const store *s, unsigned i, char name[16]) {
    snprintf(name, 16, "%u", i);
    return store_address(s, 0, text(name), text(""));
}

static void put(store *s, model *m, unsigned i, unsigned round) {
    static uint8_t value[9000];
    char name[16];
    const kwr_address at = address_of(s, i, name);
    const size_t size = i < BLOBS ? 6000 + i : 80;
    memset(value, (int)(i + round), size);
    KWR_MUST(s->ops->put(s->engine, &at, (kwr_slice){ value, size }));
    if (m != NULL) model_put(m, &at, value, size);
}

static kwr_backend_stats stats_of(const store *s) {
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    s->ops->stats(s->engine, &stats);
    return stats;
}

/* Every third page was copied for a view that is gone. */
static void spread(store *s, model *m, unsigned round) {
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(s->engine, &view));
    for (unsigned i = 0; i < KEYS; i++)
        if (i % 2 == 0) put(s, m, i, round);
    s->ops->view_release(view);
    while (kwr_store_drain(s->engine, 64)) {
    }
}

static void idle(store *s) {
    while (s->ops->maintain(s->engine, 1000)) {
    }
}

static store *filled(model *m) {
    store *s = store_open(NULL);
    for (unsigned i = 0; i < KEYS; i++)
        put(s, m, i, 1);
    return s;
}

static kwr_status newest(void *ctx, const kwr_page_image *image, bool *wanted) {
    uint64_t *epoch = ctx;
    if (image->epoch > *epoch) *epoch = image->epoch;
    *wanted = false;
    return KWR_OK;
}
static kwr_status no_image(void *ctx, const kwr_page_image *image) {
    (void)ctx, (void)image;
    return KWR_ERR_MISUSE;
}

/* The last epoch anything was changed in. */
static uint64_t last_change(store *s) {
    kwr_engine_view *view;
    uint64_t epoch = 0;
    kwr_page_sink sink = { .ctx = &epoch, .page = newest, .image = no_image };
    KWR_MUST(s->ops->freeze(s->engine, &view));
    for (uint32_t g = 0; g < s->config.key_groups.count; g++)
        KWR_MUST(s->ops->view_images(view, s->config.key_groups.first + g, &sink));
    s->ops->view_release(view);
    return epoch;
}

KWR_TEST(compact, memory_of_copies_is_given_back) {
    model *m = model_new();
    store *s = filled(m);
    spread(s, m, 2);
    const uint64_t changed = last_change(s);
    while (kwr_store_drain(s->engine, 64)) {
    }
    const kwr_backend_stats before = stats_of(s);
    cr_assert(before.mapped_bytes > before.used_bytes * 3 / 2, "nothing to give back");
    idle(s);
    const kwr_backend_stats after = stats_of(s);
    store_check(s->engine);
    cr_assert(after.used_bytes == before.used_bytes && after.pages == before.pages);
    cr_assert(after.mapped_bytes < after.used_bytes * 4 / 3,
              "%llu bytes mapped for %llu, %llu before", (unsigned long long)after.mapped_bytes,
              (unsigned long long)after.used_bytes, (unsigned long long)before.mapped_bytes);
    model_expect(m, s, s->engine);
    /* A checkpoint would not write what only moved. */
    cr_assert(last_change(s) == changed);
    model_free(m);
    store_close(s);
}

KWR_TEST(compact, views_and_writes_may_come_in_between) {
    model *m = model_new();
    store *s = filled(m);
    rng r = { 3 };
    for (unsigned round = 2; round < 6; round++) {
        spread(s, m, round);
        kwr_engine_view *view = NULL;
        model *frozen = NULL;
        for (unsigned i = 0; s->ops->maintain(s->engine, 0) || i < 200; i++) {
            put(s, m, rng_below(&r, KEYS), round + i);
            if (i % 40 == 7 && view == NULL) {
                frozen = model_copy(m);
                KWR_MUST(s->ops->freeze(s->engine, &view));
            } else if (i % 40 == 21 && view != NULL) {
                model_expect_view(frozen, s, view);
                s->ops->view_release(view);
                model_free(frozen);
                view = NULL;
            }
        }
        if (view != NULL) {
            s->ops->view_release(view);
            model_free(frozen);
        }
        store_check(s->engine);
    }
    idle(s);
    store_check(s->engine);
    model_expect(m, s, s->engine);
    model_free(m);
    store_close(s);
}

KWR_TEST(compact, refused_memory_ends_it) {
    model *m = model_new();
    store *s = filled(m);
    for (uint64_t n = 1; n < 3000; n = n * 2 + 1) {
        spread(s, m, (unsigned)n);
        s->engine->arena.fail_in = n;
        idle(s);
        s->engine->arena.fail_in = 0;
        cr_assert(s->engine->arena.leaving == 0);
        store_check(s->engine);
    }
    model_expect(m, s, s->engine);
    model_free(m);
    store_close(s);
}

/* A walk over elements goes on where it was, though the pages are elsewhere. */
KWR_TEST(compact, a_walk_goes_on) {
    enum { ELEMENTS = 60000 };
    store *s = store_open(&(store_options){ .kind = KWR_STATE_MAP });
    const kwr_address at = store_address(s, 0, text("key"), text(""));
    const uint8_t value[100] = { 0 };
    kwr_engine_view *view;
    char name[16];
    for (unsigned round = 0; round < 2; round++) {
        if (round == 1) KWR_MUST(s->ops->freeze(s->engine, &view));
        for (unsigned i = 0; i < ELEMENTS; i++) {
            snprintf(name, sizeof name, "%08u", i);
            KWR_MUST(s->ops->sub_put(s->engine, &at, text(name), (kwr_slice){ value, 90 + round }));
        }
    }
    s->ops->view_release(view);
    while (kwr_store_drain(s->engine, 64)) {
    }
    s->engine->compaction.least_bytes = 0;
    kwr_engine_hint hint = { 0 };
    kwr_slice key, got;
    unsigned met = 0, moved = 0;
    kwr_seek seek = KWR_SEEK_FIRST;
    char last[16] = "";
    while (s->ops->sub_seek(s->engine, &at, seek, text(last), &hint, &key, &got) == KWR_OK) {
        snprintf(name, sizeof name, "%08u", met++);
        cr_assert(key.size == 8 && memcmp(key.data, name, 8) == 0 && got.size == 91);
        snprintf(last, sizeof last, "%s", name);
        seek = KWR_SEEK_ABOVE;
        if (met % 1000 != 500) continue;
        kwr_engine_hint now = { 0 };
        (void)s->ops->maintain(s->engine, 0);
        KWR_MUST(s->ops->sub_seek(s->engine, &at, KWR_SEEK_AT_LEAST, text(last), &now, NULL, NULL));
        if (now.page == hint.page) continue;
        moved++;
        cr_assert(now.stamp != hint.stamp, "a walk goes on in memory that was given back");
    }
    cr_assert(moved > 0, "nothing moved");
    cr_assert(met == ELEMENTS);
    store_check(s->engine);
    store_close(s);
}
