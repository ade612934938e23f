/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir verify: every byte of a checkpoint, up to its slot in the commit log. */
#include <inttypes.h>

#include "tools/tool.h"

typedef struct report {
    const tool_options *options;
    const char *root;
    const char *job;
    json_t *findings;
    bool unreadable;
} report;

static void add_finding(report *r, const char *file, uint64_t offset, kwr_status status,
                        const char *text) {
    if (tool_exit_code(status) == TOOL_CANNOT_READ) r->unreadable = true;
    if (!r->options->json) printf("DAMAGED %s\n", text);
    json_array_append_new(r->findings, json_pack("{s:s, s:s?, s:o, s:s, s:s}", "job", r->job,
                                                 "file", file, "offset", tool_json_u64(offset),
                                                 "status", kwr_status_name(status), "text", text));
}

static void on_finding(void *ctx, const kwr_finding *finding) {
    char text[KWR_ERROR_TEXT_MAX + 256];
    report *r = ctx;
    snprintf(text, sizeof text, "%s/%s/%s, offset %" PRIu64 ": %s", r->root, r->job, finding->file,
             finding->offset, finding->text);
    add_finding(r, finding->file, finding->offset, finding->status, text);
}

/* Verifies an opened manifest; counts into `total`. */
static void verify_manifest(report *r, const tool_place *place, const kwr_job_dirs *dirs,
                            const kwr_manifest *manifest, kwr_verify_result *total) {
    kwr_verify_result result = { 0 };
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_checkpoint_verify(dirs, &place->limits, manifest, on_finding, r, &result, &err);
    if (status < KWR_OK) add_finding(r, NULL, 0, status, err.text);
    total->files += result.files;
    total->bytes += result.bytes;
    total->images += result.images;
    total->entries += result.entries;
}

static void open_and_verify(report *r, const tool_place *place, const kwr_job_dirs *dirs,
                            const kwr_slot *slot, uint64_t checkpoint, uint64_t generation,
                            kwr_verify_result *total) {
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    const kwr_status status = slot != NULL
                                  ? kwr_checkpoint_open(dirs, &place->limits, slot, &manifest, &err)
                                  : kwr_checkpoint_open_dir(dirs, &place->limits, checkpoint,
                                                            generation, &manifest, &err);
    if (status < KWR_OK) {
        add_finding(r, NULL, 0, status, err.text);
        return;
    }
    verify_manifest(r, place, dirs, manifest, total);
    kwr_manifest_free(manifest);
}

/* The checkpoint of `place`, or every one its log names. */
static void verify_job(report *r, const tool_place *place, const char **unanchored,
                       kwr_verify_result *total) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_error err = { 0 };
    const kwr_status opened =
        kwr_job_dirs_open(place->env, place->storage, r->job, false, &dirs, &err);
    if (opened < KWR_OK) {
        add_finding(r, NULL, 0, opened, err.text);
        return;
    }
    const kwr_status read = kwr_log_read(&dirs, &place->limits, &log, &err);
    if (read < KWR_OK) add_finding(r, NULL, 0, read, err.text);
    if (place->is_checkpoint) {
        const kwr_slot *slot = kwr_log_find(&log, place->checkpoint, place->generation);
        if (slot == NULL) *unanchored = read < KWR_OK ? "the log is damaged" : "no log";
        open_and_verify(r, place, &dirs, slot, place->checkpoint, place->generation, total);
    } else {
        for (size_t i = 0; i < log.count; i++) {
            if (log.slots[i].kind == KWR_SLOT_CHECKPOINT)
                open_and_verify(r, place, &dirs, &log.slots[i], 0, 0, total);
        }
    }
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
}

/* Whether the last component of the target is a checkpoint directory's name. */
static bool names_checkpoint(const char *target) {
    char name[KWR_FILE_NAME_MAX];
    uint64_t checkpoint, generation;
    size_t end = strlen(target);
    while (end > 0 && target[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && target[start - 1] != '/' && target[start - 1] != ':')
        start--;
    if (end - start >= sizeof name) return false;
    memcpy(name, target + start, end - start);
    name[end - start] = '\0';
    return kwr_checkpoint_dir_parse(name, &checkpoint, &generation);
}

int tool_verify(const tool_options *options) {
    tool_place place;
    int code = names_checkpoint(options->target) ? tool_place_checkpoint(options->target, &place)
                                                 : tool_place_jobs(options->target, &place);
    if (code != TOOL_GOOD) return code;
    report r = { .options = options, .root = place.root, .findings = json_array() };
    kwr_verify_result total = { 0 };
    const char *unanchored = NULL; /* why not */
    for (size_t j = 0; j < place.job_count; j++) {
        r.job = place.jobs[j];
        verify_job(&r, &place, &unanchored, &total);
    }
    const size_t findings = json_array_size(r.findings);
    const bool good = findings == 0 && unanchored == NULL && place.job_count > 0;
    code = good ? TOOL_GOOD : r.unreadable ? TOOL_CANNOT_READ : TOOL_DAMAGED;
    if (options->json) {
        if (!tool_print_json(json_pack("{s:i, s:b, s:b, s:o, s:o, s:o, s:o, s:O}", "schema", 1,
                                       "good", good, "anchored", unanchored == NULL, "files",
                                       tool_json_u64(total.files), "bytes",
                                       tool_json_u64(total.bytes), "images",
                                       tool_json_u64(total.images), "entries",
                                       tool_json_u64(total.entries), "findings", r.findings),
                             false))
            code = TOOL_CANNOT_READ;
    } else {
        if (unanchored != NULL) printf("not anchored: %s\n", unanchored);
        if (place.job_count == 0) printf("nothing to verify: no job here\n");
        if (!options->quiet || !good)
            printf("%s: %" PRIu64 " files, %" PRIu64 " bytes, %" PRIu64 " page images, %" PRIu64
                   " entries, %zu findings\n",
                   good ? "good" : "not good", total.files, total.bytes, total.images,
                   total.entries, findings);
    }
    json_decref(r.findings);
    tool_place_close(&place);
    return code;
}
