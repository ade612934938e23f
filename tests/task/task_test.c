/* SPDX-License-Identifier: Apache-2.0 */
/* One task by itself, its messages read and written by hand. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "task/message.h"
#include "tests/task/stream.h"

enum { SOURCE = 0, COUNT = STREAM_SOURCES, SINK = STREAM_SINK };

/* A started stream whose messages are not carried: its tasks are driven from here. */
typedef struct rig {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    kwr_limits limits;
    stream s;
} rig;

static void rig_open(rig *r, bool inline_off) {
    memset(r, 0, sizeof *r);
    kwr_error err = { 0 };
    r->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    KWR_MUST_ERR(kwr_storage_memory_open(fault_env_env(r->faults), 0, &r->storage, &err), err);
    KWR_MUST_ERR(kwr_limits_complete(NULL, &r->limits, &err), err);
    const stream_options options = {
        .env = fault_env_env(r->faults),
        .faults = r->faults,
        .storage = r->storage,
        .world = &r->world,
        .total = 100,
        .job = { .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0 },
    };
    stream_must_open(&r->s, &options);
    stream_run(&r->s, 5);
    stream_settle(&r->s);
}

static void rig_close(rig *r) {
    stream_close(&r->s);
    stream_world_done(&r->world);
    kwr_storage_close(r->storage);
    fault_env_close(r->faults);
}

static kwr_barrier barrier_of(const rig *r, uint64_t checkpoint) {
    return (kwr_barrier){ .checkpoint = checkpoint, .generation = r->s.info.generation };
}

/* The next message of a task, decoded; KWR_NOT_FOUND when there is none. */
static kwr_status polled(rig *r, uint32_t task, kwr_message *out) {
    kwr_slice bytes = { 0 };
    kwr_error err = { 0 };
    const kwr_status status = kwr_task_poll(r->s.tasks[task], &bytes);
    if (status != KWR_OK) return status;
    KWR_MUST_ERR(kwr_message_decode(&r->limits, bytes, out, &err), err);
    return KWR_OK;
}

static kwr_task_event told(rig *r, uint32_t task, kwr_message message) {
    uint8_t bytes[KWR_MESSAGE_SMALL_MAX];
    kwr_task_event event = { 0 };
    message.generation = message.generation != 0 ? message.generation : r->s.info.generation;
    memcpy(message.uid, r->s.info.uid, sizeof message.uid);
    kwr_message_write(&message, bytes);
    KWR_MUST(kwr_task_receive(r->s.tasks[task], (kwr_slice){ bytes, kwr_message_size(&message) },
                              &event));
    return event;
}

static size_t shared_files(const rig *r) {
    return stream_files(r->storage, "stream", "shared", "");
}

KWR_TEST(task, acknowledges_a_checkpoint_as_itself) {
    rig r;
    rig_open(&r, false);
    kwr_message m = { 0 };
    const kwr_barrier barrier = barrier_of(&r, 1);
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT + 1], &barrier));
    cr_assert(polled(&r, COUNT + 1, &m) == KWR_NOT_FOUND, "still being written");
    fault_env_run_all(r.faults);
    KWR_MUST(polled(&r, COUNT + 1, &m));
    cr_assert(m.kind == KWR_MESSAGE_ACK && m.checkpoint == 1 && m.task == COUNT + 1 &&
                  m.subtask == 1 && m.generation == 1 && m.entries > 0 && m.bytes > 0,
              "ack");
    KWR_ASSERT_SLICE(m.operator_id, "count");
    cr_assert(polled(&r, COUNT + 1, &m) == KWR_NOT_FOUND, "once");
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    KWR_MUST(polled(&r, SOURCE, &m));
    cr_assert(m.kind == KWR_MESSAGE_ACK && m.task == SOURCE, "a task without keyed state");
    rig_close(&r);
}

KWR_TEST(task, declines_while_an_earlier_part_is_still_being_written) {
    rig r;
    rig_open(&r, true);
    kwr_message m = { 0 };
    kwr_barrier barrier = barrier_of(&r, 1);
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT], &barrier));
    barrier.checkpoint = 2;
    KWR_EXPECT(KWR_ERR_BUSY, kwr_task_checkpoint(r.s.tasks[COUNT], &barrier));
    cr_assert(strstr(kwr_task_error(r.s.tasks[COUNT])->text, "checkpoint 1") != NULL, "%s",
              kwr_task_error(r.s.tasks[COUNT])->text);
    KWR_MUST(polled(&r, COUNT, &m));
    cr_assert(m.kind == KWR_MESSAGE_DECLINE && m.checkpoint == 2 && m.status == KWR_ERR_BUSY,
              "declined");
    fault_env_run_all(r.faults);
    /* Checkpoint 1 was given up when 2 was triggered: its part is of no use to anybody. */
    cr_assert(polled(&r, COUNT, &m) == KWR_NOT_FOUND, "no late ack");
    fault_env_run_all(r.faults);
    cr_assert(shared_files(&r) == 0, "and no files");
    barrier.checkpoint = 3;
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT], &barrier));
    fault_env_run_all(r.faults);
    KWR_MUST(polled(&r, COUNT, &m));
    cr_assert(m.kind == KWR_MESSAGE_ACK && m.checkpoint == 3, "the next one works");
    rig_close(&r);
}

