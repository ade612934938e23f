/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "examples/engine/error.h"

struct eng_lines {
    const kwr_fs *fs;
    char *path;
    size_t block_bytes;
    size_t line_bytes_max;
    kwr_dir *dir;
    kwr_file *file;
    uint64_t size;
    uint64_t end;
    /* bytes [first, filled) of the buffer are those of the file before read_at */
    uint8_t *buffer;
    size_t capacity;
    size_t first;
    size_t scanned; /* no LF in [first, scanned) */
    size_t filled;
    uint64_t read_at;
};

/* Directory and last component of `path`; false when it cannot be a file's. */
static bool split_path(const char *path, char **dir, const char **name) {
    const char *slash = strrchr(path, '/');
    *name = slash == NULL ? path : slash + 1;
    if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) return false;
    if (slash == NULL) {
        *dir = strdup(".");
    } else {
        *dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    }
    return true;
}

static kwr_status open_file(eng_lines *lines, kwr_error *err) {
    char *dir = NULL;
    const char *name = NULL;
    if (!split_path(lines->path, &dir, &name)) {
        return eng_fail(err, KWR_ERR_MISMATCH, 0, "input '%s': not a regular file", lines->path);
    }
    if (dir == NULL) return eng_no_memory(err, "an input");
    kwr_error why = ENG_ERROR_NONE;
    kwr_file_info info = { 0 };
    kwr_status status = lines->fs->open_root(lines->fs->ctx, dir, KWR_FS_FOLLOW, &lines->dir, &why);
    free(dir);
    if (status == KWR_OK) {
        status = lines->fs->open(lines->fs->ctx, lines->dir, name, KWR_FS_FOLLOW, &lines->file,
                                 &info, &why);
    }
    if (status == KWR_ERR_MISMATCH) {
        return eng_fail(err, status, 0, "input '%s': not a regular file", lines->path);
    }
    if (status < KWR_OK) return eng_pass(err, status, &why, "input '%s'", lines->path);
    lines->size = info.size;
    lines->end = info.size;
    return KWR_OK;
}

kwr_status eng_lines_open(const eng_lines_options *options, eng_lines **out, kwr_error *err) {
    eng_lines *lines = calloc(1, sizeof *lines);
    if (lines == NULL) return eng_no_memory(err, "an input");
    lines->fs = options->env->fs;
    lines->block_bytes = options->block_bytes != 0 ? options->block_bytes : ENG_BLOCK_BYTES;
    lines->line_bytes_max =
        options->line_bytes_max != 0 ? options->line_bytes_max : ENG_LINE_BYTES_MAX;
    lines->capacity = 2 * lines->block_bytes;
    lines->buffer = malloc(lines->capacity);
    lines->path = strdup(options->path);
    const kwr_status status = lines->buffer == NULL || lines->path == NULL
                                  ? eng_no_memory(err, "an input")
                                  : open_file(lines, err);
    if (status < KWR_OK) {
        eng_lines_close(lines);
        return status;
    }
    *out = lines;
    return KWR_OK;
}

void eng_lines_close(eng_lines *lines) {
    if (lines == NULL) return;
    /* Closing a file that was only read loses nothing. */
    if (lines->file != NULL) {
        const kwr_status ignored = lines->fs->close(lines->fs->ctx, lines->file, NULL);
        (void)ignored;
    }
    if (lines->dir != NULL) lines->fs->close_dir(lines->fs->ctx, lines->dir);
    free(lines->buffer);
    free(lines->path);
    free(lines);
}

uint64_t eng_lines_size(const eng_lines *lines) { return lines->size; }

/* Up to `size` bytes at `offset`; KWR_ERR_REFUSED when the file ends there. */
static kwr_status read_at(eng_lines *lines, uint64_t offset, void *data, size_t size, size_t *done,
                          kwr_error *err) {
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status =
        lines->fs->read(lines->fs->ctx, lines->file, offset, data, size, done, &why);
    if (status < KWR_OK) {
        return eng_pass(err, status, &why, "input '%s', offset %" PRIu64, lines->path, offset);
    }
    if (*done > 0) return KWR_OK;
    return eng_fail(err, KWR_ERR_REFUSED, 0,
                    "input '%s' has shrunk: it ends at offset %" PRIu64 ", %" PRIu64
                    " bytes were there; restore the file or start a new job",
                    lines->path, offset, lines->end);
}

