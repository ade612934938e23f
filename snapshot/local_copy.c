/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage that keeps a second copy of data files. Everything goes to `remote`, which alone
 * counts; what is written to a job's shared/ is written to `local` as well, as long as that works,
 * and removed there when it is removed remotely. Reading through this storage is reading remotely:
 * copies are offered to those who can verify them (snapshot/local_copy.h).
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "snapshot/local_store.h"

struct kwr_storage_dir {
    kwr_storage_dir *remote;
    bool top;                       /* below the root */
    bool shared;                    /* shared/ of `job` */
    char job[KWR_JOB_NAME_MAX + 1]; /* "": not of a job */
};

struct kwr_storage_writer {
    kwr_storage_writer *remote;
    kwr_storage_writer *local; /* NULL: no copy, or no longer */
    kwr_copied_job *job;
    uint64_t bytes;
    kwr_storage_writer *next, *previous;
    char name[KWR_FILE_NAME_MAX];
};

struct kwr_storage_reader {
    kwr_storage_reader *remote;
    bool counted; /* of a data file */
};

static kwr_copy_storage *of(kwr_storage *storage) { return (kwr_copy_storage *)(void *)storage; }

static kwr_storage_dir *remote_of(const kwr_storage_dir *dir) {
    return dir == NULL ? NULL : dir->remote;
}

static void add(kwr_copy_storage *s, uint64_t *counter, uint64_t value) {
    kwr_mutex_lock(&s->mutex);
    *counter += value;
    kwr_mutex_unlock(&s->mutex);
}

/* Only names of our own grammar, and only where they belong. */
static bool is_data_file(const kwr_storage_dir *dir, const char *name) {
    uint64_t generation = 0, sequence = 0;
    uint32_t subtask = 0;
    return dir != NULL && dir->shared &&
           kwr_shared_name_parse(name, &generation, NULL, &subtask, &sequence);
}

kwr_copied_job *kwr_copied_job_of(kwr_copy_storage *s, const kwr_storage_dir *dir,
                                  const char *name) {
    if (!is_data_file(dir, name)) return NULL;
    kwr_copied_job *job = kwr_copied_job_find(s, dir->job);
    return job == NULL || job->dir == NULL ? NULL : job;
}

bool kwr_copy_being_written(kwr_copy_storage *s, const kwr_copied_job *job, const char *name) {
    bool found = false;
    kwr_mutex_lock(&s->mutex);
    for (const kwr_storage_writer *w = s->writing; w != NULL && !found; w = w->next)
        found = w->job == job && strcmp(w->name, name) == 0;
    kwr_mutex_unlock(&s->mutex);
    return found;
}

/* ---- directories ---- */

static void copy_close(kwr_storage *storage) {
    kwr_copy_storage *s = of(storage);
    while (s->jobs != NULL) {
        kwr_copied_job *job = s->jobs;
        s->jobs = job->next;
        if (job->dir != NULL) s->local->ops->dir_close(s->local, job->dir);
        kwr_free(s->env, job, sizeof *job);
    }
    kwr_mutex_done(&s->mutex);
    kwr_free(s->env, s, sizeof *s);
}

static uint32_t copy_capabilities(kwr_storage *storage) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->capabilities(remote);
}

static kwr_status copy_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                bool create, kwr_storage_dir **out, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    kwr_storage_dir *dir = kwr_calloc(s->env, sizeof *dir);
    if (dir == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a directory handle");
    const kwr_status status =
        s->remote->ops->dir_open(s->remote, remote_of(parent), name, create, &dir->remote, err);
    if (status < KWR_OK) {
        kwr_free(s->env, dir, sizeof *dir);
        return status;
    }
    const char *job = parent == NULL ? name : parent->top ? parent->job : "";
    if (strlen(job) <= KWR_JOB_NAME_MAX) snprintf(dir->job, sizeof dir->job, "%s", job);
    dir->top = parent == NULL;
    dir->shared = !dir->top && dir->job[0] != '\0' && strcmp(name, "shared") == 0;
    *out = dir;
    return status;
}

static void copy_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    kwr_copy_storage *s = of(storage);
    s->remote->ops->dir_close(s->remote, dir->remote);
    kwr_free(s->env, dir, sizeof *dir);
}

static kwr_status copy_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->dir_sync(remote, remote_of(dir), err);
}

static kwr_status copy_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                            kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->list(remote, remote_of(dir), prefix, fn, fn_ctx, err);
}

static kwr_status copy_dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                  kwr_error *err) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->dir_remove(remote, remote_of(parent), name, err);
}

/* ---- writing ---- */

static void link_writer(kwr_copy_storage *s, kwr_storage_writer *w) {
    kwr_mutex_lock(&s->mutex);
    w->next = s->writing;
    if (w->next != NULL) w->next->previous = w;
    s->writing = w;
    kwr_mutex_unlock(&s->mutex);
}

