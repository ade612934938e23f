/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit log: reading it whole and checked, the history a start continues, and publishing the
 * next slot. The listing of a directory is only a hint; what counts is whether a slot can be
 * opened by its exact name.
 */
#include "snapshot/log.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/name.h"
#include "base/planted.h"
#include "snapshot/slot.h"
#include "snapshot/storage.h"

enum { READ_TRIES = 16 }; /* a running job may remove old slots while a tool reads */

/* ---- the directories of a job ---- */

static kwr_status open_existing(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                kwr_storage_dir **out, kwr_error *err) {
    const kwr_status status = storage->ops->dir_open(storage, parent, name, false, out, err);
    return status == KWR_ERR_MISSING ? KWR_OK : status;
}

static kwr_status open_dirs(kwr_job_dirs *dirs, bool create, kwr_error *err) {
    kwr_storage *storage = dirs->storage;
    KWR_TRY(storage->ops->dir_open(storage, NULL, dirs->job, create, &dirs->root, err));
    if (!create) {
        KWR_TRY(open_existing(storage, dirs->root, "log", &dirs->log, err));
        return open_existing(storage, dirs->root, "shared", &dirs->shared, err);
    }
    KWR_TRY(storage->ops->dir_open(storage, dirs->root, "log", true, &dirs->log, err));
    KWR_TRY(storage->ops->dir_open(storage, dirs->root, "shared", true, &dirs->shared, err));
    /* Also when they were there: whoever made them may have died before this. */
    if (KWR_PLANTED(dirs_unsynced)) return KWR_OK;
    KWR_TRY(storage->ops->dir_sync(storage, dirs->root, err));
    return storage->ops->dir_sync(storage, NULL, err);
}

kwr_status kwr_job_dirs_open(const kwr_env *env, kwr_storage *storage, const char *job, bool create,
                             kwr_job_dirs *out, kwr_error *err) {
    if (job == NULL || !kwr_name_ok(job, KWR_JOB_NAME_MAX, false))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "job name refused: 1 to %d of A-Z a-z 0-9 . _ - and not starting with .",
                        KWR_JOB_NAME_MAX);
    kwr_job_dirs dirs = { .env = env, .storage = storage };
    snprintf(dirs.job, sizeof dirs.job, "%s", job);
    const kwr_status status = open_dirs(&dirs, create, err);
    if (status < KWR_OK) {
        kwr_job_dirs_close(&dirs);
        return status;
    }
    *out = dirs;
    return KWR_OK;
}

void kwr_job_dirs_close(kwr_job_dirs *dirs) {
    if (dirs->storage != NULL) {
        const kwr_storage_ops *ops = dirs->storage->ops;
        if (dirs->shared != NULL) ops->dir_close(dirs->storage, dirs->shared);
        if (dirs->log != NULL) ops->dir_close(dirs->storage, dirs->log);
        if (dirs->root != NULL) ops->dir_close(dirs->storage, dirs->root);
    }
    *dirs = (kwr_job_dirs){ 0 };
}

/* ---- reading ---- */

void kwr_log_free(kwr_log *log) {
    if (log->env != NULL) kwr_free(log->env, log->slots, log->capacity * sizeof *log->slots);
    *log = (kwr_log){ 0 };
}

kwr_status kwr_log_append(kwr_log *log, const kwr_slot *slot) {
    void *items = log->slots;
    if (!kwr_grow_array(log->env, &items, &log->capacity, log->count + 1, sizeof *log->slots))
        return KWR_ERR_NOMEM;
    log->slots = items;
    log->slots[log->count++] = *slot;
    return KWR_OK;
}

/* The highest slot a listing names, 0 for none. */
static kwr_status note_slot(void *ctx, const char *name) {
    uint64_t *high = ctx, number = 0;
    if (kwr_slot_name_parse(name, &number) && number > *high) *high = number;
    return KWR_OK;
}

