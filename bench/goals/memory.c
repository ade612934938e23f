/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P10: resident memory against key and value bytes, the worst of five sizes on the way up, again
 * after ten checkpoints under load, and at its most while every page is rewritten under a view.
 */
#include <malloc.h>
#include <pthread.h>

#include "bench/goals/goals.h"

enum { KEY = 16, VALUE = 100 };

static uint64_t resident(void) {
    unsigned long long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%llu %llu", &all, &pages) != 2) exit(1);
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What this task holds: what is resident since it was opened, and at least what it has mapped. */
static uint64_t held(const goals_task *t, uint64_t at_first) {
    const uint64_t mapped = kwr_resources_mapped(t->resources, NULL), now = resident();
    const uint64_t grown = now > at_first ? now - at_first : 0;
    return grown > mapped ? grown : mapped;
}

static void modify_entry(goals_task *t, uint64_t number) {
    uint8_t key[KEY];
    void *bytes = NULL;
    goals_key(key, KEY, number);
    goals_must(t, kwr_backend_set_key(t->backend, (kwr_slice){ key, KEY }), "key");
    goals_must(t, kwr_value_modify(t->value, KWR_KEEP_SIZE, &bytes, NULL), "modify");
    ((uint8_t *)bytes)[0]++;
}

/* A checkpoint on its way to disk. */
typedef struct writing {
    kwr_view *view;
    kwr_snapshot_target target;
    kwr_snapshot_result result;
    kwr_error err;
    kwr_status status;
    bool done;
} writing;

static void *write_checkpoint(void *ctx) {
    writing *w = ctx;
    w->status = kwr_snapshot_write(w->view, &w->target, NULL, &w->result, &w->err);
    __atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Increments, one after the other, of an owner that never stops: about one key of a hundred changes
 * between them, and what it gets done while each is written. */
static void checkpoints_under_load(goals *g, goals_task *t, unsigned count) {
    static const uint8_t uid[16] = "goals-memory";
    kwr_error err;
    kwr_storage *storage;
    kwr_lineage *lineage;
    bench_rng rng = { g->b.seed };
    bench_must(kwr_storage_open(t->env, goals_dir(g, "memory"), true, &storage, &err), &err,
               "storage");
    bench_must(kwr_lineage_new(t->env, uid, "count", &lineage, &err), &err, "lineage");
    uint64_t changed = 0;
    for (unsigned checkpoint = 1; checkpoint <= count; checkpoint++) {
        writing w = { .target = { .struct_size = sizeof w.target,
                                  .env = t->env,
                                  .storage = storage,
                                  .job = "goals",
                                  .operator_id = "count",
                                  .generation = 1,
                                  .checkpoint = checkpoint,
                                  .sequence = checkpoint * 10000,
                                  .lineage = lineage,
                                  .last_use = true } };
        memcpy(w.target.job_uid, uid, sizeof uid);
        goals_must(t, kwr_backend_freeze(t->backend, &w.view), "freeze");
        pthread_t thread;
        if (pthread_create(&thread, NULL, write_checkpoint, &w) != 0) exit(1);
        while (!__atomic_load_n(&w.done, __ATOMIC_ACQUIRE)) {
            modify_entry(t, bench_below(&rng, t->entries));
            changed++;
        }
        pthread_join(thread, NULL);
        kwr_view_release(w.view);
        bench_must(w.status, &w.err, "checkpoint");
        kwr_bytes_free(&w.result.handle);
        kwr_lineage_confirm(lineage, checkpoint);
        for (uint64_t i = 0; i < t->entries / 100; i++)
            modify_entry(t, bench_below(&rng, t->entries));
    }
    kwr_lineage_free(lineage);
    kwr_storage_close(storage);
    (void)goals_dir(g, "memory");
    goals_detail(g, "changes while a checkpoint is written: %.2f %% of the keys",
                 100 * (double)changed / count / (double)t->entries);
}

void goals_memory(goals *g) {
    if (!goals_wanted(g, "P10")) return;
    malloc_trim(0);
    const uint64_t at_first = resident();
    const uint64_t unit = goals_size(g, 200000, 2000000);
    goals_task t;
    goals_open(&t, "memory", NULL, KEY, VALUE);
    /* Blocks kept for reuse: their share of the whole as it is by default at full size. */
    kwr_backend_close(t.backend);
    kwr_resources_close(t.resources);
    kwr_error err;
    const kwr_resources_options pool = { .struct_size = sizeof pool, .recycle_bytes = unit * 128 };
    bench_must(kwr_resources_open(t.env, &pool, &t.resources, &err), &err, "resources");
    const kwr_backend_options options = {
        .struct_size = sizeof options, .env = t.env, .resources = t.resources, .seed = 1
    };
    bench_must(kwr_backend_open(&options, &t.backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(t.backend, &value, &t.value, &err), &err, "state");

    double worst = 0;
    char where[64] = "";
    for (uint64_t units = 4; units <= 8; units++) {
        goals_fill(&t, units * unit);
        const double ratio = (double)held(&t, at_first) / (double)(t.entries * (KEY + VALUE));
        goals_detail(g, "%" PRIu64 " entries: %.3f", t.entries, ratio);
        if (ratio <= worst) continue;
        worst = ratio;
        snprintf(where, sizeof where, "at %" PRIu64 " entries", t.entries);
    }
    const double bytes = (double)(t.entries * (KEY + VALUE));
    checkpoints_under_load(g, &t, 10);
    goals_settle(&t);
    const double later = (double)held(&t, at_first) / bytes;
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(t.backend, &stats);
    goals_detail(g,
                 "after ten checkpoints: %.3f; in use %.3f, in spans of the store %.3f, pool %.3f",
                 later, (double)stats.used_bytes / bytes, (double)stats.mapped_bytes / bytes,
                 (double)kwr_resources_mapped(t.resources, NULL) / bytes);
    if (later > worst) {
        worst = later;
        snprintf(where, sizeof where, "after ten checkpoints");
    }
    double most = 0;
    kwr_view *view;
    goals_must(&t, kwr_backend_freeze(t.backend, &view), "freeze");
    for (uint64_t i = 0; i < t.entries; i++) {
        modify_entry(&t, i);
        if (i % (t.entries / 50) != 0 && i + 1 != t.entries) continue;
        const double ratio = (double)held(&t, at_first) / bytes;
        if (ratio > most) most = ratio;
    }
    kwr_view_release(view);
    goals_close(&t);
    goals_judge(g, "P10", worst, GOAL_AT_MOST, 1.6, "memory by key and value bytes, worst: %s",
                where);
    goals_judge(g, "P10", most, GOAL_AT_MOST, 2.6, "the same during a full rewrite");
}
