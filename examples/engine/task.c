/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task's side: one thread that reads messages first, then records and barriers, and makes the
 * calls of kwr_task between two records. Nothing here knows what the records are.
 */
#include <stdlib.h>

#include "examples/engine/engine_internal.h"
#include "examples/engine/error.h"

enum { MAINTAIN_NS = 500 * 1000 };

/* A checkpoint that cannot be taken is declined; what makes going on wrong ends the run. */
static bool only_declines(kwr_status status) {
    const kwr_action action = kwr_status_action(status);
    return action == KWR_GO_ON || action == KWR_RETRY || action == KWR_ABANDON;
}

/* The library's failure, told with the task's name. */
static kwr_status pass_task_error(eng_task *task, kwr_status status, kwr_error *err) {
    return eng_pass(err, status, kwr_task_error(task->task), "%s %u", task->operator_id,
                    task->subtask);
}

/* The engine's own channels fail only when the run ends anyway, or without memory. */
static kwr_status pass_channel_error(eng_task *task, kwr_status status, kwr_error *err) {
    if (status >= KWR_OK) return status;
    return eng_fail(err, status, 0, "%s %u: sending to the next task: %s", task->operator_id,
                    task->subtask, kwr_status_name(status));
}

/* The task's part of a checkpoint, between two records. */
static kwr_status take_checkpoint(eng_task *task, const kwr_barrier *barrier, kwr_error *err) {
    ENG_TRY(pass_channel_error(task, eng_exchange_barrier(&task->exchange, barrier), err));
    if (task->ops.snapshot != NULL) {
        kwr_error why = ENG_ERROR_NONE;
        const kwr_status status = task->ops.snapshot(task->ops.ctx, task, barrier, &why);
        if (status < KWR_OK && !only_declines(status)) {
            return eng_pass(err, status, &why, "%s %u", task->operator_id, task->subtask);
        }
        if (status < KWR_OK) {
            const kwr_status declined = kwr_task_decline(task->task, barrier->checkpoint, &why);
            return declined < KWR_OK ? pass_task_error(task, declined, err) : KWR_OK;
        }
    }
    const kwr_status status = kwr_task_checkpoint(task->task, barrier);
    return only_declines(status) ? KWR_OK : pass_task_error(task, status, err);
}

/* Release, abort, block, snapshot: in this order a newer barrier may end an older alignment. */
static kwr_status align(eng_task *task, uint32_t channel, const kwr_alignment *alignment,
                        kwr_error *err) {
    if (alignment->release) eng_gate_release(task->gate);
    if (alignment->abort) {
        const kwr_barrier marker = {
            .checkpoint = alignment->aborted,
            .generation = kwr_task_generation(task->task),
            .cancelled = true,
        };
        ENG_TRY(pass_channel_error(task, eng_exchange_barrier(&task->exchange, &marker), err));
    }
    if (alignment->block) eng_gate_block(task->gate, channel);
    if (alignment->snapshot) return take_checkpoint(task, &alignment->barrier, err);
    return KWR_OK;
}

static kwr_status from_job(eng_task *task, kwr_slice message, kwr_error *err) {
    kwr_task_event event;
    const kwr_status status = kwr_task_receive(task->task, message, &event);
    if (status < KWR_OK) return pass_task_error(task, status, err);
    switch (event.kind) {
    case KWR_TASK_TRIGGER: return take_checkpoint(task, &event.barrier, err);
    case KWR_TASK_ABORT: return align(task, 0, &event.alignment, err);
    case KWR_TASK_COMPLETE:
        if (task->ops.complete == NULL) return KWR_OK;
        return task->ops.complete(task->ops.ctx, task, event.checkpoint, event.final, err);
    case KWR_TASK_NOTHING: break;
    }
    return KWR_OK;
}

static kwr_status read_mail(eng_task *task, kwr_error *err) {
    for (;;) {
        eng_message *message = eng_gate_message(task->gate);
        if (message == NULL) return KWR_OK;
        kwr_status status = KWR_OK;
        if (message->kind == ENG_MAIL_DRAIN) task->draining = true;
        if (message->kind == ENG_MAIL_JOB) {
            status = from_job(task, (kwr_slice){ message->data, message->size }, err);
        }
        free(message);
        ENG_TRY(status);
    }
}

