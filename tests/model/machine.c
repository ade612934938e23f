/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs and tasks as functions of their inputs. A node is a list of inputs; making one runs the part
 * from its beginning. Background work has a row of results of its own, beside the inputs of its
 * owner: the two share nothing while it runs, so it is run as a whole when it is known to be done.
 */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "keyweir/task.h"
#include "task/message.h"
#include "tests/model/model.h"
#include "tests/model/must.h"
#include "tests/model/replay_env.h"

enum { PATH_MAX_INPUTS = 512 };

static struct {
    unsigned records;
    model_mutation mutation;
    model_node *nodes;
    uint32_t node_count, node_capacity;
    model_work *works;
    uint32_t work_count, work_capacity;
    model_output *outputs;
    uint32_t output_count, output_capacity;
    model_step *steps;
    uint32_t step_count, step_capacity;
    model_map *likenesses; /* of nodes */
    model_map *taken, *work_steps, *work_starts;
    char error[KWR_ERROR_TEXT_MAX + 64];
} machine;

/* One run of one part. */
typedef struct run {
    replay_env env;
    model_part part;
    unsigned attempt;
    model_input inputs[PATH_MAX_INPUTS];
    unsigned count, at;
    bool in_work, quiet;
    const model_result *work_results;
    unsigned work_count, work_at;
    jmp_buf out;
    model_request request; /* left behind when it has no answer */
    model_node *node;      /* what comes out: `made`, which outlives a longjmp */
    model_node made;
    uint32_t output_count;

    kwr_storage *storage;
    kwr_job *job;
    kwr_job_info info;
    kwr_task *task;
    uint32_t held_back; /* mutation: a barrier to go behind the next record; sink: records */
    uint8_t buffer[MODEL_RECORDS_MAX * 4];
    unsigned buffered;
} run;

static model_result answer(void *ctx, const model_request *request) {
    run *r = ctx;
    if (r->in_work) {
        if (r->work_at < r->work_count) return r->work_results[r->work_at++];
    } else if (r->at < r->count) {
        const model_input *in = &r->inputs[r->at++];
        if (in->kind != IN_RESULT) abort();
        return (model_result){ in->status, in->payload };
    }
    r->request = *request;
    longjmp(r->out, 1);
}

/* What is put out counts only when the last input is being handled: the rest was before. */
static void put(run *r, model_output output) {
    if (r->at < r->count || r->quiet) return;
    if (machine.output_count == machine.output_capacity) {
        machine.output_capacity = machine.output_capacity == 0 ? 256 : 2 * machine.output_capacity;
        machine.outputs =
            model_must(realloc(machine.outputs, machine.output_capacity * sizeof *machine.outputs));
    }
    machine.outputs[machine.output_count++] = output;
    r->output_count++;
}

static void fail(run *r, kwr_status status, const kwr_error *err) {
    if (!r->node->failed)
        snprintf(machine.error, sizeof machine.error, "%s: %s", kwr_status_name(status),
                 err != NULL ? err->text : "");
    r->node->failed = true;
}

/* ---- the job ---- */

static void send_to(run *r, model_part to, kwr_slice message) {
    put(r, (model_output){ .kind = OUT_MESSAGE,
                           .to = to,
                           .payload = model_pool_put(message.data, message.size) });
}

static void complete_early(run *r, const kwr_job_event *event) {
    uint8_t bytes[KWR_MESSAGE_SMALL_MAX];
    kwr_message m = { .kind = KWR_MESSAGE_COMPLETE,
                      .generation = r->info.generation,
                      .checkpoint = event->checkpoint };
    memcpy(m.uid, r->info.uid, sizeof m.uid);
    kwr_message_write(&m, bytes);
    send_to(r, PART_SINK, (kwr_slice){ bytes, kwr_message_size(&m) });
}

