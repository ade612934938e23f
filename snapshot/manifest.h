/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest: everything one completed checkpoint consists of, as JSON a person can read
 * (docs/format.md), and in memory as these structs. One arena holds all of it.
 */
#ifndef KWR_SNAPSHOT_MANIFEST_H
#define KWR_SNAPSHOT_MANIFEST_H

#include "backend/view.h"
#include "base/digest.h"
#include "base/memory.h"

/* One data file (or its part of the file `inline`) of a subtask. */
typedef struct kwr_manifest_file {
    const char *name; /* in shared/; NULL: inline */
    uint64_t offset;  /* inline: in the file `inline`; else 0 */
    uint64_t length;  /* of the whole data file */
    kwr_digest header;
    kwr_digest index;
    kwr_digest footer;
    uint64_t images;
    uint64_t live_bytes; /* stored bytes of images this checkpoint uses */
    /* Increments: which images those are, a bit for each; NULL: all of them. */
    const uint8_t *used;
    uint64_t used_images;
    /* State ids of the subtask by those in the file; NULL: they are the same. */
    const uint32_t *states;
    size_t state_count;
} kwr_manifest_file;

/* In kwr_manifest_file.states: no image in use is of this one. */
#define KWR_STATE_NONE UINT32_MAX

static inline size_t kwr_manifest_file_map_bytes(const kwr_manifest_file *file) {
    return (size_t)(file->images / 8 + (file->images % 8 != 0));
}
static inline bool kwr_manifest_file_uses(const kwr_manifest_file *file, uint64_t image) {
    return file->used == NULL || (file->used[image / 8] >> image % 8 & 1) != 0;
}
/* KWR_STATE_NONE when it is none of the subtask's. */
static inline uint32_t kwr_manifest_file_state(const kwr_manifest_file *file, uint32_t state) {
    if (file->states == NULL) return state;
    return state < file->state_count ? file->states[state] : KWR_STATE_NONE;
}

typedef struct kwr_manifest_state {
    kwr_state_info info;
    uint64_t entries;
    bool estimated; /* the numbers: some pages were not read */
    uint64_t entry_bytes;
    uint64_t elements; /* of collections */
} kwr_manifest_state;

typedef struct kwr_manifest_split {
    kwr_slice id, identity, position;
} kwr_manifest_split;

typedef struct kwr_manifest_committable {
    uint64_t checkpoint;
    kwr_slice token;
} kwr_manifest_committable;

/*
 * A subtask's keyed state, splits and committables. Its operator state is a second snapshot of the
 * same build: a subtask inside it with one key group, whose state is "keyed" by nothing.
 */
typedef struct kwr_manifest_subtask kwr_manifest_subtask;
struct kwr_manifest_subtask {
    uint32_t index;
    bool keyed;
    bool of_operator;               /* the inner one */
    kwr_key_group_range key_groups; /* keyed */
    const char *format;             /* keyed: the engine's native name, such as "pages-1" */
    kwr_manifest_state *states;
    size_t state_count;
    kwr_manifest_file *files;
    size_t file_count;
    kwr_manifest_split *splits;
    size_t split_count;
    kwr_manifest_committable *committables;
    size_t committable_count;
    kwr_manifest_subtask *operator_state; /* NULL: there is none, as in the inner one */
};

typedef struct kwr_manifest_operator {
    const char *id;
    uint32_t parallelism;
    uint32_t max_parallelism;
    unsigned roles;                 /* kwr_task_role bits: 1 source, 2 keyed, 4 sink */
    kwr_type key_type;              /* keyed */
    kwr_manifest_subtask *subtasks; /* one for each index, in order */
} kwr_manifest_operator;

typedef struct kwr_manifest {
    kwr_arena *arena;
    const char *job;
    uint8_t job_uid[16];
    uint64_t checkpoint;
    uint64_t generation;
    uint64_t parent_checkpoint; /* 0: none */
    uint64_t parent_generation;
    bool final;
    int64_t triggered_ms;
    int64_t completed_ms; /* all acks in */
    uint64_t seed;
    bool engine_key_groups;
    uint32_t max_parallelism;
    uint64_t inline_length; /* of the file `inline`; 0: there is none */
    kwr_digest inline_digest;
    kwr_manifest_operator *operators;
    size_t operator_count;
} kwr_manifest;

/* Key groups under which the data files of a subtask, or of its operator state, were written. */
static inline uint32_t kwr_manifest_key_groups(const kwr_manifest *manifest,
                                               const kwr_manifest_subtask *subtask) {
    return subtask->of_operator ? 1 : manifest->max_parallelism;
}

/* The JSON text, ending in a line feed. */
kwr_status kwr_manifest_encode(const kwr_env *env, const kwr_manifest *manifest, kwr_bytes *out,
                               kwr_error *err);
/* Strict: unknown versions and incompatible features are KWR_ERR_FORMAT, all else that is not as
 * specified KWR_ERR_CORRUPT; `what` names the file in messages. */
kwr_status kwr_manifest_parse(const kwr_env *env, const kwr_limits *limits, kwr_slice text,
                              const char *what, kwr_manifest **out, kwr_error *err);
void kwr_manifest_free(kwr_manifest *manifest); /* NULL is a no-op */

/* Where a part's inline files lie when they do not travel along. */
typedef struct kwr_inline_place {
    uint64_t checkpoint; /* in the file `inline` of this one; 0: they travel along */
    uint64_t generation;
    uint64_t length; /* of that file */
    const char *operator_id;
    uint8_t job_uid[16];
} kwr_inline_place;

/*
 * A subtask's part as it travels in an ack or assignment: the same JSON object, the key type, and
 * the inline bytes of its files behind it (files with name NULL; offset counts from 0 there), or
 * the place where they are (offset as in the manifest).
 */
typedef struct kwr_subtask_part {
    kwr_arena *arena;
    kwr_manifest_subtask subtask;
    kwr_type key_type;
    uint64_t seed;
    bool engine_key_groups;
    uint32_t max_parallelism;
    kwr_inline_place inline_place;
    kwr_slice inline_bytes; /* borrowed from the decoded bytes */
} kwr_subtask_part;

kwr_status kwr_subtask_part_encode(const kwr_env *env, const kwr_subtask_part *part, kwr_bytes *out,
                                   kwr_error *err);
/* `bytes` must outlive the part. Checks a digest over all of it. */
kwr_status kwr_subtask_part_decode(const kwr_env *env, const kwr_limits *limits, kwr_slice bytes,
                                   const char *what, kwr_subtask_part **out, kwr_error *err);
void kwr_subtask_part_free(kwr_subtask_part *part);

#endif /* KWR_SNAPSHOT_MANIFEST_H */
