/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory given back. After a checkpoint the copies that its view needed are free again, spread over
 * all spans, and none of them is empty. So an idle owner chooses the emptiest chunks (arena.h),
 * goes through the directory once, and moves every block that lies in one of them. A moved block is
 * the same block elsewhere: birth, id and marks stay, so that increments do not see it.
 *
 * Only while there is no view at all: then nobody but the directory knows where a block is. What is
 * done in steps is found again by state, key group and hash prefix, whatever happened in between.
 */
#include "backend/memory/compact.h"

#include "backend/memory/tree.h"

/* Worth while from here on: so many quarters of what is used are mapped. */
enum { MAPPED_QUARTERS = 5, STEPS_BETWEEN_LOOKS = 16 };

/* The same block in another place; NULL: no memory, or the pass is over. */
static kwr_block *move(kwr_engine *e, kwr_block *old) {
    const size_t size = kwr_block_bytes(old);
    kwr_block *block = kwr_page_arena_alloc(&e->arena, size);
    if (block == NULL) return NULL;
    block->birth = old->birth;
    block->kind = old->kind;
    block->whole = old->whole;
    memcpy((uint8_t *)block + sizeof *block, (const uint8_t *)old + sizeof *block,
           size - sizeof *block);
    kwr_page_arena_free(&e->arena, old);
    e->stamp++;
    return block;
}

/* What a word leads to, and its copies with it. */
static bool move_word(kwr_engine *e, kwr_word *at, uint32_t copies) {
    kwr_block *old = kwr_word_address(*at);
    if (!kwr_page_arena_leaves(&e->arena, old)) return true;
    kwr_block *block = move(e, old);
    if (block == NULL) return false;
    const kwr_word word = (*at & ~KWR_WORD_ADDRESS) | (uint64_t)(uintptr_t)block;
    for (uint32_t i = 0; i < copies; i++)
        at[i] = word;
    return true;
}

/* All pages of a large collection, at once. */
static bool move_tree(kwr_engine *e, uint32_t state, uint8_t *value) {
    kwr_tree_step stack[KWR_TREE_LEVELS_MAX];
    kwr_tree_head head = kwr_tree_head_at(value);
    kwr_tree_page *root = (kwr_tree_page *)(uintptr_t)head.root;
    if (kwr_page_arena_leaves(&e->arena, &root->block)) {
        root = (kwr_tree_page *)move(e, &root->block);
        if (root == NULL) return false;
        head.root = (uint64_t)(uintptr_t)root;
        memcpy(value, &head, sizeof head);
        e->facts[state].stamp++;
    }
    uint32_t height = 0;
    if (root->level > 0) stack[height++] = (kwr_tree_step){ root, 0 };
    while (height > 0) {
        kwr_tree_step *step = &stack[height - 1];
        if (step->index == step->page->count) {
            height--;
            continue;
        }
        kwr_tree_page *child = kwr_tree_child(step->page, step->index);
        if (kwr_page_arena_leaves(&e->arena, &child->block)) {
            child = (kwr_tree_page *)move(e, &child->block);
            if (child == NULL) return false;
            kwr_tree_set_child(step->page, step->index, child);
            e->facts[state].stamp++;
        }
        step->index++;
        if (child->level > 0) stack[height++] = (kwr_tree_step){ child, 0 };
    }
    return true;
}

/* What hangs on a page. */
static bool move_content(kwr_engine *e, uint32_t state, kwr_page *page) {
    const bool collection = e->facts[state].collection;
    if (page->blobs == 0 && !collection) return true;
    const kwr_slots *lines = kwr_page_slots(page);
    for (uint32_t i = 0; i < (uint32_t)page->groups * KWR_SLOTS; i++) {
        const uint16_t offset = lines[i / KWR_SLOTS].offsets[i % KWR_SLOTS];
        if (offset == 0) continue;
        if ((offset & KWR_SLOT_BLOB) != 0) {
            kwr_blob *blob = kwr_page_blob(page, offset);
            if (kwr_page_arena_leaves(&e->arena, &blob->block)) {
                blob = (kwr_blob *)move(e, &blob->block);
                if (blob == NULL) return false;
                kwr_put_le64((uint8_t *)page + (offset & KWR_SLOT_OFFSET),
                             (uint64_t)(uintptr_t)blob);
            }
        }
        if (!collection) continue;
        const kwr_record r = kwr_record_at(kwr_page_record(page, offset));
        if (kwr_collection_is_tree(r.value) && !move_tree(e, state, r.value)) return false;
    }
    return true;
}

static bool move_chain(kwr_engine *e, uint32_t state, kwr_node *chain) {
    for (uint32_t i = 0; i < chain->width; i++)
        if (!move_word(e, &chain->words[i], 1) ||
            !move_content(e, state, kwr_word_address(chain->words[i])))
            return false;
    return true;
}

