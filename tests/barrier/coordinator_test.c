/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator by table: every event in every state, every deadline, every rule. */
#include "tests/barrier/coordinator_support.h"

#define MS UINT64_C(1000000)

/* ---- the table of docs/barriers.md, cell by cell ---- */

enum { SETUP, IDLE, COLLECTING, PUBLISHING, FINISHED, FAILED, STATES };
static const char *const state_names[STATES] = { "setup",      "idle",     "collecting",
                                                 "publishing", "finished", "failed" };

/* One source, task 0. Checkpoint 5 is the pending one, or the next. */
static void bring_to(driver *d, int state) {
    driver_open(d, &(kwr_coordinator_options){ .tolerable_failures = 1 });
    SAYS("", of_task(d, KWR_ON_SOURCE, 0));
    if (state == SETUP) return;
    SAYS("", plain(d, KWR_ON_START));
    if (state == IDLE) return;
    if (state == FAILED) {
        SAYS("fail 0 FENCED", outcome(d, KWR_ON_LOST, 0, KWR_ERR_FENCED));
        return;
    }
    SAYS("trigger 5", state == FINISHED ? plain(d, KWR_ON_STOP) : plain(d, KWR_ON_TRIGGER));
    if (state == COLLECTING) return;
    all_ack(d, 5, TASKS);
    if (state == PUBLISHING) return;
    SAYS("complete 5, finish 5", published(d, 5));
}

static const struct cell_row {
    kwr_coordinator_event event;
    const char *name;
    const char *answers[STATES];
} cells[] = {
    { { .kind = KWR_ON_TICK }, "tick", { "", "", "", "", "", "" } },
    { { .kind = KWR_ON_SOURCE, .task = 1 },
      "source",
      { "", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE",
        "KWR_ERR_MISUSE" } },
    { { .kind = KWR_ON_START },
      "start",
      { "", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE",
        "KWR_ERR_MISUSE" } },
    { { .kind = KWR_ON_TRIGGER },
      "trigger",
      { "KWR_ERR_MISUSE", "trigger 5", "KWR_ERR_BUSY", "KWR_ERR_BUSY", "KWR_ERR_MISUSE",
        "KWR_ERR_MISUSE" } },
    { { .kind = KWR_ON_STOP }, "stop", { "", "trigger 5", "", "", "", "" } },
    { { .kind = KWR_ON_ACK, .checkpoint = 5, .generation = GENERATION, .task = 1 },
      "ack",
      { "ignore 5", "ignore 5", "", "ignore 5", "ignore 5", "" } },
    { { .kind = KWR_ON_DECLINE,
        .checkpoint = 5,
        .generation = GENERATION,
        .task = 1,
        .status = KWR_ERR_NOSPACE },
      "decline",
      { "ignore 5", "ignore 5", "abort 5 NOSPACE", "ignore 5", "ignore 5", "" } },
    { { .kind = KWR_ON_SOURCE_ENDED }, "source ended", { "", "trigger 5 final", "", "", "", "" } },
    { { .kind = KWR_ON_PUBLISHED, .checkpoint = 5 },
      "published",
      { "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "complete 5", "KWR_ERR_MISUSE",
        "" } },
    { { .kind = KWR_ON_PUBLISH_FAILED, .checkpoint = 5, .status = KWR_ERR_IO },
      "publish failed",
      { "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "KWR_ERR_MISUSE", "abort 5 IO", "KWR_ERR_MISUSE",
        "" } },
    { { .kind = KWR_ON_LOST, .status = KWR_ERR_UNKNOWN },
      "lost",
      { "fail 0 UNKNOWN", "fail 0 UNKNOWN", "fail 5 UNKNOWN", "fail 5 UNKNOWN", "", "" } },
};

KWR_TEST(coordinator, answers_every_event_in_every_state) {
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        for (int state = 0; state < STATES; state++) {
            driver d;
            bring_to(&d, state);
            const uint64_t deadline = kwr_coordinator_deadline(d.c);
            const uint64_t pending = kwr_coordinator_pending(d.c);
            const char *said = step(&d, cells[i].event);
            cr_assert(strcmp(said, cells[i].answers[state]) == 0, "%s in %s: \"%s\", not \"%s\"",
                      cells[i].name, state_names[state], said, cells[i].answers[state]);
            if (d.status != KWR_OK) {
                cr_assert(kwr_coordinator_deadline(d.c) == deadline &&
                              kwr_coordinator_pending(d.c) == pending,
                          "%s in %s was refused and changed something", cells[i].name,
                          state_names[state]);
            }
            driver_close(&d);
        }
    }
}

