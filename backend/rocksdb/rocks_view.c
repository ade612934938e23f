/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frozen views: a RocksDB snapshot. They are read by iterators of their own, on any thread, and
 * written as canonical images. A view counts its entries when somebody asks, by looking at all.
 */
#include "backend/entries_image.h"
#include "backend/rocksdb/rocks.h"

static void view_free(kwr_engine_view *view) {
    const kwr_env *env = view->db->env;
    if (view->snapshot != NULL) rocksdb_release_snapshot(view->db->db, view->snapshot);
    kwr_rocks_view_files_done(view);
    kwr_free(env, view->families, view->state_count * sizeof(void *));
    kwr_free(env, view->kinds, view->state_count * sizeof *view->kinds);
    kwr_free(env, view->numbers, view->state_count * sizeof *view->numbers);
    kwr_rocks_db_release(view->db);
    kwr_free(env, view, sizeof *view);
}

void kwr_rocks_view_release(kwr_engine_view *view) {
    if (view == NULL) return;
    atomic_fetch_sub_explicit(&view->db->views, 1, memory_order_relaxed);
    view_free(view);
}

kwr_status kwr_rocks_freeze(kwr_engine *e, kwr_engine_view **out) {
    for (uint32_t i = 0; i < e->state_count; i++) {
        rocks_state *s;
        KWR_TRY(kwr_rocks_begin(e, i, &s));
        kwr_rocks_iterator_end(s);
    }
    kwr_engine_view *view = kwr_calloc(e->env, sizeof *view);
    if (view == NULL) return KWR_ERR_NOMEM;
    atomic_fetch_add_explicit(&e->db->references, 1, memory_order_relaxed);
    view->db = e->db;
    view->state_count = e->state_count;
    view->families = kwr_alloc_array(e->env, e->state_count, sizeof(void *));
    view->kinds = kwr_alloc_array(e->env, e->state_count, sizeof *view->kinds);
    view->numbers = kwr_alloc_array(e->env, e->state_count, sizeof *view->numbers);
    if (view->families != NULL && view->kinds != NULL && view->numbers != NULL)
        view->snapshot = rocksdb_create_snapshot(e->db->db);
    if (view->snapshot == NULL) {
        view_free(view);
        return KWR_ERR_NOMEM;
    }
    for (size_t i = 0; i < e->state_count; i++) {
        view->families[i] = e->states[i].family;
        view->kinds[i] = e->states[i].kind;
        view->numbers[i] = e->states[i].number;
    }
    atomic_fetch_add_explicit(&e->db->views, 1, memory_order_relaxed);
    *out = view;
    return KWR_OK;
}

/* ---- walking ---- */

/* What stands in a family once for each entry: of a collection its header or head. */
static bool is_head(kwr_state_kind kind, const kwr_entry *entry, bool header) {
    if (kind == KWR_STATE_LIST) return entry->subkey.size == 0;
    return header || !kwr_state_is_collection(kind);
}

/* Every stored key of a state from `low` on and below `high`. `heads`, unless NULL, sums up entries
 * and the bytes of their keys and namespaces. */
static kwr_status walk_range(kwr_engine_view *view, uint32_t state, const uint8_t *low,
                             const uint8_t *high, size_t size, kwr_entry_fn fn, void *fn_ctx,
                             kwr_state_count *heads) {
    const kwr_state_kind kind = view->kinds[state];
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(options, view->snapshot);
    rocksdb_readoptions_set_fill_cache(options, 0);
    rocksdb_readoptions_set_readahead_size(options, 1 << 20);
    if (high != NULL)
        rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)high, size);
    rocksdb_iterator_t *it =
        rocksdb_create_iterator_cf(view->db->db, options, view->families[state]);
    kwr_status status = KWR_OK;
    for (rocksdb_iter_seek(it, (const char *)low, size); status == KWR_OK && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        kwr_entry entry = { .state = state };
        bool header = false;
        uint8_t end[ROCKS_WIDE_SIZE];
        size_t length = 0;
        const char *key = rocksdb_iter_key(it, &length);
        if (!kwr_rocks_key_parse((const uint8_t *)key, length, kind, &entry, &header)) {
            status = KWR_ERR_CORRUPT;
            break;
        }
        if (heads != NULL && is_head(kind, &entry, header)) {
            heads->entries++;
            heads->entry_bytes += entry.key.size + entry.name.size;
        }
        if (header) continue;
        const char *value = rocksdb_iter_value(it, &length);
        entry.value = (kwr_slice){ value, length };
        if (view->numbers[state] != 0 && length == ROCKS_WIDE_SIZE)
            entry.value = (kwr_slice){ end, kwr_rocks_wide_end(end, view->numbers[state], value) };
        status = kind == KWR_STATE_LIST ? kwr_rocks_list_walk(&entry, entry.value, fn, fn_ctx)
                                        : fn(fn_ctx, &entry);
    }
    char *words = NULL;
    rocksdb_iter_get_error(it, &words);
    if (words != NULL && status == KWR_OK) status = KWR_ERR_CORRUPT;
    rocksdb_free(words);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    return status;
}

kwr_status kwr_rocks_view_walk(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                               kwr_entry_fn fn, void *fn_ctx) {
    const uint8_t low[2] = { (uint8_t)(key_group >> 8), (uint8_t)key_group };
    const uint8_t high[2] = { (uint8_t)((key_group + 1) >> 8), (uint8_t)(key_group + 1) };
    if (state >= view->state_count) return KWR_OK;
    return walk_range(view, state, low, key_group == 0xffff ? NULL : high, 2, fn, fn_ctx, NULL);
}

static kwr_status count_element(void *ctx, const kwr_entry *entry) {
    kwr_state_count *sum = ctx;
    sum->entry_bytes += entry->value.size + entry->subkey.size;
    sum->elements++;
    return KWR_OK;
}

kwr_status kwr_rocks_view_count(kwr_engine_view *view, uint32_t state, kwr_state_count *out) {
    kwr_state_count elements = { 0 }, heads = { 0 };
    if (state >= view->state_count) {
        *out = heads;
        return KWR_OK;
    }
    const uint8_t low[2] = { 0 };
    KWR_TRY(walk_range(view, state, low, NULL, 2, count_element, &elements, &heads));
    heads.entry_bytes += elements.entry_bytes;
    if (kwr_state_is_collection(view->kinds[state])) heads.elements = elements.elements;
    *out = heads;
    return KWR_OK;
}

/* ---- images ---- */

static kwr_status write_entry(void *ctx, const kwr_entry *entry) {
    return kwr_entries_add(ctx, entry);
}

kwr_status kwr_rocks_view_images(kwr_engine_view *view, uint32_t key_group, kwr_page_sink *sink) {
    uint64_t next_id = kwr_entries_first_id(key_group);
    for (uint32_t state = 0; state < view->state_count; state++) {
        kwr_entries_writer w;
        kwr_entries_begin(&w, view->db->env, sink, &next_id, state, key_group,
                          kwr_state_is_collection(view->kinds[state]));
        kwr_status status = kwr_rocks_view_walk(view, state, key_group, write_entry, &w);
        if (status == KWR_OK) status = kwr_entries_end(&w);
        kwr_entries_free(&w);
        if (status != KWR_OK) return status;
    }
    return KWR_OK;
}
