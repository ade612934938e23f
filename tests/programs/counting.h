/* SPDX-License-Identifier: Apache-2.0 */
/* A storage that counts what is read through it. */
#ifndef KWR_TESTS_PROGRAMS_COUNTING_H
#define KWR_TESTS_PROGRAMS_COUNTING_H

#include <stdatomic.h>

#include "keyweir/storage.h"

typedef struct counting {
    kwr_storage base;
    kwr_storage *inner; /* the caller's */
    _Atomic uint64_t bytes_read;
    _Atomic uint64_t files_opened;
} counting;

/* No close: it owns nothing. */
void counting_init(counting *c, kwr_storage *inner);

#endif /* KWR_TESTS_PROGRAMS_COUNTING_H */
