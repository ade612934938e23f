/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists and maps while memory runs out and comes back: each call is all or nothing, also while a
 * view shares what is written. The map is compared with a table, the list with its count and order.
 */
#include "tests/conformance/conformance.h"

enum { USERS = 200, STEPS = 1500, VIEW_STEPS = 25, VIEWS = STEPS / VIEW_STEPS, NEVER = -1 };

typedef struct tables {
    int map[USERS]; /* the step that wrote it; NEVER: absent */
    int list[2 * STEPS];
    size_t list_count;
    unsigned failures;
} tables;

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

static size_t size_of(int step) {
    return step % 97 == 0 ? 9000 : step % 11 == 0 ? 700 : (size_t)(step % 50);
}

static bool is_of(kwr_slice got, int step) {
    if (got.size != size_of(step)) return false;
    for (size_t i = 0; i < got.size; i++)
        if (((const uint8_t *)got.data)[i] != (uint8_t)step) return false;
    return true;
}

static kwr_slice user_of(size_t user, char *text) {
    const int size = snprintf(text, 16, "user-%zu", user);
    return (kwr_slice){ text, (size_t)size };
}

/* The user keys of the iteration are those of the table, in the order of their bytes. */
static void check_map(conf *c, kwr_map *m, const tables *t) {
    char text[16];
    size_t present = 0;
    for (size_t user = 0; user < USERS; user++) {
        kwr_slice got;
        const kwr_status status = kwr_map_get(m, user_of(user, text), &got);
        CHECK(status == (t->map[user] == NEVER ? KWR_NOT_FOUND : KWR_OK));
        if (status == KWR_OK) CHECK(is_of(got, t->map[user]));
        present += status == KWR_OK;
    }
    uint64_t count;
    MUST(kwr_map_count(m, &count));
    CHECK(count == present);
    kwr_map_iterator *it;
    MUST(kwr_map_iterate(m, &it));
    char last[16] = "";
    kwr_slice key, value;
    for (; kwr_map_iterator_next(it, &key, &value) == KWR_OK; present--) {
        char now[16] = "";
        CHECK(key.size < sizeof now);
        memcpy(now, key.data, key.size);
        CHECK(strcmp(last, now) < 0);
        memcpy(last, now, sizeof last);
    }
    CHECK(present == 0);
    kwr_map_iterator_free(it);
}

static void check_list(conf *c, kwr_list *l, const tables *t) {
    uint64_t count;
    MUST(kwr_list_count(l, &count));
    CHECK(count == t->list_count);
    kwr_list_iterator *it;
    MUST(kwr_list_iterate(l, &it));
    kwr_slice got;
    for (size_t i = 0; i < t->list_count; i++) {
        MUST(kwr_list_iterator_next(it, &got));
        CHECK(is_of(got, t->list[i]));
    }
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
    kwr_list_iterator_free(it);
}

static bool went_well(conf *c, tables *t, kwr_status status) {
    conf_fail_alloc(c, -1);
    if (status == KWR_OK) return true;
    EXPECT(KWR_ERR_NOMEM, status);
    CHECK_TEXT("memory");
    t->failures++;
    return false;
}

static void step_map(conf *c, kwr_map *m, tables *t, int step, const uint8_t *data, size_t user) {
    char text[16];
    const kwr_slice key = user_of(user, text);
    const kwr_slice value = { data, size_of(step) };
    void *bytes;
    switch (step % 8) {
    case 0:
        if (went_well(c, t, kwr_map_remove(m, key))) t->map[user] = NEVER;
        return;
    case 1:
        if (!went_well(c, t, kwr_map_modify(m, key, value.size, &bytes, NULL))) return;
        memcpy(bytes, data, value.size);
        break;
    case 2: {
        kwr_map_iterator *it;
        if (!went_well(c, t, kwr_map_iterate(m, &it))) return;
        MUST(kwr_map_iterator_seek(it, key));
        kwr_slice at;
        const kwr_status status = kwr_map_iterator_next(it, &at, NULL);
        const bool here =
            status == KWR_OK && at.size == key.size && memcmp(at.data, key.data, key.size) == 0;
        CHECK(here == (t->map[user] != NEVER));
        conf_fail_alloc(c, step % 3);
        const bool set = !here || went_well(c, t, kwr_map_iterator_set(it, value));
        conf_fail_alloc(c, -1);
        kwr_map_iterator_free(it);
        if (!here || !set) return;
        break;
    }
    default:
        if (!went_well(c, t, kwr_map_put(m, key, value))) return;
        break;
    }
    t->map[user] = step;
}