KWR_TEST(task, an_abort_stops_the_writing_and_removes_the_files) {
    rig r;
    rig_open(&r, true);
    kwr_message m = { 0 };
    kwr_barrier barrier = barrier_of(&r, 1);
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT], &barrier)); /* not written yet */
    const kwr_message abort1 = { .kind = KWR_MESSAGE_ABORT,
                                 .checkpoint = 1,
                                 .status = KWR_ERR_TIMEOUT };
    cr_assert(told(&r, COUNT, abort1).kind == KWR_TASK_ABORT, "told");
    fault_env_run_all(r.faults);
    cr_assert(polled(&r, COUNT, &m) == KWR_NOT_FOUND, "nothing to say");
    fault_env_run_all(r.faults);
    cr_assert(shared_files(&r) == 0, "nothing left");
    cr_assert(told(&r, COUNT, abort1).kind == KWR_TASK_NOTHING, "again: outdated");

    barrier.checkpoint = 2;
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT], &barrier)); /* written and acknowledged */
    fault_env_run_all(r.faults);
    KWR_MUST(polled(&r, COUNT, &m));
    cr_assert(shared_files(&r) == 1, "written");
    told(&r, COUNT,
         (kwr_message){ .kind = KWR_MESSAGE_ABORT, .checkpoint = 2, .status = KWR_ERR_IO });
    fault_env_run_all(r.faults);
    cr_assert(shared_files(&r) == 0, "removed");

    barrier.checkpoint = 3;
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[COUNT], &barrier)); /* completed */
    fault_env_run_all(r.faults);
    KWR_MUST(polled(&r, COUNT, &m));
    cr_assert(
        told(&r, COUNT, (kwr_message){ .kind = KWR_MESSAGE_COMPLETE, .checkpoint = 3 }).kind ==
            KWR_TASK_COMPLETE,
        "completed");
    cr_assert(
        told(&r, COUNT,
             (kwr_message){ .kind = KWR_MESSAGE_ABORT, .checkpoint = 3, .status = KWR_ERR_IO })
                .kind == KWR_TASK_NOTHING,
        "what is completed is not aborted");
    fault_env_run_all(r.faults);
    cr_assert(shared_files(&r) == 1, "files of a completed checkpoint are never removed");
    rig_close(&r);
}

