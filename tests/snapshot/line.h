/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subtask of the page store with increments, and what it must hold: keys with values that can be
 * told from the round they were written in.
 */
#ifndef SNAPSHOT_LINE_H
#define SNAPSHOT_LINE_H

#include "keyweir/state.h"
#include "snapshot/manifest.h"
#include "tests/snapshot/mini_job.h"

enum { LINE_KEYS = 20000, LINE_STATES = 2, LINES_MAX = 4 };

typedef struct line {
    kwr_storage *storage;
    const kwr_env *env;
    kwr_backend *backend;
    kwr_lineage *lineage;
    kwr_key_group_range range;
    uint32_t subtask;
    kwr_value *values[LINE_STATES];
    uint32_t (*rounds)[LINE_KEYS]; /* [LINE_STATES]: the round of each value, 0: none */
    uint64_t *checkpoint;          /* the latest; one counter for all subtasks */
    kwr_snapshot_result result;
    size_t inline_bytes;
    kwr_loading loading; /* of its restarts */
    uint32_t load_share;
} line;

static const kwr_key_group_range LINE_ALL = { 0, 0 };

/* `reversed`: the states get their ids in the other order. */
void line_open(line *l, const fixture *f, uint64_t *checkpoint, uint32_t subtask,
               kwr_key_group_range range, bool reversed);
void line_open_states(line *l, bool reversed);
void line_close(line *l);
bool line_owns(const line *l, uint32_t number);

/* Keys of others are left alone. */
void line_put(line *l, uint32_t state, uint32_t number, uint32_t round);
void line_take(line *l, uint32_t state, uint32_t number);
void line_fill(line *l, uint32_t count, uint32_t round);

/* A snapshot for the present checkpoint. */
kwr_status line_write_with(line *l, kwr_cancel *cancel, kwr_error *err);
/* One for the next; and one that completes. */
void line_write(line *l);
void line_complete(line *l);

/* Exactly what the lines hold together. */
void line_expect_content(kwr_backend *backend, kwr_key_group_range range, const line *lines,
                         size_t count);
kwr_status line_restore(const line *lines, size_t count, kwr_key_group_range range,
                        kwr_lineage *lineage, kwr_backend **out, kwr_error *err);
kwr_status line_restore_as(const line *lines, size_t count, kwr_key_group_range range,
                           kwr_loading loading, uint32_t share, kwr_lineage *lineage,
                           kwr_backend **out, kwr_error *err);
/* An empty one of the lines' job. */
kwr_lineage *line_lineage(const line *l);
void line_expect_restores(const line *lines, size_t count, kwr_key_group_range range);
/* Likewise lazily. */
void line_expect_lazy_restores(const line *lines, size_t count, kwr_key_group_range range);
/* The line goes on with what was restored of these, which may be itself. */
void line_restart(line *l, const line *lines, size_t count);
kwr_subtask_part *line_part(const line *l);

#endif /* SNAPSHOT_LINE_H */
