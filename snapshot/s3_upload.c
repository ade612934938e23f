/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/s3_upload.h"

#include <stdio.h>

#include "base/error.h"
#include "snapshot/s3_client.h"
#include "snapshot/s3_reply.h"

/* A part: filled by the owner, then sent by the executor. */
typedef struct part {
    kwr_work work;
    kwr_s3_upload *upload;
    kwr_buffer data;
    uint32_t number; /* from 1; 0: not in use */
    kwr_status status;
    kwr_error err;
} part;

struct kwr_s3_upload {
    kwr_s3 *s3;
    kwr_s3_id maker;
    char *key;
    char *id;                       /* of the upload in parts; NULL: none was begun */
    uint32_t number;                /* of the part that fills */
    char (*etags)[KWR_S3_ETAG_MAX]; /* of parts sent; grown before a part is sent, all idle */
    size_t etag_capacity;
    kwr_status failed;
    kwr_error why;
    uint32_t part_count;
    part parts[];
};

static size_t bytes_of(uint32_t parts) { return sizeof(kwr_s3_upload) + parts * sizeof(part); }

kwr_status kwr_s3_upload_open(kwr_s3 *s3, const char *key, kwr_s3_upload **out, kwr_error *err) {
    const uint32_t parts = s3->parallel;
    kwr_s3_upload *u = kwr_calloc(s3->env, bytes_of(parts));
    if (u == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", key);
    u->s3 = s3;
    u->number = 1;
    u->part_count = parts;
    for (uint32_t i = 0; i < parts; i++) {
        u->parts[i].upload = u;
        u->parts[i].data.env = s3->env;
    }
    u->key = kwr_copy_string(s3->env, key);
    kwr_status status =
        u->key != NULL ? KWR_OK : KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", key);
    if (status >= KWR_OK) status = kwr_s3_id_new(s3, &u->maker, err);
    if (status < KWR_OK) {
        kwr_s3_upload_give_up(u);
        return status;
    }
    *out = u;
    return KWR_OK;
}

static void upload_free(kwr_s3_upload *u) {
    const kwr_env *env = u->s3->env;
    for (uint32_t i = 0; i < u->part_count; i++)
        kwr_buffer_free(&u->parts[i].data);
    kwr_free(env, u->etags, u->etag_capacity * sizeof *u->etags);
    kwr_free_string(env, u->key);
    kwr_free_string(env, u->id);
    kwr_free(env, u, bytes_of(u->part_count));
}

static part *filling(kwr_s3_upload *u) { return &u->parts[(u->number - 1) % u->part_count]; }

static kwr_status broken(kwr_s3_upload *u, kwr_status status, const kwr_error *why) {
    if (u->failed >= KWR_OK) {
        u->failed = status;
        u->why = *why;
    }
    return u->failed;
}

/* ---- parts ---- */

/* The upload's id is kept encoded: it is only ever part of a query. */
static kwr_status begin(kwr_s3_upload *u, kwr_error *err) {
    kwr_s3_reply reply = { 0 };
    kwr_buffer id = { .env = u->s3->env };
    const kwr_s3_call call = {
        .method = "POST", .key = u->key, .query = "uploads=", .headers = { u->maker.header }
    };
    kwr_status status = kwr_s3_ask(u->s3, &call, &reply, err);
    if (status >= KWR_OK)
        status = kwr_s3_read_begun((kwr_slice){ reply.answer.body.data, reply.answer.body.size },
                                   &id, err);
    if (status >= KWR_OK && id.size == 0 && !id.failed)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s/%s': no id for an upload in parts",
                          u->s3->shown, u->key);
    if (status >= KWR_OK) {
        kwr_buffer_append(&id, "", 1);
        u->id = id.failed ? NULL : kwr_copy_string(u->s3->env, (const char *)id.data);
        if (u->id == NULL)
            status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", u->key);
    }
    kwr_buffer_free(&id);
    kwr_s3_reply_free(&reply);
    return status;
}

