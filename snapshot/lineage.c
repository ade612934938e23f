/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lineages: a base, and the candidates above it. All of it is small and under one lock; the sets
 * themselves are immutable once offered and shared by reference.
 */
#include "snapshot/lineage.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/name.h"
#include "base/thread.h"
#include "snapshot/page_base.h"
#include "snapshot/log.h"

enum { CANDIDATES_MAX = 4 };

typedef struct candidate {
    uint64_t checkpoint;
    kwr_lineage_set *set;
} candidate;

struct kwr_lineage {
    const kwr_env *env;
    uint8_t job_uid[16];
    char operator_id[KWR_JOB_NAME_MAX + 1];
    kwr_mutex mutex;
    kwr_lineage_set *base; /* NULL: none */
    kwr_lineage_set *held; /* what was restored, while it is loading; or NULL */
    candidate candidates[CANDIDATES_MAX];
    size_t candidate_count;
    /* Highest checkpoint whose candidate had no room: until something above it is confirmed
     * nothing is known to be kept. */
    uint64_t blind;
};

/* ---- sets ---- */

kwr_lineage_set *kwr_lineage_set_new(const kwr_env *env) {
    kwr_lineage_set *set = kwr_calloc(env, sizeof *set);
    if (set == NULL) return NULL;
    set->env = env;
    set->references = 1;
    set->arena = kwr_arena_new(env, 0);
    if (set->arena != NULL) return set;
    kwr_free(env, set, sizeof *set);
    return NULL;
}

void kwr_lineage_set_release(kwr_lineage_set *set) {
    if (set == NULL) return;
    if (__atomic_sub_fetch(&set->references, 1, __ATOMIC_ACQ_REL) != 0) return;
    const kwr_env *env = set->env;
    kwr_free(env, set->files, set->file_capacity * sizeof *set->files);
    kwr_free(env, set->items, set->item_capacity * sizeof *set->items);
    kwr_free(env, set->table, set->table_size * sizeof *set->table);
    kwr_arena_free(set->arena);
    kwr_page_base_free(set->pages);
    kwr_free(env, set, sizeof *set);
}

static kwr_lineage_set *retain(kwr_lineage_set *set) {
    if (set != NULL) __atomic_add_fetch(&set->references, 1, __ATOMIC_RELAXED);
    return set;
}

kwr_lineage_set *kwr_lineage_set_retain(kwr_lineage_set *set) { return retain(set); }

void kwr_lineage_set_loading(kwr_lineage_set *set) {
    __atomic_store_n(&set->loading, 1, __ATOMIC_RELAXED);
}
void kwr_lineage_set_loaded(kwr_lineage_set *set) {
    __atomic_store_n(&set->loading, 0, __ATOMIC_RELEASE);
}

static uint64_t text_hash(const char *text) { return kwr_hash64(text, strlen(text), 0); }

kwr_status kwr_lineage_set_file(kwr_lineage_set *set, const kwr_manifest_file *file,
                                uint32_t *index) {
    if (set->file_count >= UINT32_MAX - 1) return KWR_ERR_RANGE;
    void *files = set->files;
    if (!kwr_grow_array(set->env, &files, &set->file_capacity, set->file_count + 1,
                        sizeof *set->files))
        return KWR_ERR_NOMEM;
    set->files = files;
    kwr_manifest_file copy = *file;
    copy.name = kwr_arena_string(set->arena, file->name, strlen(file->name));
    if (copy.name == NULL) return KWR_ERR_NOMEM;
    *index = (uint32_t)set->file_count;
    set->files[set->file_count++] = copy;
    return KWR_OK;
}

kwr_status kwr_lineage_set_pages(kwr_lineage_set *set, kwr_page_base *pages) {
    set->pages = pages;
    for (size_t i = 0; i < pages->file_count; i++) {
        uint32_t index;
        if (pages->files[i].listed.name != NULL)
            KWR_TRY(kwr_lineage_set_file(set, &pages->files[i].listed, &index));
    }
    return KWR_OK;
}

static void table_put(uint32_t *table, size_t size, uint64_t hash, uint32_t value) {
    size_t at = hash & (size - 1);
    while (table[at] != 0)
        at = (at + 1) & (size - 1);
    table[at] = value;
}

static bool table_grow(kwr_lineage_set *set) {
    if (set->item_count * 2 < set->table_size) return true;
    const size_t size = set->table_size == 0 ? 16 : set->table_size * 2;
    uint32_t *table = kwr_alloc_array(set->env, size, sizeof *table);
    if (table == NULL) return false;
    memset(table, 0, size * sizeof *table);
    for (size_t i = 0; i < set->item_count; i++)
        table_put(table, size, text_hash(set->items[i].identity), (uint32_t)i + 1);
    kwr_free(set->env, set->table, set->table_size * sizeof *set->table);
    set->table = table;
    set->table_size = size;
    return true;
}

