/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job's work in the background: making a checkpoint of all acknowledged parts and naming it in
 * the log, and removing what no checkpoint to keep needs.
 *
 * The slot is the only commit point. Before it, any failure means "not a checkpoint"; after it, a
 * newer attempt is looked for before anyone is told. Deletion never runs beside publishing and
 * only while no newer attempt is seen.
 */
#include "task/job.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/planted.h"

enum { PROBE_ATTEMPTS = 3 };

uint64_t kwr_job_next_slot(const kwr_job *job) {
    return job->claim.log.slots[job->claim.log.count - 1].number + 1;
}

/* KWR_ERR_FENCED: another attempt holds a higher slot. Other failures: it cannot be told. */
static kwr_status fence_check(kwr_job *job, kwr_error *err) {
    const uint64_t number = kwr_job_next_slot(job);
    kwr_status status = KWR_OK;
    if (KWR_PLANTED(told_unfenced)) return KWR_OK;
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        status = kwr_log_probe(&job->dirs, number, err);
        if (status == KWR_NOT_FOUND) return KWR_OK;
        if (status == KWR_OK)
            return KWR_FAIL(err, KWR_ERR_FENCED, 0,
                            "job '%s': a newer attempt has taken slot %" PRIu64
                            "; generation %" PRIu64 " ends here",
                            job->dirs.job, number, job->claim.fence.generation);
    }
    return status;
}

static void work_end(kwr_job *job) {
    /* Copied before `done`: the owner may end the job the moment it is set, waiting for us. */
    void (*wake)(void *) = job->options.wake;
    void *ctx = job->options.wake_ctx;
    atomic_store_explicit(&job->done, true, memory_order_release);
    if (wake != NULL) wake(ctx);
}

/* ---- assembling the manifest ---- */

typedef struct assembly {
    kwr_job *job;
    kwr_arena *arena;
    kwr_subtask_part **parts; /* by task */
    kwr_buffer inline_bytes;
    kwr_manifest manifest;
    uint64_t new_bytes;
} assembly;

static void assembly_done(assembly *a) {
    for (size_t i = 0; a->parts != NULL && i < a->job->task_count; i++)
        kwr_subtask_part_free(a->parts[i]);
    kwr_buffer_free(&a->inline_bytes);
    kwr_arena_free(a->arena);
}

static kwr_status no_memory(const kwr_job *job, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assemble checkpoint %" PRIu64,
                    job->checkpoint);
}

/* A part is what its task should have sent: the message's checksum says nothing of its meaning. */
static kwr_status part_check(const kwr_job *job, const kwr_job_task *t,
                             const kwr_subtask_part *part, kwr_error *err) {
    const kwr_job_operator *op = &job->operators[t->op];
    const kwr_manifest_subtask *s = &part->subtask;
    const bool keyed = (op->roles & KWR_TASK_KEYED) != 0;
    bool fits = s->index == t->subtask && s->keyed == keyed;
    if (fits && keyed) {
        const kwr_key_group_range want =
            kwr_key_groups_of(t->subtask, op->parallelism, job->max_parallelism);
        fits = part->seed == job->seed && part->max_parallelism == job->max_parallelism &&
               part->engine_key_groups == job->engine_key_groups &&
               s->key_groups.first == want.first && s->key_groups.count == want.count;
    }
    if (fits) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "checkpoint %" PRIu64 ": what %s-%u acknowledged is not its share (subtask, "
                    "key groups, seed or max parallelism differ)",
                    job->checkpoint, op->id, t->subtask);
}

/* Inline files move to their place in the one file `inline`, which begins at `base` for a part. */
static kwr_status move_files(assembly *a, kwr_manifest_subtask *subtask, uint64_t base,
                             kwr_error *err) {
    const size_t count = subtask->file_count;
    kwr_manifest_file *files = kwr_arena_array(a->arena, count + 1, sizeof *files);
    if (files == NULL) return no_memory(a->job, err);
    for (size_t i = 0; i < count; i++) {
        files[i] = subtask->files[i];
        if (files[i].name == NULL) files[i].offset += base;
    }
    subtask->files = files;
    return KWR_OK;
}

static kwr_status place_files(assembly *a, const kwr_subtask_part *part,
                              kwr_manifest_subtask *subtask, kwr_error *err) {
    const uint64_t base = a->inline_bytes.size;
    KWR_TRY(move_files(a, subtask, base, err));
    if (subtask->operator_state != NULL) {
        kwr_manifest_subtask *inner = kwr_arena_alloc(a->arena, sizeof *inner);
        if (inner == NULL) return no_memory(a->job, err);
        *inner = *subtask->operator_state;
        subtask->operator_state = inner;
        KWR_TRY(move_files(a, inner, base, err));
    }
    kwr_buffer_append(&a->inline_bytes, part->inline_bytes.data, part->inline_bytes.size);
    return a->inline_bytes.failed ? no_memory(a->job, err) : KWR_OK;
}

