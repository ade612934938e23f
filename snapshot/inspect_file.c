/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file of the storage against everybody who needs it: its length, header, footer and index as
 * each of them lists it, then the images that any of them uses, each read and decoded once. Images
 * that lie side by side are read together; what cannot be read together is read one by one, so that
 * a bad block is told with its own offset and the rest is looked at all the same.
 */
#include <stdio.h>
#include <string.h>

#include "backend/key_group.h"
#include "backend/page_delta.h"
#include "base/error.h"
#include "snapshot/inspect_internal.h"

enum {
    RUN_BYTES = 1024 * 1024, /* read at once */
    GAP_BYTES = 64 * 1024,   /* rather read than left out */
};

/* A file at hand. */
typedef struct look {
    kwr_inspect_worker *worker;
    kwr_inspection *in;
    const kwr_inspect_unit *unit;
    kwr_storage_reader *reader;
    char file[2 * KWR_FILE_NAME_MAX]; /* below the job's directory */
    char path[KWR_STORAGE_PATH_MAX];
    kwr_data_file *files; /* for each reference */
    bool *sound;          /* likewise: its index could be loaded */
    bool *hit;            /* likewise: of the finding at hand */
    bool header_sound;    /* of the file as it was read last */
    kwr_inspect_result result;
    uint64_t done;  /* of the unit's bytes, told as progress */
    kwr_error *err; /* of failures of the whole work */
} look;

/* ---- telling ---- */

/* The key groups and operator of the references that are hit; false: none is. */
static bool describe(const look *l, const bool *hit, kwr_fsck_finding *finding) {
    uint32_t first = UINT32_MAX, end = 0;
    const kwr_inspect_tally *of = NULL;
    for (size_t i = 0; i < l->unit->ref_count; i++) {
        const kwr_inspect_tally *tally = l->unit->refs[i]->tally;
        const kwr_key_group_range range = tally->subtask->key_groups;
        if (hit != NULL && !hit[i]) continue;
        if (of == NULL) of = tally;
        if (range.first < first) first = range.first;
        if (range.first + range.count > end) end = range.first + range.count;
    }
    if (of == NULL) return false;
    finding->operator_id = of->op->id;
    finding->subtask = of->subtask->index;
    finding->first_key_group = first;
    finding->key_groups = end - first;
    return true;
}

/* KWR_OK: told, or nothing to tell. */
static kwr_status settle(look *l, kwr_status status, const bool *hit, kwr_fsck_finding finding,
                         const kwr_error *why) {
    if (status >= KWR_OK) return KWR_OK;
    finding.kind = kwr_inspect_kind(status);
    if ((int)finding.kind == 0) {
        if (l->err != NULL) *l->err = *why;
        return status;
    }
    finding.status = status == KWR_ERR_MISMATCH ? KWR_ERR_CORRUPT : status;
    finding.file = l->file;
    finding.text = why->text;
    const kwr_status held =
        kwr_inspect_hold(l->in, &finding, l->unit->refs, hit, l->unit->ref_count);
    if (held >= KWR_OK) return KWR_OK;
    return KWR_FAIL(l->err, held, 0, "no memory to tell what was found");
}

/* A part of the file, as the references that are hit list it. */
static kwr_status settle_part(look *l, kwr_status status, const bool *hit, uint64_t offset,
                              uint64_t length, const kwr_error *why) {
    kwr_fsck_finding finding = { .offset = offset, .length = length };
    if (status >= KWR_OK || !describe(l, hit, &finding)) return KWR_OK;
    return settle(l, status, hit, finding, why);
}

static void advance(look *l, uint64_t bytes) {
    const uint64_t left = l->unit->bytes - l->done;
    const uint64_t more = bytes < left ? bytes : left;
    l->done += more;
    kwr_inspect_advance(l->in, &l->result, more, 0);
    l->result = (kwr_inspect_result){ 0 };
}

/* ---- images ---- */

/* Which entry of the walk is wrong, if one is. */
typedef struct entry_check {
    const kwr_inspect_tally *tally;
    bool by_hash; /* keys say their key group */
} entry_check;