static kwr_status send_part(part *p, kwr_error *err) {
    kwr_s3_upload *u = p->upload;
    kwr_buffer query = { .env = u->s3->env };
    kwr_buffer_printf(&query, "partNumber=%u&uploadId=%s", p->number, u->id);
    kwr_buffer_append(&query, "", 1);
    if (query.failed) {
        kwr_buffer_free(&query);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", u->key);
    }
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "PUT",
                               .key = u->key,
                               .query = (const char *)query.data,
                               .body = p->data.data,
                               .body_size = p->data.size };
    kwr_status status = kwr_s3_ask(u->s3, &call, &reply, err);
    if (status == KWR_ERR_MISSING) status = KWR_ERR_IO; /* the upload, not a file */
    const char *etag = status >= KWR_OK ? kwr_http_header(&reply.answer, "etag") : NULL;
    if (etag != NULL && strlen(etag) < KWR_S3_ETAG_MAX && strpbrk(etag, "<&") == NULL)
        memcpy(u->etags[p->number - 1], etag, strlen(etag) + 1);
    else if (status >= KWR_OK)
        status = KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': part %u was answered without a usable ETag",
                          u->s3->shown, u->key, p->number);
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    return status;
}

static void run_part(void *ctx) {
    part *p = ctx;
    p->status = send_part(p, &p->err);
}

static void join(kwr_s3_upload *u, part *p) {
    if (p->number == 0) return;
    const kwr_executor *executor = u->s3->env->executor;
    executor->wait(executor->ctx, &p->work);
    if (p->status < KWR_OK) (void)broken(u, p->status, &p->err);
    p->number = 0;
    p->data.size = 0;
    p->work = (kwr_work){ 0 };
}

static void join_all(kwr_s3_upload *u) {
    for (uint32_t i = 0; i < u->part_count; i++)
        join(u, &u->parts[i]);
}

/* Parts on their way write their ETags: the table grows only while there are none. */
static bool grow_etags(kwr_s3_upload *u) {
    if (u->number <= u->etag_capacity) return true;
    join_all(u);
    void *items = u->etags;
    const bool grown =
        kwr_grow_array(u->s3->env, &items, &u->etag_capacity,
                       u->etag_capacity == 0 ? 64 : u->etag_capacity * 2, sizeof *u->etags);
    u->etags = items;
    return grown;
}

/* Sends the part that is full, and empties the next one. */
static kwr_status pass_on(kwr_s3_upload *u) {
    part *p = filling(u);
    kwr_error err = { 0 };
    if (u->number > KWR_S3_PARTS_MAX) {
        kwr_error_set(&err, KWR_ERR_RANGE, 0,
                      "'%s/%s': more than %d parts of %zu bytes; a larger part_size= is needed",
                      u->s3->shown, u->key, KWR_S3_PARTS_MAX, u->s3->part_size);
        return broken(u, KWR_ERR_RANGE, &err);
    }
    if (u->id == NULL) {
        const kwr_status status = begin(u, &err);
        if (status < KWR_OK) return broken(u, status, &err);
    }
    if (!grow_etags(u)) {
        kwr_error_set(&err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", u->key);
        return broken(u, KWR_ERR_NOMEM, &err);
    }
    p->number = u->number++;
    p->status = KWR_OK;
    p->work = (kwr_work){ .run = run_part, .ctx = p };
    const kwr_executor *executor = u->s3->env->executor;
    if (executor->blocking(executor->ctx, &p->work) < KWR_OK) run_part(p);
    join(u, filling(u));
    return u->failed;
}

static kwr_status report(const kwr_s3_upload *u, kwr_error *err) {
    if (u->failed < KWR_OK && err != NULL) *err = u->why;
    return u->failed;
}

kwr_status kwr_s3_upload_write(kwr_s3_upload *u, const void *data, size_t size, kwr_error *err) {
    const uint8_t *from = data;
    while (size > 0 && u->failed >= KWR_OK) {
        /* Only when more comes: an object of exactly one part is put at once. */
        if (filling(u)->data.size == u->s3->part_size && pass_on(u) < KWR_OK) break;
        part *p = filling(u);
        const size_t room = u->s3->part_size - p->data.size;
        const size_t some = size < room ? size : room;
        kwr_buffer_append(&p->data, from, some);
        if (p->data.failed) {
            kwr_error none = { 0 };
            kwr_error_set(&none, KWR_ERR_NOMEM, 0, "no memory to write '%s/%s'", u->s3->shown,
                          u->key);
            (void)broken(u, KWR_ERR_NOMEM, &none);
            break;
        }
        from += some;
        size -= some;
    }
    return report(u, err);
}

/* ---- the end ---- */

static kwr_status complete_once(kwr_s3_upload *u, const kwr_buffer *query, const kwr_buffer *body,
                                bool exclusive, bool *doubt, kwr_error *err) {
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "POST",
                               .key = u->key,
                               .query = (const char *)query->data,
                               .headers = { exclusive ? "If-None-Match: *" : NULL },
                               .body = body->data,
                               .body_size = body->size,
                               .once = true };
    kwr_status status = kwr_s3_ask(u->s3, &call, &reply, err);
    *doubt = *doubt || reply.doubt;
    if (status >= KWR_OK) {
        /* The status comes before the work is done; only the body says how it went. */
        kwr_s3_ending e;
        status = kwr_s3_read_ending((kwr_slice){ reply.answer.body.data, reply.answer.body.size },
                                    &e, err);
        if (status >= KWR_OK && !e.complete)
            status = KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': the parts were not put together: %s",
                              u->s3->shown, u->key, e.code);
        *doubt = *doubt || status < KWR_OK;
    }
    kwr_s3_reply_free(&reply);
    return status;
}

