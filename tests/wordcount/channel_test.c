/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: order, blocking, backpressure, mailboxes and closing. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "examples/engine/channel.h"
#include "tests/support/kwr_test.h"

static eng_gate *gate_of(uint32_t channels, uint32_t depth) {
    eng_gate *gate = NULL;
    kwr_error err;
    KWR_MUST_ERR(eng_gate_new(channels, depth, &gate, &err), err);
    return gate;
}

static eng_item records_of(const char *text) {
    eng_buffer *buffer = eng_buffer_new(strlen(text));
    cr_assert(buffer != NULL);
    memcpy(buffer->data, text, strlen(text));
    buffer->size = strlen(text);
    return (eng_item){ .kind = ENG_RECORDS, .buffer = buffer };
}

static void put_text(eng_gate *gate, uint32_t channel, const char *text) {
    const eng_item item = records_of(text);
    KWR_MUST(eng_gate_put(gate, channel, &item));
}

static void put_barrier(eng_gate *gate, uint32_t channel, uint64_t checkpoint) {
    const eng_item item = { .kind = ENG_BARRIER, .barrier = { .checkpoint = checkpoint } };
    KWR_MUST(eng_gate_put(gate, channel, &item));
}

/* Takes the next item, which must be these records of that channel. */
static void take_text(eng_gate *gate, uint32_t channel, const char *text) {
    uint32_t from = 99;
    eng_item item;
    KWR_MUST(eng_gate_take(gate, &from, &item));
    cr_assert(from == channel && item.kind == ENG_RECORDS);
    cr_assert(item.buffer->size == strlen(text) &&
              memcmp(item.buffer->data, text, strlen(text)) == 0);
    eng_buffer_free(item.buffer);
}

static void take_barrier(eng_gate *gate, uint32_t channel, uint64_t checkpoint) {
    uint32_t from = 99;
    eng_item item;
    KWR_MUST(eng_gate_take(gate, &from, &item));
    cr_assert(from == channel && item.kind == ENG_BARRIER && item.barrier.checkpoint == checkpoint);
}

static void expect_nothing(eng_gate *gate) {
    uint32_t from = 0;
    eng_item item;
    KWR_EXPECT(KWR_NOT_FOUND, eng_gate_take(gate, &from, &item));
}

KWR_TEST(channel, carries_records_barriers_and_ends_in_order) {
    eng_gate *gate = gate_of(1, 8);
    put_text(gate, 0, "a");
    put_barrier(gate, 0, 7);
    put_text(gate, 0, "b");
    KWR_MUST(eng_gate_put(gate, 0, &(eng_item){ .kind = ENG_END }));
    take_text(gate, 0, "a");
    take_barrier(gate, 0, 7);
    take_text(gate, 0, "b");
    uint32_t from = 99;
    eng_item item;
    KWR_MUST(eng_gate_take(gate, &from, &item));
    cr_assert(from == 0 && item.kind == ENG_END);
    expect_nothing(gate);
    eng_gate_free(gate);
}

KWR_TEST(channel, several_channels_are_read_in_turn) {
    eng_gate *gate = gate_of(3, 8);
    for (int round = 0; round < 2; round++) {
        put_text(gate, 0, "x");
        put_text(gate, 2, "z");
    }
    take_text(gate, 0, "x");
    take_text(gate, 2, "z");
    take_text(gate, 0, "x");
    take_text(gate, 2, "z");
    expect_nothing(gate);
    eng_gate_free(gate);
}

KWR_TEST(channel, a_blocked_channel_is_not_read_until_the_release) {
    eng_gate *gate = gate_of(2, 8);
    put_barrier(gate, 0, 1);
    put_text(gate, 0, "behind");
    put_text(gate, 1, "before");
    take_barrier(gate, 0, 1);
    eng_gate_block(gate, 0);
    take_text(gate, 1, "before");
    expect_nothing(gate);
    /* What is blocked does not end a wait either. */
    KWR_MUST(eng_gate_wait(gate, 1000000));
    expect_nothing(gate);
    eng_gate_release(gate);
    KWR_MUST(eng_gate_wait(gate, UINT64_MAX));
    take_text(gate, 0, "behind");
    eng_gate_free(gate);
}

KWR_TEST(channel, items_left_behind_are_released_with_the_gate) {
    eng_gate *gate = gate_of(2, 4);
    for (int i = 0; i < 3; i++)
        put_text(gate, 1, "left");
    take_text(gate, 1, "left");
    put_text(gate, 1, "left");
    KWR_MUST(eng_gate_post(gate, 1, 2, 3, kwr_test_slice("mail")));
    eng_gate_free(gate);
}

typedef struct put_thread {
    eng_gate *gate;
    int count;
    _Atomic int done;
    kwr_status last;
} put_thread;

static void *write_many(void *arg) {
    put_thread *writer = arg;
    for (int i = 0; i < writer->count; i++) {
        const eng_item item = { .kind = ENG_BARRIER, .barrier = { .checkpoint = (uint64_t)i + 1 } };
        writer->last = eng_gate_put(writer->gate, 0, &item);
        if (writer->last < KWR_OK) break;
        atomic_fetch_add(&writer->done, 1);
    }
    return NULL;
}

static void wait_until(_Atomic int *value, int wanted) {
    const struct timespec pause = { .tv_nsec = 1000000 };
    while (atomic_load(value) < wanted)
        nanosleep(&pause, NULL);
}

