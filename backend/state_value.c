/* SPDX-License-Identifier: Apache-2.0 */
/* Value state: one value for each key and namespace, replaced as a whole or changed in place. */
#include "backend/core.h"
#include "base/limits.h"
#include "keyweir/state.h"

struct kwr_value {
    kwr_state state;
};

kwr_status kwr_value_open(kwr_backend *backend, const kwr_value_descriptor *descriptor,
                          kwr_value **out, kwr_error *err) {
    kwr_value_descriptor wanted;
    kwr_status status = kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_value_descriptor",
                                         &backend->error);
    if (status < KWR_OK) {
        if (err != NULL) *err = backend->error;
        return status;
    }
    const kwr_state_info info = {
        .kind = KWR_STATE_VALUE,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
    };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_value), &state, &fresh, err));
    *out = (kwr_value *)state;
    return KWR_OK;
}

kwr_status kwr_value_set_namespace(kwr_value *value, kwr_slice name) {
    return kwr_state_set_namespace(&value->state, name);
}

kwr_status kwr_value_get(kwr_value *value, kwr_slice *out) {
    return kwr_state_get(&value->state, out);
}

kwr_status kwr_value_put(kwr_value *value, kwr_slice data) {
    kwr_state *state = &value->state;
    KWR_TRY(kwr_state_size_check(state, data.size));
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->put(state->engine, &state->at, data);
    return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
}

kwr_status kwr_value_modify(kwr_value *value, size_t size, void **out, size_t *old_size) {
    kwr_state *state = &value->state;
    /* A fixed size is kept even where there was nothing to keep it. */
    if (size == KWR_KEEP_SIZE && state->fixed_size != 0) size = state->fixed_size;
    if (size != KWR_KEEP_SIZE) KWR_TRY(kwr_state_size_check(state, size));
    KWR_TRY(kwr_state_at(state));
    void *bytes = NULL;
    size_t before = KWR_ABSENT;
    const kwr_status status = state->ops->modify(state->engine, &state->at, size, &bytes, &before);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    *out = bytes;
    if (old_size != NULL) *old_size = before;
    return KWR_OK;
}

kwr_status kwr_value_clear(kwr_value *value) { return kwr_state_clear(&value->state); }

kwr_state *kwr_value_state(kwr_value *value) { return &value->state; }
