/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reducing state: values folded into one. The built-in functions (fold.h) work on the stored bytes
 * in one lookup, or in none where the descriptor says that it is mostly written and the engine can;
 * a function of the host reads the stored value, writes the result to memory of the handle, and
 * only a result that is complete is stored.
 */
#include "backend/fold.h"
#include "backend/merge.h"
#include "base/bytes.h"
#include "base/limits.h"
#include "keyweir/state.h"

struct kwr_reducing {
    kwr_state state;
    kwr_fold function; /* a built-in one, or KWR_REDUCE_CUSTOM */
    bool write_mostly;
    kwr_reduce_fn fn;
    void *fn_ctx;
    kwr_kept result; /* what a custom function wrote */
};

static const char *reduce_name(kwr_reduce_kind reduce) {
    switch (reduce) {
    case KWR_REDUCE_CUSTOM: return "custom";
    case KWR_REDUCE_SUM: return "sum";
    case KWR_REDUCE_MIN: return "min";
    case KWR_REDUCE_MAX: return "max";
    }
    return "unknown";
}

/* ---- opening ---- */

static bool numeric(kwr_type_kind kind) {
    return kind == KWR_TYPE_I32 || kind == KWR_TYPE_I64 || kind == KWR_TYPE_U64 ||
           kind == KWR_TYPE_F64;
}

static kwr_status check_function(const kwr_reducing_descriptor *wanted, kwr_error *err) {
    const char *name = wanted->name == NULL ? "" : wanted->name;
    switch (wanted->reduce) {
    case KWR_REDUCE_CUSTOM:
        if (wanted->write_mostly)
            return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                            "state '%.255s': write_mostly is for sum, min and max: an engine may "
                            "fold on threads of its own, where no function of the host runs",
                            name);
        if (wanted->fn != NULL) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "state '%.255s': KWR_REDUCE_CUSTOM needs a function",
                        name);
    case KWR_REDUCE_SUM:
    case KWR_REDUCE_MIN:
    case KWR_REDUCE_MAX:
        if (numeric(wanted->type.kind)) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "state '%.255s': %s is for i32, i64, u64 and f64, not for %s", name,
                        reduce_name(wanted->reduce), kwr_type_kind_name(wanted->type.kind));
    }
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "state '%.255s': unknown reduce function %d", name,
                    (int)wanted->reduce);
}

static kwr_status check_again(const kwr_reducing *open, const kwr_reducing_descriptor *wanted,
                              kwr_error *err) {
    if (open->function.reduce != wanted->reduce)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "state '%s' is open with %s, opened again with %s", open->state.label,
                        reduce_name(open->function.reduce), reduce_name(wanted->reduce));
    if (open->write_mostly != wanted->write_mostly)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "state '%s' is open %s write_mostly, opened again %s", open->state.label,
                        open->write_mostly ? "with" : "without",
                        wanted->write_mostly ? "with" : "without");
    if (open->fn != wanted->fn || open->fn_ctx != wanted->fn_ctx)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "state '%s' is open with another function or context", open->state.label);
    return KWR_OK;
}

static void reducing_done(kwr_state *state) {
    kwr_kept_free(state->backend->env, &((kwr_reducing *)state)->result);
}

static kwr_status open_reducing(kwr_backend *backend, const kwr_reducing_descriptor *descriptor,
                                kwr_reducing **out) {
    kwr_error *err = &backend->error;
    kwr_reducing_descriptor wanted;
    KWR_TRY(kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_reducing_descriptor", err));
    KWR_TRY(check_function(&wanted, err));
    if (wanted.reduce != KWR_REDUCE_CUSTOM) wanted.fn = NULL, wanted.fn_ctx = NULL;
    const kwr_state_info info = {
        .kind = KWR_STATE_REDUCING,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
    };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_reducing), &state, &fresh, NULL));
    kwr_reducing *reducing = (kwr_reducing *)state;
    if (!fresh) KWR_TRY(check_again(reducing, &wanted, err));
    state->done = reducing_done;
    reducing->function = (kwr_fold){ wanted.type.kind, wanted.reduce };
    reducing->write_mostly = wanted.write_mostly;
    reducing->fn = wanted.fn;
    reducing->fn_ctx = wanted.fn_ctx;
    *out = reducing;
    return KWR_OK;
}

