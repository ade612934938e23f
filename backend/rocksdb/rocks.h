/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine `rocksdb` from the inside. One database for each backend, in a directory of its own,
 * without a log; one column family for each state.
 *
 * The database object is counted: the engine and every view hold it, so that no order of closing
 * can leave RocksDB with a handle to something that is gone.
 */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_H
#define KWR_BACKEND_ROCKSDB_ROCKS_H

#include <rocksdb/c.h>
#include <stdatomic.h>

#include "backend/rocksdb/rocks_engine.h"
#include "backend/rocksdb/rocks_merge.h"
#include "backend/rocksdb/rocks_pool.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/memory.h"
#include "keyweir/state.h"

/* Bytes that are built again and again; the memory is kept. */
typedef struct rocks_bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
} rocks_bytes;
/* Room for `size` bytes, what was there is lost; NULL without memory. */
uint8_t *kwr_rocks_room(const kwr_env *env, rocks_bytes *bytes, size_t size);
void kwr_rocks_bytes_free(const kwr_env *env, rocks_bytes *bytes);

/* ---- the database ---- */

typedef struct rocks_db {
    atomic_uint references;
    atomic_uint views;
    const kwr_env *env;
    rocksdb_t *db;
    rocksdb_options_t *options; /* of the database and of every column family */
    rocksdb_block_based_table_options_t *table;
    rocks_member member; /* of the pool, which has the cache */
    rocksdb_writeoptions_t *write;
    rocksdb_column_family_handle_t *first; /* the default one, not used */
    rocksdb_column_family_handle_t **families;
    size_t family_count;
    size_t family_capacity;
    char *directory;
    uint64_t checkpoints; /* made so far: numbers of their directories */
    bool ours;            /* what is in the directory was put there by this object */
} rocks_db;

/* Without a database in it yet when config->adopts. */
kwr_status kwr_rocks_db_open(const kwr_engine_config *config, rocks_db **out, kwr_error *err);
/* A new and empty database in its directory. */
kwr_status kwr_rocks_db_create(rocks_db *db, kwr_error *err);
/* Closes the database, if it is open, and removes what is ours in its directory. */
void kwr_rocks_db_close(rocks_db *db);
/* The last one closes the database and removes its directory. [any] */
void kwr_rocks_db_release(rocks_db *db);

/* ---- keys ---- */

/*
 * An entry's key: key group (two bytes, big-endian), then key and namespace, each behind its length
 * as a varint. The lengths come first, so no entry's key begins another's. In families of
 * collections a byte follows. Maps and timers: 0 the header, 1 an element, whose subkey follows.
 * Lists: 1 a segment, with the sequence number of its first element behind; 2 the head, which
 * stands behind them, as the elements in it do.
 */
enum {
    ROCKS_HEADER = 0,
    ROCKS_ELEMENT = 1,
    ROCKS_SEGMENT = 1,
    ROCKS_LIST_HEAD = 2,
    ROCKS_HEADER_SIZE = 8, /* number of elements, little-endian */
};

/* The entry's key with `extra` bytes of room behind; its length without them in *size. */
uint8_t *kwr_rocks_key(const kwr_env *env, rocks_bytes *bytes, const kwr_address *at, size_t extra,
                       size_t *size);
/* A stored key taken apart: false when it is not one. `*header`: the header of a map or timers; the
 * head of a list has an empty subkey. */
bool kwr_rocks_key_parse(const uint8_t *data, size_t size, kwr_state_kind kind, kwr_entry *out,
                         bool *header);

/* ---- the engine ---- */

/* What was lent for writing and is not in the database yet. */
typedef struct rocks_pending {
    bool waits;
    uint64_t entry_hash;
    rocks_bytes key;
    rocks_bytes value;
} rocks_pending;

/* Writes that nothing has looked at yet (rocks_gather.c). */
typedef struct rocks_gathered {
    rocksdb_writebatch_t *batch; /* NULL before the first */
    unsigned count;
    size_t bytes;
} rocks_gathered;

