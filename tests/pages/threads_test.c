/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views on other threads: walked, written as images and released there while the owner goes on
 * writing, and after it has closed the engine. Restores from several threads. Run under
 * ThreadSanitizer with the plain runner.
 */
#include <pthread.h>

#include "tests/pages/pages_test.h"

enum { KEYS = 3000, WALKERS = 3, ROUNDS = 25 };

/* What a frozen view must add up to. */
typedef struct job {
    store *s;
    kwr_engine_view *view;
    uint64_t sum, entries;
    bool pass; /* lets go of each key group that it has read */
    bool busy;
} job;

typedef struct crew {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    job jobs[WALKERS];
    bool over;
    unsigned wrong;
} crew;

typedef struct walker {
    crew *crew;
    unsigned index;
} walker;

static uint64_t weigh(kwr_slice key, kwr_slice value) {
    return kwr_key_hash(key, 1) ^ kwr_key_hash(value, 2);
}

static kwr_status add_entry(void *ctx, const kwr_entry *entry) {
    job *j = ctx;
    /* Subkeys of these tests are in one collection only. */
    j->sum += weigh(entry->subkey.size > 0 ? entry->subkey : entry->key, entry->value);
    j->entries++;
    return KWR_OK;
}

static kwr_status add_image(void *ctx, const kwr_page_image *image) {
    return kwr_page_image_walk(image, add_entry, ctx, NULL);
}

static bool look(const job *given) {
    job walked = { 0 }, read = { 0 };
    const kwr_engine_ops *ops = given->s->ops;
    kwr_page_sink sink = { .ctx = &read, .image = add_image };
    bool right = true;
    for (uint32_t g = 0; g < given->s->config.key_groups.count; g++) {
        right &= ops->view_walk(given->view, 0, g, add_entry, &walked) == KWR_OK;
        right &= ops->view_images(given->view, g, &sink) == KWR_OK;
        if (given->pass) ops->view_pass(given->view, g);
    }
    kwr_state_count count;
    right &= ops->view_count(given->view, 0, &count) == KWR_OK;
    return right && walked.sum == given->sum && read.sum == given->sum &&
           walked.entries == given->entries &&
           (kwr_state_is_collection(given->s->kind) ? count.elements : count.entries) ==
               given->entries;
}

static void *walk(void *arg) {
    const walker *w = arg;
    crew *c = w->crew;
    job *mine = &c->jobs[w->index];
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!mine->busy && !c->over)
            pthread_cond_wait(&c->changed, &c->lock);
        if (!mine->busy) break;
        const job given = *mine;
        pthread_mutex_unlock(&c->lock);
        const bool right = look(&given);
        given.s->ops->view_release(given.view);
        pthread_mutex_lock(&c->lock);
        mine->busy = false;
        c->wrong += !right;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Drops a collection with all its elements. */
static void drop(store *s, const kwr_address *at, uint64_t *sum, uint64_t *entries) {
    kwr_slice key = { 0 }, value;
    kwr_engine_hint hint = { 0 };
    kwr_seek seek = KWR_SEEK_FIRST;
    for (; s->ops->sub_seek(s->engine, at, seek, key, &hint, &key, &value) == KWR_OK;
         seek = KWR_SEEK_ABOVE) {
        *sum -= weigh(key, value);
        --*entries;
    }
    cr_assert(s->ops->remove(s->engine, at) >= KWR_OK);
}

static void write_elements(store *s, rng *r, uint64_t *sum, uint64_t *entries, unsigned n) {
    static uint8_t value[6000];
    for (unsigned i = 0; i < n; i++) {
        char key[16], subkey[16];
        const uint32_t number = rng_below(r, KEYS);
        snprintf(key, sizeof key, "%u", number % 5);
        snprintf(subkey, sizeof subkey, "%u", number);
        const kwr_address at = store_address(s, 0, text(key), text(""));
        kwr_slice old;
        if (rng_below(r, 2000) == 0) drop(s, &at, sum, entries);
        if (s->ops->sub_get(s->engine, &at, text(subkey), &old) == KWR_OK) {
            *sum -= weigh(text(subkey), old);
            --*entries;
        }
        if (rng_below(r, 5) == 0) {
            cr_assert(s->ops->sub_remove(s->engine, &at, text(subkey)) >= KWR_OK);
            continue;
        }
        const kwr_slice fresh = { value, rng_below(r, 200) == 0 ? 5000 : 40 + rng_below(r, 60) };
        memset(value, (int)rng_below(r, 256), fresh.size);
        KWR_MUST(s->ops->sub_put(s->engine, &at, text(subkey), fresh));
        *sum += weigh(text(subkey), fresh);
        ++*entries;
    }
}

