/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that are folded unread: the part of the merge operator that serves Reducing state.
 *
 * RocksDB may fold operands with each other before it knows what they are to be folded into, so
 * the functions must be associative on what is stored: sums of integers therefore go through 128
 * bits, and sums of f64, which are not associative, are only folded into what they follow.
 */
#include "backend/rocksdb/rocks_fold.h"

#include "base/bytes.h"
#include "base/memory.h"

__extension__ typedef __int128 wide;

static size_t number_size(kwr_type_kind type) { return type == KWR_TYPE_I32 ? 4 : 8; }

static wide wide_of(kwr_type_kind type, kwr_slice bytes) {
    if (bytes.size == ROCKS_WIDE_SIZE) {
        const uint64_t low = kwr_get_le64(bytes.data);
        const uint64_t high = kwr_get_le64((const uint8_t *)bytes.data + 8);
        return (wide)((unsigned __int128)high << 64 | low);
    }
    if (type == KWR_TYPE_I32) return (int32_t)kwr_get_le32(bytes.data);
    const uint64_t number = kwr_get_le64(bytes.data);
    return type == KWR_TYPE_U64 ? (wide)number : (wide)(int64_t)number;
}

static wide least(kwr_type_kind type) {
    return type == KWR_TYPE_I32 ? INT32_MIN : type == KWR_TYPE_I64 ? INT64_MIN : 0;
}
static wide most(kwr_type_kind type) {
    return type == KWR_TYPE_I32   ? (wide)INT32_MAX
           : type == KWR_TYPE_I64 ? (wide)INT64_MAX
                                  : (wide)UINT64_MAX;
}

static size_t wide_put(uint8_t *out, kwr_type_kind type, wide sum) {
    if (sum < least(type) || sum > most(type)) {
        kwr_put_le64(out, (uint64_t)sum);
        kwr_put_le64(out + 8, (uint64_t)(sum >> 64));
        return ROCKS_WIDE_SIZE;
    }
    if (type == KWR_TYPE_I32)
        kwr_put_le32(out, (uint32_t)(int32_t)sum);
    else
        kwr_put_le64(out, (uint64_t)sum);
    return number_size(type);
}

size_t kwr_rocks_wide_end(uint8_t out[ROCKS_WIDE_SIZE], kwr_type_kind type, const void *stored) {
    const wide sum = wide_of(type, (kwr_slice){ stored, ROCKS_WIDE_SIZE });
    return wide_put(out, type, sum < 0 ? least(type) : most(type));
}

/* ---- operands ---- */

size_t kwr_rocks_fold_put(uint8_t out[ROCKS_FOLD_SIZE + ROCKS_WIDE_SIZE], kwr_fold how,
                          kwr_slice value) {
    out[0] = ROCKS_FOLD;
    out[1] = (uint8_t)how.type;
    out[2] = (uint8_t)how.reduce;
    memcpy(out + ROCKS_FOLD_SIZE, value.data, value.size);
    return ROCKS_FOLD_SIZE + value.size;
}

static bool is_wide_sum(kwr_fold how) {
    return how.reduce == KWR_REDUCE_SUM && how.type != KWR_TYPE_F64;
}

static bool size_fits(kwr_fold how, size_t size) {
    return size == number_size(how.type) || (size == ROCKS_WIDE_SIZE && is_wide_sum(how));
}

static bool operand_parse(kwr_slice operand, kwr_fold *how, kwr_slice *value) {
    const uint8_t *bytes = operand.data;
    if (operand.size < ROCKS_FOLD_SIZE || bytes[0] != ROCKS_FOLD) return false;
    *how = (kwr_fold){ (kwr_type_kind)bytes[1], (kwr_reduce_kind)bytes[2] };
    *value = (kwr_slice){ bytes + ROCKS_FOLD_SIZE, operand.size - ROCKS_FOLD_SIZE };
    if (how->type != KWR_TYPE_I32 && how->type != KWR_TYPE_I64 && how->type != KWR_TYPE_U64 &&
        how->type != KWR_TYPE_F64)
        return false;
    if (how->reduce != KWR_REDUCE_SUM && how->reduce != KWR_REDUCE_MIN &&
        how->reduce != KWR_REDUCE_MAX)
        return false;
    return size_fits(*how, value->size);
}

size_t kwr_rocks_fold_one(uint8_t out[ROCKS_WIDE_SIZE], kwr_slice base, kwr_slice operand) {
    kwr_fold how;
    kwr_slice value;
    if (!operand_parse(operand, &how, &value)) return 0;
    if (base.data != NULL && !size_fits(how, base.size)) return 0;
    if (is_wide_sum(how)) {
        const wide sum = base.data == NULL ? 0 : wide_of(how.type, base);
        return wide_put(out, how.type, sum + wide_of(how.type, value));
    }
    if (base.data == NULL) {
        memcpy(out, value.data, value.size);
        return value.size;
    }
    if (out != base.data) memcpy(out, base.data, base.size);
    if (how.reduce != KWR_REDUCE_SUM) {
        if (kwr_fold_better(&how, out, value.data)) memcpy(out, value.data, value.size);
    } else {
        (void)kwr_fold_sum(how.type, out, value.data); /* f64: there is no end to leave */
    }
    return base.size;
}

char *kwr_rocks_fold_full(kwr_slice base, const rocks_operands *o, size_t *size) {
    uint8_t result[ROCKS_WIDE_SIZE];
    for (size_t i = 0; i < o->count; i++) {
        const size_t got = kwr_rocks_fold_one(result, base, (kwr_slice){ o->data[i], o->sizes[i] });
        if (got == 0) return NULL;
        base = (kwr_slice){ result, got };
    }
    char *out = kwr_rocks_merge_room(base.size);
    if (out == NULL) return NULL;
    memcpy(out, base.data, base.size);
    *size = base.size;
    return out;
}

char *kwr_rocks_fold_partial(const rocks_operands *o, size_t *size) {
    kwr_fold how, first;
    kwr_slice value, base = { 0 };
    uint8_t result[ROCKS_WIDE_SIZE];
    if (!operand_parse((kwr_slice){ o->data[0], o->sizes[0] }, &first, &value)) return NULL;
    if (first.type == KWR_TYPE_F64 && first.reduce == KWR_REDUCE_SUM) return NULL;
    for (size_t i = 0; i < o->count; i++) {
        const kwr_slice operand = { o->data[i], o->sizes[i] };
        if (!operand_parse(operand, &how, &value) || how.type != first.type ||
            how.reduce != first.reduce)
            return NULL;
        const size_t got = kwr_rocks_fold_one(result, base, operand);
        if (got == 0) return NULL;
        base = (kwr_slice){ result, got };
    }
    uint8_t *out = kwr_rocks_merge_room(ROCKS_FOLD_SIZE + base.size);
    if (out != NULL) *size = kwr_rocks_fold_put(out, first, base);
    return (char *)out;
}
