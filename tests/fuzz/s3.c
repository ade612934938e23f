/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of object stores; the first byte says to what. Names and uploads that were read are
 * written as an answer again, which must say the same. expat takes its memory from libc: there the
 * limit on the process holds.
 */
#include "tests/fuzz/fuzz.h"

#include "snapshot/s3_reply.h"
#include "snapshot/s3_xml.h"
#include "snapshot/url.h"

enum { UPLOADS_MAX = 5 };

static kwr_slice slice_of(const kwr_buffer *buffer) {
    return (kwr_slice){ buffer->data, buffer->size };
}

/* Nothing in it could move a terminal's cursor or begin another line. */
static void check_shown(const char *text, size_t capacity) {
    FUZZ_MUST(memchr(text, 0, capacity) != NULL);
    for (; *text != '\0'; text++)
        FUZZ_MUST(*text >= 0x20 && *text < 0x7f);
}

/* Part of a query as it is. */
static void check_encoded(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        FUZZ_MUST(text[i] > 0x20 && text[i] < 0x7f && strchr("&=#?/+", text[i]) == NULL);
}

static void append(kwr_buffer *out, const char *text) {
    kwr_buffer_append(out, text, strlen(text));
}

static void append_escaped(kwr_buffer *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '&' || *text == '<' || *text == '>' || *text == '\r')
            kwr_buffer_printf(out, "&#%d;", *text);
        else
            kwr_buffer_append(out, text, 1);
    }
}

