/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of hash pages: an image and what changed since give what the page is, whatever happened to
 * it in between; and no bytes whatever crash.
 */
#include "backend/memory/page_changes.h"
#include "tests/pages/pages_test.h"

/* What one look at the store gave: whole images, and deltas since an epoch. */
typedef struct look {
    images whole, deltas;
    uint64_t epoch, since, first;
} look;

static kwr_status keep(images *im, const kwr_page_image *image) {
    im->items = realloc(im->items, (im->count + 1) * sizeof *im->items);
    kwr_page_image *item = &im->items[im->count++];
    *item = *image;
    void *bytes = malloc(image->size);
    memcpy(bytes, image->bytes, image->size);
    item->bytes = bytes;
    return KWR_OK;
}

static kwr_status take(void *ctx, const kwr_page_image *image) {
    look *l = ctx;
    return keep(image->kind == KWR_PAGE_DELTA ? &l->deltas : &l->whole, image);
}

static kwr_status ask(void *ctx, const kwr_page_image *image, bool *wanted) {
    const look *l = ctx;
    *wanted = l->since == 0 || image->epoch > l->since;
    return KWR_OK;
}

static kwr_status changed(void *ctx, const kwr_page_image *image, kwr_page_since *out) {
    const look *l = ctx;
    (void)image;
    out->since = l->since;
    out->whole = l->first;
    return KWR_OK;
}

static look look_at(store *s, uint64_t first, uint64_t since) {
    kwr_engine_view *view;
    look l = { .since = since, .first = first };
    KWR_MUST(s->ops->freeze(s->engine, &view));
    l.epoch = s->ops->view_epoch(view);
    kwr_page_sink sink = { .ctx = &l, .page = ask, .changed = changed, .image = take };
    for (uint32_t g = 0; g < s->config.key_groups.count; g++)
        KWR_MUST(s->ops->view_images(view, s->config.key_groups.first + g, &sink));
    s->ops->view_release(view);
    return l;
}

static void look_free(look *l) {
    images_free(&l->whole);
    images_free(&l->deltas);
}

/* The delta of an image, taken out of the numbers in front of it. */
static kwr_delta delta_of(const kwr_page_image *image, uint8_t *batch) {
    kwr_delta_batch open;
    kwr_delta delta;
    kwr_error err = { 0 };
    kwr_delta_batch_begin(batch, 0, 0, 1);
    memcpy(batch + KWR_DELTA_HEADER, image->bytes, image->size);
    KWR_MUST_ERR(kwr_delta_batch_check(batch, KWR_DELTA_HEADER + image->size, &err), err);
    KWR_MUST_ERR(kwr_delta_batch_open(batch, KWR_DELTA_HEADER + image->size, &open, &err), err);
    KWR_MUST_ERR(kwr_delta_batch_next(&open, &delta, &err), err);
    cr_assert(kwr_delta_batch_next(&open, &(kwr_delta){ 0 }, &err) == KWR_NOT_FOUND);
    cr_assert(delta.page_id == image->page_id);
    return delta;
}

static const kwr_page_image *find(const images *im, const kwr_page_image *like) {
    for (size_t i = 0; i < im->count; i++)
        if (im->items[i].page_id == like->page_id && im->items[i].key_group == like->key_group)
            return &im->items[i];
    return NULL;
}

enum { KEYS = 900, LOOKS = 6 };

static void put(store *s, model *m, unsigned key, unsigned round) {
    static uint8_t value[6000];
    char name[16];
    snprintf(name, sizeof name, "k%u", key);
    const kwr_address at = store_address(s, 0, text(name), text(""));
    const size_t size = key % 50 == 7 ? 5000 + round : 10 + key % 30 + (key % 9 == 0 ? round : 0);
    memset(value, (int)(round + key), size);
    KWR_MUST(s->ops->put(s->engine, &at, (kwr_slice){ value, size }));
    model_put(m, &at, value, size);
}

static void change(store *s, model *m, rng *r, unsigned count, unsigned round) {
    for (unsigned i = 0; i < count; i++) {
        const unsigned key = (unsigned)(rng_next(r) % (KEYS + 100));
        char name[16];
        snprintf(name, sizeof name, "k%u", key);
        const kwr_address at = store_address(s, 0, text(name), text(""));
        if (rng_next(r) % 4 != 0) {
            put(s, m, key, round);
            continue;
        }
        const kwr_status status = s->ops->remove(s->engine, &at);
        cr_assert(status == KWR_OK || status == KWR_NOT_FOUND);
        model_remove(m, &at);
    }
}

