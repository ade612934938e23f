/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore writes the entries of images, canonical ones or the page store's, in batches: elements
 * of lists as segments, as far as they stand in a row. The headers of collections, and the heads of
 * lists, are made at the end, by one look at what is there.
 */
#include "backend/rocksdb/rocks.h"

enum { BATCH_BYTES = 1 << 20 };

typedef struct loading {
    kwr_engine *e;
    rocksdb_writebatch_t *batch;
    size_t bytes;
    rocks_bytes key;
    /* elements of a list that stand in a row and are not written yet */
    const rocks_state *list; /* NULL: none */
    rocks_bytes list_key;    /* of their segment */
    kwr_buffer run;
    uint64_t next; /* sequence number of what would go on */
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
    kwr_rocks_pool_look(l->e->db);
    if (words == NULL) return KWR_OK;
    rocksdb_free(words);
    return KWR_ERR_IO;
}

static kwr_status store(loading *l, const rocks_state *s, const uint8_t *key, size_t size,
                        kwr_slice value) {
    rocksdb_writebatch_put_cf(l->batch, s->family, (const char *)key, size, value.data, value.size);
    l->bytes += size + value.size;
    return l->bytes < BATCH_BYTES ? KWR_OK : write_batch(l);
}

static kwr_status end_run(loading *l) {
    if (l->list == NULL) return KWR_OK;
    const kwr_status status = store(l, l->list, l->list_key.data, l->list_key.size,
                                    (kwr_slice){ l->run.data, l->run.size });
    l->list = NULL;
    l->run.size = 0;
    return status;
}

/* `key` is that of a segment that would begin here. */
static kwr_status load_element(loading *l, const rocks_state *s, const uint8_t *key, size_t size,
                               kwr_slice value) {
    const size_t prefix = size - KWR_SEQUENCE_BYTES;
    const uint64_t sequence = kwr_get_be64(key + prefix);
    if (sequence >= ROCKS_SEQUENCE_MAX) return KWR_ERR_CORRUPT;
    const size_t room = KWR_VARINT32_MAX + value.size;
    if (l->list != s || l->next != sequence || l->list_key.size != size ||
        memcmp(l->list_key.data, key, prefix) != 0 || l->run.size + room > ROCKS_SEGMENT_BYTES) {
        KWR_TRY(end_run(l));
        uint8_t *copy = kwr_rocks_room(l->e->env, &l->list_key, size);
        if (copy == NULL) return KWR_ERR_NOMEM;
        memcpy(copy, key, size);
    }
    uint8_t *p = kwr_buffer_extend(&l->run, room);
    if (p == NULL) return KWR_ERR_NOMEM;
    l->run.size -= (size_t)(p + room - kwr_rocks_element_put(p, value));
    l->list = s;
    l->next = sequence + 1;
    return KWR_OK;
}

static kwr_status load_entry(void *ctx, const kwr_entry *entry) {
    loading *l = ctx;
    const rocks_state *s = &l->e->states[entry->state];
    const kwr_address at = { .key_group = entry->key_group,
                             .key = entry->key,
                             .name = entry->name };
    size_t size;
    uint8_t *key = kwr_rocks_key(l->e->env, &l->key, &at, 1 + entry->subkey.size, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (kwr_state_is_collection(s->kind)) {
        key[size++] = s->kind == KWR_STATE_LIST ? ROCKS_SEGMENT : ROCKS_ELEMENT;
        if (entry->subkey.size > 0) memcpy(key + size, entry->subkey.data, entry->subkey.size);
        size += entry->subkey.size;
    }
    if (s->kind != KWR_STATE_LIST) return store(l, s, key, size, entry->value);
    if (entry->subkey.size != KWR_SEQUENCE_BYTES) return KWR_ERR_CORRUPT;
    return load_element(l, s, key, size, entry->value);
}

kwr_status kwr_rocks_install(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    loading l = { .e = e, .batch = rocksdb_writebatch_create(), .run = { .env = e->env } };
    kwr_status status = kwr_page_image_walk(image, load_entry, &l, err);
    if (status == KWR_OK) status = end_run(&l);
    if (status == KWR_OK) status = write_batch(&l);
    rocksdb_writebatch_destroy(l.batch);
    kwr_rocks_bytes_free(e->env, &l.key);
    kwr_rocks_bytes_free(e->env, &l.list_key);
    kwr_buffer_free(&l.run);
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
    uint64_t count;
    uint64_t next; /* lists */
} heading;

static kwr_status end_entry(heading *h) {
    if (h->count == 0) return KWR_OK;
    const bool list = h->s->kind == KWR_STATE_LIST;
    uint8_t value[ROCKS_LIST_HEAD_SIZE];
    if (list)
        kwr_rocks_head_put(value, &(rocks_list_head){ .count = h->count, .first = h->next });
    else
        kwr_put_le64(value, h->count);
    h->prefix.data[h->prefix.size] = list ? ROCKS_LIST_HEAD : ROCKS_HEADER;
    h->count = h->next = 0;
    return store(&h->l, h->s, h->prefix.data, h->prefix.size + 1,
                 (kwr_slice){ value, list ? ROCKS_LIST_HEAD_SIZE : ROCKS_HEADER_SIZE });
}

static kwr_status head_element(heading *h, const uint8_t *key, size_t size, kwr_slice value) {
    kwr_entry entry;
    bool header = false;
    uint64_t elements = 1;
    if (!kwr_rocks_key_parse(key, size, h->s->kind, &entry, &header)) return KWR_ERR_CORRUPT;
    const size_t prefix = size - entry.subkey.size - 1;
    if (h->count == 0 || prefix != h->prefix.size || memcmp(key, h->prefix.data, prefix) != 0) {
        KWR_TRY(end_entry(h));
        if (kwr_rocks_room(h->l.e->env, &h->prefix, prefix + 1) == NULL) return KWR_ERR_NOMEM;
        memcpy(h->prefix.data, key, prefix);
        h->prefix.size = prefix;
    }
    if (h->s->kind == KWR_STATE_LIST) {
        if (entry.subkey.size != KWR_SEQUENCE_BYTES || !kwr_rocks_segment_count(value, &elements))
            return KWR_ERR_CORRUPT;
        h->next = kwr_get_be64(entry.subkey.data) + elements;
    }
    h->count += elements;
    return KWR_OK;
}

static kwr_status make_headers(kwr_engine *e, const rocks_state *s) {
    heading h = { .l = { .e = e, .batch = rocksdb_writebatch_create() }, .s = s };
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(e->db->db, options, s->family);
    kwr_status status = KWR_OK;
    for (rocksdb_iter_seek_to_first(it); status >= KWR_OK && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t size = 0, value_size = 0;
        const char *key = rocksdb_iter_key(it, &size);
        const char *value = rocksdb_iter_value(it, &value_size);
        status = head_element(&h, (const uint8_t *)key, size, (kwr_slice){ value, value_size });
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
