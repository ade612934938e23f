/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of hash pages: made from the ages of a page's slots, read and put together again. What is
 * read is not trusted; see page_delta.h.
 */
#include "backend/page_delta.h"

#include "backend/memory/page_changes.h"
#include "base/error.h"

enum {
    /* How a slot changed. */
    FORM_EMPTY = 0,
    FORM_RECORD = 1,
    FORM_BLOB = 2,
    FORM_BITS = 2,
    ID_BITS = 31,

};
#define ID_LOW (((uint64_t)1 << ID_BITS) - 1)

/* ---- batches ---- */

void kwr_delta_batch_begin(uint8_t out[KWR_DELTA_HEADER], uint64_t from, uint8_t level,
                           uint32_t count) {
    memset(out, 0, KWR_DELTA_HEADER);
    kwr_put_le64(out, from);
    out[8] = level;
    kwr_put_le32(out + 12, count);
}

kwr_status kwr_delta_batch_open(const void *bytes, size_t size, kwr_delta_batch *out,
                                kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(bytes, size);
    const uint64_t from = kwr_cursor_u64(&c);
    const uint8_t level = kwr_cursor_u8(&c);
    const uint8_t zero = kwr_cursor_u8(&c) | kwr_cursor_u8(&c) | kwr_cursor_u8(&c);
    const uint32_t count = kwr_cursor_u32(&c);
    if (c.failed || zero != 0 || level >= KWR_DELTA_LEVELS || count == 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "the header of a batch of deltas is not possible");
    *out = (kwr_delta_batch){ .from = from, .level = level, .count = count, .rest = c };
    return KWR_OK;
}

kwr_status kwr_delta_batch_next(kwr_delta_batch *batch, kwr_delta *out, kwr_error *err) {
    kwr_cursor *c = &batch->rest;
    if (batch->count == 0) {
        if (kwr_cursor_left(c) == 0) return KWR_NOT_FOUND;
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the last delta of a batch");
    }
    const uint64_t low = kwr_cursor_varint32(c), high = kwr_cursor_varint32(c);
    const uint32_t size = kwr_cursor_varint32(c);
    const uint8_t *bytes = kwr_cursor_take(c, size);
    const uint64_t id = high << ID_BITS | low;
    if (c->failed || low > ID_LOW || high > ID_LOW || !kwr_page_id_ok(id))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta runs out of its batch or has no page");
    batch->count--;
    *out = (kwr_delta){ .page_id = id, .bytes = bytes, .size = size };
    return KWR_OK;
}

/* ---- reading one ---- */

/* The numbers in front. */
typedef struct delta_head {
    uint32_t groups, live, blobs, overflows, slots;
} delta_head;

static kwr_status read_head(kwr_cursor *c, delta_head *out, kwr_error *err) {
    out->groups = kwr_cursor_u8(c);
    out->live = kwr_cursor_varint32(c);
    out->blobs = kwr_cursor_varint32(c);
    out->overflows = kwr_cursor_varint32(c);
    out->slots = kwr_cursor_varint32(c);
    const uint32_t most = out->groups * KWR_SLOTS;
    if (!c->failed && out->groups > 0 && out->groups <= KWR_PAGE_GROUPS_MAX && out->live > 0 &&
        out->live <= most && out->blobs <= out->live && out->overflows <= out->groups &&
        out->slots <= most)
        return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "the numbers of a delta are not possible");
}

/* What a slot refers to now. */
typedef struct slot_part {
    const uint8_t *bytes; /* NULL: nothing */
    uint16_t size;
    uint8_t tag;
    bool blob;
} slot_part;

/* The next slot of a delta; *at is the one before, to begin with -1. */
static kwr_status read_slot(kwr_cursor *c, const delta_head *head, int32_t *at, slot_part *out,
                            kwr_error *err) {
    const uint32_t word = kwr_cursor_varint32(c);
    const uint32_t form = word & ((1U << FORM_BITS) - 1), gap = word >> FORM_BITS;
    *out = (slot_part){ 0 };
    if (c->failed || gap >= head->groups * KWR_SLOTS)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta has too few slots or a wrong one");
    *at += (int32_t)gap + 1;
    if (*at >= (int32_t)(head->groups * KWR_SLOTS) || form > FORM_BLOB)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta has a slot that cannot be");
    if (form == FORM_EMPTY) return KWR_OK;
    out->tag = kwr_cursor_u8(c);
    out->blob = form == FORM_BLOB;
    size_t size = KWR_BLOB_REF;
    if (!out->blob && !c->failed) {
        kwr_record r;
        const uint8_t *bytes = c->data + c->at;
        KWR_TRY(kwr_record_check(bytes, kwr_cursor_left(c), NULL, &r, err));
        size = (size_t)(r.value + r.value_size - bytes);
    }
    out->bytes = kwr_cursor_take(c, size);
    if (c->failed || size > KWR_PAGE_BYTES_MAX)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a record runs out of its delta");
    out->size = (uint16_t)size;
    return KWR_OK;
}

/* ---- putting together ---- */

