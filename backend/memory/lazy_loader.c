/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading in the background: one piece of work after the other on the executor reads and decodes
 * units, with pauses that keep it to its share of a processor, and puts them where the owner takes
 * them. A bound on what waits there holds it back.
 */
#include "backend/memory/lazy.h"
#include "base/log.h"

enum {
    STEP_BYTES = 128 * 1024,
    READY_BYTES_MAX = 4 * 1024 * 1024,
};

/* ---- what was read ---- */

kwr_loaded *kwr_loaded_new(const kwr_env *env) {
    kwr_loaded *l = kwr_calloc(env, sizeof *l);
    if (l == NULL) return NULL;
    l->env = env;
    l->bytes.env = env;
    return l;
}

void kwr_loaded_free(kwr_loaded *loaded) {
    if (loaded == NULL) return;
    const kwr_env *env = loaded->env;
    kwr_free(env, loaded->images, loaded->capacity * sizeof *loaded->images);
    kwr_buffer_free(&loaded->bytes);
    kwr_free(env, loaded, sizeof *loaded);
}

static kwr_status keep_image(void *ctx, const kwr_page_image *image) {
    kwr_loaded *l = ctx;
    /* Images are walked where they lie: aligned like what they hold. */
    const size_t gap = (8 - l->bytes.size % 8) % 8;
    uint8_t *to = kwr_buffer_extend(&l->bytes, gap + image->size);
    if (to == NULL ||
        !kwr_grow_array(l->env, (void **)&l->images, &l->capacity, l->count + 1, sizeof *l->images))
        return KWR_ERR_NOMEM;
    memset(to, 0, gap);
    memcpy(to + gap, image->bytes, image->size);
    l->images[l->count] = *image;
    l->images[l->count++].bytes = (const void *)(uintptr_t)(l->bytes.size - image->size);
    return KWR_OK;
}

kwr_status kwr_loaded_read(kwr_loaded *to, const kwr_lazy *lazy, uint32_t unit, uint32_t units,
                           bool marked, kwr_error *err) {
    const uint32_t first = lazy->firsts[unit], end = lazy->firsts[unit + units];
    to->unit = unit;
    to->units = units;
    const kwr_status status =
        lazy->source.load(lazy->source.ctx, first, end - first, marked, keep_image, to, err);
    if (status == KWR_ERR_NOMEM) return KWR_FAIL(err, status, 0, "no memory to load a page");
    if (status != KWR_OK) return status;
    for (size_t i = 0; i < to->count; i++)
        to->images[i].bytes = to->bytes.data + (uintptr_t)to->images[i].bytes;
    return KWR_OK;
}

/* ---- the work ---- */

static uint64_t now(const kwr_lazy *lazy) {
    const kwr_clock *clock = lazy->e->env->clock;
    return clock->mono_ns(clock->ctx);
}

static bool resident(const kwr_lazy *lazy, uint32_t unit) {
    return (kwr_unit_state(lazy, unit) & KWR_UNIT_RESIDENT) != 0;
}

static uint64_t unit_bytes(const kwr_lazy *lazy, uint32_t unit) {
    uint64_t bytes = 0;
    for (uint32_t i = lazy->firsts[unit]; i < lazy->firsts[unit + 1]; i++) {
        kwr_page_stub s;
        lazy->source.stub(lazy->source.ctx, i, &s);
        bytes += s.stored;
    }
    return bytes;
}

/* What to read next: what is asked for, then the walk. False: nothing, the work rests. */
static bool choose(kwr_lazy *lazy, uint32_t *unit, uint32_t *units) {
    *units = 0;
    kwr_mutex_lock(&lazy->lock);
    const bool asked = !lazy->stop && lazy->asked_count > 0;
    if (asked) {
        *unit = lazy->asked[0];
        *units = 1;
        lazy->asked_count--;
        memmove(lazy->asked, lazy->asked + 1, lazy->asked_count * sizeof *lazy->asked);
    } else if (!lazy->stop && lazy->loading.share > 0 && lazy->ready_bytes < READY_BYTES_MAX) {
        uint64_t bytes = 0;
        while (lazy->cursor < lazy->unit_count && resident(lazy, lazy->cursor))
            lazy->cursor++;
        *unit = lazy->cursor;
        while (lazy->cursor < lazy->unit_count && bytes < STEP_BYTES &&
               !resident(lazy, lazy->cursor)) {
            bytes += unit_bytes(lazy, lazy->cursor++);
            ++*units;
        }
        lazy->done = lazy->cursor == lazy->unit_count;
    }
    lazy->running = *units > 0;
    kwr_mutex_unlock(&lazy->lock);
    return *units > 0;
}

