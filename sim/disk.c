/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files are append-only here as the library's are: the durable image of a file is a prefix of the
 * visible one. Directories keep the visible entries, the durable ones, and in between the list of
 * updates not yet synced, each of which a power loss may keep or drop.
 */
#include "sim/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy_text(const char *text) { return kwr_sim_must(strdup(text)); }

kwr_sim_inode *kwr_sim_inode_new(kwr_sim_disk *disk, bool directory) {
    kwr_sim_inode *node = kwr_sim_must(calloc(1, sizeof *node));
    node->serial = disk->next_serial++;
    node->references = 1;
    node->directory = directory;
    return node;
}

kwr_sim_inode *kwr_sim_inode_keep(kwr_sim_inode *node) {
    node->references++;
    return node;
}

static void entries_clear(kwr_sim_disk *disk, kwr_sim_entries *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        kwr_sim_inode_drop(disk, list->items[i].node);
    }
    free(list->items);
    *list = (kwr_sim_entries){ 0 };
}

void kwr_sim_inode_drop(kwr_sim_disk *disk, kwr_sim_inode *node) {
    if (--node->references > 0) return;
    entries_clear(disk, &node->visible);
    entries_clear(disk, &node->durable);
    disk->used -= node->size;
    free(node->data);
    free(node);
}

