/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/storage/fake_s3.h"

#include <pthread.h>
#include <stdlib.h>

#include "tests/support/kwr_test.h"

enum { PARTS = 64, KEY = 1100 };

typedef struct object {
    struct object *next; /* sorted by key */
    char key[KEY];
    char meta[80];
    uint64_t version; /* its ETag */
    uint8_t *data;
    size_t size;
} object;

typedef struct upload {
    struct upload *next;
    uint64_t id;
    char key[KEY];
    char meta[80];
    uint8_t *parts[PARTS];
    size_t sizes[PARTS];
} upload;

struct fake_s3 {
    loopback *server;
    fake_s3_options options;
    pthread_mutex_t lock;
    object *objects;
    upload *uploads;
    uint64_t next_id;
    uint64_t requests, unsigned_requests;
    bool failed_once;
    fake_s3_plan plan;
    char token[4096];
};

/* ---- objects; all under the lock ---- */

static object **slot_of(fake_s3 *f, const char *key) {
    object **at = &f->objects;
    while (*at != NULL && strcmp((*at)->key, key) < 0)
        at = &(*at)->next;
    return at;
}

static object *find(fake_s3 *f, const char *key) {
    object *o = *slot_of(f, key);
    return o != NULL && strcmp(o->key, key) == 0 ? o : NULL;
}

static void erase(fake_s3 *f, const char *key) {
    object **at = slot_of(f, key);
    object *gone = *at;
    if (gone == NULL || strcmp(gone->key, key) != 0) return;
    *at = gone->next;
    free(gone->data);
    free(gone);
}

/* Takes `data`. */
static void insert(fake_s3 *f, const char *key, const char *meta, uint8_t *data, size_t size) {
    erase(f, key);
    object **at = slot_of(f, key);
    object *o = calloc(1, sizeof *o);
    snprintf(o->key, sizeof o->key, "%.1099s", key);
    snprintf(o->meta, sizeof o->meta, "%s", f->options.forgets_meta ? "" : meta);
    o->version = ++f->next_id;
    o->data = data;
    o->size = size;
    o->next = *at;
    *at = o;
}

