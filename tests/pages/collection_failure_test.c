/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory refused under collections, at every place once: the call says so, no element has changed,
 * and the store goes on.
 */
#include "tests/pages/collection_test.h"

enum { STEPS = 260 };

static uint8_t value[20000];

typedef struct scene {
    store *s;
    shelf *m;
    rng r;
    uint32_t keys;
    bool lists;
    unsigned failures;
} scene;

static kwr_status put_one(scene *x, const kwr_address *at, collection *c, size_t size) {
    uint8_t key[8];
    kwr_put_be64(key, rng_below(&x->r, 900));
    const kwr_slice subkey = { key, 8 };
    const kwr_status status =
        x->s->ops->sub_put(x->s->engine, at, subkey, (kwr_slice){ value, size });
    if (status == KWR_OK) collection_put(c, subkey, value, size);
    return status;
}

static kwr_status modify_one(scene *x, const kwr_address *at, collection *c, size_t size) {
    uint8_t key[8];
    kwr_put_be64(key, rng_below(&x->r, 900));
    void *out;
    size_t old;
    const kwr_slice subkey = { key, 8 };
    const kwr_status status = x->s->ops->sub_modify(x->s->engine, at, subkey, size, &out, &old);
    if (status == KWR_OK) {
        memset(out, (int)size, size);
        collection_put(c, subkey, out, size);
    }
    return status;
}

static kwr_status append_some(scene *x, const kwr_address *at, collection *c, size_t size,
                              bool assign) {
    kwr_slice values[60];
    const uint32_t count = 1 + rng_below(&x->r, 60);
    for (uint32_t i = 0; i < count; i++)
        values[i] = (kwr_slice){ value + i, i == 3 ? size : 30 };
    uint64_t next = assign || c->count == 0 ? 0 : kwr_get_be64(c->elements[c->count - 1].key) + 1;
    const kwr_status status = assign ? x->s->ops->sub_assign(x->s->engine, at, values, count)
                                     : x->s->ops->sub_append(x->s->engine, at, values, count);
    if (status != KWR_OK) return status;
    if (assign) collection_clear(c);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t number[8];
        kwr_put_be64(number, next++);
        collection_put(c, (kwr_slice){ number, 8 }, values[i].data, values[i].size);
    }
    return KWR_OK;
}

static kwr_status remove_some(scene *x, const kwr_address *at, collection *c) {
    if (c->count == 0) return KWR_OK;
    size_t i = rng_below(&x->r, (uint32_t)c->count);
    for (uint32_t left = 1 + rng_below(&x->r, 40); left > 0 && i < c->count; left--) {
        const kwr_slice key = { c->elements[i].key, c->elements[i].key_size };
        KWR_TRY(x->s->ops->sub_remove(x->s->engine, at, key));
        collection_take_out(c, i);
    }
    return KWR_OK;
}

static kwr_status act(scene *x) {
    char key[16];
    const int digits = snprintf(key, sizeof key, "%u", rng_below(&x->r, x->keys));
    const kwr_address at = store_address(x->s, 0, (kwr_slice){ key, (size_t)digits }, text("ns"));
    collection *c = shelf_at(x->m, &at);
    const uint32_t what = rng_below(&x->r, 20);
    const size_t size = what % 7 == 0 ? 6000 : rng_below(&x->r, 200);
    if (what < 8) {
        if (x->lists) return append_some(x, &at, c, size, what == 0);
        kwr_status status = KWR_OK;
        for (unsigned i = 0; i < 20 && status == KWR_OK; i++)
            status = put_one(x, &at, c, i == 9 ? size : 40);
        return status;
    }
    if (what < 12) return modify_one(x, &at, c, size);
    if (what < 19) return remove_some(x, &at, c);
    const kwr_status status = x->s->ops->remove(x->s->engine, &at);
    if (status == KWR_OK) collection_clear(c);
    return status == KWR_NOT_FOUND ? KWR_OK : status;
}

/* Grows, splits, promotes, copies for views, merges, demotes and drops. Calls that fail are left
 * out of the model, which then still holds. */
static void play(scene *x, uint32_t steps) {
    kwr_engine_view *view = NULL;
    for (uint32_t i = 0; i < steps; i++) {
        memset(value, (int)i, sizeof value);
        const kwr_status status = act(x);
        cr_assert(status == KWR_OK || status == KWR_ERR_NOMEM, "%s", kwr_status_name(status));
        if (status == KWR_ERR_NOMEM) {
            x->failures++;
            store_check(x->s->engine);
            shelf_expect(x->m, x->s, x->s->engine);
        }
        if (i % 25 != 24) continue;
        x->s->ops->view_release(view);
        view = NULL;
        const kwr_status frozen = x->s->ops->freeze(x->s->engine, &view);
        cr_assert(frozen == KWR_OK || frozen == KWR_ERR_NOMEM);
    }
    x->s->ops->view_release(view);
}

