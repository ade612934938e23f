/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/snapshot/mini_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "keyweir/state.h"

kwr_backend_options mini_options(const kwr_env *env, kwr_key_group_range range) {
    return (kwr_backend_options){
        .struct_size = sizeof(kwr_backend_options),
        .env = env,
        .max_parallelism = MINI_GROUPS,
        .key_groups = range,
        .seed = MINI_SEED,
        .key_type = { .kind = KWR_TYPE_STRING },
    };
}

static kwr_slice key_of(uint32_t number, char out[32]) {
    return (kwr_slice){ out, (size_t)snprintf(out, 32, "key-%u", number) };
}

uint32_t mini_group(uint32_t number) {
    char text[32];
    return kwr_key_group(key_of(number, text), MINI_SEED, MINI_GROUPS);
}

static bool in_range(kwr_key_group_range range, uint32_t number) {
    const uint32_t group = mini_group(number);
    return range.count == 0 || (group >= range.first && group - range.first < range.count);
}

/* Some compressible, some not, some empty, one too large for a page. */
static size_t text_of(uint32_t number, uint32_t round, uint8_t *out) {
    const size_t size = number == 3 ? 20000 : number % 7 == 0 ? 0 : 10 + number % 90;
    uint32_t x = number * 2654435761U + round;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525U + 1013904223U;
        out[i] = number % 2 == 0 ? (uint8_t)('a' + round % 26) : (uint8_t)(x >> 24);
    }
    return size;
}

static kwr_status open_states(kwr_backend *backend, kwr_value **text, kwr_reducing **number,
                              kwr_error *err) {
    const kwr_value_descriptor t = { .struct_size = sizeof t, .name = "text" };
    const kwr_reducing_descriptor n = { .struct_size = sizeof n,
                                        .name = "number",
                                        .type = { .kind = KWR_TYPE_I64 },
                                        .reduce = KWR_REDUCE_SUM };
    KWR_TRY(kwr_value_open(backend, &t, text, err));
    return kwr_reducing_open(backend, &n, number, err);
}

kwr_status mini_fill(kwr_backend *backend, kwr_key_group_range range, uint32_t count,
                     uint32_t round) {
    kwr_value *text = NULL;
    kwr_reducing *number = NULL;
    uint8_t bytes[20000];
    KWR_TRY(open_states(backend, &text, &number, NULL));
    for (uint32_t i = 0; i < count; i++) {
        char key[32];
        if (!in_range(range, i)) continue;
        KWR_TRY(kwr_backend_set_key(backend, key_of(i, key)));
        KWR_TRY(kwr_value_put(text, (kwr_slice){ bytes, text_of(i, round, bytes) }));
        const int64_t add = (int64_t)i * 1000 + round;
        KWR_TRY(kwr_reducing_add(number, (kwr_slice){ &add, sizeof add }, NULL));
    }
    return KWR_OK;
}

