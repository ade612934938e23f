/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen views: the engine's view, the states of that moment, and what both need to stay alive. */
#include "backend/view.h"

#include "backend/core.h"
#include "backend/resources.h"
#include "base/memory.h"

void kwr_backend_shared_release(kwr_backend_shared *shared) {
    if (shared == NULL) return;
    if (atomic_fetch_sub_explicit(&shared->refs, 1, memory_order_acq_rel) != 1) return;
    const kwr_env *env = shared->env;
    kwr_type_free(env, &shared->key_type);
    kwr_resources_release(shared->resources);
    kwr_free(env, shared, sizeof *shared);
}

/* Counts one more view in, unless there are as many as may be. */
static bool count_in(kwr_backend *backend) {
    kwr_backend_shared *shared = backend->shared;
    const uint32_t alive = atomic_load_explicit(&shared->views, memory_order_acquire);
    if (alive >= backend->limits.views_max) return false; /* only this thread ever adds */
    atomic_fetch_add_explicit(&shared->views, 1, memory_order_relaxed);
    return true;
}

static kwr_status engine_freeze(kwr_backend *backend, bool files, kwr_engine_view **out) {
    const kwr_engine_ops *ops = backend->ops;
    if (files && ops->freeze_files != NULL) return ops->freeze_files(backend->engine, out);
    return ops->freeze(backend->engine, out);
}

static kwr_status freeze(kwr_backend *backend, bool files, kwr_view **out) {
    kwr_error *err = &backend->error;
    kwr_view *view = (kwr_view *)kwr_calloc(backend->env, sizeof *view);
    if (view == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a view");
    if (!count_in(backend)) {
        kwr_free(backend->env, view, sizeof *view);
        return KWR_FAIL(err, KWR_ERR_BUSY, 0,
                        "%u views are alive, limits.views_max: release one first",
                        backend->limits.views_max);
    }
    const kwr_status status = engine_freeze(backend, files, &view->engine_view);
    if (status < KWR_OK) {
        atomic_fetch_sub_explicit(&backend->shared->views, 1, memory_order_relaxed);
        kwr_free(backend->env, view, sizeof *view);
        if (status == KWR_ERR_NOMEM)
            return KWR_FAIL(err, status, 0,
                            "no memory to freeze; release views, or raise memory_bytes_max");
        const char *detail =
            backend->ops->detail == NULL ? "" : backend->ops->detail(backend->engine);
        return KWR_FAIL(err, status, 0, "freeze: the engine '%s' failed with %s%s%s",
                        backend->ops->name, kwr_status_name(status), detail[0] == '\0' ? "" : ": ",
                        detail);
    }
    atomic_fetch_add_explicit(&backend->shared->refs, 1, memory_order_relaxed);
    atomic_init(&view->users, 1);
    view->shared = backend->shared;
    view->env = backend->env;
    view->ops = backend->ops;
    view->states = kwr_registry_share(&backend->registry, &view->store);
    view->table = &view->states;
    view->max_parallelism = backend->max_parallelism;
    view->key_groups = backend->key_groups;
    view->seed = backend->seed;
    view->engine_key_groups = backend->engine_key_groups;
    view->key_type = backend->shared->key_type;
    view->limits = backend->limits;
    *out = view;
    return KWR_OK;
}

kwr_status kwr_backend_freeze(kwr_backend *backend, kwr_view **out) {
    return freeze(backend, false, out);
}

kwr_status kwr_backend_freeze_files(kwr_backend *backend, kwr_view **out) {
    return freeze(backend, true, out);
}

static void free_view(kwr_view *view) {
    const kwr_env *env = view->env;
    view->ops->view_release(view->engine_view);
    kwr_state_store_release(view->store);
    atomic_fetch_sub_explicit(&view->shared->views, 1, memory_order_release);
    kwr_backend_shared_release(view->shared);
    kwr_free(env, view, sizeof *view);
}

/* The count is no part of what a view shows: callers hold views const. */
static kwr_view *counted(const kwr_view *view) { return (kwr_view *)(uintptr_t)view; }

void kwr_view_enter(const kwr_view *view) {
    atomic_fetch_add_explicit(&counted(view)->users, 1, memory_order_relaxed);
}

void kwr_view_leave(const kwr_view *view) {
    if (atomic_fetch_sub_explicit(&counted(view)->users, 1, memory_order_acq_rel) == 1)
        free_view(counted(view));
}

kwr_status kwr_view_use(const kwr_view *view, bool last, kwr_error *err) {
    const bool spent =
        last ? atomic_exchange(&counted(view)->spent, true) : atomic_load(&counted(view)->spent);
    if (!spent) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                    "the view was written with kwr_snapshot_target.last_use: it can only be "
                    "released");
}

void kwr_view_release(kwr_view *view) {
    if (view != NULL) kwr_view_leave(view);
}
