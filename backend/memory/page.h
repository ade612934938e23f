/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash pages and blobs: their layout and the lookup inside one page. docs/page-store.md draws it.
 *
 * A page is a 64-byte header, then slot groups of one cache line each, then records. Everything in
 * it is an offset, so a page can be copied anywhere. A lookup never touches the header: the number
 * of groups is in the directory word that led here.
 */
#ifndef KWR_BACKEND_MEMORY_PAGE_H
#define KWR_BACKEND_MEMORY_PAGE_H

#include <string.h>

#include "backend/engine.h"
#include "backend/memory/arena.h"
#include "base/bytes.h"

#if defined(__SSE2__) && !defined(KWR_PAGE_SCALAR)
#define KWR_PAGE_SSE2 1
#include <emmintrin.h>
#endif

#define KWR_LIKELY(x) __builtin_expect(!!(x), 1)
#define KWR_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A numbered invariant of docs/page-store.md; broken, nothing can be trusted any more. */
#define KWR_INVARIANT(number, condition)                  \
    do {                                                  \
        if (KWR_UNLIKELY(!(condition))) __builtin_trap(); \
    } while (0)

enum {
    KWR_PAGE_BYTES_MAX = 16384,
    KWR_PAGE_HEADER = 64,
    KWR_SLOTS = 16, /* in a group */
    KWR_PAGE_GROUPS_MAX = 64,
    KWR_PAGE_SLOTS_MAX = KWR_PAGE_GROUPS_MAX * KWR_SLOTS,
    KWR_INLINE_MAX = KWR_PAGE_BYTES_MAX / 4, /* larger records get a blob */
    KWR_BLOB_REF = 8,                        /* what the page then holds */
    KWR_SLOT_BLOB = 0x8000,                  /* in an offset */
    KWR_SLOT_OFFSET = 0x3fff,
    KWR_OVERFLOW_STUCK = 255, /* a counter that reached this stays */
    KWR_DEPTH_MAX = 48,       /* bits of the entry hash that the directory may use */
};

typedef enum kwr_block_kind {
    KWR_BLOCK_PAGE = KWR_PAGE_HASH,
    KWR_BLOCK_BLOB = KWR_PAGE_BLOB,
    KWR_BLOCK_TREE = KWR_PAGE_TREE,
    KWR_BLOCK_NODE = 16,
} kwr_block_kind;

/* Flags of images. */
enum {
    KWR_PAGE_CHAINED = 1,     /* one of several pages of the same prefix */
    KWR_PAGE_COLLECTIONS = 2, /* the values of its records are collections */
};

/* Also the header of a page image: then birth, next, span, units and formed are zero. */
typedef struct kwr_page {
    kwr_block block;
    uint64_t id;
    uint64_t prefix; /* the top `depth` bits of its entry hashes, zeros below */
    uint16_t used;   /* end of the bytes in use */
    uint16_t dead;   /* bytes of records no slot refers to */
    uint16_t live;   /* slots in use */
    uint16_t blobs;  /* of these: references to blobs */
    uint8_t groups;  /* slot groups */
    uint8_t depth;
    uint8_t flags; /* images only */
    uint8_t zero;
    uint32_t ordinal; /* images only: place in a chain */
    uint64_t formed;  /* the epoch its slots got their numbers in; 0: before all others */
} kwr_page;

/* One cache line. An offset of 0 is an empty slot, its tag is 0 then. */
typedef struct kwr_slots {
    uint8_t tags[KWR_SLOTS];
    uint16_t offsets[KWR_SLOTS];
    uint8_t overflow; /* entries that passed this full group for a later one */
    uint8_t ages[15]; /* see below; zero in images */
} kwr_slots;

typedef struct kwr_blob {
    kwr_block block;
    uint64_t id;
    uint64_t size; /* of the record */
    uint64_t zero[3];
    uint8_t record[];
} kwr_blob;

_Static_assert(sizeof(kwr_page) == KWR_PAGE_HEADER, "page header");
_Static_assert(sizeof(kwr_slots) == 64, "a slot group is one cache line");
_Static_assert(sizeof(kwr_blob) == 64, "blob header");