kwr_status kwr_lineage_set_item(kwr_lineage_set *set, const kwr_lineage_item *item) {
    if (set->item_count >= UINT32_MAX - 1) return KWR_ERR_RANGE;
    void *items = set->items;
    if (!kwr_grow_array(set->env, &items, &set->item_capacity, set->item_count + 1,
                        sizeof *set->items))
        return KWR_ERR_NOMEM;
    set->items = items;
    kwr_lineage_item copy = *item;
    copy.identity = kwr_arena_string(set->arena, item->identity, strlen(item->identity));
    if (copy.identity == NULL || !table_grow(set)) return KWR_ERR_NOMEM;
    set->items[set->item_count++] = copy;
    table_put(set->table, set->table_size, text_hash(copy.identity), (uint32_t)set->item_count);
    return KWR_OK;
}

const kwr_lineage_item *kwr_lineage_set_find(const kwr_lineage_set *set, const char *identity) {
    if (set->table_size == 0) return NULL;
    for (size_t at = text_hash(identity) & (set->table_size - 1); set->table[at] != 0;
         at = (at + 1) & (set->table_size - 1)) {
        const kwr_lineage_item *item = &set->items[set->table[at] - 1];
        if (strcmp(item->identity, identity) == 0) return item;
    }
    return NULL;
}

/* ---- life ---- */

