/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a share (recovery/assignment.h) to the assignment a task is opened with: splits and
 * committables themselves, and handles of the state. Reads nothing from storage.
 */
#include "task/job.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"

static kwr_status no_memory(const kwr_job_operator *op, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to assign operator '%s'", op->id);
}

static kwr_status shares_make(kwr_job *job, kwr_job_operator *op, kwr_error *err) {
    if (op->stored == NULL || op->shares != NULL) return KWR_OK;
    if (op->arena == NULL) op->arena = kwr_arena_new(job->env, 0);
    if (op->arena == NULL) return no_memory(op, err);
    KWR_TRY(kwr_assign(op->stored, op->parallelism, op->arena, &op->shares, err));
    if (op->stored->parallelism != op->parallelism)
        kwr_log_line(job->env, KWR_LOG_INFO, "task",
                     "job '%s': operator '%s' goes from %u to %u subtasks", job->dirs.job, op->id,
                     op->stored->parallelism, op->parallelism);
    return KWR_OK;
}

static size_t picked(kwr_picks picks) {
    size_t sum = 0;
    for (size_t i = 0; i < picks.count; i++)
        sum += (size_t)picks.items[i].count;
    return sum;
}

/* Splits and committables of the share, as the part of a subtask without state. */
static kwr_status items_part(const kwr_job *job, const kwr_job_operator *op, const kwr_share *share,
                             kwr_bytes *out, kwr_error *err) {
    const kwr_manifest_subtask *from = op->stored->subtasks;
    const size_t splits = picked(share->splits), committables = picked(share->committables);
    kwr_arena *arena = kwr_arena_new(job->env, 0);
    kwr_subtask_part part = { .arena = arena,
                              .subtask = { .index = share->subtask },
                              .seed = job->seed,
                              .engine_key_groups = job->engine_key_groups,
                              .max_parallelism = job->max_parallelism };
    kwr_manifest_subtask *to = &part.subtask;
    if (arena != NULL) {
        to->splits = kwr_arena_array(arena, splits, sizeof *to->splits);
        to->committables = kwr_arena_array(arena, committables, sizeof *to->committables);
    }
    kwr_status status = KWR_OK;
    if (to->splits == NULL || to->committables == NULL) status = no_memory(op, err);
    for (size_t i = 0; status >= KWR_OK && i < share->splits.count; i++) {
        const kwr_pick *p = &share->splits.items[i];
        for (uint64_t j = 0; j < p->count; j++)
            to->splits[to->split_count++] = from[p->donor].splits[p->first + j];
    }
    for (size_t i = 0; status >= KWR_OK && i < share->committables.count; i++) {
        const kwr_pick *p = &share->committables.items[i];
        for (uint64_t j = 0; j < p->count; j++)
            to->committables[to->committable_count++] = from[p->donor].committables[p->first + j];
    }
    if (status >= KWR_OK) status = kwr_subtask_part_encode(job->env, &part, out, err);
    if (arena != NULL) kwr_arena_free(arena);
    return status;
}

/* The handles of the old subtasks that hold some of its key groups. */
static kwr_status keyed_handles(const kwr_job *job, const kwr_job_operator *op,
                                const kwr_share *share, kwr_packed *packed, kwr_buffer *buffer,
                                kwr_error *err) {
    for (uint32_t i = 0; i < share->donor_count; i++) {
        KWR_CLEANUP(kwr_bytes_free) kwr_bytes handle = { 0 };
        KWR_TRY(kwr_checkpoint_handle(job->env, job->claim.manifest, op->stored,
                                      &op->stored->subtasks[share->donor_first + i], &handle, err));
        kwr_packed_add(packed, buffer, (kwr_slice){ handle.data, handle.size });
        if (buffer->failed) return no_memory(op, err);
    }
    return KWR_OK;
}

/* Which old subtasks' operator state a share needs, numbered in their order. */
static kwr_status operator_donors(const kwr_job_operator *op, const kwr_share *share,
                                  uint32_t *numbers, kwr_error *err) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < op->stored->parallelism; i++)
        numbers[i] = UINT32_MAX;
    for (size_t s = 0; s < share->state_count; s++) {
        const kwr_share_state *state = &share->states[s];
        numbers[state->donor] = 0;
        for (size_t i = 0; i < state->picks.count; i++)
            numbers[state->picks.items[i].donor] = 0;
    }
    for (uint32_t i = 0; i < op->stored->parallelism; i++) {
        if (numbers[i] == UINT32_MAX) continue;
        if (op->stored->subtasks[i].operator_state == NULL)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "operator '%s': subtask %u has no state",
                            op->id, i);
        numbers[i] = count++;
    }
    return KWR_OK;
}

