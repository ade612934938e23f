/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose copies a local directory holds, and which of them still have their file in storage: a
 * directory is claimed for a job by its uid, and copies whose file is gone are swept.
 */
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "snapshot/local_store.h"

enum {
    UID_TEXT = 32,
    SWEEP_AFTER = 64, /* copies more than twice those the last sweep left */
};

/* Under the mutex. */
static kwr_copied_job *find_job(const kwr_copy_storage *s, const char *name) {
    kwr_copied_job *job = s->jobs;
    while (job != NULL && strcmp(job->name, name) != 0)
        job = job->next;
    return job;
}

kwr_copied_job *kwr_copied_job_find(kwr_copy_storage *s, const char *name) {
    kwr_mutex_lock(&s->mutex);
    kwr_copied_job *job = find_job(s, name);
    kwr_mutex_unlock(&s->mutex);
    return job;
}

/* ---- sweeping ---- */

/* Hashes of names, at most half full; 0 is free. Equal hashes keep a copy too long, no more. */
typedef struct name_set {
    const kwr_env *env;
    uint64_t *slots;
    size_t capacity;
    size_t count;
} name_set;

static void set_put(name_set *set, uint64_t hash) {
    size_t at = (size_t)hash & (set->capacity - 1);
    while (set->slots[at] != 0 && set->slots[at] != hash)
        at = (at + 1) & (set->capacity - 1);
    set->count += set->slots[at] == 0;
    set->slots[at] = hash;
}

static uint64_t hash_of(const char *name) {
    const uint64_t hash = kwr_hash64(name, strlen(name), 0);
    return hash == 0 ? 1 : hash;
}

static kwr_status set_add(void *ctx, const char *name) {
    name_set *set = ctx;
    if (2 * set->count >= set->capacity) {
        name_set larger = { .env = set->env,
                            .capacity = set->capacity == 0 ? 64 : 2 * set->capacity };
        larger.slots = kwr_alloc_array(set->env, larger.capacity, sizeof *larger.slots);
        if (larger.slots == NULL) return KWR_ERR_NOMEM;
        memset(larger.slots, 0, larger.capacity * sizeof *larger.slots);
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i] != 0) set_put(&larger, set->slots[i]);
        kwr_free(set->env, set->slots, set->capacity * sizeof *set->slots);
        *set = larger;
    }
    set_put(set, hash_of(name));
    return KWR_OK;
}

static bool set_has(const name_set *set, const char *name) {
    const uint64_t hash = hash_of(name);
    if (set->capacity == 0) return false;
    size_t at = (size_t)hash & (set->capacity - 1);
    while (set->slots[at] != 0 && set->slots[at] != hash)
        at = (at + 1) & (set->capacity - 1);
    return set->slots[at] == hash;
}

