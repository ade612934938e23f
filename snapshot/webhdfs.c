/* SPDX-License-Identifier: Apache-2.0 */
/* The operations: on names, which the name node answers, and on data, in two steps. */
#include "snapshot/webhdfs.h"

#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/webhdfs_client.h"

enum { PARAMS_MAX = 512, LISTING_MAX = 16 * 1024 * 1024 };

static kwr_slice body_of(const kwr_http_answer *answer) {
    return (kwr_slice){ answer->body.data, answer->body.size };
}

static kwr_status not_understood(const char *op, const char *path, const kwr_url *node,
                                 kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_IO, 0, "%s '%s': '%s' gave an answer that is no word of WebHDFS",
                    op, path, node->host);
}

/* ---- names ---- */

kwr_status kwr_webhdfs_stat(kwr_webhdfs *c, const char *path, kwr_webhdfs_status *out,
                            kwr_error *err) {
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node;
    const kwr_webhdfs_call call = {
        .method = "GET", .op = "GETFILESTATUS", .path = path, .params = "", .repeatable = true
    };
    kwr_status status = kwr_webhdfs_ask(c, &call, &answer, &doubt, &node, err);
    if (status >= KWR_OK && kwr_webhdfs_read_status(body_of(&answer), out) < KWR_OK)
        status = not_understood(call.op, path, &node, err);
    kwr_http_answer_free(&answer);
    return status;
}

/* Asks a question whose answer is a boolean. */
static kwr_status ask_boolean(kwr_webhdfs *c, const kwr_webhdfs_call *call, bool *out, bool *doubt,
                              kwr_error *err) {
    kwr_http_answer answer = { 0 };
    kwr_url node;
    kwr_status status = kwr_webhdfs_ask(c, call, &answer, doubt, &node, err);
    if (status >= KWR_OK && kwr_webhdfs_read_boolean(body_of(&answer), out) < KWR_OK) {
        *doubt = true;
        status = not_understood(call->op, call->path, &node, err);
    }
    kwr_http_answer_free(&answer);
    return status;
}

kwr_status kwr_webhdfs_mkdirs(kwr_webhdfs *c, const char *path, kwr_error *err) {
    const kwr_webhdfs_call call = { .method = "PUT",
                                    .op = "MKDIRS",
                                    .path = path,
                                    .params = "&permission=700",
                                    .repeatable = true };
    bool made = false, doubt = false;
    const kwr_status status = ask_boolean(c, &call, &made, &doubt, err);
    /* "It is there", said of a directory, is success: so this is something else. */
    if (status == KWR_ERR_EXISTS) {
        if (err != NULL) err->status = KWR_ERR_MISMATCH;
        return KWR_ERR_MISMATCH;
    }
    KWR_TRY(status);
    if (!made)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "MKDIRS '%s': the name node says no, without a reason",
                        path);
    return KWR_OK;
}

kwr_status kwr_webhdfs_delete(kwr_webhdfs *c, const char *path, kwr_webhdfs_deed *deed,
                              bool *repeated, kwr_error *err) {
    const kwr_webhdfs_call call = { .method = "DELETE",
                                    .op = "DELETE",
                                    .path = path,
                                    .params = "&recursive=false",
                                    .repeatable = true };
    bool removed = false, doubt = false;
    const kwr_status status = ask_boolean(c, &call, &removed, &doubt, err);
    *repeated = doubt;
    *deed = removed ? KWR_WEBHDFS_DONE : KWR_WEBHDFS_NOT_DONE;
    if (status < KWR_OK && doubt) *deed = KWR_WEBHDFS_UNKNOWN;
    return status;
}

kwr_status kwr_webhdfs_rename(kwr_webhdfs *c, const char *from, const char *to,
                              kwr_webhdfs_deed *deed, kwr_error *err) {
    kwr_buffer params = { .env = c->env };
    kwr_buffer_append(&params, "&destination=", 13);
    kwr_url_encode(&params, to, strlen(to), true);
    kwr_buffer_append(&params, "", 1);
    *deed = KWR_WEBHDFS_NOT_DONE;
    kwr_status status = KWR_OK;
    if (params.failed) {
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "RENAME '%s': no memory", from);
    } else {
        const kwr_webhdfs_call call = { .method = "PUT",
                                        .op = "RENAME",
                                        .path = from,
                                        .params = (const char *)params.data,
                                        .fresh = true };
        bool moved = false, doubt = false;
        status = ask_boolean(c, &call, &moved, &doubt, err);
        if (status >= KWR_OK && moved) *deed = KWR_WEBHDFS_DONE;
        if (status < KWR_OK && doubt) *deed = KWR_WEBHDFS_UNKNOWN;
    }
    kwr_buffer_free(&params);
    return status;
}

