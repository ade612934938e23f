/* SPDX-License-Identifier: Apache-2.0 */
/* One request: its address and headers, tries, and what the answers mean. */
#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/s3_client.h"
#include "snapshot/s3_reply.h"

/* With the session's token and what every request has. */
enum { HEADERS_MAX = KWR_S3_HEADERS_MAX + 2 };

typedef struct landing {
    uint8_t *at;
    size_t size;
    size_t got;
} landing;

static kwr_status on_data(void *ctx, const void *data, size_t size) {
    landing *l = ctx;
    if (size > l->size - l->got) return KWR_ERR_CORRUPT;
    memcpy(l->at + l->got, data, size);
    l->got += size;
    return KWR_OK;
}

static kwr_status address(const kwr_s3 *s3, const kwr_s3_call *call, kwr_buffer *url) {
    kwr_buffer_printf(url, "%s", s3->base);
    if (call->key != NULL) {
        kwr_buffer_append(url, "/", 1);
        kwr_url_encode(url, call->key, strlen(call->key), true);
    } else if (strchr(s3->base + strlen("https://"), '/') == NULL) {
        kwr_buffer_append(url, "/", 1);
    }
    if (call->query != NULL) kwr_buffer_printf(url, "?%s", call->query);
    kwr_buffer_append(url, "", 1);
    return url->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status try_once(kwr_s3 *s3, const kwr_s3_call *call, const char *url,
                           kwr_http_answer *answer, kwr_error *err) {
    kwr_s3_credentials *c = kwr_s3_credentials_take(s3);
    char token[sizeof "x-amz-security-token: " + KWR_S3_TOKEN_MAX];
    /* What the transport's cipher and our own digests do not cover, no digest here would. */
    const char *headers[HEADERS_MAX] = { "x-amz-content-sha256: UNSIGNED-PAYLOAD" };
    size_t count = 1;
    if (c->token[0] != '\0') {
        snprintf(token, sizeof token, "x-amz-security-token: %s", c->token);
        headers[count++] = token;
    }
    for (size_t i = 0; i < KWR_S3_HEADERS_MAX && call->headers[i] != NULL; i++)
        headers[count++] = call->headers[i];
    landing into = { .at = call->into, .size = call->into_size };
    const kwr_http_request request = {
        .method = call->method,
        .url = url,
        .headers = headers,
        .header_count = count,
        .body = call->body,
        .body_size = call->body_size,
        .auth = KWR_HTTP_AUTH_SIGV4,
        .sigv4 = s3->sigv4,
        .user = c->key,
        .password = c->secret,
        .fresh = call->once,
        .sink = call->into != NULL ? on_data : NULL,
        .sink_ctx = &into,
    };
    kwr_status status = kwr_http_perform(s3->http, &request, answer, err);
    if (c->token[0] != '\0') kwr_wipe(token, sizeof token);
    kwr_s3_credentials_release(s3, c);
    if (status >= KWR_OK && call->into != NULL && answer->status / 100 == 2 &&
        into.got != into.size)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s: %zu bytes were asked for, %zu came",
                          s3->shown, into.size, into.got);
    return status;
}

/* ---- what an answer means ---- */

static void read_complaint(const kwr_http_answer *answer, kwr_s3_complaint *out) {
    kwr_s3_read_complaint((kwr_slice){ answer->body.data, answer->body.size }, out);
    const char *region = kwr_http_header(answer, "x-amz-bucket-region");
    if (region != NULL && out->region[0] == '\0')
        kwr_printable(region, strlen(region), out->region, sizeof out->region);
}

static bool one_of(const char *code, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(code, words[i]) == 0) return true;
    return false;
}

static kwr_status meaning(int status, const char *code) {
    static const char *const full[] = { "QuotaExceeded", "StorageFull", "XMinioStorageFull",
                                        "ServiceQuotaExceeded", "EntityTooLarge" };
    if (one_of(code, full, sizeof full / sizeof *full) || status == 507) return KWR_ERR_NOSPACE;
    switch (status) {
    case 401:
    case 403: return KWR_ERR_REFUSED;
    case 404: return KWR_ERR_MISSING;
    case 412: return KWR_ERR_EXISTS;
    case 416: return KWR_ERR_CORRUPT;
    case 501: return KWR_ERR_UNSUPPORTED;
    default: return KWR_ERR_IO;
    }
}

