/* SPDX-License-Identifier: Apache-2.0 */
/* A job over several attempts: what it promises when nothing in storage fails. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "task/message.h"
#include "tests/task/stream.h"

typedef struct bench {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
} bench;

static bench bench_open(void) {
    bench b = { .faults = fault_env_open(kwr_test_env(),
                                         FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED) };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_storage_memory_open(fault_env_env(b.faults), 0, &b.storage, &err), err);
    b.options = (stream_options){ .env = fault_env_env(b.faults),
                                  .faults = b.faults,
                                  .storage = b.storage,
                                  .total = 40,
                                  .strict = true,
                                  .job = { .tolerate_all = true } };
    return b;
}

static void bench_close(bench *b) {
    stream_world_done(&b->world);
    kwr_storage_close(b->storage);
    fault_env_close(b->faults);
}

static void bench_start(bench *b, stream *s) {
    b->options.world = &b->world;
    stream_must_open(s, &b->options);
}

/* ---- checkpoints and restarts ---- */

KWR_TEST(job, goes_on_from_its_checkpoint_and_brings_out_every_count_once) {
    bench b = bench_open();
    stream s;
    bench_start(&b, &s);
    cr_assert(s.info.generation == 1 && s.info.slot == 1 && s.info.restored_checkpoint == 0,
              "first");
    stream_run(&s, 10);
    cr_assert_eq(stream_checkpoint(&s), 1);
    stream_world_expect(&b.world, 10, "committed");
    stream_run(&s, 7); /* lost with the attempt */
    stream_close(&s);

    bench_start(&b, &s);
    cr_assert(s.info.generation == 2 && s.info.restored_checkpoint == 1 &&
                  s.info.restored_generation == 1 && s.info.highest_checkpoint == 1 &&
                  !s.info.restored_final,
              "second");
    cr_assert(s.positions[0] == 10 && s.positions[1] == 10, "the sources go on where they were");
    stream_finish(&s);
    cr_assert(s.finished && s.finished_final && s.completed == 2, "final checkpoint");
    stream_world_expect(&b.world, 40, "at the end");
    stream_expect_consistent(&s, "at the end");
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, loses_and_doubles_nothing_over_many_restarts) {
    for (uint32_t inline_off = 0; inline_off < 2; inline_off++) {
        bench b = bench_open();
        stream s;
        b.options.total = 60;
        b.options.job.inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0;
        bool finished = false;
        for (uint32_t attempt = 0; !finished; attempt++) {
            cr_assert(attempt < 40, "it comes to an end");
            bench_start(&b, &s);
            stream_expect_consistent(&s, "restored");
            stream_run(&s, 1 + attempt % 4);
            if (attempt % 3 != 2 && s.positions[0] < 60)
                cr_assert(stream_checkpoint(&s) > 0, "checkpoint");
            stream_run(&s, attempt % 5);
            if (attempt % 4 == 3 && s.positions[0] < 60)
                cr_assert(stream_checkpoint(&s) > 0, "checkpoint");
            stream_world_expect_no_double(&b.world, "on the way");
            finished = s.finished;
            stream_close(&s);
        }
        stream_world_expect(&b.world, 60, "at the end");
        bench_close(&b);
    }
}

