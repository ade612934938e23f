/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite over the object store of these tests. */
#include "tests/storage/conformance.h"
#include "tests/storage/fake_s3.h"

static void open_fake(storage_place *place) {
    kwr_error err = { 0 };
    fake_s3 *fake = fake_s3_open(NULL);
    place->ctx = fake;
    setenv("AWS_ACCESS_KEY_ID", "key_id", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "very/secret", 1);
    char base[sizeof place->uri - 100];
    fake_s3_uri(fake, 5000, base, sizeof base);
    snprintf(place->uri, sizeof place->uri, "%s&part_size=5242880&parallel=2", base);
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}

static void close_fake(storage_place *place) {
    cr_assert(fake_s3_unsigned(place->ctx) == 0);
    cr_assert(fake_s3_uploads(place->ctx) == 0, "no parts are left");
    fake_s3_close(place->ctx);
}

static const storage_opener fake = {
    .open = open_fake, .close = close_fake, .large = 64u << 20, .memory = 24u << 20
};
STORAGE_CONFORMANCE(s3_place, fake);
