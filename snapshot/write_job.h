/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot, shared by write.c (all of it, and page images), write_pages.c
 * and write_deltas.c (increments), write_files.c (the files of
 * engines that keep state in files) and write_handle.c (what is told of it).
 */
#ifndef KWR_SNAPSHOT_WRITE_JOB_H
#define KWR_SNAPSHOT_WRITE_JOB_H

#include "backend/view.h"
#include "base/fan_out.h"
#include "keyweir/snapshot.h"
#include "snapshot/data_writer.h"
#include "snapshot/lineage.h"
#include "snapshot/log.h"
#include "snapshot/page_base.h"

typedef struct kwr_write_job kwr_write_job;

/* One data file on its way; it begins in memory. */
typedef struct kwr_write_unit {
    kwr_write_job *job;
    kwr_data_writer writer;
    kwr_manifest_file file;
    bool created;       /* a file of this name is ours to remove */
    bool finished;      /* `file` is filled */
    uint32_t next_file; /* its number in job->next */
    /* Deltas go into a file of their own, which goes as a whole when a later one covers it. */
    struct kwr_write_unit *deltas; /* NULL: none are made */
    kwr_buffer batch;              /* of deltas, not yet written */
    kwr_page_image batch_image;    /* what it is */
    kwr_page_image last_delta;     /* where it belongs; its bytes are gone */
    uint32_t batch_count;
    char name[KWR_FILE_NAME_MAX];
    kwr_status status;
    kwr_error err;
} kwr_write_unit;

struct kwr_write_job {
    kwr_view *view;
    const kwr_snapshot_target *target;
    const kwr_cancel *cancel;
    kwr_limits limits;
    kwr_job_dirs dirs;
    kwr_data_header header;
    uint64_t inline_max;
    kwr_arena *arena;
    kwr_write_unit *units;
    size_t unit_count;
    /* Shared by the workers, atomic. */
    uint32_t next_group;     /* index into the view's range */
    uint32_t stop;           /* somebody failed: the result does not matter any more */
    uint32_t spilled;        /* it does not fit inline */
    uint64_t bytes;          /* of all data files so far, as they will be */
    uint64_t sequence;       /* next file number */
    kwr_state_count *counts; /* for each state */
    /* Files of engines */
    const char *format; /* NULL: page images in the engine's own format */
    kwr_manifest_file *reused;
    size_t reused_count;
    kwr_lineage_set *set; /* with a lineage: what this snapshot uses */
    /* Increments of engines of pages: what may be referred to, and what this one will have. */
    kwr_lineage_base from;
    const struct kwr_page_base *base; /* NULL: nothing */
    bool *refer;                      /* to this file of the base? */
    struct kwr_page_base *next;       /* NULL: no lineage */
    bool with_deltas;
    bool deltas_stay;     /* all of the base that lie in shared/ */
    kwr_page_cover cover; /* what deltas go on top of */
    size_t workers;       /* their units come first, then those of their deltas */
};

kwr_status kwr_write_check_running(const kwr_write_job *job, kwr_error *err);
/* Gives the unit's writer a file of its own. */
kwr_status kwr_write_create_file(kwr_write_unit *unit);
/* An empty data file with a header of its own. */
kwr_status kwr_write_begin(kwr_write_unit *unit);
/* Appends an image to the unit's file, which is created when it does not go inline. */
kwr_status kwr_write_image(kwr_write_unit *unit, const kwr_page_image *image, uint64_t *stored);
kwr_status kwr_write_make_units(kwr_write_job *job, size_t count, kwr_error *err);

/* write_files.c */
kwr_status kwr_write_files(kwr_write_job *job, kwr_error *err);

/* write_pages.c: with a lineage, for engines of pages; units are made. */
kwr_status kwr_write_pages_begin(kwr_write_job *job, kwr_error *err);
void kwr_write_pages_end(kwr_write_job *job);
/* For kwr_page_sink.page of a unit: an image that is not to be written again is only noted. */
kwr_status kwr_write_pages_ask(void *ctx, const kwr_page_image *image, bool *wanted);
/* The image just written, of `stored` bytes in all, is where the next checkpoint finds it. */
kwr_status kwr_write_pages_note(kwr_write_unit *unit, const kwr_page_image *image, uint64_t stored);
/* All files in use; units have their names and places. */
kwr_status kwr_write_pages_describe(kwr_write_job *job, kwr_subtask_part *part, kwr_error *err);

/* write_deltas.c */

/* Which tiers of the base stay. */
kwr_status kwr_write_deltas_begin(kwr_write_job *job);
/* They are in use, and units know where their deltas go. */
kwr_status kwr_write_deltas_keep(kwr_write_job *job);
/* For kwr_page_sink.changed of a unit. */
kwr_status kwr_write_deltas_since(void *ctx, const kwr_page_image *image, kwr_page_since *out);
kwr_status kwr_write_deltas_take(kwr_write_unit *unit, const kwr_page_image *delta);
/* The unit's batch becomes an image; at the end of a key group at the latest. */
kwr_status kwr_write_deltas_flush(kwr_write_unit *unit);

/* write_handle.c */
kwr_status kwr_write_handle(kwr_write_job *job, kwr_snapshot_result *out, kwr_error *err);

#endif /* KWR_SNAPSHOT_WRITE_JOB_H */