KWR_TEST(job, tells_of_a_checkpoint_in_the_promised_order) {
    bench b = bench_open();
    stream s;
    b.options.watch_log = true;
    bench_start(&b, &s);
    stream_run(&s, 5);
    cr_assert_eq(stream_checkpoint(&s), 1);
    const size_t triggered = stream_find_event(&s, 0, KWR_JOB_TRIGGERED, 1);
    const size_t sent = stream_find_sent(&s, 0, KWR_MESSAGE_TRIGGER, 1);
    const size_t publishing = stream_find_event(&s, 0, KWR_JOB_PUBLISHING, 1);
    const size_t published = stream_find_event(&s, 0, KWR_JOB_PUBLISHED, 1);
    const size_t complete = stream_find_sent(&s, 0, KWR_MESSAGE_COMPLETE, 1);
    cr_assert(triggered < sent && sent < publishing && publishing < published &&
                  published < complete && complete != SIZE_MAX,
              "order");
    cr_assert(s.events[publishing].slots == 1, "nothing is published when that is announced");
    cr_assert(s.events[published].slots == 2, "the slot is there when the checkpoint is reported");
    cr_assert(s.events[publishing].slot == 2 && s.events[published].slot == 2, "slot");
    cr_assert(s.events[published].entries == STREAM_KEYS && s.events[published].bytes > 0, "size");
    cr_assert(s.events[complete].task == KWR_ALL_TASKS, "all tasks hear of it");
    size_t triggers = 0;
    for (size_t i = 0; i < s.event_count; i++)
        triggers += s.events[i].kind == KWR_JOB_SEND && s.events[i].message == KWR_MESSAGE_TRIGGER;
    cr_assert(triggers == STREAM_SOURCES, "every source and nobody else is triggered");

    stream_finish(&s);
    const size_t last = stream_find_sent(&s, 0, KWR_MESSAGE_COMPLETE, s.completed);
    const size_t finished = stream_find_event(&s, 0, KWR_JOB_FINISHED, s.completed);
    cr_assert(last < finished && finished == s.event_count - 1, "the end is said last");
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, triggers_by_its_interval_and_keeps_the_pause) {
    bench b = bench_open();
    stream s;
    b.options.job.interval_ms = 1000;
    b.options.job.min_pause_ms = 200;
    bench_start(&b, &s);
    stream_run(&s, 3);
    cr_assert(s.triggered == 0, "not before its time");
    const uint64_t now = b.options.env->clock->mono_ns(b.options.env->clock->ctx);
    cr_assert(kwr_job_deadline(s.job) == now + UINT64_C(1000000000), "deadline");
    fault_env_advance(b.faults, UINT64_C(1000000000));
    stream_run(&s, 3);
    cr_assert(s.triggered == 1 && s.completed == 1, "in time");
    fault_env_advance(b.faults, UINT64_C(1000000000));
    stream_run(&s, 3);
    cr_assert(s.completed == 2, "again");
    stream_close(&s);
    bench_close(&b);
}

/* ---- the end ---- */

KWR_TEST(job, keeps_its_full_state_in_the_final_checkpoint_and_can_start_again) {
    bench b = bench_open();
    stream s;
    bench_start(&b, &s);
    stream_finish(&s);
    const uint64_t last = s.completed;
    cr_assert(s.finished && s.finished_final, "finished");
    stream_close(&s);
    const size_t lines = b.world.out.count;

    bench_start(&b, &s);
    cr_assert(s.info.restored_final && s.info.restored_checkpoint == last, "known as finished");
    cr_assert(s.positions[0] == 40 && s.positions[1] == 40, "at the end of the input");
    stream_expect_consistent(&s, "all state is there");
    stream_finish(&s);
    cr_assert(s.finished_final, "finished again");
    cr_assert(b.world.out.count == lines, "nothing new comes out");
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, stops_with_a_checkpoint_and_goes_on_after_it) {
    bench b = bench_open();
    stream s;
    bench_start(&b, &s);
    stream_run(&s, 9);
    KWR_MUST(kwr_job_stop(s.job));
    stream_settle(&s);
    cr_assert(s.finished && !s.finished_final && s.completed == 1, "stopped");
    stream_world_expect(&b.world, 9, "all that was read has come out");
    stream_close(&s);
    bench_start(&b, &s);
    cr_assert(s.positions[0] == 9 && !s.info.restored_final, "nothing is read twice");
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, without_input_finishes_at_once) {
    bench b = bench_open();
    stream s;
    b.options.total = 0;
    bench_start(&b, &s);
    stream_finish(&s);
    cr_assert(s.finished && s.finished_final && s.completed == 1, "finished");
    stream_close(&s);
    bench_close(&b);
}

/* ---- messages that are late, lost, repeated, foreign or damaged ---- */

typedef struct tamper {
    uint16_t kind; /* of the messages meant */
    uint32_t task; /* of this task */
    bool lose, repeat, damage;
    uint8_t *held;
    size_t held_size;
    unsigned seen;
} tamper;

static bool tamper_carry(void *ctx, stream *s, bool to_job, uint32_t task, kwr_slice message) {
    tamper *t = ctx;
    if (stream_message_kind(message) != t->kind || task != t->task) return true;
    t->seen++;
    if (t->held == NULL) {
        t->held = malloc(message.size);
        memcpy(t->held, message.data, message.size);
        t->held_size = message.size;
    }
    if (t->damage) {
        uint8_t *copy = malloc(message.size);
        memcpy(copy, message.data, message.size);
        copy[message.size / 2] ^= 1;
        KWR_EXPECT(KWR_ERR_CORRUPT, kwr_job_receive(s->job, (kwr_slice){ copy, message.size }));
        free(copy);
    }
    if (t->repeat) stream_give(s, to_job, task, message);
    return !t->lose;
}

