/* SPDX-License-Identifier: Apache-2.0 */
/* Mutual exclusion for short sections. Whoever has to wait for work asks the executor instead. */
#ifndef KWR_BASE_THREAD_H
#define KWR_BASE_THREAD_H

#include "keyweir/env.h"

typedef struct kwr_mutex {
    _Alignas(8) unsigned char opaque[64];
} kwr_mutex;

void kwr_mutex_init(kwr_mutex *mutex);
void kwr_mutex_done(kwr_mutex *mutex);
void kwr_mutex_lock(kwr_mutex *mutex);
void kwr_mutex_unlock(kwr_mutex *mutex);

#endif /* KWR_BASE_THREAD_H */
