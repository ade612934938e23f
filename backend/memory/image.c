/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are these bytes a page? Every field and every byte that has a rule is checked before anything is
 * believed, so that no bytes whatever can crash a restore, or get a page into the directory on
 * which a lookup would miss an entry.
 */
#include "backend/entries_image.h"
#include "backend/key_group.h"
#include "backend/memory/tree.h"

/* A record whose three sizes have one byte each, as most have. False: it is another, or none. */
static bool read_short(const uint8_t *bytes, size_t size, kwr_record *out) {
    if (size < 3 || ((bytes[0] | bytes[1] | bytes[2]) & 0x80) != 0 ||
        3U + bytes[0] + bytes[1] + bytes[2] > size)
        return false;
    out->key_size = bytes[0];
    out->name_size = bytes[1];
    out->value_size = bytes[2];
    out->key = bytes + 3;
    out->name = out->key + bytes[0];
    out->value = (uint8_t *)out->name + bytes[1];
    return true;
}

kwr_status kwr_record_check(const uint8_t *bytes, size_t size, const kwr_image_rules *rules,
                            kwr_record *out, kwr_error *err) {
    kwr_record r;
    if (!read_short(bytes, size, &r)) {
        kwr_cursor c = kwr_cursor_of(bytes, size);
        r.key_size = kwr_cursor_varint32(&c);
        r.name_size = kwr_cursor_varint32(&c);
        r.value_size = kwr_cursor_varint32(&c);
        r.key = kwr_cursor_take(&c, r.key_size);
        r.name = kwr_cursor_take(&c, r.name_size);
        r.value = (uint8_t *)kwr_cursor_take(&c, r.value_size);
        if (c.failed) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a record runs out of its page");
    }
    if (rules != NULL &&
        (r.key_size > rules->key_bytes_max || r.name_size > rules->namespace_bytes_max ||
         (r.value_size > rules->value_bytes_max && !rules->collection)))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a record is larger than the limits allow");
    *out = r;
    return KWR_OK;
}

static kwr_status check_header(const kwr_page *p, size_t size, kwr_error *err) {
    const char *wrong = NULL;
    if (p->block.birth != 0 || p->block.next != NULL || p->block.span != 0 || p->block.units != 0 ||
        p->block.whole != 0 || p->zero != 0 || p->formed != 0)
        wrong = "a field that must be zero is not";
    else if (p->block.kind != KWR_BLOCK_PAGE)
        wrong = "it says it is of another kind";
    else if (p->groups == 0 || p->groups > KWR_PAGE_GROUPS_MAX)
        wrong = "its number of slot groups is not possible";
    else if (p->used != size || p->used < kwr_page_records(p->groups))
        wrong = "its length is not what its header says";
    else if (p->live == 0 || p->live > p->groups * KWR_SLOTS || p->blobs > p->live)
        wrong = "its counts are not possible";
    else if (p->depth > KWR_DEPTH_MAX || (p->depth == 0 ? p->prefix : p->prefix << p->depth) != 0)
        wrong = "its prefix does not fit its depth";
    else if ((p->flags & ~(KWR_PAGE_CHAINED | KWR_PAGE_COLLECTIONS)) != 0 ||
             ((p->flags & KWR_PAGE_CHAINED) == 0 ? p->ordinal != 0 : p->depth != KWR_DEPTH_MAX))
        wrong = "its flags are not possible";
    return wrong == NULL ? KWR_OK : KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s", wrong);
}

/* Marks bytes [from, from + size) as taken; false when one was. */
static bool claim(uint64_t *taken, size_t from, size_t size) {
    while (size > 0) {
        const size_t bit = from % 64, run = size < 64 - bit ? size : 64 - bit;
        const uint64_t mask = (run == 64 ? ~0ULL : (1ULL << run) - 1) << bit;
        if ((taken[from / 64] & mask) != 0) return false;
        taken[from / 64] |= mask;
        from += run;
        size -= run;
    }
    return true;
}

typedef struct tally {
    uint32_t live, blobs;
    size_t bytes; /* of records in the page */
    kwr_page_sums sums;
} tally;

