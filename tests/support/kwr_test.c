/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/kwr_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

/* Of the running test; a forked child sees its parent's pid and leaves everything alone. */
static struct {
    kwr_env *env;
    pid_t env_pid;
    char dir[256];
    pid_t dir_pid;
} fixture;

void kwr_test_leak_check(void) {
#if defined(__SANITIZE_ADDRESS__)
    cr_assert(__lsan_do_recoverable_leak_check() == 0, "the test leaked memory");
#endif
}

void kwr_test_end(void) {
    if (fixture.env != NULL && fixture.env_pid == getpid()) {
        kwr_env_posix_close(fixture.env);
        fixture.env = NULL;
    }
    if (fixture.dir[0] != '\0' && fixture.dir_pid == getpid()) {
        kwr_test_remove_tree(fixture.dir);
        fixture.dir[0] = '\0';
    }
    kwr_test_leak_check();
}

kwr_env *kwr_test_env(void) {
    if (fixture.env == NULL) {
        const kwr_posix_options options = { .struct_size = sizeof options,
                                            .compute_threads = 2,
                                            .blocking_threads = 2 };
        kwr_error err = { 0 };
        KWR_MUST_ERR(kwr_env_posix_open(&options, &fixture.env, &err), err);
        fixture.env_pid = getpid();
    }
    cr_assert(fixture.env_pid == getpid(), "a child needs an environment of its own");
    return fixture.env;
}

/* ---- scratch directory ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void kwr_test_remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

#define DIR_PREFIX "kwr-test-"

/* Directories are named by the pid of their test: those of processes that are gone go too. */
static void remove_leftovers(const char *parent) {
    DIR *dir = opendir(parent);
    if (dir == NULL) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, DIR_PREFIX, strlen(DIR_PREFIX)) != 0) continue;
        const long pid = strtol(entry->d_name + strlen(DIR_PREFIX), NULL, 10);
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", parent, entry->d_name);
        kwr_test_remove_tree(path);
    }
    closedir(dir);
}

const char *kwr_test_dir(void) {
    if (fixture.dir[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        if (parent == NULL || parent[0] == '\0') parent = "/dev/shm";
        remove_leftovers(parent);
        snprintf(fixture.dir, sizeof fixture.dir, "%s/" DIR_PREFIX "%d-XXXXXX", parent,
                 (int)getpid());
        cr_assert(mkdtemp(fixture.dir) != NULL, "no scratch directory in %s: %s", parent,
                  strerror(errno));
        fixture.dir_pid = getpid();
    }
    return fixture.dir;
}

const char *kwr_test_path(const char *name) {
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", kwr_test_dir(), name);
    return path;
}

void *kwr_test_read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "open %s: %s", path, strerror(errno));
    size_t capacity = 4096, used = 0;
    char *data = malloc(capacity);
    cr_assert(data != NULL);
    for (size_t n; (n = fread(data + used, 1, capacity - used, file)) > 0;) {
        used += n;
        if (used < capacity) continue;
        capacity *= 2;
        char *grown = realloc(data, capacity);
        cr_assert(grown != NULL);
        data = grown;
    }
    cr_assert(ferror(file) == 0, "read %s", path);
    fclose(file);
    *size = used;
    return data;
}

void kwr_test_write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL, "create %s: %s", path, strerror(errno));
    cr_assert(size == 0 || fwrite(data, 1, size, file) == size, "write %s", path);
    cr_assert(fclose(file) == 0, "close %s", path);
}
