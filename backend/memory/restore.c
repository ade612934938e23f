/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking page images into an engine without entries, from several threads, in any order. Bytes are
 * copied and checked outside the lock; blocks and directory words are the lock's. What pages say
 * about blobs is resolved at the end, when all are there.
 */
#include "backend/memory/tree.h"

typedef struct restored_blob {
    uint64_t id;
    uint32_t state;
    uint32_t key_group;
    kwr_blob *blob;
    bool used;
} restored_blob;

typedef struct restored_page {
    kwr_page *page;
    uint32_t state;
    uint32_t key_group;
} restored_page;

struct kwr_restore {
    kwr_mutex lock;
    restored_blob *blobs;
    size_t blob_count, blob_capacity;
    restored_page *open; /* pages with blobs or large collections, and pages of chains */
    size_t open_count, open_capacity;
    kwr_restored_leaf *leaves;
    size_t leaf_count, leaf_capacity;
    bool supplying; /* a worker is at it */
    bool apart;     /* of one place in the directory, which gets it when it is complete */
    uint64_t past;  /* highest epoch of the images */
};

kwr_status kwr_store_restore_begin(kwr_engine *e, uint64_t seed) {
    if (e->restore != NULL || e->entries > 0) return KWR_ERR_MISUSE;
    kwr_restore *r = kwr_page_arena_host_alloc(&e->arena, sizeof *r);
    if (r == NULL) return KWR_ERR_NOMEM;
    *r = (kwr_restore){ 0 };
    kwr_mutex_init(&r->lock);
    e->seed = seed;
    e->restore = r;
    return KWR_OK;
}

static void lists_free(const kwr_env *env, kwr_restore *r) {
    kwr_free(env, r->blobs, r->blob_capacity * sizeof *r->blobs);
    kwr_free(env, r->open, r->open_capacity * sizeof *r->open);
    kwr_free(env, r->leaves, r->leaf_capacity * sizeof *r->leaves);
    kwr_mutex_done(&r->lock);
}

void kwr_store_restore_drop(kwr_engine *e) {
    kwr_restore *r = e->restore;
    if (r == NULL) return;
    lists_free(e->env, r);
    kwr_page_arena_host_free(&e->arena, r, sizeof *r);
    e->restore = NULL;
}

static kwr_image_rules rules_for(const kwr_engine *e, uint32_t state, uint32_t key_group) {
    return (kwr_image_rules){
        .seed = e->seed,
        .hash_mask = e->hash_mask,
        .max_parallelism = e->max_parallelism,
        .key_group = key_group,
        .any_key_group = e->engine_key_groups || e->facts[state].per_group,
        .collection = e->facts[state].collection,
        .key_bytes_max = e->key_bytes_max,
        .namespace_bytes_max = e->namespace_bytes_max,
        .value_bytes_max = e->value_bytes_max,
    };
}

/* ---- under the lock ---- */

kwr_status kwr_directory_narrow(kwr_engine *e, uint32_t state, uint32_t key_group, unsigned depth,
                                uint64_t prefix, kwr_path *path, kwr_error *err) {
    KWR_TRY(kwr_directory_path(e, state, key_group, prefix, path));
    while (kwr_path_depth(path) < depth &&
           kwr_word_kind_of(kwr_path_word(path)) == KWR_WORD_EMPTY) {
        KWR_TRY(kwr_directory_deepen(e, path, prefix));
        const kwr_step *step = kwr_path_last(path);
        const unsigned half = kwr_word_depth(step->node->words[step->index]) + 1;
        kwr_step buddy = *step;
        buddy.index ^= 1U << (step->bits - half);
        kwr_directory_set(e, &buddy, kwr_word_empty(half));
        kwr_directory_set(e, step, kwr_word_empty(half));
    }
    if (kwr_path_depth(path) != depth)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two pages claim the same entries");
    return KWR_OK;
}

