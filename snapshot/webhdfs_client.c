/* SPDX-License-Identifier: Apache-2.0 */
/* Name nodes: who is active, how they are asked, and what becomes of a refusal. */
#include "snapshot/webhdfs_client.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/name.h"

#define PREFIX "/webhdfs/v1"

enum { TOKEN_FRESH_HOURS = 12, NODES_DEFAULT_PORT = 9870, NODES_DEFAULT_PORT_TLS = 9871 };

static uint64_t now_ns(const kwr_webhdfs *c) { return c->env->clock->mono_ns(c->env->clock->ctx); }

/* ---- opening ---- */

static const char *const parameters[] = {
    "user.name",
    "auth",
    "delegation_file",
    "cleartext_credentials",
    "require_auth",
    "redirect",
    "ca",
    "cert",
    "key",
    "connect_ms",
    "stall_ms",
    "retry_ms",
    "retry_wait_ms",
    "replication",
    "block_size",
};

static kwr_status read_nodes(kwr_webhdfs *c, kwr_error *err) {
    const uint16_t port = c->tls ? NODES_DEFAULT_PORT_TLS : NODES_DEFAULT_PORT;
    for (const char *at = c->location.authority;; at++) {
        const size_t size = strcspn(at, ",");
        if (c->node_count == KWR_WEBHDFS_NODES_MAX)
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': more than %d name nodes",
                            c->location.shown, KWR_WEBHDFS_NODES_MAX);
        kwr_url *node = &c->nodes[c->node_count];
        node->tls = c->tls;
        node->path = PREFIX "/";
        const kwr_status status = kwr_url_parse_authority(at, size, port, node, err);
        if (status < KWR_OK) {
            kwr_error_prefix(err, "storage '%s': name node", c->location.shown);
            return status;
        }
        c->node_count++;
        at += size;
        if (*at == '\0') return KWR_OK;
    }
}

static kwr_status read_auth(kwr_webhdfs *c, kwr_error *err) {
    const kwr_location *l = &c->location;
    const char *auth = kwr_location_get(l, "auth");
    c->kerberos = auth != NULL && strcmp(auth, "kerberos") == 0;
    if (auth != NULL && !c->kerberos && strcmp(auth, "simple") != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': auth must be simple or kerberos",
                        l->shown);
    c->token_file = kwr_location_get(l, "delegation_file");
    if (c->token_file != NULL && c->kerberos)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': either auth=kerberos or a delegation_file", l->shown);
    const char *named = kwr_location_get(l, "user.name");
    if (named != NULL && l->user != NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': the user is named twice", l->shown);
    c->user = named != NULL ? named : l->user;
    bool clear = false, required = false;
    KWR_TRY(kwr_location_flag(l, "cleartext_credentials", &clear, err));
    KWR_TRY(kwr_location_flag(l, "require_auth", &required, err));
    const bool simple = !c->kerberos && c->token_file == NULL;
    if (simple && required)
        return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                        "storage '%s': simple authentication is no protection; give auth=kerberos "
                        "or a delegation_file",
                        l->shown);
    if (simple)
        kwr_log_line(c->env, KWR_LOG_WARNING, "snapshot",
                     "storage '%s': simple authentication, name nodes believe any user's name: who "
                     "reaches them can read and change what is there",
                     l->shown);
    if ((c->kerberos || c->token_file != NULL) && !c->tls && !clear)
        return KWR_FAIL(
            err, KWR_ERR_REFUSED, 0,
            "storage '%s': a credential would travel unencrypted; use swebhdfs:, or say "
            "cleartext_credentials=yes where the network is trusted",
            l->shown);
    return KWR_OK;
}

