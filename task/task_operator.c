/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operator state: a second backend of the task with one key group and one key, the empty one, which
 * is always current. Its lists and maps are ordinary handles; what is special is how they are put
 * together from several old subtasks at a restore.
 */
#include <inttypes.h>
#include <stdio.h>

#include "task/task.h"

#include "backend/view.h"
#include "base/cleanup.h"
#include "base/error.h"

KWR_DEFINE_CLEANUP(kwr_backend, kwr_backend_close)
KWR_DEFINE_CLEANUP(kwr_list_iterator, kwr_list_iterator_free)
KWR_DEFINE_CLEANUP(kwr_map_iterator, kwr_map_iterator_free)

/* ---- the backend ---- */

static kwr_backend_options operator_options(const kwr_task *task, kwr_resources *resources) {
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = task->env,
                                  .resources = resources,
                                  .max_parallelism = 1,
                                  .seed = task->assignment.seed,
                                  .limits = task->limits };
}

static kwr_status key_set(kwr_backend *backend, kwr_error *err) {
    const kwr_status status = kwr_backend_set_key(backend, (kwr_slice){ 0 });
    if (status < KWR_OK && err != NULL) *err = *kwr_backend_error(backend);
    return status;
}

static kwr_status open_empty(kwr_task *task, kwr_error *err) {
    if (task->operators != NULL) return KWR_OK;
    const kwr_backend_options options = operator_options(task, task->resources);
    KWR_CLEANUP(kwr_backend_close_p) kwr_backend *backend = NULL;
    KWR_TRY(kwr_backend_open(&options, &backend, err));
    KWR_TRY(key_set(backend, err));
    task->operators = KWR_TAKE(backend);
    return KWR_OK;
}

const kwr_backend *kwr_task_operator_backend(const kwr_task *task) { return task->operators; }

kwr_status kwr_task_operator_list(kwr_task *task, const kwr_list_descriptor *descriptor,
                                  kwr_operator_mode mode, kwr_list **out) {
    if (mode != KWR_OPERATOR_SPLIT && mode != KWR_OPERATOR_UNION)
        return kwr_task_failed(task, KWR_ERR_RANGE,
                               "'%s': a list of operator state is split or union, not mode %d",
                               task->operator_id, (int)mode);
    const kwr_redistribution redistribution =
        mode == KWR_OPERATOR_SPLIT ? KWR_REDISTRIBUTE_SPLIT : KWR_REDISTRIBUTE_UNION;
    KWR_TRY(open_empty(task, &task->error));
    return kwr_list_open_as(task->operators, descriptor, redistribution, out, &task->error);
}

kwr_status kwr_task_operator_map(kwr_task *task, const kwr_map_descriptor *descriptor,
                                 kwr_map **out) {
    KWR_TRY(open_empty(task, &task->error));
    return kwr_map_open_as(task->operators, descriptor, KWR_REDISTRIBUTE_BROADCAST, out,
                           &task->error);
}

kwr_status kwr_task_operator_raw(kwr_task *task, const char *name, kwr_list **out) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor, .name = name };
    return kwr_task_operator_list(task, &descriptor, KWR_OPERATOR_SPLIT, out);
}

/* ---- restoring ---- */

typedef struct restore {
    kwr_task *task;
    const kwr_packed *packed; /* handles */
    kwr_slice *handles;       /* of them */
    kwr_subtask_part **parts; /* decoded */
    kwr_state_plan *plans;
    size_t plan_count;
    kwr_error *err;
} restore;

static kwr_status open_list(kwr_backend *backend, const kwr_state_info *info, kwr_list **out,
                            kwr_error *err) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor,
                                             .name = info->name,
                                             .type = info->type,
                                             .namespace_type = info->namespace_type };
    return kwr_list_open_as(backend, &descriptor, info->redistribution, out, err);
}

