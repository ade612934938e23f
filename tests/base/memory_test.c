/* SPDX-License-Identifier: Apache-2.0 */
/* Memory helpers give back exactly what they took and survive every refusal of the allocator. */
#include "tests/support/kwr_test.h"

#include "base/memory.h"
#include "tests/support/fault_env.h"

KWR_TEST(memory, nothing_is_still_something_to_free) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_env *env = fault_env_env(faults);
    void *memory = kwr_alloc(env, 0);
    cr_assert(memory != NULL);
    kwr_free(env, memory, 0);
    kwr_free(env, NULL, 99);
    fault_env_close(faults);
}

KWR_TEST(memory, small_blocks_are_aligned_and_larger_alignments_are_kept) {
    const kwr_env *env = kwr_test_env();
    for (size_t size = 1; size < 200; size += 7) {
        void *memory = kwr_alloc(env, size);
        cr_assert(memory != NULL && (uintptr_t)memory % 16 == 0);
        kwr_free(env, memory, size);
        void *aligned = kwr_alloc_aligned(env, size, 256);
        cr_assert(aligned != NULL && (uintptr_t)aligned % 256 == 0);
        kwr_free(env, aligned, size);
    }
}

KWR_TEST(memory, an_array_too_large_to_count_is_refused) {
    const kwr_env *env = kwr_test_env();
    cr_assert(kwr_alloc_array(env, SIZE_MAX / 2, 4) == NULL);
    void *items = NULL;
    size_t capacity = 0;
    cr_assert(!kwr_grow_array(env, &items, &capacity, SIZE_MAX / 4, 8));
    cr_assert(items == NULL && capacity == 0);
}

KWR_TEST(memory, a_growing_array_keeps_its_items_and_its_old_memory_on_failure) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_env *env = fault_env_env(faults);
    void *items = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 1000; i++) {
        cr_assert(kwr_grow_array(env, &items, &capacity, i + 1, sizeof(uint32_t)));
        ((uint32_t *)items)[i] = (uint32_t)i;
    }
    cr_assert(fault_env_allocs(faults) < 15, "it doubles");
    void *before = items;
    const size_t before_capacity = capacity;
    fault_env_fail_alloc(faults, 0, FAULT_ALWAYS);
    cr_assert(!kwr_grow_array(env, &items, &capacity, capacity + 1, sizeof(uint32_t)));
    cr_assert(items == before && capacity == before_capacity);
    for (size_t i = 0; i < 1000; i++)
        cr_assert_eq(((uint32_t *)items)[i], i);
    kwr_free(env, items, capacity * sizeof(uint32_t));
    fault_env_close(faults);
}

KWR_TEST(memory, a_growing_array_takes_the_exact_size_when_doubling_is_refused) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_env *env = fault_env_env(faults);
    void *items = NULL;
    size_t capacity = 0;
    cr_assert(kwr_grow_array(env, &items, &capacity, 100, 1));
    fault_env_fail_alloc(faults, 0, FAULT_ONCE);
    cr_assert(kwr_grow_array(env, &items, &capacity, 101, 1));
    cr_assert_eq(capacity, 101);
    kwr_free(env, items, capacity);
    fault_env_close(faults);
}

KWR_TEST(memory, strings_are_copied_and_freed) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    const kwr_env *env = fault_env_env(faults);
    char *copy = kwr_copy_string(env, "state");
    cr_assert_str_eq(copy, "state");
    cr_assert_eq(fault_env_outstanding(faults), 6);
    kwr_free_string(env, copy);
    kwr_free_string(env, NULL);
    fault_env_fail_alloc(faults, 0, FAULT_ONCE);
    cr_assert(kwr_copy_string(env, "x") == NULL);
    fault_env_close(faults);
}

KWR_TEST(memory, bytes_know_how_to_free_themselves) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    kwr_bytes bytes = { 0 };
    KWR_MUST(kwr_bytes_new(fault_env_env(faults), 100, &bytes));
    cr_assert_eq(bytes.size, 100);
    memset(bytes.data, 7, 100);
    bytes.size = 3; /* however the caller has shortened them */
    kwr_bytes_free(&bytes);
    cr_assert(bytes.data == NULL && bytes.size == 0);
    kwr_bytes_free(&bytes);
    kwr_bytes_free(NULL);
    KWR_EXPECT(KWR_ERR_NOMEM, kwr_bytes_new(fault_env_env(faults), SIZE_MAX - 3, &bytes));
    cr_assert(bytes.data == NULL, "untouched");
    fault_env_close(faults);
}

KWR_TEST(buffer, what_is_appended_is_what_is_taken) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    kwr_buffer buffer = { .env = fault_env_env(faults) };
    kwr_buffer_append(&buffer, "abc", 3);
    kwr_buffer_append(&buffer, NULL, 0);
    kwr_buffer_printf(&buffer, "%d-%s", 42, "x");
    memcpy(kwr_buffer_extend(&buffer, 2), "!!", 2);
    for (int i = 0; i < 1000; i++)
        kwr_buffer_printf(&buffer, "%04d", i);
    kwr_bytes bytes = { 0 };
    KWR_MUST(kwr_buffer_take(&buffer, &bytes));
    cr_assert_eq(bytes.size, 9 + 4000);
    cr_assert(memcmp(bytes.data, "abc42-x!!00000001", 17) == 0);
    cr_assert(memcmp((char *)bytes.data + 9 + 3996, "0999", 4) == 0);
    cr_assert(buffer.data == NULL && buffer.size == 0 && buffer.capacity == 0);
    kwr_bytes_free(&bytes);
    kwr_buffer_free(&buffer);
    fault_env_close(faults);
}

