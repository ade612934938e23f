/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units: made of what the indexes say, loaded when an access needs them, installed by the owner.
 * A load that fails fails its access and changes nothing, so it can be tried again.
 */
#include "backend/memory/lazy.h"

#include "base/fan_out.h"

/* ---- opening ---- */

typedef struct opening {
    kwr_engine *e;
    kwr_lazy *lazy;
    kwr_page_stub unit; /* the hash page a unit begins with */
    kwr_error *err;
} opening;

static kwr_status bad_index(const opening *o, const kwr_page_stub *s, const char *text) {
    return KWR_FAIL(o->err, KWR_ERR_CORRUPT, 0, "index: page %llu of state %u, key group %u: %s",
                    (unsigned long long)s->page_id, s->state, s->key_group, text);
}

static bool same_group(const kwr_page_stub *a, const kwr_page_stub *b) {
    return a->state == b->state && a->key_group == b->key_group;
}

static kwr_status check_stub(const opening *o, const kwr_page_stub *s) {
    if (s->state >= o->e->state_count) return bad_index(o, s, "there is no such state");
    if (s->key_group - o->e->group_first >= o->e->group_count)
        return bad_index(o, s, "its key group is not owned here");
    if (!kwr_page_id_ok(s->page_id)) return bad_index(o, s, "no page has such an id");
    if (s->kind == KWR_PAGE_HASH) {
        if (s->depth > KWR_DEPTH_MAX || (s->depth == 0 ? s->prefix : s->prefix << s->depth) != 0)
            return bad_index(o, s, "its prefix does not fit its depth");
        return KWR_OK;
    }
    if (s->kind != KWR_PAGE_BLOB && s->kind != KWR_PAGE_TREE)
        return KWR_FAIL(o->err, KWR_ERR_FORMAT, 0, "this version cannot read its kind (%u)",
                        (unsigned)s->kind);
    const kwr_page_stub *unit = &o->unit;
    if (s->depth != KWR_PAGE_OWNED || o->lazy->unit_count == 0 || !same_group(s, unit) ||
        (unit->depth > 0 && (s->prefix ^ unit->prefix) >> (64 - unit->depth) != 0))
        return bad_index(o, s, "there is no page it could belong to");
    return KWR_OK;
}

/* Another page of the chain the unit is. */
static bool goes_on(const opening *o, const kwr_page_stub *s) {
    return s->kind != KWR_PAGE_HASH ||
           (o->lazy->unit_count > 0 && s->depth == KWR_DEPTH_MAX && same_group(s, &o->unit) &&
            s->depth == o->unit.depth && s->prefix == o->unit.prefix);
}

static kwr_status place_unit(opening *o, const kwr_page_stub *s, uint32_t image) {
    kwr_path path;
    KWR_TRY(kwr_directory_narrow(o->e, s->state, s->key_group, s->depth, s->prefix, &path, o->err));
    if (kwr_word_kind_of(kwr_path_word(&path)) != KWR_WORD_EMPTY)
        return bad_index(o, s, "two pages claim the same entries");
    const kwr_step *step = kwr_path_last(&path);
    const unsigned depth = step->bits == 0 ? 0 : kwr_word_depth(kwr_path_word(&path));
    kwr_directory_set(o->e, step, kwr_stub_word(o->lazy->unit_count, depth));
    kwr_store_settle(o->e);
    o->lazy->firsts[o->lazy->unit_count++] = image;
    o->unit = *s;
    return KWR_OK;
}

static kwr_status place_all(opening *o) {
    kwr_lazy *lazy = o->lazy;
    kwr_engine *e = o->e;
    for (uint64_t i = 0; i < lazy->source.count; i++) {
        kwr_page_stub s;
        lazy->source.stub(lazy->source.ctx, i, &s);
        KWR_TRY(check_stub(o, &s));
        if (!goes_on(o, &s)) KWR_TRY(place_unit(o, &s, (uint32_t)i));
        if (e->page_ids <= s.page_id) e->page_ids = s.page_id + 1;
        kwr_store_count(e, s.state, s.entries, s.entry_bytes, s.elements);
        lazy->bytes_all += s.stored;
    }
    lazy->firsts[lazy->unit_count] = (uint32_t)lazy->source.count;
    lazy->left = lazy->unit_count;
    lazy->bytes_left = lazy->bytes_all;
    return KWR_OK;
}

