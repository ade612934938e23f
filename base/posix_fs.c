/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories and names on the operating system's files.
 *
 * A directory is a descriptor and every name is one component looked up below it, so nothing that
 * happens to the path above it matters any more, and a link planted inside is refused, not
 * followed. The textual path is kept for messages alone.
 */
#include "base/posix_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/memory.h"

enum { NAME_BYTES_MAX = 255, LIST_BYTES = 32 * 1024, RACE_RETRIES = 16 };

const char *kwr_posix_separator(const char *path) {
    const size_t size = strlen(path);
    return size > 0 && path[size - 1] == '/' ? "" : "/";
}

/* Reports a failed call on a name: "remove '/a/b': ...". */
static kwr_status fail_name(kwr_error *err, kwr_status status, int sys_errno, const char *what,
                            const kwr_dir *dir, const char *name) {
    return KWR_FAIL(err, status, sys_errno, "%s '%s%s%s'", what, dir->path,
                    kwr_posix_separator(dir->path), name);
}

kwr_status kwr_posix_check_name(const kwr_dir *dir, const char *name, kwr_error *err) {
    const char *why = NULL;
    const size_t size = name == NULL ? 0 : strnlen(name, NAME_BYTES_MAX + 1);
    if (size == 0)
        why = "is empty";
    else if (size > NAME_BYTES_MAX)
        why = "is longer than 255 bytes";
    else if (strchr(name, '/') != NULL)
        why = "holds a '/'";
    else if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        why = "is not a name of its own";
    if (why == NULL) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "file name '%.300s' in '%s' refused: it %s",
                    name == NULL ? "" : name, dir->path, why);
}

/* ---- opening below a directory ---- */

static int sys_openat2(int dir, const char *name, int flags, mode_t mode) {
    const struct open_how how = {
        .flags = (unsigned)flags,
        .mode = (flags & O_CREAT) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
}

int kwr_posix_open_name(const kwr_posix_fs *fs, const kwr_dir *dir, const char *name, int flags,
                        mode_t mode, bool follow) {
    flags |= O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    int fd, races = 0;
    do {
        fd = follow || fs->openat2_off ? openat(dir->fd, name, flags, mode)
                                       : sys_openat2(dir->fd, name, flags, mode);
        /* openat2 gives up with EAGAIN when something is renamed meanwhile. */
    } while (fd < 0 && (errno == EINTR || (errno == EAGAIN && races++ < RACE_RETRIES)));
    return fd;
}

/* ---- directories ---- */

/* Makes an open descriptor a directory of ours, or closes it. `parent` NULL: `name` is the path. */
static kwr_status dir_new(kwr_posix_fs *fs, int fd, const kwr_dir *parent, const char *name,
                          kwr_dir **out, kwr_error *err) {
    const char *above = parent == NULL ? "" : parent->path;
    const char *separator = parent == NULL ? "" : kwr_posix_separator(above);
    const size_t size = sizeof(kwr_dir) + strlen(above) + strlen(separator) + strlen(name) + 1;
    kwr_dir *dir = kwr_alloc(fs->env, size);
    if (dir == NULL) {
        close(fd);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "open directory '%s%s%s': no memory", above,
                        separator, name);
    }
    dir->fd = fd;
    dir->size = size;
    snprintf(dir->path, size - sizeof(kwr_dir), "%s%s%s", above, separator, name);
    *out = dir;
    return KWR_OK;
}

/* A directory just made has exactly mode 0700, whatever the umask took. O_PATH descriptors have no
 * fchmod(), hence the way through /proc; without it the umask has its way. */
static void fix_dir_mode(int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || (st.st_mode & 0777) == 0700) return;
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (chmod(path, 0700) != 0) return;
}

static kwr_status fail_open_dir(kwr_error *err, int sys_errno, const char *above,
                                const char *separator, const char *name) {
    if (sys_errno == ENOTDIR || sys_errno == ELOOP) {
        return KWR_FAIL(err, KWR_ERR_MISMATCH, sys_errno,
                        "open directory '%s%s%s': it is a file or a symbolic link", above,
                        separator, name);
    }
    return KWR_FAIL(err, kwr_status_from_errno(sys_errno), sys_errno, "open directory '%s%s%s'",
                    above, separator, name);
}

/* After a failed or successful mkdir: goes on (true) unless it failed for good. */
static bool made(int result, unsigned flags, bool *fresh) {
    *fresh = result == 0;
    return result == 0 || (errno == EEXIST && (flags & KWR_FS_EXCLUSIVE) == 0);
}

/* Makes the name of a root durable. One we may not read, such as another user's, is not ours to
 * make: it was there before. */
static bool sync_parent(int fd) {
    const int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) return errno == EACCES || errno == EPERM;
    const bool synced = fsync(parent) == 0 || errno == EINVAL || errno == EROFS;
    const int failed = errno;
    close(parent);
    errno = failed;
    return synced;
}

/* Whoever may write to a directory without the sticky bit may put another in the place of all that
 * lies in it. */
