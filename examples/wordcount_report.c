/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/wordcount_report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/engine/error.h"

static uint64_t now_ns(const wc_report *report) {
    return report->env->clock->mono_ns(report->env->clock->ctx);
}

kwr_status wc_report_init(wc_report *report, const kwr_env *env, bool quiet, const char *events,
                          uint32_t sinks, kwr_error *err) {
    *report = (wc_report){ .env = env, .quiet = quiet, .events = -1, .sinks = sinks };
    pthread_mutex_init(&report->mutex, NULL);
    report->terminal = !quiet && isatty(STDERR_FILENO) == 1;
    report->events_path = events;
    report->start_ns = now_ns(report);
    report->sink_committed = calloc(sinks, sizeof *report->sink_committed);
    if (report->sink_committed == NULL) return eng_no_memory(err, "the report");
    if (events == NULL) return KWR_OK;
    /* Appended, never cut: the lines of an attempt that was killed stay. */
    report->events = open(events, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (report->events >= 0) return KWR_OK;
    return eng_fail(err, KWR_ERR_IO, errno, "--events '%s'", events);
}

void wc_report_done(wc_report *report) {
    if (report->terminal && report->line_open) fputc('\n', stderr);
    if (report->events >= 0) close(report->events);
    free(report->sink_committed);
    pthread_mutex_destroy(&report->mutex);
}

/* ---- stderr; under the mutex ---- */

static void clear_line(wc_report *report) {
    if (report->line_open) fputs("\r\x1b[K", stderr);
    report->line_open = false;
}

static void say(wc_report *report, const char *format, va_list args) {
    char text[1536];
    vsnprintf(text, sizeof text, format, args);
    pthread_mutex_lock(&report->mutex);
    clear_line(report);
    fprintf(stderr, "wordcount: %s\n", text);
    pthread_mutex_unlock(&report->mutex);
}

void wc_report_warning(wc_report *report, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(report, format, args);
    va_end(args);
}

void wc_report_note(wc_report *report, const char *format, ...) {
    if (report->quiet) return;
    va_list args;
    va_start(args, format);
    say(report, format, args);
    va_end(args);
}

static void size_text(uint64_t bytes, char out[32]) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static double rate_of(const wc_report *report, uint64_t lines) {
    const uint64_t elapsed = now_ns(report) - report->start_ns;
    return elapsed == 0 ? 0 : (double)lines * 1e9 / (double)elapsed;
}

/* ---- events; under the mutex ---- */

/* `more`: further members, each with a comma before it. */
static void write_event_with(wc_report *report, const char *phase, uint64_t checkpoint,
                             uint64_t slot, const char *more) {
    if (report->events < 0) return;
    char line[384];
    char id[24] = "null";
    char number[24] = "null";
    if (checkpoint != 0) snprintf(id, sizeof id, "%" PRIu64, checkpoint);
    if (slot != 0) snprintf(number, sizeof number, "%" PRIu64, slot);
    const int size = snprintf(
        line, sizeof line, "{\"t\":%" PRId64 ",\"phase\":\"%s\",\"checkpoint\":%s,\"slot\":%s%s}\n",
        report->env->clock->wall_ms(report->env->clock->ctx), phase, id, number, more);
    for (size_t at = 0; at < (size_t)size;) {
        const ssize_t done = write(report->events, line + at, (size_t)size - at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) {
            /* Nobody reads any more: the job does not depend on being watched. */
            clear_line(report);
            fprintf(stderr, "wordcount: --events '%s': %s; no more events are written\n",
                    report->events_path, strerror(errno));
            close(report->events);
            report->events = -1;
            return;
        }
        at += (size_t)done;
    }
}

static void write_event(wc_report *report, const char *phase, uint64_t checkpoint, uint64_t slot) {
    write_event_with(report, phase, checkpoint, slot, "");
}

void wc_report_restored(wc_report *report, uint64_t checkpoint, const kwr_local_copy_stats *stats) {
    char more[96];
    snprintf(more, sizeof more, ",\"local_bytes\":%" PRIu64 ",\"remote_bytes\":%" PRIu64,
             stats->bytes_local, stats->bytes_remote);
    pthread_mutex_lock(&report->mutex);
    write_event_with(report, "restored", checkpoint, 0, more);
    pthread_mutex_unlock(&report->mutex);
}

void wc_report_phase(wc_report *report, const char *phase, uint64_t checkpoint, uint64_t slot) {
    pthread_mutex_lock(&report->mutex);
    write_event(report, phase, checkpoint, slot);
    pthread_mutex_unlock(&report->mutex);
}

static uint64_t slot_of(const wc_report *report, uint64_t checkpoint) {
    return report->published == checkpoint ? report->published_slot : 0;
}

void wc_report_committing(wc_report *report, uint64_t checkpoint) {
    pthread_mutex_lock(&report->mutex);
    if (checkpoint > report->committing) {
        report->committing = checkpoint;
        write_event(report, "committing", checkpoint, slot_of(report, checkpoint));
    }
    pthread_mutex_unlock(&report->mutex);
}

void wc_report_committed(wc_report *report, uint32_t subtask, uint64_t checkpoint) {
    pthread_mutex_lock(&report->mutex);
    report->sink_committed[subtask] = checkpoint;
    uint64_t all = UINT64_MAX;
    for (uint32_t i = 0; i < report->sinks; i++) {
        if (report->sink_committed[i] < all) all = report->sink_committed[i];
    }
    if (all > report->committed) {
        report->committed = all;
        write_event(report, "committed", all, slot_of(report, all));
    }
    pthread_mutex_unlock(&report->mutex);
}

/* ---- progress ---- */

static void progress_line(wc_report *report, uint64_t lines) {
    fprintf(stderr, "\r\x1b[K%" PRIu64 " lines, %.0f records/s%s%s", lines, rate_of(report, lines),
            report->checkpoint_text, report->loading_text);
    fflush(stderr);
    report->line_open = true;
}

void wc_report_loading(wc_report *report, const char *text) {
    pthread_mutex_lock(&report->mutex);
    snprintf(report->loading_text, sizeof report->loading_text, "%s", text);
    pthread_mutex_unlock(&report->mutex);
}

void wc_report_progress(wc_report *report, uint64_t lines) {
    pthread_mutex_lock(&report->mutex);
    if (report->terminal) progress_line(report, lines);
    pthread_mutex_unlock(&report->mutex);
}

static void published(wc_report *report, const kwr_job_event *event, uint64_t lines) {
    char size[32];
    size_text(event->bytes, size);
    report->published = event->checkpoint;
    report->published_slot = event->slot;
    snprintf(report->checkpoint_text, sizeof report->checkpoint_text,
             ", checkpoint %" PRIu64 ": %.1f ms, %s, %" PRIu64 " entries", event->checkpoint,
             (double)event->duration_ns / 1e6, size, event->entries);
    write_event(report, "published", event->checkpoint, event->slot);
    if (report->quiet) return;
    if (report->terminal) {
        progress_line(report, lines);
        return;
    }
    fprintf(stderr, "wordcount: %" PRIu64 " lines, %.0f records/s%s%s\n", lines,
            rate_of(report, lines), report->checkpoint_text, report->loading_text);
}

void wc_report_job_event(wc_report *report, const kwr_job_event *event, uint64_t lines) {
    pthread_mutex_lock(&report->mutex);
    switch (event->kind) {
    case KWR_JOB_TRIGGERED: write_event(report, "pending", event->checkpoint, 0); break;
    case KWR_JOB_PUBLISHING:
        write_event(report, "publishing", event->checkpoint, event->slot);
        break;
    case KWR_JOB_PUBLISHED: published(report, event, lines); break;
    case KWR_JOB_ABORTED: /* the library has warned */
    case KWR_JOB_SEND:
    case KWR_JOB_FINISHED:
    case KWR_JOB_FAILED: break;
    }
    pthread_mutex_unlock(&report->mutex);
}
