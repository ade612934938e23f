/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps and timers: a header with the number of elements, and a key for each element, so that no
 * write touches another element. Lists are rocks_list.c.
 */
#include "backend/rocksdb/rocks.h"

enum { DELETES_ONE_BY_ONE = 64 };

kwr_status kwr_rocks_change_begin(kwr_engine *e, rocks_state *s, rocks_change *out) {
    *out = (rocks_change){ .e = e, .s = s, .batch = rocksdb_writebatch_create() };
    return out->batch == NULL ? KWR_ERR_NOMEM : KWR_OK;
}

kwr_status kwr_rocks_change_end(rocks_change *c, kwr_status status) {
    if (status >= KWR_OK) {
        char *words = NULL;
        kwr_rocks_iterator_end(c->s);
        size_t size = 0;
        (void)rocksdb_writebatch_data(c->batch, &size);
        c->e->written += size;
        rocksdb_write(c->e->db->db, c->e->db->write, c->batch, &words);
        if (words != NULL) status = kwr_rocks_failed(c->e, words);
    }
    rocksdb_writebatch_destroy(c->batch);
    return status;
}

/* The key of the header, with the byte that says so. */
static uint8_t *header_key(kwr_engine *e, rocks_state *s, const kwr_address *at, size_t extra,
                           size_t *size) {
    uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 1 + extra, size);
    if (key == NULL) return NULL;
    key[(*size)++] = ROCKS_HEADER;
    return key;
}

static uint8_t *element_key(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_slice subkey,
                            size_t *size) {
    uint8_t *key = header_key(e, s, at, subkey.size, size);
    if (key == NULL) return NULL;
    key[*size - 1] = ROCKS_ELEMENT;
    if (subkey.size > 0) memcpy(key + *size, subkey.data, subkey.size);
    *size += subkey.size;
    return key;
}

kwr_status kwr_rocks_fetch(kwr_engine *e, rocks_state *s, const uint8_t *key, size_t size,
                           kwr_slice *out) {
    char *words = NULL;
    if (s->lent != NULL) rocksdb_pinnableslice_destroy(s->lent);
    s->lent = rocksdb_get_pinned_cf(e->db->db, e->read, s->family, (const char *)key, size, &words);
    if (words != NULL) return kwr_rocks_failed(e, words);
    if (s->lent == NULL) return KWR_NOT_FOUND;
    size_t value_size = 0;
    const char *value = rocksdb_pinnableslice_value(s->lent, &value_size);
    *out = (kwr_slice){ value, value_size };
    return KWR_OK;
}

static kwr_status count_read(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t *out) {
    size_t size;
    const uint8_t *key = header_key(e, s, at, 0, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    kwr_slice bytes = { 0 };
    const kwr_status found = kwr_rocks_fetch(e, s, key, size, &bytes);
    *out = 0;
    if (found != KWR_OK) return found;
    if (bytes.size != ROCKS_HEADER_SIZE) return KWR_ERR_CORRUPT;
    *out = kwr_get_le64(bytes.data);
    return KWR_OK;
}

static kwr_status count_write(rocks_change *c, const kwr_address *at, uint64_t count) {
    size_t size;
    const uint8_t *key = header_key(c->e, c->s, at, 0, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (count == 0) {
        rocksdb_writebatch_delete_cf(c->batch, c->s->family, (const char *)key, size);
        return KWR_OK;
    }
    uint8_t bytes[ROCKS_HEADER_SIZE];
    kwr_put_le64(bytes, count);
    rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, (const char *)bytes,
                              sizeof bytes);
    return KWR_OK;
}

static kwr_status element_write(rocks_change *c, const kwr_address *at, kwr_slice subkey,
                                kwr_slice value) {
    size_t size;
    const uint8_t *key = element_key(c->e, c->s, at, subkey, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, value.data,
                              value.size);
    return KWR_OK;
}

/* ---- one element ---- */

static kwr_status element_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               kwr_slice subkey, kwr_slice *value) {
    size_t size;
    const uint8_t *key = element_key(e, s, at, subkey, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    return kwr_rocks_fetch(e, s, key, size, value);
}

kwr_status kwr_rocks_sub_get(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice *value) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST) return kwr_rocks_list_get(e, s, at, subkey, value);
    return element_read(e, s, at, subkey, value);
}

