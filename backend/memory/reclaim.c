/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who still needs a block. A block lives in the epochs [birth, death). One that leaves the present
 * hangs on the newest view that can see it; when that is released, it moves to the next older one
 * that can, or is free. Views are released on any thread: they go through a lock-free stack to the
 * owner, who moves their blocks bit by bit.
 *
 * A tree that is dropped is retired by its root alone. When no view needs the root, its children
 * are looked at, each by its own birth: views older than the root may see some of them.
 */
#include "backend/memory/lazy.h"
#include "backend/memory/tree.h"
#include "base/planted.h"

enum { DRAIN_STEP = 8 };

kwr_block *kwr_store_alloc(kwr_engine *e, size_t size, unsigned kind) {
    kwr_block *block = kwr_page_arena_alloc(&e->arena, size);
    if (KWR_UNLIKELY(block == NULL)) {
        /* Without released views a second try would be the same; in a restore there are none. */
        if (e->restore != NULL ||
            (e->released_views == 0 && e->released == NULL && e->shedding == NULL))
            return NULL;
        kwr_store_drain(e, UINT64_MAX);
        block = kwr_page_arena_alloc(&e->arena, size);
        if (block == NULL) return NULL;
    }
    block->birth = e->epoch;
    block->next = NULL;
    block->kind = (uint8_t)kind;
    block->whole = 0;
    if (KWR_UNLIKELY(e->keep_made)) {
        block->next = e->made;
        e->made = block;
    }
    return block;
}

void kwr_store_retire(kwr_engine *e, kwr_block *block) {
    if (kwr_store_shared(e, block) && !KWR_PLANTED(frozen_block_freed)) {
        block->next = e->reader->limbo;
        e->reader->limbo = block;
        e->frozen_bytes += kwr_block_bytes(block);
    } else {
        block->next = e->doomed;
        e->doomed = block;
    }
}

/* ---- whole trees ---- */

/*
 * No view can see this block any more, nor can one newer than `limit` see what is below it. A page
 * that is dead with all below it waits until its children are looked at, its limit in `birth`.
 */
static void dispose(kwr_engine *e, kwr_block *block, uint64_t limit) {
    if (KWR_LIKELY(!block->whole)) {
        kwr_page_arena_free(&e->arena, block);
        return;
    }
    block->birth = limit;
    block->next = e->shedding;
    e->shedding = block;
}

/* The newest view in use that is not newer than `limit`. */
static kwr_engine_view *view_within(const kwr_engine *e, uint64_t limit) {
    kwr_engine_view *view = e->newest;
    while (view != NULL && (view->released || view->epoch > limit))
        view = view->older;
    return view;
}

/* One child of a dead page: an older view than the page's may still need it. */
static void shed_child(kwr_engine *e, kwr_tree_page *page) {
    const uint64_t limit = page->block.birth;
    kwr_tree_page *child = kwr_tree_child(page, --page->count);
    kwr_engine_view *view = view_within(e, limit);
    child->block.whole = child->level > 0;
    if (view == NULL || child->block.birth > view->epoch) {
        dispose(e, &child->block, limit);
        return;
    }
    child->block.next = view->limbo;
    view->limbo = &child->block;
    e->frozen_bytes += kwr_block_bytes(&child->block);
}

/* Looks at most at *blocks pages below those that are dead with all below them. */
static void shed(kwr_engine *e, uint64_t *blocks) {
    for (; e->shedding != NULL && *blocks > 0; --*blocks) {
        kwr_tree_page *page = (kwr_tree_page *)e->shedding;
        if (page->count > 0) {
            shed_child(e, page);
        } else {
            e->shedding = page->block.next;
            kwr_page_arena_free(&e->arena, &page->block);
        }
    }
}

static void free_doomed(kwr_engine *e) {
    for (kwr_block *block; (block = e->doomed) != NULL;) {
        e->doomed = block->next;
        dispose(e, block, e->epoch - 1);
    }
}

void kwr_store_settle(kwr_engine *e) {
    kwr_store_at_group(e, KWR_NO_GROUP);
    free_doomed(e);
    if (KWR_UNLIKELY(e->lazy != NULL && kwr_lazy_has_ready(e->lazy) && e->restore == NULL))
        (void)kwr_lazy_take(e->lazy, 0);
    if (KWR_UNLIKELY(e->released_views > 0 || e->shedding != NULL ||
                     atomic_load_explicit(&e->released, memory_order_relaxed) != NULL))
        kwr_store_drain(e, DRAIN_STEP);
}

/* ---- views ---- */

static bool has_passed(const kwr_engine_view *view, uint32_t group) {
    const uint8_t *passed = atomic_load_explicit(&view->passed, memory_order_acquire);
    return passed != NULL && __atomic_load_n(&passed[group], __ATOMIC_ACQUIRE) != 0;
}

void kwr_store_find_reader(kwr_engine *e) {
    kwr_engine_view *view = e->sharing;
    while (view != NULL &&
           (view->released || (e->at_group != KWR_NO_GROUP && has_passed(view, e->at_group))))
        view = view->older;
    e->reader = view;
}

