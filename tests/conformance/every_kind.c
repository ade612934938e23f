/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/conformance/every_kind.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { KEYS = 150, LONG = 4000 };

typedef struct handles {
    kwr_value *value;
    kwr_value *number;
    kwr_reducing *sum;
    kwr_aggregating *mean;
    kwr_list *list;
    kwr_map *map;
    kwr_timers *timers;
    kwr_raw *raw;
} handles;

kwr_backend_options every_kind_options(const kwr_env *env, const char *engine,
                                       const char *directory) {
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = env,
                                  .engine = engine,
                                  .max_parallelism = EVERY_KIND_GROUPS,
                                  .seed = EVERY_KIND_SEED,
                                  .key_type = { .kind = KWR_TYPE_STRING },
                                  .directory = directory };
}

/* Sum and count of i64 inputs. */
static kwr_status mean_create(void *ctx, void *out, size_t capacity, size_t *size) {
    (void)ctx;
    *size = 16;
    if (*size <= capacity) memset(out, 0, *size);
    return KWR_OK;
}

static kwr_status mean_add(void *ctx, kwr_slice accumulator, kwr_slice input, void *out,
                           size_t capacity, size_t *size) {
    (void)ctx;
    int64_t sums[2], add;
    *size = sizeof sums;
    if (*size > capacity) return KWR_OK;
    memcpy(sums, accumulator.data, sizeof sums);
    memcpy(&add, input.data, sizeof add);
    sums[0] += add;
    sums[1]++;
    memcpy(out, sums, sizeof sums);
    return KWR_OK;
}

static kwr_status mean_result(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                              size_t *size) {
    (void)ctx;
    *size = 8;
    if (*size <= capacity) memcpy(out, accumulator.data, 8);
    return KWR_OK;
}

static kwr_status open_folds(kwr_backend *backend, handles *h, kwr_error *err) {
    const kwr_type i64 = { .kind = KWR_TYPE_I64 }, string = { .kind = KWR_TYPE_STRING };
    const kwr_reducing_descriptor sum = { .struct_size = sizeof sum,
                                          .name = "sum",
                                          .type = i64,
                                          .namespace_type = string,
                                          .reduce = KWR_REDUCE_SUM };
    const kwr_aggregating_descriptor mean = { .struct_size = sizeof mean,
                                              .name = "mean",
                                              .input_type = i64,
                                              .result_type = i64,
                                              .create = mean_create,
                                              .add = mean_add,
                                              .result = mean_result };
    KWR_TRY(kwr_reducing_open(backend, &sum, &h->sum, err));
    return kwr_aggregating_open(backend, &mean, &h->mean, err);
}

static kwr_status open_all(kwr_backend *backend, handles *h, kwr_error *err) {
    const kwr_type i64 = { .kind = KWR_TYPE_I64 }, string = { .kind = KWR_TYPE_STRING };
    const kwr_value_descriptor value = { .struct_size = sizeof value,
                                         .name = "value",
                                         .namespace_type = string };
    const kwr_value_descriptor number = { .struct_size = sizeof number,
                                          .name = "number",
                                          .type = i64 };
    const kwr_list_descriptor list = { .struct_size = sizeof list,
                                       .name = "list",
                                       .namespace_type = string };
    const kwr_map_descriptor map = { .struct_size = sizeof map,
                                     .name = "map",
                                     .user_key_type = string };
    const kwr_timers_descriptor timers = { .struct_size = sizeof timers, .name = "timers" };
    const kwr_raw_descriptor raw = { .struct_size = sizeof raw, .name = "raw" };
    KWR_TRY(kwr_value_open(backend, &value, &h->value, err));
    KWR_TRY(kwr_value_open(backend, &number, &h->number, err));
    KWR_TRY(open_folds(backend, h, err));
    KWR_TRY(kwr_list_open(backend, &list, &h->list, err));
    KWR_TRY(kwr_map_open(backend, &map, &h->map, err));
    KWR_TRY(kwr_timers_open(backend, &timers, &h->timers, err));
    return kwr_raw_open(backend, &raw, &h->raw, err);
}

typedef struct text {
    char bytes[400];
} text;

/* `number` in digits, then letters up to `size` bytes. */
static kwr_slice text_of(text *t, unsigned number, size_t size) {
    size_t length = (size_t)snprintf(t->bytes, sizeof t->bytes, "%u:", number);
    while (length < size) {
        t->bytes[length] = (char)('a' + (number + length) % 26);
        length++;
    }
    return (kwr_slice){ t->bytes, length };
}

