/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an attempt takes a job over: read the log, publish a fence in its next slot, and only then
 * choose, below the fence, the checkpoint to continue. Whoever holds an older fence finds the slot
 * taken at its next publish and stops. docs/recovery.md has the protocol and its reasons.
 */
#include "recovery/recovery.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/planted.h"

/* ---- what the log says ---- */

/* The ids an explicit choice can name, newest first, as many as fit in a message. */
static void list_checkpoints(const kwr_log *log, char *out, size_t capacity) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = log->count; i-- > 0;) {
        const kwr_slot *slot = &log->slots[i];
        if (slot->kind != KWR_SLOT_CHECKPOINT) continue;
        char item[64];
        const int size = snprintf(item, sizeof item, "%s%" PRIu64 " generation %" PRIu64,
                                  n > 0 ? ", " : "", slot->checkpoint, slot->generation);
        if (n + (size_t)size + sizeof ", ..." > capacity) {
            snprintf(out + n, capacity - n, ", ...");
            return;
        }
        memcpy(out + n, item, (size_t)size + 1);
        n += (size_t)size;
    }
    if (n == 0) snprintf(out, capacity, "no checkpoint");
}

/* Whether the newest choice about the history was to start empty. */
static bool empty_by_choice(const kwr_log *log) {
    for (size_t i = log->count; i-- > 0;) {
        const kwr_slot *slot = &log->slots[i];
        if (slot->kind == KWR_SLOT_FENCE && slot->base != KWR_BASE_NONE) {
            return slot->base == KWR_BASE_EMPTY;
        }
    }
    return false;
}

/* ---- what lies beside an empty log ---- */

typedef struct leftovers {
    uint64_t generation; /* the highest in a name of ours; 0: none */
    char name[KWR_FILE_NAME_MAX];
} leftovers;

static void see(leftovers *found, const char *name, uint64_t generation) {
    if (found->name[0] != '\0' && generation <= found->generation) return;
    found->generation = generation;
    snprintf(found->name, sizeof found->name, "%s", name);
}

static kwr_status see_checkpoint(void *ctx, const char *name) {
    uint64_t checkpoint, generation;
    if (kwr_checkpoint_dir_parse(name, &checkpoint, &generation)) see(ctx, name, generation);
    return KWR_OK;
}

static kwr_status see_shared(void *ctx, const char *name) {
    uint64_t generation, sequence;
    uint32_t subtask;
    char operator_id[KWR_FILE_NAME_MAX];
    if (kwr_shared_name_parse(name, &generation, operator_id, &subtask, &sequence)) {
        see(ctx, name, generation);
    }
    return KWR_OK;
}

/*
 * A first attempt publishes its fence before it writes anything else: its files beside an empty
 * log mean that the log was lost, and this is no first start.
 */
static kwr_status find_leftovers(const kwr_job_dirs *dirs, leftovers *out, kwr_error *err) {
    *out = (leftovers){ 0 };
    const kwr_storage_ops *ops = dirs->storage->ops;
    KWR_TRY(ops->list(dirs->storage, dirs->root, "chk-", see_checkpoint, out, err));
    if (dirs->shared == NULL) return KWR_OK;
    return ops->list(dirs->storage, dirs->shared, "", see_shared, out, err);
}

/* ---- the fence ---- */

static kwr_status make_first_fence(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                                   kwr_slot *fence, kwr_error *err) {
    leftovers found;
    KWR_TRY(find_leftovers(dirs, &found, err));
    if (found.name[0] != '\0' && options->restore != KWR_RESTORE_NONE) {
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "job '%s': the commit log is empty but %s exists: the log was lost; put it "
                        "back, or start empty by choice (KWR_RESTORE_NONE)",
                        dirs->job, found.name);
    }
    if (found.generation == UINT64_MAX) {
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "job '%s': no generation is left above %s",
                        dirs->job, found.name);
    }
    fence->generation = found.generation + 1; /* 1 where nothing lies: no name comes twice */
    return dirs->env->random->bytes(dirs->env->random->ctx, fence->job_uid,
                                    sizeof fence->job_uid) == KWR_OK
               ? KWR_OK
               : KWR_FAIL(err, KWR_ERR_IO, 0, "job '%s': no random bytes for its identity",
                          dirs->job);
}

