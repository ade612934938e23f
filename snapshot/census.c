/* SPDX-License-Identifier: Apache-2.0 */
/* Listing a job's directories, and judging what is in them. */
#include "snapshot/census.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/name.h"
#include "base/sort.h"
#include "snapshot/storage.h"

/* ---- listing ---- */

typedef struct listing {
    kwr_census *census;
    kwr_census_place place;
    uint64_t checkpoint, generation; /* of the directory that is listed */
} listing;

/* What stands between ".tmp-" and "-<16 hex digits>"; false: it is no temporary name. */
static bool temp_of(const char *name, char of[KWR_FILE_NAME_MAX]) {
    const size_t size = strlen(name);
    if (size < 5 + 1 + 1 + 16 || size >= KWR_FILE_NAME_MAX) return false;
    memcpy(of, name + 5, size - 5 - 17);
    of[size - 5 - 17] = '\0';
    return kwr_temp_name_of(name, of);
}

/* Whether a name is ours where it lies, and whose. */
static void understand(kwr_census_name *n, const char *name) {
    uint32_t subtask;
    uint64_t sequence;
    switch (n->place) {
    case KWR_CENSUS_LOG: n->ours = kwr_slot_name_parse(name, &n->slot); break;
    case KWR_CENSUS_ROOT:
        n->ours = kwr_checkpoint_dir_parse(name, &n->checkpoint, &n->generation);
        break;
    case KWR_CENSUS_CHECKPOINT:
        n->ours = strcmp(name, "manifest.json") == 0 || strcmp(name, "inline") == 0;
        break;
    case KWR_CENSUS_SHARED:
        n->ours = kwr_shared_name_parse(name, &n->generation, NULL, &subtask, &sequence);
        break;
    }
}

static kwr_status on_name(void *ctx, const char *name) {
    const listing *l = ctx;
    kwr_census *census = l->census;
    const bool fixed =
        strcmp(name, "log") == 0 || strcmp(name, "shared") == 0 || strcmp(name, "lock") == 0;
    if (l->place == KWR_CENSUS_ROOT && fixed) return KWR_OK;
    void *items = census->names;
    if (!kwr_grow_array(census->env, &items, &census->capacity, census->count + 1,
                        sizeof *census->names))
        return KWR_ERR_NOMEM;
    census->names = items;
    kwr_census_name *n = kwr_arena_alloc(census->arena, sizeof *n);
    if (n == NULL) return KWR_ERR_NOMEM;
    *n = (kwr_census_name){ .place = l->place,
                            .checkpoint = l->checkpoint,
                            .generation = l->generation,
                            .name = kwr_arena_string(census->arena, name, strlen(name)) };
    if (n->name == NULL) return KWR_ERR_NOMEM;
    understand(n, name);
    char of[KWR_FILE_NAME_MAX];
    if (!n->ours && temp_of(name, of)) {
        understand(n, of);
        n->temporary = n->ours;
    }
    census->names[census->count++] = n;
    return KWR_OK;
}

static kwr_status list(const kwr_job_dirs *dirs, kwr_storage_dir *dir, listing l, kwr_error *err) {
    const kwr_status status = dirs->storage->ops->list(dirs->storage, dir, "", on_name, &l, err);
    if (status != KWR_ERR_NOMEM) return status;
    return KWR_FAIL(err, status, 0, "no memory for the names of job '%s'", dirs->job);
}

static kwr_status list_checkpoint(const kwr_job_dirs *dirs, kwr_census *census,
                                  const kwr_census_name *of, kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    kwr_storage_dir *dir = NULL;
    kwr_status status = storage->ops->dir_open(storage, dirs->root, of->name, false, &dir, err);
    if (status == KWR_ERR_MISSING || status == KWR_ERR_MISMATCH) return KWR_OK;
    KWR_TRY(status);
    status = list(dirs, dir,
                  (listing){ .census = census,
                             .place = KWR_CENSUS_CHECKPOINT,
                             .checkpoint = of->checkpoint,
                             .generation = of->generation },
                  err);
    storage->ops->dir_close(storage, dir);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}

static kwr_status take(const kwr_job_dirs *dirs, kwr_census *census, kwr_error *err) {
    const listing root = { .census = census, .place = KWR_CENSUS_ROOT };
    const listing shared = { .census = census, .place = KWR_CENSUS_SHARED };
    const listing log = { .census = census, .place = KWR_CENSUS_LOG };
    KWR_TRY(list(dirs, dirs->root, root, err));
    const size_t count = census->count;
    for (size_t i = 0; i < count; i++)
        if (census->names[i]->ours && !census->names[i]->temporary)
            KWR_TRY(list_checkpoint(dirs, census, census->names[i], err));
    if (dirs->shared != NULL) KWR_TRY(list(dirs, dirs->shared, shared, err));
    return dirs->log == NULL ? KWR_OK : list(dirs, dirs->log, log, err);
}

static uint64_t rank_of(const kwr_census_name *n) {
    if (n->place == KWR_CENSUS_LOG) return n->slot;
    return n->checkpoint;
}

