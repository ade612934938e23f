/* SPDX-License-Identifier: Apache-2.0 */
/* Every status has a name and an action; a failure's text keeps what matters however long it gets.
 */
#include "tests/support/kwr_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const kwr_status all_failures[] = {
    KWR_ERR_BUSY,         KWR_ERR_IO,          KWR_ERR_NOSPACE,   KWR_ERR_NOMEM,    KWR_ERR_TIMEOUT,
    KWR_ERR_CORRUPT,      KWR_ERR_FORMAT,      KWR_ERR_MISSING,   KWR_ERR_FENCED,   KWR_ERR_UNKNOWN,
    KWR_ERR_POISONED,     KWR_ERR_LOCKED,      KWR_ERR_REFUSED,   KWR_ERR_MISUSE,   KWR_ERR_RANGE,
    KWR_ERR_MISMATCH,     KWR_ERR_UNSUPPORTED, KWR_ERR_CANCELLED, KWR_ERR_DECLINED, KWR_ERR_EXISTS,
    KWR_ERR_NOT_RESIDENT,
};

KWR_TEST(error, every_failure_has_its_own_name) {
    for (size_t i = 0; i < sizeof all_failures / sizeof all_failures[0]; i++) {
        const char *name = kwr_status_name(all_failures[i]);
        cr_assert(strncmp(name, "KWR_ERR_", 8) == 0, "%s", name);
        for (size_t j = 0; j < i; j++)
            cr_assert(strcmp(name, kwr_status_name(all_failures[j])) != 0);
    }
    cr_assert_str_eq(kwr_status_name(KWR_OK), "KWR_OK");
    cr_assert_str_eq(kwr_status_name(KWR_NOT_FOUND), "KWR_NOT_FOUND");
    cr_assert_str_eq(kwr_status_name((kwr_status)-999), "unknown status");
}

KWR_TEST(error, the_number_of_a_status_tells_its_action) {
    for (size_t i = 0; i < sizeof all_failures / sizeof all_failures[0]; i++) {
        const int n = -(int)all_failures[i];
        const kwr_action expected = n < 20   ? KWR_RETRY
                                    : n < 40 ? KWR_ABANDON
                                    : n < 60 ? KWR_STOP
                                             : KWR_FIX_CALLER;
        cr_assert_eq(kwr_status_action(all_failures[i]), expected, "%s",
                     kwr_status_name(all_failures[i]));
    }
    cr_assert_eq(kwr_status_action(KWR_OK), KWR_GO_ON);
    cr_assert_eq(kwr_status_action(KWR_NOT_FOUND), KWR_GO_ON);
}

KWR_TEST(error, a_failure_this_build_does_not_know_means_stop) {
    cr_assert_eq(kwr_status_action((kwr_status)-999), KWR_STOP);
    cr_assert_eq(kwr_status_action((kwr_status)999), KWR_GO_ON);
}

KWR_TEST(error, the_version_is_the_headers) {
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", KWR_VERSION_MAJOR, KWR_VERSION_MINOR,
             KWR_VERSION_PATCH);
    cr_assert_str_eq(kwr_version(), expected);
}

KWR_TEST(error, the_text_holds_the_message_and_the_systems_reason) {
    kwr_error err = { 0 };
    kwr_error_set(&err, KWR_ERR_NOSPACE, ENOSPC, "write '%s'", "/a/b");
    cr_assert_str_eq(err.text, "write '/a/b': No space left on device");
    cr_assert_eq(err.status, KWR_ERR_NOSPACE);
    cr_assert_eq(err.sys_errno, ENOSPC);
    kwr_error_set(&err, KWR_ERR_IO, 12345, "x");
    cr_assert_str_eq(err.text, "x: system error 12345");
}

KWR_TEST(error, a_long_message_is_cut_visibly_and_keeps_the_systems_reason) {
    static char path[3000];
    memset(path, 'p', sizeof path - 1);
    kwr_error err = { 0 };
    kwr_error_set(&err, KWR_ERR_IO, EIO, "write '%s'", path);
    cr_assert_eq(strlen(err.text), KWR_ERROR_TEXT_MAX - 1);
    cr_assert(strstr(err.text, "ppp...: Input/output error") != NULL, "%s", err.text);

    path[KWR_ERROR_TEXT_MAX - 1] = '\0'; /* exactly full is not cut */
    kwr_error_set(&err, KWR_ERR_IO, 0, "%s", path);
    cr_assert_str_eq(err.text, path);
}

