/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole runs in this process: the reference engine with threads, channels, checkpoints and files,
 * under an environment that fails at every call once. Whatever happened to a run, the next one
 * finds its way, and in the end every count was committed exactly once.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "examples/wordcount_job.h"
#include "tests/support/fault_env.h"
#include "tests/support/kwr_test.h"

/* Every call in the plain build; a sample in the slow ones. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE = 4 };
#else
enum { STRIDE = 1 };
#endif
enum { WORDS = 7, LINES = 40, OCCURRENCES_MAX = 400 };

typedef struct setup {
    char inputs[2][600];
    char output[600];
    char checkpoints[600];
    const char *input_list[2];
    wc_options options;
} setup;

static void remove_files(void) {
    kwr_test_remove_tree(kwr_test_path("out"));
    kwr_test_remove_tree(kwr_test_path("ck"));
}

/* Two inputs of LINES lines; word i is "w<i>". */
static void setup_init(setup *s) {
    for (int file = 0; file < 2; file++) {
        char text[LINES * 32];
        size_t size = 0;
        for (int line = 0; line < LINES; line++) {
            size += (size_t)snprintf(text + size, sizeof text - size, "w%d w%d\tw%d\n",
                                     (line + file) % WORDS, line % 3, line % 2);
        }
        snprintf(s->inputs[file], sizeof s->inputs[file], "%s/in%d", kwr_test_dir(), file);
        kwr_test_write_file(s->inputs[file], text, size);
        s->input_list[file] = s->inputs[file];
    }
    snprintf(s->output, sizeof s->output, "%s", kwr_test_path("out"));
    snprintf(s->checkpoints, sizeof s->checkpoints, "%s", kwr_test_path("ck"));
    s->options = (wc_options){
        .inputs = s->input_list,
        .input_count = 2,
        .output = s->output,
        .checkpoints = s->checkpoints,
        .root = s->checkpoints,
        .job = "job",
        .parallelism = 2,
        .max_parallelism = 16,
        .interval_ms = 8,
        .retain = 2,
        .rate = 2000,
        .seed = 1,
        .seed_given = true,
        .quiet = true,
    };
}

static kwr_status run(const kwr_env *env, const setup *s, wc_end *end, kwr_error *err) {
    *err = (kwr_error){ .status = KWR_OK };
    return wc_job_run(env, &s->options, end, err);
}

/* ---- what was committed ---- */

typedef struct part_tally {
    bool seen[WORDS][OCCURRENCES_MAX];
    int lines;
} part_tally;

static void tally_part(part_tally *tally, const char *name) {
    char path[300];
    snprintf(path, sizeof path, "out/%s", name);
    size_t size = 0;
    char *data = kwr_test_read_file(kwr_test_path(path), &size);
    cr_assert(size > 0 && data[size - 1] == '\n', "%s is empty or torn", name);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(data + at, '\n', size - at);
        int word = -1;
        int count = -1;
        int used = 0;
        char line[64] = "";
        const size_t length = (size_t)(end - (data + at));
        cr_assert(length < sizeof line);
        memcpy(line, data + at, length);
        const int fields = sscanf(line, "w%d\t%d%n", &word, &count, &used);
        cr_assert(fields == 2 && (size_t)used == length && word >= 0 && word < WORDS && count > 0 &&
                      count < OCCURRENCES_MAX,
                  "%s holds '%s'", name, line);
        cr_assert(!tally->seen[word][count], "%s is there twice", line);
        tally->seen[word][count] = true;
        tally->lines++;
        at += length + 1;
    }
    free(data);
}

static void expect_exactly_once(const char *after) {
    part_tally tally = { .lines = 0 };
    DIR *dir = opendir(kwr_test_path("out"));
    cr_assert(dir != NULL);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        cr_assert(strncmp(entry->d_name, ".pending-", 9) != 0, "after %.160s: %s is left", after,
                  entry->d_name);
        if (strncmp(entry->d_name, "part-", 5) == 0) tally_part(&tally, entry->d_name);
    }
    closedir(dir);
    int expected[WORDS] = { 0 };
    for (int file = 0; file < 2; file++) {
        for (int line = 0; line < LINES; line++) {
            expected[(line + file) % WORDS]++;
            expected[line % 3]++;
            expected[line % 2]++;
        }
    }
    for (int word = 0; word < WORDS; word++) {
        for (int count = 1; count < OCCURRENCES_MAX; count++) {
            cr_assert(tally.seen[word][count] == (count <= expected[word]),
                      "after %.160s: w%d %d %s", after, word, count,
                      tally.seen[word][count] ? "is too much" : "is missing");
        }
    }
    cr_assert(tally.lines == 2 * LINES * 3);
}