/* The record before the data; a directory before what is in it, the manifest of that first. */
static int compare_names(const void *a, const void *b) {
    const kwr_census_name *x = a, *y = b;
    const bool data_x = x->place == KWR_CENSUS_SHARED, data_y = y->place == KWR_CENSUS_SHARED;
    const bool log_x = x->place == KWR_CENSUS_LOG, log_y = y->place == KWR_CENSUS_LOG;
    if (log_x != log_y) return log_x ? -1 : 1;
    if (data_x != data_y) return data_x ? 1 : -1;
    if (rank_of(x) != rank_of(y)) return rank_of(x) < rank_of(y) ? -1 : 1;
    if (x->generation != y->generation) return x->generation < y->generation ? -1 : 1;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return strcmp(x->name, y->name);
}

kwr_status kwr_census_take(const kwr_job_dirs *dirs, kwr_census *out, kwr_error *err) {
    kwr_census census = { .env = dirs->env, .arena = kwr_arena_new(dirs->env, 0) };
    if (census.arena == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the names of job '%s'", dirs->job);
    const kwr_status status = take(dirs, &census, err);
    if (status < KWR_OK) {
        kwr_census_free(&census);
        return status;
    }
    if (census.count > 0) kwr_sort((void **)census.names, census.count, compare_names);
    *out = census;
    return KWR_OK;
}

void kwr_census_free(kwr_census *census) {
    if (census->env == NULL) return;
    kwr_free(census->env, census->names, census->capacity * sizeof *census->names);
    if (census->arena != NULL) kwr_arena_free(census->arena);
    *census = (kwr_census){ 0 };
}

/* ---- what is needed ---- */

static kwr_status need_file(kwr_census_needs *needs, const char *name) {
    void *items = needs->names;
    if (!kwr_grow_array(needs->env, &items, &needs->capacity, needs->count + 1,
                        sizeof *needs->names))
        return KWR_ERR_NOMEM;
    needs->names = items;
    needs->names[needs->count++] = name;
    return KWR_OK;
}

static kwr_status need_subtask(kwr_census_needs *needs, const kwr_manifest_subtask *subtask) {
    for (size_t i = 0; i < subtask->file_count; i++)
        if (subtask->files[i].name != NULL) KWR_TRY(need_file(needs, subtask->files[i].name));
    return KWR_OK;
}

kwr_status kwr_census_need(kwr_census_needs *needs, const kwr_manifest *manifest) {
    void *items = needs->manifests;
    if (!kwr_grow_array(needs->env, &items, &needs->manifest_capacity, needs->manifest_count + 1,
                        sizeof *needs->manifests))
        return KWR_ERR_NOMEM;
    needs->manifests = items;
    needs->manifests[needs->manifest_count++] = manifest;
    for (size_t i = 0; i < manifest->operator_count; i++) {
        const kwr_manifest_operator *op = &manifest->operators[i];
        for (uint32_t j = 0; j < op->parallelism; j++)
            for (const kwr_manifest_subtask *s = &op->subtasks[j]; s != NULL; s = s->operator_state)
                KWR_TRY(need_subtask(needs, s));
    }
    return KWR_OK;
}

void kwr_census_needs_free(kwr_census_needs *needs) {
    if (needs->env == NULL) return;
    kwr_free(needs->env, needs->names, needs->capacity * sizeof *needs->names);
    kwr_free(needs->env, needs->manifests, needs->manifest_capacity * sizeof *needs->manifests);
    *needs = (kwr_census_needs){ 0 };
}

static int compare_text(const void *a, const void *b) { return strcmp(a, b); }

static bool is_needed_file(const kwr_census_needs *needs, const char *name) {
    size_t low = 0, high = needs->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(needs->names[middle], name);
        if (order == 0) return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* NULL: no slot names it, or its manifest is not among the needs. */
static const kwr_manifest *manifest_of(const kwr_census_needs *needs, uint64_t checkpoint,
                                       uint64_t generation) {
    for (size_t i = 0; i < needs->manifest_count; i++)
        if (needs->manifests[i]->checkpoint == checkpoint &&
            needs->manifests[i]->generation == generation)
            return needs->manifests[i];
    return NULL;
}

/* ---- judging ---- */

static bool in_log(const kwr_log *log, uint64_t checkpoint, uint64_t generation) {
    for (size_t i = 0; i < log->count; i++)
        if (log->slots[i].kind == KWR_SLOT_CHECKPOINT && log->slots[i].checkpoint == checkpoint &&
            log->slots[i].generation == generation)
            return true;
    return false;
}

static bool is_needed(const kwr_census_name *n, const kwr_log *log, const kwr_census_needs *needs) {
    const kwr_manifest *manifest = NULL;
    if (n->temporary) return false;
    switch (n->place) {
    case KWR_CENSUS_LOG: return log->count > 0 && n->slot >= kwr_log_floor(log);
    case KWR_CENSUS_ROOT: return in_log(log, n->checkpoint, n->generation);
    case KWR_CENSUS_CHECKPOINT:
        if (!in_log(log, n->checkpoint, n->generation)) return false;
        manifest = manifest_of(needs, n->checkpoint, n->generation);
        return manifest == NULL || manifest->inline_length > 0 || strcmp(n->name, "inline") != 0;
    case KWR_CENSUS_SHARED: return is_needed_file(needs, n->name);
    }
    return true;
}

static kwr_fsck_kind judge(const kwr_census_name *n, const kwr_log *log,
                           const kwr_census_needs *needs, uint64_t generation) {
    if (!n->ours)
        return n->place == KWR_CENSUS_SHARED && is_needed_file(needs, n->name) ? 0
                                                                               : KWR_FSCK_FOREIGN;
    if (is_needed(n, log, needs)) return 0;
    if (log->count == 0) return KWR_FSCK_MISSING;
    const kwr_slot *top = &log->slots[log->count - 1];
    /* Whoever still writes a slot that is decided can only lose. */
    if (n->place == KWR_CENSUS_LOG)
        return n->slot <= top->number ? KWR_FSCK_LEFTOVER : KWR_FSCK_IN_PROGRESS;
    if (n->generation < generation) return KWR_FSCK_LEFTOVER;
    return n->generation <= top->generation ? KWR_FSCK_IN_PROGRESS : KWR_FSCK_MISSING;
}

void kwr_census_judge(kwr_census *census, const kwr_log *log, kwr_census_needs *needs,
                      uint64_t generation) {
    if (needs->count > 0) kwr_sort((void **)needs->names, needs->count, compare_text);
    for (size_t i = 0; i < census->count; i++)
        census->names[i]->kind = judge(census->names[i], log, needs, generation);
}

/* ---- about a name ---- */

void kwr_census_path(const kwr_census_name *name, char *out, size_t capacity) {
    char dir[KWR_FILE_NAME_MAX];
    switch (name->place) {
    case KWR_CENSUS_LOG: snprintf(out, capacity, "log/%s", name->name); break;
    case KWR_CENSUS_ROOT: snprintf(out, capacity, "%s%s", name->name, name->ours ? "/" : ""); break;
    case KWR_CENSUS_CHECKPOINT:
        kwr_checkpoint_dir_name(name->checkpoint, name->generation, dir);
        snprintf(out, capacity, "%s/%s", dir, name->name);
        break;
    case KWR_CENSUS_SHARED: snprintf(out, capacity, "shared/%s", name->name); break;
    }
}

/* False: it is not there, or cannot be opened. */
static kwr_status file_size(const kwr_job_dirs *dirs, const kwr_census_name *name, uint64_t *size) {
    kwr_storage *storage = dirs->storage;
    kwr_storage_dir *dir = NULL, *opened = NULL;
    kwr_storage_reader *reader = NULL;
    if (name->place == KWR_CENSUS_LOG) dir = dirs->log;
    if (name->place == KWR_CENSUS_SHARED) dir = dirs->shared;
    if (name->place == KWR_CENSUS_CHECKPOINT) {
        char of[KWR_FILE_NAME_MAX];
        kwr_checkpoint_dir_name(name->checkpoint, name->generation, of);
        KWR_TRY(storage->ops->dir_open(storage, dirs->root, of, false, &opened, NULL));
        dir = opened;
    }
    kwr_status status = KWR_ERR_MISSING;
    if (dir != NULL) status = storage->ops->open(storage, dir, name->name, &reader, size, NULL);
    if (status >= KWR_OK) storage->ops->close_reader(storage, reader);
    if (opened != NULL) storage->ops->dir_close(storage, opened);
    return status;
}

uint64_t kwr_census_size(const kwr_job_dirs *dirs, const kwr_census *census,
                         const kwr_census_name *name) {
    uint64_t sum = 0, size = 0;
    if (!name->ours) return 0;
    if (name->place != KWR_CENSUS_ROOT) {
        (void)file_size(dirs, name, &sum);
        return sum;
    }
    for (size_t i = 0; i < census->count; i++) {
        const kwr_census_name *in = census->names[i];
        if (in->place == KWR_CENSUS_CHECKPOINT && in->ours && in->checkpoint == name->checkpoint &&
            in->generation == name->generation && file_size(dirs, in, &size) >= KWR_OK)
            sum += size;
    }
    return sum;
}

bool kwr_census_exists(const kwr_job_dirs *dirs, const kwr_census_name *name) {
    kwr_storage *storage = dirs->storage;
    uint64_t size = 0;
    if (name->place != KWR_CENSUS_ROOT) return file_size(dirs, name, &size) != KWR_ERR_MISSING;
    kwr_storage_dir *dir = NULL;
    const kwr_status status =
        storage->ops->dir_open(storage, dirs->root, name->name, false, &dir, NULL);
    if (status >= KWR_OK) storage->ops->dir_close(storage, dir);
    return status != KWR_ERR_MISSING;
}
