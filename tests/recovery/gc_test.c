/* SPDX-License-Identifier: Apache-2.0 */
/* What kwr_gc() removes, what it leaves alone, and that no failure on the way harms a checkpoint.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/storage.h"
#include "tests/snapshot/mini_job.h"
#include "tests/snapshot/stored.h"
#include "tests/support/fault_env.h"

enum { ROUNDS = 3, KEYS = 60 };

typedef struct told {
    uint64_t leftovers, in_progress, foreign, failed;
} told;

static void note(void *ctx, const kwr_fsck_finding *finding) {
    told *t = ctx;
    t->leftovers += finding->kind == KWR_FSCK_LEFTOVER;
    t->in_progress += finding->kind == KWR_FSCK_IN_PROGRESS;
    t->foreign += finding->kind == KWR_FSCK_FOREIGN;
    t->failed += finding->status < KWR_OK;
}

static kwr_status collect(const kwr_env *env, kwr_storage *storage, bool remove, bool ended,
                          kwr_gc_result *out, told *t, kwr_error *err) {
    *out = (kwr_gc_result){ .struct_size = sizeof *out };
    *t = (told){ 0 };
    const kwr_gc_options o = { .struct_size = sizeof o,
                               .env = env,
                               .storage = storage,
                               .job = "job",
                               .remove = remove,
                               .attempt_ended = ended,
                               .ctx = t,
                               .found = note };
    return kwr_gc(&o, out, err);
}

static const char *const leftovers[] = {
    "job/shared/1-count-0-99.kwp",
    "job/shared/1-a-b-3-4-5.kwp",
    "job/shared/.tmp-1-count-0-98.kwp-0123456789abcdef",
    "job/chk-9-1/manifest.json",
    "job/chk-9-1/inline",
    "job/chk-1-1/inline",
    "job/log/.tmp-0000000000000002-0123456789abcdef",
};
static const char *const in_progress[] = {
    "job/shared/2-count-0-99.kwp",
    "job/chk-9-2/manifest.json",
    "job/chk-9-2/inline",
};
static const char *const foreign[] = {
    "job/README",
    "job/shared/x.kwp",
    "job/shared/1-count-0-99.kwp.bak",
    "job/chk-9-1x/file",
    "job/chk-1-1/notes.txt",
    "job/log/notes",
    "job/chk-01-1/file",
    "job/shared/1-count-00-1.kwp",
};
#define COUNT(list) (sizeof(list) / sizeof *(list))

static void put_all(const fixture *f, const char *const *paths, size_t count) {
    for (size_t i = 0; i < count; i++)
        stored_put(f, paths[i], "0123456789", 10);
}

static size_t left_of(const fixture *f, const char *const *paths, size_t count) {
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        left += stored_there(f, paths[i]);
    return left;
}

/* Three checkpoints of generation 1, a fence of generation 2, and what is in the way. */
static void make(fixture *f, int kind, mini_job *job) {
    kwr_error err = { 0 };
    fixture_open(f, kind);
    *job = (mini_job){ .increments = true };
    KWR_MUST_ERR(mini_start(job, f->env, f->storage, &err), err);
    for (uint32_t round = 1; round <= ROUNDS; round++)
        KWR_MUST_ERR(mini_checkpoint(job, KEYS, round, &err), err);
    mini_stop(job);
    job->increments = false;
    KWR_MUST_ERR(mini_start(job, f->env, f->storage, &err), err);
    put_all(f, leftovers, COUNT(leftovers));
    put_all(f, in_progress, COUNT(in_progress));
    put_all(f, foreign, COUNT(foreign));
}

static void expect_sound(const fixture *f) {
    const kwr_fsck_options o = {
        .struct_size = sizeof o, .env = f->env, .storage = f->storage, .job = "job"
    };
    kwr_fsck_result result = { .struct_size = sizeof result };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_fsck(&o, &result, &err), err);
    cr_assert(result.faults == 0 && result.checkpoints == ROUNDS);
}

KWR_TEST(gc, says_what_it_would_do_and_changes_nothing) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        make(&f, kind, &job);
        const uint64_t before = stored_sum(&f);
        KWR_MUST_ERR(collect(f.env, f.storage, false, false, &result, &t, &err), err);
        /* A directory stands for what is in it. */
        cr_assert(result.leftovers == COUNT(leftovers) - 1 && t.leftovers == result.leftovers);
        cr_assert(result.leftover_bytes == 10 * COUNT(leftovers));
        cr_assert(result.in_progress == 2 && result.foreign == COUNT(foreign));
        cr_assert(result.removed == 0);
        KWR_MUST_ERR(collect(f.env, f.storage, false, true, &result, &t, &err), err);
        cr_assert(result.leftovers == COUNT(leftovers) - 1 + 2 && result.in_progress == 0);
        cr_assert(stored_sum(&f) == before);
        mini_stop(&job);
        fixture_close(&f);
    }
}

