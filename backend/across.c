/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Across keys: walks over a frozen view, whether the caller's or one made for the call. Elements of
 * a collection follow each other in a walk, so a key and namespace are news when they differ from
 * those met before: nothing is collected, whatever the number of keys.
 */
#include "keyweir/across.h"

#include "backend/core.h"
#include "backend/timer_key.h"
#include "base/memory.h"

KWR_DEFINE_CLEANUP(kwr_view, kwr_view_release)

/* ---- walking ---- */

typedef struct walk {
    const kwr_view *view;
    const kwr_state_info *info;
    bool one_name; /* only this namespace */
    kwr_slice name;
    kwr_key_fn fn;
    void *fn_ctx;
    /* the entry met last, of collections: its elements follow */
    bool met;
    size_t met_key_size;
    kwr_kept met_bytes; /* key | namespace */
    kwr_status ended;   /* not KWR_OK: what the caller's function ended it with */
} walk;

static bool same(kwr_slice a, const uint8_t *data, size_t size) {
    return a.size == size && (size == 0 || memcmp(a.data, data, size) == 0);
}

static bool met_before(const walk *w, const kwr_entry *entry) {
    const kwr_kept *met = &w->met_bytes;
    if (!w->met || entry->key.size != w->met_key_size) return false;
    return same(entry->key, met->data, w->met_key_size) &&
           same(entry->name, met->data + w->met_key_size, met->size - w->met_key_size);
}

static kwr_status note(walk *w, const kwr_entry *entry) {
    kwr_kept *met = &w->met_bytes;
    const size_t size = entry->key.size + entry->name.size;
    if (!kwr_kept_reserve(w->view->env, met, size == 0 ? 1 : size)) return KWR_ERR_NOMEM;
    if (entry->key.size > 0) memcpy(met->data, entry->key.data, entry->key.size);
    if (entry->name.size > 0)
        memcpy(met->data + entry->key.size, entry->name.data, entry->name.size);
    met->size = size;
    w->met_key_size = entry->key.size;
    w->met = true;
    return KWR_OK;
}

/* Ends the engine's walk by a failure, the only way it knows. */
static kwr_status end(walk *w, kwr_status status) {
    w->ended = status;
    return KWR_ERR_CANCELLED;
}

static kwr_status on_key(void *ctx, const kwr_entry *entry) {
    walk *w = (walk *)ctx;
    if (w->one_name && !same(entry->name, (const uint8_t *)w->name.data, w->name.size))
        return KWR_OK;
    if (kwr_state_is_collection(w->info->kind)) {
        if (met_before(w, entry)) return KWR_OK;
        KWR_TRY(note(w, entry));
    }
    const kwr_status status = w->fn(w->fn_ctx, entry->key, entry->key_group, entry->name);
    return status == KWR_OK ? KWR_OK : end(w, status);
}

static kwr_status no_such_state(const kwr_view *view, size_t state, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the view has no state number %zu, only %zu states",
                    state, view->table->count);
}

static kwr_status walk_failed(const walk *w, kwr_status status, kwr_error *err) {
    if (status == KWR_ERR_NOMEM)
        return KWR_FAIL(err, status, 0, "state '%s': no memory to walk its keys", w->info->name);
    return KWR_FAIL(err, status, 0, "state '%s': a walk of its keys ended with %s", w->info->name,
                    kwr_status_name(status));
}

static kwr_status walk_groups(walk *w, kwr_error *err) {
    const kwr_view *view = w->view;
    for (uint32_t i = 0; i < view->key_groups.count; i++) {
        const uint32_t group = view->key_groups.first + i;
        w->met = false;
        const kwr_status status =
            view->ops->view_walk(view->engine_view, w->info->id, group, on_key, w);
        if (w->ended != KWR_OK) return w->ended;
        if (status < KWR_OK) return walk_failed(w, status, err);
    }
    return KWR_OK;
}

