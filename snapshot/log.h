/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit log of a job: contiguous slots, one small file each in <job>/log/, every one published
 * whole, never replaced, never reused. A slot names a completed checkpoint or fences off earlier
 * attempts. docs/format.md has the bytes, docs/recovery.md the protocol.
 */
#ifndef KWR_SNAPSHOT_LOG_H
#define KWR_SNAPSHOT_LOG_H

#include "base/digest.h"
#include "keyweir/limits.h"
#include "keyweir/storage.h"

typedef enum kwr_slot_kind {
    KWR_SLOT_FENCE = 1,
    KWR_SLOT_CHECKPOINT = 2,
} kwr_slot_kind;

typedef enum kwr_base_kind {
    KWR_BASE_NONE = 0,       /* the fence keeps the history as it is */
    KWR_BASE_EMPTY = 1,      /* by choice: start empty */
    KWR_BASE_CHECKPOINT = 2, /* by choice: go on from base_checkpoint, base_generation */
} kwr_base_kind;

enum { KWR_JOB_NAME_MAX = 100 };
#define KWR_JOB_LOCK_NAME "lock" /* in the job's directory: held while an attempt lives */

typedef struct kwr_slot {
    uint64_t number; /* from 1 */
    uint64_t floor;  /* the log starts here: slots below are not part of it any more */
    kwr_slot_kind kind;
    char job[KWR_JOB_NAME_MAX + 1];
    uint8_t job_uid[16];
    uint64_t generation;
    uint64_t highest; /* highest checkpoint id published up to here, this one included */
    int64_t time_ms;
    bool has_previous;   /* false: slot 1 */
    kwr_digest previous; /* digest of the slot before */
    /* fence */
    kwr_base_kind base;
    uint64_t base_checkpoint;
    uint64_t base_generation;
    uint64_t pid; /* information */
    /* checkpoint */
    uint64_t checkpoint;
    bool final;
    uint64_t manifest_length;
    kwr_digest manifest_digest;
    /* of this slot's own bytes; filled by reading and publishing */
    kwr_digest digest;
} kwr_slot;

/* The directories of one job, opened. */
typedef struct kwr_job_dirs {
    const kwr_env *env;
    kwr_storage *storage;
    char job[KWR_JOB_NAME_MAX + 1];
    kwr_storage_dir *root;   /* <job>/ */
    kwr_storage_dir *log;    /* <job>/log/, NULL: missing and not created */
    kwr_storage_dir *shared; /* <job>/shared/, likewise */
} kwr_job_dirs;

/* With `create` makes and syncs what is missing; without, KWR_ERR_MISSING when the job is. */
kwr_status kwr_job_dirs_open(const kwr_env *env, kwr_storage *storage, const char *job, bool create,
                             kwr_job_dirs *out, kwr_error *err);
void kwr_job_dirs_close(kwr_job_dirs *dirs);

/* Slots in ascending order, contiguous from the floor of the highest to the highest; anything else
 * is KWR_ERR_CORRUPT naming the slot. */
typedef struct kwr_log {
    const kwr_env *env;
    kwr_slot *slots;
    size_t count;
    size_t capacity;
} kwr_log;

/*
 * Finds the highest slot by listing and by probing upward by exact name, then reads and verifies
 * every slot from its floor on: digest, number, job, uid and the chain. What lies below the floor
 * is ignored: left behind by a removal, or published there by an attempt that was fenced long ago,
 * when the removal had freed the name it was going to take. An absent directory is an empty log.
 */
kwr_status kwr_log_read(const kwr_job_dirs *dirs, const kwr_limits *limits, kwr_log *out,
                        kwr_error *err);
void kwr_log_free(kwr_log *log);

/*
 * The history a start continues: the newest checkpoint published above the last fence with a base,
 * else that base. NULL: empty; `*base_missing` tells apart a base checkpoint the log no longer has.
 */
const kwr_slot *kwr_log_newest(const kwr_log *log, bool *base_missing);
/* The checkpoints of that history, newest first; NULL when there is none older than `than`
 * (NULL: the newest). */
const kwr_slot *kwr_log_older(const kwr_log *log, const kwr_slot *than);
/* By id, and generation unless 0 (then the highest); NULL: none. */
const kwr_slot *kwr_log_find(const kwr_log *log, uint64_t checkpoint, uint64_t generation);
uint64_t kwr_log_highest(const kwr_log *log); /* highest id published, 0: none */

/*
 * Publishes `slot` at slot->number, filling digest. KWR_OK; KWR_ERR_EXISTS: someone else has the
 * number; KWR_ERR_UNKNOWN: read back and still unknown (a read-back that finds our bytes is KWR_OK
 * only when the name is durable); else it is certainly not published.
 */
kwr_status kwr_log_publish(const kwr_job_dirs *dirs, kwr_slot *slot, kwr_error *err);
/* Whether a slot of that number or a higher one exists: KWR_OK or KWR_NOT_FOUND. */
kwr_status kwr_log_probe(const kwr_job_dirs *dirs, uint64_t number, kwr_error *err);
/* Where the log starts: the floor of its highest slot, 1 when it is empty. */
uint64_t kwr_log_floor(const kwr_log *log);
/* Makes `slot` the one after the highest: number, floor, job, uid, generation, highest and chain.
 * For an empty log number and floor 1, the rest is the caller's. */
void kwr_log_continue(const kwr_log *log, kwr_slot *slot);
/* Appends a copy of `slot` to the log in memory. */
kwr_status kwr_log_append(kwr_log *log, const kwr_slot *slot);

/* "chk-<id>-<generation>", "%016x", "<gen>-<operator>-<subtask>-<seq>.kwp" and back. */
enum { KWR_FILE_NAME_MAX = 201 };
void kwr_checkpoint_dir_name(uint64_t checkpoint, uint64_t generation, char out[KWR_FILE_NAME_MAX]);
bool kwr_checkpoint_dir_parse(const char *name, uint64_t *checkpoint, uint64_t *generation);
void kwr_slot_name(uint64_t number, char out[KWR_FILE_NAME_MAX]);
bool kwr_slot_name_parse(const char *name, uint64_t *number);
void kwr_shared_name(uint64_t generation, const char *operator_id, uint32_t subtask, uint64_t seq,
                     char out[KWR_FILE_NAME_MAX]);
bool kwr_shared_name_parse(const char *name, uint64_t *generation, char *operator_id,
                           uint32_t *subtask, uint64_t *seq);

#endif /* KWR_SNAPSHOT_LOG_H */