kwr_status eng_lines_head(eng_lines *lines, size_t size, char out[33], kwr_error *err) {
    uint8_t *data = malloc(size == 0 ? 1 : size);
    if (data == NULL) return eng_no_memory(err, "the head of an input");
    kwr_status status = KWR_OK;
    for (size_t at = 0; at < size && status == KWR_OK;) {
        size_t done = 0;
        status = read_at(lines, at, data + at, size - at, &done, err);
        at += done;
    }
    if (status == KWR_OK) {
        XXH128_canonical_t digest;
        XXH128_canonicalFromHash(&digest, XXH3_128bits(data, size));
        for (size_t i = 0; i < sizeof digest.digest; i++) {
            snprintf(out + 2 * i, 3, "%02x", digest.digest[i]);
        }
    }
    free(data);
    return status;
}

void eng_lines_seek(eng_lines *lines, uint64_t position, uint64_t end) {
    lines->first = lines->scanned = lines->filled = 0;
    lines->read_at = position;
    lines->end = end;
}

uint64_t eng_lines_position(const eng_lines *lines) {
    return lines->read_at - (lines->filled - lines->first);
}

/* Makes room for a block behind what is buffered. */
static kwr_status make_room(eng_lines *lines, kwr_error *err) {
    if (lines->first > 0) {
        memmove(lines->buffer, lines->buffer + lines->first, lines->filled - lines->first);
        lines->scanned -= lines->first;
        lines->filled -= lines->first;
        lines->first = 0;
    }
    if (lines->capacity - lines->filled >= lines->block_bytes) return KWR_OK;
    /* Bounded: a line beyond the maximum has been refused before. */
    const size_t capacity = 2 * lines->capacity;
    uint8_t *grown = realloc(lines->buffer, capacity);
    if (grown == NULL) return eng_no_memory(err, "a long line");
    lines->buffer = grown;
    lines->capacity = capacity;
    return KWR_OK;
}

static kwr_status fill(eng_lines *lines, kwr_error *err) {
    ENG_TRY(make_room(lines, err));
    const uint64_t left = lines->end - lines->read_at;
    const size_t size = left < lines->block_bytes ? (size_t)left : lines->block_bytes;
    size_t done = 0;
    ENG_TRY(read_at(lines, lines->read_at, lines->buffer + lines->filled, size, &done, err));
    lines->filled += done;
    lines->read_at += done;
    return KWR_OK;
}

static kwr_status too_long(const eng_lines *lines, kwr_error *err) {
    return eng_fail(err, KWR_ERR_RANGE, 0,
                    "input '%s', offset %" PRIu64 ": a line is longer than %zu bytes", lines->path,
                    eng_lines_position(lines), lines->line_bytes_max);
}

kwr_status eng_lines_next(eng_lines *lines, kwr_slice *line, kwr_error *err) {
    for (;;) {
        const uint8_t *start = lines->buffer + lines->first;
        const uint8_t *from = lines->buffer + lines->scanned;
        const uint8_t *lf = memchr(from, '\n', lines->filled - lines->scanned);
        const bool last = lines->read_at >= lines->end;
        if (lf == NULL && last && lines->first == lines->filled) return KWR_NOT_FOUND;
        const size_t size =
            lf != NULL ? (size_t)(lf - start) : (size_t)(lines->filled - lines->first);
        if (size > lines->line_bytes_max) return too_long(lines, err);
        if (lf != NULL || last) {
            *line = (kwr_slice){ start, size };
            lines->first += size + (lf != NULL ? 1 : 0);
            lines->scanned = lines->first;
            return KWR_OK;
        }
        lines->scanned = lines->filled;
        ENG_TRY(fill(lines, err));
    }
}
