/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files are append-only here as the library's are: the durable image of a file is a prefix of the
 * visible one. Directories keep the visible entries, the durable ones, and in between the list of
 * updates not yet synced, each of which a power loss may keep or drop.
 */
#include "tests/sim/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

typedef struct inode inode;

typedef struct entry {
    char *name;
    inode *node;
} entry;

typedef struct entries {
    entry *items;
    size_t count, capacity;
} entries;

/* One unsynced change of names: `node` appears as `name`, or `name` goes (node NULL). A rename is
 * one change of two names. */
typedef struct update {
    uint64_t order;
    inode *dir;
    char *name;
    inode *node;
    inode *from_dir; /* rename: also gone from here */
    char *from_name;
} update;

struct inode {
    unsigned references; /* entries, updates and handles */
    bool directory;
    entries visible, durable; /* directories */
    uint8_t *data;            /* files */
    size_t size, capacity;
    size_t synced;  /* bytes that survive */
    bool lost;      /* a sync failed: nothing more will survive */
    uint64_t order; /* of the last write */
    bool locked;
};

struct sim_disk {
    inode *root;
    update *updates;
    size_t update_count, update_capacity;
    uint64_t order;
    uint64_t used, capacity;
    sim_mount *mounts;
};

struct kwr_dir {
    sim_mount *mount;
    inode *node;
    char *path;
    struct kwr_dir *next, **link;
};
struct kwr_file {
    sim_mount *mount;
    inode *node;
    char *name;
    bool writing;
    bool dead;
    struct kwr_file *next, **link;
};
struct kwr_lock {
    sim_mount *mount;
    inode *node;
    struct kwr_lock *next, **link;
};

struct sim_mount {
    sim_disk *disk;
    kwr_fs fs;
    sim_fault_hook hook;
    void *hook_ctx;
    struct kwr_dir *dirs;
    struct kwr_file *files;
    struct kwr_lock *locks;
    sim_mount *next, **link;
};

/* The harness itself has no memory faults: those belong to the process under test. */
static void *must(void *memory) {
    if (memory == NULL) {
        fputs("sim: out of memory\n", stderr);
        abort();
    }
    return memory;
}

static char *copy_text(const char *text) { return must(strdup(text)); }

static inode *inode_new(bool directory) {
    inode *node = must(calloc(1, sizeof *node));
    node->references = 1;
    node->directory = directory;
    return node;
}

static inode *inode_keep(inode *node) {
    node->references++;
    return node;
}

static void inode_drop(sim_disk *disk, inode *node);

static void entries_clear(sim_disk *disk, entries *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        inode_drop(disk, list->items[i].node);
    }
    free(list->items);
    *list = (entries){ 0 };
}

static void inode_drop(sim_disk *disk, inode *node) {
    if (--node->references > 0) return;
    entries_clear(disk, &node->visible);
    entries_clear(disk, &node->durable);
    disk->used -= node->size;
    free(node->data);
    free(node);
}

static inode *entries_find(const entries *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0) return list->items[i].node;
    return NULL;
}

static void entries_remove(sim_disk *disk, entries *list, const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) != 0) continue;
        free(list->items[i].name);
        inode_drop(disk, list->items[i].node);
        memmove(&list->items[i], &list->items[i + 1], (--list->count - i) * sizeof(entry));
        return;
    }
}

/* Sorted by name: listings must not depend on history. */
static void entries_set(sim_disk *disk, entries *list, const char *name, inode *node) {
    inode_keep(node);
    entries_remove(disk, list, name);
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
        list->items = must(realloc(list->items, list->capacity * sizeof(entry)));
    }
    size_t at = list->count;
    while (at > 0 && strcmp(list->items[at - 1].name, name) > 0)
        at--;
    memmove(&list->items[at + 1], &list->items[at], (list->count++ - at) * sizeof(entry));
    list->items[at] = (entry){ copy_text(name), node };
}

