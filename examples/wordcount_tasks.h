/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What wordcount computes: lines into words, words into counts, counts into lines of output. What
 * travels between the tasks is defined here and nowhere else:
 *
 *   source -> count   u32 size, the word
 *   count -> sink     i64 count so far, u32 size, the word
 */
#ifndef WC_TASKS_H
#define WC_TASKS_H

#include <keyweir/keyweir.h>

#include "examples/engine/engine.h"

enum { WC_WORD_BYTES_MAX = 1024 * 1024, WC_BATCH_KEYS = 32 };

/* Sends the words of a line to the tasks that own them; an eng_line_fn. */
kwr_status wc_split_line(void *ctx, eng_task *task, const char *path, kwr_slice line,
                         uint64_t offset, kwr_error *err);

/* The next word at or behind *at, KWR_NOT_FOUND when there is none; *at moves behind it. */
kwr_status wc_next_word(kwr_slice line, size_t *at, kwr_slice *word);

/* The state of one counting task. */
typedef struct wc_count {
    kwr_backend *backend;
    kwr_reducing *count;
    kwr_key_batch *batch;
    kwr_slice words[WC_BATCH_KEYS];
    _Atomic uint64_t words_counted;
    /* Of counts that are loaded while the job runs: bytes, and the time the rest will take. */
    bool loading;
    _Atomic uint64_t load_bytes, load_bytes_left, load_left_ns;
} wc_count;

eng_operator wc_count_operator(wc_count *count);

/* Writes "word TAB count LF" for each record; `ctx` is the eng_sink. */
kwr_status wc_write_counts(void *ctx, eng_task *task, const eng_buffer *buffer, kwr_error *err);

#endif /* WC_TASKS_H */