static kwr_slice tamper_held(const tamper *t) { return (kwr_slice){ t->held, t->held_size }; }

KWR_TEST(job, an_ack_that_never_comes_times_out_by_name_and_a_late_one_counts_for_nothing) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SOURCES + 1, .lose = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    b.options.job.timeout_ms = 5000;
    b.options.job.inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF;
    bench_start(&b, &s);
    stream_run(&s, 6);
    cr_assert_eq(stream_checkpoint(&s), 0);
    cr_assert(s.aborted == 1 && s.abort_error.status == KWR_ERR_TIMEOUT, "timed out");
    cr_assert(strstr(s.abort_error.text, "count-1") != NULL, "%s", s.abort_error.text);
    cr_assert(strstr(s.abort_error.text, "count-0") == NULL, "%s", s.abort_error.text);
    stream_settle(&s);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == 0, "its files are removed");
    t.lose = false;
    KWR_MUST(kwr_job_receive(s.job, tamper_held(&t)));
    stream_settle(&s);
    cr_assert(s.completed == 0 && !s.failed, "late");
    stream_run(&s, 2);
    cr_assert_eq(stream_checkpoint(&s), 2);
    KWR_MUST(kwr_job_receive(s.job, tamper_held(&t)));
    stream_close(&s);
    bench_start(&b, &s);
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, counts_a_repeated_ack_once) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SOURCES, .repeat = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    bench_start(&b, &s);
    for (uint64_t i = 1; i <= 3; i++) {
        stream_run(&s, 4);
        cr_assert_eq(stream_checkpoint(&s), i);
    }
    stream_close(&s);
    bench_start(&b, &s);
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, refuses_a_damaged_message_and_is_none_the_worse) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SINK, .damage = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    bench_start(&b, &s);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1);
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_job_receive(s.job, kwr_test_slice("nothing of ours")));
    kwr_task_event event;
    KWR_EXPECT(KWR_ERR_CORRUPT,
               kwr_task_receive(s.tasks[0], kwr_test_slice("nothing of ours"), &event));
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, ignores_messages_of_an_older_attempt_and_of_other_jobs) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SOURCES };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    bench_start(&b, &s);
    stream_run(&s, 4);
    cr_assert_eq(stream_checkpoint(&s), 1);
    stream_close(&s);

    bench_start(&b, &s);
    KWR_MUST(kwr_job_trigger(s.job)); /* checkpoint 2 waits for acks of generation 2 */
    for (uint32_t i = 0; i < STREAM_TASKS * 2; i++)
        KWR_MUST(kwr_job_receive(s.job, tamper_held(&t)));
    stream_settle(&s);
    cr_assert(s.completed == 2, "by acks of its own");
    kwr_task_event event = { 0 };
    KWR_MUST(kwr_task_receive(s.tasks[0], tamper_held(&t), &event));
    cr_assert(event.kind == KWR_TASK_NOTHING, "foreign");
    stream_close(&s);

    /* Same generation, checkpoint and task, but of another job: with its state, if it counted. */
    b.options.job.name = "another";
    bench_start(&b, &s);
    KWR_MUST(kwr_job_trigger(s.job));
    KWR_MUST(kwr_job_receive(s.job, tamper_held(&t)));
    stream_settle(&s);
    const size_t published = stream_find_event(&s, 0, KWR_JOB_PUBLISHED, 1);
    cr_assert(published != SIZE_MAX && s.events[published].entries == 0,
              "untouched by acks of another job");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, ignores_messages_that_none_of_its_tasks_would_send) {
    bench b = bench_open();
    stream s;
    bench_start(&b, &s);
    stream_run(&s, 4);
    KWR_MUST(kwr_job_trigger(s.job));
    kwr_limits limits = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_limits_complete(NULL, &limits, &err), err);
    const struct {
        kwr_message_kind kind;
        uint32_t task;
        const char *op;
        uint32_t subtask;
    } forged[] = { { KWR_MESSAGE_ACK, STREAM_SINK, "count", 0 },
                   { KWR_MESSAGE_ACK, STREAM_SINK, "sink", 1 },
                   { KWR_MESSAGE_ACK, STREAM_TASKS, "sink", 0 },
                   { KWR_MESSAGE_DECLINE, UINT32_MAX, "sink", 0 },
                   { KWR_MESSAGE_SOURCE_ENDED, STREAM_SINK, "sink", 0 },
                   { KWR_MESSAGE_COMPLETE, 0, "source", 0 } };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        kwr_message m = { .kind = forged[i].kind,
                          .generation = s.info.generation,
                          .checkpoint = 1,
                          .status = KWR_ERR_IO,
                          .task = forged[i].task,
                          .operator_id = kwr_test_slice(forged[i].op),
                          .subtask = forged[i].subtask,
                          .part = kwr_test_slice("junk") };
        memcpy(m.uid, s.info.uid, sizeof m.uid);
        kwr_bytes bytes = { 0 };
        KWR_MUST_ERR(kwr_message_encode(b.options.env, &limits, &m, &bytes, &err), err);
        KWR_MUST(kwr_job_receive(s.job, (kwr_slice){ bytes.data, bytes.size }));
        kwr_bytes_free(&bytes);
    }
    stream_settle(&s);
    cr_assert(s.completed == 1, "%s", s.abort_error.text);
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, an_ack_with_a_share_that_is_not_the_senders_costs_the_checkpoint) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SOURCES, .lose = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    bench_start(&b, &s);
    stream_run(&s, 4);
    KWR_MUST(kwr_job_trigger(s.job));
    stream_settle(&s);
    kwr_limits limits = { 0 };
    kwr_error err = { 0 };
    kwr_message m = { 0 };
    kwr_bytes bytes = { 0 };
    KWR_MUST_ERR(kwr_limits_complete(NULL, &limits, &err), err);
    KWR_MUST_ERR(kwr_message_decode(&limits, tamper_held(&t), &m, &err), err);
    m.part = kwr_test_slice("not a share at all");
    KWR_MUST_ERR(kwr_message_encode(b.options.env, &limits, &m, &bytes, &err), err);
    KWR_MUST(kwr_job_receive(s.job, (kwr_slice){ bytes.data, bytes.size }));
    kwr_bytes_free(&bytes);
    stream_settle(&s);
    cr_assert(s.aborted == 1 && s.abort_error.status == KWR_ERR_CORRUPT, "%s",
              kwr_status_name(s.abort_error.status));
    cr_assert(strstr(s.abort_error.text, "count-0") != NULL, "%s", s.abort_error.text);
    t.lose = false;
    cr_assert_eq(stream_checkpoint(&s), 2);
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, output_not_known_as_committed_is_carried_until_it_is) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_COMPLETE, .task = STREAM_SINK, .lose = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    bench_start(&b, &s);
    for (uint64_t i = 1; i <= 3; i++) {
        stream_run(&s, 4);
        cr_assert_eq(stream_checkpoint(&s), i);
    }
    cr_assert(b.world.out.count == 0 && t.seen == 3, "the sink has heard of nothing");
    stream_close(&s);
    b.options.carry = NULL;
    bench_start(&b, &s);
    stream_world_expect(&b.world, 12, "recommitted by the restore, all three");
    cr_assert(kwr_task_committable_count(s.tasks[STREAM_SINK]) == 0, "and no longer carried");
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, goes_on_after_a_declined_checkpoint_and_removes_its_files) {
    bench b = bench_open();
    stream s;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SINK, .lose = true };
    b.options.carry = tamper_carry;
    b.options.carry_ctx = &t;
    b.options.job.inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF;
    bench_start(&b, &s);
    stream_run(&s, 6);
    KWR_MUST(kwr_job_trigger(s.job));
    stream_settle(&s);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == STREAM_COUNTS, "written");
    const kwr_error why = { .status = KWR_ERR_NOSPACE, .text = "the output is full" };
    KWR_MUST(kwr_task_decline(s.tasks[STREAM_SINK], 1, &why));
    stream_settle(&s);
    cr_assert(s.aborted == 1 && s.abort_error.status == KWR_ERR_NOSPACE, "declined");
    cr_assert(strstr(s.abort_error.text, "the output is full") != NULL &&
                  strstr(s.abort_error.text, "sink-0") != NULL,
              "%s", s.abort_error.text);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == 0, "removed");
    t.lose = false;
    stream_run(&s, 3);
    cr_assert_eq(stream_checkpoint(&s), 2);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == STREAM_COUNTS, "kept");
    /* Late news of what is long decided removes nothing. */
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_decline(s.tasks[STREAM_SINK], 2, &why));
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, fails_when_more_checkpoints_fail_in_a_row_than_it_tolerates) {
    bench b = bench_open();
    stream s;
    b.options.job.tolerate_all = false;
    b.options.job.tolerable_failures = 1;
    bench_start(&b, &s);
    stream_run(&s, 4);
    const kwr_error why = { .status = KWR_ERR_IO, .text = "no" };
    for (uint64_t i = 1; i <= 2; i++) {
        KWR_MUST(kwr_job_trigger(s.job));
        KWR_MUST(kwr_task_decline(s.tasks[0], i, &why));
        stream_settle(&s);
        cr_assert(s.aborted == i, "aborted");
    }
    cr_assert(s.failed && s.failure.status == KWR_ERR_IO, "too many");
    cr_assert(strstr(s.failure.text, "source-0") != NULL, "%s", s.failure.text);
    cr_assert(stream_find_event(&s, 0, KWR_JOB_FAILED, 2) == s.event_count - 1 ||
                  s.events[s.event_count - 1].kind == KWR_JOB_FAILED,
              "the end is said last");
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_trigger(s.job));
    stream_close(&s);
    bench_close(&b);
}

