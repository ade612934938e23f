/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections as the seam has them: in their record while they are small, in a tree when not.
 * Crossing from one to the other is complete in itself and keeps the elements. What is written
 * where it stands, in pages of the present, is done here; all else in tree.c and upsert.c.
 */
#include "backend/memory/lazy.h"
#include "backend/memory/tree.h"

/* An access at work. */
typedef struct access {
    kwr_engine *e;
    const kwr_address *at;
    uint64_t hash;
    kwr_word word;
    kwr_hit hit;
    bool found;
} access;

static kwr_status begin(kwr_engine *e, const kwr_address *at, bool write, access *a) {
    *a = (access){ .e = e, .at = at, .hash = at->entry_hash & e->hash_mask };
    KWR_TRY(kwr_word_at(e, at, a->hash, write, &a->word));
    if (write) kwr_store_at_group(e, at->key_group - e->group_first);
    a->found = kwr_find_entry(a->word, at, a->hash, &a->hit);
    return KWR_OK;
}

/* After the entry's record was changed. */
static void look_again(access *a) {
    a->word = kwr_find_word(a->e, a->at->state, a->at->key_group, a->hash, true);
    a->found = kwr_find_entry(a->word, a->at, a->hash, &a->hit);
}

static bool is_tree(const access *a) { return a->found && kwr_collection_is_tree(a->hit.value); }

static void changed(const access *a) { a->e->facts[a->at->state].stamp++; }

/* Sizes that the limits allow. A timer's subkey holds a key and a namespace. */
static kwr_status check_sizes(const kwr_engine *e, size_t key_size, size_t value_size) {
    const size_t key_max = e->key_bytes_max + e->namespace_bytes_max + KWR_SUBKEY_EXTRA;
    return key_size > key_max || value_size > e->value_bytes_max ? KWR_ERR_RANGE : KWR_OK;
}

/* ---- inline ---- */

/* Where an element is among those of an inline value, or would be. */
typedef struct place {
    const uint8_t *at;
    kwr_element element; /* if found */
    bool found;
} place;

static place inline_find(const uint8_t *value, kwr_slice key) {
    place p = { .at = value + KWR_INLINE_HEAD };
    for (uint32_t left = kwr_inline_count(value); left > 0; left--) {
        const kwr_element x = kwr_element_at(p.at);
        const int order = kwr_subkey_compare(kwr_element_key(&x), key);
        if (order >= 0) {
            p.found = order == 0;
            p.element = x;
            return p;
        }
        p.at = kwr_element_end(&x);
    }
    return p;
}

static const uint8_t *inline_last(const uint8_t *value) {
    const uint8_t *p = value + KWR_INLINE_HEAD, *last = p;
    for (uint32_t left = kwr_inline_count(value); left > 0; left--) {
        const kwr_element x = kwr_element_at(p);
        last = p;
        p = kwr_element_end(&x);
    }
    return last;
}

kwr_collection_sum kwr_collection_sum_of(const uint8_t *value) {
    if (kwr_collection_is_tree(value)) {
        const kwr_tree_head head = kwr_tree_head_at(value);
        return (kwr_collection_sum){ head.count, head.bytes };
    }
    kwr_collection_sum sum = { .count = kwr_inline_count(value) };
    const uint8_t *p = value + KWR_INLINE_HEAD;
    for (uint64_t left = sum.count; left > 0; left--) {
        const kwr_element x = kwr_element_at(p);
        sum.bytes += (uint64_t)x.key_size + x.value_size;
        p = kwr_element_end(&x);
    }
    return sum;
}

/* Bytes [skip, skip + gone) of the old inline value are replaced by `put` new ones, not yet
 * written: *out is where they go in the record. Count as given. */
static kwr_status inline_splice(access *a, size_t skip, size_t gone, size_t put, uint32_t count,
                                uint8_t **out) {
    uint8_t old[KWR_COLLECTION_BYTES_MAX];
    const size_t old_size = a->found ? a->hit.value_size : 0;
    if (old_size > sizeof old) return KWR_ERR_POISONED;
    if (old_size > 0) memcpy(old, a->hit.value, old_size);
    const size_t size = (old_size == 0 ? KWR_INLINE_HEAD : old_size) - gone + put;
    uint8_t *value;
    size_t before;
    KWR_TRY(kwr_store_upsert(a->e, a->at, a->hash, size, false, &value, &before));
    value[0] = KWR_COLLECTION_INLINE;
    kwr_put_le16(value + 1, (uint16_t)count);
    if (old_size > 0) {
        memcpy(value + KWR_INLINE_HEAD, old + KWR_INLINE_HEAD, skip - KWR_INLINE_HEAD);
        memcpy(value + skip + put, old + skip + gone, old_size - skip - gone);
    }
    *out = value + skip;
    changed(a);
    return KWR_OK;
}

