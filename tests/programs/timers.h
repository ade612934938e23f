/* SPDX-License-Identifier: Apache-2.0 */
/* What has no current key and namespace of a cell: timers, and raw keyed state. */
#ifndef KWR_TESTS_PROGRAMS_TIMERS_H
#define KWR_TESTS_PROGRAMS_TIMERS_H

#include "tests/programs/program.h"

void timers_open(program *p, subtask *t);
/* Some operation on the timers of the current key, or on those that are due. */
void timers_act(program *p, subtask *t);
void timers_compare(program *p, subtask *t);
size_t timers_entries(const program *p);
void raw_act(program *p);
void raw_compare(program *p);
/* Both in a view. */
void timers_compare_frozen(program *p, const frozen *f);

#endif /* KWR_TESTS_PROGRAMS_TIMERS_H */