KWR_TEST(job, ends_when_a_task_is_lost_and_says_so_once) {
    bench b = bench_open();
    stream s;
    bench_start(&b, &s);
    stream_run(&s, 4);
    KWR_MUST(kwr_job_trigger(s.job));
    const kwr_error why = { .status = KWR_ERR_IO, .text = "machine 4 is gone" };
    kwr_job_fail(s.job, &why);
    kwr_job_fail(s.job, NULL);
    kwr_job_event event;
    KWR_MUST(kwr_job_poll(s.job, &event));
    cr_assert(event.kind == KWR_JOB_FAILED && event.error.status == KWR_ERR_IO, "failed");
    cr_assert_str_eq(event.error.text, "machine 4 is gone");
    cr_assert(kwr_job_poll(s.job, &event) == KWR_NOT_FOUND, "nothing after it");
    cr_assert(kwr_job_deadline(s.job) == UINT64_MAX, "nothing to wait for");
    stream_close(&s);
    bench_start(&b, &s);
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    bench_close(&b);
}

/* ---- retention ---- */

KWR_TEST(job, keeps_as_many_checkpoints_as_asked_for) {
    for (uint32_t retain = 1; retain <= 3; retain++) {
        bench b = bench_open();
        stream s;
        b.options.job.retain = retain;
        b.options.job.inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF;
        for (int attempt = 0; attempt < 3; attempt++) {
            bench_start(&b, &s);
            for (int i = 0; i < 3; i++) {
                stream_run(&s, 2);
                cr_assert(stream_checkpoint(&s) > 0, "checkpoint");
            }
            const size_t kept = stream_files(b.storage, "stream", "", "chk-");
            cr_assert(kept == retain, "retain %u: %zu kept", retain, kept);
            /* Those of checkpoints that are kept, and what these refer to of older ones. */
            const size_t shared = stream_files(b.storage, "stream", "shared", "");
            const size_t used = stream_files_used(b.storage, b.options.env, "stream");
            cr_assert(used >= STREAM_COUNTS && shared == used, "%zu files for %zu", shared, used);
            stream_close(&s);
        }
        bench_start(&b, &s);
        stream_finish(&s);
        stream_close(&s);
        stream_world_expect(&b.world, 40, "at the end");
        bench_close(&b);
    }
}

