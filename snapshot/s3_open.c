/* SPDX-License-Identifier: Apache-2.0 */
/* What the URI of an object store says, and where its credentials are. */
#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/s3_client.h"

enum {
    MIB = 1024 * 1024,
    PART_DEFAULT = 8 * MIB,
    PARALLEL_DEFAULT = 2,
    CREDENTIALS_FILE_MAX = 64 * 1024,
};

static const char *const parameters[] = {
    "endpoint", "region", "path_style", "credentials", "profile",  "cleartext", "ca",
    "cert",     "key",    "connect_ms", "stall_ms",    "retry_ms", "part_size", "parallel",
};

/* ---- credentials ---- */

static void credentials_free(kwr_s3_credentials *c) {
    const kwr_env *env = c->env;
    kwr_wipe(c, sizeof *c);
    kwr_free(env, c, sizeof *c);
}

kwr_s3_credentials *kwr_s3_credentials_take(kwr_s3 *s3) {
    kwr_mutex_lock(&s3->mutex);
    kwr_s3_credentials *c = s3->credentials;
    c->references++;
    kwr_mutex_unlock(&s3->mutex);
    return c;
}

void kwr_s3_credentials_release(kwr_s3 *s3, kwr_s3_credentials *c) {
    kwr_mutex_lock(&s3->mutex);
    const bool last = --c->references == 0;
    kwr_mutex_unlock(&s3->mutex);
    if (last) credentials_free(c);
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static kwr_slice trimmed(const char *text, size_t size) {
    while (size > 0 && blank(text[0]))
        text++, size--;
    while (size > 0 && blank(text[size - 1]))
        size--;
    return (kwr_slice){ text, size };
}

static bool is(kwr_slice text, const char *word) {
    return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

static bool store(kwr_slice value, char *out, size_t capacity) {
    if (value.size >= capacity || memchr(value.data, '\0', value.size) != NULL) return false;
    memcpy(out, value.data, value.size);
    out[value.size] = '\0';
    return true;
}

/* One line of a section "[profile]" of "name = value"; others are for other programs. */
static bool read_line(kwr_s3_credentials *c, kwr_slice line) {
    const char *equals = memchr(line.data, '=', line.size);
    if (equals == NULL) return true;
    const char *text = line.data;
    const kwr_slice name = trimmed(text, (size_t)(equals - text));
    const kwr_slice value = trimmed(equals + 1, line.size - (size_t)(equals + 1 - text));
    if (is(name, "aws_access_key_id")) return store(value, c->key, sizeof c->key);
    if (is(name, "aws_secret_access_key")) return store(value, c->secret, sizeof c->secret);
    if (is(name, "aws_session_token")) return store(value, c->token, sizeof c->token);
    return true;
}

static bool read_profile(kwr_s3_credentials *c, const char *text, size_t size,
                         const char *profile) {
    bool inside = false;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        const size_t length = end == NULL ? size - at : (size_t)(end - (text + at));
        const kwr_slice line = trimmed(text + at, length);
        const char *bytes = line.data;
        if (line.size > 1 && bytes[0] == '[' && bytes[line.size - 1] == ']')
            inside = is(trimmed(bytes + 1, line.size - 2), profile);
        else if (inside && line.size > 0 && bytes[0] != '#' && bytes[0] != ';' &&
                 !read_line(c, line))
            return false;
        at += length + 1;
    }
    return true;
}

static kwr_status from_file(const kwr_s3 *s3, kwr_s3_credentials *c, kwr_error *err) {
    kwr_buffer text = { .env = s3->env };
    /* Room for all at once: growing would leave copies behind. */
    (void)kwr_buffer_extend(&text, CREDENTIALS_FILE_MAX);
    text.size = 0;
    kwr_status status =
        kwr_read_local_file(s3->env, s3->credentials_file, CREDENTIALS_FILE_MAX, &text, err);
    if (status >= KWR_OK && !read_profile(c, (const char *)text.data, text.size, s3->profile))
        status = KWR_FAIL(err, KWR_ERR_RANGE, 0,
                          "'%s': a value in section [%s] is too long or has a NUL in it",
                          s3->credentials_file, s3->profile);
    if (status >= KWR_OK && (c->key[0] == '\0' || c->secret[0] == '\0'))
        status = KWR_FAIL(err, KWR_ERR_MISSING, 0,
                          "'%s': section [%s] needs aws_access_key_id and aws_secret_access_key",
                          s3->credentials_file, s3->profile);
    if (text.data != NULL) kwr_wipe(text.data, text.capacity);
    kwr_buffer_free(&text);
    return status;
}

static kwr_status variable(const kwr_s3 *s3, const char *name, char *out, size_t capacity,
                           kwr_error *err) {
    const kwr_variables *v = s3->env->variables;
    const kwr_status status = v == NULL ? KWR_ERR_MISSING : v->get(v->ctx, name, out, capacity);
    if (status >= KWR_OK) return KWR_OK;
    out[0] = '\0';
    if (status == KWR_ERR_MISSING) return KWR_OK;
    return KWR_FAIL(err, status, 0, "storage '%s': %s is longer than %zu bytes", s3->shown, name,
                    capacity - 1);
}

static kwr_status from_surroundings(const kwr_s3 *s3, kwr_s3_credentials *c, kwr_error *err) {
    KWR_TRY(variable(s3, "AWS_ACCESS_KEY_ID", c->key, sizeof c->key, err));
    KWR_TRY(variable(s3, "AWS_SECRET_ACCESS_KEY", c->secret, sizeof c->secret, err));
    KWR_TRY(variable(s3, "AWS_SESSION_TOKEN", c->token, sizeof c->token, err));
    if (c->key[0] != '\0' && c->secret[0] != '\0') return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                    "storage '%s': no credentials; set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or name a file with credentials=/path",
                    s3->shown);
}