KWR_TEST(coordinator, says_what_is_pending_in_every_state) {
    static const uint64_t pending[STATES] = { 0, 0, 5, 5, 0, 0 };
    for (int state = 0; state < STATES; state++) {
        driver d;
        bring_to(&d, state);
        cr_assert(kwr_coordinator_pending(d.c) == pending[state], "in %s", state_names[state]);
        driver_close(&d);
    }
}

KWR_TEST(coordinator, refuses_an_event_it_does_not_know) {
    driver d;
    bring_to(&d, IDLE);
    SAYS("KWR_ERR_RANGE", step(&d, (kwr_coordinator_event){ .kind = 0 }));
    SAYS("KWR_ERR_RANGE",
         step(&d, (kwr_coordinator_event){ .kind = (kwr_coordinator_event_kind)12 }));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    driver_close(&d);
}

/* ---- making one ---- */

KWR_TEST(coordinator, refuses_options_outside_their_range) {
    memory_env memory;
    memory_env_init(&memory);
    const kwr_coordinator_options good = { .struct_size = sizeof good,
                                           .env = &memory.env,
                                           .generation = 1,
                                           .first_checkpoint = 1,
                                           .tasks = 1 };
    kwr_coordinator *c = NULL;
    kwr_error err = { 0 };
    kwr_coordinator_options bad = good;
    bad.struct_size = 0;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_coordinator_new(&bad, &c, &err), err);
    bad = good;
    bad.env = NULL;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_coordinator_new(&bad, &c, &err), err);
    bad = good;
    bad.tasks = 0;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_coordinator_new(&bad, &c, &err), err);
    bad = good;
    bad.first_checkpoint = 0;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_coordinator_new(&bad, &c, &err), err);
    bad.first_checkpoint = UINT64_MAX;
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_coordinator_new(&bad, &c, &err), err);
    memory.fail_at = memory.made + 1;
    KWR_EXPECT_ERR(KWR_ERR_NOMEM, kwr_coordinator_new(&good, &c, &err), err);
    cr_assert(c == NULL);
    KWR_MUST_ERR(kwr_coordinator_new(&good, &c, &err), err);
    kwr_coordinator_free(c);
    kwr_coordinator_free(NULL);
}

/* ---- acks ---- */

KWR_TEST(coordinator, counts_every_task_once) {
    driver d;
    bring_to(&d, COLLECTING);
    SAYS("", ack(&d, 5, 0));
    SAYS("ignore 5", ack(&d, 5, 0)); /* again, after a reconnect */
    SAYS("ignore 5", ack(&d, 5, 0));
    SAYS("", ack(&d, 5, 2));
    SAYS("ignore 5", ack(&d, 5, 2));
    SAYS("publish 5", ack(&d, 5, 1));
    SAYS("ignore 5", ack(&d, 5, 1));
    SAYS("complete 5", published(&d, 5));
    SAYS("ignore 5", ack(&d, 5, 1));
    SAYS("trigger 6", plain(&d, KWR_ON_TRIGGER)); /* its set starts empty */
    all_ack(&d, 6, TASKS);
    driver_close(&d);
}

KWR_TEST(coordinator, ignores_acks_and_declines_that_are_not_for_the_pending_checkpoint) {
    driver d;
    bring_to(&d, COLLECTING);
    const kwr_coordinator_event strangers[] = {
        { .checkpoint = 5, .generation = GENERATION, .task = TASKS },
        { .checkpoint = 5, .generation = GENERATION, .task = UINT32_MAX },
        { .checkpoint = 4, .generation = GENERATION, .task = 0 },
        { .checkpoint = 6, .generation = GENERATION, .task = 0 },
        { .checkpoint = 0, .generation = GENERATION, .task = 0 },
        { .checkpoint = 5, .generation = GENERATION - 1, .task = 0 },
        { .checkpoint = 5, .generation = GENERATION + 1, .task = 0 },
    };
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        kwr_coordinator_event event = strangers[i];
        event.status = KWR_ERR_IO;
        char words[32];
        snprintf(words, sizeof words, "ignore %llu", (unsigned long long)event.checkpoint);
        event.kind = KWR_ON_ACK;
        SAYS(words, step(&d, event));
        event.kind = KWR_ON_DECLINE;
        SAYS(words, step(&d, event));
    }
    all_ack(&d, 5, TASKS);
    driver_close(&d);
}