kwr_status kwr_lineage_new(const kwr_env *env, const uint8_t job_uid[16], const char *operator_id,
                           kwr_lineage **out, kwr_error *err) {
    if (env == NULL || job_uid == NULL || operator_id == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_lineage_new: an argument is NULL");
    if (!kwr_name_ok(operator_id, KWR_JOB_NAME_MAX, true))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_lineage_new: operator_id is not 1 to %d of A-Z a-z 0-9 . _ -",
                        KWR_JOB_NAME_MAX);
    kwr_lineage *lineage = kwr_calloc(env, sizeof *lineage);
    if (lineage == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a lineage");
    lineage->env = env;
    memcpy(lineage->job_uid, job_uid, sizeof lineage->job_uid);
    memcpy(lineage->operator_id, operator_id, strlen(operator_id));
    kwr_mutex_init(&lineage->mutex);
    *out = lineage;
    return KWR_OK;
}

static void drop_candidate(kwr_lineage *l, size_t index) {
    kwr_lineage_set_release(l->candidates[index].set);
    l->candidate_count--;
    memmove(l->candidates + index, l->candidates + index + 1,
            (l->candidate_count - index) * sizeof *l->candidates);
}

void kwr_lineage_free(kwr_lineage *lineage) {
    if (lineage == NULL) return;
    while (lineage->candidate_count > 0)
        drop_candidate(lineage, lineage->candidate_count - 1);
    kwr_lineage_set_release(lineage->base);
    kwr_lineage_set_release(lineage->held);
    kwr_mutex_done(&lineage->mutex);
    kwr_free(lineage->env, lineage, sizeof *lineage);
}

bool kwr_lineage_is_of_job(const kwr_lineage *lineage, const uint8_t job_uid[16]) {
    return memcmp(lineage->job_uid, job_uid, sizeof lineage->job_uid) == 0;
}

bool kwr_lineage_is_of(const kwr_lineage *lineage, const uint8_t job_uid[16],
                       const char *operator_id) {
    return kwr_lineage_is_of_job(lineage, job_uid) &&
           strcmp(lineage->operator_id, operator_id) == 0;
}

kwr_digest kwr_lineage_operator_digest(const kwr_lineage *lineage) {
    return kwr_digest_of(lineage->operator_id, strlen(lineage->operator_id));
}

/* ---- the fate of checkpoints ---- */

static void set_base(kwr_lineage *l, kwr_lineage_set *set) {
    kwr_lineage_set_release(l->base);
    l->base = set;
}

void kwr_lineage_offer(kwr_lineage *lineage, uint64_t checkpoint, kwr_lineage_set *set) {
    kwr_mutex_lock(&lineage->mutex);
    if (lineage->candidate_count == CANDIDATES_MAX) {
        /* It may have completed, and it will not be asked any more what it keeps. */
        if (lineage->blind < lineage->candidates[0].checkpoint)
            lineage->blind = lineage->candidates[0].checkpoint;
        drop_candidate(lineage, 0);
    }
    lineage->candidates[lineage->candidate_count++] =
        (candidate){ .checkpoint = checkpoint, .set = set };
    kwr_mutex_unlock(&lineage->mutex);
}

void kwr_lineage_confirm(kwr_lineage *lineage, uint64_t checkpoint) {
    kwr_lineage_set *base = NULL;
    kwr_mutex_lock(&lineage->mutex);
    while (lineage->candidate_count > 0 && lineage->candidates[0].checkpoint <= checkpoint) {
        if (lineage->candidates[0].checkpoint == checkpoint)
            base = retain(lineage->candidates[0].set);
        drop_candidate(lineage, 0);
    }
    /* Without a candidate of that checkpoint it is not known what it keeps. */
    set_base(lineage, base);
    if (lineage->blind <= checkpoint) lineage->blind = 0;
    kwr_mutex_unlock(&lineage->mutex);
}

void kwr_lineage_abort(kwr_lineage *lineage, uint64_t checkpoint) {
    kwr_mutex_lock(&lineage->mutex);
    for (size_t i = 0; i < lineage->candidate_count; i++)
        if (lineage->candidates[i].checkpoint == checkpoint) {
            drop_candidate(lineage, i);
            break;
        }
    kwr_mutex_unlock(&lineage->mutex);
}

void kwr_lineage_restored(kwr_lineage *lineage, kwr_lineage_set *set) {
    kwr_mutex_lock(&lineage->mutex);
    while (lineage->candidate_count > 0)
        drop_candidate(lineage, 0);
    lineage->blind = 0;
    set_base(lineage, set);
    kwr_lineage_set_release(lineage->held);
    lineage->held = __atomic_load_n(&set->loading, __ATOMIC_RELAXED) != 0 ? retain(set) : NULL;
    kwr_mutex_unlock(&lineage->mutex);
}

/* ---- what may be referred to ---- */

/* Names of one set's files, to look others up in. */
typedef struct name_table {
    uint32_t *slots;
    size_t size;
} name_table;

static bool names_fill(const kwr_lineage_set *set, name_table *out) {
    size_t size = 16;
    while (size < set->file_count * 2)
        size *= 2;
    out->slots = kwr_alloc_array(set->env, size, sizeof *out->slots);
    if (out->slots == NULL) return false;
    memset(out->slots, 0, size * sizeof *out->slots);
    out->size = size;
    for (size_t i = 0; i < set->file_count; i++)
        table_put(out->slots, size, text_hash(set->files[i].name), (uint32_t)i + 1);
    return true;
}

static bool names_have(const kwr_lineage_set *set, const name_table *table, const char *name) {
    for (size_t at = text_hash(name) & (table->size - 1); table->slots[at] != 0;
         at = (at + 1) & (table->size - 1))
        if (strcmp(set->files[table->slots[at] - 1].name, name) == 0) return true;
    return false;
}

static kwr_status keep_common(kwr_lineage_base *base, const kwr_lineage_set *with) {
    name_table table = { 0 };
    if (!names_fill(with, &table)) return KWR_ERR_NOMEM;
    for (size_t i = 0; i < base->set->file_count; i++)
        base->usable[i] = base->usable[i] && names_have(with, &table, base->set->files[i].name);
    kwr_free(with->env, table.slots, table.size * sizeof *table.slots);
    return KWR_OK;
}

kwr_status kwr_lineage_begin(kwr_lineage *lineage, kwr_lineage_base *out) {
    kwr_lineage_base base = { .env = lineage->env };
    kwr_lineage_set *open[CANDIDATES_MAX];
    size_t open_count = 0;
    kwr_mutex_lock(&lineage->mutex);
    if (lineage->held != NULL && __atomic_load_n(&lineage->held->loading, __ATOMIC_ACQUIRE) == 0) {
        kwr_lineage_set_release(lineage->held);
        lineage->held = NULL;
    }
    base.all = lineage->held != NULL;
    if (lineage->blind == 0) base.set = retain(lineage->base);
    /* All checkpoints since the restore refer to these files: they are there, whatever completed.
     */
    if (base.set == NULL) base.set = retain(lineage->held);
    for (size_t i = 0; base.set != NULL && i < lineage->candidate_count; i++)
        open[open_count++] = retain(lineage->candidates[i].set);
    kwr_mutex_unlock(&lineage->mutex);
    kwr_status status = KWR_OK;
    if (base.set != NULL) {
        base.usable = kwr_alloc_array(base.env, base.set->file_count, sizeof *base.usable);
        if (base.usable == NULL)
            status = KWR_ERR_NOMEM;
        else
            memset(base.usable, 1, base.set->file_count * sizeof *base.usable);
    }
    for (size_t i = 0; i < open_count; i++) {
        if (status >= KWR_OK) status = keep_common(&base, open[i]);
        kwr_lineage_set_release(open[i]);
    }
    if (status < KWR_OK) {
        kwr_lineage_base_done(&base);
        return status;
    }
    *out = base;
    return KWR_OK;
}

void kwr_lineage_base_done(kwr_lineage_base *base) {
    if (base->set == NULL) return;
    kwr_free(base->env, base->usable, base->set->file_count * sizeof *base->usable);
    kwr_lineage_set_release(base->set);
    *base = (kwr_lineage_base){ 0 };
}
