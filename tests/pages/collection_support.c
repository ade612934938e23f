/* SPDX-License-Identifier: Apache-2.0 */
/* See collection_test.h. */
#include "tests/pages/collection_test.h"

static void *copy_bytes(const void *bytes, size_t size) {
    void *copy = malloc(size + 1);
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

shelf *shelf_new(void) { return calloc(1, sizeof(shelf)); }

void collection_clear(collection *c) {
    for (size_t i = 0; i < c->count; i++) {
        free(c->elements[i].key);
        free(c->elements[i].value);
    }
    c->count = 0;
}

void shelf_free(shelf *s) {
    for (size_t i = 0; i < s->count; i++) {
        collection_clear(&s->items[i]);
        free(s->items[i].elements);
        free(s->items[i].key);
        free(s->items[i].name);
    }
    free(s->items);
    free(s);
}

static collection *shelf_add(shelf *s, const collection *like) {
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 16 : s->capacity * 2;
        s->items = realloc(s->items, s->capacity * sizeof *s->items);
    }
    collection *c = &s->items[s->count++];
    *c = *like;
    c->key = copy_bytes(like->key, like->key_size);
    c->name = copy_bytes(like->name, like->name_size);
    c->elements = NULL;
    c->count = c->capacity = 0;
    return c;
}

shelf *shelf_copy(const shelf *s) {
    shelf *copy = shelf_new();
    for (size_t i = 0; i < s->count; i++) {
        const collection *from = &s->items[i];
        collection *c = shelf_add(copy, from);
        c->elements = malloc((from->count + 1) * sizeof *c->elements);
        c->count = c->capacity = from->count;
        for (size_t k = 0; k < c->count; k++) {
            c->elements[k] = from->elements[k];
            c->elements[k].key = copy_bytes(from->elements[k].key, from->elements[k].key_size);
            c->elements[k].value =
                copy_bytes(from->elements[k].value, from->elements[k].value_size);
        }
    }
    return copy;
}

static bool same(const void *a, size_t a_size, kwr_slice b) {
    return a_size == b.size && (a_size == 0 || memcmp(a, b.data, a_size) == 0);
}

collection *shelf_at(shelf *s, const kwr_address *at) {
    for (size_t i = 0; i < s->count; i++) {
        collection *c = &s->items[i];
        if (c->state == at->state && c->key_group == at->key_group &&
            same(c->key, c->key_size, at->key) && same(c->name, c->name_size, at->name))
            return c;
    }
    const collection like = {
        .state = at->state,
        .key_group = at->key_group,
        .key = (uint8_t *)at->key.data,
        .key_size = at->key.size,
        .name = (uint8_t *)at->name.data,
        .name_size = at->name.size,
    };
    return shelf_add(s, &like);
}

