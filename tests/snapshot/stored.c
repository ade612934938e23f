/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/snapshot/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "snapshot/storage.h"

enum { DEPTH = 3 };

/* Directories from the root down, and what is left of the path: the last name. */
typedef struct opened {
    kwr_storage_dir *dirs[DEPTH];
    size_t count;
    char name[256];
} opened;

static bool open_path(const fixture *f, const char *path, bool create, opened *out) {
    *out = (opened){ 0 };
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(path, '/')) {
        char name[256];
        kwr_storage_dir *parent = out->count == 0 ? NULL : out->dirs[out->count - 1];
        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        if (f->storage->ops->dir_open(f->storage, parent, name, create, &out->dirs[out->count],
                                      NULL) < KWR_OK)
            return false;
        out->count++;
        path = slash + 1;
    }
    snprintf(out->name, sizeof out->name, "%s", path);
    return true;
}

static kwr_storage_dir *last(const opened *o) {
    return o->count == 0 ? NULL : o->dirs[o->count - 1];
}

static void close_path(const fixture *f, opened *o) {
    while (o->count > 0)
        f->storage->ops->dir_close(f->storage, o->dirs[--o->count]);
}

uint8_t *stored_get(const fixture *f, const char *path, size_t *size) {
    opened o;
    kwr_bytes bytes = { 0 };
    uint8_t *copy = NULL;
    if (open_path(f, path, false, &o) &&
        kwr_storage_read_file(f->env, f->storage, last(&o), o.name, UINT32_MAX, &bytes, NULL) >=
            KWR_OK) {
        copy = malloc(bytes.size + 1);
        memcpy(copy, bytes.data, bytes.size);
        *size = bytes.size;
        kwr_bytes_free(&bytes);
    }
    close_path(f, &o);
    return copy;
}

void stored_put(const fixture *f, const char *path, const void *data, size_t size) {
    opened o;
    kwr_error err = { 0 };
    cr_assert(open_path(f, path, true, &o), "%s", path);
    (void)f->storage->ops->remove(f->storage, last(&o), o.name, NULL);
    KWR_MUST_ERR(kwr_storage_write_file(f->storage, last(&o), o.name, data, size, &err), err);
    close_path(f, &o);
}

void stored_remove(const fixture *f, const char *path) {
    opened o;
    kwr_error err = { 0 };
    cr_assert(open_path(f, path, false, &o), "%s", path);
    KWR_MUST_ERR(f->storage->ops->remove(f->storage, last(&o), o.name, &err), err);
    close_path(f, &o);
}

bool stored_there(const fixture *f, const char *path) {
    size_t size = 0;
    uint8_t *bytes = stored_get(f, path, &size);
    free(bytes);
    return bytes != NULL;
}

void stored_flip(const fixture *f, const char *path, size_t offset) {
    size_t size = 0;
    uint8_t *bytes = stored_get(f, path, &size);
    cr_assert(bytes != NULL && offset < size, "%s", path);
    bytes[offset] ^= 0x10;
    stored_put(f, path, bytes, size);
    free(bytes);
}

void stored_cut(const fixture *f, const char *path, size_t size) {
    size_t have = 0;
    uint8_t *bytes = stored_get(f, path, &have);
    cr_assert(bytes != NULL && size < have, "%s", path);
    stored_put(f, path, bytes, size);
    free(bytes);
}

typedef struct counting {
    size_t count;
    char *first;
} counting;

static kwr_status count_name(void *ctx, const char *name) {
    counting *c = ctx;
    if (c->count++ == 0 && c->first != NULL) snprintf(c->first, 256, "%s", name);
    return KWR_OK;
}

size_t stored_count(const fixture *f, const char *directory, const char *prefix, char first[256]) {
    opened o;
    char path[300];
    counting c = { .first = first };
    snprintf(path, sizeof path, "%s/", directory);
    if (open_path(f, path, false, &o))
        KWR_MUST(f->storage->ops->list(f->storage, last(&o), prefix, count_name, &c, NULL));
    close_path(f, &o);
    return c.count;
}

/* ---- everything ---- */

typedef struct summing {
    const fixture *f;
    const char *directory;
    uint64_t sum;
    uint64_t depth;
} summing;

static kwr_status sum_name(void *ctx, const char *name);

static uint64_t sum_below(const fixture *f, const char *directory, uint64_t depth) {
    opened o;
    char path[600];
    summing s = { .f = f, .directory = directory, .depth = depth };
    snprintf(path, sizeof path, "%s/", directory);
    if (open_path(f, path, false, &o))
        KWR_MUST(f->storage->ops->list(f->storage, last(&o), "", sum_name, &s, NULL));
    close_path(f, &o);
    return s.sum;
}

/* In any order: listings have none. */
static kwr_status sum_name(void *ctx, const char *name) {
    summing *s = ctx;
    char path[600];
    size_t size = 0;
    if (strcmp(name, "lock") == 0) return KWR_OK;
    snprintf(path, sizeof path, "%s/%s", s->directory, name);
    s->sum += kwr_hash64(path, strlen(path), 1);
    uint8_t *bytes = stored_get(s->f, path, &size);
    if (bytes != NULL)
        s->sum += kwr_hash64(bytes, size, kwr_hash64(path, strlen(path), 2));
    else if (s->depth < 2)
        s->sum += sum_below(s->f, path, s->depth + 1);
    free(bytes);
    return KWR_OK;
}

uint64_t stored_sum(const fixture *f) { return sum_below(f, "job", 0); }
