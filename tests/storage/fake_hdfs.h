/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small WebHDFS cluster on loopback: two name nodes on one tree, two data nodes, and a foreign
 * server that nobody should ever talk to. Semantics as HDFS has them, the awkward ones too; a plan
 * spoils chosen requests.
 */
#ifndef STORAGE_FAKE_HDFS_H
#define STORAGE_FAKE_HDFS_H

#include "tests/storage/loopback.h"

typedef struct fake_hdfs fake_hdfs;

typedef enum fake_fault {
    FAKE_NONE = 0,
    FAKE_RESET_BEFORE, /* connection reset, nothing done */
    FAKE_RESET_AFTER,  /* done, then reset */
    FAKE_CUT,          /* done, the answer ends after `cut` bytes */
    FAKE_CUT_BEFORE,   /* not done, the answer (as if done) ends after `cut` bytes */
    FAKE_FOREIGN,      /* 307 to the foreign server */
    FAKE_401,
    FAKE_STANDBY,       /* 403 */
    FAKE_SAFE_MODE,     /* 403 */
    FAKE_RETRIABLE,     /* 403 */
    FAKE_DENIED,        /* 403 */
    FAKE_404,           /* a page of some other server */
    FAKE_500,           /* nothing done */
    FAKE_500_AFTER,     /* done */
    FAKE_503,           /* nothing done */
    FAKE_FALSE,         /* {"boolean": false}, nothing done */
    FAKE_FALSE_AFTER,   /* {"boolean": false}, done */
    FAKE_GARBAGE,       /* 200 with a page, nothing done */
    FAKE_GARBAGE_AFTER, /* 200 with a page, done */
    FAKE_HALF,          /* half of the body arrives, is kept as a file, connection reset */
    FAKE_SLOW,          /* done, the answer comes byte by byte */
    FAKE_LATE_APPLY,    /* reset; done a little later */
    FAKE_FAULTS,
} fake_fault;

typedef struct fake_plan {
    fake_fault fault;
    uint64_t at;    /* the first request spoilt, counted from 1 over all nodes; 0: none */
    uint64_t count; /* how many in a row; 0: one */
    size_t cut;
} fake_plan;

typedef struct fake_options {
    const char *token;               /* name nodes want this delegation token */
    size_t list_batch;               /* default 3 */
    uint64_t bytes_max;              /* quota; 0: none */
    bool no_batch;                   /* LISTSTATUS_BATCH is not known */
    bool no_file_id;                 /* as gateways answer */
    const loopback_channel *channel; /* TLS: URIs are swebhdfs: then */
    /* Tokens are given and cancelled only to whom this lets in; it fills the answer else. */
    bool (*negotiate)(void *ctx, const loopback_request *request, loopback_reply *reply);
    void *negotiate_ctx;
    bool plain_redirects; /* ... but data nodes are named without */
    bool gateway;         /* the name node sends to itself for data, and serves OPEN at once */
} fake_options;

fake_hdfs *fake_hdfs_open(const fake_options *options);
void fake_hdfs_close(fake_hdfs *fake);
/* "webhdfs://127.0.0.1:p,127.0.0.1:q/path?redirect=...&"; more parameters can follow. */
void fake_hdfs_uri(const fake_hdfs *fake, const char *path, char *out, size_t capacity);
/* Takes effect with the next request; counting begins anew. */
void fake_hdfs_plan(fake_hdfs *fake, fake_plan plan);
/* Requests since the last plan; waits until what was applied late is. */
uint64_t fake_hdfs_requests(fake_hdfs *fake);
/* Requests the foreign server got, ever. */
uint64_t fake_hdfs_foreign(fake_hdfs *fake);
/* Whether a data node or the foreign server ever saw the token of the name nodes. */
bool fake_hdfs_token_leaked(fake_hdfs *fake);
/* From now on name nodes want this one. */
void fake_hdfs_set_token(fake_hdfs *fake, const char *token);
/* Tokens that were cancelled. */
unsigned fake_hdfs_cancelled(fake_hdfs *fake);
/* Which name node is active, 0 or 1; the other is standby. */
void fake_hdfs_activate(fake_hdfs *fake, int node);
void fake_hdfs_set_quota(fake_hdfs *fake, uint64_t bytes_max);
/* The whole tree is emptied. */
void fake_hdfs_clear(fake_hdfs *fake);
/* Behind the scenes: the content of a file (NULL when there is none; to be freed), files below. */
void *fake_hdfs_read(fake_hdfs *fake, const char *path, size_t *size);
void fake_hdfs_write(fake_hdfs *fake, const char *path, const void *data, size_t size);
void fake_hdfs_mkdir(fake_hdfs *fake, const char *path);
size_t fake_hdfs_count(fake_hdfs *fake, const char *prefix);

#endif /* STORAGE_FAKE_HDFS_H */
