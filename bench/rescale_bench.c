/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rescaling the RocksDB engine from local database directories, against copying key by key into a
 * new database, both from the same directories and both until the engine can be used:
 *
 *     rescale-bench [--json] [entries]     default 1000000, of all subtasks together
 *
 * 2 to 3 and 3 to 2 subtasks, every new one measured and the sum compared; also 2 to 2, where
 * nothing is to be clipped or loaded. Copying is done in batches of 500 writes, as is usual, and by
 * single writes. The rounds of all ways take turns. Then whole restores from a checkpoint in
 * storage, by phase: as they are, and with one worker, so that what reads, verifies and writes out
 * can be told apart. Directories are below $TMPDIR, else /tmp.
 */
#include <unistd.h>

#include "backend/key_group.h"
#include "backend/rocksdb/rocks.h"
#include "backend/view.h"
#include "base/limits.h"
#include "bench/bench.h"

enum { GROUPS = 128, PARTS_MAX = 3, VALUE = 100, SEED = 1, ROUNDS = 3, BATCH = 500 };

typedef struct part {
    kwr_engine *e;
    kwr_key_group_range range;
} part;

typedef struct setup {
    bench b;
    kwr_env *env;
    kwr_resources *resources;
    kwr_limits limits;
    uint64_t entries;
    char root[200];
    unsigned number;
    part parts[PARTS_MAX];
} setup;

/* ---- the watched file system; one for the program ---- */

static const kwr_fs *real_fs;
static uint64_t read_ns, write_ns; /* of all threads; atomic */

static kwr_status watch_read(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                             size_t *done, kwr_error *err) {
    const uint64_t start = bench_now_ns();
    const kwr_status status = real_fs->read(ctx, file, offset, data, size, done, err);
    __atomic_fetch_add(&read_ns, bench_now_ns() - start, __ATOMIC_RELAXED);
    return status;
}
static kwr_status watch_write(void *ctx, kwr_file *file, const void *data, size_t size,
                              size_t *done, kwr_error *err) {
    const uint64_t start = bench_now_ns();
    const kwr_status status = real_fs->write(ctx, file, data, size, done, err);
    __atomic_fetch_add(&write_ns, bench_now_ns() - start, __ATOMIC_RELAXED);
    return status;
}
static kwr_status watch_create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                               kwr_error *err) {
    const uint64_t start = bench_now_ns();
    const kwr_status status = real_fs->create(ctx, dir, name, out, err);
    __atomic_fetch_add(&write_ns, bench_now_ns() - start, __ATOMIC_RELAXED);
    return status;
}
static uint32_t one_worker(void *ctx) {
    (void)ctx;
    return 1;
}

static const kwr_engine_ops *const ops = &kwr_rocksdb_engine;

static void must(kwr_status status, const char *what) { bench_must(status, NULL, what); }

static void must_words(char *words, const char *what) {
    if (words == NULL) return;
    fprintf(stderr, "%s: %s\n", what, words);
    exit(1);
}

/* ---- engines ---- */

static kwr_engine *open_engine(setup *s, kwr_key_group_range range, bool adopts) {
    char directory[256];
    snprintf(directory, sizeof directory, "%s/engine-%u", s->root, s->number++);
    const kwr_engine_config config = { .env = s->env,
                                       .resources = s->resources,
                                       .max_parallelism = GROUPS,
                                       .key_groups = range,
                                       .limits = &s->limits,
                                       .hash_mask = UINT64_MAX,
                                       .seed = SEED,
                                       .directory = directory,
                                       .adopts = adopts };
    const kwr_state_info info = { .id = 0, .kind = KWR_STATE_VALUE, .name = "state" };
    kwr_engine *e = NULL;
    kwr_error err;
    bench_must(ops->open(&config, &e, &err), &err, "open an engine");
    must(ops->add_state(e, &info), "add a state");
    return e;
}

static void fill_value(uint8_t value[VALUE], uint64_t i) {
    for (size_t at = 0; at < VALUE; at += 4) { /* half of it repeats */
        const uint32_t word = at < VALUE / 2 ? (uint32_t)bench_mix(i * 32 + at) : 0x20202020;
        memcpy(value + at, &word, 4);
    }
}

