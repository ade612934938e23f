/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about lists share: rocks_list.c says how they are stored. */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_LIST_H
#define KWR_BACKEND_ROCKSDB_ROCKS_LIST_H

#include "backend/rocksdb/rocks.h"

/* ---- runs (rocks_list_parts.c) ---- */

/* The element at `*next`, which becomes the offset behind it. */
static inline bool kwr_rocks_run_step(kwr_slice run, size_t *next, kwr_slice *value) {
    const uint8_t *bytes = run.data;
    if (*next < run.size && bytes[*next] < 0x80 && bytes[*next] < run.size - *next) { /* usual */
        *value = (kwr_slice){ bytes + *next + 1, bytes[*next] };
        *next += 1 + value->size;
        return true;
    }
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
bool kwr_rocks_run_skip(kwr_slice run, uint64_t count, size_t *next);
/* Bytes of a run of these elements. */
size_t kwr_rocks_elements_size(const kwr_slice *values, size_t count);

/* ---- keys: in s->key, NULL without memory ---- */

const uint8_t *kwr_rocks_head_key(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                  size_t *size);
const uint8_t *kwr_rocks_segment_key(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                     uint64_t sequence, size_t *size);
/* False when the subkey is not a list's. */
bool kwr_rocks_sequence_of(kwr_slice subkey, uint64_t *out);

/* ---- head and segments ---- */

/* KWR_NOT_FOUND: there is no list, and *out is that of an empty one. s->lent keeps the elements. */
kwr_status kwr_rocks_head_read(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               rocks_list_head *out);
static inline bool kwr_rocks_has_segments(const rocks_list_head *head) {
    return head->count > head->tail;
}
/* Deletes a head that counts no elements. */
kwr_status kwr_rocks_head_write(rocks_change *c, const kwr_address *at,
                                const rocks_list_head *head);
kwr_status kwr_rocks_segment_write(rocks_change *c, const kwr_address *at, uint64_t first,
                                   kwr_slice run);
/* Cuts a run into segments of about the usual size. */
kwr_status kwr_rocks_run_write(rocks_change *c, const kwr_address *at, uint64_t first,
                               kwr_slice run);
/* Writes a head with these elements in its tail, or in segments when they are too many for that. */
kwr_status kwr_rocks_tail_write(rocks_change *c, const kwr_address *at, rocks_list_head *head);

/* ---- walking (rocks_list_walk.c) ---- */

/* Begins a walk over this list, or goes on with it. */
kwr_status kwr_rocks_list_cursor_at(kwr_engine *e, rocks_state *s, const kwr_address *at);
/* The segment the state's iterator is on. */
kwr_status kwr_rocks_segment_here(rocks_state *s, uint64_t *first, kwr_slice *run);
/* Stands on exactly this element. */
kwr_status kwr_rocks_list_find(kwr_engine *e, rocks_state *s, const kwr_address *at,
                               uint64_t sequence, kwr_slice *value);
/* Stands on the last element that is not above `sequence`. The cursor is over this list. */
kwr_status kwr_rocks_list_at_most(kwr_engine *e, rocks_state *s, const kwr_address *at,
                                  uint64_t sequence, kwr_slice *value);

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_LIST_H */
