/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under simulation. A choice is one of: run a piece of work of a process, let the job
 * poll, deliver a message, let a task take an item from a channel or (a source) emit a record.
 */
#include "tests/sim/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/state.h"
#include "tests/sim/sink.h"

enum {
    NODES_MAX = SIM_SOURCES_MAX + 2 * SIM_COUNTS_MAX,
    CHANNELS_MAX = SIM_SOURCES_MAX * SIM_COUNTS_MAX + SIM_COUNTS_MAX,
    CHANNEL_DEPTH = 6,
    PROCESSES_MAX = 4,
    LOST_STEPS = 20,
};

typedef enum node_kind { NODE_SOURCE, NODE_COUNT, NODE_SINK } node_kind;

/* A record: the key, and behind counts the count. */
typedef struct item {
    struct item *next;
    bool is_barrier;
    kwr_barrier barrier;
    unsigned key;
    uint64_t count;
} item;

typedef struct channel {
    item *first, **last;
    size_t depth; /* records only: barriers always fit */
    unsigned to, input;
    bool blocked;
} channel;

typedef struct node {
    sim_attempt *attempt;
    node_kind kind;
    unsigned index;
    sim_process *process;
    kwr_task *task;
    uint32_t number; /* in the job */
    channel *inputs[SIM_SOURCES_MAX];
    channel *outputs[SIM_COUNTS_MAX];
    unsigned input_count, output_count;
    uint64_t position; /* sources */
    bool end_told;
    kwr_reducing *state;
    sim_sink *sink;
    bool final_committed;
} node;

typedef struct message {
    struct message *next;
    bool to_job;
    unsigned node;
    size_t size;
    uint8_t data[];
} message;

struct sim_attempt {
    sim_shared *shared;
    const sim_plan *plan;
    const sim_script *script;
    sim_disk *disk;
    unsigned number;
    bool lock_off;
    sim_process *processes[PROCESSES_MAX];
    unsigned process_count;
    kwr_storage *storages[PROCESSES_MAX];
    kwr_job *job;
    kwr_job_info info;
    node nodes[NODES_MAX];
    unsigned node_count;
    channel channels[CHANNELS_MAX];
    unsigned channel_count;
    message *messages;
    size_t message_count;
    bool started, job_finished, failed;
    kwr_error error;
    uint64_t published, notified, commits;
    unsigned steps_lost;
};

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static void fail(sim_attempt *a, kwr_status status, const kwr_error *err) {
    if (a->failed) return;
    a->failed = true;
    if (err != NULL) a->error = *err;
    a->error.status = status;
    sim_trace(a->shared, "a%u fails: %s: %s", a->number, kwr_status_name(status), a->error.text);
}

/* ---- channels and messages ---- */

static channel *connect(sim_attempt *a, node *from, node *to) {
    channel *c = &a->channels[a->channel_count++];
    c->last = &c->first;
    c->to = (unsigned)(to - a->nodes);
    c->input = to->input_count;
    from->outputs[from->output_count++] = c;
    to->inputs[to->input_count++] = c;
    return c;
}

static void push(channel *c, const item *what) {
    item *copy = must(malloc(sizeof *copy));
    *copy = *what;
    copy->next = NULL;
    *c->last = copy;
    c->last = &copy->next;
    c->depth += !copy->is_barrier;
}

static bool pop(channel *c, item *out) {
    item *first = c->first;
    if (first == NULL) return false;
    *out = *first;
    c->first = first->next;
    if (c->first == NULL) c->last = &c->first;
    c->depth -= !first->is_barrier;
    free(first);
    return true;
}

static void push_barrier(node *n, const kwr_barrier *barrier) {
    const item what = { .is_barrier = true, .barrier = *barrier };
    for (unsigned i = 0; i < n->output_count; i++)
        push(n->outputs[i], &what);
}