/* The nodes above key groups, when the pass comes to what is below them. */
static bool move_arrays(kwr_engine *e, const kwr_compaction *c) {
    if (c->hash != 0) return true;
    if (c->group == 0) {
        if (!move_word(e, &e->root, 1)) return false;
        kwr_node *node = kwr_word_address(e->root);
        uint32_t index = c->state;
        if (e->state_levels == 2) {
            if (!move_word(e, &node->words[index / KWR_FAN_OUT], 1)) return false;
            node = kwr_word_address(node->words[index / KWR_FAN_OUT]);
            index %= KWR_FAN_OUT;
        }
        if (!move_word(e, &node->words[index], 1)) return false;
        e->states[c->state] = kwr_word_address(node->words[index]);
    }
    kwr_word *words = e->states[c->state]->words;
    return !e->two_level || c->group % KWR_FAN_OUT != 0 ||
           move_word(e, &words[c->group / KWR_FAN_OUT], 1);
}

static kwr_word *word_of_group(const kwr_engine *e, const kwr_compaction *c) {
    kwr_node *node = e->states[c->state];
    if (!e->two_level) return &node->words[c->group];
    node = kwr_word_address(node->words[c->group / KWR_FAN_OUT]);
    return node == NULL ? NULL : &node->words[c->group % KWR_FAN_OUT];
}

static void next_state(kwr_compaction *c) {
    c->state++;
    c->group = 0;
    c->hash = 0;
}

/* To what is behind the word of so many bits. */
static void next_word(const kwr_engine *e, kwr_compaction *c, unsigned depth) {
    const uint64_t size = depth == 0 ? 0 : 1ULL << (64 - depth);
    c->hash = depth == 0 ? 0 : (c->hash & ~(size - 1)) + size;
    if (c->hash == 0 && ++c->group == e->group_count) next_state(c);
}

/* What one word of the directory leads to. False: the pass cannot go on. */
static bool step(kwr_engine *e, kwr_compaction *c) {
    if (e->states[c->state] == NULL) {
        next_state(c);
        return true;
    }
    if (!move_arrays(e, c)) return false;
    kwr_word *at = word_of_group(e, c);
    uint32_t copies = 1;
    unsigned base = 0, depth = 0;
    while (at != NULL && kwr_word_kind_of(*at) == KWR_WORD_HASH) {
        if (!move_word(e, at, copies)) return false;
        kwr_node *node = kwr_word_address(*at);
        const unsigned bits = kwr_word_span(*at);
        const uint32_t index = (uint32_t)((c->hash << base) >> (64 - bits));
        const unsigned own = kwr_word_depth(node->words[index]);
        copies = 1U << (bits - own);
        at = &node->words[index & ~(copies - 1)];
        depth = base + own;
        base += bits;
    }
    const kwr_word_kind kind = at == NULL ? KWR_WORD_EMPTY : kwr_word_kind_of(*at);
    if (kind == KWR_WORD_PAGE &&
        !(move_word(e, at, copies) && move_content(e, c->state, kwr_word_address(*at))))
        return false;
    if (kind == KWR_WORD_CHAIN &&
        !(move_word(e, at, copies) && move_chain(e, c->state, kwr_word_address(*at))))
        return false;
    next_word(e, c, depth);
    return true;
}

static bool worth_while(const kwr_engine *e) {
    const uint64_t used = e->arena.used_bytes, mapped = kwr_page_arena_mapped(&e->arena);
    const kwr_compaction *c = &e->compaction;
    if (mapped <= c->least_bytes || mapped / MAPPED_QUARTERS <= used / 4) return false;
    return c->due || used < c->used_bytes - c->used_bytes / 8;
}

bool kwr_store_compact(kwr_engine *e, uint64_t begun_ns, uint64_t max_ns) {
    kwr_compaction *c = &e->compaction;
    const kwr_clock *clock = e->env->clock;
    if (e->newest != NULL || e->restore != NULL || e->root == 0) return false;
    if (e->arena.leaving == 0) {
        if (!worth_while(e)) return false;
        *c = (kwr_compaction){ .least_bytes = c->least_bytes, .used_bytes = e->arena.used_bytes };
        if (!kwr_page_arena_leave(&e->arena)) return false;
    }
    for (unsigned i = 1; c->state < e->state_count; i++) {
        if (e->arena.leaving == 0 || !step(e, c)) break;
        if (i % STEPS_BETWEEN_LOOKS == 0 && clock->mono_ns(clock->ctx) - begun_ns >= max_ns)
            return true;
    }
    kwr_page_arena_stay(&e->arena);
    return false;
}
