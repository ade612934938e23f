/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under simulation: bounded channels in memory, messages through the harness. Actors
 * are the job (0) and the tasks (1 ..).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/list.h"
#include "keyweir/map.h"
#include "keyweir/state.h"
#include "keyweir/task.h"
#include "tests/sim/job.h"
#include "tests/sim/kinds.h"
#include "tests/sim/oracle.h"
#include "tests/sim/promises.h"
#include "tests/sim/sink.h"

enum {
    NODES_MAX = SIM_SPLITS_MAX + 3 * SIM_COUNTS_MAX,
    CHANNELS_MAX = (SIM_SPLITS_MAX + SIM_COUNTS_MAX + 1) * SIM_COUNTS_MAX,
    INPUTS_MAX = SIM_SPLITS_MAX > SIM_COUNTS_MAX ? SIM_SPLITS_MAX : SIM_COUNTS_MAX,
    CHANNEL_DEPTH = 6,
    PROCESSES_MAX = 4,
    STREAM_SHAPE = KWR_SIM_STREAM_SUBJECT,
    STREAM_SCRIPT,
    STREAM_PARALLELISM,
};

/* Of the input that the splits belong to: long, so that damage to a manifest meets it often. */
static const char IDENTITY[] = "script of the records that the sources of this run read, one line "
                               "for each record, in the order in "
                               "which they stand there; whoever comes back with other words than "
                               "these has not read that script";

typedef enum node_kind { NODE_SOURCE, NODE_COUNT, NODE_TALLY, NODE_SINK } node_kind;
typedef struct engine engine;

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
    uint64_t delivered; /* checkpoint of its last barrier */
} channel;

typedef struct node {
    engine *engine;
    node_kind kind;
    unsigned index;
    kwr_sim_process *process;
    kwr_task *task;
    uint32_t number; /* in the job */
    channel *inputs[INPUTS_MAX];
    channel *outputs[SIM_COUNTS_MAX];
    unsigned input_count, output_count;
    bool owned[SIM_SPLITS_MAX]; /* sources: splits, and how far they were read */
    uint64_t positions[SIM_SPLITS_MAX];
    bool end_told;
    kwr_reducing *count; /* by key */
    sim_kinds kinds;     /* by key: what follows from its count */
    kwr_value *total;    /* by family: its records */
    kwr_map *latest;     /* by family: the count of each key */
    kwr_list *recent;    /* by family, the key as namespace: its counts since the last multiple */
    kwr_list *journal;   /* by family: key and count of every record */
    sim_sink *sink;
    bool final_committed;
    kwr_barrier last_barrier; /* sent */
    uint64_t aborted, taken;  /* the newest it was told to give up, and took */
} node;

struct engine {
    sim_job *run;
    kwr_sim_attempt *attempt;
    kwr_storage *storages[PROCESSES_MAX];
    kwr_job *job;
    kwr_job_info info;
    unsigned sources, counts;
    node nodes[NODES_MAX];
    unsigned node_count;
    channel channels[CHANNELS_MAX];
    unsigned channel_count;
    bool poll, job_finished, failed; /* poll: the job was woken */
    sim_promises promises;
};

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static void fail(engine *e, kwr_status status, const kwr_error *err) {
    kwr_error error = { 0 };
    if (e->failed) return;
    e->failed = true;
    if (err != NULL) error = *err;
    error.status = status;
    kwr_sim_attempt_fail(e->attempt, &error);
}

/* ---- channels ---- */

