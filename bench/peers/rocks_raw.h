/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB as someone who knows it would use it through its C API for state: no write-ahead log, two
 * write buffers of 64 MiB, a block cache of 256 MiB, filters of ten bits, index and filters held in
 * memory, LZ4, pinned reads, batched multi-get, and a merge operator that appends.
 *
 * The yardstick of everything that is compared with RocksDB. A failure ends the program.
 */
#ifndef KWR_BENCH_ROCKS_RAW_H
#define KWR_BENCH_ROCKS_RAW_H

#ifdef KWR_ROCKSDB

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rocks_raw {
    rocksdb_t *db;
    rocksdb_column_family_handle_t *cf;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    const char *dir;
} rocks_raw;

/* Opens an empty database; what is in `dir` goes. With appending, merges append to lists. */
void rocks_raw_open(rocks_raw *r, const char *dir, bool appending);
/* The same, with index and filters in parts and in the cache, so that the memory is bounded however
 * large the database is: as the engine rocksdb does it. */
void rocks_raw_open_bounded(rocks_raw *r, const char *dir, bool appending);
/* Closes it and removes its files. */
void rocks_raw_close(rocks_raw *r);

void rocks_raw_put(rocks_raw *r, const void *key, size_t key_size, const void *value, size_t size);
/* Copies at most `capacity` bytes out; the value's size, or SIZE_MAX when there is none. */
size_t rocks_raw_get(rocks_raw *r, const void *key, size_t key_size, void *out, size_t capacity);
void rocks_raw_append(rocks_raw *r, const void *key, size_t key_size, const void *value,
                      size_t size);
void rocks_raw_delete(rocks_raw *r, const void *key, size_t key_size);
void rocks_raw_flush(rocks_raw *r);

#endif
#endif /* KWR_BENCH_ROCKS_RAW_H */
