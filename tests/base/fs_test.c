/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default file system, on a real directory, with and without openat2: names stay inside their
 * directory, nothing is replaced, nothing planted there is followed or waited for, and failures say
 * what was done to which path.
 */
#include "tests/support/kwr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/posix.h"
#include "tests/support/fault_env.h"

static kwr_error err;

/* Runs `body` with both ways of opening, each in a directory of its own. */
typedef void (*fs_body)(const kwr_fs *fs, kwr_dir *root, const char *path);

static void with_fs(fs_body body) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0); /* for its strict allocator */
    for (int i = 0; i < 2; i++) {
        kwr_posix_fs *posix = kwr_posix_fs_open(fault_env_env(faults), i == 1, false);
        cr_assert(posix != NULL);
        const kwr_fs *fs = kwr_posix_fs_table(posix);
        const char *path = kwr_test_path(i == 0 ? "openat2" : "openat");
        kwr_dir *root = NULL;
        KWR_MUST_ERR(fs->open_root(fs->ctx, path, KWR_FS_CREATE, &root, &err), err);
        body(fs, root, path);
        fs->close_dir(fs->ctx, root);
        kwr_posix_fs_close(posix);
    }
    fault_env_close(faults);
}

#define FS_TEST(suite, name, ...)                                                       \
    static void suite##_##name##_fs(const kwr_fs *fs, kwr_dir *root, const char *path); \
    KWR_TEST(suite, name, ##__VA_ARGS__) { with_fs(suite##_##name##_fs); }              \
    static void suite##_##name##_fs(const kwr_fs *fs __attribute__((unused)),           \
                                    kwr_dir *root __attribute__((unused)),              \
                                    const char *path __attribute__((unused)))

static const char *below(const char *path, const char *name) {
    static char out[4][1200];
    static unsigned next;
    char *text = out[next++ % 4];
    snprintf(text, sizeof out[0], "%s/%s", path, name);
    return text;
}

static void put(const kwr_fs *fs, kwr_dir *dir, const char *name, const char *content) {
    kwr_file *file = NULL;
    size_t done = 0;
    KWR_MUST_ERR(fs->create(fs->ctx, dir, name, &file, &err), err);
    KWR_MUST_ERR(fs->write(fs->ctx, file, content, strlen(content), &done, &err), err);
    cr_assert_eq(done, strlen(content));
    KWR_MUST_ERR(fs->close(fs->ctx, file, &err), err);
}

static void expect_content(const kwr_fs *fs, kwr_dir *dir, const char *name, const char *content) {
    kwr_file *file = NULL;
    kwr_file_info info;
    char data[64] = "";
    size_t done = 0;
    KWR_MUST_ERR(fs->open(fs->ctx, dir, name, 0, &file, &info, &err), err);
    cr_assert_eq(info.size, strlen(content));
    cr_assert_eq(info.kind, KWR_FILE_REGULAR);
    KWR_MUST_ERR(fs->read(fs->ctx, file, 0, data, sizeof data - 1, &done, &err), err);
    cr_assert_str_eq(data, content);
    KWR_MUST_ERR(fs->close(fs->ctx, file, &err), err);
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}
static unsigned mode_of(const char *path) {
    struct stat st;
    cr_assert_eq(lstat(path, &st), 0);
    return st.st_mode & 07777;
}
static void expect_text(const char *part) {
    cr_assert(strstr(err.text, part) != NULL, "\"%s\" in \"%s\"", part, err.text);
}

/* ---- content ---- */

