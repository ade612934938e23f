/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of the tests: see stream.h. */
#include "tests/task/stream.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/checkpoint.h"

/* ---- the world ---- */

static void *grown(void *items, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return items;
    *capacity = need * 2;
    items = realloc(items, *capacity * size);
    cr_assert(items != NULL, "test memory");
    return items;
}

static void records_add(stream_records *records, stream_record record) {
    records->items = grown(records->items, &records->capacity, records->count + 1, sizeof record);
    records->items[records->count++] = record;
}

void stream_world_done(stream_world *world) {
    for (size_t i = 0; i < world->pending_count; i++)
        free(world->pendings[i].records.items);
    free(world->pendings);
    free(world->out.items);
    *world = (stream_world){ 0 };
}

static uint64_t world_precommit(stream_world *world, stream_records *records) {
    world->pendings = grown(world->pendings, &world->pending_capacity, world->pending_count + 1,
                            sizeof *world->pendings);
    world->pendings[world->pending_count] = (stream_pending){ .records = *records };
    *records = (stream_records){ 0 };
    return world->pending_count++;
}

static void world_commit(stream_world *world, uint64_t token) {
    cr_assert(token < world->pending_count, "a committable that was never written");
    stream_pending *pending = &world->pendings[token];
    if (pending->committed) return;
    pending->committed = true;
    for (size_t i = 0; i < pending->records.count; i++)
        records_add(&world->out, pending->records.items[i]);
}

uint32_t stream_key(uint32_t input, uint64_t position) {
    return (uint32_t)((input * 7 + position * position + position / 3) % STREAM_KEYS);
}

static void key_totals(const uint64_t *positions, uint32_t inputs, int64_t totals[STREAM_KEYS]) {
    memset(totals, 0, STREAM_KEYS * sizeof *totals);
    for (uint32_t input = 0; input < inputs; input++)
        for (uint64_t i = 0; i < positions[input]; i++)
            totals[stream_key(input, i)]++;
}

void stream_world_expect_no_double(const stream_world *world, const char *when) {
    for (uint32_t key = 0; key < STREAM_KEYS; key++) {
        int64_t highest = 0, lines = 0;
        for (size_t i = 0; i < world->out.count; i++) {
            if (world->out.items[i].key != key) continue;
            lines++;
            if (world->out.items[i].count > highest) highest = world->out.items[i].count;
            for (size_t j = 0; j < i; j++)
                cr_assert(world->out.items[j].key != key ||
                              world->out.items[j].count != world->out.items[i].count,
                          "%s: key %u came out twice with %lld", when, key,
                          (long long)world->out.items[i].count);
        }
        cr_assert(lines == highest, "%s: key %u: %lld lines, the highest count is %lld", when, key,
                  (long long)lines, (long long)highest);
    }
}

void stream_world_expect(const stream_world *world, uint64_t total, const char *when) {
    stream_world_expect_of(world, STREAM_SOURCES, total, when);
}

void stream_world_expect_of(const stream_world *world, uint32_t inputs, uint64_t total,
                            const char *when) {
    int64_t totals[STREAM_KEYS], lines[STREAM_KEYS] = { 0 };
    uint64_t positions[STREAM_EACH_MAX];
    for (uint32_t i = 0; i < inputs; i++)
        positions[i] = total;
    stream_world_expect_no_double(world, when);
    key_totals(positions, inputs, totals);
    for (size_t i = 0; i < world->out.count; i++)
        lines[world->out.items[i].key]++;
    for (uint32_t key = 0; key < STREAM_KEYS; key++)
        cr_assert(lines[key] == totals[key], "%s: key %u occurs %lld times, came out %lld times",
                  when, key, (long long)totals[key], (long long)lines[key]);
}

/* ---- calls of the engine ---- */

static uint32_t first_count(const stream *s) { return s->options.sources; }
static uint32_t first_sink(const stream *s) { return s->options.sources + s->options.counts; }
static bool is_source(const stream *s, uint32_t task) { return task < first_count(s); }
static bool is_count(const stream *s, uint32_t task) {
    return task >= first_count(s) && task < first_sink(s);
}
static bool is_sink(const stream *s, uint32_t task) { return task >= first_sink(s); }
static uint32_t channels_of(const stream *s, uint32_t task) {
    return is_source(s, task) ? 0 : is_count(s, task) ? s->options.sources : s->options.counts;
}

