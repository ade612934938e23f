/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a job over: what a start claims, chooses and refuses, on both storages. Other attempts are
 * played by calling into the same storage, also from within a publish.
 */
#include "tests/recovery/support.h"

/* ---- starting ---- */

static void first_start(fixture *f) {
    kwr_claim c = claim(f);
    cr_assert(!c.restored && c.manifest == NULL);
    cr_assert(c.fence.number == 1 && c.fence.generation == 1 && c.fence.highest == 0);
    cr_assert(c.fence.kind == KWR_SLOT_FENCE && c.fence.base == KWR_BASE_NONE);
    cr_assert(!c.fence.has_previous && strcmp(c.fence.job, JOB_NAME) == 0);
    static const uint8_t zero[16];
    cr_assert(memcmp(c.fence.job_uid, zero, sizeof zero) != 0, "no identity was made");
    cr_assert(c.log.count == 1 && slots_in_log(f) == 1);
    cr_assert(kwr_digest_equal(&c.log.slots[0].digest, &c.fence.digest));
    kwr_claim_done(&c);
    kwr_claim_done(&c); /* again is harmless */
}
KWR_TEST(claim, starts_empty_with_generation_1_when_there_is_nothing) {
    ON_EACH_STORAGE(first_start);
}

static void restart(fixture *f) {
    kwr_claim first = claim(f);
    must_publish(f, &first, 1);
    must_publish(f, &first, 2);
    kwr_claim second = claim(f);
    cr_assert(second.restored && second.slot.checkpoint == 2 && second.slot.generation == 1);
    cr_assert(second.manifest != NULL && second.manifest->checkpoint == 2);
    cr_assert(second.fence.number == 4 && second.fence.generation == 2);
    cr_assert(second.fence.highest == 2);
    cr_assert(memcmp(second.fence.job_uid, first.fence.job_uid, 16) == 0,
              "the job has changed its identity");
    kwr_claim third = claim(f); /* the second published nothing */
    cr_assert(third.restored && third.slot.checkpoint == 2 && third.slot.generation == 1);
    cr_assert(third.fence.number == 5 && third.fence.generation == 3);
    must_publish(f, &third, 3);
    kwr_claim fourth = claim(f);
    cr_assert(fourth.restored && fourth.slot.checkpoint == 3 && fourth.slot.generation == 3);
    kwr_claim_done(&first);
    kwr_claim_done(&second);
    kwr_claim_done(&third);
    kwr_claim_done(&fourth);
}
KWR_TEST(claim, continues_from_the_newest_completed_checkpoint) { ON_EACH_STORAGE(restart); }

static void start_after_nothing(fixture *f) {
    kwr_claim first = claim(f);
    kwr_claim second = claim(f);
    cr_assert(!second.restored && second.fence.generation == 2 && second.fence.highest == 0);
    kwr_claim_done(&first);
    kwr_claim_done(&second);
}
KWR_TEST(claim, starts_empty_again_when_no_checkpoint_was_completed) {
    ON_EACH_STORAGE(start_after_nothing);
}

/* ---- fencing ---- */

static void zombie(fixture *f) {
    kwr_claim old = claim(f);
    must_publish(f, &old, 1);
    kwr_claim new = claim(f); /* `old` is paused, not dead */
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish(f, &old, 2, &err), err);
    must_publish(f, &new, 2);
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish(f, &old, 3, &err), err);
    kwr_claim next = claim(f);
    cr_assert(next.slot.checkpoint == 2 && next.slot.generation == 2,
              "the zombie's checkpoint was taken for completed");
    kwr_claim_done(&old);
    kwr_claim_done(&new);
    kwr_claim_done(&next);
}
KWR_TEST(claim, keeps_an_earlier_attempt_from_publishing) { ON_EACH_STORAGE(zombie); }

/* A fence that says that the log starts at `floor`, as no attempt of ours would publish it. */
static void raise_floor(fixture *f, uint64_t floor) {
    kwr_log log = { 0 };
    kwr_slot fence = { .kind = KWR_SLOT_FENCE };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_log_read(&f->dirs, &f->limits, &log, &err), err);
    kwr_log_continue(&log, &fence);
    fence.generation++;
    fence.floor = floor;
    KWR_MUST_ERR(kwr_log_publish(&f->dirs, &fence, &err), err);
    kwr_log_free(&log);
}

