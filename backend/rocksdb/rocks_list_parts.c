/* SPDX-License-Identifier: Apache-2.0 */
/* What a list is stored as: runs of elements, the head and segments, and their keys. */
#include "backend/rocksdb/rocks_list.h"

/* ---- runs ---- */

bool kwr_rocks_run_skip(kwr_slice run, uint64_t count, size_t *next) {
    kwr_slice passed;
    for (; count > 0; count--)
        if (!kwr_rocks_run_step(run, next, &passed)) return false;
    return true;
}

bool kwr_rocks_segment_count(kwr_slice stored, uint64_t *count) {
    kwr_slice passed;
    size_t next = 0;
    *count = 0;
    while (next < stored.size) {
        if (!kwr_rocks_run_step(stored, &next, &passed)) return false;
        ++*count;
    }
    return *count > 0;
}

uint8_t *kwr_rocks_element_put(uint8_t *p, kwr_slice value) {
    p += kwr_put_varint32(p, (uint32_t)value.size);
    if (value.size > 0) memcpy(p, value.data, value.size);
    return p + value.size;
}

size_t kwr_rocks_elements_size(const kwr_slice *values, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += kwr_varint32_size((uint32_t)values[i].size) + values[i].size;
    return size;
}

/* ---- keys ---- */

const uint8_t *kwr_rocks_head_key(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                  size_t *size) {
    uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 1, size);
    if (key != NULL) key[(*size)++] = ROCKS_LIST_HEAD;
    return key;
}

const uint8_t *kwr_rocks_segment_key(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                     uint64_t sequence, size_t *size) {
    uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 1 + KWR_SEQUENCE_BYTES, size);
    if (key == NULL) return NULL;
    key[(*size)++] = ROCKS_SEGMENT;
    kwr_put_be64(key + *size, sequence);
    *size += KWR_SEQUENCE_BYTES;
    return key;
}

bool kwr_rocks_sequence_of(kwr_slice subkey, uint64_t *out) {
    if (subkey.size != KWR_SEQUENCE_BYTES) return false;
    *out = kwr_get_be64(subkey.data);
    return true;
}

/* ---- the head ---- */

kwr_status kwr_rocks_head_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               rocks_list_head *out) {
    size_t size;
    kwr_slice stored = { 0 };
    const uint8_t *key = kwr_rocks_head_key(e, s, at, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    *out = (rocks_list_head){ 0 };
    const kwr_status found = kwr_rocks_fetch(e, s, key, size, &stored);
    if (found != KWR_OK) return found;
    return kwr_rocks_head_get(stored.data, stored.size, out) ? KWR_OK : KWR_ERR_CORRUPT;
}

kwr_status kwr_rocks_head_write(rocks_change *c, const kwr_address *at,
                                const rocks_list_head *head) {
    size_t size;
    const uint8_t *key = kwr_rocks_head_key(c->e, c->s, at, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (head->count == 0) {
        rocksdb_writebatch_delete_cf(c->batch, c->s->family, (const char *)key, size);
        return KWR_OK;
    }
    uint8_t fixed[ROCKS_LIST_HEAD_SIZE];
    kwr_rocks_head_put(fixed, head);
    const char *keys[] = { (const char *)key };
    const char *parts[] = { (const char *)fixed, head->elements.data };
    const size_t sizes[] = { sizeof fixed, head->elements.size };
    rocksdb_writebatch_putv_cf(c->batch, c->s->family, 1, keys, &size,
                               head->elements.size > 0 ? 2 : 1, parts, sizes);
    return KWR_OK;
}

kwr_status kwr_rocks_segment_write(rocks_change *c, const kwr_address *at, uint64_t first,
                                   kwr_slice run) {
    size_t size;
    const uint8_t *key = kwr_rocks_segment_key(c->e, c->s, at, first, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, run.data, run.size);
    return KWR_OK;
}

kwr_status kwr_rocks_run_write(rocks_change *c, const kwr_address *at, uint64_t first,
                               kwr_slice run) {
    kwr_slice value;
    uint64_t sequence = first;
    for (size_t from = 0, next = 0; from < run.size;) {
        if (!kwr_rocks_run_step(run, &next, &value)) return KWR_ERR_CORRUPT;
        sequence++;
        size_t after = next;
        const bool last = next == run.size;
        if (!last && !kwr_rocks_run_step(run, &after, &value)) return KWR_ERR_CORRUPT;
        if (!last && after - from <= ROCKS_SEGMENT_BYTES) continue;
        const kwr_slice part = { (const uint8_t *)run.data + from, next - from };
        KWR_TRY(kwr_rocks_segment_write(c, at, first, part));
        first = sequence;
        from = next;
    }
    return KWR_OK;
}

kwr_status kwr_rocks_tail_write(rocks_change *c, const kwr_address *at, rocks_list_head *head) {
    if (head->elements.size >= ROCKS_SEGMENT_BYTES) {
        KWR_TRY(kwr_rocks_run_write(c, at, head->first, head->elements));
        head->first += head->tail;
        head->tail = 0;
        head->elements = (kwr_slice){ 0 };
    }
    return kwr_rocks_head_write(c, at, head);
}
