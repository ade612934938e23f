/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Appends as much of `more` as fits. */
static void append(char text[KWR_ERROR_TEXT_MAX], const char *more) {
    const size_t used = strnlen(text, KWR_ERROR_TEXT_MAX - 1);
    const size_t room = KWR_ERROR_TEXT_MAX - 1 - used;
    const size_t size = strnlen(more, room);
    memcpy(text + used, more, size);
    text[used + size] = '\0';
}

kwr_status eng_fail(kwr_error *err, kwr_status status, int sys_errno, const char *format, ...) {
    if (err == NULL) return status;
    err->status = status;
    err->sys_errno = sys_errno;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (sys_errno != 0) {
        char system[128];
        const char *text = strerror_r(sys_errno, system, sizeof system);
        append(err->text, ": ");
        append(err->text, text);
    }
    return status;
}

kwr_status eng_pass(kwr_error *err, kwr_status status, const kwr_error *from, const char *format,
                    ...) {
    if (err == NULL) return status;
    /* `from` may be `err` itself. */
    char text[KWR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    append(text, ": ");
    append(text, from->text[0] != '\0' ? from->text : kwr_status_name(status));
    err->status = status;
    err->sys_errno = from->sys_errno;
    memcpy(err->text, text, sizeof text);
    return status;
}

kwr_status eng_no_memory(kwr_error *err, const char *what) {
    return eng_fail(err, KWR_ERR_NOMEM, 0, "no memory for %s", what);
}
