/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alignment by table. An event is written b<id>@<channel> (barrier), f... (final barrier),
 * x... (barrier of another attempt), c<id>@<channel> (marker), e<channel> (end of the channel),
 * a<id> (abort from the coordinator). What it must answer is written in the order it is done:
 * "release", "abort <id> marker|subsumed", "snapshot <id>[ final]", "block"; "" is nothing. Then
 * the channels that are blocked afterwards and the checkpoint being aligned.
 */
#include <stdio.h>
#include <string.h>

#include "tests/barrier/support.h"

enum { GENERATION = 7 };

typedef struct row {
    const char *event;
    const char *answer;
    const char *blocked;
    uint64_t pending;
} row;

static void describe(const kwr_alignment *did, char *out, size_t capacity) {
    int n = 0;
    out[0] = '\0';
    if (did->release) n += snprintf(out + n, capacity - (size_t)n, ", release");
    if (did->abort) {
        n += snprintf(out + n, capacity - (size_t)n, ", abort %llu %s",
                      (unsigned long long)did->aborted,
                      did->abort_reason == KWR_ERR_CANCELLED  ? "marker"
                      : did->abort_reason == KWR_ERR_DECLINED ? "subsumed"
                                                              : "?");
    }
    if (did->snapshot) {
        n += snprintf(out + n, capacity - (size_t)n, ", snapshot %llu%s",
                      (unsigned long long)did->barrier.checkpoint,
                      did->barrier.final ? " final" : "");
    }
    if (did->block) n += snprintf(out + n, capacity - (size_t)n, ", block");
    if (n > 0) memmove(out, out + 2, (size_t)n - 1);
}

static kwr_status play_one(kwr_aligner *aligner, const char *event, uint64_t now_ns,
                           kwr_alignment *out) {
    unsigned long long id = 0;
    unsigned channel = 0;
    if (event[0] == 'e') {
        cr_assert(sscanf(event, "e%u", &channel) == 1, "bad event %s", event);
        return kwr_aligner_end(aligner, channel, now_ns, out);
    }
    if (event[0] == 'a') {
        cr_assert(sscanf(event, "a%llu", &id) == 1, "bad event %s", event);
        return kwr_aligner_abort(aligner, id, out);
    }
    cr_assert(sscanf(event + 1, "%llu@%u", &id, &channel) == 2, "bad event %s", event);
    const kwr_barrier barrier = {
        .checkpoint = id,
        .generation = event[0] == 'x' ? GENERATION - 1 : GENERATION,
        .final = event[0] == 'f',
        .cancelled = event[0] == 'c',
    };
    return kwr_aligner_barrier(aligner, channel, &barrier, now_ns, out);
}

static void play(const char *title, uint32_t channels, const row *rows, size_t count) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), channels, GENERATION, &aligner, NULL));
    for (size_t i = 0; i < count; i++) {
        kwr_alignment did;
        memset(&did, 0xee, sizeof did);
        KWR_MUST(play_one(aligner, rows[i].event, i, &did));
        char answer[128], blocked[64] = "";
        describe(&did, answer, sizeof answer);
        cr_assert(strcmp(answer, rows[i].answer) == 0, "%s, step %zu, %s: \"%s\", not \"%s\"",
                  title, i, rows[i].event, answer, rows[i].answer);
        size_t n = 0;
        for (uint32_t c = 0; c < channels; c++) {
            if (kwr_aligner_blocked(aligner, c)) blocked[n++] = (char)('0' + c);
        }
        cr_assert(strcmp(blocked, rows[i].blocked) == 0, "%s, step %zu, %s: blocked {%s}, not {%s}",
                  title, i, rows[i].event, blocked, rows[i].blocked);
        cr_assert(kwr_aligner_pending(aligner) == rows[i].pending, "%s, step %zu, %s: pending %llu",
                  title, i, rows[i].event, (unsigned long long)kwr_aligner_pending(aligner));
    }
    kwr_aligner_free(aligner);
}
#define PLAY(title, channels, ...)                                  \
    do {                                                            \
        static const row rows_[] = { __VA_ARGS__ };                 \
        play(title, channels, rows_, sizeof rows_ / sizeof *rows_); \
    } while (0)

KWR_TEST(aligner, never_blocks_a_single_channel) {
    PLAY("one channel", 1, { "b1@0", "snapshot 1", "", 0 }, { "b2@0", "snapshot 2", "", 0 },
         { "b3@0", "snapshot 3", "", 0 }, { "f5@0", "snapshot 5 final", "", 0 },
         { "e0", "", "", 0 });
}

