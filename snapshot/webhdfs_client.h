/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the WebHDFS client: the list of name nodes, the login, and asking one question. */
#ifndef KWR_SNAPSHOT_WEBHDFS_CLIENT_H
#define KWR_SNAPSHOT_WEBHDFS_CLIENT_H

#include "base/thread.h"
#include "snapshot/retry.h"
#include "snapshot/url.h"
#include "snapshot/webhdfs.h"

enum { KWR_WEBHDFS_NODES_MAX = 8, KWR_WEBHDFS_TOKEN_MAX = 4096 };

struct kwr_webhdfs {
    const kwr_env *env;
    kwr_http *http;
    kwr_location location; /* its own; the strings below are in there */
    const char *user;      /* NULL: none */
    const char *redirect; /* where data nodes may be; NULL: the rules of kwr_url_check_redirect() */
    const char *token_file;
    bool tls, kerberos;
    uint64_t replication, block_size; /* 0: the server's */
    kwr_retry_policy policy;
    kwr_url nodes[KWR_WEBHDFS_NODES_MAX];
    uint32_t node_count;
    kwr_mutex mutex;                   /* of what follows */
    uint32_t active;                   /* the name node that answered last */
    char token[KWR_WEBHDFS_TOKEN_MAX]; /* delegation token; "" without one */
    uint64_t token_ns;                 /* when it was got */
};

typedef struct kwr_webhdfs_call {
    const char *method, *op, *path;
    const char *params; /* more of the query, encoded, each with its '&' */
    bool repeatable;    /* doing it twice is doing it once */
    bool redirects;     /* a 307 is a success */
    bool no_token;      /* asks for one */
    bool fresh;         /* on a connection of its own: surely sent once */
    size_t answer_max;
    kwr_http_sink sink;
    void *sink_ctx;
} kwr_webhdfs_call;

/* Gets or reads the token when the options want one. */
kwr_status kwr_webhdfs_login(kwr_webhdfs *client, kwr_error *err);
/* Gives up what was fetched, as far as that works. */
void kwr_webhdfs_logout(kwr_webhdfs *client);

/*
 * Asks until there is an answer that is a success, or no try is left. *doubt: a try may have been
 * done without our knowing; with a failure the last word is not known either. *node: who answered.
 */
kwr_status kwr_webhdfs_ask(kwr_webhdfs *client, const kwr_webhdfs_call *call,
                           kwr_http_answer *answer, bool *doubt, kwr_url *node, kwr_error *err);

/* The address an answer sends us on to, checked. `url` gets its text with a NUL. *login: it is a
 * name node itself (a gateway), which gets the login with the data. */
kwr_status kwr_webhdfs_next_hop(const kwr_webhdfs *client, const kwr_url *from,
                                const kwr_http_answer *answer, kwr_buffer *url, kwr_url *to,
                                bool *login, kwr_error *err);
/* Reports an answer that is no success. */
kwr_status kwr_webhdfs_refusal(kwr_webhdfs *client, const char *op, const char *path,
                               const kwr_url *node, const kwr_http_answer *answer,
                               kwr_webhdfs_error *why, kwr_error *err);

#endif /* KWR_SNAPSHOT_WEBHDFS_CLIENT_H */
