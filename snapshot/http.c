/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport over libcurl's multi interface: each request has a session (one easy handle in a
 * multi handle of its own, which keeps the connection), driven by the thread that asked. So a body
 * can be pushed bit by bit without a thread behind it, and deadlines are the environment's.
 */
#include "snapshot/http.h"

#include <curl/curl.h>
#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "base/thread.h"
#include "snapshot/location.h"
#include "snapshot/url.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    STALL_MS = 30000,
    STALL_BYTES_PER_SECOND = 1024,
    IDLE_CONNECTIONS = 8,
    POLL_MS = 1000,
    SHOWN_MAX = 400,
    NS_PER_MS = 1000000,
};

/* One exchange, and between them a connection that is kept. */
typedef struct kwr_http_upload session;
struct kwr_http_upload {
    kwr_http *http;
    session *next; /* in the list of idle ones */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    /* of the present request */
    kwr_http_sink sink;
    void *sink_ctx;
    size_t answer_max;
    size_t head_size;
    uint64_t deadline_ns;         /* 0: none */
    uint64_t waited_ns;           /* since the last look at `moved` */
    uint64_t moved;               /* bytes in either direction since then */
    const uint8_t *out, *out_all; /* what is to be sent; out_all NULL: an upload */
    size_t out_left, out_size;
    bool out_end; /* nothing follows `out` */
    bool paused;
    bool bodyless;   /* HEAD */
    bool head_whole; /* its empty last line was seen */
    bool done;
    CURLcode code;
    kwr_status failed; /* what a callback broke off with */
    kwr_http_answer answer;
    char shown[SHOWN_MAX];
    char detail[CURL_ERROR_SIZE];
};

struct kwr_http {
    const kwr_env *env;
    char *ca_file, *certificate_file, *key_file;
    uint32_t connect_timeout_ms, stall_ms, stall_bytes, idle_max;
    kwr_mutex mutex;
    session *idle;
    uint32_t idle_count;
};

/* ---- client and sessions ---- */

static void session_free(session *s) {
    const kwr_env *env = s->http->env;
    if (s->easy != NULL) curl_easy_cleanup(s->easy);
    if (s->multi != NULL) curl_multi_cleanup(s->multi);
    kwr_free(env, s, sizeof *s);
}

void kwr_http_close(kwr_http *http) {
    if (http == NULL) return;
    while (http->idle != NULL) {
        session *s = http->idle;
        http->idle = s->next;
        session_free(s);
    }
    kwr_mutex_done(&http->mutex);
    kwr_free_string(http->env, http->ca_file);
    kwr_free_string(http->env, http->certificate_file);
    kwr_free_string(http->env, http->key_file);
    kwr_free(http->env, http, sizeof *http);
    curl_global_cleanup();
}

static bool copied(const kwr_env *env, const char *text, char **out) {
    *out = text == NULL ? NULL : kwr_copy_string(env, text);
    return text == NULL || *out != NULL;
}

static uint32_t or_default(uint32_t value, uint32_t other) { return value != 0 ? value : other; }

