/* SPDX-License-Identifier: Apache-2.0 */
/* Typed calls of map state, see keyweir/typed.h. */
#include "backend/collection.h"
#include "backend/typed.h"
#include "keyweir/typed.h"

/* ---- numbers as values ---- */

static kwr_status get_number(kwr_map *map, kwr_slice user_key, kwr_type_kind kind, void *out) {
    kwr_state *state = kwr_map_state(map);
    KWR_TRY(kwr_typed_check(state, kind));
    kwr_slice got = { 0 };
    const kwr_status status = kwr_map_get(map, user_key, &got);
    return kwr_typed_number(state, status, got, out, 8);
}

static kwr_status put_number(kwr_map *map, kwr_slice user_key, kwr_type_kind kind,
                             const void *value) {
    KWR_TRY(kwr_typed_check(kwr_map_state(map), kind));
    return kwr_map_put(map, user_key, (kwr_slice){ value, 8 });
}

kwr_status kwr_map_get_i64(kwr_map *map, kwr_slice user_key, int64_t *out) {
    return get_number(map, user_key, KWR_TYPE_I64, out);
}
kwr_status kwr_map_get_f64(kwr_map *map, kwr_slice user_key, double *out) {
    return get_number(map, user_key, KWR_TYPE_F64, out);
}
kwr_status kwr_map_put_i64(kwr_map *map, kwr_slice user_key, int64_t value) {
    return put_number(map, user_key, KWR_TYPE_I64, &value);
}
kwr_status kwr_map_put_f64(kwr_map *map, kwr_slice user_key, double value) {
    return put_number(map, user_key, KWR_TYPE_F64, &value);
}

kwr_status kwr_map_add_i64(kwr_map *map, kwr_slice user_key, int64_t by, int64_t *result) {
    kwr_state *state = kwr_map_state(map);
    void *bytes = NULL;
    int64_t sum = 0;
    KWR_TRY(kwr_typed_check(state, KWR_TYPE_I64));
    /* From nothing it cannot overflow: a failure leaves what was there. */
    KWR_TRY(kwr_map_modify(map, user_key, sizeof sum, &bytes, NULL));
    KWR_TRY(kwr_typed_sum_i64(state, bytes, by, &sum));
    if (result != NULL) *result = sum;
    return KWR_OK;
}

kwr_status kwr_map_add_f64(kwr_map *map, kwr_slice user_key, double by, double *result) {
    void *bytes = NULL;
    double sum;
    KWR_TRY(kwr_typed_check(kwr_map_state(map), KWR_TYPE_F64));
    KWR_TRY(kwr_map_modify(map, user_key, sizeof sum, &bytes, NULL));
    memcpy(&sum, bytes, sizeof sum);
    sum += by;
    memcpy(bytes, &sum, sizeof sum);
    if (result != NULL) *result = sum;
    return KWR_OK;
}

/* ---- typed user keys ---- */

static kwr_status check_user_key(kwr_state *state, kwr_type_kind kind) {
    const kwr_type_kind have = kwr_typed_info(state)->user_key_type.kind;
    return have == kind ? KWR_OK : kwr_typed_refused(state, "user keys", have, kind);
}

/* The encoded user key, in `bytes`. */
static kwr_status i64_key(kwr_map *map, int64_t user_key, uint8_t bytes[8], kwr_slice *out) {
    KWR_TRY(check_user_key(kwr_map_state(map), KWR_TYPE_I64));
    *out = (kwr_slice){ bytes, kwr_key_from_i64(user_key, bytes) };
    return KWR_OK;
}

static kwr_status string_key(kwr_map *map, const char *user_key, kwr_slice *out) {
    KWR_TRY(check_user_key(kwr_map_state(map), KWR_TYPE_STRING));
    *out = kwr_typed_text(user_key);
    return KWR_OK;
}

kwr_status kwr_map_at_i64_get(kwr_map *map, int64_t user_key, kwr_slice *value) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_get(map, key, value);
}
kwr_status kwr_map_at_i64_put(kwr_map *map, int64_t user_key, kwr_slice value) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_put(map, key, value);
}
kwr_status kwr_map_at_i64_contains(kwr_map *map, int64_t user_key) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_contains(map, key);
}
kwr_status kwr_map_at_i64_remove(kwr_map *map, int64_t user_key) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_remove(map, key);
}
kwr_status kwr_map_at_i64_get_i64(kwr_map *map, int64_t user_key, int64_t *out) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_get_i64(map, key, out);
}
kwr_status kwr_map_at_i64_put_i64(kwr_map *map, int64_t user_key, int64_t value) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_put_i64(map, key, value);
}
kwr_status kwr_map_at_i64_add_i64(kwr_map *map, int64_t user_key, int64_t by, int64_t *result) {
    uint8_t bytes[8];
    kwr_slice key;
    KWR_TRY(i64_key(map, user_key, bytes, &key));
    return kwr_map_add_i64(map, key, by, result);
}

kwr_status kwr_map_at_string_get(kwr_map *map, const char *user_key, kwr_slice *value) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_get(map, key, value);
}
kwr_status kwr_map_at_string_put(kwr_map *map, const char *user_key, kwr_slice value) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_put(map, key, value);
}
kwr_status kwr_map_at_string_contains(kwr_map *map, const char *user_key) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_contains(map, key);
}
kwr_status kwr_map_at_string_remove(kwr_map *map, const char *user_key) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_remove(map, key);
}
kwr_status kwr_map_at_string_get_i64(kwr_map *map, const char *user_key, int64_t *out) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_get_i64(map, key, out);
}
kwr_status kwr_map_at_string_put_i64(kwr_map *map, const char *user_key, int64_t value) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_put_i64(map, key, value);
}
kwr_status kwr_map_at_string_add_i64(kwr_map *map, const char *user_key, int64_t by,
                                     int64_t *result) {
    kwr_slice key;
    KWR_TRY(string_key(map, user_key, &key));
    return kwr_map_add_i64(map, key, by, result);
}

/* ---- iterating ---- */

kwr_status kwr_map_iterator_next_at_i64(kwr_map_iterator *iterator, int64_t *user_key,
                                        kwr_slice *value) {
    kwr_state *state = kwr_map_iterator_state(iterator);
    KWR_TRY(check_user_key(state, KWR_TYPE_I64));
    kwr_slice key = { 0 };
    const kwr_status status = kwr_map_iterator_next(iterator, &key, value);
    KWR_TRY(status);
    if (status == KWR_OK && key.size != 8) return kwr_state_failed(state, KWR_ERR_CORRUPT, "read");
    *user_key = status == KWR_OK ? kwr_key_to_i64((const uint8_t *)key.data) : 0;
    return status;
}

kwr_status kwr_map_iterator_next_i64(kwr_map_iterator *iterator, kwr_slice *user_key,
                                     int64_t *value) {
    kwr_state *state = kwr_map_iterator_state(iterator);
    KWR_TRY(kwr_typed_check(state, KWR_TYPE_I64));
    kwr_slice got = { 0 };
    const kwr_status status = kwr_map_iterator_next(iterator, user_key, &got);
    return kwr_typed_number(state, status, got, value, sizeof *value);
}