static kwr_status read_options(kwr_webhdfs *c, kwr_http_options *http, kwr_error *err) {
    const kwr_location *l = &c->location;
    KWR_TRY(kwr_location_check(l, parameters, sizeof parameters / sizeof *parameters, err));
    KWR_TRY(read_nodes(c, err));
    KWR_TRY(read_auth(c, err));
    c->redirect = kwr_location_get(l, "redirect");
    uint64_t connect = 5000, stall = 30000, retry = c->policy.budget_ms;
    uint64_t wait = c->policy.first_ms;
    KWR_TRY(kwr_location_number(l, "connect_ms", 1, 600000, &connect, err));
    KWR_TRY(kwr_location_number(l, "stall_ms", 1, 600000, &stall, err));
    KWR_TRY(kwr_location_number(l, "retry_ms", 0, 3600000, &retry, err));
    KWR_TRY(kwr_location_number(l, "retry_wait_ms", 1, 60000, &wait, err));
    KWR_TRY(kwr_location_number(l, "replication", 1, 512, &c->replication, err));
    KWR_TRY(kwr_location_number(l, "block_size", 1048576, 1ull << 40, &c->block_size, err));
    c->policy.budget_ms = (uint32_t)retry;
    c->policy.first_ms = (uint32_t)wait;
    *http = (kwr_http_options){
        .ca_file = kwr_location_get(l, "ca"),
        .certificate_file = kwr_location_get(l, "cert"),
        .key_file = kwr_location_get(l, "key"),
        .connect_timeout_ms = (uint32_t)connect,
        .stall_ms = (uint32_t)stall,
    };
    return KWR_OK;
}

