/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storages over TLS: everything works, and nothing is sent to a server that is not who it says, is
 * trusted by nobody, is out of date, or would go on without TLS.
 */
#include "snapshot/storage.h"
#include "tests/storage/conformance.h"
#include "tests/storage/fake_hdfs.h"
#include "tests/storage/loopback_tls.h"
#ifdef TEST_S3
#include "tests/storage/fake_s3.h"
#endif

/* ---- what works ---- */

typedef struct secure_place {
    loopback_tls *tls;
    fake_hdfs *fake;
} secure_place;

static void add_text(char *uri, size_t capacity, const char *name, const char *value) {
    const size_t used = strlen(uri);
    snprintf(uri + used, capacity - used, "&%s=%s", name, value);
}

static void open_secure(storage_place *place) {
    kwr_error err = { 0 };
    secure_place *p = calloc(1, sizeof *p);
    cr_assert(p != NULL);
    p->tls = loopback_tls_open(kwr_test_path("tls"), NULL);
    const fake_options options = { .channel = loopback_tls_channel(p->tls) };
    p->fake = fake_hdfs_open(&options);
    place->ctx = p;
    fake_hdfs_uri(p->fake, "/user/keyweir", place->uri, sizeof place->uri);
    snprintf(place->uri + strlen(place->uri), 64, "retry_ms=5000&user.name=me");
    add_text(place->uri, sizeof place->uri, "ca", loopback_tls_ca(p->tls));
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}

static void close_secure(storage_place *place) {
    secure_place *p = place->ctx;
    cr_assert(fake_hdfs_foreign(p->fake) == 0);
    cr_assert(loopback_tls_sessions(p->tls) > 0);
    fake_hdfs_close(p->fake);
    loopback_tls_close(p->tls);
    free(p);
}

static const storage_opener secure = { .open = open_secure, .close = close_secure, .slow = true };
STORAGE_CONFORMANCE(swebhdfs, secure);

/* ---- who is refused ---- */

typedef enum client { TRUSTING, UNKNOWING, CERTIFIED } client;

/* Opens and writes one file; the first failure. `err` tells it. */
static kwr_status try_hdfs(loopback_tls *tls, const fake_options *more, client as,
                           uint64_t *requests, kwr_error *err) {
    fake_options options = more == NULL ? (fake_options){ 0 } : *more;
    options.channel = loopback_tls_channel(tls);
    fake_hdfs *fake = fake_hdfs_open(&options);
    char uri[2048];
    kwr_storage *storage = NULL;
    fake_hdfs_uri(fake, "/user/keyweir", uri, sizeof uri);
    snprintf(uri + strlen(uri), 64, "retry_ms=300&retry_wait_ms=50&user.name=me");
    if (as != UNKNOWING) add_text(uri, sizeof uri, "ca", loopback_tls_ca(tls));
    if (as == CERTIFIED) {
        add_text(uri, sizeof uri, "cert", loopback_tls_certificate(tls));
        add_text(uri, sizeof uri, "key", loopback_tls_key(tls));
    }
    kwr_status status = kwr_storage_open(kwr_test_env(), uri, true, &storage, err);
    if (status >= KWR_OK) status = kwr_storage_write_file(storage, NULL, "file", "content", 7, err);
    kwr_storage_close(storage);
    *requests = fake_hdfs_requests(fake);
    cr_assert(fake_hdfs_foreign(fake) == 0);
    if (status < KWR_OK) cr_assert(fake_hdfs_count(fake, "/user/keyweir/file") == 0);
    fake_hdfs_close(fake);
    return status;
}

/* Refused before a request is sent, and told why. */
static void refused(const loopback_tls_options *options, client as) {
    kwr_error err = { 0 };
    uint64_t requests = 0;
    loopback_tls *tls = loopback_tls_open(kwr_test_path("tls"), options);
    const kwr_status status = try_hdfs(tls, NULL, as, &requests, &err);
    cr_assert(status < KWR_OK, "it was written to");
    cr_assert(requests == 0, "a request was sent");
    cr_assert(strstr(err.text, "certificate") != NULL || strstr(err.text, "TLS") != NULL ||
                  strstr(err.text, "handshake") != NULL,
              "%s", err.text);
    loopback_tls_close(tls);
}