static bool fits_inline(const access *a, size_t more, uint32_t count) {
    const size_t size = a->found ? a->hit.value_size : KWR_INLINE_HEAD;
    return size + more <= KWR_COLLECTION_BYTES_MAX && count <= KWR_COLLECTION_COUNT_MAX;
}

static void count_first(const access *a) {
    kwr_store_count(a->e, a->at->state, 1, (int64_t)(a->at->key.size + a->at->name.size), 0);
}

/* ---- from record to tree and back ---- */

/* The entry becomes a tree of these elements, all in one leaf. */
static kwr_status become_tree(access *a, const kwr_tree_ref *refs, uint32_t count, size_t room,
                              kwr_tree_head *out) {
    kwr_engine *e = a->e;
    kwr_tree_page *leaf = kwr_tree_build(e, refs, count, 0, room);
    if (leaf == NULL) return KWR_ERR_NOMEM;
    kwr_tree_head head = {
        .form = KWR_COLLECTION_TREE,
        .leaves = 1,
        .count = count,
        .root = (uint64_t)(uintptr_t)leaf,
    };
    for (uint32_t i = 0; i < count; i++)
        head.bytes += refs[i].key.size + refs[i].value_size;
    uint8_t *value;
    size_t before;
    const kwr_status status =
        kwr_store_upsert(e, a->at, a->hash, sizeof head, false, &value, &before);
    if (status != KWR_OK) {
        kwr_page_arena_free(&e->arena, &leaf->block);
        return status;
    }
    memcpy(value, &head, sizeof head);
    changed(a);
    *out = head;
    return KWR_OK;
}

static kwr_status promote(access *a) {
    kwr_tree_scratch *s = a->e->tree;
    const uint8_t *p = a->hit.value + KWR_INLINE_HEAD;
    s->count = 0;
    for (uint32_t left = kwr_inline_count(a->hit.value); left > 0; left--) {
        const kwr_element x = kwr_element_at(p);
        s->refs[s->count++] = (kwr_tree_ref){ kwr_element_key(&x), x.value, x.value_size };
        p = kwr_element_end(&x);
    }
    kwr_tree_head head;
    return become_tree(a, s->refs, s->count, KWR_TREE_BYTES / 4, &head);
}

/* A tree of a few elements goes back into its record, when there is memory. */
static void demote(access *a, const kwr_tree_head *head) {
    if (head->height > 0 || head->count > KWR_COLLECTION_DEMOTE_COUNT ||
        head->bytes > KWR_COLLECTION_DEMOTE)
        return;
    kwr_tree_page *leaf = (kwr_tree_page *)(uintptr_t)head->root;
    size_t size = KWR_INLINE_HEAD;
    for (uint32_t i = 0; i < leaf->count; i++) {
        const kwr_element x = kwr_tree_element(leaf, i);
        size += kwr_element_size(x.key_size, x.value_size);
    }
    if (size > KWR_COLLECTION_BYTES_MAX) return;
    uint8_t *to;
    size_t before;
    if (kwr_store_upsert(a->e, a->at, a->hash, size, false, &to, &before) != KWR_OK) return;
    *to = KWR_COLLECTION_INLINE;
    kwr_put_le16(to + 1, (uint16_t)leaf->count);
    to += KWR_INLINE_HEAD;
    for (uint32_t i = 0; i < leaf->count; i++) {
        const kwr_element x = kwr_tree_element(leaf, i);
        to = kwr_element_write(to, kwr_element_key(&x), x.value_size);
        if (x.value_size > 0) memcpy(to, x.value, x.value_size);
        to += x.value_size;
    }
    kwr_tree_retire(a->e, leaf);
}

