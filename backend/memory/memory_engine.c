/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine `memory`: the short ways in and out of the page store. What finds its entry on a page
 * that belongs to the present, at its size, is done here; all else goes to upsert.c.
 */
#include "backend/memory/compact.h"
#include "backend/memory/lazy.h"
#include "backend/memory/tree.h"

enum { PREFETCH_STEP = 32, COMPACT_BYTES_MIN = 8 << 20 };

static kwr_status engine_get(kwr_engine *e, const kwr_address *at, kwr_slice *out) {
    const uint64_t hash = at->entry_hash & e->hash_mask;
    kwr_hit hit;
    kwr_word w;
    KWR_TRY(kwr_word_at(e, at, hash, false, &w));
    if (!kwr_find_entry(w, at, hash, &hit)) return KWR_NOT_FOUND;
    *out = (kwr_slice){ hit.value, hit.value_size };
    return KWR_OK;
}

static kwr_status engine_put(kwr_engine *e, const kwr_address *at, kwr_slice value) {
    const uint64_t hash = at->entry_hash & e->hash_mask;
    kwr_hit hit;
    kwr_word w;
    KWR_TRY(kwr_word_at(e, at, hash, true, &w));
    if (KWR_LIKELY(kwr_find_entry(w, at, hash, &hit) && hit.value_size == value.size &&
                   kwr_hit_writable(w, &hit))) {
        kwr_slot_touch(hit.line, hit.slot, e->mark);
        if (value.size > 0) memmove(hit.value, value.data, value.size);
        return KWR_OK;
    }
    uint8_t *to;
    size_t old_size;
    e->argument = value.data;
    const kwr_status status = kwr_store_upsert(e, at, hash, value.size, false, &to, &old_size);
    if (status == KWR_OK && value.size > 0) memmove(to, value.data, value.size);
    e->argument = NULL;
    kwr_store_settle(e);
    return status;
}

static kwr_status engine_modify(kwr_engine *e, const kwr_address *at, size_t size, void **out,
                                size_t *old_size) {
    const uint64_t hash = at->entry_hash & e->hash_mask;
    kwr_hit hit;
    kwr_word w;
    KWR_TRY(kwr_word_at(e, at, hash, true, &w));
    const bool found = kwr_find_entry(w, at, hash, &hit);
    if (size == KWR_KEEP_SIZE) size = found ? hit.value_size : 0;
    if (KWR_LIKELY(found && hit.value_size == size && kwr_hit_writable(w, &hit))) {
        kwr_slot_touch(hit.line, hit.slot, e->mark);
        *out = hit.value;
        *old_size = size;
        return KWR_OK;
    }
    uint8_t *to;
    size_t old;
    const kwr_status status = kwr_store_upsert(e, at, hash, size, true, &to, &old);
    if (status == KWR_OK) {
        *out = to;
        *old_size = old;
    }
    kwr_store_settle(e);
    return status;
}

static kwr_status engine_remove(kwr_engine *e, const kwr_address *at) {
    const uint64_t hash = at->entry_hash & e->hash_mask;
    kwr_hit hit;
    kwr_word w;
    if (e->facts[at->state].collection) return kwr_store_collection_remove(e, at);
    KWR_TRY(kwr_word_at(e, at, hash, false, &w));
    if (!kwr_find_entry(w, at, hash, &hit)) return KWR_NOT_FOUND;
    const kwr_status status = kwr_store_remove(e, at, hash);
    kwr_store_settle(e);
    return status;
}

/* What may be the record of a large collection. */
typedef struct tree_hint {
    const kwr_address *at;
    const uint8_t *record;
} tree_hint;

static void prefetch_root(const tree_hint *hint) {
    uint8_t *value;
    uint32_t value_size;
    if (!kwr_record_is(hint->record, hint->at, &value, &value_size)) return;
    if (!kwr_collection_is_tree(value)) return;
    const uint8_t *root = (const uint8_t *)(uintptr_t)kwr_tree_head_at(value).root;
    __builtin_prefetch(root);
    __builtin_prefetch(root + 64);
}

/*
 * In three stages, and a fourth for the roots of collections, so that the misses of all addresses
 * overlap: the last directory word, the slot line, the record. The word is kept as a hint for the
 * access that follows.
 */
