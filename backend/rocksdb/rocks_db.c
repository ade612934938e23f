/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the database, and the keys in it. */
#include "backend/rocksdb/rocks.h"

enum {
    BLOOM_BITS = 10,
    FORMAT_VERSION = 5, /* of tables: newer releases read it, this one writes nothing else */
    OPEN_FILES = 512,
    BLOCK_BYTES = 4 << 10,    /* of data, and of the parts of indexes and filters */
    ARENAS_IN_MEMTABLES = 64, /* many families share the memtables: small pieces */
    ARENA_BYTES_MOST = 1 << 20,
    ARENA_BYTES_LEAST = 16 << 10,
};

uint8_t *kwr_rocks_room(const kwr_env *env, rocks_bytes *bytes, size_t size) {
    if (size > bytes->capacity || bytes->data == NULL) {
        size_t capacity = bytes->capacity < 64 ? 64 : bytes->capacity;
        while (capacity < size)
            capacity *= 2;
        uint8_t *data = kwr_alloc(env, capacity);
        if (data == NULL) return NULL;
        kwr_free(env, bytes->data, bytes->capacity);
        bytes->data = data;
        bytes->capacity = capacity;
    }
    bytes->size = size;
    return bytes->data;
}

void kwr_rocks_bytes_free(const kwr_env *env, rocks_bytes *bytes) {
    kwr_free(env, bytes->data, bytes->capacity);
    *bytes = (rocks_bytes){ 0 };
}

/*
 * The parts of RocksDB's own that no call of ours sees: it switches memtables by itself when all of
 * them fill two thirds of what this database may have at most, so that with those being flushed
 * they stay within it. When other databases take their share, looks at the pool flush earlier.
 */
static void bound_memtables(rocks_db *db) {
    const uint64_t each = kwr_rocks_pool_memtables_each(db->member.pool);
    uint64_t arena = each / ARENAS_IN_MEMTABLES;
    if (arena > ARENA_BYTES_MOST) arena = ARENA_BYTES_MOST;
    if (arena < ARENA_BYTES_LEAST) arena = ARENA_BYTES_LEAST;
    rocksdb_options_set_db_write_buffer_size(db->options, (size_t)(each - each / 3));
    rocksdb_options_set_write_buffer_size(db->options, (size_t)(each / 2));
    rocksdb_options_set_max_write_buffer_number(db->options, 2);
    rocksdb_options_set_arena_block_size(db->options, (size_t)arena);
}

/* Index and filters in small parts, in the cache and counted by it: a large database needs no
 * memory beyond it, and no lookup reads megabytes to find one key. */
static void set_table(rocks_db *db, rocksdb_filterpolicy_t *filter) {
    rocksdb_block_based_table_options_t *table = db->table;
    rocksdb_block_based_options_set_block_cache(table, db->member.pool->cache);
    rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES);
    rocksdb_block_based_options_set_metadata_block_size(table, BLOCK_BYTES);
    rocksdb_block_based_options_set_format_version(table, FORMAT_VERSION);
    /* The table options own the filter from here on. */
    rocksdb_block_based_options_set_filter_policy(table, filter);
    rocksdb_block_based_options_set_index_type(
        table, rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_options_set_block_based_table_factory(db->options, table);
}

static bool make_options(rocks_db *db) {
    db->options = rocksdb_options_create();
    db->table = rocksdb_block_based_options_create();
    db->write = rocksdb_writeoptions_create();
    rocksdb_filterpolicy_t *filter = rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS);
    if (db->options == NULL || db->table == NULL || db->write == NULL || filter == NULL) {
        if (filter != NULL) rocksdb_filterpolicy_destroy(filter);
        return false;
    }
    rocksdb_options_set_create_if_missing(db->options, 1);
    rocksdb_options_set_error_if_exists(db->options, 1);
    rocksdb_options_set_paranoid_checks(db->options, 1);
    rocksdb_options_set_max_open_files(db->options, OPEN_FILES);
    rocksdb_options_set_info_log_level(db->options, 4);
    rocksdb_options_set_keep_log_file_num(db->options, 1);
    /* Quicker than the default at the same size, most of all where tables are read and rewritten.
     */
    rocksdb_options_set_compression(db->options, rocksdb_lz4_compression);
    rocksdb_options_set_merge_operator(db->options, kwr_rocks_merge_operator());
    bound_memtables(db);
    set_table(db, filter);
    rocksdb_writeoptions_disable_WAL(db->write, 1);
    return true;
}

void kwr_rocks_db_close(rocks_db *db) {
    kwr_rocks_pool_watch(db, false);
    for (size_t i = 0; i < db->family_count; i++)
        rocksdb_column_family_handle_destroy(db->families[i]);
    db->family_count = 0;
    if (db->first != NULL) rocksdb_column_family_handle_destroy(db->first);
    db->first = NULL;
    if (db->db != NULL) {
        rocksdb_cancel_all_background_work(db->db, 1);
        rocksdb_close(db->db);
        db->db = NULL;
    }
    if (db->ours) {
        char *words = NULL;
        rocksdb_destroy_db(db->options, db->directory, &words);
        rocksdb_free(words);
    }
}