/* A page taken apart. */
typedef struct page_parts {
    slot_part slots[KWR_PAGE_SLOTS_MAX];
    uint8_t marks[KWR_PAGE_SLOTS_MAX];
    uint8_t overflow[KWR_PAGE_GROUPS_MAX];
    uint8_t overflow_marks[KWR_PAGE_GROUPS_MAX];
    _Alignas(64) uint8_t in[KWR_PAGE_BYTES_MAX];
    _Alignas(64) uint8_t out[KWR_PAGE_BYTES_MAX];
} page_parts;

static kwr_status take_apart(const kwr_page *page, size_t size, page_parts *parts, kwr_error *err) {
    kwr_page_sums sums;
    KWR_TRY(kwr_page_check(page, size, NULL, &sums, err));
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const kwr_slots *line = &lines[i / KWR_SLOTS];
        const uint16_t offset = line->offsets[i % KWR_SLOTS];
        parts->slots[i] = (slot_part){ 0 };
        parts->marks[i] = 0;
        if (offset == 0) continue;
        parts->slots[i] = (slot_part){
            .bytes = (const uint8_t *)page + (offset & KWR_SLOT_OFFSET),
            .size = (uint16_t)kwr_page_record_bytes(page, offset),
            .tag = line->tags[i % KWR_SLOTS],
            .blob = (offset & KWR_SLOT_BLOB) != 0,
        };
    }
    for (uint32_t group = 0; group < page->groups; group++) {
        parts->overflow[group] = lines[group].overflow;
        parts->overflow_marks[group] = 0;
    }
    return KWR_OK;
}

static kwr_status apply(const kwr_delta *delta, const kwr_page *page, page_parts *parts,
                        delta_head *head, kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(delta->bytes, delta->size);
    KWR_TRY(read_head(&c, head, err));
    if (head->groups != page->groups)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta and its page differ in slot groups");
    for (uint32_t i = 0; i < head->overflows; i++) {
        const uint8_t group = kwr_cursor_u8(&c), overflow = kwr_cursor_u8(&c);
        if (group >= head->groups)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta has a slot group that cannot be");
        parts->overflow[group] = overflow;
        parts->overflow_marks[group] = delta->mark;
    }
    int32_t at = -1;
    for (uint32_t i = 0; i < head->slots; i++) {
        slot_part part;
        KWR_TRY(read_slot(&c, head, &at, &part, err));
        parts->slots[at] = part;
        parts->marks[at] = delta->mark;
    }
    if (c.failed || kwr_cursor_left(&c) > 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the last slot of a delta");
    return KWR_OK;
}

static kwr_status compose(const kwr_page *page, const page_parts *parts, const delta_head *head,
                          kwr_page *out, kwr_error *err) {
    *out = *page;
    out->live = out->blobs = out->dead = 0;
    out->used = (uint16_t)kwr_page_records(page->groups);
    kwr_slots *lines = kwr_page_slots(out);
    memset(lines, 0, (size_t)page->groups * sizeof *lines);
    for (uint32_t group = 0; group < page->groups; group++)
        lines[group].overflow = parts->overflow[group];
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const slot_part *part = &parts->slots[i];
        kwr_slots *line = &lines[i / KWR_SLOTS];
        if (part->bytes == NULL) continue;
        if (part->size > KWR_PAGE_BYTES_MAX - out->used)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a page with its deltas is too large");
        memcpy((uint8_t *)out + out->used, part->bytes, part->size);
        line->tags[i % KWR_SLOTS] = part->tag;
        line->offsets[i % KWR_SLOTS] = (uint16_t)(out->used | (part->blob ? KWR_SLOT_BLOB : 0));
        out->used = (uint16_t)(out->used + part->size);
        out->live++;
        out->blobs = (uint16_t)(out->blobs + part->blob);
    }
    if (out->live != head->live || out->blobs != head->blobs)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "a page with its deltas has other entries than "
                        "its last delta says");
    return KWR_OK;
}

static void put_marks(kwr_page *page, const page_parts *parts) {
    kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++)
        lines[group].ages[KWR_AGE_OVERFLOW] = parts->overflow_marks[group];
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++)
        kwr_slot_touch(&lines[i / KWR_SLOTS], i % KWR_SLOTS, parts->marks[i]);
}

kwr_status kwr_page_put_together(const kwr_page_image *image, const kwr_delta *deltas, size_t count,
                                 kwr_buffer *room, kwr_page_image *out, kwr_error *err) {
    *out = *image;
    if (count == 0) return KWR_OK;
    if (image->kind != KWR_PAGE_HASH || image->size < sizeof(kwr_page) ||
        image->size > KWR_PAGE_BYTES_MAX)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "deltas belong to what is no hash page");
    room->size = 0;
    uint8_t *bytes = kwr_buffer_extend(room, sizeof(page_parts) + 64);
    if (bytes == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to put a page together");
    page_parts *parts = (page_parts *)(void *)(bytes + (64 - (uintptr_t)bytes % 64));
    memcpy(parts->in, image->bytes, image->size);
    const kwr_page *page = (const kwr_page *)(const void *)parts->in;
    KWR_TRY(take_apart(page, image->size, parts, err));
    delta_head head = { 0 };
    for (size_t i = 0; i < count; i++) {
        if (deltas[i].page_id != page->id)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a delta is of another page");
        KWR_TRY(apply(&deltas[i], page, parts, &head, err));
        out->marked = out->marked || deltas[i].mark != 0;
    }
    kwr_page *made = (kwr_page *)(void *)parts->out;
    kwr_page_sums sums;
    KWR_TRY(compose(page, parts, &head, made, err));
    KWR_TRY(kwr_page_check(made, made->used, NULL, &sums, err));
    if (out->marked) put_marks(made, parts);
    out->bytes = made;
    out->size = made->used;
    out->entries = (uint32_t)made->live - made->blobs;
    out->entry_bytes = (uint32_t)(sums.entry_bytes - sums.tree_bytes);
    out->elements = (uint32_t)(sums.elements - sums.tree_elements);
    return KWR_OK;
}

