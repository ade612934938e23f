/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system of the faulty environment. Every call is entered in the log and asked about: it
 * goes on to the base, fails instead, or fails although it went on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fault_internal.h"
#include "tests/support/kwr_test.h"

struct kwr_dir {
    kwr_dir *inner;
    long users; /* whoever opened it, and the files open in it */
    char path[256];
};

struct kwr_file {
    kwr_file *inner;
    kwr_dir *dir;
    char name[256];
    bool written_here; /* made by create */
    uint64_t written;
    uint64_t synced;
};

struct kwr_lock {
    kwr_lock *inner;
};

/* What a function may suffer besides FAULT_EIO and the kills. */
enum { ROOM = 1, SHORT = 2, SYNCS = 4, CHANGES = 8 };

/* What becomes of a call. */
typedef enum verdict {
    GO_ON,
    FAIL,           /* instead */
    FAIL_AFTER,     /* although it went on */
    SHORTER,        /* a write takes half */
    FAIL_AND_FORGET /* a sync loses what was not synced */
} verdict;

typedef struct call {
    fault_env *faults;
    const char *what;
    char path[400];
    verdict verdict;
    int sys_errno;
} call;

static bool fits(fault_kind kind, unsigned traits) {
    switch (kind) {
    case FAULT_EIO:
    case FAULT_KILL:
    case FAULT_KILL_AFTER: return true;
    case FAULT_ENOSPC: return (traits & ROOM) != 0;
    case FAULT_SHORT_WRITE: return (traits & SHORT) != 0;
    case FAULT_LOST_SYNC: return (traits & SYNCS) != 0;
    case FAULT_APPLIED: return (traits & CHANGES) != 0;
    }
    return false;
}

static verdict verdict_of(fault_kind kind) {
    switch (kind) {
    case FAULT_EIO:
    case FAULT_ENOSPC:
    case FAULT_KILL: return FAIL;
    case FAULT_SHORT_WRITE: return SHORTER;
    case FAULT_LOST_SYNC: return FAIL_AND_FORGET;
    case FAULT_APPLIED:
    case FAULT_KILL_AFTER: return FAIL_AFTER;
    }
    return GO_ON;
}

/* Counts the call and decides about it. `traits`: what it may suffer. */
static call begin(fault_env *faults, const char *what, const kwr_dir *dir, const char *name,
                  unsigned traits) {
    call c = { .faults = faults, .what = what, .verdict = GO_ON };
    const char *above = dir == NULL ? "" : dir->path;
    snprintf(c.path, sizeof c.path, "%s%s%s", above,
             above[0] != '\0' && name != NULL && name[0] != '\0' ? "/" : "",
             name == NULL ? "" : name);
    pthread_mutex_lock(&faults->mutex);
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        if (fits((fault_kind)kind, traits)) faults->fs_seen[kind]++;
    }
    if (faults->killed) {
        c.verdict = FAIL;
        c.sys_errno = EIO;
    } else if (fits(faults->fs_kind, traits) && fault_plan_hit(&faults->fs_plan)) {
        c.verdict = verdict_of(faults->fs_kind);
        c.sys_errno = faults->fs_kind == FAULT_ENOSPC ? ENOSPC : EIO;
        if (faults->fs_kind == FAULT_KILL || faults->fs_kind == FAULT_KILL_AFTER)
            faults->killed = true;
        fault_note_fired(faults, "%s %s", what, c.path);
    }
    pthread_mutex_unlock(&faults->mutex);
    return c;
}

static bool goes_on(const call *c) { return c->verdict != FAIL; }

/* Enters the result in the log; `status` is the base's, or anything when it was not asked. */
static kwr_status end(call *c, kwr_status status, kwr_error *err) {
    fault_env *faults = c->faults;
    const bool fails = c->verdict == FAIL || c->verdict == FAIL_AND_FORGET ||
                       (c->verdict == FAIL_AFTER && status == KWR_OK);
    if (fails) {
        status = c->sys_errno == ENOSPC ? KWR_ERR_NOSPACE : KWR_ERR_IO;
        if (err != NULL) {
            err->status = status;
            err->sys_errno = c->sys_errno;
            snprintf(err->text, sizeof err->text, "%s '%s': injected fault", c->what, c->path);
        }
    }
    pthread_mutex_lock(&faults->mutex);
    fault_call *entry;
    if (faults->log_size < FAULT_LOG_MAX) {
        entry = &faults->log[faults->log_size++];
    } else {
        entry = &faults->log[faults->log_first];
        faults->log_first = (faults->log_first + 1) % FAULT_LOG_MAX;
    }
    *entry = (fault_call){ .what = c->what, .status = status, .fired = c->verdict != GO_ON };
    memcpy(entry->path, c->path, sizeof entry->path);
    pthread_mutex_unlock(&faults->mutex);
    return status;
}