/* A storage whose publish can be preceded by another attempt's claim, or fail. */
static struct {
    const kwr_storage_ops *real;
    kwr_storage_ops ops;
    fixture *f;
    int rivals;         /* claims to slip in, one before each publish */
    bool rivals_go_on;  /* they complete a checkpoint and remove their fence's slot */
    kwr_status failure; /* instead of publishing */
    bool inside;
} hook;

static kwr_status hooked_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                 const void *data, size_t size, kwr_error *err) {
    if (!hook.inside && hook.rivals > 0) {
        hook.inside = true;
        hook.rivals--;
        kwr_claim rival = claim(hook.f);
        if (hook.rivals_go_on) {
            must_publish(hook.f, &rival, 7);
            raise_floor(hook.f, rival.fence.number + 1);
            remove_slot(hook.f, rival.fence.number);
        }
        kwr_claim_done(&rival);
        hook.inside = false;
    }
    if (!hook.inside && hook.failure != KWR_OK) {
        kwr_error_set(err, hook.failure, 0, "publish failed by the test");
        return hook.failure;
    }
    return hook.real->publish(storage, dir, name, data, size, err);
}

static void hook_in(fixture *f, int rivals, kwr_status failure) {
    hook.real = f->storage->ops;
    hook.ops = *hook.real;
    hook.ops.publish = hooked_publish;
    hook.f = f;
    hook.rivals = rivals;
    hook.rivals_go_on = false;
    hook.failure = failure;
    hook.inside = false;
    f->storage->ops = &hook.ops;
}
static void hook_out(fixture *f) { f->storage->ops = hook.real; }

static void race(fixture *f) {
    ATTEMPT(f, 1);
    hook_in(f, 1, KWR_OK);
    kwr_claim c = claim(f); /* the rival takes slot 3, generation 2 */
    hook_out(f);
    cr_assert(c.fence.number == 4 && c.fence.generation == 3, "two attempts with one generation");
    cr_assert(c.restored && c.slot.checkpoint == 1 && c.log.count == 4);
    must_publish(f, &c, 2);
    kwr_claim_done(&c);
}
KWR_TEST(claim, reads_again_and_claims_the_next_slot_when_another_is_faster) {
    ON_EACH_STORAGE(race);
}

/* Asleep between reading and publishing until its slot was taken, left behind and removed. */
static void overslept(fixture *f) {
    ATTEMPT(f, 1);
    hook_in(f, 1, KWR_OK);
    hook.rivals_go_on = true;
    kwr_claim c = claim(f);
    hook_out(f);
    cr_assert(c.restored && c.slot.checkpoint == 7, "continued what is long gone");
    cr_assert(c.fence.number == 6 && c.fence.floor == 4, "slot %llu",
              (unsigned long long)c.fence.number);
    must_publish(f, &c, 8);
    kwr_claim_done(&c);
    c = claim(f);
    cr_assert(c.slot.checkpoint == 8);
    kwr_claim_done(&c);
}
KWR_TEST(claim, is_not_deceived_by_a_slot_that_was_removed_meanwhile) {
    ON_EACH_STORAGE(overslept);
}

static void outrun(fixture *f) {
    f->limits.claim_attempts_max = 3;
    hook_in(f, 3, KWR_OK);
    kwr_claim c = { .restored = true };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_FENCED, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    hook_out(f);
    HAS(JOB_NAME, err);
    HAS("3 times", err);
    cr_assert(c.restored, "a failed claim wrote to its out-parameter");
    cr_assert(slots_in_log(f) == 3, "only the rivals' fences are there");
}
KWR_TEST(claim, gives_up_when_others_keep_winning) { ON_EACH_STORAGE(outrun); }

static void publish_fails(fixture *f) {
    static const kwr_status failures[] = { KWR_ERR_UNKNOWN, KWR_ERR_NOSPACE, KWR_ERR_IO };
    ATTEMPT(f, 1);
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        hook_in(f, 0, failures[i]);
        kwr_claim c = { 0 };
        kwr_error err = { 0 };
        KWR_EXPECT_ERR(failures[i], claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
        hook_out(f);
        cr_assert(c.manifest == NULL && c.log.count == 0);
    }
    kwr_claim c = claim(f);
    cr_assert(c.slot.checkpoint == 1 && c.fence.number == 3);
    kwr_claim_done(&c);
}
KWR_TEST(claim, does_not_start_without_its_fence) { ON_EACH_STORAGE(publish_fails); }