static size_t firsts_bytes(const kwr_lazy *lazy) {
    return ((size_t)lazy->source.count + 1) * sizeof *lazy->firsts;
}
static size_t states_bytes(const kwr_lazy *lazy) {
    return (size_t)lazy->source.count * sizeof *lazy->states;
}

static void drop(kwr_lazy *lazy) {
    kwr_page_arena *arena = &lazy->e->arena;
    kwr_page_arena_host_free(arena, lazy->firsts, firsts_bytes(lazy));
    kwr_page_arena_host_free(arena, lazy->states, states_bytes(lazy));
    kwr_mutex_done(&lazy->lock);
    kwr_page_arena_host_free(arena, lazy, sizeof *lazy);
}

kwr_status kwr_lazy_open(kwr_engine *e, uint64_t seed, const kwr_page_source *source,
                         const kwr_page_loading *loading, kwr_error *err) {
    if (e->restore != NULL || e->lazy != NULL || e->entries > 0)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "page store: a restore into an engine in use");
    if (source->count >= UINT32_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "page store: more than 4294967294 pages");
    kwr_lazy *lazy = kwr_page_arena_host_alloc(&e->arena, sizeof *lazy);
    if (lazy == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore lazily");
    *lazy = (kwr_lazy){ .e = e, .source = *source, .loading = *loading };
    kwr_mutex_init(&lazy->lock);
    lazy->ready_end = &lazy->ready;
    lazy->began_ns = e->env->clock->mono_ns(e->env->clock->ctx);
    lazy->firsts = kwr_page_arena_host_alloc(&e->arena, firsts_bytes(lazy));
    lazy->states = kwr_page_arena_host_alloc(&e->arena, states_bytes(lazy));
    kwr_status status = KWR_ERR_NOMEM;
    if (lazy->firsts != NULL && lazy->states != NULL) {
        memset(lazy->states, 0, states_bytes(lazy));
        opening o = { .e = e, .lazy = lazy, .err = err };
        e->seed = seed;
        status = place_all(&o);
    }
    if (status != KWR_OK) {
        drop(lazy);
        if (status == KWR_ERR_NOMEM)
            return KWR_FAIL(err, status, 0, "no memory for the directory of a lazy restore");
        return status;
    }
    e->lazy = lazy;
    /* What changes from now on has changed since the restore. */
    kwr_store_begin_epoch(e, (source->past > e->epoch ? source->past : e->epoch) + 1);
    e->stamp++;
    kwr_lazy_run(lazy);
    return KWR_OK;
}

/* ---- the end ---- */

void kwr_lazy_free(kwr_lazy *lazy) {
    if (lazy == NULL) return;
    for (kwr_loaded *l = lazy->ready, *next; l != NULL; l = next) {
        next = l->next;
        kwr_loaded_free(l);
    }
    for (kwr_loaded *l = lazy->failures, *next; l != NULL; l = next) {
        next = l->next;
        kwr_loaded_free(l);
    }
    lazy->source.release(lazy->source.ctx);
    drop(lazy);
}

void kwr_lazy_retire(kwr_engine *e) {
    kwr_lazy *lazy = e->lazy;
    /* A view may have stubs of its own. */
    if (lazy->left > 0 || atomic_load_explicit(&e->views, memory_order_acquire) > 0) return;
    kwr_lazy_stop(lazy);
    e->lazy = NULL;
    kwr_lazy_free(lazy);
}

/* ---- one unit ---- */

static void set_state(kwr_lazy *lazy, uint32_t unit, uint8_t state) {
    atomic_store_explicit(&lazy->states[unit], state, memory_order_relaxed);
}