kwr_status kwr_webhdfs_open(const kwr_env *env, kwr_location *location, kwr_webhdfs **out,
                            kwr_error *err) {
    kwr_webhdfs *c = kwr_calloc(env, sizeof *c);
    if (c == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    c->env = env;
    c->location = *location;
    *location = (kwr_location){ 0 };
    c->tls = strcmp(c->location.scheme, "swebhdfs") == 0;
    /* Many tries: what bounds them is the time. A failover takes some ten seconds. */
    c->policy = (kwr_retry_policy){ 1000, 100, 3000, 60000 };
    kwr_mutex_init(&c->mutex);
    kwr_http_options http = { 0 };
    kwr_status status = read_options(c, &http, err);
    if (status >= KWR_OK) status = kwr_http_open(env, &http, &c->http, err);
    if (status >= KWR_OK) status = kwr_webhdfs_login(c, err);
    if (status < KWR_OK) {
        kwr_webhdfs_close(c);
        return status;
    }
    *out = c;
    return KWR_OK;
}

void kwr_webhdfs_close(kwr_webhdfs *c) {
    if (c == NULL) return;
    if (c->http != NULL) kwr_webhdfs_logout(c);
    kwr_http_close(c->http);
    kwr_wipe(c->token, sizeof c->token);
    kwr_mutex_done(&c->mutex);
    kwr_location_free(&c->location);
    kwr_free(c->env, c, sizeof *c);
}

/* ---- login ---- */

static kwr_status set_token(kwr_webhdfs *c, const char *token) {
    kwr_mutex_lock(&c->mutex);
    const bool same = strcmp(c->token, token) == 0;
    snprintf(c->token, sizeof c->token, "%s", token);
    c->token_ns = now_ns(c);
    kwr_mutex_unlock(&c->mutex);
    return same ? KWR_NOT_FOUND : KWR_OK;
}

static kwr_status read_token_file(kwr_webhdfs *c, kwr_error *err) {
    kwr_buffer text = { .env = c->env };
    (void)kwr_buffer_extend(&text, KWR_WEBHDFS_TOKEN_MAX); /* grows no more, so leaves no copies */
    text.size = 0;
    kwr_status status =
        kwr_read_local_file(c->env, c->token_file, KWR_WEBHDFS_TOKEN_MAX - 1, &text, err);
    if (status >= KWR_OK) {
        while (text.size > 0 && text.data[text.size - 1] <= ' ')
            text.size--;
        kwr_buffer_append(&text, "", 1);
        for (size_t i = 0; i + 1 < text.size; i++)
            if (text.data[i] <= ' ' || text.data[i] > '~') status = KWR_ERR_RANGE;
        if (text.size <= 1 || status < KWR_OK)
            status =
                KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s' holds no delegation token", c->token_file);
    }
    if (status >= KWR_OK) status = set_token(c, (const char *)text.data);
    if (text.data != NULL) kwr_wipe(text.data, text.size);
    kwr_buffer_free(&text);
    return status;
}

static kwr_status fetch_token(kwr_webhdfs *c, kwr_error *err) {
    char token[KWR_WEBHDFS_TOKEN_MAX];
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node;
    const kwr_webhdfs_call call = {
        .method = "GET",
        .op = "GETDELEGATIONTOKEN",
        .path = "/",
        .params = "",
        .repeatable = true,
        .no_token = true,
    };
    kwr_status status = kwr_webhdfs_ask(c, &call, &answer, &doubt, &node, err);
    if (status >= KWR_OK) {
        status = kwr_webhdfs_read_token((kwr_slice){ answer.body.data, answer.body.size }, token,
                                        sizeof token);
        if (status < KWR_OK)
            status =
                KWR_FAIL(err, KWR_ERR_IO, 0, "name node '%s' gave no delegation token", node.host);
        else
            status = set_token(c, token);
        if (answer.body.data != NULL) kwr_wipe(answer.body.data, answer.body.size);
    }
    kwr_wipe(token, sizeof token);
    kwr_http_answer_free(&answer);
    return status;
}

kwr_status kwr_webhdfs_login(kwr_webhdfs *c, kwr_error *err) {
    if (c->token_file != NULL) return read_token_file(c, err);
    return c->kerberos ? fetch_token(c, err) : KWR_OK;
}

void kwr_webhdfs_logout(kwr_webhdfs *c) {
    if (!c->kerberos || c->token[0] == '\0') return;
    kwr_buffer params = { .env = c->env };
    kwr_buffer_append(&params, "&token=", 7);
    kwr_url_encode(&params, c->token, strlen(c->token), false);
    kwr_buffer_append(&params, "", 1);
    kwr_http_answer answer = { 0 };
    bool doubt = false;
    kwr_url node;
    const kwr_webhdfs_call call = {
        .method = "PUT",
        .op = "CANCELDELEGATIONTOKEN",
        .path = "/",
        .params = (const char *)params.data,
        .repeatable = true,
        .no_token = true,
    };
    c->policy.tries_max = 1;
    if (!params.failed) (void)(kwr_webhdfs_ask(c, &call, &answer, &doubt, &node, NULL) < KWR_OK);
    if (params.data != NULL) kwr_wipe(params.data, params.size);
    kwr_buffer_free(&params);
    kwr_http_answer_free(&answer);
}

/* ---- one question ---- */

/* The query is secret as soon as there is a token: into room taken at once, wiped by the caller. */
static bool build_url(kwr_webhdfs *c, const kwr_url *node, const kwr_webhdfs_call *call,
                      kwr_buffer *url) {
    char authority[KWR_AUTHORITY_MAX + 1], token[KWR_WEBHDFS_TOKEN_MAX];
    (void)kwr_buffer_extend(url, 3 * KWR_WEBHDFS_TOKEN_MAX + KWR_URL_MAX);
    url->size = 0;
    kwr_url_authority(node, authority);
    kwr_buffer_printf(url, "%s://%s" PREFIX, node->tls ? "https" : "http", authority);
    kwr_url_encode(url, call->path, strlen(call->path), true);
    kwr_buffer_printf(url, "?op=%s", call->op);
    kwr_mutex_lock(&c->mutex);
    snprintf(token, sizeof token, "%s", c->token);
    kwr_mutex_unlock(&c->mutex);
    if (token[0] != '\0' && !call->no_token) {
        kwr_buffer_append(url, "&delegation=", 12);
        kwr_url_encode(url, token, strlen(token), false);
    } else if (c->user != NULL && !c->kerberos) {
        kwr_buffer_append(url, "&user.name=", 11);
        kwr_url_encode(url, c->user, strlen(c->user), false);
    }
    kwr_wipe(token, sizeof token);
    kwr_buffer_append(url, call->params, strlen(call->params) + 1);
    return !url->failed;
}

static bool has_secret(kwr_webhdfs *c, const char *text) {
    kwr_mutex_lock(&c->mutex);
    const bool has = c->token[0] != '\0' && strstr(text, c->token) != NULL;
    kwr_mutex_unlock(&c->mutex);
    return has;
}

kwr_status kwr_webhdfs_refusal(kwr_webhdfs *c, const char *op, const char *path,
                               const kwr_url *node, const kwr_http_answer *answer,
                               kwr_webhdfs_error *why, kwr_error *err) {
    kwr_webhdfs_read_error(answer->status, (kwr_slice){ answer->body.data, answer->body.size },
                           why);
    /* What is an unknown operation of a listing is a server in disorder elsewhere. */
    if (why->status == KWR_ERR_UNSUPPORTED && strcmp(op, "LISTSTATUS_BATCH") != 0)
        why->status = KWR_ERR_IO;
    char authority[KWR_AUTHORITY_MAX + 1];
    kwr_url_authority(node, authority);
    if (has_secret(c, why->message)) snprintf(why->message, sizeof why->message, "(not shown)");
    if (answer->status == 401 && c->kerberos)
        return KWR_FAIL(err, why->status, 0,
                        "%s '%s': '%s' answered 401: is there a Kerberos ticket (klist), has it "
                        "expired, and do the clocks agree?",
                        op, path, authority);
    if (why->exception[0] == '\0')
        return KWR_FAIL(err, why->status, 0,
                        "%s '%s': '%s' answered %d, which is no word of "
                        "WebHDFS",
                        op, path, authority, answer->status);
    return KWR_FAIL(err, why->status, 0, "%s '%s': '%s' answered %s: %s", op, path, authority,
                    why->exception, why->message);
}

static kwr_status ask_once(kwr_webhdfs *c, const kwr_url *node, const kwr_webhdfs_call *call,
                           kwr_http_answer *answer, kwr_webhdfs_verdict *verdict, kwr_error *err) {
    /* Asked for by servers that guard against requests made by a browser. */
    static const char *const headers[] = { "X-XSRF-HEADER: keyweir" };
    *verdict = KWR_WEBHDFS_FAILED;
    kwr_buffer url = { .env = c->env };
    kwr_status status = KWR_OK;
    if (!build_url(c, node, call, &url)) {
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "%s '%s': no memory", call->op, call->path);
    } else {
        kwr_mutex_lock(&c->mutex);
        const bool bare = c->token[0] == '\0' || call->no_token;
        kwr_mutex_unlock(&c->mutex);
        const kwr_http_request request = {
            .method = call->method,
            .url = (const char *)url.data,
            .headers = headers,
            .header_count = 1,
            .auth = c->kerberos && bare ? KWR_HTTP_AUTH_NEGOTIATE : KWR_HTTP_AUTH_NONE,
            .fresh = call->fresh,
            .answer_max = call->answer_max,
            .sink = call->sink,
            .sink_ctx = call->sink_ctx,
        };
        status = kwr_http_perform(c->http, &request, answer, err);
        if (status == KWR_ERR_IO || status == KWR_ERR_TIMEOUT || status == KWR_ERR_CORRUPT) {
            if (answer->fate == KWR_HTTP_LOST) *verdict = KWR_WEBHDFS_DOUBTFUL;
            if (answer->fate == KWR_HTTP_UNSENT && !answer->hopeless)
                *verdict = KWR_WEBHDFS_ELSEWHERE;
            if (status == KWR_ERR_CORRUPT) status = KWR_ERR_IO;
            if (err != NULL) err->status = status;
        }
    }
    if (url.data != NULL) kwr_wipe(url.data, url.size);
    kwr_buffer_free(&url);
    KWR_TRY(status);
    if (answer->status == 200 || answer->status == 201 ||
        (answer->status == 307 && call->redirects))
        return KWR_OK;
    kwr_webhdfs_error why;
    status = kwr_webhdfs_refusal(c, call->op, call->path, node, answer, &why, err);
    *verdict = why.verdict;
    return status;
}

