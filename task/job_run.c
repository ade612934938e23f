/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running job: what tasks, time and the background report goes into the coordinator; the
 * actions it answers with wait as notes until the engine polls them.
 *
 * The order of notes is the promise: an observer sees "publishing" before anything is published,
 * "published" before any task hears of it, and the end after the last completion was sent.
 */
#include "task/job.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/planted.h"

static const uint64_t NS_PER_MS = 1000000;
static const uint64_t TIDY_RETRY_NS = 1000000000;

static uint64_t job_now(const kwr_job *job) {
    return job->env->clock->mono_ns(job->env->clock->ctx);
}

static int64_t job_wall(const kwr_job *job) {
    return job->env->clock->wall_ms(job->env->clock->ctx);
}

/* ---- notes ---- */

static bool notes_reserve(kwr_job *job, size_t count) {
    if (job->note_first > 0) {
        memmove(job->notes, job->notes + job->note_first, job->note_count * sizeof *job->notes);
        job->note_first = 0;
    }
    return kwr_grow_array(job->env, (void **)&job->notes, &job->note_capacity,
                          job->note_count + count, sizeof *job->notes);
}

/* There is room: reserved before. */
static kwr_note *note_add(kwr_job *job, kwr_note_kind kind, uint64_t checkpoint) {
    kwr_note *note = &job->notes[job->note_first + job->note_count++];
    *note = (kwr_note){ .kind = kind, .checkpoint = checkpoint };
    return note;
}

static kwr_note *note_head(kwr_job *job) {
    return job->note_count == 0 ? NULL : &job->notes[job->note_first];
}

static void note_done(kwr_job *job) {
    job->note_first++;
    job->note_count--;
    job->note_stage = 0;
}

/* ---- actions of the coordinator ---- */

static void parts_drop(kwr_job *job) {
    for (size_t i = 0; i < job->task_count; i++)
        kwr_bytes_free(&job->tasks[i].part);
}

static void act_trigger(kwr_job *job, const kwr_coordinator_action *action) {
    parts_drop(job);
    job->checkpoint = action->checkpoint;
    job->final = action->final;
    job->triggered_ms = job_wall(job);
    job->triggered_ns = job_now(job);
    note_add(job, KWR_NOTE_TRIGGER, action->checkpoint)->final = action->final;
}

/* Names the first tasks that have not acknowledged. */
static void missing_text(const kwr_job *job, char *out, size_t capacity) {
    size_t used = 0, missing = 0;
    out[0] = '\0';
    for (size_t i = 0; i < job->task_count; i++) {
        const kwr_job_task *t = &job->tasks[i];
        if (t->part.data != NULL || ++missing > 8) continue;
        const int n = snprintf(out + used, capacity - used, "%s%s-%u", used > 0 ? ", " : "",
                               job->operators[t->op].id, t->subtask);
        used += n > 0 && (size_t)n < capacity - used ? (size_t)n : capacity - used - 1;
    }
    if (missing > 8) snprintf(out + used, capacity - used, " and %zu more", missing - 8);
}

static void act_abort(kwr_job *job, const kwr_coordinator_action *action) {
    kwr_note *note = note_add(job, KWR_NOTE_ABORT, action->checkpoint);
    if (job->why.status != KWR_OK) {
        note->error = job->why;
    } else if (action->status == KWR_ERR_TIMEOUT) {
        char missing[512];
        missing_text(job, missing, sizeof missing);
        kwr_error_set(&note->error, KWR_ERR_TIMEOUT, 0,
                      "checkpoint %" PRIu64 " timed out after %" PRIu64 " ms; no answer from: %s",
                      action->checkpoint, (job_now(job) - job->triggered_ns) / NS_PER_MS, missing);
    } else {
        kwr_error_set(&note->error, action->status, 0, "checkpoint %" PRIu64 " was aborted (%s)",
                      action->checkpoint, kwr_status_name(action->status));
    }
    job->publish = KWR_PUBLISH_NONE;
    parts_drop(job);
    kwr_log_line(job->env, KWR_LOG_WARNING, "task", "job '%s': checkpoint %" PRIu64 " aborted: %s",
                 job->dirs.job, action->checkpoint, note->error.text);
}