static void on_event(run *r, const kwr_job_event *event) {
    model_node *n = r->node;
    switch (event->kind) {
    case KWR_JOB_SEND:
        /* Tasks are numbered in the order they were added: the source is 0. */
        if (event->task == KWR_ALL_TASKS || event->task == 0)
            send_to(r, PART_SOURCE, event->message);
        if (event->task == KWR_ALL_TASKS || event->task == 1) send_to(r, PART_SINK, event->message);
        return;
    case KWR_JOB_TRIGGERED: n->pending = true; return;
    case KWR_JOB_PUBLISHING:
        n->publishing = true;
        if (machine.mutation == MUTATE_EARLY_COMPLETE) complete_early(r, event);
        return;
    case KWR_JOB_PUBLISHED:
    case KWR_JOB_ABORTED: n->pending = n->publishing = false; return;
    case KWR_JOB_FINISHED: n->finished = true; return;
    case KWR_JOB_FAILED: fail(r, event->error.status, &event->error); return;
    }
}

static void drain(run *r) {
    kwr_job_event event;
    while (kwr_job_poll(r->job, &event) == KWR_OK)
        on_event(r, &event);
    const uint64_t deadline = kwr_job_deadline(r->job);
    r->node->timed = deadline != UINT64_MAX && deadline > r->env.now_ns;
    r->node->posted = r->env.posted != NULL;
}

static void job_assign(run *r) {
    static const char *const names[] = { "source", "sink" };
    static const unsigned roles[] = { KWR_TASK_SOURCE, KWR_TASK_SINK };
    kwr_error err = { 0 };
    uint32_t task;
    for (unsigned i = 0; i < 2 && !r->node->failed; i++) {
        const kwr_status added = kwr_job_add_task(r->job, names[i], 0, 1, roles[i], &task, &err);
        if (added < KWR_OK) fail(r, added, &err);
    }
    for (uint32_t i = 0; i < 2 && !r->node->failed; i++) {
        kwr_slice assignment;
        const kwr_status status = kwr_job_assignment(r->job, i, &assignment, &err);
        if (status < KWR_OK)
            fail(r, status, &err);
        else
            send_to(r, i == 0 ? PART_SOURCE : PART_SINK, assignment);
    }
}

static void job_start(run *r) {
    kwr_error err = { 0 };
    const kwr_job_options options = { .struct_size = sizeof options,
                                      .env = &r->env.env,
                                      .storage = r->storage,
                                      .name = "sim",
                                      .max_parallelism = 4,
                                      .retain = 1,
                                      .tolerate_all = true,
                                      .lock_off = true };
    kwr_status status = kwr_storage_open(&r->env.env, "file:/ckpt", true, &r->storage, &err);
    kwr_job_options o = options;
    o.storage = r->storage;
    if (status >= KWR_OK) status = kwr_job_open(&o, &r->job, &err);
    if (status < KWR_OK) {
        fail(r, status, &err);
        return;
    }
    r->info.struct_size = sizeof r->info;
    kwr_job_get_info(r->job, &r->info);
    put(r, (model_output){ .kind = OUT_RESTORED, .checkpoint = r->info.restored_checkpoint });
    job_assign(r);
    if (r->node->failed) return;
    status = kwr_job_start(r->job, &err);
    if (status < KWR_OK) {
        fail(r, status, &err);
        return;
    }
    r->node->opened = true;
    drain(r);
}

static const model_result *work_results(uint32_t work, unsigned *count);

static void job_work(run *r, uint32_t work) {
    kwr_work *posted = r->env.posted;
    if (posted == NULL) abort();
    r->work_results = work_results(work, &r->work_count);
    r->work_at = 0;
    r->in_work = true;
    posted->run(posted->ctx);
    r->in_work = false;
    r->env.posted = NULL;
    drain(r);
}

static void job_input(run *r, const model_input *in) {
    size_t size;
    switch ((model_input_kind)in->kind) {
    case IN_START: job_start(r); return;
    case IN_WORK: job_work(r, in->payload); return;
    case IN_TRIGGER:
        if (kwr_job_trigger(r->job) < KWR_OK) abort();
        break;
    case IN_TIME: r->env.now_ns = kwr_job_deadline(r->job); break;
    case IN_RECEIVE: {
        const void *data = model_pool_get(in->payload, &size);
        if (kwr_job_receive(r->job, (kwr_slice){ data, size }) < KWR_OK) abort();
        break;
    }
    case IN_RESULT:
    case IN_EMIT:
    case IN_ITEM: abort();
    }
    drain(r);
}

