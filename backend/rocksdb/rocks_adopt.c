/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database out of others' directories, at a restore. The donor that holds most of what is owned
 * becomes the database as it stands: its files move in, what lies wholly in others' key groups is
 * dropped by the file, the rest of that is deleted as a range. What other donors hold is added by
 * sorted bulk load. Family "state-N" is state N before and after.
 */
#include <stdio.h>

#include "backend/rocksdb/rocks.h"

typedef struct adoption {
    kwr_engine *e;
    rocks_db *db;
    const kwr_engine_donor *donors;
    size_t count;
    size_t base; /* SIZE_MAX: none, all of them are loaded */
    kwr_arena *arena;
    kwr_error *err;
} adoption;

kwr_status kwr_rocks_report(kwr_error *err, char *words, const char *doing, const char *directory) {
    kwr_status status = KWR_ERR_IO;
    const char *advice = "look at the disk";
    if (strstr(words, "No space") != NULL) {
        status = KWR_ERR_NOSPACE;
        advice = "make room on its disk and start again";
    } else if (strstr(words, "Corruption") != NULL) {
        status = KWR_ERR_CORRUPT;
        advice = "restore an older checkpoint";
    }
    (void)KWR_FAIL(err, status, 0, "engine rocksdb: '%s': cannot %s: %s; %s", directory, doing,
                   words, advice);
    rocksdb_free(words);
    return status;
}

static kwr_status no_memory(adoption *a) {
    return KWR_FAIL(a->err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory to restore '%s'",
                    a->db->directory);
}

/* ---- key groups ---- */

static uint32_t end_of(kwr_key_group_range range) { return range.first + range.count; }

static kwr_key_group_range common(kwr_key_group_range a, kwr_key_group_range b) {
    const uint32_t first = a.first > b.first ? a.first : b.first;
    const uint32_t end = end_of(a) < end_of(b) ? end_of(a) : end_of(b);
    return (kwr_key_group_range){ first, first < end ? end - first : 0 };
}

static kwr_key_group_range share_of(const adoption *a, size_t donor) {
    return common(a->e->key_groups, a->donors[donor].key_groups);
}

/* The keys around those of a range of key groups: [low, first) and [end, high). No key is as short
 * as these. */
typedef struct outside {
    uint8_t low[2], first[2], end[2], high[2];
} outside;

static outside outside_of(kwr_key_group_range range) {
    const uint32_t first = range.first, end = end_of(range);
    return (outside){ .low = { 0, 0 },
                      .first = { (uint8_t)(first >> 8), (uint8_t)first },
                      .end = { (uint8_t)(end >> 8), (uint8_t)end },
                      .high = { 0xff, 0xff } };
}

/* ---- what the donors are ---- */

static kwr_status check_states(adoption *a, const kwr_engine_donor *donor) {
    for (size_t i = 0; i < donor->state_count; i++) {
        bool good = donor->states[i] < a->e->state_count;
        for (size_t j = 0; j < i && good; j++)
            good = donor->states[i] != donor->states[j];
        if (!good)
            return KWR_FAIL(a->err, KWR_ERR_MISUSE, 0,
                            "engine rocksdb: state %zu of '%s' has no state of its own here", i,
                            donor->directory);
    }
    return KWR_OK;
}

static kwr_status check_donors(adoption *a) {
    for (size_t i = 0; i < a->count; i++) {
        KWR_TRY(check_states(a, &a->donors[i]));
        for (size_t j = 0; j < i; j++)
            if (common(a->donors[i].key_groups, a->donors[j].key_groups).count > 0)
                return KWR_FAIL(a->err, KWR_ERR_MISUSE, 0,
                                "engine rocksdb: '%s' and '%s' hold the same key groups",
                                a->donors[j].directory, a->donors[i].directory);
    }
    if (atomic_load_explicit(&a->db->references, memory_order_relaxed) == 1) return KWR_OK;
    return KWR_FAIL(a->err, KWR_ERR_MISUSE, 0, "engine rocksdb: '%s' has views already",
                    a->db->directory);
}

/* Families cannot be renamed: a donor with other numbers for its states is only read. */
static bool has_our_numbers(const kwr_engine_donor *donor) {
    for (size_t i = 0; i < donor->state_count; i++)
        if (donor->states[i] != i) return false;
    return true;
}