/* Makes the element that a write of `value` makes; `exists`: its header needs no change. */
static kwr_status put_element(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice value, bool exists) {
    rocks_change c;
    uint64_t count = 0;
    if (!exists) KWR_TRY(count_read(e, s, at, &count));
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = element_write(&c, at, subkey, value);
    if (status >= KWR_OK && !exists) status = count_write(&c, at, count + 1);
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_sub_put(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice value) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST) return kwr_rocks_list_put(e, s, at, subkey, value);
    kwr_slice old;
    const kwr_status found = element_read(e, s, at, subkey, &old);
    KWR_TRY(found);
    return put_element(e, s, at, subkey, value, found == KWR_OK);
}

kwr_status kwr_rocks_sub_modify(kwr_engine *e, const kwr_address *at, kwr_slice subkey, size_t size,
                                void **out, size_t *old_size) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST)
        return kwr_rocks_list_modify(e, s, at, subkey, size, out, old_size);
    kwr_slice old = { 0 };
    const kwr_status found = element_read(e, s, at, subkey, &old);
    KWR_TRY(found);
    const size_t had = found == KWR_OK ? old.size : 0;
    const size_t wanted = size == KWR_KEEP_SIZE ? had : size;
    uint8_t *value = kwr_rocks_room(e->env, &s->pending.value, wanted);
    if (value == NULL) return KWR_ERR_NOMEM;
    const size_t kept = had < wanted ? had : wanted;
    if (kept > 0) memcpy(value, old.data, kept);
    if (wanted > kept) memset(value + kept, 0, wanted - kept);
    size_t key_size;
    const uint8_t *key = element_key(e, s, at, subkey, &key_size);
    uint8_t *copy = key == NULL ? NULL : kwr_rocks_room(e->env, &s->pending.key, key_size);
    if (copy == NULL) return KWR_ERR_NOMEM;
    memcpy(copy, key, key_size);
    if (found != KWR_OK)
        KWR_TRY(put_element(e, s, at, subkey, (kwr_slice){ value, wanted }, false));
    kwr_rocks_iterator_end(s);
    s->pending.waits = true;
    *out = value;
    *old_size = found == KWR_OK ? had : KWR_ABSENT;
    return KWR_OK;
}

kwr_status kwr_rocks_sub_remove(kwr_engine *e, const kwr_address *at, kwr_slice subkey) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST) return kwr_rocks_list_remove(e, s, at, subkey);
    kwr_slice old;
    const kwr_status found = element_read(e, s, at, subkey, &old);
    if (found != KWR_OK) return found;
    uint64_t count;
    rocks_change c;
    KWR_TRY(count_read(e, s, at, &count));
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    size_t size;
    const uint8_t *key = element_key(e, s, at, subkey, &size);
    kwr_status status = key == NULL ? KWR_ERR_NOMEM : KWR_OK;
    if (status >= KWR_OK) {
        rocksdb_writebatch_delete_cf(c.batch, s->family, (const char *)key, size);
        status = count_write(&c, at, count > 0 ? count - 1 : 0);
    }
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_sub_append(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin_unread(e, at->state, &s));
    return count == 0 ? KWR_OK : kwr_rocks_list_append(e, s, at, values, count);
}

kwr_status kwr_rocks_sub_count(kwr_engine *e, const kwr_address *at, uint64_t *count) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST) return kwr_rocks_list_count(e, s, at, count);
    uint64_t elements;
    KWR_TRY(count_read(e, s, at, &elements));
    *count = elements;
    return KWR_OK;
}

/* ---- all of them ---- */

