/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task's part of a checkpoint. The owner freezes and copies, in microseconds; the background
 * writes, makes durable and encodes the ack; the owner's poll hands the ack out. Whatever fails on
 * the way ends as a decline: the running state is never touched.
 */
#include <inttypes.h>
#include <stdio.h>

#include "task/task.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/planted.h"

KWR_DEFINE_CLEANUP(kwr_subtask_part, kwr_subtask_part_free)

/* ---- in the background ---- */

static kwr_status no_memory(const kwr_task *task, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the ack of '%s'", task->operator_id);
}

static kwr_status ack_encode(kwr_task *task, const kwr_subtask_part *content, uint64_t entries,
                             uint64_t bytes, kwr_error *err) {
    kwr_task_part *part = &task->part;
    const kwr_assignment *a = &task->assignment;
    KWR_CLEANUP(kwr_bytes_free) kwr_bytes encoded = { 0 };
    KWR_TRY(kwr_subtask_part_encode(task->env, content, &encoded, err));
    kwr_message m = { .kind = KWR_MESSAGE_ACK,
                      .last = task->ended,
                      .generation = a->generation,
                      .checkpoint = part->checkpoint,
                      .task = a->task,
                      .operator_id = a->operator_id,
                      .subtask = a->subtask,
                      .entries = entries,
                      .bytes = bytes,
                      .part = { encoded.data, encoded.size } };
    memcpy(m.uid, a->uid, sizeof m.uid);
    return kwr_message_encode(task->env, &task->limits, &m, &part->ack, err);
}

static kwr_status ack_plain(kwr_task *task, kwr_error *err) {
    const kwr_assignment *a = &task->assignment;
    const kwr_subtask_part content = { .subtask = task->part.subtask,
                                       .seed = a->seed,
                                       .engine_key_groups = a->engine_key_groups,
                                       .max_parallelism = a->max_parallelism };
    return ack_encode(task, &content, 0, 0, err);
}

/* Made for this checkpoint, not referred to: the numbers of its files begin at `sequence`. */
static bool is_new(const kwr_task *task, const char *name, uint64_t sequence) {
    uint64_t generation = 0, number = 0;
    uint32_t subtask = 0;
    char operator_id[KWR_OPERATOR_ID_MAX + 1];
    return kwr_shared_name_parse(name, &generation, operator_id, &subtask, &number) &&
           generation == task->assignment.generation && subtask == task->assignment.subtask &&
           number >= sequence && strcmp(operator_id, task->operator_id) == 0;
}

/* The names first: from here on they are ours to remove. Files of older checkpoints are not. */
static kwr_status note_files(kwr_task *task, uint64_t sequence,
                             const kwr_manifest_subtask *subtask) {
    kwr_buffer *files = &task->part.files;
    for (size_t i = 0; i < subtask->file_count; i++) {
        const char *name = subtask->files[i].name;
        if (name != NULL && is_new(task, name, sequence))
            kwr_buffer_append(files, name, strlen(name) + 1);
    }
    return files->failed ? KWR_ERR_NOMEM : KWR_OK;
}

/* What a view became: the decoded handle, and counts. */
typedef struct written {
    kwr_bytes handle;
    kwr_subtask_part *content; /* points into the handle */
    uint64_t entries, bytes, files;
    size_t inline_size;
} written;

static void written_done(written *w) {
    kwr_subtask_part_free(w->content);
    kwr_bytes_free(&w->handle);
}

