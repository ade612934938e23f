/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a view of an engine that keeps state in files. A file with an identity that a confirmed
 * checkpoint has already, of the same length and digest, is referred to; each other one becomes a
 * data file of its own, and what belongs to this view alone one data file together. What is small
 * travels inline, and is then never referred to.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "snapshot/file_record.h"
#include "snapshot/write_job.h"

enum {
    ALONE_BYTES = 1 << 20, /* from here on a file without identity has a data file of its own */
    SMALL_SHARE = 8,       /* inline: at most this part of what may travel inline */
};

typedef struct local_file {
    kwr_engine_file f;
    const kwr_lineage_item *item; /* what it is referred to as, or NULL */
    kwr_digest digest;
    uint32_t unit; /* index, of what is written */
} local_file;

typedef struct file_job {
    kwr_write_job *job;
    kwr_lineage_base base;
    kwr_dir *dir;
    local_file *files;
    size_t count, capacity;
    bool *inlined;      /* for each unit */
    uint32_t *order;    /* files to write, by unit */
    uint32_t *begin;    /* of each unit in `order`, and the end */
    uint32_t next_unit; /* atomic */
} file_job;

typedef struct file_worker {
    file_job *fj;
    uint8_t *chunk;
    size_t chunk_size;
} file_worker;

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write a snapshot of files");
}

/* ---- which files there are ---- */

static kwr_status note_file(void *ctx, const kwr_engine_file *file) {
    file_job *fj = ctx;
    kwr_arena *arena = fj->job->arena;
    if (file->state >= fj->job->view->table->count || strlen(file->name) > KWR_FILE_NAME_BYTES_MAX)
        return KWR_ERR_MISUSE;
    void *files = fj->files;
    if (!kwr_grow_array(fj->job->target->env, &files, &fj->capacity, fj->count + 1,
                        sizeof *fj->files))
        return KWR_ERR_NOMEM;
    fj->files = files;
    local_file local = { .f = *file, .unit = UINT32_MAX };
    local.f.name = kwr_arena_string(arena, file->name, strlen(file->name));
    if (file->identity != NULL && strlen(file->identity) <= KWR_FILE_IDENTITY_MAX) {
        local.f.identity = kwr_arena_string(arena, file->identity, strlen(file->identity));
        if (local.f.identity == NULL) return KWR_ERR_NOMEM;
    } else {
        local.f.identity = NULL;
    }
    if (local.f.name == NULL) return KWR_ERR_NOMEM;
    fj->files[fj->count++] = local;
    return KWR_OK;
}

static uint32_t entries_of(const kwr_engine_file *f) {
    return f->entries > UINT32_MAX ? UINT32_MAX : (uint32_t)f->entries;
}

static kwr_status list_files(file_job *fj, kwr_error *err) {
    kwr_write_job *job = fj->job;
    const kwr_view *view = job->view;
    kwr_error why = { 0 };
    job->counts = kwr_arena_array(job->arena, view->table->count, sizeof *job->counts);
    if (job->counts == NULL) return no_memory(err);
    if (view->table->count == 0) return KWR_OK; /* nothing that is worth a file */
    const kwr_status status = view->ops->view_files(view->engine_view, note_file, fj, &why);
    if (status < KWR_OK) {
        if (why.text[0] == '\0')
            return KWR_FAIL(err, status, 0, "the engine's files cannot be listed: %s",
                            kwr_status_name(status));
        if (err != NULL) *err = why;
        return status;
    }
    for (size_t i = 0; i < fj->count; i++) {
        const kwr_engine_file *f = &fj->files[i].f;
        kwr_state_count *count = &job->counts[f->state];
        count->entries += entries_of(f);
        count->entry_bytes += f->entry_bytes;
        if (kwr_state_is_collection(view->table->states[f->state].kind))
            count->elements += entries_of(f);
    }
    return KWR_OK;
}

/* ---- reading them ---- */

static kwr_status open_local(file_job *fj, const local_file *local, kwr_file **out,
                             kwr_error *err) {
    const kwr_fs *fs = fj->job->target->env->fs;
    kwr_file_info info = { 0 };
    kwr_file *file = NULL;
    KWR_TRY(fs->open(fs->ctx, fj->dir, local->f.name, 0, &file, &info, err));
    if (info.size == local->f.length) {
        *out = file;
        return KWR_OK;
    }
    (void)(fs->close(fs->ctx, file, NULL) < KWR_OK); /* only read */
    return KWR_FAIL(err, KWR_ERR_IO, 0, "local file '%s' has changed its length", local->f.name);
}

