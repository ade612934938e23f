/* SPDX-License-Identifier: Apache-2.0 */
/* The transport against a server that answers well, badly, late, or not at all. */
#include "snapshot/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/storage/loopback.h"
#include "tests/support/kwr_test.h"

/* What the server is to do, and what it saw last. */
typedef struct stage {
    loopback *server;
    kwr_http *http;
    pthread_mutex_t lock;
    loopback_reply next; /* its body is not freed, but copied */
    char method[16], target[512], head[4096];
    char body[65536];
    size_t body_size;
    bool whole;
    uint64_t total; /* bytes of all bodies */
    char url[256];
} stage;

static void act(void *ctx, const loopback_request *request, loopback_reply *reply) {
    stage *s = ctx;
    pthread_mutex_lock(&s->lock);
    snprintf(s->method, sizeof s->method, "%s", request->method);
    snprintf(s->target, sizeof s->target, "%.500s", request->target);
    snprintf(s->head, sizeof s->head, "%.4000s", request->head);
    s->body_size = request->body_size < sizeof s->body ? request->body_size : sizeof s->body;
    if (s->body_size > 0) memcpy(s->body, request->body, s->body_size);
    s->whole = request->whole;
    s->total += request->body_size;
    *reply = s->next;
    reply->body = malloc(s->next.body_size + 1);
    if (s->next.body_size > 0) memcpy(reply->body, s->next.body, s->next.body_size);
    pthread_mutex_unlock(&s->lock);
}

static void stage_open(stage *s, const kwr_http_options *options) {
    kwr_error err = { 0 };
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->next.status = 200;
    s->server = loopback_open(act, s);
    KWR_MUST_ERR(kwr_http_open(kwr_test_env(), options, &s->http, &err), err);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d/path?token=secret",
             loopback_port(s->server));
}

static void stage_close(stage *s) {
    kwr_http_close(s->http);
    loopback_close(s->server);
    pthread_mutex_destroy(&s->lock);
}

static void will_say(stage *s, int status, const char *headers, const char *body) {
    s->next = (loopback_reply){ .status = status };
    snprintf(s->next.headers, sizeof s->next.headers, "%s", headers);
    s->next.body = (uint8_t *)body;
    s->next.body_size = strlen(body);
}

/* What this thread set is seen by the server's, and the other way round. */
static void sync_with(stage *s) {
    pthread_mutex_lock(&s->lock);
    pthread_mutex_unlock(&s->lock);
}

static kwr_status perform(stage *s, const kwr_http_request *request, kwr_http_answer *answer,
                          kwr_error *err) {
    sync_with(s);
    const kwr_status status = kwr_http_perform(s->http, request, answer, err);
    sync_with(s);
    return status;
}

static kwr_status upload_open(stage *s, const kwr_http_request *request, kwr_http_upload **out,
                              kwr_error *err) {
    sync_with(s);
    return kwr_http_upload_open(s->http, request, out, err);
}

static kwr_status upload_end(stage *s, kwr_http_upload *upload, kwr_http_answer *answer,
                             kwr_error *err) {
    const kwr_status status = kwr_http_upload_end(upload, answer, err);
    sync_with(s);
    return status;
}

static kwr_status get(stage *s, kwr_http_answer *answer, kwr_error *err) {
    const kwr_http_request request = { .method = "GET", .url = s->url };
    const kwr_status status = perform(s, &request, answer, err);
    if (status < KWR_OK) cr_assert(strstr(err->text, "secret") == NULL, "%s", err->text);
    return status;
}

static bool body_is(const kwr_http_answer *answer, const char *text) {
    return answer->body.size == strlen(text) &&
           (answer->body.size == 0 || memcmp(answer->body.data, text, answer->body.size) == 0);
}

