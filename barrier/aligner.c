/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exactly-once alignment of one task's inputs. The idea: a channel that has delivered the barrier
 * is not read until all open channels have, so the task's state at that moment holds precisely the
 * records before the barrier. docs/barriers.md numbers the invariants and draws the table.
 *
 * What a channel has reached is kept as a checkpoint id, not a flag: starting, finishing and
 * voiding an alignment touch no channel, whatever their number.
 */
#include "keyweir/barrier.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/planted.h"

/* Aborts remembered for barriers still to come; older ones fold into `aborted_floor`. */
enum { ABORTED_MAX = 64 };

typedef enum aligner_state {
    ALIGNER_WAITING = 1,  /* no barrier of a newer checkpoint than `current` has come */
    ALIGNER_ALIGNING = 2, /* at least one channel has reached `barrier`, at least one has not */
} aligner_state;

typedef struct input {
    uint64_t reached; /* the newest checkpoint whose barrier it delivered to an alignment */
    bool ended;
} input;

struct kwr_aligner {
    const kwr_env *env;
    uint64_t generation;
    aligner_state state;
    uint64_t current;    /* the highest checkpoint seen; nothing at or below it ever starts again */
    kwr_barrier barrier; /* ALIGNING: the first that came, checkpoint = current */
    uint64_t started_ns; /* ALIGNING */
    uint32_t missing;    /* ALIGNING: open channels that have not reached it */
    uint32_t blocked;    /* ALIGNING: open channels that have */
    uint32_t open;
    uint32_t channel_count;
    uint64_t aborted_floor; /* ids up to here that were not seen yet count as aborted */
    size_t aborted_count;
    uint64_t aborted[ABORTED_MAX]; /* ascending, all > aborted_floor; seen ones fall out first */
    input channels[];
};

KWR_DEFINE_CLEANUP(kwr_aligner, kwr_aligner_free)

static size_t aligner_size(uint32_t channels) {
    return sizeof(kwr_aligner) + (size_t)channels * sizeof(input);
}

kwr_status kwr_aligner_new(const kwr_env *env, uint32_t channels, uint64_t generation,
                           kwr_aligner **out, kwr_error *err) {
    kwr_aligner *aligner = kwr_calloc(env, aligner_size(channels));
    if (aligner == NULL) {
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the aligner of %u channels",
                        channels);
    }
    aligner->env = env;
    aligner->generation = generation;
    aligner->state = ALIGNER_WAITING;
    aligner->open = aligner->channel_count = channels;
    *out = aligner;
    return KWR_OK;
}

void kwr_aligner_free(kwr_aligner *aligner) {
    if (aligner == NULL) return;
    kwr_free(aligner->env, aligner, aligner_size(aligner->channel_count));
}

/* ---- aborts known before their barriers ---- */

static void remember_abort(kwr_aligner *aligner, uint64_t checkpoint) {
    size_t at = aligner->aborted_count;
    while (at > 0 && aligner->aborted[at - 1] > checkpoint)
        at--;
    if (at > 0 && aligner->aborted[at - 1] == checkpoint) return;
    if (checkpoint <= aligner->aborted_floor) return;
    if (aligner->aborted_count == ABORTED_MAX) {
        if (at == 0) {
            aligner->aborted_floor = checkpoint;
            return;
        }
        aligner->aborted_floor = aligner->aborted[0];
        memmove(aligner->aborted, aligner->aborted + 1,
                (ABORTED_MAX - 1) * sizeof aligner->aborted[0]);
        aligner->aborted_count--;
        at--;
    }
    memmove(aligner->aborted + at + 1, aligner->aborted + at,
            (aligner->aborted_count - at) * sizeof aligner->aborted[0]);
    aligner->aborted[at] = checkpoint;
    aligner->aborted_count++;
}

static bool was_aborted(const kwr_aligner *aligner, uint64_t checkpoint) {
    if (KWR_PLANTED(aborted_is_taken)) return false;
    if (checkpoint <= aligner->aborted_floor) return true;
    for (size_t i = 0; i < aligner->aborted_count; i++) {
        if (aligner->aborted[i] == checkpoint) return true;
    }
    return false;
}

/* ---- transitions ---- */

/* ALIGNING -> WAITING: every blocked channel is read again. */
static void release(kwr_aligner *aligner, kwr_alignment *out) {
    if (aligner->blocked > 0) out->release = true;
    if (KWR_PLANTED(newer_keeps_blocked)) out->release = out->snapshot;
    aligner->blocked = 0;
    aligner->missing = 0;
    aligner->state = ALIGNER_WAITING;
}

static void report_abort(kwr_alignment *out, uint64_t checkpoint, kwr_status reason) {
    out->abort = true;
    out->aborted = checkpoint;
    out->abort_reason = reason;
}

/* Completes the alignment when no open channel is missing. */
static void finish_if_all(kwr_aligner *aligner, uint64_t now_ns, kwr_alignment *out) {
    if (aligner->missing > 0) return;
    release(aligner, out);
    out->snapshot = true;
    out->barrier = aligner->barrier;
    out->aligned_ns = now_ns > aligner->started_ns ? now_ns - aligner->started_ns : 0;
}

/* The channel has reached the pending checkpoint: it stays blocked unless it was the last one. */
static void reach(kwr_aligner *aligner, input *in, uint64_t now_ns, kwr_alignment *out) {
    in->reached = aligner->current;
    aligner->missing--;
    if (KWR_PLANTED(first_barrier_snapshots)) aligner->missing = 0;
    if (aligner->missing > 0) {
        aligner->blocked++;
        out->block = !KWR_PLANTED(not_blocked);
        return;
    }
    finish_if_all(aligner, now_ns, out);
}