FS_TEST(fs, what_was_written_is_read_by_range) {
    kwr_file *file = NULL;
    size_t done = 77;
    KWR_MUST_ERR(fs->create(fs->ctx, root, "f", &file, &err), err);
    fs->write_back(fs->ctx, file);
    KWR_MUST(fs->write(fs->ctx, file, "", 0, &done, &err));
    cr_assert_eq(done, 0);
    for (int i = 0; i < 100; i++) {
        KWR_MUST_ERR(fs->write(fs->ctx, file, "0123456789", 10, &done, &err), err);
        cr_assert_eq(done, 10);
        if (i % 30 == 0) fs->write_back(fs->ctx, file);
    }
    KWR_MUST_ERR(fs->sync(fs->ctx, file, &err), err);
    KWR_MUST_ERR(fs->close(fs->ctx, file, &err), err);
    KWR_MUST_ERR(fs->sync_dir(fs->ctx, root, &err), err);

    kwr_file_info info;
    char data[20];
    KWR_MUST_ERR(fs->open(fs->ctx, root, "f", 0, &file, &info, &err), err);
    cr_assert_eq(info.size, 1000);
    cr_assert(info.modified_ms > 1577836800000);
    KWR_MUST(fs->read(fs->ctx, file, 995, data, sizeof data, &done, &err));
    cr_assert_eq(done, 5);
    cr_assert_arr_eq(data, "56789", 5);
    KWR_MUST(fs->read(fs->ctx, file, 1000, data, sizeof data, &done, &err));
    cr_assert_eq(done, 0, "the end");
    static const uint64_t far[] = { 1ULL << 40, INT64_MAX - 1, INT64_MAX, UINT64_MAX };
    for (int i = 0; i < 4; i++) {
        done = 77;
        KWR_MUST_ERR(fs->read(fs->ctx, file, far[i], data, sizeof data, &done, &err), err);
        cr_assert_eq(done, 0, "far behind the end");
    }
    KWR_MUST(fs->close(fs->ctx, file, &err));
    KWR_MUST(fs->close(fs->ctx, NULL, &err));
}

FS_TEST(fs, files_and_directories_belong_to_their_owner_alone) {
    const mode_t old = umask(0777); /* takes even what is the owner's */
    put(fs, root, "f", "x");
    kwr_dir *dir = NULL, *fresh = NULL;
    KWR_MUST_ERR(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err), err);
    KWR_MUST_ERR(fs->open_root(fs->ctx, below(path, "r"), KWR_FS_CREATE, &fresh, &err), err);
    umask(0);
    put(fs, root, "g", "x");
    umask(old);
    cr_assert_eq(mode_of(below(path, "f")), 0600);
    cr_assert_eq(mode_of(below(path, "g")), 0600);
    cr_assert_eq(mode_of(below(path, "d")), 0700);
    cr_assert_eq(mode_of(below(path, "r")), 0700);
    fs->close_dir(fs->ctx, dir);
    fs->close_dir(fs->ctx, fresh);
}

FS_TEST(fs, descriptors_do_not_leak_into_other_programs) {
    kwr_file *file = NULL;
    kwr_dir *dir = NULL;
    kwr_lock *lock = NULL;
    put(fs, root, "f", "x");
    KWR_MUST(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err));
    KWR_MUST(fs->open(fs->ctx, root, "f", 0, &file, NULL, &err));
    KWR_MUST(fs->lock(fs->ctx, root, "l", &lock, NULL, &err));
    size_t checked = 0;
    for (int fd = 3; fd < 256; fd++) {
        char link[300] = "", name[40];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        if (readlink(name, link, sizeof link - 1) < 0 || strstr(link, path) == NULL) continue;
        cr_assert((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "%s", link);
        checked++;
    }
    cr_assert_eq(checked, 4, "root, directory, file, lock");
    fs->unlock(fs->ctx, lock);
    KWR_MUST(fs->close(fs->ctx, file, &err));
    fs->close_dir(fs->ctx, dir);
}

/* ---- names ---- */

