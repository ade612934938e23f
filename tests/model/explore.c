/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state is what all parts have been told, the disk, and what is on its way. From each state every
 * event that can come next is tried; states seen before end the way. After every step the oracles
 * look; at the end every state must have a way to a finished job.
 */
#include "tests/model/explore.h"

#include <stdarg.h>

#include "tests/model/must.h"

enum { MESSAGE_COMPLETE = 3 }; /* task/message.h */
enum { MESSAGES_MAX = 12, CHANNEL_MAX = 8, OUTPUTS_MAX = 6, COMPLETED_MAX = 8 };

typedef enum life { NOT_STARTED = 0, ALIVE = 1, GONE = 2 } life;

/* In order between two parts; grouped by attempt and the two. */
typedef struct message {
    uint8_t attempt, to, from, pad;
    uint32_t payload;
} message;

typedef struct state {
    uint32_t node[MODEL_ATTEMPTS_MAX][MODEL_PARTS];
    uint32_t work[MODEL_ATTEMPTS_MAX];
    uint32_t disk;
    uint8_t life[MODEL_ATTEMPTS_MAX];
    uint8_t triggered[MODEL_ATTEMPTS_MAX];
    uint8_t channel_count[MODEL_ATTEMPTS_MAX];
    uint8_t faults, told, message_count, output_count, completed_count;
    uint8_t runner, switches; /* while two are alive */
    uint16_t channel[MODEL_ATTEMPTS_MAX][CHANNEL_MAX];
    uint16_t completed[COMPLETED_MAX]; /* checkpoint ids, as they came to be */
    message messages[MESSAGES_MAX];
    struct {
        uint32_t checkpoint, token;
    } outputs[OUTPUTS_MAX];
} state;

typedef enum action_kind {
    DO_CALL = 1, /* the file call of a job: extra says in which way it fails */
    DO_WORK_CALL,
    DO_WORK_DONE,
    DO_TRIGGER,
    DO_TIME,
    DO_MESSAGE,
    DO_EMIT,
    DO_ITEM,
    DO_START,
    DO_END, /* the engine ends an attempt that failed, or that waits for nothing */
    DO_DROP_MESSAGE,
    DO_DOUBLE_MESSAGE,
    DO_CRASH,
    DO_POWER_LOSS,
} action_kind;

enum { CALL_GOOD = 0, CALL_FAILS, CALL_LIES }; /* lies: takes effect, but reports a failure */

typedef struct action {
    uint8_t kind, attempt, extra, fault;
    uint32_t payload;
} action;

typedef struct visit {
    uint32_t parent;
    action by;
    uint32_t depth;
} visit;

typedef struct explorer {
    model_bound bound;
    model_outcome out;
    bool verbose;
    state *states;
    visit *visits;
    uint32_t capacity;
    uint32_t *table;
    uint32_t table_size;
    uint32_t *edges; /* pairs: from, to */
    size_t edge_count, edge_capacity;
    uint8_t *is_goal;
    uint32_t at; /* the state being expanded */
} explorer;

/* ---- what is wrong ---- */

