/* SPDX-License-Identifier: Apache-2.0 */
/* Operator state through kwr_job and kwr_task, against lists of lists that are dealt out by hand.
 */
#include "tests/programs/operators.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/task.h"

typedef enum mode { MODE_SPLIT, MODE_UNION, MODE_MAP, MODE_RAW } mode;

static const struct {
    const char *name;
    mode mode;
} rows[] = {
    { "requests", MODE_SPLIT }, { "rules", MODE_MAP },   { "members", MODE_UNION },
    { "pieces", MODE_RAW },     { "later", MODE_SPLIT },
};
enum { ROWS = sizeof rows / sizeof rows[0], MANY = 400, MAP_KEYS = 60 };

/* What the subtasks hold, and in which order each opened it. */
typedef struct model {
    uint32_t parallelism;
    cell at[SUBTASKS_MAX][ROWS];
    bool opened[SUBTASKS_MAX][ROWS];
    size_t order[SUBTASKS_MAX][ROWS], count[SUBTASKS_MAX];
} model;

struct operators {
    kwr_storage *storage;
    kwr_job *job;
    kwr_task *tasks[SUBTASKS_MAX];
    kwr_list *lists[SUBTASKS_MAX][ROWS];
    kwr_map *maps[SUBTASKS_MAX][ROWS];
    model now, stored;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool awake;
};

/* ---- the model ---- */

static void model_clear(model *m) {
    for (size_t i = 0; i < SUBTASKS_MAX; i++)
        for (size_t row = 0; row < ROWS; row++)
            cell_clear(&m->at[i][row]);
    *m = (model){ 0 };
}

static void model_add(cell *to, size_t row, const element *from) {
    if (rows[row].mode == MODE_MAP)
        cell_put(to, from->number, from->value);
    else
        cell_append(to, from->value);
}

static void model_append(cell *to, size_t row, const cell *from) {
    for (size_t i = 0; i < from->count; i++)
        model_add(to, row, &from->elements[i]);
}

static void model_open(model *m, uint32_t which, size_t row) {
    if (m->opened[which][row]) return;
    m->opened[which][row] = true;
    m->order[which][m->count[which]++] = row;
}

static void model_copy(model *to, const model *from) {
    model_clear(to);
    *to = *from;
    memset(to->at, 0, sizeof to->at);
    for (uint32_t i = 0; i < from->parallelism; i++)
        for (size_t row = 0; row < ROWS; row++)
            model_append(&to->at[i][row], row, &from->at[i][row]);
}

/* Consecutive elements to each; from *start on some get one more. */
static void deal(const model *old, size_t row, model *to, uint32_t *start) {
    cell all = { 0 };
    for (uint32_t i = 0; i < old->parallelism; i++)
        model_append(&all, row, &old->at[i][row]);
    const size_t each = all.count / to->parallelism, more = all.count % to->parallelism;
    size_t next = 0;
    for (uint32_t i = 0; i < to->parallelism; i++) {
        cell *mine = &to->at[(*start + i) % to->parallelism][row];
        for (size_t k = 0; k < each + (i < more); k++)
            cell_append(mine, all.elements[next++].value);
    }
    *start = (uint32_t)((*start + more) % to->parallelism);
    cell_clear(&all);
}

static void hand_on(const model *old, size_t row, model *to, uint32_t *start) {
    uint32_t having[SUBTASKS_MAX], count = 0;
    for (uint32_t i = 0; i < old->parallelism; i++)
        if (old->opened[i][row]) having[count++] = i;
    if (rows[row].mode == MODE_MAP) {
        for (uint32_t i = 0; i < to->parallelism; i++)
            model_append(&to->at[i][row], row, &old->at[having[i % count]][row]);
    } else if (rows[row].mode == MODE_UNION) {
        for (uint32_t i = 0; i < to->parallelism; i++)
            for (uint32_t k = 0; k < old->parallelism; k++)
                model_append(&to->at[i][row], row, &old->at[k][row]);
    } else if (old->parallelism == to->parallelism) {
        for (uint32_t i = 0; i < to->parallelism; i++)
            model_append(&to->at[i][row], row, &old->at[i][row]);
    } else {
        deal(old, row, to, start);
    }
}

