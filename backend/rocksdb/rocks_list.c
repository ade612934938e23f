/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists: a head, which holds the newest elements itself, and segments with the older ones. An
 * append is merged into the head unread; what has become long is cut into segments by an append
 * that reads (rocks_chain.c says when). So a short list is one stored value, and a long one never
 * has to be read or written as a whole.
 *
 * The elements of a segment and of the tail are a run: each behind its size, numbered on from the
 * first. A number is missing only where an element was removed, and a run ends there.
 */
#include "backend/rocksdb/rocks_list.h"

/* ---- appending ---- */

static kwr_status append_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              const kwr_slice *values, size_t count, size_t size) {
    rocks_list_head head;
    rocks_change c;
    KWR_TRY(kwr_rocks_gathered_write(e, s));
    KWR_TRY(kwr_rocks_head_read(e, s, at, &head));
    if (count > UINT32_MAX - head.tail || count > ROCKS_SEQUENCE_MAX - head.first)
        return KWR_ERR_RANGE;
    uint8_t *run = kwr_rocks_room(e->env, &s->operand, head.elements.size + size);
    if (run == NULL) return KWR_ERR_NOMEM;
    if (head.elements.size > 0) memcpy(run, head.elements.data, head.elements.size);
    uint8_t *p = run + head.elements.size;
    for (size_t i = 0; i < count; i++)
        p = kwr_rocks_element_put(p, values[i]);
    head.elements = (kwr_slice){ run, (size_t)(p - run) };
    head.count += count;
    head.tail += (uint32_t)count;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    return kwr_rocks_change_end(&c, kwr_rocks_tail_write(&c, at, &head));
}

typedef kwr_status (*write_fn)(kwr_engine *e, rocks_state *s, rocks_write_kind kind, kwr_slice key,
                               kwr_slice value);

static kwr_status append_unread(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                const kwr_slice *values, size_t count, write_fn write) {
    const size_t size = kwr_rocks_elements_size(values, count);
    size_t key_size;
    const uint8_t *key = kwr_rocks_head_key(e, s, at, &key_size);
    uint8_t *operand = kwr_rocks_room(e->env, &s->operand, ROCKS_APPEND_SIZE + size);
    if (key == NULL || operand == NULL) return KWR_ERR_NOMEM;
    operand[0] = ROCKS_APPEND;
    kwr_put_le32(operand + 1, (uint32_t)count);
    uint8_t *p = operand + ROCKS_APPEND_SIZE;
    for (size_t i = 0; i < count; i++)
        p = kwr_rocks_element_put(p, values[i]);
    kwr_rocks_iterator_end(s);
    return write(e, s, ROCKS_WRITE_MERGE, (kwr_slice){ key, key_size },
                 (kwr_slice){ operand, (size_t)(p - operand) });
}

kwr_status kwr_rocks_list_append(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count) {
    const size_t size = kwr_rocks_elements_size(values, count);
    bool read;
    KWR_TRY(kwr_rocks_chain_long(e->env, &s->chains, at->entry_hash, size, &read));
    if (read || count > UINT32_MAX) return append_read(e, s, at, values, count, size);
    return append_unread(e, s, at, values, count, kwr_rocks_gather);
}

/* ---- one element ---- */

