/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: ways through them and changes to them. A change that needs memory makes all new pages
 * first, from the leaf upwards, until a page that can be changed in place takes them in; only that
 * last step is seen. Pages of the past are copied from the root down before, each copy complete in
 * itself.
 */
#include "backend/memory/tree.h"

static kwr_tree_page *root_of(const kwr_tree_head *head) {
    return (kwr_tree_page *)(uintptr_t)head->root;
}

/* ---- ways ---- */

bool kwr_tree_find(const kwr_tree_head *head, kwr_slice key, kwr_tree_path *out) {
    kwr_tree_page *page = root_of(head);
    kwr_tree_step *step = out->steps;
    out->height = head->height;
    for (; page->level > 0; step++) {
        step->page = page;
        step->index = kwr_tree_search_child(page, key);
        page = kwr_tree_enter(page, step->index, key);
    }
    bool equal;
    step->page = page;
    step->index = kwr_tree_search(page, key, &equal);
    return equal;
}

/* From steps[level] down along the first or the last children. */
static void descend(kwr_tree_path *path, uint32_t level, bool last) {
    for (; level < path->height; level++) {
        kwr_tree_page *page = kwr_tree_child(path->steps[level].page, path->steps[level].index);
        path->steps[level + 1].page = page;
        path->steps[level + 1].index = last ? page->count - 1 : 0;
    }
}

static void edge(const kwr_tree_head *head, kwr_tree_path *out, bool last) {
    kwr_tree_page *root = root_of(head);
    out->height = head->height;
    out->steps[0] = (kwr_tree_step){ root, last ? root->count - 1 : 0 };
    descend(out, 0, last);
}

void kwr_tree_first(const kwr_tree_head *head, kwr_tree_path *out) { edge(head, out, false); }
void kwr_tree_last(const kwr_tree_head *head, kwr_tree_path *out) { edge(head, out, true); }

bool kwr_tree_settle_forward(kwr_tree_path *path) {
    if (kwr_tree_leaf(path)->index < kwr_tree_leaf(path)->page->count) return true;
    for (uint32_t level = path->height; level-- > 0;) {
        kwr_tree_step *step = &path->steps[level];
        if (step->index + 1 == step->page->count) continue;
        step->index++;
        descend(path, level, false);
        return true;
    }
    return false;
}

bool kwr_tree_back(kwr_tree_path *path) {
    for (uint32_t level = path->height + 1; level-- > 0;) {
        kwr_tree_step *step = &path->steps[level];
        if (step->index == 0) continue;
        step->index--;
        descend(path, level, true);
        return true;
    }
    return false;
}

/* ---- pages of the present ---- */

/* The page at `level` of the path is another one now. */
static void relink(kwr_tree *t, kwr_tree_path *path, uint32_t level, kwr_tree_page *page) {
    if (level == 0)
        t->head.root = (uint64_t)(uintptr_t)page;
    else
        kwr_tree_set_child(path->steps[level - 1].page, path->steps[level - 1].index, page);
    path->steps[level].page = page;
    t->e->facts[t->state].stamp++;
}

kwr_status kwr_tree_own(kwr_tree *t, kwr_tree_path *path) {
    kwr_engine *e = t->e;
    for (uint32_t level = 0; level <= path->height; level++) {
        kwr_tree_page *page = path->steps[level].page;
        if (KWR_LIKELY(page->block.birth == e->epoch)) continue;
        if (!kwr_store_shared(e, &page->block)) {
            page->block.birth = e->epoch;
            continue;
        }
        kwr_tree_page *copy = kwr_tree_copy(e, page);
        if (copy == NULL) return KWR_ERR_NOMEM;
        relink(t, path, level, copy);
        if (level == 0) kwr_tree_store(t);
        kwr_store_retire(e, &page->block);
        e->copies++;
    }
    return KWR_OK;
}

/* ---- new pages, all of them before the first is linked ---- */

enum { MADE_MAX = 3 + 2 * KWR_TREE_LEVELS_MAX };

typedef struct making {
    kwr_tree *t;
    kwr_tree_page *made[MADE_MAX];
    kwr_tree_page *gone[KWR_TREE_LEVELS_MAX];
    uint32_t made_count, gone_count;
    /* what takes the place of one child: itself, and those behind it with their separators */
    kwr_tree_page *first;
    kwr_tree_page *more[2];
    kwr_slice separators[2];
    uint32_t more_count;
} making;

