/* SPDX-License-Identifier: Apache-2.0 */
/* Restores that answer before everything is loaded. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keyweir/state.h"
#include "snapshot/manifest.h"
#include "tests/snapshot/mini_job.h"

enum { KEYS = 20000, GROUPS = 16 };

static const uint8_t UID[16] = { 9, 8, 7 };
static const kwr_key_group_range ALL = { 0, 0 };

/* A subtask whose keys have values of the round they were written in; 0: none. */
typedef struct line {
    kwr_storage *storage;
    const kwr_env *env;
    kwr_backend *backend;
    kwr_lineage *lineage;
    kwr_value *value;
    kwr_key_group_range range;
    uint32_t rounds[KEYS];
    uint64_t checkpoint;
    size_t inline_bytes;
    kwr_snapshot_result result;
} line;

static kwr_slice key_of(uint32_t number, char out[32]) {
    return (kwr_slice){ out, (size_t)snprintf(out, 32, "key-%u", number) };
}

/* A few are too large for a page. */
static size_t value_of(uint32_t number, uint32_t round, uint8_t *out) {
    uint32_t x = number * 2654435761U + round * 97;
    const size_t size = number % 1000 == 7 ? 6000 : 20 + number % 40;
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)((x = x * 1664525U + 1013904223U) >> 24);
    return size;
}

static void open_state(line *l) {
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "state" };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_value_open(l->backend, &d, &l->value, &err), err);
}

static line *line_new(const fixture *f) {
    line *l = calloc(1, sizeof *l);
    kwr_error err = { 0 };
    l->storage = f->storage;
    l->env = f->env;
    const kwr_backend_options options = mini_options(f->env, ALL);
    KWR_MUST_ERR(kwr_backend_open(&options, &l->backend, &err), err);
    KWR_MUST_ERR(kwr_lineage_new(f->env, UID, "count", &l->lineage, &err), err);
    open_state(l);
    return l;
}

static void line_free(line *l) {
    kwr_bytes_free(&l->result.handle);
    kwr_lineage_free(l->lineage);
    kwr_backend_close(l->backend);
    free(l);
}

static kwr_status put(line *l, uint32_t number, uint32_t round) {
    char key[32];
    uint8_t bytes[8192];
    KWR_MUST(kwr_backend_set_key(l->backend, key_of(number, key)));
    const kwr_slice value = { bytes, value_of(number, round, bytes) };
    const kwr_status status = kwr_value_put(l->value, value);
    if (status == KWR_OK) l->rounds[number] = round;
    return status;
}

static void fill(line *l, uint32_t count, uint32_t round) {
    for (uint32_t i = 0; i < count; i++)
        KWR_MUST(put(l, i, round));
}

/* Reads one key; when it is there it is right. */
static kwr_status look(line *l, uint32_t number) {
    char key[32];
    uint8_t bytes[8192];
    kwr_slice got = { 0 };
    KWR_MUST(kwr_backend_set_key(l->backend, key_of(number, key)));
    const kwr_status status = kwr_value_get(l->value, &got);
    if (status < KWR_OK) return status;
    cr_assert((status == KWR_OK) == (l->rounds[number] != 0), "key %u", number);
    if (status != KWR_OK) return KWR_OK;
    const size_t size = value_of(number, l->rounds[number], bytes);
    cr_assert(got.size == size && memcmp(got.data, bytes, size) == 0, "key %u", number);
    return KWR_OK;
}

static void look_at_all(line *l) {
    uint64_t present = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        KWR_MUST(look(l, i));
        present += l->rounds[i] != 0;
    }
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(l->backend, &stats);
    cr_assert_eq(stats.entries, present);
}

static kwr_status write_view(line *l, kwr_view *view, kwr_snapshot_form form,
                             kwr_snapshot_result *out, kwr_error *err) {
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = l->env,
                                   .storage = l->storage,
                                   .job = "job",
                                   .operator_id = "count",
                                   .generation = 1,
                                   .checkpoint = ++l->checkpoint,
                                   .sequence = l->checkpoint * 10,
                                   .inline_bytes = l->inline_bytes,
                                   .threads = 1,
                                   .form = form,
                                   .lineage = l->lineage };
    memcpy(target.job_uid, UID, sizeof UID);
    return kwr_snapshot_write(view, &target, NULL, out, err);
}