static kwr_status send_messages(eng_task *task, kwr_error *err) {
    for (;;) {
        kwr_slice message;
        const kwr_status status = kwr_task_poll(task->task, &message);
        if (status == KWR_NOT_FOUND) return KWR_OK;
        if (status < KWR_OK) return pass_task_error(task, status, err);
        if (eng_gate_post(task->engine->gate, ENG_MAIL_TASK, task->number, 0, message) < KWR_OK) {
            return eng_no_memory(err, "a message");
        }
    }
}

/* One item of the channels; KWR_NOT_FOUND when there is none. */
static kwr_status read_input(eng_task *task, kwr_error *err) {
    uint32_t channel = 0;
    eng_item item;
    kwr_status status = eng_gate_take(task->gate, &channel, &item);
    if (status != KWR_OK) return status;
    if (item.kind == ENG_RECORDS) {
        status = task->ops.records(task->ops.ctx, task, item.buffer, err);
        eng_buffer_free(item.buffer);
        return status;
    }
    kwr_alignment alignment;
    if (item.kind == ENG_BARRIER) {
        status = kwr_task_barrier(task->task, channel, &item.barrier, &alignment);
    } else {
        task->inputs_ended++;
        status = kwr_task_channel_end(task->task, channel, &alignment);
    }
    if (status < KWR_OK) return pass_task_error(task, status, err);
    return align(task, channel, &alignment, err);
}

/* KWR_NOT_FOUND: nothing to read before *until_ns. */
static kwr_status read_source(eng_task *task, uint64_t *until_ns, kwr_error *err) {
    if (task->source_ended) return KWR_NOT_FOUND;
    eng_production production = { .ended = false };
    ENG_TRY(task->ops.produce(task->ops.ctx, task, &production, err));
    if (production.ended) {
        task->source_ended = true;
        ENG_TRY(pass_channel_error(task, eng_exchange_flush(&task->exchange), err));
        const kwr_status status = kwr_task_source_ended(task->task);
        return status < KWR_OK ? pass_task_error(task, status, err) : KWR_OK;
    }
    if (production.resume_ns == 0) return KWR_OK;
    *until_ns = production.resume_ns;
    return KWR_NOT_FOUND;
}

/* Nothing to read: what is collected goes out, deferred work is done, then the task waits. */
static kwr_status rest(eng_task *task, uint64_t until_ns, kwr_error *err) {
    ENG_TRY(pass_channel_error(task, eng_exchange_flush(&task->exchange), err));
    kwr_backend *backend = kwr_task_backend(task->task);
    const bool more = backend != NULL && kwr_backend_maintain(backend, MAINTAIN_NS);
    uint64_t ns = UINT64_MAX;
    if (until_ns != UINT64_MAX) {
        const uint64_t now = eng_now(task->engine);
        ns = until_ns > now ? until_ns - now : 0;
    }
    return eng_gate_wait(task->gate, more ? 0 : ns);
}

static kwr_status run(eng_task *task, kwr_error *err) {
    for (;;) {
        if (eng_gate_closed(task->gate)) return KWR_ERR_CANCELLED;
        ENG_TRY(read_mail(task, err));
        ENG_TRY(send_messages(task, err));
        const bool ended = task->inputs > 0 && task->inputs_ended == task->inputs;
        if (task->draining || ended) {
            return pass_channel_error(task, eng_exchange_end(&task->exchange), err);
        }
        uint64_t until_ns = UINT64_MAX;
        const kwr_status status =
            task->inputs > 0 ? read_input(task, err) : read_source(task, &until_ns, err);
        ENG_TRY(status);
        if (status == KWR_NOT_FOUND) ENG_TRY(rest(task, until_ns, err));
    }
}

void *eng_task_main(void *arg) {
    eng_task *task = arg;
    kwr_error error = { .status = KWR_OK };
    const kwr_status status = run(task, &error);
    /* Cancelled by a closed gate: whoever closed it has the reason. */
    if (status < KWR_OK && !(status == KWR_ERR_CANCELLED && eng_gate_closed(task->gate))) {
        if (error.status >= KWR_OK) {
            eng_fail(&error, status, 0, "%s %u: %s", task->operator_id, task->subtask,
                     kwr_status_name(status));
        }
        eng_engine_fail(task->engine, &error);
    }
    if (eng_gate_post(task->engine->gate, ENG_MAIL_EXITED, task->number, 0,
                      (kwr_slice){ NULL, 0 }) < KWR_OK) {
        eng_no_memory(&error, "a message");
        eng_engine_fail(task->engine, &error);
    }
    return NULL;
}
