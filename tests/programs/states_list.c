/* SPDX-License-Identifier: Apache-2.0 */
/* List state. */
#include <string.h>

#include "tests/programs/states.h"

static void list_open(program *p, subtask *t) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "list" };
    if (lacks(p, kwr_list_open(t->backend, &descriptor, &t->list, NULL))) return;
    t->states[STATE_LIST] = kwr_list_state(t->list);
}

static kwr_status list_set_namespace(subtask *t, kwr_slice name) {
    return kwr_list_set_namespace(t->list, name);
}

static void list_compare(program *p, subtask *t, const cell *want) {
    uint64_t count;
    MUST(kwr_list_count(t->list, &count));
    REQUIRE(count == want->count);
    kwr_list_iterator *iterator = NULL;
    MUST(kwr_list_iterate(t->list, &iterator));
    kwr_slice got;
    for (size_t i = 0; i < want->count; i++) {
        MUST(kwr_list_iterator_next(iterator, &got));
        REQUIRE(holds_item(got, want->elements[i].value));
    }
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(iterator, &got));
    kwr_list_iterator_free(iterator);
}

/* Ends an iterator's use by a change of its list. */
static void list_change_below_iterator(program *p, subtask *t, cell *want) {
    kwr_list_iterator *iterator = NULL;
    MUST(kwr_list_iterate(t->list, &iterator));
    kwr_slice got;
    const size_t steps = below(p, want->count + 1);
    for (size_t i = 0; i < steps; i++)
        MUST(kwr_list_iterator_next(iterator, &got));
    const item added = some_item(p);
    MUST(kwr_list_add(t->list, item_bytes(p, added)));
    cell_append(want, added);
    EXPECT(KWR_ERR_MISUSE, kwr_list_iterator_next(iterator, &got));
    kwr_list_iterator_free(iterator);
}

static void list_act(program *p, subtask *t, cell *want) {
    item items[BULK];
    kwr_slice slices[BULK];
    const size_t dice = below(p, 20);
    if (dice < 9 && want->count < ELEMENTS_MAX) {
        p->doing = "list add";
        const item added = some_item(p);
        MUST(kwr_list_add(t->list, item_bytes(p, added)));
        cell_append(want, added);
    } else if (dice < 14 && want->count < ELEMENTS_MAX) {
        p->doing = "list add_all";
        const size_t count = some_bulk(p, items, slices);
        MUST(kwr_list_add_all(t->list, slices, count));
        for (size_t i = 0; i < count; i++)
            cell_append(want, items[i]);
    } else if (dice < 16) {
        p->doing = "list update";
        const size_t count = some_bulk(p, items, slices);
        MUST(kwr_list_update(t->list, slices, count));
        cell_clear(want);
        for (size_t i = 0; i < count; i++)
            cell_append(want, items[i]);
    } else if (dice < 18) {
        p->doing = "list changed below an iterator";
        list_change_below_iterator(p, t, want);
    } else {
        p->doing = "list clear";
        MUST(kwr_list_clear(t->list));
        cell_clear(want);
    }
}

static kwr_status list_merge(subtask *t, kwr_slice target, const kwr_slice *sources, size_t count) {
    return kwr_list_merge_namespaces(t->list, target, sources, count);
}

static void list_join(cell *target, const cell *source) {
    for (size_t i = 0; i < source->count; i++)
        cell_append(target, source->elements[i].value);
}

static void list_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(nth < want->count && holds_item(entry->value, want->elements[nth].value));
    REQUIRE(entry->subkey.size == 8);
}

const state_row state_list = {
    .name = "list",
    .open = list_open,
    .set_namespace = list_set_namespace,
    .act = list_act,
    .compare = list_compare,
    .meet = list_meet,
    .merge = list_merge,
    .join = list_join,
};