static uint32_t active_node(kwr_webhdfs *c) {
    kwr_mutex_lock(&c->mutex);
    const uint32_t node = c->active;
    kwr_mutex_unlock(&c->mutex);
    return node;
}

static void turn_away_from(kwr_webhdfs *c, uint32_t node) {
    kwr_mutex_lock(&c->mutex);
    if (c->active == node) c->active = (node + 1) % c->node_count;
    kwr_mutex_unlock(&c->mutex);
}

/* Tokens are renewed well before their day is over. */
static void refresh_login(kwr_webhdfs *c, const kwr_webhdfs_call *call) {
    if (!c->kerberos || call->no_token) return;
    kwr_mutex_lock(&c->mutex);
    const bool old = c->token[0] != '\0' &&
                     now_ns(c) - c->token_ns > (uint64_t)TOKEN_FRESH_HOURS * 3600 * 1000000000ull;
    kwr_mutex_unlock(&c->mutex);
    if (old) (void)(kwr_webhdfs_login(c, NULL) < KWR_OK); /* the old one may still do */
}

static uint64_t asked_wait(const kwr_http_answer *answer) {
    const char *text = kwr_http_header(answer, "retry-after");
    uint64_t seconds = 0;
    if (text == NULL || !kwr_parse_u64(text, strlen(text), &seconds) || seconds > 3600) return 0;
    return seconds * 1000;
}

