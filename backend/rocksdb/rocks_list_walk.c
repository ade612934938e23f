/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a walk over a list is: the head stays pinned, a run is stepped through in place, and the
 * state's iterator goes from segment to segment.
 */
#include "backend/rocksdb/rocks_list.h"

void kwr_rocks_list_cursor_end(rocks_state *s) {
    rocks_list_cursor *cursor = &s->cursor;
    if (cursor->pinned != NULL) rocksdb_pinnableslice_destroy(cursor->pinned);
    cursor->pinned = NULL;
    cursor->valid = cursor->on = false;
}

kwr_status kwr_rocks_list_cursor_at(kwr_engine *e, rocks_state *s, const kwr_address *at) {
    rocks_list_cursor *cursor = &s->cursor;
    size_t size;
    const uint8_t *key = kwr_rocks_head_key(e, s, at, &size);
    if (key == NULL) return KWR_ERR_NOMEM;
    if (cursor->valid && cursor->entry.size == size && memcmp(cursor->entry.data, key, size) == 0)
        return KWR_OK;
    kwr_rocks_iterator_end(s);
    uint8_t *copy = kwr_rocks_room(e->env, &cursor->entry, size);
    if (copy == NULL) return KWR_ERR_NOMEM;
    memcpy(copy, key, size);
    const kwr_status found = kwr_rocks_head_read(e, s, at, &cursor->head);
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
    if (!kwr_rocks_run_skip(run, skip, &cursor->next) ||
        !kwr_rocks_run_step(run, &cursor->next, value))
        return KWR_ERR_CORRUPT;
    cursor->sequence = first + skip;
    cursor->on = true;
    return KWR_OK;
}

kwr_status kwr_rocks_segment_here(rocks_state *s, uint64_t *first, kwr_slice *run) {
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
    const uint8_t *key = kwr_rocks_segment_key(e, s, at, sequence, &size);
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
        KWR_TRY(kwr_rocks_segment_here(s, &first, &run));
        if (sequence == first) return stand(&s->cursor, false, run, first, 0, value);
        if (!kwr_rocks_segment_count(run, &count)) return KWR_ERR_CORRUPT;
        if (sequence - first < count)
            return stand(&s->cursor, false, run, first, sequence - first, value);
        rocksdb_iter_next(s->iterator);
    } else {
        rocksdb_iter_seek_to_first(s->iterator);
    }
    if (!rocksdb_iter_valid(s->iterator)) return iterator_status(e, s);
    KWR_TRY(kwr_rocks_segment_here(s, &first, &run));
    return stand(&s->cursor, false, run, first, 0, value);
}

/* The first element that is not below `sequence`. */
static kwr_status forward(kwr_engine *e, rocks_state *s, const kwr_address *at, uint64_t sequence,
                          kwr_slice *value) {
    rocks_list_cursor *cursor = &s->cursor;
    const rocks_list_head *head = &cursor->head;
    if (cursor->on && sequence == cursor->sequence + 1) {
        if (cursor->next < cursor->run.size) {
            if (!kwr_rocks_run_step(cursor->run, &cursor->next, value)) return KWR_ERR_CORRUPT;
            cursor->sequence = sequence;
            return KWR_OK;
        }
        if (cursor->in_head) return KWR_NOT_FOUND;
        cursor->on = false;
        rocksdb_iter_next(s->iterator);
        if (rocksdb_iter_valid(s->iterator)) {
            uint64_t first;
            kwr_slice run;
            KWR_TRY(kwr_rocks_segment_here(s, &first, &run));
            return stand(cursor, false, run, first, 0, value);
        }
        KWR_TRY(iterator_status(e, s));
    } else if (kwr_rocks_has_segments(head) && sequence < head->first) {
        const kwr_status found = segments_forward(e, s, at, sequence, value);
        if (found != KWR_NOT_FOUND) return found;
    }
    const uint64_t skip = sequence > head->first ? sequence - head->first : 0;
    if (skip >= head->tail) return KWR_NOT_FOUND;
    return stand(cursor, true, head->elements, head->first, skip, value);
}