/* Without memory for the marks the view just keeps all until it is released. */
void kwr_store_view_pass(kwr_engine_view *view, uint32_t key_group) {
    const kwr_engine *e = view->engine;
    uint8_t *passed = atomic_load_explicit(&view->passed, memory_order_acquire);
    if (passed == NULL) {
        uint8_t *made = kwr_calloc(e->env, e->group_count);
        if (made == NULL) return;
        if (atomic_compare_exchange_strong_explicit(&view->passed, &passed, made,
                                                    memory_order_acq_rel, memory_order_acquire))
            passed = made;
        else
            kwr_free(e->env, made, e->group_count);
    }
    __atomic_store_n(&passed[key_group - e->group_first], 1, __ATOMIC_RELEASE);
}

static void free_view(kwr_engine *e, kwr_engine_view *view) {
    kwr_free(e->env, atomic_load_explicit(&view->passed, memory_order_relaxed), e->group_count);
    kwr_page_arena_host_free(&e->arena, view, sizeof *view);
}

/* Takes over what other threads have released. */
static void collect(kwr_engine *e) {
    if (atomic_load_explicit(&e->released, memory_order_relaxed) == NULL) return;
    kwr_engine_view *view = atomic_exchange_explicit(&e->released, NULL, memory_order_acquire);
    for (; view != NULL; view = view->next_released) {
        view->released = true;
        e->released_views++;
    }
    e->sharing = e->newest;
    while (e->sharing != NULL && e->sharing->released)
        e->sharing = e->sharing->older;
    kwr_store_find_reader(e);
}

static void unlink_view(kwr_engine *e, kwr_engine_view *view) {
    if (view->newer != NULL)
        view->newer->older = view->older;
    else
        e->newest = view->older;
    if (view->older != NULL) view->older->newer = view->newer;
    e->released_views--;
    e->compaction.due = true;
    free_view(e, view);
}

/* Moves at most *blocks of what hangs on a released view. */
static void drain_view(kwr_engine *e, kwr_engine_view *view, uint64_t *blocks) {
    kwr_engine_view *heir = view->older;
    while (heir != NULL && heir->released)
        heir = heir->older;
    for (; view->limbo != NULL && *blocks > 0; --*blocks) {
        kwr_block *block = view->limbo;
        view->limbo = block->next;
        if (heir != NULL && block->birth <= heir->epoch) {
            block->next = heir->limbo;
            heir->limbo = block;
        } else {
            e->frozen_bytes -= kwr_block_bytes(block);
            if (!KWR_PLANTED(freed_block_lost)) dispose(e, block, view->epoch);
        }
    }
}

bool kwr_store_drain(kwr_engine *e, uint64_t blocks) {
    collect(e);
    shed(e, &blocks);
    for (kwr_engine_view *view = e->newest, *older; view != NULL && e->released_views > 0;
         view = older) {
        older = view->older;
        if (!view->released) continue;
        drain_view(e, view, &blocks);
        if (view->limbo != NULL) return true;
        unlink_view(e, view);
    }
    shed(e, &blocks);
    return e->released_views > 0 || e->shedding != NULL;
}

kwr_status kwr_store_freeze(kwr_engine *e, kwr_engine_view **out) {
    if (atomic_load_explicit(&e->views, memory_order_acquire) >= e->views_max) return KWR_ERR_BUSY;
    kwr_store_settle(e);
    kwr_engine_view *view = kwr_page_arena_host_alloc(&e->arena, sizeof *view);
    if (view == NULL) return KWR_ERR_NOMEM;
    *view = (kwr_engine_view){
        .engine = e,
        .root = e->root,
        .epoch = e->epoch,
        .state_levels = e->state_levels,
        .state_count = e->state_count,
        .estimated = kwr_lazy_estimates(e),
        .older = e->newest,
    };
    if (e->newest != NULL) e->newest->newer = view;
    e->newest = view;
    e->sharing = view;
    kwr_store_at_group(e, KWR_NO_GROUP);
    kwr_store_begin_epoch(e, e->epoch + 1);
    e->stamp++;
    atomic_fetch_add_explicit(&e->references, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->views, 1, memory_order_relaxed);
    *out = view;
    return KWR_OK;
}

void kwr_store_view_release(kwr_engine_view *view) {
    if (view == NULL) return;
    kwr_engine *e = view->engine;
    atomic_fetch_sub_explicit(&e->views, 1, memory_order_release);
    kwr_engine_view *head = atomic_load_explicit(&e->released, memory_order_relaxed);
    do {
        view->next_released = head;
    } while (!atomic_compare_exchange_weak_explicit(&e->released, &head, view, memory_order_release,
                                                    memory_order_relaxed));
    kwr_store_unref(e);
}

/* The last one out frees all that is left, blocks and views alike. */
void kwr_store_unref(kwr_engine *e) {
    if (atomic_fetch_sub_explicit(&e->references, 1, memory_order_acq_rel) != 1) return;
    kwr_lazy_free(e->lazy);
    for (kwr_engine_view *view = e->newest, *older; view != NULL; view = older) {
        older = view->older;
        free_view(e, view);
    }
    kwr_page_arena_host_free(&e->arena, e->states, e->state_capacity * sizeof *e->states);
    kwr_page_arena_host_free(&e->arena, e->facts, e->state_capacity * sizeof *e->facts);
    kwr_page_arena_host_free(&e->arena, e->tree, sizeof *e->tree);
    kwr_page_arena_host_free(&e->arena, e->scan, sizeof *e->scan);
    kwr_page_arena arena = e->arena;
    kwr_page_arena_done(&arena);
    kwr_resources *resources = arena.resources == NULL ? e->arena.resources : arena.resources;
    const kwr_env *env = e->env;
    kwr_free(env, e, sizeof *e);
    kwr_resources_unreserve(resources, sizeof *e);
}
