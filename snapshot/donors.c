/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Donors' directories. Workers take data files from one counter; a file is written under a name of
 * its own and gets the name in its record once length and digest are those of the record.
 */
#include "snapshot/donors.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fan_out.h"
#include "base/log.h"
#include "snapshot/file_record.h"

enum { PATH_MORE = 48 };

/* One data file. */
typedef struct container {
    kwr_data_file *file;
    const kwr_donor_source *source;
    kwr_dir *dir;
    kwr_file_record shared; /* the file in it that has an identity; else its identity is "" */
    uint32_t shared_state;
} container;

typedef struct donor_job {
    kwr_donors *donors;
    kwr_dir *root;
    kwr_dir **dirs; /* of each source, or NULL */
    container *containers;
    size_t container_count;
    uint32_t next; /* atomic */
    uint32_t stop; /* atomic */
} donor_job;

typedef struct worker {
    donor_job *job;
    kwr_status status;
    kwr_error err;
    kwr_buffer stored, plain;
    /* the file at hand */
    kwr_file *local;
    char part_name[48];
    kwr_digest_stream *digest;
    uint64_t length, chunks, ordinal;
} worker;

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore an engine's files");
}

/* ---- one local file ---- */

static kwr_status part_begin(worker *w, const container *c, size_t index) {
    const kwr_env *env = w->job->donors->env;
    if (w->local != NULL) return KWR_OK;
    (void)snprintf(w->part_name, sizeof w->part_name, "part-%zu-%llu", index,
                   (unsigned long long)w->ordinal);
    w->digest = kwr_digest_stream_new(env);
    if (w->digest == NULL) return no_memory(&w->err);
    w->length = w->chunks = 0;
    return env->fs->create(env->fs->ctx, c->dir, w->part_name, &w->local, &w->err);
}

static kwr_status part_close(worker *w) {
    const kwr_env *env = w->job->donors->env;
    kwr_file *file = w->local;
    w->local = NULL;
    if (w->digest != NULL) kwr_digest_stream_free(w->digest);
    w->digest = NULL;
    return file == NULL ? KWR_OK : env->fs->close(env->fs->ctx, file, &w->err);
}

static kwr_status part_write(worker *w, const uint8_t *bytes, size_t size) {
    const kwr_env *env = w->job->donors->env;
    kwr_digest_stream_add(w->digest, bytes, size);
    w->length += size;
    w->chunks++;
    for (size_t at = 0; at < size;) {
        size_t done = 0;
        KWR_TRY(env->fs->write(env->fs->ctx, w->local, bytes + at, size - at, &done, &w->err));
        if (done == 0) return KWR_FAIL(&w->err, KWR_ERR_IO, 0, "a local file takes no more bytes");
        at += done;
    }
    return KWR_OK;
}

/* Length and digest are the record's: the file gets its name. */
static kwr_status part_end(worker *w, container *c, const kwr_data_entry *entry,
                           const kwr_page_image *image) {
    const kwr_env *env = w->job->donors->env;
    kwr_file_record record;
    const char *fault = kwr_file_record_decode(image->bytes, image->size, &record);
    if (fault == NULL && record.length != w->length) fault = "its length is not the record's";
    if (fault == NULL) {
        const kwr_digest digest = kwr_digest_stream_end(w->digest);
        if (!kwr_digest_equal(&digest, &record.digest)) fault = "its digest is not the record's";
    }
    if (fault != NULL) return kwr_data_image_fault(c->file, entry, KWR_ERR_CORRUPT, fault, &w->err);
    KWR_TRY(part_close(w));
    const kwr_status status =
        env->fs->rename(env->fs->ctx, c->dir, w->part_name, c->dir, record.name, &w->err);
    if (status == KWR_ERR_EXISTS)
        return kwr_data_image_fault(c->file, entry, KWR_ERR_CORRUPT,
                                    "a second file of this name in one snapshot", &w->err);
    if (record.identity[0] != '\0') {
        c->shared = record;
        c->shared_state = c->source->state_ids[entry->state];
    }
    w->ordinal++;
    return status;
}

/* ---- one data file ---- */

