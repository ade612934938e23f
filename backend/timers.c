/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers: two states, one for each domain, with one collection for each key group, whose elements
 * are the timers in the order they fire. What is in memory beside the engine, the first timer of
 * each group, is found again when it is needed: after a restore nothing has to be read.
 */
#include "keyweir/timers.h"

#include <stdio.h>

#include "backend/key_group.h"
#include "backend/per_group.h"
#include "backend/timer_heads.h"
#include "backend/timer_key.h"
#include "base/limits.h"
#include "base/memory.h"

enum { DOMAINS = 2, NAME_CAPACITY = 300 };

/* The timers of one domain: the handle of a state. */
typedef struct timer_queue {
    kwr_state state;
    kwr_timer_heads heads; /* built when first asked for */
    kwr_kept wanted;       /* the timer of a register or delete */
    kwr_kept popped[2];    /* in turn: the current key may lie in the one popped last */
    unsigned turn;
} timer_queue;

/* The handle of the event-time state, which knows the other. */
struct kwr_timers {
    timer_queue event;
    timer_queue *processing; /* NULL: its open failed */
};

static const char *const prefixes[DOMAINS] = { "timers/event/", "timers/processing/" };

/* ---- opening ---- */

static void queue_done(kwr_state *state) {
    timer_queue *q = (timer_queue *)state;
    const kwr_env *env = state->backend->env;
    kwr_timer_heads_free(&q->heads);
    kwr_kept_free(env, &q->wanted);
    kwr_kept_free(env, &q->popped[0]);
    kwr_kept_free(env, &q->popped[1]);
}

static kwr_status open_queue(kwr_backend *backend, const kwr_timers_descriptor *wanted,
                             kwr_time_domain domain, size_t handle_size, kwr_state **out) {
    char name[NAME_CAPACITY];
    const int size = snprintf(name, sizeof name, "%s%s", prefixes[domain], wanted->name);
    if (size < 0 || (size_t)size >= sizeof name)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "the name of timers that starts with '%.32s' is longer than "
                        "limits.name_bytes_max, which is %zu, with '%s' before it",
                        wanted->name, backend->limits.name_bytes_max, prefixes[domain]);
    const kwr_state_info info = {
        .kind = KWR_STATE_TIMER,
        .name = name,
        .namespace_type = wanted->namespace_type,
    };
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, handle_size, out, &fresh, NULL));
    if (fresh) {
        kwr_per_group_init(*out);
        (*out)->done = queue_done;
    }
    return KWR_OK;
}

static kwr_status open_timers(kwr_backend *backend, const kwr_timers_descriptor *descriptor,
                              kwr_timers **out) {
    kwr_error *err = &backend->error;
    kwr_timers_descriptor wanted;
    KWR_TRY(kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_timers_descriptor", err));
    if (wanted.name == NULL || wanted.name[0] == '\0')
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "timers need a name");
    kwr_state *event, *processing;
    KWR_TRY(open_queue(backend, &wanted, KWR_EVENT_TIME, sizeof(kwr_timers), &event));
    KWR_TRY(open_queue(backend, &wanted, KWR_PROCESSING_TIME, sizeof(timer_queue), &processing));
    kwr_timers *timers = (kwr_timers *)event;
    timers->processing = (timer_queue *)processing;
    *out = timers;
    return KWR_OK;
}