static kwr_tree_page *make(making *m, const kwr_tree_ref *refs, uint32_t count, unsigned level,
                           size_t room) {
    kwr_tree_page *page = kwr_tree_build(m->t->e, refs, count, level, room);
    if (page != NULL) m->made[m->made_count++] = page;
    return page;
}

static void unmake(making *m) {
    for (uint32_t i = 0; i < m->made_count; i++)
        kwr_page_arena_free(&m->t->e->arena, &m->made[i]->block);
}

static void gone(making *m, kwr_tree_page *page) { m->gone[m->gone_count++] = page; }

/* The shortest bytes above all of `low` and not above any of `high`, in `high`'s first subkey. */
static kwr_slice separator(kwr_slice low, kwr_slice high) {
    const uint8_t *p = low.data, *q = high.data;
    size_t i = 0;
    while (i < low.size && p[i] == q[i])
        i++;
    return (kwr_slice){ high.data, i + 1 };
}

static kwr_slice key_at(const kwr_tree_page *page, uint32_t i) {
    const kwr_element x = kwr_tree_element(page, i);
    return kwr_element_key(&x);
}

/* Adds a part behind those there are. */
static void add_part(making *m, kwr_tree_page *page) {
    const kwr_tree_page *before = m->more_count == 0 ? m->first : m->more[m->more_count - 1];
    m->separators[m->more_count] = separator(key_at(before, before->count - 1), key_at(page, 0));
    m->more[m->more_count++] = page;
}

static size_t ref_bytes(const kwr_tree_ref *ref) {
    return kwr_element_size(ref->key.size, ref->value_size);
}

/* Where to cut two or more elements so that the larger side is as small as can be. */
static uint32_t middle_of(const kwr_tree_ref *refs, uint32_t count) {
    const size_t total = kwr_tree_refs_bytes(refs, count) - sizeof(kwr_tree_page);
    size_t low = 0;
    for (uint32_t i = 0; i + 1 < count; i++) {
        const size_t with = low + KWR_TREE_SLOT + ref_bytes(&refs[i]);
        /* Taken into the lower side, would this one be worse there than in the upper? */
        if (with > total - low) return i == 0 ? 1 : i;
        low = with;
    }
    return count - 1;
}

/* The cuts of a leaf's elements into at most three leaves: returns how many, ends in `to`. */
static uint32_t cut_leaf(const kwr_tree_scratch *s, uint32_t at, uint32_t to[3]) {
    const uint32_t count = s->count;
    const size_t total = kwr_tree_refs_bytes(s->refs, count);
    uint32_t parts = 0;
    if (count == 1 || (total <= KWR_TREE_BYTES && count < KWR_TREE_COUNT_MAX - 8)) {
        to[parts++] = count;
    } else if (ref_bytes(&s->refs[at]) > KWR_TREE_ELEMENT_MAX) {
        if (at > 0) to[parts++] = at;
        to[parts++] = at + 1;
        if (at + 1 < count) to[parts++] = count;
    } else {
        /* Subkeys that come in order leave full leaves behind. */
        to[parts++] = at + 1 == count ? at : middle_of(s->refs, count);
        to[parts++] = count;
    }
    return parts;
}

/* Leaves in place of one that cannot hold the element at `at` of the scratch. */
static bool make_leaves(making *m, kwr_tree_page *leaf, uint32_t at, bool found, uint8_t **out) {
    const kwr_tree_scratch *s = m->t->e->tree;
    uint32_t to[3];
    const uint32_t parts = cut_leaf(s, at, to);
    const bool first_stays = parts > 1 && !found && to[0] == at && at + 1 == s->count;
    for (uint32_t i = 0, from = 0; i < parts; from = to[i++]) {
        kwr_tree_page *page = leaf;
        if (i > 0 || !first_stays) {
            const size_t bytes = kwr_tree_refs_bytes(s->refs + from, to[i] - from);
            const size_t room = parts == 1 ? bytes + bytes / 2 : bytes + bytes / 4;
            const size_t least = m->t->head.height == 0 ? 0 : KWR_TREE_BYTES / 2;
            page = make(m, s->refs + from, to[i] - from, 0, room > least ? room : least);
        }
        if (page == NULL) return false;
        if (i == 0)
            m->first = page;
        else
            add_part(m, page);
        if (at >= from && at < to[i]) *out = kwr_tree_element(page, at - from).value;
    }
    if (!first_stays) gone(m, leaf);
    return true;
}

