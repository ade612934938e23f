/* SPDX-License-Identifier: Apache-2.0 */
/* See model_engine.h. Memory comes from the environment, so that tests can make it run out. */
#include "tests/conformance/model_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct model_entry {
    uint32_t state;
    uint32_t key_group;
    kwr_slice key;
    kwr_slice name;
    uint8_t *value;
    size_t size;
} model_entry;

/* Entries in the order of state, key group, key, namespace. */
typedef struct model_entries {
    const kwr_env *env;
    model_entry **at;
    size_t count;
    size_t capacity;
} model_entries;

struct kwr_engine {
    kwr_engine_config config;
    model_entries entries;
    model_entry **lent; /* by state: whose value is borrowed */
    size_t states;
    uint64_t stamp; /* of hints */
};

struct kwr_engine_view {
    model_entries entries;
};

/* A promise of the seam is broken: nothing that follows would mean anything. */
static void require(bool holds, const char *what) {
    if (holds) return;
    (void)fprintf(stderr, "model engine: %s\n", what);
    abort();
}

/* ---- entries ---- */

static int compare_bytes(kwr_slice a, kwr_slice b) {
    const size_t common = a.size < b.size ? a.size : b.size;
    const int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

static int compare(const model_entry *entry, const kwr_address *at) {
    if (entry->state != at->state) return entry->state < at->state ? -1 : 1;
    if (entry->key_group != at->key_group) return entry->key_group < at->key_group ? -1 : 1;
    const int by_key = compare_bytes(entry->key, at->key);
    return by_key != 0 ? by_key : compare_bytes(entry->name, at->name);
}

/* The place of the entry, or where it belongs. */
static bool find(const model_entries *entries, const kwr_address *at, size_t *place) {
    size_t low = 0;
    size_t high = entries->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare(entries->at[middle], at);
        if (order == 0) {
            *place = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *place = low;
    return false;
}

static void *copy_bytes(const kwr_env *env, const void *data, size_t size) {
    void *copy = kwr_alloc(env, size);
    if (copy != NULL && size > 0) memcpy(copy, data, size);
    return copy;
}

static void entry_free(const kwr_env *env, model_entry *entry) {
    if (entry == NULL) return;
    kwr_free(env, (void *)entry->key.data, entry->key.size);
    kwr_free(env, (void *)entry->name.data, entry->name.size);
    kwr_free(env, entry->value, entry->size);
    kwr_free(env, entry, sizeof *entry);
}

static model_entry *entry_new(const kwr_env *env, const kwr_address *at, const void *value,
                              size_t size) {
    model_entry *entry = (model_entry *)kwr_calloc(env, sizeof *entry);
    if (entry == NULL) return NULL;
    entry->state = at->state;
    entry->key_group = at->key_group;
    entry->key = (kwr_slice){ copy_bytes(env, at->key.data, at->key.size), at->key.size };
    entry->name = (kwr_slice){ copy_bytes(env, at->name.data, at->name.size), at->name.size };
    entry->value = (uint8_t *)copy_bytes(env, value, size);
    entry->size = size;
    if (entry->key.data != NULL && entry->name.data != NULL && entry->value != NULL) return entry;
    entry_free(env, entry);
    return NULL;
}

static void entries_free(model_entries *entries) {
    for (size_t i = 0; i < entries->count; i++)
        entry_free(entries->env, entries->at[i]);
    kwr_free(entries->env, entries->at, entries->capacity * sizeof *entries->at);
    *entries = (model_entries){ .env = entries->env };
}

static bool entries_reserve(model_entries *entries, size_t count) {
    void *at = entries->at;
    const bool grown =
        kwr_grow_array(entries->env, &at, &entries->capacity, count, sizeof *entries->at);
    entries->at = (model_entry **)at;
    return grown;
}

/* ---- what the seam promises ---- */

/* A borrowed value moves: whoever still looks at the old place is caught by the sanitizer. */
static kwr_status end_borrow(kwr_engine *engine, uint32_t state) {
    model_entry *entry = engine->lent[state];
    if (entry == NULL) return KWR_OK;
    uint8_t *moved = (uint8_t *)copy_bytes(engine->config.env, entry->value, entry->size);
    if (moved == NULL) return KWR_ERR_NOMEM;
    kwr_free(engine->config.env, entry->value, entry->size);
    entry->value = moved;
    engine->lent[state] = NULL;
    return KWR_OK;
}

static void check_address(const kwr_engine *engine, const kwr_address *at) {
    const kwr_key_group_range owned = engine->config.key_groups;
    require(at->state < engine->states, "an address of a state there is no room for");
    require(at->key_group - owned.first < owned.count, "an address of a foreign key group");
    const uint64_t key_hash = kwr_key_hash(at->key, engine->config.seed);
    require(at->entry_hash == kwr_entry_hash(key_hash, kwr_namespace_hash(at->name)),
            "an address whose hash is not of its key and namespace");
    const kwr_engine_hint *hint = (const kwr_engine_hint *)at->hint;
    require(hint == NULL || hint->stamp == 0 || hint->extra == at->entry_hash,
            "a hint of another address");
}

static kwr_status begin(kwr_engine *engine, const kwr_address *at) {
    check_address(engine, at);
    return end_borrow(engine, at->state);
}

/* ---- the operations ---- */

static kwr_status model_open(const kwr_engine_config *config, kwr_engine **out, kwr_error *err) {
    (void)err;
    require(config->resources != NULL, "no resources");
    kwr_engine *engine = (kwr_engine *)kwr_calloc(config->env, sizeof *engine);
    if (engine == NULL) return KWR_ERR_NOMEM;
    engine->config = *config;
    engine->entries.env = config->env;
    engine->stamp = 1;
    *out = engine;
    return KWR_OK;
}

static void model_close(kwr_engine *engine) {
    const kwr_env *env = engine->config.env;
    entries_free(&engine->entries);
    kwr_free(env, engine->lent, engine->states * sizeof *engine->lent);
    kwr_free(env, engine, sizeof *engine);
}

static kwr_status model_add_state(kwr_engine *engine, const kwr_state_info *info) {
    const uint32_t count = info->id + 1;
    if (count <= engine->states) return KWR_OK;
    const kwr_env *env = engine->config.env;
    model_entry **lent = (model_entry **)kwr_calloc(env, count * sizeof *lent);
    if (lent == NULL) return KWR_ERR_NOMEM;
    if (engine->states > 0) memcpy(lent, engine->lent, engine->states * sizeof *lent);
    kwr_free(env, engine->lent, engine->states * sizeof *lent);
    engine->lent = lent;
    engine->states = count;
    return KWR_OK;
}

static kwr_status model_get(kwr_engine *engine, const kwr_address *at, kwr_slice *out) {
    const kwr_status status = begin(engine, at);
    if (status < KWR_OK) return status;
    size_t place;
    if (!find(&engine->entries, at, &place)) return KWR_NOT_FOUND;
    model_entry *entry = engine->entries.at[place];
    engine->lent[at->state] = entry;
    *out = (kwr_slice){ entry->value, entry->size };
    return KWR_OK;
}

static kwr_status insert(kwr_engine *engine, const kwr_address *at, size_t place, const void *value,
                         size_t size) {
    model_entries *entries = &engine->entries;
    if (!entries_reserve(entries, entries->count + 1)) return KWR_ERR_NOMEM;
    model_entry *entry = entry_new(entries->env, at, value, size);
    if (entry == NULL) return KWR_ERR_NOMEM;
    memmove(&entries->at[place + 1], &entries->at[place],
            (entries->count - place) * sizeof *entries->at);
    entries->at[place] = entry;
    entries->count++;
    return KWR_OK;
}

static kwr_status model_put(kwr_engine *engine, const kwr_address *at, kwr_slice value) {
    const kwr_status status = begin(engine, at);
    if (status < KWR_OK) return status;
    size_t place;
    if (!find(&engine->entries, at, &place))
        return insert(engine, at, place, value.data, value.size);
    model_entry *entry = engine->entries.at[place];
    uint8_t *copy = (uint8_t *)copy_bytes(engine->config.env, value.data, value.size);
    if (copy == NULL) return KWR_ERR_NOMEM;
    kwr_free(engine->config.env, entry->value, entry->size);
    entry->value = copy;
    entry->size = value.size;
    return KWR_OK;
}

static kwr_status model_modify(kwr_engine *engine, const kwr_address *at, size_t size, void **out,
                               size_t *old_size) {
    kwr_status status = begin(engine, at);
    if (status < KWR_OK) return status;
    size_t place;
    size_t before = SIZE_MAX;
    const bool found = find(&engine->entries, at, &place);
    if (!found) {
        status = insert(engine, at, place, NULL, 0);
        if (status < KWR_OK) return status;
    } else {
        before = engine->entries.at[place]->size;
    }
    model_entry *entry = engine->entries.at[place];
    const size_t want = size == SIZE_MAX ? entry->size : size;
    uint8_t *value = (uint8_t *)kwr_calloc(engine->config.env, want);
    if (value == NULL) {
        if (!found) {
            entry_free(engine->config.env, entry);
            engine->entries.count--;
            memmove(&engine->entries.at[place], &engine->entries.at[place + 1],
                    (engine->entries.count - place) * sizeof *engine->entries.at);
        }
        return KWR_ERR_NOMEM;
    }
    const size_t keep = entry->size < want ? entry->size : want;
    if (keep > 0) memcpy(value, entry->value, keep);
    kwr_free(engine->config.env, entry->value, entry->size);
    entry->value = value;
    entry->size = want;
    engine->lent[at->state] = entry;
    *out = value;
    *old_size = before;
    return KWR_OK;
}

static kwr_status model_remove(kwr_engine *engine, const kwr_address *at) {
    const kwr_status status = begin(engine, at);
    if (status < KWR_OK) return status;
    size_t place;
    if (!find(&engine->entries, at, &place)) return KWR_NOT_FOUND;
    model_entries *entries = &engine->entries;
    entry_free(entries->env, entries->at[place]);
    entries->count--;
    memmove(&entries->at[place], &entries->at[place + 1],
            (entries->count - place) * sizeof *entries->at);
    return KWR_OK;
}

static void model_prefetch(kwr_engine *engine, kwr_address *at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        check_address(engine, &at[i]);
        kwr_engine_hint *hint = (kwr_engine_hint *)at[i].hint;
        if (hint == NULL) continue;
        hint->stamp = engine->stamp;
        hint->extra = at[i].entry_hash;
    }
}

static kwr_status model_freeze(kwr_engine *engine, kwr_engine_view **out) {
    for (uint32_t state = 0; state < engine->states; state++) {
        const kwr_status status = end_borrow(engine, state);
        if (status < KWR_OK) return status;
    }
    const kwr_env *env = engine->config.env;
    kwr_engine_view *view = (kwr_engine_view *)kwr_calloc(env, sizeof *view);
    if (view == NULL) return KWR_ERR_NOMEM;
    view->entries.env = env;
    bool whole = entries_reserve(&view->entries, engine->entries.count);
    for (size_t i = 0; whole && i < engine->entries.count; i++) {
        const model_entry *from = engine->entries.at[i];
        const kwr_address at = {
            .state = from->state, .key_group = from->key_group, .key = from->key, .name = from->name
        };
        model_entry *copy = entry_new(env, &at, from->value, from->size);
        whole = copy != NULL;
        if (whole) view->entries.at[view->entries.count++] = copy;
    }
    if (!whole) {
        entries_free(&view->entries);
        kwr_free(env, view, sizeof *view);
        return KWR_ERR_NOMEM;
    }
    *out = view;
    return KWR_OK;
}

static void model_view_release(kwr_engine_view *view) {
    const kwr_env *env = view->entries.env;
    entries_free(&view->entries);
    kwr_free(env, view, sizeof *view);
}

static uint64_t entry_bytes(const model_entry *entry) {
    return entry->key.size + entry->name.size + entry->size;
}

static void model_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out) {
    *out = (kwr_state_count){ 0 };
    for (size_t i = 0; i < view->entries.count; i++) {
        if (view->entries.at[i]->state != state) continue;
        out->entries++;
        out->entry_bytes += entry_bytes(view->entries.at[i]);
    }
}

