/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves taken from images, and trees made of them when all are there: sorted by whose they are and
 * by their first subkeys, held against what the collection's record says, and inner pages built
 * above them from the leaves up.
 */
#include "backend/key_group.h"
#include "backend/memory/find.h"
#include "backend/memory/tree.h"

/* ---- one leaf, any thread ---- */

void kwr_leaf_fill(kwr_tree_page *page, const kwr_leaf_image *image, kwr_restored_leaf *out) {
    const size_t owner = image->key.size + image->name.size;
    const size_t need = sizeof *page + (size_t)image->count * KWR_TREE_SLOT + image->element_bytes;
    size_t base = kwr_block_bytes(&page->block);
    if (need + owner > KWR_TREE_BYTES_MAX)
        base = need + owner;
    else if (base > KWR_TREE_BYTES_MAX)
        base = KWR_TREE_BYTES_MAX;
    kwr_tree_fill_begin(page, base, 0, image->element_bytes);
    const uint8_t *p = image->elements;
    for (uint32_t i = 0; i < image->count; i++) {
        const kwr_element x = kwr_element_at(p);
        uint8_t *value = kwr_tree_fill_add(page, kwr_element_key(&x), x.value_size);
        if (x.value_size > 0) memcpy(value, x.value, x.value_size);
        p = kwr_element_end(&x);
    }
    kwr_tree_fill_end(page);
    /* Until the end of the restore its owner's name waits in the gap. */
    uint8_t *gap = (uint8_t *)(page->slots + page->count);
    if (owner > 0) memcpy(gap, image->key.data, owner);
    out->page = page;
    out->key = (kwr_slice){ gap, image->key.size };
    out->name = (kwr_slice){ gap + image->key.size, image->name.size };
}

kwr_status kwr_leaf_owner_check(const kwr_leaf_image *image, const kwr_image_rules *rules,
                                uint64_t *hash, kwr_error *err) {
    const uint64_t key_hash = kwr_key_hash(image->key, rules->seed);
    if (!rules->any_key_group &&
        kwr_key_group_of_hash(key_hash, rules->max_parallelism) != rules->key_group)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its key belongs to another key group");
    *hash = kwr_entry_hash(key_hash, kwr_namespace_hash(image->name));
    return KWR_OK;
}

/* ---- sorting ---- */

static int compare_owners(const kwr_restored_leaf *a, const kwr_restored_leaf *b) {
    if (a->state != b->state) return a->state < b->state ? -1 : 1;
    if (a->key_group != b->key_group) return a->key_group < b->key_group ? -1 : 1;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    const int order = kwr_subkey_compare(a->key, b->key);
    return order != 0 ? order : kwr_subkey_compare(a->name, b->name);
}

static kwr_slice edge_key(const kwr_tree_page *page, bool last) {
    const kwr_element x = kwr_tree_element(page, last ? page->count - 1 : 0);
    return kwr_element_key(&x);
}

static int compare_leaves(const kwr_restored_leaf *a, const kwr_restored_leaf *b) {
    const int order = compare_owners(a, b);
    if (order != 0) return order;
    return kwr_subkey_compare(edge_key(a->page, false), edge_key(b->page, false));
}

/* Two sorted runs of `from` into one of `to`. */
static void merge_runs(const kwr_restored_leaf *from, kwr_restored_leaf *to, size_t first,
                       size_t middle, size_t end) {
    size_t a = first, b = middle;
    for (size_t i = first; i < end; i++) {
        const bool take_a = a < middle && (b == end || compare_leaves(&from[a], &from[b]) <= 0);
        to[i] = from[take_a ? a++ : b++];
    }
}

