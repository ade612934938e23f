/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consistent cut (Chandy and Lamport, 1985; asynchronous barrier snapshots, Carbone et al.,
 * 2015) as two pure state machines: an event goes in, with its time, and a list of actions comes
 * out. No I/O, no threads, no clock.
 */
#ifndef KEYWEIR_BARRIER_H
#define KEYWEIR_BARRIER_H

#include "keyweir/env.h"
#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What travels in the channels, before the records of the next checkpoint. */
typedef struct kwr_barrier {
    uint64_t checkpoint;  /* > 0, growing */
    uint64_t generation;  /* of the attempt that triggered it */
    int64_t triggered_ms; /* wall clock, information */
    bool final;           /* no records follow it on any channel */
    bool cancelled;       /* a cancellation marker: this checkpoint is not to be taken */
} kwr_barrier;

enum { KWR_BARRIER_BYTES = 32 };
/* The portable form of a barrier, docs/format.md. [any] */
KWR_API void kwr_barrier_encode(const kwr_barrier *barrier, uint8_t out[KWR_BARRIER_BYTES]);
/* KWR_ERR_CORRUPT, KWR_ERR_FORMAT. [any] */
KWR_API KWR_CHECK kwr_status kwr_barrier_decode(kwr_slice bytes, kwr_barrier *out, kwr_error *err);

/* ---- aligner: the barriers of one task's inputs, exactly once ---- */

typedef struct kwr_aligner kwr_aligner;

/*
 * What the task does now, in this order: release, then abort, then snapshot. Channels are numbered
 * from 0.
 */
typedef struct kwr_alignment {
    bool block;   /* stop reading the channel of this event */
    bool release; /* read all blocked channels again (before anything that follows) */
    bool abort;   /* the checkpoint `aborted` is not taken; tell downstream by a marker */
    uint64_t aborted;
    kwr_status abort_reason; /* KWR_ERR_CANCELLED (marker) or KWR_ERR_DECLINED (subsumed) */
    bool snapshot;           /* all inputs have reached `barrier`: forward it, then freeze */
    kwr_barrier barrier;
    uint64_t aligned_ns; /* with snapshot: time since its first barrier */
} kwr_alignment;

/* `generation`: barriers of any other are ignored. */
KWR_API KWR_CHECK kwr_status kwr_aligner_new(const kwr_env *env, uint32_t channels,
                                             uint64_t generation, kwr_aligner **out,
                                             kwr_error *err);
KWR_API void kwr_aligner_free(kwr_aligner *aligner);
/* A barrier or marker arrived. KWR_ERR_RANGE: no such channel; KWR_ERR_MISUSE: it has ended. */
KWR_API KWR_CHECK kwr_status kwr_aligner_barrier(kwr_aligner *aligner, uint32_t channel,
                                                 const kwr_barrier *barrier, uint64_t now_ns,
                                                 kwr_alignment *out);
/* The channel has ended for good; it counts as aligned from now on. */
KWR_API KWR_CHECK kwr_status kwr_aligner_end(kwr_aligner *aligner, uint32_t channel,
                                             uint64_t now_ns, kwr_alignment *out);
/* The coordinator aborted `checkpoint`: its alignment, or its barriers still to come, are void. */
KWR_API KWR_CHECK kwr_status kwr_aligner_abort(kwr_aligner *aligner, uint64_t checkpoint,
                                               kwr_alignment *out);
/* For diagnosis: whether `channel` is blocked; the checkpoint being aligned, 0 for none. */
KWR_API bool kwr_aligner_blocked(const kwr_aligner *aligner, uint32_t channel);
KWR_API uint64_t kwr_aligner_pending(const kwr_aligner *aligner);

/* ---- coordinator: the checkpoints of one attempt of a job ---- */

typedef struct kwr_coordinator kwr_coordinator;

