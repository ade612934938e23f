/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a table file says of itself in its properties block, read as bytes: the C API does not tell.
 * Layout as of format version 5, which is what the engine writes: a footer of 53 bytes leads to the
 * block of meta blocks, that to the properties. Nothing here is believed: whatever does not fit
 * means that the table is not known, and it is then written anew with every checkpoint.
 */
#include <stdio.h>

#include "backend/rocksdb/rocks.h"

enum {
    FOOTER_SIZE = 53,
    FOOTER_HANDLES = 1, /* behind the checksum's kind */
    FOOTER_VERSION = 41,
    FOOTER_MAGIC = 45,
    BLOCK_MAX = 1 << 20,
};
#define TABLE_MAGIC UINT64_C(0x88e241b785f4cff7)

typedef struct block {
    uint64_t offset, size;
} block;

static bool take_varint64(const uint8_t **p, const uint8_t *end, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool take_block(const uint8_t **p, const uint8_t *end, uint64_t length, block *out) {
    return take_varint64(p, end, &out->offset) && take_varint64(p, end, &out->size) &&
           out->size <= BLOCK_MAX && out->offset <= length && out->size <= length - out->offset;
}

static bool read_all(const kwr_env *env, kwr_file *file, uint64_t offset, uint8_t *out,
                     size_t size) {
    for (size_t at = 0; at < size;) {
        size_t done = 0;
        if (env->fs->read(env->fs->ctx, file, offset + at, out + at, size - at, &done, NULL) <
                KWR_OK ||
            done == 0)
            return false;
        at += done;
    }
    return true;
}

/* Entries of a block, keys whole: these blocks share no prefixes but are allowed to. */
typedef bool (*entry_fn)(void *ctx, kwr_slice key, kwr_slice value);

static bool walk_block(const uint8_t *bytes, size_t size, entry_fn fn, void *ctx) {
    char key[256];
    size_t key_size = 0;
    if (size < 4) return false;
    const uint64_t restarts = (uint64_t)kwr_get_le32(bytes + size - 4) * 4 + 4;
    if (restarts > size) return false;
    const uint8_t *p = bytes, *end = bytes + size - restarts;
    while (p < end) {
        uint64_t shared, more, value;
        if (!take_varint64(&p, end, &shared) || !take_varint64(&p, end, &more) ||
            !take_varint64(&p, end, &value))
            return false;
        const size_t left = (size_t)(end - p);
        if (shared > key_size || more > left || value > left - more || shared + more > sizeof key)
            return false;
        memcpy(key + shared, p, (size_t)more);
        key_size = (size_t)(shared + more);
        p += more;
        if (!fn(ctx, (kwr_slice){ key, key_size }, (kwr_slice){ p, (size_t)value })) return false;
        p += value;
    }
    return true;
}

static bool is(kwr_slice key, const char *name) {
    return key.size == strlen(name) && memcmp(key.data, name, key.size) == 0;
}

typedef struct finding {
    uint64_t length;
    block properties;
    bool found;
} finding;

static bool find_properties(void *ctx, kwr_slice key, kwr_slice value) {
    finding *f = ctx;
    const uint8_t *p = value.data;
    if (!is(key, "rocksdb.properties")) return true;
    f->found = true;
    return take_block(&p, p + value.size, f->length, &f->properties);
}

typedef struct properties {
    rocks_table table;
    char database[64], session[64];
    uint64_t number;
    bool has_number;
    uint64_t keys, values;
} properties;

/* Only what can stand in an identity and in a name. */
static void take_text(kwr_slice value, char *out, size_t capacity) {
    const char *text = value.data;
    if (value.size == 0 || value.size >= capacity) return;
    for (size_t i = 0; i < value.size; i++)
        if (text[i] < ' ' || text[i] > '~') return;
    memcpy(out, text, value.size);
    out[value.size] = '\0';
}

static bool take_number(kwr_slice value, uint64_t *out) {
    const uint8_t *p = value.data;
    return take_varint64(&p, p + value.size, out);
}

static bool take_property(void *ctx, kwr_slice key, kwr_slice value) {
    properties *t = ctx;
    if (is(key, "rocksdb.creating.db.identity"))
        take_text(value, t->database, sizeof t->database);
    else if (is(key, "rocksdb.creating.session.identity"))
        take_text(value, t->session, sizeof t->session);
    else if (is(key, "rocksdb.original.file.number"))
        t->has_number = take_number(value, &t->number);
    else if (is(key, "rocksdb.column.family.name"))
        take_text(value, t->table.family, sizeof t->table.family);
    else if (is(key, "rocksdb.num.entries"))
        return take_number(value, &t->table.entries);
    else if (is(key, "rocksdb.raw.key.size"))
        return take_number(value, &t->keys);
    else if (is(key, "rocksdb.raw.value.size"))
        return take_number(value, &t->values);
    return true;
}

static bool read_block(const kwr_env *env, kwr_file *file, const block *b, entry_fn fn, void *ctx) {
    uint8_t *bytes = kwr_alloc(env, (size_t)b->size);
    const bool good = bytes != NULL && read_all(env, file, b->offset, bytes, (size_t)b->size) &&
                      walk_block(bytes, (size_t)b->size, fn, ctx);
    kwr_free(env, bytes, (size_t)b->size);
    return good;
}

bool kwr_rocks_table_read(const kwr_env *env, kwr_file *file, uint64_t length, rocks_table *out) {
    uint8_t footer[FOOTER_SIZE];
    block meta;
    if (length < FOOTER_SIZE || !read_all(env, file, length - FOOTER_SIZE, footer, FOOTER_SIZE))
        return false;
    if (kwr_get_le64(footer + FOOTER_MAGIC) != TABLE_MAGIC ||
        kwr_get_le32(footer + FOOTER_VERSION) != 5)
        return false;
    const uint8_t *p = footer + FOOTER_HANDLES;
    if (!take_block(&p, footer + FOOTER_VERSION, length, &meta)) return false;
    finding f = { .length = length };
    if (!read_block(env, file, &meta, find_properties, &f) || !f.found) return false;
    properties t = { 0 };
    if (!read_block(env, file, &f.properties, take_property, &t)) return false;
    t.table.entry_bytes = t.keys + t.values;
    if (t.database[0] != '\0' && t.session[0] != '\0' && t.has_number)
        (void)snprintf(t.table.identity, sizeof t.table.identity, "%s/%s/%llu", t.database,
                       t.session, (unsigned long long)t.number);
    *out = t.table;
    return true;
}
