/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring engines that keep state in files: every file is written to a local directory, verified
 * on the way, and taken over by the engine as it is.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/donors.h"
#include "snapshot/restore_job.h"

static kwr_status adopt(kwr_restore_job *job, const kwr_donors *donors, const size_t *handles,
                        kwr_error *err) {
    kwr_engine_donor *list = kwr_arena_array(job->arena, donors->source_count, sizeof *list);
    size_t count = 0;
    if (list == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < donors->source_count; i++) {
        const kwr_manifest_subtask *subtask = &job->sources[handles[i]].part->subtask;
        if (donors->sources[i].directory == NULL) continue;
        list[count++] = (kwr_engine_donor){ .directory = donors->sources[i].directory,
                                            .key_groups = subtask->key_groups,
                                            .states = job->sources[handles[i]].state_ids,
                                            .state_count = subtask->state_count };
    }
    return job->ops->adopt(job->engine, list, count, err);
}

/* Every byte of every file is verified before the engine is told where they are. */
kwr_status kwr_restore_adopt(kwr_restore_job *job, kwr_error *err) {
    kwr_donors donors = {
        .env = job->env, .arena = job->arena, .directory = job->options->directory, .set = job->set
    };
    donors.sources = kwr_arena_array(job->arena, job->source_count, sizeof *donors.sources);
    size_t *handles = kwr_arena_array(job->arena, job->source_count, sizeof *handles);
    if (donors.sources == NULL || handles == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_restore_source *s = &job->sources[i];
        if (!kwr_restore_intersects(s->part->subtask.key_groups, job->owned)) continue;
        handles[donors.source_count] = i;
        donors.sources[donors.source_count++] =
            (kwr_donor_source){ .files = job->files + s->first_file,
                                .file_count = s->open_files,
                                .state_ids = s->state_ids };
    }
    KWR_TRY(kwr_donors_write(&donors, err));
    const kwr_status status = adopt(job, &donors, handles, err);
    kwr_donors_remove(&donors);
    return status;
}

/* All or none of the handles that matter are files. */
kwr_status kwr_restore_choose_adoption(kwr_restore_job *job, kwr_error *err) {
    size_t files = 0, others = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        if (!kwr_restore_intersects(job->sources[i].part->subtask.key_groups, job->owned)) continue;
        files += job->sources[i].files;
        others += !job->sources[i].files;
    }
    if (files > 0 && others > 0)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "some snapshot handles are files of the engine and some are not: restore "
                        "from a checkpoint in which all are the same");
    job->adopts = files > 0;
    return KWR_OK;
}