static kwr_status check_entry(void *ctx, const kwr_entry *entry) {
    const entry_check *c = ctx;
    const kwr_inspect_tally *t = c->tally;
    if (!c->by_hash || kwr_key_group_of_hash(kwr_key_hash(entry->key, t->owner.seed),
                                             t->owner.max_parallelism) == entry->key_group)
        return KWR_OK;
    return KWR_ERR_MISMATCH;
}

/* What is inside; images whose content only an engine can judge are taken as their checksums say.
 */
static kwr_status check_content(const kwr_data_file *file, const kwr_data_entry *entry,
                                const kwr_inspect_tally *tally, const kwr_page_image *image,
                                kwr_error *err) {
    kwr_error why = { 0 };
    if (image->kind == KWR_PAGE_DELTA)
        return kwr_delta_batch_check(image->bytes, image->size, &why) >= KWR_OK
                   ? KWR_OK
                   : kwr_data_image_fault(file, entry, KWR_ERR_CORRUPT, why.text, err);
    if (image->kind != KWR_PAGE_HASH && image->kind != KWR_PAGE_BLOB &&
        image->kind != KWR_PAGE_TREE && image->kind != KWR_PAGE_ENTRIES)
        return KWR_OK;
    const kwr_state_info *info = &tally->subtask->states[image->state].info;
    entry_check check = { .tally = tally,
                          .by_hash = !tally->manifest->engine_key_groups &&
                                     !kwr_state_is_per_group(info->kind) };
    const kwr_status status = kwr_page_image_walk(image, check_entry, &check, &why);
    if (status >= KWR_OK) return KWR_OK;
    if (status == KWR_ERR_NOMEM) return KWR_FAIL(err, status, 0, "no memory to check a page image");
    return kwr_data_image_fault(
        file, entry, status == KWR_ERR_FORMAT ? status : KWR_ERR_CORRUPT,
        status == KWR_ERR_MISMATCH ? "a key in it belongs to another key group" : why.text, err);
}

/* The references that use image `index`; how many. */
static size_t users_of(const look *l, uint64_t index, size_t *first) {
    size_t count = 0;
    for (size_t i = 0; i < l->unit->ref_count; i++) {
        const kwr_manifest_file *file = l->unit->refs[i]->file;
        l->hit[i] = l->sound[i] && index < file->images && kwr_manifest_file_uses(file, index);
        if (l->hit[i] && count++ == 0) *first = i;
    }
    return count;
}

/* `bytes`: prefix and stored bytes; NULL: they could not be read, for the reason in `status`. */
static kwr_status check_image(look *l, uint64_t index, const uint8_t *bytes, kwr_status status,
                              kwr_error *why) {
    size_t user = 0;
    if (users_of(l, index, &user) == 0) return KWR_OK;
    kwr_data_file *file = &l->files[user];
    const kwr_inspect_tally *tally = l->unit->refs[user]->tally;
    kwr_data_entry entry;
    (void)kwr_data_file_entry(file, index, &entry);
    if (bytes != NULL) {
        l->worker->plain.size = 0;
        uint8_t *plain = kwr_buffer_extend(&l->worker->plain, entry.raw);
        if (plain == NULL)
            return KWR_FAIL(l->err, KWR_ERR_NOMEM, 0, "no memory to check '%s'", l->path);
        kwr_page_image image;
        status = kwr_data_image(file, &entry, bytes, plain, &image, why);
        if (status >= KWR_OK) status = check_content(file, &entry, tally, &image, why);
        l->result.bytes += KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
    }
    l->result.images++;
    l->result.entries += entry.entries;
    if (status >= KWR_OK) return KWR_OK;
    const bool whole = entry.kind == KWR_PAGE_FILE || entry.kind == KWR_PAGE_FILE_END;
    const kwr_key_group_range range = tally->subtask->key_groups;
    return settle(
        l, status, l->hit,
        (kwr_fsck_finding){
            .offset = file->base + entry.offset,
            .length = KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored,
            .operator_id = tally->op->id,
            .subtask = tally->subtask->index,
            .state =
                tally->subtask->states[kwr_manifest_file_state(file->file, entry.state)].info.name,
            .first_key_group = whole ? range.first : entry.key_group,
            .key_groups = whole ? range.count : 1,
        },
        why);
}

