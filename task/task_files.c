/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files a task wrote for a checkpoint that did not come to be. Only what is known to be aborted is
 * removed: of a checkpoint whose fate is open the next attempt's sweep decides, by the log.
 */
#include "task/task.h"

#include "base/error.h"
#include "base/log.h"
#include "base/planted.h"

void kwr_task_pledge_add(kwr_task *task, uint64_t checkpoint, kwr_buffer *files) {
    if (files->size == 0) {
        kwr_buffer_free(files);
        return;
    }
    if (task->pledge_count == KWR_TASK_PLEDGES) {
        /* So old that nobody will say: left where it is. */
        kwr_buffer_free(&task->pledges[0].files);
        memmove(task->pledges, task->pledges + 1, (KWR_TASK_PLEDGES - 1) * sizeof *task->pledges);
        task->pledge_count--;
    }
    task->pledges[task->pledge_count++] =
        (kwr_task_pledge){ .checkpoint = checkpoint, .files = *files };
    *files = (kwr_buffer){ .env = task->env };
}

static void pledge_remove(kwr_task *task, size_t index) {
    kwr_buffer_free(&task->pledges[index].files);
    memmove(task->pledges + index, task->pledges + index + 1,
            (task->pledge_count - index - 1) * sizeof *task->pledges);
    task->pledge_count--;
}

void kwr_task_pledge_abort(kwr_task *task, uint64_t checkpoint) {
    for (size_t i = 0; i < task->pledge_count; i++) {
        if (task->pledges[i].checkpoint != checkpoint &&
            !(KWR_PLANTED(abort_removes_completed) && task->pledges[i].checkpoint < checkpoint))
            continue;
        kwr_task_discard(task, &task->pledges[i].files);
        pledge_remove(task, i);
        return;
    }
}

void kwr_task_pledge_complete(kwr_task *task, uint64_t checkpoint) {
    while (task->pledge_count > 0 && task->pledges[0].checkpoint <= checkpoint)
        pledge_remove(task, 0);
}

void kwr_task_discard(kwr_task *task, kwr_buffer *files) {
    kwr_buffer_append(&task->garbage, files->data, files->size);
    if (task->garbage.failed) {
        kwr_log_line(task->env, KWR_LOG_WARNING, "task",
                     "no memory to remember files of '%s' to remove: they go with the next start",
                     task->operator_id);
        task->garbage.failed = false;
    }
    kwr_buffer_free(files);
    *files = (kwr_buffer){ .env = task->env };
}

void kwr_task_remove_now(const kwr_task *task, const kwr_buffer *files) {
    if (files->size == 0) return;
    kwr_error err = { 0 };
    kwr_job_dirs dirs = { 0 };
    const kwr_storage_ops *ops = task->storage->ops;
    kwr_status status = kwr_job_dirs_open(task->env, task->storage, task->job, false, &dirs, &err);
    const bool open = status >= KWR_OK;
    const char *const end = (const char *)files->data + files->size;
    for (const char *name = (const char *)files->data; open && dirs.shared != NULL && name < end;
         name += strlen(name) + 1) {
        status = ops->remove(task->storage, dirs.shared, name, &err);
        if (status < KWR_OK && status != KWR_ERR_MISSING) break;
    }
    if (open) kwr_job_dirs_close(&dirs);
    if (status < KWR_OK && status != KWR_ERR_MISSING)
        kwr_log_line(task->env, KWR_LOG_WARNING, "task",
                     "files of '%s' for an aborted checkpoint go with the next start: %s",
                     task->operator_id, err.text);
}

static void remove_run(void *ctx) {
    kwr_task *task = ctx;
    kwr_task_remove_now(task, &task->removed);
    atomic_store_explicit(&task->remove_done, true, memory_order_release);
}

static void remove_absorb(kwr_task *task) {
    if (!task->removing || !atomic_load_explicit(&task->remove_done, memory_order_acquire)) return;
    kwr_task_remove_end(task);
}

void kwr_task_remove_start(kwr_task *task) {
    remove_absorb(task);
    if (task->removing || task->garbage.size == 0) return;
    const kwr_executor *executor = task->env->executor;
    task->removed = task->garbage;
    task->garbage = (kwr_buffer){ .env = task->env };
    task->remove_work = (kwr_work){ .run = remove_run, .ctx = task };
    atomic_store_explicit(&task->remove_done, false, memory_order_relaxed);
    task->removing = true;
    if (executor->blocking(executor->ctx, &task->remove_work) >= KWR_OK) return;
    /* Tried again when the task is polled next. */
    task->removing = false;
    task->garbage = task->removed;
    task->removed = (kwr_buffer){ .env = task->env };
}

void kwr_task_remove_end(kwr_task *task) {
    if (!task->removing) return;
    task->env->executor->wait(task->env->executor->ctx, &task->remove_work);
    task->removing = false;
    kwr_buffer_free(&task->removed);
    task->removed = (kwr_buffer){ .env = task->env };
}
