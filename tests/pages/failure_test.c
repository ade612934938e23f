/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is refused, at every place once: the call says so, nothing has changed, and the store
 * goes on.
 */
#include "tests/pages/pages_test.h"

/* Writes that split, grow, copy, promote, chain and merge. Calls that fail are left out of the
 * model. Returns how many failed. */
static unsigned scenario(store *s, model *m, uint64_t seed, uint32_t keys, uint32_t steps) {
    rng r = { seed };
    static uint8_t value[6000];
    kwr_engine_view *view = NULL;
    unsigned failures = 0;
    for (uint32_t i = 0; i < steps; i++) {
        char key[32];
        const int size = snprintf(key, sizeof key, "key-%u", rng_below(&r, keys));
        const kwr_address at = store_address(s, 0, (kwr_slice){ key, (size_t)size }, text("ns"));
        const uint32_t what = rng_below(&r, 10);
        const size_t length = what == 0 ? 5000 : what == 1 ? rng_below(&r, 3000) : 100;
        memset(value, (int)i, length);
        kwr_status status;
        if (what < 6) {
            status = s->ops->put(s->engine, &at, (kwr_slice){ value, length });
            if (status == KWR_OK) model_put(m, &at, value, length);
        } else if (what < 8) {
            void *out;
            size_t old;
            status = s->ops->modify(s->engine, &at, length, &out, &old);
            if (status == KWR_OK) {
                memset(out, (int)i, length);
                model_put(m, &at, out, length);
            }
        } else {
            status = s->ops->remove(s->engine, &at);
            if (status == KWR_OK) model_remove(m, &at);
        }
        cr_assert(status >= KWR_OK || status == KWR_ERR_NOMEM);
        if (status == KWR_ERR_NOMEM) {
            failures++;
            store_check(s->engine);
        }
        if (i % 50 != 49) continue;
        s->ops->view_release(view);
        view = NULL;
        status = s->ops->freeze(s->engine, &view);
        cr_assert(status == KWR_OK || status == KWR_ERR_NOMEM);
    }
    s->ops->view_release(view);
    return failures;
}

static void every_block_fails_once(const store_options *options, uint32_t keys, uint32_t steps,
                                   uint64_t stride) {
    unsigned failed = 0;
    for (uint64_t n = 1;; n += stride) {
        store *s = store_open(options);
        model *m = model_new();
        s->engine->arena.fail_in = n;
        failed += scenario(s, m, 11, keys, steps);
        const bool fired = s->engine->arena.fail_in == 0;
        s->engine->arena.fail_in = 0;
        model_expect(m, s, s->engine);
        store_check(s->engine);
        model_free(m);
        store_close(s);
        if (!fired) break;
    }
    cr_assert(failed > 10);
}

KWR_TEST(failure, of_any_block_changes_nothing, .timeout = 300) {
    every_block_fails_once(&(store_options){ .max_parallelism = 2 }, 120, 600, 1);
}

KWR_TEST(failure, of_any_block_of_a_chain_changes_nothing, .timeout = 300) {
    every_block_fails_once(&(store_options){ .max_parallelism = 1, .hash_mask_off = ~0ULL }, 60,
                           200, 1);
}

/* The allocator below the pool, as the whole library sees it: opening and restoring too. */
KWR_TEST(failure, of_any_allocation_changes_nothing, .timeout = 300) {
    for (uint64_t n = 0;; n++) {
        store *s = store_open(&(store_options){ .max_parallelism = 2 });
        model *m = model_new();
        fault_env_fail_alloc(s->faults, n, FAULT_ONCE);
        (void)scenario(s, m, 12, 60, 150);
        kwr_engine_view *view = NULL;
        kwr_engine *second = NULL;
        kwr_error err;
        kwr_status status = s->ops->freeze(s->engine, &view);
        if (status == KWR_OK) status = s->ops->open(&s->config, &second, &err);
        for (uint32_t id = 0; id < 300 && status == KWR_OK; id++) {
            const kwr_state_info info = { .id = id, .kind = KWR_STATE_VALUE, .name = "state" };
            status = s->ops->add_state(second, &info);
        }
        const bool before = fault_env_fired(s->faults) > 0;
        if (status == KWR_OK && !before) {
            fault_env_clear(s->faults);
            images im = { 0 };
            images_take(&im, s, view);
            fault_env_fail_alloc(s->faults, n % 16, FAULT_ONCE);
            status = images_install(&im, s, second, &err);
            images_free(&im);
        }
        const bool fired = fault_env_fired(s->faults) > 0;
        cr_assert(status == KWR_OK || (status == KWR_ERR_NOMEM && fired));
        fault_env_clear(s->faults);
        if (status == KWR_OK && !before) model_expect(m, s, second);
        s->ops->close(second);
        s->ops->view_release(view);
        model_expect(m, s, s->engine);
        store_check(s->engine);
        model_free(m);
        store_close(s);
        if (!fired) break;
    }
}

