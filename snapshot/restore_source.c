/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of backend/page_source.h: what a restore has opened is kept, and images are read
 * from there, each compared with its digest, for as long as the engine needs them. Files in shared/
 * are read where they are; what is inline is copied, because it goes with its handle or checkpoint.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "snapshot/restore_job.h"

enum {
    READ_BYTES = 256 * 1024, /* at once */
    READ_GAP = 16 * 1024,    /* bytes between two images that are read along */
};

/* ---- whether ---- */

bool kwr_restore_can_be_lazy(const kwr_restore_job *job, const char **why) {
    const char *no = NULL;
    if (job->ops->restore_lazy == NULL) no = "the engine has no lazy restore";
    for (size_t i = 0; i < job->file_count && no == NULL; i++) {
        const kwr_restore_source *s = &job->sources[job->file_sources[i]];
        if (s->files || s->foreign)
            no = "the snapshot is of another engine, or canonical";
        else if (job->lineage != NULL && !kwr_restore_of_lineage(job) &&
                 kwr_lineage_is_of_job(job->lineage, job->files[i].header.job_uid))
            /* Nothing would keep its files. */
            no = "the state is of another operator of the same job";
        else if (job->files[i].file->images > UINT32_MAX)
            no = "a data file has too many images";
    }
    *why = no;
    return no == NULL;
}

/* ---- the order ---- */

/* Where an image belongs in the directory. */
typedef struct sorted_place {
    uint64_t prefix;
    uint32_t key_group;
    uint32_t state;
    uint32_t depth;
    kwr_image_place place;
} sorted_place;

static bool at_most(const sorted_place *a, const sorted_place *b) {
    if (a->key_group != b->key_group) return a->key_group < b->key_group;
    if (a->state != b->state) return a->state < b->state;
    if (a->prefix != b->prefix) return a->prefix < b->prefix;
    return a->depth <= b->depth;
}

/* The end of what is in order from `at` on. */
static size_t run_end(const sorted_place *items, size_t at, size_t count) {
    if (at < count) at++;
    while (at < count && at_most(&items[at - 1], &items[at]))
        at++;
    return at;
}

