/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways an entry comes, changes its size and goes, when the short way in memory_engine.c does
 * not do: new keys, frozen pages, full pages, blobs, chains.
 */
#include "backend/memory/store.h"
#include "base/planted.h"

/* ---- chains ---- */

/* Could this page take a record of `bytes` more, repacked if need be? */
static bool could_take(const kwr_page *page, size_t bytes) {
    const uint32_t count = page->live + 1U;
    uint32_t groups = (count + KWR_SLOTS - 1) / KWR_SLOTS;
    if (groups < page->groups) groups = page->groups;
    return count <= KWR_PAGE_SLOTS_MAX &&
           kwr_page_records(groups) + kwr_page_live_bytes(page) + bytes <= KWR_PAGE_BYTES_MAX;
}

/* Appends an empty page to the chain the path is in, and steps to it. */
static kwr_status chain_append(kwr_engine *e, kwr_path *path, uint64_t hash, size_t bytes) {
    kwr_step *step = kwr_path_last(path), *parent = step - 1;
    kwr_node *old = step->node;
    const kwr_word above = parent->node->words[parent->index];
    kwr_page *page = kwr_page_new(e, e->page_ids, hash & ~0ULL << (64 - KWR_DEPTH_MAX),
                                  KWR_DEPTH_MAX, 1, bytes, bytes);
    if (page == NULL) return KWR_ERR_NOMEM;
    const size_t room = (kwr_block_bytes(&old->block) - sizeof *old) / sizeof(kwr_word);
    if (old->width == room) {
        kwr_node *node = kwr_node_new(e, old->width * 2);
        if (node == NULL) {
            kwr_page_arena_free(&e->arena, &page->block);
            return KWR_ERR_NOMEM;
        }
        memcpy(node->words, old->words, old->width * sizeof(kwr_word));
        node->width = old->width;
        kwr_directory_set(e, parent, kwr_word_make(KWR_WORD_CHAIN, node, kwr_word_depth(above), 0));
        kwr_store_retire(e, &old->block);
        step->node = node;
    }
    e->page_ids++;
    step->index = step->node->width++;
    kwr_directory_set(e, step, kwr_page_word(page, 0));
    return KWR_OK;
}

/* Takes the empty page at the end of the path out of its chain; a chain of one is a page. */
static void chain_remove(kwr_engine *e, kwr_path *path) {
    kwr_step *step = kwr_path_last(path), *parent = step - 1;
    kwr_node *chain = step->node;
    chain->words[step->index] = chain->words[--chain->width];
    e->stamp++;
    if (chain->width <= 1) {
        const unsigned depth = kwr_word_depth(parent->node->words[parent->index]);
        const kwr_word last = chain->width == 0 ? 0 : chain->words[0];
        kwr_directory_set(e, parent, kwr_word_with_depth(last, depth));
        kwr_store_retire(e, &chain->block);
    }
    path->count--;
}

/* ---- blobs ---- */

static kwr_blob *blob_new(kwr_engine *e, const kwr_address *at, size_t value_size) {
    const size_t size = kwr_record_size(at->key.size, at->name.size, value_size);
    kwr_blob *blob = (kwr_blob *)kwr_store_alloc(e, sizeof(kwr_blob) + size, KWR_BLOCK_BLOB);
    if (blob == NULL) return NULL;
    blob->id = e->page_ids++;
    blob->size = size;
    memset(blob->zero, 0, sizeof blob->zero);
    kwr_record_write(blob->record, at, value_size);
    return blob;
}

static uint8_t *blob_value(const kwr_blob *blob) { return kwr_record_at(blob->record).value; }

static void write_ref(uint8_t *at, const kwr_blob *blob) {
    kwr_put_le64(at, (uint64_t)(uintptr_t)blob);
}

/* ---- one entry at the end of a path ---- */