static kwr_status open_map(kwr_backend *backend, const kwr_state_info *info, kwr_map **out,
                           kwr_error *err) {
    const kwr_map_descriptor descriptor = { .struct_size = sizeof descriptor,
                                            .name = info->name,
                                            .user_key_type = info->user_key_type,
                                            .type = info->type,
                                            .namespace_type = info->namespace_type };
    return kwr_map_open_as(backend, &descriptor, info->redistribution, out, err);
}

static const kwr_state_info *info_find(const restore *r, const kwr_state_plan *plan) {
    const kwr_manifest_subtask *subtask = &r->parts[plan->handle]->subtask;
    for (size_t i = 0; i < subtask->state_count; i++) {
        const kwr_state_info *info = &subtask->states[i].info;
        if (strlen(info->name) == plan->name.size &&
            memcmp(info->name, plan->name.data, plan->name.size) == 0)
            return info;
    }
    return NULL;
}

static kwr_status failed(const restore *r, kwr_status status, const kwr_backend *backend) {
    if (r->err != NULL) *r->err = *kwr_backend_error(backend);
    return status;
}

static kwr_status lacks(const restore *r, const kwr_state_info *info) {
    return KWR_FAIL(r->err, KWR_ERR_CORRUPT, 0,
                    "operator state '%s' of '%s': fewer elements are stored than its checkpoint "
                    "says",
                    info->name, r->task->operator_id);
}

/* Appends elements [first, first + count). */
static kwr_status copy_list(const restore *r, kwr_backend *from, const kwr_state_info *info,
                            const kwr_state_pick *pick) {
    kwr_list *source = NULL, *target = NULL;
    KWR_CLEANUP(kwr_list_iterator_free_p) kwr_list_iterator *iterator = NULL;
    KWR_TRY(open_list(from, info, &source, r->err));
    KWR_TRY(open_list(r->task->operators, info, &target, r->err));
    kwr_status status = kwr_list_iterate(source, &iterator);
    if (status < KWR_OK) return failed(r, status, from);
    for (uint64_t i = 0; i < pick->first + pick->count; i++) {
        kwr_slice element = { 0 };
        status = kwr_list_iterator_next(iterator, &element);
        if (status == KWR_NOT_FOUND) return lacks(r, info);
        if (status < KWR_OK) return failed(r, status, from);
        if (i < pick->first) continue;
        status = kwr_list_add(target, element);
        if (status < KWR_OK) return failed(r, status, r->task->operators);
    }
    return KWR_OK;
}

static kwr_status copy_map(const restore *r, kwr_backend *from, const kwr_state_info *info,
                           const kwr_state_pick *pick) {
    kwr_map *source = NULL, *target = NULL;
    KWR_CLEANUP(kwr_map_iterator_free_p) kwr_map_iterator *iterator = NULL;
    KWR_TRY(open_map(from, info, &source, r->err));
    KWR_TRY(open_map(r->task->operators, info, &target, r->err));
    kwr_status status = kwr_map_iterate(source, &iterator);
    if (status < KWR_OK) return failed(r, status, from);
    for (uint64_t i = 0; i < pick->count; i++) {
        kwr_slice key = { 0 }, value = { 0 };
        status = kwr_map_iterator_next(iterator, &key, &value);
        if (status == KWR_NOT_FOUND) return lacks(r, info);
        if (status < KWR_OK) return failed(r, status, from);
        status = kwr_map_put(target, key, value);
        if (status < KWR_OK) return failed(r, status, r->task->operators);
    }
    return KWR_OK;
}

/* What is wanted of one handle; nothing is read when nothing is. */
static kwr_status copy_handle(const restore *r, uint32_t number) {
    KWR_CLEANUP(kwr_backend_close_p) kwr_backend *from = NULL;
    for (size_t s = 0; s < r->plan_count; s++) {
        const kwr_state_plan *plan = &r->plans[s];
        const kwr_state_info *info = info_find(r, plan);
        for (uint32_t i = 0; i < plan->pick_count; i++) {
            const kwr_state_pick pick = kwr_state_plan_pick(plan, i);
            if (pick.handle != number) continue;
            if (from == NULL) {
                const kwr_backend_options options = operator_options(r->task, NULL);
                KWR_TRY(kwr_snapshot_restore(&options, r->task->storage, r->task->job,
                                             &r->handles[number], 1, &from, r->err));
                KWR_TRY(key_set(from, r->err));
            }
            KWR_TRY(info->kind == KWR_STATE_MAP ? copy_map(r, from, info, &pick)
                                                : copy_list(r, from, info, &pick));
        }
    }
    return KWR_OK;
}

