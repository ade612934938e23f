/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a disk from outside, by the library's own reading; each disk once. */
#include <stdarg.h>

#include "base/limits.h"
#include "keyweir/storage.h"
#include "snapshot/checkpoint.h"
#include "tests/model/model.h"
#include "tests/model/must.h"
#include "tests/model/replay_env.h"

static struct {
    model_log **items; /* they stay where they are */
    uint32_t count, capacity;
    model_map *known;
} checks;

static model_result look(void *ctx, const model_request *request) {
    model_result result;
    (void)model_disk_apply(*(const uint32_t *)ctx, request, MUTATE_NOTHING, &result);
    return result;
}

static void bad(model_log *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void bad(model_log *out, const char *format, ...) {
    va_list args;
    if (!out->good) return;
    out->good = false;
    va_start(args, format);
    vsnprintf(out->why, sizeof out->why, format, args);
    va_end(args);
}

static void on_finding(void *ctx, const kwr_finding *finding) {
    bad(ctx, "a checkpoint of the log is damaged: %s: %s", finding->file, finding->text);
}

static void check_checkpoint(const kwr_job_dirs *dirs, const kwr_limits *limits,
                             const kwr_slot *slot, model_log *out) {
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    kwr_verify_result result = { 0 };
    if (out->count < MODEL_SLOTS_MAX) {
        out->completed[out->count].checkpoint = slot->checkpoint;
        out->completed[out->count++].generation = slot->generation;
    }
    if (kwr_checkpoint_open(dirs, limits, slot, &manifest, &err) < KWR_OK ||
        kwr_checkpoint_verify(dirs, limits, manifest, on_finding, out, &result, &err) < KWR_OK)
        bad(out, "checkpoint %llu of the log cannot be read: %s",
            (unsigned long long)slot->checkpoint, err.text);
    kwr_manifest_free(manifest);
}

static void check_log(const kwr_job_dirs *dirs, const kwr_limits *limits, model_log *out) {
    kwr_log log = { 0 };
    kwr_error err = { 0 };
    bool base_missing = false;
    if (kwr_log_read(dirs, limits, &log, &err) < KWR_OK) {
        bad(out, "the log cannot be read: %s", err.text);
        return;
    }
    for (size_t i = 0; i < log.count; i++)
        if (log.slots[i].kind == KWR_SLOT_CHECKPOINT)
            check_checkpoint(dirs, limits, &log.slots[i], out);
    const kwr_slot *newest = kwr_log_newest(&log, &base_missing);
    out->newest = newest == NULL ? 0 : newest->checkpoint;
    out->highest = kwr_log_highest(&log);
    out->generation = log.count == 0 ? 0 : log.slots[log.count - 1].generation;
    if (newest == NULL && out->highest > 0) bad(out, "the log names no checkpoint any more");
}

static void check(uint32_t disk, model_log *out) {
    static replay_env e;
    kwr_storage *storage = NULL;
    kwr_job_dirs dirs = { 0 };
    kwr_limits limits;
    kwr_error err = { 0 };
    *out = (model_log){ .good = true };
    replay_env_reset(&e, 1);
    e.answer = look;
    e.answer_ctx = &disk;
    if (kwr_storage_open(&e.env, "file:/ckpt", false, &storage, &err) < KWR_OK ||
        kwr_limits_complete(NULL, &limits, &err) < KWR_OK)
        abort();
    const kwr_status status = kwr_job_dirs_open(&e.env, storage, "sim", false, &dirs, &err);
    if (status == KWR_ERR_MISSING) return;
    if (status < KWR_OK)
        bad(out, "the job cannot be opened: %s", err.text);
    else
        check_log(&dirs, &limits, out);
}

const model_log *model_check(uint32_t disk) {
    uint32_t at = model_map_get(checks.known, disk, 0);
    if (at != 0) return checks.items[at];
    if (checks.count + 1 >= checks.capacity) {
        checks.capacity = checks.capacity == 0 ? 1024 : 2 * checks.capacity;
        checks.items = model_must(realloc(checks.items, checks.capacity * sizeof *checks.items));
        if (checks.count == 0) checks.count = 1;
    }
    at = checks.count++;
    checks.items[at] = model_must(malloc(sizeof(model_log)));
    check(disk, checks.items[at]);
    model_map_put(&checks.known, disk, 0, at);
    return checks.items[at];
}

void model_check_free(void) {
    for (uint32_t i = 1; i < checks.count; i++)
        free(checks.items[i]);
    free(checks.items);
    model_map_free(checks.known);
    memset(&checks, 0, sizeof checks);
}
