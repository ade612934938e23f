/* SPDX-License-Identifier: Apache-2.0 */
/* Adoption that fails: it says what is wrong, loses nothing of anybody's, and leaves nothing. */
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/rocksdb/adopt_model.h"
#include "tests/support/fault_env.h"

enum { GROUPS = 16, PARTS = 2 };

static const uint32_t in_order[MODEL_STATES] = { 0, 1, 2, 3, 4, 5 };

typedef struct setup {
    model *m;
    instance donors[PARTS];
    char paths[PARTS][256];
    kwr_engine_donor list[PARTS];
} setup;

static void set_up(setup *s) {
    rng r = { 9 };
    s->m = calloc(1, sizeof *s->m);
    cr_assert(s->m != NULL);
    s->m->groups = GROUPS;
    for (uint32_t i = 0; i < PARTS; i++) {
        instance_open(&s->donors[i], kwr_test_env(), GROUPS, kwr_key_groups_of(i, PARTS, GROUPS),
                      in_order, MODEL_STATES);
        model_change(s->m, &s->donors[i], &r, 2000);
    }
}

static void copy_donors(setup *s) {
    for (uint32_t i = 0; i < PARTS; i++) {
        instance_copy(&s->donors[i], s->paths[i]);
        s->list[i] = (kwr_engine_donor){ .directory = s->paths[i],
                                         .key_groups = s->donors[i].range,
                                         .states = in_order,
                                         .state_count = MODEL_STATES };
    }
}

static void tear_down(setup *s) {
    for (uint32_t i = 0; i < PARTS; i++) {
        model_check(s->m, &s->donors[i]);
        instance_close(&s->donors[i]);
    }
    free(s->m);
}

static void open_whole(instance *in, const kwr_env *env) {
    instance_open(in, env, GROUPS, (kwr_key_group_range){ 0, GROUPS }, in_order, MODEL_STATES);
}

static void must_be_gone(const setup *s) {
    struct stat gone;
    for (uint32_t i = 0; i < PARTS; i++)
        cr_assert(stat(s->paths[i], &gone) != 0, "%s is left", s->paths[i]);
}

/* Fails with that status and a text that has these two in it, and can be closed. */
static void must_fail(setup *s, kwr_status want, const char *says, const char *names) {
    instance whole;
    kwr_error err = { 0 };
    open_whole(&whole, kwr_test_env());
    KWR_EXPECT_ERR(want, kwr_rocks_adopt(whole.engine, s->list, PARTS, &err), err);
    cr_assert(strstr(err.text, says) != NULL && strstr(err.text, names) != NULL, "%s", err.text);
    kwr_slice got;
    const kwr_address at = { .key = { "key1", 4 } };
    KWR_EXPECT(KWR_ERR_POISONED, kwr_rocksdb_engine.get(whole.engine, &at, &got));
    instance_close(&whole);
    must_be_gone(s);
}

/* ---- what is asked for ---- */

KWR_TEST(adopt_failure, donors_of_the_same_key_groups_are_refused) {
    setup s;
    set_up(&s);
    copy_donors(&s);
    s.list[1].key_groups.first--;
    must_fail(&s, KWR_ERR_MISUSE, "same key groups", s.paths[1]);
    tear_down(&s);
}

KWR_TEST(adopt_failure, two_states_of_a_donor_are_not_one_of_ours) {
    static const uint32_t twice[MODEL_STATES] = { 0, 1, 2, 3, 4, 4 };
    static const uint32_t beyond[MODEL_STATES] = { 0, 1, 2, 3, 4, 6 };
    setup s;
    set_up(&s);
    copy_donors(&s);
    s.list[0].states = twice;
    must_fail(&s, KWR_ERR_MISUSE, "state 5", s.paths[0]);
    copy_donors(&s);
    s.list[1].states = beyond;
    must_fail(&s, KWR_ERR_MISUSE, "state 5", s.paths[1]);
    tear_down(&s);
}

KWR_TEST(adopt_failure, a_donor_with_other_column_families_is_refused) {
    setup s;
    set_up(&s);
    for (uint32_t i = 0; i < PARTS; i++) {
        copy_donors(&s);
        s.list[i].state_count--;
        must_fail(&s, KWR_ERR_CORRUPT, "column families of its 5 states", s.paths[i]);
    }
    tear_down(&s);
}

