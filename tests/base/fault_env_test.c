/* SPDX-License-Identifier: Apache-2.0 */
/* The instrument of the fault tests does what it says: each fault, each kill, each count. */
#include "tests/support/kwr_test.h"

#include "base/memory.h"
#include "tests/support/fault_env.h"

static kwr_error err;

/* A small scenario with one call of every kind; ends at its first failure. */
static kwr_status scenario(const kwr_env *env) {
    const kwr_fs *fs = env->fs;
    kwr_dir *root = NULL, *dir = NULL;
    kwr_file *file = NULL;
    kwr_lock *lock = NULL;
    kwr_file_info info;
    char data[8];
    size_t done = 0;
    kwr_status status = fs->open_root(fs->ctx, kwr_test_dir(), 0, &root, &err);
    if (status == KWR_OK) status = fs->lock(fs->ctx, root, "lock", &lock, NULL, &err);
    if (status == KWR_OK) status = fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err);
    if (status == KWR_OK) status = fs->create(fs->ctx, dir, "tmp", &file, &err);
    if (status == KWR_OK) {
        for (size_t at = 0; at < 8 && status == KWR_OK; at += done)
            status = fs->write(fs->ctx, file, &"contents"[at], 8 - at, &done, &err);
        fs->write_back(fs->ctx, file);
        if (status == KWR_OK) status = fs->sync(fs->ctx, file, &err);
        const kwr_status closed = fs->close(fs->ctx, file, &err);
        if (status == KWR_OK) status = closed;
    }
    if (status == KWR_OK) status = fs->link(fs->ctx, dir, "tmp", dir, "slot", &err);
    if (status == KWR_OK) status = fs->sync_dir(fs->ctx, dir, &err);
    if (status == KWR_OK) status = fs->remove(fs->ctx, dir, "tmp", &err);
    if (status == KWR_OK) status = fs->info(fs->ctx, dir, "slot", &info, &err);
    if (status == KWR_OK) status = fs->open(fs->ctx, dir, "slot", 0, &file, &info, &err);
    if (status == KWR_OK) {
        status = fs->read(fs->ctx, file, 0, data, sizeof data, &done, &err);
        const kwr_status closed = fs->close(fs->ctx, file, &err);
        if (status == KWR_OK) status = closed;
    }
    fs->unlock(fs->ctx, lock);
    if (dir != NULL) fs->close_dir(fs->ctx, dir);
    if (root != NULL) fs->close_dir(fs->ctx, root);
    return status;
}

/* The scenario's calls that can fail, in order. */
static const char *const calls[] = { "open_root", "lock",  "open_dir", "create",   "write",
                                     "sync",      "close", "link",     "sync_dir", "remove",
                                     "info",      "open",  "read",     "close" };
enum { CALLS = sizeof calls / sizeof calls[0] };

static void start_over(void) {
    kwr_test_remove_tree(kwr_test_path("d"));
    kwr_test_remove_tree(kwr_test_path("lock"));
}

static size_t content(const char *name, char out[16]) {
    FILE *file = fopen(kwr_test_path(name), "rb");
    if (file == NULL) return SIZE_MAX;
    const size_t size = fread(out, 1, 15, file);
    out[size] = '\0';
    fclose(file);
    return size;
}

KWR_TEST(fault_env, without_a_plan_it_only_counts) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    KWR_MUST_ERR(scenario(fault_env_env(faults)), err);
    cr_assert_eq(fault_env_fired(faults), 0);
    cr_assert_str_eq(fault_env_fired_text(faults), "");
    cr_assert_eq(fault_env_fs_calls(faults, FAULT_EIO), CALLS);
    cr_assert_eq(fault_env_fs_calls(faults, FAULT_SHORT_WRITE), 1);
    cr_assert_eq(fault_env_fs_calls(faults, FAULT_LOST_SYNC), 1);
    cr_assert_eq(fault_env_log_size(faults), CALLS);
    for (size_t i = 0; i < CALLS; i++) {
        cr_assert_str_eq(fault_env_log(faults, i)->what, calls[i]);
        cr_assert(fault_env_log(faults, i)->status == KWR_OK && !fault_env_log(faults, i)->fired);
    }
    cr_assert_str_eq(fault_env_log(faults, 7)->path, "d/tmp d/slot");
    cr_assert_eq(fault_env_log_count(faults, "close"), 2);
    fault_env_close(faults);
}

