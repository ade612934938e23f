/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operator state of a program: a job of its own beside the keyed one, because only tasks have such
 * state. It starts with the first operation on it, and changes its parallelism with the program.
 */
#ifndef KWR_TESTS_PROGRAMS_OPERATORS_H
#define KWR_TESTS_PROGRAMS_OPERATORS_H

#include "tests/programs/program.h"

/* Some operation on a list or map of some subtask, or on a map of all of them. */
void operators_act(program *p);
/* What is open, or all there is. */
void operators_compare(program *p, bool all);
/* A completed checkpoint of the present state; what is changed while it is written is not in it. */
void operators_checkpoint(program *p);
/* The job goes on from the newest completed checkpoint, or empty, with this parallelism. */
void operators_restore(program *p, uint32_t parallelism);
/* A restart of the job: mostly from a new checkpoint, sometimes from the last one. */
void operators_restart(program *p, uint32_t parallelism);
void operators_end(program *p);

#endif /* KWR_TESTS_PROGRAMS_OPERATORS_H */
