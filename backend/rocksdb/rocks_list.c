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
#include "backend/rocksdb/rocks.h"

/* ---- runs ---- */

/* The element at `*next`, which becomes the offset behind it. */
static bool run_step(kwr_slice run, size_t *next, kwr_slice *value) {
    kwr_cursor c = kwr_cursor_of(run.data, run.size);
    c.at = *next;
    const uint32_t size = kwr_cursor_varint32(&c);
    const uint8_t *data = kwr_cursor_take(&c, size);
    if (c.failed) return false;
    *value = (kwr_slice){ data, size };
    *next = c.at;
    return true;
}

/* Passes over `count` elements. */
static bool run_skip(kwr_slice run, uint64_t count, size_t *next) {
    kwr_slice passed;
    for (; count > 0; count--)
        if (!run_step(run, next, &passed)) return false;
    return true;
}

bool kwr_rocks_segment_count(kwr_slice stored, uint64_t *count) {
    kwr_slice passed;
    size_t next = 0;
    *count = 0;
    while (next < stored.size) {
        if (!run_step(stored, &next, &passed)) return false;
        ++*count;
    }
    return *count > 0;
}

uint8_t *kwr_rocks_element_put(uint8_t *p, kwr_slice value) {
    p += kwr_put_varint32(p, (uint32_t)value.size);
    if (value.size > 0) memcpy(p, value.data, value.size);
    return p + value.size;
}

static size_t elements_size(const kwr_slice *values, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += kwr_varint32_size((uint32_t)values[i].size) + values[i].size;
    return size;
}

/* ---- keys ---- */

static const uint8_t *head_key(kwr_engine *e, rocks_state *s, const kwr_address *at, size_t *size) {
    uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 1, size);
    if (key != NULL) key[(*size)++] = ROCKS_LIST_HEAD;
    return key;
}

static const uint8_t *segment_key(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                  uint64_t sequence, size_t *size) {
    uint8_t *key = kwr_rocks_key(e->env, &s->key, at, 1 + KWR_SEQUENCE_BYTES, size);
    if (key == NULL) return NULL;
    key[(*size)++] = ROCKS_SEGMENT;
    kwr_put_be64(key + *size, sequence);
    *size += KWR_SEQUENCE_BYTES;
    return key;
}

static bool sequence_of(kwr_slice subkey, uint64_t *out) {
    if (subkey.size != KWR_SEQUENCE_BYTES) return false;
    *out = kwr_get_be64(subkey.data);
    return true;
}

/* ---- the head ---- */

