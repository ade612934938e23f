/* SPDX-License-Identifier: Apache-2.0 */
/* The model of a job: arrays, searched and copied as simply as can be. */
#include "tests/programs/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *need(void *memory) {
    if (memory != NULL) return memory;
    fputs("model: no memory\n", stderr);
    exit(2);
}

table *table_new(void) { return (table *)need(calloc(1, sizeof(table))); }

static void *copy_of(const void *items, size_t bytes) {
    return bytes == 0 ? NULL : memcpy(need(malloc(bytes)), items, bytes);
}

table *table_copy(const table *other) {
    table *t = (table *)need(malloc(sizeof *t));
    *t = *other;
    for (size_t i = 0; i < STATES * KEYS * NAMES; i++) {
        cell *c = &(&t->at[0][0][0])[i];
        c->capacity = c->count;
        c->elements = (element *)copy_of(c->elements, c->count * sizeof *c->elements);
    }
    for (size_t i = 0; i < DOMAINS; i++)
        t->timers[i].items =
            (timer *)copy_of(t->timers[i].items, t->timers[i].count * sizeof(timer));
    t->pieces = (piece *)copy_of(t->pieces, t->piece_count * sizeof *t->pieces);
    return t;
}

void table_free(table *t) {
    if (t == NULL) return;
    for (size_t i = 0; i < STATES * KEYS * NAMES; i++)
        free((&t->at[0][0][0])[i].elements);
    for (size_t i = 0; i < DOMAINS; i++)
        free(t->timers[i].items);
    free(t->pieces);
    free(t);
}

size_t table_entries(const table *t, state_id state) {
    size_t entries = 0;
    for (size_t i = 0; i < KEYS * NAMES; i++)
        entries += (&t->at[state][0][0])[i].present;
    return entries;
}

void cell_clear(cell *c) {
    free(c->elements);
    *c = (cell){ 0 };
}

static element *cell_insert(cell *c, size_t position) {
    if (c->count == c->capacity) {
        c->capacity = c->capacity == 0 ? 8 : 2 * c->capacity;
        c->elements = (element *)need(realloc(c->elements, c->capacity * sizeof *c->elements));
    }
    memmove(c->elements + position + 1, c->elements + position,
            (c->count - position) * sizeof *c->elements);
    c->count++;
    c->present = true;
    return &c->elements[position];
}

void cell_append(cell *c, item value) { *cell_insert(c, c->count) = (element){ .value = value }; }

size_t cell_position(const cell *c, uint32_t number) {
    size_t i = 0;
    while (i < c->count && c->elements[i].number < number)
        i++;
    return i;
}

const element *cell_find(const cell *c, uint32_t number) {
    const size_t i = cell_position(c, number);
    return i < c->count && c->elements[i].number == number ? &c->elements[i] : NULL;
}

void cell_put(cell *c, uint32_t number, item value) {
    const size_t i = cell_position(c, number);
    if (i == c->count || c->elements[i].number != number) (void)cell_insert(c, i);
    c->elements[i] = (element){ number, value };
}

bool cell_remove(cell *c, uint32_t number) {
    const size_t i = cell_position(c, number);
    if (i == c->count || c->elements[i].number != number) return false;
    c->count--;
    memmove(c->elements + i, c->elements + i + 1, (c->count - i) * sizeof *c->elements);
    if (c->count == 0) cell_clear(c);
    return true;
}

uint8_t item_byte(uint64_t tag, size_t at) { return (uint8_t)(tag * 31 + at * 7 + (at >> 8)); }

void item_fill(void *out, uint64_t tag, size_t from, size_t to) {
    uint8_t *bytes = (uint8_t *)out;
    for (size_t i = from; i < to; i++)
        bytes[i] = item_byte(tag, i);
}

bool item_filled(const void *data, uint64_t tag, size_t from, size_t to) {
    const uint8_t *bytes = (const uint8_t *)data;
    for (size_t i = from; i < to; i++)
        if (bytes[i] != item_byte(tag, i)) return false;
    return true;
}
