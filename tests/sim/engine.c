/* SPDX-License-Identifier: Apache-2.0 */
/* The subject of the simulator: what can happen next, one step of it, and the shape of a run. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/engine.h"
#include "tests/sim/oracle.h"

/* ---- stepping ---- */

/* A record of each split that has some left, then one time the end. */
static size_t source_choices(const sim_node *n) {
    size_t count = 0;
    if (n->kind != SIM_NODE_SOURCE) return 0;
    for (unsigned i = 0; i < SIM_SPLITS_MAX; i++)
        count += sim_left(n, i);
    if (count > 0) return sim_full(n) ? 0 : count;
    return !n->end_told;
}

static uint64_t job_deadline(const sim_engine *e) {
    const bool lives = e->job != NULL && !e->failed && !e->job_finished &&
                       !kwr_sim_process_dead(kwr_sim_attempt_process(e->attempt, 0));
    return lives ? kwr_job_deadline(e->job) : UINT64_MAX;
}

/* Choices of a task: as a source a record, then an item from each ready input. */
static size_t choices(void *state, unsigned actor) {
    const sim_engine *e = state;
    if (actor == 0)
        return e->job != NULL && !e->job_finished &&
               (e->poll || job_deadline(e) <= kwr_sim_now_ns(e->run->sim));
    const sim_node *n = &e->nodes[actor - 1];
    if (actor > e->node_count || n->task == NULL) return 0;
    size_t count = source_choices(n);
    for (unsigned i = 0; i < n->input_count; i++)
        count += sim_ready_input(n, n->inputs[i]);
    return count;
}

/* Done when all sinks have committed the final checkpoint; when they cannot hear of it any more,
 * the next attempt commits. */
static void look_at_end(sim_engine *e) {
    bool all = true;
    if (!e->job_finished) return;
    for (unsigned i = 0; i < e->node_count; i++)
        all = all && (e->nodes[i].kind != SIM_NODE_SINK || e->nodes[i].final_committed);
    if (all)
        kwr_sim_attempt_finish(e->attempt);
    else if (kwr_sim_attempt_messages(e->attempt) == 0)
        sim_fail(e, KWR_ERR_CANCELLED, NULL);
}

static void poll_job(sim_engine *e) {
    kwr_job_event event;
    kwr_status status = KWR_OK;
    e->poll = false;
    while (!e->job_finished && !e->failed && (status = kwr_job_poll(e->job, &event)) == KWR_OK) {
        sim_promises_event(&e->promises, e->run, &event);
        kwr_sim_trace(e->run->sim, "a%u job event %d checkpoint %llu slot %llu",
                      kwr_sim_attempt_number(e->attempt), (int)event.kind,
                      (unsigned long long)event.checkpoint, (unsigned long long)event.slot);
        switch (event.kind) {
        case KWR_JOB_SEND:
            for (unsigned i = 0; i < e->node_count; i++)
                if (event.task == KWR_ALL_TASKS || event.task == e->nodes[i].number)
                    sim_send(e, 1 + i, event.message);
            break;
        case KWR_JOB_FINISHED: e->job_finished = true; break;
        case KWR_JOB_FAILED: sim_fail(e, event.error.status, &event.error); break;
        case KWR_JOB_PUBLISHED:
        case KWR_JOB_TRIGGERED:
        case KWR_JOB_PUBLISHING: break;
        case KWR_JOB_ABORTED: kwr_sim_attempt_report(e->attempt, &event.error); break;
        }
    }
    /* Without memory it is polled again. */
    if (status < KWR_OK && status != KWR_ERR_NOMEM) sim_fail(e, status, NULL);
    look_at_end(e);
}

static void step(void *state, unsigned actor, size_t choice) {
    sim_engine *e = state;
    if (actor == 0) {
        poll_job(e);
        return;
    }
    sim_node *n = &e->nodes[actor - 1];
    if (n->kind == SIM_NODE_SOURCE) {
        bool any = false;
        for (unsigned i = 0; i < SIM_SPLITS_MAX; i++)
            any = any || sim_left(n, i);
        if (any)
            sim_emit_record(n, choice);
        else
            n->end_told = kwr_task_source_ended(n->task) >= KWR_OK;
        return;
    }
    for (unsigned i = 0; i < n->input_count; i++) {
        sim_item what;
        if (!sim_ready_input(n, n->inputs[i]) || choice-- > 0) continue;
        if (sim_pop(n->inputs[i], &what)) sim_handle_item(n, n->inputs[i], &what);
        return;
    }
}

static void on_message(void *state, unsigned actor, kwr_slice message) {
    sim_engine *e = state;
    if (actor > 0) {
        if (e->nodes[actor - 1].task != NULL) sim_receive(&e->nodes[actor - 1], message);
        look_at_end(e);
        return;
    }
    if (e->job == NULL) return;
    const kwr_status status = kwr_job_receive(e->job, message);
    e->poll = true;
    /* No memory for a message is a lost message. */
    if (status < KWR_OK && status != KWR_ERR_NOMEM) sim_fail(e, status, NULL);
    look_at_end(e);
}