/* ---- explicit choices ---- */

static void choose_older(fixture *f) {
    ATTEMPT(f, 1, 2, 3);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 2, 0, &c, &err), err);
    cr_assert(c.restored && c.slot.checkpoint == 2 && c.manifest->checkpoint == 2);
    cr_assert(c.fence.base == KWR_BASE_CHECKPOINT && c.fence.base_checkpoint == 2 &&
              c.fence.base_generation == 1);
    cr_assert(c.fence.highest == 3, "ids above the base may not come again");
    kwr_claim_done(&c);

    /* It ended before its first checkpoint: the choice holds. */
    c = claim(f);
    cr_assert(c.restored && c.slot.checkpoint == 2 && c.slot.generation == 1);
    cr_assert(c.fence.base == KWR_BASE_NONE);
    must_publish(f, &c, 4); /* from here on this is the history */
    kwr_claim_done(&c);

    c = claim(f);
    cr_assert(c.slot.checkpoint == 4 && c.slot.generation == 3);
    kwr_claim_done(&c);

    /* What was left aside can still be chosen by name. */
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 3, 1, &c, &err), err);
    cr_assert(c.slot.checkpoint == 3 && c.fence.base_checkpoint == 3);
    kwr_claim_done(&c);
}
KWR_TEST(claim, records_the_choice_of_an_older_checkpoint_until_a_newer_one_replaces_it) {
    ON_EACH_STORAGE(choose_older);
}

static void choose_empty(fixture *f) {
    ATTEMPT(f, 1, 2);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_NONE, 0, 0, &c, &err), err);
    cr_assert(!c.restored && c.fence.base == KWR_BASE_EMPTY && c.fence.highest == 2);
    kwr_claim_done(&c);
    c = claim(f); /* the choice holds */
    cr_assert(!c.restored && c.fence.base == KWR_BASE_NONE && c.fence.highest == 2);
    must_publish(f, &c, 3);
    kwr_claim_done(&c);
    c = claim(f);
    cr_assert(c.restored && c.slot.checkpoint == 3);
    kwr_claim_done(&c);
}
KWR_TEST(claim, starts_empty_by_choice_and_says_so_in_its_fence) { ON_EACH_STORAGE(choose_empty); }

static void choose_missing(fixture *f) {
    ATTEMPT(f, 1, 2, 5);
    const size_t slots = slots_in_log(f);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 4, 0, &c, &err), err);
    HAS("checkpoint 4", err);
    HAS("5 generation 1, 2 generation 1, 1 generation 1", err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 5, 2, &c, &err), err);
    HAS("checkpoint 5 of generation 2", err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 0, 0, &c, &err), err);
    cr_assert(slots_in_log(f) == slots, "a fence was published for a choice that cannot be");
}
KWR_TEST(claim, refuses_a_choice_the_log_does_not_have_before_any_fence) {
    ON_EACH_STORAGE(choose_missing);
}

static void choose_among_none(fixture *f) {
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 1, 0, &c, &err), err);
    HAS("it names no checkpoint", err);
    cr_assert(slots_in_log(f) == 0);
}
KWR_TEST(claim, says_when_there_is_nothing_to_choose_from) { ON_EACH_STORAGE(choose_among_none); }

static void choose_among_many(fixture *f) {
    kwr_claim c = claim(f);
    for (uint64_t id = 1; id <= 60; id++)
        must_publish(f, &c, id);
    kwr_claim_done(&c);
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 99, 0, &c, &err), err);
    HAS("60 generation 1, 59 generation 1", err);
    HAS(", ...", err);
}
KWR_TEST(claim, lists_the_newest_of_many) { ON_EACH_STORAGE(choose_among_many); }

static void choose_damaged(fixture *f) {
    ATTEMPT(f, 1, 2, 3);
    damage(f, 2, 1, "manifest.json");
    const size_t slots = slots_in_log(f);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_CHECKPOINT, 2, 0, &c, &err), err);
    HAS("newest good checkpoint: chk-1-1 (verified)", err);
    cr_assert(slots_in_log(f) == slots, "the history was cut off for a checkpoint that is damaged");
    c = claim(f);
    cr_assert(c.slot.checkpoint == 3);
    kwr_claim_done(&c);
}
KWR_TEST(claim, refuses_a_damaged_choice_before_any_fence) { ON_EACH_STORAGE(choose_damaged); }

/* ---- damage ---- */