kwr_status kwr_timers_open(kwr_backend *backend, const kwr_timers_descriptor *descriptor,
                           kwr_timers **out, kwr_error *err) {
    const kwr_status status = open_timers(backend, descriptor, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

static kwr_backend *backend_of(const kwr_timers *timers) { return timers->event.state.backend; }

static kwr_status queue_of(kwr_timers *timers, kwr_time_domain domain, timer_queue **out) {
    switch (domain) {
    case KWR_EVENT_TIME: *out = &timers->event; return KWR_OK;
    case KWR_PROCESSING_TIME: *out = timers->processing; return KWR_OK;
    }
    return KWR_FAIL(&backend_of(timers)->error, KWR_ERR_RANGE, 0, "there is no time domain %d",
                    (int)domain);
}

/* The namespace of both is kept by the first; no address has one. */
kwr_status kwr_timers_set_namespace(kwr_timers *timers, kwr_slice name) {
    kwr_state *state = &timers->event.state;
    KWR_TRY(kwr_state_set_namespace(state, name));
    state->at.name = (kwr_slice){ 0 };
    return KWR_OK;
}

/* ---- registering and deleting ---- */

static kwr_slice kept_slice(const kwr_kept *kept) { return (kwr_slice){ kept->data, kept->size }; }

static kwr_slice rest_of(kwr_slice subkey) {
    return (kwr_slice){ (const uint8_t *)subkey.data + KWR_TIMER_TIME_BYTES,
                        subkey.size - KWR_TIMER_TIME_BYTES };
}

static void aim(timer_queue *q, uint32_t key_group) { q->state.at.key_group = key_group; }

/* The timer of the current key in q->wanted, the queue aimed at its key group. */
static kwr_status want(kwr_timers *timers, timer_queue *q, int64_t time_ms) {
    kwr_backend *backend = backend_of(timers);
    kwr_state *state = &q->state;
    if (time_ms == KWR_TIME_NONE)
        return KWR_FAIL(&backend->error, KWR_ERR_RANGE, 0,
                        "state '%s': KWR_TIME_NONE is not the time of a timer", state->label);
    if (!backend->has_key)
        return KWR_FAIL(&backend->error, KWR_ERR_MISUSE, 0,
                        "state '%s': there is no current key; set one by kwr_backend_set_key() or "
                        "kwr_key_batch_select()",
                        state->label);
    const kwr_slice name = kept_slice(&timers->event.state.name_copy);
    const size_t size = kwr_timer_size(backend->key.size, name.size);
    if (!kwr_kept_reserve(backend->env, &q->wanted, size))
        return kwr_state_failed(state, KWR_ERR_NOMEM, "write");
    kwr_timer_encode(time_ms, backend->key, name, q->wanted.data);
    q->wanted.size = size;
    aim(q, backend->key_group);
    return KWR_OK;
}

static uint32_t head_index(const timer_queue *q) {
    return q->state.at.key_group - q->state.backend->key_groups.first;
}

kwr_status kwr_timers_register(kwr_timers *timers, kwr_time_domain domain, int64_t time_ms) {
    timer_queue *q;
    KWR_TRY(queue_of(timers, domain, &q));
    KWR_TRY(want(timers, q, time_ms));
    kwr_state *state = &q->state;
    const kwr_slice subkey = kept_slice(&q->wanted);
    const kwr_status status =
        state->ops->sub_put(state->engine, &state->at, subkey, (kwr_slice){ 0 });
    if (status < KWR_OK) return kwr_state_failed(state, status, "register a timer");
    if (q->heads.count > 0)
        kwr_timer_heads_added(&q->heads, head_index(q), kwr_timer_order(time_ms), rest_of(subkey));
    return KWR_OK;
}

kwr_status kwr_timers_delete(kwr_timers *timers, kwr_time_domain domain, int64_t time_ms) {
    timer_queue *q;
    KWR_TRY(queue_of(timers, domain, &q));
    KWR_TRY(want(timers, q, time_ms));
    kwr_state *state = &q->state;
    const kwr_slice subkey = kept_slice(&q->wanted);
    const kwr_status status = state->ops->sub_remove(state->engine, &state->at, subkey);
    if (status < KWR_OK) return kwr_state_failed(state, status, "delete a timer");
    if (status == KWR_OK && q->heads.count > 0)
        kwr_timer_heads_removed(&q->heads, head_index(q), kwr_timer_order(time_ms),
                                rest_of(subkey));
    return KWR_OK;
}

/* ---- what comes first ---- */

static kwr_status misplaced(const timer_queue *q, uint32_t key_group) {
    return KWR_FAIL(&q->state.backend->error, KWR_ERR_CORRUPT, 0,
                    "state '%s': key group %u holds what is not a timer of it; close, and start "
                    "again from a checkpoint",
                    q->state.label, key_group);
}

/* Looks up the first timer of a group. */
static kwr_status look_up(timer_queue *q, uint32_t index) {
    kwr_state *state = &q->state;
    aim(q, state->backend->key_groups.first + index);
    kwr_slice subkey;
    /* None before the bound: an engine that keeps deleted keys for a while need not walk those of
     * all timers popped before. */
    uint8_t bound[KWR_TIMER_TIME_BYTES];
    kwr_put_be64(bound, q->heads.heads[index].order);
    const kwr_status status =
        state->ops->sub_seek(state->engine, &state->at, KWR_SEEK_AT_LEAST,
                             (kwr_slice){ bound, sizeof bound }, NULL, &subkey, NULL);
    if (status < KWR_OK) return kwr_state_failed(state, status, "find the first timer");
    if (status == KWR_NOT_FOUND) {
        kwr_timer_heads_empty(&q->heads, index);
        return KWR_OK;
    }
    if (subkey.size < KWR_TIMER_TIME_BYTES) return misplaced(q, state->at.key_group);
    if (!kwr_timer_heads_exact(&q->heads, index, kwr_get_be64(subkey.data), rest_of(subkey)))
        return kwr_state_failed(state, KWR_ERR_NOMEM, "find the first timer");
    return KWR_OK;
}

/* The group of the first timer, as an index of heads; KWR_NOT_FOUND: there is none. */
static kwr_status find_first(timer_queue *q, uint32_t *out) {
    kwr_backend *backend = q->state.backend;
    if (q->heads.count == 0 &&
        kwr_timer_heads_build(&q->heads, backend->env, backend->key_groups.count) < KWR_OK)
        return kwr_state_failed(&q->state, KWR_ERR_NOMEM, "find the first timer");
    for (;;) {
        const uint32_t index = kwr_timer_heads_first(&q->heads);
        switch (q->heads.heads[index].known) {
        case KWR_HEAD_EMPTY: return KWR_NOT_FOUND;
        case KWR_HEAD_EXACT: *out = index; return KWR_OK;
        case KWR_HEAD_BOUND: KWR_TRY(look_up(q, index)); break;
        }
    }
}

/* Makes the timer of a head whole, in the other one of q->popped, and takes it apart. */
static kwr_status take_apart(timer_queue *q, uint32_t index, kwr_kept **bytes, kwr_timer *out) {
    const kwr_timer_head *head = &q->heads.heads[index];
    const uint32_t key_group = q->state.backend->key_groups.first + index;
    kwr_kept *to = &q->popped[1 - q->turn];
    const size_t size = KWR_TIMER_TIME_BYTES + head->rest.size;
    if (!kwr_kept_reserve(q->state.backend->env, to, size))
        return kwr_state_failed(&q->state, KWR_ERR_NOMEM, "read");
    kwr_put_be64(to->data, head->order);
    if (head->rest.size > 0)
        memcpy(to->data + KWR_TIMER_TIME_BYTES, head->rest.data, head->rest.size);
    to->size = size;
    kwr_timer timer = { .key_group = key_group };
    if (!kwr_timer_decode(kept_slice(to), &timer.time_ms, &timer.key, &timer.name))
        return misplaced(q, key_group);
    *bytes = to;
    *out = timer;
    return KWR_OK;
}

kwr_status kwr_timers_next(kwr_timers *timers, kwr_time_domain domain, kwr_timer *out) {
    timer_queue *q;
    uint32_t index;
    kwr_kept *bytes;
    KWR_TRY(queue_of(timers, domain, &q));
    const kwr_status status = find_first(q, &index);
    if (status != KWR_OK) return status;
    return take_apart(q, index, &bytes, out);
}

kwr_status kwr_timers_next_time(kwr_timers *timers, kwr_time_domain domain, int64_t *out) {
    timer_queue *q;
    uint32_t index = 0;
    KWR_TRY(queue_of(timers, domain, &q));
    const kwr_status status = find_first(q, &index);
    if (status < KWR_OK) return status;
    *out = status == KWR_NOT_FOUND ? KWR_TIME_NONE : kwr_timer_time(q->heads.heads[index].order);
    return KWR_OK;
}

/* A stored key that could not have been current here would change foreign state. */
static kwr_status check_place(timer_queue *q, const kwr_timer *timer, uint64_t key_hash) {
    const kwr_backend *backend = q->state.backend;
    const bool fits = backend->key_fixed_size == 0 || timer->key.size == backend->key_fixed_size;
    const bool here = backend->engine_key_groups ||
                      kwr_key_group_of_hash(key_hash, backend->max_parallelism) == timer->key_group;
    return fits && here ? KWR_OK : misplaced(q, timer->key_group);
}

kwr_status kwr_timers_pop_due(kwr_timers *timers, kwr_time_domain domain, int64_t up_to_ms,
                              kwr_timer *out) {
    timer_queue *q;
    uint32_t index;
    kwr_kept *bytes;
    kwr_timer timer;
    KWR_TRY(queue_of(timers, domain, &q));
    kwr_status status = find_first(q, &index);
    if (status != KWR_OK) return status;
    if (q->heads.heads[index].order > kwr_timer_order(up_to_ms)) return KWR_NOT_FOUND;
    KWR_TRY(take_apart(q, index, &bytes, &timer));
    kwr_backend *backend = backend_of(timers);
    const uint64_t key_hash = kwr_key_hash(timer.key, backend->seed);
    KWR_TRY(check_place(q, &timer, key_hash));
    kwr_state *state = &q->state;
    aim(q, timer.key_group);
    status = state->ops->sub_remove(state->engine, &state->at, kept_slice(bytes));
    if (status < KWR_OK) return kwr_state_failed(state, status, "take a timer");
    if (status == KWR_NOT_FOUND) return misplaced(q, timer.key_group);
    kwr_timer_heads_removed(&q->heads, index, kwr_timer_order(timer.time_ms),
                            rest_of(kept_slice(bytes)));
    kwr_key_become(backend, timer.key, key_hash, timer.key_group);
    q->turn = 1 - q->turn;
    *out = timer;
    return KWR_OK;
}

kwr_status kwr_timers_count(kwr_timers *timers, kwr_time_domain domain, uint64_t *out) {
    timer_queue *q;
    KWR_TRY(queue_of(timers, domain, &q));
    kwr_state *state = &q->state;
    const kwr_key_group_range owned = state->backend->key_groups;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < owned.count; i++) {
        uint64_t count = 0;
        aim(q, owned.first + i);
        const kwr_status status = state->ops->sub_count(state->engine, &state->at, &count);
        if (status < KWR_OK) return kwr_state_failed(state, status, "count timers");
        sum += count;
    }
    *out = sum;
    return KWR_OK;
}
