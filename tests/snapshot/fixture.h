/* SPDX-License-Identifier: Apache-2.0 */
/* An environment, and storages of each kind below a directory that goes away with the test. */
#ifndef SNAPSHOT_FIXTURE_H
#define SNAPSHOT_FIXTURE_H

#include "keyweir/keyweir.h"
#include "keyweir/storage.h"
#include "snapshot/checkpoint.h"
#include "tests/support/kwr_test.h"

typedef struct fixture {
    kwr_env *env;
    kwr_storage *storage;
    char root[256]; /* "" for memory: */
} fixture;

enum { KIND_FILE = 0, KIND_MEMORY = 1, KINDS = 2 };

void fixture_open(fixture *f, int kind);
void fixture_close(fixture *f);
/* A new directory in the system's place for temporary files. */
void make_temp_dir(char *out, size_t capacity);
void remove_tree(const char *path);
/* All below `from`, links and special files left out, into the directory `to`, made. */
void copy_tree(const char *from, const char *to);

/* Whole files, by plain calls. */
void *slurp(const char *path, size_t *size);
void spill(const char *path, const void *data, size_t size);
bool file_exists(const char *path);

/* A slot that follows `log`: a fence of a new generation, or a checkpoint of the present one. */
kwr_slot next_fence(const kwr_log *log, const char *job);
kwr_slot next_checkpoint(const kwr_log *log, uint64_t id);
/* Publishes it and appends it to the log in memory. */
void publish(const kwr_job_dirs *dirs, kwr_log *log, kwr_slot slot);

#endif /* SNAPSHOT_FIXTURE_H */