/* ---- which bits of the entry hash do what: directory from the top, tag at the bottom ---- */

static inline uint8_t kwr_hash_tag(uint64_t hash) { return (uint8_t)hash; }
static inline uint32_t kwr_hash_group(uint64_t hash, uint32_t groups) {
    return (uint32_t)(((hash >> 8) & 0xffff) * groups >> 16);
}

/* ---- records: varint key length, namespace length, value length, then the three ---- */

typedef struct kwr_record {
    const uint8_t *key;
    const uint8_t *name;
    uint8_t *value;
    uint32_t key_size;
    uint32_t name_size;
    uint32_t value_size;
} kwr_record;

static inline size_t kwr_record_size(size_t key, size_t name, size_t value) {
    return kwr_varint32_size((uint32_t)key) + kwr_varint32_size((uint32_t)name) +
           kwr_varint32_size((uint32_t)value) + key + name + value;
}

/* Trusted bytes. */
static inline uint32_t kwr_record_varint(const uint8_t **at) {
    const uint8_t *p = *at;
    uint32_t v = *p++;
    if (KWR_UNLIKELY(v >= 0x80)) {
        v &= 0x7f;
        unsigned shift = 7;
        uint8_t b;
        do {
            b = *p++;
            v |= (uint32_t)(b & 0x7f) << shift;
            shift += 7;
        } while (b >= 0x80);
    }
    *at = p;
    return v;
}

static inline kwr_record kwr_record_at(const uint8_t *p) {
    kwr_record r;
    r.key_size = kwr_record_varint(&p);
    r.name_size = kwr_record_varint(&p);
    r.value_size = kwr_record_varint(&p);
    r.key = p;
    r.name = p + r.key_size;
    r.value = (uint8_t *)r.name + r.name_size;
    return r;
}

static inline size_t kwr_record_bytes(const uint8_t *p) {
    const kwr_record r = kwr_record_at(p);
    return (size_t)(r.value + r.value_size - p);
}

/* Writes all but the value; returns where that goes. */
static inline uint8_t *kwr_record_write(uint8_t *p, const kwr_address *at, size_t value_size) {
    p += kwr_put_varint32(p, (uint32_t)at->key.size);
    p += kwr_put_varint32(p, (uint32_t)at->name.size);
    p += kwr_put_varint32(p, (uint32_t)value_size);
    if (at->key.size > 0) memcpy(p, at->key.data, at->key.size);
    p += at->key.size;
    if (at->name.size > 0) memcpy(p, at->name.data, at->name.size);
    return p + at->name.size;
}

/* memcmp costs a call; keys are short. Few branches: what follows a miss must fit the processor's
 * window, or the misses of later lookups do not overlap with it. */
static inline bool kwr_bytes_equal(const void *a, const void *b, size_t size) {
    const uint8_t *p = a, *q = b;
    if (KWR_LIKELY(size >= 8)) {
        uint64_t differ = kwr_get_le64(p + size - 8) ^ kwr_get_le64(q + size - 8);
        differ |= kwr_get_le64(p) ^ kwr_get_le64(q);
        for (size_t i = 8; KWR_UNLIKELY(i + 8 < size); i += 8)
            differ |= kwr_get_le64(p + i) ^ kwr_get_le64(q + i);
        return differ == 0;
    }
    if (size >= 4)
        return kwr_get_le32(p) == kwr_get_le32(q) &&
               kwr_get_le32(p + size - 4) == kwr_get_le32(q + size - 4);
    for (size_t i = 0; i < size; i++)
        if (p[i] != q[i]) return false;
    return true;
}