/* Where a walk over a list is. Ends with every write to the state. */
typedef struct rocks_list_cursor {
    bool valid;
    uint64_t walk;                   /* numbers walks: a caller's hint says which one it is in */
    rocksdb_pinnableslice_t *pinned; /* the head */
    rocks_list_head head;
    rocks_bytes entry; /* the key of the list it is over, without what follows an entry's key */
    /* The element lent last, and the run of elements it is in: the tail, or a segment's. */
    bool on;
    bool in_head;
    uint64_t sequence;
    kwr_slice run;
    size_t next; /* offset of the element behind it */
    uint8_t subkey[KWR_SEQUENCE_BYTES];
} rocks_list_cursor;

/* How much was merged into entries unread, in a table by entry hash: see rocks_chain.c. */
typedef struct rocks_chains {
    uint8_t *units;
    uint32_t turn;
} rocks_chains;

typedef struct rocks_state {
    rocksdb_column_family_handle_t *family;
    kwr_state_kind kind;
    kwr_type_kind number; /* of Reducing state that may be a sum of 128 bits; else 0 */
    rocks_bytes key;      /* of the call at hand */
    rocks_bytes limit;    /* behind the last key an iterator may look at */
    rocksdb_pinnableslice_t *lent;
    rocks_pending pending;
    rocks_gathered gathered; /* older than what is pending */
    bool clipped; /* adopted files may hold what is deleted as a range, for others' key groups */
    /* stepping through a collection */
    rocksdb_iterator_t *iterator; /* NULL: none; ends with every write to the state */
    rocksdb_readoptions_t *iterator_options;
    rocks_bytes iterator_prefix;
    rocks_bytes iterator_limit;
    rocks_list_cursor cursor;
    struct rocks_fetched *fetched; /* by key batches; NULL before the first */
    /* merging */
    rocks_bytes operand;
    rocks_chains chains;
} rocks_state;

/* What the latest adoption took, in nanoseconds. */
typedef struct rocks_adopt_times {
    uint64_t open; /* the base and the families it lacked */
    uint64_t clip;
    uint64_t load; /* all other donors */
} rocks_adopt_times;

struct kwr_engine {
    const kwr_env *env;
    rocks_db *db;
    rocksdb_readoptions_t *read;
    rocks_state *states;
    size_t state_count;
    size_t state_capacity;
    kwr_key_group_range key_groups;
    rocks_adopt_times adopt_times;
    unsigned calls; /* since the last look at its memtables */
    size_t written; /* bytes, since that */
    bool bad;       /* an adoption failed: there is nothing that could be trusted */
    char detail[256];
};

struct kwr_engine_view {
    rocks_db *db;
    char *directory;                   /* with its files; NULL: it has none */
    const rocksdb_livefiles_t *before; /* the database's files, around the making of it */
    const rocksdb_livefiles_t *after;
    const rocksdb_snapshot_t *snapshot;
    rocksdb_column_family_handle_t **families;
    kwr_state_kind *kinds;
    kwr_type_kind *numbers; /* as in the states */
    size_t state_count;
};

/* Notes RocksDB's words, frees them, and gives the status: full disks and damage are told apart. */
kwr_status kwr_rocks_failed(kwr_engine *e, char *words);
/* Ends what the call before lent, and stores what it lent for writing and what was gathered: for
 * calls that look into the state's family, or write to it at once. */
kwr_status kwr_rocks_begin(kwr_engine *e, uint32_t state, rocks_state **out);
/* The same for calls that need not, before they do: what was lent is gathered. */
kwr_status kwr_rocks_begin_unread(kwr_engine *e, uint32_t state, rocks_state **out);
void kwr_rocks_iterator_close(rocks_state *s);
/* The iterator and the walk it belongs to: before every write to the state. */
void kwr_rocks_iterator_end(rocks_state *s);
/* Makes the column families of all states that have none. */
kwr_status kwr_rocks_add_families(kwr_engine *e);

/* ---- writes, at once and gathered ---- */

typedef enum rocks_write_kind { ROCKS_WRITE_PUT, ROCKS_WRITE_MERGE } rocks_write_kind;

/* One write, now. */
kwr_status kwr_rocks_write(kwr_engine *e, rocks_state *s, rocks_write_kind kind, kwr_slice key,
                           kwr_slice value);
/* One write, now or later, behind all that was gathered. On a failure it was not taken. */
kwr_status kwr_rocks_gather(kwr_engine *e, rocks_state *s, rocks_write_kind kind, kwr_slice key,
                            kwr_slice value);