KWR_TEST(http, an_answer_has_status_headers_and_body) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    will_say(&s, 418, "X-Kind: Pot\r\nLocation:   http://elsewhere/x \r\nX-Empty:\r\n", "short");
    KWR_MUST_ERR(get(&s, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_ANSWERED && answer.status == 418);
    cr_assert(body_is(&answer, "short"));
    cr_assert(strcmp(kwr_http_header(&answer, "x-kind"), "Pot") == 0);
    cr_assert(strncmp(kwr_http_header(&answer, "location"), "http://elsewhere/x", 18) == 0);
    cr_assert(strcmp(kwr_http_header(&answer, "x-empty"), "") == 0);
    cr_assert(kwr_http_header(&answer, "kind") == NULL);
    cr_assert(kwr_http_header(&answer, "x-kin") == NULL);
    cr_assert(strcmp(s.method, "GET") == 0 && strcmp(s.target, "/path?token=secret") == 0);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, every_method_is_sent_as_asked_with_headers_and_body) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    static const char *const methods[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };
    static const char *const headers[] = { "X-One: 1", "Content-Type: application/octet-stream" };
    for (size_t i = 0; i < 5; i++)
        for (size_t size = 0; size <= 5; size += 5) {
            kwr_http_request request = { .method = methods[i], .url = s.url };
            request.headers = headers;
            request.header_count = 2;
            request.body = size > 0 ? "bytes" : NULL;
            request.body_size = size;
            KWR_MUST_ERR(perform(&s, &request, &answer, &err), err);
            cr_assert(strcmp(s.method, methods[i]) == 0, "%s came as %s", methods[i], s.method);
            cr_assert(strstr(s.head, "X-One: 1\n") != NULL);
            cr_assert(strstr(s.head, "Expect") == NULL, "%s", s.head);
            const bool sends = methods[i][0] == 'P';
            cr_assert(s.body_size == (sends ? size : 0));
            cr_assert((strstr(s.head, "Content-Length:") != NULL) == sends, "%s", s.head);
        }
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, a_redirect_is_an_answer_and_not_followed) {
    stage s, other;
    stage_open(&s, NULL);
    stage_open(&other, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    char header[300];
    snprintf(header, sizeof header, "Location: %s\r\n", other.url);
    static const int statuses[] = { 301, 302, 303, 307, 308 };
    for (size_t i = 0; i < 5; i++) {
        will_say(&s, statuses[i], header, "");
        KWR_MUST_ERR(get(&s, &answer, &err), err);
        cr_assert(answer.status == statuses[i]);
        cr_assert(strcmp(kwr_http_header(&answer, "location"), other.url) == 0);
    }
    cr_assert(loopback_requests(other.server) == 0);
    kwr_http_answer_free(&answer);
    stage_close(&s);
    stage_close(&other);
}

KWR_TEST(http, an_answer_cut_at_any_byte_is_lost_never_short) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    will_say(&s, 200, "X-A: b\r\n", "the whole content");
    size_t whole = 0;
    for (size_t cut = 1; whole == 0; cut++)
        for (int reset = 0; reset < 2; reset++) {
            s.next.cut = cut;
            s.next.cut_reset = reset == 1;
            const kwr_status status = get(&s, &answer, &err);
            if (status == KWR_OK && answer.fate == KWR_HTTP_ANSWERED) {
                cr_assert(body_is(&answer, "the whole content"), "cut at %zu", cut - 1);
                whole = cut - 1;
            } else {
                cr_assert(answer.fate == KWR_HTTP_LOST, "cut at %zu", cut - 1);
                KWR_EXPECT_ERR(KWR_ERR_IO, status, err);
            }
        }
    cr_assert(whole > 60, "%zu", whole);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, it_is_known_whether_a_request_can_have_reached_the_server) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    will_say(&s, 200, "", "");
    s.next.reset = true;
    KWR_EXPECT_ERR(KWR_ERR_IO, get(&s, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_LOST && !answer.hopeless);
    /* Nobody listens. */
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET };
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    cr_assert(bind(fd, (struct sockaddr *)&at, size) == 0);
    cr_assert(getsockname(fd, (struct sockaddr *)&at, &size) == 0);
    char closed[64];
    snprintf(closed, sizeof closed, "http://127.0.0.1:%d/x?secret", ntohs(at.sin_port));
    kwr_http_request request = { .method = "PUT", .url = closed, .body = "x", .body_size = 1 };
    KWR_EXPECT_ERR(KWR_ERR_IO, perform(&s, &request, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_UNSENT && !answer.hopeless && answer.status == 0);
    cr_assert(strstr(err.text, "PUT http://127.0.0.1") != NULL, "%s", err.text);
    cr_assert(strstr(err.text, "secret") == NULL, "%s", err.text);
    close(fd);
    /* TLS with one that does not speak it. */
    snprintf(closed, sizeof closed, "https://127.0.0.1:%d/", loopback_port(s.server));
    request.url = closed;
    KWR_EXPECT_ERR(KWR_ERR_IO, perform(&s, &request, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_UNSENT);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, what_cannot_be_a_request_is_refused_before_anything_is_sent) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    static const char *const split[] = { "X-A: b\r\nX-Evil: c" };
    const kwr_http_request bad[] = {
        { .method = "GET /x HTTP/1.1\r\n", .url = s.url },
        { .method = "PATCH", .url = s.url },
        { .method = "GET", .url = "file:///etc/passwd" },
        { .method = "GET", .url = "http://user:secret@127.0.0.1/" },
        { .method = "GET", .url = s.url, .headers = split, .header_count = 1 },
        { .method = "GET", .url = s.url, .auth = KWR_HTTP_AUTH_SIGV4, .user = "u" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        KWR_EXPECT_ERR(KWR_ERR_RANGE, perform(&s, &bad[i], &answer, &err), err);
        cr_assert(answer.fate == KWR_HTTP_UNSENT && answer.hopeless);
    }
    cr_assert(loopback_requests(s.server) == 0);
    stage_close(&s);
}

KWR_TEST(http, answers_beyond_their_bounds_are_broken_off) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    kwr_http_request request = { .method = "GET", .url = s.url, .answer_max = 10 };
    will_say(&s, 200, "", "0123456789");
    KWR_MUST_ERR(perform(&s, &request, &answer, &err), err);
    will_say(&s, 200, "", "0123456789a");
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, perform(&s, &request, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_LOST);
    /* A head without end. */
    enum { LONG = KWR_HTTP_HEAD_MAX + 100 };
    char *raw = malloc(LONG + 1);
    size_t used = (size_t)snprintf(raw, LONG, "HTTP/1.1 200 OK\r\n");
    while (used < LONG - 80)
        used += (size_t)snprintf(raw + used, LONG - used, "X-Header-%zu: %040d\r\n", used, 7);
    will_say(&s, 200, "", "");
    s.next.raw = true;
    s.next.body = (uint8_t *)raw;
    s.next.body_size = used;
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, perform(&s, &request, &answer, &err), err);
    free(raw);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, what_is_no_http_is_a_lost_answer) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    static const char *const garbage[] = {
        "<html>proxy</html>",
        "HTTP/1.1 banana\r\n\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhow long?",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbo",
        "\r\n\r\n",
        "",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        will_say(&s, 200, "", garbage[i]);
        s.next.raw = true;
        const kwr_status status = get(&s, &answer, &err);
        cr_assert(status < KWR_OK && answer.fate == KWR_HTTP_LOST, "case %zu: %s", i,
                  kwr_status_name(status));
    }
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, stalls_slowness_and_deadlines_end_a_request) {
    stage s;
    const kwr_http_options options = { .stall_ms = 60, .stall_bytes = 50 };
    stage_open(&s, &options);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    will_say(&s, 200, "", "late");
    s.next.delay_ms = 300;
    KWR_EXPECT_ERR(KWR_ERR_TIMEOUT, get(&s, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_LOST);
    will_say(&s, 200, "", "0123456789012345678901234567890123456789");
    s.next.slow_ms = 4;
    KWR_EXPECT_ERR(KWR_ERR_TIMEOUT, get(&s, &answer, &err), err);
    will_say(&s, 200, "", "late");
    s.next.delay_ms = 40;
    const kwr_http_request request = { .method = "GET", .url = s.url, .timeout_ms = 10 };
    KWR_EXPECT_ERR(KWR_ERR_TIMEOUT, perform(&s, &request, &answer, &err), err);
    will_say(&s, 200, "", "well");
    KWR_MUST_ERR(get(&s, &answer, &err), err);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

typedef struct pail {
    char bytes[64];
    size_t size;
    kwr_status result;
} pail;

static kwr_status pour(void *ctx, const void *data, size_t size) {
    pail *p = ctx;
    cr_assert(p->size + size <= sizeof p->bytes);
    memcpy(p->bytes + p->size, data, size);
    p->size += size;
    return p->result;
}

KWR_TEST(http, a_sink_gets_good_answers_only_and_may_break_off) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    pail p = { 0 };
    kwr_http_request request = { .method = "GET", .url = s.url, .sink = pour, .sink_ctx = &p };
    will_say(&s, 206, "", "content");
    KWR_MUST_ERR(perform(&s, &request, &answer, &err), err);
    cr_assert(p.size == 7 && memcmp(p.bytes, "content", 7) == 0 && answer.body.size == 0);
    will_say(&s, 404, "", "an explanation");
    KWR_MUST_ERR(perform(&s, &request, &answer, &err), err);
    cr_assert(p.size == 7 && body_is(&answer, "an explanation"));
    p.result = KWR_ERR_MISMATCH;
    will_say(&s, 200, "", "content");
    KWR_EXPECT_ERR(KWR_ERR_MISMATCH, perform(&s, &request, &answer, &err), err);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, an_upload_is_pushed_piece_by_piece) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    const kwr_http_request request = { .method = "PUT", .url = s.url };
    will_say(&s, 201, "", "made");
    static const size_t pieces[] = { 1, 70000, 0, 3, 300000, 16384, 1 };
    uint8_t *data = malloc(300000);
    memset(data, 'd', 300000);
    for (int round = 0; round < 3; round++) { /* a connection that was used before, too */
        kwr_http_upload *upload = NULL;
        uint64_t all = 0;
        s.total = 0;
        KWR_MUST_ERR(upload_open(&s, &request, &upload, &err), err);
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            KWR_MUST_ERR(kwr_http_upload_write(upload, data, pieces[i], &err), err);
            all += pieces[i];
        }
        KWR_MUST_ERR(upload_end(&s, upload, &answer, &err), err);
        cr_assert(answer.status == 201 && body_is(&answer, "made") && s.whole);
        cr_assert(s.total == all && s.body[100] == 'd');
    }
    kwr_http_upload *empty = NULL;
    KWR_MUST_ERR(upload_open(&s, &request, &empty, &err), err);
    KWR_MUST_ERR(upload_end(&s, empty, &answer, &err), err);
    cr_assert(s.whole && s.body_size == 0);
    free(data);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, an_aborted_upload_is_never_taken_for_a_whole_one) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    const kwr_http_request request = { .method = "PUT", .url = s.url };
    kwr_http_upload *upload = NULL;
    s.whole = true;
    KWR_MUST_ERR(upload_open(&s, &request, &upload, &err), err);
    KWR_MUST_ERR(kwr_http_upload_write(upload, "some", 4, &err), err);
    kwr_http_upload_abort(upload);
    bool whole = true;
    for (int i = 0; i < 1000 && whole; i++) {
        usleep(5000);
        pthread_mutex_lock(&s.lock);
        whole = s.whole;
        pthread_mutex_unlock(&s.lock);
    }
    cr_assert(!whole);
    kwr_http_upload_abort(NULL);
    /* One that never began. */
    KWR_MUST_ERR(upload_open(&s, &request, &upload, &err), err);
    kwr_http_upload_abort(upload);
    stage_close(&s);
}