/* What a slot must have in common with its job and the slot before it; NULL: all of it. */
static const char *chain_fault(const kwr_job_dirs *dirs, const kwr_slot *before,
                               const kwr_slot *slot) {
    if (strcmp(slot->job, dirs->job) != 0) return "it belongs to a job of another name";
    if (before == NULL) return NULL;
    if (memcmp(before->job_uid, slot->job_uid, sizeof slot->job_uid) != 0)
        return "it belongs to another job (the uid differs from the slot before it)";
    if (!kwr_digest_equal(&before->digest, &slot->previous))
        return "it does not continue the slot before it (digest)";
    if (slot->floor < before->floor) return "its floor is below that of the slot before it";
    if (slot->kind == KWR_SLOT_FENCE) {
        if (slot->generation <= before->generation) return "its generation is not a new one";
        if (slot->highest != before->highest) return "its highest checkpoint id is wrong";
        return NULL;
    }
    if (slot->generation != before->generation)
        return "its generation is not that of the slot before it";
    if (slot->checkpoint <= before->highest) return "its checkpoint id was used before";
    return NULL;
}

/* A slot by itself. KWR_ERR_MISSING: there is no such slot (now). */
static kwr_status read_alone(const kwr_job_dirs *dirs, const kwr_limits *limits, uint64_t number,
                             kwr_slot *out, kwr_error *err) {
    char name[KWR_FILE_NAME_MAX], path[KWR_STORAGE_PATH_MAX];
    kwr_slot_name(number, name);
    kwr_storage_path(dirs->storage, dirs->log, name, path);
    kwr_bytes bytes = { 0 };
    KWR_TRY(kwr_storage_read_file(dirs->env, dirs->storage, dirs->log, name, limits->slot_bytes_max,
                                  &bytes, err));
    kwr_slot slot = { 0 };
    kwr_status status =
        kwr_slot_decode(dirs->env, (kwr_slice){ bytes.data, bytes.size }, path, &slot, err);
    kwr_bytes_free(&bytes);
    KWR_TRY(status);
    if (slot.number != number)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s' is damaged: it holds slot %llu", path,
                        (unsigned long long)slot.number);
    *out = slot;
    return KWR_OK;
}

/* The next slot of the log, checked against the one before it. */
static kwr_status read_slot(const kwr_job_dirs *dirs, const kwr_limits *limits, uint64_t number,
                            kwr_log *log, kwr_error *err) {
    kwr_slot slot;
    KWR_TRY(read_alone(dirs, limits, number, &slot, err));
    const kwr_slot *before = log->count == 0 ? NULL : &log->slots[log->count - 1];
    const char *fault = chain_fault(dirs, before, &slot);
    if (fault != NULL) {
        char name[KWR_FILE_NAME_MAX], path[KWR_STORAGE_PATH_MAX];
        kwr_slot_name(number, name);
        kwr_storage_path(dirs->storage, dirs->log, name, path);
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s': %s", path, fault);
    }
    const kwr_status status = kwr_log_append(log, &slot);
    if (status < KWR_OK) return KWR_FAIL(err, status, 0, "no memory for the commit log");
    return KWR_OK;
}

static kwr_status too_many(const kwr_job_dirs *dirs, const kwr_limits *limits, uint64_t floor,
                           uint64_t high, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                    "the commit log of job '%s' has slots from %016llx to %016llx, more than the "
                    "limit of %u (slots_max)",
                    dirs->job, (unsigned long long)floor, (unsigned long long)high,
                    limits->slots_max);
}

/* What the highest slot says is not part of the log any more. */
static void drop_below_floor(kwr_log *log) {
    const uint64_t floor = kwr_log_floor(log);
    size_t gone = 0;
    while (gone < log->count && log->slots[gone].number < floor)
        gone++;
    if (gone == 0) return;
    log->count -= gone;
    memmove(log->slots, log->slots + gone, log->count * sizeof *log->slots);
}