static kwr_status complete_known(kwr_s3_upload *u, const kwr_buffer *query, const kwr_buffer *body,
                                 kwr_error *err) {
    kwr_s3 *s3 = u->s3;
    kwr_retry retry = kwr_retry_begin(&s3->policy, s3->env->clock->mono_ns(s3->env->clock->ctx));
    bool doubt = false;
    for (;;) {
        kwr_status status = complete_once(u, query, body, true, &doubt, err);
        if (status == KWR_ERR_UNSUPPORTED) {
            /* Parts put together only where nothing is: not every server can. Names of files are
             * their writer's own, and nothing refers to one that failed: looking has to do. */
            kwr_s3_whose whose = KWR_S3_NOBODYS;
            KWR_TRY(kwr_s3_whose_is(s3, u->key, &u->maker, &whose, err));
            if (whose == KWR_S3_NOBODYS) status = complete_once(u, query, body, false, &doubt, err);
        }
        if (status >= KWR_OK || !doubt) return status == KWR_ERR_MISSING ? KWR_ERR_IO : status;
        kwr_s3_whose whose = KWR_S3_NOBODYS;
        KWR_TRY(kwr_s3_whose_is(s3, u->key, &u->maker, &whose, err));
        if (whose == KWR_S3_OURS) return KWR_OK;
        if (whose == KWR_S3_ANOTHERS)
            return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "'%s/%s': the name is taken", s3->shown,
                            u->key);
        if (status == KWR_ERR_MISSING || !kwr_retry_wait(&retry, s3->env, 0))
            return KWR_FAIL(err, KWR_ERR_IO, 0, "'%s/%s': putting the parts together failed",
                            s3->shown, u->key);
    }
}

static kwr_status complete(kwr_s3_upload *u, kwr_error *err) {
    kwr_buffer query = { .env = u->s3->env }, body = { .env = u->s3->env };
    kwr_buffer_printf(&query, "uploadId=%s", u->id);
    kwr_buffer_append(&query, "", 1);
    kwr_buffer_printf(
        &body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 1; i < u->number; i++)
        kwr_buffer_printf(&body, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i,
                          u->etags[i - 1]);
    kwr_buffer_printf(&body, "</CompleteMultipartUpload>");
    kwr_status status = query.failed || body.failed
                            ? KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", u->key)
                            : complete_known(u, &query, &body, err);
    kwr_buffer_free(&query);
    kwr_buffer_free(&body);
    return status;
}

static kwr_status end(kwr_s3_upload *u, kwr_error *err) {
    KWR_TRY(report(u, err));
    if (u->id == NULL) {
        const kwr_buffer *data = &filling(u)->data;
        const kwr_status status = kwr_s3_put_new(u->s3, u->key, data->data, data->size, err);
        /* Of a file that nothing will refer to. */
        return status == KWR_ERR_UNKNOWN ? KWR_ERR_IO : status;
    }
    if (filling(u)->data.size > 0) (void)pass_on(u);
    join_all(u);
    KWR_TRY(report(u, err));
    return complete(u, err);
}

kwr_status kwr_s3_upload_end(kwr_s3_upload *u, kwr_error *err) {
    const kwr_status status = end(u, err);
    if (status < KWR_OK) {
        kwr_s3_upload_give_up(u);
        return status;
    }
    upload_free(u);
    return KWR_OK;
}

void kwr_s3_upload_give_up(kwr_s3_upload *u) {
    if (u == NULL) return;
    join_all(u);
    if (u->id != NULL) (void)kwr_s3_upload_abort(u->s3, u->key, u->id, NULL);
    upload_free(u);
}
