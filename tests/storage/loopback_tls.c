/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/storage/loopback_tls.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/kwr_test.h"

#define MUST(call) cr_assert((call) >= 0, "%s", #call)

typedef struct identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
    char key_path[512], certificate_path[512];
} identity;

struct loopback_tls {
    loopback_channel channel;
    loopback_tls_options options;
    identity authority, server, client;
    gnutls_certificate_credentials_t credentials;
    atomic_uint sessions;
};

enum { DAY = 24 * 3600 };

static void write_pem(const char *path, const gnutls_datum_t *pem) {
    FILE *file = fopen(path, "w");
    cr_assert(file != NULL && fwrite(pem->data, 1, pem->size, file) == pem->size);
    cr_assert(fclose(file) == 0);
}

/* `signer` NULL: an authority. */
static void make(identity *id, const char *directory, const char *name, const identity *signer,
                 const loopback_tls_options *options) {
    static const unsigned char loopback_address[4] = { 127, 0, 0, 1 };
    const time_t now = time(NULL);
    const bool server = strcmp(name, "server") == 0;
    const uint8_t serial = signer == NULL ? 1 : server ? 2 : 3;
    gnutls_datum_t pem;
    MUST(gnutls_x509_privkey_init(&id->key));
    MUST(gnutls_x509_privkey_generate(id->key, GNUTLS_PK_ECDSA,
                                      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    MUST(gnutls_x509_crt_init(&id->certificate));
    MUST(gnutls_x509_crt_set_version(id->certificate, 3));
    MUST(gnutls_x509_crt_set_serial(id->certificate, &serial, 1));
    MUST(gnutls_x509_crt_set_dn_by_oid(id->certificate, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                       (unsigned)strlen(name)));
    MUST(gnutls_x509_crt_set_activation_time(id->certificate, now - 2 * DAY));
    MUST(gnutls_x509_crt_set_expiration_time(
        id->certificate, server && options->expired ? now - DAY : now + 2 * DAY));
    MUST(gnutls_x509_crt_set_key(id->certificate, id->key));
    MUST(gnutls_x509_crt_set_basic_constraints(id->certificate, signer == NULL, -1));
    MUST(gnutls_x509_crt_set_key_usage(
        id->certificate, signer == NULL ? GNUTLS_KEY_KEY_CERT_SIGN : GNUTLS_KEY_DIGITAL_SIGNATURE));
    if (server && options->host != NULL)
        MUST(gnutls_x509_crt_set_subject_alt_name(id->certificate, GNUTLS_SAN_DNSNAME,
                                                  options->host, (unsigned)strlen(options->host),
                                                  GNUTLS_FSAN_SET));
    else if (server)
        MUST(gnutls_x509_crt_set_subject_alt_name(id->certificate, GNUTLS_SAN_IPADDRESS,
                                                  loopback_address, sizeof loopback_address,
                                                  GNUTLS_FSAN_SET));
    const identity *by = signer == NULL ? id : signer;
    MUST(gnutls_x509_crt_sign2(id->certificate, by->certificate, by->key, GNUTLS_DIG_SHA256, 0));
    snprintf(id->certificate_path, sizeof id->certificate_path, "%s-%s.pem", directory, name);
    snprintf(id->key_path, sizeof id->key_path, "%s-%s.key", directory, name);
    MUST(gnutls_x509_crt_export2(id->certificate, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(id->certificate_path, &pem);
    gnutls_free(pem.data);
    MUST(gnutls_x509_privkey_export2_pkcs8(id->key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                           &pem));
    write_pem(id->key_path, &pem);
    gnutls_free(pem.data);
}

static void unmake(identity *id) {
    gnutls_x509_crt_deinit(id->certificate);
    gnutls_x509_privkey_deinit(id->key);
}

/* ---- a connection ---- */

/* The client's chain is of our authority, or the handshake ends. */
static int check_client(gnutls_session_t session) {
    unsigned problems = 0;
    if (gnutls_certificate_verify_peers2(session, &problems) < 0) return -1;
    return problems == 0 ? 0 : -1;
}

static void *tls_accept(void *ctx, int fd) {
    loopback_tls *tls = ctx;
    gnutls_session_t session;
    MUST(gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_SIGNAL));
    const char *versions = tls->options.versions;
    MUST(versions == NULL ? gnutls_set_default_priority(session)
                          : gnutls_priority_set_direct(session, versions, NULL));
    MUST(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials));
    if (tls->options.wants_client) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_function(session, check_client);
    }
    gnutls_transport_set_int(session, fd);
    int code;
    do {
        code = gnutls_handshake(session);
    } while (code < 0 && gnutls_error_is_fatal(code) == 0);
    if (code < 0) {
        gnutls_deinit(session);
        return NULL;
    }
    atomic_fetch_add(&tls->sessions, 1);
    return session;
}

static long tls_receive(void *session, void *bytes, size_t size) {
    long got;
    do {
        got = gnutls_record_recv(session, bytes, size);
    } while (got == GNUTLS_E_INTERRUPTED || got == GNUTLS_E_AGAIN);
    return got;
}

static long tls_send(void *session, const void *bytes, size_t size) {
    long done;
    do {
        done = gnutls_record_send(session, bytes, size);
    } while (done == GNUTLS_E_INTERRUPTED || done == GNUTLS_E_AGAIN);
    return done;
}

static void tls_end(void *session) {
    (void)gnutls_bye(session, GNUTLS_SHUT_WR);
    gnutls_deinit(session);
}

/* ---- all of it ---- */

loopback_tls *loopback_tls_open(const char *directory, const loopback_tls_options *options) {
    loopback_tls *tls = calloc(1, sizeof *tls);
    cr_assert(tls != NULL);
    if (options != NULL) tls->options = *options;
    make(&tls->authority, directory, "authority", NULL, &tls->options);
    make(&tls->server, directory, "server", &tls->authority, &tls->options);
    make(&tls->client, directory, "client", &tls->authority, &tls->options);
    MUST(gnutls_certificate_allocate_credentials(&tls->credentials));
    MUST(gnutls_certificate_set_x509_key(tls->credentials, &tls->server.certificate, 1,
                                         tls->server.key));
    MUST(gnutls_certificate_set_x509_trust(tls->credentials, &tls->authority.certificate, 1));
    tls->channel = (loopback_channel){ tls, tls_accept, tls_receive, tls_send, tls_end };
    return tls;
}

void loopback_tls_close(loopback_tls *tls) {
    gnutls_certificate_free_credentials(tls->credentials);
    unmake(&tls->authority);
    unmake(&tls->server);
    unmake(&tls->client);
    free(tls);
}

const loopback_channel *loopback_tls_channel(const loopback_tls *tls) { return &tls->channel; }
const char *loopback_tls_ca(const loopback_tls *tls) { return tls->authority.certificate_path; }
const char *loopback_tls_certificate(const loopback_tls *tls) {
    return tls->client.certificate_path;
}
const char *loopback_tls_key(const loopback_tls *tls) { return tls->client.key_path; }
unsigned loopback_tls_sessions(loopback_tls *tls) { return atomic_load(&tls->sessions); }
