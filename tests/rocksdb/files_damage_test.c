/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage to the stored files of RocksDB: whatever byte changes, whatever length a file has, it is
 * refused before RocksDB opens anything. That it was not opened is seen by the engine's directory:
 * RocksDB leaves LOG and LOCK wherever it opens a database, also where that fails.
 *
 * KWR_FILES_DAMAGE=all takes every byte and length instead of a choice.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "snapshot/manifest.h"
#include "tests/snapshot/fixture.h"

enum { GROUPS = 16, KEYS = 400, FILES_MAX = 64, SST_FOOTER = 53 };

typedef struct stored {
    fixture f;
    char parent[256], directory[300], shared[300];
    kwr_bytes handle;
    kwr_subtask_part *part;
    char path[FILES_MAX][600];
    uint64_t length[FILES_MAX], images[FILES_MAX];
    size_t count;
    uint64_t attempts;
} stored;

static kwr_backend_options options_of(const stored *s) {
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = s->f.env,
                                  .engine = "rocksdb",
                                  .max_parallelism = GROUPS,
                                  .key_type = { .kind = KWR_TYPE_I64 },
                                  .directory = s->directory };
}

static void fill(kwr_backend *backend, const char *name, uint64_t seed) {
    kwr_value_descriptor d = { .struct_size = sizeof d,
                               .name = name,
                               .type = { .kind = KWR_TYPE_BYTES } };
    kwr_value *value = NULL;
    cr_assert_eq(kwr_value_open(backend, &d, &value, NULL), KWR_OK);
    for (int64_t k = 0; k < KEYS; k++) {
        uint8_t key[8], bytes[64];
        kwr_key_from_i64(k, key);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 56);
        cr_assert_eq(kwr_backend_set_key(backend, (kwr_slice){ key, 8 }), KWR_OK);
        cr_assert_eq(kwr_value_put(value, (kwr_slice){ bytes, sizeof bytes }), KWR_OK);
    }
}

/* One checkpoint, its bytes as they are in RocksDB's files: nothing compressed, nothing inline. */
static void stored_open(stored *s) {
    memset(s, 0, sizeof *s);
    kwr_error err = { 0 };
    kwr_backend *backend = NULL;
    kwr_view *view = NULL;
    kwr_snapshot_result result = { 0 };
    fixture_open(&s->f, KIND_FILE);
    make_temp_dir(s->parent, sizeof s->parent);
    snprintf(s->directory, sizeof s->directory, "%s/db", s->parent);
    const kwr_backend_options o = options_of(s);
    cr_assert_eq(kwr_backend_open(&o, &backend, &err), KWR_OK, "%s", err.text);
    fill(backend, "one", 1);
    fill(backend, "two", 2);
    cr_assert_eq(kwr_backend_freeze_files(backend, &view), KWR_OK);
    const kwr_snapshot_target t = { .struct_size = sizeof t,
                                    .env = s->f.env,
                                    .storage = s->f.storage,
                                    .job = "job",
                                    .operator_id = "count",
                                    .generation = 1,
                                    .checkpoint = 1,
                                    .sequence = 1,
                                    .compression_off = true };
    cr_assert_eq(kwr_snapshot_write(view, &t, NULL, &result, &err), KWR_OK, "%s", err.text);
    kwr_view_release(view);
    kwr_backend_close(backend);
    s->handle = result.handle;
    const kwr_slice handle = { s->handle.data, s->handle.size };
    kwr_limits limits;
    cr_assert_eq(kwr_limits_complete(NULL, &limits, &err), KWR_OK);
    cr_assert_eq(kwr_subtask_part_decode(s->f.env, &limits, handle, "handle", &s->part, &err),
                 KWR_OK);
    s->count = s->part->subtask.file_count;
    cr_assert(s->count >= 3 && s->count <= FILES_MAX, "%zu files", s->count);
    for (size_t i = 0; i < s->count; i++) {
        const kwr_manifest_file *file = &s->part->subtask.files[i];
        cr_assert_not_null(file->name);
        snprintf(s->path[i], sizeof s->path[i], "%s/job/shared/%s", s->f.root, file->name);
        s->length[i] = file->length;
        s->images[i] = file->images;
    }
}

static void stored_close(stored *s) {
    kwr_subtask_part_free(s->part);
    kwr_bytes_free(&s->handle);
    remove_tree(s->parent);
    fixture_close(&s->f);
}

/* Whether RocksDB, or a restore on its way there, has left anything. */
static bool untouched(const stored *s, char found[256]) {
    DIR *dir = opendir(s->directory);
    bool clean = true;
    found[0] = '\0';
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(found, 256, "%.200s", e->d_name);
        clean = false;
    }
    if (dir != NULL) closedir(dir);
    return clean;
}

static kwr_status restore(stored *s, kwr_error *err) {
    const kwr_backend_options o = options_of(s);
    const kwr_slice handle = { s->handle.data, s->handle.size };
    kwr_backend *backend = NULL;
    s->attempts++;
    const kwr_status status =
        kwr_snapshot_restore(&o, s->f.storage, "job", &handle, 1, &backend, err);
    cr_assert(status < KWR_OK || backend != NULL);
    kwr_backend_close(backend);
    return status;
}