KWR_TEST(gc, removes_what_older_attempts_left_and_nothing_else) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        make(&f, kind, &job);
        KWR_MUST_ERR(collect(f.env, f.storage, true, false, &result, &t, &err), err);
        cr_assert(result.removed == COUNT(leftovers) - 1 && result.failed == 0);
        cr_assert(result.removed_bytes == 10 * COUNT(leftovers));
        cr_assert(left_of(&f, leftovers, COUNT(leftovers)) == 0);
        cr_assert(left_of(&f, in_progress, COUNT(in_progress)) == COUNT(in_progress));
        cr_assert(left_of(&f, foreign, COUNT(foreign)) == COUNT(foreign));
        expect_sound(&f);
        const uint64_t after = stored_sum(&f);
        KWR_MUST_ERR(collect(f.env, f.storage, true, false, &result, &t, &err), err);
        cr_assert(result.leftovers == 0 && stored_sum(&f) == after);
        /* The attempt it left alone goes on. */
        KWR_MUST_ERR(mini_checkpoint(&job, KEYS, 10, &err), err);
        mini_expect_restores(f.env, f.storage, KEYS, 10);
        mini_stop(&job);
        fixture_close(&f);
    }
}

KWR_TEST(gc, fences_an_attempt_that_is_said_to_have_ended) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        make(&f, kind, &job);
        KWR_MUST_ERR(collect(f.env, f.storage, true, true, &result, &t, &err), err);
        cr_assert(left_of(&f, leftovers, COUNT(leftovers)) == 0);
        cr_assert(left_of(&f, in_progress, COUNT(in_progress)) == 0);
        cr_assert(left_of(&f, foreign, COUNT(foreign)) == COUNT(foreign));
        expect_sound(&f);
        /* It lives after all: what it completes would need what is gone. */
        cr_assert(mini_checkpoint(&job, KEYS, 10, &err) == KWR_ERR_EXISTS);
        mini_stop(&job);
        /* And its successor takes over as ever. */
        KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
        KWR_MUST_ERR(mini_checkpoint(&job, KEYS, 11, &err), err);
        mini_expect_restores(f.env, f.storage, KEYS, 11);
        mini_stop(&job);
        fixture_close(&f);
    }
}

KWR_TEST(gc, keeps_a_directory_that_holds_foreign_names) {
    fixture f;
    mini_job job;
    kwr_gc_result result;
    told t;
    kwr_error err = { 0 };
    make(&f, KIND_FILE, &job);
    stored_put(&f, "job/chk-9-1/mine.txt", "x", 1);
    KWR_MUST_ERR(collect(f.env, f.storage, true, false, &result, &t, &err), err);
    cr_assert(result.failed == 1 && t.failed == 1);
    cr_assert(stored_there(&f, "job/chk-9-1/mine.txt"));
    cr_assert(!stored_there(&f, "job/chk-9-1/inline"));
    cr_assert(!stored_there(&f, "job/shared/1-count-0-99.kwp"), "the rest went all the same");
    mini_stop(&job);
    fixture_close(&f);
}

/* Nothing is removed, the status is this, and the text has that in it. */
static void expect_refused(const fixture *f, kwr_status wanted, const char *text) {
    const uint64_t before = stored_sum(f);
    for (int ended = 0; ended < 2; ended++) {
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        const kwr_status status = collect(
            f->env, f->storage, true, ended == 1 && wanted == KWR_ERR_LOCKED, &result, &t, &err);
        cr_assert(status == wanted, "%s: %s", kwr_status_name(status), err.text);
        cr_assert(strstr(err.text, text) != NULL && strstr(err.text, "nothing was removed") != NULL,
                  "%s", err.text);
        cr_assert(result.removed == 0 && stored_sum(f) == before);
    }
}

KWR_TEST(gc, removes_nothing_while_the_job_is_running) {
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_FILE, &job);
    kwr_storage_lock *lock = NULL;
    KWR_MUST_ERR(f.storage->ops->lock(f.storage, job.dirs.root, "lock", &lock, &err), err);
    expect_refused(&f, KWR_ERR_LOCKED, "is running");
    f.storage->ops->unlock(f.storage, lock);
    kwr_gc_result result;
    told t;
    KWR_MUST_ERR(collect(f.env, f.storage, true, false, &result, &t, &err), err);
    mini_stop(&job);
    fixture_close(&f);
}