static kwr_status place_page(kwr_engine *e, const kwr_page_image *image, kwr_page *page,
                             kwr_path *path, kwr_error *err) {
    KWR_TRY(kwr_directory_narrow(e, image->state, image->key_group, page->depth, page->prefix, path,
                                 err));
    const kwr_step *step = kwr_path_last(path);
    const kwr_word w = kwr_path_word(path);
    const unsigned depth = kwr_word_depth(w);
    const bool chained = (page->flags & KWR_PAGE_CHAINED) != 0;
    if (kwr_word_kind_of(w) == KWR_WORD_EMPTY && !chained) {
        kwr_directory_set(e, step, kwr_page_word(page, step->bits == 0 ? 0 : depth));
        return KWR_OK;
    }
    const bool more = kwr_word_kind_of(w) == KWR_WORD_CHAIN;
    if (!chained || (!more && kwr_word_kind_of(w) != KWR_WORD_EMPTY))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two pages claim the same entries");
    kwr_node *old = more ? kwr_word_address(w) : NULL;
    const uint32_t width = more ? old->width : 0;
    kwr_node *node = kwr_node_new(e, width + 1);
    if (node == NULL) return KWR_ERR_NOMEM;
    if (more) {
        memcpy(node->words, old->words, width * sizeof(kwr_word));
        kwr_store_retire(e, &old->block);
    }
    node->words[width] = kwr_page_word(page, 0);
    kwr_directory_set(e, step, kwr_word_make(KWR_WORD_CHAIN, node, depth, 0));
    return KWR_OK;
}

/* Images keep their ids, so that later ones can be told from them; new ones are above all. */
static void note_id(kwr_engine *e, uint64_t id) {
    if (e->page_ids <= id) e->page_ids = id + 1;
}

static kwr_status take_page(kwr_engine *e, const kwr_page_image *image, kwr_page *page,
                            const kwr_page_sums *sums, kwr_error *err) {
    kwr_restore *r = e->restore;
    const bool open =
        r->apart || page->blobs > 0 || sums->trees > 0 || (page->flags & KWR_PAGE_CHAINED) != 0;
    if (open && !kwr_grow_array(e->env, (void **)&r->open, &r->open_capacity, r->open_count + 1,
                                sizeof *r->open))
        return KWR_ERR_NOMEM;
    kwr_path path;
    if (!r->apart) KWR_TRY(place_page(e, image, page, &path, err));
    note_id(e, page->id);
    page->flags &= KWR_PAGE_CHAINED;
    if (!r->apart)
        kwr_store_count(e, image->state, page->live - page->blobs, (int64_t)sums->entry_bytes,
                        (int64_t)sums->elements);
    if (open) r->open[r->open_count++] = (restored_page){ page, image->state, image->key_group };
    return KWR_OK;
}

static kwr_status take_blob(kwr_engine *e, const kwr_page_image *image, kwr_blob *blob) {
    kwr_restore *r = e->restore;
    if (!kwr_grow_array(e->env, (void **)&r->blobs, &r->blob_capacity, r->blob_count + 1,
                        sizeof *r->blobs))
        return KWR_ERR_NOMEM;
    blob->id = image->page_id;
    note_id(e, blob->id);
    r->blobs[r->blob_count++] = (restored_blob){
        .id = image->page_id,
        .state = image->state,
        .key_group = image->key_group,
        .blob = blob,
    };
    return KWR_OK;
}

/* ---- one image, any thread ---- */

/* The first write to fresh memory waits for the system to clear it. One worker does that for
 * all, before it is needed and while the others go on. */
static void supply(kwr_engine *e) {
    kwr_restore *r = e->restore;
    void *memory = kwr_page_arena_fetch(e->arena.resources);
    kwr_mutex_lock(&r->lock);
    kwr_page_arena_supply(&e->arena, memory);
    r->supplying = false;
    kwr_mutex_unlock(&r->lock);
}

static kwr_block *locked_alloc(kwr_engine *e, size_t size, unsigned kind) {
    kwr_restore *r = e->restore;
    kwr_mutex_lock(&r->lock);
    kwr_block *block = kwr_store_alloc(e, size, kind);
    const bool supplies = !r->supplying && !r->apart && kwr_page_arena_runs_short(&e->arena);
    if (supplies) r->supplying = true;
    kwr_mutex_unlock(&r->lock);
    if (supplies) supply(e);
    return block;
}

/* Of an image that is refused. Blocks of a place that is built apart go together. */
static void drop_block(kwr_engine *e, kwr_block *block) {
    if (!e->restore->apart) kwr_page_arena_free(&e->arena, block);
}