size_t fault_env_log_size(fault_env *faults) { return faults->log_size; }

const fault_call *fault_env_log(fault_env *faults, size_t index) {
    cr_assert(index < faults->log_size);
    return &faults->log[(faults->log_first + index) % FAULT_LOG_MAX];
}

size_t fault_env_log_count(fault_env *faults, const char *what) {
    size_t count = 0;
    for (size_t i = 0; i < faults->log_size; i++) {
        const fault_call *c = fault_env_log(faults, i);
        if (c->status == KWR_OK && strcmp(c->what, what) == 0) count++;
    }
    return count;
}

/* ---- handles: their memory counts as the library's, so opening can fail for want of it ---- */

static void *new_handle(fault_env *faults, size_t size, kwr_error *err) {
    void *handle = faults->allocator.alloc(faults, size, 16);
    if (handle == NULL) {
        if (err != NULL) {
            err->status = KWR_ERR_NOMEM;
            err->sys_errno = 0;
            snprintf(err->text, sizeof err->text, "open: no memory (injected)");
        }
        return NULL;
    }
    memset(handle, 0, size);
    pthread_mutex_lock(&faults->mutex);
    faults->open_handles++;
    pthread_mutex_unlock(&faults->mutex);
    return handle;
}

static void free_handle(fault_env *faults, void *handle, size_t size) {
    faults->allocator.free(faults, handle, size);
    pthread_mutex_lock(&faults->mutex);
    faults->open_handles--;
    pthread_mutex_unlock(&faults->mutex);
}

static const kwr_fs *base_fs(const fault_env *faults) { return faults->base->fs; }

static void use_dir(fault_env *faults, kwr_dir *dir) {
    pthread_mutex_lock(&faults->mutex);
    dir->users++;
    pthread_mutex_unlock(&faults->mutex);
}

static void drop_dir(fault_env *faults, kwr_dir *dir) {
    pthread_mutex_lock(&faults->mutex);
    const bool last = --dir->users == 0;
    pthread_mutex_unlock(&faults->mutex);
    if (!last) return;
    const kwr_fs *fs = base_fs(faults);
    if (dir->inner != NULL) fs->close_dir(fs->ctx, dir->inner);
    free_handle(faults, dir, sizeof *dir);
}

/* ---- directories ---- */

/* Opens below `parent`, or a root when that is NULL. */
static kwr_status open_any_dir(fault_env *faults, kwr_dir *parent, const char *name, unsigned flags,
                               kwr_dir **out, kwr_error *err) {
    const kwr_fs *fs = base_fs(faults);
    const bool creates = (flags & KWR_FS_CREATE) != 0;
    call c = begin(faults, parent == NULL ? "open_root" : "open_dir", parent,
                   parent == NULL ? "" : name, creates ? ROOM | CHANGES : 0);
    kwr_dir *dir = new_handle(faults, sizeof *dir, err);
    if (dir == NULL) {
        if (c.verdict == GO_ON) c.verdict = FAIL_AFTER; /* logged as what it is: not done */
        return end(&c, KWR_ERR_NOMEM, NULL);
    }
    dir->users = 1;
    snprintf(dir->path, sizeof dir->path, "%.255s", c.path);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) {
        status = parent == NULL
                     ? fs->open_root(fs->ctx, name, flags, &dir->inner, err)
                     : fs->open_dir(fs->ctx, parent->inner, name, flags, &dir->inner, err);
    }
    status = end(&c, status, err);
    if (status == KWR_OK)
        *out = dir;
    else
        drop_dir(faults, dir);
    return status;
}

static kwr_status fault_open_root(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                                  kwr_error *err) {
    return open_any_dir(ctx, NULL, path, flags, out, err);
}

static kwr_status fault_open_dir(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                                 kwr_dir **out, kwr_error *err) {
    return open_any_dir(ctx, parent, name, flags, out, err);
}

static void fault_close_dir(void *ctx, kwr_dir *dir) {
    if (dir != NULL) drop_dir(ctx, dir);
}

static const char *fault_path(void *ctx, kwr_dir *dir) {
    const kwr_fs *fs = base_fs(ctx);
    return fs->path(fs->ctx, dir->inner);
}

static kwr_status fault_list(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx,
                             kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "list", dir, "", 0);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->list(fs->ctx, dir->inner, fn, fn_ctx, err);
    return end(&c, status, err);
}

static kwr_status fault_sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "sync_dir", dir, "", ROOM | CHANGES);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->sync_dir(fs->ctx, dir->inner, err);
    return end(&c, status, err);
}

