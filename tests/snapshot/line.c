/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/snapshot/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t UID[16] = { 9, 8, 7 };
static const char *const NAMES[LINE_STATES] = { "first", "second" };

static size_t value_of(uint32_t state, uint32_t number, uint32_t round, uint8_t out[64]) {
    uint32_t x = number * 2654435761U + round * 97 + state;
    const size_t size = 20 + (number + (number % 7 == 0 ? round : 0)) % 40;
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)((x = x * 1664525U + 1013904223U) >> 24);
    return size;
}

static kwr_slice key_of(uint32_t number, char out[32]) {
    return (kwr_slice){ out, (size_t)snprintf(out, 32, "key-%u", number) };
}

bool line_owns(const line *l, uint32_t number) {
    const uint32_t group = mini_group(number);
    return l->range.count == 0 || group - l->range.first < l->range.count;
}

/* States in the order that the subtask opens them, which gives them their ids. */
void line_open_states(line *l, bool reversed) {
    for (uint32_t i = 0; i < LINE_STATES; i++) {
        const uint32_t state = reversed ? LINE_STATES - 1 - i : i;
        const kwr_value_descriptor d = { .struct_size = sizeof d, .name = NAMES[state] };
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_value_open(l->backend, &d, &l->values[state], &err), err);
    }
}

void line_open(line *l, const fixture *f, uint64_t *checkpoint, uint32_t subtask,
               kwr_key_group_range range, bool reversed) {
    *l = (line){ .storage = f->storage,
                 .env = f->env,
                 .range = range,
                 .subtask = subtask,
                 .checkpoint = checkpoint };
    l->rounds = calloc(LINE_STATES, sizeof *l->rounds);
    const kwr_backend_options options = mini_options(f->env, range);
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_backend_open(&options, &l->backend, &err), err);
    KWR_MUST_ERR(kwr_lineage_new(f->env, UID, "count", &l->lineage, &err), err);
    line_open_states(l, reversed);
}

void line_close(line *l) {
    kwr_bytes_free(&l->result.handle);
    kwr_lineage_free(l->lineage);
    kwr_backend_close(l->backend);
    free(l->rounds);
}

void line_put(line *l, uint32_t state, uint32_t number, uint32_t round) {
    char key[32];
    uint8_t bytes[64];
    if (!line_owns(l, number)) return;
    KWR_MUST(kwr_backend_set_key(l->backend, key_of(number, key)));
    KWR_MUST(kwr_value_put(l->values[state],
                           (kwr_slice){ bytes, value_of(state, number, round, bytes) }));
    l->rounds[state][number] = round;
}

void line_take(line *l, uint32_t state, uint32_t number) {
    char key[32];
    if (!line_owns(l, number) || l->rounds[state][number] == 0) return;
    KWR_MUST(kwr_backend_set_key(l->backend, key_of(number, key)));
    KWR_MUST(kwr_value_clear(l->values[state]));
    l->rounds[state][number] = 0;
}

void line_fill(line *l, uint32_t count, uint32_t round) {
    for (uint32_t i = 0; i < count; i++)
        line_put(l, 0, i, round);
}

kwr_status line_write_with(line *l, kwr_cancel *cancel, kwr_error *err) {
    kwr_view *view = NULL;
    KWR_MUST(kwr_backend_freeze(l->backend, &view));
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = l->env,
                                   .storage = l->storage,
                                   .job = "job",
                                   .operator_id = "count",
                                   .subtask = l->subtask,
                                   .generation = 1,
                                   .checkpoint = *l->checkpoint,
                                   .sequence = *l->checkpoint * 10,
                                   .inline_bytes = l->inline_bytes,
                                   .threads = 1,
                                   .lineage = l->lineage };
    memcpy(target.job_uid, UID, sizeof UID);
    kwr_snapshot_result result = { 0 };
    const kwr_status status = kwr_snapshot_write(view, &target, cancel, &result, err);
    kwr_view_release(view);
    if (status < KWR_OK) return status;
    kwr_bytes_free(&l->result.handle);
    l->result = result;
    return status;
}

void line_write(line *l) {
    kwr_error err = { 0 };
    ++*l->checkpoint;
    KWR_MUST_ERR(line_write_with(l, NULL, &err), err);
}

