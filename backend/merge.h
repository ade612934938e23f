/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging namespaces: which entries take part, and the order of steps that makes it all or nothing.
 * Everything that can fail comes first: folding into memory of its own, a write to each source
 * (after which its removal needs nothing), and the write of the target. The removals come last.
 */
#ifndef KWR_BACKEND_MERGE_H
#define KWR_BACKEND_MERGE_H

#include "backend/core.h"

typedef struct kwr_merge {
    kwr_state *state;
    kwr_address target;
    kwr_address *sources; /* none twice, none the target; those that hold nothing are taken out */
    size_t count;
    size_t capacity;
} kwr_merge;

/* Names are checked; nothing is looked up yet. Release `out` whatever comes of it. */
kwr_status kwr_merge_begin(kwr_state *state, kwr_slice target, const kwr_slice *sources,
                           size_t count, kwr_merge *out);
void kwr_merge_done(kwr_merge *merge);
/* The last step. */
kwr_status kwr_merge_remove_sources(kwr_merge *merge);

/* Folds `from` into `into`, which holds the result afterwards. */
typedef kwr_status (*kwr_fold_fn)(kwr_state *state, kwr_kept *into, kwr_slice from);

/* For entries that are one value. */
kwr_status kwr_merge_values(kwr_state *state, kwr_slice target, const kwr_slice *sources,
                            size_t count, kwr_fold_fn fold);

#endif /* KWR_BACKEND_MERGE_H */