static kwr_status assemble_task(assembly *a, kwr_manifest_operator *op, uint32_t number,
                                kwr_error *err) {
    kwr_job *job = a->job;
    const kwr_job_task *t = &job->tasks[number];
    char what[KWR_OPERATOR_ID_MAX + 32];
    snprintf(what, sizeof what, "ack of %s-%u", op->id, t->subtask);
    KWR_TRY(kwr_subtask_part_decode(job->env, &job->limits,
                                    (kwr_slice){ t->part.data, t->part.size }, what,
                                    &a->parts[number], err));
    const kwr_subtask_part *part = a->parts[number];
    KWR_TRY(part_check(job, t, part, err));
    if (part->subtask.keyed) {
        if (t->subtask == 0)
            op->key_type = part->key_type;
        else if (!kwr_type_same(&op->key_type, &part->key_type))
            return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                            "operator '%s': its tasks have different key types", op->id);
    }
    kwr_manifest_subtask *subtask = &op->subtasks[t->subtask];
    *subtask = part->subtask;
    KWR_TRY(place_files(a, part, subtask, err));
    /* Inline bytes are counted when the file `inline` is written. */
    if (t->bytes > part->inline_bytes.size) a->new_bytes += t->bytes - part->inline_bytes.size;
    job->published_entries += t->entries;
    return KWR_OK;
}

static kwr_status assemble(assembly *a, kwr_error *err) {
    kwr_job *job = a->job;
    kwr_manifest *m = &a->manifest;
    *m = (kwr_manifest){ .arena = a->arena,
                         .job = job->dirs.job,
                         .checkpoint = job->checkpoint,
                         .generation = job->claim.fence.generation,
                         .parent_checkpoint = job->parent_checkpoint,
                         .parent_generation = job->parent_generation,
                         .final = job->final,
                         .triggered_ms = job->triggered_ms,
                         .completed_ms = job->completed_ms,
                         .seed = job->seed,
                         .engine_key_groups = job->engine_key_groups,
                         .max_parallelism = job->max_parallelism,
                         .operator_count = job->operator_count };
    memcpy(m->job_uid, job->claim.fence.job_uid, sizeof m->job_uid);
    m->operators = kwr_arena_array(a->arena, job->operator_count, sizeof *m->operators);
    a->parts = kwr_arena_array(a->arena, job->task_count, sizeof *a->parts);
    if (m->operators == NULL || a->parts == NULL) return no_memory(job, err);
    for (size_t i = 0; i < job->operator_count; i++) {
        const kwr_job_operator *from = &job->operators[i];
        kwr_manifest_operator *op = &m->operators[i];
        *op = (kwr_manifest_operator){ .id = from->id,
                                       .parallelism = from->parallelism,
                                       .max_parallelism = job->max_parallelism,
                                       .roles = from->roles };
        op->subtasks = kwr_arena_array(a->arena, from->parallelism, sizeof *op->subtasks);
        if (op->subtasks == NULL) return no_memory(job, err);
        for (uint32_t s = 0; s < from->parallelism; s++)
            KWR_TRY(assemble_task(a, op, from->tasks[s], err));
    }
    return KWR_OK;
}

/* ---- publishing ---- */

/* Not in the log for certain: what was written for it is garbage. */
static void discard_checkpoint(kwr_job *job) {
    kwr_error err = { 0 };
    const uint64_t generation = job->claim.fence.generation;
    if (kwr_checkpoint_remove(&job->dirs, job->checkpoint, generation, &err) < KWR_OK)
        kwr_log_line(job->env, KWR_LOG_WARNING, "task",
                     "job '%s': what is left of checkpoint %" PRIu64
                     " goes with the next start: %s",
                     job->dirs.job, job->checkpoint, err.text);
}