static kwr_status try_complete(line *l, kwr_error *err) {
    kwr_view *view = NULL;
    kwr_snapshot_result result = { 0 };
    KWR_MUST(kwr_backend_freeze(l->backend, &view));
    const kwr_status status = write_view(l, view, KWR_SNAPSHOT_NATIVE, &result, err);
    kwr_view_release(view);
    if (status < KWR_OK) {
        kwr_lineage_abort(l->lineage, l->checkpoint);
        return status;
    }
    kwr_lineage_confirm(l->lineage, l->checkpoint);
    kwr_bytes_free(&l->result.handle);
    l->result = result;
    return KWR_OK;
}

static void complete(line *l) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(try_complete(l, &err), err);
}

static kwr_status restore(const line *l, kwr_loading loading, uint32_t share, kwr_lineage *lineage,
                          kwr_backend **out, kwr_error *err) {
    kwr_backend_options options = mini_options(l->env, l->range);
    options.loading = loading;
    options.load_share = share;
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    return kwr_snapshot_resume(&options, l->storage, "job", &handle, 1, lineage, out, err);
}

/* The line goes on with what its latest checkpoint holds, lazily restored. */
static void restart(line *l, uint32_t share) {
    kwr_error err = { 0 };
    kwr_backend_close(l->backend);
    kwr_lineage_free(l->lineage);
    KWR_MUST_ERR(kwr_lineage_new(l->env, UID, "count", &l->lineage, &err), err);
    KWR_MUST_ERR(restore(l, KWR_LOADING_LAZY, share, l->lineage, &l->backend, &err), err);
    open_state(l);
}

static kwr_backend_stats stats_of(const line *l) {
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(l->backend, &stats);
    return stats;
}

/* What the latest checkpoint holds, restored at once. */
static void expect_checkpoint(line *l) {
    kwr_error err = { 0 };
    line *as = calloc(1, sizeof *as);
    memcpy(as->rounds, l->rounds, sizeof as->rounds);
    KWR_MUST_ERR(restore(l, KWR_LOADING_EAGER, 0, NULL, &as->backend, &err), err);
    open_state(as);
    look_at_all(as);
    line_free(as);
}

KWR_TEST(lazy, the_first_read_needs_one_page) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, KWR_LOAD_SHARE_NONE);
    const kwr_backend_stats before = stats_of(l);
    cr_assert(before.entries == KEYS && before.load_pages_left > 50 &&
              before.load_bytes_left == before.load_bytes && before.load_bytes > 100000);
    KWR_MUST(look(l, 11));
    cr_assert_eq(stats_of(l).load_pages_left, before.load_pages_left - 1);
    cr_assert_lt(stats_of(l).load_bytes_left, before.load_bytes_left);
    KWR_MUST(look(l, 11));
    cr_assert_eq(stats_of(l).load_pages_left, before.load_pages_left - 1);
    /* Nothing loads the rest by itself. */
    (void)kwr_backend_maintain(l->backend, UINT64_MAX);
    cr_assert_eq(stats_of(l).load_pages_left, before.load_pages_left - 1);
    cr_assert_eq(stats_of(l).load_left_ns, UINT64_MAX);
    look_at_all(l);
    cr_assert_eq(stats_of(l).load_pages_left, 0);
    line_free(l);
    fixture_close(&f);
}

static void rest_for_a_moment(void) {
    const struct timespec pause = { .tv_nsec = 1000000 };
    nanosleep(&pause, NULL);
}