static void broke(stream *s, kwr_status status, const kwr_error *err) {
    if (s->broken.status != KWR_OK) return;
    s->broken = *err;
    s->broken.status = status;
}

/* What fails for want of memory is tried once more: a failed call has changed nothing. */
#define CALL(s, err, expr)                            \
    do {                                              \
        kwr_status call_ = (expr);                    \
        if (call_ == KWR_ERR_NOMEM) call_ = (expr);   \
        if (call_ < KWR_OK) broke((s), call_, (err)); \
    } while (0)

static void channel_put(stream_channel *channel, stream_item item) {
    if (channel->first > 0 && channel->first + channel->count == channel->capacity) {
        memmove(channel->items, channel->items + channel->first,
                channel->count * sizeof *channel->items);
        channel->first = 0;
    }
    channel->items =
        grown(channel->items, &channel->capacity, channel->first + channel->count + 1, sizeof item);
    channel->items[channel->first + channel->count++] = item;
}

static stream_item channel_take(stream_channel *channel) {
    channel->count--;
    return channel->items[channel->first++];
}

static uint32_t count_of(const stream *s, uint32_t key) {
    const uint32_t groups = s->info.max_parallelism;
    return first_count(s) +
           kwr_key_group_owner(kwr_key_group(KWR_SLICE_OF(key), s->info.seed, groups),
                               s->options.counts, groups);
}

/* Behind all that `task` has sent so far. */
static void send_barrier(stream *s, uint32_t task, kwr_barrier barrier) {
    const stream_item item = { .kind = STREAM_BARRIER, .barrier = barrier };
    if (is_source(s, task)) {
        for (uint32_t to = first_count(s); to < first_sink(s); to++)
            channel_put(&s->in[to][task], item);
    } else if (is_count(s, task)) {
        for (uint32_t to = first_sink(s); to < s->task_count; to++)
            channel_put(&s->in[to][task - first_count(s)], item);
    }
}

static bool keeps_state(const stream *s, uint32_t task) {
    const unsigned who = is_source(s, task) ? 1 : is_count(s, task) ? 2 : 4;
    return (s->options.operators & who) != 0;
}

/* Operator state: in the list each part taken, as checkpoint and task; in the map the latest. */
static void note_part(stream *s, uint32_t task, uint64_t checkpoint) {
    if (!keeps_state(s, task)) return;
    const kwr_error *err = kwr_backend_error(kwr_task_operator_backend(s->tasks[task]));
    const uint64_t part[2] = { checkpoint, task };
    CALL(s, err, kwr_list_add(s->parts[task], KWR_SLICE_OF(part)));
    CALL(s, err,
         kwr_map_put(s->latest[task], kwr_test_slice("checkpoint"), KWR_SLICE_OF(checkpoint)));
}

static uint32_t operator_first(const stream *s, int which) {
    return which == 0   ? 0
           : which == 1 ? first_count(s)
           : which == 2 ? first_sink(s)
                        : s->task_count;
}

/* The tasks of an operator hold each part of a checkpoint up to the restored one once, and all of
 * the restored one; every one of them knows that as the latest. */
static void expect_parts(stream *s, int which, uint32_t stored) {
    enum { STREAM_PARTS = 2048 };
    static uint64_t seen[STREAM_PARTS][2];
    uint64_t restored = 0;
    size_t count = 0;
    for (uint32_t i = operator_first(s, which); i < operator_first(s, which + 1); i++) {
        kwr_list_iterator *iterator = NULL;
        kwr_slice part = { 0 }, latest = { 0 };
        kwr_status status = kwr_list_iterate(s->parts[i], &iterator);
        while (status >= KWR_OK) {
            status = kwr_list_iterator_next(iterator, &part);
            if (status != KWR_OK) break;
            cr_assert(count < STREAM_PARTS && part.size == sizeof seen[0], "a part");
            memcpy(seen[count], part.data, sizeof seen[0]);
            for (size_t k = 0; k < count; k++)
                cr_assert(memcmp(seen[k], seen[count], sizeof seen[0]) != 0, "held twice");
            cr_assert(seen[count][0] <= s->info.restored_checkpoint, "not of the past");
            restored += seen[count++][0] == s->info.restored_checkpoint;
        }
        kwr_list_iterator_free(iterator);
        if (status == KWR_ERR_NOMEM) return; /* not to be seen now */
        KWR_MUST(kwr_map_get(s->latest[i], kwr_test_slice("checkpoint"), &latest));
        cr_assert(latest.size == 8 &&
                      memcmp(latest.data, &s->info.restored_checkpoint, latest.size) == 0,
                  "the latest");
    }
    cr_assert(restored == stored, "%llu parts of the restored checkpoint, %u tasks took one",
              (unsigned long long)restored, stored);
}

