/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which RocksDB a program runs on. The distribution's has its assertions compiled in; the dynamic
 * loader can be told to take another build in its place (scripts/peers.py, LD_LIBRARY_PATH), and
 * then our engine and the loops over the raw C API both run on that one.
 */
#ifndef KWR_BENCH_ROCKS_BUILD_H
#define KWR_BENCH_ROCKS_BUILD_H

#include <stdbool.h>

typedef struct rocks_build {
    char version[32];
    bool assertions; /* compiled in: not for production figures */
    char text[96];   /* "RocksDB 7.8.3, release build" */
} rocks_build;

/* False where the program was built without RocksDB; `text` then says so. */
bool rocks_build_find(rocks_build *out);

#endif /* KWR_BENCH_ROCKS_BUILD_H */
