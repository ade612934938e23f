/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the checkpoints of one backend have in common: which data files in shared/ a completed
 * checkpoint uses and what lies in them, so that the next one can refer to it instead of writing it
 * again.
 *
 * A checkpoint's *set* is made while it is written and never changed afterwards. It is offered as a
 * candidate and becomes the base when the checkpoint is known to be completed. What a new one may
 * refer to is what the base uses *and* every candidate whose fate is not known yet: should one of
 * those have completed unheard, retention may have removed the rest already.
 */
#ifndef KWR_SNAPSHOT_LINEAGE_H
#define KWR_SNAPSHOT_LINEAGE_H

#include "keyweir/snapshot.h"
#include "snapshot/manifest.h"

/* ---- a set: what one checkpoint of one subtask uses ---- */

/* A local file as a whole, kept in one data file: engines of files. */
typedef struct kwr_lineage_item {
    const char *identity; /* of the local file: no other, before or after, has it */
    kwr_digest digest;    /* of its bytes */
    uint64_t length;
    uint32_t state;
    uint32_t file; /* index in the set */
    bool seen;     /* the digest is of the local file as this process read it */
} kwr_lineage_item;

typedef struct kwr_lineage_set {
    uint32_t references; /* atomic */
    uint32_t loading;    /* atomic: what was restored from it is not all loaded yet */
    const kwr_env *env;
    kwr_arena *arena;         /* names and identities */
    kwr_manifest_file *files; /* in shared/: never inline */
    size_t file_count, file_capacity;
    kwr_lineage_item *items;
    size_t item_count, item_capacity;
    struct kwr_page_base *pages; /* engines of pages: their files are those of the set, in order */
    uint32_t *table;             /* of items by identity: index + 1; open addressing */
    size_t table_size;
} kwr_lineage_set;

kwr_lineage_set *kwr_lineage_set_new(const kwr_env *env); /* NULL without memory */
void kwr_lineage_set_release(kwr_lineage_set *set);       /* NULL is a no-op [any] */
/* Copied with its name. */
kwr_status kwr_lineage_set_file(kwr_lineage_set *set, const kwr_manifest_file *file,
                                uint32_t *index);
kwr_status kwr_lineage_set_item(kwr_lineage_set *set, const kwr_lineage_item *item);
/* Takes the pages over, in any case, and their files in shared/. */
kwr_status kwr_lineage_set_pages(kwr_lineage_set *set, struct kwr_page_base *pages);
/* Another reference. [any] */
kwr_lineage_set *kwr_lineage_set_retain(kwr_lineage_set *set);
/*
 * Its pages are read from its files while the backend is in use (a lazy restore). Until
 * kwr_lineage_set_loaded() every checkpoint refers to all of these files, so that whatever is
 * retained keeps them. [any]
 */
void kwr_lineage_set_loading(kwr_lineage_set *set);
void kwr_lineage_set_loaded(kwr_lineage_set *set);
/* NULL: none has it. */
const kwr_lineage_item *kwr_lineage_set_find(const kwr_lineage_set *set, const char *identity);

/* ---- the lineage ---- */

/* What a new checkpoint may refer to. */
typedef struct kwr_lineage_base {
    const kwr_env *env;
    kwr_lineage_set *set; /* NULL: nothing, the snapshot is a full one */
    bool *usable;         /* for each of its files */
    bool all;             /* everything usable has to be referred to: it is still read */
} kwr_lineage_base;

/* True when it is of this job and operator. */
bool kwr_lineage_is_of(const kwr_lineage *lineage, const uint8_t job_uid[16],
                       const char *operator_id);
bool kwr_lineage_is_of_job(const kwr_lineage *lineage, const uint8_t job_uid[16]);
kwr_digest kwr_lineage_operator_digest(const kwr_lineage *lineage); /* as in data files */
/* [any] */
kwr_status kwr_lineage_begin(kwr_lineage *lineage, kwr_lineage_base *out);
void kwr_lineage_base_done(kwr_lineage_base *base);
/*
 * The set of a checkpoint that was written, ids ascending; takes it over. It is a candidate until
 * confirmed or aborted. [any]
 */
void kwr_lineage_offer(kwr_lineage *lineage, uint64_t checkpoint, kwr_lineage_set *set);
/* What a backend was restored from: completed, so the base at once. Takes the set over. */
void kwr_lineage_restored(kwr_lineage *lineage, kwr_lineage_set *set);

#endif /* KWR_SNAPSHOT_LINEAGE_H */
