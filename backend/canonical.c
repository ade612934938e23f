/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order is that of the sorted engines' stored keys, so that they are written as they are read.
 * Of the others the entries of one state and key group are gathered and their places sorted; the
 * elements of a collection come in order from every engine and stay together.
 */
#include "backend/canonical.h"

#include "backend/entries_image.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"

/* Neither varint begins the other, so the first difference decides. */
static int compare_part(kwr_slice a, kwr_slice b) {
    uint8_t size_a[KWR_VARINT32_MAX] = { 0 }, size_b[KWR_VARINT32_MAX] = { 0 };
    if (a.size == b.size) return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
    (void)kwr_put_varint32(size_a, (uint32_t)a.size);
    (void)kwr_put_varint32(size_b, (uint32_t)b.size);
    return memcmp(size_a, size_b, sizeof size_a);
}

int kwr_canonical_compare(kwr_slice key_a, kwr_slice name_a, kwr_slice key_b, kwr_slice name_b) {
    const int by_key = compare_part(key_a, key_b);
    return by_key != 0 ? by_key : compare_part(name_a, name_b);
}

/* An entry with all its elements, at `offset` of the gathered bytes: key, namespace, elements. */
typedef struct place {
    size_t offset;
    uint32_t key_size;
    uint32_t name_size;
    uint64_t elements;
} place;

typedef struct gathering {
    const kwr_env *env;
    bool collection;
    kwr_buffer bytes;
    place *places;
    size_t count;
    size_t capacity;
} gathering;

static kwr_slice key_of(const gathering *g, const place *p) {
    return (kwr_slice){ g->bytes.data + p->offset, p->key_size };
}

static kwr_slice name_of(const gathering *g, const place *p) {
    return (kwr_slice){ g->bytes.data + p->offset + p->key_size, p->name_size };
}

static bool same(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void put_sized(kwr_buffer *out, kwr_slice slice) {
    uint8_t size[KWR_VARINT32_MAX];
    kwr_buffer_append(out, size, kwr_put_varint32(size, (uint32_t)slice.size));
    if (slice.size > 0) kwr_buffer_append(out, slice.data, slice.size);
}

static kwr_status gather(void *ctx, const kwr_entry *entry) {
    gathering *g = ctx;
    place *last = g->count == 0 ? NULL : &g->places[g->count - 1];
    if (!g->collection || last == NULL || !same(key_of(g, last), entry->key) ||
        !same(name_of(g, last), entry->name)) {
        void *items = g->places;
        if (!kwr_grow_array(g->env, &items, &g->capacity, g->count + 1, sizeof *g->places))
            return KWR_ERR_NOMEM;
        g->places = items;
        last = &g->places[g->count++];
        *last = (place){ .offset = g->bytes.size,
                         .key_size = (uint32_t)entry->key.size,
                         .name_size = (uint32_t)entry->name.size };
        if (entry->key.size > 0) kwr_buffer_append(&g->bytes, entry->key.data, entry->key.size);
        if (entry->name.size > 0) kwr_buffer_append(&g->bytes, entry->name.data, entry->name.size);
    }
    last->elements++;
    put_sized(&g->bytes, entry->subkey);
    put_sized(&g->bytes, entry->value);
    return g->bytes.failed ? KWR_ERR_NOMEM : KWR_OK;
}

static bool before(const gathering *g, const place *a, const place *b) {
    return kwr_canonical_compare(key_of(g, a), name_of(g, a), key_of(g, b), name_of(g, b)) < 0;
}

/* Places [0, end) are a heap, but for the one at `at`. */
static void sift(gathering *g, size_t at, size_t end) {
    const place moved = g->places[at];
    for (size_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
        if (child + 1 < end && before(g, &g->places[child], &g->places[child + 1])) child++;
        if (!before(g, &moved, &g->places[child])) break;
        g->places[at] = g->places[child];
        at = child;
    }
    g->places[at] = moved;
}

static void sort(gathering *g) {
    for (size_t i = g->count / 2; i-- > 0;)
        sift(g, i, g->count);
    for (size_t end = g->count; end-- > 1;) {
        const place last = g->places[end];
        g->places[end] = g->places[0];
        g->places[0] = last;
        sift(g, 0, end);
    }
}

static kwr_slice take_sized(kwr_cursor *c) {
    const uint32_t size = kwr_cursor_varint32(c);
    return (kwr_slice){ kwr_cursor_take(c, size), size };
}

static kwr_status add_gathered(const gathering *g, uint32_t state, uint32_t key_group,
                               kwr_entries_writer *w) {
    for (size_t i = 0; i < g->count; i++) {
        const place *p = &g->places[i];
        kwr_entry entry = {
            .state = state, .key_group = key_group, .key = key_of(g, p), .name = name_of(g, p)
        };
        kwr_cursor c = kwr_cursor_of(g->bytes.data, g->bytes.size);
        c.at = p->offset + p->key_size + p->name_size;
        for (uint64_t j = 0; j < p->elements; j++) {
            entry.subkey = take_sized(&c);
            entry.value = take_sized(&c);
            KWR_TRY(kwr_entries_add(w, &entry));
        }
    }
    return KWR_OK;
}

static kwr_status add_entry(void *ctx, const kwr_entry *entry) {
    return kwr_entries_add(ctx, entry);
}

static kwr_status add_sorted(const kwr_view *view, uint32_t state, uint32_t key_group,
                             kwr_entries_writer *w) {
    gathering g = { .env = view->env, .bytes = { .env = view->env }, .collection = w->collection };
    kwr_status status = view->ops->view_walk(view->engine_view, state, key_group, gather, &g);
    if (status >= KWR_OK) {
        sort(&g);
        status = add_gathered(&g, state, key_group, w);
    }
    kwr_buffer_free(&g.bytes);
    kwr_free(view->env, g.places, g.capacity * sizeof *g.places);
    return status;
}

kwr_status kwr_canonical_images(const kwr_view *view, uint32_t key_group, kwr_page_sink *sink) {
    uint64_t next_id = kwr_entries_first_id(key_group);
    for (size_t i = 0; i < view->table->count; i++) {
        const kwr_state_info *info = &view->table->states[i];
        kwr_entries_writer w;
        kwr_entries_begin(&w, view->env, sink, &next_id, info->id, key_group,
                          kwr_state_is_collection(info->kind));
        kwr_status status =
            view->ops->walks_in_order
                ? view->ops->view_walk(view->engine_view, info->id, key_group, add_entry, &w)
                : add_sorted(view, info->id, key_group, &w);
        if (status >= KWR_OK) status = kwr_entries_end(&w);
        kwr_entries_free(&w);
        if (status < KWR_OK) return status;
    }
    return KWR_OK;
}
