/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a frozen view, on any thread: entries, counts, page images. Everything reached from a
 * view's root is immutable, but for the block headers' next, which is never read here.
 */
#include "backend/memory/lazy.h"
#include "backend/memory/page_changes.h"
#include "backend/memory/tree.h"

static const kwr_node *state_top(const kwr_engine_view *view, uint32_t state) {
    if (state >= view->state_count) return NULL;
    return kwr_word_address(kwr_array_word(view->root, view->state_levels, state));
}

static kwr_word group_word(const kwr_engine_view *view, uint32_t state, uint32_t key_group) {
    const kwr_engine *e = view->engine;
    const kwr_node *top = state_top(view, state);
    const uint32_t index = key_group - e->group_first;
    if (top == NULL || index >= e->group_count) return 0;
    return kwr_array_word((kwr_word)(uintptr_t)top | KWR_WORD_ARRAY, e->two_level ? 2 : 1, index);
}

kwr_status kwr_store_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out) {
    const kwr_node *top = state_top(view, state);
    *out = (kwr_state_count){ 0 };
    if (top == NULL) return KWR_OK;
    out->entries = top->entries;
    out->entry_bytes = top->entry_bytes;
    out->elements = top->elements;
    out->estimated = view->estimated;
    return KWR_OK;
}

/* ---- entries ---- */

static bool holds_collections(const kwr_engine_view *view, uint32_t state) {
    const kwr_node *top = state_top(view, state);
    return top != NULL && kwr_state_is_collection((kwr_state_kind)top->kind);
}

typedef struct walk {
    const kwr_engine *engine;
    kwr_entry entry;
    bool collection;
    kwr_entry_fn fn;
    void *fn_ctx;
} walk;

static kwr_status walk_page(void *ctx, const kwr_page *page, bool chained, uint32_t ordinal) {
    (void)chained, (void)ordinal;
    walk *w = ctx;
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if (offset == 0) continue;
            const kwr_record r = kwr_record_at(kwr_page_record(page, offset));
            w->entry.key = (kwr_slice){ r.key, r.key_size };
            w->entry.name = (kwr_slice){ r.name, r.name_size };
            w->entry.value = (kwr_slice){ r.value, r.value_size };
            const kwr_status status =
                w->collection ? kwr_collection_walk(r.value, &w->entry, w->fn, w->fn_ctx)
                              : w->fn(w->fn_ctx, &w->entry);
            if (status != KWR_OK) return status;
        }
    }
    return KWR_OK;
}

static kwr_status walk_stub(void *ctx, kwr_word stub) {
    const walk *w = ctx;
    return kwr_lazy_walk(w->engine->lazy, stub, w->fn, w->fn_ctx);
}

kwr_status kwr_store_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                               kwr_entry_fn fn, void *fn_ctx) {
    walk w = {
        .engine = view->engine,
        .entry = { .state = state, .key_group = key_group },
        .collection = holds_collections(view, state),
        .fn = fn,
        .fn_ctx = fn_ctx,
    };
    return kwr_directory_pages(group_word(view, state, key_group), walk_page, walk_stub, &w);
}

uint64_t kwr_store_view_epoch(const kwr_engine_view *view) { return view->epoch; }

/* ---- images ---- */

typedef struct writing {
    const kwr_engine *engine;
    kwr_page_image image;
    kwr_page_sink *sink;
    kwr_page *copy;  /* KWR_PAGE_BYTES_MAX */
    kwr_buffer room; /* for images of leaves, and deltas */
    kwr_buffer body;
    uint64_t epoch; /* of the view */
    bool collection;
} writing;

/* The root of a tree is this process's own. */
static void forget_root(uint8_t *value) {
    kwr_tree_head head = kwr_tree_head_at(value);
    if (head.form != KWR_COLLECTION_TREE) return;
    head.height = 0;
    head.root = 0;
    memcpy(value, &head, sizeof head);
}

static void forget_roots(kwr_page *copy) {
    const kwr_slots *lines = kwr_page_slots(copy);
    for (uint32_t i = 0; i < (uint32_t)copy->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0 || (offset & KWR_SLOT_BLOB) != 0) continue;
        const kwr_record r = kwr_record_at((const uint8_t *)copy + offset);
        if (kwr_collection_is_tree(r.value)) forget_root(r.value);
    }
}