static kwr_status build(kwr_engine *e, const kwr_page_image *images, size_t count, kwr_word *word,
                        kwr_error *err) {
    kwr_status status = kwr_store_build_apart(e, images, count, word, err);
    /* What released views hold may be enough. */
    if (status == KWR_ERR_NOMEM && (e->released_views > 0 || e->released != NULL)) {
        kwr_store_drain(e, UINT64_MAX);
        status = kwr_store_build_apart(e, images, count, word, err);
    }
    return status;
}

/* The indexes count without deltas: what these changed is known now. */
static void count_again(kwr_lazy *lazy, uint32_t unit, const kwr_page_image *images, size_t count) {
    for (size_t i = 0; i < count; i++) {
        kwr_page_stub s;
        lazy->source.stub(lazy->source.ctx, lazy->firsts[unit] + i, &s);
        kwr_store_count(lazy->e, s.state, (int64_t)images[i].entries - s.entries,
                        (int64_t)images[i].entry_bytes - s.entry_bytes,
                        (int64_t)images[i].elements - s.elements);
    }
}

kwr_status kwr_lazy_install(kwr_lazy *lazy, uint32_t unit, const kwr_page_image *images,
                            size_t count, kwr_error *err) {
    kwr_engine *e = lazy->e;
    kwr_page_stub s;
    kwr_path path;
    kwr_word word;
    if ((kwr_unit_state(lazy, unit) & KWR_UNIT_RESIDENT) != 0) return KWR_OK;
    lazy->source.stub(lazy->source.ctx, lazy->firsts[unit], &s);
    /* The way there first: it is complete in itself. */
    if (kwr_directory_path(e, s.state, s.key_group, s.prefix, &path) != KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the way to a page");
    const kwr_word stub = kwr_path_word(&path);
    KWR_INVARIANT(13, kwr_word_kind_of(stub) == KWR_WORD_STUB && kwr_stub_unit(stub) == unit);
    KWR_TRY(build(e, images, count, &word, err));
    kwr_directory_set(e, kwr_path_last(&path), kwr_word_with_depth(word, kwr_word_depth(stub)));
    set_state(lazy, unit, KWR_UNIT_RESIDENT);
    if (lazy->source.estimated) count_again(lazy, unit, images, count);
    lazy->left--;
    for (uint32_t i = lazy->firsts[unit]; i < lazy->firsts[unit + 1]; i++) {
        lazy->source.stub(lazy->source.ctx, i, &s);
        lazy->bytes_left -= s.stored;
    }
    return KWR_OK;
}

/* ---- accesses ---- */

void kwr_lazy_note(kwr_lazy *lazy, uint32_t unit, kwr_status status) {
    if (kwr_status_action(status) == KWR_STOP) set_state(lazy, unit, KWR_UNIT_DAMAGED);
}

static kwr_status failed(kwr_lazy *lazy, kwr_status status, const kwr_error *err) {
    lazy->error = *err;
    lazy->error.status = status;
    return status;
}

/* The outcome of a load that was asked for: its failure is told once. */
static kwr_status asked_outcome(kwr_lazy *lazy, uint32_t unit) {
    for (kwr_loaded **at = &lazy->failures; *at != NULL; at = &(*at)->next) {
        kwr_loaded *l = *at;
        if (l->unit != unit) continue;
        *at = l->next;
        const kwr_status status = failed(lazy, l->status, &l->err);
        kwr_loaded_free(l);
        return status;
    }
    if ((kwr_unit_state(lazy, unit) & KWR_UNIT_ASKED) == 0) {
        set_state(lazy, unit, kwr_unit_state(lazy, unit) | KWR_UNIT_ASKED);
        kwr_lazy_ask(lazy, unit);
    }
    kwr_error_set(&lazy->error, KWR_ERR_NOT_RESIDENT, 0,
                  "the entry's page is being loaded; try again after kwr_backend_maintain()");
    return KWR_ERR_NOT_RESIDENT;
}

kwr_status kwr_lazy_fetch(kwr_engine *e, kwr_word stub) {
    kwr_lazy *lazy = e->lazy;
    const uint32_t unit = kwr_stub_unit(stub);
    if (kwr_lazy_has_ready(lazy)) do {
            (void)kwr_lazy_take(lazy, 0);
        } while (kwr_lazy_is_ready(lazy, unit));
    if ((kwr_unit_state(lazy, unit) & KWR_UNIT_RESIDENT) != 0) return KWR_OK;
    if (lazy->no_wait) return asked_outcome(lazy, unit);
    kwr_error err = { 0 };
    kwr_loaded *l = kwr_loaded_new(e->env);
    kwr_status status = KWR_ERR_NOMEM;
    if (l != NULL) status = kwr_loaded_read(l, lazy, unit, 1, true, &err);
    if (status == KWR_OK) status = kwr_lazy_install(lazy, unit, l->images, l->count, &err);
    kwr_loaded_free(l);
    if (status == KWR_OK) return KWR_OK;
    if (err.text[0] == '\0') kwr_error_set(&err, status, 0, "no memory to load a page");
    kwr_lazy_note(lazy, unit, status);
    return failed(lazy, status, &err);
}

/* ---- several at once ---- */

typedef struct fetching {
    kwr_fan fan;
    const kwr_lazy *lazy;
    kwr_loaded *loaded;
} fetching;

static void fetch_one(void *ctx) {
    fetching *f = ctx;
    kwr_loaded *l = f->loaded;
    l->status = kwr_loaded_read(l, f->lazy, l->unit, l->units, true, &l->err);
}

/* Of units that were read together: which it was. */
static void note_failed(kwr_lazy *lazy, const kwr_loaded *l) {
    if (kwr_status_action(l->status) != KWR_STOP) return;
    for (uint32_t u = l->unit; u < l->unit + l->units; u++) {
        kwr_loaded *one = l->units == 1 ? NULL : kwr_loaded_new(lazy->e->env);
        if (one == NULL && l->units > 1) return;
        kwr_error err = { 0 };
        const kwr_status status =
            one == NULL ? l->status : kwr_loaded_read(one, lazy, u, 1, true, &err);
        if (status < KWR_OK) kwr_lazy_note(lazy, u, status);
        kwr_loaded_free(one);
    }
}

/* Reads by as many threads as there are, then installs. The first failure ends it. */
static kwr_status fetch_units(kwr_lazy *lazy, fetching *fetches, size_t count, kwr_error *err) {
    kwr_engine *e = lazy->e;
    kwr_fan fans[KWR_FAN_MAX];
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < count; i++) {
        fetches[i].lazy = lazy;
        fans[i] = (kwr_fan){ .work = { .run = fetch_one, .ctx = &fetches[i] } };
    }
    for (size_t i = 0; i < count; i++)
        fetches[i].loaded->status = KWR_ERR_CANCELLED;
    kwr_fan_run(e->env, fans, count);
    for (size_t i = 0; i < count; i++) {
        kwr_loaded *l = fetches[i].loaded;
        /* What could not be posted has not run. */
        if (l->status == KWR_ERR_CANCELLED) fetch_one(&fetches[i]);
        if (l->status != KWR_OK && status == KWR_OK && err != NULL) *err = l->err;
        if (l->status != KWR_OK && status == KWR_OK) status = l->status;
        if (l->status != KWR_OK) note_failed(lazy, l);
        size_t at = 0;
        for (uint32_t u = l->unit; u < l->unit + l->units && status == KWR_OK; u++) {
            const size_t images = lazy->firsts[u + 1] - lazy->firsts[u];
            status = kwr_lazy_install(lazy, u, l->images + at, images, err);
            if (status != KWR_OK) kwr_lazy_note(lazy, u, status);
            at += images;
        }
    }
    return status;
}

