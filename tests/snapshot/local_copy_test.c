/* SPDX-License-Identifier: Apache-2.0 */
/* Local copies of data files: what is read where, and that nothing of them is believed unverified.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/data_file.h"
#include "tests/snapshot/line.h"
#include "tests/snapshot/stored.h"
#include "tests/support/fault_env.h"

static const uint8_t UID[16] = { 9, 8, 7 }; /* the lines' */
static const uint8_t OTHER_UID[16] = { 1 };

enum { FEW = 3000 };

/* A line whose storage is in memory, with copies in a directory. */
typedef struct setup {
    fixture remote, local;
    fixture both; /* its storage is the two together */
    uint64_t checkpoint;
    line l;
    char name[256]; /* of the only data file, see setup_open_filled() */
    uint64_t length;
} setup;

static void open_both(setup *s) {
    kwr_error err = { 0 };
    s->both = s->remote;
    KWR_MUST_ERR(kwr_storage_local_copy_open(s->remote.env, s->remote.storage, s->local.storage,
                                             &s->both.storage, &err),
                 err);
}

static kwr_local_copy_stats stats_of(const setup *s) {
    kwr_local_copy_stats stats = { .struct_size = sizeof stats };
    kwr_storage_local_copy_get_stats(s->both.storage, &stats);
    return stats;
}

static void setup_open(setup *s) {
    kwr_error err = { 0 };
    *s = (setup){ .checkpoint = 0 };
    fixture_open(&s->remote, KIND_MEMORY);
    fixture_open(&s->local, KIND_FILE);
    open_both(s);
    KWR_MUST_ERR(kwr_storage_local_copy_claim(s->both.storage, "job", UID, &err), err);
    line_open(&s->l, &s->both, &s->checkpoint, 0, LINE_ALL, false);
}

/* One checkpoint of one data file. */
static void setup_open_filled(setup *s) {
    setup_open(s);
    line_fill(&s->l, FEW, 1);
    line_complete(&s->l);
    char path[300];
    size_t size = 0;
    cr_assert_eq(stored_count(&s->remote, "job/shared", "", s->name), 1);
    snprintf(path, sizeof path, "job/shared/%s", s->name);
    free(stored_get(&s->remote, path, &size));
    s->length = size;
}

static void setup_close(setup *s) {
    line_close(&s->l);
    kwr_storage_close(s->both.storage);
    fixture_close(&s->local);
    fixture_close(&s->remote);
}

static void copy_path(const setup *s, char out[300]) {
    snprintf(out, 300, "job/copies/%s", s->name);
}

static bool copy_there(const setup *s) {
    char path[300];
    copy_path(s, path);
    return stored_there(&s->local, path);
}

/* What a restore of everything added. */
static kwr_local_copy_stats restore_stats(setup *s, kwr_key_group_range range) {
    const kwr_local_copy_stats before = stats_of(s);
    line_expect_restores(&s->l, 1, range);
    kwr_local_copy_stats after = stats_of(s);
    after.bytes_local -= before.bytes_local;
    after.bytes_remote -= before.bytes_remote;
    after.files_local -= before.files_local;
    after.files_rejected -= before.files_rejected;
    return after;
}

KWR_TEST(local_copy, a_whole_copy_is_all_that_is_read) {
    setup s;
    setup_open_filled(&s);
    kwr_local_copy_stats got = stats_of(&s);
    cr_assert(got.files_copied == 1 && got.bytes_copied == s.length && got.files_failed == 0);
    got = restore_stats(&s, LINE_ALL);
    cr_assert(got.bytes_remote == 0 && got.bytes_local == s.length && got.files_local == 1,
              "%llu remote, %llu local of %llu", (unsigned long long)got.bytes_remote,
              (unsigned long long)got.bytes_local, (unsigned long long)s.length);
    /* Increments refer to it, and have copies of their own. */
    for (uint32_t round = 2; round < 6; round++) {
        line_put(&s.l, round % 2, round * 13, round);
        line_complete(&s.l);
    }
    got = restore_stats(&s, LINE_ALL);
    cr_assert(got.bytes_remote == 0 && got.files_local > 1);
    line_restart(&s.l, &s.l, 1);
    line_complete(&s.l);
    cr_assert_eq(s.l.result.bytes_written, 0);
    setup_close(&s);
}

