/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoints of one attempt of a job, at most one at a time: trigger, collect, publish, tell.
 * The idea: every event is answered by one small function that looks at the state, and every change
 * of state goes through the few transitions below. docs/barriers.md draws the table.
 */
#include "keyweir/barrier.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/planted.h"

#define SECOND_NS UINT64_C(1000000000)
#define TIMEOUT_DEFAULT_NS (600 * SECOND_NS)
/* A failed last checkpoint is tried again after this, doubled by each failure in a row. */
#define RETRY_FIRST_NS (SECOND_NS / 10)
#define RETRY_MAX_NS (10 * SECOND_NS)

typedef enum coordinator_state {
    COORD_SETUP = 1,      /* tasks are being restored */
    COORD_IDLE = 2,       /* nothing is pending */
    COORD_COLLECTING = 3, /* triggered, acks are missing */
    COORD_PUBLISHING = 4, /* all acks are in; storage decides */
    COORD_FINISHED = 5,   /* the last checkpoint is completed */
    COORD_FAILED = 6,     /* the attempt ends; nothing is said any more */
} coordinator_state;

/* What is known of one task. */
enum { TASK_ACKED = 1, TASK_SOURCE = 2, TASK_ENDED = 4 };

struct kwr_coordinator {
    const kwr_env *env;
    uint64_t generation;
    uint64_t interval_ns;
    uint64_t min_pause_ns;
    uint64_t timeout_ns;
    uint32_t tolerable_failures;
    bool tolerate_all;

    coordinator_state state;
    uint64_t now_ns;  /* the latest time heard of */
    uint64_t next_id; /* UINT64_MAX: used up */

    uint64_t pending; /* COLLECTING, PUBLISHING */
    bool final;       /* of the pending one */
    bool last;        /* of the pending one: finish when it is published */
    uint32_t acks_missing;
    uint64_t triggered_ns; /* of the newest trigger, the start before any */

    uint64_t failures;    /* consecutive */
    bool stopping;        /* a last checkpoint is asked for */
    uint64_t last_due_ns; /* no last checkpoint before: a failed one waits */
    uint64_t due_ns;      /* the next periodic trigger, UINT64_MAX: never */

    uint32_t tasks;
    uint32_t sources;
    uint32_t sources_open;
    uint8_t task[]; /* TASK_ bits */
};

KWR_DEFINE_CLEANUP(kwr_coordinator, kwr_coordinator_free)

/* The actions of one step, in order. */
typedef struct action_list {
    kwr_coordinator_action *items;
    size_t count;
} action_list;

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }
/* Never is UINT64_MAX, and nothing comes after it. */
static uint64_t after(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

static bool reached(uint64_t now, uint64_t at) { return at != UINT64_MAX && now >= at; }

static size_t coordinator_size(uint32_t tasks) { return sizeof(kwr_coordinator) + tasks; }

kwr_status kwr_coordinator_new(const kwr_coordinator_options *options, kwr_coordinator **out,
                               kwr_error *err) {
    kwr_coordinator_options o;
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_coordinator_options", err));
    if (o.env == NULL || o.tasks == 0) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_coordinator_options: env and at least one task are needed");
    }
    if (o.first_checkpoint == 0 || o.first_checkpoint == UINT64_MAX) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "kwr_coordinator_options: first_checkpoint %llu is not a checkpoint id",
                        (unsigned long long)o.first_checkpoint);
    }
    kwr_coordinator *c = kwr_calloc(o.env, coordinator_size(o.tasks));
    if (c == NULL) {
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the coordinator of %u tasks",
                        o.tasks);
    }
    c->env = o.env;
    c->generation = o.generation;
    c->interval_ns = o.interval_ns;
    c->min_pause_ns = o.min_pause_ns;
    c->timeout_ns = o.timeout_ns == 0 ? TIMEOUT_DEFAULT_NS : o.timeout_ns;
    c->tolerable_failures = o.tolerable_failures;
    c->tolerate_all = o.tolerate_all;
    c->state = COORD_SETUP;
    c->next_id = o.first_checkpoint;
    c->due_ns = UINT64_MAX;
    c->tasks = o.tasks;
    *out = c;
    return KWR_OK;
}

void kwr_coordinator_free(kwr_coordinator *coordinator) {
    if (coordinator == NULL) return;
    kwr_free(coordinator->env, coordinator, coordinator_size(coordinator->tasks));
}

static void say(action_list *do_, kwr_coordinator_action_kind kind, uint64_t checkpoint, bool final,
                kwr_status status) {
    do_->items[do_->count++] = (kwr_coordinator_action){
        .kind = kind, .checkpoint = checkpoint, .final = final, .status = status
    };
}

