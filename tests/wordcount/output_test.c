/* SPDX-License-Identifier: Apache-2.0 */
/* The output directory: names, tokens, commits that can be repeated, sweeping, rolling back. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "examples/engine/output_dir.h"
#include "tests/support/kwr_test.h"

/* ---- names ---- */

KWR_TEST(names, of_parts_round_trip_and_nothing_else_is_one) {
    char name[ENG_PART_TEXT];
    eng_part_name(UINT64_MAX, UINT32_MAX, name);
    cr_assert_str_eq(name, "part-18446744073709551615-4294967295");
    uint64_t checkpoint = 0;
    uint32_t subtask = 0;
    cr_assert(eng_part_parse(name, &checkpoint, &subtask));
    cr_assert(checkpoint == UINT64_MAX && subtask == UINT32_MAX);
    static const char *const bad[] = { "part-1",
                                       "part-1-",
                                       "part--1",
                                       "part-01-1",
                                       "part-1-01",
                                       "part-1-4294967296",
                                       "part-18446744073709551616-0",
                                       "xpart-1-1",
                                       "part-1-1x",
                                       "part-a-1",
                                       "part-1-1-1",
                                       "part",
                                       "",
                                       "-1-1",
                                       "part-+1-1",
                                       "Part-1-1",
                                       ".part-1-1" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(!eng_part_parse(bad[i], &checkpoint, &subtask), "%s", bad[i]);
    }
}

KWR_TEST(names, of_pending_files_carry_job_generation_checkpoint_and_subtask) {
    char name[ENG_PENDING_TEXT];
    char job[ENG_JOB_BYTES_MAX + 1];
    uint64_t generation = 0;
    uint64_t checkpoint = 0;
    uint32_t subtask = 0;
    /* A job may look like numbers, too. */
    static const char *const jobs[] = { "wordcount", "a-1-2-3", "x-", "1" };
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        eng_pending_name(jobs[i], 7, 8, 9, name);
        cr_assert(eng_pending_parse(name, job, &generation, &checkpoint, &subtask), "%s", name);
        cr_assert_str_eq(job, jobs[i]);
        cr_assert(generation == 7 && checkpoint == 8 && subtask == 9);
    }
    char long_job[ENG_JOB_BYTES_MAX + 1];
    memset(long_job, 'j', ENG_JOB_BYTES_MAX);
    long_job[ENG_JOB_BYTES_MAX] = '\0';
    eng_pending_name(long_job, UINT64_MAX, UINT64_MAX, UINT32_MAX, name);
    cr_assert(eng_pending_parse(name, job, &generation, &checkpoint, &subtask));
    cr_assert_str_eq(job, long_job);
    static const char *const bad[] = { ".pending-1-2-3",    ".pending--1-2-3", ".pending-j-1-2",
                                       ".pending-j-01-2-3", "pending-j-1-2-3", ".pending-j-1-2-3x",
                                       ".pending-j-1-2-" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(!eng_pending_parse(bad[i], job, &generation, &checkpoint, &subtask), "%s",
                  bad[i]);
    }
}

/* ---- tokens ---- */

static eng_committable committable_of(const void *data, size_t size, uint64_t checkpoint) {
    eng_committable made = { .length = size };
    eng_pending_name("job", 3, checkpoint, 0, made.pending);
    eng_part_name(checkpoint, 0, made.part);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
    for (size_t i = 0; i < 16; i++) {
        snprintf(made.digest + 2 * i, 3, "%02x", canonical.digest[i]);
    }
    return made;
}

KWR_TEST(tokens, are_readable_and_round_trip) {
    const eng_committable made = committable_of("abc", 3, 12);
    char text[ENG_TOKEN_TEXT];
    const size_t size = eng_token_text(&made, text);
    cr_assert(size == strlen(text));
    cr_assert(strstr(text, "{\"pending\":\".pending-job-3-12-0\",\"part\":\"part-12-0\","
                           "\"length\":3,\"digest\":\"") == text);
    eng_committable read;
    kwr_error err;
    KWR_MUST_ERR(eng_token_parse(kwr_test_slice(text), &read, &err), err);
    cr_assert_str_eq(read.pending, made.pending);
    cr_assert_str_eq(read.part, made.part);
    cr_assert_str_eq(read.digest, made.digest);
    cr_assert(read.length == 3);
}

