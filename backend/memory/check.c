/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of docs/page-store.md that need a walk over everything, for tests. */
#include "backend/memory/lazy.h"
#include "backend/memory/tree.h"

typedef struct audit {
    kwr_engine *e;
    kwr_error *err;
    uint64_t bytes, blocks;
    uint64_t entries, entry_bytes, elements;
    uint32_t state, key_group;
} audit;

#define BROKEN(a, number, what)                                                                \
    KWR_FAIL((a)->err, KWR_ERR_CORRUPT, 0, "invariant %d, state %u, key group %u: %s", number, \
             (a)->state, (a)->key_group, what)

static void add_block(audit *a, const kwr_block *block) {
    a->bytes += kwr_block_bytes(block);
    a->blocks++;
}

/* A block that is dead, with what waits below it. */
static void add_dead(audit *a, const kwr_block *block) {
    add_block(a, block);
    if (!block->whole) return;
    kwr_tree_sums sums = { 0 };
    kwr_tree_add_below((const kwr_tree_page *)block, &sums);
    a->bytes += sums.bytes;
    a->blocks += sums.blocks;
}

static kwr_status check_collection(audit *a, const kwr_record *r) {
    const kwr_collection_sum sum = kwr_collection_sum_of(r->value);
    a->entry_bytes += sum.bytes;
    a->elements += sum.count;
    if (!kwr_collection_is_tree(r->value)) {
        kwr_collection_sum again;
        return kwr_collection_check(r->value, r->value_size, NULL, &again, a->err);
    }
    const kwr_tree_head head = kwr_tree_head_at(r->value);
    kwr_tree_sums sums = { 0 };
    KWR_TRY(kwr_tree_check(a->e, &head, &sums, a->err));
    a->bytes += sums.bytes;
    a->blocks += sums.blocks;
    return KWR_OK;
}

static kwr_status check_page(audit *a, kwr_word w, bool node_current, unsigned depth,
                             uint64_t prefix) {
    const kwr_page *page = kwr_word_address(w);
    add_block(a, &page->block);
    if (kwr_word_span(w) != page->groups) return BROKEN(a, 3, "word and page differ in groups");
    if (page->depth != depth || page->prefix != prefix)
        return BROKEN(a, 3, "the page is not where its prefix belongs");
    if (page->live == 0) return BROKEN(a, 4, "an empty page is in the directory");
    if (page->block.kind != KWR_BLOCK_PAGE || page->flags != 0)
        return BROKEN(a, 4, "the page's header is damaged");
    if (node_current && (w & KWR_WORD_CURRENT) != 0 && page->block.birth != a->e->epoch)
        return BROKEN(a, 2, "a page of the past is marked current");
    if (page->formed > page->block.birth)
        return BROKEN(a, 14, "its slots were numbered after it was last changed");
    if (page->id >= a->e->page_ids) return BROKEN(a, 12, "a page has an id still to be given");
    const kwr_slots *lines = kwr_page_slots(page);
    uint32_t live = 0, blobs = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0) continue;
        const kwr_record r = kwr_record_at(kwr_page_record(page, offset));
        live++;
        bytes += kwr_page_record_bytes(page, offset);
        a->entry_bytes += (uint64_t)r.key_size + r.name_size;
        if (!a->e->facts[a->state].collection)
            a->entry_bytes += r.value_size;
        else
            KWR_TRY(check_collection(a, &r));
        if ((offset & KWR_SLOT_BLOB) == 0) continue;
        blobs++;
        add_block(a, &kwr_page_blob(page, offset)->block);
        if (kwr_page_blob(page, offset)->block.kind != KWR_BLOCK_BLOB)
            return BROKEN(a, 4, "a blob's header is damaged");
    }
    a->entries += live;
    if (live != page->live || blobs != page->blobs || bytes != kwr_page_live_bytes(page) ||
        page->used > kwr_page_capacity(page))
        return BROKEN(a, 4, "the page's counts are wrong");
    const kwr_image_rules rules = {
        .seed = a->e->seed,
        .hash_mask = a->e->hash_mask,
        .max_parallelism = a->e->max_parallelism,
        .key_group = a->key_group,
        .any_key_group = a->e->engine_key_groups || a->e->facts[a->state].per_group,
    };
    return kwr_page_check_entries(page, &rules, a->err);
}

