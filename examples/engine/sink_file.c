/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/sink_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/engine/error.h"

enum { BUFFER_BYTES_DEFAULT = 256 * 1024, WRITE_BACK_BYTES = 8 * 1024 * 1024 };
/* How many buffers may wait in memory while writing fails, before the run ends. */
enum { BUFFERS_WAITING_MAX = 16 };

kwr_status eng_sink_new(const eng_sink_options *options, eng_sink **out, kwr_error *err) {
    eng_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) return eng_no_memory(err, "a sink");
    sink->options = *options;
    if (sink->options.buffer_bytes == 0) sink->options.buffer_bytes = BUFFER_BYTES_DEFAULT;
    sink->next_checkpoint = options->next_checkpoint;
    sink->flush_at = sink->options.buffer_bytes;
    sink->digest = XXH3_createState();
    if (sink->digest == NULL) {
        eng_sink_free(sink);
        return eng_no_memory(err, "a sink");
    }
    *out = sink;
    return KWR_OK;
}

static const kwr_fs *fs_of(const eng_sink *sink) { return sink->options.output->fs; }
static kwr_dir *dir_of(const eng_sink *sink) { return sink->options.output->dir; }

/* The name of the pending file in messages. */
static kwr_status pass(const eng_sink *sink, kwr_status status, const kwr_error *why,
                       const char *name, kwr_error *err) {
    return eng_pass(err, status, why, "output file '%s/%s'", sink->options.output->path, name);
}

/* What stays behind is swept by the next start. */
static void remove_quietly(const eng_sink *sink, const char *name) {
    const kwr_status ignored = fs_of(sink)->remove(fs_of(sink)->ctx, dir_of(sink), name, NULL);
    (void)ignored;
}

static void close_quietly(const eng_sink *sink, kwr_file *file) {
    const kwr_status ignored = fs_of(sink)->close(fs_of(sink)->ctx, file, NULL);
    (void)ignored;
}

static void forget_file(eng_sink *sink) {
    sink->file = NULL;
    sink->dead = false;
    sink->length = 0;
}

void eng_sink_free(eng_sink *sink) {
    if (sink == NULL) return;
    if (sink->file != NULL) {
        /* No checkpoint names it. */
        close_quietly(sink, sink->file);
        remove_quietly(sink, sink->pending);
    }
    XXH3_freeState(sink->digest);
    free(sink->buffer);
    free(sink);
}

/* ---- writing ---- */

static void pending_name(const eng_sink *sink, uint64_t checkpoint, char out[ENG_PENDING_TEXT]) {
    eng_pending_name(sink->options.job, sink->options.generation, checkpoint, sink->options.subtask,
                     out);
}

static kwr_status create_file(eng_sink *sink, kwr_error *err) {
    if (sink->file != NULL) return KWR_OK;
    char name[ENG_PENDING_TEXT];
    pending_name(sink, sink->next_checkpoint, name);
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status =
        fs_of(sink)->create(fs_of(sink)->ctx, dir_of(sink), name, &sink->file, &why);
    if (status < KWR_OK) {
        /* It may be there for all that, and would be in the way of the next try. */
        if (status != KWR_ERR_EXISTS) remove_quietly(sink, name);
        return pass(sink, status, &why, name, err);
    }
    memcpy(sink->pending, name, sizeof name);
    sink->named = sink->next_checkpoint;
    sink->length = 0;
    sink->unhinted = 0;
    XXH3_128bits_reset(sink->digest);
    return KWR_OK;
}

/* Writes the buffer; what could not be written stays in it. */
static kwr_status flush(eng_sink *sink, kwr_error *err) {
    if (sink->filled == 0) return KWR_OK;
    ENG_TRY(create_file(sink, err));
    const kwr_fs *fs = fs_of(sink);
    kwr_error why = ENG_ERROR_NONE;
    kwr_status status = KWR_OK;
    size_t at = 0;
    while (at < sink->filled && status >= KWR_OK) {
        size_t done = 0;
        status = fs->write(fs->ctx, sink->file, sink->buffer + at, sink->filled - at, &done, &why);
        XXH3_128bits_update(sink->digest, sink->buffer + at, done);
        sink->length += done;
        sink->unhinted += done;
        at += done;
    }
    memmove(sink->buffer, sink->buffer + at, sink->filled - at);
    sink->filled -= at;
    if (status < KWR_OK) return pass(sink, status, &why, sink->pending, err);
    sink->flush_at = sink->options.buffer_bytes;
    if (sink->unhinted >= WRITE_BACK_BYTES && fs->write_back != NULL) {
        fs->write_back(fs->ctx, sink->file);
        sink->unhinted = 0;
    }
    return KWR_OK;
}