static void update_apply(sim_disk *disk, const update *u) {
    if (u->from_dir != NULL) entries_remove(disk, &u->from_dir->durable, u->from_name);
    if (u->node != NULL)
        entries_set(disk, &u->dir->durable, u->name, u->node);
    else
        entries_remove(disk, &u->dir->durable, u->name);
}

static void update_done(sim_disk *disk, update *u) {
    inode_drop(disk, u->dir);
    free(u->name);
    if (u->node != NULL) inode_drop(disk, u->node);
    if (u->from_dir != NULL) inode_drop(disk, u->from_dir);
    free(u->from_name);
}

/* What is not yet synced of the names in `dir` is. */
static void sync_names(sim_disk *disk, const inode *dir) {
    size_t kept = 0;
    for (size_t i = 0; i < disk->update_count; i++) {
        update *u = &disk->updates[i];
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
static void change(sim_disk *disk, inode *dir, const char *name, inode *node, inode *from_dir,
                   const char *from_name) {
    if (disk->update_count == disk->update_capacity) {
        disk->update_capacity = disk->update_capacity == 0 ? 16 : 2 * disk->update_capacity;
        disk->updates = must(realloc(disk->updates, disk->update_capacity * sizeof(update)));
    }
    disk->updates[disk->update_count++] = (update){
        .order = ++disk->order,
        .dir = inode_keep(dir),
        .name = copy_text(name),
        .node = node == NULL ? NULL : inode_keep(node),
        .from_dir = from_dir == NULL ? NULL : inode_keep(from_dir),
        .from_name = from_name == NULL ? NULL : copy_text(from_name),
    };
    if (from_dir != NULL) entries_remove(disk, &from_dir->visible, from_name);
    if (node != NULL)
        entries_set(disk, &dir->visible, name, node);
    else
        entries_remove(disk, &dir->visible, name);
}

sim_disk *sim_disk_new(uint64_t capacity) {
    sim_disk *disk = must(calloc(1, sizeof *disk));
    disk->root = inode_new(true);
    disk->capacity = capacity;
    return disk;
}

void sim_disk_free(sim_disk *disk) {
    if (disk == NULL) return;
    while (disk->mounts != NULL)
        sim_mount_free(disk->mounts);
    for (size_t i = 0; i < disk->update_count; i++)
        update_done(disk, &disk->updates[i]);
    free(disk->updates);
    inode_drop(disk, disk->root);
    free(disk);
}

uint64_t sim_disk_used(const sim_disk *disk) { return disk->used; }
void sim_disk_set_capacity(sim_disk *disk, uint64_t capacity) { disk->capacity = capacity; }

/* Old inode -> its copy, by linear search: disks under test are small. */
typedef struct copies {
    const inode **from;
    inode **to;
    size_t count, capacity;
} copies;

static inode *copy_node(sim_disk *disk, copies *done, const inode *node);

static void copy_entries(sim_disk *disk, copies *done, const entries *from, entries *to) {
    for (size_t i = 0; i < from->count; i++)
        entries_set(disk, to, from->items[i].name, copy_node(disk, done, from->items[i].node));
}

static inode *copy_node(sim_disk *disk, copies *done, const inode *node) {
    for (size_t i = 0; i < done->count; i++)
        if (done->from[i] == node) return done->to[i];
    inode *copy = inode_new(node->directory);
    copy->references = 0;
    if (done->count == done->capacity) {
        done->capacity = done->capacity == 0 ? 64 : 2 * done->capacity;
        done->from = must(realloc(done->from, done->capacity * sizeof *done->from));
        done->to = must(realloc(done->to, done->capacity * sizeof *done->to));
    }
    done->from[done->count] = node;
    done->to[done->count++] = copy;
    copy->size = copy->capacity = node->size;
    copy->synced = node->synced;
    copy->lost = node->lost;
    copy->order = node->order;
    if (node->size > 0) {
        copy->data = must(malloc(node->size));
        memcpy(copy->data, node->data, node->size);
    }
    disk->used += copy->size;
    copy_entries(disk, done, &node->visible, &copy->visible);
    copy_entries(disk, done, &node->durable, &copy->durable);
    return copy;
}

sim_disk *sim_disk_copy(const sim_disk *disk) {
    sim_disk *copy = must(calloc(1, sizeof *copy));
    copies done = { 0 };
    copy->capacity = disk->capacity;
    copy->order = disk->order;
    copy->root = inode_keep(copy_node(copy, &done, disk->root));
    for (size_t i = 0; i < disk->update_count; i++) {
        const update *u = &disk->updates[i];
        if (copy->update_count == copy->update_capacity) {
            copy->update_capacity = copy->update_capacity == 0 ? 16 : 2 * copy->update_capacity;
            copy->updates = must(realloc(copy->updates, copy->update_capacity * sizeof(update)));
        }
        copy->updates[copy->update_count++] = (update){
            .order = u->order,
            .dir = inode_keep(copy_node(copy, &done, u->dir)),
            .name = copy_text(u->name),
            .node = u->node == NULL ? NULL : inode_keep(copy_node(copy, &done, u->node)),
            .from_dir =
                u->from_dir == NULL ? NULL : inode_keep(copy_node(copy, &done, u->from_dir)),
            .from_name = u->from_name == NULL ? NULL : copy_text(u->from_name),
        };
    }
    free(done.from);
    free(done.to);
    return copy;
}

/* ---- power loss ---- */

/* Leaves `keep` bytes of the file, those beyond `good` replaced as the outcome says. */
static void settle_file(sim_disk *disk, inode *node, sim_power outcome, uint64_t cut,
                        sim_rng *rng) {
    size_t keep = node->synced;
    if (node->size > node->synced && !node->lost) {
        const size_t tail = node->size - node->synced;
        switch (outcome) {
        case SIM_POWER_NOTHING: break;
        case SIM_POWER_ALL: keep = node->size; break;
        case SIM_POWER_PREFIX:
            keep = node->order < cut ? node->size : node->synced + sim_below(rng, tail + 1);
            break;
        case SIM_POWER_SUBSET: keep = node->synced + sim_below(rng, tail + 1); break;
        case SIM_POWER_ZEROS:
            keep = node->size;
            memset(node->data + node->synced, 0, tail);
            break;
        case SIM_POWER_GARBAGE:
            keep = node->size;
            for (size_t i = node->synced; i < node->size; i++)
                node->data[i] = (uint8_t)sim_next(rng);
            break;
        case SIM_POWER_OUTCOMES: break;
        }
    }
    disk->used -= node->size - keep;
    node->size = node->synced = keep;
    node->lost = false;
    node->locked = false;
}

static bool update_survives(const update *u, sim_power outcome, uint64_t cut, sim_rng *rng) {
    switch (outcome) {
    case SIM_POWER_NOTHING: return false;
    case SIM_POWER_ALL:
    case SIM_POWER_ZEROS:
    case SIM_POWER_GARBAGE: return true;
    case SIM_POWER_PREFIX: return u->order < cut;
    case SIM_POWER_SUBSET: return sim_below(rng, 2) == 0;
    case SIM_POWER_OUTCOMES: break;
    }
    return false;
}

/* Visits every directory reachable in the durable image once, making it the visible one. */
static void settle_dir(sim_disk *disk, inode *dir, sim_power outcome, uint64_t cut, sim_rng *rng) {
    entries_clear(disk, &dir->visible);
    for (size_t i = 0; i < dir->durable.count; i++) {
        inode *node = dir->durable.items[i].node;
        entries_set(disk, &dir->visible, dir->durable.items[i].name, node);
        if (node->directory)
            settle_dir(disk, node, outcome, cut, rng);
        else
            settle_file(disk, node, outcome, cut, rng);
    }
}

void sim_disk_power_loss(sim_disk *disk, sim_power outcome, sim_rng *rng) {
    while (disk->mounts != NULL)
        sim_mount_free(disk->mounts);
    const uint64_t first = disk->update_count == 0 ? disk->order : disk->updates[0].order;
    const uint64_t cut = first + sim_below(rng, disk->order - first + 2);
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

static void visit_dir(const inode *dir, bool durable, char *path, size_t length, sim_visit visit,
                      void *ctx) {
    const entries *list = durable ? &dir->durable : &dir->visible;
    for (size_t i = 0; i < list->count; i++) {
        const inode *node = list->items[i].node;
        const int n = snprintf(path + length, PATH_SIZE - length, "/%s", list->items[i].name);
        if (n < 0 || length + (size_t)n >= PATH_SIZE) continue;
        if (node->directory)
            visit_dir(node, durable, path, length + (size_t)n, visit, ctx);
        else
            visit(ctx, path, node->data, durable ? node->synced : node->size);
        path[length] = '\0';
    }
}

void sim_disk_visit(const sim_disk *disk, bool durable, sim_visit visit, void *ctx) {
    char path[PATH_SIZE] = "";
    visit_dir(disk->root, durable, path, 0, visit, ctx);
}

static inode *walk(const sim_disk *disk, bool durable, const char *path) {
    inode *node = disk->root;
    char name[256];
    while (node != NULL && *path != '\0') {
        while (*path == '/')
            path++;
        const size_t n = strcspn(path, "/");
        if (n == 0) break;
        if (n >= sizeof name || !node->directory) return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        node = entries_find(durable ? &node->durable : &node->visible, name);
        path += n;
    }
    return node;
}

const void *sim_disk_file(const sim_disk *disk, bool durable, const char *path, size_t *size) {
    const inode *node = walk(disk, durable, path);
    if (node == NULL || node->directory) return NULL;
    *size = durable ? node->synced : node->size;
    return node->data == NULL ? (const void *)"" : node->data;
}

typedef struct hashing {
    uint64_t hash;
} hashing;

static void hash_file(void *ctx, const char *path, const void *data, size_t size) {
    hashing *h = ctx;
    const uint8_t *bytes = data;
    for (; *path != '\0'; path++)
        h->hash = sim_mix(h->hash ^ (uint8_t)*path);
    h->hash = sim_mix(h->hash ^ size);
    for (size_t i = 0; i < size; i++)
        h->hash = (h->hash ^ bytes[i]) * UINT64_C(0x100000001b3);
}

uint64_t sim_disk_hash(const sim_disk *disk) {
    hashing h = { 0 };
    sim_disk_visit(disk, false, hash_file, &h);
    return h.hash;
}

static void grow(sim_disk *disk, inode *node, const void *data, size_t size) {
    if (node->size + size > node->capacity) {
        node->capacity = 2 * (node->size + size);
        node->data = must(realloc(node->data, node->capacity));
    }
    if (size > 0) memcpy(node->data + node->size, data, size);
    node->size += size;
    node->order = ++disk->order;
    disk->used += size;
}

void sim_disk_put(sim_disk *disk, const char *path, const void *data, size_t size) {
    inode *dir = disk->root;
    char name[256];
    for (;;) {
        while (*path == '/')
            path++;
        const size_t n = strcspn(path, "/");
        if (n == 0 || n >= sizeof name) return;
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        inode *node = entries_find(&dir->visible, name);
        const bool last = *path == '\0';
        if (node == NULL || last) {
            inode *made = inode_new(!last);
            if (last) {
                grow(disk, made, data, size);
                made->synced = made->size;
            }
            entries_set(disk, &dir->visible, name, made);
            entries_set(disk, &dir->durable, name, made);
            inode_drop(disk, made);
            node = made;
        }
        if (last) return;
        dir = node;
    }
}

/* ---- the file system a process sees ---- */

static sim_fault ask(sim_mount *mount, sim_call call, const char *name) {
    return mount->hook == NULL ? SIM_NO_FAULT : mount->hook(mount->hook_ctx, call, name);
}

static kwr_status injected(sim_fault fault, kwr_error *err, const char *what, const char *name) {
    if (fault == SIM_ENOSPC)
        return KWR_FAIL(err, KWR_ERR_NOSPACE, 28, "%s '%s' (injected)", what, name);
    return KWR_FAIL(err, KWR_ERR_IO, 5, "%s '%s' (injected)", what, name);
}

#define LINK_IN(head, item)                               \
    do {                                                  \
        (item)->next = (head);                            \
        (item)->link = &(head);                           \
        if ((head) != NULL) (head)->link = &(item)->next; \
        (head) = (item);                                  \
    } while (0)
#define LINK_OUT(item)                                               \
    do {                                                             \
        *(item)->link = (item)->next;                                \
        if ((item)->next != NULL) (item)->next->link = (item)->link; \
    } while (0)

static kwr_dir *dir_new(sim_mount *mount, inode *node, const char *parent, const char *name) {
    kwr_dir *dir = must(calloc(1, sizeof *dir));
    const size_t size = strlen(parent) + strlen(name) + 2;
    dir->mount = mount;
    dir->node = inode_keep(node);
    dir->path = must(malloc(size));
    snprintf(dir->path, size, "%s%s%s", parent, *parent == '\0' ? "" : "/", name);
    LINK_IN(mount->dirs, dir);
    return dir;
}

static void fs_close_dir(void *ctx, kwr_dir *dir) {
    (void)ctx;
    LINK_OUT(dir);
    inode_drop(dir->mount->disk, dir->node);
    free(dir->path);
    free(dir);
}

static const char *fs_path(void *ctx, kwr_dir *dir) {
    (void)ctx;
    return dir->path;
}

static kwr_status open_below(sim_mount *mount, inode *parent, const char *parent_path,
                             const char *name, unsigned flags, kwr_dir **out, kwr_error *err) {
    inode *node = entries_find(&parent->visible, name);
    if (node != NULL && !node->directory)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 20, "open directory '%s/%s'", parent_path, name);
    if (node != NULL && (flags & KWR_FS_EXCLUSIVE) != 0)
        return KWR_FAIL(err, KWR_ERR_EXISTS, 17, "make directory '%s/%s'", parent_path, name);
    if (node == NULL && (flags & KWR_FS_CREATE) == 0)
        return KWR_FAIL(err, KWR_ERR_MISSING, 2, "open directory '%s/%s'", parent_path, name);
    if (node == NULL) {
        node = inode_new(true);
        change(mount->disk, parent, name, node, NULL, NULL);
        inode_drop(mount->disk, node);
    }
    *out = dir_new(mount, node, parent_path, name);
    return KWR_OK;
}

static kwr_status fs_open_root(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                               kwr_error *err) {
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_OPEN_ROOT, path);
    if (fault == SIM_EIO || fault == SIM_ENOSPC) return injected(fault, err, "open root", path);
    kwr_dir *dir = dir_new(mount, mount->disk->root, "", "");
    while (*path != '\0') {
        char name[256];
        while (*path == '/')
            path++;
        const size_t n = strcspn(path, "/");
        if (n == 0) break;
        if (n >= sizeof name) {
            fs_close_dir(ctx, dir);
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "open root: name too long");
        }
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        kwr_dir *below = NULL;
        const kwr_status status = open_below(mount, dir->node, dir->path, name, flags, &below, err);
        fs_close_dir(ctx, dir);
        if (status < KWR_OK) return status;
        dir = below;
    }
    if ((flags & KWR_FS_CREATE) != 0) sync_names(mount->disk, mount->disk->root);
    *out = dir;
    return KWR_OK;
}