/* One pass; *vanished: a slot that must be there could not be found. */
static kwr_status read_once(const kwr_job_dirs *dirs, const kwr_limits *limits, kwr_log *log,
                            bool *vanished, kwr_error *err) {
    uint64_t high = 0, number = 1;
    kwr_storage *storage = dirs->storage;
    *vanished = false;
    KWR_TRY(storage->ops->list(storage, dirs->log, "", note_slot, &high, err));
    if (high > 0) {
        kwr_slot top;
        kwr_status status = read_alone(dirs, limits, high, &top, err);
        if (KWR_PLANTED(damaged_slot_is_absent) && status == KWR_ERR_CORRUPT && high > 1)
            status = read_alone(dirs, limits, --high, &top, err);
        *vanished = status == KWR_ERR_MISSING;
        KWR_TRY(status);
        number = top.floor;
        if (high - number >= limits->slots_max) return too_many(dirs, limits, number, high, err);
    }
    for (; number != 0 && log->count < limits->slots_max; number++) {
        kwr_status status = read_slot(dirs, limits, number, log, err);
        if (KWR_PLANTED(damaged_slot_is_absent) && status == KWR_ERR_CORRUPT && number > high)
            status = KWR_ERR_MISSING;
        if (status == KWR_ERR_MISSING && number > high) {
            drop_below_floor(log);
            return KWR_OK;
        }
        if (status == KWR_ERR_MISSING) {
            *vanished = true;
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                            "the commit log of job '%s' has a hole: slot %016llx is missing, but "
                            "slot %016llx is there",
                            dirs->job, (unsigned long long)number, (unsigned long long)high);
        }
        KWR_TRY(status);
    }
    return too_many(dirs, limits, log->count == 0 ? number : log->slots[0].number, number, err);
}

kwr_status kwr_log_read(const kwr_job_dirs *dirs, const kwr_limits *limits, kwr_log *out,
                        kwr_error *err) {
    kwr_limits complete;
    KWR_TRY(kwr_limits_complete(limits, &complete, err));
    kwr_log log = { .env = dirs->env };
    kwr_status status = KWR_OK;
    for (int i = 0; dirs->log != NULL && i < READ_TRIES; i++) {
        bool vanished = false;
        log.count = 0;
        status = read_once(dirs, &complete, &log, &vanished, err);
        if (!vanished) break;
    }
    if (status < KWR_OK) {
        kwr_log_free(&log);
        return status;
    }
    *out = log;
    return KWR_OK;
}

/* ---- the history ---- */

static const kwr_slot *find_below(const kwr_log *log, size_t end, uint64_t checkpoint,
                                  uint64_t generation) {
    const kwr_slot *found = NULL;
    for (size_t i = 0; i < end; i++) {
        const kwr_slot *slot = &log->slots[i];
        if (slot->kind != KWR_SLOT_CHECKPOINT || slot->checkpoint != checkpoint) continue;
        if (generation != 0 && slot->generation != generation) continue;
        if (found == NULL || slot->generation > found->generation) found = slot;
    }
    return found;
}

/* The newest checkpoint of the history below position `end`: fences with a base redirect it. */
static const kwr_slot *newest_below(const kwr_log *log, size_t end, bool *base_missing) {
    for (size_t i = end; i > 0; i--) {
        const kwr_slot *slot = &log->slots[i - 1];
        if (slot->kind == KWR_SLOT_CHECKPOINT) return slot;
        if (slot->base == KWR_BASE_NONE) continue;
        if (slot->base == KWR_BASE_EMPTY) return NULL;
        const kwr_slot *base = find_below(log, i - 1, slot->base_checkpoint, slot->base_generation);
        if (base == NULL && base_missing != NULL) *base_missing = true;
        return base;
    }
    return NULL;
}

const kwr_slot *kwr_log_newest(const kwr_log *log, bool *base_missing) {
    if (base_missing != NULL) *base_missing = false;
    return newest_below(log, log->count, base_missing);
}

const kwr_slot *kwr_log_older(const kwr_log *log, const kwr_slot *than) {
    if (than == NULL) return kwr_log_newest(log, NULL);
    for (size_t i = 0; i < log->count; i++)
        if (log->slots[i].number == than->number) return newest_below(log, i, NULL);
    return NULL;
}

const kwr_slot *kwr_log_find(const kwr_log *log, uint64_t checkpoint, uint64_t generation) {
    return find_below(log, log->count, checkpoint, generation);
}