static void choose_base(adoption *a) {
    uint32_t most = 0;
    a->base = SIZE_MAX;
    for (size_t i = 0; i < a->count; i++) {
        const uint32_t share = share_of(a, i).count;
        if (share <= most || !has_our_numbers(&a->donors[i])) continue;
        most = share;
        a->base = i;
    }
}

/* ---- opening ---- */

/* What a donor is opened by: the default family, then one for each of its states. */
typedef struct opening {
    size_t count;
    const char **names;
    const rocksdb_options_t **options;
    rocksdb_column_family_handle_t **families;
} opening;

static bool is_there(char *const *names, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static kwr_status check_families(adoption *a, const char *directory, const opening *o) {
    char *words = NULL;
    size_t count = 0;
    char **there = rocksdb_list_column_families(a->db->options, directory, &count, &words);
    bool good = count == o->count;
    for (size_t i = 0; i < o->count && good; i++)
        good = is_there(there, count, o->names[i]);
    if (there != NULL) rocksdb_list_column_families_destroy(there, count); /* also of a failure */
    if (words != NULL) return kwr_rocks_report(a->err, words, "list column families", directory);
    if (good) return KWR_OK;
    return KWR_FAIL(a->err, KWR_ERR_CORRUPT, 0,
                    "engine rocksdb: '%s' has not the column families of its %zu states; restore "
                    "an older checkpoint",
                    directory, o->count - 1);
}

static kwr_status plan_opening(adoption *a, const kwr_engine_donor *donor, const char *directory,
                               opening *o) {
    o->count = donor->state_count + 1;
    o->names = kwr_arena_array(a->arena, o->count, sizeof *o->names);
    o->options = kwr_arena_array(a->arena, o->count, sizeof *o->options);
    o->families = kwr_arena_array(a->arena, o->count, sizeof *o->families);
    if (o->names == NULL || o->options == NULL || o->families == NULL || o->count > INT32_MAX)
        return no_memory(a);
    o->names[0] = "default";
    o->options[0] = a->db->options;
    for (size_t i = 0; i < donor->state_count; i++) {
        char name[32];
        const int size = snprintf(name, sizeof name, "state-%zu", i);
        o->names[i + 1] = kwr_arena_string(a->arena, name, (size_t)size);
        if (o->names[i + 1] == NULL) return no_memory(a);
        o->options[i + 1] = a->db->options;
    }
    return check_families(a, directory, o);
}

/* The base as the engine's database, in place of an empty one where that was opened. */
static kwr_status open_base(adoption *a) {
    const kwr_engine_donor *donor = &a->donors[a->base];
    rocks_db *db = a->db;
    opening o;
    KWR_TRY(plan_opening(a, donor, donor->directory, &o));
    void *families = db->families;
    if (!kwr_grow_array(db->env, &families, &db->family_capacity, a->e->state_count,
                        sizeof *db->families))
        return no_memory(a);
    db->families = families;
    kwr_rocks_db_close(db);
    for (size_t i = 0; i < a->e->state_count; i++)
        a->e->states[i].family = NULL;
    db->ours = true;
    KWR_TRY(kwr_rocks_move_database(db->env, donor->directory, db->directory, a->err));
    rocksdb_options_set_error_if_exists(db->options, 0);
    rocksdb_options_set_create_if_missing(db->options, 0);
    char *words = NULL;
    rocksdb_t *opened = rocksdb_open_column_families(db->options, db->directory, (int)o.count,
                                                     o.names, o.options, o.families, &words);
    if (words != NULL) return kwr_rocks_report(a->err, words, "open the database", db->directory);
    db->db = opened;
    kwr_rocks_pool_watch(db, true);
    db->first = o.families[0];
    for (size_t i = 0; i < donor->state_count; i++) {
        db->families[db->family_count++] = o.families[i + 1];
        a->e->states[i].family = o.families[i + 1];
    }
    return KWR_OK;
}

static kwr_status add_families(adoption *a) {
    const kwr_status status = kwr_rocks_add_families(a->e);
    if (status < KWR_OK)
        return KWR_FAIL(a->err, status, 0, "engine rocksdb: '%s': cannot add a column family: %s",
                        a->db->directory, a->e->detail);
    return KWR_OK;
}

/* ---- clipping ---- */

/* Whether files of a family reach into what others own. */
typedef struct reach {
    bool below, above;
} reach;

static int compare(const char *key, size_t size, const uint8_t bound[2]) {
    const int order = memcmp(key, bound, size < 2 ? size : 2);
    return order != 0 ? order : size < 2 ? -1 : 0;
}

static reach reach_of(const rocksdb_livefiles_t *files, const char *name, const outside *around) {
    reach r = { 0 };
    for (int i = 0; i < rocksdb_livefiles_count(files); i++) {
        if (strcmp(rocksdb_livefiles_column_family_name(files, i), name) != 0) continue;
        size_t size = 0;
        const char *key = rocksdb_livefiles_smallestkey(files, i, &size);
        r.below |= compare(key, size, around->first) < 0;
        key = rocksdb_livefiles_largestkey(files, i, &size);
        r.above |= compare(key, size, around->end) >= 0;
    }
    return r;
}

static kwr_status drop_files(adoption *a, const rocks_state *s, const uint8_t *from,
                             const uint8_t *to) {
    char *words = NULL;
    rocksdb_delete_file_in_range_cf(a->db->db, s->family, (const char *)from, 2, (const char *)to,
                                    2, &words);
    return words == NULL ? KWR_OK : kwr_rocks_report(a->err, words, "drop files", a->db->directory);
}

static kwr_status delete_range(adoption *a, const rocks_state *s, const uint8_t *from,
                               const uint8_t *to) {
    char *words = NULL;
    rocksdb_delete_range_cf(a->db->db, a->db->write, s->family, (const char *)from, 2,
                            (const char *)to, 2, &words);
    return words == NULL
               ? KWR_OK
               : kwr_rocks_report(a->err, words, "delete what others own", a->db->directory);
}

/* Where files of the base reach into what others own. */
static kwr_status find_reach(adoption *a, const outside *around, reach *out, bool *any) {
    const rocksdb_livefiles_t *files = rocksdb_livefiles(a->db->db);
    if (files == NULL) return no_memory(a);
    *any = false;
    for (size_t i = 0; i < a->donors[a->base].state_count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "state-%zu", i);
        out[i] = reach_of(files, name, around);
        *any |= out[i].below || out[i].above;
    }
    rocksdb_livefiles_destroy(files);
    return KWR_OK;
}

