/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types and key groups by themselves: names, checks, copies, and the encodings, whose golden
 * vectors (docs/types.md) hold for ever.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "backend/view.h"
#include "tests/support/kwr_test.h"

/* ---- texts and checks ---- */

static bool text_is(const kwr_type *type, const char *want) {
    char text[200];
    kwr_type_text(type, text, sizeof text);
    return strcmp(text, want) == 0;
}

static const kwr_field inner_fields[] = { { 3, "x", { .kind = KWR_TYPE_F64 } },
                                          { 9, "y", { .kind = KWR_TYPE_OPAQUE, .version = 2 } } };
static const kwr_field row_fields[] = {
    { 1, "user", { .kind = KWR_TYPE_STRING } },
    { 2, "at", { .kind = KWR_TYPE_ROW, .fields = inner_fields, .field_count = 2 } },
    { 7, "n", { .kind = KWR_TYPE_I64 } },
};
static const kwr_type row = { .kind = KWR_TYPE_ROW, .fields = row_fields, .field_count = 3 };
static const char row_text[] = "row{1 user:string,2 at:row{3 x:f64,9 y:opaque v2},7 n:i64}";

KWR_TEST(type, has_a_text) {
    cr_assert(text_is(&(kwr_type){ .kind = KWR_TYPE_I64 }, "i64"));
    cr_assert(text_is(&(kwr_type){ .kind = KWR_TYPE_BYTES }, "bytes"));
    cr_assert(text_is(&(kwr_type){ .kind = KWR_TYPE_OPAQUE, .version = 7 }, "opaque v7"));
    cr_assert(text_is(&(kwr_type){ .kind = KWR_TYPE_ROW }, "row{}"));
    cr_assert(text_is(&row, row_text));
}

KWR_TEST(type, text_is_cut_to_the_room_there_is) {
    for (size_t capacity = 1; capacity <= sizeof row_text; capacity++) {
        char *text = malloc(capacity); /* exactly: the sanitizer sees a byte too many */
        kwr_type_text(&row, text, capacity);
        cr_assert(strlen(text) == capacity - 1);
        cr_assert(strncmp(text, row_text, capacity - 1) == 0);
        free(text);
    }
    kwr_type_text(&row, NULL, 0);
}

KWR_TEST(type, knows_fixed_sizes) {
    static const size_t sizes[] = { 0, 1, 4, 8, 8, 8, 0, 0, 0 };
    for (unsigned kind = 0; kind < sizeof sizes / sizeof sizes[0]; kind++)
        cr_assert(kwr_type_fixed_size(&(kwr_type){ .kind = (kwr_type_kind)kind }) == sizes[kind]);
}

KWR_TEST(type, kinds_have_names_both_ways) {
    for (int kind = KWR_TYPE_BYTES; kind <= KWR_TYPE_OPAQUE; kind++) {
        kwr_type_kind parsed;
        cr_assert(kwr_type_kind_parse(kwr_type_kind_name((kwr_type_kind)kind), &parsed));
        cr_assert((int)parsed == kind);
    }
    for (int kind = KWR_STATE_VALUE; kind <= KWR_STATE_TIMER; kind++) {
        kwr_state_kind parsed;
        cr_assert(kwr_state_kind_parse(kwr_state_kind_name((kwr_state_kind)kind), &parsed));
        cr_assert((int)parsed == kind);
    }
    kwr_type_kind type_kind = KWR_TYPE_F64;
    kwr_state_kind state_kind = KWR_STATE_MAP;
    cr_assert(!kwr_type_kind_parse("int", &type_kind) && type_kind == KWR_TYPE_F64);
    cr_assert(!kwr_state_kind_parse("", &state_kind) && state_kind == KWR_STATE_MAP);
    cr_assert_str_eq(kwr_type_kind_name((kwr_type_kind)99), "unknown");
    cr_assert_str_eq(kwr_state_kind_name((kwr_state_kind)0), "unknown");
}

static void expect_refused(const kwr_type *type, const char *words) {
    kwr_error err;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_type_check(type, "here", &err));
    cr_assert(strstr(err.text, words) != NULL, "'%s' lacks '%s'", err.text, words);
    cr_assert(strstr(err.text, "here") != NULL);
}

