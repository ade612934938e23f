/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the job: where to start, the wiring of the reference engine, and the order of
 * everything from the first lock to the last commit. docs/wordcount.md has the contract.
 */
#include "examples/wordcount_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/engine/engine.h"
#include "examples/engine/error.h"
#include "examples/engine/output_dir.h"
#include "examples/engine/sink_file.h"
#include "examples/engine/source_file.h"
#include "examples/wordcount_report.h"
#include "examples/wordcount_signals.h"
#include "examples/wordcount_tasks.h"

/* In a row; then the run ends with the last one's reason. */
enum { FAILED_CHECKPOINTS_MAX = 5 };
static const uint64_t tick_ns = UINT64_C(500000000);

/* A sink and who it reports to. */
typedef struct sink_slot {
    eng_sink *sink;
    wc_report *report;
    uint32_t subtask;
} sink_slot;

typedef struct wordcount {
    const wc_options *options;
    const kwr_env *env;
    wc_report report;
    eng_output_dir output;
    kwr_lock *output_lock;
    kwr_storage *storage;
    kwr_storage *remote, *limited, *local, *copying; /* what it stands on; NULL: not asked for */
    kwr_job *job;
    kwr_job_info info;
    eng_engine *engine;
    char *state_directory;
    wc_signals signals;
    eng_source *sources;
    wc_count *counts;
    sink_slot *sinks;
    wc_end end;
} wordcount;

/* ---- telling ---- */

static uint64_t lines_read(const wordcount *wc) {
    uint64_t lines = 0;
    for (uint32_t i = 0; i < wc->options->input_count; i++) {
        lines += atomic_load_explicit(&wc->sources[i].lines_read, memory_order_relaxed);
    }
    return lines;
}

/* ", state 38 % loaded, 12 s left", or "" when all of it is. */
static void loading_text(const wordcount *wc, char *out, size_t size) {
    uint64_t all = 0, left = 0, ns = 0;
    *out = '\0';
    for (uint32_t i = 0; i < wc->options->parallelism; i++) {
        const wc_count *c = &wc->counts[i];
        all += atomic_load_explicit(&c->load_bytes, memory_order_relaxed);
        const uint64_t theirs = atomic_load_explicit(&c->load_bytes_left, memory_order_relaxed);
        const uint64_t their_ns = atomic_load_explicit(&c->load_left_ns, memory_order_relaxed);
        left += theirs;
        if (theirs > 0 && their_ns > ns) ns = their_ns;
    }
    if (left == 0) return;
    const int done =
        snprintf(out, size, ", state %.0f %% loaded", 100.0 * (double)(all - left) / (double)all);
    if (ns != UINT64_MAX)
        snprintf(out + done, size - (size_t)done, ", %.0f s left", (double)ns / 1e9);
}

static void on_job_event(void *ctx, const kwr_job_event *event) {
    wordcount *wc = ctx;
    if (event->kind == KWR_JOB_FINISHED) {
        wc->end.checkpoint = event->checkpoint;
        wc->end.finished = event->final;
    }
    char text[WC_LOADING_TEXT];
    loading_text(wc, text, sizeof text);
    wc_report_loading(&wc->report, text);
    wc_report_job_event(&wc->report, event, lines_read(wc));
}

static void on_tick(void *ctx) {
    wordcount *wc = ctx;
    char text[WC_LOADING_TEXT];
    loading_text(wc, text, sizeof text);
    wc_report_loading(&wc->report, text);
    wc_report_progress(&wc->report, lines_read(wc));
}

static void on_input_note(void *ctx, const char *text) {
    wc_report_note(&((wordcount *)ctx)->report, "%s", text);
}

static void on_committing(void *ctx, uint64_t checkpoint) {
    wc_report_committing(((sink_slot *)ctx)->report, checkpoint);
}

static void on_committed(void *ctx, uint64_t checkpoint) {
    const sink_slot *slot = ctx;
    wc_report_committed(slot->report, slot->subtask, checkpoint);
}

static void on_sink_note(void *ctx, const char *text) {
    wc_report_warning(((sink_slot *)ctx)->report, "%s", text);
}

/* ---- where to start ---- */

static kwr_status lock_output(wordcount *wc, kwr_error *err) {
    if (wc->options->no_lock) return KWR_OK;
    kwr_error why = ENG_ERROR_NONE;
    const kwr_fs *fs = wc->env->fs;
    const kwr_status status =
        fs->lock(fs->ctx, wc->output.dir, ".keyweir.lock", &wc->output_lock, NULL, &why);
    if (status >= KWR_OK) return KWR_OK;
    return eng_pass(err, status, &why, "output directory '%s'", wc->options->output);
}