static kwr_status collect(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    uint64_t generation = 0, sequence = 0;
    uint32_t subtask = 0;
    if (!kwr_shared_name_parse(name, &generation, NULL, &subtask, &sequence)) return KWR_OK;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static kwr_status list_remote(kwr_copy_storage *s, const kwr_copied_job *job, name_set *out,
                              kwr_error *err) {
    const kwr_storage_ops *ops = s->remote->ops;
    kwr_storage_dir *root = NULL, *shared = NULL;
    kwr_status status = ops->dir_open(s->remote, NULL, job->name, false, &root, err);
    if (status >= KWR_OK) status = ops->dir_open(s->remote, root, "shared", false, &shared, err);
    if (status >= KWR_OK) status = ops->list(s->remote, shared, "", set_add, out, err);
    if (shared != NULL) ops->dir_close(s->remote, shared);
    if (root != NULL) ops->dir_close(s->remote, root);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}

/* Copies of files that storage has no more. Local names first: what is new remotely by then is not
 * among them. */
static void sweep(kwr_copy_storage *s, kwr_copied_job *job) {
    const kwr_storage_ops *ops = s->local->ops;
    kwr_buffer names = { .env = s->env };
    name_set there = { .env = s->env };
    kwr_error err = { 0 };
    uint64_t left = 0, removed = 0;
    kwr_status status = ops->list(s->local, job->dir, "", collect, &names, &err);
    if (status >= KWR_OK) status = list_remote(s, job, &there, &err);
    for (size_t at = 0; status >= KWR_OK && at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        const bool stays = set_has(&there, name) || kwr_copy_being_written(s, job, name);
        if (stays || ops->remove(s->local, job->dir, name, NULL) < KWR_OK)
            left++;
        else
            removed++;
    }
    if (status < KWR_OK)
        kwr_log_line(s->env, KWR_LOG_WARNING, "snapshot",
                     "old local copies of job '%s' stay for now: %s", job->name,
                     err.text[0] != '\0' ? err.text : kwr_status_name(status));
    kwr_buffer_free(&names);
    kwr_free(s->env, there.slots, there.capacity * sizeof *there.slots);
    kwr_mutex_lock(&s->mutex);
    if (status >= KWR_OK) job->copies = left;
    job->sweep_at = 2 * job->copies + SWEEP_AFTER;
    s->stats.files_removed += removed;
    kwr_mutex_unlock(&s->mutex);
}

void kwr_copies_sweep_if_due(kwr_copy_storage *s, kwr_copied_job *job) {
    kwr_mutex_lock(&s->mutex);
    const bool due = !s->sweeping && job->copies >= job->sweep_at;
    if (due) s->sweeping = true;
    kwr_mutex_unlock(&s->mutex);
    if (!due) return;
    sweep(s, job);
    kwr_mutex_lock(&s->mutex);
    s->sweeping = false;
    kwr_mutex_unlock(&s->mutex);
}

/* ---- whose they are ---- */

static void uid_text(const uint8_t uid[16], char out[UID_TEXT + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        out[2 * i] = digits[uid[i] >> 4];
        out[2 * i + 1] = digits[uid[i] & 15];
    }
    out[UID_TEXT] = '\0';
}

/* The file "uid" of the job's local directory says `uid`, or is made. */
static kwr_status check_uid(kwr_copy_storage *s, kwr_storage_dir *root, const kwr_copied_job *job,
                            kwr_error *err) {
    const kwr_storage_ops *ops = s->local->ops;
    char own[UID_TEXT + 1], path[KWR_STORAGE_PATH_MAX];
    kwr_bytes there = { 0 };
    uid_text(job->uid, own);
    kwr_status status = ops->publish(s->local, root, "uid", own, UID_TEXT, err);
    if (status != KWR_ERR_EXISTS) return status;
    KWR_TRY(
        kwr_storage_read_file(s->env, s->local, root, "uid", 2 * (uint64_t)UID_TEXT, &there, err));
    const bool same = there.size == UID_TEXT && memcmp(there.data, own, UID_TEXT) == 0;
    char other[UID_TEXT + 1] = "";
    if (there.size == UID_TEXT) memcpy(other, there.data, UID_TEXT);
    kwr_bytes_free(&there);
    if (same) return KWR_OK;
    if (strspn(other, "0123456789abcdef") != UID_TEXT) snprintf(other, sizeof other, "unknown");
    kwr_storage_path(s->local, root, NULL, path);
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                    "'%s' holds local copies of another job: its uid is %s, that of job '%s' is "
                    "%s; give this job a directory of its own, or remove that one",
                    path, other, job->name, own);
}

static kwr_status open_job(kwr_copy_storage *s, kwr_copied_job *job, kwr_error *err) {
    const kwr_storage_ops *ops = s->local->ops;
    kwr_storage_dir *root = NULL;
    kwr_error why = { 0 };
    kwr_status status = ops->dir_open(s->local, NULL, job->name, true, &root, &why);
    if (status >= KWR_OK) {
        status = check_uid(s, root, job, &why);
        if (status >= KWR_OK)
            status = ops->dir_open(s->local, root, "copies", true, &job->dir, &why);
        ops->dir_close(s->local, root);
    }
    if (status == KWR_ERR_MISMATCH) {
        if (err != NULL) *err = why;
        return status;
    }
    if (status < KWR_OK)
        kwr_log_line(s->env, KWR_LOG_WARNING, "snapshot", "job '%s' goes without local copies: %s",
                     job->name, why.text[0] != '\0' ? why.text : kwr_status_name(status));
    return KWR_OK;
}

kwr_status kwr_storage_local_copy_claim(kwr_storage *storage, const char *job,
                                        const uint8_t uid[16], kwr_error *err) {
    if (storage == NULL || job == NULL || uid == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0,
                        "kwr_storage_local_copy_claim: an argument is NULL");
    kwr_copy_storage *s = kwr_copy_storage_of(storage);
    if (s == NULL) return KWR_OK;
    if (strlen(job) > KWR_JOB_NAME_MAX)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the job's name is longer than %d",
                        KWR_JOB_NAME_MAX);
    const kwr_copied_job *known = kwr_copied_job_find(s, job);
    if (known != NULL && memcmp(known->uid, uid, 16) == 0) return KWR_OK;
    if (known != NULL)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0,
                        "this storage keeps local copies of another job named '%s'", job);
    kwr_copied_job *made = kwr_calloc(s->env, sizeof *made);
    if (made == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for local copies");
    snprintf(made->name, sizeof made->name, "%s", job);
    memcpy(made->uid, uid, sizeof made->uid);
    const kwr_status status = open_job(s, made, err);
    if (status < KWR_OK) {
        kwr_free(s->env, made, sizeof *made);
        return status;
    }
    if (made->dir != NULL) sweep(s, made);
    kwr_mutex_lock(&s->mutex);
    const bool first = find_job(s, job) == NULL;
    if (first) {
        made->next = s->jobs;
        s->jobs = made;
    }
    kwr_mutex_unlock(&s->mutex);
    if (first) return KWR_OK;
    if (made->dir != NULL) s->local->ops->dir_close(s->local, made->dir);
    kwr_free(s->env, made, sizeof *made);
    return kwr_storage_local_copy_claim(storage, job, uid, err);
}
