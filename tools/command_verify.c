/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir verify: every byte of a checkpoint, or of all that a log names, up to the log. */
#include <inttypes.h>

#include "snapshot/inspect.h"
#include "tools/tool.h"

typedef struct report {
    const tool_options *options;
    const char *root;
    const char *job;
    json_t *findings;
    tool_progress progress;
    bool unreadable;
} report;

static void add_finding(report *r, const char *file, uint64_t offset, kwr_status status,
                        const char *text) {
    if (tool_exit_code(status) == TOOL_CANNOT_READ) r->unreadable = true;
    tool_progress_end(&r->progress);
    if (!r->options->json) printf("DAMAGED %s\n", text);
    json_array_append_new(r->findings, json_pack("{s:s, s:s?, s:o, s:s, s:s}", "job", r->job,
                                                 "file", file, "offset", tool_json_u64(offset),
                                                 "status", kwr_status_name(status), "text", text));
}

static void on_finding(void *ctx, const kwr_fsck_finding *finding) {
    char text[KWR_ERROR_TEXT_MAX + 256];
    report *r = ctx;
    snprintf(text, sizeof text, "%s/%s/%s, offset %" PRIu64 ": %s", r->root, r->job, finding->file,
             finding->offset, finding->text);
    add_finding(r, finding->file, finding->offset, finding->status, text);
}

static void on_progress(void *ctx, const kwr_fsck_progress *progress) {
    report *r = ctx;
    tool_on_progress(&r->progress, progress);
}

/* One job: its log, the manifests that are looked at, and what looks at them. */
typedef struct job_check {
    report *r;
    const tool_place *place;
    kwr_job_dirs dirs;
    kwr_log log;
    kwr_inspection *inspection;
    kwr_manifest **manifests;
    size_t manifest_count;
} job_check;

static void add_checkpoint(job_check *c, const kwr_slot *slot) {
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    const kwr_limits *limits = &c->place->limits;
    kwr_status status = slot != NULL
                            ? kwr_checkpoint_open(&c->dirs, limits, slot, &manifest, &err)
                            : kwr_checkpoint_open_dir(&c->dirs, limits, c->place->checkpoint,
                                                      c->place->generation, &manifest, &err);
    if (status >= KWR_OK) {
        c->manifests[c->manifest_count++] = manifest;
        status = kwr_inspection_add(c->inspection, manifest, &err);
    }
    if (status < KWR_OK) add_finding(c->r, NULL, 0, status, err.text);
}

/* The checkpoint of the place, or every one its log names. */
static void add_checkpoints(job_check *c, kwr_status read, const char **unanchored) {
    if (!c->place->is_checkpoint) {
        for (size_t i = c->log.count; i-- > 0;)
            if (c->log.slots[i].kind == KWR_SLOT_CHECKPOINT) add_checkpoint(c, &c->log.slots[i]);
        return;
    }
    const kwr_slot *slot = kwr_log_find(&c->log, c->place->checkpoint, c->place->generation);
    if (slot == NULL) *unanchored = read < KWR_OK ? "the log is damaged" : "no log";
    add_checkpoint(c, slot);
}

static kwr_status look(job_check *c, const char **unanchored, kwr_verify_result *total,
                       kwr_error *err) {
    const kwr_inspect_options options = { .dirs = &c->dirs,
                                          .limits = &c->place->limits,
                                          .threads = c->r->options->jobs,
                                          .ctx = c->r,
                                          .progress =
                                              c->r->options->progress ? on_progress : NULL };
    kwr_error why = { 0 };
    kwr_status status = kwr_log_read(&c->dirs, &c->place->limits, &c->log, &why);
    if (status < KWR_OK) add_finding(c->r, NULL, 0, status, why.text);
    c->manifests = calloc(c->log.count + 1, sizeof(kwr_manifest *));
    if (c->manifests == NULL) return KWR_ERR_NOMEM;
    const kwr_status made = kwr_inspection_new(&options, &c->inspection, err);
    if (made < KWR_OK) return made;
    add_checkpoints(c, status, unanchored);
    status = kwr_inspection_run(c->inspection, err);
    if (status < KWR_OK) return status;
    const kwr_inspect_result result = kwr_inspection_result(c->inspection);
    kwr_inspection_tell(c->inspection, on_finding, c->r);
    total->files += result.files;
    total->bytes += result.bytes;
    total->images += result.images;
    total->entries += result.entries;
    return KWR_OK;
}

static void verify_job(report *r, const tool_place *place, const char **unanchored,
                       kwr_verify_result *total) {
    job_check c = { .r = r, .place = place };
    kwr_error err = { 0 };
    kwr_status status = kwr_job_dirs_open(place->env, place->storage, r->job, false, &c.dirs, &err);
    if (status >= KWR_OK) status = look(&c, unanchored, total, &err);
    if (status < KWR_OK) add_finding(r, NULL, 0, status, err.text);
    kwr_inspection_free(c.inspection);
    for (size_t i = 0; i < c.manifest_count; i++)
        kwr_manifest_free(c.manifests[i]);
    free(c.manifests);
    kwr_log_free(&c.log);
    kwr_job_dirs_close(&c.dirs);
}

/* Whether the last component of the target is a checkpoint directory's name. */
static bool names_checkpoint(const char *target) {
    char name[KWR_FILE_NAME_MAX];
    uint64_t checkpoint, generation;
    size_t end = strcspn(target, "?");
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

static bool print_result(const report *r, const kwr_verify_result *total, const char *unanchored,
                         bool good) {
    const size_t findings = json_array_size(r->findings);
    if (r->options->json)
        return tool_print_json(
            json_pack("{s:i, s:b, s:b, s:o, s:o, s:o, s:o, s:O}", "schema", 1, "good", good,
                      "anchored", unanchored == NULL, "files", tool_json_u64(total->files), "bytes",
                      tool_json_u64(total->bytes), "images", tool_json_u64(total->images),
                      "entries", tool_json_u64(total->entries), "findings", r->findings),
            false);
    if (unanchored != NULL) printf("not anchored: %s\n", unanchored);
    if (!r->options->quiet || !good)
        printf("%s: %" PRIu64 " files, %" PRIu64 " bytes, %" PRIu64 " page images, %" PRIu64
               " entries, %zu findings\n",
               good ? "good" : "not good", total->files, total->bytes, total->images,
               total->entries, findings);
    return true;
}

int tool_verify(const tool_options *options) {
    tool_place place;
    int code = names_checkpoint(options->target) ? tool_place_checkpoint(options, &place)
                                                 : tool_place_jobs(options, &place);
    if (code != TOOL_GOOD) return code;
    report r = { .options = options, .root = place.root, .findings = json_array() };
    tool_progress_begin(&r.progress);
    kwr_verify_result total = { 0 };
    const char *unanchored = NULL; /* why not */
    for (size_t j = 0; j < place.job_count; j++) {
        r.job = place.jobs[j];
        verify_job(&r, &place, &unanchored, &total);
        tool_progress_end(&r.progress);
    }
    const bool good = json_array_size(r.findings) == 0 && unanchored == NULL && place.job_count > 0;
    code = good ? TOOL_GOOD : r.unreadable ? TOOL_CANNOT_READ : TOOL_DAMAGED;
    if (place.job_count == 0 && !options->json) printf("nothing to verify: no job here\n");
    if (!print_result(&r, &total, unanchored, good)) code = TOOL_CANNOT_READ;
    json_decref(r.findings);
    tool_place_close(&place);
    return code;
}
