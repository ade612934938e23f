/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the engine, and its plain entries. What modify lends for writing is a buffer here; it
 * goes into the database with the next call on the same state, or with a freeze.
 */
#include "backend/rocksdb/rocks.h"

#include <stdio.h>
#include <string.h>

/* ---- failures ---- */

kwr_status kwr_rocks_failed(kwr_engine *e, char *words) {
    (void)snprintf(e->detail, sizeof e->detail, "%s", words);
    const bool corrupt = strstr(words, "Corruption") != NULL;
    rocksdb_free(words);
    return corrupt ? KWR_ERR_CORRUPT : KWR_ERR_IO;
}

/* ---- what a call lent ---- */

/* Behind all that is gathered, and no older write can come after it. */
static kwr_status gather_pending(kwr_engine *e, rocks_state *s) {
    if (!s->pending.waits) return KWR_OK;
    kwr_rocks_fetched_old(s, s->pending.entry_hash);
    KWR_TRY(kwr_rocks_gather(e, s, ROCKS_WRITE_PUT,
                             (kwr_slice){ s->pending.key.data, s->pending.key.size },
                             (kwr_slice){ s->pending.value.data, s->pending.value.size }));
    s->pending.waits = false;
    return KWR_OK;
}

void kwr_rocks_iterator_close(rocks_state *s) {
    if (s->iterator != NULL) rocksdb_iter_destroy(s->iterator);
    if (s->iterator_options != NULL) rocksdb_readoptions_destroy(s->iterator_options);
    s->iterator = NULL;
    s->iterator_options = NULL;
}

void kwr_rocks_iterator_end(rocks_state *s) {
    kwr_rocks_iterator_close(s);
    kwr_rocks_list_cursor_end(s);
}

kwr_status kwr_rocks_begin_unread(kwr_engine *e, uint32_t state, rocks_state **out) {
    rocks_state *s = &e->states[state];
    if (e->bad) return KWR_ERR_POISONED;
    if (++e->calls >= ROCKS_LOOK_CALLS || e->written >= ROCKS_LOOK_BYTES) {
        e->calls = 0;
        e->written = 0;
        kwr_rocks_pool_look(e->db);
    }
    if (s->lent != NULL) rocksdb_pinnableslice_destroy(s->lent);
    s->lent = NULL;
    *out = s;
    return gather_pending(e, s);
}

kwr_status kwr_rocks_begin(kwr_engine *e, uint32_t state, rocks_state **out) {
    KWR_TRY(kwr_rocks_begin_unread(e, state, out));
    return kwr_rocks_gathered_write(e, *out);
}

/* ---- entries ---- */

/* KWR_NOT_FOUND, or what is stored, a sum of 128 bits included. The key stays in s->key. */
static kwr_status stored(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_slice *out) {
    size_t size;
    const uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 0, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    kwr_status found;
    if (kwr_rocks_fetched_find(s, at, (kwr_slice){ key, size }, out, &found)) return found;
    KWR_TRY(kwr_rocks_gathered_write(e, s));
    return kwr_rocks_fetch(e, s, key, size, out);
}

static kwr_status engine_get(kwr_engine *e, const kwr_address *at, kwr_slice *out) {
    rocks_state *s;
    kwr_slice value = { 0 };
    KWR_TRY(kwr_rocks_begin_unread(e, at->state, &s));
    const kwr_status found = stored(e, s, at, &value);
    if (found != KWR_OK) return found;
    if (value.size == ROCKS_WIDE_SIZE && s->number != 0) {
        (void)snprintf(e->detail, sizeof e->detail, "the sum is beyond its type");
        return KWR_ERR_RANGE;
    }
    *out = value;
    return KWR_OK;
}

static kwr_status engine_put(kwr_engine *e, const kwr_address *at, kwr_slice value) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin_unread(e, at->state, &s));
    size_t size;
    const uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 0, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    kwr_rocks_fetched_old(s, at->entry_hash);
    return kwr_rocks_gather(e, s, ROCKS_WRITE_PUT, (kwr_slice){ key, size }, value);
}

static kwr_status engine_modify(kwr_engine *e, const kwr_address *at, size_t size, void **out,
                                size_t *old_size) {
    rocks_state *s = &e->states[at->state];
    kwr_slice old = { 0 };
    const kwr_status found = engine_get(e, at, &old);
    KWR_TRY(found);
    const size_t had = found == KWR_OK ? old.size : 0;
    const size_t wanted = size == KWR_KEEP_SIZE ? had : size;
    uint8_t *value = kwr_rocks_room(e->env, &s->pending.value, wanted);
    uint8_t *key = kwr_rocks_room(e->env, &s->pending.key, s->key.size);
    if (value == NULL || key == NULL) return KWR_ERR_NOMEM;
    memcpy(key, s->key.data, s->key.size);
    const size_t kept = had < wanted ? had : wanted;
    if (kept > 0) memcpy(value, old.data, kept);
    if (wanted > kept) memset(value + kept, 0, wanted - kept);
    s->pending.waits = true;
    s->pending.entry_hash = at->entry_hash;
    *out = value;
    *old_size = found == KWR_OK ? had : KWR_ABSENT;
    return KWR_OK;
}

