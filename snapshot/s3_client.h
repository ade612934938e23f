/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the S3 client: what a URI says, and the credentials. */
#ifndef KWR_SNAPSHOT_S3_CLIENT_H
#define KWR_SNAPSHOT_S3_CLIENT_H

#include "base/thread.h"
#include "snapshot/location.h"
#include "snapshot/retry.h"
#include "snapshot/s3.h"
#include "snapshot/url.h"

enum { KWR_S3_KEY_MAX = 255, KWR_S3_TOKEN_MAX = 8192 };

/* Read again when the server says that they are too old; requests keep the ones they began with. */
typedef struct kwr_s3_credentials {
    const kwr_env *env;
    uint64_t references; /* under the client's mutex */
    char key[KWR_S3_KEY_MAX + 1];
    char secret[KWR_S3_KEY_MAX + 1];
    char token[KWR_S3_TOKEN_MAX + 1]; /* "" without one */
} kwr_s3_credentials;

struct kwr_s3 {
    const kwr_env *env;
    kwr_http *http;
    kwr_location location;
    char *shown;                            /* "s3://bucket" */
    char *prefix;                           /* of all keys */
    char *base;                             /* "https://host[:port]", and in path style "/bucket" */
    char *sigv4;                            /* for libcurl */
    const char *credentials_file, *profile; /* in `location`; file NULL: the surroundings */
    size_t part_size;
    uint32_t parallel;
    kwr_retry_policy policy;
    kwr_mutex mutex; /* of what follows */
    kwr_s3_credentials *credentials;
    bool proved;      /* `proof` is known */
    kwr_status proof; /* whether exclusive puts are exclusive */
    kwr_error proof_error;
};

/* The present ones, to be given back by _release(). */
kwr_s3_credentials *kwr_s3_credentials_take(kwr_s3 *s3);
void kwr_s3_credentials_release(kwr_s3 *s3, kwr_s3_credentials *credentials);
/* Reads them anew. KWR_NOT_FOUND: they are still the same. */
kwr_status kwr_s3_credentials_load(kwr_s3 *s3, kwr_error *err);

#endif /* KWR_SNAPSHOT_S3_CLIENT_H */
