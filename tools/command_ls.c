/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir ls, keyweir latest: what the commit logs name. */
#include <inttypes.h>

#include "tools/tool.h"

/* One job's log, and the checkpoint a restart would continue. */
typedef struct job_log {
    kwr_job_dirs dirs;
    kwr_log log;
    const kwr_slot *newest;
} job_log;

static void job_log_close(job_log *job) {
    kwr_log_free(&job->log);
    kwr_job_dirs_close(&job->dirs);
}

static int job_log_open(const tool_place *place, const char *name, job_log *out) {
    job_log job = { 0 };
    kwr_error err = { 0 };
    bool base_missing = false;
    if (kwr_job_dirs_open(place->env, place->storage, name, false, &job.dirs, &err) < KWR_OK)
        return tool_fail(&err);
    if (kwr_log_read(&job.dirs, &place->limits, &job.log, &err) < KWR_OK) {
        const int code = tool_fail(&err);
        kwr_job_dirs_close(&job.dirs);
        return code;
    }
    job.newest = kwr_log_newest(&job.log, &base_missing);
    if (base_missing)
        fprintf(stderr, "keyweir: %s: the log goes on from a checkpoint it no longer names\n",
                name);
    *out = job;
    return TOOL_GOOD;
}

/* Whether a restart could go back to this slot, or an explicit choice left it aside. */
static bool in_history(const job_log *job, const kwr_slot *slot) {
    for (const kwr_slot *s = job->newest; s != NULL; s = kwr_log_older(&job->log, s)) {
        if (s->number == slot->number) return true;
    }
    return false;
}

static uint64_t stored_bytes(const kwr_manifest *m, uint64_t manifest_bytes, uint64_t *entries) {
    uint64_t bytes = manifest_bytes + m->inline_length;
    *entries = 0;
    for (size_t o = 0; o < m->operator_count; o++) {
        for (uint32_t i = 0; i < m->operators[o].parallelism; i++) {
            const kwr_manifest_subtask *subtask = &m->operators[o].subtasks[i];
            for (size_t s = 0; s < subtask->state_count; s++)
                *entries += subtask->states[s].entries;
            for (; subtask != NULL; subtask = subtask->operator_state)
                for (size_t f = 0; f < subtask->file_count; f++)
                    if (subtask->files[f].name != NULL) bytes += subtask->files[f].length;
        }
    }
    return bytes;
}

static json_t *row_of(const tool_place *place, const job_log *job, const kwr_slot *slot,
                      int *code) {
    char name[KWR_FILE_NAME_MAX];
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    uint64_t bytes = 0, entries = 0;
    kwr_checkpoint_dir_name(slot->checkpoint, slot->generation, name);
    const kwr_status status =
        kwr_checkpoint_open(&job->dirs, &place->limits, slot, &manifest, &err);
    if (status < KWR_OK) *code = tool_fail(&err);
    if (manifest != NULL) bytes = stored_bytes(manifest, slot->manifest_length, &entries);
    json_t *row = json_pack("{s:s, s:o, s:o, s:o, s:I, s:b, s:s, s:s++++}", "job", slot->job,
                            "checkpoint", tool_json_u64(slot->checkpoint), "generation",
                            tool_json_u64(slot->generation), "slot", tool_json_u64(slot->number),
                            "time_ms", (json_int_t)slot->time_ms, "final", slot->final, "state",
                            status < KWR_OK         ? "damaged"
                            : in_history(job, slot) ? "completed"
                                                    : "rolled back",
                            "path", place->root, "/", slot->job, "/", name);
    if (row != NULL && manifest != NULL) {
        json_object_set_new(row, "bytes", tool_json_u64(bytes));
        json_object_set_new(row, "entries", tool_json_u64(entries));
    }
    kwr_manifest_free(manifest);
    return row;
}

