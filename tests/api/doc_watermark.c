/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/watermarks.md quotes. It ends with 0 when all it says is true. */
#include <stdio.h>

#include <keyweir/keyweir.h>

/* ---- the source ---- */

/* Two splits; a record may come two seconds behind the latest of its split. */
static kwr_status read_records(int64_t marks[2]) {
    static const int64_t times[2][3] = { { 10000, 12000, 11500 }, { 9000, 9500, 9700 } };
    for (int split = 0; split < 2; split++) {
        kwr_watermark_generator generator;
        const kwr_status status = kwr_watermark_bounded(2000, &generator);
        if (status < KWR_OK) return status;
        for (int i = 0; i < 3; i++)
            kwr_watermark_seen(&generator, times[split][i]);
        marks[split] = kwr_watermark_now(&generator);
    }
    return KWR_OK;
}

/* ---- the task ---- */

static void forward(const kwr_watermark_step *step, int *sent) {
    if (!step->broadcast) return;
    /* Here a task pops the timers that are due, then sends the watermark to every output. */
    printf("now at %lld%s\n", (long long)step->watermark.time_ms,
           step->watermark.idle ? ", idle" : "");
    (*sent)++;
}

static kwr_status run(kwr_watermarks *inputs, int *sent) {
    int64_t marks[2];
    kwr_watermark_step step;
    kwr_status status = read_records(marks);
    for (uint32_t split = 0; split < 2 && status >= KWR_OK; split++) {
        const kwr_watermark mark = { .time_ms = marks[split] };
        status = kwr_watermarks_receive(inputs, split, &mark, &step);
        if (status >= KWR_OK) forward(&step, sent);
    }
    /* The second split has nothing to read for now: the first is not held back by it. */
    const kwr_watermark quiet = { .time_ms = KWR_TIME_NONE, .idle = true };
    if (status >= KWR_OK) status = kwr_watermarks_receive(inputs, 1, &quiet, &step);
    if (status >= KWR_OK) forward(&step, sent);
    return status;
}

int main(void) {
    kwr_error err = { 0 };
    kwr_env *env = NULL;
    kwr_watermarks *inputs = NULL;
    int sent = 0;
    kwr_status status = kwr_env_posix_open(NULL, &env, &err);
    if (status >= KWR_OK) status = kwr_watermarks_new(env, 2, &inputs, &err);
    if (status >= KWR_OK) status = run(inputs, &sent);
    if (status < KWR_OK) fprintf(stderr, "%s: %s\n", kwr_status_name(status), err.text);
    const bool as_told = inputs != NULL && sent == 2 && kwr_watermarks_now(inputs).time_ms == 9999;
    kwr_watermarks_free(inputs);
    kwr_env_posix_close(env);
    return status >= KWR_OK && as_told ? 0 : 1;
}