static upload **upload_slot(fake_s3 *f, uint64_t id) {
    upload **at = &f->uploads;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void upload_erase(upload **at) {
    upload *gone = *at;
    *at = gone->next;
    for (int i = 0; i < PARTS; i++)
        free(gone->parts[i]);
    free(gone);
}

static uint8_t *copied(const void *data, size_t size) {
    uint8_t *copy = malloc(size + 1);
    if (size > 0) memcpy(copy, data, size);
    return copy;
}

/* ---- answers ---- */

static void refuse(loopback_reply *reply, int status, const char *code) {
    loopback_text(reply, status, "application/xml",
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>"
                  "<Message>why &lt;%s&gt;</Message></Error>",
                  code, code);
}

static void add(char **text, size_t *size, const char *more) {
    const size_t length = strlen(more);
    *text = realloc(*text, *size + length + 1);
    memcpy(*text + *size, more, length + 1);
    *size += length;
}

/* Keys as a server writes them that was asked for encoding-type=url. */
static void add_key(char **text, size_t *size, const char *key) {
    for (; *key != '\0'; key++) {
        char one[4] = { *key };
        if (strchr("/+ %", *key) != NULL) snprintf(one, sizeof one, "%%%02X", (unsigned char)*key);
        add(text, size, one);
    }
}

static void list(fake_s3 *f, const loopback_request *request, loopback_reply *reply) {
    char prefix[KEY] = "", after[KEY] = "", number[16] = "1000", entry[64], last[KEY] = "";
    loopback_param(request, "prefix", prefix, sizeof prefix);
    loopback_param(request, "continuation-token", after, sizeof after);
    loopback_param(request, "max-keys", number, sizeof number);
    size_t max = strtoull(number, NULL, 10), count = 0, size = 0;
    if (max > f->options.list_page) max = f->options.list_page;
    char *text = NULL;
    bool more = false;
    add(&text, &size, "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (object *o = f->objects; o != NULL; o = o->next) {
        if (strncmp(o->key, prefix, strlen(prefix)) != 0) continue;
        char name[KEY];
        snprintf(name, sizeof name, "%s", o->key);
        char *slash = strchr(name + strlen(prefix), '/');
        if (slash != NULL) slash[1] = '\0';
        if (strcmp(name, last) == 0 || (after[0] != '\0' && strcmp(name, after) <= 0)) continue;
        if (count == max) {
            more = true;
            break;
        }
        snprintf(last, sizeof last, "%s", name);
        count++;
        add(&text, &size, slash != NULL ? "<CommonPrefixes><Prefix>" : "<Contents><Key>");
        add_key(&text, &size, name);
        snprintf(entry, sizeof entry, "</Key><Size>%zu</Size></Contents>", o->size);
        add(&text, &size, slash != NULL ? "</Prefix></CommonPrefixes>" : entry);
    }
    add(&text, &size, "<EncodingType>url</EncodingType>");
    add(&text, &size, more ? "<IsTruncated>true</IsTruncated><NextContinuationToken>" : "");
    if (more) add(&text, &size, last);
    add(&text, &size, more ? "</NextContinuationToken>" : "<IsTruncated>false</IsTruncated>");
    add(&text, &size, "</ListBucketResult>");
    reply->body = (uint8_t *)text;
    reply->body_size = size;
}

/* Sorted by key, then id. */
static void sort_uploads(fake_s3 *f) {
    upload *sorted = NULL;
    while (f->uploads != NULL) {
        upload *u = f->uploads, **at = &sorted;
        f->uploads = u->next;
        while (*at != NULL && (strcmp((*at)->key, u->key) < 0 ||
                               (strcmp((*at)->key, u->key) == 0 && (*at)->id < u->id)))
            at = &(*at)->next;
        u->next = *at;
        *at = u;
    }
    f->uploads = sorted;
}

static void list_uploads(fake_s3 *f, const loopback_request *request, loopback_reply *reply) {
    char *text = NULL, entry[2 * KEY + 300], prefix[KEY] = "", key[KEY] = "", id[64] = "",
         number[16] = "1000";
    unsigned long long after = 0;
    size_t size = 0, count = 0;
    loopback_param(request, "prefix", prefix, sizeof prefix);
    loopback_param(request, "key-marker", key, sizeof key);
    if (loopback_param(request, "upload-id-marker", id, sizeof id))
        cr_assert(sscanf(id, "id %llu", &after) == 1, "%s", id);
    loopback_param(request, "max-uploads", number, sizeof number);
    size_t max = strtoull(number, NULL, 10);
    if (max > f->options.list_page) max = f->options.list_page;
    sort_uploads(f);
    const upload *last = NULL;
    add(&text, &size, "<ListMultipartUploadsResult>");
    for (upload *u = f->uploads; u != NULL; u = u->next) {
        const int order = strcmp(u->key, key);
        if (strncmp(u->key, prefix, strlen(prefix)) != 0) continue;
        if (key[0] != '\0' && (order < 0 || (order == 0 && u->id <= after))) continue;
        if (count++ == max && f->options.no_markers) {
            add(&text, &size, "<IsTruncated>true</IsTruncated>");
            break;
        }
        if (count > max) {
            snprintf(entry, sizeof entry,
                     "<IsTruncated>true</IsTruncated><NextKeyMarker>%s</NextKeyMarker>"
                     "<NextUploadIdMarker>id %llu</NextUploadIdMarker>",
                     last->key, (unsigned long long)last->id);
            add(&text, &size, entry);
            break;
        }
        last = u;
        snprintf(entry, sizeof entry, "<Upload><Key>%s</Key><UploadId>id %llu</UploadId></Upload>",
                 u->key, (unsigned long long)u->id);
        add(&text, &size, entry);
    }
    add(&text, &size, "</ListMultipartUploadsResult>");
    reply->body = (uint8_t *)text;
    reply->body_size = size;
}

static void show_object(const object *o, loopback_reply *reply) {
    char *at = reply->headers + strlen(reply->headers);
    snprintf(at, sizeof reply->headers - (size_t)(at - reply->headers), "ETag: \"%llu\"\r\n%s%s%s",
             (unsigned long long)o->version,
             o->meta[0] == '\0' ? "" : "x-amz-meta-keyweir: ", o->meta,
             o->meta[0] == '\0' ? "" : "\r\n");
}

static void get(fake_s3 *f, const loopback_request *request, const char *key,
                loopback_reply *reply) {
    const object *o = find(f, key);
    char range[64];
    unsigned long long from = 0, to = 0;
    if (o == NULL) {
        refuse(reply, 404, "NoSuchKey");
        return;
    }
    show_object(o, reply);
    if (!f->options.no_ranges && loopback_header(request, "range", range, sizeof range)) {
        cr_assert(sscanf(range, "bytes=%llu-%llu", &from, &to) == 2);
        cr_assert(from <= to && to < o->size);
        reply->status = 206;
        reply->body = copied(o->data + from, (size_t)(to - from + 1));
        reply->body_size = (size_t)(to - from + 1);
        return;
    }
    reply->body = copied(o->data, o->size);
    reply->body_size = o->size;
}

static bool taken(fake_s3 *f, const loopback_request *request, const char *key) {
    char value[8];
    return loopback_header(request, "if-none-match", value, sizeof value) &&
           strcmp(value, "*") == 0 && !f->options.replaces && find(f, key) != NULL;
}

static void put_part(fake_s3 *f, const loopback_request *request, uint64_t id,
                     loopback_reply *reply) {
    char number[16] = "";
    loopback_param(request, "partNumber", number, sizeof number);
    upload *u = *upload_slot(f, id);
    const unsigned long part = strtoul(number, NULL, 10) - 1;
    if (u == NULL || part >= PARTS) {
        refuse(reply, 404, "NoSuchUpload");
        return;
    }
    free(u->parts[part]);
    u->parts[part] = copied(request->body, request->body_size);
    u->sizes[part] = request->body_size;
    snprintf(reply->headers, sizeof reply->headers, "ETag: \"part%lu\"\r\n", part + 1);
}

static void put_together(fake_s3 *f, const loopback_request *request, uint64_t id, const char *key,
                         loopback_reply *reply) {
    upload **at = upload_slot(f, id);
    char value[8];
    if (*at == NULL) {
        refuse(reply, 404, "NoSuchUpload");
        return;
    }
    if (f->options.no_exclusive_parts &&
        loopback_header(request, "if-none-match", value, sizeof value)) {
        refuse(reply, 501, "NotImplemented");
        return;
    }
    if (taken(f, request, key)) {
        refuse(reply, 412, "PreconditionFailed");
        return;
    }
    if (f->options.error_in_200 && !f->failed_once) {
        f->failed_once = true;
        refuse(reply, 200, "InternalError");
        return;
    }
    size_t size = 0;
    for (int i = 0; i < PARTS && (*at)->parts[i] != NULL; i++) {
        char entry[80];
        snprintf(entry, sizeof entry, "<PartNumber>%d</PartNumber><ETag>\"part%d\"</ETag>", i + 1,
                 i + 1);
        cr_assert(memmem(request->body, request->body_size, entry, strlen(entry)) != NULL);
        size += (*at)->sizes[i];
    }
    uint8_t *all = malloc(size + 1);
    size = 0;
    for (int i = 0; i < PARTS && (*at)->parts[i] != NULL; i++) {
        memcpy(all + size, (*at)->parts[i], (*at)->sizes[i]);
        size += (*at)->sizes[i];
    }
    insert(f, key, (*at)->meta, all, size);
    upload_erase(at);
    loopback_text(reply, 200, "application/xml",
                  "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>");
}

static void begin_upload(fake_s3 *f, const loopback_request *request, const char *key,
                         loopback_reply *reply) {
    upload *u = calloc(1, sizeof *u);
    u->id = ++f->next_id;
    snprintf(u->key, sizeof u->key, "%.1099s", key);
    loopback_header(request, "x-amz-meta-keyweir", u->meta, sizeof u->meta);
    u->next = f->uploads;
    f->uploads = u;
    /* An id that has to be encoded in a query. */
    loopback_text(reply, 200, "application/xml",
                  "<s:InitiateMultipartUploadResult xmlns:s=\"x\"><s:Bucket>bucket</s:Bucket>"
                  "<s:UploadId>id %llu</s:UploadId></s:InitiateMultipartUploadResult>",
                  (unsigned long long)u->id);
}

static void serve(fake_s3 *f, const loopback_request *request, loopback_reply *reply) {
    char path[LOOPBACK_TARGET_MAX], value[64] = "", meta[80] = "";
    unsigned long long id = 0;
    loopback_path(request, path, sizeof path);
    cr_assert(strncmp(path, "/bucket", 7) == 0, "%s", path);
    const char *key = path[7] == '/' ? path + 8 : "";
    const char *method = request->method;
    const bool parts = loopback_param(request, "uploadId", value, sizeof value);
    if (parts) (void)sscanf(value, "id %llu", &id);
    if (!request->whole) {
        refuse(reply, 400, "IncompleteBody");
    } else if (key[0] == '\0') {
        if (loopback_param(request, "uploads", value, sizeof value))
            list_uploads(f, request, reply);
        else
            list(f, request, reply);
    } else if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        get(f, request, key, reply);
    } else if (strcmp(method, "POST") == 0 && parts) {
        put_together(f, request, id, key, reply);
    } else if (strcmp(method, "POST") == 0) {
        begin_upload(f, request, key, reply);
    } else if (strcmp(method, "PUT") == 0 && parts) {
        put_part(f, request, id, reply);
    } else if (strcmp(method, "PUT") == 0) {
        loopback_header(request, "x-amz-meta-keyweir", meta, sizeof meta);
        if (taken(f, request, key))
            refuse(reply, 412, "PreconditionFailed");
        else {
            insert(f, key, meta, copied(request->body, request->body_size), request->body_size);
            show_object(find(f, key), reply);
        }
    } else if (parts) {
        if (*upload_slot(f, id) != NULL) upload_erase(upload_slot(f, id));
        reply->status = 204;
    } else {
        erase(f, key);
        reply->status = 204;
    }
}

