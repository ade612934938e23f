/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 for storages: one request, one answer, and word of whether a request that got no answer
 * can have reached the server. Nothing happens by itself: no redirect is followed, no request tried
 * again by this layer, no proxy, cookie, password or address taken from the process's surroundings.
 *
 * What is secret (passwords, queries of addresses) never gets into messages: those show a request
 * as method, host and path. All functions block: executor threads only. [any], but one answer and
 * one upload belong to one thread at a time. libcurl keeps its memory outside of the environment's
 * allocator.
 */
#ifndef KWR_SNAPSHOT_HTTP_H
#define KWR_SNAPSHOT_HTTP_H

#include "base/memory.h"

typedef struct kwr_http kwr_http;
typedef struct kwr_http_upload kwr_http_upload;

enum {
    KWR_HTTP_HEAD_MAX = 16 * 1024,     /* all lines of an answer's head together */
    KWR_HTTP_ANSWER_MAX = 1024 * 1024, /* default for answers that are collected */
};

/* Zero means the default. Strings are copied. */
typedef struct kwr_http_options {
    const char *ca_file;          /* PEM; default: the system's */
    const char *certificate_file; /* PEM, of this client; default: none */
    const char *key_file;         /* PEM; default: in certificate_file */
    uint32_t connect_timeout_ms;  /* connection and TLS; default 5,000 */
    uint32_t stall_ms;            /* of waiting, after which ... default 30,000 */
    uint32_t stall_bytes;         /* ... so many bytes must have moved; default 1 KiB a second */
    uint32_t idle_connections;    /* kept open between requests; default 8 */
} kwr_http_options;

typedef enum kwr_http_auth {
    KWR_HTTP_AUTH_NONE = 0,
    KWR_HTTP_AUTH_NEGOTIATE, /* SPNEGO with the process's Kerberos ticket */
    KWR_HTTP_AUTH_SIGV4,     /* `sigv4`, `user` (key id) and `password` (its secret) */
} kwr_http_auth;

/* Takes a part of the body of an answer with status 2xx; a failure ends the transfer with it. */
typedef kwr_status (*kwr_http_sink)(void *ctx, const void *data, size_t size);

/* Zero what is not needed. Everything is read during the call only (uploads: the opening one). */
typedef struct kwr_http_request {
    const char *method;         /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;            /* absolute, percent-encoded; see kwr_url_parse() */
    const char *const *headers; /* "Name: value"; no CR, LF */
    size_t header_count;
    const void *body; /* PUT and POST; sent with its length. An upload has none. */
    size_t body_size;
    kwr_http_auth auth;
    const char *sigv4; /* libcurl's form: "aws:amz:<region>:s3" */
    const char *user, *password;
    uint32_t timeout_ms; /* for the whole exchange; 0: as long as bytes move */
    bool fresh;          /* a connection of its own: surely sent once. Else one that the server
                            closed meanwhile may be replaced and the request sent again. */
    bool sent_on;        /* a server named the address: never one of its link, whatever its name */
    size_t answer_max;   /* of a collected body; 0: KWR_HTTP_ANSWER_MAX */
    kwr_http_sink sink;  /* else (and for statuses but 2xx) the body is collected */
    void *sink_ctx;
} kwr_http_request;

/* What became of a request. */
typedef enum kwr_http_fate {
    KWR_HTTP_UNSENT = 0, /* it cannot have reached the server */
    KWR_HTTP_LOST,       /* it may have; nobody knows what it did there */
    KWR_HTTP_ANSWERED,   /* there is a whole answer */
} kwr_http_fate;

/* Zero it before the first use; reused or freed by kwr_http_answer_free(). */
typedef struct kwr_http_answer {
    kwr_http_fate fate;
    bool hopeless;   /* UNSENT, and trying again is no use: a certificate refused, a bad address */
    int status;      /* 0 when there was none; may be set with LOST too */
    kwr_buffer head; /* lines "name: value", each ending with a NUL */
    kwr_buffer body; /* collected */
} kwr_http_answer;

/* KWR_ERR_NOMEM, KWR_ERR_UNSUPPORTED (a build without libcurl), KWR_ERR_RANGE. */
kwr_status kwr_http_open(const kwr_env *env, const kwr_http_options *options, kwr_http **out,
                         kwr_error *err);
/* When no request is running any more. */
void kwr_http_close(kwr_http *http);

/*
 * KWR_OK: there is an answer, whatever its status. Else `answer->fate` says what may have happened:
 * KWR_ERR_TIMEOUT, KWR_ERR_NOMEM, KWR_ERR_CORRUPT (an answer beyond its bounds), KWR_ERR_RANGE (a
 * request that cannot be sent), what the sink returned, KWR_ERR_IO.
 */
kwr_status kwr_http_perform(kwr_http *http, const kwr_http_request *request,
                            kwr_http_answer *answer, kwr_error *err);

/*
 * A body given bit by bit, of a length not known before (chunked). Opening sends nothing yet; a
 * write returns when its bytes are with the system. When one fails (also because the server
 * answered before the end: KWR_ERR_IO), _end() tells what the server said.
 */
kwr_status kwr_http_upload_open(kwr_http *http, const kwr_http_request *request,
                                kwr_http_upload **out, kwr_error *err);
kwr_status kwr_http_upload_write(kwr_http_upload *upload, const void *data, size_t size,
                                 kwr_error *err);
/* Ends the body if nothing failed, waits for the answer as kwr_http_perform(), releases `upload`.
 */
kwr_status kwr_http_upload_end(kwr_http_upload *upload, kwr_http_answer *answer, kwr_error *err);
/* Breaks the connection off, before the end of the body. NULL is a no-op. */
void kwr_http_upload_abort(kwr_http_upload *upload);

/* The value of an answer's header, or NULL. `name` in lower case. Lives as long as the answer. */
const char *kwr_http_header(const kwr_http_answer *answer, const char *name);
void kwr_http_answer_free(kwr_http_answer *answer);

#endif /* KWR_SNAPSHOT_HTTP_H */
