/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data files of a restore: opened, their indexes verified and added up, and the images of owned
 * key groups chosen, in runs that are read together.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/checkpoint.h"
#include "snapshot/restore_job.h"

enum {
    RUN_BYTES = 1024 * 1024, /* read at once */
    FILES_OPEN = 8,          /* data files that stay open; more are opened for each read */
};

static bool owned(const kwr_restore_job *job, uint32_t key_group) {
    return key_group >= job->owned.first && key_group < kwr_restore_range_end(job->owned);
}

/* The file `inline` of the checkpoint a handle refers to; handles of one checkpoint share it. */
static kwr_status open_inline(kwr_restore_job *job, kwr_restore_source *s, kwr_error *err) {
    const kwr_inline_place *place = &s->part->inline_place;
    if (s->inline_reader != NULL) return KWR_OK;
    for (const kwr_restore_source *other = job->sources; other < s; other++) {
        const kwr_inline_place *at = &other->part->inline_place;
        if (other->inline_dir == NULL || at->checkpoint != place->checkpoint ||
            at->generation != place->generation || at->length != place->length)
            continue;
        s->inline_reader = other->inline_reader;
        kwr_storage_path(job->storage, other->inline_dir, "inline", job->inline_path);
        return KWR_OK;
    }
    if (job->dirs.root == NULL)
        return KWR_FAIL(err, KWR_ERR_MISSING, 0, "there is no directory of the job in storage");
    return kwr_checkpoint_open_inline(&job->dirs, place->checkpoint, place->generation,
                                      place->length, &s->inline_dir, &s->inline_reader,
                                      job->inline_path, err);
}

/* A copy does not stand in for a file that is gone: later checkpoints would refer to it. */
static kwr_status advise_copy(const kwr_restore_job *job, const kwr_manifest_file *file,
                              kwr_error *err) {
    char path[KWR_STORAGE_PATH_MAX], copy[KWR_STORAGE_PATH_MAX];
    if (job->dirs.shared == NULL ||
        !kwr_local_file_path(job->storage, job->dirs.shared, file->name, copy))
        return KWR_ERR_MISSING;
    kwr_storage_path(job->storage, job->dirs.shared, file->name, path);
    return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                    "'%s' is missing; there is a local copy: put '%s' back under that name, it is "
                    "verified when it is read",
                    path, copy);
}

static kwr_status open_file(kwr_restore_job *job, kwr_restore_source *s,
                            const kwr_manifest_file *file, kwr_data_file *out, kwr_error *err) {
    if (file->name == NULL && s->part->inline_place.checkpoint != 0) {
        KWR_TRY(open_inline(job, s, err));
        kwr_data_file_of_reader(job->env, job->storage, s->inline_reader, job->inline_path, file,
                                &s->owner, out);
        return KWR_OK;
    }
    if (file->name == NULL) {
        kwr_data_file_of_memory(job->env, s->part->inline_bytes.data, "inline bytes of a handle",
                                file, &s->owner, out);
        return KWR_OK;
    }
    uint64_t generation = 0, sequence = 0;
    uint32_t subtask = 0;
    if (kwr_shared_name_parse(file->name, &generation, s->operator_id, &subtask, &sequence))
        s->owner.operator_id = s->operator_id;
    const kwr_status status =
        kwr_data_file_open(job->env, job->storage, job->dirs.shared, file, &s->owner, out, err);
    if (status == KWR_ERR_MISSING) return advise_copy(job, file, err);
    if (status >= KWR_OK) kwr_data_file_use_copy(out);
    return status;
}

static kwr_status add_run(kwr_restore_job *job, uint32_t file, uint64_t first, uint32_t count,
                          kwr_error *err) {
    void *items = job->runs;
    if (!kwr_grow_array(job->env, &items, &job->run_capacity, job->run_count + 1,
                        sizeof *job->runs))
        return kwr_restore_no_memory(err);
    job->runs = items;
    job->runs[job->run_count++] = (kwr_image_run){ .file = file, .first = first, .count = count };
    return KWR_OK;
}

/* Owned images of one file in runs of about RUN_BYTES; they lie together, by key group. */
static kwr_status plan_file(kwr_restore_job *job, uint32_t index, kwr_error *err) {
    const kwr_data_file *file = &job->files[index];
    uint64_t first = 0, bytes = 0;
    uint32_t count = 0;
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        const bool used = kwr_data_file_entry(file, i, &entry);
        const bool use = used && owned(job, entry.key_group) && entry.kind != KWR_PAGE_DELTA;
        if (count > 0 && (!use || bytes >= RUN_BYTES)) {
            KWR_TRY(add_run(job, index, first, count, err));
            count = 0;
            bytes = 0;
        }
        if (!use) continue;
        if (count++ == 0) first = i;
        bytes += KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
    }
    return count > 0 ? add_run(job, index, first, count, err) : KWR_OK;
}

/* The indexes of a handle's files add up to what its states hold, unless deltas change that. */
static kwr_status check_entries(const kwr_restore_job *job, size_t which, size_t first_file,
                                kwr_error *err) {
    const kwr_manifest_subtask *subtask = &job->sources[which].part->subtask;
    uint64_t *sums = kwr_arena_array(job->arena, subtask->state_count, sizeof *sums);
    if (sums == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < subtask->file_count; i++) {
        if (kwr_page_deltas_in(&job->files[first_file + i])) return KWR_OK;
        kwr_data_file_count(&job->files[first_file + i], sums);
    }
    for (size_t i = 0; i < subtask->state_count; i++)
        if (!subtask->states[i].estimated && sums[i] != subtask->states[i].entries)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                            "snapshot handle %zu: state '%s' should have %llu entries, its files "
                            "have %llu",
                            which, subtask->states[i].info.name,
                            (unsigned long long)subtask->states[i].entries,
                            (unsigned long long)sums[i]);
    return KWR_OK;
}

kwr_status kwr_restore_open_files(kwr_restore_job *job, kwr_error *err) {
    job->files = kwr_arena_array(job->arena, job->file_count, sizeof *job->files);
    job->file_sources = kwr_arena_array(job->arena, job->file_count, sizeof *job->file_sources);
    const size_t total = job->file_count;
    job->file_count = 0;
    if (job->files == NULL || job->file_sources == NULL) return kwr_restore_no_memory(err);
    if (total > UINT32_MAX) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < job->source_count; i++) {
        kwr_restore_source *s = &job->sources[i];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        const size_t first = job->file_count;
        /* A handle without owned key groups is not looked into. */
        if (!kwr_restore_intersects(subtask->key_groups, job->owned)) continue;
        for (size_t j = 0; j < subtask->file_count; j++) {
            kwr_data_file *file = &job->files[job->file_count];
            KWR_TRY(open_file(job, s, &subtask->files[j], file, err));
            job->file_sources[job->file_count++] = (uint32_t)i;
            KWR_TRY(kwr_data_file_load(file, err));
            if (job->file_count > FILES_OPEN) kwr_data_file_rest(file);
        }
        s->first_file = first;
        s->open_files = job->file_count - first;
        KWR_TRY(check_entries(job, i, first, err));
    }
    for (size_t i = 0; i < job->file_count; i++)
        if (!job->sources[job->file_sources[i]].files) KWR_TRY(plan_file(job, (uint32_t)i, err));
    return KWR_OK;
}
