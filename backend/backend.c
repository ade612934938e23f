/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a backend: options, engine, restored states; its upkeep and its counters. */
#include <stdatomic.h>

#include "backend/core.h"
#include "backend/resources.h"
#include "base/limits.h"
#include "base/memory.h"

static const char default_engine[] = "memory";

/* ---- options ---- */

static kwr_status complete_key_groups(kwr_backend_options *options, kwr_error *err) {
    if (options->max_parallelism == 0) options->max_parallelism = KWR_MAX_PARALLELISM_DEFAULT;
    const uint32_t most = options->max_parallelism;
    if (most > KWR_MAX_PARALLELISM_LIMIT)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "max_parallelism is %u, at most %d is possible",
                        most, KWR_MAX_PARALLELISM_LIMIT);
    kwr_key_group_range *owned = &options->key_groups;
    if (owned->count == 0) *owned = (kwr_key_group_range){ 0, most };
    if (owned->first >= most || owned->count > most - owned->first)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "key_groups: %u groups from %u on, but max_parallelism is %u", owned->count,
                        owned->first, most);
    return KWR_OK;
}

static kwr_status complete_options(const kwr_backend_options *in, kwr_backend_options *out,
                                   kwr_error *err) {
    if (in == NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "kwr_backend_options: required, env at least");
    KWR_TRY(kwr_options_copy(in, out, sizeof *out, "kwr_backend_options", err));
    if (out->env == NULL || out->env->allocator == NULL)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_backend_options: env with an allocator is required");
    KWR_TRY(kwr_limits_complete(&out->limits, &out->limits, err));
    KWR_TRY(complete_key_groups(out, err));
    if (out->engine == NULL) out->engine = default_engine;
    return kwr_type_check_key(&out->key_type, "key_type", err);
}

/* ---- building ---- */

static kwr_status shared_new(const kwr_backend_options *options, kwr_backend_shared **out,
                             kwr_error *err) {
    const kwr_env *env = options->env;
    kwr_backend_shared *shared = (kwr_backend_shared *)kwr_calloc(env, sizeof *shared);
    if (shared == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a backend");
    atomic_init(&shared->refs, 1);
    atomic_init(&shared->views, 0);
    shared->env = env;
    *out = shared; /* released by whoever closes the half-built backend */
    if (kwr_type_copy(env, &options->key_type, &shared->key_type) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a backend");
    if (options->resources == NULL) return kwr_resources_open(env, NULL, &shared->resources, err);
    kwr_resources_retain(options->resources);
    shared->resources = options->resources;
    return KWR_OK;
}

static kwr_status check_restored(const kwr_state_info *info, size_t id, const kwr_registry *known,
                                 const kwr_limits *limits, kwr_error *err) {
    if (info->id != id)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "state %zu of the snapshot has the id %u", id,
                        info->id);
    if (info->name == NULL || info->name[0] == '\0' ||
        strnlen(info->name, limits->name_bytes_max + 1) > limits->name_bytes_max)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "state %zu of the snapshot has a name of 0 or more than %zu bytes", id,
                        limits->name_bytes_max);
    if (kwr_registry_find(known, info->name) != NULL)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "the snapshot has two states '%s'", info->name);
    KWR_TRY(kwr_type_check(&info->type, info->name, err));
    KWR_TRY(kwr_type_check_key(&info->namespace_type, info->name, err));
    return kwr_type_check_key(&info->user_key_type, info->name, err);
}

static kwr_status add_restored(kwr_backend *backend, const kwr_state_info *states, size_t count,
                               kwr_error *err) {
    if (count > backend->limits.states_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "the snapshot has %zu states, limits.states_max is %u", count,
                        backend->limits.states_max);
    for (size_t i = 0; i < count; i++) {
        KWR_TRY(check_restored(&states[i], i, &backend->registry, &backend->limits, err));
        if (kwr_registry_add(&backend->registry, &states[i]) < KWR_OK)
            return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for %zu states", count);
    }
    for (size_t i = 0; i < count; i++) {
        const kwr_status status = backend->ops->add_state(backend->engine, &states[i]);
        if (status < KWR_OK) return KWR_FAIL(err, status, 0, "no memory for %zu states", count);
    }
    return KWR_OK;
}

static kwr_status open_engine(kwr_backend *backend, const kwr_backend_options *options,
                              const kwr_engine_choice *choice, kwr_error *err) {
    const kwr_engine_config config = {
        .env = options->env,
        .resources = backend->shared->resources,
        .max_parallelism = options->max_parallelism,
        .key_groups = options->key_groups,
        .limits = &backend->limits,
        .hash_mask = choice->hash_mask,
        .seed = options->seed,
        .engine_key_groups = options->engine_key_groups,
        .directory = options->directory,
        .adopts = choice->adopts,
    };
    return choice->ops->open(&config, &backend->engine, err);
}

