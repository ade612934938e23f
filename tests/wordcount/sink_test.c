/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two-phase file sink: what is pre-committed, what an aborted checkpoint leaves, and every
 * fault at every call. A checkpoint is completed here when the test notes its committable: the
 * notes stand for the commit log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "examples/engine/sink_file.h"
#include "tests/support/fault_env.h"
#include "tests/support/kwr_test.h"

enum { NOTES_MAX = 16 };

/* What completed checkpoints carry, by their own account. */
typedef struct attempt_notes {
    eng_committable items[NOTES_MAX];
    size_t count;   /* pre-committed */
    size_t carried; /* of these: in a completed checkpoint */
    uint32_t lines; /* written before the last completed one */
} attempt_notes;

static eng_sink *sink_of(const eng_output_dir *output, uint64_t generation, uint64_t next) {
    const eng_sink_options options = {
        .output = output,
        .job = "job",
        .subtask = 2,
        .generation = generation,
        .next_checkpoint = next,
        .buffer_bytes = 64,
    };
    eng_sink *sink = NULL;
    kwr_error err;
    KWR_MUST_ERR(eng_sink_new(&options, &sink, &err), err);
    return sink;
}

static kwr_status write_lines(eng_sink *sink, uint32_t *next, uint32_t count, kwr_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        char line[32];
        const int size = snprintf(line, sizeof line, "line\t%u\n", (*next)++);
        const kwr_status status = eng_sink_write(sink, line, (size_t)size, err);
        if (status < KWR_OK) return status;
    }
    return KWR_OK;
}

static eng_output_dir output_in(const kwr_env *env) {
    eng_output_dir output;
    kwr_error err;
    KWR_MUST_ERR(eng_output_open(env, kwr_test_path("out"), &output, &err), err);
    return output;
}

static const char *in_output(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "out/%s", name);
    return kwr_test_path(path);
}

static bool exists(const char *name) { return access(in_output(name), F_OK) == 0; }

/* Adds the lines of a part to those seen: they must go on where the last part ended. */
static void read_part(const char *part, uint32_t *next) {
    size_t size = 0;
    char *data = kwr_test_read_file(in_output(part), &size);
    for (size_t at = 0; at < size;) {
        char line[32];
        const int length = snprintf(line, sizeof line, "line\t%u\n", (*next)++);
        cr_assert(size - at >= (size_t)length && memcmp(data + at, line, (size_t)length) == 0,
                  "%s: line %u is missing", part, *next - 1);
        at += (size_t)length;
    }
    free(data);
}

/* All parts together hold lines 0 .. count-1 in order. */
static void expect_lines(uint64_t last, uint32_t count) {
    uint32_t next = 0;
    for (uint64_t checkpoint = 0; checkpoint <= last; checkpoint++) {
        char part[ENG_PART_TEXT];
        eng_part_name(checkpoint, 2, part);
        if (exists(part)) read_part(part, &next);
    }
    cr_assert(next == count, "%u lines are committed, not %u", next, count);
}

/* ---- without faults ---- */

KWR_TEST(sink, output_waits_in_a_pending_file_until_the_commit) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 3, 1);
    kwr_error err;
    uint32_t next = 0;
    KWR_MUST_ERR(write_lines(sink, &next, 20, &err), err);
    cr_assert(exists(".pending-job-3-1-2") && !exists("part-1-2"));
    eng_committable made;
    KWR_MUST_ERR(eng_sink_precommit(sink, 1, &made, &err), err);
    eng_sink_sealed(sink);
    cr_assert_str_eq(made.pending, ".pending-job-3-1-2");
    cr_assert_str_eq(made.part, "part-1-2");
    cr_assert(exists(made.pending) && !exists(made.part));
    KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
    expect_lines(1, 20);
    eng_sink_free(sink);
    eng_output_close(&output);
}

