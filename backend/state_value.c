/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value state: one value for each key and namespace, replaced as a whole or changed in place. A
 * default is read where nothing is stored, and only stored when it is modified.
 */
#include <string.h>

#include "backend/core.h"
#include "base/limits.h"
#include "keyweir/state.h"

struct kwr_value {
    kwr_state state;
    kwr_kept default_value;
    bool has_default;
};

/* ---- opening ---- */

static kwr_status check_default(const kwr_value_descriptor *wanted, const kwr_limits *limits,
                                kwr_error *err) {
    const char *name = wanted->name == NULL ? "" : wanted->name;
    const size_t size = wanted->default_value.size;
    const size_t fixed = kwr_type_fixed_size(&wanted->type);
    if (wanted->default_value.data == NULL) {
        if (size == 0) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "state '%.255s': a default value of %zu bytes without data", name, size);
    }
    if (fixed != 0 && size != fixed)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "state '%.255s': a default value of type %s has %zu bytes, not %zu", name,
                        kwr_type_kind_name(wanted->type.kind), fixed, size);
    if (size > limits->value_bytes_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "state '%.255s': the default value has %zu bytes, limits.value_bytes_max "
                        "is %zu",
                        name, size, limits->value_bytes_max);
    return KWR_OK;
}

static bool same_default(const kwr_value *open, kwr_slice wanted) {
    if (open->has_default != (wanted.data != NULL)) return false;
    return open->default_value.size == wanted.size &&
           (wanted.size == 0 || memcmp(open->default_value.data, wanted.data, wanted.size) == 0);
}

static void value_done(kwr_state *state) {
    kwr_kept_free(state->backend->env, &((kwr_value *)state)->default_value);
}

static kwr_status open_value(kwr_backend *backend, const kwr_value_descriptor *descriptor,
                             kwr_value **out) {
    kwr_error *err = &backend->error;
    kwr_value_descriptor wanted;
    KWR_TRY(kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_value_descriptor", err));
    KWR_TRY(check_default(&wanted, &backend->limits, err));
    const kwr_state_info info = {
        .kind = KWR_STATE_VALUE,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
    };
    /* Made before the state is, so that a failure leaves none behind. */
    kwr_kept copy = { 0 };
    if (!kwr_kept_set(backend->env, &copy, wanted.default_value))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open state '%.255s'",
                        wanted.name == NULL ? "" : wanted.name);
    kwr_state *state;
    bool fresh;
    const kwr_status status =
        kwr_state_open(backend, &info, sizeof(kwr_value), &state, &fresh, NULL);
    if (status < KWR_OK || !fresh) kwr_kept_free(backend->env, &copy);
    KWR_TRY(status);
    kwr_value *value = (kwr_value *)state;
    if (fresh) {
        state->done = value_done;
        value->default_value = copy;
        value->has_default = wanted.default_value.data != NULL;
    } else if (!same_default(value, wanted.default_value)) {
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "state '%s' is open with %s default value",
                        state->label, value->has_default ? "another" : "no");
    }
    *out = value;
    return KWR_OK;
}

kwr_status kwr_value_open(kwr_backend *backend, const kwr_value_descriptor *descriptor,
                          kwr_value **out, kwr_error *err) {
    const kwr_status status = open_value(backend, descriptor, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

/* ---- access ---- */

kwr_status kwr_value_set_namespace(kwr_value *value, kwr_slice name) {
    return kwr_state_set_namespace(&value->state, name);
}

kwr_status kwr_value_get(kwr_value *value, kwr_slice *out) {
    const kwr_status status = kwr_state_get(&value->state, out);
    if (status != KWR_NOT_FOUND || !value->has_default) return status;
    *out = (kwr_slice){ value->default_value.data, value->default_value.size };
    return KWR_OK;
}

kwr_status kwr_value_put(kwr_value *value, kwr_slice data) {
    kwr_state *state = &value->state;
    KWR_TRY(kwr_state_size_check(state, data.size));
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->put(state->engine, &state->at, data);
    return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
}

/* A new value of zeros gets the bytes of the default; KWR_KEEP_SIZE means all of them. */
static kwr_status start_from_default(kwr_value *value, size_t size, void **bytes) {
    kwr_state *state = &value->state;
    const kwr_kept *from = &value->default_value;
    if (size == KWR_KEEP_SIZE && from->size > 0) {
        size_t before;
        const kwr_status status =
            state->ops->modify(state->engine, &state->at, from->size, bytes, &before);
        if (status < KWR_OK) {
            /* What was just written goes without memory. */
            (void)state->ops->remove(state->engine, &state->at);
            return status;
        }
    }
    const size_t count = from->size < size ? from->size : size;
    if (count > 0) memcpy(*bytes, from->data, count);
    return KWR_OK;
}

kwr_status kwr_value_modify(kwr_value *value, size_t size, void **out, size_t *old_size) {
    kwr_state *state = &value->state;
    /* A fixed size is kept even where there was nothing to keep it. */
    if (size == KWR_KEEP_SIZE && state->fixed_size != 0) size = state->fixed_size;
    if (size != KWR_KEEP_SIZE) KWR_TRY(kwr_state_size_check(state, size));
    KWR_TRY(kwr_state_at(state));
    void *bytes = NULL;
    size_t before = KWR_ABSENT;
    kwr_status status = state->ops->modify(state->engine, &state->at, size, &bytes, &before);
    if (status >= KWR_OK && before == KWR_ABSENT && value->has_default)
        status = start_from_default(value, size, &bytes);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    *out = bytes;
    if (old_size != NULL) *old_size = before;
    return KWR_OK;
}

kwr_status kwr_value_clear(kwr_value *value) { return kwr_state_clear(&value->state); }

kwr_state *kwr_value_state(kwr_value *value) { return &value->state; }
