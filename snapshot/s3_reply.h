/* SPDX-License-Identifier: Apache-2.0 */
/* What the bodies of an object store's answers say. Pure: bytes in, meaning or an error out. */
#ifndef KWR_SNAPSHOT_S3_REPLY_H
#define KWR_SNAPSHOT_S3_REPLY_H

#include "snapshot/s3.h"

/* Why a request was refused; "" for what was not said. All of it can be shown. */
typedef struct kwr_s3_complaint {
    char code[KWR_S3_CODE_MAX];
    char message[200];
    char region[64];
} kwr_s3_complaint;
/* Never fails: not all refusals come from the store itself, and what is no XML has no code. */
void kwr_s3_read_complaint(kwr_slice body, kwr_s3_complaint *out);

/*
 * One page of a listing of `prefix`: adds to page->names, and replaces page->next when there is a
 * token for the next page, empties it when there is no next page. *more: the server says that
 * there is one. Both buffers have their env. KWR_ERR_CORRUPT, KWR_ERR_NOMEM.
 */
kwr_status kwr_s3_read_listing(kwr_slice body, const char *prefix, kwr_s3_page *page, bool *more,
                               kwr_error *err);

/* Where a list of uploads goes on, NUL-terminated; empty: the server has not said. */
typedef struct kwr_s3_marker {
    bool more;
    kwr_buffer key, upload;
} kwr_s3_marker;
/* Up to `max` unfinished uploads, added to `out` as kwr_s3_uploads() says. Replaces what *next
 * says; both have their env. KWR_ERR_CORRUPT, _NOMEM. */
kwr_status kwr_s3_read_uploads(kwr_slice body, uint32_t max, kwr_buffer *out, kwr_s3_marker *next,
                               kwr_error *err);

/* The id of an upload that was begun, encoded, without NUL; nothing when there is none in the
 * answer. KWR_ERR_CORRUPT; a lack of memory shows in `id`. */
kwr_status kwr_s3_read_begun(kwr_slice body, kwr_buffer *id, kwr_error *err);

typedef struct kwr_s3_ending {
    bool complete;
    char code[KWR_S3_CODE_MAX]; /* of the refusal; "" without one. Can be shown. */
} kwr_s3_ending;
/* How putting the parts together went. KWR_ERR_CORRUPT, KWR_ERR_NOMEM. */
kwr_status kwr_s3_read_ending(kwr_slice body, kwr_s3_ending *out, kwr_error *err);

#endif /* KWR_SNAPSHOT_S3_REPLY_H */