/* Images [first, end) of the index of a sound reference: those used, each by itself. */
static kwr_status check_one_by_one(look *l, const kwr_data_file *any, uint64_t first,
                                   uint64_t end) {
    for (uint64_t i = first; i < end; i++) {
        kwr_data_entry entry;
        kwr_error why = { 0 };
        size_t user = 0;
        if (users_of(l, i, &user) == 0) continue;
        (void)kwr_data_file_entry(any, i, &entry);
        const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry.stored;
        l->worker->stored.size = 0;
        uint8_t *bytes = kwr_buffer_extend(&l->worker->stored, size);
        if (bytes == NULL)
            return KWR_FAIL(l->err, KWR_ERR_NOMEM, 0, "no memory to check '%s'", l->path);
        const kwr_status status = kwr_data_file_read(any, entry.offset, bytes, size, &why);
        KWR_TRY(check_image(l, i, status >= KWR_OK ? bytes : NULL, status, &why));
    }
    return KWR_OK;
}

/* The same, read at once. */
static kwr_status check_run(look *l, const kwr_data_file *any, uint64_t first, uint64_t end,
                            uint64_t from, uint64_t to) {
    l->worker->stored.size = 0;
    uint8_t *bytes = kwr_buffer_extend(&l->worker->stored, (size_t)(to - from));
    if (bytes == NULL)
        return KWR_FAIL(l->err, KWR_ERR_NOMEM, 0, "no memory to check '%s'", l->path);
    if (kwr_data_file_read(any, from, bytes, (size_t)(to - from), NULL) < KWR_OK)
        return check_one_by_one(l, any, first, end);
    for (uint64_t i = first; i < end; i++) {
        kwr_data_entry entry;
        kwr_error why = { 0 };
        (void)kwr_data_file_entry(any, i, &entry);
        KWR_TRY(check_image(l, i, bytes + (entry.offset - from), KWR_OK, &why));
    }
    return KWR_OK;
}

static kwr_status check_images(look *l, const kwr_data_file *any) {
    const uint64_t images = any->file->images;
    uint64_t first = 0;
    while (first < images) {
        uint64_t from = 0, to = 0, end = first;
        for (uint64_t i = first; i < images; i++) {
            kwr_data_entry entry;
            size_t user = 0;
            if (users_of(l, i, &user) == 0) continue;
            (void)kwr_data_file_entry(any, i, &entry);
            const uint64_t stop = entry.offset + KWR_DATA_PREFIX_SIZE + entry.stored;
            if (end == first) {
                first = i;
                from = entry.offset;
            } else if (stop - from > RUN_BYTES || entry.offset - to > GAP_BYTES) {
                break;
            }
            to = stop;
            end = i + 1;
        }
        if (end == first) break;
        KWR_TRY(check_run(l, any, first, end, from, to));
        advance(l, to - from);
        first = end;
    }
    return KWR_OK;
}

/* ---- header, footer, index ---- */

static bool same_file(const kwr_manifest_file *a, const kwr_manifest_file *b) {
    return a->length == b->length && a->images == b->images &&
           kwr_digest_equal(&a->header, &b->header) && kwr_digest_equal(&a->footer, &b->footer) &&
           kwr_digest_equal(&a->index, &b->index);
}

