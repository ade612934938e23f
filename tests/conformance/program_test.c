/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random programs: two states, a few hundred keys, a few namespaces, batches, freezes, releases,
 * restarts from a snapshot and idle upkeep in any order, every result compared with a table that is
 * plainly right. A failure prints the seed; KWR_PROGRAM_SEED=n runs that program alone,
 * KWR_PROGRAM_STEPS=n makes it longer.
 */
#include "tests/conformance/conformance.h"

enum { KEYS = 250, NAMES = 5, VIEWS = 4, BATCH = 24, LARGE = 150000 };

/* ---- what must be stored ---- */

typedef struct cell {
    bool present;
    uint64_t tag; /* the bytes are made from tag and size */
    size_t size;
    bool counted;
    int64_t sum;
} cell;

typedef struct table {
    cell at[KEYS][NAMES];
} table;

typedef struct program {
    conf *c;
    uint64_t seed;
    uint64_t state; /* of the generator */
    unsigned step;
    uint32_t max_parallelism;
    kwr_value *value;
    kwr_reducing *sum;
    kwr_key_batch *batch;
    size_t batch_keys[BATCH];
    kwr_slice batch_slices[BATCH];
    size_t batch_count;
    size_t key; /* current */
    bool has_key;
    size_t name; /* of both handles */
    table now;
    kwr_view *views[VIEWS];
    table *frozen[VIEWS];
    uint64_t next_tag;
    uint8_t *scratch;
    char keys[KEYS][80];
    size_t key_sizes[KEYS];
} program;

static const char *const names[NAMES] = { "", "w", "window-17", "window-18",
                                          "a namespace that is longer than most of them are" };