static kwr_status check_chain(audit *a, kwr_word w, bool node_current, unsigned depth,
                              uint64_t prefix) {
    const kwr_node *chain = kwr_word_address(w);
    add_block(a, &chain->block);
    const bool current = node_current && chain->block.birth == a->e->epoch;
    if (depth != KWR_DEPTH_MAX) return BROKEN(a, 6, "a chain above the greatest depth");
    for (uint32_t i = 0; i < chain->width; i++)
        KWR_TRY(check_page(a, chain->words[i], current, depth, prefix));
    return KWR_OK;
}

static kwr_status check_stub(audit *a, kwr_word w, unsigned depth, uint64_t prefix) {
    const kwr_lazy *lazy = a->e->lazy;
    const uint32_t unit = kwr_stub_unit(w);
    kwr_page_stub s;
    if (lazy == NULL || unit >= lazy->unit_count ||
        (atomic_load_explicit(&lazy->states[unit], memory_order_relaxed) & KWR_UNIT_RESIDENT) != 0)
        return BROKEN(a, 13, "a stub of what is resident");
    lazy->source.stub(lazy->source.ctx, lazy->firsts[unit], &s);
    if (s.depth != depth || s.prefix != prefix || s.state != a->state ||
        s.key_group != a->key_group)
        return BROKEN(a, 13, "a stub is not where its prefix belongs");
    for (uint32_t i = lazy->firsts[unit]; i < lazy->firsts[unit + 1]; i++) {
        lazy->source.stub(lazy->source.ctx, i, &s);
        a->entries += s.entries;
        a->entry_bytes += s.entry_bytes;
        a->elements += s.elements;
    }
    return KWR_OK;
}

static kwr_status check_hash(audit *a, kwr_word word, bool current) {
    struct {
        const kwr_node *node;
        uint32_t at, deep;
        unsigned bits, base;
        uint64_t prefix;
        bool current;
    } stack[KWR_LEVELS_MAX], *f;
    unsigned height = 0;
    unsigned depth = 0;
    uint64_t prefix = 0;
    for (;;) {
        switch (kwr_word_kind_of(word)) {
        case KWR_WORD_PAGE: KWR_TRY(check_page(a, word, current, depth, prefix)); break;
        case KWR_WORD_CHAIN: KWR_TRY(check_chain(a, word, current, depth, prefix)); break;
        case KWR_WORD_HASH:
            f = &stack[height++];
            f->node = kwr_word_address(word);
            f->at = f->deep = 0;
            f->bits = kwr_word_span(word);
            f->base = depth;
            f->prefix = prefix;
            f->current = f->node->block.birth == a->e->epoch;
            add_block(a, &f->node->block);
            if (f->node->width != 1U << f->bits) return BROKEN(a, 3, "a node of a wrong width");
            break;
        case KWR_WORD_EMPTY: break;
        case KWR_WORD_STUB: KWR_TRY(check_stub(a, word, depth, prefix)); break;
        case KWR_WORD_ARRAY: return BROKEN(a, 3, "a word of a kind that cannot be here");
        }
        for (; height > 0; height--) {
            f = &stack[height - 1];
            if (f->at < f->node->width) break;
            if (f->deep != f->node->deep) return BROKEN(a, 3, "a node counts its words wrong");
        }
        if (height == 0) return KWR_OK;
        word = f->node->words[f->at];
        const unsigned own = kwr_word_depth(word);
        if (own > f->bits) return BROKEN(a, 3, "a word deeper than its node");
        const uint32_t copies = 1U << (f->bits - own);
        if (f->at % copies != 0) return BROKEN(a, 3, "a word out of line");
        for (uint32_t i = 0; i < copies; i++)
            if (f->node->words[f->at + i] != word) return BROKEN(a, 3, "copies of a word differ");
        if (own == f->bits) f->deep++;
        depth = f->base + own;
        prefix = f->prefix | (uint64_t)f->at << (64 - f->bits) >> f->base;
        current = f->current;
        f->at += copies;
    }
}