/* Files are almost in order already: runs are merged, pass by pass. Returns one of the two. */
static sorted_place *sort(sorted_place *items, sorted_place *other, size_t count) {
    while (run_end(items, 0, count) < count) {
        for (size_t first = 0; first < count;) {
            const size_t middle = run_end(items, first, count);
            const size_t end = run_end(items, middle, count);
            size_t a = first, b = middle;
            for (size_t i = first; i < end; i++) {
                const bool take_a = a < middle && (b == end || at_most(&items[a], &items[b]));
                other[i] = items[take_a ? a++ : b++];
            }
            first = end;
        }
        sorted_place *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

static size_t images_of(const kwr_restore_job *job) {
    size_t count = 0;
    for (size_t i = 0; i < job->run_count; i++)
        count += job->runs[i].count;
    return count;
}

static void list_places(const kwr_restore_job *job, sorted_place *out) {
    for (size_t i = 0; i < job->run_count; i++) {
        const kwr_image_run *run = &job->runs[i];
        const kwr_restore_source *s = &job->sources[job->file_sources[run->file]];
        const kwr_data_file *file = &job->files[run->file];
        for (uint32_t k = 0; k < run->count; k++) {
            kwr_data_entry entry;
            kwr_data_file_entry(file, run->first + k, &entry);
            *out++ = (sorted_place){
                .prefix = entry.prefix,
                .key_group = entry.key_group,
                .state = s->state_ids[kwr_manifest_file_state(file->file, entry.state)],
                .depth = entry.depth,
                .place = { run->file, (uint32_t)(run->first + k) },
            };
        }
    }
}

static kwr_status make_places(kwr_restore_job *job, kwr_error *err) {
    const size_t count = images_of(job);
    sorted_place *items = kwr_alloc_array(job->env, count, sizeof *items);
    sorted_place *other = kwr_alloc_array(job->env, count, sizeof *other);
    job->places = kwr_alloc_array(job->env, count, sizeof *job->places);
    const bool good = items != NULL && other != NULL && job->places != NULL;
    if (job->places != NULL) job->place_count = count;
    if (good) {
        list_places(job, items);
        const sorted_place *sorted = sort(items, other, count);
        for (size_t i = 0; i < count; i++)
            job->places[i] = sorted[i].place;
    }
    kwr_free(job->env, items, count * sizeof *items);
    kwr_free(job->env, other, count * sizeof *other);
    return good ? KWR_OK : kwr_restore_no_memory(err);
}

/* ---- reading ---- */

static void stub(void *ctx, uint64_t index, kwr_page_stub *out) {
    const kwr_restore_job *job = ctx;
    const kwr_image_place *place = &job->places[index];
    const kwr_data_file *file = &job->files[place->file];
    const kwr_restore_source *s = &job->sources[job->file_sources[place->file]];
    kwr_data_entry entry;
    kwr_data_file_entry(file, place->image, &entry);
    const uint32_t state = s->state_ids[kwr_manifest_file_state(file->file, entry.state)];
    const uint64_t epoch = kwr_restore_epoch(job, file->header.checkpoint);
    uint64_t with_deltas = 0, beside = 0;
    if (entry.kind == KWR_PAGE_HASH) {
        with_deltas = kwr_page_deltas_epoch(job->deltas, entry.key_group, entry.page_id);
        beside = kwr_delta_files_beside(job->delta_files);
    }
    *out = (kwr_page_stub){
        .page_id = entry.page_id,
        .prefix = entry.prefix,
        .state = state,
        .key_group = entry.key_group,
        .entries = entry.entries,
        .entry_bytes = entry.entry_bytes,
        .elements = entry.elements,
        .stored = entry.stored + KWR_DATA_PREFIX_SIZE,
        .kind = entry.kind,
        .depth = entry.depth,
        .epoch = with_deltas > epoch ? with_deltas : epoch,
        .beside = beside > epoch ? beside : 0,
    };
}

/* A load at work. */
typedef struct loading {
    const kwr_restore_job *job;
    bool marked;
    kwr_page_image_fn fn;
    void *fn_ctx;
    kwr_buffer stored, plain;
    kwr_buffer made; /* a page with its deltas */
    kwr_error *err;
} loading;

static uint64_t entry_end(const kwr_data_entry *entry) {
    return entry->offset + KWR_DATA_PREFIX_SIZE + entry->stored;
}

static kwr_status give(loading *l, const kwr_image_place *place, const kwr_data_entry *entry,
                       const uint8_t *bytes) {
    const kwr_restore_job *job = l->job;
    const kwr_data_file *file = &job->files[place->file];
    const kwr_restore_source *s = &job->sources[job->file_sources[place->file]];
    kwr_page_image image = { 0 };
    l->plain.size = 0;
    uint8_t *scratch = kwr_buffer_extend(&l->plain, entry->raw);
    if (scratch == NULL) return KWR_ERR_NOMEM;
    KWR_TRY(kwr_data_image(file, entry, bytes, scratch, &image, l->err));
    image.state = s->state_ids[image.state];
    image.epoch = kwr_restore_epoch(job, file->header.checkpoint);
    kwr_page_image whole;
    KWR_TRY(kwr_delta_files_apply(job->delta_files, file, entry, &image, l->marked, &l->made,
                                  &whole, l->err));
    return l->fn(l->fn_ctx, &whole);
}

/* Images from `first` on that lie close behind each other in one file: how many are read at once.
 */
static size_t read_together(const kwr_restore_job *job, uint64_t first, uint64_t count) {
    const kwr_image_place *places = job->places + first;
    const kwr_data_file *file = &job->files[places->file];
    kwr_data_entry begin, last, next;
    kwr_data_file_entry(file, places->image, &begin);
    last = begin;
    size_t n = 1;
    for (; n < count && places[n].file == places->file; n++) {
        kwr_data_file_entry(file, places[n].image, &next);
        if (next.offset < entry_end(&last) || next.offset - entry_end(&last) > READ_GAP ||
            entry_end(&next) - begin.offset > READ_BYTES)
            break;
        last = next;
    }
    return n;
}

static kwr_status load_together(loading *l, uint64_t first, size_t count) {
    const kwr_restore_job *job = l->job;
    const kwr_image_place *places = job->places + first;
    const kwr_data_file *file = &job->files[places->file];
    kwr_data_entry begin, last;
    kwr_data_file_entry(file, places->image, &begin);
    kwr_data_file_entry(file, places[count - 1].image, &last);
    const size_t size = (size_t)(entry_end(&last) - begin.offset);
    l->stored.size = 0;
    uint8_t *bytes = kwr_buffer_extend(&l->stored, size);
    if (bytes == NULL) return KWR_ERR_NOMEM;
    KWR_TRY(kwr_data_file_read(file, begin.offset, bytes, size, l->err));
    for (size_t i = 0; i < count; i++) {
        kwr_data_entry entry;
        kwr_data_file_entry(file, places[i].image, &entry);
        const kwr_status status =
            give(l, &places[i], &entry, bytes + (entry.offset - begin.offset));
        if (status != KWR_OK) return status;
    }
    return KWR_OK;
}

static kwr_status load(void *ctx, uint64_t first, uint64_t count, bool marked, kwr_page_image_fn fn,
                       void *fn_ctx, kwr_error *err) {
    kwr_error none;
    loading l = {
        .job = ctx, .marked = marked, .fn = fn, .fn_ctx = fn_ctx, .err = err == NULL ? &none : err
    };
    l.stored.env = l.plain.env = l.made.env = l.job->env;
    kwr_status status = KWR_OK;
    for (uint64_t done = 0; done < count && status == KWR_OK;) {
        const size_t together = read_together(l.job, first + done, count - done);
        status = load_together(&l, first + done, together);
        done += together;
    }
    kwr_buffer_free(&l.stored);
    kwr_buffer_free(&l.plain);
    kwr_buffer_free(&l.made);
    if (status == KWR_ERR_NOMEM && err != NULL && err->status != status)
        return KWR_FAIL(err, status, 0, "no memory to load pages of a snapshot");
    return status;
}

static void release(void *ctx) { kwr_restore_job_free(ctx); }

/* ---- what is inline ---- */

static kwr_status copy_inline(kwr_restore_job *job, kwr_error *err) {
    for (size_t i = 0; i < job->file_count; i++) {
        kwr_data_file *file = &job->files[i];
        if (file->file->name != NULL) continue;
        uint8_t *copy = kwr_arena_alloc(job->arena, (size_t)file->file->length);
        if (copy == NULL) return kwr_restore_no_memory(err);
        KWR_TRY(kwr_data_file_copy(file, copy, err));
    }
    return KWR_OK;
}

kwr_status kwr_restore_source_new(kwr_restore_job *job, kwr_page_source *out, kwr_error *err) {
    KWR_TRY(copy_inline(job, err));
    KWR_TRY(make_places(job, err));
    if (job->set != NULL) kwr_lineage_set_loading(job->set);
    *out = (kwr_page_source){
        .ctx = job,
        .count = job->place_count,
        .past = job->has_deltas ? job->version_count : KWR_EPOCH_RESTORED,
        .estimated = job->has_deltas,
        .stub = stub,
        .load = load,
        .release = release,
    };
    return KWR_OK;
}