/* Pointers to blobs become their ids. */
static void name_blobs(kwr_page *copy, const kwr_page *page) {
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if ((offset & KWR_SLOT_BLOB) == 0) continue;
            kwr_put_le64((uint8_t *)copy + (offset & KWR_SLOT_OFFSET),
                         kwr_page_blob(page, offset)->id);
        }
    }
}

/* Adds what a record counts without images of its own. */
static void add_record(const kwr_record *r, bool collection, kwr_page_image *image) {
    image->entry_bytes += r->key_size + r->name_size;
    if (!collection) {
        image->entry_bytes += r->value_size;
    } else if (!kwr_collection_is_tree(r->value)) {
        const kwr_collection_sum sum = kwr_collection_sum_of(r->value);
        image->entry_bytes += (uint32_t)sum.bytes;
        image->elements += (uint32_t)sum.count;
    }
}

static void add_records(const kwr_page *page, bool collection, kwr_page_image *image) {
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0 || (offset & KWR_SLOT_BLOB) != 0) continue;
        const kwr_record r = kwr_record_at((const uint8_t *)page + offset);
        add_record(&r, collection, image);
    }
}

static uint64_t hash_of(const writing *w, const kwr_record *r) {
    return kwr_store_hash(w->engine, (kwr_slice){ r->key, r->key_size },
                          (kwr_slice){ r->name, r->name_size });
}

/* The record of a collection that is too large for its page. */
static kwr_status write_large_record(writing *w, const kwr_blob *blob, const kwr_page_image *like) {
    const size_t size = sizeof(kwr_tree_image) + (size_t)blob->size;
    w->room.size = 0;
    uint8_t *bytes = size > UINT32_MAX ? NULL : kwr_buffer_extend(&w->room, size);
    if (bytes == NULL) return KWR_ERR_NOMEM;
    const kwr_tree_image header = {
        .kind = KWR_PAGE_TREE,
        .id = blob->id,
        .size = (uint32_t)size,
        .form = KWR_TREE_IMAGE_RECORD,
    };
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, blob->record, blob->size);
    const kwr_record r = kwr_record_at(bytes + sizeof header);
    if (kwr_collection_is_tree(r.value)) forget_root(r.value);
    kwr_page_image image = *like;
    image.bytes = bytes;
    image.size = size;
    return w->sink->image(w->sink->ctx, &image);
}

static kwr_status write_trees(writing *w, const kwr_page *page) {
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0) continue;
        const kwr_record r = kwr_record_at(kwr_page_record(page, offset));
        if (!kwr_collection_is_tree(r.value)) continue;
        w->image.prefix = hash_of(w, &r);
        const kwr_status status = kwr_tree_images(&r, &w->image, &w->room, w->sink);
        w->image.prefix = 0;
        if (status != KWR_OK) return status;
    }
    return KWR_OK;
}

static kwr_status write_blobs(writing *w, const kwr_page *page) {
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t group = 0; group < page->groups; group++) {
        for (uint32_t slot = 0; slot < KWR_SLOTS; slot++) {
            const uint16_t offset = lines[group].offsets[slot];
            if ((offset & KWR_SLOT_BLOB) == 0) continue;
            const kwr_blob *blob = kwr_page_blob(page, offset);
            kwr_page_image image = w->image;
            image.kind = w->collection ? KWR_PAGE_TREE : KWR_PAGE_BLOB;
            image.page_id = blob->id;
            image.entries = 1;
            image.epoch = blob->block.birth;
            bool wanted;
            KWR_TRY(kwr_page_sink_ask(w->sink, &image, &wanted));
            if (!wanted) continue;
            const kwr_record r = kwr_record_at(blob->record);
            image.prefix = hash_of(w, &r);
            image.depth = KWR_PAGE_OWNED;
            add_record(&r, w->collection, &image);
            image.bytes = blob->record;
            image.size = blob->size;
            KWR_TRY(w->collection ? write_large_record(w, blob, &image)
                                  : w->sink->image(w->sink->ctx, &image));
        }
    }
    return KWR_OK;
}

