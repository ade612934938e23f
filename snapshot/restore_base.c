/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the checkpoint after a restore may refer to: the files that were restored from, when all are
 * of the lineage's own job and operator.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/planted.h"
#include "snapshot/page_base.h"
#include "snapshot/restore_job.h"

bool kwr_restore_of_lineage(const kwr_restore_job *job) {
    if (job->lineage == NULL) return false;
    const kwr_digest id = kwr_lineage_operator_digest(job->lineage);
    for (size_t i = 0; i < job->file_count; i++) {
        const kwr_data_header *header = &job->files[i].header;
        if (!kwr_lineage_is_of_job(job->lineage, header->job_uid) ||
            !kwr_digest_equal(&id, &header->operator_digest))
            return false;
    }
    return true;
}

/* For images: files alone. What is adopted also says what is in them. */
static kwr_status note_image_files(const kwr_restore_job *job, kwr_lineage_set *set) {
    for (size_t i = 0; i < job->file_count; i++) {
        uint32_t index = 0;
        if (job->files[i].file->name == NULL || job->sources[job->file_sources[i]].files) continue;
        KWR_TRY(kwr_lineage_set_file(set, job->files[i].file, &index));
    }
    return KWR_OK;
}

/*
 * Engines of pages: images that will be installed as they are. Those that came inline cannot be
 * referred to, but must be known: of two subtasks that were restored from, one may have its deltas
 * inline and the other in shared/, and then the tier of both does not stay.
 */
static kwr_status note_pages(const kwr_restore_job *job, kwr_lineage_set *set) {
    kwr_page_base *base = kwr_page_base_new(job->env, job->owned);
    kwr_status status = base == NULL ? KWR_ERR_NOMEM : KWR_OK;
    for (size_t i = 0; i < job->file_count && status >= KWR_OK; i++) {
        const kwr_restore_source *s = &job->sources[job->file_sources[i]];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        if (KWR_PLANTED(inline_deltas_unknown) && job->files[i].file->name == NULL) continue;
        if (!s->foreign && !s->files)
            status = kwr_page_base_note(
                base, &job->files[i], subtask->key_groups, s->state_ids, subtask->state_count,
                kwr_restore_epoch(job, job->files[i].header.checkpoint), job->levels[i]);
    }
    if (status >= KWR_OK) {
        base->epoch = job->version_count + 1;
        status = kwr_page_base_seal(base);
    }
    if (status >= KWR_OK) return kwr_lineage_set_pages(set, base);
    kwr_page_base_free(base);
    return status;
}

kwr_status kwr_restore_begin_set(kwr_restore_job *job, kwr_error *err) {
    if (!kwr_restore_of_lineage(job)) return KWR_OK;
    job->set = kwr_lineage_set_new(job->env);
    if (job->set == NULL) return kwr_restore_no_memory(err);
    const kwr_status status =
        job->ops->view_epoch != NULL ? note_pages(job, job->set) : note_image_files(job, job->set);
    return status < KWR_OK ? kwr_restore_no_memory(err) : KWR_OK;
}