static void write_some(store *s, rng *r, uint64_t *sum, uint64_t *entries, unsigned n) {
    static uint8_t value[6000];
    if (kwr_state_is_collection(s->kind)) {
        write_elements(s, r, sum, entries, n);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", rng_below(r, KEYS));
        const kwr_address at = store_address(s, 0, text(key), text(""));
        kwr_slice old;
        if (s->ops->get(s->engine, &at, &old) == KWR_OK) {
            *sum -= weigh(at.key, old);
            --*entries;
        }
        if (rng_below(r, 5) == 0) {
            cr_assert(s->ops->remove(s->engine, &at) >= KWR_OK);
            continue;
        }
        const kwr_slice fresh = { value, rng_below(r, 200) == 0 ? 5000 : 40 + rng_below(r, 60) };
        memset(value, (int)rng_below(r, 256), fresh.size);
        KWR_MUST(s->ops->put(s->engine, &at, fresh));
        *sum += weigh(at.key, fresh);
        ++*entries;
    }
}

/* Waits for a walker that is free; its index. */
static unsigned idle_walker(crew *c) {
    for (;;) {
        for (unsigned i = 0; i < WALKERS; i++)
            if (!c->jobs[i].busy) return i;
        pthread_cond_wait(&c->changed, &c->lock);
    }
}

static void read_while_written(const store_options *options) {
    store *s = store_open(options);
    crew c = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    pthread_t threads[WALKERS];
    walker walkers[WALKERS];
    for (unsigned i = 0; i < WALKERS; i++) {
        walkers[i] = (walker){ &c, i };
        cr_assert(pthread_create(&threads[i], NULL, walk, &walkers[i]) == 0);
    }
    rng r = { 21 };
    uint64_t sum = 0, entries = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        write_some(s, &r, &sum, &entries, 600);
        pthread_mutex_lock(&c.lock);
        job *j = &c.jobs[idle_walker(&c)];
        *j = (job){ .s = s, .sum = sum, .entries = entries, .pass = round % 3 > 0 };
        KWR_MUST(s->ops->freeze(s->engine, &j->view));
        j->busy = true;
        pthread_cond_broadcast(&c.changed);
        pthread_mutex_unlock(&c.lock);
        if (round % 8 == 7) (void)s->ops->maintain(s->engine, 1000000);
    }
    /* The last views outlive the engine. */
    kwr_engine *engine = s->engine;
    s->engine = store_second(s);
    s->ops->close(engine);
    pthread_mutex_lock(&c.lock);
    c.over = true;
    pthread_cond_broadcast(&c.changed);
    pthread_mutex_unlock(&c.lock);
    for (unsigned i = 0; i < WALKERS; i++)
        pthread_join(threads[i], NULL);
    cr_assert(c.wrong == 0);
    store_close(s);
}

KWR_TEST(threads, read_and_release_views_while_the_owner_writes, .timeout = 300) {
    read_while_written(NULL);
}

KWR_TEST(threads, read_and_release_views_of_collections, .timeout = 300) {
    read_while_written(&(store_options){ .kind = KWR_STATE_MAP });
}

typedef struct installer {
    store *s;
    kwr_engine *engine;
    const images *im;
    unsigned index, step;
    kwr_status status;
} installer;

static void *install_some(void *arg) {
    installer *in = arg;
    kwr_error err;
    for (size_t i = in->index; i < in->im->count && in->status == KWR_OK; i += in->step)
        in->status = in->s->ops->install(in->engine, &in->im->items[i], &err);
    return NULL;
}

static void restore_together(const store_options *options) {
    store *s = store_open(options);
    rng r = { 22 };
    uint64_t sum = 0, entries = 0;
    for (unsigned i = 0; i < 10; i++)
        write_some(s, &r, &sum, &entries, 1000);
    kwr_engine_view *view;
    KWR_MUST(s->ops->freeze(s->engine, &view));
    images im = { 0 };
    images_take(&im, s, view);
    s->ops->view_release(view);
    images_shuffle(&im, &r);
    kwr_engine *second = store_second(s);
    KWR_MUST(s->ops->restore_begin(second, TEST_SEED));
    pthread_t threads[WALKERS];
    installer work[WALKERS];
    for (unsigned i = 0; i < WALKERS; i++) {
        work[i] = (installer){ s, second, &im, i, WALKERS, KWR_OK };
        cr_assert(pthread_create(&threads[i], NULL, install_some, &work[i]) == 0);
    }
    for (unsigned i = 0; i < WALKERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < WALKERS; i++)
        KWR_MUST(work[i].status);
    kwr_error err;
    KWR_MUST_ERR(s->ops->restore_end(second, &err), err);
    store_check(second);
    kwr_engine_view *copy;
    KWR_MUST(s->ops->freeze(second, &copy));
    const job given = { .s = s, .view = copy, .sum = sum, .entries = entries };
    cr_assert(look(&given));
    s->ops->view_release(copy);
    images_free(&im);
    s->ops->close(second);
    store_close(s);
}

KWR_TEST(threads, restore_together, .timeout = 300) {
    restore_together(&(store_options){ .max_parallelism = 32 });
}

KWR_TEST(threads, restore_collections_together, .timeout = 300) {
    restore_together(&(store_options){ .max_parallelism = 32, .kind = KWR_STATE_MAP });
}