static void act_fail(kwr_job *job, const kwr_coordinator_action *action) {
    kwr_note *note = note_add(job, KWR_NOTE_FAIL, action->checkpoint);
    job->failed = true;
    if (job->why.status != KWR_OK)
        note->error = job->why;
    else
        kwr_error_set(&note->error, action->status, 0, "job '%s': the attempt failed (%s)",
                      job->dirs.job, kwr_status_name(action->status));
    kwr_log_line(job->env, KWR_LOG_ERROR, "task", "job '%s' failed: %s", job->dirs.job,
                 note->error.text);
}

static void job_act(kwr_job *job, const kwr_coordinator_action *action, bool finishes) {
    switch (action->kind) {
    case KWR_DO_TRIGGER: act_trigger(job, action); return;
    case KWR_DO_PUBLISH:
        job->completed_ms = job_wall(job);
        job->publish = KWR_PUBLISH_ANNOUNCED;
        note_add(job, KWR_NOTE_PUBLISH, action->checkpoint)->final = job->final;
        return;
    case KWR_DO_ABORT: act_abort(job, action); return;
    case KWR_DO_COMPLETE:
        note_add(job, KWR_NOTE_COMPLETE, action->checkpoint)->final = finishes;
        return;
    case KWR_DO_FINISH:
        note_add(job, KWR_NOTE_FINISH, action->checkpoint)->final = action->final;
        return;
    case KWR_DO_FAIL: act_fail(job, action); return;
    case KWR_DO_IGNORE_ACK: return;
    }
}

/* Room for all notes of one step, and those its caller adds. */
enum { STEP_NOTES = KWR_COORDINATOR_ACTIONS_MAX + 2 };

/* All or nothing: KWR_ERR_NOMEM before the coordinator has seen the event. */
static kwr_status job_step(kwr_job *job, kwr_coordinator_event event, bool *ignored) {
    kwr_coordinator_action actions[KWR_COORDINATOR_ACTIONS_MAX];
    size_t count = 0;
    bool finishes = false;
    if (!notes_reserve(job, STEP_NOTES)) return KWR_ERR_NOMEM;
    event.now_ns = job_now(job);
    KWR_TRY(kwr_coordinator_step(job->coordinator, &event, actions, &count));
    for (size_t i = 0; i < count; i++) {
        if (actions[i].kind == KWR_DO_FINISH) finishes = true;
        if (actions[i].kind == KWR_DO_IGNORE_ACK && ignored != NULL) *ignored = true;
    }
    for (size_t i = 0; i < count && !job->failed; i++)
        job_act(job, &actions[i], finishes);
    return KWR_OK;
}

static kwr_status step_task(kwr_job *job, kwr_coordinator_event_kind kind, uint32_t task) {
    return job_step(job, (kwr_coordinator_event){ .kind = kind, .task = task }, NULL);
}

/*
 * The attempt is over. Nothing that waited is sent: of a checkpoint whose publishing may have
 * succeeded nobody may hear that it did, nor that it did not.
 */
static void job_lose(kwr_job *job, const kwr_error *why) {
    kwr_coordinator_action actions[KWR_COORDINATOR_ACTIONS_MAX];
    size_t count = 0;
    if (job->failed) return;
    job->failed = true;
    job->note_first = job->note_count = 0;
    job->note_stage = 0;
    note_add(job, KWR_NOTE_FAIL, job->checkpoint)->error = *why;
    kwr_log_line(job->env, KWR_LOG_ERROR, "task", "job '%s' failed: %s", job->dirs.job, why->text);
    if (job->coordinator == NULL) return;
    const kwr_coordinator_event event = { .kind = KWR_ON_LOST,
                                          .now_ns = job_now(job),
                                          .status = why->status };
    (void)(kwr_coordinator_step(job->coordinator, &event, actions, &count) < KWR_OK);
}

/* ---- the background ---- */

static bool job_idle(const kwr_job *job) { return job->doing == KWR_IDLE; }
static bool work_done(kwr_job *job) {
    return job->doing != KWR_IDLE && atomic_load_explicit(&job->done, memory_order_acquire);
}

