/* SPDX-License-Identifier: Apache-2.0 */
/* Reporting a failure where the most is known, once. */
#ifndef KWR_BASE_ERROR_H
#define KWR_BASE_ERROR_H

#include "keyweir/status.h"

/* Fills `err` (may be NULL); appends the system's text when sys_errno is not 0. */
void kwr_error_set(kwr_error *err, kwr_status status, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "<text>: " before the present text, keeping as much of both as fits. */
void kwr_error_prefix(kwr_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The status that fits an errno: NOSPACE, NOMEM, MISSING, EXISTS, ..., else IO. */
kwr_status kwr_status_from_errno(int sys_errno);

/* Reports and yields: return KWR_FAIL(err, KWR_ERR_IO, errno, "sync '%s'", path);
 * The status is evaluated first and once: it is often computed from errno. */
#define KWR_FAIL(err, status, sys_errno, ...)               \
    __extension__({                                         \
        const int errno_ = (sys_errno);                     \
        const kwr_status status_ = (status);                \
        kwr_error_set((err), status_, errno_, __VA_ARGS__); \
        status_;                                            \
    })

/* Returns from the enclosing function when `expr` failed: the only hidden control flow. */
#define KWR_TRY(expr)                   \
    do {                                \
        const kwr_status try_ = (expr); \
        if (try_ < KWR_OK) return try_; \
    } while (0)

#endif /* KWR_BASE_ERROR_H */