FS_TEST(name, what_is_not_one_component_is_refused_by_every_call) {
    static char long_name[257];
    memset(long_name, 'n', 256);
    const char *const bad[] = { NULL, "", ".", "..", "a/b", "/a", "a/", "../x", long_name };
    put(fs, root, "f", "x");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kwr_file *file = NULL;
        kwr_dir *dir = NULL;
        kwr_lock *lock = NULL;
        kwr_file_info info;
        KWR_EXPECT(KWR_ERR_RANGE, fs->create(fs->ctx, root, bad[i], &file, &err));
        expect_text(path);
        KWR_EXPECT(KWR_ERR_RANGE, fs->open(fs->ctx, root, bad[i], 0, &file, &info, &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->open_dir(fs->ctx, root, bad[i], KWR_FS_CREATE, &dir, &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->link(fs->ctx, root, bad[i], root, "g", &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->link(fs->ctx, root, "f", root, bad[i], &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->rename(fs->ctx, root, bad[i], root, "g", &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->rename(fs->ctx, root, "f", root, bad[i], &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->remove(fs->ctx, root, bad[i], &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->remove_dir(fs->ctx, root, bad[i], &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->info(fs->ctx, root, bad[i], &info, &err));
        KWR_EXPECT(KWR_ERR_RANGE, fs->lock(fs->ctx, root, bad[i], &lock, NULL, &err));
        cr_assert(file == NULL && dir == NULL && lock == NULL, "untouched");
    }
    expect_content(fs, root, "f", "x");
    long_name[255] = '\0';
    put(fs, root, long_name, "255 bytes are a name");
}

FS_TEST(name, a_taken_name_is_never_replaced) {
    put(fs, root, "a", "old");
    put(fs, root, "b", "other");
    kwr_file *file = NULL;
    KWR_EXPECT(KWR_ERR_EXISTS, fs->create(fs->ctx, root, "a", &file, &err));
    expect_text(below(path, "a"));
    KWR_EXPECT(KWR_ERR_EXISTS, fs->link(fs->ctx, root, "b", root, "a", &err));
    expect_text(below(path, "a"));
    expect_text(below(path, "b"));
    const kwr_status status = fs->rename(fs->ctx, root, "b", root, "a", &err);
    cr_assert(status == KWR_ERR_EXISTS || status == KWR_ERR_UNSUPPORTED, "%s", err.text);
    expect_content(fs, root, "a", "old");
    expect_content(fs, root, "b", "other");
    cr_assert_eq(symlink("nowhere", below(path, "dangling")), 0);
    KWR_EXPECT(KWR_ERR_EXISTS, fs->create(fs->ctx, root, "dangling", &file, &err));
    cr_assert(!exists(below(path, "nowhere")), "nor created through a link");
}

FS_TEST(name, links_and_renames_go_between_directories) {
    kwr_dir *dir = NULL;
    KWR_MUST(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err));
    put(fs, root, "a", "content");
    KWR_MUST_ERR(fs->link(fs->ctx, root, "a", dir, "b", &err), err);
    expect_content(fs, dir, "b", "content");
    KWR_MUST_ERR(fs->rename(fs->ctx, dir, "b", root, "c", &err), err);
    expect_content(fs, root, "c", "content");
    cr_assert(!exists(below(path, "d/b")));
    KWR_EXPECT(KWR_ERR_MISSING, fs->rename(fs->ctx, dir, "b", root, "x", &err));
    KWR_EXPECT(KWR_ERR_MISSING, fs->link(fs->ctx, dir, "b", root, "x", &err));
    fs->close_dir(fs->ctx, dir);
}

FS_TEST(name, a_missing_name_is_missing) {
    kwr_file *file = NULL;
    kwr_dir *dir = NULL;
    kwr_file_info info;
    KWR_EXPECT(KWR_ERR_MISSING, fs->open(fs->ctx, root, "no", 0, &file, NULL, &err));
    expect_text(below(path, "no"));
    expect_text("No such file");
    KWR_EXPECT(KWR_ERR_MISSING, fs->open_dir(fs->ctx, root, "no", 0, &dir, &err));
    expect_text(below(path, "no"));
    KWR_EXPECT(KWR_ERR_MISSING, fs->info(fs->ctx, root, "no", &info, &err));
    expect_text(below(path, "no"));
    KWR_EXPECT(KWR_ERR_MISSING, fs->remove(fs->ctx, root, "no", &err));
    expect_text(below(path, "no"));
    KWR_EXPECT(KWR_ERR_MISSING, fs->remove_dir(fs->ctx, root, "no", &err));
    KWR_EXPECT(KWR_ERR_MISSING, fs->open_root(fs->ctx, below(path, "no"), 0, &dir, &err));
    expect_text(below(path, "no"));
}

FS_TEST(name, info_tells_kinds_apart_and_follows_nothing) {
    kwr_file_info info;
    put(fs, root, "f", "12345");
    cr_assert_eq(mkdir(below(path, "d"), 0700), 0);
    cr_assert_eq(symlink("f", below(path, "s")), 0);
    KWR_MUST(fs->info(fs->ctx, root, "f", &info, &err));
    cr_assert(info.kind == KWR_FILE_REGULAR && info.size == 5);
    KWR_MUST(fs->info(fs->ctx, root, "d", &info, &err));
    cr_assert_eq(info.kind, KWR_FILE_DIRECTORY);
    KWR_MUST(fs->info(fs->ctx, root, "s", &info, &err));
    cr_assert_eq(info.kind, KWR_FILE_OTHER);
}

FS_TEST(name, only_the_right_kind_is_removed_and_only_empty_directories) {
    kwr_dir *dir = NULL;
    KWR_MUST(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err));
    put(fs, dir, "f", "x");
    cr_assert(fs->remove(fs->ctx, root, "d", &err) < KWR_OK, "a directory is not a file");
    KWR_EXPECT(KWR_ERR_IO, fs->remove_dir(fs->ctx, root, "d", &err));
    cr_assert(err.sys_errno == ENOTEMPTY || err.sys_errno == EEXIST);
    expect_text(below(path, "d"));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->remove_dir(fs->ctx, dir, "f", &err));
    expect_content(fs, dir, "f", "x");
    KWR_MUST(fs->remove(fs->ctx, dir, "f", &err));
    KWR_MUST(fs->remove_dir(fs->ctx, root, "d", &err));
    cr_assert(!exists(below(path, "d")));
    fs->close_dir(fs->ctx, dir);
}

/* ---- what is planted there ---- */

FS_TEST(planted, a_symbolic_link_is_refused_unless_asked_for) {
    put(fs, root, "real", "secret");
    cr_assert_eq(symlink("real", below(path, "s")), 0);
    cr_assert_eq(symlink(below(path, "real"), below(path, "absolute")), 0);
    cr_assert_eq(symlink(".", below(path, "ds")), 0);
    kwr_file *file = NULL;
    kwr_dir *dir = NULL;
    kwr_lock *lock = NULL;
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open(fs->ctx, root, "s", 0, &file, NULL, &err));
    expect_text(below(path, "s"));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_dir(fs->ctx, root, "ds", 0, &dir, &err));
    expect_text(below(path, "ds"));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_dir(fs->ctx, root, "ds", KWR_FS_CREATE, &dir, &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->lock(fs->ctx, root, "s", &lock, NULL, &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_root(fs->ctx, below(path, "ds"), 0, &dir, &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_root(fs->ctx, below(path, "ds///"), 0, &dir, &err));
    cr_assert(file == NULL && dir == NULL && lock == NULL);
    expect_content(fs, root, "real", "secret");

    static const char *const links[] = { "s", "absolute" };
    for (int i = 0; i < 2; i++) {
        kwr_file_info info;
        KWR_MUST_ERR(fs->open(fs->ctx, root, links[i], KWR_FS_FOLLOW, &file, &info, &err), err);
        cr_assert_eq(info.size, 6);
        KWR_MUST(fs->close(fs->ctx, file, &err));
    }
    KWR_MUST_ERR(fs->open_dir(fs->ctx, root, "ds", KWR_FS_FOLLOW, &dir, &err), err);
    fs->close_dir(fs->ctx, dir);
    KWR_MUST_ERR(fs->open_root(fs->ctx, below(path, "ds"), KWR_FS_FOLLOW, &dir, &err), err);
    fs->close_dir(fs->ctx, dir);
    KWR_MUST_ERR(fs->remove(fs->ctx, root, "s", &err), err);
    cr_assert(exists(below(path, "real")), "the link went, not what it leads to");
}

FS_TEST(planted, pipes_sockets_and_directories_are_no_files_and_nothing_waits, .timeout = 60) {
    kwr_file *file = NULL;
    kwr_lock *lock = NULL;
    kwr_dir *dir = NULL;
    cr_assert_eq(mkfifo(below(path, "fifo"), 0600), 0);
    cr_assert_eq(mkdir(below(path, "d"), 0700), 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    cr_assert((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", path) <
              sizeof address.sun_path);
    const int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(sock, (struct sockaddr *)&address, sizeof address), 0);
    static const char *const names[] = { "fifo", "socket", "d" };
    for (int i = 0; i < 3; i++) {
        for (unsigned flags = 0; flags <= KWR_FS_FOLLOW; flags += KWR_FS_FOLLOW) {
            KWR_EXPECT(KWR_ERR_MISMATCH,
                       fs->open(fs->ctx, root, names[i], flags, &file, NULL, &err));
            expect_text(below(path, names[i]));
        }
        cr_assert(fs->lock(fs->ctx, root, names[i], &lock, NULL, &err) < KWR_OK);
        if (i < 2)
            KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_dir(fs->ctx, root, names[i], 0, &dir, &err));
    }
    close(sock);
    cr_assert(file == NULL && lock == NULL && dir == NULL);
}

FS_TEST(planted, a_directory_moved_away_stays_the_one_that_was_opened) {
    kwr_dir *dir = NULL;
    KWR_MUST(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err));
    cr_assert_eq(rename(below(path, "d"), below(path, "moved")), 0);
    cr_assert_eq(symlink("/", below(path, "d")), 0);
    put(fs, dir, "f", "x");
    cr_assert(exists(below(path, "moved/f")));
    fs->close_dir(fs->ctx, dir);
}

/* ---- directories ---- */

FS_TEST(dir, opening_creates_only_when_asked_and_exclusively_when_asked) {
    kwr_dir *dir = NULL, *again = NULL;
    const unsigned fresh = KWR_FS_CREATE | KWR_FS_EXCLUSIVE;
    KWR_MUST_ERR(fs->open_dir(fs->ctx, root, "d", fresh, &dir, &err), err);
    cr_assert_str_eq(fs->path(fs->ctx, dir), below(path, "d"));
    KWR_EXPECT(KWR_ERR_EXISTS, fs->open_dir(fs->ctx, root, "d", fresh, &again, &err));
    expect_text(below(path, "d"));
    KWR_MUST_ERR(fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &again, &err), err);
    fs->close_dir(fs->ctx, again);
    KWR_EXPECT(KWR_ERR_EXISTS, fs->open_root(fs->ctx, path, fresh, &again, &err));
    KWR_MUST_ERR(fs->open_root(fs->ctx, below(path, "d//"), 0, &again, &err), err);
    cr_assert_str_eq(fs->path(fs->ctx, again), below(path, "d"), "without the slashes");
    fs->close_dir(fs->ctx, again);
    put(fs, root, "f", "x");
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_dir(fs->ctx, root, "f", 0, &again, &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_dir(fs->ctx, root, "f", KWR_FS_CREATE, &again, &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, fs->open_root(fs->ctx, below(path, "f"), 0, &again, &err));
    KWR_EXPECT(KWR_ERR_RANGE, fs->open_root(fs->ctx, "", 0, &again, &err));
    KWR_EXPECT(KWR_ERR_RANGE, fs->open_root(fs->ctx, NULL, 0, &again, &err));
    fs->close_dir(fs->ctx, dir);
    fs->close_dir(fs->ctx, NULL);
}

FS_TEST(dir, the_root_of_everything_has_a_path_without_double_slashes) {
    kwr_dir *top = NULL;
    kwr_file *file = NULL;
    KWR_MUST_ERR(fs->open_root(fs->ctx, "///", 0, &top, &err), err);
    cr_assert_str_eq(fs->path(fs->ctx, top), "/");
    KWR_EXPECT(KWR_ERR_MISSING, fs->open(fs->ctx, top, "no-such-file", 0, &file, NULL, &err));
    expect_text("'/no-such-file'");
    fs->close_dir(fs->ctx, top);
}

typedef struct seen {
    size_t count;
    size_t stop_at;
    bool numbers[2000];
} seen;

static kwr_status see(void *ctx, const char *name) {
    seen *s = ctx;
    unsigned number = 9999;
    cr_assert(sscanf(name, "file-with-a-rather-long-name-%u", &number) == 1, "%s", name);
    cr_assert(number < 2000 && !s->numbers[number], "each once: %s", name);
    s->numbers[number] = true;
    return ++s->count == s->stop_at ? KWR_ERR_DECLINED : KWR_OK;
}

FS_TEST(dir, a_listing_names_everything_once_and_stops_when_told) {
    for (int i = 0; i < 2000; i++) {
        char name[64];
        snprintf(name, sizeof name, "file-with-a-rather-long-name-%d", i);
        put(fs, root, name, "");
    }
    seen all = { 0 }, some = { .stop_at = 3 };
    KWR_MUST_ERR(fs->list(fs->ctx, root, see, &all, &err), err);
    cr_assert_eq(all.count, 2000);
    KWR_EXPECT(KWR_ERR_DECLINED, fs->list(fs->ctx, root, see, &some, &err));
    cr_assert_eq(some.count, 3);
}

static kwr_status remove_listed(void *ctx, const char *name) {
    void **both = ctx;
    const kwr_fs *fs = both[0];
    return fs->remove(fs->ctx, both[1], name, &err);
}

FS_TEST(dir, what_is_listed_may_be_removed_meanwhile) {
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "f%d", i);
        put(fs, root, name, "");
    }
    void *both[] = { (void *)(uintptr_t)fs, root };
    KWR_MUST_ERR(fs->list(fs->ctx, root, remove_listed, both, &err), err);
    seen none = { 0 };
    KWR_MUST(fs->list(fs->ctx, root, see, &none, &err));
    cr_assert_eq(none.count, 0);
}

/* ---- locks ---- */

FS_TEST(lock, a_second_holder_in_this_process_is_refused_and_told_so) {
    kwr_lock *first = NULL, *second = NULL;
    uint64_t holder = 0;
    KWR_MUST_ERR(fs->lock(fs->ctx, root, "lock", &first, &holder, &err), err);
    cr_assert_eq(holder, 0, "untouched");
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &second, &holder, &err));
    cr_assert_eq(holder, (uint64_t)getpid());
    expect_text(below(path, "lock"));
    expect_text("this process");
    cr_assert(second == NULL);
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &second, NULL, NULL));
    fs->unlock(fs->ctx, first);
    cr_assert(exists(below(path, "lock")), "never removed");
    KWR_MUST_ERR(fs->lock(fs->ctx, root, "lock", &second, NULL, &err), err);
    fs->unlock(fs->ctx, second);
    fs->unlock(fs->ctx, NULL);
}

