/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend from what was written: the images of owned key groups are chosen by the indexes, and
 * every byte that is used is verified before it is. Nothing foreign is read, so restoring another
 * range of key groups costs what that range holds.
 */
#include <stdio.h>
#include <string.h>

#include "backend/view.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fan_out.h"
#include "base/limits.h"
#include "base/planted.h"
#include "keyweir/snapshot.h"
#include "snapshot/checkpoint.h"
#include "snapshot/data_reader.h"
#include "snapshot/donors.h"
#include "snapshot/lineage.h"
#include "snapshot/log.h"
#include "snapshot/page_base.h"

enum {
    RUN_BYTES = 1024 * 1024, /* read at once */
    FILES_OPEN = 8,          /* data files that stay open; more are opened for each read */
};

/* Consecutive images of one file, read together. */
typedef struct image_run {
    uint32_t file;
    uint32_t count;
    uint64_t first;
} image_run;

/* One handle. */
typedef struct source {
    kwr_subtask_part *part;
    kwr_data_owner owner;
    char operator_id[KWR_JOB_NAME_MAX + 1]; /* from the name of a file */
    uint32_t *state_ids;                    /* of the backend, by state id of the part */
    kwr_storage_dir *inline_dir;            /* its own, or NULL */
    kwr_storage_reader *inline_reader;      /* may be that of the source before */
    bool foreign; /* of another engine: its entries are put after all images are installed */
    bool files;   /* the engine's own files, to be adopted */
    size_t first_file, open_files; /* of the job's: none without owned key groups */
} source;

typedef struct restore_job restore_job;

typedef struct worker {
    restore_job *job;
    kwr_status status;
    kwr_error err;
    kwr_buffer stored;
    kwr_buffer plain;
} worker;

struct restore_job {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_limits limits;
    const kwr_backend_options *options;
    kwr_lineage *lineage; /* or NULL */
    kwr_lineage_set *set; /* what is restored, for the lineage; or NULL */
    bool adopts;          /* the engine takes files over */
    uint32_t max_parallelism;
    kwr_key_group_range owned;
    kwr_job_dirs dirs;
    char inline_path[KWR_STORAGE_PATH_MAX];
    const kwr_engine_ops *ops;
    kwr_engine *engine;
    kwr_backend *backend;
    kwr_arena *arena;
    source *sources;
    size_t source_count;
    kwr_state_info *states; /* of the backend */
    size_t state_count;
    kwr_data_file *files;
    uint32_t *file_sources; /* which handle a file belongs to */
    size_t file_count;
    image_run *runs;
    size_t run_count;
    size_t run_capacity;
    /* Shared by the workers, atomic. */
    uint64_t next_run;
    uint32_t stop;
};

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore a snapshot");
}

/* ---- what the handles say ---- */

static kwr_status mismatch(kwr_error *err, size_t handle, const char *what) {
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "snapshot handle %zu was written under another %s than the backend's options",
                    handle, what);
}

static kwr_status check_part(restore_job *job, size_t i, kwr_error *err) {
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
    if (strcmp(part->subtask.format, "rocksdb-1") == 0)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "snapshot handle %zu holds files of the engine rocksdb (rocksdb-1), which "
                        "engine '%s' does not read: restore it with rocksdb and take a canonical "
                        "snapshot, which every engine reads",
                        i, ops->name);
    job->sources[i].foreign = !kwr_engine_reads(job->ops, part->subtask.format);
    if (!job->sources[i].foreign || kwr_engine_format_known(part->subtask.format)) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "snapshot handle %zu is in the format %s, which this version does not know", i,
                    part->subtask.format);
}

static uint32_t range_end(kwr_key_group_range range) { return range.first + range.count; }

/* Every owned key group stands in exactly one handle. */
static kwr_status check_coverage(const restore_job *job, kwr_error *err) {
    uint64_t covered = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_key_group_range a = job->sources[i].part->subtask.key_groups;
        for (size_t j = 0; j < i; j++) {
            const kwr_key_group_range b = job->sources[j].part->subtask.key_groups;
            if (a.first < range_end(b) && b.first < range_end(a))
                return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                                "snapshot handles %zu and %zu hold the same key groups", j, i);
        }
        const uint32_t first = a.first > job->owned.first ? a.first : job->owned.first;
        const uint32_t end =
            range_end(a) < range_end(job->owned) ? range_end(a) : range_end(job->owned);
        if (first < end) covered += end - first;
    }
    if (covered == job->owned.count) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "the snapshot handles hold %llu of the %u key groups to restore (from %u)",
                    (unsigned long long)covered, job->owned.count, job->owned.first);
}

