/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/webhdfs_reply.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/name.h"

/* The parser recurses: no deeper than this. Brackets in strings do not count. */
static bool depth_ok(kwr_slice body) {
    const char *text = body.data;
    bool quoted = false;
    size_t depth = 0;
    for (size_t i = 0; i < body.size; i++) {
        if (quoted) {
            if (text[i] == '\\') i++;
            if (i < body.size && text[i] == '"') quoted = false;
            continue;
        }
        if (text[i] == '"') quoted = true;
        if (text[i] == '{' || text[i] == '[') depth++;
        if ((text[i] == '}' || text[i] == ']') && depth > 0) depth--;
        if (depth > KWR_WEBHDFS_DEPTH_MAX) return false;
    }
    return true;
}

static json_t *load(kwr_slice body) {
    if (body.size == 0 || !depth_ok(body)) return NULL;
    json_t *root = json_loadb(body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL || json_is_object(root)) return root;
    json_decref(root);
    return NULL;
}

/* ---- errors ---- */

typedef struct rule {
    const char *exception;
    kwr_webhdfs_verdict verdict;
    kwr_status status;
} rule;

/* By the class name alone: statuses are used for several of them. */
static const rule rules[] = {
    { "StandbyException", KWR_WEBHDFS_ELSEWHERE, KWR_ERR_IO },
    { "ObserverRetryOnActiveException", KWR_WEBHDFS_ELSEWHERE, KWR_ERR_IO },
    { "RetriableException", KWR_WEBHDFS_LATER, KWR_ERR_IO },
    { "SafeModeException", KWR_WEBHDFS_LATER, KWR_ERR_IO },
    { "ServerTooBusyException", KWR_WEBHDFS_LATER, KWR_ERR_IO },
    { "FileNotFoundException", KWR_WEBHDFS_FAILED, KWR_ERR_MISSING },
    { "FileAlreadyExistsException", KWR_WEBHDFS_FAILED, KWR_ERR_EXISTS },
    { "AlreadyBeingCreatedException", KWR_WEBHDFS_FAILED, KWR_ERR_EXISTS },
    { "RecoveryInProgressException", KWR_WEBHDFS_FAILED, KWR_ERR_EXISTS },
    { "ParentNotDirectoryException", KWR_WEBHDFS_FAILED, KWR_ERR_MISMATCH },
    { "PathIsNotDirectoryException", KWR_WEBHDFS_FAILED, KWR_ERR_MISMATCH },
    { "PathIsNotEmptyDirectoryException", KWR_WEBHDFS_FAILED, KWR_ERR_EXISTS },
    { "NSQuotaExceededException", KWR_WEBHDFS_FAILED, KWR_ERR_NOSPACE },
    { "DSQuotaExceededException", KWR_WEBHDFS_FAILED, KWR_ERR_NOSPACE },
    { "QuotaByStorageTypeExceededException", KWR_WEBHDFS_FAILED, KWR_ERR_NOSPACE },
    { "QuotaExceededException", KWR_WEBHDFS_FAILED, KWR_ERR_NOSPACE },
    { "AccessControlException", KWR_WEBHDFS_FAILED, KWR_ERR_IO },
    { "InvalidToken", KWR_WEBHDFS_LOGIN, KWR_ERR_IO },
    { "SecretManager$InvalidToken", KWR_WEBHDFS_LOGIN, KWR_ERR_IO },
    { "AuthenticationException", KWR_WEBHDFS_LOGIN, KWR_ERR_IO },
    { "UnsupportedOperationException", KWR_WEBHDFS_FAILED, KWR_ERR_UNSUPPORTED },
    { "IllegalArgumentException", KWR_WEBHDFS_FAILED, KWR_ERR_UNSUPPORTED },
};

static void read_exception(kwr_slice body, kwr_webhdfs_error *out) {
    json_t *root = load(body);
    const json_t *inner = json_object_get(root, "RemoteException");
    const char *name = json_string_value(json_object_get(inner, "exception"));
    const char *message = json_string_value(json_object_get(inner, "message"));
    if (name != NULL) kwr_printable(name, strlen(name), out->exception, sizeof out->exception);
    if (message != NULL)
        kwr_printable(message, strcspn(message, "\r\n"), out->message, sizeof out->message);
    json_decref(root);
}

static kwr_webhdfs_verdict verdict_of_status(int http_status) {
    if (http_status == 401) return KWR_WEBHDFS_LOGIN;
    if (http_status == 429 || http_status == 503) return KWR_WEBHDFS_LATER;
    /* A server that broke while at it, or a proxy that lost it. */
    if (http_status >= 500) return KWR_WEBHDFS_DOUBTFUL;
    /* An answer that is no word of WebHDFS: 2xx and 3xx are not refusals. */
    return http_status < 400 ? KWR_WEBHDFS_DOUBTFUL : KWR_WEBHDFS_FAILED;
}

