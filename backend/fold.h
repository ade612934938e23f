/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in reduce functions, on stored bytes: *into = fold(*into, from). [any] */
#ifndef KWR_BACKEND_FOLD_H
#define KWR_BACKEND_FOLD_H

#include "keyweir/state.h"

typedef struct kwr_fold {
    kwr_type_kind type;
    kwr_reduce_kind reduce;
} kwr_fold;

/* False, and nothing changed, when the sum leaves the type. */
bool kwr_fold_sum(kwr_type_kind type, void *into, const void *from);
/* For min and max: whether `from` replaces `into`. Any number wins against NaN, so that order does
 * not matter. */
bool kwr_fold_better(const kwr_fold *fold, const void *into, const void *from);

#endif /* KWR_BACKEND_FOLD_H */