/* Sorted in one of the two arrays, which is returned. */
static kwr_restored_leaf *sort(kwr_restored_leaf *items, kwr_restored_leaf *other, size_t count) {
    for (size_t run = 1; run < count; run *= 2) {
        for (size_t first = 0; first < count; first += 2 * run) {
            const size_t middle = count - first < run ? count : first + run;
            const size_t end = count - middle < run ? count : middle + run;
            merge_runs(items, other, first, middle, end);
        }
        kwr_restored_leaf *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

/* ---- one tree ---- */

/* A page and what separates it from the one before. */
typedef struct child {
    kwr_slice separator;
    kwr_tree_page *page;
} child;

static kwr_slice separator_of(kwr_slice low, kwr_slice high) {
    const uint8_t *p = low.data, *q = high.data;
    size_t i = 0;
    while (i < low.size && p[i] == q[i])
        i++;
    return (kwr_slice){ high.data, i + 1 };
}

/* The next inner page of a level; *taken children are in it. NULL: no memory. */
static kwr_tree_page *fill_inner(kwr_engine *e, const child *children, size_t left, unsigned level,
                                 size_t *taken) {
    kwr_tree_scratch *s = e->tree;
    uint64_t words[KWR_TREE_COUNT_MAX / 4];
    const size_t most = sizeof words / sizeof words[0];
    size_t bytes = sizeof(kwr_tree_page), n = 0;
    while (n < left && n < most) {
        const size_t more = KWR_TREE_SLOT + kwr_element_size(children[n].separator.size, 8);
        if (n >= 2 && bytes + more > KWR_TREE_BYTES * 9 / 10) break;
        words[n] = kwr_tree_word(children[n].page);
        s->refs[n] = (kwr_tree_ref){ n == 0 ? (kwr_slice){ NULL, 0 } : children[n].separator,
                                     (const uint8_t *)&words[n], 8 };
        bytes += more;
        n++;
    }
    *taken = n;
    return kwr_tree_build(e, s->refs, (uint32_t)n, level, bytes);
}

/* Levels above the children, up to one page. */
static kwr_status build_above(kwr_engine *e, child *children, size_t count, kwr_tree_head *head) {
    for (unsigned level = 1; count > 1; level++) {
        size_t made = 0;
        if (level == KWR_TREE_LEVELS_MAX) return KWR_ERR_NOMEM;
        for (size_t from = 0, taken; from < count; from += taken) {
            kwr_tree_page *page = fill_inner(e, children + from, count - from, level, &taken);
            if (page == NULL) return KWR_ERR_NOMEM;
            children[made++] = (child){ children[from].separator, page };
        }
        count = made;
        head->height = (uint8_t)level;
    }
    head->root = (uint64_t)(uintptr_t)children[0].page;
    return KWR_OK;
}

/* The record of the collection these leaves say they belong to. */
static uint8_t *find_head(kwr_engine *e, kwr_word word, const kwr_restored_leaf *leaf) {
    const kwr_address at = {
        .state = leaf->state, .key_group = leaf->key_group, .key = leaf->key, .name = leaf->name
    };
    const uint64_t hash = leaf->hash & e->hash_mask;
    kwr_hit hit;
    if (word == 0) word = kwr_find_word(e, leaf->state, leaf->key_group, hash, false);
    if (!kwr_find_entry(word, &at, hash, &hit)) return NULL;
    return kwr_collection_is_tree(hit.value) ? hit.value : NULL;
}

static kwr_status link_tree(kwr_engine *e, kwr_word word, const kwr_restored_leaf *leaves,
                            size_t count, child *children, kwr_error *err) {
    uint8_t *value = find_head(e, word, leaves);
    if (value == NULL)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "leaves of a collection that is not there");
    kwr_tree_head head = kwr_tree_head_at(value);
    uint64_t elements = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        kwr_tree_page *page = leaves[i].page;
        children[i] = (child){ { NULL, 0 }, page };
        elements += page->count;
        bytes += leaves[i].entry_bytes;
        if (i == 0) continue;
        const kwr_slice low = edge_key(leaves[i - 1].page, true), high = edge_key(page, false);
        if (kwr_subkey_compare(low, high) >= 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "two leaves of a collection overlap");
        children[i].separator = separator_of(low, high);
    }
    if (head.leaves != count || head.count != elements || head.bytes != bytes)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "a collection should have %llu elements in %u leaves, it has %llu in %zu",
                        (unsigned long long)head.count, head.leaves, (unsigned long long)elements,
                        count);
    if (build_above(e, children, count, &head) != KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the inner pages of a collection");
    memcpy(value, &head, sizeof head);
    return KWR_OK;
}

kwr_status kwr_leaves_link(kwr_engine *e, kwr_word word, kwr_restored_leaf *leaves, size_t count,
                           kwr_error *err) {
    if (count == 0) return KWR_OK;
    kwr_restored_leaf *other = kwr_alloc_array(e->env, count, sizeof *other);
    child *children = kwr_alloc_array(e->env, count, sizeof *children);
    kwr_status status = KWR_OK;
    if (other == NULL || children == NULL) {
        status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to put leaves in order");
    } else {
        const kwr_restored_leaf *sorted = sort(leaves, other, count);
        for (size_t i = 0, end; i < count && status == KWR_OK; i = end) {
            for (end = i + 1; end < count && compare_owners(&sorted[i], &sorted[end]) == 0;)
                end++;
            status = link_tree(e, word, sorted + i, end - i, children, err);
            if (status != KWR_OK)
                kwr_error_prefix(err, "state %u, key group %u", sorted[i].state,
                                 sorted[i].key_group);
        }
    }
    kwr_free(e->env, children, count * sizeof *children);
    kwr_free(e->env, other, count * sizeof *other);
    return status;
}
