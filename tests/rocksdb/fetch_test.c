/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key batches over the engine rocksdb: what was fetched at once is what a get would find, whatever
 * is written between fetch and get, and however many keys were fetched since.
 */
#include "backend/core.h"
#include "backend/rocksdb/rocks.h"
#include "tests/support/kwr_test.h"

enum { KEYS = 700, CAPACITY = 700 };

typedef struct place {
    kwr_backend *backend;
    kwr_value *value;
    kwr_key_batch *batch;
    uint64_t expected[KEYS]; /* what is stored, 0: nothing */
    char names[KEYS][16];
    kwr_slice keys[KEYS];
} place;

static place *place_open(void) {
    static place p;
    kwr_error err;
    char path[200];
    p = (place){ 0 };
    (void)snprintf(path, sizeof path, "%s/fetched", kwr_test_dir());
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = kwr_test_env(),
                                          .engine = "rocksdb",
                                          .max_parallelism = 8,
                                          .directory = path };
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    KWR_MUST_ERR(kwr_backend_open(&options, &p.backend, &err), err);
    KWR_MUST_ERR(kwr_value_open(p.backend, &value, &p.value, &err), err);
    KWR_MUST(kwr_key_batch_new(p.backend, CAPACITY, &p.batch));
    for (unsigned i = 0; i < KEYS; i++) {
        const int size = snprintf(p.names[i], sizeof p.names[i], "key%u", i);
        p.keys[i] = (kwr_slice){ p.names[i], (size_t)size };
    }
    return &p;
}

static void place_close(place *p) {
    kwr_key_batch_free(p->batch);
    kwr_backend_close(p->backend);
}

static void write(place *p, size_t key, uint64_t number) {
    KWR_MUST(kwr_value_put(p->value, (kwr_slice){ &number, sizeof number }));
    p->expected[key] = number;
}

static void check(place *p, size_t key) {
    kwr_slice got;
    KWR_EXPECT(p->expected[key] == 0 ? KWR_NOT_FOUND : KWR_OK, kwr_value_get(p->value, &got));
    if (p->expected[key] != 0)
        cr_assert(got.size == 8 && memcmp(got.data, &p->expected[key], 8) == 0);
}

static void fetch(place *p, size_t first, size_t count) {
    kwr_state *const states[] = { kwr_value_state(p->value) };
    KWR_MUST(kwr_key_batch_load(p->batch, p->keys + first, NULL, count));
    kwr_key_batch_prefetch(p->batch, states, 1);
}

static void fill(place *p, size_t step) {
    for (size_t i = 0; i < KEYS; i += step) {
        KWR_MUST(kwr_backend_set_key(p->backend, p->keys[i]));
        write(p, i, 1000 + i);
    }
}

KWR_TEST(rocks_fetch, a_batch_larger_than_what_is_kept_reads_right) {
    place *p = place_open();
    fill(p, 3);
    fetch(p, 0, KEYS);
    for (size_t i = 0; i < KEYS; i++) {
        KWR_MUST(kwr_key_batch_select(p->batch, i));
        check(p, i);
        check(p, i); /* and once more */
    }
    place_close(p);
}

KWR_TEST(rocks_fetch, what_is_written_after_the_fetch_is_what_is_read) {
    place *p = place_open();
    fill(p, 2);
    for (unsigned round = 0; round < 5; round++) {
        fetch(p, round * 60, 60);
        for (size_t i = 0; i < 60; i++) {
            const size_t key = round * 60 + i;
            void *bytes;
            KWR_MUST(kwr_key_batch_select(p->batch, i));
            switch (i % 5) {
            case 0: write(p, key, 7 + i); break;
            case 1:
                KWR_MUST(kwr_value_clear(p->value));
                p->expected[key] = 0;
                break;
            case 2:
                KWR_MUST(kwr_value_modify(p->value, 8, &bytes, NULL));
                p->expected[key] = 99 + i;
                memcpy(bytes, &p->expected[key], 8);
                break;
            case 3: check(p, key), write(p, key, 55); break;
            default: break;
            }
            if (i % 2 == 0) check(p, key);
        }
        for (size_t i = 60; i-- > 0;) {
            KWR_MUST(kwr_key_batch_select(p->batch, i));
            check(p, round * 60 + i);
        }
    }
    place_close(p);
}

KWR_TEST(rocks_fetch, one_key_twice_in_a_batch_is_one_entry) {
    place *p = place_open();
    fill(p, 1);
    const kwr_slice twice[] = { p->keys[4], p->keys[4], p->keys[5] };
    kwr_state *const states[] = { kwr_value_state(p->value) };
    KWR_MUST(kwr_key_batch_load(p->batch, twice, NULL, 3));
    kwr_key_batch_prefetch(p->batch, states, 1);
    KWR_MUST(kwr_key_batch_select(p->batch, 0));
    write(p, 4, 12345);
    KWR_MUST(kwr_key_batch_select(p->batch, 1));
    check(p, 4);
    KWR_MUST(kwr_key_batch_select(p->batch, 2));
    check(p, 5);
    place_close(p);
}

KWR_TEST(rocks_fetch, what_is_lent_outlives_the_next_fetches) {
    place *p = place_open();
    fill(p, 1);
    void *bytes;
    kwr_slice lent;
    fetch(p, 0, 10);
    KWR_MUST(kwr_key_batch_select(p->batch, 3));
    KWR_MUST(kwr_value_get(p->value, &lent));
    for (unsigned i = 0; i < 8; i++) { /* all places are used again */
        kwr_address at[64];
        kwr_engine_hint hints[64] = { 0 };
        const kwr_engine_ops *ops;
        kwr_engine *engine = kwr_backend_engine(p->backend, &ops);
        for (size_t k = 0; k < 64; k++)
            at[k] = (kwr_address){ .key_group = 1, .key = p->keys[k], .hint = &hints[k] };
        ops->prefetch(engine, at, 64);
    }
    cr_assert(lent.size == 8 && memcmp(lent.data, &p->expected[3], 8) == 0);
    /* What is lent for writing may be written after a fetch, which must not keep what was there. */
    KWR_MUST(kwr_key_batch_select(p->batch, 3));
    KWR_MUST(kwr_value_modify(p->value, KWR_KEEP_SIZE, &bytes, NULL));
    fetch(p, 0, 10);
    p->expected[3] = 4711;
    memcpy(bytes, &p->expected[3], 8);
    KWR_MUST(kwr_key_batch_select(p->batch, 3));
    check(p, 3);
    place_close(p);
}
