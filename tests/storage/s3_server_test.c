/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite over a real server: KEYWEIR_TEST_S3 is the URI of a bucket in it, with at
 * least an endpoint; credentials as always.
 */
#include "snapshot/s3.h"
#include "tests/storage/conformance.h"

static void server_uri(char out[1024], const char *path, const char *more) {
    const char *uri = getenv("KEYWEIR_TEST_S3");
    cr_assert(uri != NULL, "KEYWEIR_TEST_S3 names no server: this test ran on nothing");
    const size_t bucket = strcspn(uri, "?");
    snprintf(out, 1024, "%.*s/%s%s%s", (int)bucket, uri, path, uri + bucket, more);
}

static void open_server(storage_place *place) {
    kwr_error err = { 0 };
    uint8_t random[8];
    char path[32];
    KWR_MUST(place->env->random->bytes(place->env->random->ctx, random, sizeof random));
    snprintf(path, sizeof path, "run-%02x%02x%02x%02x%02x%02x%02x%02x", random[0], random[1],
             random[2], random[3], random[4], random[5], random[6], random[7]);
    server_uri(place->uri, path, "&part_size=5242880&parallel=2&retry_ms=20000");
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}

/* Nothing under way is left; objects may be: the server's directory goes after the tests. */
static void close_server(storage_place *place) {
    kwr_s3 *s3 = NULL;
    kwr_error err = { 0 };
    kwr_buffer left = { .env = place->env };
    KWR_MUST_ERR(kwr_s3_open(place->env, place->uri, &s3, &err), err);
    KWR_MUST_ERR(kwr_s3_uploads(s3, kwr_s3_prefix(s3), 10, &left, &err), err);
    cr_assert(left.size == 0, "parts of '%s' are left", (const char *)left.data);
    kwr_buffer_free(&left);
    kwr_s3_close(s3);
}

static const storage_opener server = {
    .open = open_server, .close = close_server, .large = 64u << 20, .memory = 24u << 20
};
STORAGE_CONFORMANCE(s3_server, server);

KWR_TEST(s3_server, a_wrong_secret_is_refused) {
    char uri[1024];
    kwr_error err = { 0 };
    kwr_storage *s = NULL;
    server_uri(uri, "x", "");
    setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret", 1);
    KWR_EXPECT_ERR(KWR_ERR_REFUSED, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "SignatureDoesNotMatch") != NULL, "%s", err.text);
}

KWR_TEST(s3_server, a_bucket_that_is_not_there_is_told) {
    char uri[1024];
    kwr_error err = { 0 };
    kwr_storage *s = NULL;
    const char *given = getenv("KEYWEIR_TEST_S3");
    cr_assert(given != NULL);
    snprintf(uri, sizeof uri, "s3://no-such-bucket-here/x%s", given + strcspn(given, "?"));
    KWR_EXPECT_ERR(KWR_ERR_MISSING, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "NoSuchBucket") != NULL, "%s", err.text);
}
