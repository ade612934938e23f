/* SPDX-License-Identifier: Apache-2.0 */
/* How far a long check is, on stderr: one line that is written over on a terminal, else a line each
 * few seconds. */
#include <inttypes.h>
#include <unistd.h>

#include "tools/tool.h"

enum { LINE_EVERY_NS = 2000000000 };

void tool_progress_text(const kwr_fsck_progress *progress, char *out, size_t capacity) {
    char done[32], total[32], rate[32];
    const uint64_t bytes_total = progress->bytes_total;
    const double seconds = (double)progress->elapsed_ns / 1e9;
    const double bytes = (double)progress->bytes_done;
    const double per_second = seconds > 0 ? bytes / seconds : 0;
    tool_bytes_text(progress->bytes_done, done);
    tool_bytes_text(bytes_total, total);
    tool_bytes_text((uint64_t)per_second, rate);
    int n =
        snprintf(out, capacity, "%s: %3.0f %%, %s of %s, %" PRIu64 " of %" PRIu64 " files, %s/s",
                 progress->job, bytes_total == 0 ? 100.0 : 100.0 * bytes / (double)bytes_total,
                 done, total, progress->files_done, progress->files_total, rate);
    if (n > 0 && (size_t)n < capacity && per_second > 0) {
        const uint64_t left = (uint64_t)((double)(bytes_total - progress->bytes_done) / per_second);
        n += snprintf(out + n, capacity - (size_t)n, ", %" PRIu64 ":%02u:%02u left", left / 3600,
                      (unsigned)(left / 60 % 60), (unsigned)(left % 60));
    }
    if (n > 0 && (size_t)n < capacity && progress->findings > 0)
        snprintf(out + n, capacity - (size_t)n, ", %" PRIu64 " findings", progress->findings);
}

void tool_on_progress(void *ctx, const kwr_fsck_progress *progress) {
    tool_progress *p = ctx;
    char text[256];
    if (!p->terminal && progress->elapsed_ns < p->next_ns) return;
    p->next_ns = progress->elapsed_ns + LINE_EVERY_NS;
    tool_progress_text(progress, text, sizeof text);
    fprintf(stderr, p->terminal ? "\r\033[K%s" : "%s\n", text);
    p->shown = true;
}

void tool_progress_begin(tool_progress *progress) {
    *progress = (tool_progress){ .terminal = isatty(STDERR_FILENO) == 1 };
}

void tool_progress_end(tool_progress *progress) {
    if (progress->shown && progress->terminal) fputs("\r\033[K", stderr);
    progress->shown = false;
    progress->next_ns = 0;
}