kwr_status kwr_http_open(const kwr_env *env, const kwr_http_options *options, kwr_http **out,
                         kwr_error *err) {
    static const kwr_http_options none = { 0 };
    if (options == NULL) options = &none;
    /* Counted by libcurl, and safe beside others that use it. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "libcurl could not be initialised");
    kwr_http *http = kwr_calloc(env, sizeof *http);
    if (http == NULL) {
        curl_global_cleanup();
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for an HTTP client");
    }
    http->env = env;
    kwr_mutex_init(&http->mutex);
    http->connect_timeout_ms = or_default(options->connect_timeout_ms, CONNECT_TIMEOUT_MS);
    http->stall_ms = or_default(options->stall_ms, STALL_MS);
    const uint64_t floor = (uint64_t)http->stall_ms * STALL_BYTES_PER_SECOND / 1000;
    http->stall_bytes =
        or_default(options->stall_bytes, floor > UINT32_MAX ? UINT32_MAX : (uint32_t)floor);
    http->idle_max = or_default(options->idle_connections, IDLE_CONNECTIONS);
    const bool whole = copied(env, options->ca_file, &http->ca_file) &&
                       copied(env, options->certificate_file, &http->certificate_file) &&
                       copied(env, options->key_file, &http->key_file);
    if (!whole) {
        kwr_http_close(http);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for an HTTP client");
    }
    *out = http;
    return KWR_OK;
}

static session *session_take(kwr_http *http) {
    kwr_mutex_lock(&http->mutex);
    session *s = http->idle;
    if (s != NULL) {
        http->idle = s->next;
        http->idle_count--;
    }
    kwr_mutex_unlock(&http->mutex);
    if (s != NULL) return s;
    s = kwr_calloc(http->env, sizeof *s);
    if (s == NULL) return NULL;
    s->http = http;
    s->multi = curl_multi_init();
    s->easy = curl_easy_init();
    if (s->multi != NULL && s->easy != NULL) return s;
    session_free(s);
    return NULL;
}

/* Ends what the session does (an unfinished exchange loses its connection) and keeps it. */
static void session_give_back(session *s) {
    kwr_http *http = s->http;
    curl_multi_remove_handle(s->multi, s->easy);
    curl_easy_reset(s->easy);
    curl_slist_free_all(s->headers);
    kwr_http_answer_free(&s->answer);
    CURLM *const multi = s->multi;
    CURL *const easy = s->easy;
    memset(s, 0, sizeof *s);
    s->http = http;
    s->multi = multi;
    s->easy = easy;
    kwr_mutex_lock(&http->mutex);
    const bool keep = http->idle_count < http->idle_max;
    if (keep) {
        s->next = http->idle;
        http->idle = s;
        http->idle_count++;
    }
    kwr_mutex_unlock(&http->mutex);
    if (!keep) session_free(s);
}

/* ---- what libcurl calls ---- */

static size_t broken(session *s, kwr_status status) {
    if (s->failed >= KWR_OK) s->failed = status;
    return 0;
}

/* "HTTP/1.1 200 ..." begins a head anew: what came before was an interim answer. */
static bool status_line(session *s, const char *line, size_t size) {
    if (size < 12 || memcmp(line, "HTTP/", 5) != 0) return false;
    const char *blank = memchr(line, ' ', size);
    uint64_t status = 0;
    if (blank == NULL || (size_t)(line + size - blank) < 4 || !kwr_parse_u64(blank + 1, 3, &status))
        status = 0;
    s->answer.status = (int)status;
    s->head_whole = false;
    s->answer.head.size = 0;
    s->answer.body.size = 0;
    return true;
}

static size_t on_header(char *data, size_t one, size_t count, void *ctx) {
    session *s = ctx;
    size_t size = one * count;
    const size_t all = size;
    s->moved += size;
    s->head_size += size;
    if (s->head_size > KWR_HTTP_HEAD_MAX) return broken(s, KWR_ERR_CORRUPT);
    while (size > 0 && (data[size - 1] == '\r' || data[size - 1] == '\n'))
        size--;
    if (status_line(s, data, size)) return all;
    if (size == 0) s->head_whole = true;
    const char *colon = memchr(data, ':', size);
    if (colon == NULL || memchr(data, '\0', size) != NULL) return all;
    kwr_buffer *head = &s->answer.head;
    const size_t name = (size_t)(colon - data);
    char *line = kwr_buffer_extend(head, size + 1);
    if (line == NULL) return broken(s, KWR_ERR_NOMEM);
    for (size_t i = 0; i < name; i++)
        line[i] = data[i] >= 'A' && data[i] <= 'Z' ? (char)(data[i] - 'A' + 'a') : data[i];
    memcpy(line + name, colon, size - name);
    line[size] = '\0';
    return all;
}

static size_t on_body(char *data, size_t one, size_t count, void *ctx) {
    session *s = ctx;
    const size_t size = one * count;
    s->moved += size;
    if (s->sink != NULL && s->answer.status >= 200 && s->answer.status < 300) {
        const kwr_status status = s->sink(s->sink_ctx, data, size);
        return status < KWR_OK ? broken(s, status) : size;
    }
    if (size > s->answer_max - s->answer.body.size) return broken(s, KWR_ERR_CORRUPT);
    kwr_buffer_append(&s->answer.body, data, size);
    return s->answer.body.failed ? broken(s, KWR_ERR_NOMEM) : size;
}

static size_t on_send(char *to, size_t one, size_t count, void *ctx) {
    session *s = ctx;
    size_t size = one * count;
    if (s->out_left == 0 && !s->out_end) {
        s->paused = true;
        return CURL_READFUNC_PAUSE;
    }
    if (size > s->out_left) size = s->out_left;
    if (size > 0) memcpy(to, s->out, size);
    s->out += size;
    s->out_left -= size;
    s->moved += size;
    return size;
}

/* Connected, and nothing sent yet: where a name has led to. */
static int on_connected(void *ctx, char *remote, char *local, int remote_port, int local_port) {
    session *s = ctx;
    (void)local, (void)remote_port, (void)local_port;
    if (remote == NULL || !kwr_url_address_forbidden(remote)) return CURL_PREREQFUNC_OK;
    broken(s, KWR_ERR_REFUSED);
    return CURL_PREREQFUNC_ABORT;
}

/* A body that is there as a whole can be sent again, for the second step of a negotiation. */
static int on_rewind(void *ctx, curl_off_t offset, int origin) {
    session *s = ctx;
    if (s->out_all == NULL || origin != SEEK_SET || offset < 0 || (uint64_t)offset > s->out_size)
        return CURL_SEEKFUNC_FAIL;
    s->out = s->out_all + offset;
    s->out_left = s->out_size - (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- setting a request up ---- */

static void show(session *s, const kwr_http_request *request) {
    char path[300];
    kwr_printable(request->url, strcspn(request->url, "?"), path, sizeof path);
    snprintf(s->shown, sizeof s->shown, "%.10s %s", request->method, path);
}

static bool one_line(const char *text) { return strpbrk(text, "\r\n") == NULL; }

static kwr_status add_headers(session *s, const kwr_http_request *request, bool sends,
                              kwr_error *err) {
    /*
     * No wait for leave to send the body: it would cost a round trip or a second. (Some libcurls
     * sign a header that is only struck out, so a signed request waits for a millisecond instead.)
     */
    const bool strike = sends && request->auth != KWR_HTTP_AUTH_SIGV4;
    for (size_t i = 0; i < request->header_count + (strike ? 1 : 0); i++) {
        const char *line = i < request->header_count ? request->headers[i] : "Expect:";
        if (!one_line(line))
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: a header has a line break in it", s->shown);
        struct curl_slist *longer = curl_slist_append(s->headers, line);
        if (longer == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for %s", s->shown);
        s->headers = longer;
    }
    return KWR_OK;
}

/* Sets an option; remembers the first that failed. */
#define SET(option, ...)                                                \
    do {                                                                \
        const CURLcode set_ = curl_easy_setopt(e, option, __VA_ARGS__); \
        if (set_ != CURLE_OK && code == CURLE_OK) code = set_;          \
    } while (0)

static CURLcode set_method(session *s, const kwr_http_request *request, bool upload) {
    CURL *const e = s->easy;
    CURLcode code = CURLE_OK;
    const bool sends =
        upload || strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        s->bodyless = true;
        SET(CURLOPT_NOBODY, 1L);
        return code;
    }
    if (sends) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_READFUNCTION, on_send);
        SET(CURLOPT_READDATA, s);
        SET(CURLOPT_SEEKFUNCTION, on_rewind);
        SET(CURLOPT_SEEKDATA, s);
        SET(CURLOPT_INFILESIZE_LARGE, upload ? (curl_off_t)-1 : (curl_off_t)request->body_size);
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    return code;
}

static CURLcode set_credentials(session *s, const kwr_http_request *request) {
    CURL *const e = s->easy;
    CURLcode code = CURLE_OK;
    switch (request->auth) {
    case KWR_HTTP_AUTH_NONE: break;
    case KWR_HTTP_AUTH_NEGOTIATE:
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_NEGOTIATE);
        SET(CURLOPT_USERPWD, ":");
        break;
    case KWR_HTTP_AUTH_SIGV4:
        SET(CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
        SET(CURLOPT_AWS_SIGV4, request->sigv4);
        SET(CURLOPT_USERNAME, request->user);
        SET(CURLOPT_PASSWORD, request->password);
        break;
    }
    return code;
}

static CURLcode set_rules(session *s, const kwr_http_request *request, bool tls) {
    const kwr_http *http = s->http;
    CURL *const e = s->easy;
    CURLcode code = CURLE_OK;
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_PROTOCOLS_STR, tls ? "https" : "http");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)http->connect_timeout_ms);
    SET(CURLOPT_FRESH_CONNECT, request->fresh ? 1L : 0L);
    if (request->sent_on) {
        SET(CURLOPT_PREREQFUNCTION, on_connected);
        SET(CURLOPT_PREREQDATA, s);
    }
    SET(CURLOPT_ERRORBUFFER, s->detail);
    SET(CURLOPT_HTTPHEADER, s->headers);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, s);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, s);
    if (!tls) return code;
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (http->ca_file != NULL) SET(CURLOPT_CAINFO, http->ca_file);
    if (http->certificate_file != NULL) SET(CURLOPT_SSLCERT, http->certificate_file);
    if (http->key_file != NULL) SET(CURLOPT_SSLKEY, http->key_file);
    return code;
}
#undef SET

