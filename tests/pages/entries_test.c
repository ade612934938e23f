/* SPDX-License-Identifier: Apache-2.0 */
/* Images of entries: what goes in comes out, in any cut into images, and no bytes do harm. */
#include <stdlib.h>

#include "backend/entries_image.h"
#include "tests/support/kwr_test.h"

enum { ENTRIES = 500, ELEMENTS = 7, IMAGES_MAX = 64 };

typedef struct taken {
    kwr_page_image images[IMAGES_MAX];
    size_t count;
} taken;

static kwr_status take(void *ctx, const kwr_page_image *image) {
    taken *t = ctx;
    cr_assert(t->count < IMAGES_MAX);
    uint8_t *copy = malloc(image->size);
    memcpy(copy, image->bytes, image->size);
    t->images[t->count] = *image;
    t->images[t->count++].bytes = copy;
    return KWR_OK;
}

static void drop(taken *t) {
    for (size_t i = 0; i < t->count; i++)
        free((void *)(uintptr_t)t->images[i].bytes);
    t->count = 0;
}

/* The i-th entry; large ones now and then, so that images end in the middle of collections. */
static void make(size_t i, bool collection, uint8_t *value, kwr_entry *out, char key[16],
                 char subkey[16]) {
    const size_t entry = collection ? i / ELEMENTS : i;
    (void)snprintf(key, 16, "k%u", (unsigned)entry);
    (void)snprintf(subkey, 16, "%u", (unsigned)(i % ELEMENTS));
    *out = (kwr_entry){ .state = 3, .key_group = 9, .key = { key, strlen(key) } };
    if (entry % 3 == 0) out->name = (kwr_slice){ "ns", 2 };
    if (collection) out->subkey = (kwr_slice){ subkey, strlen(subkey) };
    out->value = (kwr_slice){ value, (i * 37) % 901 };
}

static void write_all(kwr_env *env, bool collection, taken *t) {
    static uint8_t value[1000];
    kwr_page_sink sink = { .ctx = t, .image = take };
    kwr_entries_writer w;
    uint64_t id = 1;
    kwr_entries_begin(&w, env, &sink, &id, 3, 9, collection);
    for (size_t i = 0; i < ENTRIES; i++) {
        kwr_entry entry;
        char key[16], subkey[16];
        make(i, collection, value, &entry, key, subkey);
        KWR_MUST(kwr_entries_add(&w, &entry));
    }
    KWR_MUST(kwr_entries_end(&w));
    kwr_entries_free(&w);
}

typedef struct reading {
    size_t next;
    bool collection;
} reading;

static kwr_status same(void *ctx, const kwr_entry *got) {
    static uint8_t value[1000];
    reading *r = ctx;
    kwr_entry want;
    char key[16], subkey[16];
    make(r->next++, r->collection, value, &want, key, subkey);
    cr_assert(got->state == want.state && got->key_group == want.key_group);
    cr_assert(got->key.size == want.key.size && memcmp(got->key.data, key, want.key.size) == 0);
    cr_assert(got->name.size == want.name.size);
    cr_assert(got->subkey.size == want.subkey.size &&
              (want.subkey.size == 0 || memcmp(got->subkey.data, subkey, want.subkey.size) == 0));
    cr_assert(got->value.size == want.value.size);
    return KWR_OK;
}

static void round_trip(bool collection) {
    kwr_env *env;
    kwr_error err;
    KWR_MUST_ERR(kwr_env_posix_open(NULL, &env, &err), err);
    taken t = { 0 };
    write_all(env, collection, &t);
    cr_assert(t.count > 3);
    reading r = { .collection = collection };
    uint64_t entries = 0;
    for (size_t i = 0; i < t.count; i++) {
        KWR_MUST_ERR(kwr_page_image_walk(&t.images[i], same, &r, &err), err);
        cr_assert(t.images[i].page_id == i + 1);
        entries += t.images[i].entries;
    }
    cr_assert(r.next == ENTRIES);
    cr_assert(entries == (collection ? (ENTRIES + ELEMENTS - 1) / ELEMENTS : ENTRIES));
    drop(&t);
    kwr_env_posix_close(env);
}

KWR_TEST(entries, what_goes_in_comes_out) {
    round_trip(false);
    round_trip(true);
}

static kwr_status look(void *ctx, const kwr_entry *entry) {
    uint64_t *sum = ctx;
    const kwr_slice parts[] = { entry->key, entry->name, entry->subkey, entry->value };
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < parts[i].size; j++)
            *sum += ((const uint8_t *)parts[i].data)[j];
    return KWR_OK;
}

KWR_TEST(entries, every_cut_and_every_changed_byte_is_survived) {
    kwr_env *env;
    kwr_error err;
    KWR_MUST_ERR(kwr_env_posix_open(NULL, &env, &err), err);
    taken t = { 0 };
    write_all(env, true, &t);
    kwr_page_image image = t.images[t.count - 1]; /* the shortest */
    uint64_t sum = 0;
    const uint8_t *bytes = image.bytes;
    for (size_t size = 0; size < image.size; size++) {
        /* A copy of exactly that size: the sanitizer sees a read beyond it. */
        uint8_t *cut = malloc(size == 0 ? 1 : size);
        memcpy(cut, bytes, size);
        kwr_page_image shorter = image;
        shorter.bytes = cut;
        shorter.size = size;
        /* A cut between two elements of an entry shows only in what the index says of its size. */
        (void)kwr_page_image_walk(&shorter, look, &sum, &err);
        free(cut);
    }
    uint8_t *changed = malloc(image.size);
    memcpy(changed, bytes, image.size);
    image.bytes = changed;
    for (size_t i = 0; i < image.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            changed[i] ^= (uint8_t)(1U << bit);
            (void)kwr_page_image_walk(&image, look, &sum, &err);
            changed[i] ^= (uint8_t)(1U << bit);
        }
    }
    free(changed);
    drop(&t);
    kwr_env_posix_close(env);
}

static void refused(const void *bytes, size_t size, uint32_t entries, const char *words) {
    const kwr_page_image image = {
        .kind = KWR_PAGE_ENTRIES, .entries = entries, .bytes = bytes, .size = size
    };
    uint64_t sum = 0;
    kwr_error err = { 0 };
    cr_assert(kwr_page_image_walk(&image, look, &sum, &err) == KWR_ERR_CORRUPT);
    cr_assert(strstr(err.text, words) != NULL, "'%s' lacks '%s'", err.text, words);
}

KWR_TEST(entries, what_is_wrong_is_said) {
    refused("", 0, 0, "flags");
    refused("\0", 1, 0, "flags");
    refused("\4\1\0\0k", 5, 1, "flags");
    refused("\2\1\0k\0", 5, 1, "flags");
    refused("\0\1\0k\0", 5, 2, "not as many as stated");
    refused("\0\1\0k\2v", 6, 1, "runs out of its image");
    refused("\1\1\0\0", 4, 0, "belongs to no entry");
    refused("\0\xff\xff\xff\xff\x0f\0k\0", 9, 1, "runs out of its image");
}