static kwr_status walk_state(const kwr_view *view, size_t state, const kwr_slice *name,
                             kwr_key_fn fn, void *fn_ctx, kwr_error *err) {
    if (state >= view->table->count) return no_such_state(view, state, err);
    KWR_TRY(kwr_view_use(view, false, err));
    walk w = { .view = view,
               .info = &view->table->states[state],
               .one_name = name != NULL,
               .fn = fn,
               .fn_ctx = fn_ctx };
    if (name != NULL) w.name = *name;
    if (kwr_state_is_per_group(w.info->kind))
        return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                        "state '%s': %s state is kept by key group and has no keys", w.info->name,
                        kwr_state_kind_name(w.info->kind));
    const kwr_status status = walk_groups(&w, err);
    kwr_kept_free(view->env, &w.met_bytes);
    return status;
}

/* `fn` may release the view it is called from. */
static kwr_status walk_keys(const kwr_view *view, size_t state, const kwr_slice *name,
                            kwr_key_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_view_enter(view);
    const kwr_status status = walk_state(view, state, name, fn, fn_ctx, err);
    kwr_view_leave(view);
    return status;
}

/* ---- sizes ---- */

/* As much of `all` as the caller's struct has room for. */
static void size_out(const kwr_state_count *count, kwr_state_size *out) {
    const kwr_state_size all = { .struct_size = sizeof all,
                                 .entries = count->entries,
                                 .elements = count->elements,
                                 .bytes = count->entry_bytes };
    const size_t size = out->struct_size < sizeof all ? out->struct_size : sizeof all;
    if (size <= sizeof all.struct_size) return;
    memcpy((uint8_t *)out + sizeof all.struct_size, (const uint8_t *)&all + sizeof all.struct_size,
           size - sizeof all.struct_size);
}

typedef struct group_size {
    walk keys; /* tells whether an element begins an entry */
    kwr_state_count count;
} group_size;

static kwr_status on_counted(void *ctx, const kwr_entry *entry) {
    group_size *g = (group_size *)ctx;
    kwr_state_count *count = &g->count;
    bool begins = true;
    if (kwr_state_is_collection(g->keys.info->kind)) {
        begins = !met_before(&g->keys, entry);
        if (begins) KWR_TRY(note(&g->keys, entry));
        count->elements++;
    }
    count->entries += begins;
    if (begins) count->entry_bytes += entry->key.size + entry->name.size;
    count->entry_bytes += entry->subkey.size + entry->value.size;
    return KWR_OK;
}

static kwr_status check_group(const kwr_view *view, const kwr_state_info *info, uint32_t key_group,
                              kwr_error *err) {
    const kwr_key_group_range owned = view->key_groups;
    if (key_group - owned.first < owned.count) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "state '%s': key group %u is not among the owned %u to %u", info->name,
                    key_group, owned.first, owned.first + owned.count - 1);
}

/* What is met in one key group, added to *sum. */
static kwr_status add_group(const kwr_view *view, const kwr_state_info *info, uint32_t key_group,
                            kwr_state_count *sum, kwr_error *err) {
    group_size g = { .keys = { .view = view, .info = info }, .count = *sum };
    const kwr_status status =
        view->ops->view_walk(view->engine_view, info->id, key_group, on_counted, &g);
    kwr_kept_free(view->env, &g.keys.met_bytes);
    if (status < KWR_OK) return walk_failed(&g.keys, status, err);
    *sum = g.count;
    return KWR_OK;
}

static kwr_status count_group(const kwr_view *view, size_t state, uint32_t key_group,
                              kwr_state_size *out, kwr_error *err) {
    if (state >= view->table->count) return no_such_state(view, state, err);
    const kwr_state_info *info = &view->table->states[state];
    kwr_state_count count = { 0 };
    KWR_TRY(check_group(view, info, key_group, err));
    KWR_TRY(kwr_view_use(view, false, err));
    KWR_TRY(add_group(view, info, key_group, &count, err));
    size_out(&count, out);
    return KWR_OK;
}

kwr_status kwr_view_get_group_size(const kwr_view *view, size_t state, uint32_t key_group,
                                   kwr_state_size *out, kwr_error *err) {
    kwr_view_enter(view);
    const kwr_status status = count_group(view, state, key_group, out, err);
    kwr_view_leave(view);
    return status;
}

