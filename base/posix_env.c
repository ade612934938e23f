/* SPDX-License-Identifier: Apache-2.0 */
/* The default environment, put together. */
#include "base/posix.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"

enum { BLOCKING_THREADS = 4, THREADS_MAX = 1024 };

typedef struct posix_env {
    kwr_env env; /* first: it is what the caller holds */
    kwr_posix_executor *executor;
    kwr_posix_fs *fs;
} posix_env;

/* Those this process may use, which in a container are often fewer than there are. */
static uint32_t processors(void) {
    cpu_set_t set;
    long count = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    if (count < 1) count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
}

/* getenv() itself is safe among threads as long as the host changes no variable meanwhile. */
static kwr_status get_variable(void *ctx, const char *name, char *out, size_t capacity) {
    (void)ctx;
    const char *value = getenv(name);
    if (value == NULL) return KWR_ERR_MISSING;
    const size_t size = strlen(value) + 1;
    if (size > capacity) return KWR_ERR_RANGE;
    memcpy(out, value, size);
    return KWR_OK;
}

static const kwr_variables posix_variables = { .struct_size = sizeof(kwr_variables),
                                               .get = get_variable };

static kwr_status complete_options(const kwr_posix_options *in, kwr_posix_options *out,
                                   kwr_error *err) {
    KWR_TRY(kwr_options_copy(in, out, sizeof *out, "kwr_posix_options", err));
    if (out->compute_threads == 0) out->compute_threads = processors();
    if (out->blocking_threads == 0) out->blocking_threads = BLOCKING_THREADS;
    if (out->compute_threads > THREADS_MAX || out->blocking_threads > THREADS_MAX) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_posix_options: %u compute and %u blocking threads: at most %d each",
                        out->compute_threads, out->blocking_threads, THREADS_MAX);
    }
    return KWR_OK;
}

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "open the environment: no memory");
}

kwr_status kwr_posix_env_open(const kwr_posix_options *options, const kwr_allocator *allocator,
                              kwr_env **out, kwr_error *err) {
    kwr_posix_options o;
    KWR_TRY(complete_options(options, &o, err));
    const kwr_env first = { .struct_size = sizeof first, .allocator = allocator };
    posix_env *posix = kwr_calloc(&first, sizeof *posix);
    if (posix == NULL) return no_memory(err);
    posix->env = first;
    posix->env.clock = &kwr_posix_clock;
    posix->env.random = &kwr_posix_random;
    posix->env.observer = o.observer;
    posix->env.variables = &posix_variables;

    kwr_status status = KWR_OK;
    posix->fs = kwr_posix_fs_open(&posix->env, false, o.roots_unchecked);
    if (posix->fs == NULL) status = no_memory(err);
    if (status == KWR_OK) {
        status = kwr_posix_executor_open(&posix->env, o.compute_threads, o.blocking_threads,
                                         &posix->executor, err);
    }
    if (status != KWR_OK) {
        kwr_env_posix_close(&posix->env);
        return status;
    }
    posix->env.fs = kwr_posix_fs_table(posix->fs);
    posix->env.executor = kwr_posix_executor_table(posix->executor);
    *out = &posix->env;
    return KWR_OK;
}

kwr_status kwr_env_posix_open(const kwr_posix_options *options, kwr_env **out, kwr_error *err) {
    return kwr_posix_env_open(options, &kwr_posix_allocator, out, err);
}

void kwr_env_posix_close(kwr_env *env) {
    if (env == NULL) return;
    posix_env *posix = (posix_env *)(void *)env;
    kwr_posix_executor_close(posix->executor);
    kwr_posix_fs_close(posix->fs);
    const kwr_env last = { .struct_size = sizeof last, .allocator = env->allocator };
    kwr_free(&last, posix, sizeof *posix);
}
