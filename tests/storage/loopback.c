/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/storage/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/kwr_test.h"

typedef struct connection connection;
struct connection {
    loopback *server;
    connection *next;
    pthread_t thread;
    int fd;
    void *session; /* of the server's channel */
    bool over;     /* the thread is about to end; under the server's lock */
    uint8_t in[65536];
    size_t in_at, in_size;
};

struct loopback {
    const loopback_channel *channel; /* NULL: none */
    loopback_handler handler;
    void *ctx;
    int fd, port;
    pthread_t thread;
    pthread_mutex_t lock;
    connection *connections;
    bool stopping;
    uint64_t requests;
};

static void pause_ms(int ms) {
    const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };
    nanosleep(&t, NULL);
}

/* ---- reading ---- */

static int next_byte(connection *c) {
    if (c->in_at == c->in_size) {
        const loopback_channel *channel = c->server->channel;
        const ssize_t got = channel != NULL ? channel->receive(c->session, c->in, sizeof c->in)
                                            : recv(c->fd, c->in, sizeof c->in, 0);
        if (got <= 0) return -1;
        c->in_at = 0;
        c->in_size = (size_t)got;
    }
    return c->in[c->in_at++];
}

/* A line without its end; false at the end of the connection or when it does not fit. */
static bool read_line(connection *c, char *out, size_t capacity) {
    size_t used = 0;
    for (;;) {
        const int b = next_byte(c);
        if (b < 0) return false;
        if (b == '\n') break;
        if (used + 1 == capacity) return false;
        out[used++] = (char)b;
    }
    if (used > 0 && out[used - 1] == '\r') used--;
    out[used] = '\0';
    return true;
}

static bool read_body(connection *c, loopback_request *r, size_t size) {
    r->body = realloc(r->body, r->body_size + size + 1);
    while (size > 0) {
        if (c->in_at == c->in_size) {
            const int b = next_byte(c);
            if (b < 0) return false;
            c->in_at--;
        }
        const size_t there = c->in_size - c->in_at, part = there < size ? there : size;
        memcpy(r->body + r->body_size, c->in + c->in_at, part);
        c->in_at += part;
        r->body_size += part;
        size -= part;
    }
    return true;
}

static bool read_chunks(connection *c, loopback_request *r) {
    char line[256];
    for (;;) {
        if (!read_line(c, line, sizeof line)) return false;
        const size_t size = (size_t)strtoull(line, NULL, 16);
        if (size == 0) break;
        if (!read_body(c, r, size) || !read_line(c, line, sizeof line)) return false;
    }
    return read_line(c, line, sizeof line);
}

static bool read_head(connection *c, loopback_request *r) {
    char line[LOOPBACK_TARGET_MAX + 64];
    if (!read_line(c, line, sizeof line)) return false;
    char *target = strchr(line, ' ');
    if (target == NULL) return false;
    *target++ = '\0';
    char *version = strchr(target, ' ');
    if (version == NULL || strcmp(version, " HTTP/1.1") != 0) return false;
    *version = '\0';
    snprintf(r->method, sizeof r->method, "%.15s", line);
    snprintf(r->target, sizeof r->target, "%.8191s", target);
    size_t used = 0;
    while (read_line(c, line, sizeof line)) {
        if (line[0] == '\0') return true;
        if (used + strlen(line) + 2 > sizeof r->head) return false;
        used += (size_t)snprintf(r->head + used, sizeof r->head - used, "%s\n", line);
    }
    return false;
}

bool loopback_header(const loopback_request *r, const char *name, char *out, size_t capacity) {
    const size_t size = strlen(name);
    for (const char *line = r->head; *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strncasecmp(line, name, size) != 0 || line[size] != ':') continue;
        const char *value = line + size + 1 + strspn(line + size + 1, " ");
        snprintf(out, capacity, "%.*s", (int)strcspn(value, "\n"), value);
        return true;
    }
    return false;
}

