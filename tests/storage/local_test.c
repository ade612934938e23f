/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite over the storages of this machine. */
#include "tests/storage/conformance.h"

#include <stdlib.h>

#include "snapshot/storage.h"

static void open_memory(storage_place *place) {
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &place->storage, NULL));
}
static const storage_opener memory = { .open = open_memory };
STORAGE_CONFORMANCE(memory, memory);

/* One that keeps copies is the storage below it. */
typedef struct copied_place {
    kwr_storage *remote, *local;
} copied_place;

static void open_copied(storage_place *place) {
    copied_place *two = calloc(1, sizeof *two);
    cr_assert(two != NULL);
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &two->remote, NULL));
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &two->local, NULL));
    KWR_MUST(
        kwr_storage_local_copy_open(place->env, two->remote, two->local, &place->storage, NULL));
    place->ctx = two;
}
static void close_copied(storage_place *place) {
    copied_place *two = place->ctx;
    kwr_storage_close(two->local);
    kwr_storage_close(two->remote);
    free(two);
}
static const storage_opener copied = { .open = open_copied, .close = close_copied };
STORAGE_CONFORMANCE(copied, copied);

/* One with a limit too. */
static void open_limited(storage_place *place) {
    const kwr_storage_rates rates = { .struct_size = sizeof rates,
                                      .write_bytes_per_second = UINT64_C(1) << 40,
                                      .read_bytes_per_second = UINT64_C(1) << 40 };
    kwr_storage *inner;
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &inner, NULL));
    KWR_MUST(kwr_storage_limited_open(place->env, inner, &rates, &place->storage, NULL));
    place->ctx = inner;
}
static void close_limited(storage_place *place) { kwr_storage_close(place->ctx); }
static const storage_opener limited = { .open = open_limited, .close = close_limited };
STORAGE_CONFORMANCE(limited, limited);

static void open_file(storage_place *place) {
    kwr_error err = { 0 };
    snprintf(place->uri, sizeof place->uri, "file:%s", kwr_test_path("storage"));
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}
static const storage_opener file = { .open = open_file };
STORAGE_CONFORMANCE(file, file);

/* ---- how fast bytes go, in time that only waiting moves ---- */

typedef struct slow_time {
    uint64_t now_ns, due_ns, waits;
} slow_time;

static uint64_t slow_now(void *ctx) { return ((slow_time *)ctx)->now_ns; }
static kwr_status slow_post_at(void *ctx, kwr_work *work, uint64_t ns) {
    (void)work;
    ((slow_time *)ctx)->due_ns = ns;
    return KWR_OK;
}
static void slow_wait(void *ctx, kwr_work *work) {
    slow_time *t = ctx;
    (void)work;
    cr_assert(t->due_ns > t->now_ns, "a wait for what is past");
    t->now_ns = t->due_ns;
    t->waits++;
}

static kwr_status no_more_work(void *ctx, kwr_work *work, uint64_t ns) {
    (void)ctx, (void)work, (void)ns;
    return KWR_ERR_CANCELLED;
}

/* Milliseconds from `before` on. */
static uint64_t passed(const slow_time *t, uint64_t before) {
    return (t->now_ns - before) / 1000000;
}

KWR_TEST(limited, bytes_take_their_time) {
    enum { RATE = 1 << 20, SIZE = 4 * RATE };
    static uint8_t bytes[SIZE];
    slow_time time = { .now_ns = UINT64_C(5000000000) };
    kwr_env env = *kwr_test_env();
    kwr_clock clock = *env.clock;
    kwr_executor executor = *env.executor;
    clock.mono_ns = slow_now;
    executor.post_at = slow_post_at;
    executor.wait = slow_wait;
    clock.ctx = executor.ctx = &time;
    env.clock = &clock;
    env.executor = &executor;
    kwr_storage *inner, *storage;
    kwr_storage_reader *reader;
    uint64_t size;
    const kwr_storage_rates rates = { .struct_size = sizeof rates,
                                      .write_bytes_per_second = RATE,
                                      .read_bytes_per_second = 2 * RATE };
    KWR_MUST(kwr_storage_memory_open(kwr_test_env(), 0, &inner, NULL));
    KWR_MUST(kwr_storage_limited_open(&env, inner, &rates, &storage, NULL));
    /* The first tenth of a second is given, and the last one is not waited for. */
    uint64_t before = time.now_ns;
    KWR_MUST(kwr_storage_write_file(storage, NULL, "one", bytes, SIZE, NULL));
    cr_assert(passed(&time, before) >= 3700 && passed(&time, before) <= 3900);
    cr_assert(time.waits > 30, "it went in one piece");
    /* Commits do not wait behind data; reads have a lane of their own. */
    before = time.now_ns;
    KWR_MUST(storage->ops->publish(storage, NULL, "two", bytes, SIZE, NULL));
    cr_assert(passed(&time, before) == 0);
    KWR_MUST(storage->ops->open(storage, NULL, "one", &reader, &size, NULL));
    KWR_MUST(storage->ops->read(storage, reader, 0, bytes, SIZE, NULL));
    storage->ops->close_reader(storage, reader);
    cr_assert(passed(&time, before) >= 1700 && passed(&time, before) <= 1900);
    /* What was not used for long is not made up for. */
    time.now_ns += UINT64_C(60000000000);
    before = time.now_ns;
    KWR_MUST(kwr_storage_write_file(storage, NULL, "three", bytes, RATE, NULL));
    cr_assert(passed(&time, before) >= 700);
    kwr_storage_close(storage);
    /* Nobody is there to wait on any more: it goes at once, and is written. */
    executor.post_at = no_more_work;
    before = time.now_ns;
    KWR_MUST(kwr_storage_limited_open(&env, inner, &rates, &storage, NULL));
    KWR_MUST(kwr_storage_write_file(storage, NULL, "four", bytes, SIZE, NULL));
    cr_assert(passed(&time, before) == 0);
    kwr_storage_close(storage);
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_storage_limited_open(&env, NULL, &rates, &storage, NULL));
    kwr_storage_close(inner);
}