static kwr_status count_state(const kwr_view *view, size_t state, kwr_state_size *out,
                              kwr_error *err) {
    if (state >= view->table->count) return no_such_state(view, state, err);
    KWR_TRY(kwr_view_use(view, false, err));
    kwr_state_count count;
    const kwr_state_info *info = &view->table->states[state];
    const kwr_status status = view->ops->view_count(view->engine_view, info->id, &count);
    if (status < KWR_OK)
        return KWR_FAIL(err, status, 0, "state '%s' cannot be counted: the engine '%s' gave %s",
                        info->name, view->ops->name, kwr_status_name(status));
    if (count.estimated) {
        count = (kwr_state_count){ 0 };
        for (uint32_t i = 0; i < view->key_groups.count; i++)
            KWR_TRY(add_group(view, info, view->key_groups.first + i, &count, err));
    }
    size_out(&count, out);
    return KWR_OK;
}

kwr_status kwr_view_get_size(const kwr_view *view, size_t state, kwr_state_size *out,
                             kwr_error *err) {
    kwr_view_enter(view);
    const kwr_status status = count_state(view, state, out, err);
    kwr_view_leave(view);
    return status;
}

/* ---- a frozen view ---- */

size_t kwr_view_state_count(const kwr_view *view) { return view->table->count; }

kwr_key_group_range kwr_view_key_groups(const kwr_view *view) { return view->key_groups; }

kwr_status kwr_view_get_state(const kwr_view *view, size_t state, kwr_view_state *out,
                              kwr_error *err) {
    if (state >= view->table->count) return no_such_state(view, state, err);
    const kwr_state_info *info = &view->table->states[state];
    const kwr_view_state all = {
        .struct_size = sizeof all,
        .name = info->name,
        .kind = kwr_state_kind_name(info->kind),
        .type = info->type,
        .namespace_type = info->namespace_type,
        .user_key_type = info->user_key_type,
    };
    const size_t size = out->struct_size < sizeof all ? out->struct_size : sizeof all;
    if (size > sizeof all.struct_size)
        memcpy((uint8_t *)out + sizeof all.struct_size,
               (const uint8_t *)&all + sizeof all.struct_size, size - sizeof all.struct_size);
    return KWR_OK;
}

kwr_status kwr_view_find_state(const kwr_view *view, const char *name, size_t *state) {
    for (size_t i = 0; i < view->table->count; i++) {
        if (strcmp(view->table->states[i].name, name) != 0) continue;
        *state = i;
        return KWR_OK;
    }
    return KWR_NOT_FOUND;
}

kwr_status kwr_view_keys(const kwr_view *view, size_t state, kwr_slice name, kwr_key_fn fn,
                         void *ctx, kwr_error *err) {
    return walk_keys(view, state, &name, fn, ctx, err);
}

kwr_status kwr_view_keys_and_namespaces(const kwr_view *view, size_t state, kwr_key_fn fn,
                                        void *ctx, kwr_error *err) {
    return walk_keys(view, state, NULL, fn, ctx, err);
}

typedef struct entry_walk {
    walk walk; /* only what names the state, and how it ended */
    kwr_view_entry_fn fn;
    void *fn_ctx;
} entry_walk;

static kwr_status on_entry(void *ctx, const kwr_entry *entry) {
    entry_walk *e = (entry_walk *)ctx;
    kwr_view_entry out = { .key_group = entry->key_group,
                           .key = entry->key,
                           .name = entry->name,
                           .subkey = entry->subkey,
                           .value = entry->value };
    if (e->walk.info->kind == KWR_STATE_TIMER) {
        int64_t time_ms;
        if (!kwr_timer_decode(entry->subkey, &time_ms, &out.key, &out.name)) return KWR_ERR_CORRUPT;
        out.subkey.size = KWR_TIMER_TIME_BYTES;
    }
    const kwr_status status = e->fn(e->fn_ctx, &out);
    return status == KWR_OK ? KWR_OK : end(&e->walk, status);
}

static kwr_status walk_entries(const kwr_view *view, size_t state, uint32_t key_group,
                               kwr_view_entry_fn fn, void *ctx, kwr_error *err) {
    if (state >= view->table->count) return no_such_state(view, state, err);
    const kwr_state_info *info = &view->table->states[state];
    KWR_TRY(check_group(view, info, key_group, err));
    KWR_TRY(kwr_view_use(view, false, err));
    entry_walk e = { .walk = { .view = view, .info = info }, .fn = fn, .fn_ctx = ctx };
    const kwr_status status =
        view->ops->view_walk(view->engine_view, info->id, key_group, on_entry, &e);
    if (e.walk.ended != KWR_OK) return e.walk.ended;
    return status < KWR_OK ? walk_failed(&e.walk, status, err) : KWR_OK;
}

