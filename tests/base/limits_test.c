/* SPDX-License-Identifier: Apache-2.0 */
/* Limits have defaults and ends; options structs of other versions are read or refused. */
#include "tests/support/kwr_test.h"

#include "base/limits.h"

KWR_TEST(limits, left_alone_they_are_the_documented_defaults) {
    const kwr_limits init = KWR_LIMITS_INIT, zero = { 0 };
    const kwr_limits *const all[] = { NULL, &init, &zero };
    for (int i = 0; i < 3; i++) {
        kwr_limits out;
        KWR_MUST(kwr_limits_complete(all[i], &out, NULL));
        cr_assert_eq(out.struct_size, sizeof out);
        cr_assert_eq(out.key_bytes_max, 1 << 20);
        cr_assert_eq(out.namespace_bytes_max, 64 << 10);
        cr_assert_eq(out.value_bytes_max, 64 << 20);
        cr_assert_eq(out.name_bytes_max, 255);
        cr_assert_eq(out.states_max, 4096);
        cr_assert_eq(out.views_max, 64);
        cr_assert_eq(out.batch_keys_max, 4096);
        cr_assert_eq(out.manifest_bytes_max, 64 << 20);
        cr_assert_eq(out.slot_bytes_max, 16 << 10);
        cr_assert_eq(out.message_bytes_max, 64 << 20);
        cr_assert_eq(out.image_bytes_max, (1 << 30) + (1 << 20));
        cr_assert_eq(out.index_bytes_max, 1 << 30);
        cr_assert_eq(out.files_max, 1000000);
        cr_assert_eq(out.operators_max, 4096);
        cr_assert_eq(out.committable_bytes_max, 4096);
        cr_assert_eq(out.split_bytes_max, 64 << 10);
        cr_assert_eq(out.claim_attempts_max, 16);
        cr_assert_eq(out.slots_max, 1000000);
    }
}

KWR_TEST(limits, what_is_set_is_kept_up_to_what_the_formats_hold) {
    kwr_limits in = KWR_LIMITS_INIT, out = { 0 };
    in.key_bytes_max = 3;
    in.value_bytes_max = 1 << 30;
    in.states_max = 65535;
    KWR_MUST(kwr_limits_complete(&in, &out, NULL));
    cr_assert_eq(out.key_bytes_max, 3);
    cr_assert_eq(out.value_bytes_max, 1 << 30);
    cr_assert_eq(out.states_max, 65535);
    cr_assert_eq(out.name_bytes_max, 255);
}

static void expect_refused(const kwr_limits *in, const char *field) {
    kwr_limits out = { .struct_size = 77 };
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_limits_complete(in, &out, &err));
    cr_assert(strstr(err.text, field) != NULL, "%s: %s", field, err.text);
    cr_assert_eq(out.struct_size, 77, "untouched");
}

KWR_TEST(limits, more_than_the_formats_hold_is_refused_by_name) {
    kwr_limits in = KWR_LIMITS_INIT;
    in.key_bytes_max = ((size_t)1 << 30) + 1;
    expect_refused(&in, "key_bytes_max");
    in = (kwr_limits)KWR_LIMITS_INIT;
    in.name_bytes_max = 256;
    expect_refused(&in, "name_bytes_max");
    in = (kwr_limits)KWR_LIMITS_INIT;
    in.states_max = 65536;
    expect_refused(&in, "states_max");
    in = (kwr_limits)KWR_LIMITS_INIT;
    in.manifest_bytes_max = SIZE_MAX;
    expect_refused(&in, "manifest_bytes_max");
}

KWR_TEST(limits, fields_set_without_a_size_are_not_silently_dropped) {
    const kwr_limits in = { .key_bytes_max = 5 };
    expect_refused(&in, "struct_size");
}

typedef struct old_options {
    size_t struct_size;
    uint32_t a;
} old_options;

typedef struct new_options {
    size_t struct_size;
    uint32_t a;
    uint32_t b;
    uint64_t c;
} new_options;

KWR_TEST(options, of_an_older_caller_are_completed_with_zeros) {
    struct {
        size_t struct_size;
        uint32_t a;
        uint32_t not_ours;
    } in = { sizeof(size_t) + sizeof(uint32_t), 5, 99 };
    new_options out;
    memset(&out, 0xff, sizeof out);
    KWR_MUST(kwr_options_copy(&in, &out, sizeof out, "test_options", NULL));
    cr_assert_eq(out.a, 5);
    cr_assert_eq(out.b, 0, "beyond the caller's struct");
    cr_assert_eq(out.c, 0);
    cr_assert_eq(out.struct_size, sizeof out);
}

KWR_TEST(options, of_a_newer_caller_pass_unless_they_ask_for_something_new) {
    new_options in = { .struct_size = sizeof in, .a = 5 };
    old_options out = { 0 };
    kwr_error err = { 0 };
    KWR_MUST(kwr_options_copy(&in, &out, sizeof out, "test_options", &err));
    cr_assert_eq(out.a, 5);
    cr_assert_eq(out.struct_size, sizeof out);
    out.a = 1;
    in.c = 1;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_options_copy(&in, &out, sizeof out, "test_options", &err));
    cr_assert(strstr(err.text, "test_options") != NULL, "%s", err.text);
    cr_assert_eq(out.a, 1, "untouched");
}

KWR_TEST(options, not_given_are_all_defaults) {
    new_options out;
    memset(&out, 0xff, sizeof out);
    KWR_MUST(kwr_options_copy(NULL, &out, sizeof out, "test_options", NULL));
    cr_assert(out.a == 0 && out.b == 0 && out.c == 0);
}

KWR_TEST(options, never_initialised_are_refused) {
    static const size_t sizes[] = { 0, 1, sizeof(size_t) - 1, 1 << 20, SIZE_MAX };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        new_options in = { .struct_size = sizes[i], .a = 5 }, out = { .a = 1 };
        kwr_error err = { 0 };
        KWR_EXPECT(KWR_ERR_RANGE, kwr_options_copy(&in, &out, sizeof out, "test_options", &err));
        cr_assert(strstr(err.text, "test_options") != NULL &&
                      strstr(err.text, "struct_size") != NULL,
                  "%s", err.text);
        cr_assert_eq(out.a, 1, "untouched");
    }
}