/* Where `name` is, or would be. */
static size_t entries_at(const kwr_sim_entries *list, const char *name, bool *found) {
    size_t low = 0, high = list->count;
    *found = false;
    while (low < high && !*found) {
        const size_t middle = (low + high) / 2;
        const int order = strcmp(list->items[middle].name, name);
        *found = order == 0;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

kwr_sim_inode *kwr_sim_entries_find(const kwr_sim_entries *list, const char *name) {
    bool found;
    const size_t at = entries_at(list, name, &found);
    return found ? list->items[at].node : NULL;
}

static void entries_remove(kwr_sim_disk *disk, kwr_sim_entries *list, const char *name) {
    bool found;
    const size_t at = entries_at(list, name, &found);
    if (!found) return;
    kwr_sim_inode *node = list->items[at].node;
    free(list->items[at].name);
    memmove(&list->items[at], &list->items[at + 1], (--list->count - at) * sizeof *list->items);
    kwr_sim_inode_drop(disk, node);
}

static void entries_set(kwr_sim_disk *disk, kwr_sim_entries *list, const char *name,
                        kwr_sim_inode *node) {
    bool found;
    const size_t at = entries_at(list, name, &found);
    kwr_sim_inode_keep(node);
    if (found) {
        kwr_sim_inode_drop(disk, list->items[at].node);
        list->items[at].node = node;
        return;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
        list->items = kwr_sim_must(realloc(list->items, list->capacity * sizeof *list->items));
    }
    memmove(&list->items[at + 1], &list->items[at], (list->count++ - at) * sizeof *list->items);
    list->items[at] = (kwr_sim_entry){ copy_text(name), node };
}

static void update_apply(kwr_sim_disk *disk, const kwr_sim_update *u) {
    if (u->from_dir != NULL) entries_remove(disk, &u->from_dir->durable, u->from_name);
    if (u->node != NULL)
        entries_set(disk, &u->dir->durable, u->name, u->node);
    else
        entries_remove(disk, &u->dir->durable, u->name);
}

static void update_done(kwr_sim_disk *disk, kwr_sim_update *u) {
    kwr_sim_inode_drop(disk, u->dir);
    free(u->name);
    if (u->node != NULL) kwr_sim_inode_drop(disk, u->node);
    if (u->from_dir != NULL) kwr_sim_inode_drop(disk, u->from_dir);
    free(u->from_name);
}

/* What is not yet synced of the names in `dir` is. */
void kwr_sim_sync_names(kwr_sim_disk *disk, const kwr_sim_inode *dir) {
    size_t kept = 0;
    for (size_t i = 0; i < disk->update_count; i++) {
        kwr_sim_update *u = &disk->updates[i];
        if (u->dir == dir || u->from_dir == dir) {
            update_apply(disk, u);
            update_done(disk, u);
        } else {
            disk->updates[kept++] = *u;
        }
    }
    disk->update_count = kept;
}

/* Changes the visible image and remembers the change. */
void kwr_sim_change(kwr_sim_disk *disk, kwr_sim_inode *dir, const char *name, kwr_sim_inode *node,
                    kwr_sim_inode *from_dir, const char *from_name) {
    if (disk->update_count == disk->update_capacity) {
        disk->update_capacity = disk->update_capacity == 0 ? 16 : 2 * disk->update_capacity;
        disk->updates =
            kwr_sim_must(realloc(disk->updates, disk->update_capacity * sizeof(kwr_sim_update)));
    }
    disk->updates[disk->update_count++] = (kwr_sim_update){
        .order = ++disk->order,
        .dir = kwr_sim_inode_keep(dir),
        .name = copy_text(name),
        .node = node == NULL ? NULL : kwr_sim_inode_keep(node),
        .from_dir = from_dir == NULL ? NULL : kwr_sim_inode_keep(from_dir),
        .from_name = from_name == NULL ? NULL : copy_text(from_name),
    };
    if (from_dir != NULL) entries_remove(disk, &from_dir->visible, from_name);
    if (node != NULL)
        entries_set(disk, &dir->visible, name, node);
    else
        entries_remove(disk, &dir->visible, name);
}

kwr_sim_disk *kwr_sim_disk_new(void) {
    kwr_sim_disk *disk = kwr_sim_must(calloc(1, sizeof *disk));
    disk->root = kwr_sim_inode_new(disk, true);
    disk->capacity = UINT64_MAX;
    return disk;
}

void kwr_sim_disk_free(kwr_sim_disk *disk) {
    if (disk == NULL) return;
    while (disk->mounts != NULL) { /* their processes may be closed later */
        kwr_sim_mount *mount = disk->mounts;
        kwr_sim_mount_drop(mount);
        KWR_SIM_LINK_OUT(mount);
        mount->disk = NULL;
    }
    kwr_sim_disk_repair(disk);
    for (size_t i = 0; i < disk->update_count; i++)
        update_done(disk, &disk->updates[i]);
    free(disk->updates);
    kwr_sim_inode_drop(disk, disk->root);
    free(disk);
}

uint64_t kwr_sim_disk_used(const kwr_sim_disk *disk) { return disk->used; }
void kwr_sim_disk_set_capacity(kwr_sim_disk *disk, uint64_t capacity) { disk->capacity = capacity; }

/* ---- copies ---- */

typedef struct copying {
    kwr_sim_disk *disk;
    kwr_sim_inode **twins; /* by serial */
} copying;

static kwr_sim_inode *copy_node(copying *c, const kwr_sim_inode *node);

static void copy_entries(copying *c, const kwr_sim_entries *from, kwr_sim_entries *to) {
    if (from->count == 0) return;
    to->items = kwr_sim_must(malloc(from->count * sizeof *to->items));
    to->count = to->capacity = from->count;
    for (size_t i = 0; i < from->count; i++)
        to->items[i] = (kwr_sim_entry){ copy_text(from->items[i].name),
                                        kwr_sim_inode_keep(copy_node(c, from->items[i].node)) };
}

static kwr_sim_inode *copy_node(copying *c, const kwr_sim_inode *node) {
    if (c->twins[node->serial] != NULL) return c->twins[node->serial];
    kwr_sim_inode *copy = kwr_sim_must(malloc(sizeof *copy));
    *copy = (kwr_sim_inode){ .serial = node->serial,
                             .directory = node->directory,
                             .size = node->size,
                             .capacity = node->size,
                             .synced = node->synced,
                             .lost = node->lost,
                             .order = node->order };
    c->twins[node->serial] = copy;
    if (node->size > 0) {
        copy->data = kwr_sim_must(malloc(node->size));
        memcpy(copy->data, node->data, node->size);
    }
    c->disk->used += copy->size;
    copy_entries(c, &node->visible, &copy->visible);
    copy_entries(c, &node->durable, &copy->durable);
    return copy;
}

static kwr_sim_inode *copy_kept(copying *c, const kwr_sim_inode *node) {
    return node == NULL ? NULL : kwr_sim_inode_keep(copy_node(c, node));
}

static void copy_updates(copying *c, const kwr_sim_disk *disk) {
    if (disk->update_count == 0) return;
    c->disk->updates = kwr_sim_must(malloc(disk->update_count * sizeof *disk->updates));
    c->disk->update_count = c->disk->update_capacity = disk->update_count;
    for (size_t i = 0; i < disk->update_count; i++) {
        const kwr_sim_update *u = &disk->updates[i];
        c->disk->updates[i] = (kwr_sim_update){
            .order = u->order,
            .dir = copy_kept(c, u->dir),
            .name = copy_text(u->name),
            .node = copy_kept(c, u->node),
            .from_dir = copy_kept(c, u->from_dir),
            .from_name = u->from_name == NULL ? NULL : copy_text(u->from_name),
        };
    }
}

kwr_sim_disk *kwr_sim_disk_copy(const kwr_sim_disk *disk) {
    copying c = { .disk = kwr_sim_must(calloc(1, sizeof *c.disk)) };
    c.twins = kwr_sim_must(calloc(disk->next_serial, sizeof(kwr_sim_inode *)));
    c.disk->capacity = disk->capacity;
    c.disk->order = disk->order;
    c.disk->next_serial = disk->next_serial;
    c.disk->root = copy_kept(&c, disk->root);
    copy_updates(&c, disk);
    if (disk->damage.node != NULL) {
        c.disk->damage.node = copy_kept(&c, disk->damage.node);
        c.disk->damage.offset = disk->damage.offset;
        c.disk->damage.size = disk->damage.size;
        c.disk->damage.old = kwr_sim_must(malloc(disk->damage.size));
        memcpy(c.disk->damage.old, disk->damage.old, disk->damage.size);
    }
    free(c.twins);
    return c.disk;
}

/* ---- power loss ---- */

/* Leaves `keep` bytes of the file, those beyond `good` replaced as the outcome says. */
static void settle_file(kwr_sim_disk *disk, kwr_sim_inode *node, kwr_sim_power outcome,
                        uint64_t cut, kwr_sim_rng *rng) {
    size_t keep = node->synced;
    if (node->size > node->synced && !node->lost) {
        const size_t tail = node->size - node->synced;
        switch (outcome) {
        case KWR_SIM_POWER_NOTHING: break;
        case KWR_SIM_POWER_ALL: keep = node->size; break;
        case KWR_SIM_POWER_PREFIX:
            keep = node->order < cut ? node->size : node->synced + kwr_sim_below(rng, tail + 1);
            break;
        case KWR_SIM_POWER_SUBSET: keep = node->synced + kwr_sim_below(rng, tail + 1); break;
        case KWR_SIM_POWER_ZEROS:
            keep = node->size;
            memset(node->data + node->synced, 0, tail);
            break;
        case KWR_SIM_POWER_GARBAGE:
            keep = node->size;
            for (size_t i = node->synced; i < node->size; i++)
                node->data[i] = (uint8_t)kwr_sim_next(rng);
            break;
        case KWR_SIM_POWER_OUTCOMES: break;
        }
    }
    disk->used -= node->size - keep;
    node->size = node->synced = keep;
    node->lost = false;
    node->locked = false;
}

static bool update_survives(const kwr_sim_update *u, kwr_sim_power outcome, uint64_t cut,
                            kwr_sim_rng *rng) {
    switch (outcome) {
    case KWR_SIM_POWER_NOTHING: return false;
    case KWR_SIM_POWER_ALL:
    case KWR_SIM_POWER_ZEROS:
    case KWR_SIM_POWER_GARBAGE: return true;
    case KWR_SIM_POWER_PREFIX: return u->order < cut;
    case KWR_SIM_POWER_SUBSET: return kwr_sim_below(rng, 2) == 0;
    case KWR_SIM_POWER_OUTCOMES: break;
    }
    return false;
}

/* Visits every directory reachable in the durable image once, making it the visible one. */
static void settle_dir(kwr_sim_disk *disk, kwr_sim_inode *dir, kwr_sim_power outcome, uint64_t cut,
                       kwr_sim_rng *rng) {
    entries_clear(disk, &dir->visible);
    for (size_t i = 0; i < dir->durable.count; i++) {
        kwr_sim_inode *node = dir->durable.items[i].node;
        entries_set(disk, &dir->visible, dir->durable.items[i].name, node);
        if (node->directory)
            settle_dir(disk, node, outcome, cut, rng);
        else
            settle_file(disk, node, outcome, cut, rng);
    }
}

void kwr_sim_disk_power_loss(kwr_sim_disk *disk, kwr_sim_power outcome, kwr_sim_rng *rng) {
    for (kwr_sim_mount *mount = disk->mounts; mount != NULL; mount = mount->next)
        kwr_sim_mount_drop(mount);
    const uint64_t first = disk->update_count == 0 ? disk->order : disk->updates[0].order;
    const uint64_t cut = first + kwr_sim_below(rng, disk->order - first + 2);
    for (size_t i = 0; i < disk->update_count; i++) {
        if (update_survives(&disk->updates[i], outcome, cut, rng))
            update_apply(disk, &disk->updates[i]);
        update_done(disk, &disk->updates[i]);
    }
    disk->update_count = 0;
    settle_dir(disk, disk->root, outcome, cut, rng);
}

/* ---- looking from outside ---- */

enum { PATH_SIZE = 1024 };

static void visit_dir(const kwr_sim_inode *dir, bool durable, char *path, size_t length,
                      kwr_sim_visit visit, void *ctx) {
    const kwr_sim_entries *list = durable ? &dir->durable : &dir->visible;
    for (size_t i = 0; i < list->count; i++) {
        const kwr_sim_inode *node = list->items[i].node;
        const int n = snprintf(path + length, PATH_SIZE - length, "/%s", list->items[i].name);
        if (n < 0 || length + (size_t)n >= PATH_SIZE) continue;
        if (node->directory)
            visit_dir(node, durable, path, length + (size_t)n, visit, ctx);
        else
            visit(ctx, path, node->data, durable ? node->synced : node->size);
        path[length] = '\0';
    }
}

void kwr_sim_disk_visit(const kwr_sim_disk *disk, bool durable, kwr_sim_visit visit, void *ctx) {
    char path[PATH_SIZE] = "";
    visit_dir(disk->root, durable, path, 0, visit, ctx);
}

static kwr_sim_inode *walk(const kwr_sim_disk *disk, bool durable, const char *path) {
    kwr_sim_inode *node = disk->root;
    char name[256];
    while (node != NULL && *path != '\0') {
        while (*path == '/')
            path++;
        const size_t n = strcspn(path, "/");
        if (n == 0) break;
        if (n >= sizeof name || !node->directory) return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        node = kwr_sim_entries_find(durable ? &node->durable : &node->visible, name);
        path += n;
    }
    return node;
}

const void *kwr_sim_disk_file(const kwr_sim_disk *disk, bool durable, const char *path,
                              size_t *size) {
    const kwr_sim_inode *node = walk(disk, durable, path);
    if (node == NULL || node->directory) return NULL;
    *size = durable ? node->synced : node->size;
    return node->data == NULL ? (const void *)"" : node->data;
}

typedef struct hashing {
    const char *below;
    size_t below_size;
    uint64_t hash;
} hashing;

/* Eight bytes at a time, in four independent lanes. */
static uint64_t hash_bytes(const uint8_t *bytes, size_t size) {
    uint64_t lanes[4] = { size, 1, 2, 3 }, word;
    size_t at = 0;
    for (; size - at >= 32; at += 32)
        for (size_t lane = 0; lane < 4; lane++) {
            memcpy(&word, bytes + at + 8 * lane, 8);
            lanes[lane] = (lanes[lane] ^ word) * UINT64_C(0x9e3779b97f4a7c15);
            lanes[lane] ^= lanes[lane] >> 32;
        }
    for (; at < size; at++)
        lanes[0] = (lanes[0] ^ bytes[at]) * UINT64_C(0x100000001b3);
    return kwr_sim_mix(lanes[0] +
                       kwr_sim_mix(lanes[1] + kwr_sim_mix(lanes[2] + kwr_sim_mix(lanes[3]))));
}

static void hash_file(void *ctx, const char *path, const void *data, size_t size) {
    hashing *h = ctx;
    if (strncmp(path, h->below, h->below_size) != 0) return;
    h->hash = kwr_sim_mix(h->hash ^ hash_bytes((const uint8_t *)path, strlen(path)));
    h->hash = kwr_sim_mix(h->hash ^ hash_bytes(data, size));
}

uint64_t kwr_sim_disk_hash(const kwr_sim_disk *disk, const char *path) {
    hashing h = { .below = path, .below_size = strlen(path) };
    kwr_sim_disk_visit(disk, false, hash_file, &h);
    return h.hash;
}

/* ---- changing it from outside ---- */

void kwr_sim_append(kwr_sim_disk *disk, kwr_sim_inode *node, const void *data, size_t size) {
    if (node->size + size > node->capacity) {
        node->capacity = 2 * (node->size + size);
        node->data = kwr_sim_must(realloc(node->data, node->capacity));
    }
    if (size > 0) memcpy(node->data + node->size, data, size);
    node->size += size;
    node->order = ++disk->order;
    disk->used += size;
}

void kwr_sim_disk_put(kwr_sim_disk *disk, const char *path, const void *data, size_t size) {
    kwr_sim_inode *dir = disk->root;
    char name[256];
    for (;;) {
        while (*path == '/')
            path++;
        const size_t n = strcspn(path, "/");
        if (n == 0 || n >= sizeof name) return;
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        kwr_sim_inode *node = kwr_sim_entries_find(&dir->visible, name);
        const bool last = *path == '\0';
        if (node == NULL || last) {
            kwr_sim_inode *made = kwr_sim_inode_new(disk, !last);
            if (last) {
                kwr_sim_append(disk, made, data, size);
                made->synced = made->size;
            }
            entries_set(disk, &dir->visible, name, made);
            entries_set(disk, &dir->durable, name, made);
            kwr_sim_inode_drop(disk, made);
            node = made;
        }
        if (last) return;
        dir = node;
    }
}

bool kwr_sim_disk_damage(kwr_sim_disk *disk, const char *path, size_t offset, const void *data,
                         size_t size) {
    kwr_sim_inode *node = walk(disk, true, path);
    if (disk->damage.node != NULL || node == NULL || node->directory || offset > node->synced ||
        size > node->synced - offset || size == 0)
        return false;
    disk->damage.node = kwr_sim_inode_keep(node);
    disk->damage.offset = offset;
    disk->damage.size = size;
    disk->damage.old = kwr_sim_must(malloc(size));
    memcpy(disk->damage.old, node->data + offset, size);
    memcpy(node->data + offset, data, size);
    return true;
}

void kwr_sim_disk_repair(kwr_sim_disk *disk) {
    kwr_sim_inode *node = disk->damage.node;
    if (node == NULL) return;
    memcpy(node->data + disk->damage.offset, disk->damage.old, disk->damage.size);
    free(disk->damage.old);
    disk->damage.node = NULL;
    kwr_sim_inode_drop(disk, node);
}
