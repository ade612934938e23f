/* SPDX-License-Identifier: Apache-2.0 */
/* Where a task keeps local files: its own, locked, and gone with it or with the next attempt. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/remove_tree.h"
#include "task/task.h"
#include "tests/support/fault_env.h"
#include "tests/support/kwr_test.h"

static kwr_task attempt(const kwr_env *env, uint64_t generation, uint32_t subtask) {
    kwr_task task = { .env = env, .operator_id = "count" };
    task.assignment.generation = generation;
    task.assignment.subtask = subtask;
    memset(task.assignment.uid, 0xab, sizeof task.assignment.uid);
    return task;
}

static void must_open(kwr_task *task) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_task_directory_open(task, kwr_test_path("local"), &err), err);
}

/* Names in the directory. */
static unsigned names_in(const char *path) {
    DIR *dir = opendir(path);
    unsigned count = 0;
    cr_assert(dir != NULL, "%s", path);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static void make_dir(const char *path) { cr_assert(mkdir(path, 0700) == 0, "%s", path); }
static void make_file(const char *path) {
    FILE *file = fopen(path, "w");
    cr_assert(file != NULL && fputs("x", file) > 0 && fclose(file) == 0, "%s", path);
}

/* As an engine would: files, and directories with files. */
static void fill(const char *database) {
    char path[1024];
    make_dir(database);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%d", database, i);
        make_dir(path);
        for (int j = 0; j < 3; j++) {
            snprintf(path, sizeof path, "%s/%d/file-%d", database, i, j);
            make_file(path);
        }
    }
}

KWR_TEST(task_directory, is_there_as_long_as_the_task) {
    kwr_task task = attempt(kwr_test_env(), 1, 0);
    must_open(&task);
    cr_assert(strncmp(task.database, kwr_test_path("local"), strlen(kwr_test_path("local"))) == 0);
    cr_assert(access(task.database, F_OK) != 0, "engines make their directory themselves");
    fill(task.database);
    kwr_task_directory_close(&task);
    cr_assert(names_in(kwr_test_path("local")) == 0);
    /* Closed again, or never opened: nothing happens. */
    kwr_task_directory_close(&task);
}

KWR_TEST(task_directory, one_for_each_subtask_and_attempt_and_a_living_one_stays) {
    kwr_task a = attempt(kwr_test_env(), 1, 0), b = attempt(kwr_test_env(), 1, 1);
    kwr_task later = attempt(kwr_test_env(), 2, 0), twin = attempt(kwr_test_env(), 1, 0);
    must_open(&a);
    must_open(&b);
    fill(a.database);
    must_open(&later);
    cr_assert(names_in(kwr_test_path("local")) == 3, "an attempt that lives was robbed");
    cr_assert(names_in(a.database) == 3);
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_LOCKED, kwr_task_directory_open(&twin, kwr_test_path("local"), &err),
                   err);
    cr_assert(strstr(err.text, "count") != NULL, "%s", err.text);
    kwr_task_directory_close(&twin);
    cr_assert(names_in(a.database) == 3);
    kwr_task_directory_close(&a);
    kwr_task_directory_close(&b);
    cr_assert(names_in(kwr_test_path("local")) == 1);
    kwr_task_directory_close(&later);
}

static const char *local(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "local/%s", name);
    return kwr_test_path(path);
}

KWR_TEST(task_directory, only_what_dead_attempts_of_the_job_left_is_removed) {
    static const char uid[] = "abababababababababababababababab";
    char name[200], path[1024];
    make_dir(kwr_test_path("local"));
    /* Killed: with and without its lock file, of another operator and subtask. */
    snprintf(name, sizeof name, "%s-0000000000000001-count-0", uid);
    make_dir(local(name));
    snprintf(path, sizeof path, "%s/state", local(name));
    fill(path);
    snprintf(path, sizeof path, "%s/lock", local(name));
    make_file(path);
    snprintf(name, sizeof name, "%s-0000000000000002-other-7", uid);
    make_dir(local(name));
    /* Not ours: another job, a later attempt, other names. */
    make_dir(local("cdababababababababababababababab-0000000000000001-count-0"));
    snprintf(name, sizeof name, "%s-0000000000000004-count-0", uid);
    make_dir(local(name));
    snprintf(name, sizeof name, "%s-1-count-0", uid);
    make_dir(local(name));
    make_dir(local(uid));
    make_file(local("readme"));
    kwr_task task = attempt(kwr_test_env(), 3, 0);
    must_open(&task);
    cr_assert(names_in(kwr_test_path("local")) == 6, "%u", names_in(kwr_test_path("local")));
    kwr_task_directory_close(&task);
    cr_assert(names_in(kwr_test_path("local")) == 5);
}

KWR_TEST(task_directory, a_nest_too_deep_stays_and_says_so) {
    kwr_task task = attempt(kwr_test_env(), 1, 0);
    must_open(&task);
    char path[1024];
    size_t size = (size_t)snprintf(path, sizeof path, "%s", task.database);
    for (int i = 0; i < KWR_TREE_DEPTH_MAX + 2; i++) {
        make_dir(path);
        size += (size_t)snprintf(path + size, sizeof path - size, "/d");
    }
    kwr_task_directory_close(&task);
    cr_assert(names_in(kwr_test_path("local")) == 1, "not removed, and no loop either");
}

KWR_TEST(task_directory, after_any_failure_the_next_attempt_cleans_up) {
    for (int memory = 0; memory < 2; memory++)
        for (uint64_t n = 0;; n++) {
            fault_env *faults = fault_env_open(kwr_test_env(), FAULT_INLINE);
            kwr_task task = attempt(fault_env_env(faults), 2 * n + 1, 0);
            if (memory != 0)
                fault_env_fail_alloc(faults, n, FAULT_ONCE);
            else
                fault_env_fail_fs(faults, FAULT_EIO, n, FAULT_ONCE);
            kwr_error err = { 0 };
            const kwr_status status = kwr_task_directory_open(&task, kwr_test_path("local"), &err);
            cr_assert(status >= KWR_OK || err.text[0] != '\0');
            if (status >= KWR_OK) fill(task.database);
            kwr_task_directory_close(&task);
            const bool fired = fault_env_fired(faults) > 0;
            fault_env_clear(faults);
            kwr_task next = attempt(fault_env_env(faults), 2 * n + 2, 0);
            must_open(&next);
            kwr_task_directory_close(&next);
            cr_assert(names_in(kwr_test_path("local")) == 0, "left after a failure of %s",
                      fault_env_fired_text(faults));
            fault_env_close(faults);
            if (!fired) break;
        }
}