static kwr_status fs_open_dir(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                              kwr_dir **out, kwr_error *err) {
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_OPEN_DIR, name);
    if (fault == SIM_EIO || fault == SIM_ENOSPC)
        return injected(fault, err, "open directory", name);
    return open_below(mount, parent->node, parent->path, name, flags, out, err);
}

static kwr_status fs_list(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    const sim_fault fault = ask(ctx, SIM_LIST, dir->path);
    if (fault == SIM_EIO) return injected(fault, err, "list", dir->path);
    /* A copy: the callback may change the directory. */
    const size_t count = dir->node->visible.count;
    char **names = must(malloc((count + 1) * sizeof *names));
    for (size_t i = 0; i < count; i++)
        names[i] = copy_text(dir->node->visible.items[i].name);
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < count; i++) {
        if (status >= KWR_OK) status = fn(fn_ctx, names[i]);
        free(names[i]);
    }
    free(names);
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status fs_sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    sim_mount *mount = ctx;
    sim_disk *disk = mount->disk;
    const sim_fault fault = ask(mount, SIM_SYNC_DIR, dir->path);
    if (fault == SIM_EIO || fault == SIM_ENOSPC || fault == SIM_LOSE_SYNC)
        return injected(SIM_EIO, err, "sync directory", dir->path);
    sync_names(disk, dir->node);
    if (fault == SIM_AMBIGUOUS) return injected(SIM_EIO, err, "sync directory", dir->path);
    return KWR_OK;
}