/* The head in a record of the present. */
static kwr_status own_head(access *a, kwr_tree *out) {
    *out = (kwr_tree){ .e = a->e, .state = a->at->state, .bytes = a->hit.value };
    if (!kwr_hit_writable(a->word, &a->hit)) {
        size_t before;
        KWR_TRY(kwr_store_upsert(a->e, a->at, a->hash, sizeof(kwr_tree_head), true, &out->bytes,
                                 &before));
    } else {
        kwr_slot_touch(a->hit.line, a->hit.slot, a->e->mark);
    }
    out->head = kwr_tree_head_at(out->bytes);
    return KWR_OK;
}

/* ---- one element ---- */

/* What a write asks for, and what it found. */
typedef struct write {
    kwr_slice key;
    size_t size; /* of the value; KWR_KEEP_SIZE until known */
    bool keep;
    uint8_t *out;
    size_t old_size;
} write;

static kwr_status write_first(access *a, write *w) {
    const size_t bytes = kwr_element_size(w->key.size, w->size);
    uint8_t *to;
    if (fits_inline(a, bytes, 1)) {
        KWR_TRY(inline_splice(a, KWR_INLINE_HEAD, 0, bytes, 1, &to));
        w->out = kwr_element_write(to, w->key, w->size);
    } else {
        const kwr_tree_ref ref = { w->key, NULL, (uint32_t)w->size };
        kwr_tree_head head = { 0 };
        KWR_TRY(become_tree(a, &ref, 1, 0, &head));
        w->out = kwr_tree_element((kwr_tree_page *)(uintptr_t)head.root, 0).value;
    }
    if (w->keep && w->size > 0) memset(w->out, 0, w->size);
    count_first(a);
    kwr_store_count(a->e, a->at->state, 0, (int64_t)(w->key.size + w->size), 1);
    return KWR_OK;
}

static kwr_status write_tree(access *a, write *w) {
    kwr_tree_head head = kwr_tree_head_at(a->hit.value);
    kwr_tree_path path;
    bool found = kwr_tree_find(&head, w->key, &path);
    w->old_size = KWR_ABSENT;
    if (found) {
        const kwr_tree_step *leaf = kwr_tree_leaf(&path);
        const kwr_element old = kwr_tree_element(leaf->page, leaf->index);
        w->old_size = old.value_size;
        if (w->size == KWR_KEEP_SIZE) w->size = old.value_size;
        if (old.value_size == w->size && !kwr_store_shared(a->e, &leaf->page->block)) {
            leaf->page->block.birth = a->e->epoch;
            w->out = old.value;
            return KWR_OK;
        }
    }
    if (w->size == KWR_KEEP_SIZE) w->size = 0;
    kwr_tree t;
    KWR_TRY(own_head(a, &t));
    KWR_TRY(kwr_tree_own(&t, &path));
    const uint64_t count = t.head.count, bytes = t.head.bytes;
    KWR_TRY(kwr_tree_place(&t, &path, w->key, w->size, found, w->keep, &w->out));
    kwr_store_count(a->e, a->at->state, 0, (int64_t)(t.head.bytes - bytes),
                    (int64_t)(t.head.count - count));
    return KWR_OK;
}

static kwr_status write_inline(access *a, write *w) {
    const uint8_t *value = a->hit.value;
    const uint32_t count = kwr_inline_count(value);
    const place p = inline_find(value, w->key);
    const size_t skip = (size_t)(p.at - value);
    const size_t old_size = p.found ? p.element.value_size : KWR_ABSENT;
    if (w->size == KWR_KEEP_SIZE) w->size = p.found ? old_size : 0;
    w->old_size = old_size;
    if (old_size == w->size && kwr_hit_writable(a->word, &a->hit)) {
        kwr_slot_touch(a->hit.line, a->hit.slot, a->e->mark);
        w->out = p.element.value;
        return KWR_OK;
    }
    const size_t gone = p.found ? kwr_element_size(w->key.size, old_size) : 0;
    const size_t put = kwr_element_size(w->key.size, w->size);
    const size_t kept = !w->keep || !p.found ? 0 : old_size < w->size ? old_size : w->size;
    uint8_t old[KWR_COLLECTION_BYTES_MAX];
    if (!fits_inline(a, put - gone, count + !p.found)) {
        KWR_TRY(promote(a));
        look_again(a);
        return write_tree(a, w);
    }
    if (kept > 0) memcpy(old, p.element.value, kept);
    uint8_t *to;
    KWR_TRY(inline_splice(a, skip, gone, put, count + !p.found, &to));
    w->out = kwr_element_write(to, w->key, w->size);
    if (kept > 0) memcpy(w->out, old, kept);
    if (w->keep && w->size > kept) memset(w->out + kept, 0, w->size - kept);
    const size_t key_bytes = p.found ? 0 : w->key.size;
    kwr_store_count(a->e, a->at->state, 0,
                    (int64_t)(key_bytes + w->size) - (int64_t)(p.found ? old_size : 0), !p.found);
    return KWR_OK;
}

