/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aggregating state: inputs folded into a stored accumulator by the host's functions. Each function
 * writes to memory of the handle, and only an accumulator that is complete is stored.
 */
#include "backend/merge.h"
#include "base/limits.h"
#include "keyweir/state.h"

enum { ROOM_MIN = 64 };

struct kwr_aggregating {
    kwr_state state;
    size_t input_fixed_size; /* 0: variable */
    size_t result_fixed_size;
    kwr_type_kind input_kind;
    kwr_type_kind result_kind;
    kwr_create_fn create;
    kwr_reduce_fn add;
    kwr_reduce_fn merge;
    kwr_result_fn result;
    void *fn_ctx;
    kwr_kept created; /* what create wrote, and the result lent by get */
    kwr_kept written; /* what add and merge wrote */
};

/* ---- opening ---- */

static kwr_status check_functions(const kwr_aggregating_descriptor *wanted, kwr_error *err) {
    if (wanted->create != NULL && wanted->add != NULL && wanted->result != NULL) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "state '%.255s': an aggregate needs the functions create, add and result",
                    wanted->name == NULL ? "" : wanted->name);
}

static kwr_status check_again(const kwr_aggregating *open, const kwr_aggregating_descriptor *wanted,
                              kwr_error *err) {
    if (open->create != wanted->create || open->add != wanted->add ||
        open->merge != wanted->merge || open->result != wanted->result ||
        open->fn_ctx != wanted->fn_ctx)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "state '%s' is open with another function or context", open->state.label);
    if (open->input_kind == wanted->input_type.kind &&
        open->result_kind == wanted->result_type.kind)
        return KWR_OK;
    return KWR_FAIL(
        err, KWR_ERR_MISMATCH, 0, "state '%s' is open from %s to %s, opened again from %s to %s",
        open->state.label, kwr_type_kind_name(open->input_kind),
        kwr_type_kind_name(open->result_kind), kwr_type_kind_name(wanted->input_type.kind),
        kwr_type_kind_name(wanted->result_type.kind));
}

static void aggregating_done(kwr_state *state) {
    kwr_aggregating *aggregating = (kwr_aggregating *)state;
    kwr_kept_free(state->backend->env, &aggregating->created);
    kwr_kept_free(state->backend->env, &aggregating->written);
}

static void fill(kwr_aggregating *aggregating, const kwr_aggregating_descriptor *wanted) {
    aggregating->state.done = aggregating_done;
    aggregating->input_fixed_size = kwr_type_fixed_size(&wanted->input_type);
    aggregating->result_fixed_size = kwr_type_fixed_size(&wanted->result_type);
    aggregating->input_kind = wanted->input_type.kind;
    aggregating->result_kind = wanted->result_type.kind;
    aggregating->create = wanted->create;
    aggregating->add = wanted->add;
    aggregating->merge = wanted->merge;
    aggregating->result = wanted->result;
    aggregating->fn_ctx = wanted->fn_ctx;
}

static kwr_status open_aggregating(kwr_backend *backend,
                                   const kwr_aggregating_descriptor *descriptor,
                                   kwr_aggregating **out) {
    kwr_error *err = &backend->error;
    kwr_aggregating_descriptor wanted;
    KWR_TRY(
        kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_aggregating_descriptor", err));
    KWR_TRY(check_functions(&wanted, err));
    KWR_TRY(kwr_type_check(&wanted.input_type, "input_type", err));
    KWR_TRY(kwr_type_check(&wanted.result_type, "result_type", err));
    const kwr_state_info info = {
        .kind = KWR_STATE_AGGREGATING,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
    };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_aggregating), &state, &fresh, NULL));
    kwr_aggregating *aggregating = (kwr_aggregating *)state;
    if (fresh)
        fill(aggregating, &wanted);
    else
        KWR_TRY(check_again(aggregating, &wanted, err));
    *out = aggregating;
    return KWR_OK;
}