static kwr_file *file_new(sim_mount *mount, inode *node, const char *name, bool writing) {
    kwr_file *file = must(calloc(1, sizeof *file));
    file->mount = mount;
    file->node = inode_keep(node);
    file->name = copy_text(name);
    file->writing = writing;
    LINK_IN(mount->files, file);
    return file;
}

static void file_free(kwr_file *file) {
    LINK_OUT(file);
    inode_drop(file->mount->disk, file->node);
    free(file->name);
    free(file);
}

static kwr_status fs_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                            kwr_error *err) {
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_CREATE, name);
    if (fault == SIM_EIO || fault == SIM_ENOSPC) return injected(fault, err, "create", name);
    if (entries_find(&dir->node->visible, name) != NULL)
        return KWR_FAIL(err, KWR_ERR_EXISTS, 17, "create '%s/%s'", dir->path, name);
    inode *node = inode_new(false);
    change(mount->disk, dir->node, name, node, NULL, NULL);
    if (fault == SIM_AMBIGUOUS) {
        inode_drop(mount->disk, node);
        return injected(SIM_EIO, err, "create", name);
    }
    *out = file_new(mount, node, name, true);
    inode_drop(mount->disk, node);
    return KWR_OK;
}

static kwr_status fs_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags, kwr_file **out,
                          kwr_file_info *info, kwr_error *err) {
    (void)flags;
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_OPEN, name);
    if (fault == SIM_EIO) return injected(fault, err, "open", name);
    inode *node = entries_find(&dir->node->visible, name);
    if (node == NULL) return KWR_FAIL(err, KWR_ERR_MISSING, 2, "open '%s/%s'", dir->path, name);
    if (node->directory)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 21, "open '%s/%s'", dir->path, name);
    if (info != NULL) *info = (kwr_file_info){ .kind = KWR_FILE_REGULAR, .size = node->size };
    *out = file_new(mount, node, name, false);
    return KWR_OK;
}