static kwr_status write_element(access *a, write *w) {
    if (w->size != KWR_KEEP_SIZE) KWR_TRY(check_sizes(a->e, w->key.size, w->size));
    w->old_size = KWR_ABSENT;
    if (is_tree(a)) return write_tree(a, w);
    if (a->found) return write_inline(a, w);
    if (w->size == KWR_KEEP_SIZE) w->size = 0;
    KWR_TRY(check_sizes(a->e, w->key.size, 0));
    return write_first(a, w);
}

kwr_status kwr_store_sub_get(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice *value) {
    access a;
    KWR_TRY(begin(e, at, false, &a));
    if (!a.found) return KWR_NOT_FOUND;
    kwr_element x;
    if (is_tree(&a)) {
        const kwr_tree_head head = kwr_tree_head_at(a.hit.value);
        kwr_tree_path path;
        if (!kwr_tree_find(&head, subkey, &path)) return KWR_NOT_FOUND;
        x = kwr_tree_element(kwr_tree_leaf(&path)->page, kwr_tree_leaf(&path)->index);
    } else {
        const place p = inline_find(a.hit.value, subkey);
        if (!p.found) return KWR_NOT_FOUND;
        x = p.element;
    }
    *value = (kwr_slice){ x.value, x.value_size };
    return KWR_OK;
}

kwr_status kwr_store_sub_put(kwr_engine *e, const kwr_address *at, kwr_slice subkey,
                             kwr_slice value) {
    access a;
    KWR_TRY(begin(e, at, true, &a));
    write w = { .key = subkey, .size = value.size };
    const kwr_status status = write_element(&a, &w);
    if (status == KWR_OK && value.size > 0) memmove(w.out, value.data, value.size);
    kwr_store_settle(e);
    return status;
}

kwr_status kwr_store_sub_modify(kwr_engine *e, const kwr_address *at, kwr_slice subkey, size_t size,
                                void **out, size_t *old_size) {
    access a;
    KWR_TRY(begin(e, at, true, &a));
    write w = { .key = subkey, .size = size, .keep = true };
    const kwr_status status = write_element(&a, &w);
    if (status == KWR_OK) {
        *out = w.out;
        *old_size = w.old_size;
    }
    kwr_store_settle(e);
    return status;
}

/* ---- removal ---- */

/* The entry goes with all it holds. */
static kwr_status remove_all(access *a) {
    const kwr_collection_sum sum = kwr_collection_sum_of(a->hit.value);
    const bool tree = is_tree(a);
    kwr_tree_head head = { 0 };
    if (tree) head = kwr_tree_head_at(a->hit.value);
    KWR_TRY(kwr_store_remove(a->e, a->at, a->hash));
    if (tree) kwr_tree_retire(a->e, (kwr_tree_page *)(uintptr_t)head.root);
    const uint64_t bytes = a->at->key.size + a->at->name.size + sum.bytes;
    kwr_store_count(a->e, a->at->state, -1, -(int64_t)bytes, -(int64_t)sum.count);
    changed(a);
    return KWR_OK;
}

kwr_status kwr_store_collection_remove(kwr_engine *e, const kwr_address *at) {
    access a;
    KWR_TRY(begin(e, at, false, &a));
    if (!a.found) return KWR_NOT_FOUND;
    const kwr_status status = remove_all(&a);
    kwr_store_settle(e);
    return status;
}

static kwr_status remove_from_tree(access *a, kwr_slice key) {
    kwr_tree_head head = kwr_tree_head_at(a->hit.value);
    kwr_tree_path path;
    if (!kwr_tree_find(&head, key, &path)) return KWR_NOT_FOUND;
    if (head.count == 1) return remove_all(a);
    kwr_tree t;
    KWR_TRY(own_head(a, &t));
    KWR_TRY(kwr_tree_own(&t, &path));
    const uint64_t bytes = t.head.bytes;
    kwr_tree_take_out(&t, &path);
    kwr_store_count(a->e, a->at->state, 0, (int64_t)(t.head.bytes - bytes), -1);
    demote(a, &t.head);
    return KWR_OK;
}