/* The task takes its part, or the job hears that it does not. */
static void take_part(stream *s, uint32_t task, const kwr_barrier *barrier) {
    note_part(s, task, barrier->checkpoint);
    const kwr_status status = kwr_task_checkpoint(s->tasks[task], barrier);
    const kwr_error *err = kwr_task_error(s->tasks[task]);
    if (status >= KWR_OK || status == KWR_ERR_CANCELLED) return;
    cr_assert(!s->options.strict, "part of task %u: %s", task, err->text);
    if (kwr_status_action(status) == KWR_FIX_CALLER) broke(s, status, err);
}

static void sink_precommit(stream *s, uint32_t task, uint64_t checkpoint) {
    if (s->buffered[task].count == 0) return;
    const uint64_t token = world_precommit(s->options.world, &s->buffered[task]);
    kwr_task *sink = s->tasks[task];
    CALL(s, kwr_task_error(sink), kwr_task_add_committable(sink, checkpoint, KWR_SLICE_OF(token)));
}

static void sink_commit(stream *s, uint32_t task, uint64_t checkpoint) {
    kwr_task *sink = s->tasks[task];
    for (size_t i = 0; i < kwr_task_committable_count(sink); i++) {
        uint64_t of = 0, token = 0;
        kwr_slice bytes = { 0 };
        KWR_MUST(kwr_task_committable(sink, i, &of, &bytes));
        cr_assert(bytes.size == sizeof token, "token");
        memcpy(&token, bytes.data, sizeof token);
        if (of <= checkpoint) world_commit(s->options.world, token);
    }
    KWR_MUST(kwr_task_committed(sink, checkpoint));
}

static void follow_alignment(stream *s, uint32_t task, uint32_t channel, const kwr_alignment *now) {
    if (now->block) s->in[task][channel].blocked = true;
    if (now->release)
        for (uint32_t i = 0; i < channels_of(s, task); i++)
            s->in[task][i].blocked = false;
    if (now->abort)
        send_barrier(s, task,
                     (kwr_barrier){ .checkpoint = now->aborted,
                                    .generation = s->info.generation,
                                    .cancelled = true });
    if (!now->snapshot) return;
    send_barrier(s, task, now->barrier);
    if (is_sink(s, task)) sink_precommit(s, task, now->barrier.checkpoint);
    take_part(s, task, &now->barrier);
}

static void count_record(stream *s, uint32_t task, stream_record record) {
    kwr_backend *backend = kwr_task_backend(s->tasks[task]);
    const kwr_error *err = kwr_backend_error(backend);
    const int64_t one = 1;
    kwr_slice now = { 0 };
    CALL(s, err, kwr_backend_set_key(backend, KWR_SLICE_OF(record.key)));
    if (s->broken.status != KWR_OK) return;
    if (s->options.value_bytes > 0) {
        void *bytes = NULL;
        size_t old = 0;
        CALL(s, err, kwr_value_modify(s->values[task], s->options.value_bytes, &bytes, &old));
        if (s->broken.status != KWR_OK) return;
        /* Incompressible, so that the state is as large as it says. */
        uint64_t x = record.key * 2654435761U + 1;
        for (uint32_t i = 0; i < s->options.value_bytes; i++)
            ((uint8_t *)bytes)[i] =
                (uint8_t)((x = x * 6364136223846793005U + 1442695040888963407U) >> 56);
    }
    CALL(s, err, kwr_reducing_add(s->counts[task], KWR_SLICE_OF(one), &now));
    if (s->broken.status != KWR_OK) return;
    memcpy(&record.count, now.data, sizeof record.count);
    const uint32_t sink = first_sink(s) + record.key % s->options.sinks;
    channel_put(&s->in[sink][task - first_count(s)],
                (stream_item){ .kind = STREAM_RECORD, .record = record });
}

