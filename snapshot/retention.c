/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retention. For every shared file the last slot that uses it is kept: it goes when that slot is
 * gone, and never while a checkpoint of the log has not been looked at. What is gone is said by the
 * floor of the log's highest slot, durable before anything is removed. Slots go one by one from the
 * front, each durably before the next; only then what they referred to.
 */
#include "snapshot/retention.h"

#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/planted.h"
#include "snapshot/storage.h"

typedef struct shared_file {
    char *name;
    uint64_t last_slot;
} shared_file;

/* A directory whose slot is gone. */
typedef struct doomed {
    uint64_t checkpoint;
    uint64_t generation;
} doomed;

struct kwr_retention {
    const kwr_env *env;
    kwr_limits limits;
    bool log_unsynced;  /* a slot was removed, but not durably as far as known */
    shared_file *files; /* sorted by name */
    size_t file_count;
    size_t file_capacity;
    uint64_t *known; /* slots whose files are in the table, ascending */
    size_t known_count;
    size_t known_capacity;
    doomed *doomed;
    size_t doomed_count;
    size_t doomed_capacity;
};

kwr_status kwr_retention_new(const kwr_env *env, const kwr_limits *limits, kwr_retention **out) {
    kwr_limits complete;
    KWR_TRY(kwr_limits_complete(limits, &complete, NULL));
    kwr_retention *made = kwr_calloc(env, sizeof *made);
    if (made == NULL) return KWR_ERR_NOMEM;
    made->env = env;
    made->limits = complete;
    *out = made;
    return KWR_OK;
}

void kwr_retention_free(kwr_retention *retention) {
    if (retention == NULL) return;
    const kwr_env *env = retention->env;
    for (size_t i = 0; i < retention->file_count; i++)
        kwr_free_string(env, retention->files[i].name);
    kwr_free(env, retention->files, retention->file_capacity * sizeof *retention->files);
    kwr_free(env, retention->known, retention->known_capacity * sizeof *retention->known);
    kwr_free(env, retention->doomed, retention->doomed_capacity * sizeof *retention->doomed);
    kwr_free(env, retention, sizeof *retention);
}

/* ---- which files are in use ---- */

