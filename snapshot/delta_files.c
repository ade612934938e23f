/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of deltas by where their pages belong, and the latest ones decoded. */
#include "snapshot/delta_files.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/planted.h"
#include "base/thread.h"
#include "snapshot/page_deltas.h"

enum {
    DELTAS_MAX = 64, /* of one page, of files in use: more than any tiers leave */
    DECODED_MAX = 64,
};

/* Where the first page of a batch belongs. */
typedef struct batch_place {
    uint64_t prefix;
    uint32_t key_group;
    uint32_t state; /* of the backend */
    uint32_t image;
} batch_place;

typedef struct delta_file {
    const kwr_data_file *file;
    uint64_t epoch;
    batch_place *batches; /* ascending */
    size_t count, capacity;
} delta_file;

/* A batch taken apart. */
typedef struct decoded {
    uint32_t file, image;
    uint32_t users; /* loads that look at it; freed by the last when it is not kept any more */
    bool kept;
    uint64_t used; /* when, in steps of the clock */
    uint8_t *bytes;
    size_t size;
    kwr_delta *deltas;
    uint32_t count;
} decoded;

struct kwr_delta_files {
    const kwr_env *env;
    delta_file *files;
    size_t count, capacity;
    uint64_t beside;
    kwr_mutex lock; /* of what follows */
    decoded *kept[DECODED_MAX];
    uint64_t clock;
};

kwr_delta_files *kwr_delta_files_new(const kwr_env *env) {
    kwr_delta_files *f = kwr_calloc(env, sizeof *f);
    if (f == NULL) return NULL;
    f->env = env;
    kwr_mutex_init(&f->lock);
    return f;
}

static void decoded_free(const kwr_env *env, decoded *d) {
    if (d == NULL) return;
    kwr_free(env, d->bytes, d->size);
    kwr_free(env, d->deltas, d->count * sizeof *d->deltas);
    kwr_free(env, d, sizeof *d);
}

void kwr_delta_files_free(kwr_delta_files *f) {
    if (f == NULL) return;
    const kwr_env *env = f->env;
    for (size_t i = 0; i < DECODED_MAX; i++)
        decoded_free(env, f->kept[i]);
    for (size_t i = 0; i < f->count; i++)
        kwr_free(env, f->files[i].batches, f->files[i].capacity * sizeof *f->files[i].batches);
    kwr_free(env, f->files, f->capacity * sizeof *f->files);
    kwr_mutex_done(&f->lock);
    kwr_free(env, f, sizeof *f);
}

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the deltas of a checkpoint");
}

/* ---- one batch ---- */

static kwr_status take_apart(const kwr_env *env, kwr_delta_batch *batch, decoded *out,
                             kwr_error *err) {
    /* Each takes three bytes at least. */
    if (batch->count > kwr_cursor_left(&batch->rest) / 3)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta runs out of its batch");
    out->deltas = kwr_alloc_array(env, batch->count, sizeof *out->deltas);
    if (out->deltas == NULL) return no_memory(err);
    out->count = batch->count;
    for (uint32_t i = 0; i < out->count; i++) {
        const kwr_status status = kwr_delta_batch_next(batch, &out->deltas[i], err);
        if (status != KWR_OK) return status;
    }
    kwr_delta none;
    const kwr_status end = kwr_delta_batch_next(batch, &none, err);
    return end == KWR_NOT_FOUND ? KWR_OK : end;
}

static kwr_status read_batch(const kwr_env *env, const kwr_data_file *file, decoded *out,
                             kwr_error *err) {
    kwr_data_entry entry;
    kwr_delta_batch batch;
    (void)kwr_data_file_entry(file, out->image, &entry);
    kwr_status status = kwr_page_deltas_open(env, file, &entry, &out->bytes, &batch, err);
    out->size = entry.raw;
    KWR_TRY(status);
    kwr_error why = { 0 };
    status = take_apart(env, &batch, out, &why);
    if (status == KWR_ERR_CORRUPT) return kwr_data_image_fault(file, &entry, status, why.text, err);
    if (status < KWR_OK && err != NULL) *err = why;
    return status;
}

/* What all of a file's say. */
static kwr_status read_level(const kwr_env *env, const kwr_data_file *file, uint32_t image,
                             uint8_t *level, kwr_error *err) {
    kwr_data_entry entry;
    kwr_delta_batch batch;
    uint8_t *bytes;
    (void)kwr_data_file_entry(file, image, &entry);
    const kwr_status status = kwr_page_deltas_open(env, file, &entry, &bytes, &batch, err);
    if (status >= KWR_OK) *level = batch.level;
    kwr_free(env, bytes, entry.raw);
    return status;
}