typedef struct kwr_coordinator_options {
    size_t struct_size;
    const kwr_env *env; /* its allocator only */
    uint64_t generation;
    uint64_t first_checkpoint;   /* the next id: 1 + the highest published */
    uint32_t tasks;              /* all of them must ack; numbered from 0 */
    uint64_t interval_ns;        /* between triggers; 0: none but final, stop and by request */
    uint64_t min_pause_ns;       /* from one's end to the next periodic trigger */
    uint64_t timeout_ns;         /* from trigger to all acks; 0: default 10 min */
    uint32_t tolerable_failures; /* consecutive; beyond, the attempt fails; default 0 */
    bool tolerate_all;           /* never fail for failed checkpoints */
} kwr_coordinator_options;

typedef enum kwr_coordinator_event_kind {
    KWR_ON_TICK = 1,            /* time passed */
    KWR_ON_SOURCE = 2,          /* before the start: `task` is a source */
    KWR_ON_START = 3,           /* all tasks run */
    KWR_ON_TRIGGER = 4,         /* a checkpoint is asked for */
    KWR_ON_STOP = 5,            /* take a last checkpoint, then finish */
    KWR_ON_ACK = 6,             /* task, checkpoint, generation */
    KWR_ON_DECLINE = 7,         /* task, checkpoint, generation, status */
    KWR_ON_SOURCE_ENDED = 8,    /* task: its input is read to the end */
    KWR_ON_PUBLISHED = 9,       /* checkpoint: the log names it, durably, and no newer attempt */
    KWR_ON_PUBLISH_FAILED = 10, /* checkpoint: certainly not published; status */
    KWR_ON_LOST = 11,           /* fenced, outcome unknown, task lost: the attempt ends; status */
} kwr_coordinator_event_kind;

typedef struct kwr_coordinator_event {
    kwr_coordinator_event_kind kind;
    uint64_t now_ns;
    uint64_t checkpoint;
    uint64_t generation;
    uint32_t task;
    kwr_status status;
} kwr_coordinator_event;

typedef enum kwr_coordinator_action_kind {
    KWR_DO_TRIGGER = 1, /* send `checkpoint` (final or not) to every source */
    KWR_DO_PUBLISH = 2, /* all acks are in: make it durable, then report */
    KWR_DO_ABORT = 3,   /* tell every task that `checkpoint` will not complete; `status` says why */
    KWR_DO_COMPLETE = 4,   /* tell every task that `checkpoint` is completed */
    KWR_DO_IGNORE_ACK = 5, /* the ack or decline just given counts for nothing */
    KWR_DO_FINISH = 6,     /* the job is done: `checkpoint` was its last; `final` or stopped */
    KWR_DO_FAIL = 7,       /* end the attempt; `status` says why */
} kwr_coordinator_action_kind;

typedef struct kwr_coordinator_action {
    kwr_coordinator_action_kind kind;
    uint64_t checkpoint;
    bool final;
    kwr_status status;
} kwr_coordinator_action;

enum { KWR_COORDINATOR_ACTIONS_MAX = 8 };

KWR_API KWR_CHECK kwr_status kwr_coordinator_new(const kwr_coordinator_options *options,
                                                 kwr_coordinator **out, kwr_error *err);
KWR_API void kwr_coordinator_free(kwr_coordinator *coordinator);
/* Takes one step; `actions` holds KWR_COORDINATOR_ACTIONS_MAX, in the order to carry them out. */
KWR_API KWR_CHECK kwr_status kwr_coordinator_step(kwr_coordinator *coordinator,
                                                  const kwr_coordinator_event *event,
                                                  kwr_coordinator_action *actions, size_t *count);
/* When the next tick may do something, UINT64_MAX for never. */
KWR_API uint64_t kwr_coordinator_deadline(const kwr_coordinator *coordinator);
/* The checkpoint in progress, 0 for none. */
KWR_API uint64_t kwr_coordinator_pending(const kwr_coordinator *coordinator);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_BARRIER_H */