static kwr_status check_page(const kwr_engine *e, const kwr_page_image *image, kwr_page *page,
                             kwr_page_sums *sums, kwr_error *err) {
    kwr_image_rules rules = rules_for(e, image->state, image->key_group);
    rules.marked = image->marked;
    KWR_TRY(kwr_page_check(page, image->size, &rules, sums, err));
    if (page->id != image->page_id || page->prefix != image->prefix ||
        page->depth != image->depth || (uint32_t)page->live - page->blobs != image->entries ||
        sums->entry_bytes - sums->tree_bytes != image->entry_bytes ||
        sums->elements - sums->tree_elements != image->elements)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its header and its index entry differ");
    return KWR_OK;
}

static kwr_status install_page(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    if (image->size < sizeof(kwr_page) || image->size > KWR_PAGE_BYTES_MAX)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no page has this length");
    kwr_block *block = locked_alloc(e, image->size, KWR_BLOCK_PAGE);
    if (block == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the page");
    const kwr_block head = *block;
    kwr_page *page = (kwr_page *)block;
    memcpy(page, image->bytes, image->size);
    kwr_page_sums sums;
    kwr_status status = check_page(e, image, page, &sums, err);
    *block = head;
    if (image->epoch != 0) block->birth = image->epoch;
    kwr_mutex_lock(&e->restore->lock);
    if (status == KWR_OK) status = take_page(e, image, page, &sums, err);
    if (status != KWR_OK) drop_block(e, block);
    if (!e->restore->apart) kwr_store_settle(e);
    kwr_mutex_unlock(&e->restore->lock);
    return status;
}

/* A record too large for its page, alone in `bytes`. */
static kwr_status check_blob(const kwr_page_image *image, const uint8_t *bytes, size_t size,
                             const kwr_image_rules *rules, kwr_error *err) {
    if (size <= KWR_INLINE_MAX || image->entries != 1 || image->depth != KWR_PAGE_OWNED)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "this cannot be a blob");
    kwr_record r;
    KWR_TRY(kwr_record_check(bytes, size, rules, &r, err));
    if (r.value + r.value_size != bytes + size)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the record of a blob");
    const uint64_t hash =
        kwr_entry_hash(kwr_key_hash((kwr_slice){ r.key, r.key_size }, rules->seed),
                       kwr_namespace_hash((kwr_slice){ r.name, r.name_size }));
    kwr_collection_sum sum = { .bytes = r.value_size };
    if (rules->collection) KWR_TRY(kwr_collection_check(r.value, r.value_size, rules, &sum, err));
    if (rules->collection && kwr_collection_is_tree(r.value)) sum = (kwr_collection_sum){ 0 };
    if (image->prefix != (hash & rules->hash_mask) || image->elements != sum.count ||
        image->entry_bytes != (uint64_t)r.key_size + r.name_size + sum.bytes)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its record and its index entry differ");
    return KWR_OK;
}