/* ---- those that were looked at ---- */

static decoded *find_kept(kwr_delta_files *f, uint32_t file, uint32_t image) {
    for (size_t i = 0; i < DECODED_MAX; i++) {
        decoded *d = f->kept[i];
        if (d == NULL || d->file != file || d->image != image) continue;
        d->used = ++f->clock;
        d->users++;
        return d;
    }
    return NULL;
}

/* Takes the place of what was not looked at for the longest time. */
static void keep(kwr_delta_files *f, decoded *made) {
    size_t at = 0;
    for (size_t i = 1; i < DECODED_MAX && f->kept[at] != NULL; i++)
        if (f->kept[i] == NULL || f->kept[i]->used < f->kept[at]->used) at = i;
    decoded *old = f->kept[at];
    if (old != NULL) {
        old->kept = false;
        if (old->users == 0) decoded_free(f->env, old);
    }
    made->kept = true;
    made->used = ++f->clock;
    f->kept[at] = made;
}

static kwr_status borrow(kwr_delta_files *f, uint32_t file, uint32_t image, decoded **out,
                         kwr_error *err) {
    kwr_mutex_lock(&f->lock);
    *out = find_kept(f, file, image);
    kwr_mutex_unlock(&f->lock);
    if (*out != NULL) return KWR_OK;
    decoded *made = kwr_calloc(f->env, sizeof *made);
    if (made == NULL) return no_memory(err);
    *made = (decoded){ .file = file, .image = image, .users = 1 };
    const kwr_status status = read_batch(f->env, f->files[file].file, made, err);
    if (status < KWR_OK) {
        decoded_free(f->env, made);
        return status;
    }
    kwr_mutex_lock(&f->lock);
    decoded *other = find_kept(f, file, image);
    if (other == NULL) keep(f, made);
    kwr_mutex_unlock(&f->lock);
    if (other != NULL) decoded_free(f->env, made);
    *out = other != NULL ? other : made;
    return KWR_OK;
}

static void give_back(kwr_delta_files *f, decoded *d) {
    kwr_mutex_lock(&f->lock);
    const bool last = --d->users == 0 && !d->kept;
    kwr_mutex_unlock(&f->lock);
    if (last) decoded_free(f->env, d);
}

/* ---- files ---- */

static int compare(const batch_place *a, uint32_t key_group, uint32_t state, uint64_t prefix) {
    if (a->key_group != key_group) return a->key_group < key_group ? -1 : 1;
    if (a->state != state) return a->state < state ? -1 : 1;
    return a->prefix == prefix ? 0 : a->prefix < prefix ? -1 : 1;
}

/* Batches of the states may come in another order than the backend's ids. */
static void insert(delta_file *d, const batch_place *made) {
    size_t at = d->count++;
    while (at > 0 && compare(&d->batches[at - 1], made->key_group, made->state, made->prefix) > 0) {
        d->batches[at] = d->batches[at - 1];
        at--;
    }
    d->batches[at] = *made;
}

static kwr_status list_batches(kwr_delta_files *f, delta_file *d, kwr_key_group_range owned,
                               const uint32_t *state_ids) {
    for (uint64_t i = 0; i < d->file->file->images; i++) {
        kwr_data_entry entry;
        if (!kwr_data_file_entry(d->file, i, &entry) || entry.kind != KWR_PAGE_DELTA) continue;
        if (entry.key_group - owned.first >= owned.count) continue;
        if (!kwr_grow_array(f->env, (void **)&d->batches, &d->capacity, d->count + 1,
                            sizeof *d->batches))
            return KWR_ERR_NOMEM;
        insert(d, &(batch_place){
                      .prefix = entry.prefix,
                      .key_group = entry.key_group,
                      .state = state_ids[kwr_manifest_file_state(d->file->file, entry.state)],
                      .image = (uint32_t)i,
                  });
    }
    return KWR_OK;
}

