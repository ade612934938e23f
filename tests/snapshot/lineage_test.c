/* SPDX-License-Identifier: Apache-2.0 */
/* Lineages: what the next checkpoint may refer to, whatever became of those before. */
#include "snapshot/lineage.h"

#include <stdio.h>
#include <string.h>

#include "tests/snapshot/fixture.h"

static const uint8_t uid[16] = { 1, 2, 3 };

typedef struct line {
    fixture f;
    kwr_lineage *lineage;
} line;

static void line_open(line *l) {
    fixture_open(&l->f, KIND_MEMORY);
    kwr_error err = { 0 };
    cr_assert_eq(kwr_lineage_new(l->f.env, uid, "count", &l->lineage, &err), KWR_OK, "%s",
                 err.text);
}

static void line_close(line *l) {
    kwr_lineage_free(l->lineage);
    fixture_close(&l->f);
}

/* A set of the files whose letters are given, with one item in each. */
static kwr_lineage_set *set_of(const line *l, const char *letters) {
    kwr_lineage_set *set = kwr_lineage_set_new(l->f.env);
    cr_assert_not_null(set);
    for (const char *c = letters; *c != '\0'; c++) {
        char name[32], identity[32];
        snprintf(name, sizeof name, "1-count-0-%d.kwp", *c);
        snprintf(identity, sizeof identity, "db/session/%c", *c);
        uint32_t index = 99;
        cr_assert_eq(
            kwr_lineage_set_file(set, &(kwr_manifest_file){ .name = name, .length = 9 }, &index),
            KWR_OK);
        cr_assert_eq(index, (uint32_t)(c - letters));
        const kwr_lineage_item item = { .identity = identity,
                                        .length = (uint64_t)*c,
                                        .file = index };
        cr_assert_eq(kwr_lineage_set_item(set, &item), KWR_OK);
    }
    return set;
}

static void offer(const line *l, uint64_t checkpoint, const char *letters) {
    kwr_lineage_offer(l->lineage, checkpoint, set_of(l, letters));
}

/* What may be referred to now, as letters. */
static const char *usable(const line *l, char out[64]) {
    kwr_lineage_base base = { 0 };
    size_t n = 0;
    cr_assert_eq(kwr_lineage_begin(l->lineage, &base), KWR_OK);
    for (char c = 'a'; base.set != NULL && c <= 'z'; c++) {
        char identity[32];
        snprintf(identity, sizeof identity, "db/session/%c", c);
        const kwr_lineage_item *item = kwr_lineage_set_find(base.set, identity);
        if (item == NULL) continue;
        cr_assert_eq(item->length, (uint64_t)c);
        if (base.usable[item->file]) out[n++] = c;
    }
    kwr_lineage_base_done(&base);
    out[n] = '\0';
    return out;
}

#define expect_usable(l, letters)                                                             \
    do {                                                                                      \
        char have_[64];                                                                       \
        cr_expect(strcmp(usable(l, have_), letters) == 0, "usable: '%s', wanted '%s'", have_, \
                  letters);                                                                   \
    } while (0)

KWR_TEST(lineage, only_a_confirmed_checkpoint_is_referred_to) {
    line l;
    line_open(&l);
    expect_usable(&l, "");
    offer(&l, 1, "abc");
    expect_usable(&l, "");
    kwr_lineage_confirm(l.lineage, 1);
    expect_usable(&l, "abc");
    line_close(&l);
}

KWR_TEST(lineage, an_aborted_checkpoint_leaves_the_base_as_it_was) {
    line l;
    line_open(&l);
    offer(&l, 1, "abc");
    kwr_lineage_confirm(l.lineage, 1);
    offer(&l, 2, "bcd");
    kwr_lineage_abort(l.lineage, 2);
    expect_usable(&l, "abc");
    kwr_lineage_abort(l.lineage, 2);
    kwr_lineage_abort(l.lineage, 77);
    expect_usable(&l, "abc");
    line_close(&l);
}

KWR_TEST(lineage, what_an_open_checkpoint_no_longer_uses_is_not_referred_to) {
    line l;
    line_open(&l);
    offer(&l, 1, "abcd");
    kwr_lineage_confirm(l.lineage, 1);
    /* It may have completed unheard: then nobody keeps a for us. */
    offer(&l, 2, "bcdx");
    expect_usable(&l, "bcd");
    offer(&l, 3, "cdy");
    expect_usable(&l, "cd");
    kwr_lineage_abort(l.lineage, 3);
    expect_usable(&l, "bcd");
    kwr_lineage_confirm(l.lineage, 2);
    expect_usable(&l, "bcdx");
    line_close(&l);
}

