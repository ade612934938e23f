/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite over a real HDFS, which must run already: KWR_TEST_HDFS is its
 * "webhdfs://host:port,..." (see tests/storage/hdfs/run.py). Without it every test fails.
 */
#include <unistd.h>

#include "tests/storage/conformance.h"

static void open_real(storage_place *place) {
    static int number;
    kwr_error err = { 0 };
    const char *cluster = getenv("KWR_TEST_HDFS");
    cr_assert(cluster != NULL && cluster[0] != '\0', "KWR_TEST_HDFS names no cluster");
    snprintf(place->uri, sizeof place->uri, "%s/user/test-%d-%d?user.name=keyweir&retry_ms=20000",
             cluster, (int)getpid(), ++number);
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}

static const storage_opener real = { .open = open_real, .slow = true };
STORAGE_CONFORMANCE(hdfs, real);
