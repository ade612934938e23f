/* SPDX-License-Identifier: Apache-2.0 */
/* See model_engine.h: opening, plain values, views, and the table of operations. */
#include "tests/conformance/model_engine.h"

#include <string.h>

#include "base/memory.h"
#include "tests/conformance/model_store.h"

struct kwr_engine_view {
    model_entries entries;
};

/* ---- the engine ---- */

static kwr_status model_open(const kwr_engine_config *config, kwr_engine **out, kwr_error *err) {
    (void)err;
    model_require(config->resources != NULL, "no resources");
    kwr_engine *engine = (kwr_engine *)kwr_calloc(config->env, sizeof *engine);
    if (engine == NULL) return KWR_ERR_NOMEM;
    engine->config = *config;
    engine->entries.env = config->env;
    engine->stamp = 1;
    *out = engine;
    return KWR_OK;
}

static void states_free(kwr_engine *engine) {
    kwr_free(engine->config.env, engine->lent, engine->states * sizeof *engine->lent);
    kwr_free(engine->config.env, engine->kinds, engine->states * sizeof *engine->kinds);
}

static void model_close(kwr_engine *engine) {
    const kwr_env *env = engine->config.env;
    model_entries_free(&engine->entries);
    states_free(engine);
    kwr_free(env, engine, sizeof *engine);
}

static kwr_status model_add_state(kwr_engine *engine, const kwr_state_info *info) {
    const size_t count = (size_t)info->id + 1;
    model_require(count <= engine->states + 1, "a state that is not the next");
    const kwr_env *env = engine->config.env;
    if (count > engine->states) {
        model_lent *lent = (model_lent *)kwr_calloc(env, count * sizeof *lent);
        kwr_state_kind *kinds = (kwr_state_kind *)kwr_calloc(env, count * sizeof *kinds);
        if (lent == NULL || kinds == NULL) {
            kwr_free(env, lent, count * sizeof *lent);
            kwr_free(env, kinds, count * sizeof *kinds);
            return KWR_ERR_NOMEM;
        }
        if (engine->states > 0) {
            memcpy(lent, engine->lent, engine->states * sizeof *lent);
            memcpy(kinds, engine->kinds, engine->states * sizeof *kinds);
        }
        states_free(engine);
        engine->lent = lent;
        engine->kinds = kinds;
        engine->states = count;
    }
    engine->kinds[info->id] = info->kind;
    return KWR_OK;
}

/* ---- plain values ---- */

static kwr_status model_get(kwr_engine *engine, const kwr_address *at, kwr_slice *out) {
    model_begin(engine, at, false);
    size_t place;
    if (!model_find(&engine->entries, at, &place)) return KWR_NOT_FOUND;
    model_entry *entry = engine->entries.at[place];
    engine->lent[at->state] = (model_lent){ .value = &entry->value };
    *out = model_slice(&entry->value);
    return KWR_OK;
}

static kwr_status insert(kwr_engine *engine, const kwr_address *at, size_t place, kwr_slice value) {
    model_entry *entry = model_entry_new(engine->config.env, at, value);
    if (entry == NULL) return KWR_ERR_NOMEM;
    if (model_entries_insert(&engine->entries, place, entry)) return KWR_OK;
    model_entry_free(engine->config.env, entry);
    return KWR_ERR_NOMEM;
}

static kwr_status model_put(kwr_engine *engine, const kwr_address *at, kwr_slice value) {
    model_begin(engine, at, false);
    size_t place;
    if (!model_find(&engine->entries, at, &place)) return insert(engine, at, place, value);
    model_entry *entry = engine->entries.at[place];
    model_bytes copy;
    if (!model_bytes_copy(engine->config.env, value, &copy)) return KWR_ERR_NOMEM;
    model_bytes_free(engine->config.env, &entry->value);
    entry->value = copy;
    return KWR_OK;
}