KWR_TEST(fault_env, each_call_fails_once_and_the_next_attempt_succeeds) {
    for (uint64_t n = 0; n < CALLS; n++) {
        start_over();
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_fs(faults, FAULT_EIO, n, FAULT_ONCE);
        KWR_EXPECT(KWR_ERR_IO, scenario(fault_env_env(faults)));
        cr_assert_eq(fault_env_fired(faults), 1);
        cr_assert(strncmp(fault_env_fired_text(faults), calls[n], strlen(calls[n])) == 0, "%s",
                  fault_env_fired_text(faults));
        cr_assert(strstr(err.text, "injected") != NULL);
        start_over();
        KWR_MUST_ERR(scenario(fault_env_env(faults)), err);
        fault_env_close(faults);
    }
}

KWR_TEST(fault_env, a_failed_call_has_no_effect_and_an_applied_one_has) {
    char text[16];
    for (int applied = 0; applied < 2; applied++) {
        start_over();
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_fs(faults, applied ? FAULT_APPLIED : FAULT_EIO, applied ? 3 : 7, FAULT_ONCE);
        KWR_EXPECT(KWR_ERR_IO, scenario(fault_env_env(faults)));
        cr_assert_str_eq(fault_env_fired_text(faults), "link d/tmp d/slot");
        cr_assert_eq(content("d/slot", text), applied ? 8 : SIZE_MAX);
        fault_env_close(faults);
    }
}

KWR_TEST(fault_env, no_space_stays_until_cleared) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    fault_env_fail_fs(faults, FAULT_ENOSPC, 2, FAULT_ALWAYS); /* the lock, the directory, then */
    for (int i = 0; i < 3; i++) {
        KWR_EXPECT(KWR_ERR_NOSPACE, scenario(fault_env_env(faults)));
        cr_assert_eq(err.status, KWR_ERR_NOSPACE);
    }
    cr_assert_eq(fault_env_fired(faults), 3);
    start_over();
    fault_env_clear(faults);
    KWR_MUST_ERR(scenario(fault_env_env(faults)), err);
    fault_env_close(faults);
}

KWR_TEST(fault_env, a_short_write_takes_half_and_is_no_failure) {
    char text[16];
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    fault_env_fail_fs(faults, FAULT_SHORT_WRITE, 0, FAULT_ALWAYS);
    KWR_MUST_ERR(scenario(fault_env_env(faults)), err);
    cr_assert_eq(fault_env_log_count(faults, "write"), 4, "4, 2, 1 and the last one");
    cr_assert_eq(content("d/slot", text), 8);
    cr_assert_str_eq(text, "contents");
    fault_env_close(faults);
}

KWR_TEST(fault_env, a_lost_sync_takes_away_what_was_not_synced_before) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_fs *fs = fault_env_env(faults)->fs;
    kwr_dir *root = NULL;
    kwr_file *file = NULL;
    size_t done;
    char text[16];
    KWR_MUST(fs->open_root(fs->ctx, kwr_test_dir(), 0, &root, &err));
    KWR_MUST(fs->create(fs->ctx, root, "f", &file, &err));
    KWR_MUST(fs->write(fs->ctx, file, "kept", 4, &done, &err));
    KWR_MUST(fs->sync(fs->ctx, file, &err));
    KWR_MUST(fs->write(fs->ctx, file, "lost", 4, &done, &err));
    cr_assert_eq(content("f", text), 8);
    fault_env_fail_fs(faults, FAULT_LOST_SYNC, 0, FAULT_ONCE);
    KWR_EXPECT(KWR_ERR_IO, fs->sync(fs->ctx, file, &err));
    KWR_MUST(fs->close(fs->ctx, file, &err));
    cr_assert_eq(content("f", text), 4);
    cr_assert_str_eq(text, "kept");
    fs->close_dir(fs->ctx, root);
    fault_env_close(faults);
}