/* What a job of this parallelism gets of a stored one. */
static void model_restore(const model *old, model *to, uint32_t parallelism) {
    model_clear(to);
    to->parallelism = parallelism;
    uint32_t start = 0;
    for (uint32_t donor = 0; donor < old->parallelism; donor++)
        for (size_t i = 0; i < old->count[donor]; i++) {
            const size_t row = old->order[donor][i];
            if (to->opened[0][row]) continue; /* an earlier subtask had it */
            for (uint32_t k = 0; k < parallelism; k++)
                model_open(to, k, row);
            hand_on(old, row, to, &start);
        }
}

/* ---- the job ---- */

static void wake(void *ctx) {
    operators *o = (operators *)ctx;
    pthread_mutex_lock(&o->lock);
    o->awake = true;
    pthread_cond_signal(&o->woken);
    pthread_mutex_unlock(&o->lock);
}

static void wait_for_work(operators *o) {
    pthread_mutex_lock(&o->lock);
    while (!o->awake)
        pthread_cond_wait(&o->woken, &o->lock);
    o->awake = false;
    pthread_mutex_unlock(&o->lock);
}

static void must_err(const program *p, kwr_status status, const kwr_error *err) {
    if (status < KWR_OK) differs(p, err->text, __FILE__, __LINE__);
}

static void attempt_begin(program *p, uint32_t parallelism) {
    operators *o = p->operators;
    kwr_error err = { 0 };
    const kwr_job_options options = { .struct_size = sizeof options,
                                      .env = p->env,
                                      .storage = o->storage,
                                      .name = "operators",
                                      .seed = p->hash_seed,
                                      .seed_given = true,
                                      .inline_bytes =
                                          percent(p, 50) ? KWR_JOB_OPTIONS_INLINE_OFF : 0,
                                      .wake = wake,
                                      .wake_ctx = o };
    must_err(p, kwr_job_open(&options, &o->job, &err), &err);
    for (uint32_t i = 0; i < parallelism; i++) {
        uint32_t number;
        must_err(p, kwr_job_add_task(o->job, "op", i, parallelism, KWR_TASK_SOURCE, &number, &err),
                 &err);
        REQUIRE(number == i);
    }
    for (uint32_t i = 0; i < parallelism; i++) {
        kwr_task_options task = { .struct_size = sizeof task,
                                  .env = p->env,
                                  .storage = o->storage,
                                  .snapshot_threads = 1,
                                  .wake = wake,
                                  .wake_ctx = o };
        must_err(p, kwr_job_assignment(o->job, i, &task.assignment, &err), &err);
        must_err(p, kwr_task_open(&task, &o->tasks[i], &err), &err);
    }
    must_err(p, kwr_job_start(o->job, &err), &err);
}

static void attempt_end(operators *o) {
    for (uint32_t i = 0; i < SUBTASKS_MAX; i++) {
        kwr_task_close(o->tasks[i]);
        o->tasks[i] = NULL;
    }
    if (o->job != NULL) kwr_job_close(o->job);
    o->job = NULL;
    memset(o->lists, 0, sizeof o->lists);
    memset(o->maps, 0, sizeof o->maps);
}

static void begin(program *p) {
    if (p->operators != NULL) return;
    operators *o = p->operators = (operators *)need(calloc(1, sizeof *o));
    MUST(kwr_storage_memory_open(p->env, 0, &o->storage, NULL));
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->woken, NULL);
    o->now.parallelism = p->parallelism;
    attempt_begin(p, p->parallelism);
}

void operators_end(program *p) {
    operators *o = p->operators;
    if (o == NULL) return;
    attempt_end(o);
    kwr_storage_close(o->storage);
    model_clear(&o->now);
    model_clear(&o->stored);
    pthread_cond_destroy(&o->woken);
    pthread_mutex_destroy(&o->lock);
    free(o);
    p->operators = NULL;
}

static void open_row(program *p, uint32_t which, size_t row) {
    operators *o = p->operators;
    kwr_task *task = o->tasks[which];
    if (o->lists[which][row] != NULL || o->maps[which][row] != NULL) return;
    const kwr_list_descriptor list = { .struct_size = sizeof list, .name = rows[row].name };
    const kwr_map_descriptor map = { .struct_size = sizeof map, .name = rows[row].name };
    kwr_list **out = &o->lists[which][row];
    kwr_status status = KWR_OK;
    switch (rows[row].mode) {
    case MODE_SPLIT: status = kwr_task_operator_list(task, &list, KWR_OPERATOR_SPLIT, out); break;
    case MODE_UNION: status = kwr_task_operator_list(task, &list, KWR_OPERATOR_UNION, out); break;
    case MODE_RAW: status = kwr_task_operator_raw(task, rows[row].name, out); break;
    case MODE_MAP: status = kwr_task_operator_map(task, &map, &o->maps[which][row]); break;
    }
    must_err(p, status, kwr_task_error(task));
    model_open(&o->now, which, row);
}

