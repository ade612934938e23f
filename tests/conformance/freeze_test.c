/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen views: what they hold while the owner goes on, how many there may be, how long they live.
 */
#include "tests/conformance/conformance.h"

CONF_TEST(freeze, a_view_does_not_see_later_writes) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    conf_set_key(c, "kept");
    conf_put(c, v, "as it was");
    conf_set_key(c, "removed");
    conf_put(c, v, "was here");
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    conf_set_key(c, "kept");
    conf_put(c, v, "something longer than before");
    MUST(kwr_value_set_namespace(v, conf_slice("n")));
    conf_put(c, v, "new namespace");
    MUST(kwr_value_set_namespace(v, (kwr_slice){ 0 }));
    conf_set_key(c, "removed");
    MUST(kwr_value_clear(v));
    conf_set_key(c, "added");
    conf_put(c, v, "new");
    CHECK(conf_view_entries(c, view) == 2);
    CHECK(conf_view_holds(c, view, "v", "kept", "", "as it was"));
    CHECK(conf_view_holds(c, view, "v", "kept", "n", NULL));
    CHECK(conf_view_holds(c, view, "v", "removed", "", "was here"));
    CHECK(conf_view_holds(c, view, "v", "added", "", NULL));
    kwr_view_release(view);
    conf_set_key(c, "kept");
    CHECK(conf_holds(v, "something longer than before"));
}

CONF_TEST(freeze, writes_in_place_do_not_reach_a_view) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_reducing *r = conf_reducing(c, "r", KWR_TYPE_I64, KWR_REDUCE_SUM);
    conf_set_key(c, "a");
    conf_put(c, v, "same size 1");
    conf_add_i64(c, r, 7);
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    conf_put(c, v, "same size 2");
    void *bytes;
    MUST(kwr_value_modify(v, KWR_KEEP_SIZE, &bytes, NULL));
    memcpy(bytes, "S", 1);
    conf_add_i64(c, r, 1);
    CHECK(conf_view_holds(c, view, "v", "a", "", "same size 1"));
    int64_t number = 7;
    char text[9] = { 0 };
    memcpy(text, &number, 1);
    kwr_view *second;
    MUST(kwr_backend_freeze(c->backend, &second));
    MUST(kwr_value_clear(v));
    CHECK(conf_view_holds(c, second, "v", "a", "", "Same size 2"));
    CHECK(conf_view_holds(c, view, "v", "a", "", "same size 1"));
    kwr_view_release(view);
    CHECK(conf_view_holds(c, second, "v", "a", "", "Same size 2"));
    CHECK(conf_holds(v, NULL));
    CHECK(conf_i64(c, r, 0) == 8);
    kwr_view_release(second);
}

enum { GENERATIONS = 6, KEYS = 300 };

static void text_of(char out[64], int key, int generation) {
    (void)snprintf(out, 64, "value of %d in generation %d%s", key, generation,
                   key % 3 == 0 ? " and a bit more" : "");
}

/* In generation g every key is written whose number is divisible by g + 1. */
static int last_written(int key, int generation) {
    while (generation > 0 && key % (generation + 1) != 0)
        generation--;
    return generation;
}

static void check_generation(conf *c, kwr_view *view, int generation) {
    char key[16], text[64];
    CHECK(conf_view_entries(c, view) == KEYS);
    for (int i = 0; i < KEYS; i += 37) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        text_of(text, i, last_written(i, generation));
        CHECK(conf_view_holds(c, view, "v", key, "", text));
    }
}

CONF_TEST(freeze, many_views_are_apart_in_any_order_of_release) {
    static const int order[GENERATIONS] = { 2, 0, 5, 1, 4, 3 };
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    kwr_view *views[GENERATIONS];
    char key[16], text[64];
    for (int generation = 0; generation < GENERATIONS; generation++) {
        for (int i = 0; i < KEYS; i += generation + 1) {
            (void)snprintf(key, sizeof key, "key-%d", i);
            conf_set_key(c, key);
            text_of(text, i, generation);
            conf_put(c, v, text);
        }
        MUST(kwr_backend_freeze(c->backend, &views[generation]));
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(stats.views == GENERATIONS);
    for (int i = 0; i < GENERATIONS; i++)
        check_generation(c, views[i], i);
    for (int i = 0; i < GENERATIONS; i++) {
        kwr_view_release(views[order[i]]);
        while (kwr_backend_maintain(c->backend, 1000000))
            continue;
        for (int j = i + 1; j < GENERATIONS; j++)
            check_generation(c, views[order[j]], order[j]);
    }
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(stats.views == 0);
    CHECK(conf_counts(c, stats.entries, KEYS));
}

CONF_TEST(freeze, views_outlive_their_backend) {
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%d", i);
        conf_set_key(c, key);
        conf_put(c, v, key);
    }
    kwr_view *first, *second;
    MUST(kwr_backend_freeze(c->backend, &first));
    conf_put(c, v, "last key again");
    MUST(kwr_backend_freeze(c->backend, &second));
    kwr_backend_close(c->backend);
    c->backend = NULL;
    CHECK(conf_view_entries(c, first) == 1000);
    CHECK(conf_view_holds(c, first, "v", "key-999", "", "key-999"));
    kwr_view_release(first);
    CHECK(conf_view_entries(c, second) == 1000);
    CHECK(conf_view_holds(c, second, "v", "key-999", "", "last key again"));
    kwr_view_release(second);
}

