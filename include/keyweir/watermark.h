/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watermarks: how far event time has come. A watermark of t says that no record with a time of t
 * or earlier is expected any more. Sources make them from the times of their records; every task
 * takes the minimum over its inputs and sends that on.
 *
 * Pure state machines, as those of keyweir/barrier.h: no clock, no threads, no I/O. Nothing of them
 * is part of a checkpoint: after a restore there is no watermark until the first comes.
 */
#ifndef KEYWEIR_WATERMARK_H
#define KEYWEIR_WATERMARK_H

#include "keyweir/env.h"
#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The watermark after the last record: event time has ended. */
#define KWR_TIME_END INT64_MAX

/* ---- generators: the watermarks of one source split ---- */

/* A plain value: copy it, put it on the stack, keep one for each split. */
typedef struct kwr_watermark_generator {
    int64_t largest_ms; /* of all times seen, KWR_TIME_NONE: none yet */
    int64_t delay_ms;   /* how far behind the largest a record may come, 0: never */
} kwr_watermark_generator;

/* Times that never decrease: a delay of 0. [any] */
KWR_API void kwr_watermark_monotonous(kwr_watermark_generator *out);
/* Times at most `delay_ms` behind the largest before them. KWR_ERR_RANGE: negative. [any] */
KWR_API KWR_CHECK kwr_status kwr_watermark_bounded(int64_t delay_ms, kwr_watermark_generator *out);
/* A record of this time was read. Late ones change nothing, KWR_TIME_NONE neither. */
KWR_API void kwr_watermark_seen(kwr_watermark_generator *generator, int64_t time_ms);
/*
 * Largest time - delay - 1 ms: a record with the largest time may still follow, one that is later
 * than the delay allows may not. KWR_TIME_NONE before the first record, and where the difference
 * is below all times. Never decreases. When to ask, and send, is the source's choice.
 */
KWR_API int64_t kwr_watermark_now(const kwr_watermark_generator *generator);

/* ---- inputs: one watermark out of many ---- */

/* What travels between the records of a channel: the sender's event time as it is now. */
typedef struct kwr_watermark {
    int64_t time_ms; /* KWR_TIME_NONE: none yet; KWR_TIME_END: the sender has ended */
    bool idle;       /* nothing is coming at present: do not wait for this sender */
} kwr_watermark;

typedef struct kwr_watermarks kwr_watermarks;

/* What one event leads to. */
typedef struct kwr_watermark_step {
    bool broadcast;          /* `watermark` is news: send it to every output channel */
    bool advanced;           /* its time has grown: pop what is due up to it, then send it on */
    kwr_watermark watermark; /* of this task now, news or not */
} kwr_watermark_step;

/*
 * The inputs of one task, numbered from 0, all active and without a watermark. Without any input
 * the task is at KWR_TIME_END. KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_watermarks_new(const kwr_env *env, uint32_t inputs,
                                                kwr_watermarks **out, kwr_error *err);
KWR_API void kwr_watermarks_free(kwr_watermarks *watermarks);
/*
 * A watermark arrived. The task's is the smallest of its active inputs and never decreases:
 *   - an earlier one than the input had is taken for what the input had;
 *   - an idle input is not waited for; it is active again with the first message that is not idle,
 *     and counts in the minimum again once it has reached the task's watermark;
 *   - when no input is active the task is idle, at the largest watermark of its idle inputs: the
 *     order in which they fell idle makes no difference;
 *   - an input at KWR_TIME_END has ended, and is out of it for good; when all have, so has the
 * task. KWR_ERR_RANGE: no such input; KWR_ERR_MISUSE: it has ended. Costs a look at every input
 * only when the slowest moves.
 */
KWR_API KWR_CHECK kwr_status kwr_watermarks_receive(kwr_watermarks *watermarks, uint32_t input,
                                                    const kwr_watermark *watermark,
                                                    kwr_watermark_step *out);
/* The task's watermark; that of one input, which is KWR_TIME_END when it has ended.
 * KWR_ERR_RANGE. */
KWR_API kwr_watermark kwr_watermarks_now(const kwr_watermarks *watermarks);
KWR_API KWR_CHECK kwr_status kwr_watermarks_input(const kwr_watermarks *watermarks, uint32_t input,
                                                  kwr_watermark *out);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_WATERMARK_H */
