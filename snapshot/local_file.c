/* SPDX-License-Identifier: Apache-2.0 */
/* Reading local copies: bytes on offer, and what becomes of a copy whose bytes were not right. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "snapshot/local_store.h"

struct kwr_local_file {
    kwr_copy_storage *copies;
    kwr_copied_job *job;
    kwr_storage_reader *reader; /* NULL: opened for each read */
    uint64_t length;
    uint32_t bad; /* atomic */
    uint32_t counted;
    char name[KWR_FILE_NAME_MAX];
};

static void free_file(kwr_local_file *file) { kwr_free(file->copies->env, file, sizeof *file); }

kwr_local_file *kwr_local_file_open(kwr_storage *storage, kwr_storage_dir *shared, const char *name,
                                    uint64_t length) {
    kwr_copy_storage *s = kwr_copy_storage_of(storage);
    kwr_copied_job *job = s == NULL ? NULL : kwr_copied_job_of(s, shared, name);
    if (job == NULL) return NULL;
    kwr_local_file *file = kwr_calloc(s->env, sizeof *file);
    if (file == NULL) return NULL;
    file->copies = s;
    file->job = job;
    file->length = length;
    snprintf(file->name, sizeof file->name, "%s", name);
    uint64_t size = 0;
    if (s->local->ops->open(s->local, job->dir, name, &file->reader, &size, NULL) < KWR_OK) {
        free_file(file);
        return NULL;
    }
    if (size == length) return file;
    char why[96];
    snprintf(why, sizeof why, "it has %llu bytes instead of %llu", (unsigned long long)size,
             (unsigned long long)length);
    kwr_local_file_reject(file, why);
    kwr_local_file_close(file);
    return NULL;
}

void kwr_local_file_rest(kwr_local_file *file) {
    if (file == NULL || file->reader == NULL) return;
    file->copies->local->ops->close_reader(file->copies->local, file->reader);
    file->reader = NULL;
}

void kwr_local_file_close(kwr_local_file *file) {
    if (file == NULL) return;
    kwr_local_file_rest(file);
    free_file(file);
}

static bool is_bad(const kwr_local_file *file) {
    return __atomic_load_n(&file->bad, __ATOMIC_RELAXED) != 0;
}

bool kwr_local_file_read(kwr_local_file *file, uint64_t offset, void *data, size_t size) {
    kwr_storage *local = file->copies->local;
    kwr_error err = { 0 };
    if (is_bad(file)) return false;
    kwr_storage_reader *reader = file->reader;
    uint64_t length = 0;
    kwr_status status = KWR_OK;
    if (reader == NULL)
        status = local->ops->open(local, file->job->dir, file->name, &reader, &length, &err);
    if (status >= KWR_OK) status = local->ops->read(local, reader, offset, data, size, &err);
    if (file->reader == NULL && reader != NULL) local->ops->close_reader(local, reader);
    if (status >= KWR_OK) return true;
    /* Retention may have removed it meanwhile; anything else is told. */
    if (status == KWR_ERR_MISSING)
        __atomic_store_n(&file->bad, 1, __ATOMIC_RELAXED);
    else
        kwr_local_file_reject(file, err.text[0] != '\0' ? err.text : kwr_status_name(status));
    return false;
}

void kwr_local_file_used(kwr_local_file *file, uint64_t bytes) {
    kwr_copy_storage *s = file->copies;
    const bool first = __atomic_exchange_n(&file->counted, 1, __ATOMIC_RELAXED) == 0;
    kwr_mutex_lock(&s->mutex);
    s->stats.bytes_local += bytes;
    s->stats.files_local += first;
    kwr_mutex_unlock(&s->mutex);
}

void kwr_local_file_loaded(kwr_local_file *file, uint64_t bytes) {
    if (!is_bad(file)) kwr_local_file_used(file, bytes);
}

bool kwr_local_file_reject(kwr_local_file *file, const char *why) {
    kwr_copy_storage *s = file->copies;
    if (__atomic_exchange_n(&file->bad, 1, __ATOMIC_RELAXED) != 0) return false;
    char path[KWR_STORAGE_PATH_MAX];
    kwr_storage_path(s->local, file->job->dir, file->name, path);
    kwr_log_line(s->env, KWR_LOG_WARNING, "snapshot",
                 "local copy '%s' is not used, the file in storage is: %s", path, why);
    const bool removed =
        s->local->ops->remove(s->local, file->job->dir, file->name, NULL) >= KWR_OK;
    kwr_mutex_lock(&s->mutex);
    s->stats.files_rejected++;
    if (removed && file->job->copies > 0) file->job->copies--;
    kwr_mutex_unlock(&s->mutex);
    return true;
}

bool kwr_local_file_path(kwr_storage *storage, kwr_storage_dir *shared, const char *name,
                         char out[KWR_STORAGE_PATH_MAX]) {
    kwr_copy_storage *s = kwr_copy_storage_of(storage);
    const kwr_copied_job *job = s == NULL ? NULL : kwr_copied_job_of(s, shared, name);
    kwr_storage_reader *reader = NULL;
    uint64_t size = 0;
    if (job == NULL || s->local->ops->open(s->local, job->dir, name, &reader, &size, NULL) < KWR_OK)
        return false;
    s->local->ops->close_reader(s->local, reader);
    kwr_storage_path(s->local, job->dir, name, out);
    return true;
}
