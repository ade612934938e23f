/* SPDX-License-Identifier: Apache-2.0 */
/* See pages_test.h. */
#include "tests/pages/pages_test.h"

#include "base/memory.h"

uint64_t rng_next(rng *r) {
    uint64_t z = (r->x += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* ---- an engine ---- */

store *store_open(const store_options *options) {
    const store_options none = { 0 };
    if (options == NULL) options = &none;
    store *s = calloc(1, sizeof *s);
    cr_assert(s != NULL);
    s->faults = fault_env_open(kwr_test_env(), FAULT_INLINE);
    s->env = fault_env_env(s->faults);
    kwr_error err;
    const kwr_resources_options pool = { .struct_size = sizeof pool,
                                         .memory_bytes_max = options->memory_bytes_max };
    KWR_MUST_ERR(kwr_resources_open(s->env, &pool, &s->resources, &err), err);
    const kwr_limits small = { .struct_size = sizeof small, .views_max = options->views_max };
    KWR_MUST_ERR(kwr_limits_complete(&small, &s->limits, &err), err);
    const uint32_t groups = options->max_parallelism == 0 ? 8 : options->max_parallelism;
    s->config = (kwr_engine_config){
        .env = s->env,
        .resources = s->resources,
        .max_parallelism = groups,
        .key_groups = options->key_groups,
        .limits = &s->limits,
        .hash_mask = ~options->hash_mask_off,
        .seed = TEST_SEED,
    };
    if (options->key_groups.count == 0) s->config.key_groups = (kwr_key_group_range){ 0, groups };
    s->ops = kwr_engine_find("memory");
    cr_assert(s->ops != NULL);
    KWR_MUST_ERR(s->ops->open(&s->config, &s->engine, &err), err);
    s->states = options->states == 0 ? 1 : options->states;
    s->kind = options->kind == 0 ? KWR_STATE_VALUE : options->kind;
    store_add_states(s, s->engine);
    return s;
}

void store_add_states(const store *s, kwr_engine *engine) {
    for (uint32_t id = 0; id < s->states; id++) {
        const kwr_state_info info = { .id = id, .kind = s->kind, .name = "state" };
        KWR_MUST(s->ops->add_state(engine, &info));
    }
}

kwr_engine *store_second(store *s) {
    kwr_engine *engine = NULL;
    kwr_error err;
    KWR_MUST_ERR(s->ops->open(&s->config, &engine, &err), err);
    store_add_states(s, engine);
    return engine;
}

void store_close(store *s) {
    s->ops->close(s->engine);
    kwr_resources_close(s->resources);
    cr_assert(fault_env_outstanding(s->faults) == 0, "%llu bytes were not given back",
              (unsigned long long)fault_env_outstanding(s->faults));
    fault_env_close(s->faults);
    free(s);
}

kwr_address store_address(const store *s, uint32_t state, kwr_slice key, kwr_slice name) {
    const uint64_t key_hash = kwr_key_hash(key, TEST_SEED);
    return (kwr_address){
        .state = state,
        .key_group = kwr_key_group_of_hash(key_hash, s->config.max_parallelism),
        .entry_hash = kwr_entry_hash(key_hash, kwr_namespace_hash(name)),
        .key = key,
        .name = name,
    };
}

kwr_slice text(const char *s) { return (kwr_slice){ s, strlen(s) }; }

void store_check(kwr_engine *engine) {
    kwr_error err;
    KWR_MUST_ERR(kwr_store_check(engine, &err), err);
}

/* ---- the model ---- */

enum { BUCKETS = 1 << 14 };

model *model_new(void) {
    model *m = calloc(1, sizeof *m);
    m->buckets = calloc(BUCKETS, sizeof *m->buckets);
    return m;
}

void model_free(model *m) {
    for (size_t i = 0; i < BUCKETS; i++) {
        for (model_entry *e = m->buckets[i], *next; e != NULL; e = next) {
            next = e->next;
            free(e->bytes);
            free(e);
        }
    }
    free(m->buckets);
    free(m);
}

static size_t bucket_of(uint32_t state, kwr_slice key, kwr_slice name) {
    return (kwr_key_hash(key, state) ^ kwr_key_hash(name, 5)) % BUCKETS;
}

model_entry *model_at(model *m, const kwr_address *at) {
    model_entry **bucket = &m->buckets[bucket_of(at->state, at->key, at->name)];
    for (model_entry *e = *bucket; e != NULL; e = e->next)
        if (e->state == at->state && e->key_group == at->key_group && e->key_size == at->key.size &&
            e->name_size == at->name.size &&
            (at->key.size == 0 || memcmp(e->bytes, at->key.data, at->key.size) == 0) &&
            (at->name.size == 0 ||
             memcmp(e->bytes + at->key.size, at->name.data, at->name.size) == 0))
            return e;
    model_entry *e = calloc(1, sizeof *e);
    *e = (model_entry){ .state = at->state,
                        .key_group = at->key_group,
                        .key_size = (uint32_t)at->key.size,
                        .name_size = (uint32_t)at->name.size,
                        .next = *bucket };
    e->bytes = malloc(at->key.size + at->name.size + 1);
    if (at->key.size > 0) memcpy(e->bytes, at->key.data, at->key.size);
    if (at->name.size > 0) memcpy(e->bytes + at->key.size, at->name.data, at->name.size);
    *bucket = e;
    return e;
}

void model_put(model *m, const kwr_address *at, const void *value, size_t size) {
    model_entry *e = model_at(m, at);
    if (!e->present) m->count++;
    const size_t head = (size_t)e->key_size + e->name_size;
    e->bytes = realloc(e->bytes, head + size + 1);
    if (size > 0) memcpy(e->bytes + head, value, size);
    e->value_size = size;
    e->present = true;
}

void model_remove(model *m, const kwr_address *at) {
    model_entry *e = model_at(m, at);
    if (e->present) m->count--;
    e->present = false;
    e->value_size = 0;
}

model *model_copy(const model *m) {
    model *copy = model_new();
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const model_entry *e = m->buckets[i]; e != NULL; e = e->next) {
            if (!e->present) continue;
            const size_t size = (size_t)e->key_size + e->name_size + e->value_size;
            model_entry *c = malloc(sizeof *c);
            *c = *e;
            c->bytes = malloc(size + 1);
            memcpy(c->bytes, e->bytes, size);
            c->next = copy->buckets[i];
            copy->buckets[i] = c;
            copy->count++;
        }
    }
    return copy;
}

