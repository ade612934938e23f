/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between job and tasks: they come back as sent, and any damage is found. */
#include "base/bytes.h"
#include "base/digest.h"
#include "base/limits.h"
#include "task/message.h"
#include "tests/support/kwr_test.h"

static kwr_limits limits_of(size_t message_bytes_max) {
    kwr_limits in = KWR_LIMITS_INIT, out = { 0 };
    kwr_error err = { 0 };
    in.message_bytes_max = message_bytes_max;
    KWR_MUST_ERR(kwr_limits_complete(&in, &out, &err), err);
    return out;
}

static kwr_message sample(kwr_message_kind kind) {
    return (kwr_message){ .kind = kind,
                          .uid = { 1, 2, 3, 15 },
                          .generation = 7,
                          .checkpoint = 0x0102030405060708,
                          .triggered_ms = -5,
                          .last = true,
                          .status = KWR_ERR_NOSPACE,
                          .task = 3,
                          .operator_id = { "count", 5 },
                          .subtask = 1,
                          .entries = 99,
                          .bytes = UINT64_MAX,
                          .part = { "part\0bytes", 10 },
                          .text = { "no room", 7 } };
}

static kwr_bytes encoded(const kwr_message *message) {
    const kwr_limits limits = limits_of(0);
    kwr_bytes bytes = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_message_encode(kwr_test_env(), &limits, message, &bytes, &err), err);
    cr_assert(bytes.size == kwr_message_size(message), "size");
    return bytes;
}

static bool same_slice(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void expect_decoded(const kwr_message *sent, const kwr_message *got) {
    const bool from_task = sent->kind >= KWR_MESSAGE_ACK;
    cr_assert(got->kind == sent->kind && got->generation == 7, "kind and generation");
    cr_assert(memcmp(got->uid, sent->uid, sizeof got->uid) == 0, "uid");
    if (sent->kind != KWR_MESSAGE_SOURCE_ENDED)
        cr_assert(got->checkpoint == sent->checkpoint, "checkpoint");
    if (from_task)
        cr_assert(got->task == 3 && got->subtask == 1 &&
                      same_slice(got->operator_id, sent->operator_id),
                  "sender");
    if (sent->kind == KWR_MESSAGE_TRIGGER)
        cr_assert(got->triggered_ms == -5 && got->last, "trigger");
    if (sent->kind == KWR_MESSAGE_COMPLETE) cr_assert(got->last, "complete");
    if (sent->kind == KWR_MESSAGE_ABORT || sent->kind == KWR_MESSAGE_DECLINE)
        cr_assert(got->status == KWR_ERR_NOSPACE, "status");
    if (sent->kind == KWR_MESSAGE_DECLINE) cr_assert(same_slice(got->text, sent->text), "text");
    if (sent->kind == KWR_MESSAGE_ACK)
        cr_assert(same_slice(got->part, sent->part) && got->entries == 99 &&
                      got->bytes == UINT64_MAX,
                  "ack");
}

KWR_TEST(message, comes_back_as_it_was_sent) {
    const kwr_limits limits = limits_of(0);
    for (int kind = KWR_MESSAGE_TRIGGER; kind <= KWR_MESSAGE_SOURCE_ENDED; kind++) {
        const kwr_message sent = sample((kwr_message_kind)kind);
        kwr_bytes bytes = encoded(&sent);
        if (kind <= KWR_MESSAGE_ABORT)
            cr_assert(bytes.size <= KWR_MESSAGE_SMALL_MAX, "kind %d is %zu bytes", kind,
                      bytes.size);
        kwr_message got = { 0 };
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_message_decode(&limits, (kwr_slice){ bytes.data, bytes.size }, &got, &err),
                     err);
        expect_decoded(&sent, &got);
        kwr_bytes_free(&bytes);
    }
}

/* Frame intact, body not: the checksum is made to fit again. */
static void reseal(uint8_t *data, size_t size) {
    kwr_put_le64(data + size - 8, kwr_hash64(data, size - 8, 0));
}

KWR_TEST(message, every_flipped_byte_and_every_truncation_is_refused) {
    const kwr_limits limits = limits_of(0);
    for (int kind = KWR_MESSAGE_TRIGGER; kind <= KWR_MESSAGE_SOURCE_ENDED; kind++) {
        const kwr_message sent = sample((kwr_message_kind)kind);
        kwr_bytes bytes = encoded(&sent);
        uint8_t *data = bytes.data;
        kwr_message got = { 0 };
        for (size_t at = 0; at < bytes.size; at++) {
            data[at] ^= 0x41;
            KWR_EXPECT(KWR_ERR_CORRUPT,
                       kwr_message_decode(&limits, (kwr_slice){ data, bytes.size }, &got, NULL));
            data[at] ^= 0x41;
        }
        for (size_t size = 0; size < bytes.size; size++)
            KWR_EXPECT(KWR_ERR_CORRUPT,
                       kwr_message_decode(&limits, (kwr_slice){ data, size }, &got, NULL));
        cr_assert(got.kind == 0, "a failed call leaves its out-parameter untouched");
        kwr_bytes_free(&bytes);
    }
}

