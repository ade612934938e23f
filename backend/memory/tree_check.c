/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of trees that need a walk over everything, for tests. */
#include "backend/memory/tree.h"

#define BROKEN(number, what) KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "invariant %d: %s", number, what)

static void add_block(kwr_tree_sums *sums, const kwr_block *block) {
    sums->bytes += kwr_block_bytes(block);
    sums->blocks++;
}

static kwr_slice key_at(const kwr_tree_page *page, uint32_t i) {
    const kwr_element x = kwr_tree_element(page, i);
    return kwr_element_key(&x);
}

/* `low` and `high` bound the subkeys; high.data NULL: nothing above. */
static kwr_status check_page(const kwr_tree_page *page, kwr_slice low, kwr_slice high,
                             kwr_error *err) {
    const size_t capacity = kwr_block_bytes(&page->block);
    if (page->block.kind != KWR_BLOCK_TREE || page->block.whole != 0 || page->count == 0)
        return BROKEN(9, "a tree page's header is damaged");
    if (page->base > capacity || page->dead > page->heap ||
        sizeof *page + (uint64_t)page->count * KWR_TREE_SLOT + page->heap > page->base)
        return BROKEN(9, "a tree page's bytes are counted wrong");
    if (page->level == 0 && page->count > 1 && page->base > KWR_TREE_BYTES_MAX &&
        kwr_tree_live_bytes(page) > KWR_TREE_BYTES_MAX)
        return BROKEN(9, "a leaf is too large");
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        const kwr_element x = kwr_tree_element(page, i);
        const kwr_slice key = kwr_element_key(&x);
        bytes += kwr_element_size(x.key_size, x.value_size);
        if (page->slots[i].off > page->heap) return BROKEN(9, "a slot points outside the records");
        if (page->level > 0 && x.value_size != 8) return BROKEN(9, "a child word of another size");
        if (i < kwr_tree_low(page)) continue;
        bool equal;
        if (kwr_tree_search(page, key, &equal) != i || !equal)
            return BROKEN(9, "a subkey cannot be found");
        if (i > kwr_tree_low(page) && kwr_subkey_compare(key_at(page, i - 1), key) >= 0)
            return BROKEN(10, "subkeys are not in order");
        if (kwr_subkey_compare(key, low) < 0 ||
            (high.data != NULL && kwr_subkey_compare(key, high) >= 0))
            return BROKEN(10, "a subkey is outside its page's separators");
    }
    if (bytes != page->heap - page->dead) return BROKEN(9, "dead bytes are counted wrong");
    return KWR_OK;
}

/* What is above and below steps[level]'s page. */
static void bounds(const kwr_tree_path *path, uint32_t level, kwr_slice *low, kwr_slice *high) {
    *low = (kwr_slice){ "", 0 };
    *high = (kwr_slice){ NULL, 0 };
    bool has_low = false;
    for (uint32_t i = level; i-- > 0;) {
        const kwr_tree_step *step = &path->steps[i];
        if (!has_low && step->index > 0) {
            *low = key_at(step->page, step->index);
            has_low = true;
        }
        if (high->data == NULL && step->index + 1 < step->page->count)
            *high = key_at(step->page, step->index + 1);
    }
}

static kwr_status check_level(const kwr_engine *e, const kwr_tree_path *path, uint32_t level,
                              kwr_tree_sums *sums, kwr_error *err) {
    const kwr_tree_page *page = path->steps[level].page;
    kwr_slice low, high;
    bounds(path, level, &low, &high);
    add_block(sums, &page->block);
    if (page->level != path->height - level) return BROKEN(10, "leaves are not at one height");
    if (level > 0 && !kwr_store_shared(e, &page->block) &&
        kwr_store_shared(e, &path->steps[level - 1].page->block))
        return BROKEN(2, "a shared page leads to one of the present");
    return check_page(page, low, high, err);
}

kwr_status kwr_tree_check(const kwr_engine *e, const kwr_tree_head *head, kwr_tree_sums *sums,
                          kwr_error *err) {
    kwr_tree_path path;
    uint64_t count = 0, bytes = 0, leaves = 0;
    if (head->form != KWR_COLLECTION_TREE || head->zero != 0 || head->root == 0)
        return BROKEN(11, "a tree's head is damaged");
    kwr_tree_first(head, &path);
    uint32_t level = 0; /* from here down the path is new */
    do {
        for (; level <= path.height; level++)
            KWR_TRY(check_level(e, &path, level, sums, err));
        kwr_tree_step *leaf = kwr_tree_leaf(&path);
        for (uint32_t i = 0; i < leaf->page->count; i++) {
            const kwr_element x = kwr_tree_element(leaf->page, i);
            count++;
            bytes += (uint64_t)x.key_size + x.value_size;
        }
        leaves++;
        leaf->index = leaf->page->count;
        kwr_tree_path before = path;
        if (!kwr_tree_settle_forward(&path)) break;
        level = 0;
        while (path.steps[level].page == before.steps[level].page)
            level++;
    } while (true);
    if (count != head->count || bytes != head->bytes || leaves != head->leaves)
        return BROKEN(11, "a tree counts its elements wrong");
    return KWR_OK;
}

void kwr_tree_add_below(const kwr_tree_page *root, kwr_tree_sums *sums) {
    kwr_tree_step stack[KWR_TREE_LEVELS_MAX];
    uint32_t height = 0;
    if (root->level == 0) return;
    stack[height++] = (kwr_tree_step){ (kwr_tree_page *)(uintptr_t)root, 0 };
    while (height > 0) {
        kwr_tree_step *step = &stack[height - 1];
        if (step->index == step->page->count) {
            height--;
            continue;
        }
        kwr_tree_page *child = kwr_tree_child(step->page, step->index++);
        add_block(sums, &child->block);
        if (child->level > 0) stack[height++] = (kwr_tree_step){ child, 0 };
    }
}