void model_expect(model *m, const store *s, kwr_engine *engine) {
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const model_entry *e = m->buckets[i]; e != NULL; e = e->next) {
            const kwr_address at =
                store_address(s, e->state, (kwr_slice){ e->bytes, e->key_size },
                              (kwr_slice){ e->bytes + e->key_size, e->name_size });
            kwr_slice value;
            KWR_EXPECT(e->present ? KWR_OK : KWR_NOT_FOUND, s->ops->get(engine, &at, &value));
            if (!e->present) continue;
            cr_assert(value.size == e->value_size);
            cr_assert(memcmp(value.data, e->bytes + e->key_size + e->name_size, value.size) == 0);
        }
    }
    kwr_backend_stats stats = { 0 };
    s->ops->stats(engine, &stats);
    cr_assert(stats.entries == m->count);
}

typedef struct expecting {
    model *m;
    uint64_t entries, bytes;
} expecting;

static kwr_status expect_entry(void *ctx, const kwr_entry *entry) {
    expecting *x = ctx;
    const kwr_address at = {
        .state = entry->state, .key_group = entry->key_group, .key = entry->key, .name = entry->name
    };
    model_entry *e = model_at(x->m, &at);
    cr_assert(e->present, "an entry that must not be there");
    cr_assert(!e->seen, "an entry twice");
    cr_assert(entry->value.size == e->value_size);
    cr_assert(memcmp(entry->value.data, e->bytes + e->key_size + e->name_size, e->value_size) == 0);
    e->seen = true;
    x->entries++;
    x->bytes += entry->key.size + entry->name.size + entry->value.size;
    return KWR_OK;
}

void model_expect_view(model *m, const store *s, kwr_engine_view *view) {
    for (size_t i = 0; i < BUCKETS; i++)
        for (model_entry *e = m->buckets[i]; e != NULL; e = e->next)
            e->seen = false;
    uint64_t entries = 0;
    for (uint32_t state = 0; state < s->states; state++) {
        expecting x = { .m = m };
        for (uint32_t g = 0; g < s->config.key_groups.count; g++)
            KWR_MUST(
                s->ops->view_walk(view, state, s->config.key_groups.first + g, expect_entry, &x));
        kwr_state_count count = { 1, 1, 1 };
        KWR_MUST(s->ops->view_count(view, state, &count));
        cr_assert(count.entries == x.entries);
        cr_assert(count.entry_bytes == x.bytes);
        entries += x.entries;
    }
    cr_assert(entries == m->count);
}

/* ---- images ---- */

static kwr_status keep_image(void *ctx, const kwr_page_image *image) {
    images *im = ctx;
    if (im->count == im->capacity) {
        im->capacity = im->capacity == 0 ? 64 : im->capacity * 2;
        im->items = realloc(im->items, im->capacity * sizeof *im->items);
    }
    kwr_page_image *item = &im->items[im->count++];
    *item = *image;
    void *bytes = malloc(image->size);
    memcpy(bytes, image->bytes, image->size);
    item->bytes = bytes;
    return KWR_OK;
}

void images_take(images *out, const store *s, kwr_engine_view *view) {
    kwr_page_sink sink = { .ctx = out, .image = keep_image };
    for (uint32_t g = 0; g < s->config.key_groups.count; g++)
        KWR_MUST(s->ops->view_images(view, s->config.key_groups.first + g, &sink));
}

bool images_pass(passing *p, const store *s, kwr_engine_view *view, uint32_t groups) {
    const kwr_key_group_range owned = s->config.key_groups;
    kwr_page_sink sink = { .ctx = &p->images, .image = keep_image };
    p->begun = true;
    for (; groups > 0 && p->next < owned.count; groups--, p->next++) {
        KWR_MUST(s->ops->view_images(view, owned.first + p->next, &sink));
        s->ops->view_pass(view, owned.first + p->next);
    }
    return p->next == owned.count;
}

void images_shuffle(images *im, rng *r) {
    for (size_t i = im->count; i > 1; i--) {
        const size_t j = rng_next(r) % i;
        const kwr_page_image swap = im->items[i - 1];
        im->items[i - 1] = im->items[j];
        im->items[j] = swap;
    }
}

void images_free(images *im) {
    for (size_t i = 0; i < im->count; i++)
        free((void *)im->items[i].bytes);
    free(im->items);
    *im = (images){ 0 };
}

kwr_status images_install(const images *im, const store *s, kwr_engine *engine, kwr_error *err) {
    kwr_status status = s->ops->restore_begin(engine, TEST_SEED);
    for (size_t i = 0; i < im->count && status == KWR_OK; i++)
        status = s->ops->install(engine, &im->items[i], err);
    return status == KWR_OK ? s->ops->restore_end(engine, err) : status;
}