/* On a failure all of it stays gathered. */
kwr_status kwr_rocks_gathered_write(kwr_engine *e, rocks_state *s);
void kwr_rocks_gathered_free(rocks_state *s);

/* ---- key batches ---- */

void kwr_rocks_prefetch(kwr_engine *e, kwr_address *at, size_t count);
/* True: a batch fetched it, nothing was written since, and *found says what get() says. `key` is
 * the entry's. */
bool kwr_rocks_fetched_find(rocks_state *s, const kwr_address *at, kwr_slice key, kwr_slice *out,
                            kwr_status *found);
/* The entry was written, or something of the same bucket. */
void kwr_rocks_fetched_old(rocks_state *s, uint64_t entry_hash);
void kwr_rocks_fetched_free(const kwr_env *env, rocks_state *s);

/* ---- collections ---- */

/* Several writes that happen together or not at all. */
typedef struct rocks_change {
    kwr_engine *e;
    rocks_state *s;
    rocksdb_writebatch_t *batch;
} rocks_change;

kwr_status kwr_rocks_change_begin(kwr_engine *e, rocks_state *s, rocks_change *out);
/* Writes it, unless `status` is a failure; which it returns. */
kwr_status kwr_rocks_change_end(rocks_change *c, kwr_status status);
/* KWR_NOT_FOUND: no such key; s->lent keeps the value. */
kwr_status kwr_rocks_fetch(kwr_engine *e, rocks_state *s, const uint8_t *key, size_t size,
                           kwr_slice *out);
/* The state's iterator, over this entry's elements or segments. */
kwr_status kwr_rocks_iterator_at(kwr_engine *e, rocks_state *s, const kwr_address *at);
/* Deletes them; `count` of them at most. */
kwr_status kwr_rocks_delete_elements(rocks_change *c, const kwr_address *at, uint64_t count);

kwr_status kwr_rocks_sub_get(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice *value);
kwr_status kwr_rocks_sub_put(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice value);
kwr_status kwr_rocks_sub_modify(kwr_engine *e, const kwr_address *at, kwr_slice subkey, size_t size,
                                void **out, size_t *old_size);
kwr_status kwr_rocks_sub_remove(kwr_engine *e, const kwr_address *at, kwr_slice subkey);
kwr_status kwr_rocks_sub_append(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count);
kwr_status kwr_rocks_sub_assign(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count);
kwr_status kwr_rocks_sub_seek(kwr_engine *e, const kwr_address *at, kwr_seek seek, kwr_slice from,
                              kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value);
kwr_status kwr_rocks_sub_count(kwr_engine *e, const kwr_address *at, uint64_t *count);
kwr_status kwr_rocks_collection_remove(kwr_engine *e, rocks_state *s, const kwr_address *at);

/* ---- lists ---- */

enum { ROCKS_SEGMENT_BYTES = 8192 };

/* As the functions of the seam, for lists. */
kwr_status kwr_rocks_list_get(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice *value);
kwr_status kwr_rocks_list_put(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice value);
kwr_status kwr_rocks_list_modify(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey, size_t size, void **out, size_t *old_size);
kwr_status kwr_rocks_list_remove(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey);
kwr_status kwr_rocks_list_append(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count);
kwr_status kwr_rocks_list_assign(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count);
kwr_status kwr_rocks_list_seek(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_seek how,
                               kwr_slice from, kwr_engine_hint *hint, kwr_slice *subkey,
                               kwr_slice *value);
kwr_status kwr_rocks_list_next(kwr_engine *e, uint32_t state, const kwr_engine_hint *hint,
                               uint8_t *sequence, kwr_slice *value);
kwr_status kwr_rocks_list_count(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                uint64_t *count);
kwr_status kwr_rocks_list_clear(kwr_engine *e, rocks_state *s, const kwr_address *at);
void kwr_rocks_list_cursor_end(rocks_state *s);

/* Every element of a stored segment or head, whose key `entry` is. [any] */
kwr_status kwr_rocks_list_walk(kwr_entry *entry, kwr_slice stored, kwr_entry_fn fn, void *fn_ctx);
/* An element as it stands in a segment; gives the place behind it. [any] */
uint8_t *kwr_rocks_element_put(uint8_t *p, kwr_slice value);
/* Elements in a segment; false when it is not one. [any] */
bool kwr_rocks_segment_count(kwr_slice stored, uint64_t *count);

