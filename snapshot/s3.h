/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An S3 client: one signed request at a time on one bucket, tried again while that is safe. What
 * it adds to the protocol is the exclusive put: an object is made only where there is none, and
 * when the answer got lost the object itself, which carries who made it, says what happened. [any]
 */
#ifndef KWR_SNAPSHOT_S3_H
#define KWR_SNAPSHOT_S3_H

#include "snapshot/http.h"

typedef struct kwr_s3 kwr_s3;

enum {
    KWR_S3_HEADERS_MAX = 4,
    KWR_S3_CODE_MAX = 48,
    KWR_S3_ID_SIZE = 33, /* hex and NUL */
    KWR_S3_ETAG_MAX = 128,
    KWR_S3_PARTS_MAX = 10000, /* of one object, by protocol */
};

/* The client of a URI, see docs/storage.md. KWR_ERR_RANGE, _MISSING (credentials), _REFUSED,
 * _NOMEM, _UNSUPPORTED. Nothing is asked of the server yet. */
kwr_status kwr_s3_open(const kwr_env *env, const char *uri, kwr_s3 **out, kwr_error *err);
void kwr_s3_close(kwr_s3 *s3);

const kwr_env *kwr_s3_env(const kwr_s3 *s3);
/* "s3://bucket", for messages. */
const char *kwr_s3_shown(const kwr_s3 *s3);
/* What all keys start with: "" or "some/prefix/". */
const char *kwr_s3_prefix(const kwr_s3 *s3);
size_t kwr_s3_part_size(const kwr_s3 *s3);
/* Parts of one object that travel at the same time. */
uint32_t kwr_s3_parallel(const kwr_s3 *s3);

/* Zero what is not needed. */
typedef struct kwr_s3_call {
    const char *method;
    const char *key;   /* not encoded; NULL: the bucket itself */
    const char *query; /* encoded, sorted by name, without '?' */
    const char *headers[KWR_S3_HEADERS_MAX];
    const void *body;
    size_t body_size;
    void *into; /* the answer's body goes there, and must have into_size bytes; else collected */
    size_t into_size;
    bool once; /* not tried again after a try that may have been carried out */
} kwr_s3_call;

/* Zero it before the first use. */
typedef struct kwr_s3_reply {
    kwr_http_answer answer;
    int status;                 /* of the last try; 0: there was no answer */
    char code[KWR_S3_CODE_MAX]; /* the server's word for its refusal; "" when it gave none */
    bool doubt;                 /* with a failure: some try may have been carried out */
} kwr_s3_reply;
void kwr_s3_reply_free(kwr_s3_reply *reply);

/* KWR_OK: a status 2xx. KWR_ERR_MISSING (404), _EXISTS (412), _REFUSED (401, 403), _NOSPACE,
 * _TIMEOUT, _NOMEM, _CORRUPT, _IO, _RANGE; the text names object, status and the server's reason.
 */
kwr_status kwr_s3_ask(kwr_s3 *s3, const kwr_s3_call *call, kwr_s3_reply *reply, kwr_error *err);

/* A name for whoever makes an object, and the header that carries it. */
typedef struct kwr_s3_id {
    char header[64]; /* "x-amz-meta-keyweir: <32 hex digits>" */
} kwr_s3_id;
kwr_status kwr_s3_id_new(kwr_s3 *s3, kwr_s3_id *out, kwr_error *err);

typedef enum kwr_s3_whose {
    KWR_S3_NOBODYS = 0, /* there is no such object */
    KWR_S3_OURS,
    KWR_S3_ANOTHERS,
} kwr_s3_whose;
/* Who made the object. */
kwr_status kwr_s3_whose_is(kwr_s3 *s3, const char *key, const kwr_s3_id *id, kwr_s3_whose *out,
                           kwr_error *err);

/*
 * An object with this whole content where there is none. KWR_OK: it is there. KWR_ERR_EXISTS: there
 * was one. KWR_ERR_UNKNOWN: it may or may not be there. Any other failure: it is not.
 */
kwr_status kwr_s3_put_new(kwr_s3 *s3, const char *key, const void *data, size_t size,
                          kwr_error *err);

/*
 * Shows that the server keeps the exclusive put: makes an object, tries to make it again, removes
 * it. Once for each client; later calls return what was found. KWR_ERR_UNSUPPORTED: it does not.
 */
kwr_status kwr_s3_prove(kwr_s3 *s3, kwr_error *err);

/* Several small things below a key that ends with '/', in the order of the server. */
typedef struct kwr_s3_page {
    kwr_buffer names; /* NUL-terminated, without the prefix; directories end with '/' */
    kwr_buffer next;  /* token of the next page with its NUL; empty: this is the last */
} kwr_s3_page;
/* One page of at most `max` names starting with `prefix` (a key), cut at the next '/'. `page` is
 * emptied first, but for its token, which says where to go on. */
kwr_status kwr_s3_list(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_s3_page *page,
                       kwr_error *err);
void kwr_s3_page_free(kwr_s3_page *page);

/* Uploads in parts that were begun and neither ended nor given up, of keys starting with `prefix`:
 * all of them, up to `max`. `out` gets key, NUL, upload (encoded), NUL of each. */
kwr_status kwr_s3_uploads(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_buffer *out,
                          kwr_error *err);
kwr_status kwr_s3_upload_abort(kwr_s3 *s3, const char *key, const char *upload, kwr_error *err);

#endif /* KWR_SNAPSHOT_S3_H */