KWR_TEST(lazy, the_rest_is_loaded_in_the_background) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, 50);
    kwr_backend_stats s = stats_of(l);
    uint64_t left = s.load_bytes_left;
    while (s.load_pages_left > 0) {
        (void)kwr_backend_maintain(l->backend, 1000000);
        s = stats_of(l);
        cr_assert(s.load_bytes_left <= left);
        left = s.load_bytes_left;
        rest_for_a_moment();
    }
    (void)kwr_backend_maintain(l->backend, 0);
    cr_assert_eq(stats_of(l).load_bytes, 0);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, everything_can_be_loaded_at_once) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, 10);
    KWR_MUST(kwr_backend_load(l->backend));
    cr_assert_eq(stats_of(l).load_pages_left, 0);
    look_at_all(l);
    KWR_MUST(kwr_backend_load(l->backend));
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, a_checkpoint_refers_to_what_is_not_loaded) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    const uint64_t whole = l->result.bytes_written;
    restart(l, KWR_LOAD_SHARE_NONE);
    const uint64_t left = stats_of(l).load_pages_left;
    complete(l);
    cr_assert(l->result.bytes_written == 0 && l->result.entries == KEYS);
    KWR_MUST(put(l, 5, 2));
    KWR_MUST(look(l, 600));
    complete(l);
    cr_assert(l->result.bytes_written > 0 && l->result.bytes_written < whole / 10);
    cr_assert(stats_of(l).load_pages_left >= left - 2);
    expect_checkpoint(l);
    /* And again from there. */
    restart(l, KWR_LOAD_SHARE_NONE);
    KWR_MUST(put(l, 6, 3));
    complete(l);
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* As retention does: what the latest checkpoint does not refer to goes. */
static void remove_unused(const fixture *f, const line *l) {
    kwr_subtask_part *part = NULL;
    kwr_error err = { 0 };
    char path[1024];
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(l->env, NULL, handle, "handle", &part, &err), err);
    snprintf(path, sizeof path, "%s/job/shared", f->root);
    DIR *dir = opendir(path);
    cr_assert(dir != NULL);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        bool used = e->d_name[0] == '.';
        for (size_t i = 0; i < part->subtask.file_count; i++)
            used = used || (part->subtask.files[i].name != NULL &&
                            strcmp(part->subtask.files[i].name, e->d_name) == 0);
        snprintf(path, sizeof path, "%s/job/shared/%s", f->root, e->d_name);
        if (!used) cr_assert_eq(remove(path), 0);
    }
    closedir(dir);
    kwr_subtask_part_free(part);
}

/* The restored checkpoint is not the newest any more, and its files stay as long as they are read:
 * also those that would be given up for holding little. */
KWR_TEST(lazy, the_restored_checkpoint_may_be_subsumed_meanwhile) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    for (uint32_t round = 1; round <= 12; round++) {
        /* Key groups as a whole: so there are no deltas. */
        for (uint32_t i = 0; i < KEYS; i++)
            if (mini_group(i) + 1 >= round) KWR_MUST(put(l, i, round));
        complete(l);
    }
    restart(l, KWR_LOAD_SHARE_NONE);
    for (uint32_t round = 20; round < 26; round++) {
        for (uint32_t i = 0; i < 300; i++)
            KWR_MUST(put(l, i * 61 % KEYS, round));
        complete(l);
        remove_unused(&f, l);
    }
    cr_assert_gt(stats_of(l).load_pages_left, 0);
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* Files of several checkpoints without deltas: what changes after the restore is newer than all. */
KWR_TEST(lazy, what_changes_is_newer_than_everything_restored) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    for (uint32_t i = 0; i < KEYS; i++)
        if (mini_group(i) >= 8) KWR_MUST(put(l, i, 2));
    complete(l);
    cr_assert_eq(l->result.files_used, 2);
    restart(l, KWR_LOAD_SHARE_NONE);
    cr_assert_gt(stats_of(l).load_pages_left, 0);
    for (uint32_t i = 0; i < KEYS; i += 500)
        KWR_MUST(put(l, i, 3));
    complete(l);
    expect_checkpoint(l);
    for (uint32_t i = 0; i < KEYS; i += 700)
        KWR_MUST(put(l, i, 4));
    complete(l);
    expect_checkpoint(l);
    line_free(l);
    fixture_close(&f);
}

/* Nobody knows any more what the newest completed checkpoint keeps: what is still read is referred
 * to all the same. */
KWR_TEST(lazy, a_lineage_that_lost_its_base_keeps_what_is_still_read) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, KWR_LOAD_SHARE_NONE);
    KWR_MUST(put(l, 5, 2));
    kwr_lineage_confirm(l->lineage, l->checkpoint + 100);
    l->checkpoint += 100;
    complete(l);
    remove_unused(&f, l);
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

