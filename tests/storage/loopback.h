/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP server on 127.0.0.1 for tests: it reads requests, asks a handler, and sends the answer
 * whole or spoilt in a chosen way. A thread for each connection; nothing leaves the machine.
 */
#ifndef STORAGE_LOOPBACK_H
#define STORAGE_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct loopback loopback;

enum { LOOPBACK_TARGET_MAX = 8192, LOOPBACK_HEAD_MAX = 16384 };

typedef struct loopback_request {
    int port; /* of the server it came to */
    char method[16];
    char target[LOOPBACK_TARGET_MAX]; /* path and query, as sent */
    char head[LOOPBACK_HEAD_MAX];     /* the lines after the first, "Name: value\n", with NUL */
    uint8_t *body;
    size_t body_size;
    bool whole; /* the body ended as announced; else the connection did before */
} loopback_request;

/* Zeroed before the handler is called: an empty 200. */
typedef struct loopback_reply {
    int status;
    char headers[4096]; /* more lines, each ending with "\r\n" */
    uint8_t *body;      /* from malloc, freed by the server */
    size_t body_size;
    bool raw;       /* `body` is sent as it is, head and all */
    bool reset;     /* no answer: the connection is reset */
    size_t cut;     /* when not 0: only cut - 1 bytes are sent, then the connection ends */
    bool cut_reset; /* ... by a reset */
    bool cut_short; /* ... and at least the last byte is missing */
    int delay_ms;   /* before anything is sent */
    int slow_ms;    /* between one byte and the next */
    bool close;     /* after the answer */
} loopback_reply;

typedef void (*loopback_handler)(void *ctx, const loopback_request *request, loopback_reply *reply);

/* What carries the bytes of connections, when that is not the socket itself (loopback_tls.h). */
typedef struct loopback_channel {
    void *ctx;
    void *(*accept)(void *ctx, int fd); /* NULL: refused */
    long (*receive)(void *session, void *bytes, size_t size);
    long (*send)(void *session, const void *bytes, size_t size);
    void (*end)(void *session);
} loopback_channel;

/* Several servers may share a handler; it is called by many threads. Fails the test on errors. */
loopback *loopback_open(loopback_handler handler, void *ctx);
/* `channel` (NULL: none) outlives the server. */
loopback *loopback_open_over(const loopback_channel *channel, loopback_handler handler, void *ctx);
int loopback_port(const loopback *server);
uint64_t loopback_requests(loopback *server);
/* Stops listening and ends all connections. */
void loopback_close(loopback *server);

/* The first header of that name (any case) copied to out; false when there is none. */
bool loopback_header(const loopback_request *request, const char *name, char *out, size_t capacity);
/* The decoded value of a query parameter; false when there is none. */
bool loopback_param(const loopback_request *request, const char *name, char *out, size_t capacity);
/* The decoded path. */
void loopback_path(const loopback_request *request, char *out, size_t capacity);
void loopback_text(loopback_reply *reply, int status, const char *type, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif /* STORAGE_LOOPBACK_H */
