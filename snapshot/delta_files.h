/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deltas of a lazy restore, found in their files when a page needs them. Within one file and
 * state the deltas of a key group are in ascending order of their pages' prefixes, and a batch's
 * index entry has the prefix of its first: so a page's delta is in one batch if it is in any. The
 * latest batches stay decoded, because the pages beside need them too.
 */
#ifndef KWR_SNAPSHOT_DELTA_FILES_H
#define KWR_SNAPSHOT_DELTA_FILES_H

#include "backend/page_delta.h"
#include "snapshot/data_reader.h"

typedef struct kwr_delta_files kwr_delta_files;

kwr_delta_files *kwr_delta_files_new(const kwr_env *env); /* NULL: no memory */
void kwr_delta_files_free(kwr_delta_files *files);        /* NULL is a no-op */

/*
 * A file whose index is loaded, in use until the end; `epoch` is what its checkpoint became, and
 * `state_ids` are the backend's by the subtask's. Of files without owned batches nothing is kept.
 * Else one batch is read: *level is that of all. Files come in ascending order of epochs.
 */
kwr_status kwr_delta_files_add(kwr_delta_files *files, const kwr_data_file *file,
                               kwr_key_group_range owned, const uint32_t *state_ids, uint64_t epoch,
                               uint8_t *level, kwr_error *err);

/* Epoch of the newest that lie in shared/; 0: none do. */
uint64_t kwr_delta_files_beside(const kwr_delta_files *files); /* NULL: there are none */

/*
 * `image`, of that entry of a file, with the backend's number of its state and with its epoch, put
 * together with its deltas of later epochs; *out is `image` itself where there are none. `room`
 * holds its bytes, if not. `marked`: the slots say in which epochs they were changed. [any]
 */
kwr_status kwr_delta_files_apply(kwr_delta_files *files, const kwr_data_file *file,
                                 const kwr_data_entry *entry, const kwr_page_image *image,
                                 bool marked, kwr_buffer *room, kwr_page_image *out,
                                 kwr_error *err);

#endif /* KWR_SNAPSHOT_DELTA_FILES_H */