KWR_TEST(type, what_makes_no_sense_is_refused) {
    KWR_MUST(kwr_type_check(&row, "here", NULL));
    KWR_MUST(kwr_type_check(&(kwr_type){ .kind = KWR_TYPE_ROW }, "here", NULL));
    expect_refused(&(kwr_type){ .kind = (kwr_type_kind)9 }, "unknown type kind 9");
    expect_refused(&(kwr_type){ .kind = (kwr_type_kind)-1 }, "unknown type kind");
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_I64, .version = 1 }, "only opaque");
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_I64, .fields = row_fields, .field_count = 1 },
                   "only rows");
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .field_count = 1 }, "without them");
    const kwr_field same[] = { { 4, "a", { .kind = KWR_TYPE_I64 } },
                               { 4, "b", { .kind = KWR_TYPE_I64 } } };
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = same, .field_count = 2 },
                   "ids must ascend: 4 comes after 4");
    const kwr_field unnamed[] = { { 4, NULL, { .kind = KWR_TYPE_I64 } } };
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = unnamed, .field_count = 1 },
                   "the name of field 4");
    const kwr_field latin[] = { { 4, "\xe9t\xe9", { .kind = KWR_TYPE_I64 } } };
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = latin, .field_count = 1 }, "UTF-8");
    const kwr_field bad_kind[] = { { 4, "a", { .kind = (kwr_type_kind)77 } } };
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = bad_kind, .field_count = 1 },
                   "unknown type kind 77");
    kwr_error err;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_type_check_key(&row, "here", &err));
}

KWR_TEST(type, fields_of_an_inner_row_count_their_own_ids) {
    const kwr_field inner[] = { { 5, "a", { .kind = KWR_TYPE_I64 } } };
    const kwr_field outer[] = {
        { 1, "in", { .kind = KWR_TYPE_ROW, .fields = inner, .field_count = 1 } },
        { 2, "empty", { .kind = KWR_TYPE_ROW } },
        { 3, "last", { .kind = KWR_TYPE_I64 } },
    };
    const kwr_type type = { .kind = KWR_TYPE_ROW, .fields = outer, .field_count = 3 };
    KWR_MUST(kwr_type_check(&type, "here", NULL));
    cr_assert(text_is(&type, "row{1 in:row{5 a:i64},2 empty:row{},3 last:i64}"));
}

KWR_TEST(type, rows_nest_eight_deep) {
    kwr_field field[KWR_TYPE_DEPTH_MAX];
    kwr_type type = { .kind = KWR_TYPE_I64 };
    for (int depth = 0; depth < KWR_TYPE_DEPTH_MAX; depth++) {
        field[depth] = (kwr_field){ 1, "in", type };
        type = (kwr_type){ .kind = KWR_TYPE_ROW, .fields = &field[depth], .field_count = 1 };
    }
    KWR_MUST(kwr_type_check(&type, "here", NULL));
    const kwr_field deeper = { 1, "in", type };
    expect_refused(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = &deeper, .field_count = 1 },
                   "deeper than 8");
    char text[100]; /* of a type that was not checked: cut, not lost */
    kwr_type_text(&(kwr_type){ .kind = KWR_TYPE_ROW, .fields = &deeper, .field_count = 1 }, text,
                  sizeof text);
    cr_assert(strstr(text, "row{1 in:row{1 in:") == text);
}

/* Rows that share their fields' memory would multiply: 16 ^ 8 fields from 8 * 16. */
KWR_TEST(type, the_number_of_fields_is_counted_over_all_levels) {
    enum { WIDTH = 16 };
    static kwr_field fields[KWR_TYPE_DEPTH_MAX][WIDTH];
    kwr_type type = { .kind = KWR_TYPE_I64 };
    for (int depth = 0; depth < KWR_TYPE_DEPTH_MAX; depth++) {
        for (uint16_t i = 0; i < WIDTH; i++)
            fields[depth][i] = (kwr_field){ i, "f", type };
        type = (kwr_type){ .kind = KWR_TYPE_ROW, .fields = fields[depth], .field_count = WIDTH };
    }
    expect_refused(&type, "more than 1024 fields");
}

KWR_TEST(type, a_copy_stands_alone) {
    kwr_env *env;
    KWR_MUST(kwr_env_posix_open(NULL, &env, NULL));
    char name[] = "user";
    kwr_field fields[3];
    memcpy(fields, row_fields, sizeof fields);
    fields[0].name = name;
    const kwr_type type = { .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 3 };
    kwr_type copy;
    KWR_MUST(kwr_type_copy(env, &type, &copy));
    cr_assert(kwr_type_same(&copy, &type) && kwr_type_same_labels(&copy, &type));
    name[0] = 'l';
    fields[2].id = 1000;
    cr_assert(text_is(&copy, row_text));
    cr_assert(!kwr_type_same(&copy, &type));
    kwr_type_free(env, &copy);
    KWR_MUST(kwr_type_copy(env, &(kwr_type){ .kind = KWR_TYPE_ROW }, &copy));
    cr_assert(text_is(&copy, "row{}"));
    kwr_type_free(env, &copy);
    kwr_env_posix_close(env);
}

