/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir fsck: all checkpoints of one job or of all, and what else lies in their directories. */
#include <inttypes.h>

#include "tools/tool.h"

typedef struct report {
    const tool_options *options;
    json_t *findings;
    tool_progress progress;
} report;

const char *tool_kind_name(kwr_fsck_kind kind) {
    switch (kind) {
    case KWR_FSCK_DAMAGED: return "damaged";
    case KWR_FSCK_MISSING: return "missing";
    case KWR_FSCK_UNREADABLE: return "unreadable";
    case KWR_FSCK_NEWER: return "newer";
    case KWR_FSCK_LEFTOVER: return "leftover";
    case KWR_FSCK_IN_PROGRESS: return "in-progress";
    case KWR_FSCK_FOREIGN: return "foreign";
    }
    return "unknown";
}

json_t *tool_json_finding(const kwr_fsck_finding *f) {
    json_t *json = json_pack("{s:s, s:s?, s:s, s:s}", "kind", tool_kind_name(f->kind), "job",
                             f->job, "file", f->file, "text", f->text);
    if (json == NULL) return NULL;
    if (f->status < KWR_OK)
        json_object_set_new(json, "status", json_string(kwr_status_name(f->status)));
    if (!kwr_fsck_is_fault(f->kind)) {
        json_object_set_new(json, "size", tool_json_u64(f->size));
        return json;
    }
    json_object_set_new(json, "offset", tool_json_u64(f->offset));
    json_object_set_new(json, "length", tool_json_u64(f->length));
    if (f->operator_id != NULL) {
        json_object_set_new(json, "operator", json_string(f->operator_id));
        json_object_set_new(json, "subtask", json_integer(f->subtask));
    }
    if (f->state != NULL) json_object_set_new(json, "state", json_string(f->state));
    if (f->key_groups > 0)
        json_object_set_new(
            json, "key_groups",
            json_pack("{s:i, s:i}", "first", (int)f->first_key_group, "count", (int)f->key_groups));
    json_t *of = json_array();
    for (size_t i = 0; i < f->checkpoint_count; i++)
        json_array_append_new(
            of, json_pack("{s:o, s:o}", "checkpoint", tool_json_u64(f->checkpoints[i].checkpoint),
                          "generation", tool_json_u64(f->checkpoints[i].generation)));
    json_object_set_new(json, "checkpoints", of);
    return json;
}

static void print_hits(const kwr_fsck_finding *f) {
    if (f->operator_id != NULL) printf("    operator %s, subtask %u", f->operator_id, f->subtask);
    if (f->state != NULL) printf(", state %s", f->state);
    if (f->key_groups == 1) printf(", key group %u", f->first_key_group);
    if (f->key_groups > 1)
        printf(", key groups %u to %u", f->first_key_group, f->first_key_group + f->key_groups - 1);
    if (f->operator_id != NULL) putchar('\n');
    for (size_t i = 0; i < f->checkpoint_count; i++)
        printf("%schk-%" PRIu64 "-%" PRIu64, i == 0 ? "    needed by " : ", ",
               f->checkpoints[i].checkpoint, f->checkpoints[i].generation);
    if (f->checkpoint_count > 0) putchar('\n');
}

void tool_print_finding(const kwr_fsck_finding *f) {
    static const char *const words[] = { "",      "DAMAGED",  "MISSING",     "UNREADABLE",
                                         "NEWER", "LEFTOVER", "IN PROGRESS", "FOREIGN" };
    char size[32];
    tool_bytes_text(f->size, size);
    printf("%s %s%s%s", words[f->kind], f->job == NULL ? "" : f->job, f->job == NULL ? "" : "/",
           f->file);
    if (!kwr_fsck_is_fault(f->kind)) {
        if (f->kind != KWR_FSCK_FOREIGN) printf(" (%s)", size);
        putchar('\n');
        return;
    }
    printf(", offset %" PRIu64, f->offset);
    if (f->length > 0) printf(", %" PRIu64 " bytes", f->length);
    printf("\n    %s\n", f->text);
    print_hits(f);
}

static void on_finding(void *ctx, const kwr_fsck_finding *finding) {
    report *r = ctx;
    tool_progress_end(&r->progress);
    if (r->options->json)
        json_array_append_new(r->findings, tool_json_finding(finding));
    else if (!r->options->quiet || kwr_fsck_is_fault(finding->kind))
        tool_print_finding(finding);
}

static void on_progress(void *ctx, const kwr_fsck_progress *progress) {
    report *r = ctx;
    tool_on_progress(&r->progress, progress);
}

static bool print_result(const report *r, const kwr_fsck_result *a, bool good) {
    if (r->options->json)
        return tool_print_json(
            json_pack("{s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}",
                      "schema", 1, "good", good, "jobs", tool_json_u64(a->jobs), "checkpoints",
                      tool_json_u64(a->checkpoints), "files", tool_json_u64(a->files), "bytes",
                      tool_json_u64(a->bytes), "images", tool_json_u64(a->images), "entries",
                      tool_json_u64(a->entries), "faults", tool_json_u64(a->faults), "leftovers",
                      tool_json_u64(a->leftovers), "leftover_bytes",
                      tool_json_u64(a->leftover_bytes), "in_progress",
                      tool_json_u64(a->in_progress), "foreign", tool_json_u64(a->foreign),
                      "findings", r->findings),
            false);
    char bytes[32], leftover[32];
    tool_bytes_text(a->bytes, bytes);
    tool_bytes_text(a->leftover_bytes, leftover);
    if (a->jobs == 0) printf("nothing to check: no job here\n");
    printf("%s: %" PRIu64 " jobs, %" PRIu64 " checkpoints, %" PRIu64 " files, %s read, %" PRIu64
           " page images; %" PRIu64 " faults, %" PRIu64 " leftovers (%s), %" PRIu64
           " in progress, %" PRIu64 " foreign\n",
           good ? "good" : "not good", a->jobs, a->checkpoints, a->files, bytes, a->images,
           a->faults, a->leftovers, leftover, a->in_progress, a->foreign);
    return true;
}

int tool_fsck(const tool_options *options) {
    tool_place place;
    int code = tool_place_jobs(options, &place);
    if (code != TOOL_GOOD) return code;
    report r = { .options = options, .findings = json_array() };
    tool_progress_begin(&r.progress);
    kwr_fsck_result result = { .struct_size = sizeof result };
    kwr_error err = { 0 };
    const kwr_fsck_options o = { .struct_size = sizeof o,
                                 .env = place.env,
                                 .storage = place.storage,
                                 .job = place.one_job ? place.jobs[0] : NULL,
                                 .threads = options->jobs,
                                 .indexes_only = options->quick,
                                 .ctx = &r,
                                 .found = on_finding,
                                 .progress = options->progress ? on_progress : NULL };
    const kwr_status status = kwr_fsck(&o, &result, &err);
    tool_progress_end(&r.progress);
    if (status < KWR_OK) {
        code = tool_fail(&err);
    } else {
        const bool good = result.faults == 0 && result.jobs > 0;
        code = good ? TOOL_GOOD : result.unreadable > 0 ? TOOL_CANNOT_READ : TOOL_DAMAGED;
        if (!print_result(&r, &result, good)) code = TOOL_CANNOT_READ;
    }
    json_decref(r.findings);
    tool_place_close(&place);
    return code;
}