enum { ALL_STEP_BYTES = 256 * 1024 };

/* Units from `unit` on that are not resident, about ALL_STEP_BYTES of them. */
static uint32_t run_of(const kwr_lazy *lazy, uint32_t unit) {
    uint64_t bytes = 0;
    uint32_t units = 0;
    for (; unit + units < lazy->unit_count && bytes < ALL_STEP_BYTES; units++) {
        if ((kwr_unit_state(lazy, unit + units) & KWR_UNIT_RESIDENT) != 0) break;
        for (uint32_t i = lazy->firsts[unit + units]; i < lazy->firsts[unit + units + 1]; i++) {
            kwr_page_stub s;
            lazy->source.stub(lazy->source.ctx, i, &s);
            bytes += s.stored;
        }
    }
    return units;
}

kwr_status kwr_lazy_fetch_all(kwr_engine *e, kwr_error *err) {
    kwr_lazy *lazy = e->lazy;
    if (lazy == NULL) return KWR_OK;
    fetching fetches[KWR_FAN_MAX];
    const size_t most = kwr_fan_size(e->env, 0, KWR_FAN_MAX);
    uint32_t unit = 0;
    kwr_status status = KWR_OK;
    while (status == KWR_OK && lazy->left > 0 && unit < lazy->unit_count) {
        size_t count = 0;
        while (count < most && unit < lazy->unit_count) {
            const uint32_t units = run_of(lazy, unit);
            if (units > 0 && (fetches[count].loaded = kwr_loaded_new(e->env)) == NULL) {
                status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to load pages");
                break;
            }
            if (units > 0) {
                fetches[count].loaded->unit = unit;
                fetches[count++].loaded->units = units;
            }
            unit += units > 0 ? units : 1;
        }
        if (status == KWR_OK) status = fetch_units(lazy, fetches, count, err);
        for (size_t i = 0; i < count; i++)
            kwr_loaded_free(fetches[i].loaded);
    }
    return status;
}