/* Keys in the order of none. */
static void fill(setup *s, size_t count) {
    for (size_t i = 0; i < count; i++) {
        s->parts[i].range = kwr_key_groups_of((uint32_t)i, (uint32_t)count, GROUPS);
        s->parts[i].e = open_engine(s, s->parts[i].range, false);
    }
    for (uint64_t i = 0; i < s->entries; i++) {
        const uint64_t key[2] = { bench_mix(i), i };
        uint8_t value[VALUE];
        const kwr_slice bytes = { key, sizeof key };
        const kwr_address at = { .key_group =
                                     kwr_key_group_of_hash(kwr_key_hash(bytes, SEED), GROUPS),
                                 .key = bytes };
        size_t owner = 0;
        while (at.key_group - s->parts[owner].range.first >= s->parts[owner].range.count)
            owner++;
        fill_value(value, i);
        must(ops->put(s->parts[owner].e, &at, (kwr_slice){ value, VALUE }), "put");
    }
}

static void copy_part(setup *s, const part *p, char path[256]) {
    snprintf(path, 256, "%s/copy-%u", s->root, s->number++);
    char *words = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(p->e->db->db, &words);
    must_words(words, "checkpoint");
    rocksdb_checkpoint_create(checkpoint, path, 0, &words);
    must_words(words, "checkpoint");
    rocksdb_checkpoint_object_destroy(checkpoint);
}

/* ---- the ways ---- */

typedef enum bench_way { ADOPT, COPY_BATCHES, COPY_SINGLY, WAYS } bench_way;
static const char *const way_names[WAYS] = { "adopted", "copied, batches of 500",
                                             "copied, single writes" };

static void copy_range(kwr_engine *e, const char *path, kwr_key_group_range range, bool batches) {
    static const char *const names[] = { "default", "state-0" };
    const rocksdb_options_t *options[] = { e->db->options, e->db->options };
    rocksdb_column_family_handle_t *families[2];
    char *words = NULL;
    rocksdb_t *db = rocksdb_open_for_read_only_column_families(e->db->options, path, 2, names,
                                                               options, families, 0, &words);
    must_words(words, "open");
    const uint32_t end = range.first + range.count;
    const uint8_t low[2] = { (uint8_t)(range.first >> 8), (uint8_t)range.first };
    const uint8_t high[2] = { (uint8_t)(end >> 8), (uint8_t)end };
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(read, 0);
    rocksdb_readoptions_set_readahead_size(read, 2 << 20);
    rocksdb_readoptions_set_iterate_upper_bound(read, (const char *)high, 2);
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(db, read, families[1]);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (rocksdb_iter_seek(it, (const char *)low, 2); rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t key_size, value_size;
        const char *key = rocksdb_iter_key(it, &key_size);
        const char *value = rocksdb_iter_value(it, &value_size);
        if (!batches) {
            rocksdb_put_cf(e->db->db, e->db->write, e->states[0].family, key, key_size, value,
                           value_size, &words);
        } else {
            rocksdb_writebatch_put_cf(batch, e->states[0].family, key, key_size, value, value_size);
            if (rocksdb_writebatch_count(batch) < BATCH) continue;
            rocksdb_write(e->db->db, e->db->write, batch, &words);
            rocksdb_writebatch_clear(batch);
        }
        must_words(words, "write");
    }
    rocksdb_iter_get_error(it, &words);
    must_words(words, "read");
    rocksdb_write(e->db->db, e->db->write, batch, &words);
    must_words(words, "write");
    rocksdb_writebatch_destroy(batch);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(read);
    for (size_t i = 0; i < 2; i++)
        rocksdb_column_family_handle_destroy(families[i]);
    rocksdb_close(db);
}

static kwr_key_group_range common(kwr_key_group_range a, kwr_key_group_range b) {
    const uint32_t first = a.first > b.first ? a.first : b.first;
    const uint32_t a_end = a.first + a.count, b_end = b.first + b.count;
    const uint32_t end = a_end < b_end ? a_end : b_end;
    return (kwr_key_group_range){ first, first < end ? end - first : 0 };
}

