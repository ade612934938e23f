/* SPDX-License-Identifier: Apache-2.0 */
/* The table of limits: where each stands, its default, and the most the stored formats can hold. */
#include "base/limits.h"

#include <string.h>

#include "base/error.h"

enum { KIB = 1024, MIB = 1024 * KIB, GIB = 1024 * MIB };

typedef struct limit_row {
    const char *name;
    size_t offset;
    size_t width; /* 4 or 8 */
    uint64_t standard;
    uint64_t most;
} limit_row;

#define ROW(field, standard, most) \
    { #field, offsetof(kwr_limits, field), sizeof(((kwr_limits *)0)->field), standard, most, }

static const limit_row rows[] = {
    ROW(key_bytes_max, MIB, GIB),
    ROW(namespace_bytes_max, 64 * KIB, GIB),
    ROW(value_bytes_max, 64 * MIB, GIB),
    ROW(name_bytes_max, 255, 255),
    ROW(states_max, 4096, 65535),
    ROW(views_max, 64, 65535),
    ROW(batch_keys_max, 4096, 16 * MIB),
    ROW(manifest_bytes_max, 64 * MIB, UINT32_MAX),
    ROW(slot_bytes_max, 16 * KIB, UINT32_MAX),
    ROW(message_bytes_max, 64 * MIB, UINT32_MAX),
    ROW(image_bytes_max, (uint64_t)GIB + MIB, UINT32_MAX),
    ROW(index_bytes_max, GIB, INT64_MAX),
    ROW(files_max, 1000000, UINT32_MAX),
    ROW(operators_max, 4096, UINT32_MAX),
    ROW(committable_bytes_max, 4 * KIB, UINT32_MAX),
    ROW(split_bytes_max, 64 * KIB, UINT32_MAX),
    ROW(claim_attempts_max, 16, UINT32_MAX),
    ROW(slots_max, 1000000, UINT32_MAX),
};

_Static_assert(sizeof(size_t) == 8, "the table tells 4-byte from 8-byte fields");

static uint64_t get_field(const kwr_limits *limits, const limit_row *row) {
    uint64_t wide = 0;
    memcpy(&wide, (const char *)limits + row->offset, row->width); /* little-endian: zero-extends */
    return wide;
}

static void put_field(kwr_limits *limits, const limit_row *row, uint64_t value) {
    memcpy((char *)limits + row->offset, &value, row->width);
}

static bool all_zero(const void *memory, size_t size) {
    const unsigned char *p = memory;
    for (size_t i = 0; i < size; i++) {
        if (p[i] != 0) return false;
    }
    return true;
}

kwr_status kwr_limits_complete(const kwr_limits *in, kwr_limits *out, kwr_error *err) {
    kwr_limits limits;
    if (in != NULL && in->struct_size == 0) {
        if (!all_zero(in, sizeof *in)) {
            return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                            "limits are set but limits.struct_size is 0: start from "
                            "KWR_LIMITS_INIT");
        }
        in = NULL;
    }
    KWR_TRY(kwr_options_copy(in, &limits, sizeof limits, "limits", err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint64_t value = get_field(&limits, &rows[i]);
        if (value > rows[i].most) {
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "limits.%s is %llu: at most %llu", rows[i].name,
                            (unsigned long long)value, (unsigned long long)rows[i].most);
        }
        if (value == 0) put_field(&limits, &rows[i], rows[i].standard);
    }
    *out = limits;
    return KWR_OK;
}

/* No options struct of ours comes near this: a larger size is memory that was never set. */
enum { OPTIONS_SIZE_MAX = 64 * KIB };

kwr_status kwr_options_copy(const void *in, void *out, size_t out_size, const char *what,
                            kwr_error *err) {
    size_t in_size = sizeof in_size;
    if (in != NULL) memcpy(&in_size, in, sizeof in_size);
    if (in_size < sizeof in_size || in_size > OPTIONS_SIZE_MAX) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "%s: struct_size is %zu; set it to the size of the struct", what, in_size);
    }
    /* A newer caller's extra fields are fine as long as they ask for nothing. */
    if (in_size > out_size && !all_zero((const char *)in + out_size, in_size - out_size)) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "%s: sets options that this version of the library does not know (it has "
                        "%zu bytes, the caller %zu)",
                        what, out_size, in_size);
    }
    memset(out, 0, out_size);
    if (in != NULL) memcpy(out, in, in_size < out_size ? in_size : out_size);
    memcpy(out, &out_size, sizeof out_size);
    return KWR_OK;
}