KWR_TEST(coordinator, keeps_a_bit_for_each_of_many_tasks) {
    enum { MANY = 1000 };
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .tasks = MANY });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    for (uint32_t i = 0; i < MANY - 1; i++) {
        const uint32_t task = i * 7 % MANY; /* every one but the last of this walk, in disorder */
        SAYS("", ack(&d, 5, task));
        SAYS("ignore 5", ack(&d, 5, task));
    }
    SAYS("publish 5", ack(&d, 5, (MANY - 1) * 7 % MANY));
    driver_close(&d);
}

/* ---- time ---- */

KWR_TEST(coordinator, triggers_at_its_interval_and_not_before) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .interval_ns = 10 * MS, .timeout_ns = 100 * MS });
    DEADLINE(NEVER, &d);
    d.now = 7 * MS;
    SAYS("", plain(&d, KWR_ON_START));
    DEADLINE(17 * MS, &d);
    SAYS("", tick(&d, 17 * MS - 1));
    DEADLINE(17 * MS, &d);
    SAYS("trigger 5", tick(&d, 17 * MS));
    DEADLINE(117 * MS, &d);
    all_ack(&d, 5, TASKS);
    DEADLINE(NEVER, &d);
    d.now = 20 * MS;
    SAYS("complete 5", published(&d, 5));
    DEADLINE(27 * MS, &d);                /* from trigger to trigger */
    SAYS("trigger 6", tick(&d, 28 * MS)); /* a late tick */
    all_ack(&d, 6, TASKS);
    d.now = 70 * MS; /* longer than the interval: due at once, and only once */
    SAYS("complete 6", published(&d, 6));
    DEADLINE(70 * MS, &d);
    SAYS("trigger 7", tick(&d, 70 * MS));
    SAYS("", tick(&d, 70 * MS));
    driver_close(&d);
}

KWR_TEST(coordinator, pauses_between_the_end_of_one_and_the_next_periodic_trigger) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .interval_ns = 10 * MS,
                                                .min_pause_ns = 30 * MS,
                                                .timeout_ns = 20 * MS,
                                                .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", tick(&d, 10 * MS)); /* nothing has ended yet: no pause */
    all_ack(&d, 5, TASKS);
    d.now = 15 * MS;
    SAYS("complete 5", published(&d, 5));
    DEADLINE(45 * MS, &d);
    SAYS("", tick(&d, 45 * MS - 1));
    SAYS("trigger 6", plain(&d, KWR_ON_TRIGGER)); /* asked for: no pause */
    d.now = 50 * MS;
    SAYS("abort 6 IO", decline(&d, 6, 1, KWR_ERR_IO));
    DEADLINE(80 * MS, &d); /* also after an abort */
    SAYS("trigger 7", tick(&d, 80 * MS));
    SAYS("abort 7 TIMEOUT", tick(&d, 100 * MS));
    DEADLINE(130 * MS, &d);
    driver_close(&d);
}

KWR_TEST(coordinator, without_an_interval_triggers_only_when_asked) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .min_pause_ns = 5 });
    SAYS("", plain(&d, KWR_ON_START));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, UINT64_MAX - 1));
    d.now = 3;
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5", published(&d, 5));
    DEADLINE(NEVER, &d);
    driver_close(&d);
}

KWR_TEST(coordinator, aborts_what_is_not_acknowledged_in_time) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .timeout_ns = 50, .tolerable_failures = 9 });
    SAYS("", plain(&d, KWR_ON_START));
    d.now = 100;
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    DEADLINE(150, &d);
    SAYS("", ack(&d, 5, 0));
    SAYS("", tick(&d, 149));
    SAYS("abort 5 TIMEOUT", tick(&d, 150));
    SAYS("ignore 5", ack(&d, 5, 1)); /* late */
    SAYS("ignore 5", decline(&d, 5, 2, KWR_ERR_IO));
    DEADLINE(NEVER, &d);
    driver_close(&d);
}