kwr_status kwr_rocks_list_at_most(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                  uint64_t sequence, kwr_slice *value) {
    rocks_list_cursor *cursor = &s->cursor;
    const rocks_list_head *head = &cursor->head;
    if (head->tail > 0 && sequence >= head->first) {
        const uint64_t skip = sequence - head->first;
        return stand(cursor, true, head->elements, head->first,
                     skip < head->tail ? skip : head->tail - 1, value);
    }
    if (!kwr_rocks_has_segments(head)) return KWR_NOT_FOUND;
    const kwr_status below = segment_below(e, s, at, sequence);
    if (below != KWR_OK) return below;
    uint64_t first, count;
    kwr_slice run;
    KWR_TRY(kwr_rocks_segment_here(s, &first, &run));
    if (!kwr_rocks_segment_count(run, &count)) return KWR_ERR_CORRUPT;
    const uint64_t skip = sequence - first;
    return stand(cursor, false, run, first, skip < count ? skip : count - 1, value);
}

static kwr_status seek(kwr_engine *e, rocks_state *s, const kwr_address *at, kwr_seek how,
                       kwr_slice from, kwr_engine_hint *hint, kwr_slice *value) {
    uint64_t sequence = 0;
    if (hint == NULL || !s->cursor.valid || hint->stamp != s->cursor.walk) {
        const kwr_status found = kwr_rocks_list_cursor_at(e, s, at);
        if (found != KWR_OK) return found;
        if (hint != NULL) hint->stamp = s->cursor.walk;
    }
    if (how == KWR_SEEK_FIRST) return forward(e, s, at, 0, value);
    if (how == KWR_SEEK_LAST) return kwr_rocks_list_at_most(e, s, at, UINT64_MAX, value);
    if (!kwr_rocks_sequence_of(from, &sequence)) return KWR_ERR_CORRUPT;
    if (how == KWR_SEEK_AT_LEAST) return forward(e, s, at, sequence, value);
    if (how == KWR_SEEK_ABOVE)
        return sequence == UINT64_MAX ? KWR_NOT_FOUND : forward(e, s, at, sequence + 1, value);
    return sequence == 0 ? KWR_NOT_FOUND : kwr_rocks_list_at_most(e, s, at, sequence - 1, value);
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

/* A walk that is valid has seen no write since it began, and nothing waits to be stored. */
kwr_status kwr_rocks_list_next(kwr_engine *e, uint32_t state, const kwr_engine_hint *hint,
                               uint8_t *sequence, kwr_slice *value) {
    rocks_list_cursor *cursor = &e->states[state].cursor;
    if (!cursor->valid || !cursor->on || hint->stamp != cursor->walk ||
        kwr_get_be64(sequence) != cursor->sequence)
        return KWR_ERR_UNSUPPORTED;
    if (cursor->next >= cursor->run.size)
        return cursor->in_head ? KWR_NOT_FOUND : KWR_ERR_UNSUPPORTED;
    if (!kwr_rocks_run_step(cursor->run, &cursor->next, value)) return KWR_ERR_UNSUPPORTED;
    kwr_put_be64(sequence, ++cursor->sequence);
    return KWR_OK;
}

kwr_status kwr_rocks_list_count(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                uint64_t *count) {
    rocks_list_head head;
    KWR_TRY(kwr_rocks_head_read(e, s, at, &head));
    *count = head.count;
    return KWR_OK;
}

kwr_status kwr_rocks_list_walk(kwr_entry *entry, kwr_slice stored, kwr_entry_fn fn, void *fn_ctx) {
    uint64_t sequence = 0, count;
    kwr_slice run = stored;
    if (!kwr_rocks_sequence_of(entry->subkey, &sequence)) {
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
        if (!kwr_rocks_run_step(run, &next, &entry->value)) return KWR_ERR_CORRUPT;
        kwr_put_be64(subkey, sequence);
        const kwr_status status = fn(fn_ctx, entry);
        if (status != KWR_OK) return status;
    }
    return next == run.size ? KWR_OK : KWR_ERR_CORRUPT;
}

kwr_status kwr_rocks_list_find(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               uint64_t sequence, kwr_slice *value) {
    const kwr_status open = kwr_rocks_list_cursor_at(e, s, at);
    if (open != KWR_OK) return open;
    const kwr_status found = forward(e, s, at, sequence, value);
    if (found != KWR_OK) return found;
    return s->cursor.sequence == sequence ? KWR_OK : KWR_NOT_FOUND;
}