FS_TEST(lock, a_lock_file_replaced_under_its_holder_is_another_lock) {
    kwr_lock *first = NULL, *second = NULL, *third = NULL;
    KWR_MUST(fs->lock(fs->ctx, root, "lock", &first, NULL, &err));
    cr_assert_eq(unlink(below(path, "lock")), 0);
    KWR_MUST(fs->lock(fs->ctx, root, "lock", &second, NULL, &err));
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &third, NULL, &err));
    fs->unlock(fs->ctx, first);
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &third, NULL, &err));
    fs->unlock(fs->ctx, second);
}

/* Takes the lock in a child that says so and then stays until it is killed. */
static pid_t hold_in_child(const kwr_fs *fs, kwr_dir *root) {
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        kwr_lock *lock = NULL;
        const bool held = fs->lock(fs->ctx, root, "lock", &lock, NULL, NULL) == KWR_OK;
        if (write(ready[1], held ? "y" : "n", 1) != 1) _exit(1);
        while (true)
            pause();
    }
    char answer = 0;
    cr_assert_eq(read(ready[0], &answer, 1), 1);
    cr_assert_eq(answer, 'y');
    close(ready[0]);
    close(ready[1]);
    return child;
}

FS_TEST(lock, the_pid_of_another_process_is_reported_until_it_is_killed, .timeout = 60) {
    const pid_t child = hold_in_child(fs, root);
    kwr_lock *lock = NULL;
    uint64_t holder = 0;
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &lock, &holder, &err));
    cr_assert_eq(holder, (uint64_t)child);
    char expected[64];
    snprintf(expected, sizeof expected, "process %d holds", (int)child);
    expect_text(expected);
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    KWR_MUST_ERR(fs->lock(fs->ctx, root, "lock", &lock, NULL, &err), err);
    fs->unlock(fs->ctx, lock);
}