/* Deletes only where there is something: a range that is deleted in vain would keep tables that
 * are loaded later from landing at the bottom. */
static kwr_status clip(adoption *a) {
    const outside around = outside_of(share_of(a, a->base));
    const size_t count = a->donors[a->base].state_count;
    reach *reaches = kwr_arena_array(a->arena, count, sizeof *reaches);
    bool any;
    if (reaches == NULL) return no_memory(a);
    KWR_TRY(find_reach(a, &around, reaches, &any));
    if (!any) return KWR_OK;
    for (size_t i = 0; i < count; i++) {
        if (reaches[i].below) KWR_TRY(drop_files(a, &a->e->states[i], around.low, around.first));
        if (reaches[i].above) KWR_TRY(drop_files(a, &a->e->states[i], around.end, around.high));
    }
    KWR_TRY(find_reach(a, &around, reaches, &any));
    for (size_t i = 0; i < count; i++) {
        rocks_state *s = &a->e->states[i];
        s->clipped = reaches[i].below || reaches[i].above;
        if (reaches[i].below) KWR_TRY(delete_range(a, s, around.low, around.first));
        if (reaches[i].above) KWR_TRY(delete_range(a, s, around.end, around.high));
    }
    return KWR_OK;
}

/* Lets RocksDB's own threads clear away what was deleted as a range, when they have time. */
static void suggest_compaction(adoption *a) {
    const outside around = outside_of(share_of(a, a->base));
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    if (options == NULL) return;
    for (size_t i = 0; i < a->e->state_count; i++) {
        rocks_state *s = &a->e->states[i];
        char *words = NULL;
        if (!s->clipped) continue;
        rocksdb_flush_cf(a->db->db, options, s->family, &words);
        if (words == NULL)
            rocksdb_suggest_compact_range_cf(a->db->db, s->family, (const char *)around.low, 2,
                                             (const char *)around.high, 2, &words);
        rocksdb_free(words); /* a checkpoint flushes too, and says what is wrong then */
    }
    rocksdb_flushoptions_destroy(options);
}