static channel *connect(engine *e, node *from, node *to) {
    channel *c = &e->channels[e->channel_count++];
    c->last = &c->first;
    c->to = (unsigned)(to - e->nodes);
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

/* Once, and now and then once more, or with one that is late or of another attempt. */
static void push_barrier(node *n, const kwr_barrier *barrier) {
    item what = { .is_barrier = true, .barrier = *barrier }, extra = { .is_barrier = true };
    for (unsigned i = 0; i < n->output_count; i++) {
        push(n->outputs[i], &what);
        if (sim_strays_barrier(&n->engine->run->strays, barrier, &n->last_barrier, &extra.barrier))
            push(n->outputs[i], &extra);
    }
    n->last_barrier = *barrier;
}

static void send(engine *e, unsigned actor, kwr_slice bytes) {
    sim_strays *strays = &e->run->strays;
    kwr_sim_attempt_send(e->attempt, actor, bytes);
    const sim_stray *stray =
        sim_strays_message(strays, kwr_sim_attempt_number(e->attempt), actor, bytes);
    if (stray != NULL)
        kwr_sim_attempt_send(e->attempt, stray->actor, (kwr_slice){ stray->data, stray->size });
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

static kwr_slice family_text(unsigned key, char out[16]) {
    const int size = snprintf(out, 16, "f%u", key / SIM_FAMILY);
    return (kwr_slice){ out, (size_t)size };
}

static kwr_status set_position(node *n, unsigned split) {
    char id[16], position[24];
    const int id_size = snprintf(id, sizeof id, "s%u", split);
    const int size =
        snprintf(position, sizeof position, "%llu", (unsigned long long)n->positions[split]);
    const kwr_split s = { .id = { id, (size_t)id_size },
                          .identity = { IDENTITY, sizeof IDENTITY - 1 },
                          .position = { position, (size_t)size } };
    return kwr_task_set_split(n->task, &s);
}

static kwr_status set_positions(node *n) {
    kwr_status status = KWR_OK;
    for (unsigned i = 0; i < SIM_SPLITS_MAX && status >= KWR_OK; i++)
        if (n->owned[i]) status = set_position(n, i);
    return status;
}

/* Whether the attempt goes on after this failure of a checkpoint. It must have a cause anyway. */
static bool survives(engine *e, kwr_status status, const kwr_error *err) {
    kwr_error error = *err;
    error.status = status;
    if (kwr_status_action(status) == KWR_STOP) {
        fail(e, status, err);
        return false;
    }
    kwr_sim_attempt_report(e->attempt, &error);
    return true;
}

/* The barrier goes on before the snapshot; a part that cannot be taken is declined. */
static void take_part(node *n, const kwr_barrier *barrier) {
    engine *e = n->engine;
    kwr_error err = { 0 };
    kwr_status status = KWR_OK;
    push_barrier(n, barrier);
    if (n->kind == NODE_SOURCE) status = set_positions(n);
    if (n->kind == NODE_SINK) status = sim_sink_pre_commit(n->sink, barrier->checkpoint, &err);
    if (status < KWR_OK) {
        if (n->kind == NODE_SOURCE) err = *kwr_task_error(n->task);
        if (!survives(e, status, &err)) return;
        if (kwr_task_decline(n->task, barrier->checkpoint, &err) < KWR_OK) fail(e, status, &err);
        return;
    }
    /* A failure leaves a decline behind, or is found by the timeout. */
    const kwr_status taken = kwr_task_checkpoint(n->task, barrier);
    if (n->kind == NODE_COUNT) sim_check_pages(e->run->sim, kwr_task_backend(n->task));
    if (taken < KWR_OK) (void)survives(e, taken, kwr_task_error(n->task));
}

/* All inputs are at the barrier, it is of this attempt, and was neither taken nor given up. */
static bool snapshot_is_right(node *n, const kwr_barrier *barrier) {
    kwr_sim *sim = n->engine->run->sim;
    const uint64_t id = barrier->checkpoint;
    bool all = true;
    for (unsigned i = 0; i < n->input_count; i++)
        all = all && n->inputs[i]->delivered == id;
    if (all && id > n->taken && id != n->aborted &&
        barrier->generation == kwr_task_generation(n->task)) {
        n->taken = id;
        return true;
    }
    kwr_sim_violated(sim,
                     "alignment: a snapshot of checkpoint %llu, %s; taken up to %llu, aborted "
                     "%llu",
                     (unsigned long long)id,
                     all ? "all inputs are at it" : "but some input is not at it",
                     (unsigned long long)n->taken, (unsigned long long)n->aborted);
    return false;
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
    if (alignment->snapshot && n->task != NULL && snapshot_is_right(n, &alignment->barrier))
        take_part(n, &alignment->barrier);
}

/* The task that owns the key. */
static uint32_t owner(const node *n, kwr_slice key) {
    const kwr_job_info *info = &n->engine->info;
    const uint32_t group = kwr_key_group(key, info->seed, info->max_parallelism);
    return kwr_key_group_owner(group, n->engine->counts, info->max_parallelism);
}

/* The channel to it. */
static channel *route(const node *n, kwr_slice key) { return n->outputs[owner(n, key)]; }

static void count_record(node *n, const item *record) {
    char text[16];
    const int64_t one = 1;
    kwr_slice result;
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_backend_set_key(backend, key_text(record->key, text));
    if (status >= KWR_OK)
        status = kwr_reducing_add(n->count, (kwr_slice){ &one, sizeof one }, &result);
    if (status < KWR_OK) {
        fail(n->engine, status, kwr_backend_error(backend));
        return;
    }
    item out = { .key = record->key };
    memcpy(&out.count, result.data, sizeof out.count);
    kwr_error err = { 0 };
    status =
        sim_kinds_step(&n->kinds, backend, key_text(record->key, text), (int64_t)out.count, &err);
    if (status < KWR_OK) {
        fail(n->engine, status, &err);
        return;
    }
    push(route(n, family_text(record->key, text)), &out);
}

/* The counts of a key; emptied at each multiple of SIM_RECENT. */
static kwr_status keep_recent(node *n, const item *record, kwr_slice key) {
    kwr_status status = kwr_list_set_namespace(n->recent, key);
    if (status < KWR_OK) return status;
    if (record->count % SIM_RECENT == 0) return kwr_list_clear(n->recent);
    return kwr_list_add(n->recent, (kwr_slice){ &record->count, sizeof record->count });
}

static kwr_status keep_journal(node *n, const item *record) {
    uint8_t entry[SIM_JOURNAL_BYTES];
    if (!n->engine->run->shape.journal) return KWR_OK;
    memset(entry, (int)record->count, sizeof entry);
    memcpy(entry, &(uint64_t){ record->key }, 8);
    memcpy(entry + 8, &record->count, 8);
    return kwr_list_add(n->journal, (kwr_slice){ entry, sizeof entry });
}

static kwr_status keep_total(node *n) {
    void *total = NULL;
    uint64_t records;
    const kwr_status status = kwr_value_modify(n->total, sizeof records, &total, NULL);
    if (status < KWR_OK) return status;
    memcpy(&records, total, sizeof records);
    records++;
    memcpy(total, &records, sizeof records);
    return KWR_OK;
}

static void tally_record(node *n, const item *record) {
    char family_name[16], key_name[16];
    const kwr_slice key = key_text(record->key, key_name);
    const kwr_slice count = { &record->count, sizeof record->count };
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_backend_set_key(backend, family_text(record->key, family_name));
    if (status >= KWR_OK) status = kwr_map_put(n->latest, key, count);
    if (status >= KWR_OK) status = keep_recent(n, record, key);
    if (status >= KWR_OK) status = keep_journal(n, record);
    if (status >= KWR_OK) status = keep_total(n);
    if (status < KWR_OK) {
        fail(n->engine, status, kwr_backend_error(backend));
        return;
    }
    push(n->outputs[0], record);
}

static void write_record(node *n, const item *record) {
    char line[64];
    kwr_error err = { 0 };
    const int size =
        snprintf(line, sizeof line, "k%u\t%llu\n", record->key, (unsigned long long)record->count);
    const kwr_status status = sim_sink_write(n->sink, line, (size_t)size, &err);
    if (status < KWR_OK) fail(n->engine, status, &err);
}

static void handle_barrier(node *n, channel *c, const kwr_barrier *barrier) {
    kwr_alignment alignment = { 0 };
    if (!barrier->cancelled && barrier->checkpoint > c->delivered &&
        barrier->generation == kwr_task_generation(n->task))
        c->delivered = barrier->checkpoint;
    const kwr_status status = kwr_task_barrier(n->task, c->input, barrier, &alignment);
    if (status < KWR_OK)
        fail(n->engine, status, kwr_task_error(n->task));
    else
        follow(n, &alignment, c);
}

static void handle_item(node *n, channel *c, const item *what) {
    if (what->is_barrier) {
        handle_barrier(n, c, &what->barrier);
        if (sim_strays_twice(&n->engine->run->strays) && !n->engine->failed)
            handle_barrier(n, c, &what->barrier);
    } else if (n->kind == NODE_COUNT) {
        count_record(n, what);
    } else if (n->kind == NODE_TALLY) {
        tally_record(n, what);
    } else {
        write_record(n, what);
    }
}

static bool ready_input(const node *n, const channel *c) {
    if (c->blocked || c->first == NULL) return false;
    return c->first->is_barrier || !full(n);
}

static bool left(const node *n, unsigned split) {
    return n->owned[split] && n->positions[split] < n->engine->run->shape.records;
}

/* The nth of the splits that have records left. */
static void emit_record(node *n, size_t nth) {
    const sim_job *run = n->engine->run;
    unsigned split = 0;
    char text[16];
    while (!left(n, split) || nth-- > 0)
        split++;
    const item record = { .key = run->key_of[split * run->shape.records + n->positions[split]++] };
    push(route(n, key_text(record.key, text)), &record);
}

static void commit(node *n, uint64_t checkpoint, bool final) {
    kwr_error err = { 0 };
    sim_job *run = n->engine->run;
    if (checkpoint > run->notified) run->notified = checkpoint;
    if (n->kind == NODE_SINK) {
        const kwr_status status = sim_sink_commit(n->sink, checkpoint, &err);
        if (status < KWR_OK) {
            fail(n->engine, status, &err);
            return;
        }
    }
    if (final) n->final_committed = true;
}

static void receive(node *n, kwr_slice bytes) {
    kwr_task_event event = { 0 };
    const kwr_status status = kwr_task_receive(n->task, bytes, &event);
    if (status < KWR_OK) {
        fail(n->engine, status, kwr_task_error(n->task));
        return;
    }
    if (event.kind == KWR_TASK_TRIGGER) take_part(n, &event.barrier);
    if (event.kind == KWR_TASK_COMPLETE) commit(n, event.checkpoint, event.final);
    if (event.kind == KWR_TASK_ABORT && event.checkpoint > n->aborted)
        n->aborted = event.checkpoint;
    if (event.kind == KWR_TASK_ABORT) follow(n, &event.alignment, NULL);
}

/* ---- opening ---- */

static void wake_job(void *ctx) { ((engine *)ctx)->poll = true; }

static void open_job(void *ctx) {
    engine *e = ctx;
    const sim_shape *shape = &e->run->shape;
    kwr_error err = { 0 };
    const kwr_job_options options = {
        .struct_size = sizeof options,
        .env = kwr_sim_process_env(kwr_sim_attempt_process(e->attempt, 0)),
        .storage = e->storages[0],
        .name = "sim",
        .max_parallelism = shape->max_parallelism,
        .interval_ms = shape->interval_ms,
        .min_pause_ms = shape->min_pause_ms,
        .timeout_ms = shape->timeout_ms,
        .retain = shape->retain,
        .tolerate_all = true,
        .lock_off = kwr_sim_attempt_beside(e->attempt),
        .inline_bytes = shape->inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0,
        .wake = wake_job,
        .wake_ctx = e,
    };
    const kwr_status status = kwr_job_open(&options, &e->job, &err);
    if (status < KWR_OK) {
        fail(e, status, &err);
        return;
    }
    e->info.struct_size = sizeof e->info;
    kwr_job_get_info(e->job, &e->info);
    static const char *const names[] = { "source", "count", "tally", "sink" };
    static const unsigned roles[] = { KWR_TASK_SOURCE, KWR_TASK_KEYED, KWR_TASK_KEYED,
                                      KWR_TASK_SINK };
    for (unsigned i = 0; i < e->node_count && !e->failed; i++) {
        node *n = &e->nodes[i];
        const uint32_t parallelism = n->kind == NODE_SOURCE ? e->sources : e->counts;
        const kwr_status added = kwr_job_add_task(e->job, names[n->kind], n->index, parallelism,
                                                  roles[n->kind], &n->number, &err);
        if (added < KWR_OK) fail(e, added, &err);
    }
}

static kwr_status open_count(node *n, kwr_error *err) {
    const kwr_reducing_descriptor count = { .struct_size = sizeof count,
                                            .name = "count",
                                            .type = { .kind = KWR_TYPE_I64 },
                                            .reduce = KWR_REDUCE_SUM };
    const kwr_status status = kwr_reducing_open(kwr_task_backend(n->task), &count, &n->count, err);
    if (status < KWR_OK) return status;
    return sim_kinds_open(&n->kinds, kwr_task_backend(n->task), err);
}

static kwr_status open_tally(node *n, kwr_error *err) {
    const kwr_value_descriptor total = { .struct_size = sizeof total,
                                         .name = "total",
                                         .type = { .kind = KWR_TYPE_U64 } };
    const kwr_map_descriptor latest = { .struct_size = sizeof latest,
                                        .name = "latest",
                                        .type = { .kind = KWR_TYPE_U64 } };
    const kwr_list_descriptor recent = { .struct_size = sizeof recent,
                                         .name = "recent",
                                         .type = { .kind = KWR_TYPE_U64 } };
    const kwr_list_descriptor journal = { .struct_size = sizeof journal, .name = "journal" };
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_value_open(backend, &total, &n->total, err);
    if (status >= KWR_OK) status = kwr_map_open(backend, &latest, &n->latest, err);
    if (status >= KWR_OK) status = kwr_list_open(backend, &recent, &n->recent, err);
    if (status >= KWR_OK) status = kwr_list_open(backend, &journal, &n->journal, err);
    return status;
}

static uint64_t number(kwr_slice text) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++)
        value = 10 * value + (unsigned)(((const char *)text.data)[i] - '0');
    return value;
}