/* Refuses to start empty over the output of a job: it would be written again. */
static kwr_status refuse_parts(const wordcount *wc, const eng_parts *parts, kwr_error *err) {
    const wc_options *options = wc->options;
    if (options->restore == WC_RESTORE_NONE) {
        return eng_fail(err, KWR_ERR_REFUSED, 0,
                        "--restore none: output directory '%s' holds '%s': starting empty would "
                        "write its lines again. Give an --output without parts, or move them away",
                        options->output, parts->example);
    }
    return eng_fail(err, KWR_ERR_REFUSED, 0,
                    "output directory '%s' holds '%s', but the log of job '%s' in '%s' names no "
                    "checkpoint to continue from: starting empty would write those lines again. "
                    "Give the --checkpoints this output was written with; or, to start over, an "
                    "--output without parts and --restore none",
                    options->output, parts->example, options->job, options->checkpoints);
}

/* Parts from checkpoints the log has never heard of: the two do not belong together. */
static kwr_status refuse_newer_parts(const wordcount *wc, const eng_parts *parts, uint64_t highest,
                                     kwr_error *err) {
    return eng_fail(err, KWR_ERR_REFUSED, 0,
                    "output directory '%s' holds '%s', but the highest checkpoint in the log of "
                    "job '%s' in '%s' is %" PRIu64 ": going on would write lines again. Give the "
                    "--output and --checkpoints that belong together",
                    wc->options->output, parts->highest_name, wc->options->job,
                    wc->options->checkpoints, highest);
}

static kwr_status check_parts(const wordcount *wc, bool empty, uint64_t highest, kwr_error *err) {
    eng_parts parts;
    ENG_TRY(eng_output_parts(&wc->output, &parts, err));
    if (empty && parts.count > 0) return refuse_parts(wc, &parts, err);
    if (parts.highest > highest) return refuse_newer_parts(wc, &parts, highest, err);
    return KWR_OK;
}

/* A checkpoint named by its directory must be one of this job. */
static kwr_status check_restore_parent(const wc_options *options, kwr_error *err) {
    if (options->restore_parent == NULL) return KWR_OK;
    char job_dir[4096];
    const int size = snprintf(job_dir, sizeof job_dir, "%s/%s", options->root, options->job);
    if (size < 0 || (size_t)size >= sizeof job_dir) {
        return eng_fail(err, KWR_ERR_RANGE, 0, "--checkpoints: the path is too long");
    }
    char *named = realpath(options->restore_parent, NULL);
    char *own = realpath(job_dir, NULL);
    const bool same = named != NULL && own != NULL && strcmp(named, own) == 0;
    free(named);
    free(own);
    if (same) return KWR_OK;
    return eng_fail(err, KWR_ERR_REFUSED, 0,
                    "--restore: '%s' is not the directory of job '%s', which is '%s'",
                    options->restore_parent, options->job, job_dir);
}

/* What can be refused is refused before the log is touched. */
static kwr_status check_start(wordcount *wc, kwr_error *err) {
    ENG_TRY(check_restore_parent(wc->options, err));
    uint64_t newest = 0;
    uint64_t highest = 0;
    ENG_TRY(kwr_job_peek(wc->env, wc->storage, wc->options->job, &newest, &highest, err));
    const bool empty = wc->options->restore == WC_RESTORE_NONE ||
                       (wc->options->restore == WC_RESTORE_AUTO && newest == 0);
    return check_parts(wc, empty, highest, err);
}

