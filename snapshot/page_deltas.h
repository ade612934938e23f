/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deltas that a checkpoint uses, by page: read from the batches of its data files, verified,
 * and put together with the images they belong to.
 *
 * Every file says for which checkpoint it was written; that is the version of what is in it. A
 * page's content is its one image in use, then the deltas of higher versions, ascending. Those of
 * lower ones are left from before the image was written and mean nothing any more.
 */
#ifndef KWR_SNAPSHOT_PAGE_DELTAS_H
#define KWR_SNAPSHOT_PAGE_DELTAS_H

#include "backend/page_delta.h"
#include "snapshot/data_reader.h"

typedef struct kwr_page_deltas kwr_page_deltas;

kwr_page_deltas *kwr_page_deltas_new(const kwr_env *env); /* NULL: no memory */
void kwr_page_deltas_free(kwr_page_deltas *deltas);       /* NULL is a no-op */
/*
 * Reads the batch of an entry, compares it with its digest, and opens it. *bytes, entry->raw of
 * them, are the caller's, also after a failure (then maybe NULL). [any]
 */
kwr_status kwr_page_deltas_open(const kwr_env *env, const kwr_data_file *file,
                                const kwr_data_entry *entry, uint8_t **bytes, kwr_delta_batch *out,
                                kwr_error *err);
/* Does the checkpoint use a batch of this file (its index is loaded)? */
bool kwr_page_deltas_in(const kwr_data_file *file);
/* Reads all batches of a file in use and in `key_groups`. *level, if any, is that of its batches.
 */
kwr_status kwr_page_deltas_read(kwr_page_deltas *deltas, const kwr_data_file *file,
                                kwr_key_group_range key_groups, uint8_t *level, kwr_error *err);
/* When all files of all subtasks are read: `versions`, ascending, are what there is, and the i-th
 * is said to be of epoch 1 + i; NULL: deltas leave no marks. */
void kwr_page_deltas_mark(kwr_page_deltas *deltas, const uint64_t *versions, size_t count);
/* Epoch of the page's newest delta, if they are marked; 0: it has none. */
uint64_t kwr_page_deltas_epoch(const kwr_page_deltas *deltas, uint32_t key_group, uint64_t id);
/* Of how many pages there are deltas. */
size_t kwr_page_deltas_count(const kwr_page_deltas *deltas);

/*
 * `image` (of a file of this version) with its deltas; *out is `image` itself where there are none.
 * `room` holds its bytes, if not. out->epoch is that of the highest version, if they are marked.
 * Threads may do so at the same time.
 */
kwr_status kwr_page_deltas_apply(const kwr_page_deltas *deltas, uint64_t version,
                                 const kwr_page_image *image, kwr_buffer *room, kwr_page_image *out,
                                 kwr_error *err);

#endif /* KWR_SNAPSHOT_PAGE_DELTAS_H */
