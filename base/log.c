/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines are formatted on the stack: logging neither allocates nor fails. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define HAS_FIELD(table, field) \
    ((table)->struct_size >= offsetof(__typeof__(*(table)), field) + sizeof((table)->field))

static const kwr_observer *observer_of(const kwr_env *env) {
    return HAS_FIELD(env, observer) ? env->observer : NULL;
}

void kwr_log_line(const kwr_env *env, kwr_log_level level, const char *component,
                  const char *format, ...) {
    const kwr_observer *observer = observer_of(env);
    if (observer == NULL || !HAS_FIELD(observer, log) || observer->log == NULL) return;
    char line[KWR_ERROR_TEXT_MAX + 256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* One line, whatever the paths in it hold. */
    for (char *p = line; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    }
    observer->log(observer->ctx, level, component, line);
}

void kwr_metric(const kwr_env *env, const char *name, int64_t value) {
    const kwr_observer *observer = observer_of(env);
    if (observer == NULL || !HAS_FIELD(observer, metric) || observer->metric == NULL) return;
    observer->metric(observer->ctx, name, value);
}