static kwr_status model_modify(kwr_engine *engine, const kwr_address *at, size_t size, void **out,
                               size_t *old_size) {
    model_begin(engine, at, false);
    const kwr_env *env = engine->config.env;
    size_t place;
    const bool found = model_find(&engine->entries, at, &place);
    const size_t before = found ? engine->entries.at[place]->value.size : 0;
    const size_t want = size == SIZE_MAX ? before : size;
    model_bytes value = { (uint8_t *)kwr_calloc(env, want), want };
    if (value.data == NULL) return KWR_ERR_NOMEM;
    if (!found) {
        const kwr_status status = insert(engine, at, place, (kwr_slice){ 0 });
        if (status < KWR_OK) {
            model_bytes_free(env, &value);
            return status;
        }
    }
    model_entry *entry = engine->entries.at[place];
    const size_t keep = before < want ? before : want;
    if (keep > 0) memcpy(value.data, entry->value.data, keep);
    model_bytes_free(env, &entry->value);
    entry->value = value;
    engine->lent[at->state] = (model_lent){ .value = &entry->value };
    *out = value.data;
    *old_size = found ? before : SIZE_MAX;
    return KWR_OK;
}

static kwr_status model_remove(kwr_engine *engine, const kwr_address *at) {
    model_check_address(engine, at);
    model_end_borrow(engine, at->state);
    size_t place;
    if (!model_find(&engine->entries, at, &place)) return KWR_NOT_FOUND;
    model_entries_remove(&engine->entries, place);
    return KWR_OK;
}

static void model_prefetch(kwr_engine *engine, kwr_address *at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        model_check_address(engine, &at[i]);
        kwr_engine_hint *hint = (kwr_engine_hint *)at[i].hint;
        if (hint == NULL) continue;
        hint->stamp = engine->stamp;
        hint->extra = at[i].entry_hash;
    }
}

/* ---- views ---- */

static void model_view_release(kwr_engine_view *view) {
    const kwr_env *env = view->entries.env;
    model_entries_free(&view->entries);
    kwr_free(env, view, sizeof *view);
}

static kwr_status model_freeze(kwr_engine *engine, kwr_engine_view **out) {
    for (uint32_t state = 0; state < engine->states; state++)
        model_end_borrow(engine, state);
    const kwr_env *env = engine->config.env;
    kwr_engine_view *view = (kwr_engine_view *)kwr_calloc(env, sizeof *view);
    if (view == NULL) return KWR_ERR_NOMEM;
    view->entries.env = env;
    bool whole = model_entries_reserve(&view->entries, engine->entries.count);
    for (size_t i = 0; whole && i < engine->entries.count; i++) {
        model_entry *copy = model_entry_copy(env, engine->entries.at[i]);
        whole = copy != NULL;
        if (whole) view->entries.at[view->entries.count++] = copy;
    }
    if (!whole) {
        model_view_release(view);
        return KWR_ERR_NOMEM;
    }
    *out = view;
    return KWR_OK;
}

static kwr_status model_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out) {
    *out = (kwr_state_count){ 0 };
    for (size_t i = 0; i < view->entries.count; i++) {
        if (view->entries.at[i]->state != state) continue;
        out->entries++;
        out->entry_bytes += model_entry_bytes(view->entries.at[i]);
        out->elements += view->entries.at[i]->element_count;
    }
    return KWR_OK;
}

/* A plain value is one entry met, a collection one for each element. */
static kwr_status walk_entry(const model_entry *at, kwr_entry_fn fn, void *fn_ctx) {
    kwr_entry entry = { .state = at->state,
                        .key_group = at->key_group,
                        .key = model_slice(&at->key),
                        .name = model_slice(&at->name),
                        .value = model_slice(&at->value) };
    if (at->element_count == 0) return fn(fn_ctx, &entry);
    for (size_t i = 0; i < at->element_count; i++) {
        entry.subkey = model_slice(&at->elements[i]->subkey);
        entry.value = model_slice(&at->elements[i]->value);
        const kwr_status status = fn(fn_ctx, &entry);
        if (status < KWR_OK) return status;
    }
    return KWR_OK;
}

static kwr_status model_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                                  kwr_entry_fn fn, void *fn_ctx) {
    for (size_t i = 0; i < view->entries.count; i++) {
        const model_entry *at = view->entries.at[i];
        if (at->state != state || at->key_group != key_group) continue;
        const kwr_status status = walk_entry(at, fn, fn_ctx);
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
        out->entry_bytes += model_entry_bytes(engine->entries.at[i]);
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
    .sub_get = model_sub_get,
    .sub_put = model_sub_put,
    .sub_modify = model_sub_modify,
    .sub_remove = model_sub_remove,
    .sub_append = model_sub_append,
    .sub_assign = model_sub_assign,
    .sub_seek = model_sub_seek,
    .sub_count = model_sub_count,
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