static kwr_status reserve(eng_sink *sink, size_t size, kwr_error *err) {
    if (size <= sink->capacity - sink->filled) return KWR_OK;
    const size_t capacity = 2 * (sink->filled + size);
    uint8_t *grown = realloc(sink->buffer, capacity);
    if (grown == NULL) return eng_no_memory(err, "output");
    sink->buffer = grown;
    sink->capacity = capacity;
    return KWR_OK;
}

kwr_status eng_sink_write(eng_sink *sink, const void *data, size_t size, kwr_error *err) {
    ENG_TRY(reserve(sink, size, err));
    memcpy(sink->buffer + sink->filled, data, size);
    sink->filled += size;
    if (sink->filled < sink->flush_at) return KWR_OK;
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = flush(sink, &why);
    if (status >= KWR_OK) return KWR_OK;
    /* A full disk may pass: a few more buffers are kept before giving up. */
    const size_t step = sink->options.buffer_bytes;
    const bool give_up =
        kwr_status_action(status) != KWR_RETRY || sink->filled >= BUFFERS_WAITING_MAX * step;
    if (give_up) {
        if (err != NULL) *err = why;
        return status;
    }
    sink->flush_at = sink->filled + step;
    if (sink->options.note != NULL) sink->options.note(sink->options.ctx, why.text);
    return KWR_OK;
}

/* ---- pre-commit ---- */

static void digest_text(const XXH3_state_t *state, char out[33]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    for (size_t i = 0; i < sizeof canonical.digest; i++) {
        snprintf(out + 2 * i, 3, "%02x", canonical.digest[i]);
    }
}

/* Copies `length` bytes of the dead file into a new one, and checks that they are what was written.
 */
static kwr_status copy_bytes(eng_sink *sink, kwr_file *from, kwr_file *to, kwr_error *err) {
    const kwr_fs *fs = fs_of(sink);
    XXH3_state_t *state = XXH3_createState();
    uint8_t *data = malloc(BUFFER_BYTES_DEFAULT);
    kwr_status status = KWR_OK;
    if (state == NULL || data == NULL) status = eng_no_memory(err, "copying output");
    if (status == KWR_OK) XXH3_128bits_reset(state);
    uint64_t at = 0;
    while (status == KWR_OK && at < sink->length) {
        const uint64_t left = sink->length - at;
        const size_t want = left < BUFFER_BYTES_DEFAULT ? (size_t)left : BUFFER_BYTES_DEFAULT;
        size_t got = 0;
        status = fs->read(fs->ctx, from, at, data, want, &got, err);
        if (status == KWR_OK && got == 0) break;
        XXH3_128bits_update(state, data, got);
        for (size_t put = 0; put < got && status == KWR_OK;) {
            size_t done = 0;
            status = fs->write(fs->ctx, to, data + put, got - put, &done, err);
            put += done;
        }
        at += got;
    }
    if (status == KWR_OK) {
        char expected[33];
        char found[33];
        digest_text(sink->digest, expected);
        digest_text(state, found);
        if (at != sink->length || strcmp(expected, found) != 0) {
            status = eng_fail(err, KWR_ERR_POISONED, 0,
                              "what was written is no longer there after a failed sync; start "
                              "again from the last checkpoint");
        }
    }
    free(data);
    XXH3_freeState(state);
    return status;
}

/* Whether the file is called `name` now. A failure: it cannot be told. */
static kwr_status was_renamed(const eng_sink *sink, const char *name, bool *out, kwr_error *err) {
    const kwr_fs *fs = fs_of(sink);
    kwr_file_info info;
    const kwr_status status = fs->info(fs->ctx, dir_of(sink), sink->pending, &info, err);
    *out = false;
    if (status >= KWR_OK) return KWR_OK;
    if (status != KWR_ERR_MISSING) return status;
    ENG_TRY(fs->info(fs->ctx, dir_of(sink), name, &info, err));
    *out = info.kind == KWR_FILE_REGULAR && info.size == sink->length;
    return KWR_OK;
}

static void is_named(eng_sink *sink, uint64_t checkpoint, const char *name) {
    sink->named = checkpoint;
    sink->maybe = 0;
    memcpy(sink->pending, name, ENG_PENDING_TEXT);
}

/* A rename may take effect and report a failure for all that. When that could not be seen at once,
 * it is looked for again before the file is named next. */