static kwr_status model_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                                  kwr_entry_fn fn, void *fn_ctx) {
    for (size_t i = 0; i < view->entries.count; i++) {
        const model_entry *at = view->entries.at[i];
        if (at->state != state || at->key_group != key_group) continue;
        const kwr_entry entry = { .state = state,
                                  .key_group = key_group,
                                  .key = at->key,
                                  .name = at->name,
                                  .value = { at->value, at->size } };
        const kwr_status status = fn(fn_ctx, &entry);
        if (status < KWR_OK) return status;
    }
    return KWR_OK;
}

/* ---- no pages, no native snapshots ---- */

static kwr_status model_view_images(kwr_engine_view *view, uint32_t key_group,
                                    kwr_page_sink *sink) {
    (void)view, (void)key_group, (void)sink;
    return KWR_ERR_UNSUPPORTED;
}
static kwr_status model_restore_begin(kwr_engine *engine, uint64_t seed) {
    (void)engine, (void)seed;
    return KWR_ERR_UNSUPPORTED;
}
static kwr_status model_install(kwr_engine *engine, const kwr_page_image *image, kwr_error *err) {
    (void)engine, (void)image, (void)err;
    return KWR_ERR_UNSUPPORTED;
}
static kwr_status model_restore_end(kwr_engine *engine, kwr_error *err) {
    (void)engine, (void)err;
    return KWR_ERR_UNSUPPORTED;
}

static bool model_maintain(kwr_engine *engine, uint64_t max_ns) {
    (void)engine, (void)max_ns;
    return false;
}

static void model_stats(const kwr_engine *engine, kwr_backend_stats *out) {
    out->entries = engine->entries.count;
    for (size_t i = 0; i < engine->entries.count; i++)
        out->entry_bytes += entry_bytes(engine->entries.at[i]);
}

const kwr_engine_ops model_engine_ops = {
    .name = "model",
    .native = "none",
    .open = model_open,
    .close = model_close,
    .add_state = model_add_state,
    .get = model_get,
    .put = model_put,
    .modify = model_modify,
    .remove = model_remove,
    .prefetch = model_prefetch,
    .freeze = model_freeze,
    .view_release = model_view_release,
    .view_count = model_view_count,
    .view_walk = model_view_walk,
    .view_images = model_view_images,
    .restore_begin = model_restore_begin,
    .install = model_install,
    .restore_end = model_restore_end,
    .maintain = model_maintain,
    .stats = model_stats,
};