/* A chain of looks, each at what changed since the one before; at its end all is put together. */
KWR_TEST(delta, image_and_deltas_are_the_page) {
    store *s = store_open(NULL);
    model *m = model_new();
    rng r = { 5 };
    look looks[LOOKS];
    size_t used = 0;
    for (unsigned i = 0; i < KEYS; i++)
        put(s, m, i, 1);
    looks[0] = look_at(s, 0, 0);
    for (unsigned i = 1; i < LOOKS; i++) {
        change(s, m, &r, 12, i + 1);
        looks[i] = look_at(s, looks[0].epoch, looks[i - 1].epoch);
        used += looks[i].deltas.count;
    }
    cr_assert(used > 20, "%zu deltas", used);
    /* What is there now is known from a look at all of it; each page is made again. */
    look now = look_at(s, 0, 0);
    images made = { 0 };
    for (size_t i = 0; i < now.whole.count; i++) {
        const kwr_page_image *want = &now.whole.items[i], *image = NULL;
        static uint8_t batches[LOOKS][2 * KWR_PAGE_BYTES_MAX];
        kwr_delta deltas[LOOKS];
        size_t count = 0;
        for (unsigned k = 0; k < LOOKS; k++) {
            const kwr_page_image *whole = find(&looks[k].whole, want);
            const kwr_page_image *delta = find(&looks[k].deltas, want);
            cr_assert(whole == NULL || delta == NULL);
            if (whole != NULL) {
                image = whole;
                count = 0;
            }
            if (delta != NULL) deltas[count++] = delta_of(delta, batches[k]);
        }
        cr_assert(image != NULL);
        kwr_buffer room = { .env = s->config.env };
        kwr_page_image out;
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_page_put_together(image, deltas, count, &room, &out, &err), err);
        cr_assert(out.entries == want->entries && out.entry_bytes == want->entry_bytes);
        keep(&made, &out);
        kwr_buffer_free(&room);
    }
    kwr_engine *e = store_second(s);
    kwr_error err = { 0 };
    KWR_MUST_ERR(images_install(&made, s, e, &err), err);
    store_check(e);
    model_expect(m, s, e);
    s->ops->close(e);
    images_free(&made);
    look_free(&now);
    for (unsigned i = 0; i < LOOKS; i++)
        look_free(&looks[i]);
    model_free(m);
    store_close(s);
}

/* Every byte of a delta changed, every length: refused with a reason, or a page as any other. */
KWR_TEST(delta, no_damage_crashes) {
    store *s = store_open(NULL);
    model *m = model_new();
    unsigned refused = 0, taken = 0;
    for (unsigned i = 0; i < 60; i++)
        put(s, m, i, 1);
    look first = look_at(s, 0, 0);
    put(s, m, 3, 2);
    put(s, m, 7, 2);
    put(s, m, 9, 2);
    look second = look_at(s, first.epoch, first.epoch);
    cr_assert(second.deltas.count > 0);
    for (size_t i = 0; i < second.deltas.count; i++) {
        const kwr_page_image *delta = &second.deltas.items[i], *image = find(&first.whole, delta);
        const size_t size = KWR_DELTA_HEADER + delta->size;
        uint8_t *good = malloc(size);
        (void)delta_of(delta, good);
        for (size_t at = 0; at < 4 * size; at++) {
            /* In a block of its own, so that reading behind its end is seen. */
            const size_t cut = at < 3 * size ? size : at - 3 * size;
            static const uint8_t flips[3] = { 0x01, 0x80, 0xff };
            uint8_t *bytes = malloc(cut + 1);
            memcpy(bytes, good, cut);
            if (at < 3 * size) bytes[at % size] ^= flips[at / size];
            kwr_error err = { 0 };
            kwr_delta_batch batch;
            kwr_delta one;
            kwr_status status = kwr_delta_batch_check(bytes, cut, &err);
            cr_assert(status == KWR_OK || status == KWR_ERR_CORRUPT);
            status = kwr_delta_batch_open(bytes, cut, &batch, &err);
            if (status == KWR_OK) status = kwr_delta_batch_next(&batch, &one, &err);
            kwr_buffer room = { .env = s->config.env };
            kwr_page_image out;
            if (status == KWR_OK) status = kwr_page_put_together(image, &one, 1, &room, &out, &err);
            cr_assert(status == KWR_OK || (status == KWR_ERR_CORRUPT && strlen(err.text) > 10));
            refused += status != KWR_OK;
            taken += status == KWR_OK;
            kwr_buffer_free(&room);
            free(bytes);
        }
        free(good);
    }
    cr_assert(refused > 100 && taken > 20, "%u refused, %u taken", refused, taken);
    look_free(&first);
    look_free(&second);
    model_free(m);
    store_close(s);
}

/* Marks come again after some epochs; nothing that changed is ever left out. */
KWR_TEST(delta, a_mark_never_hides_a_change) {
    for (uint64_t changed_in = 1; changed_in < 400; changed_in += 3) {
        const uint8_t mark = kwr_mark_of(changed_in);
        cr_assert(mark >= 1 && mark <= KWR_MARKS);
        for (uint64_t now = changed_in; now < changed_in + 300; now += 7)
            for (uint64_t since = 0; since < changed_in; since++)
                cr_assert(kwr_mark_within(mark, since, now), "%d since %d at %d", (int)changed_in,
                          (int)since, (int)now);
        /* And soon after nothing else is said to have changed. */
        cr_assert(!kwr_mark_within(mark, changed_in, changed_in + 100));
        cr_assert(!kwr_mark_within(0, 0, changed_in));
    }
}

KWR_TEST(delta, slots_have_marks_of_their_own) {
    kwr_slots line;
    memset(&line, 0, sizeof line);
    for (uint32_t i = 0; i < KWR_SLOTS; i++)
        kwr_slot_touch(&line, i, (uint8_t)(KWR_MARKS - i));
    line.ages[KWR_AGE_OVERFLOW] = 99;
    for (uint32_t i = 0; i < KWR_SLOTS; i++)
        cr_assert(kwr_slot_mark(&line, i) == KWR_MARKS - i);
    for (uint32_t i = 0; i < KWR_SLOTS; i += 2)
        kwr_slot_touch(&line, i, (uint8_t)(i + 1));
    for (uint32_t i = 0; i < KWR_SLOTS; i++)
        cr_assert(kwr_slot_mark(&line, i) == (i % 2 == 0 ? i + 1 : KWR_MARKS - i));
    cr_assert(line.ages[KWR_AGE_OVERFLOW] == 99 && line.overflow == 0 && line.offsets[15] == 0);
}
