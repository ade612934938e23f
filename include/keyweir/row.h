/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows by field: writing the encoding of type.h into a buffer of the caller, and reading fields out
 * of it by their numbers. Both know the row's type, and refuse a field of another with both names.
 */
#ifndef KEYWEIR_ROW_H
#define KEYWEIR_ROW_H

#include "keyweir/type.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A row being written; set all of it by kwr_row_begin(). Fields come in ascending order of ids;
 * one that is left out is absent. The first failure is kept and given by kwr_row_end(), so that
 * the calls between need no checks.
 */
typedef struct kwr_row {
    const kwr_type *type;
    uint8_t *data;
    size_t capacity;
    size_t size;   /* of the encoding, also beyond capacity */
    uint32_t last; /* id of the latest field + 1 */
    uint32_t count;
    kwr_error error;
} kwr_row;

/* `type` and `data` stay the caller's and must live until kwr_row_end(). [any] */
KWR_API void kwr_row_begin(kwr_row *row, const kwr_type *type, void *data, size_t capacity);
KWR_API void kwr_row_put_bool(kwr_row *row, uint16_t id, bool value);
KWR_API void kwr_row_put_i32(kwr_row *row, uint16_t id, int32_t value);
KWR_API void kwr_row_put_i64(kwr_row *row, uint16_t id, int64_t value);
KWR_API void kwr_row_put_u64(kwr_row *row, uint16_t id, uint64_t value);
KWR_API void kwr_row_put_f64(kwr_row *row, uint16_t id, double value);
KWR_API void kwr_row_put_string(kwr_row *row, uint16_t id, const char *text);
/* The field's own encoding, of any type: strings that hold NUL, bytes, opaque values, whole rows.
 */
KWR_API void kwr_row_put(kwr_row *row, uint16_t id, kwr_slice value);
/*
 * Lends the finished row, in the buffer given to begin. KWR_ERR_RANGE: it does not fit (row->size
 * is what it needs), an id the type does not have, or ids that do not ascend; KWR_ERR_MISMATCH: a
 * field of another type. `err` may be NULL.
 */
KWR_API KWR_CHECK kwr_status kwr_row_end(kwr_row *row, kwr_slice *out, kwr_error *err);

/*
 * One field of a row. KWR_NOT_FOUND: the row has none of this id (`*out` is then 0 or empty).
 * KWR_ERR_RANGE: the type has none; KWR_ERR_MISMATCH: it is of another type; KWR_ERR_CORRUPT: the
 * bytes are no row of this type. Slices point into `row`. `err` may be NULL. [any]
 */
KWR_API KWR_CHECK kwr_status kwr_row_get_bool(const kwr_type *type, kwr_slice row, uint16_t id,
                                              bool *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_row_get_i32(const kwr_type *type, kwr_slice row, uint16_t id,
                                             int32_t *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_row_get_i64(const kwr_type *type, kwr_slice row, uint16_t id,
                                             int64_t *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_row_get_u64(const kwr_type *type, kwr_slice row, uint16_t id,
                                             uint64_t *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_row_get_f64(const kwr_type *type, kwr_slice row, uint16_t id,
                                             double *out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_row_get_string(const kwr_type *type, kwr_slice row, uint16_t id,
                                                kwr_slice *out, kwr_error *err);
/* The encoding of a field of any type. */
KWR_API KWR_CHECK kwr_status kwr_row_get(const kwr_type *type, kwr_slice row, uint16_t id,
                                         kwr_slice *out, kwr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_ROW_H */
