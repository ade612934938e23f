/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore on its way, shared by restore.c (all of it) and its parts: restore_handles.c,
 * restore_files.c, restore_deltas.c, restore_load.c, restore_base.c and restore_adopt.c.
 */
#ifndef KWR_SNAPSHOT_RESTORE_JOB_H
#define KWR_SNAPSHOT_RESTORE_JOB_H

#include "backend/engine.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "keyweir/snapshot.h"
#include "snapshot/data_reader.h"
#include "snapshot/delta_files.h"
#include "snapshot/lineage.h"
#include "snapshot/log.h"
#include "snapshot/page_deltas.h"

/* Consecutive images of one file, read together. */
typedef struct kwr_image_run {
    uint32_t file;
    uint32_t count;
    uint64_t first;
} kwr_image_run;

/* One handle. */
typedef struct kwr_restore_source {
    kwr_subtask_part *part;
    kwr_data_owner owner;
    char operator_id[KWR_JOB_NAME_MAX + 1]; /* from the name of a file */
    uint32_t *state_ids;                    /* of the backend, by state id of the part */
    kwr_storage_dir *inline_dir;            /* its own, or NULL */
    kwr_storage_reader *inline_reader;      /* may be that of the source before */
    bool foreign; /* of another engine: its entries are put after all images are installed */
    bool files;   /* the engine's own files, to be adopted */
    size_t first_file, open_files; /* of the job's: none without owned key groups */
} kwr_restore_source;

/* An image: its data file and its number there. */
typedef struct kwr_image_place {
    uint32_t file;
    uint32_t image;
} kwr_image_place;

typedef struct kwr_restore_job {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_limits limits;
    const kwr_backend_options *options; /* not after the restore */
    kwr_lineage *lineage;               /* or NULL */
    kwr_lineage_set *set;               /* what is restored, for the lineage; or NULL */
    bool adopts;                        /* the engine takes files over */
    bool lazy;                          /* pages are read when they are needed */
    bool given;                         /* the engine owns this job, as the source of its pages */
    uint32_t max_parallelism;
    kwr_key_group_range owned;
    kwr_job_dirs dirs;
    char inline_path[KWR_STORAGE_PATH_MAX];
    const kwr_engine_ops *ops;
    kwr_engine *engine;
    kwr_backend *backend;
    kwr_arena *arena;
    kwr_restore_source *sources;
    size_t source_count;
    kwr_state_info *states; /* of the backend */
    size_t state_count;
    kwr_data_file *files;
    uint32_t *file_sources; /* which handle a file belongs to */
    size_t file_count;
    bool has_deltas;
    kwr_page_deltas *deltas;      /* all of them; of a lazy restore those that are inline */
    kwr_delta_files *delta_files; /* of a lazy restore: where all are */
    uint8_t *levels;              /* of each file: of its deltas */
    uint64_t *versions;           /* of all files, ascending; the i-th becomes epoch 1 + i */
    size_t version_count;
    kwr_image_run *runs;
    size_t run_count;
    size_t run_capacity;
    /* Shared by the workers, atomic. */
    uint64_t next_run;
    uint32_t stop;
    /* Of a lazy restore: owned images in the order of the directory. */
    kwr_image_place *places;
    size_t place_count;
} kwr_restore_job;

/* Frees what a restore has opened, and the job. */
void kwr_restore_job_free(kwr_restore_job *job);

static inline kwr_status kwr_restore_no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore a snapshot");
}

static inline uint32_t kwr_restore_range_end(kwr_key_group_range range) {
    return range.first + range.count;
}
static inline bool kwr_restore_intersects(kwr_key_group_range a, kwr_key_group_range b) {
    return a.first < kwr_restore_range_end(b) && b.first < kwr_restore_range_end(a);
}

/* ---- restore_handles.c ---- */

/* Decodes the handles and checks that they fit the backend's options and cover what is owned. */
kwr_status kwr_restore_handles(kwr_restore_job *job, const kwr_slice *handles, size_t count,
                               kwr_error *err);
/* The union of the handles' states, by name. */
kwr_status kwr_restore_states(kwr_restore_job *job, kwr_error *err);

/* ---- restore_files.c ---- */

/* Opens the data files with owned key groups, loads their indexes, plans the runs. */
kwr_status kwr_restore_open_files(kwr_restore_job *job, kwr_error *err);

/* ---- restore_deltas.c ---- */

/* Reads the deltas of owned key groups, all of them: a page needs them when it comes. Lazily: only
 * what must be known from the beginning. */
kwr_status kwr_restore_read_deltas(kwr_restore_job *job, kwr_error *err);
/* The epoch of what was written for that checkpoint. */
uint64_t kwr_restore_epoch(const kwr_restore_job *job, uint64_t checkpoint);

/* ---- restore_load.c ---- */

/* Every run that the engine itself takes, by workers on the executor. */
kwr_status kwr_restore_load(kwr_restore_job *job, kwr_error *err);
/* The others, by the owner, after all that the engine takes itself. */
kwr_status kwr_restore_load_foreign(kwr_restore_job *job, kwr_error *err);

/* ---- restore_base.c ---- */

/* All that was read is of the job and operator of a lineage, which can go on from it. */
bool kwr_restore_of_lineage(const kwr_restore_job *job);
/* job->set, when there is a lineage that it can serve. */
kwr_status kwr_restore_begin_set(kwr_restore_job *job, kwr_error *err);

/* ---- restore_source.c ---- */

/* Can this restore be a lazy one? Else *why says why not; static. */
bool kwr_restore_can_be_lazy(const kwr_restore_job *job, const char **why);
/*
 * A source of all images the job has chosen; bytes borrowed from handles are copied. Its release()
 * frees the job. Until it is taken over the job is the caller's.
 */
kwr_status kwr_restore_source_new(kwr_restore_job *job, kwr_page_source *out, kwr_error *err);

/* ---- restore_adopt.c ---- */

/* job->adopts: all or none of the handles that matter are files. */
kwr_status kwr_restore_choose_adoption(kwr_restore_job *job, kwr_error *err);
/* Every byte of every file is verified before the engine is told where they are. */
kwr_status kwr_restore_adopt(kwr_restore_job *job, kwr_error *err);

#endif /* KWR_SNAPSHOT_RESTORE_JOB_H */
