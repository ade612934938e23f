/* SPDX-License-Identifier: Apache-2.0 */
/* The line source: every line and position whatever the block size, seeking, limits, identity. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "examples/engine/lines.h"
#include "examples/engine/source_file.h"
#include "tests/support/kwr_test.h"

static const char *make_input(const char *name, const void *data, size_t size) {
    const char *path = kwr_test_path(name);
    kwr_test_write_file(path, data, size);
    return path;
}

static eng_lines *lines_of(const char *path, size_t block, size_t line_max) {
    const eng_lines_options options = {
        .env = kwr_test_env(),
        .path = path,
        .block_bytes = block,
        .line_bytes_max = line_max,
    };
    eng_lines *lines = NULL;
    kwr_error err;
    KWR_MUST_ERR(eng_lines_open(&options, &lines, &err), err);
    return lines;
}

/* Reads from `start` on and compares with a plain split of `data`. */
static void expect_lines(eng_lines *lines, const char *data, size_t size, size_t start) {
    eng_lines_seek(lines, start, size);
    kwr_error err;
    kwr_slice line;
    for (size_t at = start; at < size;) {
        const char *lf = memchr(data + at, '\n', size - at);
        const size_t length = lf != NULL ? (size_t)(lf - (data + at)) : size - at;
        cr_assert(eng_lines_position(lines) == at);
        KWR_MUST_ERR(eng_lines_next(lines, &line, &err), err);
        cr_assert(line.size == length, "at %zu: %zu bytes, not %zu", at, line.size, length);
        cr_assert(length == 0 || memcmp(line.data, data + at, length) == 0);
        at += length + (lf != NULL ? 1 : 0);
    }
    cr_assert(eng_lines_position(lines) == size);
    KWR_EXPECT(KWR_NOT_FOUND, eng_lines_next(lines, &line, &err));
    KWR_EXPECT(KWR_NOT_FOUND, eng_lines_next(lines, &line, &err));
}

KWR_TEST(lines, are_the_same_whatever_the_block_size) {
    static const char data[] = "first line\nsecond\r\n\n\n\0nul\0 in it\na rather long line that "
                               "crosses several blocks\n  \t\nlast without end";
    const char *path = make_input("in", data, sizeof data - 1);
    for (size_t block = 1; block <= sizeof data + 1; block++) {
        eng_lines *lines = lines_of(path, block, 1000);
        expect_lines(lines, data, sizeof data - 1, 0);
        eng_lines_close(lines);
    }
}

KWR_TEST(lines, reading_goes_on_from_every_position) {
    static const char data[] = "a\nbb\n\nccc ccc\nd";
    const char *path = make_input("in", data, sizeof data - 1);
    for (size_t block = 1; block <= 5; block++) {
        eng_lines *lines = lines_of(path, block, 100);
        for (size_t start = 0; start <= sizeof data - 1; start++) {
            expect_lines(lines, data, sizeof data - 1, start);
        }
        eng_lines_close(lines);
    }
}

KWR_TEST(lines, an_empty_file_has_none) {
    const char *path = make_input("in", "", 0);
    eng_lines *lines = lines_of(path, 0, 0);
    cr_assert(eng_lines_size(lines) == 0);
    expect_lines(lines, "", 0, 0);
    eng_lines_close(lines);
}

KWR_TEST(lines, beyond_the_given_end_nothing_is_read) {
    const char *path = make_input("in", "one\ntwo\nthree\n", 14);
    for (size_t block = 1; block < 16; block++) {
        eng_lines *lines = lines_of(path, block, 100);
        expect_lines(lines, "one\ntw", 6, 0);
        eng_lines_close(lines);
    }
}

KWR_TEST(lines, a_line_of_the_maximum_passes_and_a_longer_one_names_file_and_offset) {
    enum { MAX = 40 };
    for (size_t block = 1; block < 2 * MAX; block += 3) {
        for (int end = 0; end < 2; end++) {
            char data[4 + MAX + 3];
            memset(data, 'x', sizeof data);
            memcpy(data, "ab\n", 3);
            data[3 + MAX] = '\n';
            const size_t size = 3 + MAX + (end == 0 ? 1 : 0);
            const char *path = make_input("in", data, size);
            eng_lines *lines = lines_of(path, block, MAX);
            expect_lines(lines, data, size, 0);
            eng_lines_close(lines);
            /* One byte more. */
            data[3 + MAX] = 'x';
            data[3 + MAX + 1] = '\n';
            path = make_input("in", data, size + 1);
            lines = lines_of(path, block, MAX);
            kwr_slice line;
            kwr_error err;
            KWR_MUST_ERR(eng_lines_next(lines, &line, &err), err);
            KWR_EXPECT(KWR_ERR_RANGE, eng_lines_next(lines, &line, &err));
            cr_assert(strstr(err.text, path) != NULL && strstr(err.text, "offset 3:") != NULL, "%s",
                      err.text);
            eng_lines_close(lines);
        }
    }
}