static void unlink_writer(kwr_copy_storage *s, kwr_storage_writer *w) {
    kwr_mutex_lock(&s->mutex);
    if (w->next != NULL) w->next->previous = w->previous;
    if (w->previous != NULL)
        w->previous->next = w->next;
    else
        s->writing = w->next;
    kwr_mutex_unlock(&s->mutex);
}

/* Told once, until a copy works again. */
static void copy_failed(kwr_copy_storage *s, const kwr_copied_job *job, const char *name,
                        kwr_status status, const kwr_error *err) {
    kwr_mutex_lock(&s->mutex);
    const bool tell = !s->failing;
    s->failing = true;
    s->stats.files_failed++;
    kwr_mutex_unlock(&s->mutex);
    if (!tell) return;
    kwr_log_line(s->env, KWR_LOG_WARNING, "snapshot",
                 "data file '%s' of job '%s' gets no local copy, the checkpoint goes on: %s", name,
                 job->name, err->text[0] != '\0' ? err->text : kwr_status_name(status));
}

static void begin_copy(kwr_copy_storage *s, kwr_storage_writer *w) {
    const kwr_storage_ops *ops = s->local->ops;
    kwr_error err = { 0 };
    kwr_status status = ops->create(s->local, w->job->dir, w->name, &w->local, &err);
    if (status == KWR_ERR_EXISTS) {
        /* Storage had no such file until now: what lies there is nobody's. */
        status = ops->remove(s->local, w->job->dir, w->name, &err);
        if (status >= KWR_OK) status = ops->create(s->local, w->job->dir, w->name, &w->local, &err);
    }
    if (status < KWR_OK) {
        w->local = NULL;
        copy_failed(s, w->job, w->name, status, &err);
    } else {
        link_writer(s, w);
    }
}

static void end_copy(kwr_copy_storage *s, kwr_storage_writer *w, bool keep) {
    if (w->local == NULL) return;
    const kwr_storage_ops *ops = s->local->ops;
    kwr_error err = { 0 };
    kwr_status status = KWR_ERR_CANCELLED;
    if (keep)
        status = ops->finish(s->local, w->local, &err);
    else
        ops->abandon(s->local, w->local);
    w->local = NULL;
    unlink_writer(s, w);
    if (!keep) return;
    if (status < KWR_OK) {
        copy_failed(s, w->job, w->name, status, &err);
        (void)(ops->remove(s->local, w->job->dir, w->name, NULL) < KWR_OK); /* mostly gone */
        return;
    }
    kwr_mutex_lock(&s->mutex);
    s->failing = false;
    s->stats.files_copied++;
    s->stats.bytes_copied += w->bytes;
    w->job->copies++;
    kwr_mutex_unlock(&s->mutex);
}

static kwr_status copy_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_writer **out, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    kwr_storage_writer *w = kwr_calloc(s->env, sizeof *w);
    if (w == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", name);
    const kwr_status status =
        s->remote->ops->create(s->remote, remote_of(dir), name, &w->remote, err);
    if (status < KWR_OK) {
        kwr_free(s->env, w, sizeof *w);
        return status;
    }
    w->job = kwr_copied_job_of(s, dir, name);
    if (w->job != NULL) {
        snprintf(w->name, sizeof w->name, "%s", name);
        begin_copy(s, w);
    }
    *out = w;
    return status;
}

static kwr_status copy_write(kwr_storage *storage, kwr_storage_writer *w, const void *data,
                             size_t size, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    KWR_TRY(s->remote->ops->write(s->remote, w->remote, data, size, err));
    if (w->local == NULL) return KWR_OK;
    kwr_error why = { 0 };
    const kwr_status status = s->local->ops->write(s->local, w->local, data, size, &why);
    w->bytes += size;
    if (status >= KWR_OK) return KWR_OK;
    end_copy(s, w, false);
    copy_failed(s, w->job, w->name, status, &why);
    return KWR_OK;
}

static kwr_status copy_finish(kwr_storage *storage, kwr_storage_writer *w, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    const kwr_status status = s->remote->ops->finish(s->remote, w->remote, err);
    kwr_copied_job *job = w->local == NULL ? NULL : w->job;
    end_copy(s, w, status >= KWR_OK);
    kwr_free(s->env, w, sizeof *w);
    if (job != NULL) kwr_copies_sweep_if_due(s, job);
    return status;
}

static void copy_abandon(kwr_storage *storage, kwr_storage_writer *w) {
    kwr_copy_storage *s = of(storage);
    s->remote->ops->abandon(s->remote, w->remote);
    end_copy(s, w, false);
    kwr_free(s->env, w, sizeof *w);
}

static kwr_status copy_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                               const void *data, size_t size, kwr_error *err) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->publish(remote, remote_of(dir), name, data, size, err);
}