static kwr_status remove_inline(access *a, kwr_slice key) {
    const uint8_t *value = a->hit.value;
    const place p = inline_find(value, key);
    if (!p.found) return KWR_NOT_FOUND;
    const uint32_t count = kwr_inline_count(value);
    if (count == 1) return remove_all(a);
    const size_t bytes = (size_t)p.element.key_size + p.element.value_size;
    uint8_t *to;
    KWR_TRY(inline_splice(a, (size_t)(p.at - value), (size_t)(kwr_element_end(&p.element) - p.at),
                          0, count - 1, &to));
    kwr_store_count(a->e, a->at->state, 0, -(int64_t)bytes, -1);
    return KWR_OK;
}

kwr_status kwr_store_sub_remove(kwr_engine *e, const kwr_address *at, kwr_slice subkey) {
    access a;
    KWR_TRY(begin(e, at, true, &a));
    if (!a.found) return KWR_NOT_FOUND;
    const kwr_status status =
        is_tree(&a) ? remove_from_tree(&a, subkey) : remove_inline(&a, subkey);
    kwr_store_settle(e);
    return status;
}

/* ---- lists ---- */

/* The sequence number behind the last; false: there is none left. */
static bool next_sequence(const access *a, uint64_t *out) {
    *out = 0;
    if (!a->found) return true;
    kwr_element x;
    if (is_tree(a)) {
        const kwr_tree_head head = kwr_tree_head_at(a->hit.value);
        kwr_tree_path path;
        kwr_tree_last(&head, &path);
        x = kwr_tree_element(kwr_tree_leaf(&path)->page, kwr_tree_leaf(&path)->index);
    } else {
        x = kwr_element_at(inline_last(a->hit.value));
    }
    if (x.key_size != KWR_SEQUENCE_BYTES) return false;
    *out = kwr_get_be64(x.key) + 1;
    return *out != 0;
}

static kwr_slice sequence(uint64_t number, uint8_t bytes[KWR_SEQUENCE_BYTES]) {
    kwr_put_be64(bytes, number);
    return (kwr_slice){ bytes, KWR_SEQUENCE_BYTES };
}

/* The bytes of elements that are appended, as encoded; KWR_ERR_RANGE: one is too large. */
static kwr_status list_bytes(const kwr_engine *e, const kwr_slice *values, size_t count,
                             uint64_t *stored, uint64_t *bytes) {
    *stored = *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        KWR_TRY(check_sizes(e, KWR_SEQUENCE_BYTES, values[i].size));
        *stored += kwr_element_size(KWR_SEQUENCE_BYTES, values[i].size);
        *bytes += KWR_SEQUENCE_BYTES + values[i].size;
    }
    return KWR_OK;
}

static void pack_list(uint8_t *to, uint64_t first, const kwr_slice *values, size_t count) {
    uint8_t number[KWR_SEQUENCE_BYTES];
    for (size_t i = 0; i < count; i++) {
        to = kwr_element_write(to, sequence(first + i, number), values[i].size);
        if (values[i].size > 0) memcpy(to, values[i].data, values[i].size);
        to += values[i].size;
    }
}

/* All new elements in one change of the record. */
static kwr_status append_inline(access *a, uint64_t first, const kwr_slice *values, size_t count,
                                size_t put, uint64_t bytes) {
    const uint32_t before = a->found ? kwr_inline_count(a->hit.value) : 0;
    const size_t skip = a->found ? a->hit.value_size : KWR_INLINE_HEAD;
    const bool fresh = !a->found;
    uint8_t *to;
    KWR_TRY(inline_splice(a, skip, 0, put, before + (uint32_t)count, &to));
    pack_list(to, first, values, count);
    if (fresh) count_first(a);
    kwr_store_count(a->e, a->at->state, 0, (int64_t)bytes, (int64_t)count);
    return KWR_OK;
}

