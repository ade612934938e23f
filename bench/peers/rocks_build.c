/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was loaded says what it is: the version stands in a file beside a build that was fetched,
 * and names of test hooks are in a library only if its assertions are.
 */
#include "bench/peers/rocks_build.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef KWR_ROCKSDB

static bool file_contains(const char *path, const char *word) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    const size_t size = strlen(word), chunk = 1 << 20;
    char *bytes = malloc(chunk + size);
    size_t kept = 0, got; /* the end of the chunk before, where the word may begin */
    bool found = false;
    while (bytes != NULL && !found && (got = fread(bytes + kept, 1, chunk, file)) > 0) {
        const size_t have = kept + got;
        found = memmem(bytes, have, word, size) != NULL;
        kept = have < size ? have : size - 1;
        memmove(bytes, bytes + have - kept, kept);
    }
    free(bytes);
    fclose(file);
    return found;
}

bool rocks_build_find(rocks_build *out) {
    *out = (rocks_build){ .version = KWR_BENCH_ROCKSDB_VERSION };
    Dl_info info;
    void *open = dlsym(RTLD_DEFAULT, "rocksdb_open");
    if (open == NULL || dladdr(open, &info) == 0 || info.dli_fname == NULL) {
        snprintf(out->text, sizeof out->text, "RocksDB %s, unknown build", out->version);
        return true;
    }
    char path[4096];
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(path, sizeof path, "%.*sversion",
             slash == NULL ? 0 : (int)(slash + 1 - info.dli_fname), info.dli_fname);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fgets(out->version, sizeof out->version, file) != NULL)
            out->version[strcspn(out->version, "\n")] = '\0';
        fclose(file);
    }
    out->assertions = file_contains(info.dli_fname, "DBImpl::GetImpl:1");
    snprintf(out->text, sizeof out->text, "RocksDB %s, %s", out->version,
             out->assertions ? "assertions on" : "release build");
    return true;
}

#else

bool rocks_build_find(rocks_build *out) {
    *out = (rocks_build){ .version = "none" };
    snprintf(out->text, sizeof out->text, "built without RocksDB");
    return false;
}

#endif