/* They become header lines. */
static bool clean(const char *text) {
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~') return false;
    return true;
}

kwr_status kwr_s3_credentials_load(kwr_s3 *s3, kwr_error *err) {
    kwr_s3_credentials *c = kwr_calloc(s3->env, sizeof *c);
    if (c == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for credentials");
    c->env = s3->env;
    c->references = 1;
    kwr_status status =
        s3->credentials_file != NULL ? from_file(s3, c, err) : from_surroundings(s3, c, err);
    if (status >= KWR_OK && !(clean(c->key) && clean(c->secret) && clean(c->token)))
        status = KWR_FAIL(err, KWR_ERR_RANGE, 0,
                          "storage '%s': a credential has a blank or a control character in it",
                          s3->shown);
    if (status < KWR_OK) {
        credentials_free(c);
        return status;
    }
    kwr_mutex_lock(&s3->mutex);
    kwr_s3_credentials *old = s3->credentials;
    const bool same = old != NULL && strcmp(old->key, c->key) == 0 &&
                      strcmp(old->secret, c->secret) == 0 && strcmp(old->token, c->token) == 0;
    s3->credentials = c;
    const bool last = old != NULL && --old->references == 0;
    kwr_mutex_unlock(&s3->mutex);
    if (last) credentials_free(old);
    return same ? KWR_NOT_FOUND : KWR_OK;
}

/* ---- the URI ---- */

static bool word_ok(const char *text, size_t max, const char *more) {
    const size_t size = strlen(text);
    if (size == 0 || size > max) return false;
    for (const char *at = text; *at != '\0'; at++) {
        const bool plain = (*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9');
        if (!plain && strchr(more, *at) == NULL) return false;
    }
    return true;
}

static bool loopback(const kwr_url *url) {
    return strcmp(url->host, "localhost") == 0 || strcmp(url->host, "::1") == 0 ||
           strncmp(url->host, "127.", 4) == 0;
}

static char *take_text(kwr_s3 *s3, kwr_buffer *text) {
    kwr_buffer_append(text, "", 1);
    char *copy = text->failed ? NULL : kwr_copy_string(s3->env, (const char *)text->data);
    kwr_buffer_free(text);
    return copy;
}

static kwr_status read_endpoint(kwr_s3 *s3, const char *region, kwr_error *err) {
    const kwr_location *l = &s3->location;
    const char *endpoint = kwr_location_get(l, "endpoint");
    bool path_style = endpoint != NULL, clear = false;
    KWR_TRY(kwr_location_flag(l, "path_style", &path_style, err));
    KWR_TRY(kwr_location_flag(l, "cleartext", &clear, err));
    char own[200];
    snprintf(own, sizeof own, "https://s3.%s.amazonaws.com", region);
    if (endpoint == NULL) endpoint = own;
    kwr_url url = { 0 };
    char text[KWR_URL_MAX + 1];
    const size_t size = strlen(endpoint);
    const bool slash = size > 0 && endpoint[size - 1] == '/';
    if (snprintf(text, sizeof text, "%s%s", endpoint, slash ? "" : "/") >= (int)sizeof text)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': endpoint is too long", s3->shown);
    const kwr_status status = kwr_url_parse(text, &url, err);
    if (status < KWR_OK) {
        kwr_error_prefix(err, "storage '%s': endpoint", s3->shown);
        return status;
    }
    if (strcmp(url.path, "/") != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': endpoint is http(s)://host[:port], without a path",
                        s3->shown);
    if (!url.tls && !clear && !loopback(&url))
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "storage '%s': state would travel unencrypted; use an https endpoint, or "
                        "say cleartext=yes where the network is trusted",
                        s3->shown);
    char authority[KWR_AUTHORITY_MAX + 1];
    kwr_url_authority(&url, authority);
    /* The Host header, which is signed, has no port where it is the scheme's own. */
    const bool usual = url.port == (url.tls ? 443 : 80);
    if (usual) *strrchr(authority, ':') = '\0';
    kwr_buffer base = { .env = s3->env };
    kwr_buffer_printf(&base, "%s://", url.tls ? "https" : "http");
    if (!path_style) kwr_buffer_printf(&base, "%s.", l->authority);
    kwr_buffer_printf(&base, "%s", authority);
    if (path_style) kwr_buffer_printf(&base, "/%s", l->authority);
    s3->base = take_text(s3, &base);
    return s3->base != NULL ? KWR_OK : KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a storage");
}

static kwr_status read_names(kwr_s3 *s3, kwr_error *err) {
    const kwr_location *l = &s3->location;
    kwr_buffer shown = { .env = s3->env }, prefix = { .env = s3->env };
    if (l->user != NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': no user may be in an s3 URI",
                        l->shown);
    if (!word_ok(l->authority, 63, "-."))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': s3://bucket/prefix needs the name of a bucket: 1 to 63 of "
                        "a-z 0-9 - .",
                        l->shown);
    kwr_buffer_printf(&shown, "s3://%s", l->authority);
    s3->shown = take_text(s3, &shown);
    if (strcmp(l->path, "/") != 0) kwr_buffer_printf(&prefix, "%s/", l->path + 1);
    s3->prefix = take_text(s3, &prefix);
    return s3->shown != NULL && s3->prefix != NULL
               ? KWR_OK
               : KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a storage");
}