KWR_TEST(type, labels_do_not_count_ids_and_kinds_do) {
    kwr_field inner[2], fields[3];
    memcpy(inner, inner_fields, sizeof inner);
    memcpy(fields, row_fields, sizeof fields);
    fields[1].type.fields = inner;
    const kwr_type type = { .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 3 };
    cr_assert(kwr_type_same(&type, &row) && kwr_type_same_labels(&type, &row));
    inner[0].name = "longitude";
    cr_assert(kwr_type_same(&type, &row) && !kwr_type_same_labels(&type, &row));
    inner[1].type.version = 3;
    cr_assert(!kwr_type_same(&type, &row));
    inner[1].type.version = 2;
    inner[1].id = 10;
    cr_assert(!kwr_type_same(&type, &row));
    cr_assert(
        !kwr_type_same(&(kwr_type){ .kind = KWR_TYPE_I64 }, &(kwr_type){ .kind = KWR_TYPE_U64 }));
    cr_assert(!kwr_type_same(&row, &(kwr_type){ .kind = KWR_TYPE_ROW }));
}

/* ---- key encodings ---- */

KWR_TEST(key_encoding, golden_vectors) {
    uint8_t key[8];
    cr_assert(kwr_key_from_i32(-2, key) == 4 && memcmp(key, "\x7f\xff\xff\xfe", 4) == 0);
    cr_assert(kwr_key_from_i32(1, key) == 4 && memcmp(key, "\x80\0\0\1", 4) == 0);
    cr_assert(kwr_key_from_i64(-1, key) == 8);
    cr_assert(memcmp(key, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8) == 0);
    kwr_key_from_i64(258, key);
    cr_assert(memcmp(key, "\x80\0\0\0\0\0\1\2", 8) == 0);
    cr_assert(kwr_key_from_u64(258, key) == 8 && memcmp(key, "\0\0\0\0\0\0\1\2", 8) == 0);
    cr_assert(kwr_key_from_f64(1.0, key) == 8);
    cr_assert(memcmp(key, "\xbf\xf0\0\0\0\0\0\0", 8) == 0);
    kwr_key_from_f64(-1.0, key);
    cr_assert(memcmp(key, "\x40\x0f\xff\xff\xff\xff\xff\xff", 8) == 0);
    kwr_key_from_f64(0.0, key);
    cr_assert(memcmp(key, "\x80\0\0\0\0\0\0\0", 8) == 0);
    kwr_key_from_f64(-0.0, key);
    cr_assert(memcmp(key, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8) == 0);
}

KWR_TEST(key_encoding, keeps_the_order_and_comes_back) {
    static const int64_t numbers[] = {
        INT64_MIN, INT64_MIN + 1, INT32_MIN, -256,      -255,          -1,       0,
        1,         255,           256,       INT32_MAX, INT64_MAX - 1, INT64_MAX
    };
    static const double reals[] = { -INFINITY, -DBL_MAX, -1.5, -DBL_MIN, -0.0,    0.0,
                                    DBL_MIN,   0.1,      1,    1.5,      DBL_MAX, INFINITY };
    uint8_t before[8], key[8];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        kwr_key_from_i64(numbers[i], key);
        cr_assert(kwr_key_to_i64(key) == numbers[i]);
        cr_assert(i == 0 || memcmp(before, key, 8) < 0);
        memcpy(before, key, 8);
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        kwr_key_from_f64(reals[i], key);
        const double back = kwr_key_to_f64(key);
        cr_assert(memcmp(&back, &reals[i], 8) == 0);
        cr_assert(i == 0 || memcmp(before, key, 8) < 0);
        memcpy(before, key, 8);
    }
    bool first = true;
    for (int64_t number = INT32_MIN; number <= INT32_MAX; number += 16777259) {
        kwr_key_from_i32((int32_t)number, key);
        cr_assert(kwr_key_to_i32(key) == number);
        cr_assert(first || memcmp(before, key, 4) < 0);
        memcpy(before, key, 4);
        first = false;
    }
    for (unsigned shift = 0; shift < 64; shift++) {
        kwr_key_from_u64(UINT64_C(1) << shift, key);
        cr_assert(kwr_key_to_u64(key) == UINT64_C(1) << shift);
        cr_assert(shift == 0 || memcmp(before, key, 8) < 0);
        memcpy(before, key, 8);
    }
}

/* ---- key groups ---- */

static bool range_is(uint32_t index, uint32_t p, uint32_t m, uint32_t first, uint32_t last) {
    const kwr_key_group_range range = kwr_key_groups_of(index, p, m);
    return range.first == first && range.first + range.count - 1 == last;
}

