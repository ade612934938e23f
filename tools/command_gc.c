/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir gc: what no checkpoint needs, said or removed. */
#include <inttypes.h>

#include "tools/tool.h"

typedef struct report {
    const tool_options *options;
    json_t *names;
} report;

static void on_name(void *ctx, const kwr_fsck_finding *finding) {
    const report *r = ctx;
    char size[32];
    if (r->options->json) {
        json_array_append_new(r->names, tool_json_finding(finding));
        return;
    }
    if (r->options->quiet && finding->status >= KWR_OK) return;
    tool_bytes_text(finding->size, size);
    if (finding->kind == KWR_FSCK_FOREIGN)
        printf("%s\n", finding->text);
    else
        printf("%s (%s)\n", finding->text, size);
}

static bool print_result(const report *r, const kwr_gc_result *a, bool good) {
    const bool removed = r->options->delete;
    if (r->options->json)
        return tool_print_json(
            json_pack("{s:i, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "schema", 1,
                      "good", good, "deleted", removed, "jobs", tool_json_u64(a->jobs), "leftovers",
                      tool_json_u64(a->leftovers), "leftover_bytes",
                      tool_json_u64(a->leftover_bytes), "removed", tool_json_u64(a->removed),
                      "removed_bytes", tool_json_u64(a->removed_bytes), "failed",
                      tool_json_u64(a->failed), "in_progress", tool_json_u64(a->in_progress),
                      "foreign", tool_json_u64(a->foreign), "names", r->names),
            false);
    char bytes[32];
    tool_bytes_text(removed ? a->removed_bytes : a->leftover_bytes, bytes);
    if (removed)
        printf("removed %" PRIu64 " of %" PRIu64 " leftovers (%s)", a->removed, a->leftovers,
               bytes);
    else
        printf("%" PRIu64 " leftovers (%s) would be removed by --delete", a->leftovers, bytes);
    printf("; left alone: %" PRIu64 " in progress, %" PRIu64 " foreign; %" PRIu64 " jobs\n",
           a->in_progress, a->foreign, a->jobs);
    return true;
}

int tool_gc(const tool_options *options) {
    tool_place place;
    int code = tool_place_jobs(options, &place);
    if (code != TOOL_GOOD) return code;
    report r = { .options = options, .names = json_array() };
    kwr_gc_result result = { .struct_size = sizeof result };
    kwr_error err = { 0 };
    const kwr_gc_options o = { .struct_size = sizeof o,
                               .env = place.env,
                               .storage = place.storage,
                               .job = place.one_job ? place.jobs[0] : NULL,
                               .remove = options->delete,
                               .attempt_ended = options->ended,
                               .ctx = &r,
                               .found = on_name };
    const kwr_status status = kwr_gc(&o, &result, &err);
    if (status < KWR_OK) code = tool_fail(&err);
    const bool good = status >= KWR_OK && result.failed == 0;
    if (code == TOOL_GOOD && !good) code = TOOL_CANNOT_READ;
    if (!print_result(&r, &result, good)) code = TOOL_CANNOT_READ;
    json_decref(r.names);
    tool_place_close(&place);
    return code;
}