/* ---- the tasks ---- */

static void task_open(run *r, kwr_slice assignment) {
    kwr_error err = { 0 };
    const kwr_task_options options = { .struct_size = sizeof options,
                                       .env = &r->env.env,
                                       .storage = r->storage,
                                       .assignment = assignment,
                                       .channels = r->part == PART_SINK };
    const kwr_status status = kwr_task_open(&options, &r->task, &err);
    if (status < KWR_OK)
        fail(r, status, &err);
    else
        r->node->opened = true;
}

static void task_poll(run *r) {
    kwr_slice message;
    while (kwr_task_poll(r->task, &message) == KWR_OK)
        send_to(r, PART_JOB, message);
}

static void push(run *r, uint32_t item) {
    put(r, (model_output){ .kind = OUT_ITEM, .payload = item });
}

/* ---- the source ---- */

static void source_open(run *r) {
    kwr_split split;
    if (kwr_task_split_count(r->task) == 0) return;
    if (kwr_task_split(r->task, 0, &split) < KWR_OK || split.position.size != 1) abort();
    r->node->position = *(const uint8_t *)split.position.data;
}

static void source_end(run *r) {
    if (r->node->position < machine.records) return;
    if (kwr_task_source_ended(r->task) < KWR_OK) abort();
    task_poll(r);
}

static void source_part(run *r, const kwr_barrier *barrier) {
    uint8_t position = (uint8_t)r->node->position;
    const uint32_t item =
        ITEM_BARRIER + (uint32_t)barrier->checkpoint + (barrier->final ? ITEM_FINAL : 0);
    if (machine.mutation == MUTATE_EARLY_POSITION && position < machine.records) position++;
    if (machine.mutation == MUTATE_LATE_BARRIER && position < machine.records)
        r->held_back = item;
    else
        push(r, item);
    const kwr_split split = { .id = { "s", 1 },
                              .identity = { "script", 6 },
                              .position = { &position, 1 } };
    if (kwr_task_set_split(r->task, &split) < KWR_OK) abort();
    (void)(kwr_task_checkpoint(r->task, barrier) < KWR_OK); /* leaves a decline */
    task_poll(r);
}

static void source_input(run *r, const model_input *in) {
    size_t size;
    const void *data = model_pool_get(in->payload, &size);
    kwr_task_event event = { 0 };
    if (in->kind == IN_EMIT) {
        push(r, ++r->node->position);
        if (r->held_back != 0) push(r, r->held_back);
        r->held_back = 0;
        source_end(r);
        return;
    }
    if (in->kind != IN_RECEIVE) abort();
    if (!r->node->opened) {
        task_open(r, (kwr_slice){ data, size });
        if (r->node->failed) return;
        source_open(r);
        source_end(r);
        return;
    }
    if (kwr_task_receive(r->task, (kwr_slice){ data, size }, &event) < KWR_OK) abort();
    if (event.kind == KWR_TASK_TRIGGER) source_part(r, &event.barrier);
    if (event.kind == KWR_TASK_COMPLETE) {
        put(r, (model_output){ .kind = OUT_TOLD, .checkpoint = event.checkpoint });
        if (event.final) r->node->last_done = true;
    }
    task_poll(r);
}

/* ---- the sink ---- */

static void commit_token(run *r, uint64_t checkpoint, kwr_slice token) {
    put(r, (model_output){ .kind = OUT_COMMIT,
                           .checkpoint = checkpoint,
                           .payload = model_pool_put(token.data, token.size) });
}

static void sink_commit(run *r, uint64_t up_to) {
    for (size_t i = 0; i < kwr_task_committable_count(r->task); i++) {
        uint64_t checkpoint;
        kwr_slice token;
        if (kwr_task_committable(r->task, i, &checkpoint, &token) < KWR_OK) abort();
        if (checkpoint <= up_to) commit_token(r, checkpoint, token);
    }
    if (kwr_task_committed(r->task, up_to) < KWR_OK) abort();
}