/* About every 64th operand is folded at once: reads stay cheap. */
enum { FOLD_WEIGHT = 128 };

static kwr_status engine_fold(kwr_engine *e, const kwr_address *at, kwr_fold how, kwr_slice value) {
    rocks_state *s;
    bool read;
    size_t size;
    kwr_slice base = { 0 };
    uint8_t operand[ROCKS_FOLD_SIZE + ROCKS_WIDE_SIZE], result[ROCKS_WIDE_SIZE];
    KWR_TRY(kwr_rocks_begin_unread(e, at->state, &s));
    KWR_TRY(kwr_rocks_chain_long(e->env, &s->chains, at->entry_hash, FOLD_WEIGHT, &read));
    const size_t operand_size = kwr_rocks_fold_put(operand, how, value);
    const uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 0, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    kwr_rocks_fetched_old(s, at->entry_hash);
    if (!read)
        return kwr_rocks_gather(e, s, ROCKS_WRITE_MERGE, (kwr_slice){ key, size },
                                (kwr_slice){ operand, operand_size });
    KWR_TRY(kwr_rocks_gathered_write(e, s));
    KWR_TRY(kwr_rocks_fetch(e, s, key, size, &base));
    const size_t got = kwr_rocks_fold_one(result, base, (kwr_slice){ operand, operand_size });
    if (got == 0) return KWR_ERR_CORRUPT;
    return kwr_rocks_gather(e, s, ROCKS_WRITE_PUT, (kwr_slice){ key, size },
                            (kwr_slice){ result, got });
}

static kwr_status engine_remove(kwr_engine *e, const kwr_address *at) {
    rocks_state *s;
    kwr_slice old;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST) return kwr_rocks_list_clear(e, s, at);
    if (kwr_state_is_collection(s->kind)) return kwr_rocks_collection_remove(e, s, at);
    const kwr_status found = stored(e, s, at, &old);
    if (found != KWR_OK) return found;
    char *words = NULL;
    kwr_rocks_fetched_old(s, at->entry_hash);
    rocksdb_delete_cf(e->db->db, e->db->write, s->family, (const char *)s->key.data, s->key.size,
                      &words);
    return words == NULL ? KWR_OK : kwr_rocks_failed(e, words);
}

/* ---- states ---- */

static kwr_status add_family(kwr_engine *e) {
    rocks_db *db = e->db;
    void *families = db->families;
    const size_t id = db->family_count;
    if (!kwr_grow_array(e->env, &families, &db->family_capacity, id + 1, sizeof *db->families))
        return KWR_ERR_NOMEM;
    db->families = families;
    char name[32], *words = NULL;
    (void)snprintf(name, sizeof name, "state-%zu", id);
    rocksdb_column_family_handle_t *family =
        rocksdb_create_column_family(db->db, db->options, name, &words);
    if (words != NULL) return kwr_rocks_failed(e, words);
    e->states[id].family = db->families[db->family_count++] = family;
    return KWR_OK;
}

kwr_status kwr_rocks_add_families(kwr_engine *e) {
    while (e->db->family_count < e->state_count)
        KWR_TRY(add_family(e));
    return KWR_OK;
}

/* Without a database to add it to, the family comes with that. */
static kwr_status engine_add_state(kwr_engine *e, const kwr_state_info *info) {
    if (info->id >= e->state_count) {
        void *states = e->states;
        if (!kwr_grow_array(e->env, &states, &e->state_capacity, info->id + 1U, sizeof *e->states))
            return KWR_ERR_NOMEM;
        e->states = states;
        e->states[e->state_count++] = (rocks_state){ 0 };
        const kwr_status status = e->db->db == NULL ? KWR_OK : kwr_rocks_add_families(e);
        if (status < KWR_OK) {
            e->state_count--;
            return status;
        }
    }
    rocks_state *s = &e->states[info->id];
    s->kind = info->kind;
    s->number = 0;
    if (info->kind == KWR_STATE_REDUCING &&
        (info->type.kind == KWR_TYPE_I32 || info->type.kind == KWR_TYPE_I64 ||
         info->type.kind == KWR_TYPE_U64))
        s->number = info->type.kind;
    return KWR_OK;
}

/* ---- life ---- */

