/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of a few names. Each has the version processes see and the one a power loss leaves;
 * syncing a directory makes the first the second, for every name in it. A file's bytes last when
 * they were synced; what was not is torn.
 */
#include <stdio.h>
#include <string.h>

#include "tests/model/model.h"
#include "tests/model/must.h"

enum { NAMES_MAX = 64 };

typedef struct version {
    uint32_t content;
    uint8_t present, synced, directory, pad;
} version;

typedef struct entry {
    uint32_t path;
    version visible, durable;
} entry;

typedef struct disk {
    unsigned count;
    entry entries[NAMES_MAX];
} disk;

static void load(uint32_t id, disk *out) {
    size_t size;
    const void *data = model_pool_get(id, &size);
    out->count = (unsigned)(size / sizeof(entry));
    memcpy(out->entries, data, size);
}

static bool same_version(const version *a, const version *b) {
    if (!a->present || !b->present) return a->present == b->present;
    return a->content == b->content && a->synced == b->synced;
}

/* Names that are nowhere any more are forgotten; sorted by text, so that equal disks are equal. */
static uint32_t store(disk *d) {
    unsigned kept = 0;
    for (unsigned i = 0; i < d->count; i++) {
        entry e = d->entries[i];
        if (!e.visible.present && !e.durable.present) continue;
        if (!e.visible.present) memset(&e.visible, 0, sizeof e.visible);
        if (!e.durable.present) memset(&e.durable, 0, sizeof e.durable);
        unsigned at = kept++;
        for (; at > 0 &&
               strcmp(model_pool_text(d->entries[at - 1].path), model_pool_text(e.path)) > 0;
             at--)
            d->entries[at] = d->entries[at - 1];
        d->entries[at] = e;
    }
    d->count = kept;
    return model_pool_put(d->entries, kept * sizeof(entry));
}

static entry *find(disk *d, uint32_t path) {
    for (unsigned i = 0; i < d->count; i++)
        if (d->entries[i].path == path) return &d->entries[i];
    return NULL;
}

static entry *find_visible(disk *d, uint32_t path) {
    entry *e = find(d, path);
    return e != NULL && e->visible.present ? e : NULL;
}

static entry *add(disk *d, uint32_t path) {
    entry *e = find(d, path);
    if (e != NULL) return e;
    if (d->count == NAMES_MAX) {
        fputs("model: too many names on the disk\n", stderr);
        abort();
    }
    e = &d->entries[d->count++];
    memset(e, 0, sizeof *e);
    e->path = path;
    return e;
}

/* The name in `directory` that `path` is, NULL when it is elsewhere. */
static const char *name_in(uint32_t directory, uint32_t path) {
    const char *dir = model_pool_text(directory), *text = model_pool_text(path);
    const size_t size = strlen(dir);
    if (strncmp(dir, text, size) != 0 || text[size] != '/') return NULL;
    return strchr(text + size + 1, '/') == NULL ? text + size + 1 : NULL;
}

uint32_t model_disk_new(void) {
    disk d = { .count = 0 };
    entry *e = add(&d, model_pool_put("/ckpt", 6));
    e->visible = e->durable = (version){ .present = 1, .synced = 1, .directory = 1 };
    return store(&d);
}

static kwr_status list(disk *d, uint32_t directory, uint32_t *names) {
    char text[4096];
    size_t size = 0;
    for (unsigned i = 0; i < d->count; i++) {
        const char *name = name_in(directory, d->entries[i].path);
        if (name == NULL || !d->entries[i].visible.present) continue;
        const size_t n = strlen(name) + 1;
        if (size + n > sizeof text) abort();
        memcpy(text + size, name, n);
        size += n;
    }
    *names = model_pool_put(text, size);
    return KWR_OK;
}

static bool is_empty(const disk *d, uint32_t directory) {
    for (unsigned i = 0; i < d->count; i++)
        if (d->entries[i].visible.present && name_in(directory, d->entries[i].path) != NULL)
            return false;
    return true;
}

static kwr_status make_dir(disk *d, uint32_t path, bool create) {
    entry *e = find_visible(d, path);
    if (e != NULL) return e->visible.directory ? KWR_OK : KWR_ERR_MISMATCH;
    if (!create) return KWR_ERR_MISSING;
    add(d, path)->visible = (version){ .present = 1, .synced = 1, .directory = 1 };
    return KWR_OK;
}

static kwr_status sync_dir(disk *d, uint32_t directory) {
    if (find_visible(d, directory) == NULL) return KWR_OK; /* removed, but somebody has it open */
    for (unsigned i = 0; i < d->count; i++)
        if (name_in(directory, d->entries[i].path) != NULL)
            d->entries[i].durable = d->entries[i].visible;
    return KWR_OK;
}

static kwr_status sync_file(disk *d, uint32_t path, uint32_t content) {
    entry *e = find(d, path);
    if (e == NULL) return KWR_OK; /* removed meanwhile */
    if (e->visible.present && !e->visible.synced) {
        e->visible.content = content;
        e->visible.synced = 1;
    }
    if (e->durable.present && !e->durable.synced) {
        e->durable.content = content;
        e->durable.synced = 1;
    }
    return KWR_OK;
}