KWR_TEST(job, removes_what_earlier_attempts_left_and_nothing_else) {
    bench b = bench_open();
    stream s;
    b.options.job.inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF;
    tamper t = { .kind = KWR_MESSAGE_ACK, .task = STREAM_SINK, .lose = true };
    bench_start(&b, &s);
    stream_run(&s, 5);
    cr_assert_eq(stream_checkpoint(&s), 1);
    s.options.carry = tamper_carry;
    s.options.carry_ctx = &t;
    stream_run(&s, 5);
    KWR_MUST(kwr_job_trigger(s.job)); /* written, acknowledged, never completed */
    stream_settle(&s);
    stream_close(&s);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == 2 * STREAM_COUNTS,
              "an acknowledged part is left alone: its checkpoint might have completed");
    bench_start(&b, &s);
    stream_settle(&s);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == STREAM_COUNTS, "swept");
    stream_expect_consistent(&s, "restored");
    stream_finish(&s);
    stream_world_expect(&b.world, 40, "at the end");
    stream_close(&s);
    free(t.held);
    bench_close(&b);
}

KWR_TEST(job, a_part_nobody_heard_of_is_removed_at_the_close) {
    bench b = bench_open();
    stream s;
    b.options.job.inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF;
    bench_start(&b, &s);
    stream_run(&s, 5);
    const kwr_barrier barrier = { .checkpoint = 1, .generation = s.info.generation };
    KWR_MUST(kwr_task_checkpoint(s.tasks[STREAM_SOURCES], &barrier));
    fault_env_run_all(b.faults);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == 1, "written");
    stream_close(&s);
    cr_assert(stream_files(b.storage, "stream", "shared", "") == 0, "removed");
    bench_close(&b);
}

