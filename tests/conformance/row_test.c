/* SPDX-License-Identifier: Apache-2.0 */
/* Rows by field: the documented encoding, what is refused, and damaged bytes. */
#include "tests/support/kwr_test.h"

static const kwr_field fields[] = {
    { 1, "user", { .kind = KWR_TYPE_STRING } },   { 2, "n", { .kind = KWR_TYPE_I64 } },
    { 5, "on", { .kind = KWR_TYPE_BOOL } },       { 6, "mean", { .kind = KWR_TYPE_F64 } },
    { 9, "small", { .kind = KWR_TYPE_I32 } },     { 10, "big", { .kind = KWR_TYPE_U64 } },
    { 65535, "raw", { .kind = KWR_TYPE_BYTES } },
};
static const kwr_type type = { .kind = KWR_TYPE_ROW, .fields = fields, .field_count = 7 };

static bool has(const kwr_error *err, const char *words) {
    return strstr(err->text, words) != NULL;
}

/* The vector of docs/types.md. */
KWR_TEST(row, is_encoded_as_documented) {
    static const uint8_t want[] = { 2, 0, 1, 0, 3, 0, 0, 0, 'a', 'd', 'a', 2, 0,
                                    8, 0, 0, 0, 7, 0, 0, 0, 0,   0,   0,   0 };
    uint8_t buffer[64];
    kwr_row row;
    kwr_slice got;
    kwr_error err;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_string(&row, 1, "ada");
    kwr_row_put_i64(&row, 2, 7);
    KWR_MUST_ERR(kwr_row_end(&row, &got, &err), err);
    cr_assert(got.size == sizeof want && memcmp(got.data, want, sizeof want) == 0);
    cr_assert(got.data == buffer && row.size == sizeof want);
}

KWR_TEST(row, fields_come_back_by_their_numbers) {
    uint8_t buffer[200];
    kwr_row row;
    kwr_slice bytes, text;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_string(&row, 1, "");
    kwr_row_put_bool(&row, 5, true);
    kwr_row_put_f64(&row, 6, -0.5);
    kwr_row_put_i32(&row, 9, -3);
    kwr_row_put_u64(&row, 10, UINT64_MAX);
    kwr_row_put(&row, 65535, (kwr_slice){ "\0\1", 2 });
    KWR_MUST(kwr_row_end(&row, &bytes, NULL));
    bool on = false;
    int64_t n = 77;
    int32_t small;
    uint64_t big;
    double mean;
    KWR_MUST(kwr_row_get_string(&type, bytes, 1, &text, NULL));
    cr_assert(text.size == 0);
    KWR_EXPECT(KWR_NOT_FOUND, kwr_row_get_i64(&type, bytes, 2, &n, NULL));
    KWR_MUST(kwr_row_get_bool(&type, bytes, 5, &on, NULL));
    KWR_MUST(kwr_row_get_f64(&type, bytes, 6, &mean, NULL));
    KWR_MUST(kwr_row_get_i32(&type, bytes, 9, &small, NULL));
    KWR_MUST(kwr_row_get_u64(&type, bytes, 10, &big, NULL));
    KWR_MUST(kwr_row_get(&type, bytes, 65535, &text, NULL));
    cr_assert(n == 0 && on && mean == -0.5 && small == -3 && big == UINT64_MAX);
    cr_assert(text.size == 2 && memcmp(text.data, "\0\1", 2) == 0);
}

KWR_TEST(row, without_fields_is_a_row) {
    uint8_t buffer[2];
    kwr_row row;
    kwr_slice bytes;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    KWR_MUST(kwr_row_end(&row, &bytes, NULL));
    cr_assert(bytes.size == 2 && memcmp(bytes.data, "\0\0", 2) == 0);
    kwr_slice text = { "x", 1 };
    KWR_EXPECT(KWR_NOT_FOUND, kwr_row_get_string(&type, bytes, 1, &text, NULL));
    cr_assert(text.size == 0);
    text.size = 1;
    KWR_EXPECT(KWR_NOT_FOUND, kwr_row_get(&type, bytes, 65535, &text, NULL));
    cr_assert(text.size == 0);
}

KWR_TEST(row, says_how_much_room_it_needs) {
    uint8_t buffer[25];
    kwr_row row;
    kwr_slice bytes = { "untouched", 9 };
    kwr_error err;
    for (size_t capacity = 0; capacity <= sizeof buffer; capacity++) {
        memset(buffer, 0xee, sizeof buffer);
        kwr_row_begin(&row, &type, buffer, capacity);
        kwr_row_put_string(&row, 1, "ada");
        kwr_row_put_i64(&row, 2, 7);
        cr_assert(row.size == 25);
        if (capacity == 25) {
            KWR_MUST(kwr_row_end(&row, &bytes, NULL));
            break;
        }
        KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, &err));
        cr_assert(has(&err, "the row has 25 bytes, its buffer "));
        cr_assert(bytes.size == 9);
        for (size_t i = capacity; i < sizeof buffer; i++)
            cr_assert(buffer[i] == 0xee);
    }
    cr_assert(bytes.size == 25);
}

