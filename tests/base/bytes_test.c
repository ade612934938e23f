/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of untrusted bytes never leaves its input; digests and compression keep their word. */
#include "tests/support/kwr_test.h"

#include "base/bytes.h"
#include "base/compress.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/memory.h"
#include "tests/support/fault_env.h"

KWR_TEST(cursor, reads_in_order_and_to_the_end) {
    static const uint8_t in[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xac, 0x02 };
    kwr_cursor c = kwr_cursor_of(in, sizeof in);
    cr_assert_eq(kwr_cursor_u8(&c), 1);
    cr_assert_eq(kwr_cursor_u16(&c), 0x0302);
    cr_assert_eq(kwr_cursor_u32(&c), 0x07060504);
    cr_assert_eq(kwr_cursor_u64(&c), 0x0f0e0d0c0b0a0908);
    cr_assert_eq(kwr_cursor_left(&c), 2);
    cr_assert_eq(kwr_cursor_varint32(&c), 300);
    cr_assert_eq(kwr_cursor_left(&c), 0);
    cr_assert(kwr_cursor_take(&c, 0) != NULL && !c.failed);
    cr_assert_eq(kwr_cursor_u8(&c), 0);
    cr_assert(c.failed);
}

KWR_TEST(cursor, a_read_past_the_end_fails_for_good) {
    const uint8_t in[3] = { 1, 2, 3 };
    kwr_cursor c = kwr_cursor_of(in, sizeof in);
    cr_assert_eq(kwr_cursor_u32(&c), 0);
    cr_assert(c.failed);
    cr_assert_eq(kwr_cursor_u8(&c), 0, "also what would fit");
    cr_assert(kwr_cursor_take(&c, 0) == NULL);
    kwr_cursor huge = kwr_cursor_of(in, sizeof in);
    cr_assert(kwr_cursor_take(&huge, SIZE_MAX) == NULL && huge.failed);
    kwr_cursor empty = kwr_cursor_of(NULL, 0);
    cr_assert_eq(kwr_cursor_u64(&empty), 0);
    cr_assert(empty.failed);
}

