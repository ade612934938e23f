/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job and its tasks tell each other. A message is opaque to the engine that carries it and
 * may come late, twice, damaged, or from another attempt; so each says whose it is and ends in a
 * checksum. Little-endian:
 *
 *   offset size
 *    0      4   magic "KWRM"
 *    4      2   version, 1
 *    6      2   kind
 *    8     16   job uid
 *   24      8   generation
 *   32      ..  body, see kwr_message_kind; a string is u16 size + bytes, bytes are u32 size +
 * bytes -8      8   XXH3-64 of all before it
 *
 * Both ends run the same version: messages live no longer than an attempt and are never stored.
 */
#ifndef KWR_TASK_MESSAGE_H
#define KWR_TASK_MESSAGE_H

#include "base/memory.h"
#include "keyweir/limits.h"

enum {
    KWR_MESSAGE_VERSION = 1,
    KWR_MESSAGE_SMALL_MAX = 64, /* trigger, complete, abort */
    KWR_OPERATOR_ID_MAX = 100,
    KWR_JOB_NAME_BYTES_MAX = 100,
};

typedef enum kwr_message_kind {
    /* job to task */
    KWR_MESSAGE_ASSIGNMENT = 1, /* job, restored checkpoint + generation, seed, ..., part */
    KWR_MESSAGE_TRIGGER = 2,    /* u64 checkpoint, i64 triggered_ms, u8 last */
    KWR_MESSAGE_COMPLETE = 3,   /* u64 checkpoint, u8 last */
    KWR_MESSAGE_ABORT = 4,      /* u64 checkpoint, i32 status */
    /* task to job: u32 task, string operator, u32 subtask, then */
    KWR_MESSAGE_ACK = 5,          /* u64 checkpoint, u64 entries, u64 bytes written, bytes part */
    KWR_MESSAGE_DECLINE = 6,      /* u64 checkpoint, i32 status, string text */
    KWR_MESSAGE_SOURCE_ENDED = 7, /* nothing */
} kwr_message_kind;

/* Slices are borrowed: from the caller when encoding, from the message when decoded. */
typedef struct kwr_message {
    kwr_message_kind kind;
    uint8_t uid[16];
    uint64_t generation;
    uint64_t checkpoint;
    int64_t triggered_ms;
    bool last; /* trigger: a final checkpoint; complete: the job is done after it */
    kwr_status status;
    /* who sends */
    uint32_t task;
    kwr_slice operator_id;
    uint32_t subtask;
    /* ack */
    uint64_t entries;
    uint64_t bytes;
    kwr_slice part; /* kwr_subtask_part_decode() reads it */
    /* decline */
    kwr_slice text;
} kwr_message;

/* Several byte strings as one: each as u32 size + bytes. */
typedef struct kwr_packed {
    uint32_t count;
    kwr_slice bytes;
} kwr_packed;

void kwr_packed_add(kwr_packed *packed, kwr_buffer *buffer, kwr_slice item);
/* The next item, *at counting from 0; there are packed->count of them. */
kwr_slice kwr_packed_next(const kwr_packed *packed, size_t *at);

/* Everything a task needs to know of its job, and its share of what is restored. */
typedef struct kwr_assignment {
    uint8_t uid[16];
    uint64_t generation;
    kwr_slice job;
    uint64_t restored_checkpoint; /* 0: the job starts empty */
    uint64_t restored_generation;
    uint64_t seed;
    uint32_t max_parallelism;
    bool engine_key_groups;
    uint32_t task;
    kwr_slice operator_id;
    uint32_t subtask;
    uint32_t parallelism;
    unsigned roles;
    uint64_t inline_bytes;   /* 0: never */
    kwr_slice part;          /* splits and committables; empty: this task starts empty */
    kwr_packed keyed;        /* handles of the old subtasks that hold some of its key groups */
    kwr_packed operators;    /* handles of old subtasks' operator state */
    kwr_packed states;       /* what to take from them: see kwr_state_plan */
    bool operator_as_it_was; /* all of the one handle, whatever `states` says */
} kwr_assignment;

/* One operator state in an assignment: name and picks follow it in the packed item. */
typedef struct kwr_state_plan {
    kwr_slice name;
    uint32_t handle; /* one that knows the state */
    uint32_t pick_count;
    kwr_slice picks; /* kwr_state_plan_pick() */
} kwr_state_plan;

typedef struct kwr_state_pick {
    uint32_t handle;
    uint64_t first, count;
} kwr_state_pick;

/* As one item for kwr_packed_add(); picks are added by kwr_state_plan_add(). */
void kwr_state_plan_begin(kwr_buffer *item, const char *name, uint32_t handle, uint32_t picks);
void kwr_state_plan_add(kwr_buffer *item, const kwr_state_pick *pick);
/* KWR_ERR_CORRUPT; `handles`: how many there are. */
kwr_status kwr_state_plan_read(kwr_slice item, uint32_t handles, kwr_state_plan *out,
                               kwr_error *err);
kwr_state_pick kwr_state_plan_pick(const kwr_state_plan *plan, uint32_t index);

size_t kwr_message_size(const kwr_message *message);
/* Writes kwr_message_size() bytes. */
void kwr_message_write(const kwr_message *message, uint8_t *out);
/* KWR_ERR_RANGE beyond limits->message_bytes_max, KWR_ERR_NOMEM. */
kwr_status kwr_message_encode(const kwr_env *env, const kwr_limits *limits,
                              const kwr_message *message, kwr_bytes *out, kwr_error *err);
/* Any message but an assignment. KWR_ERR_CORRUPT, KWR_ERR_FORMAT (another version), KWR_ERR_RANGE
 * (too large). */
kwr_status kwr_message_decode(const kwr_limits *limits, kwr_slice bytes, kwr_message *out,
                              kwr_error *err);

kwr_status kwr_assignment_encode(const kwr_env *env, const kwr_limits *limits,
                                 const kwr_assignment *assignment, kwr_bytes *out, kwr_error *err);
kwr_status kwr_assignment_decode(const kwr_limits *limits, kwr_slice bytes, kwr_assignment *out,
                                 kwr_error *err);

#endif /* KWR_TASK_MESSAGE_H */