/* ---- operations ---- */

static kwr_slice map_key(uint32_t number, uint8_t bytes[4]) {
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(number >> (24 - 8 * i));
    return (kwr_slice){ bytes, 4 };
}

static void change_map(program *p, uint32_t which, size_t row, uint32_t number, const item *put) {
    operators *o = p->operators;
    open_row(p, which, row);
    kwr_map *map = o->maps[which][row];
    cell *want = &o->now.at[which][row];
    uint8_t bytes[4];
    const kwr_slice key = map_key(number, bytes);
    if (put != NULL) {
        MUST(kwr_map_put(map, key, item_bytes(p, *put)));
        cell_put(want, number, *put);
    } else {
        MUST(kwr_map_remove(map, key));
        (void)cell_remove(want, number);
    }
}

static void act_map(program *p, uint32_t which, size_t row) {
    operators *o = p->operators;
    const uint32_t number = (uint32_t)below(p, MAP_KEYS);
    const item value = some_item(p);
    const bool put = percent(p, 80);
    p->doing = put ? "operator map put" : "operator map remove";
    /* As an engine should; copies that differ show whose is handed on. */
    if (percent(p, 60)) {
        for (uint32_t i = 0; i < o->now.parallelism; i++)
            change_map(p, i, row, number, put ? &value : NULL);
    } else {
        change_map(p, which, row, number, put ? &value : NULL);
    }
}

static void add_one(program *p, uint32_t which, size_t row) {
    const item value = some_item(p);
    MUST(kwr_list_add(p->operators->lists[which][row], item_bytes(p, value)));
    cell_append(&p->operators->now.at[which][row], value);
}

/* What an engine does with a union list: keeps its own. */
static void keep_one(program *p, uint32_t which, size_t row) {
    const item value = { .tag = p->next_tag++, .size = (uint32_t)below(p, 50) };
    const kwr_slice bytes = item_bytes(p, value);
    open_row(p, which, row);
    MUST(kwr_list_update(p->operators->lists[which][row], &bytes, 1));
    cell_clear(&p->operators->now.at[which][row]);
    cell_append(&p->operators->now.at[which][row], value);
}

static void act_list(program *p, uint32_t which, size_t row) {
    operators *o = p->operators;
    cell *want = &o->now.at[which][row];
    const size_t dice = below(p, 20);
    if (dice < 15 && want->count < MANY) {
        p->doing = "operator list add";
        const size_t count = 1 + below(p, percent(p, 80) ? 4 : 40);
        for (size_t i = 0; i < count; i++)
            add_one(p, which, row);
    } else if (dice < 18) {
        p->doing = "operator list update";
        keep_one(p, which, row);
    } else {
        p->doing = "operator list clear";
        MUST(kwr_list_clear(o->lists[which][row]));
        cell_clear(want);
    }
}

static void compare_list(program *p, kwr_list *list, const cell *want) {
    uint64_t count;
    MUST(kwr_list_count(list, &count));
    REQUIRE(count == want->count);
    kwr_list_iterator *iterator = NULL;
    MUST(kwr_list_iterate(list, &iterator));
    kwr_slice got;
    for (size_t i = 0; i < want->count; i++) {
        MUST(kwr_list_iterator_next(iterator, &got));
        REQUIRE(holds_item(got, want->elements[i].value));
    }
    EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(iterator, &got));
    kwr_list_iterator_free(iterator);
}

static void compare_map(program *p, kwr_map *map, const cell *want) {
    kwr_map_iterator *iterator = NULL;
    MUST(kwr_map_iterate(map, &iterator));
    kwr_slice key, value;
    uint8_t bytes[4];
    for (size_t i = 0; i < want->count; i++) {
        MUST(kwr_map_iterator_next(iterator, &key, &value));
        REQUIRE(slice_is(key, map_key(want->elements[i].number, bytes)));
        REQUIRE(holds_item(value, want->elements[i].value));
    }
    EXPECT(KWR_NOT_FOUND, kwr_map_iterator_next(iterator, &key, &value));
    kwr_map_iterator_free(iterator);
}

static void compare_row(program *p, uint32_t which, size_t row) {
    const operators *o = p->operators;
    if (o->lists[which][row] != NULL) compare_list(p, o->lists[which][row], &o->now.at[which][row]);
    if (o->maps[which][row] != NULL) compare_map(p, o->maps[which][row], &o->now.at[which][row]);
}