double kwr_rocks_visible(const kwr_engine *e, const rocks_state *s) {
    if (!s->clipped) return 1;
    const outside around = outside_of(e->key_groups);
    const char *from[3] = { (const char *)around.low, (const char *)around.first,
                            (const char *)around.end };
    const char *to[3] = { (const char *)around.first, (const char *)around.end,
                          (const char *)around.high };
    const size_t sizes[3] = { 2, 2, 2 };
    uint64_t bytes[3] = { 0 };
    char *words = NULL;
    rocksdb_approximate_sizes_cf(e->db->db, s->family, 3, from, sizes, to, sizes, bytes, &words);
    rocksdb_free(words);
    const double all = (double)bytes[0] + (double)bytes[1] + (double)bytes[2];
    return all > 0 ? (double)bytes[1] / all : 1;
}

/* ---- the other donors ---- */

static kwr_status load_families(adoption *a, const kwr_engine_donor *donor,
                                kwr_key_group_range share, rocksdb_t *db, const opening *o) {
    for (size_t i = 0; i < donor->state_count; i++) {
        const rocks_bulk_source source = { .directory = donor->directory,
                                           .db = db,
                                           .family = o->families[i + 1],
                                           .key_groups = share };
        KWR_TRY(kwr_rocks_bulk_load(a->e, donor->states[i], &source, a->err));
    }
    return KWR_OK;
}

static kwr_status load_donor(adoption *a, const kwr_engine_donor *donor,
                             kwr_key_group_range share) {
    opening o;
    KWR_TRY(plan_opening(a, donor, donor->directory, &o));
    char *words = NULL;
    rocksdb_t *db = rocksdb_open_for_read_only_column_families(
        a->db->options, donor->directory, (int)o.count, o.names, o.options, o.families, 0, &words);
    if (words != NULL)
        return kwr_rocks_report(a->err, words, "open the database", donor->directory);
    const kwr_status status = load_families(a, donor, share, db, &o);
    for (size_t i = 0; i < o.count; i++)
        rocksdb_column_family_handle_destroy(o.families[i]);
    rocksdb_close(db);
    return status;
}

/* ---- all of it ---- */

/* Time since `*since`, which becomes now. */
static uint64_t lap(const adoption *a, uint64_t *since) {
    const kwr_clock *clock = a->e->env->clock;
    const uint64_t before = *since;
    *since = clock->mono_ns(clock->ctx);
    return *since - before;
}

static kwr_status adopt(adoption *a) {
    rocks_adopt_times *times = &a->e->adopt_times;
    uint64_t since = 0;
    (void)lap(a, &since);
    KWR_TRY(check_donors(a));
    choose_base(a);
    if (a->base != SIZE_MAX) {
        KWR_TRY(open_base(a));
    } else if (a->db->db == NULL) {
        KWR_TRY(kwr_rocks_db_create(a->db, a->err));
    }
    KWR_TRY(add_families(a));
    times->open = lap(a, &since);
    if (a->base != SIZE_MAX) KWR_TRY(clip(a));
    times->clip = lap(a, &since);
    for (size_t i = 0; i < a->count; i++) {
        const kwr_key_group_range share = share_of(a, i);
        if (i != a->base && share.count > 0) KWR_TRY(load_donor(a, &a->donors[i], share));
    }
    times->load = lap(a, &since);
    if (a->base != SIZE_MAX) suggest_compaction(a);
    times->clip += lap(a, &since);
    return KWR_OK;
}

kwr_status kwr_rocks_adopt(kwr_engine *e, const kwr_engine_donor *donors, size_t count,
                           kwr_error *err) {
    adoption a = { .e = e, .db = e->db, .donors = donors, .count = count, .err = err };
    a.arena = kwr_arena_new(e->env, 0);
    const kwr_status status = a.arena == NULL ? no_memory(&a) : adopt(&a);
    if (status < KWR_OK) e->bad = true;
    for (size_t i = 0; i < count; i++)
        kwr_rocks_remove_directory(e->env, donors[i].directory);
    if (a.arena != NULL) kwr_arena_free(a.arena);
    return status;
}
