/* SPDX-License-Identifier: Apache-2.0 */
/* Map state. A map key is made from a number so that the order of both is the same. */
#include <stdio.h>
#include <string.h>

#include "tests/programs/states.h"

enum { MAP_KEYS = 512 };

typedef struct map_key {
    uint8_t bytes[32];
    size_t size;
} map_key;

/* Some are a prefix of others, one is empty. */
static map_key key_of(uint32_t number) {
    map_key key = { .size = 0 };
    if (number == 0) return key;
    char text[8];
    memcpy(key.bytes, text, (size_t)snprintf(text, sizeof text, "%03x", number / 4));
    key.size = 3;
    switch (number % 4) {
    case 0: break;
    case 1: key.bytes[key.size++] = 0; break;
    case 2:
        key.bytes[key.size++] = 0;
        memset(key.bytes + key.size, 0xff, 20);
        key.size += 20;
        break;
    default: key.bytes[key.size++] = 'k'; break;
    }
    return key;
}
static kwr_slice slice_of(const map_key *key) { return (kwr_slice){ key->bytes, key->size }; }

static uint32_t some_number(program *p) {
    return (uint32_t)below(p, percent(p, 70) ? 24 : MAP_KEYS);
}
/* Half of the time one that is there. */
static uint32_t some_number_of(program *p, const cell *want) {
    return want->count > 0 && percent(p, 50) ? want->elements[below(p, want->count)].number
                                             : some_number(p);
}

static void map_open(program *p, subtask *t) {
    const kwr_map_descriptor descriptor = { .struct_size = sizeof descriptor, .name = "map" };
    if (lacks(p, kwr_map_open(t->backend, &descriptor, &t->map, NULL))) return;
    t->states[STATE_MAP] = kwr_map_state(t->map);
}

static kwr_status map_set_namespace(subtask *t, kwr_slice name) {
    return kwr_map_set_namespace(t->map, name);
}

static bool is_element(kwr_slice user_key, kwr_slice value, const element *want) {
    const map_key key = key_of(want->number);
    return slice_is(user_key, slice_of(&key)) && holds_item(value, want->value);
}

static void map_look_up(program *p, subtask *t, const cell *want, uint32_t number) {
    const map_key key = key_of(number);
    const element *there = cell_find(want, number);
    kwr_slice value;
    EXPECT(there != NULL ? KWR_OK : KWR_NOT_FOUND, kwr_map_get(t->map, slice_of(&key), &value));
    if (there != NULL) REQUIRE(holds_item(value, there->value));
    EXPECT(there != NULL ? KWR_OK : KWR_NOT_FOUND, kwr_map_contains(t->map, slice_of(&key)));
}

static void map_compare(program *p, subtask *t, const cell *want) {
    uint64_t count;
    bool empty;
    kwr_slice user_key, value;
    MUST(kwr_map_count(t->map, &count));
    MUST(kwr_map_is_empty(t->map, &empty));
    REQUIRE(count == want->count && empty == (want->count == 0));
    kwr_map_iterator *iterator = NULL;
    MUST(kwr_map_iterate(t->map, &iterator));
    for (size_t i = 0; i < want->count; i++) {
        MUST(kwr_map_iterator_next(iterator, &user_key, &value));
        REQUIRE(is_element(user_key, value, &want->elements[i]));
    }
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(iterator, &user_key, &value));
    kwr_map_iterator_free(iterator);
    for (size_t i = 0; i < want->count; i += 1 + want->count / 8)
        map_look_up(p, t, want, want->elements[i].number);
}

static void map_put_all(program *p, subtask *t, cell *want) {
    item items[BULK];
    map_key keys[BULK];
    kwr_slice user_keys[BULK], values[BULK];
    const size_t count = some_bulk(p, items, values);
    for (size_t i = 0; i < count; i++) {
        const uint32_t number = some_number(p);
        keys[i] = key_of(number);
        user_keys[i] = slice_of(&keys[i]);
        cell_put(want, number, items[i]);
    }
    MUST(kwr_map_put_all(t->map, user_keys, values, count));
}

static void map_modify(program *p, subtask *t, cell *want) {
    const uint32_t number = some_number_of(p, want);
    const map_key key = key_of(number);
    const element *there = cell_find(want, number);
    const item before = there != NULL ? there->value : (item){ 0 };
    const item after = some_item(p);
    void *bytes;
    size_t old_size;
    MUST(kwr_map_modify(t->map, slice_of(&key), after.size, &bytes, &old_size));
    REQUIRE(old_size == (there != NULL ? before.size : KWR_ABSENT));
    const size_t kept = before.size < after.size ? before.size : after.size;
    REQUIRE(item_filled(bytes, before.tag, 0, kept));
    for (size_t i = kept; i < after.size; i++)
        REQUIRE(((uint8_t *)bytes)[i] == 0);
    item_fill(bytes, after.tag, 0, after.size);
    cell_put(want, number, after);
}