KWR_TEST(error, an_argument_may_be_the_old_text) {
    kwr_error err = { 0 };
    kwr_error_set(&err, KWR_ERR_IO, EIO, "inner");
    kwr_error_set(&err, KWR_ERR_CORRUPT, 0, "outer (%s)", err.text);
    cr_assert_str_eq(err.text, "outer (inner: Input/output error)");
}

KWR_TEST(error, a_prefix_goes_before_the_text_and_changes_nothing_else) {
    kwr_error err = { 0 };
    kwr_error_set(&err, KWR_ERR_IO, EIO, "read");
    kwr_error_prefix(&err, "restore '%s'", "job");
    cr_assert_str_eq(err.text, "restore 'job': read: Input/output error");
    cr_assert_eq(err.status, KWR_ERR_IO);
    cr_assert_eq(err.sys_errno, EIO);
}

KWR_TEST(error, prefix_and_text_both_survive_when_they_do_not_fit_together) {
    static char long_text[3000];
    memset(long_text, 't', sizeof long_text - 1);
    kwr_error err = { 0 };
    kwr_error_set(&err, KWR_ERR_IO, 0, "text %s", long_text);
    kwr_error_prefix(&err, "prefix %s", long_text);
    cr_assert_eq(strlen(err.text), KWR_ERROR_TEXT_MAX - 1);
    cr_assert(strncmp(err.text, "prefix ttt", 10) == 0, "%s", err.text);
    cr_assert(strstr(err.text, "...: text ttt") != NULL, "%s", err.text);
    for (int i = 0; i < 50; i++)
        kwr_error_prefix(&err, "level %d", i);
    cr_assert(strlen(err.text) < KWR_ERROR_TEXT_MAX);
    cr_assert(strncmp(err.text, "level 49: level 48: ", 20) == 0, "%s", err.text);
}

KWR_TEST(error, no_detail_wanted_is_fine) {
    kwr_error_set(NULL, KWR_ERR_IO, EIO, "x");
    kwr_error_prefix(NULL, "x");
}

static int evaluated;
static kwr_status next_status(void) {
    evaluated++;
    return KWR_ERR_BUSY;
}
static kwr_status try_it(kwr_status status) {
    KWR_TRY(status);
    return KWR_ERR_DECLINED;
}

KWR_TEST(error, fail_evaluates_the_status_once_and_try_passes_news_on) {
    kwr_error err = { 0 };
    cr_assert_eq(KWR_FAIL(&err, next_status(), 0, "x"), KWR_ERR_BUSY);
    cr_assert_eq(evaluated, 1);
    cr_assert_eq(try_it(KWR_ERR_IO), KWR_ERR_IO);
    cr_assert_eq(try_it(KWR_OK), KWR_ERR_DECLINED);
    cr_assert_eq(try_it(KWR_NOT_FOUND), KWR_ERR_DECLINED);
}

KWR_TEST(error, system_errors_have_the_status_callers_branch_on) {
    cr_assert_eq(kwr_status_from_errno(ENOSPC), KWR_ERR_NOSPACE);
    cr_assert_eq(kwr_status_from_errno(EDQUOT), KWR_ERR_NOSPACE);
    cr_assert_eq(kwr_status_from_errno(ENOMEM), KWR_ERR_NOMEM);
    cr_assert_eq(kwr_status_from_errno(ENOENT), KWR_ERR_MISSING);
    cr_assert_eq(kwr_status_from_errno(EEXIST), KWR_ERR_EXISTS);
    cr_assert_eq(kwr_status_from_errno(ELOOP), KWR_ERR_MISMATCH);
    cr_assert_eq(kwr_status_from_errno(ENOTDIR), KWR_ERR_MISMATCH);
    cr_assert_eq(kwr_status_from_errno(ENAMETOOLONG), KWR_ERR_RANGE);
    cr_assert_eq(kwr_status_from_errno(EIO), KWR_ERR_IO);
    cr_assert_eq(kwr_status_from_errno(EMFILE), KWR_ERR_IO);
    cr_assert_eq(kwr_status_from_errno(0), KWR_ERR_IO);
}
