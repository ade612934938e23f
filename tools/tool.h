/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyweir command: what its verbs share. stdout is data, stderr is for people; exit codes are
 * 0 good, 1 damaged, missing or none, 2 usage, 3 cannot read.
 */
#ifndef KWR_TOOLS_TOOL_H
#define KWR_TOOLS_TOOL_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "keyweir/fsck.h"
#include "snapshot/checkpoint.h"

enum { TOOL_GOOD = 0, TOOL_DAMAGED = 1, TOOL_USAGE = 2, TOOL_CANNOT_READ = 3 };

/* --operator ID=P of plan */
typedef struct tool_parallelism {
    char *operator_id;
    uint32_t parallelism;
} tool_parallelism;

typedef struct tool_options {
    const char *target; /* the one path or URI */
    bool json;
    const char *operator_id; /* dump */
    const char *state;       /* dump */
    uint64_t top;            /* dump; 0: all, unsorted */
    bool quiet;              /* verify, fsck, gc */
    bool progress;           /* verify, fsck */
    bool quick;              /* fsck */
    uint32_t jobs;           /* verify, fsck; 0: as many as there are processors */
    bool delete;             /* gc */
    bool ended;              /* gc */
    uint32_t parallelism;    /* plan; 0: not given */
    tool_parallelism *of;    /* plan */
    size_t of_count;
} tool_options;

/* Where a path or URI leads: a storage, and below it all jobs, one job, or one checkpoint. */
typedef struct tool_place {
    kwr_env *env;
    kwr_storage *storage;
    kwr_limits limits;
    char *root;  /* as a path or URI, for printing */
    char *query; /* of a URI: what follows its path, from the '?' on; or NULL */
    char **jobs; /* names, sorted */
    size_t job_count;
    bool one_job;       /* the target is a job's directory */
    bool is_checkpoint; /* then there is one job, and: */
    uint64_t checkpoint;
    uint64_t generation;
} tool_place;

/* The root or a job directory. Both print their error and return an exit code. */
int tool_place_jobs(const tool_options *options, tool_place *out);
/* A chk-... directory. */
int tool_place_checkpoint(const tool_options *options, tool_place *out);
void tool_place_close(tool_place *place);

/* One checkpoint, opened through its log slot where there is one. */
typedef struct tool_checkpoint {
    tool_place place;
    kwr_job_dirs dirs;
    kwr_log log;
    bool anchored;        /* the log is whole and names it */
    const kwr_slot *slot; /* when anchored */
    kwr_manifest *manifest;
} tool_checkpoint;

/* Fails when log or manifest are damaged; a checkpoint no log names is opened all the same. */
int tool_checkpoint_open(const tool_options *options, tool_checkpoint *out);
void tool_checkpoint_close(tool_checkpoint *checkpoint);

/* Prints "keyweir: <text>" and gives the exit code for a failed call. */
int tool_fail(const kwr_error *err);
int tool_exit_code(kwr_status status);

/* "2026-03-01T12:00:00.000Z" */
void tool_time_text(int64_t unix_ms, char out[40]);
/* Bytes with a unit a person reads: "1.2 GiB". */
void tool_bytes_text(uint64_t bytes, char out[32]);
/* NULL without memory. Bytes as string when valid UTF-8, else {"base64": ...}. */
json_t *tool_json_bytes(kwr_slice bytes);
/* A number, or a string beyond what a double holds exactly. */
json_t *tool_json_i64(int64_t value);
json_t *tool_json_u64(uint64_t value);
/* Stored bytes by their type. */
json_t *tool_json_key(const kwr_type *type, kwr_slice bytes);
json_t *tool_json_value(const kwr_type *type, kwr_slice bytes);
/* One line (compact) or a document (indented) on stdout, and frees it; false: no memory or output.
 */
bool tool_print_json(json_t *json, bool compact);
/* Strings as they are, control characters and '\\' escaped; other JSON compact. */
bool tool_print_text_field(json_t *json, char end);

/* What a long check shows of itself on stderr; `ctx` of the callback is a tool_progress. */
typedef struct tool_progress {
    bool terminal;
    bool shown;
    uint64_t next_ns;
} tool_progress;
void tool_progress_begin(tool_progress *progress);
void tool_on_progress(void *ctx, const kwr_fsck_progress *progress);
/* Before anything else is printed. */
void tool_progress_end(tool_progress *progress);
void tool_progress_text(const kwr_fsck_progress *progress, char *out, size_t capacity);

/* Findings of fsck and gc. */
const char *tool_kind_name(kwr_fsck_kind kind);
json_t *tool_json_finding(const kwr_fsck_finding *finding);
void tool_print_finding(const kwr_fsck_finding *finding);

int tool_ls(const tool_options *options);
int tool_latest(const tool_options *options);
int tool_show(const tool_options *options);
int tool_dump(const tool_options *options);
int tool_verify(const tool_options *options);
int tool_fsck(const tool_options *options);
int tool_gc(const tool_options *options);
int tool_plan(const tool_options *options);

#endif /* KWR_TOOLS_TOOL_H */