kwr_status kwr_view_entries(const kwr_view *view, size_t state, uint32_t key_group,
                            kwr_view_entry_fn fn, void *ctx, kwr_error *err) {
    kwr_view_enter(view);
    const kwr_status status = walk_entries(view, state, key_group, fn, ctx, err);
    kwr_view_leave(view);
    return status;
}

/* ---- the live backend ---- */

kwr_status kwr_state_keys(kwr_state *state, kwr_key_fn fn, void *ctx) {
    kwr_backend *backend = state->backend;
    KWR_CLEANUP(kwr_view_release_p) kwr_view *view = NULL;
    /* The callback may set another namespace. */
    kwr_kept name = { 0 };
    if (!kwr_kept_set(backend->env, &name, state->at.name))
        return KWR_FAIL(&backend->error, KWR_ERR_NOMEM, 0, "state '%s': no memory to walk its keys",
                        state->label);
    kwr_status status = kwr_backend_freeze(backend, &view);
    if (status >= KWR_OK)
        status = kwr_view_keys(view, state->at.state, (kwr_slice){ name.data, name.size }, fn, ctx,
                               &backend->error);
    kwr_kept_free(backend->env, &name);
    return status;
}

kwr_status kwr_state_keys_and_namespaces(kwr_state *state, kwr_key_fn fn, void *ctx) {
    kwr_backend *backend = state->backend;
    KWR_CLEANUP(kwr_view_release_p) kwr_view *view = NULL;
    KWR_TRY(kwr_backend_freeze(backend, &view));
    return kwr_view_keys_and_namespaces(view, state->at.state, fn, ctx, &backend->error);
}

kwr_status kwr_state_get_size(kwr_state *state, kwr_state_size *out) {
    kwr_backend *backend = state->backend;
    KWR_CLEANUP(kwr_view_release_p) kwr_view *view = NULL;
    KWR_TRY(kwr_backend_freeze(backend, &view));
    return kwr_view_get_size(view, state->at.state, out, &backend->error);
}

kwr_status kwr_state_get_group_size(kwr_state *state, uint32_t key_group, kwr_state_size *out) {
    kwr_backend *backend = state->backend;
    KWR_CLEANUP(kwr_view_release_p) kwr_view *view = NULL;
    KWR_TRY(kwr_backend_freeze(backend, &view));
    return kwr_view_get_group_size(view, state->at.state, key_group, out, &backend->error);
}

/* ---- a call for each key ---- */

typedef struct applying {
    kwr_backend *backend;
    kwr_key_fn fn;
    void *fn_ctx;
} applying;

/* The key stays where the view has it while `fn` runs. */
static kwr_status apply_one(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    const applying *a = (const applying *)ctx;
    kwr_key_become(a->backend, key, kwr_key_hash(key, a->backend->seed), key_group);
    return a->fn(a->fn_ctx, key, key_group, name);
}

kwr_status kwr_state_apply(kwr_state *state, kwr_key_fn fn, void *ctx) {
    kwr_backend *backend = state->backend;
    const bool had_key = backend->has_key;
    const uint64_t hash = backend->key_hash;
    const uint32_t key_group = backend->key_group;
    kwr_kept key = { 0 };
    if (had_key && !kwr_kept_set(backend->env, &key, backend->key))
        return KWR_FAIL(&backend->error, KWR_ERR_NOMEM, 0, "no memory for a key of %zu bytes",
                        backend->key.size);
    applying a = { .backend = backend, .fn = fn, .fn_ctx = ctx };
    const kwr_status status = kwr_state_keys(state, apply_one, &a);
    if (!had_key) {
        kwr_key_drop(backend);
        return status;
    }
    /* Nothing may fail any more: the copy takes the place of the backend's own. */
    kwr_kept_free(backend->env, &backend->key_copy);
    backend->key_copy = key;
    kwr_key_become(backend, (kwr_slice){ key.data, key.size }, hash, key_group);
    return status;
}