static kwr_status take_image(worker *w, container *c, size_t index, const kwr_data_entry *entry,
                             const kwr_page_image *image) {
    if ((image->kind != KWR_PAGE_FILE && image->kind != KWR_PAGE_FILE_END) ||
        image->prefix != w->ordinal)
        return kwr_data_image_fault(c->file, entry, KWR_ERR_CORRUPT,
                                    "it is no part of the file that is due", &w->err);
    KWR_TRY(part_begin(w, c, index)); /* an empty file has a record only */
    if (image->kind == KWR_PAGE_FILE_END) return part_end(w, c, entry, image);
    if (image->page_id != w->chunks)
        return kwr_data_image_fault(c->file, entry, KWR_ERR_CORRUPT,
                                    "it is not the part that is due", &w->err);
    return part_write(w, image->bytes, image->size);
}

static uint8_t *room(kwr_buffer *buffer, size_t size) {
    buffer->size = 0;
    return kwr_buffer_extend(buffer, size);
}

static kwr_status write_container(worker *w, size_t index) {
    container *c = &w->job->containers[index];
    w->ordinal = 0;
    for (uint64_t i = 0; i < c->file->file->images; i++) {
        kwr_data_entry entry;
        kwr_data_file_entry(c->file, i, &entry);
        const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
        uint8_t *bytes = room(&w->stored, size), *plain = room(&w->plain, entry.raw);
        kwr_page_image image = { 0 };
        if (bytes == NULL || plain == NULL) return no_memory(&w->err);
        if (__atomic_load_n(&w->job->stop, __ATOMIC_RELAXED) != 0) return KWR_OK;
        KWR_TRY(kwr_data_file_read(c->file, entry.offset, bytes, size, &w->err));
        KWR_TRY(kwr_data_image(c->file, &entry, bytes, plain, &image, &w->err));
        KWR_TRY(take_image(w, c, index, &entry, &image));
        if (i + 1 == c->file->file->images && w->local != NULL)
            return kwr_data_image_fault(c->file, &entry, KWR_ERR_CORRUPT,
                                        "the record of its file is missing", &w->err);
    }
    return KWR_OK;
}

static void run_worker(void *ctx) {
    worker *w = ctx;
    donor_job *job = w->job;
    while (w->status >= KWR_OK && __atomic_load_n(&job->stop, __ATOMIC_RELAXED) == 0) {
        const uint32_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (i >= job->container_count) break;
        w->status = write_container(w, i);
    }
    (void)(part_close(w) < KWR_OK); /* of a failure: it is removed */
    if (w->status < KWR_OK) __atomic_store_n(&job->stop, 1, __ATOMIC_RELAXED);
}

static kwr_status run_workers(donor_job *job, kwr_error *err) {
    const kwr_env *env = job->donors->env;
    const size_t count = kwr_fan_size(env, 0, job->container_count);
    worker *workers = kwr_arena_array(job->donors->arena, count, sizeof *workers);
    kwr_fan *fans = kwr_arena_array(job->donors->arena, count, sizeof *fans);
    if (workers == NULL || fans == NULL) return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        workers[i].job = job;
        workers[i].stored.env = workers[i].plain.env = env;
        fans[i].work = (kwr_work){ .run = run_worker, .ctx = &workers[i] };
    }
    kwr_fan_run(env, fans, count);
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

/* ---- all of them ---- */

static kwr_status make_directories(donor_job *job, kwr_error *err) {
    kwr_donors *d = job->donors;
    const kwr_fs *fs = d->env->fs;
    job->dirs = kwr_arena_array(d->arena, d->source_count, sizeof *job->dirs);
    if (job->dirs == NULL) return no_memory(err);
    KWR_TRY(fs->open_root(fs->ctx, d->directory, KWR_FS_CREATE | KWR_FS_FOLLOW, &job->root, err));
    for (size_t i = 0; i < d->source_count; i++) {
        char name[32];
        if (d->sources[i].file_count == 0) continue;
        (void)snprintf(name, sizeof name, "donor-%zu", i);
        const size_t size = strlen(d->directory) + PATH_MORE;
        char *path = kwr_arena_alloc(d->arena, size);
        if (path == NULL) return no_memory(err);
        (void)snprintf(path, size, "%s/%s", d->directory, name);
        d->sources[i].directory = path; /* a call that fails may have made it */
        KWR_TRY(fs->open_dir(fs->ctx, job->root, name, KWR_FS_CREATE | KWR_FS_EXCLUSIVE,
                             &job->dirs[i], err));
    }
    return KWR_OK;
}