static kwr_status append_one(kwr_tree *t, uint64_t number, kwr_slice value) {
    uint8_t bytes[KWR_SEQUENCE_BYTES], *to;
    kwr_tree_path path;
    kwr_tree_last(&t->head, &path);
    kwr_tree_leaf(&path)->index++;
    KWR_TRY(kwr_tree_own(t, &path));
    KWR_TRY(kwr_tree_place(t, &path, sequence(number, bytes), value.size, false, false, &to));
    if (value.size > 0) memcpy(to, value.data, value.size);
    return KWR_OK;
}

/* Every page it needs belongs to the present by now: nothing fails. */
static void take_back(kwr_tree *t, size_t count) {
    for (; count > 0; count--) {
        kwr_tree_path path;
        kwr_tree_last(&t->head, &path);
        kwr_tree_take_out(t, &path);
    }
}

static kwr_status append_tree(access *a, uint64_t first, const kwr_slice *values, size_t count) {
    kwr_tree t;
    KWR_TRY(own_head(a, &t));
    const uint64_t bytes = t.head.bytes;
    for (size_t i = 0; i < count; i++) {
        const kwr_status status = append_one(&t, first + i, values[i]);
        if (status == KWR_OK) continue;
        take_back(&t, i);
        return status;
    }
    kwr_store_count(a->e, a->at->state, 0, (int64_t)(t.head.bytes - bytes), (int64_t)count);
    return KWR_OK;
}

static kwr_status append_first(access *a, const kwr_slice *values, size_t count) {
    uint8_t number[KWR_SEQUENCE_BYTES];
    write w = { .key = sequence(0, number), .size = values[0].size };
    KWR_TRY(write_first(a, &w));
    if (values[0].size > 0) memcpy(w.out, values[0].data, values[0].size);
    look_again(a);
    kwr_status status = KWR_OK;
    if (!is_tree(a)) {
        status = promote(a);
        look_again(a);
    }
    if (status == KWR_OK) status = append_tree(a, 1, values + 1, count - 1);
    if (status == KWR_OK) return KWR_OK;
    look_again(a);
    const kwr_status undone = remove_all(a);
    return undone == KWR_OK ? status : KWR_ERR_POISONED;
}

static kwr_status append_all(access *a, const kwr_slice *values, size_t count) {
    uint64_t first, bytes, put;
    if (!next_sequence(a, &first) || UINT64_MAX - first < count - 1) return KWR_ERR_RANGE;
    KWR_TRY(list_bytes(a->e, values, count, &put, &bytes));
    if (!is_tree(a)) {
        const uint64_t all = count + (a->found ? kwr_inline_count(a->hit.value) : 0);
        if (put <= KWR_COLLECTION_BYTES_MAX && all <= KWR_COLLECTION_COUNT_MAX &&
            fits_inline(a, (size_t)put, (uint32_t)all))
            return append_inline(a, first, values, count, (size_t)put, bytes);
        if (!a->found) return append_first(a, values, count);
        KWR_TRY(promote(a));
        look_again(a);
    }
    return append_tree(a, first, values, count);
}

kwr_status kwr_store_sub_append(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count) {
    if (count == 0) return KWR_OK;
    access a;
    KWR_TRY(begin(e, at, true, &a));
    const kwr_status status = append_all(&a, values, count);
    kwr_store_settle(e);
    return status;
}

/* A tree of its own, of no record yet: its head is in `bytes`. */
static kwr_status make_list(access *a, const kwr_slice *values, size_t count,
                            uint8_t bytes[sizeof(kwr_tree_head)]) {
    uint8_t number[KWR_SEQUENCE_BYTES];
    const kwr_tree_ref ref = { sequence(0, number), values[0].data, (uint32_t)values[0].size };
    kwr_tree_page *leaf = kwr_tree_build(a->e, &ref, 1, 0, KWR_TREE_BYTES / 4);
    if (leaf == NULL) return KWR_ERR_NOMEM;
    kwr_tree t = { .e = a->e, .state = a->at->state, .bytes = bytes };
    t.head = (kwr_tree_head){
        .form = KWR_COLLECTION_TREE,
        .leaves = 1,
        .count = 1,
        .bytes = KWR_SEQUENCE_BYTES + values[0].size,
        .root = (uint64_t)(uintptr_t)leaf,
    };
    kwr_tree_store(&t);
    for (size_t i = 1; i < count; i++) {
        const kwr_status status = append_one(&t, i, values[i]);
        if (status == KWR_OK) continue;
        kwr_tree_retire(a->e, (kwr_tree_page *)(uintptr_t)t.head.root);
        return status;
    }
    return KWR_OK;
}