static kwr_status check_request(const kwr_http_request *request, kwr_url *url, kwr_error *err) {
    static const char *const methods[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };
    bool known = false;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        known = known || strcmp(request->method, methods[i]) == 0;
    if (!known)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "HTTP method '%.20s' is not known", request->method);
    if (request->auth == KWR_HTTP_AUTH_SIGV4 &&
        (request->sigv4 == NULL || request->user == NULL || request->password == NULL))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "signing a request needs a key and its secret");
    return kwr_url_parse(request->url, url, err);
}

static kwr_status session_begin(kwr_http *http, const kwr_http_request *request, bool upload,
                                session **out, kwr_error *err) {
    kwr_url url;
    KWR_TRY(check_request(request, &url, err));
    session *s = session_take(http);
    if (s == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for an HTTP request");
    show(s, request);
    s->sink = request->sink;
    s->sink_ctx = request->sink_ctx;
    s->answer_max = request->answer_max == 0 ? KWR_HTTP_ANSWER_MAX : request->answer_max;
    s->answer.head.env = s->answer.body.env = http->env;
    s->out = s->out_all = upload ? NULL : request->body;
    s->out_left = s->out_size = upload ? 0 : request->body_size;
    s->out_end = !upload;
    if (request->timeout_ms > 0)
        s->deadline_ns = http->env->clock->mono_ns(http->env->clock->ctx) +
                         (uint64_t)request->timeout_ms * NS_PER_MS;
    const bool sends = upload || request->method[0] == 'P';
    kwr_status status = add_headers(s, request, sends, err);
    if (status >= KWR_OK) {
        CURLcode code = set_rules(s, request, url.tls);
        if (code == CURLE_OK) code = set_method(s, request, upload);
        if (code == CURLE_OK) code = set_credentials(s, request);
        if (code == CURLE_OK && curl_multi_add_handle(s->multi, s->easy) != CURLM_OK)
            code = CURLE_OUT_OF_MEMORY;
        if (code == CURLE_OUT_OF_MEMORY)
            status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for %s", s->shown);
        else if (code != CURLE_OK)
            status = KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "%s: this build of libcurl cannot: %s",
                              s->shown, curl_easy_strerror(code));
    }
    if (status < KWR_OK) {
        session_give_back(s);
        return status;
    }
    *out = s;
    return KWR_OK;
}