KWR_TEST(task, a_checkpoint_aborted_before_its_barrier_is_not_taken) {
    rig r;
    rig_open(&r, false);
    kwr_message m = { 0 };
    told(&r, SOURCE,
         (kwr_message){ .kind = KWR_MESSAGE_ABORT, .checkpoint = 1, .status = KWR_ERR_IO });
    cr_assert(
        told(&r, SOURCE, (kwr_message){ .kind = KWR_MESSAGE_TRIGGER, .checkpoint = 1 }).kind ==
            KWR_TASK_NOTHING,
        "a trigger that comes after its abort");
    const kwr_barrier barrier = barrier_of(&r, 1);
    KWR_EXPECT(KWR_ERR_CANCELLED, kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    cr_assert(polled(&r, SOURCE, &m) == KWR_NOT_FOUND, "nothing to say");
    rig_close(&r);
}

KWR_TEST(task, hears_triggers_and_completions_once) {
    rig r;
    rig_open(&r, false);
    const kwr_message trigger = {
        .kind = KWR_MESSAGE_TRIGGER, .checkpoint = 4, .last = true, .triggered_ms = 77
    };
    const kwr_task_event event = told(&r, SOURCE, trigger);
    cr_assert(event.kind == KWR_TASK_TRIGGER && event.barrier.checkpoint == 4 &&
                  event.barrier.final && event.barrier.triggered_ms == 77 &&
                  event.barrier.generation == 1 && !event.barrier.cancelled,
              "trigger");
    cr_assert(told(&r, SOURCE, trigger).kind == KWR_TASK_NOTHING, "repeated");
    cr_assert(told(&r, COUNT, trigger).kind == KWR_TASK_NOTHING, "only sources are triggered");
    kwr_message foreign = trigger;
    foreign.generation = 9;
    foreign.checkpoint = 5;
    cr_assert(told(&r, SOURCE, foreign).kind == KWR_TASK_NOTHING, "another generation");
    const kwr_message complete = { .kind = KWR_MESSAGE_COMPLETE, .checkpoint = 6, .last = true };
    const kwr_task_event done = told(&r, SINK, complete);
    cr_assert(done.kind == KWR_TASK_COMPLETE && done.checkpoint == 6 && done.final,
              "also one it has not taken part in");
    cr_assert(told(&r, SINK, complete).kind == KWR_TASK_NOTHING, "repeated");
    kwr_message older = complete;
    older.checkpoint = 5;
    cr_assert(told(&r, SINK, older).kind == KWR_TASK_NOTHING, "outdated");
    rig_close(&r);
}

KWR_TEST(task, an_aborted_alignment_is_released_and_declined) {
    rig r;
    rig_open(&r, false);
    kwr_message m = { 0 };
    kwr_alignment now = { 0 };
    kwr_task *count = r.s.tasks[COUNT];
    kwr_barrier barrier = barrier_of(&r, 1);
    KWR_MUST(kwr_task_barrier(count, 0, &barrier, &now));
    cr_assert(now.block && !now.snapshot, "waits for the other channel");
    barrier.checkpoint = 2;
    KWR_MUST(kwr_task_barrier(count, 1, &barrier, &now));
    cr_assert(now.release && now.abort && now.aborted == 1 && !now.snapshot, "overtaken");
    KWR_MUST(polled(&r, COUNT, &m));
    cr_assert(m.kind == KWR_MESSAGE_DECLINE && m.checkpoint == 1, "the job hears of it");
    const kwr_task_event event =
        told(&r, COUNT,
             (kwr_message){ .kind = KWR_MESSAGE_ABORT, .checkpoint = 2, .status = KWR_ERR_IO });
    cr_assert(event.kind == KWR_TASK_ABORT && event.alignment.release, "channels are released");
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_barrier(count, 2, &barrier, &now));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_barrier(r.s.tasks[SOURCE], 0, &barrier, &now));
    KWR_MUST(kwr_task_channel_end(count, 0, &now));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_channel_end(count, 0, &now));
    barrier.checkpoint = 3;
    KWR_MUST(kwr_task_barrier(count, 1, &barrier, &now));
    cr_assert(now.snapshot && now.barrier.checkpoint == 3, "an ended channel counts as aligned");
    rig_close(&r);
}

KWR_TEST(task, refuses_calls_that_make_no_sense) {
    rig r;
    rig_open(&r, false);
    kwr_barrier barrier = barrier_of(&r, 2);
    KWR_MUST(kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    barrier.checkpoint = 1;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    barrier.checkpoint = 3;
    barrier.generation = 9;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    barrier = barrier_of(&r, 3);
    barrier.cancelled = true;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_checkpoint(r.s.tasks[SOURCE], &barrier));
    const kwr_split split = { .id = { "a", 1 } };
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_set_split(r.s.tasks[COUNT], &split));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_set_split(r.s.tasks[SOURCE], &(kwr_split){ 0 }));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_add_committable(r.s.tasks[COUNT], 1, split.id));
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_add_committable(r.s.tasks[SINK], 0, split.id));
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_source_ended(r.s.tasks[SINK]));
    cr_assert(kwr_task_backend(r.s.tasks[SINK]) == NULL, "no backend");
    cr_assert(kwr_task_generation(r.s.tasks[SINK]) == 1, "generation");
    kwr_split none = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_split(r.s.tasks[SOURCE], 1000, &none));
    rig_close(&r);
}

KWR_TEST(task, keeps_splits_in_order_and_moves_them_by_id) {
    rig r;
    rig_open(&r, false);
    kwr_task *source = r.s.tasks[SOURCE];
    kwr_split split = { .id = { "b", 1 }, .identity = { "size 5", 6 }, .position = { "1", 1 } };
    KWR_MUST(kwr_task_set_split(source, &split));
    split = (kwr_split){ .id = { "a", 1 }, .identity = { "size 7", 6 } };
    KWR_MUST(kwr_task_set_split(source, &split));
    split = (kwr_split){ .id = { "b", 1 }, .position = { "22", 2 } };
    KWR_MUST(kwr_task_set_split(source, &split));
    const size_t n = kwr_task_split_count(source);
    kwr_split got = { 0 };
    KWR_MUST(kwr_task_split(source, n - 2, &got));
    KWR_ASSERT_SLICE(got.id, "b");
    KWR_ASSERT_SLICE(got.identity, "size 5");
    KWR_ASSERT_SLICE(got.position, "22");
    KWR_MUST(kwr_task_split(source, n - 1, &got));
    KWR_ASSERT_SLICE(got.id, "a");
    /* Its own bytes may be given back to it. */
    got.position = got.identity;
    KWR_MUST(kwr_task_set_split(source, &got));
    KWR_MUST(kwr_task_split(source, n - 1, &got));
    KWR_ASSERT_SLICE(got.position, "size 7");
    rig_close(&r);
}