size_t collection_find(const collection *c, kwr_slice key, bool *found) {
    size_t low = 0, high = c->count;
    *found = false;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const element *x = &c->elements[middle];
        const size_t common = x->key_size < key.size ? x->key_size : key.size;
        int order = common == 0 ? 0 : memcmp(x->key, key.data, common);
        if (order == 0) order = x->key_size < key.size ? -1 : x->key_size > key.size;
        if (order == 0) *found = true;
        if (order >= 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

element *collection_put(collection *c, kwr_slice key, const void *value, size_t size) {
    bool found;
    const size_t i = collection_find(c, key, &found);
    if (!found) {
        if (c->count == c->capacity) {
            c->capacity = c->capacity == 0 ? 16 : c->capacity * 2;
            c->elements = realloc(c->elements, c->capacity * sizeof *c->elements);
        }
        memmove(&c->elements[i + 1], &c->elements[i], (c->count++ - i) * sizeof *c->elements);
        c->elements[i] = (element){ .key = copy_bytes(key.data, key.size), .key_size = key.size };
    }
    element *x = &c->elements[i];
    void *copy = copy_bytes(value, size);
    free(x->value);
    x->value = copy;
    x->value_size = size;
    return x;
}

void collection_take_out(collection *c, size_t i) {
    free(c->elements[i].key);
    free(c->elements[i].value);
    memmove(&c->elements[i], &c->elements[i + 1], (--c->count - i) * sizeof *c->elements);
}

kwr_address collection_address(const store *s, const collection *c) {
    kwr_address at = store_address(s, c->state, (kwr_slice){ c->key, c->key_size },
                                   (kwr_slice){ c->name, c->name_size });
    at.key_group = c->key_group;
    return at;
}

/* ---- expectations ---- */

static void expect_element(const element *x, kwr_slice key, kwr_slice value) {
    cr_assert(same(x->key, x->key_size, key), "another subkey");
    cr_assert(same(x->value, x->value_size, value), "another value");
}

static void expect_collection(const collection *c, const store *s, kwr_engine *engine) {
    const kwr_address at = collection_address(s, c);
    uint64_t count = 77;
    kwr_slice key = { 0 }, value = { 0 };
    KWR_MUST(s->ops->sub_count(engine, &at, &count));
    cr_assert(count == c->count);
    kwr_engine_hint hint = { 0 };
    kwr_status status = s->ops->sub_seek(engine, &at, KWR_SEEK_FIRST, key, &hint, &key, &value);
    for (size_t i = 0; i < c->count; i++) {
        KWR_MUST(status);
        expect_element(&c->elements[i], key, value);
        status = s->ops->sub_seek(engine, &at, KWR_SEEK_ABOVE, key, &hint, &key, &value);
    }
    KWR_EXPECT(KWR_NOT_FOUND, status);
    status = s->ops->sub_seek(engine, &at, KWR_SEEK_LAST, key, &hint, &key, &value);
    for (size_t i = c->count; i-- > 0;) {
        KWR_MUST(status);
        expect_element(&c->elements[i], key, value);
        kwr_slice got;
        KWR_MUST(s->ops->sub_get(engine, &at, key, &got));
        cr_assert(got.data == value.data && got.size == value.size);
        status = s->ops->sub_seek(engine, &at, KWR_SEEK_BELOW, key, i % 2 == 0 ? &hint : NULL, &key,
                                  &value);
    }
    KWR_EXPECT(KWR_NOT_FOUND, status);
}

void shelf_expect(shelf *m, const store *s, kwr_engine *engine) {
    uint64_t entries = 0;
    for (size_t i = 0; i < m->count; i++) {
        expect_collection(&m->items[i], s, engine);
        entries += m->items[i].count > 0;
    }
    kwr_backend_stats stats = { 0 };
    s->ops->stats(engine, &stats);
    cr_assert(stats.entries == entries);
}

typedef struct watching {
    shelf *m;
    uint64_t elements, bytes;
} watching;

static kwr_status watch(void *ctx, const kwr_entry *entry) {
    watching *w = ctx;
    const kwr_address at = {
        .state = entry->state, .key_group = entry->key_group, .key = entry->key, .name = entry->name
    };
    collection *c = shelf_at(w->m, &at);
    cr_assert(c->seen < c->count, "more elements than there should be");
    expect_element(&c->elements[c->seen++], entry->subkey, entry->value);
    w->elements++;
    w->bytes += entry->subkey.size + entry->value.size;
    return KWR_OK;
}

void shelf_expect_view(shelf *m, const store *s, kwr_engine_view *view) {
    for (size_t i = 0; i < m->count; i++)
        m->items[i].seen = 0;
    for (uint32_t state = 0; state < s->states; state++) {
        watching w = { .m = m };
        for (uint32_t g = 0; g < s->config.key_groups.count; g++)
            KWR_MUST(s->ops->view_walk(view, state, s->config.key_groups.first + g, watch, &w));
        uint64_t entries = 0;
        for (size_t i = 0; i < m->count; i++) {
            const collection *c = &m->items[i];
            if (c->state != state) continue;
            cr_assert(c->seen == c->count, "elements are missing");
            if (c->count == 0) continue;
            entries++;
            w.bytes += c->key_size + c->name_size;
        }
        kwr_state_count count = { 1, 1, 1 };
        KWR_MUST(s->ops->view_count(view, state, &count));
        cr_assert(count.entries == entries);
        cr_assert(count.elements == w.elements);
        cr_assert(count.entry_bytes == w.bytes);
    }
}

static kwr_status find_element(void *ctx, const kwr_entry *entry) {
    watching *w = ctx;
    const kwr_address at = {
        .state = entry->state, .key_group = entry->key_group, .key = entry->key, .name = entry->name
    };
    const collection *c = shelf_at(w->m, &at);
    bool found;
    const size_t i = collection_find(c, entry->subkey, &found);
    cr_assert(found);
    expect_element(&c->elements[i], entry->subkey, entry->value);
    w->elements++;
    return KWR_OK;
}

void shelf_expect_images(shelf *m, const images *im) {
    watching w = { .m = m };
    uint64_t entries = 0, elements = 0, stated = 0;
    kwr_error err;
    for (size_t i = 0; i < im->count; i++) {
        KWR_MUST_ERR(kwr_page_image_walk(&im->items[i], find_element, &w, &err), err);
        stated += im->items[i].entries;
        for (size_t k = 0; k < i; k++)
            cr_assert(im->items[i].page_id != im->items[k].page_id);
    }
    for (size_t i = 0; i < m->count; i++) {
        entries += m->items[i].count > 0;
        elements += m->items[i].count;
    }
    cr_assert(w.elements == elements);
    cr_assert(stated == entries);
}