/* True when the record at `p` is the entry `at`; then its value is in *value. */
static inline bool kwr_record_is(const uint8_t *p, const kwr_address *at, uint8_t **value,
                                 uint32_t *value_size) {
    if (KWR_LIKELY((at->key.size | at->name.size) < 0x80)) {
        if (kwr_get_le16(p) != (at->key.size | at->name.size << 8)) return false;
        p += 2;
    } else if (kwr_record_varint(&p) != at->key.size || kwr_record_varint(&p) != at->name.size) {
        return false;
    }
    const uint32_t size = kwr_record_varint(&p);
    if (!kwr_bytes_equal(p, at->key.data, at->key.size)) return false;
    p += at->key.size;
    if (at->name.size > 0 && !kwr_bytes_equal(p, at->name.data, at->name.size)) return false;
    *value = (uint8_t *)p + at->name.size;
    *value_size = size;
    return true;
}

/* ---- slots ---- */

static inline kwr_slots *kwr_page_slots(const kwr_page *page) {
    return (kwr_slots *)((uint8_t *)page + KWR_PAGE_HEADER);
}
static inline uint32_t kwr_page_records(uint32_t groups) { return KWR_PAGE_HEADER + groups * 64; }
static inline size_t kwr_page_capacity(const kwr_page *page) {
    const size_t bytes = (size_t)page->block.units * 64;
    return bytes < KWR_PAGE_BYTES_MAX ? bytes : KWR_PAGE_BYTES_MAX;
}
/* Bytes of live records. */
static inline uint32_t kwr_page_live_bytes(const kwr_page *page) {
    return (uint32_t)page->used - kwr_page_records(page->groups) - page->dead;
}

/* The slots of a group whose tag is `tag`, one bit each; empty ones may be among them. */
static inline uint32_t kwr_slots_match(const kwr_slots *line, uint8_t tag) {
#ifdef KWR_PAGE_SSE2
    const __m128i tags = _mm_load_si128((const __m128i *)line->tags);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag)));
#else
    /* Bytes equal to `tag` become 0x00, all others get their high bit set; then the eight high
     * bits are gathered by one multiplication. */
    uint32_t mask = 0;
    for (unsigned half = 0; half < 2; half++) {
        const uint64_t low7 = 0x7f7f7f7f7f7f7f7fULL;
        const uint64_t x = kwr_get_le64(line->tags + 8 * half) ^ (0x0101010101010101ULL * tag);
        const uint64_t equal = ~(((x & low7) + low7) | x | low7);
        mask |= (uint32_t)(((equal >> 7) * 0x0102040810204080ULL) >> 56) << (8 * half);
    }
    return mask;
#endif
}

/* The empty slots of a group, one bit each. */
static inline uint32_t kwr_slots_empty(const kwr_slots *line) {
#ifdef KWR_PAGE_SSE2
    const __m128i zero = _mm_setzero_si128();
    const __m128i *offsets = (const __m128i *)(const void *)line->offsets;
    const __m128i low = _mm_cmpeq_epi16(_mm_load_si128(offsets), zero);
    const __m128i high = _mm_cmpeq_epi16(_mm_load_si128(offsets + 1), zero);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
#else
    uint32_t mask = 0;
    for (unsigned i = 0; i < KWR_SLOTS; i++)
        mask |= (uint32_t)(line->offsets[i] == 0) << i;
    return mask;
#endif
}

/* ---- ages: in which epoch a slot was last changed ---- */

/*
 * Seven bits for each slot, eight slots in seven bytes, then one byte for the overflow count. An
 * epoch's mark comes again after KWR_MARKS epochs: a slot may seem younger than it is, never older,
 * and then says once more what is known already. 0: not since the page was formed.
 */
enum { KWR_MARKS = KWR_EPOCH_MARKS, KWR_AGE_OVERFLOW = 14 };

