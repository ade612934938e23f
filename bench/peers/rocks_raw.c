/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peers/rocks_raw.h"

#ifdef KWR_ROCKSDB

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void must(char *err, const char *what) {
    if (err == NULL) return;
    fprintf(stderr, "raw RocksDB: %s: %s\n", what, err);
    exit(1);
}

/* ---- the merge operator ---- */

static char *joined(const char *first, size_t first_size, const char *const *operands,
                    const size_t *sizes, int count, unsigned char *success, size_t *size) {
    size_t total = first_size;
    for (int i = 0; i < count; i++)
        total += sizes[i];
    char *out = malloc(total + 1);
    *success = out != NULL;
    if (out == NULL) return NULL;
    if (first_size > 0) memcpy(out, first, first_size);
    size_t at = first_size;
    for (int i = 0; i < count; i++) {
        memcpy(out + at, operands[i], sizes[i]);
        at += sizes[i];
    }
    *size = total;
    return out;
}
static char *full_merge(void *ctx, const char *key, size_t key_size, const char *old,
                        size_t old_size, const char *const *operands, const size_t *sizes,
                        int count, unsigned char *success, size_t *size) {
    (void)ctx, (void)key, (void)key_size;
    return joined(old, old == NULL ? 0 : old_size, operands, sizes, count, success, size);
}
static char *partial_merge(void *ctx, const char *key, size_t key_size, const char *const *operands,
                           const size_t *sizes, int count, unsigned char *success, size_t *size) {
    (void)ctx, (void)key, (void)key_size;
    return joined(NULL, 0, operands, sizes, count, success, size);
}
static void delete_value(void *ctx, const char *value, size_t size) {
    (void)ctx, (void)size;
    free((void *)(uintptr_t)value);
}
static void no_destructor(void *ctx) { (void)ctx; }
static const char *operator_name(void *ctx) {
    (void)ctx;
    return "bench.append";
}

/* ---- the database ---- */

static void bound(rocksdb_block_based_table_options_t *table) {
    rocksdb_block_based_options_set_index_type(
        table, rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
}

static void open_raw(rocks_raw *r, const char *dir, bool appending, bool bounded) {
    *r = (rocks_raw){ .dir = dir };
    char *err = NULL;
    for (const char *slash = strchr(dir + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char parent[4096];
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - dir), dir);
        (void)mkdir(parent, 0777);
    }
    r->options = rocksdb_options_create();
    rocksdb_destroy_db(r->options, dir, &err);
    must(err, "removing an old database");
    rocksdb_options_set_create_if_missing(r->options, 1);
    rocksdb_options_set_write_buffer_size(r->options, 64 << 20);
    rocksdb_options_set_max_write_buffer_number(r->options, 3);
    rocksdb_options_set_compression(r->options, rocksdb_lz4_compression);
    rocksdb_options_increase_parallelism(r->options, 2);
    r->table = rocksdb_block_based_options_create();
    r->cache = rocksdb_cache_create_lru(256 << 20);
    rocksdb_block_based_options_set_block_cache(r->table, r->cache);
    rocksdb_block_based_options_set_filter_policy(r->table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    if (bounded) bound(r->table);
    rocksdb_options_set_block_based_table_factory(r->options, r->table);
    if (appending) {
        rocksdb_options_set_merge_operator(
            r->options, rocksdb_mergeoperator_create(NULL, no_destructor, full_merge, partial_merge,
                                                     delete_value, operator_name));
        rocksdb_options_set_max_successive_merges(r->options, 64);
    }
    const char *name = "default";
    const rocksdb_options_t *family = r->options;
    r->db = rocksdb_open_column_families(r->options, dir, 1, &name, &family, &r->cf, &err);
    must(err, "open");
    r->read = rocksdb_readoptions_create();
    r->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->write, 1);
}

void rocks_raw_open(rocks_raw *r, const char *dir, bool appending) {
    open_raw(r, dir, appending, false);
}

void rocks_raw_open_bounded(rocks_raw *r, const char *dir, bool appending) {
    open_raw(r, dir, appending, true);
}

void rocks_raw_close(rocks_raw *r) {
    char *err = NULL;
    rocksdb_column_family_handle_destroy(r->cf);
    rocksdb_close(r->db);
    rocksdb_destroy_db(r->options, r->dir, &err);
    must(err, "removing the database");
    rocksdb_writeoptions_destroy(r->write);
    rocksdb_readoptions_destroy(r->read);
    rocksdb_block_based_options_destroy(r->table);
    rocksdb_cache_destroy(r->cache);
    rocksdb_options_destroy(r->options);
}

void rocks_raw_put(rocks_raw *r, const void *key, size_t key_size, const void *value, size_t size) {
    char *err = NULL;
    rocksdb_put_cf(r->db, r->write, r->cf, key, key_size, value, size, &err);
    must(err, "put");
}

size_t rocks_raw_get(rocks_raw *r, const void *key, size_t key_size, void *out, size_t capacity) {
    char *err = NULL;
    rocksdb_pinnableslice_t *found =
        rocksdb_get_pinned_cf(r->db, r->read, r->cf, key, key_size, &err);
    must(err, "get");
    if (found == NULL) return SIZE_MAX;
    size_t size;
    const char *bytes = rocksdb_pinnableslice_value(found, &size);
    memcpy(out, bytes, size < capacity ? size : capacity);
    rocksdb_pinnableslice_destroy(found);
    return size;
}

void rocks_raw_append(rocks_raw *r, const void *key, size_t key_size, const void *value,
                      size_t size) {
    char *err = NULL;
    rocksdb_merge_cf(r->db, r->write, r->cf, key, key_size, value, size, &err);
    must(err, "merge");
}

void rocks_raw_delete(rocks_raw *r, const void *key, size_t key_size) {
    char *err = NULL;
    rocksdb_delete_cf(r->db, r->write, r->cf, key, key_size, &err);
    must(err, "delete");
}

void rocks_raw_flush(rocks_raw *r) {
    char *err = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush_cf(r->db, options, r->cf, &err);
    must(err, "flush");
    rocksdb_flushoptions_destroy(options);
}

#endif