/* Refused for a reason that passes; *applied: and yet it may have been carried out. */
static bool passes(int status, const char *code, bool *applied) {
    static const char *const words[] = { "RequestTimeout", "SlowDown", "OperationAborted",
                                         "ConditionalRequestConflict" };
    *applied = status == 500 || status == 502 || status == 504;
    return *applied || status == 503 || status == 429 || status == 408 ||
           one_of(code, words, sizeof words / sizeof *words);
}

static bool stale(const char *code) {
    static const char *const words[] = { "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
                                         "InvalidAccessKeyId", "ExpiredTokenException" };
    return one_of(code, words, sizeof words / sizeof *words);
}

static kwr_status complain(const kwr_s3 *s3, const kwr_s3_call *call, int status,
                           const kwr_s3_complaint *c, kwr_error *err) {
    char key[300] = "";
    if (call->key != NULL) kwr_printable(call->key, strlen(call->key), key, sizeof key);
    const char *hint = "";
    if (strcmp(c->code, "NoSuchBucket") == 0) hint = " (keyweir makes no buckets)";
    if (strcmp(c->code, "RequestTimeTooSkewed") == 0) hint = " (set this machine's clock)";
    if (c->region[0] != '\0' && (status == 301 || status == 400)) hint = " (see region=)";
    return KWR_FAIL(err, meaning(status, c->code), 0, "'%s%s%s': %s was answered %d%s%s%s%s%s%s%s",
                    s3->shown, key[0] == '\0' ? "" : "/", key, call->method, status,
                    c->code[0] == '\0' ? "" : " ", c->code, c->message[0] == '\0' ? "" : ": ",
                    c->message, c->region[0] == '\0' ? "" : "; the bucket's region is ", c->region,
                    hint);
}

static uint64_t asked_ms(const kwr_http_answer *answer) {
    const char *after = kwr_http_header(answer, "retry-after");
    uint64_t seconds = 0;
    if (after == NULL || !kwr_parse_u64(after, strlen(after), &seconds)) return 0;
    return seconds > 3600 ? 3600000 : seconds * 1000;
}

/* Whether another try may help; sets the reply's doubt. */
static bool try_again(kwr_s3 *s3, const kwr_s3_call *call, kwr_s3_reply *reply, kwr_status failed,
                      bool *reloaded) {
    if (reply->answer.fate == KWR_HTTP_ANSWERED && failed < KWR_OK && reply->status / 100 == 2)
        return failed == KWR_ERR_CORRUPT; /* fewer bytes than asked for: of a read */
    if (reply->answer.fate == KWR_HTTP_ANSWERED) {
        bool applied = false;
        const bool soon = passes(reply->status, reply->code, &applied);
        reply->doubt = reply->doubt || applied;
        if (!soon && !*reloaded && stale(reply->code)) {
            *reloaded = true;
            return kwr_s3_credentials_load(s3, NULL) == KWR_OK;
        }
        return soon && !(call->once && applied);
    }
    if (reply->answer.fate == KWR_HTTP_LOST) {
        reply->doubt = true;
        return !call->once && failed != KWR_ERR_NOMEM;
    }
    return !reply->answer.hopeless && failed != KWR_ERR_NOMEM;
}

void kwr_s3_reply_free(kwr_s3_reply *reply) { kwr_http_answer_free(&reply->answer); }

kwr_status kwr_s3_ask(kwr_s3 *s3, const kwr_s3_call *call, kwr_s3_reply *reply, kwr_error *err) {
    reply->doubt = false;
    kwr_buffer url = { .env = s3->env };
    if (address(s3, call, &url) < KWR_OK) {
        kwr_buffer_free(&url);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a request to '%s'", s3->shown);
    }
    kwr_retry retry = kwr_retry_begin(&s3->policy, s3->env->clock->mono_ns(s3->env->clock->ctx));
    kwr_status status = KWR_OK;
    bool reloaded = false;
    do {
        status = try_once(s3, call, (const char *)url.data, &reply->answer, err);
        reply->status = reply->answer.status;
        reply->code[0] = '\0';
        if (status >= KWR_OK && reply->status / 100 != 2) {
            kwr_s3_complaint c;
            read_complaint(&reply->answer, &c);
            memcpy(reply->code, c.code, sizeof c.code);
            status = complain(s3, call, reply->status, &c, err);
        }
        if (status >= KWR_OK) break;
    } while (try_again(s3, call, reply, status, &reloaded) &&
             kwr_retry_wait(&retry, s3->env, asked_ms(&reply->answer)));
    kwr_buffer_free(&url);
    if (status >= KWR_OK) reply->doubt = false;
    return status;
}
