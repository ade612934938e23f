/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state-list.md quotes: the orders of customers, by session. */
#include "doc_main.h"

static kwr_status print_all(kwr_list *orders, unsigned *count) {
    kwr_list_iterator *it;
    TRY(kwr_list_iterate(orders, &it));
    kwr_slice order;
    kwr_status status;
    for (*count = 0; (status = kwr_list_iterator_next(it, &order)) == KWR_OK; ++*count)
        printf("  %.*s\n", (int)order.size, (const char *)order.data);
    kwr_list_iterator_free(it);
    return status == KWR_NOT_FOUND ? KWR_OK : status;
}

static kwr_status run(kwr_backend *backend) {
    const kwr_list_descriptor orders_are = {
        .struct_size = sizeof orders_are,
        .name = "orders",
        .type = { .kind = KWR_TYPE_STRING },
        .namespace_type = { .kind = KWR_TYPE_I64 }, /* the session's start */
    };
    kwr_list *orders;
    unsigned count;
    TRY(kwr_list_open(backend, &orders_are, &orders, NULL));
    TRY(kwr_backend_set_key_string(backend, "ada"));

    TRY(kwr_state_set_namespace_i64(kwr_list_state(orders), 1000));
    TRY(kwr_list_add_string(orders, "tea"));
    TRY(kwr_list_add_string(orders, "cake"));
    TRY(kwr_state_set_namespace_i64(kwr_list_state(orders), 2000));
    const kwr_slice more[] = { text("coffee"), text("water") };
    TRY(kwr_list_add_all(orders, more, 2));

    /* The two sessions turn out to be one. */
    uint8_t first[8], second[8];
    const kwr_slice target = { first, kwr_key_from_i64(1000, first) };
    const kwr_slice source = { second, kwr_key_from_i64(2000, second) };
    TRY(kwr_list_merge_namespaces(orders, target, &source, 1));

    TRY(kwr_list_set_namespace(orders, target));
    printf("ada ordered\n");
    TRY(print_all(orders, &count));
    SAYS(count == 4);

    TRY(kwr_list_update(orders, more, 1)); /* replaces all of them */
    TRY(print_all(orders, &count));
    SAYS(count == 1);
    return kwr_list_clear(orders);
}

int main(void) { return doc_main(run); }