static void print_row(json_t *row) {
    char time[40], size[32] = "-", checkpoint[24], generation[24];
    tool_time_text(json_integer_value(json_object_get(row, "time_ms")), time);
    json_t *bytes = json_object_get(row, "bytes");
    if (json_is_integer(bytes)) tool_bytes_text((uint64_t)json_integer_value(bytes), size);
    json_t *id = json_object_get(row, "checkpoint"), *gen = json_object_get(row, "generation");
    snprintf(checkpoint, sizeof checkpoint, "%s", json_is_string(id) ? json_string_value(id) : "");
    if (json_is_integer(id))
        snprintf(checkpoint, sizeof checkpoint, "%" PRId64, (int64_t)json_integer_value(id));
    snprintf(generation, sizeof generation, "%" PRId64, (int64_t)json_integer_value(gen));
    printf("%-16s %10s %10s  %-24s  %10s  %-11s %s%s\n",
           json_string_value(json_object_get(row, "job")), checkpoint, generation, time, size,
           json_string_value(json_object_get(row, "state")),
           json_string_value(json_object_get(row, "path")),
           json_is_true(json_object_get(row, "final")) ? " (final)" : "");
}

int tool_ls(const tool_options *options) {
    tool_place place = { 0 };
    int code = tool_place_jobs(options, &place);
    if (code != TOOL_GOOD) return code;
    json_t *rows = json_array();
    for (size_t j = 0; j < place.job_count; j++) {
        job_log job = { 0 };
        const int opened = job_log_open(&place, place.jobs[j], &job);
        if (opened != TOOL_GOOD) {
            code = opened;
            continue;
        }
        for (size_t i = 0; i < job.log.count; i++) {
            if (job.log.slots[i].kind != KWR_SLOT_CHECKPOINT) continue;
            json_array_append_new(rows, row_of(&place, &job, &job.log.slots[i], &code));
        }
        job_log_close(&job);
    }
    if (options->json) {
        if (!tool_print_json(json_pack("{s:i, s:O}", "schema", 1, "checkpoints", rows), false))
            code = TOOL_CANNOT_READ;
    } else if (json_array_size(rows) > 0) {
        size_t i;
        json_t *row;
        printf("%-16s %10s %10s  %-24s  %10s  %-11s %s\n", "JOB", "CHECKPOINT", "GENERATION",
               "TIME", "SIZE", "STATE", "PATH");
        json_array_foreach(rows, i, row) print_row(row);
    }
    if (json_array_size(rows) == 0)
        fprintf(stderr, "keyweir: %s: no completed checkpoint\n", options->target);
    json_decref(rows);
    tool_place_close(&place);
    return code;
}

int tool_latest(const tool_options *options) {
    tool_place place = { 0 };
    int code = tool_place_jobs(options, &place);
    if (code != TOOL_GOOD) return code;
    size_t found = 0;
    json_t *paths = json_array();
    for (size_t j = 0; j < place.job_count; j++) {
        job_log job = { 0 };
        const int opened = job_log_open(&place, place.jobs[j], &job);
        if (opened != TOOL_GOOD) {
            code = opened;
            continue;
        }
        if (job.newest != NULL) {
            char name[KWR_FILE_NAME_MAX];
            found++;
            kwr_checkpoint_dir_name(job.newest->checkpoint, job.newest->generation, name);
            json_array_append_new(paths,
                                  json_pack("{s:s, s:o, s:o, s:s++++}", "job", place.jobs[j],
                                            "checkpoint", tool_json_u64(job.newest->checkpoint),
                                            "generation", tool_json_u64(job.newest->generation),
                                            "path", place.root, "/", place.jobs[j], "/", name));
        }
        job_log_close(&job);
    }
    if (options->json) {
        if (!tool_print_json(json_pack("{s:i, s:O}", "schema", 1, "latest", paths), false))
            code = TOOL_CANNOT_READ;
    } else {
        size_t i;
        json_t *row;
        json_array_foreach(paths, i, row) puts(json_string_value(json_object_get(row, "path")));
    }
    if (found == 0 && code == TOOL_GOOD) {
        fprintf(stderr, "keyweir: %s: no completed checkpoint\n", options->target);
        code = TOOL_DAMAGED;
    }
    json_decref(paths);
    tool_place_close(&place);
    return code;
}
