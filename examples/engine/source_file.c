/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/source_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/engine/error.h"

enum { HEAD_BYTES = 64 * 1024, LINES_AT_ONCE = 256, BYTES_AT_ONCE = 1024 * 1024 };
enum { POSITION_TEXT = 24, HEAD_TEXT = 33 };

static const uint64_t second_ns = UINT64_C(1000000000);

static kwr_slice text_slice(const char *text) { return (kwr_slice){ text, strlen(text) }; }

static kwr_slice ordinal_text(const eng_source *source, char out[POSITION_TEXT]) {
    snprintf(out, POSITION_TEXT, "%" PRIu32, source->ordinal);
    return text_slice(out);
}

static size_t head_size(uint64_t size) { return size < HEAD_BYTES ? (size_t)size : HEAD_BYTES; }

/* `identity` NULL: keep it. */
static kwr_status set_split(const eng_source *source, eng_task *task, const char *identity,
                            uint64_t position, kwr_error *err) {
    char id[POSITION_TEXT];
    char at[POSITION_TEXT];
    snprintf(at, sizeof at, "%" PRIu64, position);
    const kwr_split split = {
        .id = ordinal_text(source, id),
        .identity = identity == NULL ? (kwr_slice){ NULL, 0 } : text_slice(identity),
        .position = text_slice(at),
    };
    kwr_task *keyweir = eng_task_keyweir(task);
    const kwr_status status = kwr_task_set_split(keyweir, &split);
    if (status < KWR_OK)
        return eng_pass(err, status, kwr_task_error(keyweir), "input '%s'", source->path);
    return KWR_OK;
}

static kwr_status start_new(eng_source *source, eng_task *task, kwr_error *err) {
    const uint64_t size = eng_lines_size(source->lines);
    char head[HEAD_TEXT];
    ENG_TRY(eng_lines_head(source->lines, head_size(size), head, err));
    char *identity = eng_source_identity(source->path, size, head);
    if (identity == NULL) return eng_no_memory(err, "an input's identity");
    eng_lines_seek(source->lines, 0, size);
    const kwr_status status = set_split(source, task, identity, 0, err);
    free(identity);
    return status;
}

static bool parse_position(kwr_slice text, uint64_t *out) {
    const char *p = text.data;
    uint64_t value = 0;
    if (text.size == 0 || (text.size > 1 && p[0] == '0')) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(p[i] - '0'), &value)) return false;
    }
    *out = value;
    return true;
}

/* Whether the file is still the one the job was started with. */
static kwr_status check_same(eng_source *source, uint64_t size, const char *head, kwr_error *err) {
    const uint64_t now = eng_lines_size(source->lines);
    if (now < size) {
        return eng_fail(err, KWR_ERR_REFUSED, 0,
                        "input '%s' has shrunk: %" PRIu64 " bytes, %" PRIu64
                        " when the job was started; restore the file or start a new job",
                        source->path, now, size);
    }
    char found[HEAD_TEXT];
    ENG_TRY(eng_lines_head(source->lines, head_size(size), found, err));
    if (strcmp(found, head) != 0) {
        return eng_fail(err, KWR_ERR_REFUSED, 0,
                        "input '%s' has changed: its first %zu bytes are not those the job was "
                        "started with; restore the file or start a new job",
                        source->path, head_size(size));
    }
    if (now > size && source->note != NULL) {
        char text[512];
        snprintf(text, sizeof text,
                 "input '%s' has grown from %" PRIu64 " to %" PRIu64
                 " bytes; what was added is not read",
                 source->path, size, now);
        source->note(source->ctx, text);
    }
    return KWR_OK;
}

static kwr_status go_on(eng_source *source, eng_task *task, kwr_error *err) {
    kwr_split split;
    kwr_task *keyweir = eng_task_keyweir(task);
    const kwr_status status = kwr_task_split(keyweir, 0, &split);
    if (status < KWR_OK)
        return eng_pass(err, status, kwr_task_error(keyweir), "input '%s'", source->path);
    char id[POSITION_TEXT];
    const kwr_slice expected = ordinal_text(source, id);
    uint64_t position = 0;
    if (split.id.size != expected.size ||
        memcmp(split.id.data, expected.data, expected.size) != 0 ||
        !parse_position(split.position, &position)) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0, "input '%s': its stored position is not readable",
                        source->path);
    }
    uint64_t size = 0;
    char head[HEAD_TEXT];
    ENG_TRY(eng_source_identity_parse(split.identity, source->path, &size, head, err));
    if (position > size) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0,
                        "input '%s': its stored position is beyond its end", source->path);
    }
    ENG_TRY(check_same(source, size, head, err));
    eng_lines_seek(source->lines, position, size);
    return KWR_OK;
}

static kwr_status source_open(void *ctx, eng_task *task, kwr_error *err) {
    eng_source *source = ctx;
    kwr_task *keyweir = eng_task_keyweir(task);
    const eng_lines_options options = {
        .env = source->env,
        .path = source->path,
        .line_bytes_max = source->line_bytes_max,
    };
    ENG_TRY(eng_lines_open(&options, &source->lines, err));
    if (kwr_task_split_count(keyweir) > 0) return go_on(source, task, err);
    if (kwr_task_restored(keyweir) == 0) return start_new(source, task, err);
    return eng_fail(err, KWR_ERR_CORRUPT, 0, "input '%s': the checkpoint holds no position for it",
                    source->path);
}

/* When the next line is due; 0: now. */
static uint64_t due_ns(eng_source *source) {
    if (source->rate == 0) return 0;
    const uint64_t now = source->env->clock->mono_ns(source->env->clock->ctx);
    const uint64_t due = source->pace_start_ns + source->pace_lines / source->rate * second_ns +
                         source->pace_lines % source->rate * second_ns / source->rate;
    /* After a stall it goes on at its rate; it does not catch up. */
    if (source->pace_start_ns == 0 || now > due + second_ns) {
        source->pace_start_ns = now;
        source->pace_lines = 0;
        return 0;
    }
    return due > now ? due : 0;
}

static kwr_status source_produce(void *ctx, eng_task *task, eng_production *out, kwr_error *err) {
    eng_source *source = ctx;
    size_t bytes = 0;
    for (size_t i = 0; i < LINES_AT_ONCE && bytes < BYTES_AT_ONCE; i++) {
        out->resume_ns = due_ns(source);
        if (out->resume_ns != 0) return KWR_OK;
        const uint64_t offset = eng_lines_position(source->lines);
        kwr_slice line;
        const kwr_status status = eng_lines_next(source->lines, &line, err);
        if (status < KWR_OK) return status;
        if (status == KWR_NOT_FOUND) {
            out->ended = true;
            return KWR_OK;
        }
        ENG_TRY(source->line(source->ctx, task, source->path, line, offset, err));
        bytes += line.size;
        source->pace_lines++;
        atomic_fetch_add_explicit(&source->lines_read, 1, memory_order_relaxed);
    }
    return KWR_OK;
}

/* Everything before the position was emitted before the barrier. */
static kwr_status source_snapshot(void *ctx, eng_task *task, const kwr_barrier *barrier,
                                  kwr_error *err) {
    (void)barrier;
    eng_source *source = ctx;
    return set_split(source, task, NULL, eng_lines_position(source->lines), err);
}

eng_operator eng_source_operator(eng_source *source) {
    return (eng_operator){
        .ctx = source,
        .open = source_open,
        .produce = source_produce,
        .snapshot = source_snapshot,
    };
}

void eng_source_done(eng_source *source) {
    eng_lines_close(source->lines);
    source->lines = NULL;
}