KWR_TEST(aligner, blocks_each_channel_until_all_have_delivered_the_barrier) {
    PLAY("three channels", 3, { "b1@1", "block", "1", 1 }, { "b1@2", "block", "12", 1 },
         { "b1@0", "release, snapshot 1", "", 0 }, { "b2@0", "block", "0", 2 },
         { "b2@2", "block", "02", 2 }, { "b2@1", "release, snapshot 2", "", 0 });
}

KWR_TEST(aligner, gives_up_the_pending_checkpoint_when_a_newer_one_overtakes) {
    PLAY("overtaken", 3, { "b2@1", "block", "1", 2 }, { "b2@0", "block", "01", 2 },
         { "b3@2", "release, abort 2 subsumed, block", "2", 3 }, { "b3@0", "block", "02", 3 },
         { "b4@1", "release, abort 3 subsumed, block", "1", 4 },
         { "e0", "", "1", 4 }, /* an end never aborts: it counts as aligned */
         { "b4@2", "release, snapshot 4", "", 0 });
}

KWR_TEST(aligner, takes_a_checkpoint_with_the_channels_still_open) {
    PLAY("ended before", 4, { "e2", "", "", 0 }, { "e1", "", "", 0 }, { "b2@3", "block", "3", 2 },
         { "b2@0", "release, snapshot 2", "", 0 }, { "e0", "", "", 0 },
         { "b4@3", "snapshot 4", "", 0 });
    PLAY("ended last", 3, { "b1@0", "block", "0", 1 }, { "b1@1", "block", "01", 1 },
         { "e2", "release, snapshot 1", "", 0 });
    PLAY("ended while blocked", 3, { "b1@0", "block", "0", 1 }, { "e0", "", "", 1 },
         { "b1@1", "block", "1", 1 }, { "b1@2", "release, snapshot 1", "", 0 });
    PLAY("all ended", 2, { "f1@0", "block", "0", 1 }, { "e0", "", "", 1 },
         { "e1", "snapshot 1 final", "", 0 });
    PLAY("barrier and end are one", 3, { "b1@0", "block", "0", 1 }, { "e0", "", "", 1 },
         { "e1", "", "", 1 }, { "b1@2", "snapshot 1", "", 0 });
}

KWR_TEST(aligner, follows_cancellation_markers) {
    PLAY("one channel", 1, { "b1@0", "snapshot 1", "", 0 }, { "b2@0", "snapshot 2", "", 0 },
         { "c4@0", "abort 4 marker", "", 0 }, { "b5@0", "snapshot 5", "", 0 },
         { "c6@0", "abort 6 marker", "", 0 }, { "b6@0", "", "", 0 }, { "b4@0", "", "", 0 });
    PLAY("before its barriers", 3, { "c4@1", "abort 4 marker", "", 0 }, { "b4@2", "", "", 0 },
         { "b4@0", "", "", 0 }, { "b5@0", "block", "0", 5 });
    PLAY("after its first barrier", 3, { "b4@0", "block", "0", 4 },
         { "c4@1", "release, abort 4 marker", "", 0 }, { "c4@2", "", "", 0 },
         { "b4@2", "", "", 0 });
    PLAY("of a newer one", 3, { "b4@0", "block", "0", 4 },
         { "c5@1", "release, abort 5 marker", "", 0 }, { "b4@2", "", "", 0 },
         { "b5@0", "", "", 0 });
    PLAY("late", 2, { "b1@0", "block", "0", 1 }, { "b1@1", "release, snapshot 1", "", 0 },
         { "c1@0", "", "", 0 }, { "b2@0", "block", "0", 2 }, { "c1@1", "", "0", 2 });
    PLAY("only ends came before", 2, { "e0", "", "", 0 }, { "c1@1", "abort 1 marker", "", 0 });
    PLAY("none to release", 3, { "b1@0", "block", "0", 1 }, { "e0", "", "", 1 },
         { "c1@1", "abort 1 marker", "", 0 });
}

KWR_TEST(aligner, ignores_what_is_late_or_doubled) {
    PLAY("late barriers", 3, { "b3@0", "block", "0", 3 }, { "b2@1", "", "0", 3 },
         { "b1@2", "", "0", 3 }, { "b3@1", "block", "01", 3 },
         { "b3@2", "release, snapshot 3", "", 0 }, { "b3@0", "", "", 0 }, { "b2@0", "", "", 0 });
    PLAY("doubled", 3, { "b1@0", "block", "0", 1 }, { "b1@0", "", "0", 1 }, { "b1@0", "", "0", 1 },
         { "b1@1", "block", "01", 1 }, { "b1@1", "", "01", 1 },
         { "b1@2", "release, snapshot 1", "", 0 });
    PLAY("newer from a blocked channel", 2, { "b1@0", "block", "0", 1 },
         { "b2@0", "release, abort 1 subsumed, block", "0", 2 },
         { "b2@1", "release, snapshot 2", "", 0 });
}

