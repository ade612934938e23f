/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images of a restore read, verified and given to the engine by workers; those of other engines
 * by the owner, entry by entry.
 */
#include "backend/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fan_out.h"
#include "base/planted.h"
#include "snapshot/restore_job.h"

typedef struct worker {
    kwr_restore_job *job;
    kwr_status status;
    kwr_error err;
    kwr_buffer stored;
    kwr_buffer plain;
    kwr_buffer made; /* a page with its deltas */
} worker;

/* Makes room for `size` bytes; what was there is forgotten. */
static uint8_t *room(kwr_buffer *buffer, size_t size) {
    buffer->size = 0;
    return kwr_buffer_extend(buffer, size);
}

static kwr_status install(worker *w, const kwr_data_file *file, const kwr_restore_source *s,
                          const kwr_data_entry *entry, const uint8_t *bytes) {
    kwr_page_image image = { 0 };
    uint8_t *scratch = room(&w->plain, entry->raw);
    if (scratch == NULL) return kwr_restore_no_memory(&w->err);
    const kwr_status good = kwr_data_image(file, entry, bytes, scratch, &image, &w->err);
    if (good == KWR_ERR_CORRUPT && KWR_PLANTED(damaged_image_skipped)) return KWR_OK;
    KWR_TRY(good);
    image.state = s->state_ids[image.state];
    image.epoch = kwr_restore_epoch(w->job, file->header.checkpoint);
    image.past = w->job->version_count;
    kwr_error why = { 0 };
    kwr_page_image whole;
    kwr_status status = kwr_page_deltas_apply(w->job->deltas, file->header.checkpoint, &image,
                                              &w->made, &whole, &why);
    if (status >= KWR_OK)
        status = s->foreign ? kwr_backend_load_image(w->job->backend, &whole, &why)
                            : w->job->ops->install(w->job->engine, &whole, &why);
    if (status == KWR_ERR_CORRUPT)
        return kwr_data_image_fault(file, entry, status, why.text, &w->err);
    if (status < KWR_OK) w->err = why;
    return status;
}

static const kwr_restore_source *run_source(const kwr_restore_job *job, const kwr_image_run *run) {
    return &job->sources[job->file_sources[run->file]];
}

static kwr_status load_run(worker *w, const kwr_image_run *run) {
    kwr_restore_job *job = w->job;
    const kwr_data_file *file = &job->files[run->file];
    const kwr_restore_source *s = run_source(job, run);
    kwr_data_entry first, last;
    kwr_data_file_entry(file, run->first, &first);
    kwr_data_file_entry(file, run->first + run->count - 1, &last);
    const uint64_t size = last.offset + KWR_DATA_PREFIX_SIZE + last.stored - first.offset;
    uint8_t *bytes = room(&w->stored, (size_t)size);
    if (bytes == NULL) return kwr_restore_no_memory(&w->err);
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
    kwr_restore_job *job = w->job;
    while (w->status >= KWR_OK && __atomic_load_n(&job->stop, __ATOMIC_RELAXED) == 0) {
        const uint64_t i = __atomic_fetch_add(&job->next_run, 1, __ATOMIC_RELAXED);
        if (i >= job->run_count) break;
        if (run_source(job, &job->runs[i])->foreign) continue;
        w->status = load_run(w, &job->runs[i]);
    }
    if (w->status < KWR_OK) __atomic_store_n(&job->stop, 1, __ATOMIC_RELAXED);
}

kwr_status kwr_restore_load(kwr_restore_job *job, kwr_error *err) {
    const size_t count = kwr_fan_size(job->env, 0, job->run_count);
    worker *workers = kwr_arena_array(job->arena, count, sizeof *workers);
    kwr_fan *fans = kwr_arena_array(job->arena, count, sizeof *fans);
    if (workers == NULL || fans == NULL) return kwr_restore_no_memory(err);
    for (size_t i = 0; i < count; i++) {
        workers[i].job = job;
        workers[i].stored.env = workers[i].plain.env = workers[i].made.env = job->env;
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
        kwr_buffer_free(&w->made);
    }
    return status;
}

/* By the owner, after all that the engine takes itself. */
kwr_status kwr_restore_load_foreign(kwr_restore_job *job, kwr_error *err) {
    worker w = { .job = job,
                 .stored = { .env = job->env },
                 .plain = { .env = job->env },
                 .made = { .env = job->env } };
    for (size_t i = 0; i < job->run_count && w.status >= KWR_OK; i++)
        if (run_source(job, &job->runs[i])->foreign) w.status = load_run(&w, &job->runs[i]);
    kwr_buffer_free(&w.stored);
    kwr_buffer_free(&w.plain);
    kwr_buffer_free(&w.made);
    if (w.status < KWR_OK && err != NULL) {
        *err = w.err;
        err->status = w.status;
    }
    return w.status;
}