static kwr_status fs_write(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                           kwr_error *err) {
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_WRITE, file->name);
    if (fault == SIM_EIO || fault == SIM_ENOSPC) return injected(fault, err, "write", file->name);
    if (!file->writing || file->dead)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 9, "write '%s': not open for writing", file->name);
    if (fault == SIM_SHORT && size > 1) size = (size + 1) / 2;
    if (mount->disk->used + size > mount->disk->capacity)
        return KWR_FAIL(err, KWR_ERR_NOSPACE, 28, "write '%s'", file->name);
    grow(mount->disk, file->node, data, size);
    *done = size;
    return KWR_OK;
}

static kwr_status fs_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                          size_t *done, kwr_error *err) {
    const sim_fault fault = ask(ctx, SIM_READ, file->name);
    if (fault == SIM_EIO) return injected(fault, err, "read", file->name);
    const uint64_t left = offset < file->node->size ? file->node->size - offset : 0;
    if (size > left) size = (size_t)left;
    if (fault == SIM_SHORT && size > 1) size = (size + 1) / 2;
    if (size > 0) memcpy(data, file->node->data + offset, size);
    if (fault == SIM_FLIP && size > 0) ((uint8_t *)data)[size / 2] ^= 0x10;
    *done = size;
    return KWR_OK;
}

