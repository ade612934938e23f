/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of HTTP servers: a strict reader (what it refuses no other parser gets to see), percent
 * encoding, and the rules by which an answer may send us on to another server.
 */
#ifndef KWR_SNAPSHOT_URL_H
#define KWR_SNAPSHOT_URL_H

#include "base/memory.h"
#include "keyweir/status.h"

enum {
    KWR_URL_MAX = 8192,
    KWR_HOST_MAX = 255,
    KWR_AUTHORITY_MAX = KWR_HOST_MAX + 10, /* "[host]:port" */
};

typedef struct kwr_url {
    bool tls;
    bool literal6;               /* host is an IPv6 address, here without its brackets */
    uint16_t port;               /* the scheme's own when none was given */
    char host[KWR_HOST_MAX + 1]; /* lower case */
    const char *path;            /* into the text: from the first '/' on, with the query */
} kwr_url;

/*
 * "http://host[:port]/path?query", or https. No user, no fragment, no space or control character,
 * no byte above 0x7e. KWR_ERR_RANGE; the text is not repeated in `err` beyond its scheme and host.
 */
kwr_status kwr_url_parse(const char *text, kwr_url *out, kwr_error *err);
/* "host[:port]" with `default_port` when there is none; ends at `size`. KWR_ERR_RANGE. */
kwr_status kwr_url_parse_authority(const char *text, size_t size, uint16_t default_port,
                                   kwr_url *out, kwr_error *err);
/* "host:port", brackets where needed. */
void kwr_url_authority(const kwr_url *url, char out[KWR_AUTHORITY_MAX + 1]);
/* Appends bytes percent-encoded: all but letters, digits, "-._~" and, with `slashes`, '/'. */
void kwr_url_encode(kwr_buffer *out, const char *text, size_t size, bool slashes);
/* Decodes %XX in place of `text[0..size)`; false on bad escapes and on NUL. *size shrinks. */
bool kwr_url_decode(char *text, size_t *size);

/*
 * Whether a server may send us from `from` to `to`. Always: the same scheme; a path that starts
 * with `path_prefix`; no link-local address. And one of: `allowed` names it; or, without
 * `allowed`, it has the same host, or both are loopback, or both names have no dot, or both are in
 * one domain of at least two labels. `allowed`: comma-separated "host", "host:port", "*.domain",
 * "*" (any). KWR_ERR_REFUSED, saying which option allows it.
 */
kwr_status kwr_url_check_redirect(const kwr_url *from, const kwr_url *to, const char *path_prefix,
                                  const char *allowed, const char *option, kwr_error *err);

/* Whether a numeric address, as a name may lead to it, is one that redirects never go to. */
bool kwr_url_address_forbidden(const char *address);

#endif /* KWR_SNAPSHOT_URL_H */