KWR_TEST(coordinator, waits_ten_minutes_by_default) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ 0 });
    SAYS("", plain(&d, KWR_ON_START));
    d.now = 1;
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    DEADLINE(1 + 600000 * MS, &d);
    driver_close(&d);
}

KWR_TEST(coordinator, does_not_abort_what_is_being_published_however_long_it_takes) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .interval_ns = 10, .timeout_ns = 50 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", tick(&d, 10));
    all_ack(&d, 5, TASKS);
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, 1000000));
    SAYS("complete 5", published(&d, 5));
    driver_close(&d);
}

KWR_TEST(coordinator, adds_times_without_wrapping) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .interval_ns = UINT64_MAX,
                                                .min_pause_ns = UINT64_MAX,
                                                .timeout_ns = UINT64_MAX,
                                                .tolerate_all = true });
    SAYS("", of_task(&d, KWR_ON_SOURCE, 0));
    d.now = 1000;
    SAYS("", plain(&d, KWR_ON_START));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, 2000));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, UINT64_MAX - 1));
    SAYS("", tick(&d, UINT64_MAX));
    SAYS("abort 5 IO", decline(&d, 5, 0, KWR_ERR_IO));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, UINT64_MAX));
    SAYS("trigger 6 final", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    driver_close(&d);
}

KWR_TEST(coordinator, holds_its_time_when_the_clock_steps_back) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .timeout_ns = 50, .tolerate_all = true });
    d.now = 1000;
    SAYS("", plain(&d, KWR_ON_START));
    d.now = 10;
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    DEADLINE(1050, &d);
    driver_close(&d);
}

/* ---- failures ---- */

KWR_TEST(coordinator, fails_at_once_when_no_failure_is_tolerated) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .interval_ns = 10 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", tick(&d, 10));
    SAYS("abort 5 NOSPACE, fail 5 NOSPACE", decline(&d, 5, 0, KWR_ERR_NOSPACE));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, 1000));
    SAYS("", ack(&d, 5, 0));
    SAYS("", outcome(&d, KWR_ON_LOST, 0, KWR_ERR_FENCED));
    driver_close(&d);
}

KWR_TEST(coordinator, fails_only_after_more_failures_in_a_row_than_tolerated) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .timeout_ns = 50, .tolerable_failures = 2 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    SAYS("abort 5 DECLINED", decline(&d, 5, 0, KWR_OK)); /* no reason given */
    SAYS("trigger 6", plain(&d, KWR_ON_TRIGGER));
    SAYS("abort 6 TIMEOUT", tick(&d, 50));
    SAYS("trigger 7", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 7, TASKS);
    SAYS("complete 7", published(&d, 7)); /* the row is broken */
    SAYS("trigger 8", plain(&d, KWR_ON_TRIGGER));
    SAYS("abort 8 CANCELLED", decline(&d, 8, 2, KWR_ERR_CANCELLED));
    SAYS("trigger 9", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 9, TASKS);
    SAYS("abort 9 NOSPACE", outcome(&d, KWR_ON_PUBLISH_FAILED, 9, KWR_ERR_NOSPACE));
    SAYS("trigger 10", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 10, TASKS);
    SAYS("abort 10 IO, fail 10 IO", outcome(&d, KWR_ON_PUBLISH_FAILED, 10, KWR_OK));
    driver_close(&d);
}

