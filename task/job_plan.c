/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which tasks a job consists of, held against what the restored checkpoint says, and the share of
 * the state that each of them is assigned.
 */
#include "task/job.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/name.h"

static kwr_job_operator *plan_find(const kwr_job *job, const char *id) {
    for (size_t i = 0; i < job->operator_count; i++)
        if (strcmp(job->operators[i].id, id) == 0) return &job->operators[i];
    return NULL;
}

static const kwr_manifest_operator *stored_find(const kwr_job *job, const char *id) {
    const kwr_manifest *manifest = job->claim.restored ? job->claim.manifest : NULL;
    for (size_t i = 0; manifest != NULL && i < manifest->operator_count; i++)
        if (strcmp(manifest->operators[i].id, id) == 0) return &manifest->operators[i];
    return NULL;
}

uint32_t kwr_job_stored_parallelism(const kwr_job *job, const char *operator_id) {
    const kwr_manifest_operator *stored = stored_find(job, operator_id);
    return stored == NULL ? 0 : stored->parallelism;
}

static void roles_text(unsigned roles, char out[32]) {
    snprintf(out, 32, "%s%s%s%s", roles & KWR_TASK_SOURCE ? " source" : "",
             roles & KWR_TASK_KEYED ? " keyed" : "", roles & KWR_TASK_SINK ? " sink" : "",
             roles == 0 ? " none" : "");
}

static kwr_status operator_check(const kwr_job *job, const char *id, uint32_t parallelism,
                                 unsigned roles, const kwr_manifest_operator *stored,
                                 kwr_error *err) {
    const bool keyed = (roles & KWR_TASK_KEYED) != 0;
    const uint32_t most = keyed ? job->max_parallelism : KWR_MAX_PARALLELISM_LIMIT;
    if (!kwr_name_ok(id, KWR_OPERATOR_ID_MAX, false))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "operator id: use 1 to %d of [A-Za-z0-9_.-], not starting with '.'",
                        KWR_OPERATOR_ID_MAX);
    if ((roles & ~(unsigned)(KWR_TASK_SOURCE | KWR_TASK_KEYED | KWR_TASK_SINK)) != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator '%s': unknown roles %#x", id, roles);
    if (parallelism == 0 || parallelism > most)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator '%s': parallelism %u, allowed 1 to %u%s",
                        id, parallelism, most, keyed ? " (max_parallelism)" : "");
    if (stored == NULL) return KWR_OK;
    if (stored->roles != roles) {
        char had[32], has[32];
        roles_text(stored->roles, had);
        roles_text(roles, has);
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "operator '%s': checkpoint %llu was taken with roles:%s, given:%s; its "
                        "state would be lost or have no place",
                        id, (unsigned long long)job->restored_checkpoint, had, has);
    }
    return KWR_OK;
}

static kwr_status plan_add_operator(kwr_job *job, const char *id, uint32_t parallelism,
                                    unsigned roles, kwr_job_operator **out, kwr_error *err) {
    const kwr_manifest_operator *stored = stored_find(job, id);
    KWR_TRY(operator_check(job, id, parallelism, roles, stored, err));
    if (job->operator_count >= job->limits.operators_max)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "more than %u operators: limits.operators_max",
                        job->limits.operators_max);
    uint32_t *tasks = NULL;
    if (!kwr_grow_array(job->env, (void **)&job->operators, &job->operator_capacity,
                        job->operator_count + 1, sizeof *job->operators) ||
        (tasks = kwr_alloc_array(job->env, parallelism, sizeof *tasks)) == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for operator '%s'", id);
    for (uint32_t i = 0; i < parallelism; i++)
        tasks[i] = KWR_NO_TASK;
    kwr_job_operator *op = &job->operators[job->operator_count++];
    *op = (kwr_job_operator){
        .parallelism = parallelism, .roles = roles, .tasks = tasks, .stored = stored
    };
    snprintf(op->id, sizeof op->id, "%s", id);
    *out = op;
    return KWR_OK;
}