/* The child at the step's index becomes first and more: in place when there is room. */
static bool take_in(making *m, kwr_tree_step *step) {
    kwr_tree_page *page = step->page;
    size_t need = 0;
    for (uint32_t i = 0; i < m->more_count; i++)
        need += KWR_TREE_SLOT + kwr_element_size(m->separators[i].size, 8);
    if (kwr_tree_gap(page) < need || page->count + m->more_count > KWR_TREE_COUNT_MAX - 8)
        return false;
    kwr_tree_set_child(page, step->index, m->first);
    for (uint32_t i = 0; i < m->more_count; i++) {
        uint8_t *value = kwr_tree_insert(page, step->index + 1 + i, m->separators[i], 8);
        kwr_put_le64(value, kwr_tree_word(m->more[i]));
    }
    return true;
}

/* A new inner page, or two, with the children of the step's page and those it must take in. */
static bool make_inner(making *m, kwr_tree_step *step) {
    kwr_tree_scratch *s = m->t->e->tree;
    kwr_tree_page *page = step->page;
    uint64_t words[3] = { kwr_tree_word(m->first) };
    s->count = 0;
    kwr_tree_gather(s, page);
    s->refs[step->index].value = (const uint8_t *)&words[0];
    for (uint32_t i = 0; i < m->more_count; i++) {
        words[i + 1] = kwr_tree_word(m->more[i]);
        kwr_tree_scratch_insert(
            s, step->index + 1 + i,
            (kwr_tree_ref){ m->separators[i], (const uint8_t *)&words[i + 1], 8 });
    }
    const size_t bytes = kwr_tree_refs_bytes(s->refs, s->count);
    const bool full = s->count >= KWR_TREE_COUNT_MAX - 8;
    const bool last = step->index + 1 + m->more_count == s->count;
    m->more_count = 0;
    gone(m, page);
    if (s->count < 4 || (bytes <= KWR_TREE_BYTES && !full)) {
        m->first = make(m, s->refs, s->count, page->level, bytes + bytes / 2);
        return m->first != NULL;
    }
    uint32_t cut = last ? s->count - 2 : middle_of(s->refs, s->count);
    if (cut < 2) cut = 2;
    if (cut > s->count - 2) cut = s->count - 2;
    const kwr_slice between = s->refs[cut].key;
    s->refs[cut].key.size = 0;
    m->first = make(m, s->refs, cut, page->level, 0);
    kwr_tree_page *high = make(m, s->refs + cut, s->count - cut, page->level, KWR_TREE_BYTES);
    if (m->first == NULL || high == NULL) return false;
    m->more[0] = high;
    m->separators[0] = between;
    m->more_count = 1;
    return true;
}

static bool make_root(making *m) {
    kwr_tree *t = m->t;
    if (m->more_count > 0) {
        if (t->head.height + 1 == KWR_TREE_LEVELS_MAX) return false;
        uint64_t words[3] = { kwr_tree_word(m->first) };
        kwr_tree_ref refs[3] = { { .value = (const uint8_t *)&words[0], .value_size = 8 } };
        for (uint32_t i = 0; i < m->more_count; i++) {
            words[i + 1] = kwr_tree_word(m->more[i]);
            refs[i + 1] = (kwr_tree_ref){ m->separators[i], (const uint8_t *)&words[i + 1], 8 };
        }
        kwr_tree_page *root = make(m, refs, m->more_count + 1, t->head.height + 1U, 1024);
        if (root == NULL) return false;
        m->first = root;
        t->head.height++;
    }
    t->head.root = (uint64_t)(uintptr_t)m->first;
    return true;
}

/* What was made takes the place of what is gone. */
static bool link_up(making *m, kwr_tree_path *path) {
    for (uint32_t level = path->height; level-- > 0;) {
        if (take_in(m, &path->steps[level])) return true;
        if (!make_inner(m, &path->steps[level])) return false;
    }
    return make_root(m);
}

