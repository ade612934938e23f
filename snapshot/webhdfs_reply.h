/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What WebHDFS servers say, out of their JSON. Pure, and strict: the bytes come from a network, so
 * size and depth are bounded before anything is parsed, and what is not as specified is refused.
 */
#ifndef KWR_SNAPSHOT_WEBHDFS_REPLY_H
#define KWR_SNAPSHOT_WEBHDFS_REPLY_H

#include "keyweir/env.h"
#include "keyweir/status.h"

enum { KWR_WEBHDFS_DEPTH_MAX = 8, KWR_WEBHDFS_NAME_MAX = 255 };

/* What to do after an answer that is no success. */
typedef enum kwr_webhdfs_verdict {
    KWR_WEBHDFS_FAILED = 0, /* it was refused, for good */
    KWR_WEBHDFS_ELSEWHERE,  /* not done; another name node may do it */
    KWR_WEBHDFS_LATER,      /* not done; the same may work later */
    KWR_WEBHDFS_DOUBTFUL,   /* nobody knows whether it was done */
    KWR_WEBHDFS_LOGIN,      /* not done: the credential is missing, wrong or expired */
} kwr_webhdfs_verdict;

typedef struct kwr_webhdfs_error {
    kwr_webhdfs_verdict verdict;
    kwr_status status;  /* to report when no further try helps */
    char exception[64]; /* its name, "" when the answer has none */
    char message[256];  /* its first line, made printable */
} kwr_webhdfs_error;

/* Sorts an answer with a status that is no success. Any bytes will do. */
void kwr_webhdfs_read_error(int http_status, kwr_slice body, kwr_webhdfs_error *out);

typedef struct kwr_webhdfs_status {
    bool directory;
    uint64_t length;
    uint64_t file_id; /* 0: not told */
    char permission[8];
} kwr_webhdfs_status;

/* {"boolean": ...}, {"FileStatus": {...}}, {"long": ...}. KWR_ERR_CORRUPT. */
kwr_status kwr_webhdfs_read_boolean(kwr_slice body, bool *out);
kwr_status kwr_webhdfs_read_status(kwr_slice body, kwr_webhdfs_status *out);
/* {"Token": {"urlString": ...}}: *out holds the text with its NUL; a null token is "". */
kwr_status kwr_webhdfs_read_token(kwr_slice body, char *out, size_t capacity);
/*
 * {"DirectoryListing": ...} or {"FileStatuses": ...}: each name once, in the order given. `last`
 * gets the last one ("" when there was none), *left how many the server says remain (0 for the
 * second form). A name with '/' or a control character: KWR_ERR_CORRUPT.
 */
kwr_status kwr_webhdfs_read_listing(kwr_slice body, kwr_list_fn fn, void *fn_ctx,
                                    char last[KWR_WEBHDFS_NAME_MAX + 1], uint64_t *left);

#endif /* KWR_SNAPSHOT_WEBHDFS_REPLY_H */