/* What the checkpoint gave this task; in a job that starts empty every task takes its share. */
static void restore_positions(node *n) {
    const engine *e = n->engine;
    const size_t count = kwr_task_split_count(n->task);
    if (e->info.restored_checkpoint == 0)
        for (unsigned i = 0; i < e->run->shape.splits; i++)
            n->owned[i] = i % e->sources == n->index;
    for (size_t i = 0; i < count; i++) {
        kwr_split split;
        if (kwr_task_split(n->task, i, &split) < KWR_OK) return;
        const kwr_slice digits = { (const char *)split.id.data + 1, split.id.size - 1 };
        const uint64_t which = number(digits);
        const bool ours = split.identity.size == sizeof IDENTITY - 1 &&
                          memcmp(split.identity.data, IDENTITY, split.identity.size) == 0;
        if (which >= SIM_SPLITS_MAX || !ours || number(split.position) > e->run->shape.records) {
            kwr_sim_violated(e->run->sim, "a split came back that was never set");
            return;
        }
        n->owned[which] = true;
        n->positions[which] = number(split.position);
    }
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
        .env = kwr_sim_process_env(n->process),
        .storage = o->storage,
        .assignment = o->assignment,
        .channels = n->input_count,
        .key_type = { .kind = KWR_TYPE_BYTES },
    };
    kwr_status status = kwr_task_open(&options, &n->task, &err);
    if (status < KWR_OK) {
        fail(n->engine, status, &err);
        return;
    }
    if (n->kind == NODE_SOURCE) restore_positions(n);
    if (n->kind == NODE_COUNT) status = open_count(n, &err);
    if (n->kind == NODE_TALLY) status = open_tally(n, &err);
    if (n->kind == NODE_SINK)
        status = sim_sink_open(options.env, n->task, n->index, &n->sink, &err);
    if (status < KWR_OK) fail(n->engine, status, &err);
}