static void decode(const char *from, size_t size, char *out, size_t capacity) {
    size_t used = 0;
    for (size_t i = 0; i < size && used + 1 < capacity; i++) {
        unsigned byte = (unsigned char)from[i];
        if (from[i] == '%' && size - i > 2 && sscanf(from + i + 1, "%2x", &byte) == 1) i += 2;
        out[used++] = (char)byte;
    }
    out[used] = '\0';
}

bool loopback_param(const loopback_request *r, const char *name, char *out, size_t capacity) {
    const size_t size = strlen(name);
    const char *at = strchr(r->target, '?');
    while (at != NULL) {
        at++;
        const size_t length = strcspn(at, "&");
        if (strncmp(at, name, size) == 0 && (at[size] == '=' || size == length)) {
            const size_t skip = at[size] == '=' ? size + 1 : size;
            decode(at + skip, length - skip, out, capacity);
            return true;
        }
        at = strchr(at, '&');
    }
    return false;
}

void loopback_path(const loopback_request *r, char *out, size_t capacity) {
    decode(r->target, strcspn(r->target, "?"), out, capacity);
}

void loopback_text(loopback_reply *reply, int status, const char *type, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = NULL;
    const int size = vasprintf(&text, format, list);
    va_end(list);
    cr_assert(size >= 0);
    free(reply->body);
    reply->status = status;
    reply->body = (uint8_t *)text;
    reply->body_size = (size_t)size;
    snprintf(reply->headers + strlen(reply->headers),
             sizeof reply->headers - strlen(reply->headers), "Content-Type: %s\r\n", type);
}

/* ---- answering ---- */

