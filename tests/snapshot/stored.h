/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a storage of any kind, as a test wants them, by paths below the root such as
 * "job/shared/x". */
#ifndef SNAPSHOT_STORED_H
#define SNAPSHOT_STORED_H

#include "tests/snapshot/fixture.h"

/* A copy of the file, to be freed; NULL: there is none. */
uint8_t *stored_get(const fixture *f, const char *path, size_t *size);
/* In place of what is there; directories are made. */
void stored_put(const fixture *f, const char *path, const void *data, size_t size);
void stored_remove(const fixture *f, const char *path);
bool stored_there(const fixture *f, const char *path);
/* One bit at `offset`. */
void stored_flip(const fixture *f, const char *path, size_t offset);
void stored_cut(const fixture *f, const char *path, size_t size);
/* How many names of the directory start so; `first` (or NULL) gets one. */
size_t stored_count(const fixture *f, const char *directory, const char *prefix, char first[256]);
/* Every name and byte below "job" as one number, but for the lock. */
uint64_t stored_sum(const fixture *f);

#endif /* SNAPSHOT_STORED_H */