static void post_message(sim_attempt *a, bool to_job, unsigned to, kwr_slice bytes) {
    unsigned copies = 1;
    if (!a->shared->faults_off) {
        if (sim_chance(&a->shared->schedule, a->plan->lose_message)) copies = 0;
        if (sim_chance(&a->shared->schedule, a->plan->double_message)) copies = 2;
    }
    sim_trace(a->shared, "a%u message %s n%u size %zu copies %u", a->number, to_job ? "from" : "to",
              to, bytes.size, copies);
    for (; copies > 0; copies--) {
        message *m = must(malloc(sizeof *m + bytes.size));
        *m = (message){ .next = a->messages, .to_job = to_job, .node = to, .size = bytes.size };
        if (bytes.size > 0) memcpy(m->data, bytes.data, bytes.size);
        a->messages = m;
        a->message_count++;
    }
}

/* Takes the i-th message out, counted from the newest: any order can happen. */
static message *take_message(sim_attempt *a, size_t index) {
    message **link = &a->messages;
    while (index-- > 0)
        link = &(*link)->next;
    message *m = *link;
    *link = m->next;
    a->message_count--;
    return m;
}

/* ---- what a task does; all of it inside its process ---- */

static bool full(const node *n) {
    for (unsigned i = 0; i < n->output_count; i++)
        if (n->outputs[i]->depth >= CHANNEL_DEPTH) return true;
    return false;
}

static kwr_slice key_text(unsigned key, char out[16]) {
    const int size = snprintf(out, 16, "k%u", key);
    return (kwr_slice){ out, (size_t)size };
}

static kwr_status set_position(node *n) {
    char id[16], position[24];
    const int id_size = snprintf(id, sizeof id, "s%u", n->index);
    const int size = snprintf(position, sizeof position, "%llu", (unsigned long long)n->position);
    const kwr_split split = { .id = { id, (size_t)id_size },
                              .identity = { "script", 6 },
                              .position = { position, (size_t)size } };
    return kwr_task_set_split(n->task, &split);
}

/* The barrier goes on before the snapshot; a part that cannot be taken is declined. */
static void take_part(node *n, const kwr_barrier *barrier) {
    sim_attempt *a = n->attempt;
    kwr_error err = { 0 };
    kwr_status status = KWR_OK;
    push_barrier(n, barrier);
    if (n->kind == NODE_SOURCE) status = set_position(n);
    if (n->kind == NODE_SINK) status = sim_sink_pre_commit(n->sink, barrier->checkpoint, &err);
    if (status < KWR_OK) {
        if (n->kind == NODE_SOURCE) err = *kwr_task_error(n->task);
        if (kwr_status_action(status) == KWR_STOP)
            fail(a, status, &err);
        else if (kwr_task_decline(n->task, barrier->checkpoint, &err) < KWR_OK)
            fail(a, status, &err);
        return;
    }
    /* A failure leaves a decline behind, or is found by the timeout. */
    const kwr_status taken = kwr_task_checkpoint(n->task, barrier);
    if (taken < KWR_OK && kwr_status_action(taken) == KWR_STOP)
        fail(a, taken, kwr_task_error(n->task));
}

/* Released first: the channel of the event may be blocked anew, for the next checkpoint. */
static void follow(node *n, const kwr_alignment *alignment, channel *current) {
    if (alignment->release)
        for (unsigned i = 0; i < n->input_count; i++)
            n->inputs[i]->blocked = false;
    if (alignment->block && current != NULL) current->blocked = true;
    if (alignment->abort) {
        const kwr_barrier marker = { .checkpoint = alignment->aborted,
                                     .generation = kwr_task_generation(n->task),
                                     .cancelled = true };
        push_barrier(n, &marker);
    }
    if (alignment->snapshot) take_part(n, &alignment->barrier);
}

static kwr_status count_record(node *n, const item *record) {
    char text[16];
    const int64_t one = 1;
    kwr_slice result;
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_backend_set_key(backend, key_text(record->key, text));
    if (status >= KWR_OK)
        status = kwr_reducing_add(n->state, (kwr_slice){ &one, sizeof one }, &result);
    if (status < KWR_OK) {
        fail(n->attempt, status, kwr_backend_error(backend));
        return status;
    }
    item out = { .key = record->key };
    memcpy(&out.count, result.data, sizeof out.count);
    push(n->outputs[0], &out);
    return KWR_OK;
}

