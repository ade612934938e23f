/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Criterion with what every test here needs: a leak check inside the body (Criterion's worker ends
 * without LeakSanitizer looking), and comparisons that print status names.
 */
#ifndef KWR_TEST_H
#define KWR_TEST_H

#include <criterion/criterion.h>

#include "keyweir/keyweir.h"

/* Fails the running test when memory was lost. */
void kwr_test_leak_check(void);

/* A test named by a sentence about behaviour. */
#define KWR_TEST(suite, name, ...)           \
    static void suite##_##name##_body(void); \
    Test(suite, name, ##__VA_ARGS__) {       \
        suite##_##name##_body();             \
        kwr_test_leak_check();               \
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

#endif /* KWR_TEST_H */