static kwr_status plan(donor_job *job, kwr_error *err) {
    kwr_donors *d = job->donors;
    size_t total = 0;
    for (size_t i = 0; i < d->source_count; i++)
        total += d->sources[i].file_count;
    job->containers = kwr_arena_array(d->arena, total, sizeof *job->containers);
    if (job->containers == NULL || total > UINT32_MAX - KWR_FAN_MAX) return no_memory(err);
    for (size_t i = 0; i < d->source_count; i++)
        for (size_t j = 0; j < d->sources[i].file_count; j++)
            job->containers[job->container_count++] = (container){ .file = &d->sources[i].files[j],
                                                                   .source = &d->sources[i],
                                                                   .dir = job->dirs[i] };
    return KWR_OK;
}

static kwr_status fill_set(const donor_job *job, kwr_error *err) {
    kwr_lineage_set *set = job->donors->set;
    for (size_t i = 0; set != NULL && i < job->container_count; i++) {
        const container *c = &job->containers[i];
        uint32_t index = 0;
        if (c->file->file->name == NULL || c->shared.identity[0] == '\0') continue;
        kwr_status status = kwr_lineage_set_file(set, c->file->file, &index);
        const kwr_lineage_item item = { .identity = c->shared.identity,
                                        .digest = c->shared.digest,
                                        .length = c->shared.length,
                                        .state = c->shared_state,
                                        .file = index };
        if (status >= KWR_OK) status = kwr_lineage_set_item(set, &item);
        if (status < KWR_OK) return no_memory(err);
    }
    return KWR_OK;
}

static kwr_status write_all(donor_job *job, kwr_error *err) {
    KWR_TRY(make_directories(job, err));
    KWR_TRY(plan(job, err));
    KWR_TRY(run_workers(job, err));
    return fill_set(job, err);
}

kwr_status kwr_donors_write(kwr_donors *donors, kwr_error *err) {
    const kwr_fs *fs = donors->env->fs;
    donor_job job = { .donors = donors };
    const kwr_status status = write_all(&job, err);
    for (size_t i = 0; job.dirs != NULL && i < donors->source_count; i++)
        if (job.dirs[i] != NULL) fs->close_dir(fs->ctx, job.dirs[i]);
    if (job.root != NULL) fs->close_dir(fs->ctx, job.root);
    if (status < KWR_OK) kwr_donors_remove(donors);
    return status;
}

/* ---- removing ---- */

static kwr_status note_name(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static void remove_files(const kwr_env *env, kwr_dir *dir) {
    kwr_buffer names = { .env = env };
    (void)(env->fs->list(env->fs->ctx, dir, note_name, &names, NULL) < KWR_OK);
    for (size_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        (void)(env->fs->remove(env->fs->ctx, dir, name, NULL) < KWR_OK);
        at += strlen(name) + 1;
    }
    kwr_buffer_free(&names);
}

void kwr_donors_remove(const kwr_donors *donors) {
    const kwr_env *env = donors->env;
    const kwr_fs *fs = env->fs;
    kwr_dir *root = NULL;
    if (fs->open_root(fs->ctx, donors->directory, KWR_FS_FOLLOW, &root, NULL) < KWR_OK) return;
    for (size_t i = 0; i < donors->source_count; i++) {
        char name[32];
        kwr_dir *dir = NULL;
        if (donors->sources[i].directory == NULL) continue;
        (void)snprintf(name, sizeof name, "donor-%zu", i);
        if (fs->open_dir(fs->ctx, root, name, 0, &dir, NULL) < KWR_OK) continue;
        remove_files(env, dir);
        fs->close_dir(fs->ctx, dir);
        (void)(fs->remove_dir(fs->ctx, root, name, NULL) < KWR_OK);
    }
    fs->close_dir(fs->ctx, root);
}