static kwr_status read_region(kwr_s3 *s3, char *region, size_t capacity, kwr_error *err) {
    const char *named = kwr_location_get(&s3->location, "region");
    if (named != NULL)
        snprintf(region, capacity, "%s", named);
    else
        KWR_TRY(variable(s3, "AWS_REGION", region, capacity, err));
    if (region[0] == '\0') snprintf(region, capacity, "us-east-1");
    if (!word_ok(region, 60, "-"))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': a region is 1 to 60 of a-z 0-9 -",
                        s3->shown);
    kwr_buffer sigv4 = { .env = s3->env };
    kwr_buffer_printf(&sigv4, "aws:amz:%s:s3", region);
    s3->sigv4 = take_text(s3, &sigv4);
    return s3->sigv4 != NULL ? KWR_OK : KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a storage");
}

static kwr_status read_options(kwr_s3 *s3, kwr_http_options *http, kwr_error *err) {
    const kwr_location *l = &s3->location;
    char region[80] = "";
    KWR_TRY(read_names(s3, err));
    KWR_TRY(kwr_location_check(l, parameters, sizeof parameters / sizeof *parameters, err));
    KWR_TRY(read_region(s3, region, sizeof region, err));
    KWR_TRY(read_endpoint(s3, region, err));
    uint64_t connect = 5000, stall = 30000, retry = s3->policy.budget_ms;
    uint64_t part = PART_DEFAULT, parallel = PARALLEL_DEFAULT;
    KWR_TRY(kwr_location_number(l, "connect_ms", 1, 600000, &connect, err));
    KWR_TRY(kwr_location_number(l, "stall_ms", 1, 600000, &stall, err));
    KWR_TRY(kwr_location_number(l, "retry_ms", 0, 3600000, &retry, err));
    KWR_TRY(kwr_location_number(l, "part_size", 5 * MIB, 512 * MIB, &part, err));
    KWR_TRY(kwr_location_number(l, "parallel", 1, 16, &parallel, err));
    s3->policy.budget_ms = (uint32_t)retry;
    s3->part_size = (size_t)part;
    s3->parallel = (uint32_t)parallel;
    s3->credentials_file = kwr_location_get(l, "credentials");
    s3->profile = kwr_location_get(l, "profile");
    if (s3->profile == NULL) s3->profile = "default";
    *http = (kwr_http_options){
        .ca_file = kwr_location_get(l, "ca"),
        .certificate_file = kwr_location_get(l, "cert"),
        .key_file = kwr_location_get(l, "key"),
        .connect_timeout_ms = (uint32_t)connect,
        .stall_ms = (uint32_t)stall,
        .idle_connections = 16,
    };
    return KWR_OK;
}

