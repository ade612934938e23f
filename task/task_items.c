/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a task carries beside its keyed state: the splits of a source and the committables of a
 * sink. Small, in order, copied in and copied out.
 */
#include <inttypes.h>

#include "task/task.h"

#include "base/error.h"
#include "base/planted.h"

static size_t split_bytes(const kwr_split_item *s) {
    return sizeof *s + s->id_size + s->identity_size + s->position_size;
}

static kwr_slice split_id(const kwr_split_item *s) { return (kwr_slice){ s->bytes, s->id_size }; }
static kwr_slice split_identity(const kwr_split_item *s) {
    return (kwr_slice){ s->bytes + s->id_size, s->identity_size };
}
static kwr_slice split_position(const kwr_split_item *s) {
    return (kwr_slice){ s->bytes + s->id_size + s->identity_size, s->position_size };
}

static void append(uint8_t **at, kwr_slice bytes) {
    if (bytes.size > 0) memcpy(*at, bytes.data, bytes.size);
    *at += bytes.size;
}

static kwr_split_item *split_new(const kwr_env *env, const kwr_split *from) {
    kwr_split_item *s =
        kwr_alloc(env, sizeof *s + from->id.size + from->identity.size + from->position.size);
    if (s == NULL) return NULL;
    s->id_size = from->id.size;
    s->identity_size = from->identity.size;
    s->position_size = from->position.size;
    uint8_t *at = s->bytes;
    append(&at, from->id);
    append(&at, from->identity);
    append(&at, from->position);
    return s;
}

size_t kwr_task_split_count(const kwr_task *task) { return task->split_count; }

kwr_status kwr_task_split(const kwr_task *task, size_t index, kwr_split *out) {
    if (index >= task->split_count) return KWR_ERR_RANGE;
    const kwr_split_item *s = task->splits[index];
    *out = (kwr_split){ split_id(s), split_identity(s), split_position(s) };
    return KWR_OK;
}

static kwr_split_item **split_find(const kwr_task *task, kwr_slice id) {
    for (size_t i = 0; i < task->split_count; i++) {
        const kwr_slice have = split_id(task->splits[i]);
        if (have.size == id.size && memcmp(have.data, id.data, id.size) == 0)
            return &task->splits[i];
    }
    return NULL;
}

static kwr_status split_check(kwr_task *task, const kwr_split *split) {
    const size_t max = task->limits.split_bytes_max;
    if ((task->assignment.roles & KWR_TASK_SOURCE) == 0)
        return kwr_task_failed(task, KWR_ERR_MISUSE, "'%s' is not a source: it has no splits",
                               task->operator_id);
    if (split->id.size == 0)
        return kwr_task_failed(task, KWR_ERR_RANGE, "a split of '%s' has no id", task->operator_id);
    if (split->id.size > max || split->identity.size > max || split->position.size > max)
        return kwr_task_failed(task, KWR_ERR_RANGE,
                               "a split of '%s': id, identity and position are at most %zu bytes "
                               "each (limits.split_bytes_max)",
                               task->operator_id, max);
    return KWR_OK;
}

kwr_status kwr_task_set_split(kwr_task *task, const kwr_split *split) {
    KWR_TRY(split_check(task, split));
    kwr_split_item **place = split_find(task, split->id);
    kwr_split next = *split;
    if (place != NULL && next.identity.size == 0) next.identity = split_identity(*place);
    if (place == NULL && !kwr_grow_array(task->env, (void **)&task->splits, &task->split_capacity,
                                         task->split_count + 1, sizeof *task->splits))
        return kwr_task_failed(task, KWR_ERR_NOMEM, "no memory for a split");
    kwr_split_item *made = split_new(task->env, &next);
    if (made == NULL) return kwr_task_failed(task, KWR_ERR_NOMEM, "no memory for a split");
    if (place == NULL) {
        task->splits[task->split_count++] = made;
    } else {
        kwr_free(task->env, *place, split_bytes(*place));
        *place = made;
    }
    return KWR_OK;
}

size_t kwr_task_committable_count(const kwr_task *task) { return task->committable_count; }

kwr_status kwr_task_committable(const kwr_task *task, size_t index, uint64_t *checkpoint,
                                kwr_slice *token) {
    if (index >= task->committable_count) return KWR_ERR_RANGE;
    const kwr_committable_item *c = &task->committables[index];
    *checkpoint = c->checkpoint;
    *token = (kwr_slice){ c->token.data, c->token.size };
    return KWR_OK;
}

