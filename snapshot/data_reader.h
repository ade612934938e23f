/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading data files: every part is compared with its digest in the manifest before it is
 * believed, every number with the limits before it is used. A data file lies in shared/, inside
 * the file `inline`, or in memory.
 */
#ifndef KWR_SNAPSHOT_DATA_READER_H
#define KWR_SNAPSHOT_DATA_READER_H

#include "base/memory.h"
#include "keyweir/limits.h"
#include "snapshot/data_file.h"
#include "snapshot/local_copy.h"
#include "snapshot/manifest.h"
#include "snapshot/storage.h"

/* Whose files these are: for messages, and for what must fit together. */
typedef struct kwr_data_owner {
    const kwr_limits *limits; /* complete */
    const char *operator_id;  /* NULL: not known */
    const uint8_t *job_uid;   /* NULL: not known */
    const kwr_manifest_subtask *subtask;
    uint32_t max_parallelism;
    uint64_t seed;
} kwr_data_owner;

typedef struct kwr_data_file {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_storage_reader *reader; /* NULL: in memory, or opened for each read */
    bool reader_owned;
    kwr_storage_dir *shared; /* where it lies, of a file in shared/ */
    const uint8_t *memory;
    uint64_t memory_base; /* what `memory` begins with, counted like `base` */
    uint64_t base;        /* where it begins in what `reader` reads, and in messages */
    const kwr_manifest_file *file;
    const kwr_data_owner *owner;
    char path[KWR_STORAGE_PATH_MAX];
    kwr_data_header header;
    uint8_t *index; /* as stored; NULL before it is loaded */
    uint64_t index_offset;
    uint64_t index_length;
    bool index_sound;      /* the index was compared with its digest */
    kwr_local_file *local; /* NULL: there is no copy */
    uint64_t fault_at;     /* offset of the latest failure, as in its message */
} kwr_data_file;

/* A file in shared/, of exactly the length the manifest says. */
kwr_status kwr_data_file_open(const kwr_env *env, kwr_storage *storage, kwr_storage_dir *shared,
                              const kwr_manifest_file *file, const kwr_data_owner *owner,
                              kwr_data_file *out, kwr_error *err);
/* From now on what a local copy of it has is read there, and compared before it is given. */
void kwr_data_file_use_copy(kwr_data_file *file);
/* Keeps it usable without a descriptor: each read opens it again. */
void kwr_data_file_rest(kwr_data_file *file);
/* A part of an open file, which the caller keeps open. */
void kwr_data_file_of_reader(const kwr_env *env, kwr_storage *storage, kwr_storage_reader *reader,
                             const char *path, const kwr_manifest_file *file,
                             const kwr_data_owner *owner, kwr_data_file *out);
/* A part of bytes that the caller keeps; its length was checked. */
void kwr_data_file_of_memory(const kwr_env *env, const void *bytes, const char *path,
                             const kwr_manifest_file *file, const kwr_data_owner *owner,
                             kwr_data_file *out);
/* A part of an open file from now on read from `copy`, all its bytes, which the caller keeps. */
kwr_status kwr_data_file_copy(kwr_data_file *file, uint8_t *copy, kwr_error *err);
void kwr_data_file_close(kwr_data_file *file);

/* Each checks one part, in any order; the index must be loaded before images are read. */
kwr_status kwr_data_file_check_header(kwr_data_file *file, kwr_error *err);
kwr_status kwr_data_file_check_footer(kwr_data_file *file, kwr_error *err);
kwr_status kwr_data_file_load_index(kwr_data_file *file, kwr_error *err);
/* All three. */
kwr_status kwr_data_file_load(kwr_data_file *file, kwr_error *err);

/* Likewise without reading: `loaded` is the same file with the same digests, as another checkpoint
 * or subtask lists it, and that part of it was sound. */
kwr_status kwr_data_file_same_header(kwr_data_file *file, const kwr_data_file *loaded,
                                     kwr_error *err);
kwr_status kwr_data_file_same_index(kwr_data_file *file, const kwr_data_file *loaded,
                                    kwr_error *err);

/* False when the checkpoint does not use this image. */
bool kwr_data_file_entry(const kwr_data_file *file, uint64_t index, kwr_data_entry *out);
/* Adds the entries of each state to sums[state], for images in use. */
void kwr_data_file_count(const kwr_data_file *file, uint64_t *sums);
kwr_status kwr_data_file_read(const kwr_data_file *file, uint64_t offset, void *out, size_t size,
                              kwr_error *err);

/*
 * The image of an entry in use (its state as the subtask numbers it) from its prefix and stored
 * bytes: checksum first, then decoded into `scratch` (entry->raw bytes; unused for raw images).
 */
kwr_status kwr_data_image(const kwr_data_file *file, const kwr_data_entry *entry,
                          const uint8_t *bytes, uint8_t *scratch, kwr_page_image *out,
                          kwr_error *err);
/* A failure found in an image, put with where it is and what it holds. */
kwr_status kwr_data_image_fault(const kwr_data_file *file, const kwr_data_entry *entry,
                                kwr_status status, const char *text, kwr_error *err);

#endif /* KWR_SNAPSHOT_DATA_READER_H */