/* ---- what a start refuses ---- */

static kwr_status add(kwr_job *job, const char *op, uint32_t parallelism, unsigned roles,
                      kwr_error *err) {
    uint32_t number = 0;
    for (uint32_t i = 0; i < parallelism; i++) {
        const kwr_status status = kwr_job_add_task(job, op, i, parallelism, roles, &number, err);
        if (status < KWR_OK) return status;
    }
    return KWR_OK;
}

static kwr_job *job_of(const bench *b, const kwr_job_options *more) {
    kwr_job_options o = more != NULL ? *more : (kwr_job_options){ 0 };
    kwr_job *job = NULL;
    kwr_error err = { 0 };
    o.struct_size = sizeof o;
    o.env = b->options.env;
    o.storage = b->storage;
    o.name = "stream";
    KWR_MUST_ERR(kwr_job_open(&o, &job, &err), err);
    return job;
}

static void one_checkpoint(bench *b) {
    stream s;
    bench_start(b, &s);
    stream_run(&s, 5);
    cr_assert_eq(stream_checkpoint(&s), 1);
    stream_close(&s);
}

KWR_TEST(job, refuses_other_roles_and_more_subtasks_than_key_groups) {
    bench b = bench_open();
    one_checkpoint(&b);
    kwr_job *job = job_of(&b, NULL);
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, add(job, "count", 129, KWR_TASK_KEYED, &err));
    cr_assert(strstr(err.text, "'count'") && strstr(err.text, "129") && strstr(err.text, "128"),
              "%s", err.text);
    KWR_EXPECT(KWR_ERR_MISMATCH, add(job, "count", 2, KWR_TASK_SINK, &err));
    cr_assert(strstr(err.text, "roles: keyed") != NULL, "%s", err.text);
    kwr_job_close(job);
    bench_close(&b);
}

KWR_TEST(job, refuses_to_drop_the_state_of_an_operator_and_names_it) {
    bench b = bench_open();
    one_checkpoint(&b);
    kwr_job *job = job_of(&b, NULL);
    kwr_error err = { 0 };
    kwr_slice assignment = { 0 };
    KWR_MUST(add(job, "source", 2, KWR_TASK_SOURCE, &err));
    KWR_MUST(add(job, "new", 2, KWR_TASK_KEYED, &err));
    KWR_EXPECT(KWR_ERR_REFUSED, kwr_job_assignment(job, 0, &assignment, &err));
    cr_assert(strstr(err.text, "'count', 'sink'") != NULL, "%s", err.text);
    KWR_EXPECT(KWR_ERR_REFUSED, kwr_job_start(job, &err));
    KWR_MUST(add(job, "count", 2, KWR_TASK_KEYED, &err));
    KWR_MUST(add(job, "sink", 1, KWR_TASK_SINK, &err));
    KWR_MUST_ERR(kwr_job_assignment(job, 0, &assignment, &err), err);
    uint32_t number = 0;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_add_task(job, "late", 0, 1, KWR_TASK_SINK, &number, &err));
    /* An operator the checkpoint does not know starts empty. */
    KWR_MUST_ERR(kwr_job_assignment(job, 2, &assignment, &err), err);
    kwr_task *task = NULL;
    const kwr_task_options options = { .struct_size = sizeof options,
                                       .env = b.options.env,
                                       .storage = b.storage,
                                       .assignment = assignment,
                                       .channels = 1 };
    KWR_MUST_ERR(kwr_task_open(&options, &task, &err), err);
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(kwr_task_backend(task), &stats);
    cr_assert(stats.entries == 0, "empty");
    kwr_task_close(task);
    kwr_job_close(job);
    bench_close(&b);
}

