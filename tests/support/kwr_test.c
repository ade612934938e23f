/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/kwr_test.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

void kwr_test_leak_check(void) {
#if defined(__SANITIZE_ADDRESS__)
    cr_assert(__lsan_do_recoverable_leak_check() == 0, "the test leaked memory");
#endif
}