/* ---- driving it ---- */

static bool look_for_end(session *s) {
    int left = 0;
    for (CURLMsg *m = curl_multi_info_read(s->multi, &left); m != NULL;
         m = curl_multi_info_read(s->multi, &left)) {
        if (m->msg != CURLMSG_DONE) continue;
        s->done = true;
        s->code = m->data.result;
    }
    return s->done;
}

/* Time spent waiting here counts, not what the caller takes between two writes. */
static bool stalled(session *s, uint64_t waited) {
    s->waited_ns += waited;
    if (s->waited_ns < (uint64_t)s->http->stall_ms * NS_PER_MS) return false;
    const bool slow = s->moved < s->http->stall_bytes;
    s->waited_ns = 0;
    s->moved = 0;
    return slow;
}

/* Until the exchange is over or, with `until_sent`, until all that was given has been taken. */
static void drive(session *s, bool until_sent) {
    const kwr_env *env = s->http->env;
    uint64_t last = env->clock->mono_ns(env->clock->ctx);
    while (!s->done && s->failed >= KWR_OK) {
        int running = 0;
        if (curl_multi_perform(s->multi, &running) != CURLM_OK) {
            broken(s, KWR_ERR_NOMEM);
            return;
        }
        if (look_for_end(s) || s->failed < KWR_OK) return;
        if (until_sent && s->out_left == 0 && s->paused) return;
        uint64_t wait_ms = s->http->stall_ms < POLL_MS ? s->http->stall_ms : POLL_MS;
        if (s->deadline_ns != 0) {
            const uint64_t left = s->deadline_ns > last ? s->deadline_ns - last : 0;
            if (left / NS_PER_MS + 1 < wait_ms) wait_ms = left / NS_PER_MS + 1;
        }
        (void)curl_multi_poll(s->multi, NULL, 0, (int)wait_ms, NULL);
        const uint64_t now = env->clock->mono_ns(env->clock->ctx);
        const bool late = s->deadline_ns != 0 && now >= s->deadline_ns;
        if (late || stalled(s, now - last)) broken(s, KWR_ERR_TIMEOUT);
        last = now;
    }
}