static inline uint8_t kwr_mark_of(uint64_t epoch) { return (uint8_t)(1 + epoch % KWR_MARKS); }
/* Whoever changes what a slot refers to, or writes there, calls this. */
static inline void kwr_slot_touch(kwr_slots *line, uint32_t slot, uint8_t mark) {
    uint8_t *ages = line->ages + (slot >= 8 ? 7 : 0);
    const unsigned shift = 7 * (slot & 7);
    const uint64_t all = kwr_get_le64(ages);
    kwr_put_le64(ages, (all & ~((uint64_t)KWR_MARKS << shift)) | (uint64_t)mark << shift);
}
static inline uint8_t kwr_slot_mark(const kwr_slots *line, uint32_t slot) {
    const uint8_t *ages = line->ages + (slot >= 8 ? 7 : 0);
    return (uint8_t)(kwr_get_le64(ages) >> (7 * (slot & 7)) & KWR_MARKS);
}
/* May what bears this mark have changed in an epoch above `since`, seen from `now`? */
static inline bool kwr_mark_within(uint8_t mark, uint64_t since, uint64_t now) {
    if (mark == 0 || now <= since) return false;
    if (now - since >= KWR_MARKS) return true;
    const uint64_t first = (since + 1) % KWR_MARKS;
    return ((uint64_t)(mark - 1) + KWR_MARKS - first) % KWR_MARKS < now - since;
}

/* Where an entry was found. */
typedef struct kwr_hit {
    kwr_slots *line;
    uint32_t slot;
    uint32_t value_size;
    uint8_t *value;
    kwr_blob *blob; /* NULL: the record is in the page */
} kwr_hit;

static inline kwr_blob *kwr_page_blob(const kwr_page *page, uint16_t offset) {
    return (kwr_blob *)(uintptr_t)kwr_get_le64((const uint8_t *)page + (offset & KWR_SLOT_OFFSET));
}

/* The record a slot refers to, wherever it is. */
static inline const uint8_t *kwr_page_record(const kwr_page *page, uint16_t offset) {
    if (KWR_UNLIKELY((offset & KWR_SLOT_BLOB) != 0)) return kwr_page_blob(page, offset)->record;
    return (const uint8_t *)page + offset;
}

/* Its bytes in the page. */
static inline size_t kwr_page_record_bytes(const kwr_page *page, uint16_t offset) {
    if ((offset & KWR_SLOT_BLOB) != 0) return KWR_BLOB_REF;
    return kwr_record_bytes((const uint8_t *)page + offset);
}

static inline bool kwr_page_find(const kwr_page *page, uint32_t groups, const kwr_address *at,
                                 uint64_t hash, kwr_hit *hit) {
    kwr_slots *lines = kwr_page_slots(page);
    uint32_t group = kwr_hash_group(hash, groups);
    for (uint32_t left = groups; left > 0; left--) {
        kwr_slots *line = &lines[group];
        uint32_t mask = kwr_slots_match(line, kwr_hash_tag(hash));
        while (mask != 0) {
            const uint32_t slot = (uint32_t)__builtin_ctz(mask);
            const uint16_t offset = line->offsets[slot];
            mask &= mask - 1;
            if (KWR_UNLIKELY(offset == 0)) continue;
            if (KWR_LIKELY(kwr_record_is(kwr_page_record(page, offset), at, &hit->value,
                                         &hit->value_size))) {
                hit->line = line;
                hit->slot = slot;
                hit->blob = (offset & KWR_SLOT_BLOB) == 0 ? NULL : kwr_page_blob(page, offset);
                return true;
            }
        }
        if (KWR_LIKELY(line->overflow == 0)) return false;
        group = group + 1 == groups ? 0 : group + 1;
    }
    return false;
}

/* ---- changing a page that belongs to the present alone (page.c) ---- */

/* Makes an empty page of what a block holds. */
void kwr_page_init(kwr_page *page, uint64_t id, uint64_t prefix, unsigned depth, uint32_t groups);
/* Room for one more record of `bytes`. */
static inline bool kwr_page_fits(const kwr_page *page, size_t bytes) {
    return page->used + bytes <= kwr_page_capacity(page) &&
           page->live < (uint32_t)page->groups * KWR_SLOTS;
}
/* Takes a slot and `bytes` at the end for an entry of that hash; both must be there. The caller
 * fills the record in. */
uint8_t *kwr_page_add(kwr_page *page, uint64_t hash, size_t bytes, bool blob, kwr_hit *hit);
/* Gives the slot of `hit` back; the record's bytes are dead. */
void kwr_page_drop(kwr_page *page, uint64_t hash, const kwr_hit *hit);

#endif /* KWR_BACKEND_MEMORY_PAGE_H */
