/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: finding the word of a page with every node on the way made changeable, and nodes
 * that grow, sink and fold. Each change is complete in itself: it allocates, then moves pointers,
 * and leaves the same entries behind.
 */
#include "backend/memory/store.h"
#include "base/planted.h"

static size_t node_bytes(uint32_t width) {
    return sizeof(kwr_node) + (size_t)width * sizeof(kwr_word);
}

kwr_node *kwr_node_new(kwr_engine *e, uint32_t width) {
    kwr_block *block = kwr_store_alloc(e, node_bytes(width), KWR_BLOCK_NODE);
    if (block == NULL) return NULL;
    kwr_node *node = (kwr_node *)block;
    memset((uint8_t *)node + sizeof *block, 0, node_bytes(width) - sizeof *block);
    node->width = width;
    return node;
}

static void put_word(kwr_engine *e, kwr_word *at, kwr_word word) {
    *at = word;
    e->stamp++;
}

/* The node behind a word that stands once, made changeable: copied when a view can see it. */
static kwr_node *own(kwr_engine *e, kwr_word *at) {
    kwr_node *node = kwr_word_address(*at);
    if (KWR_LIKELY(node->block.birth == e->epoch)) return node;
    if (!kwr_store_shared(e, &node->block) || KWR_PLANTED(frozen_node_written)) {
        node->block.birth = e->epoch;
        /* Pages below were current in another epoch: they have not changed in this one yet. */
        for (uint32_t i = 0; i < node->width; i++)
            node->words[i] &= ~KWR_WORD_CURRENT;
        e->stamp++;
        return node;
    }
    kwr_block *block = kwr_store_alloc(e, kwr_block_bytes(&node->block), KWR_BLOCK_NODE);
    if (block == NULL) return NULL;
    kwr_node *copy = (kwr_node *)block;
    memcpy((uint8_t *)copy + sizeof *block, (uint8_t *)node + sizeof *block,
           node_bytes(node->width) - sizeof *block);
    for (uint32_t i = 0; i < copy->width; i++)
        copy->words[i] &= ~KWR_WORD_CURRENT;
    put_word(e, at, (*at & ~KWR_WORD_ADDRESS) | (uint64_t)(uintptr_t)copy);
    kwr_store_retire(e, &node->block);
    e->copies++;
    return copy;
}

