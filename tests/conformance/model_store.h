/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the model engine share: entries in one sorted array, elements of a collection
 * in another, every piece of bytes in memory of its own.
 */
#ifndef KWR_TESTS_MODEL_STORE_H
#define KWR_TESTS_MODEL_STORE_H

#include "backend/engine.h"

/* Bytes of their own; data is never NULL once made. */
typedef struct model_bytes {
    uint8_t *data;
    size_t size;
} model_bytes;

bool model_bytes_copy(const kwr_env *env, kwr_slice from, model_bytes *out);
void model_bytes_free(const kwr_env *env, model_bytes *bytes);
int model_compare(kwr_slice a, kwr_slice b);
static inline kwr_slice model_slice(const model_bytes *bytes) {
    return (kwr_slice){ bytes->data, bytes->size };
}

typedef struct model_element {
    model_bytes subkey;
    model_bytes value;
} model_element;

typedef struct model_entry {
    uint32_t state;
    uint32_t key_group;
    model_bytes key;
    model_bytes name;
    model_bytes value;
    model_element **elements; /* of a collection, in order */
    size_t element_count;
    size_t element_capacity;
} model_entry;

/* Entries in the order of state, key group, key, namespace. */
typedef struct model_entries {
    const kwr_env *env;
    model_entry **at;
    size_t count;
    size_t capacity;
} model_entries;

/* What is borrowed of one state. */
typedef struct model_lent {
    model_bytes *value;
    model_bytes *subkey;
} model_lent;

struct kwr_engine {
    kwr_engine_config config;
    model_entries entries;
    model_lent *lent;      /* by state */
    kwr_state_kind *kinds; /* by state */
    size_t states;
    uint64_t stamp; /* of hints */
};

/* A promise of the seam is broken: nothing that follows would mean anything. */
void model_require(bool holds, const char *what);

/* The place of the entry, or where it belongs. */
bool model_find(const model_entries *entries, const kwr_address *at, size_t *place);
/* NULL without memory. */
model_entry *model_entry_new(const kwr_env *env, const kwr_address *at, kwr_slice value);
model_entry *model_entry_copy(const kwr_env *env, const model_entry *from);
void model_entry_free(const kwr_env *env, model_entry *entry);
bool model_entries_reserve(model_entries *entries, size_t count);
/* Takes the entry over; false and nothing done without memory. */
bool model_entries_insert(model_entries *entries, size_t place, model_entry *entry);
void model_entries_remove(model_entries *entries, size_t place);
void model_entries_free(model_entries *entries);
/* Keys, namespaces, values; subkeys. */
uint64_t model_entry_bytes(const model_entry *entry);

/* Before every operation: the address is one, and what was lent of its state is lent no longer. */
void model_begin(kwr_engine *engine, const kwr_address *at, bool collection);
void model_check_address(const kwr_engine *engine, const kwr_address *at);
/* What is borrowed moves: whoever still looks at the old place is caught by the sanitizer. */
void model_end_borrow(kwr_engine *engine, uint32_t state);

/* ---- collections (model_collection.c), see kwr_engine_ops ---- */

kwr_status model_sub_get(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                         kwr_slice *value);
kwr_status model_sub_put(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                         kwr_slice value);
kwr_status model_sub_modify(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                            size_t size, void **out, size_t *old_size);
kwr_status model_sub_remove(kwr_engine *engine, const kwr_address *at, kwr_slice subkey);
kwr_status model_sub_append(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                            size_t count);
kwr_status model_sub_assign(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                            size_t count);
kwr_status model_sub_seek(kwr_engine *engine, const kwr_address *at, kwr_seek seek, kwr_slice from,
                          kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value);
kwr_status model_sub_count(kwr_engine *engine, const kwr_address *at, uint64_t *count);

#endif /* KWR_TESTS_MODEL_STORE_H */
