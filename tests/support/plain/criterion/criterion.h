/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for Criterion where it cannot start (under ThreadSanitizer): the macros our tests use,
 * with the same meaning, run in one process by plain/runner.c.
 *
 * Differences: a test does not get a process of its own (but for .signal and .exit_code), so a
 * crash ends the program; and a failed assertion on another thread than the test's ends it too.
 */
#ifndef KWR_PLAIN_CRITERION_H
#define KWR_PLAIN_CRITERION_H

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plain_options {
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds; 0: none */
    bool disabled;
    int signal;
    int exit_code;
    const char *description;
} plain_options;

typedef struct plain_test {
    const char *suite;
    const char *name;
    void (*body)(void); /* NULL: options of a whole suite */
    plain_options options;
    struct plain_test *next;
} plain_test;

void plain_register(plain_test *test);
/* `fatal`: ends the test. The message may be empty. */
void plain_failed(bool fatal, const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void plain_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void plain_log(const char *level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define PLAIN_REGISTER(id, suite_, name_, body_, ...)                              \
    static plain_test id##_plain = {                                               \
        .suite = #suite_, .name = name_, .body = body_, .options = { __VA_ARGS__ } \
    };                                                                             \
    __attribute__((constructor)) static void id##_register(void) { plain_register(&id##_plain); }

#define Test(suite, name, ...)                                                         \
    static void suite##_##name##_impl(void);                                           \
    PLAIN_REGISTER(suite##_##name, suite, #name, suite##_##name##_impl, ##__VA_ARGS__) \
    static void suite##_##name##_impl(void)

#define TestSuite(suite, ...) PLAIN_REGISTER(suite##_suite, suite, NULL, NULL, ##__VA_ARGS__)

/* ---- assertions ---- */

/* A blank before the caller's own format, so that none at all is a valid one too. */
#define PLAIN_CHECK(fatal, ok, what, ...)                                          \
    do {                                                                           \
        if (!(ok)) plain_failed(fatal, __FILE__, __LINE__, what, " " __VA_ARGS__); \
    } while (0)

#define PLAIN_STR(fatal, a, op, b, ...) \
    PLAIN_CHECK(fatal, strcmp((a), (b)) op 0, #a " " #op " " #b " as strings", ##__VA_ARGS__)
#define PLAIN_ARR(fatal, a, op, b, size, ...) \
    PLAIN_CHECK(fatal, memcmp((a), (b), (size)) op 0, #a " " #op " " #b " as bytes", ##__VA_ARGS__)
#define PLAIN_FLOAT(fatal, a, b, epsilon, ...) \
    PLAIN_CHECK(fatal, fabs((double)(a) - (double)(b)) <= (epsilon), #a " near " #b, ##__VA_ARGS__)

#define cr_assert(condition, ...) PLAIN_CHECK(true, condition, #condition, ##__VA_ARGS__)
#define cr_assert_not(condition, ...) \
    PLAIN_CHECK(true, !(condition), "not " #condition, ##__VA_ARGS__)
#define cr_assert_eq(a, b, ...) PLAIN_CHECK(true, (a) == (b), #a " == " #b, ##__VA_ARGS__)
#define cr_assert_neq(a, b, ...) PLAIN_CHECK(true, (a) != (b), #a " != " #b, ##__VA_ARGS__)
#define cr_assert_lt(a, b, ...) PLAIN_CHECK(true, (a) < (b), #a " < " #b, ##__VA_ARGS__)
#define cr_assert_leq(a, b, ...) PLAIN_CHECK(true, (a) <= (b), #a " <= " #b, ##__VA_ARGS__)
#define cr_assert_gt(a, b, ...) PLAIN_CHECK(true, (a) > (b), #a " > " #b, ##__VA_ARGS__)
#define cr_assert_geq(a, b, ...) PLAIN_CHECK(true, (a) >= (b), #a " >= " #b, ##__VA_ARGS__)
#define cr_assert_null(a, ...) PLAIN_CHECK(true, (a) == NULL, #a " is NULL", ##__VA_ARGS__)
#define cr_assert_not_null(a, ...) PLAIN_CHECK(true, (a) != NULL, #a " is not NULL", ##__VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) PLAIN_STR(true, a, ==, b, ##__VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) PLAIN_STR(true, a, !=, b, ##__VA_ARGS__)
#define cr_assert_str_empty(a, ...) PLAIN_CHECK(true, (a)[0] == '\0', #a " is empty", ##__VA_ARGS__)
#define cr_assert_str_not_empty(a, ...) \
    PLAIN_CHECK(true, (a)[0] != '\0', #a " is not empty", ##__VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) PLAIN_ARR(true, a, ==, b, size, ##__VA_ARGS__)
#define cr_assert_arr_neq(a, b, size, ...) PLAIN_ARR(true, a, !=, b, size, ##__VA_ARGS__)
#define cr_assert_float_eq(a, b, epsilon, ...) PLAIN_FLOAT(true, a, b, epsilon, ##__VA_ARGS__)
#define cr_assert_fail(...) PLAIN_CHECK(true, false, "reached", ##__VA_ARGS__)

#define cr_expect(condition, ...) PLAIN_CHECK(false, condition, #condition, ##__VA_ARGS__)
#define cr_expect_not(condition, ...) \
    PLAIN_CHECK(false, !(condition), "not " #condition, ##__VA_ARGS__)
#define cr_expect_eq(a, b, ...) PLAIN_CHECK(false, (a) == (b), #a " == " #b, ##__VA_ARGS__)
#define cr_expect_neq(a, b, ...) PLAIN_CHECK(false, (a) != (b), #a " != " #b, ##__VA_ARGS__)
#define cr_expect_lt(a, b, ...) PLAIN_CHECK(false, (a) < (b), #a " < " #b, ##__VA_ARGS__)
#define cr_expect_leq(a, b, ...) PLAIN_CHECK(false, (a) <= (b), #a " <= " #b, ##__VA_ARGS__)
#define cr_expect_gt(a, b, ...) PLAIN_CHECK(false, (a) > (b), #a " > " #b, ##__VA_ARGS__)
#define cr_expect_geq(a, b, ...) PLAIN_CHECK(false, (a) >= (b), #a " >= " #b, ##__VA_ARGS__)
#define cr_expect_null(a, ...) PLAIN_CHECK(false, (a) == NULL, #a " is NULL", ##__VA_ARGS__)
#define cr_expect_not_null(a, ...) PLAIN_CHECK(false, (a) != NULL, #a " is not NULL", ##__VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) PLAIN_STR(false, a, ==, b, ##__VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) PLAIN_STR(false, a, !=, b, ##__VA_ARGS__)
#define cr_expect_str_empty(a, ...) \
    PLAIN_CHECK(false, (a)[0] == '\0', #a " is empty", ##__VA_ARGS__)
#define cr_expect_str_not_empty(a, ...) \
    PLAIN_CHECK(false, (a)[0] != '\0', #a " is not empty", ##__VA_ARGS__)
#define cr_expect_arr_eq(a, b, size, ...) PLAIN_ARR(false, a, ==, b, size, ##__VA_ARGS__)
#define cr_expect_arr_neq(a, b, size, ...) PLAIN_ARR(false, a, !=, b, size, ##__VA_ARGS__)
#define cr_expect_float_eq(a, b, epsilon, ...) PLAIN_FLOAT(false, a, b, epsilon, ##__VA_ARGS__)
#define cr_expect_fail(...) PLAIN_CHECK(false, false, "reached", ##__VA_ARGS__)

#define cr_fail(...) cr_assert_fail(__VA_ARGS__)
#define cr_fatal(...) cr_assert_fail(__VA_ARGS__)
#define cr_skip(...) plain_skip(" " __VA_ARGS__)
#define cr_skip_test(...) plain_skip(" " __VA_ARGS__)
#define cr_log_info(...) plain_log("info", __VA_ARGS__)
#define cr_log_warn(...) plain_log("warning", __VA_ARGS__)
#define cr_log_error(...) plain_log("error", __VA_ARGS__)

#endif /* KWR_PLAIN_CRITERION_H */
