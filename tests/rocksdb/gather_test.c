/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes that wait for each other (rocks_gather.c): every way of reading finds them, their order
 * stays, and what RocksDB refuses is neither lost nor taken twice.
 */
#include <stdio.h>

#include "backend/core.h"
#include "backend/rocksdb/rocks.h"
#include "tests/rocksdb/rocksdb_support.h"

enum { VALUE, LIST, SUM }; /* numbers of the states */

typedef struct place {
    kwr_backend *backend;
    kwr_engine *engine;
    kwr_value *value;
    kwr_list *list;
    kwr_reducing *sum;
} place;

static place place_open(void) {
    place p = { .backend = rocks_open(NULL) };
    const kwr_engine_ops *ops;
    kwr_error err;
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = { .kind = KWR_TYPE_U64 },
                                          .reduce = KWR_REDUCE_SUM,
                                          .write_mostly = true };
    p.value = rocks_value(p.backend, "value");
    p.list = rocks_list(p.backend, "list");
    KWR_MUST_ERR(kwr_reducing_open(p.backend, &sum, &p.sum, &err), err);
    p.engine = kwr_backend_engine(p.backend, &ops);
    return p;
}

static unsigned waiting(const place *p, unsigned state) {
    return p->engine->states[state].gathered.count;
}

static void expect_list(const place *p, uint64_t first, uint64_t count) {
    kwr_list_iterator *it;
    kwr_slice got;
    KWR_MUST(kwr_list_iterate(p->list, &it));
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t expected = first + i;
        KWR_MUST(kwr_list_iterator_next(it, &got));
        cr_assert(got.size == 8 && memcmp(got.data, &expected, 8) == 0);
    }
    KWR_EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
    kwr_list_iterator_free(it);
}

static void expect_value(const place *p, uint64_t expected) {
    kwr_slice got;
    KWR_MUST(kwr_value_get(p->value, &got));
    cr_assert(got.size == 8 && memcmp(got.data, &expected, 8) == 0);
}

KWR_TEST(rocks_gather, writes_wait_for_each_other_until_somebody_reads) {
    place p = place_open();
    const uint64_t one = 1;
    for (uint64_t i = 0; i < 40; i++) {
        rocks_set_key(p.backend, i % 5);
        KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(i)));
        KWR_MUST(kwr_list_add(p.list, KWR_SLICE_OF(i)));
        KWR_MUST(kwr_reducing_add(p.sum, KWR_SLICE_OF(one), NULL));
    }
    cr_assert(waiting(&p, VALUE) == 40 && waiting(&p, LIST) == 40 && waiting(&p, SUM) == 40);
    rocks_set_key(p.backend, 4);
    expect_value(&p, 39);
    uint64_t count;
    KWR_MUST(kwr_list_count(p.list, &count));
    cr_assert(count == 8);
    kwr_slice sum;
    KWR_MUST(kwr_reducing_get(p.sum, &sum));
    cr_assert(kwr_get_le64(sum.data) == 8);
    cr_assert(waiting(&p, VALUE) == 0 && waiting(&p, LIST) == 0 && waiting(&p, SUM) == 0);
    kwr_backend_close(p.backend);
}

KWR_TEST(rocks_gather, few_wait_and_little) {
    place p = place_open();
    static uint8_t large[5000];
    for (uint64_t i = 0; i < 1000; i++) {
        rocks_set_key(p.backend, i);
        KWR_MUST(kwr_value_put(p.value, (kwr_slice){ large, (size_t)(i * 37 % sizeof large) }));
        cr_assert(waiting(&p, VALUE) <= 64);
        cr_assert(p.engine->states[VALUE].gathered.bytes <= 16 << 10);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        kwr_slice got;
        rocks_set_key(p.backend, i);
        KWR_MUST(kwr_value_get(p.value, &got));
        cr_assert(got.size == (size_t)(i * 37 % sizeof large));
    }
    kwr_backend_close(p.backend);
}

static kwr_status count_entry(void *ctx, const kwr_view_entry *entry) {
    (void)entry;
    ++*(uint64_t *)ctx;
    return KWR_OK;
}

KWR_TEST(rocks_gather, a_freeze_shows_what_waits_and_what_is_lent) {
    place p = place_open();
    uint64_t met = 0;
    void *bytes;
    for (uint64_t i = 0; i < 10; i++) {
        rocks_set_key(p.backend, i);
        KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(i)));
    }
    rocks_set_key(p.backend, 10);
    KWR_MUST(kwr_value_modify(p.value, 8, &bytes, NULL));
    memset(bytes, 1, 8);
    kwr_view *view;
    KWR_MUST(kwr_backend_freeze(p.backend, &view));
    for (uint32_t group = 0; group < 16; group++)
        KWR_MUST(kwr_view_entries(view, VALUE, group, count_entry, &met, NULL));
    cr_assert(met == 11, "%llu", (unsigned long long)met);
    kwr_view_release(view);
    kwr_backend_close(p.backend);
}