static void fail(const program *p, const char *what) {
    cr_assert(false, "engine %s: KWR_PROGRAM_SEED=%llu step %u: %s (last failure: %s)",
              p->c->engine->name, (unsigned long long)p->seed, p->step, what,
              kwr_backend_error(p->c->backend)->text);
}
#define REQUIRE(holds)                 \
    do {                               \
        if (!(holds)) fail(p, #holds); \
    } while (0)

/* splitmix64 */
static uint64_t next_random(program *p) {
    uint64_t z = p->state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
static size_t below(program *p, size_t n) { return (size_t)(next_random(p) % n); }

static void fill(uint8_t *out, uint64_t tag, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        out[i] = (uint8_t)(tag * 31 + i * 7 + (i >> 8));
}
static bool filled(const void *data, uint64_t tag, size_t from, size_t to) {
    const uint8_t *bytes = (const uint8_t *)data;
    for (size_t i = from; i < to; i++)
        if (bytes[i] != (uint8_t)(tag * 31 + i * 7 + (i >> 8))) return false;
    return true;
}

static size_t some_size(program *p) {
    switch (below(p, 16)) {
    case 0: return 0;
    case 1: return below(p, 5000);
    case 2: return below(p, 20) == 0 ? below(p, LARGE) : below(p, 300);
    default: return below(p, 120);
    }
}

static cell *here(program *p) { return &p->now.at[p->key][p->name]; }
static kwr_slice key_slice(const program *p, size_t key) {
    return (kwr_slice){ p->keys[key], p->key_sizes[key] };
}

/* ---- steps ---- */

static void step_key(program *p) {
    p->key = below(p, KEYS);
    p->has_key = true;
    REQUIRE(kwr_backend_set_key(p->c->backend, key_slice(p, p->key)) == KWR_OK);
}

static void step_name(program *p) {
    p->name = below(p, NAMES);
    REQUIRE(kwr_value_set_namespace(p->value, conf_slice(names[p->name])) == KWR_OK);
    REQUIRE(kwr_reducing_set_namespace(p->sum, conf_slice(names[p->name])) == KWR_OK);
}

static void step_get(program *p) {
    const cell *want = here(p);
    kwr_slice got, number;
    const kwr_status status = kwr_value_get(p->value, &got);
    REQUIRE(status == (want->present ? KWR_OK : KWR_NOT_FOUND));
    const kwr_status summed = kwr_reducing_get(p->sum, &number);
    REQUIRE(summed == (want->counted ? KWR_OK : KWR_NOT_FOUND));
    /* Both borrows hold side by side. */
    if (want->present) REQUIRE(got.size == want->size && filled(got.data, want->tag, 0, got.size));
    if (want->counted) REQUIRE(number.size == 8 && memcmp(number.data, &want->sum, 8) == 0);
}

static void step_put(program *p) {
    const size_t size = some_size(p);
    cell *want = here(p);
    want->tag = p->next_tag++;
    want->size = size;
    want->present = true;
    fill(p->scratch, want->tag, 0, size);
    REQUIRE(kwr_value_put(p->value, (kwr_slice){ p->scratch, size }) == KWR_OK);
}

static void step_modify(program *p) {
    cell *want = here(p);
    const size_t before = want->present ? want->size : 0;
    const bool keep = below(p, 3) == 0;
    const size_t size = keep ? before : some_size(p);
    void *bytes;
    size_t old_size;
    REQUIRE(kwr_value_modify(p->value, keep ? KWR_KEEP_SIZE : size, &bytes, &old_size) == KWR_OK);
    REQUIRE(old_size == (want->present ? want->size : KWR_ABSENT));
    const size_t kept = before < size ? before : size;
    REQUIRE(filled(bytes, want->tag, 0, kept));
    for (size_t i = kept; i < size; i++)
        REQUIRE(((uint8_t *)bytes)[i] == 0);
    /* The other state is used while the bytes are lent. */
    if (below(p, 2) == 0) {
        kwr_slice number;
        REQUIRE(kwr_reducing_get(p->sum, &number) == (want->counted ? KWR_OK : KWR_NOT_FOUND));
    }
    want->tag = p->next_tag++;
    want->size = size;
    want->present = true;
    fill((uint8_t *)bytes, want->tag, 0, size);
}

static void step_clear(program *p) {
    cell *want = here(p);
    if (below(p, 2) == 0) {
        want->present = false;
        REQUIRE(kwr_value_clear(p->value) == KWR_OK);
    } else {
        want->counted = false;
        REQUIRE(kwr_reducing_clear(p->sum) == KWR_OK);
    }
}

static void step_add(program *p) {
    cell *want = here(p);
    const int64_t number = (int64_t)below(p, 1000) - 500;
    want->sum = want->counted ? want->sum + number : number;
    want->counted = true;
    kwr_slice stored;
    REQUIRE(kwr_reducing_add(p->sum, (kwr_slice){ &number, 8 }, &stored) == KWR_OK);
    REQUIRE(stored.size == 8 && memcmp(stored.data, &want->sum, 8) == 0);
}

static void step_load(program *p) {
    p->batch_count = below(p, BATCH + 1);
    for (size_t i = 0; i < p->batch_count; i++) {
        p->batch_keys[i] = below(p, KEYS);
        p->batch_slices[i] = key_slice(p, p->batch_keys[i]);
    }
    REQUIRE(kwr_key_batch_load(p->batch, p->batch_slices, NULL, p->batch_count) == KWR_OK);
    kwr_slice key;
    p->has_key = kwr_backend_key(p->c->backend, &key, NULL) == KWR_OK;
    if (p->has_key) REQUIRE(key.size == p->key_sizes[p->key]);
}

static void step_prefetch(program *p) {
    kwr_state *const states[] = { kwr_value_state(p->value), kwr_reducing_state(p->sum) };
    kwr_key_batch_prefetch(p->batch, states + below(p, 2), 1);
    if (below(p, 2) == 0) kwr_key_batch_prefetch(p->batch, states, 2);
}

static void step_select(program *p) {
    if (p->batch_count == 0) {
        REQUIRE(kwr_key_batch_select(p->batch, 0) == KWR_ERR_RANGE);
        return;
    }
    const size_t i = below(p, p->batch_count);
    REQUIRE(kwr_key_batch_select(p->batch, i) == KWR_OK);
    p->key = p->batch_keys[i];
    p->has_key = true;
}

/* ---- views ---- */

typedef struct walk {
    program *p;
    const table *want;
    size_t met_values, met_sums;
} walk;

static size_t name_of(const kwr_entry *entry) {
    size_t name = 0;
    while (name < NAMES &&
           (entry->name.size != strlen(names[name]) ||
            (entry->name.size > 0 && memcmp(entry->name.data, names[name], entry->name.size) != 0)))
        name++;
    return name;
}

static size_t key_of(const program *p, const kwr_entry *entry) {
    size_t key = 0;
    while (key < KEYS && (entry->key.size != p->key_sizes[key] ||
                          memcmp(entry->key.data, p->keys[key], entry->key.size) != 0))
        key++;
    return key;
}

static kwr_status meet(void *ctx, const kwr_entry *entry) {
    walk *w = (walk *)ctx;
    program *p = w->p;
    const size_t key = key_of(p, entry);
    const size_t name = name_of(entry);
    REQUIRE(key < KEYS && name < NAMES);
    const cell *want = &w->want->at[key][name];
    if (entry->state == 0) {
        REQUIRE(want->present && entry->value.size == want->size);
        REQUIRE(filled(entry->value.data, want->tag, 0, want->size));
        w->met_values++;
    } else {
        REQUIRE(want->counted && entry->value.size == 8);
        REQUIRE(memcmp(entry->value.data, &want->sum, 8) == 0);
        w->met_sums++;
    }
    return KWR_OK;
}

/* Every entry is as it was, and none is missing. */
static void check_view(program *p, kwr_view *view, const table *want) {
    walk w = { .p = p, .want = want };
    for (uint32_t state = 0; state < 2; state++)
        for (uint32_t group = 0; group < view->max_parallelism; group++)
            REQUIRE(view->ops->view_walk(view->engine_view, state, group, meet, &w) == KWR_OK);
    size_t values = 0, sums = 0;
    for (size_t key = 0; key < KEYS; key++)
        for (size_t name = 0; name < NAMES; name++) {
            values += want->at[key][name].present;
            sums += want->at[key][name].counted;
        }
    REQUIRE(w.met_values == values && w.met_sums == sums);
}

static void end_view(program *p, size_t i, bool look) {
    if (p->views[i] == NULL) return;
    if (look) check_view(p, p->views[i], p->frozen[i]);
    kwr_view_release(p->views[i]);
    free(p->frozen[i]);
    p->views[i] = NULL;
}

static void step_freeze(program *p) {
    const size_t i = below(p, VIEWS);
    end_view(p, i, below(p, 2) == 0);
    REQUIRE(kwr_backend_freeze(p->c->backend, &p->views[i]) == KWR_OK);
    p->frozen[i] = (table *)malloc(sizeof *p->frozen[i]);
    *p->frozen[i] = p->now;
}

/* ---- restarts: what a snapshot holds becomes the backend, views of the old one live on ---- */

static kwr_backend_options program_options(program *p) {
    kwr_backend_options options = conf_options(p->c);
    options.seed = p->seed * 77;
    options.max_parallelism = p->max_parallelism;
    return options;
}

static void open_handles(program *p) {
    p->value = conf_value(p->c, "value", KWR_TYPE_BYTES);
    p->sum = conf_reducing(p->c, "sum", KWR_TYPE_I64, KWR_REDUCE_SUM);
    REQUIRE(kwr_key_batch_new(p->c->backend, BATCH, &p->batch) == KWR_OK);
    p->batch_count = 0;
    p->has_key = false;
    p->name = 0;
}

static void step_restart(program *p) {
    kwr_view *view;
    REQUIRE(kwr_backend_freeze(p->c->backend, &view) == KWR_OK);
    const kwr_backend_options options = program_options(p);
    kwr_backend *restored = NULL;
    kwr_error err;
    KWR_MUST_ERR(conf_restore(p->c, view, &options, &restored, &err), err);
    kwr_view_release(view);
    kwr_backend_close(p->c->backend);
    p->c->backend = restored;
    open_handles(p);
}

/* ---- programs ---- */

static void step_without_key(program *p) {
    switch (below(p, 8)) {
    case 0: step_load(p); break;
    case 1: step_prefetch(p); break;
    case 2: step_name(p); break;
    case 3: step_key(p); break;
    default: step_select(p); break;
    }
}

static void step(program *p) {
    if (!p->has_key) {
        step_without_key(p);
        return;
    }
    if (p->c->engine->restores && below(p, 1500) == 0) {
        step_restart(p);
        return;
    }
    const size_t dice = below(p, 200);
    if (dice < 30)
        step_key(p);
    else if (dice < 40)
        step_name(p);
    else if (dice < 70)
        step_get(p);
    else if (dice < 100)
        step_put(p);
    else if (dice < 120)
        step_modify(p);
    else if (dice < 130)
        step_clear(p);
    else if (dice < 155)
        step_add(p);
    else if (dice < 160)
        step_load(p);
    else if (dice < 168)
        step_prefetch(p);
    else if (dice < 196)
        step_select(p);
    else if (dice < 198)
        step_freeze(p);
    else if (dice < 199)
        end_view(p, below(p, VIEWS), true);
    else
        (void)kwr_backend_maintain(p->c->backend, below(p, 100000));
}

static void check_now(program *p) {
    for (p->key = 0; p->key < KEYS; p->key++) {
        REQUIRE(kwr_backend_set_key(p->c->backend, key_slice(p, p->key)) == KWR_OK);
        for (p->name = 0; p->name < NAMES; p->name++) {
            REQUIRE(kwr_value_set_namespace(p->value, conf_slice(names[p->name])) == KWR_OK);
            REQUIRE(kwr_reducing_set_namespace(p->sum, conf_slice(names[p->name])) == KWR_OK);
            step_get(p);
        }
    }
}

static void make_keys(program *p) {
    for (size_t i = 0; i < KEYS; i++) {
        const int size = snprintf(p->keys[i], sizeof p->keys[i], "%zu", i);
        p->key_sizes[i] = (size_t)size + (i % 7 == 0 ? i % 60 : 0); /* some with zeros behind */
    }
    p->key_sizes[0] = 0;
}

static void run(conf *c, uint64_t seed, unsigned steps) {
    program *p = (program *)calloc(1, sizeof *p);
    p->c = c;
    p->seed = p->state = seed;
    p->scratch = (uint8_t *)malloc(LARGE);
    make_keys(p);
    p->max_parallelism = 1 + (uint32_t)below(p, 40);
    const kwr_backend_options options = program_options(p);
    MUST(conf_open_with(c, &options, &c->backend, NULL));
    open_handles(p);
    for (p->step = 0; p->step < steps; p->step++)
        step(p);
    check_now(p);
    for (size_t i = 0; i < VIEWS / 2; i++)
        end_view(p, i, true);
    check_now(p);
    kwr_backend *closing = c->backend;
    for (size_t i = VIEWS / 2; i < VIEWS; i++)
        if (p->views[i] != NULL) check_view(p, p->views[i], p->frozen[i]);
    c->backend = NULL;
    kwr_backend_close(closing);
    /* Views of a backend that is gone. */
    for (size_t i = VIEWS / 2; i < VIEWS; i++) {
        if (p->views[i] == NULL) continue;
        walk w = { .p = p, .want = p->frozen[i] };
        for (uint32_t group = 0; group < p->views[i]->max_parallelism; group++)
            MUST(p->views[i]->ops->view_walk(p->views[i]->engine_view, 1, group, meet, &w));
        kwr_view_release(p->views[i]);
        free(p->frozen[i]);
    }
    free(p->scratch);
    free(p);
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL || text[0] == '\0' ? otherwise : strtoull(text, NULL, 10);
}

CONF_TEST(program, random_programs_give_what_a_table_gives, .timeout = 600) {
    const unsigned steps = (unsigned)from_environment("KWR_PROGRAM_STEPS", 6000);
    const uint64_t only = from_environment("KWR_PROGRAM_SEED", 0);
    for (uint64_t seed = only == 0 ? 1 : only; seed <= (only == 0 ? 6 : only); seed++)
        run(c, seed, steps);
}
