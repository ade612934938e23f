/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the tests of a program one after the other in one process and closes with the line that
 * Criterion closes with. Whatever goes wrong, a test that did not pass is counted as failing and
 * the exit code is not 0; no test at all is a failure as well.
 */
#include <criterion/criterion.h>

#include <fnmatch.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
    plain_test *tests;
    plain_test **end;
    const plain_test *current;
    pthread_t thread; /* of the current test */
    jmp_buf leave;
    bool failed;
    bool skipped;
    unsigned tested, passing, failing, crashing;
} runner;

void plain_register(plain_test *test) {
    if (runner.end == NULL) runner.end = &runner.tests;
    *runner.end = test;
    runner.end = &test->next;
}

static void print_closing_line(void) {
    fflush(stdout);
    fprintf(stderr, "[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: %u \n",
            runner.tested, runner.passing, runner.failing, runner.crashing);
    fflush(stderr);
}

/* The current test cannot be left in an orderly way: it fails, and nothing more is run. */
static void give_up(void) {
    runner.failing++;
    print_closing_line();
    _exit(1);
}

void plain_failed(bool fatal, const char *file, int line, const char *what, const char *format,
                  ...) {
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, "[----] %s:%d: Assertion Failed\n[----]   %s%s%s\n", file, line, what,
            message[1] == '\0' ? "" : ":", message);
    if (!pthread_equal(runner.thread, pthread_self())) give_up();
    runner.failed = true;
    if (fatal) longjmp(runner.leave, 1);
}

void plain_skip(const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, "[SKIP] %s::%s:%s\n", runner.current->suite, runner.current->name, message);
    runner.skipped = true;
    longjmp(runner.leave, 1);
}

void plain_log(const char *level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "[%s] ", level);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static const plain_options *suite_options(const char *suite) {
    for (const plain_test *t = runner.tests; t != NULL; t = t->next) {
        if (t->body == NULL && strcmp(t->suite, suite) == 0) return &t->options;
    }
    static const plain_options none;
    return &none;
}

/* Apart from setjmp(), so that none of its variables lives across a jump. */
__attribute__((noinline)) static void run_steps(const plain_test *test) {
    const plain_options *suite = suite_options(test->suite);
    if (suite->init != NULL) suite->init();
    if (test->options.init != NULL) test->options.init();
    test->body();
    if (test->options.fini != NULL) test->options.fini();
    if (suite->fini != NULL) suite->fini();
}

/* A thread that ends the program when the test takes too long. (ThreadSanitizer holds signals back
 * from code that only computes, so an alarm would not do.) */
typedef struct watch {
    const plain_test *test;
    double seconds;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool over;
} watch;

static void *keep_watch(void *arg) {
    watch *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)w->seconds + 1;
    pthread_mutex_lock(&w->mutex);
    while (!w->over) {
        if (pthread_cond_timedwait(&w->ended, &w->mutex, &until) != ETIMEDOUT || w->over) continue;
        fprintf(stderr, "[----] %s::%s: timed out\n", w->test->suite, w->test->name);
        give_up();
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void watch_begin(watch *w) {
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->ended, NULL);
    if (pthread_create(&w->thread, NULL, keep_watch, w) != 0) w->seconds = 0;
}

static void watch_end(watch *w) {
    pthread_mutex_lock(&w->mutex);
    w->over = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->ended);
}

static void run_caught(const plain_test *test) {
    if (setjmp(runner.leave) == 0) run_steps(test);
}

static void run_body(const plain_test *test) {
    watch w = { .test = test, .seconds = test->options.timeout };
    if (w.seconds <= 0) w.seconds = suite_options(test->suite)->timeout;
    if (w.seconds > 0) watch_begin(&w);
    run_caught(test);
    if (w.seconds > 0) watch_end(&w);
}

/* A test that is expected to die does so in a child. */
static void run_in_child(const plain_test *test) {
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        run_body(test);
        _exit(runner.failed ? 1 : 0);
    }
    int status = 0;
    const bool waited = pid > 0 && waitpid(pid, &status, 0) == pid;
    const bool as_expected =
        waited && (test->options.signal != 0
                       ? WIFSIGNALED(status) && WTERMSIG(status) == test->options.signal
                       : WIFEXITED(status) && WEXITSTATUS(status) == test->options.exit_code);
    if (as_expected) return;
    runner.failed = true;
    fprintf(stderr, "[----] %s::%s: did not end as expected (wait status %d)\n", test->suite,
            test->name, status);
}

static void run_test(const plain_test *test) {
    runner.current = test;
    runner.thread = pthread_self();
    runner.failed = false;
    runner.skipped = false;
    runner.tested++;
    if (test->options.signal != 0 || test->options.exit_code != 0)
        run_in_child(test);
    else
        run_body(test);
    if (runner.skipped && !runner.failed) {
        runner.tested--;
    } else if (runner.failed) {
        runner.failing++;
        fprintf(stderr, "[FAIL] %s::%s\n", test->suite, test->name);
    } else {
        runner.passing++;
    }
}

static bool matches(const plain_test *test, const char *pattern) {
    char path[512];
    if (test->body == NULL) return false;
    snprintf(path, sizeof path, "%s/%s", test->suite, test->name);
    return pattern == NULL || fnmatch(pattern, path, 0) == 0;
}

int main(int argc, char **argv) {
    const char *pattern = NULL;
    bool only_list = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc)
            pattern = argv[++i];
        else if (strncmp(argv[i], "--filter=", 9) == 0)
            pattern = argv[i] + 9;
        else if (strcmp(argv[i], "--list") == 0)
            only_list = true;
        /* Criterion's other options have no meaning here. */
    }
    unsigned matched = 0;
    for (const plain_test *test = runner.tests; test != NULL; test = test->next) {
        if (!matches(test, pattern)) continue;
        matched++;
        if (only_list)
            printf("%s/%s\n", test->suite, test->name);
        else if (!test->options.disabled && !suite_options(test->suite)->disabled)
            run_test(test);
    }
    if (only_list) return matched == 0;
    if (matched == 0) fprintf(stderr, "[----] no test matches\n");
    print_closing_line();
    return matched == 0 || runner.passing != runner.tested;
}
