/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the default environment, put together by posix_env.c. Nobody else includes this. */
#ifndef KWR_BASE_POSIX_H
#define KWR_BASE_POSIX_H

#include "keyweir/env.h"

/* malloc and mmap; without state of its own. */
extern const kwr_allocator kwr_posix_allocator;
extern const kwr_clock kwr_posix_clock;
extern const kwr_random kwr_posix_random;

/* `env` needs only its allocator, and outlives both. */
typedef struct kwr_posix_executor kwr_posix_executor;
kwr_status kwr_posix_executor_open(const kwr_env *env, uint32_t compute_threads,
                                   uint32_t blocking_threads, kwr_posix_executor **out,
                                   kwr_error *err);
/* Runs what is queued, drops what is not due, joins the threads. */
void kwr_posix_executor_close(kwr_posix_executor *executor);
const kwr_executor *kwr_posix_executor_table(const kwr_posix_executor *executor);

typedef struct kwr_posix_fs kwr_posix_fs;
/* NULL without memory. */
kwr_posix_fs *kwr_posix_fs_open(const kwr_env *env, bool openat2_off, bool roots_unchecked);
void kwr_posix_fs_close(kwr_posix_fs *fs);
const kwr_fs *kwr_posix_fs_table(const kwr_posix_fs *fs);

/* kwr_env_posix_open() with another allocator. */
kwr_status kwr_posix_env_open(const kwr_posix_options *options, const kwr_allocator *allocator,
                              kwr_env **out, kwr_error *err);

#endif /* KWR_BASE_POSIX_H */