KWR_TEST(coordinator, never_fails_for_failed_checkpoints_when_told_so) {
    driver d;
    driver_open(&d, &(kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    for (uint64_t id = FIRST; id < FIRST + 100; id++) {
        char words[64];
        snprintf(words, sizeof words, "trigger %llu", (unsigned long long)id);
        SAYS(words, plain(&d, KWR_ON_TRIGGER));
        snprintf(words, sizeof words, "abort %llu IO", (unsigned long long)id);
        SAYS(words, decline(&d, id, 0, KWR_ERR_IO));
    }
    SAYS("fail 0 UNKNOWN", outcome(&d, KWR_ON_LOST, 0, KWR_OK)); /* but for this it does */
    driver_close(&d);
}

KWR_TEST(coordinator, hears_a_decline_also_of_a_task_that_has_acknowledged) {
    driver d;
    bring_to(&d, COLLECTING);
    SAYS("", ack(&d, 5, 1));
    SAYS("abort 5 IO", decline(&d, 5, 1, KWR_ERR_IO));
    driver_close(&d);
}

KWR_TEST(coordinator, takes_outcomes_only_of_what_it_publishes) {
    driver d;
    bring_to(&d, PUBLISHING);
    SAYS("KWR_ERR_MISUSE", published(&d, 4));
    SAYS("KWR_ERR_MISUSE", published(&d, 6));
    SAYS("KWR_ERR_MISUSE", outcome(&d, KWR_ON_PUBLISH_FAILED, 4, KWR_ERR_IO));
    SAYS("complete 5", published(&d, 5));
    driver_close(&d);
}

KWR_TEST(coordinator, uses_no_id_twice_and_stops_when_there_are_none_left) {
    driver d;
    driver_open(
        &d, &(kwr_coordinator_options){ .first_checkpoint = UINT64_MAX - 2, .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 18446744073709551613", plain(&d, KWR_ON_TRIGGER));
    SAYS("abort 18446744073709551613 IO", decline(&d, UINT64_MAX - 2, 0, KWR_ERR_IO));
    SAYS("trigger 18446744073709551614", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, UINT64_MAX - 1, TASKS);
    SAYS("complete 18446744073709551614", published(&d, UINT64_MAX - 1));
    SAYS("fail 0 RANGE", plain(&d, KWR_ON_TRIGGER));
    driver_close(&d);
}

/* ---- the end ---- */

static void open_with_sources(driver *d, uint32_t sources, kwr_coordinator_options options) {
    driver_open(d, &options);
    for (uint32_t t = 0; t < sources; t++)
        SAYS("", of_task(d, KWR_ON_SOURCE, t));
}

KWR_TEST(coordinator, takes_a_final_checkpoint_when_all_sources_have_ended) {
    driver d;
    open_with_sources(&d, 2, (kwr_coordinator_options){ .interval_ns = 10 });
    SAYS("", of_task(&d, KWR_ON_SOURCE, 1)); /* said twice */
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 1));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 1)); /* again: still one open */
    SAYS("trigger 5", tick(&d, 10));               /* the others go on being checkpointed */
    all_ack(&d, 5, TASKS);
    SAYS("complete 5", published(&d, 5));
    SAYS("trigger 6 final", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    all_ack(&d, 6, TASKS);
    SAYS("complete 6 final, finish 6 final", published(&d, 6));
    DEADLINE(NEVER, &d);
    SAYS("", tick(&d, 1000));
    SAYS("", plain(&d, KWR_ON_STOP));
    driver_close(&d);
}

KWR_TEST(coordinator, lets_the_pending_checkpoint_resolve_before_the_final_one) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("KWR_ERR_BUSY", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5, trigger 6 final", published(&d, 5));
    driver_close(&d);

    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("abort 5 IO, trigger 6 final", decline(&d, 5, 2, KWR_ERR_IO));
    driver_close(&d);

    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    all_ack(&d, 5, TASKS);
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("abort 5 IO, trigger 6 final", outcome(&d, KWR_ON_PUBLISH_FAILED, 5, KWR_ERR_IO));
    driver_close(&d);
}

KWR_TEST(coordinator, repeats_a_failed_final_checkpoint_with_growing_pauses) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5 final", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    uint64_t pause = 100 * MS;
    for (uint64_t id = FIRST; id < FIRST + 12; id++) {
        char words[64];
        snprintf(words, sizeof words, "abort %llu final IO", (unsigned long long)id);
        SAYS(words, decline(&d, id, 0, KWR_ERR_IO));
        DEADLINE(d.now + pause, &d);
        SAYS("", tick(&d, d.now + pause - 1));
        snprintf(words, sizeof words, "trigger %llu final", (unsigned long long)id + 1);
        SAYS(words, tick(&d, d.now + 1));
        pause = pause * 2 < 10000 * MS ? pause * 2 : 10000 * MS;
    }
    all_ack(&d, FIRST + 12, TASKS);
    SAYS("complete 17 final, finish 17 final", published(&d, FIRST + 12));
    driver_close(&d);
}

