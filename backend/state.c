/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all state handles share: opening by name, the namespace, the address of the current entry,
 * size checks, and the words for what an engine reports only as a status.
 */
#include <stdio.h>

#include "backend/core.h"
#include "base/memory.h"
#include "base/name.h"

enum { TYPE_TEXT = 150, STATE_TEXT = 2 * TYPE_TEXT + 50 };

/* ---- opening ---- */

static kwr_status check_name(kwr_backend *backend, const char *name) {
    kwr_error *err = &backend->error;
    const size_t most = backend->limits.name_bytes_max;
    const size_t size = name == NULL ? 0 : strnlen(name, most + 1);
    if (size == 0) return KWR_FAIL(err, KWR_ERR_RANGE, 0, "a state needs a name");
    if (size > most)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "the state name that starts with '%.32s' is longer than "
                        "limits.name_bytes_max, which is %zu",
                        name, most);
    if (!kwr_utf8_ok(name, size))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "a state name must be UTF-8");
    return KWR_OK;
}

static kwr_status check_wanted(kwr_backend *backend, const kwr_state_info *wanted) {
    KWR_TRY(check_name(backend, wanted->name));
    char what[300];
    (void)snprintf(what, sizeof what, "the type of state '%s'", wanted->name);
    KWR_TRY(kwr_type_check(&wanted->type, what, &backend->error));
    (void)snprintf(what, sizeof what, "the namespace type of state '%s'", wanted->name);
    KWR_TRY(kwr_type_check_key(&wanted->namespace_type, what, &backend->error));
    (void)snprintf(what, sizeof what, "the user key type of state '%s'", wanted->name);
    KWR_TRY(kwr_type_check_key(&wanted->user_key_type, what, &backend->error));
    if (!kwr_state_is_collection(wanted->kind) || backend->ops->sub_get != NULL) return KWR_OK;
    return KWR_FAIL(&backend->error, KWR_ERR_UNSUPPORTED, 0,
                    "state '%s': the engine '%s' has no %s state", wanted->name, backend->ops->name,
                    kwr_state_kind_name(wanted->kind));
}

/* "value of i64", "map of string to i64", "list of bytes (split)". */
static void describe(const kwr_state_info *info, char *out, size_t capacity) {
    char key[TYPE_TEXT] = "", type[TYPE_TEXT];
    kwr_type_text(&info->type, type, sizeof type);
    if (info->kind == KWR_STATE_MAP) kwr_type_text(&info->user_key_type, key, sizeof key);
    const char *how = kwr_redistribution_name(info->redistribution);
    const bool keyed = info->redistribution == KWR_REDISTRIBUTE_KEYED;
    (void)snprintf(out, capacity, "%s of %s%s%s%s%s%s", kwr_state_kind_name(info->kind), key,
                   key[0] == '\0' ? "" : " to ", type, keyed ? "" : " (", keyed ? "" : how,
                   keyed ? "" : ")");
}

static bool same_kind(const kwr_state_info *a, const kwr_state_info *b) {
    return a->kind == b->kind && kwr_type_same(&a->type, &b->type) &&
           kwr_type_same(&a->user_key_type, &b->user_key_type) &&
           a->redistribution == b->redistribution;
}

static kwr_status check_same(kwr_backend *backend, const kwr_state_info *stored,
                             const kwr_state_info *wanted) {
    char a[STATE_TEXT], b[STATE_TEXT];
    if (!same_kind(stored, wanted)) {
        describe(stored, a, sizeof a);
        describe(wanted, b, sizeof b);
        return KWR_FAIL(&backend->error, KWR_ERR_MISMATCH, 0,
                        "state '%s' is stored as %s, opened as %s", stored->name, a, b);
    }
    if (!kwr_type_same(&stored->namespace_type, &wanted->namespace_type)) {
        kwr_type_text(&stored->namespace_type, a, sizeof a);
        kwr_type_text(&wanted->namespace_type, b, sizeof b);
        return KWR_FAIL(&backend->error, KWR_ERR_MISMATCH, 0,
                        "state '%s' is stored with namespaces of %s, opened with namespaces of %s",
                        stored->name, a, b);
    }
    return KWR_OK;
}

static kwr_status no_memory(kwr_backend *backend, const char *name) {
    return KWR_FAIL(&backend->error, KWR_ERR_NOMEM, 0, "no memory to open state '%s'", name);
}