static kwr_status read_chunk(const file_job *fj, const local_file *local, kwr_file *file,
                             uint64_t offset, uint8_t *out, size_t size, kwr_error *err) {
    const kwr_fs *fs = fj->job->target->env->fs;
    for (size_t at = 0; at < size;) {
        size_t done = 0;
        KWR_TRY(fs->read(fs->ctx, file, offset + at, out + at, size - at, &done, err));
        if (done == 0)
            return KWR_FAIL(err, KWR_ERR_IO, 0, "local file '%s' ends too early", local->f.name);
        at += done;
    }
    return KWR_OK;
}

/* Each part of a file in order, and the digest of all of it. */
typedef kwr_status (*part_fn)(void *ctx, const uint8_t *bytes, size_t size, uint64_t number);

static kwr_status read_parts(file_worker *w, local_file *local, part_fn fn, void *ctx,
                             kwr_error *err) {
    file_job *fj = w->fj;
    const kwr_fs *fs = fj->job->target->env->fs;
    kwr_file *file = NULL;
    KWR_TRY(open_local(fj, local, &file, err));
    kwr_digest_stream *digest = kwr_digest_stream_new(fj->job->target->env);
    kwr_status status = digest == NULL ? no_memory(err) : KWR_OK;
    uint64_t number = 0;
    for (uint64_t at = 0; status >= KWR_OK && at < local->f.length; number++) {
        const uint64_t left = local->f.length - at;
        const size_t size = left < w->chunk_size ? (size_t)left : w->chunk_size;
        status = kwr_write_check_running(fj->job, err);
        if (status >= KWR_OK) status = read_chunk(fj, local, file, at, w->chunk, size, err);
        if (status < KWR_OK) break;
        kwr_digest_stream_add(digest, w->chunk, size);
        if (fn != NULL) status = fn(ctx, w->chunk, size, number);
        at += size;
    }
    if (status >= KWR_OK) local->digest = kwr_digest_stream_end(digest);
    if (digest != NULL) kwr_digest_stream_free(digest);
    (void)(fs->close(fs->ctx, file, NULL) < KWR_OK); /* only read */
    return status;
}

/* ---- what is referred to ---- */

/*
 * Same identity, state, length and digest. The digest is of the local file: as it was when it was
 * written to storage by this process, or else read once more.
 */
static kwr_status choose_reuse(file_worker *w, local_file *local, kwr_error *err) {
    const kwr_lineage_base *base = &w->fj->base;
    if (local->f.identity == NULL || base->set == NULL) return KWR_OK;
    const kwr_lineage_item *item = kwr_lineage_set_find(base->set, local->f.identity);
    if (item == NULL || !base->usable[item->file] || item->length != local->f.length ||
        item->state != local->f.state)
        return KWR_OK;
    if (item->seen)
        local->digest = item->digest;
    else
        KWR_TRY(read_parts(w, local, NULL, NULL, err));
    if (kwr_digest_equal(&local->digest, &item->digest)) local->item = item;
    return KWR_OK;
}

static kwr_status choose_all(file_worker *w, kwr_error *err) {
    file_job *fj = w->fj;
    kwr_write_job *job = fj->job;
    if (job->target->lineage != NULL && kwr_lineage_begin(job->target->lineage, &fj->base) < KWR_OK)
        return no_memory(err);
    job->reused = kwr_arena_array(job->arena, fj->count, sizeof *job->reused);
    if (job->reused == NULL) return no_memory(err);
    for (size_t i = 0; i < fj->count; i++) {
        local_file *local = &fj->files[i];
        KWR_TRY(choose_reuse(w, local, err));
        if (local->item == NULL) continue;
        kwr_manifest_file *file = &job->reused[job->reused_count];
        *file = fj->base.set->files[local->item->file];
        file->name = kwr_arena_string(job->arena, file->name, strlen(file->name));
        if (file->name == NULL) return no_memory(err);
        job->reused_count++;
    }
    return KWR_OK;
}

/* ---- units ---- */

/* No data file of these bytes is larger. */
static uint64_t stored_bound(uint64_t length) {
    const uint64_t images = length / KWR_FILE_CHUNK + 2;
    return length + images * (KWR_DATA_PREFIX_SIZE + KWR_DATA_ENTRY_SIZE) + KWR_FILE_RECORD_MAX;
}

static bool shares_unit(const local_file *local) {
    return local->f.identity == NULL && local->f.length < ALONE_BYTES;
}

