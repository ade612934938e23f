/* SPDX-License-Identifier: Apache-2.0 */
/* Failures of the engine and its operators, reported in the library's own terms. */
#ifndef ENG_ERROR_H
#define ENG_ERROR_H

#include <keyweir/status.h>

/* Fills `err` (may be NULL) and returns `status`; appends the system's text when sys_errno is not
 * 0.
 */
kwr_status eng_fail(kwr_error *err, kwr_status status, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Reports `status`, whose detail is `from`, with "<text>: " in front, and returns it. */
kwr_status eng_pass(kwr_error *err, kwr_status status, const kwr_error *from, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));
/* A detail with no text, to be filled by a call. */
#define ENG_ERROR_NONE \
    (kwr_error) { .status = KWR_OK }
/* KWR_ERR_NOMEM, naming what was wanted. */
kwr_status eng_no_memory(kwr_error *err, const char *what);

/* Returns from the enclosing function when `expr` failed. */
#define ENG_TRY(expr)                   \
    do {                                \
        const kwr_status try_ = (expr); \
        if (try_ < KWR_OK) return try_; \
    } while (0)

#endif /* ENG_ERROR_H */