static kwr_status absorb_published(kwr_job *job) {
    const uint64_t checkpoint = job->checkpoint; /* the step may trigger the next one */
    const uint64_t duration = job_now(job) - job->triggered_ns;
    kwr_note *note = note_add(job, KWR_NOTE_PUBLISHED, checkpoint);
    note->final = job->final;
    note->slot = job->slot.number;
    note->bytes = job->published_bytes;
    note->entries = job->published_entries;
    note->duration_ns = duration;
    const kwr_coordinator_event event = { .kind = KWR_ON_PUBLISHED, .checkpoint = checkpoint };
    const kwr_status status = job_step(job, event, NULL);
    if (status < KWR_OK) {
        job->note_count--;
        return status;
    }
    job->next_slot = job->slot.number + 1;
    job->parent_checkpoint = checkpoint;
    job->parent_generation = job->claim.fence.generation;
    kwr_metric(job->env, "checkpoint_bytes", (int64_t)job->published_bytes);
    kwr_metric(job->env, "checkpoint_duration_ns", (int64_t)duration);
    return KWR_OK;
}

static kwr_status absorb_publish(kwr_job *job) {
    switch (job->outcome) {
    case KWR_PUBLISH_DONE: return absorb_published(job);
    case KWR_PUBLISH_LOST: job_lose(job, &job->result); return KWR_OK;
    case KWR_PUBLISH_NOT: break;
    }
    job->why = job->result;
    const kwr_coordinator_event event = { .kind = KWR_ON_PUBLISH_FAILED,
                                          .checkpoint = job->checkpoint,
                                          .status = job->result.status };
    const kwr_status status = job_step(job, event, NULL);
    job->why = (kwr_error){ 0 };
    return status;
}

static kwr_status job_absorb(kwr_job *job) {
    if (!work_done(job)) return KWR_OK;
    if (!notes_reserve(job, STEP_NOTES)) return KWR_ERR_NOMEM;
    if (job->posted) {
        /* `done` is set inside the work: the executor may still be putting it away. */
        job->env->executor->wait(job->env->executor->ctx, &job->work);
        job->posted = false;
    }
    if (job->doing == KWR_PUBLISHING) {
        if (!job->failed) KWR_TRY(absorb_publish(job));
        parts_drop(job);
        job->publish = KWR_PUBLISH_NONE;
    } else if (job->result.status == KWR_ERR_FENCED) {
        job_lose(job, &job->result);
    } else if (job->result.status != KWR_OK) {
        kwr_log_line(job->env, KWR_LOG_WARNING, "task",
                     "job '%s': old checkpoints stay for now: %s", job->dirs.job, job->result.text);
    }
    job->doing = KWR_IDLE;
    return KWR_OK;
}

static void background_post(kwr_job *job, kwr_job_doing what) {
    const kwr_executor *executor = job->env->executor;
    atomic_store_explicit(&job->done, false, memory_order_relaxed);
    job->result = (kwr_error){ 0 };
    job->outcome = KWR_PUBLISH_NOT;
    job->doing = what;
    job->work = (kwr_work){ .run = what == KWR_PUBLISHING ? kwr_job_publish_run : kwr_job_tidy_run,
                            .ctx = job };
    job->posted = true;
    const kwr_status status = executor->blocking(executor->ctx, &job->work);
    if (status >= KWR_OK) return;
    job->posted = false;
    kwr_error_set(&job->result, status, 0, "the executor did not take work of job '%s'",
                  job->dirs.job);
    atomic_store_explicit(&job->done, true, memory_order_relaxed);
    if (what != KWR_TIDYING) return;
    job->want_tidy = true;
    job->tidy_at_ns = job_now(job) + TIDY_RETRY_NS;
}

static bool tidy_is_due(const kwr_job *job) {
    return job->want_tidy && job_now(job) >= job->tidy_at_ns;
}

static void background_start(kwr_job *job) {
    if (!job_idle(job) || job->failed) return;
    if (job->publish == KWR_PUBLISH_READY) {
        job->publish = KWR_PUBLISH_RUNNING;
        background_post(job, KWR_PUBLISHING);
    } else if (tidy_is_due(job)) {
        job->want_tidy = false;
        background_post(job, KWR_TIDYING);
    }
}

/* ---- events ---- */

static void event_send(kwr_job *job, const kwr_message *message, uint32_t task,
                       kwr_job_event *out) {
    kwr_message m = *message;
    m.generation = job->claim.fence.generation;
    memcpy(m.uid, job->claim.fence.job_uid, sizeof m.uid);
    kwr_message_write(&m, job->message);
    out->kind = KWR_JOB_SEND;
    out->task = task;
    out->message = (kwr_slice){ job->message, kwr_message_size(&m) };
}