uint64_t kwr_log_highest(const kwr_log *log) {
    return log->count == 0 ? 0 : log->slots[log->count - 1].highest;
}

/* ---- publishing ---- */

uint64_t kwr_log_floor(const kwr_log *log) {
    return log->count == 0 ? 1 : log->slots[log->count - 1].floor;
}

void kwr_log_continue(const kwr_log *log, kwr_slot *slot) {
    slot->number = slot->floor = 1;
    slot->has_previous = log->count > 0;
    if (log->count == 0) return;
    const kwr_slot *last = &log->slots[log->count - 1];
    slot->number = last->number + 1;
    slot->floor = last->floor;
    slot->previous = last->digest;
    slot->generation = last->generation;
    slot->highest = last->highest;
    memcpy(slot->job, last->job, sizeof slot->job);
    memcpy(slot->job_uid, last->job_uid, sizeof slot->job_uid);
}

/*
 * The name was taken, says the storage: by whom, the slot itself must say. A call that failed and
 * yet took effect, and a disk that then answered wrongly, must not make another attempt's of ours:
 * whoever is fenced off forgets a checkpoint that is published.
 */
static kwr_status taken_by(const kwr_job_dirs *dirs, const kwr_slot *slot, kwr_error *err) {
    kwr_limits limits;
    KWR_TRY(kwr_limits_complete(NULL, &limits, err));
    kwr_slot found = { 0 };
    kwr_error why = { 0 };
    kwr_status status = read_alone(dirs, &limits, slot->number, &found, &why);
    /* Its owner has gone on, and removed it. */
    if (status == KWR_ERR_MISSING) return KWR_ERR_EXISTS;
    /* Two attempts' fences may be alike to the last bit: whoever is in doubt claims again. */
    if (status >= KWR_OK &&
        (slot->kind == KWR_SLOT_FENCE || !kwr_digest_equal(&found.digest, &slot->digest)))
        return KWR_ERR_EXISTS;
    if (status >= KWR_OK) status = dirs->storage->ops->dir_sync(dirs->storage, dirs->log, &why);
    if (status >= KWR_OK) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_UNKNOWN, why.sys_errno,
                    "job '%s': slot %llu of the commit log is taken, whether by this attempt is "
                    "not known: %s",
                    dirs->job, (unsigned long long)slot->number, why.text);
}

kwr_status kwr_log_publish(const kwr_job_dirs *dirs, kwr_slot *slot, kwr_error *err) {
    if (dirs->log == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "the log of job '%s' was opened for reading only",
                        dirs->job);
    kwr_bytes bytes = { 0 };
    KWR_TRY(kwr_slot_encode(dirs->env, slot, &bytes, err));
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(slot->number, name);
    kwr_status status =
        dirs->storage->ops->publish(dirs->storage, dirs->log, name, bytes.data, bytes.size, err);
    kwr_bytes_free(&bytes);
    if (status == KWR_ERR_EXISTS) status = taken_by(dirs, slot, err);
    return status;
}

kwr_status kwr_log_probe(const kwr_job_dirs *dirs, uint64_t number, kwr_error *err) {
    if (dirs->log == NULL) return KWR_NOT_FOUND;
    /* By name first: a listing may lag behind. But the name may be free again, when a successor
     * has gone on for long and removed its first slots. */
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(number, name);
    kwr_storage_reader *reader = NULL;
    const kwr_status status =
        dirs->storage->ops->open(dirs->storage, dirs->log, name, &reader, NULL, err);
    if (status == KWR_OK) {
        dirs->storage->ops->close_reader(dirs->storage, reader);
        return KWR_OK;
    }
    if (status != KWR_ERR_MISSING) return status;
    if (KWR_PLANTED(probe_by_name_only)) return KWR_NOT_FOUND;
    uint64_t high = 0;
    KWR_TRY(dirs->storage->ops->list(dirs->storage, dirs->log, "", note_slot, &high, err));
    return high >= number ? KWR_OK : KWR_NOT_FOUND;
}