static kwr_status install_blob(kwr_engine *e, const kwr_page_image *image, const uint8_t *bytes,
                               size_t size, kwr_error *err) {
    const kwr_image_rules rules = rules_for(e, image->state, image->key_group);
    KWR_TRY(check_blob(image, bytes, size, &rules, err));
    kwr_blob *blob = (kwr_blob *)locked_alloc(e, sizeof(kwr_blob) + size, KWR_BLOCK_BLOB);
    if (blob == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the blob");
    memset((uint8_t *)blob + sizeof(kwr_block), 0, sizeof *blob - sizeof(kwr_block));
    blob->size = size;
    memcpy(blob->record, bytes, size);
    kwr_mutex_lock(&e->restore->lock);
    const kwr_status status = take_blob(e, image, blob);
    if (status != KWR_OK) drop_block(e, &blob->block);
    kwr_mutex_unlock(&e->restore->lock);
    return status;
}

static kwr_status take_leaf(kwr_engine *e, const kwr_restored_leaf *leaf) {
    kwr_restore *r = e->restore;
    if (!kwr_grow_array(e->env, (void **)&r->leaves, &r->leaf_capacity, r->leaf_count + 1,
                        sizeof *r->leaves))
        return KWR_ERR_NOMEM;
    note_id(e, leaf->page->id);
    r->leaves[r->leaf_count++] = *leaf;
    return KWR_OK;
}

static kwr_status install_leaf(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    const kwr_image_rules rules = rules_for(e, image->state, image->key_group);
    kwr_leaf_image checked;
    kwr_restored_leaf leaf = { .state = image->state, .key_group = image->key_group };
    KWR_TRY(kwr_leaf_image_check(image->bytes, image->size, &rules, &checked, err));
    KWR_TRY(kwr_leaf_owner_check(&checked, &rules, &leaf.hash, err));
    if (checked.id != image->page_id || image->entries != 0 || image->depth != KWR_PAGE_OWNED ||
        image->prefix != (leaf.hash & rules.hash_mask) || image->elements != checked.count ||
        image->entry_bytes != checked.entry_bytes)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its header and its index entry differ");
    const uint64_t size = sizeof(kwr_tree_page) + (uint64_t)checked.count * KWR_TREE_SLOT +
                          checked.element_bytes + checked.key.size + checked.name.size;
    if (size > UINT32_MAX) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no leaf is as large");
    kwr_block *block = locked_alloc(e, (size_t)size, KWR_BLOCK_TREE);
    if (block == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the leaf");
    kwr_leaf_fill((kwr_tree_page *)block, &checked, &leaf);
    leaf.page->id = checked.id;
    leaf.entry_bytes = checked.entry_bytes;
    kwr_mutex_lock(&e->restore->lock);
    const kwr_status status = take_leaf(e, &leaf);
    if (status != KWR_OK) drop_block(e, block);
    kwr_mutex_unlock(&e->restore->lock);
    return status;
}

static kwr_status install_tree(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    if (!e->facts[image->state].collection)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its state has no collections");
    kwr_tree_image header;
    KWR_TRY(kwr_tree_image_check(image->bytes, image->size, &header, err));
    if (header.form == KWR_TREE_IMAGE_LEAF) return install_leaf(e, image, err);
    if (header.id != image->page_id)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its header and its index entry differ");
    return install_blob(e, image, (const uint8_t *)image->bytes + sizeof header,
                        image->size - sizeof header, err);
}

static void note_past(kwr_restore *r, const kwr_page_image *image) {
    const uint64_t past = image->past > image->epoch ? image->past : image->epoch;
    if (past == 0) return;
    kwr_mutex_lock(&r->lock);
    if (r->past < past) r->past = past;
    kwr_mutex_unlock(&r->lock);
}

kwr_status kwr_store_install(kwr_engine *e, const kwr_page_image *image, kwr_error *err) {
    if (e->restore == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "page store: install outside a restore");
    kwr_status status;
    note_past(e->restore, image);
    if (image->state >= e->state_count)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "there is no such state");
    else if (image->key_group - e->group_first >= e->group_count)
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its key group is not owned here");
    else if (!kwr_page_id_ok(image->page_id))
        status = KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no page has such an id");
    else if (image->kind == KWR_PAGE_HASH)
        status = install_page(e, image, err);
    else if (image->kind == KWR_PAGE_TREE)
        status = install_tree(e, image, err);
    else if (image->kind == KWR_PAGE_BLOB)
        status = e->facts[image->state].collection
                     ? KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its state has no plain blobs")
                     : install_blob(e, image, image->bytes, image->size, err);
    else
        status = KWR_FAIL(err, KWR_ERR_FORMAT, 0, "this version cannot read its kind (%u)",
                          (unsigned)image->kind);
    if (status == KWR_ERR_NOMEM)
        kwr_error_set(err, status, 0, "the allocator or the memory cap refused");
    if (status < KWR_OK)
        kwr_error_prefix(err, "page %llu of state %u, key group %u",
                         (unsigned long long)image->page_id, image->state, image->key_group);
    return status;
}

/* ---- the end ---- */

typedef struct blob_table {
    uint32_t *places; /* index + 1 */
    size_t mask;
} blob_table;

static size_t blob_hash(uint64_t id, uint32_t state, uint32_t key_group) {
    return (size_t)kwr_entry_hash(id, ((uint64_t)state << 32 | key_group) * 0x9e3779b97f4a7c15ULL);
}

static uint32_t *blob_place(const kwr_restore *r, const blob_table *table, uint64_t id,
                            uint32_t state, uint32_t key_group) {
    size_t at = blob_hash(id, state, key_group) & table->mask;
    for (; table->places[at] != 0; at = (at + 1) & table->mask) {
        const restored_blob *b = &r->blobs[table->places[at] - 1];
        if (b->id == id && b->state == state && b->key_group == key_group) break;
    }
    return &table->places[at];
}

/* References become pointers; then the page is like any other. */
static kwr_status resolve(kwr_engine *e, const blob_table *table, const restored_page *p,
                          kwr_error *err) {
    kwr_restore *r = e->restore;
    const kwr_slots *lines = kwr_page_slots(p->page);
    uint64_t bytes = 0, elements = 0;
    for (uint32_t group = 0; group < p->page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if ((offset & KWR_SLOT_BLOB) == 0) continue;
            uint8_t *ref = (uint8_t *)p->page + (offset & KWR_SLOT_OFFSET);
            const uint64_t id = kwr_get_le64(ref);
            const uint32_t place = *blob_place(r, table, id, p->state, p->key_group);
            if (place == 0 || r->blobs[place - 1].used)
                return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "blob %llu is missing or used twice",
                                (unsigned long long)id);
            restored_blob *b = &r->blobs[place - 1];
            b->used = true;
            kwr_put_le64(ref, (uint64_t)(uintptr_t)b->blob);
            const kwr_record record = kwr_record_at(b->blob->record);
            kwr_collection_sum sum = { .bytes = record.value_size };
            if (e->facts[p->state].collection) sum = kwr_collection_sum_of(record.value);
            bytes += (uint64_t)record.key_size + record.name_size + sum.bytes;
            elements += sum.count;
        }
    }
    const kwr_image_rules rules = rules_for(e, p->state, p->key_group);
    KWR_TRY(kwr_page_check_entries(p->page, &rules, err));
    if (!r->apart) kwr_store_count(e, p->state, p->page->blobs, (int64_t)bytes, (int64_t)elements);
    return KWR_OK;
}

