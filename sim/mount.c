/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system as one process sees it. Every call asks before it takes place what strikes, and
 * says when it took effect: a process may die at either moment and never return.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/disk.h"

static kwr_sim_strike ask(kwr_sim_mount *mount, kwr_sim_call call, const char *name) {
    return mount->hooks.before(mount->hooks.ctx, call, name);
}

static kwr_status took_effect(kwr_sim_mount *mount, kwr_status status) {
    mount->hooks.after(mount->hooks.ctx);
    return status;
}

static kwr_status injected(kwr_sim_strike strike, kwr_error *err, const char *what,
                           const char *name) {
    const int code = strike.detail == 0 ? EIO : (int)strike.detail;
    return kwr_sim_error(err, kwr_sim_status_of(code), code, "%s '%s': errno %d (injected)", what,
                         name, code);
}

static char *join(const char *parent, const char *name) {
    const size_t size = strlen(parent) + strlen(name) + 2;
    char *path = kwr_sim_must(malloc(size));
    snprintf(path, size, "%s%s%s", parent, *parent == '\0' ? "" : "/", name);
    return path;
}

/* ---- directories ---- */

static kwr_dir *dir_new(kwr_sim_mount *mount, kwr_sim_inode *node, const char *parent,
                        const char *name) {
    kwr_dir *dir = kwr_sim_must(calloc(1, sizeof *dir));
    dir->mount = mount;
    dir->node = kwr_sim_inode_keep(node);
    dir->path = join(parent, name);
    KWR_SIM_LINK_IN(mount->dirs, dir);
    return dir;
}

static void fs_close_dir(void *ctx, kwr_dir *dir) {
    (void)ctx;
    KWR_SIM_LINK_OUT(dir);
    kwr_sim_inode_drop(dir->mount->disk, dir->node);
    free(dir->path);
    free(dir);
}

static const char *fs_path(void *ctx, kwr_dir *dir) {
    (void)ctx;
    return dir->path;
}

static kwr_status open_below(kwr_sim_mount *mount, kwr_sim_inode *parent, const char *parent_path,
                             const char *name, unsigned flags, kwr_dir **out, kwr_error *err) {
    kwr_sim_inode *node = kwr_sim_entries_find(&parent->visible, name);
    if (node != NULL && !node->directory)
        return kwr_sim_error(err, KWR_ERR_MISMATCH, ENOTDIR, "open directory '%s/%s'", parent_path,
                             name);
    if (node != NULL && (flags & KWR_FS_EXCLUSIVE) != 0)
        return kwr_sim_error(err, KWR_ERR_EXISTS, EEXIST, "make directory '%s/%s'", parent_path,
                             name);
    if (node == NULL && (flags & KWR_FS_CREATE) == 0)
        return kwr_sim_error(err, KWR_ERR_MISSING, ENOENT, "open directory '%s/%s'", parent_path,
                             name);
    if (node == NULL) {
        node = kwr_sim_inode_new(mount->disk, true);
        kwr_sim_change(mount->disk, parent, name, node, NULL, NULL);
        kwr_sim_inode_drop(mount->disk, node);
    }
    *out = dir_new(mount, node, parent_path, name);
    return KWR_OK;
}

static kwr_status open_path(kwr_sim_mount *mount, const char *path, unsigned flags, kwr_dir **out,
                            kwr_error *err) {
    kwr_dir *dir = dir_new(mount, mount->disk->root, "", "");
    for (;;) {
        char name[256];
        path += strspn(path, "/");
        const size_t n = strcspn(path, "/");
        if (n == 0) break;
        if (n >= sizeof name) {
            fs_close_dir(mount, dir);
            return kwr_sim_error(err, KWR_ERR_RANGE, 0, "open root: name too long");
        }
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        kwr_dir *below = NULL;
        const kwr_status status = open_below(mount, dir->node, dir->path, name, flags, &below, err);
        fs_close_dir(mount, dir);
        if (below == NULL) return status; /* it failed */
        dir = below;
    }
    if ((flags & KWR_FS_CREATE) != 0) kwr_sim_sync_names(mount->disk, mount->disk->root);
    *out = dir;
    return KWR_OK;
}

static kwr_status fs_open_root(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                               kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_OPEN_ROOT, path);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "open root", path);
    return took_effect(ctx, open_path(ctx, path, flags, out, err));
}

