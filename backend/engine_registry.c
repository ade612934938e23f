/* SPDX-License-Identifier: Apache-2.0 */
/* The engines of this build, one row each. */
#include "backend/memory/memory_engine.h"

#include <string.h>

static const kwr_engine_ops *const engines[] = { &kwr_memory_engine };

const kwr_engine_ops *kwr_engine_find(const char *name) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0) return engines[i];
    return NULL;
}
