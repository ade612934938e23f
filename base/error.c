/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status names and error text. One table says for every status what it is called and what a caller
 * that knows nothing else should do; the compiler asks for a row when a status is added.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STATUS_TABLE(ROW)                    \
    ROW(KWR_NOT_FOUND, KWR_GO_ON)            \
    ROW(KWR_OK, KWR_GO_ON)                   \
    ROW(KWR_ERR_BUSY, KWR_RETRY)             \
    ROW(KWR_ERR_IO, KWR_RETRY)               \
    ROW(KWR_ERR_NOSPACE, KWR_RETRY)          \
    ROW(KWR_ERR_NOMEM, KWR_RETRY)            \
    ROW(KWR_ERR_TIMEOUT, KWR_RETRY)          \
    ROW(KWR_ERR_NOT_RESIDENT, KWR_RETRY)     \
    ROW(KWR_ERR_CANCELLED, KWR_ABANDON)      \
    ROW(KWR_ERR_DECLINED, KWR_ABANDON)       \
    ROW(KWR_ERR_CORRUPT, KWR_STOP)           \
    ROW(KWR_ERR_FORMAT, KWR_STOP)            \
    ROW(KWR_ERR_MISSING, KWR_STOP)           \
    ROW(KWR_ERR_FENCED, KWR_STOP)            \
    ROW(KWR_ERR_UNKNOWN, KWR_STOP)           \
    ROW(KWR_ERR_POISONED, KWR_STOP)          \
    ROW(KWR_ERR_LOCKED, KWR_STOP)            \
    ROW(KWR_ERR_REFUSED, KWR_STOP)           \
    ROW(KWR_ERR_MISUSE, KWR_FIX_CALLER)      \
    ROW(KWR_ERR_RANGE, KWR_FIX_CALLER)       \
    ROW(KWR_ERR_UNSUPPORTED, KWR_FIX_CALLER) \
    ROW(KWR_ERR_MISMATCH, KWR_FIX_CALLER)    \
    ROW(KWR_ERR_EXISTS, KWR_FIX_CALLER)

const char *kwr_status_name(kwr_status status) {
    switch (status) {
#define ROW(value, action) \
    case value: return #value;
        STATUS_TABLE(ROW)
#undef ROW
    }
    return "unknown status";
}

kwr_action kwr_status_action(kwr_status status) {
    switch (status) {
#define ROW(value, action) \
    case value: return action;
        STATUS_TABLE(ROW)
#undef ROW
    }
    /* A newer library's: whatever it is, only stopping is safe after a failure. */
    return status < 0 ? KWR_STOP : KWR_GO_ON;
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *kwr_version(void) {
    return VERSION_TEXT(KWR_VERSION_MAJOR, KWR_VERSION_MINOR, KWR_VERSION_PATCH);
}

kwr_status kwr_status_from_errno(int sys_errno) {
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT: return KWR_ERR_NOSPACE;
    case ENOMEM: return KWR_ERR_NOMEM;
    case ENOENT: return KWR_ERR_MISSING;
    case EEXIST: return KWR_ERR_EXISTS;
    case ENOTDIR:
    case EISDIR:
    case ELOOP: return KWR_ERR_MISMATCH;
    case ENAMETOOLONG: return KWR_ERR_RANGE;
    case ENOSYS:
    case EOPNOTSUPP: return KWR_ERR_UNSUPPORTED;
    default: return KWR_ERR_IO;
    }
}

/* ": <what the system says>", or "" for 0. Not translated: texts are compared and searched for. */
static void system_text(int sys_errno, char *out, size_t capacity) {
    out[0] = '\0';
    if (sys_errno == 0) return;
    const char *text = strerrordesc_np(sys_errno);
    if (text != NULL)
        snprintf(out, capacity, ": %s", text);
    else
        snprintf(out, capacity, ": system error %d", sys_errno);
}

/* Joins two texts; when they do not fit the first is cut, with "..." to show it. */
static void join_text(char *out, const char *first, const char *second) {
    size_t second_size = strnlen(second, KWR_ERROR_TEXT_MAX / 2);
    size_t first_size = strlen(first);
    const size_t room = KWR_ERROR_TEXT_MAX - 1 - second_size;
    const bool cut = first_size > room;
    if (cut) first_size = room - 3;
    memmove(out, first, first_size);
    if (cut) {
        memcpy(out + first_size, "...", 3);
        first_size += 3;
    }
    memcpy(out + first_size, second, second_size);
    out[first_size + second_size] = '\0';
}

/* Formats apart from `err`, because an argument may well be err->text itself. The buffers hold one
 * byte more than a text may have, so that a longer one is seen to be cut. */
typedef char text_buffer[KWR_ERROR_TEXT_MAX + 1];

void kwr_error_set(kwr_error *err, kwr_status status, int sys_errno, const char *format, ...) {
    if (err == NULL) return;
    text_buffer text;
    char system[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    system_text(sys_errno, system, sizeof system);
    join_text(err->text, text, system);
    err->status = status;
    err->sys_errno = sys_errno;
}

void kwr_error_prefix(kwr_error *err, const char *format, ...) {
    if (err == NULL) return;
    text_buffer prefix;
    char old[KWR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix - 2, format, args);
    va_end(args);
    memcpy(prefix + strlen(prefix), ": ", 3);
    memcpy(old, err->text, sizeof old);
    old[sizeof old - 1] = '\0';
    /* The innermost text knows most: it is kept up to half the room, the prefix is cut first. */
    if (strlen(prefix) + strlen(old) < KWR_ERROR_TEXT_MAX) {
        join_text(err->text, prefix, old);
        return;
    }
    const size_t prefix_max = KWR_ERROR_TEXT_MAX / 4;
    if (strlen(prefix) > prefix_max) memcpy(prefix + prefix_max - 5, "...: ", 6);
    const size_t prefix_size = strlen(prefix);
    const size_t room = KWR_ERROR_TEXT_MAX - 1 - prefix_size;
    memcpy(err->text, prefix, prefix_size);
    const size_t old_size = strlen(old) > room ? room : strlen(old);
    memcpy(err->text + prefix_size, old, old_size);
    err->text[prefix_size + old_size] = '\0';
}