static void shared_path(const fixture *f, const line *l, size_t index, char out[600]) {
    kwr_subtask_part *part = NULL;
    kwr_error err = { 0 };
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(l->env, NULL, handle, "handle", &part, &err), err);
    snprintf(out, 600, "%s/job/shared/%s", f->root, part->subtask.files[index].name);
    kwr_subtask_part_free(part);
}

/* Damage is met where it is read, as often as it is, and nowhere else; the rest goes on, but no
 * checkpoint completes on top of it. */
KWR_TEST(lazy, damage_fails_the_accesses_that_need_it_and_every_later_checkpoint) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, KWR_LOAD_SHARE_NONE);
    char path[600];
    size_t size = 0;
    shared_path(&f, l, 0, path);
    uint8_t *bytes = slurp(path, &size);
    bytes[size / 2] ^= 1;
    spill(path, bytes, size);
    uint32_t bad = 0, some_bad = 0, good = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        const kwr_status status = look(l, i);
        good += status == KWR_OK;
        if (status == KWR_OK) continue;
        const char *text = kwr_backend_error(l->backend)->text;
        cr_assert(status == KWR_ERR_CORRUPT && strstr(text, strrchr(path, '/') + 1) != NULL &&
                      strstr(text, "offset") != NULL,
                  "%s", text);
        cr_assert_eq(put(l, i, 2), KWR_ERR_CORRUPT);
        some_bad = i;
        bad++;
    }
    cr_assert(bad > 10 && bad < 1000 && good == KEYS - bad, "%u bad", bad);
    cr_assert(stats_of(l).load_pages_left == 1 && stats_of(l).entries == KEYS);
    kwr_error err = { 0 };
    cr_assert_eq(kwr_backend_load(l->backend), KWR_ERR_CORRUPT);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(try_complete(l, &err), KWR_ERR_CORRUPT);
        cr_assert(strstr(err.text, "offset") != NULL, "%s", err.text);
    }
    /* Repaired, it is as if nothing had been. */
    bytes[size / 2] ^= 1;
    spill(path, bytes, size);
    complete(l);
    KWR_MUST(put(l, some_bad, 3));
    look_at_all(l);
    complete(l);
    expect_checkpoint(l);
    free(bytes);
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, a_damaged_index_or_a_missing_file_is_found_at_once) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    char path[600];
    size_t size = 0;
    kwr_backend *none = NULL;
    kwr_error err = { 0 };
    shared_path(&f, l, 0, path);
    uint8_t *bytes = slurp(path, &size);
    bytes[size - 200] ^= 1;
    spill(path, bytes, size);
    cr_assert_eq(restore(l, KWR_LOADING_LAZY, 0, NULL, &none, &err), KWR_ERR_CORRUPT);
    bytes[size - 200] ^= 1;
    spill(path, bytes, size - 1);
    cr_assert_eq(restore(l, KWR_LOADING_LAZY, 0, NULL, &none, &err), KWR_ERR_CORRUPT);
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(restore(l, KWR_LOADING_LAZY, 0, NULL, &none, &err), KWR_ERR_MISSING);
    free(bytes);
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, an_access_that_would_wait_can_be_refused_and_starts_the_load) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, KWR_LOAD_SHARE_NONE);
    kwr_backend_set_no_wait(l->backend, true);
    const uint64_t left = stats_of(l).load_pages_left;
    cr_assert_eq(look(l, 3), KWR_ERR_NOT_RESIDENT);
    for (kwr_status status; (status = look(l, 3)) != KWR_OK;) {
        cr_assert_eq(status, KWR_ERR_NOT_RESIDENT);
        (void)kwr_backend_maintain(l->backend, 1000000);
        rest_for_a_moment();
    }
    cr_assert_eq(stats_of(l).load_pages_left, left - 1);
    /* The loads of a batch's keys are started together. */
    enum { BATCH = 64 };
    char texts[BATCH][32];
    kwr_slice keys[BATCH];
    kwr_key_batch *batch = NULL;
    kwr_state *states[] = { kwr_value_state(l->value) };
    KWR_MUST(kwr_key_batch_new(l->backend, BATCH, &batch));
    for (uint32_t i = 0; i < BATCH; i++)
        keys[i] = key_of(i * 17, texts[i]);
    KWR_MUST(kwr_key_batch_load(batch, keys, NULL, BATCH));
    kwr_key_batch_prefetch(batch, states, 1);
    for (size_t i = 0; i < BATCH; i++) {
        kwr_slice got = { 0 };
        kwr_status status;
        do {
            KWR_MUST(kwr_key_batch_select(batch, i));
            status = kwr_value_get(l->value, &got);
            (void)kwr_backend_maintain(l->backend, 1000000);
            if (status != KWR_OK) rest_for_a_moment();
        } while (status == KWR_ERR_NOT_RESIDENT);
        KWR_MUST(status);
    }
    /* A load that fails is told, not repeated without end. */
    char path[600];
    shared_path(&f, l, 0, path);
    char aside[620];
    snprintf(aside, sizeof aside, "%s.aside", path);
    size_t size = 0;
    uint8_t *bytes = slurp(path, &size);
    memset(bytes + 200, 0x55, size - 200);
    uint8_t *whole = slurp(path, &size);
    spill(path, bytes, size);
    uint32_t absent = 0;
    while (look(l, absent) == KWR_OK)
        absent++;
    kwr_status status;
    while ((status = look(l, absent)) == KWR_ERR_NOT_RESIDENT) {
        (void)kwr_backend_maintain(l->backend, 1000000);
        rest_for_a_moment();
    }
    cr_assert_eq(status, KWR_ERR_CORRUPT);
    spill(path, whole, size);
    kwr_backend_set_no_wait(l->backend, false);
    look_at_all(l);
    free(bytes);
    free(whole);
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, a_batch_loads_the_pages_of_its_keys_together) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, KWR_LOAD_SHARE_NONE);
    const uint64_t left = stats_of(l).load_pages_left;
    char texts[8][32];
    kwr_slice keys[8];
    kwr_key_batch *batch = NULL;
    kwr_state *states[] = { kwr_value_state(l->value) };
    KWR_MUST(kwr_key_batch_new(l->backend, 8, &batch));
    for (uint32_t i = 0; i < 8; i++)
        keys[i] = key_of(i, texts[i]);
    KWR_MUST(kwr_key_batch_load(batch, keys, NULL, 8));
    kwr_key_batch_prefetch(batch, states, 1);
    const uint64_t then = stats_of(l).load_pages_left;
    cr_assert(then < left - 1 && then >= left - 8);
    for (size_t i = 0; i < 8; i++) {
        kwr_slice got = { 0 };
        KWR_MUST(kwr_key_batch_select(batch, i));
        KWR_MUST(kwr_value_get(l->value, &got));
    }
    cr_assert_eq(stats_of(l).load_pages_left, then);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* A view reads what it needs by itself, also when its backend is gone. */