static void every_block_fails_once(const store_options *options, uint32_t keys) {
    unsigned failed = 0;
    for (uint64_t n = 1;; n++) {
        scene x = { .s = store_open(options),
                    .m = shelf_new(),
                    .r = { 21 },
                    .keys = keys,
                    .lists = options->kind == KWR_STATE_LIST };
        x.s->engine->arena.fail_in = n;
        play(&x, STEPS);
        const bool fired = x.s->engine->arena.fail_in == 0;
        x.s->engine->arena.fail_in = 0;
        failed += x.failures;
        shelf_expect(x.m, x.s, x.s->engine);
        store_check(x.s->engine);
        shelf_free(x.m);
        store_close(x.s);
        if (!fired) break;
    }
    cr_assert(failed > 100, "only %u calls failed", failed);
}

KWR_TEST(collection_failure, of_any_block_changes_no_map, .timeout = 300) {
    every_block_fails_once(&(store_options){ .kind = KWR_STATE_MAP, .max_parallelism = 2 }, 3);
}

KWR_TEST(collection_failure, of_any_block_changes_no_list, .timeout = 300) {
    every_block_fails_once(
        &(store_options){ .kind = KWR_STATE_LIST, .max_parallelism = 1, .hash_mask_off = ~0ULL },
        4);
}

/* The allocator below the pool: opening a state and restoring too. */
KWR_TEST(collection_failure, of_any_allocation_of_a_restore_is_reported, .timeout = 300) {
    scene x = { .s = store_open(&(store_options){ .kind = KWR_STATE_MAP }),
                .m = shelf_new(),
                .r = { 22 },
                .keys = 4 };
    play(&x, STEPS);
    const kwr_address at = store_address(x.s, 0, text("long"), text(""));
    for (unsigned i = 0; i < 3000; i++)
        KWR_MUST(put_one(&x, &at, shelf_at(x.m, &at), 600));
    kwr_engine_view *view;
    KWR_MUST(x.s->ops->freeze(x.s->engine, &view));
    images im = { 0 };
    images_take(&im, x.s, view);
    x.s->ops->view_release(view);
    unsigned failed = 0;
    for (uint64_t n = 0;; n++) {
        kwr_engine *second = NULL;
        kwr_error err;
        fault_env_fail_alloc(x.s->faults, n, FAULT_ONCE);
        kwr_status status = x.s->ops->open(&x.s->config, &second, &err);
        const kwr_state_info info = { .id = 0, .kind = KWR_STATE_MAP, .name = "state" };
        if (status == KWR_OK) status = x.s->ops->add_state(second, &info);
        if (status == KWR_OK) status = images_install(&im, x.s, second, &err);
        const bool fired = fault_env_fired(x.s->faults) > 0;
        fault_env_clear(x.s->faults);
        cr_assert(status == KWR_OK || (status == KWR_ERR_NOMEM && fired));
        failed += status != KWR_OK;
        if (status == KWR_OK) {
            store_check(second);
            shelf_expect(x.m, x.s, second);
        }
        x.s->ops->close(second);
        if (!fired) break;
    }
    cr_assert(failed > 5);
    images_free(&im);
    shelf_free(x.m);
    store_close(x.s);
}

/* What was done in several steps can be undone, however little memory there is. */
KWR_TEST(collection_failure, never_keeps_what_was_written_from_being_removed) {
    store *s = store_open(&(store_options){ .kind = KWR_STATE_LIST });
    const kwr_address at = store_address(s, 0, text("key"), text(""));
    for (unsigned kind = 0; kind < 2; kind++) {
        const kwr_slice item = { value, kind == 0 ? 10 : 3000 };
        for (unsigned i = 0; i < 40; i++)
            KWR_MUST(s->ops->sub_append(s->engine, &at, &item, 1));
        kwr_engine_view *view;
        KWR_MUST(s->ops->freeze(s->engine, &view));
        uint8_t first[8] = { 0 };
        void *out;
        size_t old;
        KWR_MUST(
            s->ops->sub_modify(s->engine, &at, (kwr_slice){ first, 8 }, KWR_KEEP_SIZE, &out, &old));
        s->engine->arena.fail_in = 1;
        KWR_MUST(s->ops->remove(s->engine, &at));
        s->engine->arena.fail_in = 0;
        s->ops->view_release(view);
        store_check(s->engine);
    }
    store_close(s);
}