/* The slot after the highest of `log`, with the choice in it. */
static kwr_status make_fence(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                             const kwr_log *log, const kwr_slot *chosen, kwr_slot *out,
                             kwr_error *err) {
    kwr_slot fence = {
        .kind = KWR_SLOT_FENCE,
        .time_ms = dirs->env->clock->wall_ms(dirs->env->clock->ctx),
    };
    kwr_log_continue(log, &fence);
    snprintf(fence.job, sizeof fence.job, "%s", dirs->job);
    if (log->count == 0) {
        KWR_TRY(make_first_fence(dirs, options, &fence, err));
    } else {
        const kwr_slot *top = &log->slots[log->count - 1];
        if (top->number == UINT64_MAX || top->generation == UINT64_MAX) {
            return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                            "job '%s': no slot or generation is left above slot %016" PRIx64,
                            dirs->job, top->number);
        }
        fence.generation++;
    }
    switch (options->restore) {
    case KWR_RESTORE_NEWEST: fence.base = KWR_BASE_NONE; break;
    case KWR_RESTORE_NONE: fence.base = KWR_BASE_EMPTY; break;
    case KWR_RESTORE_CHECKPOINT:
        fence.base = KWR_BASE_CHECKPOINT;
        fence.base_checkpoint = chosen->checkpoint;
        fence.base_generation = chosen->generation;
        break;
    }
    *out = fence;
    return KWR_OK;
}

/*
 * An explicit choice is looked up and opened before it is recorded: a fence with a base that cannot
 * be restored would cut the history off for nothing.
 */
static kwr_status check_choice(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                               const kwr_log *log, const kwr_slot **chosen, kwr_error *err) {
    *chosen = NULL;
    if (options->restore != KWR_RESTORE_CHECKPOINT) return KWR_OK;
    const kwr_slot *slot =
        kwr_log_find(log, options->restore_checkpoint, options->restore_generation);
    if (slot == NULL) {
        char have[512], wanted[64] = "";
        list_checkpoints(log, have, sizeof have);
        if (options->restore_generation != 0) {
            snprintf(wanted, sizeof wanted, " of generation %" PRIu64, options->restore_generation);
        }
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "job '%s': its log does not name checkpoint %" PRIu64 "%s; it names %s",
                        dirs->job, options->restore_checkpoint, wanted, have);
    }
    kwr_manifest *manifest = NULL;
    const kwr_status status = kwr_checkpoint_open(dirs, options->limits, slot, &manifest, err);
    kwr_manifest_free(manifest);
    if (status < KWR_OK) {
        kwr_recovery_advise(dirs, options->limits, log, slot, err);
        return status;
    }
    *chosen = slot;
    return KWR_OK;
}

/*
 * A free name is not enough: it may be free again because others went on for long since the log was
 * read and removed it. Nothing above it shows that it is the highest.
 */
static kwr_status check_on_top(const kwr_job_dirs *dirs, uint64_t number, kwr_error *err) {
    if (number == UINT64_MAX || KWR_PLANTED(fence_not_on_top)) return KWR_OK;
    const kwr_status status = kwr_log_probe(dirs, number + 1, err);
    return status == KWR_NOT_FOUND ? KWR_OK : status == KWR_OK ? KWR_ERR_EXISTS : status;
}

/* One try. KWR_ERR_EXISTS: another attempt was faster; `log` has been given back. */
static kwr_status try_fence(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                            kwr_log *out_log, kwr_slot *out_fence, kwr_error *err) {
    KWR_CLEANUP(kwr_log_free) kwr_log log = { .env = dirs->env };
    kwr_status status = kwr_log_read(dirs, options->limits, &log, err);
    if (status < KWR_OK) {
        kwr_error_prefix(err, "job '%s' cannot be claimed: its commit log", dirs->job);
        return status;
    }
    /* What an earlier attempt published without living to sync it is built upon now. */
    if (!KWR_PLANTED(log_unsynced))
        KWR_TRY(dirs->storage->ops->dir_sync(dirs->storage, dirs->log, err));
    if (KWR_PLANTED(fence_skipped) && log.count > 0) {
        *out_fence = log.slots[log.count - 1];
        *out_log = log;
        log = (kwr_log){ .env = dirs->env };
        return KWR_OK;
    }
    const kwr_slot *chosen;
    kwr_slot fence;
    KWR_TRY(check_choice(dirs, options, &log, &chosen, err));
    KWR_TRY(make_fence(dirs, options, &log, chosen, &fence, err));
    KWR_TRY(kwr_log_publish(dirs, &fence, err));
    KWR_TRY(check_on_top(dirs, fence.number, err));
    /* From here on the slot is taken, whatever fails: the next attempt goes above it. */
    if (kwr_log_append(&log, &fence) < KWR_OK) {
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "job '%s': no memory for the log of %zu slots",
                        dirs->job, log.count + 1);
    }
    *out_log = log;
    log = (kwr_log){ .env = dirs->env };
    *out_fence = fence;
    return KWR_OK;
}