kwr_status kwr_task_add_committable(kwr_task *task, uint64_t checkpoint, kwr_slice token) {
    if ((task->assignment.roles & KWR_TASK_SINK) == 0)
        return kwr_task_failed(task, KWR_ERR_MISUSE, "'%s' is not a sink: it has no committables",
                               task->operator_id);
    if (checkpoint == 0 || token.size > task->limits.committable_bytes_max)
        return kwr_task_failed(task, KWR_ERR_RANGE,
                               "a committable of '%s' for checkpoint %" PRIu64
                               ": %zu bytes, at most %zu (limits.committable_bytes_max)",
                               task->operator_id, checkpoint, token.size,
                               task->limits.committable_bytes_max);
    kwr_bytes copy = { 0 };
    if (!kwr_grow_array(task->env, (void **)&task->committables, &task->committable_capacity,
                        task->committable_count + 1, sizeof *task->committables) ||
        kwr_bytes_new(task->env, token.size, &copy) < KWR_OK) {
        if (KWR_PLANTED(no_memory_leaves_out)) return KWR_OK;
        return kwr_task_failed(task, KWR_ERR_NOMEM, "no memory for a committable");
    }
    if (token.size > 0) memcpy(copy.data, token.data, token.size);
    task->committables[task->committable_count++] =
        (kwr_committable_item){ .checkpoint = checkpoint, .token = copy };
    return KWR_OK;
}

kwr_status kwr_task_committed(kwr_task *task, uint64_t checkpoint) {
    size_t kept = 0;
    for (size_t i = 0; i < task->committable_count; i++) {
        kwr_committable_item *c = &task->committables[i];
        if (c->checkpoint <= checkpoint || KWR_PLANTED(newer_output_forgotten))
            kwr_bytes_free(&c->token);
        else
            task->committables[kept++] = *c;
    }
    task->committable_count = kept;
    return KWR_OK;
}

kwr_status kwr_task_items_restore(kwr_task *task, const kwr_manifest_subtask *from,
                                  kwr_error *err) {
    for (size_t i = 0; i < from->split_count; i++) {
        const kwr_manifest_split *s = &from->splits[i];
        if (kwr_task_set_split(task, &(kwr_split){ s->id, s->identity, s->position }) < KWR_OK) {
            if (err != NULL) *err = task->error;
            return task->error.status;
        }
    }
    for (size_t i = 0; i < from->committable_count; i++) {
        if (KWR_PLANTED(output_not_restored)) break;
        const kwr_manifest_committable *c = &from->committables[i];
        if (kwr_task_add_committable(task, c->checkpoint, c->token) < KWR_OK) {
            if (err != NULL) *err = task->error;
            return task->error.status;
        }
    }
    return KWR_OK;
}

static bool copy_into(kwr_arena *arena, kwr_slice from, kwr_slice *out) {
    void *copy = kwr_arena_alloc(arena, from.size == 0 ? 1 : from.size);
    if (copy == NULL) return false;
    if (from.size > 0) memcpy(copy, from.data, from.size);
    *out = (kwr_slice){ copy, from.size };
    return true;
}

kwr_status kwr_task_items_copy(const kwr_task *task, uint64_t checkpoint, kwr_arena *arena,
                               kwr_manifest_subtask *out) {
    out->splits = kwr_arena_array(arena, task->split_count + 1, sizeof *out->splits);
    out->committables =
        kwr_arena_array(arena, task->committable_count + 1, sizeof *out->committables);
    if (out->splits == NULL || out->committables == NULL) return KWR_ERR_NOMEM;
    for (size_t i = 0; i < task->split_count; i++) {
        const kwr_split_item *s = task->splits[i];
        kwr_manifest_split *to = &out->splits[out->split_count++];
        if (!copy_into(arena, split_id(s), &to->id) ||
            !copy_into(arena, split_identity(s), &to->identity) ||
            !copy_into(arena, split_position(s), &to->position))
            return KWR_ERR_NOMEM;
    }
    for (size_t i = 0; i < task->committable_count; i++) {
        const kwr_committable_item *c = &task->committables[i];
        if (c->checkpoint > checkpoint) continue;
        if (KWR_PLANTED(older_output_left_out) && c->checkpoint < checkpoint) continue;
        kwr_manifest_committable *to = &out->committables[out->committable_count++];
        to->checkpoint = c->checkpoint;
        if (!copy_into(arena, (kwr_slice){ c->token.data, c->token.size }, &to->token))
            return KWR_ERR_NOMEM;
    }
    return KWR_OK;
}

void kwr_task_items_free(kwr_task *task) {
    for (size_t i = 0; i < task->split_count; i++)
        kwr_free(task->env, task->splits[i], split_bytes(task->splits[i]));
    for (size_t i = 0; i < task->committable_count; i++)
        kwr_bytes_free(&task->committables[i].token);
    kwr_free(task->env, task->splits, task->split_capacity * sizeof *task->splits);
    kwr_free(task->env, task->committables,
             task->committable_capacity * sizeof *task->committables);
}