/* The same, made when there is none yet. */
static kwr_node *own_or_make(kwr_engine *e, kwr_word *at, uint32_t width) {
    if (kwr_word_kind_of(*at) != KWR_WORD_EMPTY) return own(e, at);
    kwr_node *node = kwr_node_new(e, width);
    if (node != NULL) put_word(e, at, kwr_word_make(KWR_WORD_ARRAY, node, 0, 0));
    return node;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

kwr_node *kwr_directory_top(kwr_engine *e, uint32_t state) {
    kwr_store_at_group(e, KWR_NO_GROUP);
    kwr_node *node = own(e, &e->root);
    if (node == NULL) return NULL;
    uint32_t index = state;
    if (e->state_levels == 2) {
        node = own_or_make(e, &node->words[index / KWR_FAN_OUT], KWR_FAN_OUT);
        if (node == NULL) return NULL;
        index %= KWR_FAN_OUT;
    }
    const uint32_t width =
        e->two_level ? (e->group_count + KWR_FAN_OUT - 1) / KWR_FAN_OUT : e->group_count;
    kwr_node *top = own_or_make(e, &node->words[index], width);
    if (top == NULL) return NULL;
    top->kind = e->facts[state].kind;
    e->states[state] = top;
    return top;
}

kwr_status kwr_directory_path(kwr_engine *e, uint32_t state, uint32_t key_group, uint64_t hash,
                              kwr_path *out) {
    if (state >= e->state_count || key_group - e->group_first >= e->group_count)
        return KWR_ERR_MISUSE;
    kwr_node *node = e->states[state];
    if ((node == NULL || node->block.birth != e->epoch) &&
        (node = kwr_directory_top(e, state)) == NULL)
        return KWR_ERR_NOMEM;
    out->top = node;
    out->count = 0;
    uint32_t index = key_group - e->group_first;
    const uint32_t group = index;
    if (e->two_level) {
        const uint32_t outer = index / KWR_FAN_OUT;
        kwr_store_at_group(e, KWR_NO_GROUP);
        node = own_or_make(e, &node->words[outer],
                           min_u32(KWR_FAN_OUT, e->group_count - outer * KWR_FAN_OUT));
        if (node == NULL) return KWR_ERR_NOMEM;
        index %= KWR_FAN_OUT;
    }
    out->steps[out->count++] = (kwr_step){ .node = node, .index = index };
    kwr_store_at_group(e, group);
    unsigned base = 0;
    for (;;) {
        kwr_step *step = kwr_path_last(out);
        const kwr_word w = step->node->words[step->index];
        if (kwr_word_kind_of(w) != KWR_WORD_HASH) return KWR_OK;
        node = own(e, &step->node->words[step->index]);
        if (node == NULL) return KWR_ERR_NOMEM;
        const unsigned bits = kwr_word_span(w);
        out->steps[out->count++] = (kwr_step){
            .node = node,
            .index = (uint32_t)((hash << base) >> (64 - bits)),
            .bits = bits,
            .base = base,
        };
        base += bits;
    }
}

kwr_status kwr_directory_enter_chain(kwr_engine *e, kwr_path *path) {
    kwr_step *step = kwr_path_last(path);
    const unsigned depth = kwr_path_depth(path);
    kwr_node *chain = own(e, &step->node->words[step->index]);
    if (chain == NULL) return KWR_ERR_NOMEM;
    path->steps[path->count++] = (kwr_step){ .node = chain, .base = depth };
    return KWR_OK;
}

void kwr_directory_set(kwr_engine *e, const kwr_step *step, kwr_word word) {
    kwr_node *node = step->node;
    e->stamp++;
    if (step->bits == 0) {
        node->words[step->index] = word;
        return;
    }
    const uint32_t copies = 1U << (step->bits - kwr_word_depth(word));
    const uint32_t first = step->index & ~(copies - 1);
    const bool deep = kwr_word_depth(word) == step->bits;
    for (uint32_t i = first; i < first + copies; i++) {
        if (kwr_word_depth(node->words[i]) == step->bits) node->deep--;
        node->words[i] = word;
    }
    if (deep) node->deep++;
}

/* Puts a hash node of one bit between a word and its page. */
static kwr_status sink(kwr_engine *e, kwr_path *path, uint64_t hash) {
    kwr_step *step = kwr_path_last(path);
    const kwr_word w = step->node->words[step->index];
    const unsigned base = step->base + step->bits;
    kwr_node *node = kwr_node_new(e, 2);
    if (node == NULL) return KWR_ERR_NOMEM;
    node->words[0] = node->words[1] = kwr_word_with_depth(w, 0);
    kwr_directory_set(e, step, kwr_word_make(KWR_WORD_HASH, node, kwr_word_depth(w), 1));
    path->steps[path->count++] = (kwr_step){
        .node = node, .index = (uint32_t)((hash << base) >> 63), .bits = 1, .base = base
    };
    return KWR_OK;
}

/* Twice or half as many words of the node at the end of the path. */
static kwr_status resize(kwr_engine *e, kwr_path *path, unsigned bits, uint64_t hash) {
    kwr_step *step = kwr_path_last(path);
    kwr_step *parent = step - 1;
    kwr_node *old = step->node;
    kwr_node *node = kwr_node_new(e, 1U << bits);
    if (node == NULL) return KWR_ERR_NOMEM;
    for (uint32_t i = 0; i < node->width; i++) {
        node->words[i] = bits > step->bits ? old->words[i >> 1] : old->words[i << 1];
        if (kwr_word_depth(node->words[i]) == bits) node->deep++;
    }
    const kwr_word w = parent->node->words[parent->index];
    kwr_directory_set(e, parent, kwr_word_make(KWR_WORD_HASH, node, kwr_word_depth(w), bits));
    kwr_store_retire(e, &old->block);
    step->node = node;
    step->index =
        bits > step->bits ? (uint32_t)((hash << step->base) >> (64 - bits)) : step->index >> 1;
    step->bits = bits;
    return KWR_OK;
}

kwr_status kwr_directory_deepen(kwr_engine *e, kwr_path *path, uint64_t hash) {
    const kwr_step *step = kwr_path_last(path);
    const unsigned depth = kwr_word_depth(step->node->words[step->index]);
    if (step->bits > 0 && depth < step->bits) return KWR_OK;
    if (step->bits == 0 || step->bits == KWR_NODE_BITS_MAX) return sink(e, path, hash);
    return resize(e, path, step->bits + 1, hash);
}

/* ---- after removals ---- */

/* Two pages into one, when they fill little of it. 0: they stay. */
static kwr_word merge_pages(kwr_engine *e, kwr_page *a, kwr_page *b, unsigned word_depth) {
    const size_t bytes = kwr_page_live_bytes(a) + kwr_page_live_bytes(b);
    const uint32_t count = (uint32_t)a->live + b->live;
    if (bytes > KWR_MERGE_BYTES || count > KWR_PAGE_SLOTS_MAX / 2) return 0;
    const unsigned depth = a->depth - 1U;
    const uint64_t prefix = depth == 0 ? 0 : a->prefix & ~0ULL << (64 - depth);
    kwr_page *page = kwr_page_new(e, e->page_ids, prefix, depth, count, bytes, bytes / 8);
    if (page == NULL) return 0;
    kwr_page *const both[2] = { a, b };
    for (unsigned i = 0; i < 2; i++) {
        if (kwr_page_scan(e, both[i]) != KWR_OK) {
            kwr_page_arena_free(&e->arena, &page->block);
            return 0;
        }
        kwr_page_take(page, both[i], e->scan, 0, 0);
    }
    e->page_ids++;
    kwr_store_retire(e, &a->block);
    kwr_store_retire(e, &b->block);
    return kwr_page_word(page, word_depth);
}

/* A page takes over the prefix of its empty buddy. */
static kwr_word widen_page(kwr_engine *e, kwr_page *page, kwr_word w) {
    if (kwr_page_live_bytes(page) > KWR_MERGE_BYTES || kwr_store_shared(e, &page->block)) return 0;
    page->block.birth = page->formed = e->epoch;
    page->depth--;
    page->prefix &= page->depth == 0 ? 0 : ~0ULL << (64 - page->depth);
    return kwr_word_with_depth(w, kwr_word_depth(w) - 1) | KWR_WORD_CURRENT;
}

static kwr_word merge_words(kwr_engine *e, kwr_word a, kwr_word b) {
    const kwr_word_kind ka = kwr_word_kind_of(a), kb = kwr_word_kind_of(b);
    const unsigned depth = kwr_word_depth(a);
    if (kwr_word_depth(b) != depth || ka > KWR_WORD_PAGE || kb > KWR_WORD_PAGE) return 0;
    if (ka == KWR_WORD_PAGE && kb == KWR_WORD_PAGE)
        return merge_pages(e, kwr_word_address(a), kwr_word_address(b), depth - 1);
    if (ka == KWR_WORD_PAGE) return widen_page(e, kwr_word_address(a), a);
    if (kb == KWR_WORD_PAGE) return widen_page(e, kwr_word_address(b), b);
    return 0;
}

void kwr_directory_merge(kwr_engine *e, kwr_path *path) {
    for (;;) {
        kwr_step *step = kwr_path_last(path);
        if (step->bits == 0) return;
        const kwr_word w = step->node->words[step->index];
        const unsigned depth = kwr_word_depth(w);
        if (depth == 0) { /* the node holds one word only: it goes */
            const kwr_step *parent = step - 1;
            const kwr_word above = parent->node->words[parent->index];
            kwr_directory_set(e, parent, kwr_word_with_depth(w, kwr_word_depth(above)));
            kwr_store_retire(e, &step->node->block);
            path->count--;
            continue;
        }
        const uint32_t buddy = step->index ^ 1U << (step->bits - depth);
        const kwr_word b = step->node->words[buddy];
        kwr_word merged;
        if (kwr_word_kind_of(w) == KWR_WORD_EMPTY && kwr_word_kind_of(b) == KWR_WORD_EMPTY &&
            kwr_word_depth(b) == depth)
            merged = kwr_word_empty(depth - 1);
        else if ((merged = merge_words(e, w, b)) == 0)
            return;
        kwr_directory_set(e, step, merged);
        if (step->node->deep == 0 && step->bits > 1 && resize(e, path, step->bits - 1, 0) != KWR_OK)
            return;
    }
}

/* ---- states ---- */

/* The node that holds the words of states, `levels` of them, wide enough for `count`. */
static kwr_status grow_root(kwr_engine *e, uint32_t count) {
    kwr_store_at_group(e, KWR_NO_GROUP);
    const uint32_t levels = count > KWR_FAN_OUT ? 2 : 1;
    const uint32_t need = levels == 1 ? count : (count + KWR_FAN_OUT - 1) / KWR_FAN_OUT;
    kwr_node *old = kwr_word_address(e->root);
    if (e->state_levels == levels && old->width >= need) return KWR_OK;
    const uint32_t width = min_u32(KWR_FAN_OUT, need < 8 ? 8 : need + need / 2);
    kwr_node *node = kwr_node_new(e, width);
    if (node == NULL) return KWR_ERR_NOMEM;
    if (old != NULL && e->state_levels == levels) {
        memcpy(node->words, old->words, old->width * sizeof(kwr_word));
        kwr_store_retire(e, &old->block);
    } else if (old != NULL && old->width < KWR_FAN_OUT) { /* it becomes the first of its kind */
        kwr_node *first = kwr_node_new(e, KWR_FAN_OUT);
        if (first == NULL) {
            kwr_page_arena_free(&e->arena, &node->block);
            return KWR_ERR_NOMEM;
        }
        memcpy(first->words, old->words, old->width * sizeof(kwr_word));
        kwr_store_retire(e, &old->block);
        node->words[0] = kwr_word_make(KWR_WORD_ARRAY, first, 0, 0);
    } else if (old != NULL) {
        node->words[0] = e->root;
    }
    e->state_levels = levels;
    put_word(e, &e->root, kwr_word_make(KWR_WORD_ARRAY, node, 0, 0));
    return KWR_OK;
}

/* A longer copy of an array, zeros behind. */
static void *host_copy(kwr_engine *e, const void *from, uint32_t count, uint32_t capacity,
                       size_t size) {
    void *to = kwr_page_arena_host_alloc(&e->arena, capacity * size);
    if (to == NULL) return NULL;
    memset(to, 0, capacity * size);
    if (count > 0) memcpy(to, from, count * size);
    return to;
}

kwr_status kwr_directory_grow_states(kwr_engine *e, uint32_t count) {
    if (count <= e->state_count) return KWR_OK;
    if (count > KWR_FAN_OUT * KWR_FAN_OUT) return KWR_ERR_RANGE;
    if (count > e->state_capacity) {
        const uint32_t capacity = count < 8 ? 8 : count + count / 2;
        kwr_node **states = host_copy(e, e->states, e->state_capacity, capacity, sizeof *states);
        kwr_state_facts *facts = host_copy(e, e->facts, e->state_capacity, capacity, sizeof *facts);
        if (states == NULL || facts == NULL) {
            kwr_page_arena_host_free(&e->arena, states, capacity * sizeof *states);
            kwr_page_arena_host_free(&e->arena, facts, capacity * sizeof *facts);
            return KWR_ERR_NOMEM;
        }
        kwr_page_arena_host_free(&e->arena, e->states, e->state_capacity * sizeof *states);
        kwr_page_arena_host_free(&e->arena, e->facts, e->state_capacity * sizeof *facts);
        e->states = states;
        e->facts = facts;
        e->state_capacity = capacity;
    }
    const kwr_status status = grow_root(e, count);
    if (status == KWR_OK) e->state_count = count;
    kwr_store_settle(e);
    return status;
}

/* ---- walking ---- */

kwr_status kwr_directory_pages(kwr_word word, kwr_page_fn fn, kwr_stub_fn stub_fn, void *ctx) {
    struct {
        const kwr_node *node;
        uint32_t at;
        unsigned bits;
    } stack[KWR_LEVELS_MAX];
    unsigned height = 0;
    for (;;) {
        switch (kwr_word_kind_of(word)) {
        case KWR_WORD_PAGE: {
            const kwr_page *page = kwr_word_address(word);
            const kwr_status status = fn(ctx, page, false, 0);
            if (status != KWR_OK) return status;
            break;
        }
        case KWR_WORD_CHAIN: {
            const kwr_node *chain = kwr_word_address(word);
            for (uint32_t i = 0; i < chain->width; i++) {
                const kwr_status status = fn(ctx, kwr_word_address(chain->words[i]), true, i);
                if (status != KWR_OK) return status;
            }
            break;
        }
        case KWR_WORD_HASH:
            stack[height].node = kwr_word_address(word);
            stack[height].at = 0;
            stack[height].bits = kwr_word_span(word);
            height++;
            break;
        case KWR_WORD_STUB: {
            const kwr_status status = stub_fn(ctx, word);
            if (status != KWR_OK) return status;
            break;
        }
        case KWR_WORD_EMPTY:
        case KWR_WORD_ARRAY: break;
        }
        while (height > 0 && stack[height - 1].at == stack[height - 1].node->width)
            height--;
        if (height == 0) return KWR_OK;
        word = stack[height - 1].node->words[stack[height - 1].at];
        stack[height - 1].at += 1U << (stack[height - 1].bits - kwr_word_depth(word));
    }
}
