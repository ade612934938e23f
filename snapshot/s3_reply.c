/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/s3_reply.h"

#include <stdio.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/s3_xml.h"
#include "snapshot/url.h"

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read an answer");
}

static void keep(kwr_buffer *out, const char *text) {
    kwr_buffer_append(out, text, strlen(text) + 1);
}

/* ---- refusals ---- */

static kwr_status on_complaint(void *ctx, const char *parent, const char *name, const char *text) {
    kwr_s3_complaint *c = ctx;
    if (strcmp(parent, "Error") != 0 || text == NULL) return KWR_OK;
    if (strcmp(name, "Code") == 0)
        kwr_printable(text, strlen(text), c->code, sizeof c->code);
    else if (strcmp(name, "Message") == 0)
        kwr_printable(text, strlen(text), c->message, sizeof c->message);
    else if (strcmp(name, "Region") == 0)
        kwr_printable(text, strlen(text), c->region, sizeof c->region);
    return KWR_OK;
}

void kwr_s3_read_complaint(kwr_slice body, kwr_s3_complaint *out) {
    *out = (kwr_s3_complaint){ 0 };
    if (body.size > 0) (void)kwr_s3_xml_read(body.data, body.size, on_complaint, out, NULL);
}

/* ---- listings ---- */

typedef struct listing {
    kwr_buffer keys; /* as sent, NUL-terminated */
    kwr_buffer *next;
    bool encoded; /* the server says that keys are percent-encoded */
    bool more;
} listing;

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

kwr_status kwr_s3_read_listing(kwr_slice body, const char *prefix, kwr_s3_page *page, bool *more,
                               kwr_error *err) {
    listing l = { .keys = { .env = page->names.env }, .next = &page->next };
    kwr_status status = kwr_s3_xml_read(body.data, body.size, on_listed, &l, err);
    if (status >= KWR_OK) {
        names_of(&l, prefix, &page->names);
        if (!l.more) page->next.size = 0;
        *more = l.more;
        if (l.keys.failed || page->names.failed || page->next.failed) status = no_memory(err);
    }
    kwr_buffer_free(&l.keys);
    return status;
}

/* ---- uploads in parts ---- */

typedef struct uploads {
    kwr_buffer *out;
    kwr_s3_marker *next;
    uint32_t left;
    kwr_buffer key, id; /* with their NUL; empty: not said yet */
} uploads;

static void on_marker(kwr_s3_marker *next, const char *name, const char *text) {
    kwr_buffer *to = strcmp(name, "NextKeyMarker") == 0        ? &next->key
                     : strcmp(name, "NextUploadIdMarker") == 0 ? &next->upload
                                                               : NULL;
    if (strcmp(name, "IsTruncated") == 0) next->more = strcmp(text, "true") == 0;
    if (to == NULL) return;
    to->size = 0;
    keep(to, text);
}

static kwr_status on_upload(void *ctx, const char *parent, const char *name, const char *text) {
    uploads *u = ctx;
    if (text != NULL && strcmp(parent, "ListMultipartUploadsResult") == 0)
        on_marker(u->next, name, text);
    if (text != NULL && strcmp(parent, "Upload") == 0) {
        kwr_buffer *to = strcmp(name, "Key") == 0        ? &u->key
                         : strcmp(name, "UploadId") == 0 ? &u->id
                                                         : NULL;
        if (to != NULL) {
            to->size = 0;
            keep(to, text);
        }
    }
    if (text != NULL || strcmp(name, "Upload") != 0) return KWR_OK;
    if (u->key.size > 1 && u->id.size > 1 && u->left > 0) {
        kwr_buffer_append(u->out, u->key.data, u->key.size);
        kwr_url_encode(u->out, (const char *)u->id.data, u->id.size - 1, false);
        kwr_buffer_append(u->out, "", 1);
        u->left--;
    }
    u->key.size = u->id.size = 0;
    return KWR_OK;
}

kwr_status kwr_s3_read_uploads(kwr_slice body, uint32_t max, kwr_buffer *out, kwr_s3_marker *next,
                               kwr_error *err) {
    uploads u = {
        .out = out, .next = next, .left = max, .key = { .env = out->env }, .id = { .env = out->env }
    };
    next->more = false;
    next->key.size = next->upload.size = 0;
    kwr_status status = kwr_s3_xml_read(body.data, body.size, on_upload, &u, err);
    const bool failed =
        out->failed || u.key.failed || u.id.failed || next->key.failed || next->upload.failed;
    if (status >= KWR_OK && failed) status = no_memory(err);
    kwr_buffer_free(&u.key);
    kwr_buffer_free(&u.id);
    return status;
}

static kwr_status on_begun(void *ctx, const char *parent, const char *name, const char *text) {
    kwr_buffer *id = ctx;
    if (text != NULL && strcmp(parent, "InitiateMultipartUploadResult") == 0 &&
        strcmp(name, "UploadId") == 0) {
        id->size = 0;
        kwr_url_encode(id, text, strlen(text), false);
    }
    return KWR_OK;
}

kwr_status kwr_s3_read_begun(kwr_slice body, kwr_buffer *id, kwr_error *err) {
    return kwr_s3_xml_read(body.data, body.size, on_begun, id, err);
}

static kwr_status on_ended(void *ctx, const char *parent, const char *name, const char *text) {
    kwr_s3_ending *e = ctx;
    if (parent[0] == '\0' && strcmp(name, "CompleteMultipartUploadResult") == 0) e->complete = true;
    if (strcmp(parent, "Error") == 0 && strcmp(name, "Code") == 0 && text != NULL)
        kwr_printable(text, strlen(text), e->code, sizeof e->code);
    return KWR_OK;
}

kwr_status kwr_s3_read_ending(kwr_slice body, kwr_s3_ending *out, kwr_error *err) {
    *out = (kwr_s3_ending){ 0 };
    return kwr_s3_xml_read(body.data, body.size, on_ended, out, err);
}