/* Writes `*view`, which is released, with file numbers from `sequence` on. */
static kwr_status view_write(kwr_task *task, kwr_view **view, kwr_lineage *lineage,
                             uint64_t sequence, uint64_t inline_bytes, written *out,
                             kwr_error *err) {
    kwr_task_part *part = &task->part;
    const kwr_assignment *a = &task->assignment;
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = task->env,
                                   .storage = task->storage,
                                   .job = task->job,
                                   .operator_id = task->operator_id,
                                   .subtask = a->subtask,
                                   .generation = a->generation,
                                   .checkpoint = part->checkpoint,
                                   .sequence = sequence,
                                   .inline_bytes = (size_t)inline_bytes,
                                   .threads = task->snapshot_threads,
                                   .limits = &task->limits,
                                   .lineage = lineage,
                                   .last_use = true };
    memcpy(target.job_uid, a->uid, sizeof target.job_uid);
    kwr_snapshot_result result = { 0 };
    /* What a failed write has used of the numbers is not known. */
    part->sequence_next = sequence + task->limits.files_max + 1;
    const kwr_status status = kwr_snapshot_write(*view, &target, &part->cancel, &result, err);
    kwr_view_release(KWR_TAKE(*view));
    KWR_TRY(status);
    part->sequence_next = result.sequence_next;
    *out = (written){ .handle = result.handle,
                      .entries = result.entries,
                      .bytes = result.bytes_written,
                      .files = result.files };
    const kwr_slice handle = { result.handle.data, result.handle.size };
    KWR_TRY(kwr_subtask_part_decode(task->env, &task->limits, handle, "snapshot handle",
                                    &out->content, err));
    out->inline_size = out->content->inline_bytes.size;
    return note_files(task, sequence, &out->content->subtask) < KWR_OK ? no_memory(task, err)
                                                                       : KWR_OK;
}

/* Both snapshots in one part: the inline bytes of operator state lie behind those of keyed state.
 */
static kwr_status ack_join(kwr_task *task, const written *keyed, const written *operators,
                           kwr_error *err) {
    const kwr_assignment *a = &task->assignment;
    const kwr_manifest_subtask *items = &task->part.subtask;
    kwr_subtask_part content = { .subtask = *items,
                                 .seed = a->seed,
                                 .engine_key_groups = a->engine_key_groups,
                                 .max_parallelism = a->max_parallelism };
    kwr_manifest_subtask inner = { 0 };
    KWR_CLEANUP(kwr_buffer_free) kwr_buffer joined = { .env = task->env };
    if (keyed->content != NULL) {
        content = *keyed->content;
        content.subtask.splits = items->splits;
        content.subtask.split_count = items->split_count;
        content.subtask.committables = items->committables;
        content.subtask.committable_count = items->committable_count;
    }
    if (operators->content != NULL) {
        inner = operators->content->subtask;
        inner.of_operator = true;
        for (size_t i = 0; i < inner.file_count; i++)
            if (inner.files[i].name == NULL) inner.files[i].offset += keyed->inline_size;
        const kwr_slice more = operators->content->inline_bytes;
        kwr_buffer_append(&joined, content.inline_bytes.data, content.inline_bytes.size);
        kwr_buffer_append(&joined, more.data, more.size);
        if (joined.failed) return no_memory(task, err);
        content.subtask.operator_state = &inner;
        content.inline_bytes = (kwr_slice){ joined.data, joined.size };
    }
    return ack_encode(task, &content, keyed->entries, keyed->bytes + operators->bytes, err);
}

/* Before its files go: what was written for that checkpoint is not referred to any more. */
static void lineage_abort(kwr_task *task, uint64_t checkpoint) {
    if (task->lineage != NULL) kwr_lineage_abort(task->lineage, checkpoint);
}

static kwr_status ack_states(kwr_task *task, kwr_error *err) {
    kwr_task_part *part = &task->part;
    written keyed = { 0 }, operators = { 0 };
    uint64_t inline_bytes = task->assignment.inline_bytes;
    kwr_status status = KWR_OK;
    part->sequence_next = part->sequence;
    if (KWR_PLANTED(frozen_late) && part->subtask.keyed)
        KWR_TRY(kwr_backend_freeze(task->backend, &part->view));
    if (part->view != NULL)
        status =
            view_write(task, &part->view, task->lineage, part->sequence, inline_bytes, &keyed, err);
    inline_bytes -= keyed.inline_size < inline_bytes ? keyed.inline_size : inline_bytes;
    if (status >= KWR_OK && part->operators_view != NULL)
        status = view_write(task, &part->operators_view, NULL, part->sequence_next, inline_bytes,
                            &operators, err);
    if (status >= KWR_OK) status = ack_join(task, &keyed, &operators, err);
    written_done(&keyed);
    written_done(&operators);
    if (status < KWR_OK) {
        lineage_abort(task, part->checkpoint);
        kwr_task_remove_now(task, &part->files);
        kwr_buffer_free(&part->files);
    }
    return status;
}

