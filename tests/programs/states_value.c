/* SPDX-License-Identifier: Apache-2.0 */
/* Value state: one of bytes, and one of numbers with a default. */
#include <string.h>

#include "tests/programs/states.h"

/* ---- bytes of any size ---- */

static void value_open(program *p, subtask *t) {
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "value" };
    MUST(kwr_value_open(t->backend, &descriptor, &t->value, NULL));
    t->states[STATE_VALUE] = kwr_value_state(t->value);
}

static kwr_status value_set_namespace(subtask *t, kwr_slice name) {
    return kwr_value_set_namespace(t->value, name);
}

static void value_compare(program *p, subtask *t, const cell *want) {
    kwr_slice got;
    EXPECT(want->present ? KWR_OK : KWR_NOT_FOUND, kwr_value_get(t->value, &got));
    if (want->present) REQUIRE(holds_item(got, want->value));
}

static void value_modify(program *p, subtask *t, cell *want) {
    const uint32_t before = want->present ? want->value.size : 0;
    const bool keep = percent(p, 33);
    item after = some_item(p);
    if (keep) after.size = before;
    void *bytes;
    size_t old_size;
    MUST(kwr_value_modify(t->value, keep ? KWR_KEEP_SIZE : after.size, &bytes, &old_size));
    REQUIRE(old_size == (want->present ? before : KWR_ABSENT));
    const size_t kept = before < after.size ? before : after.size;
    REQUIRE(item_filled(bytes, want->value.tag, 0, kept));
    for (size_t i = kept; i < after.size; i++)
        REQUIRE(((uint8_t *)bytes)[i] == 0);
    /* Other states may be used while the bytes are lent. */
    if (percent(p, 30)) {
        kwr_slice other;
        const kwr_status status = kwr_reducing_get(t->sum, &other);
        REQUIRE(status == KWR_OK || status == KWR_NOT_FOUND);
    }
    item_fill(bytes, after.tag, 0, after.size);
    want->present = true;
    want->value = after;
}

static void value_act(program *p, subtask *t, cell *want) {
    const size_t dice = below(p, 8);
    if (dice < 4) {
        p->doing = "value put";
        want->present = true;
        want->value = some_item(p);
        MUST(kwr_value_put(t->value, item_bytes(p, want->value)));
    } else if (dice < 6) {
        p->doing = "value modify";
        value_modify(p, t, want);
    } else {
        p->doing = "value clear";
        MUST(kwr_value_clear(t->value));
        cell_clear(want);
    }
}

static void value_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(want->present && nth == 0 && holds_item(entry->value, want->value));
}

const state_row state_value = {
    .name = "value",
    .open = value_open,
    .set_namespace = value_set_namespace,
    .act = value_act,
    .compare = value_compare,
    .meet = value_meet,
};

/* ---- numbers with a default ---- */

static const int64_t otherwise = -7;

static void number_open(program *p, subtask *t) {
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor,
                                              .name = "number",
                                              .type = { .kind = KWR_TYPE_I64 },
                                              .default_value = { &otherwise, sizeof otherwise } };
    MUST(kwr_value_open(t->backend, &descriptor, &t->number, NULL));
    t->states[STATE_NUMBER] = kwr_value_state(t->number);
}

static kwr_status number_set_namespace(subtask *t, kwr_slice name) {
    return kwr_value_set_namespace(t->number, name);
}

static void number_compare(program *p, subtask *t, const cell *want) {
    kwr_slice got;
    MUST(kwr_value_get(t->number, &got));
    REQUIRE(is_number(got, want->present ? want->sum : otherwise));
}

static void number_act(program *p, subtask *t, cell *want) {
    const size_t dice = below(p, 8);
    const int64_t number = (int64_t)draw(p);
    if (dice < 3) {
        p->doing = "number put";
        MUST(kwr_value_put(t->number, (kwr_slice){ &number, sizeof number }));
    } else if (dice < 6) {
        p->doing = "number modify";
        void *bytes;
        size_t old_size;
        MUST(kwr_value_modify(t->number, KWR_KEEP_SIZE, &bytes, &old_size));
        REQUIRE(old_size == (want->present ? sizeof number : KWR_ABSENT));
        REQUIRE(
            is_number((kwr_slice){ bytes, sizeof number }, want->present ? want->sum : otherwise));
        memcpy(bytes, &number, sizeof number);
    } else if (dice < 7) {
        p->doing = "number of a wrong size";
        EXPECT(KWR_ERR_RANGE, kwr_value_put(t->number, (kwr_slice){ &number, 7 }));
        return;
    } else {
        p->doing = "number clear";
        MUST(kwr_value_clear(t->number));
        cell_clear(want);
        return;
    }
    want->present = true;
    want->sum = number;
}

static void number_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(want->present && nth == 0 && is_number(entry->value, want->sum));
}

const state_row state_number = {
    .name = "number",
    .open = number_open,
    .set_namespace = number_set_namespace,
    .act = number_act,
    .compare = number_compare,
    .meet = number_meet,
};