static kwr_status fs_open_dir(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                              kwr_dir **out, kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_OPEN_DIR, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "open directory", name);
    return took_effect(ctx, open_below(ctx, parent->node, parent->path, name, flags, out, err));
}

static void listing_free(kwr_sim_listing *l) {
    KWR_SIM_LINK_OUT(l);
    for (size_t i = 0; i < l->count; i++)
        free(l->names[i]);
    free(l->names);
    free(l);
}

static kwr_status fs_list(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_LIST, dir->path);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "list", dir->path);
    /* A copy: the callback may change the directory, and die in it. */
    kwr_sim_listing *l = kwr_sim_must(calloc(1, sizeof *l));
    KWR_SIM_LINK_IN(mount->listings, l);
    l->names = kwr_sim_must(malloc((dir->node->visible.count + 1) * sizeof *l->names));
    for (; l->count < dir->node->visible.count; l->count++)
        l->names[l->count] = kwr_sim_must(strdup(dir->node->visible.items[l->count].name));
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < l->count && status >= KWR_OK; i++)
        status = fn(fn_ctx, l->names[i]);
    listing_free(l);
    return took_effect(mount, status < KWR_OK ? status : KWR_OK);
}

static kwr_status fs_sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_SYNC_DIR, dir->path);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "sync directory", dir->path);
    kwr_sim_sync_names(mount->disk, dir->node);
    if (strike.fault == KWR_SIM_AMBIGUOUS)
        return injected(strike, err, "sync directory", dir->path);
    return took_effect(mount, KWR_OK);
}

/* ---- files ---- */

static kwr_file *file_new(kwr_sim_mount *mount, kwr_sim_inode *node, const char *name,
                          bool writing) {
    kwr_file *file = kwr_sim_must(calloc(1, sizeof *file));
    file->mount = mount;
    file->node = kwr_sim_inode_keep(node);
    file->name = kwr_sim_must(strdup(name));
    file->writing = writing;
    KWR_SIM_LINK_IN(mount->files, file);
    return file;
}

static void file_free(kwr_file *file) {
    KWR_SIM_LINK_OUT(file);
    kwr_sim_inode_drop(file->mount->disk, file->node);
    free(file->name);
    free(file);
}

static kwr_status fs_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                            kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_CREATE, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "create", name);
    if (kwr_sim_entries_find(&dir->node->visible, name) != NULL)
        return kwr_sim_error(err, KWR_ERR_EXISTS, EEXIST, "create '%s/%s'", dir->path, name);
    kwr_sim_inode *node = kwr_sim_inode_new(mount->disk, false);
    kwr_sim_change(mount->disk, dir->node, name, node, NULL, NULL);
    if (strike.fault != KWR_SIM_AMBIGUOUS) *out = file_new(mount, node, name, true);
    kwr_sim_inode_drop(mount->disk, node);
    if (strike.fault == KWR_SIM_AMBIGUOUS) return injected(strike, err, "create", name);
    return took_effect(mount, KWR_OK);
}

static kwr_status fs_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags, kwr_file **out,
                          kwr_file_info *info, kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    (void)flags;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_OPEN, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "open", name);
    kwr_sim_inode *node = kwr_sim_entries_find(&dir->node->visible, name);
    if (node == NULL)
        return kwr_sim_error(err, KWR_ERR_MISSING, ENOENT, "open '%s/%s'", dir->path, name);
    if (node->directory)
        return kwr_sim_error(err, KWR_ERR_MISMATCH, EISDIR, "open '%s/%s'", dir->path, name);
    if (info != NULL) *info = (kwr_file_info){ .kind = KWR_FILE_REGULAR, .size = node->size };
    *out = file_new(mount, node, name, false);
    return took_effect(mount, KWR_OK);
}

static kwr_status fs_write(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                           kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_WRITE, file->name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "write", file->name);
    if (!file->writing)
        return kwr_sim_error(err, KWR_ERR_MISUSE, EBADF, "write '%s': opened to read", file->name);
    if (strike.fault == KWR_SIM_SHORT && size > 1) size = (size + 1) / 2;
    if (mount->disk->used > mount->disk->capacity ||
        size > mount->disk->capacity - mount->disk->used)
        return kwr_sim_error(err, KWR_ERR_NOSPACE, ENOSPC, "write '%s': the disk is full",
                             file->name);
    kwr_sim_append(mount->disk, file->node, data, size);
    *done = size;
    return took_effect(mount, KWR_OK);
}