static kwr_status look_for_file(eng_sink *sink, kwr_error *err) {
    char name[ENG_PENDING_TEXT];
    bool renamed = false;
    if (sink->maybe == 0) return KWR_OK;
    pending_name(sink, sink->maybe, name);
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = was_renamed(sink, name, &renamed, &why);
    if (status < KWR_OK) return pass(sink, status, &why, sink->pending, err);
    if (renamed) is_named(sink, sink->maybe, name);
    sink->maybe = 0;
    return KWR_OK;
}

/*
 * After a failed sync the system may have dropped the written pages and forgotten it: a second sync
 * would succeed and mean nothing. The content is written anew, under the next name.
 */
static kwr_status replace_dead(eng_sink *sink, uint64_t checkpoint, kwr_error *err) {
    const kwr_fs *fs = fs_of(sink);
    kwr_dir *dir = dir_of(sink);
    kwr_error why = ENG_ERROR_NONE;
    kwr_file *from = NULL;
    kwr_file *to = NULL;
    kwr_file_info info;
    char name[ENG_PENDING_TEXT];
    pending_name(sink, checkpoint, name);
    ENG_TRY(look_for_file(sink, err));
    kwr_status status = fs->open(fs->ctx, dir, sink->pending, 0, &from, &info, &why);
    if (status < KWR_OK) return pass(sink, status, &why, sink->pending, err);
    status = fs->create(fs->ctx, dir, name, &to, &why);
    if (status >= KWR_OK) {
        status = copy_bytes(sink, from, to, &why);
        if (status >= KWR_OK) status = fs->sync(fs->ctx, to, &why);
    }
    close_quietly(sink, from);
    if (status < KWR_OK) {
        if (to != NULL) close_quietly(sink, to);
        if (status != KWR_ERR_EXISTS) remove_quietly(sink, name);
        return pass(sink, status, &why, name, err);
    }
    close_quietly(sink, sink->file);
    remove_quietly(sink, sink->pending);
    sink->file = to;
    sink->dead = false;
    is_named(sink, checkpoint, name);
    return KWR_OK;
}

static kwr_status sync_file(eng_sink *sink, uint64_t checkpoint, kwr_error *err) {
    if (sink->dead) return replace_dead(sink, checkpoint, err);
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = fs_of(sink)->sync(fs_of(sink)->ctx, sink->file, &why);
    if (status >= KWR_OK) return KWR_OK;
    sink->dead = true;
    return pass(sink, status, &why, sink->pending, err);
}

/* The file was named for a checkpoint that failed before it was reached here. */
static kwr_status rename_file(eng_sink *sink, uint64_t checkpoint, kwr_error *err) {
    ENG_TRY(look_for_file(sink, err));
    if (sink->named == checkpoint) return KWR_OK;
    const kwr_fs *fs = fs_of(sink);
    kwr_error why = ENG_ERROR_NONE;
    char name[ENG_PENDING_TEXT];
    pending_name(sink, checkpoint, name);
    const kwr_status status =
        fs->rename(fs->ctx, dir_of(sink), sink->pending, dir_of(sink), name, &why);
    bool renamed = status >= KWR_OK;
    if (!renamed && was_renamed(sink, name, &renamed, NULL) < KWR_OK) sink->maybe = checkpoint;
    if (!renamed) return pass(sink, status, &why, sink->pending, err);
    is_named(sink, checkpoint, name);
    return KWR_OK;
}

kwr_status eng_sink_precommit(eng_sink *sink, uint64_t checkpoint, eng_committable *out,
                              kwr_error *err) {
    sink->next_checkpoint = sink->file == NULL ? checkpoint : checkpoint + 1;
    const kwr_status status = flush(sink, err);
    sink->next_checkpoint = checkpoint + 1;
    ENG_TRY(status);
    if (sink->file == NULL) return KWR_NOT_FOUND;
    ENG_TRY(sync_file(sink, checkpoint, err));
    ENG_TRY(rename_file(sink, checkpoint, err));
    ENG_TRY(eng_output_sync(sink->options.output, err));
    memcpy(out->pending, sink->pending, sizeof out->pending);
    eng_part_name(checkpoint, sink->options.subtask, out->part);
    out->length = sink->length;
    digest_text(sink->digest, out->digest);
    return KWR_OK;
}

void eng_sink_sealed(eng_sink *sink) {
    if (sink->file == NULL) return;
    /* Its content is durable since the sync: closing can lose nothing. */
    close_quietly(sink, sink->file);
    forget_file(sink);
}