/* To the owner. */
static void hand_over(kwr_lazy *lazy, kwr_loaded *l) {
    kwr_mutex_lock(&lazy->lock);
    *lazy->ready_end = l;
    lazy->ready_end = &l->next;
    lazy->ready_bytes += l->bytes.size;
    const bool first = atomic_fetch_add_explicit(&lazy->ready_count, 1, memory_order_relaxed) == 0;
    kwr_mutex_unlock(&lazy->lock);
    if (first && lazy->loading.wake != NULL) lazy->loading.wake(lazy->loading.wake_ctx);
}

static void read_units(kwr_lazy *lazy, uint32_t unit, uint32_t units) {
    kwr_loaded *l = kwr_loaded_new(lazy->e->env);
    /* Without memory the owner will have to do it. */
    if (l == NULL) return;
    l->status = kwr_loaded_read(l, lazy, unit, units, true, &l->err);
    if (l->status == KWR_OK || units == 1) {
        hand_over(lazy, l);
        return;
    }
    kwr_loaded_free(l);
    for (uint32_t i = 0; i < units; i++) {
        if ((l = kwr_loaded_new(lazy->e->env)) == NULL) return;
        l->status = kwr_loaded_read(l, lazy, unit + i, 1, true, &l->err);
        hand_over(lazy, l);
    }
}

/* The next step, after a pause in proportion to what the last one took. Under the lock, so that
 * nothing is posted once it has stopped. */
static void go_on(kwr_lazy *lazy, uint64_t took) {
    const kwr_executor *executor = lazy->e->env->executor;
    const uint32_t share = lazy->loading.share;
    kwr_mutex_lock(&lazy->lock);
    kwr_status status = KWR_ERR_CANCELLED;
    if (!lazy->stop && (lazy->asked_count > 0 || share == 0 || share >= 100))
        status = executor->blocking(executor->ctx, &lazy->step);
    else if (!lazy->stop)
        status = executor->post_at(executor->ctx, &lazy->pause,
                                   now(lazy) + took / share * (100 - share));
    lazy->running = status >= KWR_OK;
    kwr_mutex_unlock(&lazy->lock);
}

static void run_step(void *ctx) {
    kwr_lazy *lazy = ctx;
    uint32_t unit, units;
    const uint64_t began = now(lazy);
    if (!choose(lazy, &unit, &units)) return;
    read_units(lazy, unit, units);
    go_on(lazy, now(lazy) - began);
}

static void run_pause(void *ctx) {
    kwr_lazy *lazy = ctx;
    const kwr_executor *executor = lazy->e->env->executor;
    kwr_mutex_lock(&lazy->lock);
    lazy->running = !lazy->stop && executor->blocking(executor->ctx, &lazy->step) >= KWR_OK;
    kwr_mutex_unlock(&lazy->lock);
}

/* ---- for the owner ---- */

void kwr_lazy_run(kwr_lazy *lazy) {
    const kwr_executor *executor = lazy->e->env->executor;
    if (executor == NULL) return;
    kwr_mutex_lock(&lazy->lock);
    const bool wanted = lazy->asked_count > 0 || (lazy->loading.share > 0 && !lazy->done &&
                                                  lazy->ready_bytes < READY_BYTES_MAX);
    if (wanted && !lazy->running && !lazy->stop) {
        lazy->step = (kwr_work){ .run = run_step, .ctx = lazy };
        lazy->pause = (kwr_work){ .run = run_pause, .ctx = lazy };
        lazy->running = executor->blocking(executor->ctx, &lazy->step) >= KWR_OK;
    }
    kwr_mutex_unlock(&lazy->lock);
}