/* Bytes of the file, but of another place in it: as a misdirected read would give. */
static void read_elsewhere(const kwr_sim_inode *node, uint64_t offset, uint8_t *out, size_t size) {
    const uint64_t from = offset == 0 ? node->size / 2 : 0;
    for (size_t i = 0; i < size; i++)
        out[i] = from + i < node->size ? node->data[from + i] : 0;
}

static kwr_status fs_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                          size_t *done, kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_READ, file->name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "read", file->name);
    const uint64_t left = offset < file->node->size ? file->node->size - offset : 0;
    uint8_t *out = data;
    if (size > left) size = (size_t)left;
    if (strike.fault == KWR_SIM_SHORT && size > 1) size = (size + 1) / 2;
    if (size > 0) memcpy(out, file->node->data + offset, size);
    if (strike.fault == KWR_SIM_MISREAD) read_elsewhere(file->node, offset, out, size);
    if (strike.fault == KWR_SIM_FLIP && size > 0)
        out[strike.detail / 8 % size] ^= (uint8_t)(1u << strike.detail % 8);
    *done = size;
    return took_effect(ctx, KWR_OK);
}

static kwr_status fs_sync(void *ctx, kwr_file *file, kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_SYNC, file->name);
    if (strike.fault == KWR_SIM_LOSE_SYNC) file->node->lost = true;
    if (strike.fault == KWR_SIM_ERROR || strike.fault == KWR_SIM_LOSE_SYNC)
        return injected(strike, err, "sync", file->name);
    if (!file->node->lost) file->node->synced = file->node->size;
    return took_effect(ctx, KWR_OK);
}

static kwr_status fs_close(void *ctx, kwr_file *file, kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_CLOSE, file->name);
    kwr_status status = KWR_OK;
    if (strike.fault == KWR_SIM_ERROR && file->writing)
        status = injected(strike, err, "close", file->name);
    file_free(file);
    return took_effect(ctx, status);
}

/* ---- names ---- */

static kwr_status move(kwr_sim_mount *mount, kwr_sim_call call, kwr_dir *from,
                       const char *from_name, kwr_dir *to, const char *to_name, kwr_error *err) {
    const char *what = kwr_sim_call_name(call);
    const kwr_sim_strike strike = ask(mount, call, to_name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, what, to_name);
    kwr_sim_inode *node = kwr_sim_entries_find(&from->node->visible, from_name);
    if (node == NULL)
        return kwr_sim_error(err, KWR_ERR_MISSING, ENOENT, "%s '%s/%s'", what, from->path,
                             from_name);
    if (kwr_sim_entries_find(&to->node->visible, to_name) != NULL)
        return kwr_sim_error(err, KWR_ERR_EXISTS, EEXIST, "%s to '%s/%s'", what, to->path, to_name);
    const bool gone = call == KWR_SIM_RENAME;
    kwr_sim_change(mount->disk, to->node, to_name, node, gone ? from->node : NULL,
                   gone ? from_name : NULL);
    if (strike.fault == KWR_SIM_AMBIGUOUS) return injected(strike, err, what, to_name);
    return took_effect(mount, KWR_OK);
}

static kwr_status fs_link(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                          const char *to_name, kwr_error *err) {
    return move(ctx, KWR_SIM_LINK, from, from_name, to, to_name, err);
}

static kwr_status fs_rename(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                            const char *to_name, kwr_error *err) {
    return move(ctx, KWR_SIM_RENAME, from, from_name, to, to_name, err);
}

static kwr_status remove_any(kwr_sim_mount *mount, kwr_sim_call call, kwr_dir *dir,
                             const char *name, kwr_error *err) {
    const kwr_sim_strike strike = ask(mount, call, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "remove", name);
    kwr_sim_inode *node = kwr_sim_entries_find(&dir->node->visible, name);
    if (node == NULL)
        return kwr_sim_error(err, KWR_ERR_MISSING, ENOENT, "remove '%s/%s'", dir->path, name);
    if (node->directory != (call == KWR_SIM_REMOVE_DIR))
        return kwr_sim_error(err, KWR_ERR_MISMATCH, node->directory ? EISDIR : ENOTDIR,
                             "remove '%s/%s'", dir->path, name);
    if (node->directory && node->visible.count > 0)
        return kwr_sim_error(err, KWR_ERR_IO, ENOTEMPTY, "remove '%s/%s'", dir->path, name);
    kwr_sim_change(mount->disk, dir->node, name, NULL, NULL, NULL);
    if (strike.fault == KWR_SIM_AMBIGUOUS) return injected(strike, err, "remove", name);
    return took_effect(mount, KWR_OK);
}