CONF_TEST(freeze, a_view_knows_the_states_of_its_moment) {
    conf_open(c);
    (void)conf_value(c, "first", KWR_TYPE_I64);
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    char name[32];
    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "state-%d", i);
        (void)conf_value(c, name, KWR_TYPE_STRING);
    }
    kwr_view *later;
    MUST(kwr_backend_freeze(c->backend, &later));
    kwr_backend_close(c->backend);
    c->backend = NULL;
    CHECK(view->table->count == 1);
    CHECK(strcmp(view->table->states[0].name, "first") == 0);
    CHECK(view->table->states[0].type.kind == KWR_TYPE_I64);
    CHECK(later->table->count == 41);
    for (uint32_t i = 1; i < 41; i++) {
        (void)snprintf(name, sizeof name, "state-%u", i - 1);
        CHECK(later->table->states[i].id == i);
        CHECK(strcmp(later->table->states[i].name, name) == 0);
    }
    kwr_view_release(later);
    kwr_view_release(view);
}

CONF_TEST(freeze, an_empty_backend_has_an_empty_view) {
    conf_open(c);
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    CHECK(view->table->count == 0);
    CHECK(conf_view_entries(c, view) == 0);
    kwr_view_release(view);
    kwr_view_release(NULL);
}

CONF_TEST(freeze, the_number_of_views_is_limited) {
    kwr_backend_options options = conf_options(c);
    options.limits = (kwr_limits)KWR_LIMITS_INIT;
    options.limits.views_max = 2;
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    kwr_view *views[2], *third = NULL;
    MUST(kwr_backend_freeze(c->backend, &views[0]));
    MUST(kwr_backend_freeze(c->backend, &views[1]));
    EXPECT(KWR_ERR_BUSY, kwr_backend_freeze(c->backend, &third));
    CHECK_TEXT("2 views are alive, limits.views_max");
    CHECK(third == NULL);
    kwr_view_release(views[0]);
    MUST(kwr_backend_freeze(c->backend, &third));
    kwr_view_release(views[1]);
    kwr_view_release(third);
}

/* ---- views on other threads ---- */

typedef struct reader {
    kwr_work work;
    conf *c;
    kwr_view *view;
    size_t entries;
} reader;

static void read_and_release(void *ctx) {
    reader *r = (reader *)ctx;
    r->entries = conf_view_entries(r->c, r->view);
    kwr_view_release(r->view);
}

CONF_TEST(freeze, views_are_read_and_released_on_other_threads, .timeout = 300) {
    enum { ROUNDS = 12 };
    conf_open(c);
    kwr_value *v = conf_value(c, "v", KWR_TYPE_BYTES);
    reader readers[ROUNDS];
    memset(readers, 0, sizeof readers);
    const kwr_executor *executor = c->env->executor;
    char key[16];
    int next = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 150; i++) {
            (void)snprintf(key, sizeof key, "key-%d", next++);
            conf_set_key(c, key);
            conf_put(c, v, "written while views are read");
        }
        reader *r = &readers[round];
        r->c = c;
        r->work = (kwr_work){ .run = read_and_release, .ctx = r };
        MUST(kwr_backend_freeze(c->backend, &r->view));
        MUST(executor->post(executor->ctx, &r->work));
        /* In place, while they are read. */
        for (int i = 0; i < next; i += 3) {
            (void)snprintf(key, sizeof key, "key-%d", i);
            conf_set_key(c, key);
            conf_put(c, v, "WRITTEN while views are read");
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        executor->wait(executor->ctx, &readers[round].work);
        CHECK(readers[round].entries == (size_t)(round + 1) * 150);
    }
    while (kwr_backend_maintain(c->backend, 1000000))
        continue;
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(c->backend, &stats);
    CHECK(stats.views == 0);
    CHECK(stats.frozen_bytes == 0);
}