KWR_TEST(aligner, ignores_barriers_and_markers_of_other_attempts) {
    kwr_alignment did;
    PLAY("foreign", 2, { "x9@0", "", "", 0 }, { "b1@0", "block", "0", 1 }, { "x1@1", "", "0", 1 },
         { "x5@1", "", "0", 1 }, { "b1@1", "release, snapshot 1", "", 0 });
    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 2, GENERATION, &aligner, NULL));
    KWR_MUST(play_one(aligner, "b1@0", 0, &did));
    const kwr_barrier marker = { .checkpoint = 1, .generation = GENERATION + 1, .cancelled = true };
    KWR_MUST(kwr_aligner_barrier(aligner, 1, &marker, 0, &did));
    cr_assert(!did.abort && !did.release && kwr_aligner_pending(aligner) == 1);
    kwr_aligner_free(aligner);
}

KWR_TEST(aligner, stops_aligning_what_the_coordinator_aborts) {
    PLAY("pending", 3, { "b1@0", "block", "0", 1 }, { "b1@1", "block", "01", 1 },
         { "a1", "release, abort 1 marker", "", 0 }, { "b1@2", "", "", 0 }, { "a1", "", "", 0 },
         { "b2@0", "block", "0", 2 });
    PLAY("already taken", 1, { "b1@0", "snapshot 1", "", 0 }, { "a1", "", "", 0 },
         { "b2@0", "snapshot 2", "", 0 }, { "a1", "", "", 0 });
    PLAY("still to come", 2, { "a3", "", "", 0 }, { "b3@0", "abort 3 marker", "", 0 },
         { "b3@1", "", "", 0 }, { "b4@0", "block", "0", 4 });
    PLAY("still to come, one is pending", 3, { "b2@0", "block", "0", 2 }, { "a3", "", "0", 2 },
         { "b3@1", "release, abort 3 marker", "", 0 }, { "b2@2", "", "", 0 },
         { "b3@2", "", "", 0 });
    PLAY("others between", 1, { "a3", "", "", 0 }, { "a5", "", "", 0 }, { "a3", "", "", 0 },
         { "b2@0", "snapshot 2", "", 0 }, { "b3@0", "abort 3 marker", "", 0 },
         { "b4@0", "snapshot 4", "", 0 }, { "b5@0", "abort 5 marker", "", 0 },
         { "b6@0", "snapshot 6", "", 0 });
    PLAY("its marker comes too", 2, { "a3", "", "", 0 }, { "c3@0", "abort 3 marker", "", 0 },
         { "c3@1", "", "", 0 });
}

/* However many aborts come before any barrier, no aborted checkpoint is taken. */
KWR_TEST(aligner, remembers_aborts_in_bounded_memory) {
    enum { ABORTS = 1000 };
    for (int order = 0; order < 3; order++) {
        memory_env memory;
        kwr_aligner *aligner = NULL;
        KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 2, GENERATION, &aligner, NULL));
        kwr_alignment did;
        for (uint64_t i = 0; i < ABORTS; i++) {
            const uint64_t n = order == 0 ? i : order == 1 ? ABORTS - 1 - i : i * 7919 % ABORTS;
            KWR_MUST(kwr_aligner_abort(aligner, 2 * (n + 1), &did)); /* the even ids */
            cr_assert(!did.abort && !did.release);
        }
        cr_assert(memory.made == 1, "the aligner allocated while running");
        for (uint64_t id = 2; id <= 2 * ABORTS; id += 2) {
            const kwr_barrier barrier = { .checkpoint = id, .generation = GENERATION };
            KWR_MUST(kwr_aligner_barrier(aligner, id / 2 % 2, &barrier, 0, &did));
            cr_assert(did.abort && did.aborted == id && !did.block && !did.snapshot,
                      "order %d: checkpoint %llu was not aborted", order, (unsigned long long)id);
        }
        KWR_MUST(play_one(aligner, "b2001@0", 0, &did));
        cr_assert(did.block && !did.abort);
        kwr_aligner_free(aligner);
    }
}

KWR_TEST(aligner, remembers_the_newest_aborts_exactly) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 1, GENERATION, &aligner, NULL));
    kwr_alignment did;
    for (uint64_t id = 2; id <= 400; id += 2)
        KWR_MUST(kwr_aligner_abort(aligner, id, &did));
    for (uint64_t id = 301; id <= 400; id++) { /* far above what was folded away */
        const kwr_barrier barrier = { .checkpoint = id, .generation = GENERATION };
        KWR_MUST(kwr_aligner_barrier(aligner, 0, &barrier, 0, &did));
        cr_assert(did.abort == (id % 2 == 0) && did.snapshot == (id % 2 == 1), "checkpoint %llu",
                  (unsigned long long)id);
    }
    kwr_aligner_free(aligner);
}