/* The first unit has what belongs to this view alone; each other one a file. */
static kwr_status plan_units(file_job *fj, kwr_error *err) {
    kwr_write_job *job = fj->job;
    size_t units = fj->count > 0 ? 1 : 0, written = 0;
    for (size_t i = 0; i < fj->count; i++) {
        local_file *local = &fj->files[i];
        if (local->item != NULL) continue;
        written++;
        local->unit = shares_unit(local) ? 0 : (uint32_t)units++;
    }
    KWR_TRY(kwr_write_make_units(job, units, err));
    fj->inlined = kwr_arena_array(job->arena, units, sizeof *fj->inlined);
    fj->order = kwr_arena_array(job->arena, written, sizeof *fj->order);
    fj->begin = kwr_arena_array(job->arena, units + 1, sizeof *fj->begin);
    if (fj->inlined == NULL || fj->order == NULL || fj->begin == NULL) return no_memory(err);
    for (size_t i = 0; i < fj->count; i++)
        if (fj->files[i].item == NULL) fj->begin[fj->files[i].unit + 1]++;
    for (size_t u = 0; u < units; u++)
        fj->begin[u + 1] += fj->begin[u];
    uint32_t *at = kwr_arena_array(job->arena, units, sizeof *at);
    if (at == NULL) return no_memory(err);
    memcpy(at, fj->begin, units * sizeof *at);
    for (size_t i = 0; i < fj->count; i++)
        if (fj->files[i].item == NULL) fj->order[at[fj->files[i].unit]++] = (uint32_t)i;
    return KWR_OK;
}

static void plan_inline(file_job *fj) {
    kwr_write_job *job = fj->job;
    uint64_t left = job->inline_max;
    for (size_t u = 0; u < job->unit_count; u++) {
        uint64_t size = KWR_DATA_FILE_FIXED;
        for (uint32_t i = fj->begin[u]; i < fj->begin[u + 1]; i++)
            size += stored_bound(fj->files[fj->order[i]].f.length);
        fj->inlined[u] = size <= left && (u == 0 || size <= job->inline_max / SMALL_SHARE);
        if (fj->inlined[u]) left -= size;
    }
}

/* ---- writing ---- */

typedef struct unit_file {
    file_worker *w;
    kwr_write_unit *unit;
    const local_file *local;
    uint64_t ordinal; /* in its data file */
} unit_file;

static kwr_status put_image(unit_file *u, kwr_page_kind kind, uint64_t number, uint32_t entries,
                            const uint8_t *bytes, size_t size) {
    const kwr_write_job *job = u->w->fj->job;
    uint64_t stored = 0;
    const kwr_page_image image = { .kind = kind,
                                   .state = u->local->f.state,
                                   .key_group = job->view->key_groups.first,
                                   .page_id = number,
                                   .prefix = u->ordinal,
                                   .entries = entries,
                                   .bytes = bytes,
                                   .size = size };
    KWR_TRY(kwr_data_writer_image(&u->unit->writer, &image, &job->limits, &stored, &u->unit->err));
    return kwr_data_writer_flush(&u->unit->writer, &u->unit->err);
}

static kwr_status put_part(void *ctx, const uint8_t *bytes, size_t size, uint64_t number) {
    return put_image(ctx, KWR_PAGE_FILE, number, 0, bytes, size);
}

static kwr_status put_record(unit_file *u) {
    const local_file *local = u->local;
    kwr_file_record record = { .length = local->f.length,
                               .digest = local->digest,
                               .entries = local->f.entries,
                               .entry_bytes = local->f.entry_bytes };
    uint8_t bytes[KWR_FILE_RECORD_MAX];
    (void)snprintf(record.name, sizeof record.name, "%s", local->f.name);
    if (local->f.identity != NULL)
        (void)snprintf(record.identity, sizeof record.identity, "%s", local->f.identity);
    const size_t size = kwr_file_record_encode(&record, bytes);
    return put_image(u, KWR_PAGE_FILE_END, 0, entries_of(&local->f), bytes, size);
}

static kwr_status write_unit(file_worker *w, size_t index) {
    file_job *fj = w->fj;
    kwr_write_unit *unit = &fj->job->units[index];
    if (fj->begin[index] == fj->begin[index + 1]) return KWR_OK;
    KWR_TRY(kwr_write_begin(unit));
    if (!fj->inlined[index]) KWR_TRY(kwr_write_create_file(unit));
    for (uint32_t i = fj->begin[index]; i < fj->begin[index + 1]; i++) {
        local_file *local = &fj->files[fj->order[i]];
        unit_file u = { .w = w, .unit = unit, .local = local, .ordinal = i - fj->begin[index] };
        KWR_TRY(read_parts(w, local, put_part, &u, &unit->err));
        KWR_TRY(put_record(&u));
    }
    KWR_TRY(kwr_data_writer_finish(&unit->writer, &unit->file, &unit->err));
    unit->finished = true;
    if (unit->created) {
        const uint64_t raw = unit->writer.raw;
        kwr_data_writer_done(&unit->writer); /* many files: not all of their buffers at once */
        unit->writer.raw = raw;
    }
    return KWR_OK;
}

