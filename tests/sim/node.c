/* SPDX-License-Identifier: Apache-2.0 */
/* What the tasks under simulation do: records and barriers through channels, state, snapshots. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/engine.h"
#include "tests/sim/oracle.h"

/* ---- channels ---- */

sim_channel *sim_connect(sim_engine *e, sim_node *from, sim_node *to) {
    sim_channel *c = &e->channels[e->channel_count++];
    c->last = &c->first;
    c->to = (unsigned)(to - e->nodes);
    c->input = to->input_count;
    from->outputs[from->output_count++] = c;
    to->inputs[to->input_count++] = c;
    return c;
}

static void sim_push(sim_channel *c, const sim_item *what) {
    sim_item *copy = sim_must(malloc(sizeof *copy));
    *copy = *what;
    copy->next = NULL;
    *c->last = copy;
    c->last = &copy->next;
    c->depth += !copy->is_barrier;
}

bool sim_pop(sim_channel *c, sim_item *out) {
    sim_item *first = c->first;
    if (first == NULL) return false;
    *out = *first;
    c->first = first->next;
    if (c->first == NULL) c->last = &c->first;
    c->depth -= !first->is_barrier;
    free(first);
    return true;
}

/* Once, and now and then once more, or with one that is late or of another attempt. */
static void push_barrier(sim_node *n, const kwr_barrier *barrier) {
    sim_item what = { .is_barrier = true, .barrier = *barrier }, extra = { .is_barrier = true };
    for (unsigned i = 0; i < n->output_count; i++) {
        sim_push(n->outputs[i], &what);
        if (sim_strays_barrier(&n->engine->run->strays, barrier, &n->last_barrier, &extra.barrier))
            sim_push(n->outputs[i], &extra);
    }
    n->last_barrier = *barrier;
}

void sim_send(sim_engine *e, unsigned actor, kwr_slice bytes) {
    sim_strays *strays = &e->run->strays;
    kwr_sim_attempt_send(e->attempt, actor, bytes);
    const sim_stray *stray =
        sim_strays_message(strays, kwr_sim_attempt_number(e->attempt), actor, bytes);
    if (stray != NULL)
        kwr_sim_attempt_send(e->attempt, stray->actor, (kwr_slice){ stray->data, stray->size });
}

/* ---- what a task does; all of it inside its process ---- */

bool sim_full(const sim_node *n) {
    for (unsigned i = 0; i < n->output_count; i++)
        if (n->outputs[i]->depth >= SIM_CHANNEL_DEPTH) return true;
    return false;
}

kwr_slice sim_key_text(unsigned key, char out[16]) {
    const int size = snprintf(out, 16, "k%u", key);
    return (kwr_slice){ out, (size_t)size };
}

kwr_slice sim_family_text(unsigned key, char out[16]) {
    const int size = snprintf(out, 16, "f%u", key / SIM_FAMILY);
    return (kwr_slice){ out, (size_t)size };
}

static kwr_status set_position(sim_node *n, unsigned split) {
    char id[16], position[24];
    const int id_size = snprintf(id, sizeof id, "s%u", split);
    const int size =
        snprintf(position, sizeof position, "%llu", (unsigned long long)n->positions[split]);
    const kwr_split s = { .id = { id, (size_t)id_size },
                          .identity = { SIM_IDENTITY, sizeof SIM_IDENTITY - 1 },
                          .position = { position, (size_t)size } };
    return kwr_task_set_split(n->task, &s);
}

static kwr_status set_positions(sim_node *n) {
    kwr_status status = KWR_OK;
    for (unsigned i = 0; i < SIM_SPLITS_MAX && status >= KWR_OK; i++)
        if (n->owned[i]) status = set_position(n, i);
    return status;
}

/* Whether the attempt goes on after this failure of a checkpoint. It must have a cause anyway. */
static bool survives(sim_engine *e, kwr_status status, const kwr_error *err) {
    kwr_error error = *err;
    error.status = status;
    if (kwr_status_action(status) == KWR_STOP) {
        sim_fail(e, status, err);
        return false;
    }
    kwr_sim_attempt_report(e->attempt, &error);
    return true;
}