KWR_TEST(varint, only_the_shortest_form_of_32_bits_is_read) {
    static const uint32_t values[] = {
        0, 1, 127, 128, 16383, 16384, (1U << 21) - 1, 1U << 21, (1U << 28) - 1, 1U << 28, UINT32_MAX
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint8_t bytes[KWR_VARINT32_MAX];
        const size_t size = kwr_put_varint32(bytes, values[i]);
        cr_assert_eq(size, kwr_varint32_size(values[i]));
        kwr_cursor c = kwr_cursor_of(bytes, size);
        cr_assert_eq(kwr_cursor_varint32(&c), values[i]);
        cr_assert(!c.failed && kwr_cursor_left(&c) == 0);
        kwr_cursor cut = kwr_cursor_of(bytes, size - 1);
        cr_assert_eq(kwr_cursor_varint32(&cut), 0);
        cr_assert(cut.failed);
    }
    static const uint8_t bad[][6] = { { 0x80, 0x00 },
                                      { 0xff, 0x80, 0x00 },
                                      { 0xff, 0xff, 0xff, 0xff, 0x10 },
                                      { 0xff, 0xff, 0xff, 0xff, 0x8f, 0x00 },
                                      { 0x80, 0x80, 0x80, 0x80, 0x80, 0x01 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kwr_cursor c = kwr_cursor_of(bad[i], sizeof bad[i]);
        cr_assert_eq(kwr_cursor_varint32(&c), 0, "%zu", i);
        cr_assert(c.failed, "%zu", i);
    }
}

KWR_TEST(bytes, orders_are_fixed_and_unaligned_access_is_fine) {
    uint8_t b[9] = { 0 };
    kwr_put_le64(b + 1, 0x0102030405060708);
    cr_assert_eq(b[1], 8);
    cr_assert_eq(kwr_get_le64(b + 1), 0x0102030405060708);
    cr_assert_eq(kwr_get_be64(b + 1), 0x0807060504030201);
    kwr_put_be32(b + 1, 0x01020304);
    cr_assert_eq(b[1], 1);
    cr_assert_eq(kwr_get_be32(b + 1), 0x01020304);
    kwr_put_le16(b + 1, 0x0102);
    cr_assert_eq(b[1], 2);
}

KWR_TEST(bytes, checked_arithmetic_leaves_its_result_on_overflow) {
    uint64_t r = 7;
    cr_assert(kwr_add_u64(UINT64_MAX - 1, 1, &r) && r == UINT64_MAX);
    cr_assert(!kwr_add_u64(UINT64_MAX, 1, &r) && r == UINT64_MAX);
    cr_assert(kwr_mul_u64(1ULL << 32, 3, &r) && r == 3ULL << 32);
    cr_assert(!kwr_mul_u64(1ULL << 32, 1ULL << 32, &r) && r == 3ULL << 32);
}

/* From the specification's sanity checks: the empty input, seed 0. */
KWR_TEST(digest, is_xxh3_128_in_canonical_order) {
    char text[KWR_DIGEST_TEXT];
    kwr_digest digest = kwr_digest_of("", 0);
    kwr_digest_text(&digest, text);
    cr_assert_str_eq(text, "99aa06d3014798d86001c324468d497f");
    digest = kwr_digest_of("abc", 3);
    kwr_digest_text(&digest, text);
    cr_assert_str_eq(text, "06b05ab6733a618578af5f94892f3950");
    cr_assert_eq(kwr_hash64("", 0, 0), 0x2d06800538d394c2);
    cr_assert_neq(kwr_hash64("abc", 3, 1), kwr_hash64("abc", 3, 2));
}

KWR_TEST(digest, in_pieces_is_the_same_as_at_once) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    uint8_t data[3000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31);
    const kwr_digest whole = kwr_digest_of(data, sizeof data);
    for (size_t piece = 1; piece <= sizeof data; piece = piece * 3 + 1) {
        kwr_digest_stream *stream = kwr_digest_stream_new(fault_env_env(faults));
        for (size_t at = 0; at < sizeof data; at += piece) {
            const size_t left = sizeof data - at;
            kwr_digest_stream_add(stream, data + at, left < piece ? left : piece);
            kwr_digest_stream_add(stream, NULL, 0);
        }
        const kwr_digest pieces = kwr_digest_stream_end(stream);
        cr_assert(kwr_digest_equal(&whole, &pieces));
        kwr_digest_stream_free(stream);
    }
    fault_env_fail_alloc(faults, 0, FAULT_ONCE);
    cr_assert(kwr_digest_stream_new(fault_env_env(faults)) == NULL);
    kwr_digest_stream_free(NULL);
    fault_env_close(faults);
}

KWR_TEST(digest, text_is_parsed_strictly) {
    const kwr_digest digest = kwr_digest_of("x", 1);
    char text[KWR_DIGEST_TEXT];
    kwr_digest back = { { 9 } };
    kwr_digest_text(&digest, text);
    cr_assert(kwr_digest_parse(text, 32, &back) && kwr_digest_equal(&digest, &back));
    cr_assert(!kwr_digest_parse(text, 31, &back));
    cr_assert(!kwr_digest_parse(text, 33, &back));
    text[5] = 'A';
    cr_assert(!kwr_digest_parse(text, 32, &back));
    cr_assert(kwr_digest_equal(&digest, &back), "untouched");
}

KWR_TEST(compress, comes_back_whole_from_exactly_its_sizes) {
    char in[5000], out[6000], back[5001];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = "keyweir "[i % 8];
    for (size_t size = 0; size <= sizeof in; size = size * 2 + 1) {
        const size_t bound = kwr_compress_bound(size);
        cr_assert(bound > 0 && bound <= sizeof out);
        const size_t stored = kwr_compress(size == 0 ? NULL : in, size, out, bound);
        cr_assert(stored > 0, "%zu bytes", size);
        cr_assert(kwr_decompress(out, stored, back, size));
        cr_assert(memcmp(in, back, size) == 0);
        cr_assert(!kwr_decompress(out, stored, back, size + 1), "too few came out");
        if (size > 0) {
            cr_assert(!kwr_decompress(out, stored, back, size - 1), "too many would");
            cr_assert(!kwr_decompress(out, stored - 1, back, size));
        }
    }
}