static bool is_source(const kwr_job *job, uint32_t task) {
    return (job->operators[job->tasks[task].op].roles & KWR_TASK_SOURCE) != 0;
}

/* The first source numbered `from` or above, KWR_NO_TASK when there is none. */
static uint32_t next_source(const kwr_job *job, uint32_t from) {
    for (uint32_t i = from; i < job->task_count; i++)
        if (is_source(job, i)) return i;
    return KWR_NO_TASK;
}

static void hand_out_trigger(kwr_job *job, const kwr_note *note, kwr_job_event *out) {
    /* Stage: 0, then 1 + the lowest task that may have to be told next. */
    const uint32_t source = next_source(job, job->note_stage == 0 ? 0 : job->note_stage - 1);
    if (job->note_stage == 0) {
        job->note_stage = 1 + source;
        out->kind = KWR_JOB_TRIGGERED;
        return;
    }
    const kwr_message message = { .kind = KWR_MESSAGE_TRIGGER,
                                  .checkpoint = note->checkpoint,
                                  .triggered_ms = job->triggered_ms,
                                  .last = note->final };
    event_send(job, &message, source, out);
    job->note_stage = source + 2;
    if (next_source(job, source + 1) == KWR_NO_TASK) note_done(job);
}

static void hand_out(kwr_job *job, kwr_job_event *out) {
    const kwr_note *note = note_head(job);
    *out = (kwr_job_event){ .checkpoint = note->checkpoint, .final = note->final };
    switch (note->kind) {
    case KWR_NOTE_TRIGGER: hand_out_trigger(job, note, out); return;
    case KWR_NOTE_PUBLISH:
        out->kind = KWR_JOB_PUBLISHING;
        out->slot = job->next_slot;
        if (job->publish == KWR_PUBLISH_ANNOUNCED) job->publish = KWR_PUBLISH_READY;
        break;
    case KWR_NOTE_PUBLISHED:
        out->kind = KWR_JOB_PUBLISHED;
        out->slot = note->slot;
        out->bytes = note->bytes;
        out->duration_ns = note->duration_ns;
        out->entries = note->entries;
        break;
    case KWR_NOTE_COMPLETE:
        event_send(job,
                   &(kwr_message){ .kind = KWR_MESSAGE_COMPLETE,
                                   .checkpoint = note->checkpoint,
                                   .last = note->final },
                   KWR_ALL_TASKS, out);
        job->want_tidy = true;
        job->tidy_at_ns = 0;
        break;
    case KWR_NOTE_ABORT:
        if (job->note_stage++ == 0) {
            event_send(job,
                       &(kwr_message){ .kind = KWR_MESSAGE_ABORT,
                                       .checkpoint = note->checkpoint,
                                       .status = note->error.status },
                       KWR_ALL_TASKS, out);
            return;
        }
        out->kind = KWR_JOB_ABORTED;
        out->error = note->error;
        break;
    case KWR_NOTE_FINISH: out->kind = KWR_JOB_FINISHED; break;
    case KWR_NOTE_FAIL:
        out->kind = KWR_JOB_FAILED;
        out->error = note->error;
        break;
    }
    note_done(job);
}

kwr_status kwr_job_poll(kwr_job *job, kwr_job_event *out) {
    for (;;) {
        KWR_TRY(job_absorb(job));
        if (job->note_count == 0 && job->started && !job->failed &&
            job_now(job) >= kwr_coordinator_deadline(job->coordinator))
            KWR_TRY(job_step(job, (kwr_coordinator_event){ .kind = KWR_ON_TICK }, NULL));
        background_start(job);
        if (job->note_count > 0) {
            hand_out(job, out);
            return KWR_OK;
        }
        /* An executor may have done the work before it returned. */
        if (!work_done(job)) return KWR_NOT_FOUND;
    }
}