kwr_status kwr_rocks_list_get(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice *value) {
    uint64_t sequence;
    kwr_slice lent = { 0 };
    if (!kwr_rocks_sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    const kwr_status found = kwr_rocks_list_find(e, s, at, sequence, &lent);
    if (found == KWR_OK) *value = lent;
    return found;
}

/*
 * The stored value that holds the element the cursor is on, with the element replaced by `size`
 * bytes: the first of its own, zeros behind. Key and value are in s->pending; *out is the place.
 */
static kwr_status replace(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_slice old,
                          size_t size, void **out) {
    const rocks_list_cursor *cursor = &s->cursor;
    const uint8_t *run = cursor->run.data;
    const size_t fixed = cursor->in_head ? ROCKS_LIST_HEAD_SIZE : 0;
    const size_t after = cursor->run.size - cursor->next;
    const size_t before =
        cursor->next - old.size - kwr_varint32_size((uint32_t)old.size); /* of the run */
    uint64_t first = 0;
    size_t key_size;
    kwr_slice segment;
    if (!cursor->in_head) KWR_TRY(kwr_rocks_segment_here(s, &first, &segment));
    const uint8_t *key = cursor->in_head ? kwr_rocks_head_key(e, s, at, &key_size)
                                         : kwr_rocks_segment_key(e, s, at, first, &key_size);
    uint8_t *key_copy = key == NULL ? NULL : kwr_rocks_room(e->env, &s->pending.key, key_size);
    uint8_t *p =
        kwr_rocks_room(e->env, &s->pending.value, fixed + before + KWR_VARINT32_MAX + size + after);
    if (key_copy == NULL || p == NULL) return KWR_ERR_NOMEM;
    memcpy(key_copy, key, key_size);
    if (fixed > 0) kwr_rocks_head_put(p, &cursor->head);
    p += fixed;
    if (before > 0) memcpy(p, run, before);
    p += before;
    p += kwr_put_varint32(p, (uint32_t)size);
    *out = p;
    const size_t kept = old.size < size ? old.size : size;
    if (kept > 0) memcpy(p, old.data, kept);
    if (size > kept) memset(p + kept, 0, size - kept);
    p += size;
    if (after > 0) memcpy(p, run + cursor->next, after);
    s->pending.value.size = (size_t)(p + after - s->pending.value.data);
    return KWR_OK;
}

/* A new element above all others, with a gap before it or none, or one in a gap. */
static kwr_status put_new(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t sequence,
                          kwr_slice value) {
    rocks_list_head head = { 0 };
    rocks_change c;
    if (s->cursor.valid) head = s->cursor.head; /* somebody just looked for the element */
    if (sequence == head.first + head.tail)
        return append_unread(e, s, at, &value, 1, kwr_rocks_write);
    uint8_t *run = kwr_rocks_room(e->env, &s->operand, KWR_VARINT32_MAX + value.size);
    if (run == NULL) return KWR_ERR_NOMEM;
    const kwr_slice alone = { run, (size_t)(kwr_rocks_element_put(run, value) - run) };
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = kwr_rocks_segment_write(&c, at, sequence, alone);
    if (status >= KWR_OK && sequence >= head.first) {
        status = kwr_rocks_run_write(&c, at, head.first, head.elements);
        head = (rocks_list_head){ .count = head.count, .first = sequence + 1 };
    }
    head.count++;
    if (status >= KWR_OK) status = kwr_rocks_head_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_list_put(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice value) {
    uint64_t sequence;
    kwr_slice old = { 0 };
    void *into;
    if (!kwr_rocks_sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    if (sequence >= ROCKS_SEQUENCE_MAX) return KWR_ERR_RANGE;
    const kwr_status found = kwr_rocks_list_find(e, s, at, sequence, &old);
    KWR_TRY(found);
    if (found == KWR_NOT_FOUND) return put_new(e, s, at, sequence, value);
    KWR_TRY(replace(e, s, at, old, value.size, &into));
    if (value.size > 0) memcpy(into, value.data, value.size);
    kwr_rocks_iterator_end(s);
    return kwr_rocks_write(e, s, ROCKS_WRITE_PUT,
                           (kwr_slice){ s->pending.key.data, s->pending.key.size },
                           (kwr_slice){ s->pending.value.data, s->pending.value.size });
}

kwr_status kwr_rocks_list_modify(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey, size_t size, void **out, size_t *old_size) {
    uint64_t sequence;
    kwr_slice old = { 0 };
    if (!kwr_rocks_sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    if (sequence >= ROCKS_SEQUENCE_MAX) return KWR_ERR_RANGE;
    kwr_status found = kwr_rocks_list_find(e, s, at, sequence, &old);
    KWR_TRY(found);
    const bool absent = found == KWR_NOT_FOUND;
    const size_t had = absent ? 0 : old.size;
    const size_t wanted = size == KWR_KEEP_SIZE ? had : size;
    if (absent) { /* it is there from here on, and lent as any other */
        const uint8_t *zeros = kwr_rocks_room(e->env, &s->pending.value, wanted);
        if (zeros == NULL) return KWR_ERR_NOMEM;
        memset(s->pending.value.data, 0, wanted);
        KWR_TRY(put_new(e, s, at, sequence, (kwr_slice){ zeros, wanted }));
        found = kwr_rocks_list_find(e, s, at, sequence, &old);
        if (found != KWR_OK) return found < KWR_OK ? found : KWR_ERR_CORRUPT;
    }
    KWR_TRY(replace(e, s, at, old, wanted, out));
    kwr_rocks_iterator_end(s);
    s->pending.waits = true;
    *old_size = absent ? KWR_ABSENT : had;
    return KWR_OK;
}

/* What is left of the run the cursor is on, without the element it is on. */
static kwr_status remove_from_run(rocks_change *c, const kwr_address *at, kwr_slice old,
                                  rocks_list_head *head) {
    const rocks_list_cursor *cursor = &c->s->cursor;
    const uint64_t sequence = cursor->sequence;
    const uint8_t *run = cursor->run.data;
    const kwr_slice after = { run + cursor->next, cursor->run.size - cursor->next };
    const kwr_slice before = { run,
                               cursor->next - old.size - kwr_varint32_size((uint32_t)old.size) };
    if (cursor->in_head) {
        const uint32_t passed = (uint32_t)(sequence - head->first);
        if (after.size == 0) {
            head->elements = before;
            head->tail = passed;
            return KWR_OK;
        }
        KWR_TRY(kwr_rocks_run_write(c, at, head->first, before));
        head->elements = after;
        head->first = sequence + 1;
        head->tail -= passed + 1;
        return KWR_OK;
    }
    uint64_t first;
    size_t size;
    kwr_slice segment;
    KWR_TRY(kwr_rocks_segment_here(c->s, &first, &segment));
    const uint8_t *key = kwr_rocks_segment_key(c->e, c->s, at, first, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (before.size > 0)
        rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, before.data,
                                  before.size);
    else
        rocksdb_writebatch_delete_cf(c->batch, c->s->family, (const char *)key, size);
    return after.size == 0 ? KWR_OK : kwr_rocks_segment_write(c, at, sequence + 1, after);
}

/* One above the last element below `sequence`, or 0: what the next append is numbered. */
static kwr_status next_without(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               uint64_t sequence, uint64_t *out) {
    kwr_slice value;
    *out = 0;
    if (sequence == 0) return KWR_OK;
    const kwr_status found = kwr_rocks_list_at_most(e, s, at, sequence - 1, &value);
    KWR_TRY(found);
    if (found == KWR_OK) *out = s->cursor.sequence + 1;
    return KWR_OK;
}

kwr_status kwr_rocks_list_remove(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey) {
    uint64_t sequence, next = 0;
    kwr_slice old = { 0 };
    if (!kwr_rocks_sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    kwr_status found = kwr_rocks_list_cursor_at(e, s, at);
    if (found != KWR_OK) return found;
    KWR_TRY(next_without(e, s, at, sequence, &next));
    found = kwr_rocks_list_find(e, s, at, sequence, &old);
    if (found != KWR_OK) return found;
    rocks_list_head head = s->cursor.head;
    const bool last = sequence + 1 == head.first + head.tail;
    rocks_change c;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = remove_from_run(&c, at, old, &head);
    head.count--;
    if (last && head.tail == 0) head.first = next;
    if (status >= KWR_OK) status = kwr_rocks_head_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}

/* ---- all of them ---- */

kwr_status kwr_rocks_list_clear(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    rocks_list_head head;
    rocks_change c;
    const kwr_status found = kwr_rocks_head_read(e, s, at, &head);
    if (found != KWR_OK) return found;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = KWR_OK;
    if (kwr_rocks_has_segments(&head))
        status = kwr_rocks_delete_elements(&c, at, head.count - head.tail);
    if (status >= KWR_OK) status = kwr_rocks_head_write(&c, at, &(rocks_list_head){ 0 });
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_list_assign(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count) {
    rocks_list_head head;
    rocks_change c;
    KWR_TRY(kwr_rocks_head_read(e, s, at, &head));
    if (count > UINT32_MAX) return KWR_ERR_RANGE;
    uint8_t *run = kwr_rocks_room(e->env, &s->operand, kwr_rocks_elements_size(values, count));
    if (run == NULL) return KWR_ERR_NOMEM;
    uint8_t *p = run;
    for (size_t i = 0; i < count; i++)
        p = kwr_rocks_element_put(p, values[i]);
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = KWR_OK;
    if (kwr_rocks_has_segments(&head))
        status = kwr_rocks_delete_elements(&c, at, head.count - head.tail);
    head = (rocks_list_head){ .count = count,
                              .tail = (uint32_t)count,
                              .elements = { run, (size_t)(p - run) } };
    if (status >= KWR_OK) status = kwr_rocks_tail_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}