typedef struct change {
    const kwr_address *at;
    uint64_t hash;
    size_t value_size;
    size_t record;  /* bytes of the whole record */
    size_t bytes;   /* of it in the page */
    bool big;       /* goes into a blob */
    kwr_blob *blob; /* the new one, when needed */
} change;

/* The record is rewritten where it is; *value is where its value goes. False: it does not fit. */
static bool in_place(kwr_page *page, const change *c, kwr_hit *hit, uint8_t **value) {
    uint16_t *slot = &hit->line->offsets[hit->slot];
    const uint32_t offset = *slot & KWR_SLOT_OFFSET;
    uint8_t *record = (uint8_t *)page + offset;
    const size_t old = kwr_page_record_bytes(page, *slot);
    const bool was_blob = hit->blob != NULL;
    const bool last = offset + old == page->used;
    if (c->bytes > old && (!last || offset + c->bytes > kwr_page_capacity(page))) return false;
    if (!c->big) {
        if (was_blob ||
            kwr_varint32_size(hit->value_size) != kwr_varint32_size((uint32_t)c->value_size))
            return false;
        uint8_t *p = record;
        p += kwr_varint32_size((uint32_t)c->at->key.size);
        p += kwr_varint32_size((uint32_t)c->at->name.size);
        kwr_put_varint32(p, (uint32_t)c->value_size);
        *value = hit->value;
    } else {
        *value = blob_value(c->blob);
    }
    if (last)
        page->used = (uint16_t)(offset + c->bytes);
    else
        page->dead = (uint16_t)(page->dead + (old - c->bytes));
    return true;
}

/* Writes record or reference at `p`; returns where the value goes. */
static uint8_t *write_record(uint8_t *p, const change *c) {
    if (!c->big) return kwr_record_write(p, c->at, c->value_size);
    write_ref(p, c->blob);
    return blob_value(c->blob);
}

/* The entry's new record goes to the end of the page, its slot stays. */
static uint8_t *append(kwr_page *page, const change *c, const kwr_hit *hit) {
    uint16_t *slot = &hit->line->offsets[hit->slot];
    page->dead = (uint16_t)(page->dead + kwr_page_record_bytes(page, *slot));
    uint8_t *value = write_record((uint8_t *)page + page->used, c);
    *slot = (uint16_t)(page->used | (c->big ? KWR_SLOT_BLOB : 0));
    page->used = (uint16_t)(page->used + c->bytes);
    return value;
}

static void keep_bytes(uint8_t *to, size_t size, const uint8_t *from, size_t old) {
    const size_t kept = old < size ? old : size;
    if (to != from && kept > 0) memcpy(to, from, kept);
    if (size > kept) memset(to + kept, 0, size - kept);
}

/* The page has room for the record and belongs to the present: from here on nothing fails. */
static uint8_t *change_found(kwr_engine *e, kwr_page *page, change *c, kwr_hit *hit, bool keep) {
    uint8_t *value;
    const uint32_t old_size = hit->value_size;
    const uint8_t *old_value = hit->value;
    kwr_blob *old_blob = hit->blob;
    if (in_place(page, c, hit, &value)) {
        if (keep) keep_bytes(value, c->value_size, old_value, old_size);
        if (c->big) {
            uint16_t *slot = &hit->line->offsets[hit->slot];
            write_ref((uint8_t *)page + (*slot & KWR_SLOT_OFFSET), c->blob);
            *slot |= KWR_SLOT_BLOB;
        }
    } else {
        value = append(page, c, hit);
        if (keep) keep_bytes(value, c->value_size, old_value, old_size);
    }
    page->blobs = (uint16_t)(page->blobs + c->big - (old_blob != NULL));
    if (old_blob != NULL) kwr_store_retire(e, &old_blob->block);
    return value;
}

static uint8_t *add_new(kwr_page *page, const change *c) {
    kwr_hit hit;
    return write_record(kwr_page_add(page, c->hash, c->bytes, c->big, &hit), c);
}