/* Short and long: sizes whose varints have one byte and two. */
static size_t key_size(unsigned i) { return i % 4 == 0 ? 100 + i : 1 + i % 7; }
static unsigned elements_of(unsigned i) { return i % 50 == 0 ? LONG : i % 6; }

static kwr_slice name_of(text *t, unsigned i) {
    return i % 3 == 0 ? (kwr_slice){ t->bytes, 0 } : text_of(t, i % 5, i % 3 == 1 ? 3 : 200);
}

static kwr_status fill_collections(const handles *h, unsigned i, bool winding) {
    text a, b;
    KWR_TRY(kwr_list_set_namespace(h->list, name_of(&a, i)));
    if (winding) {
        const kwr_slice wrong[] = { text_of(&a, i, 9), text_of(&b, i, 20) };
        KWR_TRY(kwr_list_add_all(h->list, wrong, 2));
        KWR_TRY(kwr_list_clear(h->list));
    }
    for (unsigned j = 0; j < elements_of(i); j++) {
        KWR_TRY(kwr_list_add(h->list, text_of(&a, j, j % 40)));
        const unsigned at = winding ? elements_of(i) - 1 - j : j;
        if (winding) KWR_TRY(kwr_map_put(h->map, text_of(&a, at, at % 20), text_of(&b, j, 30)));
        KWR_TRY(kwr_map_put(h->map, text_of(&a, at, at % 20), text_of(&b, at, at % 90)));
    }
    if (winding) {
        KWR_TRY(kwr_map_put(h->map, text_of(&a, LONG + 1, 9), text_of(&b, i, 4)));
        KWR_TRY(kwr_map_remove(h->map, text_of(&a, LONG + 1, 9)));
    }
    KWR_TRY(kwr_timers_register(h->timers, KWR_EVENT_TIME, (int64_t)i * 1000 - 70000));
    if (winding) {
        KWR_TRY(kwr_timers_register(h->timers, KWR_PROCESSING_TIME, 7));
        KWR_TRY(kwr_timers_delete(h->timers, KWR_PROCESSING_TIME, 7));
    }
    return KWR_OK;
}

static kwr_status fill_key(kwr_backend *backend, const handles *h, unsigned i, bool winding) {
    text a;
    const int64_t one = 1, number = -(int64_t)i, sum = (int64_t)i * 3;
    const kwr_slice bytes_of_one = { &one, sizeof one };
    static const uint8_t large[20000];
    KWR_TRY(kwr_backend_set_key(backend, text_of(&a, i, key_size(i))));
    KWR_TRY(kwr_value_set_namespace(h->value, name_of(&a, i)));
    if (winding) KWR_TRY(kwr_value_put(h->value, text_of(&a, i + 1, 77)));
    KWR_TRY(kwr_value_put(h->value,
                          i % 40 == 0 ? (kwr_slice){ large, sizeof large } : text_of(&a, i, i)));
    KWR_TRY(kwr_value_put(h->number, (kwr_slice){ &number, sizeof number }));
    KWR_TRY(kwr_reducing_set_namespace(h->sum, name_of(&a, i)));
    for (int j = 0; j < 3; j++)
        KWR_TRY(kwr_reducing_add(h->sum, (kwr_slice){ &number, sizeof number }, NULL));
    KWR_TRY(kwr_reducing_add(h->sum, (kwr_slice){ &sum, sizeof sum }, NULL));
    KWR_TRY(kwr_aggregating_add(h->mean, (kwr_slice){ &sum, sizeof sum }));
    KWR_TRY(kwr_aggregating_add(h->mean, bytes_of_one));
    return fill_collections(h, i, winding);
}

static kwr_status fill(kwr_backend *backend, const handles *h, bool winding) {
    text a;
    for (unsigned i = 0; i < KEYS; i++)
        KWR_TRY(fill_key(backend, h, winding ? KEYS - 1 - i : i, winding));
    for (uint32_t group = 0; group < EVERY_KIND_GROUPS; group += 3)
        KWR_TRY(kwr_raw_put(h->raw, group, text_of(&a, group, 50 + group)));
    if (!winding) return KWR_OK;
    KWR_TRY(kwr_backend_set_key(backend, text_of(&a, KEYS, 12)));
    KWR_TRY(kwr_value_put(h->number, (kwr_slice){ &(int64_t){ 5 }, 8 }));
    return kwr_value_clear(h->number);
}

kwr_status every_kind_fill(kwr_backend *backend, bool winding, kwr_error *err) {
    handles h;
    KWR_TRY(open_all(backend, &h, err));
    const kwr_status status = fill(backend, &h, winding);
    if (status < KWR_OK && err != NULL) *err = *kwr_backend_error(backend);
    return status;
}