static kwr_status fs_sync(void *ctx, kwr_file *file, kwr_error *err) {
    const sim_fault fault = ask(ctx, SIM_SYNC, file->name);
    if (fault == SIM_LOSE_SYNC) file->node->lost = true;
    if (fault == SIM_EIO || fault == SIM_ENOSPC || fault == SIM_LOSE_SYNC)
        return injected(fault == SIM_ENOSPC ? fault : SIM_EIO, err, "sync", file->name);
    if (!file->node->lost) file->node->synced = file->node->size;
    return KWR_OK;
}

static kwr_status fs_close(void *ctx, kwr_file *file, kwr_error *err) {
    const sim_fault fault = ask(ctx, SIM_CLOSE, file->name);
    kwr_status status = KWR_OK;
    if (fault == SIM_EIO && file->writing) status = injected(fault, err, "close", file->name);
    file_free(file);
    return status;
}

static kwr_status rename_or_link(sim_mount *mount, sim_call call, kwr_dir *from,
                                 const char *from_name, kwr_dir *to, const char *to_name,
                                 kwr_error *err) {
    const char *what = call == SIM_LINK ? "link" : "rename";
    const sim_fault fault = ask(mount, call, to_name);
    if (fault == SIM_EIO || fault == SIM_ENOSPC) return injected(fault, err, what, to_name);
    inode *node = entries_find(&from->node->visible, from_name);
    if (node == NULL)
        return KWR_FAIL(err, KWR_ERR_MISSING, 2, "%s '%s/%s'", what, from->path, from_name);
    if (entries_find(&to->node->visible, to_name) != NULL)
        return KWR_FAIL(err, KWR_ERR_EXISTS, 17, "%s to '%s/%s'", what, to->path, to_name);
    const bool gone = call == SIM_RENAME;
    change(mount->disk, to->node, to_name, node, gone ? from->node : NULL, gone ? from_name : NULL);
    if (fault == SIM_AMBIGUOUS) return injected(SIM_EIO, err, what, to_name);
    return KWR_OK;
}