KWR_TEST(message, a_malformed_body_with_a_good_checksum_is_refused) {
    const kwr_limits limits = limits_of(0);
    const kwr_message sent = sample(KWR_MESSAGE_ACK);
    kwr_bytes bytes = encoded(&sent);
    uint8_t *copy = malloc(bytes.size + 1);
    kwr_message got = { 0 };
    for (size_t cut = 1; cut <= bytes.size - 40; cut++) { /* shorter bodies */
        const size_t size = bytes.size - cut;
        memcpy(copy, bytes.data, size);
        reseal(copy, size);
        KWR_EXPECT(KWR_ERR_CORRUPT,
                   kwr_message_decode(&limits, (kwr_slice){ copy, size }, &got, NULL));
    }
    memcpy(copy, bytes.data, bytes.size); /* one byte too many */
    reseal(copy, bytes.size + 1);
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_message_decode(&limits, (kwr_slice){ copy, bytes.size + 1 }, &got, NULL));
    memset(copy + 36, 0xff, 2); /* an operator id longer than any may be */
    reseal(copy, bytes.size);
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_message_decode(&limits, (kwr_slice){ copy, bytes.size }, &got, NULL));
    free(copy);
    kwr_bytes_free(&bytes);
}

KWR_TEST(message, another_version_or_kind_is_told_apart_from_damage) {
    const kwr_limits limits = limits_of(0);
    const kwr_message sent = sample(KWR_MESSAGE_ABORT);
    kwr_bytes bytes = encoded(&sent);
    uint8_t *data = bytes.data;
    kwr_message got = { 0 };
    kwr_error err = { 0 };
    kwr_put_le16(data + 4, KWR_MESSAGE_VERSION + 1);
    reseal(data, bytes.size);
    KWR_EXPECT(KWR_ERR_FORMAT,
               kwr_message_decode(&limits, (kwr_slice){ data, bytes.size }, &got, &err));
    cr_assert(strstr(err.text, "version 2") != NULL, "%s", err.text);
    kwr_put_le16(data + 4, KWR_MESSAGE_VERSION);
    kwr_put_le16(data + 6, 99);
    reseal(data, bytes.size);
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_message_decode(&limits, (kwr_slice){ data, bytes.size }, &got, NULL));
    kwr_put_le16(data + 6, KWR_MESSAGE_ABORT);
    kwr_put_le32(data + 40, 0); /* a status that is no failure */
    reseal(data, bytes.size);
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_message_decode(&limits, (kwr_slice){ data, bytes.size }, &got, NULL));
    kwr_bytes_free(&bytes);
}

KWR_TEST(message, beyond_the_limit_it_is_neither_made_nor_read) {
    const kwr_limits wide = limits_of(0), narrow = limits_of(100);
    kwr_message sent = sample(KWR_MESSAGE_ACK);
    uint8_t part[200] = { 0 };
    sent.part = (kwr_slice){ part, sizeof part };
    kwr_bytes bytes = { 0 };
    kwr_message got = { 0 };
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_message_encode(kwr_test_env(), &narrow, &sent, &bytes, &err));
    cr_assert(strstr(err.text, "message_bytes_max") != NULL, "%s", err.text);
    KWR_MUST(kwr_message_encode(kwr_test_env(), &wide, &sent, &bytes, &err));
    KWR_EXPECT(KWR_ERR_RANGE,
               kwr_message_decode(&narrow, (kwr_slice){ bytes.data, bytes.size }, &got, &err));
    kwr_bytes_free(&bytes);
}

static kwr_assignment sample_assignment(void) {
    return (kwr_assignment){ .uid = { 9 },
                             .generation = 3,
                             .job = { "job", 3 },
                             .restored_checkpoint = 41,
                             .restored_generation = 2,
                             .seed = 77,
                             .max_parallelism = 128,
                             .engine_key_groups = true,
                             .task = 4,
                             .operator_id = { "count", 5 },
                             .subtask = 1,
                             .parallelism = 2,
                             .roles = KWR_TASK_KEYED,
                             .inline_bytes = 1000,
                             .part = { "xyz", 3 } };
}