KWR_TEST(local_copy, a_part_of_the_key_groups_is_read_locally_too) {
    setup s;
    setup_open_filled(&s);
    const kwr_local_copy_stats got = restore_stats(&s, (kwr_key_group_range){ 3, 5 });
    cr_assert(got.bytes_remote == 0 && got.bytes_local > 0 && got.bytes_local < s.length);
    setup_close(&s);
}

KWR_TEST(local_copy, what_is_not_there_is_read_remotely) {
    setup s;
    setup_open_filled(&s);
    const uint64_t first = s.length;
    char path[300];
    for (uint32_t i = 0; i < FEW; i++)
        line_put(&s.l, 1, i, 2);
    line_complete(&s.l);
    kwr_local_copy_stats got = restore_stats(&s, LINE_ALL);
    const uint64_t all = got.bytes_local;
    cr_assert(got.bytes_remote == 0 && got.files_local == 2 && all > first);
    copy_path(&s, path);
    stored_remove(&s.local, path);
    got = restore_stats(&s, LINE_ALL);
    cr_assert(got.files_rejected == 0 && got.files_local == 1);
    cr_assert(got.bytes_remote > 0 && got.bytes_remote <= first &&
                  got.bytes_remote + got.bytes_local == all,
              "%llu remote, %llu local of %llu", (unsigned long long)got.bytes_remote,
              (unsigned long long)got.bytes_local, (unsigned long long)all);
    setup_close(&s);
}

typedef struct damage {
    const char *what;
    int64_t at;        /* of the bit; negative: from the end */
    uint64_t remotely; /* 0: everything */
    int64_t cut;       /* instead: bytes too few or, negative, too many */
} damage;

static void spoil(const setup *s, const damage *d) {
    char path[300];
    size_t size = 0;
    copy_path(s, path);
    if (d->cut == 0) {
        stored_flip(&s->local, path, (size_t)(d->at < 0 ? (int64_t)s->length + d->at : d->at));
        return;
    }
    uint8_t *bytes = stored_get(&s->local, path, &size);
    uint8_t *more = calloc(1, size + 100);
    memcpy(more, bytes, size);
    stored_put(&s->local, path, more, (size_t)((int64_t)size - d->cut));
    free(more);
    free(bytes);
}

KWR_TEST(local_copy, damage_anywhere_is_found_and_the_rest_read_remotely) {
    const int64_t header = KWR_DATA_HEADER_SIZE, footer = KWR_DATA_FOOTER_SIZE;
    const damage damages[] = {
        { .what = "magic" },
        { .what = "end of the header", .at = header - 1 },
        { .what = "prefix of the first image", .at = header, .remotely = 1 },
        { .what = "first image", .at = header + KWR_DATA_PREFIX_SIZE + 3, .remotely = 1 },
        { .what = "last entry of the index", .at = -footer - 1 },
        { .what = "begin of the last entry", .at = -footer - KWR_DATA_ENTRY_SIZE },
        { .what = "footer", .at = -footer },
        { .what = "last byte", .at = -1 },
        { .what = "cut by one", .cut = 1 },
        { .what = "cut in half", .cut = 20000 },
        { .what = "one too many", .cut = -1 },
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        setup s;
        setup_open_filled(&s);
        spoil(&s, &damages[i]);
        const kwr_local_copy_stats got = restore_stats(&s, LINE_ALL);
        cr_assert(got.files_rejected == 1, "%s", damages[i].what);
        cr_assert(got.bytes_local + got.bytes_remote == s.length, "%s: %llu local, %llu remote",
                  damages[i].what, (unsigned long long)got.bytes_local,
                  (unsigned long long)got.bytes_remote);
        /* Header, index and footer were sound: only images come from elsewhere. */
        cr_assert((got.bytes_local > 0) == (damages[i].remotely != 0), "%s", damages[i].what);
        cr_assert(!copy_there(&s), "%s", damages[i].what);
        /* The next restore does not try it again. */
        cr_assert_eq(restore_stats(&s, LINE_ALL).bytes_remote, s.length);
        setup_close(&s);
    }
}