/* The page as images have it, in w->copy. */
static void copy_page(writing *w, const kwr_page *page, bool chained, uint32_t ordinal) {
    /* Field by field: the owner may be writing the block header's links. */
    *w->copy = (kwr_page){
        .block = { .kind = KWR_BLOCK_PAGE },
        .id = page->id,
        .prefix = page->prefix,
        .used = page->used,
        .dead = page->dead,
        .live = page->live,
        .blobs = page->blobs,
        .groups = page->groups,
        .depth = page->depth,
        .flags = (uint8_t)((chained ? KWR_PAGE_CHAINED : 0) |
                           (w->collection ? KWR_PAGE_COLLECTIONS : 0)),
        .ordinal = ordinal,
    };
    memcpy((uint8_t *)w->copy + KWR_PAGE_HEADER, (const uint8_t *)page + KWR_PAGE_HEADER,
           page->used - (size_t)KWR_PAGE_HEADER);
    if (page->blobs > 0) name_blobs(w->copy, page);
    if (w->collection) forget_roots(w->copy);
    kwr_slots *lines = kwr_page_slots(w->copy);
    for (uint32_t group = 0; group < page->groups; group++)
        memset(lines[group].ages, 0, sizeof lines[group].ages);
}

/* The page itself, without what it refers to. */
static kwr_status write_slots(writing *w, const kwr_page *page, bool chained, uint32_t ordinal) {
    copy_page(w, page, chained, ordinal);
    kwr_page_image image = w->image;
    add_records(page, w->collection, &image);
    image.bytes = w->copy;
    image.size = page->used;
    return w->sink->image(w->sink->ctx, &image);
}

/* Only what changed on the page, when that is known and little; *done false: all of it, please. */
static kwr_status write_changes(writing *w, const kwr_page *page, bool chained, bool *done) {
    kwr_page_since since = { 0 };
    *done = false;
    if (w->sink->changed == NULL || chained) return KWR_OK;
    KWR_TRY(w->sink->changed(w->sink->ctx, &w->image, &since));
    if (since.since == 0 || page->formed > since.whole) return KWR_OK;
    const kwr_page_changes changes = kwr_page_changes_of(page, &since, w->epoch);
    if (changes.whole_bytes > page->used / 2) return KWR_OK;
    const kwr_page *like = page;
    if (page->blobs > 0 || w->collection) {
        copy_page(w, page, false, 0);
        like = w->copy;
    }
    w->room.size = 0;
    if (!kwr_delta_encode(&w->room, &w->body, like, page, &changes, since.since, w->epoch))
        return KWR_ERR_NOMEM;
    kwr_page_image image = w->image;
    image.kind = KWR_PAGE_DELTA;
    image.entries = 0;
    image.bytes = w->room.data;
    image.size = w->room.size;
    *done = true;
    return w->sink->image(w->sink->ctx, &image);
}

static kwr_status write_page(void *ctx, const kwr_page *page, bool chained, uint32_t ordinal) {
    writing *w = ctx;
    w->image.kind = KWR_PAGE_HASH;
    w->image.page_id = page->id;
    w->image.prefix = page->prefix;
    w->image.depth = page->depth;
    w->image.entries = (uint32_t)page->live - page->blobs;
    /* Whether it is in a chain, and where, is not the page's own. */
    w->image.epoch = chained ? w->epoch : page->block.birth;
    bool wanted;
    KWR_TRY(kwr_page_sink_ask(w->sink, &w->image, &wanted));
    bool done = !wanted;
    if (wanted) KWR_TRY(write_changes(w, page, chained, &done));
    if (!done) KWR_TRY(write_slots(w, page, chained, ordinal));
    w->image.prefix = 0;
    w->image.depth = 0;
    if (page->blobs > 0) KWR_TRY(write_blobs(w, page));
    return w->collection ? write_trees(w, page) : KWR_OK;
}

static kwr_status write_stub(void *ctx, kwr_word stub) {
    const writing *w = ctx;
    return kwr_lazy_images(w->engine->lazy, stub, w->sink);
}

kwr_status kwr_store_view_images(kwr_engine_view *view, uint32_t key_group, kwr_page_sink *sink) {
    const kwr_env *env = view->engine->env;
    writing w = { .engine = view->engine,
                  .sink = sink,
                  .epoch = view->epoch,
                  .copy = kwr_alloc_aligned(env, KWR_PAGE_BYTES_MAX, 64),
                  .room = { .env = env },
                  .body = { .env = env } };
    if (w.copy == NULL) return KWR_ERR_NOMEM;
    kwr_status status = KWR_OK;
    for (uint32_t state = 0; state < view->state_count && status == KWR_OK; state++) {
        w.image.state = state;
        w.image.key_group = key_group;
        w.collection = holds_collections(view, state);
        status =
            kwr_directory_pages(group_word(view, state, key_group), write_page, write_stub, &w);
    }
    kwr_buffer_free(&w.room);
    kwr_buffer_free(&w.body);
    kwr_free(env, w.copy, KWR_PAGE_BYTES_MAX);
    return status;
}
