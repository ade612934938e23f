/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/output_dir.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "examples/engine/error.h"

enum { READ_BYTES = 256 * 1024 };

kwr_status eng_output_open(const kwr_env *env, const char *path, eng_output_dir *out,
                           kwr_error *err) {
    kwr_dir *dir = NULL;
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status =
        env->fs->open_root(env->fs->ctx, path, KWR_FS_CREATE | KWR_FS_FOLLOW, &dir, &why);
    if (status < KWR_OK) return eng_pass(err, status, &why, "output directory '%s'", path);
    *out = (eng_output_dir){ .env = env, .fs = env->fs, .dir = dir, .path = path };
    return KWR_OK;
}

void eng_output_close(eng_output_dir *output) {
    if (output->dir != NULL) output->fs->close_dir(output->fs->ctx, output->dir);
    output->dir = NULL;
}

kwr_status eng_output_sync(const eng_output_dir *output, kwr_error *err) {
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = output->fs->sync_dir(output->fs->ctx, output->dir, &why);
    return status < KWR_OK ? eng_pass(err, status, &why, "output directory '%s'", output->path)
                           : KWR_OK;
}

/* ---- listing ---- */

static kwr_status list(const eng_output_dir *output, kwr_list_fn fn, void *ctx, kwr_error *err) {
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = output->fs->list(output->fs->ctx, output->dir, fn, ctx, &why);
    return status < KWR_OK ? eng_pass(err, status, &why, "output directory '%s'", output->path)
                           : KWR_OK;
}

static kwr_status note_part(void *ctx, const char *name) {
    eng_parts *parts = ctx;
    if (strncmp(name, "part-", 5) != 0) return KWR_OK;
    if (parts->count++ == 0) snprintf(parts->example, sizeof parts->example, "%s", name);
    uint64_t checkpoint = 0;
    uint32_t subtask = 0;
    if (!eng_part_parse(name, &checkpoint, &subtask) || checkpoint < parts->highest) return KWR_OK;
    parts->highest = checkpoint;
    eng_part_name(checkpoint, subtask, parts->highest_name);
    return KWR_OK;
}

kwr_status eng_output_parts(const eng_output_dir *output, eng_parts *out, kwr_error *err) {
    eng_parts parts = { .count = 0 };
    ENG_TRY(list(output, note_part, &parts, err));
    *out = parts;
    return KWR_OK;
}

/* Names chosen from a listing, to be changed when it is over. */
typedef struct name_list {
    char **items;
    size_t count;
    /* the choice */
    const char *job; /* pending files of lower generations, else parts in (base, highest] */
    uint64_t generation;
    uint64_t base;
    uint64_t highest;
} name_list;

static bool chosen(const name_list *names, const char *name) {
    char job[ENG_JOB_BYTES_MAX + 1];
    uint64_t generation = 0;
    uint64_t checkpoint = 0;
    uint32_t subtask = 0;
    if (names->job != NULL) {
        return eng_pending_parse(name, job, &generation, &checkpoint, &subtask) &&
               strcmp(job, names->job) == 0 && generation < names->generation;
    }
    return eng_part_parse(name, &checkpoint, &subtask) && checkpoint > names->base &&
           checkpoint <= names->highest;
}

static kwr_status note_name(void *ctx, const char *name) {
    name_list *found = ctx;
    if (!chosen(found, name)) return KWR_OK;
    char **grown = realloc(found->items, (found->count + 1) * sizeof *grown);
    if (grown == NULL) return KWR_ERR_NOMEM;
    found->items = grown;
    found->items[found->count] = strdup(name);
    if (found->items[found->count] == NULL) return KWR_ERR_NOMEM;
    found->count++;
    return KWR_OK;
}

static void names_done(name_list *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
}

static kwr_status remove_name(const eng_output_dir *output, const char *name, kwr_error *err) {
    kwr_error why = ENG_ERROR_NONE;
    const kwr_status status = output->fs->remove(output->fs->ctx, output->dir, name, &why);
    if (status == KWR_ERR_MISSING || status >= KWR_OK) return KWR_OK;
    return eng_pass(err, status, &why, "output file '%s/%s'", output->path, name);
}

kwr_status eng_output_sweep(const eng_output_dir *output, const char *job, uint64_t generation,
                            uint64_t *count, kwr_error *err) {
    name_list found = { .job = job, .generation = generation };
    kwr_status status = list(output, note_name, &found, err);
    for (size_t i = 0; i < found.count && status == KWR_OK; i++) {
        status = remove_name(output, found.items[i], err);
    }
    if (status == KWR_OK && found.count > 0) status = eng_output_sync(output, err);
    if (status == KWR_OK) *count = found.count;
    names_done(&found);
    return status;
}

static kwr_status move_names(const eng_output_dir *output, const name_list *found, const char *to,
                             kwr_error *err) {
    kwr_dir *target = NULL;
    kwr_error why = ENG_ERROR_NONE;
    const kwr_fs *fs = output->fs;
    kwr_status status = fs->open_dir(fs->ctx, output->dir, to, KWR_FS_CREATE, &target, &why);
    if (status < KWR_OK)
        return eng_pass(err, status, &why, "output directory '%s/%s'", output->path, to);
    for (size_t i = 0; i < found->count && status >= KWR_OK; i++) {
        status = fs->rename(fs->ctx, output->dir, found->items[i], target, found->items[i], &why);
    }
    /* First the new names, then the loss of the old ones. */
    if (status >= KWR_OK) status = fs->sync_dir(fs->ctx, target, &why);
    fs->close_dir(fs->ctx, target);
    if (status < KWR_OK)
        return eng_pass(err, status, &why, "moving parts to '%s/%s'", output->path, to);
    return eng_output_sync(output, err);
}

