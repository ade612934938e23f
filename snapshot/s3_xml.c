/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/s3_xml.h"

#include <expat.h>

#include "base/error.h"

typedef struct reader {
    XML_Parser parser;
    kwr_s3_element_fn fn;
    void *ctx;
    kwr_error *err;
    kwr_status status;
    size_t depth;
    bool inner[KWR_S3_XML_DEPTH_MAX + 1]; /* the element at that depth holds others */
    char names[KWR_S3_XML_DEPTH_MAX + 1][KWR_S3_XML_NAME_MAX + 1]; /* [0]: around the root */
    char text[KWR_S3_XML_TEXT_MAX + 1];
    size_t text_size;
} reader;

static void stop(reader *r, kwr_status status, const char *what) {
    if (r->status < KWR_OK) return;
    r->status = status;
    if (what != NULL) kwr_error_set(r->err, status, 0, "the answer's XML %s", what);
    (void)XML_StopParser(r->parser, XML_FALSE);
}

static void on_start(void *ctx, const XML_Char *name, const XML_Char **attributes) {
    reader *r = ctx;
    (void)attributes;
    if (r->status < KWR_OK) return;
    if (r->depth == KWR_S3_XML_DEPTH_MAX) {
        stop(r, KWR_ERR_CORRUPT, "is nested too deep");
        return;
    }
    const char *colon = strrchr(name, ':');
    const char *plain = colon == NULL ? name : colon + 1;
    const size_t size = strlen(plain);
    if (size > KWR_S3_XML_NAME_MAX) {
        stop(r, KWR_ERR_CORRUPT, "has an element with a very long name");
        return;
    }
    r->inner[r->depth] = true;
    r->depth++;
    r->inner[r->depth] = false;
    memcpy(r->names[r->depth], plain, size + 1);
    r->text_size = 0;
}

static void on_text(void *ctx, const XML_Char *text, int size) {
    reader *r = ctx;
    if (r->status < KWR_OK || size <= 0) return;
    if ((size_t)size > KWR_S3_XML_TEXT_MAX - r->text_size) {
        stop(r, KWR_ERR_CORRUPT, "has a text that is too long");
        return;
    }
    memcpy(r->text + r->text_size, text, (size_t)size);
    r->text_size += (size_t)size;
}

static void on_end(void *ctx, const XML_Char *name) {
    reader *r = ctx;
    (void)name;
    if (r->status < KWR_OK || r->depth == 0) return;
    r->text[r->text_size] = '\0';
    const char *text = r->inner[r->depth] ? NULL : r->text;
    const kwr_status status = r->fn(r->ctx, r->names[r->depth - 1], r->names[r->depth], text);
    r->depth--;
    r->text_size = 0;
    if (status < KWR_OK) stop(r, status, NULL);
}

/* What declares entities. */
static void on_doctype(void *ctx, const XML_Char *name, const XML_Char *system,
                       const XML_Char *public_id, int internal) {
    (void)name;
    (void)system;
    (void)public_id;
    (void)internal;
    stop(ctx, KWR_ERR_CORRUPT, "has a document type, which no object store sends");
}

kwr_status kwr_s3_xml_read(const void *data, size_t size, kwr_s3_element_fn fn, void *ctx,
                           kwr_error *err) {
    if (size > INT32_MAX) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "the answer's XML is too large");
    reader r = { .parser = XML_ParserCreate("UTF-8"), .fn = fn, .ctx = ctx, .err = err };
    if (r.parser == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read an answer");
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    const enum XML_Status parsed = XML_Parse(r.parser, data, (int)size, XML_TRUE);
    if (r.status >= KWR_OK && parsed != XML_STATUS_OK) {
        const enum XML_Error code = XML_GetErrorCode(r.parser);
        r.status = code == XML_ERROR_NO_MEMORY ? KWR_ERR_NOMEM : KWR_ERR_CORRUPT;
        kwr_error_set(err, r.status, 0, "the answer is no XML as object stores send it: %s",
                      XML_ErrorString(code));
    }
    XML_ParserFree(r.parser);
    return r.status;
}