KWR_TEST(assignment, comes_back_and_no_damage_passes) {
    const kwr_limits limits = limits_of(0);
    const kwr_assignment sent = sample_assignment();
    kwr_bytes bytes = { 0 };
    kwr_assignment got = { 0 };
    KWR_MUST(kwr_assignment_encode(kwr_test_env(), &limits, &sent, &bytes, NULL));
    uint8_t *data = bytes.data;
    KWR_MUST(kwr_assignment_decode(&limits, (kwr_slice){ data, bytes.size }, &got, NULL));
    cr_assert(got.generation == 3 && got.restored_checkpoint == 41 && got.seed == 77 &&
                  got.max_parallelism == 128 && got.engine_key_groups && got.task == 4 &&
                  got.subtask == 1 && got.parallelism == 2 && got.roles == KWR_TASK_KEYED &&
                  got.inline_bytes == 1000 && got.restored_generation == 2,
              "fields");
    cr_assert(same_slice(got.job, sent.job) && same_slice(got.operator_id, sent.operator_id) &&
                  same_slice(got.part, sent.part),
              "strings");
    for (size_t at = 0; at < bytes.size; at++) {
        data[at] ^= 0x10;
        KWR_EXPECT(KWR_ERR_CORRUPT,
                   kwr_assignment_decode(&limits, (kwr_slice){ data, bytes.size }, &got, NULL));
        data[at] ^= 0x10;
    }
    for (size_t size = 0; size < bytes.size; size++)
        KWR_EXPECT(KWR_ERR_CORRUPT,
                   kwr_assignment_decode(&limits, (kwr_slice){ data, size }, &got, NULL));
    kwr_bytes_free(&bytes);
}

KWR_TEST(assignment, carries_handles_one_behind_the_other) {
    const kwr_limits limits = limits_of(0);
    const char *const items[] = { "first", "", "third one" };
    kwr_assignment sent = sample_assignment(), got = { 0 };
    kwr_buffer buffer = { .env = kwr_test_env() };
    for (size_t i = 0; i < 3; i++)
        kwr_packed_add(&sent.keyed, &buffer, kwr_test_slice(items[i]));
    cr_assert(!buffer.failed && sent.keyed.count == 3, "packed");
    kwr_bytes bytes = { 0 };
    KWR_MUST(kwr_assignment_encode(kwr_test_env(), &limits, &sent, &bytes, NULL));
    KWR_MUST(kwr_assignment_decode(&limits, (kwr_slice){ bytes.data, bytes.size }, &got, NULL));
    size_t at = 0;
    cr_assert(got.keyed.count == 3, "count");
    for (size_t i = 0; i < 3; i++)
        KWR_ASSERT_SLICE(kwr_packed_next(&got.keyed, &at), items[i]);
    cr_assert(at == got.keyed.bytes.size, "all of it");
    kwr_bytes_free(&bytes);
    /* More or fewer items than the bytes hold, and one that reaches beyond them. */
    for (int i = 0; i < 3; i++) {
        kwr_assignment wrong = sent;
        uint8_t first = buffer.data[0];
        if (i < 2) wrong.keyed.count = i == 0 ? 4 : 2;
        if (i == 2) buffer.data[0] = 200;
        KWR_MUST(kwr_assignment_encode(kwr_test_env(), &limits, &wrong, &bytes, NULL));
        KWR_EXPECT(
            KWR_ERR_CORRUPT,
            kwr_assignment_decode(&limits, (kwr_slice){ bytes.data, bytes.size }, &got, NULL));
        kwr_bytes_free(&bytes);
        buffer.data[0] = first;
    }
    kwr_buffer_free(&buffer);
}

KWR_TEST(assignment, numbers_that_do_not_fit_together_are_refused) {
    const kwr_limits limits = limits_of(0);
    kwr_assignment bad[] = { sample_assignment(), sample_assignment(), sample_assignment(),
                             sample_assignment(), sample_assignment(), sample_assignment() };
    bad[0].subtask = 2;
    bad[1].max_parallelism = KWR_MAX_PARALLELISM_LIMIT + 1;
    bad[2].max_parallelism = 1;
    bad[3].roles = 8;
    bad[4].job = (kwr_slice){ "a\0b", 3 };
    bad[5].operator_id.size = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kwr_bytes bytes = { 0 };
        kwr_assignment got = { 0 };
        KWR_MUST(kwr_assignment_encode(kwr_test_env(), &limits, &bad[i], &bytes, NULL));
        KWR_EXPECT(
            KWR_ERR_CORRUPT,
            kwr_assignment_decode(&limits, (kwr_slice){ bytes.data, bytes.size }, &got, NULL));
        kwr_bytes_free(&bytes);
    }
}