static void process(stream *s, uint32_t task, uint32_t channel) {
    const stream_item item = channel_take(&s->in[task][channel]);
    if (item.kind == STREAM_BARRIER) {
        kwr_alignment now = { 0 };
        CALL(s, kwr_task_error(s->tasks[task]),
             kwr_task_barrier(s->tasks[task], channel, &item.barrier, &now));
        follow_alignment(s, task, channel, &now);
    } else if (is_count(s, task)) {
        count_record(s, task, item.record);
    } else {
        records_add(&s->buffered[task], item.record);
    }
}

static void source_set_splits(stream *s, uint32_t source) {
    const char *identity = "the input of the tests";
    for (uint32_t i = 0; i < s->options.inputs; i++) {
        if (s->readers[i] != source) continue;
        char id[16];
        snprintf(id, sizeof id, "in-%u", i);
        const kwr_split split = { .id = kwr_test_slice(id),
                                  .identity = kwr_test_slice(identity),
                                  .position = KWR_SLICE_OF(s->positions[i]) };
        CALL(s, kwr_task_error(s->tasks[source]), kwr_task_set_split(s->tasks[source], &split));
    }
}

static void source_emit(stream *s, uint32_t input) {
    const uint32_t key = stream_key(input, s->positions[input]++);
    channel_put(&s->in[count_of(s, key)][s->readers[input]],
                (stream_item){ .kind = STREAM_RECORD, .record = { .key = key } });
}

/* One record of each of its inputs. */
static bool source_step(stream *s, uint32_t source) {
    bool moved = false, ended = true;
    for (uint32_t i = 0; i < s->options.inputs; i++) {
        if (s->readers[i] != source) continue;
        if (s->positions[i] < s->emit_limit && s->positions[i] < s->options.total) {
            source_emit(s, i);
            moved = true;
        }
        if (s->positions[i] < s->options.total) ended = false;
    }
    if (moved || !ended || s->ended_said[source]) return moved;
    KWR_MUST(kwr_task_source_ended(s->tasks[source]));
    s->ended_said[source] = true;
    return true;
}

/* ---- messages ---- */

uint16_t stream_message_kind(kwr_slice message) {
    uint16_t kind = 0;
    memcpy(&kind, (const uint8_t *)message.data + 6, sizeof kind);
    return kind;
}

static void task_receive(stream *s, uint32_t task, kwr_slice message) {
    kwr_task_event event = { 0 };
    CALL(s, kwr_task_error(s->tasks[task]), kwr_task_receive(s->tasks[task], message, &event));
    switch (event.kind) {
    case KWR_TASK_NOTHING: return;
    case KWR_TASK_TRIGGER:
        source_set_splits(s, task);
        send_barrier(s, task, event.barrier);
        take_part(s, task, &event.barrier);
        return;
    case KWR_TASK_COMPLETE:
        if (is_sink(s, task)) sink_commit(s, task, event.checkpoint);
        return;
    case KWR_TASK_ABORT: follow_alignment(s, task, 0, &event.alignment); return;
    }
}

void stream_give(stream *s, bool to_job, uint32_t task, kwr_slice message) {
    if (!to_job) {
        task_receive(s, task, message);
        return;
    }
    static const kwr_error unnamed = { .text = "kwr_job_receive" };
    CALL(s, &unnamed, kwr_job_receive(s->job, message));
}

static void carry(stream *s, bool to_job, uint32_t task, kwr_slice message) {
    if (s->options.carry == NULL ||
        s->options.carry(s->options.carry_ctx, s, to_job, task, message))
        stream_give(s, to_job, task, message);
}

static const char *stream_name(const stream *s) {
    return s->options.job.name != NULL ? s->options.job.name : "stream";
}

