/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reducing state: values folded into one. The built-in functions work on the stored bytes in one
 * lookup; a function of the host reads the stored value, writes the result to memory of the handle,
 * and only a result that is complete is stored.
 */
#include "backend/merge.h"
#include "base/bytes.h"
#include "base/limits.h"
#include "keyweir/state.h"

struct kwr_reducing {
    kwr_state state;
    kwr_type_kind type;
    kwr_reduce_kind reduce;
    kwr_reduce_fn fn;
    void *fn_ctx;
    kwr_kept result; /* what a custom function wrote */
};

/* ---- the built-in functions: *into = fold(*into, from) ---- */

static bool sum_numbers(kwr_type_kind type, void *into, const void *from) {
    if (type == KWR_TYPE_I32) {
        int32_t sum;
        if (__builtin_add_overflow((int32_t)kwr_get_le32(into), (int32_t)kwr_get_le32(from), &sum))
            return false;
        kwr_put_le32(into, (uint32_t)sum);
        return true;
    }
    if (type == KWR_TYPE_F64) {
        double a, b;
        memcpy(&a, into, sizeof a);
        memcpy(&b, from, sizeof b);
        a += b;
        memcpy(into, &a, sizeof a);
        return true;
    }
    const uint64_t a = kwr_get_le64(into);
    const uint64_t b = kwr_get_le64(from);
    int64_t signed_sum;
    uint64_t sum = a + b;
    const bool lost = type == KWR_TYPE_U64
                          ? sum < a
                          : __builtin_add_overflow((int64_t)a, (int64_t)b, &signed_sum);
    if (lost) return false;
    kwr_put_le64(into, sum);
    return true;
}

/* A number as an unsigned integer of the same order. For f64 the IEEE total order. */
static uint64_t order_of(kwr_type_kind type, const void *value) {
    uint8_t key[8];
    if (type == KWR_TYPE_I32) {
        kwr_key_from_i32((int32_t)kwr_get_le32(value), key);
        return kwr_get_be32(key);
    }
    if (type == KWR_TYPE_F64) {
        double number;
        memcpy(&number, value, sizeof number);
        kwr_key_from_f64(number, key);
        return kwr_get_be64(key);
    }
    if (type == KWR_TYPE_I64) {
        kwr_key_from_i64((int64_t)kwr_get_le64(value), key);
        return kwr_get_be64(key);
    }
    return kwr_get_le64(value);
}

static bool is_nan(kwr_type_kind type, const void *value) {
    if (type != KWR_TYPE_F64) return false;
    double number;
    memcpy(&number, value, sizeof number);
    return number != number;
}

/* Whether `from` replaces `into`. Any number wins against NaN, so that order does not matter. */
static bool better(const kwr_reducing *reducing, const void *into, const void *from) {
    const bool nan_into = is_nan(reducing->type, into);
    const bool nan_from = is_nan(reducing->type, from);
    if (nan_into != nan_from) return nan_into;
    const uint64_t a = order_of(reducing->type, into);
    const uint64_t b = order_of(reducing->type, from);
    return reducing->reduce == KWR_REDUCE_MIN ? b < a : b > a;
}

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
    if (open->reduce != wanted->reduce)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "state '%s' is open with %s, opened again with %s", open->state.label,
                        reduce_name(open->reduce), reduce_name(wanted->reduce));
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
    reducing->type = wanted.type.kind;
    reducing->reduce = wanted.reduce;
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
                    kwr_type_kind_name(reducing->type));
}

static kwr_status add_number(kwr_reducing *reducing, kwr_slice value, kwr_slice *result) {
    kwr_state *state = &reducing->state;
    const size_t size = state->fixed_size;
    uint8_t from[8]; /* the caller's bytes may be those that are about to change */
    memcpy(from, value.data, size);
    void *into = NULL;
    size_t old_size = 0;
    KWR_TRY(lend(state, size, &into, &old_size));
    if (old_size == KWR_ABSENT) {
        memcpy(into, from, size);
    } else if (old_size != size) {
        return kwr_state_failed(state, KWR_ERR_CORRUPT, "add");
    } else if (reducing->reduce != KWR_REDUCE_SUM) {
        if (better(reducing, into, from)) memcpy(into, from, size);
    } else if (!sum_numbers(reducing->type, into, from)) {
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
    if (reducing->reduce == KWR_REDUCE_CUSTOM) return add_custom(reducing, value, result);
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
    if (reducing->reduce == KWR_REDUCE_SUM)
        return sum_numbers(reducing->type, into->data, from.data) ? KWR_OK : sum_lost(reducing);
    if (better(reducing, into->data, from.data)) memcpy(into->data, from.data, from.size);
    return KWR_OK;
}

static kwr_status fold_into(kwr_state *state, kwr_kept *into, kwr_slice from) {
    kwr_reducing *reducing = (kwr_reducing *)state;
    if (reducing->reduce != KWR_REDUCE_CUSTOM) return fold_number(reducing, into, from);
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