kwr_status kwr_webhdfs_ask(kwr_webhdfs *c, const kwr_webhdfs_call *call, kwr_http_answer *answer,
                           bool *doubt, kwr_url *asked, kwr_error *err) {
    refresh_login(c, call);
    kwr_retry retry = kwr_retry_begin(&c->policy, now_ns(c));
    bool logged_in = false;
    for (uint32_t round = 1;; round++) {
        const uint32_t node = active_node(c);
        kwr_webhdfs_verdict verdict = KWR_WEBHDFS_FAILED;
        *asked = c->nodes[node];
        const kwr_status status = ask_once(c, asked, call, answer, &verdict, err);
        if (status >= KWR_OK || verdict == KWR_WEBHDFS_FAILED) return status;
        if (verdict == KWR_WEBHDFS_LOGIN) {
            /* Once, and only if that brings another credential. */
            if (logged_in || call->no_token || kwr_webhdfs_login(c, NULL) != KWR_OK) return status;
            if (c->token_file == NULL && !c->kerberos) return status;
            logged_in = true;
            continue;
        }
        if (verdict == KWR_WEBHDFS_DOUBTFUL) {
            *doubt = true;
            if (!call->repeatable) return status;
        }
        if (verdict != KWR_WEBHDFS_LATER) {
            turn_away_from(c, node);
            if (round % c->node_count != 0) continue;
        }
        if (!kwr_retry_wait(&retry, c->env, asked_wait(answer))) {
            kwr_error_prefix(err, "given up after %u tries", round);
            return status;
        }
    }
}

kwr_status kwr_webhdfs_next_hop(const kwr_webhdfs *c, const kwr_url *from,
                                const kwr_http_answer *answer, kwr_buffer *url, kwr_url *to,
                                bool *login, kwr_error *err) {
    const char *location = kwr_http_header(answer, "location");
    if (location == NULL)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "'%s' sends us on, and does not say where to",
                        from->host);
    size_t size = strlen(location);
    while (size > 0 && location[size - 1] == ' ')
        size--;
    kwr_buffer_append(url, location, size);
    kwr_buffer_append(url, "", 1);
    if (url->failed) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for an address");
    const kwr_status status = kwr_url_parse((const char *)url->data, to, err);
    if (status < KWR_OK) {
        kwr_error_prefix(err, "'%s' sends us on", from->host);
        if (err != NULL) err->status = KWR_ERR_REFUSED;
        return KWR_ERR_REFUSED;
    }
    *login = false;
    for (uint32_t i = 0; i < c->node_count; i++)
        if (c->nodes[i].tls == to->tls && c->nodes[i].port == to->port &&
            strcmp(c->nodes[i].host, to->host) == 0)
            *login = true;
    return kwr_url_check_redirect(from, to, PREFIX "/", *login ? "*" : c->redirect, "redirect",
                                  err);
}
