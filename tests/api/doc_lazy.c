/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/recovery.md quotes. It ends with 0 when all it says is true. */
#include "doc_main.h"

enum { KEYS = 5000 };

static kwr_status put_all(kwr_backend *backend) {
    const kwr_value_descriptor points = { .struct_size = sizeof points,
                                          .name = "points",
                                          .type = { .kind = KWR_TYPE_I64 } };
    kwr_value *value;
    char key[16];
    kwr_error err;
    TRY(kwr_value_open(backend, &points, &value, &err));
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key %d", i);
        TRY(kwr_backend_set_key(backend, text(key)));
        TRY(kwr_value_put_i64(value, i));
    }
    return KWR_OK;
}

static kwr_status save(kwr_backend *backend, const kwr_env *env, kwr_storage *storage,
                       kwr_snapshot_result *saved) {
    kwr_view *view;
    kwr_error err;
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = env,
                                         .storage = storage,
                                         .job = "job",
                                         .operator_id = "points",
                                         .generation = 1,
                                         .checkpoint = 1 };
    TRY(kwr_backend_freeze(backend, &view));
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, saved, &err);
    kwr_view_release(view);
    return status;
}

/* As a task would that has other work while a page is on its way. */
static kwr_status read_without_waiting(kwr_backend *backend, kwr_value *value, const char *key,
                                       int64_t *points) {
    kwr_status status;
    kwr_backend_set_no_wait(backend, true);
    TRY(kwr_backend_set_key(backend, text(key)));
    while ((status = kwr_value_get_i64(value, points)) == KWR_ERR_NOT_RESIDENT) {
        /* ... other records ... */
        (void)kwr_backend_maintain(backend, 100000);
    }
    kwr_backend_set_no_wait(backend, false);
    return status;
}

static kwr_status go_on(const kwr_env *env, kwr_storage *storage, kwr_slice handle) {
    kwr_error err;
    kwr_backend *backend;
    const kwr_backend_options options = {
        .struct_size = sizeof options,
        .env = env,
        .key_type = { .kind = KWR_TYPE_STRING },
        .loading = KWR_LOADING_LAZY,
        .load_share = 50,
    };
    TRY(kwr_snapshot_restore(&options, storage, "job", &handle, 1, &backend, &err));

    const kwr_value_descriptor points = { .struct_size = sizeof points,
                                          .name = "points",
                                          .type = { .kind = KWR_TYPE_I64 } };
    kwr_value *value;
    int64_t got = 0;
    TRY(kwr_value_open(backend, &points, &value, &err));
    TRY(kwr_backend_set_key(backend, text("key 4711")));
    TRY(kwr_value_get_i64(value, &got)); /* reads one page, if it is not there yet */
    SAYS(got == 4711);
    TRY(read_without_waiting(backend, value, "key 12", &got));
    SAYS(got == 12);

    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    if (stats.load_pages_left > 0)
        printf("%.0f %% loaded, %.1f s left\n",
               100.0 * (double)(stats.load_bytes - stats.load_bytes_left) /
                   (double)stats.load_bytes,
               (double)stats.load_left_ns / 1e9);

    TRY(kwr_backend_load(backend)); /* the rest now */
    kwr_backend_get_stats(backend, &stats);
    SAYS(stats.load_pages_left == 0 && stats.entries == KEYS);
    kwr_backend_close(backend);
    return KWR_OK;
}

static kwr_status run(kwr_backend *backend) {
    kwr_env *env = NULL;
    kwr_storage *storage = NULL;
    kwr_snapshot_result saved = { 0 };
    kwr_error err;
    TRY(kwr_env_posix_open(NULL, &env, &err));
    TRY(kwr_storage_memory_open(env, 0, &storage, &err));
    TRY(put_all(backend));
    TRY(save(backend, env, storage, &saved));
    TRY(go_on(env, storage, (kwr_slice){ saved.handle.data, saved.handle.size }));
    kwr_bytes_free(&saved.handle);
    kwr_storage_close(storage);
    kwr_env_posix_close(env);
    return KWR_OK;
}

int main(void) { return doc_main(run); }