static void free_all(rocks_db *db) {
    kwr_rocks_db_close(db);
    if (db->write != NULL) rocksdb_writeoptions_destroy(db->write);
    if (db->table != NULL) rocksdb_block_based_options_destroy(db->table);
    if (db->options != NULL) rocksdb_options_destroy(db->options);
    kwr_rocks_pool_leave(db);
    const kwr_env *env = db->env;
    kwr_free(env, db->families, db->family_capacity * sizeof(void *));
    kwr_free_string(env, db->directory);
    kwr_free(env, db, sizeof *db);
}

void kwr_rocks_db_release(rocks_db *db) {
    if (db == NULL) return;
    if (atomic_fetch_sub_explicit(&db->references, 1, memory_order_acq_rel) == 1) free_all(db);
}

kwr_status kwr_rocks_db_create(rocks_db *db, kwr_error *err) {
    static const char *const names[] = { "default" };
    const rocksdb_options_t *options[] = { db->options };
    char *words = NULL;
    kwr_rocks_make_private(db->env, db->directory);
    rocksdb_t *created = rocksdb_open_column_families(db->options, db->directory, 1, names, options,
                                                      &db->first, &words);
    db->ours = true;
    if (words == NULL) {
        db->db = created;
        kwr_rocks_pool_watch(db, true);
        return KWR_OK;
    }
    (void)KWR_FAIL(err, KWR_ERR_IO, 0,
                   "engine rocksdb: '%s' cannot become a new database: %s; name a directory that "
                   "is not there yet",
                   db->directory, words);
    rocksdb_free(words);
    return KWR_ERR_IO;
}

kwr_status kwr_rocks_db_open(const kwr_engine_config *config, rocks_db **out, kwr_error *err) {
    if (config->directory == NULL || config->directory[0] == '\0')
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "engine rocksdb: kwr_backend_options.directory must name a local directory "
                        "that is not there yet");
    rocks_db *db = kwr_calloc(config->env, sizeof *db);
    if (db == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory");
    atomic_init(&db->references, 1);
    db->env = config->env;
    db->directory = kwr_copy_string(config->env, config->directory);
    const kwr_status joined = kwr_rocks_pool_join(config->resources, db, err);
    if (joined < KWR_OK) {
        free_all(db);
        return joined;
    }
    if (db->directory == NULL || !make_options(db)) {
        free_all(db);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "engine rocksdb: no memory");
    }
    kwr_status status = kwr_rocks_must_be_empty(db->env, db->directory, err);
    if (status >= KWR_OK && config->adopts)
        db->ours = true; /* it fills before there is a database */
    if (status >= KWR_OK && !config->adopts) status = kwr_rocks_db_create(db, err);
    if (status < KWR_OK) {
        free_all(db);
        return status;
    }
    *out = db;
    return KWR_OK;
}

/* ---- keys ---- */

uint8_t *kwr_rocks_key(const kwr_env *env, rocks_bytes *bytes, const kwr_address *at, size_t extra,
                       size_t *size) {
    const uint32_t key_size = (uint32_t)at->key.size, name_size = (uint32_t)at->name.size;
    const size_t length = 2 + kwr_varint32_size(key_size) + kwr_varint32_size(name_size) +
                          at->key.size + at->name.size;
    uint8_t *data = kwr_rocks_room(env, bytes, length + extra);
    if (data == NULL) return NULL;
    uint8_t *p = data;
    *p++ = (uint8_t)(at->key_group >> 8);
    *p++ = (uint8_t)at->key_group;
    p += kwr_put_varint32(p, key_size);
    if (key_size > 0) memcpy(p, at->key.data, key_size);
    p += key_size;
    p += kwr_put_varint32(p, name_size);
    if (name_size > 0) memcpy(p, at->name.data, name_size);
    *size = length;
    return data;
}

bool kwr_rocks_key_parse(const uint8_t *data, size_t size, kwr_state_kind kind, kwr_entry *out,
                         bool *header) {
    kwr_cursor c = kwr_cursor_of(data, size);
    const uint32_t high = kwr_cursor_u8(&c), low = kwr_cursor_u8(&c);
    out->key_group = high << 8 | low;
    const uint32_t key_size = kwr_cursor_varint32(&c);
    out->key = (kwr_slice){ kwr_cursor_take(&c, key_size), key_size };
    const uint32_t name_size = kwr_cursor_varint32(&c);
    out->name = (kwr_slice){ kwr_cursor_take(&c, name_size), name_size };
    out->subkey = (kwr_slice){ 0 };
    *header = false;
    if (kwr_state_is_collection(kind)) {
        const uint8_t what = kwr_cursor_u8(&c);
        const size_t left = kwr_cursor_left(&c);
        if (kind == KWR_STATE_LIST) {
            if (what == ROCKS_SEGMENT ? left != KWR_SEQUENCE_BYTES
                                      : what != ROCKS_LIST_HEAD || left != 0)
                return false;
        } else {
            *header = what == ROCKS_HEADER;
            if (what > ROCKS_ELEMENT || (*header && left != 0)) return false;
        }
        out->subkey = (kwr_slice){ kwr_cursor_take(&c, left), left };
    }
    return !c.failed && kwr_cursor_left(&c) == 0;
}