static void prefetch_some(const kwr_engine *e, const kwr_address *at, size_t count) {
    const kwr_word *words[PREFETCH_STEP];
    const kwr_node *nodes[PREFETCH_STEP];
    uint64_t rest[PREFETCH_STEP];
    const uint8_t *pages[PREFETCH_STEP];
    tree_hint trees[PREFETCH_STEP];
    size_t tree_count = 0;
    for (size_t i = 0; i < count; i++) {
        const kwr_node *node = e->states[at[i].state];
        uint32_t index = at[i].key_group - e->group_first;
        words[i] = NULL;
        if (node == NULL) continue;
        if (e->two_level) {
            const kwr_word w = node->words[index / KWR_FAN_OUT];
            if (kwr_word_kind_of(w) == KWR_WORD_EMPTY) continue;
            node = kwr_word_address(w);
            index %= KWR_FAN_OUT;
        }
        kwr_word w = node->words[index];
        rest[i] = at[i].entry_hash & e->hash_mask;
        words[i] = &node->words[index];
        if (kwr_word_kind_of(w) == KWR_WORD_HASH) {
            const unsigned bits = kwr_word_span(w);
            node = kwr_word_address(w);
            words[i] = &node->words[rest[i] >> (64 - bits)];
            rest[i] <<= bits;
            __builtin_prefetch(words[i]);
        }
        nodes[i] = node;
    }
    for (size_t i = 0; i < count; i++) {
        pages[i] = NULL;
        kwr_engine_hint *hint = at[i].hint;
        if (words[i] == NULL) {
            if (hint != NULL) hint->stamp = 0;
            continue;
        }
        const uint64_t hash = at[i].entry_hash & e->hash_mask;
        const kwr_node *node = nodes[i];
        kwr_word w = *words[i];
        while (kwr_word_kind_of(w) == KWR_WORD_HASH) {
            const unsigned bits = kwr_word_span(w);
            node = kwr_word_address(w);
            w = node->words[rest[i] >> (64 - bits)];
            rest[i] <<= bits;
        }
        if (node->block.birth != e->epoch) w &= ~KWR_WORD_CURRENT;
        if (hint != NULL) *hint = (kwr_engine_hint){ .stamp = e->stamp, .extra = w };
        if (kwr_word_kind_of(w) != KWR_WORD_PAGE) continue;
        pages[i] = kwr_word_address(w);
        const kwr_slots *line =
            kwr_page_slots((const kwr_page *)pages[i]) + kwr_hash_group(hash, kwr_word_span(w));
        words[i] = (const kwr_word *)(const void *)line;
        __builtin_prefetch(line);
    }
    for (size_t i = 0; i < count; i++) {
        if (pages[i] == NULL) continue;
        const kwr_slots *line = (const kwr_slots *)(const void *)words[i];
        const uint32_t mask = kwr_slots_match(line, kwr_hash_tag(at[i].entry_hash & e->hash_mask));
        if (mask == 0) continue;
        const uint16_t offset = line->offsets[__builtin_ctz(mask)];
        const uint8_t *record = pages[i] + (offset & KWR_SLOT_OFFSET);
        __builtin_prefetch(record);
        __builtin_prefetch(record + 64);
        __builtin_prefetch(record + 128);
        if (KWR_UNLIKELY(e->facts[at[i].state].collection) && offset != 0 &&
            (offset & KWR_SLOT_BLOB) == 0)
            trees[tree_count++] = (tree_hint){ &at[i], record };
    }
    for (size_t i = 0; i < tree_count; i++)
        prefetch_root(&trees[i]);
}

static void engine_prefetch(kwr_engine *e, kwr_address *at, size_t count) {
    if (KWR_UNLIKELY(e->lazy != NULL && e->lazy->left > 0)) kwr_lazy_prefetch(e, at, count);
    for (size_t done = 0; done < count; done += PREFETCH_STEP)
        prefetch_some(e, at + done, count - done < PREFETCH_STEP ? count - done : PREFETCH_STEP);
}

/* ---- life ---- */

static kwr_status engine_open(const kwr_engine_config *config, kwr_engine **out, kwr_error *err) {
    kwr_resources *resources = config->resources;
    if (!kwr_resources_reserve(resources, sizeof(kwr_engine)))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "page store: the memory cap leaves no room for it");
    kwr_engine *e = kwr_alloc_aligned(config->env, sizeof *e, 64);
    if (e == NULL) {
        kwr_resources_unreserve(resources, sizeof *e);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "page store: no memory");
    }
    memset(e, 0, sizeof *e);
    kwr_page_arena_init(&e->arena, config->env, resources);
    e->env = config->env;
    kwr_store_begin_epoch(e, KWR_EPOCH_RESTORED);
    e->stamp = 1;
    e->page_ids = 1;
    e->hash_mask = config->hash_mask;
    e->seed = config->seed;
    e->group_first = config->key_groups.first;
    e->group_count = config->key_groups.count;
    e->at_group = KWR_NO_GROUP;
    e->compaction.least_bytes = COMPACT_BYTES_MIN;
    e->two_level = config->key_groups.count > KWR_FAN_OUT;
    e->max_parallelism = config->max_parallelism;
    e->engine_key_groups = config->engine_key_groups;
    e->views_max = config->limits->views_max;
    e->key_bytes_max = config->limits->key_bytes_max;
    e->namespace_bytes_max = config->limits->namespace_bytes_max;
    e->value_bytes_max = config->limits->value_bytes_max;
    e->empty_name_hash = kwr_namespace_hash((kwr_slice){ NULL, 0 });
    atomic_init(&e->references, 1);
    e->scan = kwr_page_arena_host_alloc(&e->arena, sizeof *e->scan);
    if (e->scan == NULL) {
        kwr_store_unref(e);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "page store: no memory");
    }
    *out = e;
    return KWR_OK;
}

