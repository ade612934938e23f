/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with a state of each kind, one row for each. */
#ifndef KWR_TESTS_PROGRAMS_STATES_H
#define KWR_TESTS_PROGRAMS_STATES_H

#include "tests/programs/program.h"

enum { BULK = 160, ELEMENTS_MAX = 800 };

typedef struct state_row {
    const char *name;
    void (*open)(program *p, subtask *t);
    kwr_status (*set_namespace)(subtask *t, kwr_slice name);
    /* Some operation on what the current key and namespace have. */
    void (*act)(program *p, subtask *t, cell *want);
    /* All of what they have is as it should be. */
    void (*compare)(program *p, subtask *t, const cell *want);
    /* An entry of a view, the `nth` of its key and namespace. */
    void (*meet)(program *p, const cell *want, const kwr_view_entry *entry, size_t nth);
    /* Where namespaces can be merged: the call, and what it does to two cells. */
    kwr_status (*merge)(subtask *t, kwr_slice target, const kwr_slice *sources, size_t count);
    void (*join)(cell *target, const cell *source);
} state_row;

extern const state_row state_value, state_number, state_sum, state_longest, state_mean, state_list,
    state_map;
extern const state_row *const states[STATES];

/* Up to BULK items, mostly few; their bytes are in p->scratch. */
size_t some_bulk(program *p, item *items, kwr_slice *slices);
bool is_number(kwr_slice got, int64_t want);

#endif /* KWR_TESTS_PROGRAMS_STATES_H */
