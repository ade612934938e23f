/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts words exactly once, through any number of kills: one source for each file, counting and
 * writing tasks, a two-phase file sink. Here: options, signals, the environment and exit codes.
 */
#include <inttypes.h>
#include <stdio.h>

#include "examples/engine/error.h"
#include "examples/wordcount_job.h"
#include "examples/wordcount_signals.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_IO = 3, EXIT_RUNNING = 4 };

/* What ends the run is told at its end; warnings are told as they come. */
static void on_log(void *ctx, kwr_log_level level, const char *component, const char *line) {
    (void)ctx;
    if (level == KWR_LOG_WARNING) fprintf(stderr, "wordcount: %s: %s\n", component, line);
}

static int exit_code(kwr_status status) {
    switch (status) {
    case KWR_OK:
    case KWR_NOT_FOUND: return EXIT_DONE;
    case KWR_ERR_LOCKED:
    case KWR_ERR_FENCED: return EXIT_RUNNING;
    case KWR_ERR_BUSY:
    case KWR_ERR_IO:
    case KWR_ERR_NOSPACE:
    case KWR_ERR_NOMEM:
    case KWR_ERR_TIMEOUT:
    case KWR_ERR_NOT_RESIDENT:
    case KWR_ERR_CANCELLED:
    case KWR_ERR_DECLINED:
    case KWR_ERR_UNKNOWN:
    case KWR_ERR_POISONED: return EXIT_IO;
    case KWR_ERR_CORRUPT:
    case KWR_ERR_FORMAT:
    case KWR_ERR_MISSING:
    case KWR_ERR_REFUSED:
    case KWR_ERR_MISUSE:
    case KWR_ERR_RANGE:
    case KWR_ERR_UNSUPPORTED:
    case KWR_ERR_MISMATCH:
    case KWR_ERR_EXISTS: return EXIT_REFUSED;
    }
    return EXIT_REFUSED;
}

static int say_end(const wc_end *end) {
    if (end->finished) {
        printf("finished: checkpoint %" PRIu64 "\n", end->checkpoint);
    } else {
        printf("stopped: checkpoint %" PRIu64 ", resume with the same command\n", end->checkpoint);
    }
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_IO;
}

static int run(const wc_options *options) {
    const kwr_observer observer = { .struct_size = sizeof observer, .log = on_log };
    const kwr_posix_options posix = { .struct_size = sizeof posix, .observer = &observer };
    kwr_env *env = NULL;
    wc_end end = { .checkpoint = 0 };
    kwr_error error = ENG_ERROR_NONE;
    kwr_status status = kwr_env_posix_open(&posix, &env, &error);
    if (status >= KWR_OK) status = wc_job_run(env, options, &end, &error);
    kwr_env_posix_close(env);
    if (status >= KWR_OK) return say_end(&end);
    fprintf(stderr, "wordcount: %s\n",
            error.text[0] != '\0' ? error.text : kwr_status_name(status));
    return exit_code(status);
}

int main(int argc, char **argv) {
    wc_options options;
    const wc_parsed parsed = wc_options_parse(argc, argv, &options);
    int code = parsed == WC_PARSED_HELP ? EXIT_DONE : EXIT_USAGE;
    if (parsed == WC_PARSED) {
        wc_signals_block();
        options.signals = true;
        code = run(&options);
    }
    wc_options_done(&options);
    return code;
}