static void sweep_sink(void *ctx) {
    node *n = ctx;
    kwr_error err = { 0 };
    const kwr_status status = sim_sink_sweep(n->sink, &err);
    if (status < KWR_OK) fail(n->engine, status, &err);
}

/* How often the key was read before the positions that all sources were restored at. */
static uint64_t read_before(const engine *e, unsigned key) {
    const sim_job *run = e->run;
    uint64_t times = 0;
    for (unsigned i = 0; i < e->node_count; i++)
        for (unsigned split = 0; split < SIM_SPLITS_MAX && e->nodes[i].kind == NODE_SOURCE; split++)
            for (uint64_t r = 0; r < e->nodes[i].positions[split]; r++)
                times += run->key_of[split * run->shape.records + r] == key;
    return times;
}

static uint64_t restored_number(kwr_status status, kwr_slice value) {
    uint64_t number = 0;
    if (status == KWR_OK && value.size == sizeof number) memcpy(&number, value.data, sizeof number);
    return number;
}

/* What is wrong with what came back of the current key; NULL: nothing. */
static const char *restored_wrong(node *n, unsigned key, uint64_t expected) {
    char text[16];
    kwr_slice value = { 0 };
    const kwr_status status = n->kind == NODE_COUNT
                                  ? kwr_reducing_get(n->count, &value)
                                  : kwr_map_get(n->latest, key_text(key, text), &value);
    if (status < KWR_OK) {
        fail(n->engine, status, kwr_backend_error(kwr_task_backend(n->task)));
        return NULL;
    }
    if (restored_number(status, value) != expected)
        return n->kind == NODE_COUNT ? "count" : "latest";
    if (n->kind == NODE_COUNT) return sim_kinds_restored_wrong(&n->kinds, (int64_t)expected);
    uint64_t total = 0;
    for (unsigned i = key - key % SIM_FAMILY, end = i + SIM_FAMILY; i < end; i++)
        total += read_before(n->engine, i);
    const kwr_status found = kwr_value_get(n->total, &value);
    return found >= KWR_OK && restored_number(found, value) != total ? "total" : NULL;
}

