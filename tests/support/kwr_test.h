/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Criterion with what every test here needs: a leak check inside the body (Criterion's worker ends
 * without LeakSanitizer looking), comparisons that print status names, a scratch directory and an
 * environment, both cleared away after the test.
 */
#ifndef KWR_TEST_H
#define KWR_TEST_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/keyweir.h"

/* What KWR_TEST does after the body: closes the environment, removes the scratch directory, fails
 * the test when memory was lost. */
void kwr_test_end(void);
/* Fails the running test when memory was lost. */
void kwr_test_leak_check(void);

/* A test named by a sentence about behaviour. */
#define KWR_TEST(suite, name, ...)           \
    static void suite##_##name##_body(void); \
    Test(suite, name, ##__VA_ARGS__) {       \
        suite##_##name##_body();             \
        kwr_test_end();                      \
    }                                        \
    static void suite##_##name##_body(void)

#define KWR_EXPECT(expected, expr)                                                                 \
    do {                                                                                           \
        const kwr_status expected_ = (expected), got_ = (expr);                                    \
        cr_assert(got_ == expected_, "%s: expected %s, got %s", #expr, kwr_status_name(expected_), \
                  kwr_status_name(got_));                                                          \
    } while (0)
#define KWR_MUST(expr) KWR_EXPECT(KWR_OK, expr)
/* The same with the detail; `err` is a kwr_error. */
#define KWR_EXPECT_ERR(expected, expr, err)                                       \
    do {                                                                          \
        const kwr_status expected_ = (expected), got_ = (expr);                   \
        cr_assert(got_ == expected_, "%s: expected %s, got %s (%s)", #expr,       \
                  kwr_status_name(expected_), kwr_status_name(got_), (err).text); \
    } while (0)
#define KWR_MUST_ERR(expr, err) KWR_EXPECT_ERR(KWR_OK, expr, err)

/* The test's own environment: POSIX, 2 computing and 2 blocking threads; opened on first use. A
 * forked child must not use its parent's: its threads are not there. */
kwr_env *kwr_test_env(void);

/*
 * The test's own directory, empty on first use: below $TMPDIR when that is set, else below
 * /dev/shm. What tests that died left there is removed by a later one.
 */
const char *kwr_test_dir(void);
/* "<test directory>/<name>"; static storage, the next eight calls leave it alone. */
const char *kwr_test_path(const char *name);
/* Whole files by plain paths. Both fail the test on errors; read's result is for free(). */
void *kwr_test_read_file(const char *path, size_t *size);
void kwr_test_write_file(const char *path, const void *data, size_t size);
/* Everything below `path` and itself; missing is fine. */
void kwr_test_remove_tree(const char *path);

static inline kwr_slice kwr_test_slice(const char *text) {
    return (kwr_slice){ text, strlen(text) };
}
#define KWR_SLICE_OF(object) ((kwr_slice){ &(object), sizeof(object) })
#define KWR_ASSERT_SLICE(slice, text)                                                      \
    do {                                                                                   \
        const kwr_slice got_ = (slice), want_ = kwr_test_slice(text);                      \
        cr_assert(got_.size == want_.size &&                                               \
                      (want_.size == 0 || memcmp(got_.data, want_.data, want_.size) == 0), \
                  "%s: expected \"%s\", got \"%.*s\"", #slice, (const char *)want_.data,   \
                  (int)got_.size, got_.size == 0 ? "" : (const char *)got_.data);          \
    } while (0)

#endif /* KWR_TEST_H */