static void part_run(void *ctx) {
    kwr_task *task = ctx;
    kwr_task_part *part = &task->part;
    kwr_error err = { 0 };
    const bool states = part->subtask.keyed || part->operators_view != NULL;
    const kwr_status status = states ? ack_states(task, &err) : ack_plain(task, &err);
    if (status < KWR_OK && err.status >= KWR_OK)
        kwr_error_set(&err, status, 0, "the part of '%s' failed: %s", task->operator_id,
                      kwr_status_name(status));
    if (status < KWR_OK) part->error = err;
    atomic_store_explicit(&task->done, true, memory_order_release);
    kwr_task_wake(task);
}

/* ---- the owner ---- */

static void part_release(kwr_task *task) {
    kwr_task_part *part = &task->part;
    kwr_view_release(part->view);
    kwr_view_release(part->operators_view);
    if (part->arena != NULL) kwr_arena_free(part->arena);
    kwr_bytes_free(&part->ack);
    kwr_buffer_free(&part->files);
    *part = (kwr_task_part){ .files = { .env = task->env } };
    task->writing = false;
}

/* Without an ack, or with one that was never handed out, the checkpoint cannot complete. */
static void ack_discard(kwr_task *task) {
    lineage_abort(task, task->ack_checkpoint);
    kwr_bytes_free(&task->ack);
    kwr_task_discard(task, &task->ack_files);
    task->ack_checkpoint = 0;
}

void kwr_task_absorb(kwr_task *task) {
    kwr_task_part *part = &task->part;
    if (task->writing && atomic_load_explicit(&task->done, memory_order_acquire)) {
        /* `done` is set inside the work: the executor may still be putting it away. */
        if (task->posted) task->env->executor->wait(task->env->executor->ctx, &task->work);
        task->posted = false;
        if (part->sequence_next > task->sequence) task->sequence = part->sequence_next;
        if (part->error.status < KWR_OK) {
            if (!part->unwanted) kwr_task_decline_add(task, part->checkpoint, &part->error);
        } else if (part->unwanted) {
            lineage_abort(task, part->checkpoint);
            kwr_task_discard(task, &part->files);
        } else {
            task->ack = part->ack;
            part->ack = (kwr_bytes){ 0 };
            task->ack_checkpoint = part->checkpoint;
            task->ack_files = part->files;
            part->files = (kwr_buffer){ .env = task->env };
        }
        part_release(task);
    }
    kwr_task_remove_start(task);
}

void kwr_task_decline_add(kwr_task *task, uint64_t checkpoint, const kwr_error *why) {
    /* One is enough: a newer checkpoint means that the older one is decided. */
    if (checkpoint <= task->declined) return;
    task->declined = checkpoint;
    task->decline = *why;
    kwr_task_wake(task);
}

void kwr_task_drop(kwr_task *task, uint64_t checkpoint) {
    if (task->writing && task->part.checkpoint == checkpoint) {
        task->part.unwanted = true;
        kwr_cancel_request(&task->part.cancel);
    }
    if (task->ack_checkpoint == checkpoint) ack_discard(task);
    kwr_task_absorb(task);
}

static kwr_status freeze(kwr_task *task, kwr_backend *backend, kwr_view **out) {
    const kwr_status status = kwr_backend_freeze_files(backend, out);
    if (status < KWR_OK) task->error = *kwr_backend_error(backend);
    return status;
}

static kwr_status part_begin(kwr_task *task, uint64_t checkpoint) {
    const kwr_assignment *a = &task->assignment;
    kwr_task_part *part = &task->part;
    const bool keyed = (a->roles & KWR_TASK_KEYED) != 0;
    part->checkpoint = checkpoint;
    part->sequence = task->sequence;
    part->subtask = (kwr_manifest_subtask){ .index = a->subtask, .keyed = keyed };
    part->arena = kwr_arena_new(task->env, 0);
    if (part->arena == NULL ||
        kwr_task_items_copy(task, checkpoint, part->arena, &part->subtask) < KWR_OK)
        return kwr_task_failed(task, KWR_ERR_NOMEM,
                               "no memory for the part of '%s' in checkpoint %" PRIu64,
                               task->operator_id, checkpoint);
    atomic_store_explicit(&task->done, false, memory_order_relaxed);
    task->writing = true;
    kwr_status status = KWR_OK;
    if (keyed && !KWR_PLANTED(frozen_late)) status = freeze(task, task->backend, &part->view);
    if (status >= KWR_OK && task->operators != NULL)
        status = freeze(task, task->operators, &part->operators_view);
    if (status < KWR_OK) return status;
    if (!keyed && task->operators == NULL) {
        part_run(task);
        return KWR_OK;
    }
    task->work = (kwr_work){ .run = part_run, .ctx = task };
    task->posted = true;
    status = task->env->executor->blocking(task->env->executor->ctx, &task->work);
    if (status >= KWR_OK) return KWR_OK;
    task->posted = false;
    return kwr_task_failed(task, status, "the executor did not take the work of '%s'",
                           task->operator_id);
}