/* All states are there first, also those that get nothing. */
static kwr_status open_states(const restore *r) {
    for (size_t s = 0; s < r->plan_count; s++) {
        const kwr_state_info *info = info_find(r, &r->plans[s]);
        kwr_list *list = NULL;
        kwr_map *map = NULL;
        if (info == NULL || (info->kind != KWR_STATE_LIST && info->kind != KWR_STATE_MAP))
            return KWR_FAIL(r->err, KWR_ERR_CORRUPT, 0, "'%s': its assignment names unknown state",
                            r->task->operator_id);
        KWR_TRY(info->kind == KWR_STATE_MAP ? open_map(r->task->operators, info, &map, r->err)
                                            : open_list(r->task->operators, info, &list, r->err));
    }
    return KWR_OK;
}

static kwr_status put_together(restore *r, kwr_arena *arena, const kwr_packed *states) {
    size_t at = 0;
    const uint32_t count = r->packed->count;
    r->handles = kwr_arena_array(arena, count, sizeof *r->handles);
    r->parts = kwr_arena_array(arena, count, sizeof *r->parts);
    r->plans = kwr_arena_array(arena, states->count, sizeof *r->plans);
    if (r->handles == NULL || r->parts == NULL || r->plans == NULL)
        return KWR_FAIL(r->err, KWR_ERR_NOMEM, 0, "no memory to restore '%s'",
                        r->task->operator_id);
    for (uint32_t i = 0; i < count; i++) {
        char what[KWR_OPERATOR_ID_MAX + 64];
        snprintf(what, sizeof what, "operator state %" PRIu32 " of '%s'", i, r->task->operator_id);
        r->handles[i] = kwr_packed_next(r->packed, &at);
        KWR_TRY(kwr_subtask_part_decode(r->task->env, &r->task->limits, r->handles[i], what,
                                        &r->parts[i], r->err));
    }
    at = 0;
    for (uint32_t i = 0; i < states->count; i++, r->plan_count++)
        KWR_TRY(kwr_state_plan_read(kwr_packed_next(states, &at), count, &r->plans[i], r->err));
    KWR_TRY(open_empty(r->task, r->err));
    KWR_TRY(open_states(r));
    for (uint32_t i = 0; i < count; i++)
        KWR_TRY(copy_handle(r, i));
    return KWR_OK;
}

static kwr_status restore_as_it_was(kwr_task *task, const kwr_packed *packed, kwr_error *err) {
    size_t at = 0;
    const kwr_slice handle = kwr_packed_next(packed, &at);
    const kwr_backend_options options = operator_options(task, task->resources);
    KWR_CLEANUP(kwr_backend_close_p) kwr_backend *backend = NULL;
    KWR_TRY(kwr_snapshot_restore(&options, task->storage, task->job, &handle, 1, &backend, err));
    KWR_TRY(key_set(backend, err));
    task->operators = KWR_TAKE(backend);
    return KWR_OK;
}

kwr_status kwr_task_operator_restore(kwr_task *task, const kwr_assignment *given, kwr_error *err) {
    if (given->operators.count == 0) return KWR_OK;
    if (given->operator_as_it_was) return restore_as_it_was(task, &given->operators, err);
    restore r = { .task = task, .packed = &given->operators, .err = err };
    kwr_arena *arena = kwr_arena_new(task->env, 0);
    if (arena == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to restore '%s'", task->operator_id);
    const kwr_status status = put_together(&r, arena, &given->states);
    for (uint32_t i = 0; r.parts != NULL && i < given->operators.count; i++)
        kwr_subtask_part_free(r.parts[i]);
    kwr_arena_free(arena);
    return status;
}