void kwr_lazy_stop(kwr_lazy *lazy) {
    const kwr_executor *executor = lazy->e->env->executor;
    kwr_mutex_lock(&lazy->lock);
    lazy->stop = true;
    kwr_mutex_unlock(&lazy->lock);
    if (executor == NULL) return;
    if (!executor->cancel(executor->ctx, &lazy->pause)) executor->wait(executor->ctx, &lazy->pause);
    if (!executor->cancel(executor->ctx, &lazy->step)) executor->wait(executor->ctx, &lazy->step);
}

void kwr_lazy_ask(kwr_lazy *lazy, uint32_t unit) {
    kwr_mutex_lock(&lazy->lock);
    if (lazy->asked_count < KWR_LAZY_ASKED_MAX)
        lazy->asked[lazy->asked_count++] = unit;
    else /* the next access asks again */
        atomic_store_explicit(&lazy->states[unit], kwr_unit_state(lazy, unit) & ~KWR_UNIT_ASKED,
                              memory_order_relaxed);
    kwr_mutex_unlock(&lazy->lock);
    kwr_lazy_run(lazy);
}

/* What cannot be installed stays a stub; an access that waits for it is told. */
static void refused(kwr_lazy *lazy, kwr_loaded *l) {
    const uint8_t state = kwr_unit_state(lazy, l->unit);
    if ((state & KWR_UNIT_RESIDENT) != 0) {
        kwr_loaded_free(l);
        return;
    }
    if (lazy->failed++ == 0)
        kwr_log_line(lazy->e->env, KWR_LOG_WARNING, "page store",
                     "a page could not be loaded in the background: %s", l->err.text);
    atomic_store_explicit(&lazy->states[l->unit], state & ~KWR_UNIT_ASKED, memory_order_relaxed);
    kwr_lazy_note(lazy, l->unit, l->status);
    if ((state & KWR_UNIT_ASKED) == 0) {
        kwr_loaded_free(l);
        return;
    }
    l->next = lazy->failures;
    lazy->failures = l;
}

/* The first unit of what is ready. True: that was the last of this piece. */
static bool take_one(kwr_lazy *lazy, kwr_loaded *l) {
    if (l->status != KWR_OK) return true;
    const uint32_t unit = l->unit + l->taken;
    const size_t images = lazy->firsts[unit + 1] - lazy->firsts[unit];
    const kwr_status status = kwr_lazy_install(lazy, unit, l->images + l->at, images, &l->err);
    if (status != KWR_OK) { /* the others of the piece are read again when they are needed */
        l->unit = unit;
        l->status = status;
        return true;
    }
    l->at += images;
    return ++l->taken == l->units;
}

bool kwr_lazy_is_ready(kwr_lazy *lazy, uint32_t unit) {
    bool found = false;
    kwr_mutex_lock(&lazy->lock);
    for (const kwr_loaded *l = lazy->ready; l != NULL && !found; l = l->next)
        found = unit - l->unit < l->units && unit - l->unit >= l->taken;
    kwr_mutex_unlock(&lazy->lock);
    return found;
}

/* Only the owner takes from the front. */
static kwr_loaded *front(kwr_lazy *lazy) {
    kwr_mutex_lock(&lazy->lock);
    kwr_loaded *l = lazy->ready;
    kwr_mutex_unlock(&lazy->lock);
    return l;
}

bool kwr_lazy_take(kwr_lazy *lazy, uint64_t max_ns) {
    const uint64_t began = now(lazy);
    while (kwr_lazy_has_ready(lazy)) {
        kwr_loaded *l = front(lazy);
        if (take_one(lazy, l)) {
            kwr_mutex_lock(&lazy->lock);
            lazy->ready = l->next;
            if (lazy->ready == NULL) lazy->ready_end = &lazy->ready;
            lazy->ready_bytes -= l->bytes.size;
            l->next = NULL;
            atomic_fetch_sub_explicit(&lazy->ready_count, 1, memory_order_relaxed);
            kwr_mutex_unlock(&lazy->lock);
            if (l->status == KWR_OK)
                kwr_loaded_free(l);
            else
                refused(lazy, l);
            kwr_lazy_run(lazy);
        }
        if (now(lazy) - began >= max_ns) break;
    }
    return kwr_lazy_has_ready(lazy);
}