void kwr_webhdfs_read_error(int http_status, kwr_slice body, kwr_webhdfs_error *out) {
    *out = (kwr_webhdfs_error){ .status = KWR_ERR_IO };
    read_exception(body, out);
    out->verdict = verdict_of_status(http_status);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (strcmp(out->exception, rules[i].exception) != 0) continue;
        out->verdict = rules[i].verdict;
        out->status = rules[i].status;
        return;
    }
    /* A 404 without the exception that belongs to it is some other server's: nothing is missing. */
}

/* ---- successes ---- */

kwr_status kwr_webhdfs_read_boolean(kwr_slice body, bool *out) {
    json_t *root = load(body);
    const json_t *value = json_object_get(root, "boolean");
    const bool good = json_is_boolean(value);
    if (good) *out = json_is_true(value);
    json_decref(root);
    return good ? KWR_OK : KWR_ERR_CORRUPT;
}

static bool read_number(const json_t *object, const char *field, uint64_t *out) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

kwr_status kwr_webhdfs_read_status(kwr_slice body, kwr_webhdfs_status *out) {
    json_t *root = load(body);
    const json_t *inner = json_object_get(root, "FileStatus");
    const char *type = json_string_value(json_object_get(inner, "type"));
    const char *permission = json_string_value(json_object_get(inner, "permission"));
    kwr_webhdfs_status got = { 0 };
    bool good = type != NULL && read_number(inner, "length", &got.length);
    good = good && (strcmp(type, "FILE") == 0 || strcmp(type, "DIRECTORY") == 0);
    if (good) {
        got.directory = type[0] == 'D';
        if (!read_number(inner, "fileId", &got.file_id)) got.file_id = 0;
        if (permission != NULL) snprintf(got.permission, sizeof got.permission, "%.7s", permission);
        *out = got;
    }
    json_decref(root);
    return good ? KWR_OK : KWR_ERR_CORRUPT;
}

kwr_status kwr_webhdfs_read_token(kwr_slice body, char *out, size_t capacity) {
    json_t *root = load(body);
    const json_t *token = json_object_get(root, "Token");
    const char *text = json_string_value(json_object_get(token, "urlString"));
    if (json_is_null(token)) text = "";
    bool good = text != NULL && strlen(text) < capacity;
    for (const char *at = text; good && *at != '\0'; at++)
        good = *at > ' ' && *at <= '~';
    if (good) memcpy(out, text, strlen(text) + 1);
    json_decref(root);
    return good ? KWR_OK : KWR_ERR_CORRUPT;
}

static bool component_ok(const json_t *value) {
    const char *name = json_string_value(value);
    const size_t size = json_string_length(value);
    if (name == NULL || size == 0 || size > KWR_WEBHDFS_NAME_MAX || size != strlen(name))
        return false;
    for (size_t i = 0; i < size; i++)
        if (name[i] == '/' || (unsigned char)name[i] < ' ') return false;
    return true;
}

/* The array of statuses in either form of a listing. */
static const json_t *find_entries(const json_t *root, uint64_t *left) {
    *left = 0;
    const json_t *listing = json_object_get(root, "DirectoryListing");
    if (listing == NULL)
        return json_object_get(json_object_get(root, "FileStatuses"), "FileStatus");
    if (!read_number(listing, "remainingEntries", left)) return NULL;
    const json_t *part = json_object_get(listing, "partialListing");
    return json_object_get(json_object_get(part, "FileStatuses"), "FileStatus");
}

kwr_status kwr_webhdfs_read_listing(kwr_slice body, kwr_list_fn fn, void *fn_ctx,
                                    char last[KWR_WEBHDFS_NAME_MAX + 1], uint64_t *left) {
    json_t *root = load(body);
    uint64_t remaining = 0;
    const json_t *entries = find_entries(root, &remaining);
    kwr_status status = json_is_array(entries) ? KWR_OK : KWR_ERR_CORRUPT;
    const size_t count = status >= KWR_OK ? json_array_size(entries) : 0;
    /* All are looked at before any is told. */
    for (size_t i = 0; i < count && status >= KWR_OK; i++)
        if (!component_ok(json_object_get(json_array_get(entries, i), "pathSuffix")))
            status = KWR_ERR_CORRUPT;
    if (status >= KWR_OK) {
        *left = remaining;
        last[0] = '\0';
    }
    for (size_t i = 0; i < count && status >= KWR_OK; i++) {
        const char *name =
            json_string_value(json_object_get(json_array_get(entries, i), "pathSuffix"));
        memcpy(last, name, strlen(name) + 1);
        status = fn(fn_ctx, name);
    }
    json_decref(root);
    return status;
}
