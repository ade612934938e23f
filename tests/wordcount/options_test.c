/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: forms, defaults, ranges, and that a refusal is a usage error. */
#include <string.h>

#include "examples/wordcount_options.h"
#include "tests/support/kwr_test.h"

enum { ARGS_MAX = 24 };

/* Parses the arguments behind a complete command line, or alone when the first is "-". */
static wc_parsed parse(wc_options *out, const char *const *more) {
    static const char *const base[] = { "wordcount", "--input",       "in", "--output",
                                        "out",       "--checkpoints", "ck" };
    const char *args[ARGS_MAX];
    int count = 0;
    args[count++] = "wordcount";
    if (more[0] != NULL && strcmp(more[0], "-") == 0) {
        more++;
    } else {
        for (size_t i = 1; i < sizeof base / sizeof base[0]; i++)
            args[count++] = base[i];
    }
    for (; *more != NULL; more++)
        args[count++] = *more;
    return wc_options_parse(count, (char **)(uintptr_t)args, out);
}

#define PARSE(out, ...) parse(out, (const char *const[]){ __VA_ARGS__, NULL })

static void expect_usage(const char *const *more) {
    wc_options options;
    cr_assert(parse(&options, more) == WC_PARSED_USAGE, "%s %s was taken", more[0],
              more[1] != NULL ? more[1] : "");
    wc_options_done(&options);
}
#define USAGE(...) expect_usage((const char *const[]){ __VA_ARGS__, NULL })

KWR_TEST(options, have_the_documented_defaults) {
    wc_options options;
    cr_assert(parse(&options, (const char *const[]){ NULL }) == WC_PARSED);
    cr_assert(options.input_count == 1 && strcmp(options.inputs[0], "in") == 0);
    cr_assert(options.parallelism == 2 && options.max_parallelism == 0);
    cr_assert(options.interval_ms == 1000 && options.retain == 2 && options.rate == 0);
    cr_assert_str_eq(options.job, "wordcount");
    cr_assert(options.restore == WC_RESTORE_AUTO && !options.quiet && !options.no_lock);
    cr_assert(!options.seed_given && !options.inline_given && options.events == NULL);
    wc_options_done(&options);
}

KWR_TEST(options, take_values_in_both_forms) {
    wc_options options;
    cr_assert(PARSE(&options, "--input=second", "--parallelism", "3", "--max-parallelism=7",
                    "--interval-ms=0", "--job=j-1", "--quiet", "--rate=10", "--write-rate=7",
                    "--seed", "18446744073709551615", "--inline-bytes=0",
                    "--events=e=f") == WC_PARSED);
    cr_assert(options.input_count == 2 && strcmp(options.inputs[1], "second") == 0);
    cr_assert(options.parallelism == 3 && options.max_parallelism == 7);
    cr_assert(options.interval_ms == 0 && options.rate == 10 && options.quiet);
    cr_assert(options.write_rate == 7);
    cr_assert(options.seed_given && options.seed == UINT64_MAX);
    cr_assert(options.inline_given && options.inline_bytes == 0);
    cr_assert_str_eq(options.events, "e=f");
    wc_options_done(&options);
}

KWR_TEST(options, the_checkpoint_root_is_a_path_or_a_file_uri) {
    static const char *const forms[][2] = {
        { "ck", "ck" },       { "/a/b", "/a/b" },     { "file:/a", "/a" },   { "file:///a", "/a" },
        { "./a:b", "./a:b" }, { "/x:y/z", "/x:y/z" }, { "file:rel", "rel" },
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        wc_options options;
        cr_assert(PARSE(&options, "--checkpoints", forms[i][0]) == WC_PARSED, "%s", forms[i][0]);
        cr_assert_str_eq(options.root, forms[i][1]);
        wc_options_done(&options);
    }
    USAGE("--checkpoints", "memory:");
    USAGE("--checkpoints", "hdfs:x");
    USAGE("--checkpoints", "file:");
    USAGE("--checkpoints", "");
}

KWR_TEST(options, a_checkpoint_to_restore_is_an_id_or_a_directory) {
    wc_options options;
    cr_assert(PARSE(&options, "--restore", "12") == WC_PARSED);
    cr_assert(options.restore == WC_RESTORE_CHECKPOINT && options.restore_checkpoint == 12 &&
              options.restore_generation == 0 && options.restore_parent == NULL);
    wc_options_done(&options);
    cr_assert(PARSE(&options, "--restore", "file:///c/job/chk-4-2/") == WC_PARSED);
    cr_assert(options.restore_checkpoint == 4 && options.restore_generation == 2);
    cr_assert_str_eq(options.restore_parent, "/c/job/");
    wc_options_done(&options);
    cr_assert(PARSE(&options, "--restore=chk-4-2", "--restore", "none") == WC_PARSED);
    cr_assert(options.restore == WC_RESTORE_NONE && options.restore_parent == NULL);
    wc_options_done(&options);
    cr_assert(PARSE(&options, "--restore", "lazy") == WC_PARSED);
    cr_assert(options.restore == WC_RESTORE_AUTO && options.lazy);
    wc_options_done(&options);
    cr_assert(PARSE(&options, "--restore", "lazy", "--restore", "auto") == WC_PARSED);
    cr_assert(!options.lazy);
    wc_options_done(&options);
    USAGE("--restore", "0");
    USAGE("--restore", "newest");
    USAGE("--restore", "/c/job/chk-4");
    USAGE("--restore", "/c/job/chk-4-x");
    USAGE("--restore", "/c/job/chk--1");
    USAGE("--restore", "");
}

KWR_TEST(options, numbers_are_read_strictly_and_within_their_range) {
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1.5", "ten", "18446744073709551616", "99999999999"
    };
    static const char *const names[] = { "--parallelism", "--max-parallelism", "--interval-ms",
                                         "--retain", "--rate" };
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
            USAGE(names[n], bad[i]);
    }
    USAGE("--parallelism", "0");
    USAGE("--max-parallelism", "0");
    USAGE("--max-parallelism", "32769");
    USAGE("--retain", "0");
    USAGE("--seed", "18446744073709551616");
}

KWR_TEST(options, more_tasks_than_key_groups_are_a_usage_error) {
    USAGE("--parallelism", "5", "--max-parallelism", "4");
    wc_options options;
    cr_assert(PARSE(&options, "--parallelism", "4", "--max-parallelism", "4") == WC_PARSED);
    wc_options_done(&options);
}

KWR_TEST(options, job_names_follow_their_grammar) {
    USAGE("--job", "");
    USAGE("--job", ".hidden");
    USAGE("--job", "a/b");
    USAGE("--job", "a b");
    USAGE("--job", "\xc3\xa4");
    char name[102];
    memset(name, 'a', sizeof name);
    name[101] = '\0';
    USAGE("--job", name);
    name[100] = '\0';
    wc_options options;
    cr_assert(PARSE(&options, "--job", name) == WC_PARSED);
    wc_options_done(&options);
}

KWR_TEST(options, what_is_missing_or_unknown_is_a_usage_error) {
    USAGE("-", "--output", "o", "--checkpoints", "c");
    USAGE("-", "--input", "i", "--checkpoints", "c");
    USAGE("-", "--input", "i", "--output", "o");
    USAGE("-", "--input");
    USAGE("--parallelism");
    USAGE("--frobnicate");
    USAGE("--inp", "x");
    USAGE("-i", "x");
    USAGE("file");
    USAGE("--quiet=yes");
    USAGE("--input", "");
    USAGE("--output=");
}