/* What was restored fits where the sources go on: before the first record, of each key. */
static void expect_restored_cut(void *ctx) {
    node *n = ctx;
    engine *e = n->engine;
    char text[16];
    for (unsigned key = 0; key < e->run->shape.keys && !e->failed; key++) {
        const kwr_slice of = n->kind == NODE_COUNT ? key_text(key, text) : family_text(key, text);
        kwr_backend *backend = kwr_task_backend(n->task);
        if (owner(n, of) != n->index) continue;
        const kwr_status status = kwr_backend_set_key(backend, of);
        if (status < KWR_OK) {
            fail(e, status, kwr_backend_error(backend));
            return;
        }
        const uint64_t expected = read_before(e, key);
        const char *state = restored_wrong(n, key, expected);
        if (state == NULL) continue;
        kwr_sim_violated(e->run->sim,
                         "not a consistent cut: checkpoint %llu came back with another %s of k%u "
                         "than its sources have led to, who have read it %llu times",
                         (unsigned long long)e->info.restored_checkpoint, state, key,
                         (unsigned long long)expected);
        return;
    }
}

typedef struct opening_storage {
    engine *e;
    kwr_sim_process *process;
    kwr_storage **storage;
} opening_storage;

static void open_storage(void *ctx) {
    const opening_storage *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_storage_open(kwr_sim_process_env(o->process), "file:/ckpt", true, o->storage, &err);
    if (status < KWR_OK) fail(o->e, status, &err);
}