static kwr_status check_collection(const kwr_record *r, const kwr_image_rules *rules, tally *t,
                                   kwr_error *err) {
    kwr_collection_sum sum;
    KWR_TRY(kwr_collection_check(r->value, r->value_size, rules, &sum, err));
    t->sums.entry_bytes += (uint64_t)r->key_size + r->name_size + sum.bytes;
    t->sums.elements += sum.count;
    if (!kwr_collection_is_tree(r->value)) return KWR_OK;
    t->sums.trees++;
    t->sums.tree_bytes += sum.bytes;
    t->sums.tree_elements += sum.count;
    return KWR_OK;
}

static kwr_status check_slot(const kwr_page *page, uint16_t offset, uint8_t tag, uint64_t *taken,
                             const kwr_image_rules *rules, tally *t, kwr_error *err) {
    if (offset == 0) {
        if (tag == 0) return KWR_OK;
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an empty slot has a tag");
    }
    const size_t at = offset & KWR_SLOT_OFFSET;
    const bool blob = (offset & KWR_SLOT_BLOB) != 0;
    if ((offset & ~(KWR_SLOT_OFFSET | KWR_SLOT_BLOB)) != 0 || at < kwr_page_records(page->groups) ||
        at >= page->used)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a slot points outside the records");
    size_t size = KWR_BLOB_REF;
    if (!blob) {
        const uint8_t *record = (const uint8_t *)page + at;
        kwr_record r;
        KWR_TRY(kwr_record_check(record, page->used - at, rules, &r, err));
        size = (size_t)(r.value + r.value_size - record);
        if ((page->flags & KWR_PAGE_COLLECTIONS) != 0)
            KWR_TRY(check_collection(&r, rules, t, err));
        else
            t->sums.entry_bytes += (uint64_t)r.key_size + r.name_size + r.value_size;
    }
    if (at + size > page->used || !claim(taken, at, size))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two records overlap or one runs over the end");
    t->live++;
    t->blobs += blob;
    t->bytes += size;
    return KWR_OK;
}

static bool all_zero(const uint8_t *bytes, size_t size) {
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

static kwr_status check_structure(const kwr_page *page, size_t size, const kwr_image_rules *rules,
                                  kwr_page_sums *sums, kwr_error *err) {
    KWR_TRY(check_header(page, size, err));
    if (rules != NULL && rules->collection != ((page->flags & KWR_PAGE_COLLECTIONS) != 0))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its records are of another kind of state");
    uint64_t taken[KWR_PAGE_BYTES_MAX / 64] = { 0 };
    tally t = { 0 };
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        const bool marked = rules != NULL && rules->marked;
        if (!marked && !all_zero(lines[group].ages, sizeof lines[group].ages))
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a spare byte of a slot group is not zero");
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++)
            KWR_TRY(check_slot(page, lines[group].offsets[slot], lines[group].tags[slot], taken,
                               rules, &t, err));
    }
    if (t.live != page->live || t.blobs != page->blobs ||
        t.bytes + page->dead != page->used - (size_t)kwr_page_records(page->groups))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its counts do not agree with its slots");
    *sums = t.sums;
    return KWR_OK;
}

/* Is the key in one of these slots? */
static bool is_in_slots(const kwr_page *page, const kwr_slots *line, uint32_t mask,
                        const kwr_address *at) {
    for (; mask != 0; mask &= mask - 1) {
        kwr_hit hit;
        const uint16_t offset = line->offsets[__builtin_ctz(mask)];
        if (offset != 0 &&
            kwr_record_is(kwr_page_record(page, offset), at, &hit.value, &hit.value_size))
            return true;
    }
    return false;
}

/* One entry against its slot; counts the groups it overflowed. What a lookup meets on its way to
 * the slot must be other keys: of two equal ones the second finds the first. That the way leads
 * there is what the counts say in the end. */
static kwr_status check_entry(const kwr_page *page, kwr_slots *line, uint32_t slot,
                              const kwr_image_rules *rules, uint32_t *passed, kwr_error *err) {
    kwr_slots *lines = kwr_page_slots(page);
    const kwr_record r = kwr_record_at(kwr_page_record(page, line->offsets[slot]));
    const kwr_address at = { .key = { r.key, r.key_size }, .name = { r.name, r.name_size } };
    const uint64_t key_hash = kwr_key_hash(at.key, rules->seed);
    const uint64_t hash = kwr_entry_hash(key_hash, kwr_namespace_hash(at.name)) & rules->hash_mask;
    if (!rules->any_key_group &&
        kwr_key_group_of_hash(key_hash, rules->max_parallelism) != rules->key_group)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a key belongs to another key group");
    if (kwr_hash_tag(hash) != line->tags[slot] ||
        (page->depth > 0 && (hash ^ page->prefix) >> (64 - page->depth) != 0))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a key belongs to another page or slot");
    const uint8_t tag = kwr_hash_tag(hash);
    bool twice = false;
    for (uint32_t group = kwr_hash_group(hash, page->groups); &lines[group] != line;
         group = group + 1U == page->groups ? 0 : group + 1) {
        twice |= is_in_slots(page, &lines[group], kwr_slots_match(&lines[group], tag), &at);
        passed[group]++;
    }
    twice |= is_in_slots(page, line, kwr_slots_match(line, tag) & ((1U << slot) - 1), &at);
    if (twice) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a key is there twice");
    return KWR_OK;
}