static kwr_status publish_fence(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                                kwr_log *log, kwr_slot *fence, kwr_error *err) {
    for (uint32_t i = 0; i < options->limits->claim_attempts_max; i++) {
        const kwr_status status = try_fence(dirs, options, log, fence, err);
        if (status != KWR_ERR_EXISTS) return status;
        kwr_log_line(dirs->env, KWR_LOG_INFO, "recovery",
                     "job '%s': another attempt was faster, claiming again", dirs->job);
    }
    return KWR_FAIL(err, KWR_ERR_FENCED, 0,
                    "job '%s': other attempts took the next slot of the commit log %u times in a "
                    "row; is something starting it again and again?",
                    dirs->job, options->limits->claim_attempts_max);
}

/* ---- the choice ---- */

/* Below the fence: the newest of the history. Nothing there is accepted only when it can be meant.
 */
static kwr_status choose(const kwr_job_dirs *dirs, const kwr_log *log, const kwr_slot **out,
                         kwr_error *err) {
    bool base_missing = false;
    *out = kwr_log_newest(log, &base_missing);
    if (base_missing) {
        char have[512];
        list_checkpoints(log, have, sizeof have);
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "job '%s': the checkpoint chosen as base of its history is not in the log "
                        "any more, which names %s; choose one (KWR_RESTORE_CHECKPOINT) or start "
                        "empty by choice (KWR_RESTORE_NONE)",
                        dirs->job, have);
    }
    if (*out == NULL && kwr_log_highest(log) > 0 && !empty_by_choice(log)) {
        return KWR_FAIL(err, KWR_ERR_MISSING, 0,
                        "job '%s': its log says that checkpoint %" PRIu64
                        " was published but names none any more: slots were removed; put them "
                        "back, or start empty by choice (KWR_RESTORE_NONE)",
                        dirs->job, kwr_log_highest(log));
    }
    return KWR_OK;
}

static bool is_damage(kwr_status status) {
    return status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING || status == KWR_ERR_FORMAT;
}

kwr_status kwr_recovery_claim(const kwr_job_dirs *dirs, const kwr_claim_options *options,
                              kwr_claim *out, kwr_error *err) {
    KWR_CLEANUP(kwr_claim_done) kwr_claim claim = { .log = { .env = dirs->env } };
    KWR_TRY(publish_fence(dirs, options, &claim.log, &claim.fence, err));
    const kwr_slot *slot;
    KWR_TRY(choose(dirs, &claim.log, &slot, err));
    if (slot != NULL) {
        kwr_status status = kwr_checkpoint_open(dirs, options->limits, slot, &claim.manifest, err);
        if (KWR_PLANTED(older_chosen_silently) && is_damage(status) &&
            kwr_log_older(&claim.log, slot) != NULL) {
            slot = kwr_log_older(&claim.log, slot);
            status = kwr_checkpoint_open(dirs, options->limits, slot, &claim.manifest, err);
        }
        if (KWR_PLANTED(damage_starts_empty) && is_damage(status)) {
            *out = claim;
            claim = (kwr_claim){ .log = { .env = dirs->env } };
            return KWR_OK;
        }
        if (is_damage(status)) {
            kwr_recovery_advise(dirs, options->limits, &claim.log, slot, err);
        }
        if (status < KWR_OK) return status;
        claim.restored = true;
        claim.slot = *slot;
    }
    *out = claim;
    claim = (kwr_claim){ .log = { .env = dirs->env } };
    return KWR_OK;
}

void kwr_claim_done(kwr_claim *claim) {
    kwr_manifest_free(claim->manifest);
    kwr_log_free(&claim->log);
    *claim = (kwr_claim){ .log = { .env = claim->log.env } };
}
