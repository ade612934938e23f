/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An attempt under simulation begins, with storages, job, tasks and what they restore, which must
 * be a consistent cut; and ends.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/engine.h"

void *sim_must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

void sim_fail(sim_engine *e, kwr_status status, const kwr_error *err) {
    kwr_error error = { 0 };
    if (e->failed) return;
    e->failed = true;
    if (err != NULL) error = *err;
    error.status = status;
    kwr_sim_attempt_fail(e->attempt, &error);
}

/* ---- opening ---- */

static void wake_job(void *ctx) { ((sim_engine *)ctx)->poll = true; }

static void open_job(void *ctx) {
    sim_engine *e = ctx;
    const sim_shape *shape = &e->run->shape;
    kwr_error err = { 0 };
    const kwr_job_options options = {
        .struct_size = sizeof options,
        .env = kwr_sim_process_env(kwr_sim_attempt_process(e->attempt, 0)),
        .storage = e->storages[0],
        .name = "sim",
        .max_parallelism = shape->max_parallelism,
        .interval_ms = shape->interval_ms,
        .min_pause_ms = shape->min_pause_ms,
        .timeout_ms = shape->timeout_ms,
        .retain = shape->retain,
        .tolerate_all = true,
        .lock_off = kwr_sim_attempt_beside(e->attempt),
        .inline_bytes = shape->inline_bytes > 0 ? shape->inline_bytes
                        : shape->inline_off     ? KWR_JOB_OPTIONS_INLINE_OFF
                                                : 0,
        .wake = wake_job,
        .wake_ctx = e,
    };
    const kwr_status status = kwr_job_open(&options, &e->job, &err);
    if (status < KWR_OK) {
        sim_fail(e, status, &err);
        return;
    }
    e->info.struct_size = sizeof e->info;
    kwr_job_get_info(e->job, &e->info);
    static const char *const names[] = { "source", "count", "tally", "sink" };
    static const unsigned roles[] = { KWR_TASK_SOURCE, KWR_TASK_KEYED, KWR_TASK_KEYED,
                                      KWR_TASK_SINK };
    for (unsigned i = 0; i < e->node_count && !e->failed; i++) {
        sim_node *n = &e->nodes[i];
        const uint32_t parallelism = n->kind == SIM_NODE_SOURCE ? e->sources : e->counts;
        const kwr_status added = kwr_job_add_task(e->job, names[n->kind], n->index, parallelism,
                                                  roles[n->kind], &n->number, &err);
        if (added < KWR_OK) sim_fail(e, added, &err);
    }
}

static kwr_status open_count(sim_node *n, kwr_error *err) {
    const kwr_reducing_descriptor count = { .struct_size = sizeof count,
                                            .name = "count",
                                            .type = { .kind = KWR_TYPE_I64 },
                                            .reduce = KWR_REDUCE_SUM };
    const kwr_status status = kwr_reducing_open(kwr_task_backend(n->task), &count, &n->count, err);
    if (status < KWR_OK) return status;
    return sim_kinds_open(&n->kinds, kwr_task_backend(n->task), n->engine->run->shape.wide, err);
}

static kwr_status open_tally(sim_node *n, kwr_error *err) {
    const kwr_value_descriptor total = { .struct_size = sizeof total,
                                         .name = "total",
                                         .type = { .kind = KWR_TYPE_U64 } };
    const kwr_map_descriptor latest = { .struct_size = sizeof latest,
                                        .name = "latest",
                                        .type = { .kind = KWR_TYPE_U64 } };
    const kwr_list_descriptor recent = { .struct_size = sizeof recent,
                                         .name = "recent",
                                         .type = { .kind = KWR_TYPE_U64 } };
    const kwr_list_descriptor journal = { .struct_size = sizeof journal, .name = "journal" };
    kwr_backend *backend = kwr_task_backend(n->task);
    kwr_status status = kwr_value_open(backend, &total, &n->total, err);
    if (status >= KWR_OK) status = kwr_map_open(backend, &latest, &n->latest, err);
    if (status >= KWR_OK) status = kwr_list_open(backend, &recent, &n->recent, err);
    if (status >= KWR_OK) status = kwr_list_open(backend, &journal, &n->journal, err);
    return status;
}

