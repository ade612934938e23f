/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebHDFS client: one operation at a time on a list of name nodes, of which one is active. An
 * operation that was surely not done goes to the next name node or is tried again later, within a
 * bounded time; one that may have been done is repeated only when that makes no difference, else
 * the caller hears that nobody knows. Data go in two steps: the name node says where to, and the
 * rules of snapshot/url.h say whether we go there. [any]
 */
#ifndef KWR_SNAPSHOT_WEBHDFS_H
#define KWR_SNAPSHOT_WEBHDFS_H

#include "snapshot/http.h"
#include "snapshot/location.h"
#include "snapshot/webhdfs_reply.h"

typedef struct kwr_webhdfs kwr_webhdfs;
typedef struct kwr_webhdfs_stream kwr_webhdfs_stream;

/* From the URI's user, authority and parameters; its scheme says whether by TLS. Takes `location`.
 */
kwr_status kwr_webhdfs_open(const kwr_env *env, kwr_location *location, kwr_webhdfs **out,
                            kwr_error *err);
void kwr_webhdfs_close(kwr_webhdfs *client);

/* Paths are absolute and not encoded. All of them report KWR_ERR_MISSING, _EXISTS, _NOSPACE,
 * _MISMATCH, _IO, _TIMEOUT, _NOMEM, _REFUSED with the server's own reason in `err`. */
kwr_status kwr_webhdfs_stat(kwr_webhdfs *client, const char *path, kwr_webhdfs_status *out,
                            kwr_error *err);
kwr_status kwr_webhdfs_mkdirs(kwr_webhdfs *client, const char *path, kwr_error *err);
kwr_status kwr_webhdfs_list(kwr_webhdfs *client, const char *path, kwr_list_fn fn, void *fn_ctx,
                            kwr_error *err);

typedef enum kwr_webhdfs_deed {
    KWR_WEBHDFS_NOT_DONE = 0, /* surely */
    KWR_WEBHDFS_DONE,
    KWR_WEBHDFS_UNKNOWN,
} kwr_webhdfs_deed;

/*
 * Not recursive. *deed: DONE: it was there and was removed by this call; NOT_DONE with KWR_OK: it
 * was not there; *repeated: an earlier try of this call may have removed it.
 */
kwr_status kwr_webhdfs_delete(kwr_webhdfs *client, const char *path, kwr_webhdfs_deed *deed,
                              bool *repeated, kwr_error *err);
/* KWR_OK with NOT_DONE: the server said false. Sent at most once that could take effect. */
kwr_status kwr_webhdfs_rename(kwr_webhdfs *client, const char *from, const char *to,
                              kwr_webhdfs_deed *deed, kwr_error *err);

/*
 * A new file with this content, mode 600, written anew until it is there whole or the tries are
 * over. `path` must be a name nobody else uses: what a failed try left under it is deleted.
 */
kwr_status kwr_webhdfs_put(kwr_webhdfs *client, const char *path, const void *data, size_t size,
                           kwr_webhdfs_status *out, kwr_error *err);
/* The same bit by bit, in one try. Whoever gets a failure deletes `path`. */
kwr_status kwr_webhdfs_stream_open(kwr_webhdfs *client, const char *path, kwr_webhdfs_stream **out,
                                   kwr_error *err);
kwr_status kwr_webhdfs_stream_write(kwr_webhdfs_stream *stream, const void *data, size_t size,
                                    kwr_error *err);
/* Releases the stream, and looks whether all bytes arrived. */
kwr_status kwr_webhdfs_stream_end(kwr_webhdfs_stream *stream, kwr_webhdfs_status *out,
                                  kwr_error *err);
void kwr_webhdfs_stream_abort(kwr_webhdfs_stream *stream);

/* Exactly `size` bytes at `offset`; tries other data nodes. */
kwr_status kwr_webhdfs_read(kwr_webhdfs *client, const char *path, uint64_t offset, void *data,
                            size_t size, kwr_error *err);

#endif /* KWR_SNAPSHOT_WEBHDFS_H */