static kwr_status decode_handles(restore_job *job, const kwr_slice *handles, size_t count,
                                 kwr_error *err) {
    job->sources = kwr_arena_array(job->arena, count, sizeof *job->sources);
    if (job->sources == NULL) return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        source *s = &job->sources[i];
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

static kwr_status merge_state(restore_job *job, const kwr_state_info *info, uint32_t *id,
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
static size_t largest_of_files(const restore_job *job) {
    size_t best = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        const kwr_key_group_range range = job->sources[i].part->subtask.key_groups;
        const uint32_t first = range.first > job->owned.first ? range.first : job->owned.first;
        const uint32_t end =
            range_end(range) < range_end(job->owned) ? range_end(range) : range_end(job->owned);
        if (!job->sources[i].files || end <= first || end - first <= most) continue;
        most = end - first;
        best = i;
    }
    return best;
}

static kwr_status merge_states(restore_job *job, kwr_error *err) {
    size_t total = 0;
    for (size_t i = 0; i < job->source_count; i++)
        total += job->sources[i].part->subtask.state_count;
    job->states = kwr_arena_array(job->arena, total, sizeof *job->states);
    if (job->states == NULL) return no_memory(err);
    const size_t best = largest_of_files(job);
    for (size_t n = 0; n < job->source_count; n++) {
        const size_t i = n == 0 ? best : n <= best ? n - 1 : n;
        source *s = &job->sources[i];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        s->state_ids = kwr_arena_array(job->arena, subtask->state_count, sizeof *s->state_ids);
        if (s->state_ids == NULL) return no_memory(err);
        for (size_t j = 0; j < subtask->state_count; j++)
            KWR_TRY(merge_state(job, &subtask->states[j].info, &s->state_ids[j], err));
    }
    return KWR_OK;
}

/* ---- files and the images to read ---- */

static bool intersects(kwr_key_group_range a, kwr_key_group_range b) {
    return a.first < range_end(b) && b.first < range_end(a);
}

static bool owned(const restore_job *job, uint32_t key_group) {
    return key_group >= job->owned.first && key_group < range_end(job->owned);
}

/* The file `inline` of the checkpoint a handle refers to; handles of one checkpoint share it. */
static kwr_status open_inline(restore_job *job, source *s, kwr_error *err) {
    const kwr_inline_place *place = &s->part->inline_place;
    if (s->inline_reader != NULL) return KWR_OK;
    for (const source *other = job->sources; other < s; other++) {
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

static kwr_status open_file(restore_job *job, source *s, const kwr_manifest_file *file,
                            kwr_data_file *out, kwr_error *err) {
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
    return kwr_data_file_open(job->env, job->storage, job->dirs.shared, file, &s->owner, out, err);
}

static kwr_status add_run(restore_job *job, uint32_t file, uint64_t first, uint32_t count,
                          kwr_error *err) {
    void *items = job->runs;
    if (!kwr_grow_array(job->env, &items, &job->run_capacity, job->run_count + 1,
                        sizeof *job->runs))
        return no_memory(err);
    job->runs = items;
    job->runs[job->run_count++] = (image_run){ .file = file, .first = first, .count = count };
    return KWR_OK;
}

/* Owned images of one file in runs of about RUN_BYTES; they lie together, by key group. */
static kwr_status plan_file(restore_job *job, uint32_t index, kwr_error *err) {
    const kwr_data_file *file = &job->files[index];
    uint64_t first = 0, bytes = 0;
    uint32_t count = 0;
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        const bool used = kwr_data_file_entry(file, i, &entry);
        const bool use = used && owned(job, entry.key_group);
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

/* The indexes of a handle's files add up to what its states hold. */
static kwr_status check_entries(const restore_job *job, size_t which, size_t first_file,
                                kwr_error *err) {
    const kwr_manifest_subtask *subtask = &job->sources[which].part->subtask;
    uint64_t *sums = kwr_arena_array(job->arena, subtask->state_count, sizeof *sums);
    if (sums == NULL) return no_memory(err);
    for (size_t i = 0; i < subtask->file_count; i++)
        kwr_data_file_count(&job->files[first_file + i], sums);
    for (size_t i = 0; i < subtask->state_count; i++)
        if (sums[i] != subtask->states[i].entries)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                            "snapshot handle %zu: state '%s' should have %llu entries, its files "
                            "have %llu",
                            which, subtask->states[i].info.name,
                            (unsigned long long)subtask->states[i].entries,
                            (unsigned long long)sums[i]);
    return KWR_OK;
}

static kwr_status open_files(restore_job *job, kwr_error *err) {
    job->files = kwr_arena_array(job->arena, job->file_count, sizeof *job->files);
    job->file_sources = kwr_arena_array(job->arena, job->file_count, sizeof *job->file_sources);
    const size_t total = job->file_count;
    job->file_count = 0;
    if (job->files == NULL || job->file_sources == NULL) return no_memory(err);
    if (total > UINT32_MAX) return no_memory(err);
    for (size_t i = 0; i < job->source_count; i++) {
        source *s = &job->sources[i];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        const size_t first = job->file_count;
        /* A handle without owned key groups is not looked into. */
        if (!intersects(subtask->key_groups, job->owned)) continue;
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

/* ---- loading ---- */

/* Makes room for `size` bytes; what was there is forgotten. */
static uint8_t *room(kwr_buffer *buffer, size_t size) {
    buffer->size = 0;
    return kwr_buffer_extend(buffer, size);
}

static kwr_status install(worker *w, const kwr_data_file *file, const source *s,
                          const kwr_data_entry *entry, const uint8_t *bytes) {
    kwr_page_image image = { 0 };
    uint8_t *scratch = room(&w->plain, entry->raw);
    if (scratch == NULL) return no_memory(&w->err);
    const kwr_status good = kwr_data_image(file, entry, bytes, scratch, &image, &w->err);
    if (good == KWR_ERR_CORRUPT && KWR_PLANTED(damaged_image_skipped)) return KWR_OK;
    KWR_TRY(good);
    image.state = s->state_ids[image.state];
    kwr_error why = { 0 };
    const kwr_status status = s->foreign ? kwr_backend_load_image(w->job->backend, &image, &why)
                                         : w->job->ops->install(w->job->engine, &image, &why);
    if (status == KWR_ERR_CORRUPT)
        return kwr_data_image_fault(file, entry, status, why.text, &w->err);
    if (status < KWR_OK) w->err = why;
    return status;
}

static const source *run_source(const restore_job *job, const image_run *run) {
    return &job->sources[job->file_sources[run->file]];
}

static kwr_status load_run(worker *w, const image_run *run) {
    restore_job *job = w->job;
    const kwr_data_file *file = &job->files[run->file];
    const source *s = run_source(job, run);
    kwr_data_entry first, last;
    kwr_data_file_entry(file, run->first, &first);
    kwr_data_file_entry(file, run->first + run->count - 1, &last);
    const uint64_t size = last.offset + KWR_DATA_PREFIX_SIZE + last.stored - first.offset;
    uint8_t *bytes = room(&w->stored, (size_t)size);
    if (bytes == NULL) return no_memory(&w->err);
    KWR_TRY(kwr_data_file_read(file, first.offset, bytes, (size_t)size, &w->err));
    for (uint32_t i = 0; i < run->count; i++) {
        kwr_data_entry entry;
        kwr_data_file_entry(file, run->first + i, &entry);
        KWR_TRY(install(w, file, s, &entry, bytes + (entry.offset - first.offset)));
    }
    return KWR_OK;
}

static void run_worker(void *ctx) {
    worker *w = ctx;
    restore_job *job = w->job;
    while (w->status >= KWR_OK && __atomic_load_n(&job->stop, __ATOMIC_RELAXED) == 0) {
        const uint64_t i = __atomic_fetch_add(&job->next_run, 1, __ATOMIC_RELAXED);
        if (i >= job->run_count) break;
        if (run_source(job, &job->runs[i])->foreign) continue;
        w->status = load_run(w, &job->runs[i]);
    }
    if (w->status < KWR_OK) __atomic_store_n(&job->stop, 1, __ATOMIC_RELAXED);
}

static kwr_status load_images(restore_job *job, kwr_error *err) {
    const size_t count = kwr_fan_size(job->env, 0, job->run_count);
    worker *workers = kwr_arena_array(job->arena, count, sizeof *workers);
    kwr_fan *fans = kwr_arena_array(job->arena, count, sizeof *fans);
    if (workers == NULL || fans == NULL) return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        workers[i].job = job;
        workers[i].stored.env = workers[i].plain.env = job->env;
        fans[i].work = (kwr_work){ .run = run_worker, .ctx = &workers[i] };
    }
    kwr_fan_run(job->env, fans, count);
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < count; i++) {
        worker *w = &workers[i];
        if (w->status < KWR_OK && status >= KWR_OK) {
            status = w->status;
            if (err != NULL) {
                *err = w->err;
                err->status = status;
            }
        }
        kwr_buffer_free(&w->stored);
        kwr_buffer_free(&w->plain);
    }
    return status;
}

/* By the owner, after all that the engine takes itself. */
static kwr_status load_foreign(restore_job *job, kwr_error *err) {
    worker w = { .job = job, .stored = { .env = job->env }, .plain = { .env = job->env } };
    for (size_t i = 0; i < job->run_count && w.status >= KWR_OK; i++)
        if (run_source(job, &job->runs[i])->foreign) w.status = load_run(&w, &job->runs[i]);
    kwr_buffer_free(&w.stored);
    kwr_buffer_free(&w.plain);
    if (w.status < KWR_OK && err != NULL) {
        *err = w.err;
        err->status = w.status;
    }
    return w.status;
}

/* ---- what the next checkpoint may refer to ---- */

/* Whether all that was read is of the lineage's job and operator. */
static bool of_lineage(const restore_job *job) {
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
static kwr_status note_image_files(const restore_job *job, kwr_lineage_set *set) {
    for (size_t i = 0; i < job->file_count; i++) {
        uint32_t index = 0;
        if (job->files[i].file->name == NULL || job->sources[job->file_sources[i]].files) continue;
        KWR_TRY(kwr_lineage_set_file(set, job->files[i].file, &index));
    }
    return KWR_OK;
}

/* Engines of pages: images in shared/ that will be installed as they are. */
static kwr_status note_pages(const restore_job *job, kwr_lineage_set *set) {
    kwr_page_base *base = kwr_page_base_new(job->env, job->owned);
    kwr_status status = base == NULL ? KWR_ERR_NOMEM : KWR_OK;
    for (size_t i = 0; i < job->file_count && status >= KWR_OK; i++) {
        const source *s = &job->sources[job->file_sources[i]];
        const kwr_manifest_subtask *subtask = &s->part->subtask;
        if (!s->foreign && !s->files && job->files[i].file->name != NULL)
            status = kwr_page_base_note(base, &job->files[i], subtask->key_groups, s->state_ids,
                                        subtask->state_count);
    }
    if (status >= KWR_OK) {
        base->epoch = KWR_EPOCH_RESTORED;
        status = kwr_page_base_seal(base);
    }
    if (status >= KWR_OK) return kwr_lineage_set_pages(set, base);
    kwr_page_base_free(base);
    return status;
}

static kwr_status begin_set(restore_job *job, kwr_error *err) {
    if (job->lineage == NULL || !of_lineage(job)) return KWR_OK;
    job->set = kwr_lineage_set_new(job->env);
    if (job->set == NULL) return no_memory(err);
    const kwr_status status =
        job->ops->view_epoch != NULL ? note_pages(job, job->set) : note_image_files(job, job->set);
    return status < KWR_OK ? no_memory(err) : KWR_OK;
}

/* ---- engines of files ---- */

static kwr_status adopt(restore_job *job, const kwr_donors *donors, const size_t *handles,
                        kwr_error *err) {
    kwr_engine_donor *list = kwr_arena_array(job->arena, donors->source_count, sizeof *list);
    size_t count = 0;
    if (list == NULL) return no_memory(err);
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
static kwr_status fill_from_files(restore_job *job, kwr_error *err) {
    kwr_donors donors = {
        .env = job->env, .arena = job->arena, .directory = job->options->directory, .set = job->set
    };
    donors.sources = kwr_arena_array(job->arena, job->source_count, sizeof *donors.sources);
    size_t *handles = kwr_arena_array(job->arena, job->source_count, sizeof *handles);
    if (donors.sources == NULL || handles == NULL) return no_memory(err);
    for (size_t i = 0; i < job->source_count; i++) {
        const source *s = &job->sources[i];
        if (!intersects(s->part->subtask.key_groups, job->owned)) continue;
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
static kwr_status choose_adoption(restore_job *job, kwr_error *err) {
    size_t files = 0, others = 0;
    for (size_t i = 0; i < job->source_count; i++) {
        if (!intersects(job->sources[i].part->subtask.key_groups, job->owned)) continue;
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

/* ---- all of it ---- */

static kwr_status fill_backend(restore_job *job, kwr_backend *backend, kwr_error *err) {
    job->backend = backend;
    job->engine = kwr_backend_engine(backend, &job->ops);
    if (job->adopts) return fill_from_files(job, err);
    kwr_status status = job->ops->restore_begin(job->engine, job->options->seed);
    if (status < KWR_OK)
        return KWR_FAIL(err, status, 0, "engine '%s' cannot begin a restore", job->ops->name);
    KWR_TRY(load_images(job, err));
    KWR_TRY(job->ops->restore_end(job->engine, err));
    return load_foreign(job, err);
}

static kwr_status restore(restore_job *job, const char *name, const kwr_slice *handles,
                          size_t handle_count, kwr_backend **out, kwr_error *err) {
    const kwr_backend_options *options = job->options;
    KWR_TRY(kwr_limits_complete(&options->limits, &job->limits, err));
    job->max_parallelism =
        options->max_parallelism == 0 ? KWR_MAX_PARALLELISM_DEFAULT : options->max_parallelism;
    job->owned = options->key_groups;
    if (job->owned.count == 0)
        job->owned = (kwr_key_group_range){ .first = 0, .count = job->max_parallelism };
    if (job->max_parallelism > KWR_MAX_PARALLELISM_LIMIT ||
        job->owned.first > job->max_parallelism ||
        job->owned.count > job->max_parallelism - job->owned.first)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the key groups to restore are out of range");
    const char *engine = options->engine == NULL ? "memory" : options->engine;
    job->ops = kwr_engine_find(engine);
    if (job->ops == NULL)
        return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "there is no engine '%s'", engine);
    job->arena = kwr_arena_new(job->env, 0);
    if (job->arena == NULL) return no_memory(err);
    KWR_TRY(decode_handles(job, handles, handle_count, err));
    KWR_TRY(merge_states(job, err));
    const kwr_status status =
        kwr_job_dirs_open(job->env, job->storage, name, false, &job->dirs, err);
    if (status < KWR_OK && status != KWR_ERR_MISSING) return status;
    KWR_TRY(open_files(job, err));
    KWR_TRY(choose_adoption(job, err));
    KWR_TRY(begin_set(job, err));
    kwr_backend *backend = NULL;
    KWR_TRY(
        kwr_backend_open_with(options, job->states, job->state_count, job->adopts, &backend, err));
    const kwr_status filled = fill_backend(job, backend, err);
    if (filled < KWR_OK) {
        kwr_backend_close(backend);
        return filled;
    }
    if (job->set != NULL) kwr_lineage_restored(job->lineage, KWR_TAKE(job->set));
    *out = backend;
    return KWR_OK;
}

static void restore_done(restore_job *job) {
    kwr_lineage_set_release(job->set);
    for (size_t i = 0; i < job->file_count; i++)
        if (job->files != NULL) kwr_data_file_close(&job->files[i]);
    for (size_t i = 0; i < job->source_count; i++) {
        const source *s = &job->sources[i];
        if (s->inline_dir != NULL) {
            job->storage->ops->close_reader(job->storage, s->inline_reader);
            job->storage->ops->dir_close(job->storage, s->inline_dir);
        }
        kwr_subtask_part_free(s->part);
    }
    kwr_free(job->env, job->runs, job->run_capacity * sizeof *job->runs);
    kwr_job_dirs_close(&job->dirs);
    if (job->arena != NULL) kwr_arena_free(job->arena);
}

kwr_status kwr_snapshot_resume(const kwr_backend_options *options, kwr_storage *storage,
                               const char *job_name, const kwr_slice *handles, size_t handle_count,
                               kwr_lineage *lineage, kwr_backend **out, kwr_error *err) {
    kwr_backend_options complete;
    KWR_TRY(kwr_options_copy(options, &complete, sizeof complete, "kwr_backend_options", err));
    if (complete.env == NULL || storage == NULL || job_name == NULL || out == NULL ||
        (handles == NULL && handle_count > 0))
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_snapshot_restore: an argument is NULL");
    restore_job job = {
        .env = complete.env, .storage = storage, .options = &complete, .lineage = lineage
    };
    const kwr_status status = restore(&job, job_name, handles, handle_count, out, err);
    restore_done(&job);
    return status < KWR_OK ? status : KWR_OK;
}

kwr_status kwr_snapshot_restore(const kwr_backend_options *options, kwr_storage *storage,
                                const char *job_name, const kwr_slice *handles, size_t handle_count,
                                kwr_backend **out, kwr_error *err) {
    return kwr_snapshot_resume(options, storage, job_name, handles, handle_count, NULL, out, err);
}
