/* SPDX-License-Identifier: Apache-2.0 */
/* Listings, page by page: names below a prefix, and uploads that were never ended. */
#include <stdio.h>

#include "base/error.h"
#include "snapshot/s3_client.h"
#include "snapshot/s3_xml.h"

typedef struct listing {
    kwr_buffer keys; /* as sent, NUL-terminated */
    kwr_buffer *next;
    bool encoded; /* the server says that keys are percent-encoded */
    bool more;
} listing;

static void keep(kwr_buffer *out, const char *text) {
    kwr_buffer_append(out, text, strlen(text) + 1);
}

static kwr_status on_listed(void *ctx, const char *parent, const char *name, const char *text) {
    listing *l = ctx;
    if (text == NULL) return KWR_OK;
    if (strcmp(parent, "Contents") == 0 && strcmp(name, "Key") == 0) keep(&l->keys, text);
    if (strcmp(parent, "CommonPrefixes") == 0 && strcmp(name, "Prefix") == 0) keep(&l->keys, text);
    if (strcmp(parent, "ListBucketResult") != 0) return KWR_OK;
    if (strcmp(name, "IsTruncated") == 0) l->more = strcmp(text, "true") == 0;
    if (strcmp(name, "EncodingType") == 0) l->encoded = strcmp(text, "url") == 0;
    if (strcmp(name, "NextContinuationToken") == 0) {
        l->next->size = 0;
        keep(l->next, text);
    }
    return KWR_OK;
}

/* In place; some servers write a space as '+'. */
static bool decode(char *text, size_t *size) {
    for (size_t i = 0; i < *size; i++)
        if (text[i] == '+') text[i] = ' ';
    return kwr_url_decode(text, size);
}

/* Keys without the directory they are in; what is not below `prefix` was not asked for. */
static void names_of(listing *l, const char *prefix, kwr_buffer *out) {
    const char *slash = strrchr(prefix, '/');
    const size_t cut = slash == NULL ? 0 : (size_t)(slash + 1 - prefix);
    for (size_t at = 0; at < l->keys.size;) {
        char *key = (char *)l->keys.data + at;
        size_t size = strlen(key);
        at += size + 1;
        if (l->encoded && !decode(key, &size)) continue;
        if (size <= cut || size < strlen(prefix) || memcmp(key, prefix, strlen(prefix)) != 0)
            continue;
        kwr_buffer_append(out, key + cut, size - cut);
        kwr_buffer_append(out, "", 1);
    }
}

void kwr_s3_page_free(kwr_s3_page *page) {
    kwr_buffer_free(&page->names);
    kwr_buffer_free(&page->next);
}

static void list_query(kwr_buffer *query, const char *prefix, uint32_t max,
                       const kwr_buffer *token) {
    if (token->size > 1) {
        kwr_buffer_append(query, "continuation-token=", strlen("continuation-token="));
        kwr_url_encode(query, (const char *)token->data, token->size - 1, false);
        kwr_buffer_append(query, "&", 1);
    }
    kwr_buffer_printf(query,
                      "delimiter=%%2F&encoding-type=url&list-type=2&max-keys=%u&prefix=", max);
    kwr_url_encode(query, prefix, strlen(prefix), false);
    kwr_buffer_append(query, "", 1);
}

static kwr_status no_memory(const kwr_s3 *s3, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to list '%s'", s3->shown);
}