/* ---- listing ---- */

static kwr_status list_part(kwr_webhdfs *c, const kwr_webhdfs_call *call, kwr_list_fn fn,
                            void *fn_ctx, char last[KWR_WEBHDFS_NAME_MAX + 1], uint64_t *left,
                            kwr_error *err) {
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node;
    kwr_status status = kwr_webhdfs_ask(c, call, &answer, &doubt, &node, err);
    if (status >= KWR_OK) {
        status = kwr_webhdfs_read_listing(body_of(&answer), fn, fn_ctx, last, left);
        if (status == KWR_ERR_CORRUPT) status = not_understood(call->op, call->path, &node, err);
    }
    kwr_http_answer_free(&answer);
    return status;
}

/* Servers before batches existed. */
static kwr_status list_at_once(kwr_webhdfs *c, const char *path, kwr_list_fn fn, void *fn_ctx,
                               kwr_error *err) {
    const kwr_webhdfs_call call = { .method = "GET",
                                    .op = "LISTSTATUS",
                                    .path = path,
                                    .params = "",
                                    .repeatable = true,
                                    .answer_max = LISTING_MAX };
    char last[KWR_WEBHDFS_NAME_MAX + 1] = "";
    uint64_t left = 0;
    return list_part(c, &call, fn, fn_ctx, last, &left, err);
}

kwr_status kwr_webhdfs_list(kwr_webhdfs *c, const char *path, kwr_list_fn fn, void *fn_ctx,
                            kwr_error *err) {
    char last[KWR_WEBHDFS_NAME_MAX + 1] = "", before[KWR_WEBHDFS_NAME_MAX + 1] = "";
    kwr_status status = KWR_OK;
    uint64_t left = 1;
    for (bool first = true; left > 0 && status >= KWR_OK; first = false) {
        kwr_buffer params = { .env = c->env };
        if (!first) kwr_buffer_append(&params, "&startAfter=", 12);
        kwr_url_encode(&params, last, strlen(last), false);
        kwr_buffer_append(&params, "", 1);
        const kwr_webhdfs_call call = { .method = "GET",
                                        .op = "LISTSTATUS_BATCH",
                                        .path = path,
                                        .params = (const char *)params.data,
                                        .repeatable = true };
        memcpy(before, last, sizeof before);
        status = params.failed ? KWR_FAIL(err, KWR_ERR_NOMEM, 0, "list '%s': no memory", path)
                               : list_part(c, &call, fn, fn_ctx, last, &left, err);
        kwr_buffer_free(&params);
        if (first && status == KWR_ERR_UNSUPPORTED) return list_at_once(c, path, fn, fn_ctx, err);
        /* A server that stays where it is would keep us for ever. */
        if (status >= KWR_OK && left > 0 && strcmp(last, before) <= 0)
            status = KWR_FAIL(err, KWR_ERR_IO, 0, "list '%s': the name node repeats itself", path);
    }
    return status;
}

/* ---- data: writing ---- */

struct kwr_webhdfs_stream {
    kwr_webhdfs *client;
    kwr_http_upload *upload; /* NULL after a failure */
    kwr_retry retry;
    kwr_url node; /* the data node */
    uint64_t sent;
    kwr_status failed;
    char path[]; /* with its NUL */
};

/* Where to write: asks a name node for a data node, another one than `excluded` ("": any). */
static kwr_status choose_target(kwr_webhdfs *c, const char *path, const char *excluded,
                                kwr_buffer *url, kwr_url *to, bool *login, kwr_error *err) {
    kwr_buffer params = { .env = c->env };
    kwr_buffer_printf(&params, "&overwrite=false&permission=600");
    if (c->replication > 0)
        kwr_buffer_printf(&params, "&replication=%llu", (unsigned long long)c->replication);
    if (c->block_size > 0)
        kwr_buffer_printf(&params, "&blocksize=%llu", (unsigned long long)c->block_size);
    if (excluded[0] != '\0') {
        kwr_buffer_printf(&params, "&excludedatanodes=");
        kwr_url_encode(&params, excluded, strlen(excluded), false);
    }
    kwr_buffer_append(&params, "", 1);
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node;
    kwr_status status = KWR_OK;
    const kwr_webhdfs_call call = { .method = "PUT",
                                    .op = "CREATE",
                                    .path = path,
                                    .params = (const char *)params.data,
                                    .repeatable = true,
                                    .redirects = true };
    if (params.failed)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "CREATE '%s': no memory", path);
    else
        status = kwr_webhdfs_ask(c, &call, &answer, &doubt, &node, err);
    if (status >= KWR_OK && answer.status != 307)
        status =
            KWR_FAIL(err, KWR_ERR_IO, 0, "CREATE '%s': '%s' names no data node", path, node.host);
    if (status >= KWR_OK) status = kwr_webhdfs_next_hop(c, &node, &answer, url, to, login, err);
    kwr_http_answer_free(&answer);
    kwr_buffer_free(&params);
    return status;
}