static bool fits_change(const kwr_page *page, const change *c, kwr_hit *hit, bool found) {
    if (!found) return kwr_page_fits(page, c->bytes);
    if (page->used + c->bytes <= kwr_page_capacity(page)) return true;
    const uint16_t slot = hit->line->offsets[hit->slot];
    const size_t old = kwr_page_record_bytes(page, slot);
    const uint32_t offset = slot & KWR_SLOT_OFFSET;
    const bool same_head =
        c->big || (hit->blob == NULL && kwr_varint32_size(hit->value_size) ==
                                            kwr_varint32_size((uint32_t)c->value_size));
    return same_head && (c->bytes <= old || (offset + old == page->used &&
                                             offset + c->bytes <= kwr_page_capacity(page)));
}

/*
 * Where in a chain: the page with the entry if it can keep it at this size, else a page with room
 * for it. `moved`: the entry is in another page, given by its index.
 */
static kwr_status chain_pick(kwr_engine *e, kwr_path *path, const change *c, uint32_t *moved) {
    KWR_TRY(kwr_directory_enter_chain(e, path));
    kwr_step *step = kwr_path_last(path);
    const kwr_node *chain = step->node;
    uint32_t found = UINT32_MAX, room = UINT32_MAX;
    kwr_hit hit;
    for (uint32_t i = 0; i < chain->width; i++) {
        const kwr_page *page = kwr_word_address(chain->words[i]);
        if (room == UINT32_MAX && could_take(page, c->bytes)) room = i;
        if (kwr_page_find(page, page->groups, c->at, c->hash, &hit)) {
            found = i;
            if (fits_change(page, c, &hit, true) || could_take(page, c->bytes)) room = i;
            break;
        }
    }
    *moved = found == room ? UINT32_MAX : found;
    step->index = room;
    return room == UINT32_MAX ? chain_append(e, path, c->hash, c->bytes) : KWR_OK;
}

static kwr_status make_first_page(kwr_engine *e, kwr_path *path, const change *c) {
    const unsigned depth = kwr_path_depth(path);
    const kwr_word w = kwr_path_word(path);
    kwr_page *page = kwr_page_new(e, e->page_ids, depth == 0 ? 0 : c->hash & ~0ULL << (64 - depth),
                                  depth, 1, c->bytes, 0);
    if (page == NULL) return KWR_ERR_NOMEM;
    e->page_ids++;
    kwr_directory_set(e, kwr_path_last(path), kwr_page_word(page, kwr_word_depth(w)));
    return KWR_OK;
}

/* An entry that outgrew its page of a chain goes to the page at the end of the path. */
static kwr_status move_in_chain(kwr_engine *e, kwr_path *path, uint32_t from_index, change *c,
                                bool keep, uint8_t **out, size_t *old_size) {
    kwr_page *to, *from;
    kwr_path from_path = *path;
    kwr_path_last(&from_path)->index = from_index;
    KWR_TRY(kwr_page_own(e, path, &to));
    KWR_TRY(kwr_page_own(e, &from_path, &from));
    kwr_hit hit;
    if (!kwr_page_find(from, from->groups, c->at, c->hash, &hit)) return KWR_ERR_POISONED;
    uint8_t *value = add_new(to, c);
    if (keep) keep_bytes(value, c->value_size, hit.value, hit.value_size);
    *old_size = hit.value_size;
    kwr_page_drop(from, c->hash, &hit);
    if (hit.blob != NULL) kwr_store_retire(e, &hit.blob->block);
    if (from->live == 0) {
        chain_remove(e, &from_path);
        kwr_store_retire(e, &from->block);
    }
    *out = value;
    return KWR_OK;
}

