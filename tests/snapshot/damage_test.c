/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage: whatever single byte of a checkpoint or its slot changes, and wherever a file is cut off,
 * verifying finds it and restoring stops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/mini_job.h"

typedef struct found_list {
    uint64_t count;
    char file[512];
    uint64_t offset;
    char text[1024];
} found_list;

static void note_finding(void *ctx, const kwr_finding *finding) {
    found_list *list = ctx;
    if (list->count++ > 0) return;
    snprintf(list->file, sizeof list->file, "%s", finding->file);
    snprintf(list->text, sizeof list->text, "%s", finding->text);
    list->offset = finding->offset;
}

/* What `keyweir verify` does: log, manifest, everything below. KWR_OK: no damage. */
static kwr_status verify(const fixture *f, found_list *list, kwr_error *err) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_manifest *manifest = NULL;
    kwr_verify_result result = { 0 };
    *list = (found_list){ 0 };
    kwr_status status = kwr_job_dirs_open(f->env, f->storage, "job", false, &dirs, err);
    if (status >= KWR_OK) status = kwr_log_read(&dirs, NULL, &log, err);
    const kwr_slot *newest = status < KWR_OK ? NULL : kwr_log_newest(&log, NULL);
    if (status >= KWR_OK && newest == NULL) status = KWR_ERR_MISSING;
    if (status >= KWR_OK) status = kwr_checkpoint_open(&dirs, NULL, newest, &manifest, err);
    if (status >= KWR_OK)
        status = kwr_checkpoint_verify(&dirs, NULL, manifest, note_finding, list, &result, err);
    cr_assert(result.findings == list->count);
    kwr_manifest_free(manifest);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    if (status >= KWR_OK && result.findings > 0) status = KWR_ERR_CORRUPT;
    return status;
}

static void expect_found(const fixture *f, const char *file, const char *how, size_t at) {
    found_list list;
    kwr_error err = { 0 };
    kwr_backend *backend = NULL;
    uint64_t round = 0;
    kwr_status status = verify(f, &list, &err);
    cr_assert(status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING,
              "verify: %s at %zu of %s: %s %s", how, at, file, kwr_status_name(status), err.text);
    const char *base = strrchr(file, '/') + 1;
    cr_assert(strstr(list.count > 0 ? list.file : err.text, base) != NULL,
              "verify: %s at %zu of %s is told as '%s' '%s'", how, at, file, list.file, err.text);
    status = mini_restore(f->env, f->storage, &backend, &round, &err);
    cr_assert(status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING,
              "restore: %s at %zu of %s: %s %s", how, at, file, kwr_status_name(status), err.text);
    cr_assert(strstr(err.text, base) != NULL, "restore: %s: %s", file, err.text);
    cr_assert(backend == NULL);
}

/* Every byte flipped, every truncation, some extensions of one file. */
static void damage_file(const fixture *f, const char *file, size_t step) {
    char path[512];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", f->root, file);
    uint8_t *bytes = slurp(path, &size);
    for (size_t i = 0; i < size; i += step) {
        const uint8_t masks[] = { (uint8_t)(1U << i % 8), 0xff };
        for (size_t j = 0; j < sizeof masks; j++) {
            bytes[i] ^= masks[j];
            spill(path, bytes, size);
            bytes[i] ^= masks[j];
            expect_found(f, file, "flip", i);
        }
    }
    for (size_t cut = 0; cut < size; cut += step) {
        spill(path, bytes, cut);
        expect_found(f, file, "cut", cut);
    }
    uint8_t *longer = calloc(1, size + 100);
    memcpy(longer, bytes, size);
    const size_t more[] = { 1, 80, 100 };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        spill(path, longer, size + more[i]);
        expect_found(f, file, "extension", size + more[i]);
    }
    free(longer);
    remove(path);
    if (strstr(file, "/log/") == NULL) expect_found(f, file, "removal", 0);
    spill(path, bytes, size);
    free(bytes);
}

static void damage_all(size_t inline_bytes, uint32_t count, size_t step) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    found_list list;
    mini_job job = { .inline_bytes = inline_bytes };
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, count, 1, &err), err);
    mini_stop(&job);
    KWR_MUST_ERR(verify(&f, &list, &err), err);
    damage_file(&f, "job/log/0000000000000001", step);
    damage_file(&f, "job/log/0000000000000002", step);
    damage_file(&f, "job/chk-1-1/manifest.json", step);
    damage_file(&f, inline_bytes > 0 ? "job/chk-1-1/inline" : "job/shared/1-count-0-0.kwp", step);
    KWR_MUST_ERR(verify(&f, &list, &err), err);
    mini_expect_restores(f.env, f.storage, count, 1);
    fixture_close(&f);
}

KWR_TEST(damage, every_byte_of_a_checkpoint_in_files_counts, .timeout = 500) {
    damage_all(0, 3, 1);
}
KWR_TEST(damage, every_byte_of_an_inline_checkpoint_counts, .timeout = 500) {
    damage_all(1 << 20, 3, 1);
}
KWR_TEST(damage, large_records_and_many_pages_are_covered_too, .timeout = 500) {
    damage_all(0, 200, 193);
    damage_all(1 << 20, 200, 193);
}