/* The barrier goes on before the snapshot; a part that cannot be taken is declined. */
static void take_part(sim_node *n, const kwr_barrier *barrier) {
    sim_engine *e = n->engine;
    kwr_error err = { 0 };
    kwr_status status = KWR_OK;
    push_barrier(n, barrier);
    if (n->kind == SIM_NODE_SOURCE) status = set_positions(n);
    if (n->kind == SIM_NODE_SINK) status = sim_sink_pre_commit(n->sink, barrier->checkpoint, &err);
    if (status < KWR_OK) {
        if (n->kind == SIM_NODE_SOURCE) err = *kwr_task_error(n->task);
        if (!survives(e, status, &err)) return;
        if (kwr_task_decline(n->task, barrier->checkpoint, &err) < KWR_OK)
            sim_fail(e, status, &err);
        return;
    }
    /* A failure leaves a decline behind, or is found by the timeout. */
    const kwr_status taken = kwr_task_checkpoint(n->task, barrier);
    if (n->kind == SIM_NODE_COUNT) sim_check_pages(e->run->sim, kwr_task_backend(n->task));
    if (taken < KWR_OK) (void)survives(e, taken, kwr_task_error(n->task));
}

/* All inputs are at the barrier, it is of this attempt, and was neither taken nor given up. */
static bool snapshot_is_right(sim_node *n, const kwr_barrier *barrier) {
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
static void follow(sim_node *n, const kwr_alignment *alignment, sim_channel *current) {
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
uint32_t sim_owner(const sim_node *n, kwr_slice key) {
    const kwr_job_info *info = &n->engine->info;
    const uint32_t group = kwr_key_group(key, info->seed, info->max_parallelism);
    return kwr_key_group_owner(group, n->engine->counts, info->max_parallelism);
}

/* The channel to it. */
static sim_channel *route(const sim_node *n, kwr_slice key) {
    return n->outputs[sim_owner(n, key)];
}

static void count_record(sim_node *n, const sim_item *record) {
    char text[16];
    const int64_t one = 1;
    kwr_slice result;
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_backend_set_key(backend, sim_key_text(record->key, text));
    if (status >= KWR_OK)
        status = kwr_reducing_add(n->count, (kwr_slice){ &one, sizeof one }, &result);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, kwr_backend_error(backend));
        return;
    }
    sim_item out = { .key = record->key };
    memcpy(&out.count, result.data, sizeof out.count);
    kwr_error err = { 0 };
    status = sim_kinds_step(&n->kinds, backend, sim_key_text(record->key, text), (int64_t)out.count,
                            &err);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, &err);
        return;
    }
    sim_push(route(n, sim_family_text(record->key, text)), &out);
}

/* The counts of a key; emptied at each multiple of SIM_RECENT. */
static kwr_status keep_recent(sim_node *n, const sim_item *record, kwr_slice key) {
    kwr_status status = kwr_list_set_namespace(n->recent, key);
    if (status < KWR_OK) return status;
    if (record->count % SIM_RECENT == 0) return kwr_list_clear(n->recent);
    return kwr_list_add(n->recent, (kwr_slice){ &record->count, sizeof record->count });
}

static kwr_status keep_journal(sim_node *n, const sim_item *record) {
    uint8_t entry[SIM_JOURNAL_BYTES];
    if (!n->engine->run->shape.journal) return KWR_OK;
    memset(entry, (int)record->count, sizeof entry);
    memcpy(entry, &(uint64_t){ record->key }, 8);
    memcpy(entry + 8, &record->count, 8);
    return kwr_list_add(n->journal, (kwr_slice){ entry, sizeof entry });
}

static kwr_status keep_total(sim_node *n) {
    void *total = NULL;
    uint64_t records;
    const kwr_status status = kwr_value_modify(n->total, sizeof records, &total, NULL);
    if (status < KWR_OK) return status;
    memcpy(&records, total, sizeof records);
    records++;
    memcpy(total, &records, sizeof records);
    return KWR_OK;
}