/* Every entry, by an iterator of its own. */
static uint64_t count_entries(kwr_engine *e) {
    kwr_engine_view *view;
    kwr_state_count count;
    must(ops->freeze(e, &view), "freeze");
    ops->view_count(view, 0, &count);
    ops->view_release(view);
    return count.entries;
}

typedef struct cost {
    uint64_t ns, cpu, open, clip, load;
    uint64_t entries;
} cost;

static void restore_one(setup *s, size_t from, kwr_key_group_range range, bench_way way,
                        cost *sum) {
    static const uint32_t same[] = { 0 };
    char paths[PARTS_MAX][256];
    kwr_engine_donor donors[PARTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < from; i++) {
        if (common(s->parts[i].range, range).count == 0) continue;
        copy_part(s, &s->parts[i], paths[count]);
        donors[count] = (kwr_engine_donor){ .directory = paths[count],
                                            .key_groups = s->parts[i].range,
                                            .states = same,
                                            .state_count = 1 };
        count++;
    }
    const uint64_t start = bench_now_ns(), cpu = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    kwr_error err;
    kwr_engine *e = open_engine(s, range, way == ADOPT);
    if (way == ADOPT) {
        bench_must(kwr_rocks_adopt(e, donors, count, &err), &err, "adopt");
    } else {
        for (size_t i = 0; i < count; i++)
            copy_range(e, paths[i], common(donors[i].key_groups, range), way == COPY_BATCHES);
    }
    sum->ns += bench_now_ns() - start;
    sum->cpu += bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    sum->open += e->adopt_times.open;
    sum->clip += e->adopt_times.clip;
    sum->load += e->adopt_times.load;
    sum->entries += count_entries(e);
    ops->close(e);
    if (way != ADOPT)
        for (size_t i = 0; i < count; i++)
            kwr_rocks_remove_directory(s->env, paths[i]);
}

/* ---- results ---- */