static kwr_status resolve_all(kwr_engine *e, const blob_table *table, kwr_error *err) {
    kwr_restore *r = e->restore;
    for (size_t i = 0; i < r->blob_count; i++) {
        const restored_blob *b = &r->blobs[i];
        uint32_t *place = blob_place(r, table, b->id, b->state, b->key_group);
        if (*place != 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "blob %llu of state %u is there twice",
                            (unsigned long long)b->id, b->state);
        *place = (uint32_t)(i + 1);
    }
    for (size_t i = 0; i < r->open_count; i++) {
        if (r->open[i].page->blobs == 0) continue;
        const kwr_status status = resolve(e, table, &r->open[i], err);
        if (status == KWR_OK) continue;
        kwr_error_prefix(err, "a page of state %u, key group %u", r->open[i].state,
                         r->open[i].key_group);
        return status;
    }
    for (size_t i = 0; i < r->blob_count; i++)
        if (!r->blobs[i].used)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no page refers to blob %llu of state %u",
                            (unsigned long long)r->blobs[i].id, r->blobs[i].state);
    return KWR_OK;
}

/* No entry of a chain is on two of its pages. */
static kwr_status check_chained(kwr_engine *e, const restored_page *p, const kwr_node *chain,
                                kwr_error *err) {
    const kwr_slots *lines = kwr_page_slots(p->page);
    for (uint32_t i = 0; i < (uint32_t)p->page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0) continue;
        const kwr_record r = kwr_record_at(kwr_page_record(p->page, offset));
        const kwr_address at = { .key = { r.key, r.key_size }, .name = { r.name, r.name_size } };
        const uint64_t hash = kwr_store_hash(e, at.key, at.name);
        for (uint32_t k = 0; k < chain->width; k++) {
            const kwr_page *other = kwr_word_address(chain->words[k]);
            kwr_hit hit;
            if (other != p->page && kwr_page_find(other, other->groups, &at, hash, &hit))
                return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                                "state %u, key group %u: a key is on two pages of a chain",
                                p->state, p->key_group);
        }
    }
    p->page->flags = 0;
    p->page->ordinal = 0;
    return KWR_OK;
}

/* Every large collection has got its leaves. */
static kwr_status check_trees(const kwr_engine *e, const restored_page *p, kwr_error *err) {
    if (!e->facts[p->state].collection) return KWR_OK;
    const kwr_slots *lines = kwr_page_slots(p->page);
    for (uint32_t i = 0; i < (uint32_t)p->page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0) continue;
        const kwr_record r = kwr_record_at(kwr_page_record(p->page, offset));
        if (kwr_collection_is_tree(r.value) && kwr_tree_head_at(r.value).root == 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                            "state %u, key group %u: the leaves of a collection are missing",
                            p->state, p->key_group);
    }
    return KWR_OK;
}