KWR_TEST(tls, a_server_nobody_vouches_for_is_refused) { refused(NULL, UNKNOWING); }
KWR_TEST(tls, a_certificate_for_another_name_is_refused) {
    refused(&(loopback_tls_options){ .host = "other.example" }, TRUSTING);
}
KWR_TEST(tls, a_certificate_out_of_date_is_refused) {
    refused(&(loopback_tls_options){ .expired = true }, TRUSTING);
}
KWR_TEST(tls, older_versions_are_refused) {
    refused(&(loopback_tls_options){ .versions = "NORMAL:-VERS-ALL:+VERS-TLS1.1" }, TRUSTING);
}

KWR_TEST(tls, a_client_shows_its_certificate) {
    kwr_error err = { 0 };
    uint64_t requests = 0;
    const loopback_tls_options options = { .wants_client = true };
    loopback_tls *tls = loopback_tls_open(kwr_test_path("tls"), &options);
    cr_assert(try_hdfs(tls, NULL, TRUSTING, &requests, &err) < KWR_OK);
    cr_assert(requests == 0);
    KWR_MUST_ERR(try_hdfs(tls, NULL, CERTIFIED, &requests, &err), err);
    cr_assert(requests > 0);
    loopback_tls_close(tls);
}

KWR_TEST(tls, a_redirect_without_tls_is_refused) {
    kwr_error err = { 0 };
    uint64_t requests = 0;
    loopback_tls *tls = loopback_tls_open(kwr_test_path("tls"), NULL);
    const fake_options options = { .plain_redirects = true };
    const kwr_status status = try_hdfs(tls, &options, TRUSTING, &requests, &err);
    cr_assert(status < KWR_OK);
    cr_assert(strstr(err.text, "http:") != NULL, "%s", err.text);
    loopback_tls_close(tls);
}

/* ---- the same in an object store ---- */

#ifdef TEST_S3
static kwr_status try_s3(loopback_tls *tls, client as, uint64_t *requests, kwr_error *err) {
    const fake_s3_options options = { .channel = loopback_tls_channel(tls) };
    fake_s3 *fake = fake_s3_open(&options);
    char uri[2048];
    kwr_storage *storage = NULL;
    fake_s3_uri(fake, 300, uri, sizeof uri);
    const char *credentials = kwr_test_path("credentials");
    FILE *file = fopen(credentials, "w");
    cr_assert(file != NULL);
    fputs("[default]\naws_access_key_id = key_id\naws_secret_access_key = secret\n", file);
    fclose(file);
    add_text(uri, sizeof uri, "credentials", credentials);
    if (as != UNKNOWING) add_text(uri, sizeof uri, "ca", loopback_tls_ca(tls));
    kwr_status status = kwr_storage_open(kwr_test_env(), uri, true, &storage, err);
    if (status >= KWR_OK) status = kwr_storage_write_file(storage, NULL, "file", "content", 7, err);
    kwr_storage_close(storage);
    *requests = fake_s3_requests(fake);
    fake_s3_close(fake);
    return status;
}

KWR_TEST(tls, objects_go_over_it_too) {
    kwr_error err = { 0 };
    uint64_t requests = 0;
    loopback_tls *tls = loopback_tls_open(kwr_test_path("tls"), NULL);
    cr_assert(try_s3(tls, UNKNOWING, &requests, &err) < KWR_OK);
    cr_assert(requests == 0 && strstr(err.text, "certificate") != NULL, "%s", err.text);
    KWR_MUST_ERR(try_s3(tls, TRUSTING, &requests, &err), err);
    cr_assert(requests > 0);
    loopback_tls_close(tls);
}
#endif