KWR_TEST(task, carries_committables_until_they_are_committed) {
    rig r;
    rig_open(&r, false);
    kwr_task *sink = r.s.tasks[SINK];
    for (uint64_t i = 1; i <= 3; i++)
        KWR_MUST(kwr_task_add_committable(sink, i, kwr_test_slice(i == 2 ? "two" : "x")));
    cr_assert(kwr_task_committable_count(sink) == 3, "all");
    KWR_MUST(kwr_task_committed(sink, 1));
    uint64_t checkpoint = 0;
    kwr_slice token = { 0 };
    KWR_MUST(kwr_task_committable(sink, 0, &checkpoint, &token));
    cr_assert(checkpoint == 2 && kwr_task_committable_count(sink) == 2, "the first is gone");
    KWR_ASSERT_SLICE(token, "two");
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_committable(sink, 2, &checkpoint, &token));
    KWR_MUST(kwr_task_committed(sink, 3));
    cr_assert(kwr_task_committable_count(sink) == 0, "none");
    rig_close(&r);
}

KWR_TEST(task, refuses_assignments_that_are_damaged_or_do_not_fit_the_task) {
    rig r;
    rig_open(&r, false);
    const kwr_assignment good = { .uid = { 1 },
                                  .generation = 1,
                                  .job = { "stream", 6 },
                                  .max_parallelism = 8,
                                  .operator_id = { "op", 2 },
                                  .parallelism = 1,
                                  .roles = KWR_TASK_SOURCE };
    kwr_bytes bytes = { 0 };
    kwr_error err = { 0 };
    kwr_task *task = NULL;
    KWR_MUST(kwr_assignment_encode(r.s.options.env, &r.limits, &good, &bytes, &err));
    kwr_task_options options = { .struct_size = sizeof options,
                                 .env = r.s.options.env,
                                 .storage = r.storage,
                                 .assignment = { bytes.data, bytes.size },
                                 .channels = 1 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_task_open(&options, &task, &err));
    cr_assert(strstr(err.text, "'op'") != NULL, "%s", err.text);
    options.channels = 0;
    KWR_MUST_ERR(kwr_task_open(&options, &task, &err), err);
    kwr_task_close(task);
    task = NULL;
    ((uint8_t *)bytes.data)[20] ^= 1;
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_task_open(&options, &task, &err));
    options.storage = NULL;
    KWR_EXPECT(KWR_ERR_MISUSE, kwr_task_open(&options, &task, &err));
    cr_assert(task == NULL, "untouched");
    kwr_bytes_free(&bytes);
    rig_close(&r);
}

static void count_wake(void *ctx) { ++*(int *)ctx; }

KWR_TEST(task, wakes_its_owner_when_there_is_something_to_poll) {
    rig r;
    rig_open(&r, false);
    int woken = 0;
    const kwr_assignment a = { .generation = 1,
                               .job = { "stream", 6 },
                               .max_parallelism = 8,
                               .operator_id = { "op", 2 },
                               .parallelism = 1,
                               .roles = KWR_TASK_SOURCE | KWR_TASK_KEYED };
    kwr_bytes bytes = { 0 };
    kwr_task *task = NULL;
    kwr_error err = { 0 };
    KWR_MUST(kwr_assignment_encode(r.s.options.env, &r.limits, &a, &bytes, &err));
    const kwr_task_options options = { .struct_size = sizeof options,
                                       .env = r.s.options.env,
                                       .storage = r.storage,
                                       .assignment = { bytes.data, bytes.size },
                                       .wake = count_wake,
                                       .wake_ctx = &woken };
    KWR_MUST_ERR(kwr_task_open(&options, &task, &err), err);
    KWR_MUST(kwr_task_source_ended(task));
    cr_assert(woken == 1, "the end");
    const kwr_barrier barrier = { .checkpoint = 1, .generation = 1 };
    KWR_MUST(kwr_task_checkpoint(task, &barrier));
    cr_assert(woken == 1, "not before it is written");
    fault_env_run_all(r.faults);
    cr_assert(woken == 2, "the ack");
    const kwr_error why = { .status = KWR_ERR_IO };
    KWR_MUST(kwr_task_decline(task, 1, &why));
    cr_assert(woken == 3, "a decline");
    kwr_task_close(task);
    kwr_bytes_free(&bytes);
    rig_close(&r);
}