KWR_TEST(channel, a_full_channel_makes_its_writer_wait) {
    eng_gate *gate = gate_of(1, 3);
    put_thread writer = { .gate = gate, .count = 1000 };
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, write_many, &writer) == 0);
    wait_until(&writer.done, 3);
    for (uint64_t i = 1; i <= 1000; i++) {
        while (true) {
            uint32_t from = 99;
            eng_item item;
            const kwr_status status = eng_gate_take(gate, &from, &item);
            if (status == KWR_NOT_FOUND) {
                KWR_MUST(eng_gate_wait(gate, UINT64_MAX));
                continue;
            }
            KWR_MUST(status);
            cr_assert(item.barrier.checkpoint == i);
            break;
        }
        /* Never further ahead than the room there is. */
        cr_assert(atomic_load(&writer.done) <= (int)i + 3);
    }
    pthread_join(thread, NULL);
    cr_assert(atomic_load(&writer.done) == 1000);
    eng_gate_free(gate);
}

KWR_TEST(channel, closing_wakes_a_writer_that_waits_and_refuses_all_others) {
    eng_gate *gate = gate_of(1, 2);
    put_thread writer = { .gate = gate, .count = 10 };
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, write_many, &writer) == 0);
    wait_until(&writer.done, 2);
    eng_gate_close(gate);
    pthread_join(thread, NULL);
    KWR_EXPECT(KWR_ERR_CANCELLED, writer.last);
    cr_assert(atomic_load(&writer.done) == 2);
    /* The item is released all the same. */
    const eng_item item = records_of("late");
    KWR_EXPECT(KWR_ERR_CANCELLED, eng_gate_put(gate, 0, &item));
    uint32_t from = 0;
    eng_item out;
    KWR_EXPECT(KWR_ERR_CANCELLED, eng_gate_take(gate, &from, &out));
    KWR_EXPECT(KWR_ERR_CANCELLED, eng_gate_wait(gate, UINT64_MAX));
    cr_assert(eng_gate_closed(gate));
    eng_gate_free(gate);
}

static void *close_soon(void *arg) {
    const struct timespec pause = { .tv_nsec = 5000000 };
    nanosleep(&pause, NULL);
    eng_gate_close(arg);
    return NULL;
}

KWR_TEST(channel, closing_wakes_the_reader) {
    eng_gate *gate = gate_of(1, 2);
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, close_soon, gate) == 0);
    KWR_EXPECT(KWR_ERR_CANCELLED, eng_gate_wait(gate, UINT64_MAX));
    pthread_join(thread, NULL);
    eng_gate_free(gate);
}

KWR_TEST(mailbox, keeps_the_order_of_messages_and_never_fills) {
    eng_gate *gate = gate_of(0, 1);
    for (uint32_t i = 0; i < 5000; i++) {
        KWR_MUST(eng_gate_post(gate, 1, i, i * UINT64_C(3), KWR_SLICE_OF(i)));
    }
    for (uint32_t i = 0; i < 5000; i++) {
        eng_message *message = eng_gate_message(gate);
        cr_assert(message != NULL && message->from == i && message->number == i * UINT64_C(3));
        cr_assert(message->size == sizeof i && memcmp(message->data, &i, sizeof i) == 0);
        free(message);
    }
    cr_assert(eng_gate_message(gate) == NULL);
    eng_gate_free(gate);
}

KWR_TEST(mailbox, a_message_or_a_wake_ends_a_wait_once) {
    eng_gate *gate = gate_of(1, 2);
    eng_gate_wake(gate);
    KWR_MUST(eng_gate_wait(gate, UINT64_MAX));
    KWR_MUST(eng_gate_post(gate, 1, 0, 0, (kwr_slice){ NULL, 0 }));
    KWR_MUST(eng_gate_wait(gate, UINT64_MAX));
    eng_message *message = eng_gate_message(gate);
    cr_assert(message != NULL && message->size == 0);
    free(message);
    /* Nothing is left: only the time ends this one. */
    KWR_MUST(eng_gate_wait(gate, 2000000));
    cr_assert(eng_gate_message(gate) == NULL);
    eng_gate_free(gate);
}

KWR_TEST(mailbox, is_read_also_when_all_channels_are_blocked) {
    eng_gate *gate = gate_of(1, 2);
    put_text(gate, 0, "blocked");
    eng_gate_block(gate, 0);
    KWR_MUST(eng_gate_post(gate, 4, 0, 0, kwr_test_slice("m")));
    KWR_MUST(eng_gate_wait(gate, UINT64_MAX));
    eng_message *message = eng_gate_message(gate);
    cr_assert(message != NULL && message->kind == 4);
    free(message);
    expect_nothing(gate);
    eng_gate_free(gate);
}

KWR_TEST(mailbox, after_a_close_what_came_before_can_be_read_and_nothing_more_comes) {
    eng_gate *gate = gate_of(0, 1);
    KWR_MUST(eng_gate_post(gate, 1, 0, 0, kwr_test_slice("before")));
    eng_gate_close(gate);
    KWR_MUST(eng_gate_post(gate, 2, 0, 0, kwr_test_slice("after")));
    eng_message *message = eng_gate_message(gate);
    cr_assert(message != NULL && message->kind == 1);
    free(message);
    cr_assert(eng_gate_message(gate) == NULL);
    eng_gate_free(gate);
}

KWR_TEST(channel, without_room_for_an_item_there_is_none) {
    eng_gate *gate = NULL;
    kwr_error err;
    KWR_EXPECT(KWR_ERR_RANGE, eng_gate_new(1, 0, &gate, &err));
    cr_assert(gate == NULL);
}
