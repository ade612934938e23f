/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/url.h"

#include <stdio.h>

#include "base/error.h"
#include "base/name.h"

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f'); }
static bool is_alnum(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z'); }

static bool host_byte_ok(char c, bool literal6) {
    if (literal6) return is_hex(c) || c == ':' || c == '.';
    return is_alnum(c) || c == '-' || c == '.' || c == '_';
}

static kwr_status bad_host(const char *text, size_t size, kwr_error *err) {
    char shown[80];
    kwr_printable(text, size < 40 ? size : 40, shown, sizeof shown);
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "'%s' is no host or host:port (letters, digits, '-', '_', '.', or [IPv6])",
                    shown);
}

kwr_status kwr_url_parse_authority(const char *text, size_t size, uint16_t default_port,
                                   kwr_url *out, kwr_error *err) {
    const bool literal6 = size > 0 && text[0] == '[';
    size_t at = literal6 ? 1 : 0, used = 0;
    kwr_url url = *out;
    url.literal6 = literal6;
    url.port = default_port;
    for (; at < size && host_byte_ok(text[at], literal6); at++) {
        if (used == KWR_HOST_MAX) return bad_host(text, size, err);
        url.host[used++] = lower(text[at]);
    }
    url.host[used] = '\0';
    if (used == 0 || url.host[0] == '.' || url.host[0] == '-') return bad_host(text, size, err);
    if (literal6 && (at == size || text[at++] != ']')) return bad_host(text, size, err);
    if (at < size) {
        uint64_t port = 0;
        if (text[at] != ':' || !kwr_parse_u64(text + at + 1, size - at - 1, &port) || port == 0 ||
            port > UINT16_MAX)
            return bad_host(text, size, err);
        url.port = (uint16_t)port;
    }
    *out = url;
    return KWR_OK;
}

kwr_status kwr_url_parse(const char *text, kwr_url *out, kwr_error *err) {
    kwr_url url = { 0 };
    size_t at = 0;
    if (strncmp(text, "https://", 8) == 0) {
        url.tls = true;
        at = 8;
    } else if (strncmp(text, "http://", 7) == 0) {
        at = 7;
    } else {
        char shown[24];
        kwr_printable(text, strnlen(text, 12), shown, sizeof shown);
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "'%s...' is no address that starts with http:// or "
                        "https://",
                        shown);
    }
    const size_t size = strnlen(text, KWR_URL_MAX + 1);
    if (size > KWR_URL_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "an address is longer than %d bytes", KWR_URL_MAX);
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '#' || text[i] == '\\')
            return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                            "an address has a byte 0x%02x at offset %zu that must not be in one",
                            (unsigned char)text[i], i);
    const size_t end = at + strcspn(text + at, "/?");
    KWR_TRY(kwr_url_parse_authority(text + at, end - at, url.tls ? 443 : 80, &url, err));
    if (text[end] != '/')
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the address of '%s' has no path", url.host);
    url.path = text + end;
    *out = url;
    return KWR_OK;
}

void kwr_url_authority(const kwr_url *url, char out[KWR_AUTHORITY_MAX + 1]) {
    snprintf(out, KWR_AUTHORITY_MAX + 1, "%s%s%s:%u", url->literal6 ? "[" : "", url->host,
             url->literal6 ? "]" : "", url->port);
}

void kwr_url_encode(kwr_buffer *out, const char *text, size_t size, bool slashes) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~' || (slashes && c == '/')) {
            kwr_buffer_append(out, &c, 1);
        } else {
            const unsigned char byte = (unsigned char)c;
            const char three[3] = { '%', digits[byte >> 4], digits[byte & 15] };
            kwr_buffer_append(out, three, 3);
        }
    }
}

bool kwr_url_decode(char *text, size_t *size) {
    size_t to = 0;
    for (size_t i = 0; i < *size; i++) {
        char c = text[i];
        if (c == '%') {
            if (*size - i < 3) return false;
            const char two[2] = { lower(text[i + 1]), lower(text[i + 2]) };
            if (!kwr_unhex(two, 2, &c, 1)) return false;
            i += 2;
        }
        if (c == '\0') return false;
        text[to++] = c;
    }
    *size = to;
    return true;
}

/* ---- redirects ---- */

/* The four numbers of "a.b.c.d", nothing else. */
static bool dotted(const char *host, uint64_t parts[4]) {
    for (int i = 0; i < 4; i++) {
        const size_t size = strcspn(host, ".");
        if (!kwr_parse_u64(host, size, &parts[i]) || parts[i] > 255) return false;
        host += size;
        if (*host != (i < 3 ? '.' : '\0')) return false;
        host++;
    }
    return true;
}

static bool is_address(const kwr_url *url) {
    uint64_t parts[4];
    return url->literal6 || dotted(url->host, parts);
}

static bool is_loopback(const kwr_url *url) {
    uint64_t parts[4];
    if (url->literal6) return strcmp(url->host, "::1") == 0;
    return strcmp(url->host, "localhost") == 0 || (dotted(url->host, parts) && parts[0] == 127);
}

static int hex_digit(char c) {
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, lower(c));
    return at == NULL ? -1 : (int)(at - digits);
}

/* The eight numbers of an IPv6 address in hex, "::" for zeros once; nothing else. */
static bool groups_of(const char *text, uint32_t groups[8]) {
    enum { NONE = 9 };
    size_t count = 0, gap = NONE;
    while (*text != '\0') {
        if (text[0] == ':' && text[1] == ':') {
            if (gap != NONE) return false;
            gap = count;
            text += 2;
            continue;
        }
        if (*text == ':' && count > 0) text++;
        uint32_t value = 0;
        unsigned digits = 0;
        for (; hex_digit(*text) >= 0 && digits <= 4; digits++)
            value = value * 16 + (uint32_t)hex_digit(*text++);
        if (digits == 0 || digits > 4 || count == 8 || (*text != '\0' && *text != ':'))
            return false;
        groups[count++] = value;
    }
    if (gap == NONE) return count == 8;
    if (count == 8) return false;
    const size_t behind = count - gap;
    memmove(&groups[8 - behind], &groups[gap], behind * sizeof *groups);
    memset(&groups[gap], 0, (8 - count) * sizeof *groups);
    return true;
}