static void step_list(conf *c, kwr_list *l, tables *t, int step, const uint8_t *data) {
    const kwr_slice values[] = { { data, size_of(step) }, { data, size_of(step) } };
    const bool replace = step % 40 == 39;
    const size_t count = step % 3 == 0 ? 2 : 1;
    if (!went_well(
            c, t, replace ? kwr_list_update(l, values, count) : kwr_list_add_all(l, values, count)))
        return;
    if (replace) t->list_count = 0;
    for (size_t i = 0; i < count; i++)
        t->list[t->list_count++] = step;
}

CONF_COLLECTION_TEST(memory, lists_and_maps_are_as_before_when_a_call_had_none, .timeout = 300) {
    tables *t = (tables *)calloc(1, sizeof *t);
    for (size_t i = 0; i < USERS; i++)
        t->map[i] = NEVER;
    conf_open(c);
    kwr_map *m = conf_map(c, "m", KWR_TYPE_STRING, KWR_TYPE_BYTES);
    kwr_list *l = conf_list(c, "l", KWR_TYPE_BYTES);
    conf_set_key(c, "a");
    kwr_view *views[VIEWS] = { 0 };
    uint64_t random = 7;
    uint8_t *data = (uint8_t *)malloc(9000);
    for (int step = 0; step < STEPS; step++) {
        /* All views stay: whatever is written has to be copied. */
        if (step % VIEW_STEPS == 0) MUST(kwr_backend_freeze(c->backend, &views[step / VIEW_STEPS]));
        memset(data, step, 9000);
        conf_fail_alloc(c, (int64_t)(next_random(&random) % 4));
        if (next_random(&random) % 4 == 0)
            step_list(c, l, t, step, data);
        else
            step_map(c, m, t, step, data, next_random(&random) % USERS);
        if (step % 50 == 0) {
            check_map(c, m, t);
            check_list(c, l, t);
        }
    }
    check_map(c, m, t);
    check_list(c, l, t);
    for (size_t i = 0; i < VIEWS; i++)
        kwr_view_release(views[i]);
    check_map(c, m, t);
    check_list(c, l, t);
    CHECK(t->failures > 0);
    free(data);
    free(t);
}

CONF_COLLECTION_TEST(memory, opening_a_map_or_a_list_fails_whole) {
    conf_open(c);
    const kwr_map_descriptor md = { .struct_size = sizeof md, .name = "m" };
    const kwr_list_descriptor ld = { .struct_size = sizeof ld, .name = "l" };
    kwr_map *m = NULL;
    kwr_list *l = NULL;
    unsigned failures = 0;
    for (int64_t allowed = 0; m == NULL || l == NULL; allowed++) {
        conf_fail_alloc(c, allowed);
        const kwr_status status = m == NULL ? kwr_map_open(c->backend, &md, &m, NULL)
                                            : kwr_list_open(c->backend, &ld, &l, NULL);
        conf_fail_alloc(c, -1);
        if (status == KWR_OK) continue;
        EXPECT(KWR_ERR_NOMEM, status);
        failures++;
    }
    CHECK(failures > 0);
    conf_set_key(c, "a");
    kwr_map_iterator *it = NULL;
    conf_fail_alloc(c, 0);
    EXPECT(KWR_ERR_NOMEM, kwr_map_iterate(m, &it));
    conf_fail_alloc(c, -1);
    CHECK_TEXT("state 'm': no memory to iterate");
    CHECK(it == NULL);
    MUST(kwr_map_put(m, conf_slice("x"), conf_slice("1")));
    /* A failed step leaves the iterator where it was. */
    MUST(kwr_map_iterate(m, &it));
    conf_fail_alloc(c, 0);
    EXPECT(KWR_ERR_NOMEM, kwr_map_iterator_next(it, NULL, NULL));
    conf_fail_alloc(c, -1);
    MUST(kwr_map_iterator_next(it, NULL, NULL));
    kwr_map_iterator_free(it);
}