static bool same(const kwr_buffer *a, const kwr_buffer *b) {
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* ---- XML ---- */

static kwr_status on_element(void *ctx, const char *parent, const char *name, const char *text) {
    size_t *left = ctx;
    FUZZ_MUST(strlen(parent) <= KWR_S3_XML_NAME_MAX && strlen(name) <= KWR_S3_XML_NAME_MAX);
    FUZZ_MUST(text == NULL || strlen(text) <= KWR_S3_XML_TEXT_MAX);
    return (*left)-- == 0 ? KWR_ERR_RANGE : KWR_OK;
}

/* The first byte: after how many elements the reader has had enough. */
static void read_xml(kwr_slice body) {
    if (body.size == 0) return;
    size_t left = *(const uint8_t *)body.data;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_s3_xml_read((const uint8_t *)body.data + 1, body.size - 1, on_element, &left, &err);
    FUZZ_MUST(status == KWR_OK || status == KWR_ERR_RANGE || status == KWR_ERR_CORRUPT);
    FUZZ_MUST((status == KWR_ERR_RANGE) == (left == SIZE_MAX));
    FUZZ_MUST(status != KWR_ERR_CORRUPT || err.text[0] != '\0');
}

/* ---- listings ---- */

static void write_listing(const kwr_s3_page *page, size_t cut, const char *prefix, bool more,
                          kwr_buffer *out) {
    append(out, "<ListBucketResult><EncodingType>url</EncodingType>");
    kwr_buffer_printf(out, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
    if (page->next.size > 0) {
        append(out, "<NextContinuationToken>");
        append_escaped(out, (const char *)page->next.data);
        append(out, "</NextContinuationToken>");
    }
    for (size_t at = 0; at < page->names.size;) {
        const char *name = (const char *)page->names.data + at;
        append(out, "<Contents><Key>");
        kwr_url_encode(out, prefix, cut, true);
        kwr_url_encode(out, name, strlen(name), true);
        append(out, "</Key></Contents>");
        at += strlen(name) + 1;
    }
    append(out, "</ListBucketResult>");
}

static void check_page(const kwr_s3_page *page, size_t cut, const char *prefix, bool more) {
    FUZZ_MUST(page->names.size == 0 || page->names.data[page->names.size - 1] == '\0');
    for (size_t at = 0; at < page->names.size;) {
        const char *name = (const char *)page->names.data + at;
        FUZZ_MUST(name[0] != '\0' && strncmp(name, prefix + cut, strlen(prefix + cut)) == 0);
        at += strlen(name) + 1;
    }
    FUZZ_MUST(more || page->next.size == 0);
    FUZZ_MUST(page->next.size == 0 || strlen((const char *)page->next.data) + 1 == page->next.size);
}

static void read_listing(kwr_slice body, const char *prefix) {
    const char *slash = strrchr(prefix, '/');
    const size_t cut = slash == NULL ? 0 : (size_t)(slash + 1 - prefix);
    kwr_s3_page page = { .names = { .env = fuzz_env() }, .next = { .env = fuzz_env() } };
    kwr_s3_page again = page;
    kwr_buffer written = { .env = fuzz_env() };
    kwr_error err = { 0 };
    bool more = false, still_more = false;
    const kwr_status status = kwr_s3_read_listing(body, prefix, &page, &more, &err);
    FUZZ_MUST(status == KWR_OK || (status == KWR_ERR_CORRUPT && err.text[0] != '\0'));
    if (status == KWR_OK) {
        check_page(&page, cut, prefix, more);
        /* Three times as long when encoded, which may be longer than a text may be. */
        write_listing(&page, cut, prefix, more, &written);
        if (kwr_s3_read_listing(slice_of(&written), prefix, &again, &still_more, &err) == KWR_OK)
            FUZZ_MUST(same(&page.names, &again.names) && same(&page.next, &again.next) &&
                      more == still_more);
        else
            FUZZ_MUST(strstr(err.text, "too long") != NULL);
    }
    kwr_buffer_free(&written);
    kwr_s3_page_free(&again);
    kwr_s3_page_free(&page);
}

/* ---- uploads ---- */

static void write_uploads(kwr_buffer *uploads, kwr_buffer *out) {
    size_t count = 0;
    append(out, "<ListMultipartUploadsResult>");
    for (size_t at = 0; at < uploads->size; count++) {
        const char *key = (const char *)uploads->data + at;
        at += strlen(key) + 1;
        FUZZ_MUST(key[0] != '\0' && at < uploads->size);
        const char *id = (const char *)uploads->data + at;
        size_t size = strlen(id);
        at += size + 1;
        FUZZ_MUST(size > 0 && at <= uploads->size);
        check_encoded(id, size);
        char plain[3 * KWR_S3_XML_TEXT_MAX + 1];
        FUZZ_MUST(size < sizeof plain);
        memcpy(plain, id, size + 1);
        FUZZ_MUST(kwr_url_decode(plain, &size));
        plain[size] = '\0';
        append(out, "<Upload><Key>");
        append_escaped(out, key);
        append(out, "</Key><UploadId>");
        append_escaped(out, plain);
        append(out, "</UploadId></Upload>");
    }
    append(out, "</ListMultipartUploadsResult>");
    FUZZ_MUST(count <= UPLOADS_MAX);
}

static void read_uploads(kwr_slice body) {
    kwr_buffer uploads = { .env = fuzz_env() }, again = uploads, written = uploads;
    kwr_s3_marker next = { .key = { .env = fuzz_env() }, .upload = { .env = fuzz_env() } };
    kwr_error err = { 0 };
    const kwr_status status = kwr_s3_read_uploads(body, UPLOADS_MAX, &uploads, &next, &err);
    FUZZ_MUST(status == KWR_OK || (status == KWR_ERR_CORRUPT && err.text[0] != '\0'));
    if (status == KWR_OK) {
        write_uploads(&uploads, &written);
        FUZZ_MUST(kwr_s3_read_uploads(slice_of(&written), UPLOADS_MAX, &again, &next, &err) ==
                  KWR_OK);
        FUZZ_MUST(!next.more && next.key.size == 0 && next.upload.size == 0);
        FUZZ_MUST(same(&uploads, &again));
    }
    kwr_buffer_free(&next.key);
    kwr_buffer_free(&next.upload);
    kwr_buffer_free(&written);
    kwr_buffer_free(&again);
    kwr_buffer_free(&uploads);
}

static void read_begun(kwr_slice body) {
    kwr_buffer id = { .env = fuzz_env() };
    kwr_error err = { 0 };
    const kwr_status status = kwr_s3_read_begun(body, &id, &err);
    FUZZ_MUST(status == KWR_OK || (status == KWR_ERR_CORRUPT && err.text[0] != '\0'));
    check_encoded((const char *)id.data, id.size);
    kwr_buffer_free(&id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const kwr_slice body = { data + 1, size - 1 };
    kwr_s3_complaint complaint;
    kwr_s3_ending ending;
    kwr_error err = { 0 };
    switch (data[0] % 6) {
    case 0: read_xml(body); break;
    case 1: read_listing(body, "jobs/wc/"); break;
    case 2: read_listing(body, data[0] < 128 ? "" : "jobs/wc/chk-"); break;
    case 3: read_uploads(body); break;
    case 4: read_begun(body); break;
    default:
        kwr_s3_read_complaint(body, &complaint);
        check_shown(complaint.code, sizeof complaint.code);
        check_shown(complaint.message, sizeof complaint.message);
        check_shown(complaint.region, sizeof complaint.region);
        const kwr_status status = kwr_s3_read_ending(body, &ending, &err);
        FUZZ_MUST(status == KWR_OK || (status == KWR_ERR_CORRUPT && err.text[0] != '\0'));
        check_shown(ending.code, sizeof ending.code);
        break;
    }
    return 0;
}
