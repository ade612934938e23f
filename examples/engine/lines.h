/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the lines of a file by large blocks. A position is the byte offset of the next line, so
 * that reading can go on from there at any later time.
 */
#ifndef ENG_LINES_H
#define ENG_LINES_H

#include <keyweir/env.h>

typedef struct eng_lines eng_lines;

enum { ENG_LINE_BYTES_MAX = 64 * 1024 * 1024, ENG_BLOCK_BYTES = 256 * 1024 };

typedef struct eng_lines_options {
    const kwr_env *env;
    const char *path;
    size_t block_bytes;    /* read at once; 0: ENG_BLOCK_BYTES */
    size_t line_bytes_max; /* without its end; 0: ENG_LINE_BYTES_MAX */
} eng_lines_options;

/* Opens a regular file, or a symbolic link to one. KWR_ERR_MISSING, KWR_ERR_MISMATCH (no regular
 * file), KWR_ERR_IO. */
kwr_status eng_lines_open(const eng_lines_options *options, eng_lines **out, kwr_error *err);
void eng_lines_close(eng_lines *lines);

/* Size of the file when it was opened. */
uint64_t eng_lines_size(const eng_lines *lines);
/* Digest of the first `size` bytes as 32 hex digits and a NUL: XXH3-128, canonical. */
kwr_status eng_lines_head(eng_lines *lines, size_t size, char out[33], kwr_error *err);
/* The next line starts at `position`; the input ends at `end`, whatever the file holds there. */
void eng_lines_seek(eng_lines *lines, uint64_t position, uint64_t end);
uint64_t eng_lines_position(const eng_lines *lines);
/*
 * The next line without its LF, borrowed until the next call; the last one may lack the LF.
 * KWR_NOT_FOUND at the end. KWR_ERR_RANGE: too long, KWR_ERR_REFUSED: the file is shorter than
 * its end; both name file and offset.
 */
kwr_status eng_lines_next(eng_lines *lines, kwr_slice *line, kwr_error *err);

#endif /* ENG_LINES_H */