static bool find_file(const kwr_retention *r, const char *name, size_t *at) {
    size_t low = 0, high = r->file_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(r->files[middle].name, name);
        if (order == 0) {
            *at = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return false;
}

static kwr_status use_file(kwr_retention *r, const char *name, uint64_t slot) {
    size_t at = 0;
    if (find_file(r, name, &at)) {
        if (r->files[at].last_slot < slot) r->files[at].last_slot = slot;
        return KWR_OK;
    }
    void *items = r->files;
    if (!kwr_grow_array(r->env, &items, &r->file_capacity, r->file_count + 1, sizeof *r->files))
        return KWR_ERR_NOMEM;
    r->files = items;
    char *copy = kwr_copy_string(r->env, name);
    if (copy == NULL) return KWR_ERR_NOMEM;
    memmove(r->files + at + 1, r->files + at, (r->file_count - at) * sizeof *r->files);
    r->files[at] = (shared_file){ .name = copy, .last_slot = slot };
    r->file_count++;
    return KWR_OK;
}

static bool is_known(const kwr_retention *r, uint64_t slot) {
    for (size_t i = r->known_count; i > 0; i--)
        if (r->known[i - 1] == slot) return true;
    return false;
}

static kwr_status use_files(kwr_retention *r, const kwr_manifest_subtask *subtask, uint64_t slot) {
    for (size_t i = 0; i < subtask->file_count; i++) {
        const char *name = subtask->files[i].name;
        if (name != NULL) KWR_TRY(use_file(r, name, slot));
    }
    return KWR_OK;
}

kwr_status kwr_retention_add(kwr_retention *retention, const kwr_slot *slot,
                             const kwr_manifest *manifest) {
    if (is_known(retention, slot->number)) return KWR_OK;
    void *items = retention->known;
    if (!kwr_grow_array(retention->env, &items, &retention->known_capacity,
                        retention->known_count + 1, sizeof *retention->known))
        return KWR_ERR_NOMEM;
    retention->known = items;
    for (size_t i = 0; i < manifest->operator_count; i++) {
        const kwr_manifest_operator *op = &manifest->operators[i];
        for (uint32_t j = 0; j < op->parallelism; j++)
            for (const kwr_manifest_subtask *s = &op->subtasks[j]; s != NULL; s = s->operator_state)
                KWR_TRY(use_files(retention, s, slot->number));
    }
    retention->known[retention->known_count++] = slot->number;
    return KWR_OK;
}

/* Looks at every checkpoint of the log; false when one could not be read. */
static bool learn(kwr_retention *r, const kwr_job_dirs *dirs, const kwr_log *log) {
    bool all = true;
    for (size_t i = 0; i < log->count; i++) {
        const kwr_slot *slot = &log->slots[i];
        if (slot->kind != KWR_SLOT_CHECKPOINT || is_known(r, slot->number)) continue;
        kwr_manifest *manifest = NULL;
        kwr_error err = { 0 };
        kwr_status status = kwr_checkpoint_open(dirs, &r->limits, slot, &manifest, &err);
        if (status >= KWR_OK) {
            status = kwr_retention_add(r, slot, manifest);
            kwr_manifest_free(manifest);
        }
        if (status >= KWR_OK) continue;
        kwr_log_line(r->env, KWR_LOG_WARNING, "snapshot",
                     "no shared file is removed: checkpoint %llu could not be read: %s",
                     (unsigned long long)slot->checkpoint,
                     err.text[0] != '\0' ? err.text : kwr_status_name(status));
        all = false;
    }
    return all;
}

/* ---- removing ---- */

uint64_t kwr_retention_floor(uint32_t retain, const kwr_log *log) {
    const kwr_slot *slot = kwr_log_newest(log, NULL);
    if (retain <= 1) return log->count == 0 ? 1 : log->slots[log->count - 1].number + 1;
    for (uint32_t i = 2; slot != NULL && i < retain; i++)
        slot = kwr_log_older(log, slot);
    return slot == NULL ? kwr_log_floor(log) : slot->number;
}

static kwr_status sync_log(kwr_retention *r, const kwr_job_dirs *dirs, kwr_error *err) {
    if (!r->log_unsynced) return KWR_OK;
    KWR_TRY(dirs->storage->ops->dir_sync(dirs->storage, dirs->log, err));
    r->log_unsynced = false;
    return KWR_OK;
}

/* The front slot, durably; what it referred to is noted for removal. */
static kwr_status remove_front(kwr_retention *r, const kwr_job_dirs *dirs, kwr_log *log,
                               kwr_error *err) {
    const kwr_slot slot = log->slots[0];
    void *items = r->doomed;
    if (!kwr_grow_array(r->env, &items, &r->doomed_capacity, r->doomed_count + 1,
                        sizeof *r->doomed))
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to remove old checkpoints");
    r->doomed = items;
    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(slot.number, name);
    r->log_unsynced = true;
    const kwr_status status = dirs->storage->ops->remove(dirs->storage, dirs->log, name, err);
    if (status < KWR_OK && status != KWR_ERR_MISSING) return status;
    KWR_TRY(sync_log(r, dirs, err));
    if (slot.kind == KWR_SLOT_CHECKPOINT)
        r->doomed[r->doomed_count++] = (doomed){ slot.checkpoint, slot.generation };
    log->count--;
    memmove(log->slots, log->slots + 1, log->count * sizeof *log->slots);
    return KWR_OK;
}

static void warn(const kwr_retention *r, const char *what, const kwr_error *err) {
    kwr_log_line(r->env, KWR_LOG_WARNING, "snapshot", "%s: %s; it is tried again later", what,
                 err->text);
}

static void remove_directories(kwr_retention *r, const kwr_job_dirs *dirs) {
    size_t left = 0;
    for (size_t i = 0; i < r->doomed_count; i++) {
        kwr_error err = { 0 };
        if (kwr_checkpoint_remove(dirs, r->doomed[i].checkpoint, r->doomed[i].generation, &err) >=
            KWR_OK)
            continue;
        warn(r, "an old checkpoint's directory stays", &err);
        r->doomed[left++] = r->doomed[i];
    }
    r->doomed_count = left;
}

static void remove_shared(kwr_retention *r, const kwr_job_dirs *dirs, uint64_t first_slot) {
    size_t left = 0;
    for (size_t i = 0; i < r->file_count; i++) {
        shared_file *file = &r->files[i];
        kwr_error err = { 0 };
        kwr_status status = KWR_ERR_BUSY;
        if (file->last_slot < first_slot && dirs->shared != NULL) {
            status = dirs->storage->ops->remove(dirs->storage, dirs->shared, file->name, &err);
            if (status == KWR_ERR_MISSING) status = KWR_OK;
            if (status < KWR_OK) warn(r, "an old data file stays", &err);
        }
        if (status >= KWR_OK)
            kwr_free_string(r->env, file->name);
        else
            r->files[left++] = *file;
    }
    r->file_count = left;
}

static void forget_below(kwr_retention *r, uint64_t first_slot) {
    size_t left = 0;
    for (size_t i = 0; i < r->known_count; i++)
        if (r->known[i] >= first_slot) r->known[left++] = r->known[i];
    r->known_count = left;
}

void kwr_retention_apply(kwr_retention *retention, const kwr_job_dirs *dirs, kwr_log *log) {
    kwr_retention *r = retention;
    if (log->count == 0 || dirs->log == NULL) return;
    /* Before anything goes: the files of what goes, and of what stays. */
    const bool all_known = learn(r, dirs, log) || KWR_PLANTED(unread_counts_as_unused);
    const uint64_t keep = kwr_log_floor(log) + KWR_PLANTED(floor_too_high);
    kwr_error err = { 0 };
    kwr_status status = sync_log(r, dirs, &err);
    while (status >= KWR_OK && log->count > 1 && log->slots[0].number < keep)
        status = remove_front(r, dirs, log, &err);
    if (status < KWR_OK) warn(r, "an old slot stays", &err);
    remove_directories(r, dirs);
    if (all_known) remove_shared(r, dirs, log->slots[0].number);
    forget_below(r, log->slots[0].number);
}

/* ---- sweeping ---- */

typedef struct sweep {
    kwr_retention *retention;
    const kwr_job_dirs *dirs;
    const kwr_log *log;
    uint64_t generation;
    uint64_t removed;
} sweep;

static bool in_log(const kwr_log *log, uint64_t checkpoint, uint64_t generation) {
    for (size_t i = 0; i < log->count; i++) {
        const kwr_slot *slot = &log->slots[i];
        if (slot->kind == KWR_SLOT_CHECKPOINT && slot->checkpoint == checkpoint &&
            slot->generation == generation)
            return true;
    }
    return false;
}

static void note(sweep *s, kwr_status status, const kwr_error *err) {
    if (status >= KWR_OK)
        s->removed++;
    else if (status != KWR_ERR_MISSING)
        warn(s->retention, "a leftover stays", err);
}

/* A listing goes on whatever happens to one name. */
static kwr_status sweep_directory(void *ctx, const char *name) {
    sweep *s = ctx;
    uint64_t checkpoint = 0, generation = 0;
    if (!kwr_checkpoint_dir_parse(name, &checkpoint, &generation)) return KWR_OK;
    if (generation >= s->generation + KWR_PLANTED(own_files_swept) ||
        in_log(s->log, checkpoint, generation))
        return KWR_OK;
    kwr_error err = { 0 };
    note(s, kwr_checkpoint_remove(s->dirs, checkpoint, generation, &err), &err);
    return KWR_OK;
}

/* The name a temporary one stands for, or the name itself. */
static const char *final_name(const char *name, char out[KWR_FILE_NAME_MAX]) {
    const size_t size = strlen(name);
    if (size < 5 + 1 + 17 || size - 5 - 17 >= KWR_FILE_NAME_MAX) return name;
    memcpy(out, name + 5, size - 5 - 17);
    out[size - 5 - 17] = '\0';
    return kwr_temp_name_of(name, out) ? out : name;
}

static kwr_status sweep_shared(void *ctx, const char *name) {
    sweep *s = ctx;
    uint64_t generation = 0, sequence = 0;
    uint32_t subtask = 0;
    size_t at = 0;
    char final[KWR_FILE_NAME_MAX];
    if (!kwr_shared_name_parse(final_name(name, final), &generation, NULL, &subtask, &sequence))
        return KWR_OK;
    if (generation >= s->generation + KWR_PLANTED(own_files_swept) ||
        find_file(s->retention, name, &at))
        return KWR_OK;
    kwr_error err = { 0 };
    note(s, s->dirs->storage->ops->remove(s->dirs->storage, s->dirs->shared, name, &err), &err);
    return KWR_OK;
}

/* Slots below the floor, and temporary files of slots that are decided: whoever still writes one
 * can only lose. */
static kwr_status sweep_log(void *ctx, const char *name) {
    sweep *s = ctx;
    uint64_t below = 0;
    if (kwr_slot_name_parse(name, &below) && below < kwr_log_floor(s->log)) {
        kwr_error err = { 0 };
        note(s, s->dirs->storage->ops->remove(s->dirs->storage, s->dirs->log, name, &err), &err);
        return KWR_OK;
    }
    if (strlen(name) != 5 + 16 + 1 + 16 || KWR_PLANTED(log_temps_stay)) return KWR_OK;
    char slot[17];
    uint64_t number = 0;
    memcpy(slot, name + 5, 16);
    slot[16] = '\0';
    if (!kwr_slot_name_parse(slot, &number) || !kwr_temp_name_of(name, slot)) return KWR_OK;
    if (s->log->count == 0 || number > s->log->slots[s->log->count - 1].number) return KWR_OK;
    kwr_error err = { 0 };
    note(s, s->dirs->storage->ops->remove(s->dirs->storage, s->dirs->log, name, &err), &err);
    return KWR_OK;
}

/*
 * Names first, then the work: a directory is not changed while it is listed. The list is of our
 * own names only.
 */
static kwr_status collect_name(void *ctx, const char *name) {
    kwr_buffer *names = ctx;
    kwr_buffer_append(names, name, strlen(name) + 1);
    return names->failed ? KWR_ERR_NOMEM : KWR_OK;
}

static void sweep_dir(sweep *s, kwr_storage_dir *dir, const char *prefix, kwr_list_fn fn) {
    if (dir == NULL) return;
    kwr_buffer names = { .env = s->retention->env };
    kwr_error err = { 0 };
    const kwr_status status =
        s->dirs->storage->ops->list(s->dirs->storage, dir, prefix, collect_name, &names, &err);
    if (status < KWR_OK) warn(s->retention, "leftovers stay", &err);
    for (size_t at = 0; status >= KWR_OK && at < names.size;) {
        const char *name = (const char *)names.data + at;
        (void)fn(s, name);
        at += strlen(name) + 1;
    }
    kwr_buffer_free(&names);
}

void kwr_retention_sweep(kwr_retention *retention, const kwr_job_dirs *dirs, const kwr_log *log,
                         uint64_t generation) {
    sweep s = { .retention = retention, .dirs = dirs, .log = log, .generation = generation };
    const bool all_known = learn(retention, dirs, log) || KWR_PLANTED(unread_counts_as_unused);
    sweep_dir(&s, dirs->log, "", sweep_log);
    sweep_dir(&s, dirs->root, "chk-", sweep_directory);
    if (all_known) sweep_dir(&s, dirs->shared, "", sweep_shared);
    if (s.removed > 0)
        kwr_log_line(retention->env, KWR_LOG_INFO, "snapshot",
                     "%llu leftovers of earlier attempts were removed",
                     (unsigned long long)s.removed);
}
