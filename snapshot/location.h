/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URI of a storage over a network, taken apart: scheme://[user@]authority/path?name=value&...
 * User, path and values are percent-decoded. Secrets are never in a URI: a parameter names a file
 * that holds them.
 */
#ifndef KWR_SNAPSHOT_LOCATION_H
#define KWR_SNAPSHOT_LOCATION_H

#include "base/memory.h"

enum { KWR_LOCATION_MAX = 4096, KWR_LOCATION_PARAMS_MAX = 32 };

typedef struct kwr_location_param {
    const char *name, *value;
} kwr_location_param;

typedef struct kwr_location {
    kwr_arena *arena;  /* holds all of it */
    const char *shown; /* the URI without its parameters, for messages */
    const char *scheme;
    const char *user;      /* NULL when there is none */
    const char *authority; /* as written */
    const char *path;      /* "/" and components, no "/" at the end but for the root */
    kwr_location_param params[KWR_LOCATION_PARAMS_MAX];
    size_t param_count;
} kwr_location;

/* KWR_ERR_RANGE, KWR_ERR_NOMEM. Release with kwr_location_free(). */
kwr_status kwr_location_parse(const kwr_env *env, const char *uri, kwr_location *out,
                              kwr_error *err);
void kwr_location_free(kwr_location *location);

/* Every parameter must be one of `known`, each at most once: KWR_ERR_RANGE, listing them. */
kwr_status kwr_location_check(const kwr_location *location, const char *const *known, size_t count,
                              kwr_error *err);
/* Its value, or NULL. */
const char *kwr_location_get(const kwr_location *location, const char *name);
/* A number in [min, max]; `value` when it is not given. */
kwr_status kwr_location_number(const kwr_location *location, const char *name, uint64_t min,
                               uint64_t max, uint64_t *value, kwr_error *err);
/* "yes" or "no"; `value` when it is not given. */
kwr_status kwr_location_flag(const kwr_location *location, const char *name, bool *value,
                             kwr_error *err);

/* A whole local file by its path, at most `size_max` bytes. KWR_ERR_MISSING, KWR_ERR_RANGE. */
kwr_status kwr_read_local_file(const kwr_env *env, const char *path, size_t size_max,
                               kwr_buffer *out, kwr_error *err);
/* Overwrites a secret; not optimised away. */
void kwr_wipe(void *secret, size_t size);

#endif /* KWR_SNAPSHOT_LOCATION_H */
