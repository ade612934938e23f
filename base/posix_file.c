/* SPDX-License-Identifier: Apache-2.0 */
/* The content of files: written once from front to back, read by range. */
#include "base/posix_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

struct kwr_file {
    int fd;
    bool dead; /* a sync failed: the kernel may have dropped what it could not write */
    uint64_t written;
    uint64_t written_back;
    size_t size; /* of this memory */
    char path[];
};

/* One call moves at most this much; the kernel's own bound is near 2 GiB. */
enum { TRANSFER_MAX = 1 << 30 };

static kwr_status fail_file(kwr_error *err, int sys_errno, const char *what, const char *path) {
    return KWR_FAIL(err, kwr_status_from_errno(sys_errno), sys_errno, "%s '%s'", what, path);
}

/* The object before the descriptor: so nothing has to be undone on the disk without memory. */
static kwr_file *file_new(kwr_posix_fs *fs, const kwr_dir *dir, const char *name, kwr_error *err) {
    const char *separator = kwr_posix_separator(dir->path);
    const size_t size = sizeof(kwr_file) + strlen(dir->path) + strlen(separator) + strlen(name) + 1;
    kwr_file *file = kwr_alloc(fs->env, size);
    if (file == NULL) {
        kwr_error_set(err, KWR_ERR_NOMEM, 0, "open '%s%s%s': no memory", dir->path, separator,
                      name);
        return NULL;
    }
    *file = (kwr_file){ .fd = -1, .size = size };
    snprintf(file->path, size - sizeof(kwr_file), "%s%s%s", dir->path, separator, name);
    return file;
}

static void file_free(kwr_posix_fs *fs, kwr_file *file) {
    if (file->fd >= 0) close(file->fd);
    kwr_free(fs->env, file, file->size);
}

static kwr_status create_open(kwr_posix_fs *fs, const kwr_dir *dir, const char *name,
                              kwr_file *file, kwr_error *err) {
    file->fd = kwr_posix_open_name(fs, dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600, false);
    if (file->fd < 0) return fail_file(err, errno, "create", file->path);
    struct stat st;
    const bool wrong = fstat(file->fd, &st) == 0 && (st.st_mode & 0777) != 0600;
    if (!wrong || fchmod(file->fd, 0600) == 0) return KWR_OK;
    const kwr_status status = fail_file(err, errno, "set the mode of", file->path);
    unlinkat(dir->fd, name, 0);
    return status;
}

kwr_status kwr_posix_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                            kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    KWR_TRY(kwr_posix_check_name(dir, name, err));
    kwr_file *file = file_new(fs, dir, name, err);
    if (file == NULL) return KWR_ERR_NOMEM;
    const kwr_status status = create_open(fs, dir, name, file, err);
    if (status != KWR_OK) {
        file_free(fs, file);
        return status;
    }
    *out = file;
    return KWR_OK;
}

static kwr_status open_regular(kwr_posix_fs *fs, const kwr_dir *dir, const char *name,
                               unsigned flags, kwr_file *file, kwr_file_info *info,
                               kwr_error *err) {
    /* O_NONBLOCK: a pipe planted here does not hold us up until somebody writes to it. */
    file->fd = kwr_posix_open_name(fs, dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                                   (flags & KWR_FS_FOLLOW) != 0);
    if (file->fd < 0) {
        if (errno != ELOOP && errno != ENXIO) return fail_file(err, errno, "open", file->path);
        return KWR_FAIL(err, KWR_ERR_MISMATCH, errno,
                        "open '%s': it is a symbolic link or a socket, not a regular file",
                        file->path);
    }
    struct stat st;
    if (fstat(file->fd, &st) != 0) return fail_file(err, errno, "look at", file->path);
    if (!S_ISREG(st.st_mode)) {
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "open '%s': it is not a regular file",
                        file->path);
    }
    if (info != NULL) *info = kwr_posix_file_info(&st);
    return KWR_OK;
}

kwr_status kwr_posix_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags, kwr_file **out,
                          kwr_file_info *info, kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    KWR_TRY(kwr_posix_check_name(dir, name, err));
    kwr_file *file = file_new(fs, dir, name, err);
    if (file == NULL) return KWR_ERR_NOMEM;
    const kwr_status status = open_regular(fs, dir, name, flags, file, info, err);
    if (status != KWR_OK) {
        file_free(fs, file);
        return status;
    }
    *out = file;
    return KWR_OK;
}

kwr_status kwr_posix_write(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                           kwr_error *err) {
    (void)ctx;
    if (size == 0) {
        *done = 0;
        return KWR_OK;
    }
    ssize_t n;
    do {
        n = write(file->fd, data, size < TRANSFER_MAX ? size : TRANSFER_MAX);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return fail_file(err, errno, "write", file->path);
    if (n == 0) /* or a caller that writes the rest would never end */
        return KWR_FAIL(err, KWR_ERR_IO, 0, "write '%s': nothing was taken", file->path);
    file->written += (size_t)n;
    *done = (size_t)n;
    return KWR_OK;
}

void kwr_posix_write_back(void *ctx, kwr_file *file) {
    (void)ctx;
    if (file->written == file->written_back) return;
    /* A hint: what fails here fails again, and is reported, in sync. */
    sync_file_range(file->fd, (off_t)file->written_back,
                    (off_t)(file->written - file->written_back), SYNC_FILE_RANGE_WRITE);
    file->written_back = file->written;
}

kwr_status kwr_posix_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                          size_t *done, kwr_error *err) {
    (void)ctx;
    if (offset >= INT64_MAX) { /* behind the end of any file */
        *done = 0;
        return KWR_OK;
    }
    const uint64_t room = INT64_MAX - offset; /* beyond it the kernel refuses the whole read */
    if (size > room) size = room;
    ssize_t n;
    do {
        n = pread(file->fd, data, size < TRANSFER_MAX ? size : TRANSFER_MAX, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return KWR_FAIL(err, kwr_status_from_errno(errno), errno, "read '%s' at %llu", file->path,
                        (unsigned long long)offset);
    }
    *done = (size_t)n;
    return KWR_OK;
}

kwr_status kwr_posix_sync(void *ctx, kwr_file *file, kwr_error *err) {
    (void)ctx;
    if (file->dead) {
        return KWR_FAIL(err, KWR_ERR_IO, 0,
                        "sync '%s': an earlier sync failed, what it holds is not known; write it "
                        "anew under another name",
                        file->path);
    }
    int result;
    do {
        result = fsync(file->fd);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KWR_OK;
    file->dead = true;
    return fail_file(err, errno, "sync", file->path);
}

kwr_status kwr_posix_close(void *ctx, kwr_file *file, kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    if (file == NULL) return KWR_OK;
    kwr_status status = KWR_OK;
    const int fd = file->fd;
    file->fd = -1;
    /* Never twice: after EINTR the descriptor is gone on Linux, and may be another thread's. */
    if (close(fd) != 0 && errno != EINTR) status = fail_file(err, errno, "close", file->path);
    file_free(fs, file);
    return status;
}