static void wrong(explorer *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(explorer *x, const char *format, ...) {
    va_list args;
    if (x->out.violations++ > 0) return;
    va_start(args, format);
    vsnprintf(x->out.why, sizeof x->out.why, format, args);
    va_end(args);
}

/* ---- the table of states ---- */

static void table_put(explorer *x, uint32_t id) {
    uint32_t at = (uint32_t)model_hash(&x->states[id], sizeof(state)) & (x->table_size - 1);
    while (x->table[at] != 0)
        at = (at + 1) & (x->table_size - 1);
    x->table[at] = id + 1;
}

static void grow(explorer *x) {
    if (x->out.states == x->capacity) {
        x->capacity = x->capacity == 0 ? 4096 : 2 * x->capacity;
        x->states = model_must(realloc(x->states, x->capacity * sizeof *x->states));
        x->visits = model_must(realloc(x->visits, x->capacity * sizeof *x->visits));
        x->is_goal = model_must(realloc(x->is_goal, x->capacity));
    }
    if (2 * (x->out.states + 1) < x->table_size) return;
    free(x->table);
    x->table_size = x->table_size == 0 ? 8192 : 2 * x->table_size;
    x->table = model_must(calloc(x->table_size, sizeof *x->table));
    for (uint32_t i = 0; i < x->out.states; i++)
        table_put(x, i);
}

static void add_edge(explorer *x, uint32_t to) {
    if (x->edge_count == x->edge_capacity) {
        x->edge_capacity = x->edge_capacity == 0 ? 65536 : 2 * x->edge_capacity;
        x->edges = model_must(realloc(x->edges, x->edge_capacity * 2 * sizeof *x->edges));
    }
    x->edges[2 * x->edge_count] = x->at;
    x->edges[2 * x->edge_count++ + 1] = to;
}

/* Whether the state is new. */
static bool reach(explorer *x, const state *s, action by) {
    grow(x);
    x->out.transitions++;
    uint32_t at = (uint32_t)model_hash(s, sizeof *s) & (x->table_size - 1);
    for (; x->table[at] != 0; at = (at + 1) & (x->table_size - 1))
        if (memcmp(&x->states[x->table[at] - 1], s, sizeof *s) == 0) {
            add_edge(x, x->table[at] - 1);
            return false;
        }
    const uint32_t id = x->out.states++;
    x->table[at] = id + 1;
    x->states[id] = *s;
    const bool first = id == 0;
    x->visits[id] = (visit){ .parent = first ? 0 : x->at,
                             .by = by,
                             .depth = first ? 0 : x->visits[x->at].depth + 1 };
    x->is_goal[id] = 0;
    if (x->visits[id].depth > x->out.depth) x->out.depth = x->visits[id].depth;
    if (!first) add_edge(x, id);
    return true;
}

/* ---- effects ---- */

static const model_node *part_of(const state *s, unsigned attempt, model_part part) {
    return model_node_get(s->node[attempt][part]);
}

static bool same_way(const message *a, const message *b) {
    return a->attempt == b->attempt && a->to == b->to && a->from == b->from;
}

static unsigned way_of(const message *m) { return m->attempt * 16u + m->to * 4u + m->from; }

static void add_message(state *s, message m) {
    if (s->message_count == MESSAGES_MAX) {
        fputs("model: too many messages\n", stderr);
        abort();
    }
    unsigned at = s->message_count++;
    for (; at > 0 && way_of(&s->messages[at - 1]) > way_of(&m); at--)
        s->messages[at] = s->messages[at - 1];
    s->messages[at] = m;
}

static message take_message(state *s, unsigned index) {
    const message m = s->messages[index];
    s->message_count--;
    memmove(&s->messages[index], &s->messages[index + 1],
            (s->message_count - index) * sizeof(message));
    memset(&s->messages[s->message_count], 0, sizeof(message));
    return m;
}

static bool is_completed(const state *s, uint64_t checkpoint) {
    for (unsigned i = 0; i < s->completed_count; i++)
        if (s->completed[i] == checkpoint) return true;
    return false;
}

static uint64_t newest_completed(const state *s) {
    return s->completed_count == 0 ? 0 : s->completed[s->completed_count - 1];
}

/* Read committed and exactly once: only completed output, no record twice. */
static void commit(explorer *x, state *s, uint64_t checkpoint, uint32_t token) {
    bool seen[256] = { false };
    /* Of an aborted checkpoint, too, when a later one that carries it is completed. */
    if (newest_completed(s) < checkpoint)
        wrong(x, "output of checkpoint %llu is committed, and it is not completed",
              (unsigned long long)checkpoint);
    for (unsigned i = 0; i < s->output_count && x->bound.mutation != MUTATE_COMMIT_TWICE; i++)
        if (s->outputs[i].checkpoint == checkpoint) {
            if (s->outputs[i].token != token)
                wrong(x, "checkpoint %llu is committed again with other output",
                      (unsigned long long)checkpoint);
            return;
        }
    if (s->output_count == OUTPUTS_MAX) {
        wrong(x, "too many outputs");
        return;
    }
    s->outputs[s->output_count].checkpoint = (uint32_t)checkpoint;
    s->outputs[s->output_count++].token = token;
    for (unsigned i = 0; i < s->output_count; i++) {
        size_t size;
        const uint8_t *records = model_pool_get(s->outputs[i].token, &size);
        for (size_t r = 0; r < size; r++) {
            if (seen[records[r]]) wrong(x, "record %u is committed twice", records[r]);
            seen[records[r]] = true;
        }
    }
}

static void give_input(explorer *x, state *s, unsigned attempt, model_part part, model_input input);

/* The tasks are opened before the job is started: their assignments are not on the way for long. */
static void send_message(explorer *x, state *s, message m) {
    if (m.to != PART_JOB && s->node[m.attempt][m.to] == 0)
        give_input(x, s, m.attempt, (model_part)m.to, (model_input){ IN_RECEIVE, m.payload, 0 });
    else
        add_message(s, m);
}

static void put_out(explorer *x, state *s, unsigned attempt, model_part part,
                    const model_step *taken) {
    for (uint32_t i = 0; i < taken->output_count; i++) {
        const model_output copy = *model_output_get(taken, i), *o = &copy;
        switch ((model_output_kind)o->kind) {
        case OUT_MESSAGE:
            send_message(x, s,
                         (message){ .attempt = (uint8_t)attempt,
                                    .to = (uint8_t)o->to,
                                    .from = (uint8_t)part,
                                    .payload = o->payload });
            break;
        case OUT_ITEM:
            if (s->channel_count[attempt] == CHANNEL_MAX) abort();
            s->channel[attempt][s->channel_count[attempt]++] = (uint16_t)o->payload;
            break;
        case OUT_COMMIT: commit(x, s, o->checkpoint, o->payload); break;
        case OUT_RESTORED:
            if (o->checkpoint != newest_completed(s))
                wrong(x, "attempt %u continues checkpoint %llu, the newest completed is %llu",
                      attempt + 1, (unsigned long long)o->checkpoint,
                      (unsigned long long)newest_completed(s));
            break;
        case OUT_TOLD:
            if (!is_completed(s, o->checkpoint))
                wrong(x, "a task was told of checkpoint %llu, and it is not completed",
                      (unsigned long long)o->checkpoint);
            if (o->checkpoint > s->told) s->told = (uint8_t)o->checkpoint;
            break;
        }
    }
}

static void give_input(explorer *x, state *s, unsigned attempt, model_part part,
                       model_input input) {
    const uint32_t from = s->node[attempt][part];
    const model_step taken =
        from == 0 ? model_node_first(part, attempt, input) : model_node_step(from, input);
    s->node[attempt][part] = taken.node;
    put_out(x, s, attempt, part, &taken);
    if (part == PART_JOB && model_node_get(taken.node)->posted && s->work[attempt] == 0)
        s->work[attempt] = model_work_begin(taken.node);
}

static void forget_attempt(state *s, unsigned attempt) {
    memset(s->node[attempt], 0, sizeof s->node[attempt]);
    s->work[attempt] = 0;
    s->life[attempt] = GONE;
    s->triggered[attempt] = 0;
    s->channel_count[attempt] = 0;
    memset(s->channel[attempt], 0, sizeof s->channel[attempt]);
    for (unsigned i = s->message_count; i-- > 0;)
        if (s->messages[i].attempt == attempt) (void)take_message(s, i);
}

/* ---- the disk ---- */

/* A slot that has just appeared makes its checkpoint completed. */
static void note_completed(explorer *x, state *s) {
    const model_log *log = model_check(s->disk);
    for (unsigned i = 0; i < log->count; i++) {
        const uint64_t id = log->completed[i].checkpoint;
        if (is_completed(s, id) || id < newest_completed(s)) continue;
        if (s->completed_count == COMPLETED_MAX) {
            wrong(x, "too many checkpoints");
            return;
        }
        s->completed[s->completed_count++] = (uint16_t)id;
    }
}

static void check_disk(explorer *x, const state *s) {
    const model_log *seen = model_check(s->disk);
    const model_log *durable = model_check(model_disk_power_loss(s->disk, 0));
    if (!seen->good) wrong(x, "%s", seen->why);
    if (!durable->good) wrong(x, "after a power loss: %s", durable->why);
    if (durable->newest < s->told)
        wrong(x, "after a power loss checkpoint %u is gone, of which a task was told", s->told);
    if (seen->newest != newest_completed(s))
        wrong(x, "the log's newest checkpoint is %llu; %llu was completed",
              (unsigned long long)seen->newest, (unsigned long long)newest_completed(s));
}

static model_result call(explorer *x, state *s, uint32_t request, unsigned how) {
    size_t size;
    const model_request *r = model_pool_get(request, &size);
    model_result result = { 0 };
    if (how != CALL_FAILS) s->disk = model_disk_apply(s->disk, r, x->bound.mutation, &result);
    if (how != CALL_GOOD) result = (model_result){ .status = KWR_ERR_IO };
    if (r->op == OP_LINK) note_completed(x, s);
    return result;
}

static void lose_power(explorer *x, state *s, unsigned outcome) {
    for (unsigned i = 0; i < x->bound.attempts; i++)
        if (s->life[i] == ALIVE) forget_attempt(s, i);
    s->disk = model_disk_power_loss(s->disk, outcome);
    /* Linked but not yet durable: nobody was told, it never was. */
    const model_log *log = model_check(s->disk);
    while (s->completed_count > 0 && newest_completed(s) > log->highest)
        s->completed[--s->completed_count] = 0;
}

/* ---- one step ---- */

static void act(explorer *x, state *s, action a) {
    const unsigned n = a.attempt;
    s->faults = (uint8_t)(s->faults + a.fault);
    switch ((action_kind)a.kind) {
    case DO_CALL: {
        const model_result r = call(x, s, part_of(s, n, PART_JOB)->request, a.extra);
        give_input(x, s, n, PART_JOB, (model_input){ IN_RESULT, r.payload, r.status });
        return;
    }
    case DO_WORK_CALL: {
        const model_result r = call(x, s, model_work_get(s->work[n])->request, a.extra);
        s->work[n] = model_work_step(s->work[n], r);
        return;
    }
    case DO_WORK_DONE: {
        const uint32_t work = s->work[n];
        s->work[n] = 0;
        give_input(x, s, n, PART_JOB, (model_input){ IN_WORK, work, 0 });
        return;
    }
    case DO_TRIGGER:
        s->triggered[n]++;
        give_input(x, s, n, PART_JOB, (model_input){ .kind = IN_TRIGGER });
        return;
    case DO_TIME: give_input(x, s, n, PART_JOB, (model_input){ .kind = IN_TIME }); return;
    case DO_MESSAGE: {
        const message m = take_message(s, a.extra);
        give_input(x, s, m.attempt, (model_part)m.to, (model_input){ IN_RECEIVE, m.payload, 0 });
        return;
    }
    case DO_EMIT: give_input(x, s, n, PART_SOURCE, (model_input){ .kind = IN_EMIT }); return;
    case DO_ITEM: {
        const uint16_t item = s->channel[n][0];
        memmove(s->channel[n], s->channel[n] + 1, sizeof s->channel[n] - sizeof item);
        s->channel[n][CHANNEL_MAX - 1] = 0;
        s->channel_count[n]--;
        give_input(x, s, n, PART_SINK, (model_input){ IN_ITEM, item, 0 });
        return;
    }
    case DO_START:
        s->life[n] = ALIVE;
        give_input(x, s, n, PART_JOB, (model_input){ .kind = IN_START });
        return;
    case DO_END:
    case DO_CRASH: forget_attempt(s, n); return;
    case DO_DROP_MESSAGE: (void)take_message(s, a.extra); return;
    case DO_DOUBLE_MESSAGE: add_message(s, s->messages[a.extra]); return;
    case DO_POWER_LOSS: lose_power(x, s, a.payload); return;
    }
}

static uint32_t request_of(const state *s, const action *a) {
    if (a->kind == DO_CALL) return part_of(s, a->attempt, PART_JOB)->request;
    if (a->kind == DO_WORK_CALL) return model_work_get(s->work[a->attempt])->request;
    return 0;
}

/* The file call that an attempt waits for, if any. */
static bool next_call(const state *s, unsigned attempt, action *out) {
    *out = (action){ .attempt = (uint8_t)attempt };
    if (part_of(s, attempt, PART_JOB)->request != 0)
        out->kind = DO_CALL;
    else if (s->work[attempt] != 0 && !model_work_get(s->work[attempt])->done)
        out->kind = DO_WORK_CALL;
    return out->kind != 0;
}

/*
 * Once no fault is left nobody can see at which of these calls an attempt is, so they are made in a
 * row: all of an attempt that is alone; else those that only a power loss would show, and the
 * opening of directories that are there.
 */
static bool is_unseen(const explorer *x, const state *s, const action *a) {
    bool alone = true;
    for (unsigned i = 0; i < x->bound.attempts; i++)
        alone = alone && (i == a->attempt || s->life[i] != ALIVE);
    if (alone) return true;
    size_t size;
    const model_request *r = model_pool_get(request_of(s, a), &size);
    return r->op == OP_SYNC || r->op == OP_SYNC_DIR ||
           (r->op == OP_MAKE_DIR && model_disk_has(s->disk, r->path));
}

/* The oracles look after each. */
static void run_ahead(explorer *x, state *s) {
    bool again = s->faults >= x->bound.faults;
    while (again && x->out.violations == 0) {
        again = false;
        for (unsigned n = 0; n < x->bound.attempts; n++) {
            action a;
            if (s->life[n] != ALIVE || !next_call(s, n, &a) || !is_unseen(x, s, &a)) continue;
            again = true;
            act(x, s, a);
            check_disk(x, s);
            x->out.transitions++;
        }
    }
}

static bool all_committed(const explorer *x, const state *s) {
    size_t records = 0;
    for (unsigned i = 0; i < s->output_count; i++) {
        size_t size;
        (void)model_pool_get(s->outputs[i].token, &size);
        records += size;
    }
    return records == x->bound.records;
}

static bool is_goal(const explorer *x, const state *s) {
    if (!all_committed(x, s)) return false;
    for (unsigned i = 0; i < x->bound.attempts; i++)
        if (s->life[i] == ALIVE && s->node[i][PART_SINK] != 0 &&
            part_of(s, i, PART_JOB)->finished && part_of(s, i, PART_SINK)->last_done)
            return true;
    return false;
}

/* Changes neither the disk nor what the oracles look at, and nothing another attempt can see. */
static bool is_local(const explorer *x, const state *s, const action *a) {
    if (x->bound.mutation == MUTATE_EARLY_COMMIT) return false;
    if (a->kind == DO_TRIGGER || a->kind == DO_EMIT || a->kind == DO_ITEM || a->kind == DO_TIME)
        return true;
    if (a->kind != DO_MESSAGE) return false;
    size_t size;
    const uint8_t *bytes = model_pool_get(s->messages[a->extra].payload, &size);
    return size > 6 && bytes[6] != MESSAGE_COMPLETE;
}

/* Whose step it is, as far as the other can notice: local steps do not count. */
static bool notes_runner(const explorer *x, state *s, const action *a) {
    unsigned alive = 0;
    for (unsigned n = 0; n < x->bound.attempts; n++)
        alive += s->life[n] == ALIVE;
    if (alive < 2) {
        s->runner = s->switches = 0;
        return true;
    }
    if (is_local(x, s, a) || s->runner == a->attempt + 1) return true;
    if (s->runner != 0) s->switches++;
    s->runner = (uint8_t)(a->attempt + 1);
    return s->switches <= x->bound.switches;
}

static bool try_step(explorer *x, action a) {
    state s = x->states[x->at];
    if (x->bound.switches > 0 && !notes_runner(x, &s, &a)) return true;
    const unsigned before = x->out.violations;
    act(x, &s, a);
    check_disk(x, &s);
    run_ahead(x, &s);
    const bool fresh = reach(x, &s, a);
    if (fresh && is_goal(x, &s)) {
        x->is_goal[x->out.states - 1] = 1;
        x->out.goals++;
    }
    return x->out.violations == before;
}

/* ---- what can happen ---- */

typedef struct action_list {
    action items[256];
    unsigned count;
} action_list;

static void can(action_list *list, action a) {
    if (list->count == 256) abort();
    list->items[list->count++] = a;
}

static bool is_opened(const state *s, unsigned n, model_part part) {
    return s->node[n][part] != 0 && part_of(s, n, part)->opened;
}

static void can_message(const state *s, unsigned n, action_list *list) {
    for (unsigned i = 0; i < s->message_count; i++) {
        if (s->messages[i].attempt != n) continue;
        if (i > 0 && same_way(&s->messages[i - 1], &s->messages[i])) continue;
        can(list, (action){ .kind = DO_MESSAGE, .attempt = (uint8_t)n, .extra = (uint8_t)i });
    }
}

static void can_normally(const explorer *x, const state *s, unsigned n, action_list *list) {
    const model_node *job = part_of(s, n, PART_JOB);
    const uint8_t a = (uint8_t)n;
    if (job->request != 0) can(list, (action){ .kind = DO_CALL, .attempt = a });
    if (s->work[n] != 0)
        can(list, (action){ .kind = model_work_get(s->work[n])->done ? DO_WORK_DONE : DO_WORK_CALL,
                            .attempt = a });
    if (job->opened && !job->failed && !job->finished) {
        if (!job->pending && s->triggered[n] < x->bound.triggers)
            can(list, (action){ .kind = DO_TRIGGER, .attempt = a });
        if (job->timed && !job->pending) can(list, (action){ .kind = DO_TIME, .attempt = a });
    }
    can_message(s, n, list);
    if (is_opened(s, n, PART_SOURCE) && part_of(s, n, PART_SOURCE)->position < x->bound.records)
        can(list, (action){ .kind = DO_EMIT, .attempt = a });
    if (is_opened(s, n, PART_SINK) && s->channel_count[n] > 0)
        can(list, (action){ .kind = DO_ITEM, .attempt = a });
    if (job->failed) can(list, (action){ .kind = DO_END, .attempt = a });
}

static bool may_lie(uint32_t request) {
    size_t size;
    const model_request *r = model_pool_get(request, &size);
    return r->op != OP_LIST && r->op != OP_OPEN && r->op != OP_OPEN_DIR;
}

static void can_badly(const explorer *x, const state *s, unsigned n, action_list *list) {
    const model_node *job = part_of(s, n, PART_JOB);
    const uint8_t a = (uint8_t)n;
    const unsigned normal = list->count;
    const bool next_free = n + 1 < x->bound.attempts && s->life[n + 1] == NOT_STARTED;
    for (unsigned i = 0; i < normal; i++) {
        action failing = list->items[i];
        if (failing.attempt != n) continue;
        const uint32_t request = request_of(s, &failing);
        failing.fault = 1;
        if (request != 0) {
            failing.extra = CALL_FAILS;
            can(list, failing);
            failing.extra = CALL_LIES;
            if (may_lie(request)) can(list, failing);
        }
    }
    for (uint8_t i = 0; i < s->message_count; i++) {
        if (s->messages[i].attempt != n) continue;
        can(list, (action){ DO_DROP_MESSAGE, a, i, .fault = 1 });
        can(list, (action){ DO_DOUBLE_MESSAGE, a, i, .fault = 1 });
        if (i > 0 && same_way(&s->messages[i - 1], &s->messages[i])) /* overtakes */
            can(list, (action){ DO_MESSAGE, a, i, .fault = 1 });
    }
    if (job->timed && job->pending && !job->publishing && !job->failed)
        can(list, (action){ .kind = DO_TIME, .attempt = a, .fault = 1 });
    if (!next_free) return;
    can(list, (action){ .kind = DO_CRASH, .attempt = a, .fault = 1 });
    if (x->bound.no_zombies) return;
    can(list, (action){ .kind = DO_START, .attempt = (uint8_t)(a + 1), .fault = 1 });
}

static void can_lose_power(const explorer *x, const state *s, action_list *list) {
    unsigned next = 0;
    while (next < x->bound.attempts && s->life[next] != NOT_STARTED)
        next++;
    if (next == x->bound.attempts) return;
    const unsigned changes = model_disk_unsynced(s->disk);
    if (changes > 7) abort(); /* a few at a time: else the list above is too short */
    for (unsigned outcome = 0; outcome < 1u << changes; outcome++)
        can(list, (action){ .kind = DO_POWER_LOSS, .payload = outcome, .fault = 1 });
}

/* Nothing more comes by itself: a timeout, or the engine starts the job again. */
static void can_when_quiet(const explorer *x, const state *s, unsigned n, action_list *list) {
    const model_node *job = part_of(s, n, PART_JOB);
    const uint8_t a = (uint8_t)n;
    if (job->timed && !job->failed)
        can(list, (action){ .kind = DO_TIME, .attempt = a });
    else if (n + 1 < x->bound.attempts)
        can(list, (action){ .kind = DO_END, .attempt = a });
}

/*
 * Two attempts, no fault left. When all that one of them can do is local, it commutes with whatever
 * the other does, now and later, and only its steps have to be tried here (a persistent set). And
 * while it can do something local, its background work goes on only after that: in which order an
 * attempt did these two was explored before the other came, and the other cannot see it.
 */
static bool only_local(const explorer *x, const state *s, action_list *list) {
    action_list all;
    unsigned alive = 0;
    for (unsigned n = 0; n < x->bound.attempts; n++)
        alive += s->life[n] == ALIVE;
    if (alive < 2 || s->faults < x->bound.faults) return false;
    for (unsigned n = 0; n < x->bound.attempts; n++) {
        if (s->life[n] != ALIVE) continue;
        all.count = list->count = 0;
        can_normally(x, s, n, &all);
        for (unsigned i = 0; i < all.count; i++)
            if (is_local(x, s, &all.items[i])) can(list, all.items[i]);
        if (list->count > 0) return true;
        if (all.count == 1 && all.items[0].kind == DO_WORK_DONE) {
            can(list, all.items[0]);
            return true;
        }
    }
    return false;
}

static void list_actions(const explorer *x, const state *s, action_list *list) {
    bool alive = false;
    if (only_local(x, s, list)) return;
    list->count = 0;
    for (unsigned n = 0; n < x->bound.attempts; n++) {
        if (s->life[n] != ALIVE) continue;
        alive = true;
        const unsigned before = list->count;
        can_normally(x, s, n, list);
        if (list->count == before && !is_goal(x, s)) can_when_quiet(x, s, n, list);
        if (s->faults < x->bound.faults) can_badly(x, s, n, list);
    }
    if (alive && s->faults < x->bound.faults) can_lose_power(x, s, list);
    for (unsigned n = 0; !alive && n < x->bound.attempts; n++)
        if (s->life[n] == NOT_STARTED) {
            can(list, (action){ .kind = DO_START, .attempt = (uint8_t)n });
            return;
        }
}

/* ---- showing the way ---- */

static const char *op_name(uint32_t op) {
    static const char *const names[] = { "",         "open-dir", "make-dir",  "list",
                                         "sync-dir", "create",   "sync",      "open",
                                         "link",     "remove",   "remove-dir" };
    return names[op];
}

static void print_call(uint32_t request, unsigned how) {
    size_t size;
    const model_request *r = model_pool_get(request, &size);
    printf("%s %s", op_name(r->op), model_pool_text(r->path));
    if (r->to != 0) printf(" -> %s", model_pool_text(r->to));
    if (how == CALL_FAILS) printf(", fails");
    if (how == CALL_LIES) printf(", takes effect but reports a failure");
    putchar('\n');
}

static void print_message(const message *m) {
    static const char *const kinds[] = { "?",     "assignment", "trigger", "complete",
                                         "abort", "ack",        "decline", "source-ended" };
    static const char *const parts[] = { "job", "source", "sink" };
    size_t size;
    const uint8_t *bytes = model_pool_get(m->payload, &size);
    const unsigned kind = size > 6 ? bytes[6] : 0;
    printf("%s to the %s\n", kind < 8 ? kinds[kind] : "?", parts[m->to]);
}

static void print_action(const state *s, action a) {
    printf("  attempt %u%s: ", a.attempt + 1, a.fault ? " (fault)" : "");
    switch ((action_kind)a.kind) {
    case DO_CALL:
    case DO_WORK_CALL: print_call(request_of(s, &a), a.extra); return;
    case DO_WORK_DONE: puts("its background work is done"); return;
    case DO_TRIGGER: puts("a checkpoint is asked for"); return;
    case DO_TIME: puts("time passes to its deadline"); return;
    case DO_MESSAGE: print_message(&s->messages[a.extra]); return;
    case DO_DROP_MESSAGE:
        fputs("lost: ", stdout);
        print_message(&s->messages[a.extra]);
        return;
    case DO_DOUBLE_MESSAGE:
        fputs("doubled: ", stdout);
        print_message(&s->messages[a.extra]);
        return;
    case DO_EMIT: puts("the source emits a record"); return;
    case DO_ITEM: {
        const unsigned item = s->channel[a.attempt][0];
        printf("the sink takes %s %u\n", item < ITEM_BARRIER ? "record" : "the barrier of",
               item < ITEM_BARRIER ? item : (item - ITEM_BARRIER) & ~(unsigned)ITEM_FINAL);
        return;
    }
    case DO_START: puts("starts"); return;
    case DO_END: puts("is ended by its engine"); return;
    case DO_CRASH: puts("is killed"); return;
    case DO_POWER_LOSS: printf("power loss, outcome %x\n", a.payload); return;
    }
}

static void print_way(const explorer *x, uint32_t to, const action *last) {
    unsigned count = x->visits[to].depth;
    uint32_t *way = model_must(malloc((count + 1) * sizeof *way));
    for (uint32_t at = to, i = count + 1; i-- > 0; at = x->visits[at].parent)
        way[i] = at;
    for (unsigned i = 0; i < count; i++)
        print_action(&x->states[way[i]], x->visits[way[i + 1]].by);
    if (last != NULL) print_action(&x->states[to], *last);
    puts("  the disk before the last step:");
    model_disk_print(x->states[to].disk);
    free(way);
}

/* ---- termination ---- */

/* Marks backwards from the goals; a state that is not marked can never finish. */
static void check_termination(explorer *x) {
    const uint32_t n = x->out.states;
    size_t *first = model_must(calloc(n + 1, sizeof *first));
    uint32_t *from = model_must(malloc((x->edge_count + 1) * sizeof *from));
    uint32_t *queue = model_must(malloc((n + 1) * sizeof *queue));
    uint32_t head = 0, tail = 0;
    for (size_t e = 0; e < x->edge_count; e++)
        first[x->edges[2 * e + 1] + 1]++;
    for (uint32_t i = 0; i < n; i++)
        first[i + 1] += first[i];
    size_t *next = model_must(malloc((n + 1) * sizeof *next));
    memcpy(next, first, (n + 1) * sizeof *next);
    for (size_t e = 0; e < x->edge_count; e++)
        from[next[x->edges[2 * e + 1]]++] = x->edges[2 * e];
    for (uint32_t i = 0; i < n; i++)
        if (x->is_goal[i]) queue[tail++] = i;
    for (; head < tail; head++)
        for (size_t e = first[queue[head]]; e < first[queue[head] + 1]; e++)
            if (!x->is_goal[from[e]]) {
                x->is_goal[from[e]] = 1;
                queue[tail++] = from[e];
            }
    for (uint32_t i = 0; i < n; i++)
        if (!x->is_goal[i]) {
            wrong(x, "from here the job can never finish");
            if (x->verbose) print_way(x, i, NULL);
            break;
        }
    free(first);
    free(next);
    free(from);
    free(queue);
}

static bool expand(explorer *x) {
    action_list list;
    list_actions(x, &x->states[x->at], &list);
    if (list.count == 0 && !is_goal(x, &x->states[x->at])) {
        wrong(x, "nothing can happen any more and the job has not finished: %s",
              model_node_error());
        if (x->verbose) print_way(x, x->at, NULL);
        return false;
    }
    for (unsigned i = 0; i < list.count; i++)
        if (!try_step(x, list.items[i])) {
            if (x->verbose) print_way(x, x->at, &list.items[i]);
            return false;
        }
    return true;
}

model_outcome model_explore(const model_bound *bound, bool verbose) {
    explorer x = { .bound = *bound, .verbose = verbose };
    state start;
    memset(&start, 0, sizeof start);
    model_machine_setup(bound->records, bound->mutation);
    start.disk = model_disk_new();
    (void)reach(&x, &start, (action){ 0 });
    x.out.complete = true;
    for (x.at = 0; x.at < x.out.states && x.out.violations == 0; x.at++) {
        if (x.out.states >= bound->states_max) {
            x.out.complete = false;
            break;
        }
        (void)expand(&x);
    }
    if (x.out.complete && x.out.violations == 0) check_termination(&x);
    x.out.nodes = (uint32_t)model_node_count();
    free(x.states);
    free(x.visits);
    free(x.table);
    free(x.edges);
    free(x.is_goal);
    model_check_free();
    model_machine_free();
    model_pool_free();
    return x.out;
}