/* Sound in itself, and of the same name and length; but not what the manifest says. */
KWR_TEST(local_copy, a_file_of_equal_name_from_elsewhere_is_refused) {
    setup s, other;
    char path[300];
    size_t size = 0;
    setup_open_filled(&s);
    setup_open_filled(&other);
    cr_assert(strcmp(s.name, other.name) == 0 && s.length == other.length);
    copy_path(&s, path);
    uint8_t *bytes = stored_get(&other.local, path, &size);
    stored_put(&s.local, path, bytes, size);
    free(bytes);
    const kwr_local_copy_stats got = restore_stats(&s, LINE_ALL);
    cr_assert(got.files_rejected == 1 && got.bytes_local == 0 && got.bytes_remote == s.length);
    setup_close(&other);
    setup_close(&s);
}

KWR_TEST(local_copy, a_lazy_restore_finds_damage_that_comes_later) {
    setup s;
    setup_open_filled(&s);
    char path[600];
    kwr_error err = { 0 };
    kwr_backend *backend = NULL;
    /* Nothing is loaded before somebody waits for it. */
    fault_env *faults = fault_env_open(kwr_test_env(), FAULT_INLINE);
    kwr_backend_options options = mini_options(fault_env_env(faults), LINE_ALL);
    options.loading = KWR_LOADING_LAZY;
    const kwr_slice handle = { s.l.result.handle.data, s.l.result.handle.size };
    KWR_MUST_ERR(kwr_snapshot_restore(&options, s.both.storage, "job", &handle, 1, &backend, &err),
                 err);
    snprintf(path, sizeof path, "%s/job/copies/%s", s.local.root, s.name);
    const int fd = open(path, O_WRONLY);
    cr_assert(fd >= 0);
    cr_assert(pwrite(fd, "damaged", 7, KWR_DATA_HEADER_SIZE + 100) == 7);
    close(fd);
    line_expect_content(backend, LINE_ALL, &s.l, 1);
    kwr_backend_close(backend);
    fault_env_close(faults);
    const kwr_local_copy_stats got = stats_of(&s);
    cr_assert(got.files_rejected == 1 && got.bytes_remote > 0);
    setup_close(&s);
}

/* ---- disks that fail ---- */

KWR_TEST(local_copy, a_full_disk_costs_the_copy_and_not_the_checkpoint) {
    setup s;
    kwr_error err = { 0 };
    setup_open(&s);
    kwr_storage *small = NULL;
    kwr_storage_close(s.both.storage);
    KWR_MUST_ERR(kwr_storage_memory_open(s.remote.env, 5000, &small, &err), err);
    KWR_MUST_ERR(
        kwr_storage_local_copy_open(s.remote.env, s.remote.storage, small, &s.both.storage, &err),
        err);
    s.l.storage = s.both.storage;
    KWR_MUST_ERR(kwr_storage_local_copy_claim(s.both.storage, "job", UID, &err), err);
    line_fill(&s.l, FEW, 1);
    line_complete(&s.l);
    kwr_local_copy_stats got = stats_of(&s);
    cr_assert(got.files_failed == 1 && got.files_copied == 0);
    got = restore_stats(&s, LINE_ALL);
    cr_assert(got.bytes_local == 0 && got.bytes_remote > 5000);
    fixture of_small = { .env = s.remote.env, .storage = small };
    cr_assert_eq(stored_count(&of_small, "job/copies", "", NULL), 0);
    kwr_storage_close(s.both.storage);
    kwr_storage_close(small);
    open_both(&s); /* for the close */
    setup_close(&s);
}

/* True when there was such a call. */
static bool run_with_fault(fault_kind kind, uint64_t n) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    setup s = { .checkpoint = 0 };
    kwr_error err = { 0 };
    fixture_open(&s.remote, KIND_MEMORY);
    make_temp_dir(s.local.root, sizeof s.local.root);
    KWR_MUST_ERR(
        kwr_storage_open(fault_env_env(faults), s.local.root, true, &s.local.storage, &err), err);
    open_both(&s);
    fault_env_fail_fs(faults, kind, n, n % 2 == 0 ? FAULT_ONCE : FAULT_ALWAYS);
    KWR_MUST_ERR(kwr_storage_local_copy_claim(s.both.storage, "job", UID, &err), err);
    line_open(&s.l, &s.both, &s.checkpoint, 0, LINE_ALL, false);
    line_fill(&s.l, FEW, 1);
    line_complete(&s.l);
    line_put(&s.l, 0, 5, 2);
    line_complete(&s.l);
    line_expect_restores(&s.l, 1, LINE_ALL);
    const bool fired = fault_env_fired(faults) > 0;
    fault_env_clear(faults);
    line_expect_restores(&s.l, 1, LINE_ALL);
    line_close(&s.l);
    kwr_storage_close(s.both.storage);
    kwr_storage_close(s.local.storage);
    remove_tree(s.local.root);
    fixture_close(&s.remote);
    fault_env_close(faults);
    return fired;
}