static kwr_status publish_slot(kwr_job *job, kwr_slot *slot, kwr_error *err) {
    const kwr_log *log = &job->claim.log;
    kwr_log_continue(log, slot);
    slot->kind = KWR_SLOT_CHECKPOINT;
    slot->floor = kwr_retention_floor(job->options.retain, log);
    slot->time_ms = job->env->clock->wall_ms(job->env->clock->ctx);
    slot->checkpoint = job->checkpoint;
    slot->final = job->final;
    if (job->checkpoint > slot->highest) slot->highest = job->checkpoint;
    for (size_t i = 0; KWR_PLANTED(removed_too_soon) && i < log->count; i++)
        if (log->slots[i].kind == KWR_SLOT_CHECKPOINT && log->slots[i].number < slot->floor)
            (void)(kwr_checkpoint_remove(&job->dirs, log->slots[i].checkpoint,
                                         log->slots[i].generation, NULL) < KWR_OK);
    return kwr_log_publish(&job->dirs, slot, err);
}

static kwr_status publish(kwr_job *job, kwr_error *err) {
    KWR_CLEANUP(assembly_done)
    assembly a = { .job = job, .inline_bytes = { .env = job->env } };
    kwr_log *log = &job->claim.log;
    job->published_entries = 0;
    a.arena = kwr_arena_new(job->env, 0);
    if (a.arena == NULL) return no_memory(job, err);
    KWR_TRY(assemble(&a, err));
    /* Room first: what is published must be remembered. */
    if (!kwr_grow_array(log->env, (void **)&log->slots, &log->capacity, log->count + 1,
                        sizeof *log->slots))
        return no_memory(job, err);

    uint64_t written = 0;
    kwr_slot slot = { 0 };
    const kwr_slice inline_bytes = { a.inline_bytes.data, a.inline_bytes.size };
    kwr_status status =
        kwr_checkpoint_write(&job->dirs, &a.manifest, inline_bytes, &slot, &written, err);
    if (KWR_PLANTED(failed_write_published) && status < KWR_OK) {
        slot.manifest_length = 1;
        status = KWR_OK;
    }
    if (status < KWR_OK) {
        discard_checkpoint(job);
        return status;
    }
    status = publish_slot(job, &slot, err);
    if (KWR_PLANTED(taken_slot_is_ours) && status == KWR_ERR_EXISTS) status = KWR_OK;
    if (KWR_PLANTED(failed_publish_told) && status != KWR_ERR_EXISTS) status = KWR_OK;
    if (status == KWR_ERR_EXISTS) {
        job->outcome = KWR_PUBLISH_LOST;
        return KWR_FAIL(err, KWR_ERR_FENCED, 0,
                        "job '%s': a newer attempt has taken slot %" PRIu64 "; checkpoint %" PRIu64
                        " of generation %" PRIu64 " is not published, this attempt ends here",
                        job->dirs.job, slot.number, job->checkpoint, slot.generation);
    }
    if (status == KWR_ERR_UNKNOWN) {
        job->outcome = KWR_PUBLISH_LOST;
        kwr_error_prefix(err,
                         "whether checkpoint %" PRIu64 " is published is not known; start again, "
                         "the next attempt will see",
                         job->checkpoint);
        return status;
    }
    if (status < KWR_OK) {
        discard_checkpoint(job);
        return status;
    }
    job->slot = slot;
    job->published_bytes = a.new_bytes + written;
    job->outcome = KWR_PUBLISH_LOST; /* until newer attempts are ruled out */
    KWR_TRY(kwr_log_append(log, &slot));
    KWR_TRY(fence_check(job, err));
    /* If that fails it reads the manifest when it needs to know. */
    (void)(kwr_retention_add(job->retention, &slot, &a.manifest) < KWR_OK);
    job->outcome = KWR_PUBLISH_DONE;
    return KWR_OK;
}

/* A failure that left no text still says what it is. */
static void result_set(kwr_job *job, kwr_status status) {
    if (status >= KWR_OK) {
        job->result = (kwr_error){ 0 };
    } else if (job->result.status != status) {
        kwr_error_set(&job->result, status, 0, "checkpoint %" PRIu64 ": %s", job->checkpoint,
                      kwr_status_name(status));
    }
}

void kwr_job_publish_run(void *ctx) {
    kwr_job *job = ctx;
    result_set(job, publish(job, &job->result));
    work_end(job);
}

/* ---- tidying ---- */

static kwr_status tidy(kwr_job *job, kwr_error *err) {
    KWR_TRY(fence_check(job, err));
    if (!job->swept) {
        kwr_retention_sweep(job->retention, &job->dirs, &job->claim.log,
                            job->claim.fence.generation);
        job->swept = true;
    }
    kwr_retention_apply(job->retention, &job->dirs, &job->claim.log);
    return KWR_OK;
}

void kwr_job_tidy_run(void *ctx) {
    kwr_job *job = ctx;
    result_set(job, tidy(job, &job->result));
    work_end(job);
}