static void sink_part(run *r, const kwr_barrier *barrier) {
    if (r->buffered > 0) {
        const kwr_slice token = { r->buffer, r->buffered };
        if (machine.mutation == MUTATE_EARLY_COMMIT) commit_token(r, barrier->checkpoint, token);
        if (kwr_task_add_committable(r->task, barrier->checkpoint, token) < KWR_OK) abort();
        r->buffered = 0;
    }
    (void)(kwr_task_checkpoint(r->task, barrier) < KWR_OK); /* leaves a decline */
    task_poll(r);
}

static void sink_item(run *r, uint32_t item) {
    if (item < ITEM_BARRIER) {
        if (r->buffered == sizeof r->buffer) abort();
        r->buffer[r->buffered++] = (uint8_t)item;
        return;
    }
    const kwr_barrier barrier = { .checkpoint = (item - ITEM_BARRIER) & ~(uint32_t)ITEM_FINAL,
                                  .generation = kwr_task_generation(r->task),
                                  .final = (item & ITEM_FINAL) != 0 };
    kwr_alignment alignment = { 0 };
    if (kwr_task_barrier(r->task, 0, &barrier, &alignment) < KWR_OK) abort();
    if (alignment.snapshot) sink_part(r, &alignment.barrier);
    task_poll(r);
}

static void sink_input(run *r, const model_input *in) {
    size_t size;
    const void *data = model_pool_get(in->payload, &size);
    kwr_task_event event = { 0 };
    if (in->kind == IN_ITEM) {
        sink_item(r, in->payload);
        return;
    }
    if (in->kind != IN_RECEIVE) abort();
    if (!r->node->opened) {
        task_open(r, (kwr_slice){ data, size });
        if (r->node->failed) return;
        if (machine.mutation == MUTATE_RESTORE_FORGETS) {
            if (kwr_task_committed(r->task, UINT64_MAX) < KWR_OK) abort();
        } else {
            sink_commit(r, UINT64_MAX); /* what is restored belongs to a completed checkpoint */
        }
        return;
    }
    if (kwr_task_receive(r->task, (kwr_slice){ data, size }, &event) < KWR_OK) abort();
    if (event.kind == KWR_TASK_COMPLETE) {
        put(r, (model_output){ .kind = OUT_TOLD, .checkpoint = event.checkpoint });
        sink_commit(r, event.checkpoint);
        if (event.final) r->node->last_done = true;
    }
    task_poll(r);
}

/* ---- running ---- */

static run the_run;

static unsigned load_path(uint32_t node, model_input *inputs) {
    const unsigned count = node == 0 ? 0 : machine.nodes[node].depth;
    if (count >= PATH_MAX_INPUTS) abort();
    for (unsigned i = count; i-- > 0; node = machine.nodes[node].parent)
        inputs[i] = machine.nodes[node].input;
    return count;
}

static void run_begin(run *r, model_part part, unsigned attempt, const model_node *node) {
    memset(r, 0, offsetof(run, inputs));
    memset((char *)r + offsetof(run, count), 0, sizeof *r - offsetof(run, count));
    r->part = part;
    r->attempt = attempt;
    r->made = *node;
    r->node = &r->made;
    r->env.answer = answer;
    r->env.answer_ctx = r;
    replay_env_reset(&r->env, 1000 * attempt + 100 * part);
}

/* A task's storage is opened before its first input; it asks nothing. */
static void run_inputs(run *r) {
    kwr_error err = { 0 };
    if (r->part != PART_JOB &&
        kwr_storage_open(&r->env.env, "file:/ckpt", false, &r->storage, &err) < KWR_OK)
        abort();
    while (r->at < r->count) {
        const model_input in = r->inputs[r->at++];
        switch (r->part) {
        case PART_JOB: job_input(r, &in); break;
        case PART_SOURCE: source_input(r, &in); break;
        case PART_SINK: sink_input(r, &in); break;
        case MODEL_PARTS: abort();
        }
    }
}

