/* SPDX-License-Identifier: Apache-2.0 */
/* Names, numbers and bytes as text: every value has one form, everything else is refused. */
#include "tests/support/kwr_test.h"

#include "base/name.h"

KWR_TEST(name, a_name_is_made_of_its_alphabet_alone) {
    cr_assert(kwr_name_ok("wordcount-1.A_z", 200, false));
    for (int c = 1; c < 256; c++) {
        const char name[] = { 'a', (char)c, 'b', '\0' };
        const bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
        cr_assert_eq(kwr_name_ok(name, 200, false), good, "%d", c);
    }
}

KWR_TEST(name, length_and_leading_dots_are_bounded) {
    cr_assert(!kwr_name_ok(NULL, 5, true));
    cr_assert(!kwr_name_ok("", 5, true));
    cr_assert(kwr_name_ok("abcde", 5, false));
    cr_assert(!kwr_name_ok("abcdef", 5, false));
    cr_assert(!kwr_name_ok(".", 5, true));
    cr_assert(!kwr_name_ok("..", 5, true));
    cr_assert(kwr_name_ok("...", 5, true));
    cr_assert(kwr_name_ok(".tmp", 5, true));
    cr_assert(!kwr_name_ok(".tmp", 5, false));
    cr_assert(kwr_name_ok("a..", 5, false));
}

KWR_TEST(number, decimal_has_one_form) {
    uint64_t v = 7;
    cr_assert(kwr_parse_u64("0", 1, &v) && v == 0);
    cr_assert(kwr_parse_u64("18446744073709551615", 20, &v) && v == UINT64_MAX);
    cr_assert(kwr_parse_u64("123456", 3, &v) && v == 123);
    static const char *const bad[] = { "",
                                       "00",
                                       "01",
                                       "-1",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "1a",
                                       "0x1",
                                       "18446744073709551616",
                                       "99999999999999999999",
                                       "100000000000000000000" };
    v = 7;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(!kwr_parse_u64(bad[i], strlen(bad[i]), &v), "%s", bad[i]);
        cr_assert_eq(v, 7, "untouched");
    }
}

KWR_TEST(number, hex_is_lower_case_and_of_the_given_width) {
    uint64_t v = 7;
    cr_assert(kwr_parse_hex64("00000000000000ff-rest", 16, &v) && v == 255);
    cr_assert(kwr_parse_hex64("ffffffffffffffff", 16, &v) && v == UINT64_MAX);
    cr_assert(kwr_parse_hex64("a", 1, &v) && v == 10);
    v = 7;
    cr_assert(!kwr_parse_hex64("ff", 3, &v), "shorter");
    cr_assert(!kwr_parse_hex64("FF", 2, &v));
    cr_assert(!kwr_parse_hex64("fg", 2, &v));
    cr_assert(!kwr_parse_hex64("", 0, &v));
    cr_assert(!kwr_parse_hex64("00000000000000000", 17, &v));
    cr_assert_eq(v, 7);
}

KWR_TEST(hex, goes_there_and_back) {
    unsigned char all[256], back[256];
    char text[513];
    for (int i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    kwr_hex(all, sizeof all, text);
    cr_assert_eq(strlen(text), 512);
    cr_assert(strncmp(text, "000102", 6) == 0);
    cr_assert(kwr_unhex(text, 512, back, sizeof back));
    cr_assert_arr_eq(all, back, 256);
    memset(back, 0, sizeof back);
    cr_assert(!kwr_unhex(text, 511, back, 255));
    cr_assert(!kwr_unhex(text, 512, back, 255));
    cr_assert(!kwr_unhex("zz", 2, back, 1));
    cr_assert(!kwr_unhex("AB", 2, back, 1));
    cr_assert_eq(back[0], 0, "untouched");
    cr_assert(kwr_unhex("", 0, back, 0));
}

KWR_TEST(base64, matches_the_vectors_of_rfc_4648) {
    static const char *const plain[] = { "", "f", "fo", "foo", "foob", "fooba", "foobar" };
    static const char *const coded[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                         "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
    for (int i = 0; i < 7; i++) {
        char text[16], back[16];
        const size_t size = strlen(plain[i]);
        cr_assert_eq(kwr_base64_size(size), strlen(coded[i]));
        kwr_base64(plain[i], size, text);
        cr_assert_str_eq(text, coded[i]);
        size_t got = size;
        cr_assert(kwr_unbase64(coded[i], strlen(coded[i]), back, &got));
        cr_assert_eq(got, size);
        cr_assert_arr_eq(back, plain[i], size);
    }
}

KWR_TEST(base64, every_byte_value_survives) {
    unsigned char in[258], back[258];
    char text[400];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i * 7);
    for (size_t size = 0; size <= sizeof in; size++) {
        kwr_base64(in, size, text);
        cr_assert_eq(strlen(text), kwr_base64_size(size));
        size_t got = sizeof back;
        cr_assert(kwr_unbase64(text, strlen(text), back, &got) && got == size);
        cr_assert(memcmp(in, back, size) == 0);
    }
}

KWR_TEST(base64, anything_but_the_one_form_is_refused) {
    static const char *const bad[] = { "Z",    "Zg",     "Zg=",  "Zg===",    "Zh==",
                                       "Zm9=", "Z===",   "====", "Zg==Zg==", "Zm 9",
                                       "Zm-_", "Zm9v\n", "=Zm9" };
    char out[32];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t size = sizeof out;
        cr_assert(!kwr_unbase64(bad[i], strlen(bad[i]), out, &size), "%s", bad[i]);
        cr_assert_eq(size, sizeof out, "untouched");
    }
    size_t small = 2;
    cr_assert(!kwr_unbase64("Zm9v", 4, out, &small), "no room");
    cr_assert_eq(small, 2);
}

