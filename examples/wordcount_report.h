/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What wordcount tells: progress and notes on stderr, phases of checkpoints as JSON lines. Standard
 * output is for the last line alone.
 */
#ifndef WC_REPORT_H
#define WC_REPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <keyweir/keyweir.h>

enum { WC_LOADING_TEXT = 96 };

typedef struct wc_report {
    const kwr_env *env;
    bool quiet;
    bool terminal;  /* stderr is one: progress is one line, rewritten */
    bool line_open; /* such a line stands there */
    int events;     /* file descriptor, -1: none */
    const char *events_path;
    pthread_mutex_t mutex; /* guards all of this: sinks report too */
    uint32_t sinks;
    uint64_t *sink_committed; /* checkpoint each sink has committed */
    uint64_t committing;      /* last told of */
    uint64_t committed;
    uint64_t published; /* the last, and its slot */
    uint64_t published_slot;
    char checkpoint_text[160]; /* the last, for the progress line */
    char loading_text[WC_LOADING_TEXT];
    uint64_t start_ns;
    uint64_t start_lines;
} wc_report;

/* `events` NULL: none. */
kwr_status wc_report_init(wc_report *report, const kwr_env *env, bool quiet, const char *events,
                          uint32_t sinks, kwr_error *err);
void wc_report_done(wc_report *report);

/* A line on stderr, whatever --quiet says. */
void wc_report_warning(wc_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same, not with --quiet. */
void wc_report_note(wc_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A phase of a checkpoint; 0: unknown. */
void wc_report_phase(wc_report *report, const char *phase, uint64_t checkpoint, uint64_t slot);
/* After a restore with local copies: where its bytes came from. */
void wc_report_restored(wc_report *report, uint64_t checkpoint, const kwr_local_copy_stats *stats);
/* What the job does; `lines` read up to now. */
void wc_report_job_event(wc_report *report, const kwr_job_event *event, uint64_t lines);
/* What the next lines say about loading; "": nothing. */
void wc_report_loading(wc_report *report, const char *text);
/* Rewrites the progress line of a terminal. */
void wc_report_progress(wc_report *report, uint64_t lines);
void wc_report_committing(wc_report *report, uint64_t checkpoint);
/* Sink `subtask` has committed everything up to `checkpoint`. */
void wc_report_committed(wc_report *report, uint32_t subtask, uint64_t checkpoint);

#endif /* WC_REPORT_H */