KWR_TEST(row, keeps_the_first_failure_until_its_end) {
    uint8_t buffer[100];
    kwr_row row;
    kwr_slice bytes;
    kwr_error err;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_i64(&row, 1, 7);
    kwr_row_put_i64(&row, 3, 7);
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_row_end(&row, &bytes, &err));
    cr_assert(has(&err, "field 1 'user' is of string, written as i64"));
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_i64(&row, 3, 7);
    kwr_row_put_i64(&row, 2, 7);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, &err));
    cr_assert(has(&err, "has no field 3"));
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_bool(&row, 5, true);
    kwr_row_put_i64(&row, 2, 7);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, &err));
    cr_assert(has(&err, "ascending order: 2 comes after 5"));
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_bool(&row, 5, true);
    kwr_row_put_bool(&row, 5, true);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, &err));
    cr_assert(has(&err, "5 comes after 5"));
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put(&row, 2, (kwr_slice){ "1234", 4 });
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, &err));
    cr_assert(has(&err, "field 2 'n': 4 bytes are no i64"));
    const kwr_type number = { .kind = KWR_TYPE_I64 };
    kwr_row_begin(&row, &number, buffer, sizeof buffer);
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_row_end(&row, &bytes, &err));
    kwr_row_begin(&row, &number, buffer, sizeof buffer);
    kwr_row_put_i64(&row, 1, 7);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_end(&row, &bytes, NULL));
}

KWR_TEST(row, fields_of_other_types_are_refused_when_read) {
    uint8_t buffer[100];
    kwr_row row;
    kwr_slice bytes, text = { "untouched", 9 };
    kwr_error err;
    int64_t n = 77;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_i64(&row, 2, 7);
    KWR_MUST(kwr_row_end(&row, &bytes, NULL));
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_row_get_string(&type, bytes, 2, &text, &err));
    cr_assert(has(&err, "field 2 'n' is of i64, read as string"));
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_row_get_i64(&type, bytes, 1, &n, &err));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_row_get_i64(&type, bytes, 3, &n, &err));
    cr_assert(has(&err, "row{1 user:string,2 n:i64,"));
    cr_assert(has(&err, "has no field 3"));
    cr_assert(text.size == 9 && n == 77);
}

KWR_TEST(row, nests_as_bytes) {
    const kwr_field outer_fields[] = { { 4, "inner", type } };
    const kwr_type outer = { .kind = KWR_TYPE_ROW, .fields = outer_fields, .field_count = 1 };
    uint8_t buffer[50], whole[100];
    kwr_row row;
    kwr_slice inner, bytes, got;
    int64_t n;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_i64(&row, 2, -7);
    KWR_MUST(kwr_row_end(&row, &inner, NULL));
    kwr_row_begin(&row, &outer, whole, sizeof whole);
    kwr_row_put(&row, 4, inner);
    KWR_MUST(kwr_row_end(&row, &bytes, NULL));
    KWR_MUST(kwr_row_get(&outer, bytes, 4, &got, NULL));
    KWR_MUST(kwr_row_get_i64(&type, got, 2, &n, NULL));
    cr_assert(n == -7);
}

/* Bytes cut short at every place, in memory of exactly that size, and with every byte changed. */
KWR_TEST(row, damaged_bytes_are_told_and_never_read_beyond) {
    uint8_t buffer[100];
    kwr_row row;
    kwr_slice whole, text;
    kwr_error err;
    kwr_row_begin(&row, &type, buffer, sizeof buffer);
    kwr_row_put_string(&row, 1, "ada");
    kwr_row_put_i64(&row, 2, 7);
    kwr_row_put(&row, 65535, (kwr_slice){ "xyz", 3 });
    KWR_MUST(kwr_row_end(&row, &whole, NULL));
    for (size_t size = 0; size < whole.size; size++) {
        uint8_t *cut = (uint8_t *)malloc(size + 1) + 1; /* the end of the block is the end */
        memcpy(cut, whole.data, size);
        const kwr_slice bytes = { cut, size };
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, kwr_row_get(&type, bytes, 65535, &text, &err), err);
        cr_assert(has(&err, "looking for field 65535"));
        free(cut - 1);
    }
    for (size_t at = 0; at < whole.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            buffer[at] ^= (uint8_t)(1U << bit);
            for (size_t i = 0; i < type.field_count; i++) {
                const kwr_status status = kwr_row_get(&type, whole, fields[i].id, &text, &err);
                cr_assert(status == KWR_OK || status == KWR_NOT_FOUND || status == KWR_ERR_CORRUPT);
                if (status == KWR_OK && text.size > 0)
                    cr_assert((const uint8_t *)text.data >= buffer &&
                              (const uint8_t *)text.data + text.size <= buffer + whole.size);
            }
            buffer[at] ^= (uint8_t)(1U << bit);
        }
    }
    /* Ids that do not ascend, and bytes behind the last field. */
    static const uint8_t twice[] = { 2, 0, 5, 0, 1, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 1 };
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_row_get(&type, (kwr_slice){ twice, sizeof twice }, 6, &text, NULL));
    static const uint8_t behind[] = { 1, 0, 5, 0, 1, 0, 0, 0, 1, 9 };
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_row_get(&type, (kwr_slice){ behind, sizeof behind }, 6, &text, NULL));
    static const uint8_t narrow[] = { 1, 0, 2, 0, 1, 0, 0, 0, 1 };
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_row_get(&type, (kwr_slice){ narrow, sizeof narrow }, 2, &text, NULL));
}
