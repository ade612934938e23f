/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite over WebHDFS, as two kinds of servers speak it. */
#include "tests/storage/conformance.h"
#include "tests/storage/fake_hdfs.h"

static void open_fake(storage_place *place, const fake_options *options) {
    kwr_error err = { 0 };
    fake_hdfs *fake = fake_hdfs_open(options);
    place->ctx = fake;
    fake_hdfs_uri(fake, "/user/keyweir", place->uri, sizeof place->uri);
    snprintf(place->uri + strlen(place->uri), 64, "retry_ms=5000&user.name=me");
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}

static void close_fake(storage_place *place) {
    cr_assert(fake_hdfs_foreign(place->ctx) == 0);
    fake_hdfs_close(place->ctx);
}

#ifdef __SANITIZE_THREAD__
enum { SLOW = true };
#else
enum { SLOW = false };
#endif

static void open_cluster(storage_place *place) { open_fake(place, NULL); }
static const storage_opener cluster = { .open = open_cluster, .close = close_fake, .slow = SLOW };
STORAGE_CONFORMANCE(webhdfs, cluster);

static void open_gateway(storage_place *place) {
    const fake_options options = { .gateway = true, .no_batch = true, .no_file_id = true };
    open_fake(place, &options);
}
static const storage_opener gateway = { .open = open_gateway, .close = close_fake, .slow = SLOW };
STORAGE_CONFORMANCE(httpfs, gateway);