/* The iterator over one collection; made anew after a write, or for another collection. */
kwr_status kwr_rocks_iterator_at(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    size_t size;
    const uint8_t *key = element_key(e, s, at, (kwr_slice){ 0 }, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (s->iterator != NULL && s->iterator_prefix.size == size &&
        memcmp(s->iterator_prefix.data, key, size) == 0)
        return KWR_OK;
    kwr_rocks_iterator_close(s);
    uint8_t *prefix = kwr_rocks_room(e->env, &s->iterator_prefix, size);
    uint8_t *limit = kwr_rocks_room(e->env, &s->iterator_limit, size);
    if (prefix == NULL || limit == NULL) return KWR_ERR_NOMEM;
    memcpy(prefix, key, size);
    memcpy(limit, key, size);
    limit[size - 1] = ROCKS_ELEMENT + 1;
    s->iterator_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_lower_bound(s->iterator_options, (const char *)prefix, size);
    rocksdb_readoptions_set_iterate_upper_bound(s->iterator_options, (const char *)limit, size);
    s->iterator = rocksdb_create_iterator_cf(e->db->db, s->iterator_options, s->family);
    return KWR_OK;
}

static kwr_status seek(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_seek how,
                       kwr_slice from) {
    rocksdb_iterator_t *it = s->iterator;
    if (how == KWR_SEEK_FIRST || how == KWR_SEEK_LAST) {
        if (how == KWR_SEEK_FIRST)
            rocksdb_iter_seek_to_first(it);
        else
            rocksdb_iter_seek_to_last(it);
        return KWR_OK;
    }
    const size_t prefix = s->iterator_prefix.size;
    if (how == KWR_SEEK_ABOVE && rocksdb_iter_valid(it)) {
        size_t size = 0;
        const char *key = rocksdb_iter_key(it, &size);
        /* The usual case: the caller goes on from where the iterator is. */
        if (size - prefix == from.size &&
            (from.size == 0 || memcmp(key + prefix, from.data, from.size) == 0)) {
            rocksdb_iter_next(it);
            return KWR_OK;
        }
    }
    size_t size;
    const uint8_t *key = element_key(e, s, at, from, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (how == KWR_SEEK_BELOW)
        rocksdb_iter_seek_for_prev(it, (const char *)key, size);
    else
        rocksdb_iter_seek(it, (const char *)key, size);
    if (how == KWR_SEEK_AT_LEAST || !rocksdb_iter_valid(it)) return KWR_OK;
    size_t found_size = 0;
    const char *found = rocksdb_iter_key(it, &found_size);
    if (found_size != size || memcmp(found, key, size) != 0) return KWR_OK;
    if (how == KWR_SEEK_ABOVE)
        rocksdb_iter_next(it);
    else
        rocksdb_iter_prev(it);
    return KWR_OK;
}

kwr_status kwr_rocks_sub_seek(kwr_engine *e, const kwr_address *at, kwr_seek how, kwr_slice from,
                              kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    if (s->kind == KWR_STATE_LIST)
        return kwr_rocks_list_seek(e, s, at, how, from, hint, subkey, value);
    (void)hint; /* the state's iterator is the hint */
    KWR_TRY(kwr_rocks_iterator_at(e, s, at));
    KWR_TRY(seek(e, s, at, how, from));
    if (!rocksdb_iter_valid(s->iterator)) {
        char *words = NULL;
        rocksdb_iter_get_error(s->iterator, &words);
        return words == NULL ? KWR_NOT_FOUND : kwr_rocks_failed(e, words);
    }
    size_t size = 0;
    const char *key = rocksdb_iter_key(s->iterator, &size);
    const size_t prefix = s->iterator_prefix.size;
    if (subkey != NULL) *subkey = (kwr_slice){ key + prefix, size - prefix };
    if (value != NULL) {
        const char *bytes = rocksdb_iter_value(s->iterator, &size);
        *value = (kwr_slice){ bytes, size };
    }
    return KWR_OK;
}

/* Few elements are deleted one by one: what deletes a range slows every later read down a bit. */
kwr_status kwr_rocks_delete_elements(rocks_change *c, const kwr_address *at, uint64_t count) {
    kwr_engine *e = c->e;
    rocks_state *s = c->s;
    KWR_TRY(kwr_rocks_iterator_at(e, s, at));
    if (count > DELETES_ONE_BY_ONE) {
        rocksdb_writebatch_delete_range_cf(
            c->batch, s->family, (const char *)s->iterator_prefix.data, s->iterator_prefix.size,
            (const char *)s->iterator_limit.data, s->iterator_limit.size);
        return KWR_OK;
    }
    for (rocksdb_iter_seek_to_first(s->iterator); rocksdb_iter_valid(s->iterator);
         rocksdb_iter_next(s->iterator)) {
        size_t size = 0;
        const char *key = rocksdb_iter_key(s->iterator, &size);
        rocksdb_writebatch_delete_cf(c->batch, s->family, key, size);
    }
    char *words = NULL;
    rocksdb_iter_get_error(s->iterator, &words);
    return words == NULL ? KWR_OK : kwr_rocks_failed(e, words);
}

kwr_status kwr_rocks_collection_remove(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    uint64_t count;
    const kwr_status found = count_read(e, s, at, &count);
    if (found != KWR_OK) return found;
    rocks_change c;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = kwr_rocks_delete_elements(&c, at, count);
    if (status >= KWR_OK) status = count_write(&c, at, 0);
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_sub_assign(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count) {
    rocks_state *s;
    KWR_TRY(kwr_rocks_begin(e, at->state, &s));
    return kwr_rocks_list_assign(e, s, at, values, count);
}