/* Whether what was asked for is done; else only the answer is there. */
static bool spoil_before(fake_s3_fault fault, loopback_reply *reply) {
    switch (fault) {
    case FAKE_S3_RESET_BEFORE: reply->reset = true; return true;
    case FAKE_S3_500: refuse(reply, 500, "InternalError"); return true;
    case FAKE_S3_503: refuse(reply, 503, "SlowDown"); return true;
    case FAKE_S3_409: refuse(reply, 409, "ConditionalRequestConflict"); return true;
    case FAKE_S3_EXPIRED: refuse(reply, 400, "ExpiredToken"); return true;
    case FAKE_S3_DENIED: refuse(reply, 403, "AccessDenied"); return true;
    case FAKE_S3_GARBAGE: loopback_text(reply, 200, "text/html", "<html>no & such"); return true;
    case FAKE_S3_NONE:
    case FAKE_S3_RESET_AFTER:
    case FAKE_S3_CUT:
    case FAKE_S3_500_AFTER:
    case FAKE_S3_FAULTS: break;
    }
    return false;
}

static void spoil_after(const fake_s3_plan *plan, loopback_reply *reply) {
    if (plan->fault == FAKE_S3_RESET_AFTER) reply->reset = true;
    if (plan->fault == FAKE_S3_CUT) reply->cut = plan->cut + 1;
    if (plan->fault == FAKE_S3_500_AFTER) refuse(reply, 500, "InternalError");
}