void mini_expect(kwr_backend *backend, kwr_key_group_range range, uint32_t count, uint32_t round) {
    kwr_value *text = NULL;
    kwr_reducing *number = NULL;
    kwr_error err = { 0 };
    uint8_t bytes[20000];
    uint64_t present = 0;
    KWR_MUST_ERR(open_states(backend, &text, &number, &err), err);
    for (uint32_t i = 0; i < count; i++) {
        char key[32];
        kwr_slice got = { 0 };
        if (!in_range(range, i)) continue;
        present += 2;
        KWR_MUST(kwr_backend_set_key(backend, key_of(i, key)));
        KWR_MUST(kwr_value_get(text, &got));
        const size_t size = text_of(i, round, bytes);
        cr_assert(got.size == size && (size == 0 || memcmp(got.data, bytes, size) == 0),
                  "text of key %u", i);
        KWR_MUST(kwr_reducing_get(number, &got));
        const int64_t value = (int64_t)i * 1000 + round;
        cr_assert(got.size == 8 && memcmp(got.data, &value, 8) == 0, "number of key %u", i);
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    cr_assert(stats.entries == present, "%llu entries, %llu expected",
              (unsigned long long)stats.entries, (unsigned long long)present);
}

/* ---- the manifest ---- */

kwr_status mini_manifest_make(mini_manifest *m, const kwr_env *env, const kwr_slice *handles,
                              uint32_t parallelism, uint64_t checkpoint, uint64_t generation,
                              kwr_error *err) {
    memset(m, 0, offsetof(mini_manifest, inline_bytes));
    m->inline_size = 0;
    for (uint32_t i = 0; i < parallelism; i++) {
        const kwr_status status =
            kwr_subtask_part_decode(env, NULL, handles[i], "handle", &m->parts[i], err);
        if (status < KWR_OK) {
            mini_manifest_done(m, i);
            return status;
        }
        const kwr_subtask_part *part = m->parts[i];
        m->subtasks[i] = part->subtask;
        for (size_t j = 0; j < part->subtask.file_count; j++) {
            m->files[i][j] = part->subtask.files[j];
            if (m->files[i][j].name == NULL) m->files[i][j].offset += m->inline_size;
        }
        m->subtasks[i].files = m->files[i];
        if (part->inline_bytes.size > 0)
            memcpy(m->inline_bytes + m->inline_size, part->inline_bytes.data,
                   part->inline_bytes.size);
        m->inline_size += part->inline_bytes.size;
    }
    m->op = (kwr_manifest_operator){ .id = "count",
                                     .parallelism = parallelism,
                                     .max_parallelism = MINI_GROUPS,
                                     .roles = 2,
                                     .key_type = { .kind = KWR_TYPE_STRING },
                                     .subtasks = m->subtasks };
    m->manifest = (kwr_manifest){
        .job = "job",
        .checkpoint = checkpoint,
        .generation = generation,
        .triggered_ms = 1,
        .completed_ms = 2,
        .seed = MINI_SEED,
        .max_parallelism = MINI_GROUPS,
        .operators = &m->op,
        .operator_count = 1,
    };
    memset(m->manifest.job_uid, 7, sizeof m->manifest.job_uid);
    return KWR_OK;
}

void mini_manifest_done(mini_manifest *m, uint32_t parallelism) {
    for (uint32_t i = 0; i < parallelism; i++)
        kwr_subtask_part_free(m->parts[i]);
}

/* ---- the job ---- */

static kwr_status start(mini_job *job, kwr_error *err) {
    KWR_TRY(kwr_job_dirs_open(job->env, job->storage, "job", true, &job->dirs, err));
    KWR_TRY(kwr_log_read(&job->dirs, NULL, &job->log, err));
    kwr_slot fence = next_fence(&job->log, "job");
    KWR_TRY(kwr_log_publish(&job->dirs, &fence, err));
    return kwr_log_append(&job->log, &fence);
}

kwr_status mini_start(mini_job *job, const kwr_env *env, kwr_storage *storage, kwr_error *err) {
    const mini_job given = *job;
    *job = (mini_job){ .env = env,
                       .storage = storage,
                       .inline_bytes = given.inline_bytes,
                       .threads = given.threads,
                       .increments = given.increments,
                       .compression_off = given.compression_off };
    const kwr_status status = start(job, err);
    if (status < KWR_OK) mini_stop(job);
    return status;
}

void mini_stop(mini_job *job) {
    kwr_log_free(&job->log);
    kwr_job_dirs_close(&job->dirs);
    kwr_retention_free(job->retention);
    job->retention = NULL;
    kwr_backend_close(job->backend);
    kwr_lineage_free(job->lineage);
    job->backend = NULL;
    job->lineage = NULL;
}

static kwr_status snapshot(mini_job *job, uint32_t count, uint32_t round, kwr_snapshot_result *out,
                           kwr_error *err) {
    const kwr_backend_options options = mini_options(job->env, (kwr_key_group_range){ 0, 0 });
    const kwr_slot *last = &job->log.slots[job->log.count - 1];
    kwr_snapshot_target target = {
        .struct_size = sizeof target,
        .env = job->env,
        .storage = job->storage,
        .job = "job",
        .operator_id = "count",
        .generation = last->generation,
        .checkpoint = round,
        .sequence = job->sequence,
        .inline_bytes = job->inline_bytes,
        .threads = job->threads,
        .compression_off = job->compression_off,
    };
    memset(target.job_uid, 7, sizeof target.job_uid);
    kwr_backend *backend = job->backend;
    kwr_view *view = NULL;
    if (job->increments && job->lineage == NULL)
        KWR_TRY(kwr_lineage_new(job->env, target.job_uid, "count", &job->lineage, err));
    target.lineage = job->lineage;
    /* Entries that are not there yet, or a few of them again. */
    const uint32_t fill = backend != NULL ? 3 : count;
    if (backend == NULL) KWR_TRY(kwr_backend_open(&options, &backend, err));
    kwr_status status = mini_fill(backend, options.key_groups, fill, round);
    if (status < KWR_OK && err != NULL) *err = *kwr_backend_error(backend);
    if (status >= KWR_OK) status = kwr_backend_freeze(backend, &view);
    if (status >= KWR_OK) status = kwr_snapshot_write(view, &target, NULL, out, err);
    kwr_view_release(view);
    if (job->increments)
        job->backend = backend;
    else
        kwr_backend_close(backend);
    if (status >= KWR_OK) job->sequence += out->files;
    return status;
}

static kwr_status complete(mini_job *job, const kwr_slice *handle, uint32_t round, mini_manifest *m,
                           kwr_error *err) {
    const uint64_t generation = job->log.slots[job->log.count - 1].generation;
    KWR_TRY(mini_manifest_make(m, job->env, handle, 1, round, generation, err));
    kwr_slot slot = next_checkpoint(&job->log, round);
    if (job->retain > 0) slot.floor = kwr_retention_floor(job->retain, &job->log);
    kwr_status status = kwr_checkpoint_write(
        &job->dirs, &m->manifest, (kwr_slice){ m->inline_bytes, m->inline_size }, &slot, NULL, err);
    if (status >= KWR_OK) {
        status = kwr_log_publish(&job->dirs, &slot, err);
        if (status < KWR_OK && status != KWR_ERR_UNKNOWN)
            (void)kwr_checkpoint_remove(&job->dirs, round, generation, NULL);
    }
    if (status >= KWR_OK) status = kwr_log_append(&job->log, &slot);
    if (status >= KWR_OK && job->lineage != NULL) kwr_lineage_confirm(job->lineage, round);
    if (status >= KWR_OK && job->retention != NULL) {
        (void)kwr_retention_add(job->retention, &slot, &m->manifest);
        kwr_retention_apply(job->retention, &job->dirs, &job->log);
    }
    mini_manifest_done(m, 1);
    return status;
}

kwr_status mini_checkpoint(mini_job *job, uint32_t count, uint32_t round, kwr_error *err) {
    kwr_snapshot_result result = { 0 };
    KWR_TRY(snapshot(job, count, round, &result, err));
    const kwr_slice handle = { result.handle.data, result.handle.size };
    mini_manifest *m = malloc(sizeof *m);
    const kwr_status status = complete(job, &handle, round, m, err);
    free(m);
    kwr_bytes_free(&result.handle);
    return status;
}

static kwr_status restore_slot(const kwr_job_dirs *dirs, const kwr_slot *slot, kwr_backend **out,
                               kwr_error *err) {
    kwr_manifest *manifest = NULL;
    kwr_bytes part = { 0 };
    const kwr_backend_options options = mini_options(dirs->env, (kwr_key_group_range){ 0, 0 });
    KWR_TRY(kwr_checkpoint_open(dirs, NULL, slot, &manifest, err));
    kwr_status status = kwr_checkpoint_handle(dirs->env, manifest, &manifest->operators[0],
                                              &manifest->operators[0].subtasks[0], &part, err);
    const kwr_slice handle = { part.data, part.size };
    if (status >= KWR_OK)
        status = kwr_snapshot_restore(&options, dirs->storage, "job", &handle, 1, out, err);
    kwr_bytes_free(&part);
    kwr_manifest_free(manifest);
    return status;
}

kwr_status mini_restore(const kwr_env *env, kwr_storage *storage, kwr_backend **out,
                        uint64_t *round, kwr_error *err) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    KWR_TRY(kwr_job_dirs_open(env, storage, "job", false, &dirs, err));
    kwr_status status = kwr_log_read(&dirs, NULL, &log, err);
    const kwr_slot *newest = status < KWR_OK ? NULL : kwr_log_newest(&log, NULL);
    if (status >= KWR_OK && newest == NULL)
        status = KWR_NOT_FOUND;
    else if (status >= KWR_OK) {
        *round = newest->checkpoint;
        status = restore_slot(&dirs, newest, out, err);
    }
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    return status;
}

void mini_expect_restores(const kwr_env *env, kwr_storage *storage, uint32_t count,
                          uint64_t round) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    uint64_t got = 0;
    KWR_MUST_ERR(mini_restore(env, storage, &backend, &got, &err), err);
    cr_assert(got == round, "checkpoint %llu, not %llu", (unsigned long long)got,
              (unsigned long long)round);
    mini_expect(backend, (kwr_key_group_range){ 0, 0 }, count, (uint32_t)round);
    kwr_backend_close(backend);
}
