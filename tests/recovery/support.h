/* SPDX-License-Identifier: Apache-2.0 */
/* A job on a storage, attempts that publish checkpoints in it, and ways to damage what they left.
 */
#ifndef RECOVERY_SUPPORT_H
#define RECOVERY_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "recovery/recovery.h"
#include "tests/support/kwr_test.h"

#define JOB_NAME "words"

typedef struct fixture {
    kwr_env *env;
    kwr_storage *storage;
    kwr_job_dirs dirs;
    kwr_limits limits;
    char root[64]; /* of file:, to remove */
} fixture;

static inline void open_job(fixture *f) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_job_dirs_open(f->env, f->storage, JOB_NAME, true, &f->dirs, &err), err);
}

static inline void fixture_open(fixture *f, bool on_disk) {
    *f = (fixture){ 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_env_posix_open(NULL, &f->env, &err), err);
    const char *uri = "memory:";
    if (on_disk) {
        snprintf(f->root, sizeof f->root, "/tmp/kwr-claim-XXXXXX");
        cr_assert(mkdtemp(f->root) != NULL);
        uri = f->root;
    }
    KWR_MUST_ERR(kwr_storage_open(f->env, uri, true, &f->storage, &err), err);
    KWR_MUST_ERR(kwr_limits_complete(NULL, &f->limits, &err), err);
    open_job(f);
}

static inline void fixture_close(fixture *f) {
    kwr_job_dirs_close(&f->dirs);
    kwr_storage_close(f->storage);
    kwr_env_posix_close(f->env);
    if (f->root[0] != '\0') {
        char command[96];
        snprintf(command, sizeof command, "rm -rf '%s'", f->root);
        cr_assert(system(command) == 0);
    }
}

/* Runs a test body on each storage. */
#define ON_EACH_STORAGE(body)                     \
    do {                                          \
        for (int disk_ = 0; disk_ < 2; disk_++) { \
            fixture fixture_;                     \
            fixture_open(&fixture_, disk_ == 1);  \
            body(&fixture_);                      \
            fixture_close(&fixture_);             \
        }                                         \
    } while (0)

/* ---- what attempts do ---- */

static inline kwr_status claim_as(fixture *f, kwr_restore_mode mode, uint64_t checkpoint,
                                  uint64_t generation, kwr_claim *out, kwr_error *err) {
    const kwr_claim_options options = {
        .limits = &f->limits,
        .restore = mode,
        .restore_checkpoint = checkpoint,
        .restore_generation = generation,
    };
    return kwr_recovery_claim(&f->dirs, &options, out, err);
}

static inline kwr_claim claim(fixture *f) {
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    return c;
}

/* The slot after the newest one of the attempt. */
static inline kwr_slot next_slot(const kwr_claim *c, uint64_t checkpoint) {
    kwr_slot slot = { .kind = KWR_SLOT_CHECKPOINT, .checkpoint = checkpoint };
    kwr_log_continue(&c->log, &slot);
    slot.generation = c->fence.generation;
    slot.highest = checkpoint;
    return slot;
}

/* The attempt publishes `checkpoint` with these operators (may be none). */
static inline kwr_status publish_with(fixture *f, kwr_claim *c, uint64_t checkpoint,
                                      kwr_manifest_operator *operators, size_t count,
                                      kwr_error *err) {
    kwr_manifest manifest = {
        .job = JOB_NAME,
        .checkpoint = checkpoint,
        .generation = c->fence.generation,
        .max_parallelism = 128,
        .operators = operators,
        .operator_count = count,
    };
    memcpy(manifest.job_uid, c->fence.job_uid, sizeof manifest.job_uid);
    kwr_slot slot = next_slot(c, checkpoint);
    uint64_t written = 0;
    kwr_status status =
        kwr_checkpoint_write(&f->dirs, &manifest, (kwr_slice){ 0 }, &slot, &written, err);
    if (status == KWR_OK) status = kwr_log_publish(&f->dirs, &slot, err);
    if (status == KWR_OK) KWR_MUST(kwr_log_append(&c->log, &slot));
    return status;
}

static inline kwr_status publish(fixture *f, kwr_claim *c, uint64_t checkpoint, kwr_error *err) {
    return publish_with(f, c, checkpoint, NULL, 0, err);
}

static inline void must_publish(fixture *f, kwr_claim *c, uint64_t checkpoint) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(publish(f, c, checkpoint, &err), err);
}

/* One whole attempt: claims, publishes these ids (0 ends), ends. */
static inline void attempt(fixture *f, const uint64_t *ids) {
    kwr_claim c = claim(f);
    for (; *ids != 0; ids++)
        must_publish(f, &c, *ids);
    kwr_claim_done(&c);
}
#define ATTEMPT(f, ...) attempt(f, (const uint64_t[]){ __VA_ARGS__, 0 })

static inline size_t slots_in_log(fixture *f) {
    kwr_log log = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_log_read(&f->dirs, &f->limits, &log, &err), err);
    const size_t count = log.count;
    kwr_log_free(&log);
    return count;
}

/* ---- damage ---- */

static inline kwr_storage_dir *open_checkpoint(fixture *f, uint64_t checkpoint,
                                               uint64_t generation) {
    char name[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(checkpoint, generation, name);
    kwr_storage_dir *dir = NULL;
    KWR_MUST(f->storage->ops->dir_open(f->storage, f->dirs.root, name, false, &dir, NULL));
    return dir;
}

/* The file again with one byte changed, the storage's own way: removed and written anew. */
static inline void flip(fixture *f, kwr_storage_dir *dir, const char *name, size_t at) {
    const kwr_storage_ops *ops = f->storage->ops;
    kwr_storage_reader *reader = NULL;
    kwr_storage_writer *writer = NULL;
    uint64_t size = 0;
    kwr_error err = { 0 };
    KWR_MUST_ERR(ops->open(f->storage, dir, name, &reader, &size, &err), err);
    char *bytes = malloc(size);
    cr_assert(bytes != NULL && at < size);
    KWR_MUST_ERR(ops->read(f->storage, reader, 0, bytes, size, &err), err);
    ops->close_reader(f->storage, reader);
    bytes[at] ^= 1;
    KWR_MUST_ERR(ops->remove(f->storage, dir, name, &err), err);
    KWR_MUST_ERR(ops->create(f->storage, dir, name, &writer, &err), err);
    KWR_MUST_ERR(ops->write(f->storage, writer, bytes, size, &err), err);
    KWR_MUST_ERR(ops->finish(f->storage, writer, &err), err);
    free(bytes);
}

static inline void damage(fixture *f, uint64_t checkpoint, uint64_t generation, const char *file) {
    kwr_storage_dir *dir = open_checkpoint(f, checkpoint, generation);
    flip(f, dir, file, 5);
    f->storage->ops->dir_close(f->storage, dir);
}

static inline void lose(fixture *f, uint64_t checkpoint, uint64_t generation, const char *file) {
    kwr_storage_dir *dir = open_checkpoint(f, checkpoint, generation);
    KWR_MUST(f->storage->ops->remove(f->storage, dir, file, NULL));
    f->storage->ops->dir_close(f->storage, dir);
}

static inline void remove_slot(fixture *f, uint64_t number) {
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(number, name);
    KWR_MUST(f->storage->ops->remove(f->storage, f->dirs.log, name, NULL));
}

#define HAS(words, err) \
    cr_assert(strstr((err).text, (words)) != NULL, "\"%s\" is not in: %s", words, (err).text)

#endif /* RECOVERY_SUPPORT_H */