static kwr_status plan_states(const kwr_job *job, const kwr_job_operator *op,
                              const kwr_share *share, const uint32_t *numbers, kwr_packed *packed,
                              kwr_buffer *buffer, kwr_error *err) {
    for (size_t s = 0; s < share->state_count; s++) {
        const kwr_share_state *state = &share->states[s];
        KWR_CLEANUP(kwr_buffer_free) kwr_buffer item = { .env = job->env };
        kwr_state_plan_begin(&item, state->state->info.name, numbers[state->donor],
                             (uint32_t)state->picks.count);
        for (size_t i = 0; i < state->picks.count; i++) {
            const kwr_pick *p = &state->picks.items[i];
            kwr_state_plan_add(&item, &(kwr_state_pick){ numbers[p->donor], p->first, p->count });
        }
        if (!item.failed) kwr_packed_add(packed, buffer, (kwr_slice){ item.data, item.size });
        if (item.failed || buffer->failed) return no_memory(op, err);
    }
    return KWR_OK;
}

/* Handles of operator state, and what to take of them. */
static kwr_status operator_state(const kwr_job *job, const kwr_job_operator *op,
                                 const kwr_share *share, kwr_assignment *a, kwr_buffer *handles,
                                 kwr_buffer *states, kwr_error *err) {
    if (share->state_count == 0) return KWR_OK;
    const uint32_t donors = op->stored->parallelism;
    uint32_t *numbers = kwr_alloc_array(job->env, donors, sizeof *numbers);
    if (numbers == NULL) return no_memory(op, err);
    kwr_status status = KWR_OK;
    if (share->as_it_was)
        for (uint32_t i = 0; i < donors; i++)
            numbers[i] = i == share->subtask ? 0 : UINT32_MAX;
    else
        status = operator_donors(op, share, numbers, err);
    for (uint32_t i = 0; status >= KWR_OK && i < donors; i++) {
        if (numbers[i] == UINT32_MAX) continue;
        KWR_CLEANUP(kwr_bytes_free) kwr_bytes handle = { 0 };
        status = kwr_checkpoint_handle(job->env, job->claim.manifest, op->stored,
                                       op->stored->subtasks[i].operator_state, &handle, err);
        if (status < KWR_OK) break;
        kwr_packed_add(&a->operators, handles, (kwr_slice){ handle.data, handle.size });
        if (handles->failed) status = no_memory(op, err);
    }
    if (status >= KWR_OK && !share->as_it_was)
        status = plan_states(job, op, share, numbers, &a->states, states, err);
    a->operator_as_it_was = share->as_it_was;
    kwr_free(job->env, numbers, donors * sizeof *numbers);
    return status;
}

kwr_status kwr_job_share(kwr_job *job, uint32_t task, kwr_error *err) {
    kwr_job_task *t = &job->tasks[task];
    kwr_job_operator *op = &job->operators[t->op];
    KWR_CLEANUP(kwr_bytes_free) kwr_bytes part = { 0 };
    KWR_CLEANUP(kwr_buffer_free) kwr_buffer handles = { .env = job->env };
    KWR_CLEANUP(kwr_buffer_free) kwr_buffer operators = { .env = job->env };
    KWR_CLEANUP(kwr_buffer_free) kwr_buffer states = { .env = job->env };
    kwr_assignment a = { .generation = job->claim.fence.generation,
                         .job = { job->dirs.job, strlen(job->dirs.job) },
                         .restored_checkpoint = job->restored_checkpoint,
                         .restored_generation = job->restored_generation,
                         .seed = job->seed,
                         .max_parallelism = job->max_parallelism,
                         .engine_key_groups = job->engine_key_groups,
                         .task = task,
                         .operator_id = { op->id, strlen(op->id) },
                         .subtask = t->subtask,
                         .parallelism = op->parallelism,
                         .roles = op->roles,
                         .inline_bytes = job->options.inline_bytes };
    memcpy(a.uid, job->claim.fence.job_uid, sizeof a.uid);
    KWR_TRY(shares_make(job, op, err));
    if (op->stored != NULL) {
        const kwr_share *share = &op->shares[t->subtask];
        KWR_TRY(items_part(job, op, share, &part, err));
        KWR_TRY(keyed_handles(job, op, share, &a.keyed, &handles, err));
        KWR_TRY(operator_state(job, op, share, &a, &operators, &states, err));
        a.part = (kwr_slice){ part.data, part.size };
    }
    return kwr_assignment_encode(job->env, &job->limits, &a, &t->assignment, err);
}