static void on_event(stream *s, const kwr_job_event *event) {
    cr_assert(s->event_count < STREAM_EVENTS, "too many events");
    stream_event *e = &s->events[s->event_count++];
    *e = (stream_event){ .kind = event->kind,
                         .checkpoint = event->checkpoint,
                         .slot = event->slot,
                         .bytes = event->bytes,
                         .entries = event->entries,
                         .final = event->final,
                         .task = event->task };
    if (event->kind == KWR_JOB_SEND) e->message = stream_message_kind(event->message);
    if (s->options.watch_log &&
        (event->kind == KWR_JOB_PUBLISHING || event->kind == KWR_JOB_PUBLISHED))
        e->slots = stream_files(s->options.storage, stream_name(s), "log", "0");
    switch (event->kind) {
    case KWR_JOB_SEND:
        if (event->task != KWR_ALL_TASKS) {
            carry(s, false, event->task, event->message);
            return;
        }
        for (uint32_t i = 0; i < s->task_count; i++)
            carry(s, false, i, event->message);
        return;
    case KWR_JOB_TRIGGERED: s->triggered = event->checkpoint; return;
    case KWR_JOB_PUBLISHING: return;
    case KWR_JOB_PUBLISHED: s->completed = event->checkpoint; return;
    case KWR_JOB_ABORTED:
        s->aborted = event->checkpoint;
        s->abort_error = event->error;
        return;
    case KWR_JOB_FINISHED:
        s->finished = true;
        s->finished_final = event->final;
        return;
    case KWR_JOB_FAILED:
        s->failed = true;
        s->failure = event->error;
        return;
    }
}

/* One event, one message of each task, one item of each channel, one record of each source: true
 * when anything moved. */
static bool step(stream *s) {
    bool moved = false;
    kwr_job_event event;
    static const kwr_error unnamed = { .text = "kwr_job_poll" };
    kwr_status status = kwr_job_poll(s->job, &event);
    if (status == KWR_ERR_NOMEM) status = kwr_job_poll(s->job, &event);
    if (status < KWR_OK) broke(s, status, &unnamed);
    if (status == KWR_OK) {
        on_event(s, &event);
        moved = true;
    }
    for (uint32_t i = 0; i < s->task_count && s->broken.status == KWR_OK; i++) {
        kwr_slice message = { 0 };
        status = kwr_task_poll(s->tasks[i], &message);
        if (status == KWR_ERR_NOMEM) status = kwr_task_poll(s->tasks[i], &message);
        if (status < KWR_OK) broke(s, status, kwr_task_error(s->tasks[i]));
        if (status == KWR_OK) {
            carry(s, true, i, message);
            moved = true;
        }
        for (uint32_t c = 0; c < channels_of(s, i); c++) {
            if (s->in[i][c].blocked || s->in[i][c].count == 0) continue;
            process(s, i, c);
            moved = true;
            if (s->broken.status != KWR_OK) return false;
        }
        if (is_source(s, i) && source_step(s, i)) moved = true;
    }
    if (s->options.faults != NULL && fault_env_run_one(s->options.faults)) moved = true;
    return moved && s->broken.status == KWR_OK;
}

void stream_settle(stream *s) {
    while (step(s)) {
    }
}

void stream_run(stream *s, uint64_t each) {
    s->emit_limit += each;
    stream_settle(s);
}

static bool is_over(const stream *s) {
    return s->failed || s->finished || s->broken.status != KWR_OK;
}

/* With threads nothing moves while work is under way: look again until `decided`. */
static void run_until(stream *s, bool (*decided)(const stream *s, uint64_t after), uint64_t after) {
    for (;;) {
        stream_settle(s);
        if (is_over(s) || decided(s, after)) return;
        if (s->options.faults == NULL) {
            sched_yield();
            continue;
        }
        /* Only time is left to move: a retry of the coordinator's, its timeout. */
        const uint64_t deadline = kwr_job_deadline(s->job);
        const uint64_t now = s->options.env->clock->mono_ns(s->options.env->clock->ctx);
        cr_assert(deadline != UINT64_MAX, "nothing moves any more");
        fault_env_advance(s->options.faults, deadline > now ? deadline - now : 1);
    }
}