/* ---- runs ---- */

KWR_TEST(job, counts_once_and_says_so_again) {
    setup s;
    setup_init(&s);
    kwr_error err;
    wc_end end;
    KWR_MUST_ERR(run(kwr_test_env(), &s, &end, &err), err);
    cr_assert(end.finished && end.checkpoint > 0);
    expect_exactly_once("one run");
    wc_end again;
    KWR_MUST_ERR(run(kwr_test_env(), &s, &again, &err), err);
    cr_assert(again.finished && again.checkpoint == end.checkpoint);
    expect_exactly_once("two runs");
}

KWR_TEST(job, more_sources_and_tasks_than_processors_work_together) {
    setup s;
    setup_init(&s);
    s.options.parallelism = 16;
    s.options.rate = 0;
    kwr_error err;
    wc_end end;
    KWR_MUST_ERR(run(kwr_test_env(), &s, &end, &err), err);
    expect_exactly_once("one run");
}

KWR_TEST(job, a_failure_of_one_task_ends_all_of_them_with_its_reason) {
    setup s;
    setup_init(&s);
    /* The other source has enough to fill every channel, and nothing ends it. */
    enum { BYTES = 8 * 1024 * 1024 };
    char *data = malloc(BYTES);
    cr_assert(data != NULL);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = i % 8 == 7 ? '\n' : 'a';
    kwr_test_write_file(s.inputs[0], data, BYTES);
    memset(data, 'b', 2 * 1024 * 1024);
    kwr_test_write_file(s.inputs[1], data, 2 * 1024 * 1024);
    free(data);
    s.options.rate = 0;
    kwr_error err;
    wc_end end;
    KWR_EXPECT(KWR_ERR_RANGE, run(kwr_test_env(), &s, &end, &err));
    cr_assert(strstr(err.text, s.inputs[1]) != NULL && strstr(err.text, "word") != NULL, "%s",
              err.text);
}

KWR_TEST(job, a_second_one_in_the_same_process_is_kept_out_too) {
    setup s;
    setup_init(&s);
    const kwr_fs *fs = kwr_test_env()->fs;
    cr_assert(mkdir(s.output, 0700) == 0);
    kwr_dir *dir = NULL;
    kwr_lock *lock = NULL;
    kwr_error err;
    KWR_MUST(fs->open_root(fs->ctx, s.output, 0, &dir, &err));
    KWR_MUST(fs->lock(fs->ctx, dir, ".keyweir.lock", &lock, NULL, &err));
    wc_end end;
    KWR_EXPECT(KWR_ERR_LOCKED, run(kwr_test_env(), &s, &end, &err));
    cr_assert(strstr(err.text, s.output) != NULL, "%s", err.text);
    fs->unlock(fs->ctx, lock);
    fs->close_dir(fs->ctx, dir);
}

/* ---- faults ---- */

/* What a run may end with when one call failed: nothing, or a reason to look at the storage. */
static bool is_excused(kwr_status status) {
    return status == KWR_OK || status == KWR_ERR_IO || status == KWR_ERR_NOSPACE ||
           status == KWR_ERR_UNKNOWN || status == KWR_ERR_POISONED || status == KWR_ERR_EXISTS ||
           status == KWR_ERR_BUSY;
}

