/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that are not resident. A *unit* is all that hangs on one word of the directory: a hash page
 * or a chain, and the blobs and leaves of its entries. Until it is loaded its word is a stub, which
 * holds the unit's number. The owner puts pages in the place of stubs, on paths of the present
 * alone: views keep the stubs they have and read through the source.
 */
#ifndef KWR_BACKEND_MEMORY_LAZY_H
#define KWR_BACKEND_MEMORY_LAZY_H

#include "backend/memory/find.h"
#include "backend/page_source.h"
#include "base/thread.h"

/* The images of units on their way to the owner, or why they did not come. */
typedef struct kwr_loaded {
    struct kwr_loaded *next;
    uint32_t unit;  /* the first */
    uint32_t units; /* from there on */
    uint32_t taken; /* of these, by the owner */
    kwr_status status;
    kwr_error err;
    const kwr_env *env;
    kwr_page_image *images; /* bytes: first an offset into `bytes`, then a pointer */
    size_t count, capacity;
    size_t at; /* the next image to be taken */
    kwr_buffer bytes;
} kwr_loaded;

enum {
    KWR_UNIT_RESIDENT = 1,
    KWR_UNIT_ASKED = 2,   /* no-wait: its load was asked for, its outcome is not known yet */
    KWR_UNIT_DAMAGED = 4, /* a load found it damaged or gone: no checkpoint refers to it unread */
    KWR_LAZY_ASKED_MAX = 256,
};

struct kwr_lazy {
    kwr_engine *e;
    kwr_page_source source;
    kwr_page_loading loading;
    /* constant: views read it on any thread */
    uint32_t unit_count;
    uint32_t *firsts; /* the first image of each unit; one more at the end */
    /* the owner's, read by the loader */
    _Atomic(uint8_t) *states; /* of each unit, a set of KWR_UNIT_; views read it too */
    /* the owner's */
    bool no_wait;
    uint32_t left; /* units that are not resident */
    uint64_t bytes_all, bytes_left;
    uint32_t failed;
    uint64_t began_ns;
    kwr_loaded *failures; /* of loads that were asked for, until the access hears of it */
    kwr_error error;      /* of the latest failed load */
    /* the loader */
    kwr_mutex lock;
    kwr_work step, pause;
    bool running, stop, done; /* done: nothing left to do but what is asked for */
    uint32_t cursor;          /* the next unit of its walk through all */
    uint32_t asked[KWR_LAZY_ASKED_MAX];
    uint32_t asked_count;
    kwr_loaded *ready, **ready_end;
    uint64_t ready_bytes;
    atomic_uint ready_count;
};

static inline uint8_t kwr_unit_state(const kwr_lazy *lazy, uint32_t unit) {
    return atomic_load_explicit(&lazy->states[unit], memory_order_relaxed);
}
static inline uint32_t kwr_stub_unit(kwr_word w) { return (uint32_t)((w & KWR_WORD_ADDRESS) >> 6); }
static inline kwr_word kwr_stub_word(uint32_t unit, unsigned depth) {
    return kwr_word_make(KWR_WORD_STUB, (const void *)(uintptr_t)((uint64_t)unit << 6), depth, 0);
}

/* ---- units (lazy.c) ---- */

/* Makes the directory of an engine without entries from what the source says of its images; takes
 * the source over when it succeeds. */
kwr_status kwr_lazy_open(kwr_engine *e, uint64_t seed, const kwr_page_source *source,
                         const kwr_page_loading *loading, kwr_error *err);
void kwr_lazy_free(kwr_lazy *lazy); /* NULL is a no-op. Nothing reads it any more. */
/* Nothing is left and no view needs it: gone. */
void kwr_lazy_retire(kwr_engine *e);
/* The unit's pages take their place; KWR_OK when they had. */
kwr_status kwr_lazy_install(kwr_lazy *lazy, uint32_t unit, const kwr_page_image *images,
                            size_t count, kwr_error *err);
/* What a failed load says of a unit that is not resident. */
void kwr_lazy_note(kwr_lazy *lazy, uint32_t unit, kwr_status status);
/* The unit is loaded and installed, or, without waiting, asked for. */
kwr_status kwr_lazy_fetch(kwr_engine *e, kwr_word stub);
/* Before an access to these addresses. */
void kwr_lazy_prefetch(kwr_engine *e, const kwr_address *at, size_t count);
/* Everything, by all the executor's threads. */
kwr_status kwr_lazy_fetch_all(kwr_engine *e, kwr_error *err);
void kwr_lazy_set_no_wait(kwr_engine *e, bool on);
/* What states count is of images whose deltas were not all read. */
bool kwr_lazy_estimates(const kwr_engine *e);
void kwr_lazy_stats(const kwr_engine *e, kwr_backend_stats *out);

/* ---- the loader (lazy_loader.c) ---- */

/* Images of `units` units from the first on, `marked` to be installed. [any] */
kwr_loaded *kwr_loaded_new(const kwr_env *env);
kwr_status kwr_loaded_read(kwr_loaded *to, const kwr_lazy *lazy, uint32_t unit, uint32_t units,
                           bool marked, kwr_error *err);
void kwr_loaded_free(kwr_loaded *loaded); /* NULL is a no-op */
/* Starts or goes on. */
void kwr_lazy_run(kwr_lazy *lazy);
/* Waits for what runs; nothing is begun any more. */
void kwr_lazy_stop(kwr_lazy *lazy);
/* Asks for a unit ahead of the others. */
void kwr_lazy_ask(kwr_lazy *lazy, uint32_t unit);
/* Installs what is ready until max_ns are over, one unit at least. True: more is ready. */
bool kwr_lazy_take(kwr_lazy *lazy, uint64_t max_ns);
/* The unit is among what is ready. */
bool kwr_lazy_is_ready(kwr_lazy *lazy, uint32_t unit);
static inline bool kwr_lazy_has_ready(const kwr_lazy *lazy) {
    return atomic_load_explicit(&lazy->ready_count, memory_order_relaxed) > 0;
}

/* ---- views (lazy_view.c) ---- */

/* What a view's walk meets under a stub, read through the source. [any] */
kwr_status kwr_lazy_walk(const kwr_lazy *lazy, kwr_word stub, kwr_entry_fn fn, void *fn_ctx);
kwr_status kwr_lazy_images(const kwr_lazy *lazy, kwr_word stub, kwr_page_sink *sink);

/* ---- accesses ---- */

/* The word for an access, of something resident or empty. */
static inline kwr_status kwr_word_at(kwr_engine *e, const kwr_address *at, uint64_t hash,
                                     bool write, kwr_word *out) {
    kwr_word w = kwr_word_of(e, at, hash, write);
    *out = 0;
    if (KWR_UNLIKELY(kwr_word_kind_of(w) == KWR_WORD_STUB)) {
        const kwr_status status = kwr_lazy_fetch(e, w);
        if (status != KWR_OK) return status;
        w = kwr_find_word(e, at->state, at->key_group, hash, write);
    }
    *out = w;
    return KWR_OK;
}

#endif /* KWR_BACKEND_MEMORY_LAZY_H */