kwr_status kwr_s3_list(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_s3_page *page,
                       kwr_error *err) {
    page->names.env = page->next.env = s3->env;
    page->names.size = 0;
    kwr_buffer query = { .env = s3->env }, before = { .env = s3->env };
    list_query(&query, prefix, max, &page->next);
    kwr_buffer_append(&before, page->next.data, page->next.size);
    page->next.size = 0;
    if (query.failed || before.failed) {
        kwr_buffer_free(&query);
        kwr_buffer_free(&before);
        return no_memory(s3, err);
    }
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "GET", .query = (const char *)query.data };
    kwr_status status = kwr_s3_ask(s3, &call, &reply, err);
    listing l = { .keys = { .env = s3->env }, .next = &page->next };
    if (status >= KWR_OK) {
        status =
            kwr_s3_xml_read(reply.answer.body.data, reply.answer.body.size, on_listed, &l, err);
        if (status < KWR_OK) kwr_error_prefix(err, "'%s/%s': listing", s3->shown, prefix);
    }
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    if (status >= KWR_OK) {
        names_of(&l, prefix, &page->names);
        const bool same = page->next.size > 0 && page->next.size == before.size &&
                          memcmp(page->next.data, before.data, before.size) == 0;
        if (l.more && (page->next.size <= 1 || same))
            status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                              "'%s/%s': the listing has more pages, but not where they are",
                              s3->shown, prefix);
        if (!l.more) page->next.size = 0;
        if (l.keys.failed || page->names.failed || page->next.failed) status = no_memory(s3, err);
    }
    kwr_buffer_free(&l.keys);
    kwr_buffer_free(&before);
    return status;
}

/* ---- unfinished uploads ---- */

typedef struct uploads {
    kwr_buffer *out;
    uint32_t left;
    char key[KWR_S3_XML_TEXT_MAX + 1];
    char id[KWR_S3_XML_TEXT_MAX + 1];
} uploads;

static kwr_status on_upload(void *ctx, const char *parent, const char *name, const char *text) {
    uploads *u = ctx;
    if (text != NULL && strcmp(parent, "Upload") == 0) {
        if (strcmp(name, "Key") == 0) snprintf(u->key, sizeof u->key, "%s", text);
        if (strcmp(name, "UploadId") == 0) snprintf(u->id, sizeof u->id, "%s", text);
    }
    if (text != NULL || strcmp(name, "Upload") != 0) return KWR_OK;
    if (u->key[0] != '\0' && u->id[0] != '\0' && u->left > 0) {
        keep(u->out, u->key);
        kwr_url_encode(u->out, u->id, strlen(u->id), false);
        kwr_buffer_append(u->out, "", 1);
        u->left--;
    }
    u->key[0] = u->id[0] = '\0';
    return KWR_OK;
}

kwr_status kwr_s3_uploads(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_buffer *out,
                          kwr_error *err) {
    kwr_buffer query = { .env = s3->env };
    kwr_buffer_printf(&query, "max-uploads=%u&prefix=", max > 1000 ? 1000 : max);
    kwr_url_encode(&query, prefix, strlen(prefix), false);
    kwr_buffer_append(&query, "&uploads=", strlen("&uploads=") + 1);
    uploads *u = kwr_calloc(s3->env, sizeof *u);
    kwr_status status = query.failed || u == NULL ? no_memory(s3, err) : KWR_OK;
    kwr_s3_reply reply = { 0 };
    if (status >= KWR_OK) {
        *u = (uploads){ .out = out, .left = max };
        const kwr_s3_call call = { .method = "GET", .query = (const char *)query.data };
        status = kwr_s3_ask(s3, &call, &reply, err);
    }
    if (status >= KWR_OK)
        status = kwr_s3_xml_read(reply.answer.body.data, reply.answer.body.size, on_upload, u, err);
    if (status >= KWR_OK && out->failed) status = no_memory(s3, err);
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    kwr_free(s3->env, u, sizeof *u);
    return status;
}

kwr_status kwr_s3_upload_abort(kwr_s3 *s3, const char *key, const char *upload, kwr_error *err) {
    kwr_buffer query = { .env = s3->env };
    kwr_buffer_printf(&query, "uploadId=%s", upload);
    kwr_buffer_append(&query, "", 1);
    if (query.failed) {
        kwr_buffer_free(&query);
        return no_memory(s3, err);
    }
    kwr_s3_reply reply = { 0 };
    const kwr_s3_call call = { .method = "DELETE", .key = key, .query = (const char *)query.data };
    const kwr_status status = kwr_s3_ask(s3, &call, &reply, err);
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    return status;
}
