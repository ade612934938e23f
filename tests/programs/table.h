/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: what a whole job must hold, as arrays that are plainly right. It knows nothing of key
 * groups, subtasks, engines or snapshots; a copy of it is what a view or a snapshot must hold.
 *
 * Stored bytes are not kept: an item names them by a tag and a size, from which they are made.
 */
#ifndef KWR_TESTS_PROGRAMS_TABLE_H
#define KWR_TESTS_PROGRAMS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEYS = 32, NAMES = 4, DOMAINS = 2 };

/* The states of every program, in the order in which they are opened. */
typedef enum state_id {
    STATE_VALUE,
    STATE_NUMBER,
    STATE_SUM,
    STATE_LONGEST,
    STATE_MEAN,
    STATE_LIST,
    STATE_MAP,
    STATES,
} state_id;

typedef struct item {
    uint64_t tag;
    uint32_t size;
} item;

/* An element of a list, or a mapping: its number stands for the map key. */
typedef struct element {
    uint32_t number;
    item value;
} element;

/* What one state holds for one key and namespace; which fields count depends on the state. */
typedef struct cell {
    bool present;
    item value;
    int64_t sum, times;
    element *elements; /* lists: in order of adding; maps: ascending numbers */
    size_t count, capacity;
} cell;

typedef struct timer {
    int64_t time;
    uint32_t key, name;
} timer;

/* In the order in which they fire. */
typedef struct timers {
    timer *items;
    size_t count;
} timers;

/* Raw bytes of a key group. */
typedef struct piece {
    uint32_t group;
    item value;
} piece;

typedef struct table {
    cell at[STATES][KEYS][NAMES];
    timers timers[DOMAINS];
    piece *pieces; /* by group */
    size_t piece_count;
} table;

table *table_new(void);
table *table_copy(const table *other);
void table_free(table *t);
/* Entries of a state. */
size_t table_entries(const table *t, state_id state);

void cell_clear(cell *c);
/* Lists. */
void cell_append(cell *c, item value);
/* Maps. */
void cell_put(cell *c, uint32_t number, item value);
bool cell_remove(cell *c, uint32_t number);
/* NULL: none. */
const element *cell_find(const cell *c, uint32_t number);
/* The first element with a number of at least this, or `count`. */
size_t cell_position(const cell *c, uint32_t number);

/* One byte of an item, its bytes [from, to), and whether bytes are those. */
uint8_t item_byte(uint64_t tag, size_t at);
void item_fill(void *out, uint64_t tag, size_t from, size_t to);
bool item_filled(const void *bytes, uint64_t tag, size_t from, size_t to);

/* malloc that does not fail. */
void *need(void *memory);

#endif /* KWR_TESTS_PROGRAMS_TABLE_H */