static void map_ends(program *p, subtask *t, const cell *want) {
    kwr_slice user_key, value;
    const kwr_status expected = want->count > 0 ? KWR_OK : KWR_NOT_FOUND;
    EXPECT(expected, kwr_map_first(t->map, &user_key, &value));
    if (want->count > 0) REQUIRE(is_element(user_key, value, &want->elements[0]));
    EXPECT(expected, kwr_map_last(t->map, &user_key, &value));
    if (want->count > 0) REQUIRE(is_element(user_key, value, &want->elements[want->count - 1]));
}

/* Where an iterator is: on an element, or in a gap between two. */
typedef struct place {
    size_t before; /* elements before it */
    bool on;
    bool lent; /* the element may be set and removed */
} place;

static void map_step(program *p, kwr_map_iterator *iterator, const cell *want, place *at) {
    kwr_slice user_key, value;
    const bool forward = percent(p, 75);
    const size_t after = at->before + at->on;
    const bool there = forward ? after < want->count : at->before > 0;
    EXPECT(there ? KWR_OK : KWR_NOT_FOUND,
           forward ? kwr_map_iterator_next(iterator, &user_key, &value)
                   : kwr_map_iterator_previous(iterator, &user_key, &value));
    at->on = at->lent = there;
    if (!there)
        at->before = forward ? want->count : 0;
    else
        at->before = forward ? after : at->before - 1;
    if (there) REQUIRE(is_element(user_key, value, &want->elements[at->before]));
}

static void map_seek(program *p, kwr_map_iterator *iterator, const cell *want, place *at) {
    *at = (place){ 0 };
    if (percent(p, 80)) {
        const uint32_t number = some_number_of(p, want);
        const map_key key = key_of(number);
        MUST(kwr_map_iterator_seek(iterator, slice_of(&key)));
        at->before = cell_position(want, number);
    } else if (percent(p, 50)) {
        MUST(kwr_map_iterator_seek_first(iterator));
    } else {
        MUST(kwr_map_iterator_seek_last(iterator));
        at->before = want->count;
    }
}

/* Goes to and fro, removing and setting. */
static void map_walk(program *p, subtask *t, cell *want) {
    kwr_map_iterator *iterator = NULL;
    MUST(kwr_map_iterate(t->map, &iterator));
    place at = { 0 };
    const size_t steps = below(p, 2 * want->count + 4);
    for (size_t i = 0; i < steps; i++) {
        const size_t dice = below(p, 100);
        const kwr_status expected = at.lent ? KWR_OK : KWR_ERR_MISUSE;
        if (dice < 64) {
            map_step(p, iterator, want, &at);
        } else if (dice < 74) {
            map_seek(p, iterator, want, &at);
        } else if (dice < 86) {
            EXPECT(expected, kwr_map_iterator_remove(iterator));
            if (at.lent) (void)cell_remove(want, want->elements[at.before].number);
            if (at.lent) at.on = at.lent = false;
        } else {
            const item changed = some_item(p);
            EXPECT(expected, kwr_map_iterator_set(iterator, item_bytes(p, changed)));
            if (at.lent) want->elements[at.before].value = changed;
        }
    }
    /* A change by anything else ends its use. */
    if (percent(p, 30)) {
        const map_key key = key_of(7);
        const item changed = some_item(p);
        MUST(kwr_map_put(t->map, slice_of(&key), item_bytes(p, changed)));
        cell_put(want, 7, changed);
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_next(iterator, NULL, NULL));
        EXPECT(KWR_ERR_MISUSE, kwr_map_iterator_remove(iterator));
    }
    kwr_map_iterator_free(iterator);
}

static void map_act(program *p, subtask *t, cell *want) {
    const size_t dice = below(p, 40);
    const uint32_t number = some_number_of(p, want);
    const map_key key = key_of(number);
    if (dice < 12) {
        p->doing = "map put";
        const item value = some_item(p);
        MUST(kwr_map_put(t->map, slice_of(&key), item_bytes(p, value)));
        cell_put(want, number, value);
    } else if (dice < 18) {
        p->doing = "map remove";
        MUST(kwr_map_remove(t->map, slice_of(&key)));
        (void)cell_remove(want, number);
    } else if (dice < 25) {
        p->doing = "map put_all";
        map_put_all(p, t, want);
    } else if (dice < 29) {
        p->doing = "map modify";
        map_modify(p, t, want);
    } else if (dice < 36) {
        p->doing = "map iterator";
        map_walk(p, t, want);
    } else if (dice < 38) {
        p->doing = "map look up";
        map_look_up(p, t, want, number);
        map_ends(p, t, want);
    } else {
        p->doing = "map clear";
        MUST(kwr_map_clear(t->map));
        cell_clear(want);
    }
}

static void map_meet(program *p, const cell *want, const kwr_view_entry *entry, size_t nth) {
    REQUIRE(nth < want->count && is_element(entry->subkey, entry->value, &want->elements[nth]));
}

const state_row state_map = {
    .name = "map",
    .open = map_open,
    .set_namespace = map_set_namespace,
    .act = map_act,
    .compare = map_compare,
    .meet = map_meet,
};
