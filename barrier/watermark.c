/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event time: the watermarks of a source, and the minimum over the inputs of a task. They live
 * beside the barriers, because like those they are markers between the records of a channel that a
 * task combines over its inputs.
 *
 * An input counts in the minimum while it is active and not behind the task's time. How many of
 * those stand exactly at the task's time is kept: only when none is left has the minimum moved.
 */
#include "keyweir/watermark.h"

#include "base/error.h"
#include "base/memory.h"

/* ---- generators ---- */

void kwr_watermark_monotonous(kwr_watermark_generator *out) {
    *out = (kwr_watermark_generator){ .largest_ms = KWR_TIME_NONE };
}

kwr_status kwr_watermark_bounded(int64_t delay_ms, kwr_watermark_generator *out) {
    if (delay_ms < 0) return KWR_ERR_RANGE;
    *out = (kwr_watermark_generator){ .largest_ms = KWR_TIME_NONE, .delay_ms = delay_ms };
    return KWR_OK;
}

void kwr_watermark_seen(kwr_watermark_generator *generator, int64_t time_ms) {
    if (time_ms > generator->largest_ms) generator->largest_ms = time_ms;
}

int64_t kwr_watermark_now(const kwr_watermark_generator *generator) {
    int64_t now;
    if (__builtin_sub_overflow(generator->largest_ms, generator->delay_ms, &now) ||
        __builtin_sub_overflow(now, 1, &now))
        return KWR_TIME_NONE;
    return now;
}

/* ---- inputs ---- */

typedef struct input {
    int64_t time_ms; /* KWR_TIME_END: ended */
    bool idle;
} input;

struct kwr_watermarks {
    const kwr_env *env;
    int64_t time_ms;
    bool idle;
    uint32_t active;  /* neither idle nor ended */
    uint32_t idles;   /* the rest have ended */
    uint32_t slowest; /* active ones exactly at time_ms; 0 only while none counts */
    uint32_t count;
    input inputs[];
};

static size_t watermarks_size(uint32_t inputs) {
    return sizeof(kwr_watermarks) + (size_t)inputs * sizeof(input);
}

kwr_status kwr_watermarks_new(const kwr_env *env, uint32_t inputs, kwr_watermarks **out,
                              kwr_error *err) {
    kwr_watermarks *w = kwr_calloc(env, watermarks_size(inputs));
    if (w == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the watermarks of %u inputs", inputs);
    w->env = env;
    w->count = w->active = w->slowest = inputs;
    w->time_ms = inputs == 0 ? KWR_TIME_END : KWR_TIME_NONE;
    for (uint32_t i = 0; i < inputs; i++)
        w->inputs[i].time_ms = KWR_TIME_NONE;
    *out = w;
    return KWR_OK;
}

void kwr_watermarks_free(kwr_watermarks *watermarks) {
    if (watermarks == NULL) return;
    kwr_free(watermarks->env, watermarks, watermarks_size(watermarks->count));
}

static bool is_active(const input *in) { return !in->idle && in->time_ms != KWR_TIME_END; }

/* The smallest time of those that count, if there are any. */
static void find_slowest(kwr_watermarks *w) {
    int64_t smallest = KWR_TIME_END;
    uint32_t at_smallest = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        const input *in = &w->inputs[i];
        if (!is_active(in) || in->time_ms < w->time_ms || in->time_ms > smallest) continue;
        at_smallest = in->time_ms == smallest ? at_smallest + 1 : 1;
        smallest = in->time_ms;
    }
    if (at_smallest == 0) return;
    w->time_ms = smallest;
    w->slowest = at_smallest;
}

static void find_furthest_idle(kwr_watermarks *w) {
    for (uint32_t i = 0; i < w->count; i++) {
        const input *in = &w->inputs[i];
        if (in->idle && in->time_ms > w->time_ms) w->time_ms = in->time_ms;
    }
}

/* Of an input that has ended `idle` is false: it is in neither count. */
static void change(kwr_watermarks *w, input *in, const kwr_watermark *to) {
    if (is_active(in)) {
        w->active--;
        if (in->time_ms == w->time_ms) w->slowest--;
    } else {
        w->idles--;
    }
    if (to->time_ms > in->time_ms) in->time_ms = to->time_ms;
    in->idle = to->idle && in->time_ms != KWR_TIME_END;
    if (is_active(in)) {
        w->active++;
        if (in->time_ms == w->time_ms) w->slowest++;
    } else if (in->idle) {
        w->idles++;
    }
}

kwr_status kwr_watermarks_receive(kwr_watermarks *watermarks, uint32_t number,
                                  const kwr_watermark *watermark, kwr_watermark_step *out) {
    kwr_watermarks *w = watermarks;
    if (number >= w->count) return KWR_ERR_RANGE;
    if (w->inputs[number].time_ms == KWR_TIME_END) return KWR_ERR_MISUSE;
    const kwr_watermark before = kwr_watermarks_now(w);
    change(w, &w->inputs[number], watermark);
    if (w->active == 0 && w->idles == 0)
        w->time_ms = KWR_TIME_END;
    else if (w->active == 0)
        find_furthest_idle(w);
    else if (w->slowest == 0)
        find_slowest(w);
    w->idle = w->active == 0 && w->idles > 0;
    const kwr_watermark now = kwr_watermarks_now(w);
    *out = (kwr_watermark_step){
        .advanced = now.time_ms != before.time_ms,
        .broadcast = now.time_ms != before.time_ms || now.idle != before.idle,
        .watermark = now,
    };
    return KWR_OK;
}

kwr_watermark kwr_watermarks_now(const kwr_watermarks *watermarks) {
    return (kwr_watermark){ .time_ms = watermarks->time_ms, .idle = watermarks->idle };
}

kwr_status kwr_watermarks_input(const kwr_watermarks *watermarks, uint32_t number,
                                kwr_watermark *out) {
    if (number >= watermarks->count) return KWR_ERR_RANGE;
    *out = (kwr_watermark){ .time_ms = watermarks->inputs[number].time_ms,
                            .idle = watermarks->inputs[number].idle };
    return KWR_OK;
}
