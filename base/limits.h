/* SPDX-License-Identifier: Apache-2.0 */
/* Limits with defaults filled in, checked against what the formats can hold. */
#ifndef KWR_BASE_LIMITS_H
#define KWR_BASE_LIMITS_H

#include "keyweir/limits.h"

/* `in` may be NULL or zeroed. KWR_ERR_RANGE names the field. */
kwr_status kwr_limits_complete(const kwr_limits *in, kwr_limits *out, kwr_error *err);

/*
 * Copies an options struct of a possibly older caller: *(size_t *)in bytes at most, rest zero; its
 * struct_size is `out_size` then. `in` NULL: defaults, all zero. KWR_ERR_RANGE when struct_size was
 * not set, or when a newer caller sets fields beyond `out_size`: an option is never ignored.
 */
kwr_status kwr_options_copy(const void *in, void *out, size_t out_size, const char *what,
                            kwr_error *err);

#endif /* KWR_BASE_LIMITS_H */