/* ---- files ---- */

typedef struct open_request {
    bool creates;
    unsigned flags;
    kwr_file_info *info;
} open_request;

static kwr_status open_any_file(fault_env *faults, kwr_dir *dir, const char *name,
                                const open_request *request, kwr_file **out, kwr_error *err) {
    const kwr_fs *fs = base_fs(faults);
    call c = begin(faults, request->creates ? "create" : "open", dir, name,
                   request->creates ? ROOM | CHANGES : 0);
    kwr_file *file = new_handle(faults, sizeof *file, err);
    if (file == NULL) {
        if (c.verdict == GO_ON) c.verdict = FAIL_AFTER;
        return end(&c, KWR_ERR_NOMEM, NULL);
    }
    kwr_file_info info = { 0 };
    kwr_status status = KWR_OK;
    if (goes_on(&c)) {
        status = request->creates ? fs->create(fs->ctx, dir->inner, name, &file->inner, err)
                                  : fs->open(fs->ctx, dir->inner, name, request->flags,
                                             &file->inner, &info, err);
    }
    status = end(&c, status, err);
    if (status != KWR_OK) {
        if (file->inner != NULL) (void)fs->close(fs->ctx, file->inner, NULL);
        free_handle(faults, file, sizeof *file);
        return status;
    }
    file->dir = dir;
    file->written_here = request->creates;
    snprintf(file->name, sizeof file->name, "%s", name);
    use_dir(faults, dir);
    if (request->info != NULL) *request->info = info;
    *out = file;
    return KWR_OK;
}

static kwr_status fault_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                               kwr_error *err) {
    return open_any_file(ctx, dir, name, &(open_request){ .creates = true }, out, err);
}

static kwr_status fault_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags,
                             kwr_file **out, kwr_file_info *info, kwr_error *err) {
    return open_any_file(ctx, dir, name, &(open_request){ .flags = flags, .info = info }, out, err);
}

static kwr_status fault_write(void *ctx, kwr_file *file, const void *data, size_t size,
                              size_t *done, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "write", file->dir, file->name, size > 1 ? ROOM | SHORT : ROOM);
    kwr_status status = KWR_OK;
    size_t taken = 0;
    if (goes_on(&c)) {
        if (c.verdict == SHORTER) size /= 2;
        status = fs->write(fs->ctx, file->inner, data, size, &taken, err);
        file->written += taken;
    }
    status = end(&c, status, err);
    if (status == KWR_OK) *done = taken;
    return status;
}

static void fault_write_back(void *ctx, kwr_file *file) {
    fault_env *faults = ctx;
    const kwr_fs *fs = base_fs(faults);
    pthread_mutex_lock(&faults->mutex);
    const bool killed = faults->killed;
    pthread_mutex_unlock(&faults->mutex);
    if (!killed && fs->write_back != NULL) fs->write_back(fs->ctx, file->inner);
}

static kwr_status fault_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                             size_t *done, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "read", file->dir, file->name, 0);
    kwr_status status = KWR_OK;
    size_t taken = 0;
    if (goes_on(&c)) status = fs->read(fs->ctx, file->inner, offset, data, size, &taken, err);
    status = end(&c, status, err);
    if (status == KWR_OK) *done = taken;
    return status;
}

/* Leaves in the file of that name only what was synced: it is made anew. The handle that is open
 * goes on writing to the old one, which no name leads to any more; such a file is dead anyway. */
static void forget_unsynced(fault_env *faults, const kwr_file *file) {
    const kwr_fs *fs = base_fs(faults);
    kwr_dir *dir = file->dir->inner;
    char *kept = malloc(file->synced + 1);
    cr_assert(kept != NULL);
    kwr_file *old = NULL, *fresh = NULL;
    kwr_file_info info;
    if (fs->open(fs->ctx, dir, file->name, 0, &old, &info, NULL) == KWR_OK) {
        uint64_t at = 0;
        for (size_t n = 1; at < file->synced && n > 0; at += n) {
            KWR_MUST(fs->read(fs->ctx, old, at, kept + at, file->synced - at, &n, NULL));
        }
        KWR_MUST(fs->close(fs->ctx, old, NULL));
        KWR_MUST(fs->remove(fs->ctx, dir, file->name, NULL));
        KWR_MUST(fs->create(fs->ctx, dir, file->name, &fresh, NULL));
        for (size_t done = 0, n = 0; done < at; done += n)
            KWR_MUST(fs->write(fs->ctx, fresh, kept + done, at - done, &n, NULL));
        KWR_MUST(fs->close(fs->ctx, fresh, NULL));
    }
    free(kept);
}