void operators_compare(program *p, bool all) {
    operators *o = p->operators;
    if (o == NULL) return;
    for (uint32_t i = 0; i < o->now.parallelism; i++)
        for (size_t row = 0; row < ROWS; row++) {
            if (all && o->now.opened[i][row]) open_row(p, i, row);
            compare_row(p, i, row);
        }
}

void operators_act(program *p) {
    begin(p);
    const uint32_t which = (uint32_t)below(p, p->operators->now.parallelism);
    const size_t row = below(p, ROWS);
    if (rows[row].mode == MODE_MAP) {
        act_map(p, which, row);
    } else {
        open_row(p, which, row);
        act_list(p, which, row);
    }
    compare_row(p, which, row);
}

/* ---- checkpoints and restores ---- */

/* Keeps union lists from growing with every restart. */
static void trim_unions(program *p) {
    operators *o = p->operators;
    for (size_t row = 0; row < ROWS; row++) {
        size_t total = 0;
        for (uint32_t i = 0; i < o->now.parallelism; i++)
            total += o->now.at[i][row].count;
        if (rows[row].mode != MODE_UNION || total < MANY) continue;
        for (uint32_t i = 0; i < o->now.parallelism; i++)
            keep_one(p, i, row);
    }
}

/* Once the part is taken: is in no checkpoint. */
static void change_behind(program *p, uint32_t which) {
    const operators *o = p->operators;
    for (size_t row = 0; row < ROWS; row++)
        if (o->lists[which][row] != NULL)
            MUST(kwr_list_add(o->lists[which][row], (kwr_slice){ "behind", 6 }));
}

static void deliver(program *p, uint32_t which, kwr_slice message, bool change) {
    kwr_task *task = p->operators->tasks[which];
    kwr_task_event event = { 0 };
    must_err(p, kwr_task_receive(task, message, &event), kwr_task_error(task));
    if (event.kind != KWR_TASK_TRIGGER) return;
    must_err(p, kwr_task_checkpoint(task, &event.barrier), kwr_task_error(task));
    if (change) change_behind(p, which);
}

/* True when the checkpoint is published. */
static bool on_event(program *p, const kwr_job_event *event, bool change) {
    if (event->kind == KWR_JOB_ABORTED || event->kind == KWR_JOB_FAILED)
        differs(p, event->error.text, __FILE__, __LINE__);
    if (event->kind == KWR_JOB_SEND)
        for (uint32_t i = 0; i < p->operators->now.parallelism; i++)
            if (event->task == i || event->task == KWR_ALL_TASKS)
                deliver(p, i, event->message, change);
    return event->kind == KWR_JOB_PUBLISHED;
}

static bool carry_answers(program *p) {
    operators *o = p->operators;
    bool moved = false;
    for (uint32_t i = 0; i < o->now.parallelism; i++) {
        kwr_slice message;
        const kwr_status status = kwr_task_poll(o->tasks[i], &message);
        must_err(p, status, kwr_task_error(o->tasks[i]));
        if (status != KWR_OK) continue;
        MUST(kwr_job_receive(o->job, message));
        moved = true;
    }
    return moved;
}

static void checkpoint(program *p, bool change) {
    operators *o = p->operators;
    MUST(kwr_job_trigger(o->job));
    for (bool published = false; !published;) {
        kwr_job_event event;
        const kwr_status status = kwr_job_poll(o->job, &event);
        if (status < KWR_OK) MUST(status);
        if (status == KWR_OK) published = on_event(p, &event, change);
        if (!carry_answers(p) && status != KWR_OK) wait_for_work(o);
    }
    model_copy(&o->stored, &o->now);
}

void operators_checkpoint(program *p) {
    begin(p);
    trim_unions(p);
    checkpoint(p, false);
}

void operators_restore(program *p, uint32_t parallelism) {
    begin(p);
    operators *o = p->operators;
    attempt_end(o);
    model_restore(&o->stored, &o->now, parallelism);
    attempt_begin(p, parallelism);
}

void operators_restart(program *p, uint32_t parallelism) {
    operators *o = p->operators;
    if (o == NULL) return;
    if (percent(p, 80)) {
        trim_unions(p);
        checkpoint(p, percent(p, 50));
    }
    operators_restore(p, parallelism);
    operators_compare(p, percent(p, 50)); /* what is not opened again is kept all the same */
}