static uint64_t number(kwr_slice text) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++)
        value = 10 * value + (unsigned)(((const char *)text.data)[i] - '0');
    return value;
}

/* What the checkpoint gave this task; in a job that starts empty every task takes its share. */
static void restore_positions(sim_node *n) {
    const sim_engine *e = n->engine;
    const size_t count = kwr_task_split_count(n->task);
    if (e->info.restored_checkpoint == 0)
        for (unsigned i = 0; i < e->run->shape.splits; i++)
            n->owned[i] = i % e->sources == n->index;
    for (size_t i = 0; i < count; i++) {
        kwr_split split;
        if (kwr_task_split(n->task, i, &split) < KWR_OK) return;
        const kwr_slice digits = { (const char *)split.id.data + 1, split.id.size - 1 };
        const uint64_t which = number(digits);
        const bool ours = split.identity.size == sizeof SIM_IDENTITY - 1 &&
                          memcmp(split.identity.data, SIM_IDENTITY, split.identity.size) == 0;
        if (which >= SIM_SPLITS_MAX || !ours || number(split.position) > e->run->shape.records) {
            kwr_sim_violated(e->run->sim, "a split came back that was never set");
            return;
        }
        n->owned[which] = true;
        n->positions[which] = number(split.position);
    }
}

/* Half of all attempts restore lazily, half of these with loading in the background; one of four
 * reads nothing before it begins, so that pages come in among records, barriers and faults. Not
 * drawn: what a seed draws otherwise stays. */
static void choose_loading(const sim_engine *e, kwr_task_options *options) {
    const uint64_t x = (kwr_sim_seed(e->run->sim) * 31 + kwr_sim_attempt_number(e->attempt)) *
                       0x9e3779b97f4a7c15ULL;
    if ((x >> 40 & 1) == 0) return;
    options->loading = KWR_LOADING_LAZY;
    options->load_share = (x >> 41 & 1) != 0 ? 100 : KWR_LOAD_SHARE_NONE;
}
static bool reads_first(const sim_engine *e) {
    kwr_task_options options = { 0 };
    choose_loading(e, &options);
    return options.loading == KWR_LOADING_EAGER ||
           (kwr_sim_seed(e->run->sim) + kwr_sim_attempt_number(e->attempt)) % 2 == 0;
}

typedef struct opening {
    sim_node *n;
    kwr_slice assignment;
    kwr_storage *storage;
} opening;

static void open_task(void *ctx) {
    const opening *o = ctx;
    sim_node *n = o->n;
    kwr_error err = { 0 };
    kwr_task_options options = {
        .struct_size = sizeof options,
        .env = kwr_sim_process_env(n->process),
        .storage = o->storage,
        .assignment = o->assignment,
        .channels = n->input_count,
        .key_type = { .kind = KWR_TYPE_BYTES },
    };
    choose_loading(n->engine, &options);
    kwr_status status = kwr_task_open(&options, &n->task, &err);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, &err);
        return;
    }
    if (n->kind == SIM_NODE_SOURCE) restore_positions(n);
    if (n->kind == SIM_NODE_COUNT) status = open_count(n, &err);
    if (n->kind == SIM_NODE_TALLY) status = open_tally(n, &err);
    if (n->kind == SIM_NODE_SINK)
        status = sim_sink_open(options.env, n->task, n->index, &n->sink, &err);
    if (status < KWR_OK) sim_fail(n->engine, status, &err);
}

static void sweep_sink(void *ctx) {
    sim_node *n = ctx;
    kwr_error err = { 0 };
    const kwr_status status = sim_sink_sweep(n->sink, &err);
    if (status < KWR_OK) sim_fail(n->engine, status, &err);
}

/* How often the key was read before the positions that all sources were restored at. */
static uint64_t read_before(const sim_engine *e, unsigned key) {
    const sim_job *run = e->run;
    uint64_t times = 0;
    for (unsigned i = 0; i < e->node_count; i++)
        for (unsigned split = 0; split < SIM_SPLITS_MAX && e->nodes[i].kind == SIM_NODE_SOURCE;
             split++)
            for (uint64_t r = 0; r < e->nodes[i].positions[split]; r++)
                times += run->key_of[split * run->shape.records + r] == key;
    return times;
}

