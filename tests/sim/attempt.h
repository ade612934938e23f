/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One attempt of the simulated job: a kwr_job and the tasks of a small engine, spread over
 * processes, joined by channels and by messages that can get lost. The world steps it.
 */
#ifndef KWR_SIM_ATTEMPT_H
#define KWR_SIM_ATTEMPT_H

#include "tests/sim/oracle.h"
#include "tests/sim/world.h"

typedef struct sim_attempt sim_attempt;

typedef enum sim_attempt_state {
    SIM_ATTEMPT_RUNNING,
    SIM_ATTEMPT_FINISHED, /* the job is done and all output is committed */
    SIM_ATTEMPT_FAILED,   /* it ended with an error, or its job was done with output to commit */
    SIM_ATTEMPT_DEAD,     /* killed */
} sim_attempt_state;

/* Opens job and tasks; a failure to do so gives an attempt that is FAILED. */
sim_attempt *sim_attempt_new(sim_shared *shared, const sim_plan *plan, const sim_script *script,
                             sim_disk *disk, unsigned number, bool lock_off);
/* Closes what lives in order, forgets what is dead. `leak` says what a clean close left behind. */
void sim_attempt_free(sim_attempt *attempt, char *leak, size_t leak_size);
sim_attempt_state sim_attempt_look(const sim_attempt *attempt);
const kwr_error *sim_attempt_error(const sim_attempt *attempt);
/* Things it could do now, and doing the i-th. */
size_t sim_attempt_choices(const sim_attempt *attempt);
void sim_attempt_step(sim_attempt *attempt, size_t choice);
/* Told now and then, also when there is nothing to do: it may have lost a process. */
void sim_attempt_notice(sim_attempt *attempt);
/* When something becomes due without a step. */
uint64_t sim_attempt_deadline(const sim_attempt *attempt);
/* Kills one of its processes (the others notice later), or all of them at once. */
void sim_attempt_kill_one(sim_attempt *attempt, sim_rng *rng);
void sim_attempt_kill(sim_attempt *attempt);
/* Checkpoints its job reported as completed, and the highest any task was told of. */
uint64_t sim_attempt_published(const sim_attempt *attempt);
uint64_t sim_attempt_notified(const sim_attempt *attempt);
uint64_t sim_attempt_commits(const sim_attempt *attempt);

#endif /* KWR_SIM_ATTEMPT_H */
