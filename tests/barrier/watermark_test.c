/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watermarks by table. A message is written <time>@<input>, "i@0" for an idle input, "i7@0" for one
 * that moves to 7 and is idle, "a@0" for one that is active again, "end@0" for one that has ended.
 * What follows is written "7" for a watermark to send on, "7 idle", or "" for no news; "end".
 */
#include <stdio.h>

#include "tests/barrier/support.h"

#include "keyweir/watermark.h"

/* ---- generators ---- */

KWR_TEST(watermark, generators_stay_one_ms_and_the_delay_behind_the_largest_time) {
    static const struct {
        int64_t delay_ms, time_ms, want;
    } rows[] = {
        { 0, 0, -1 },
        { 0, 1000, 999 },
        { 500, 1000, 499 },
        { 500, 0, -501 },
        { 1000, -5, -1006 },
        { 0, INT64_MAX, INT64_MAX - 1 },
        { INT64_MAX, INT64_MAX, -1 },
        { 0, INT64_MIN + 1, INT64_MIN },
        { 0, INT64_MIN + 2, INT64_MIN + 1 },
        { 7, INT64_MIN + 3, INT64_MIN },
        { INT64_MAX, -1, INT64_MIN },
        { INT64_MAX, 0, INT64_MIN },
        { INT64_MAX, 1, INT64_MIN + 1 },
        { 5, KWR_TIME_NONE, KWR_TIME_NONE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kwr_watermark_generator g;
        cr_assert(kwr_watermark_bounded(rows[i].delay_ms, &g) == KWR_OK);
        cr_assert(kwr_watermark_now(&g) == KWR_TIME_NONE);
        kwr_watermark_seen(&g, rows[i].time_ms);
        cr_assert(kwr_watermark_now(&g) == rows[i].want, "row %zu: %lld", i,
                  (long long)kwr_watermark_now(&g));
    }
}

KWR_TEST(watermark, late_records_do_not_move_a_generator) {
    kwr_watermark_generator g;
    kwr_watermark_monotonous(&g);
    kwr_watermark_seen(&g, 10);
    kwr_watermark_seen(&g, 4);
    kwr_watermark_seen(&g, KWR_TIME_NONE);
    cr_assert(kwr_watermark_now(&g) == 9);
    kwr_watermark_seen(&g, 11);
    cr_assert(kwr_watermark_now(&g) == 10);
}

KWR_TEST(watermark, a_negative_delay_is_refused) {
    kwr_watermark_generator g = { .largest_ms = 3, .delay_ms = 4 };
    cr_assert(kwr_watermark_bounded(-1, &g) == KWR_ERR_RANGE);
    cr_assert(g.largest_ms == 3 && g.delay_ms == 4);
}

/* ---- inputs ---- */

typedef struct row {
    const char *message;
    const char *answer;
} row;

static kwr_watermark parse(const char *message, uint32_t *input) {
    kwr_watermark w = { .time_ms = KWR_TIME_NONE };
    const char *at = strchr(message, '@');
    cr_assert(at != NULL && sscanf(at, "@%u", input) == 1, "bad message %s", message);
    if (strncmp(message, "end", 3) == 0) {
        w.time_ms = KWR_TIME_END;
        return w;
    }
    if (message[0] == 'a') return w;
    w.idle = message[0] == 'i';
    if (w.idle) message++;
    long long time_ms;
    if (message != at) {
        cr_assert(sscanf(message, "%lld@", &time_ms) == 1, "bad message %s", message);
        w.time_ms = time_ms;
    }
    return w;
}

static void describe(const kwr_watermark_step *step, char out[64]) {
    out[0] = '\0';
    if (!step->broadcast) return;
    const char *idle = step->watermark.idle ? " idle" : "";
    if (step->watermark.time_ms == KWR_TIME_END)
        (void)snprintf(out, 64, "end%s", idle);
    else if (step->watermark.time_ms == KWR_TIME_NONE)
        (void)snprintf(out, 64, "none%s", idle);
    else
        (void)snprintf(out, 64, "%lld%s", (long long)step->watermark.time_ms, idle);
}

static void play(const char *title, uint32_t inputs, const row *rows, size_t count) {
    memory_env memory;
    kwr_watermarks *w = NULL;
    KWR_MUST(kwr_watermarks_new(memory_env_init(&memory), inputs, &w, NULL));
    for (size_t i = 0; i < count; i++) {
        uint32_t input;
        const kwr_watermark message = parse(rows[i].message, &input);
        const int64_t before = kwr_watermarks_now(w).time_ms;
        kwr_watermark_step step;
        KWR_MUST(kwr_watermarks_receive(w, input, &message, &step));
        char answer[64];
        describe(&step, answer);
        cr_assert(strcmp(answer, rows[i].answer) == 0, "%s, step %zu, %s: \"%s\", not \"%s\"",
                  title, i, rows[i].message, answer, rows[i].answer);
        const kwr_watermark now = kwr_watermarks_now(w);
        cr_assert(now.time_ms == step.watermark.time_ms && now.idle == step.watermark.idle);
        cr_assert(step.advanced == (now.time_ms > before));
        cr_assert(now.time_ms >= before, "%s, step %zu: it went back", title, i);
    }
    kwr_watermarks_free(w);
}
#define PLAY(title, inputs, ...)                                 \
    do {                                                         \
        static const row rows[] = { __VA_ARGS__ };               \
        play(title, inputs, rows, sizeof rows / sizeof rows[0]); \
    } while (0)

KWR_TEST(watermark, a_task_is_where_its_slowest_input_is) {
    PLAY("one input", 1, { "5@0", "5" }, { "5@0", "" }, { "9@0", "9" }, { "-3@0", "" });
    PLAY("three inputs", 3, { "5@0", "" }, { "7@1", "" }, { "4@2", "4" }, { "6@2", "5" },
         { "6@0", "6" }, { "20@2", "" }, { "20@0", "7" }, { "30@1", "20" });
    PLAY("equal times", 2, { "5@0", "" }, { "5@1", "5" }, { "6@0", "" }, { "6@1", "6" });
    PLAY("all times", 2, { "-9223372036854775807@0", "" },
         { "-9223372036854775807@1", "-9223372036854775807" }, { "9223372036854775806@1", "" },
         { "9223372036854775806@0", "9223372036854775806" });
}

KWR_TEST(watermark, an_earlier_watermark_of_an_input_changes_nothing) {
    PLAY("back", 2, { "5@0", "" }, { "8@1", "5" }, { "3@0", "" }, { "6@0", "6" }, { "1@1", "" },
         { "9@0", "8" });
}

KWR_TEST(watermark, an_idle_input_is_not_waited_for) {
    PLAY("idle at once", 2, { "i@1", "" }, { "5@0", "5" }, { "6@0", "6" });
    PLAY("idle last", 2, { "5@0", "" }, { "i@1", "5" }, { "6@0", "6" });
    PLAY("the slowest", 3, { "5@0", "" }, { "8@1", "" }, { "9@2", "5" }, { "i@0", "8" },
         { "i@1", "9" }, { "i@0", "" });
    PLAY("idle with a time", 2, { "5@0", "" }, { "i7@1", "5" }, { "9@0", "9" }, { "a@1", "" },
         { "10@0", "10" });
}

KWR_TEST(watermark, an_input_that_comes_back_counts_when_it_has_caught_up) {
    PLAY("behind", 2, { "5@0", "" }, { "2@1", "2" }, { "i@1", "5" }, { "a@1", "" }, { "3@1", "" },
         { "7@0", "7" }, { "8@1", "" }, { "9@0", "8" }, { "12@1", "9" });
    PLAY("just there", 2, { "5@0", "" }, { "2@1", "2" }, { "i@1", "5" }, { "5@1", "" },
         { "9@0", "" }, { "6@1", "6" });
    PLAY("behind, and the others fall idle", 2, { "5@0", "" }, { "2@1", "2" }, { "i@1", "5" },
         { "3@1", "" }, { "i@0", "" }, { "4@1", "" }, { "6@1", "6" });
    PLAY("behind, and the others end", 2, { "5@0", "" }, { "2@1", "2" }, { "i@1", "5" },
         { "3@1", "" }, { "end@0", "" }, { "7@1", "7" }, { "end@1", "end" });
}

KWR_TEST(watermark, a_task_without_active_inputs_is_idle_and_stays_where_it_is) {
    PLAY("never a watermark", 2, { "i@0", "" }, { "i@1", "none idle" }, { "a@0", "none" },
         { "4@0", "4" });
    PLAY("idle and back", 2, { "5@0", "" }, { "5@1", "5" }, { "i@0", "" }, { "i@1", "5 idle" },
         { "3@1", "5" }, { "6@1", "6" });
    PLAY("back with news", 1, { "5@0", "5" }, { "i@0", "5 idle" }, { "i@0", "" }, { "8@0", "8" });
    PLAY("moving while idle", 1, { "i5@0", "5 idle" }, { "i7@0", "7 idle" }, { "i2@0", "" });
}

KWR_TEST(watermark, the_order_in_which_inputs_fall_idle_makes_no_difference) {
    static const unsigned orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
                                           { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    for (size_t i = 0; i < 6; i++) {
        memory_env memory;
        kwr_watermarks *w = NULL;
        kwr_watermark_step step;
        KWR_MUST(kwr_watermarks_new(memory_env_init(&memory), 3, &w, NULL));
        for (uint32_t input = 0; input < 3; input++) {
            const kwr_watermark at = { .time_ms = 10 * (input + 1) };
            KWR_MUST(kwr_watermarks_receive(w, input, &at, &step));
        }
        for (uint32_t n = 0; n < 3; n++) {
            const kwr_watermark idle = { .time_ms = KWR_TIME_NONE, .idle = true };
            KWR_MUST(kwr_watermarks_receive(w, orders[i][n], &idle, &step));
        }
        cr_assert(step.watermark.time_ms == 30 && step.watermark.idle && step.broadcast);
        kwr_watermarks_free(w);
    }
}

KWR_TEST(watermark, an_input_that_has_ended_is_not_waited_for) {
    PLAY("one by one", 3, { "5@0", "" }, { "7@1", "" }, { "4@2", "4" }, { "end@2", "5" },
         { "end@0", "7" }, { "end@1", "end" });
    PLAY("at once", 1, { "end@0", "end" });
    PLAY("the rest idle", 2, { "5@0", "" }, { "3@1", "3" }, { "i@0", "" }, { "end@1", "5 idle" },
         { "8@0", "8" }, { "end@0", "end" });
    PLAY("the last idle one ends", 2, { "5@0", "" }, { "end@1", "5" }, { "i@0", "5 idle" },
         { "end@0", "end" });
}

KWR_TEST(watermark, inputs_are_known_one_by_one) {
    memory_env memory;
    kwr_watermarks *w = NULL;
    kwr_watermark_step step = { .broadcast = true };
    kwr_watermark in = { 0 };
    KWR_MUST(kwr_watermarks_new(memory_env_init(&memory), 2, &w, NULL));
    KWR_MUST(kwr_watermarks_input(w, 1, &in));
    cr_assert(in.time_ms == KWR_TIME_NONE && !in.idle);
    KWR_MUST(kwr_watermarks_receive(w, 1, &(kwr_watermark){ .time_ms = 5, .idle = true }, &step));
    KWR_MUST(kwr_watermarks_input(w, 1, &in));
    cr_assert(in.time_ms == 5 && in.idle);
    KWR_MUST(kwr_watermarks_receive(w, 1, &(kwr_watermark){ .time_ms = KWR_TIME_END }, &step));
    KWR_MUST(kwr_watermarks_input(w, 1, &in));
    cr_assert(in.time_ms == KWR_TIME_END && !in.idle);
    step.watermark.time_ms = 77;
    const kwr_watermark more = { .time_ms = 9 };
    cr_assert(kwr_watermarks_receive(w, 1, &more, &step) == KWR_ERR_MISUSE);
    cr_assert(kwr_watermarks_receive(w, 2, &more, &step) == KWR_ERR_RANGE);
    cr_assert(kwr_watermarks_input(w, 2, &in) == KWR_ERR_RANGE);
    cr_assert(step.watermark.time_ms == 77 && in.time_ms == KWR_TIME_END);
    kwr_watermarks_free(w);
    KWR_MUST(kwr_watermarks_new(memory_env_init(&memory), 0, &w, NULL));
    cr_assert(kwr_watermarks_now(w).time_ms == KWR_TIME_END);
    kwr_watermarks_free(w);
    kwr_watermarks_free(NULL);
}

KWR_TEST(watermark, without_memory_nothing_is_made) {
    memory_env memory;
    const kwr_env *env = memory_env_init(&memory);
    memory.fail_at = 1;
    kwr_watermarks *w = NULL;
    kwr_error err;
    cr_assert(kwr_watermarks_new(env, 3, &w, &err) == KWR_ERR_NOMEM);
    cr_assert(w == NULL && strstr(err.text, "3 inputs") != NULL);
}

/* ---- against the rules, looked at anew after each message ---- */

typedef struct rules {
    int64_t time_ms[6];
    bool idle[6];
    int64_t now;
    bool now_idle;
} rules;

static void apply_rules(rules *r, uint32_t inputs, uint32_t input, const kwr_watermark *message) {
    if (message->time_ms > r->time_ms[input]) r->time_ms[input] = message->time_ms;
    r->idle[input] = message->idle && r->time_ms[input] != KWR_TIME_END;
    int64_t smallest = KWR_TIME_END, largest_idle = KWR_TIME_NONE;
    uint32_t active = 0, counting = 0, idle = 0;
    for (uint32_t i = 0; i < inputs; i++) {
        const int64_t t = r->time_ms[i];
        if (t == KWR_TIME_END) continue;
        if (r->idle[i]) {
            idle++;
            if (t > largest_idle) largest_idle = t;
            continue;
        }
        active++;
        if (t < r->now) continue;
        counting++;
        if (t < smallest) smallest = t;
    }
    if (active == 0 && idle == 0) r->now = KWR_TIME_END;
    if (active == 0 && idle > 0 && largest_idle > r->now) r->now = largest_idle;
    if (counting > 0) r->now = smallest;
    r->now_idle = active == 0 && idle > 0;
}

KWR_TEST(watermark, random_messages_lead_where_the_rules_say) {
    for (uint64_t round = 0; round < 2000; round++) {
        uint64_t seed = round;
        memory_env memory;
        kwr_watermarks *w = NULL;
        const uint32_t inputs = 1 + (uint32_t)dice_below(&seed, 6);
        KWR_MUST(kwr_watermarks_new(memory_env_init(&memory), inputs, &w, NULL));
        rules r = { .now = KWR_TIME_NONE };
        for (size_t i = 0; i < 6; i++)
            r.time_ms[i] = KWR_TIME_NONE;
        for (int step = 0; step < 100; step++) {
            const uint32_t input = (uint32_t)dice_below(&seed, inputs);
            kwr_watermark message = {
                .time_ms =
                    one_in(&seed, 5) ? KWR_TIME_NONE : step / 2 + (int64_t)dice_below(&seed, 10),
                .idle = one_in(&seed, 4),
            };
            if (one_in(&seed, 60)) message.time_ms = KWR_TIME_END;
            if (r.time_ms[input] == KWR_TIME_END) continue;
            kwr_watermark_step did;
            KWR_MUST(kwr_watermarks_receive(w, input, &message, &did));
            const rules before = r;
            apply_rules(&r, inputs, input, &message);
            cr_assert(did.watermark.time_ms == r.now && did.watermark.idle == r.now_idle,
                      "seed %llu, step %d", (unsigned long long)round, step);
            cr_assert(did.advanced == (r.now != before.now));
            cr_assert(did.broadcast == (r.now != before.now || r.now_idle != before.now_idle));
        }
        kwr_watermarks_free(w);
    }
}