kwr_status eng_output_roll_back(const eng_output_dir *output, uint64_t base, uint64_t highest,
                                uint64_t generation, uint64_t *count, kwr_error *err) {
    name_list found = { .base = base, .highest = highest };
    char to[ENG_ROLLED_BACK_TEXT];
    eng_rolled_back_name(base, generation, to);
    kwr_status status = list(output, note_name, &found, err);
    if (status == KWR_OK && found.count > 0) status = move_names(output, &found, to, err);
    if (status == KWR_OK) *count = found.count;
    names_done(&found);
    return status;
}

/* ---- committing ---- */

static kwr_status digest_file(const kwr_fs *fs, kwr_file *file, uint64_t *length, char digest[33],
                              kwr_error *err) {
    XXH3_state_t *state = XXH3_createState();
    uint8_t *data = malloc(READ_BYTES);
    kwr_status status = KWR_OK;
    uint64_t at = 0;
    if (state == NULL || data == NULL) status = eng_no_memory(err, "checking a file");
    if (status == KWR_OK) XXH3_128bits_reset(state);
    for (size_t done = 1; status == KWR_OK && done > 0; at += done) {
        done = 0;
        status = fs->read(fs->ctx, file, at, data, READ_BYTES, &done, err);
        if (status == KWR_OK) XXH3_128bits_update(state, data, done);
    }
    if (status == KWR_OK) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        for (size_t i = 0; i < sizeof canonical.digest; i++) {
            snprintf(digest + 2 * i, 3, "%02x", canonical.digest[i]);
        }
        *length = at;
    }
    free(data);
    XXH3_freeState(state);
    return status;
}

kwr_status eng_output_digest(const eng_output_dir *output, const char *name, uint64_t *length,
                             char digest[33], kwr_error *err) {
    kwr_file *file = NULL;
    kwr_file_info info;
    kwr_error why = ENG_ERROR_NONE;
    const kwr_fs *fs = output->fs;
    kwr_status status = fs->open(fs->ctx, output->dir, name, 0, &file, &info, &why);
    if (status == KWR_OK) {
        status = digest_file(fs, file, length, digest, &why);
        /* Closing a file that was only read loses nothing. */
        const kwr_status ignored = fs->close(fs->ctx, file, NULL);
        (void)ignored;
    }
    if (status < KWR_OK)
        return eng_pass(err, status, &why, "output file '%s/%s'", output->path, name);
    return KWR_OK;
}

/* KWR_ERR_MISSING when there is no such file; KWR_ERR_CORRUPT when it differs. */
static kwr_status check(const eng_output_dir *output, const char *name,
                        const eng_committable *committable, kwr_error *err) {
    uint64_t length = 0;
    char digest[33];
    const kwr_status status = eng_output_digest(output, name, &length, digest, err);
    if (status == KWR_ERR_MISMATCH) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0,
                        "output file '%s/%s' is not a regular file, but the checkpoint names it",
                        output->path, name);
    }
    if (status < KWR_OK) return status;
    if (length != committable->length) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0,
                        "output file '%s/%s' has %" PRIu64 " bytes, the checkpoint says %" PRIu64,
                        output->path, name, length, committable->length);
    }
    if (strcmp(digest, committable->digest) != 0) {
        return eng_fail(err, KWR_ERR_CORRUPT, 0,
                        "output file '%s/%s' has digest %s, the checkpoint says %s", output->path,
                        name, digest, committable->digest);
    }
    return KWR_OK;
}

/* The part is there and right: only a second name of the same file may be left to remove. */
static kwr_status remove_pending(const eng_output_dir *output, const eng_committable *committable,
                                 kwr_error *err) {
    return remove_name(output, committable->pending, err);
}

static kwr_status neither(const eng_output_dir *output, const eng_committable *committable,
                          kwr_error *err) {
    return eng_fail(err, KWR_ERR_MISSING, 0,
                    "output file '%s/%s' is neither committed nor pending as '%s', but the "
                    "checkpoint says it is to be committed; put it back, or restore an older "
                    "checkpoint",
                    output->path, committable->part, committable->pending);
}

kwr_status eng_output_commit(const eng_output_dir *output, const eng_committable *committable,
                             kwr_error *err) {
    kwr_status status = check(output, committable->part, committable, err);
    if (status == KWR_OK) return remove_pending(output, committable, err);
    if (status != KWR_ERR_MISSING) return status;
    status = check(output, committable->pending, committable, err);
    if (status == KWR_OK) {
        kwr_error why = ENG_ERROR_NONE;
        const kwr_fs *fs = output->fs;
        status = fs->rename(fs->ctx, output->dir, committable->pending, output->dir,
                            committable->part, &why);
        if (status >= KWR_OK) return KWR_OK;
        if (status != KWR_ERR_EXISTS && status != KWR_ERR_MISSING) {
            return eng_pass(err, status, &why, "committing '%s/%s'", output->path,
                            committable->part);
        }
        status = KWR_ERR_MISSING;
    }
    if (status != KWR_ERR_MISSING) return status;
    /* Another attempt may have committed it in this moment: then it is there now. */
    status = check(output, committable->part, committable, err);
    return status == KWR_ERR_MISSING ? neither(output, committable, err) : status;
}
