/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the images of one checkpoint are: for each page its data file and its number there. Made
 * while a checkpoint is written or restored, then never changed; the next checkpoint refers to the
 * images whose pages did not change. It belongs to the lineage, never to the owner's thread.
 */
#ifndef KWR_SNAPSHOT_PAGE_BASE_H
#define KWR_SNAPSHOT_PAGE_BASE_H

#include "keyweir/snapshot.h"
#include "snapshot/data_reader.h"
#include "snapshot/manifest.h"

/* One image. */
typedef struct kwr_page_place {
    uint64_t id;    /* of the page; 0: an empty slot of the table */
    uint32_t file;  /* index into kwr_page_base.files */
    uint32_t image; /* number in that file */
    uint32_t bytes; /* stored, prefix included */
    uint32_t entries;
} kwr_page_place;

/* A batch of deltas. */
typedef struct kwr_page_batch {
    uint32_t file;
    uint32_t image;
    uint32_t bytes;
} kwr_page_batch;

/* The images of one key group. */
typedef struct kwr_page_group {
    kwr_page_place *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    kwr_page_batch *batches;
    size_t batch_count, batch_capacity;
} kwr_page_group;

/* A data file, and what of it is in use. */
typedef struct kwr_page_file {
    kwr_manifest_file listed; /* as the handle lists it; name and lists are copies */
    uint64_t owned_bytes;     /* of images in our key groups, used or not */
    uint32_t used;            /* images */
    uint64_t used_bytes;
    uint64_t checkpoint; /* for which it was written */
    uint64_t epoch;      /* of the engine, whose pages stood in it as they were then */
    bool deltas;         /* it holds batches */
    bool partial;        /* of what was one step: others of it were not kept, and made anew above */
    uint8_t level;       /* of these */
} kwr_page_file;

typedef struct kwr_page_base {
    const kwr_env *env;
    uint64_t epoch; /* of the engine: pages changed later are not here as they are */
    kwr_key_group_range key_groups;
    kwr_page_group *groups;
    kwr_page_file *files;
    size_t file_count, file_capacity;
} kwr_page_base;

/* All images of a data file in use in `theirs` and our key groups, with the ids that its subtask's
 * states have here; the epoch its pages have after the restore, the level of its batches. */
kwr_status kwr_page_base_note(kwr_page_base *base, const kwr_data_file *file,
                              kwr_key_group_range theirs, const uint32_t *state_ids,
                              size_t state_count, uint64_t epoch, uint8_t level);
/* NULL: no memory. */
kwr_page_base *kwr_page_base_new(const kwr_env *env, kwr_key_group_range key_groups);
void kwr_page_base_free(kwr_page_base *base); /* NULL is a no-op */

/* A copy of `file` with nothing used of it; *index says where it is. */
kwr_status kwr_page_base_file(kwr_page_base *base, const kwr_manifest_file *file,
                              uint64_t owned_bytes, uint32_t *index);
/* Likewise a file of the base before. */
kwr_status kwr_page_base_refer(kwr_page_base *base, const kwr_page_file *file, uint32_t *index);
/* Likewise a batch. */
kwr_status kwr_page_base_batch(kwr_page_base *base, uint32_t key_group,
                               const kwr_page_batch *batch);
/* `place` is not there yet. Threads may add to different key groups. */
kwr_status kwr_page_base_add(kwr_page_base *base, uint32_t key_group, const kwr_page_place *place);
/* The image of a page in shared/; NULL: there is none that a later checkpoint can refer to. */
const kwr_page_place *kwr_page_base_find(const kwr_page_base *base, uint32_t key_group,
                                         uint64_t id);

/*
 * Which files the next checkpoint had better not refer to, so that they go: those with little in
 * use, as long as all together hold more than 1.75 times what is used. `refer`, one for each file,
 * says which may be referred to and is made false for these.
 */
void kwr_page_base_plan(const kwr_page_base *base, bool *refer);

/*
 * Deltas lie in tiers. A *step* is what one checkpoint wrote as deltas, on top of the step before.
 * Three steps of one level and a fourth become one of the next level, so that there are never more
 * than nine and no page takes more than ten reads.
 */
typedef struct kwr_page_cover {
    uint64_t checkpoint; /* steps up to this one stay, the new one goes on top; 0: none stays */
    uint64_t epoch;      /* of that step */
    uint8_t level;       /* of the new one */
    bool full;           /* there are so many steps that no new one may be added */
} kwr_page_cover;

enum {
    KWR_PAGE_STEPS_MAX = 9,
    KWR_PAGE_STEPS_HELD = 40, /* while all have to stay: fewer than a page may have deltas */
};

/* Which steps the next checkpoint keeps, of those of which all files may be referred to. `held`:
 * all of them stay, none is folded. False: no memory. */
bool kwr_page_base_cover(const kwr_page_base *base, const bool *refer, bool held,
                         kwr_page_cover *out);

/*
 * When all places are there: counts what is used of each file, forgets files of which nothing is,
 * and lists the images in use of those of which not all are.
 */
kwr_status kwr_page_base_seal(kwr_page_base *base);

#endif /* KWR_SNAPSHOT_PAGE_BASE_H */
