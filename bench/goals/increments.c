/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P6: a chain of increments, with a share of the keys drawn evenly and changed before each. All
 * that is written, the handle included, against LZ4 of the changed entries one behind the other in
 * blocks of 64 KiB; what the latest holds in storage against the first, which is whole; and how
 * many images the content of one page lies in.
 */
#include <lz4.h>

#include "base/limits.h"
#include "bench/goals/goals.h"
#include "snapshot/log.h"
#include "snapshot/manifest.h"
#include "snapshot/page_deltas.h"

enum { KEY = 16, VALUE = 100, ENTRY = KEY + VALUE, BLOCK = 64 << 10, STEPS = 50 };

typedef struct chain {
    goals_task t;
    kwr_storage *storage;
    kwr_lineage *lineage;
    uint64_t checkpoint;
    uint8_t uid[16];
    uint32_t *rounds; /* in which step an entry was changed last */
    uint8_t *changed; /* entries of one step */
    size_t changed_size;
    kwr_snapshot_result result;
} chain;

static void die(const char *what) {
    fprintf(stderr, "goals: %s\n", what);
    exit(1);
}

static void change(chain *c, uint64_t count, uint32_t step, bench_rng *rng) {
    c->changed_size = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t number = bench_below(rng, c->t.entries);
        if (c->rounds[number] == step) continue;
        c->rounds[number] = step;
        uint8_t *entry = c->changed + c->changed_size;
        goals_key(entry, KEY, number);
        goals_value(entry + KEY, VALUE, number + step * c->t.entries);
        c->changed_size += ENTRY;
        goals_must(&c->t, kwr_backend_set_key(c->t.backend, (kwr_slice){ entry, KEY }), "key");
        goals_must(&c->t, kwr_value_put(c->t.value, (kwr_slice){ entry + KEY, VALUE }), "put");
    }
}

static uint64_t packed(const uint8_t *bytes, size_t size) {
    static char out[LZ4_COMPRESSBOUND(BLOCK)];
    uint64_t sum = 0;
    for (size_t at = 0; at < size; at += BLOCK) {
        const size_t raw = size - at < BLOCK ? size - at : BLOCK;
        sum += (uint64_t)LZ4_compress_default((const char *)bytes + at, out, (int)raw, sizeof out);
    }
    return sum;
}

static void checkpoint(chain *c) {
    kwr_error err;
    kwr_view *view;
    goals_must(&c->t, kwr_backend_freeze(c->t.backend, &view), "freeze");
    kwr_snapshot_target target = { .struct_size = sizeof target,
                                   .env = c->t.env,
                                   .storage = c->storage,
                                   .job = "goals",
                                   .operator_id = "count",
                                   .generation = 1,
                                   .checkpoint = ++c->checkpoint,
                                   .sequence = c->checkpoint * 10000,
                                   .threads = 1,
                                   .lineage = c->lineage,
                                   .last_use = true };
    memcpy(target.job_uid, c->uid, sizeof c->uid);
    kwr_bytes_free(&c->result.handle);
    const kwr_status status = kwr_snapshot_write(view, &target, NULL, &c->result, &err);
    kwr_view_release(view);
    bench_must(status, &err, "snapshot");
    kwr_lineage_confirm(c->lineage, c->checkpoint);
    goals_settle(&c->t);
}

/* A page's content lies in its image and in at most one batch of each checkpoint with deltas. */
static unsigned reads_of_a_page(const chain *c) {
    kwr_error err;
    kwr_subtask_part *part;
    kwr_job_dirs dirs = { 0 };
    kwr_limits limits;
    const kwr_slice handle = { c->result.handle.data, c->result.handle.size };
    bench_must(kwr_limits_complete(NULL, &limits, &err), &err, "limits");
    bench_must(kwr_subtask_part_decode(c->t.env, NULL, handle, "handle", &part, &err), &err,
               "part");
    bench_must(kwr_job_dirs_open(c->t.env, c->storage, "goals", false, &dirs, &err), &err, "job");
    const kwr_data_owner owner = { .limits = &limits,
                                   .subtask = &part->subtask,
                                   .max_parallelism = part->max_parallelism,
                                   .seed = part->seed };
    uint64_t seen[64];
    unsigned count = 0;
    for (size_t i = 0; i < part->subtask.file_count; i++) {
        kwr_data_file file;
        const kwr_manifest_file *listed = &part->subtask.files[i];
        bench_must(
            kwr_data_file_open(c->t.env, c->storage, dirs.shared, listed, &owner, &file, &err),
            &err, "data file");
        bench_must(kwr_data_file_load(&file, &err), &err, "data file");
        bool known = !kwr_page_deltas_in(&file);
        for (unsigned k = 0; k < count; k++)
            known = known || seen[k] == file.header.checkpoint;
        if (!known && count < 64) seen[count++] = file.header.checkpoint;
        kwr_data_file_close(&file);
    }
    kwr_job_dirs_close(&dirs);
    kwr_subtask_part_free(part);
    return count + 1;
}