KWR_TEST(lazy, a_view_of_what_is_not_loaded_outlives_its_backend) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_new(&f);
    fill(l, KEYS, 1);
    complete(l);
    restart(l, 20);
    KWR_MUST(put(l, 9, 2));
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    KWR_MUST(kwr_backend_freeze(l->backend, &view));
    KWR_MUST(put(l, 10, 9)); /* not in the view */
    l->rounds[10] = 1;
    kwr_backend_close(l->backend);
    l->backend = NULL;
    kwr_snapshot_result result = { 0 };
    KWR_MUST_ERR(write_view(l, view, KWR_SNAPSHOT_CANONICAL, &result, &err), err);
    kwr_view_release(view);
    kwr_bytes_free(&l->result.handle);
    l->result = result;
    expect_checkpoint(l);
    /* Canonical snapshots are restored at once. */
    KWR_MUST_ERR(restore(l, KWR_LOADING_LAZY, 0, NULL, &l->backend, &err), err);
    cr_assert_eq(stats_of(l).load_pages_left, 0);
    open_state(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* What is inline goes with its handle: it is kept in memory. */
KWR_TEST(lazy, state_in_the_handle_is_restored_lazily_too) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    line *l = line_new(&f);
    l->inline_bytes = 1 << 20;
    fill(l, 2000, 1);
    complete(l);
    cr_assert_eq(l->result.files_used, 1);
    restart(l, KWR_LOAD_SHARE_NONE);
    memset((void *)l->result.handle.data, 0, l->result.handle.size);
    cr_assert_gt(stats_of(l).load_pages_left, 0);
    complete(l);
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* ---- with deltas ---- */

/* Some change, some come, some go: as little as deltas are made for. */
static void change_some(line *l, uint32_t round) {
    char key[32];
    for (uint32_t i = 0; i < 120; i++)
        KWR_MUST(put(l, (i * 163 + round * 7919) % KEYS, round));
    for (uint32_t i = 0; i < 20; i++) {
        const uint32_t number = (i * 997 + round * 131) % KEYS;
        KWR_MUST(kwr_backend_set_key(l->backend, key_of(number, key)));
        KWR_MUST(kwr_value_clear(l->value));
        l->rounds[number] = 0;
    }
}

/* A full checkpoint without the last keys, then one with deltas for each round. */
static line *line_with_deltas(const fixture *f, uint32_t rounds) {
    line *l = line_new(f);
    fill(l, KEYS - 3000, 1);
    complete(l);
    for (uint32_t round = 2; round < 2 + rounds; round++) {
        change_some(l, round);
        complete(l);
    }
    return l;
}

KWR_TEST(lazy, pages_are_put_together_with_their_deltas_when_they_are_needed) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_with_deltas(&f, 6);
    cr_assert_geq(l->result.files_used, 4);
    restart(l, KWR_LOAD_SHARE_NONE);
    const kwr_backend_stats before = stats_of(l);
    cr_assert(before.load_pages_left > 50 && before.estimated);
    KWR_MUST(look(l, 11));
    cr_assert_eq(stats_of(l).load_pages_left, before.load_pages_left - 1);
    /* Nothing changed: nothing is written, and the checkpoint says what it does not know. */
    complete(l);
    cr_assert_eq(l->result.bytes_written, 0);
    kwr_subtask_part *part = NULL;
    kwr_error err = { 0 };
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(l->env, NULL, handle, "handle", &part, &err), err);
    cr_assert(part->subtask.states[0].estimated);
    kwr_subtask_part_free(part);
    expect_checkpoint(l);
    look_at_all(l);
    cr_assert(stats_of(l).load_pages_left == 0 && !stats_of(l).estimated);
    change_some(l, 50);
    complete(l);
    expect_checkpoint(l);
    line_free(l);
    fixture_close(&f);
}