KWR_TEST(tokens, with_anything_changed_in_their_form_are_refused) {
    const eng_committable made = committable_of("abc", 3, 12);
    char text[ENG_TOKEN_TEXT];
    const size_t size = eng_token_text(&made, text);
    eng_committable read;
    kwr_error err;
    for (size_t cut = 0; cut < size; cut++) {
        KWR_EXPECT(KWR_ERR_CORRUPT, eng_token_parse((kwr_slice){ text, cut }, &read, &err));
    }
    text[size] = ' ';
    KWR_EXPECT(KWR_ERR_CORRUPT, eng_token_parse((kwr_slice){ text, size + 1 }, &read, &err));
    static const char *const bad[] = {
        /* names that lead elsewhere, or do not belong together */
        "{\"pending\":\"../x\",\"part\":\"part-12-0\",\"length\":3,\"digest\":\"",
        "{\"pending\":\".pending-a/b-3-12-0\",\"part\":\"part-12-0\",\"length\":3,\"digest\":\"",
        "{\"pending\":\".pending-j-3-12-0\",\"part\":\"part-13-0\",\"length\":3,\"digest\":\"",
        "{\"pending\":\".pending-j-3-12-0\",\"part\":\"part-12-1\",\"length\":3,\"digest\":\"",
        "{\"pending\":\".pending-j-3-12-0\",\"part\":\"x/part-12-0\",\"length\":3,\"digest\":\"",
        "{\"pending\":\".pending-j-3-12-0\",\"part\":\"part-12-0\",\"length\":-3,\"digest\":\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char whole[ENG_TOKEN_TEXT];
        snprintf(whole, sizeof whole, "%s%s\"}", bad[i], made.digest);
        KWR_EXPECT(KWR_ERR_CORRUPT, eng_token_parse(kwr_test_slice(whole), &read, &err));
    }
}

/* ---- directory ---- */

static eng_output_dir output_of(void) {
    eng_output_dir output;
    kwr_error err;
    KWR_MUST_ERR(eng_output_open(kwr_test_env(), kwr_test_path("out"), &output, &err), err);
    return output;
}

static const char *in_output(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "out/%s", name);
    return kwr_test_path(path);
}

static bool exists(const char *name) { return access(in_output(name), F_OK) == 0; }

static void write_output(const char *name, const char *text) {
    kwr_test_write_file(in_output(name), text, strlen(text));
}

KWR_TEST(output, a_commit_makes_the_part_once_and_can_be_repeated) {
    eng_output_dir output = output_of();
    kwr_error err;
    const eng_committable made = committable_of("a\t1\n", 4, 5);
    write_output(made.pending, "a\t1\n");
    for (int i = 0; i < 3; i++) {
        KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
        KWR_MUST_ERR(eng_output_sync(&output, &err), err);
        cr_assert(exists("part-5-0") && !exists(made.pending));
    }
    eng_output_close(&output);
}

KWR_TEST(output, an_interrupted_move_by_a_second_name_is_finished) {
    eng_output_dir output = output_of();
    kwr_error err;
    const eng_committable made = committable_of("a\t1\n", 4, 5);
    write_output(made.pending, "a\t1\n");
    write_output(made.part, "a\t1\n");
    KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
    cr_assert(exists("part-5-0") && !exists(made.pending));
    eng_output_close(&output);
}

KWR_TEST(output, neither_pending_nor_committed_is_named) {
    eng_output_dir output = output_of();
    kwr_error err;
    const eng_committable made = committable_of("a\t1\n", 4, 5);
    KWR_EXPECT(KWR_ERR_MISSING, eng_output_commit(&output, &made, &err));
    cr_assert(strstr(err.text, "part-5-0") != NULL && strstr(err.text, made.pending) != NULL, "%s",
              err.text);
    eng_output_close(&output);
}