kwr_status kwr_job_add_task(kwr_job *job, const char *operator_id, uint32_t subtask,
                            uint32_t parallelism, unsigned roles, uint32_t *task, kwr_error *err) {
    if (job->plan_closed)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "tasks are added before the first assignment");
    kwr_job_operator *op = plan_find(job, operator_id);
    if (subtask >= parallelism)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "operator '%s': subtask %u of parallelism %u",
                        operator_id, subtask, parallelism);
    if (op != NULL && (op->parallelism != parallelism || op->roles != roles))
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "operator '%s': its tasks differ in parallelism or roles", operator_id);
    if (op != NULL && op->tasks[subtask] != KWR_NO_TASK)
        return KWR_FAIL(err, KWR_ERR_EXISTS, 0, "task %s-%u is there already", operator_id,
                        subtask);
    if (job->task_count >= KWR_ALL_TASKS - 1 ||
        !kwr_grow_array(job->env, (void **)&job->tasks, &job->task_capacity, job->task_count + 1,
                        sizeof *job->tasks))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for task %s-%u", operator_id, subtask);
    if (op == NULL) KWR_TRY(plan_add_operator(job, operator_id, parallelism, roles, &op, err));
    const uint32_t number = (uint32_t)job->task_count++;
    job->tasks[number] =
        (kwr_job_task){ .op = (uint32_t)(op - job->operators), .subtask = subtask };
    op->tasks[subtask] = number;
    op->registered++;
    *task = number;
    return KWR_OK;
}

/* Ids of stored operators that this job does not have, quoted; "" when it has all of them. */
static void unclaimed_text(const kwr_job *job, char *out, size_t capacity) {
    const kwr_manifest *manifest = job->claim.restored ? job->claim.manifest : NULL;
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; manifest != NULL && i < manifest->operator_count; i++) {
        const char *id = manifest->operators[i].id;
        if (plan_find(job, id) != NULL || used >= capacity) continue;
        const int n = snprintf(out + used, capacity - used, "%s'%s'", used > 0 ? ", " : "", id);
        used += n > 0 ? (size_t)n : 0;
    }
}

kwr_status kwr_job_plan_check(const kwr_job *job, kwr_error *err) {
    for (size_t i = 0; i < job->operator_count; i++) {
        const kwr_job_operator *op = &job->operators[i];
        if (op->registered != op->parallelism)
            return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                            "operator '%s': %u of its %u tasks are added; add all of them first",
                            op->id, op->registered, op->parallelism);
    }
    char names[512];
    unclaimed_text(job, names, sizeof names);
    if (names[0] == '\0' || job->options.allow_unclaimed) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_REFUSED, 0,
                    "checkpoint %llu has state of operators that this job does not have: %s; keep "
                    "their ids, or give their state up by choice (allow_unclaimed)",
                    (unsigned long long)job->restored_checkpoint, names);
}

kwr_status kwr_job_assignment(kwr_job *job, uint32_t task, kwr_slice *out, kwr_error *err) {
    if (task >= job->task_count)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "there is no task %u", task);
    if (job->started)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "assignments are given before the start");
    KWR_TRY(kwr_job_plan_check(job, err));
    const kwr_job_task *t = &job->tasks[task];
    if (t->assignment.data == NULL) KWR_TRY(kwr_job_share(job, task, err));
    job->plan_closed = true;
    *out = (kwr_slice){ t->assignment.data, t->assignment.size };
    return KWR_OK;
}

void kwr_job_plan_close(kwr_job *job) {
    for (size_t i = 0; i < job->task_count; i++)
        kwr_bytes_free(&job->tasks[i].assignment);
    char names[512];
    unclaimed_text(job, names, sizeof names);
    if (names[0] != '\0')
        kwr_log_line(job->env, KWR_LOG_WARNING, "task",
                     "job '%s': state of operators that the job does not have is given up, as "
                     "allowed: %s; checkpoint %llu has it",
                     job->dirs.job, names, (unsigned long long)job->restored_checkpoint);
    for (size_t i = 0; i < job->operator_count; i++) {
        kwr_job_operator *op = &job->operators[i];
        if (op->arena != NULL) kwr_arena_free(op->arena);
        op->arena = NULL;
        op->shares = NULL;
        op->stored = NULL;
    }
    kwr_manifest_free(job->claim.manifest);
    job->claim.manifest = NULL;
    job->plan_closed = true;
}

void kwr_job_plan_free(kwr_job *job) {
    for (size_t i = 0; i < job->operator_count; i++) {
        const kwr_job_operator *op = &job->operators[i];
        kwr_free(job->env, op->tasks, op->parallelism * sizeof(uint32_t));
        if (op->arena != NULL) kwr_arena_free(op->arena);
    }
    for (size_t i = 0; i < job->task_count; i++) {
        kwr_bytes_free(&job->tasks[i].assignment);
        kwr_bytes_free(&job->tasks[i].part);
    }
    kwr_free(job->env, job->operators, job->operator_capacity * sizeof *job->operators);
    kwr_free(job->env, job->tasks, job->task_capacity * sizeof *job->tasks);
}