static void zero_behind(uint8_t *to, size_t size, const kwr_element *old) {
    const size_t kept = old == NULL ? 0 : old->value_size < size ? old->value_size : size;
    if (kept > 0 && to != old->value) memcpy(to, old->value, kept);
    if (size > kept) memset(to + kept, 0, size - kept);
}

static kwr_status place_anew(kwr_tree *t, kwr_tree_path *path, kwr_slice key, size_t value_size,
                             bool found, uint8_t **out) {
    kwr_engine *e = t->e;
    kwr_tree_step *leaf = kwr_tree_leaf(path);
    making m = { .t = t };
    uint8_t *value = NULL;
    e->tree->count = 0;
    kwr_tree_gather(e->tree, leaf->page);
    const kwr_tree_ref ref = { key, NULL, (uint32_t)value_size };
    if (found)
        e->tree->refs[leaf->index] = ref;
    else
        kwr_tree_scratch_insert(e->tree, leaf->index, ref);
    bool good = make_leaves(&m, leaf->page, leaf->index, found, &value);
    const uint32_t leaves = m.more_count;
    if (!good || !link_up(&m, path)) {
        unmake(&m);
        return KWR_ERR_NOMEM;
    }
    t->head.leaves += leaves;
    for (uint32_t i = 0; i < m.gone_count; i++)
        kwr_store_retire(e, &m.gone[i]->block);
    *out = value;
    return KWR_OK;
}

/* The word above tells how many slots the leaf has, within an eighth. */
static void tell_count(const kwr_tree_path *path) {
    if (path->height == 0) return;
    const kwr_tree_page *leaf = path->steps[path->height].page;
    const kwr_tree_step *above = &path->steps[path->height - 1];
    const uint32_t told = kwr_tree_word_count(kwr_tree_child_word(above->page, above->index));
    const uint32_t apart = told > leaf->count ? told - leaf->count : leaf->count - told;
    if (apart > leaf->count / 8) kwr_tree_set_child(above->page, above->index, leaf);
}

/* Gives a page of the present its dead bytes back, in a block of the same size. */
static bool tidy(kwr_tree *t, kwr_tree_path *path, uint32_t level) {
    kwr_tree_page *page = path->steps[level].page;
    kwr_tree_scratch *s = t->e->tree;
    s->count = 0;
    kwr_tree_gather(s, page);
    kwr_tree_page *made = kwr_tree_build(t->e, s->refs, s->count, page->level, page->base);
    if (made == NULL) return false;
    relink(t, path, level, made);
    kwr_tree_store(t);
    kwr_store_retire(t->e, &page->block);
    return true;
}

kwr_status kwr_tree_place(kwr_tree *t, kwr_tree_path *path, kwr_slice key, size_t value_size,
                          bool found, bool keep, uint8_t **out) {
    kwr_tree_step *leaf = kwr_tree_leaf(path);
    kwr_element old = { 0 };
    if (found) {
        old = kwr_tree_element(leaf->page, leaf->index);
        if (old.value_size == value_size) {
            *out = old.value;
            return KWR_OK;
        }
    }
    const size_t bytes = kwr_element_size(key.size, value_size);
    const size_t need = bytes + (found ? 0 : KWR_TREE_SLOT);
    const kwr_tree_page *page = leaf->page;
    const bool big = bytes > KWR_TREE_ELEMENT_MAX || page->base > KWR_TREE_BYTES_MAX;
    if (!big && kwr_tree_gap(page) < need && page->dead >= page->base / 8 &&
        kwr_tree_gap(page) + page->dead >= need + need / 4)
        if (tidy(t, path, path->height) && found) old = kwr_tree_element(leaf->page, leaf->index);
    uint8_t *value;
    if (!big && kwr_tree_gap(leaf->page) >= need && leaf->page->count < KWR_TREE_COUNT_MAX - 8) {
        value = found ? kwr_tree_resize(leaf->page, leaf->index, value_size)
                      : kwr_tree_insert(leaf->page, leaf->index, key, value_size);
        if (!found) tell_count(path);
    } else {
        KWR_TRY(place_anew(t, path, key, value_size, found, &value));
    }
    if (keep) zero_behind(value, value_size, found ? &old : NULL);
    t->head.count += !found;
    t->head.bytes += value_size - (found ? old.value_size : 0) + (found ? 0 : key.size);
    kwr_tree_store(t);
    t->e->facts[t->state].stamp++;
    *out = value;
    return KWR_OK;
}