static kwr_status copy_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    const kwr_status status = s->remote->ops->remove(s->remote, remote_of(dir), name, err);
    kwr_copied_job *job =
        status >= KWR_OK || status == KWR_ERR_MISSING ? kwr_copied_job_of(s, dir, name) : NULL;
    if (job == NULL || s->local->ops->remove(s->local, job->dir, name, NULL) < KWR_OK)
        return status; /* what stays there the next sweep finds */
    kwr_mutex_lock(&s->mutex);
    s->stats.files_removed++;
    if (job->copies > 0) job->copies--;
    kwr_mutex_unlock(&s->mutex);
    return status;
}

/* ---- reading remotely ---- */

static kwr_status copy_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    kwr_storage_reader *reader = kwr_calloc(s->env, sizeof *reader);
    if (reader == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", name);
    const kwr_status status =
        s->remote->ops->open(s->remote, remote_of(dir), name, &reader->remote, size, err);
    if (status < KWR_OK) {
        kwr_free(s->env, reader, sizeof *reader);
        return status;
    }
    reader->counted = is_data_file(dir, name);
    *out = reader;
    return status;
}

static kwr_status copy_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                            void *data, size_t size, kwr_error *err) {
    kwr_copy_storage *s = of(storage);
    KWR_TRY(s->remote->ops->read(s->remote, reader->remote, offset, data, size, err));
    if (reader->counted) add(s, &s->stats.bytes_remote, size);
    return KWR_OK;
}

static void copy_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    kwr_copy_storage *s = of(storage);
    s->remote->ops->close_reader(s->remote, reader->remote);
    kwr_free(s->env, reader, sizeof *reader);
}

static kwr_status copy_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_lock **out, kwr_error *err) {
    kwr_storage *remote = of(storage)->remote;
    return remote->ops->lock(remote, remote_of(dir), name, out, err);
}

static void copy_unlock(kwr_storage *storage, kwr_storage_lock *lock) {
    kwr_storage *remote = of(storage)->remote;
    remote->ops->unlock(remote, lock);
}

static void copy_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                          size_t capacity) {
    kwr_storage *remote = of(storage)->remote;
    remote->ops->describe(remote, remote_of(dir), name, out, capacity);
}

static kwr_status copy_unfinished(kwr_storage *storage, kwr_storage_dir *dir, kwr_unfinished_fn fn,
                                  void *ctx, kwr_error *err) {
    return kwr_storage_unfinished(of(storage)->remote, remote_of(dir), fn, ctx, err);
}

static kwr_status copy_unfinished_remove(kwr_storage *storage, kwr_storage_dir *dir,
                                         const char *path, const char *token, kwr_error *err) {
    return kwr_storage_unfinished_remove(of(storage)->remote, remote_of(dir), path, token, err);
}

static const kwr_storage_ops copy_ops = {
    .struct_size = sizeof copy_ops,
    .close = copy_close,
    .capabilities = copy_capabilities,
    .dir_open = copy_dir_open,
    .dir_close = copy_dir_close,
    .dir_sync = copy_dir_sync,
    .list = copy_list,
    .dir_remove = copy_dir_remove,
    .create = copy_create,
    .write = copy_write,
    .finish = copy_finish,
    .abandon = copy_abandon,
    .open = copy_open,
    .read = copy_read,
    .unfinished = copy_unfinished,
    .unfinished_remove = copy_unfinished_remove,
    .close_reader = copy_close_reader,
    .publish = copy_publish,
    .remove = copy_remove,
    .lock = copy_lock,
    .unlock = copy_unlock,
    .describe = copy_describe,
};

kwr_copy_storage *kwr_copy_storage_of(kwr_storage *storage) {
    return storage->ops == &copy_ops ? of(storage) : NULL;
}

kwr_status kwr_storage_local_copy_open(const kwr_env *env, kwr_storage *remote, kwr_storage *local,
                                       kwr_storage **out, kwr_error *err) {
    if (env == NULL || remote == NULL || local == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_storage_local_copy_open: an argument is NULL");
    if (remote == local)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "kwr_storage_local_copy_open: the local storage is the remote one");
    kwr_copy_storage *s = kwr_calloc(env, sizeof *s);
    if (s == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for local copies");
    s->base.ops = &copy_ops;
    s->env = env;
    s->remote = remote;
    s->local = local;
    kwr_mutex_init(&s->mutex);
    *out = &s->base;
    return KWR_OK;
}

void kwr_storage_local_copy_get_stats(kwr_storage *storage, kwr_local_copy_stats *stats) {
    kwr_local_copy_stats full = { 0 };
    kwr_copy_storage *s = kwr_copy_storage_of(storage);
    if (s != NULL) {
        kwr_mutex_lock(&s->mutex);
        full = s->stats;
        kwr_mutex_unlock(&s->mutex);
    }
    const size_t size = stats->struct_size;
    full.struct_size = size;
    memcpy(stats, &full, size < sizeof full ? size : sizeof full);
}