kwr_status kwr_s3_open(const kwr_env *env, const char *uri, kwr_s3 **out, kwr_error *err) {
    kwr_s3 *s3 = kwr_calloc(env, sizeof *s3);
    if (s3 == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    s3->env = env;
    s3->policy = (kwr_retry_policy){ 1000, 20, 5000, 60000 }; /* what bounds it is the time */
    kwr_mutex_init(&s3->mutex);
    kwr_http_options http = { 0 };
    kwr_status status = kwr_location_parse(env, uri, &s3->location, err);
    if (status >= KWR_OK) status = read_options(s3, &http, err);
    if (status >= KWR_OK) status = kwr_s3_credentials_load(s3, err);
    if (status >= KWR_OK) status = kwr_http_open(env, &http, &s3->http, err);
    if (status < KWR_OK) {
        kwr_s3_close(s3);
        return status;
    }
    *out = s3;
    return KWR_OK;
}

void kwr_s3_close(kwr_s3 *s3) {
    if (s3 == NULL) return;
    kwr_http_close(s3->http);
    if (s3->credentials != NULL) credentials_free(s3->credentials);
    kwr_mutex_done(&s3->mutex);
    kwr_free_string(s3->env, s3->shown);
    kwr_free_string(s3->env, s3->prefix);
    kwr_free_string(s3->env, s3->base);
    kwr_free_string(s3->env, s3->sigv4);
    kwr_location_free(&s3->location);
    kwr_free(s3->env, s3, sizeof *s3);
}

const kwr_env *kwr_s3_env(const kwr_s3 *s3) { return s3->env; }
const char *kwr_s3_shown(const kwr_s3 *s3) { return s3->shown; }
const char *kwr_s3_prefix(const kwr_s3 *s3) { return s3->prefix; }
size_t kwr_s3_part_size(const kwr_s3 *s3) { return s3->part_size; }
uint32_t kwr_s3_parallel(const kwr_s3 *s3) { return s3->parallel; }