static kwr_status assign_all(access *a, const kwr_slice *values, size_t count) {
    uint64_t stored, bytes;
    uint8_t head[sizeof(kwr_tree_head)], *to;
    KWR_TRY(list_bytes(a->e, values, count, &stored, &bytes));
    const bool small =
        KWR_INLINE_HEAD + stored <= KWR_COLLECTION_BYTES_MAX && count <= KWR_COLLECTION_COUNT_MAX;
    if (!small) KWR_TRY(make_list(a, values, count, head));
    kwr_collection_sum old = { 0 };
    kwr_tree_page *old_root = NULL;
    if (a->found) old = kwr_collection_sum_of(a->hit.value);
    if (is_tree(a)) old_root = (kwr_tree_page *)(uintptr_t)kwr_tree_head_at(a->hit.value).root;
    size_t before;
    const size_t size = small ? KWR_INLINE_HEAD + (size_t)stored : sizeof head;
    const kwr_status status = kwr_store_upsert(a->e, a->at, a->hash, size, false, &to, &before);
    if (status != KWR_OK) {
        if (!small) kwr_tree_retire(a->e, (kwr_tree_page *)(uintptr_t)kwr_tree_head_at(head).root);
        return status;
    }
    if (small) {
        to[0] = KWR_COLLECTION_INLINE;
        kwr_put_le16(to + 1, (uint16_t)count);
        pack_list(to + KWR_INLINE_HEAD, 0, values, count);
    } else {
        memcpy(to, head, sizeof head);
    }
    if (old_root != NULL) kwr_tree_retire(a->e, old_root);
    if (!a->found) count_first(a);
    kwr_store_count(a->e, a->at->state, 0, (int64_t)(bytes - old.bytes),
                    (int64_t)(count - old.count));
    changed(a);
    return KWR_OK;
}

kwr_status kwr_store_sub_assign(kwr_engine *e, const kwr_address *at, const kwr_slice *values,
                                size_t count) {
    if (count == 0) return KWR_ERR_MISUSE;
    access a;
    KWR_TRY(begin(e, at, true, &a));
    const kwr_status status = assign_all(&a, values, count);
    kwr_store_settle(e);
    return status;
}

/* ---- stepping ---- */

/* Of a collection as it is now: a hint with another stamp says nothing. */
static uint64_t hint_stamp(const kwr_engine *e, const kwr_address *at) {
    const uint64_t where = (uint64_t)at->state << 32 | at->key_group;
    const uint64_t stamp =
        kwr_entry_hash(at->entry_hash ^ where * 0x9e3779b97f4a7c15ULL, e->facts[at->state].stamp);
    return stamp == 0 ? 1 : stamp;
}

static void lend(const kwr_element *x, kwr_slice *subkey, kwr_slice *value) {
    if (subkey != NULL) *subkey = kwr_element_key(x);
    if (value != NULL) *value = (kwr_slice){ x->value, x->value_size };
}

/* One step from where the hint stands, inside its leaf. */
static bool step_hinted(kwr_engine_hint *hint, kwr_seek seek, kwr_slice from, kwr_element *out) {
    const kwr_tree_page *leaf = hint->page;
    const uint32_t i = (uint32_t)hint->extra;
    const kwr_element here = kwr_tree_element(leaf, i);
    const bool same = here.key == from.data && here.key_size == from.size;
    if (!same && kwr_subkey_compare(kwr_element_key(&here), from) != 0) return false;
    if (seek == KWR_SEEK_ABOVE && i + 1 < leaf->count)
        hint->extra = i + 1;
    else if (seek == KWR_SEEK_BELOW && i > 0)
        hint->extra = i - 1;
    else if (seek != KWR_SEEK_AT_LEAST)
        return false;
    *out = kwr_tree_element(leaf, (uint32_t)hint->extra);
    return true;
}

static bool seek_tree(const kwr_tree_head *head, kwr_seek seek, kwr_slice from,
                      kwr_tree_path *path) {
    bool found;
    switch (seek) {
    case KWR_SEEK_FIRST: kwr_tree_first(head, path); return true;
    case KWR_SEEK_LAST: kwr_tree_last(head, path); return true;
    case KWR_SEEK_AT_LEAST:
    case KWR_SEEK_ABOVE:
        found = kwr_tree_find(head, from, path);
        if (found && seek == KWR_SEEK_ABOVE) kwr_tree_leaf(path)->index++;
        return kwr_tree_settle_forward(path);
    case KWR_SEEK_BELOW: (void)kwr_tree_find(head, from, path); return kwr_tree_back(path);
    }
    return false;
}