static int by_time(const void *a, const void *b) {
    const cost *x = a, *y = b;
    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static double ms(uint64_t ns) { return (double)ns / 1e6; }

static void rescale(setup *s, size_t from, size_t to) {
    cost costs[WAYS][ROUNDS] = { 0 };
    for (size_t round = 0; round < ROUNDS; round++)
        for (bench_way way = 0; way < WAYS; way++)
            for (size_t i = 0; i < to; i++)
                restore_one(s, from, kwr_key_groups_of((uint32_t)i, (uint32_t)to, GROUPS), way,
                            &costs[way][round]);
    bench_say(&s->b, "%zu to %zu subtasks, %" PRIu64 " entries of %d bytes\n", from, to, s->entries,
              16 + VALUE);
    for (bench_way way = 0; way < WAYS; way++) {
        qsort(costs[way], ROUNDS, sizeof(cost), by_time);
        const cost *c = &costs[way][ROUNDS / 2];
        if (c->entries != s->entries) {
            fprintf(stderr, "%s: %" PRIu64 " entries\n", way_names[way], c->entries);
            exit(1);
        }
        bench_say(&s->b,
                  "  %-24s %8.1f ms  (%.1f to %.1f), processor %.1f ms: x %.2f, processor x %.2f",
                  way_names[way], ms(c->ns), ms(costs[way][0].ns), ms(costs[way][ROUNDS - 1].ns),
                  ms(c->cpu), (double)c->ns / (double)costs[ADOPT][ROUNDS / 2].ns,
                  (double)c->cpu / (double)costs[ADOPT][ROUNDS / 2].cpu);
        if (way == ADOPT)
            bench_say(&s->b, "; open %.1f, clip %.1f, load %.1f, the rest %.1f", ms(c->open),
                      ms(c->clip), ms(c->load), ms(c->ns - c->open - c->clip - c->load));
        bench_say(&s->b, "\n");
    }
    const double adopted = (double)costs[ADOPT][ROUNDS / 2].ns;
    bench_json(&s->b, "rescale",
               "\"from\":%zu,\"to\":%zu,\"entries\":%" PRIu64
               ",\"adopted_ms\":%.1f,\"copied_in_batches_ms\":%.1f,\"copied_singly_ms\":%.1f,"
               "\"ratio_batches\":%.2f,\"ratio_singly\":%.2f",
               from, to, s->entries, adopted / 1e6, ms(costs[COPY_BATCHES][ROUNDS / 2].ns),
               ms(costs[COPY_SINGLY][ROUNDS / 2].ns),
               (double)costs[COPY_BATCHES][ROUNDS / 2].ns / adopted,
               (double)costs[COPY_SINGLY][ROUNDS / 2].ns / adopted);
}

/* ---- whole restores, from storage ---- */

static kwr_backend_options backend_options(setup *s, kwr_key_group_range range, char path[256]) {
    snprintf(path, 256, "%s/backend-%u", s->root, s->number++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = s->env,
                                  .resources = s->resources,
                                  .engine = "rocksdb",
                                  .max_parallelism = GROUPS,
                                  .seed = SEED,
                                  .key_groups = range,
                                  .directory = path };
}

/* A checkpoint of one of `count` subtasks. */
static kwr_bytes checkpoint_part(setup *s, kwr_storage *storage, uint32_t index, uint32_t count) {
    char path[256];
    const kwr_key_group_range range = kwr_key_groups_of(index, count, GROUPS);
    const kwr_backend_options options = backend_options(s, range, path);
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "state" };
    kwr_backend *backend;
    kwr_value *state;
    kwr_view *view;
    kwr_error err;
    bench_must(kwr_backend_open(&options, &backend, &err), &err, "open");
    bench_must(kwr_value_open(backend, &d, &state, &err), &err, "open a state");
    for (uint64_t i = 0; i < s->entries; i++) {
        const uint64_t key[2] = { bench_mix(i), i };
        const kwr_slice bytes = { key, sizeof key };
        uint8_t value[VALUE];
        if (kwr_key_group(bytes, SEED, GROUPS) - range.first >= range.count) continue;
        fill_value(value, i);
        must(kwr_backend_set_key(backend, bytes), "set a key");
        must(kwr_value_put(state, (kwr_slice){ value, VALUE }), "put");
    }
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = s->env,
                                         .storage = storage,
                                         .job = "job",
                                         .operator_id = "op",
                                         .subtask = index,
                                         .generation = count,
                                         .checkpoint = count };
    kwr_snapshot_result result;
    must(kwr_backend_freeze_files(backend, &view), "freeze");
    bench_must(kwr_snapshot_write(view, &target, NULL, &result, &err), &err, "write");
    kwr_view_release(view);
    kwr_backend_close(backend);
    return result.handle;
}

typedef enum phase { WHOLE, FILES, READ, VERIFY, WRITE_OUT, OPEN, CLIP, LOAD, PHASES } phase;
static const char *const phase_names[PHASES] = {
    "restore", "read, verify, write out", "read", "verify", "write out", "open", "clip", "load",
};

/* All subtasks one after the other. */
static void restore_all(setup *s, kwr_storage *storage, const kwr_slice *handles, size_t from,
                        size_t to, double phases[PHASES]) {
    uint64_t ns[PHASES] = { 0 };
    read_ns = write_ns = 0;
    for (size_t i = 0; i < to; i++) {
        char path[256];
        const kwr_backend_options options =
            backend_options(s, kwr_key_groups_of((uint32_t)i, (uint32_t)to, GROUPS), path);
        kwr_backend *backend;
        const kwr_engine_ops *which;
        kwr_error err;
        const uint64_t start = bench_now_ns();
        bench_must(kwr_snapshot_restore(&options, storage, "job", handles, from, &backend, &err),
                   &err, "restore");
        ns[WHOLE] += bench_now_ns() - start;
        const rocks_adopt_times *times = &kwr_backend_engine(backend, &which)->adopt_times;
        ns[OPEN] += times->open;
        ns[CLIP] += times->clip;
        ns[LOAD] += times->load;
        kwr_backend_close(backend);
    }
    ns[FILES] = ns[WHOLE] - ns[OPEN] - ns[CLIP] - ns[LOAD];
    ns[READ] = read_ns;
    ns[WRITE_OUT] = write_ns;
    if (ns[FILES] > read_ns + write_ns) ns[VERIFY] = ns[FILES] - read_ns - write_ns;
    for (phase p = 0; p < PHASES; p++)
        phases[p] = ms(ns[p]);
}