static void tally_record(sim_node *n, const sim_item *record) {
    char family_name[16], key_name[16];
    const kwr_slice key = sim_key_text(record->key, key_name);
    const kwr_slice count = { &record->count, sizeof record->count };
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_backend_set_key(backend, sim_family_text(record->key, family_name));
    if (status >= KWR_OK) status = kwr_map_put(n->latest, key, count);
    if (status >= KWR_OK) status = keep_recent(n, record, key);
    if (status >= KWR_OK) status = keep_journal(n, record);
    if (status >= KWR_OK) status = keep_total(n);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, kwr_backend_error(backend));
        return;
    }
    sim_push(n->outputs[0], record);
}

static void write_record(sim_node *n, const sim_item *record) {
    char line[64];
    kwr_error err = { 0 };
    const int size =
        snprintf(line, sizeof line, "k%u\t%llu\n", record->key, (unsigned long long)record->count);
    const kwr_status status = sim_sink_write(n->sink, line, (size_t)size, &err);
    if (status < KWR_OK) sim_fail(n->engine, status, &err);
}

static void handle_barrier(sim_node *n, sim_channel *c, const kwr_barrier *barrier) {
    kwr_alignment alignment = { 0 };
    if (!barrier->cancelled && barrier->checkpoint > c->delivered &&
        barrier->generation == kwr_task_generation(n->task))
        c->delivered = barrier->checkpoint;
    const kwr_status status = kwr_task_barrier(n->task, c->input, barrier, &alignment);
    if (status < KWR_OK)
        sim_fail(n->engine, status, kwr_task_error(n->task));
    else
        follow(n, &alignment, c);
}

void sim_handle_item(sim_node *n, sim_channel *c, const sim_item *what) {
    if (what->is_barrier) {
        handle_barrier(n, c, &what->barrier);
        if (sim_strays_twice(&n->engine->run->strays) && !n->engine->failed)
            handle_barrier(n, c, &what->barrier);
    } else if (n->kind == SIM_NODE_COUNT) {
        count_record(n, what);
    } else if (n->kind == SIM_NODE_TALLY) {
        tally_record(n, what);
    } else {
        write_record(n, what);
    }
}

bool sim_ready_input(const sim_node *n, const sim_channel *c) {
    if (c->blocked || c->first == NULL) return false;
    return c->first->is_barrier || !sim_full(n);
}

bool sim_left(const sim_node *n, unsigned split) {
    return n->owned[split] && n->positions[split] < n->engine->run->shape.records;
}

/* The nth of the splits that have records left. */
void sim_emit_record(sim_node *n, size_t nth) {
    const sim_job *run = n->engine->run;
    unsigned split = 0;
    char text[16];
    while (!sim_left(n, split) || nth-- > 0)
        split++;
    const sim_item record = { .key =
                                  run->key_of[split * run->shape.records + n->positions[split]++] };
    sim_push(route(n, sim_key_text(record.key, text)), &record);
}

static void commit(sim_node *n, uint64_t checkpoint, bool final) {
    kwr_error err = { 0 };
    sim_job *run = n->engine->run;
    if (checkpoint > run->notified) run->notified = checkpoint;
    if (n->kind == SIM_NODE_SINK) {
        const kwr_status status = sim_sink_commit(n->sink, checkpoint, &err);
        if (status < KWR_OK) {
            sim_fail(n->engine, status, &err);
            return;
        }
    }
    if (final) n->final_committed = true;
}

void sim_receive(sim_node *n, kwr_slice bytes) {
    kwr_task_event event = { 0 };
    const kwr_status status = kwr_task_receive(n->task, bytes, &event);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, kwr_task_error(n->task));
        return;
    }
    if (event.kind == KWR_TASK_TRIGGER) take_part(n, &event.barrier);
    if (event.kind == KWR_TASK_COMPLETE) commit(n, event.checkpoint, event.final);
    if (event.kind == KWR_TASK_ABORT && event.checkpoint > n->aborted)
        n->aborted = event.checkpoint;
    if (event.kind == KWR_TASK_ABORT) follow(n, &event.alignment, NULL);
}