uint64_t kwr_job_deadline(const kwr_job *job) {
    if (job->note_count > 0) return 0;
    if (job->doing != KWR_IDLE) {
        if (atomic_load_explicit(&job->done, memory_order_acquire)) return 0;
    } else if (!job->failed) {
        if (job->publish == KWR_PUBLISH_READY) return 0;
        if (tidy_is_due(job)) return 0;
    }
    if (job->failed || !job->started) return UINT64_MAX;
    const uint64_t next = kwr_coordinator_deadline(job->coordinator);
    return job->want_tidy && job->tidy_at_ns < next ? job->tidy_at_ns : next;
}

/* ---- what comes in ---- */

static bool message_is_ours(const kwr_job *job, const kwr_message *m) {
    return (m->generation == job->claim.fence.generation || KWR_PLANTED(foreign_ack_counted)) &&
           memcmp(m->uid, job->claim.fence.job_uid, sizeof m->uid) == 0;
}

/* A task of that number says that it is that subtask. */
static bool sender_is_known(const kwr_job *job, const kwr_message *m) {
    if (m->task >= job->task_count) return false;
    const kwr_job_task *t = &job->tasks[m->task];
    const char *id = job->operators[t->op].id;
    return t->subtask == m->subtask && strlen(id) == m->operator_id.size &&
           memcmp(id, m->operator_id.data, m->operator_id.size) == 0;
}

static kwr_status receive_ack(kwr_job *job, const kwr_message *m) {
    kwr_bytes part = { 0 };
    bool ignored = false;
    if (m->part.size == 0) return KWR_ERR_CORRUPT;
    /* The message that said so may have been lost. */
    if (m->last && is_source(job, m->task)) KWR_TRY(step_task(job, KWR_ON_SOURCE_ENDED, m->task));
    KWR_TRY(kwr_bytes_new(job->env, m->part.size, &part));
    memcpy(part.data, m->part.data, m->part.size);
    /* Before the step: when this is the last one, the step asks for publishing. */
    kwr_job_task *t = &job->tasks[m->task];
    const kwr_coordinator_event event = { .kind = KWR_ON_ACK,
                                          .checkpoint = m->checkpoint,
                                          .generation = KWR_PLANTED(foreign_ack_counted)
                                                            ? job->claim.fence.generation
                                                            : m->generation,
                                          .task = m->task };
    const kwr_status status = job_step(job, event, &ignored);
    if (status < KWR_OK || ignored) {
        kwr_bytes_free(&part);
        if (ignored)
            kwr_log_line(job->env, KWR_LOG_INFO, "task",
                         "job '%s': ack of checkpoint %" PRIu64
                         " by %s-%u counts for nothing: late or "
                         "repeated",
                         job->dirs.job, m->checkpoint, job->operators[t->op].id, t->subtask);
        return status;
    }
    kwr_bytes_free(&t->part);
    t->part = part;
    t->entries = m->entries;
    t->bytes = m->bytes;
    return KWR_OK;
}

static kwr_status receive_decline(kwr_job *job, const kwr_message *m) {
    const kwr_job_task *t = &job->tasks[m->task];
    kwr_error_set(&job->why, m->status, 0, "checkpoint %" PRIu64 " declined by %s-%u: %.*s",
                  m->checkpoint, job->operators[t->op].id, t->subtask, (int)m->text.size,
                  m->text.size > 0 ? (const char *)m->text.data : "");
    const kwr_coordinator_event event = { .kind = KWR_ON_DECLINE,
                                          .checkpoint = m->checkpoint,
                                          .generation = m->generation,
                                          .task = m->task,
                                          .status = m->status };
    const kwr_status status = job_step(job, event, NULL);
    job->why = (kwr_error){ 0 };
    return status;
}

