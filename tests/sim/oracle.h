/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold, stated about the disk: each function returns false with the violated statement in
 * `why`. They read through processes of their own, without faults.
 */
#ifndef KWR_TEST_SIM_ORACLE_H
#define KWR_TEST_SIM_ORACLE_H

#include "tests/sim/job.h"

/*
 * Checkpoints: the log is whole, generations never fall and a checkpoint's is that of the last
 * fence (fencing); every checkpoint it names verifies byte by byte (no reference to unsynced data,
 * no early delete); the state of each is the fold of exactly the records before its source
 * positions (consistent cut); none that was notified is missing (durability).
 * Output: for each key the counts 1..m once each and in order of checkpoints, none of a checkpoint
 * that is not completed; at the end all of them, and no garbage.
 */
bool sim_check(void *run, kwr_sim_disk *disk, const kwr_sim_check *check, char *why,
               size_t why_size);
/* Everything a checkpoint or the log consists of: its damage must be named by whoever meets it. */
bool sim_damageable(void *run, const char *path);

#endif /* KWR_TEST_SIM_ORACLE_H */