/* WAITING -> ALIGNING with the first barrier of a checkpoint. */
static void start(kwr_aligner *aligner, input *in, const kwr_barrier *barrier, uint64_t now_ns,
                  kwr_alignment *out) {
    aligner->current = barrier->checkpoint;
    aligner->barrier = *barrier;
    aligner->started_ns = now_ns;
    aligner->missing = aligner->open;
    aligner->blocked = 0;
    aligner->state = ALIGNER_ALIGNING;
    reach(aligner, in, now_ns, out);
}

/* A marker, or a barrier of a checkpoint known as aborted: it and everything older is void. */
static void cancel(kwr_aligner *aligner, uint64_t checkpoint, kwr_alignment *out) {
    if (aligner->state == ALIGNER_ALIGNING) release(aligner, out);
    if (KWR_PLANTED(abort_keeps_blocked)) out->release = false;
    aligner->current = checkpoint;
    report_abort(out, checkpoint, KWR_ERR_CANCELLED);
}

/* A barrier of a newer checkpoint than any before, not cancelled. */
static void newer(kwr_aligner *aligner, input *in, const kwr_barrier *barrier, uint64_t now_ns,
                  kwr_alignment *out) {
    if (was_aborted(aligner, barrier->checkpoint)) {
        cancel(aligner, barrier->checkpoint, out);
        return;
    }
    switch (aligner->state) {
    case ALIGNER_WAITING: break;
    case ALIGNER_ALIGNING: /* this channel will never deliver the pending one: subsumed */
        release(aligner, out);
        report_abort(out, aligner->current, KWR_ERR_DECLINED);
        break;
    }
    start(aligner, in, barrier, now_ns, out);
}

/* A barrier or marker of the checkpoint seen last. */
static void same(kwr_aligner *aligner, input *in, const kwr_barrier *barrier, uint64_t now_ns,
                 kwr_alignment *out) {
    switch (aligner->state) {
    case ALIGNER_WAITING: return; /* late: it was taken or voided */
    case ALIGNER_ALIGNING:
        if (barrier->cancelled && !KWR_PLANTED(marker_is_barrier)) {
            cancel(aligner, barrier->checkpoint, out);
        } else if (in->reached != aligner->current || KWR_PLANTED(double_barrier_counted)) {
            reach(aligner, in, now_ns, out);
        }
        return; /* else a duplicate: counted once */
    }
}

kwr_status kwr_aligner_barrier(kwr_aligner *aligner, uint32_t channel, const kwr_barrier *barrier,
                               uint64_t now_ns, kwr_alignment *out) {
    if (channel >= aligner->channel_count || barrier->checkpoint == 0) return KWR_ERR_RANGE;
    if (aligner->channels[channel].ended) return KWR_ERR_MISUSE;
    kwr_alignment did = { 0 };
    const uint64_t id = barrier->checkpoint;
    if ((barrier->generation != aligner->generation && !KWR_PLANTED(foreign_barrier_counted)) ||
        (id < aligner->current && !KWR_PLANTED(end_of_row_restarts))) {
        *out = did; /* foreign or late */
        return KWR_OK;
    }
    if (id == aligner->current) {
        same(aligner, &aligner->channels[channel], barrier, now_ns, &did);
    } else if (barrier->cancelled && !KWR_PLANTED(marker_is_barrier)) {
        cancel(aligner, id, &did);
    } else {
        newer(aligner, &aligner->channels[channel], barrier, now_ns, &did);
    }
    *out = did;
    return KWR_OK;
}

kwr_status kwr_aligner_end(kwr_aligner *aligner, uint32_t channel, uint64_t now_ns,
                           kwr_alignment *out) {
    if (channel >= aligner->channel_count) return KWR_ERR_RANGE;
    input *in = &aligner->channels[channel];
    if (in->ended) return KWR_ERR_MISUSE;
    kwr_alignment did = { 0 };
    in->ended = true;
    aligner->open--;
    switch (aligner->state) {
    case ALIGNER_WAITING: break;
    case ALIGNER_ALIGNING:
        if (in->reached == aligner->current) {
            aligner->blocked--; /* nothing left to read there */
        } else {
            aligner->missing--;
            finish_if_all(aligner, now_ns, &did);
        }
        break;
    }
    *out = did;
    return KWR_OK;
}

kwr_status kwr_aligner_abort(kwr_aligner *aligner, uint64_t checkpoint, kwr_alignment *out) {
    if (checkpoint == 0) return KWR_ERR_RANGE;
    kwr_alignment did = { 0 };
    if (checkpoint > aligner->current) {
        remember_abort(aligner, checkpoint);
    } else if (checkpoint == aligner->current && aligner->state == ALIGNER_ALIGNING) {
        cancel(aligner, checkpoint, &did);
    } /* else it is over here already */
    *out = did;
    return KWR_OK;
}

bool kwr_aligner_blocked(const kwr_aligner *aligner, uint32_t channel) {
    return channel < aligner->channel_count && aligner->state == ALIGNER_ALIGNING &&
           !aligner->channels[channel].ended &&
           aligner->channels[channel].reached == aligner->current;
}

uint64_t kwr_aligner_pending(const kwr_aligner *aligner) {
    switch (aligner->state) {
    case ALIGNER_WAITING: return 0;
    case ALIGNER_ALIGNING: return aligner->current;
    }
    return 0;
}