/* ---- damage ---- */

static void find_file(const char *path, const char *end, char out[600]) {
    DIR *dir = opendir(path);
    cr_assert(dir != NULL, "%s", path);
    out[0] = '\0';
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strstr(entry->d_name, end) != NULL)
            (void)snprintf(out, 600, "%s/%s", path, entry->d_name);
    closedir(dir);
    cr_assert(out[0] != '\0', "no %s in %s", end, path);
}

/* A file of its own first: the donor's engine goes on with the one it is linked to. */
static void cut(const char *path) {
    size_t size;
    void *bytes = kwr_test_read_file(path, &size);
    cr_assert(unlink(path) == 0);
    kwr_test_write_file(path, bytes, size / 2);
    free(bytes);
}

KWR_TEST(adopt_failure, a_donor_that_misses_files_or_has_short_ones_fails_cleanly) {
    static const char *const files[] = { ".sst", "MANIFEST", "CURRENT" };
    setup s;
    char path[600];
    set_up(&s);
    for (uint32_t donor = 0; donor < PARTS; donor++) {
        for (size_t i = 0; i < 3; i++) {
            for (int removed = 0; removed < 2; removed++) {
                if (i == 1 && !removed) continue; /* RocksDB opens such, silently */
                copy_donors(&s);
                find_file(s.paths[donor], files[i], path);
                if (removed)
                    cr_assert(unlink(path) == 0);
                else
                    cut(path);
                instance whole;
                kwr_error err = { 0 };
                open_whole(&whole, kwr_test_env());
                const kwr_status status = kwr_rocks_adopt(whole.engine, s.list, PARTS, &err);
                cr_assert(status < KWR_OK, "%s %d", files[i], removed);
                cr_assert(strstr(err.text, kwr_test_dir()) != NULL, "%s", err.text);
                instance_close(&whole);
                must_be_gone(&s);
            }
        }
    }
    tear_down(&s);
}

/* ---- a disk that is full ---- */

/* A limit on the size of files stands in for it: writes fail at some place. */
KWR_TEST(adopt_failure, a_write_that_fails_ends_the_restore_with_its_cause) {
    setup s;
    set_up(&s);
    unsigned failed = 0;
    (void)signal(SIGXFSZ, SIG_IGN);
    for (rlim_t most = 1000; most <= 1000000; most *= 10) {
        copy_donors(&s);
        instance whole;
        kwr_error err = { 0 };
        open_whole(&whole, kwr_test_env());
        struct rlimit usual, small;
        cr_assert(getrlimit(RLIMIT_FSIZE, &usual) == 0);
        small = usual;
        small.rlim_cur = most;
        cr_assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
        const kwr_status status = kwr_rocks_adopt(whole.engine, s.list, PARTS, &err);
        cr_assert(setrlimit(RLIMIT_FSIZE, &usual) == 0);
        if (status < KWR_OK) {
            failed++;
            cr_assert(strstr(err.text, whole.directory) != NULL ||
                          strstr(err.text, s.paths[0]) != NULL ||
                          strstr(err.text, s.paths[1]) != NULL,
                      "%s", err.text);
        } else {
            model_check_only(s.m, &whole);
        }
        instance_close(&whole);
        must_be_gone(&s);
    }
    cr_assert(failed > 0 && failed < 4, "%u", failed);
    tear_down(&s);
}

KWR_TEST(adopt_failure, a_full_disk_is_told_from_other_failures) {
    kwr_error err;
    char *words = strdup("IO error: No space left on device: While appending to file: /x/1.sst");
    KWR_EXPECT(KWR_ERR_NOSPACE, kwr_rocks_report(&err, words, "write a table", "/x"));
    cr_assert(strstr(err.text, "make room") != NULL, "%s", err.text);
    words = strdup("Corruption: block checksum mismatch");
    KWR_EXPECT(KWR_ERR_CORRUPT, kwr_rocks_report(&err, words, "read", "/x"));
    words = strdup("IO error: Input/output error");
    KWR_EXPECT(KWR_ERR_IO, kwr_rocks_report(&err, words, "read", "/x"));
}

/* ---- memory and files, call by call ---- */