static void check_restore(const chain *c) {
    kwr_error err;
    kwr_backend *backend;
    const kwr_backend_options options = {
        .struct_size = sizeof options, .env = c->t.env, .resources = c->t.resources, .seed = 1
    };
    const kwr_slice handle = { c->result.handle.data, c->result.handle.size };
    bench_must(kwr_snapshot_restore(&options, c->storage, "goals", &handle, 1, &backend, &err),
               &err, "restore");
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(backend, &stats);
    if (stats.entries != c->t.entries) die("a chain of increments lost entries");
    kwr_backend_close(backend);
}

static void run(goals *g, chain *c, uint64_t entries, double share) {
    bench_rng rng = { 42 };
    const uint64_t count = (uint64_t)((double)entries * share);
    double first = 0, sum = 0, retained = 0;
    unsigned reads = 0;
    checkpoint(c);
    const uint64_t whole = c->result.bytes_written;
    for (uint32_t step = 1; step <= STEPS; step++) {
        change(c, count, step, &rng);
        checkpoint(c);
        const uint64_t wrote = c->result.bytes_written + c->result.handle.size;
        const double ratio = (double)wrote / (double)packed(c->changed, c->changed_size);
        const double held = (double)c->result.bytes_used / (double)whole;
        const unsigned now = reads_of_a_page(c);
        goals_detail(g, "step %u: %.2f MB written, ratio %.2f, holds %.2f in %u files, %u reads",
                     step, (double)wrote / 1e6, ratio, held, (unsigned)c->result.files_used, now);
        if (step == 1) first = ratio;
        sum += ratio;
        if (held > retained) retained = held;
        if (now > reads) reads = now;
    }
    check_restore(c);
    goals_judge(g, "P6", first, GOAL_AT_MOST, 2,
                "a step with %.2g %% of %" PRIu64 " keys changed, by LZ4 of the entries",
                share * 100, entries);
    goals_judge(g, "P6", sum / STEPS, GOAL_AT_MOST, 6, "mean of %d such steps", STEPS);
    goals_judge(g, "P6", reads, GOAL_AT_MOST, 10, "reads for the content of one page");
    goals_judge(g, "P6", retained, GOAL_AT_MOST, 2.5, "bytes held, by those of a whole one");
}

void goals_increments(goals *g) {
    if (!goals_wanted(g, "P6")) return;
    const uint64_t entries = goals_size(g, 300000, 10000000);
    kwr_error err;
    chain c = { .uid = { 6 } };
    const char *dir = goals_dir(g, "increments");
    goals_open(&c.t, "memory", NULL, KEY, VALUE);
    goals_fill(&c.t, entries);
    bench_must(kwr_storage_open(c.t.env, dir, true, &c.storage, &err), &err, dir);
    bench_must(kwr_lineage_new(c.t.env, c.uid, "count", &c.lineage, &err), &err, "lineage");
    c.rounds = calloc(entries, sizeof *c.rounds);
    c.changed = malloc(entries / 50 * ENTRY);
    if (c.rounds == NULL || c.changed == NULL) die("no memory");
    run(g, &c, entries, 0.01);
    free(c.rounds);
    free(c.changed);
    kwr_bytes_free(&c.result.handle);
    kwr_lineage_free(c.lineage);
    kwr_storage_close(c.storage);
    goals_close(&c.t);
    (void)goals_dir(g, "increments");
}
