/* SPDX-License-Identifier: Apache-2.0 */
/* The 32 bytes of a barrier: what goes in comes out, and no damaged barrier is taken for one. */
#include <string.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "tests/support/kwr_test.h"

static const kwr_barrier sample = {
    .checkpoint = 0x0102030405060708, .generation = 9, .triggered_ms = -1, .final = true
};

static bool same(const kwr_barrier *a, const kwr_barrier *b) {
    return a->checkpoint == b->checkpoint && a->generation == b->generation &&
           a->triggered_ms == b->triggered_ms && a->final == b->final &&
           a->cancelled == b->cancelled;
}

KWR_TEST(barrier, comes_back_as_it_was_sent) {
    const kwr_barrier all[] = {
        sample,
        { .checkpoint = 1 },
        { .checkpoint = UINT64_MAX, .generation = UINT64_MAX, .triggered_ms = INT64_MAX },
        { .checkpoint = 7, .generation = 2, .triggered_ms = INT64_MIN, .cancelled = true },
        { .checkpoint = 8, .generation = 2, .final = true, .cancelled = true },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint8_t bytes[KWR_BARRIER_BYTES];
        kwr_barrier_encode(&all[i], bytes);
        kwr_barrier out = { 0 };
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_barrier_decode((kwr_slice){ bytes, sizeof bytes }, &out, &err), err);
        cr_assert(same(&all[i], &out), "barrier %zu changed on the way", i);
    }
}

KWR_TEST(barrier, has_the_bytes_the_format_gives_it) {
    uint8_t bytes[KWR_BARRIER_BYTES];
    kwr_barrier_encode(&sample, bytes);
    static const uint8_t head[] = { 'K', 'B', 1, 1 };
    static const uint8_t body[] = { 8,    7,    6,    5,    4,    3,    2,    1, /* checkpoint */
                                    9,    0,    0,    0,    0,    0,    0,    0, /* generation */
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }; /* time */
    cr_assert(memcmp(bytes, head, sizeof head) == 0);
    cr_assert(memcmp(bytes + 8, body, sizeof body) == 0);
}

KWR_TEST(barrier, is_refused_with_any_byte_changed_in_any_way) {
    uint8_t bytes[KWR_BARRIER_BYTES];
    kwr_barrier_encode(&sample, bytes);
    for (size_t at = 0; at < sizeof bytes; at++) {
        for (unsigned flip = 1; flip < 256; flip++) {
            uint8_t damaged[KWR_BARRIER_BYTES];
            memcpy(damaged, bytes, sizeof bytes);
            damaged[at] ^= (uint8_t)flip;
            kwr_barrier out = sample;
            kwr_error err = { 0 };
            KWR_EXPECT_ERR(KWR_ERR_CORRUPT,
                           kwr_barrier_decode((kwr_slice){ damaged, sizeof damaged }, &out, &err),
                           err);
            cr_assert(same(&sample, &out), "a refused barrier wrote to its out-parameter");
            cr_assert(err.status == KWR_ERR_CORRUPT && err.text[0] != '\0');
        }
    }
}

KWR_TEST(barrier, is_refused_at_every_other_length) {
    uint8_t bytes[2 * KWR_BARRIER_BYTES] = { 0 };
    kwr_barrier_encode(&sample, bytes);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        if (size == KWR_BARRIER_BYTES) continue;
        kwr_barrier out;
        KWR_EXPECT(KWR_ERR_CORRUPT, kwr_barrier_decode((kwr_slice){ bytes, size }, &out, NULL));
    }
    kwr_barrier out;
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_barrier_decode((kwr_slice){ NULL, 0 }, &out, NULL));
}

KWR_TEST(barrier, of_checkpoint_zero_is_refused_although_intact) {
    const kwr_barrier zero = { .generation = 1 };
    uint8_t bytes[KWR_BARRIER_BYTES];
    kwr_barrier_encode(&zero, bytes);
    kwr_barrier out;
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_barrier_decode((kwr_slice){ bytes, sizeof bytes }, &out, NULL));
}

/* Makes a changed barrier whole again: from the future, told apart from damage. */
static void reseal(uint8_t bytes[KWR_BARRIER_BYTES]) {
    kwr_put_le32(bytes + 4, 0);
    kwr_put_le32(bytes + 4, (uint32_t)kwr_hash64(bytes, KWR_BARRIER_BYTES, 0));
}

KWR_TEST(barrier, of_an_unknown_version_or_flag_is_a_format_error) {
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = { { 2, 2 }, { 2, 0 }, { 3, 4 }, { 3, 0x80 } };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint8_t bytes[KWR_BARRIER_BYTES];
        kwr_barrier_encode(&sample, bytes);
        bytes[changes[i].at] = changes[i].value;
        reseal(bytes);
        kwr_barrier out;
        KWR_EXPECT(KWR_ERR_FORMAT,
                   kwr_barrier_decode((kwr_slice){ bytes, sizeof bytes }, &out, NULL));
    }
}