/* ---- removal ---- */

enum { MERGE_BELOW = KWR_TREE_BYTES / 4, MERGED_MAX = KWR_TREE_BYTES * 7 / 10 };

/* Two neighbours below one page become one, when they fill little of it. */
static bool merge(kwr_tree *t, kwr_tree_step *parent, uint32_t low) {
    kwr_tree_page *a = kwr_tree_child(parent->page, low);
    kwr_tree_page *b = kwr_tree_child(parent->page, low + 1);
    if (kwr_tree_live_bytes(a) + kwr_tree_live_bytes(b) > MERGED_MAX) return false;
    kwr_tree_scratch *s = t->e->tree;
    s->count = 0;
    kwr_tree_gather(s, a);
    const uint32_t border = s->count;
    kwr_tree_gather(s, b);
    if (b->level > 0) s->refs[border].key = key_at(parent->page, low + 1);
    const size_t bytes = kwr_tree_refs_bytes(s->refs, s->count);
    if (bytes > KWR_TREE_BYTES) return false;
    kwr_tree_page *page = kwr_tree_build(t->e, s->refs, s->count, a->level, bytes + bytes / 4);
    if (page == NULL) return false;
    kwr_tree_set_child(parent->page, low, page);
    kwr_tree_drop(parent->page, low + 1);
    if (page->level == 0) t->head.leaves--;
    kwr_store_retire(t->e, &a->block);
    kwr_store_retire(t->e, &b->block);
    return true;
}

/* Gives memory back that many removals left in one page. */
static void shrink(kwr_tree *t, kwr_tree_path *path, uint32_t level) {
    kwr_tree_page *page = path->steps[level].page;
    const size_t live = kwr_tree_live_bytes(page);
    if (page->base < 1024 || live > page->base / 4) return;
    kwr_tree_scratch *s = t->e->tree;
    s->count = 0;
    kwr_tree_gather(s, page);
    kwr_tree_page *made = kwr_tree_build(t->e, s->refs, s->count, page->level, live + live / 2);
    if (made == NULL) return;
    relink(t, path, level, made);
    kwr_store_retire(t->e, &page->block);
}

/* The page at `level` lost something. True: the page above lost something too. */
static bool after_loss(kwr_tree *t, kwr_tree_path *path, uint32_t level) {
    kwr_tree_page *page = path->steps[level].page;
    kwr_tree_step *parent = &path->steps[level - 1];
    if (page->count == 0) {
        kwr_tree_drop(parent->page, parent->index);
        if (page->level == 0) t->head.leaves--;
        kwr_store_retire(t->e, &page->block);
        return true;
    }
    if (kwr_tree_live_bytes(page) >= MERGE_BELOW) return false;
    if (parent->index > 0 && merge(t, parent, parent->index - 1)) return true;
    if (parent->index + 1 < parent->page->count && merge(t, parent, parent->index)) return true;
    shrink(t, path, level);
    return false;
}

void kwr_tree_take_out(kwr_tree *t, kwr_tree_path *path) {
    kwr_tree_step *leaf = kwr_tree_leaf(path);
    const kwr_element x = kwr_tree_element(leaf->page, leaf->index);
    t->head.count--;
    t->head.bytes -= (uint64_t)x.key_size + x.value_size;
    kwr_tree_drop(leaf->page, leaf->index);
    uint32_t level = path->height;
    while (level > 0 && after_loss(t, path, level))
        level--;
    if (path->height == 0) shrink(t, path, 0);
    for (kwr_tree_page *root; t->head.height > 0 && (root = root_of(&t->head))->count == 1;) {
        t->head.root = (uint64_t)(uintptr_t)kwr_tree_child(root, 0);
        t->head.height--;
        kwr_store_retire(t->e, &root->block);
    }
    kwr_tree_store(t);
    t->e->facts[t->state].stamp++;
}

/* ---- whole trees ---- */

void kwr_tree_retire(kwr_engine *e, kwr_tree_page *root) {
    root->block.whole = root->level > 0;
    kwr_store_retire(e, &root->block);
}