/* ---- chains of operands ---- */

/* True: so much may have been merged into this entry that it is to be read and written anew. The
 * table is made at the first call; KWR_ERR_NOMEM without memory. */
kwr_status kwr_rocks_chain_long(const kwr_env *env, rocks_chains *chains, uint64_t entry_hash,
                                size_t bytes, bool *out);
void kwr_rocks_chains_free(const kwr_env *env, rocks_chains *chains);

/* ---- views and restore ---- */

kwr_status kwr_rocks_freeze(kwr_engine *e, kwr_engine_view **out);
void kwr_rocks_view_release(kwr_engine_view *view);
kwr_status kwr_rocks_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out);
kwr_status kwr_rocks_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                               kwr_entry_fn fn, void *fn_ctx);
kwr_status kwr_rocks_view_images(kwr_engine_view *view, uint32_t key_group, kwr_page_sink *sink);
/* With its files (rocks_files.c). */
kwr_status kwr_rocks_freeze_files(kwr_engine *e, kwr_engine_view **out);
void kwr_rocks_view_files_done(kwr_engine_view *view);
const char *kwr_rocks_view_directory(const kwr_engine_view *view);
kwr_status kwr_rocks_view_files(kwr_engine_view *view, kwr_engine_file_fn fn, void *fn_ctx,
                                kwr_error *err);
kwr_status kwr_rocks_restore_begin(kwr_engine *e, uint64_t seed);
kwr_status kwr_rocks_install(kwr_engine *e, const kwr_page_image *image, kwr_error *err);
kwr_status kwr_rocks_restore_end(kwr_engine *e, kwr_error *err);

/* ---- table files, read as bytes (rocks_table.c) ---- */

enum { ROCKS_IDENTITY_MAX = 160, ROCKS_FAMILY_NAME_MAX = 64 };

/* What a table says of itself. Fields that it does not say are empty. */
typedef struct rocks_table {
    char identity[ROCKS_IDENTITY_MAX]; /* database, session and number: unique */
    char family[ROCKS_FAMILY_NAME_MAX];
    uint64_t entries;
    uint64_t entry_bytes;
} rocks_table;

/* False: it is not a table as this code knows them. */
bool kwr_rocks_table_read(const kwr_env *env, kwr_file *file, uint64_t length, rocks_table *out);

/* ---- restore from database directories (rocks_adopt.c) ---- */

kwr_status kwr_rocks_adopt(kwr_engine *e, const kwr_engine_donor *donors, size_t count,
                           kwr_error *err);
/* How much of what a clipped state's files hold is still visible, 0 to 1; an estimate. */
double kwr_rocks_visible(const kwr_engine *e, const rocks_state *s);

/* The owned entries of one state of a donor, written as sorted tables that become part of the
 * database as they are (rocks_bulk.c). */
typedef struct rocks_bulk_source {
    const char *directory; /* for messages */
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family;
    kwr_key_group_range key_groups;
} rocks_bulk_source;
kwr_status kwr_rocks_bulk_load(kwr_engine *e, uint32_t state, const rocks_bulk_source *source,
                               kwr_error *err);

/* What RocksDB said of a failure, with what was done; frees `words`. */
kwr_status kwr_rocks_report(kwr_error *err, char *words, const char *doing, const char *directory);

/* ---- local directories (rocks_local.c) ---- */

/* KWR_ERR_EXISTS names what is in it; one that is not there is empty. */
/* RocksDB would make it for everybody to read; what fails here, it tells. */
void kwr_rocks_make_private(const kwr_env *env, const char *directory);
kwr_status kwr_rocks_must_be_empty(const kwr_env *env, const char *directory, kwr_error *err);
/* Moves a database's files, but for its lock and its log, into a directory made when missing. */
kwr_status kwr_rocks_move_database(const kwr_env *env, const char *from, const char *to,
                                   kwr_error *err);
/* Removes the directory and the files in it, as far as that goes. */
void kwr_rocks_remove_directory(const kwr_env *env, const char *directory);

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_H */
