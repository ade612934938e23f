/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange: who gets which record, and barriers behind the records before them. */
#include <stdio.h>
#include <string.h>

#include "examples/engine/exchange.h"
#include "examples/wordcount_tasks.h"
#include "tests/support/kwr_test.h"

enum { RECEIVERS = 3, DEPTH = 64 };

typedef struct fixture {
    eng_exchange exchange;
    eng_gate *gates[RECEIVERS];
} fixture;

static void fixture_open(fixture *f) {
    kwr_error err;
    KWR_MUST_ERR(eng_exchange_init(&f->exchange, RECEIVERS, &err), err);
    f->exchange.seed = 42;
    f->exchange.max_parallelism = 16;
    for (uint32_t i = 0; i < RECEIVERS; i++) {
        KWR_MUST_ERR(eng_gate_new(2, DEPTH, &f->gates[i], &err), err);
        f->exchange.outputs[i] = (eng_output){ .gate = f->gates[i], .channel = 1 };
    }
}

static void fixture_close(fixture *f) {
    eng_exchange_done(&f->exchange);
    for (uint32_t i = 0; i < RECEIVERS; i++)
        eng_gate_free(f->gates[i]);
}

static void emit(eng_exchange *exchange, uint32_t to, const char *text) {
    uint8_t *room = NULL;
    KWR_MUST(eng_exchange_emit(exchange, to, strlen(text), &room));
    memcpy(room, text, strlen(text));
}

static eng_item take(eng_gate *gate) {
    uint32_t from = 0;
    eng_item item;
    KWR_MUST(eng_gate_take(gate, &from, &item));
    cr_assert(from == 1);
    return item;
}

KWR_TEST(exchange, a_key_goes_to_the_owner_of_its_key_group) {
    fixture f;
    fixture_open(&f);
    bool hit[RECEIVERS] = { false };
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        const uint32_t to = eng_exchange_route(&f.exchange, kwr_test_slice(key));
        cr_assert(to < RECEIVERS);
        const uint32_t group = kwr_key_group(kwr_test_slice(key), 42, 16);
        const kwr_key_group_range owned = kwr_key_groups_of(to, RECEIVERS, 16);
        cr_assert(group >= owned.first && group < owned.first + owned.count);
        hit[to] = true;
    }
    for (uint32_t i = 0; i < RECEIVERS; i++)
        cr_assert(hit[i]);
    fixture_close(&f);
}

KWR_TEST(exchange, barriers_follow_the_records_emitted_before_on_every_output) {
    fixture f;
    fixture_open(&f);
    emit(&f.exchange, 1, "one");
    emit(&f.exchange, 1, "two");
    KWR_MUST(eng_exchange_barrier(&f.exchange, &(kwr_barrier){ .checkpoint = 5, .generation = 2 }));
    emit(&f.exchange, 1, "three");
    KWR_MUST(eng_exchange_end(&f.exchange));
    for (uint32_t i = 0; i < RECEIVERS; i++) {
        if (i == 1) {
            const eng_item before = take(f.gates[i]);
            cr_assert(before.kind == ENG_RECORDS && before.buffer->size == 6);
            cr_assert(memcmp(before.buffer->data, "onetwo", 6) == 0);
            eng_buffer_free(before.buffer);
        }
        const eng_item barrier = take(f.gates[i]);
        cr_assert(barrier.kind == ENG_BARRIER && barrier.barrier.checkpoint == 5 &&
                  barrier.barrier.generation == 2);
        if (i == 1) {
            const eng_item after = take(f.gates[i]);
            cr_assert(after.kind == ENG_RECORDS && after.buffer->size == 5);
            eng_buffer_free(after.buffer);
        }
        cr_assert(take(f.gates[i]).kind == ENG_END);
    }
    fixture_close(&f);
}

KWR_TEST(exchange, records_are_never_split_and_a_large_one_travels_alone) {
    fixture f;
    fixture_open(&f);
    uint8_t *room = NULL;
    KWR_MUST(eng_exchange_emit(&f.exchange, 0, 10, &room));
    memset(room, 'a', 10);
    KWR_MUST(eng_exchange_emit(&f.exchange, 0, ENG_BUFFER_BYTES, &room));
    memset(room, 'b', ENG_BUFFER_BYTES);
    KWR_MUST(eng_exchange_emit(&f.exchange, 0, 3 * ENG_BUFFER_BYTES, &room));
    memset(room, 'c', (size_t)3 * ENG_BUFFER_BYTES);
    KWR_MUST(eng_exchange_flush(&f.exchange));
    const size_t sizes[] = { 10, ENG_BUFFER_BYTES, (size_t)3 * ENG_BUFFER_BYTES };
    for (int i = 0; i < 3; i++) {
        const eng_item item = take(f.gates[0]);
        cr_assert(item.buffer->size == sizes[i] && item.buffer->data[0] == 'a' + i);
        eng_buffer_free(item.buffer);
    }
    /* Nothing open: a flush sends nothing. */
    KWR_MUST(eng_exchange_flush(&f.exchange));
    uint32_t from = 0;
    eng_item item;
    KWR_EXPECT(KWR_NOT_FOUND, eng_gate_take(f.gates[0], &from, &item));
    fixture_close(&f);
}

KWR_TEST(exchange, a_closed_receiver_ends_the_sender) {
    fixture f;
    fixture_open(&f);
    emit(&f.exchange, 2, "lost");
    eng_gate_close(f.gates[2]);
    KWR_EXPECT(KWR_ERR_CANCELLED, eng_exchange_flush(&f.exchange));
    fixture_close(&f);
}

/* ---- words ---- */

static void expect_words(kwr_slice line, const char *const *words, size_t count) {
    size_t at = 0;
    kwr_slice word;
    for (size_t i = 0; i < count; i++) {
        KWR_MUST(wc_next_word(line, &at, &word));
        KWR_ASSERT_SLICE(word, words[i]);
    }
    KWR_EXPECT(KWR_NOT_FOUND, wc_next_word(line, &at, &word));
    cr_assert(at == line.size);
}

KWR_TEST(words, are_runs_of_anything_but_blank_tab_lf_and_cr) {
    const char *const words[] = { "a", "bc", "d" };
    expect_words(kwr_test_slice("a bc d"), words, 3);
    expect_words(kwr_test_slice(" \t a\r\rbc \t\td\r"), words, 3);
    expect_words(kwr_test_slice(""), words, 0);
    expect_words(kwr_test_slice(" \t\r"), words, 0);
}

KWR_TEST(words, other_controls_and_invalid_text_belong_to_words) {
    /* Vertical tab, form feed, NUL, no-break space, bytes that are no UTF-8. */
    const char line[] = "a\vb\fc x\0y \xc2\xa0\xff\xfe";
    size_t at = 0;
    kwr_slice word;
    const kwr_slice slice = { line, sizeof line - 1 };
    KWR_MUST(wc_next_word(slice, &at, &word));
    cr_assert(word.size == 5 && memcmp(word.data, "a\vb\fc", 5) == 0);
    KWR_MUST(wc_next_word(slice, &at, &word));
    cr_assert(word.size == 3 && memcmp(word.data, "x\0y", 3) == 0);
    KWR_MUST(wc_next_word(slice, &at, &word));
    cr_assert(word.size == 4 && memcmp(word.data, "\xc2\xa0\xff\xfe", 4) == 0);
    KWR_EXPECT(KWR_NOT_FOUND, wc_next_word(slice, &at, &word));
}