kwr_status kwr_aggregating_open(kwr_backend *backend, const kwr_aggregating_descriptor *descriptor,
                                kwr_aggregating **out, kwr_error *err) {
    const kwr_status status = open_aggregating(backend, descriptor, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

/* ---- the host's functions: run until what they write fits ---- */

typedef enum aggregate_fn { CREATE, ADD, MERGE, RESULT } aggregate_fn;

static const char *const fn_names[] = {
    [CREATE] = "create", [ADD] = "add", [MERGE] = "merge", [RESULT] = "result"
};

static kwr_status call_once(kwr_aggregating *a, aggregate_fn fn, kwr_slice accumulator,
                            kwr_slice other, kwr_kept *out, size_t *size) {
    switch (fn) {
    case CREATE: return a->create(a->fn_ctx, out->data, out->capacity, size);
    case ADD: return a->add(a->fn_ctx, accumulator, other, out->data, out->capacity, size);
    case MERGE: return a->merge(a->fn_ctx, accumulator, other, out->data, out->capacity, size);
    case RESULT: return a->result(a->fn_ctx, accumulator, out->data, out->capacity, size);
    }
    return KWR_ERR_MISUSE;
}

static kwr_status result_check(const kwr_aggregating *a, size_t size) {
    const kwr_state *state = &a->state;
    if (a->result_fixed_size != 0 && size != a->result_fixed_size)
        return KWR_FAIL(&state->backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': a result of type %s has %zu bytes, not %zu", state->label,
                        kwr_type_kind_name(a->result_kind), a->result_fixed_size, size);
    if (size > state->value_bytes_max)
        return KWR_FAIL(&state->backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': the result has %zu bytes, limits.value_bytes_max is %zu",
                        state->label, size, state->value_bytes_max);
    return KWR_OK;
}

static kwr_status call(kwr_aggregating *a, aggregate_fn fn, kwr_slice accumulator, kwr_slice other,
                       kwr_kept *out) {
    kwr_state *state = &a->state;
    kwr_error *err = &state->backend->error;
    size_t need = accumulator.size + other.size; /* both are below 1 GiB */
    if (need < ROOM_MIN) need = ROOM_MIN;
    for (unsigned tries = 0; tries < 2; tries++) {
        if (!kwr_kept_reserve(state->backend->env, out, need))
            return kwr_state_failed(state, KWR_ERR_NOMEM, fn_names[fn]);
        size_t got = SIZE_MAX;
        const kwr_status status = call_once(a, fn, accumulator, other, out, &got);
        if (status < KWR_OK)
            return KWR_FAIL(err, status, 0, "state '%s': its %s function failed with %s",
                            state->label, fn_names[fn], kwr_status_name(status));
        KWR_TRY(fn == RESULT ? result_check(a, got) : kwr_state_size_check(state, got));
        if (got <= out->capacity) {
            out->size = got;
            return KWR_OK;
        }
        need = got;
    }
    return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                    "state '%s': its %s function asked for room again after it got what it asked "
                    "for",
                    state->label, fn_names[fn]);
}

static kwr_slice kept_slice(const kwr_kept *kept) { return (kwr_slice){ kept->data, kept->size }; }

/* ---- access ---- */

static kwr_status input_check(kwr_aggregating *a, size_t size) {
    kwr_state *state = &a->state;
    if (a->input_fixed_size != 0 && size != a->input_fixed_size)
        return KWR_FAIL(&state->backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': an input of type %s has %zu bytes, not %zu", state->label,
                        kwr_type_kind_name(a->input_kind), a->input_fixed_size, size);
    if (size > state->value_bytes_max)
        return KWR_FAIL(&state->backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': the input has %zu bytes, limits.value_bytes_max is %zu",
                        state->label, size, state->value_bytes_max);
    return KWR_OK;
}

kwr_status kwr_aggregating_add(kwr_aggregating *aggregating, kwr_slice input) {
    kwr_state *state = &aggregating->state;
    KWR_TRY(input_check(aggregating, input.size));
    kwr_slice accumulator = { 0 };
    const kwr_status found = kwr_state_get(state, &accumulator);
    KWR_TRY(found);
    if (found == KWR_NOT_FOUND) {
        const kwr_slice none = { 0 };
        KWR_TRY(call(aggregating, CREATE, none, none, &aggregating->created));
        accumulator = kept_slice(&aggregating->created);
    }
    KWR_TRY(call(aggregating, ADD, accumulator, input, &aggregating->written));
    const kwr_status status =
        state->ops->put(state->engine, &state->at, kept_slice(&aggregating->written));
    return status < KWR_OK ? kwr_state_failed(state, status, "write") : KWR_OK;
}

kwr_status kwr_aggregating_get(kwr_aggregating *aggregating, kwr_slice *out) {
    kwr_slice accumulator = { 0 };
    const kwr_status found = kwr_state_get(&aggregating->state, &accumulator);
    KWR_TRY(found);
    if (found == KWR_OK)
        KWR_TRY(call(aggregating, RESULT, accumulator, (kwr_slice){ 0 }, &aggregating->created));
    *out = found == KWR_OK ? kept_slice(&aggregating->created) : (kwr_slice){ 0 };
    return found;
}

kwr_status kwr_aggregating_accumulator(kwr_aggregating *aggregating, kwr_slice *out) {
    return kwr_state_get(&aggregating->state, out);
}

kwr_status kwr_aggregating_set_namespace(kwr_aggregating *aggregating, kwr_slice name) {
    return kwr_state_set_namespace(&aggregating->state, name);
}

kwr_status kwr_aggregating_clear(kwr_aggregating *aggregating) {
    return kwr_state_clear(&aggregating->state);
}

kwr_state *kwr_aggregating_state(kwr_aggregating *aggregating) { return &aggregating->state; }

/* ---- merging namespaces ---- */

static kwr_status fold_into(kwr_state *state, kwr_kept *into, kwr_slice from) {
    kwr_aggregating *aggregating = (kwr_aggregating *)state;
    KWR_TRY(call(aggregating, MERGE, kept_slice(into), from, &aggregating->written));
    const kwr_kept before = *into;
    *into = aggregating->written;
    aggregating->written = before;
    return KWR_OK;
}

kwr_status kwr_aggregating_merge_namespaces(kwr_aggregating *aggregating, kwr_slice target,
                                            const kwr_slice *sources, size_t count) {
    kwr_state *state = &aggregating->state;
    if (aggregating->merge == NULL)
        return KWR_FAIL(&state->backend->error, KWR_ERR_MISUSE, 0,
                        "state '%s' was opened without a merge function", state->label);
    return kwr_merge_values(state, target, sources, count, fold_into);
}