static void write_record(node *n, const item *record) {
    char line[64];
    kwr_error err = { 0 };
    const int size =
        snprintf(line, sizeof line, "k%u\t%llu\n", record->key, (unsigned long long)record->count);
    const kwr_status status = sim_sink_write(n->sink, line, (size_t)size, &err);
    if (status < KWR_OK) fail(n->attempt, status, &err);
}

static void handle_item(node *n, channel *c, const item *what) {
    if (what->is_barrier) {
        kwr_alignment alignment = { 0 };
        const kwr_status status = kwr_task_barrier(n->task, c->input, &what->barrier, &alignment);
        if (status < KWR_OK)
            fail(n->attempt, status, kwr_task_error(n->task));
        else
            follow(n, &alignment, c);
    } else if (n->kind == NODE_COUNT) {
        (void)count_record(n, what);
    } else {
        write_record(n, what);
    }
}

static bool ready_input(const node *n, const channel *c) {
    if (c->blocked || c->first == NULL) return false;
    return c->first->is_barrier || !full(n);
}

static void emit_record(node *n) {
    sim_attempt *a = n->attempt;
    const unsigned key = a->script->key_of[n->index * a->script->records + n->position];
    char text[16];
    const uint32_t group =
        kwr_key_group(key_text(key, text), a->info.seed, a->info.max_parallelism);
    const unsigned to = kwr_key_group_owner(group, a->plan->counts, a->info.max_parallelism);
    const item record = { .key = key };
    push(n->outputs[to], &record);
    n->position++;
}

static void commit(node *n, uint64_t checkpoint, bool final) {
    kwr_error err = { 0 };
    if (checkpoint > n->attempt->notified) n->attempt->notified = checkpoint;
    if (n->kind == NODE_SINK) {
        const kwr_status status = sim_sink_commit(n->sink, checkpoint, &err);
        if (status < KWR_OK) {
            fail(n->attempt, status, &err);
            return;
        }
        n->attempt->commits++;
    }
    if (final) n->final_committed = true;
}

static void receive(node *n, kwr_slice bytes) {
    kwr_task_event event = { 0 };
    const kwr_status status = kwr_task_receive(n->task, bytes, &event);
    if (status < KWR_OK) {
        fail(n->attempt, status, kwr_task_error(n->task));
        return;
    }
    if (event.kind == KWR_TASK_TRIGGER) take_part(n, &event.barrier);
    if (event.kind == KWR_TASK_COMPLETE) commit(n, event.checkpoint, event.final);
    if (event.kind == KWR_TASK_ABORT) follow(n, &event.alignment, NULL);
}

static void poll_task(node *n) {
    kwr_slice bytes;
    while (kwr_task_poll(n->task, &bytes) == KWR_OK)
        post_message(n->attempt, true, n->number, bytes);
}

/* ---- opening and closing ---- */

static void open_job(void *ctx) {
    sim_attempt *a = ctx;
    const sim_plan *plan = a->plan;
    const kwr_env *env = sim_process_env(a->processes[0]);
    kwr_error err = { 0 };
    const kwr_job_options options = {
        .struct_size = sizeof options,
        .env = env,
        .storage = a->storages[0],
        .name = "sim",
        .max_parallelism = plan->max_parallelism,
        .interval_ms = plan->interval_ms,
        .min_pause_ms = plan->min_pause_ms,
        .timeout_ms = plan->timeout_ms,
        .retain = plan->retain,
        .tolerate_all = true,
        .lock_off = a->lock_off,
        .inline_bytes = plan->inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0,
    };
    const kwr_status status = kwr_job_open(&options, &a->job, &err);
    if (status < KWR_OK) {
        fail(a, status, &err);
        return;
    }
    a->info.struct_size = sizeof a->info;
    kwr_job_get_info(a->job, &a->info);
    static const char *const names[] = { "source", "count", "sink" };
    static const unsigned roles[] = { KWR_TASK_SOURCE, KWR_TASK_KEYED, KWR_TASK_SINK };
    for (unsigned i = 0; i < a->node_count && !a->failed; i++) {
        node *n = &a->nodes[i];
        const uint32_t parallelism = n->kind == NODE_SOURCE ? plan->sources : plan->counts;
        const kwr_status added = kwr_job_add_task(a->job, names[n->kind], n->index, parallelism,
                                                  roles[n->kind], &n->number, &err);
        if (added < KWR_OK) fail(a, added, &err);
    }
}