/* With several workers what reads, verifies and writes out overlaps: only their sum is said. */
static void report_phases(setup *s, kwr_storage *storage, const kwr_slice *handles, size_t from,
                          size_t to, bool one) {
    bench_series series[PHASES] = { 0 };
    for (size_t round = 0; round < ROUNDS; round++) {
        double phases[PHASES];
        restore_all(s, storage, handles, from, to, phases);
        for (phase p = 0; p < PHASES; p++)
            bench_sample(&series[p], phases[p]);
    }
    bench_say(&s->b, "%zu to %zu subtasks, restored from storage, all of them together%s\n", from,
              to, one ? ", with one worker" : "");
    for (phase p = 0; p < PHASES; p++) {
        char what[64];
        if (!one && (p == READ || p == VERIFY || p == WRITE_OUT)) continue;
        snprintf(what, sizeof what, "%zu to %zu%s: %s", from, to, one ? ", one worker" : "",
                 phase_names[p]);
        bench_report(&s->b, what, "ms", &series[p]);
    }
}

static void restore_by_phase(setup *s, size_t from, size_t to) {
    char root[256];
    kwr_storage *storage;
    kwr_error err;
    kwr_bytes parts[PARTS_MAX];
    kwr_slice handles[PARTS_MAX];
    kwr_env *const every = s->env;
    kwr_env env = *every;
    kwr_fs fs = *every->fs;
    kwr_executor executor = *every->executor;
    real_fs = every->fs;
    fs.read = watch_read;
    fs.write = watch_write;
    fs.create = watch_create;
    env.fs = &fs;
    s->env = &env;
    snprintf(root, sizeof root, "file:%s/storage-%u", s->root, s->number++);
    bench_must(kwr_storage_open(s->env, root, true, &storage, &err), &err, "storage");
    for (size_t i = 0; i < from; i++) {
        parts[i] = checkpoint_part(s, storage, (uint32_t)i, (uint32_t)from);
        handles[i] = (kwr_slice){ parts[i].data, parts[i].size };
    }
    report_phases(s, storage, handles, from, to, false);
    executor.parallelism = one_worker;
    env.executor = &executor;
    report_phases(s, storage, handles, from, to, true);
    for (size_t i = 0; i < from; i++)
        kwr_bytes_free(&parts[i]);
    kwr_storage_close(storage);
    s->env = every;
}

int main(int argc, char **argv) {
    setup s = { .entries = 1000000 };
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            s.entries = strtoull(argv[i], NULL, 10);
    }
    kwr_error err;
    bench_start(&s.b, "rescale", json, SEED);
    bench_must(kwr_env_posix_open(NULL, &s.env, &err), &err, "environment");
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    bench_must(kwr_resources_open(s.env, &pool, &s.resources, &err), &err, "resources");
    bench_must(kwr_limits_complete(NULL, &s.limits, &err), &err, "limits");
    const char *base = getenv("TMPDIR");
    snprintf(s.root, sizeof s.root, "%s/rescale-bench-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(s.root) == NULL) return 1;
    static const size_t changes[][2] = { { 2, 2 }, { 2, 3 }, { 3, 2 } };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        if (i == 0 || changes[i][0] != changes[i - 1][0]) fill(&s, changes[i][0]);
        rescale(&s, changes[i][0], changes[i][1]);
        if (i + 1 < sizeof changes / sizeof changes[0] && changes[i + 1][0] == changes[i][0])
            continue;
        for (size_t j = 0; j < changes[i][0]; j++)
            ops->close(s.parts[j].e);
    }
    restore_by_phase(&s, 2, 2);
    restore_by_phase(&s, 2, 3);
    restore_by_phase(&s, 3, 2);
    char command[300]; /* the storages */
    snprintf(command, sizeof command, "rm -rf '%s'", s.root);
    if (system(command) != 0) return 1;
    kwr_resources_close(s.resources);
    kwr_env_posix_close(s.env);
    return 0;
}