KWR_TEST(key_group, ranges_golden_vectors) {
    cr_assert(range_is(0, 3, 10, 0, 3) && range_is(1, 3, 10, 4, 6) && range_is(2, 3, 10, 7, 9));
    cr_assert(range_is(0, 3, 128, 0, 42) && range_is(1, 3, 128, 43, 85) &&
              range_is(2, 3, 128, 86, 127));
    cr_assert(range_is(0, 5, 128, 0, 25) && range_is(1, 5, 128, 26, 51) &&
              range_is(2, 5, 128, 52, 76) && range_is(3, 5, 128, 77, 102) &&
              range_is(4, 5, 128, 103, 127));
    cr_assert(range_is(0, 1, 32768, 0, 32767));
    cr_assert(range_is(32767, 32768, 32768, 32767, 32767));
}

KWR_TEST(key_group, every_group_has_the_one_owner_whose_range_it_is_in) {
    static const uint32_t most[] = { 1, 2, 7, 10, 128, 1000, 32768 };
    for (size_t m = 0; m < sizeof most / sizeof most[0]; m++) {
        for (uint32_t p = 1; p <= most[m]; p += p < 20 ? 1 : 1 + most[m] / 17) {
            uint32_t next = 0;
            for (uint32_t index = 0; index < p; index++) {
                const kwr_key_group_range range = kwr_key_groups_of(index, p, most[m]);
                cr_assert(range.first == next && range.count > 0);
                next += range.count;
                cr_assert(kwr_key_group_owner(range.first, p, most[m]) == index);
                cr_assert(kwr_key_group_owner(next - 1, p, most[m]) == index);
            }
            cr_assert(next == most[m]);
        }
    }
}

KWR_TEST(key_group, a_range_that_cannot_be_is_empty) {
    cr_assert(kwr_key_groups_of(0, 0, 0).count == 0);
    cr_assert(kwr_key_groups_of(3, 3, 10).count == 0);
    cr_assert(kwr_key_groups_of(0, 11, 10).count == 0);
    cr_assert(kwr_key_groups_of(0, 1, 32769).count == 0);
    cr_assert(kwr_key_groups_of(UINT32_MAX, UINT32_MAX, UINT32_MAX).count == 0);
    cr_assert(kwr_key_group_owner(5, 3, 0) == 0);
}

/* XXH3_64 with seed, from `xxhash` itself; the group is its high part of hash * groups. */
KWR_TEST(key_group, of_a_key_golden_vectors) {
    static const struct {
        const char *key;
        uint64_t seed;
        uint64_t hash;
        uint32_t of_128, of_32768, of_10;
    } rows[] = {
        { "", UINT64_C(0), UINT64_C(0x2d06800538d394c2), 22, 5763, 1 },
        { "a", UINT64_C(0), UINT64_C(0xe6c632b61e964e1f), 115, 29539, 9 },
        { "keyweir", UINT64_C(0), UINT64_C(0x4143c25056612c1a), 32, 8353, 2 },
        { "the quick brown fox", UINT64_C(0), UINT64_C(0x70ec367636ee7079), 56, 14454, 4 },
        { "8", UINT64_C(0), UINT64_C(0x664f427c6b2c4bea), 51, 13095, 3 },
        { "", UINT64_C(42), UINT64_C(0xb029411ff43d84d2), 88, 22548, 6 },
        { "a", UINT64_C(42), UINT64_C(0x4c437dd47f0716f4), 38, 9761, 2 },
        { "keyweir", UINT64_C(42), UINT64_C(0x6ac87b94619f4c0c), 53, 13668, 4 },
        { "the quick brown fox", UINT64_C(42), UINT64_C(0xb8e7e8326ef3145d), 92, 23667, 7 },
        { "8", UINT64_C(42), UINT64_C(0x2969114e90d74196), 20, 5300, 1 },
        { "", UINT64_C(11400714819323198485), UINT64_C(0x602b0e2cd6662c8b), 48, 12309, 3 },
        { "a", UINT64_C(11400714819323198485), UINT64_C(0x7b013ec73230c3a1), 61, 15744, 4 },
        { "keyweir", UINT64_C(11400714819323198485), UINT64_C(0x8fe93649068df17a), 71, 18420, 5 },
        { "the quick brown fox", UINT64_C(11400714819323198485), UINT64_C(0xb9ac1dc3978864d9), 92,
          23766, 7 },
        { "8", UINT64_C(11400714819323198485), UINT64_C(0xcea6765a2f02dc3a), 103, 26451, 8 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const kwr_slice key = { rows[i].key, strlen(rows[i].key) };
        cr_assert(kwr_key_hash(key, rows[i].seed) == rows[i].hash);
        cr_assert(kwr_key_group(key, rows[i].seed, 128) == rows[i].of_128);
        cr_assert(kwr_key_group(key, rows[i].seed, 32768) == rows[i].of_32768);
        cr_assert(kwr_key_group(key, rows[i].seed, 10) == rows[i].of_10);
        cr_assert(kwr_key_group(key, rows[i].seed, 1) == 0);
    }
}