/* Reads and checks it as reference `at` lists it; all that list it alike hear of what is wrong. */
static kwr_status load(look *l, size_t at) {
    kwr_data_file *file = &l->files[at];
    kwr_error why = { 0 };
    for (size_t i = 0; i < l->unit->ref_count; i++)
        l->hit[i] = same_file(l->unit->refs[i]->file, l->unit->refs[at]->file);
    kwr_status status = kwr_data_file_check_header(file, &why);
    l->header_sound = status >= KWR_OK;
    KWR_TRY(settle_part(l, status, l->hit, file->fault_at, KWR_DATA_HEADER_SIZE, &why));
    status = kwr_data_file_check_footer(file, &why);
    KWR_TRY(settle_part(l, status, l->hit, file->fault_at, KWR_DATA_FOOTER_SIZE, &why));
    status = kwr_data_file_load_index(file, &why);
    l->result.bytes += KWR_DATA_HEADER_SIZE + KWR_DATA_FOOTER_SIZE + file->index_length;
    KWR_TRY(settle_part(l, status, l->hit, file->fault_at, file->index_length, &why));
    /* Images are looked at also when header or footer are damaged: the index says where they are.
     */
    l->sound[at] = status >= KWR_OK;
    return KWR_OK;
}

static kwr_status load_again(look *l, size_t at, const kwr_data_file *loaded) {
    kwr_data_file *file = &l->files[at];
    kwr_error why = { 0 };
    memset(l->hit, 0, l->unit->ref_count * sizeof *l->hit);
    l->hit[at] = true;
    kwr_status status = KWR_OK;
    if (l->header_sound) status = kwr_data_file_same_header(file, loaded, &why);
    KWR_TRY(settle_part(l, status, l->hit, file->fault_at, KWR_DATA_HEADER_SIZE, &why));
    status = kwr_data_file_same_index(file, loaded, &why);
    l->sound[at] = status >= KWR_OK;
    return settle_part(l, status, l->hit, file->fault_at, 0, &why);
}

static void count(const kwr_data_file *file, kwr_inspect_tally *tally) {
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        if (!kwr_data_file_entry(file, i, &entry)) continue;
        /* With deltas the indexes do not say how many entries there are. */
        if (entry.kind == KWR_PAGE_DELTA) __atomic_store_n(&tally->incomplete, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&tally->sums[kwr_manifest_file_state(file->file, entry.state)],
                           entry.entries, __ATOMIC_RELAXED);
    }
}

/* Every reference; `usable[i]`: its length was right. */
static kwr_status load_all(look *l, const bool *usable) {
    const size_t refs = l->unit->ref_count;
    size_t loaded = refs, tried = refs; /* the latest that was read, and whether that worked */
    for (size_t i = 0; i < refs; i++) {
        const kwr_inspect_ref *ref = l->unit->refs[i];
        if (usable[i]) {
            kwr_data_file_of_reader(l->in->env, l->in->options.dirs->storage, l->reader, l->path,
                                    ref->file, &ref->tally->owner, &l->files[i]);
            if (loaded < refs && same_file(ref->file, l->unit->refs[loaded]->file)) {
                KWR_TRY(load_again(l, i, &l->files[loaded]));
            } else if (tried == refs || !same_file(ref->file, l->unit->refs[tried]->file)) {
                KWR_TRY(load(l, i));
                tried = i;
                if (l->sound[i]) loaded = i;
            }
        }
        if (l->sound[i])
            count(&l->files[i], ref->tally);
        else
            __atomic_store_n(&ref->tally->incomplete, 1, __ATOMIC_RELAXED);
    }
    return KWR_OK;
}

static kwr_status check_parts(look *l, const bool *usable) {
    KWR_TRY(load_all(l, usable));
    if (l->in->options.indexes_only) return KWR_OK;
    for (size_t i = 0; i < l->unit->ref_count; i++)
        if (l->sound[i]) return check_images(l, &l->files[i]);
    return KWR_OK;
}

/* ---- files in shared/ ---- */

