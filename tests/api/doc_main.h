/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of the documents have in common: an environment, a backend with string keys,
 * and an end with 0 when all they say is true. */
#ifndef KWR_TESTS_DOC_MAIN_H
#define KWR_TESTS_DOC_MAIN_H

#include <stdio.h>
#include <string.h>

#include <keyweir/keyweir.h>

static inline kwr_slice text(const char *string) { return (kwr_slice){ string, strlen(string) }; }

/* Ends the function with the first failure. */
#define TRY(call)                                   \
    do {                                            \
        const kwr_status try_status = (call);       \
        if (try_status < KWR_OK) return try_status; \
    } while (0)
/* What the document says is so. */
#define SAYS(holds)                                                             \
    do {                                                                        \
        if (!(holds)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); \
            return KWR_ERR_CORRUPT;                                             \
        }                                                                       \
    } while (0)

static inline int doc_main(kwr_status (*run)(kwr_backend *backend)) {
    kwr_error err;
    kwr_env *env = NULL;
    kwr_backend *backend = NULL;
    kwr_status status = kwr_env_posix_open(NULL, &env, &err);
    if (status >= KWR_OK) {
        const kwr_backend_options options = { .struct_size = sizeof options,
                                              .env = env,
                                              .key_type = { .kind = KWR_TYPE_STRING } };
        status = kwr_backend_open(&options, &backend, &err);
    }
    if (status >= KWR_OK) {
        status = run(backend);
        if (status < KWR_OK) err = *kwr_backend_error(backend);
    }
    if (status < KWR_OK) fprintf(stderr, "%s: %s\n", kwr_status_name(status), err.text);
    kwr_backend_close(backend);
    kwr_env_posix_close(env);
    return status < KWR_OK ? 1 : 0;
}

#endif /* KWR_TESTS_DOC_MAIN_H */