/* What the task has to say to the job. */
static void settle(void *state, unsigned actor) {
    sim_engine *e = state;
    kwr_slice bytes;
    if (actor == 0 || e->nodes[actor - 1].task == NULL) return;
    while (kwr_task_poll(e->nodes[actor - 1].task, &bytes) == KWR_OK)
        sim_send(e, 0, bytes);
}

static uint64_t deadline_ns(void *state) { return job_deadline(state); }

/* ---- the run ---- */

static void draw_shape(uint64_t seed, sim_shape *out) {
    static const unsigned parallelisms[] = { 1, 3, 16, 128 };
    kwr_sim_rng rng = kwr_sim_rng_of(seed, SIM_STREAM_SHAPE);
    sim_shape s = { 0 };
    s.splits = 1 + (unsigned)kwr_sim_below(&rng, SIM_SPLITS_MAX);
    s.sources = 1 + (unsigned)kwr_sim_below(&rng, s.splits);
    s.rescale = kwr_sim_below(&rng, 2) == 0;
    s.counts = 1 + (unsigned)kwr_sim_below(&rng, SIM_COUNTS_MAX);
    s.keys = 1 + (unsigned)kwr_sim_below(&rng, SIM_KEYS_MAX);
    s.records = 8 + (unsigned)kwr_sim_below(&rng, 80);
    s.max_parallelism = parallelisms[kwr_sim_below(&rng, 4)];
    if (s.counts > s.max_parallelism) s.counts = s.max_parallelism;
    s.retain = 1 + (unsigned)kwr_sim_below(&rng, 3);
    s.processes = 1 + (unsigned)kwr_sim_below(&rng, 3);
    s.inline_off = kwr_sim_below(&rng, 2) == 0;
    s.journal = kwr_sim_below(&rng, 2) == 0;
    s.interval_ms = 1 + kwr_sim_below(&rng, 20);
    s.min_pause_ms = kwr_sim_below(&rng, 2) == 0 ? 0 : kwr_sim_below(&rng, 10);
    s.timeout_ms = 5 + kwr_sim_below(&rng, 100);
    /* Not drawn: the other seeds stay what they are. */
    static const size_t inline_bytes[] = { 800, 1600, 3000, 5000, 0 };
    s.wide = seed % 4 == 3;
    if (s.wide) {
        s.rescale = true;
        s.inline_bytes = inline_bytes[seed / 4 % 5];
        s.records += 60;
        s.max_parallelism = s.max_parallelism < 16 ? 16 : s.max_parallelism;
    }
    *out = s;
}

static void *open_run(void *ctx, kwr_sim *sim) {
    sim_job *run = sim_must(calloc(1, sizeof *run));
    (void)ctx;
    run->sim = sim;
    draw_shape(kwr_sim_seed(sim), &run->shape);
    sim_strays_init(&run->strays, kwr_sim_seed(sim));
    kwr_sim_rng rng = kwr_sim_rng_of(kwr_sim_seed(sim), SIM_STREAM_SCRIPT);
    const size_t records = (size_t)run->shape.splits * run->shape.records;
    run->key_of = sim_must(malloc(records));
    for (size_t i = 0; i < records; i++) {
        const uint64_t a = kwr_sim_below(&rng, run->shape.keys),
                       b = kwr_sim_below(&rng, run->shape.keys);
        run->key_of[i] = (uint8_t)(a < b ? a : b); /* some keys are more frequent */
    }
    return run;
}

static void close_run(void *ctx) {
    sim_job *run = ctx;
    sim_strays_done(&run->strays);
    free(run->key_of);
    free(run);
}

static void describe(void *ctx, char *out, size_t capacity) {
    const sim_shape *s = &((const sim_job *)ctx)->shape;
    snprintf(out, capacity,
             "%u splits of %u records, %u sources, %u counts%s, %u keys, %u key groups, %u "
             "processes, interval %llu ms, timeout %llu ms, retain %u, inline %s, journal %s",
             s->splits, s->records, s->sources, s->counts, s->rescale ? " at first" : "", s->keys,
             s->max_parallelism, s->processes, (unsigned long long)s->interval_ms,
             (unsigned long long)s->timeout_ms, s->retain, s->inline_off ? "off" : "on",
             s->journal ? "on" : "off");
}

static unsigned processes(void *run) { return ((const sim_job *)run)->shape.processes; }

static unsigned actors(void *run) {
    (void)run;
    return 1 + SIM_NODES_MAX;
}

static unsigned process_of(void *run, unsigned actor) {
    return actor == 0 ? 0 : (actor - 1) % ((const sim_job *)run)->shape.processes;
}

const kwr_sim_subject sim_subject = {
    .struct_size = sizeof sim_subject,
    .name = "./dev sim",
    .open = open_run,
    .close = close_run,
    .describe = describe,
    .processes = processes,
    .actors = actors,
    .process_of = process_of,
    .start = sim_engine_start,
    .stop = sim_engine_stop,
    .choices = choices,
    .step = step,
    .receive = on_message,
    .settle = settle,
    .deadline_ns = deadline_ns,
    .check = sim_check,
    .damageable = sim_damageable,
};