static void call_by_call(bool memory) {
    setup s;
    set_up(&s);
    unsigned failed = 0;
    for (uint64_t n = 0;; n++) {
        copy_donors(&s);
        fault_env *faults = fault_env_open(kwr_test_env(), FAULT_INLINE);
        instance whole;
        kwr_error err = { 0 };
        instance_open_to_adopt(&whole, fault_env_env(faults), GROUPS,
                               (kwr_key_group_range){ 0, GROUPS }, in_order, MODEL_STATES);
        if (memory)
            fault_env_fail_alloc(faults, n, FAULT_ONCE);
        else
            fault_env_fail_fs(faults, FAULT_EIO, n, FAULT_ONCE);
        const kwr_status status = kwr_rocks_adopt(whole.engine, s.list, PARTS, &err);
        const bool fired = fault_env_fired(faults) > 0;
        fault_env_clear(faults);
        if (status < KWR_OK) {
            failed++;
            cr_assert(err.text[0] != '\0');
        } else {
            model_check_only(s.m, &whole); /* what failed was clearing away */
        }
        /* What could not be cleared away is refused or known by its name. */
        for (uint32_t i = 0; i < PARTS; i++)
            kwr_test_remove_tree(s.paths[i]);
        kwr_rocksdb_engine.close(whole.engine);
        kwr_resources_close(whole.resources);
        kwr_test_remove_tree(whole.directory);
        fault_env_close(faults);
        if (!fired) break;
    }
    cr_assert(failed > 5, "%u", failed);
    tear_down(&s);
}

KWR_TEST(adopt_failure, each_allocation_may_fail) { call_by_call(true); }
KWR_TEST(adopt_failure, each_call_on_files_may_fail) { call_by_call(false); }

/* ---- what was there before ---- */

/* Content of all files below a directory, by name; of what a checkpoint is made of. */
static uint64_t digest_of(const char *path) {
    DIR *dir = opendir(path);
    cr_assert(dir != NULL);
    uint64_t sum = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        char file[600];
        (void)snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        size_t size;
        uint8_t *bytes = kwr_test_read_file(file, &size);
        uint64_t one = 1469598103934665603ULL;
        for (const char *c = entry->d_name; *c != '\0'; c++)
            one = (one ^ (uint8_t)*c) * 1099511628211ULL;
        for (size_t i = 0; i < size; i++)
            one = (one ^ bytes[i]) * 1099511628211ULL;
        sum += one;
        free(bytes);
    }
    closedir(dir);
    return sum;
}

KWR_TEST(adopt_failure, files_that_are_linked_elsewhere_stay_as_they_are) {
    setup s;
    char kept[256];
    set_up(&s);
    copy_donors(&s);
    instance_copy(&s.donors[0], kept); /* shares its tables with the donor's directory */
    const uint64_t before = digest_of(kept);
    instance whole;
    kwr_error err;
    rng r = { 10 };
    open_whole(&whole, kwr_test_env());
    KWR_MUST_ERR(kwr_rocks_adopt(whole.engine, s.list, PARTS, &err), err);
    model *copy = malloc(sizeof *copy);
    cr_assert(copy != NULL);
    memcpy(copy, s.m, sizeof *copy);
    model_change(copy, &whole, &r, 3000);
    rocksdb_compact_range_cf(whole.engine->db->db, whole.engine->states[0].family, NULL, 0, NULL,
                             0);
    model_check(copy, &whole);
    free(copy);
    instance_close(&whole);
    cr_assert(digest_of(kept) == before);
    kwr_test_remove_tree(kept);
    tear_down(&s);
}

KWR_TEST(adopt_failure, a_directory_that_is_not_empty_is_refused_by_name) {
    const char *path = kwr_test_path("left");
    cr_assert(mkdir(path, 0700) == 0);
    char inside[600];
    (void)snprintf(inside, sizeof inside, "%s/donor-0", path);
    cr_assert(mkdir(inside, 0700) == 0);
    kwr_backend_options options = {
        .struct_size = sizeof options, .env = kwr_test_env(), .engine = "rocksdb", .directory = path
    };
    kwr_backend *backend = NULL;
    kwr_error err;
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, kwr_backend_open(&options, &backend, &err), err);
    cr_assert(strstr(err.text, path) != NULL && strstr(err.text, "donor-0") != NULL, "%s",
              err.text);
    cr_assert(rmdir(inside) == 0, "it was touched");
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    kwr_backend_close(backend);
}