static uint64_t restored_number(kwr_status status, kwr_slice value) {
    uint64_t number = 0;
    if (status == KWR_OK && value.size == sizeof number) memcpy(&number, value.data, sizeof number);
    return number;
}

/* What is wrong with what came back of the current key; NULL: nothing. */
static const char *restored_wrong(sim_node *n, unsigned key, uint64_t expected) {
    char text[16];
    kwr_slice value = { 0 };
    const kwr_status status = n->kind == SIM_NODE_COUNT
                                  ? kwr_reducing_get(n->count, &value)
                                  : kwr_map_get(n->latest, sim_key_text(key, text), &value);
    if (status < KWR_OK) {
        sim_fail(n->engine, status, kwr_backend_error(kwr_task_backend(n->task)));
        return NULL;
    }
    if (restored_number(status, value) != expected)
        return n->kind == SIM_NODE_COUNT ? "count" : "latest";
    if (n->kind == SIM_NODE_COUNT) return sim_kinds_restored_wrong(&n->kinds, (int64_t)expected);
    uint64_t total = 0;
    for (unsigned i = key - key % SIM_FAMILY, end = i + SIM_FAMILY; i < end; i++)
        total += read_before(n->engine, i);
    const kwr_status found = kwr_value_get(n->total, &value);
    return found >= KWR_OK && restored_number(found, value) != total ? "total" : NULL;
}

/* What was restored fits where the sources go on: before the first record, of each key. */
static void expect_restored_cut(void *ctx) {
    sim_node *n = ctx;
    sim_engine *e = n->engine;
    char text[16];
    for (unsigned key = 0; key < e->run->shape.keys && !e->failed; key++) {
        const kwr_slice of =
            n->kind == SIM_NODE_COUNT ? sim_key_text(key, text) : sim_family_text(key, text);
        kwr_backend *backend = kwr_task_backend(n->task);
        if (sim_owner(n, of) != n->index) continue;
        const kwr_status status = kwr_backend_set_key(backend, of);
        if (status < KWR_OK) {
            sim_fail(e, status, kwr_backend_error(backend));
            return;
        }
        const uint64_t expected = read_before(e, key);
        const char *state = restored_wrong(n, key, expected);
        if (state == NULL) continue;
        kwr_sim_violated(e->run->sim,
                         "not a consistent cut: checkpoint %llu came back with another %s of k%u "
                         "than its sources have led to, who have read it %llu times",
                         (unsigned long long)e->info.restored_checkpoint, state, key,
                         (unsigned long long)expected);
        return;
    }
}

typedef struct opening_storage {
    sim_engine *e;
    kwr_sim_process *process;
    kwr_storage **storage;
} opening_storage;

static void open_storage(void *ctx) {
    const opening_storage *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_storage_open(kwr_sim_process_env(o->process), "file:/ckpt", true, o->storage, &err);
    if (status < KWR_OK) sim_fail(o->e, status, &err);
}

static void get_assignment(void *ctx) {
    opening *o = ctx;
    kwr_error err = { 0 };
    const kwr_status status =
        kwr_job_assignment(o->n->engine->job, o->n->number, &o->assignment, &err);
    if (status < KWR_OK) sim_fail(o->n->engine, status, &err);
}

static void start_job(void *ctx) {
    sim_engine *e = ctx;
    kwr_error err = { 0 };
    const kwr_status status = kwr_job_start(e->job, &err);
    if (status < KWR_OK) sim_fail(e, status, &err);
    e->poll = true;
}

/* Calls `fn` as the process unless the attempt has failed; it fails when the process dies. */
static void call(sim_engine *e, kwr_sim_process *process, void (*fn)(void *ctx), void *ctx) {
    if (!e->failed && !kwr_sim_process_call(process, fn, ctx)) sim_fail(e, KWR_ERR_CANCELLED, NULL);
}

