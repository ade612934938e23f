/* SPDX-License-Identifier: Apache-2.0 */
/* One parallel task: opened from its assignment, spoken to by messages and barriers. */
#include "task/task.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "backend/engine.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/planted.h"
#include "keyweir/snapshot.h"

kwr_status kwr_task_failed(kwr_task *task, kwr_status status, const char *format, ...) {
    char text[KWR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    kwr_error_set(&task->error, status, 0, "%s", text);
    return status;
}

void kwr_task_wake(const kwr_task *task) {
    if (task->wake != NULL) task->wake(task->wake_ctx);
}

/* ---- open and close ---- */

static void task_free(kwr_task *task) {
    const kwr_env *env = task->env;
    kwr_task_part_end(task);
    kwr_task_remove_end(task);
    kwr_task_remove_now(task, &task->garbage);
    kwr_buffer_free(&task->garbage);
    /* Acknowledged and undecided: the log will tell the next attempt. */
    kwr_task_pledge_complete(task, UINT64_MAX);
    kwr_bytes_free(&task->lent);
    kwr_task_items_free(task);
    kwr_aligner_free(task->aligner);
    kwr_backend_close(task->operators);
    kwr_backend_close(task->backend);
    kwr_task_directory_close(task);
    kwr_lineage_free(task->lineage);
    kwr_free(env, task, sizeof *task);
}
KWR_DEFINE_CLEANUP(kwr_task, task_free)
KWR_DEFINE_CLEANUP(kwr_subtask_part, kwr_subtask_part_free)

/* `*given`: as decoded, borrowed from the options. */
static kwr_status assignment_keep(kwr_task *task, const kwr_task_options *o, kwr_assignment *given,
                                  kwr_error *err) {
    kwr_assignment a = { 0 };
    KWR_TRY(kwr_assignment_decode(&task->limits, o->assignment, &a, err));
    *given = a;
    memcpy(task->job, a.job.data, a.job.size);
    memcpy(task->operator_id, a.operator_id.data, a.operator_id.size);
    a.job.data = task->job;
    a.operator_id.data = task->operator_id;
    a.part = (kwr_slice){ 0 };
    a.keyed = a.operators = a.states = (kwr_packed){ 0 };
    task->assignment = a;
    task->completed = a.restored_checkpoint;
    const bool source = (a.roles & KWR_TASK_SOURCE) != 0;
    if (source != (o->channels == 0))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "'%s' has %u channels: a source has none (it gets triggers), any other "
                        "task at least one",
                        task->operator_id, o->channels);
    return KWR_OK;
}

static kwr_status backend_restore(kwr_task *task, const kwr_task_options *o,
                                  const kwr_packed *packed, kwr_error *err) {
    const kwr_assignment *a = &task->assignment;
    const kwr_engine_ops *engine = o->engine == NULL ? NULL : kwr_engine_find(o->engine);
    if (engine != NULL && engine->local_files) {
        if (o->state_directory == NULL || o->state_directory[0] == '\0')
            return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                            "engine '%s' keeps its state in local files: "
                            "kwr_task_options.state_directory must name a directory for them",
                            o->engine);
        KWR_TRY(kwr_task_directory_open(task, o->state_directory, err));
    }
    const kwr_backend_options options = {
        .struct_size = sizeof options,
        .env = task->env,
        .resources = o->resources,
        .engine = o->engine,
        .max_parallelism = a->max_parallelism,
        .key_groups = kwr_key_groups_of(a->subtask, a->parallelism, a->max_parallelism),
        .seed = a->seed,
        .engine_key_groups = a->engine_key_groups,
        .key_type = o->key_type,
        .limits = task->limits,
        .directory = task->database,
        .loading = o->loading,
        .load_share = o->load_share,
        .load_wake = o->wake,
        .load_wake_ctx = o->wake_ctx,
    };
    KWR_TRY(kwr_lineage_new(task->env, a->uid, task->operator_id, &task->lineage, err));
    if (packed->count == 0) return kwr_backend_open(&options, &task->backend, err);
    kwr_slice *handles = kwr_alloc_array(task->env, packed->count, sizeof *handles);
    if (handles == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore '%s'", task->operator_id);
    size_t at = 0;
    for (uint32_t i = 0; i < packed->count; i++)
        handles[i] = kwr_packed_next(packed, &at);
    const kwr_status status =
        kwr_snapshot_resume(&options, task->storage, task->job, handles, packed->count,
                            task->lineage, &task->backend, err);
    kwr_free(task->env, handles, packed->count * sizeof *handles);
    return status;
}

static kwr_status task_restore(kwr_task *task, const kwr_task_options *o,
                               const kwr_assignment *given, kwr_error *err) {
    if (given->part.size > 0) {
        KWR_CLEANUP(kwr_subtask_part_free_p) kwr_subtask_part *content = NULL;
        char what[KWR_OPERATOR_ID_MAX + 32];
        snprintf(what, sizeof what, "share of %s-%u", task->operator_id, task->assignment.subtask);
        KWR_TRY(
            kwr_subtask_part_decode(task->env, &task->limits, given->part, what, &content, err));
        KWR_TRY(kwr_task_items_restore(task, &content->subtask, err));
    }
    if ((task->assignment.roles & KWR_TASK_KEYED) != 0)
        KWR_TRY(backend_restore(task, o, &given->keyed, err));
    return kwr_task_operator_restore(task, given, err);
}

