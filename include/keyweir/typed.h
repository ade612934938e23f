/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shorter forms for the usual types. Each encodes or decodes what its name says and is otherwise
 * the call without the type in its name; the bytes stay there to be used beside it. On a state of
 * another type it fails with KWR_ERR_MISMATCH and both types in the detail, before anything else.
 *
 * Getters give KWR_NOT_FOUND, and 0 or an empty slice, where nothing is stored and there is no
 * default. Strings go in up to their NUL, which is not stored, and come out as slices.
 */
#ifndef KEYWEIR_TYPED_H
#define KEYWEIR_TYPED_H

#include "keyweir/list.h"
#include "keyweir/map.h"
#include "keyweir/state.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the current key, and namespaces, of type i64 or string ---- */

KWR_API KWR_CHECK kwr_status kwr_backend_set_key_i64(kwr_backend *backend, int64_t key);
KWR_API KWR_CHECK kwr_status kwr_backend_set_key_string(kwr_backend *backend, const char *key);
/* Of any handle: kwr_value_state() and its like. */
KWR_API KWR_CHECK kwr_status kwr_state_set_namespace_i64(kwr_state *state, int64_t name);
KWR_API KWR_CHECK kwr_status kwr_state_set_namespace_string(kwr_state *state, const char *name);

/* ---- value ---- */

KWR_API KWR_CHECK kwr_status kwr_value_get_bool(kwr_value *value, bool *out);
KWR_API KWR_CHECK kwr_status kwr_value_get_i32(kwr_value *value, int32_t *out);
KWR_API KWR_CHECK kwr_status kwr_value_get_i64(kwr_value *value, int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_value_get_u64(kwr_value *value, uint64_t *out);
KWR_API KWR_CHECK kwr_status kwr_value_get_f64(kwr_value *value, double *out);
KWR_API KWR_CHECK kwr_status kwr_value_get_string(kwr_value *value, kwr_slice *out);
KWR_API KWR_CHECK kwr_status kwr_value_put_bool(kwr_value *value, bool data);
KWR_API KWR_CHECK kwr_status kwr_value_put_i32(kwr_value *value, int32_t data);
KWR_API KWR_CHECK kwr_status kwr_value_put_i64(kwr_value *value, int64_t data);
KWR_API KWR_CHECK kwr_status kwr_value_put_u64(kwr_value *value, uint64_t data);
KWR_API KWR_CHECK kwr_status kwr_value_put_f64(kwr_value *value, double data);
KWR_API KWR_CHECK kwr_status kwr_value_put_string(kwr_value *value, const char *data);
/*
 * Adds in one lookup, to the default or 0 where nothing is stored; `result`, when not NULL, is what
 * is stored now. KWR_ERR_RANGE: the sum of an i64 overflows, and nothing changed.
 */
KWR_API KWR_CHECK kwr_status kwr_value_add_i64(kwr_value *value, int64_t by, int64_t *result);
KWR_API KWR_CHECK kwr_status kwr_value_add_f64(kwr_value *value, double by, double *result);
/*
 * The values of all `count` keys loaded into `batch`, their entries fetched together; where nothing
 * is stored out[i] is the default, or else `absent`. The last of the keys is current afterwards.
 */
KWR_API KWR_CHECK kwr_status kwr_value_get_batch_i64(kwr_value *value, kwr_key_batch *batch,
                                                     int64_t absent, int64_t *out, size_t count);
KWR_API KWR_CHECK kwr_status kwr_value_get_batch_f64(kwr_value *value, kwr_key_batch *batch,
                                                     double absent, double *out, size_t count);

/* ---- reducing ---- */

KWR_API KWR_CHECK kwr_status kwr_reducing_add_i64(kwr_reducing *reducing, int64_t value,
                                                  int64_t *result);
KWR_API KWR_CHECK kwr_status kwr_reducing_add_f64(kwr_reducing *reducing, double value,
                                                  double *result);
KWR_API KWR_CHECK kwr_status kwr_reducing_get_i64(kwr_reducing *reducing, int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_reducing_get_f64(kwr_reducing *reducing, double *out);

/* ---- list ---- */

KWR_API KWR_CHECK kwr_status kwr_list_add_i64(kwr_list *list, int64_t element);
KWR_API KWR_CHECK kwr_status kwr_list_add_f64(kwr_list *list, double element);
KWR_API KWR_CHECK kwr_status kwr_list_add_string(kwr_list *list, const char *element);
KWR_API KWR_CHECK kwr_status kwr_list_iterator_next_i64(kwr_list_iterator *iterator, int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_list_iterator_next_f64(kwr_list_iterator *iterator, double *out);

/* ---- map: numbers as values ---- */

KWR_API KWR_CHECK kwr_status kwr_map_get_i64(kwr_map *map, kwr_slice user_key, int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_map_get_f64(kwr_map *map, kwr_slice user_key, double *out);
KWR_API KWR_CHECK kwr_status kwr_map_put_i64(kwr_map *map, kwr_slice user_key, int64_t value);
KWR_API KWR_CHECK kwr_status kwr_map_put_f64(kwr_map *map, kwr_slice user_key, double value);
KWR_API KWR_CHECK kwr_status kwr_map_add_i64(kwr_map *map, kwr_slice user_key, int64_t by,
                                             int64_t *result);
KWR_API KWR_CHECK kwr_status kwr_map_add_f64(kwr_map *map, kwr_slice user_key, double by,
                                             double *result);

/* ---- map: user keys of type i64 and string; numbers as values in addition ---- */

KWR_API KWR_CHECK kwr_status kwr_map_at_i64_get(kwr_map *map, int64_t user_key, kwr_slice *value);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_put(kwr_map *map, int64_t user_key, kwr_slice value);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_contains(kwr_map *map, int64_t user_key);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_remove(kwr_map *map, int64_t user_key);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_get_i64(kwr_map *map, int64_t user_key, int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_put_i64(kwr_map *map, int64_t user_key, int64_t value);
KWR_API KWR_CHECK kwr_status kwr_map_at_i64_add_i64(kwr_map *map, int64_t user_key, int64_t by,
                                                    int64_t *result);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_get(kwr_map *map, const char *user_key,
                                                   kwr_slice *value);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_put(kwr_map *map, const char *user_key,
                                                   kwr_slice value);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_contains(kwr_map *map, const char *user_key);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_remove(kwr_map *map, const char *user_key);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_get_i64(kwr_map *map, const char *user_key,
                                                       int64_t *out);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_put_i64(kwr_map *map, const char *user_key,
                                                       int64_t value);
KWR_API KWR_CHECK kwr_status kwr_map_at_string_add_i64(kwr_map *map, const char *user_key,
                                                       int64_t by, int64_t *result);
/* Iterating: the next entry with its user key, and where the name says so its value, decoded. Past
 * the last 0 and empty. */
KWR_API KWR_CHECK kwr_status kwr_map_iterator_next_at_i64(kwr_map_iterator *iterator,
                                                          int64_t *user_key, kwr_slice *value);
KWR_API KWR_CHECK kwr_status kwr_map_iterator_next_i64(kwr_map_iterator *iterator,
                                                       kwr_slice *user_key, int64_t *value);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_TYPED_H */
