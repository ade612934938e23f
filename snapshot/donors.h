/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines' files out of data files into local directories, at a restore. Every byte is compared
 * with its digest on the way; the engine is given directories only when all of them are complete.
 */
#ifndef KWR_SNAPSHOT_DONORS_H
#define KWR_SNAPSHOT_DONORS_H

#include "snapshot/data_reader.h"
#include "snapshot/lineage.h"

/* The files of one handle. */
typedef struct kwr_donor_source {
    kwr_data_file *files; /* loaded */
    size_t file_count;
    const uint32_t *state_ids; /* of the backend, by state id of the handle */
    const char *directory;     /* result: below the engine's; NULL without files */
} kwr_donor_source;

typedef struct kwr_donors {
    const kwr_env *env;
    kwr_arena *arena;      /* of paths */
    const char *directory; /* the engine's, made when it is not there */
    kwr_donor_source *sources;
    size_t source_count;
    kwr_lineage_set *set; /* or NULL: gets what is shared */
} kwr_donors;

/* After a failure nothing of it is left, as far as removing works. */
kwr_status kwr_donors_write(kwr_donors *donors, kwr_error *err);
/* Removes what kwr_donors_write() made and nobody took. */
void kwr_donors_remove(const kwr_donors *donors);

#endif /* KWR_SNAPSHOT_DONORS_H */
