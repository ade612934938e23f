/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Incremental checkpoints against full ones of the same state, at the same moment:
 *
 *     increments-bench [--json] [--engine NAME] [entries]     default: all engines, 1000000 of 8 +
 * 96 bytes
 *
 * A part of the keys, drawn uniformly, gets new values; then the state is frozen and written twice,
 * as an increment of the last checkpoint and in full. Bytes are those written to storage, times
 * those of the freeze, which stops the owner, and of the write. Values do not compress. The
 * directories are below $TMPDIR, else /tmp, and removed at the end.
 */
#include "bench/bench.h"

enum { VALUE = 96, SEED = 1, STEPS = 5, INLINE = 256 << 10 };

typedef struct setup {
    bench b;
    kwr_env *env;
    const char *engine;
    char root[200];
    uint64_t entries;
    kwr_storage *storage;
    kwr_backend *backend;
    kwr_value *value;
    kwr_lineage *lineage;
    uint64_t checkpoint, sequence;
    bench_rng rng;
} setup;

/* One way to write a checkpoint. */
typedef struct way {
    bench_series bytes, freeze, write, files;
} way;

static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }
static double ms(uint64_t ns) { return (double)ns / 1e6; }

static void put(setup *s, uint64_t number) {
    uint8_t key[8];
    uint64_t value[VALUE / 8];
    for (size_t i = 0; i < VALUE / 8; i++)
        value[i] = bench_random(&s->rng);
    const size_t size = kwr_key_from_i64((int64_t)number, key);
    bench_must(kwr_backend_set_key(s->backend, (kwr_slice){ key, size }),
               kwr_backend_error(s->backend), "set key");
    bench_must(kwr_value_put(s->value, (kwr_slice){ value, sizeof value }),
               kwr_backend_error(s->backend), "put");
}

/* A view of its own for each: what an engine flushes for the first it does not for the second. */
static void checkpoint(setup *s, bool full, way *w) {
    kwr_view *view;
    kwr_error err;
    const uint64_t start = bench_now_ns();
    bench_must(kwr_backend_freeze_files(s->backend, &view), kwr_backend_error(s->backend),
               "freeze");
    const uint64_t frozen = bench_now_ns();
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = s->env,
                                         .storage = s->storage,
                                         .job = "job",
                                         .operator_id = "operator",
                                         .generation = full ? 2 : 1,
                                         .checkpoint = s->checkpoint,
                                         .sequence = s->sequence,
                                         .inline_bytes = INLINE,
                                         .lineage = full ? NULL : s->lineage };
    kwr_snapshot_result result;
    bench_must(kwr_snapshot_write(view, &target, NULL, &result, &err), &err, "write");
    const uint64_t written = bench_now_ns();
    if (!full) kwr_lineage_confirm(s->lineage, s->checkpoint);
    s->sequence = result.sequence_next;
    if (w != NULL) {
        bench_sample(&w->bytes, megabytes(result.bytes_written));
        bench_sample(&w->freeze, ms(frozen - start));
        bench_sample(&w->write, ms(written - frozen));
        bench_sample(&w->files, (double)result.files_used);
    }
    kwr_bytes_free(&result.handle);
    kwr_view_release(view);
}

static void report(const setup *s, const char *name, const way *w) {
    char what[64];
    snprintf(what, sizeof what, "%s: bytes", name);
    bench_report(&s->b, what, "MB", &w->bytes);
    snprintf(what, sizeof what, "%s: freeze", name);
    bench_report(&s->b, what, "ms", &w->freeze);
    snprintf(what, sizeof what, "%s: write", name);
    bench_report(&s->b, what, "ms", &w->write);
    snprintf(what, sizeof what, "%s: files in use", name);
    bench_report(&s->b, what, "", &w->files);
}

static void change(setup *s, unsigned per_thousand) {
    way increments = { 0 }, full = { 0 };
    const uint64_t changes = s->entries * per_thousand / 1000;
    for (unsigned step = 0; step < STEPS; step++) {
        for (uint64_t i = 0; i < changes; i++)
            put(s, bench_below(&s->rng, s->entries));
        s->checkpoint++;
        checkpoint(s, false, &increments);
        checkpoint(s, true, &full);
    }
    const double bytes = bench_median(&increments.bytes) / bench_median(&full.bytes),
                 time = bench_median(&increments.write) / bench_median(&full.write);
    bench_say(&s->b,
              "%s, %" PRIu64
              " entries, %.1f %% changed: ratio %.3f of the bytes, %.3f of the time\n",
              s->engine, s->entries, per_thousand / 10.0, bytes, time);
    report(s, "increment", &increments);
    report(s, "full", &full);
    bench_json(&s->b, "ratio",
               "\"engine\":\"%s\",\"entries\":%" PRIu64
               ",\"changed\":%.3f,\"bytes\":%.4f,\"time\":%.4f",
               s->engine, s->entries, per_thousand / 1000.0, bytes, time);
}

static void run(setup *s) {
    char directory[256], storage[256];
    const uint8_t uid[16] = { 0 };
    kwr_error err;
    snprintf(directory, sizeof directory, "%s/%s", s->root, s->engine);
    snprintf(storage, sizeof storage, "%s/%s-storage", s->root, s->engine);
    bench_must(kwr_storage_open(s->env, storage, true, &s->storage, &err), &err, "storage");
    const kwr_backend_options options = {
        .struct_size = sizeof options,
        .env = s->env,
        .engine = s->engine,
        .key_type = { .kind = KWR_TYPE_I64 },
        .directory = strcmp(s->engine, "memory") == 0 ? NULL : directory,
    };
    bench_must(kwr_backend_open(&options, &s->backend, &err), &err, "backend");
    const kwr_value_descriptor value = { .struct_size = sizeof value, .name = "value" };
    bench_must(kwr_value_open(s->backend, &value, &s->value, &err), &err, "value");
    bench_must(kwr_lineage_new(s->env, uid, "operator", &s->lineage, &err), &err, "lineage");
    for (uint64_t i = 0; i < s->entries; i++)
        put(s, i);
    s->checkpoint = s->sequence = 1;
    checkpoint(s, false, NULL);
    static const unsigned per_thousand[] = { 1, 10, 100 };
    for (size_t i = 0; i < sizeof per_thousand / sizeof per_thousand[0]; i++)
        change(s, per_thousand[i]);
    kwr_lineage_free(s->lineage);
    kwr_backend_close(s->backend);
    kwr_storage_close(s->storage);
}

int main(int argc, char **argv) {
    setup s = { .entries = 1000000, .rng = { SEED } };
    const char *only = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--engine") == 0 && i + 1 < argc)
            only = argv[++i];
        else
            s.entries = strtoull(argv[i], NULL, 10);
    }
    if (s.entries < 1000) {
        fprintf(stderr, "increments: at least 1000 entries, not %" PRIu64 "\n", s.entries);
        return 2;
    }
    kwr_error err;
    bench_start(&s.b, "increments", json, SEED);
    bench_must(kwr_env_posix_open(NULL, &s.env, &err), &err, "environment");
    const char *base = getenv("TMPDIR");
    snprintf(s.root, sizeof s.root, "%s/increments-bench-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(s.root) == NULL) return 1;
    static const char *const engines[] = { "memory",
#ifdef KWR_BENCH_ROCKSDB_VERSION
                                           "rocksdb"
#endif
    };
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        s.engine = engines[i];
        if (only == NULL || strcmp(only, s.engine) == 0) run(&s);
    }
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", s.root);
    if (system(command) != 0) return 1;
    kwr_env_posix_close(s.env);
    return 0;
}