static void handle_fill(kwr_state *handle, kwr_backend *backend, const kwr_state_info *info) {
    handle->backend = backend;
    handle->ops = backend->ops;
    handle->engine = backend->engine;
    handle->at.state = info->id;
    handle->fixed_size = kwr_type_fixed_size(&info->type);
    handle->value_bytes_max = backend->limits.value_bytes_max;
    handle->name_fixed_size = kwr_type_fixed_size(&info->namespace_type);
    handle->name_hash = kwr_namespace_hash((kwr_slice){ 0 });
    handle->label = info->name;
    handle->kind = info->kind;
}

static kwr_status add_state(kwr_backend *backend, const kwr_state_info *wanted) {
    const size_t count = backend->registry.table.count;
    if (count >= backend->limits.states_max)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "state '%s' would be number %zu, limits.states_max is %u", wanted->name,
                        count + 1, backend->limits.states_max);
    kwr_state_info info = *wanted;
    info.id = (uint32_t)count;
    if (backend->ops->add_state(backend->engine, &info) < KWR_OK ||
        kwr_registry_add(&backend->registry, wanted) < KWR_OK)
        return no_memory(backend, wanted->name);
    return KWR_OK;
}

static bool room_for_handle(kwr_backend *backend, size_t id) {
    const size_t before = backend->handles_capacity;
    void *handles = backend->handles;
    const bool grown = kwr_grow_array(backend->env, &handles, &backend->handles_capacity, id + 1,
                                      sizeof *backend->handles);
    backend->handles = (kwr_state **)handles;
    if (backend->handles_capacity > before)
        memset(backend->handles + before, 0,
               (backend->handles_capacity - before) * sizeof *backend->handles);
    return grown;
}

/* A new handle of a known or a new state; the registry is changed last, when nothing can fail. */
static kwr_status new_handle(kwr_backend *backend, const kwr_state_info *stored,
                             const kwr_state_info *wanted, size_t handle_size, kwr_state **out) {
    const size_t id = stored != NULL ? stored->id : backend->registry.table.count;
    if (!room_for_handle(backend, id)) return no_memory(backend, wanted->name);
    kwr_state *handle = (kwr_state *)kwr_calloc(backend->env, handle_size);
    if (handle == NULL) return no_memory(backend, wanted->name);
    handle->handle_size = handle_size;
    kwr_status status = KWR_OK;
    if (stored == NULL) {
        status = add_state(backend, wanted);
    } else if (!kwr_type_same_labels(&stored->type, &wanted->type)) {
        status = kwr_registry_relabel(&backend->registry, stored->id, &wanted->type);
        if (status < KWR_OK) (void)no_memory(backend, wanted->name);
    }
    if (status < KWR_OK) {
        kwr_free(backend->env, handle, handle_size);
        return status;
    }
    handle_fill(handle, backend, &backend->registry.table.states[id]);
    backend->handles[id] = handle;
    *out = handle;
    return KWR_OK;
}

static kwr_status open_state(kwr_backend *backend, const kwr_state_info *wanted, size_t handle_size,
                             kwr_state **out, bool *fresh) {
    KWR_TRY(check_wanted(backend, wanted));
    const kwr_state_info *stored = kwr_registry_find(&backend->registry, wanted->name);
    if (stored != NULL) KWR_TRY(check_same(backend, stored, wanted));
    if (stored != NULL && stored->id < backend->handles_capacity &&
        backend->handles[stored->id] != NULL) {
        *out = backend->handles[stored->id];
        *fresh = false;
        return KWR_OK;
    }
    KWR_TRY(new_handle(backend, stored, wanted, handle_size, out));
    *fresh = true;
    return KWR_OK;
}

kwr_status kwr_state_open(kwr_backend *backend, const kwr_state_info *wanted, size_t handle_size,
                          kwr_state **out, bool *fresh, kwr_error *err) {
    const kwr_status status = open_state(backend, wanted, handle_size, out, fresh);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

void kwr_state_free(kwr_state *state) {
    if (state == NULL) return;
    if (state->done != NULL) state->done(state);
    kwr_kept_free(state->backend->env, &state->name_copy);
    kwr_free(state->backend->env, state, state->handle_size);
}

/* ---- addresses ---- */

static kwr_status check_namespace(kwr_state *state, kwr_slice name) {
    kwr_backend *backend = state->backend;
    if (name.size > backend->limits.namespace_bytes_max)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': the namespace has %zu bytes, limits.namespace_bytes_max is "
                        "%zu",
                        state->label, name.size, backend->limits.namespace_bytes_max);
    if (name.size != 0 && state->name_fixed_size != 0 && name.size != state->name_fixed_size)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': a namespace is empty or has the %zu bytes of its type, not "
                        "%zu",
                        state->label, state->name_fixed_size, name.size);
    return KWR_OK;
}

