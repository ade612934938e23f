/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small object store on loopback, one bucket "bucket". It keeps conditional puts unless told not
 * to, and looks whether requests are signed, not by whom: servers that check that are another test
 * (s3_server_test.c). A plan spoils chosen requests.
 */
#ifndef STORAGE_FAKE_S3_H
#define STORAGE_FAKE_S3_H

#include "tests/storage/loopback.h"

typedef struct fake_s3 fake_s3;

typedef enum fake_s3_fault {
    FAKE_S3_NONE = 0,
    FAKE_S3_RESET_BEFORE, /* connection reset, nothing done */
    FAKE_S3_RESET_AFTER,  /* done, then reset */
    FAKE_S3_CUT,          /* done, the answer ends after `cut` bytes */
    FAKE_S3_500,          /* nothing done */
    FAKE_S3_500_AFTER,    /* done */
    FAKE_S3_503,          /* nothing done */
    FAKE_S3_409,          /* nothing done; another conditional request is under way */
    FAKE_S3_EXPIRED,      /* 400, nothing done */
    FAKE_S3_DENIED,       /* 403, nothing done */
    FAKE_S3_GARBAGE,      /* 200 with a page, nothing done */
    FAKE_S3_FAULTS,
} fake_s3_fault;

typedef struct fake_s3_plan {
    fake_s3_fault fault;
    uint64_t at;    /* the first request spoilt, counted from 1; 0: none */
    uint64_t count; /* how many in a row; 0: one */
    size_t cut;
} fake_s3_plan;

typedef struct fake_s3_options {
    bool replaces;           /* If-None-Match is ignored */
    bool forgets_meta;       /* x-amz-meta-... is not kept */
    bool no_exclusive_parts; /* 501 for conditions when parts are put together */
    bool error_in_200;       /* putting parts together answers 200 with an error the first time */
    bool no_ranges;
    bool no_markers;                 /* a list of uploads has more pages, but does not say where */
    const loopback_channel *channel; /* TLS: the endpoint is https: then */
    size_t list_page;                /* names in a page at most; default 3 */
} fake_s3_options;

fake_s3 *fake_s3_open(const fake_s3_options *options);
void fake_s3_close(fake_s3 *fake);
/* "s3://bucket/some/prefix?endpoint=...&retry_ms=..."; more parameters can follow. */
void fake_s3_uri(const fake_s3 *fake, uint32_t retry_ms, char *out, size_t capacity);
/* Takes effect with the next request; counting begins anew. */
void fake_s3_plan_set(fake_s3 *fake, fake_s3_plan plan);
uint64_t fake_s3_requests(fake_s3 *fake);
/* Requests without a signature, or with another key than `key_id`. */
uint64_t fake_s3_unsigned(fake_s3 *fake);
/* The session's token the last request carried; "" for none. */
void fake_s3_last_token(fake_s3 *fake, char *out, size_t capacity);
void fake_s3_clear(fake_s3 *fake);
/* Objects whose key starts so; uploads that were neither ended nor given up. */
size_t fake_s3_count(fake_s3 *fake, const char *prefix);
size_t fake_s3_uploads(fake_s3 *fake);
/* An object behind everybody's back; its content (for free()), or NULL. */
void fake_s3_put(fake_s3 *fake, const char *key, const void *data, size_t size);
void *fake_s3_get(fake_s3 *fake, const char *key, size_t *size);

#endif /* STORAGE_FAKE_S3_H */
