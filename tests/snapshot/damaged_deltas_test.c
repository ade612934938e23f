/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage in a checkpoint of several steps: images of one file, deltas of others, in tiers. Whatever
 * byte changes and wherever a file ends, a restore says which file it is or needs none of it; one
 * that is lazy says so when it reads there, and no checkpoint completes on top of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/line.h"

enum { KEYS = 1500, STEPS = 7, PLACES = 120 };

typedef struct tally {
    unsigned cases, refused, unread;   /* eagerly */
    unsigned at_open, at_load, missed; /* lazily */
} tally;

/* The last of the completed checkpoints is made of all that is in shared/. */
static void open_chain(line *l, const fixture *f, uint64_t *checkpoint) {
    line_open(l, f, checkpoint, 0, LINE_ALL, false);
    line_fill(l, KEYS, 1);
    line_complete(l);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t i = 0; i < 12; i++)
            line_put(l, 0, (step * 97 + i * 131) % KEYS, step + 1);
        line_complete(l);
    }
}

static bool told(const kwr_error *err, kwr_status status, const char *name) {
    return (status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING) &&
           strstr(err->text, name) != NULL;
}

static void eagerly(const line *l, const char *name, size_t at, tally *t) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    const kwr_status status = line_restore(l, 1, LINE_ALL, NULL, &backend, &err);
    if (status == KWR_OK) {
        line_expect_content(backend, LINE_ALL, l, 1);
        kwr_backend_close(backend);
        t->unread++;
        return;
    }
    cr_assert(backend == NULL && told(&err, status, name), "%s at %zu: %s %s", name, at,
              kwr_status_name(status), err.text);
    t->refused++;
}

/* A checkpoint of what was restored; its files go again. */
static kwr_status checkpoint_on_top(const line *l, kwr_backend *backend, kwr_lineage *lineage,
                                    kwr_error *err) {
    line on_top = *l;
    uint64_t checkpoint = *l->checkpoint + 1;
    on_top.backend = backend;
    on_top.lineage = lineage;
    on_top.checkpoint = &checkpoint;
    on_top.result = (kwr_snapshot_result){ 0 };
    const kwr_status status = line_write_with(&on_top, NULL, err);
    if (status >= KWR_OK) kwr_bytes_free(&on_top.result.handle);
    return status;
}

static void lazily(const line *l, const char *name, size_t at, tally *t) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    kwr_lineage *lineage = line_lineage(l);
    kwr_status status = line_restore_as(l, 1, LINE_ALL, KWR_LOADING_LAZY, KWR_LOAD_SHARE_NONE,
                                        lineage, &backend, &err);
    if (status < KWR_OK) {
        cr_assert(backend == NULL && told(&err, status, name), "%s at %zu: %s %s", name, at,
                  kwr_status_name(status), err.text);
        t->at_open++;
        kwr_lineage_free(lineage);
        return;
    }
    status = kwr_backend_load(backend);
    if (status == KWR_OK) {
        line_expect_content(backend, LINE_ALL, l, 1);
        t->missed++;
    } else {
        cr_assert(told(kwr_backend_error(backend), status, name), "%s at %zu: %s %s", name, at,
                  kwr_status_name(status), kwr_backend_error(backend)->text);
        status = checkpoint_on_top(l, backend, lineage, &err);
        cr_assert(told(&err, status, name), "on top of %s at %zu: %s %s", name, at,
                  kwr_status_name(status), err.text);
        t->at_load++;
    }
    kwr_backend_close(backend);
    kwr_lineage_free(lineage);
}

static void look(const line *l, const char *name, size_t at, tally *t) {
    t->cases++;
    eagerly(l, name, at, t);
    lazily(l, name, at, t);
}

static void damage_file(const line *l, const char *path, const char *name, tally *t) {
    size_t size = 0;
    uint8_t *bytes = slurp(path, &size);
    const size_t stride = size / PLACES + 1;
    for (size_t at = 0; at < size; at += stride) {
        bytes[at] ^= (uint8_t)(1U << at % 8);
        spill(path, bytes, size);
        look(l, name, at, t);
        bytes[at] ^= (uint8_t)(1U << at % 8);
    }
    for (size_t cut = 0; cut < size; cut += 4 * stride) {
        spill(path, bytes, cut);
        look(l, name, cut, t);
    }
    remove(path);
    look(l, name, size, t);
    spill(path, bytes, size);
    free(bytes);
}

KWR_TEST(damaged_deltas, are_told_or_never_read, .timeout = 500) {
    fixture f;
    line l = { 0 };
    uint64_t checkpoint = 0;
    tally t = { 0 };
    unsigned files = 0;
    fixture_open(&f, KIND_FILE);
    open_chain(&l, &f, &checkpoint);
    kwr_subtask_part *part = line_part(&l);
    cr_assert(part->subtask.file_count >= 4, "%zu files", part->subtask.file_count);
    for (size_t i = 0; i < part->subtask.file_count; i++) {
        char path[700];
        const char *name = part->subtask.files[i].name;
        cr_assert(name != NULL);
        snprintf(path, sizeof path, "%s/job/shared/%s", f.root, name);
        damage_file(&l, path, name, &t);
        files++;
    }
    /* Damage that a restore does not meet is in what is not used any more. */
    cr_assert(t.refused > t.cases * 3 / 4, "%u of %u refused", t.refused, t.cases);
    cr_assert(t.at_load > t.cases / 4 && t.at_open > files, "%u at the start, %u when loaded",
              t.at_open, t.at_load);
    cr_assert(t.missed == t.unread, "%u unread by one, %u by the other", t.unread, t.missed);
    line_expect_restores(&l, 1, LINE_ALL);
    kwr_subtask_part_free(part);
    line_close(&l);
    fixture_close(&f);
}