FS_TEST(lock, without_a_readable_pid_the_holder_is_unknown) {
    kwr_lock *lock = NULL, *second = NULL;
    uint64_t holder = 7;
    KWR_MUST(fs->lock(fs->ctx, root, "lock", &lock, NULL, &err));
    kwr_test_write_file(below(path, "lock"), "rubbish", 7);
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, root, "lock", &second, &holder, &err));
    cr_assert_eq(holder, 0);
    expect_text("another process");
    fs->unlock(fs->ctx, lock);
}

/* ---- failures of the system ---- */

FS_TEST(failure, a_full_quota_is_no_space_and_names_the_file) {
    if (access("/dev/full", W_OK) != 0) cr_skip_test("no /dev/full");
    /* A file limit is the nearest thing to a full disk that needs no rights: EFBIG, not a signal.
     */
    struct rlimit old, tiny;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = (struct rlimit){ .rlim_cur = 100, .rlim_max = old.rlim_max };
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    kwr_file *file = NULL;
    size_t done = 0;
    char data[150] = { 0 };
    KWR_MUST(fs->create(fs->ctx, root, "f", &file, &err));
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    const kwr_status first = fs->write(fs->ctx, file, data, sizeof data, &done, &err);
    const size_t first_done = done;
    const kwr_status second = fs->write(fs->ctx, file, data, sizeof data, &done, &err);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, before);
    cr_assert(first == KWR_OK && first_done == 100, "a short write says how much it took");
    cr_assert_eq(second, KWR_ERR_IO);
    cr_assert_eq(err.sys_errno, EFBIG);
    expect_text(below(path, "f"));
    KWR_MUST(fs->close(fs->ctx, file, &err));
}

