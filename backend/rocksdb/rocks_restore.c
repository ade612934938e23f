/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore writes the entries of images, canonical ones or the page store's, in batches; the
 * headers of collections are made at the end, by one look at what is there.
 */
#include "backend/rocksdb/rocks.h"

enum { BATCH_BYTES = 1 << 20 };

typedef struct loading {
    kwr_engine *e;
    rocksdb_writebatch_t *batch;
    size_t bytes;
    rocks_bytes key;
} loading;

kwr_status kwr_rocks_restore_begin(kwr_engine *e, uint64_t seed) {
    (void)e, (void)seed;
    return KWR_OK;
}

static kwr_status write_batch(loading *l) {
    char *words = NULL;
    rocksdb_write(l->e->db->db, l->e->db->write, l->batch, &words);
    rocksdb_writebatch_clear(l->batch);
    l->bytes = 0;
    if (words == NULL) return KWR_OK;
    rocksdb_free(words);
    return KWR_ERR_IO;
}

static kwr_status load_entry(void *ctx, const kwr_entry *entry) {
    loading *l = ctx;
    const rocks_state *s = &l->e->states[entry->state];
    const bool collection = kwr_state_is_collection(s->kind);
    const kwr_address at = { .key_group = entry->key_group,
                             .key = entry->key,
                             .name = entry->name };
    size_t size;
    uint8_t *key = kwr_rocks_key(l->e->env, &l->key, &at, 1 + entry->subkey.size, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (collection) {
        key[size++] = ROCKS_ELEMENT;
        if (entry->subkey.size > 0) memcpy(key + size, entry->subkey.data, entry->subkey.size);
        size += entry->subkey.size;
    }
    rocksdb_writebatch_put_cf(l->batch, s->family, (const char *)key, size, entry->value.data,
                              entry->value.size);
    l->bytes += size + entry->value.size;
    return l->bytes < BATCH_BYTES ? KWR_OK : write_batch(l);
}

kwr_status kwr_rocks_install(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    loading l = { .e = e, .batch = rocksdb_writebatch_create() };
    kwr_status status = kwr_page_image_walk(image, load_entry, &l, err);
    if (status == KWR_OK) status = write_batch(&l);
    rocksdb_writebatch_destroy(l.batch);
    kwr_rocks_bytes_free(e->env, &l.key);
    if (status == KWR_ERR_IO)
        return KWR_FAIL(err, status, 0, "engine rocksdb: '%s' refused a write", e->db->directory);
    if (status == KWR_ERR_NOMEM) return KWR_FAIL(err, status, 0, "engine rocksdb: no memory");
    return status;
}

/* ---- headers ---- */

typedef struct heading {
    loading l;
    const rocks_state *s;
    rocks_bytes prefix; /* key of the entry at hand, without the byte behind it */
    uint64_t count, next;
} heading;

static kwr_status end_entry(heading *h) {
    if (h->count == 0) return KWR_OK;
    uint8_t value[ROCKS_HEADER_SIZE];
    kwr_put_le64(value, h->count);
    kwr_put_le64(value + 8, h->next);
    h->prefix.data[h->prefix.size] = ROCKS_HEADER;
    rocksdb_writebatch_put_cf(h->l.batch, h->s->family, (const char *)h->prefix.data,
                              h->prefix.size + 1, (const char *)value, sizeof value);
    h->l.bytes += h->prefix.size + sizeof value;
    h->count = h->next = 0;
    return h->l.bytes < BATCH_BYTES ? KWR_OK : write_batch(&h->l);
}

static kwr_status head_element(heading *h, const char *key, size_t size) {
    kwr_entry entry;
    bool header = false;
    if (!kwr_rocks_key_parse((const uint8_t *)key, size, true, &entry, &header))
        return KWR_ERR_CORRUPT;
    const size_t prefix = size - entry.subkey.size - 1;
    if (h->count == 0 || prefix != h->prefix.size || memcmp(key, h->prefix.data, prefix) != 0) {
        KWR_TRY(end_entry(h));
        if (kwr_rocks_room(h->l.e->env, &h->prefix, prefix + 1) == NULL) return KWR_ERR_NOMEM;
        memcpy(h->prefix.data, key, prefix);
        h->prefix.size = prefix;
    }
    h->count++;
    if (h->s->kind == KWR_STATE_LIST && entry.subkey.size == KWR_SEQUENCE_BYTES)
        h->next = kwr_get_be64(entry.subkey.data) + 1;
    return KWR_OK;
}

static kwr_status make_headers(kwr_engine *e, const rocks_state *s) {
    heading h = { .l = { .e = e, .batch = rocksdb_writebatch_create() }, .s = s };
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(e->db->db, options, s->family);
    kwr_status status = KWR_OK;
    for (rocksdb_iter_seek_to_first(it); status >= KWR_OK && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t size = 0;
        const char *key = rocksdb_iter_key(it, &size);
        status = head_element(&h, key, size);
    }
    char *words = NULL;
    rocksdb_iter_get_error(it, &words);
    if (words != NULL) status = KWR_ERR_CORRUPT;
    rocksdb_free(words);
    if (status >= KWR_OK) status = end_entry(&h);
    if (status >= KWR_OK) status = write_batch(&h.l);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    rocksdb_writebatch_destroy(h.l.batch);
    kwr_rocks_bytes_free(e->env, &h.prefix);
    return status;
}

kwr_status kwr_rocks_restore_end(kwr_engine *e, kwr_error *err) {
    for (size_t i = 0; i < e->state_count; i++) {
        if (!kwr_state_is_collection(e->states[i].kind)) continue;
        const kwr_status status = make_headers(e, &e->states[i]);
        if (status < KWR_OK)
            return KWR_FAIL(err, status, 0,
                            "engine rocksdb: '%s': what was just written cannot "
                            "be read back",
                            e->db->directory);
    }
    return KWR_OK;
}