static uint32_t pool_request(const model_request *request) {
    return model_pool_put(request, sizeof *request);
}

/* The node itself, or the one that it is like. */
static uint32_t node_add(model_node *node) {
    const uint64_t flags =
        (uint64_t)node->opened | (uint64_t)node->failed << 1 | (uint64_t)node->finished << 2 |
        (uint64_t)node->pending << 3 | (uint64_t)node->publishing << 4 |
        (uint64_t)node->posted << 5 | (uint64_t)node->timed << 6 | (uint64_t)node->last_done << 7 |
        (uint64_t)node->position << 8 | (uint64_t)node->part << 16 | (uint64_t)node->attempt << 20;
    const uint64_t b = flags << 32 | node->request;
    const uint32_t like = model_map_get(machine.likenesses, node->fingerprint, b);
    if (like != 0) return like;
    if (machine.node_count + 1 >= machine.node_capacity) {
        machine.node_capacity = machine.node_capacity == 0 ? 1024 : 2 * machine.node_capacity;
        machine.nodes =
            model_must(realloc(machine.nodes, machine.node_capacity * sizeof *machine.nodes));
        if (machine.node_count == 0) machine.node_count = 1;
    }
    machine.nodes[machine.node_count] = *node;
    model_map_put(&machine.likenesses, node->fingerprint, b, machine.node_count);
    return machine.node_count++;
}

/* While it waits inside a call, its stack is part of what it holds: then only its inputs tell. */
static uint64_t fingerprint(const run *r, const model_input *inputs, unsigned count) {
    const uint64_t rest[4] = { r->env.now_ns, r->env.random, r->held_back, r->buffered };
    uint64_t hash = model_hash(rest, sizeof rest) ^ model_hash(r->buffer, r->buffered);
    if (r->made.request != 0) return model_mix(hash ^ model_hash(inputs, count * sizeof *inputs));
    if (r->made.failed) return model_mix(hash ^ 1);
    return model_mix(hash ^ replay_env_fingerprint(r->part == PART_JOB ? (const void *)r->job
                                                                       : (const void *)r->task));
}

static model_step step_make(uint32_t parent, model_part part, unsigned attempt, model_input input) {
    run *r = &the_run;
    const unsigned depth = parent == 0 ? 1 : machine.nodes[parent].depth + 1u;
    const model_node node = { .parent = parent,
                              .depth = (uint16_t)depth,
                              .part = (uint8_t)part,
                              .attempt = (uint8_t)attempt,
                              .input = input };
    const uint32_t first_output = machine.output_count;
    run_begin(r, part, attempt, &node);
    (void)load_path(parent, r->inputs);
    r->inputs[depth - 1] = input;
    r->count = depth;
    if (setjmp(r->out) == 0)
        run_inputs(r);
    else
        the_run.made.request = pool_request(&the_run.request);
    the_run.made.fingerprint = fingerprint(&the_run, the_run.inputs, the_run.count);
    return (model_step){ node_add(&the_run.made), first_output, the_run.output_count };
}

void model_machine_setup(unsigned records, model_mutation mutation) {
    machine.records = records;
    machine.mutation = mutation;
}

void model_machine_free(void) {
    free(machine.nodes);
    free(machine.works);
    free(machine.outputs);
    free(machine.steps);
    model_map_free(machine.likenesses);
    model_map_free(machine.taken);
    model_map_free(machine.work_steps);
    model_map_free(machine.work_starts);
    memset(&machine, 0, sizeof machine);
    replay_env_free();
}