kwr_status kwr_job_receive(kwr_job *job, kwr_slice message) {
    kwr_message m = { 0 };
    kwr_error err = { 0 };
    const kwr_status status = kwr_message_decode(&job->limits, message, &m, &err);
    if (status < KWR_OK) {
        kwr_log_line(job->env, KWR_LOG_WARNING, "task", "job '%s': %s", job->dirs.job, err.text);
        return status;
    }
    if (job->failed) return KWR_OK;
    if (!message_is_ours(job, &m)) {
        kwr_log_line(job->env, KWR_LOG_INFO, "task",
                     "job '%s': a message of another job or of generation %" PRIu64 " is ignored",
                     job->dirs.job, m.generation);
        return KWR_OK;
    }
    const bool from_task = m.kind == KWR_MESSAGE_ACK || m.kind == KWR_MESSAGE_DECLINE ||
                           m.kind == KWR_MESSAGE_SOURCE_ENDED;
    if (!from_task || !sender_is_known(job, &m)) {
        kwr_log_line(job->env, KWR_LOG_WARNING, "task",
                     "job '%s': a message of kind %d that none of its tasks would send is ignored",
                     job->dirs.job, (int)m.kind);
        return KWR_OK;
    }
    if (m.kind == KWR_MESSAGE_SOURCE_ENDED) {
        if (!is_source(job, m.task)) return KWR_OK;
        job->tasks[m.task].ended = true; /* the start looks at it */
        return job->started ? step_task(job, KWR_ON_SOURCE_ENDED, m.task) : KWR_OK;
    }
    if (!job->started) return KWR_OK;
    return m.kind == KWR_MESSAGE_ACK ? receive_ack(job, &m) : receive_decline(job, &m);
}

kwr_status kwr_job_trigger(kwr_job *job) {
    if (!job->started || job->failed) return KWR_ERR_MISUSE;
    return job_step(job, (kwr_coordinator_event){ .kind = KWR_ON_TRIGGER }, NULL);
}

kwr_status kwr_job_stop(kwr_job *job) {
    if (!job->started || job->failed) return KWR_ERR_MISUSE;
    return job_step(job, (kwr_coordinator_event){ .kind = KWR_ON_STOP }, NULL);
}

void kwr_job_fail(kwr_job *job, const kwr_error *why) {
    kwr_error unnamed = { 0 };
    if (why == NULL || why->status >= KWR_OK) {
        kwr_error_set(&unnamed, KWR_ERR_CANCELLED, 0, "a task of job '%s' was lost", job->dirs.job);
        why = &unnamed;
    }
    job_lose(job, why);
}

/* ---- the start ---- */

KWR_DEFINE_CLEANUP(kwr_coordinator, kwr_coordinator_free)

static kwr_status coordinator_make(const kwr_job *job, kwr_coordinator **out, kwr_error *err) {
    const kwr_job_options *o = &job->options;
    const kwr_coordinator_options options = {
        .struct_size = sizeof options,
        .env = job->env,
        .generation = job->claim.fence.generation,
        .first_checkpoint = job->highest + 1,
        .tasks = (uint32_t)job->task_count,
        .interval_ns = o->interval_ms * NS_PER_MS,
        .min_pause_ns = o->min_pause_ms * NS_PER_MS,
        .timeout_ns = o->timeout_ms * NS_PER_MS,
        .tolerable_failures = o->tolerable_failures,
        .tolerate_all = o->tolerate_all,
    };
    return kwr_coordinator_new(&options, out, err);
}

kwr_status kwr_job_start(kwr_job *job, kwr_error *err) {
    if (job->started) return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "the job is started already");
    if (job->failed) return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "the attempt has failed");
    KWR_TRY(kwr_job_plan_check(job, err));
    if (next_source(job, 0) == KWR_NO_TASK)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "a job needs at least one task that is a source");
    KWR_CLEANUP(kwr_coordinator_free_p) kwr_coordinator *coordinator = NULL;
    KWR_TRY(coordinator_make(job, &coordinator, err));
    if (job->retention == NULL &&
        kwr_retention_new(job->env, &job->limits, &job->retention) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to start job '%s'", job->dirs.job);
    job->coordinator = coordinator;
    kwr_status status = KWR_OK;
    const uint32_t tasks = (uint32_t)job->task_count;
    for (uint32_t i = 0; i < tasks && status >= KWR_OK; i++)
        if (is_source(job, i)) status = step_task(job, KWR_ON_SOURCE, i);
    if (status >= KWR_OK) status = step_task(job, KWR_ON_START, 0);
    for (uint32_t i = 0; i < tasks && status >= KWR_OK; i++)
        if (job->tasks[i].ended) status = step_task(job, KWR_ON_SOURCE_ENDED, i);
    if (status < KWR_OK) {
        job->coordinator = NULL;
        job->note_first = job->note_count = 0;
        return KWR_FAIL(err, status, 0, "job '%s' cannot start", job->dirs.job);
    }
    (void)KWR_TAKE(coordinator);
    kwr_job_plan_close(job);
    job->started = true;
    job->want_tidy = true;
    background_start(job);
    return KWR_OK;
}