static void get_assignment(void *ctx) {
    opening *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_job_assignment(o->n->engine->job, o->n->number, &o->assignment, &err);
    if (status < KWR_OK) fail(o->n->engine, status, &err);
}

static void start_job(void *ctx) {
    engine *e = ctx;
    kwr_error err = { 0 };
    const kwr_status status = kwr_job_start(e->job, &err);
    if (status < KWR_OK) fail(e, status, &err);
    e->poll = true;
}

/* Calls `fn` as the process unless the attempt has failed; it fails when the process dies. */
static void call(engine *e, kwr_sim_process *process, void (*fn)(void *ctx), void *ctx) {
    if (!e->failed && !kwr_sim_process_call(process, fn, ctx)) fail(e, KWR_ERR_CANCELLED, NULL);
}

static void open_all(engine *e) {
    kwr_sim_process *first = kwr_sim_attempt_process(e->attempt, 0);
    for (unsigned p = 0; p < e->run->shape.processes; p++) {
        opening_storage o = { e, kwr_sim_attempt_process(e->attempt, p), &e->storages[p] };
        call(e, o.process, open_storage, &o);
    }
    call(e, first, open_job, e);
    for (unsigned i = 0; i < e->node_count; i++) {
        opening o = { .n = &e->nodes[i], .storage = e->storages[i % e->run->shape.processes] };
        call(e, first, get_assignment, &o);
        call(e, o.n->process, open_task, &o);
    }
    /* Only when every sink has committed again what its checkpoint carries. */
    for (unsigned i = 0; i < e->node_count; i++)
        if (e->nodes[i].kind == NODE_SINK) call(e, e->nodes[i].process, sweep_sink, &e->nodes[i]);
    for (unsigned i = 0; i < e->node_count; i++)
        if (e->nodes[i].kind == NODE_COUNT || e->nodes[i].kind == NODE_TALLY)
            call(e, e->nodes[i].process, expect_restored_cut, &e->nodes[i]);
    call(e, first, start_job, e);
    /* A job that had finished: everything is committed now, starting it only tidies up. */
    if (!e->failed && e->info.restored_final) kwr_sim_attempt_finish(e->attempt);
}

