/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot, shared by write.c (all of it, and page images), write_files.c (the files of
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

typedef struct kwr_write_job kwr_write_job;

/* One data file on its way; it begins in memory. */
typedef struct kwr_write_unit {
    kwr_write_job *job;
    kwr_data_writer writer;
    kwr_manifest_file file;
    bool created;       /* a file of this name is ours to remove */
    bool finished;      /* `file` is filled */
    uint32_t next_file; /* its number in job->next */
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
};

kwr_status kwr_write_check_running(const kwr_write_job *job, kwr_error *err);
/* Gives the unit's writer a file of its own. */
kwr_status kwr_write_create_file(kwr_write_unit *unit);
/* An empty data file with a header of its own. */
kwr_status kwr_write_begin(kwr_write_unit *unit);
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

/* write_handle.c */
kwr_status kwr_write_handle(kwr_write_job *job, kwr_snapshot_result *out, kwr_error *err);

#endif /* KWR_SNAPSHOT_WRITE_JOB_H */
