/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Truth of errors: an attempt that reports one must have met something that explains it. A fault
 * explains errors of the attempt it struck, however late they are reported.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/world.h"

static kwr_sim_causes causes_of(const kwr_sim_attempt *a) {
    kwr_sim_causes all = { 0 };
    for (unsigned p = 0; p < a->process_count; p++)
        kwr_sim_causes_add(&all, kwr_sim_process_causes(a->processes[p]));
    return all;
}

static bool met(const kwr_sim_causes *c, int sys_errno) {
    return sys_errno > 0 && sys_errno < 192 &&
           (c->errnos[sys_errno / 64] >> sys_errno % 64 & 1) != 0;
}

static bool any_process_dead(const kwr_sim_attempt *a) {
    bool dead = false;
    for (unsigned p = 0; p < a->process_count; p++)
        dead = dead || kwr_sim_process_dead(a->processes[p]);
    return dead;
}

enum {
    CALL_FAILED = 1u << KWR_SIM_ERROR | 1u << KWR_SIM_LOSE_SYNC | 1u << KWR_SIM_AMBIGUOUS,
    READ_WRONG = 1u << KWR_SIM_FLIP | 1u << KWR_SIM_MISREAD,
};

/* The file the error must name. */
static bool names_damage(const kwr_sim_attempt *a, const kwr_error *err) {
    const char *path = a->weather->damaged;
    if (path == NULL) return false;
    const char *last = strrchr(path, '/');
    return strstr(err->text, last == NULL ? path : last + 1) != NULL;
}

static bool explained(const kwr_sim_attempt *a, const kwr_sim_causes *c, const kwr_error *err) {
    const bool overtaken = a->weather->newest > a->number;
    const uint32_t struck = c->faults & ~(1u << KWR_SIM_STALL);
    switch (err->status) {
    case KWR_ERR_IO: return (c->faults & CALL_FAILED) != 0;
    case KWR_ERR_NOSPACE: return a->met_full || met(c, ENOSPC) || met(c, EDQUOT);
    case KWR_ERR_NOMEM: return (c->faults >> KWR_SIM_NO_MEMORY & 1) != 0 || met(c, ENOMEM);
    case KWR_ERR_CORRUPT:
    case KWR_ERR_FORMAT:
    case KWR_ERR_REFUSED: return (c->faults & READ_WRONG) != 0 || names_damage(a, err);
    case KWR_ERR_MISSING: return overtaken || (c->faults & READ_WRONG) != 0 || names_damage(a, err);
    case KWR_ERR_FENCED: return overtaken || a->beside;
    case KWR_ERR_LOCKED: return a->weather->living > 1;
    case KWR_ERR_UNKNOWN:
    case KWR_ERR_POISONED: return struck != 0 || a->met_full || overtaken;
    case KWR_ERR_DECLINED: return c->faults != 0 || a->met_full || overtaken;
    case KWR_ERR_CANCELLED:
        return c->faults != 0 || a->met_full || overtaken || a->lost_message || a->timed_out ||
               any_process_dead(a);
    case KWR_ERR_TIMEOUT: return true; /* the scheduler may take any time */
    case KWR_ERR_BUSY: return true;    /* something else is in progress: any pace is allowed */
    case KWR_OK:
    case KWR_NOT_FOUND:
    case KWR_ERR_NOT_RESIDENT:
    case KWR_ERR_MISUSE:
    case KWR_ERR_RANGE:
    case KWR_ERR_UNSUPPORTED:
    case KWR_ERR_MISMATCH:
    case KWR_ERR_EXISTS: break;
    }
    return false;
}

/* An errno is one that was injected, or what the disk says by itself. */
static bool errno_explained(const kwr_sim_attempt *a, const kwr_sim_causes *c,
                            const kwr_error *err) {
    switch (err->sys_errno) {
    case 0:
    case ENOENT:
    case EEXIST:
    case ENOTEMPTY: return true;
    case EIO:
        return (c->faults & (1u << KWR_SIM_LOSE_SYNC | 1u << KWR_SIM_AMBIGUOUS)) != 0 ||
               met(c, EIO);
    case ENOSPC: return a->met_full || met(c, ENOSPC);
    default: return met(c, err->sys_errno);
    }
}

void kwr_sim_judge(const kwr_sim_attempt *a, const kwr_error *err) {
    const kwr_sim_causes causes = causes_of(a);
    if (explained(a, &causes, err) && errno_explained(a, &causes, err)) return;
    kwr_sim_violated(a->sim,
                     "truth of errors: nothing that happened to attempt %u explains status %d, "
                     "errno %d: %s",
                     a->number, (int)err->status, err->sys_errno, err->text);
}