static void damaged_manifest(fixture *f) {
    ATTEMPT(f, 1, 2);
    ATTEMPT(f, 3);
    damage(f, 3, 2, "manifest.json");
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    cr_assert(err.status == KWR_ERR_CORRUPT && c.manifest == NULL);
    HAS("chk-3-2", err);
    HAS("manifest.json", err);
    HAS("newest good checkpoint: chk-2-1 (verified)", err);
    HAS("KWR_RESTORE_CHECKPOINT 2 generation 1", err);
    /* It stops again and again, and goes on by the choice it named. */
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 2, 1, &c, &err), err);
    cr_assert(c.slot.checkpoint == 2);
    kwr_claim_done(&c);
}
KWR_TEST(claim, stops_at_a_damaged_checkpoint_and_names_the_newest_good_one) {
    ON_EACH_STORAGE(damaged_manifest);
}

static void missing_manifest(fixture *f) {
    ATTEMPT(f, 1, 2);
    lose(f, 2, 1, "manifest.json");
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("chk-2-1", err);
    HAS("newest good checkpoint: chk-1-1 (verified)", err);
}
KWR_TEST(claim, stops_at_a_missing_checkpoint_and_names_the_newest_good_one) {
    ON_EACH_STORAGE(missing_manifest);
}

static void damaged_below(fixture *f) {
    ATTEMPT(f, 1, 2, 3, 4);
    damage(f, 4, 1, "manifest.json");
    damage(f, 3, 1, "manifest.json");
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("newest good checkpoint: chk-2-1 (verified)", err);
    lose(f, 2, 1, "manifest.json");
    damage(f, 1, 1, "manifest.json");
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("none of the 3 older checkpoints is good", err);
    HAS("KWR_RESTORE_NONE", err);
}
KWR_TEST(claim, passes_over_older_checkpoints_that_are_damaged_too) {
    ON_EACH_STORAGE(damaged_below);
}

static void damaged_only(fixture *f) {
    ATTEMPT(f, 1);
    damage(f, 1, 1, "manifest.json");
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("there is no older checkpoint", err);
    KWR_EXPECT(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, NULL));
}
KWR_TEST(claim, says_when_there_is_no_older_checkpoint) { ON_EACH_STORAGE(damaged_only); }

static void advice_follows_the_history(fixture *f) {
    ATTEMPT(f, 1, 2, 3);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 1, 0, &c, &err), err);
    must_publish(f, &c, 4);
    kwr_claim_done(&c);
    damage(f, 4, 2, "manifest.json");
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("newest good checkpoint: chk-1-1", err); /* 2 and 3 were left aside by choice */
}
KWR_TEST(claim, names_no_checkpoint_that_was_left_aside_by_choice) {
    ON_EACH_STORAGE(advice_follows_the_history);
}

static void damaged_slot(fixture *f) {
    ATTEMPT(f, 1, 2);
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(3, name);
    flip(f, f->dirs.log, name, 12);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS(JOB_NAME, err);
    HAS(name, err);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NONE, 0, 0, &c, &err), err);
}
KWR_TEST(claim, stops_at_a_damaged_slot_by_name) { ON_EACH_STORAGE(damaged_slot); }

static void hole(fixture *f) {
    ATTEMPT(f, 1, 2, 3);
    remove_slot(f, 3);
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(3, name);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS(name, err);
}
KWR_TEST(claim, stops_at_a_hole_in_the_log) { ON_EACH_STORAGE(hole); }

/* ---- never empty silently ---- */

static void lost_log(fixture *f) {
    ATTEMPT(f, 1);
    ATTEMPT(f, 2);
    for (uint64_t n = 1; n <= 4; n++)
        remove_slot(f, n);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("chk-2-2", err);
    HAS("the log was lost", err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_CHECKPOINT, 2, 0, &c, &err), err);
    cr_assert(slots_in_log(f) == 0);
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_NONE, 0, 0, &c, &err), err);
    cr_assert(c.fence.number == 1 && c.fence.generation == 3,
              "the names of generation %llu come twice", (unsigned long long)c.fence.generation);
    must_publish(f, &c, 1);
    kwr_claim_done(&c);
}
KWR_TEST(claim, does_not_take_a_lost_log_for_a_first_start) { ON_EACH_STORAGE(lost_log); }

