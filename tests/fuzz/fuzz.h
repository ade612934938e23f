/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fuzz targets share. A target takes bytes as an attacker would write them; nothing may crash,
 * and what is accepted must mean the same when it is written again.
 */
#ifndef KWR_TESTS_FUZZ_H
#define KWR_TESTS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/keyweir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the process, which libFuzzer reports as a finding. */
#define FUZZ_MUST(condition)                                                               \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* One environment for the whole run. */
static inline const kwr_env *fuzz_env(void) {
    static kwr_env *env;
    if (env == NULL) {
        kwr_error err;
        FUZZ_MUST(kwr_env_posix_open(NULL, &env, &err) == KWR_OK);
    }
    return env;
}

#endif /* KWR_TESTS_FUZZ_H */