static void open_state(node *n, kwr_error *err) {
    const kwr_reducing_descriptor descriptor = { .struct_size = sizeof descriptor,
                                                 .name = "count",
                                                 .type = { .kind = KWR_TYPE_I64 },
                                                 .reduce = KWR_REDUCE_SUM };
    const kwr_status status =
        kwr_reducing_open(kwr_task_backend(n->task), &descriptor, &n->state, err);
    if (status < KWR_OK) fail(n->attempt, status, err);
}

static void restore_position(node *n) {
    kwr_split split;
    if (kwr_task_split_count(n->task) == 0) return;
    if (kwr_task_split(n->task, 0, &split) < KWR_OK) return;
    n->position = 0;
    for (size_t i = 0; i < split.position.size; i++)
        n->position = 10 * n->position + (unsigned)(((const char *)split.position.data)[i] - '0');
}

typedef struct opening {
    node *n;
    kwr_slice assignment;
    kwr_storage *storage;
} opening;

static void open_task(void *ctx) {
    const opening *o = ctx;
    node *n = o->n;
    kwr_error err = { 0 };
    const kwr_task_options options = {
        .struct_size = sizeof options,
        .env = sim_process_env(n->process),
        .storage = o->storage,
        .assignment = o->assignment,
        .channels = n->input_count,
        .key_type = { .kind = KWR_TYPE_BYTES },
    };
    kwr_status status = kwr_task_open(&options, &n->task, &err);
    if (status < KWR_OK) {
        fail(n->attempt, status, &err);
        return;
    }
    if (n->kind == NODE_SOURCE) restore_position(n);
    if (n->kind == NODE_COUNT) open_state(n, &err);
    if (n->kind == NODE_SINK) {
        status = sim_sink_open(options.env, n->task, n->index, &n->sink, &err);
        if (status < KWR_OK) fail(n->attempt, status, &err);
    }
}

static void sweep_sink(void *ctx) {
    node *n = ctx;
    kwr_error err = { 0 };
    const kwr_status status = sim_sink_sweep(n->sink, &err);
    if (status < KWR_OK) fail(n->attempt, status, &err);
}

static void open_storage(void *ctx) {
    opening *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_storage_open(sim_process_env(o->n->process), "file:/ckpt", true, &o->storage, &err);
    if (status < KWR_OK) fail(o->n->attempt, status, &err);
}

static void get_assignment(void *ctx) {
    opening *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_job_assignment(o->n->attempt->job, o->n->number, &o->assignment, &err);
    if (status < KWR_OK) fail(o->n->attempt, status, &err);
}

static void start_job(void *ctx) {
    sim_attempt *a = ctx;
    kwr_error err = { 0 };
    const kwr_status status = kwr_job_start(a->job, &err);
    if (status < KWR_OK) fail(a, status, &err);
    a->started = true;
}

