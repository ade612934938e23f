/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do about a damaged checkpoint. The library never goes back by itself: a sink may have
 * committed the newer output, and replay would double it. It looks for the newest older checkpoint
 * that is good to the last byte and says how to choose it.
 */
#include "recovery/recovery.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"

KWR_DEFINE_CLEANUP(kwr_manifest, kwr_manifest_free)

typedef enum soundness { SOUND = 1, DAMAGED = 2, NOT_READABLE = 3 } soundness;

/* Every byte of it. */
static soundness examine(const kwr_job_dirs *dirs, const kwr_limits *limits, const kwr_slot *slot) {
    KWR_CLEANUP(kwr_manifest_free_p) kwr_manifest *manifest = NULL;
    kwr_verify_result result = { 0 };
    kwr_status status = kwr_checkpoint_open(dirs, limits, slot, &manifest, NULL);
    if (status == KWR_OK) {
        status = kwr_checkpoint_verify(dirs, limits, manifest, NULL, NULL, &result, NULL);
    }
    if (status == KWR_OK) return result.findings == 0 ? SOUND : DAMAGED;
    return status == KWR_ERR_IO || status == KWR_ERR_NOMEM ? NOT_READABLE : DAMAGED;
}

/* Adds to the text of `err`; when both do not fit, the end of the finding gives way. */
static void append(kwr_error *err, const char *advice) {
    const size_t need = strlen(advice), have = strlen(err->text);
    const size_t room = sizeof err->text - 1 - need;
    memcpy(err->text + (have < room ? have : room), advice, need + 1);
}

void kwr_recovery_advise(const kwr_job_dirs *dirs, const kwr_limits *limits, const kwr_log *log,
                         const kwr_slot *slot, kwr_error *err) {
    if (err == NULL) return;
    char advice[640], unread[80] = "";
    const kwr_slot *older = kwr_log_older(log, slot);
    uint64_t examined = 0, unreadable = 0;
    for (; older != NULL; older = kwr_log_older(log, older)) {
        examined++;
        const soundness found = examine(dirs, limits, older);
        if (found == SOUND) break;
        if (found == NOT_READABLE) unreadable++;
    }
    if (unreadable > 0) {
        snprintf(unread, sizeof unread, " (%" PRIu64 " could not be read)", unreadable);
    }
    if (older != NULL) {
        char name[KWR_FILE_NAME_MAX];
        kwr_checkpoint_dir_name(older->checkpoint, older->generation, name);
        snprintf(advice, sizeof advice,
                 "; newest good checkpoint: %s (verified)%s; going back may repeat output that was "
                 "committed since; to continue from it, restore it by choice: "
                 "KWR_RESTORE_CHECKPOINT %" PRIu64 " generation %" PRIu64,
                 name, unread, older->checkpoint, older->generation);
    } else if (examined == 0) {
        snprintf(advice, sizeof advice,
                 "; there is no older checkpoint: repair it from a copy, or start empty by choice "
                 "(KWR_RESTORE_NONE)");
    } else {
        snprintf(advice, sizeof advice,
                 "; none of the %" PRIu64 " older checkpoints is good%s: repair one from a copy, "
                 "or start empty by choice (KWR_RESTORE_NONE)",
                 examined, unread);
    }
    append(err, advice);
}