static kwr_status failure_or(kwr_status status, kwr_status otherwise) {
    return status < KWR_OK ? status : otherwise;
}

/* ---- transitions ---- */

static bool all_sources_ended(const kwr_coordinator *c) {
    if (KWR_PLANTED(final_too_soon)) return c->sources_open < c->sources;
    return c->sources > 0 && c->sources_open == 0;
}

/* Only a last checkpoint is still to come. */
static bool ending(const kwr_coordinator *c) { return c->stopping || all_sources_ended(c); }

/* any -> FAILED */
static void fail(kwr_coordinator *c, kwr_status status, action_list *do_) {
    say(do_, KWR_DO_FAIL, c->pending, c->final, status);
    c->state = COORD_FAILED;
    c->pending = 0;
}

/* IDLE -> COLLECTING; the last one when the job is ending, final when its sources have ended. */
static void trigger(kwr_coordinator *c, action_list *do_) {
    if (c->next_id == UINT64_MAX) {
        fail(c, KWR_ERR_RANGE, do_); /* ids are used up: none is used twice */
        return;
    }
    c->state = COORD_COLLECTING;
    c->pending = c->next_id++;
    c->last = ending(c);
    c->final = all_sources_ended(c);
    c->triggered_ns = c->now_ns;
    c->acks_missing = c->tasks;
    for (uint32_t i = 0; i < c->tasks; i++)
        c->task[i] &= (uint8_t)~TASK_ACKED;
    say(do_, KWR_DO_TRIGGER, c->pending, c->final, KWR_OK);
}

/* In IDLE: the last checkpoint is triggered as soon as it may be, without waiting for a tick. */
static void go_on(kwr_coordinator *c, action_list *do_) {
    if (ending(c) && reached(c->now_ns, c->last_due_ns)) trigger(c, do_);
}

/* COLLECTING, PUBLISHING -> IDLE, and the next periodic trigger. */
static void resolve(kwr_coordinator *c) {
    c->state = COORD_IDLE;
    c->pending = 0;
    if (KWR_PLANTED(interval_ignored)) {
        c->due_ns = after(c->now_ns, c->min_pause_ns);
    } else if (c->interval_ns > 0) {
        c->due_ns =
            later(after(c->triggered_ns, c->interval_ns), after(c->now_ns, c->min_pause_ns));
    }
}

static uint64_t retry_pause(const kwr_coordinator *c) {
    uint64_t pause = RETRY_FIRST_NS;
    for (uint64_t i = 1; i < c->failures && pause < RETRY_MAX_NS; i++)
        pause *= 2;
    return later(pause < RETRY_MAX_NS ? pause : RETRY_MAX_NS, c->min_pause_ns);
}

/* COLLECTING, PUBLISHING -> IDLE, or FAILED when that was one failure too many. */
static void abort_pending(kwr_coordinator *c, kwr_status status, action_list *do_) {
    say(do_, KWR_DO_ABORT, c->pending, c->final, status);
    if (c->failures < UINT64_MAX) c->failures++;
    if (KWR_PLANTED(id_used_again)) c->next_id--;
    if ((!c->tolerate_all || KWR_PLANTED(failure_not_tolerated)) &&
        c->failures > c->tolerable_failures) {
        fail(c, status, do_);
        return;
    }
    if (c->last) c->last_due_ns = after(c->now_ns, retry_pause(c));
    if (KWR_PLANTED(retry_unpaced)) c->last_due_ns = c->now_ns;
    resolve(c);
    go_on(c, do_);
}

/* PUBLISHING -> IDLE or FINISHED */
static void complete(kwr_coordinator *c, action_list *do_) {
    const uint64_t checkpoint = c->pending;
    say(do_, KWR_DO_COMPLETE, checkpoint, c->final, KWR_OK);
    c->failures = 0;
    resolve(c);
    if (c->last || (KWR_PLANTED(finished_too_soon) && ending(c))) {
        c->state = COORD_FINISHED;
        say(do_, KWR_DO_FINISH, checkpoint, c->final, KWR_OK);
        return;
    }
    go_on(c, do_);
}

/* ---- events ---- */

static kwr_status on_tick(kwr_coordinator *c, action_list *do_) {
    switch (c->state) {
    case COORD_IDLE:
        if (ending(c)) {
            go_on(c, do_);
        } else if (reached(c->now_ns, c->due_ns)) {
            trigger(c, do_);
        }
        return KWR_OK;
    case COORD_COLLECTING:
        if (reached(c->now_ns, after(c->triggered_ns, c->timeout_ns)) && !KWR_PLANTED(no_timeout)) {
            abort_pending(c, KWR_ERR_TIMEOUT, do_);
        }
        return KWR_OK;
    case COORD_PUBLISHING: /* too late to abort: storage decides */
        if (KWR_PLANTED(publishing_timed_out) &&
            reached(c->now_ns, after(c->triggered_ns, c->timeout_ns)))
            abort_pending(c, KWR_ERR_TIMEOUT, do_);
        return KWR_OK;
    case COORD_SETUP:
    case COORD_FINISHED:
    case COORD_FAILED: return KWR_OK;
    }
    return KWR_ERR_MISUSE;
}