kwr_status kwr_page_check_entries(const kwr_page *page, const kwr_image_rules *rules,
                                  kwr_error *err) {
    kwr_slots *lines = kwr_page_slots(page);
    uint32_t passed[KWR_PAGE_GROUPS_MAX] = { 0 };
    for (uint32_t group = 0; group < page->groups; group++)
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++)
            if (lines[group].offsets[slot] != 0)
                KWR_TRY(check_entry(page, &lines[group], slot, rules, passed, err));
    for (uint32_t group = 0; group < page->groups; group++)
        if (lines[group].overflow != passed[group] && lines[group].overflow != KWR_OVERFLOW_STUCK)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an overflow count is wrong");
    return KWR_OK;
}

kwr_status kwr_page_check(const kwr_page *page, size_t size, const kwr_image_rules *rules,
                          kwr_page_sums *sums, kwr_error *err) {
    KWR_TRY(check_structure(page, size, rules, sums, err));
    if (rules == NULL || page->blobs > 0) return KWR_OK;
    return kwr_page_check_entries(page, rules, err);
}

/* ---- reading an image without an engine ---- */

static kwr_status give(const kwr_page_image *image, const kwr_record *r, bool collection,
                       kwr_entry_fn fn, void *fn_ctx) {
    kwr_entry entry = {
        .state = image->state,
        .key_group = image->key_group,
        .key = { r->key, r->key_size },
        .name = { r->name, r->name_size },
        .value = { r->value, r->value_size },
    };
    if (!collection) return fn(fn_ctx, &entry);
    /* A large one has its elements in images of their own. */
    if (kwr_collection_is_tree(r->value)) return KWR_OK;
    return kwr_collection_walk(r->value, &entry, fn, fn_ctx);
}

static kwr_status walk_hash_page(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                                 kwr_error *err) {
    _Alignas(64) uint8_t bytes[KWR_PAGE_BYTES_MAX];
    if (image->size < sizeof(kwr_page) || image->size > sizeof bytes)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no page has this length");
    memcpy(bytes, image->bytes, image->size);
    const kwr_page *page = (const kwr_page *)(const void *)bytes;
    kwr_page_sums sums;
    KWR_TRY(kwr_page_check(page, image->size, NULL, &sums, err));
    if ((uint32_t)page->live - page->blobs != image->entries)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its entries are not as many as stated");
    const bool collection = (page->flags & KWR_PAGE_COLLECTIONS) != 0;
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if (offset == 0 || (offset & KWR_SLOT_BLOB) != 0) continue;
            const kwr_record r = kwr_record_at(bytes + offset);
            const kwr_status status = give(image, &r, collection, fn, fn_ctx);
            if (status != KWR_OK) return status;
        }
    }
    return KWR_OK;
}

kwr_status kwr_page_image_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                               kwr_error *err) {
    if (image->kind == KWR_PAGE_HASH) return walk_hash_page(image, fn, fn_ctx, err);
    if (image->kind == KWR_PAGE_TREE) return kwr_tree_image_walk(image, fn, fn_ctx, err);
    if (image->kind == KWR_PAGE_ENTRIES) return kwr_entries_walk(image, fn, fn_ctx, err);
    if (image->kind != KWR_PAGE_BLOB)
        return KWR_FAIL(err, KWR_ERR_FORMAT, 0, "page kind %u is not known", (unsigned)image->kind);
    kwr_record r;
    KWR_TRY(kwr_record_check(image->bytes, image->size, NULL, &r, err));
    if (r.value + r.value_size != (const uint8_t *)image->bytes + image->size)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the record of a blob");
    return give(image, &r, false, fn, fn_ctx);
}
