/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a snapshot that was written: its handle, and its set for the lineage. */
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/write_job.h"

static kwr_status describe_states(const kwr_write_job *job, kwr_subtask_part *part,
                                  kwr_snapshot_result *result, kwr_error *err) {
    const kwr_view *view = job->view;
    kwr_manifest_state *states = kwr_arena_array(part->arena, view->table->count, sizeof *states);
    if (states == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a snapshot's handle");
    for (size_t i = 0; i < view->table->count; i++) {
        const kwr_state_count count = job->counts[i];
        states[i].info = view->table->states[i];
        states[i].entries = count.entries;
        states[i].entry_bytes = count.entry_bytes;
        states[i].elements = count.elements;
        states[i].estimated = count.estimated;
        result->entries += count.entries;
    }
    part->subtask.states = states;
    part->subtask.state_count = view->table->count;
    return KWR_OK;
}

/* Name or place of a unit's file. */
static void place_file(kwr_write_unit *unit, kwr_buffer *inline_bytes,
                       kwr_snapshot_result *result) {
    if (unit->created) {
        unit->file.name = unit->name;
        result->files++;
    } else {
        unit->file.offset = inline_bytes->size;
        kwr_buffer_append(inline_bytes, unit->writer.bytes.data, unit->writer.bytes.size);
    }
    result->bytes_written += unit->file.length;
    result->raw_bytes += unit->writer.raw;
}

static kwr_status list_files(const kwr_write_job *job, kwr_subtask_part *part, kwr_error *err) {
    kwr_manifest_file *files =
        kwr_arena_array(part->arena, job->unit_count + job->reused_count, sizeof *files);
    if (files == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a snapshot's handle");
    size_t count = 0;
    for (size_t i = 0; i < job->unit_count; i++) {
        if (job->units[i].finished) files[count++] = job->units[i].file;
    }
    for (size_t i = 0; i < job->reused_count; i++)
        files[count++] = job->reused[i];
    part->subtask.files = files;
    part->subtask.file_count = count;
    return KWR_OK;
}

static kwr_status describe_files(kwr_write_job *job, kwr_subtask_part *part,
                                 kwr_buffer *inline_bytes, kwr_snapshot_result *result,
                                 kwr_error *err) {
    for (size_t i = 0; i < job->unit_count; i++)
        if (job->units[i].finished) place_file(&job->units[i], inline_bytes, result);
    KWR_TRY(job->next != NULL ? kwr_write_pages_describe(job, part, err)
                              : list_files(job, part, err));
    result->files_used = part->subtask.file_count;
    for (size_t i = 0; i < part->subtask.file_count; i++)
        result->bytes_used += part->subtask.files[i].length;
    result->sequence_next = __atomic_load_n(&job->sequence, __ATOMIC_RELAXED);
    if (inline_bytes->failed)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a snapshot's inline bytes");
    part->inline_bytes = (kwr_slice){ inline_bytes->data, inline_bytes->size };
    return KWR_OK;
}

/* What this checkpoint uses, for the ones after it; engines of files have made it already. */
static kwr_status make_set(kwr_write_job *job, const kwr_subtask_part *part, kwr_error *err) {
    if (job->target->lineage == NULL || job->set != NULL) return KWR_OK;
    kwr_status status = KWR_OK;
    job->set = kwr_lineage_set_new(job->target->env);
    if (job->set == NULL) status = KWR_ERR_NOMEM;
    const bool pages = job->next != NULL;
    if (status >= KWR_OK && pages) status = kwr_lineage_set_pages(job->set, KWR_TAKE(job->next));
    for (size_t i = 0; status >= KWR_OK && !pages && i < part->subtask.file_count; i++) {
        uint32_t index = 0;
        if (part->subtask.files[i].name != NULL)
            status = kwr_lineage_set_file(job->set, &part->subtask.files[i], &index);
    }
    if (status >= KWR_OK) return KWR_OK;
    return KWR_FAIL(err, status, 0, "no memory to remember the files of a snapshot");
}

kwr_status kwr_write_handle(kwr_write_job *job, kwr_snapshot_result *out, kwr_error *err) {
    const kwr_env *env = job->target->env;
    const kwr_view *view = job->view;
    kwr_subtask_part part = {
        .arena = kwr_arena_new(env, 0),
        .subtask = { .index = job->target->subtask,
                     .keyed = true,
                     .key_groups = view->key_groups,
                     .format = job->format != NULL ? job->format : view->ops->native },
        .key_type = view->key_type,
        .seed = view->seed,
        .engine_key_groups = view->engine_key_groups,
        .max_parallelism = view->max_parallelism,
    };
    if (part.arena == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a snapshot's handle");
    kwr_buffer inline_bytes = { .env = env };
    kwr_snapshot_result result = { 0 };
    kwr_status status = describe_states(job, &part, &result, err);
    if (status >= KWR_OK) status = describe_files(job, &part, &inline_bytes, &result, err);
    if (status >= KWR_OK) status = make_set(job, &part, err);
    if (status >= KWR_OK) status = kwr_subtask_part_encode(env, &part, &result.handle, err);
    if (status >= KWR_OK && job->set != NULL)
        kwr_lineage_offer(job->target->lineage, job->target->checkpoint, KWR_TAKE(job->set));
    kwr_buffer_free(&inline_bytes);
    kwr_arena_free(part.arena);
    if (status >= KWR_OK) *out = result;
    return status;
}