/* The first checkpoint above `after` has completed or been aborted. */
static bool is_decided(const stream *s, uint64_t after) {
    return s->triggered > after && (s->completed >= s->triggered || s->aborted >= s->triggered);
}

uint64_t stream_checkpoint(stream *s) {
    static const kwr_error unnamed = { .text = "kwr_job_trigger" };
    const uint64_t before = s->triggered;
    CALL(s, &unnamed, kwr_job_trigger(s->job));
    run_until(s, is_decided, before);
    return !is_over(s) && s->completed == s->triggered ? s->completed : 0;
}

static bool never(const stream *s, uint64_t after) {
    (void)s;
    (void)after;
    return false;
}

void stream_finish(stream *s) {
    s->emit_limit = s->options.total;
    run_until(s, never, 0);
    stream_settle(s);
}

/* ---- open and close ---- */

static kwr_status open_states(stream *s, uint32_t task, kwr_error *err) {
    const kwr_reducing_descriptor count = { .struct_size = sizeof count,
                                            .name = "count",
                                            .type = { .kind = KWR_TYPE_I64 },
                                            .reduce = KWR_REDUCE_SUM };
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    kwr_backend *backend = kwr_task_backend(s->tasks[task]);
    kwr_status status = kwr_reducing_open(backend, &count, &s->counts[task], err);
    if (status < KWR_OK) return status;
    return kwr_value_open(backend, &value, &s->values[task], err);
}

static kwr_status open_operators(stream *s, uint32_t task, kwr_error *err) {
    const kwr_list_descriptor parts = { .struct_size = sizeof parts, .name = "parts" };
    const kwr_map_descriptor latest = { .struct_size = sizeof latest, .name = "latest" };
    kwr_task *t = s->tasks[task];
    kwr_status status = kwr_task_operator_list(t, &parts, KWR_OPERATOR_SPLIT, &s->parts[task]);
    if (status >= KWR_OK) status = kwr_task_operator_map(t, &latest, &s->latest[task]);
    if (status < KWR_OK) *err = *kwr_task_error(t);
    return status;
}

/* What was restored; a source of a new job takes every so manieth input. */
static void take_splits(stream *s, uint32_t source) {
    if (s->info.restored_checkpoint == 0)
        for (uint32_t i = source; i < s->options.inputs; i += s->options.sources)
            s->readers[i] = source;
    for (size_t n = 0; n < kwr_task_split_count(s->tasks[source]); n++) {
        kwr_split split = { 0 };
        char id[16] = "";
        unsigned input = 0;
        KWR_MUST(kwr_task_split(s->tasks[source], n, &split));
        cr_assert(split.id.size < sizeof id, "id");
        memcpy(id, split.id.data, split.id.size);
        cr_assert(sscanf(id, "in-%u", &input) == 1 && input < s->options.inputs, "split %s", id);
        cr_assert(s->readers[input] == UINT32_MAX, "input %u is read twice", input);
        s->readers[input] = source;
        cr_assert(split.position.size == sizeof s->positions[0], "position");
        memcpy(&s->positions[input], split.position.data, split.position.size);
        KWR_ASSERT_SLICE(split.identity, "the input of the tests");
    }
}

static kwr_status open_task(stream *s, uint32_t task, kwr_error *err) {
    kwr_task_options options = { .struct_size = sizeof options,
                                 .env = s->options.env,
                                 .storage = s->options.storage,
                                 .channels = channels_of(s, task),
                                 .limits = s->options.job.limits };
    kwr_status status = kwr_job_assignment(s->job, task, &options.assignment, err);
    if (status < KWR_OK) return status;
    status = kwr_task_open(&options, &s->tasks[task], err);
    if (status < KWR_OK) return status;
    cr_assert(kwr_task_restored(s->tasks[task]) == s->info.restored_checkpoint, "restored id");
    if (keeps_state(s, task)) status = open_operators(s, task, err);
    if (status < KWR_OK) return status;
    if (is_count(s, task)) return open_states(s, task, err);
    if (is_source(s, task)) take_splits(s, task);
    return KWR_OK;
}

