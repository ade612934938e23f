/* SPDX-License-Identifier: Apache-2.0 */
/* Files, names, and the handles of processes on them. */
#ifndef KWR_SIM_DISK_H
#define KWR_SIM_DISK_H

#include "sim/internal.h"

typedef struct kwr_sim_inode kwr_sim_inode;

typedef struct kwr_sim_entry {
    char *name;
    kwr_sim_inode *node;
} kwr_sim_entry;

/* Sorted by name: listings must not depend on history. */
typedef struct kwr_sim_entries {
    kwr_sim_entry *items;
    size_t count, capacity;
} kwr_sim_entries;

/* One unsynced change of names: `node` appears as `name`, or `name` goes (node NULL). A rename is
 * one change of two names. */
typedef struct kwr_sim_update {
    uint64_t order;
    kwr_sim_inode *dir;
    char *name;
    kwr_sim_inode *node;
    kwr_sim_inode *from_dir; /* rename: also gone from here */
    char *from_name;
} kwr_sim_update;

struct kwr_sim_inode {
    unsigned references; /* entries, updates and handles */
    size_t serial;       /* on its disk */
    bool directory;
    kwr_sim_entries visible, durable; /* directories */
    uint8_t *data;                    /* files */
    size_t size, capacity;
    size_t synced;  /* bytes that survive */
    bool lost;      /* a sync failed: nothing more will survive */
    uint64_t order; /* of the last write */
    bool locked;
};

struct kwr_sim_disk {
    kwr_sim_inode *root;
    size_t next_serial;
    kwr_sim_update *updates;
    size_t update_count, update_capacity;
    uint64_t order;
    uint64_t used, capacity;
    kwr_sim_mount *mounts;
    struct {
        kwr_sim_inode *node; /* NULL: nothing is damaged */
        size_t offset, size;
        uint8_t *old;
    } damage;
};

struct kwr_dir {
    kwr_sim_mount *mount;
    kwr_sim_inode *node;
    char *path;
    struct kwr_dir *next, **link;
};
struct kwr_file {
    kwr_sim_mount *mount;
    kwr_sim_inode *node;
    char *name;
    bool writing;
    struct kwr_file *next, **link;
};
struct kwr_lock {
    kwr_sim_mount *mount;
    kwr_sim_inode *node;
    struct kwr_lock *next, **link;
};
/* Names being listed: a process may die while it is told them. */
typedef struct kwr_sim_listing {
    char **names;
    size_t count;
    struct kwr_sim_listing *next, **link;
} kwr_sim_listing;

struct kwr_sim_mount {
    kwr_sim_disk *disk;
    kwr_fs fs;
    kwr_sim_hooks hooks;
    struct kwr_dir *dirs;
    struct kwr_file *files;
    struct kwr_lock *locks;
    kwr_sim_listing *listings;
    kwr_sim_mount *next, **link;
};

#define KWR_SIM_LINK_IN(head, item)                       \
    do {                                                  \
        (item)->next = (head);                            \
        (item)->link = &(head);                           \
        if ((head) != NULL) (head)->link = &(item)->next; \
        (head) = (item);                                  \
    } while (0)
#define KWR_SIM_LINK_OUT(item)                                       \
    do {                                                             \
        *(item)->link = (item)->next;                                \
        if ((item)->next != NULL) (item)->next->link = (item)->link; \
    } while (0)

kwr_sim_inode *kwr_sim_inode_new(kwr_sim_disk *disk, bool directory);
kwr_sim_inode *kwr_sim_inode_keep(kwr_sim_inode *node);
void kwr_sim_inode_drop(kwr_sim_disk *disk, kwr_sim_inode *node);
kwr_sim_inode *kwr_sim_entries_find(const kwr_sim_entries *list, const char *name);
/* Changes the visible image and remembers the change: `node` NULL removes; `from_dir` not NULL
 * renames. */
void kwr_sim_change(kwr_sim_disk *disk, kwr_sim_inode *dir, const char *name, kwr_sim_inode *node,
                    kwr_sim_inode *from_dir, const char *from_name);
/* What is not yet synced of the names in `dir` is. */
void kwr_sim_sync_names(kwr_sim_disk *disk, const kwr_sim_inode *dir);
void kwr_sim_append(kwr_sim_disk *disk, kwr_sim_inode *node, const void *data, size_t size);

#endif /* KWR_SIM_DISK_H */