static void expect_refused(stored *s, size_t file, const char *how, uint64_t at) {
    kwr_error err = { 0 };
    char found[256];
    const kwr_status status = restore(s, &err);
    cr_assert(status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING,
              "%s at %llu of file %zu: %s %s", how, (unsigned long long)at, file,
              kwr_status_name(status), err.text);
    cr_assert_not_null(strstr(err.text, strrchr(s->path[file], '/') + 1), "%s at %llu: '%s'", how,
                       (unsigned long long)at, err.text);
    cr_assert(untouched(s, found), "%s at %llu of file %zu: '%s' is in the engine's directory", how,
              (unsigned long long)at, file, found);
}

static void flip(stored *s, size_t file, uint64_t at) {
    uint8_t byte = 0;
    const int fd = open(s->path[file], O_RDWR | O_CLOEXEC);
    cr_assert(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    const uint8_t changed = byte ^ (uint8_t)(1u << (at % 8));
    cr_assert(pwrite(fd, &changed, 1, (off_t)at) == 1);
    expect_refused(s, file, "a bit", at);
    cr_assert(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

static bool take_all(void) {
    const char *text = getenv("KWR_FILES_DAMAGE");
    return text != NULL && strcmp(text, "all") == 0;
}

static void expect_whole(stored *s) {
    kwr_error err = { 0 };
    cr_assert_eq(restore(s, &err), KWR_OK, "undamaged: %s", err.text);
}

/* The file 0 is MANIFEST, CURRENT and OPTIONS; the others are a table each. */
KWR_TEST(rocksdb_files_damage, every_byte_of_manifest_current_and_options_is_held,
         .timeout = 3600) {
    stored s;
    stored_open(&s);
    expect_whole(&s);
    const uint64_t step = take_all() ? 1 : 5;
    for (uint64_t at = 0; at < s.length[0]; at += step)
        flip(&s, 0, at);
    expect_whole(&s);
    stored_close(&s);
}

KWR_TEST(rocksdb_files_damage, every_length_of_manifest_current_and_options_is_held,
         .timeout = 3600) {
    stored s;
    stored_open(&s);
    size_t size = 0;
    uint8_t *bytes = slurp(s.path[0], &size);
    const size_t step = take_all() ? 1 : 5;
    for (size_t length = 0; length < size; length += step) {
        cr_assert(truncate(s.path[0], (off_t)length) == 0);
        expect_refused(&s, 0, "a length of", length);
        spill(s.path[0], bytes, size);
    }
    for (size_t more = 1; more <= 64; more *= 2) {
        cr_assert(truncate(s.path[0], (off_t)(size + more)) == 0);
        expect_refused(&s, 0, "a length of", size + more);
        spill(s.path[0], bytes, size);
    }
    free(bytes);
    expect_whole(&s);
    stored_close(&s);
}

/* Where a table's data blocks end is where its parts are: 4 KiB and some; the long half takes every
 * byte and with them every edge. */
KWR_TEST(rocksdb_files_damage, tables_are_held_at_their_ends_edges_and_random_places,
         .timeout = 7200) {
    stored s;
    stored_open(&s);
    uint64_t seed = 42;
    for (size_t i = 1; i < s.count; i++) {
        const uint64_t index = s.length[i] - 80 - 56 * s.images[i];
        const uint64_t table_end = index; /* the record lies between table and index */
        if (take_all()) {
            for (uint64_t at = 0; at < s.length[i]; at++)
                flip(&s, i, at);
            continue;
        }
        for (uint64_t at = 0; at < 144; at += 3) /* header, prefix, the table's begin */
            flip(&s, i, at);
        for (uint64_t at = table_end - 300; at < s.length[i]; at += 5) /* its footer, record, end */
            flip(&s, i, at);
        for (uint64_t at = 144 + 4096; at + 1 < table_end; at += 4096) {
            flip(&s, i, at - 1);
            flip(&s, i, at);
        }
        for (int n = 0; n < 1000 / (int)(s.count - 1); n++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            flip(&s, i, (seed >> 20) % s.length[i]);
        }
    }
    expect_whole(&s);
    stored_close(&s);
}

KWR_TEST(rocksdb_files_damage, a_file_that_is_missing_or_anothers_is_found) {
    stored s;
    stored_open(&s);
    size_t sizes[2] = { 0 };
    uint8_t *first = slurp(s.path[1], &sizes[0]), *second = slurp(s.path[2], &sizes[1]);
    for (size_t i = 0; i < s.count; i++) {
        char away[700];
        snprintf(away, sizeof away, "%s.away", s.path[i]);
        cr_assert(rename(s.path[i], away) == 0);
        expect_refused(&s, i, "absence", 0);
        cr_assert(rename(away, s.path[i]) == 0);
    }
    spill(s.path[1], second, sizes[1]);
    expect_refused(&s, 1, "another table", 0);
    spill(s.path[1], first, sizes[0]);
    free(first);
    free(second);
    expect_whole(&s);
    stored_close(&s);
}