KWR_TEST(aligner, measures_from_the_first_barrier_to_the_last) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    kwr_alignment did;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 3, GENERATION, &aligner, NULL));
    KWR_MUST(play_one(aligner, "b1@0", 1000, &did));
    KWR_MUST(play_one(aligner, "b1@1", 1500, &did));
    KWR_MUST(play_one(aligner, "b1@2", 1800, &did));
    cr_assert(did.snapshot && did.aligned_ns == 800);
    KWR_MUST(play_one(aligner, "b2@0", 5000, &did));
    KWR_MUST(play_one(aligner, "b3@1", 6000, &did)); /* subsumes: measured anew */
    KWR_MUST(play_one(aligner, "b3@0", 6100, &did));
    KWR_MUST(play_one(aligner, "e2", 6250, &did));
    cr_assert(did.snapshot && did.aligned_ns == 250);
    KWR_MUST(play_one(aligner, "b4@0", 9000, &did));
    KWR_MUST(play_one(aligner, "b4@1", 8000, &did)); /* a clock that steps back */
    cr_assert(did.snapshot && did.aligned_ns == 0);
    kwr_aligner_free(aligner);

    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 1, GENERATION, &aligner, NULL));
    KWR_MUST(play_one(aligner, "b1@0", 1000, &did));
    cr_assert(did.snapshot && did.aligned_ns == 0);
    kwr_aligner_free(aligner);
}

KWR_TEST(aligner, hands_out_the_first_barrier_whole) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 2, GENERATION, &aligner, NULL));
    const kwr_barrier barrier = {
        .checkpoint = 12, .generation = GENERATION, .triggered_ms = 1700000000123, .final = true
    };
    kwr_alignment did;
    KWR_MUST(kwr_aligner_barrier(aligner, 1, &barrier, 0, &did));
    KWR_MUST(kwr_aligner_barrier(aligner, 0, &barrier, 0, &did));
    cr_assert(did.snapshot && did.barrier.checkpoint == 12 && did.barrier.final &&
              did.barrier.generation == GENERATION && !did.barrier.cancelled &&
              did.barrier.triggered_ms == 1700000000123);
    kwr_aligner_free(aligner);
}

KWR_TEST(aligner, refuses_channels_it_does_not_have_and_says_nothing_else) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 2, GENERATION, &aligner, NULL));
    kwr_alignment did = { .aborted = 99 };
    KWR_EXPECT(KWR_ERR_RANGE, play_one(aligner, "b1@2", 0, &did));
    KWR_EXPECT(KWR_ERR_RANGE, play_one(aligner, "b0@1", 0, &did));
    KWR_EXPECT(KWR_ERR_RANGE, play_one(aligner, "e2", 0, &did));
    KWR_EXPECT(KWR_ERR_RANGE, play_one(aligner, "a0", 0, &did));
    cr_assert(did.aborted == 99, "a refused call wrote to its out-parameter");
    KWR_MUST(play_one(aligner, "e1", 0, &did));
    did.aborted = 99;
    KWR_EXPECT(KWR_ERR_MISUSE, play_one(aligner, "b1@1", 0, &did));
    KWR_EXPECT(KWR_ERR_MISUSE, play_one(aligner, "e1", 0, &did));
    cr_assert(did.aborted == 99);
    cr_assert(!kwr_aligner_blocked(aligner, 2) && !kwr_aligner_blocked(aligner, UINT32_MAX));
    KWR_MUST(play_one(aligner, "b1@0", 0, &did));
    cr_assert(did.snapshot, "a refused call changed the alignment");
    kwr_aligner_free(aligner);
    kwr_aligner_free(NULL);
}

KWR_TEST(aligner, without_channels_or_memory_is_harmless) {
    memory_env memory;
    kwr_aligner *aligner = NULL;
    kwr_alignment did;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), 0, GENERATION, &aligner, NULL));
    KWR_EXPECT(KWR_ERR_RANGE, play_one(aligner, "b1@0", 0, &did));
    KWR_MUST(play_one(aligner, "a1", 0, &did));
    kwr_aligner_free(aligner);

    aligner = NULL;
    memory_env_init(&memory);
    memory.fail_at = 1;
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_NOMEM, kwr_aligner_new(&memory.env, 3, GENERATION, &aligner, &err));
    cr_assert(aligner == NULL && err.status == KWR_ERR_NOMEM);
}