static const char *const data_headers[] = { "Content-Type: application/octet-stream",
                                            "X-XSRF-HEADER: keyweir" };

static kwr_http_request data_request(const kwr_webhdfs *c, const char *method,
                                     const kwr_buffer *url, bool login) {
    /* A gateway that knows us by a token finds it in the address it gave us. */
    const bool negotiate =
        login && c->kerberos && strstr((const char *)url->data, "delegation=") == NULL;
    return (kwr_http_request){ .method = method,
                               .url = (const char *)url->data,
                               .headers = data_headers,
                               .header_count = 2,
                               .sent_on = !login,
                               .auth = negotiate ? KWR_HTTP_AUTH_NEGOTIATE : KWR_HTTP_AUTH_NONE };
}

static void drop_url(kwr_buffer *url) {
    if (url->data != NULL) kwr_wipe(url->data, url->size);
    kwr_buffer_free(url);
}

/* After a 201: as long as it should be, or not there as it should be. */
static kwr_status check_written(kwr_webhdfs *c, const char *path, uint64_t size,
                                kwr_webhdfs_status *out, kwr_error *err) {
    KWR_TRY(kwr_webhdfs_stat(c, path, out, err));
    if (!out->directory && out->length == size) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_IO, 0,
                    "'%s' was written with %llu bytes, and the name node knows %llu", path,
                    (unsigned long long)size, (unsigned long long)out->length);
}

/* One try; *again: another may do better; *touched: something may be under the name. */
static kwr_status put_once(kwr_webhdfs *c, const char *path, const void *data, size_t size,
                           char excluded[KWR_HOST_MAX + 1], bool *again, bool *touched,
                           kwr_error *err) {
    kwr_buffer url = { .env = c->env };
    kwr_url to;
    bool login = false;
    *again = false;
    kwr_status status = choose_target(c, path, excluded, &url, &to, &login, err);
    if (status < KWR_OK) {
        drop_url(&url);
        return status;
    }
    kwr_http_request request = data_request(c, "PUT", &url, login);
    request.body = data;
    request.body_size = size;
    kwr_http_answer answer = { 0 };
    status = kwr_http_perform(c->http, &request, &answer, err);
    if (status < KWR_OK) {
        *again = status != KWR_ERR_NOMEM && !answer.hopeless;
        if (answer.fate != KWR_HTTP_UNSENT) *touched = true;
    } else if (answer.status != 201) {
        kwr_webhdfs_error why;
        status = kwr_webhdfs_refusal(c, "CREATE", path, &to, &answer, &why, err);
        *again = why.verdict != KWR_WEBHDFS_FAILED;
        /* What was refused at the door left nothing; what failed later may have. */
        if (status != KWR_ERR_EXISTS) *touched = true;
    } else {
        *touched = true;
    }
    if (*again) /* that one the next time not, and then again */
        snprintf(excluded, KWR_HOST_MAX + 1, "%s", excluded[0] == '\0' ? to.host : "");
    kwr_http_answer_free(&answer);
    drop_url(&url);
    return status;
}

kwr_status kwr_webhdfs_put(kwr_webhdfs *c, const char *path, const void *data, size_t size,
                           kwr_webhdfs_status *out, kwr_error *err) {
    kwr_retry retry = kwr_retry_begin(&c->policy, c->env->clock->mono_ns(c->env->clock->ctx));
    char excluded[KWR_HOST_MAX + 1] = "";
    for (;;) {
        bool again = false, touched = false, repeated = false;
        kwr_status status = put_once(c, path, data, size, excluded, &again, &touched, err);
        if (status >= KWR_OK) {
            status = check_written(c, path, size, out, err);
            if (status >= KWR_OK) return KWR_OK;
            again = true;
        }
        kwr_webhdfs_deed deed = KWR_WEBHDFS_NOT_DONE;
        if (touched && kwr_webhdfs_delete(c, path, &deed, &repeated, NULL) < KWR_OK) again = false;
        /* A try thought lost that arrives after its removal. */
        if (status == KWR_ERR_EXISTS) again = true;
        if (!again || !kwr_retry_wait(&retry, c->env, 0)) {
            /* Nobody else has this name: it says nothing of the one the caller has in mind. */
            if (status != KWR_ERR_EXISTS && status != KWR_ERR_MISMATCH && status != KWR_ERR_MISSING)
                return status;
            if (err != NULL) err->status = KWR_ERR_IO;
            return KWR_ERR_IO;
        }
        if (status == KWR_ERR_EXISTS)
            (void)(kwr_webhdfs_delete(c, path, &deed, &repeated, NULL) < KWR_OK);
    }
}