KWR_TEST(sink, without_output_there_is_neither_file_nor_committable) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 3, 1);
    kwr_error err;
    eng_committable made;
    KWR_EXPECT(KWR_NOT_FOUND, eng_sink_precommit(sink, 1, &made, &err));
    KWR_EXPECT(KWR_NOT_FOUND, eng_sink_precommit(sink, 2, &made, &err));
    cr_assert(!exists(".pending-job-3-1-2") && !exists(".pending-job-3-2-2"));
    uint32_t next = 0;
    KWR_MUST_ERR(write_lines(sink, &next, 1, &err), err);
    KWR_MUST_ERR(eng_sink_precommit(sink, 3, &made, &err), err);
    cr_assert_str_eq(made.pending, ".pending-job-3-3-2");
    eng_sink_sealed(sink);
    eng_sink_free(sink);
    eng_output_close(&output);
}

KWR_TEST(sink, a_file_begun_for_a_checkpoint_that_never_came_is_renamed) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 3, 5);
    kwr_error err;
    uint32_t next = 0;
    KWR_MUST_ERR(write_lines(sink, &next, 20, &err), err);
    cr_assert(exists(".pending-job-3-5-2"));
    eng_committable made;
    KWR_MUST_ERR(eng_sink_precommit(sink, 8, &made, &err), err);
    cr_assert_str_eq(made.pending, ".pending-job-3-8-2");
    cr_assert_str_eq(made.part, "part-8-2");
    cr_assert(exists(made.pending) && !exists(".pending-job-3-5-2"));
    eng_sink_sealed(sink);
    eng_sink_free(sink);
    eng_output_close(&output);
}

/* A rename that takes effect and reports a failure, and then the file cannot be looked for. */
static struct {
    const kwr_fs *real;
    int renames, looks; /* that fail */
} unlucky;

static kwr_status unlucky_rename(void *ctx, kwr_dir *from_dir, const char *from, kwr_dir *to_dir,
                                 const char *to, kwr_error *err) {
    const kwr_status status = unlucky.real->rename(ctx, from_dir, from, to_dir, to, err);
    if (status < KWR_OK || unlucky.renames == 0) return status;
    unlucky.renames--;
    return KWR_ERR_IO;
}

static kwr_status unlucky_info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                               kwr_error *err) {
    if (unlucky.looks == 0) return unlucky.real->info(ctx, dir, name, out, err);
    unlucky.looks--;
    return KWR_ERR_IO;
}

KWR_TEST(sink, a_file_renamed_in_doubt_is_found_again) {
    for (int looks = 0; looks < 4; looks++) {
        eng_output_dir output = output_in(kwr_test_env());
        kwr_fs fs = *output.fs;
        unlucky.real = output.fs;
        fs.rename = unlucky_rename;
        fs.info = unlucky_info;
        output.fs = &fs;
        eng_sink *sink = sink_of(&output, 3, 5);
        kwr_error err;
        uint32_t next = 0;
        KWR_MUST_ERR(write_lines(sink, &next, 20, &err), err);
        unlucky.renames = 1;
        unlucky.looks = looks;
        eng_committable made;
        uint64_t checkpoint = 8;
        int failures = 0;
        while (eng_sink_precommit(sink, checkpoint, &made, &err) < KWR_OK) {
            checkpoint++;
            cr_assert(++failures <= looks, "%s", err.text);
        }
        cr_assert(failures == looks);
        cr_assert(exists(made.pending) && !exists(".pending-job-3-5-2"));
        eng_sink_sealed(sink);
        KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
        expect_lines(checkpoint, 20);
        cr_assert(unlink(in_output(made.part)) == 0);
        eng_sink_free(sink);
        output.fs = unlucky.real;
        eng_output_close(&output);
    }
}

KWR_TEST(sink, output_of_an_aborted_checkpoint_is_committed_with_the_next) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 1, 1);
    kwr_error err;
    uint32_t next = 0;
    eng_committable first;
    eng_committable second;
    KWR_MUST_ERR(write_lines(sink, &next, 7, &err), err);
    KWR_MUST_ERR(eng_sink_precommit(sink, 1, &first, &err), err);
    eng_sink_sealed(sink);
    /* Checkpoint 1 fails somewhere else: its committable is carried by checkpoint 2. */
    KWR_MUST_ERR(write_lines(sink, &next, 7, &err), err);
    KWR_MUST_ERR(eng_sink_precommit(sink, 2, &second, &err), err);
    eng_sink_sealed(sink);
    KWR_MUST_ERR(eng_output_commit(&output, &first, &err), err);
    KWR_MUST_ERR(eng_output_commit(&output, &second, &err), err);
    expect_lines(2, 14);
    eng_sink_free(sink);
    eng_output_close(&output);
}