static void run_worker(void *ctx) {
    file_worker *w = ctx;
    kwr_write_job *job = w->fj->job;
    for (;;) {
        const uint32_t i = __atomic_fetch_add(&w->fj->next_unit, 1, __ATOMIC_RELAXED);
        if (i >= job->unit_count) return;
        job->units[i].status = write_unit(w, i);
        if (job->units[i].status < KWR_OK) __atomic_store_n(&job->stop, 1, __ATOMIC_RELAXED);
    }
}

static kwr_status write_units(file_job *fj, file_worker *first, kwr_error *err) {
    kwr_write_job *job = fj->job;
    const kwr_env *env = job->target->env;
    const size_t count = kwr_fan_size(env, job->target->threads, job->unit_count);
    if (count == 0) return KWR_OK;
    kwr_fan *workers = kwr_arena_array(job->arena, count, sizeof *workers);
    file_worker *files = kwr_arena_array(job->arena, count, sizeof *files);
    if (workers == NULL || files == NULL) return no_memory(err);
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < count; i++) {
        files[i] = *first;
        if (i > 0) files[i].chunk = kwr_alloc(env, first->chunk_size);
        if (files[i].chunk == NULL) status = no_memory(err);
        workers[i].work = (kwr_work){ .run = run_worker, .ctx = &files[i] };
    }
    if (status >= KWR_OK) kwr_fan_run(env, workers, count);
    for (size_t i = 1; i < count; i++)
        kwr_free(env, files[i].chunk, first->chunk_size);
    return status;
}

/* ---- what the next checkpoint may refer to ---- */

static kwr_status add_to_set(file_job *fj, const local_file *local) {
    const kwr_write_job *job = fj->job;
    const kwr_manifest_file *stored = NULL;
    kwr_manifest_file named;
    uint32_t index = 0;
    if (local->item != NULL) {
        stored = &fj->base.set->files[local->item->file];
    } else if (job->units[local->unit].created) {
        named = job->units[local->unit].file;
        named.name = job->units[local->unit].name;
        stored = &named;
    }
    if (stored == NULL || local->f.identity == NULL) return KWR_OK;
    KWR_TRY(kwr_lineage_set_file(job->set, stored, &index));
    const kwr_lineage_item item = { .identity = local->f.identity,
                                    .digest = local->digest,
                                    .length = local->f.length,
                                    .state = local->f.state,
                                    .file = index,
                                    .seen = true };
    return kwr_lineage_set_item(job->set, &item);
}

static kwr_status make_set(file_job *fj, kwr_error *err) {
    kwr_write_job *job = fj->job;
    if (job->target->lineage == NULL) return KWR_OK;
    for (size_t i = 0; i < job->unit_count; i++)
        if (job->units[i].status < KWR_OK) return KWR_OK; /* told by the caller */
    job->set = kwr_lineage_set_new(job->target->env);
    kwr_status status = job->set == NULL ? KWR_ERR_NOMEM : KWR_OK;
    for (size_t i = 0; status >= KWR_OK && i < fj->count; i++)
        status = add_to_set(fj, &fj->files[i]);
    return status < KWR_OK ? no_memory(err) : KWR_OK;
}

/* ---- all of it ---- */

static kwr_status write_all(file_job *fj, file_worker *first, kwr_error *err) {
    kwr_write_job *job = fj->job;
    const kwr_view *view = job->view;
    const kwr_fs *fs = job->target->env->fs;
    KWR_TRY(list_files(fj, err));
    KWR_TRY(fs->open_root(fs->ctx, view->ops->view_directory(view->engine_view), KWR_FS_FOLLOW,
                          &fj->dir, err));
    KWR_TRY(choose_all(first, err));
    KWR_TRY(plan_units(fj, err));
    plan_inline(fj);
    KWR_TRY(write_units(fj, first, err));
    return make_set(fj, err);
}

kwr_status kwr_write_files(kwr_write_job *job, kwr_error *err) {
    const kwr_env *env = job->target->env;
    file_job fj = { .job = job };
    file_worker first = { .fj = &fj, .chunk_size = KWR_FILE_CHUNK };
    if (first.chunk_size > job->limits.image_bytes_max)
        first.chunk_size = job->limits.image_bytes_max;
    job->format = job->view->ops->files;
    first.chunk = kwr_alloc(env, first.chunk_size);
    if (first.chunk == NULL) return no_memory(err);
    const kwr_status status = write_all(&fj, &first, err);
    kwr_free(env, first.chunk, first.chunk_size);
    if (fj.dir != NULL) env->fs->close_dir(env->fs->ctx, fj.dir);
    kwr_free(env, fj.files, fj.capacity * sizeof *fj.files);
    kwr_lineage_base_done(&fj.base);
    return status;
}