static void open_all(sim_attempt *a) {
    for (unsigned p = 0; p < a->process_count && !a->failed; p++) {
        node place = { .attempt = a, .process = a->processes[p] };
        opening o = { .n = &place };
        if (!sim_process_run(a->processes[p], open_storage, &o)) fail(a, KWR_ERR_CANCELLED, NULL);
        a->storages[p] = o.storage;
    }
    if (!a->failed && !sim_process_run(a->processes[0], open_job, a))
        fail(a, KWR_ERR_CANCELLED, NULL);
    for (unsigned i = 0; i < a->node_count && !a->failed; i++) {
        opening o = { .n = &a->nodes[i] };
        if (!sim_process_run(a->processes[0], get_assignment, &o)) fail(a, KWR_ERR_CANCELLED, NULL);
        for (unsigned p = 0; p < a->process_count; p++)
            if (a->processes[p] == a->nodes[i].process) o.storage = a->storages[p];
        if (!a->failed && !sim_process_run(a->nodes[i].process, open_task, &o))
            fail(a, KWR_ERR_CANCELLED, NULL);
    }
    /* Only when every sink has committed again what its checkpoint carries. */
    for (unsigned i = 0; i < a->node_count && !a->failed; i++)
        if (a->nodes[i].kind == NODE_SINK &&
            !sim_process_run(a->nodes[i].process, sweep_sink, &a->nodes[i]))
            fail(a, KWR_ERR_CANCELLED, NULL);
    if (!a->failed && !sim_process_run(a->processes[0], start_job, a))
        fail(a, KWR_ERR_CANCELLED, NULL);
    /* A job that had finished: everything is committed now, starting it only tidies up. */
    if (!a->failed && a->info.restored_final) {
        a->job_finished = true;
        for (unsigned i = 0; i < a->node_count; i++)
            a->nodes[i].final_committed = true;
    }
}

sim_attempt *sim_attempt_new(sim_shared *shared, const sim_plan *plan, const sim_script *script,
                             sim_disk *disk, unsigned number, bool lock_off) {
    sim_attempt *a = must(calloc(1, sizeof *a));
    a->shared = shared;
    a->plan = plan;
    a->script = script;
    a->disk = disk;
    a->number = number;
    a->lock_off = lock_off;
    a->process_count = plan->processes;
    sim_trace(shared, "a%u starts%s", number, lock_off ? " without lock" : "");
    for (unsigned p = 0; p < a->process_count; p++)
        a->processes[p] = sim_process_new(shared, disk, number * 10 + p);
    for (unsigned i = 0; i < plan->sources + 2 * plan->counts; i++) {
        node *n = &a->nodes[a->node_count++];
        n->attempt = a;
        n->kind = i < plan->sources                  ? NODE_SOURCE
                  : i < plan->sources + plan->counts ? NODE_COUNT
                                                     : NODE_SINK;
        n->index = n->kind == NODE_SOURCE  ? i
                   : n->kind == NODE_COUNT ? i - plan->sources
                                           : i - plan->sources - plan->counts;
        n->process = a->processes[i % a->process_count];
    }
    for (unsigned c = 0; c < plan->counts; c++) {
        node *count = &a->nodes[plan->sources + c];
        for (unsigned s = 0; s < plan->sources; s++)
            connect(a, &a->nodes[s], count);
        connect(a, count, &a->nodes[plan->sources + plan->counts + c]);
    }
    open_all(a);
    return a;
}

static void close_node(void *ctx) {
    node *n = ctx;
    sim_sink_close(n->sink);
    n->sink = NULL;
    kwr_task_close(n->task);
    n->task = NULL;
}

static void close_job(void *ctx) {
    sim_attempt *a = ctx;
    kwr_job_close(a->job);
    a->job = NULL;
}

static void close_storage(void *ctx) { kwr_storage_close(ctx); }

void sim_attempt_free(sim_attempt *a, char *leak, size_t leak_size) {
    item unused;
    bool died = false;
    for (unsigned i = 0; i < a->node_count; i++)
        (void)sim_process_run(a->nodes[i].process, close_node, &a->nodes[i]);
    (void)sim_process_run(a->processes[0], close_job, a);
    for (unsigned p = 0; p < a->process_count; p++)
        (void)sim_process_run(a->processes[p], close_storage, a->storages[p]);
    leak[0] = '\0';
    for (unsigned p = 0; p < a->process_count; p++)
        died |= sim_process_dead(a->processes[p]);
    for (unsigned p = 0; p < a->process_count; p++) {
        uint64_t bytes;
        const size_t blocks = sim_process_outstanding(a->processes[p], &bytes);
        const size_t handles = sim_process_handles(a->processes[p]);
        /* An attempt torn by a kill may hold bytes across processes nobody can give back. */
        if (!died && (blocks > 0 || handles > 0))
            snprintf(leak, leak_size,
                     "resources: after a clean close attempt %u holds %zu blocks (%llu bytes), %zu "
                     "handles",
                     a->number, blocks, (unsigned long long)bytes, handles);
        sim_process_free(a->processes[p]);
    }
    for (unsigned c = 0; c < a->channel_count; c++)
        while (pop(&a->channels[c], &unused))
            continue;
    while (a->messages != NULL)
        free(take_message(a, 0));
    free(a);
}