KWR_TEST(rocks_gather, what_is_lent_keeps_its_place_between_writes) {
    place p = place_open();
    void *bytes;
    const uint64_t first = 1, last = 3;
    rocks_set_key(p.backend, 7);
    KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(first)));
    KWR_MUST(kwr_value_modify(p.value, KWR_KEEP_SIZE, &bytes, NULL));
    memset(bytes, 2, 8);
    KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(last))); /* over what was lent */
    expect_value(&p, last);
    KWR_MUST(kwr_value_modify(p.value, KWR_KEEP_SIZE, &bytes, NULL));
    memset(bytes, 4, 8);
    rocks_set_key(p.backend, 8);
    KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(first)));
    rocks_set_key(p.backend, 7);
    expect_value(&p, UINT64_C(0x0404040404040404));
    kwr_backend_close(p.backend);
}

KWR_TEST(rocks_gather, appends_of_many_lists_keep_their_order) {
    place p = place_open();
    enum { LISTS = 7, EACH = 400 };
    for (uint64_t i = 0; i < EACH; i++)
        for (uint64_t list = 0; list < LISTS; list++) {
            const uint64_t element = list * EACH + i;
            rocks_set_key(p.backend, list);
            KWR_MUST(kwr_list_add(p.list, KWR_SLICE_OF(element)));
            if ((i + list) % 97 == 0) expect_list(&p, list * EACH, i + 1);
        }
    for (uint64_t list = 0; list < LISTS; list++) {
        rocks_set_key(p.backend, list);
        expect_list(&p, list * EACH, EACH);
        KWR_MUST(kwr_list_add(p.list, KWR_SLICE_OF(list)));
        KWR_MUST(kwr_list_clear(p.list));
        expect_list(&p, 0, 0);
    }
    kwr_backend_close(p.backend);
}

/* A key batch's reads are served from what was fetched, and leave the writes together. */
KWR_TEST(rocks_gather, reads_of_a_key_batch_let_writes_wait) {
    place p = place_open();
    enum { KEYS = 30 };
    uint64_t numbers[KEYS];
    kwr_slice keys[KEYS];
    kwr_key_batch *batch;
    kwr_state *const states[] = { kwr_value_state(p.value) };
    for (uint64_t i = 0; i < KEYS; i++) {
        numbers[i] = i;
        keys[i] = KWR_SLICE_OF(numbers[i]);
        KWR_MUST(kwr_backend_set_key(p.backend, keys[i]));
        KWR_MUST(kwr_value_put(p.value, keys[i]));
    }
    KWR_MUST(kwr_key_batch_new(p.backend, KEYS, &batch));
    KWR_MUST(kwr_key_batch_load(batch, keys, NULL, KEYS));
    kwr_key_batch_prefetch(batch, states, 1);
    cr_assert(waiting(&p, VALUE) == 0);
    unsigned most = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        const uint64_t next = i + 100;
        KWR_MUST(kwr_key_batch_select(batch, i));
        expect_value(&p, i);
        KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(next)));
        if (waiting(&p, VALUE) > most) most = waiting(&p, VALUE);
    }
    cr_assert(most > KEYS / 2, "%u", most); /* not all: two keys may be taken for one another */
    for (uint64_t i = 0; i < KEYS; i++) {
        KWR_MUST(kwr_key_batch_select(batch, i));
        expect_value(&p, i + 100);
    }
    kwr_key_batch_free(batch);
    kwr_backend_close(p.backend);
}

/* With its directory gone a flush fails, and RocksDB takes nothing more. */
static void break_database(const place *p, const char *moved) {
    char *words = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    cr_assert(rename(p->engine->db->directory, moved) == 0);
    for (size_t i = 0; i < p->engine->state_count; i++) {
        rocksdb_flush_cf(p->engine->db->db, options, p->engine->states[i].family, &words);
        rocksdb_free(words);
        words = NULL;
    }
    rocksdb_flushoptions_destroy(options);
}

KWR_TEST(rocks_gather, what_is_refused_stays_and_every_call_says_so) {
    place p = place_open();
    char moved[300];
    uint64_t i = 0;
    void *bytes;
    kwr_slice got;
    kwr_view *view;
    rocks_set_key(p.backend, 1);
    KWR_MUST(kwr_value_put(p.value, KWR_SLICE_OF(i)));
    expect_value(&p, 0); /* in a memtable */
    KWR_MUST(kwr_value_modify(p.value, KWR_KEEP_SIZE, &bytes, NULL));
    memset(bytes, 5, 8);
    snprintf(moved, sizeof moved, "%s/moved", kwr_test_dir());
    break_database(&p, moved);
    kwr_status status = KWR_OK;
    for (; i < 100 && status == KWR_OK; i++)
        status = kwr_value_put(p.value, KWR_SLICE_OF(i));
    KWR_EXPECT(KWR_ERR_IO, status);
    cr_assert(waiting(&p, VALUE) == 64); /* what was lent, and the puts that said KWR_OK */
    cr_assert(i == 64);
    for (unsigned again = 0; again < 3; again++) {
        KWR_EXPECT(KWR_ERR_IO, kwr_value_put(p.value, KWR_SLICE_OF(i)));
        KWR_EXPECT(KWR_ERR_IO, kwr_value_get(p.value, &got));
        KWR_EXPECT(KWR_ERR_IO, kwr_value_modify(p.value, 8, &bytes, NULL));
        KWR_EXPECT(KWR_ERR_IO, kwr_value_clear(p.value));
        KWR_EXPECT(KWR_ERR_IO, kwr_backend_freeze(p.backend, &view));
        cr_assert(waiting(&p, VALUE) == 64);
    }
    cr_assert(rename(moved, p.engine->db->directory) == 0);
    kwr_backend_close(p.backend);
}