static kwr_status fs_link(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                          const char *to_name, kwr_error *err) {
    return rename_or_link(ctx, SIM_LINK, from, from_name, to, to_name, err);
}

static kwr_status fs_rename(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                            const char *to_name, kwr_error *err) {
    return rename_or_link(ctx, SIM_RENAME, from, from_name, to, to_name, err);
}

static kwr_status remove_any(sim_mount *mount, sim_call call, kwr_dir *dir, const char *name,
                             kwr_error *err) {
    const sim_fault fault = ask(mount, call, name);
    if (fault == SIM_EIO || fault == SIM_ENOSPC) return injected(SIM_EIO, err, "remove", name);
    inode *node = entries_find(&dir->node->visible, name);
    if (node == NULL) return KWR_FAIL(err, KWR_ERR_MISSING, 2, "remove '%s/%s'", dir->path, name);
    if (node->directory != (call == SIM_REMOVE_DIR))
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 20, "remove '%s/%s'", dir->path, name);
    if (node->directory && node->visible.count > 0)
        return KWR_FAIL(err, KWR_ERR_IO, 39, "remove '%s/%s'", dir->path, name);
    change(mount->disk, dir->node, name, NULL, NULL, NULL);
    if (fault == SIM_AMBIGUOUS) return injected(SIM_EIO, err, "remove", name);
    return KWR_OK;
}

