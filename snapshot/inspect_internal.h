/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of an inspection share: its units of work, and how findings are held. */
#ifndef KWR_SNAPSHOT_INSPECT_INTERNAL_H
#define KWR_SNAPSHOT_INSPECT_INTERNAL_H

#include "base/fan_out.h"
#include "base/memory.h"
#include "base/thread.h"
#include "snapshot/data_reader.h"
#include "snapshot/inspect.h"

/* The state of one subtask of one checkpoint: what its files add up to. */
typedef struct kwr_inspect_tally {
    const kwr_manifest *manifest;
    const kwr_manifest_operator *op;
    const kwr_manifest_subtask *subtask;
    kwr_data_owner owner;
    uint64_t *sums;      /* of entries, for each state; atomic */
    uint32_t incomplete; /* atomic: an index could not be read, or deltas change what they say */
    struct kwr_inspect_tally *next;
} kwr_inspect_tally;

/* A data file as one checkpoint lists it for one subtask. */
typedef struct kwr_inspect_ref {
    const kwr_manifest_file *file;
    kwr_inspect_tally *tally;
    uint64_t order; /* as it was added: newest checkpoint first */
} kwr_inspect_ref;

/* One file of the storage, and those who need it. */
typedef struct kwr_inspect_unit {
    kwr_inspect_ref **refs;
    size_t ref_count;
    const kwr_manifest *of_inline; /* the file `inline` of this checkpoint; NULL: in shared/ */
    uint64_t bytes;
} kwr_inspect_unit;

typedef struct kwr_inspect_finding {
    kwr_fsck_finding told;
    uint64_t order; /* to tell those of one place apart */
} kwr_inspect_finding;

struct kwr_inspection {
    kwr_inspect_options options;
    const kwr_env *env;
    kwr_limits limits;
    kwr_arena *arena; /* of the thread that adds */
    kwr_inspect_tally *tallies;
    kwr_inspect_tally *last_tally;
    kwr_inspect_ref **refs;
    size_t ref_count, ref_capacity;
    kwr_inspect_unit *units;
    size_t unit_count, unit_capacity;
    /* Of the workers. */
    uint64_t next; /* atomic: unit */
    uint32_t stop; /* atomic */
    kwr_mutex mutex;
    /* Under the mutex. */
    kwr_arena *found_arena;
    kwr_inspect_finding **found;
    size_t found_count, found_capacity;
    kwr_inspect_result result;
    kwr_fsck_progress progress;
    uint64_t began_ns;
    uint64_t next_progress_ns;
    bool telling;
    kwr_status failed;
    kwr_error *err;
};

/* One worker on the executor, with its own room to read into. */
typedef struct kwr_inspect_worker {
    kwr_fan fan;
    kwr_inspection *inspection;
    kwr_buffer stored;
    kwr_buffer plain;
} kwr_inspect_worker;

/* The whole of one unit. A failure is of the whole work, not of what was looked at. */
kwr_status kwr_inspect_unit_check(kwr_inspect_worker *worker, const kwr_inspect_unit *unit,
                                  kwr_error *err);

/* Holds a finding with the checkpoints of `refs` (those with hit[i], NULL: all). [any] */
kwr_status kwr_inspect_hold(kwr_inspection *inspection, const kwr_fsck_finding *finding,
                            kwr_inspect_ref *const *refs, const bool *hit, size_t ref_count);
/* Counts what was read; tells the progress when it is time. [any] */
void kwr_inspect_advance(kwr_inspection *inspection, const kwr_inspect_result *more,
                         uint64_t bytes_done, uint64_t files_done);

#endif /* KWR_SNAPSHOT_INSPECT_INTERNAL_H */