/* References whose length is not the file's; the others are usable. */
static kwr_status check_length(look *l, uint64_t size, bool *usable) {
    for (size_t i = 0; i < l->unit->ref_count; i++) {
        const kwr_manifest_file *file = l->unit->refs[i]->file;
        const kwr_inspect_tally *tally = l->unit->refs[i]->tally;
        bool told = false;
        usable[i] = file->length == size;
        for (size_t j = 0; j < i; j++)
            told = told || l->unit->refs[j]->file->length == file->length;
        if (usable[i] || told) continue;
        for (size_t j = 0; j < l->unit->ref_count; j++)
            l->hit[j] = l->unit->refs[j]->file->length == file->length;
        const uint64_t at = size < file->length ? size : file->length;
        kwr_error why = { 0 };
        const kwr_status status = KWR_FAIL(
            &why, KWR_ERR_CORRUPT, 0,
            "'%s' is damaged at offset %llu: data file of operator %s, subtask %u: it has %llu "
            "bytes, %llu were written",
            l->path, (unsigned long long)at, tally->op->id, tally->subtask->index,
            (unsigned long long)size, (unsigned long long)file->length);
        KWR_TRY(settle_part(l, status, l->hit, at, 0, &why));
    }
    return KWR_OK;
}

static kwr_status check_shared(look *l, bool *usable) {
    const kwr_job_dirs *dirs = l->in->options.dirs;
    const char *name = l->unit->refs[0]->file->name;
    kwr_error why = { 0 };
    uint64_t size = 0;
    kwr_status status = KWR_OK;
    snprintf(l->file, sizeof l->file, "shared/%s", name);
    if (dirs->shared == NULL) {
        status = KWR_FAIL(&why, KWR_ERR_MISSING, 0,
                          "data file '%s' is missing: the job has no directory 'shared'", name);
    } else {
        kwr_storage_path(dirs->storage, dirs->shared, name, l->path);
        status =
            dirs->storage->ops->open(dirs->storage, dirs->shared, name, &l->reader, &size, &why);
    }
    if (status < KWR_OK) {
        for (size_t i = 0; i < l->unit->ref_count; i++)
            __atomic_store_n(&l->unit->refs[i]->tally->incomplete, 1, __ATOMIC_RELAXED);
        return settle_part(l, status, NULL, 0, 0, &why);
    }
    l->result.files++;
    KWR_TRY(check_length(l, size, usable));
    return check_parts(l, usable);
}

/* ---- the file inline ---- */

/* The whole of it against its digest: also what lies between the parts, if anything did. */
static kwr_status digest_inline(look *l, kwr_digest *out, kwr_error *err) {
    const kwr_job_dirs *dirs = l->in->options.dirs;
    const uint64_t size = l->unit->of_inline->inline_length;
    kwr_digest_stream *stream = kwr_digest_stream_new(l->in->env);
    l->worker->stored.size = 0;
    uint8_t *bytes = kwr_buffer_extend(&l->worker->stored, RUN_BYTES);
    kwr_status status = KWR_OK;
    if (stream == NULL || bytes == NULL)
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check '%s'", l->path);
    for (uint64_t at = 0; at < size && status >= KWR_OK;) {
        const size_t part = size - at < RUN_BYTES ? (size_t)(size - at) : RUN_BYTES;
        status = dirs->storage->ops->read(dirs->storage, l->reader, at, bytes, part, err);
        if (status >= KWR_OK) kwr_digest_stream_add(stream, bytes, part);
        at += part;
        l->result.bytes += part;
    }
    if (status >= KWR_OK) *out = kwr_digest_stream_end(stream);
    if (stream != NULL) kwr_digest_stream_free(stream);
    return status;
}

static kwr_status open_inline(look *l, kwr_storage_dir **dir, uint64_t *size, kwr_error *err) {
    const kwr_job_dirs *dirs = l->in->options.dirs;
    char name[KWR_FILE_NAME_MAX];
    kwr_checkpoint_dir_name(l->unit->of_inline->checkpoint, l->unit->of_inline->generation, name);
    snprintf(l->file, sizeof l->file, "%s/inline", name);
    KWR_TRY(dirs->storage->ops->dir_open(dirs->storage, dirs->root, name, false, dir, err));
    kwr_storage_path(dirs->storage, *dir, "inline", l->path);
    return dirs->storage->ops->open(dirs->storage, *dir, "inline", &l->reader, size, err);
}