static void add_nodes(engine *e, node_kind kind, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        node *n = &e->nodes[e->node_count];
        n->engine = e;
        n->kind = kind;
        n->index = i;
        n->process = kwr_sim_attempt_process(e->attempt, e->node_count++ % e->run->shape.processes);
    }
}

/* Every source feeds every count, every count every tally, and each tally its sink. */
static void lay_out(engine *e) {
    add_nodes(e, NODE_SOURCE, e->sources);
    add_nodes(e, NODE_COUNT, e->counts);
    add_nodes(e, NODE_TALLY, e->counts);
    add_nodes(e, NODE_SINK, e->counts);
    node *counts = e->nodes + e->sources, *tallies = counts + e->counts,
         *sinks = tallies + e->counts;
    for (unsigned c = 0; c < e->counts; c++) {
        for (unsigned s = 0; s < e->sources; s++)
            connect(e, &e->nodes[s], &counts[c]);
        for (unsigned from = 0; from < e->counts; from++)
            connect(e, &counts[from], &tallies[c]);
        connect(e, &tallies[c], &sinks[c]);
    }
}

/* The parallelism of this attempt: the first one's, or its own. */
static void draw_parallelism(engine *e) {
    const sim_shape *shape = &e->run->shape;
    kwr_sim_rng rng = kwr_sim_rng_of(kwr_sim_seed(e->run->sim),
                                     STREAM_PARALLELISM + kwr_sim_attempt_number(e->attempt));
    const unsigned most =
        shape->max_parallelism < SIM_COUNTS_MAX ? shape->max_parallelism : SIM_COUNTS_MAX;
    e->sources = shape->rescale ? 1 + (unsigned)kwr_sim_below(&rng, shape->splits) : shape->sources;
    e->counts = shape->rescale ? 1 + (unsigned)kwr_sim_below(&rng, most) : shape->counts;
}

static void *start(void *run, kwr_sim_attempt *attempt) {
    engine *e = must(calloc(1, sizeof *e));
    e->run = run;
    e->attempt = attempt;
    draw_parallelism(e);
    lay_out(e);
    open_all(e);
    return e;
}

/* ---- closing ---- */

static void close_node(void *ctx) {
    node *n = ctx;
    sim_sink_close(n->sink);
    kwr_task_close(n->task);
}

static void close_job(void *ctx) { kwr_job_close(ctx); }
static void close_storage(void *ctx) { kwr_storage_close(ctx); }

static void stop(void *state) {
    engine *e = state;
    item unused;
    for (unsigned i = 0; i < e->node_count; i++)
        (void)kwr_sim_process_call(e->nodes[i].process, close_node, &e->nodes[i]);
    (void)kwr_sim_process_call(kwr_sim_attempt_process(e->attempt, 0), close_job, e->job);
    for (unsigned p = 0; p < e->run->shape.processes; p++)
        (void)kwr_sim_process_call(kwr_sim_attempt_process(e->attempt, p), close_storage,
                                   e->storages[p]);
    for (unsigned c = 0; c < e->channel_count; c++)
        while (pop(&e->channels[c], &unused))
            continue;
    free(e);
}

/* ---- stepping ---- */

/* A record of each split that has some left, then one time the end. */
static size_t source_choices(const node *n) {
    size_t count = 0;
    if (n->kind != NODE_SOURCE) return 0;
    for (unsigned i = 0; i < SIM_SPLITS_MAX; i++)
        count += left(n, i);
    if (count > 0) return full(n) ? 0 : count;
    return !n->end_told;
}

static uint64_t job_deadline(const engine *e) {
    const bool lives = e->job != NULL && !e->failed && !e->job_finished &&
                       !kwr_sim_process_dead(kwr_sim_attempt_process(e->attempt, 0));
    return lives ? kwr_job_deadline(e->job) : UINT64_MAX;
}

/* Choices of a task: as a source a record, then an item from each ready input. */
static size_t choices(void *state, unsigned actor) {
    const engine *e = state;
    if (actor == 0)
        return e->job != NULL && !e->job_finished &&
               (e->poll || job_deadline(e) <= kwr_sim_now_ns(e->run->sim));
    const node *n = &e->nodes[actor - 1];
    if (actor > e->node_count || n->task == NULL) return 0;
    size_t count = source_choices(n);
    for (unsigned i = 0; i < n->input_count; i++)
        count += ready_input(n, n->inputs[i]);
    return count;
}