KWR_TEST(buffer, an_empty_buffer_gives_empty_bytes) {
    kwr_buffer buffer = { .env = kwr_test_env() };
    kwr_bytes bytes = { .size = 9 };
    KWR_MUST(kwr_buffer_take(&buffer, &bytes));
    cr_assert_eq(bytes.size, 0);
    kwr_bytes_free(&bytes);
}

KWR_TEST(buffer, a_failure_stays_until_the_end_at_whichever_append_it_happens) {
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_alloc(faults, n, FAULT_ALWAYS);
        kwr_buffer buffer = { .env = fault_env_env(faults) };
        for (int i = 0; i < 300; i++)
            kwr_buffer_append(&buffer, &i, sizeof i);
        kwr_buffer_printf(&buffer, "%d", 1);
        kwr_bytes bytes = { 0 };
        const kwr_status status = kwr_buffer_take(&buffer, &bytes);
        const bool fired = fault_env_fired(faults) > 0;
        cr_assert_eq(status, fired ? KWR_ERR_NOMEM : KWR_OK);
        cr_assert_eq(bytes.size, fired ? 0 : 300 * sizeof(int) + 1);
        kwr_bytes_free(&bytes);
        fault_env_close(faults);
        if (!fired) break;
        cr_assert(n < 100);
    }
}

KWR_TEST(buffer, a_size_that_cannot_be_is_a_failure_not_an_overflow) {
    kwr_buffer buffer = { .env = kwr_test_env() };
    kwr_buffer_append(&buffer, "x", 1);
    cr_assert(kwr_buffer_extend(&buffer, SIZE_MAX) == NULL);
    cr_assert(buffer.failed);
    kwr_buffer_append(&buffer, "y", 1);
    cr_assert_eq(buffer.size, 1);
    kwr_buffer_free(&buffer);
    cr_assert(!buffer.failed);
}

KWR_TEST(arena, pieces_are_zeroed_aligned_and_apart) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    kwr_arena *arena = kwr_arena_new(fault_env_env(faults), 0);
    unsigned char *pieces[500];
    for (size_t i = 0; i < 500; i++) {
        const size_t size = i * 13 % 700;
        pieces[i] = kwr_arena_alloc(arena, size);
        cr_assert(pieces[i] != NULL && (uintptr_t)pieces[i] % 16 == 0);
        for (size_t k = 0; k < size; k++)
            cr_assert_eq(pieces[i][k], 0);
        memset(pieces[i], (int)i, size);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t k = 0; k < i * 13 % 700; k++)
            cr_assert_eq(pieces[i][k], (unsigned char)i);
    }
    char *text = kwr_arena_string(arena, "abc", 2);
    cr_assert_str_eq(text, "ab");
    cr_assert_str_eq(kwr_arena_string(arena, NULL, 0), "");
    cr_assert(kwr_arena_array(arena, SIZE_MAX / 2, 4) == NULL);
    cr_assert(kwr_arena_alloc(arena, SIZE_MAX) == NULL);
    cr_assert(kwr_arena_string(arena, "", SIZE_MAX) == NULL);
    cr_assert(kwr_arena_alloc(arena, 1024 * 1024) != NULL, "larger than a chunk");
    cr_assert(kwr_arena_alloc(arena, 1) != NULL);
    kwr_arena_free(arena);
    kwr_arena_free(NULL);
    fault_env_close(faults);
}

KWR_TEST(arena, the_cap_is_kept_to_the_byte_and_memory_stays_near_it) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    kwr_arena *arena = kwr_arena_new(fault_env_env(faults), 100);
    cr_assert(kwr_arena_alloc(arena, 101) == NULL);
    cr_assert(kwr_arena_alloc(arena, 64) != NULL);
    cr_assert(kwr_arena_alloc(arena, 37) == NULL);
    cr_assert(kwr_arena_alloc(arena, 36) != NULL);
    cr_assert(kwr_arena_alloc(arena, 1) == NULL);
    cr_assert(fault_env_outstanding(faults) < 400, "%llu",
              (unsigned long long)fault_env_outstanding(faults));
    kwr_arena_free(arena);
    fault_env_close(faults);
}

KWR_TEST(arena, no_memory_is_reported_and_what_was_taken_is_freed) {
    for (uint64_t n = 0; n < 6; n++) {
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_alloc(faults, n, FAULT_ALWAYS);
        kwr_arena *arena = kwr_arena_new(fault_env_env(faults), 0);
        cr_assert_eq(arena == NULL, n == 0);
        bool refused = arena == NULL;
        for (int i = 0; i < 100 && !refused; i++)
            refused = kwr_arena_alloc(arena, 3000) == NULL;
        cr_assert(refused);
        kwr_arena_free(arena);
        fault_env_close(faults);
    }
}

KWR_TEST(allocator, large_blocks_are_aligned_zeroed_and_given_back) {
    const kwr_allocator *a = kwr_test_env()->allocator;
    const size_t block = 2 * 1024 * 1024;
    for (size_t n = 1; n <= 4; n++) {
        unsigned char *memory = a->map(a->ctx, n * block);
        cr_assert(memory != NULL && (uintptr_t)memory % block == 0);
        for (size_t at = 0; at < n * block; at += 4096)
            cr_assert_eq(memory[at], 0);
        memory[0] = memory[n * block - 1] = 1;
        a->unmap(a->ctx, memory, n * block);
    }
}

KWR_TEST(allocator, sizes_that_are_no_large_blocks_are_refused) {
    const kwr_allocator *a = kwr_test_env()->allocator;
    cr_assert(a->map(a->ctx, 0) == NULL);
    cr_assert(a->map(a->ctx, 4096) == NULL);
    cr_assert(a->map(a->ctx, SIZE_MAX - 2 * 1024 * 1024 + 1) == NULL);
}