static void engine_close(kwr_engine *e) {
    if (e == NULL) return;
    kwr_store_restore_drop(e);
    /* Views may go on reading through the source. */
    if (e->lazy != NULL) kwr_lazy_stop(e->lazy);
    kwr_store_unref(e);
}

static bool engine_maintain(kwr_engine *e, uint64_t max_ns) {
    const kwr_clock *clock = e->env->clock;
    const uint64_t start = clock->mono_ns(clock->ctx);
    if (e->lazy != NULL) {
        kwr_lazy_run(e->lazy);
        if (kwr_lazy_take(e->lazy, max_ns)) return true;
        kwr_lazy_retire(e);
    }
    while (kwr_store_drain(e, 64))
        if (clock->mono_ns(clock->ctx) - start >= max_ns) return true;
    return kwr_store_compact(e, start, max_ns);
}

static void engine_stats(const kwr_engine *e, kwr_backend_stats *out) {
    out->entries = e->entries;
    out->entry_bytes = e->entry_bytes;
    out->used_bytes = e->arena.used_bytes;
    out->frozen_bytes = e->frozen_bytes;
    out->mapped_bytes = kwr_page_arena_mapped(&e->arena) + sizeof *e;
    out->pages = e->arena.used_blocks;
    out->copies = e->copies;
    out->splits = e->splits;
    out->views = atomic_load_explicit(&e->views, memory_order_relaxed);
    kwr_lazy_stats(e, out);
}

static const char *engine_detail(const kwr_engine *e) {
    return e->lazy == NULL ? "" : e->lazy->error.text;
}

static kwr_status engine_add_state(kwr_engine *e, const kwr_state_info *info) {
    const bool collection = kwr_state_is_collection(info->kind);
    if (collection && e->tree == NULL) {
        e->tree = kwr_page_arena_host_alloc(&e->arena, sizeof *e->tree);
        if (e->tree == NULL) return KWR_ERR_NOMEM;
        e->tree->count = 0;
    }
    KWR_TRY(kwr_directory_grow_states(e, info->id + 1));
    /* A state without entries may become another; a node it had says so to views. */
    if (e->states[info->id] != NULL && e->facts[info->id].kind != info->kind) {
        kwr_node *top = kwr_directory_top(e, info->id);
        if (top == NULL) return KWR_ERR_NOMEM;
        top->kind = info->kind;
        kwr_store_settle(e);
    }
    kwr_state_facts *facts = &e->facts[info->id];
    facts->kind = (uint8_t)info->kind;
    facts->collection = collection;
    facts->per_group = kwr_state_is_per_group(info->kind);
    return KWR_OK;
}

const kwr_engine_ops kwr_memory_engine = {
    .name = "memory",
    .native = "pages-1",
    .open = engine_open,
    .close = engine_close,
    .add_state = engine_add_state,
    .get = engine_get,
    .put = engine_put,
    .modify = engine_modify,
    .remove = engine_remove,
    .prefetch = engine_prefetch,
    .sub_get = kwr_store_sub_get,
    .sub_put = kwr_store_sub_put,
    .sub_modify = kwr_store_sub_modify,
    .sub_remove = kwr_store_sub_remove,
    .sub_append = kwr_store_sub_append,
    .sub_assign = kwr_store_sub_assign,
    .sub_seek = kwr_store_sub_seek,
    .sub_count = kwr_store_sub_count,
    .freeze = kwr_store_freeze,
    .view_release = kwr_store_view_release,
    .view_count = kwr_store_view_count,
    .view_walk = kwr_store_view_walk,
    .view_images = kwr_store_view_images,
    .view_epoch = kwr_store_view_epoch,
    .view_pass = kwr_store_view_pass,
    .restore_begin = kwr_store_restore_begin,
    .install = kwr_store_install,
    .restore_end = kwr_store_restore_end,
    .restore_lazy = kwr_lazy_open,
    .load = kwr_lazy_fetch_all,
    .set_no_wait = kwr_lazy_set_no_wait,
    .maintain = engine_maintain,
    .stats = engine_stats,
    .detail = engine_detail,
};