KWR_TEST(local_copy, no_failure_of_a_local_call_fails_anything, .timeout = 300) {
    static const fault_kind kinds[] = { FAULT_EIO, FAULT_ENOSPC, FAULT_KILL };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t n = 0;
        while (run_with_fault(kinds[i], n))
            n++;
        cr_assert(n > 8, "%llu", (unsigned long long)n);
    }
}

/* True when there was such an allocation of the storage's own. */
static bool run_without_memory(uint64_t n) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    setup s = { .checkpoint = 0 };
    kwr_error err = { 0 };
    fixture_open(&s.remote, KIND_MEMORY);
    fixture_open(&s.local, KIND_MEMORY);
    s.both = s.remote;
    fault_env_fail_alloc(faults, n, FAULT_ONCE);
    kwr_status status = KWR_ERR_NOMEM;
    for (int tries = 0; status == KWR_ERR_NOMEM && tries < 2; tries++)
        status = kwr_storage_local_copy_open(fault_env_env(faults), s.remote.storage,
                                             s.local.storage, &s.both.storage, &err);
    KWR_MUST_ERR(status, err);
    status = KWR_ERR_NOMEM;
    for (int tries = 0; status == KWR_ERR_NOMEM && tries < 2; tries++)
        status = kwr_storage_local_copy_claim(s.both.storage, "job", UID, &err);
    KWR_MUST_ERR(status, err);
    line_open(&s.l, &s.both, &s.checkpoint, 0, LINE_ALL, false);
    line_fill(&s.l, 60, 1);
    s.checkpoint++;
    status = KWR_ERR_NOMEM;
    for (int tries = 0; status == KWR_ERR_NOMEM && tries < 2; tries++)
        status = line_write_with(&s.l, NULL, &err);
    KWR_MUST_ERR(status, err);
    kwr_backend *backend = NULL;
    status = KWR_ERR_NOMEM;
    for (int tries = 0; status == KWR_ERR_NOMEM && tries < 2; tries++)
        status = line_restore(&s.l, 1, LINE_ALL, NULL, &backend, &err);
    KWR_MUST_ERR(status, err);
    line_expect_content(backend, LINE_ALL, &s.l, 1);
    kwr_backend_close(backend);
    const bool fired = fault_env_fired(faults) > 0;
    line_close(&s.l);
    kwr_storage_close(s.both.storage);
    fixture_close(&s.local);
    fixture_close(&s.remote);
    fault_env_close(faults);
    return fired;
}

KWR_TEST(local_copy, without_memory_it_says_so_and_the_next_try_is_good, .timeout = 120) {
    uint64_t n = 0;
    while (run_without_memory(n))
        n++;
    cr_assert(n > 8, "%llu", (unsigned long long)n);
}

/* ---- what is there, and whose it is ---- */

KWR_TEST(local_copy, a_copy_does_not_stand_in_for_a_file_that_is_gone) {
    setup s;
    setup_open_filled(&s);
    char path[300], copy[300];
    size_t size = 0;
    kwr_error err = { 0 };
    kwr_backend *backend = NULL;
    snprintf(path, sizeof path, "job/shared/%s", s.name);
    copy_path(&s, copy);
    stored_remove(&s.remote, path);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, line_restore(&s.l, 1, LINE_ALL, NULL, &backend, &err), err);
    cr_assert(strstr(err.text, copy) != NULL && strstr(err.text, "put") != NULL, "%s", err.text);
    /* As the text says. */
    uint8_t *bytes = stored_get(&s.local, copy, &size);
    stored_put(&s.remote, path, bytes, size);
    free(bytes);
    line_expect_restores(&s.l, 1, LINE_ALL);
    setup_close(&s);
}