static model_step step(uint32_t parent, model_part part, unsigned attempt, model_input input) {
    /* A first input has no parent: the part and attempt stand in for it. */
    const uint64_t from = parent != 0 ? parent : UINT32_MAX - (8 * attempt + part);
    const uint64_t a = from << 8 | input.kind,
                   b = (uint64_t)input.payload << 32 | (uint32_t)input.status;
    const uint32_t known = model_map_get(machine.taken, a, b);
    if (known != 0) return machine.steps[known];
    if (machine.step_count + 1 >= machine.step_capacity) {
        machine.step_capacity = machine.step_capacity == 0 ? 1024 : 2 * machine.step_capacity;
        machine.steps =
            model_must(realloc(machine.steps, machine.step_capacity * sizeof *machine.steps));
        if (machine.step_count == 0) machine.step_count = 1;
    }
    machine.steps[machine.step_count] = step_make(parent, part, attempt, input);
    model_map_put(&machine.taken, a, b, machine.step_count);
    return machine.steps[machine.step_count++];
}

model_step model_node_step(uint32_t node, model_input input) {
    const model_node *n = &machine.nodes[node];
    return step(node, (model_part)n->part, n->attempt, input);
}

model_step model_node_first(model_part part, unsigned attempt, model_input input) {
    return step(0, part, attempt, input);
}

const model_node *model_node_get(uint32_t node) { return &machine.nodes[node]; }
size_t model_node_count(void) { return machine.node_count; }
const char *model_node_error(void) { return machine.error; }

const model_output *model_output_get(const model_step *taken, uint32_t index) {
    return &machine.outputs[taken->first_output + index];
}

/* ---- work in the background ---- */

static const model_result *work_results(uint32_t work, unsigned *count) {
    static model_result results[PATH_MAX_INPUTS];
    unsigned n = 0;
    for (uint32_t w = work; machine.works[w].parent != 0; w = machine.works[w].parent)
        n++;
    if (n > PATH_MAX_INPUTS) abort();
    *count = n;
    for (uint32_t w = work; n > 0; w = machine.works[w].parent)
        results[--n] = machine.works[w].result;
    return results;
}

/* Runs the owner up to its post, then the work as far as its results reach. */
static void work_run(model_work *work, uint32_t parent) {
    run *r = &the_run;
    static unsigned count;
    static model_result results[PATH_MAX_INPUTS];
    static const model_node nothing;
    count = 0;
    run_begin(r, PART_JOB, machine.nodes[work->start].attempt, &nothing);
    r->count = load_path(work->start, r->inputs);
    r->quiet = true; /* all of it was said before */
    if (parent != 0) {
        const model_result *before = work_results(parent, &count);
        if (count == PATH_MAX_INPUTS) abort();
        memcpy(results, before, count * sizeof *results);
        results[count++] = work->result;
    }
    if (setjmp(r->out) == 0) {
        run_inputs(r);
        r->work_results = results;
        r->work_count = count;
        r->work_at = 0;
        r->in_work = true;
        kwr_work *posted = r->env.posted;
        if (posted == NULL) abort();
        posted->run(posted->ctx);
        work->done = true;
    } else {
        work->request = pool_request(&the_run.request);
    }
}

static uint32_t work_add(const model_work *work) {
    if (machine.work_count + 1 >= machine.work_capacity) {
        machine.work_capacity = machine.work_capacity == 0 ? 1024 : 2 * machine.work_capacity;
        machine.works =
            model_must(realloc(machine.works, machine.work_capacity * sizeof *machine.works));
        if (machine.work_count == 0) machine.work_count = 1;
    }
    machine.works[machine.work_count] = *work;
    return machine.work_count++;
}

uint32_t model_work_begin(uint32_t node) {
    uint32_t id = model_map_get(machine.work_starts, node, 0);
    if (id != 0) return id;
    model_work work = { .start = node };
    work_run(&work, 0);
    id = work_add(&work);
    model_map_put(&machine.work_starts, node, 0, id);
    return id;
}

uint32_t model_work_step(uint32_t parent, model_result result) {
    const uint64_t b = (uint64_t)result.payload << 32 | (uint32_t)result.status;
    uint32_t id = model_map_get(machine.work_steps, parent, b);
    if (id != 0) return id;
    model_work work = { .start = machine.works[parent].start, .parent = parent, .result = result };
    work_run(&work, parent);
    id = work_add(&work);
    model_map_put(&machine.work_steps, parent, b, id);
    return id;
}

const model_work *model_work_get(uint32_t work) { return &machine.works[work]; }
