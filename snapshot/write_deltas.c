/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of an increment: which tiers of the base stay, and the new deltas gathered in batches, in
 * data files of their own.
 */
#include "backend/page_delta.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/planted.h"
#include "snapshot/page_base.h"
#include "snapshot/write_job.h"

/* Deltas of a lower checkpoint than something they go on top of would be taken for old ones. */
static bool is_newest(const kwr_write_job *job) {
    for (size_t i = 0; i < job->base->file_count; i++)
        if (job->base->files[i].checkpoint >= job->target->checkpoint) return false;
    return true;
}

/* Pages that are not loaded need all deltas there are. */
static bool held(const kwr_write_job *job) {
    return job->from.all && !KWR_PLANTED(deltas_go_while_loading);
}

kwr_status kwr_write_deltas_begin(kwr_write_job *job) {
    job->with_deltas = is_newest(job);
    if (!job->with_deltas) return KWR_OK;
    job->deltas_stay = held(job) || KWR_PLANTED(deltas_go_while_loading);
    for (size_t i = 0; i < job->base->file_count; i++)
        if (job->base->files[i].deltas && job->base->files[i].listed.name != NULL)
            job->deltas_stay = job->deltas_stay && job->refer[i];
    return kwr_page_base_cover(job->base, job->refer, held(job), &job->cover) ? KWR_OK
                                                                              : KWR_ERR_NOMEM;
}

/* Also those that are made anew. */
static bool stays(const kwr_write_job *job, uint32_t file) {
    if (job->base->files[file].checkpoint <= job->cover.checkpoint) return true;
    return held(job) && job->refer[file];
}

kwr_status kwr_write_deltas_keep(kwr_write_job *job) {
    const kwr_page_base *base = job->base;
    if (!job->with_deltas) return KWR_OK;
    for (size_t i = 0; i < job->workers; i++)
        job->units[i].deltas = &job->units[job->workers + i];
    for (size_t i = 0; i < base->file_count; i++)
        if (base->files[i].deltas && base->files[i].checkpoint > job->cover.checkpoint)
            job->next->files[i].partial = true;
    for (uint32_t g = 0; g < base->key_groups.count; g++) {
        const kwr_page_group *group = &base->groups[g];
        for (size_t i = 0; i < group->batch_count; i++) {
            const kwr_page_batch *batch = &group->batches[i];
            if (stays(job, batch->file))
                KWR_TRY(kwr_page_base_batch(job->next, base->key_groups.first + g, batch));
        }
    }
    return KWR_OK;
}

kwr_status kwr_write_deltas_since(void *ctx, const kwr_page_image *image, kwr_page_since *out) {
    const kwr_write_unit *unit = ctx;
    const kwr_write_job *job = unit->job;
    const kwr_page_place *place = kwr_page_base_find(job->base, image->key_group, image->page_id);
    if (place == NULL || !job->refer[place->file] || job->cover.full) return KWR_OK;
    out->whole = job->base->files[place->file].epoch;
    out->since = out->whole > job->cover.epoch ? out->whole : job->cover.epoch;
    return KWR_OK;
}

/* Readers find a page's delta by that order. */
static bool in_order(const kwr_page_image *last, const kwr_page_image *delta) {
    return last->bytes == NULL || last->key_group != delta->key_group ||
           last->state != delta->state || last->prefix < delta->prefix;
}

kwr_status kwr_write_deltas_take(kwr_write_unit *unit, const kwr_page_image *delta) {
    kwr_write_job *job = unit->job;
    const kwr_page_place *place = kwr_page_base_find(job->base, delta->key_group, delta->page_id);
    if (place == NULL || !job->with_deltas)
        return KWR_FAIL(&unit->err, KWR_ERR_MISUSE, 0, "the engine gave changes nobody asked for");
    if (!in_order(&unit->last_delta, delta))
        return KWR_FAIL(&unit->err, KWR_ERR_MISUSE, 0, "the engine gave changes out of order");
    unit->last_delta = *delta;
    size_t most = KWR_DELTA_BATCH_BYTES;
    if (most > job->limits.image_bytes_max) most = job->limits.image_bytes_max;
    if (unit->batch_count > 0 &&
        (unit->batch_image.state != delta->state || unit->batch.size + delta->size > most))
        KWR_TRY(kwr_write_deltas_flush(unit));
    if (unit->batch_count++ == 0) {
        unit->batch_image = *delta;
        unit->batch.size = 0;
        (void)kwr_buffer_extend(&unit->batch, KWR_DELTA_HEADER);
    }
    kwr_buffer_append(&unit->batch, delta->bytes, delta->size);
    if (unit->batch.failed || kwr_page_base_add(job->next, delta->key_group, place) < KWR_OK)
        return KWR_FAIL(&unit->err, KWR_ERR_NOMEM, 0, "no memory for the deltas of a snapshot");
    return KWR_OK;
}

kwr_status kwr_write_deltas_flush(kwr_write_unit *unit) {
    kwr_write_job *job = unit->job;
    kwr_write_unit *to = unit->deltas;
    if (unit->batch_count == 0) return KWR_OK;
    kwr_delta_batch_begin(unit->batch.data, job->cover.checkpoint, job->cover.level,
                          unit->batch_count);
    kwr_page_image image = unit->batch_image;
    image.bytes = unit->batch.data;
    image.size = unit->batch.size;
    unit->batch_count = 0;
    uint64_t stored = 0;
    kwr_status status = to->writer.length == 0 ? kwr_write_begin(to) : KWR_OK;
    if (status >= KWR_OK) status = kwr_write_image(to, &image, &stored);
    if (status < KWR_OK) {
        unit->err = to->err;
        return status;
    }
    const kwr_page_batch batch = {
        .file = to->next_file,
        .image = (uint32_t)(to->writer.images - 1),
        .bytes = (uint32_t)(stored - KWR_DATA_ENTRY_SIZE),
    };
    if (kwr_page_base_batch(job->next, image.key_group, &batch) >= KWR_OK) return KWR_OK;
    return KWR_FAIL(&unit->err, KWR_ERR_NOMEM, 0, "no memory to note where deltas are");
}