/* ---- stepping ---- */

sim_attempt_state sim_attempt_look(const sim_attempt *a) {
    for (unsigned p = 0; p < a->process_count; p++)
        if (!sim_process_dead(a->processes[p])) goto alive;
    return SIM_ATTEMPT_DEAD;
alive:
    if (a->failed) return SIM_ATTEMPT_FAILED;
    if (!a->job_finished) return SIM_ATTEMPT_RUNNING;
    for (unsigned i = 0; i < a->node_count; i++) {
        if (a->nodes[i].kind == NODE_SINK && !a->nodes[i].final_committed)
            return a->message_count > 0 ? SIM_ATTEMPT_RUNNING : SIM_ATTEMPT_FAILED;
    }
    return SIM_ATTEMPT_FINISHED;
}

const kwr_error *sim_attempt_error(const sim_attempt *a) { return &a->error; }
uint64_t sim_attempt_published(const sim_attempt *a) { return a->published; }
uint64_t sim_attempt_notified(const sim_attempt *a) { return a->notified; }
uint64_t sim_attempt_commits(const sim_attempt *a) { return a->commits; }

void sim_attempt_kill(sim_attempt *a) {
    for (unsigned p = 0; p < a->process_count; p++)
        sim_process_kill(a->processes[p]);
}

/* The rest finds out when the job is told, which an engine does soon. */
void sim_attempt_kill_one(sim_attempt *a, sim_rng *rng) {
    const unsigned which = (unsigned)sim_below(rng, a->process_count);
    sim_process_kill(a->processes[which]);
    if (which == 0) sim_attempt_kill(a);
}

static bool source_ready(const node *n) {
    const sim_script *script = n->attempt->script;
    if (n->kind != NODE_SOURCE || n->task == NULL) return false;
    return n->position < script->records ? !full(n) : !n->end_told;
}

/* Node choices come as: source step, then each ready input. */
static size_t node_choices(const node *n) {
    if (n->task == NULL || sim_process_dead(n->process)) return 0;
    size_t count = source_ready(n);
    for (unsigned i = 0; i < n->input_count; i++)
        count += ready_input(n, n->inputs[i]);
    return count;
}

static bool job_lives(const sim_attempt *a) {
    return a->job != NULL && a->started && !sim_process_dead(a->processes[0]);
}

size_t sim_attempt_choices(const sim_attempt *a) {
    size_t count = a->message_count;
    for (unsigned p = 0; p < a->process_count; p++)
        if (!sim_process_dead(a->processes[p])) count += sim_process_runnable(a->processes[p]);
    if (a->failed) return count;
    count += job_lives(a) && !a->job_finished;
    for (unsigned i = 0; i < a->node_count; i++)
        count += node_choices(&a->nodes[i]);
    return count;
}

uint64_t sim_attempt_deadline(const sim_attempt *a) {
    uint64_t next = job_lives(a) && !a->job_finished ? kwr_job_deadline(a->job) : UINT64_MAX;
    for (unsigned p = 0; p < a->process_count; p++) {
        const uint64_t timer = sim_process_next_timer(a->processes[p]);
        if (!sim_process_dead(a->processes[p]) && timer < next) next = timer;
    }
    return next;
}