static kwr_status barrier_check(kwr_task *task, const kwr_barrier *barrier) {
    if (barrier->cancelled || barrier->checkpoint == 0 ||
        barrier->generation != task->assignment.generation)
        return kwr_task_failed(task, KWR_ERR_MISUSE,
                               "checkpoint %" PRIu64 " of generation %" PRIu64
                               " is not one to be taken by generation %" PRIu64,
                               barrier->checkpoint, barrier->generation,
                               task->assignment.generation);
    if (barrier->checkpoint <= task->taken || barrier->checkpoint <= task->completed)
        return kwr_task_failed(
            task, KWR_ERR_MISUSE, "checkpoint %" PRIu64 " comes after %" PRIu64 ": ids grow",
            barrier->checkpoint, task->taken > task->completed ? task->taken : task->completed);
    if (barrier->checkpoint <= task->aborted)
        return kwr_task_failed(task, KWR_ERR_CANCELLED, "checkpoint %" PRIu64 " is aborted already",
                               barrier->checkpoint);
    return KWR_OK;
}

kwr_status kwr_task_checkpoint(kwr_task *task, const kwr_barrier *barrier) {
    KWR_TRY(barrier_check(task, barrier));
    task->taken = barrier->checkpoint;
    kwr_task_absorb(task);
    /* An older part not handed out yet is late for good: its checkpoint has been given up. */
    if (task->ack_checkpoint != 0) ack_discard(task);
    if (task->writing) {
        const uint64_t older = task->part.checkpoint;
        (void)kwr_task_failed(task, KWR_ERR_BUSY,
                              "checkpoint %" PRIu64 ": the part of checkpoint %" PRIu64
                              " is still being written",
                              barrier->checkpoint, older);
        kwr_task_decline_add(task, barrier->checkpoint, &task->error);
        kwr_task_drop(task, older);
        return KWR_ERR_BUSY;
    }
    const kwr_status status = part_begin(task, barrier->checkpoint);
    if (status >= KWR_OK) return KWR_OK;
    part_release(task);
    kwr_task_decline_add(task, barrier->checkpoint, &task->error);
    return status;
}

kwr_status kwr_task_decline(kwr_task *task, uint64_t checkpoint, const kwr_error *why) {
    if (checkpoint == 0 || checkpoint <= task->completed)
        return kwr_task_failed(task, KWR_ERR_MISUSE, "checkpoint %" PRIu64 " is completed",
                               checkpoint);
    kwr_error unnamed = { 0 };
    if (why == NULL || why->status >= KWR_OK) {
        kwr_error_set(&unnamed, KWR_ERR_DECLINED, 0, "declined without a reason");
        why = &unnamed;
    }
    if (checkpoint > task->taken) task->taken = checkpoint;
    kwr_task_drop(task, checkpoint);
    kwr_task_decline_add(task, checkpoint, why);
    return KWR_OK;
}

void kwr_task_part_end(kwr_task *task) {
    if (task->writing) {
        task->part.unwanted = true;
        kwr_cancel_request(&task->part.cancel);
        if (task->posted) task->env->executor->wait(task->env->executor->ctx, &task->work);
        task->posted = false;
        if (task->part.error.status >= KWR_OK) kwr_task_remove_now(task, &task->part.files);
    }
    part_release(task);
    kwr_task_remove_now(task, &task->ack_files);
    kwr_bytes_free(&task->ack);
    kwr_buffer_free(&task->ack_files);
}
