/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory a two-phase sink writes to. Output waits in pending files, which nobody reads, and
 * becomes a part by one rename that never replaces:
 *
 *   .pending-<job>-<generation>-<checkpoint>-<subtask>   ->   part-<checkpoint>-<subtask>
 *
 * Numbers are decimal without leading zeros; a job may contain '-', so names are read from the
 * right. Everything here can be repeated after a crash at any point.
 */
#ifndef ENG_OUTPUT_DIR_H
#define ENG_OUTPUT_DIR_H

#include <keyweir/env.h>

enum { ENG_JOB_BYTES_MAX = 100, ENG_PART_TEXT = 48, ENG_PENDING_TEXT = 176 };

void eng_part_name(uint64_t checkpoint, uint32_t subtask, char out[ENG_PART_TEXT]);
bool eng_part_parse(const char *name, uint64_t *checkpoint, uint32_t *subtask);
void eng_pending_name(const char *job, uint64_t generation, uint64_t checkpoint, uint32_t subtask,
                      char out[ENG_PENDING_TEXT]);
/* `job` holds ENG_JOB_BYTES_MAX + 1. */
bool eng_pending_parse(const char *name, char *job, uint64_t *generation, uint64_t *checkpoint,
                       uint32_t *subtask);

/* What a commit needs: a token in the checkpoint. */
typedef struct eng_committable {
    char pending[ENG_PENDING_TEXT];
    char part[ENG_PART_TEXT];
    uint64_t length;
    char digest[33]; /* XXH3-128 of the content, 32 hex digits */
} eng_committable;

enum { ENG_TOKEN_TEXT = 512 };
/* {"pending":"…","part":"…","length":N,"digest":"…"}; returns its length. */
size_t eng_token_text(const eng_committable *committable, char out[ENG_TOKEN_TEXT]);
/* KWR_ERR_CORRUPT unless it is exactly such a text with names of the grammar above. */
kwr_status eng_token_parse(kwr_slice token, eng_committable *out, kwr_error *err);

typedef struct eng_output_dir {
    const kwr_env *env;
    const kwr_fs *fs;
    kwr_dir *dir;
    const char *path;
} eng_output_dir;

/* Opens, and makes when missing. */
kwr_status eng_output_open(const kwr_env *env, const char *path, eng_output_dir *out,
                           kwr_error *err);
void eng_output_close(eng_output_dir *output);

typedef struct eng_parts {
    uint64_t count;                   /* of all names that start with "part-" */
    char example[256];                /* one of them */
    uint64_t highest;                 /* checkpoint of the newest part */
    char highest_name[ENG_PART_TEXT]; /* its name */
} eng_parts;

kwr_status eng_output_parts(const eng_output_dir *output, eng_parts *out, kwr_error *err);

/*
 * Makes the part of a committable, or finds that it is there already; checked by length and
 * digest either way. Durable after eng_output_sync(). KWR_ERR_MISSING: neither pending nor
 * committed; KWR_ERR_CORRUPT: it differs; KWR_ERR_IO.
 */
kwr_status eng_output_commit(const eng_output_dir *output, const eng_committable *committable,
                             kwr_error *err);
kwr_status eng_output_sync(const eng_output_dir *output, kwr_error *err);
/* Removes pending files of this job's lower generations; *count of them. */
kwr_status eng_output_sweep(const eng_output_dir *output, const char *job, uint64_t generation,
                            uint64_t *count, kwr_error *err);
/*
 * Moves the parts with base < checkpoint <= highest to `rolled-back-<base>-<generation>`, durably;
 * `*count` of them, 0: no directory is made.
 */
kwr_status eng_output_roll_back(const eng_output_dir *output, uint64_t base, uint64_t highest,
                                uint64_t generation, uint64_t *count, kwr_error *err);
enum { ENG_ROLLED_BACK_TEXT = 64 };
void eng_rolled_back_name(uint64_t base, uint64_t generation, char out[ENG_ROLLED_BACK_TEXT]);

/* Length and digest of a file in the directory. */
kwr_status eng_output_digest(const eng_output_dir *output, const char *name, uint64_t *length,
                             char digest[33], kwr_error *err);

#endif /* ENG_OUTPUT_DIR_H */
