/* SPDX-License-Identifier: Apache-2.0 */
/* Raw keyed state: one value for each key group, under the empty key. */
#include "backend/per_group.h"
#include "base/limits.h"
#include "keyweir/raw.h"

struct kwr_raw {
    kwr_state state;
};

kwr_status kwr_raw_open(kwr_backend *backend, const kwr_raw_descriptor *descriptor, kwr_raw **out,
                        kwr_error *err) {
    kwr_raw_descriptor wanted;
    const kwr_status status =
        kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_raw_descriptor", &backend->error);
    if (status < KWR_OK) {
        if (err != NULL) *err = backend->error;
        return status;
    }
    const kwr_state_info info = { .kind = KWR_STATE_RAW, .name = wanted.name };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_raw), &state, &fresh, err));
    if (fresh) kwr_per_group_init(state);
    *out = (kwr_raw *)state;
    return KWR_OK;
}

static kwr_status aim(kwr_state *state, uint32_t key_group) {
    if (kwr_per_group_at(state, key_group)) return KWR_OK;
    const kwr_key_group_range owned = state->backend->key_groups;
    return KWR_FAIL(&state->backend->error, KWR_ERR_MISUSE, 0,
                    "state '%s': key group %u is not among the owned %u to %u", state->label,
                    key_group, owned.first, owned.first + owned.count - 1);
}

kwr_status kwr_raw_put(kwr_raw *raw, uint32_t key_group, kwr_slice data) {
    kwr_state *state = &raw->state;
    KWR_TRY(kwr_state_size_check(state, data.size));
    KWR_TRY(aim(state, key_group));
    const kwr_status status = state->ops->put(state->engine, &state->at, data);
    return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
}

static kwr_status get(kwr_state *state, kwr_slice *out) {
    kwr_slice found = { 0 };
    const kwr_status status = state->ops->get(state->engine, &state->at, &found);
    if (status < KWR_OK) return kwr_state_failed(state, status, "read");
    *out = status == KWR_OK ? found : (kwr_slice){ 0 };
    return status;
}

kwr_status kwr_raw_get(kwr_raw *raw, uint32_t key_group, kwr_slice *out) {
    KWR_TRY(aim(&raw->state, key_group));
    return get(&raw->state, out);
}

kwr_status kwr_raw_clear(kwr_raw *raw, uint32_t key_group) {
    kwr_state *state = &raw->state;
    KWR_TRY(aim(state, key_group));
    const kwr_status status = state->ops->remove(state->engine, &state->at);
    return status < KWR_OK ? kwr_state_failed(state, status, "remove") : KWR_OK;
}

kwr_status kwr_raw_next(kwr_raw *raw, uint32_t from, uint32_t *key_group, kwr_slice *out) {
    const kwr_key_group_range owned = raw->state.backend->key_groups;
    uint32_t group = from < owned.first ? owned.first : from;
    for (; kwr_per_group_at(&raw->state, group); group++) {
        kwr_slice found;
        const kwr_status status = get(&raw->state, &found);
        if (status == KWR_NOT_FOUND) continue;
        KWR_TRY(status);
        *key_group = group;
        *out = found;
        return KWR_OK;
    }
    return KWR_NOT_FOUND;
}