static kwr_status stream_begin(kwr_webhdfs_stream *s, const char *excluded, kwr_error *err) {
    kwr_webhdfs *c = s->client;
    kwr_buffer url = { .env = c->env };
    bool login = false;
    kwr_status status = choose_target(c, s->path, excluded, &url, &s->node, &login, err);
    if (status >= KWR_OK) {
        const kwr_http_request request = data_request(c, "PUT", &url, login);
        status = kwr_http_upload_open(c->http, &request, &s->upload, err);
    }
    drop_url(&url);
    return status;
}

kwr_status kwr_webhdfs_stream_open(kwr_webhdfs *c, const char *path, kwr_webhdfs_stream **out,
                                   kwr_error *err) {
    const size_t size = strlen(path) + 1;
    kwr_webhdfs_stream *s = kwr_calloc(c->env, sizeof *s + size);
    if (s == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "CREATE '%s': no memory", path);
    s->client = c;
    memcpy(s->path, path, size);
    s->retry = kwr_retry_begin(&c->policy, c->env->clock->mono_ns(c->env->clock->ctx));
    const kwr_status status = stream_begin(s, "", err);
    if (status < KWR_OK) {
        kwr_webhdfs_stream_abort(s);
        return status;
    }
    *out = s;
    return KWR_OK;
}

/* Ends a stream that failed, with the server's own words when there are any. */
static kwr_status stream_failed(kwr_webhdfs_stream *s, kwr_status status, bool *unsent,
                                kwr_error *err) {
    kwr_http_answer answer = { 0 };
    kwr_error last = { 0 };
    const kwr_status end = kwr_http_upload_end(KWR_TAKE(s->upload), &answer, &last);
    *unsent = end < KWR_OK && answer.fate == KWR_HTTP_UNSENT && !answer.hopeless;
    if (end >= KWR_OK) {
        kwr_webhdfs_error why;
        status = kwr_webhdfs_refusal(s->client, "CREATE", s->path, &s->node, &answer, &why, err);
    }
    kwr_http_answer_free(&answer);
    s->failed = status;
    return status;
}

kwr_status kwr_webhdfs_stream_write(kwr_webhdfs_stream *s, const void *data, size_t size,
                                    kwr_error *err) {
    if (s->failed < KWR_OK)
        return KWR_FAIL(err, s->failed, 0, "an earlier write to '%s' failed", s->path);
    for (;;) {
        kwr_status status = kwr_http_upload_write(s->upload, data, size, err);
        if (status >= KWR_OK) {
            s->sent += size;
            return KWR_OK;
        }
        bool unsent = false;
        status = stream_failed(s, status, &unsent, err);
        /* A data node nobody could reach: nothing is lost yet, another one will do. */
        if (s->sent > 0 || !unsent || !kwr_retry_wait(&s->retry, s->client->env, 0)) return status;
        char excluded[KWR_HOST_MAX + 1];
        snprintf(excluded, sizeof excluded, "%s", s->retry.tries % 2 == 0 ? s->node.host : "");
        KWR_TRY(stream_begin(s, excluded, err));
        s->failed = KWR_OK;
    }
}

kwr_status kwr_webhdfs_stream_end(kwr_webhdfs_stream *s, kwr_webhdfs_status *out, kwr_error *err) {
    kwr_status status = s->failed;
    if (status < KWR_OK) {
        (void)KWR_FAIL(err, status, 0, "an earlier write to '%s' failed", s->path);
    } else {
        kwr_http_answer answer = { 0 };
        status = kwr_http_upload_end(KWR_TAKE(s->upload), &answer, err);
        if (status >= KWR_OK && answer.status != 201) {
            kwr_webhdfs_error why;
            status =
                kwr_webhdfs_refusal(s->client, "CREATE", s->path, &s->node, &answer, &why, err);
        }
        kwr_http_answer_free(&answer);
        if (status >= KWR_OK) status = check_written(s->client, s->path, s->sent, out, err);
    }
    kwr_webhdfs_stream_abort(s);
    return status;
}