KWR_TEST(lines, a_file_cut_short_while_it_is_read_is_refused_by_name) {
    const char *path = make_input("in", "one\ntwo\nthree\n", 14);
    eng_lines *lines = lines_of(path, 4, 100);
    kwr_slice line;
    kwr_error err;
    KWR_MUST_ERR(eng_lines_next(lines, &line, &err), err);
    cr_assert(truncate(path, 6) == 0);
    kwr_status status = KWR_OK;
    while (status == KWR_OK)
        status = eng_lines_next(lines, &line, &err);
    KWR_EXPECT(KWR_ERR_REFUSED, status);
    cr_assert(strstr(err.text, path) != NULL && strstr(err.text, "shrunk") != NULL, "%s", err.text);
    eng_lines_close(lines);
}

static kwr_status try_open(const char *path, kwr_error *err) {
    const eng_lines_options options = { .env = kwr_test_env(), .path = path };
    eng_lines *lines = NULL;
    const kwr_status status = eng_lines_open(&options, &lines, err);
    if (status == KWR_OK) eng_lines_close(lines);
    return status;
}

KWR_TEST(lines, only_regular_files_and_links_to_them_are_inputs) {
    kwr_error err;
    const char *path = make_input("in", "x\n", 2);
    const char *link = kwr_test_path("link");
    cr_assert(symlink(path, link) == 0);
    KWR_MUST_ERR(try_open(link, &err), err);
    const char *dir = kwr_test_path("dir");
    cr_assert(mkdir(dir, 0700) == 0);
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open(dir, &err));
    cr_assert(strstr(err.text, dir) != NULL, "%s", err.text);
    const char *fifo = kwr_test_path("fifo");
    cr_assert(mkfifo(fifo, 0600) == 0);
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open(fifo, &err));
    const char *missing = kwr_test_path("missing");
    KWR_EXPECT(KWR_ERR_MISSING, try_open(missing, &err));
    cr_assert(strstr(err.text, missing) != NULL, "%s", err.text);
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open("", &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open("/", &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open("..", &err));
    KWR_EXPECT(KWR_ERR_MISMATCH, try_open(kwr_test_path("in/"), &err));
}

KWR_TEST(lines, a_name_without_a_directory_is_looked_up_where_we_are) {
    make_input("plain", "x\n", 2);
    cr_assert(chdir(kwr_test_dir()) == 0);
    kwr_error err;
    KWR_MUST_ERR(try_open("plain", &err), err);
    cr_assert(chdir("/") == 0);
}

KWR_TEST(lines, the_head_tells_files_apart) {
    char first[33];
    char second[33];
    kwr_error err;
    eng_lines *lines = lines_of(make_input("in", "hello world", 11), 4, 0);
    KWR_MUST_ERR(eng_lines_head(lines, 5, first, &err), err);
    KWR_MUST_ERR(eng_lines_head(lines, 11, second, &err), err);
    cr_assert(strcmp(first, second) != 0);
    /* As xxhsum -H2 prints it. */
    cr_assert_str_eq(first, "b5e9c1ad071b3e7fc779cfaa5e523818");
    KWR_MUST_ERR(eng_lines_head(lines, 0, second, &err), err);
    cr_assert_str_eq(second, "99aa06d3014798d86001c324468d497f");
    KWR_EXPECT(KWR_ERR_REFUSED, eng_lines_head(lines, 12, second, &err));
    eng_lines_close(lines);
}

/* ---- identity ---- */

static const char head[] = "0123456789abcdef0123456789abcdef";

KWR_TEST(identity, is_readable_and_round_trips_for_any_path) {
    static const char *const paths[] = { "a.txt", "/x/y z", "quote\"back\\slash",
                                         "\xff\xc3\xa9\n" };
    for (size_t i = 0; i < 4; i++) {
        char *text = eng_source_identity(paths[i], UINT64_MAX, head);
        cr_assert(text != NULL);
        uint64_t size = 0;
        char found[33];
        kwr_error err;
        KWR_MUST_ERR(eng_source_identity_parse(kwr_test_slice(text), paths[i], &size, found, &err),
                     err);
        cr_assert(size == UINT64_MAX && strcmp(found, head) == 0);
        KWR_EXPECT(KWR_ERR_REFUSED,
                   eng_source_identity_parse(kwr_test_slice(text), "other", &size, found, &err));
        /* Neither a beginning of a path nor a longer one is the same. */
        char longer[64];
        snprintf(longer, sizeof longer, "%sx", paths[i]);
        KWR_EXPECT(KWR_ERR_REFUSED,
                   eng_source_identity_parse(kwr_test_slice(text), longer, &size, found, &err));
        free(text);
    }
    char *text = eng_source_identity("a\"b", 12, head);
    cr_assert_str_eq(text, "{\"path\":\"a\\u0022b\",\"size\":12,\"head\":"
                           "\"0123456789abcdef0123456789abcdef\"}");
    free(text);
}

KWR_TEST(identity, every_cut_or_addition_is_seen) {
    char *text = eng_source_identity("a", 12, head);
    uint64_t size = 0;
    char found[33];
    kwr_error err;
    for (size_t cut = 0; cut < strlen(text); cut++) {
        const kwr_status status =
            eng_source_identity_parse((kwr_slice){ text, cut }, "a", &size, found, &err);
        cr_assert(status == KWR_ERR_CORRUPT || status == KWR_ERR_REFUSED, "cut at %zu", cut);
    }
    char longer[128];
    snprintf(longer, sizeof longer, "%s ", text);
    KWR_EXPECT(KWR_ERR_CORRUPT,
               eng_source_identity_parse(kwr_test_slice(longer), "a", &size, found, &err));
    free(text);
}