FS_TEST(failure, no_descriptors_left_is_an_error_everywhere_and_passes) {
    put(fs, root, "f", "x");
    struct rlimit old, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){ .rlim_cur = 0, .rlim_max = old.rlim_max };
    kwr_file *file = NULL;
    kwr_dir *dir = NULL;
    kwr_lock *lock = NULL;
    seen s = { 0 };
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    kwr_status got[7];
    got[0] = fs->open(fs->ctx, root, "f", 0, &file, NULL, &err);
    got[1] = fs->create(fs->ctx, root, "g", &file, &err);
    got[2] = fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err);
    got[3] = fs->open_root(fs->ctx, path, 0, &dir, &err);
    got[4] = fs->list(fs->ctx, root, see, &s, &err);
    got[5] = fs->sync_dir(fs->ctx, root, &err);
    got[6] = fs->lock(fs->ctx, root, "lock", &lock, NULL, &err);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 7; i++)
        cr_assert_eq(got[i], KWR_ERR_IO, "call %d", i);
    cr_assert_eq(err.sys_errno, EMFILE);
    cr_assert(file == NULL && dir == NULL && lock == NULL);
    expect_content(fs, root, "f", "x");
}

KWR_TEST(failure, every_allocation_of_the_file_system_may_fail) {
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        char path[300];
        snprintf(path, sizeof path, "%s/%llu", kwr_test_dir(), (unsigned long long)n);
        cr_assert_eq(mkdir(path, 0700), 0);
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        kwr_posix_fs *posix = kwr_posix_fs_open(fault_env_env(faults), false, false);
        if (posix != NULL) {
            const kwr_fs *fs = kwr_posix_fs_table(posix);
            kwr_dir *root = NULL, *dir = NULL;
            kwr_file *file = NULL;
            kwr_lock *lock = NULL;
            seen s = { 0 };
            kwr_status status = fs->open_root(fs->ctx, path, 0, &root, &err);
            if (status == KWR_OK) status = fs->lock(fs->ctx, root, "l", &lock, NULL, &err);
            if (status == KWR_OK) {
                fs->unlock(fs->ctx, lock);
                status = fs->open_dir(fs->ctx, root, "d", KWR_FS_CREATE, &dir, &err);
            }
            if (status == KWR_OK) status = fs->list(fs->ctx, dir, see, &s, &err);
            if (status == KWR_OK) status = fs->create(fs->ctx, dir, "f", &file, &err);
            if (status == KWR_OK) {
                KWR_MUST(fs->close(fs->ctx, file, &err));
                status = fs->open(fs->ctx, dir, "f", 0, &file, NULL, &err);
                if (status == KWR_OK) KWR_MUST(fs->close(fs->ctx, file, &err));
            }
            cr_assert_eq(status, fault_env_fired(faults) > 0 ? KWR_ERR_NOMEM : KWR_OK, "%s",
                         fault_env_fired_text(faults));
            fs->close_dir(fs->ctx, dir);
            fs->close_dir(fs->ctx, root);
            kwr_posix_fs_close(posix);
        }
        const bool fired = fault_env_fired(faults) > 0;
        fault_env_close(faults);
        if (!fired) {
            cr_assert(n >= 6);
            break;
        }
    }
}
