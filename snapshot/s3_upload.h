/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new object given bit by bit. What fits into one part is put at once when it ends; more goes in
 * parts, several of them on their way while the next one fills. There is nothing under the key
 * before the end, and at the end only if nobody else was faster.
 */
#ifndef KWR_SNAPSHOT_S3_UPLOAD_H
#define KWR_SNAPSHOT_S3_UPLOAD_H

#include "snapshot/s3.h"

typedef struct kwr_s3_upload kwr_s3_upload;

/* Asks the server nothing yet. */
kwr_status kwr_s3_upload_open(kwr_s3 *s3, const char *key, kwr_s3_upload **out, kwr_error *err);
kwr_status kwr_s3_upload_write(kwr_s3_upload *upload, const void *data, size_t size,
                               kwr_error *err);
/* Releases it. KWR_ERR_EXISTS; after other failures parts that are left were given up. */
kwr_status kwr_s3_upload_end(kwr_s3_upload *upload, kwr_error *err);
void kwr_s3_upload_give_up(kwr_s3_upload *upload);

#endif /* KWR_SNAPSHOT_S3_UPLOAD_H */
