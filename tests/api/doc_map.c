/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state-map.md quotes: readings of sensors, by their time. */
#include "doc_main.h"

/* Forgets what is older than `before`, and doubles what lies up to `until`. */
static kwr_status tidy(kwr_map *readings, int64_t before, int64_t until) {
    kwr_map_iterator *it;
    TRY(kwr_map_iterate(readings, &it));
    kwr_status status;
    int64_t time, reading;
    kwr_slice value;
    while ((status = kwr_map_iterator_next_at_i64(it, &time, &value)) == KWR_OK && time <= until) {
        if (time < before) {
            status = kwr_map_iterator_remove(it);
        } else {
            memcpy(&reading, value.data, sizeof reading); /* not aligned */
            reading *= 2;
            status = kwr_map_iterator_set(it, (kwr_slice){ &reading, sizeof reading });
        }
        if (status < KWR_OK) break;
    }
    kwr_map_iterator_free(it);
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status run(kwr_backend *backend) {
    const kwr_map_descriptor readings_are = {
        .struct_size = sizeof readings_are,
        .name = "readings",
        .user_key_type = { .kind = KWR_TYPE_I64 }, /* the time */
        .type = { .kind = KWR_TYPE_I64 },
    };
    kwr_map *readings;
    TRY(kwr_map_open(backend, &readings_are, &readings, NULL));
    TRY(kwr_backend_set_key_string(backend, "cellar"));

    TRY(kwr_map_at_i64_put_i64(readings, 300, 12));
    TRY(kwr_map_at_i64_put_i64(readings, -100, 9));
    TRY(kwr_map_at_i64_put_i64(readings, 200, 11));
    TRY(kwr_map_at_i64_add_i64(readings, 200, 1, NULL));

    /* Seek: the first reading from time 1 on, whatever the order they came in. */
    uint8_t from[8];
    kwr_slice time, value;
    kwr_map_iterator *it;
    TRY(kwr_map_iterate(readings, &it));
    TRY(kwr_map_iterator_seek(it, (kwr_slice){ from, kwr_key_from_i64(1, from) }));
    TRY(kwr_map_iterator_next(it, &time, &value));
    SAYS(kwr_key_to_i64(time.data) == 200);
    kwr_map_iterator_free(it);

    TRY(tidy(readings, 0, 250));
    uint64_t count;
    int64_t reading;
    TRY(kwr_map_count(readings, &count));
    TRY(kwr_map_at_i64_get_i64(readings, 200, &reading));
    printf("%llu readings, %lld at 200\n", (unsigned long long)count, (long long)reading);
    SAYS(count == 2 && reading == 24);
    SAYS(kwr_map_at_i64_contains(readings, -100) == KWR_NOT_FOUND);
    return KWR_OK;
}

int main(void) { return doc_main(run); }
