/* SPDX-License-Identifier: Apache-2.0 */
/* Listings, page by page: names below a prefix, and uploads that were never ended. */
#include "base/error.h"
#include "snapshot/s3_client.h"
#include "snapshot/s3_reply.h"

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
    bool more = false;
    if (status >= KWR_OK) {
        status = kwr_s3_read_listing((kwr_slice){ reply.answer.body.data, reply.answer.body.size },
                                     prefix, page, &more, err);
        if (status < KWR_OK) kwr_error_prefix(err, "'%s/%s': listing", s3->shown, prefix);
    }
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    const bool same = page->next.size > 0 && page->next.size == before.size &&
                      memcmp(page->next.data, before.data, before.size) == 0;
    if (status >= KWR_OK && more && (page->next.size <= 1 || same))
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                          "'%s/%s': the listing has more pages, but not where they are", s3->shown,
                          prefix);
    kwr_buffer_free(&before);
    return status;
}

/* ---- unfinished uploads ---- */

static void query_marker(kwr_buffer *query, const char *name, const kwr_buffer *marker) {
    if (marker->size <= 1) return;
    kwr_buffer_append(query, name, strlen(name));
    kwr_url_encode(query, (const char *)marker->data, marker->size - 1, false);
}

/* One page, `next` says which; afterwards the one behind it. Parameters in the order of their
 * names, as they are signed. */
static kwr_status uploads_page(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_buffer *out,
                               kwr_s3_marker *next, kwr_error *err) {
    kwr_buffer query = { .env = s3->env };
    query_marker(&query, "key-marker=", &next->key);
    if (query.size > 0) kwr_buffer_append(&query, "&", 1);
    kwr_buffer_printf(&query, "max-uploads=%u&prefix=", max > 1000 ? 1000 : max);
    kwr_url_encode(&query, prefix, strlen(prefix), false);
    query_marker(&query, "&upload-id-marker=", &next->upload);
    kwr_buffer_append(&query, "&uploads=", strlen("&uploads=") + 1);
    kwr_status status = query.failed ? no_memory(s3, err) : KWR_OK;
    kwr_s3_reply reply = { 0 };
    if (status >= KWR_OK) {
        const kwr_s3_call call = { .method = "GET", .query = (const char *)query.data };
        status = kwr_s3_ask(s3, &call, &reply, err);
    }
    if (status >= KWR_OK)
        status = kwr_s3_read_uploads((kwr_slice){ reply.answer.body.data, reply.answer.body.size },
                                     max, out, next, err);
    kwr_s3_reply_free(&reply);
    kwr_buffer_free(&query);
    return status;
}

static uint32_t count_uploads(const kwr_buffer *out) {
    uint32_t ends = 0;
    for (size_t i = 0; i < out->size; i++)
        ends += out->data[i] == '\0';
    return ends / 2;
}

kwr_status kwr_s3_uploads(kwr_s3 *s3, const char *prefix, uint32_t max, kwr_buffer *out,
                          kwr_error *err) {
    kwr_s3_marker next = { .key = { .env = s3->env }, .upload = { .env = s3->env } };
    kwr_status status = KWR_OK;
    uint32_t count = 0;
    do {
        status = uploads_page(s3, prefix, max - count, out, &next, err);
        const uint32_t now = count_uploads(out);
        if (status >= KWR_OK && next.more && (next.key.size <= 1 || now == count))
            status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                              "'%s/%s': the list of unfinished uploads has more pages, but not "
                              "where they are",
                              s3->shown, prefix);
        count = now;
    } while (status >= KWR_OK && next.more && count < max);
    kwr_buffer_free(&next.key);
    kwr_buffer_free(&next.upload);
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