void kwr_webhdfs_stream_abort(kwr_webhdfs_stream *s) {
    if (s == NULL) return;
    kwr_http_upload_abort(s->upload);
    kwr_free(s->client->env, s, sizeof *s + strlen(s->path) + 1);
}

/* ---- data: reading ---- */

typedef struct fill {
    uint8_t *to;
    size_t left;
} fill;

static kwr_status fill_with(void *ctx, const void *data, size_t size) {
    fill *f = ctx;
    if (size > f->left) return KWR_ERR_CORRUPT;
    memcpy(f->to, data, size);
    f->to += size;
    f->left -= size;
    return KWR_OK;
}

/* From the data node the name node sent us to. */
static kwr_status fetch(kwr_webhdfs *c, const char *path, const kwr_url *from,
                        const kwr_http_answer *answer, fill *f, kwr_url *to, bool *again,
                        kwr_error *err) {
    kwr_buffer url = { .env = c->env };
    bool login = false;
    kwr_status status = kwr_webhdfs_next_hop(c, from, answer, &url, to, &login, err);
    if (status >= KWR_OK) {
        kwr_http_request request = data_request(c, "GET", &url, login);
        request.sink = fill_with;
        request.sink_ctx = f;
        kwr_http_answer got = { 0 };
        status = kwr_http_perform(c->http, &request, &got, err);
        if (status < KWR_OK) {
            *again = status != KWR_ERR_NOMEM && !got.hopeless;
            if (status == KWR_ERR_CORRUPT) status = KWR_ERR_IO;
        } else if (got.status != 200 && got.status != 206) {
            kwr_webhdfs_error why;
            status = kwr_webhdfs_refusal(c, "OPEN", path, to, &got, &why, err);
            /* A block that this data node does not have is no reason to give up. */
            *again = status == KWR_ERR_IO;
        }
        kwr_http_answer_free(&got);
    }
    drop_url(&url);
    return status;
}

static kwr_status read_once(kwr_webhdfs *c, const char *path, uint64_t offset, void *data,
                            size_t size, char excluded[KWR_HOST_MAX + 1], bool *again,
                            kwr_error *err) {
    kwr_buffer params = { .env = c->env };
    kwr_buffer_printf(&params, "&offset=%llu&length=%zu", (unsigned long long)offset, size);
    if (excluded[0] != '\0') {
        kwr_buffer_printf(&params, "&excludedatanodes=");
        kwr_url_encode(&params, excluded, strlen(excluded), false);
    }
    kwr_buffer_append(&params, "", 1);
    fill f = { data, size };
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node, to = { 0 };
    /* Not repeated down there: what a sink got cannot be taken back. */
    const kwr_webhdfs_call call = { .method = "GET",
                                    .op = "OPEN",
                                    .path = path,
                                    .params = (const char *)params.data,
                                    .redirects = true,
                                    .sink = fill_with,
                                    .sink_ctx = &f };
    kwr_status status = params.failed
                            ? KWR_FAIL(err, KWR_ERR_NOMEM, 0, "OPEN '%s': no memory", path)
                            : kwr_webhdfs_ask(c, &call, &answer, &doubt, &node, err);
    *again = status < KWR_OK && doubt;
    if (status >= KWR_OK && answer.status == 307)
        status = fetch(c, path, &node, &answer, &f, &to, again, err);
    if (status >= KWR_OK && f.left > 0) {
        *again = true;
        status = KWR_FAIL(err, KWR_ERR_IO, 0, "OPEN '%s': %zu of %zu bytes at %llu came", path,
                          size - f.left, size, (unsigned long long)offset);
    }
    if (*again) snprintf(excluded, KWR_HOST_MAX + 1, "%s", excluded[0] == '\0' ? to.host : "");
    kwr_http_answer_free(&answer);
    kwr_buffer_free(&params);
    return status;
}

kwr_status kwr_webhdfs_read(kwr_webhdfs *c, const char *path, uint64_t offset, void *data,
                            size_t size, kwr_error *err) {
    if (size == 0) return KWR_OK;
    kwr_retry retry = kwr_retry_begin(&c->policy, c->env->clock->mono_ns(c->env->clock->ctx));
    char excluded[KWR_HOST_MAX + 1] = "";
    for (;;) {
        bool again = false;
        const kwr_status status = read_once(c, path, offset, data, size, excluded, &again, err);
        if (status >= KWR_OK || !again || !kwr_retry_wait(&retry, c->env, 0)) return status;
    }
}
