/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local copies of data files, as readers of data files see them: bytes that are on offer and that
 * nobody has verified yet. Whoever reads compares them with the digests of the manifest, and takes
 * the file in storage when they do not fit. See docs/local-recovery.md.
 */
#ifndef KWR_SNAPSHOT_LOCAL_COPY_H
#define KWR_SNAPSHOT_LOCAL_COPY_H

#include "snapshot/storage.h"

typedef struct kwr_local_file kwr_local_file;

/* The copy of the file `name` in `shared`, a directory of `storage`; NULL: there is none of this
 * length that can be opened, or `storage` keeps no copies. */
kwr_local_file *kwr_local_file_open(kwr_storage *storage, kwr_storage_dir *shared, const char *name,
                                    uint64_t length);
/* NULL is a no-op. */
void kwr_local_file_close(kwr_local_file *file);
/* Keeps no descriptor open from now on. */
void kwr_local_file_rest(kwr_local_file *file);
/* False: read it from storage. [any] */
bool kwr_local_file_read(kwr_local_file *file, uint64_t offset, void *data, size_t size);
/* `bytes` of what was read were verified and are used. [any] */
void kwr_local_file_used(kwr_local_file *file, uint64_t bytes);
/* The same of what was read before it could be verified, unless the copy was left since. */
void kwr_local_file_loaded(kwr_local_file *file, uint64_t bytes);
/* What was read is not what was written: the copy is removed, no further byte of it is given. False
 * when that was known. [any] */
bool kwr_local_file_reject(kwr_local_file *file, const char *why);

/* Where a copy lies that has the right length, of a file that storage does not have; for messages.
 */
bool kwr_local_file_path(kwr_storage *storage, kwr_storage_dir *shared, const char *name,
                         char out[KWR_STORAGE_PATH_MAX]);

#endif /* KWR_SNAPSHOT_LOCAL_COPY_H */