/* One try. KWR_NOT_FOUND: the structure was changed to make room, try again. */
static kwr_status try_change(kwr_engine *e, change *c, bool keep, kwr_path *path, uint8_t **out,
                             size_t *old_size) {
    KWR_TRY(kwr_directory_path(e, c->at->state, c->at->key_group, c->hash, path));
    uint32_t moved = UINT32_MAX;
    if (kwr_word_kind_of(kwr_path_word(path)) == KWR_WORD_CHAIN)
        KWR_TRY(chain_pick(e, path, c, &moved));
    const kwr_word w = kwr_path_word(path);
    if (kwr_word_kind_of(w) == KWR_WORD_EMPTY) {
        if (c->big && c->blob == NULL && (c->blob = blob_new(e, c->at, c->value_size)) == NULL)
            return KWR_ERR_NOMEM;
        KWR_TRY(make_first_page(e, path, c));
        return KWR_NOT_FOUND;
    }
    kwr_page *page = kwr_word_address(w);
    kwr_hit hit;
    const bool found = kwr_page_find(page, page->groups, c->at, c->hash, &hit);
    if (found && hit.blob != NULL && c->big && hit.value_size == c->value_size &&
        !kwr_store_shared(e, &hit.blob->block)) {
        hit.blob->block.birth = e->epoch;
        *old_size = hit.value_size;
        *out = hit.value;
        return KWR_OK;
    }
    if (c->big && c->blob == NULL && (c->blob = blob_new(e, c->at, c->value_size)) == NULL)
        return KWR_ERR_NOMEM;
    if (!fits_change(page, c, &hit, found)) {
        KWR_TRY(kwr_page_make_room(e, path, c->hash, c->bytes));
        return KWR_NOT_FOUND;
    }
    if (moved != UINT32_MAX) return move_in_chain(e, path, moved, c, keep, out, old_size);
    kwr_page *owned;
    KWR_TRY(kwr_page_own(e, path, &owned));
    if (!found) {
        *out = add_new(owned, c);
        if (keep) memset(*out, 0, c->value_size);
        *old_size = KWR_ABSENT;
        return KWR_OK;
    }
    if (owned != page) kwr_page_find(owned, owned->groups, c->at, c->hash, &hit);
    *old_size = hit.value_size;
    kwr_slot_touch(hit.line, hit.slot, e->mark);
    if (!c->big && hit.blob == NULL && hit.value_size == c->value_size)
        *out = hit.value;
    else
        *out = change_found(e, owned, c, &hit, keep);
    return KWR_OK;
}

void kwr_store_count(kwr_engine *e, uint32_t state, int64_t entries, int64_t bytes,
                     int64_t elements) {
    kwr_node *top = e->states[state];
    top->entries += (uint64_t)entries;
    top->entry_bytes += (uint64_t)bytes;
    top->elements += (uint64_t)elements;
    e->entries += (uint64_t)entries;
    e->entry_bytes += (uint64_t)bytes;
}

kwr_status kwr_store_upsert(kwr_engine *e, const kwr_address *at, uint64_t hash, size_t value_size,
                            bool keep, uint8_t **out, size_t *old_size) {
    if (at->key.size > e->key_bytes_max || at->name.size > e->namespace_bytes_max ||
        (value_size > e->value_bytes_max && !e->facts[at->state].collection))
        return KWR_ERR_RANGE;
    if (KWR_UNLIKELY(!e->hash_checked)) {
        if (kwr_store_hash(e, at->key, at->name) != hash) return KWR_ERR_MISUSE;
        e->hash_checked = true;
    }
    change c = { .at = at, .hash = hash, .value_size = value_size };
    c.record = kwr_record_size(at->key.size, at->name.size, value_size);
    c.big = c.record > KWR_INLINE_MAX;
    c.bytes = c.big ? KWR_BLOB_REF : c.record;
    kwr_path path;
    kwr_status status;
    kwr_blob *unused = NULL;
    do {
        status = try_change(e, &c, keep, &path, out, old_size);
    } while (status == KWR_NOT_FOUND);
    if (status != KWR_OK) unused = c.blob;
    if (unused != NULL) kwr_page_arena_free(&e->arena, &unused->block);
    if (status != KWR_OK || e->facts[at->state].collection) return status;
    if (*old_size == KWR_ABSENT && KWR_PLANTED(entries_miscounted))
        kwr_store_count(e, at->state, 1, 0, 0);
    else if (*old_size == KWR_ABSENT)
        kwr_store_count(e, at->state, 1, (int64_t)(at->key.size + at->name.size + value_size), 0);
    else if (*old_size != value_size)
        kwr_store_count(e, at->state, 0, (int64_t)value_size - (int64_t)*old_size, 0);
    return KWR_OK;
}

