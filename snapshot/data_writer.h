/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing one data file: images are compressed straight into the buffer they are written from. It
 * starts in memory and can be given a file at any time; what stays in memory travels inline.
 */
#ifndef KWR_SNAPSHOT_DATA_WRITER_H
#define KWR_SNAPSHOT_DATA_WRITER_H

#include "base/memory.h"
#include "keyweir/storage.h"
#include "snapshot/data_file.h"
#include "snapshot/manifest.h"

typedef struct kwr_data_writer {
    const kwr_env *env;
    kwr_storage *storage;
    kwr_storage_writer *file; /* NULL: in memory */
    kwr_buffer bytes;         /* not yet written; in memory: all */
    kwr_buffer index;         /* entries as stored */
    uint8_t header[KWR_DATA_HEADER_SIZE];
    uint64_t length; /* of the file so far */
    uint64_t images;
    uint64_t raw;
    uint64_t entries;
    bool compress;
} kwr_data_writer;

/* Bytes of a data file besides its images, and besides the prefix and entry of each. */
enum { KWR_DATA_FILE_FIXED = KWR_DATA_HEADER_SIZE + KWR_DATA_FOOTER_SIZE };

kwr_status kwr_data_writer_begin(kwr_data_writer *writer, const kwr_env *env, kwr_storage *storage,
                                 const kwr_data_header *header, bool compress);
/* Appends an image; `*stored` is what it adds to the finished file. */
kwr_status kwr_data_writer_image(kwr_data_writer *writer, const kwr_page_image *image,
                                 const kwr_limits *limits, uint64_t *stored, kwr_error *err);
/* From now on into this file, which the writer takes over. */
void kwr_data_writer_set_file(kwr_data_writer *writer, kwr_storage_writer *file);
/* Writes what has gathered, when it is enough. */
kwr_status kwr_data_writer_flush(kwr_data_writer *writer, kwr_error *err);
/* Index and footer; a file is made durable and closed, also on failure. In memory: writer->bytes
 * then is the whole file. Fills all of `out` but name and offset. */
kwr_status kwr_data_writer_finish(kwr_data_writer *writer, kwr_manifest_file *out, kwr_error *err);
/* Releases memory; an unfinished file is removed. */
void kwr_data_writer_done(kwr_data_writer *writer);

#endif /* KWR_SNAPSHOT_DATA_WRITER_H */
