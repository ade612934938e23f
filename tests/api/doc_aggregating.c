/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state-aggregating.md quotes: the mean of integers, as a floating-point number.
 */
#include "doc_main.h"

typedef struct mean {
    int64_t sum;
    int64_t count;
} mean;

static kwr_status write_mean(const mean *m, void *out, size_t capacity, size_t *size) {
    *size = sizeof *m;
    if (sizeof *m <= capacity) memcpy(out, m, sizeof *m);
    return KWR_OK;
}

static kwr_status create(void *ctx, void *out, size_t capacity, size_t *size) {
    (void)ctx;
    return write_mean(&(mean){ 0, 0 }, out, capacity, size);
}

static kwr_status add(void *ctx, kwr_slice accumulator, kwr_slice input, void *out, size_t capacity,
                      size_t *size) {
    (void)ctx;
    mean m;
    int32_t number;
    memcpy(&m, accumulator.data, sizeof m);
    memcpy(&number, input.data, sizeof number);
    m.sum += number;
    m.count++;
    return write_mean(&m, out, capacity, size);
}

static kwr_status merge(void *ctx, kwr_slice accumulator, kwr_slice other, void *out,
                        size_t capacity, size_t *size) {
    (void)ctx;
    mean m, more;
    memcpy(&m, accumulator.data, sizeof m);
    memcpy(&more, other.data, sizeof more);
    m.sum += more.sum;
    m.count += more.count;
    return write_mean(&m, out, capacity, size);
}

static kwr_status result(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                         size_t *size) {
    (void)ctx;
    mean m;
    memcpy(&m, accumulator.data, sizeof m);
    const double value = (double)m.sum / (double)m.count;
    *size = sizeof value;
    if (sizeof value <= capacity) memcpy(out, &value, sizeof value);
    return KWR_OK;
}

static kwr_status run(kwr_backend *backend) {
    const kwr_aggregating_descriptor mean_is = {
        .struct_size = sizeof mean_is,
        .name = "mean",
        .type = { .kind = KWR_TYPE_OPAQUE, .version = 1 }, /* a struct mean */
        .input_type = { .kind = KWR_TYPE_I32 },
        .result_type = { .kind = KWR_TYPE_F64 },
        .create = create,
        .add = add,
        .merge = merge,
        .result = result,
    };
    kwr_aggregating *means;
    TRY(kwr_aggregating_open(backend, &mean_is, &means, NULL));
    TRY(kwr_backend_set_key_string(backend, "cellar"));
    kwr_slice bytes;
    SAYS(kwr_aggregating_get(means, &bytes) == KWR_NOT_FOUND);

    static const int32_t readings[] = { 11, 12, 16 };
    for (int i = 0; i < 3; i++)
        TRY(kwr_aggregating_add(means, (kwr_slice){ &readings[i], sizeof readings[i] }));
    double value;
    TRY(kwr_aggregating_get(means, &bytes));
    memcpy(&value, bytes.data, sizeof value);
    printf("the mean is %g\n", value);
    SAYS(value == 13);
    SAYS(kwr_aggregating_add(means, text("12345")) == KWR_ERR_RANGE); /* no i32 */
    return KWR_OK;
}

int main(void) { return doc_main(run); }
