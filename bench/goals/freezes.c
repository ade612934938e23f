/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P4: what a freeze costs the owner: the call itself, whatever the size; the longest operation
 * afterwards, when what the view needs is copied first; and the rate that is left.
 */
#include "bench/goals/goals.h"

enum { KEY = 16, VALUE = 100, STATES_MAX = 16, STREAM = 1 << 18 };

typedef struct frozen {
    goals_task t;
    kwr_value *states[STATES_MAX];
    unsigned state_count;
    uint8_t *keys;
    size_t next;
} frozen;

static void open_frozen(frozen *f, const goals *g, uint64_t entries, unsigned states) {
    *f = (frozen){ .state_count = states };
    goals_open(&f->t, "memory", NULL, KEY, VALUE);
    uint8_t key[KEY], value[VALUE];
    for (unsigned s = 0; s < states; s++) {
        char name[16];
        kwr_error err;
        snprintf(name, sizeof name, "value%u", s);
        const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor, .name = name };
        bench_must(kwr_value_open(f->t.backend, &descriptor, &f->states[s], &err), &err, "state");
    }
    for (uint64_t i = 0; i < entries; i++) {
        goals_key(key, KEY, i);
        goals_value(value, VALUE, i);
        goals_must(&f->t, kwr_backend_set_key(f->t.backend, (kwr_slice){ key, KEY }), "key");
        goals_must(&f->t, kwr_value_put(f->states[i % states], (kwr_slice){ value, VALUE }), "put");
    }
    f->t.entries = entries;
    f->keys = malloc((size_t)STREAM * 8);
    if (f->keys == NULL) exit(1);
    bench_rng rng = { g->b.seed };
    for (size_t i = 0; i < STREAM; i++) {
        const uint64_t number = bench_below(&rng, entries);
        memcpy(f->keys + i * 8, &number, 8);
    }
}

static void close_frozen(frozen *f) {
    free(f->keys);
    goals_close(&f->t);
}

static inline void operate(frozen *f) {
    uint64_t number;
    memcpy(&number, f->keys + f->next * 8, 8);
    f->next = (f->next + 1) % STREAM;
    uint8_t key[KEY];
    goals_key(key, KEY, number);
    void *bytes = NULL;
    kwr_status status = kwr_backend_set_key(f->t.backend, (kwr_slice){ key, KEY });
    if (status == KWR_OK)
        status = kwr_value_modify(f->states[number % f->state_count], KWR_KEEP_SIZE, &bytes, NULL);
    if (status != KWR_OK) goals_must(&f->t, status, "modify");
    memcpy(bytes, &f->next, sizeof f->next);
}

/* The calls alone, with a few writes between them. */
static void time_freezes(frozen *f, unsigned count, bench_times *times) {
    for (unsigned i = 0; i < count; i++) {
        for (unsigned n = 0; n < 100; n++)
            operate(f);
        kwr_view *view;
        const uint64_t start = bench_now_ns();
        goals_must(&f->t, kwr_backend_freeze(f->t.backend, &view), "freeze");
        bench_add(times, bench_now_ns() - start);
        for (unsigned n = 0; n < 100; n++)
            operate(f);
        kwr_view_release(view);
        if (i % 16 == 0) goals_settle(&f->t);
    }
    goals_settle(&f->t);
}

static double run_for(frozen *f, double seconds, clockid_t clock, bench_times *times) {
    const uint64_t start = bench_now_ns(), length = (uint64_t)(seconds * 1e9);
    uint64_t before = bench_clock_ns(clock), done = 0, now = start;
    while (now - start < length) {
        operate(f);
        const uint64_t after = bench_clock_ns(clock);
        bench_add(times, after - before);
        before = after;
        done++;
        if (clock == CLOCK_MONOTONIC)
            now = after;
        else if (done % 16 == 0)
            now = bench_now_ns();
    }
    return (double)done * 1e9 / (double)(now - start);
}