KWR_TEST(lineage, confirming_forgets_what_is_older_and_keeps_what_is_newer) {
    line l;
    line_open(&l);
    offer(&l, 1, "a");
    offer(&l, 2, "ab");
    offer(&l, 3, "bc");
    kwr_lineage_confirm(l.lineage, 2);
    expect_usable(&l, "b");
    kwr_lineage_abort(l.lineage, 3);
    expect_usable(&l, "ab");
    line_close(&l);
}

KWR_TEST(lineage, a_completed_checkpoint_that_is_not_known_ends_all_references) {
    line l;
    line_open(&l);
    offer(&l, 1, "ab");
    kwr_lineage_confirm(l.lineage, 1);
    kwr_lineage_confirm(l.lineage, 2);
    expect_usable(&l, "");
    line_close(&l);
}

KWR_TEST(lineage, a_checkpoint_written_in_full_ends_references_to_the_ones_before) {
    line l;
    line_open(&l);
    offer(&l, 1, "ab");
    kwr_lineage_confirm(l.lineage, 1);
    offer(&l, 2, "");
    expect_usable(&l, "");
    kwr_lineage_confirm(l.lineage, 2);
    expect_usable(&l, "");
    line_close(&l);
}

KWR_TEST(lineage, too_many_open_checkpoints_mean_no_references_until_one_is_confirmed) {
    line l;
    line_open(&l);
    offer(&l, 1, "abc");
    kwr_lineage_confirm(l.lineage, 1);
    for (uint64_t i = 2; i <= 5; i++)
        offer(&l, i, "abc");
    expect_usable(&l, "abc");
    offer(&l, 6, "abc");
    expect_usable(&l, "");
    for (uint64_t i = 3; i <= 6; i++)
        kwr_lineage_abort(l.lineage, i);
    expect_usable(&l, ""); /* 2 may have completed */
    offer(&l, 7, "cd");
    kwr_lineage_confirm(l.lineage, 7);
    expect_usable(&l, "cd");
    line_close(&l);
}

KWR_TEST(lineage, what_was_restored_is_the_base_at_once) {
    line l;
    line_open(&l);
    offer(&l, 9, "x");
    kwr_lineage_restored(l.lineage, set_of(&l, "abc"));
    expect_usable(&l, "abc");
    line_close(&l);
}

KWR_TEST(lineage, many_items_are_found) {
    line l;
    line_open(&l);
    kwr_lineage_set *set = kwr_lineage_set_new(l.f.env);
    cr_assert_not_null(set);
    for (uint32_t i = 0; i < 1000; i++) {
        char identity[32];
        snprintf(identity, sizeof identity, "%u", i);
        cr_assert_eq(
            kwr_lineage_set_item(set, &(kwr_lineage_item){ .identity = identity, .state = i }),
            KWR_OK);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        char identity[32];
        snprintf(identity, sizeof identity, "%u", i);
        const kwr_lineage_item *item = kwr_lineage_set_find(set, identity);
        cr_assert(item != NULL && item->state == i, "item %u", i);
    }
    cr_expect_null(kwr_lineage_set_find(set, "1000"));
    kwr_lineage_set_release(set);
    line_close(&l);
}

KWR_TEST(lineage, belongs_to_one_operator_of_one_job) {
    line l;
    line_open(&l);
    static const uint8_t other[16] = { 1, 2, 4 };
    cr_expect(kwr_lineage_is_of(l.lineage, uid, "count"));
    cr_expect(!kwr_lineage_is_of(l.lineage, uid, "sum"));
    cr_expect(!kwr_lineage_is_of(l.lineage, other, "count"));
    kwr_lineage *none = NULL;
    kwr_error err = { 0 };
    cr_expect_eq(kwr_lineage_new(l.f.env, uid, "no/name", &none, &err), KWR_ERR_RANGE);
    cr_expect_eq(kwr_lineage_new(l.f.env, uid, NULL, &none, &err), KWR_ERR_MISUSE);
    cr_expect_null(none);
    line_close(&l);
}
