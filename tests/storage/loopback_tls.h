/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS for servers on loopback: an authority made for the test, certificates it has signed, and what
 * a client needs as PEM files. Nothing is in the repository that looks like a secret.
 */
#ifndef STORAGE_LOOPBACK_TLS_H
#define STORAGE_LOOPBACK_TLS_H

#include "tests/storage/loopback.h"

typedef struct loopback_tls loopback_tls;

typedef struct loopback_tls_options {
    const char *host;     /* the certificate is for this name, NULL: for 127.0.0.1 */
    bool expired;         /* since yesterday */
    bool wants_client;    /* a certificate of the same authority */
    const char *versions; /* GnuTLS priorities; NULL: as usual */
} loopback_tls_options;

/* `directory` is where the PEM files go. */
loopback_tls *loopback_tls_open(const char *directory, const loopback_tls_options *options);
void loopback_tls_close(loopback_tls *tls); /* after its servers */
const loopback_channel *loopback_tls_channel(const loopback_tls *tls);
/* The authority; a certificate for clients, and its key. */
const char *loopback_tls_ca(const loopback_tls *tls);
const char *loopback_tls_certificate(const loopback_tls *tls);
const char *loopback_tls_key(const loopback_tls *tls);
/* Handshakes that came to an end. */
unsigned loopback_tls_sessions(loopback_tls *tls);

#endif /* STORAGE_LOOPBACK_TLS_H */