/* KWR_NOT_FOUND: there is no list, and *out is that of an empty one. s->lent keeps the elements. */
static kwr_status head_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                            rocks_list_head *out) {
    size_t size;
    kwr_slice stored = { 0 };
    const uint8_t *key = head_key(e, s, at, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    *out = (rocks_list_head){ 0 };
    const kwr_status found = kwr_rocks_fetch(e, s, key, size, &stored);
    if (found != KWR_OK) return found;
    return kwr_rocks_head_get(stored.data, stored.size, out) ? KWR_OK : KWR_ERR_CORRUPT;
}

static bool has_segments(const rocks_list_head *head) { return head->count > head->tail; }

static kwr_status head_write(rocks_change *c, const kwr_address *at, const rocks_list_head *head) {
    size_t size;
    const uint8_t *key = head_key(c->e, c->s, at, &size);
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

static kwr_status segment_write(rocks_change *c, const kwr_address *at, uint64_t first,
                                kwr_slice run) {
    size_t size;
    const uint8_t *key = segment_key(c->e, c->s, at, first, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, run.data, run.size);
    return KWR_OK;
}

/* Cuts a run into segments of about the usual size. */
static kwr_status cut(rocks_change *c, const kwr_address *at, uint64_t first, kwr_slice run) {
    kwr_slice value;
    uint64_t sequence = first;
    for (size_t from = 0, next = 0; from < run.size;) {
        if (!run_step(run, &next, &value)) return KWR_ERR_CORRUPT;
        sequence++;
        size_t after = next;
        const bool last = next == run.size;
        if (!last && !run_step(run, &after, &value)) return KWR_ERR_CORRUPT;
        if (!last && after - from <= ROCKS_SEGMENT_BYTES) continue;
        const kwr_slice part = { (const uint8_t *)run.data + from, next - from };
        KWR_TRY(segment_write(c, at, first, part));
        first = sequence;
        from = next;
    }
    return KWR_OK;
}

/* Writes a head with these elements in its tail, or in segments when they are too many for that. */
static kwr_status tail_write(rocks_change *c, const kwr_address *at, rocks_list_head *head) {
    if (head->elements.size >= ROCKS_SEGMENT_BYTES) {
        KWR_TRY(cut(c, at, head->first, head->elements));
        head->first += head->tail;
        head->tail = 0;
        head->elements = (kwr_slice){ 0 };
    }
    return head_write(c, at, head);
}

/* ---- appending ---- */

static kwr_status append_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              const kwr_slice *values, size_t count, size_t size) {
    rocks_list_head head;
    rocks_change c;
    KWR_TRY(head_read(e, s, at, &head));
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
    return kwr_rocks_change_end(&c, tail_write(&c, at, &head));
}

static kwr_status append_unread(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                const kwr_slice *values, size_t count, size_t size) {
    size_t key_size;
    const uint8_t *key = head_key(e, s, at, &key_size);
    uint8_t *operand = kwr_rocks_room(e->env, &s->operand, ROCKS_APPEND_SIZE + size);
    if (key == NULL || operand == NULL) return KWR_ERR_NOMEM;
    operand[0] = ROCKS_APPEND;
    kwr_put_le32(operand + 1, (uint32_t)count);
    uint8_t *p = operand + ROCKS_APPEND_SIZE;
    for (size_t i = 0; i < count; i++)
        p = kwr_rocks_element_put(p, values[i]);
    kwr_rocks_iterator_end(s);
    char *words = NULL;
    rocksdb_merge_cf(e->db->db, e->db->write, s->family, (const char *)key, key_size,
                     (const char *)operand, (size_t)(p - operand), &words);
    return words == NULL ? KWR_OK : kwr_rocks_failed(e, words);
}

kwr_status kwr_rocks_list_append(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count) {
    const size_t size = elements_size(values, count);
    bool read;
    KWR_TRY(kwr_rocks_chain_long(e->env, &s->chains, at->entry_hash, size, &read));
    if (read || count > UINT32_MAX) return append_read(e, s, at, values, count, size);
    return append_unread(e, s, at, values, count, size);
}

/* ---- walking ---- */

void kwr_rocks_list_cursor_end(rocks_state *s) {
    rocks_list_cursor *cursor = &s->cursor;
    if (cursor->pinned != NULL) rocksdb_pinnableslice_destroy(cursor->pinned);
    cursor->pinned = NULL;
    cursor->valid = cursor->on = false;
}

/* Begins a walk over this list, or goes on with it. */
static kwr_status cursor_at(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    rocks_list_cursor *cursor = &s->cursor;
    size_t size;
    const uint8_t *key = head_key(e, s, at, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (cursor->valid && cursor->entry.size == size && memcmp(cursor->entry.data, key, size) == 0)
        return KWR_OK;
    kwr_rocks_iterator_end(s);
    uint8_t *copy = kwr_rocks_room(e->env, &cursor->entry, size);
    if (copy == NULL) return KWR_ERR_NOMEM;
    memcpy(copy, key, size);
    const kwr_status found = head_read(e, s, at, &cursor->head);
    if (found != KWR_OK) return found;
    cursor->pinned = s->lent;
    s->lent = NULL;
    cursor->valid = true;
    cursor->walk++;
    return KWR_OK;
}

static kwr_status iterator_status(kwr_engine *e, rocks_state *s) {
    char *words = NULL;
    rocksdb_iter_get_error(s->iterator, &words);
    return words == NULL ? KWR_NOT_FOUND : kwr_rocks_failed(e, words);
}

/* Stands on the element `skip` behind the first of a run, and lends it. */
static kwr_status stand(rocks_list_cursor *cursor, bool in_head, kwr_slice run, uint64_t first,
                        uint64_t skip, kwr_slice *value) {
    cursor->on = false;
    cursor->in_head = in_head;
    cursor->run = run;
    cursor->next = 0;
    if (!run_skip(run, skip, &cursor->next) || !run_step(run, &cursor->next, value))
        return KWR_ERR_CORRUPT;
    cursor->sequence = first + skip;
    cursor->on = true;
    return KWR_OK;
}

/* The segment the iterator is on. */
static kwr_status segment_here(rocks_state *s, uint64_t *first, kwr_slice *run) {
    size_t size = 0;
    const char *key = rocksdb_iter_key(s->iterator, &size);
    const size_t prefix = s->iterator_prefix.size;
    if (size != prefix + KWR_SEQUENCE_BYTES) return KWR_ERR_CORRUPT;
    *first = kwr_get_be64(key + prefix);
    const char *bytes = rocksdb_iter_value(s->iterator, &size);
    *run = (kwr_slice){ bytes, size };
    return KWR_OK;
}

/* The iterator stands on the last segment that begins at or below `sequence`, or on none. */
static kwr_status segment_below(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                uint64_t sequence) {
    size_t size;
    s->cursor.on = false;
    KWR_TRY(kwr_rocks_iterator_at(e, s, at));
    const uint8_t *key = segment_key(e, s, at, sequence, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    rocksdb_iter_seek_for_prev(s->iterator, (const char *)key, size);
    return rocksdb_iter_valid(s->iterator) ? KWR_OK : iterator_status(e, s);
}

/* The first element of segments that is not below `sequence`. */
static kwr_status segments_forward(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                   uint64_t sequence, kwr_slice *value) {
    uint64_t first, count;
    kwr_slice run;
    const kwr_status below = segment_below(e, s, at, sequence);
    KWR_TRY(below);
    if (below == KWR_OK) {
        KWR_TRY(segment_here(s, &first, &run));
        if (sequence == first) return stand(&s->cursor, false, run, first, 0, value);
        if (!kwr_rocks_segment_count(run, &count)) return KWR_ERR_CORRUPT;
        if (sequence - first < count)
            return stand(&s->cursor, false, run, first, sequence - first, value);
        rocksdb_iter_next(s->iterator);
    } else {
        rocksdb_iter_seek_to_first(s->iterator);
    }
    if (!rocksdb_iter_valid(s->iterator)) return iterator_status(e, s);
    KWR_TRY(segment_here(s, &first, &run));
    return stand(&s->cursor, false, run, first, 0, value);
}

/* The first element that is not below `sequence`. */
static kwr_status forward(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t sequence,
                          kwr_slice *value) {
    rocks_list_cursor *cursor = &s->cursor;
    const rocks_list_head *head = &cursor->head;
    if (cursor->on && sequence == cursor->sequence + 1) {
        if (cursor->next < cursor->run.size) {
            if (!run_step(cursor->run, &cursor->next, value)) return KWR_ERR_CORRUPT;
            cursor->sequence = sequence;
            return KWR_OK;
        }
        if (cursor->in_head) return KWR_NOT_FOUND;
        cursor->on = false;
        rocksdb_iter_next(s->iterator);
        if (rocksdb_iter_valid(s->iterator)) {
            uint64_t first;
            kwr_slice run;
            KWR_TRY(segment_here(s, &first, &run));
            return stand(cursor, false, run, first, 0, value);
        }
        KWR_TRY(iterator_status(e, s));
    } else if (has_segments(head) && sequence < head->first) {
        const kwr_status found = segments_forward(e, s, at, sequence, value);
        if (found != KWR_NOT_FOUND) return found;
    }
    const uint64_t skip = sequence > head->first ? sequence - head->first : 0;
    if (skip >= head->tail) return KWR_NOT_FOUND;
    return stand(cursor, true, head->elements, head->first, skip, value);
}

/* The last element that is not above `sequence`. */
static kwr_status backward(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t sequence,
                           kwr_slice *value) {
    rocks_list_cursor *cursor = &s->cursor;
    const rocks_list_head *head = &cursor->head;
    if (head->tail > 0 && sequence >= head->first) {
        const uint64_t skip = sequence - head->first;
        return stand(cursor, true, head->elements, head->first,
                     skip < head->tail ? skip : head->tail - 1, value);
    }
    if (!has_segments(head)) return KWR_NOT_FOUND;
    const kwr_status below = segment_below(e, s, at, sequence);
    if (below != KWR_OK) return below;
    uint64_t first, count;
    kwr_slice run;
    KWR_TRY(segment_here(s, &first, &run));
    if (!kwr_rocks_segment_count(run, &count)) return KWR_ERR_CORRUPT;
    const uint64_t skip = sequence - first;
    return stand(cursor, false, run, first, skip < count ? skip : count - 1, value);
}

static kwr_status seek(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_seek how,
                       kwr_slice from, kwr_engine_hint *hint, kwr_slice *value) {
    uint64_t sequence = 0;
    if (hint == NULL || !s->cursor.valid || hint->stamp != s->cursor.walk) {
        const kwr_status found = cursor_at(e, s, at);
        if (found != KWR_OK) return found;
        if (hint != NULL) hint->stamp = s->cursor.walk;
    }
    if (how == KWR_SEEK_FIRST) return forward(e, s, at, 0, value);
    if (how == KWR_SEEK_LAST) return backward(e, s, at, UINT64_MAX, value);
    if (!sequence_of(from, &sequence)) return KWR_ERR_CORRUPT;
    if (how == KWR_SEEK_AT_LEAST) return forward(e, s, at, sequence, value);
    if (how == KWR_SEEK_ABOVE)
        return sequence == UINT64_MAX ? KWR_NOT_FOUND : forward(e, s, at, sequence + 1, value);
    return sequence == 0 ? KWR_NOT_FOUND : backward(e, s, at, sequence - 1, value);
}

kwr_status kwr_rocks_list_seek(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_seek how,
                               kwr_slice from, kwr_engine_hint *hint, kwr_slice *subkey,
                               kwr_slice *value) {
    kwr_slice lent = { 0 };
    const kwr_status found = seek(e, s, at, how, from, hint, &lent);
    if (found != KWR_OK) return found;
    rocks_list_cursor *cursor = &s->cursor;
    kwr_put_be64(cursor->subkey, cursor->sequence);
    if (subkey != NULL) *subkey = (kwr_slice){ cursor->subkey, sizeof cursor->subkey };
    if (value != NULL) *value = lent;
    return KWR_OK;
}

kwr_status kwr_rocks_list_count(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                uint64_t *count) {
    rocks_list_head head;
    KWR_TRY(head_read(e, s, at, &head));
    *count = head.count;
    return KWR_OK;
}

kwr_status kwr_rocks_list_walk(kwr_entry *entry, kwr_slice stored, kwr_entry_fn fn, void *fn_ctx) {
    uint64_t sequence = 0, count;
    kwr_slice run = stored;
    if (!sequence_of(entry->subkey, &sequence)) {
        rocks_list_head head;
        if (!kwr_rocks_head_get(stored.data, stored.size, &head)) return KWR_ERR_CORRUPT;
        run = head.elements;
        sequence = head.first;
        count = head.tail;
    } else if (!kwr_rocks_segment_count(run, &count)) {
        return KWR_ERR_CORRUPT;
    }
    uint8_t subkey[KWR_SEQUENCE_BYTES];
    entry->subkey = (kwr_slice){ subkey, sizeof subkey };
    size_t next = 0;
    for (; count > 0; count--, sequence++) {
        if (!run_step(run, &next, &entry->value)) return KWR_ERR_CORRUPT;
        kwr_put_be64(subkey, sequence);
        const kwr_status status = fn(fn_ctx, entry);
        if (status != KWR_OK) return status;
    }
    return next == run.size ? KWR_OK : KWR_ERR_CORRUPT;
}

/* ---- one element ---- */

/* Stands on exactly this element. */
static kwr_status find(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t sequence,
                       kwr_slice *value) {
    const kwr_status open = cursor_at(e, s, at);
    if (open != KWR_OK) return open;
    const kwr_status found = forward(e, s, at, sequence, value);
    if (found != KWR_OK) return found;
    return s->cursor.sequence == sequence ? KWR_OK : KWR_NOT_FOUND;
}

kwr_status kwr_rocks_list_get(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice *value) {
    uint64_t sequence;
    kwr_slice lent = { 0 };
    if (!sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    const kwr_status found = find(e, s, at, sequence, &lent);
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
    if (!cursor->in_head) KWR_TRY(segment_here(s, &first, &segment));
    const uint8_t *key =
        cursor->in_head ? head_key(e, s, at, &key_size) : segment_key(e, s, at, first, &key_size);
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
    if (sequence == head.first + head.tail) return kwr_rocks_list_append(e, s, at, &value, 1);
    uint8_t *run = kwr_rocks_room(e->env, &s->operand, KWR_VARINT32_MAX + value.size);
    if (run == NULL) return KWR_ERR_NOMEM;
    const kwr_slice alone = { run, (size_t)(kwr_rocks_element_put(run, value) - run) };
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = segment_write(&c, at, sequence, alone);
    if (status >= KWR_OK && sequence >= head.first) {
        status = cut(&c, at, head.first, head.elements);
        head = (rocks_list_head){ .count = head.count, .first = sequence + 1 };
    }
    head.count++;
    if (status >= KWR_OK) status = head_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_list_put(kwr_engine *e, rocks_state *s, const kwr_address *at,
                              kwr_slice subkey, kwr_slice value) {
    uint64_t sequence;
    kwr_slice old = { 0 };
    void *into;
    if (!sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    if (sequence >= ROCKS_SEQUENCE_MAX) return KWR_ERR_RANGE;
    const kwr_status found = find(e, s, at, sequence, &old);
    KWR_TRY(found);
    if (found == KWR_NOT_FOUND) return put_new(e, s, at, sequence, value);
    KWR_TRY(replace(e, s, at, old, value.size, &into));
    if (value.size > 0) memcpy(into, value.data, value.size);
    kwr_rocks_iterator_end(s);
    s->pending.waits = true;
    return kwr_rocks_begin(e, at->state, &s);
}

kwr_status kwr_rocks_list_modify(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey, size_t size, void **out, size_t *old_size) {
    uint64_t sequence;
    kwr_slice old = { 0 };
    if (!sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    if (sequence >= ROCKS_SEQUENCE_MAX) return KWR_ERR_RANGE;
    kwr_status found = find(e, s, at, sequence, &old);
    KWR_TRY(found);
    const bool absent = found == KWR_NOT_FOUND;
    const size_t had = absent ? 0 : old.size;
    const size_t wanted = size == KWR_KEEP_SIZE ? had : size;
    if (absent) { /* it is there from here on, and lent as any other */
        const uint8_t *zeros = kwr_rocks_room(e->env, &s->pending.value, wanted);
        if (zeros == NULL) return KWR_ERR_NOMEM;
        memset(s->pending.value.data, 0, wanted);
        KWR_TRY(put_new(e, s, at, sequence, (kwr_slice){ zeros, wanted }));
        found = find(e, s, at, sequence, &old);
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
        KWR_TRY(cut(c, at, head->first, before));
        head->elements = after;
        head->first = sequence + 1;
        head->tail -= passed + 1;
        return KWR_OK;
    }
    uint64_t first;
    size_t size;
    kwr_slice segment;
    KWR_TRY(segment_here(c->s, &first, &segment));
    const uint8_t *key = segment_key(c->e, c->s, at, first, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (before.size > 0)
        rocksdb_writebatch_put_cf(c->batch, c->s->family, (const char *)key, size, before.data,
                                  before.size);
    else
        rocksdb_writebatch_delete_cf(c->batch, c->s->family, (const char *)key, size);
    return after.size == 0 ? KWR_OK : segment_write(c, at, sequence + 1, after);
}

/* One above the last element below `sequence`, or 0: what the next append is numbered. */
static kwr_status next_without(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               uint64_t sequence, uint64_t *out) {
    kwr_slice value;
    *out = 0;
    if (sequence == 0) return KWR_OK;
    const kwr_status found = backward(e, s, at, sequence - 1, &value);
    KWR_TRY(found);
    if (found == KWR_OK) *out = s->cursor.sequence + 1;
    return KWR_OK;
}

kwr_status kwr_rocks_list_remove(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 kwr_slice subkey) {
    uint64_t sequence, next = 0;
    kwr_slice old = { 0 };
    if (!sequence_of(subkey, &sequence)) return KWR_ERR_CORRUPT;
    kwr_status found = cursor_at(e, s, at);
    if (found != KWR_OK) return found;
    KWR_TRY(next_without(e, s, at, sequence, &next));
    found = find(e, s, at, sequence, &old);
    if (found != KWR_OK) return found;
    rocks_list_head head = s->cursor.head;
    const bool last = sequence + 1 == head.first + head.tail;
    rocks_change c;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = remove_from_run(&c, at, old, &head);
    head.count--;
    if (last && head.tail == 0) head.first = next;
    if (status >= KWR_OK) status = head_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}

/* ---- all of them ---- */

kwr_status kwr_rocks_list_clear(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    rocks_list_head head;
    rocks_change c;
    const kwr_status found = head_read(e, s, at, &head);
    if (found != KWR_OK) return found;
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = KWR_OK;
    if (has_segments(&head)) status = kwr_rocks_delete_elements(&c, at, head.count - head.tail);
    if (status >= KWR_OK) status = head_write(&c, at, &(rocks_list_head){ 0 });
    return kwr_rocks_change_end(&c, status);
}

kwr_status kwr_rocks_list_assign(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                 const kwr_slice *values, size_t count) {
    rocks_list_head head;
    rocks_change c;
    KWR_TRY(head_read(e, s, at, &head));
    if (count > UINT32_MAX) return KWR_ERR_RANGE;
    uint8_t *run = kwr_rocks_room(e->env, &s->operand, elements_size(values, count));
    if (run == NULL) return KWR_ERR_NOMEM;
    uint8_t *p = run;
    for (size_t i = 0; i < count; i++)
        p = kwr_rocks_element_put(p, values[i]);
    KWR_TRY(kwr_rocks_change_begin(e, s, &c));
    kwr_status status = KWR_OK;
    if (has_segments(&head)) status = kwr_rocks_delete_elements(&c, at, head.count - head.tail);
    head = (rocks_list_head){ .count = count,
                              .tail = (uint32_t)count,
                              .elements = { run, (size_t)(p - run) } };
    if (status >= KWR_OK) status = tail_write(&c, at, &head);
    return kwr_rocks_change_end(&c, status);
}
