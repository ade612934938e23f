/* SPDX-License-Identifier: Apache-2.0 */
/* A pthread mutex in memory whose size does not depend on the C library. */
#include "base/thread.h"

#include <pthread.h>

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(kwr_mutex), "a pthread mutex fits");
_Static_assert(_Alignof(pthread_mutex_t) <= _Alignof(kwr_mutex), "and is aligned");

static pthread_mutex_t *native(kwr_mutex *mutex) {
    return (pthread_mutex_t *)(void *)mutex->opaque;
}

/* None of these fails on a valid mutex. Going on without mutual exclusion would damage state, so a
 * failure, which can only be memory overwritten or used after its end, stops here. */
static void must(int result) {
    if (result != 0) __builtin_trap();
}

void kwr_mutex_init(kwr_mutex *mutex) { must(pthread_mutex_init(native(mutex), NULL)); }
void kwr_mutex_done(kwr_mutex *mutex) { must(pthread_mutex_destroy(native(mutex))); }
void kwr_mutex_lock(kwr_mutex *mutex) { must(pthread_mutex_lock(native(mutex))); }
void kwr_mutex_unlock(kwr_mutex *mutex) { must(pthread_mutex_unlock(native(mutex))); }