kwr_status kwr_delta_batch_check(const void *bytes, size_t size, kwr_error *err) {
    kwr_delta_batch batch;
    KWR_TRY(kwr_delta_batch_open(bytes, size, &batch, err));
    for (;;) {
        kwr_delta delta;
        const kwr_status status = kwr_delta_batch_next(&batch, &delta, err);
        if (status != KWR_OK) return status == KWR_NOT_FOUND ? KWR_OK : status;
        kwr_cursor c = kwr_cursor_of(delta.bytes, delta.size);
        delta_head head;
        KWR_TRY(read_head(&c, &head, err));
        (void)kwr_cursor_take(&c, (size_t)2 * head.overflows);
        int32_t at = -1;
        for (uint32_t i = 0; i < head.slots; i++) {
            slot_part part;
            KWR_TRY(read_slot(&c, &head, &at, &part, err));
        }
        if (c.failed || kwr_cursor_left(&c) > 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the last slot of a delta");
    }
}

/* ---- making one ---- */

kwr_page_changes kwr_page_changes_of(const kwr_page *page, const kwr_page_since *since,
                                     uint64_t now) {
    kwr_page_changes sum = { 0 };
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        sum.overflows += kwr_mark_within(lines[group].ages[KWR_AGE_OVERFLOW], since->since, now);
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint8_t mark = kwr_slot_mark(&lines[group], slot);
            const bool all = kwr_mark_within(mark, since->whole, now);
            if (!all) continue;
            const uint16_t offset = lines[group].offsets[slot];
            const size_t bytes = 2 + (offset == 0 ? 0 : kwr_page_record_bytes(page, offset));
            sum.whole_bytes += bytes;
            if (!kwr_mark_within(mark, since->since, now)) continue;
            sum.slots++;
            sum.bytes += bytes;
        }
    }
    return sum;
}

static void put_number(kwr_buffer *out, uint32_t number) {
    uint8_t bytes[KWR_VARINT32_MAX];
    kwr_buffer_append(out, bytes, kwr_put_varint32(bytes, number));
}

static void put_body(kwr_buffer *out, const kwr_page *image, const kwr_page *page,
                     const kwr_page_changes *changes, uint64_t since, uint64_t now) {
    const kwr_slots *ages = kwr_page_slots(page), *lines = kwr_page_slots(image);
    kwr_buffer_append(out, &image->groups, 1);
    put_number(out, image->live);
    put_number(out, image->blobs);
    put_number(out, changes->overflows);
    put_number(out, changes->slots);
    for (uint8_t group = 0; group < image->groups; group++) {
        if (!kwr_mark_within(ages[group].ages[KWR_AGE_OVERFLOW], since, now)) continue;
        const uint8_t pair[2] = { group, lines[group].overflow };
        kwr_buffer_append(out, pair, sizeof pair);
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < (uint32_t)image->groups * KWR_SLOTS; i++) {
        if (!kwr_mark_within(kwr_slot_mark(&ages[i / KWR_SLOTS], i % KWR_SLOTS), since, now))
            continue;
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        const uint32_t form = offset == 0                     ? FORM_EMPTY
                              : (offset & KWR_SLOT_BLOB) != 0 ? FORM_BLOB
                                                              : FORM_RECORD;
        put_number(out, (i - next) << FORM_BITS | form);
        next = i + 1;
        if (offset == 0) continue;
        kwr_buffer_append(out, &lines[i / KWR_SLOTS].tags[i % KWR_SLOTS], 1);
        kwr_buffer_append(out, (const uint8_t *)image + (offset & KWR_SLOT_OFFSET),
                          kwr_page_record_bytes(image, offset));
    }
}

bool kwr_delta_encode(kwr_buffer *out, kwr_buffer *room, const kwr_page *image,
                      const kwr_page *page, const kwr_page_changes *changes, uint64_t since,
                      uint64_t now) {
    room->size = 0;
    put_body(room, image, page, changes, since, now);
    put_number(out, (uint32_t)(image->id & ID_LOW));
    put_number(out, (uint32_t)(image->id >> ID_BITS));
    put_number(out, (uint32_t)room->size);
    kwr_buffer_append(out, room->data, room->size);
    return !room->failed && !out->failed;
}
