/* SPDX-License-Identifier: Apache-2.0 */
/* The exclusive put: its proof, and finding out what became of one that got no answer. */
#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/s3_client.h"

#define ONLY_NEW "If-None-Match: *"
#define ID_NAME "x-amz-meta-keyweir"

kwr_status kwr_s3_id_new(kwr_s3 *s3, kwr_s3_id *out, kwr_error *err) {
    uint8_t random[16];
    if (s3->env->random->bytes(s3->env->random->ctx, random, sizeof random) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "no randomness to name an object's maker");
    char hex[2 * sizeof random + 1];
    kwr_hex(random, sizeof random, hex);
    snprintf(out->header, sizeof out->header, "%s: %s", ID_NAME, hex);
    return KWR_OK;
}

kwr_status kwr_s3_whose_is(kwr_s3 *s3, const char *key, const kwr_s3_id *id, kwr_s3_whose *out,
                           kwr_error *err) {
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "HEAD", .key = key };
    kwr_status status = kwr_s3_ask(s3, &call, &reply, err);
    if (status >= KWR_OK && kwr_http_header(&reply.answer, "etag") == NULL) {
        status = KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': HEAD was answered by no object store",
                          s3->shown, key);
    } else if (status >= KWR_OK) {
        const char *made_by = kwr_http_header(&reply.answer, ID_NAME);
        const char *ours = id->header + strlen(ID_NAME ": ");
        *out = made_by != NULL && strcmp(made_by, ours) == 0 ? KWR_S3_OURS : KWR_S3_ANOTHERS;
    } else if (status == KWR_ERR_MISSING) {
        *out = KWR_S3_NOBODYS;
        status = KWR_OK;
    }
    kwr_s3_reply_free(&reply);
    return status;
}

static kwr_status unknown(kwr_s3 *s3, const char *key, const char *why, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_UNKNOWN, 0,
                    "'%s/%s': a put got no answer, and %s: it may or may not be there", s3->shown,
                    key, why);
}

/* After a put that may have been carried out. KWR_NOT_FOUND: it is not there. */
static kwr_status look_back(kwr_s3 *s3, const char *key, const kwr_s3_id *id, kwr_error *err) {
    kwr_s3_whose whose = KWR_S3_NOBODYS;
    if (kwr_s3_whose_is(s3, key, id, &whose, NULL) < KWR_OK)
        return unknown(s3, key, "looking for the object failed as well", err);
    switch (whose) {
    case KWR_S3_OURS: return KWR_OK;
    case KWR_S3_ANOTHERS:
        return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s/%s': the name is taken", s3->shown, key);
    case KWR_S3_NOBODYS: break;
    }
    return KWR_NOT_FOUND;
}

static kwr_status put_as(kwr_s3 *s3, const char *key, const kwr_s3_id *id, const void *data,
                         size_t size, kwr_error *err) {
    const kwr_s3_call call = { .method = "PUT",
                               .key = key,
                               .headers = { ONLY_NEW, id->header },
                               .body = data,
                               .body_size = size,
                               .once = true };
    kwr_retry retry = kwr_retry_begin(&s3->policy, s3->env->clock->mono_ns(s3->env->clock->ctx));
    bool doubt = false;
    for (;;) {
        kwr_s3_reply reply = { 0 };
        const kwr_status status = kwr_s3_ask(s3, &call, &reply, err);
        /* A store names what it made; some other server in between does not. */
        const bool made = status >= KWR_OK && kwr_http_header(&reply.answer, "etag") != NULL;
        doubt = doubt || reply.doubt || (status >= KWR_OK && !made);
        kwr_s3_reply_free(&reply);
        if (made) return KWR_OK;
        if (!doubt) return status;
        /* A refusal "there is one" may speak of what an earlier try of ours made. */
        const kwr_status found = look_back(s3, key, id, err);
        if (found != KWR_NOT_FOUND) return found;
        /* A try that is late may still arrive: only another answer makes it known again. */
        if (!kwr_retry_wait(&retry, s3->env, 0))
            return unknown(s3, key, "the object was not there yet", err);
    }
}

/* ---- the proof ---- */

static void remove_probe(kwr_s3 *s3, const char *key) {
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "DELETE", .key = key };
    (void)kwr_s3_ask(s3, &call, &reply, NULL);
    kwr_s3_reply_free(&reply);
}

/* The key of a probe: a temporary name, so that nobody takes it for more. */
static kwr_status probe_key(kwr_s3 *s3, kwr_buffer *key, kwr_error *err) {
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    if (s3->env->random->bytes(s3->env->random->ctx, random, sizeof random) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_IO, 0, "no randomness to name an object");
    kwr_hex(random, sizeof random, hex);
    kwr_buffer_printf(key, "%s.tmp-probe-%s", s3->prefix, hex);
    kwr_buffer_append(key, "", 1);
    return key->failed ? KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to name an object") : KWR_OK;
}

static kwr_status prove(kwr_s3 *s3, const char *key, kwr_error *err) {
    kwr_s3_id first, second;
    KWR_TRY(kwr_s3_id_new(s3, &first, err));
    KWR_TRY(kwr_s3_id_new(s3, &second, err));
    KWR_TRY(put_as(s3, key, &first, "1", 1, err));
    kwr_error again = { 0 };
    const kwr_status status = put_as(s3, key, &second, "2", 1, &again);
    if (status >= KWR_OK)
        return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                        "'%s': the server replaces an object although told not to (If-None-Match: "
                        "*); checkpoints cannot be published safely there",
                        s3->shown);
    if (status != KWR_ERR_EXISTS) {
        if (err != NULL) *err = again;
        kwr_error_prefix(err, "'%s': no proof that puts are exclusive there", s3->shown);
        return status;
    }
    kwr_s3_whose whose = KWR_S3_NOBODYS;
    KWR_TRY(kwr_s3_whose_is(s3, key, &first, &whose, err));
    if (whose == KWR_S3_OURS) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                    "'%s': the server does not keep an object's metadata (%s), without which the "
                    "outcome of a lost put cannot be found out",
                    s3->shown, ID_NAME);
}

kwr_status kwr_s3_prove(kwr_s3 *s3, kwr_error *err) {
    kwr_mutex_lock(&s3->mutex);
    const bool proved = s3->proved;
    const kwr_status proof = s3->proof;
    if (proved && proof < KWR_OK && err != NULL) *err = s3->proof_error;
    kwr_mutex_unlock(&s3->mutex);
    if (proved) return proof;
    kwr_buffer key = { .env = s3->env };
    kwr_error why = { 0 };
    kwr_status status = probe_key(s3, &key, &why);
    if (status >= KWR_OK) {
        status = prove(s3, (const char *)key.data, &why);
        remove_probe(s3, (const char *)key.data);
    }
    kwr_buffer_free(&key);
    if (status < KWR_OK && err != NULL) *err = why;
    /* What fails for now may succeed later; two answers settle it. */
    if (status < KWR_OK && status != KWR_ERR_UNSUPPORTED) return status;
    kwr_mutex_lock(&s3->mutex);
    s3->proved = true;
    s3->proof = status;
    s3->proof_error = why;
    kwr_mutex_unlock(&s3->mutex);
    return status;
}

kwr_status kwr_s3_put_new(kwr_s3 *s3, const char *key, const void *data, size_t size,
                          kwr_error *err) {
    KWR_TRY(kwr_s3_prove(s3, err));
    kwr_s3_id id;
    KWR_TRY(kwr_s3_id_new(s3, &id, err));
    return put_as(s3, key, &id, data, size, err);
}