/* A view held for the whole time, as if its snapshot were slow. */
static double run_frozen(frozen *f, double seconds, clockid_t clock, bench_times *times) {
    kwr_view *view;
    goals_must(&f->t, kwr_backend_freeze(f->t.backend, &view), "freeze");
    const double rate = run_for(f, seconds, clock, times);
    kwr_view_release(view);
    goals_settle(&f->t);
    return rate;
}

typedef struct result {
    double median_us, p99_us;
} result;

static result measure_freezes(goals *g, frozen *f) {
    bench_times *times = calloc(1, sizeof *times);
    if (times == NULL) exit(1);
    time_freezes(f, (unsigned)goals_size(g, 1000, 2000), times);
    const result r = { (double)bench_quantile(times, 0.5) / 1e3,
                       (double)bench_quantile(times, 0.99) / 1e3 };
    goals_detail(g,
                 "freeze of %" PRIu64 " entries in %u states: median %.2f us, p99 %.2f, max %.2f",
                 f->t.entries, f->state_count, r.median_us, r.p99_us, (double)times->most / 1e3);
    bench_json(&g->b, "freeze",
               "\"entries\":%" PRIu64 ",\"states\":%u,\"median_us\":%.3f,\"p99_us\":%.3f",
               f->t.entries, f->state_count, r.median_us, r.p99_us);
    free(times);
    return r;
}

void goals_freezes(goals *g) {
    if (!goals_wanted(g, "P4")) return;
    const uint64_t large = goals_size(g, 1000000, 10000000);
    double worst_ratio = 0, worst_p99 = 0, stall_ms = 0, rate = 1e9, wall_us = 0;
    unsigned worst_states = 1;
    for (unsigned states = 1; states <= 16; states += 15) {
        frozen f;
        open_frozen(&f, g, 10000, states);
        const result few = measure_freezes(g, &f);
        close_frozen(&f);
        open_frozen(&f, g, large, states);
        const result many = measure_freezes(g, &f);
        if (many.median_us / few.median_us > worst_ratio) {
            worst_ratio = many.median_us / few.median_us;
            worst_states = states;
        }
        if (many.p99_us > worst_p99) worst_p99 = many.p99_us;

        const double seconds = g->quick ? 0.4 : 1;
        bench_times *times = calloc(3, sizeof *times);
        if (times == NULL) exit(1);
        const double before = run_for(&f, seconds, CLOCK_MONOTONIC, &times[0]);
        /* All pages are copied, if there is time. */
        goals_touch_memory(large * (KEY + VALUE) * 2);
        const double after = run_frozen(&f, seconds, CLOCK_MONOTONIC, &times[1]);
        (void)run_frozen(&f, seconds, CLOCK_THREAD_CPUTIME_ID, &times[2]);
        if (after / before < rate) rate = after / before;
        if ((double)times[2].most / 1e6 > stall_ms) stall_ms = (double)times[2].most / 1e6;
        if ((double)bench_quantile(&times[1], 0.999) / 1e3 > wall_us)
            wall_us = (double)bench_quantile(&times[1], 0.999) / 1e3;
        goals_detail(g, "after it, %u states: %.2f of %.2f M/s, longest %.2f ms of the thread",
                     states, after / 1e6, before / 1e6, (double)times[2].most / 1e6);
        free(times);
        close_frozen(&f);
    }
    goals_judge(g, "P4", worst_ratio, GOAL_AT_MOST, 1.5,
                "time of a freeze, %" PRIu64 " entries against 10000, %u states", large,
                worst_states);
    goals_judge(g, "P4", worst_p99 / 200, GOAL_AT_MOST, 1, "p99 of a freeze, %.1f us of 200",
                worst_p99);
    goals_judge(g, "P4", stall_ms / 2, GOAL_AT_MOST, 1,
                "longest stall of the owner, %.2f ms of 2 of its own time; p99.9 on the wall "
                "%.1f us",
                stall_ms, wall_us);
    goals_judge(g, "P4", rate, GOAL_AT_LEAST, 0.5, "owner's rate after the freeze");
}