KWR_TEST(compress, what_does_not_get_smaller_is_said_so) {
    uint8_t in[256], out[256];
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof in; i++) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        in[i] = (uint8_t)(x >> 56);
    }
    cr_assert_eq(kwr_compress(in, sizeof in, out, sizeof in - 1), 0);
    cr_assert_eq(kwr_compress(in, sizeof in, out, 0), 0);
}

KWR_TEST(compress, sizes_the_codec_cannot_hold_are_refused) {
    char byte = 0;
    cr_assert_eq(kwr_compress_bound((size_t)1 << 31), 0);
    cr_assert_eq(kwr_compress_bound(SIZE_MAX), 0);
    cr_assert_eq(kwr_compress(&byte, (size_t)1 << 31, &byte, 1), 0);
    cr_assert(!kwr_decompress(&byte, (size_t)1 << 32, &byte, 1));
    cr_assert(!kwr_decompress(&byte, 1, &byte, (size_t)1 << 32));
    cr_assert(!kwr_decompress(&byte, 0, &byte, 1));
}

KWR_TEST(compress, damaged_input_is_never_read_or_written_beyond) {
    char in[600], stored[700];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (char)(i / 9);
    const size_t size = kwr_compress(in, sizeof in, stored, sizeof stored);
    for (size_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            char *copy = malloc(size), *out = malloc(sizeof in);
            memcpy(copy, stored, size);
            copy[at] = (char)(copy[at] ^ 1 << bit);
            (void)kwr_decompress(copy, size, out, sizeof in); /* the sanitizer judges */
            free(copy);
            free(out);
        }
    }
}

/* ---- log ---- */

typedef struct heard {
    kwr_log_level level;
    char component[32];
    char line[2000];
    int64_t value;
    int times;
} heard;

static void hear_line(void *ctx, kwr_log_level level, const char *component, const char *line) {
    heard *h = ctx;
    h->level = level;
    snprintf(h->component, sizeof h->component, "%s", component);
    snprintf(h->line, sizeof h->line, "%s", line);
    h->times++;
}

static void hear_metric(void *ctx, const char *name, int64_t value) {
    heard *h = ctx;
    snprintf(h->line, sizeof h->line, "%s", name);
    h->value = value;
    h->times++;
}

KWR_TEST(log, lines_and_metrics_reach_the_observer) {
    heard h = { 0 };
    const kwr_observer observer = { sizeof observer, &h, hear_line, hear_metric };
    kwr_env env = *kwr_test_env();
    env.observer = &observer;
    kwr_log_line(&env, KWR_LOG_WARNING, "snapshot", "%d of %s", 3, "a\nb");
    cr_assert_eq(h.level, KWR_LOG_WARNING);
    cr_assert_str_eq(h.component, "snapshot");
    cr_assert_str_eq(h.line, "3 of a?b", "one line, whatever is in it");
    kwr_metric(&env, "checkpoint_bytes_total", -5);
    cr_assert_str_eq(h.line, "checkpoint_bytes_total");
    cr_assert_eq(h.value, -5);
    cr_assert_eq(h.times, 2);
}

KWR_TEST(log, without_an_observer_or_a_function_nothing_happens) {
    heard h = { 0 };
    kwr_env env = *kwr_test_env();
    const kwr_observer silent = { sizeof silent, &h, NULL, NULL };
    const kwr_observer older = { offsetof(kwr_observer, metric), &h, hear_line, hear_metric };
    for (int i = 0; i < 2; i++) {
        env.observer = i == 0 ? NULL : &silent;
        kwr_log_line(&env, KWR_LOG_ERROR, "x", "y");
        kwr_metric(&env, "x", 1);
    }
    env.observer = &older;
    kwr_metric(&env, "x", 1);
    cr_assert_eq(h.times, 0);
    kwr_log_line(&env, KWR_LOG_ERROR, "x", "y");
    cr_assert_eq(h.times, 1);
    env.struct_size = offsetof(kwr_env, observer);
    kwr_log_line(&env, KWR_LOG_ERROR, "x", "y");
    cr_assert_eq(h.times, 1);
}