KWR_TEST(fault_env, a_kill_leaves_the_disk_as_it_was_at_that_call) {
    char text[16];
    for (int after = 0; after < 2; after++) {
        for (uint64_t n = 0; n < CALLS; n++) {
            start_over();
            fault_env *faults = fault_env_open(kwr_test_env(), 0);
            fault_env_fail_fs(faults, after ? FAULT_KILL_AFTER : FAULT_KILL, n, FAULT_ONCE);
            KWR_EXPECT(KWR_ERR_IO, scenario(fault_env_env(faults)));
            KWR_EXPECT(KWR_ERR_IO, scenario(fault_env_env(faults)));
            cr_assert_eq(fault_env_log_count(faults, calls[n]), n == 13 ? 1 : 0, "%s %llu",
                         calls[n], (unsigned long long)n);
            const uint64_t done = n + (uint64_t)after; /* calls that took effect */
            cr_assert_eq(content("d/tmp", text), done < 4    ? SIZE_MAX
                                                 : done < 5  ? 0
                                                 : done < 10 ? 8
                                                             : SIZE_MAX);
            cr_assert_eq(content("d/slot", text), done < 8 ? SIZE_MAX : 8);
            start_over();
            KWR_MUST_ERR(scenario(kwr_test_env()), err); /* its lock went with it */
            fault_env_close(faults);
        }
    }
}

KWR_TEST(fault_env, handles_count_as_memory_of_the_library) {
    uint64_t n = 0;
    for (bool fired = true; fired; n++) {
        start_over();
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        const kwr_status status = scenario(fault_env_env(faults));
        fired = fault_env_fired(faults) > 0;
        cr_assert_eq(status, fired ? KWR_ERR_NOMEM : KWR_OK);
        fault_env_close(faults);
    }
    cr_assert_eq(n, 6, "root, lock, directory, two files, and none");
}

KWR_TEST(fault_env, memory_is_counted_and_fails_once_or_from_then_on) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_env *env = fault_env_env(faults);
    void *a = kwr_alloc(env, 100);
    void *b = env->allocator->map(env->allocator->ctx, 2 << 20);
    cr_assert_eq(fault_env_allocs(faults), 2);
    cr_assert_eq(fault_env_outstanding(faults), 100 + (2 << 20));
    fault_env_fail_alloc(faults, 1, FAULT_ONCE);
    void *c = kwr_alloc(env, 1);
    cr_assert(c != NULL && kwr_alloc(env, 640) == NULL);
    cr_assert_str_eq(fault_env_fired_text(faults), "allocation 1 of 640 bytes");
    void *d = kwr_alloc(env, 1);
    cr_assert(d != NULL);
    fault_env_fail_alloc(faults, 0, FAULT_ALWAYS);
    cr_assert(kwr_alloc(env, 1) == NULL && kwr_alloc(env, 1) == NULL);
    cr_assert_eq(fault_env_fired(faults), 2);
    kwr_free(env, a, 100);
    kwr_free(env, c, 1);
    kwr_free(env, d, 1);
    env->allocator->unmap(env->allocator->ctx, b, 2 << 20);
    cr_assert_eq(fault_env_outstanding(faults), 0);
    fault_env_close(faults);
}

/* ---- executor and clock ---- */

typedef struct step {
    kwr_work work;
    const kwr_env *env;
    struct step *waits_for;
    int *order;
    int *count;
    int id;
} step;

static void take_step(void *ctx) {
    step *s = ctx;
    if (s->waits_for != NULL) s->env->executor->wait(s->env->executor->ctx, &s->waits_for->work);
    s->order[(*s->count)++] = s->id;
}