KWR_TEST(http, an_upload_that_fails_says_so_at_the_write_or_at_the_end) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    kwr_http_request request = { .method = "PUT", .url = s.url };
    kwr_http_upload *upload = NULL;
    s.next.reset = true;
    KWR_MUST_ERR(upload_open(&s, &request, &upload, &err), err);
    KWR_MUST_ERR(kwr_http_upload_write(upload, "some", 4, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_IO, upload_end(&s, upload, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_LOST);
    char closed[64];
    snprintf(closed, sizeof closed, "http://127.0.0.1:%d/x?secret", 1);
    request.url = closed;
    KWR_MUST_ERR(upload_open(&s, &request, &upload, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_IO, kwr_http_upload_write(upload, "some", 4, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_IO, kwr_http_upload_write(upload, "more", 4, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_IO, upload_end(&s, upload, &answer, &err), err);
    cr_assert(answer.fate == KWR_HTTP_UNSENT);
    cr_assert(strstr(err.text, "secret") == NULL);
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, nothing_is_taken_from_the_surroundings) {
    setenv("http_proxy", "http://127.0.0.1:1/", 1);
    setenv("all_proxy", "http://127.0.0.1:1/", 1);
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    will_say(&s, 401,
             "WWW-Authenticate: Basic realm=\"x\"\r\nSet-Cookie: hadoop.auth=secret; Path=/\r\n",
             "");
    KWR_MUST_ERR(get(&s, &answer, &err), err);
    KWR_MUST_ERR(get(&s, &answer, &err), err);
    cr_assert(strstr(s.head, "Cookie") == NULL && strstr(s.head, "Authorization") == NULL, "%s",
              s.head);
    cr_assert(loopback_requests(s.server) == 2, "no answer to a challenge is tried");
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

KWR_TEST(http, a_signed_request_carries_a_signature_and_not_the_secret) {
    stage s;
    stage_open(&s, NULL);
    kwr_error err = { 0 };
    kwr_http_answer answer = { 0 };
    static const char *const headers[] = { "x-amz-content-sha256: UNSIGNED-PAYLOAD" };
    const kwr_http_request request = {
        .method = "PUT",
        .url = s.url,
        .auth = KWR_HTTP_AUTH_SIGV4,
        .sigv4 = "aws:amz:us-east-1:s3",
        .user = "THEKEYID",
        .password = "very-secret",
        .headers = headers,
        .header_count = 1,
        .body = "x",
        .body_size = 1,
    };
    KWR_MUST_ERR(perform(&s, &request, &answer, &err), err);
    cr_assert(strstr(s.head, "Authorization: AWS4-HMAC-SHA256 Credential=THEKEYID/") != NULL, "%s",
              s.head);
    cr_assert(strstr(s.head, "very-secret") == NULL);
    KWR_MUST_ERR(get(&s, &answer, &err), err);
    cr_assert(strstr(s.head, "Authorization") == NULL, "the next request is another's");
    kwr_http_answer_free(&answer);
    stage_close(&s);
}

enum { THREADS = 6, EACH = 40 };

static void *many(void *arg) {
    stage *s = arg;
    kwr_http_answer answer = { 0 };
    kwr_error err = { 0 };
    for (int i = 0; i < EACH; i++) {
        KWR_MUST_ERR(get(s, &answer, &err), err);
        cr_assert(body_is(&answer, "shared"));
    }
    kwr_http_answer_free(&answer);
    return NULL;
}

KWR_TEST(http, threads_share_a_client) {
    stage s;
    const kwr_http_options options = { .idle_connections = 2 };
    stage_open(&s, &options);
    will_say(&s, 200, "", "shared");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, many, &s);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert(loopback_requests(s.server) == THREADS * EACH);
    stage_close(&s);
}

/* Where a server sends us by a name, what the name leads to counts; here an address in a spelling
 * that is never followed, of a server that is there. */
KWR_TEST(http, a_name_that_leads_to_a_forbidden_address_gets_no_request) {
    stage s;
    stage_open(&s, NULL);
    kwr_http_request request = { .method = "GET", .url = s.url, .sent_on = true };
    kwr_http_answer answer = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_http_perform(s.http, &request, &answer, &err), err);
    const uint64_t before = loopback_requests(s.server);
    snprintf(s.url, sizeof s.url, "http://[::ffff:127.0.0.1]:%d/path", loopback_port(s.server));
    request.sent_on = false;
    const bool reachable = kwr_http_perform(s.http, &request, &answer, &err) == KWR_OK;
    cr_assert(loopback_requests(s.server) == before + reachable);
    request.sent_on = true;
    const kwr_status status = kwr_http_perform(s.http, &request, &answer, &err);
    cr_assert(status < KWR_OK && answer.fate == KWR_HTTP_UNSENT);
    if (reachable) {
        KWR_EXPECT(KWR_ERR_REFUSED, status);
        cr_assert(strstr(err.text, "never followed") != NULL, "%s", err.text);
    }
    cr_assert(loopback_requests(s.server) == before + reachable, "a request was sent");
    kwr_http_answer_free(&answer);
    stage_close(&s);
}