/* Link-local, the clouds' own, and those that are IPv4 addresses in another spelling. */
static bool is_forbidden6(const char *text) {
    uint32_t g[8];
    if (!groups_of(text, g)) return true;
    if ((g[0] & 0xffc0) == 0xfe80 || (g[0] == 0xfd00 && g[1] == 0x0ec2)) return true;
    if ((g[0] == 0x64 && g[1] == 0xff9b) || (g[0] == 0x2002 && g[1] == 0xa9fe)) return true;
    if ((g[0] | g[1] | g[2] | g[3] | g[4]) != 0) return false;
    return g[5] != 0 || g[6] != 0 || g[7] != 1;
}

/* Also the place where clouds hand out credentials to whoever asks from inside. */
static bool is_forbidden4(const uint64_t parts[4]) {
    return (parts[0] == 169 && parts[1] == 254) || parts[0] == 0;
}

bool kwr_url_address_forbidden(const char *address) {
    uint64_t parts[4];
    if (strchr(address, ':') != NULL) return is_forbidden6(address);
    return dotted(address, parts) && is_forbidden4(parts);
}

/* A name made of digits and dots that is not four plain numbers is some system's other spelling of
 * an address. */
static bool is_forbidden(const kwr_url *url) {
    uint64_t parts[4];
    if (url->literal6) return is_forbidden6(url->host);
    if (dotted(url->host, parts)) return is_forbidden4(parts);
    const size_t size = strlen(url->host);
    const char *last = url->host + size;
    while (last > url->host && last[-1] != '.')
        last--;
    return is_digit(*last) || *last == '\0';
}

/* The part of a name after its first label, when that has two labels or more. */
static const char *domain_of(const char *host) {
    const char *dot = strchr(host, '.');
    return dot != NULL && strchr(dot + 1, '.') != NULL ? dot + 1 : NULL;
}

static bool related(const kwr_url *from, const kwr_url *to) {
    if (strcmp(from->host, to->host) == 0) return true;
    if (is_loopback(from) || is_loopback(to)) return is_loopback(from) && is_loopback(to);
    if (is_address(from) || is_address(to)) return false;
    if (strchr(from->host, '.') == NULL && strchr(to->host, '.') == NULL) return true;
    const char *a = domain_of(from->host), *b = domain_of(to->host);
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* "." or "..", in any spelling: the server would go somewhere else than the path says. */
static bool has_dots(const char *path) {
    while (*path == '/') {
        unsigned dots = 0;
        path++;
        for (;; dots++) {
            if (*path == '.')
                path++;
            else if (path[0] == '%' && path[1] == '2' && lower(path[2]) == 'e')
                path += 3;
            else
                break;
        }
        const size_t rest = strcspn(path, "/?");
        if (rest == 0 && (dots == 1 || dots == 2)) return true;
        path += rest;
    }
    return false;
}

static bool named_by(const kwr_url *to, const char *item, size_t size) {
    char wanted[KWR_AUTHORITY_MAX + 1], whole[KWR_AUTHORITY_MAX + 1], host[KWR_AUTHORITY_MAX + 1];
    if (size == 0 || size > KWR_AUTHORITY_MAX) return false;
    if (size == 1 && item[0] == '*') return true;
    for (size_t i = 0; i < size; i++)
        wanted[i] = lower(item[i]);
    wanted[size] = '\0';
    if (size > 2 && wanted[0] == '*' && wanted[1] == '.') {
        const size_t tail = size - 1, whole_size = strlen(to->host);
        return whole_size > tail && strcmp(to->host + whole_size - tail, wanted + 1) == 0;
    }
    kwr_url_authority(to, whole);
    snprintf(host, sizeof host, "%s%s%s", to->literal6 ? "[" : "", to->host,
             to->literal6 ? "]" : "");
    return strcmp(wanted, whole) == 0 || strcmp(wanted, host) == 0;
}

static bool named(const kwr_url *to, const char *allowed) {
    for (const char *at = allowed;; at++) {
        const size_t size = strcspn(at, ",");
        if (named_by(to, at, size)) return true;
        at += size;
        if (*at == '\0') return false;
    }
}

kwr_status kwr_url_check_redirect(const kwr_url *from, const kwr_url *to, const char *path_prefix,
                                  const char *allowed, const char *option, kwr_error *err) {
    char a[KWR_AUTHORITY_MAX + 1], b[KWR_AUTHORITY_MAX + 1];
    kwr_url_authority(from, a);
    kwr_url_authority(to, b);
    if (from->tls != to->tls)
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "'%s' sends us on to '%s' with %s: the scheme must stay", a, b,
                        to->tls ? "https" : "http");
    if (strncmp(to->path, path_prefix, strlen(path_prefix)) != 0)
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "'%s' sends us on to '%s', to a path that does not start with %s", a, b,
                        path_prefix);
    if (has_dots(to->path))
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "'%s' sends us on to '%s', by a path with '.' or '..' in it", a, b);
    if (is_forbidden(to))
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "'%s' sends us on to '%s', an address that is never followed", a, b);
    const bool may = allowed != NULL ? named(to, allowed) : related(from, to);
    if (may) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                    "'%s' sends us on to '%s', which is not known to belong to it; if it does, "
                    "allow it with the option %s=%s",
                    a, b, option, to->host);
}