KWR_TEST(output, a_pending_file_or_part_that_differs_is_named_and_left_alone) {
    eng_output_dir output = output_of();
    kwr_error err;
    const eng_committable made = committable_of("a\t1\n", 4, 5);
    static const char *const bad[] = { "a\t1", "a\t1\nb", "a\t2\n", "" };
    for (size_t i = 0; i < 4; i++) {
        write_output(made.pending, bad[i]);
        KWR_EXPECT(KWR_ERR_CORRUPT, eng_output_commit(&output, &made, &err));
        cr_assert(strstr(err.text, made.pending) != NULL, "%s", err.text);
        cr_assert(exists(made.pending) && !exists(made.part));
        cr_assert(unlink(in_output(made.pending)) == 0);
        write_output(made.part, bad[i]);
        KWR_EXPECT(KWR_ERR_CORRUPT, eng_output_commit(&output, &made, &err));
        cr_assert(strstr(err.text, "part-5-0") != NULL, "%s", err.text);
        cr_assert(unlink(in_output(made.part)) == 0);
    }
    /* A part of other content is not replaced by a good pending file. */
    write_output(made.pending, "a\t1\n");
    write_output(made.part, "other");
    KWR_EXPECT(KWR_ERR_CORRUPT, eng_output_commit(&output, &made, &err));
    cr_assert(exists(made.pending));
    cr_assert(unlink(in_output(made.part)) == 0);
    cr_assert(mkdir(in_output(made.part), 0700) == 0);
    KWR_EXPECT(KWR_ERR_CORRUPT, eng_output_commit(&output, &made, &err));
    eng_output_close(&output);
}

KWR_TEST(output, parts_are_found_by_their_prefix) {
    eng_output_dir output = output_of();
    kwr_error err;
    eng_parts parts;
    write_output(".pending-job-1-9-0", "");
    write_output("apart-1-0", "");
    KWR_MUST_ERR(eng_output_parts(&output, &parts, &err), err);
    cr_assert(parts.count == 0 && parts.highest == 0);
    write_output("part-3-0", "");
    write_output("part-12-1", "");
    write_output("part-foreign", "");
    KWR_MUST_ERR(eng_output_parts(&output, &parts, &err), err);
    cr_assert(parts.count == 3 && parts.highest == 12);
    cr_assert_str_eq(parts.highest_name, "part-12-1");
    eng_output_close(&output);
}

KWR_TEST(output, sweeping_takes_this_jobs_lower_generations_only) {
    eng_output_dir output = output_of();
    kwr_error err;
    static const char *const gone[] = { ".pending-job-1-9-0", ".pending-job-4-12-3" };
    static const char *const stay[] = { ".pending-job-5-12-3",  ".pending-job-6-1-0",
                                        ".pending-other-1-9-0", ".pending-job-x-1-9-0",
                                        ".pending-job-1-9",     "part-1-0",
                                        ".keyweir.lock" };
    for (size_t i = 0; i < 2; i++)
        write_output(gone[i], "x");
    for (size_t i = 0; i < 7; i++)
        write_output(stay[i], "x");
    uint64_t count = 0;
    KWR_MUST_ERR(eng_output_sweep(&output, "job", 5, &count, &err), err);
    cr_assert(count == 2);
    for (size_t i = 0; i < 2; i++)
        cr_assert(!exists(gone[i]));
    for (size_t i = 0; i < 7; i++)
        cr_assert(exists(stay[i]), "%s", stay[i]);
    KWR_MUST_ERR(eng_output_sweep(&output, "job", 5, &count, &err), err);
    cr_assert(count == 0);
    eng_output_close(&output);
}

KWR_TEST(output, rolling_back_moves_the_parts_above_the_base_aside) {
    eng_output_dir output = output_of();
    kwr_error err;
    static const char *const parts[] = { "part-1-0", "part-5-0", "part-5-1", "part-6-0",
                                         "part-7-1", "part-8-0", "part-x" };
    for (size_t i = 0; i < 7; i++)
        write_output(parts[i], parts[i]);
    uint64_t count = 99;
    KWR_MUST_ERR(eng_output_roll_back(&output, 5, 7, 3, &count, &err), err);
    cr_assert(count == 2);
    cr_assert(exists("rolled-back-5-3/part-6-0") && exists("rolled-back-5-3/part-7-1"));
    cr_assert(!exists("part-6-0") && !exists("part-7-1"));
    cr_assert(exists("part-1-0") && exists("part-5-0") && exists("part-5-1") &&
              exists("part-8-0") && exists("part-x"));
    /* Again, as after a crash in between: the rest follows, to a directory of its own. */
    write_output("part-6-1", "late");
    KWR_MUST_ERR(eng_output_roll_back(&output, 5, 7, 4, &count, &err), err);
    cr_assert(count == 1 && exists("rolled-back-5-4/part-6-1"));
    KWR_MUST_ERR(eng_output_roll_back(&output, 5, 7, 5, &count, &err), err);
    cr_assert(count == 0 && !exists("rolled-back-5-5"));
    eng_output_close(&output);
}
