/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bytes mean. A type is recorded with the state it describes, so that tools print real values
 * and a restore can tell whether a changed type still fits.
 *
 * Two encodings, both for ever (docs/format.md):
 *   as key      order-preserving: unsigned byte order of the encoding is the order of the values.
 *               bool 1 byte; i32, i64, u64 big-endian with the sign bit of signed ones flipped;
 *               f64 big-endian, sign flipped (negative: all bits); string, bytes, opaque as is.
 *   as value    bool 1 byte; i32, i64, u64, f64 little-endian; string, bytes, opaque as is; row see
 *               kwr_field.
 * The library stores what the caller encoded; it checks fixed sizes on writes (KWR_ERR_RANGE).
 */
#ifndef KEYWEIR_TYPE_H
#define KEYWEIR_TYPE_H

#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values are written to manifests by name; the numbers are ABI. */
typedef enum kwr_type_kind {
    KWR_TYPE_BYTES = 0, /* the default: no meaning known */
    KWR_TYPE_BOOL = 1,
    KWR_TYPE_I32 = 2,
    KWR_TYPE_I64 = 3,
    KWR_TYPE_U64 = 4,
    KWR_TYPE_F64 = 5,
    KWR_TYPE_STRING = 6, /* UTF-8 by intent; not checked */
    KWR_TYPE_ROW = 7,    /* values only */
    KWR_TYPE_OPAQUE = 8, /* the caller's own format, told apart by `version` */
} kwr_type_kind;

struct kwr_field;

typedef struct kwr_type {
    kwr_type_kind kind;
    uint32_t version;               /* opaque: the caller's format version; else 0 */
    const struct kwr_field *fields; /* row: ascending ids; else NULL */
    size_t field_count;
} kwr_type;

/*
 * A field of a row. The number identifies it for ever; the name is a label and may change. A row
 * value is: u16 number of fields, then for each, ascending: u16 id, u32 size, the value encoding.
 */
typedef struct kwr_field {
    uint16_t id;
    const char *name;
    kwr_type type;
} kwr_field;

enum { KWR_TYPE_DEPTH_MAX = 8, KWR_FIELDS_MAX = 1024 };

/* Encoded size of a fixed-size kind, 0 for a variable one. [any] */
KWR_API size_t kwr_type_fixed_size(const kwr_type *type);
/* Such as "i64" or "row{1 user:string,2 n:i64}"; at most `capacity` bytes with the NUL. [any] */
KWR_API void kwr_type_text(const kwr_type *type, char *out, size_t capacity);

/* Key encodings of fixed-size kinds; return the bytes written. Decoders take exactly that. [any] */
KWR_API size_t kwr_key_from_i32(int32_t value, uint8_t out[4]);
KWR_API size_t kwr_key_from_i64(int64_t value, uint8_t out[8]);
KWR_API size_t kwr_key_from_u64(uint64_t value, uint8_t out[8]);
KWR_API size_t kwr_key_from_f64(double value, uint8_t out[8]);
KWR_API int32_t kwr_key_to_i32(const uint8_t key[4]);
KWR_API int64_t kwr_key_to_i64(const uint8_t key[8]);
KWR_API uint64_t kwr_key_to_u64(const uint8_t key[8]);
KWR_API double kwr_key_to_f64(const uint8_t key[8]);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_TYPE_H */
