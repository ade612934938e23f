/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Increments of engines of pages: which images are referred to, which are written, and where each
 * then is. The table of the base is only read; the new one is filled by the workers, each for its
 * own key groups.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/page_base.h"
#include "snapshot/write_job.h"

/* Files of the base keep their numbers, then come those of the units. */
static kwr_status list_files(kwr_write_job *job) {
    const kwr_page_base *base = job->base;
    uint32_t index;
    for (size_t i = 0; base != NULL && i < base->file_count; i++)
        KWR_TRY(kwr_page_base_refer(job->next, &base->files[i], &index));
    for (size_t i = 0; i < job->unit_count; i++)
        KWR_TRY(
            kwr_page_base_file(job->next, &(kwr_manifest_file){ 0 }, 0, &job->units[i].next_file));
    return KWR_OK;
}

/* What may be referred to: files of the base that the lineage has, and that are worth keeping. */
static kwr_status choose_files(kwr_write_job *job) {
    KWR_TRY(kwr_lineage_begin(job->target->lineage, &job->from));
    if (job->from.set == NULL || job->from.set->pages == NULL) return KWR_OK;
    const kwr_page_base *base = job->from.set->pages;
    job->refer = kwr_arena_array(job->arena, base->file_count, sizeof *job->refer);
    if (job->refer == NULL) return KWR_ERR_NOMEM;
    job->base = base;
    for (size_t i = 0, shared = 0; i < base->file_count; i++)
        job->refer[i] = base->files[i].listed.name != NULL && job->from.usable[shared++];
    if (!job->from.all) kwr_page_base_plan(base, job->refer);
    return kwr_write_deltas_begin(job);
}

kwr_status kwr_write_pages_begin(kwr_write_job *job, kwr_error *err) {
    const kwr_view *view = job->view;
    if (job->target->lineage == NULL || view->ops->view_epoch == NULL) return KWR_OK;
    job->next = kwr_page_base_new(job->target->env, view->key_groups);
    kwr_status status = job->next == NULL ? KWR_ERR_NOMEM : choose_files(job);
    if (status >= KWR_OK) status = list_files(job);
    if (status >= KWR_OK) status = kwr_write_deltas_keep(job);
    if (status < KWR_OK)
        return KWR_FAIL(err, status, 0, "no memory for the list of a snapshot's images");
    job->next->epoch = view->ops->view_epoch(view->engine_view);
    return KWR_OK;
}

void kwr_write_pages_end(kwr_write_job *job) {
    kwr_page_base_free(job->next);
    kwr_lineage_base_done(&job->from);
}

kwr_status kwr_write_pages_ask(void *ctx, const kwr_page_image *image, bool *wanted) {
    kwr_write_unit *unit = ctx;
    const kwr_write_job *job = unit->job;
    KWR_TRY(kwr_write_check_running(job, &unit->err));
    const kwr_page_base *base = job->base;
    if (base == NULL) return KWR_OK;
    const kwr_page_place *place = kwr_page_base_find(base, image->key_group, image->page_id);
    if (place == NULL || !job->refer[place->file]) return KWR_OK;
    /* What it was then, or with the deltas that stay. */
    uint64_t known = base->files[place->file].epoch;
    if (image->kind == KWR_PAGE_HASH && known < job->cover.epoch) known = job->cover.epoch;
    if (image->epoch > known) return KWR_OK;
    /* It is complete only with what lies beside it. */
    if (image->beside > base->files[place->file].epoch && !job->deltas_stay) return KWR_OK;
    *wanted = false;
    return kwr_page_base_add(job->next, image->key_group, place);
}

kwr_status kwr_write_pages_note(kwr_write_unit *unit, const kwr_page_image *image,
                                uint64_t stored) {
    const kwr_page_place place = {
        .id = image->page_id,
        .file = unit->next_file,
        .image = (uint32_t)(unit->writer.images - 1),
        .bytes = (uint32_t)(stored - KWR_DATA_ENTRY_SIZE),
        .entries = image->entries,
    };
    if (kwr_page_base_add(unit->job->next, image->key_group, &place) >= KWR_OK) return KWR_OK;
    return KWR_FAIL(&unit->err, KWR_ERR_NOMEM, 0, "no memory to note where images are");
}

/* What the files are, now that it is known, and of each what is used. */
static kwr_status seal(kwr_write_job *job) {
    for (size_t i = 0; i < job->unit_count; i++) {
        const kwr_write_unit *unit = &job->units[i];
        if (!unit->finished) continue;
        kwr_page_file *file = &job->next->files[unit->next_file];
        file->listed = unit->file;
        file->owned_bytes = unit->file.live_bytes;
        file->checkpoint = job->target->checkpoint;
        file->epoch = job->next->epoch;
        file->deltas = i >= job->workers;
        file->level = job->cover.level;
        file->listed.name = NULL;
        if (unit->file.name == NULL) continue;
        file->listed.name = kwr_copy_string(job->target->env, unit->file.name);
        if (file->listed.name == NULL) return KWR_ERR_NOMEM;
    }
    return kwr_page_base_seal(job->next);
}

kwr_status kwr_write_pages_describe(kwr_write_job *job, kwr_subtask_part *part, kwr_error *err) {
    kwr_manifest_file *files = NULL;
    kwr_status status = seal(job);
    if (status >= KWR_OK) {
        files = kwr_arena_array(part->arena, job->next->file_count, sizeof *files);
        if (files == NULL) status = KWR_ERR_NOMEM;
    }
    if (status < KWR_OK)
        return KWR_FAIL(err, status, 0, "no memory for the list of a snapshot's images");
    part->subtask.files = files;
    part->subtask.file_count = job->next->file_count;
    for (size_t i = 0; i < job->next->file_count; i++)
        files[i] = job->next->files[i].listed;
    return KWR_OK;
}