static void front_missing(fixture *f) {
    ATTEMPT(f, 1);
    remove_slot(f, 1);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("hole", err);
}
KWR_TEST(claim, stops_when_slots_were_removed_by_hand) { ON_EACH_STORAGE(front_missing); }

static void trimmed_log(fixture *f) {
    ATTEMPT(f, 1);
    kwr_claim c = claim(f); /* slots: fence 1, checkpoint 1, fence 2 */
    kwr_claim_done(&c);
    raise_floor(f, 3);
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("checkpoint 1 was published but names none", err);
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_NONE, 0, 0, &c, &err), err);
    cr_assert(!c.restored && c.fence.highest == 1);
    kwr_claim_done(&c);
    c = claim(f); /* empty by choice: that is remembered */
    cr_assert(!c.restored);
    kwr_claim_done(&c);
}
KWR_TEST(claim, does_not_start_empty_when_the_log_lost_its_checkpoints) {
    ON_EACH_STORAGE(trimmed_log);
}

static void lost_base(fixture *f) {
    ATTEMPT(f, 1, 2);
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 1, 0, &c, &err), err);
    kwr_claim_done(&c);
    raise_floor(f, 3); /* checkpoint 1 is in slot 2 */
    KWR_EXPECT_ERR(KWR_ERR_MISSING, claim_as(f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    HAS("chosen as base", err);
    HAS("2 generation 1", err);
    KWR_MUST_ERR(claim_as(f, KWR_RESTORE_CHECKPOINT, 2, 0, &c, &err), err);
    cr_assert(c.slot.checkpoint == 2);
    kwr_claim_done(&c);
}
KWR_TEST(claim, stops_when_the_chosen_base_is_gone) { ON_EACH_STORAGE(lost_base); }

/* ---- the world fails ---- */

static kwr_status no_random(void *ctx, void *out, size_t size) {
    (void)ctx;
    (void)out;
    (void)size;
    return KWR_ERR_IO;
}

KWR_TEST(claim, makes_no_identity_without_randomness) {
    fixture f;
    fixture_open(&f, false);
    const kwr_random random = { .struct_size = sizeof random, .bytes = no_random };
    kwr_env env = *f.env;
    env.random = &random;
    f.dirs.env = &env;
    kwr_claim c = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_IO, claim_as(&f, KWR_RESTORE_NEWEST, 0, 0, &c, &err), err);
    cr_assert(slots_in_log(&f) == 0);
    fixture_close(&f);
}

static struct {
    const kwr_allocator *real;
    size_t made, fail_at;
} meagre;

static void *meagre_alloc(void *ctx, size_t size, size_t align) {
    if (++meagre.made == meagre.fail_at) return NULL;
    return meagre.real->alloc(ctx, size, align);
}

/* Claims with one allocation failing, the next at each try, until none does: ends in `expected`. */
static void fail_each_allocation(bool damaged, kwr_status expected) {
    fixture f;
    fixture_open(&f, false);
    ATTEMPT(&f, 1, 2);
    if (damaged) damage(&f, 2, 1, "manifest.json");
    kwr_allocator allocator = *f.env->allocator;
    meagre.real = f.env->allocator;
    allocator.alloc = meagre_alloc;
    kwr_env env = *f.env;
    env.allocator = &allocator;
    f.dirs.env = &env;
    size_t failures = 0;
    bool enough = false;
    for (size_t fail_at = 1; !enough; fail_at++) {
        meagre.made = 0;
        meagre.fail_at = fail_at;
        kwr_claim c = { 0 };
        kwr_error err = { 0 };
        const kwr_status status = claim_as(&f, KWR_RESTORE_NEWEST, 0, 0, &c, &err);
        enough = meagre.made < fail_at;
        cr_assert(status == expected || (status == KWR_ERR_NOMEM && !enough), "%s: %s",
                  kwr_status_name(status), err.text);
        cr_assert(status == KWR_OK || (c.manifest == NULL && c.log.slots == NULL));
        failures += status == KWR_ERR_NOMEM;
        kwr_claim_done(&c);
        meagre.fail_at = 0;
        if (slots_in_log(&f) == 4) remove_slot(&f, 4); /* else each try would read one more */
    }
    cr_assert(failures > 3, "only %zu allocations failed", failures);
    fixture_close(&f);
}

KWR_TEST(claim, survives_every_failed_allocation, .timeout = 120) {
    fail_each_allocation(false, KWR_OK);
    fail_each_allocation(true, KWR_ERR_CORRUPT);
}
