/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state-value.md quotes: profiles and credit of users. */
#include "doc_main.h"

static const kwr_field profile_fields[] = {
    { 1, "page", { .kind = KWR_TYPE_STRING } },
    { 2, "visits", { .kind = KWR_TYPE_I64 } },
};
static const kwr_type profile_type = { .kind = KWR_TYPE_ROW,
                                       .fields = profile_fields,
                                       .field_count = 2 };

static kwr_status open_states(kwr_backend *backend, kwr_value **credit, kwr_value **profile) {
    const int64_t at_first = 100;
    const kwr_value_descriptor credit_is = {
        .struct_size = sizeof credit_is,
        .name = "credit",
        .type = { .kind = KWR_TYPE_I64 },
        .default_value = { &at_first, sizeof at_first },
    };
    const kwr_value_descriptor profile_is = {
        .struct_size = sizeof profile_is,
        .name = "profile",
        .type = profile_type,
    };
    TRY(kwr_value_open(backend, &credit_is, credit, NULL));
    return kwr_value_open(backend, &profile_is, profile, NULL);
}

static kwr_status visit(kwr_value *profile, const char *page) {
    kwr_slice bytes;
    int64_t visits = 0;
    TRY(kwr_value_get(profile, &bytes));
    if (bytes.size > 0) TRY(kwr_row_get_i64(&profile_type, bytes, 2, &visits, NULL));

    uint8_t buffer[256];
    kwr_row row;
    kwr_row_begin(&row, &profile_type, buffer, sizeof buffer);
    kwr_row_put_string(&row, 1, page);
    kwr_row_put_i64(&row, 2, visits + 1);
    TRY(kwr_row_end(&row, &bytes, NULL));
    return kwr_value_put(profile, bytes);
}

static kwr_status run(kwr_backend *backend) {
    kwr_value *credit, *profile;
    int64_t left, visits;
    kwr_slice bytes, page;
    TRY(open_states(backend, &credit, &profile));

    TRY(kwr_backend_set_key_string(backend, "ada"));
    TRY(kwr_value_add_i64(credit, -30, &left)); /* read, add and write in one lookup */
    SAYS(left == 70);
    TRY(kwr_value_put_i64(credit, 5));

    TRY(kwr_backend_set_key_string(backend, "ben"));
    TRY(kwr_value_get_i64(credit, &left)); /* the default; nothing is stored by reading it */
    SAYS(left == 100);

    TRY(visit(profile, "/home"));
    TRY(visit(profile, "/docs"));
    TRY(kwr_value_get(profile, &bytes));
    TRY(kwr_row_get_string(&profile_type, bytes, 1, &page, NULL));
    TRY(kwr_row_get_i64(&profile_type, bytes, 2, &visits, NULL));
    printf("ben: %lld visits, the last of %.*s\n", (long long)visits, (int)page.size,
           (const char *)page.data);
    SAYS(visits == 2 && page.size == 5);
    SAYS(kwr_value_put_string(credit, "lots") == KWR_ERR_MISMATCH);
    return KWR_OK;
}

int main(void) { return doc_main(run); }