static void poll_job(void *ctx) {
    sim_attempt *a = ctx;
    kwr_job_event event;
    while (!a->job_finished && !a->failed && kwr_job_poll(a->job, &event) == KWR_OK) {
        sim_trace(a->shared, "a%u job event %d checkpoint %llu slot %llu", a->number,
                  (int)event.kind, (unsigned long long)event.checkpoint,
                  (unsigned long long)event.slot);
        switch (event.kind) {
        case KWR_JOB_SEND:
            for (unsigned i = 0; i < a->node_count; i++)
                if (event.task == KWR_ALL_TASKS || event.task == a->nodes[i].number)
                    post_message(a, false, i, event.message);
            break;
        case KWR_JOB_PUBLISHED: a->published = event.checkpoint; break;
        case KWR_JOB_FINISHED: a->job_finished = true; break;
        case KWR_JOB_FAILED: fail(a, event.error.status, &event.error); break;
        case KWR_JOB_TRIGGERED:
        case KWR_JOB_PUBLISHING:
        case KWR_JOB_ABORTED: break;
        }
    }
}

typedef struct delivery {
    sim_attempt *a;
    message *m;
} delivery;

static void deliver(void *ctx) {
    const delivery *d = ctx;
    const kwr_slice bytes = { d->m->data, d->m->size };
    if (!d->m->to_job) {
        receive(&d->a->nodes[d->m->node], bytes);
        return;
    }
    const kwr_status status = kwr_job_receive(d->a->job, bytes);
    /* No memory for a message is a lost message. */
    if (status < KWR_OK && status != KWR_ERR_NOMEM) fail(d->a, status, NULL);
}

static void step_message(sim_attempt *a, size_t index) {
    delivery d = { a, take_message(a, index) };
    sim_process *to = d.m->to_job ? a->processes[0] : a->nodes[d.m->node].process;
    const bool there = d.m->to_job ? a->job != NULL : a->nodes[d.m->node].task != NULL;
    if (there) (void)sim_process_run(to, deliver, &d);
    free(d.m);
}

typedef struct node_step {
    node *n;
    size_t choice;
} node_step;

static void step_node(void *ctx) {
    const node_step *s = ctx;
    node *n = s->n;
    size_t choice = s->choice;
    if (source_ready(n) && choice-- == 0) {
        if (n->position < n->attempt->script->records) {
            emit_record(n);
        } else {
            n->end_told = kwr_task_source_ended(n->task) >= KWR_OK;
        }
        return;
    }
    for (unsigned i = 0; i < n->input_count; i++) {
        item what;
        if (!ready_input(n, n->inputs[i]) || choice-- > 0) continue;
        if (pop(n->inputs[i], &what)) handle_item(n, n->inputs[i], &what);
        return;
    }
}

static void poll_node(void *ctx) { poll_task(ctx); }

/* An engine finds out that it lost a process; what is left of it runs on for a while. */
void sim_attempt_notice(sim_attempt *a) {
    bool lost = false;
    for (unsigned p = 0; p < a->process_count; p++)
        lost = lost || sim_process_dead(a->processes[p]);
    if (lost && a->steps_lost++ >= LOST_STEPS) fail(a, KWR_ERR_CANCELLED, NULL);
}

void sim_attempt_step(sim_attempt *a, size_t choice) {
    if (choice < a->message_count) {
        step_message(a, choice);
        goto poll;
    }
    choice -= a->message_count;
    for (unsigned p = 0; p < a->process_count; p++) {
        if (sim_process_dead(a->processes[p])) continue;
        const size_t runnable = sim_process_runnable(a->processes[p]);
        if (choice < runnable) {
            (void)sim_process_run_work(a->processes[p], choice);
            goto poll;
        }
        choice -= runnable;
    }
    if (a->failed) return;
    if (job_lives(a) && !a->job_finished && choice-- == 0) {
        (void)sim_process_run(a->processes[0], poll_job, a);
        return;
    }
    for (unsigned i = 0; i < a->node_count; i++) {
        const size_t count = node_choices(&a->nodes[i]);
        if (choice < count) {
            node_step s = { &a->nodes[i], choice };
            (void)sim_process_run(a->nodes[i].process, step_node, &s);
            break;
        }
        choice -= count;
    }
poll:
    for (unsigned i = 0; i < a->node_count; i++)
        if (a->nodes[i].task != NULL)
            (void)sim_process_run(a->nodes[i].process, poll_node, &a->nodes[i]);
    sim_attempt_notice(a);
}