static bool was_sent(session *s) {
    long sent = 0;
    return curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK || sent > 0;
}

static bool is_hopeless(CURLcode code) {
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CIPHER ||
           code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
           code == CURLE_LOGIN_DENIED || code == CURLE_SSL_ISSUER_ERROR;
}

/* What libcurl says of an error, up to where it could repeat a query. */
static void explain(session *s, char out[128]) {
    const char *text = s->detail[0] != '\0' ? s->detail : curl_easy_strerror(s->code);
    kwr_printable(text, strcspn(text, "?"), out, 128);
}

static kwr_status failure(session *s, kwr_error *err) {
    char text[128];
    if (s->failed == KWR_ERR_TIMEOUT)
        return KWR_FAIL(err, s->failed, 0, "%s: nothing, or too little, moved in time", s->shown);
    if (s->failed == KWR_ERR_CORRUPT)
        return KWR_FAIL(err, s->failed, 0,
                        "%s: the answer is larger than it may be (head %d, body %zu bytes)",
                        s->shown, KWR_HTTP_HEAD_MAX, s->answer_max);
    if (s->failed == KWR_ERR_REFUSED)
        return KWR_FAIL(err, s->failed, 0,
                        "%s: its name leads to an address that is never followed", s->shown);
    if (s->failed < KWR_OK && s->failed != KWR_ERR_NOMEM)
        return KWR_FAIL(err, s->failed, 0, "%s: broken off", s->shown);
    if (s->failed == KWR_ERR_NOMEM || s->code == CURLE_OUT_OF_MEMORY)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "%s: no memory", s->shown);
    explain(s, text);
    if (s->code == CURLE_OPERATION_TIMEDOUT)
        return KWR_FAIL(err, KWR_ERR_TIMEOUT, 0, "%s: %s", s->shown, text);
    return KWR_FAIL(err, KWR_ERR_IO, 0, "%s: %s", s->shown, text);
}

/* libcurl takes a head that ends with the connection, and a body without any word of its length. */
static bool is_whole(const session *s) {
    if (!s->head_whole || s->answer.status < 200) return false;
    return s->bodyless || s->answer.status == 204 || s->answer.status == 304 ||
           kwr_http_header(&s->answer, "content-length") != NULL ||
           kwr_http_header(&s->answer, "transfer-encoding") != NULL;
}