static kwr_status fault_sync(void *ctx, kwr_file *file, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "sync", file->dir, file->name, ROOM | SYNCS | CHANGES);
    kwr_status status = KWR_OK;
    if (c.verdict == FAIL_AND_FORGET) {
        if (file->written_here) forget_unsynced(ctx, file);
    } else if (goes_on(&c)) {
        status = fs->sync(fs->ctx, file->inner, err);
        if (status == KWR_OK) file->synced = file->written;
    }
    return end(&c, status, err);
}

static kwr_status fault_close(void *ctx, kwr_file *file, kwr_error *err) {
    if (file == NULL) return KWR_OK;
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "close", file->dir, file->name, file->written_here ? ROOM : 0);
    /* Releases whatever was decided: closing makes nothing in the file different. */
    const kwr_status status = end(&c, fs->close(fs->ctx, file->inner, err), err);
    drop_dir(ctx, file->dir);
    free_handle(ctx, file, sizeof *file);
    return status;
}

/* ---- names ---- */

static call begin_move(fault_env *faults, const char *what, const kwr_dir *from,
                       const char *from_name, const kwr_dir *to, const char *to_name) {
    char both[400];
    snprintf(both, sizeof both, "%s %s%s%s", from_name, to->path, to->path[0] == '\0' ? "" : "/",
             to_name);
    return begin(faults, what, from, both, ROOM | CHANGES);
}

static kwr_status fault_link(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                             const char *to_name, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin_move(ctx, "link", from, from_name, to, to_name);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->link(fs->ctx, from->inner, from_name, to->inner, to_name, err);
    return end(&c, status, err);
}

static kwr_status fault_rename(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                               const char *to_name, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin_move(ctx, "rename", from, from_name, to, to_name);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->rename(fs->ctx, from->inner, from_name, to->inner, to_name, err);
    return end(&c, status, err);
}

static kwr_status fault_remove(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "remove", dir, name, CHANGES);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->remove(fs->ctx, dir->inner, name, err);
    return end(&c, status, err);
}

static kwr_status fault_remove_dir(void *ctx, kwr_dir *parent, const char *name, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "remove_dir", parent, name, CHANGES);
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->remove_dir(fs->ctx, parent->inner, name, err);
    return end(&c, status, err);
}

static kwr_status fault_info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                             kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "info", dir, name, 0);
    kwr_status status = KWR_OK;
    kwr_file_info info = { 0 };
    if (goes_on(&c)) status = fs->info(fs->ctx, dir->inner, name, &info, err);
    status = end(&c, status, err);
    if (status == KWR_OK) *out = info;
    return status;
}

/* ---- locks ---- */

static kwr_status fault_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                             uint64_t *holder, kwr_error *err) {
    const kwr_fs *fs = base_fs(ctx);
    call c = begin(ctx, "lock", dir, name, ROOM);
    kwr_lock *lock = new_handle(ctx, sizeof *lock, err);
    if (lock == NULL) {
        if (c.verdict == GO_ON) c.verdict = FAIL_AFTER;
        return end(&c, KWR_ERR_NOMEM, NULL);
    }
    kwr_status status = KWR_OK;
    if (goes_on(&c)) status = fs->lock(fs->ctx, dir->inner, name, &lock->inner, holder, err);
    status = end(&c, status, err);
    if (status == KWR_OK) {
        *out = lock;
    } else {
        if (lock->inner != NULL) fs->unlock(fs->ctx, lock->inner);
        free_handle(ctx, lock, sizeof *lock);
    }
    return status;
}

static void fault_unlock(void *ctx, kwr_lock *lock) {
    if (lock == NULL) return;
    const kwr_fs *fs = base_fs(ctx);
    fs->unlock(fs->ctx, lock->inner);
    free_handle(ctx, lock, sizeof *lock);
}

void fault_fs_init(fault_env *faults) {
    faults->fs = (kwr_fs){
        .struct_size = sizeof faults->fs,
        .ctx = faults,
        .open_root = fault_open_root,
        .open_dir = fault_open_dir,
        .close_dir = fault_close_dir,
        .path = fault_path,
        .list = fault_list,
        .sync_dir = fault_sync_dir,
        .create = fault_create,
        .open = fault_open,
        .write = fault_write,
        .write_back = fault_write_back,
        .read = fault_read,
        .sync = fault_sync,
        .close = fault_close,
        .link = fault_link,
        .rename = fault_rename,
        .remove = fault_remove,
        .remove_dir = fault_remove_dir,
        .info = fault_info,
        .lock = fault_lock,
        .unlock = fault_unlock,
    };
    faults->env.fs = &faults->fs;
}
