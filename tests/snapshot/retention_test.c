/* SPDX-License-Identifier: Apache-2.0 */
/* What stays, what goes, and that a crash between any two steps leaves only garbage. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/snapshot/mini_job.h"
#include "tests/support/fault_env.h"

static bool there(const fixture *f, const char *file) {
    char path[512];
    snprintf(path, sizeof path, "%s/job/%s", f->root, file);
    return file_exists(path);
}

static int count_in(const fixture *f, const char *dir, const char *prefix) {
    char path[512];
    snprintf(path, sizeof path, "%s/job/%s", f->root, dir);
    DIR *d = opendir(path);
    int count = 0;
    cr_assert(d != NULL);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
                 strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return count;
}

static void start(mini_job *job, const kwr_env *env, kwr_storage *storage, uint32_t retain) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(mini_start(job, env, storage, &err), err);
    job->retain = retain;
    KWR_MUST(kwr_retention_new(env, NULL, &job->retention));
}

KWR_TEST(retention, keeps_the_newest_n_and_what_they_use) {
    for (uint32_t retain = 1; retain <= 3; retain++) {
        fixture f;
        fixture_open(&f, KIND_FILE);
        kwr_error err = { 0 };
        mini_job job = { 0 };
        start(&job, f.env, f.storage, retain);
        for (uint32_t round = 1; round <= 6; round++) {
            KWR_MUST_ERR(mini_checkpoint(&job, 20, round, &err), err);
            const int kept = (int)(round < retain ? round : retain);
            cr_assert(count_in(&f, "", "chk-") == kept, "round %u of %u", round, retain);
            cr_assert(count_in(&f, "shared", "1-count-") == kept);
            /* Slots below the oldest kept are gone, the fence with them. */
            cr_assert(count_in(&f, "log", "0") == (round < retain ? (int)round + 1 : kept));
            cr_assert(job.log.count == (size_t)count_in(&f, "log", "0"));
            mini_expect_restores(f.env, f.storage, 20, round);
        }
        mini_stop(&job);
        fixture_close(&f);
    }
}

KWR_TEST(retention, keeps_a_chosen_base_until_it_is_replaced) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    start(&job, f.env, f.storage, 3);
    for (uint32_t round = 1; round <= 3; round++)
        KWR_MUST_ERR(mini_checkpoint(&job, 20, round, &err), err);
    /* Back to 1 by choice: 2 and 3 stay in the log, but not in the history. */
    kwr_slot fence = next_fence(&job.log, "job");
    fence.base = KWR_BASE_CHECKPOINT;
    fence.base_checkpoint = 1;
    publish(&job.dirs, &job.log, fence);
    kwr_retention_free(job.retention);
    job.retain = 1;
    KWR_MUST(kwr_retention_new(f.env, NULL, &job.retention));
    kwr_retention_apply(job.retention, &job.dirs, &job.log);
    cr_assert(there(&f, "chk-1-1/manifest.json") && there(&f, "shared/1-count-0-0.kwp"));
    mini_expect_restores(f.env, f.storage, 20, 1);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 4, &err), err);
    cr_assert(count_in(&f, "", "chk-") == 1 && count_in(&f, "shared", "") == 1);
    mini_expect_restores(f.env, f.storage, 20, 4);
    mini_stop(&job);
    fixture_close(&f);
}

KWR_TEST(retention, keeps_everything_while_the_history_is_too_short) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    start(&job, f.env, f.storage, 2);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 1, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 2, &err), err);
    kwr_slot fence = next_fence(&job.log, "job");
    fence.base = KWR_BASE_EMPTY;
    publish(&job.dirs, &job.log, fence);
    kwr_retention_apply(job.retention, &job.dirs, &job.log);
    cr_assert(count_in(&f, "", "chk-") == 2);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 3, &err), err);
    cr_assert(count_in(&f, "", "chk-") == 3, "one is not yet two");
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 4, &err), err);
    cr_assert(count_in(&f, "", "chk-") == 2);
    mini_expect_restores(f.env, f.storage, 20, 4);
    mini_stop(&job);
    fixture_close(&f);
}

KWR_TEST(retention, removes_nothing_shared_beside_a_checkpoint_it_cannot_read) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    start(&job, f.env, f.storage, 2);
    for (uint32_t round = 1; round <= 2; round++)
        KWR_MUST_ERR(mini_checkpoint(&job, 20, round, &err), err);
    mini_stop(&job);
    char path[512];
    snprintf(path, sizeof path, "%s/job/chk-2-1/manifest.json", f.root);
    spill(path, "{}", 2);
    start(&job, f.env, f.storage, 2); /* knows none of them */
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 3, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 4, &err), err);
    cr_assert(there(&f, "shared/1-count-0-0.kwp"), "while checkpoint 2 is in the log, unreadable");
    kwr_retention_apply(job.retention, &job.dirs, &job.log);
    cr_assert(!there(&f, "shared/1-count-0-0.kwp"));
    mini_expect_restores(f.env, f.storage, 20, 4);
    mini_stop(&job);
    fixture_close(&f);
}

