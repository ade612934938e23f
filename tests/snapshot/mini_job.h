/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job in miniature: one keyed operator with one subtask, a commit log, and state that can be told
 * from its round. The parts are used as a coordinator would use them, without one.
 */
#ifndef SNAPSHOT_MINI_JOB_H
#define SNAPSHOT_MINI_JOB_H

#include "keyweir/keyweir.h"
#include "keyweir/snapshot.h"
#include "snapshot/checkpoint.h"
#include "snapshot/retention.h"
#include "tests/snapshot/fixture.h"

enum { MINI_SEED = 12345, MINI_GROUPS = 16 };

typedef struct mini_job {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_job_dirs dirs;
    kwr_log log;
    uint32_t retain;          /* 0: everything */
    kwr_retention *retention; /* may be NULL: nothing is removed */
    uint64_t sequence;
    size_t inline_bytes;
    uint32_t threads;
    bool compression_off;
    /* The state lives on from checkpoint to checkpoint: only the first is written whole, later
     * rounds change a few entries and refer to the files of earlier ones. */
    bool increments;
    kwr_backend *backend; /* with increments */
    kwr_lineage *lineage;
} mini_job;

kwr_backend_options mini_options(const kwr_env *env, kwr_key_group_range range);
/* Entries 0..count of a state "text" (bytes) and "number" (i64), values made from `round`. */
kwr_status mini_fill(kwr_backend *backend, kwr_key_group_range range, uint32_t count,
                     uint32_t round);
/* Asserts that exactly these entries are there. */
void mini_expect(kwr_backend *backend, kwr_key_group_range range, uint32_t count, uint32_t round);
uint32_t mini_group(uint32_t number);

/* Opens job "job", reads its log and publishes a fence. */
kwr_status mini_start(mini_job *job, const kwr_env *env, kwr_storage *storage, kwr_error *err);
void mini_stop(mini_job *job);
/* A checkpoint of `count` entries of `round` (also its id), published; retention applied. */
kwr_status mini_checkpoint(mini_job *job, uint32_t count, uint32_t round, kwr_error *err);
/* Restores the newest checkpoint of the log as it is in storage. `*round`: its id. */
kwr_status mini_restore(const kwr_env *env, kwr_storage *storage, kwr_backend **out,
                        uint64_t *round, kwr_error *err);
/* The same, of one checkpoint id; asserts its content. */
void mini_expect_restores(const kwr_env *env, kwr_storage *storage, uint32_t count, uint64_t round);

/* A manifest of one operator "count" around the handles of its subtasks. Encodes and writes
 * nothing. Valid while the parts are. */
typedef struct mini_manifest {
    kwr_manifest manifest;
    kwr_manifest_operator op;
    kwr_manifest_subtask subtasks[8];
    kwr_subtask_part *parts[8];
    kwr_manifest_file files[8][8];
    uint8_t inline_bytes[1 << 20];
    size_t inline_size;
} mini_manifest;

kwr_status mini_manifest_make(mini_manifest *m, const kwr_env *env, const kwr_slice *handles,
                              uint32_t parallelism, uint64_t checkpoint, uint64_t generation,
                              kwr_error *err);
void mini_manifest_done(mini_manifest *m, uint32_t parallelism);

#endif /* SNAPSHOT_MINI_JOB_H */
