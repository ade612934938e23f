/* SPDX-License-Identifier: Apache-2.0 */
/* Typed calls of keys, namespaces, value, reducing and list state, see keyweir/typed.h. */
#include "keyweir/typed.h"

#include "backend/collection.h"
#include "backend/typed.h"

/* ---- shared ---- */

kwr_status kwr_typed_refused(kwr_state *state, const char *what, kwr_type_kind have,
                             kwr_type_kind used) {
    return KWR_FAIL(&state->backend->error, KWR_ERR_MISMATCH, 0,
                    "state '%s' has %s of type %s, used as %s", state->label, what,
                    kwr_type_kind_name(have), kwr_type_kind_name(used));
}

kwr_status kwr_typed_number(kwr_state *state, kwr_status status, kwr_slice got, void *out,
                            size_t size) {
    if (status < KWR_OK) return status;
    if (status == KWR_NOT_FOUND) {
        memset(out, 0, size);
        return status;
    }
    if (got.size != size) return kwr_state_failed(state, KWR_ERR_CORRUPT, "read");
    memcpy(out, got.data, size);
    return KWR_OK;
}

kwr_status kwr_typed_sum_i64(kwr_state *state, void *into, int64_t by, int64_t *sum) {
    if (__builtin_add_overflow((int64_t)kwr_get_le64(into), by, sum))
        return KWR_FAIL(&state->backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': the sum is beyond i64 and was left as it is", state->label);
    kwr_put_le64(into, (uint64_t)*sum);
    return KWR_OK;
}

/* ---- keys and namespaces ---- */

static kwr_status check_key(kwr_backend *backend, kwr_type_kind kind) {
    const kwr_type_kind have = backend->shared->key_type.kind;
    if (have == kind) return KWR_OK;
    return KWR_FAIL(&backend->error, KWR_ERR_MISMATCH, 0, "keys are of type %s, used as %s",
                    kwr_type_kind_name(have), kwr_type_kind_name(kind));
}

kwr_status kwr_backend_set_key_i64(kwr_backend *backend, int64_t key) {
    uint8_t bytes[8];
    KWR_TRY(check_key(backend, KWR_TYPE_I64));
    return kwr_backend_set_key(backend, (kwr_slice){ bytes, kwr_key_from_i64(key, bytes) });
}

kwr_status kwr_backend_set_key_string(kwr_backend *backend, const char *key) {
    KWR_TRY(check_key(backend, KWR_TYPE_STRING));
    return kwr_backend_set_key(backend, kwr_typed_text(key));
}

static kwr_status check_namespace(kwr_state *state, kwr_type_kind kind) {
    const kwr_type_kind have = kwr_typed_info(state)->namespace_type.kind;
    return have == kind ? KWR_OK : kwr_typed_refused(state, "namespaces", have, kind);
}

kwr_status kwr_state_set_namespace_i64(kwr_state *state, int64_t name) {
    uint8_t bytes[8];
    KWR_TRY(check_namespace(state, KWR_TYPE_I64));
    return kwr_state_set_namespace(state, (kwr_slice){ bytes, kwr_key_from_i64(name, bytes) });
}

kwr_status kwr_state_set_namespace_string(kwr_state *state, const char *name) {
    KWR_TRY(check_namespace(state, KWR_TYPE_STRING));
    return kwr_state_set_namespace(state, kwr_typed_text(name));
}

/* ---- value ---- */

static kwr_status get_number(kwr_value *value, kwr_type_kind kind, void *out, size_t size) {
    kwr_state *state = kwr_value_state(value);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_slice got = { 0 };
    const kwr_status status = kwr_value_get(value, &got);
    return kwr_typed_number(state, status, got, out, size);
}

static kwr_status put_bytes(kwr_value *value, kwr_type_kind kind, const void *data, size_t size) {
    KWR_TRY(kwr_typed_check(kwr_value_state(value), kind));
    return kwr_value_put(value, (kwr_slice){ data, size });
}

kwr_status kwr_value_get_bool(kwr_value *value, bool *out) {
    uint8_t byte = 0;
    const kwr_status status = get_number(value, KWR_TYPE_BOOL, &byte, sizeof byte);
    if (status >= KWR_OK) *out = byte != 0;
    return status;
}
kwr_status kwr_value_get_i32(kwr_value *value, int32_t *out) {
    return get_number(value, KWR_TYPE_I32, out, sizeof *out);
}
kwr_status kwr_value_get_i64(kwr_value *value, int64_t *out) {
    return get_number(value, KWR_TYPE_I64, out, sizeof *out);
}
kwr_status kwr_value_get_u64(kwr_value *value, uint64_t *out) {
    return get_number(value, KWR_TYPE_U64, out, sizeof *out);
}
kwr_status kwr_value_get_f64(kwr_value *value, double *out) {
    return get_number(value, KWR_TYPE_F64, out, sizeof *out);
}
kwr_status kwr_value_get_string(kwr_value *value, kwr_slice *out) {
    KWR_TRY(kwr_typed_check(kwr_value_state(value), KWR_TYPE_STRING));
    return kwr_value_get(value, out);
}

kwr_status kwr_value_put_bool(kwr_value *value, bool data) {
    const uint8_t byte = data ? 1 : 0;
    return put_bytes(value, KWR_TYPE_BOOL, &byte, sizeof byte);
}
kwr_status kwr_value_put_i32(kwr_value *value, int32_t data) {
    return put_bytes(value, KWR_TYPE_I32, &data, sizeof data);
}
kwr_status kwr_value_put_i64(kwr_value *value, int64_t data) {
    return put_bytes(value, KWR_TYPE_I64, &data, sizeof data);
}
kwr_status kwr_value_put_u64(kwr_value *value, uint64_t data) {
    return put_bytes(value, KWR_TYPE_U64, &data, sizeof data);
}
kwr_status kwr_value_put_f64(kwr_value *value, double data) {
    return put_bytes(value, KWR_TYPE_F64, &data, sizeof data);
}
kwr_status kwr_value_put_string(kwr_value *value, const char *data) {
    return put_bytes(value, KWR_TYPE_STRING, data, strlen(data));
}

kwr_status kwr_value_add_i64(kwr_value *value, int64_t by, int64_t *result) {
    kwr_state *state = kwr_value_state(value);
    void *bytes = NULL;
    size_t before = 0;
    int64_t sum = 0;
    KWR_TRY(kwr_typed_check(state, KWR_TYPE_I64));
    KWR_TRY(kwr_value_modify(value, sizeof sum, &bytes, &before));
    const kwr_status status = kwr_typed_sum_i64(state, bytes, by, &sum);
    if (status < KWR_OK) {
        /* A default that was too large: what modify() has just stored goes, without memory. */
        if (before == KWR_ABSENT) (void)state->ops->remove(state->engine, &state->at);
        return status;
    }
    if (result != NULL) *result = sum;
    return KWR_OK;
}

kwr_status kwr_value_add_f64(kwr_value *value, double by, double *result) {
    void *bytes = NULL;
    double sum;
    KWR_TRY(kwr_typed_check(kwr_value_state(value), KWR_TYPE_F64));
    KWR_TRY(kwr_value_modify(value, sizeof sum, &bytes, NULL));
    memcpy(&sum, bytes, sizeof sum);
    sum += by;
    memcpy(bytes, &sum, sizeof sum);
    if (result != NULL) *result = sum;
    return KWR_OK;
}

static kwr_status get_batch(kwr_value *value, kwr_key_batch *batch, kwr_type_kind kind,
                            const void *absent, uint8_t *out, size_t count) {
    kwr_state *state = kwr_value_state(value);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_key_batch_prefetch(batch, &state, 1);
    for (size_t i = 0; i < count; i++) {
        KWR_TRY(kwr_key_batch_select(batch, i));
        const kwr_status status = get_number(value, kind, out + 8 * i, 8);
        KWR_TRY(status);
        if (status == KWR_NOT_FOUND) memcpy(out + 8 * i, absent, 8);
    }
    return KWR_OK;
}

kwr_status kwr_value_get_batch_i64(kwr_value *value, kwr_key_batch *batch, int64_t absent,
                                   int64_t *out, size_t count) {
    return get_batch(value, batch, KWR_TYPE_I64, &absent, (uint8_t *)out, count);
}
kwr_status kwr_value_get_batch_f64(kwr_value *value, kwr_key_batch *batch, double absent,
                                   double *out, size_t count) {
    return get_batch(value, batch, KWR_TYPE_F64, &absent, (uint8_t *)out, count);
}

/* ---- reducing ---- */

static kwr_status reducing_add(kwr_reducing *reducing, kwr_type_kind kind, const void *value,
                               void *result, size_t size) {
    kwr_state *state = kwr_reducing_state(reducing);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_slice stored = { 0 };
    KWR_TRY(
        kwr_reducing_add(reducing, (kwr_slice){ value, size }, result == NULL ? NULL : &stored));
    return result == NULL ? KWR_OK : kwr_typed_number(state, KWR_OK, stored, result, size);
}

static kwr_status reducing_get(kwr_reducing *reducing, kwr_type_kind kind, void *out, size_t size) {
    kwr_state *state = kwr_reducing_state(reducing);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_slice got = { 0 };
    const kwr_status status = kwr_reducing_get(reducing, &got);
    return kwr_typed_number(state, status, got, out, size);
}

kwr_status kwr_reducing_add_i64(kwr_reducing *reducing, int64_t value, int64_t *result) {
    return reducing_add(reducing, KWR_TYPE_I64, &value, result, sizeof value);
}
kwr_status kwr_reducing_add_f64(kwr_reducing *reducing, double value, double *result) {
    return reducing_add(reducing, KWR_TYPE_F64, &value, result, sizeof value);
}
kwr_status kwr_reducing_get_i64(kwr_reducing *reducing, int64_t *out) {
    return reducing_get(reducing, KWR_TYPE_I64, out, sizeof *out);
}
kwr_status kwr_reducing_get_f64(kwr_reducing *reducing, double *out) {
    return reducing_get(reducing, KWR_TYPE_F64, out, sizeof *out);
}

/* ---- list ---- */

static kwr_status list_add(kwr_list *list, kwr_type_kind kind, const void *data, size_t size) {
    KWR_TRY(kwr_typed_check(kwr_list_state(list), kind));
    return kwr_list_add(list, (kwr_slice){ data, size });
}

kwr_status kwr_list_add_i64(kwr_list *list, int64_t element) {
    return list_add(list, KWR_TYPE_I64, &element, sizeof element);
}
kwr_status kwr_list_add_f64(kwr_list *list, double element) {
    return list_add(list, KWR_TYPE_F64, &element, sizeof element);
}
kwr_status kwr_list_add_string(kwr_list *list, const char *element) {
    return list_add(list, KWR_TYPE_STRING, element, strlen(element));
}

static kwr_status list_next(kwr_list_iterator *iterator, kwr_type_kind kind, void *out,
                            size_t size) {
    kwr_state *state = kwr_list_iterator_state(iterator);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_slice got = { 0 };
    const kwr_status status = kwr_list_iterator_next(iterator, &got);
    return kwr_typed_number(state, status, got, out, size);
}

kwr_status kwr_list_iterator_next_i64(kwr_list_iterator *iterator, int64_t *out) {
    return list_next(iterator, KWR_TYPE_I64, out, sizeof *out);
}
kwr_status kwr_list_iterator_next_f64(kwr_list_iterator *iterator, double *out) {
    return list_next(iterator, KWR_TYPE_F64, out, sizeof *out);
}
