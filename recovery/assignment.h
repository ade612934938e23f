/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets what of an operator's stored state when it is restored with any parallelism: keyed state
 * by key groups, operator state by its mode, splits and committables in turn. A pure function of
 * the manifest: the job hands out what it says, the tool prints it.
 */
#ifndef KWR_RECOVERY_ASSIGNMENT_H
#define KWR_RECOVERY_ASSIGNMENT_H

#include "snapshot/checkpoint.h"

/* Elements [first, first + count) of what the old subtask `donor` stored. */
typedef struct kwr_pick {
    uint32_t donor;
    uint64_t first;
    uint64_t count;
} kwr_pick;

typedef struct kwr_picks {
    const kwr_pick *items; /* in the order of the donors, none empty */
    size_t count;
} kwr_picks;

/* One operator state of a new subtask; also without elements: it was registered. */
typedef struct kwr_share_state {
    const kwr_manifest_state *state; /* as the first old subtask that has it says */
    uint32_t donor;                  /* that one */
    kwr_picks picks;                 /* of maps whole ones: one at most */
} kwr_share_state;

/* What one new subtask gets. */
typedef struct kwr_share {
    uint32_t subtask;
    /* keyed */
    kwr_key_group_range key_groups;
    uint32_t donor_first,
        donor_count; /* old subtasks that hold some of them, one after the other */
    kwr_picks splits;
    kwr_picks committables;
    const kwr_share_state *states; /* operator state, by name */
    size_t state_count;
    bool as_it_was; /* all operator state of one old subtask, its own, and nothing else */
} kwr_share;

/*
 * The shares of all new subtasks, in order, in the arena. Unchanged parallelism gives everyone what
 * it had, but for union lists, which everyone gets whole, and broadcast maps that some old subtask
 * has not reported. Fails with KWR_ERR_NOMEM, KWR_ERR_MISMATCH (old subtasks differ about a state),
 * KWR_ERR_RANGE (a keyed operator has no more subtasks than key groups).
 */
kwr_status kwr_assign(const kwr_manifest_operator *stored, uint32_t parallelism, kwr_arena *arena,
                      const kwr_share **out, kwr_error *err);

/* What the keyed state of a new subtask costs to restore. */
typedef struct kwr_share_bytes {
    uint64_t entries;
    uint64_t owned; /* stored bytes of images of its key groups */
    uint64_t read;  /* these, and header, index and footer of every data file that is opened */
} kwr_share_bytes;

/* One for each share, from the indexes of the data files, verified as they are read. Blocks. */
kwr_status kwr_assign_bytes(const kwr_job_dirs *dirs, const kwr_limits *limits,
                            const kwr_manifest *manifest, const kwr_manifest_operator *stored,
                            const kwr_share *shares, uint32_t parallelism, kwr_share_bytes *out,
                            kwr_error *err);

/* The key groups that both ranges have. */
kwr_key_group_range kwr_key_groups_common(kwr_key_group_range a, kwr_key_group_range b);

#endif /* KWR_RECOVERY_ASSIGNMENT_H */
