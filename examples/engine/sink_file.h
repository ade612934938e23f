/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink that commits files exactly once, in two phases. What arrives between two checkpoints goes
 * into one pending file. At a barrier it is made durable and its name, length and digest go into
 * the checkpoint (pre-commit); when that checkpoint is completed the file is renamed (commit). The
 * checkpoints carry what is not known to be committed, so that a restart commits it.
 *
 * A checkpoint that fails here, or anywhere else, loses no output: what was pre-committed for it is
 * carried on and committed with the next completed one, and a file that could not be made durable
 * is continued, or copied when its content can no longer be trusted to reach the disk.
 */
#ifndef ENG_SINK_FILE_H
#define ENG_SINK_FILE_H

#include "examples/engine/engine.h"
#include "examples/engine/output_dir.h"

typedef struct eng_sink_options {
    const eng_output_dir *output;
    const char *job;
    uint32_t subtask;
    uint64_t generation;
    uint64_t next_checkpoint; /* 1 + the highest published: a guess for the first file's name */
    size_t buffer_bytes;      /* 0: 256 KiB */
    /* Told of the phases of a commit while running, not at recovery, on the task's thread; and of
     * trouble. May be NULL. */
    void (*committing)(void *ctx, uint64_t checkpoint);
    void (*committed)(void *ctx, uint64_t checkpoint);
    void (*note)(void *ctx, const char *text);
    void *ctx;
} eng_sink_options;

typedef struct eng_sink eng_sink;

kwr_status eng_sink_new(const eng_sink_options *options, eng_sink **out, kwr_error *err);
/* Removes what belongs to no checkpoint. */
void eng_sink_free(eng_sink *sink);

/* Appends bytes of output; a line may come in several calls between two barriers. */
kwr_status eng_sink_write(eng_sink *sink, const void *data, size_t size, kwr_error *err);
/*
 * Makes what was written since the last pre-commit durable as output of `checkpoint`. KWR_NOT_FOUND
 * when nothing was. After a failure nothing is lost: it belongs to the next checkpoint. Call
 * eng_sink_sealed() once the committable is safely in the task's hands; until then it is not
 * given up either.
 */
kwr_status eng_sink_precommit(eng_sink *sink, uint64_t checkpoint, eng_committable *out,
                              kwr_error *err);
void eng_sink_sealed(eng_sink *sink);
/* Commits every committable the task carries up to `checkpoint`. */
kwr_status eng_sink_commit(eng_sink *sink, kwr_task *task, uint64_t checkpoint, kwr_error *err);

/* The operator of `sink`; `records` gets it as ctx and writes lines. Opening it commits again what
 * the restored checkpoint carries. */
eng_operator eng_sink_operator(eng_sink *sink,
                               kwr_status (*records)(void *ctx, eng_task *task,
                                                     const eng_buffer *buffer, kwr_error *err));

#endif /* ENG_SINK_FILE_H */
