/* SPDX-License-Identifier: Apache-2.0 */
/* Merging namespaces, see merge.h. */
#include "backend/merge.h"

#include "base/memory.h"
#include "keyweir/state.h"

static bool same_name(const kwr_address *a, const kwr_address *b) {
    return a->entry_hash == b->entry_hash && a->name.size == b->name.size &&
           (a->name.size == 0 || memcmp(a->name.data, b->name.data, a->name.size) == 0);
}

static bool listed(const kwr_merge *merge, const kwr_address *at) {
    if (same_name(&merge->target, at)) return true;
    for (size_t i = 0; i < merge->count; i++)
        if (same_name(&merge->sources[i], at)) return true;
    return false;
}

kwr_status kwr_merge_begin(kwr_state *state, kwr_slice target, const kwr_slice *sources,
                           size_t count, kwr_merge *out) {
    *out = (kwr_merge){ .state = state };
    KWR_TRY(kwr_state_address_in(state, target, &out->target));
    if (count == 0) return KWR_OK;
    out->sources = (kwr_address *)kwr_alloc_array(state->backend->env, count, sizeof *out->sources);
    if (out->sources == NULL) return kwr_state_failed(state, KWR_ERR_NOMEM, "merge");
    out->capacity = count;
    for (size_t i = 0; i < count; i++) {
        kwr_address at;
        KWR_TRY(kwr_state_address_in(state, sources[i], &at));
        if (!listed(out, &at)) out->sources[out->count++] = at;
    }
    return KWR_OK;
}

void kwr_merge_done(kwr_merge *merge) {
    kwr_free(merge->state->backend->env, merge->sources, merge->capacity * sizeof *merge->sources);
    merge->sources = NULL;
}

kwr_status kwr_merge_remove_sources(kwr_merge *merge) {
    kwr_state *state = merge->state;
    for (size_t i = 0; i < merge->count; i++) {
        const kwr_status status = state->ops->remove(state->engine, &merge->sources[i]);
        if (status >= KWR_OK) continue;
        return KWR_FAIL(&state->backend->error, KWR_ERR_POISONED, 0,
                        "state '%s': the engine '%s' merged namespaces, and then could not remove "
                        "what was merged (%s); close, and start again from a checkpoint",
                        state->label, state->ops->name, kwr_status_name(status));
    }
    return KWR_OK;
}

/* ---- entries that are one value ---- */

static kwr_status read_value(kwr_state *state, const kwr_address *at, kwr_slice *out) {
    const kwr_status status = state->ops->get(state->engine, at, out);
    return status < KWR_OK ? kwr_state_failed(state, status, "read") : status;
}

/* All values in their order, the target's first; `*into` is only looked at when there is a source.
 */
static kwr_status fold_values(kwr_merge *merge, kwr_fold_fn fold, kwr_kept *into) {
    kwr_state *state = merge->state;
    kwr_slice value = { 0 };
    kwr_status found = read_value(state, &merge->target, &value);
    KWR_TRY(found);
    bool any = found == KWR_OK;
    if (any && !kwr_kept_set(state->backend->env, into, value))
        return kwr_state_failed(state, KWR_ERR_NOMEM, "merge");
    size_t kept = 0;
    for (size_t i = 0; i < merge->count; i++) {
        found = read_value(state, &merge->sources[i], &value);
        KWR_TRY(found);
        if (found == KWR_NOT_FOUND) continue;
        merge->sources[kept++] = merge->sources[i];
        if (any)
            KWR_TRY(fold(state, into, value));
        else if (!kwr_kept_set(state->backend->env, into, value))
            return kwr_state_failed(state, KWR_ERR_NOMEM, "merge");
        any = true;
    }
    merge->count = kept;
    return KWR_OK;
}

static kwr_status merge_values(kwr_merge *merge, kwr_fold_fn fold, kwr_kept *into) {
    kwr_state *state = merge->state;
    KWR_TRY(fold_values(merge, fold, into));
    if (merge->count == 0) return KWR_OK;
    for (size_t i = 0; i < merge->count; i++) {
        void *bytes;
        size_t size;
        const kwr_status status =
            state->ops->modify(state->engine, &merge->sources[i], KWR_KEEP_SIZE, &bytes, &size);
        if (status < KWR_OK) return kwr_state_failed(state, status, "merge");
    }
    const kwr_slice merged = { into->data, into->size };
    const kwr_status status = state->ops->put(state->engine, &merge->target, merged);
    if (status < KWR_OK) return kwr_state_failed(state, status, "merge");
    return kwr_merge_remove_sources(merge);
}

kwr_status kwr_merge_values(kwr_state *state, kwr_slice target, const kwr_slice *sources,
                            size_t count, kwr_fold_fn fold) {
    kwr_merge merge;
    kwr_kept into = { 0 };
    kwr_status status = kwr_merge_begin(state, target, sources, count, &merge);
    if (status >= KWR_OK) status = merge_values(&merge, fold, &into);
    kwr_kept_free(state->backend->env, &into);
    kwr_merge_done(&merge);
    return status;
}