static void handle(void *ctx, const loopback_request *request, loopback_reply *reply) {
    fake_s3 *f = ctx;
    char value[LOOPBACK_HEAD_MAX];
    pthread_mutex_lock(&f->lock);
    const uint64_t number = ++f->requests;
    if (!loopback_header(request, "authorization", value, sizeof value) ||
        strstr(value, "Credential=key_id/") == NULL ||
        strstr(value, "x-amz-content-sha256") == NULL)
        f->unsigned_requests++;
    f->token[0] = '\0';
    if (loopback_header(request, "x-amz-security-token", value, sizeof value)) {
        snprintf(f->token, sizeof f->token, "%.4000s", value);
    }
    const uint64_t count = f->plan.count == 0 ? 1 : f->plan.count;
    const bool spoilt = f->plan.at > 0 && number >= f->plan.at && number - f->plan.at < count;
    const fake_s3_plan none = { 0 }, *plan = spoilt ? &f->plan : &none;
    if (!spoil_before(plan->fault, reply)) {
        serve(f, request, reply);
        spoil_after(plan, reply);
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- for the tests ---- */

fake_s3 *fake_s3_open(const fake_s3_options *options) {
    fake_s3 *f = calloc(1, sizeof *f);
    if (options != NULL) f->options = *options;
    if (f->options.list_page == 0) f->options.list_page = 3;
    pthread_mutex_init(&f->lock, NULL);
    f->server = loopback_open_over(f->options.channel, handle, f);
    return f;
}

void fake_s3_clear(fake_s3 *f) {
    pthread_mutex_lock(&f->lock);
    while (f->objects != NULL)
        erase(f, f->objects->key);
    while (f->uploads != NULL)
        upload_erase(&f->uploads);
    pthread_mutex_unlock(&f->lock);
}

void fake_s3_close(fake_s3 *f) {
    loopback_close(f->server);
    fake_s3_clear(f);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void fake_s3_uri(const fake_s3 *f, uint32_t retry_ms, char *out, size_t capacity) {
    snprintf(out, capacity, "s3://bucket/some/prefix?endpoint=%s://127.0.0.1:%d&retry_ms=%u",
             f->options.channel != NULL ? "https" : "http", loopback_port(f->server), retry_ms);
}

void fake_s3_plan_set(fake_s3 *f, fake_s3_plan plan) {
    pthread_mutex_lock(&f->lock);
    f->plan = plan;
    f->requests = 0;
    f->failed_once = false;
    pthread_mutex_unlock(&f->lock);
}

static uint64_t read_locked(fake_s3 *f, const uint64_t *value) {
    pthread_mutex_lock(&f->lock);
    const uint64_t copy = *value;
    pthread_mutex_unlock(&f->lock);
    return copy;
}

uint64_t fake_s3_requests(fake_s3 *f) { return read_locked(f, &f->requests); }
uint64_t fake_s3_unsigned(fake_s3 *f) { return read_locked(f, &f->unsigned_requests); }

void fake_s3_last_token(fake_s3 *f, char *out, size_t capacity) {
    pthread_mutex_lock(&f->lock);
    snprintf(out, capacity, "%s", f->token);
    pthread_mutex_unlock(&f->lock);
}

size_t fake_s3_count(fake_s3 *f, const char *prefix) {
    size_t count = 0;
    pthread_mutex_lock(&f->lock);
    for (object *o = f->objects; o != NULL; o = o->next)
        count += strncmp(o->key, prefix, strlen(prefix)) == 0;
    pthread_mutex_unlock(&f->lock);
    return count;
}

size_t fake_s3_uploads(fake_s3 *f) {
    size_t count = 0;
    pthread_mutex_lock(&f->lock);
    for (upload *u = f->uploads; u != NULL; u = u->next)
        count++;
    pthread_mutex_unlock(&f->lock);
    return count;
}

void fake_s3_put(fake_s3 *f, const char *key, const void *data, size_t size) {
    pthread_mutex_lock(&f->lock);
    insert(f, key, "", copied(data, size), size);
    pthread_mutex_unlock(&f->lock);
}

void *fake_s3_get(fake_s3 *f, const char *key, size_t *size) {
    pthread_mutex_lock(&f->lock);
    const object *o = find(f, key);
    uint8_t *copy = o == NULL ? NULL : copied(o->data, o->size);
    if (o != NULL) *size = o->size;
    pthread_mutex_unlock(&f->lock);
    return copy;
}
