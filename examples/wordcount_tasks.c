/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/wordcount_tasks.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "examples/engine/error.h"
#include "examples/engine/sink_file.h"

enum { WORD_HEAD = sizeof(uint32_t), COUNT_HEAD = sizeof(int64_t) + sizeof(uint32_t) };

/* ---- lines to words ---- */

static bool is_space(uint8_t byte) {
    return byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d;
}

kwr_status wc_next_word(kwr_slice line, size_t *at, kwr_slice *word) {
    const uint8_t *bytes = line.data;
    size_t i = *at;
    while (i < line.size && is_space(bytes[i]))
        i++;
    const size_t start = i;
    while (i < line.size && !is_space(bytes[i]))
        i++;
    *at = i;
    if (i == start) return KWR_NOT_FOUND;
    *word = (kwr_slice){ bytes + start, i - start };
    return KWR_OK;
}

kwr_status wc_split_line(void *ctx, eng_task *task, const char *path, kwr_slice line,
                         uint64_t offset, kwr_error *err) {
    (void)ctx;
    eng_exchange *exchange = eng_task_exchange(task);
    kwr_slice word;
    for (size_t at = 0; wc_next_word(line, &at, &word) == KWR_OK;) {
        if (word.size > WC_WORD_BYTES_MAX) {
            return eng_fail(err, KWR_ERR_RANGE, 0,
                            "input '%s', offset %" PRIu64 ": a word is longer than %d bytes", path,
                            offset + (at - word.size), WC_WORD_BYTES_MAX);
        }
        const uint32_t size = (uint32_t)word.size;
        uint8_t *room = NULL;
        ENG_TRY(eng_exchange_emit(exchange, eng_exchange_route(exchange, word), WORD_HEAD + size,
                                  &room));
        memcpy(room, &size, WORD_HEAD);
        memcpy(room + WORD_HEAD, word.data, size);
    }
    return KWR_OK;
}

/* ---- words to counts ---- */

static kwr_status pass_backend_error(const wc_count *count, kwr_status status, kwr_error *err) {
    return eng_pass(err, status, kwr_backend_error(count->backend), "counting a word");
}

/* Tells how much of the counts is loaded, as long as not all are. */
static void tell_loading(wc_count *count) {
    if (!count->loading) return;
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(count->backend, &stats);
    atomic_store_explicit(&count->load_bytes, stats.load_bytes, memory_order_relaxed);
    atomic_store_explicit(&count->load_bytes_left, stats.load_bytes_left, memory_order_relaxed);
    atomic_store_explicit(&count->load_left_ns, stats.load_left_ns, memory_order_relaxed);
    count->loading = stats.load_pages_left > 0;
}

static kwr_status count_open(void *ctx, eng_task *task, kwr_error *err) {
    wc_count *count = ctx;
    count->backend = kwr_task_backend(eng_task_keyweir(task));
    const kwr_reducing_descriptor descriptor = {
        .struct_size = sizeof descriptor,
        .name = "count",
        .type = { .kind = KWR_TYPE_I64 },
        .reduce = KWR_REDUCE_SUM,
    };
    ENG_TRY(kwr_reducing_open(count->backend, &descriptor, &count->count, err));
    count->loading = true;
    tell_loading(count);
    const kwr_status status = kwr_key_batch_new(count->backend, WC_BATCH_KEYS, &count->batch);
    return status < KWR_OK ? pass_backend_error(count, status, err) : KWR_OK;
}

/* One word more, and its count so far on the way to the sink. */
static kwr_status count_one(wc_count *count, eng_exchange *exchange, size_t index, kwr_error *err) {
    const int64_t one = 1;
    kwr_slice result;
    kwr_status status = kwr_key_batch_select(count->batch, index);
    if (status >= KWR_OK) {
        status = kwr_reducing_add(count->count, (kwr_slice){ &one, sizeof one }, &result);
    }
    if (status < KWR_OK) return pass_backend_error(count, status, err);
    const kwr_slice word = count->words[index];
    const uint32_t size = (uint32_t)word.size;
    uint8_t *room = NULL;
    ENG_TRY(eng_exchange_emit(exchange, 0, COUNT_HEAD + word.size, &room));
    memcpy(room, result.data, sizeof(int64_t));
    memcpy(room + sizeof(int64_t), &size, sizeof size);
    memcpy(room + COUNT_HEAD, word.data, word.size);
    return KWR_OK;
}

/* The words of a batch are hashed and fetched together: their cache misses overlap. */
static kwr_status count_batch(wc_count *count, eng_exchange *exchange, size_t words,
                              kwr_error *err) {
    kwr_state *state = kwr_reducing_state(count->count);
    const kwr_status status = kwr_key_batch_load(count->batch, count->words, NULL, words);
    if (status < KWR_OK) return pass_backend_error(count, status, err);
    kwr_key_batch_prefetch(count->batch, &state, 1);
    for (size_t i = 0; i < words; i++)
        ENG_TRY(count_one(count, exchange, i, err));
    atomic_fetch_add_explicit(&count->words_counted, words, memory_order_relaxed);
    return KWR_OK;
}

static kwr_status count_records(void *ctx, eng_task *task, const eng_buffer *buffer,
                                kwr_error *err) {
    wc_count *count = ctx;
    eng_exchange *exchange = eng_task_exchange(task);
    for (size_t at = 0; at < buffer->size;) {
        size_t words = 0;
        while (words < WC_BATCH_KEYS && at < buffer->size) {
            uint32_t size = 0;
            memcpy(&size, buffer->data + at, WORD_HEAD);
            count->words[words++] = (kwr_slice){ buffer->data + at + WORD_HEAD, size };
            at += WORD_HEAD + size;
        }
        ENG_TRY(count_batch(count, exchange, words, err));
    }
    tell_loading(count);
    return KWR_OK;
}

eng_operator wc_count_operator(wc_count *count) {
    return (eng_operator){ .ctx = count, .open = count_open, .records = count_records };
}

/* ---- counts to lines ---- */

enum { NUMBER_ROOM = 24 };

/* TAB, the decimal number, LF, written to the end of `room`; returns where it starts. */
static const char *number_text(int64_t count, char room[NUMBER_ROOM], size_t *size) {
    size_t at = NUMBER_ROOM;
    uint64_t value = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    room[--at] = '\n';
    do {
        room[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    if (count < 0) room[--at] = '-';
    room[--at] = '\t';
    *size = NUMBER_ROOM - at;
    return room + at;
}

kwr_status wc_write_counts(void *ctx, eng_task *task, const eng_buffer *buffer, kwr_error *err) {
    (void)task;
    eng_sink *sink = ctx;
    for (size_t at = 0; at < buffer->size;) {
        int64_t count = 0;
        uint32_t size = 0;
        memcpy(&count, buffer->data + at, sizeof count);
        memcpy(&size, buffer->data + at + sizeof count, sizeof size);
        ENG_TRY(eng_sink_write(sink, buffer->data + at + COUNT_HEAD, size, err));
        char room[NUMBER_ROOM];
        size_t number_size = 0;
        const char *number = number_text(count, room, &number_size);
        ENG_TRY(eng_sink_write(sink, number, number_size, err));
        at += COUNT_HEAD + size;
    }
    return KWR_OK;
}
