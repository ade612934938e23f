/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kind of keyed state beside the counts: with each record of a key something is done to a
 * list, a map, an aggregate, a value and timers, such that what they hold follows from the key's
 * count alone. A checkpoint is a consistent cut only if all of them fit the count in it.
 */
#ifndef KWR_TEST_SIM_KINDS_H
#define KWR_TEST_SIM_KINDS_H

#include "backend/engine.h"
#include "keyweir/keyweir.h"

typedef struct sim_kinds {
    kwr_list *list;
    kwr_map *map;
    kwr_aggregating *mean;
    kwr_value *fired;
    kwr_timers *timers;
    kwr_value *wide; /* under SIM_WIDE namespaces; NULL: not in this run */
} sim_kinds;

kwr_status sim_kinds_open(sim_kinds *kinds, kwr_backend *backend, bool wide, kwr_error *err);
/* The `count`-th record of the current key, which is `key`. */
kwr_status sim_kinds_step(sim_kinds *kinds, kwr_backend *backend, kwr_slice key, int64_t count,
                          kwr_error *err);

enum { SIM_MAP_KEYS = 5, SIM_WIDE = 40 };

/* What a checkpoint has of one key. */
typedef struct sim_kinds_seen {
    uint64_t list, list_sum;
    int64_t map[SIM_MAP_KEYS]; /* 0: nothing */
    int64_t mean_sum, mean_count;
    int64_t fired;
    uint64_t timers;
    int64_t timers_sum;
    unsigned wide;             /* entries */
    int64_t wide_of[SIM_WIDE]; /* the record that changed each last, 0: none */
    bool odd;                  /* something that nobody wrote */
} sim_kinds_seen;

/* The key an entry is of: for timers the one in its subkey. */
kwr_slice sim_kinds_key(const kwr_state_info *state, const kwr_entry *entry);
void sim_kinds_see(sim_kinds_seen *seen, const kwr_state_info *state, const kwr_entry *entry);
/* NULL when it is what `count` records leave, else the state that is not. */
const char *sim_kinds_wrong(const sim_kinds_seen *seen, bool wide, int64_t count);
/* The same of the current key in a backend, as far as a look at it leaves it as it was. */
const char *sim_kinds_restored_wrong(sim_kinds *kinds, int64_t count);

#endif /* KWR_TEST_SIM_KINDS_H */