KWR_TEST(damage, is_told_with_what_the_place_holds) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    found_list list;
    mini_job job = { 0 };
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, 50, 1, &err), err);
    mini_stop(&job);
    char path[512];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/job/shared/1-count-0-0.kwp", f.root);
    uint8_t *bytes = slurp(path, &size);
    bytes[200] ^= 1; /* in the first image, which begins behind the header */
    spill(path, bytes, size);
    KWR_EXPECT(KWR_ERR_CORRUPT, verify(&f, &list, &err));
    cr_assert_str_eq(list.file, "shared/1-count-0-0.kwp");
    cr_assert(list.count == 1 && list.offset == 128, "%llu", (unsigned long long)list.offset);
    const char *const words[] = { "offset 128", "operator count", "subtask 0", "state '",
                                  "key group" };
    kwr_backend *backend = NULL;
    uint64_t round = 0;
    KWR_EXPECT(KWR_ERR_CORRUPT, mini_restore(f.env, f.storage, &backend, &round, &err));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        cr_assert(strstr(list.text, words[i]) != NULL, "verify: no '%s' in: %s", words[i],
                  list.text);
        cr_assert(strstr(err.text, words[i]) != NULL, "restore: no '%s' in: %s", words[i],
                  err.text);
    }
    /* Two damaged places are two findings. */
    bytes[size - 1] ^= 1;
    spill(path, bytes, size);
    KWR_EXPECT(KWR_ERR_CORRUPT, verify(&f, &list, &err));
    cr_assert(list.count == 2);
    free(bytes);
    fixture_close(&f);
}

/* Counts what a walk over a checkpoint meets. */
typedef struct walk_count {
    uint64_t entries;
    uint64_t numbers;
    int64_t sum;
    uint64_t stop_at;
} walk_count;

static kwr_status count_entry(void *ctx, const kwr_manifest_operator *op,
                              const kwr_manifest_subtask *subtask, const kwr_state_info *state,
                              const kwr_entry *entry) {
    walk_count *count = ctx;
    cr_assert_str_eq(op->id, "count");
    cr_assert(subtask->index == 0 && entry->name.size == 0);
    char key[32];
    snprintf(key, sizeof key, "%.*s", (int)entry->key.size, (const char *)entry->key.data);
    cr_assert(entry->key_group == mini_group((uint32_t)strtoul(key + 4, NULL, 10)), "%s", key);
    if (strcmp(state->name, "number") == 0) {
        int64_t value = 0;
        memcpy(&value, entry->value.data, sizeof value);
        count->numbers++;
        count->sum += value;
    }
    return ++count->entries == count->stop_at ? KWR_ERR_CANCELLED : KWR_OK;
}

KWR_TEST(checkpoint, is_walked_without_an_engine) {
    for (int in_file = 0; in_file < 2; in_file++) {
        fixture f;
        fixture_open(&f, KIND_MEMORY);
        kwr_error err = { 0 };
        mini_job job = { .inline_bytes = in_file ? 0 : 1 << 20 };
        KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
        KWR_MUST_ERR(mini_checkpoint(&job, 100, 2, &err), err);
        const kwr_slot *newest = kwr_log_newest(&job.log, NULL);
        kwr_manifest *manifest = NULL;
        KWR_MUST_ERR(kwr_checkpoint_open(&job.dirs, NULL, newest, &manifest, &err), err);
        walk_count count = { 0 };
        KWR_MUST_ERR(kwr_checkpoint_walk(&job.dirs, NULL, manifest, "count", NULL, count_entry,
                                         &count, &err),
                     err);
        cr_assert(count.entries == 200 && count.numbers == 100);
        cr_assert(count.sum == 4950 * 1000 + 200);
        count = (walk_count){ .stop_at = 7 };
        KWR_EXPECT(KWR_ERR_CANCELLED, kwr_checkpoint_walk(&job.dirs, NULL, manifest, NULL, NULL,
                                                          count_entry, &count, &err));
        cr_assert(count.entries == 7);
        KWR_EXPECT_ERR(
            KWR_ERR_RANGE,
            kwr_checkpoint_walk(&job.dirs, NULL, manifest, "none", NULL, count_entry, &count, &err),
            err);
        kwr_manifest_free(manifest);
        /* Without the slot as well, and removed with all that is in it. */
        KWR_MUST_ERR(kwr_checkpoint_open_dir(&job.dirs, NULL, 2, 1, &manifest, &err), err);
        kwr_manifest_free(manifest);
        KWR_MUST_ERR(kwr_checkpoint_remove(&job.dirs, 2, 1, &err), err);
        KWR_MUST_ERR(kwr_checkpoint_remove(&job.dirs, 2, 1, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISSING,
                       kwr_checkpoint_open_dir(&job.dirs, NULL, 2, 1, &manifest, &err), err);
        mini_stop(&job);
        fixture_close(&f);
    }
}