static kwr_status check_private(int fd, const char *path, kwr_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "look at directory '%s'", path);
    if ((st.st_mode & S_IWOTH) == 0 || (st.st_mode & S_ISVTX) != 0) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                    "directory '%s' may be changed by every user (mode %04o): take the right to "
                    "write from others (chmod o-w), or use a directory in it; "
                    "kwr_posix_options.roots_unchecked allows it as it is",
                    path, (unsigned)(st.st_mode & 07777));
}

static kwr_status open_root_path(kwr_posix_fs *fs, const char *path, unsigned flags, kwr_dir **out,
                                 kwr_error *err) {
    bool fresh = false;
    if ((flags & KWR_FS_CREATE) != 0 && !made(mkdir(path, 0700), flags, &fresh)) {
        return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "create directory '%s'", path);
    }
    const int follow = (flags & KWR_FS_FOLLOW) != 0 ? 0 : O_NOFOLLOW;
    int fd;
    do {
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | follow);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return fail_open_dir(err, errno, "", "", path);
    if (fresh) fix_dir_mode(fd);
    if ((flags & KWR_FS_PRIVATE) != 0 && !fs->roots_unchecked) {
        const kwr_status status = check_private(fd, path, err);
        if (status < KWR_OK) {
            close(fd);
            return status;
        }
    }
    /* Also when it was there: whoever made it may have died before this. */
    if ((flags & KWR_FS_CREATE) != 0 && !sync_parent(fd)) {
        const int failed = errno;
        close(fd);
        return KWR_FAIL(err, kwr_status_from_errno(failed), failed, "sync the directory of '%s'",
                        path);
    }
    return dir_new(fs, fd, NULL, path, out, err);
}

static kwr_status open_root(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                            kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    size_t size = path == NULL ? 0 : strlen(path);
    if (size == 0) return KWR_FAIL(err, KWR_ERR_RANGE, 0, "open directory: the path is empty");
    while (size > 1 && path[size - 1] == '/')
        size--; /* "link/" would follow the link */
    char *copy = kwr_alloc(fs->env, size + 1);
    if (copy == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "open directory '%s': no memory", path);
    memcpy(copy, path, size);
    copy[size] = '\0';
    const kwr_status status = open_root_path(fs, copy, flags, out, err);
    kwr_free(fs->env, copy, size + 1);
    return status;
}

static kwr_status open_dir(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                           kwr_dir **out, kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    KWR_TRY(kwr_posix_check_name(parent, name, err));
    bool fresh = false;
    if ((flags & KWR_FS_CREATE) != 0 && !made(mkdirat(parent->fd, name, 0700), flags, &fresh))
        return fail_name(err, kwr_status_from_errno(errno), errno, "create directory", parent,
                         name);
    const int fd = kwr_posix_open_name(fs, parent, name, O_PATH | O_DIRECTORY, 0,
                                       (flags & KWR_FS_FOLLOW) != 0);
    if (fd < 0)
        return fail_open_dir(err, errno, parent->path, kwr_posix_separator(parent->path), name);
    if (fresh) fix_dir_mode(fd);
    return dir_new(fs, fd, parent, name, out, err);
}

static void close_dir(void *ctx, kwr_dir *dir) {
    kwr_posix_fs *fs = ctx;
    if (dir == NULL) return;
    close(dir->fd);
    kwr_free(fs->env, dir, dir->size);
}

static const char *dir_path(void *ctx, kwr_dir *dir) {
    (void)ctx;
    return dir->path;
}

static void close_fd_p(int *fd) {
    if (*fd >= 0) close(*fd);
}

/* An O_PATH descriptor can neither be listed nor synced. */
static int open_for_reading(const kwr_dir *dir) {
    int fd;
    do {
        fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static kwr_status list_buffer(const char *entries, size_t size, kwr_list_fn fn, void *fn_ctx) {
    for (size_t at = 0; at < size;) {
        const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
        at += entry->d_reclen;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        KWR_TRY(fn(fn_ctx, entry->d_name));
    }
    return KWR_OK;
}

static kwr_status list(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    KWR_CLEANUP(close_fd_p) int fd = open_for_reading(dir);
    if (fd < 0) return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "list '%s'", dir->path);
    char *buffer = kwr_alloc(fs->env, LIST_BYTES);
    if (buffer == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "list '%s': no memory", dir->path);
    kwr_status status = KWR_OK;
    for (;;) {
        const ssize_t size = getdents64(fd, buffer, LIST_BYTES);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0)
            status = KWR_FAIL(err, kwr_status_from_errno(errno), errno, "list '%s'", dir->path);
        if (size <= 0) break;
        status = list_buffer(buffer, (size_t)size, fn, fn_ctx);
        if (status < KWR_OK) break;
    }
    kwr_free(fs->env, buffer, LIST_BYTES);
    return status;
}

static kwr_status sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    (void)ctx;
    KWR_CLEANUP(close_fd_p) int fd = open_for_reading(dir);
    if (fd < 0) {
        return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "open directory '%s' to sync it",
                        dir->path);
    }
    int result;
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KWR_OK;
    return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "sync directory '%s'", dir->path);
}

/* ---- names ---- */

