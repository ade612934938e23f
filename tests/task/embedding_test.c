/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program of docs/embedding.md as a reader would use it: killed in the middle, started again,
 * its counts are those of a run that was never disturbed. And the page shows that very program.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/kwr_test.h"

enum { TEXT_MAX = 8192 };

typedef struct outcome {
    int status; /* of waitpid */
    char out[TEXT_MAX];
    char err[TEXT_MAX];
} outcome;

static void read_text(const char *path, char out[TEXT_MAX]) {
    size_t size = 0;
    char *bytes = kwr_test_read_file(path, &size);
    cr_assert(size < TEXT_MAX, "%s is long", path);
    memcpy(out, bytes, size);
    out[size] = '\0';
    free(bytes);
}

static outcome run(const char *die_after) {
    static const char command[] = EMBEDDING_PROGRAM;
    outcome o = { 0 };
    char line[4096];
    const int n =
        snprintf(line, sizeof line, "exec '%s' '%s' %s %s >'%s' 2>'%s'", command,
                 kwr_test_path("checkpoints"), die_after != NULL ? "--die-after" : "",
                 die_after != NULL ? die_after : "", kwr_test_path("out"), kwr_test_path("err"));
    cr_assert(n > 0 && (size_t)n < sizeof line, "paths are short");
    const pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    cr_assert(pid > 0 && waitpid(pid, &o.status, 0) == pid, "run");
    read_text(kwr_test_path("out"), o.out);
    read_text(kwr_test_path("err"), o.err);
    return o;
}

static void expect_counts(const outcome *o) {
    char want[TEXT_MAX] = "";
    for (int digit = 0; digit < 10; digit++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "%d\t100000\n", digit);
    cr_assert(WIFEXITED(o->status) && WEXITSTATUS(o->status) == 0, "status %d: %s", o->status,
              o->err);
    cr_assert_str_eq(o->out, want);
}

/* "from checkpoint N, number M" */
static void restored(const outcome *o, unsigned long long *checkpoint, unsigned long long *number) {
    const char *line = strstr(o->err, "from checkpoint ");
    cr_assert(line != NULL &&
                  sscanf(line, "from checkpoint %llu, number %llu", checkpoint, number) == 2,
              "%s", o->err);
}

KWR_TEST(embedding, killed_in_the_middle_it_goes_on_and_counts_every_number_once, .timeout = 300) {
    unsigned long long checkpoint = 0, number = 0;
    const outcome first = run("500000");
    cr_assert(WIFSIGNALED(first.status) && WTERMSIG(first.status) == SIGKILL, "killed: %s",
              first.err);
    restored(&first, &checkpoint, &number);
    cr_assert(checkpoint == 0 && number == 0, "the first run starts at the beginning");
    cr_assert_str_eq(first.out, "");

    const outcome second = run(NULL);
    restored(&second, &checkpoint, &number);
    cr_assert(checkpoint > 0 && number > 0 && number <= 500000,
              "the second run goes on from checkpoint %llu at %llu", checkpoint, number);
    expect_counts(&second);

    const outcome third = run(NULL);
    restored(&third, &checkpoint, &number);
    cr_assert(number == 1000000, "nothing is left to do");
    expect_counts(&third);
}

KWR_TEST(embedding, the_page_shows_the_program_that_is_tested) {
    size_t page_size = 0, program_size = 0;
    char *page = kwr_test_read_file(SOURCE_ROOT "/docs/embedding.md", &page_size);
    char *program = kwr_test_read_file(SOURCE_ROOT "/examples/embedding.c", &program_size);
    static const char open[] = "```c\n", end[] = "```\n";
    const char *start = memmem(page, page_size, open, sizeof open - 1);
    cr_assert(start != NULL, "the page has a program");
    start += sizeof open - 1;
    const size_t left = page_size - (size_t)(start - page);
    cr_assert(left > program_size && memcmp(start, program, program_size) == 0,
              "docs/embedding.md and examples/embedding.c differ");
    cr_assert(left >= program_size + sizeof end - 1 &&
                  memcmp(start + program_size, end, sizeof end - 1) == 0,
              "the page shows all of it and no more");
    free(page);
    free(program);
}
