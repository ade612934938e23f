/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/location.h"

#include "base/error.h"
#include "base/name.h"
#include "snapshot/url.h"

static kwr_status refuse(const kwr_location *location, const char *what, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': %s", location->shown, what);
}

/* A decoded copy of text[0..size); NULL with the reason in `err`. */
static char *decoded(kwr_location *location, const char *text, size_t size, kwr_status *status,
                     kwr_error *err) {
    char *copy = kwr_arena_string(location->arena, text, size);
    if (copy == NULL) {
        *status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    } else if (!kwr_url_decode(copy, &size)) {
        *status = refuse(location, "a '%' is not followed by two hex digits (or they are 00)", err);
        return NULL;
    } else {
        copy[size] = '\0';
    }
    return copy;
}

/* Components without "." and "..", nothing empty between them, no control characters. */
static kwr_status check_path(const kwr_location *location, char *path, kwr_error *err) {
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            return refuse(location, "a control character is in the path", err);
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        path[--size] = '\0';
    for (const char *at = path; size > 1 && *at == '/';) {
        const size_t length = strcspn(++at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') ||
            (length == 2 && strncmp(at, "..", 2) == 0))
            return refuse(location, "a component of the path is empty, '.' or '..'", err);
        at += length;
    }
    return KWR_OK;
}

static kwr_status add_param(kwr_location *location, const char *text, size_t size, kwr_error *err) {
    if (location->param_count == KWR_LOCATION_PARAMS_MAX)
        return refuse(location, "it has too many parameters", err);
    const char *equals = memchr(text, '=', size);
    if (equals == NULL || equals == text)
        return refuse(location, "a parameter is not of the form name=value", err);
    kwr_location_param *p = &location->params[location->param_count];
    const size_t name = (size_t)(equals - text);
    kwr_status status = KWR_OK;
    p->name = decoded(location, text, name, &status, err);
    if (p->name != NULL) p->value = decoded(location, equals + 1, size - name - 1, &status, err);
    if (p->name == NULL || p->value == NULL) return status;
    if (strpbrk(p->value, "\r\n") != NULL)
        return refuse(location, "a parameter has a line break in it", err);
    location->param_count++;
    return KWR_OK;
}

