/* SPDX-License-Identifier: Apache-2.0 */
/* The default environment opens whole or not at all. */
#include "tests/support/kwr_test.h"

#include "base/posix.h"
#include "tests/support/fault_env.h"

KWR_TEST(env, opens_with_defaults_and_is_complete) {
    kwr_env *env = NULL;
    KWR_MUST(kwr_env_posix_open(NULL, &env, NULL));
    cr_assert_eq(env->struct_size, sizeof *env);
    cr_assert(env->allocator != NULL && env->clock != NULL && env->executor != NULL);
    cr_assert(env->fs != NULL && env->random != NULL && env->observer == NULL);
    cr_assert(env->executor->parallelism(env->executor->ctx) >= 1);
    kwr_env_posix_close(env);
    kwr_env_posix_close(NULL);
}

KWR_TEST(env, takes_the_observer_it_is_given) {
    const kwr_observer observer = { .struct_size = sizeof observer };
    const kwr_posix_options options = { .struct_size = sizeof options,
                                        .compute_threads = 1,
                                        .blocking_threads = 1,
                                        .observer = &observer };
    kwr_env *env = NULL;
    KWR_MUST(kwr_env_posix_open(&options, &env, NULL));
    cr_assert(env->observer == &observer);
    kwr_env_posix_close(env);
}

KWR_TEST(env, bad_options_are_refused) {
    kwr_env *env = NULL;
    kwr_error err = { 0 };
    kwr_posix_options options = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_env_posix_open(&options, &env, &err));
    options = (kwr_posix_options){ .struct_size = sizeof options, .compute_threads = 1025 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_env_posix_open(&options, &env, &err));
    cr_assert(strstr(err.text, "1025") != NULL, "%s", err.text);
    cr_assert(env == NULL);
}

KWR_TEST(env, every_allocation_of_opening_may_fail) {
    const kwr_posix_options options = { .struct_size = sizeof options,
                                        .compute_threads = 2,
                                        .blocking_threads = 1 };
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        kwr_env *env = NULL;
        kwr_error err = { 0 };
        const kwr_status status =
            kwr_posix_env_open(&options, fault_env_env(faults)->allocator, &env, &err);
        const bool fired = fault_env_fired(faults) > 0;
        cr_assert_eq(status, fired ? KWR_ERR_NOMEM : KWR_OK, "%s", fault_env_fired_text(faults));
        cr_assert_eq(env == NULL, fired);
        cr_assert(!fired || (err.status == KWR_ERR_NOMEM && err.text[0] != '\0'));
        kwr_env_posix_close(env);
        fault_env_close(faults);
        if (!fired) {
            cr_assert(n >= 4, "environment, files, executor, two lists of threads");
            break;
        }
    }
}

KWR_TEST(clock, goes_forward_and_knows_the_year) {
    const kwr_clock *clock = kwr_test_env()->clock;
    uint64_t last = clock->mono_ns(clock->ctx);
    for (int i = 0; i < 1000; i++) {
        const uint64_t next = clock->mono_ns(clock->ctx);
        cr_assert(next >= last);
        last = next;
    }
    const int64_t year_2020 = 1577836800000, year_2200 = 7258118400000;
    const int64_t wall = clock->wall_ms(clock->ctx);
    cr_assert(wall > year_2020 && wall < year_2200, "milliseconds since 1970");
}

KWR_TEST(random, fills_every_byte_and_differs) {
    const kwr_random *random = kwr_test_env()->random;
    static unsigned char a[5000], b[5000];
    unsigned char seen_set[5000] = { 0 };
    for (int round = 0; round < 8; round++) {
        KWR_MUST(random->bytes(random->ctx, a, sizeof a));
        for (size_t i = 0; i < sizeof a; i++)
            seen_set[i] |= a[i];
    }
    for (size_t i = 0; i < sizeof a; i++)
        cr_assert(seen_set[i] != 0, "byte %zu never written", i);
    KWR_MUST(random->bytes(random->ctx, b, sizeof b));
    cr_assert(memcmp(a, b, sizeof a) != 0);
    KWR_MUST(random->bytes(random->ctx, NULL, 0));
}