/* Deltas stay as long as pages that need them are not loaded, whatever is written meanwhile and
 * however often; afterwards they are folded again. */
KWR_TEST(lazy, deltas_stay_until_all_is_loaded, .timeout = 300) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_with_deltas(&f, 11);
    restart(l, KWR_LOAD_SHARE_NONE);
    uint64_t most = 0;
    for (uint32_t round = 20; round < 75; round++) {
        for (uint32_t i = 0; i < 40; i++)
            KWR_MUST(put(l, i * 7 % 50, round));
        complete(l);
        remove_unused(&f, l);
        if (most < l->result.files_used) most = l->result.files_used;
        if (round % 9 == 0) expect_checkpoint(l);
    }
    cr_assert(stats_of(l).load_pages_left > 50 && most > 20 && most < 60, "%llu files",
              (unsigned long long)most);
    expect_checkpoint(l);
    look_at_all(l);
    for (uint32_t round = 80; round < 83; round++) {
        change_some(l, round);
        complete(l);
        remove_unused(&f, l);
    }
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

/* What came inline cannot be referred to: its pages are written again, whoever has loaded them. */
KWR_TEST(lazy, deltas_in_the_handle_are_written_again) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_with_deltas(&f, 3);
    l->inline_bytes = 1 << 20;
    change_some(l, 9);
    complete(l);
    l->inline_bytes = 0;
    restart(l, KWR_LOAD_SHARE_NONE);
    memset((void *)l->result.handle.data, 0, l->result.handle.size);
    const uint64_t left = stats_of(l).load_pages_left;
    kwr_view *view = NULL;
    kwr_snapshot_result lost = { 0 };
    kwr_error err = { 0 };
    KWR_MUST(kwr_backend_freeze(l->backend, &view));
    KWR_MUST_ERR(write_view(l, view, KWR_SNAPSHOT_NATIVE, &lost, &err), err);
    kwr_view_release(view);
    kwr_lineage_abort(l->lineage, l->checkpoint);
    kwr_bytes_free(&lost.handle);
    complete(l);
    cr_assert_gt(l->result.bytes_written, 0);
    remove_unused(&f, l);
    expect_checkpoint(l);
    complete(l);
    cr_assert_eq(l->result.bytes_written, 0);
    cr_assert_eq(stats_of(l).load_pages_left, left);
    expect_checkpoint(l);
    look_at_all(l);
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, damaged_deltas_fail_what_needs_them_and_every_later_checkpoint) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_with_deltas(&f, 1);
    kwr_subtask_part *part = NULL;
    kwr_error err = { 0 };
    const kwr_slice handle = { l->result.handle.data, l->result.handle.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(l->env, NULL, handle, "handle", &part, &err), err);
    size_t smallest = 0, size = 0;
    for (size_t i = 1; i < part->subtask.file_count; i++)
        if (part->subtask.files[i].length < part->subtask.files[smallest].length) smallest = i;
    kwr_subtask_part_free(part);
    char path[600];
    shared_path(&f, l, smallest, path);
    restart(l, KWR_LOAD_SHARE_NONE);
    uint8_t *bytes = slurp(path, &size);
    bytes[300] ^= 1;
    spill(path, bytes, size);
    uint32_t bad = 0, good = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        const kwr_status status = look(l, i);
        good += status == KWR_OK;
        if (status == KWR_OK) continue;
        const char *text = kwr_backend_error(l->backend)->text;
        cr_assert(status == KWR_ERR_CORRUPT && strstr(text, strrchr(path, '/') + 1) != NULL, "%s",
                  text);
        bad++;
    }
    cr_assert(bad > 100 && good > 100, "%u bad, %u good", bad, good);
    cr_assert_eq(try_complete(l, &err), KWR_ERR_CORRUPT);
    cr_assert(strstr(err.text, strrchr(path, '/') + 1) != NULL, "%s", err.text);
    bytes[300] ^= 1;
    spill(path, bytes, size);
    complete(l);
    look_at_all(l);
    expect_checkpoint(l);
    free(bytes);
    line_free(l);
    fixture_close(&f);
}