static kwr_status create(disk *d, const model_request *r) {
    char parent[256];
    snprintf(parent, sizeof parent, "%s", model_pool_text(r->path));
    *strrchr(parent, '/') = '\0';
    if (find_visible(d, model_pool_put(parent, strlen(parent) + 1)) == NULL) return KWR_ERR_MISSING;
    if (find_visible(d, r->path) != NULL) return KWR_ERR_EXISTS;
    add(d, r->path)->visible = (version){ .present = 1 };
    return KWR_OK;
}

static kwr_status make_link(disk *d, const model_request *r, model_mutation mutation) {
    const entry *from = find_visible(d, r->path);
    if (from == NULL) return KWR_ERR_MISSING;
    const version what = from->visible;
    if (find_visible(d, r->to) != NULL && mutation != MUTATE_LINK_REPLACES) return KWR_ERR_EXISTS;
    add(d, r->to)->visible = what;
    return KWR_OK;
}

static kwr_status remove_name(disk *d, const model_request *r) {
    entry *e = find_visible(d, r->path);
    if (e == NULL) return KWR_ERR_MISSING;
    if (e->visible.directory != (r->op == OP_REMOVE_DIR)) return KWR_ERR_MISMATCH;
    if (r->op == OP_REMOVE_DIR && !is_empty(d, r->path)) return KWR_ERR_IO;
    memset(&e->visible, 0, sizeof e->visible);
    return KWR_OK;
}

uint32_t model_disk_apply(uint32_t id, const model_request *r, model_mutation mutation,
                          model_result *result) {
    disk d;
    load(id, &d);
    kwr_status status = KWR_OK;
    uint32_t payload = 0;
    switch ((model_op)r->op) {
    case OP_OPEN_DIR: status = make_dir(&d, r->path, false); break;
    case OP_MAKE_DIR: status = make_dir(&d, r->path, true); break;
    case OP_LIST: status = list(&d, r->path, &payload); break;
    case OP_SYNC_DIR:
        if (mutation != MUTATE_DIRECTORY_SYNC) status = sync_dir(&d, r->path);
        break;
    case OP_CREATE: status = create(&d, r); break;
    case OP_SYNC:
        status = sync_file(&d, r->path, r->data);
        if (mutation == MUTATE_FILE_SYNC) {
            entry *e = find(&d, r->path);
            if (e != NULL) e->visible.synced = e->durable.synced = 0;
        }
        break;
    case OP_OPEN: {
        const entry *e = find_visible(&d, r->path);
        if (e == NULL)
            status = KWR_ERR_MISSING;
        else
            payload = e->visible.content;
        break;
    }
    case OP_LINK: status = make_link(&d, r, mutation); break;
    case OP_REMOVE:
    case OP_REMOVE_DIR: status = remove_name(&d, r); break;
    }
    *result = (model_result){ status, payload };
    return store(&d);
}

bool model_disk_has(uint32_t id, uint32_t path) {
    disk d;
    load(id, &d);
    return find_visible(&d, path) != NULL;
}

/* ---- power loss ---- */

unsigned model_disk_unsynced(uint32_t id) {
    disk d;
    load(id, &d);
    unsigned changes = 0;
    for (unsigned i = 0; i < d.count; i++)
        changes += !same_version(&d.entries[i].visible, &d.entries[i].durable);
    return changes;
}

static bool has_parent(disk *d, uint32_t path) {
    char parent[256];
    snprintf(parent, sizeof parent, "%s", model_pool_text(path));
    *strrchr(parent, '/') = '\0';
    return parent[0] == '\0' || find_visible(d, model_pool_put(parent, strlen(parent) + 1)) != NULL;
}

uint32_t model_disk_power_loss(uint32_t id, unsigned outcome) {
    disk d;
    load(id, &d);
    unsigned change = 0;
    for (unsigned i = 0; i < d.count; i++) {
        entry *e = &d.entries[i];
        const bool differs = !same_version(&e->visible, &e->durable);
        if (!differs || (outcome >> change++ & 1) == 0) e->visible = e->durable;
        if (e->visible.present && !e->visible.synced) {
            e->visible.content = 0; /* torn */
            e->visible.synced = 1;
        }
        e->durable = e->visible;
    }
    /* Sorted: what holds a name comes before it. */
    for (unsigned i = 0; i < d.count; i++) {
        entry *e = &d.entries[i];
        if (e->visible.present && !has_parent(&d, e->path)) {
            memset(&e->visible, 0, sizeof e->visible);
            memset(&e->durable, 0, sizeof e->durable);
        }
    }
    return store(&d);
}

void model_disk_print(uint32_t id) {
    disk d;
    load(id, &d);
    for (unsigned i = 0; i < d.count; i++) {
        const entry *e = &d.entries[i];
        printf("    %-60s %s %s\n", model_pool_text(e->path),
               !e->visible.present ? "removed"
               : e->visible.synced ? "seen"
                                   : "seen, torn",
               !e->durable.present ? "not durable"
               : e->durable.synced ? "durable"
                                   : "durable, torn");
    }
}
