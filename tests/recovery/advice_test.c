/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The advice after damage names only what is good to the last byte: checkpoints with state in data
 * files, of which a manifest that reads well says nothing.
 */
#include "keyweir/snapshot.h"
#include "tests/recovery/support.h"

/* A keyed state of some entries, written to a file of shared/; what an ack would carry. */
static kwr_bytes write_state(fixture *f, const kwr_claim *c, uint64_t checkpoint) {
    kwr_error err = { 0 };
    kwr_backend *backend = NULL;
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = f->env,
                                          .max_parallelism = 128 };
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    kwr_value *value = NULL;
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "seen" };
    KWR_MUST_ERR(kwr_value_open(backend, &descriptor, &value, &err), err);
    for (uint32_t i = 0; i < 1000; i++) {
        KWR_MUST(kwr_backend_set_key(backend, (kwr_slice){ &i, sizeof i }));
        KWR_MUST(kwr_value_put(value, (kwr_slice){ &checkpoint, sizeof checkpoint }));
    }
    kwr_view *view = NULL;
    KWR_MUST(kwr_backend_freeze(backend, &view));
    kwr_snapshot_target target = {
        .struct_size = sizeof target,
        .env = f->env,
        .storage = f->storage,
        .job = JOB_NAME,
        .operator_id = "count",
        .generation = c->fence.generation,
        .checkpoint = checkpoint,
        .sequence = checkpoint,
    };
    memcpy(target.job_uid, c->fence.job_uid, sizeof target.job_uid);
    kwr_snapshot_result result = { 0 };
    KWR_MUST_ERR(kwr_snapshot_write(view, &target, NULL, &result, &err), err);
    kwr_view_release(view);
    kwr_backend_close(backend);
    return result.handle;
}

static void publish_state(fixture *f, kwr_claim *c, uint64_t checkpoint) {
    kwr_error err = { 0 };
    kwr_bytes handle = write_state(f, c, checkpoint);
    kwr_subtask_part *part = NULL;
    KWR_MUST_ERR(kwr_subtask_part_decode(f->env, &f->limits,
                                         (kwr_slice){ handle.data, handle.size }, "the ack", &part,
                                         &err),
                 err);
    kwr_manifest_operator op = {
        .id = "count",
        .parallelism = 1,
        .max_parallelism = 128,
        .roles = KWR_TASK_KEYED,
        .key_type = part->key_type,
        .subtasks = &part->subtask,
    };
    KWR_MUST_ERR(publish_with(f, c, checkpoint, &op, 1, &err), err);
    kwr_subtask_part_free(part);
    kwr_bytes_free(&handle);
}

static void damage_data(fixture *f, uint64_t checkpoint, size_t at) {
    char name[KWR_FILE_NAME_MAX];
    kwr_shared_name(1, "count", 0, checkpoint, name);
    flip(f, f->dirs.shared, name, at);
}

static void damaged_data(fixture *f) {
    kwr_claim c = claim(f);
    for (uint64_t id = 1; id <= 3; id++)
        publish_state(f, &c, id);
    kwr_claim_done(&c);

    damage(f, 3, 1, "manifest.json");
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("newest good checkpoint: chk-2-1 (verified)", err);

    damage_data(f, 2, 1000); /* its manifest still reads well */
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("newest good checkpoint: chk-1-1 (verified)", err);

    char name[KWR_FILE_NAME_MAX];
    kwr_shared_name(1, "count", 0, 1, name);
    KWR_MUST(f->storage->ops->remove(f->storage, f->dirs.shared, name, NULL));
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("none of the 2 older checkpoints is good", err);
}
KWR_TEST(advice, names_only_a_checkpoint_that_is_good_to_the_last_byte) {
    ON_EACH_STORAGE(damaged_data);
}

/* A restore finds damage in data after the claim: the same advice can be added there. */
static void found_later(fixture *f) {
    kwr_claim c = claim(f);
    for (uint64_t id = 1; id <= 2; id++)
        publish_state(f, &c, id);
    kwr_claim_done(&c);
    damage_data(f, 2, 1000);
    c = claim(f); /* the manifest is good */
    cr_assert(c.slot.checkpoint == 2);
    kwr_error err = { .status = KWR_ERR_CORRUPT, .text = "found while restoring" };
    kwr_recovery_advise(&f->dirs, &f->limits, &c.log, &c.slot, &err);
    HAS("found while restoring; newest good checkpoint: chk-1-1 (verified)", err);
    kwr_claim_done(&c);
}
KWR_TEST(advice, is_given_for_damage_found_after_the_claim) { ON_EACH_STORAGE(found_later); }

/* Reading fails, which is no damage: it is said, and not taken for good. */
static struct {
    const kwr_storage_ops *real;
    kwr_storage_ops ops;
    uint32_t opens; /* of manifests of chk-2-1 and below */
} failing;

static kwr_status failing_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                               kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    if (strcmp(name, "manifest.json") == 0 && failing.opens++ == 1) {
        kwr_error_set(err, KWR_ERR_IO, 0, "open failed by the test");
        return KWR_ERR_IO;
    }
    return failing.real->open(storage, dir, name, out, size, err);
}

KWR_TEST(advice, tells_what_could_not_be_read_from_what_is_damaged) {
    fixture f;
    fixture_open(&f, false);
    ATTEMPT(&f, 1, 2, 3);
    damage(&f, 3, 1, "manifest.json");
    failing.real = f.storage->ops;
    failing.ops = *failing.real;
    failing.ops.open = failing_open;
    failing.opens = 0;
    f.storage->ops = &failing.ops;
    kwr_claim c;
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(&f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    f.storage->ops = failing.real;
    HAS("chk-1-1 (verified) (1 could not be read)", err);
    fixture_close(&f);
}

KWR_TEST(advice, keeps_its_words_when_the_finding_is_long) {
    fixture f;
    fixture_open(&f, false);
    ATTEMPT(&f, 1, 2);
    kwr_claim c = claim(&f);
    kwr_error err = { .status = KWR_ERR_CORRUPT, .sys_errno = 5 };
    memset(err.text, 'x', sizeof err.text - 1);
    kwr_recovery_advise(&f.dirs, &f.limits, &c.log, &c.slot, &err);
    cr_assert(err.status == KWR_ERR_CORRUPT && err.sys_errno == 5);
    HAS("xxxx; newest good checkpoint: chk-1-1 (verified)", err);
    HAS("KWR_RESTORE_CHECKPOINT 1 generation 1", err);
    kwr_recovery_advise(&f.dirs, &f.limits, &c.log, &c.slot, NULL);
    kwr_claim_done(&c);
    fixture_close(&f);
}