/* Says which parts of it are wrong too, when the length at least is right. */
static kwr_status check_inline_in(look *l, kwr_storage_dir **dir, bool *usable) {
    const uint64_t wanted = l->unit->of_inline->inline_length;
    kwr_error why = { 0 };
    uint64_t size = 0, at = 0;
    kwr_digest digest = { 0 };
    kwr_status status = open_inline(l, dir, &size, &why);
    if (status >= KWR_OK) {
        l->result.files++;
        if (size != wanted) {
            at = size < wanted ? size : wanted;
            status = KWR_FAIL(
                &why, KWR_ERR_CORRUPT, 0,
                "'%s' is damaged at offset %llu: it has %llu bytes, %llu were written", l->path,
                (unsigned long long)at, (unsigned long long)size, (unsigned long long)wanted);
        } else {
            memset(usable, 1, l->unit->ref_count * sizeof *usable);
        }
    }
    if (status >= KWR_OK) {
        status = digest_inline(l, &digest, &why);
        if (status >= KWR_OK && !kwr_digest_equal(&digest, &l->unit->of_inline->inline_digest))
            status = KWR_FAIL(&why, KWR_ERR_CORRUPT, 0,
                              "'%s' is damaged at offset 0: its digest is not the one in the "
                              "manifest",
                              l->path);
    }
    KWR_TRY(settle_part(l, status, NULL, at, 0, &why));
    for (size_t i = 0; i < l->unit->ref_count; i++)
        if (!usable[i]) __atomic_store_n(&l->unit->refs[i]->tally->incomplete, 1, __ATOMIC_RELAXED);
    return KWR_OK;
}

/* Its parts, each a data file of its own. */
static kwr_status check_inline_parts(look *l) {
    const kwr_inspect_unit *whole = l->unit;
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < whole->ref_count && status >= KWR_OK; i++) {
        const kwr_inspect_unit part = { .refs = whole->refs + i,
                                        .ref_count = 1,
                                        .of_inline = whole->of_inline,
                                        .bytes = whole->bytes };
        const bool usable = true;
        l->unit = &part;
        l->sound[0] = false;
        status = check_parts(l, &usable);
        kwr_data_file_close(&l->files[0]);
        l->files[0] = (kwr_data_file){ .env = l->in->env };
        l->unit = whole;
    }
    return status;
}

static kwr_status check_inline(look *l, bool *usable) {
    const kwr_job_dirs *dirs = l->in->options.dirs;
    kwr_storage_dir *dir = NULL;
    kwr_status status = check_inline_in(l, &dir, usable);
    if (status >= KWR_OK && usable[0]) status = check_inline_parts(l);
    if (l->reader != NULL) dirs->storage->ops->close_reader(dirs->storage, l->reader);
    l->reader = NULL;
    if (dir != NULL) dirs->storage->ops->dir_close(dirs->storage, dir);
    return status;
}

/* ---- a unit ---- */

kwr_status kwr_inspect_unit_check(kwr_inspect_worker *worker, const kwr_inspect_unit *unit,
                                  kwr_error *err) {
    kwr_inspection *in = worker->inspection;
    const size_t refs = unit->ref_count;
    look l = { .worker = worker, .in = in, .unit = unit, .err = err };
    l.files = kwr_alloc_array(in->env, refs, sizeof *l.files);
    bool *flags = kwr_calloc(in->env, 3 * refs * sizeof *flags);
    kwr_status status = KWR_OK;
    if (l.files == NULL || flags == NULL) {
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check files");
    } else {
        for (size_t i = 0; i < refs; i++)
            l.files[i] = (kwr_data_file){ .env = in->env };
        l.sound = flags;
        l.hit = flags + refs;
        status = unit->of_inline != NULL ? check_inline(&l, flags + 2 * refs)
                                         : check_shared(&l, flags + 2 * refs);
        for (size_t i = 0; i < refs; i++)
            kwr_data_file_close(&l.files[i]);
        if (l.reader != NULL)
            in->options.dirs->storage->ops->close_reader(in->options.dirs->storage, l.reader);
    }
    kwr_free(in->env, l.files, refs * sizeof *l.files);
    kwr_free(in->env, flags, 3 * refs * sizeof *flags);
    kwr_inspect_advance(in, &l.result, unit->bytes - l.done, 1);
    return status;
}