static void open_all(sim_engine *e) {
    kwr_sim_process *first = kwr_sim_attempt_process(e->attempt, 0);
    for (unsigned p = 0; p < e->run->shape.processes; p++) {
        opening_storage o = { e, kwr_sim_attempt_process(e->attempt, p), &e->storages[p] };
        call(e, o.process, open_storage, &o);
    }
    call(e, first, open_job, e);
    for (unsigned i = 0; i < e->node_count; i++) {
        opening o = { .n = &e->nodes[i], .storage = e->storages[i % e->run->shape.processes] };
        call(e, first, get_assignment, &o);
        call(e, o.n->process, open_task, &o);
    }
    /* Only when every sink has committed again what its checkpoint carries. */
    for (unsigned i = 0; i < e->node_count; i++)
        if (e->nodes[i].kind == SIM_NODE_SINK)
            call(e, e->nodes[i].process, sweep_sink, &e->nodes[i]);
    for (unsigned i = 0; i < e->node_count && reads_first(e); i++)
        if (e->nodes[i].kind == SIM_NODE_COUNT || e->nodes[i].kind == SIM_NODE_TALLY)
            call(e, e->nodes[i].process, expect_restored_cut, &e->nodes[i]);
    call(e, first, start_job, e);
    /* A job that had finished: everything is committed now, starting it only tidies up. */
    if (!e->failed && e->info.restored_final) kwr_sim_attempt_finish(e->attempt);
}

static void add_nodes(sim_engine *e, sim_node_kind kind, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        sim_node *n = &e->nodes[e->node_count];
        n->engine = e;
        n->kind = kind;
        n->index = i;
        n->process = kwr_sim_attempt_process(e->attempt, e->node_count++ % e->run->shape.processes);
    }
}

/* Every source feeds every count, every count every tally, and each tally its sink. */
static void lay_out(sim_engine *e) {
    add_nodes(e, SIM_NODE_SOURCE, e->sources);
    add_nodes(e, SIM_NODE_COUNT, e->counts);
    add_nodes(e, SIM_NODE_TALLY, e->counts);
    add_nodes(e, SIM_NODE_SINK, e->counts);
    sim_node *counts = e->nodes + e->sources, *tallies = counts + e->counts,
             *sinks = tallies + e->counts;
    for (unsigned c = 0; c < e->counts; c++) {
        for (unsigned s = 0; s < e->sources; s++)
            sim_connect(e, &e->nodes[s], &counts[c]);
        for (unsigned from = 0; from < e->counts; from++)
            sim_connect(e, &counts[from], &tallies[c]);
        sim_connect(e, &tallies[c], &sinks[c]);
    }
}

/* The parallelism of this attempt: the first one's, or its own. */
static void draw_parallelism(sim_engine *e) {
    const sim_shape *shape = &e->run->shape;
    kwr_sim_rng rng = kwr_sim_rng_of(kwr_sim_seed(e->run->sim),
                                     SIM_STREAM_PARALLELISM + kwr_sim_attempt_number(e->attempt));
    const unsigned most =
        shape->max_parallelism < SIM_COUNTS_MAX ? shape->max_parallelism : SIM_COUNTS_MAX;
    e->sources = shape->rescale ? 1 + (unsigned)kwr_sim_below(&rng, shape->splits) : shape->sources;
    e->counts = shape->rescale ? 1 + (unsigned)kwr_sim_below(&rng, most) : shape->counts;
}

void *sim_engine_start(void *run, kwr_sim_attempt *attempt) {
    sim_engine *e = sim_must(calloc(1, sizeof *e));
    e->run = run;
    e->attempt = attempt;
    draw_parallelism(e);
    lay_out(e);
    open_all(e);
    return e;
}

/* ---- closing ---- */

static void close_node(void *ctx) {
    sim_node *n = ctx;
    sim_sink_close(n->sink);
    kwr_task_close(n->task);
}

static void close_job(void *ctx) { kwr_job_close(ctx); }
static void close_storage(void *ctx) { kwr_storage_close(ctx); }

void sim_engine_stop(void *state) {
    sim_engine *e = state;
    sim_item unused;
    for (unsigned i = 0; i < e->node_count; i++)
        (void)kwr_sim_process_call(e->nodes[i].process, close_node, &e->nodes[i]);
    (void)kwr_sim_process_call(kwr_sim_attempt_process(e->attempt, 0), close_job, e->job);
    for (unsigned p = 0; p < e->run->shape.processes; p++)
        (void)kwr_sim_process_call(kwr_sim_attempt_process(e->attempt, p), close_storage,
                                   e->storages[p]);
    for (unsigned c = 0; c < e->channel_count; c++)
        while (sim_pop(&e->channels[c], &unused))
            continue;
    free(e);
}
