/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restore by the shares will read, from the indexes alone: each data file is looked into
 * once, and its images are summed by key group.
 */
#include "recovery/assignment.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "snapshot/data_reader.h"

/* Sums of images in key groups [0, i). */
typedef struct group_sum {
    uint64_t bytes;
    uint64_t entries;
} group_sum;

typedef struct survey {
    const kwr_job_dirs *dirs;
    kwr_limits limits;
    const kwr_manifest *manifest;
    const kwr_manifest_operator *op;
    kwr_storage_dir *dir;
    kwr_storage_reader *inline_reader;
    char path[KWR_STORAGE_PATH_MAX];
    group_sum *groups;  /* one more than there are key groups */
    uint64_t *overhead; /* by donor: headers, indexes, footers */
} survey;

static kwr_status open_file(survey *s, const kwr_manifest_file *file, const kwr_data_owner *owner,
                            kwr_data_file *out, kwr_error *err) {
    const kwr_manifest *m = s->manifest;
    kwr_storage *storage = s->dirs->storage;
    if (file->name != NULL)
        return kwr_data_file_open(s->dirs->env, storage, s->dirs->shared, file, owner, out, err);
    if (s->inline_reader == NULL)
        KWR_TRY(kwr_checkpoint_open_inline(s->dirs, m->checkpoint, m->generation, m->inline_length,
                                           &s->dir, &s->inline_reader, s->path, err));
    kwr_data_file_of_reader(s->dirs->env, storage, s->inline_reader, s->path, file, owner, out);
    return KWR_OK;
}

static kwr_status survey_file(survey *s, uint32_t donor, const kwr_manifest_file *listed,
                              const kwr_data_owner *owner, kwr_error *err) {
    kwr_data_file file = { 0 };
    KWR_TRY(open_file(s, listed, owner, &file, err));
    const kwr_status status = kwr_data_file_load(&file, err);
    for (uint64_t i = 0; status >= KWR_OK && i < listed->images; i++) {
        kwr_data_entry entry;
        if (!kwr_data_file_entry(&file, i, &entry)) continue;
        group_sum *sum = &s->groups[entry.key_group + 1];
        sum->bytes += KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
        sum->entries += entry.entries;
    }
    s->overhead[donor] += KWR_DATA_HEADER_SIZE + file.index_length + KWR_DATA_FOOTER_SIZE;
    kwr_data_file_close(&file);
    return status;
}

static kwr_status survey_all(survey *s, kwr_error *err) {
    for (uint32_t i = 0; i < s->op->parallelism; i++) {
        const kwr_manifest_subtask *subtask = &s->op->subtasks[i];
        const kwr_data_owner owner = {
            .limits = &s->limits,
            .operator_id = s->op->id,
            .job_uid = s->manifest->job_uid,
            .subtask = subtask,
            .max_parallelism = s->manifest->max_parallelism,
            .seed = s->manifest->seed,
        };
        for (size_t f = 0; f < subtask->file_count; f++)
            KWR_TRY(survey_file(s, i, &subtask->files[f], &owner, err));
    }
    for (uint32_t i = 0; i < s->op->max_parallelism; i++) {
        s->groups[i + 1].bytes += s->groups[i].bytes;
        s->groups[i + 1].entries += s->groups[i].entries;
    }
    return KWR_OK;
}

static void sum_up(const survey *s, const kwr_share *share, kwr_share_bytes *out) {
    const kwr_key_group_range range = share->key_groups;
    const group_sum *from = &s->groups[range.first], *to = &s->groups[range.first + range.count];
    *out = (kwr_share_bytes){ .entries = to->entries - from->entries,
                              .owned = to->bytes - from->bytes };
    out->read = out->owned;
    for (uint32_t i = 0; i < share->donor_count; i++)
        out->read += s->overhead[share->donor_first + i];
}

kwr_status kwr_assign_bytes(const kwr_job_dirs *dirs, const kwr_limits *limits,
                            const kwr_manifest *manifest, const kwr_manifest_operator *stored,
                            const kwr_share *shares, uint32_t parallelism, kwr_share_bytes *out,
                            kwr_error *err) {
    survey s = { .dirs = dirs, .manifest = manifest, .op = stored };
    KWR_TRY(kwr_limits_complete(limits, &s.limits, err));
    kwr_arena *arena = kwr_arena_new(dirs->env, 0);
    if (arena != NULL) {
        s.groups = kwr_arena_array(arena, (size_t)stored->max_parallelism + 1, sizeof *s.groups);
        s.overhead = kwr_arena_array(arena, stored->parallelism, sizeof *s.overhead);
    }
    kwr_status status = KWR_OK;
    if (s.groups == NULL || s.overhead == NULL)
        status =
            KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to look into operator '%s'", stored->id);
    if (status >= KWR_OK) status = survey_all(&s, err);
    for (uint32_t i = 0; status >= KWR_OK && i < parallelism; i++)
        sum_up(&s, &shares[i], &out[i]);
    if (s.inline_reader != NULL) {
        dirs->storage->ops->close_reader(dirs->storage, s.inline_reader);
        dirs->storage->ops->dir_close(dirs->storage, s.dir);
    }
    if (arena != NULL) kwr_arena_free(arena);
    return status;
}
