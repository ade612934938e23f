/* SPDX-License-Identifier: Apache-2.0 */
/* Reducing and aggregating state: a sum, the longest of what was added, and a mean. */
#include <stdio.h>
#include <string.h>

#include "tests/programs/states.h"

bool is_number(kwr_slice got, int64_t want) {
    return got.size == sizeof want && memcmp(got.data, &want, sizeof want) == 0;
}

/* ---- a sum ---- */

static void sum_open(program *p, subtask *t) {
    const kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                 .name = "sum",
                                                 .type = { .kind = KWR_TYPE_I64 },
                                                 .reduce = KWR_REDUCE_SUM };
    MUST(kwr_reducing_open(t->backend, &descriptor, &t->sum, NULL));
    t->states[STATE_SUM] = kwr_reducing_state(t->sum);
}

static kwr_status sum_set_namespace(subtask *t, kwr_slice name) {
    return kwr_reducing_set_namespace(t->sum, name);
}

static void sum_compare(program *p, subtask *t, const cell *want) {
    kwr_slice got;
    EXPECT(want->present ? KWR_OK : KWR_NOT_FOUND, kwr_reducing_get(t->sum, &got));
    if (want->present) REQUIRE(is_number(got, want->sum));
}

static void sum_act(program *p, subtask *t, cell *want) {
    if (percent(p, 75)) {
        p->doing = "sum add";
        const int64_t number = (int64_t)below(p, 1000) - 500;
        kwr_slice stored;
        MUST(kwr_reducing_add(t->sum, (kwr_slice){ &number, sizeof number }, &stored));
        want->sum += number;
        want->present = true;
        REQUIRE(is_number(stored, want->sum));
    } else if (want->present && want->sum != 0 && percent(p, 50)) {
        p->doing = "sum overflow";
        const int64_t number = want->sum < 0 ? INT64_MIN : INT64_MAX;
        EXPECT(KWR_ERR_RANGE,
               kwr_reducing_add(t->sum, (kwr_slice){ &number, sizeof number }, NULL));
    } else {
        p->doing = "sum clear";
        MUST(kwr_reducing_clear(t->sum));
        cell_clear(want);
    }
}

static kwr_status sum_merge(subtask *t, kwr_slice target, const kwr_slice *sources, size_t count) {
    return kwr_reducing_merge_namespaces(t->sum, target, sources, count);
}

static void sum_join(cell *target, const cell *source) {
    target->sum += source->sum;
    target->present = true;
}

static void sum_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(want->present && nth == 0 && is_number(entry->value, want->sum));
}

const state_row state_sum = {
    .name = "sum",
    .open = sum_open,
    .set_namespace = sum_set_namespace,
    .act = sum_act,
    .compare = sum_compare,
    .meet = sum_meet,
    .merge = sum_merge,
    .join = sum_join,
};

/* ---- the longest, of equally long ones the greatest ---- */

static int longer(kwr_slice a, kwr_slice b) {
    if (a.size != b.size) return a.size > b.size ? 1 : -1;
    return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
}

static kwr_status keep_longest(void *ctx, kwr_slice current, kwr_slice value, void *out,
                               size_t capacity, size_t *size) {
    (void)ctx;
    const kwr_slice best = longer(value, current) > 0 ? value : current;
    *size = best.size;
    if (best.size <= capacity && best.size > 0) memcpy(out, best.data, best.size);
    return KWR_OK;
}

static void longest_open(program *p, subtask *t) {
    const kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                 .name = "longest",
                                                 .reduce = KWR_REDUCE_CUSTOM,
                                                 .fn = keep_longest };
    MUST(kwr_reducing_open(t->backend, &descriptor, &t->longest, NULL));
    t->states[STATE_LONGEST] = kwr_reducing_state(t->longest);
}

static kwr_status longest_set_namespace(subtask *t, kwr_slice name) {
    return kwr_reducing_set_namespace(t->longest, name);
}

static void longest_compare(program *p, subtask *t, const cell *want) {
    kwr_slice got;
    EXPECT(want->present ? KWR_OK : KWR_NOT_FOUND, kwr_reducing_get(t->longest, &got));
    if (want->present) REQUIRE(holds_item(got, want->value));
}

static bool item_longer(item a, item b) {
    if (a.size != b.size) return a.size > b.size;
    for (size_t i = 0; i < a.size; i++) {
        const uint8_t x = item_byte(a.tag, i), y = item_byte(b.tag, i);
        if (x != y) return x > y;
    }
    return false;
}

static void longest_join(cell *target, const cell *source) {
    if (!target->present || item_longer(source->value, target->value))
        target->value = source->value;
    target->present = true;
}

static void longest_act(program *p, subtask *t, cell *want) {
    if (percent(p, 85)) {
        p->doing = "longest add";
        const cell added = { .present = true, .value = some_item(p) };
        MUST(kwr_reducing_add(t->longest, item_bytes(p, added.value), NULL));
        longest_join(want, &added);
    } else {
        p->doing = "longest clear";
        MUST(kwr_reducing_clear(t->longest));
        cell_clear(want);
    }
}