void kwr_lazy_prefetch(kwr_engine *e, const kwr_address *at, size_t count) {
    kwr_lazy *lazy = e->lazy;
    fetching fetches[KWR_FAN_MAX];
    size_t wanted = 0;
    for (size_t i = 0; i < count && wanted < KWR_FAN_MAX; i++) {
        const uint64_t hash = at[i].entry_hash & e->hash_mask;
        const kwr_word w = kwr_find_word(e, at[i].state, at[i].key_group, hash, false);
        if (kwr_word_kind_of(w) != KWR_WORD_STUB) continue;
        const uint32_t unit = kwr_stub_unit(w);
        if (lazy->no_wait) {
            if ((kwr_unit_state(lazy, unit) & KWR_UNIT_ASKED) != 0) continue;
            set_state(lazy, unit, kwr_unit_state(lazy, unit) | KWR_UNIT_ASKED);
            kwr_lazy_ask(lazy, unit);
            continue;
        }
        size_t same = 0;
        while (same < wanted && fetches[same].loaded->unit != unit)
            same++;
        if (same < wanted || (fetches[wanted].loaded = kwr_loaded_new(e->env)) == NULL) continue;
        fetches[wanted].loaded->unit = unit;
        fetches[wanted++].loaded->units = 1;
    }
    /* A failure is the access's to meet. */
    if (wanted > 1) (void)(fetch_units(lazy, fetches, wanted, NULL) == KWR_OK);
    for (size_t i = 0; i < wanted; i++)
        kwr_loaded_free(fetches[i].loaded);
}

/* ---- telling ---- */

void kwr_lazy_set_no_wait(kwr_engine *e, bool on) {
    if (e->lazy != NULL) e->lazy->no_wait = on;
}

bool kwr_lazy_estimates(const kwr_engine *e) {
    return e->lazy != NULL && e->lazy->source.estimated && e->lazy->left > 0;
}

void kwr_lazy_stats(const kwr_engine *e, kwr_backend_stats *out) {
    const kwr_lazy *lazy = e->lazy;
    out->estimated = kwr_lazy_estimates(e);
    if (lazy == NULL) return;
    out->load_bytes = lazy->bytes_all;
    out->load_bytes_left = lazy->bytes_left;
    out->load_pages_left = lazy->left;
    out->load_failures = lazy->failed;
    if (lazy->left == 0) return;
    const uint64_t done = lazy->bytes_all - lazy->bytes_left;
    const uint64_t now = e->env->clock->mono_ns(e->env->clock->ctx);
    out->load_left_ns = UINT64_MAX;
    if (done == 0 || lazy->loading.share == 0) return;
    const double ns = (double)(now - lazy->began_ns) * ((double)lazy->bytes_left / (double)done);
    if (ns < 9e18) out->load_left_ns = (uint64_t)ns;
}