/* A view reads deltas by itself, and what it sees does not depend on what is loaded. */
KWR_TEST(lazy, a_view_meets_deltas_of_what_is_not_loaded) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    line *l = line_with_deltas(&f, 5);
    restart(l, 20);
    kwr_view *view = NULL;
    kwr_error err = { 0 };
    KWR_MUST(put(l, 9, 40));
    KWR_MUST(kwr_backend_freeze(l->backend, &view));
    const uint32_t before = l->rounds[10];
    KWR_MUST(put(l, 10, 41)); /* not in the view */
    l->rounds[10] = before;
    kwr_backend_close(l->backend);
    l->backend = NULL;
    kwr_snapshot_result result = { 0 };
    kwr_lineage *own = l->lineage;
    l->lineage = NULL; /* not an increment: every page is written */
    KWR_MUST_ERR(write_view(l, view, KWR_SNAPSHOT_NATIVE, &result, &err), err);
    kwr_bytes_free(&l->result.handle);
    l->result = result;
    expect_checkpoint(l);
    KWR_MUST_ERR(write_view(l, view, KWR_SNAPSHOT_CANONICAL, &result, &err), err);
    kwr_bytes_free(&l->result.handle);
    l->result = result;
    expect_checkpoint(l);
    kwr_view_release(view);
    l->lineage = own;
    line_free(l);
    fixture_close(&f);
}

KWR_TEST(lazy, options_out_of_range_are_refused) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    line *l = line_new(&f);
    fill(l, 10, 1);
    complete(l);
    kwr_backend *none = NULL;
    kwr_error err = { 0 };
    cr_assert_eq(restore(l, KWR_LOADING_LAZY, 101, NULL, &none, &err), KWR_ERR_RANGE);
    cr_assert(strstr(err.text, "load_share") != NULL);
    cr_assert_eq(restore(l, (kwr_loading)7, 0, NULL, &none, &err), KWR_ERR_RANGE);
    line_free(l);
    fixture_close(&f);
}