KWR_TEST(gc, removes_nothing_when_log_or_a_manifest_cannot_be_read) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        make(&f, kind, &job);
        stored_flip(&f, "job/log/0000000000000002", 30);
        expect_refused(&f, KWR_ERR_CORRUPT, "0000000000000002");
        stored_flip(&f, "job/log/0000000000000002", 30);
        stored_flip(&f, "job/chk-2-1/manifest.json", 30);
        expect_refused(&f, KWR_ERR_CORRUPT, "chk-2-1");
        stored_flip(&f, "job/chk-2-1/manifest.json", 30);
        size_t size = 0;
        uint8_t *manifest = stored_get(&f, "job/chk-2-1/manifest.json", &size);
        stored_remove(&f, "job/chk-2-1/manifest.json");
        expect_refused(&f, KWR_ERR_MISSING, "chk-2-1");
        stored_put(&f, "job/chk-2-1/manifest.json", manifest, size);
        free(manifest);
        /* The newest slot is gone: its attempt's files are of one the log does not know. */
        uint8_t *slot = stored_get(&f, "job/log/0000000000000005", &size);
        stored_remove(&f, "job/log/0000000000000005");
        expect_refused(&f, KWR_ERR_MISSING, "slots of the log are missing");
        stored_put(&f, "job/log/0000000000000005", slot, size);
        free(slot);
        mini_stop(&job);
        fixture_close(&f);
    }
}

KWR_TEST(gc, works_on_every_job_whatever_happens_to_one) {
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_MEMORY, &job);
    stored_put(&f, "bad/log/0000000000000001", "no slot", 7);
    stored_put(&f, "bad/shared/1-a-0-0.kwp", "x", 1);
    stored_put(&f, "stray", "x", 1);
    const kwr_gc_options o = {
        .struct_size = sizeof o, .env = f.env, .storage = f.storage, .remove = true
    };
    kwr_gc_result result = { .struct_size = sizeof result };
    cr_assert(kwr_gc(&o, &result, &err) == KWR_ERR_CORRUPT);
    cr_assert(strstr(err.text, "job 'bad'") != NULL, "%s", err.text);
    cr_assert(result.jobs == 1 && result.removed == COUNT(leftovers) - 1);
    cr_assert(stored_there(&f, "bad/shared/1-a-0-0.kwp") && stored_there(&f, "stray"));
    mini_stop(&job);
    fixture_close(&f);
}

/* Killed or failing at every call: all checkpoints stay whole, and a second run ends the work. */
static void fail_everywhere(fault_kind kind) {
    fixture pattern;
    mini_job job;
    make(&pattern, KIND_FILE, &job);
    mini_stop(&job);
    for (uint64_t n = 0;; n++) {
        fixture f;
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        kwr_storage *storage = NULL;
        fixture_open(&f, KIND_FILE);
        copy_tree(pattern.root, f.root);
        fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
        KWR_MUST_ERR(kwr_storage_open(fault_env_env(faults), f.root, false, &storage, &err), err);
        fault_env_fail_fs(faults, kind, n, FAULT_ONCE);
        (void)collect(fault_env_env(faults), storage, true, true, &result, &t, &err);
        const bool fired = fault_env_fired(faults) > 0;
        fault_env_clear(faults);
        kwr_storage_close(storage);
        fault_env_close(faults);
        expect_sound(&f);
        cr_assert(left_of(&f, foreign, COUNT(foreign)) == COUNT(foreign));
        KWR_MUST_ERR(collect(f.env, f.storage, true, true, &result, &t, &err), err);
        cr_assert(left_of(&f, leftovers, COUNT(leftovers)) == 0, "call %llu",
                  (unsigned long long)n);
        cr_assert(left_of(&f, in_progress, COUNT(in_progress)) == 0);
        expect_sound(&f);
        fixture_close(&f);
        if (!fired) break;
    }
    fixture_close(&pattern);
}

KWR_TEST(gc, harms_nothing_when_it_is_killed_at_any_call, .timeout = 300) {
    fail_everywhere(FAULT_KILL);
}

KWR_TEST(gc, harms_nothing_when_any_call_fails, .timeout = 300) { fail_everywhere(FAULT_EIO); }

KWR_TEST(gc, survives_every_failing_allocation, .timeout = 300) {
    fixture f;
    mini_job job;
    make(&f, KIND_MEMORY, &job);
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
        kwr_gc_result result;
        told t;
        kwr_error err = { 0 };
        put_all(&f, leftovers, COUNT(leftovers));
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        const kwr_status status =
            collect(fault_env_env(faults), f.storage, true, false, &result, &t, &err);
        const bool fired = fault_env_fired(faults) > 0;
        cr_assert(status == KWR_OK || status == KWR_ERR_NOMEM, "%s", err.text);
        fault_env_close(faults);
        expect_sound(&f);
        if (!fired) break;
    }
    mini_stop(&job);
    fixture_close(&f);
}
