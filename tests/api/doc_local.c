/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/local-recovery.md quotes. It ends with 0 when all it says is true. */
#include "doc_main.h"

enum { KEYS = 5000 };

static const uint8_t uid[16] = { 1, 2, 3 };

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
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = env,
                                   .storage = storage,
                                   .job = "job",
                                   .operator_id = "count",
                                   .generation = 1,
                                   .checkpoint = 1,
                                   .sequence = 1 };
    memcpy(target.job_uid, uid, sizeof uid);
    TRY(kwr_backend_freeze(backend, &view));
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, saved, &err);
    kwr_view_release(view);
    return status;
}

static kwr_status restore(const kwr_env *env, kwr_storage *storage, kwr_slice handle) {
    const kwr_backend_options options = {
        .struct_size = sizeof options,
        .env = env,
        .key_type = { .kind = KWR_TYPE_STRING },
    };
    kwr_backend *backend = NULL;
    kwr_error err;
    TRY(kwr_snapshot_restore(&options, storage, "job", &handle, 1, &backend, &err));
    kwr_backend_close(backend);
    kwr_local_copy_stats stats = { .struct_size = sizeof stats };
    kwr_storage_local_copy_get_stats(storage, &stats);
    SAYS(stats.files_copied == 1 && stats.files_local == 1);
    SAYS(stats.bytes_local > 0 && stats.bytes_remote == 0);
    return KWR_OK;
}

static kwr_status run(kwr_backend *backend) {
    const char *directory = "memory:"; /* in earnest, a path on a local disk */
    kwr_env *env = NULL;
    kwr_storage *remote = NULL, *local = NULL, *storage = NULL;
    kwr_snapshot_result saved = { 0 };
    kwr_error err;
    TRY(kwr_env_posix_open(NULL, &env, &err));
    TRY(kwr_storage_open(env, "memory:", true, &remote, &err));
    TRY(kwr_storage_open(env, directory, true, &local, &err));
    TRY(kwr_storage_local_copy_open(env, remote, local, &storage, &err));
    TRY(kwr_storage_local_copy_claim(storage, "job", uid, &err));
    TRY(put_all(backend));
    TRY(save(backend, env, storage, &saved));
    TRY(restore(env, storage, (kwr_slice){ saved.handle.data, saved.handle.size }));
    kwr_bytes_free(&saved.handle);
    kwr_storage_close(storage);
    kwr_storage_close(local);
    kwr_storage_close(remote);
    kwr_env_posix_close(env);
    return KWR_OK;
}

int main(void) { return doc_main(run); }
