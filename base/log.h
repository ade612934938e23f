/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines and metrics out to the host's observer; nothing when there is none. */
#ifndef KWR_BASE_LOG_H
#define KWR_BASE_LOG_H

#include "keyweir/env.h"

void kwr_log_line(const kwr_env *env, kwr_log_level level, const char *component,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));
void kwr_metric(const kwr_env *env, const char *name, int64_t value);

#endif /* KWR_BASE_LOG_H */