static kwr_status open_job(wordcount *wc, kwr_error *err) {
    const wc_options *options = wc->options;
    static const kwr_restore_mode modes[] = {
        [WC_RESTORE_AUTO] = KWR_RESTORE_NEWEST,
        [WC_RESTORE_NONE] = KWR_RESTORE_NONE,
        [WC_RESTORE_CHECKPOINT] = KWR_RESTORE_CHECKPOINT,
    };
    const kwr_job_options job = {
        .struct_size = sizeof job,
        .env = wc->env,
        .storage = wc->storage,
        .name = options->job,
        .max_parallelism = options->max_parallelism,
        .seed = options->seed,
        .seed_given = options->seed_given,
        .restore = modes[options->restore],
        .restore_checkpoint = options->restore_checkpoint,
        .restore_generation = options->restore_generation,
        .interval_ms = options->interval_ms,
        .retain = options->retain,
        .tolerable_failures = FAILED_CHECKPOINTS_MAX,
        .lock_off = options->no_lock,
        .inline_bytes = !options->inline_given       ? 0
                        : options->inline_bytes == 0 ? KWR_JOB_OPTIONS_INLINE_OFF
                                                     : (size_t)options->inline_bytes,
        .wake = eng_engine_wake,
        .wake_ctx = wc->engine,
    };
    ENG_TRY(kwr_job_open(&job, &wc->job, err));
    wc->info = (kwr_job_info){ .struct_size = sizeof wc->info };
    kwr_job_get_info(wc->job, &wc->info);
    eng_engine_set_job(wc->engine, wc->job);
    /* Without locks another attempt may have gone on since the first look. */
    ENG_TRY(check_parts(wc, wc->info.restored_checkpoint == 0, wc->info.highest_checkpoint, err));
    if (wc->info.restored_checkpoint != 0) {
        wc_report_phase(&wc->report, "restoring", wc->info.restored_checkpoint, wc->info.slot);
        wc_report_note(&wc->report, "restoring checkpoint %" PRIu64 " as generation %" PRIu64,
                       wc->info.restored_checkpoint, wc->info.generation);
    }
    if (wc->options->seed_given && wc->options->seed != wc->info.seed) {
        wc_report_note(&wc->report, "--seed is ignored: the job has its own since its first start");
    }
    return KWR_OK;
}

/* ---- wiring ---- */

static kwr_status add(wordcount *wc, const char *operator_id, uint32_t subtask,
                      uint32_t parallelism, unsigned roles, uint32_t inputs, uint32_t outputs,
                      eng_operator ops, eng_task **out, kwr_error *err) {
    const eng_task_options options = {
        .operator_id = operator_id,
        .subtask = subtask,
        .parallelism = parallelism,
        .roles = roles,
        .inputs = inputs,
        .outputs = outputs,
        .key_type = { .kind = KWR_TYPE_BYTES },
        .ops = ops,
    };
    return eng_engine_add(wc->engine, &options, out, err);
}

/* A source for each input: as many as the job was started with. */
static kwr_status check_inputs(const wordcount *wc, kwr_error *err) {
    const uint32_t stored = kwr_job_stored_parallelism(wc->job, "source");
    if (stored == 0 || stored == wc->options->input_count) return KWR_OK;
    return eng_fail(err, KWR_ERR_REFUSED, 0,
                    "--input: the job was started with %" PRIu32 " inputs, not %" PRIu32
                    "; give the same files in the same order",
                    stored, wc->options->input_count);
}

static kwr_status add_sources(wordcount *wc, eng_task **tasks, kwr_error *err) {
    const wc_options *options = wc->options;
    ENG_TRY(check_inputs(wc, err));
    for (uint32_t i = 0; i < options->input_count; i++) {
        wc->sources[i].env = wc->env;
        wc->sources[i].path = options->inputs[i];
        wc->sources[i].ordinal = i;
        wc->sources[i].rate = options->rate;
        wc->sources[i].line = wc_split_line;
        wc->sources[i].note = on_input_note;
        wc->sources[i].ctx = wc;
        kwr_error why = ENG_ERROR_NONE;
        const kwr_status status =
            add(wc, "source", i, options->input_count, KWR_TASK_SOURCE, 0, options->parallelism,
                eng_source_operator(&wc->sources[i]), &tasks[i], &why);
        if (status < KWR_OK) return eng_pass(err, status, &why, "input '%s'", options->inputs[i]);
    }
    return KWR_OK;
}

static kwr_status add_sink(wordcount *wc, uint32_t subtask, eng_task **out, kwr_error *err) {
    sink_slot *slot = &wc->sinks[subtask];
    slot->report = &wc->report;
    slot->subtask = subtask;
    const eng_sink_options options = {
        .output = &wc->output,
        .job = wc->options->job,
        .subtask = subtask,
        .generation = wc->info.generation,
        .next_checkpoint = wc->info.highest_checkpoint + 1,
        .committing = on_committing,
        .committed = on_committed,
        .note = on_sink_note,
        .ctx = slot,
    };
    ENG_TRY(eng_sink_new(&options, &slot->sink, err));
    return add(wc, "sink", subtask, wc->options->parallelism, KWR_TASK_SINK, 1, 0,
               eng_sink_operator(slot->sink, wc_write_counts), out, err);
}

static void report_parallelism(wordcount *wc) {
    const uint32_t stored = kwr_job_stored_parallelism(wc->job, "count");
    if (stored == 0 || stored == wc->options->parallelism) return;
    wc_report_note(&wc->report, "going on with %" PRIu32 " counting tasks instead of %" PRIu32,
                   wc->options->parallelism, stored);
}