KWR_TEST(local_copy, another_jobs_directory_is_refused) {
    setup s;
    setup_open_filled(&s);
    kwr_error err = { 0 };
    /* In this storage, and in a later one on the same directory. */
    KWR_EXPECT_ERR(KWR_ERR_MISMATCH,
                   kwr_storage_local_copy_claim(s.both.storage, "job", OTHER_UID, &err), err);
    kwr_storage_close(s.both.storage);
    open_both(&s);
    s.l.storage = s.both.storage;
    KWR_EXPECT_ERR(KWR_ERR_MISMATCH,
                   kwr_storage_local_copy_claim(s.both.storage, "job", OTHER_UID, &err), err);
    cr_assert(strstr(err.text, "another job") != NULL &&
                  strstr(err.text, "09080700000000000000000000000000") != NULL,
              "%s", err.text);
    cr_assert(copy_there(&s));
    /* Unclaimed, nothing of it is used. */
    cr_assert_eq(restore_stats(&s, LINE_ALL).bytes_local, 0);
    KWR_MUST_ERR(kwr_storage_local_copy_claim(s.both.storage, "job", UID, &err), err);
    cr_assert_eq(restore_stats(&s, LINE_ALL).bytes_remote, 0);
    setup_close(&s);
}

KWR_TEST(local_copy, copies_go_with_their_files_and_nothing_else_does) {
    setup s;
    setup_open_filled(&s);
    kwr_error err = { 0 };
    kwr_job_dirs dirs = { 0 };
    char path[300];
    stored_put(&s.local, "job/copies/notes.txt", "mine", 4);
    KWR_MUST_ERR(kwr_job_dirs_open(s.both.env, s.both.storage, "job", false, &dirs, &err), err);
    KWR_MUST_ERR(s.both.storage->ops->remove(s.both.storage, dirs.shared, s.name, &err), err);
    kwr_job_dirs_close(&dirs);
    cr_assert(!copy_there(&s) && stats_of(&s).files_removed == 1);
    /* And those whose files went while nobody looked, at the next start. */
    line_fill(&s.l, FEW, 2);
    kwr_lineage_free(s.l.lineage);
    KWR_MUST_ERR(kwr_lineage_new(s.both.env, UID, "count", &s.l.lineage, &err), err);
    line_complete(&s.l);
    line_put(&s.l, 0, 1, 3);
    line_complete(&s.l);
    const size_t copies = stored_count(&s.local, "job/copies", "1-count-", s.name);
    cr_assert_eq(copies, 2);
    snprintf(path, sizeof path, "job/shared/%s", s.name);
    stored_remove(&s.remote, path);
    kwr_storage_close(s.both.storage);
    open_both(&s);
    KWR_MUST_ERR(kwr_storage_local_copy_claim(s.both.storage, "job", UID, &err), err);
    cr_assert_eq(stored_count(&s.local, "job/copies", "1-count-", NULL), 1);
    cr_assert(!copy_there(&s) && stats_of(&s).files_removed == 1);
    cr_assert(stored_there(&s.local, "job/copies/notes.txt"));
    setup_close(&s);
}

/* Where another process removes what is old, copies do not gather without end. */
KWR_TEST(local_copy, copies_whose_files_went_elsewhere_are_swept_on_the_way) {
    setup s;
    setup_open(&s);
    kwr_error err = { 0 };
    for (int i = 0; i < 200; i++) {
        char path[300];
        line_put(&s.l, 0, (uint32_t)i, 1);
        kwr_lineage_free(s.l.lineage);
        KWR_MUST_ERR(kwr_lineage_new(s.both.env, UID, "count", &s.l.lineage, &err), err);
        line_complete(&s.l);
        if (i == 199) break;
        cr_assert(stored_count(&s.remote, "job/shared", "", s.name) == 1);
        snprintf(path, sizeof path, "job/shared/%s", s.name);
        stored_remove(&s.remote, path);
    }
    cr_assert(stored_count(&s.local, "job/copies", "", NULL) < 70);
    line_expect_restores(&s.l, 1, LINE_ALL);
    setup_close(&s);
}
