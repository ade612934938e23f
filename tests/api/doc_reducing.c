/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state-reducing.md quotes: visits summed, and the longest name kept. */
#include "doc_main.h"

/* The longer of two texts; of equals the first in byte order, so that the order does not matter. */
static kwr_status longer(void *ctx, kwr_slice current, kwr_slice value, void *out, size_t capacity,
                         size_t *size) {
    (void)ctx;
    bool take = value.size > current.size;
    if (value.size == current.size && value.size > 0)
        take = memcmp(value.data, current.data, value.size) < 0;
    const kwr_slice keep = take ? value : current;
    *size = keep.size;
    if (keep.size > 0 && keep.size <= capacity) memcpy(out, keep.data, keep.size);
    return KWR_OK;
}

static kwr_status run(kwr_backend *backend) {
    const kwr_reducing_descriptor visits_are = {
        .struct_size = sizeof visits_are,
        .name = "visits",
        .type = { .kind = KWR_TYPE_I64 },
        .namespace_type = { .kind = KWR_TYPE_STRING }, /* the day */
        .reduce = KWR_REDUCE_SUM,
    };
    const kwr_reducing_descriptor name_is = {
        .struct_size = sizeof name_is,
        .name = "longest-name",
        .type = { .kind = KWR_TYPE_STRING },
        .fn = longer,
    };
    kwr_reducing *visits, *name;
    TRY(kwr_reducing_open(backend, &visits_are, &visits, NULL));
    TRY(kwr_reducing_open(backend, &name_is, &name, NULL));
    TRY(kwr_backend_set_key_string(backend, "ada"));

    static const char *const days[] = { "mon", "tue", "wed" };
    for (int64_t day = 0; day < 3; day++) {
        TRY(kwr_state_set_namespace_string(kwr_reducing_state(visits), days[day]));
        TRY(kwr_reducing_add_i64(visits, day + 1, NULL));
        TRY(kwr_reducing_add_i64(visits, 10, NULL));
    }

    /* The days become a week: wed and tue are folded into mon, and gone. */
    const kwr_slice sources[] = { text("tue"), text("wed") };
    TRY(kwr_reducing_merge_namespaces(visits, text("mon"), sources, 2));
    int64_t sum;
    SAYS(kwr_reducing_get_i64(visits, &sum) == KWR_NOT_FOUND); /* still in wed */
    TRY(kwr_reducing_set_namespace(visits, text("mon")));
    TRY(kwr_reducing_get_i64(visits, &sum));
    printf("%lld visits in the week\n", (long long)sum);
    SAYS(sum == 36);

    kwr_slice longest;
    TRY(kwr_reducing_add(name, text("ada"), NULL));
    TRY(kwr_reducing_add(name, text("ada lovelace"), NULL));
    TRY(kwr_reducing_add(name, text("a. lovelace"), &longest));
    SAYS(longest.size == 12);
    return KWR_OK;
}

int main(void) { return doc_main(run); }
