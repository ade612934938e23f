/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stubs in frozen views, on any thread: their images are read through the source and walked as they
 * are, or passed on to a snapshot that wants them written; nothing becomes resident.
 */
#include "backend/memory/lazy.h"
#include "backend/memory/tree.h"
#include "base/log.h"

/* ---- entries ---- */

/* A leaf, and where its collection's elements begin. */
typedef struct leaf_place {
    const kwr_page_image *image;
    kwr_leaf_image leaf;
    kwr_slice first;
} leaf_place;

static int compare(const leaf_place *a, const leaf_place *b) {
    if (a->image->prefix != b->image->prefix) return a->image->prefix < b->image->prefix ? -1 : 1;
    int order = kwr_subkey_compare(a->leaf.key, b->leaf.key);
    if (order == 0) order = kwr_subkey_compare(a->leaf.name, b->leaf.name);
    return order != 0 ? order : kwr_subkey_compare(a->first, b->first);
}

static void sift(leaf_place *items, size_t at, size_t end) {
    const leaf_place moved = items[at];
    for (size_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
        if (child + 1 < end && compare(&items[child], &items[child + 1]) < 0) child++;
        if (compare(&moved, &items[child]) >= 0) break;
        items[at] = items[child];
        at = child;
    }
    items[at] = moved;
}

static void sort(leaf_place *items, size_t count) {
    for (size_t i = count / 2; i-- > 0;)
        sift(items, i, count);
    for (size_t end = count; end-- > 1;) {
        const leaf_place last = items[end];
        items[end] = items[0];
        items[0] = last;
        sift(items, 0, end);
    }
}

static bool is_leaf(const kwr_page_image *image) {
    kwr_tree_image header;
    return image->kind == KWR_PAGE_TREE &&
           kwr_tree_image_check(image->bytes, image->size, &header, NULL) == KWR_OK &&
           header.form == KWR_TREE_IMAGE_LEAF;
}

/* Elements of each collection together, in order. */
static kwr_status walk_leaves(const kwr_loaded *l, kwr_entry_fn fn, void *fn_ctx, kwr_error *err) {
    size_t count = 0;
    for (size_t i = 0; i < l->count; i++)
        count += is_leaf(&l->images[i]);
    if (count == 0) return KWR_OK;
    leaf_place *places = kwr_alloc_array(l->env, count, sizeof *places);
    if (places == NULL) return KWR_ERR_NOMEM;
    kwr_status status = KWR_OK;
    size_t at = 0;
    for (size_t i = 0; i < l->count && status == KWR_OK; i++) {
        if (!is_leaf(&l->images[i])) continue;
        leaf_place *p = &places[at++];
        p->image = &l->images[i];
        status = kwr_leaf_image_check(p->image->bytes, p->image->size, NULL, &p->leaf, err);
        if (status != KWR_OK) break;
        const kwr_element x = kwr_element_at(p->leaf.elements);
        p->first = kwr_element_key(&x);
    }
    if (status == KWR_OK) sort(places, count);
    for (size_t i = 0; i < count && status == KWR_OK; i++)
        status = kwr_page_image_walk(places[i].image, fn, fn_ctx, err);
    kwr_free(l->env, places, count * sizeof *places);
    return status;
}

static kwr_status told(const kwr_lazy *lazy, kwr_status status, const kwr_error *err) {
    if (status < KWR_OK && err->text[0] != '\0')
        kwr_log_line(lazy->e->env, KWR_LOG_ERROR, "page store", "a view cannot be read: %s",
                     err->text);
    return status;
}

kwr_status kwr_lazy_walk(const kwr_lazy *lazy, kwr_word stub, kwr_entry_fn fn, void *fn_ctx) {
    kwr_error err = { 0 };
    kwr_loaded *l = kwr_loaded_new(lazy->e->env);
    if (l == NULL) return KWR_ERR_NOMEM;
    kwr_status status = kwr_loaded_read(l, lazy, kwr_stub_unit(stub), 1, false, &err);
    for (size_t i = 0; i < l->count && status == KWR_OK; i++)
        if (!is_leaf(&l->images[i])) status = kwr_page_image_walk(&l->images[i], fn, fn_ctx, &err);
    if (status == KWR_OK) status = walk_leaves(l, fn, fn_ctx, &err);
    kwr_loaded_free(l);
    return told(lazy, status, &err);
}

/* ---- images ---- */

typedef struct passing {
    kwr_page_sink *sink;
    kwr_status status;
} passing;

static kwr_status pass(void *ctx, const kwr_page_image *image) {
    passing *p = ctx;
    return p->status = p->sink->image(p->sink->ctx, image);
}

static kwr_status pass_run(const kwr_lazy *lazy, uint32_t first, uint32_t count,
                           kwr_page_sink *sink) {
    passing p = { .sink = sink };
    kwr_error err = { 0 };
    const kwr_status status =
        lazy->source.load(lazy->source.ctx, first, count, false, pass, &p, &err);
    /* What the sink refuses it explains itself. */
    if (p.status == KWR_OK && status < KWR_OK && sink->err != NULL) *sink->err = err;
    return p.status != KWR_OK ? p.status : told(lazy, status, &err);
}

static kwr_status ignore(void *ctx, const kwr_page_image *image) {
    (void)ctx, (void)image;
    return KWR_OK;
}

/* What was found damaged is not referred to: that would make a checkpoint that cannot be read. */
static kwr_status check_damaged(const kwr_lazy *lazy, uint32_t unit, kwr_page_sink *sink) {
    if ((kwr_unit_state(lazy, unit) & KWR_UNIT_DAMAGED) == 0) return KWR_OK;
    kwr_page_sink nowhere = { .image = ignore, .err = sink->err };
    return pass_run(lazy, lazy->firsts[unit], lazy->firsts[unit + 1] - lazy->firsts[unit],
                    &nowhere);
}

kwr_status kwr_lazy_images(const kwr_lazy *lazy, kwr_word stub, kwr_page_sink *sink) {
    const uint32_t unit = kwr_stub_unit(stub);
    uint32_t first = lazy->firsts[unit], wanted = 0;
    KWR_TRY(check_damaged(lazy, unit, sink));
    for (uint32_t i = first; i < lazy->firsts[unit + 1]; i++) {
        kwr_page_stub s;
        lazy->source.stub(lazy->source.ctx, i, &s);
        const kwr_page_image image = {
            .kind = (kwr_page_kind)s.kind,
            .state = s.state,
            .key_group = s.key_group,
            .page_id = s.page_id,
            .prefix = s.prefix,
            .depth = s.depth,
            .entries = s.entries,
            .entry_bytes = s.entry_bytes,
            .elements = s.elements,
            .epoch = s.epoch,
            .beside = s.beside,
        };
        bool wants;
        KWR_TRY(kwr_page_sink_ask(sink, &image, &wants));
        if (wants && wanted++ == 0) first = i;
        if (wants || wanted == 0) continue;
        KWR_TRY(pass_run(lazy, first, wanted, sink));
        wanted = 0;
    }
    return wanted == 0 ? KWR_OK : pass_run(lazy, first, wanted, sink);
}