static kwr_status add_counts_and_sinks(wordcount *wc, eng_task **sources, kwr_error *err) {
    const wc_options *options = wc->options;
    report_parallelism(wc);
    for (uint32_t i = 0; i < options->parallelism; i++) {
        eng_task *count = NULL;
        eng_task *sink = NULL;
        kwr_error why = ENG_ERROR_NONE;
        kwr_status status =
            add(wc, "count", i, options->parallelism, KWR_TASK_KEYED, options->input_count, 1,
                wc_count_operator(&wc->counts[i]), &count, &why);
        if (status >= KWR_OK) status = add_sink(wc, i, &sink, &why);
        if (status < KWR_OK) {
            return eng_pass(err, status, &why, "--parallelism %" PRIu32, options->parallelism);
        }
        for (uint32_t k = 0; k < options->input_count; k++) {
            eng_engine_connect(sources[k], i, count, k);
        }
        eng_engine_connect(count, 0, sink, 0);
    }
    return KWR_OK;
}

static kwr_status wire(wordcount *wc, kwr_error *err) {
    const wc_options *options = wc->options;
    wc->sources = calloc(options->input_count, sizeof *wc->sources);
    wc->counts = calloc(options->parallelism, sizeof *wc->counts);
    wc->sinks = calloc(options->parallelism, sizeof *wc->sinks);
    eng_task **tasks = calloc(options->input_count, sizeof(eng_task *));
    kwr_status status = KWR_OK;
    if (wc->sources == NULL || wc->counts == NULL || wc->sinks == NULL || tasks == NULL) {
        status = eng_no_memory(err, "the tasks");
    }
    if (status == KWR_OK) status = add_sources(wc, tasks, err);
    if (status == KWR_OK) status = add_counts_and_sinks(wc, tasks, err);
    free(tasks);
    return status;
}

/* Pending files of earlier attempts: what they were for is committed or was never completed. */
static kwr_status sweep_output(wordcount *wc, kwr_error *err) {
    uint64_t count = 0;
    ENG_TRY(eng_output_sweep(&wc->output, wc->options->job, wc->info.generation, &count, err));
    if (count > 0) wc_report_note(&wc->report, "removed %" PRIu64 " unfinished files", count);
    return KWR_OK;
}

/*
 * Output of checkpoints that an explicit choice gave up moves aside, also when that start was
 * interrupted. After the sweep: an earlier attempt still alive has nothing left to make parts of.
 */
static kwr_status roll_back_output(wordcount *wc, kwr_error *err) {
    uint64_t count = 0;
    const kwr_job_info *info = &wc->info;
    if (info->restored_checkpoint == 0 || info->restored_checkpoint >= info->highest_checkpoint) {
        return KWR_OK;
    }
    ENG_TRY(eng_output_roll_back(&wc->output, info->restored_checkpoint, info->highest_checkpoint,
                                 info->generation, &count, err));
    if (count == 0) return KWR_OK;
    char name[ENG_ROLLED_BACK_TEXT];
    eng_rolled_back_name(info->restored_checkpoint, info->generation, name);
    wc_report_warning(&wc->report,
                      "back to checkpoint %" PRIu64 ": moved %" PRIu64
                      " parts of checkpoints up to %" PRIu64 " to '%s/%s'",
                      info->restored_checkpoint, count, info->highest_checkpoint,
                      wc->options->output, name);
    return KWR_OK;
}

/* ---- running ---- */

/* Where the option says, or beside the checkpoints, or beside the output when those are elsewhere.
 */
static kwr_status name_state_directory(wordcount *wc, kwr_error *err) {
    const wc_options *options = wc->options;
    const bool given = options->state_directory != NULL;
    const char *beside = strstr(options->root, "://") == NULL ? options->root : options->output;
    const char *path = given ? options->state_directory : beside;
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    wc->state_directory = malloc(size + sizeof ".state");
    if (wc->state_directory == NULL) return eng_no_memory(err, "a path");
    memcpy(wc->state_directory, path, size);
    memcpy(wc->state_directory + size, given ? "" : ".state", given ? 1 : sizeof ".state");
    return KWR_OK;
}