KWR_TEST(failure, at_the_memory_cap_leaves_a_usable_store) {
    store *s = store_open(&(store_options){ .memory_bytes_max = 8 << 20 });
    model *m = model_new();
    static const uint8_t value[500];
    kwr_status status = KWR_OK;
    for (unsigned i = 0; status == KWR_OK; i++) {
        const kwr_address at =
            store_address(s, 0, (kwr_slice){ &i, sizeof i }, (kwr_slice){ NULL, 0 });
        status = s->ops->put(s->engine, &at, (kwr_slice){ value, sizeof value });
        if (status == KWR_OK) model_put(m, &at, value, sizeof value);
        cr_assert(i < 100000, "the cap does not hold");
    }
    cr_assert(status == KWR_ERR_NOMEM);
    uint64_t peak = 0;
    cr_assert(kwr_resources_mapped(s->resources, &peak) <= 8 << 20);
    cr_assert(peak <= 8 << 20);
    kwr_backend_stats stats = { 0 };
    s->ops->stats(s->engine, &stats);
    cr_assert(stats.mapped_bytes <= 8 << 20);
    cr_assert(stats.used_bytes <= stats.mapped_bytes);
    model_expect(m, s, s->engine);
    store_check(s->engine);
    /* What is removed can be used again. */
    for (unsigned i = 0; i < 2000; i++) {
        const kwr_address at =
            store_address(s, 0, (kwr_slice){ &i, sizeof i }, (kwr_slice){ NULL, 0 });
        KWR_MUST(s->ops->remove(s->engine, &at));
        model_remove(m, &at);
    }
    unsigned again = 0;
    for (unsigned i = 0; i < 1000; i++) {
        const kwr_address at =
            store_address(s, 0, (kwr_slice){ &i, sizeof i }, (kwr_slice){ NULL, 0 });
        status = s->ops->put(s->engine, &at, (kwr_slice){ value, sizeof value });
        cr_assert(status == KWR_OK || status == KWR_ERR_NOMEM);
        if (status != KWR_OK) continue;
        model_put(m, &at, value, sizeof value);
        again++;
    }
    /* Not each: a page that shrank meanwhile may need a block of a size that is used up. */
    cr_assert(again > 800, "only %u of 1000 fit again", again);
    model_expect(m, s, s->engine);
    model_free(m);
    store_close(s);
}

KWR_TEST(failure, is_reported_for_too_many_views_and_too_large_entries) {
    store *s = store_open(&(store_options){ .views_max = 2 });
    kwr_engine_view *a, *b, *c = NULL;
    KWR_MUST(s->ops->freeze(s->engine, &a));
    KWR_MUST(s->ops->freeze(s->engine, &b));
    KWR_EXPECT(KWR_ERR_BUSY, s->ops->freeze(s->engine, &c));
    cr_assert(c == NULL);
    s->ops->view_release(a);
    KWR_MUST(s->ops->freeze(s->engine, &c));
    s->ops->view_release(b);
    s->ops->view_release(c);
    const kwr_address at = store_address(s, 0, text("key"), text(""));
    void *out;
    size_t old;
    KWR_EXPECT(KWR_ERR_RANGE,
               s->ops->modify(s->engine, &at, s->limits.value_bytes_max + 1, &out, &old));
    kwr_address foreign = at;
    foreign.key_group = 99;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_store_remove(s->engine, &foreign, 0));
    kwr_address lying = at;
    lying.entry_hash++;
    KWR_EXPECT(KWR_ERR_MISUSE, s->ops->put(s->engine, &lying, text("value")));
    store_close(s);
}