static kwr_status build(const kwr_backend_options *options, const kwr_engine_choice *choice,
                        const kwr_state_info *states, size_t state_count, kwr_backend **out,
                        kwr_error *err) {
    KWR_CLEANUP(kwr_backend_close_p)
    kwr_backend *backend = (kwr_backend *)kwr_calloc(options->env, sizeof *backend);
    if (backend == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a backend");
    backend->env = options->env;
    backend->ops = choice->ops;
    backend->registry.env = options->env;
    backend->key_serial = 1;
    backend->seed = options->seed;
    backend->max_parallelism = options->max_parallelism;
    backend->key_groups = options->key_groups;
    backend->engine_key_groups = options->engine_key_groups;
    backend->key_fixed_size = kwr_type_fixed_size(&options->key_type);
    backend->limits = options->limits;
    KWR_TRY(shared_new(options, &backend->shared, err));
    KWR_TRY(open_engine(backend, options, choice, err));
    KWR_TRY(add_restored(backend, states, state_count, err));
    *out = KWR_TAKE(backend);
    return KWR_OK;
}

kwr_status kwr_backend_open_engine(const kwr_backend_options *options,
                                   const kwr_engine_choice *engine, const kwr_state_info *states,
                                   size_t state_count, kwr_backend **out, kwr_error *err) {
    kwr_backend_options complete;
    KWR_TRY(complete_options(options, &complete, err));
    return build(&complete, engine, states, state_count, out, err);
}

kwr_status kwr_backend_open_with(const kwr_backend_options *options, const kwr_state_info *states,
                                 size_t state_count, bool adopts, kwr_backend **out,
                                 kwr_error *err) {
    kwr_backend_options complete;
    KWR_TRY(complete_options(options, &complete, err));
    const kwr_engine_choice engine = {
        .adopts = adopts,
        .ops = kwr_engine_find(complete.engine),
        .hash_mask = UINT64_MAX,
    };
    if (engine.ops == NULL)
        return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                        "this build has no engine '%.64s'; the page store is '%s'", complete.engine,
                        default_engine);
    return build(&complete, &engine, states, state_count, out, err);
}

kwr_status kwr_backend_open(const kwr_backend_options *options, kwr_backend **out, kwr_error *err) {
    return kwr_backend_open_with(options, NULL, 0, false, out, err);
}

void kwr_backend_close(kwr_backend *backend) {
    if (backend == NULL) return;
    const kwr_env *env = backend->env;
    while (backend->batches != NULL)
        kwr_key_batch_free(backend->batches);
    for (size_t i = 0; i < backend->handles_capacity; i++)
        kwr_state_free(backend->handles[i]);
    kwr_free(env, backend->handles, backend->handles_capacity * sizeof *backend->handles);
    if (backend->engine != NULL) backend->ops->close(backend->engine);
    kwr_registry_done(&backend->registry);
    kwr_kept_free(env, &backend->key_copy);
    kwr_backend_shared_release(backend->shared);
    kwr_free(env, backend, sizeof *backend);
}

/* ---- small things ---- */

const kwr_error *kwr_backend_error(const kwr_backend *backend) { return &backend->error; }

kwr_engine *kwr_backend_engine(kwr_backend *backend, const kwr_engine_ops **ops) {
    if (ops != NULL) *ops = backend->ops;
    return backend->engine;
}

bool kwr_backend_maintain(kwr_backend *backend, uint64_t max_ns) {
    return backend->ops->maintain(backend->engine, max_ns);
}

kwr_status kwr_backend_load(kwr_backend *backend) {
    kwr_error *err = &backend->error;
    return backend->ops->load == NULL ? KWR_OK : backend->ops->load(backend->engine, err);
}

void kwr_backend_set_no_wait(kwr_backend *backend, bool on) {
    if (backend->ops->set_no_wait != NULL) backend->ops->set_no_wait(backend->engine, on);
}

void kwr_backend_get_stats(const kwr_backend *backend, kwr_backend_stats *stats) {
    kwr_backend_stats all = { .struct_size = sizeof all };
    backend->ops->stats(backend->engine, &all);
    all.views = atomic_load_explicit(&backend->shared->views, memory_order_acquire);
    const size_t size = stats->struct_size < sizeof all ? stats->struct_size : sizeof all;
    if (size <= sizeof all.struct_size) return;
    memcpy((uint8_t *)stats + sizeof all.struct_size, (uint8_t *)&all + sizeof all.struct_size,
           size - sizeof all.struct_size);
}
