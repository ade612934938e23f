/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deltas of a restore, and epochs for what was written when. Epochs are this process's own, so
 * the checkpoints that files were written for get new ones, in their order: then the restored pages
 * know which of their slots changed after which of these, and tiers of deltas can go on.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/restore_job.h"

/* Checkpoints of all files, ascending, each once. */
static kwr_status list_versions(kwr_restore_job *job, kwr_error *err) {
    job->versions = kwr_arena_array(job->arena, job->file_count + 1, sizeof *job->versions);
    if (job->versions == NULL) return kwr_restore_no_memory(err);
    size_t count = 0;
    for (size_t i = 0; i < job->file_count; i++) {
        const uint64_t version = job->files[i].header.checkpoint;
        size_t at = count;
        while (at > 0 && job->versions[at - 1] > version)
            at--;
        if (at > 0 && job->versions[at - 1] == version) continue;
        for (size_t j = count; j > at; j--)
            job->versions[j] = job->versions[j - 1];
        job->versions[at] = version;
        count++;
    }
    job->version_count = count;
    return KWR_OK;
}

static bool holds_deltas(const kwr_restore_job *job, size_t file) {
    return !job->sources[job->file_sources[file]].files && kwr_page_deltas_in(&job->files[file]);
}

static kwr_status read_all(kwr_restore_job *job, size_t file, kwr_error *err) {
    if (job->deltas == NULL) job->deltas = kwr_page_deltas_new(job->env);
    if (job->deltas == NULL) return kwr_restore_no_memory(err);
    return kwr_page_deltas_read(job->deltas, &job->files[file], job->owned, &job->levels[file],
                                err);
}

/* Where they are, in the order of their checkpoints. */
static kwr_status note_places(kwr_restore_job *job, kwr_error *err) {
    job->delta_files = kwr_delta_files_new(job->env);
    if (job->delta_files == NULL) return kwr_restore_no_memory(err);
    for (size_t v = 0; v < job->version_count; v++) {
        for (size_t i = 0; i < job->file_count; i++) {
            if (job->files[i].header.checkpoint != job->versions[v] || !holds_deltas(job, i))
                continue;
            const kwr_restore_source *s = &job->sources[job->file_sources[i]];
            KWR_TRY(kwr_delta_files_add(job->delta_files, &job->files[i], job->owned, s->state_ids,
                                        1 + v, &job->levels[i], err));
        }
    }
    return KWR_OK;
}

kwr_status kwr_restore_read_deltas(kwr_restore_job *job, kwr_error *err) {
    KWR_TRY(list_versions(job, err));
    job->levels = kwr_arena_array(job->arena, job->file_count + 1, sizeof *job->levels);
    if (job->levels == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < job->file_count; i++) {
        if (!holds_deltas(job, i)) continue;
        job->has_deltas = true;
        if (!job->lazy || job->files[i].file->name == NULL) KWR_TRY(read_all(job, i, err));
    }
    if (job->deltas != NULL) kwr_page_deltas_mark(job->deltas, job->versions, job->version_count);
    return job->lazy && job->has_deltas ? note_places(job, err) : KWR_OK;
}

uint64_t kwr_restore_epoch(const kwr_restore_job *job, uint64_t checkpoint) {
    uint64_t epoch = KWR_EPOCH_RESTORED;
    /* Without deltas nobody asks which came first. */
    if (!job->has_deltas) return epoch;
    while (epoch < job->version_count && job->versions[epoch - 1] < checkpoint)
        epoch++;
    return epoch;
}