static kwr_status on_source(kwr_coordinator *c, uint32_t task) {
    if (c->state != COORD_SETUP) return KWR_ERR_MISUSE;
    if (task >= c->tasks) return KWR_ERR_RANGE;
    if ((c->task[task] & TASK_SOURCE) != 0) return KWR_OK;
    c->task[task] |= TASK_SOURCE;
    c->sources++;
    c->sources_open++;
    return KWR_OK;
}

static kwr_status on_start(kwr_coordinator *c, action_list *do_) {
    if (c->state != COORD_SETUP) return KWR_ERR_MISUSE;
    c->state = COORD_IDLE;
    c->triggered_ns = c->now_ns;
    if (c->interval_ns > 0) c->due_ns = after(c->now_ns, c->interval_ns);
    go_on(c, do_);
    return KWR_OK;
}

static kwr_status on_trigger(kwr_coordinator *c, action_list *do_) {
    switch (c->state) {
    case COORD_IDLE: trigger(c, do_); return KWR_OK;
    case COORD_COLLECTING:
    case COORD_PUBLISHING: return KWR_ERR_BUSY;
    case COORD_SETUP:
    case COORD_FINISHED:
    case COORD_FAILED: return KWR_ERR_MISUSE;
    }
    return KWR_ERR_MISUSE;
}

static kwr_status on_stop(kwr_coordinator *c, action_list *do_) {
    switch (c->state) {
    case COORD_IDLE:
        c->stopping = true;
        go_on(c, do_);
        return KWR_OK;
    case COORD_SETUP:
    case COORD_COLLECTING:
    case COORD_PUBLISHING: c->stopping = true; return KWR_OK;
    case COORD_FINISHED:
    case COORD_FAILED: return KWR_OK;
    }
    return KWR_ERR_MISUSE;
}

/* Of this attempt, for the checkpoint being collected, from a task there is. */
static bool is_expected(const kwr_coordinator *c, const kwr_coordinator_event *event) {
    return event->generation == c->generation &&
           (event->checkpoint == c->pending || KWR_PLANTED(late_ack_counted)) &&
           event->task < c->tasks;
}

static kwr_status on_ack(kwr_coordinator *c, const kwr_coordinator_event *event, action_list *do_) {
    switch (c->state) {
    case COORD_COLLECTING:
        if (!is_expected(c, event) ||
            ((c->task[event->task] & TASK_ACKED) != 0 && !KWR_PLANTED(acks_are_a_number)))
            break;
        c->task[event->task] |= TASK_ACKED;
        if (--c->acks_missing > KWR_PLANTED(one_ack_missing)) return KWR_OK;
        c->state = COORD_PUBLISHING;
        if (KWR_PLANTED(told_before_published))
            say(do_, KWR_DO_COMPLETE, c->pending, c->final, KWR_OK);
        say(do_, KWR_DO_PUBLISH, c->pending, c->final, KWR_OK);
        return KWR_OK;
    case COORD_SETUP:
    case COORD_IDLE:
    case COORD_PUBLISHING:
    case COORD_FINISHED: break;
    case COORD_FAILED: return KWR_OK;
    }
    say(do_, KWR_DO_IGNORE_ACK, event->checkpoint, false, KWR_OK);
    return KWR_OK;
}

static kwr_status on_decline(kwr_coordinator *c, const kwr_coordinator_event *event,
                             action_list *do_) {
    switch (c->state) {
    case COORD_COLLECTING: /* also from a task that has acked: it knows better by now */
        if (!is_expected(c, event)) break;
        abort_pending(c, failure_or(event->status, KWR_ERR_DECLINED), do_);
        return KWR_OK;
    case COORD_SETUP:
    case COORD_IDLE:
    case COORD_PUBLISHING:
    case COORD_FINISHED: break;
    case COORD_FAILED: return KWR_OK;
    }
    say(do_, KWR_DO_IGNORE_ACK, event->checkpoint, false, KWR_OK);
    return KWR_OK;
}