kwr_status kwr_task_open(const kwr_task_options *options, kwr_task **out, kwr_error *err) {
    kwr_task_options o = { 0 };
    KWR_TRY(kwr_options_copy(options, &o, sizeof o, "kwr_task_options", err));
    if (o.env == NULL || o.storage == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "a task needs env and storage");
    kwr_limits limits = { 0 };
    KWR_TRY(kwr_limits_complete(&o.limits, &limits, err));
    KWR_CLEANUP(task_free_p) kwr_task *task = kwr_calloc(o.env, sizeof *task);
    if (task == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a task");
    task->env = o.env;
    task->storage = o.storage;
    task->limits = limits;
    task->resources = o.resources;
    task->wake = o.wake;
    task->wake_ctx = o.wake_ctx;
    task->snapshot_threads = o.snapshot_threads;
    task->channels = o.channels;
    task->part.files.env = task->ack_files.env = task->env;
    task->garbage.env = task->removed.env = task->env;
    atomic_init(&task->done, false);
    atomic_init(&task->remove_done, false);
    kwr_assignment given = { 0 };
    KWR_TRY(assignment_keep(task, &o, &given, err));
    if (o.channels > 0)
        KWR_TRY(kwr_aligner_new(task->env, o.channels, task->assignment.generation, &task->aligner,
                                err));
    KWR_TRY(kwr_storage_local_copy_claim(task->storage, task->job, task->assignment.uid, err));
    KWR_TRY(task_restore(task, &o, &given, err));
    *out = KWR_TAKE(task);
    return KWR_OK;
}

void kwr_task_close(kwr_task *task) {
    if (task != NULL) task_free(task);
}

const kwr_error *kwr_task_error(const kwr_task *task) { return &task->error; }
kwr_backend *kwr_task_backend(kwr_task *task) { return task->backend; }
uint64_t kwr_task_restored(const kwr_task *task) { return task->assignment.restored_checkpoint; }
uint64_t kwr_task_generation(const kwr_task *task) { return task->assignment.generation; }

/* ---- barriers ---- */

static uint64_t task_now(const kwr_task *task) {
    return task->env->clock->mono_ns(task->env->clock->ctx);
}

/* A checkpoint that this task will not take: the job has to hear of it. */
static void alignment_aborted(kwr_task *task, const kwr_alignment *alignment) {
    if (!alignment->abort || alignment->aborted <= task->aborted) return;
    kwr_error why = { 0 };
    const kwr_status status =
        alignment->abort_reason < KWR_OK ? alignment->abort_reason : KWR_ERR_DECLINED;
    kwr_error_set(&why, status, 0, "%s",
                  status == KWR_ERR_CANCELLED ? "cancelled by a task before this one"
                                              : "a newer barrier came before all of its own");
    kwr_task_decline_add(task, alignment->aborted, &why);
}

static kwr_status aligner_failed(kwr_task *task, kwr_status status, uint32_t channel) {
    return kwr_task_failed(task, status, "'%s': a barrier or end on channel %u of %u: %s",
                           task->operator_id, channel, task->channels, kwr_status_name(status));
}

kwr_status kwr_task_barrier(kwr_task *task, uint32_t channel, const kwr_barrier *barrier,
                            kwr_alignment *out) {
    if (task->aligner == NULL) return aligner_failed(task, KWR_ERR_MISUSE, channel);
    kwr_alignment alignment = { 0 };
    const kwr_status status =
        kwr_aligner_barrier(task->aligner, channel, barrier, task_now(task), &alignment);
    if (status < KWR_OK) return aligner_failed(task, status, channel);
    alignment_aborted(task, &alignment);
    *out = alignment;
    return KWR_OK;
}

kwr_status kwr_task_channel_end(kwr_task *task, uint32_t channel, kwr_alignment *out) {
    if (task->aligner == NULL) return aligner_failed(task, KWR_ERR_MISUSE, channel);
    kwr_alignment alignment = { 0 };
    const kwr_status status = kwr_aligner_end(task->aligner, channel, task_now(task), &alignment);
    if (status < KWR_OK) return aligner_failed(task, status, channel);
    alignment_aborted(task, &alignment);
    *out = alignment;
    return KWR_OK;
}

/* ---- messages ---- */

kwr_status kwr_task_source_ended(kwr_task *task) {
    if ((task->assignment.roles & KWR_TASK_SOURCE) == 0)
        return kwr_task_failed(task, KWR_ERR_MISUSE, "'%s' is not a source", task->operator_id);
    if (!task->ended) {
        task->ended = true;
        kwr_task_wake(task);
    }
    return KWR_OK;
}

static kwr_status say(kwr_task *task, kwr_message *m) {
    const kwr_assignment *a = &task->assignment;
    m->generation = a->generation;
    m->task = a->task;
    m->operator_id = a->operator_id;
    m->subtask = a->subtask;
    memcpy(m->uid, a->uid, sizeof m->uid);
    return kwr_message_encode(task->env, &task->limits, m, &task->lent, &task->error);
}

kwr_status kwr_task_poll(kwr_task *task, kwr_slice *message) {
    kwr_bytes_free(&task->lent);
    kwr_task_absorb(task);
    if (task->ack_checkpoint != 0) {
        task->lent = task->ack;
        task->ack = (kwr_bytes){ 0 };
        kwr_task_pledge_add(task, task->ack_checkpoint, &task->ack_files);
        task->ack_checkpoint = 0;
    } else if (task->declined != 0) {
        const char *text = task->decline.text;
        KWR_TRY(say(task, &(kwr_message){ .kind = KWR_MESSAGE_DECLINE,
                                          .checkpoint = task->declined,
                                          .status = task->decline.status,
                                          .text = { text, strlen(text) } }));
        task->declined = 0;
    } else if (task->ended && !task->ended_said) {
        KWR_TRY(say(task, &(kwr_message){ .kind = KWR_MESSAGE_SOURCE_ENDED }));
        task->ended_said = true;
    } else {
        return KWR_NOT_FOUND;
    }
    *message = (kwr_slice){ task->lent.data, task->lent.size };
    return KWR_OK;
}

static void receive_trigger(kwr_task *task, const kwr_message *m, kwr_task_event *event) {
    const bool source = (task->assignment.roles & KWR_TASK_SOURCE) != 0;
    if (!source || (m->checkpoint <= task->triggered && !KWR_PLANTED(trigger_taken_twice)) ||
        (m->checkpoint <= task->taken && !KWR_PLANTED(trigger_taken_twice)) ||
        m->checkpoint <= task->aborted || m->checkpoint <= task->completed)
        return;
    task->triggered = m->checkpoint;
    event->kind = KWR_TASK_TRIGGER;
    event->checkpoint = m->checkpoint;
    event->barrier = (kwr_barrier){ .checkpoint = m->checkpoint,
                                    .generation = m->generation,
                                    .triggered_ms = m->triggered_ms,
                                    .final = m->last };
}

static void receive_complete(kwr_task *task, const kwr_message *m, kwr_task_event *event) {
    if (m->checkpoint <= task->completed) return;
    task->completed = m->checkpoint;
    if (task->lineage != NULL) kwr_lineage_confirm(task->lineage, m->checkpoint);
    kwr_task_pledge_complete(task, m->checkpoint);
    event->kind = KWR_TASK_COMPLETE;
    event->checkpoint = m->checkpoint;
    event->final = m->last;
}

static kwr_status receive_abort(kwr_task *task, const kwr_message *m, kwr_task_event *event) {
    if (m->checkpoint <= task->completed || m->checkpoint <= task->aborted) return KWR_OK;
    if (task->aligner != NULL) {
        const kwr_status status =
            kwr_aligner_abort(task->aligner, m->checkpoint, &event->alignment);
        if (status < KWR_OK) return aligner_failed(task, status, 0);
    }
    task->aborted = m->checkpoint;
    if (task->declined != 0 && task->declined <= m->checkpoint) task->declined = 0;
    if (task->lineage != NULL) kwr_lineage_abort(task->lineage, m->checkpoint);
    kwr_task_pledge_abort(task, m->checkpoint);
    if (KWR_PLANTED(abort_drops_output)) (void)(kwr_task_committed(task, m->checkpoint) < KWR_OK);
    kwr_task_drop(task, m->checkpoint);
    event->kind = KWR_TASK_ABORT;
    event->checkpoint = m->checkpoint;
    return KWR_OK;
}

kwr_status kwr_task_receive(kwr_task *task, kwr_slice message, kwr_task_event *out) {
    kwr_message m = { 0 };
    kwr_task_event event = { .kind = KWR_TASK_NOTHING };
    const kwr_assignment *a = &task->assignment;
    KWR_TRY(kwr_message_decode(&task->limits, message, &m, &task->error));
    const bool ours = (m.generation == a->generation || KWR_PLANTED(foreign_message_taken)) &&
                      memcmp(m.uid, a->uid, sizeof m.uid) == 0;
    if (!ours) {
        kwr_log_line(task->env, KWR_LOG_INFO, "task",
                     "'%s': a message of another job or of generation %" PRIu64 " is ignored",
                     task->operator_id, m.generation);
    } else if (m.kind == KWR_MESSAGE_TRIGGER) {
        receive_trigger(task, &m, &event);
    } else if (m.kind == KWR_MESSAGE_COMPLETE) {
        receive_complete(task, &m, &event);
    } else if (m.kind == KWR_MESSAGE_ABORT) {
        KWR_TRY(receive_abort(task, &m, &event));
    }
    *out = event;
    return KWR_OK;
}
