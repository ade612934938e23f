/* SPDX-License-Identifier: Apache-2.0 */
/* The engines of this build, one row each. */
#include "backend/canonical.h"
#include "backend/memory/memory_engine.h"
#ifdef KWR_ROCKSDB
#include "backend/rocksdb/rocks_engine.h"
#endif

#include <string.h>

static const kwr_engine_ops *const engines[] = {
    &kwr_memory_engine,
#ifdef KWR_ROCKSDB
    &kwr_rocksdb_engine,
#endif
};

/* Engines of files that a build may lack: what they wrote is known for what it is all the same. */
static const struct {
    const char *files;
    const char *name;
} left_out[] = { { "rocksdb-1", "rocksdb" } };

bool kwr_engine_reads(const kwr_engine_ops *ops, const char *format) {
    if (strcmp(format, ops->native) == 0) return true;
    const size_t size = strlen(format);
    for (const char *at = ops->reads; at != NULL && size > 0;) {
        const char *end = strchr(at, ' ');
        const size_t length = end == NULL ? strlen(at) : (size_t)(end - at);
        if (length == size && memcmp(at, format, size) == 0) return true;
        at = end == NULL ? NULL : end + 1;
    }
    return false;
}

bool kwr_engine_format_known(const char *format) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->native, format) == 0) return true;
    return strcmp(format, KWR_CANONICAL_FORMAT) == 0;
}

const char *kwr_engine_of_files(const char *format) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (engines[i]->files != NULL && strcmp(engines[i]->files, format) == 0)
            return engines[i]->name;
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++)
        if (strcmp(left_out[i].files, format) == 0) return left_out[i].name;
    return NULL;
}

const kwr_engine_ops *kwr_engine_find(const char *name) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0) return engines[i];
    return NULL;
}