/* Calls that only write a checkpoint or output: after one of these fails the job goes on. */
static bool must_go_on(fault_kind kind, const char *call) {
    static const char *const calls[] = { "create ", "write ",  "sync ",
                                         "close ",  "rename ", "remove " };
    const bool once = kind == FAULT_EIO || kind == FAULT_ENOSPC || kind == FAULT_SHORT_WRITE ||
                      kind == FAULT_APPLIED;
    const bool file = strstr(call, "/chk-") != NULL || strstr(call, ".kwp") != NULL ||
                      strstr(call, ".pending-") != NULL;
    for (size_t i = 0; once && file && i < sizeof calls / sizeof calls[0]; i++) {
        if (strncmp(call, calls[i], strlen(calls[i])) == 0) return true;
    }
    return false;
}

enum { ALL_CALLS = 200 };

static void fail_every_call(fault_kind kind, uint64_t stride) {
    setup s;
    setup_init(&s);
    /* A dead file system fails all further tries, each later by the interval and more. */
    if (kind == FAULT_KILL || kind == FAULT_KILL_AFTER) s.options.interval_ms = 2;
    uint64_t fired = 0;
    uint64_t went_on = 0;
    /* The slower the machine, the more checkpoints and calls a run has: of those behind the first
     * two hundred, which every run has, ever fewer are tried. */
    for (uint64_t n = 0;; n += n < ALL_CALLS ? stride : stride + n / 10) {
        remove_files();
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_fs(faults, kind, n, FAULT_ONCE);
        kwr_error err;
        wc_end end;
        const kwr_status first = run(fault_env_env(faults), &s, &end, &err);
        const bool hit = fault_env_fired(faults) > 0;
        char after[1600];
        snprintf(after, sizeof after, "call %llu: %.400s, and %s (%.800s)", (unsigned long long)n,
                 fault_env_fired_text(faults), kwr_status_name(first), err.text);
        /* Told here in full: messages of assertions must be short. */
        const bool goes_on = must_go_on(kind, fault_env_fired_text(faults));
        const bool good =
            is_excused(first) && (!goes_on || first == KWR_OK || first == KWR_ERR_BUSY);
        if (!good) fprintf(stderr, "%s\n", after);
        cr_assert(is_excused(first), "call %llu ended the run with %s", (unsigned long long)n,
                  kwr_status_name(first));
        /* On a slow machine the next checkpoints may come too soon for the last one's writer. */
        cr_assert(good, "call %llu: the job did not go on", (unsigned long long)n);
        went_on += goes_on;
        fault_env_clear(faults);
        fault_env_close(faults);
        const kwr_status second = run(kwr_test_env(), &s, &end, &err);
        if (second != KWR_OK) fprintf(stderr, "after %s: %s\n", after, err.text);
        cr_assert(second == KWR_OK && end.finished, "call %llu: the next run ended with %s",
                  (unsigned long long)n, kwr_status_name(second));
        expect_exactly_once(after);
        if (!hit) break;
        fired++;
    }
    cr_assert(fired * stride > 3, "only %llu calls failed", (unsigned long long)fired);
    cr_assert(went_on * stride > 3 || !must_go_on(kind, "write .pending-"));
}

KWR_TEST(job_faults, any_one_call_that_fails_loses_and_doubles_nothing, .timeout = 500) {
    fail_every_call(FAULT_EIO, STRIDE);
}
KWR_TEST(job_faults, a_full_disk_at_any_call_loses_and_doubles_nothing, .timeout = 500) {
    fail_every_call(FAULT_ENOSPC, STRIDE);
}
KWR_TEST(job_faults, short_writes_lose_and_double_nothing, .timeout = 500) {
    fail_every_call(FAULT_SHORT_WRITE, STRIDE);
}
KWR_TEST(job_faults, calls_that_work_and_report_failure_lose_and_double_nothing, .timeout = 500) {
    fail_every_call(FAULT_APPLIED, STRIDE);
}
KWR_TEST(job_faults, syncs_that_lose_content_lose_and_double_nothing, .timeout = 500) {
    fail_every_call(FAULT_LOST_SYNC, STRIDE);
}
KWR_TEST(job_faults, a_kill_before_any_call_loses_and_doubles_nothing, .timeout = 500) {
    fail_every_call(FAULT_KILL, STRIDE);
}
KWR_TEST(job_faults, a_kill_after_any_call_loses_and_doubles_nothing, .timeout = 500) {
    fail_every_call(FAULT_KILL_AFTER, STRIDE);
}