kwr_status kwr_reducing_open(kwr_backend *backend, const kwr_reducing_descriptor *descriptor,
                             kwr_reducing **out, kwr_error *err) {
    const kwr_status status = open_reducing(backend, descriptor, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

/* ---- adding ---- */

/* Makes the value `size` bytes long and lends it; `*old_size` as kwr_value_modify(). */
static kwr_status lend(kwr_state *state, size_t size, void **out, size_t *old_size) {
    const kwr_status status = state->ops->modify(state->engine, &state->at, size, out, old_size);
    return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
}

static kwr_status sum_lost(const kwr_reducing *reducing) {
    return KWR_FAIL(&reducing->state.backend->error, KWR_ERR_RANGE, 0,
                    "state '%s': the sum is beyond %s and was left as it is", reducing->state.label,
                    kwr_type_kind_name(reducing->function.type));
}

static kwr_status add_number(kwr_reducing *reducing, kwr_slice value, kwr_slice *result) {
    kwr_state *state = &reducing->state;
    const size_t size = state->fixed_size;
    uint8_t from[8]; /* the caller's bytes may be those that are about to change */
    memcpy(from, value.data, size);
    if (reducing->write_mostly && result == NULL && state->ops->fold != NULL) {
        const kwr_slice value_copy = { from, size };
        const kwr_status status =
            state->ops->fold(state->engine, &state->at, reducing->function, value_copy);
        return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
    }
    void *into = NULL;
    size_t old_size = 0;
    KWR_TRY(lend(state, size, &into, &old_size));
    if (old_size == KWR_ABSENT) {
        memcpy(into, from, size);
    } else if (old_size != size) {
        return kwr_state_failed(state, KWR_ERR_CORRUPT, "add");
    } else if (reducing->function.reduce != KWR_REDUCE_SUM) {
        if (kwr_fold_better(&reducing->function, into, from)) memcpy(into, from, size);
    } else if (!kwr_fold_sum(reducing->function.type, into, from)) {
        return sum_lost(reducing);
    }
    if (result != NULL) *result = (kwr_slice){ into, size };
    return KWR_OK;
}

/* Runs the host's function until its result fits; `*size` of reducing->result are filled. */
static kwr_status fold(kwr_reducing *reducing, kwr_slice current, kwr_slice value, size_t *size) {
    kwr_state *state = &reducing->state;
    kwr_error *err = &state->backend->error;
    size_t need = current.size + value.size; /* both are below 1 GiB */
    for (unsigned tries = 0; tries < 2; tries++) {
        if (!kwr_kept_reserve(state->backend->env, &reducing->result, need))
            return kwr_state_failed(state, KWR_ERR_NOMEM, "add");
        const size_t capacity = reducing->result.capacity;
        size_t got = SIZE_MAX;
        const kwr_status status =
            reducing->fn(reducing->fn_ctx, current, value, reducing->result.data, capacity, &got);
        if (status < KWR_OK)
            return KWR_FAIL(err, status, 0, "state '%s': its reduce function failed with %s",
                            state->label, kwr_status_name(status));
        KWR_TRY(kwr_state_size_check(state, got));
        if (got <= capacity) {
            *size = got;
            return KWR_OK;
        }
        need = got;
    }
    return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                    "state '%s': its reduce function asked for room again after it got what it "
                    "asked for",
                    state->label);
}

static kwr_status add_custom(kwr_reducing *reducing, kwr_slice value, kwr_slice *result) {
    kwr_state *state = &reducing->state;
    kwr_slice current = { 0 };
    const kwr_status found = kwr_state_get(state, &current);
    KWR_TRY(found);
    kwr_slice store = value;
    if (found == KWR_OK) {
        size_t size = 0;
        KWR_TRY(fold(reducing, current, value, &size));
        store = (kwr_slice){ reducing->result.data, size };
    }
    void *into = NULL;
    size_t old_size = 0;
    KWR_TRY(lend(state, store.size, &into, &old_size));
    if (store.size > 0) memcpy(into, store.data, store.size);
    if (result != NULL) *result = (kwr_slice){ into, store.size };
    return KWR_OK;
}

kwr_status kwr_reducing_add(kwr_reducing *reducing, kwr_slice value, kwr_slice *result) {
    KWR_TRY(kwr_state_size_check(&reducing->state, value.size));
    KWR_TRY(kwr_state_at(&reducing->state));
    if (reducing->function.reduce == KWR_REDUCE_CUSTOM) return add_custom(reducing, value, result);
    return add_number(reducing, value, result);
}

kwr_status kwr_reducing_set_namespace(kwr_reducing *reducing, kwr_slice name) {
    return kwr_state_set_namespace(&reducing->state, name);
}

kwr_status kwr_reducing_get(kwr_reducing *reducing, kwr_slice *out) {
    return kwr_state_get(&reducing->state, out);
}

kwr_status kwr_reducing_clear(kwr_reducing *reducing) { return kwr_state_clear(&reducing->state); }

/* ---- merging namespaces ---- */

static kwr_status fold_number(kwr_reducing *reducing, kwr_kept *into, kwr_slice from) {
    kwr_state *state = &reducing->state;
    if (into->size != state->fixed_size || from.size != state->fixed_size)
        return kwr_state_failed(state, KWR_ERR_CORRUPT, "merge");
    if (reducing->function.reduce == KWR_REDUCE_SUM)
        return kwr_fold_sum(reducing->function.type, into->data, from.data) ? KWR_OK
                                                                            : sum_lost(reducing);
    if (kwr_fold_better(&reducing->function, into->data, from.data))
        memcpy(into->data, from.data, from.size);
    return KWR_OK;
}

static kwr_status fold_into(kwr_state *state, kwr_kept *into, kwr_slice from) {
    kwr_reducing *reducing = (kwr_reducing *)state;
    if (reducing->function.reduce != KWR_REDUCE_CUSTOM) return fold_number(reducing, into, from);
    size_t size = 0;
    KWR_TRY(fold(reducing, (kwr_slice){ into->data, into->size }, from, &size));
    const kwr_kept before = *into;
    *into = reducing->result;
    into->size = size;
    reducing->result = before;
    return KWR_OK;
}

kwr_status kwr_reducing_merge_namespaces(kwr_reducing *reducing, kwr_slice target,
                                         const kwr_slice *sources, size_t count) {
    return kwr_merge_values(&reducing->state, target, sources, count, fold_into);
}

kwr_state *kwr_reducing_state(kwr_reducing *reducing) { return &reducing->state; }