KWR_TEST(job, refuses_tasks_that_do_not_fit_together) {
    bench b = bench_open();
    kwr_job *job = job_of(&b, &(kwr_job_options){ .max_parallelism = 4 });
    kwr_error err = { 0 };
    uint32_t number = 77;
    kwr_slice assignment = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_add_task(job, "a", 2, 2, 0, &number, &err));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_add_task(job, "a", 0, 5, KWR_TASK_KEYED, &number, &err));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_add_task(job, "no/name", 0, 1, 0, &number, &err));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_add_task(job, "a", 0, 1, 64, &number, &err));
    cr_assert(number == 77, "a failed call leaves its out-parameter untouched");
    KWR_MUST(kwr_job_add_task(job, "a", 0, 2, KWR_TASK_KEYED, &number, &err));
    KWR_EXPECT(KWR_ERR_EXISTS, kwr_job_add_task(job, "a", 0, 2, KWR_TASK_KEYED, &number, &err));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_add_task(job, "a", 1, 3, KWR_TASK_KEYED, &number, &err));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_add_task(job, "a", 1, 2, KWR_TASK_SINK, &number, &err));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_assignment(job, 0, &assignment, &err));
    cr_assert(strstr(err.text, "1 of its 2 tasks") != NULL, "%s", err.text);
    KWR_MUST(kwr_job_add_task(job, "a", 1, 2, KWR_TASK_KEYED, &number, &err));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_start(job, &err));
    cr_assert(strstr(err.text, "source") != NULL, "%s", err.text);
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_assignment(job, 9, &assignment, &err));
    kwr_job_close(job);
    bench_close(&b);
}

KWR_TEST(job, max_parallelism_and_seed_are_fixed_by_the_first_checkpoint) {
    bench b = bench_open();
    b.options.job.max_parallelism = 16;
    b.options.job.seed = 99;
    b.options.job.seed_given = true;
    one_checkpoint(&b);
    kwr_job_options o = { .struct_size = sizeof o,
                          .env = b.options.env,
                          .storage = b.storage,
                          .name = "stream",
                          .max_parallelism = 32 };
    kwr_job *job = NULL;
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_job_open(&o, &job, &err));
    cr_assert(strstr(err.text, "16") != NULL && strstr(err.text, "32") != NULL, "%s", err.text);
    cr_assert(job == NULL, "untouched");
    o.max_parallelism = 0;
    o.engine_key_groups = true;
    KWR_EXPECT(KWR_ERR_MISMATCH, kwr_job_open(&o, &job, &err));
    o.engine_key_groups = false;
    o.seed = 5;
    o.seed_given = true;
    KWR_MUST_ERR(kwr_job_open(&o, &job, &err), err);
    kwr_job_info info = { .struct_size = sizeof info };
    kwr_job_get_info(job, &info);
    cr_assert(info.max_parallelism == 16 && info.seed == 99, "adopted");
    kwr_job_close(job);
    bench_close(&b);
}

KWR_TEST(job, refuses_options_out_of_range) {
    bench b = bench_open();
    const kwr_job_options good = {
        .struct_size = sizeof good, .env = b.options.env, .storage = b.storage, .name = "stream"
    };
    kwr_job *job = NULL;
    kwr_error err = { 0 };
    kwr_job_options bad = good;
    bad.name = "../up";
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_open(&bad, &job, &err));
    bad = good;
    bad.max_parallelism = KWR_MAX_PARALLELISM_LIMIT + 1;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_open(&bad, &job, &err));
    bad = good;
    bad.interval_ms = UINT64_MAX;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_open(&bad, &job, &err));
    bad = good;
    bad.restore = KWR_RESTORE_CHECKPOINT;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_open(&bad, &job, &err));
    bad = good;
    bad.storage = NULL;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_job_open(&bad, &job, &err));
    bad = good;
    bad.struct_size = 0;
    KWR_EXPECT(KWR_ERR_RANGE, kwr_job_open(&bad, &job, &err));
    cr_assert(job == NULL, "untouched");
    bench_close(&b);
}

