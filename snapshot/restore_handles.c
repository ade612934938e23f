/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the handles of a restore say: that they fit the backend and each other, cover what is owned,
 * and which states they hold together.
 */
#include <stdio.h>
#include <string.h>

#include "backend/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/restore_job.h"

static kwr_status mismatch(kwr_error *err, size_t handle, const char *what) {
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "snapshot handle %zu was written under another %s than the backend's options",
                    handle, what);
}

static kwr_status check_part(kwr_restore_job *job, size_t i, kwr_error *err) {
    const kwr_subtask_part *part = job->sources[i].part;
    if (!part->subtask.keyed)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "snapshot handle %zu holds no keyed state", i);
    if (part->max_parallelism != job->max_parallelism) return mismatch(err, i, "max parallelism");
    if (part->seed != job->options->seed) return mismatch(err, i, "seed");
    if (part->engine_key_groups != job->options->engine_key_groups)
        return mismatch(err, i, "way of choosing key groups");
    if (!kwr_type_same(&part->key_type, &job->options->key_type)) {
        char was[128], is[128];
        kwr_type_text(&part->key_type, was, sizeof was);
        kwr_type_text(&job->options->key_type, is, sizeof is);
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "snapshot handle %zu has keys of type %s, the backend's options say %s", i,
                        was, is);
    }
    const kwr_engine_ops *ops = job->ops;
    if (ops->adopt != NULL && ops->files != NULL && strcmp(ops->files, part->subtask.format) == 0) {
        job->sources[i].files = true;
        return KWR_OK;
    }
    const char *writer = kwr_engine_of_files(part->subtask.format);
    if (writer != NULL)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "snapshot handle %zu holds files of the engine %s (%s), which engine '%s' "
                        "does not read: restore it with %s and take a canonical snapshot, which "
                        "every engine reads",
                        i, writer, part->subtask.format, ops->name, writer);
    job->sources[i].foreign = !kwr_engine_reads(job->ops, part->subtask.format);
    if (!job->sources[i].foreign || kwr_engine_format_known(part->subtask.format)) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "snapshot handle %zu is in the format %s, which this version does not know", i,
                    part->subtask.format);
}

/* Every owned key group stands in exactly one handle. */
static kwr_status check_coverage(const kwr_restore_job *job, kwr_error *err) {
    uint64_t covered = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_key_group_range a = job->sources[i].part->subtask.key_groups;
        for (size_t j = 0; j < i; j++) {
            const kwr_key_group_range b = job->sources[j].part->subtask.key_groups;
            if (a.first < kwr_restore_range_end(b) && b.first < kwr_restore_range_end(a))
                return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                                "snapshot handles %zu and %zu hold the same key groups", j, i);
        }
        const uint32_t first = a.first > job->owned.first ? a.first : job->owned.first;
        const uint32_t end = kwr_restore_range_end(a) < kwr_restore_range_end(job->owned)
                                 ? kwr_restore_range_end(a)
                                 : kwr_restore_range_end(job->owned);
        if (first < end) covered += end - first;
    }
    if (covered == job->owned.count) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "the snapshot handles hold %llu of the %u key groups to restore (from %u)",
                    (unsigned long long)covered, job->owned.count, job->owned.first);
}

kwr_status kwr_restore_handles(kwr_restore_job *job, const kwr_slice *handles, size_t count,
                               kwr_error *err) {
    job->sources = kwr_arena_array(job->arena, count, sizeof *job->sources);
    if (job->sources == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < count; i++) {
        kwr_restore_source *s = &job->sources[i];
        char what[48];
        snprintf(what, sizeof what, "snapshot handle %zu", i);
        KWR_TRY(kwr_subtask_part_decode(job->env, &job->limits, handles[i], what, &s->part, err));
        job->source_count = i + 1;
        KWR_TRY(check_part(job, i, err));
        s->owner = (kwr_data_owner){
            .limits = &job->limits,
            .subtask = &s->part->subtask,
            .max_parallelism = job->max_parallelism,
            .seed = s->part->seed,
        };
        if (s->part->inline_place.checkpoint != 0) {
            s->owner.operator_id = s->part->inline_place.operator_id;
            s->owner.job_uid = s->part->inline_place.job_uid;
        }
        job->file_count += s->part->subtask.file_count;
    }
    return check_coverage(job, err);
}

/* ---- states: the union over the handles, by name ---- */

static kwr_status merge_state(kwr_restore_job *job, const kwr_state_info *info, uint32_t *id,
                              kwr_error *err) {
    for (size_t i = 0; i < job->state_count; i++) {
        const kwr_state_info *have = &job->states[i];
        if (strcmp(have->name, info->name) != 0) continue;
        if (have->kind != info->kind || !kwr_type_same(&have->type, &info->type) ||
            !kwr_type_same(&have->namespace_type, &info->namespace_type) ||
            !kwr_type_same(&have->user_key_type, &info->user_key_type))
            return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                            "state '%s' has another kind or type in another snapshot handle",
                            info->name);
        *id = (uint32_t)i;
        return KWR_OK;
    }
    *id = (uint32_t)job->state_count;
    job->states[job->state_count] = *info;
    job->states[job->state_count++].id = *id;
    return KWR_OK;
}

/* The handle of files with the most owned key groups: its states keep their numbers, so that its
 * files can be taken as they are. */
static size_t largest_of_files(const kwr_restore_job *job) {
    size_t best = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_key_group_range range = job->sources[i].part->subtask.key_groups;
        const uint32_t first = range.first > job->owned.first ? range.first : job->owned.first;
        const uint32_t end = kwr_restore_range_end(range) < kwr_restore_range_end(job->owned)
                                 ? kwr_restore_range_end(range)
                                 : kwr_restore_range_end(job->owned);
        if (!job->sources[i].files || end <= first || end - first <= most) continue;
        most = end - first;
        best = i;
    }
    return best;
}

kwr_status kwr_restore_states(kwr_restore_job *job, kwr_error *err) {
    size_t total = 0;
    for (size_t i = 0; i < job->source_count; i++)
        total += job->sources[i].part->subtask.state_count;
    job->states = kwr_arena_array(job->arena, total, sizeof *job->states);
    if (job->states == NULL) return kwr_restore_no_memory(err);
    const size_t best = largest_of_files(job);
    for (size_t n = 0; n < job->source_count; n++) {
        const size_t i = n == 0 ? best : n <= best ? n - 1 : n;
        kwr_restore_source *s = &job->sources[i];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        s->state_ids = kwr_arena_array(job->arena, subtask->state_count, sizeof *s->state_ids);
        if (s->state_ids == NULL) return kwr_restore_no_memory(err);
        for (size_t j = 0; j < subtask->state_count; j++)
            KWR_TRY(merge_state(job, &subtask->states[j].info, &s->state_ids[j], err));
    }
    return KWR_OK;
}
