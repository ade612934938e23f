/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exclusive locks between processes: locks of the open file, which end with the process however it
 * ends, and which two openers in one process do not share. The holder writes its pid into the file
 * for the loser to report; the lock decides, the pid informs.
 */
#include "base/posix_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/name.h"

struct kwr_lock {
    int fd;
};

enum { REPLACED_RETRIES = 16, PID_LOOKS = 20, PID_PAUSE_NS = 5000000 };

static int set_lock(int fd, short type) {
    struct flock whole = { .l_type = type, .l_whence = SEEK_SET };
    int result;
    do {
        result = fcntl(fd, F_OFD_SETLK, &whole);
    } while (result != 0 && errno == EINTR);
    return result;
}

static void pause_shortly(void) {
    const struct timespec pause = { .tv_nsec = PID_PAUSE_NS };
    nanosleep(&pause, NULL);
}

/* The pid in the file, 0 when there is none. */
static uint64_t read_pid(int fd) {
    char text[24];
    const ssize_t size = pread(fd, text, sizeof text, 0);
    uint64_t pid = 0;
    if (size < 2 || text[size - 1] != '\n') return 0;
    return kwr_parse_u64(text, (size_t)size - 1, &pid) && pid <= INT32_MAX ? pid : 0;
}

/* Between taking the lock and writing its pid the holder's file shows nothing, or a process that is
 * gone: look again for a moment. */
static uint64_t holder_pid(int fd) {
    uint64_t pid = 0;
    for (int look = 0; look < PID_LOOKS; look++) {
        if (look > 0) pause_shortly();
        pid = read_pid(fd);
        if (pid != 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM)) break;
    }
    return pid;
}

static kwr_status fail_lock(kwr_error *err, kwr_status status, int sys_errno, const char *what,
                            const kwr_dir *dir, const char *name) {
    return KWR_FAIL(err, status, sys_errno, "%s '%s%s%s'", what, dir->path,
                    kwr_posix_separator(dir->path), name);
}

static kwr_status report_holder(int fd, const kwr_dir *dir, const char *name, uint64_t *holder,
                                kwr_error *err) {
    const uint64_t pid = holder_pid(fd);
    if (holder != NULL) *holder = pid;
    char who[48] = "another process";
    if (pid == (uint64_t)getpid())
        snprintf(who, sizeof who, "this process (%llu) already", (unsigned long long)pid);
    else if (pid != 0)
        snprintf(who, sizeof who, "process %llu", (unsigned long long)pid);
    return KWR_FAIL(err, KWR_ERR_LOCKED, 0, "%s holds '%s%s%s'", who, dir->path,
                    kwr_posix_separator(dir->path), name);
}

/* Opens the lock file, or -1 with the failure reported. */
static int open_lock_file(kwr_posix_fs *fs, const kwr_dir *dir, const char *name,
                          kwr_status *status, kwr_error *err) {
    const int fd =
        kwr_posix_open_name(fs, dir, name, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY, 0600, false);
    struct stat st;
    if (fd < 0) {
        *status =
            fail_lock(err, kwr_status_from_errno(errno), errno, "open the lock file", dir, name);
    } else if (fstat(fd, &st) != 0) {
        *status =
            fail_lock(err, kwr_status_from_errno(errno), errno, "look at the lock file", dir, name);
        close(fd);
    } else if (!S_ISREG(st.st_mode)) {
        *status = fail_lock(err, KWR_ERR_MISMATCH, 0, "not a regular file: lock file", dir, name);
        close(fd);
    } else {
        return fd;
    }
    return -1;
}

/* Whether the name still leads to the locked file: a file removed and made anew is another lock. */
static bool still_there(int fd, const kwr_dir *dir, const char *name) {
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && fstatat(dir->fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

static kwr_status take(kwr_posix_fs *fs, const kwr_dir *dir, const char *name, int *out,
                       uint64_t *holder, kwr_error *err) {
    for (int i = 0; i < REPLACED_RETRIES; i++) {
        kwr_status status = KWR_OK;
        const int fd = open_lock_file(fs, dir, name, &status, err);
        if (fd < 0) return status;
        if (set_lock(fd, F_WRLCK) != 0) {
            if (errno == EAGAIN || errno == EACCES) {
                status = report_holder(fd, dir, name, holder, err);
            } else {
                const bool none = errno == ENOLCK || errno == EINVAL || errno == EOPNOTSUPP;
                status = fail_lock(err, none ? KWR_ERR_UNSUPPORTED : kwr_status_from_errno(errno),
                                   errno, "lock", dir, name);
            }
            close(fd);
            return status;
        }
        if (still_there(fd, dir, name)) {
            *out = fd;
            return KWR_OK;
        }
        close(fd);
    }
    return fail_lock(err, KWR_ERR_IO, 0, "somebody keeps replacing the lock file", dir, name);
}

/* On a full disk the lock holds all the same, only without a pid to tell. */
static void write_pid(int fd) {
    char text[24];
    const int size = snprintf(text, sizeof text, "%lld\n", (long long)getpid());
    const bool told = ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) == size;
    (void)told;
}

kwr_status kwr_posix_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                          uint64_t *holder, kwr_error *err) {
    kwr_posix_fs *fs = ctx;
    KWR_TRY(kwr_posix_check_name(dir, name, err));
    kwr_lock *lock = kwr_alloc(fs->env, sizeof *lock);
    if (lock == NULL) return fail_lock(err, KWR_ERR_NOMEM, 0, "no memory to lock", dir, name);
    const kwr_status status = take(fs, dir, name, &lock->fd, holder, err);
    if (status != KWR_OK) {
        kwr_free(fs->env, lock, sizeof *lock);
        return status;
    }
    write_pid(lock->fd);
    *out = lock;
    return KWR_OK;
}

void kwr_posix_unlock(void *ctx, kwr_lock *lock) {
    kwr_posix_fs *fs = ctx;
    if (lock == NULL) return;
    /* The pid goes first; and the lock by name, since a child may still share the descriptor. */
    const int ignored = ftruncate(lock->fd, 0);
    (void)ignored;
    set_lock(lock->fd, F_UNLCK);
    close(lock->fd);
    kwr_free(fs->env, lock, sizeof *lock);
}
