/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source that reads one file line by line and can seek. Its split is the file: the id is its
 * ordinal among the inputs, the identity its path, size and the digest of its head at the first
 * start, the position the offset of the next line. What the file holds beyond that size is not part
 * of the job.
 */
#ifndef ENG_SOURCE_FILE_H
#define ENG_SOURCE_FILE_H

#include <stdatomic.h>

#include "examples/engine/engine.h"
#include "examples/engine/lines.h"

/* Gets every line, on the task's thread; `offset` is where it starts. */
typedef kwr_status (*eng_line_fn)(void *ctx, eng_task *task, const char *path, kwr_slice line,
                                  uint64_t offset, kwr_error *err);

typedef struct eng_source {
    /* set by the owner */
    const kwr_env *env;
    const char *path;
    uint32_t ordinal;
    uint64_t rate;           /* lines per second, 0: as fast as it goes */
    uint64_t line_bytes_max; /* 0: ENG_LINE_BYTES_MAX */
    eng_line_fn line;
    void (*note)(void *ctx, const char *text); /* something worth knowing; may be NULL */
    void *ctx;
    /* its own */
    eng_lines *lines;
    uint64_t pace_start_ns;
    uint64_t pace_lines;
    _Atomic uint64_t lines_read; /* since the start of the process */
} eng_source;

/* The operator of `source`, which must outlive the engine. */
eng_operator eng_source_operator(eng_source *source);
void eng_source_done(eng_source *source);

/* The identity's text; free() it. NULL without memory. */
char *eng_source_identity(const char *path, uint64_t size, const char *head);
/* KWR_ERR_REFUSED when it is of another path; KWR_ERR_CORRUPT when it is no identity. */
kwr_status eng_source_identity_parse(kwr_slice identity, const char *path, uint64_t *size,
                                     char head[33], kwr_error *err);

#endif /* ENG_SOURCE_FILE_H */