KWR_TEST(sink, a_precommit_not_taken_over_is_continued) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 1, 1);
    kwr_error err;
    uint32_t next = 0;
    eng_committable made;
    KWR_MUST_ERR(write_lines(sink, &next, 3, &err), err);
    KWR_MUST_ERR(eng_sink_precommit(sink, 1, &made, &err), err);
    /* The task could not take it: no eng_sink_sealed(). */
    KWR_MUST_ERR(write_lines(sink, &next, 3, &err), err);
    KWR_MUST_ERR(eng_sink_precommit(sink, 2, &made, &err), err);
    eng_sink_sealed(sink);
    KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
    cr_assert(!exists(".pending-job-1-1-2"));
    expect_lines(2, 6);
    eng_sink_free(sink);
    eng_output_close(&output);
}

KWR_TEST(sink, what_belongs_to_no_checkpoint_goes_with_the_sink) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 1, 1);
    kwr_error err;
    uint32_t next = 0;
    KWR_MUST_ERR(write_lines(sink, &next, 20, &err), err);
    cr_assert(exists(".pending-job-1-1-2"));
    eng_sink_free(sink);
    cr_assert(!exists(".pending-job-1-1-2"));
    eng_output_close(&output);
}

KWR_TEST(sink, a_line_larger_than_the_buffer_passes) {
    eng_output_dir output = output_in(kwr_test_env());
    eng_sink *sink = sink_of(&output, 1, 1);
    kwr_error err;
    char line[1000];
    memset(line, 'x', sizeof line);
    KWR_MUST_ERR(eng_sink_write(sink, line, sizeof line, &err), err);
    eng_committable made;
    KWR_MUST_ERR(eng_sink_precommit(sink, 1, &made, &err), err);
    eng_sink_sealed(sink);
    cr_assert(made.length == sizeof line);
    KWR_MUST_ERR(eng_output_commit(&output, &made, &err), err);
    eng_sink_free(sink);
    eng_output_close(&output);
}

/* ---- with faults ---- */

/* Commits what completed checkpoints carry, in order; what fails is carried on. */
static kwr_status commit_notes(const eng_output_dir *output, const attempt_notes *notes,
                               kwr_error *err) {
    for (size_t i = 0; i < notes->carried; i++) {
        const kwr_status status = eng_output_commit(output, &notes->items[i], err);
        if (status < KWR_OK) return status;
    }
    return eng_output_sync(output, err);
}

static bool goes_on(kwr_status status) { return kwr_status_action(status) == KWR_RETRY; }

/*
 * Four checkpoints with output in between. A pre-commit or commit that fails in a way to retry is
 * passed over, as the engine does it; anything else ends the attempt: false.
 */
static bool run_attempt(const kwr_env *env, attempt_notes *notes) {
    eng_output_dir output;
    kwr_error err;
    if (eng_output_open(env, kwr_test_path("out"), &output, &err) < KWR_OK) return false;
    eng_sink *sink = sink_of(&output, 1, 1);
    uint32_t next = 0;
    bool alive = true;
    for (uint64_t checkpoint = 1; checkpoint <= 4 && alive; checkpoint++) {
        alive = write_lines(sink, &next, 12, &err) >= KWR_OK;
        if (!alive) break;
        eng_committable made;
        kwr_status status = eng_sink_precommit(sink, checkpoint, &made, &err);
        if (status < KWR_OK) {
            alive = goes_on(status);
            continue;
        }
        if (status == KWR_OK) {
            notes->items[notes->count++] = made;
            eng_sink_sealed(sink);
        }
        notes->carried = notes->count;
        notes->lines = next;
        status = commit_notes(&output, notes, &err);
        alive = status >= KWR_OK || goes_on(status);
    }
    eng_sink_free(sink);
    eng_output_close(&output);
    return alive;
}