/* ---- removal ---- */

static bool find_in_chain(const kwr_path *path, const kwr_address *at, uint64_t hash,
                          uint32_t *index, kwr_hit *hit) {
    const kwr_node *node = kwr_path_last((kwr_path *)path)->node;
    for (uint32_t i = 0; i < node->width; i++) {
        const kwr_page *page = kwr_word_address(node->words[i]);
        if (!kwr_page_find(page, page->groups, at, hash, hit)) continue;
        *index = i;
        return true;
    }
    return false;
}

/* Gives memory back that many removals left in one page; the page stays when there is none. */
static void shrink(kwr_engine *e, kwr_path *path, kwr_page *page) {
    if (page->dead < page->used / 2 || page->used < 1024) return;
    if (kwr_page_scan(e, page) != KWR_OK) return;
    const size_t bytes = kwr_page_live_bytes(page);
    kwr_page *small =
        kwr_page_new(e, page->id, page->prefix, page->depth, page->live, bytes, bytes / 8);
    if (small == NULL) return;
    kwr_page_take(small, page, e->scan, 0, 0);
    const kwr_step *step = kwr_path_last(path);
    const unsigned depth = kwr_word_depth(step->node->words[step->index]);
    kwr_directory_set(e, step, kwr_page_word(small, depth));
    kwr_store_retire(e, &page->block);
}

static void after_removal(kwr_engine *e, kwr_path *path, kwr_page *page, bool chained) {
    if (page->live == 0) {
        kwr_store_retire(e, &page->block);
        if (chained) {
            chain_remove(e, path);
            return;
        }
        const kwr_step *step = kwr_path_last(path);
        const unsigned depth = kwr_word_depth(step->node->words[step->index]);
        kwr_directory_set(e, step, kwr_word_empty(depth));
    } else {
        shrink(e, path, page);
        if (chained || page->live % 8 != 0 || kwr_page_live_bytes(page) > KWR_MERGE_BYTES / 2)
            return;
    }
    kwr_directory_merge(e, path);
}

kwr_status kwr_store_remove(kwr_engine *e, const kwr_address *at, uint64_t hash) {
    kwr_path path;
    KWR_TRY(kwr_directory_path(e, at->state, at->key_group, hash, &path));
    const bool chained = kwr_word_kind_of(kwr_path_word(&path)) == KWR_WORD_CHAIN;
    kwr_hit hit;
    if (chained) {
        KWR_TRY(kwr_directory_enter_chain(e, &path));
        if (!find_in_chain(&path, at, hash, &kwr_path_last(&path)->index, &hit))
            return KWR_NOT_FOUND;
    }
    if (kwr_word_kind_of(kwr_path_word(&path)) != KWR_WORD_PAGE) return KWR_NOT_FOUND;
    kwr_page *page;
    KWR_TRY(kwr_page_own(e, &path, &page));
    if (!kwr_page_find(page, page->groups, at, hash, &hit)) return KWR_NOT_FOUND;
    if (!e->facts[at->state].collection)
        kwr_store_count(e, at->state, -1, -(int64_t)(at->key.size + at->name.size + hit.value_size),
                        0);
    kwr_page_drop(page, hash, &hit);
    if (hit.blob != NULL) kwr_store_retire(e, &hit.blob->block);
    after_removal(e, &path, page, chained);
    return KWR_OK;
}