static kwr_status split(kwr_location *l, const char *uri, kwr_error *err) {
    const size_t scheme = strcspn(uri, ":"), end = strcspn(uri, "?");
    l->shown = kwr_arena_string(l->arena, uri, end);
    l->scheme = kwr_arena_string(l->arena, uri, scheme);
    if (l->shown == NULL || l->scheme == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    if (strncmp(uri + scheme, "://", 3) != 0) return refuse(l, "'://' must follow the scheme", err);
    const char *authority = uri + scheme + 3;
    size_t size = strcspn(authority, "/?#");
    const char *path = authority + size;
    const char *at = memchr(authority, '@', size);
    kwr_status status = KWR_OK;
    if (at != NULL) {
        if (memchr(authority, ':', (size_t)(at - authority)) != NULL) {
            l->shown = l->scheme;
            return refuse(l, "no password may be in a URI", err);
        }
        l->user = decoded(l, authority, (size_t)(at - authority), &status, err);
        if (l->user == NULL) return status;
        size -= (size_t)(at + 1 - authority);
        authority = at + 1;
    }
    l->authority = kwr_arena_string(l->arena, authority, size);
    if (l->authority == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    if (*path == '#' || strchr(path, '#') != NULL)
        return refuse(l, "'#' has no meaning here, write %23", err);
    const size_t length = strcspn(path, "?");
    char *own =
        length == 0 ? kwr_arena_string(l->arena, "/", 1) : decoded(l, path, length, &status, err);
    if (own == NULL)
        return status < KWR_OK ? status : KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a path");
    l->path = own;
    KWR_TRY(check_path(l, own, err));
    for (const char *param = path + length; *param != '\0';) {
        const size_t one = strcspn(++param, "&");
        KWR_TRY(add_param(l, param, one, err));
        param += one;
    }
    return KWR_OK;
}

kwr_status kwr_location_parse(const kwr_env *env, const char *uri, kwr_location *out,
                              kwr_error *err) {
    if (strnlen(uri, KWR_LOCATION_MAX + 1) > KWR_LOCATION_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the URI of a storage is longer than %d bytes",
                        KWR_LOCATION_MAX);
    kwr_location location = { .arena = kwr_arena_new(env, 0) };
    if (location.arena == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a storage");
    const kwr_status status = split(&location, uri, err);
    if (status < KWR_OK) {
        kwr_location_free(&location);
        return status;
    }
    *out = location;
    return KWR_OK;
}

void kwr_location_free(kwr_location *location) {
    if (location->arena != NULL) kwr_arena_free(location->arena);
    *location = (kwr_location){ 0 };
}

kwr_status kwr_location_check(const kwr_location *location, const char *const *known, size_t count,
                              kwr_error *err) {
    for (size_t i = 0; i < location->param_count; i++) {
        const char *name = location->params[i].name;
        bool good = false;
        for (size_t k = 0; k < count && !good; k++)
            good = strcmp(name, known[k]) == 0;
        for (size_t k = 0; k < i; k++)
            if (strcmp(name, location->params[k].name) == 0)
                return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                                "storage '%s': parameter %.40s is there twice", location->shown,
                                name);
        if (good) continue;
        char shown[48], list[400] = "";
        kwr_printable(name, strlen(name), shown, sizeof shown);
        for (size_t k = 0, used = 0; k < count && used + 48 < sizeof list; k++) {
            if (k > 0) memcpy(list + used, ", ", 3), used += 2;
            memcpy(list + used, known[k], strlen(known[k]) + 1);
            used += strlen(known[k]);
        }
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': no parameter '%s'; there are %s",
                        location->shown, shown, list);
    }
    return KWR_OK;
}

const char *kwr_location_get(const kwr_location *location, const char *name) {
    for (size_t i = 0; i < location->param_count; i++)
        if (strcmp(location->params[i].name, name) == 0) return location->params[i].value;
    return NULL;
}

kwr_status kwr_location_number(const kwr_location *location, const char *name, uint64_t min,
                               uint64_t max, uint64_t *value, kwr_error *err) {
    const char *text = kwr_location_get(location, name);
    if (text == NULL) return KWR_OK;
    uint64_t number = 0;
    if (!kwr_parse_u64(text, strlen(text), &number) || number < min || number > max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "storage '%s': %s must be a number from %llu to %llu", location->shown,
                        name, (unsigned long long)min, (unsigned long long)max);
    *value = number;
    return KWR_OK;
}

kwr_status kwr_location_flag(const kwr_location *location, const char *name, bool *value,
                             kwr_error *err) {
    const char *text = kwr_location_get(location, name);
    if (text == NULL) return KWR_OK;
    const bool yes = strcmp(text, "yes") == 0;
    if (!yes && strcmp(text, "no") != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "storage '%s': %s must be yes or no",
                        location->shown, name);
    *value = yes;
    return KWR_OK;
}

/* ---- local files ---- */

static kwr_status read_whole(const kwr_fs *fs, kwr_dir *dir, const char *name, const char *path,
                             size_t size_max, kwr_buffer *out, kwr_error *err) {
    kwr_file *file = NULL;
    kwr_file_info info = { 0 };
    KWR_TRY(fs->open(fs->ctx, dir, name, KWR_FS_FOLLOW, &file, &info, err));
    kwr_status status = KWR_OK;
    uint64_t at = 0;
    while (status >= KWR_OK) {
        uint8_t piece[4096];
        size_t done = 0;
        status = fs->read(fs->ctx, file, at, piece, sizeof piece, &done, err);
        if (status >= KWR_OK && done == 0) break;
        if (status >= KWR_OK && done > size_max - at)
            status =
                KWR_FAIL(err, KWR_ERR_RANGE, 0, "'%s' is larger than %zu bytes", path, size_max);
        if (status >= KWR_OK) kwr_buffer_append(out, piece, done);
        at += done;
        kwr_wipe(piece, sizeof piece);
    }
    (void)fs->close(fs->ctx, file, NULL);
    if (status >= KWR_OK && out->failed)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", path);
    return status;
}

kwr_status kwr_read_local_file(const kwr_env *env, const char *path, size_t size_max,
                               kwr_buffer *out, kwr_error *err) {
    const kwr_fs *fs = env->fs;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    kwr_buffer parent = { .env = env };
    if (slash == NULL)
        kwr_buffer_append(&parent, ".", 2);
    else {
        kwr_buffer_append(&parent, path, slash == path ? 1 : (size_t)(slash - path));
        kwr_buffer_append(&parent, "", 1);
    }
    kwr_dir *dir = NULL;
    kwr_status status = KWR_OK;
    if (parent.failed)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", path);
    else
        status = fs->open_root(fs->ctx, (const char *)parent.data, KWR_FS_FOLLOW, &dir, err);
    if (status >= KWR_OK) {
        status = read_whole(fs, dir, name, path, size_max, out, err);
        fs->close_dir(fs->ctx, dir);
    }
    kwr_buffer_free(&parent);
    return status;
}

void kwr_wipe(void *secret, size_t size) {
    volatile unsigned char *at = secret;
    for (size_t i = 0; i < size; i++)
        at[i] = 0;
}