static kwr_status engine_open(const kwr_engine_config *config, kwr_engine **out, kwr_error *err) {
    kwr_engine *e = kwr_calloc(config->env, sizeof *e);
    if (e == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory");
    e->env = config->env;
    const kwr_status status = kwr_rocks_db_open(config, &e->db, err);
    if (status < KWR_OK) {
        kwr_free(config->env, e, sizeof *e);
        return status;
    }
    e->read = rocksdb_readoptions_create();
    e->key_groups = config->key_groups;
    *out = e;
    return KWR_OK;
}

static void state_done(kwr_engine *e, rocks_state *s) {
    if (s->lent != NULL) rocksdb_pinnableslice_destroy(s->lent);
    kwr_rocks_iterator_end(s);
    kwr_rocks_fetched_free(e->env, s);
    kwr_rocks_gathered_free(s);
    kwr_rocks_bytes_free(e->env, &s->key);
    kwr_rocks_bytes_free(e->env, &s->limit);
    kwr_rocks_bytes_free(e->env, &s->pending.key);
    kwr_rocks_bytes_free(e->env, &s->pending.value);
    kwr_rocks_bytes_free(e->env, &s->iterator_prefix);
    kwr_rocks_bytes_free(e->env, &s->iterator_limit);
    kwr_rocks_bytes_free(e->env, &s->cursor.entry);
    kwr_rocks_bytes_free(e->env, &s->operand);
    kwr_rocks_chains_free(e->env, &s->chains);
}

static void engine_close(kwr_engine *e) {
    if (e == NULL) return;
    for (size_t i = 0; i < e->state_count; i++)
        state_done(e, &e->states[i]);
    rocksdb_readoptions_destroy(e->read);
    kwr_rocks_db_release(e->db);
    kwr_free(e->env, e->states, e->state_capacity * sizeof *e->states);
    kwr_free(e->env, e, sizeof *e);
}

static bool engine_maintain(kwr_engine *e, uint64_t max_ns) {
    (void)e, (void)max_ns; /* RocksDB has threads of its own for that */
    return false;
}

static uint64_t property(const rocks_state *s, kwr_engine *e, const char *name) {
    uint64_t value = 0;
    return rocksdb_property_int_cf(e->db->db, s->family, name, &value) == 0 ? value : 0;
}

static void engine_stats(const kwr_engine *engine, kwr_backend_stats *out) {
    kwr_engine *e = (kwr_engine *)engine;
    for (size_t i = 0; i < e->state_count; i++) {
        const double visible = kwr_rocks_visible(e, &e->states[i]);
        out->entries +=
            (uint64_t)(visible * (double)property(&e->states[i], e, "rocksdb.estimate-num-keys"));
        out->entry_bytes +=
            (uint64_t)(visible *
                       (double)property(&e->states[i], e, "rocksdb.estimate-live-data-size"));
        out->memtable_bytes += property(&e->states[i], e, "rocksdb.size-all-mem-tables");
        out->table_reader_bytes += property(&e->states[i], e, "rocksdb.estimate-table-readers-mem");
    }
    out->views = atomic_load_explicit(&e->db->views, memory_order_relaxed);
    out->used_bytes = out->memtable_bytes;
    out->estimated = true;
    /* The cache is everybody's: kwr_resources_get_stats(). */
    out->mapped_bytes = out->memtable_bytes + out->table_reader_bytes;
}

static const char *engine_detail(const kwr_engine *e) { return e->detail; }

const kwr_engine_ops kwr_rocksdb_engine = {
    .name = "rocksdb",
    .native = "entries-1",
    .reads = "pages-1",
    .files = "rocksdb-1",
    .approximate_stats = true,
    .local_files = true,
    .walks_in_order = true,
    .open = engine_open,
    .close = engine_close,
    .add_state = engine_add_state,
    .get = engine_get,
    .put = engine_put,
    .modify = engine_modify,
    .fold = engine_fold,
    .remove = engine_remove,
    .prefetch = kwr_rocks_prefetch,
    .sub_get = kwr_rocks_sub_get,
    .sub_put = kwr_rocks_sub_put,
    .sub_modify = kwr_rocks_sub_modify,
    .sub_remove = kwr_rocks_sub_remove,
    .sub_append = kwr_rocks_sub_append,
    .sub_assign = kwr_rocks_sub_assign,
    .sub_seek = kwr_rocks_sub_seek,
    .list_next = kwr_rocks_list_next,
    .sub_count = kwr_rocks_sub_count,
    .freeze = kwr_rocks_freeze,
    .view_release = kwr_rocks_view_release,
    .view_count = kwr_rocks_view_count,
    .view_walk = kwr_rocks_view_walk,
    .freeze_files = kwr_rocks_freeze_files,
    .view_directory = kwr_rocks_view_directory,
    .view_files = kwr_rocks_view_files,
    .view_images = kwr_rocks_view_images,
    .restore_begin = kwr_rocks_restore_begin,
    .install = kwr_rocks_install,
    .restore_end = kwr_rocks_restore_end,
    .adopt = kwr_rocks_adopt,
    .maintain = engine_maintain,
    .stats = engine_stats,
    .detail = engine_detail,
};