static bool utf8(const char *text) { return kwr_utf8_ok(text, strlen(text)); }

KWR_TEST(utf8, valid_forms_are_taken) {
    cr_assert(kwr_utf8_ok("", 0));
    cr_assert(kwr_utf8_ok("a\0b", 3));
    cr_assert(utf8("plain"));
    cr_assert(utf8("\xc2\x80\xdf\xbf"));
    cr_assert(utf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
    cr_assert(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

KWR_TEST(utf8, overlong_surrogate_truncated_and_foreign_forms_are_refused) {
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2"
        "a",
        "\xe0\x9f\xbf",
        "\xe0\x80\x80",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe1\x80",
        "\xe1\x80"
        "a",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf1\x80\x80",
        "\xff",
        "\xfe",
        "ok\xc3",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(!utf8(bad[i]), "%zu", i);
    cr_assert(!kwr_utf8_ok("\xe2\x82\xac", 2), "cut by the size, not by a NUL");
}

KWR_TEST(utf8, agrees_with_the_definition_on_every_code_point) {
    for (uint32_t c = 0x80; c <= 0x110000; c++) {
        unsigned char b[4];
        size_t size;
        if (c < 0x800) {
            b[0] = (unsigned char)(0xc0 | c >> 6);
            size = 2;
        } else if (c < 0x10000) {
            b[0] = (unsigned char)(0xe0 | c >> 12);
            size = 3;
        } else {
            b[0] = (unsigned char)(0xf0 | c >> 18);
            size = 4;
        }
        for (size_t i = 1; i < size; i++)
            b[i] = (unsigned char)(0x80 | (c >> (6 * (size - 1 - i)) & 0x3f));
        const bool good = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
        if (kwr_utf8_ok(b, size) != good) cr_assert_fail("code point %x", c);
    }
}

static const char *printable(const char *in, size_t size, size_t capacity) {
    static char out[64];
    memset(out, '#', sizeof out);
    kwr_printable(in, size, out, capacity);
    cr_assert(capacity == 0 || memchr(out, '\0', capacity) != NULL, "terminated in its room");
    cr_assert_eq(out[capacity], '#', "nothing behind it");
    return out;
}

KWR_TEST(printable, what_is_not_plain_is_escaped) {
    cr_assert_str_eq(printable("a b", 3, 32), "a b");
    cr_assert_str_eq(printable("\n\0\xff\x7f", 4, 32), "\\x0a\\x00\\xff\\x7f");
    cr_assert_str_eq(printable("a\\n", 3, 32), "a\\x5cn");
    cr_assert_str_eq(printable(NULL, 0, 32), "");
}

KWR_TEST(printable, what_does_not_fit_is_cut_visibly_and_never_inside_an_escape) {
    cr_assert_str_eq(printable("abcdefgh", 8, 9), "abcdefgh");
    cr_assert_str_eq(printable("abcdefghi", 9, 9), "abcde...");
    cr_assert_str_eq(printable("\n\n\n", 3, 12), "\\x0a\\x0a...");
    cr_assert_str_eq(printable("\n\n\n", 3, 11), "\\x0a...");
    cr_assert_str_eq(printable("abc", 3, 4), "abc");
    cr_assert_str_eq(printable("abcd", 4, 4), "...");
    cr_assert_str_eq(printable("abcd", 4, 3), "..");
    cr_assert_str_eq(printable("abcd", 4, 1), "");
    printable("abcd", 4, 0);
}