/* Done when all sinks have committed the final checkpoint; when they cannot hear of it any more,
 * the next attempt commits. */
static void look_at_end(engine *e) {
    bool all = true;
    if (!e->job_finished) return;
    for (unsigned i = 0; i < e->node_count; i++)
        all = all && (e->nodes[i].kind != NODE_SINK || e->nodes[i].final_committed);
    if (all)
        kwr_sim_attempt_finish(e->attempt);
    else if (kwr_sim_attempt_messages(e->attempt) == 0)
        fail(e, KWR_ERR_CANCELLED, NULL);
}

static void poll_job(engine *e) {
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
                    send(e, 1 + i, event.message);
            break;
        case KWR_JOB_FINISHED: e->job_finished = true; break;
        case KWR_JOB_FAILED: fail(e, event.error.status, &event.error); break;
        case KWR_JOB_PUBLISHED:
        case KWR_JOB_TRIGGERED:
        case KWR_JOB_PUBLISHING: break;
        case KWR_JOB_ABORTED: kwr_sim_attempt_report(e->attempt, &event.error); break;
        }
    }
    /* Without memory it is polled again. */
    if (status < KWR_OK && status != KWR_ERR_NOMEM) fail(e, status, NULL);
    look_at_end(e);
}

static void step(void *state, unsigned actor, size_t choice) {
    engine *e = state;
    if (actor == 0) {
        poll_job(e);
        return;
    }
    node *n = &e->nodes[actor - 1];
    if (n->kind == NODE_SOURCE) {
        bool any = false;
        for (unsigned i = 0; i < SIM_SPLITS_MAX; i++)
            any = any || left(n, i);
        if (any)
            emit_record(n, choice);
        else
            n->end_told = kwr_task_source_ended(n->task) >= KWR_OK;
        return;
    }
    for (unsigned i = 0; i < n->input_count; i++) {
        item what;
        if (!ready_input(n, n->inputs[i]) || choice-- > 0) continue;
        if (pop(n->inputs[i], &what)) handle_item(n, n->inputs[i], &what);
        return;
    }
}

static void on_message(void *state, unsigned actor, kwr_slice message) {
    engine *e = state;
    if (actor > 0) {
        if (e->nodes[actor - 1].task != NULL) receive(&e->nodes[actor - 1], message);
        look_at_end(e);
        return;
    }
    if (e->job == NULL) return;
    const kwr_status status = kwr_job_receive(e->job, message);
    e->poll = true;
    /* No memory for a message is a lost message. */
    if (status < KWR_OK && status != KWR_ERR_NOMEM) fail(e, status, NULL);
    look_at_end(e);
}

/* What the task has to say to the job. */
static void settle(void *state, unsigned actor) {
    engine *e = state;
    kwr_slice bytes;
    if (actor == 0 || e->nodes[actor - 1].task == NULL) return;
    while (kwr_task_poll(e->nodes[actor - 1].task, &bytes) == KWR_OK)
        send(e, 0, bytes);
}

static uint64_t deadline_ns(void *state) { return job_deadline(state); }

/* ---- the run ---- */

static void draw_shape(uint64_t seed, sim_shape *out) {
    static const unsigned parallelisms[] = { 1, 3, 16, 128 };
    kwr_sim_rng rng = kwr_sim_rng_of(seed, STREAM_SHAPE);
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
    *out = s;
}

static void *open_run(void *ctx, kwr_sim *sim) {
    sim_job *run = must(calloc(1, sizeof *run));
    (void)ctx;
    run->sim = sim;
    draw_shape(kwr_sim_seed(sim), &run->shape);
    sim_strays_init(&run->strays, kwr_sim_seed(sim));
    kwr_sim_rng rng = kwr_sim_rng_of(kwr_sim_seed(sim), STREAM_SCRIPT);
    const size_t records = (size_t)run->shape.splits * run->shape.records;
    run->key_of = must(malloc(records));
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
    return 1 + NODES_MAX;
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
    .start = start,
    .stop = stop,
    .choices = choices,
    .step = step,
    .receive = on_message,
    .settle = settle,
    .deadline_ns = deadline_ns,
    .check = sim_check,
    .damageable = sim_damageable,
};