/* Hands the answer over and gives the session back. */
static kwr_status conclude(session *s, kwr_http_answer *answer, kwr_error *err) {
    kwr_status status = KWR_OK;
    if (s->failed < KWR_OK || s->code != CURLE_OK) {
        s->answer.fate = was_sent(s) ? KWR_HTTP_LOST : KWR_HTTP_UNSENT;
        s->answer.hopeless = s->failed >= KWR_OK && is_hopeless(s->code);
        status = failure(s, err);
    } else if (!is_whole(s)) {
        s->answer.fate = KWR_HTTP_LOST;
        status =
            KWR_FAIL(err, KWR_ERR_IO, 0,
                     "%s: the answer is cut off, says not where it ends, or is no HTTP", s->shown);
    } else {
        s->answer.fate = KWR_HTTP_ANSWERED;
    }
    kwr_http_answer_free(answer);
    *answer = s->answer;
    memset(&s->answer, 0, sizeof s->answer);
    session_give_back(s);
    return status;
}

kwr_status kwr_http_perform(kwr_http *http, const kwr_http_request *request,
                            kwr_http_answer *answer, kwr_error *err) {
    session *s = NULL;
    const kwr_status status = session_begin(http, request, false, &s, err);
    if (status < KWR_OK) {
        kwr_http_answer_free(answer);
        answer->hopeless = status != KWR_ERR_NOMEM;
        return status;
    }
    drive(s, false);
    return conclude(s, answer, err);
}

/* ---- uploads ---- */

kwr_status kwr_http_upload_open(kwr_http *http, const kwr_http_request *request,
                                kwr_http_upload **out, kwr_error *err) {
    session *s = NULL;
    KWR_TRY(session_begin(http, request, true, &s, err));
    *out = s;
    return KWR_OK;
}

static void go_on(session *s) {
    if (!s->paused || s->done || s->failed < KWR_OK) return;
    s->paused = false;
    (void)curl_easy_pause(s->easy, CURLPAUSE_CONT);
}

kwr_status kwr_http_upload_write(kwr_http_upload *s, const void *data, size_t size,
                                 kwr_error *err) {
    if (size == 0) return KWR_OK;
    if (!s->done && s->failed >= KWR_OK) {
        s->out = data;
        s->out_left = size;
        go_on(s);
        drive(s, true);
        const bool taken = s->out_left == 0;
        s->out = NULL;
        s->out_left = 0;
        if (taken && !s->done && s->failed >= KWR_OK) return KWR_OK;
    }
    if (s->failed >= KWR_OK && s->code == CURLE_OK)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "%s: the server answered %d before the end", s->shown,
                        s->answer.status);
    return failure(s, err);
}

kwr_status kwr_http_upload_end(kwr_http_upload *s, kwr_http_answer *answer, kwr_error *err) {
    s->out_end = true;
    go_on(s);
    drive(s, false);
    return conclude(s, answer, err);
}

void kwr_http_upload_abort(kwr_http_upload *upload) {
    if (upload != NULL) session_give_back(upload);
}

/* ---- answers ---- */

const char *kwr_http_header(const kwr_http_answer *answer, const char *name) {
    const size_t size = strlen(name);
    for (size_t at = 0; at < answer->head.size;) {
        const char *line = (const char *)answer->head.data + at;
        if (strncmp(line, name, size) == 0 && line[size] == ':')
            return line + size + 1 + strspn(line + size + 1, " \t");
        at += strlen(line) + 1;
    }
    return NULL;
}

/* Tokens come in bodies, and in addresses to be sent on to. */
void kwr_http_answer_free(kwr_http_answer *answer) {
    if (answer->head.data != NULL) kwr_wipe(answer->head.data, answer->head.size);
    if (answer->body.data != NULL) kwr_wipe(answer->body.data, answer->body.size);
    kwr_buffer_free(&answer->head);
    kwr_buffer_free(&answer->body);
    memset(answer, 0, sizeof *answer);
}
