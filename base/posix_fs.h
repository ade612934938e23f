/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the file system share: names and directories (posix_fs.c), the content of
 * files (posix_file.c), locks (posix_lock.c). */
#ifndef KWR_BASE_POSIX_FS_H
#define KWR_BASE_POSIX_FS_H

#include <sys/stat.h>

#include "base/posix.h"

struct kwr_posix_fs {
    kwr_fs table;
    const kwr_env *env;
    bool roots_unchecked;
    bool openat2_off; /* the kernel has none; found out once, at open */
};

struct kwr_dir {
    int fd; /* O_PATH */
    size_t size;
    char path[];
};

/* Refuses what is not one component. */
kwr_status kwr_posix_check_name(const kwr_dir *dir, const char *name, kwr_error *err);
/* Opens a checked name in `dir`, below it and through no symbolic link unless `follow`. A
 * descriptor, or -1 with errno. */
int kwr_posix_open_name(const kwr_posix_fs *fs, const kwr_dir *dir, const char *name, int flags,
                        mode_t mode, bool follow);
kwr_file_info kwr_posix_file_info(const struct stat *st);
/* Between two parts of a path: nothing after one that ends in '/'. */
const char *kwr_posix_separator(const char *path);

/* posix_file.c; contracts in kwr_fs. */
kwr_status kwr_posix_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                            kwr_error *err);
kwr_status kwr_posix_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags, kwr_file **out,
                          kwr_file_info *info, kwr_error *err);
kwr_status kwr_posix_write(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                           kwr_error *err);
void kwr_posix_write_back(void *ctx, kwr_file *file);
kwr_status kwr_posix_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                          size_t *done, kwr_error *err);
kwr_status kwr_posix_sync(void *ctx, kwr_file *file, kwr_error *err);
kwr_status kwr_posix_close(void *ctx, kwr_file *file, kwr_error *err);

/* posix_lock.c */
kwr_status kwr_posix_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                          uint64_t *holder, kwr_error *err);
void kwr_posix_unlock(void *ctx, kwr_lock *lock);

#endif /* KWR_BASE_POSIX_FS_H */
