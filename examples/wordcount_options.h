/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of wordcount. */
#ifndef WC_OPTIONS_H
#define WC_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wc_restore {
    WC_RESTORE_AUTO = 0,
    WC_RESTORE_NONE = 1,
    WC_RESTORE_CHECKPOINT = 2,
} wc_restore;

typedef struct wc_options {
    const char **inputs;
    uint32_t input_count;
    const char *output;
    const char *checkpoints;
    const char *root; /* `checkpoints` as a plain path; points into it */
    const char *job;
    const char *events; /* NULL: none */
    const char *backend;
    const char *state_directory; /* NULL: beside the checkpoints */
    const char *local_copy;      /* NULL: none */
    uint32_t parallelism;
    uint32_t max_parallelism; /* 0: as it was, or the default */
    uint64_t interval_ms;
    uint32_t retain;
    uint64_t rate;       /* 0: unlimited */
    uint64_t write_rate; /* of checkpoints, bytes a second; 0: unlimited */
    uint64_t seed;
    bool seed_given;
    uint64_t inline_bytes;
    bool inline_given;
    wc_restore restore;
    uint64_t restore_checkpoint;
    uint64_t restore_generation; /* 0: any */
    char *restore_parent;        /* directory the checkpoint was named in, NULL: named by id */
    bool lazy;                   /* counts are loaded while the job runs */
    bool quiet;
    bool no_lock;
    bool signals; /* SIGINT and SIGTERM stop the run; set by main */
} wc_options;

typedef enum wc_parsed {
    WC_PARSED = 0,
    WC_PARSED_HELP = 1, /* --help or --version was answered */
    WC_PARSED_USAGE = 2 /* reported on stderr */
} wc_parsed;

/* `out` is to be released with wc_options_done() in every case. */
wc_parsed wc_options_parse(int argc, char **argv, wc_options *out);
void wc_options_done(wc_options *options);

#endif /* WC_OPTIONS_H */