static kwr_status add_operator(stream *s, const char *id, uint32_t parallelism, unsigned roles,
                               kwr_error *err) {
    kwr_status status = KWR_OK;
    uint32_t number = 0;
    for (uint32_t i = 0; i < parallelism && status >= KWR_OK; i++)
        status = kwr_job_add_task(s->job, id, i, parallelism, roles, &number, err);
    return status;
}

static kwr_status add_tasks(stream *s, kwr_error *err) {
    kwr_status status = add_operator(s, "source", s->options.sources, KWR_TASK_SOURCE, err);
    if (status >= KWR_OK) status = add_operator(s, "count", s->options.counts, KWR_TASK_KEYED, err);
    if (status >= KWR_OK) status = add_operator(s, "sink", s->options.sinks, KWR_TASK_SINK, err);
    return status;
}

static kwr_status open_all(stream *s, kwr_error *err) {
    kwr_job_options job = s->options.job;
    job.struct_size = sizeof job;
    job.env = s->options.env;
    job.storage = s->options.storage;
    job.name = stream_name(s);
    kwr_status status = kwr_job_open(&job, &s->job, err);
    if (status < KWR_OK) return status;
    s->info.struct_size = sizeof s->info;
    kwr_job_get_info(s->job, &s->info);
    status = add_tasks(s, err);
    memset(s->readers, 0xff, sizeof s->readers);
    for (uint32_t i = 0; i < s->task_count && status >= KWR_OK; i++)
        status = open_task(s, i, err);
    if (status < KWR_OK) return status;
    for (uint32_t i = first_sink(s); i < s->task_count; i++)
        sink_commit(s, i, s->info.restored_checkpoint);
    for (uint32_t i = 0; i < s->options.inputs; i++) {
        cr_assert(s->readers[i] != UINT32_MAX, "nobody reads input %u", i);
        if (s->positions[i] > s->emit_limit) s->emit_limit = s->positions[i];
    }
    stream_expect_consistent(s, "after the restore");
    static const char *const ids[] = { "source", "count", "sink" };
    for (int i = 0; i < 3 && s->info.restored_checkpoint != 0; i++)
        if (keeps_state(s, operator_first(s, i)))
            expect_parts(s, i, kwr_job_stored_parallelism(s->job, ids[i]));
    return kwr_job_start(s->job, err);
}

kwr_status stream_open(stream *s, const stream_options *options, kwr_error *err) {
    memset(s, 0, sizeof *s);
    s->options = *options;
    if (s->options.sources == 0) s->options.sources = STREAM_SOURCES;
    if (s->options.counts == 0) s->options.counts = STREAM_COUNTS;
    if (s->options.sinks == 0) s->options.sinks = 1;
    if (s->options.inputs == 0) s->options.inputs = STREAM_SOURCES;
    s->task_count = s->options.sources + s->options.counts + s->options.sinks;
    const kwr_status status = open_all(s, err);
    if (status < KWR_OK) stream_close(s);
    return status;
}

void stream_must_open(stream *s, const stream_options *options) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(stream_open(s, options, &err), err);
}

void stream_close(stream *s) {
    for (uint32_t i = 0; i < s->task_count; i++) {
        kwr_task_close(s->tasks[i]);
        for (uint32_t c = 0; c < STREAM_EACH_MAX; c++)
            free(s->in[i][c].items);
        memset(s->in[i], 0, sizeof s->in[i]);
        s->tasks[i] = NULL;
        free(s->buffered[i].items);
        s->buffered[i] = (stream_records){ 0 };
    }
    kwr_job_close(s->job);
    s->job = NULL;
}

/* ---- looking inside ---- */

int64_t stream_count(stream *s, uint32_t key) {
    const uint32_t task = count_of(s, key);
    kwr_backend *backend = kwr_task_backend(s->tasks[task]);
    kwr_slice stored = { 0 };
    int64_t count = 0;
    CALL(s, kwr_backend_error(backend), kwr_backend_set_key(backend, KWR_SLICE_OF(key)));
    if (s->broken.status != KWR_OK) return -1;
    if (kwr_reducing_get(s->counts[task], &stored) == KWR_OK)
        memcpy(&count, stored.data, sizeof count);
    return count;
}