/* Reports a failed link or rename, naming both ends. */
static kwr_status fail_move(kwr_error *err, kwr_status status, int sys_errno, const char *what,
                            const kwr_dir *from, const char *from_name, const kwr_dir *to,
                            const char *to_name) {
    return KWR_FAIL(err, status, sys_errno, "%s '%s%s%s' to '%s%s%s'", what, from->path,
                    kwr_posix_separator(from->path), from_name, to->path,
                    kwr_posix_separator(to->path), to_name);
}

static kwr_status link_name(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                            const char *to_name, kwr_error *err) {
    (void)ctx;
    KWR_TRY(kwr_posix_check_name(from, from_name, err));
    KWR_TRY(kwr_posix_check_name(to, to_name, err));
    int result;
    do {
        result = linkat(from->fd, from_name, to->fd, to_name, 0);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KWR_OK;
    const bool none = errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK || errno == EXDEV;
    return fail_move(err, none ? KWR_ERR_UNSUPPORTED : kwr_status_from_errno(errno), errno, "link",
                     from, from_name, to, to_name);
}

static kwr_status rename_name(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                              const char *to_name, kwr_error *err) {
    (void)ctx;
    KWR_TRY(kwr_posix_check_name(from, from_name, err));
    KWR_TRY(kwr_posix_check_name(to, to_name, err));
    int result;
    do {
        result = renameat2(from->fd, from_name, to->fd, to_name, RENAME_NOREPLACE);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KWR_OK;
    const bool none = errno == EINVAL || errno == ENOSYS;
    return fail_move(err, none ? KWR_ERR_UNSUPPORTED : kwr_status_from_errno(errno), errno,
                     "rename", from, from_name, to, to_name);
}

static kwr_status remove_at(kwr_dir *dir, const char *name, int flags, const char *what,
                            kwr_error *err) {
    KWR_TRY(kwr_posix_check_name(dir, name, err));
    int result;
    do {
        result = unlinkat(dir->fd, name, flags);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KWR_OK;
    /* Some file systems say EEXIST for a directory that is not empty: no name is taken here. */
    const kwr_status status = errno == EEXIST ? KWR_ERR_IO : kwr_status_from_errno(errno);
    return fail_name(err, status, errno, what, dir, name);
}

static kwr_status remove_name(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    (void)ctx;
    return remove_at(dir, name, 0, "remove", err);
}

static kwr_status remove_dir(void *ctx, kwr_dir *parent, const char *name, kwr_error *err) {
    (void)ctx;
    return remove_at(parent, name, AT_REMOVEDIR, "remove directory", err);
}

kwr_file_info kwr_posix_file_info(const struct stat *st) {
    return (kwr_file_info){
        .kind = S_ISREG(st->st_mode)   ? KWR_FILE_REGULAR
                : S_ISDIR(st->st_mode) ? KWR_FILE_DIRECTORY
                                       : KWR_FILE_OTHER,
        .size = st->st_size < 0 ? 0 : (uint64_t)st->st_size,
        .modified_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000,
    };
}

static kwr_status info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                       kwr_error *err) {
    (void)ctx;
    KWR_TRY(kwr_posix_check_name(dir, name, err));
    struct stat st;
    int result;
    do {
        result = fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
        return fail_name(err, kwr_status_from_errno(errno), errno, "look at", dir, name);
    *out = kwr_posix_file_info(&st);
    return KWR_OK;
}

/* ---- opening and closing ---- */

static const kwr_fs table = {
    .struct_size = sizeof(kwr_fs),
    .open_root = open_root,
    .open_dir = open_dir,
    .close_dir = close_dir,
    .path = dir_path,
    .list = list,
    .sync_dir = sync_dir,
    .create = kwr_posix_create,
    .open = kwr_posix_open,
    .write = kwr_posix_write,
    .write_back = kwr_posix_write_back,
    .read = kwr_posix_read,
    .sync = kwr_posix_sync,
    .close = kwr_posix_close,
    .link = link_name,
    .rename = rename_name,
    .remove = remove_name,
    .remove_dir = remove_dir,
    .info = info,
    .lock = kwr_posix_lock,
    .unlock = kwr_posix_unlock,
};

/* Kernels before 5.6 have no openat2 and some sandboxes forbid it. */
static bool have_openat2(void) {
    const int fd = sys_openat2(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return errno != ENOSYS && errno != EPERM && errno != EINVAL && errno != E2BIG;
    close(fd);
    return true;
}

kwr_posix_fs *kwr_posix_fs_open(const kwr_env *env, bool openat2_off, bool roots_unchecked) {
    kwr_posix_fs *fs = kwr_alloc(env, sizeof *fs);
    if (fs == NULL) return NULL;
    *fs = (kwr_posix_fs){ .table = table, .env = env };
    fs->table.ctx = fs;
    fs->roots_unchecked = roots_unchecked;
    fs->openat2_off = openat2_off || !have_openat2();
    return fs;
}

void kwr_posix_fs_close(kwr_posix_fs *fs) {
    if (fs != NULL) kwr_free(fs->env, fs, sizeof *fs);
}

const kwr_fs *kwr_posix_fs_table(const kwr_posix_fs *fs) { return &fs->table; }
