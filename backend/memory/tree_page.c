/* SPDX-License-Identifier: Apache-2.0 */
/* One tree page: search, changes in place, and pages made anew. See tree.h. */
#include "backend/memory/tree.h"

static uint32_t head_of(kwr_slice key, size_t prefix) {
    const uint8_t *p = (const uint8_t *)key.data + prefix;
    const size_t left = key.size - prefix;
    if (KWR_LIKELY(left >= 4)) return kwr_get_be32(p);
    uint32_t head = 0;
    for (size_t i = 0; i < left; i++)
        head |= (uint32_t)p[i] << (24 - 8 * i);
    return head;
}

static size_t common_prefix(kwr_slice a, kwr_slice b) {
    const uint8_t *p = a.data, *q = b.data;
    const size_t most = a.size < b.size ? a.size : b.size;
    size_t i = 0;
    while (i < most && p[i] == q[i])
        i++;
    return i;
}

static kwr_slice key_of(const kwr_tree_page *page, uint32_t i) {
    const kwr_element x = kwr_tree_element(page, i);
    return kwr_element_key(&x);
}

/* ---- search ---- */

/* Slots [low, high) have equal heads: tells them apart by all their bytes. */
static uint32_t search_bytes(const kwr_tree_page *page, kwr_slice key, uint32_t low, uint32_t high,
                             bool *equal) {
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = kwr_subkey_compare(key_of(page, middle), key);
        if (order == 0) {
            *equal = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first of slots [low, high) whose head is not below `head`. Without branches to mispredict. */
static uint32_t search_heads(const kwr_tree_page *page, uint32_t low, uint32_t high,
                             uint64_t head) {
    const kwr_tree_slot *at = page->slots + low;
    uint32_t left = high - low;
    while (left > 1) {
        const uint32_t half = left / 2;
        at = at[half - 1].head < head ? at + half : at;
        left -= half;
    }
    return (uint32_t)(at - page->slots) + (left == 1 && at->head < head);
}

enum { GUESS_FROM = 32, GUESS_STEP = 8 };

/*
 * The same over all slots that are compared. Most subkeys are about evenly spread within a page, so
 * the search begins where the head would be then and widens from there: in a page that no cache
 * holds, each place looked at is a wait.
 */
static uint32_t search_all_heads(const kwr_tree_page *page, uint32_t head) {
    const uint32_t first = kwr_tree_low(page), count = page->count;
    if (count - first < GUESS_FROM) return search_heads(page, first, count, head);
    if (head <= page->first_head) return first;
    if (head > page->last_head) return count;
    /* From here on the head of `low` is below, that of `high` is not. */
    uint32_t low = first, high = count - 1, step = GUESS_STEP;
    const uint32_t guess = first + (uint32_t)((uint64_t)(head - page->first_head) * (high - first) /
                                              (page->last_head - page->first_head));
    if (page->slots[guess].head < head) {
        for (low = guess; high - low > step && page->slots[low + step].head < head; step *= 2)
            low += step;
        if (high - low > step) high = low + step;
    } else {
        for (high = guess; high - low > step && page->slots[high - step].head >= head; step *= 2)
            high -= step;
        if (high - low > step) low = high - step;
    }
    return search_heads(page, low + 1, high, head);
}

/*
 * A search of a leaf that no cache holds would wait three times: for the header, for the slots and
 * for the record. The separators beside the child's word and the number of slots in it tell well
 * enough which slots those will be, so the first two waits become one.
 */
kwr_tree_page *kwr_tree_enter(const kwr_tree_page *page, uint32_t i, kwr_slice key) {
    const uint64_t word = kwr_tree_child_word(page, i);
    kwr_tree_page *child = kwr_tree_word_child(word);
    __builtin_prefetch(child);
    const uint32_t count = kwr_tree_word_count(word);
    if (page->level > 1 || count < GUESS_FROM || key.size < page->prefix) {
        __builtin_prefetch((const uint8_t *)child + 64);
        return child;
    }
    const uint32_t head = head_of(key, page->prefix), low = page->slots[i].head;
    const uint32_t high = i + 1 < page->count ? page->slots[i + 1].head : UINT32_MAX;
    if (head < low || head >= high) return child;
    const kwr_tree_slot *at = &child->slots[(uint64_t)(head - low) * count / (high - low)];
    __builtin_prefetch(at);
    __builtin_prefetch(at - GUESS_STEP);
    __builtin_prefetch(at + GUESS_STEP);
    return child;
}

uint32_t kwr_tree_search(const kwr_tree_page *page, kwr_slice key, bool *equal) {
    const uint32_t low = kwr_tree_low(page), count = page->count;
    *equal = false;
    if (low >= count) return count;
    uint32_t head = 0, i = count;
    if (key.size >= page->prefix) {
        head = head_of(key, page->prefix);
        i = search_all_heads(page, head);
        /* Most keys looked for in a leaf are there, and then the record says so about the prefix
         * too: the first one's need not be waited for. */
        if (page->level == 0 && i < count && page->slots[i].head == head &&
            kwr_subkey_compare(key_of(page, i), key) == 0) {
            *equal = true;
            return i;
        }
    }
    if (page->prefix > 0) {
        const uint8_t *prefix = kwr_tree_element(page, low).key;
        const size_t common = key.size < page->prefix ? key.size : page->prefix;
        const int order = common == 0 ? 0 : memcmp(key.data, prefix, common);
        if (order < 0 || (order == 0 && common < page->prefix)) return low;
        if (order > 0) return count;
    }
    if (i == count || page->slots[i].head != head) return i;
    const int order = kwr_subkey_compare(key_of(page, i), key);
    *equal = order == 0;
    if (order >= 0) return i;
    if (i + 1 == count || page->slots[i + 1].head != head) return i + 1;
    return search_bytes(page, key, i + 1, search_heads(page, i + 1, count, (uint64_t)head + 1),
                        equal);
}

/* ---- changes in place ---- */

static void set_edges(kwr_tree_page *page) {
    if (page->count <= kwr_tree_low(page)) return;
    page->first_head = page->slots[kwr_tree_low(page)].head;
    page->last_head = page->slots[page->count - 1].head;
}

static void set_heads(kwr_tree_page *page) {
    for (uint32_t i = kwr_tree_low(page); i < page->count; i++)
        page->slots[i].head = head_of(key_of(page, i), page->prefix);
    set_edges(page);
}

/* `key` is about to join the page. */
static void admit(kwr_tree_page *page, kwr_slice key) {
    const uint32_t low = kwr_tree_low(page);
    if (page->count <= low) {
        page->prefix = (uint32_t)key.size;
        return;
    }
    kwr_slice shared = key_of(page, low);
    shared.size = page->prefix;
    const size_t common = common_prefix(shared, key);
    if (common == page->prefix) return;
    page->prefix = (uint32_t)common;
    set_heads(page);
}

uint8_t *kwr_tree_insert(kwr_tree_page *page, uint32_t i, kwr_slice key, size_t value_size) {
    const size_t bytes = kwr_element_size(key.size, value_size);
    KWR_INVARIANT(9, kwr_tree_gap(page) >= bytes + KWR_TREE_SLOT && i >= kwr_tree_low(page));
    admit(page, key);
    memmove(&page->slots[i + 1], &page->slots[i], (page->count - i) * sizeof(kwr_tree_slot));
    page->heap += (uint32_t)bytes;
    page->slots[i] = (kwr_tree_slot){ .head = head_of(key, page->prefix), .off = page->heap };
    page->count++;
    set_edges(page);
    return kwr_element_write((uint8_t *)kwr_tree_record(page, i), key, value_size);
}

uint8_t *kwr_tree_resize(kwr_tree_page *page, uint32_t i, size_t value_size) {
    const kwr_element old = kwr_tree_element(page, i);
    const size_t bytes = kwr_element_size(old.key_size, value_size);
    KWR_INVARIANT(9, kwr_tree_gap(page) >= bytes);
    page->dead += (uint32_t)kwr_element_size(old.key_size, old.value_size);
    page->heap += (uint32_t)bytes;
    page->slots[i].off = page->heap;
    return kwr_element_write((uint8_t *)kwr_tree_record(page, i), kwr_element_key(&old),
                             value_size);
}

void kwr_tree_drop(kwr_tree_page *page, uint32_t i) {
    const kwr_element x = kwr_tree_element(page, i);
    const uint32_t bytes = (uint32_t)kwr_element_size(x.key_size, x.value_size);
    if (page->slots[i].off == page->heap)
        page->heap -= bytes;
    else
        page->dead += bytes;
    page->count--;
    memmove(&page->slots[i], &page->slots[i + 1], (page->count - i) * sizeof(kwr_tree_slot));
    set_edges(page);
}

/* ---- pages made anew ---- */

void kwr_tree_fill_begin(kwr_tree_page *page, size_t bytes, unsigned level, size_t record_bytes) {
    page->count = 0;
    page->base = (uint32_t)bytes;
    page->heap = (uint32_t)record_bytes;
    page->dead = 0;
    page->prefix = 0;
    page->level = (uint8_t)level;
    memset(page->zero, 0, sizeof page->zero);
    page->first_head = page->last_head = 0;
}

/* While a page is filled, `dead` is what is still to come. */
uint8_t *kwr_tree_fill_add(kwr_tree_page *page, kwr_slice key, size_t value_size) {
    uint8_t *record = (uint8_t *)page + page->base - page->heap + page->dead;
    page->slots[page->count++].off = page->heap - page->dead;
    page->dead += (uint32_t)kwr_element_size(key.size, value_size);
    return kwr_element_write(record, key, value_size);
}

void kwr_tree_fill_end(kwr_tree_page *page) {
    const uint32_t low = kwr_tree_low(page);
    KWR_INVARIANT(9, page->dead == page->heap);
    page->dead = 0;
    if (low > 0) page->slots[0].head = 0;
    if (page->count > low)
        page->prefix = (uint32_t)common_prefix(key_of(page, low), key_of(page, page->count - 1));
    set_heads(page);
}

void kwr_tree_gather(kwr_tree_scratch *s, const kwr_tree_page *page) {
    for (uint32_t i = 0; i < page->count; i++) {
        const kwr_element x = kwr_tree_element(page, i);
        s->refs[s->count++] = (kwr_tree_ref){ kwr_element_key(&x), x.value, x.value_size };
    }
}

void kwr_tree_scratch_insert(kwr_tree_scratch *s, uint32_t i, kwr_tree_ref ref) {
    memmove(&s->refs[i + 1], &s->refs[i], (s->count - i) * sizeof ref);
    s->refs[i] = ref;
    s->count++;
}

size_t kwr_tree_refs_bytes(const kwr_tree_ref *refs, uint32_t count) {
    size_t bytes = sizeof(kwr_tree_page) + (size_t)count * KWR_TREE_SLOT;
    for (uint32_t i = 0; i < count; i++)
        bytes += kwr_element_size(refs[i].key.size, refs[i].value_size);
    return bytes;
}

/* A block for `bytes`, base set. What the arena gives beyond is room too. */
static kwr_tree_page *page_block(kwr_engine *e, size_t bytes, size_t room) {
    if (bytes > UINT32_MAX) return NULL;
    if (room > KWR_TREE_BYTES) room = KWR_TREE_BYTES;
    kwr_tree_page *page =
        (kwr_tree_page *)kwr_store_alloc(e, bytes > room ? bytes : room, KWR_BLOCK_TREE);
    if (page == NULL) return NULL;
    size_t base = kwr_block_bytes(&page->block);
    if (base > KWR_TREE_BYTES_MAX && bytes <= KWR_TREE_BYTES_MAX) base = KWR_TREE_BYTES_MAX;
    if (base > UINT32_MAX) base = bytes;
    page->base = (uint32_t)base;
    page->id = e->page_ids++;
    return page;
}

kwr_tree_page *kwr_tree_build(kwr_engine *e, const kwr_tree_ref *refs, uint32_t count,
                              unsigned level, size_t room) {
    const size_t bytes = kwr_tree_refs_bytes(refs, count);
    kwr_tree_page *page = page_block(e, bytes, room);
    if (page == NULL) return NULL;
    kwr_tree_fill_begin(page, page->base, level,
                        bytes - sizeof *page - (size_t)count * KWR_TREE_SLOT);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *value = kwr_tree_fill_add(page, refs[i].key, refs[i].value_size);
        if (refs[i].value != NULL && refs[i].value_size > 0)
            memcpy(value, refs[i].value, refs[i].value_size);
    }
    kwr_tree_fill_end(page);
    return page;
}

kwr_tree_page *kwr_tree_copy(kwr_engine *e, const kwr_tree_page *page) {
    kwr_block *block = kwr_store_alloc(e, kwr_block_bytes(&page->block), KWR_BLOCK_TREE);
    if (block == NULL) return NULL;
    kwr_tree_page *copy = (kwr_tree_page *)block;
    const size_t front = sizeof *page + (size_t)page->count * KWR_TREE_SLOT;
    memcpy((uint8_t *)copy + sizeof *block, (const uint8_t *)page + sizeof *block,
           front - sizeof *block);
    memcpy((uint8_t *)copy + page->base - page->heap,
           (const uint8_t *)page + page->base - page->heap, page->heap);
    return copy;
}
