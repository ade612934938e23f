/* SPDX-License-Identifier: Apache-2.0 */
/* See fold.h. */
#include "backend/fold.h"

#include "base/bytes.h"

bool kwr_fold_sum(kwr_type_kind type, void *into, const void *from) {
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

bool kwr_fold_better(const kwr_fold *fold, const void *into, const void *from) {
    const bool nan_into = is_nan(fold->type, into);
    const bool nan_from = is_nan(fold->type, from);
    if (nan_into != nan_from) return nan_into;
    const uint64_t a = order_of(fold->type, into);
    const uint64_t b = order_of(fold->type, from);
    return fold->reduce == KWR_REDUCE_MIN ? b < a : b > a;
}