static void reset_on_close(int fd) {
    const struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

static bool send_all(const connection *c, const uint8_t *data, size_t size, int slow_ms) {
    const loopback_channel *channel = c->server->channel;
    while (size > 0) {
        const size_t part = slow_ms > 0 ? 1 : size;
        const ssize_t done = channel != NULL ? channel->send(c->session, data, part)
                                             : send(c->fd, data, part, MSG_NOSIGNAL);
        if (done <= 0) return false;
        data += done;
        size -= (size_t)done;
        if (slow_ms > 0) pause_ms(slow_ms);
    }
    return true;
}

/* Whether the connection goes on. */
static bool answer(connection *c, const loopback_request *request, const loopback_reply *reply) {
    if (reply->delay_ms > 0) pause_ms(reply->delay_ms);
    if (reply->reset) {
        reset_on_close(c->fd);
        return false;
    }
    char head[LOOPBACK_HEAD_MAX] = "";
    size_t head_size = 0;
    if (!reply->raw)
        head_size = (size_t)snprintf(
            head, sizeof head, "HTTP/1.1 %d Text\r\nContent-Length: %zu\r\n%s%s\r\n", reply->status,
            reply->body_size, reply->headers, reply->close ? "Connection: close\r\n" : "");
    const bool bodyless = strcmp(request->method, "HEAD") == 0 || reply->status == 204;
    const size_t all = head_size + (bodyless && !reply->raw ? 0 : reply->body_size);
    uint8_t *bytes = malloc(all + 1);
    memcpy(bytes, head, head_size);
    if (all > head_size) memcpy(bytes + head_size, reply->body, all - head_size);
    const bool cut = reply->cut > 0 && (reply->cut - 1 < all || reply->cut_short);
    const size_t part = cut && reply->cut - 1 < all ? reply->cut - 1 : all - (cut ? 1 : 0);
    const bool sent = send_all(c, bytes, part, reply->slow_ms);
    free(bytes);
    if (cut && reply->cut_reset) reset_on_close(c->fd);
    return sent && !cut && !reply->close && !reply->raw;
}

static bool serve_one(connection *c) {
    loopback_request *r = calloc(1, sizeof *r);
    loopback_reply *reply = calloc(1, sizeof *reply);
    bool more = false;
    if (read_head(c, r)) {
        char value[64];
        r->whole = true;
        if (loopback_header(r, "transfer-encoding", value, sizeof value))
            r->whole = read_chunks(c, r);
        else if (loopback_header(r, "content-length", value, sizeof value))
            r->whole = read_body(c, r, (size_t)strtoull(value, NULL, 10));
        r->port = c->server->port;
        reply->status = 200;
        pthread_mutex_lock(&c->server->lock);
        c->server->requests++;
        pthread_mutex_unlock(&c->server->lock);
        c->server->handler(c->server->ctx, r, reply);
        more = answer(c, r, reply) && r->whole;
    }
    free(r->body);
    free(reply->body);
    free(reply);
    free(r);
    return more;
}

static void *serve(void *arg) {
    connection *c = arg;
    const loopback_channel *channel = c->server->channel;
    if (channel != NULL) c->session = channel->accept(channel->ctx, c->fd);
    while ((channel == NULL || c->session != NULL) && serve_one(c)) {
    }
    if (c->session != NULL) channel->end(c->session);
    pthread_mutex_lock(&c->server->lock);
    shutdown(c->fd, SHUT_WR);
    close(c->fd);
    c->fd = -1;
    c->over = true;
    pthread_mutex_unlock(&c->server->lock);
    return NULL;
}

/* ---- the server ---- */

/* Joins what has ended; with `all` the others too. */
static void reap(loopback *server, bool all) {
    pthread_mutex_lock(&server->lock);
    connection *list = server->connections, *kept = NULL;
    server->connections = NULL;
    for (connection *c = list, *next = NULL; c != NULL; c = next) {
        next = c->next;
        if (all && c->fd >= 0) shutdown(c->fd, SHUT_RDWR);
        if (all || c->over) {
            pthread_mutex_unlock(&server->lock);
            pthread_join(c->thread, NULL);
            pthread_mutex_lock(&server->lock);
            free(c);
        } else {
            c->next = kept;
            kept = c;
        }
    }
    server->connections = kept;
    pthread_mutex_unlock(&server->lock);
}

static void *accept_all(void *arg) {
    loopback *server = arg;
    for (;;) {
        const int fd = accept(server->fd, NULL, NULL);
        pthread_mutex_lock(&server->lock);
        const bool stop = server->stopping;
        pthread_mutex_unlock(&server->lock);
        if (stop) {
            if (fd >= 0) close(fd);
            return NULL;
        }
        if (fd < 0) continue;
        reap(server, false);
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection *c = calloc(1, sizeof *c);
        c->server = server;
        c->fd = fd;
        pthread_mutex_lock(&server->lock);
        if (pthread_create(&c->thread, NULL, serve, c) == 0) {
            c->next = server->connections;
            server->connections = c;
        } else {
            close(fd);
            free(c);
        }
        pthread_mutex_unlock(&server->lock);
    }
}

loopback *loopback_open(loopback_handler handler, void *ctx) {
    return loopback_open_over(NULL, handler, ctx);
}

loopback *loopback_open_over(const loopback_channel *channel, loopback_handler handler, void *ctx) {
    loopback *server = calloc(1, sizeof *server);
    server->channel = channel;
    server->handler = handler;
    server->ctx = ctx;
    pthread_mutex_init(&server->lock, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET };
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    cr_assert(server->fd >= 0 && bind(server->fd, (struct sockaddr *)&at, sizeof at) == 0 &&
              listen(server->fd, 64) == 0 &&
              getsockname(server->fd, (struct sockaddr *)&at, &size) == 0);
    server->port = ntohs(at.sin_port);
    cr_assert(pthread_create(&server->thread, NULL, accept_all, server) == 0);
    return server;
}

int loopback_port(const loopback *server) { return server->port; }

uint64_t loopback_requests(loopback *server) {
    pthread_mutex_lock(&server->lock);
    const uint64_t count = server->requests;
    pthread_mutex_unlock(&server->lock);
    return count;
}

void loopback_close(loopback *server) {
    if (server == NULL) return;
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_mutex_unlock(&server->lock);
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
    reap(server, true);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