static kwr_status fs_remove(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return remove_any(ctx, SIM_REMOVE, dir, name, err);
}

static kwr_status fs_remove_dir(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return remove_any(ctx, SIM_REMOVE_DIR, dir, name, err);
}

static kwr_status fs_info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                          kwr_error *err) {
    const sim_fault fault = ask(ctx, SIM_INFO, name);
    if (fault == SIM_EIO) return injected(fault, err, "look at", name);
    inode *node = entries_find(&dir->node->visible, name);
    if (node == NULL) return KWR_FAIL(err, KWR_ERR_MISSING, 2, "look at '%s/%s'", dir->path, name);
    *out = (kwr_file_info){ .kind = node->directory ? KWR_FILE_DIRECTORY : KWR_FILE_REGULAR,
                            .size = node->size };
    return KWR_OK;
}

static kwr_status fs_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                          uint64_t *holder, kwr_error *err) {
    sim_mount *mount = ctx;
    const sim_fault fault = ask(mount, SIM_LOCK, name);
    if (fault == SIM_EIO) return injected(fault, err, "lock", name);
    inode *node = entries_find(&dir->node->visible, name);
    if (node == NULL) {
        node = inode_new(false);
        change(mount->disk, dir->node, name, node, NULL, NULL);
        inode_drop(mount->disk, node);
    }
    if (node->locked) {
        if (holder != NULL) *holder = 0;
        return KWR_FAIL(err, KWR_ERR_LOCKED, 0, "lock '%s/%s': held", dir->path, name);
    }
    kwr_lock *lock = must(calloc(1, sizeof *lock));
    lock->mount = mount;
    lock->node = inode_keep(node);
    node->locked = true;
    LINK_IN(mount->locks, lock);
    *out = lock;
    return KWR_OK;
}

static void fs_unlock(void *ctx, kwr_lock *lock) {
    (void)ctx;
    LINK_OUT(lock);
    lock->node->locked = false;
    inode_drop(lock->mount->disk, lock->node);
    free(lock);
}

sim_mount *sim_mount_new(sim_disk *disk, sim_fault_hook hook, void *hook_ctx) {
    sim_mount *mount = must(calloc(1, sizeof *mount));
    mount->disk = disk;
    mount->hook = hook;
    mount->hook_ctx = hook_ctx;
    mount->fs = (kwr_fs){
        .struct_size = sizeof(kwr_fs),
        .ctx = mount,
        .open_root = fs_open_root,
        .open_dir = fs_open_dir,
        .close_dir = fs_close_dir,
        .path = fs_path,
        .list = fs_list,
        .sync_dir = fs_sync_dir,
        .create = fs_create,
        .open = fs_open,
        .write = fs_write,
        .read = fs_read,
        .sync = fs_sync,
        .close = fs_close,
        .link = fs_link,
        .rename = fs_rename,
        .remove = fs_remove,
        .remove_dir = fs_remove_dir,
        .info = fs_info,
        .lock = fs_lock,
        .unlock = fs_unlock,
    };
    LINK_IN(disk->mounts, mount);
    return mount;
}

const kwr_fs *sim_mount_fs(sim_mount *mount) { return &mount->fs; }

size_t sim_mount_handles(const sim_mount *mount) {
    size_t count = 0;
    for (const kwr_dir *d = mount->dirs; d != NULL; d = d->next)
        count++;
    for (const kwr_file *f = mount->files; f != NULL; f = f->next)
        count++;
    for (const kwr_lock *l = mount->locks; l != NULL; l = l->next)
        count++;
    return count;
}

void sim_mount_free(sim_mount *mount) {
    while (mount->files != NULL)
        file_free(mount->files);
    while (mount->locks != NULL)
        fs_unlock(mount, mount->locks);
    while (mount->dirs != NULL)
        fs_close_dir(mount, mount->dirs);
    LINK_OUT(mount);
    free(mount);
}