KWR_TEST(coordinator, counts_a_failed_final_checkpoint_as_a_failure) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerable_failures = 1 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5 final", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("abort 5 final IO", decline(&d, 5, 0, KWR_ERR_IO));
    SAYS("trigger 6 final", tick(&d, 100 * MS));
    SAYS("abort 6 final IO, fail 6 final IO", decline(&d, 6, 0, KWR_ERR_IO));
    driver_close(&d);
}

KWR_TEST(coordinator, takes_a_last_checkpoint_when_asked_to_stop) {
    driver d;
    open_with_sources(&d, 2, (kwr_coordinator_options){ .interval_ns = 10, .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_STOP));
    SAYS("", plain(&d, KWR_ON_STOP));
    SAYS("abort 5 IO", decline(&d, 5, 0, KWR_ERR_IO));
    DEADLINE(100 * MS, &d); /* no periodic one meanwhile */
    SAYS("", tick(&d, 50 * MS));
    SAYS("trigger 6", plain(&d, KWR_ON_TRIGGER)); /* asked for: it is the last one */
    all_ack(&d, 6, TASKS);
    SAYS("complete 6, finish 6", published(&d, 6));
    driver_close(&d);

    open_with_sources(&d, 1, (kwr_coordinator_options){ .interval_ns = 10 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", tick(&d, 10));
    SAYS("", plain(&d, KWR_ON_STOP));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5, trigger 6", published(&d, 5));
    all_ack(&d, 6, TASKS);
    SAYS("complete 6, finish 6", published(&d, 6));
    driver_close(&d);
}

KWR_TEST(coordinator, ends_finally_when_stopped_after_the_end_of_all_sources) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_TRIGGER));
    SAYS("", plain(&d, KWR_ON_STOP));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5, trigger 6 final", published(&d, 5)); /* both wait: final wins */
    all_ack(&d, 6, TASKS);
    SAYS("complete 6 final, finish 6 final", published(&d, 6));
    driver_close(&d);

    /* The sources end while the stop checkpoint is pending: it is not final, and it is the last. */
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_STOP));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5, finish 5", published(&d, 5));
    driver_close(&d);

    /* If it fails instead, its repetition is final. */
    open_with_sources(&d, 1, (kwr_coordinator_options){ .tolerate_all = true });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", plain(&d, KWR_ON_STOP));
    SAYS("abort 5 IO", decline(&d, 5, 0, KWR_ERR_IO));
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("trigger 6 final", tick(&d, 100 * MS));
    driver_close(&d);
}

KWR_TEST(coordinator, remembers_at_the_start_what_ended_or_stopped_before) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ 0 });
    SAYS("", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    SAYS("", tick(&d, 5));
    SAYS("trigger 5 final", plain(&d, KWR_ON_START));
    driver_close(&d);

    open_with_sources(&d, 1, (kwr_coordinator_options){ 0 });
    SAYS("", plain(&d, KWR_ON_STOP));
    SAYS("trigger 5", plain(&d, KWR_ON_START));
    driver_close(&d);
}

KWR_TEST(coordinator, hears_the_end_only_of_sources) {
    driver d;
    open_with_sources(&d, 1, (kwr_coordinator_options){ 0 });
    SAYS("KWR_ERR_RANGE", of_task(&d, KWR_ON_SOURCE, TASKS));
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("KWR_ERR_MISUSE", of_task(&d, KWR_ON_SOURCE_ENDED, 1));
    SAYS("KWR_ERR_RANGE", of_task(&d, KWR_ON_SOURCE_ENDED, TASKS));
    SAYS("trigger 5 final", of_task(&d, KWR_ON_SOURCE_ENDED, 0));
    driver_close(&d);
}

KWR_TEST(coordinator, without_sources_runs_until_it_is_stopped) {
    driver d;
    open_with_sources(&d, 0, (kwr_coordinator_options){ .interval_ns = 10 });
    SAYS("", plain(&d, KWR_ON_START));
    SAYS("trigger 5", tick(&d, 10));
    all_ack(&d, 5, TASKS);
    SAYS("complete 5", published(&d, 5));
    SAYS("trigger 6", plain(&d, KWR_ON_STOP));
    driver_close(&d);
}