/* The next start: commits again, then sweeps. All completed output is there, and nothing else. */
static void expect_recovery(const attempt_notes *notes, const char *fault) {
    eng_output_dir output = output_in(kwr_test_env());
    kwr_error err;
    for (int i = 0; i < 2; i++) {
        const kwr_status status = commit_notes(&output, notes, &err);
        cr_assert(status == KWR_OK, "after %s: %s", fault, err.text);
        uint64_t count = 0;
        KWR_MUST_ERR(eng_output_sweep(&output, "job", 2, &count, &err), err);
    }
    expect_lines(4, notes->lines);
    eng_output_close(&output);
    char command[400];
    snprintf(command, sizeof command, "test -z \"$(find '%s' -name '.pending-*')\"",
             kwr_test_path("out"));
    cr_assert(system(command) == 0, "pending files are left after %s", fault);
}

/* Fails every call once, one after the other. `ends` tells whether the attempt may end by it. */
static void fail_every_call(fault_kind kind, bool may_end) {
    uint64_t fired = 0;
    for (uint64_t n = 0;; n++) {
        kwr_test_remove_tree(kwr_test_path("out"));
        cr_assert(mkdir(kwr_test_path("out"), 0700) == 0);
        fault_env *faults = fault_env_open(kwr_test_env(), 0);
        fault_env_fail_fs(faults, kind, n, FAULT_ONCE);
        attempt_notes notes = { .count = 0 };
        const bool alive = run_attempt(fault_env_env(faults), &notes);
        const bool hit = fault_env_fired(faults) > 0;
        char text[512];
        snprintf(text, sizeof text, "%s", fault_env_fired_text(faults));
        fault_env_clear(faults);
        fault_env_close(faults);
        expect_recovery(&notes, text);
        if (hit && !may_end) {
            /* The first call opens the directory: that may fail for good. */
            cr_assert(alive || strstr(text, "open_root") != NULL, "%s ended the attempt", text);
        }
        if (!hit) {
            cr_assert(alive && notes.lines == 48);
            break;
        }
        fired++;
    }
    cr_assert(fired >= 4, "the faults found only %llu calls", (unsigned long long)fired);
}

KWR_TEST(sink_faults, one_failed_call_loses_nothing_and_the_sink_goes_on) {
    fail_every_call(FAULT_EIO, false);
}
KWR_TEST(sink_faults, a_disk_full_for_a_moment_loses_nothing_and_the_sink_goes_on) {
    fail_every_call(FAULT_ENOSPC, false);
}
KWR_TEST(sink_faults, short_writes_lose_nothing) { fail_every_call(FAULT_SHORT_WRITE, false); }
KWR_TEST(sink_faults, a_call_that_worked_but_reports_a_failure_loses_nothing) {
    fail_every_call(FAULT_APPLIED, false);
}
KWR_TEST(sink_faults, content_lost_by_a_failed_sync_is_noticed_and_ends_the_attempt) {
    fail_every_call(FAULT_LOST_SYNC, true);
}
KWR_TEST(sink_faults, a_kill_before_any_call_is_recovered_from) {
    fail_every_call(FAULT_KILL, true);
}
KWR_TEST(sink_faults, a_kill_after_any_call_is_recovered_from) {
    fail_every_call(FAULT_KILL_AFTER, true);
}

KWR_TEST(sink_faults, a_disk_that_stays_full_ends_the_attempt_when_the_room_in_memory_is_used) {
    fault_env *faults = fault_env_open(kwr_test_env(), 0);
    eng_output_dir output = output_in(fault_env_env(faults));
    eng_sink *sink = sink_of(&output, 1, 1);
    fault_env_fail_fs(faults, FAULT_ENOSPC, 0, FAULT_ALWAYS);
    kwr_error err;
    uint32_t next = 0;
    const kwr_status status = write_lines(sink, &next, 100000, &err);
    KWR_EXPECT(KWR_ERR_NOSPACE, status);
    cr_assert(next > 50 && next < 1000, "it gave up after %u lines", next);
    cr_assert(strstr(err.text, ".pending-job-1-1-2") != NULL, "%s", err.text);
    eng_sink_free(sink);
    eng_output_close(&output);
    fault_env_close(faults);
}