static kwr_status on_source_ended(kwr_coordinator *c, uint32_t task, action_list *do_) {
    if (task >= c->tasks) return KWR_ERR_RANGE;
    if ((c->task[task] & TASK_SOURCE) == 0) return KWR_ERR_MISUSE;
    if ((c->task[task] & TASK_ENDED) != 0) return KWR_OK;
    c->task[task] |= TASK_ENDED;
    c->sources_open--;
    switch (c->state) {
    case COORD_IDLE: go_on(c, do_); return KWR_OK;
    case COORD_SETUP:      /* seen at the start */
    case COORD_COLLECTING: /* when it is resolved */
    case COORD_PUBLISHING:
    case COORD_FINISHED:
    case COORD_FAILED: return KWR_OK;
    }
    return KWR_ERR_MISUSE;
}

static kwr_status on_published(kwr_coordinator *c, const kwr_coordinator_event *event,
                               action_list *do_) {
    if (c->state == COORD_FAILED) return KWR_OK; /* the next attempt will see it in the log */
    if (c->state != COORD_PUBLISHING || event->checkpoint != c->pending) return KWR_ERR_MISUSE;
    complete(c, do_);
    return KWR_OK;
}

static kwr_status on_publish_failed(kwr_coordinator *c, const kwr_coordinator_event *event,
                                    action_list *do_) {
    if (c->state == COORD_FAILED) return KWR_OK;
    if (c->state != COORD_PUBLISHING || event->checkpoint != c->pending) return KWR_ERR_MISUSE;
    abort_pending(c, failure_or(event->status, KWR_ERR_IO), do_);
    return KWR_OK;
}

static kwr_status on_lost(kwr_coordinator *c, kwr_status status, action_list *do_) {
    switch (c->state) {
    case COORD_SETUP:
    case COORD_IDLE:
    case COORD_COLLECTING:
    case COORD_PUBLISHING: fail(c, failure_or(status, KWR_ERR_UNKNOWN), do_); return KWR_OK;
    case COORD_FINISHED: /* nothing is left to lose */
    case COORD_FAILED: return KWR_OK;
    }
    return KWR_ERR_MISUSE;
}

static kwr_status dispatch(kwr_coordinator *c, const kwr_coordinator_event *event,
                           action_list *do_) {
    switch (event->kind) {
    case KWR_ON_TICK: return on_tick(c, do_);
    case KWR_ON_SOURCE: return on_source(c, event->task);
    case KWR_ON_START: return on_start(c, do_);
    case KWR_ON_TRIGGER: return on_trigger(c, do_);
    case KWR_ON_STOP: return on_stop(c, do_);
    case KWR_ON_ACK: return on_ack(c, event, do_);
    case KWR_ON_DECLINE: return on_decline(c, event, do_);
    case KWR_ON_SOURCE_ENDED: return on_source_ended(c, event->task, do_);
    case KWR_ON_PUBLISHED: return on_published(c, event, do_);
    case KWR_ON_PUBLISH_FAILED: return on_publish_failed(c, event, do_);
    case KWR_ON_LOST: return on_lost(c, event->status, do_);
    }
    return KWR_ERR_RANGE;
}

kwr_status kwr_coordinator_step(kwr_coordinator *coordinator, const kwr_coordinator_event *event,
                                kwr_coordinator_action *actions, size_t *count) {
    action_list did = { .items = actions };
    const uint64_t before = coordinator->now_ns;
    coordinator->now_ns = later(before, event->now_ns); /* a clock that steps back is held */
    const kwr_status status = dispatch(coordinator, event, &did);
    if (status < KWR_OK) {
        coordinator->now_ns = before;
        return status;
    }
    *count = did.count;
    return KWR_OK;
}

uint64_t kwr_coordinator_deadline(const kwr_coordinator *coordinator) {
    const kwr_coordinator *c = coordinator;
    switch (c->state) {
    case COORD_IDLE: return ending(c) ? c->last_due_ns : c->due_ns;
    case COORD_COLLECTING:
        return KWR_PLANTED(no_timeout) ? UINT64_MAX : after(c->triggered_ns, c->timeout_ns);
    case COORD_PUBLISHING:
        return KWR_PLANTED(publishing_timed_out) ? after(c->triggered_ns, c->timeout_ns)
                                                 : UINT64_MAX;
    case COORD_SETUP:
    case COORD_FINISHED:
    case COORD_FAILED: return UINT64_MAX;
    }
    return UINT64_MAX;
}

uint64_t kwr_coordinator_pending(const kwr_coordinator *coordinator) {
    switch (coordinator->state) {
    case COORD_COLLECTING:
    case COORD_PUBLISHING: return coordinator->pending;
    case COORD_SETUP:
    case COORD_IDLE:
    case COORD_FINISHED:
    case COORD_FAILED: return 0;
    }
    return 0;
}