kwr_status kwr_delta_files_add(kwr_delta_files *f, const kwr_data_file *file,
                               kwr_key_group_range owned, const uint32_t *state_ids, uint64_t epoch,
                               uint8_t *level, kwr_error *err) {
    if (!kwr_grow_array(f->env, (void **)&f->files, &f->capacity, f->count + 1, sizeof *f->files))
        return no_memory(err);
    delta_file *d = &f->files[f->count];
    *d = (delta_file){ .file = file, .epoch = epoch };
    kwr_status status = list_batches(f, d, owned, state_ids);
    if (status < KWR_OK) (void)no_memory(err);
    if (status >= KWR_OK && d->count > 0)
        status = read_level(f->env, file, d->batches[0].image, level, err);
    if (status < KWR_OK || d->count == 0) {
        kwr_free(f->env, d->batches, d->capacity * sizeof *d->batches);
        return status;
    }
    f->count++;
    if (file->file->name != NULL) f->beside = epoch;
    return KWR_OK;
}

uint64_t kwr_delta_files_beside(const kwr_delta_files *f) { return f == NULL ? 0 : f->beside; }

/* The last batch that does not begin above the place; NULL: none of that state and key group. */
static const batch_place *batch_of(const delta_file *d, uint32_t key_group, uint32_t state,
                                   uint64_t prefix) {
    size_t low = 0, high = d->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare(&d->batches[middle], key_group, state, prefix) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    const batch_place *found = low == 0 ? NULL : &d->batches[low - 1];
    return found != NULL && found->key_group == key_group && found->state == state ? found : NULL;
}

/* ---- pages ---- */

/* The deltas of one page, ascending, in batches that are borrowed. */
typedef struct found_deltas {
    kwr_delta deltas[DELTAS_MAX];
    decoded *batches[DELTAS_MAX];
    size_t count;
    uint64_t epoch;
    bool twice, many;
} found_deltas;

static kwr_status find_delta(kwr_delta_files *f, size_t file, const kwr_page_image *image,
                             found_deltas *found, kwr_error *err) {
    const delta_file *d = &f->files[file];
    const batch_place *place = batch_of(d, image->key_group, image->state, image->prefix);
    if (place == NULL || KWR_PLANTED(lazy_deltas_skipped)) return KWR_OK;
    decoded *batch;
    KWR_TRY(borrow(f, (uint32_t)file, place->image, &batch, err));
    uint32_t at = 0;
    while (at < batch->count && batch->deltas[at].page_id != image->page_id)
        at++;
    found->many = found->many || (at < batch->count && found->count == DELTAS_MAX);
    found->twice = found->twice || (at < batch->count && d->epoch == found->epoch);
    if (at == batch->count || found->many) {
        give_back(f, batch);
        return KWR_OK;
    }
    found->batches[found->count] = batch;
    found->deltas[found->count] = batch->deltas[at];
    found->deltas[found->count++].mark = (uint8_t)(1 + d->epoch % KWR_EPOCH_MARKS);
    found->epoch = d->epoch;
    return KWR_OK;
}

static kwr_status put_together(found_deltas *found, const kwr_page_image *image, bool marked,
                               kwr_buffer *room, kwr_page_image *out, kwr_error *err) {
    if (found->many || found->twice)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "it has %s",
                        found->many ? "too many deltas" : "two deltas of one checkpoint");
    for (size_t i = 0; i < found->count && !marked; i++)
        found->deltas[i].mark = 0;
    KWR_TRY(kwr_page_put_together(image, found->deltas, found->count, room, out, err));
    out->epoch = found->epoch;
    return KWR_OK;
}

kwr_status kwr_delta_files_apply(kwr_delta_files *f, const kwr_data_file *file,
                                 const kwr_data_entry *entry, const kwr_page_image *image,
                                 bool marked, kwr_buffer *room, kwr_page_image *out,
                                 kwr_error *err) {
    *out = *image;
    if (f == NULL || image->kind != KWR_PAGE_HASH) return KWR_OK;
    found_deltas found = { .epoch = image->epoch };
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < f->count && status >= KWR_OK; i++)
        if (f->files[i].epoch > image->epoch) status = find_delta(f, i, image, &found, err);
    if (status >= KWR_OK && found.count > 0) {
        kwr_error why = { 0 };
        status = put_together(&found, image, marked, room, out, &why);
        if (status == KWR_ERR_CORRUPT)
            (void)kwr_data_image_fault(file, entry, status, why.text, err);
        else if (status < KWR_OK && err != NULL)
            *err = why;
    }
    for (size_t i = 0; i < found.count; i++)
        give_back(f, found.batches[i]);
    return status;
}