void line_complete(line *l) {
    line_write(l);
    kwr_lineage_confirm(l->lineage, *l->checkpoint);
}

static uint32_t round_of(const line *lines, size_t count, uint32_t state, uint32_t number) {
    for (size_t i = 0; i < count; i++)
        if (line_owns(&lines[i], number)) return lines[i].rounds[state][number];
    return 0;
}

void line_expect_content(kwr_backend *backend, kwr_key_group_range range, const line *lines,
                         size_t count) {
    line as = { .backend = backend, .range = range };
    uint64_t present = 0;
    line_open_states(&as, false);
    for (uint32_t state = 0; state < LINE_STATES; state++)
        for (uint32_t i = 0; i < LINE_KEYS; i++) {
            char key[32];
            uint8_t bytes[64];
            kwr_slice got = { 0 };
            if (!line_owns(&as, i)) continue;
            const uint32_t round = round_of(lines, count, state, i);
            if (round == 0) continue;
            present++;
            KWR_MUST(kwr_backend_set_key(backend, key_of(i, key)));
            KWR_MUST(kwr_value_get(as.values[state], &got));
            const size_t size = value_of(state, i, round, bytes);
            cr_assert(got.size == size && memcmp(got.data, bytes, size) == 0, "state %u, key %u",
                      state, i);
        }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    cr_assert(stats.entries == present, "%llu entries, %llu expected",
              (unsigned long long)stats.entries, (unsigned long long)present);
}

kwr_status line_restore_as(const line *lines, size_t count, kwr_key_group_range range,
                           kwr_loading loading, uint32_t share, kwr_lineage *lineage,
                           kwr_backend **out, kwr_error *err) {
    kwr_backend_options options = mini_options(lines->env, range);
    options.loading = loading;
    options.load_share = share;
    kwr_slice handles[LINES_MAX];
    for (size_t i = 0; i < count; i++)
        handles[i] = (kwr_slice){ lines[i].result.handle.data, lines[i].result.handle.size };
    return kwr_snapshot_resume(&options, lines->storage, "job", handles, count, lineage, out, err);
}

kwr_status line_restore(const line *lines, size_t count, kwr_key_group_range range,
                        kwr_lineage *lineage, kwr_backend **out, kwr_error *err) {
    return line_restore_as(lines, count, range, KWR_LOADING_EAGER, 0, lineage, out, err);
}

static void expect_restores(const line *lines, size_t count, kwr_key_group_range range,
                            kwr_loading loading) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(
        line_restore_as(lines, count, range, loading, KWR_LOAD_SHARE_NONE, NULL, &backend, &err),
        err);
    line_expect_content(backend, range, lines, count);
    kwr_backend_close(backend);
}

void line_expect_restores(const line *lines, size_t count, kwr_key_group_range range) {
    expect_restores(lines, count, range, KWR_LOADING_EAGER);
}
void line_expect_lazy_restores(const line *lines, size_t count, kwr_key_group_range range) {
    expect_restores(lines, count, range, KWR_LOADING_LAZY);
}

kwr_lineage *line_lineage(const line *l) {
    kwr_lineage *lineage = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_lineage_new(l->env, UID, "count", &lineage, &err), err);
    return lineage;
}

void line_restart(line *l, const line *lines, size_t count) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    kwr_lineage_free(l->lineage);
    l->lineage = line_lineage(l);
    KWR_MUST_ERR(line_restore_as(lines, count, l->range, l->loading, l->load_share, l->lineage,
                                 &backend, &err),
                 err);
    kwr_backend_close(l->backend);
    l->backend = backend;
    line_open_states(l, false);
    for (uint32_t state = 0; state < LINE_STATES; state++)
        for (uint32_t i = 0; i < LINE_KEYS; i++)
            l->rounds[state][i] = line_owns(l, i) ? round_of(lines, count, state, i) : 0;
}

kwr_subtask_part *line_part(const line *l) {
    kwr_subtask_part *part = NULL;
    kwr_error err = { 0 };
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(l->env, NULL, handle, "handle", &part, &err), err);
    return part;
}
