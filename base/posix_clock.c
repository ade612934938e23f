/* SPDX-License-Identifier: Apache-2.0 */
/* Time and randomness from the kernel. */
#include "base/posix.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static uint64_t posix_mono_ns(void *ctx) {
    (void)ctx;
    struct timespec now = { 0 };
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int64_t posix_wall_ms(void *ctx) {
    (void)ctx;
    struct timespec now = { 0 };
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const kwr_clock kwr_posix_clock = {
    .struct_size = sizeof(kwr_clock),
    .mono_ns = posix_mono_ns,
    .wall_ms = posix_wall_ms,
};

static kwr_status posix_random(void *ctx, void *out, size_t size) {
    (void)ctx;
    for (size_t done = 0; done < size;) {
        const ssize_t n = getrandom((char *)out + done, size - done, 0);
        if (n < 0 && errno != EINTR) return KWR_ERR_IO;
        if (n > 0) done += (size_t)n;
    }
    return KWR_OK;
}

const kwr_random kwr_posix_random = {
    .struct_size = sizeof(kwr_random),
    .bytes = posix_random,
};