/* What pages say about blobs, leaves and each other. `word`: of a place built apart, else 0. */
static kwr_status connect(kwr_engine *e, kwr_word word, kwr_error *err) {
    kwr_restore *r = e->restore;
    size_t size = 16;
    while (size < 2 * r->blob_count)
        size *= 2;
    blob_table table = { .places = kwr_calloc(e->env, size * sizeof(uint32_t)), .mask = size - 1 };
    if (table.places == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to end a restore");
    kwr_status status = resolve_all(e, &table, err);
    kwr_free(e->env, table.places, size * sizeof(uint32_t));
    if (status == KWR_OK) status = kwr_leaves_link(e, word, r->leaves, r->leaf_count, err);
    for (size_t i = 0; i < r->open_count && status == KWR_OK; i++)
        status = check_trees(e, &r->open[i], err);
    for (size_t i = 0; i < r->open_count && status == KWR_OK; i++) {
        const restored_page *p = &r->open[i];
        if (p->page->flags == 0) continue;
        kwr_path path;
        kwr_word w = word;
        if (w == 0) status = kwr_directory_path(e, p->state, p->key_group, p->page->prefix, &path);
        if (w == 0 && status == KWR_OK) w = kwr_path_word(&path);
        if (status == KWR_OK) status = check_chained(e, p, kwr_word_address(w), err);
    }
    return status;
}

kwr_status kwr_store_restore_end(kwr_engine *e, kwr_error *err) {
    if (e->restore == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "page store: no restore has begun");
    KWR_TRY(connect(e, 0, err));
    const uint64_t past = e->restore->past > e->epoch ? e->restore->past : e->epoch;
    kwr_store_restore_drop(e);
    /* What changes from now on has changed since the restore. */
    kwr_store_begin_epoch(e, past + 1);
    e->stamp++;
    return KWR_OK;
}

/* ---- one place of the directory, apart from it ---- */

/* The word over the pages that were taken: of one page, or of a chain. */
static kwr_status word_of_pages(kwr_engine *e, kwr_word *out, kwr_error *err) {
    const kwr_restore *r = e->restore;
    const kwr_page *first = r->open_count == 0 ? NULL : r->open[0].page;
    if (first == NULL || (r->open_count > 1 && (first->flags & KWR_PAGE_CHAINED) == 0))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two pages claim the same entries");
    if ((first->flags & KWR_PAGE_CHAINED) == 0) {
        *out = kwr_page_word(first, 0) & ~KWR_WORD_CURRENT;
        return KWR_OK;
    }
    kwr_node *node = kwr_node_new(e, (uint32_t)r->open_count);
    if (node == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a chain");
    for (uint32_t i = 0; i < node->width; i++) {
        if ((r->open[i].page->flags & KWR_PAGE_CHAINED) == 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two pages claim the same entries");
        node->words[i] = kwr_page_word(r->open[i].page, 0) & ~KWR_WORD_CURRENT;
    }
    *out = kwr_word_make(KWR_WORD_CHAIN, node, 0, 0);
    return KWR_OK;
}

/* What came from images is as it was at the restore, pages in the epochs they say; what was made
 * above it is of the present. */
static bool is_restored(const kwr_block *block) {
    if (block->kind == KWR_BLOCK_NODE || block->kind == KWR_BLOCK_PAGE) return false;
    return block->kind != KWR_BLOCK_TREE || ((const kwr_tree_page *)block)->level == 0;
}

kwr_status kwr_store_build_apart(kwr_engine *e, const kwr_page_image *images, size_t count,
                                 kwr_word *out, kwr_error *err) {
    kwr_restore r = { .apart = true };
    KWR_INVARIANT(13, e->restore == NULL && e->made == NULL);
    kwr_mutex_init(&r.lock);
    e->restore = &r;
    e->keep_made = true;
    kwr_status status = KWR_OK;
    kwr_word word = 0;
    for (size_t i = 0; i < count && status == KWR_OK; i++)
        status = kwr_store_install(e, &images[i], err);
    if (status == KWR_OK) status = word_of_pages(e, &word, err);
    if (status == KWR_OK) status = connect(e, word, err);
    e->keep_made = false;
    for (kwr_block *block = e->made, *next; block != NULL; block = next) {
        next = block->next;
        block->next = NULL;
        if (status != KWR_OK)
            kwr_page_arena_free(&e->arena, block);
        else if (is_restored(block))
            block->birth = KWR_EPOCH_RESTORED;
    }
    e->made = NULL;
    e->restore = NULL;
    lists_free(e->env, &r);
    if (status == KWR_OK) *out = word;
    return status;
}
