/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas and their tiers where subtasks differ: in what they change, in what travels inline, in
 * how many they are after each restart.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/line.h"

/* One checkpoint of all subtasks, and what it must hold. */
typedef struct cut {
    line parts[LINES_MAX]; /* handle, range and rounds */
    uint32_t width;
} cut;

typedef struct world {
    fixture f;
    uint64_t checkpoint;
    line lines[LINES_MAX];
    uint32_t width;
    uint32_t keys;
    uint32_t x;
} world;

static uint32_t draw(world *w, uint32_t below) {
    w->x = w->x * 1664525U + 1013904223U;
    return (uint32_t)((uint64_t)w->x * below >> 32);
}

static kwr_key_group_range range_of(uint32_t subtask, uint32_t width) {
    const uint32_t first = subtask * MINI_GROUPS / width;
    return (kwr_key_group_range){ first, (subtask + 1) * MINI_GROUPS / width - first };
}

static void open_lines(world *w, uint32_t width) {
    w->width = width;
    for (uint32_t i = 0; i < width; i++)
        line_open(&w->lines[i], &w->f, &w->checkpoint, i, range_of(i, width), i % 2 == 1);
}

static void close_lines(world *w) {
    for (uint32_t i = 0; i < w->width; i++)
        line_close(&w->lines[i]);
}

static void cut_keep(cut *c, const world *w) {
    c->width = w->width;
    for (uint32_t i = 0; i < w->width; i++) {
        const line *l = &w->lines[i];
        line *part = &c->parts[i];
        *part = (line){ .storage = l->storage, .env = l->env, .range = l->range };
        const kwr_bytes *handle = &l->result.handle;
        part->result.handle = (kwr_bytes){ .data = malloc(handle->size), .size = handle->size };
        part->rounds = calloc(LINE_STATES, sizeof *part->rounds);
        memcpy(part->result.handle.data, handle->data, handle->size);
        memcpy(part->rounds, l->rounds, LINE_STATES * sizeof *part->rounds);
    }
}

static void cut_free(cut *c) {
    for (uint32_t i = 0; i < c->width; i++) {
        free(c->parts[i].result.handle.data);
        free(c->parts[i].rounds);
    }
}

/* All subtasks begin again with what a checkpoint says, maybe as more or fewer. */
static void restart(world *w, const cut *from, uint32_t width) {
    close_lines(w);
    open_lines(w, width);
    for (uint32_t i = 0; i < width; i++) {
        line *l = &w->lines[i];
        l->loading = draw(w, 2) == 0 ? KWR_LOADING_EAGER : KWR_LOADING_LAZY;
        l->load_share = draw(w, 3) == 0 ? 50 : KWR_LOAD_SHARE_NONE;
        line_restart(l, from->parts, from->width);
        /* Lazily, mostly, what is not needed stays away. */
        if (l->loading == KWR_LOADING_LAZY && draw(w, 4) > 0) continue;
        line_expect_content(l->backend, l->range, from->parts, from->width);
    }
}

/* A few keys, of all key groups or of some. */
static void change(world *w, uint32_t round) {
    const uint32_t count = 1 + draw(w, 40), some = 1 + draw(w, MINI_GROUPS);
    const uint32_t first = draw(w, 2) == 0 ? 0 : draw(w, MINI_GROUPS);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t number = draw(w, w->keys + w->keys / 8), state = draw(w, 16) == 0;
        const bool gone = draw(w, 8) == 0;
        if ((mini_group(number) - first) % MINI_GROUPS >= some) continue;
        for (uint32_t k = 0; k < w->width; k++)
            if (gone)
                line_take(&w->lines[k], 0, number);
            else
                line_put(&w->lines[k], state, number, round);
    }
}

static void complete(world *w) {
    static const size_t INLINE[] = { 0, 0, 600, 3000, 20000, 1 << 20 };
    kwr_error err = { 0 };
    w->checkpoint++;
    for (uint32_t i = 0; i < w->width; i++) {
        w->lines[i].inline_bytes = INLINE[draw(w, 6)];
        KWR_MUST_ERR(line_write_with(&w->lines[i], NULL, &err), err);
    }
    for (uint32_t i = 0; i < w->width; i++)
        kwr_lineage_confirm(w->lines[i].lineage, w->checkpoint);
}

/* Some subtasks have written when it ends. */
static void give_up(world *w) {
    kwr_error err = { 0 };
    w->checkpoint++;
    for (uint32_t i = 0; i < w->width; i++) {
        if (draw(w, 3) == 0) continue;
        KWR_MUST_ERR(line_write_with(&w->lines[i], NULL, &err), err);
        kwr_lineage_abort(w->lines[i].lineage, w->checkpoint);
    }
}

static void run(uint32_t seed, uint32_t keys) {
    enum { STEPS = 56 };
    world w = { .x = seed, .keys = keys };
    cut all[STEPS];
    fixture_open(&w.f, KIND_MEMORY);
    open_lines(&w, 1 + draw(&w, LINES_MAX));
    for (uint32_t i = 0; i < w.width; i++)
        line_fill(&w.lines[i], keys, 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        if (step > 0) change(&w, step + 2);
        if (draw(&w, 6) == 0) {
            give_up(&w);
            change(&w, step + 2);
        }
        complete(&w);
        cut_keep(&all[step], &w);
        const uint32_t back = draw(&w, 6) == 0 ? draw(&w, step + 1) : 0;
        if (draw(&w, 3) == 0) restart(&w, &all[step - back], 1 + draw(&w, LINES_MAX));
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        line_expect_restores(all[step].parts, all[step].width, LINE_ALL);
        line_expect_restores(all[step].parts, all[step].width, range_of(draw(&w, 3), 3));
        line_expect_lazy_restores(all[step].parts, all[step].width, LINE_ALL);
        cut_free(&all[step]);
    }
    close_lines(&w);
    fixture_close(&w.f);
}

KWR_TEST(tiers, every_checkpoint_restores_after_any_restarts, .timeout = 300) {
    for (uint32_t seed = 1; seed <= 16; seed++)
        run(seed, seed % 3 == 0 ? 400 : 2500);
}

/* The deltas of one subtask went inline and those of the other did not; the checkpoint after both
 * were restored into one loses neither. */
KWR_TEST(tiers, deltas_of_one_subtask_inline_and_of_another_not) {
    world w = { .keys = 4000 };
    cut first, second;
    fixture_open(&w.f, KIND_MEMORY);
    open_lines(&w, 2);
    for (uint32_t round = 1; round < 3; round++) {
        for (uint32_t i = 0; i < 2; i++) {
            line_fill(&w.lines[i], round == 1 ? w.keys : 20, round);
            w.lines[i].inline_bytes = round == 2 && i == 0 ? 1 << 20 : 0;
        }
        kwr_error err = { 0 };
        w.checkpoint++;
        for (uint32_t i = 0; i < 2; i++)
            KWR_MUST_ERR(line_write_with(&w.lines[i], NULL, &err), err);
        for (uint32_t i = 0; i < 2; i++)
            kwr_lineage_confirm(w.lines[i].lineage, w.checkpoint);
    }
    cr_assert(w.lines[0].result.files == 0 && w.lines[1].result.files == 1);
    cut_keep(&first, &w);
    restart(&w, &first, 1);
    line_complete(&w.lines[0]);
    cut_keep(&second, &w);
    line_expect_restores(second.parts, 1, second.parts[0].range);
    cut_free(&first);
    cut_free(&second);
    close_lines(&w);
    fixture_close(&w.f);
}