KWR_TEST(retention, sweeps_its_own_leftovers_and_nothing_else) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    start(&job, f.env, f.storage, 2);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 1, &err), err);
    mini_stop(&job);
    static const char *const leftovers[] = {
        "shared/1-count-0-77.kwp",
        "shared/1-gone-5-0.kwp",
        "log/.tmp-0000000000000002-0123456789abcdef",
        "chk-9-1/manifest.json",
        "chk-9-1/inline",
    };
    static const char *const foreign[] = {
        "shared/2-count-0-0.kwp", /* of the present generation */
        "shared/9-count-0-0.kwp",
        "shared/1-count-0-77.kwp.bak",
        "shared/notes.txt",
        "shared/01-count-0-0.kwp",
        "log/.tmp-00000000000000ff-0123456789abcdef", /* a slot nobody has yet */
        "log/.tmp-0000000000000002-0123456789ABCDEF",
        "log/README",
        "chk-9-2/manifest.json",
        "chk-8/manifest.json",
        "savepoint-1/manifest.json",
        "lock",
        "part-1-0",
    };
    char path[512];
    const char *const dirs[] = { "chk-9-1", "chk-9-2", "chk-8", "savepoint-1" };
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        snprintf(path, sizeof path, "%s/job/%s", f.root, dirs[i]);
        cr_assert(mkdir(path, 0700) == 0);
    }
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
        snprintf(path, sizeof path, "%s/job/%s", f.root, leftovers[i]);
        spill(path, "x", 1);
    }
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        snprintf(path, sizeof path, "%s/job/%s", f.root, foreign[i]);
        spill(path, "x", 1);
    }
    start(&job, f.env, f.storage, 2);
    for (int twice = 0; twice < 2; twice++) {
        kwr_retention_sweep(job.retention, &job.dirs, &job.log, 2);
        for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
            cr_assert(!there(&f, leftovers[i]), "%s stays", leftovers[i]);
        for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
            cr_assert(there(&f, foreign[i]), "%s is gone", foreign[i]);
        cr_assert(!there(&f, "chk-9-1"));
    }
    mini_expect_restores(f.env, f.storage, 20, 1);
    /* A directory that holds something foreign loses what is ours and stays. */
    snprintf(path, sizeof path, "%s/job/chk-7-1", f.root);
    cr_assert(mkdir(path, 0700) == 0);
    snprintf(path, sizeof path, "%s/job/chk-7-1/notes", f.root);
    spill(path, "x", 1);
    kwr_retention_sweep(job.retention, &job.dirs, &job.log, 2);
    cr_assert(there(&f, "chk-7-1/notes"));
    mini_stop(&job);
    fixture_close(&f);
}

KWR_TEST(retention, sweeps_nothing_shared_when_a_manifest_cannot_be_read) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    start(&job, f.env, f.storage, 2);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 1, &err), err);
    mini_stop(&job);
    char path[512];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/job/chk-1-1/manifest.json", f.root);
    char *manifest = slurp(path, &size);
    spill(path, manifest, size - 1);
    start(&job, f.env, f.storage, 2);
    kwr_retention_sweep(job.retention, &job.dirs, &job.log, 2);
    cr_assert(there(&f, "shared/1-count-0-0.kwp"));
    spill(path, manifest, size);
    free(manifest);
    mini_stop(&job);
    mini_expect_restores(f.env, f.storage, 20, 1);
    fixture_close(&f);
}

/* Kills the n-th file-system call of apply; true when there was one. */
static bool crash_in_apply(uint64_t n, fault_kind kind) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    mini_job job = { 0 };
    fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
    kwr_storage *storage = NULL;
    KWR_MUST_ERR(kwr_storage_open(fault_env_env(faults), f.root, false, &storage, &err), err);
    start(&job, fault_env_env(faults), storage, 9);
    for (uint32_t round = 1; round <= 3; round++)
        KWR_MUST_ERR(mini_checkpoint(&job, 5, round, &err), err);
    /* The newest says that the others are done with; nobody has removed them yet. */
    kwr_retention_free(job.retention);
    job.retention = NULL;
    job.retain = 1;
    KWR_MUST_ERR(mini_checkpoint(&job, 5, 4, &err), err);
    KWR_MUST(kwr_retention_new(fault_env_env(faults), NULL, &job.retention));
    fault_env_fail_fs(faults, kind, n, FAULT_ONCE);
    kwr_retention_apply(job.retention, &job.dirs, &job.log);
    const bool fired = fault_env_fired(faults) > 0;
    mini_stop(&job);
    kwr_storage_close(storage);
    fault_env_close(faults);
    /* Whatever was done by then: the newest restores, and the next attempt cleans up. */
    mini_expect_restores(f.env, f.storage, 5, 4);
    start(&job, f.env, f.storage, 1);
    kwr_retention_apply(job.retention, &job.dirs, &job.log);
    kwr_retention_sweep(job.retention, &job.dirs, &job.log,
                        job.log.slots[job.log.count - 1].generation);
    cr_assert(count_in(&f, "", "chk-") == 1, "call %llu", (unsigned long long)n);
    cr_assert(count_in(&f, "shared", "") == 1, "call %llu", (unsigned long long)n);
    mini_stop(&job);
    mini_expect_restores(f.env, f.storage, 5, 4);
    fixture_close(&f);
    return fired;
}

KWR_TEST(retention, survives_a_crash_or_a_failure_at_every_call, .timeout = 300) {
    static const fault_kind kinds[] = { FAULT_KILL, FAULT_KILL_AFTER, FAULT_EIO, FAULT_APPLIED };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t n = 0;
        while (crash_in_apply(n, kinds[i]))
            n++;
        cr_assert(n > 10, "only %llu calls", (unsigned long long)n);
    }
}