static kwr_status check_state(audit *a, kwr_word word) {
    kwr_engine *e = a->e;
    if (kwr_word_kind_of(word) == KWR_WORD_EMPTY)
        return e->states[a->state] == NULL ? KWR_OK : BROKEN(a, 1, "a state without a node");
    const kwr_node *top = kwr_word_address(word);
    if (top == NULL || e->states[a->state] != top)
        return BROKEN(a, 1, "a state's node is not the present one");
    const uint64_t entries = a->entries, bytes = a->entry_bytes, elements = a->elements;
    if (top->kind != e->facts[a->state].kind)
        return BROKEN(a, 1, "a state's node is of another kind");
    add_block(a, &top->block);
    if (e->two_level)
        for (uint32_t i = 0; i < top->width; i++)
            if (top->words[i] != 0)
                add_block(a, &((const kwr_node *)kwr_word_address(top->words[i]))->block);
    for (uint32_t i = 0; i < e->group_count; i++) {
        a->key_group = e->group_first + i;
        kwr_store_at_group(e, i);
        const kwr_node *leaf = e->two_level ? kwr_word_address(top->words[i / KWR_FAN_OUT]) : top;
        if (leaf == NULL) continue;
        KWR_TRY(check_hash(a, leaf->words[e->two_level ? i % KWR_FAN_OUT : i],
                           leaf->block.birth == e->epoch));
    }
    if (a->entries - entries != top->entries || a->entry_bytes - bytes != top->entry_bytes ||
        a->elements - elements != top->elements)
        return BROKEN(a, 5, "a state counts its entries wrong");
    return KWR_OK;
}

static kwr_status check_all(kwr_engine *e, kwr_error *err) {
    audit a = { .e = e, .err = err };
    if (e->state_levels > 0) {
        const kwr_node *root = kwr_word_address(e->root);
        add_block(&a, &root->block);
        if (e->state_levels == 2)
            for (uint32_t i = 0; i < root->width; i++)
                if (root->words[i] != 0)
                    add_block(&a, &((const kwr_node *)kwr_word_address(root->words[i]))->block);
    }
    for (uint32_t state = 0; state < e->state_count; state++) {
        a.state = state;
        KWR_TRY(check_state(&a, kwr_array_word(e->root, e->state_levels, state)));
    }
    if (a.entries != e->entries || a.entry_bytes != e->entry_bytes)
        return BROKEN(&a, 5, "the engine counts its entries wrong");
    uint64_t frozen = 0;
    for (const kwr_engine_view *view = e->newest; view != NULL; view = view->older) {
        for (const kwr_block *block = view->limbo; block != NULL; block = block->next) {
            add_dead(&a, block);
            frozen += kwr_block_bytes(block);
            if (block->birth > view->epoch) return BROKEN(&a, 2, "a view keeps what it cannot see");
        }
    }
    for (const kwr_block *block = e->shedding; block != NULL; block = block->next)
        add_dead(&a, block);
    if (frozen != e->frozen_bytes) return BROKEN(&a, 7, "frozen bytes are counted wrong");
    if (a.bytes != e->arena.used_bytes || a.blocks != e->arena.used_blocks)
        return BROKEN(&a, 7, "blocks are lost or counted wrong");
    return KWR_OK;
}

kwr_status kwr_store_check(kwr_engine *e, kwr_error *err) {
    const kwr_status status = check_all(e, err);
    kwr_store_at_group(e, KWR_NO_GROUP);
    return status;
}