static bool seek_inline(const uint8_t *value, kwr_seek seek, kwr_slice from, kwr_element *out) {
    const uint8_t *p = value + KWR_INLINE_HEAD;
    bool found = false;
    for (uint32_t left = kwr_inline_count(value); left > 0; left--) {
        const kwr_element x = kwr_element_at(p);
        p = kwr_element_end(&x);
        if (seek != KWR_SEEK_FIRST && seek != KWR_SEEK_LAST) {
            const int order = kwr_subkey_compare(kwr_element_key(&x), from);
            if (seek == KWR_SEEK_BELOW && order >= 0) break;
            if (order < 0 && seek != KWR_SEEK_BELOW) continue;
            if (order == 0 && seek == KWR_SEEK_ABOVE) continue;
        }
        *out = x;
        found = true;
        if (seek != KWR_SEEK_LAST && seek != KWR_SEEK_BELOW) break;
    }
    return found;
}

kwr_status kwr_store_sub_seek(kwr_engine *e, const kwr_address *at, kwr_seek seek, kwr_slice from,
                              kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value) {
    kwr_element x;
    if (hint != NULL && hint->stamp != 0 && seek >= KWR_SEEK_AT_LEAST &&
        hint->stamp == hint_stamp(e, at) && step_hinted(hint, seek, from, &x)) {
        lend(&x, subkey, value);
        return KWR_OK;
    }
    access a;
    KWR_TRY(begin(e, at, false, &a));
    if (!a.found) return KWR_NOT_FOUND;
    if (!is_tree(&a)) {
        if (!seek_inline(a.hit.value, seek, from, &x)) return KWR_NOT_FOUND;
        lend(&x, subkey, value);
        return KWR_OK;
    }
    const kwr_tree_head head = kwr_tree_head_at(a.hit.value);
    kwr_tree_path path;
    if (!seek_tree(&head, seek, from, &path)) return KWR_NOT_FOUND;
    const kwr_tree_step *leaf = kwr_tree_leaf(&path);
    x = kwr_tree_element(leaf->page, leaf->index);
    if (hint != NULL) *hint = (kwr_engine_hint){ hint_stamp(e, at), leaf->page, leaf->index };
    lend(&x, subkey, value);
    return KWR_OK;
}

kwr_status kwr_store_sub_count(kwr_engine *e, const kwr_address *at, uint64_t *count) {
    access a;
    KWR_TRY(begin(e, at, false, &a));
    *count = a.found
                 ? is_tree(&a) ? kwr_tree_head_at(a.hit.value).count : kwr_inline_count(a.hit.value)
                 : 0;
    return KWR_OK;
}

/* ---- walks ---- */

kwr_status kwr_elements_walk(const uint8_t *bytes, uint32_t count, kwr_entry *entry,
                             kwr_entry_fn fn, void *fn_ctx) {
    for (; count > 0; count--) {
        const kwr_element x = kwr_element_at(bytes);
        bytes = kwr_element_end(&x);
        lend(&x, &entry->subkey, &entry->value);
        const kwr_status status = fn(fn_ctx, entry);
        if (status != KWR_OK) return status;
    }
    return KWR_OK;
}

kwr_status kwr_collection_walk(const uint8_t *value, kwr_entry *entry, kwr_entry_fn fn,
                               void *fn_ctx) {
    if (!kwr_collection_is_tree(value))
        return kwr_elements_walk(value + KWR_INLINE_HEAD, kwr_inline_count(value), entry, fn,
                                 fn_ctx);
    const kwr_tree_head head = kwr_tree_head_at(value);
    kwr_tree_path path;
    kwr_tree_first(&head, &path);
    for (; kwr_tree_settle_forward(&path); kwr_tree_leaf(&path)->index++) {
        const kwr_tree_step *leaf = kwr_tree_leaf(&path);
        const kwr_element x = kwr_tree_element(leaf->page, leaf->index);
        lend(&x, &entry->subkey, &entry->value);
        const kwr_status status = fn(fn_ctx, entry);
        if (status != KWR_OK) return status;
    }
    return KWR_OK;
}