KWR_TEST(job, an_older_checkpoint_is_restored_by_choice_and_its_ids_are_not_used_again) {
    bench b = bench_open();
    stream s;
    b.options.job.retain = 3;
    bench_start(&b, &s);
    for (uint64_t i = 1; i <= 3; i++) {
        stream_run(&s, 4);
        cr_assert_eq(stream_checkpoint(&s), i);
    }
    stream_close(&s);
    stream_world_done(&b.world); /* the output is rolled back with it: the sink's business */
    b.options.job.restore = KWR_RESTORE_CHECKPOINT;
    b.options.job.restore_checkpoint = 1;
    kwr_error err = { 0 };
    kwr_job *job = job_of(&b, &b.options.job);
    kwr_job_info info = { .struct_size = sizeof info };
    kwr_job_get_info(job, &info);
    cr_assert(info.restored_checkpoint == 1 && info.highest_checkpoint == 3, "by choice");
    kwr_job_close(job);
    /* The choice stands until a checkpoint above it is published. */
    job = job_of(&b, NULL);
    kwr_job_get_info(job, &info);
    cr_assert(info.restored_checkpoint == 1, "recorded in the log");
    kwr_job_close(job);
    uint64_t newest = 0, highest = 0;
    KWR_MUST_ERR(kwr_job_peek(b.options.env, b.storage, "stream", &newest, &highest, &err), err);
    cr_assert(newest == 1 && highest == 3, "peek");
    KWR_MUST_ERR(kwr_job_peek(b.options.env, b.storage, "unheard-of", &newest, &highest, &err),
                 err);
    cr_assert(newest == 0 && highest == 0, "peek at nothing");
    bench_close(&b);
}

/* ---- the executor ---- */

KWR_TEST(job, work_the_executor_refuses_costs_a_checkpoint_and_no_more) {
    uint64_t fired = 0, n = 0;
    do {
        bench b = bench_open();
        stream s;
        b.options.strict = false;
        bench_start(&b, &s);
        stream_run(&s, 5);
        stream_settle(&s);
        fault_env_fail_post(b.faults, n++, FAULT_ONCE);
        stream_checkpoint(&s);
        fired = fault_env_fired(b.faults);
        fault_env_clear(b.faults);
        cr_assert(!s.failed && s.broken.status == KWR_OK, "post %llu", (unsigned long long)n);
        stream_run(&s, 5);
        cr_assert(stream_checkpoint(&s) > 0, "post %llu: the next one succeeds",
                  (unsigned long long)n);
        stream_finish(&s);
        stream_world_expect(&b.world, 40, "at the end");
        stream_close(&s);
        bench_close(&b);
    } while (fired > 0);
    cr_assert(n > 4, "two parts, publishing and tidying were all refused once");
}

/* ---- threads ---- */

typedef struct wakes {
    kwr_storage *storage;
    stream_world world;
} wakes;

KWR_TEST(job, works_with_threads_on_files, .timeout = 120) {
    wakes w = { 0 };
    kwr_error err = { 0 };
    stream s;
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), kwr_test_path("root"), true, &w.storage, &err),
                 err);
    for (uint32_t inline_off = 0; inline_off < 2; inline_off++) {
        const stream_options options = {
            .env = kwr_test_env(),
            .storage = w.storage,
            .world = &w.world,
            .total = 3000,
            .value_bytes = 2000,
            .job = { .tolerate_all = true,
                     .name = inline_off ? "files" : "inline",
                     .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0,
                     .interval_ms = 5,
                     .retain = 2 },
        };
        for (int attempt = 0; attempt < 4; attempt++) {
            stream_must_open(&s, &options);
            stream_run(&s, 400);
            /* Records while checkpoints run, but on no machine so many that the input ends. */
            for (unsigned n = 0; s.completed < s.info.restored_checkpoint + 2 && !s.failed; n++) {
                stream_run(&s, n < 200 ? 1 : 0);
                sched_yield();
            }
            cr_assert(!s.failed, "%s", s.failure.text);
            stream_close(&s);
        }
        stream_must_open(&s, &options);
        stream_finish(&s);
        cr_assert(s.finished_final, "%s", s.failure.text);
        stream_expect_consistent(&s, "at the end");
        stream_close(&s);
        stream_world_expect(&w.world, 3000, "at the end");
        stream_world_done(&w.world);
    }
    kwr_storage_close(w.storage);
}
