/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorted bulk load: the owned entries of a donor's state, as its iterator gives them, written into
 * tables that the database then takes in as they are. No entry passes a memtable, and the tables
 * land below everything that is there, where nothing overlaps them.
 */
#include <stdio.h>

#include "backend/rocksdb/rocks.h"

enum {
    TABLE_BYTES = 64 << 20,
    READ_AHEAD = 2 << 20,
    TABLES_MAX = 4096, /* of one state at once; a quarter of a terabyte */
};

typedef struct bulk {
    kwr_engine *e;
    const rocks_bulk_source *source;
    uint32_t state;
    kwr_error *err;
    kwr_arena *arena; /* of the tables' paths */
    const char **paths;
    size_t count;
    rocksdb_envoptions_t *env_options;
    rocksdb_sstfilewriter_t *writer; /* NULL: no table is open */
} bulk;

static kwr_status no_memory(bulk *b) {
    return KWR_FAIL(b->err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory to load '%s'",
                    b->source->directory);
}

static kwr_status report(bulk *b, char *words, const char *doing) {
    return kwr_rocks_report(b->err, words, doing, b->e->db->directory);
}

/* ---- tables ---- */

/* The name is none that RocksDB gives. */
static kwr_status begin_table(bulk *b) {
    const rocks_db *db = b->e->db;
    if (b->count == TABLES_MAX)
        return KWR_FAIL(b->err, KWR_ERR_RANGE, 0,
                        "engine rocksdb: state %u of '%s' is too large to load", b->state,
                        b->source->directory);
    char name[48];
    (void)snprintf(name, sizeof name, "/load-%u-%zu", b->state, b->count);
    const size_t length = strlen(db->directory), more = strlen(name);
    char *path = kwr_arena_alloc(b->arena, length + more + 1);
    if (path == NULL) return no_memory(b);
    memcpy(path, db->directory, length);
    memcpy(path + length, name, more + 1);
    b->writer = rocksdb_sstfilewriter_create(b->env_options, db->options);
    if (b->writer == NULL) return no_memory(b);
    b->paths[b->count++] = path;
    char *words = NULL;
    rocksdb_sstfilewriter_open(b->writer, path, &words);
    return words == NULL ? KWR_OK : report(b, words, "begin a table");
}

static kwr_status end_table(bulk *b) {
    if (b->writer == NULL) return KWR_OK;
    char *words = NULL;
    rocksdb_sstfilewriter_finish(b->writer, &words);
    rocksdb_sstfilewriter_destroy(b->writer);
    b->writer = NULL;
    return words == NULL ? KWR_OK : report(b, words, "finish a table");
}

static kwr_status add_entry(bulk *b, const rocksdb_iterator_t *it) {
    if (b->writer == NULL) KWR_TRY(begin_table(b));
    size_t key_size = 0, value_size = 0;
    char *words = NULL;
    const char *key = rocksdb_iter_key(it, &key_size);
    const char *value = rocksdb_iter_value(it, &value_size);
    rocksdb_sstfilewriter_put(b->writer, key, key_size, value, value_size, &words);
    if (words != NULL) return report(b, words, "write a table");
    uint64_t size = 0;
    rocksdb_sstfilewriter_file_size(b->writer, &size);
    return size < TABLE_BYTES ? KWR_OK : end_table(b);
}

static kwr_status write_tables(bulk *b) {
    const uint32_t first = b->source->key_groups.first, end = first + b->source->key_groups.count;
    const uint8_t low[2] = { (uint8_t)(first >> 8), (uint8_t)first };
    const uint8_t high[2] = { (uint8_t)(end >> 8), (uint8_t)end };
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    if (options == NULL) return no_memory(b);
    rocksdb_readoptions_set_fill_cache(options, 0);
    rocksdb_readoptions_set_readahead_size(options, READ_AHEAD);
    rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)high, sizeof high);
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(b->source->db, options, b->source->family);
    kwr_status status = KWR_OK;
    for (rocksdb_iter_seek(it, (const char *)low, sizeof low);
         status >= KWR_OK && rocksdb_iter_valid(it); rocksdb_iter_next(it))
        status = add_entry(b, it);
    char *words = NULL;
    rocksdb_iter_get_error(it, &words);
    if (status >= KWR_OK && words != NULL)
        status = kwr_rocks_report(b->err, words, "read the entries", b->source->directory);
    else
        rocksdb_free(words);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    return status >= KWR_OK ? end_table(b) : status;
}

/* All tables of the state at once, linked and not copied. */
static kwr_status ingest_tables(bulk *b) {
    if (b->count == 0) return KWR_OK;
    rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
    if (options == NULL) return no_memory(b);
    rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
    rocksdb_ingestexternalfileoptions_set_snapshot_consistency(options, 0);
    char *words = NULL;
    rocksdb_ingest_external_file_cf(b->e->db->db, b->e->states[b->state].family, b->paths, b->count,
                                    options, &words);
    rocksdb_ingestexternalfileoptions_destroy(options);
    return words == NULL ? KWR_OK : report(b, words, "take in tables");
}

/* ---- all of it ---- */

/* Tables that were taken in are gone already. */
static void remove_tables(bulk *b) {
    const kwr_fs *fs = b->e->env->fs;
    kwr_dir *dir = NULL;
    if (b->count == 0 ||
        fs->open_root(fs->ctx, b->e->db->directory, KWR_FS_FOLLOW, &dir, NULL) < KWR_OK)
        return;
    for (size_t i = 0; i < b->count; i++)
        (void)fs->remove(fs->ctx, dir, strrchr(b->paths[i], '/') + 1, NULL);
    fs->close_dir(fs->ctx, dir);
}

kwr_status kwr_rocks_bulk_load(kwr_engine *e, uint32_t state, const rocks_bulk_source *source,
                               kwr_error *err) {
    bulk b = { .e = e, .source = source, .state = state, .err = err };
    b.arena = kwr_arena_new(e->env, 0);
    if (b.arena != NULL) b.paths = kwr_arena_array(b.arena, TABLES_MAX, sizeof *b.paths);
    b.env_options = rocksdb_envoptions_create();
    kwr_status status = KWR_OK;
    if (b.paths == NULL || b.env_options == NULL) status = no_memory(&b);
    if (status >= KWR_OK) status = write_tables(&b);
    if (status >= KWR_OK) status = ingest_tables(&b);
    if (b.writer != NULL) rocksdb_sstfilewriter_destroy(b.writer);
    if (status < KWR_OK) remove_tables(&b);
    if (b.env_options != NULL) rocksdb_envoptions_destroy(b.env_options);
    if (b.arena != NULL) kwr_arena_free(b.arena);
    return status;
}