void stream_expect_consistent(stream *s, const char *when) {
    int64_t totals[STREAM_KEYS];
    key_totals(s->positions, s->options.inputs, totals);
    for (uint32_t key = 0; key < STREAM_KEYS; key++) {
        const int64_t count = stream_count(s, key);
        cr_assert(count == totals[key] || s->broken.status != KWR_OK,
                  "%s: key %u was emitted %lld times, its state says %lld", when, key,
                  (long long)totals[key], (long long)count);
    }
}

size_t stream_find_event(const stream *s, size_t from, kwr_job_event_kind kind,
                         uint64_t checkpoint) {
    for (size_t i = from; i < s->event_count; i++)
        if (s->events[i].kind == kind && s->events[i].checkpoint == checkpoint) return i;
    return SIZE_MAX;
}

size_t stream_find_sent(const stream *s, size_t from, uint16_t message, uint64_t checkpoint) {
    for (size_t i = from; i < s->event_count; i++)
        if (s->events[i].kind == KWR_JOB_SEND && s->events[i].message == message &&
            s->events[i].checkpoint == checkpoint)
            return i;
    return SIZE_MAX;
}

typedef struct name_count {
    size_t count;
} name_count;

static kwr_status count_name(void *ctx, const char *name) {
    (void)name;
    ((name_count *)ctx)->count++;
    return KWR_OK;
}

size_t stream_files(kwr_storage *storage, const char *job, const char *dir, const char *prefix) {
    const kwr_storage_ops *ops = storage->ops;
    kwr_storage_dir *root = NULL, *below = NULL;
    kwr_error err = { 0 };
    name_count found = { 0 };
    if (ops->dir_open(storage, NULL, job, false, &root, &err) < KWR_OK) return 0;
    if (dir[0] == '\0') {
        KWR_MUST_ERR(ops->list(storage, root, prefix, count_name, &found, &err), err);
    } else if (ops->dir_open(storage, root, dir, false, &below, &err) >= KWR_OK) {
        KWR_MUST_ERR(ops->list(storage, below, prefix, count_name, &found, &err), err);
        ops->dir_close(storage, below);
    }
    ops->dir_close(storage, root);
    return found.count;
}

/* ---- what the log refers to ---- */

enum { USED_MAX = 256 };

typedef struct used_names {
    char names[USED_MAX][128];
    size_t count;
} used_names;

static void note_used(used_names *used, const kwr_manifest_subtask *subtask) {
    for (size_t i = 0; i < subtask->file_count; i++) {
        const char *name = subtask->files[i].name;
        size_t at = 0;
        if (name == NULL) continue;
        while (at < used->count && strcmp(used->names[at], name) != 0)
            at++;
        if (at < used->count) continue;
        cr_assert(used->count < USED_MAX, "too many files for this test");
        (void)snprintf(used->names[used->count++], sizeof used->names[0], "%s", name);
    }
}

size_t stream_files_used(kwr_storage *storage, const kwr_env *env, const char *job) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_error err = { 0 };
    used_names *used = calloc(1, sizeof *used);
    cr_assert(used != NULL, "memory");
    KWR_MUST_ERR(kwr_job_dirs_open(env, storage, job, false, &dirs, &err), err);
    KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &log, &err), err);
    for (size_t i = 0; i < log.count; i++) {
        kwr_manifest *manifest = NULL;
        if (log.slots[i].kind != KWR_SLOT_CHECKPOINT) continue;
        KWR_MUST_ERR(kwr_checkpoint_open(&dirs, NULL, &log.slots[i], &manifest, &err), err);
        for (size_t o = 0; o < manifest->operator_count; o++) {
            const kwr_manifest_operator *op = &manifest->operators[o];
            for (uint32_t j = 0; j < op->parallelism; j++)
                for (const kwr_manifest_subtask *s = &op->subtasks[j]; s != NULL;
                     s = s->operator_state)
                    note_used(used, s);
        }
        kwr_manifest_free(manifest);
    }
    for (size_t i = 0; i < used->count; i++)
        cr_assert(stream_files(storage, job, "shared", used->names[i]) == 1, "%s is not there",
                  used->names[i]);
    const size_t count = used->count;
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    free(used);
    return count;
}