kwr_status kwr_state_set_namespace(kwr_state *state, kwr_slice name) {
    kwr_backend *backend = state->backend;
    KWR_TRY(check_namespace(state, name));
    const kwr_state_info *info = &backend->registry.table.states[state->at.state];
    if (name.size != 0 && info->redistribution != KWR_REDISTRIBUTE_KEYED)
        return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                        "state '%s' is operator state: it has no namespaces", state->label);
    const uint64_t hash = kwr_namespace_hash(name);
    if (!kwr_kept_set(backend->env, &state->name_copy, name))
        return KWR_FAIL(&backend->error, KWR_ERR_NOMEM, 0,
                        "state '%s': no memory for a namespace of %zu bytes", state->label,
                        name.size);
    state->at.name = (kwr_slice){ state->name_copy.data, state->name_copy.size };
    state->name_hash = hash;
    state->key_serial = 0;
    return KWR_OK;
}

static kwr_status no_key(kwr_state *state) {
    return KWR_FAIL(&state->backend->error, KWR_ERR_MISUSE, 0,
                    "state '%s': there is no current key; set one by kwr_backend_set_key() or "
                    "kwr_key_batch_select()",
                    state->label);
}

kwr_status kwr_state_address(kwr_state *state) {
    const kwr_backend *backend = state->backend;
    if (!backend->has_key) return no_key(state);
    state->at.key_group = backend->key_group;
    state->at.entry_hash = kwr_entry_hash(backend->key_hash, state->name_hash);
    kwr_slice_pass(&state->at.key, &backend->key);
    state->at.hint = kwr_key_batch_hint(backend->key_batch, backend->key_index, state->at.state,
                                        state->name_hash);
    state->key_serial = backend->key_serial;
    return KWR_OK;
}

kwr_status kwr_state_address_in(kwr_state *state, kwr_slice name, kwr_address *out) {
    const kwr_backend *backend = state->backend;
    if (!backend->has_key) return no_key(state);
    KWR_TRY(check_namespace(state, name));
    *out = (kwr_address){
        .state = state->at.state,
        .key_group = backend->key_group,
        .entry_hash = kwr_entry_hash(backend->key_hash, kwr_namespace_hash(name)),
        .key = backend->key,
        .name = name,
    };
    return KWR_OK;
}

/* ---- what went wrong ---- */

kwr_status kwr_state_failed(kwr_state *state, kwr_status status, const char *verb) {
    kwr_error *err = &state->backend->error;
    if (status == KWR_ERR_NOMEM)
        return KWR_FAIL(err, status, 0,
                        "state '%s': no memory to %s; release views, or raise memory_bytes_max",
                        state->label, verb);
    const char *detail = state->ops->detail == NULL ? "" : state->ops->detail(state->engine);
    if (status == KWR_ERR_CORRUPT)
        return KWR_FAIL(err, status, 0,
                        "state '%s': what is stored is damaged; close, and start again from a "
                        "checkpoint%s%s",
                        state->label, detail[0] == '\0' ? "" : ": ", detail);
    return KWR_FAIL(err, status, 0, "state '%s': the engine '%s' could not %s: %s%s%s",
                    state->label, state->ops->name, verb, kwr_status_name(status),
                    detail[0] == '\0' ? "" : ": ", detail);
}

kwr_status kwr_state_size_refused(kwr_state *state, size_t size) {
    kwr_error *err = &state->backend->error;
    if (state->fixed_size != 0) {
        const kwr_type *type = &state->backend->registry.table.states[state->at.state].type;
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "state '%s': a value of type %s has %zu bytes, not "
                        "%zu",
                        state->label, kwr_type_kind_name(type->kind), state->fixed_size, size);
    }
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "state '%s': the value has %zu bytes, limits.value_bytes_max is %zu",
                    state->label, size, state->value_bytes_max);
}

kwr_status kwr_state_clear(kwr_state *state) {
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->remove(state->engine, &state->at);
    return status < KWR_OK ? kwr_state_failed(state, status, "remove") : KWR_OK;
}