static kwr_status fs_remove(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return remove_any(ctx, KWR_SIM_REMOVE, dir, name, err);
}

static kwr_status fs_remove_dir(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return remove_any(ctx, KWR_SIM_REMOVE_DIR, dir, name, err);
}

static kwr_status fs_info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                          kwr_error *err) {
    const kwr_sim_strike strike = ask(ctx, KWR_SIM_INFO, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "look at", name);
    const kwr_sim_inode *node = kwr_sim_entries_find(&dir->node->visible, name);
    if (node == NULL)
        return kwr_sim_error(err, KWR_ERR_MISSING, ENOENT, "look at '%s/%s'", dir->path, name);
    *out = (kwr_file_info){ .kind = node->directory ? KWR_FILE_DIRECTORY : KWR_FILE_REGULAR,
                            .size = node->size };
    return took_effect(ctx, KWR_OK);
}

/* ---- locks ---- */

static kwr_status fs_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                          uint64_t *holder, kwr_error *err) {
    kwr_sim_mount *mount = ctx;
    const kwr_sim_strike strike = ask(mount, KWR_SIM_LOCK, name);
    if (strike.fault == KWR_SIM_ERROR) return injected(strike, err, "lock", name);
    kwr_sim_inode *node = kwr_sim_entries_find(&dir->node->visible, name);
    if (node == NULL) {
        node = kwr_sim_inode_new(mount->disk, false);
        kwr_sim_change(mount->disk, dir->node, name, node, NULL, NULL);
        kwr_sim_inode_drop(mount->disk, node);
    }
    if (node->locked) {
        if (holder != NULL) *holder = 0;
        return kwr_sim_error(err, KWR_ERR_LOCKED, 0, "lock '%s/%s': held", dir->path, name);
    }
    kwr_lock *lock = kwr_sim_must(calloc(1, sizeof *lock));
    lock->mount = mount;
    lock->node = kwr_sim_inode_keep(node);
    node->locked = true;
    KWR_SIM_LINK_IN(mount->locks, lock);
    *out = lock;
    return took_effect(mount, KWR_OK);
}

static void fs_unlock(void *ctx, kwr_lock *lock) {
    (void)ctx;
    KWR_SIM_LINK_OUT(lock);
    lock->node->locked = false;
    kwr_sim_inode_drop(lock->mount->disk, lock->node);
    free(lock);
}

/* ---- the mount ---- */

kwr_sim_mount *kwr_sim_mount_new(kwr_sim_disk *disk, const kwr_sim_hooks *hooks) {
    kwr_sim_mount *mount = kwr_sim_must(calloc(1, sizeof *mount));
    mount->disk = disk;
    mount->hooks = *hooks;
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
    KWR_SIM_LINK_IN(disk->mounts, mount);
    return mount;
}

const kwr_fs *kwr_sim_mount_fs(kwr_sim_mount *mount) { return &mount->fs; }

size_t kwr_sim_mount_handles(const kwr_sim_mount *mount) {
    size_t count = 0;
    for (const kwr_dir *d = mount->dirs; d != NULL; d = d->next)
        count++;
    for (const kwr_file *f = mount->files; f != NULL; f = f->next)
        count++;
    for (const kwr_lock *l = mount->locks; l != NULL; l = l->next)
        count++;
    return count;
}

void kwr_sim_mount_drop(kwr_sim_mount *mount) {
    while (mount->listings != NULL)
        listing_free(mount->listings);
    while (mount->files != NULL)
        file_free(mount->files);
    while (mount->locks != NULL)
        fs_unlock(mount, mount->locks);
    while (mount->dirs != NULL)
        fs_close_dir(mount, mount->dirs);
}

void kwr_sim_mount_free(kwr_sim_mount *mount) {
    if (mount->disk != NULL) {
        kwr_sim_mount_drop(mount);
        KWR_SIM_LINK_OUT(mount);
    }
    free(mount);
}