KWR_TEST(fault_env, the_inline_executor_runs_on_demand_in_order) {
    fault_env *faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK);
    const kwr_env *env = fault_env_env(faults);
    const kwr_executor *x = env->executor;
    int order[8], count = 0;
    step s[6];
    for (int i = 0; i < 6; i++)
        s[i] = (step){ { .run = take_step, .ctx = &s[i] }, env, NULL, order, &count, i };
    const uint64_t start = env->clock->mono_ns(env->clock->ctx);
    KWR_MUST(x->post(x->ctx, &s[0].work));
    KWR_MUST(x->post_at(x->ctx, &s[1].work, start + 5000000));
    KWR_MUST(x->post_at(x->ctx, &s[2].work, start + 2000000));
    KWR_MUST(x->blocking(x->ctx, &s[3].work));
    KWR_MUST(x->post(x->ctx, &s[4].work));
    cr_assert_eq(fault_env_queued(faults), 5);
    cr_assert_eq(count, 0, "nothing by itself");
    cr_assert(x->cancel(x->ctx, &s[4].work));
    cr_assert(!x->cancel(x->ctx, &s[4].work));
    cr_assert(fault_env_run_one(faults));
    cr_assert_eq(fault_env_run_all(faults), 1, "timers are not due");
    const int64_t wall = env->clock->wall_ms(env->clock->ctx);
    fault_env_advance(faults, 2000000);
    cr_assert_eq(env->clock->wall_ms(env->clock->ctx), wall + 2);
    cr_assert_eq(fault_env_run_all(faults), 1);
    x->wait(x->ctx, &s[1].work);
    cr_assert_eq(env->clock->mono_ns(env->clock->ctx), start + 5000000, "waiting moves the clock");
    s[5].waits_for = &s[4];
    KWR_MUST(x->post(x->ctx, &s[5].work));
    KWR_MUST(x->post(x->ctx, &s[4].work));
    x->wait(x->ctx, &s[5].work);
    static const int expected[] = { 0, 3, 2, 1, 4, 5 };
    cr_assert_eq(count, 6);
    cr_assert_arr_eq(order, expected, sizeof expected);
    cr_assert_eq(fault_env_queued(faults), 0);
    fault_env_close(faults);
}

KWR_TEST(fault_env, posts_are_refused_inline_and_on_threads) {
    for (unsigned flags = 0; flags <= FAULT_INLINE; flags += FAULT_INLINE) {
        fault_env *faults = fault_env_open(kwr_test_env(), flags);
        const kwr_env *env = fault_env_env(faults);
        const kwr_executor *x = env->executor;
        int order[4], count = 0;
        step s = { { .run = take_step, .ctx = &s }, env, NULL, order, &count, 1 };
        fault_env_fail_post(faults, 1, FAULT_ONCE);
        KWR_MUST(x->post(x->ctx, &s.work));
        x->wait(x->ctx, &s.work);
        KWR_EXPECT(KWR_ERR_NOMEM, x->blocking(x->ctx, &s.work));
        cr_assert_str_eq(fault_env_fired_text(faults), flags ? "post 1" : "blocking 1");
        x->wait(x->ctx, &s.work);
        KWR_MUST(x->post_at(x->ctx, &s.work, 0));
        x->wait(x->ctx, &s.work);
        cr_assert_eq(count, 2);
        fault_env_close(faults);
    }
}

KWR_TEST(fault_env, seeded_randomness_repeats) {
    unsigned char a[40], b[40];
    for (int i = 0; i < 2; i++) {
        fault_env *faults = fault_env_open(kwr_test_env(), FAULT_SEEDED);
        const kwr_random *random = fault_env_env(faults)->random;
        KWR_MUST(random->bytes(random->ctx, i == 0 ? a : b, 40));
        fault_env_close(faults);
    }
    cr_assert_arr_eq(a, b, 40);
    cr_assert(memcmp(a, a + 20, 20) != 0);
}