/* Each stands on the one before: what --checkpoints names, the limit, the local copies. */
static kwr_status open_storage(wordcount *wc, kwr_error *err) {
    const wc_options *options = wc->options;
    const kwr_storage_rates rates = { .struct_size = sizeof rates,
                                      .write_bytes_per_second = options->write_rate };
    ENG_TRY(kwr_storage_open(wc->env, options->root, true, &wc->remote, err));
    wc->storage = wc->remote;
    if (options->write_rate > 0) {
        ENG_TRY(kwr_storage_limited_open(wc->env, wc->remote, &rates, &wc->limited, err));
        wc->storage = wc->limited;
    }
    if (options->local_copy == NULL) return KWR_OK;
    ENG_TRY(kwr_storage_open(wc->env, options->local_copy, true, &wc->local, err));
    ENG_TRY(kwr_storage_local_copy_open(wc->env, wc->storage, wc->local, &wc->copying, err));
    wc->storage = wc->copying;
    return KWR_OK;
}

static void report_restored(wordcount *wc) {
    kwr_local_copy_stats stats = { .struct_size = sizeof stats };
    if (wc->options->local_copy == NULL || wc->info.restored_checkpoint == 0) return;
    kwr_storage_local_copy_get_stats(wc->storage, &stats);
    wc_report_restored(&wc->report, wc->info.restored_checkpoint, &stats);
    wc_report_note(&wc->report,
                   "restored %" PRIu64 " bytes from local copies, %" PRIu64 " from storage",
                   stats.bytes_local, stats.bytes_remote);
}

static kwr_status open_all(wordcount *wc, kwr_error *err) {
    const wc_options *options = wc->options;
    ENG_TRY(name_state_directory(wc, err));
    ENG_TRY(wc_report_init(&wc->report, wc->env, options->quiet, options->events,
                           options->parallelism, err));
    ENG_TRY(eng_output_open(wc->env, options->output, &wc->output, err));
    ENG_TRY(lock_output(wc, err));
    ENG_TRY(open_storage(wc, err));
    const eng_options engine = {
        .env = wc->env,
        .storage = wc->storage,
        .backend = options->backend,
        .state_directory = wc->state_directory,
        .loading = options->lazy ? KWR_LOADING_LAZY : KWR_LOADING_EAGER,
        .event = on_job_event,
        .tick = on_tick,
        .tick_ns = wc->report.terminal ? tick_ns : 0,
        .ctx = wc,
    };
    ENG_TRY(eng_engine_new(&engine, &wc->engine, err));
    return options->signals ? wc_signals_start(&wc->signals, wc->engine, err) : KWR_OK;
}

static kwr_status run(wordcount *wc, kwr_error *err) {
    ENG_TRY(open_all(wc, err));
    ENG_TRY(check_start(wc, err));
    ENG_TRY(open_job(wc, err));
    ENG_TRY(wire(wc, err));
    ENG_TRY(eng_engine_open(wc->engine, err));
    report_restored(wc);
    ENG_TRY(sweep_output(wc, err));
    ENG_TRY(roll_back_output(wc, err));
    if (wc->info.restored_final) {
        wc->end = (wc_end){ .checkpoint = wc->info.restored_checkpoint, .finished = true };
        /* Nothing is left to count: starting only sweeps what earlier attempts left. */
        return kwr_job_start(wc->job, err);
    }
    ENG_TRY(eng_engine_run(wc->engine, err));
    /* An earlier attempt may have lived on beside this one, without locks. */
    return sweep_output(wc, err);
}

static void close_all(wordcount *wc) {
    wc_signals_stop(&wc->signals);
    eng_engine_close(wc->engine);
    kwr_job_close(wc->job);
    eng_engine_free(wc->engine);
    for (uint32_t i = 0; wc->sinks != NULL && i < wc->options->parallelism; i++) {
        eng_sink_free(wc->sinks[i].sink);
    }
    for (uint32_t i = 0; wc->sources != NULL && i < wc->options->input_count; i++) {
        eng_source_done(&wc->sources[i]);
    }
    free(wc->state_directory);
    free(wc->sinks);
    free(wc->counts);
    free(wc->sources);
    kwr_storage_close(wc->copying);
    kwr_storage_close(wc->local);
    kwr_storage_close(wc->limited);
    kwr_storage_close(wc->remote);
    if (wc->output_lock != NULL) wc->env->fs->unlock(wc->env->fs->ctx, wc->output_lock);
    if (wc->output.dir != NULL) eng_output_close(&wc->output);
    wc_report_done(&wc->report);
}

kwr_status wc_job_run(const kwr_env *env, const wc_options *options, wc_end *end, kwr_error *err) {
    wordcount wc = { .options = options, .env = env };
    const kwr_status status = run(&wc, err);
    close_all(&wc);
    if (status >= KWR_OK) *end = wc.end;
    return status;
}