static kwr_status longest_merge(subtask *t, kwr_slice target, const kwr_slice *sources,
                                size_t count) {
    return kwr_reducing_merge_namespaces(t->longest, target, sources, count);
}

static void longest_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(want->present && nth == 0 && holds_item(entry->value, want->value));
}

const state_row state_longest = {
    .name = "longest",
    .open = longest_open,
    .set_namespace = longest_set_namespace,
    .act = longest_act,
    .compare = longest_compare,
    .meet = longest_meet,
    .merge = longest_merge,
    .join = longest_join,
};

/* ---- a mean: numbers in, text out; the accumulator grows with what it has seen ---- */

typedef struct seen {
    int64_t sum, times;
} seen;

enum { PADDING = 13 }; /* bytes of the accumulator for each input */

static size_t write_seen(const seen *s, void *out, size_t capacity) {
    const size_t size = sizeof *s + (size_t)s->times * PADDING;
    if (size > capacity) return size;
    memcpy(out, s, sizeof *s);
    memset((uint8_t *)out + sizeof *s, 0x5a, size - sizeof *s);
    return size;
}
static seen read_seen(kwr_slice accumulator) {
    seen s;
    memcpy(&s, accumulator.data, sizeof s);
    return s;
}

static kwr_status mean_create(void *ctx, void *out, size_t capacity, size_t *size) {
    (void)ctx;
    const seen none = { 0 };
    *size = write_seen(&none, out, capacity);
    return KWR_OK;
}
static kwr_status mean_add(void *ctx, kwr_slice accumulator, kwr_slice input, void *out,
                           size_t capacity, size_t *size) {
    (void)ctx;
    seen s = read_seen(accumulator);
    int64_t number;
    memcpy(&number, input.data, sizeof number);
    s.sum += number;
    s.times++;
    *size = write_seen(&s, out, capacity);
    return KWR_OK;
}
static kwr_status mean_fold(void *ctx, kwr_slice a, kwr_slice b, void *out, size_t capacity,
                            size_t *size) {
    (void)ctx;
    seen s = read_seen(a);
    s.sum += read_seen(b).sum;
    s.times += read_seen(b).times;
    *size = write_seen(&s, out, capacity);
    return KWR_OK;
}
static size_t mean_text(int64_t sum, int64_t times, char *out, size_t capacity) {
    return (size_t)snprintf(out, capacity, "%lld/%lld", (long long)sum, (long long)times);
}
static kwr_status mean_result(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                              size_t *size) {
    (void)ctx;
    const seen s = read_seen(accumulator);
    char text[64];
    *size = mean_text(s.sum, s.times, text, sizeof text);
    if (*size <= capacity) memcpy(out, text, *size);
    return KWR_OK;
}

static void mean_open(program *p, subtask *t) {
    const kwr_aggregating_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                    .name = "mean",
                                                    .input_type = { .kind = KWR_TYPE_I64 },
                                                    .result_type = { .kind = KWR_TYPE_STRING },
                                                    .create = mean_create,
                                                    .add = mean_add,
                                                    .merge = mean_fold,
                                                    .result = mean_result };
    MUST(kwr_aggregating_open(t->backend, &descriptor, &t->mean, NULL));
    t->states[STATE_MEAN] = kwr_aggregating_state(t->mean);
}

static kwr_status mean_set_namespace(subtask *t, kwr_slice name) {
    return kwr_aggregating_set_namespace(t->mean, name);
}

static void mean_compare(program *p, subtask *t, const cell *want) {
    kwr_slice got;
    EXPECT(want->present ? KWR_OK : KWR_NOT_FOUND, kwr_aggregating_get(t->mean, &got));
    if (!want->present) return;
    char text[64];
    const size_t size = mean_text(want->sum, want->times, text, sizeof text);
    REQUIRE(slice_is(got, (kwr_slice){ text, size }));
}

static void mean_act(program *p, subtask *t, cell *want) {
    if (percent(p, 85)) {
        p->doing = "mean add";
        const int64_t number = (int64_t)below(p, 2000) - 1000;
        MUST(kwr_aggregating_add(t->mean, (kwr_slice){ &number, sizeof number }));
        want->present = true;
        want->sum += number;
        want->times++;
    } else {
        p->doing = "mean clear";
        MUST(kwr_aggregating_clear(t->mean));
        cell_clear(want);
    }
}

static kwr_status mean_merge(subtask *t, kwr_slice target, const kwr_slice *sources, size_t count) {
    return kwr_aggregating_merge_namespaces(t->mean, target, sources, count);
}

static void mean_join(cell *target, const cell *source) {
    target->sum += source->sum;
    target->times += source->times;
    target->present = true;
}

static void mean_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(want->present && nth == 0);
    REQUIRE(entry->value.size == sizeof(seen) + (size_t)want->times * PADDING);
    const seen s = read_seen(entry->value);
    REQUIRE(s.sum == want->sum && s.times == want->times);
}

const state_row state_mean = {
    .name = "mean",
    .open = mean_open,
    .set_namespace = mean_set_namespace,
    .act = mean_act,
    .compare = mean_compare,
    .meet = mean_meet,
    .merge = mean_merge,
    .join = mean_join,
};
